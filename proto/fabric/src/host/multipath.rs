//! Many paths to one subsystem: requests go where their namespace is optimized, wait while it is nowhere, and are sent
//! again, here or there, when a path was the reason that they failed (rule R7). It is what a Linux host does.
//!
//! What this deliberately is not: it does not keep overlapping requests in order (the block layer above does not ask for
//! that), and it does not cut requests (associations do).
//!
//! Invariants:
//! * a request that was taken ends exactly once, and never for the reason that a path failed;
//! * a request is in flight on one path at most; one that is on none is in `queued`;
//! * a path's answer counts only for the request that is still on that path.

use super::association::Association;
use super::command::{Command, Tag};
use super::config::AssociationConfig;
use super::connection_ids::{ConnectionIdRanges, ConnectionIds};
use super::event::{AssociationEvent, AssociationOutput};
use super::lost::Lost;
use crate::driver::{CloseReason, ConnectionId, Segment};
use block::{Blocks, BufferSlice, Duration, Memory, Slab, Slot, Time};
use nvme::Status;
use nvme::log::AnaState;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// A namespace's identity on every path: its UUID, or its NGUID if it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub [u8; 16]);

/// How to reach a subsystem over many paths.
#[derive(Clone, Debug)]
pub struct MultipathConfig {
    /// For every path; its address is not looked at.
    pub association: AssociationConfig,
    /// How long a namespace is not tried again on a path that has refused it.
    pub retry_delay: Duration,
    /// How often a request is sent again for other reasons than a path, if its status allows that.
    pub retries_max: u32,
}

impl MultipathConfig {
    /// Retries after 20 ms; five for other reasons than a path.
    pub fn new(association: AssociationConfig) -> MultipathConfig {
        MultipathConfig {
            association,
            retry_delay: Duration::from_millis(20),
            retries_max: 5,
        }
    }
}

/// What a multipath host asks of the driver, and tells its owner.
#[derive(Debug)]
pub enum MultipathOutput {
    /// As [`crate::driver::Output::Connect`].
    Connect {
        /// Its name.
        connection: ConnectionId,
        /// Where to.
        address: SocketAddr,
    },
    /// As [`crate::driver::Output::Send`].
    Send {
        /// Where.
        connection: ConnectionId,
        /// What.
        segment: Segment,
    },
    /// As [`crate::driver::Output::Close`].
    Close {
        /// Which.
        connection: ConnectionId,
        /// Drop what is unsent.
        abort: bool,
    },
    /// For the owner.
    Event(MultipathEvent),
}

/// What a multipath host tells its owner.
#[derive(Debug)]
pub enum MultipathEvent {
    /// A path can be used.
    PathReady {
        /// Where.
        address: SocketAddr,
        /// The controller there.
        cntlid: u16,
    },
    /// A path cannot be used, or an attempt to make it failed. It is tried again by itself, unless it was taken away.
    PathLost {
        /// Where.
        address: SocketAddr,
        /// Why.
        reason: Lost,
    },
    /// Namespaces or their states on a path were read again.
    NamespacesRead {
        /// Where.
        address: SocketAddr,
    },
    /// A request has ended; never with a path-related status.
    Completed {
        /// Which.
        tag: Tag,
        /// Dwords 0 and 1 of the completion, or what it failed with.
        result: Result<u64, Status>,
    },
}

/// How a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathState {
    /// Connecting, for the first time or again.
    Connecting {
        /// Why there is no association; `None` before the first attempt has failed.
        reason: Option<Lost>,
    },
    /// Usable.
    Live,
    /// Told to disconnect.
    Disconnecting,
}

/// A path, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// Where.
    pub address: SocketAddr,
    /// The controller there; 0 before it is known.
    pub cntlid: u16,
    /// How the path is.
    pub state: PathState,
    /// The namespaces there as they were last read, with their states.
    pub namespaces: Vec<(VolumeId, AnaState)>,
}

impl PathStatus {
    /// Whether commands can be sent over it.
    pub fn is_live(&self) -> bool {
        self.state == PathState::Live
    }

    /// Whether it is live and serves the volume: its ANA state there is optimized or non-optimized.
    pub fn serves(&self, volume: VolumeId) -> bool {
        let served = |state: AnaState| matches!(state, AnaState::Optimized | AnaState::NonOptimized);
        self.is_live()
            && self
                .namespaces
                .iter()
                .any(|(other, state)| *other == volume && served(*state))
    }
}

/// A namespace, whatever the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeStatus {
    /// Which.
    pub volume: VolumeId,
    /// How long, as last read.
    pub size: Blocks,
    /// How many live paths serve it.
    pub usable_paths: usize,
}

