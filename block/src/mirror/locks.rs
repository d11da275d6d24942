//! Who may write where: overlapping writes go one after the other, in the order they asked (R11).
//!
//! Reads take no lock: a read beside a write may see either. Ranges are never empty.

use crate::{BlockRange, Slot};
use std::collections::VecDeque;

/// Blocks that share a shelf: 128 KiB.
const SHELF_BLOCKS: u64 = 32;
/// How many shelves there are; ranges far from each other may share one.
const SHELVES: usize = 256;
/// A range that touches more shelves than this lies apart.
const NARROW_MAX: u64 = 4;

/// Who asked for a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A write from above.
    Modify(Slot),
    /// The step of resync.
    Step,
}

/// The ranges that are taken, and those who wait for one.
#[derive(Debug)]
pub(super) struct RangeLocks {
    /// Taken ranges, which do not overlap: each lies on every shelf whose blocks it touches, so whoever wants one looks at a few.
    shelves: Vec<Vec<BlockRange>>,
    /// Taken ranges that touch many shelves.
    wide: Vec<BlockRange>,
    waiting: VecDeque<(Holder, BlockRange)>,
}

impl Default for RangeLocks {
    fn default() -> RangeLocks {
        RangeLocks {
            shelves: vec![Vec::new(); SHELVES],
            wide: Vec::new(),
            waiting: VecDeque::new(),
        }
    }
}

impl RangeLocks {
    /// Takes the range if nobody has it or waits for any of it; otherwise queues up.
    pub(super) fn acquire(&mut self, holder: Holder, range: BlockRange) -> bool {
        let queued = self.waiting.iter().any(|(_, other)| other.overlaps(range));
        if queued || self.is_held(range) {
            self.waiting.push_back((holder, range));
            return false;
        }
        self.hold(range);
        true
    }

    /// Gives the range back. Returns who has got theirs because of it.
    pub(super) fn release(&mut self, range: BlockRange) -> Vec<Holder> {
        let drop_from = |shelf: &mut Vec<BlockRange>| {
            let place = shelf.iter().position(|held| *held == range);
            shelf.swap_remove(place.expect("it was held"));
        };
        match narrow(range) {
            Some(shelves) => shelves.for_each(|shelf| drop_from(&mut self.shelves[shelf])),
            None => drop_from(&mut self.wide),
        }
        if self.waiting.is_empty() {
            return Vec::new();
        }
        self.grant()
    }

    /// Leaves the queue. Returns who has got their range because of it.
    pub(super) fn withdraw(&mut self, holder: Holder) -> Vec<Holder> {
        let place = self.waiting.iter().position(|(other, _)| *other == holder);
        self.waiting.remove(place.expect("it waits"));
        self.grant()
    }

    fn grant(&mut self) -> Vec<Holder> {
        let mut granted = Vec::new();
        for (holder, wanted) in core::mem::take(&mut self.waiting) {
            if self.acquire(holder, wanted) {
                granted.push(holder);
            }
        }
        granted
    }

    fn hold(&mut self, range: BlockRange) {
        match narrow(range) {
            Some(shelves) => shelves.for_each(|shelf| self.shelves[shelf].push(range)),
            None => self.wide.push(range),
        }
    }

    fn is_held(&self, range: BlockRange) -> bool {
        let taken = |shelf: &[BlockRange]| shelf.iter().any(|held| held.overlaps(range));
        let mut narrow_ones = match narrow(range) {
            Some(shelves) => shelves,
            None => Shelves {
                next: 0,
                left: SHELVES,
            },
        };
        narrow_ones.any(|shelf| taken(&self.shelves[shelf])) || taken(&self.wide)
    }
}

/// Shelves one behind the other.
struct Shelves {
    next: usize,
    left: usize,
}

impl Iterator for Shelves {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let shelf = self.next % SHELVES;
        self.next += 1;
        Some(shelf)
    }
}

/// The shelves that a range lies on, unless there are too many.
fn narrow(range: BlockRange) -> Option<Shelves> {
    let first = range.start.0 / SHELF_BLOCKS;
    let left = (range.end().0 - 1) / SHELF_BLOCKS - first + 1;
    (left <= NARROW_MAX).then_some(Shelves {
        next: first as usize % SHELVES,
        left: left as usize,
    })
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: not looking at those who wait, not looking left of the range, granting one of
    //! two overlapping waiters too early; a wide range not seen by a narrow one or the other way round, a shelf forgotten.
    use super::*;
    use proptest::prelude::*;

    fn modify(number: u64) -> Holder {
        Holder::Modify(Slot(number))
    }

    fn range(start: u64, length: u64) -> BlockRange {
        BlockRange::new(start, length)
    }

    #[test]
    fn overlapping_ranges_wait_in_order() {
        let mut locks = RangeLocks::default();
        assert!(locks.acquire(modify(1), range(0, 10)));
        assert!(!locks.acquire(modify(2), range(5, 10)));
        assert!(!locks.acquire(modify(3), range(12, 10)), "behind the second");
        assert!(locks.acquire(modify(4), range(30, 1)));
        assert_eq!(locks.release(range(0, 10)), [modify(2)]);
        assert_eq!(locks.release(range(5, 10)), [modify(3)]);
    }

    #[test]
    fn who_leaves_the_queue_lets_others_pass() {
        let mut locks = RangeLocks::default();
        assert!(locks.acquire(modify(1), range(0, 10)));
        assert!(!locks.acquire(modify(2), range(5, 10)));
        assert!(!locks.acquire(Holder::Step, range(12, 10)));
        assert_eq!(locks.withdraw(modify(2)), [Holder::Step]);
        assert_eq!(locks.release(range(0, 10)), []);
    }

    proptest! {
        /// Against an oracle that keeps everyone in one list: one may go when nobody before them overlaps.
        #[test]
        fn as_one_list_would(steps in proptest::collection::vec((any::<bool>(), 0u64..20, 1u64..6), 1..80), scale in 1u64..60) {
            let mut locks = RangeLocks::default();
            let mut list: Vec<(u64, BlockRange)> = Vec::new();
            let may_go = |list: &[(u64, BlockRange)], at: usize|
                !list[..at].iter().any(|(_, other)| other.overlaps(list[at].1));
            for (number, (release, start, length)) in steps.into_iter().enumerate() {
                // Small ranges side by side, and large ones over many shelves.
                let (start, length) = (start * scale, if number % 3 == 0 { length } else { length * scale });
                if release && !list.is_empty() {
                    let free: Vec<usize> = (0..list.len()).filter(|at| may_go(&list, *at)).collect();
                    let victim = free[start as usize / scale as usize % free.len()];
                    let before: Vec<u64> = free.iter().map(|at| list[*at].0).collect();
                    let (_, gone) = list.remove(victim);
                    let granted = locks.release(gone);
                    let after = (0..list.len()).filter(|at| may_go(&list, *at)).map(|at| list[at].0);
                    let newly: Vec<Holder> = after.filter(|n| !before.contains(n)).map(modify).collect();
                    prop_assert_eq!(granted, newly);
                } else {
                    list.push((number as u64, range(start, length)));
                    let granted = locks.acquire(modify(number as u64), range(start, length));
                    prop_assert_eq!(granted, may_go(&list, list.len() - 1));
                }
            }
        }
    }
}
