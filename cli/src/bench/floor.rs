//! The raw floor: two threads that move the bytes of the same load over one TCP connection, with no NVMe in between.
//!
//! A request is 72 bytes (and the payload, if it writes), an answer 24 (and the payload, if it reads). Both ends answer all that
//! came with one read by one gathered send; received bytes lie where a buffer of their own would, one behind the other; nothing is
//! parsed. So it is what the kernel asks for such a load, and the denominator of what is asked of us.
//!
//! Not here: many connections.

mod ends;

use super::account;
use super::arguments::{FloorOptions, Waiting};
use super::histogram::Histogram;
use super::report::Measurement;
use crate::arguments::Format;
use crate::client::table;
use anyhow::{Context, bail};
use ends::{Client, Load, Server};
use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// What the client is to do just now: not to count yet, to count, to end.
const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

/// What the client measured.
#[derive(Default)]
struct Outcome {
    latencies: Histogram,
    elapsed: Duration,
}

/// Measures, prints the best way of waiting first.
pub(super) fn run(options: &FloorOptions, format: Format) -> anyhow::Result<ExitCode> {
    let load = load(options)?;
    let ways = match options.waiting {
        Waiting::All => vec![Waiting::Sleep, Waiting::Adaptive, Waiting::Spin],
        one => vec![one],
    };
    let mut rows = Vec::new();
    for waiting in ways {
        rows.push(measure(options, load, waiting)?);
    }
    rows.sort_by(|one, other| other.iops.total_cmp(&one.iops));
    let format = if options.json { Format::Json } else { format };
    table::print_rows(format, &rows);
    Ok(ExitCode::SUCCESS)
}

fn load(options: &FloorOptions) -> anyhow::Result<Load> {
    if !matches!(options.mix.reads, 0 | 100) {
        bail!("--mix: the floor reads or writes");
    }
    if options.queue_depth == 0 || options.block_size == 0 || options.block_size > 4 << 20 {
        bail!("--queue-depth begins at 1, --block-size ends at 4 MiB");
    }
    if !matches!(options.pin.len(), 0 | 2) {
        bail!("--pin: two cores, the server's and the client's");
    }
    Ok(Load {
        reads: options.mix.reads == 100,
        depth: usize::from(options.queue_depth),
        payload: options.block_size as usize,
        span: options.span as usize,
    })
}

fn measure(options: &FloorOptions, load: Load, waiting: Waiting) -> anyhow::Result<Measurement> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let client = TcpStream::connect(listener.local_addr()?).context("cannot connect")?;
    let (server, _) = listener.accept().context("cannot accept")?;
    let server = Server::new(server, load, waiting)?;
    let client = Client::new(client, load, waiting)?;
    let phase = AtomicU8::new(WARMING);
    let (outcome, used) = std::thread::scope(|scope| {
        let (tell, names) = channel();
        let (server_tell, pin) = (tell.clone(), &options.pin);
        let serving = scope.spawn(move || begin(pin.first(), &server_tell).and_then(|()| server.run()));
        let server_name = names.recv().context("the server did not begin")?;
        let phase = &phase;
        let asking = scope.spawn(move || begin(pin.get(1), &tell).and_then(|()| client.run(phase)));
        let client_name = names.recv().context("the client did not begin")?;
        let used = watch(options, phase, [&server_name, &client_name]);
        phase.store(ENDING, Ordering::Relaxed);
        // The client's end of the connection goes with it, and then the server's.
        let outcome = asking
            .join()
            .expect("the client does not panic")
            .context("the client failed")?;
        serving
            .join()
            .expect("the server does not panic")
            .context("the server failed")?;
        anyhow::Ok((outcome, used?))
    })?;
    let what = if load.reads { "read" } else { "write" };
    let label = format!(
        "floor {waiting:?} {what} {}K qd{}",
        load.payload >> 10,
        load.depth
    );
    Ok(Measurement::new(
        label.to_lowercase(),
        outcome.elapsed,
        &outcome.latencies,
        load.payload as u64,
        &used,
    ))
}

/// What both threads begin with: to their core, and to say who they are.
fn begin(core: Option<&usize>, tell: &Sender<String>) -> io::Result<()> {
    if let Some(core) = core {
        engine::affinity::pin_to_core(*core)?;
    }
    tell.send(account::this_thread()?).map_err(io::Error::other)
}

/// Lets time pass and takes the threads' CPU time in it.
fn watch(
    options: &FloorOptions,
    phase: &AtomicU8,
    names: [&str; 2],
) -> anyhow::Result<BTreeMap<String, Duration>> {
    let pause = |seconds: f64| std::thread::sleep(Duration::from_secs_f64(seconds.max(0.0)));
    pause(options.warm_up);
    let before = names.map(account::of_thread);
    phase.store(MEASURING, Ordering::Relaxed);
    pause(options.seconds);
    let after = names.map(account::of_thread);
    let mut used = BTreeMap::new();
    for ((name, before), after) in ["server", "client"].into_iter().zip(before).zip(after) {
        used.insert(name.to_owned(), after?.saturating_sub(before?));
    }
    Ok(used)
}
