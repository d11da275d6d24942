//! One process's way to the store: the model store of the whole world, seen through what can go wrong on the way. A process that died is not
//! answered any more, one that stands still neither until it goes on; what was sent may happen all the same.

use super::fault::Fault;
use super::sim::Sim;
use crate::world::Random;
use futures::StreamExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{
    BoxFuture, KeyRange, Lease, LeaseId, Limits, Outcome, Outside, Read, Snapshot, Store, StoreError,
    StoreRevision, Transaction, Watch, WatchSignal,
};
use tokio::time::{Instant, sleep, sleep_until};

/// Whether a process lives, and whether it goes on.
#[derive(Debug)]
pub struct Life {
    /// Who, for the trace.
    pub name: String,
    dead: AtomicBool,
    paused_until: Mutex<Instant>,
}

impl Life {
    /// A process that begins.
    pub fn new(name: String) -> Arc<Life> {
        Arc::new(Life {
            name,
            dead: AtomicBool::new(false),
            paused_until: Mutex::new(Instant::now()),
        })
    }
    /// It is no more.
    pub fn end(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }
    /// It stands still for so long.
    pub fn pause(&self, span: Duration) {
        *self.paused_until.lock().expect("one thread") = Instant::now() + span;
    }
    /// Ready when it goes on; never if it died.
    pub async fn goes_on(&self) {
        loop {
            if self.dead.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let until = *self.paused_until.lock().expect("one thread");
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// See the module.
pub struct Client {
    sim: Arc<Sim>,
    life: Arc<Life>,
    outside: Seeded,
}

/// Chance from the seed, and a clock that goes its own way.
struct Seeded {
    random: Mutex<Random>,
    begun: Instant,
    ahead_ms: u64,
    per_mille: u64,
}

impl Outside for Seeded {
    fn random(&self) -> u64 {
        self.random.lock().expect("one thread").draw()
    }
    fn now_ms(&self) -> u64 {
        let since = self.begun.elapsed().as_millis() as u64;
        1_700_000_000_000 + self.ahead_ms + since * self.per_mille / 1000
    }
}

impl Client {
    /// A process's client.
    pub fn new(sim: &Arc<Sim>, life: Arc<Life>) -> Client {
        let mut random = sim.fork();
        let outside = Seeded {
            begun: Instant::now(),
            ahead_ms: random.below(4000),
            per_mille: 900 + random.below(200),
            random: Mutex::new(random),
        };
        let sim = sim.clone();
        Client { sim, life, outside }
    }

    /// There and back, with what can happen to it.
    async fn way(&self) -> Result<(), StoreError> {
        self.life.goes_on().await;
        let (stalls, away) = (Fault::StoreStalls, Fault::StoreAway);
        let wait = self.sim.delay(2, stalls, 6_000);
        sleep(wait).await;
        self.life.goes_on().await;
        if self.sim.is(away) {
            let waited = Duration::from_millis(200);
            sleep(waited).await;
            let reason = "the simulation says so".into();
            return Err(StoreError::Away { waited, reason });
        }
        Ok(())
    }

    async fn answered<T>(&self, answer: T) -> T {
        sleep(self.sim.delay(2, Fault::StoreStalls, 1_000)).await;
        self.life.goes_on().await;
        answer
    }

    /// Sent: whatever becomes of the caller, it happens.
    async fn deliver(&self, transaction: Transaction, after: Duration) -> Result<Outcome, StoreError> {
        let (sim, name) = (self.sim.clone(), self.life.name.clone());
        let sent = tokio::spawn(async move {
            sleep(after).await;
            sim.commit_as(&name, transaction).await
        });
        sent.await.expect("a commit does not panic")
    }
}

impl Store for Client {
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        Box::pin(async move {
            self.way().await?;
            let answer = self.sim.memory().read(read).await;
            self.answered(answer).await
        })
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async move {
            transaction.check(self.limits())?;
            self.way().await?;
            let unanswered = || {
                let (waited, reason) = (Duration::from_secs(1), "the simulation says so".into());
                Err(StoreError::OutcomeUnknown { waited, reason })
            };
            if self.sim.is(Fault::StoreOutcomesUnknown) {
                match self.sim.below(6) {
                    0 => _ = self.deliver(transaction, Duration::ZERO).await,
                    1 => drop(transaction),
                    2 => {
                        let late = Duration::from_millis(self.sim.below(3_000));
                        let (sim, name) = (self.sim.clone(), self.life.name.clone());
                        tokio::spawn(async move {
                            sleep(late).await;
                            _ = sim.commit_as(&name, transaction).await;
                        });
                    }
                    _ => {
                        let answer = self.deliver(transaction, Duration::ZERO).await;
                        return self.answered(answer).await;
                    }
                }
                sleep(Duration::from_secs(1)).await;
                return self.answered(unanswered()).await;
            }
            let conflicts = self.sim.is(Fault::StoreConflicts) && !transaction.compares.is_empty();
            if conflicts && self.sim.below(2) == 0 {
                return self.answered(Ok(Outcome::Conflict)).await;
            }
            let answer = self.deliver(transaction, Duration::ZERO).await;
            self.answered(answer).await
        })
    }

    fn watch(&self, range: KeyRange, from: StoreRevision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        Box::pin(async move {
            self.way().await?;
            let watch = self.sim.memory().watch(range, from).await?;
            let ends = self.sim.watches_end();
            let state = (watch, self.sim.clone(), self.life.clone(), ends);
            let signals = futures::stream::unfold(state, async |(mut watch, sim, life, ends)| {
                let signal = tokio::select! {
                    biased;
                    () = ends.wait() => lost(),
                    signal = watch.next() => signal,
                };
                sleep(sim.delay(2, Fault::WatchesLate, 5_000)).await;
                life.goes_on().await;
                let signal = if ends.is_over() { lost() } else { signal };
                Some((signal, (watch, sim, life, ends)))
            });
            Ok(Watch::new(signals.boxed()))
        })
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(async move {
            self.way().await?;
            let answer = self.sim.memory().grant_lease(ttl).await;
            self.answered(answer).await
        })
    }

    fn keep_lease_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.way().await?;
            let answer = self.sim.memory().keep_lease_alive(lease).await;
            self.answered(answer).await
        })
    }

    fn revoke_lease(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.way().await?;
            let answer = self.sim.memory().revoke_lease(lease).await;
            self.answered(answer).await
        })
    }

    fn compact(&self, revision: StoreRevision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.sim.memory().compact(revision).await })
    }

    fn limits(&self) -> Limits {
        Limits::DEFAULT
    }

    fn outside(&self) -> &dyn Outside {
        &self.outside
    }
}

fn lost() -> WatchSignal {
    WatchSignal::Lost {
        compacted: false,
        reason: "the simulation says so".into(),
    }
}
