//! Mutants these tests catch: polling without end; polling on though it finds nothing; never trying again whether it pays;
//! tries that take more than their share; a crowded core polled on; an interrupt taken for a crowd; nobody given way, or for ever;
//! a rest without end, or one that does not grow; what came after a sleep taken for found.

use super::*;

const MOST: Duration = Duration::from_micros(50);

/// A loop under a pace: work comes so many microseconds after it ran dry, a look takes one.
struct Loop {
    pace: Pace,
    now: u64,
    polled: u64,
    displaced: u64,
}

impl Loop {
    fn new(most: Duration) -> Loop {
        Loop {
            pace: Pace::new(most),
            now: 10_000_000,
            polled: 0,
            displaced: 0,
        }
    }

    fn dry(&mut self) -> Wait {
        self.pace.dry(self.now(), || self.displaced)
    }

    fn now(&self) -> Time {
        Time(self.now * 1000)
    }

    /// Runs dry; work comes after `gap`. Whether the loop was polling then.
    fn round(&mut self, gap: u64) -> bool {
        let until = self.now + gap;
        let mut wait = self.dry();
        while wait == Wait::Poll && self.now < until {
            self.now += 1;
            self.polled += 1;
            wait = match self.now < until {
                true => self.dry(),
                false => wait,
            };
        }
        self.now = until;
        self.pace.worked();
        wait == Wait::Poll
    }

    fn rounds(&mut self, count: usize, gap: u64) -> usize {
        (0..count).filter(|_| self.round(gap)).count()
    }
}

#[test]
fn it_polls_where_work_comes_soon() {
    for gap in [1, 5, 20, 49] {
        let mut under = Loop::new(MOST);
        under.rounds(50, gap);
        assert_eq!(under.rounds(1000, gap), 1000, "gap {gap}");
    }
}

#[test]
fn without_work_it_sleeps_soon() {
    let mut under = Loop::new(MOST);
    under.rounds(1000, 5);
    under.polled = 0;
    assert!(!under.round(1_000_000));
    assert!((45..=50).contains(&under.polled), "polled for {}", under.polled);
}

#[test]
fn where_work_comes_late_it_is_tried_within_its_share() {
    for gap in [60, 100, 1_000, 10_000, 1_000_000] {
        let mut under = Loop::new(MOST);
        under.rounds(100, 5);
        under.rounds(100, gap);
        let (begun, polled) = (under.now, under.polled);
        assert_eq!(under.rounds(2_000, gap), 0);
        let (passed, polled) = (under.now - begun, under.polled - polled);
        assert!(
            polled * TRIES <= passed + 1_100 * TRIES,
            "gap {gap}: {polled} of {passed}"
        );
        assert!(polled > 0, "gap {gap}: never tried again");
    }
}

#[test]
fn it_learns_anew_though_both_ends_slept() {
    let mut under = Loop::new(MOST);
    under.rounds(100, 70);
    // From now on the peer answers at once whoever polls, and late whoever sleeps.
    let mut polling = 0;
    for _ in 0..400 {
        let tries = under.pace.clone().dry(under.now(), || 0) == Wait::Poll;
        polling += usize::from(under.round(if tries { 5 } else { 70 }));
    }
    assert!(polling > 200, "polled {polling} times of 400");
}

#[test]
fn zero_never_polls() {
    let mut under = Loop::new(Duration::ZERO);
    assert_eq!(under.rounds(100, 1), 0);
}

#[test]
fn a_crowded_core_is_left_alone_for_longer_and_longer() {
    let mut under = Loop::new(MOST);
    under.rounds(100, 5);
    let mut rests = Vec::new();
    for _ in 0..6 {
        assert_eq!(under.dry(), Wait::Poll);
        under.now += 215;
        under.displaced += 1;
        assert_eq!(under.dry(), Wait::Sleep, "somebody ran for 215 us");
        under.pace.worked();
        let begun = under.now;
        while !under.round(5) {
            assert!(under.now - begun < 1_000_000, "the rest ends");
        }
        rests.push(under.now - begun);
    }
    assert!(rests[0] >= 200 && rests[0] < 300, "{rests:?}");
    assert!(
        rests.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2),
        "{rests:?}"
    );
    under.rounds(100_000, 5);
    under.dry();
    under.now += 215;
    under.displaced += 1;
    under.dry();
    under.pace.worked();
    let begun = under.now;
    while !under.round(5) {}
    assert!(
        under.now - begun < 1_100,
        "long without a crowd, the first rest is short again"
    );
}

#[test]
fn who_runs_for_a_moment_is_given_way() {
    let mut under = Loop::new(MOST);
    under.rounds(100, 5);
    assert!(!under.pace.gives_way());
    assert_eq!(under.dry(), Wait::Poll);
    under.now += 15;
    under.displaced += 1;
    assert_eq!(
        under.dry(),
        Wait::Poll,
        "somebody ran for 15 us, and may be who we wait for"
    );
    assert!(under.pace.gives_way());
    under.pace.worked();
    under.rounds(9, 5);
    assert!(under.pace.gives_way());
    under.rounds(10_000, 5);
    assert!(!under.pace.gives_way(), "nobody came any more");
}

#[test]
fn an_interrupt_is_not_taken_for_a_crowd() {
    let mut under = Loop::new(MOST);
    under.rounds(100, 5);
    for _ in 0..10 {
        assert_eq!(under.dry(), Wait::Poll);
        under.now += 45;
        assert_eq!(under.dry(), Wait::Poll, "nobody else ran");
        assert!(!under.pace.gives_way());
        under.pace.worked();
        assert!(under.round(5));
    }
}

#[test]
fn a_sleep_is_not_taken_for_a_crowd() {
    let mut under = Loop::new(MOST);
    under.rounds(1000, 5);
    under.rounds(3, 5_000);
    assert!(under.round(5));
}
