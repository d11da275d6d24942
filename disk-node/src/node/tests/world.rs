//! A disk node, its disks, and hosts on wires between them, in virtual time.

use super::disk::SimDisk;
use crate::format::{self, Superblock};
use crate::node::{GivenDisk, Node, NodeControl, NodeOptions, NodeReport, Place, Places};
use block::{BLOCK_SIZE, BlockRange, BufferId, BufferSlice, Duration, Memory, Operation, Request, Time};
use cluster::node_config::{DiskNodeConfig, LegConfig};
use cluster::status::{DiskStatus, LegState};
use cluster::{DiskId, DiskNodeId, Incarnation, LegId, Nqn, PoolId, Revision};
use fabric::driver::{
    CloseReason, ConnectionId, DiskOperation, DiskRequestId, Event, ListenerId, Machine, Output, ReactorIndex,
};
use fabric::host::{
    Association, AssociationConfig, AssociationEvent, AssociationOutput, Command, ConnectionIdRanges, Lost,
    Reservation, Tag,
};
use fabric::target::TargetConfig;
use nvme::reservation::{AcquireAction, PersistThroughPowerLoss, RegisterAction, ReservationType};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use uuid::Uuid;

pub(super) const MIB: u64 = 1 << 20;
pub(super) const EXTENT: u64 = 4 * MIB;
pub(super) const NODE: DiskNodeId = DiskNodeId(Uuid::from_u128(0x0d15_c0de));

pub(super) fn disk_id(number: u128) -> DiskId {
    DiskId(Uuid::from_u128(0xd000 + number))
}

pub(super) fn leg_id(number: u128) -> LegId {
    LegId(Uuid::from_u128(0x1e60 + number))
}

pub(super) fn host_nqn(number: u8) -> String {
    format!("nqn.2026-11.io.trestle:controller-node:{number}")
}

/// Buffers, counted.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    entries: BTreeMap<u32, (u32, Vec<u8>)>,
    last: u32,
    pub(super) exhausted: bool,
}

impl Buffers {
    pub(super) fn held(&self) -> usize {
        self.entries.len()
    }
}

fn range(slice: BufferSlice) -> std::ops::Range<usize> {
    slice.offset as usize..(slice.offset + slice.length) as usize
}

impl Memory for Buffers {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        if self.exhausted {
            return None;
        }
        self.last += 1;
        self.entries.insert(self.last, (1, vec![0xEE; length as usize]));
        Some(BufferSlice {
            buffer: BufferId(self.last),
            offset: 0,
            length,
        })
    }
    fn retain(&mut self, buffer: BufferId) {
        self.entries.get_mut(&buffer.0).expect("held by somebody").0 += 1;
    }
    fn release(&mut self, buffer: BufferId) {
        let entry = self.entries.get_mut(&buffer.0).expect("held by somebody");
        entry.0 -= 1;
        if entry.0 == 0 {
            self.entries.remove(&buffer.0);
        }
    }
    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        &self.entries[&slice.buffer.0].1[range(slice)]
    }
    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        &mut self.entries.get_mut(&slice.buffer.0).expect("held by somebody").1[range(slice)]
    }
}

/// What travels to one end of a connection.
#[derive(Debug)]
enum Letter {
    Open,
    Bytes(Vec<u8>),
    Close(CloseReason),
}

/// A connection: its host and its name there; its name at the node.
#[derive(Debug)]
struct Wire {
    host: usize,
    at_host: ConnectionId,
    at_node: ConnectionId,
    to_host: VecDeque<Letter>,
    to_node: VecDeque<Letter>,
}

/// An answer to a host.
pub(super) type Answer = Result<Vec<u8>, nvme::Status>;

#[derive(Debug)]
pub(super) struct SimHost {
    pub(super) association: Association,
    memory: Buffers,
    reads: BTreeMap<u64, BufferSlice>,
    last_tag: u64,
    pub(super) answers: BTreeMap<u64, Answer>,
    /// Why there is no association, or was none before this one.
    pub(super) lost: Option<Lost>,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) rng: StdRng,
    pub(super) node: Node,
    pub(super) memory: Buffers,
    pub(super) disks: Vec<SimDisk>,
    pub(super) pending: Vec<(usize, DiskRequestId, DiskOperation)>,
    /// Disks that do not answer.
    pub(super) stuck: Vec<usize>,
    /// To whom connections went.
    pub(super) handed_over: Vec<ReactorIndex>,
    pub(super) hosts: Vec<SimHost>,
    pub(super) ids: ConnectionIdRanges,
    wires: Vec<Wire>,
    accepted: u64,
    pub(super) reports: Vec<NodeReport>,
    pub(super) revision: u64,
    starts: u128,
}

