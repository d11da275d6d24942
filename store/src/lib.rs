//! Where the control plane's records live: ordered keys to values with one global revision, transactions that compare
//! what was read, watches and leases; the semantics are those of etcd v3.
//!
//! Two backs with the same semantics, held together by one conformance suite (`tests/conformance.rs`): [`etcd`], for a
//! control plane on several machines, and [`embedded`], in this process and durable on its disk, where no etcd is given.
//! [`memory`] is what is left of the second without disk and thread: for simulations, held to the same suite.
//! Above them [`transaction`](transaction()): a closure over a snapshot, committed with compares on everything it read.
//!
//! What this crate deliberately is not: it knows no record and no key of the control plane (those are `cluster`'s), it
//! keeps no cache, and it retries nothing whose outcome it does not know.
//!
//! Invariants:
//! - Revisions only grow; every transaction that writes anything takes exactly one.
//! - A commit that was answered is durable and seen by every later read.
//! - Every call ends within a bounded time: a store that does not answer is [`StoreError::Away`], never a hang.
//! - A commit without an answer is [`StoreError::OutcomeUnknown`], never repeated by this crate.
#![forbid(unsafe_code)]

pub mod embedded;
mod error;
pub mod etcd;
mod key;
pub mod memory;
mod outside;
mod record;
mod transaction;
mod watch;

pub use embedded::Embedded;
pub use error::{StoreError, TransactionError};
pub use etcd::{Etcd, EtcdOptions};
pub use futures::future::BoxFuture;
pub use key::KeyRange;
pub use memory::Memory;
pub use outside::{Machine, Outside};
pub use record::{Versioned, parse_record, write_record};
pub use transaction::{ATTEMPTS_MAX, Txn, read_range, read_record, transaction, transaction_at};
pub use watch::{Change, Watch, WatchSignal};

use std::collections::BTreeMap;
use std::time::Duration;

/// Orders everything that ever happened in a store: the number of the transaction that wrote last. 0: before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreRevision(pub u64);

impl StoreRevision {
    /// The revision after this one: where a watch goes on that follows a read at this one.
    pub fn next(self) -> StoreRevision {
        StoreRevision(self.0 + 1)
    }
}

impl core::fmt::Display for StoreRevision {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease. Given by the store, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A lease as granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which.
    pub id: LeaseId,
    /// After how long without a keep-alive its keys are deleted; may be longer than what was asked for.
    pub ttl: Duration,
}

/// A key, its value and their history in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Of the transaction that made the key exist (again).
    pub create_revision: StoreRevision,
    /// Of the transaction that wrote it last.
    pub mod_revision: StoreRevision,
    /// How often it was written since it exists, from 1.
    pub version: u64,
    /// The lease that deletes it when it ends.
    pub lease: Option<LeaseId>,
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which keys.
    pub range: KeyRange,
    /// As of which revision; `None`: the newest, and never older than any answered commit.
    pub at: Option<StoreRevision>,
    /// At most so many, the lowest keys first; `None`: all.
    pub limit: Option<usize>,
}

impl Read {
    /// Everything of a range, newest.
    pub fn of(range: KeyRange) -> Read {
        Read {
            range,
            at: None,
            limit: None,
        }
    }
    /// The same, as of a revision.
    pub fn at(mut self, revision: StoreRevision) -> Read {
        self.at = Some(revision);
        self
    }
    /// The same, not more than `limit` keys.
    pub fn limit(mut self, limit: usize) -> Read {
        self.limit = Some(limit);
        self
    }
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// As of which revision: the one asked for, or the newest. Watch from [`StoreRevision::next`] to miss nothing.
    pub revision: StoreRevision,
    /// In the order of their keys.
    pub entries: Vec<KeyValue>,
    /// The limit left some out.
    pub more: bool,
}

/// What must hold for a transaction to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key was last written at this revision; zero: it does not exist.
    Key {
        /// Which key.
        key: Vec<u8>,
        /// When it must have been written last.
        mod_revision: StoreRevision,
    },
    /// No key of the range was written after the revision. Says nothing about deleted keys: compare each of those that
    /// were read, too.
    RangeUnwritten {
        /// Which keys.
        range: KeyRange,
        /// After which revision.
        since: StoreRevision,
    },
}

/// What to do to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Set its value.
    Put {
        /// To what.
        value: Vec<u8>,
        /// Deleted with this lease. `None`: stays, even if it was under a lease.
        lease: Option<LeaseId>,
    },
    /// Delete it, if it exists.
    Delete,
}

/// Writes that happen all together if all compares hold, else not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What to write: each key at most once.
    pub writes: BTreeMap<Vec<u8>, Write>,
}

