//! Leases: which are running, until when, and which keys go with each. Pure; time is an argument (since whatever beginning).

use crate::{Change, KeyValue, LeaseId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The shortest lease. What is asked for below is granted so (etcd has such a floor too).
pub(crate) const TTL_MIN: Duration = Duration::from_secs(1);

/// All running leases.
#[derive(Default)]
pub(crate) struct Leases {
    running: BTreeMap<LeaseId, Running>,
}

struct Running {
    ttl: Duration,
    deadline: Duration,
    keys: BTreeSet<Vec<u8>>,
}

impl Leases {
    /// A lease runs from now on.
    pub(crate) fn grant(&mut self, id: LeaseId, ttl: Duration, now: Duration) {
        let running = Running {
            ttl,
            deadline: now + ttl,
            keys: BTreeSet::new(),
        };
        let before = self.running.insert(id, running);
        assert!(before.is_none(), "a lease identifier was given twice");
    }
    /// Whether it runs.
    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.running.contains_key(&id)
    }
    /// Its time starts anew; false if it has ended.
    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Duration) -> bool {
        let Some(lease) = self.running.get_mut(&id) else {
            return false;
        };
        lease.deadline = now + lease.ttl;
        true
    }
    /// The keys that go with it, if it runs.
    pub(crate) fn keys(&self, id: LeaseId) -> Option<&BTreeSet<Vec<u8>>> {
        self.running.get(&id).map(|lease| &lease.keys)
    }
    /// It has ended, and its keys are deleted.
    pub(crate) fn forget(&mut self, id: LeaseId) {
        self.running.remove(&id);
    }
    /// When the next one ends.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.running.values().map(|lease| lease.deadline).min()
    }
    /// One whose time is over.
    pub(crate) fn expired(&self, now: Duration) -> Option<LeaseId> {
        self.running
            .iter()
            .find(|(_, lease)| lease.deadline <= now)
            .map(|(id, _)| *id)
    }
    /// A change has happened: move keys between leases. `old` is the key as it was.
    pub(crate) fn follow(&mut self, old: Option<&KeyValue>, change: &Change) {
        if let Some(lease) = old.and_then(|old| self.running.get_mut(&old.lease?)) {
            lease.keys.remove(change.key());
        }
        if let Change::Put(entry) = change {
            self.attach(entry);
        }
    }
    /// A key goes with the lease it names.
    pub(crate) fn attach(&mut self, entry: &KeyValue) {
        if let Some(lease) = entry.lease.and_then(|id| self.running.get_mut(&id)) {
            lease.keys.insert(entry.key.clone());
        }
    }
}
