//! What a command costs on the host's side: a request taken, its capsule's segments out, its answer's bytes in, its end told,
//! and nothing else around it.
//!
//! ```sh
//! cargo build --release -p fabric --example host_cost
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*turn*' \
//!     target/release/examples/host_cost read 20000
//! ```
//!
//! and divide the instructions collected by the commands. Kinds: `read`, `write` (4 KiB), `long` (128 KiB reads, the payload's
//! bytes brought), `land` (the same, received where they belong), `longwrite` (128 KiB writes, asked for by R2T); each as well
//! with `many-` in front, through [`Multipath`]. The controller's part is not counted.

use block::{BLOCK_SIZE, BlockRange, BufferId, BufferSlice, Duration, Memory, Operation, Request, Time};
use fabric::driver::{ConnectionId, Segment, SessionBytes};
use fabric::host::{
    Association, AssociationConfig, AssociationEvent, AssociationOutput, Command, ConnectionIdRanges,
    Multipath, MultipathConfig, MultipathEvent, MultipathOutput, Tag, VolumeId,
};
use fabric::target::{
    AnaState, NamespaceConfig, SubsystemConfig, SubsystemKey, Target, TargetConfig, TargetOutput,
};
use fabric::tcp::framing::{FLAG_LAST, FLAG_SUCCESS, FrameWriter, PduType};
use nvme::{Cid, CompletionQueueEntry, Status};
use std::collections::BTreeSet;
use std::time::Instant;

const KEY: SubsystemKey = SubsystemKey(3);
const NSID: u32 = 1;
const SUBSYSTEM: &str = "nqn.2025-01.example:cost";
const HOST: &str = "nqn.2025-01.example:host";
const DEPTH: u64 = 32;
const LONG: u32 = 128 << 10;

/// Buffers of one length, cheap to give and to take.
struct Pool {
    bytes: Vec<u8>,
    holders: Vec<u32>,
    free: Vec<u32>,
}

