//! Group commit against its law, told by numbers: writes complete, flushes ask, syncs begin and end in any order.
//!
//! Mutants these tests catch: a flush joins the sync under way; it is told before its sync ends; only the first that
//! waits is told; an error reaches one of them only, or not those that gathered; a later sync forgives; a second sync
//! beside the first; nobody makes the next.

use super::*;
use proptest::prelude::*;

fn begun(commit: &mut Commit, waiters: &[usize]) {
    waiters.iter().for_each(|waiter| commit.join(*waiter).unwrap());
    assert!(commit.begin());
}

fn end(commit: &mut Commit, result: Result<(), DiskError>) -> Vec<usize> {
    let mut told = Vec::new();
    commit.ended(result, &mut told);
    told
}

#[test]
fn one_sync_for_all_that_gathered() {
    let mut commit = Commit::default();
    assert!(!commit.begin(), "nobody asks");
    begun(&mut commit, &[1, 2, 3]);
    assert!(!commit.begin(), "one is enough");
    assert_eq!(end(&mut commit, Ok(())), [1, 2, 3]);
    assert!(!commit.begin(), "nobody asks any more");
}

#[test]
fn who_comes_while_one_is_under_way_joins_the_next() {
    let mut commit = Commit::default();
    begun(&mut commit, &[1]);
    commit.join(2).unwrap();
    assert!(!commit.begin(), "one at a time");
    commit.join(3).unwrap();
    assert_eq!(
        end(&mut commit, Ok(())),
        [1],
        "the others came too late for this one"
    );
    assert!(commit.begin());
    assert_eq!(end(&mut commit, Ok(())), [2, 3]);
}

#[test]
fn a_failure_is_everybodys_and_stays() {
    let mut commit = Commit::default();
    begun(&mut commit, &[1, 2]);
    commit.join(3).unwrap();
    assert_eq!(end(&mut commit, Err(DiskError::NoSpace)), [1, 2, 3]);
    assert!(!commit.begin());
    assert_eq!(commit.join(4), Err(DiskError::NoSpace));
    assert!(!commit.begin());
}

#[test]
fn what_has_not_begun_is_forgotten() {
    let mut commit = Commit::default();
    begun(&mut commit, &[1]);
    commit.join(2).unwrap();
    let mut forgotten = Vec::new();
    commit.forget_gathering(&mut forgotten);
    assert_eq!(forgotten, [2]);
    assert_eq!(end(&mut commit, Ok(())), [1]);
    assert!(!commit.begin());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    WriteCompletes,
    Ask,
    Begin,
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::WriteCompletes),
        Just(Step::Ask),
        Just(Step::Begin),
        Just(Step::End)
    ]
}

proptest! {
    /// Whoever is told that a sync succeeded finds everything durable that had completed when he asked; and everybody is told once.
    #[test]
    fn told_is_durable(steps in proptest::collection::vec(step(), 1..80)) {
        let mut commit = Commit::default();
        // Writes are numbered as they complete; a sync takes with it what has completed when it begins.
        let (mut completed, mut durable) = (0, 0);
        let mut under_way: Option<u64> = None;
        let mut asked: Vec<u64> = Vec::new();
        let mut told_all = Vec::new();
        let finish = steps.iter().copied().chain([Step::End, Step::Begin, Step::End]);
        for step in finish {
            match step {
                Step::WriteCompletes => completed += 1,
                Step::Ask => {
                    commit.join(asked.len()).unwrap();
                    asked.push(completed);
                }
                Step::Begin => {
                    if commit.begin() {
                        prop_assert!(under_way.replace(completed).is_none(), "one at a time");
                    }
                }
                Step::End => {
                    let Some(covers) = under_way.take() else { continue };
                    durable = durable.max(covers);
                    for waiter in end(&mut commit, Ok(())) {
                        prop_assert!(asked[waiter] <= durable, "waiter {} was told too early", waiter);
                        told_all.push(waiter);
                    }
                }
            }
        }
        told_all.sort_unstable();
        prop_assert_eq!(told_all, (0..asked.len()).collect::<Vec<_>>());
    }
}
