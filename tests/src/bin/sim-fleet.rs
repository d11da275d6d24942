//! Whole simulated data planes, seed after seed on every core, for so many minutes: `sim-fleet MINUTES [FIRST_SEED]`.
//!
//! Ends at the first seed that fails, and says how to replay it.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::fabric::{Outcome, run_seed};

/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(30);

struct Fleet {
    next: AtomicU64,
    over: AtomicBool,
    sum: Mutex<(u64, Outcome)>,
    failed: Mutex<Option<String>>,
}

impl Fleet {
    fn work(&self) {
        while !self.over.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            match run_seed(seed) {
                Ok(outcome) => self.add(&outcome),
                Err(failure) => {
                    self.over.store(true, Ordering::Relaxed);
                    let mut failed = self.failed.lock().expect("nobody panics with it");
                    failed.get_or_insert(failure.to_string());
                }
            }
        }
    }

    fn add(&self, outcome: &Outcome) {
        let mut sum = self.sum.lock().expect("nobody panics with it");
        sum.0 += 1;
        sum.1.add(outcome);
    }

    fn tell(&self, begun: Instant, cores: usize) {
        let (seeds, sum) = self.sum.lock().expect("nobody panics with it").clone();
        let elapsed = begun.elapsed().as_secs_f64();
        println!(
            "{elapsed:6.0} s: {seeds} seeds, {:.2} a second; {:.0} I/Os and {:.0} happenings a second and core; {sum}",
            seeds as f64 / elapsed,
            sum.operations as f64 / elapsed / cores as f64,
            sum.happenings as f64 / elapsed / cores as f64,
        );
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let number = |text: String| {
        text.parse::<u64>()
            .expect("usage: sim-fleet MINUTES [FIRST_SEED]")
    };
    let minutes = arguments.next().map_or(1, number);
    let first = arguments.next().map_or(0, number);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let fleet = Fleet {
        next: AtomicU64::new(first),
        over: AtomicBool::new(false),
        sum: Mutex::default(),
        failed: Mutex::default(),
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| fleet.work());
        }
        let mut told = begun;
        while begun.elapsed() < Duration::from_secs(60 * minutes) && !fleet.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
            if told.elapsed() >= TELL_EVERY {
                fleet.tell(begun, cores);
                told = Instant::now();
            }
        }
        fleet.over.store(true, Ordering::Relaxed);
    });
    fleet.tell(begun, cores);
    let failed = fleet.failed.into_inner().expect("nobody panics with it");
    match failed {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
