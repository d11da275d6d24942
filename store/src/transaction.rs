//! Transactions as closures over a snapshot (STM).
//!
//! The closure is run against one revision of the store. What it read, keys and ranges, is compared when it is
//! committed; if any of it was written, deleted or newly created meanwhile, nothing happens and the closure is run
//! again, on a newer snapshot, within a budget. So it must have no effects of its own, and ids it needs should be drawn
//! outside of it.
//!
//! The size is budgeted: a transaction may compare and write [`Limits::operations`](crate::Limits) things each. A range
//! costs one compare plus one per key found (a deleted key leaves no trace in a range), so ranges that grow without a
//! bound are for [`Txn::peek_range`], whose result is of the same snapshot but not compared.

use crate::{
    Compare, KeyRange, KeyValue, LeaseId, Outcome, Outside, Read, Snapshot, Store, StoreError, StoreRevision,
    Transaction, TransactionError, Versioned, Write, parse_record, write_record,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How often a closure is run before [`TransactionError::Contended`].
pub const ATTEMPTS_MAX: u32 = 16;

/// Run a closure as a transaction: what it answers was true at one moment, and what it wrote happened at that moment.
///
/// An error of the closure ends the transaction without a trace. One that wrote nothing commits nothing: it is a read
/// of one snapshot.
///
/// Errors, all into `E` by way of [`TransactionError`]: as of [`Store::read`] and [`Store::commit`], and
/// [`TransactionError::Contended`].
pub async fn transaction<T, E, F, R>(store: &Arc<dyn Store>, body: F) -> Result<T, E>
where
    F: FnMut(Txn) -> R,
    R: Future<Output = Result<T, E>>,
    E: From<TransactionError>,
{
    transaction_at(store, body).await.map(|(answer, _)| answer)
}

/// The same, with the moment: the revision of what it wrote, or of the snapshot if it wrote nothing (zero if it did not
/// read either).
///
/// Errors: as of [`transaction()`].
pub async fn transaction_at<T, E, F, R>(store: &Arc<dyn Store>, mut body: F) -> Result<(T, StoreRevision), E>
where
    F: FnMut(Txn) -> R,
    R: Future<Output = Result<T, E>>,
    E: From<TransactionError>,
{
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            tokio::time::sleep(pause_before(attempt, store.outside().random())).await;
        }
        let txn = Txn::begin(store.clone());
        let answer = body(txn.clone()).await;
        if txn.lock().compacted {
            continue; // Its snapshot went away under it: whatever it answered came from that.
        }
        let answer = answer?;
        let snapshot = txn.revision().unwrap_or_default();
        let Some(transaction) = txn.into_commit() else {
            return Ok((answer, snapshot));
        };
        match store.commit(transaction).await.map_err(TransactionError::from)? {
            Outcome::Committed { revision } => return Ok((answer, revision)),
            Outcome::Conflict => continue,
        }
    }
    Err(TransactionError::Contended {
        attempts: ATTEMPTS_MAX,
    }
    .into())
}

/// Longer with every attempt, and never the same for two that fell over each other.
fn pause_before(attempt: u32, random: u64) -> Duration {
    let ceiling_ms = 1_u64 << attempt.min(7);
    Duration::from_micros(random % (ceiling_ms * 1000 + 1))
}

/// One record, newest. Outside of any transaction.
///
/// Errors: as of [`Store::read`], and [`TransactionError::RecordUnreadable`].
pub async fn read_record<T: DeserializeOwned>(
    store: &Arc<dyn Store>,
    key: impl AsRef<[u8]>,
) -> Result<Option<Versioned<T>>, TransactionError> {
    let snapshot = store.read(Read::of(KeyRange::key(key.as_ref()))).await?;
    snapshot.entries.first().map(Versioned::parse).transpose()
}

/// All records of a range, at one revision, which is answered too: watch from the next one to miss nothing.
///
/// Errors: as of [`Store::read`], and [`TransactionError::RecordUnreadable`].
pub async fn read_range<T: DeserializeOwned>(
    store: &Arc<dyn Store>,
    range: KeyRange,
) -> Result<(StoreRevision, Vec<Versioned<T>>), TransactionError> {
    let snapshot = store.read(Read::of(range)).await?;
    let records = snapshot
        .entries
        .iter()
        .map(Versioned::parse)
        .collect::<Result<_, _>>()?;
    Ok((snapshot.revision, records))
}

