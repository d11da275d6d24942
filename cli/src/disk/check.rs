//! `trestle disk check`: writes, durable writes, flushes, zeroes and discards, many at a time and never two on the same block,
//! and after each round what a disk must hold. At the end the whole range once more, also by another path if one is
//! given: what went through the engine must be there for everybody.

use super::model::Model;
use crate::arguments::CheckOptions;
use anyhow::{Context, bail};
use block::{BLOCK_SIZE, BufferSlice, Memory, Time};
use engine::{DiskConfig, DiskStatus, Handle};
use fabric::driver::{DiskError, DiskId, DiskOperation, DiskRequestId, Event, Machine, Output};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;

const BLOCK: u64 = BLOCK_SIZE as u64;
/// The longest transfer: more than most controllers take in one command.
const TRANSFER_BLOCKS_MAX: u64 = 512;
/// The longest stretch that is zeroed or discarded.
const STRETCH_BLOCKS_MAX: u64 = 700;
/// Read at a time in the end.
const SWEEP_BLOCKS: u64 = 256;

pub(crate) fn run(options: &CheckOptions) -> anyhow::Result<ExitCode> {
    super::may_overwrite(&options.path, options.way.overwrite)?;
    let (mut check, opened) = Check::start(options)?;
    println!(
        "{}: {:?}, {} bytes, by {:?}; checking {} of them with seed {}",
        opened.path,
        opened.kind,
        opened.size_bytes,
        check.handle.opened().backend,
        check.model.blocks() * BLOCK,
        options.seed,
    );
    check.everything_is_zeroed()?;
    for round in 0..options.rounds {
        check.round().with_context(|| format!("in round {round}"))?;
    }
    check.sweep().context("in the end")?;
    let status = check.disk_status();
    check.handle.stop();
    println!(
        "{}: {} reads, {} writes ({} durable), {} flushes by {} syncs, {} zeroed, {} discarded: every block as it must be",
        opened.path,
        check.count.reads,
        check.count.writes,
        check.count.durable,
        check.count.flushes,
        status.syncs,
        check.count.zeroed,
        check.count.discarded,
    );
    if let Some(path) = &options.read_back {
        read_back(path, &check.model).with_context(|| format!("by {}", path.display()))?;
        println!("{}: the same", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn read_back(path: &Path, model: &Model) -> anyhow::Result<()> {
    let mut file = std::fs::File::open(path)?;
    let mut bytes = vec![0; (SWEEP_BLOCKS * BLOCK) as usize];
    let mut first = 0;
    while first < model.blocks() {
        let count = SWEEP_BLOCKS.min(model.blocks() - first);
        let bytes = &mut bytes[..(count * BLOCK) as usize];
        file.read_exact(bytes)?;
        model.compare(first, bytes).map_err(anyhow::Error::msg)?;
        first += count;
    }
    Ok(())
}

/// One request of a round.
enum Step {
    Read {
        first: u64,
        count: u64,
    },
    Write {
        first: u64,
        bytes: Vec<u8>,
        durable: bool,
    },
    Flush,
    Zero {
        first: u64,
        count: u64,
        deallocate: bool,
    },
    Discard {
        first: u64,
        count: u64,
    },
}

/// What a step brought: the bytes, if it was a read.
type Outcome = Result<Vec<u8>, DiskError>;

#[derive(Default)]
struct Count {
    reads: u64,
    writes: u64,
    durable: u64,
    flushes: u64,
    zeroed: u64,
    discarded: u64,
}

struct Check {
    handle: Handle<Vec<Step>>,
    hear: mpsc::Receiver<Vec<Outcome>>,
    model: Model,
    random: StdRng,
    depth: u32,
    count: Count,
}

impl Check {
    fn start(options: &CheckOptions) -> anyhow::Result<(Check, engine::OpenedDisk)> {
        let disk = DiskConfig {
            direct: !options.way.buffered,
            ..DiskConfig::path(&options.path)
        };
        let memory_bytes = u64::from(options.depth) * 2 * TRANSFER_BLOCKS_MAX * BLOCK + (16 << 20);
        let (tell, hear) = mpsc::channel();
        let handle = engine::start(
            super::reactor(disk, memory_bytes, options.way.threads),
            |_| Hand::default(),
            move |report| drop(tell.send(report)),
        )?;
        let opened = super::opened_disk(handle.opened()).clone();
        let bytes = super::range_bytes(&opened, Some(options.range), 4 * STRETCH_BLOCKS_MAX * BLOCK)?;
        let check = Check {
            handle,
            hear,
            model: Model::zeroes(options.seed, bytes / BLOCK),
            random: StdRng::seed_from_u64(options.seed),
            depth: options.depth,
            count: Count::default(),
        };
        Ok((check, opened))
    }

    fn disk_status(&self) -> DiskStatus {
        self.handle.status().disks[0]
    }

    fn carry_out(&self, steps: Vec<Step>) -> anyhow::Result<Vec<Vec<u8>>> {
        self.handle.control(steps)?;
        let outcomes = self.hear.recv().context("the disk ended without a word")?;
        let bytes: Result<Vec<_>, DiskError> = outcomes.into_iter().collect();
        bytes.map_err(|error| anyhow::anyhow!("a request failed: {error:?}"))
    }

    fn everything_is_zeroed(&mut self) -> anyhow::Result<()> {
        let count = self.model.blocks();
        let zero = Step::Zero {
            first: 0,
            count,
            deallocate: false,
        };
        self.carry_out(vec![zero])?;
        self.sweep().context("after zeroing everything")
    }

    /// Requests on blocks apart from each other, all at once; then everything that they touched is read.
    fn round(&mut self) -> anyhow::Result<()> {
        let mut steps = Vec::new();
        let mut touched: Vec<(u64, u64)> = Vec::new();
        for _ in 0..self.depth {
            let longest = if self.random.random_ratio(1, 8) {
                STRETCH_BLOCKS_MAX
            } else {
                8
            };
            let count = self.random.random_range(1..=longest);
            let first = self.random.random_range(0..=self.model.blocks() - count);
            let apart = |(other, length): &(u64, u64)| first + count <= *other || other + length <= first;
            if touched.iter().all(apart) {
                touched.push((first, count));
                steps.push(self.step(first, count));
            }
        }
        self.carry_out(steps)?;
        let reads = touched
            .iter()
            .flat_map(|(first, count)| pieces(*first, *count, TRANSFER_BLOCKS_MAX))
            .collect();
        self.read(reads)
    }

    fn step(&mut self, first: u64, count: u64) -> Step {
        match self.random.random_range(0..10) {
            0 => {
                self.count.discarded += 1;
                self.model.discard(first, count);
                Step::Discard { first, count }
            }
            1 => {
                self.count.zeroed += 1;
                self.model.zero(first, count);
                let deallocate = self.random.random_bool(0.5);
                Step::Zero {
                    first,
                    count,
                    deallocate,
                }
            }
            2 => {
                self.count.flushes += 1;
                Step::Flush
            }
            choice => {
                let durable = choice < 6;
                self.count.writes += 1;
                self.count.durable += u64::from(durable);
                let bytes = self.model.write(first, count.min(TRANSFER_BLOCKS_MAX));
                Step::Write {
                    first,
                    bytes,
                    durable,
                }
            }
        }
    }

    fn read(&mut self, pieces: Vec<(u64, u64)>) -> anyhow::Result<()> {
        for pieces in pieces.chunks(self.depth as usize) {
            let steps = pieces
                .iter()
                .map(|&(first, count)| Step::Read { first, count })
                .collect();
            let read = self.carry_out(steps)?;
            self.count.reads += pieces.len() as u64;
            for ((first, _), bytes) in pieces.iter().zip(&read) {
                if let Err(wrong) = self.model.compare(*first, bytes) {
                    bail!("{wrong}");
                }
            }
        }
        Ok(())
    }

    fn sweep(&mut self) -> anyhow::Result<()> {
        self.carry_out(vec![Step::Flush])?;
        let all = pieces(0, self.model.blocks(), SWEEP_BLOCKS).collect();
        self.read(all)
    }
}

fn pieces(first: u64, count: u64, most: u64) -> impl Iterator<Item = (u64, u64)> {
    (first..first + count)
        .step_by(most as usize)
        .map(move |piece| (piece, most.min(first + count - piece)))
}

/// Carries out one round at a time.
#[derive(Default)]
struct Hand {
    buffers: Vec<Option<BufferSlice>>,
    outcomes: Vec<Option<Outcome>>,
    left: usize,
    outputs: VecDeque<Output<Vec<Outcome>>>,
}

impl Hand {
    fn begin(&mut self, steps: Vec<Step>, memory: &mut dyn Memory) {
        self.left = steps.len();
        self.outcomes = steps.iter().map(|_| None).collect();
        self.buffers.clear();
        for (index, step) in steps.into_iter().enumerate() {
            let (operation, buffer) = ask(step, memory);
            self.buffers.push(buffer);
            self.outputs.push_back(Output::Disk {
                request: DiskRequestId(index as u64),
                disk: DiskId(0),
                operation,
            });
        }
    }

    fn completed(&mut self, index: usize, result: Result<(), DiskError>, memory: &mut dyn Memory) {
        let bytes = self.buffers[index].take().map(|buffer| {
            let bytes = memory.bytes(buffer).to_vec();
            memory.release(buffer.buffer);
            bytes
        });
        let outcome = result.map(|()| bytes.unwrap_or_default());
        assert!(
            self.outcomes[index].replace(outcome).is_none(),
            "a request completes once"
        );
        self.left -= 1;
        if self.left == 0 {
            let outcomes = self.outcomes.drain(..).flatten().collect();
            self.outputs.push_back(Output::Report(Box::new(outcomes)));
        }
    }
}

fn ask(step: Step, memory: &mut dyn Memory) -> (DiskOperation, Option<BufferSlice>) {
    let mut allocate = |length: usize| {
        memory
            .allocate(length as u32)
            .expect("there is memory for a round")
    };
    match step {
        Step::Read { first, count } => {
            let buffer = allocate((count * BLOCK) as usize);
            let offset_bytes = first * BLOCK;
            (DiskOperation::Read { offset_bytes, buffer }, Some(buffer))
        }
        Step::Write {
            first,
            bytes,
            durable,
        } => {
            let buffer = allocate(bytes.len());
            memory.bytes_mut(buffer).copy_from_slice(&bytes);
            let operation = DiskOperation::Write {
                offset_bytes: first * BLOCK,
                buffer,
                durable,
            };
            (operation, Some(buffer))
        }
        Step::Flush => (DiskOperation::Flush, None),
        Step::Zero {
            first,
            count,
            deallocate,
        } => {
            let operation = DiskOperation::WriteZeroes {
                offset_bytes: first * BLOCK,
                length_bytes: count * BLOCK,
                deallocate,
            };
            (operation, None)
        }
        Step::Discard { first, count } => {
            let operation = DiskOperation::Discard {
                offset_bytes: first * BLOCK,
                length_bytes: count * BLOCK,
            };
            (operation, None)
        }
    }
}

impl Machine for Hand {
    type Control = Vec<Step>;
    type Report = Vec<Outcome>;

    fn handle(&mut self, _now: Time, event: Event<'_, Vec<Step>>, memory: &mut dyn Memory) {
        match event {
            Event::Control(steps) => self.begin(steps, memory),
            Event::DiskCompleted { request, result } => self.completed(request.0 as usize, result, memory),
            _ => unreachable!("there are only disks here"),
        }
    }

    fn poll_output(&mut self) -> Option<Output<Vec<Outcome>>> {
        self.outputs.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        None
    }
}
