//! What a command costs in the target: a socket's bytes in, an answer's segments out, and nothing else around it.
//!
//! ```sh
//! cargo build --release -p fabric --example target_cost
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*turn*' \
//!     target/release/examples/target_cost read 20000
//! ```
//!
//! and divide the instructions collected by the commands. Kinds: `read`, `write` (4 KiB, in the capsule), `long` (128 KiB
//! writes, asked for by R2T; the payload's bytes are brought), `land` (the same, received where they belong). The time
//! that is printed is the fastest of many turns: other work on the machine spoils it, instructions it does not.

use block::{BufferId, BufferSlice, Duration, Memory, Time};
use fabric::driver::{ConnectionId, Segment};
use fabric::target::{
    AnaState, IoId, NamespaceConfig, SubsystemConfig, SubsystemKey, Target, TargetConfig, TargetOutput,
};
use fabric::tcp::framing::{FLAG_LAST, FrameWriter, PduType};
use nvme::command::{Connect, LogicalBlocks, PropertySet, PropertySize, Read, SetFeatures, Write};
use nvme::connect::ConnectParameters;
use nvme::feature::{FeatureIdentifier, NumberOfQueues};
use nvme::property::Configuration;
use nvme::{
    AdminCommand, Cid, Cntlid, FabricsCommand, HostId, IoCommand, Nqn, Nsid, Qid, Sgl, SubmissionQueueEntry,
    ZeroBased,
};
use std::collections::BTreeSet;
use std::time::Instant;

const KEY: SubsystemKey = SubsystemKey(3);
const NSID: u32 = 1;
const SUBSYSTEM: &str = "nqn.2025-01.example:cost";
const HOST: &str = "nqn.2025-01.example:host";
const DEPTH: u16 = 32;
const LONG: u32 = 128 << 10;
const ADMIN: ConnectionId = ConnectionId(ConnectionId::ACCEPTED);
const QUEUE: ConnectionId = ConnectionId(ConnectionId::ACCEPTED | 1);

/// Buffers of one length, cheap to give and to take.
struct Pool {
    bytes: Vec<u8>,
    holders: Vec<u32>,
    free: Vec<u32>,
}

impl Pool {
    fn new() -> Pool {
        let buffers = 2 * u32::from(DEPTH);
        Pool {
            bytes: vec![0; (buffers * LONG) as usize],
            holders: vec![0; buffers as usize],
            free: (0..buffers).collect(),
        }
    }
}

impl Memory for Pool {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        let buffer = self.free.pop()?;
        self.holders[buffer as usize] = 1;
        Some(BufferSlice {
            buffer: BufferId(buffer),
            offset: 0,
            length,
        })
    }
    fn retain(&mut self, buffer: BufferId) {
        self.holders[buffer.0 as usize] += 1;
    }
    fn release(&mut self, buffer: BufferId) {
        self.holders[buffer.0 as usize] -= 1;
        if self.holders[buffer.0 as usize] == 0 {
            self.free.push(buffer.0);
        }
    }
    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        let from = (slice.buffer.0 * LONG + slice.offset) as usize;
        &self.bytes[from..from + slice.length as usize]
    }
    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        let from = (slice.buffer.0 * LONG + slice.offset) as usize;
        &mut self.bytes[from..from + slice.length as usize]
    }
}

struct Bench {
    target: Target,
    memory: Pool,
    now: Time,
    executed: Vec<IoId>,
    /// Transfer tags that were handed out, with their commands.
    solicited: Vec<(u16, u16)>,
    answers: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or("read".to_owned());
    let commands: u64 = arguments
        .next()
        .map_or(200_000, |count| count.parse().expect("a count"));
    let mut bench = Bench::new();
    let turns = commands / u64::from(DEPTH);
    let capsules = capsules(&kind);
    let payload = vec![0x5a; LONG as usize];
    let mut fastest = Duration::MAX;
    for _ in 0..turns {
        bench.now = bench.now + Duration::from_micros(30);
        let began = Instant::now();
        match kind.as_str() {
            "long" | "land" => bench.turn_long(&capsules, &payload, kind == "land"),
            _ => bench.turn(&capsules),
        }
        fastest = fastest.min(began.elapsed());
    }
    assert_eq!(bench.answers, turns * u64::from(DEPTH));
    let each = fastest.as_nanos() as u64 / u64::from(DEPTH);
    println!("{kind}: {} commands, {each} ns each at best", bench.answers);
}

/// As many commands as the queue is deep, as a socket brings them.
fn capsules(kind: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cid in 0..DEPTH {
        let blocks =
            |count: u16| LogicalBlocks::new(u64::from(cid) * 64, ZeroBased::<u16>::from_raw(count - 1));
        let read = Read {
            blocks: blocks(1),
            dataset_management: 0,
        };
        let (command, sgl, data) = match kind {
            "read" => (IoCommand::Read(read), Sgl::Transport { length: 4096 }, 0),
            "write" => {
                let sgl = Sgl::InCapsule {
                    offset: 0,
                    length: 4096,
                };
                (IoCommand::Write(Write::new(blocks(1))), sgl, 4096)
            }
            _ => {
                let write = Write::new(blocks((LONG / 4096) as u16));
                (IoCommand::Write(write), Sgl::Transport { length: LONG }, 0)
            }
        };
        bytes.extend(capsule(
            &command.encode(Cid(cid), Nsid(NSID), sgl),
            &vec![0x5a; data],
        ));
    }
    bytes
}

