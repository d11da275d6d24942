//! How fast a disk answers, and whether it is slow: a machine of its own, fed with times.
//!
//! What is typical is learnt from reads and writes that went well. A disk is *slow* once a request has taken many times what
//! is typical, and long by any measure; *stalled* while one has been under way for so long that hosts give up waiting. It is
//! well again only after a while in which nothing came near to slow: a disk that is slow every few seconds is slow.
//!
//! Syncs, zeroing and discards may rightly take long, and have bounds of their own.
//!
//! Not here: the clock, and what somebody does about a slow disk.

use block::{Duration, Time};

/// How a disk answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskPace {
    /// As usual.
    #[default]
    Well,
    /// A request took, or is taking, far longer than usual.
    Slow,
    /// A request has been under way for so long that it may never be answered.
    Stalled,
}

impl DiskPace {
    pub(crate) const ALL: [DiskPace; 3] = [DiskPace::Well, DiskPace::Slow, DiskPace::Stalled];
}

/// What a request is, for its pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A read or a write.
    Transfer,
    /// A sync, zeroing, a discard.
    Long,
}

/// A transfer is slow beyond so many times what is typical, within the bounds below.
const SLOW_FACTOR: u64 = 16;
/// No transfer faster than this is slow.
const SLOW_NANOS_MIN: u64 = SECOND;
/// Every transfer slower than this is slow, however slow the disk has become meanwhile.
const SLOW_NANOS_MAX: u64 = 4 * SECOND;
/// Everything else is slow beyond this.
const SLOW_LONG_NANOS: u64 = 20 * SECOND;
/// A transfer under way for longer is stalled.
const STALLED_NANOS: u64 = 15 * SECOND;
/// Everything else under way for longer is stalled.
const STALLED_LONG_NANOS: u64 = 60 * SECOND;
/// A slow disk is well again after so long without anything that took half of what is slow.
const CALM_NANOS: u64 = 30 * SECOND;
/// The longest of the last so long is kept, and of as long before.
const WINDOW_NANOS: u64 = 10 * SECOND;
/// What is typical follows a change by an eighth per request.
const EWMA_SHIFT: u32 = 3;

const SECOND: u64 = 1_000_000_000;

/// The pace of one disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    pace: DiskPace,
    /// Nanoseconds; zero until the first transfer.
    typical: u64,
    longest: [u64; 2],
    window: u64,
    /// When something last took half of what is slow.
    uneasy: Time,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Pace {
    pub(crate) fn pace(&self) -> DiskPace {
        self.pace
    }

    /// What a read or a write usually takes; zero if there has been none.
    pub(crate) fn typical_nanos(&self) -> u64 {
        self.typical
    }

    /// The longest of the last ten to twenty seconds in which anything ended.
    pub(crate) fn longest_nanos(&self) -> u64 {
        self.longest[0].max(self.longest[1])
    }

    fn slow_nanos(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Transfer => (SLOW_FACTOR * self.typical).clamp(SLOW_NANOS_MIN, SLOW_NANOS_MAX),
            Kind::Long => SLOW_LONG_NANOS,
        }
    }

    /// A request is over.
    pub(crate) fn ended(&mut self, now: Time, begun: Time, kind: Kind) {
        let took = nanos(now.since(begun));
        let slow = self.slow_nanos(kind);
        self.note_longest(now, took);
        if took >= slow / 2 {
            self.uneasy = now;
        }
        if took >= slow {
            self.pace = self.pace.max_of(DiskPace::Slow);
        } else if kind == Kind::Transfer {
            self.learn(took);
        }
    }

    fn learn(&mut self, took: u64) {
        self.typical = match self.typical {
            0 => took.max(1),
            typical => typical - (typical >> EWMA_SHIFT) + (took >> EWMA_SHIFT),
        };
    }

    fn note_longest(&mut self, now: Time, took: u64) {
        let window = now.0 / WINDOW_NANOS;
        if window != self.window {
            let last = if window == self.window + 1 {
                self.longest[0]
            } else {
                0
            };
            (self.longest, self.window) = ([0, last], window);
        }
        self.longest[0] = self.longest[0].max(took);
    }

    /// A look at what is under way: when the oldest of each kind began, if there is one.
    pub(crate) fn look(&mut self, now: Time, oldest_transfer: Option<Time>, oldest_long: Option<Time>) {
        let age = |begun: Option<Time>| begun.map_or(0, |begun| nanos(now.since(begun)));
        let (transfer, long) = (age(oldest_transfer), age(oldest_long));
        let slow = self.slow_nanos(Kind::Transfer);
        if transfer >= slow / 2 || long >= SLOW_LONG_NANOS / 2 {
            self.uneasy = now;
        }
        let calm = nanos(now.since(self.uneasy)) >= CALM_NANOS;
        self.pace = if transfer >= STALLED_NANOS || long >= STALLED_LONG_NANOS {
            DiskPace::Stalled
        } else if transfer >= slow || long >= SLOW_LONG_NANOS || self.pace != DiskPace::Well && !calm {
            DiskPace::Slow
        } else {
            DiskPace::Well
        };
    }
}

impl DiskPace {
    fn max_of(self, other: DiskPace) -> DiskPace {
        if self as u8 >= other as u8 { self } else { other }
    }
}

#[cfg(test)]
#[path = "disk_pace_tests.rs"]
mod tests;
