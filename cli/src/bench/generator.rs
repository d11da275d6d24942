//! The load generator, as a machine: a slot for every request that may be in flight, each sent again as soon as it has ended,
//! or when the next is due.
//!
//! Not here: threads, and what is printed.
//!
//! Invariants: a slot holds one buffer from the start to the end of the run; it is in `free` exactly while it has no request; what
//! is measured are requests that ended between [`LoadControl::Begin`] and [`LoadControl::End`].

use super::arguments::RunOptions;
use super::histogram::Histogram;
use super::paths::{Paths, Told};
use super::plan::Plan;
use super::stamps::{Mismatch, Stamps};
use block::{BLOCK_SIZE, BlockRange, BufferSlice, Duration, Memory, Operation, Request, Time};
use fabric::driver::{ConnectionId, Event, Machine, Output};
use fabric::host::Command;
use nvme::Status;
use std::collections::VecDeque;

/// How often a place is looked for that nobody uses just now (`--verify`).
const TRIES_MAX: u32 = 64;

/// What the generator is told.
#[derive(Debug)]
pub(super) enum LoadControl {
    /// Count from now on.
    Begin,
    /// Tell what was counted.
    End,
    /// Disconnect.
    Stop,
}

/// What it tells.
#[derive(Debug)]
pub(super) enum LoadReport {
    /// Load has begun.
    Ready,
    /// It cannot begin, for this reason.
    Unable(String),
    /// A way was lost, or could not be made.
    Lost(String),
    /// What was counted.
    Measured(Box<Measured>),
    /// Nothing more will come.
    Stopped,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    /// Nanoseconds.
    pub(super) reads: Histogram,
    pub(super) writes: Histogram,
    pub(super) elapsed: Duration,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    pub(super) mismatches: u64,
    pub(super) first_mismatch: Option<Mismatch>,
    /// Ways lost.
    pub(super) lost: u64,
    /// Requests that ended well on each way.
    pub(super) ios_by_way: Vec<u64>,
}

/// One request's place.
#[derive(Clone, Copy, Debug)]
struct Slot {
    buffer: BufferSlice,
    start: u64,
    reads: bool,
    since: Time,
}

/// Which part of the load a generator is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Of `of`, from zero.
    pub(super) index: u16,
    pub(super) of: u16,
    /// Tells this run from others.
    pub(super) run: u32,
    pub(super) host_id: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unbegun,
    Connecting,
    Running,
    Stopping,
    Stopped,
}

/// When requests are due, if not as soon as possible.
#[derive(Clone, Copy, Debug)]
struct Pace {
    next: Time,
    interval: Duration,
}

/// See the module.
pub(super) struct Generator {
    options: RunOptions,
    share: Share,
    phase: Phase,
    paths: Paths,
    plan: Option<Plan>,
    stamps: Option<Stamps>,
    pace: Option<Pace>,
    slots: Vec<Slot>,
    slots_per_way: usize,
    free: Vec<usize>,
    measured: Measured,
    begun: Option<Time>,
    outputs: VecDeque<Output<LoadReport>>,
}

impl Generator {
    pub(super) fn new(options: RunOptions, share: Share) -> Generator {
        let paths = Paths::new(&options, share.host_id);
        Generator {
            paths,
            options,
            share,
            phase: Phase::Unbegun,
            plan: None,
            stamps: None,
            pace: None,
            slots: Vec::new(),
            slots_per_way: 1,
            free: Vec::new(),
            measured: Measured::default(),
            begun: None,
            outputs: VecDeque::new(),
        }
    }

    fn report(&mut self, report: LoadReport) {
        self.outputs.push_back(Output::Report(Box::new(report)));
    }

    fn control(&mut self, now: Time, control: LoadControl, memory: &mut dyn Memory) {
        match control {
            LoadControl::Begin => {
                // What went wrong before is not forgiven.
                let before = core::mem::take(&mut self.measured);
                self.measured = Measured {
                    reads: Histogram::default(),
                    writes: Histogram::default(),
                    ios_by_way: vec![0; self.paths.ways()],
                    ..before
                };
                self.begun = Some(now);
            }
            LoadControl::End => {
                let mut measured = core::mem::take(&mut self.measured);
                measured.elapsed = now.since(self.begun.take().unwrap_or(now));
                self.report(LoadReport::Measured(Box::new(measured)));
            }
            LoadControl::Stop => {
                self.phase = Phase::Stopping;
                self.paths.disconnect(now, memory);
            }
        }
    }

