//! The one thread that changes the store: checks, commits to disk, then to memory, then answers; and ends leases.
//!
//! Invariant: memory never shows what is not durable. When a disk commit fails, nobody knows what the disk has: the
//! writer then refuses all that follows until the process is started again.

use super::disk::Disk;
use super::lease::{Leases, TTL_MIN};
use super::{Answer, Shared};
use crate::{Change, Lease, LeaseId, Outcome, StoreError, StoreRevision, Transaction, Write};
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// What the writer is asked to do.
pub(super) enum Command {
    Commit {
        transaction: Transaction,
        answer: Answer<Outcome>,
    },
    Grant {
        ttl: Duration,
        answer: Answer<Lease>,
    },
    KeepAlive {
        lease: LeaseId,
        answer: Answer<()>,
    },
    Revoke {
        lease: LeaseId,
        answer: Answer<()>,
    },
}

/// See the module.
pub(super) struct Writer {
    disk: Disk,
    shared: Arc<Shared>,
    leases: Leases,
    /// When leases' time began.
    begun: Instant,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

impl Writer {
    /// Leases of an earlier life run their full time from now on.
    pub(super) fn new(disk: Disk, shared: Arc<Shared>, leases: Vec<Lease>) -> Writer {
        let mut running = Leases::default();
        for lease in leases {
            running.grant(lease.id, lease.ttl, Duration::ZERO);
        }
        shared.read().for_each(|entry| running.attach(entry));
        Writer {
            disk,
            shared,
            leases: running,
            begun: Instant::now(),
            broken: None,
        }
    }

    /// Until nobody can ask any more.
    pub(super) fn run(mut self, inbox: mpsc::Receiver<Command>) {
        loop {
            let patience = match self.leases.next_deadline() {
                Some(deadline) if self.broken.is_none() => deadline.saturating_sub(self.now()),
                _ => Duration::from_secs(3600),
            };
            match inbox.recv_timeout(patience) {
                Ok(command) => self.execute(command),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            self.end_expired();
        }
    }

    fn execute(&mut self, command: Command) {
        // Whoever asked may have gone: their answer then goes nowhere.
        match command {
            Command::Commit { transaction, answer } => _ = answer.send(self.commit(transaction)),
            Command::Grant { ttl, answer } => _ = answer.send(self.grant(ttl)),
            Command::KeepAlive { lease, answer } => _ = answer.send(self.keep_alive(lease)),
            Command::Revoke { lease, answer } => _ = answer.send(self.end_lease(lease)),
        }
    }

    fn commit(&mut self, transaction: Transaction) -> Result<Outcome, StoreError> {
        self.check_usable()?;
        let history = self.shared.read();
        if !transaction.compares.iter().all(|compare| history.holds(compare)) {
            return Ok(Outcome::Conflict);
        }
        let mut leases = transaction.writes.values().filter_map(|write| match write {
            Write::Put { lease, .. } => *lease,
            Write::Delete => None,
        });
        if !leases.all(|lease| self.leases.contains(lease)) {
            return Err(StoreError::LeaseGone);
        }
        let changes = history.changes_of(transaction.writes);
        drop(history);
        let revision = self.write(changes, None)?;
        Ok(Outcome::Committed { revision })
    }

    /// Disk, then memory, then those who wait.
    fn write(&mut self, changes: Vec<Change>, ended: Option<LeaseId>) -> Result<StoreRevision, StoreError> {
        let present = self.shared.read().revision();
        if changes.is_empty() && ended.is_none() {
            return Ok(present);
        }
        let revision = if changes.is_empty() {
            present
        } else {
            present.next()
        };
        let result = self.disk.commit(revision, &changes, ended);
        self.note_failure(result)?;
        if !changes.is_empty() {
            let mut history = self.shared.write();
            for change in &changes {
                self.leases.follow(history.entry(change.key()), change);
            }
            history.append(changes);
            drop(history);
            self.shared.newest.send_replace(revision);
        }
        Ok(revision)
    }

    fn grant(&mut self, ttl: Duration) -> Result<Lease, StoreError> {
        self.check_usable()?;
        let lease = Lease {
            id: LeaseId(rand::random_range(1..=i64::MAX)),
            ttl: ttl.max(TTL_MIN),
        };
        if self.leases.contains(lease.id) {
            return self.grant(ttl);
        }
        let result = self.disk.add_lease(lease);
        self.note_failure(result)?;
        self.leases.grant(lease.id, lease.ttl, self.now());
        Ok(lease)
    }

    fn keep_alive(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        if self.leases.keep_alive(lease, self.now()) {
            Ok(())
        } else {
            Err(StoreError::LeaseGone)
        }
    }

    /// Delete its keys and itself, in one transaction.
    fn end_lease(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        self.check_usable()?;
        let keys = self.leases.keys(lease).ok_or(StoreError::LeaseGone)?;
        let writes: BTreeMap<_, _> = keys.iter().map(|key| (key.clone(), Write::Delete)).collect();
        let changes = self.shared.read().changes_of(writes);
        self.write(changes, Some(lease))?;
        self.leases.forget(lease);
        Ok(())
    }

    fn end_expired(&mut self) {
        while let Some(lease) = self.leases.expired(self.now()) {
            if let Err(error) = self.end_lease(lease) {
                tracing::error!(%error, "the keys of an ended lease could not be deleted");
                return;
            }
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn check_usable(&self) -> Result<(), StoreError> {
        match &self.broken {
            None => Ok(()),
            Some(reason) => Err(StoreError::Away {
                waited: Duration::ZERO,
                reason: reason.clone(),
            }),
        }
    }

    /// After a failed commit the disk may or may not have it.
    fn note_failure(&mut self, result: Result<(), String>) -> Result<(), StoreError> {
        result.map_err(|reason| {
            tracing::error!(
                reason,
                "the store's disk failed: nothing can be written until this process is restarted"
            );
            self.broken = Some(format!(
                "its disk failed: {reason}; mend it and start this process again"
            ));
            StoreError::OutcomeUnknown {
                waited: Duration::ZERO,
                reason,
            }
        })
    }
}
