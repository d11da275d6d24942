//! `trestle disk measure`: so many requests of one kind under way at a disk, for a while.

use crate::arguments::{ClientOptions, Format, MeasureOptions};
use anyhow::{Context, bail};
use block::{BLOCK_SIZE, BufferSlice, Memory, Time};
use engine::{DiskBackend, DiskConfig};
use fabric::driver::{DiskId, DiskOperation, DiskRequestId, Event, Machine, Output};
use serde::Serialize;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::mpsc;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Write, each on the media before it completes.
    DurableWrite,
    /// Write, then flush.
    WriteFlush,
}

/// How it went.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    disk: String,
    backend: String,
    kind: String,
    depth: u32,
    block_bytes: u32,
    requests: u64,
    seconds: f64,
    iops: f64,
    mib_per_second: f64,
    mean_us: f64,
    longest_us: f64,
    cpu_us_per_request: f64,
    syncs: u64,
    registered_bytes: u64,
}

pub(crate) fn run(client: &ClientOptions, options: &MeasureOptions) -> anyhow::Result<ExitCode> {
    if options.kind != Kind::Read {
        super::may_overwrite(&options.path, options.way.overwrite)?;
    }
    let block_bytes = u32::try_from(options.block_size).context("such blocks are too large")?;
    if block_bytes == 0 || !block_bytes.is_multiple_of(BLOCK_SIZE) {
        bail!("--block-size is whole blocks of {BLOCK_SIZE} bytes");
    }
    let figures = measure(options, block_bytes)?;
    match client.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&figures)?),
        Format::Table => print(&figures),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(figures: &Figures) {
    println!(
        "{} {} of {} bytes at depth {} ({}): {:.0} a second, {:.1} MiB/s; {:.1} µs on average, {:.0} µs the longest; \
         {:.2} µs of CPU each; {} syncs; {} KiB registered",
        figures.disk,
        figures.kind,
        figures.block_bytes,
        figures.depth,
        figures.backend,
        figures.iops,
        figures.mib_per_second,
        figures.mean_us,
        figures.longest_us,
        figures.cpu_us_per_request,
        figures.syncs,
        figures.registered_bytes >> 10,
    );
}

fn measure(options: &MeasureOptions, block_bytes: u32) -> anyhow::Result<Figures> {
    let disk = DiskConfig {
        queue_depth: options.depth,
        direct: !options.way.buffered,
        ..DiskConfig::path(&options.path)
    };
    let memory_bytes = 2 * u64::from(block_bytes) * u64::from(options.depth) + (8 << 20);
    let (tell, hear) = mpsc::channel();
    let load = Load::new(options, block_bytes)?;
    let config = super::reactor(disk, memory_bytes, options.way.threads);
    let wanted = options.range;
    let handle = engine::start(
        config,
        move |opened| {
            load.over(
                wanted
                    .unwrap_or(u64::MAX)
                    .min(super::opened_disk(opened).size_bytes),
            )
        },
        move |report| drop(tell.send(report)),
    )?;
    super::range_bytes(
        super::opened_disk(handle.opened()),
        options.range,
        block_bytes.into(),
    )?;
    let cpu_before = super::cpu_seconds()?;
    handle.control(Begin {
        until: engine::clock::now() + block::Duration::from_secs_f64(options.seconds),
    })?;
    let told: Told = hear.recv().context("the load ended without a word")?;
    let cpu = super::cpu_seconds()? - cpu_before;
    let status = handle.status();
    if told.failed > 0 {
        bail!("{} of {} requests failed", told.failed, told.requests);
    }
    let seconds = told.ended.since(told.begun).as_secs_f64();
    let requests = told.requests as f64;
    Ok(Figures {
        disk: super::opened_disk(handle.opened()).path.clone(),
        backend: match &status.backend {
            DiskBackend::IoUring => "io_uring".to_owned(),
            other => format!("{other:?}"),
        },
        kind: format!("{:?}", options.kind),
        depth: options.depth,
        block_bytes,
        requests: told.requests,
        seconds,
        iops: requests / seconds,
        mib_per_second: requests * f64::from(block_bytes) / seconds / f64::from(1 << 20),
        mean_us: told.sum_nanos as f64 / requests / 1e3,
        longest_us: told.longest_nanos as f64 / 1e3,
        cpu_us_per_request: cpu * 1e6 / requests,
        syncs: status.disks[0].syncs,
        registered_bytes: status.registered_bytes,
    })
}

struct Begin {
    until: Time,
}

struct Told {
    requests: u64,
    failed: u64,
    sum_nanos: u64,
    longest_nanos: u64,
    begun: Time,
    ended: Time,
}

