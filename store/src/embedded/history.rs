//! The records in memory, with their past: what reads, compares and watches are answered from.
//!
//! Invariants: `revision` only grows; every key has at least one version, and its versions are in order; the log has
//! every transaction from `log_first` to `revision`; reads at `compacted` and later are exact.

use crate::{
    Change, Compare, KeyRange, KeyValue, Read, Snapshot, StoreError, StoreRevision, WatchSignal, Write,
};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// How many transactions of the past are kept at least; twice as many at most.
const TRANSACTIONS_KEPT: u64 = 10_000;

/// See the module.
pub(crate) struct History {
    revision: StoreRevision,
    /// Reads of anything before are refused.
    compacted: StoreRevision,
    /// Watches from anything before are refused.
    log_first: StoreRevision,
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
    /// Per transaction, what it changed: of `log_first` and following.
    log: VecDeque<Vec<Change>>,
}

/// A key from a revision on.
struct Version {
    since: StoreRevision,
    /// `None`: deleted.
    entry: Option<KeyValue>,
}

impl History {
    /// What was on disk: the present, without a past.
    pub(crate) fn new(revision: StoreRevision, entries: Vec<KeyValue>) -> History {
        let version = |entry: KeyValue| Version {
            since: entry.mod_revision,
            entry: Some(entry),
        };
        let keys = entries
            .into_iter()
            .map(|entry| (entry.key.clone(), vec![version(entry)]))
            .collect();
        History {
            revision,
            compacted: revision,
            log_first: revision.next(),
            keys,
            log: VecDeque::new(),
        }
    }

    /// Of the newest transaction.
    pub(crate) fn revision(&self) -> StoreRevision {
        self.revision
    }

    /// A key now.
    pub(crate) fn entry(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)?.last()?.entry.as_ref()
    }

    /// Every key that exists now.
    pub(crate) fn for_each(&self, visit: impl FnMut(&KeyValue)) {
        self.keys
            .values()
            .filter_map(|versions| versions.last()?.entry.as_ref())
            .for_each(visit);
    }

    /// As [`crate::Store::read`].
    pub(crate) fn read(&self, read: &Read) -> Result<Snapshot, StoreError> {
        let at = read.at.unwrap_or(self.revision);
        if at > self.revision {
            return Err(StoreError::FutureRevision { asked: at });
        }
        if at < self.compacted {
            return Err(StoreError::Compacted);
        }
        let limit = read.limit.unwrap_or(usize::MAX);
        let mut entries = Vec::new();
        for (_, versions) in self.versions_in(&read.range) {
            let behind = versions.partition_point(|version| version.since <= at);
            let Some(entry) = versions[..behind]
                .last()
                .and_then(|version| version.entry.as_ref())
            else {
                continue;
            };
            if entries.len() == limit {
                return Ok(Snapshot {
                    revision: at,
                    entries,
                    more: true,
                });
            }
            entries.push(entry.clone());
        }
        Ok(Snapshot {
            revision: at,
            entries,
            more: false,
        })
    }

    /// Whether a compare holds now.
    pub(crate) fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Key { key, mod_revision } => {
                self.entry(key)
                    .map_or(StoreRevision(0), |entry| entry.mod_revision)
                    == *mod_revision
            }
            Compare::RangeUnwritten { range, since } => {
                let mut present = self
                    .versions_in(range)
                    .filter_map(|(_, versions)| versions.last()?.entry.as_ref());
                present.all(|entry| entry.mod_revision <= *since)
            }
        }
    }

    /// What a transaction's writes change, as of the next revision. Deleting what is not there changes nothing.
    pub(crate) fn changes_of(&self, writes: BTreeMap<Vec<u8>, Write>) -> Vec<Change> {
        let revision = self.revision.next();
        let change = |(key, write): (Vec<u8>, Write)| {
            let old = self.entry(&key);
            match write {
                Write::Delete => old.map(|_| Change::Delete { key, revision }),
                Write::Put { value, lease } => Some(Change::Put(KeyValue {
                    create_revision: old.map_or(revision, |old| old.create_revision),
                    version: old.map_or(1, |old| old.version + 1),
                    mod_revision: revision,
                    key,
                    value,
                    lease,
                })),
            }
        };
        writes.into_iter().filter_map(change).collect()
    }

    /// The changes of the next revision have happened.
    pub(crate) fn append(&mut self, changes: Vec<Change>) {
        assert!(!changes.is_empty(), "a revision that changes nothing");
        self.revision = self.revision.next();
        for change in &changes {
            assert_eq!(change.revision(), self.revision, "changes of another revision");
            let entry = if let Change::Put(entry) = change {
                Some(entry.clone())
            } else {
                None
            };
            let version = Version {
                since: self.revision,
                entry,
            };
            self.keys.entry(change.key().to_vec()).or_default().push(version);
        }
        self.log.push_back(changes);
        if self.log.len() as u64 >= 2 * TRANSACTIONS_KEPT {
            self.forget_before(StoreRevision(self.revision.0 - TRANSACTIONS_KEPT));
        }
    }

    /// As [`crate::Store::compact`].
    pub(crate) fn compact(&mut self, revision: StoreRevision) -> Result<(), StoreError> {
        if revision > self.revision {
            return Err(StoreError::FutureRevision { asked: revision });
        }
        if revision <= self.compacted {
            return Err(StoreError::Compacted);
        }
        self.forget_before(revision);
        Ok(())
    }

    fn forget_before(&mut self, revision: StoreRevision) {
        self.compacted = revision;
        self.keys.retain(|_, versions| {
            let behind = versions.partition_point(|version| version.since <= revision);
            versions.drain(..behind.saturating_sub(1));
            versions.len() > 1 || versions[0].entry.is_some() || versions[0].since > revision
        });
        while self.log_first < revision && self.log.pop_front().is_some() {
            self.log_first = self.log_first.next();
        }
    }

    /// The changes of a range in the first transaction at or after `from` that has any, and moves `from` behind it. `None`:
    /// nothing yet.
    pub(crate) fn changes(&self, range: &KeyRange, from: &mut StoreRevision) -> Option<WatchSignal> {
        if *from < self.log_first {
            let reason = format!(
                "revision {from} is no longer kept; the oldest is {}",
                self.log_first
            );
            return Some(WatchSignal::Lost {
                compacted: true,
                reason,
            });
        }
        while *from <= self.revision {
            let changes = &self.log[(from.0 - self.log_first.0) as usize];
            let revision = *from;
            *from = from.next();
            let changes: Vec<_> = changes
                .iter()
                .filter(|change| range.contains(change.key()))
                .cloned()
                .collect();
            if !changes.is_empty() {
                return Some(WatchSignal::Changes { revision, changes });
            }
        }
        None
    }

    fn versions_in(&self, range: &KeyRange) -> impl Iterator<Item = (&Vec<u8>, &Vec<Version>)> {
        let end = range.end().map_or(Bound::Unbounded, Bound::Excluded);
        let bounds = (Bound::Included(range.start()), end);
        // An empty range has bounds out of order, which a map refuses by a panic.
        (!range.is_empty())
            .then(|| self.keys.range::<[u8], _>(bounds))
            .into_iter()
            .flatten()
    }
}
