//! Hosts and targets in one world: byte pipes that chop, delay, stall, break and damage; a memory disk that both targets
//! serve, of which only the owner's executions count; everything from one seed.

use super::history::History;
use super::memory::TestMemory;
pub(crate) use super::setting::{Random, Setting};
use block::{BLOCK_SIZE, BlockRange, Blocks, Duration, Memory, Operation, Request, Status, Time};
use fabric::driver::{CloseReason, ConnectionId};
use fabric::host::{
    AssociationConfig, Command, ConnectionIdRanges, Multipath, MultipathConfig, MultipathEvent,
    MultipathOutput, Tag, VolumeId,
};
use fabric::target::{
    AnaState, IoId, NamespaceConfig, Portal, SubsystemConfig, SubsystemKey, Target, TargetConfig,
    TargetOutput,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

pub(crate) const SUBSYSTEM: SubsystemKey = SubsystemKey(1);
pub(crate) const SUBSYSTEM_NQN: &str = "nqn.2024-01.example:pool";
pub(crate) const HOST_NQN: &str = "nqn.2024-01.example:host";
pub(crate) const VOLUME: VolumeId = VolumeId([0x5A; 16]);
pub(crate) const NSID: u32 = 3;
pub(crate) const BLOCKS: u64 = 96;
const GROUP: u32 = 1;

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    /// Nothing sent later arrives earlier.
    busy_until: Time,
    /// Nothing arrives any more, and nobody is told.
    stalled: bool,
    sent_bytes: u64,
}

#[derive(Debug)]
struct Connection {
    target: usize,
    /// As the target knows it; none before the connect has come through.
    accepted: Option<ConnectionId>,
    to_target: Pipe,
    to_host: Pipe,
}

#[derive(Debug)]
enum Happening {
    Connect(ConnectionId),
    Connected(ConnectionId),
    ToTarget(ConnectionId, Vec<u8>),
    ToHost(ConnectionId, Vec<u8>),
    HostSeesClose(ConnectionId, CloseReason),
    TargetSeesClose(ConnectionId),
    Executed(usize, u64, IoId, Request),
    Timeouts,
}

/// A target and the node around it.
pub(crate) struct Node {
    pub(crate) target: Target,
    pub(crate) memory: TestMemory,
    pub(crate) up: bool,
    /// Counts restarts: what an earlier life asked of the disk is nobody's.
    life: u64,
    pub(crate) executed: u64,
}

/// An operation of the host that has not ended.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) command: Command,
    pub(crate) value: u64,
    pub(crate) began: Time,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) random: Random,
    pub(crate) setting: Setting,
    pub(crate) host: Multipath,
    pub(crate) memory: TestMemory,
    pub(crate) nodes: Vec<Node>,
    pub(crate) addresses: Vec<SocketAddr>,
    /// The node whose executions count.
    pub(crate) owner: usize,
    /// The disk: the stamp that fills each block.
    pub(crate) disk: Vec<u64>,
    pub(crate) history: History,
    pub(crate) running: BTreeMap<u64, Running>,
    pub(crate) events: Vec<MultipathEvent>,
    pub(crate) completed: u64,
    pub(crate) failed: Vec<nvme::Status>,
    /// One execution in so many takes long.
    pub(crate) slow_one_in: u64,
    /// The targets' ANA events do not arrive.
    pub(crate) swallow_ana_events: bool,
    /// Blocks that were looked at.
    pub(crate) checks: u64,
    /// What has come for targets that do not want it now.
    backlogs: BTreeMap<(usize, ConnectionId), Vec<u8>>,
    /// How often a target did not want to read.
    pub(crate) unread: u64,
    /// Bytes that the targets' side received where they belong.
    pub(crate) landed_bytes: u64,
    /// The same at the host.
    pub(crate) landed_bytes_at_host: u64,
    next_tag: u64,
    connections: BTreeMap<ConnectionId, Connection>,
    queue: BTreeMap<(Time, u64), Happening>,
    next_happening: u64,
    next_accepted: u64,
    next_timeout: Option<Time>,
}

