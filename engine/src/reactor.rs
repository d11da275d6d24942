//! The loop: sleep, tell the machine what happened, do what it asks.
//!
//! One turn tells each ready connection's bytes once (a bounded read), then completed disk requests, then the timeout
//! if it is due; then everything queued leaves: one gathered send per connection, one submission to the disks. Between two
//! events all outputs are taken. What an output brings about at once (a connection that cannot be opened, a memory
//! disk's answer) is told in the next turn, never inside the call.

use crate::buffer::Pool;
use crate::clock;
use crate::control::{AbortOnPanic, Handle, Shared};
use crate::disk::{DiskBackend, DiskConfig, Disks, OpenedDisk};
use crate::epoll::{Epoll, Interest, Ready, Waker};
use crate::error::{OpenDisk, StartReactor};
use crate::socket::{Arrived, Closings, Sockets, TOKEN_RING, TOKEN_WAKER};
use block::Time;
use fabric::driver::{CloseReason, ConnectionId, DiskError, DiskRequestId, Event, Machine, Output};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
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

/// Starts a reactor: opens everything, builds the machine on the reactor's thread, runs it.
///
/// `report` is called on a thread of its own, report by report: however slow it is, the reactor goes on. A panic of the
/// machine, or of `report`, ends the process.
///
/// # Errors
/// If an address, a required disk, memory or a thread cannot be had. Nothing is left behind then.
pub fn start<M: Machine>(
    config: ReactorConfig,
    build: impl FnOnce(&Opened) -> M + Send + 'static,
    report: impl FnMut(M::Report) + Send + 'static,
) -> Result<Handle<M::Control>, StartReactor>
where
    M::Control: Send + 'static,
    M::Report: Send + 'static,
{
    let name = config.name.clone();
    let failed = |source| StartReactor::Spawn {
        name: name.clone(),
        source,
    };
    let shared = Arc::new(Shared::new(Arc::new(Waker::open().map_err(failed)?)));
    let (reports, arriving) = mpsc::channel();
    let (opened_tell, opened_hear) = mpsc::channel();
    let for_thread = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || run(config, &for_thread, build, reports, &opened_tell))
        .map_err(failed)?;
    match opened_hear.recv().expect("a reactor tells how its start went") {
        Ok(opened) => {
            let reporter = carry_reports(&name, arriving, report).map_err(failed);
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

/// The reactor's thread.
fn run<M: Machine>(
    config: ReactorConfig,
    shared: &Arc<Shared<M::Control>>,
    build: impl FnOnce(&Opened) -> M,
    reports: mpsc::Sender<M::Report>,
    tell: &mpsc::Sender<Result<Opened, StartReactor>>,
) {
    let _guard = AbortOnPanic;
    let (world, opened) = match World::open(&config, shared.waker.clone()) {
        Ok(opened) => opened,
        Err(error) => {
            tell.send(Err(error))
                .expect("whoever starts a reactor waits for it");
            return;
        }
    };
    let machine = build(&opened);
    let mut reactor = Reactor {
        machine,
        world,
        shared: Arc::clone(shared),
        reports,
        messages: VecDeque::new(),
        receive: vec![0; config.read_bytes.max(4096)],
        events: 0,
    };
    reactor.drain();
    reactor.leave();
    tell.send(Ok(opened))
        .expect("whoever starts a reactor waits for it");
    while !shared.stopping() {
        reactor.turn();
    }
    reactor.finish();
}

/// What a reactor has to do with the world.
struct World {
    epoll: Epoll,
    sockets: Sockets,
    disks: Disks,
    pool: Pool,
    /// To be told to the machine.
    closings: Closings,
    completions: VecDeque<(DiskRequestId, Result<(), DiskError>)>,
}

impl World {
    fn open(config: &ReactorConfig, waker: Arc<Waker>) -> Result<(World, Opened), StartReactor> {
        let failed = |source| StartReactor::Spawn {
            name: config.name.clone(),
            source,
        };
        let epoll = Epoll::open().map_err(failed)?;
        epoll
            .add(waker.descriptor(), TOKEN_WAKER, Interest::READ)
            .map_err(failed)?;
        let mut sockets = Sockets::new(config.unsent_limit_bytes);
        let bind = |address: &SocketAddr| sockets.listen(*address, config.reuse_port, &epoll);
        let listeners = config.listeners.iter().map(bind).collect::<Result<_, _>>()?;
        let disks = Disks::open(&config.name, &config.disks, config.disk_backend, waker)?;
        if let Some(ring) = disks.disks.ring_signal() {
            epoll.add_edge(ring, TOKEN_RING).map_err(failed)?;
        }
        let pool = Pool::new(config.memory_bytes).map_err(|source| StartReactor::ReserveMemory {
            bytes: config.memory_bytes,
            source,
        })?;
        let opened = Opened {
            listeners,
            disks: disks.opened,
            backend: disks.backend,
        };
        let world = World {
            epoll,
            sockets,
            disks: disks.disks,
            pool,
            closings: VecDeque::new(),
            completions: VecDeque::new(),
        };
        Ok((world, opened))
    }
}

struct Reactor<M: Machine> {
    machine: M,
    world: World,
    shared: Arc<Shared<M::Control>>,
    reports: mpsc::Sender<M::Report>,
    messages: VecDeque<M::Control>,
    receive: Vec<u8>,
    events: u64,
}

impl<M: Machine> Reactor<M> {
    /// Sleeps until there is something, and does it.
    fn turn(&mut self) {
        let mut ready = Vec::new();
        let until = self.sleep_until();
        let world = &mut self.world;
        world
            .epoll
            .wait(clock::now(), until, &mut ready)
            .expect("our own epoll set can be waited for");
        self.shared.counters.turns.fetch_add(1, Ordering::Relaxed);
        for ready in ready {
            self.ready(ready);
        }
        self.tell_completions();
        self.tell_closings();
        self.tell_timeout();
        self.leave();
    }

    /// Now, if something is to be told already.
    fn sleep_until(&self) -> Option<Time> {
        let waiting = !self.world.closings.is_empty() || !self.world.completions.is_empty();
        if waiting || !self.messages.is_empty() {
            return Some(Time::ZERO);
        }
        let timeouts = [self.machine.next_timeout(), self.world.sockets.next_deadline()];
        timeouts.into_iter().flatten().min()
    }

    fn ready(&mut self, ready: Ready) {
        if ready.token == TOKEN_WAKER {
            self.shared.waker.lower();
            self.tell_messages();
        } else if ready.token == TOKEN_RING {
            // Taken below, in every turn.
        } else if let Some(listener) = Sockets::listener_of(ready.token) {
            let mut accepted = Vec::new();
            self.world
                .sockets
                .accept(listener, clock::now(), &self.world.epoll, &mut accepted);
            for connection in accepted {
                self.tell(Event::Accepted { connection, listener });
            }
        } else {
            self.connection_ready(ConnectionId(ready.token), ready);
        }
    }

    fn connection_ready(&mut self, connection: ConnectionId, ready: Ready) {
        match self.world.sockets.finish_connect(connection, ready) {
            Some(Ok(())) => return self.tell(Event::Connected { connection }),
            Some(Err(reason)) => return self.closed(connection, reason),
            None => {}
        }
        if ready.write {
            self.world.sockets.writable(connection);
        }
        if ready.read || ready.broken {
            self.read(connection, ready);
        }
    }

    fn read(&mut self, connection: ConnectionId, ready: Ready) {
        let mut receive = std::mem::take(&mut self.receive);
        match self.world.sockets.read(connection, ready, &mut receive) {
            Arrived::Bytes(count) => self.tell(Event::Received {
                connection,
                bytes: &receive[..count],
            }),
            Arrived::Nothing => {}
            Arrived::Closed(reason) => self.closed(connection, reason),
        }
        self.receive = receive;
    }

    fn closed(&mut self, connection: ConnectionId, reason: CloseReason) {
        let world = &mut self.world;
        if world.sockets.discard(connection, &mut world.pool) {
            self.tell(Event::Closed { connection, reason });
        }
    }

    /// Those that were there when it began: answers to answers come in the next turn.
    fn tell_messages(&mut self) {
        self.shared.take_messages(&mut self.messages);
        for _ in 0..self.messages.len() {
            if let Some(message) = self.messages.pop_front() {
                self.tell(Event::Control(message));
            }
        }
    }

    fn tell_completions(&mut self) {
        let world = &mut self.world;
        world.disks.completed(&mut world.completions);
        for _ in 0..self.world.completions.len() {
            if let Some((request, result)) = self.world.completions.pop_front() {
                self.tell(Event::DiskCompleted { request, result });
            }
        }
    }

    fn tell_closings(&mut self) {
        for _ in 0..self.world.closings.len() {
            if let Some((connection, reason)) = self.world.closings.pop_front() {
                self.tell(Event::Closed { connection, reason });
            }
        }
    }

    fn tell_timeout(&mut self) {
        let now = clock::now();
        if self.machine.next_timeout().is_some_and(|timeout| timeout <= now) {
            self.tell(Event::Timeout);
        }
        let world = &mut self.world;
        world.sockets.expire(now, &world.epoll, &mut world.pool);
    }

    fn tell(&mut self, event: Event<'_, M::Control>) {
        self.events += 1;
        self.machine.handle(clock::now(), event, &mut self.world.pool);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            self.apply(output);
        }
    }

    fn apply(&mut self, output: Output<M::Report>) {
        let world = &mut self.world;
        match output {
            Output::Connect { connection, address } => {
                if world.sockets.connect(connection, address, &world.epoll).is_err() {
                    world.closings.push_back((connection, CloseReason::Broken));
                }
            }
            Output::Send { connection, segment } => {
                world
                    .sockets
                    .enqueue(connection, segment, &mut world.pool, &mut world.closings);
            }
            Output::Close { connection, abort } => {
                world
                    .sockets
                    .close(connection, abort, clock::now(), &mut world.pool);
                world.closings.retain(|(closing, _)| *closing != connection);
            }
            Output::Disk {
                request,
                disk,
                operation,
            } => {
                let ended = world.disks.submit(request, disk, operation, &mut world.pool);
                world.completions.extend(ended.map(|result| (request, result)));
            }
            Output::HandOver {
                connection, reactor, ..
            } => panic!("{connection:?} goes to {reactor:?}, and this reactor is alone"),
            // Nobody listens only if the thread that carries reports could not be started: then this reactor ends too.
            Output::Report(report) => drop(self.reports.send(report)),
        }
    }

    /// Sends and submits what has been queued; brings the counters up to date.
    fn leave(&mut self) {
        let world = &mut self.world;
        world
            .sockets
            .flush(&world.epoll, &mut world.pool, &mut world.closings);
        world.disks.flush();
        let counters = &self.shared.counters;
        counters.events.store(self.events, Ordering::Relaxed);
        counters
            .connections
            .store(world.sockets.count() as u64, Ordering::Relaxed);
        counters
            .buffer_bytes_in_use
            .store(world.pool.in_use_bytes(), Ordering::Relaxed);
        counters
            .disk_requests
            .store(world.disks.requests(), Ordering::Relaxed);
    }

    /// The end: what the kernel still writes to must be waited for, everything else is dropped.
    fn finish(mut self) {
        let world = &mut self.world;
        world.disks.forget_waiting();
        world.sockets.clear(&mut world.pool);
        let mut ready = Vec::new();
        let mut ended = VecDeque::new();
        while world.disks.requests() > 0 {
            world
                .epoll
                .wait(clock::now(), None, &mut ready)
                .expect("our own epoll set can be waited for");
            self.shared.waker.lower();
            world.disks.completed(&mut ended);
        }
    }
}
