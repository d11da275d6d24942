//! The ways to disks: one association with the subsystem of each, shared by every leg there, connected for owners and standbys
//! alike. A disk that hangs takes its own association down, and no other disk's.
//!
//! What it deliberately is not: it knows no slices; what a command is for is carried along as a [`Ticket`] and comes back with
//! the answer.
//!
//! Invariants:
//! * a command that was taken comes back exactly once while its association lives; when that is lost, everything in flight there
//!   is forgotten first and `Down` is said then;
//! * every association goes under a host identifier of its own, counted up from this start's incarnation: what an earlier start, or
//!   an earlier association of this one, had in flight is fenced like anybody else's (R2);
//! * no fence is sent behind commands of an older epoch of the same pool: their association ends first.

use crate::fence::Registrant;
use crate::pool::{LegAddress, Purpose};
use block::{BufferSlice, Memory, Status, Time};
use cluster::{DiskId, Incarnation, PoolId};
use fabric::driver::{CloseReason, ConnectionId, Segment};
use fabric::host::{
    Association, AssociationConfig, AssociationEvent, AssociationOutput, Command, ConnectionIdRanges,
    ConnectionIds, Tag,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Whose a command is, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Whose.
    pub(crate) pool: PoolId,
    /// What for.
    pub(crate) purpose: Purpose,
}

/// Where a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskAddress {
    /// The NVMe/TCP address of its node.
    pub(crate) address: SocketAddr,
    /// Its subsystem.
    pub(crate) subsystem_nqn: String,
}

/// What the paths say, in order.
#[derive(Debug)]
pub(crate) enum PathsOutput {
    /// For the driver.
    Connect {
        connection: ConnectionId,
        address: SocketAddr,
    },
    /// For the driver.
    Send {
        connection: ConnectionId,
        segment: Segment,
    },
    /// For the driver.
    Close { connection: ConnectionId, abort: bool },
    /// A disk answers.
    Up(DiskId),
    /// It does not any more.
    Down(DiskId),
    /// A command ended.
    Completed {
        ticket: Ticket,
        status: Result<(), Failure>,
    },
    /// A reservation report succeeded.
    Reported {
        ticket: Ticket,
        registrants: Vec<Registrant>,
    },
}

/// How a command on a leg failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Reservation conflict.
    Conflict,
    /// The media.
    Media,
    /// Everything else: the path, or a leg that does not behave.
    Other,
}

impl Failure {
    /// As the block layers say it.
    pub(crate) fn status(self) -> Status {
        match self {
            Failure::Conflict => Status::StaleEpoch,
            Failure::Media => Status::MediaError,
            Failure::Other => Status::Unavailable,
        }
    }
}

struct Path {
    address: DiskAddress,
    association: Association,
    told_up: bool,
}

/// The ways to all disks that some pool of this node needs.
pub(crate) struct Paths {
    host_nqn: String,
    host_id: [u8; 16],
    ranges: ConnectionIdRanges,
    by_range: BTreeMap<u32, DiskId>,
    paths: BTreeMap<DiskId, Path>,
    /// Shutting down; kept until they have said so.
    leaving: BTreeMap<u32, Association>,
    tickets: BTreeMap<Tag, (DiskId, Ticket)>,
    next_tag: u64,
    outputs: VecDeque<PathsOutput>,
}

