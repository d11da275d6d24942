//! What one host request costs in the block layers: a slice (thin volume over a mirror of two legs) is kept busy with
//! 4 KiB requests whose leg requests are answered at once, and nothing else happens.
//!
//! It prints what was sent to legs; instructions are counted from outside, of the one function that is worth counting:
//!
//! ```text
//! cargo build --release -p block --example slice_cost
//! valgrind --tool=callgrind --toggle-collect='slice_cost::counted*' target/release/examples/slice_cost read 20000
//! ```
//!
//! Arguments: `read`, `write` or `mixed`; how many requests; how many in flight (32); requests a second of the slice's own time
//! (none: no time passes), to see what the bitmap costs at that rate; MiB that requests are spread over (1024).

use block::slice::{GroupConfig, LegConfig, MembershipOutcome, Slice, SliceConfig, SliceOutput};
use block::thin::VolumeId;
use block::{
    BlockRange, Blocks, BufferId, BufferSlice, Duration, Memory, Operation, Request, RequestId, Status,
    SubRequestId, Time, Tuning,
};
use std::collections::VecDeque;

const LEG_BLOCKS: u64 = 4 << 18;
const EXTENT_BLOCKS: u64 = 1 << 14;
const VOLUME: VolumeId = VolumeId([9; 16]);

/// Buffers that are never reused.
#[derive(Default)]
struct Buffers {
    all: Vec<Vec<u8>>,
    free: Vec<u32>,
}

impl Memory for Buffers {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.all.push(Vec::new());
            self.all.len() as u32 - 1
        });
        self.all[index as usize].resize(length as usize, 0);
        Some(BufferSlice {
            buffer: BufferId(index),
            offset: 0,
            length,
        })
    }
    fn retain(&mut self, _: BufferId) {}
    fn release(&mut self, _: BufferId) {}
    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        let start = slice.offset as usize;
        &self.all[slice.buffer.0 as usize][start..start + slice.length as usize]
    }
    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        let start = slice.offset as usize;
        &mut self.all[slice.buffer.0 as usize][start..start + slice.length as usize]
    }
}

/// A leg that keeps its metadata; of data it only says that it is well.
struct Leg {
    id: [u8; 16],
    metadata: Vec<u8>,
}

impl Leg {
    fn execute(&mut self, request: Request, memory: &mut Buffers) {
        let start = request.range.start.0 as usize * 4096;
        let end = start + request.range.length.0 as usize * 4096;
        if end > self.metadata.len() {
            return;
        }
        let bytes = &mut self.metadata[start..end];
        match request.operation {
            Operation::Read { buffer } => memory.bytes_mut(buffer).copy_from_slice(bytes),
            Operation::Write { buffer, .. } => bytes.copy_from_slice(memory.bytes(buffer)),
            Operation::WriteZeroes { .. } => bytes.fill(0),
            Operation::Flush | Operation::Deallocate => {}
        }
    }
}

struct World {
    slice: Slice,
    legs: Vec<Leg>,
    memory: Buffers,
    now: Time,
    at_legs: VecDeque<(usize, SubRequestId)>,
    completed: Vec<(RequestId, Status)>,
    leg_reads: u64,
    leg_writes: u64,
    leg_others: u64,
    metadata_writes: u64,
}

impl World {
    fn new() -> World {
        let leg = |number: u8| LegConfig {
            leg: [number; 16],
            length: Blocks(LEG_BLOCKS),
            in_sync: true,
        };
        let config = SliceConfig {
            slice: [7; 16],
            pool: [8; 16],
            epoch: 1,
            formatted: false,
            extent: Blocks(EXTENT_BLOCKS),
            groups: vec![GroupConfig {
                group: [6; 16],
                formatted: false,
                legs: vec![leg(1), leg(2)],
            }],
            tuning: Tuning::default(),
        };
        let metadata = block::leg_metadata_blocks(Blocks(LEG_BLOCKS)).bytes() as usize;
        let now = Time::from_millis(1);
        let leg = |number: u8| Leg {
            id: [number; 16],
            metadata: vec![0; metadata],
        };
        World {
            slice: Slice::new(config, now).expect("a configuration that can be"),
            legs: vec![leg(1), leg(2)],
            memory: Buffers::default(),
            now,
            at_legs: VecDeque::new(),
            completed: Vec::new(),
            leg_reads: 0,
            leg_writes: 0,
            leg_others: 0,
            metadata_writes: 0,
        }
    }

    fn open(&mut self) {
        for leg in 0..2 {
            let id = self.legs[leg].id;
            self.slice.leg_attached(self.now, id, &mut self.memory);
            self.drain();
        }
        self.finish();
        let size = Blocks(LEG_BLOCKS / 2);
        self.slice
            .create_volume(self.now, RequestId(1 << 63), VOLUME, size, &mut self.memory);
        self.finish();
        assert_eq!(
            self.completed.pop().map(|(_, status)| status),
            Some(Status::Success)
        );
    }