impl Transaction {
    /// Add: the key was last written at this revision (zero: does not exist).
    pub fn when(mut self, key: impl Into<Vec<u8>>, mod_revision: StoreRevision) -> Transaction {
        self.compares.push(Compare::Key {
            key: key.into(),
            mod_revision,
        });
        self
    }
    /// Add: set a key.
    pub fn put(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Transaction {
        self.writes.insert(
            key.into(),
            Write::Put {
                value: value.into(),
                lease: None,
            },
        );
        self
    }
    /// Add: set a key that goes with a lease.
    pub fn put_leased(
        mut self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        lease: LeaseId,
    ) -> Transaction {
        self.writes.insert(
            key.into(),
            Write::Put {
                value: value.into(),
                lease: Some(lease),
            },
        );
        self
    }
    /// Add: delete a key.
    pub fn delete(mut self, key: impl Into<Vec<u8>>) -> Transaction {
        self.writes.insert(key.into(), Write::Delete);
        self
    }
    /// How many bytes of keys and values it carries.
    pub fn bytes(&self) -> usize {
        let writes = self.writes.iter().map(|(key, write)| {
            key.len()
                + if let Write::Put { value, .. } = write {
                    value.len()
                } else {
                    0
                }
        });
        let compares = self.compares.iter().map(|compare| match compare {
            Compare::Key { key, .. } => key.len(),
            Compare::RangeUnwritten { range, .. } => range.start().len() + range.end().map_or(0, <[u8]>::len),
        });
        writes.sum::<usize>() + compares.sum::<usize>()
    }
    /// Refuse what does not fit, before the store does so in its own words.
    pub fn check(&self, limits: Limits) -> Result<(), StoreError> {
        let (compares, writes, bytes) = (self.compares.len(), self.writes.len(), self.bytes());
        if compares > limits.operations || writes > limits.operations {
            return Err(StoreError::TooManyOperations {
                compares,
                writes,
                limit: limits.operations,
            });
        }
        if bytes > limits.bytes {
            return Err(StoreError::TooManyBytes {
                bytes,
                limit: limits.bytes,
            });
        }
        Ok(())
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it happened.
    Committed {
        /// Its revision; the present one if it wrote nothing.
        revision: StoreRevision,
    },
    /// A compare did not hold: nothing happened.
    Conflict,
}

/// How large a transaction may be. The same for both backs unless somebody configured their etcd otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Not more compares than this, and not more writes (etcd's `--max-txn-ops`, which counts each side apart).
    pub operations: usize,
    /// Not more bytes of keys and values (under etcd's `--max-request-bytes`).
    pub bytes: usize,
}

impl Limits {
    /// What an etcd accepts that nobody configured.
    pub const DEFAULT: Limits = Limits {
        operations: 128,
        bytes: 1 << 20,
    };
}

/// A store. Shared as `Arc<dyn Store>`; every method may be called at any time from any task.
pub trait Store: Send + Sync + 'static {
    /// Read a range at one revision.
    ///
    /// Errors: [`StoreError::Away`]; [`StoreError::Compacted`] if the revision is no longer kept;
    /// [`StoreError::FutureRevision`].
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Snapshot, StoreError>>;

    /// Commit a transaction. A conflict is an outcome, not an error.
    ///
    /// Errors: [`StoreError::Away`] (nothing happened), [`StoreError::OutcomeUnknown`] (it may have happened),
    /// [`StoreError::LeaseGone`], [`StoreError::TooManyOperations`], [`StoreError::TooManyBytes`].
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Outcome, StoreError>>;

    /// Everything that happens to a range from a revision on, that revision included; revisions of the past are
    /// replayed, revisions of the future waited for.
    ///
    /// Errors: [`StoreError::Away`]. A revision no longer kept is told by the watch: [`WatchSignal::Lost`].
    fn watch(&self, range: KeyRange, from: StoreRevision) -> BoxFuture<'_, Result<Watch, StoreError>>;

    /// Ask for a lease. Keys put with it are deleted, in one transaction, when it ends.
    ///
    /// Errors: [`StoreError::Away`].
    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>>;

    /// Start the lease's time anew.
    ///
    /// Errors: [`StoreError::Away`], [`StoreError::LeaseGone`].
    fn keep_lease_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// End a lease now.
    ///
    /// Errors: [`StoreError::Away`], [`StoreError::LeaseGone`].
    fn revoke_lease(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forget what was before a revision: reads and watches of older ones are refused from now on.
    ///
    /// Errors: [`StoreError::Away`], [`StoreError::FutureRevision`]; one already forgotten is [`StoreError::Compacted`].
    fn compact(&self, revision: StoreRevision) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How large a transaction may be.
    fn limits(&self) -> Limits;

    /// What whoever uses this store takes from outside; this machine's, unless the store is a simulation's.
    fn outside(&self) -> &dyn Outside {
        &Machine
    }
}