/// A formatted disk of so many extents, with old data in them.
pub(super) fn formatted(number: u128, extents: u64, node: Option<DiskNodeId>) -> SimDisk {
    let size_bytes = format::DATA_OFFSET + extents * EXTENT;
    let mut disk = SimDisk::new(size_bytes);
    let superblock = Superblock::fresh(disk_id(number), node, size_bytes, EXTENT).unwrap();
    for (offset, bytes) in format::formatting(&superblock) {
        disk.put(offset, &bytes);
    }
    disk
}

fn options(disks: &[SimDisk], start: u128) -> NodeOptions {
    let given = |(index, disk): (usize, &SimDisk)| GivenDisk {
        path: format!("/dev/sim{index}"),
        volatile: false,
        size_bytes: disk.size_bytes,
        born: None,
        fault: None,
    };
    NodeOptions {
        node: NODE,
        incarnation: Incarnation(Uuid::from_u128(start)),
        reactor: None,
        disks: disks.iter().enumerate().map(given).collect(),
        target: TargetConfig::default(),
    }
}

pub(super) fn leg(number: u128, disk: u128, extents: u64, hosts: &[u8]) -> LegConfig {
    LegConfig {
        leg: leg_id(number),
        disk: disk_id(disk),
        nsid: number as u32,
        extents,
        hosts: hosts.iter().map(|host| Nqn(host_nqn(*host))).collect(),
    }
}

impl World {
    pub(super) fn new(disks: Vec<SimDisk>) -> World {
        World::seeded(disks, 1)
    }

    pub(super) fn seeded(disks: Vec<SimDisk>, seed: u64) -> World {
        World {
            now: Time::from_millis(1),
            rng: StdRng::seed_from_u64(seed),
            node: Node::new(options(&disks, 1)),
            memory: Buffers::default(),
            disks,
            pending: Vec::new(),
            stuck: Vec::new(),
            handed_over: Vec::new(),
            hosts: Vec::new(),
            ids: ConnectionIdRanges::new(),
            wires: Vec::new(),
            accepted: 0,
            reports: Vec::new(),
            revision: 0,
            starts: 1,
        }
    }

    /// One of several machines of a node, the first.
    pub(super) fn sharing(disks: Vec<SimDisk>) -> World {
        let options = NodeOptions {
            reactor: Some(ReactorIndex(0)),
            ..options(&disks, 1)
        };
        World {
            node: Node::new(options),
            ..World::new(disks)
        }
    }

    /// Says where disks are, and of which there are two.
    pub(super) fn place(&mut self, disks: &[(u128, u32)], copies: &[u128]) {
        let place = |(disk, reactor): &(u128, u32)| {
            let (reactor, hosts) = (ReactorIndex(*reactor), [host_nqn(1)].into());
            (disk_id(*disk), Place { reactor, hosts })
        };
        let places = Places {
            disks: disks.iter().map(place).collect(),
            copies: copies.iter().map(|disk| disk_id(*disk)).collect(),
            portals: Default::default(),
        };
        self.tell(Event::Control(NodeControl::Places(places)));
    }

    /// One that has read its disks.
    pub(super) fn booted(disks: Vec<SimDisk>) -> World {
        let mut world = World::new(disks);
        world.settle();
        world
    }

    pub(super) fn apply(&mut self, legs: Vec<LegConfig>) {
        self.revision += 1;
        self.apply_revision(self.revision, legs);
    }

    pub(super) fn apply_revision(&mut self, revision: u64, legs: Vec<LegConfig>) {
        let config = DiskNodeConfig {
            node: NODE,
            revision: Revision(revision),
            legs: [(PoolId(Uuid::nil()), legs)].into(),
        };
        self.tell(Event::Control(NodeControl::Apply(config)));
    }

    /// The node's process and the disks' caches are no more; it is started again.
    pub(super) fn crash(&mut self) {
        for (disk, _, operation) in std::mem::take(&mut self.pending) {
            if self.rng.random_bool(0.5) {
                self.disks[disk].tear(&operation, &self.memory);
            }
        }
        for disk in &mut self.disks {
            disk.lose_power(&mut self.rng);
        }
        self.restart();
    }

