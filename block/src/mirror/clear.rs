//! Clearing the write-intent bitmap: lazily, by the batch, when regions have been quiet for a while; and at the end.
//!
//! A bit goes only while every leg of the group is in the set and there: a leg that is away will need it (R4). And only
//! after a flush of all legs that began when nothing was being written in the region, if nothing has been since (R12).
//!
//! Marking a region costs a durable write to every leg before the host's write goes out, so how long a region must have been
//! quiet follows what clearing costs: while many writes find their region cleared, regions stay marked for longer
//! (docs/decisions/0012).

use super::bitmap::Wear;
use super::bits::Bits;
use super::{LegSet, Mirror, Phase, Purpose};
use crate::{BlockRange, Duration, Operation, Time, Tuning};

/// Clearing costs too much when more than one write in so many has to mark its region again.
const WRITES_PER_MARK_MIN: u64 = 32;
/// It may cost more when fewer than one in so many do.
const WRITES_PER_MARK_PLENTY: u64 = 1024;

/// The clearing of bits.
#[derive(Debug, Default)]
pub(super) struct Clearing {
    next_at: Option<Time>,
    /// How often `Tuning::bitmap_quiet` was doubled.
    doublings: u32,
    flush: Option<Flush>,
    /// A flush, or a round of the bitmap, failed: at the end there is no second try.
    failed: bool,
}

#[derive(Debug)]
struct Flush {
    candidates: Bits,
    pending: LegSet,
}

impl Clearing {
    pub(super) fn drop_leg(&mut self, leg: usize) {
        if self.flush.as_ref().is_some_and(|flush| flush.pending.has(leg)) {
            self.flush = None;
            self.failed = true;
        }
    }
    /// How long a region must be quiet now.
    fn quiet(&self, tuning: &Tuning) -> Duration {
        tuning.bitmap_quiet.saturating_mul(1 << self.doublings)
    }
    /// Clearing has cost so much since it was last looked at.
    fn weigh(&mut self, wear: Wear, tuning: &Tuning) {
        let longer = self.quiet(tuning).saturating_mul(2);
        if wear.marked_again * WRITES_PER_MARK_MIN > wear.writes && longer <= tuning.bitmap_quiet_max {
            self.doublings += 1;
        } else if wear.marked_again * WRITES_PER_MARK_PLENTY < wear.writes {
            self.doublings = self.doublings.saturating_sub(1);
        }
    }
    /// The end begins: what failed before does not count.
    pub(super) fn begin_last(&mut self) {
        self.failed = false;
    }
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }
    pub(super) fn is_flushing(&self) -> bool {
        self.flush.is_some()
    }
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }
}

impl Mirror {
    /// Whether every leg of the group is in the set and there.
    pub(super) fn is_whole(&self) -> bool {
        let all = self.legs.all();
        self.membership.recorded() == all && !self.membership.is_asking() && self.legs.serving() == all
    }

    pub(super) fn advance_clear(&mut self) {
        if self.phase != Phase::Serving {
            return;
        }
        if self.bitmap.dirty().is_empty() {
            self.clearing.next_at = None;
            return;
        }
        let tuning = &self.config.tuning;
        let quiet = self.clearing.quiet(tuning);
        let next = *self.clearing.next_at.get_or_insert(self.now + quiet);
        if next <= self.now && self.clearing.flush.is_none() {
            self.clearing.weigh(self.bitmap.take_wear(), tuning);
            self.clearing.next_at = Some(self.now + self.clearing.quiet(tuning));
            self.begin_clear(true);
        }
    }

    pub(super) fn clear_timeout(&self) -> Option<Time> {
        self.clearing
            .next_at
            .filter(|_| self.phase == Phase::Serving && self.clearing.flush.is_none())
    }

    /// Flushes, to clear afterwards what can be. Returns whether there is anything to be cleared.
    pub(super) fn begin_clear(&mut self, quiet: bool) -> bool {
        let candidates = self.bitmap.begin_clear(self.resync.unequal(), quiet);
        if candidates.is_empty() || !self.is_whole() {
            return false;
        }
        let pending = self.legs.all();
        self.clearing.flush = Some(Flush { candidates, pending });
        for leg in pending.iter() {
            self.send(leg, Purpose::ClearFlush, Operation::Flush, BlockRange::default());
        }
        true
    }

    pub(super) fn clear_flushed(&mut self, leg: usize, succeeded: bool) {
        let Some(flush) = &mut self.clearing.flush else {
            return;
        };
        if !succeeded {
            self.clearing.flush = None;
            self.clearing.failed = true;
            return;
        }
        flush.pending.remove(leg);
        if flush.pending.is_empty() {
            let flush = self.clearing.flush.take().expect("just seen");
            if self.is_whole() {
                self.bitmap.clear(&flush.candidates, self.resync.unequal());
            }
            self.again = true;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: patience that only grows, grows without end, or grows while nothing is written.
    use super::*;

    #[test]
    fn regions_stay_marked_for_longer_while_clearing_them_costs_much() {
        let tuning = Tuning::default();
        let mut clearing = Clearing::default();
        let mut quiet_after = |writes, marked_again| {
            let wear = Wear { writes, marked_again };
            clearing.weigh(wear, &tuning);
            clearing.quiet(&tuning).as_secs()
        };
        assert_eq!(quiet_after(0, 0), 5);
        assert_eq!(quiet_after(1000, 100), 10);
        assert_eq!(quiet_after(1000, 10), 10, "neither much nor little");
        assert_eq!(quiet_after(0, 0), 10);
        assert_eq!(quiet_after(10_000, 1), 5);
        let many: Vec<u64> = (0..9).map(|_| quiet_after(1000, 1000)).collect();
        assert_eq!(many, [10, 20, 40, 80, 160, 320, 320, 320, 320]);
    }
}
