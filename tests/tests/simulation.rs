//! Whole data planes under trouble, by seed: `just sim` runs a hundred, `just sim 4` tells one with a line for everything that happens,
//! `TRESTLE_SEEDS=FROM..TO` runs a range. See docs/testing.md.
//!
//! Deliberate bugs that are tried against it: tests/mutants/mutants.toml.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use tests::fabric::run::{replay, run_seed, tell};
use tests::fabric::{Outcome, Story};

#[test]
fn no_trouble_costs_an_acknowledged_byte() {
    if let Ok(seed) = std::env::var("TRESTLE_SEED") {
        let mut story = Story::draw(seed.parse().expect("a number"));
        if let Ok(faults) = std::env::var("TRESTLE_FAULTS") {
            let number = |text: &str| text.parse::<usize>().expect("numbers of faults");
            story = story.only(
                &faults
                    .split(',')
                    .filter(|text| !text.is_empty())
                    .map(number)
                    .collect::<Vec<_>>(),
            );
        }
        let outcome = replay(&story).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        println!("{outcome}");
        return;
    }
    let seeds = match std::env::var("TRESTLE_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("FROM..TO");
            from.parse().expect("a number")..to.parse().expect("a number")
        }
        Err(_) => 0..40u64,
    };
    let count = seeds.end - seeds.start;
    let sum = on_two_cores(seeds);
    println!("{count} seeds: {sum}");
    let real = sum.operations > 100 * count
        && sum.epochs > count
        && sum.memberships > 0
        && sum.looked_at > 100 * count
        && sum.volumes > count;
    assert!(real, "the hosts and the trouble must be real");
}

/// Runs seeds in two threads, each in its own worlds; the lowest seed that fails is told.
fn on_two_cores(seeds: Range<u64>) -> Outcome {
    let (next, sum) = (Mutex::new(seeds.clone()), Mutex::new(Outcome::default()));
    let failed = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Nobody holds the lock while a seed runs.
                let take = || next.lock().expect("nobody panics with it").next();
                while let Some(seed) = take() {
                    match run(seed) {
                        Ok(outcome) => sum.lock().expect("nobody panics with it").add(&outcome),
                        Err(failure) => {
                            next.lock().expect("nobody panics with it").start = seeds.end;
                            failed
                                .lock()
                                .expect("nobody panics with it")
                                .insert(seed, failure);
                        }
                    }
                }
            });
        }
    });
    if let Some((_, failure)) = failed.into_inner().expect("nobody panics with it").pop_first() {
        panic!("{failure}");
    }
    sum.into_inner().expect("nobody panics with it")
}

/// One seed; of one that fails the shortest story, unless `TRESTLE_AS_DRAWN` says that nobody will read it.
fn run(seed: u64) -> Result<Outcome, String> {
    match std::env::var_os("TRESTLE_AS_DRAWN").is_some() {
        true => tell(&Story::draw(seed), false).map_err(|broken| format!("seed {seed}: {broken}")),
        false => run_seed(seed).map_err(|failure| failure.to_string()),
    }
}
