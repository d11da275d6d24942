//! Somebody else's I/O: every byte known in advance and looked at, in the background, while others misbehave.

use super::fabric::PATIENCE;
use crate::host::DemoHost;
use crate::workload::{Tally, Workload};
use ::fabric::host::HostOperation;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// More than can be in flight: if so many end, some began after one looked.
const SOME: u64 = 80;

pub(crate) struct Neighbour {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<(Workload, Tally)>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    ended: AtomicU64,
}

impl Neighbour {
    pub(crate) fn start(mut workload: Workload) -> Neighbour {
        let shared = Arc::new(Shared::default());
        let told = shared.clone();
        let thread = std::thread::spawn(move || {
            let tally = workload.run_until(|tally| {
                told.ended.store(tally.reads + tally.writes, Ordering::Relaxed);
                // Leaves the processors to those who are tested.
                std::thread::sleep(Duration::from_millis(1));
                told.stop.load(Ordering::Relaxed)
            })?;
            Ok((workload, tally))
        });
        Neighbour {
            shared,
            thread: Some(thread),
        }
    }

    /// Waits until some operations that began after now have ended well; how long that took.
    pub(crate) fn goes_on(&mut self) -> Duration {
        let (begun, from) = (Instant::now(), self.ended());
        while self.ended() < from + SOME {
            if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
                self.join();
                panic!("the neighbour has stopped");
            }
            assert!(begun.elapsed() < PATIENCE, "the neighbour's I/O is stuck");
            std::thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }

    /// How many operations have ended well.
    pub(crate) fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Ends it, and reads back every block it ever wrote.
    pub(crate) fn verified(mut self) -> Tally {
        let (mut workload, tally) = self.join();
        workload.verify_all().expect("every byte as last acknowledged");
        tally
    }

    fn join(&mut self) -> (Workload, Tally) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is joined once");
        let ended = thread.join().expect("the neighbour's thread does not panic");
        ended.expect("the neighbour's I/O goes well")
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// One operation, to its end.
pub(crate) fn asked(host: &mut DemoHost, operation: HostOperation) -> Result<Vec<u8>, String> {
    let id = host.submit(operation).expect("the host runs");
    answered(host, id)
}

/// The end of an operation that was begun before.
pub(crate) fn answered(host: &mut DemoHost, id: u64) -> Result<Vec<u8>, String> {
    let ended = host.ended(PATIENCE).expect("the host runs");
    let ended = ended.expect("the operation ends");
    assert_eq!(ended.id, id, "one operation at a time");
    ended.result
}
