//! The way into a reactor from other threads: control messages, stop, status.
//!
//! Messages queue without bound and without waiting: whoever sends many must expect them to be taken one per event.

use crate::disk::{DiskBackend, DiskPace, DiskStatus};
use crate::disks::Disks;
use crate::epoll::Waker;
use crate::reactor::Opened;
use fabric::driver::ListenerId;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, ThreadId};

/// What a reactor counts, for status and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReactorStatus {
    /// How requests to disks are made.
    pub backend: DiskBackend,
    /// How often the loop has gone round: stands still while there is nothing to do.
    pub turns: u64,
    /// Events told to the machine.
    pub events: u64,
    /// Connections open, opening, or being closed in order.
    pub connections: u64,
    /// Bytes of the buffer pool that somebody holds.
    pub buffer_bytes_in_use: u64,
    /// Requests to disks that wait or are under way.
    pub disk_requests: u64,
    /// Every disk, in the order of the configuration.
    pub disks: Vec<DiskStatus>,
    /// Bytes of the buffer pool that are registered with io_uring, and so pinned.
    pub registered_bytes: u64,
    /// The kernel refused to register more: requests beyond go without, which is a little slower.
    pub registering_refused: bool,
}

/// The counters behind [`ReactorStatus`]: written by the reactor's thread, read by anybody.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) turns: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) buffer_bytes_in_use: AtomicU64,
    pub(crate) disk_requests: AtomicU64,
    disks: OnceLock<Box<[DiskCounters]>>,
    registered_bytes: AtomicU64,
    registering_refused: AtomicBool,
}

/// The numbers behind [`DiskStatus`].
#[derive(Default)]
struct DiskCounters {
    pace: AtomicU8,
    under_way: AtomicU64,
    waiting: AtomicU64,
    typical_nanos: AtomicU64,
    longest_nanos: AtomicU64,
    syncs: AtomicU64,
}

impl DiskCounters {
    fn store(&self, status: &DiskStatus) {
        self.pace.store(status.pace as u8, Ordering::Relaxed);
        self.under_way.store(status.under_way, Ordering::Relaxed);
        self.waiting.store(status.waiting, Ordering::Relaxed);
        self.typical_nanos.store(status.typical_nanos, Ordering::Relaxed);
        self.longest_nanos.store(status.longest_nanos, Ordering::Relaxed);
        self.syncs.store(status.syncs, Ordering::Relaxed);
    }

    fn load(&self) -> DiskStatus {
        DiskStatus {
            pace: DiskPace::ALL[usize::from(self.pace.load(Ordering::Relaxed))],
            under_way: self.under_way.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            typical_nanos: self.typical_nanos.load(Ordering::Relaxed),
            longest_nanos: self.longest_nanos.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
        }
    }
}

impl Counters {
    /// Takes over what has changed about the disks.
    pub(crate) fn publish_disks(&self, disks: &mut Disks) {
        let counters = self
            .disks
            .get_or_init(|| (0..disks.count()).map(|_| DiskCounters::default()).collect());
        disks.publish(|index, status| counters[index].store(&status));
        let (bytes, refused) = disks.registered_memory();
        self.registered_bytes.store(bytes, Ordering::Relaxed);
        self.registering_refused.store(refused, Ordering::Relaxed);
    }
}

/// A connection on its way from one reactor to another.
pub(crate) struct HandedOver {
    pub(crate) stream: TcpStream,
    pub(crate) listener: ListenerId,
    /// Every byte received on it so far.
    pub(crate) received: Vec<u8>,
}

/// What both sides of the seam between threads hold.
pub(crate) struct Shared<C> {
    pub(crate) waker: Arc<Waker>,
    pub(crate) counters: Counters,
    messages: Mutex<VecDeque<C>>,
    handed_over: Mutex<VecDeque<HandedOver>>,
    stopping: AtomicBool,
}

