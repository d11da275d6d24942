//! Tasks by key: one per pool, one per node. Started and ended by the supervisor, woken by it, ended with it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The running tasks of one kind.
pub(crate) struct Tasks<K> {
    running: BTreeMap<K, Running>,
}

/// A task, and how to wake it. It ends when this is dropped.
struct Running {
    wake: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K: Ord + Copy> Tasks<K> {
    pub(crate) fn new() -> Self {
        Tasks {
            running: BTreeMap::new(),
        }
    }

    /// Exactly the wanted ones run. One that ended by itself (it must have panicked) is started anew.
    pub(crate) fn keep<F>(&mut self, wanted: &BTreeSet<K>, mut start: impl FnMut(K, Arc<Notify>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running
            .retain(|key, running| wanted.contains(key) && !running.task.is_finished());
        for key in wanted {
            self.running.entry(*key).or_insert_with(|| {
                let wake = Arc::new(Notify::new());
                let task = tokio::spawn(start(*key, wake.clone()));
                Running { wake, task }
            });
        }
    }

    /// Let the task look again, at once or when it is done with what it does.
    pub(crate) fn wake(&self, key: &K) {
        if let Some(running) = self.running.get(key) {
            running.wake.notify_one();
        }
    }

    /// Wake all.
    pub(crate) fn wake_all(&self) {
        self.running
            .values()
            .for_each(|running| running.wake.notify_one());
    }
}
