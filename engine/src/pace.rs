//! How the loop waits when it has run dry: polling while work is likely within microseconds, asleep otherwise.
//!
//! Being woken costs a round trip of depth one more than its work does, so it pays to poll for the few microseconds that a
//! busy peer needs. It does not pay while nothing comes for long, and never while another thread wants the core: each
//! look at the world lets others run first, and if one did, polling rests for a while.
//!
//! Pure: time is an argument. What this deliberately is not: it knows nothing of sockets, and nothing of what work is.
//!
//! Invariants: without work the loop sleeps after at most `most`; a rest ends by itself and grows while there is reason.

use block::{Duration, Time};

/// A look at the world that takes longer than this, and found nothing, let somebody else run.
const CROWDED: Duration = Duration::from_micros(10);
/// The first rest from polling after the core was found crowded, and the longest.
const REST_MIN: Duration = Duration::from_millis(1);
/// See [`REST_MIN`].
const REST_MAX: Duration = Duration::from_millis(256);
/// How much one gap counts against those before it, as a power of two.
const SMOOTHING: u32 = 2;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Look again at once.
    Poll,
    /// Sleep until there is something.
    Sleep,
}

/// When to poll.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    most: Duration,
    /// How long it typically takes from running dry to the next work. Longer ones count as a little more than `most`.
    gap: Duration,
    dry_since: Option<Time>,
    looked_at: Time,
    rests_until: Time,
    rest: Duration,
}

impl Pace {
    /// Polls for at most so long at a time; never, if that is zero.
    pub(crate) fn new(most: Duration) -> Pace {
        Pace {
            most,
            gap: most * 2,
            dry_since: None,
            looked_at: Time::ZERO,
            rests_until: Time::ZERO,
            rest: REST_MIN,
        }
    }

    /// There was work.
    pub(crate) fn worked(&mut self, now: Time) {
        if let Some(since) = self.dry_since.take() {
            let gap = now.since(since).min(self.most * 2);
            let weight = 1 << SMOOTHING;
            self.gap = (self.gap * (weight - 1) + gap) / weight;
        }
    }

    /// The loop has slept: how long says nothing of who else wants the core.
    pub(crate) fn slept(&mut self, now: Time) {
        self.looked_at = now;
    }

    /// A look found nothing.
    pub(crate) fn dry(&mut self, now: Time) -> Wait {
        let Some(since) = self.dry_since else {
            self.dry_since = Some(now);
            self.looked_at = now;
            return self.wait(now, Duration::ZERO);
        };
        if now.since(self.looked_at) > CROWDED {
            self.rests_until = now + self.rest;
            self.rest = (self.rest * 2).min(REST_MAX);
        }
        self.looked_at = now;
        self.wait(now, now.since(since))
    }

    fn wait(&mut self, now: Time, dry: Duration) -> Wait {
        let worthwhile = self.gap <= self.most && dry < self.most.min(self.gap * 4);
        if !worthwhile || now < self.rests_until {
            return Wait::Sleep;
        }
        if self.rests_until != Time::ZERO && now.since(self.rests_until) > self.rest {
            self.rest = REST_MIN;
        }
        Wait::Poll
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
