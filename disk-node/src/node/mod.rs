//! The disk node as one machine: reads its disks, converges to its configuration, serves its legs.
//!
//! | sub-machine | does |
//! |---|---|
//! | `books` | one disk's extent table, and how far it is durable |
//! | `boot` | superblocks and tables, read once at the start |
//! | `converge` | carve, zero, record, export, sweep |
//! | `exports` | what a host's request needs of a leg |
//! | `places` | which disks are this machine's, where several share a node |
//! | `transfer` | a leg's blocks as bytes of its disk |
//! | [`fabric::target`] | NVMe over Fabrics |
//!
//! What it deliberately is not: it formats nothing but volatile disks (which are born with the process), and never
//! touches the legs of a disk whose table it could not read.
//!
//! Invariants: a leg is exported only after its zeroing is durable (R10); a reservation is answered only after it is
//! durable (R2); an extent is given away only after its former leg's absence is durable; a disk's subsystem is there only while
//! its books can be relied on.

mod books;
mod boot;
mod converge;
mod exports;
mod places;
mod status;
mod transfer;

use crate::format::Superblock;
use block::{BufferSlice, Memory, Time};
use books::Books;
use boot::Reading;
use cluster::node_config::DiskNodeConfig;
use cluster::status::DiskNodeStatus;
use cluster::{DiskId, DiskNodeId, Incarnation, LegId};
use exports::Exports;
use fabric::driver::{
    self, ConnectionId, DiskError, DiskOperation, DiskRequestId, Event, Machine, Output, ReactorIndex,
};
use fabric::target::{IoId, SubsystemKey, Target, TargetConfig, TargetOutput};
pub use places::{Place, Places};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use transfer::{Then, Transfers};

/// Each disk has one subsystem, with the disk's number.
fn subsystem_of(disk: usize) -> SubsystemKey {
    SubsystemKey(disk as u32)
}

fn disk_of(subsystem: SubsystemKey) -> usize {
    subsystem.0 as usize
}

/// In the names of requests to disks that are no host's.
const OWN_REQUEST: u64 = 1 << 63;

fn to_disk(request: DiskRequestId, disk: usize, operation: DiskOperation) -> Output<NodeReport> {
    Output::Disk {
        request,
        disk: driver::DiskId(disk as u32),
        operation,
    }
}

/// A disk as the node is given it, in the driver's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenDisk {
    /// For people.
    pub path: String,
    /// Its contents end with the process.
    pub volatile: bool,
    /// What it has.
    pub size_bytes: u64,
    /// What it shall start with, unread: for volatile disks, which are born empty.
    pub born: Option<Superblock>,
    /// Why it could not be opened, if so.
    pub fault: Option<String>,
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Which node.
    pub node: DiskNodeId,
    /// Which start of its process.
    pub incarnation: Incarnation,
    /// Which of the machines of its process this is, if there are several: then it serves no disk before [`NodeControl::Places`]
    /// has said that the disk is this one's.
    pub reactor: Option<ReactorIndex>,
    /// Its disks.
    pub disks: Vec<GivenDisk>,
    /// Limits of its target.
    pub target: TargetConfig,
}

/// What the node's control plane tells it.
#[derive(Clone, Debug)]
pub enum NodeControl {
    /// Converge to this.
    Apply(DiskNodeConfig),
    /// Where disks are, this machine's and others'.
    Places(Places),
}

/// What the node tells its control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// What is.
    pub status: DiskNodeStatus,
    /// Every disk has been read, or found not to be readable, or had its time.
    pub booted: bool,
    /// Which disks these are, in the driver's order; none where it is not known.
    pub identities: Vec<Option<DiskId>>,
    /// Those legs of the status whose disk is not here.
    pub elsewhere: BTreeSet<LegId>,
}

/// What a request to a disk was for.
#[derive(Debug)]
enum Purpose {
    /// Reading one copy of the superblock.
    Superblock {
        disk: usize,
        copy: usize,
        buffer: BufferSlice,
    },
    /// Writing one copy.
    Adopt {
        disk: usize,
        copy: usize,
        buffer: BufferSlice,
    },
    /// Reading one slot of the table.
    Slot {
        disk: usize,
        slot: usize,
        buffer: BufferSlice,
    },
    /// Writing the table.
    Commit { disk: usize, buffer: BufferSlice },
    /// Zeroing so many extents of a leg.
    Zero { disk: usize, leg: LegId, extents: u64 },
    /// Flushing what was zeroed.
    ZeroFlush { disk: usize, leg: LegId },
}

