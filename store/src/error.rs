//! What can go wrong: below transactions ([`StoreError`]) and in them ([`TransactionError`]).

use crate::StoreRevision;
use std::time::Duration;

/// A store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or answers that it cannot now. Nothing happened; ask again later.
    #[error("the store is away ({reason}); it was given {waited:?}")]
    Away {
        /// How long was waited.
        waited: Duration,
        /// What is known.
        reason: String,
    },
    /// A commit was sent and not answered: it may have happened or may yet happen. Read, then decide.
    #[error(
        "the store did not answer a commit within {waited:?} ({reason}): it may or may not have happened"
    )]
    OutcomeUnknown {
        /// How long was waited.
        waited: Duration,
        /// What is known.
        reason: String,
    },
    /// What was before a revision is forgotten: read anew.
    #[error("the store has forgotten the revision asked for")]
    Compacted,
    /// Nobody has written that far.
    #[error("revision {asked} has not happened yet")]
    FutureRevision {
        /// What was asked for.
        asked: StoreRevision,
    },
    /// The lease ended, or never was.
    #[error("the lease has ended")]
    LeaseGone,
    /// The transaction has more compares or writes than the store accepts.
    #[error(
        "a transaction of {compares} compares and {writes} writes is over the store's limit of {limit} of each"
    )]
    TooManyOperations {
        /// How many compares.
        compares: usize,
        /// How many writes.
        writes: usize,
        /// Of each.
        limit: usize,
    },
    /// The transaction carries more than the store accepts.
    #[error("a transaction of {bytes} bytes is over the store's limit of {limit}")]
    TooManyBytes {
        /// Keys and values.
        bytes: usize,
        /// At most.
        limit: usize,
    },
    /// The store's files or answers are not what they must be.
    #[error("the store is damaged: {reason}")]
    Damaged {
        /// What was found.
        reason: String,
    },
    /// It could not be opened as configured.
    #[error("the store cannot be opened: {reason}")]
    Unusable {
        /// Why, and what to do.
        reason: String,
    },
}

/// A transaction did not happen, for another reason than the closure's own.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others changed what it read, again and again.
    #[error("others changed the same records {attempts} times in a row")]
    Contended {
        /// How often it was tried.
        attempts: u32,
    },
    /// A record is not what its reader takes it for.
    #[error("the record {key} cannot be read")]
    RecordUnreadable {
        /// Which.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A record cannot be written as JSON.
    #[error("the record {key} cannot be written")]
    RecordUnwritable {
        /// Which.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
}