/// A namespace's name and state on a path, if requests for it may be sent there.
type Served = Option<(u32, AnaState)>;

#[derive(Debug)]
struct Path {
    /// Of its connections' names.
    range: u32,
    association: Association,
    /// What was found last for a namespace: its name here and its state. Forgotten when anything of that changes.
    found: Cell<Option<(VolumeId, Served)>>,
    /// Namespaces that this path has refused lately, and until when they are not tried here.
    resting: BTreeMap<VolumeId, Time>,
    lost: Option<Lost>,
    /// To be forgotten when its association has ended.
    leaving: bool,
}

#[derive(Debug)]
struct Pending {
    tag: Tag,
    volume: VolumeId,
    command: Command,
    /// Orders requests by arrival.
    serial: u64,
    /// The path it is on.
    on: Option<u32>,
    retries: u32,
}

/// A host with many paths to one subsystem.
#[derive(Debug)]
pub struct Multipath {
    config: MultipathConfig,
    ranges: ConnectionIdRanges,
    /// In the order of their ranges.
    paths: Vec<Path>,
    requests: Slab<Pending>,
    /// Those that wait for a path, by arrival.
    queued: BTreeMap<u64, Slot>,
    next_serial: u64,
    /// The path used last, for taking turns.
    last_path: u32,
    /// Requests that have ended, to be told before anything else.
    ended: VecDeque<(Tag, Result<u64, Status>)>,
    outputs: VecDeque<MultipathOutput>,
}

