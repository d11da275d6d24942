//! The ways to disks: one association with the subsystem of each, shared by every leg there, connected for owners and standbys
//! alike. A disk that hangs takes its own association down, and no other disk's.
//!
//! What it deliberately is not: it knows no slices; what a command is for is carried along as a [`Ticket`] and comes back with
//! the answer.
//!
//! Invariants:
//! * a command that was taken comes back exactly once while its association lives; when that is lost, everything in flight there
//!   is forgotten first and `Down` is said then;
//! * every association goes under a host identifier of its own, counted up from this start's incarnation, in a range for each reactor
//!   and each path: what an earlier start, or an earlier association of this one, had in flight is fenced like anybody
//!   else's (R2);
//! * no fence is sent behind commands of an older epoch of the same pool: their association ends first.

use crate::fence::Registrant;
use crate::node::Report;
use crate::pool::{PoolKey, Purpose};
use block::{BufferSlice, Memory, Slab, Slot, Status, Time};
use cluster::{DiskId, Incarnation};
use fabric::driver::{CloseReason, ConnectionId, Output, ReactorIndex};
use fabric::host::{
    Association, AssociationConfig, AssociationEvent, AssociationOutput, Command, ConnectionIdRanges,
    ConnectionIds, Tag,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Host identifiers of one path: it may be made anew so many times, as a power of two.
const PATH_SHIFT: u32 = 32;
/// Those of one reactor: all of its paths'.
const REACTOR_SHIFT: u32 = 64;

/// Whose a command is, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Whose.
    pub(crate) pool: PoolKey,
    /// What for.
    pub(crate) purpose: Purpose,
}

/// Names the path to a disk, as long as the disk is wanted at the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathKey(pub(crate) Slot);

/// Where a leg is: the path to its disk, and its namespace there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LegAddress {
    pub(crate) path: PathKey,
    pub(crate) nsid: u32,
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
    /// A disk answers, over this path.
    Up(DiskId, PathKey),
    /// It does not any more.
    Down(DiskId, PathKey),
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
    disk: DiskId,
    address: DiskAddress,
    association: Association,
    told_up: bool,
}

/// The ways to all disks that some pool of this node needs.
pub(crate) struct Paths {
    host_nqn: String,
    /// Where this reactor's host identifiers begin.
    host_ids: u128,
    ranges: ConnectionIdRanges,
    /// By range of connection names: whose it is, or was.
    by_range: Vec<PathKey>,
    by_disk: BTreeMap<DiskId, PathKey>,
    paths: Slab<Path>,
    /// Shutting down; kept until they have said so.
    leaving: BTreeMap<u32, Association>,
    /// Commands in flight; their slots are their tags.
    tickets: Slab<(PathKey, Ticket)>,
    /// Nothing is due before.
    due: Option<Time>,
    outputs: VecDeque<PathsOutput>,
    driver: VecDeque<Output<Report>>,
}