    fn finish(&mut self) {
        self.drain();
        while let Some((_, id)) = self.at_legs.pop_front() {
            self.slice
                .leg_completed(self.now, id, Status::Success, &mut self.memory);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.slice.poll_output() {
            match output {
                SliceOutput::Leg { leg, id, request, .. } => {
                    let index = usize::from(leg[0]) - 1;
                    match request.operation {
                        Operation::Read { .. } => self.leg_reads += 1,
                        Operation::Write { .. } => self.leg_writes += 1,
                        _ => self.leg_others += 1,
                    }
                    let data = block::leg_metadata_blocks(Blocks(LEG_BLOCKS)).0;
                    if request.operation.modifies() && request.range.start.0 < data {
                        self.metadata_writes += 1;
                    }
                    self.legs[index].execute(request, &mut self.memory);
                    self.at_legs.push_back((index, id));
                }
                SliceOutput::Complete { id, status } => self.completed.push((id, status)),
                SliceOutput::Membership { request, .. } => {
                    let outcome = MembershipOutcome::Committed;
                    self.slice
                        .membership_answer(self.now, request, outcome, &mut self.memory);
                }
                SliceOutput::Opened => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn advance(&mut self, span: Duration) {
        self.now = self.now + span;
        if self.slice.next_timeout().is_some_and(|due| due <= self.now) {
            self.slice.handle_timeout(self.now, &mut self.memory);
            self.drain();
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Load {
    pattern: Pattern,
    in_flight: u64,
    spacing: Duration,
    blocks: u64,
    buffer: BufferSlice,
}

#[derive(Clone, Copy)]
enum Pattern {
    Read,
    Write,
    Mixed,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn run(world: &mut World, load: Load, random: &mut Random, requests: u64) {
    let (mut begun, mut ended) = (0, 0);
    while ended < requests {
        while begun < requests && begun - ended < load.in_flight {
            let write = match load.pattern {
                Pattern::Read => false,
                Pattern::Write => true,
                Pattern::Mixed => random.below(10) < 3,
            };
            let buffer = load.buffer;
            let operation = if write {
                Operation::Write {
                    buffer,
                    durable: false,
                }
            } else {
                Operation::Read { buffer }
            };
            let range = BlockRange::new(random.below(load.blocks), 1);
            let request = Request { operation, range };
            world
                .slice
                .submit(world.now, RequestId(begun), VOLUME, request, &mut world.memory);
            begun += 1;
            world.drain();
            ended += take_completed(world);
        }
        if let Some((_, id)) = world.at_legs.pop_front() {
            world
                .slice
                .leg_completed(world.now, id, Status::Success, &mut world.memory);
            world.drain();
        }
        let now_ended = take_completed(world);
        ended += now_ended;
        if !load.spacing.is_zero() && now_ended > 0 {
            world.advance(load.spacing);
        }
    }
}

fn take_completed(world: &mut World) -> u64 {
    let count = world.completed.len() as u64;
    let well = world
        .completed
        .iter()
        .all(|(_, status)| *status == Status::Success);
    assert!(well, "every request succeeds");
    world.completed.clear();
    count
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, otherwise: u64| {
        arguments
            .get(place)
            .map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let pattern = match arguments.first().map(String::as_str) {
        Some("write") => Pattern::Write,
        Some("mixed") => Pattern::Mixed,
        _ => Pattern::Read,
    };
    let (requests, in_flight, rate, mib) = (number(1, 20_000), number(2, 32), number(3, 0), number(4, 1024));
    let mut world = World::new();
    world.open();
    let buffer = world.memory.allocate(4096).expect("memory");
    let blocks = mib * 256;
    for place in 0..blocks.div_ceil(256) {
        let operation = Operation::Write {
            buffer,
            durable: false,
        };
        let range = BlockRange::new(place * 256, 1);
        let request = Request { operation, range };
        world
            .slice
            .submit(world.now, RequestId(place), VOLUME, request, &mut world.memory);
        world.finish();
    }
    let warm = Load {
        pattern,
        in_flight,
        spacing: Duration::ZERO,
        blocks,
        buffer,
    };
    take_completed(&mut world);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    run(&mut world, warm, &mut random, 2_000);
    let before = (
        world.leg_reads,
        world.leg_writes,
        world.leg_others,
        world.metadata_writes,
    );
    let spacing = if rate == 0 {
        Duration::ZERO
    } else {
        Duration::from_secs(1) / rate as u32
    };
    counted(&mut world, Load { spacing, ..warm }, &mut random, requests);
    let per_request = |count: u64| count as f64 / requests as f64;
    println!(
        "{requests} requests, per request: {:.4} leg reads, {:.4} leg writes ({:.4} of metadata), {:.4} others",
        per_request(world.leg_reads - before.0),
        per_request(world.leg_writes - before.1),
        per_request(world.metadata_writes - before.3),
        per_request(world.leg_others - before.2),
    );
}

/// What instructions are counted of.
#[inline(never)]
fn counted(world: &mut World, load: Load, random: &mut Random, requests: u64) {
    run(world, load, random, requests);
}
