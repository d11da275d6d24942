//! Threads of generators, from connecting to the report.

use super::arguments::RunOptions;
use super::generator::{Generator, LoadControl, LoadReport, Measured, Share};
use super::histogram::Histogram;
use super::report::{Measurement, Reading};
use crate::arguments::Format;
use crate::client::table;
use anyhow::{Context, bail};
use engine::{Handle, ReactorConfig};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long connecting may take, through reconnects.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long everything else that is asked of a thread may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Buffers beside those of the slots: what an association wants for itself, and rounding.
const SPARE_BYTES: u64 = 16 << 20;

/// What comes to the thread that waits.
enum News {
    Report(LoadReport),
    /// The person has seen enough.
    Interrupted,
}

/// Runs the load, prints the row. Fails the process if anything was read that must not be.
pub(super) fn run(options: RunOptions, format: Format) -> anyhow::Result<ExitCode> {
    check(&options)?;
    let (tell, news) = channel();
    interruptions(tell.clone())?;
    let mut load = Load::start(&options, &tell, news)?;
    let begun = load.connect();
    let measured = begun.and_then(|()| load.measure(&options));
    load.stop();
    let (measured, used) = measured?;
    let mut both = measured.reads.clone();
    both.add(&measured.writes);
    let label = label(&options);
    let mut row = Measurement::new(label, measured.elapsed, &both, options.block_size, &used);
    (row.errors, row.mismatches, row.lost) = (measured.errors, measured.mismatches, measured.lost);
    row.ios_by_association = measured.ios_by_way.clone();
    let format = if options.json { Format::Json } else { format };
    table::print_row(format, &row);
    Ok(verdict(&measured))
}

fn check(options: &RunOptions) -> anyhow::Result<()> {
    let block = u64::from(block::BLOCK_SIZE);
    if options.block_size == 0 || !options.block_size.is_multiple_of(block) || options.block_size > 64 << 20 {
        bail!("--block-size: whole blocks of 4096 bytes, at most 64 MiB");
    }
    if options.queue_depth == 0 || options.connections == 0 || options.cores == 0 {
        bail!("--queue-depth, --connections and --cores begin at 1");
    }
    if !options.pin.is_empty() && options.pin.len() != usize::from(options.cores) {
        bail!("--pin: one core for each of --cores");
    }
    Ok(())
}

fn label(options: &RunOptions) -> String {
    if !options.label.is_empty() {
        return options.label.clone();
    }
    let queues = u32::from(options.cores) * u32::from(options.associations) * u32::from(options.connections);
    format!(
        "{:?} {} {}K qd{}x{queues}",
        options.pattern,
        options.mix,
        options.block_size >> 10,
        options.queue_depth,
    )
    .to_lowercase()
}

/// Says in words what must not pass unseen.
fn verdict(measured: &Measured) -> ExitCode {
    if let Some(error) = &measured.first_error {
        eprintln!("{} requests failed, the first with: {error}", measured.errors);
    }
    if let Some(mismatch) = &measured.first_mismatch {
        let (block, version, run) = mismatch.found;
        eprintln!(
            "{} reads were wrong, the first of block {}: expected write {}, found block {block}, write {version}, run {run:08x}",
            measured.mismatches, mismatch.block, mismatch.expected_version
        );
    }
    match measured.errors + measured.mismatches {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Tells when a person presses Ctrl-C.
fn interruptions(tell: Sender<News>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot listen to signals")?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    // Nobody listens any more at the end.
                    let _ = tell.send(News::Interrupted);
                }
            });
        })
        .context("cannot start a thread")?;
    Ok(())
}

/// The threads that make it.
struct Load {
    reactors: Vec<Handle<LoadControl>>,
    news: Receiver<News>,
    interrupted: bool,
}