impl Paths {
    /// No paths yet.
    pub(crate) fn new(host_nqn: String, incarnation: Incarnation, reactor: ReactorIndex) -> Paths {
        Paths {
            host_nqn,
            host_ids: incarnation
                .0
                .as_u128()
                .wrapping_add(u128::from(reactor.0) << REACTOR_SHIFT),
            ranges: ConnectionIdRanges::new(),
            by_range: Vec::new(),
            by_disk: BTreeMap::new(),
            paths: Slab::default(),
            leaving: BTreeMap::new(),
            tickets: Slab::default(),
            due: None,
            outputs: VecDeque::new(),
            driver: VecDeque::new(),
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
            .by_disk
            .iter()
            .filter(|(disk, key)| wanted.get(disk) != self.path(**key).map(|path| &path.address))
            .map(|(disk, _)| *disk)
            .collect();
        for disk in gone {
            self.leave(now, disk, memory);
        }
        for (disk, address) in wanted {
            if !self.by_disk.contains_key(disk) {
                self.connect(now, *disk, address.clone());
            }
        }
    }

    fn path(&self, key: PathKey) -> Option<&Path> {
        self.paths.find(key.0)
    }

    fn connect(&mut self, now: Time, disk: DiskId, address: DiskAddress) {
        let ids = self.ranges.take();
        let range = ids.range() as usize;
        // A path that is made anew to the same disk does not begin where the one before it began.
        let host_id = self.host_ids.wrapping_add(u128::from(ids.range()) << PATH_SHIFT);
        let config = AssociationConfig {
            renew_host_id: true,
            // Disk nodes are ours: they can do without.
            sq_flow_control: false,
            ..AssociationConfig::new(
                &self.host_nqn,
                host_id.to_be_bytes(),
                &address.subsystem_nqn,
                address.address,
            )
        };
        let mut association = Association::new(config, ids);
        association.connect(now);
        let key = PathKey(self.paths.insert(Path {
            disk,
            address,
            association,
            told_up: false,
        }));
        self.by_disk.insert(disk, key);
        if self.by_range.len() <= range {
            self.by_range.resize(range + 1, PathKey(Slot::NONE));
        }
        self.by_range[range] = key;
        self.drain(key);
    }

    fn leave(&mut self, now: Time, disk: DiskId, memory: &mut dyn Memory) {
        let Some(key) = self.by_disk.remove(&disk) else {
            return;
        };
        let path = self.paths.find_mut(key.0).expect("every disk has its path");
        path.association.disconnect(now, memory);
        self.drain(key);
        let path = self.paths.remove(key.0).expect("it was there");
        if path.told_up {
            self.down(disk, key);
        }
        let association = path.association;
        self.note_due(association.next_timeout());
        self.leaving.insert(association.range(), association);
        self.drain_leaving();
    }

    /// The path to a disk that answers now.
    pub(crate) fn up(&self, disk: DiskId) -> Option<PathKey> {
        let key = *self.by_disk.get(&disk)?;
        self.path(key).filter(|path| path.told_up).map(|_| key)
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
        if self.is_behind_older(leg.path, ticket) {
            return self.suspect(now, leg.path, memory);
        }
        let Some(path) = self.paths.find_mut(leg.path.0) else {
            return;
        };
        let slot = self.tickets.insert((leg.path, ticket));
        let sent = path
            .association
            .submit(now, leg.nsid, Tag(slot.0), command, memory);
        if sent.is_err() {
            self.tickets.remove(slot);
        }
        self.drain(leg.path);
    }

    /// Whether this is a fence, and its pool still has commands of an older epoch in flight there. The fence would not stop
    /// them: they are the same host's. They go with their association, and the next one fences them (R2).
    fn is_behind_older(&self, path: PathKey, ticket: Ticket) -> bool {
        let Purpose::Fence(epoch, _) = ticket.purpose else {
            return false;
        };
        let older = |other: &Ticket| other.pool == ticket.pool && other.purpose.epoch() < epoch;
        self.tickets
            .iter()
            .any(|(_, (there, other))| *there == path && older(other))
    }

    /// Breaks the connection to a disk that leaves commands unanswered, and connects anew.
    pub(crate) fn suspect(&mut self, now: Time, key: PathKey, memory: &mut dyn Memory) {
        let Some(path) = self.paths.find_mut(key.0) else {
            return;
        };
        path.association.disconnect(now, memory);
        path.association.connect(now);
        let (was_up, disk) = (std::mem::take(&mut path.told_up), path.disk);
        self.drain(key);
        if was_up {
            self.down(disk, key);
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
        let range = ConnectionIds::range_of(connection)?;
        let key = *self.by_range.get(range as usize)?;
        match self.path(key) {
            Some(path) => path.association.landing(connection),
            None => self.leaving.get(&range)?.landing(connection),
        }
    }

    /// So many bytes are where [`Paths::landing`] said last for this connection.
    pub(crate) fn landed(
        &mut self,
        now: Time,
        connection: ConnectionId,
        length: u32,
        memory: &mut dyn Memory,
    ) {
        self.with(connection, memory, |association, memory| {
            association.handle_landed(now, connection, length, memory);
        });
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
        let key = self.by_range.get(range as usize).copied();
        if let Some((key, path)) = key.and_then(|key| Some((key, self.paths.find_mut(key.0)?))) {
            tell(&mut path.association, memory);
            self.drain(key);
        } else if let Some(association) = self.leaving.get_mut(&range) {
            tell(association, memory);
            let due = association.next_timeout();
            self.note_due(due);
            self.drain_leaving();
        }
    }

    /// Time has come.
    pub(crate) fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        let is_due = |association: &Association| association.next_timeout().is_some_and(|due| due <= now);
        let keys: Vec<PathKey> = self.by_disk.values().copied().collect();
        for key in keys {
            let path = self.paths.find_mut(key.0).expect("every disk has its path");
            if is_due(&path.association) {
                path.association.handle_timeout(now, memory);
            }
            self.drain(key);
        }
        for association in self.leaving.values_mut() {
            if is_due(association) {
                association.handle_timeout(now, memory);
            }
        }
        self.drain_leaving();
        let leaving = self.leaving.values().filter_map(Association::next_timeout).min();
        self.note_due(leaving);
    }

    /// When time has come. Nothing may turn out to be due then.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.due
    }

