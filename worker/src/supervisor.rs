//! Watches the store, and keeps one task per pool and node that is this worker's, awake when something concerns it.

use crate::directory::{Directory, FILLED_FROM, Wakes};
use crate::node_kind::{ControllerNodes, DiskNodes};
use crate::tasks::Tasks;
use crate::{Shared, node_reconciler, pool_reconciler, retention, roster};
use cluster::{ControllerNodeId, DiskNodeId, PoolId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use store::{Change, KeyRange, Read, StoreError, StoreRevision, Watch, WatchSignal};
use uuid::Uuid;

/// What everybody looks things up in.
pub(crate) type SharedDirectory = Arc<Mutex<Directory>>;

/// Run for ever. When the watch is lost, look at everything anew.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut supervisor = Supervisor {
        directory: SharedDirectory::default(),
        pools: Tasks::new(),
        disk_nodes: Tasks::new(),
        controller_nodes: Tasks::new(),
        chores: Tasks::new(),
        shared,
    };
    loop {
        match supervisor.begin().await {
            Ok(watch) => supervisor.follow(watch).await,
            Err(error) => tracing::warn!(%error, "the worker waits for the store"),
        }
        tokio::time::sleep(supervisor.shared.options.failure_pause).await;
    }
}

struct Supervisor {
    shared: Arc<Shared>,
    directory: SharedDirectory,
    pools: Tasks<PoolId>,
    disk_nodes: Tasks<DiskNodeId>,
    controller_nodes: Tasks<ControllerNodeId>,
    /// What is nobody's in particular, by an arbitrary id.
    chores: Tasks<Uuid>,
}

impl Supervisor {
    /// Fill the directory from one revision of the store, and watch from the next.
    async fn begin(&mut self) -> Result<Watch, StoreError> {
        let mut directory = Directory::default();
        let mut revision: Option<StoreRevision> = None;
        for prefix in FILLED_FROM {
            let read = Read {
                at: revision,
                ..Read::of(KeyRange::prefix(prefix))
            };
            let snapshot = self.shared.store.read(read).await?;
            revision.get_or_insert(snapshot.revision);
            for entry in snapshot.entries {
                directory.apply(&Change::Put(entry));
            }
        }
        let from = revision.expect("something was read").next();
        let watch = self.shared.store.watch(KeyRange::prefix(""), from).await?;
        *self
            .directory
            .lock()
            .expect("no panic while the directory is held") = directory;
        self.keep_tasks();
        self.pools.wake_all();
        self.disk_nodes.wake_all();
        self.controller_nodes.wake_all();
        Ok(watch)
    }

    /// Until the watch is lost. Tasks are looked after by a timer too: one that panicked is started anew.
    async fn follow(&mut self, mut watch: Watch) {
        loop {
            let signal = tokio::time::timeout(self.shared.options.round_every, watch.next()).await;
            match signal {
                Ok(WatchSignal::Changes { changes, .. }) => {
                    changes.iter().for_each(|change| self.changed(change))
                }
                Ok(WatchSignal::Lost { reason, .. }) => {
                    tracing::info!(reason, "the watch ended; the worker looks at everything anew");
                    return;
                }
                Err(_) => self.keep_tasks(),
            }
        }
    }

    fn changed(&mut self, change: &Change) {
        let (wakes, same) = {
            let mut directory = self
                .directory
                .lock()
                .expect("no panic while the directory is held");
            let before = shape(&directory);
            let wakes = directory.apply(change);
            let same =
                before == shape(&directory) && !change.key().starts_with(cluster::key::WORKERS.as_bytes());
            (wakes, same)
        };
        if !same {
            self.keep_tasks();
        }
        self.wake(&wakes);
    }

    fn wake(&self, wakes: &Wakes) {
        wakes.pools.iter().for_each(|pool| self.pools.wake(pool));
        wakes
            .disk_nodes
            .iter()
            .for_each(|node| self.disk_nodes.wake(node));
        wakes
            .controller_nodes
            .iter()
            .for_each(|node| self.controller_nodes.wake(node));
    }

    /// One task for each pool and node that is for this worker.
    fn keep_tasks(&mut self) {
        let directory = self
            .directory
            .lock()
            .expect("no panic while the directory is held");
        let (own, workers) = (self.shared.id, directory.workers.clone());
        let is_mine = |id: Uuid| roster::is_mine(own, &workers, id);
        let pools: BTreeSet<_> = directory
            .pools_to_look_at()
            .into_iter()
            .filter(|id| is_mine(id.0))
            .collect();
        let disk_nodes: BTreeSet<_> = directory
            .disk_nodes
            .iter()
            .copied()
            .filter(|id| is_mine(id.0))
            .collect();
        let controller_nodes: BTreeSet<_> = directory
            .controller_nodes
            .iter()
            .copied()
            .filter(|id| is_mine(id.0))
            .collect();
        let chores: BTreeSet<_> = [retention::CHORE].into_iter().filter(|id| is_mine(*id)).collect();
        drop(directory);
        let (shared, of_pools) = (&self.shared, &self.directory);
        self.pools.keep(&pools, |id, wake| {
            pool_reconciler::run(shared.clone(), of_pools.clone(), id, wake)
        });
        let start = |id, wake| node_reconciler::run::<DiskNodes>(shared.clone(), id, wake);
        self.disk_nodes.keep(&disk_nodes, start);
        let start = |id, wake| node_reconciler::run::<ControllerNodes>(shared.clone(), id, wake);
        self.controller_nodes.keep(&controller_nodes, start);
        self.chores.keep(&chores, |_, _| retention::run(shared.clone()));
    }
}

/// How many of each there are: whether tasks must be started or ended.
fn shape(directory: &Directory) -> [usize; 4] {
    [
        directory.pools.len(),
        directory.disk_nodes.len(),
        directory.controller_nodes.len(),
        directory.operations.len(),
    ]
}
