//! Clearing the write-intent bitmap: lazily, by the batch, when regions have been quiet for a while; and at the end.
//!
//! A bit goes only while every leg of the group is in the set and there: a leg that is away will need it (R4). And only
//! after a flush of all legs that began when nothing was being written in the region, if nothing has been since (R12).

use super::bits::Bits;
use super::{LegSet, Mirror, Phase, Purpose};
use crate::{BlockRange, Operation, Time};

/// The clearing of bits.
#[derive(Debug, Default)]
pub(super) struct Clearing {
    next_at: Option<Time>,
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
        let next = *self
            .clearing
            .next_at
            .get_or_insert(self.now + self.config.tuning.bitmap_quiet);
        if next <= self.now && self.clearing.flush.is_none() {
            self.clearing.next_at = Some(self.now + self.config.tuning.bitmap_quiet);
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
