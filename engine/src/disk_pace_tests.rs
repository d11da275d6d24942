//! The pace of a disk as tables: what happens when, what it is judged to be then.
//!
//! Mutants these tests catch: slow without a bound below, or above; a slow request that teaches what is typical; a disk that is
//! well again at once, or never; a stall that only shows when it ends; a long discard that makes a disk slow.

use super::*;

const MS: u64 = 1_000_000;

fn at(ms: u64) -> Time {
    Time(ms * MS)
}

/// A disk whose transfers take `typical_ms`.
fn used_to(typical_ms: u64) -> Pace {
    let mut pace = Pace {
        typical: typical_ms * MS,
        ..Pace::default()
    };
    pace.ended(at(typical_ms), at(0), Kind::Transfer);
    let off = pace.typical_nanos().abs_diff(typical_ms * MS);
    assert!(off < 8, "rounding");
    pace
}

#[test]
fn slow_is_many_times_the_typical_and_long_by_any_measure() {
    use DiskPace::{Slow, Well};
    // What is typical, what one took, what the disk is then.
    for (typical_ms, took_ms, judged) in [
        (1, 500, Well),
        (1, 999, Well),
        (1, 1000, Slow),
        (100, 1599, Well),
        (100, 1600, Slow),
        (1000, 3999, Well),
        (1000, 4000, Slow),
    ] {
        let mut ended = used_to(typical_ms);
        ended.ended(at(100_000 + took_ms), at(100_000), Kind::Transfer);
        assert_eq!(ended.pace(), judged, "took {took_ms} of {typical_ms}");
        let mut under_way = used_to(typical_ms);
        under_way.look(at(100_000 + took_ms), Some(at(100_000)), None);
        assert_eq!(under_way.pace(), judged, "takes {took_ms} of {typical_ms}");
    }
}

#[test]
fn what_may_take_long_has_bounds_of_its_own() {
    use DiskPace::{Slow, Stalled, Well};
    for (took_ms, judged) in [(10_000, Well), (19_999, Well), (20_000, Slow), (60_000, Stalled)] {
        let mut pace = used_to(1);
        pace.look(at(100_000 + took_ms), None, Some(at(100_000)));
        assert_eq!(pace.pace(), judged, "a flush under way for {took_ms}");
    }
    let mut pace = used_to(1);
    pace.ended(at(15_000), at(0), Kind::Long);
    assert_eq!(
        (pace.pace(), pace.typical_nanos()),
        (Well, used_to(1).typical_nanos())
    );
}

#[test]
fn stalled_while_it_lasts_then_slow_then_well() {
    let mut pace = used_to(1);
    let begun = at(100_000);
    let looks = [
        (100_900, Some(begun), DiskPace::Well),
        (101_000, Some(begun), DiskPace::Slow),
        (114_999, Some(begun), DiskPace::Slow),
        (115_000, Some(begun), DiskPace::Stalled),
    ];
    for (now_ms, oldest, judged) in looks {
        pace.look(at(now_ms), oldest, None);
        assert_eq!(pace.pace(), judged, "at {now_ms}");
    }
    pace.ended(at(120_000), begun, Kind::Transfer);
    assert_eq!(
        pace.typical_nanos(),
        used_to(1).typical_nanos(),
        "a slow one is not typical"
    );
    for (now_ms, judged) in [
        (120_001, DiskPace::Slow),
        (149_999, DiskPace::Slow),
        (150_000, DiskPace::Well),
    ] {
        pace.look(at(now_ms), None, None);
        assert_eq!(pace.pace(), judged, "at {now_ms}");
    }
}

#[test]
fn near_to_slow_keeps_it_slow() {
    let mut pace = used_to(1);
    pace.ended(at(101_000), at(100_000), Kind::Transfer);
    pace.ended(at(120_500), at(120_000), Kind::Transfer);
    pace.look(at(140_000), None, None);
    assert_eq!(pace.pace(), DiskPace::Slow, "half of slow was not calm");
    pace.look(at(150_500), None, None);
    assert_eq!(pace.pace(), DiskPace::Well);
}

#[test]
fn what_is_typical_follows() {
    let mut pace = used_to(1);
    for round in 0..60 {
        pace.ended(at(5000 + round * 10 + 8), at(5000 + round * 10), Kind::Transfer);
    }
    let typical = pace.typical_nanos();
    assert!((7 * MS..=8 * MS).contains(&typical), "{typical}");
}

#[test]
fn the_longest_is_forgotten_after_a_while() {
    let mut pace = Pace::default();
    for (now_ms, took_ms, longest_ms) in [
        (5000, 70, 70),
        (6000, 3, 70),
        (15_000, 4, 70),
        (25_000, 5, 5),
        (55_000, 1, 1),
    ] {
        pace.ended(at(now_ms), at(now_ms - took_ms), Kind::Transfer);
        assert_eq!(pace.longest_nanos(), longest_ms * MS, "at {now_ms}");
    }
}