impl World {
    pub(crate) fn new(setting: Setting, seed: u64) -> World {
        let mut template = AssociationConfig::new(
            HOST_NQN,
            [7; 16],
            SUBSYSTEM_NQN,
            "192.0.2.1:4420".parse().expect("an address"),
        );
        template.header_digest = setting.header_digest;
        template.data_digest = setting.data_digest;
        template.io_queues = setting.io_queues;
        template.queue_depth = setting.queue_depth;
        template.sq_flow_control = setting.sq_flow_control;
        template.kato_ms = 400;
        template.command_timeout = Duration::from_millis(1_500);
        template.connect_timeout = Duration::from_millis(1_500);
        template.reconnect_delay = Duration::from_millis(2);
        template.reconnect_delay_max = Duration::from_millis(200);
        let addresses: Vec<SocketAddr> = (0..setting.targets)
            .map(|index| SocketAddr::from(([192, 0, 2, 10 + index as u8], 4420)))
            .collect();
        let mut world = World {
            now: Time::from_millis(1),
            random: Random::new(seed),
            host: Multipath::new(MultipathConfig::new(template), ConnectionIdRanges::new()),
            memory: TestMemory::default(),
            nodes: Vec::new(),
            addresses,
            owner: 0,
            disk: vec![0; BLOCKS as usize],
            history: History::default(),
            running: BTreeMap::new(),
            events: Vec::new(),
            completed: 0,
            failed: Vec::new(),
            slow_one_in: 8,
            swallow_ana_events: false,
            checks: 0,
            backlogs: BTreeMap::new(),
            unread: 0,
            landed_bytes: 0,
            landed_bytes_at_host: 0,
            next_tag: 0,
            connections: BTreeMap::new(),
            queue: BTreeMap::new(),
            next_happening: 0,
            next_accepted: 0,
            next_timeout: None,
            setting,
        };
        for index in 0..world.setting.targets {
            let node = world.fresh_node(index, 0);
            world.nodes.push(node);
        }
        world
    }

    fn fresh_node(&mut self, index: usize, life: u64) -> Node {
        let config = TargetConfig {
            in_capsule_bytes: self.setting.in_capsule_bytes,
            h2c_data_bytes_max: self.setting.h2c_data_bytes_max,
            mdts: self.setting.mdts,
            ..TargetConfig::default()
        };
        let mut node = Node {
            target: Target::new(config),
            memory: TestMemory::default(),
            up: true,
            life,
            executed: 0,
        };
        let subsystem = SubsystemConfig {
            nqn: SUBSYSTEM_NQN.to_owned(),
            serial: "pair".to_owned(),
            cntlid_first: 1 + 1000 * index as u16,
            cntlid_last: 999 + 1000 * index as u16,
            hosts: BTreeSet::from([HOST_NQN.to_owned()]),
            reservations: false,
        };
        node.memory.limit = self.setting.target_buffers;
        let Node { target, memory, .. } = &mut node;
        target.upsert_subsystem(self.now, SUBSYSTEM, subsystem, memory);
        target.upsert_namespace(self.now, SUBSYSTEM, NSID, namespace(BLOCKS, VOLUME), None, memory);
        let state = match index == self.owner {
            true => AnaState::Optimized,
            false => AnaState::Inaccessible,
        };
        target.set_ana_state(self.now, SUBSYSTEM, GROUP, state, memory);
        let portals = self.addresses.iter().zip(1..).map(|(address, port)| Portal {
            port,
            address: *address,
        });
        target.set_portals(self.now, SUBSYSTEM, portals.collect(), memory);
        target.open();
        node
    }

    // What tests do to it.

    /// The host connects to every node.
    pub(crate) fn connect_all(&mut self) {
        for address in self.addresses.clone() {
            self.host.connect(self.now, address, &mut self.memory);
        }
        self.drain();
    }

    /// Submits an operation of the host's.
    pub(crate) fn submit(&mut self, operation: Operation, range: BlockRange, value: u64) -> u64 {
        self.submit_command(Command::Block(Request { operation, range }), value)
    }

