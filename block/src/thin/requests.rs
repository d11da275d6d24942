//! Requests to volumes: cut into parts at borders of extents, each sent below, answered here, or made to wait for the map.
//!
//! A place (an extent's worth of a volume) whose mapping is about to change holds everything that comes for it until the
//! change is durable, and then looks at each part afresh; reads of a place that is not mapped never wait.

use super::PoolOutput;
use super::config::Area;
use super::journal::Waiter;
use super::ledger::Ledger;
use super::map::{Part, parts};
use super::outbox::{Purpose, Turn};
use super::record::{Extent, NodeId, Place, Record};
use crate::{BLOCK_SIZE, BlockRange, Operation, Request, RequestId, Status};
use std::collections::{BTreeMap, VecDeque};

/// A request that has not ended.
#[derive(Debug)]
struct Parent {
    node: NodeId,
    /// That have not ended.
    parts: u32,
    status: Status,
}

/// A part of a request.
#[derive(Clone, Copy, Debug)]
struct Work {
    request: RequestId,
    node: NodeId,
    part: Part,
    /// Its buffer is the part's.
    operation: Operation,
}

type Key = (NodeId, Place);

/// A place with something going on.
#[derive(Debug, Default)]
struct Busy {
    in_flight: u32,
    change: Change,
    waiting: VecDeque<Work>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Change {
    #[default]
    None,
    /// A write waits for a clean extent.
    WantsSpace,
    /// To be unmapped as soon as nothing is in flight to the extent.
    Draining(Extent),
    /// The record that maps the place is not durable yet.
    Mapping,
    /// The record that unmaps it is not durable yet.
    Unmapping,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Requests {
    parents: BTreeMap<RequestId, Parent>,
    /// Requests that have not ended, by node.
    active: BTreeMap<NodeId, u32>,
    busy: BTreeMap<Key, Busy>,
    /// Places that want space, in order.
    space: VecDeque<Key>,
}

impl Requests {
    /// Begins a request that lies inside the volume.
    pub(super) fn submit(
        &mut self,
        id: RequestId,
        node: NodeId,
        request: Request,
        ledger: &mut Ledger,
        turn: &mut Turn,
    ) {
        // One part more than there are, so that the request does not end before all have begun.
        let earlier = self.parents.insert(
            id,
            Parent {
                node,
                parts: 1,
                status: Status::Success,
            },
        );
        assert!(
            earlier.is_none(),
            "names of requests are unique among those in flight"
        );
        *self.active.entry(node).or_default() += 1;
        if request.operation == Operation::Flush {
            self.begin_part(id);
            turn.outbox.send(
                Purpose::HostFlush { request: id },
                Area::Data,
                Operation::Flush,
                BlockRange::default(),
            );
        } else {
            self.begin_parts(id, node, request, ledger, turn);
        }
        self.end_part(id, Status::Success, turn);
    }

    fn begin_parts(
        &mut self,
        id: RequestId,
        node: NodeId,
        request: Request,
        ledger: &mut Ledger,
        turn: &mut Turn,
    ) {
        let mut blocks_before = 0;
        for part in parts(request.range.start, request.range.length, ledger.geometry.extent) {
            let operation = operation_part(request.operation, blocks_before, part.blocks);
            blocks_before += part.blocks;
            self.begin_part(id);
            self.begin(
                Work {
                    request: id,
                    node,
                    part,
                    operation,
                },
                ledger,
                turn,
            );
        }
    }

    fn begin_part(&mut self, id: RequestId) {
        self.parents
            .get_mut(&id)
            .expect("the request has not ended")
            .parts += 1;
    }

    /// A part, or the flush, of a request has ended.
    fn end_part(&mut self, id: RequestId, status: Status, turn: &mut Turn) {
        let parent = self
            .parents
            .get_mut(&id)
            .expect("a request ends with its last part");
        parent.parts -= 1;
        parent.status = worse(parent.status, status);
        if parent.parts == 0 {
            turn.outbox.push(PoolOutput::Complete {
                id,
                status: parent.status,
            });
            let node = parent.node;
            self.parents.remove(&id);
            let active = self.active.get_mut(&node).expect("its request was counted");
            *active -= 1;
            if *active == 0 {
                self.active.remove(&node);
            }
        }
    }

    /// Looks at a part, for the first time or after its place has changed.
    fn begin(&mut self, work: Work, ledger: &mut Ledger, turn: &mut Turn) {
        let key = (work.node, work.part.place);
        let extent = ledger.map.lookup(work.node, work.part.place);
        if let (None, Operation::Read { buffer }) = (extent, work.operation) {
            turn.outbox.push(PoolOutput::Zero { buffer });
            self.end_part(work.request, Status::Success, turn);
        } else if self
            .busy
            .get(&key)
            .is_some_and(|busy| busy.change != Change::None)
        {
            match ledger.trouble() {
                Some(status) => self.end_part(work.request, status, turn),
                None => self.busy.entry(key).or_default().waiting.push_back(work),
            }
        } else {
            self.begin_settled(work, extent, ledger, turn);
        }
    }

    /// A part whose place is not changing.
    fn begin_settled(&mut self, work: Work, extent: Option<Extent>, ledger: &mut Ledger, turn: &mut Turn) {
        let key = (work.node, work.part.place);
        match (extent, work.operation) {
            (Some(extent), _) if gives_back(&work, ledger) => {
                let busy = self.busy.entry(key).or_default();
                busy.change = Change::Draining(extent);
                busy.waiting.push_back(work);
                self.unmap_if_drained(key, ledger, turn);
            }
            (Some(extent), _) => self.send(work, extent, ledger, turn),
            (None, Operation::Write { .. }) => {
                let busy = self.busy.entry(key).or_default();
                busy.change = Change::WantsSpace;
                busy.waiting.push_back(work);
                self.space.push_back(key);
            }
            // Nothing there to clear.
            (None, _) => self.end_part(work.request, Status::Success, turn),
        }
    }

    fn send(&mut self, work: Work, extent: Extent, ledger: &Ledger, turn: &mut Turn) {
        let (request, node, place) = (work.request, work.node, work.part.place);
        self.busy.entry((node, place)).or_default().in_flight += 1;
        // Advice would not do: what a host has deallocated reads as zeroes from then on.
        let operation = match work.operation {
            Operation::Deallocate => Operation::WriteZeroes {
                deallocate: true,
                durable: false,
            },
            other => other,
        };
        let start = u64::from(extent.0) * ledger.geometry.extent.0 + work.part.offset;
        let range = BlockRange::new(start, work.part.blocks);
        turn.outbox.send(
            Purpose::Part { request, node, place },
            Area::Data,
            operation,
            range,
        );
    }

    /// The flush of a request has ended.
    pub(super) fn flushed(&mut self, request: RequestId, status: Status, turn: &mut Turn) {
        self.end_part(request, status, turn);
    }

    /// What was sent for a part has ended.
    pub(super) fn sent(
        &mut self,
        request: RequestId,
        key: Key,
        status: Status,
        ledger: &mut Ledger,
        turn: &mut Turn,
    ) {
        self.busy
            .get_mut(&key)
            .expect("a place with something in flight is busy")
            .in_flight -= 1;
        self.end_part(request, status, turn);
        self.unmap_if_drained(key, ledger, turn);
        self.forget_if_idle(key);
    }

    fn unmap_if_drained(&mut self, key: Key, ledger: &mut Ledger, turn: &mut Turn) {
        let Some(busy) = self.busy.get_mut(&key).filter(|busy| busy.in_flight == 0) else {
            return;
        };
        let Change::Draining(extent) = busy.change else {
            return;
        };
        if let Some(status) = ledger.trouble() {
            return self.change_failed(key, status, false, turn);
        }
        busy.change = Change::Unmapping;
        let record = Record::Unmapped {
            node: key.0,
            place: key.1,
            extent,
            count: 1,
        };
        ledger.record(record, Waiter::Place(key.0, key.1));
    }

    fn forget_if_idle(&mut self, key: Key) {
        let idle =
            |busy: &Busy| busy.in_flight == 0 && busy.change == Change::None && busy.waiting.is_empty();
        if self.busy.get(&key).is_some_and(idle) {
            self.busy.remove(&key);
        }
    }

    /// The record about a place is durable and applied.
    pub(super) fn changed(&mut self, key: Key, ledger: &mut Ledger, turn: &mut Turn) {
        let busy = self.busy.get_mut(&key).expect("a place that changes is busy");
        busy.change = Change::None;
        for work in core::mem::take(&mut busy.waiting) {
            self.begin(work, ledger, turn);
        }
        self.forget_if_idle(key);
    }

    /// The record about a place will not be durable, or (`in_doubt`) nobody knows whether it will.
    pub(super) fn change_failed(&mut self, key: Key, status: Status, in_doubt: bool, turn: &mut Turn) {
        let busy = self.busy.get_mut(&key).expect("a place that changes is busy");
        if !in_doubt {
            busy.change = Change::None;
        }
        for work in core::mem::take(&mut busy.waiting) {
            self.end_part(work.request, status, turn);
        }
        self.forget_if_idle(key);
    }

    /// Gives clean extents to places that want one; `hope` says whether there will be more, or how to end.
    pub(super) fn serve_space(&mut self, hope: Result<(), Status>, ledger: &mut Ledger, turn: &mut Turn) {
        while let Some(&(node, place)) = self.space.front() {
            if let Some(status) = ledger.trouble() {
                return self.refuse_space(status, turn);
            }
            let Some(extent) = ledger.map.reserve() else {
                break;
            };
            self.space.pop_front();
            self.busy
                .get_mut(&(node, place))
                .expect("a place that wants space is busy")
                .change = Change::Mapping;
            ledger.record(
                Record::Mapped {
                    node,
                    place,
                    extent,
                    count: 1,
                },
                Waiter::Place(node, place),
            );
        }
        let unmapping = |busy: &Busy| matches!(busy.change, Change::Draining(_) | Change::Unmapping);
        if let Err(status) = hope
            && !self.space.is_empty()
            && !self.busy.values().any(unmapping)
        {
            self.refuse_space(status, turn);
        }
    }

    fn refuse_space(&mut self, status: Status, turn: &mut Turn) {
        for key in core::mem::take(&mut self.space) {
            self.change_failed(key, status, false, turn);
        }
    }

    /// Ends everything that waits, and lets be what is in flight.
    pub(super) fn refuse_waiting(&mut self, status: Status, turn: &mut Turn) {
        self.refuse_space(status, turn);
        let keys: Vec<Key> = self.busy.keys().copied().collect();
        for key in keys {
            let in_doubt = matches!(self.busy[&key].change, Change::Mapping | Change::Unmapping);
            self.change_failed(key, status, in_doubt, turn);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// Whether no request to the node is under way.
    pub(super) fn is_quiet(&self, node: NodeId) -> bool {
        !self.active.contains_key(&node)
    }
}

fn operation_part(operation: Operation, blocks_before: u64, blocks: u64) -> Operation {
    let cut = |buffer: crate::BufferSlice| {
        let bytes = |blocks: u64| u32::try_from(blocks).expect("a payload fits its buffer") * BLOCK_SIZE;
        buffer.part(bytes(blocks_before), bytes(blocks))
    };
    match operation {
        Operation::Read { buffer } => Operation::Read { buffer: cut(buffer) },
        Operation::Write { buffer, durable } => Operation::Write {
            buffer: cut(buffer),
            durable,
        },
        other => other,
    }
}

/// Whether the part lets a whole extent go: all of it that lies inside the volume.
fn gives_back(work: &Work, ledger: &Ledger) -> bool {
    let advice = matches!(
        work.operation,
        Operation::Deallocate | Operation::WriteZeroes { deallocate: true, .. }
    );
    let extent = ledger.geometry.extent.0;
    let before = u64::from(work.part.place.0) * extent;
    let inside = (ledger.map.size(work.node).0 - before).min(extent);
    advice && work.part.offset == 0 && work.part.blocks == inside
}

/// Of two endings, the one that says more: a path condition lets the host try everything again.
fn worse(one: Status, other: Status) -> Status {
    let rank = |status| match status {
        Status::Success => 0,
        Status::OutOfSpace => 1,
        Status::MediaError => 2,
        Status::OutOfRange => 3,
        Status::Invalid => 4,
        Status::Unavailable => 5,
        Status::StaleEpoch => 6,
    };
    if rank(other) > rank(one) { other } else { one }
}
