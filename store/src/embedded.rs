//! The store in this process: durable on its disk, with an embedded database beneath, where no etcd is given.
//!
//! All records are in memory too ([`history`]): reads and watches never touch the disk. One thread ([`writer`]) owns the
//! database ([`disk`]) and the leases ([`lease`]): it checks a transaction's compares, commits it durably (fsync), then
//! makes it visible, then answers. The history before the start of the process is not kept: older revisions are
//! compacted, as far as anyone outside can see.
//!
//! What it deliberately is not: shared. A second process that opens the same folder is refused; several api-servers in
//! *one* process share one [`Embedded`]. Leases of an earlier life of the process start their time anew when it starts.

mod disk;
pub(crate) mod history;
pub(crate) mod lease;
mod writer;

use crate::{
    BoxFuture, KeyRange, Lease, LeaseId, Limits, Outcome, Read, Snapshot, Store, StoreError, StoreRevision,
    Transaction, Watch, WatchSignal,
};
use disk::Disk;
use futures::stream::StreamExt;
use history::History;
use std::path::Path;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use writer::{Command, Writer};

/// How long a caller waits for the disk before it is told that the outcome is unknown.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// The embedded store.
pub struct Embedded {
    shared: Arc<Shared>,
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

/// What readers and the writer share.
struct Shared {
    history: RwLock<History>,
    /// The newest revision, for those who wait for it; closed when the store is.
    newest: tokio::sync::watch::Sender<StoreRevision>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, History> {
        self.history
            .read()
            .expect("no code panics while it holds this lock")
    }
    fn write(&self) -> RwLockWriteGuard<'_, History> {
        self.history
            .write()
            .expect("no code panics while it holds this lock")
    }
}

impl Embedded {
    /// Open the store in a folder, or make one there.
    ///
    /// Errors: [`StoreError::Unusable`] (no access, in use by another process, of a newer format) and
    /// [`StoreError::Damaged`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Embedded, StoreError> {
        let (disk, contents) = Disk::open(folder.as_ref())?;
        let newest = tokio::sync::watch::Sender::new(contents.revision);
        let history = RwLock::new(History::new(contents.revision, contents.entries));
        let shared = Arc::new(Shared { history, newest });
        let (commands, inbox) = mpsc::channel();
        let writer = Writer::new(disk, shared.clone(), contents.leases);
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(inbox))
            .map_err(|error| StoreError::Unusable {
                reason: format!("no thread for it: {error}"),
            })?;
        Ok(Embedded {
            shared,
            commands: Some(commands),
            writer: Some(writer),
        })
    }

    /// Hand a command to the writer and wait for its answer.
    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let gone = || StoreError::Away {
            waited: Duration::ZERO,
            reason: "it is being closed".into(),
        };
        self.commands
            .as_ref()
            .ok_or_else(gone)?
            .send(command(answer))
            .map_err(|_| gone())?;
        match tokio::time::timeout(DISK_TIMEOUT, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(StoreError::OutcomeUnknown {
                waited: DISK_TIMEOUT,
                reason: "its disk does not answer".into(),
            }),
        }
    }
}

/// Where a command's answer goes.
type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

impl Drop for Embedded {
    /// Waits for the writer: when this returns, the folder can be opened again.
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Store for Embedded {
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        Box::pin(async move { self.shared.read().read(&read) })
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async move {
            transaction.check(self.limits())?;
            self.ask(|answer| Command::Commit { transaction, answer }).await
        })
    }

    fn watch(&self, range: KeyRange, from: StoreRevision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        let newest = self.shared.newest.subscribe();
        let watcher = Watcher {
            shared: Arc::downgrade(&self.shared),
            newest,
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
        Box::pin(self.ask(move |answer| Command::Grant { ttl, answer }))
    }

    fn keep_lease_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(move |answer| Command::KeepAlive { lease, answer }))
    }

    fn revoke_lease(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(move |answer| Command::Revoke { lease, answer }))
    }

    fn compact(&self, revision: StoreRevision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.shared.write().compact(revision) })
    }

    fn limits(&self) -> Limits {
        Limits::DEFAULT
    }
}

/// Follows the history for one watch. Holds no part of it: a slow watch costs nothing, and ends when the history it
/// stands at is forgotten.
struct Watcher {
    shared: std::sync::Weak<Shared>,
    newest: tokio::sync::watch::Receiver<StoreRevision>,
    range: KeyRange,
    from: StoreRevision,
}

impl Watcher {
    async fn next(&mut self) -> Option<WatchSignal> {
        loop {
            self.newest.mark_unchanged();
            let shared = self.shared.upgrade()?;
            let signal = shared.read().changes(&self.range, &mut self.from);
            drop(shared);
            if signal.is_some() {
                return signal;
            }
            self.newest.changed().await.ok()?;
        }
    }
}