impl Paths {
    /// No paths yet.
    pub(crate) fn new(host_nqn: String, incarnation: Incarnation) -> Paths {
        Paths {
            host_nqn,
            host_id: *incarnation.0.as_bytes(),
            ranges: ConnectionIdRanges::new(),
            by_range: BTreeMap::new(),
            paths: BTreeMap::new(),
            leaving: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_tag: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Connects to the disks wanted, lets go of others.
    pub(crate) fn apply(
        &mut self,
        now: Time,
        wanted: &BTreeMap<DiskId, DiskAddress>,
        memory: &mut dyn Memory,
    ) {
        let gone: Vec<DiskId> = self
            .paths
            .iter()
            .filter(|(disk, path)| wanted.get(disk) != Some(&path.address))
            .map(|(disk, _)| *disk)
            .collect();
        for disk in gone {
            self.leave(now, disk, memory);
        }
        for (disk, address) in wanted {
            if !self.paths.contains_key(disk) {
                self.connect(now, *disk, address.clone());
            }
        }
    }

    fn connect(&mut self, now: Time, disk: DiskId, address: DiskAddress) {
        let ids = self.ranges.take();
        self.by_range.insert(ids.range(), disk);
        let config = AssociationConfig {
            renew_host_id: true,
            ..AssociationConfig::new(
                &self.host_nqn,
                self.host_id,
                &address.subsystem_nqn,
                address.address,
            )
        };
        let mut association = Association::new(config, ids);
        association.connect(now);
        self.paths.insert(
            disk,
            Path {
                address,
                association,
                told_up: false,
            },
        );
        self.drain(disk);
    }

    fn leave(&mut self, now: Time, disk: DiskId, memory: &mut dyn Memory) {
        let Some(path) = self.paths.get_mut(&disk) else {
            return;
        };
        path.association.disconnect(now, memory);
        self.drain(disk);
        let path = self.paths.remove(&disk).expect("it was there");
        if path.told_up {
            self.down(disk);
        }
        self.leaving.insert(path.association.range(), path.association);
        self.drain_leaving();
    }

    /// Whether the disk answers now.
    pub(crate) fn is_up(&self, disk: DiskId) -> bool {
        self.paths.get(&disk).is_some_and(|path| path.told_up)
    }

    /// Sends a command to a leg. One that cannot be sent is forgotten: the path is down, or about to be said to be.
    pub(crate) fn submit(
        &mut self,
        now: Time,
        leg: LegAddress,
        ticket: Ticket,
        command: Command,
        memory: &mut dyn Memory,
    ) {
        if self.is_behind_older(leg.disk, ticket) {
            return self.suspect(now, leg.disk, memory);
        }
        let tag = Tag(self.next_tag);
        let Some(path) = self.paths.get_mut(&leg.disk) else {
            return;
        };
        if path
            .association
            .submit(now, leg.nsid, tag, command, memory)
            .is_ok()
        {
            self.next_tag += 1;
            let kept = self.tickets.insert(tag, (leg.disk, ticket));
            assert!(kept.is_none(), "tags count up");
        }
        self.drain(leg.disk);
    }

    /// Whether this is a fence, and its pool still has commands of an older epoch in flight there. The fence would not stop
    /// them: they are the same host's. They go with their association, and the next one fences them (R2).
    fn is_behind_older(&self, disk: DiskId, ticket: Ticket) -> bool {
        let Purpose::Fence(epoch, _) = ticket.purpose else {
            return false;
        };
        let older = |other: &Ticket| other.pool == ticket.pool && other.purpose.epoch() < epoch;
        self.tickets
            .values()
            .any(|(there, other)| *there == disk && older(other))
    }

    /// Breaks the connection to a disk that leaves commands unanswered, and connects anew.
    pub(crate) fn suspect(&mut self, now: Time, disk: DiskId, memory: &mut dyn Memory) {
        let Some(path) = self.paths.get_mut(&disk) else {
            return;
        };
        path.association.disconnect(now, memory);
        path.association.connect(now);
        let was_up = std::mem::take(&mut path.told_up);
        self.drain(disk);
        if was_up {
            self.down(disk);
        }
    }

    /// A connection of ours is open.
    pub(crate) fn connected(&mut self, now: Time, connection: ConnectionId, memory: &mut dyn Memory) {
        self.with(connection, memory, |association, memory| {
            association.handle_connected(now, connection, memory)
        });
    }

    /// Where the next bytes of a connection belong, if they are data on its way into a buffer.
    pub(crate) fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        let _ = connection;
        None
    }

    /// So many bytes are where [`Paths::landing`] said last for this connection.
    pub(crate) fn landed(
        &mut self,
        now: Time,
        connection: ConnectionId,
        length: u32,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, length, memory);
        unreachable!("no landing was offered on {connection:?}");
    }

    /// Bytes came in.
    pub(crate) fn received(
        &mut self,
        now: Time,
        connection: ConnectionId,
        bytes: &[u8],
        memory: &mut dyn Memory,
    ) {
        self.with(connection, memory, |association, memory| {
            association.handle_received(now, connection, bytes, memory);
        });
    }

    /// A connection is no more.
    pub(crate) fn closed(
        &mut self,
        now: Time,
        connection: ConnectionId,
        reason: CloseReason,
        memory: &mut dyn Memory,
    ) {
        self.with(connection, memory, |association, memory| {
            association.handle_closed(now, connection, reason, memory);
        });
    }

    fn with(
        &mut self,
        connection: ConnectionId,
        memory: &mut dyn Memory,
        tell: impl FnOnce(&mut Association, &mut dyn Memory),
    ) {
        let range = ConnectionIds::range_of(connection).expect("a connection that we opened");
        if let Some(association) = self.leaving.get_mut(&range) {
            tell(association, memory);
            self.drain_leaving();
            return;
        }
        let disk = self.by_range.get(&range).copied();
        let path = disk.and_then(|disk| self.paths.get_mut(&disk));
        if let (Some(disk), Some(path)) = (disk, path.filter(|path| path.association.range() == range)) {
            tell(&mut path.association, memory);
            self.drain(disk);
        }
    }

