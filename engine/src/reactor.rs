//! What a reactor is started with, and starting one, or several that belong together.

use crate::control::{AbortOnPanic, Handle, Shared};
use crate::disk::{DiskBackend, DiskConfig, OpenedDisk};
use crate::epoll::Waker;
use crate::error::{OpenDisk, StartReactor};
use crate::turn;
use block::Duration;
use fabric::driver::Machine;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// How calls to disks shall be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WantedBackend {
    /// By io_uring; by threads where that is refused (which is said once in the log, and in the status).
    #[default]
    Auto,
    /// By threads.
    Threads,
}

/// A reactor to start.
#[derive(Clone, Debug)]
pub struct ReactorConfig {
    /// Names its threads, and it in messages.
    pub name: String,
    /// Addresses to listen on; port 0 takes any free one ([`Opened::listeners`] tells which).
    pub listeners: Vec<SocketAddr>,
    /// Several reactors may listen on the same address; the kernel spreads connections among them.
    pub reuse_port: bool,
    /// Disks to open.
    pub disks: Vec<DiskConfig>,
    /// The most that payload buffers take.
    pub memory_bytes: u64,
    /// A connection with more unsent bytes than this is not read until half of them are sent.
    pub unsent_limit_bytes: usize,
    /// The most that is read from one connection per turn.
    pub read_bytes: usize,
    /// How calls to disks are made.
    pub disk_backend: WantedBackend,
    /// How it waits.
    pub polling: Polling,
    /// The core to run on; any, if none is said.
    pub core: Option<usize>,
}

/// How a reactor waits for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// For how long at most to look again and again before sleeping, where work is likely to come within that. Zero sleeps at
    /// once, always.
    pub spin: Duration,
    /// Lets the kernel poll the network card's queues for so long before sleeping (NAPI busy polling), where card and
    /// kernel can; zero for not at all.
    pub busy_poll: Duration,
}

impl Polling {
    /// See [`Polling::spin`]: what a peer close by needs to answer and ask anew, and a little more.
    pub const SPIN_DEFAULT: Duration = Duration::from_micros(50);
}

impl Default for Polling {
    fn default() -> Polling {
        Polling {
            spin: Polling::SPIN_DEFAULT,
            busy_poll: Duration::ZERO,
        }
    }
}

impl Default for ReactorConfig {
    fn default() -> ReactorConfig {
        ReactorConfig {
            name: "reactor".to_owned(),
            listeners: Vec::new(),
            reuse_port: false,
            disks: Vec::new(),
            memory_bytes: 64 << 20,
            unsent_limit_bytes: 8 << 20,
            read_bytes: 256 << 10,
            disk_backend: WantedBackend::Auto,
            polling: Polling::default(),
            core: None,
        }
    }
}

/// What was opened for a reactor, in the order of its configuration.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The bound addresses.
    pub listeners: Vec<SocketAddr>,
    /// The disks; why not, for those not required. Requests to a missing disk answer [`DiskError::Gone`].
    pub disks: Vec<Result<OpenedDisk, Arc<OpenDisk>>>,
    /// How calls to disks are made.
    pub backend: DiskBackend,
}

/// A reactor of a group, to be started.
pub struct Seat<M: Machine> {
    /// What it is started with.
    pub config: ReactorConfig,
    /// Makes its machine, on its thread.
    pub build: Box<dyn FnOnce(&Opened) -> M + Send>,
    /// Hears its machine's reports, one after the other, on a thread of its own.
    pub report: Box<dyn FnMut(M::Report) + Send>,
}

/// Starts a reactor: opens everything, builds the machine on the reactor's thread, runs it.
///
/// `report` is called on a thread of its own, report by report: however slow it is, the reactor goes on. A panic of the
/// machine, or of `report`, ends the process.
///
/// # Errors
/// If an address, a required disk, memory or a thread cannot be had. Nothing is left behind then.
pub fn start<M>(
    config: ReactorConfig,
    build: impl FnOnce(&Opened) -> M + Send + 'static,
    report: impl FnMut(M::Report) + Send + 'static,
) -> Result<Handle<M::Control>, StartReactor>
where
    M: Machine + 'static,
    M::Control: Send + 'static,
    M::Report: Send + 'static,
{
    let seat: Seat<M> = Seat {
        config,
        build: Box::new(build),
        report: Box::new(report),
    };
    let mut handles = start_group(vec![seat])?;
    Ok(handles.pop().expect("one seat, one reactor"))
}

/// Starts reactors that may hand connections to each other ([`Output::HandOver`](fabric::driver::Output::HandOver)): the
/// [`ReactorIndex`](fabric::driver::ReactorIndex) of each is its place in `seats`, and in what is answered. They share
/// nothing else.
///
/// # Errors
/// As [`start`]; none runs then.
pub fn start_group<M>(seats: Vec<Seat<M>>) -> Result<Vec<Handle<M::Control>>, StartReactor>
where
    M: Machine + 'static,
    M::Control: Send + 'static,
    M::Report: Send + 'static,
{
    let mut group = Vec::new();
    for seat in &seats {
        let waker = Waker::open().map_err(|source| StartReactor::Spawn {
            name: seat.config.name.clone(),
            source,
        })?;
        group.push(Arc::new(Shared::new(Arc::new(waker))));
    }
    let group: Arc<[_]> = group.into();
    // Those that were started are stopped when their handles are dropped.
    let started = seats.into_iter().enumerate();
    started
        .map(|(index, seat)| start_one(seat, index, Arc::clone(&group)))
        .collect()
}

type Group<C> = Arc<[Arc<Shared<C>>]>;

fn start_one<M>(
    seat: Seat<M>,
    index: usize,
    group: Group<M::Control>,
) -> Result<Handle<M::Control>, StartReactor>
where
    M: Machine + 'static,
    M::Control: Send + 'static,
    M::Report: Send + 'static,
{
    let name = seat.config.name.clone();
    let failed = |source| StartReactor::Spawn {
        name: name.clone(),
        source,
    };
    let (reports, arriving) = mpsc::channel();
    let (opened_tell, opened_hear) = mpsc::channel();
    let shared = Arc::clone(&group[index]);
    let (config, build) = (seat.config, seat.build);
    let thread = std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || turn::run(config, index, &group, build, reports, &opened_tell))
        .map_err(failed)?;
    match opened_hear.recv().expect("a reactor tells how its start went") {
        Ok(opened) => {
            let reporter = carry_reports(&name, arriving, seat.report).map_err(failed);
            finish_start(shared, opened, thread, reporter)
        }
        Err(error) => {
            thread
                .join()
                .expect("a reactor that could not start ends in order");
            Err(error)
        }
    }
}

fn finish_start<C: Send + 'static>(
    shared: Arc<Shared<C>>,
    opened: Opened,
    reactor: JoinHandle<()>,
    reporter: Result<JoinHandle<()>, StartReactor>,
) -> Result<Handle<C>, StartReactor> {
    match reporter {
        Ok(reporter) => Ok(Handle::new(shared, opened, vec![reactor, reporter])),
        Err(error) => {
            // Dropping this handle stops the reactor.
            drop(Handle::new(shared, opened, vec![reactor]));
            Err(error)
        }
    }
}

fn carry_reports<R: Send + 'static>(
    name: &str,
    arriving: mpsc::Receiver<R>,
    report: impl FnMut(R) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("{name}-reports"))
        .spawn(move || {
            let _guard = AbortOnPanic;
            arriving.into_iter().for_each(report);
        })
}