    /// The node's process is started again; what it asked of its disks is done or not.
    pub(super) fn restart(&mut self) {
        self.pending.clear();
        self.starts += 1;
        self.memory = Buffers::default();
        self.node = Node::new(options(&self.disks, self.starts));
        for wire in &mut self.wires {
            wire.to_node.clear();
            wire.to_host.push_back(Letter::Close(CloseReason::Broken));
        }
    }

    // The loop.

    fn tell(&mut self, event: Event<'_, NodeControl>) {
        self.node.handle(self.now, event, &mut self.memory);
        while let Some(output) = self.node.poll_output() {
            self.take(output);
        }
    }

    fn take(&mut self, output: Output<NodeReport>) {
        match output {
            Output::Disk {
                request,
                disk,
                operation,
            } => self.pending.push((disk.0 as usize, request, operation)),
            Output::Report(report) => self.reports.push(*report),
            Output::Send { connection, segment } => {
                let bytes = segment.into_bytes(&mut self.memory);
                if let Some(wire) = self.wires.iter_mut().find(|wire| wire.at_node == connection) {
                    wire.to_host.push_back(Letter::Bytes(bytes));
                }
            }
            Output::Close { connection, .. } => {
                if let Some(wire) = self.wires.iter_mut().find(|wire| wire.at_node == connection) {
                    wire.to_host.push_back(Letter::Close(CloseReason::Peer));
                }
            }
            Output::HandOver { reactor, .. } => self.handed_over.push(reactor),
            Output::Connect { .. } => panic!("a disk node opens no connections"),
        }
    }

    /// One thing that is due happens; false if nothing is.
    pub(super) fn step(&mut self) -> bool {
        let ready: Vec<usize> = self
            .pending
            .iter()
            .enumerate()
            .filter(|(_, (disk, ..))| !self.stuck.contains(disk))
            .map(|(index, _)| index)
            .collect();
        let letters: Vec<(usize, bool)> = self
            .wires
            .iter()
            .enumerate()
            .flat_map(|(index, wire)| {
                let host = (!wire.to_host.is_empty()).then_some((index, true));
                let node = (!wire.to_node.is_empty()).then_some((index, false));
                [host, node].into_iter().flatten()
            })
            .collect();
        let choices = ready.len() + letters.len();
        if choices == 0 {
            return self.tell_timeouts();
        }
        let choice = self.rng.random_range(0..choices);
        match letters.get(choice) {
            Some((wire, true)) => self.deliver_to_host(*wire),
            Some((wire, false)) => self.deliver_to_node(*wire),
            None => self.complete(ready[choice - letters.len()]),
        }
        true
    }

    fn tell_timeouts(&mut self) -> bool {
        let due = |timeout: Option<Time>| timeout.is_some_and(|at| at <= self.now);
        let node = due(self.node.next_timeout());
        let hosts: Vec<usize> = (0..self.hosts.len())
            .filter(|host| due(self.hosts[*host].association.next_timeout()))
            .collect();
        if node {
            self.tell(Event::Timeout);
        }
        for host in &hosts {
            let entry = &mut self.hosts[*host];
            entry.association.handle_timeout(self.now, &mut entry.memory);
            self.take_host(*host);
        }
        node || !hosts.is_empty()
    }