/// A transaction being made. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Txn {
    store: Arc<dyn Store>,
    state: Arc<Mutex<State>>,
}

/// What was read and what shall be written.
#[derive(Default)]
struct State {
    /// Fixed by the first read.
    revision: Option<StoreRevision>,
    keys_read: BTreeMap<Vec<u8>, Option<KeyValue>>,
    ranges_read: Vec<KeyRange>,
    writes: BTreeMap<Vec<u8>, Write>,
    compacted: bool,
}

impl Txn {
    fn begin(store: Arc<dyn Store>) -> Txn {
        Txn {
            store,
            state: Arc::default(),
        }
    }

    /// The record under a key, as written by this transaction or else as of its snapshot.
    ///
    /// Errors: as of [`Store::read`], and [`TransactionError::RecordUnreadable`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>, TransactionError> {
        Ok(self.versioned(key).await?.map(|versioned| versioned.record))
    }

    /// The same, with the revision it was written at.
    ///
    /// Errors: as of [`Txn::get`].
    pub async fn versioned<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Versioned<T>>, TransactionError> {
        let key = key.as_ref();
        let known = {
            let state = self.lock();
            if let Some(write) = state.writes.get(key) {
                return written(key, write);
            }
            state.keys_read.get(key).cloned()
        };
        let entry = match known {
            Some(entry) => entry,
            None => {
                let entry = self.read(KeyRange::key(key)).await?.entries.into_iter().next();
                self.lock().keys_read.insert(key.to_vec(), entry.clone());
                entry
            }
        };
        entry.as_ref().map(Versioned::parse).transpose()
    }

    /// Whether a key exists, without reading what it holds.
    ///
    /// Errors: as of [`Txn::get`].
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool, TransactionError> {
        Ok(self.versioned::<serde::de::IgnoredAny>(key).await?.is_some())
    }

    /// All records of a range, with what this transaction wrote there. Whatever is created, written or deleted in the
    /// range by others before the commit is a conflict.
    ///
    /// Errors: as of [`Txn::get`].
    pub async fn range<T: DeserializeOwned>(
        &self,
        range: KeyRange,
    ) -> Result<Vec<Versioned<T>>, TransactionError> {
        let snapshot = self.read(range.clone()).await?;
        {
            let mut state = self.lock();
            for entry in &snapshot.entries {
                state.keys_read.insert(entry.key.clone(), Some(entry.clone()));
            }
            state.ranges_read.push(range.clone());
        }
        self.merged(&range, snapshot)
    }

    /// The same snapshot's records of a range, but not compared: what others do to them is no conflict. For status, for
    /// messages, for ranges too large to compare.
    ///
    /// Errors: as of [`Txn::get`].
    pub async fn peek_range<T: DeserializeOwned>(
        &self,
        range: KeyRange,
    ) -> Result<Vec<Versioned<T>>, TransactionError> {
        let snapshot = self.read(range.clone()).await?;
        self.merged(&range, snapshot)
    }

    /// The first `limit` records of a range and whether there are more; of the same snapshot, not compared, and without what
    /// this transaction wrote.
    ///
    /// Errors: as of [`Txn::get`].
    pub async fn peek_page<T: DeserializeOwned>(
        &self,
        range: KeyRange,
        limit: usize,
    ) -> Result<(Vec<Versioned<T>>, bool), TransactionError> {
        let snapshot = self.read_limited(range, Some(limit)).await?;
        let records = snapshot
            .entries
            .iter()
            .map(Versioned::parse)
            .collect::<Result<_, _>>()?;
        Ok((records, snapshot.more))
    }

    /// The same snapshot's record under a key, but not compared.
    ///
    /// Errors: as of [`Txn::get`].
    pub async fn peek<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<T>, TransactionError> {
        Ok(self.peek_versioned(key).await?.map(|versioned| versioned.record))
    }

    /// The same, with the revision it was written at.
    ///
    /// Errors: as of [`Txn::get`].
    pub async fn peek_versioned<T: DeserializeOwned>(
        &self,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Versioned<T>>, TransactionError> {
        let found = self.peek_range(KeyRange::key(key.as_ref())).await?;
        Ok(found.into_iter().next())
    }

    /// Write a record when the transaction commits.
    ///
    /// Errors: [`TransactionError::RecordUnwritable`].
    pub fn put<T: Serialize>(&self, key: impl AsRef<[u8]>, record: &T) -> Result<(), TransactionError> {
        self.put_with(key.as_ref(), record, None)
    }

    /// The same; the record is deleted when the lease ends.
    ///
    /// Errors: [`TransactionError::RecordUnwritable`]; the commit fails with [`StoreError::LeaseGone`] if it ended.
    pub fn put_leased<T: Serialize>(
        &self,
        key: impl AsRef<[u8]>,
        record: &T,
        lease: LeaseId,
    ) -> Result<(), TransactionError> {
        self.put_with(key.as_ref(), record, Some(lease))
    }

    fn put_with<T: Serialize>(
        &self,
        key: &[u8],
        record: &T,
        lease: Option<LeaseId>,
    ) -> Result<(), TransactionError> {
        let value = write_record(key, record)?;
        self.lock()
            .writes
            .insert(key.to_vec(), Write::Put { value, lease });
        Ok(())
    }

    /// Delete a key when the transaction commits.
    pub fn delete(&self, key: impl AsRef<[u8]>) {
        self.lock().writes.insert(key.as_ref().to_vec(), Write::Delete);
    }

    /// What the store's user takes from outside.
    pub fn outside(&self) -> &dyn Outside {
        self.store.outside()
    }

    /// The revision of the snapshot; `None` before the first read.
    pub fn revision(&self) -> Option<StoreRevision> {
        self.lock().revision
    }

    /// Read at the snapshot's revision; the first read makes it.
    async fn read(&self, range: KeyRange) -> Result<Snapshot, StoreError> {
        self.read_limited(range, None).await
    }

    async fn read_limited(&self, range: KeyRange, limit: Option<usize>) -> Result<Snapshot, StoreError> {
        loop {
            let at = self.lock().revision;
            let answer = self
                .store
                .read(Read {
                    range: range.clone(),
                    at,
                    limit,
                })
                .await;
            let mut state = self.lock();
            match answer {
                // Two first reads side by side: one makes the snapshot, the other reads again.
                Ok(snapshot) if *state.revision.get_or_insert(snapshot.revision) != snapshot.revision => {}
                Ok(snapshot) => return Ok(snapshot),
                Err(error) => {
                    state.compacted |= matches!(error, StoreError::Compacted);
                    return Err(error);
                }
            }
        }
    }

    /// What the store has, overlaid with what this transaction writes.
    fn merged<T: DeserializeOwned>(
        &self,
        range: &KeyRange,
        snapshot: Snapshot,
    ) -> Result<Vec<Versioned<T>>, TransactionError> {
        let mut records = BTreeMap::new();
        for entry in &snapshot.entries {
            records.insert(entry.key.clone(), Versioned::parse(entry)?);
        }
        for (key, write) in self.lock().writes.iter().filter(|(key, _)| range.contains(key)) {
            match written(key, write)? {
                Some(versioned) => _ = records.insert(key.clone(), versioned),
                None => _ = records.remove(key),
            }
        }
        Ok(records.into_values().collect())
    }

    /// What to commit; `None` if nothing was written.
    fn into_commit(self) -> Option<Transaction> {
        let mut state = self.lock();
        if state.writes.is_empty() {
            return None;
        }
        let revision = state.revision.unwrap_or_default();
        let keys = std::mem::take(&mut state.keys_read)
            .into_iter()
            .map(|(key, entry)| Compare::Key {
                key,
                mod_revision: entry.map_or(StoreRevision(0), |entry| entry.mod_revision),
            });
        let mut compares: Vec<Compare> = keys.collect();
        let ranges = std::mem::take(&mut state.ranges_read);
        compares.extend(ranges.into_iter().map(|range| Compare::RangeUnwritten {
            range,
            since: revision,
        }));
        Some(Transaction {
            compares,
            writes: std::mem::take(&mut state.writes),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

/// A record as this transaction wrote it.
fn written<T: DeserializeOwned>(key: &[u8], write: &Write) -> Result<Option<Versioned<T>>, TransactionError> {
    match write {
        Write::Delete => Ok(None),
        Write::Put { value, .. } => Ok(Some(Versioned {
            key: String::from_utf8_lossy(key).into_owned(),
            mod_revision: StoreRevision(0),
            record: parse_record(key, value)?,
        })),
    }
}