/// How far a disk is.
#[derive(Debug)]
enum DiskState {
    Reading(Reading),
    Faulty { disk: Option<DiskId>, fault: String },
    Ready(Books),
}

#[derive(Debug)]
struct Disk {
    given: GivenDisk,
    state: DiskState,
    /// Its subsystem is there.
    open: bool,
    /// Its exported legs.
    exports: Exports,
}

/// How far the node is with its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boot {
    Unbegun,
    /// Disks are being read; those that take longer than this are not waited for.
    Reading {
        until: Time,
    },
    Done,
}

/// A disk node.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    disks: Vec<Disk>,
    target: Target,
    wanted: Option<DiskNodeConfig>,
    places: Option<Places>,
    boot: Boot,
    outputs: VecDeque<Output<NodeReport>>,
    /// What we asked of disks for ourselves; hosts' requests are `transfers`.
    requests: BTreeMap<DiskRequestId, Purpose>,
    last_request: u64,
    transfers: Transfers,
    /// Something was postponed for want of a buffer.
    retry_at: Option<Time>,
    /// There may be something to converge.
    unsettled: bool,
    reported: Option<NodeReport>,
}

impl Node {
    /// A node that has done nothing yet; it begins when the driver calls for the first time.
    pub fn new(options: NodeOptions) -> Node {
        let disks = options.disks.iter().cloned().map(boot::begin).collect();
        Node {
            target: Target::new(options.target.clone()),
            options,
            disks,
            wanted: None,
            places: None,
            boot: Boot::Unbegun,
            outputs: VecDeque::new(),
            requests: BTreeMap::new(),
            last_request: 0,
            transfers: Transfers::default(),
            retry_at: None,
            unsettled: true,
            reported: None,
        }
    }

    fn books(&mut self, disk: usize) -> Option<&mut Books> {
        match &mut self.disks[disk].state {
            DiskState::Ready(books) => Some(books),
            DiskState::Reading(_) | DiskState::Faulty { .. } => None,
        }
    }

    fn ask(&mut self, disk: usize, operation: DiskOperation, purpose: Purpose) {
        self.last_request += 1;
        let request = DiskRequestId(OWN_REQUEST | self.last_request);
        self.requests.insert(request, purpose);
        self.outputs.push_back(to_disk(request, disk, operation));
    }

    fn disk_completed(
        &mut self,
        now: Time,
        request: DiskRequestId,
        result: Result<(), DiskError>,
        memory: &mut dyn Memory,
    ) {
        if request.0 & OWN_REQUEST == 0 {
            return self.part_ended(now, request, result, memory);
        }
        match self.requests.remove(&request).expect("a request of ours") {
            Purpose::Superblock { disk, copy, buffer } => {
                self.superblock_read(disk, copy, buffer, result, memory)
            }
            Purpose::Adopt { disk, copy, buffer } => {
                self.superblock_written(disk, copy, buffer, result, memory)
            }
            Purpose::Slot { disk, slot, buffer } => self.slot_read(disk, slot, buffer, result, memory),
            Purpose::Commit { disk, buffer } => self.commit_ended(now, disk, buffer, result, memory),
            Purpose::Zero { disk, leg, extents } => self.zeroed(disk, leg, extents, result),
            Purpose::ZeroFlush { disk, leg } => self.zeroes_flushed(disk, leg, result),
        }
        self.unsettled = true;
    }

    /// A host's request: on its way, or answered at once.
    fn execute(
        &mut self,
        now: Time,
        io: IoId,
        (disk, nsid): (usize, u32),
        request: &block::Request,
        memory: &mut dyn Memory,
    ) {
        let exports = &mut self.disks[disk].exports;
        let Some(index) = exports.find(nsid) else {
            return self.target.complete(now, io, block::Status::Unavailable, memory);
        };
        let export = exports.at(index);
        match transfer::operations(&export.rows, request) {
            Ok(operations) => {
                let transfer = self.transfers.begin(io, disk, index, request);
                for operation in operations {
                    let part = self.transfers.next_part(transfer);
                    self.outputs.push_back(to_disk(part, disk, operation));
                }
                export.in_flight += 1;
            }
            Err(status) => self.target.complete(now, io, status, memory),
        }
    }

