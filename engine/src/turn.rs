//! The loop: wait, tell the machine what happened, do what it asks.
//!
//! One turn tells each ready connection's bytes once or twice (a bounded read), then completed disk requests, then the timeout
//! if it is due; then everything queued leaves: one gathered send per connection, one submission to the disks. Between two
//! events all outputs are taken. What an output brings about at once (a connection that cannot be opened, a memory
//! disk's answer) is told later in the turn or in the next, never inside the call.
//!
//! Time is read after the kernel has given what an event tells, so that no answer of a peer is taken for older than it is
//! (R5), and once for all that came together.
//!
//! [`Pace`] says whether a turn that finds nothing ready waits or looks again. Looking again begins with the connections
//! that spoke last, without asking epoll.

use crate::buffer::Pool;
use crate::clock;
use crate::control::{AbortOnPanic, HandedOver, Shared};
use crate::disks::Disks;
use crate::epoll::{Epoll, Interest, Ready, Waker};
use crate::error::StartReactor;
use crate::pace::{Pace, Wait};
use crate::reactor::{Opened, ReactorConfig};
use crate::socket::{Arrived, Closings, Key, SEND_EARLY_BYTES, Sockets, TOKEN_RING, TOKEN_WAKER};
use block::Time;
use fabric::driver::{
    CloseReason, ConnectionId, DiskError, DiskRequestId, Event, ListenerId, Machine, Output, ReactorIndex,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

/// Connections that are looked at without asking epoll.
const CLOSE_MAX: usize = 4;
/// So many turns in a row that found something may do without epoll: then it is asked for the other connections.
const TURNS_WITHOUT_EPOLL: u32 = 16;
/// With so much to send in a turn the connections that spoke last are looked at once more. (More leaves in several pieces anyway.)
const LOOK_AGAIN_BYTES: std::ops::Range<u64> = 16 << 10..128 << 10;
/// So many requests to memory are carried out before further connections are read.
const AT_MEMORY_EARLY: usize = 32;
/// Of so many looks that found nothing one asks epoll, and lets other threads run first.
const LOOKS_CLOSE: u32 = 4;

/// Where peers share the core they do not go on before this thread lets them: what leaves early is a send more, and nothing sooner.
const SEND_EARLY_SHARED_BYTES: usize = 256 << 10;
/// With so many requests under way at disks, the time it takes to be woken for one hides behind the others: polling would cost
/// CPU, and bring nothing.
const DISK_REQUESTS_HIDE_WAKING: u64 = 8;

/// The reactor's thread.
pub(crate) fn run<M: Machine>(
    config: ReactorConfig,
    index: usize,
    group: &Arc<[Arc<Shared<M::Control>>]>,
    build: impl FnOnce(&Opened) -> M,
    reports: mpsc::Sender<M::Report>,
    tell: &mpsc::Sender<Result<Opened, StartReactor>>,
) {
    let _guard = AbortOnPanic;
    let shared = Arc::clone(&group[index]);
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
        group: Arc::clone(group),
        shared,
        reports,
        pace: Pace::new(config.polling.spin),
        ready: Vec::new(),
        close: Vec::new(),
        turns_without_epoll: 0,
        dry_looks: 0,
        held: Vec::new(),
        given_back: 0,
        left_bytes: 0,
        accepted: Vec::new(),
        messages: VecDeque::new(),
        handed_over: VecDeque::new(),
        receive: vec![0; config.read_bytes.max(4096)],
        turns: 0,
        events: 0,
        worked: false,
    };
    reactor.drain();
    reactor.leave();
    tell.send(Ok(opened))
        .expect("whoever starts a reactor waits for it");
    let mut wait = Wait::Sleep;
    while !reactor.shared.stopping() {
        wait = reactor.turn(wait);
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
        if let Some(core) = config.core {
            crate::affinity::pin_to_core(core).map_err(failed)?;
        }
        let epoll = Epoll::open().map_err(failed)?;
        epoll.busy_poll(config.polling.busy_poll);
        epoll
            .add(waker.descriptor(), TOKEN_WAKER, Interest::READ)
            .map_err(failed)?;
        let mut sockets = Sockets::new(config.unsent_limit_bytes);
        let bind = |address: &SocketAddr| sockets.listen(*address, config.reuse_port, &epoll);
        let listeners = config.listeners.iter().map(bind).collect::<Result<_, _>>()?;
        let mut disks = Disks::open(&config.name, &config.disks, config.disk_backend, waker)?;
        if let Some(ring) = disks.disks.ring_signal() {
            epoll.add_edge(ring, TOKEN_RING).map_err(failed)?;
        }
        let pool = Pool::new(config.memory_bytes).map_err(|source| StartReactor::ReserveMemory {
            bytes: config.memory_bytes,
            source,
        })?;
        disks.disks.lend_memory(&pool);
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
    group: Arc<[Arc<Shared<M::Control>>]>,
    shared: Arc<Shared<M::Control>>,
    reports: mpsc::Sender<M::Report>,
    pace: Pace,
    ready: Vec<Ready>,
    /// The connections that spoke last, if they were few.
    close: Vec<Key>,
    turns_without_epoll: u32,
    /// In a row, without finding anything.
    dry_looks: u32,
    /// Connections whose bytes the machine does not want just now.
    held: Vec<Key>,
    /// How many buffers had come back when the machine was told something last.
    given_back: u64,
    /// Of the bytes to be sent so far, how many were handed to the sockets' send last.
    left_bytes: u64,
    accepted: Vec<ConnectionId>,
    messages: VecDeque<M::Control>,
    handed_over: VecDeque<HandedOver>,
    receive: Vec<u8>,
    turns: u64,
    events: u64,
    /// The machine was told something in this turn.
    worked: bool,
}

impl<M: Machine> Reactor<M> {
    /// Looks for what has happened, or sleeps until something has; does it; says how to wait for the next.
    fn turn(&mut self, wait: Wait) -> Wait {
        self.worked = false;
        self.turns += 1;
        self.world.sockets.send_early_at(match self.pace.gives_way() {
            true => SEND_EARLY_SHARED_BYTES,
            false => SEND_EARLY_BYTES,
        });
        let queued = self.world.sockets.queued_bytes();
        let close = wait == Wait::Poll && self.may_look_close();
        let enough = close && (self.look_close() || self.dry_looks % LOOKS_CLOSE != LOOKS_CLOSE - 1);
        if !enough {
            self.look_around(wait);
        }
        self.tell_completions();
        // A look for what has come meanwhile costs little beside so many payloads: the answers leave together. Answers without
        // payloads do not wait for others: the peer is the one who has work to do then.
        let sent = self.world.sockets.queued_bytes() - queued;
        if LOOK_AGAIN_BYTES.contains(&sent) && self.may_look_close() && self.look_close() {
            self.tell_completions();
        }
        self.tell_closings();
        self.tell_timeout();
        self.release_held();
        self.leave();
        self.wait_next()
    }

    fn wait_next(&mut self) -> Wait {
        if self.worked {
            self.pace.worked();
        }
        if self.has_to_tell() {
            return Wait::Poll;
        }
        self.dry_looks = match self.worked {
            true => 0,
            false => self.dry_looks.wrapping_add(1),
        };
        if self.world.disks.requests() >= DISK_REQUESTS_HIDE_WAKING {
            return Wait::Sleep;
        }
        let enough = self.dry_looks % LOOKS_CLOSE == LOOKS_CLOSE - 1;
        if self.pace.is_polling() && (enough || self.pace.gives_way()) {
            crate::affinity::let_others_run();
        }
        self.pace.dry(clock::now(), crate::affinity::times_displaced)
    }

    fn may_look_close(&self) -> bool {
        !self.close.is_empty() && self.turns_without_epoll < TURNS_WITHOUT_EPOLL && !self.pace.gives_way()
    }

    /// Reads from the connections that spoke last; whether one had something.
    fn look_close(&mut self) -> bool {
        self.turns_without_epoll += 1;
        let close = std::mem::take(&mut self.close);
        let mut found = false;
        for key in &close {
            found |= self.read(*key, false);
        }
        self.close = close;
        found
    }

    /// Asks epoll, for as long as `wait` says.
    fn look_around(&mut self, wait: Wait) {
        self.turns_without_epoll = 0;
        let until = match wait {
            Wait::Poll => Some(Time::ZERO),
            Wait::Sleep => self.sleep_until(),
        };
        let mut ready = std::mem::take(&mut self.ready);
        self.world
            .epoll
            .wait(clock::now(), until, &mut ready)
            .expect("our own epoll set can be waited for");
        if !ready.is_empty() {
            self.close.clear();
        }
        let many = ready.len() > CLOSE_MAX;
        for ready in &ready {
            self.ready(*ready);
            if many {
                self.leave_early();
            }
        }
        if many {
            self.close.clear();
        }
        self.ready = ready;
    }

    /// With many connections ready, what the first have brought about is worked off before the last are read: payloads are sent, and
    /// buffers used again, while they are in the caches.
    fn leave_early(&mut self) {
        if self.world.disks.at_memory() >= AT_MEMORY_EARLY {
            self.tell_at_memory();
        }
        let world = &mut self.world;
        let queued = world.sockets.queued_bytes();
        if queued - self.left_bytes >= SEND_EARLY_BYTES as u64 {
            self.left_bytes = queued;
            world
                .sockets
                .flush(&world.epoll, &mut world.pool, &mut world.closings);
        }
    }

    fn has_to_tell(&self) -> bool {
        self.memory_came_back()
            || !self.world.closings.is_empty()
            || !self.world.completions.is_empty()
            || self.world.disks.at_memory() > 0
            || !self.messages.is_empty()
    }

    /// Something waits for a buffer, and one has come back that the machine does not know of.
    fn memory_came_back(&self) -> bool {
        self.world.pool.given_back() != self.given_back && self.machine.waits_for_memory()
    }

    /// Bytes that were not wanted may be now.
    fn release_held(&mut self) {
        if self.held.is_empty() || !self.worked {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        let world = &mut self.world;
        held.retain(|key| {
            let Some(connection) = world.sockets.name(*key) else {
                return false;
            };
            let wanted = self.machine.wants_bytes(connection);
            if wanted {
                world.sockets.hold(*key, false, &world.epoll);
            }
            !wanted
        });
        self.held = held;
    }

    fn sleep_until(&self) -> Option<Time> {
        let timeouts = [
            self.machine.next_timeout(),
            self.world.sockets.next_deadline(),
            self.world.disks.next_look(),
        ];
        timeouts.into_iter().flatten().min()
    }

    fn ready(&mut self, ready: Ready) {
        if ready.token == TOKEN_WAKER {
            self.shared.waker.lower();
            self.tell_messages();
            self.take_over();
        } else if ready.token == TOKEN_RING {
            // Taken below, in every turn.
        } else if let Some(listener) = Sockets::listener_of(ready.token) {
            self.accept(listener);
        } else {
            self.connection_ready(Key(ready.token), ready);
        }
    }

    fn accept(&mut self, listener: ListenerId) {
        let mut accepted = std::mem::take(&mut self.accepted);
        let now = clock::now();
        let world = &mut self.world;
        world.sockets.accept(listener, now, &world.epoll, &mut accepted);
        for connection in accepted.drain(..) {
            self.tell(now, Event::Accepted { connection, listener });
        }
        self.accepted = accepted;
    }

    /// Connections that other reactors of the group have handed over.
    fn take_over(&mut self) {
        self.shared.take_handed_over(&mut self.handed_over);
        while let Some(handed) = self.handed_over.pop_front() {
            let listener = handed.listener;
            let world = &mut self.world;
            let adopted = world.sockets.adopt(handed.stream, listener, &world.epoll);
            if let Some(connection) = adopted {
                let event = Event::HandedOver {
                    connection,
                    listener,
                    received: &handed.received,
                };
                self.tell(clock::now(), event);
            }
        }
    }

    fn connection_ready(&mut self, key: Key, ready: Ready) {
        match self.world.sockets.finish_connect(key, ready) {
            Some(Ok(())) => {
                if let Some(connection) = self.world.sockets.name(key) {
                    self.tell(clock::now(), Event::Connected { connection });
                }
                return;
            }
            Some(Err(reason)) => return self.closed(key, reason),
            None => {}
        }
        if ready.write {
            self.world.sockets.writable(key);
        }
        if (ready.read || ready.broken) && self.read(key, ready.broken) && self.close.len() <= CLOSE_MAX {
            self.close.push(key);
        }
    }

    /// Receives once and tells; whether bytes came.
    fn read(&mut self, key: Key, broken: bool) -> bool {
        let Some(connection) = self.world.sockets.name(key) else {
            // Being closed in order: what it says is dropped.
            let mut receive = std::mem::take(&mut self.receive);
            if let Arrived::Closed(reason) = self.world.sockets.read(key, broken, None, &mut receive) {
                self.closed(key, reason);
            }
            self.receive = receive;
            return false;
        };
        if !broken && !self.machine.wants_bytes(connection) {
            let world = &mut self.world;
            world.sockets.hold(key, true, &world.epoll);
            self.held.push(key);
            return false;
        }
        let pool = &mut self.world.pool;
        let landing = self.machine.landing(connection).map(|slice| libc::iovec {
            iov_base: pool.address(slice).cast(),
            iov_len: slice.length as usize,
        });
        let mut receive = std::mem::take(&mut self.receive);
        let arrived = self.world.sockets.read(key, broken, landing, &mut receive);
        if let Arrived::Bytes { landed, received } = arrived {
            self.tell_bytes(connection, landed, &receive[..received]);
        }
        self.receive = receive;
        match arrived {
            Arrived::Bytes { .. } => true,
            Arrived::Nothing => false,
            Arrived::Closed(reason) => {
                self.closed(key, reason);
                false
            }
        }
    }

    fn tell_bytes(&mut self, connection: ConnectionId, landed: usize, bytes: &[u8]) {
        let now = clock::now();
        if landed > 0 {
            let length = landed as u32;
            self.tell(now, Event::Landed { connection, length });
        }
        if !bytes.is_empty() {
            self.tell(now, Event::Received { connection, bytes });
        }
    }

    fn closed(&mut self, key: Key, reason: CloseReason) {
        let world = &mut self.world;
        if let Some(connection) = world.sockets.discard(key, &mut world.pool) {
            self.tell(clock::now(), Event::Closed { connection, reason });
        }
    }

    /// Those that were there when it began: answers to answers come in the next turn.
    fn tell_messages(&mut self) {
        self.shared.take_messages(&mut self.messages);
        for _ in 0..self.messages.len() {
            if let Some(message) = self.messages.pop_front() {
                self.tell(clock::now(), Event::Control(message));
            }
        }
    }

    fn tell_completions(&mut self) {
        let world = &mut self.world;
        world.disks.completed(&mut world.completions);
        if !world.completions.is_empty() {
            let now = clock::now();
            for _ in 0..self.world.completions.len() {
                if let Some((request, result)) = self.world.completions.pop_front() {
                    self.tell(now, Event::DiskCompleted { request, result });
                }
            }
        }
        self.tell_at_memory();
    }

    /// Carries out requests to memory: those that are there now.
    fn tell_at_memory(&mut self) {
        let count = self.world.disks.at_memory();
        if count == 0 {
            return;
        }
        let now = clock::now();
        for _ in 0..count {
            let world = &mut self.world;
            if let Some((request, result)) = world.disks.next_at_memory(&mut world.pool) {
                self.tell(now, Event::DiskCompleted { request, result });
            }
        }
    }

    fn tell_closings(&mut self) {
        for _ in 0..self.world.closings.len() {
            if let Some((connection, reason)) = self.world.closings.pop_front() {
                self.tell(clock::now(), Event::Closed { connection, reason });
            }
        }
    }

    fn tell_timeout(&mut self) {
        let (machine, sockets) = (self.machine.next_timeout(), self.world.sockets.next_deadline());
        let memory = self.memory_came_back();
        if machine.is_none() && sockets.is_none() && !memory {
            return;
        }
        let now = clock::now();
        if memory || machine.is_some_and(|timeout| timeout <= now) {
            self.tell(now, Event::Timeout);
        }
        let world = &mut self.world;
        world.sockets.expire(now, &world.epoll, &mut world.pool);
    }

    fn tell(&mut self, now: Time, event: Event<'_, M::Control>) {
        self.events += 1;
        self.worked = true;
        self.machine.handle(now, event, &mut self.world.pool);
        self.drain();
        self.given_back = self.world.pool.given_back();
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
            Output::HandOver {
                connection,
                reactor,
                received,
            } => self.hand_over(connection, reactor, received),
            Output::Disk {
                request,
                disk,
                operation,
            } => {
                let ended = world.disks.submit(request, disk, operation, &mut world.pool);
                world.completions.extend(ended.map(|result| (request, result)));
            }
            // Nobody listens only if the thread that carries reports could not be started: then this reactor ends too.
            Output::Report(report) => drop(self.reports.send(*report)),
        }
    }

    fn hand_over(&mut self, connection: ConnectionId, reactor: ReactorIndex, received: Vec<u8>) {
        let world = &mut self.world;
        world.closings.retain(|(closing, _)| *closing != connection);
        let departed = world.sockets.depart(connection, &world.epoll, &mut world.pool);
        let Some(departed) = departed else { return };
        let to = self.group.get(reactor.0 as usize);
        to.expect("a reactor of the group").hand_over(HandedOver {
            stream: departed.stream,
            listener: departed.listener,
            received,
        });
    }

    /// Sends and submits what has been queued; brings the counters up to date.
    fn leave(&mut self) {
        let world = &mut self.world;
        self.left_bytes = world.sockets.queued_bytes();
        world
            .sockets
            .flush(&world.epoll, &mut world.pool, &mut world.closings);
        world.disks.flush();
        let counters = &self.shared.counters;
        counters.turns.store(self.turns, Ordering::Relaxed);
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
        counters.publish_disks(&mut world.disks);
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
