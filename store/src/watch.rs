//! Watches: what happened, in order, until it cannot be told any more.

use crate::{KeyValue, StoreRevision};
use futures::stream::{BoxStream, StreamExt};

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was written.
    Put(KeyValue),
    /// It was deleted, by a transaction or the end of its lease.
    Delete {
        /// Which.
        key: Vec<u8>,
        /// When.
        revision: StoreRevision,
    },
}

impl Change {
    /// To which key.
    pub fn key(&self) -> &[u8] {
        match self {
            Change::Put(entry) => &entry.key,
            Change::Delete { key, .. } => key,
        }
    }
    /// When.
    pub fn revision(&self) -> StoreRevision {
        match self {
            Change::Put(entry) => entry.mod_revision,
            Change::Delete { revision, .. } => *revision,
        }
    }
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchSignal {
    /// Changes, oldest first; those of one transaction are never split over two signals.
    Changes {
        /// Everything up to here has been told.
        revision: StoreRevision,
        /// Never empty.
        changes: Vec<Change>,
    },
    /// The watch has ended: changes from here on may be missing. Read the range anew and watch from there.
    Lost {
        /// What was waited for is no longer kept by the store; otherwise the connection was lost.
        compacted: bool,
        /// For people.
        reason: String,
    },
}

/// A running watch. Dropping it ends it.
pub struct Watch {
    signals: BoxStream<'static, WatchSignal>,
    lost: Option<WatchSignal>,
}

impl Watch {
    /// A watch that tells these signals, for stores.
    pub fn new(signals: BoxStream<'static, WatchSignal>) -> Watch {
        Watch { signals, lost: None }
    }

    /// Wait for what happens next. After [`WatchSignal::Lost`] it answers the same at once, for ever. Nothing is lost
    /// when the returned future is dropped before it is ready.
    pub async fn next(&mut self) -> WatchSignal {
        if let Some(lost) = &self.lost {
            return lost.clone();
        }
        let ended = || WatchSignal::Lost {
            compacted: false,
            reason: "the store closed the watch".into(),
        };
        let signal = self.signals.next().await.unwrap_or_else(ended);
        if matches!(signal, WatchSignal::Lost { .. }) {
            self.lost = Some(signal.clone());
        }
        signal
    }
}