impl Load {
    fn start(options: &RunOptions, tell: &Sender<News>, news: Receiver<News>) -> anyhow::Result<Load> {
        let run = Uuid::new_v4().as_u128() as u32;
        let slots = u64::from(options.queue_depth) * u64::from(options.connections);
        let slots = slots * u64::from(options.associations.max(1));
        let mut reactors = Vec::new();
        for index in 0..options.cores {
            let config = ReactorConfig {
                name: format!("bench-{index}"),
                memory_bytes: slots * options.block_size.next_power_of_two().max(16 << 10) * 2 + SPARE_BYTES,
                polling: options.polling.into(),
                ..ReactorConfig::default()
            };
            let share = Share {
                index,
                of: options.cores,
                run,
                host_id: *options.host_id.unwrap_or_else(Uuid::new_v4).as_bytes(),
            };
            let (own, tell) = (options.clone(), tell.clone());
            let build = move |_: &_| {
                if let Some(core) = own.pin.get(usize::from(index))
                    && let Err(error) = engine::affinity::pin_to_core(*core)
                {
                    tracing::warn!(%error, core, "a thread stays where it is");
                }
                Generator::new(own, share)
            };
            let report = move |report| {
                let _ = tell.send(News::Report(report));
            };
            reactors.push(engine::start(config, build, report).context("cannot start a thread")?);
        }
        Ok(Load {
            reactors,
            news,
            interrupted: false,
        })
    }

    /// The next report until then; `None` when it is late or a person has seen enough.
    fn next(&mut self, until: Instant) -> anyhow::Result<Option<LoadReport>> {
        match self
            .news
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            Ok(News::Report(report)) => Ok(Some(report)),
            Ok(News::Interrupted) => {
                self.interrupted = true;
                Ok(None)
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all threads have stopped"),
        }
    }

    fn connect(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + CONNECT_PATIENCE;
        let mut ready = 0;
        let mut last = "nothing was answered".to_owned();
        while ready < self.reactors.len() {
            match self.next(until)? {
                Some(LoadReport::Ready) => ready += 1,
                Some(LoadReport::Unable(reason)) => bail!("{reason}"),
                Some(LoadReport::Lost(reason)) => last = reason,
                Some(LoadReport::Measured(_) | LoadReport::Stopped) => {}
                None if self.interrupted => bail!("interrupted before everything was connected"),
                None => bail!("cannot connect: {last}"),
            }
        }
        Ok(())
    }

    /// Lets time pass; less if a person has seen enough.
    fn pass(&mut self, seconds: f64) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs_f64(seconds.max(0.0));
        while !self.interrupted && Instant::now() < until {
            match self.next(until)? {
                Some(LoadReport::Lost(reason)) => eprintln!("a path was lost: {reason}"),
                Some(LoadReport::Unable(reason)) => bail!("{reason}"),
                _ => {}
            }
        }
        Ok(())
    }

    fn measure(
        &mut self,
        options: &RunOptions,
    ) -> anyhow::Result<(Measured, std::collections::BTreeMap<String, Duration>)> {
        self.pass(options.warm_up)?;
        let before = Reading::take(&options.accounts)?;
        self.tell(|| LoadControl::Begin)?;
        self.pass(options.seconds)?;
        self.tell(|| LoadControl::End)?;
        let used = Reading::take(&options.accounts)?.since(&before);
        let until = Instant::now() + ANSWER_PATIENCE;
        let mut parts = Vec::new();
        while parts.len() < self.reactors.len() {
            match self.next(until)? {
                Some(LoadReport::Measured(part)) => parts.push(*part),
                None if Instant::now() >= until => bail!("a thread does not say what it measured"),
                _ => {}
            }
        }
        Ok((sum(parts), used))
    }

    fn tell(&self, message: impl Fn() -> LoadControl) -> anyhow::Result<()> {
        for reactor in &self.reactors {
            reactor.control(message()).context("a thread has stopped")?;
        }
        Ok(())
    }

    /// Disconnects in order, if that is quick.
    fn stop(&mut self) {
        if self.tell(|| LoadControl::Stop).is_err() {
            return;
        }
        let until = Instant::now() + ANSWER_PATIENCE;
        let mut stopped = 0;
        while stopped < self.reactors.len() && Instant::now() < until {
            match self.next(until) {
                Ok(Some(LoadReport::Stopped)) => stopped += 1,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

/// As if one thread had measured it all.
fn sum(parts: Vec<Measured>) -> Measured {
    let mut whole = Measured {
        reads: Histogram::default(),
        writes: Histogram::default(),
        ..Measured::default()
    };
    for part in parts {
        whole.reads.add(&part.reads);
        whole.writes.add(&part.writes);
        whole.elapsed = whole.elapsed.max(part.elapsed);
        whole.errors += part.errors;
        whole.mismatches += part.mismatches;
        whole.lost += part.lost;
        whole.ios_by_way.extend(part.ios_by_way);
        whole.first_error = whole.first_error.or(part.first_error);
        whole.first_mismatch = whole.first_mismatch.or(part.first_mismatch);
    }
    whole
}