impl<C> Shared<C> {
    pub(crate) fn new(waker: Arc<Waker>) -> Shared<C> {
        Shared {
            waker,
            counters: Counters::default(),
            messages: Mutex::new(VecDeque::new()),
            handed_over: Mutex::new(VecDeque::new()),
            stopping: AtomicBool::new(false),
        }
    }
    pub(crate) fn take_messages(&self, into: &mut VecDeque<C>) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        into.append(&mut messages);
    }
    /// Another reactor gives a connection to this one.
    pub(crate) fn hand_over(&self, connection: HandedOver) {
        let mut handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        handed_over.push_back(connection);
        drop(handed_over);
        self.waker.wake();
    }
    pub(crate) fn take_handed_over(&self, into: &mut VecDeque<HandedOver>) {
        let mut handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        into.append(&mut handed_over);
    }
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
    fn request_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

/// The reactor has been stopped: the message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reactor has been stopped")]
pub struct Stopped;

/// A running reactor. Clones name the same one; when the last is dropped the reactor is stopped.
pub struct Handle<C: Send + 'static> {
    inner: Arc<Inner<C>>,
}

impl<C: Send + 'static> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Handle {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<C: Send + 'static> {
    shared: Arc<Shared<C>>,
    opened: Opened,
    /// The reactor, then the thread that carries its reports; taken by whoever stops them.
    threads: Mutex<Vec<JoinHandle<()>>>,
    own: Vec<ThreadId>,
}

impl<C: Send + 'static> Handle<C> {
    pub(crate) fn new(shared: Arc<Shared<C>>, opened: Opened, threads: Vec<JoinHandle<()>>) -> Handle<C> {
        let own = threads.iter().map(|thread| thread.thread().id()).collect();
        Handle {
            inner: Arc::new(Inner {
                shared,
                opened,
                threads: Mutex::new(threads),
                own,
            }),
        }
    }

    /// Tells the machine something, as [`Event::Control`](fabric::driver::Event::Control). Does not wait.
    pub fn control(&self, message: C) -> Result<(), Stopped> {
        let shared = &self.inner.shared;
        if shared.stopping() {
            return Err(Stopped);
        }
        let mut messages = shared.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push_back(message);
        drop(messages);
        shared.waker.wake();
        Ok(())
    }

    /// What was opened at the start: bound addresses, disks.
    pub fn opened(&self) -> &Opened {
        &self.inner.opened
    }

    /// What the reactor counts just now.
    pub fn status(&self) -> ReactorStatus {
        let counters = &self.inner.shared.counters;
        ReactorStatus {
            backend: self.inner.opened.backend.clone(),
            turns: counters.turns.load(Ordering::Relaxed),
            events: counters.events.load(Ordering::Relaxed),
            connections: counters.connections.load(Ordering::Relaxed),
            buffer_bytes_in_use: counters.buffer_bytes_in_use.load(Ordering::Relaxed),
            disk_requests: counters.disk_requests.load(Ordering::Relaxed),
            disks: counters
                .disks
                .get()
                .map_or_else(Vec::new, |disks| disks.iter().map(DiskCounters::load).collect()),
            registered_bytes: counters.registered_bytes.load(Ordering::Relaxed),
            registering_refused: counters.registering_refused.load(Ordering::Relaxed),
        }
    }

    /// Stops the reactor: connections are closed, requests under way at disks are waited for, disks are closed, the last
    /// report has been handed over. Returns when that is so; called from the reactor's own threads it does not wait.
    pub fn stop(&self) {
        self.inner.stop();
    }
}

impl<C: Send + 'static> Inner<C> {
    fn stop(&self) {
        self.shared.request_stop();
        let own = self.own.contains(&std::thread::current().id());
        if own {
            return;
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.drain(..).for_each(|thread| {
            thread
                .join()
                .expect("a reactor's thread that panics takes the process with it");
        });
    }
}

impl<C: Send + 'static> Drop for Inner<C> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A panic on a reactor's thread is a broken invariant of ours: nothing it promised can be relied upon any more, so
/// the process ends rather than lives on half.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
