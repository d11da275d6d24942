//! A load on the disk node's machine and nothing else, for counting instructions: a host's association beside it, bytes carried
//! over in memory, disks that answer at once. `tests/bench/instructions` runs it under valgrind, where only what happens inside
//! of [`Machine::tell`] is counted: the machine (target included), its outputs, and this file's few lines of buffer keeping.
//!
//! What it deliberately is not: a measure of time, or of the engine.
#![forbid(unsafe_code)]

use block::{BufferId, BufferSlice, Memory, Operation, Request, Time};
use cluster::node_config::{DiskNodeConfig, LegConfig};
use cluster::{DiskId, DiskNodeId, Incarnation, LegId, Nqn, PoolId, Revision};
use disk_node::format::{DATA_OFFSET, Superblock};
use disk_node::node::{GivenDisk, Node, NodeControl, NodeOptions};
use fabric::driver::{ConnectionId, DiskRequestId, Event, ListenerId, Machine as _, Output, Segment};
use fabric::host::{
    Association, AssociationConfig, AssociationEvent, AssociationOutput, Command, ConnectionIdRanges, Tag,
};
use fabric::target::TargetConfig;
use std::collections::BTreeMap;
use uuid::Uuid;

const DISK: DiskId = DiskId(Uuid::from_u128(0xd15c));
const NODE: DiskNodeId = DiskNodeId(Uuid::from_u128(0x0d15_c0de));
const EXTENT: u64 = 4 << 20;
const HOST: &str = "nqn.2026-11.io.trestle:host";
/// Requests in flight.
const DEPTH: u64 = 32;
/// Legs beside the one under load, so that tables are not empty.
const NEIGHBOURS: u32 = 30;

/// Buffers of one size, lent and counted in a handful of instructions.
struct Buffers {
    bytes: Vec<u8>,
    counts: Vec<u32>,
    free: Vec<u32>,
}

/// The longest buffer: a slot of an extent table.
const BUFFER_BYTES: usize = disk_node::format::SLOT_BYTES as usize;

impl Buffers {
    fn new(count: u32) -> Buffers {
        Buffers {
            bytes: vec![0; BUFFER_BYTES * count as usize],
            counts: vec![0; count as usize],
            free: (0..count).collect(),
        }
    }
}

fn range(slice: BufferSlice) -> std::ops::Range<usize> {
    let from = slice.buffer.0 as usize * BUFFER_BYTES + slice.offset as usize;
    from..from + slice.length as usize
}

impl Memory for Buffers {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        assert!(length as usize <= BUFFER_BYTES, "{length} bytes are asked for");
        let buffer = self.free.pop()?;
        self.counts[buffer as usize] = 1;
        Some(BufferSlice {
            buffer: BufferId(buffer),
            offset: 0,
            length,
        })
    }
    fn retain(&mut self, buffer: BufferId) {
        self.counts[buffer.0 as usize] += 1;
    }
    fn release(&mut self, buffer: BufferId) {
        let count = &mut self.counts[buffer.0 as usize];
        *count -= 1;
        if *count == 0 {
            self.free.push(buffer.0);
        }
    }
    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        &self.bytes[range(slice)]
    }
    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        &mut self.bytes[range(slice)]
    }
}

/// The machine, and what it asked for.
struct Machine {
    node: Node,
    memory: Buffers,
    asked: Vec<DiskRequestId>,
    answering: Vec<DiskRequestId>,
    sent: Vec<(ConnectionId, Segment)>,
}

impl Machine {
    /// One event, then all outputs: what is counted.
    #[inline(never)]
    fn tell(&mut self, event: Event<'_, NodeControl>) {
        self.node.handle(Time::from_millis(1), event, &mut self.memory);
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Disk { request, .. } => self.asked.push(request),
                Output::Send { connection, segment } => self.sent.push((connection, segment)),
                _ => {}
            }
        }
    }

    /// The disks answer, until they are asked nothing more.
    fn answer(&mut self) {
        while !self.asked.is_empty() {
            std::mem::swap(&mut self.asked, &mut self.answering);
            while let Some(request) = self.answering.pop() {
                self.tell(Event::DiskCompleted {
                    request,
                    result: Ok(()),
                });
            }
        }
    }
}

fn options() -> NodeOptions {
    let size_bytes = DATA_OFFSET + 64 * EXTENT;
    let born = Superblock::fresh(DISK, Some(NODE), size_bytes, EXTENT).expect("an extent fits");
    NodeOptions {
        node: NODE,
        incarnation: Incarnation(Uuid::nil()),
        reactor: None,
        disks: vec![GivenDisk {
            path: "memory".to_owned(),
            volatile: true,
            size_bytes,
            born: Some(born),
            fault: None,
        }],
        target: TargetConfig::default(),
    }
}

fn config() -> DiskNodeConfig {
    let legs = (1..=NEIGHBOURS + 1).map(|number| LegConfig {
        leg: LegId(Uuid::from_u128(number.into())),
        disk: DISK,
        nsid: number,
        extents: 2,
        hosts: [Nqn(HOST.to_owned())].into(),
    });
    DiskNodeConfig {
        node: NODE,
        revision: Revision(1),
        legs: BTreeMap::from([(PoolId(Uuid::nil()), legs.collect())]),
    }
}