impl Multipath {
    /// A host without paths.
    pub fn new(config: MultipathConfig, ranges: ConnectionIdRanges) -> Multipath {
        Multipath {
            config,
            ranges,
            paths: Vec::new(),
            requests: Slab::default(),
            queued: BTreeMap::new(),
            next_serial: 0,
            last_path: 0,
            ended: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    // What the owner may ask.

    /// Connects over `address` too, for as long as it is not told otherwise. Nothing changes if that is so already.
    pub fn connect(&mut self, now: Time, address: SocketAddr, memory: &mut dyn Memory) {
        let is_there = |path: &Path| !path.leaving && path.association.config().address == address;
        if self.paths.iter().any(is_there) {
            return;
        }
        let ids = self.ranges.take();
        let range = ids.range();
        let config = AssociationConfig {
            address,
            ..self.config.association.clone()
        };
        let mut association = Association::new(config, ids);
        association.connect(now);
        // Ranges ascend: the paths stay in order.
        self.paths.push(Path {
            range,
            association,
            found: Cell::new(None),
            resting: BTreeMap::new(),
            lost: None,
            leaving: false,
        });
        self.advance(now, memory);
    }

    /// Disconnects from `address`. What was on that path goes on over others, or waits.
    pub fn disconnect(&mut self, now: Time, address: SocketAddr, memory: &mut dyn Memory) {
        for path in &mut self.paths {
            if path.association.config().address == address {
                path.leaving = true;
                path.association.disconnect(now, memory);
            }
        }
        self.advance(now, memory);
    }

    /// Disconnects from everywhere; what is in flight waits for a path, until it is abandoned.
    pub fn disconnect_all(&mut self, now: Time, memory: &mut dyn Memory) {
        for path in &mut self.paths {
            path.leaving = true;
            path.association.disconnect(now, memory);
        }
        self.advance(now, memory);
    }

    /// Takes a request; its end is told by [`MultipathEvent::Completed`] under its tag. Until then a reference on its
    /// buffer is held here.
    ///
    /// # Panics
    /// If range and buffer do not fit each other, or if it is a reservation command: those are a path's own affair.
    pub fn submit(
        &mut self,
        now: Time,
        volume: VolumeId,
        tag: Tag,
        command: Command,
        memory: &mut dyn Memory,
    ) {
        assert!(
            !matches!(command, Command::Reservation(_)),
            "a reservation over many paths"
        );
        command.assert_sound();
        if let Some(slice) = command.buffer() {
            memory.retain(slice.buffer);
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let chosen = self.choose(volume).filter(|_| self.queued.is_empty());
        let key = self.requests.insert(Pending {
            tag,
            volume,
            command,
            serial,
            on: None,
            retries: 0,
        });
        match chosen {
            Some((path, nsid)) => self.send(now, path, nsid, key, command, memory),
            None => {
                self.queued.insert(serial, key);
                self.advance(now, memory);
            }
        }
    }

    /// Forgets a request, as [`Association::abandon`] does.
    pub fn abandon(&mut self, tag: Tag, memory: &mut dyn Memory) {
        let found = self.requests.iter().find(|(_, pending)| pending.tag == tag);
        let Some((key, pending)) = found else { return };
        if let Some(index) = pending.on.and_then(|range| self.path_at(range)) {
            let association = &mut self.paths[index].association;
            association.abandon(Tag(key.0), memory);
        }
        self.forget(key, memory);
    }

    // What the driver tells.

    /// A connection is open.
    pub fn handle_connected(&mut self, now: Time, connection: ConnectionId, memory: &mut dyn Memory) {
        if let Some(index) = self.path_of(connection) {
            let association = &mut self.paths[index].association;
            association.handle_connected(now, connection, memory);
        }
        self.advance(now, memory);
    }

    /// Where the next bytes of a connection belong, if they are data on its way into a buffer.
    pub fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        let index = self.path_of(connection)?;
        self.paths[index].association.landing(connection)
    }

    /// So many bytes are where [`Multipath::landing`] said last for this connection. Ignored if it has ended.
    ///
    /// # Panics
    /// If no landing was offered, or fewer bytes.
    pub fn handle_landed(
        &mut self,
        now: Time,
        connection: ConnectionId,
        length: u32,
        memory: &mut dyn Memory,
    ) {
        if let Some(index) = self.path_of(connection) {
            let association = &mut self.paths[index].association;
            association.handle_landed(now, connection, length, memory);
        }
        self.advance(now, memory);
    }

    /// Bytes came in.
    pub fn handle_received(
        &mut self,
        now: Time,
        connection: ConnectionId,
        bytes: &[u8],
        memory: &mut dyn Memory,
    ) {
        if let Some(index) = self.path_of(connection) {
            let association = &mut self.paths[index].association;
            association.handle_received(now, connection, bytes, memory);
        }
        self.advance(now, memory);
    }

    /// A connection is no more.
    pub fn handle_closed(
        &mut self,
        now: Time,
        connection: ConnectionId,
        reason: CloseReason,
        memory: &mut dyn Memory,
    ) {
        if let Some(index) = self.path_of(connection) {
            let association = &mut self.paths[index].association;
            association.handle_closed(now, connection, reason, memory);
        }
        self.advance(now, memory);
    }

    /// The time of [`Multipath::next_timeout`] has come; too early does no harm.
    pub fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        for path in &mut self.paths {
            path.rested(now);
            if path.association.next_timeout().is_some_and(|at| at <= now) {
                path.association.handle_timeout(now, memory);
            }
        }
        self.advance(now, memory);
    }

    /// What is to be done next, until nothing is.
    pub fn poll_output(&mut self) -> Option<MultipathOutput> {
        if let Some((tag, result)) = self.ended.pop_front() {
            return Some(MultipathOutput::Event(MultipathEvent::Completed { tag, result }));
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let mut segments = self.paths.iter_mut().map(|path| path.association.poll_segment());
        let (connection, segment) = segments.find_map(|segment| segment)?;
        Some(MultipathOutput::Send { connection, segment })
    }

    /// When [`Multipath::handle_timeout`] should be called, if nothing else happens before.
    pub fn next_timeout(&self) -> Option<Time> {
        let associations = self
            .paths
            .iter()
            .filter_map(|path| path.association.next_timeout());
        let rests = self.paths.iter().flat_map(|path| path.resting.values().copied());
        associations.chain(rests).min()
    }

    // What the owner may know.

    /// Requests that have not ended.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Requests that wait for a path.
    pub fn waiting(&self) -> usize {
        self.queued.len()
    }

    /// All paths, in the order they were asked for.
    pub fn paths(&self) -> Vec<PathStatus> {
        self.paths.iter().map(Path::status).collect()
    }

    /// All namespaces that any path knows.
    pub fn volumes(&self) -> Vec<VolumeStatus> {
        let mut volumes = BTreeMap::new();
        for path in &self.paths {
            for namespace in path.association.namespaces().iter() {
                let volume = VolumeId(namespace.identity());
                let status = volumes.entry(volume).or_insert(VolumeStatus {
                    volume,
                    size: namespace.size,
                    usable_paths: 0,
                });
                if path.serves(volume).is_some() {
                    status.size = namespace.size;
                    status.usable_paths += 1;
                }
            }
        }
        volumes.into_values().collect()
    }

    /// The namespace that has this NSID on a path that can be used.
    pub fn volume_of(&self, nsid: u32) -> Option<VolumeId> {
        let live = self.paths.iter().filter(|path| path.association.is_ready());
        let mut found = live.filter_map(|path| path.association.namespaces().by_nsid(nsid));
        found.next().map(|namespace| VolumeId(namespace.identity()))
    }

    // How requests find a path.

    /// The index of a range's path. There are few.
    #[inline]
    fn path_at(&self, range: u32) -> Option<usize> {
        self.paths.iter().position(|path| path.range == range)
    }

    #[inline]
    fn path_of(&self, connection: ConnectionId) -> Option<usize> {
        self.path_at(ConnectionIds::range_of(connection)?)
    }

    /// Carries on what the associations have to tell, until they have nothing, and sends what can be sent.
    fn advance(&mut self, now: Time, memory: &mut dyn Memory) {
        loop {
            let mut told = false;
            for index in 0..self.paths.len() {
                while let Some(output) = self.paths[index].association.poll_news() {
                    told = true;
                    self.handle_output(now, index, output, memory);
                }
            }
            self.paths.retain(|path| !path.is_gone());
            let sent = !self.queued.is_empty() && self.send_queued(now, memory);
            if !told && !sent {
                return;
            }
        }
    }

    fn handle_output(&mut self, now: Time, index: usize, output: AssociationOutput, memory: &mut dyn Memory) {
        let output = match output {
            AssociationOutput::Connect { connection, address } => {
                MultipathOutput::Connect { connection, address }
            }
            AssociationOutput::Send { connection, segment } => MultipathOutput::Send { connection, segment },
            AssociationOutput::Close { connection, abort } => MultipathOutput::Close { connection, abort },
            AssociationOutput::Event(event) => return self.handle_event(now, index, event, memory),
        };
        self.outputs.push_back(output);
    }

    fn handle_event(&mut self, now: Time, index: usize, event: AssociationEvent, memory: &mut dyn Memory) {
        let path = &mut self.paths[index];
        if let AssociationEvent::Completed { tag, result } = event {
            return self.handle_end(now, index, Slot(tag.0), result, memory);
        }
        path.found.set(None);
        let address = path.association.config().address;
        match event {
            AssociationEvent::Ready { cntlid } => {
                path.lost = None;
                path.resting.clear();
                self.tell(MultipathEvent::PathReady { address, cntlid });
            }
            AssociationEvent::Lost { reason } => {
                path.lost = Some(reason.clone());
                self.tell(MultipathEvent::PathLost { address, reason });
            }
            AssociationEvent::NamespacesRead => self.tell(MultipathEvent::NamespacesRead { address }),
            AssociationEvent::Completed { .. }
            | AssociationEvent::ReservationStatus { .. }
            | AssociationEvent::DiscoveryLog { .. } => {
                unreachable!("told above, or never asked for here")
            }
        }
    }

    /// A path has ended a request: it is told, or tried again.
    fn handle_end(
        &mut self,
        now: Time,
        index: usize,
        key: Slot,
        result: Result<u64, Status>,
        memory: &mut dyn Memory,
    ) {
        let retries_max = self.config.retries_max;
        let Some(pending) = self.requests.find_mut(key) else {
            return;
        };
        assert_eq!(
            pending.on,
            Some(self.paths[index].range),
            "an answer from a path that does not have the request"
        );
        pending.on = None;
        let (volume, tag, serial) = (pending.volume, pending.tag, pending.serial);
        match result {
            Err(status) if status.is_path_related() => {}
            Err(status) if may_pass(status) && pending.retries < retries_max => pending.retries += 1,
            result => {
                self.forget(key, memory);
                return self.ended.push_back((tag, result));
            }
        }
        self.queued.insert(serial, key);
        let until = now + self.config.retry_delay;
        let path = &mut self.paths[index];
        if path.association.is_ready() {
            path.resting.insert(volume, until);
            path.found.set(None);
            path.association.read_ana_log(now, memory);
        }
    }

    /// Sends what waits and has a path; whether anything was sent.
    fn send_queued(&mut self, now: Time, memory: &mut dyn Memory) -> bool {
        let mut sent = false;
        let mut stuck = BTreeSet::new();
        for key in self.queued.values().copied().collect::<Vec<_>>() {
            let pending = self.requests.find(key).expect("what waits has not ended");
            let (volume, command) = (pending.volume, pending.command);
            if stuck.contains(&volume) {
                continue;
            }
            match self.choose(volume) {
                Some((path, nsid)) => {
                    let serial = pending.serial;
                    self.queued.remove(&serial);
                    self.send(now, path, nsid, key, command, memory);
                    sent = true;
                }
                None if self.is_nowhere(volume) => {
                    let tag = pending.tag;
                    self.forget(key, memory);
                    let result = Err(Status::INVALID_NAMESPACE_OR_FORMAT.do_not_retry());
                    self.ended.push_back((tag, result));
                }
                None => {
                    stuck.insert(volume);
                }
            }
        }
        sent
    }

    /// Sends a request that waits nowhere on a path that is live.
    fn send(
        &mut self,
        now: Time,
        index: usize,
        nsid: u32,
        key: Slot,
        command: Command,
        memory: &mut dyn Memory,
    ) {
        let path = &mut self.paths[index];
        let tag = Tag(key.0);
        let taken = path.association.submit(now, nsid, tag, command, memory);
        taken.expect("a live path takes requests");
        self.last_path = path.range;
        self.requests.find_mut(key).expect("the caller has it").on = Some(path.range);
    }

    /// The path for a namespace: one where it is optimized, or else one where it is not; those that are alike take turns.
    fn choose(&self, volume: VolumeId) -> Option<(usize, u32)> {
        let first = self.paths.iter().position(|path| path.range > self.last_path);
        let first = first.unwrap_or(0);
        let mut second = None;
        for index in (first..self.paths.len()).chain(0..first) {
            match self.paths[index].serves(volume) {
                Some((nsid, AnaState::Optimized)) => return Some((index, nsid)),
                Some((nsid, _)) if second.is_none() => second = Some((index, nsid)),
                _ => {}
            }
        }
        second
    }

    /// Whether every path was asked and none has ever heard of the namespace, so that waiting would be in vain.
    fn is_nowhere(&self, volume: VolumeId) -> bool {
        let knows_not = |path: &Path| {
            let table = path.association.namespaces();
            path.association.is_ready() && table.is_read() && table.by_identity(volume.0).is_none()
        };
        !self.paths.is_empty() && self.paths.iter().all(knows_not)
    }

    fn forget(&mut self, key: Slot, memory: &mut dyn Memory) {
        let pending = self.requests.remove(key).expect("the caller looked it up");
        if pending.on.is_none() {
            self.queued.remove(&pending.serial);
        }
        if let Some(slice) = pending.command.buffer() {
            memory.release(slice.buffer);
        }
    }

    fn tell(&mut self, event: MultipathEvent) {
        self.outputs.push_back(MultipathOutput::Event(event));
    }
}

/// Whether the same command may succeed when it is sent again.
fn may_pass(status: Status) -> bool {
    const PASSING: [Status; 6] = [
        Status::NAMESPACE_NOT_READY,
        Status::COMMAND_INTERRUPTED,
        Status::TRANSIENT_TRANSPORT_ERROR,
        Status::ABORT_REQUESTED,
        Status::ABORTED_SQ_DELETION,
        Status::INTERNAL_ERROR,
    ];
    !status.do_not_retry && PASSING.iter().any(|passing| status.is(*passing))
}

impl Path {
    /// Whether requests for a namespace may be sent here: its name here and its state.
    fn serves(&self, volume: VolumeId) -> Served {
        if !self.association.is_ready() {
            return None;
        }
        match self.found.get() {
            Some((found, serves)) if found == volume => serves,
            _ => {
                let serves = self.look_up(volume);
                self.found.set(Some((volume, serves)));
                serves
            }
        }
    }

    /// What [`Path::serves`] says of a live path.
    fn look_up(&self, volume: VolumeId) -> Served {
        if self.resting.contains_key(&volume) {
            return None;
        }
        let namespace = self.association.namespaces().by_identity(volume.0)?;
        let usable = namespace.ana.refusal().is_none() && namespace.block_bytes == block::BLOCK_SIZE;
        usable.then_some((namespace.nsid, namespace.ana))
    }

    /// Namespaces are tried again whose time has come.
    fn rested(&mut self, now: Time) {
        let before = self.resting.len();
        self.resting.retain(|_, until| *until > now);
        if self.resting.len() < before {
            self.found.set(None);
        }
    }

    fn is_gone(&self) -> bool {
        self.leaving && !self.association.is_wanted() && self.association.next_timeout().is_none()
    }

    fn status(&self) -> PathStatus {
        let association = &self.association;
        let state = if self.leaving {
            PathState::Disconnecting
        } else if association.is_ready() {
            PathState::Live
        } else {
            PathState::Connecting {
                reason: self.lost.clone(),
            }
        };
        PathStatus {
            address: association.config().address,
            cntlid: association.controller().cntlid,
            state,
            namespaces: association
                .namespaces()
                .iter()
                .map(|namespace| (VolumeId(namespace.identity()), namespace.ana))
                .collect(),
        }
    }
}
