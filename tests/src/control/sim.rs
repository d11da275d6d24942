//! The world that the processes of a control plane live in: one store, one network, one data plane, one clock, one seed.

use super::fault::{Fault, Weather};
use super::oracle::Oracle;
use super::plane::DataPlane;
use super::seat::Seat;
use super::trace::Trace;
use crate::world::Random;
use axum::Router;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use store::{Memory, Outcome, Store, StoreError, Transaction};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The data plane, shared by those who look at it.
pub type SharedPlane = Arc<Mutex<Box<dyn DataPlane>>>;

/// See the module.
pub struct Sim {
    /// What happened, a line each.
    pub trace: Arc<Trace>,
    /// The rules, and what they saw.
    pub oracle: Arc<Mutex<Oracle>>,
    /// The nodes.
    pub plane: SharedPlane,
    /// Some node's status changed.
    pub plane_changed: Notify,
    memory: Memory,
    committer: Arc<Mutex<String>>,
    random: Mutex<Random>,
    weather: Mutex<Weather>,
    watches_end: Mutex<Arc<Ending>>,
    seats: Mutex<BTreeMap<SocketAddr, Arc<Seat>>>,
    api_servers: Mutex<Vec<Router>>,
    begun: Instant,
}

/// Something that ends once, for all who wait for it.
#[derive(Default)]
pub struct Ending {
    over: AtomicBool,
    told: Notify,
}

impl Ending {
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
    /// Ready when it ends.
    pub async fn wait(&self) {
        let told = self.told.notified();
        if !self.is_over() {
            told.await;
        }
    }
    fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.told.notify_waiters();
    }
}

impl Sim {
    /// An empty world.
    pub fn new(seed: u64, trace: Arc<Trace>, plane: Box<dyn DataPlane>) -> Arc<Sim> {
        let plane = Arc::new(Mutex::new(plane));
        let oracle = Arc::new(Mutex::new(Oracle::new(plane.clone())));
        let committer = Arc::new(Mutex::new(String::new()));
        let observer = {
            let (oracle, committer, trace) = (oracle.clone(), committer.clone(), trace.clone());
            move |revision: store::StoreRevision, changes: &[store::Change]| {
                let by = std::mem::take(&mut *committer.lock().expect("one thread"));
                trace.say(|| super::trace::of_commit(revision, &by, changes));
                oracle.lock().expect("one thread").see(revision, &by, changes);
            }
        };
        Arc::new(Sim {
            memory: Memory::new(Box::new(observer)),
            trace,
            oracle,
            plane,
            plane_changed: Notify::new(),
            committer,
            random: Mutex::new(Random::new(seed)),
            weather: Mutex::default(),
            watches_end: Mutex::default(),
            seats: Mutex::default(),
            api_servers: Mutex::default(),
            begun: Instant::now(),
        })
    }

    /// Since the beginning.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }
    /// The model store itself, without what happens on the way to it.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
    /// Chance of one's own.
    pub fn fork(&self) -> Random {
        Random::new(self.random.lock().expect("one thread").draw())
    }
    /// A number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        self.random.lock().expect("one thread").below(limit)
    }
    /// Up to some milliseconds, and up to more while a fault lasts.
    pub fn delay(&self, usual_ms: u64, fault: Fault, most_ms: u64) -> Duration {
        let more = if self.is(fault) { self.below(most_ms) } else { 0 };
        Duration::from_millis(self.below(usual_ms + 1) + more)
    }
    /// Whether a fault lasts.
    pub fn is(&self, fault: Fault) -> bool {
        self.weather().is(fault)
    }
    /// The faults that last.
    pub fn weather(&self) -> MutexGuard<'_, Weather> {
        self.weather.lock().expect("one thread")
    }
    /// Nodes, as they are.
    pub fn plane(&self) -> MutexGuard<'_, Box<dyn DataPlane>> {
        self.plane.lock().expect("one thread")
    }
    /// A line of the trace.
    pub fn say(&self, line: impl FnOnce() -> String) {
        self.trace.say(line);
    }
    /// A rule was seen broken.
    pub fn accuse(&self, rule: &'static str, what: String) {
        self.oracle.lock().expect("one thread").accuse(rule, what);
    }

    /// Commit, in somebody's name.
    pub async fn commit_as(&self, name: &str, transaction: Transaction) -> Result<Outcome, StoreError> {
        *self.committer.lock().expect("one thread") = name.into();
        let outcome = self.memory.commit(transaction).await;
        self.committer.lock().expect("one thread").clear();
        outcome
    }

    /// When the watches of now break.
    pub fn watches_end(&self) -> Arc<Ending> {
        self.watches_end.lock().expect("one thread").clone()
    }
    /// All watches break.
    pub fn end_watches(&self) {
        let ending = std::mem::take(&mut *self.watches_end.lock().expect("one thread"));
        ending.end();
    }

    /// The agent that listens there.
    pub fn seat(&self, address: SocketAddr) -> Option<Arc<Seat>> {
        self.seats.lock().expect("one thread").get(&address).cloned()
    }
    /// An agent listens there from now on.
    pub fn listen(&self, address: SocketAddr, seat: &Arc<Seat>) {
        self.seats
            .lock()
            .expect("one thread")
            .insert(address, seat.clone());
    }
    /// Nobody listens there any more.
    pub fn hang_up(&self, address: SocketAddr) {
        self.seats.lock().expect("one thread").remove(&address);
    }

    /// An api-server, if that one has been started.
    pub fn api_server(&self, index: usize) -> Option<Router> {
        self.api_servers.lock().expect("one thread").get(index).cloned()
    }
    /// Start an api-server in the place of another.
    pub fn put_api_server(&self, index: usize, router: Router) {
        let mut servers = self.api_servers.lock().expect("one thread");
        if index == servers.len() {
            servers.push(router);
        } else {
            servers[index] = router;
        }
    }
}
