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
use crate::{BLOCK_SIZE, BlockRange, Operation, Request, RequestId, Slab, Slot, Status};
use std::collections::{BTreeMap, VecDeque};

/// A request that has not ended.
#[derive(Debug)]
struct Parent {
    id: RequestId,
    node: NodeId,
    /// That have not ended.
    parts: u32,
    status: Status,
}

/// A part of a request.
#[derive(Clone, Copy, Debug)]
struct Work {
    request: Slot,
    node: NodeId,
    part: Part,
    /// Its buffer is the part's.
    operation: Operation,
}

type Key = (NodeId, Place);

/// A place whose mapping is about to change.
#[derive(Debug, Default)]
struct Busy {
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
#[derive(Debug)]
pub(super) struct Requests {
    parents: Slab<Parent>,
    /// Parts in flight to each extent.
    in_flight: Vec<u32>,
    /// Few, and none most of the time.
    busy: BTreeMap<Key, Busy>,
    /// Places that want space, in order.
    space: VecDeque<Key>,
}

impl Requests {
    /// None yet, over so many extents.
    pub(super) fn new(extents: u32) -> Requests {
        Requests {
            parents: Slab::default(),
            in_flight: vec![0; extents as usize],
            busy: BTreeMap::new(),
            space: VecDeque::new(),
        }
    }

    /// Begins a request that lies inside the volume.
    pub(super) fn submit(
        &mut self,
        id: RequestId,
        node: NodeId,
        request: Request,
        ledger: &mut Ledger,
        turn: &mut Turn,
    ) {
        // The flush, or the only part; or one more than there are, so that the request does not end before all have begun.
        let parent = self.parents.insert(Parent {
            id,
            node,
            parts: 1,
            status: Status::Success,
        });
        if request.operation == Operation::Flush {
            let purpose = Purpose::HostFlush { request: parent };
            let (operation, nowhere) = (Operation::Flush, BlockRange::default());
            return turn.outbox.send(purpose, Area::Data, operation, nowhere);
        }
        let mut parts = parts(request.range.start, request.range.length, ledger.geometry.extent);
        let first = parts.next();
        if let Some(part) = first.filter(|part| part.blocks == request.range.length.0) {
            let work = Work {
                request: parent,
                node,
                part,
                operation: request.operation,
            };
            return self.begin(work, ledger, turn);
        }
        let mut blocks_before = 0;
        for part in first.into_iter().chain(parts) {
            let operation = operation_part(request.operation, blocks_before, part.blocks);
            blocks_before += part.blocks;
            self.begin_part(parent);
            let work = Work {
                request: parent,
                node,
                part,
                operation,
            };
            self.begin(work, ledger, turn);
        }
        self.end_part(parent, Status::Success, turn);
    }

    fn begin_part(&mut self, request: Slot) {
        self.parents
            .find_mut(request)
            .expect("the request has not ended")
            .parts += 1;
    }

    /// A part, or the flush, of a request has ended.
    fn end_part(&mut self, request: Slot, status: Status, turn: &mut Turn) {
        let parent = self
            .parents
            .find_mut(request)
            .expect("a request ends with its last part");
        parent.parts -= 1;
        parent.status = worse(parent.status, status);
        if parent.parts == 0 {
            let (id, status) = (parent.id, parent.status);
            turn.outbox.push(PoolOutput::Complete { id, status });
            self.parents.remove(request);
        }
    }

    /// Looks at a part, for the first time or after its place has changed.
    fn begin(&mut self, work: Work, ledger: &mut Ledger, turn: &mut Turn) {
        let key = (work.node, work.part.place);
        let extent = ledger.map.lookup(work.node, work.part.place);
        if let (None, Operation::Read { buffer }) = (extent, work.operation) {
            turn.outbox.push(PoolOutput::Zero { buffer });
            self.end_part(work.request, Status::Success, turn);
        } else if self.is_changing(key) {
            match ledger.trouble() {
                Some(status) => self.end_part(work.request, status, turn),
                None => self.busy.entry(key).or_default().waiting.push_back(work),
            }
        } else {
            self.begin_settled(work, extent, ledger, turn);
        }
    }

    #[inline]
    fn is_changing(&self, key: Key) -> bool {
        let changing = |busy: &Busy| busy.change != Change::None;
        !self.busy.is_empty() && self.busy.get(&key).is_some_and(changing)
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
        self.in_flight[extent.0 as usize] += 1;
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
            Purpose::Part {
                request,
                node,
                place,
                extent,
            },
            Area::Data,
            operation,
            range,
        );
    }

    /// The flush of a request has ended.
    pub(super) fn flushed(&mut self, request: Slot, status: Status, turn: &mut Turn) {
        self.end_part(request, status, turn);
    }

    /// What was sent for a part has ended.
    pub(super) fn sent(
        &mut self,
        request: Slot,
        (key, extent): (Key, Extent),
        status: Status,
        ledger: &mut Ledger,
        turn: &mut Turn,
    ) {
        let in_flight = &mut self.in_flight[extent.0 as usize];
        *in_flight = in_flight.checked_sub(1).expect("it was sent");
        self.end_part(request, status, turn);
        if !self.busy.is_empty() {
            self.unmap_if_drained(key, ledger, turn);
            self.forget_if_idle(key);
        }
    }

    fn unmap_if_drained(&mut self, key: Key, ledger: &mut Ledger, turn: &mut Turn) {
        let Some(busy) = self.busy.get_mut(&key) else {
            return;
        };
        let Change::Draining(extent) = busy.change else {
            return;
        };
        if self.in_flight[extent.0 as usize] > 0 {
            return;
        }
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
        let idle = |busy: &Busy| busy.change == Change::None && busy.waiting.is_empty();
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

    /// Whether a place wants space.
    pub(super) fn wants_space(&self) -> bool {
        !self.space.is_empty()
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
        self.parents.iter().all(|(_, parent)| parent.node != node)
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
    if !advice {
        return false;
    }
    let extent = ledger.geometry.extent.0;
    let before = u64::from(work.part.place.0) * extent;
    let inside = (ledger.map.size(work.node).0 - before).min(extent);
    work.part.offset == 0 && work.part.blocks == inside
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