impl Pool {
    fn new() -> Pool {
        let buffers = 4 * DEPTH as u32;
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

/// The host's side, one way or the other.
enum Host {
    One(Box<Association>),
    Many(Box<Multipath>),
}

/// What it says, as far as this cares.
enum Said {
    Connect(ConnectionId),
    Send(ConnectionId, Segment),
    Ready,
    Completed,
    Other,
}

impl Host {
    fn poll(&mut self) -> Option<Said> {
        Some(match self {
            Host::One(host) => match host.poll_output()? {
                AssociationOutput::Connect { connection, .. } => Said::Connect(connection),
                AssociationOutput::Send { connection, segment } => Said::Send(connection, segment),
                AssociationOutput::Event(AssociationEvent::Completed { result, .. }) => {
                    result.expect("it succeeds");
                    Said::Completed
                }
                AssociationOutput::Event(AssociationEvent::Ready { .. }) => Said::Ready,
                _ => Said::Other,
            },
            Host::Many(host) => match host.poll_output()? {
                MultipathOutput::Connect { connection, .. } => Said::Connect(connection),
                MultipathOutput::Send { connection, segment } => Said::Send(connection, segment),
                MultipathOutput::Event(MultipathEvent::Completed { result, .. }) => {
                    result.expect("it succeeds");
                    Said::Completed
                }
                MultipathOutput::Event(MultipathEvent::PathReady { .. }) => Said::Ready,
                _ => Said::Other,
            },
        })
    }

    fn submit(&mut self, now: Time, tag: u64, command: Command, memory: &mut Pool) {
        match self {
            Host::One(host) => host
                .submit(now, NSID, Tag(tag), command, memory)
                .expect("there is an association"),
            Host::Many(host) => host.submit(now, VolumeId([1; 16]), Tag(tag), command, memory),
        }
    }

    fn received(&mut self, now: Time, connection: ConnectionId, bytes: &[u8], memory: &mut Pool) {
        match self {
            Host::One(host) => host.handle_received(now, connection, bytes, memory),
            Host::Many(host) => host.handle_received(now, connection, bytes, memory),
        }
    }

    fn connected(&mut self, now: Time, connection: ConnectionId, memory: &mut Pool) {
        match self {
            Host::One(host) => host.handle_connected(now, connection, memory),
            Host::Many(host) => host.handle_connected(now, connection, memory),
        }
    }

    /// Bytes of a payload: landed where the host says, if it does.
    fn land(&mut self, now: Time, connection: ConnectionId, payload: &[u8], memory: &mut Pool) {
        let place = match self {
            Host::One(host) => host.landing(connection),
            Host::Many(host) => host.landing(connection),
        };
        let length = place.expect("a payload comes").length;
        assert_eq!(length as usize, payload.len());
        match self {
            Host::One(host) => host.handle_landed(now, connection, length, memory),
            Host::Many(host) => host.handle_landed(now, connection, length, memory),
        }
    }
}

struct Bench {
    host: Host,
    target: Target,
    memory: Pool,
    now: Time,
    buffers: Vec<BufferSlice>,
    ready: bool,
    completed: u64,
    queue: ConnectionId,
    /// Identifiers of the commands that were sent, not answered yet.
    sent: Vec<u16>,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or("read".to_owned());
    let commands: u64 = arguments
        .next()
        .map_or(200_000, |count| count.parse().expect("a count"));
    let mut bench = Bench::new(kind.starts_with("many-"));
    let kind = kind.trim_start_matches("many-");
    let turns = commands / DEPTH;
    let mut fastest = Duration::MAX;
    let payload = vec![0x5a; LONG as usize];
    bench.completed = 0;
    for _ in 0..turns {
        bench.now = bench.now + Duration::from_micros(30);
        let began = Instant::now();
        bench.turn_submit(kind);
        let submitted = began.elapsed();
        fastest = fastest.min(submitted + bench.answer(kind, &payload));
    }
    assert_eq!(bench.completed, turns * DEPTH);
    let each = fastest.as_nanos() as u64 / DEPTH;
    println!("{kind}: {} commands, {each} ns each at best", bench.completed);
}

impl Bench {
    /// With an association that is up, set up by a target.
    fn new(many: bool) -> Bench {
        let address = "127.0.0.1:4420".parse().expect("an address");
        let config = AssociationConfig {
            queue_depth: DEPTH as u16,
            ..AssociationConfig::new(HOST, [7; 16], SUBSYSTEM, address)
        };
        let mut ranges = ConnectionIdRanges::new();
        let (now, mut memory) = (Time::from_millis(1), Pool::new());
        let host = match many {
            false => {
                let mut host = Association::new(config, ranges.take());
                host.connect(now);
                Host::One(Box::new(host))
            }
            true => {
                let mut host = Multipath::new(MultipathConfig::new(config), ranges);
                host.connect(now, address, &mut memory);
                Host::Many(Box::new(host))
            }
        };
        let buffers = (0..DEPTH).map(|_| memory.allocate(LONG).expect("there are enough"));
        let buffers = buffers.collect();
        let mut bench = Bench {
            host,
            target: target(now, &mut memory),
            memory,
            now,
            buffers,
            ready: false,
            completed: 0,
            queue: ConnectionId(0),
            sent: Vec::with_capacity(DEPTH as usize),
        };
        bench.set_up();
        bench
    }

    fn set_up(&mut self) {
        let accepted = |connection: ConnectionId| ConnectionId(ConnectionId::ACCEPTED | connection.0);
        while !self.ready {
            match self.host.poll() {
                Some(Said::Connect(connection)) => {
                    self.queue = connection;
                    self.target.accepted(self.now, accepted(connection));
                    self.host.connected(self.now, connection, &mut self.memory);
                }
                Some(Said::Send(connection, segment)) => {
                    let bytes = self.carried(segment);
                    self.target
                        .received(self.now, accepted(connection), &bytes, &mut self.memory);
                }
                Some(Said::Ready) => self.ready = true,
                Some(Said::Completed | Said::Other) => {}
                None => self.answer_set_up(),
            }
        }
        while self.host.poll().is_some() {}
    }

    fn answer_set_up(&mut self) {
        while let Some(output) = self.target.poll_output() {
            if let TargetOutput::Send { connection, segment } = output {
                let bytes = self.carried(segment);
                let connection = ConnectionId(connection.0 & !ConnectionId::ACCEPTED);
                self.host.received(self.now, connection, &bytes, &mut self.memory);
            }
        }
    }

    fn carried(&mut self, segment: Segment) -> Vec<u8> {
        match segment {
            Segment::Bytes(bytes) => bytes.to_vec(),
            Segment::Payload(slice) => {
                let bytes = self.memory.bytes(slice).to_vec();
                self.memory.release(slice.buffer);
                bytes
            }
        }
    }

    /// What a turn of a reactor asks for.
    #[inline(never)]
    fn turn_submit(&mut self, kind: &str) {
        let length = match kind {
            "read" | "write" => BLOCK_SIZE,
            _ => LONG,
        };
        let writes = matches!(kind, "write" | "longwrite");
        for tag in 0..DEPTH {
            let buffer = self.buffers[tag as usize].part(0, length);
            let operation = match writes {
                true => Operation::Write {
                    buffer,
                    durable: false,
                },
                false => Operation::Read { buffer },
            };
            let range = BlockRange::new(tag * 64, u64::from(length / BLOCK_SIZE));
            let command = Command::Block(Request { operation, range });
            self.host.submit(self.now, tag, command, &mut self.memory);
        }
        self.take();
    }

    /// A socket's bytes, all that a read brings.
    #[inline(never)]
    fn turn_bytes(&mut self, bytes: &[u8]) {
        self.host.received(self.now, self.queue, bytes, &mut self.memory);
        self.take();
    }

    #[inline(never)]
    fn turn_land(&mut self, header: &[u8], payload: &[u8]) {
        self.host.received(self.now, self.queue, header, &mut self.memory);
        self.host.land(self.now, self.queue, payload, &mut self.memory);
        self.take();
    }

    fn take(&mut self) {
        while let Some(said) = self.host.poll() {
            match said {
                Said::Send(_, Segment::Bytes(bytes)) if bytes[0] == PduType::CapsuleCmd as u8 => {
                    self.sent.push(u16::from_le_bytes([bytes[10], bytes[11]]));
                }
                Said::Send(_, Segment::Payload(slice)) => self.memory.release(slice.buffer),
                Said::Completed => self.completed += 1,
                _ => {}
            }
        }
    }

    /// The controller's part, not counted: answers everything that was sent; how long the host's part took.
    fn answer(&mut self, kind: &str, payload: &[u8]) -> Duration {
        let mut took = Duration::ZERO;
        let mut counted = |bench: &mut Bench, turn: &dyn Fn(&mut Bench)| {
            let began = Instant::now();
            turn(bench);
            took += began.elapsed();
        };
        let sent = std::mem::take(&mut self.sent);
        let mut bytes = Vec::new();
        for cid in &sent {
            match kind {
                "read" => {
                    bytes.extend_from_slice(&data_header(*cid, BLOCK_SIZE));
                    bytes.extend_from_slice(&payload[..BLOCK_SIZE as usize]);
                }
                "long" => {
                    // As much as a read of a socket brings.
                    let header = data_header(*cid, LONG);
                    let whole = [&header[..], payload].concat();
                    counted(self, &|bench| bench.turn_bytes(&whole));
                }
                "land" => {
                    let header = data_header(*cid, LONG);
                    counted(self, &|bench| bench.turn_land(&header, payload));
                }
                "longwrite" => {
                    let mut specific = [0; 16];
                    specific[..2].copy_from_slice(&cid.to_le_bytes());
                    specific[8..12].copy_from_slice(&LONG.to_le_bytes());
                    let r2t = FrameWriter::default().before_data(PduType::R2t, 0, &specific, 0);
                    counted(self, &|bench| bench.turn_bytes(&r2t));
                    bytes.extend_from_slice(&response(*cid));
                }
                _ => bytes.extend_from_slice(&response(*cid)),
            }
        }
        if !bytes.is_empty() {
            counted(self, &|bench| bench.turn_bytes(&bytes));
        }
        self.sent = sent;
        self.sent.clear();
        took
    }
}

fn data_header(cid: u16, length: u32) -> SessionBytes {
    let mut specific = [0; 16];
    specific[..2].copy_from_slice(&cid.to_le_bytes());
    specific[8..12].copy_from_slice(&length.to_le_bytes());
    FrameWriter::default().before_data(PduType::C2hData, FLAG_LAST | FLAG_SUCCESS, &specific, length)
}

fn response(cid: u16) -> SessionBytes {
    let entry = CompletionQueueEntry::new(Cid(cid), Status::SUCCESS, 0);
    FrameWriter::default().before_data(PduType::CapsuleResp, 0, entry.as_bytes(), 0)
}

fn target(now: Time, memory: &mut Pool) -> Target {
    let mut target = Target::new(TargetConfig::default());
    let subsystem = SubsystemConfig {
        nqn: SUBSYSTEM.to_owned(),
        serial: "cost".to_owned(),
        cntlid_first: 1,
        cntlid_last: 8,
        hosts: BTreeSet::new(),
        reservations: false,
    };
    target.upsert_subsystem(now, KEY, subsystem, memory);
    let namespace = NamespaceConfig {
        uuid: [1; 16],
        size_blocks: block::Blocks(1 << 20),
        ana_group: 1,
        hosts: BTreeSet::from([HOST.to_owned()]),
    };
    target.upsert_namespace(now, KEY, NSID, namespace, None, memory);
    target.set_ana_state(now, KEY, 1, AnaState::Optimized, memory);
    target.open();
    target
}