    // Starting.

    fn become_ready(&mut self, now: Time, memory: &mut dyn Memory) {
        let Some(blocks) = self.paths.blocks(self.options.nsid) else {
            return;
        };
        match self.prepare(now, blocks, memory) {
            Ok(()) => {
                self.phase = Phase::Running;
                self.report(LoadReport::Ready);
                self.fill(now, memory);
            }
            Err(reason) => {
                self.phase = Phase::Stopping;
                self.report(LoadReport::Unable(reason));
            }
        }
    }

    fn prepare(&mut self, now: Time, blocks: u64, memory: &mut dyn Memory) -> Result<(), String> {
        let options = &self.options;
        if blocks == 0 {
            return Err(format!("there is no namespace {} for this host", options.nsid));
        }
        let length = options.block_size / u64::from(BLOCK_SIZE);
        let range = options
            .range
            .map_or(blocks, |bytes| bytes / u64::from(BLOCK_SIZE));
        let part = range.min(blocks) / u64::from(self.share.of) / length * length;
        let first = part * u64::from(self.share.index);
        self.slots_per_way = usize::from(options.queue_depth) * usize::from(options.connections);
        let count = self.slots_per_way * self.paths.ways();
        let seed = u64::from(self.share.run) ^ (u64::from(self.share.index) << 32);
        let plan = Plan::new(options.pattern, options.mix, first, part, length, seed);
        if plan.places() == 0 || options.verify && plan.places() < 2 * count as u64 {
            return Err("the range is too short for these requests".to_owned());
        }
        self.stamps = options.verify.then(|| Stamps::new(self.share.run, first, part));
        self.pace = options.rate.map(|rate| Pace {
            next: now,
            interval: Duration::from_nanos(1_000_000_000 * u64::from(self.share.of) / rate.max(1)),
        });
        self.plan = Some(plan);
        let bytes = options.block_size as u32;
        for slot in 0..count {
            let buffer = memory.allocate(bytes).ok_or("there is no memory for buffers")?;
            let fill = (slot as u8).wrapping_mul(31) | 1;
            memory.bytes_mut(buffer).fill(fill);
            self.slots.push(Slot {
                buffer,
                start: 0,
                reads: true,
                since: now,
            });
            self.free.push(slot);
        }
        Ok(())
    }

    // Requests.

    /// Sends what is due and has a slot.
    fn fill(&mut self, now: Time, memory: &mut dyn Memory) {
        let mut refused = 0;
        while self.phase == Phase::Running && self.free.len() > refused {
            let since = match &mut self.pace {
                None => now,
                Some(pace) if pace.next > now => return,
                Some(pace) => {
                    let due = pace.next;
                    pace.next = due + pace.interval;
                    due
                }
            };
            let slot = self.free.pop().expect("counted above");
            if !self.begin(now, since, slot, memory) {
                // It goes to the far end: others may have more luck.
                self.free.insert(0, slot);
                refused += 1;
            }
        }
    }

    /// Sends a request from a slot; whether it could be.
    fn begin(&mut self, now: Time, since: Time, slot: usize, memory: &mut dyn Memory) -> bool {
        let plan = self.plan.as_mut().expect("made before anything is sent");
        let blocks = self.options.block_size / u64::from(BLOCK_SIZE);
        let reads = plan.reads();
        let buffer = self.slots[slot].buffer;
        let mut start = plan.place();
        if let Some(stamps) = &mut self.stamps {
            let mut tries = 0;
            while !stamps.begin(start, blocks, !reads) {
                tries += 1;
                if tries == TRIES_MAX {
                    return false;
                }
                start = plan.place();
            }
            if !reads {
                stamps.stamp(start, memory.bytes_mut(buffer));
            }
        }
        let operation = match reads {
            true => Operation::Read { buffer },
            false => Operation::Write {
                buffer,
                durable: false,
            },
        };
        let range = BlockRange::new(start, blocks);
        let command = Command::Block(Request { operation, range });
        self.slots[slot] = Slot {
            buffer,
            start,
            reads,
            since,
        };
        let way = slot / self.slots_per_way;
        let nsid = self.options.nsid;
        let taken = self.paths.submit(now, way, nsid, slot, command, memory);
        if taken.is_err() {
            self.give_up(slot);
        }
        taken.is_ok()
    }