    /// Until nothing is due at this moment.
    pub(super) fn settle(&mut self) {
        for _ in 0..200_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    pub(super) fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            self.settle();
            let next = self
                .hosts
                .iter()
                .filter_map(|host| host.association.next_timeout())
                .chain(self.node.next_timeout())
                .min();
            match next {
                Some(next) if next <= until => self.now = next.max(self.now),
                _ => break,
            }
        }
        self.now = until;
        self.settle();
    }

    pub(super) fn complete(&mut self, index: usize) {
        let (disk, request, operation) = self.pending.swap_remove(index);
        let result = self.disks[disk].execute(&operation, &mut self.memory);
        self.tell(Event::DiskCompleted { request, result });
    }

    fn deliver_to_node(&mut self, wire: usize) {
        let connection = self.wires[wire].at_node;
        match self.wires[wire]
            .to_node
            .pop_front()
            .expect("chosen for having one")
        {
            Letter::Open => self.tell(Event::Accepted {
                connection,
                listener: ListenerId(0),
            }),
            Letter::Bytes(bytes) => self.tell(Event::Received {
                connection,
                bytes: &bytes,
            }),
            Letter::Close(reason) => {
                self.wires.remove(wire);
                self.tell(Event::Closed { connection, reason });
            }
        }
    }

    fn deliver_to_host(&mut self, wire: usize) {
        let (host, connection) = (self.wires[wire].host, self.wires[wire].at_host);
        let letter = self.wires[wire]
            .to_host
            .pop_front()
            .expect("chosen for having one");
        let SimHost {
            association, memory, ..
        } = &mut self.hosts[host];
        match letter {
            Letter::Open => association.handle_connected(self.now, connection, memory),
            Letter::Bytes(bytes) => association.handle_received(self.now, connection, &bytes, memory),
            Letter::Close(reason) => {
                self.wires.remove(wire);
                association.handle_closed(self.now, connection, reason, memory);
            }
        }
        self.take_host(host);
    }

    fn take_host(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].association.poll_output() {
            match output {
                AssociationOutput::Connect { connection, .. } => self.open_wire(host, connection),
                AssociationOutput::Send { connection, segment } => {
                    let bytes = segment.into_bytes(&mut self.hosts[host].memory);
                    if let Some(wire) = self.wires.iter_mut().find(|wire| wire.at_host == connection) {
                        wire.to_node.push_back(Letter::Bytes(bytes));
                    }
                }
                AssociationOutput::Close { connection, .. } => {
                    if let Some(wire) = self.wires.iter_mut().find(|wire| wire.at_host == connection) {
                        wire.to_node.push_back(Letter::Close(CloseReason::Peer));
                    }
                }
                AssociationOutput::Event(event) => self.hosts[host].note(event),
            }
        }
    }

    fn open_wire(&mut self, host: usize, at_host: ConnectionId) {
        self.accepted += 1;
        self.wires.push(Wire {
            host,
            at_host,
            at_node: ConnectionId(ConnectionId::ACCEPTED | self.accepted),
            to_host: [Letter::Open].into(),
            to_node: [Letter::Open].into(),
        });
    }

    // What tests ask.

    /// A host that connects to a disk's subsystem.
    pub(super) fn host(&mut self, number: u8, disk: u128) -> usize {
        let id = [number; 16];
        let subsystem = disk_id(disk).subsystem_nqn().0;
        let config = AssociationConfig {
            kato_ms: 0,
            command_timeout: Duration::from_secs(1000),
            ..AssociationConfig::new(
                &host_nqn(number),
                id,
                &subsystem,
                "10.0.0.1:4420".parse().unwrap(),
            )
        };
        let mut association = Association::new(config, self.ids.take());
        association.connect(self.now);
        self.hosts.push(SimHost {
            association,
            memory: Buffers::default(),
            reads: BTreeMap::new(),
            last_tag: 0,
            answers: BTreeMap::new(),
            lost: None,
        });
        let host = self.hosts.len() - 1;
        self.take_host(host);
        host
    }

    /// A host that is connected to the first disk when this returns.
    pub(super) fn connected(&mut self, number: u8) -> usize {
        self.connected_to(1, number)
    }

    /// A host that is connected to a disk when this returns.
    pub(super) fn connected_to(&mut self, disk: u128, number: u8) -> usize {
        let host = self.host(number, disk);
        self.pass(Duration::from_secs(5));
        assert!(
            self.hosts[host].association.is_ready(),
            "host {number} is connected"
        );
        host
    }

    pub(super) fn submit(
        &mut self,
        host: usize,
        nsid: u32,
        command: impl FnOnce(&mut Buffers) -> Command,
    ) -> Option<u64> {
        let entry = &mut self.hosts[host];
        let command = command(&mut entry.memory);
        entry.last_tag += 1;
        let tag = entry.last_tag;
        let taken = entry
            .association
            .submit(self.now, nsid, Tag(tag), command, &mut entry.memory)
            .is_ok();
        match command.buffer() {
            Some(buffer) if taken && command.reads() => drop(entry.reads.insert(tag, buffer)),
            Some(buffer) => entry.memory.release(buffer.buffer),
            None => {}
        }
        self.take_host(host);
        taken.then_some(tag)
    }

    /// Submits, and waits for the answer.
    pub(super) fn ask(
        &mut self,
        host: usize,
        nsid: u32,
        command: impl FnOnce(&mut Buffers) -> Command,
    ) -> Answer {
        let tag = self
            .submit(host, nsid, command)
            .expect("the association is ready");
        self.settle();
        self.hosts[host].answers.remove(&tag).expect("answered")
    }

    pub(super) fn read(&mut self, host: usize, nsid: u32, start: u64, blocks: u64) -> Answer {
        self.ask(host, nsid, |memory| read(memory, start, blocks))
    }

    pub(super) fn write(&mut self, host: usize, nsid: u32, start: u64, blocks: u64, fill: u8) -> Answer {
        self.ask(host, nsid, |memory| write(memory, start, blocks, fill))
    }

    /// As a new owner does (R2): register the key, then preempt and abort.
    pub(super) fn fence(&mut self, host: usize, nsid: u32, key: u64) -> Answer {
        self.ask(host, nsid, |_| register(key))?;
        self.ask(host, nsid, |_| acquire(key))
    }

    pub(super) fn status(&self) -> &cluster::status::DiskNodeStatus {
        &self.reports.last().expect("something was reported").status
    }

    pub(super) fn disk_status(&self, disk: usize) -> &DiskStatus {
        &self.status().disks[disk]
    }

    pub(super) fn fault(&self, disk: usize) -> String {
        self.disk_status(disk).fault.clone().expect("the disk is faulty")
    }

    pub(super) fn leg_state(&self, number: u128) -> LegState {
        let found = self.status().legs.iter().find(|leg| leg.leg == leg_id(number));
        found.expect("the leg is in the status").state.clone()
    }

    pub(super) fn failure(&self, number: u128) -> String {
        match self.leg_state(number) {
            LegState::Failed { reason } => reason,
            other => panic!("leg {number} has not failed: {other:?}"),
        }
    }

    pub(super) fn ready(&self, number: u128) -> bool {
        self.leg_state(number) == LegState::Ready
    }
}