fn capsule(entry: &SubmissionQueueEntry, data: &[u8]) -> Vec<u8> {
    let writer = FrameWriter::default();
    let mut bytes = writer
        .before_data(PduType::CapsuleCmd, 0, entry.as_bytes(), data.len() as u32)
        .to_vec();
    bytes.extend(data);
    bytes
}

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench {
            target: Target::new(TargetConfig::default()),
            memory: Pool::new(),
            now: Time::from_millis(1),
            executed: Vec::new(),
            solicited: Vec::new(),
            answers: 0,
        };
        bench.configure();
        bench.open(ADMIN, 0, Cntlid::DYNAMIC);
        let enable = PropertySet {
            size: PropertySize::Four,
            offset: 0x14,
            value: Configuration::ENABLE.encode().into(),
        };
        bench.call(
            ADMIN,
            &FabricsCommand::PropertySet(enable).encode(Cid(2), Sgl::NONE),
        );
        let queues = NumberOfQueues::pairs(1).expect("one").encode();
        let queues = AdminCommand::SetFeatures(SetFeatures::new(FeatureIdentifier::NumberOfQueues, queues));
        bench.call(ADMIN, &queues.encode(Cid(3), Sgl::NONE));
        bench.open(QUEUE, 1, Cntlid(1));
        bench.answers = 0;
        bench
    }

    fn configure(&mut self) {
        let Bench {
            target, memory, now, ..
        } = self;
        let subsystem = SubsystemConfig {
            nqn: SUBSYSTEM.to_owned(),
            serial: "cost".to_owned(),
            cntlid_first: 1,
            cntlid_last: 8,
            hosts: BTreeSet::new(),
            reservations: false,
        };
        target.upsert_subsystem(*now, KEY, subsystem, memory);
        let namespace = NamespaceConfig {
            uuid: [1; 16],
            size_blocks: block::Blocks(1 << 20),
            ana_group: 1,
            hosts: BTreeSet::from([HOST.to_owned()]),
        };
        target.upsert_namespace(*now, KEY, NSID, namespace, None, memory);
        target.set_ana_state(*now, KEY, 1, AnaState::Optimized, memory);
        target.open();
    }

    fn open(&mut self, connection: ConnectionId, qid: u16, cntlid: Cntlid) {
        self.target.accepted(self.now, connection);
        let request = FrameWriter::default().before_data(PduType::IcReq, 0, &[0; 120], 0);
        self.feed(connection, &request);
        let connect = Connect {
            qid: Qid(qid),
            sqsize: ZeroBased::<u16>::from_raw(DEPTH - 1),
            attributes: Default::default(),
            kato_ms: 60_000,
        };
        let parameters = ConnectParameters {
            host_id: HostId([7; 16]),
            cntlid,
            subsystem: Nqn::parse(SUBSYSTEM).expect("a name"),
            host: Some(Nqn::parse(HOST).expect("a name")),
        };
        let data = parameters.encode();
        let sgl = Sgl::InCapsule {
            offset: 0,
            length: 1024,
        };
        let entry = FabricsCommand::Connect(connect).encode(Cid(1), sgl);
        self.feed(connection, &capsule(&entry, data.as_bytes()));
    }

    fn call(&mut self, connection: ConnectionId, entry: &SubmissionQueueEntry) {
        self.feed(connection, &capsule(entry, &[]));
    }

    fn feed(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.target
            .received(self.now, connection, bytes, &mut self.memory);
        self.take();
    }

    /// What a reactor does with a socket's bytes, and with a backend that answers at once.
    #[inline(never)]
    fn turn(&mut self, bytes: &[u8]) {
        self.feed(QUEUE, bytes);
        self.answer();
    }

    #[inline(never)]
    fn turn_long(&mut self, capsules: &[u8], payload: &[u8], land: bool) {
        self.feed(QUEUE, capsules);
        let writer = FrameWriter::default();
        for (cid, tag) in std::mem::take(&mut self.solicited) {
            let mut specific = [0; 16];
            specific[..2].copy_from_slice(&cid.to_le_bytes());
            specific[2..4].copy_from_slice(&tag.to_le_bytes());
            specific[8..12].copy_from_slice(&LONG.to_le_bytes());
            self.feed(
                QUEUE,
                &writer.before_data(PduType::H2cData, FLAG_LAST, &specific, LONG),
            );
            match land {
                true => {
                    let place = self.target.landing(QUEUE).expect("a payload comes");
                    self.target
                        .landed(self.now, QUEUE, place.length, &mut self.memory);
                    self.take();
                }
                false => self.feed(QUEUE, payload),
            }
        }
        self.answer();
    }

    fn answer(&mut self) {
        let mut executed = std::mem::take(&mut self.executed);
        for io in executed.drain(..) {
            self.target
                .complete(self.now, io, block::Status::Success, &mut self.memory);
        }
        self.executed = executed;
        self.take();
    }

    fn take(&mut self) {
        while let Some(output) = self.target.poll_output() {
            match output {
                TargetOutput::Execute { io, .. } => self.executed.push(io),
                TargetOutput::Send { segment, .. } => self.sent(segment),
                TargetOutput::HostsChanged { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn sent(&mut self, segment: Segment) {
        match segment {
            Segment::Payload(slice) => self.memory.release(slice.buffer),
            Segment::Bytes(bytes) if bytes[0] == PduType::R2t as u8 => {
                let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
                self.solicited.push((half(8), half(10)));
            }
            Segment::Bytes(bytes) => self.answers += u64::from(bytes[0] == PduType::CapsuleResp as u8),
        }
    }
}