    /// A request was never sent.
    fn give_up(&mut self, slot: usize) {
        let Slot { start, reads, .. } = self.slots[slot];
        let blocks = self.options.block_size / u64::from(BLOCK_SIZE);
        match &mut self.stamps {
            Some(stamps) if reads => drop(stamps.read(start, blocks, None)),
            Some(stamps) => stamps.written(start, blocks, false),
            None => {}
        }
    }

    fn ended(&mut self, now: Time, slot: usize, result: Result<u64, Status>, memory: &mut dyn Memory) {
        let Slot {
            buffer,
            start,
            reads,
            since,
        } = self.slots[slot];
        if let Some(stamps) = &mut self.stamps {
            let blocks = self.options.block_size / u64::from(BLOCK_SIZE);
            if reads {
                let bytes = result.is_ok().then(|| memory.bytes(buffer));
                let mismatch = stamps.read(start, blocks, bytes);
                self.measured.mismatches += u64::from(mismatch.is_some());
                if self.measured.first_mismatch.is_none() {
                    self.measured.first_mismatch = mismatch;
                }
            } else {
                stamps.written(start, blocks, result.is_ok());
            }
        }
        self.free.push(slot);
        match result {
            Ok(_) if self.begun.is_some() => {
                self.measured.ios_by_way[slot / self.slots_per_way] += 1;
                let took = now.since(since).as_nanos() as u64;
                match reads {
                    true => self.measured.reads.record(took),
                    false => self.measured.writes.record(took),
                }
            }
            Ok(_) => {}
            Err(_) if self.phase == Phase::Stopping => {}
            Err(status) => {
                self.measured.errors += 1;
                self.measured
                    .first_error
                    .get_or_insert_with(|| status.to_string());
            }
        }
    }

    // What the ways tell.

    fn drain(&mut self, now: Time, memory: &mut dyn Memory) {
        loop {
            while let Some(told) = self.paths.poll() {
                match told {
                    Told::Output(output) => self.outputs.push_back(output),
                    Told::Ended { slot, result } => self.ended(now, slot, result, memory),
                    Told::Ready if self.phase == Phase::Connecting => self.become_ready(now, memory),
                    Told::Ready => {}
                    Told::Lost(reason) => self.lost(reason),
                }
            }
            let before = self.free.len();
            self.fill(now, memory);
            if self.free.len() == before {
                return;
            }
        }
    }

    fn lost(&mut self, reason: String) {
        match self.phase {
            Phase::Stopping => {
                self.phase = Phase::Stopped;
                self.report(LoadReport::Stopped);
            }
            Phase::Stopped => {}
            Phase::Unbegun | Phase::Connecting | Phase::Running => {
                self.measured.lost += 1;
                self.report(LoadReport::Lost(reason));
            }
        }
    }
}

impl Machine for Generator {
    type Control = LoadControl;
    type Report = LoadReport;

    fn handle(&mut self, now: Time, event: Event<'_, LoadControl>, memory: &mut dyn Memory) {
        match event {
            Event::Control(control) => self.control(now, control, memory),
            Event::Timeout if self.phase == Phase::Unbegun => {
                self.phase = Phase::Connecting;
                self.paths.connect(now, &self.options, memory);
            }
            event => self.paths.handle(now, event, memory),
        }
        self.drain(now, memory);
    }

    fn poll_output(&mut self) -> Option<Output<LoadReport>> {
        self.outputs.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        let begin = (self.phase == Phase::Unbegun).then_some(Time::ZERO);
        let due = self.pace.filter(|_| !self.free.is_empty()).map(|pace| pace.next);
        [begin, due, self.paths.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        self.paths.landing(connection)
    }
}
