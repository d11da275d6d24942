//! Group commit: who waits for a sync of one disk, and which sync they share.
//!
//! A sync covers what had completed before it began. So whoever asks while one is under way joins the next, never that one;
//! and one that nobody has been told to make yet may still be joined. At most one is under way at a time: behind it
//! any number gather, and share the next.
//!
//! A sync that failed says that something which completed may be lost, and the kernel says so once: a later one would
//! succeed and prove nothing. Nobody knows whose writes they were. So everybody who waits is told, and everybody who
//! asks later, until the disk is opened anew.
//!
//! Not here: making the sync (`disks`), and durable writes that need none (`task`).

use fabric::driver::DiskError;

/// The syncs of one disk. A waiter is the slot of its task.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// They ask for a sync that has not begun.
    gathering: Vec<usize>,
    /// They are covered by the one under way.
    covered: Vec<usize>,
    running: bool,
    failed: Option<DiskError>,
}

impl Commit {
    /// Asks for a sync of everything that has completed by now. An error: there will be none that could be believed.
    pub(crate) fn join(&mut self, waiter: usize) -> Result<(), DiskError> {
        match self.failed {
            Some(error) => Err(error),
            None => {
                self.gathering.push(waiter);
                Ok(())
            }
        }
    }

    /// Whether a sync is to be made now: then it is under way from here on, for all that gathered.
    pub(crate) fn begin(&mut self) -> bool {
        if self.running || self.gathering.is_empty() {
            return false;
        }
        assert!(self.covered.is_empty(), "the last sync's waiters have been told");
        std::mem::swap(&mut self.gathering, &mut self.covered);
        self.running = true;
        true
    }

    /// The sync under way is over. Moves those it concerns to `told`.
    pub(crate) fn ended(&mut self, result: Result<(), DiskError>, told: &mut Vec<usize>) {
        assert!(self.running, "a sync ends that was under way");
        self.running = false;
        told.append(&mut self.covered);
        if let Err(error) = result {
            self.failed = Some(error);
            told.append(&mut self.gathering);
        }
    }

    /// Forgets those whose sync has not begun, into `forgotten`.
    pub(crate) fn forget_gathering(&mut self, forgotten: &mut Vec<usize>) {
        forgotten.append(&mut self.gathering);
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