impl SimHost {
    fn note(&mut self, event: AssociationEvent) {
        match event {
            AssociationEvent::Completed { tag, result } => {
                let read = self.reads.remove(&tag.0).map(|slice| {
                    let bytes = self.memory.bytes(slice).to_vec();
                    self.memory.release(slice.buffer);
                    bytes
                });
                self.answers
                    .insert(tag.0, result.map(|_| read.unwrap_or_default()));
            }
            AssociationEvent::Lost { reason } => self.lost = Some(reason),
            _ => {}
        }
    }
}

fn request(operation: Operation, start: u64, blocks: u64) -> Command {
    Command::Block(Request {
        operation,
        range: BlockRange::new(start, blocks),
    })
}

pub(super) fn read(memory: &mut Buffers, start: u64, blocks: u64) -> Command {
    let buffer = memory.allocate(blocks as u32 * BLOCK_SIZE).unwrap();
    request(Operation::Read { buffer }, start, blocks)
}

/// Durable.
pub(super) fn write(memory: &mut Buffers, start: u64, blocks: u64, fill: u8) -> Command {
    let buffer = memory.allocate(blocks as u32 * BLOCK_SIZE).unwrap();
    memory.bytes_mut(buffer).fill(fill);
    request(
        Operation::Write {
            buffer,
            durable: true,
        },
        start,
        blocks,
    )
}

pub(super) fn flush() -> Command {
    request(Operation::Flush, 0, 0)
}

pub(super) fn write_zeroes(start: u64, blocks: u64, durable: bool) -> Command {
    request(
        Operation::WriteZeroes {
            deallocate: true,
            durable,
        },
        start,
        blocks,
    )
}

pub(super) fn deallocate(start: u64, blocks: u64) -> Command {
    request(Operation::Deallocate, start, blocks)
}

pub(super) fn register(key: u64) -> Command {
    Command::Reservation(Reservation::Register {
        action: RegisterAction::Register,
        current_key: 0,
        new_key: key,
        ignore_existing: true,
        persist: PersistThroughPowerLoss::Persist,
    })
}

pub(super) fn acquire(key: u64) -> Command {
    Command::Reservation(Reservation::Acquire {
        action: AcquireAction::PreemptAndAbort,
        kind: ReservationType::ExclusiveAccessRegistrantsOnly,
        current_key: key,
        preempt_key: 0,
    })
}
