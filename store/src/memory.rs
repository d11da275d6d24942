//! The store of a simulation: the embedded store's history and leases, without its disk and its thread. Time is tokio's, so that it can be
//! virtual; everything happens in the order of the calls.
//!
//! What it deliberately is not: durable, or fast. It is lost with its process.

use crate::embedded::history::History;
use crate::embedded::lease::{Leases, TTL_MIN};
use crate::{
    BoxFuture, Change, Compare, KeyRange, Lease, LeaseId, Limits, Outcome, Read, Snapshot, Store, StoreError,
    StoreRevision, Transaction, Watch, WatchSignal, Write,
};
use futures::stream::StreamExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Sees every revision when it happens, before anybody else does.
pub type Observer = Box<dyn FnMut(StoreRevision, &[Change]) + Send>;

/// See the module.
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something happened. (Not a `watch` channel: that wakes who waits in a random order.)
    changed: Notify,
    begun: Instant,
}

struct State {
    history: History,
    leases: Leases,
    last_lease: i64,
    observer: Observer,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new(Box::new(|_, _| {}))
    }
}

impl Memory {
    /// An empty store, at revision 1 as an etcd that was never written to.
    pub fn new(observer: Observer) -> Memory {
        let state = State {
            history: History::new(StoreRevision(1), Vec::new()),
            leases: Leases::default(),
            last_lease: 0,
            observer,
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
            begun: Instant::now(),
        };
        Memory {
            shared: Arc::new(shared),
        }
    }
}

impl Shared {
    /// The state as of now: what should have ended has.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self
            .state
            .lock()
            .expect("no code panics while it holds this lock");
        let now = self.begun.elapsed();
        while let Some(lease) = state.leases.expired(now) {
            state.end_lease(lease).expect("it was running until now");
            self.changed.notify_waiters();
        }
        state
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut State, Duration) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let answer = change(&mut self.now(), self.begun.elapsed());
        self.changed.notify_waiters();
        answer
    }
}

impl State {
    fn commit(&mut self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let holds = |compare: &Compare| self.history.holds(compare);
        if !transaction.compares.iter().all(holds) {
            return Ok(Outcome::Conflict);
        }
        let leases = transaction.writes.values().filter_map(|write| match write {
            Write::Put { lease, .. } => *lease,
            Write::Delete => None,
        });
        for lease in leases {
            if !self.leases.contains(lease) {
                return Err(StoreError::LeaseGone);
            }
        }
        let changes = self.history.changes_of(transaction.writes);
        Ok(Outcome::Committed {
            revision: self.append(changes),
        })
    }

    fn append(&mut self, changes: Vec<Change>) -> StoreRevision {
        if changes.is_empty() {
            return self.history.revision();
        }
        for change in &changes {
            self.leases.follow(self.history.entry(change.key()), change);
        }
        (self.observer)(self.history.revision().next(), &changes);
        self.history.append(changes);
        self.history.revision()
    }

    fn end_lease(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        let keys = self.leases.keys(lease).ok_or(StoreError::LeaseGone)?;
        let writes: BTreeMap<_, _> = keys.iter().map(|key| (key.clone(), Write::Delete)).collect();
        let changes = self.history.changes_of(writes);
        self.append(changes);
        self.leases.forget(lease);
        Ok(())
    }
}

impl Store for Memory {
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        Box::pin(async move { self.shared.now().history.read(&read) })
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async move {
            transaction.check(self.limits())?;
            self.shared.change(|state, _| state.commit(transaction))
        })
    }

    fn watch(&self, range: KeyRange, from: StoreRevision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        let watcher = Watcher {
            shared: Arc::downgrade(&self.shared),
            range,
            from,
        };
        let signals = futures::stream::unfold(watcher, async |mut watcher| {
            let signal = watcher.next().await?;
            Some((signal, watcher))
        });
        Box::pin(async move { Ok(Watch::new(signals.boxed())) })
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(async move {
            self.shared.change(|state, now| {
                state.last_lease += 1;
                let (id, ttl) = (LeaseId(state.last_lease), ttl.max(TTL_MIN));
                state.leases.grant(id, ttl, now);
                Ok(Lease { id, ttl })
            })
        })
    }

    fn keep_lease_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.shared.change(|state, now| {
                let kept = state.leases.keep_alive(lease, now);
                kept.then_some(()).ok_or(StoreError::LeaseGone)
            })
        })
    }

    fn revoke_lease(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.shared.change(|state, _| state.end_lease(lease)) })
    }

    fn compact(&self, revision: StoreRevision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.shared.change(|state, _| state.history.compact(revision)) })
    }

    fn limits(&self) -> Limits {
        Limits::DEFAULT
    }
}

/// Follows the history for one watch, and sees to it that leases end while somebody waits.
struct Watcher {
    shared: Weak<Shared>,
    range: KeyRange,
    from: StoreRevision,
}

impl Watcher {
    async fn next(&mut self) -> Option<WatchSignal> {
        loop {
            let shared = self.shared.upgrade()?;
            let changed = shared.changed.notified();
            let (signal, deadline) = {
                let state = shared.now();
                let signal = state.history.changes(&self.range, &mut self.from);
                (signal, state.leases.next_deadline())
            };
            if signal.is_some() {
                return signal;
            }
            match deadline {
                Some(deadline) => _ = tokio::time::timeout_at(shared.begun + deadline, changed).await,
                None => changed.await,
            }
        }
    }
}