/// The host, its connections joined to the machine's.
struct Load {
    machine: Machine,
    host: Association,
    memory: Buffers,
    names: BTreeMap<ConnectionId, ConnectionId>,
    ended: u64,
}

impl Load {
    fn new() -> Load {
        let mut machine = Machine {
            node: Node::new(options()),
            memory: Buffers::new(128),
            asked: Vec::new(),
            answering: Vec::new(),
            sent: Vec::new(),
        };
        machine.tell(Event::Timeout);
        machine.tell(Event::Control(NodeControl::Apply(config())));
        machine.answer();
        let address = "10.0.0.1:4420".parse().expect("an address");
        let config = AssociationConfig::new(HOST, [7; 16], &DISK.subsystem_nqn().0, address);
        let mut load = Load {
            machine,
            host: Association::new(config, ConnectionIdRanges::new().take()),
            memory: Buffers::new(64),
            names: BTreeMap::new(),
            ended: 0,
        };
        load.host.connect(Time::from_millis(1));
        while load.turn() {}
        assert!(load.host.is_ready(), "the host is connected");
        load
    }

    /// What the host said goes to the machine, connection by connection in one piece; what the machine said comes back.
    fn turn(&mut self) -> bool {
        let mut bytes: BTreeMap<ConnectionId, Vec<u8>> = BTreeMap::new();
        let mut opened = Vec::new();
        while let Some(output) = self.host.poll_output() {
            match output {
                AssociationOutput::Connect { connection, .. } => opened.push(connection),
                AssociationOutput::Send { connection, segment } => {
                    unwrap(segment, &mut self.memory, bytes.entry(connection).or_default());
                }
                AssociationOutput::Event(AssociationEvent::Completed { tag, result }) => {
                    result.unwrap_or_else(|status| panic!("{tag:?}: {status}"));
                    self.ended += 1;
                }
                AssociationOutput::Event(_) => {}
                AssociationOutput::Close { connection, .. } => panic!("{connection:?} is closed"),
            }
        }
        let busy = !opened.is_empty() || !bytes.is_empty();
        for connection in opened {
            self.open(connection);
        }
        for (connection, bytes) in bytes {
            let connection = self.names[&connection];
            self.machine.tell(Event::Received {
                connection,
                bytes: &bytes,
            });
        }
        self.machine.answer();
        self.bring_back() || busy
    }

    fn open(&mut self, connection: ConnectionId) {
        let accepted = ConnectionId(ConnectionId::ACCEPTED | self.names.len() as u64);
        self.names.insert(connection, accepted);
        self.machine.tell(Event::Accepted {
            connection: accepted,
            listener: ListenerId(0),
        });
        self.host
            .handle_connected(Time::from_millis(1), connection, &mut self.memory);
    }

    fn bring_back(&mut self) -> bool {
        let mut bytes: BTreeMap<ConnectionId, Vec<u8>> = BTreeMap::new();
        for (connection, segment) in self.machine.sent.drain(..) {
            unwrap(
                segment,
                &mut self.machine.memory,
                bytes.entry(connection).or_default(),
            );
        }
        for (name, accepted) in &self.names {
            if let Some(bytes) = bytes.get(accepted) {
                self.host
                    .handle_received(Time::from_millis(1), *name, bytes, &mut self.memory);
            }
        }
        !bytes.is_empty()
    }

    fn run(&mut self, operations: u64, writes: bool) {
        let mut begun = self.ended;
        let end = begun + operations;
        while self.ended < end {
            while begun < end && begun - self.ended < DEPTH {
                let buffer = self.memory.allocate(block::BLOCK_SIZE).expect("enough of them");
                let durable = false;
                let operation = match writes {
                    true => Operation::Write { buffer, durable },
                    false => Operation::Read { buffer },
                };
                let range = block::BlockRange::new(begun * 7 % 2048, 1);
                let command = Command::Block(Request { operation, range });
                let nsid = NEIGHBOURS / 2;
                let taken =
                    self.host
                        .submit(Time::from_millis(1), nsid, Tag(begun), command, &mut self.memory);
                assert!(taken.is_ok(), "there is room in the queue");
                self.memory.release(buffer.buffer);
                begun += 1;
            }
            let before = self.ended;
            assert!(self.turn() || self.ended > before, "it goes on");
        }
    }
}

fn unwrap(segment: Segment, memory: &mut Buffers, into: &mut Vec<u8>) {
    match segment {
        Segment::Bytes(bytes) => into.extend_from_slice(&bytes),
        Segment::Payload { before, payload } => {
            into.extend_from_slice(&before);
            into.extend_from_slice(memory.bytes(payload));
            memory.release(payload.buffer);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let usage = "usage: disk-node-load read|write OPERATIONS";
    let writes = match arguments.get(1).map(String::as_str) {
        Some("read") => false,
        Some("write") => true,
        _ => panic!("{usage}"),
    };
    let operations = arguments
        .get(2)
        .and_then(|count| count.parse().ok())
        .expect(usage);
    let mut load = Load::new();
    load.run(operations, writes);
    println!("{} ended", load.ended);
}
