//! Mutants these tests catch: polling without end; polling though work comes late; not learning that it comes soon again; a
//! crowded core polled on; a rest without end; a sleep taken for a crowded core.

use super::*;

const MOST: Duration = Duration::from_micros(50);

fn us(us: u64) -> Time {
    Time(us * 1000)
}

/// A pace that has seen work come `gap` after running dry, many times; and when.
fn trained(gap: u64) -> (Pace, u64) {
    let mut pace = Pace::new(MOST);
    let mut now = 1_000;
    for _ in 0..32 {
        pace.dry(us(now));
        now += gap;
        pace.slept(us(now));
        pace.worked(us(now));
    }
    (pace, now)
}

/// For how long it polls, looking every microsecond, if nothing comes.
fn polls_for(pace: &mut Pace, from: u64) -> u64 {
    (0..10_000)
        .find(|at| pace.dry(us(from + at)) == Wait::Sleep)
        .expect("it sleeps in the end")
}

#[test]
fn a_fresh_one_sleeps() {
    assert_eq!(Pace::new(MOST).dry(us(5)), Wait::Sleep);
}

#[test]
fn it_polls_where_work_comes_soon_and_not_for_long() {
    for (gap, least, most) in [(1, 2, 8), (5, 10, 40), (20, 40, 50), (49, 49, 50)] {
        let (mut pace, now) = trained(gap);
        let polled = polls_for(&mut pace, now);
        assert!((least..=most).contains(&polled), "gap {gap}: polled for {polled}");
    }
}

#[test]
fn it_sleeps_at_once_where_work_comes_late() {
    for gap in [60, 100, 1_000, 1_000_000] {
        let (mut pace, now) = trained(gap);
        assert_eq!(polls_for(&mut pace, now), 0, "gap {gap}");
    }
}

#[test]
fn it_learns_anew_within_a_dozen_rounds() {
    let (mut pace, mut now) = trained(1_000_000);
    for _ in 0..12 {
        pace.dry(us(now));
        now += 5;
        pace.slept(us(now));
        pace.worked(us(now));
    }
    assert!(polls_for(&mut pace, now) > 0);
}

#[test]
fn zero_never_polls() {
    let mut pace = Pace::new(Duration::ZERO);
    let mut now = 0;
    for _ in 0..100 {
        assert_eq!(pace.dry(us(now)), Wait::Sleep);
        now += 1;
        pace.worked(us(now));
    }
}

#[test]
fn a_crowded_core_is_left_alone_for_a_while() {
    let (mut pace, now) = trained(5);
    assert_eq!(pace.dry(us(now)), Wait::Poll);
    assert_eq!(pace.dry(us(now + 15)), Wait::Sleep, "somebody ran for 14 us");
    pace.worked(us(now + 20));
    assert_eq!(pace.dry(us(now + 21)), Wait::Sleep, "it rests");
    pace.worked(us(now + 22));
    assert_eq!(pace.dry(us(now + 1_100)), Wait::Poll, "the rest is over");
    assert_eq!(pace.dry(us(now + 1_115)), Wait::Sleep, "crowded still");
    pace.worked(us(now + 1_116));
    assert_eq!(pace.dry(us(now + 2_500)), Wait::Sleep, "it rests for longer now");
}

#[test]
fn a_sleep_does_not_look_like_a_crowd() {
    let (mut pace, now) = trained(5);
    pace.dry(us(now));
    pace.slept(us(now + 40));
    pace.dry(us(now + 41));
    pace.worked(us(now + 42));
    assert_eq!(pace.dry(us(now + 43)), Wait::Poll);
}