    pub(crate) fn submit_command(&mut self, command: Command, value: u64) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        let running = Running {
            command,
            value,
            began: self.now,
        };
        if modifies(&command) {
            let advice = is_advice(&command);
            self.history
                .begin(blocks_of(command.range()), value, self.now, advice);
        }
        self.running.insert(tag, running);
        self.host
            .submit(self.now, VOLUME, Tag(tag), command, &mut self.memory);
        self.drain();
        tag
    }

    /// Writes `value` to a range.
    pub(crate) fn write(&mut self, range: BlockRange, value: u64, durable: bool) -> u64 {
        let bytes = stamped(range.length.0, value);
        let buffer = self.memory.filled(&bytes);
        self.submit(Operation::Write { buffer, durable }, range, value)
    }

    /// Reads a range.
    pub(crate) fn read(&mut self, range: BlockRange) -> u64 {
        let length = u32::try_from(range.length.bytes()).expect("a short read");
        let buffer = self.memory.allocate(length).expect("memory");
        self.submit(Operation::Read { buffer }, range, 0)
    }

    /// Whether everything ended within a while.
    pub(crate) fn finish_within(&mut self, ms: u64) -> bool {
        let deadline = self.now + Duration::from_millis(ms);
        while !self.running.is_empty() && self.now < deadline {
            if !self.step(deadline) {
                break;
            }
        }
        self.running.is_empty()
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        let deadline = self.now + Duration::from_millis(ms);
        while self.step(deadline) {}
        self.now = deadline;
    }

    /// Breaks a connection: both ends learn of it, each when it does; what was under way is lost or not.
    pub(crate) fn cut(&mut self, connection: ConnectionId) {
        let (soon, later) = (self.random.below(500), self.random.below(1_500));
        let (host, target) = if self.random.one_in(2) {
            (soon, later)
        } else {
            (later, soon)
        };
        if let Some(live) = self.connections.get_mut(&connection) {
            live.to_host.stalled = true;
            live.to_target.stalled = true;
        }
        self.after_us(host, Happening::HostSeesClose(connection, CloseReason::Broken));
        self.after_us(target, Happening::TargetSeesClose(connection));
    }

    /// Nothing passes on a connection any more, and nobody is told.
    pub(crate) fn stall(&mut self, connection: ConnectionId) {
        if let Some(live) = self.connections.get_mut(&connection) {
            live.to_host.stalled = true;
            live.to_target.stalled = true;
        }
    }

    pub(crate) fn connection_ids(&self) -> Vec<ConnectionId> {
        self.connections.keys().copied().collect()
    }

    /// A node dies: its connections break, what it asked of the disk may have been done.
    pub(crate) fn crash(&mut self, index: usize) {
        self.nodes[index].up = false;
        let connections: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, live)| live.target == index)
            .map(|(connection, _)| *connection)
            .collect();
        self.backlogs.retain(|(target, _), _| *target != index);
        for connection in connections {
            let live = self.connections.get_mut(&connection).expect("listed above");
            live.to_host.stalled = true;
            live.accepted = None;
            let delay = self.random.below(3_000);
            self.after_us(delay, Happening::HostSeesClose(connection, CloseReason::Broken));
        }
        let life = self.nodes[index].life;
        for key in self.queue.keys().copied().collect::<Vec<_>>() {
            let is_its = matches!(self.queue[&key], Happening::Executed(node, _, _, _) if node == index);
            if !is_its {
                continue;
            }
            let Some(Happening::Executed(_, _, _, request)) = self.queue.remove(&key) else {
                unreachable!("seen above");
            };
            if self.random.one_in(2) && index == self.owner {
                self.execute(index, request);
            }
        }
        let node = self.fresh_node(index, life + 1);
        let executed = self.nodes[index].executed;
        self.nodes[index] = Node {
            up: false,
            executed,
            ..node
        };
    }

    pub(crate) fn restart(&mut self, index: usize) {
        self.nodes[index].up = true;
        let state = match index == self.owner {
            true => AnaState::Optimized,
            false => AnaState::Inaccessible,
        };
        self.set_ana(index, state);
    }

    pub(crate) fn set_ana(&mut self, index: usize, state: AnaState) {
        let node = &mut self.nodes[index];
        node.target
            .set_ana_state(self.now, SUBSYSTEM, GROUP, state, &mut node.memory);
        self.drain();
    }

    /// The other node owns the volume: the old owner's executions count no more from here on.
    pub(crate) fn switch_owner(&mut self, to: usize) {
        for index in 0..self.nodes.len() {
            if index != to {
                self.set_ana(index, AnaState::Inaccessible);
            }
        }
        self.owner = to;
        self.set_ana(to, AnaState::Optimized);
    }

    // How the world goes on.

    fn after_us(&mut self, delay_us: u64, happening: Happening) {
        let at = self.now + Duration::from_micros(delay_us);
        self.at(at, happening);
    }

    fn at(&mut self, at: Time, happening: Happening) {
        self.queue.insert((at, self.next_happening), happening);
        self.next_happening += 1;
    }

    /// The next thing happens, if it does before `deadline`.
    pub(crate) fn step(&mut self, deadline: Time) -> bool {
        self.arm_timeouts();
        let Some((&key, _)) = self.queue.first_key_value() else {
            return false;
        };
        if key.0 > deadline {
            return false;
        }
        let happening = self.queue.remove(&key).expect("seen above");
        self.now = self.now.max(key.0);
        self.happen(happening);
        self.drain();
        for (index, accepted) in self.backlogs.keys().copied().collect::<Vec<_>>() {
            self.deliver(index, accepted);
            self.drain();
        }
        true
    }

    fn arm_timeouts(&mut self) {
        let targets = self.nodes.iter().filter(|node| node.up);
        let due = targets
            .filter_map(|node| node.target.next_timeout())
            .chain(self.host.next_timeout())
            .min();
        if let Some(due) = due.filter(|due| self.next_timeout.is_none_or(|armed| *due < armed)) {
            self.next_timeout = Some(due);
            self.at(due.max(self.now), Happening::Timeouts);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Connect(connection) => self.open(connection),
            Happening::Connected(connection) => {
                if self.connections.contains_key(&connection) {
                    self.host.handle_connected(self.now, connection, &mut self.memory);
                }
            }
            Happening::ToTarget(connection, bytes) => {
                let live = self.connections.get(&connection);
                let Some(live) = live.filter(|live| !live.to_target.stalled) else {
                    return;
                };
                let Some(accepted) = live.accepted else { return };
                let index = live.target;
                let backlog = self.backlogs.entry((index, accepted)).or_default();
                backlog.extend(bytes);
                self.deliver(index, accepted);
            }
            Happening::ToHost(connection, bytes) => {
                let live = self.connections.get(&connection);
                if live.is_some_and(|live| !live.to_host.stalled) {
                    self.deliver_to_host(connection, &bytes);
                }
            }
            Happening::HostSeesClose(connection, reason) => {
                self.host
                    .handle_closed(self.now, connection, reason, &mut self.memory);
            }
            Happening::TargetSeesClose(connection) => self.close_at_target(connection),
            Happening::Executed(index, life, io, request) => {
                if self.nodes[index].life == life {
                    let status = self.execute(index, request);
                    let node = &mut self.nodes[index];
                    node.target.complete(self.now, io, status, &mut node.memory);
                }
            }
            Happening::Timeouts => {
                self.next_timeout = None;
                self.host.handle_timeout(self.now, &mut self.memory);
                for node in self.nodes.iter_mut().filter(|node| node.up) {
                    node.target.handle_timeout(self.now, &mut node.memory);
                }
            }
        }
    }

    /// What has come reaches a target, while it wants it: by chance received where it belongs, as far as the target says where
    /// that is.
    fn deliver(&mut self, index: usize, accepted: ConnectionId) {
        let bytes = self.backlogs.remove(&(index, accepted)).unwrap_or_default();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let node = &mut self.nodes[index];
            if !node.target.wants_bytes(accepted) {
                self.backlogs.insert((index, accepted), rest.to_vec());
                self.unread += 1;
                return;
            }
            let landing = node.target.landing(accepted).filter(|_| self.random.one_in(2));
            let most = landing.map_or(rest.len(), |place| rest.len().min(place.length as usize));
            let length = match self.random.one_in(2) {
                true => most,
                false => 1 + self.random.below(most as u64) as usize,
            };
            let (piece, behind) = rest.split_at(length);
            match landing {
                Some(place) => {
                    let length = length as u32;
                    let place = place.part(0, length);
                    node.memory.bytes_mut(place).copy_from_slice(piece);
                    node.target.landed(self.now, accepted, length, &mut node.memory);
                    self.landed_bytes += u64::from(length);
                }
                None => node.target.received(self.now, accepted, piece, &mut node.memory),
            }
            rest = behind;
        }
    }

    /// The same for the host.
    fn deliver_to_host(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.connections.contains_key(&connection) {
            let landing = self.host.landing(connection).filter(|_| self.random.one_in(2));
            let most = landing.map_or(rest.len(), |place| rest.len().min(place.length as usize));
            let length = match self.random.one_in(2) {
                true => most,
                false => 1 + self.random.below(most as u64) as usize,
            };
            let (piece, behind) = rest.split_at(length);
            match landing {
                Some(place) => {
                    let length = length as u32;
                    self.memory
                        .bytes_mut(place.part(0, length))
                        .copy_from_slice(piece);
                    self.host
                        .handle_landed(self.now, connection, length, &mut self.memory);
                    self.landed_bytes_at_host += u64::from(length);
                }
                None => self
                    .host
                    .handle_received(self.now, connection, piece, &mut self.memory),
            }
            self.drain();
            rest = behind;
        }
    }

    fn open(&mut self, connection: ConnectionId) {
        let Some(live) = self.connections.get_mut(&connection) else {
            return;
        };
        let index = live.target;
        if !self.nodes[index].up {
            self.after_us(50, Happening::HostSeesClose(connection, CloseReason::Broken));
            return;
        }
        let accepted = ConnectionId(ConnectionId::ACCEPTED | self.next_accepted);
        self.next_accepted += 1;
        live.accepted = Some(accepted);
        self.nodes[index].target.accepted(self.now, accepted);
        self.after_us(20, Happening::Connected(connection));
    }

    fn close_at_target(&mut self, connection: ConnectionId) {
        let Some(live) = self.connections.get_mut(&connection) else {
            return;
        };
        if let Some(accepted) = live.accepted.take() {
            self.backlogs.remove(&(live.target, accepted));
            let node = &mut self.nodes[live.target];
            node.target.closed(self.now, accepted, &mut node.memory);
        }
    }

    /// Carries a request out on the disk: at once and whole, if the node is the owner.
    fn execute(&mut self, index: usize, request: Request) -> Status {
        if index != self.owner {
            return Status::Unavailable;
        }
        self.nodes[index].executed += 1;
        let start = request.range.start.0 as usize;
        let end = start + request.range.length.0 as usize;
        let memory = &mut self.nodes[index].memory;
        match request.operation {
            Operation::Read { buffer } => {
                for (chunk, value) in memory
                    .bytes_mut(buffer)
                    .chunks_exact_mut(BLOCK_SIZE as usize)
                    .zip(&self.disk[start..end])
                {
                    chunk.as_chunks_mut::<8>().0.fill(value.to_le_bytes());
                }
            }
            Operation::Write { buffer, .. } => {
                for (chunk, value) in memory
                    .bytes(buffer)
                    .chunks_exact(BLOCK_SIZE as usize)
                    .zip(&mut self.disk[start..end])
                {
                    *value = stamp_of(chunk).expect("no block is torn on its way to the disk");
                }
            }
            Operation::WriteZeroes { .. } | Operation::Deallocate => self.disk[start..end].fill(0),
            Operation::Flush => {}
        }
        Status::Success
    }

    /// Carries out what all machines ask for, until none asks.
    pub(crate) fn drain(&mut self) {
        loop {
            let mut moved = false;
            while let Some(output) = self.host.poll_output() {
                moved = true;
                self.carry_out_host(output);
            }
            for index in 0..self.nodes.len() {
                while let Some(output) = self.nodes[index].target.poll_output() {
                    moved = true;
                    self.carry_out_target(index, output);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn carry_out_host(&mut self, output: MultipathOutput) {
        match output {
            MultipathOutput::Connect { connection, address } => {
                let target = self.addresses.iter().position(|known| *known == address);
                let live = Connection {
                    target: target.expect("a known address"),
                    accepted: None,
                    to_target: Pipe::default(),
                    to_host: Pipe::default(),
                };
                let known = self.connections.insert(connection, live);
                assert!(known.is_none(), "{connection:?} was used before");
                let delay = self.random.below(self.setting.delay_us) + 1;
                self.after_us(delay, Happening::Connect(connection));
            }
            MultipathOutput::Send { connection, segment } => {
                let bytes = segment.into_bytes(&mut self.memory);
                self.send(connection, bytes, true);
            }
            MultipathOutput::Close { connection, .. } => {
                let delay = self.connections[&connection].to_target.busy_until.since(self.now);
                let delay_us = u64::try_from(delay.as_micros()).expect("soon") + 1;
                self.after_us(delay_us, Happening::TargetSeesClose(connection));
                self.connections
                    .get_mut(&connection)
                    .expect("looked up above")
                    .to_host
                    .stalled = true;
            }
            MultipathOutput::Event(MultipathEvent::Completed { tag, result }) => self.check(tag.0, result),
            MultipathOutput::Event(event) => self.events.push(event),
        }
    }

    fn carry_out_target(&mut self, index: usize, output: TargetOutput) {
        match output {
            TargetOutput::Send { connection, segment } => {
                let bytes = segment.into_bytes(&mut self.nodes[index].memory);
                if self.swallow_ana_events && is_ana_event(&bytes) {
                    return;
                }
                if let Some(name) = self.name_of(index, connection) {
                    self.send(name, bytes, false);
                }
            }
            TargetOutput::Close { connection, .. } => {
                if let Some(name) = self.name_of(index, connection) {
                    let live = self.connections.get_mut(&name).expect("just found");
                    live.accepted = None;
                    let at = live.to_host.busy_until.max(self.now);
                    if !live.to_host.stalled {
                        self.at(at, Happening::HostSeesClose(name, CloseReason::Peer));
                    }
                }
            }
            TargetOutput::Execute {
                io,
                nsid,
                subsystem,
                request,
                ..
            } => {
                assert_eq!((subsystem, nsid), (SUBSYSTEM, NSID));
                // Some take longer than a host takes to come back: their orphans must not undo what it does then (R8).
                let longest = if self.random.one_in(self.slow_one_in) {
                    40_000
                } else {
                    3_000
                };
                let delay = self.random.below(longest);
                let life = self.nodes[index].life;
                self.after_us(delay, Happening::Executed(index, life, io, request));
            }
            TargetOutput::PersistReservation { .. } => unreachable!("no reservations here"),
            TargetOutput::HandOver { .. } => unreachable!("each target is alone"),
            TargetOutput::HostsChanged { .. } => {}
        }
    }

    fn name_of(&self, index: usize, accepted: ConnectionId) -> Option<ConnectionId> {
        let found = self
            .connections
            .iter()
            .find(|(_, live)| live.target == index && live.accepted == Some(accepted));
        found.map(|(name, _)| *name)
    }

    /// Bytes go into a pipe, in pieces that arrive in order.
    fn send(&mut self, connection: ConnectionId, bytes: Vec<u8>, to_target: bool) {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            // Headers are chopped as finely as asked for, payloads into a few pieces more.
            let length = 1 + self.random.below(self.setting.chunk_bytes) as usize;
            let length = length.max(bytes.len() / 8);
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            rest = behind;
            let delay = Duration::from_micros(self.random.below(self.setting.delay_us));
            let now = self.now;
            let live = self.connections.get_mut(&connection).expect("a known connection");
            let pipe = if to_target {
                &mut live.to_target
            } else {
                &mut live.to_host
            };
            pipe.busy_until = pipe.busy_until.max(now + delay);
            pipe.sent_bytes += piece.len() as u64;
            let at = pipe.busy_until;
            let happening = match to_target {
                true => Happening::ToTarget(connection, piece.to_vec()),
                false => Happening::ToHost(connection, piece.to_vec()),
            };
            self.at(at, happening);
        }
    }

    /// Damages one bit of something that is under way, past initialisation; whether there was anything.
    pub(crate) fn damage(&mut self) -> bool {
        let candidates: Vec<(Time, u64)> = self
            .queue
            .iter()
            .filter(|(_, happening)| matches!(happening, Happening::ToTarget(..) | Happening::ToHost(..)))
            .map(|(key, _)| *key)
            .collect();
        if candidates.is_empty() {
            return false;
        }
        let key = self.random.pick(&candidates);
        let is_past_start = match &self.queue[&key] {
            Happening::ToTarget(connection, _) => self.is_past_start(*connection, true),
            Happening::ToHost(connection, _) => self.is_past_start(*connection, false),
            _ => unreachable!("listed above"),
        };
        if !is_past_start {
            return false;
        }
        let (at, bit) = (self.random.next(), self.random.below(8));
        match self.queue.get_mut(&key) {
            Some(Happening::ToTarget(_, bytes) | Happening::ToHost(_, bytes)) => {
                let at = at as usize % bytes.len();
                bytes[at] ^= 1 << bit;
            }
            _ => unreachable!("listed above"),
        }
        true
    }

    /// Whether all that is under way is behind the 128 bytes of ICReq or ICResp, which no digest covers.
    fn is_past_start(&self, connection: ConnectionId, to_target: bool) -> bool {
        let Some(live) = self.connections.get(&connection) else {
            return false;
        };
        let under_way: u64 = self
            .queue
            .values()
            .map(|happening| match happening {
                Happening::ToTarget(name, bytes) if *name == connection && to_target => bytes.len() as u64,
                Happening::ToHost(name, bytes) if *name == connection && !to_target => bytes.len() as u64,
                _ => 0,
            })
            .sum();
        let pipe = if to_target { &live.to_target } else { &live.to_host };
        pipe.sent_bytes - under_way >= 128
    }

    /// An operation has ended: it is checked against the history.
    fn check(&mut self, tag: u64, result: Result<u64, nvme::Status>) {
        let running = self.running.remove(&tag).expect("each operation ends once");
        let Running {
            command,
            value,
            began,
        } = running;
        let range = command.range();
        self.completed += 1;
        match result {
            Ok(_) if modifies(&command) => self.history.end(blocks_of(range), value, began, self.now),
            Ok(_) if command.reads() => {
                let bytes = self
                    .memory
                    .bytes(command.buffer().expect("a read has one"))
                    .to_vec();
                for (block, chunk) in blocks_of(range).zip(bytes.chunks_exact(BLOCK_SIZE as usize)) {
                    let read = stamp_of(chunk)
                        .unwrap_or_else(|| panic!("block {block} is torn: {:?}", &chunk[..16]));
                    assert!(
                        self.history.allows(block, read, began, self.now),
                        "block {block} cannot hold {read:#x} between {began:?} and {:?}",
                        self.now
                    );
                    self.checks += 1;
                }
            }
            Ok(_) if matches!(command, Command::Compare { .. }) => {
                for block in blocks_of(range) {
                    assert!(
                        self.history.allows(block, value, began, self.now),
                        "compare lied of block {block}"
                    );
                    self.checks += 1;
                }
            }
            Ok(_) => {}
            Err(status) => {
                assert!(!status.is_path_related(), "a path condition was told: {status}");
                self.failed.push(status);
            }
        }
        if let Some(slice) = command.buffer() {
            assert_eq!(self.memory.holders(slice.buffer), 1, "{command:?}");
            self.memory.release(slice.buffer);
        }
    }
}

/// Whether this is a response capsule that tells of an ANA change: type notice, information 3, log page 0Ch.
fn is_ana_event(bytes: &[u8]) -> bool {
    bytes.len() == 24 && bytes[0] == 5 && bytes[8..12] == [2, 3, 0x0C, 0]
}

pub(crate) fn namespace(blocks: u64, volume: VolumeId) -> NamespaceConfig {
    NamespaceConfig {
        uuid: volume.0,
        size_blocks: Blocks(blocks),
        ana_group: GROUP,
        hosts: BTreeSet::from([HOST_NQN.to_owned()]),
    }
}

fn modifies(command: &Command) -> bool {
    matches!(command, Command::Block(request) if request.operation.modifies())
}

fn is_advice(command: &Command) -> bool {
    matches!(command, Command::Block(request) if request.operation == Operation::Deallocate)
}

pub(crate) fn blocks_of(range: BlockRange) -> core::ops::Range<u64> {
    range.start.0..range.start.0 + range.length.0
}

/// Blocks full of a stamp.
pub(crate) fn stamped(blocks: u64, value: u64) -> Vec<u8> {
    value
        .to_le_bytes()
        .repeat((blocks * u64::from(BLOCK_SIZE) / 8) as usize)
}

/// The stamp that fills a block; `None` if it is torn.
pub(crate) fn stamp_of(block: &[u8]) -> Option<u64> {
    let words = block.as_chunks::<8>().0;
    let first = words[0];
    words
        .iter()
        .all(|word| *word == first)
        .then(|| u64::from_le_bytes(first))
}