    fn part_ended(
        &mut self,
        now: Time,
        part: DiskRequestId,
        result: Result<(), DiskError>,
        memory: &mut dyn Memory,
    ) {
        match self.transfers.part_ended(part, result) {
            Then::Wait => {}
            Then::Flush { disk, transfer } => {
                let part = self.transfers.next_part(transfer);
                self.outputs.push_back(to_disk(part, disk, DiskOperation::Flush));
            }
            Then::Answer {
                io,
                disk,
                export,
                status,
            } => {
                if result == Err(DiskError::Gone) {
                    self.disk_gone(disk);
                }
                let export = self.disks[disk].exports.at(export);
                export.in_flight -= 1;
                self.unsettled |= export.hidden;
                self.target.complete(now, io, status, memory);
            }
        }
    }

    fn disk_gone(&mut self, disk: usize) {
        let books = self.books(disk).expect("what was asked has books");
        if books.fault.is_none() {
            books.fault = Some("the disk is gone: attach it again and restart the disk node".to_owned());
            self.unsettled = true;
        }
    }

    /// Does what the target asks for; what it has for the driver, the driver takes.
    fn pump(&mut self, now: Time, memory: &mut dyn Memory) {
        while let Some(asked) = self.target.poll_asked() {
            match asked {
                TargetOutput::Execute {
                    io,
                    subsystem,
                    nsid,
                    request,
                    ..
                } => self.execute(now, io, (disk_of(subsystem), nsid), &request, memory),
                TargetOutput::PersistReservation {
                    subsystem,
                    nsid,
                    state,
                } => self.persist(now, disk_of(subsystem), nsid, state, memory),
                TargetOutput::HostsChanged { .. } => {}
                other => unreachable!("{other:?} is for the driver"),
            }
        }
    }

    fn settle(&mut self, now: Time, memory: &mut dyn Memory) {
        self.pump(now, memory);
        let unsettled = self.unsettled;
        while std::mem::take(&mut self.unsettled) {
            self.converge(now, memory);
            self.pump(now, memory);
        }
        if unsettled {
            self.report();
        }
    }

    fn timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        self.target.handle_timeout(now, memory);
        match self.boot {
            Boot::Unbegun => self.begin_boot(now, memory),
            Boot::Reading { until } if until <= now => self.unsettled = true,
            Boot::Reading { .. } | Boot::Done => {}
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.unsettled = true;
        }
    }
}

fn for_driver(output: TargetOutput) -> Output<NodeReport> {
    match output {
        TargetOutput::Send { connection, segment } => Output::Send { connection, segment },
        TargetOutput::Close { connection, abort } => Output::Close { connection, abort },
        TargetOutput::HandOver {
            connection,
            reactor,
            received,
        } => Output::HandOver {
            connection,
            reactor,
            received,
        },
        other => unreachable!("{other:?} was asked of the node, which has done it"),
    }
}

impl Machine for Node {
    type Control = NodeControl;
    type Report = NodeReport;

    fn handle(&mut self, now: Time, event: Event<'_, NodeControl>, memory: &mut dyn Memory) {
        match event {
            Event::Accepted { connection, .. } => self.target.accepted(now, connection),
            Event::HandedOver {
                connection, received, ..
            } => self.target.handed_over(now, connection, received, memory),
            Event::Received { connection, bytes } => self.target.received(now, connection, bytes, memory),
            Event::Landed { connection, length } => self.target.landed(now, connection, length, memory),
            Event::Closed { connection, .. } => self.target.closed(now, connection, memory),
            Event::Connected { .. } => unreachable!("a disk node opens no connections"),
            Event::DiskCompleted { request, result } => self.disk_completed(now, request, result, memory),
            Event::Control(NodeControl::Apply(config)) => self.apply(config),
            Event::Control(NodeControl::Places(places)) => self.take_places(now, places, memory),
            Event::Timeout => self.timeout(now, memory),
        }
        self.settle(now, memory);
    }

    fn poll_output(&mut self) -> Option<Output<NodeReport>> {
        match self.outputs.pop_front() {
            Some(output) => Some(output),
            None => self.target.poll_output().map(for_driver),
        }
    }

    fn next_timeout(&self) -> Option<Time> {
        let boot = match self.boot {
            Boot::Unbegun => Some(Time::ZERO),
            Boot::Reading { until } => Some(until),
            Boot::Done => None,
        };
        [self.target.next_timeout(), boot, self.retry_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        self.target.landing(connection)
    }

    fn wants_bytes(&self, connection: ConnectionId) -> bool {
        self.target.wants_bytes(connection)
    }

    fn waits_for_memory(&self) -> bool {
        self.target.waits_for_memory()
    }
}

#[cfg(test)]
mod tests;
