//! How the loop waits when it has run dry: polling while work is likely within microseconds, asleep otherwise.
//!
//! Being woken costs a round trip of depth one more than its work does, so it pays to poll for the few microseconds that a
//! busy peer needs. It does not pay while nothing comes for long, nor while other threads want the core. When a look took
//! long, and another thread ran on the core since the last such look, it depends on how long: one that needs a few
//! microseconds at a time is one we may well be waiting for, so it is given way before each look; one that runs on and on
//! would make us wait for its whole turn, so polling rests for a while. (An interrupt takes long, too, and wants nothing.)
//!
//! How long work took to come while the loop slept says little: where both ends sleep, each waits for the other's waking. So
//! only polling tells whether polling pays: mostly it goes on where it mostly found work, and elsewhere it is tried as often
//! as a small share of the time allows.
//!
//! Pure: time is an argument. What this deliberately is not: it knows nothing of sockets, and nothing of what work is.
//!
//! Invariants: without work the loop sleeps after at most `most`; fruitless polling takes at most [`TRIES`] of the time, and a few
//! `most` at a change; a rest ends by itself, and grows while there is reason.

use block::{Duration, Time};

/// A look at the world that takes longer than this, and found nothing, may have let somebody else run.
const SHARED: Duration = Duration::from_micros(5);
/// Who runs for longer at a time is no peer of ours that answers soon.
const CROWDED: Duration = Duration::from_micros(200);
/// Others who share the core are expected to be there again for so long.
const SHARED_FOR: Duration = Duration::from_millis(10);
/// The first rest from polling after the core was found crowded, and the longest.
const REST_MIN: Duration = Duration::from_micros(200);
/// See [`REST_MIN`].
const REST_MAX: Duration = Duration::from_millis(100);
/// A core that is crowded again so soon after a rest is left alone for twice as long; later, somebody just passed by.
const SOON: Duration = Duration::from_millis(2);
/// One part of so many of the time may go into trying whether polling pays.
const TRIES: u64 = 20;
/// Tries saved up, at most.
const SAVED_MAX: Duration = Duration::from_millis(1);
/// What polling always finding work counts as; half of it is needed for polling to go on.
const ALWAYS: u32 = 1 << 10;
/// How much one time counts against those before it, as a power of two.
const SMOOTHING: u32 = 3;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Look again at once.
    Poll,
    /// Sleep until there is something.
    Sleep,
}

/// What the loop does since it ran dry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dry {
    No,
    Polling { since: Time },
    Sleeping,
}

/// When to poll.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    most: Duration,
    dry: Dry,
    /// How often polling finds work, of [`ALWAYS`].
    finds: u32,
    /// Time for tries, and up to when it was counted.
    saved: Duration,
    saved_at: Time,
    looked_at: Time,
    /// How often another thread had had the core, when that was asked last.
    displaced: u64,
    gives_way_until: Time,
    rests_until: Time,
    rest: Duration,
}

impl Pace {
    /// Polls for at most so long at a time; never, if that is zero.
    pub(crate) fn new(most: Duration) -> Pace {
        Pace {
            most,
            dry: Dry::No,
            finds: 0,
            saved: Duration::ZERO,
            saved_at: Time::ZERO,
            looked_at: Time::ZERO,
            displaced: 0,
            gives_way_until: Time::ZERO,
            rests_until: Time::ZERO,
            rest: REST_MIN,
        }
    }

    /// There was work.
    pub(crate) fn worked(&mut self) {
        if let Dry::Polling { .. } = std::mem::replace(&mut self.dry, Dry::No) {
            self.finds += (ALWAYS - self.finds) >> SMOOTHING;
        }
    }

    /// Whether it polls just now.
    pub(crate) fn is_polling(&self) -> bool {
        matches!(self.dry, Dry::Polling { .. })
    }

    /// Whether others share the core: then they may run before each look.
    pub(crate) fn gives_way(&self) -> bool {
        self.looked_at < self.gives_way_until
    }

    /// A look found nothing, or all work is done. `displaced` says how often another thread has had the core although this one wanted
    /// it; it is asked seldom.
    pub(crate) fn dry(&mut self, now: Time, displaced: impl FnOnce() -> u64) -> Wait {
        let since = match self.dry {
            Dry::Sleeping => return Wait::Sleep,
            Dry::Polling { since } => since,
            Dry::No => return self.run_dry(now),
        };
        let took = now.since(self.looked_at);
        self.looked_at = now;
        let shared = took > SHARED && self.was_displaced(displaced());
        if shared {
            self.gives_way_until = now + SHARED_FOR;
        }
        if shared && took > CROWDED {
            self.rest = match now.since(self.rests_until) < SOON {
                true => (self.rest * 2).min(REST_MAX),
                false => REST_MIN,
            };
            self.rests_until = now + self.rest;
            return self.sleep();
        }
        if now.since(since) >= self.most {
            self.finds -= self.finds >> SMOOTHING;
            self.saved = self.saved.saturating_sub(self.most);
            return self.sleep();
        }
        Wait::Poll
    }

    fn was_displaced(&mut self, displaced: u64) -> bool {
        std::mem::replace(&mut self.displaced, displaced) != displaced
    }

    fn run_dry(&mut self, now: Time) -> Wait {
        let passed = now.since(self.saved_at).as_nanos() as u64;
        self.saved_at = now;
        self.saved = (self.saved + Duration::from_nanos(passed / TRIES)).min(SAVED_MAX.max(self.most));
        let pays = self.finds >= ALWAYS / 2 || self.saved >= self.most;
        if self.most.is_zero() || !pays || now < self.rests_until {
            return self.sleep();
        }
        self.dry = Dry::Polling { since: now };
        self.looked_at = now;
        Wait::Poll
    }

    fn sleep(&mut self) -> Wait {
        self.dry = Dry::Sleeping;
        Wait::Sleep
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
