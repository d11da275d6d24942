//! Records as JSON, without an envelope.
//!
//! A record grows by fields with `#[serde(default)]`, and unknown fields are skipped by readers: old and new processes
//! run side by side during an upgrade. A field is never given a new meaning; a record that must change in any other
//! way gets a new key. So a value is what `etcdctl get` shows, and needs no tool to be read.

use crate::{KeyValue, StoreRevision, TransactionError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record, and when it was written last (its ETag).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// Its key.
    pub key: String,
    /// When it was written last; [`StoreRevision`] zero if only this transaction has written it, so far.
    pub mod_revision: StoreRevision,
    /// The record.
    pub record: T,
}

/// A record from its bytes.
///
/// Errors: [`TransactionError::RecordUnreadable`].
pub fn parse_record<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, TransactionError> {
    serde_json::from_slice(value).map_err(|source| TransactionError::RecordUnreadable {
        key: text(key),
        source,
    })
}

/// A record to its bytes.
///
/// Errors: [`TransactionError::RecordUnwritable`].
pub fn write_record<T: Serialize>(key: &[u8], record: &T) -> Result<Vec<u8>, TransactionError> {
    serde_json::to_vec(record).map_err(|source| TransactionError::RecordUnwritable {
        key: text(key),
        source,
    })
}

impl<T: DeserializeOwned> Versioned<T> {
    /// From what the store answered.
    ///
    /// Errors: [`TransactionError::RecordUnreadable`].
    pub fn parse(entry: &KeyValue) -> Result<Versioned<T>, TransactionError> {
        let record = parse_record(&entry.key, &entry.value)?;
        Ok(Versioned {
            key: text(&entry.key),
            mod_revision: entry.mod_revision,
            record,
        })
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