    /// Something is due then.
    #[inline]
    fn note_due(&mut self, due: Option<Time>) {
        if let Some(due) = due
            && self.due.is_none_or(|other| due < other)
        {
            self.due = Some(due);
        }
    }

    /// The next thing to do, in order.
    #[inline]
    pub(crate) fn poll_output(&mut self) -> Option<PathsOutput> {
        self.outputs.pop_front()
    }

    /// The next thing for the driver to do, in order.
    #[inline]
    pub(crate) fn poll_driver(&mut self) -> Option<Output<Report>> {
        self.driver.pop_front()
    }

    /// Takes what an association says, until it says nothing more.
    fn drain(&mut self, key: PathKey) {
        let Some(path) = self.paths.find_mut(key.0) else {
            return;
        };
        while let Some(output) = path.association.poll_output() {
            match for_driver(output) {
                Ok(output) => self.driver.push_back(output),
                Err(event) => handle_event(key, path, event, &mut self.tickets, &mut self.outputs),
            }
        }
        let due = path.association.next_timeout();
        self.note_due(due);
    }

    fn down(&mut self, disk: DiskId, key: PathKey) {
        forget_tickets(key, &mut self.tickets);
        self.outputs.push_back(PathsOutput::Down(disk, key));
    }

    fn drain_leaving(&mut self) {
        let driver = &mut self.driver;
        self.leaving.retain(|_, association| {
            while let Some(output) = association.poll_output() {
                driver.extend(for_driver(output).ok());
            }
            association.next_timeout().is_some()
        });
    }
}

fn handle_event(
    key: PathKey,
    path: &mut Path,
    event: AssociationEvent,
    tickets: &mut Slab<(PathKey, Ticket)>,
    outputs: &mut VecDeque<PathsOutput>,
) {
    // What ends because the association was lost is not told: `Down` says it for all.
    let ready = path.association.is_ready();
    match event {
        AssociationEvent::Completed { tag, result } => {
            if let Some((_, ticket)) = tickets.remove(Slot(tag.0)).filter(|_| ready) {
                let status = result.map(drop).map_err(failure);
                outputs.push_back(PathsOutput::Completed { ticket, status });
            }
        }
        AssociationEvent::ReservationStatus { tag, result } => {
            if let Some((_, ticket)) = tickets.remove(Slot(tag.0)).filter(|_| ready) {
                let host_id = path.association.config().host_id;
                outputs.push_back(reported(ticket, host_id, result));
            }
        }
        AssociationEvent::Ready { .. } => {
            path.told_up = true;
            outputs.push_back(PathsOutput::Up(path.disk, key));
        }
        AssociationEvent::Lost { .. } => {
            if std::mem::take(&mut path.told_up) {
                forget_tickets(key, tickets);
                outputs.push_back(PathsOutput::Down(path.disk, key));
            }
        }
        AssociationEvent::NamespacesRead | AssociationEvent::DiscoveryLog { .. } => {}
    }
}

/// Everything in flight on a path is lost.
fn forget_tickets(key: PathKey, tickets: &mut Slab<(PathKey, Ticket)>) {
    let lost: Vec<Slot> = tickets
        .iter()
        .filter(|(_, (path, _))| *path == key)
        .map(|(slot, _)| slot)
        .collect();
    for slot in lost {
        tickets.remove(slot);
    }
}

/// For the driver, or an event of the association's.
#[inline]
fn for_driver(output: AssociationOutput) -> Result<Output<Report>, AssociationEvent> {
    Ok(match output {
        AssociationOutput::Send { connection, segment } => Output::Send { connection, segment },
        AssociationOutput::Event(event) => return Err(event),
        AssociationOutput::Connect { connection, address } => Output::Connect { connection, address },
        AssociationOutput::Close { connection, abort } => Output::Close { connection, abort },
    })
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