/// One of the requests under way, again and again.
struct Lane {
    buffer: BufferSlice,
    begun: Time,
    /// The write is done, its flush is under way.
    flushing: bool,
}

/// Keeps the disk at depth.
struct Load {
    kind: Kind,
    depth: u32,
    block_bytes: u32,
    blocks: u64,
    sequential: bool,
    next: u64,
    lanes: Vec<Lane>,
    under_way: u32,
    until: Time,
    told: Told,
    outputs: VecDeque<Output<Told>>,
}

impl Load {
    fn new(options: &MeasureOptions, block_bytes: u32) -> anyhow::Result<Load> {
        if options.depth == 0 {
            bail!("--depth is at least one");
        }
        Ok(Load {
            kind: options.kind,
            depth: options.depth,
            block_bytes,
            blocks: 1,
            sequential: options.sequential,
            next: 0x9E37_79B9_7F4A_7C15,
            lanes: Vec::new(),
            under_way: 0,
            until: Time::ZERO,
            told: Told {
                requests: 0,
                failed: 0,
                sum_nanos: 0,
                longest_nanos: 0,
                begun: Time::ZERO,
                ended: Time::ZERO,
            },
            outputs: VecDeque::new(),
        })
    }

    fn over(self, size_bytes: u64) -> Load {
        Load {
            blocks: (size_bytes / u64::from(self.block_bytes)).max(1),
            ..self
        }
    }

    fn begin(&mut self, now: Time, until: Time, memory: &mut dyn Memory) {
        self.until = until;
        self.told.begun = now;
        for lane in 0..self.depth {
            let buffer = memory
                .allocate(self.block_bytes)
                .expect("there is memory for the depth");
            memory.bytes_mut(buffer).fill(lane as u8 | 1);
            self.lanes.push(Lane {
                buffer,
                begun: now,
                flushing: false,
            });
            self.ask(lane as usize, now);
        }
    }

    fn offset_bytes(&mut self) -> u64 {
        let block = match self.sequential {
            true => {
                self.next = self.next.wrapping_add(1);
                self.next % self.blocks
            }
            false => {
                self.next ^= self.next << 13;
                self.next ^= self.next >> 7;
                self.next ^= self.next << 17;
                self.next % self.blocks
            }
        };
        block * u64::from(self.block_bytes)
    }

    fn ask(&mut self, lane: usize, now: Time) {
        let offset_bytes = self.offset_bytes();
        let entry = &mut self.lanes[lane];
        (entry.begun, entry.flushing) = (now, false);
        let buffer = entry.buffer;
        self.under_way += 1;
        self.push(
            lane,
            match self.kind {
                Kind::Read => DiskOperation::Read { offset_bytes, buffer },
                kind => DiskOperation::Write {
                    offset_bytes,
                    buffer,
                    durable: kind == Kind::DurableWrite,
                },
            },
        );
    }

    fn push(&mut self, lane: usize, operation: DiskOperation) {
        self.outputs.push_back(Output::Disk {
            request: DiskRequestId(lane as u64),
            disk: DiskId(0),
            operation,
        });
    }

    fn completed(&mut self, now: Time, lane: usize, failed: bool, memory: &mut dyn Memory) {
        let entry = &mut self.lanes[lane];
        if self.kind == Kind::WriteFlush && !entry.flushing && !failed {
            entry.flushing = true;
            return self.push(lane, DiskOperation::Flush);
        }
        let took = now.since(entry.begun).as_nanos() as u64;
        let told = &mut self.told;
        told.requests += 1;
        told.failed += u64::from(failed);
        told.sum_nanos += took;
        told.longest_nanos = told.longest_nanos.max(took);
        told.ended = now;
        self.under_way -= 1;
        if now < self.until && !failed {
            return self.ask(lane, now);
        }
        if self.under_way == 0 {
            for lane in self.lanes.drain(..) {
                memory.release(lane.buffer.buffer);
            }
            let told = Told { ..self.told };
            self.outputs.push_back(Output::Report(Box::new(told)));
        }
    }
}

impl Machine for Load {
    type Control = Begin;
    type Report = Told;

    fn handle(&mut self, now: Time, event: Event<'_, Begin>, memory: &mut dyn Memory) {
        match event {
            Event::Control(begin) => self.begin(now, begin.until, memory),
            Event::DiskCompleted { request, result } => {
                self.completed(now, request.0 as usize, result.is_err(), memory);
            }
            _ => unreachable!("there are only disks here"),
        }
    }

    fn poll_output(&mut self) -> Option<Output<Told>> {
        self.outputs.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        None
    }
}