    /// Time has come.
    pub(crate) fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        let due = |association: &Association| association.next_timeout().is_some_and(|due| due <= now);
        let disks: Vec<DiskId> = self
            .paths
            .iter()
            .filter(|(_, path)| due(&path.association))
            .map(|(disk, _)| *disk)
            .collect();
        for disk in disks {
            let path = self.paths.get_mut(&disk).expect("listed just now");
            path.association.handle_timeout(now, memory);
            self.drain(disk);
        }
        for association in self.leaving.values_mut().filter(|association| due(association)) {
            association.handle_timeout(now, memory);
        }
        self.drain_leaving();
    }

    /// When time has come.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        let here = self
            .paths
            .values()
            .filter_map(|path| path.association.next_timeout());
        let leaving = self.leaving.values().filter_map(Association::next_timeout);
        here.chain(leaving).min()
    }

    /// The next thing to do, in order.
    pub(crate) fn poll_output(&mut self) -> Option<PathsOutput> {
        self.outputs.pop_front()
    }

    fn drain(&mut self, disk: DiskId) {
        while let Some(path) = self.paths.get_mut(&disk) {
            match path.association.poll_output() {
                None => return,
                Some(AssociationOutput::Event(event)) => self.handle_event(disk, event),
                Some(other) => self.outputs.push_back(for_driver(other)),
            }
        }
    }

    fn handle_event(&mut self, disk: DiskId, event: AssociationEvent) {
        let path = self
            .paths
            .get_mut(&disk)
            .expect("only a path that is there speaks");
        let ready = path.association.is_ready();
        let host_id = path.association.config().host_id;
        match event {
            AssociationEvent::Ready { .. } => {
                path.told_up = true;
                self.outputs.push_back(PathsOutput::Up(disk));
            }
            AssociationEvent::Lost { .. } => {
                if std::mem::take(&mut path.told_up) {
                    self.down(disk);
                }
            }
            AssociationEvent::Completed { tag, result } => {
                let ticket = self.tickets.remove(&tag);
                // What ends because the association was lost is not told: `Down` says it for all.
                if let Some((_, ticket)) = ticket.filter(|_| ready) {
                    let status = result.map(drop).map_err(failure);
                    self.outputs.push_back(PathsOutput::Completed { ticket, status });
                }
            }
            AssociationEvent::ReservationStatus { tag, result } => {
                if let Some((_, ticket)) = self.tickets.remove(&tag).filter(|_| ready) {
                    self.outputs.push_back(reported(ticket, host_id, result));
                }
            }
            AssociationEvent::NamespacesRead | AssociationEvent::DiscoveryLog { .. } => {}
        }
    }

    fn down(&mut self, disk: DiskId) {
        self.tickets.retain(|_, (other, _)| *other != disk);
        self.outputs.push_back(PathsOutput::Down(disk));
    }

    fn drain_leaving(&mut self) {
        let outputs = &mut self.outputs;
        self.leaving.retain(|_, association| {
            while let Some(output) = association.poll_output() {
                if !matches!(output, AssociationOutput::Event(_)) {
                    outputs.push_back(for_driver(output));
                }
            }
            association.next_timeout().is_some()
        });
    }
}

fn for_driver(output: AssociationOutput) -> PathsOutput {
    match output {
        AssociationOutput::Connect { connection, address } => PathsOutput::Connect { connection, address },
        AssociationOutput::Send { connection, segment } => PathsOutput::Send { connection, segment },
        AssociationOutput::Close { connection, abort } => PathsOutput::Close { connection, abort },
        AssociationOutput::Event(_) => panic!("events are the owner's"),
    }
}

fn failure(status: nvme::Status) -> Failure {
    use nvme::status::StatusCodeType;
    if status.is(nvme::Status::RESERVATION_CONFLICT) {
        Failure::Conflict
    } else if status.code_type == StatusCodeType::MediaAndDataIntegrity {
        Failure::Media
    } else {
        Failure::Other
    }
}

fn reported(
    ticket: Ticket,
    own: [u8; 16],
    result: Result<nvme::reservation::Report, nvme::Status>,
) -> PathsOutput {
    match result {
        Err(status) => PathsOutput::Completed {
            ticket,
            status: Err(failure(status)),
        },
        Ok(report) => {
            let registrants = report.registrants.iter().map(|registrant| Registrant {
                key: registrant.key.0,
                own: registrant.host_id.0 == own,
                holds: registrant.holds_reservation,
            });
            PathsOutput::Reported {
                ticket,
                registrants: registrants.collect(),
            }
        }
    }
}
