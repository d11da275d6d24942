//! Who may write where: overlapping writes go one after the other, in the order they asked (R11).
//!
//! Reads take no lock: a read beside a write may see either.

use crate::BlockRange;
use std::collections::{BTreeMap, VecDeque};

/// Who asked for a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A write from above, by its number.
    Modify(u64),
    /// The step of resync.
    Step,
}

/// The ranges that are taken, and those who wait for one.
#[derive(Debug, Default)]
pub(super) struct RangeLocks {
    /// Taken ranges, by start: start → end. They do not overlap.
    held: BTreeMap<u64, u64>,
    waiting: VecDeque<(Holder, BlockRange)>,
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
        let end = self.held.remove(&range.start.0);
        assert_eq!(end, Some(range.end().0), "{range:?} was held");
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
        self.held.insert(range.start.0, range.end().0);
    }

    fn is_held(&self, range: BlockRange) -> bool {
        let before = self.held.range(..range.end().0).next_back();
        before.is_some_and(|(_, end)| *end > range.start.0)
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: not looking at those who wait, not looking left of the range, granting one of
    //! two overlapping waiters too early.
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, length: u64) -> BlockRange {
        BlockRange::new(start, length)
    }

    #[test]
    fn overlapping_ranges_wait_in_order() {
        let mut locks = RangeLocks::default();
        assert!(locks.acquire(Holder::Modify(1), range(0, 10)));
        assert!(!locks.acquire(Holder::Modify(2), range(5, 10)));
        assert!(
            !locks.acquire(Holder::Modify(3), range(12, 10)),
            "behind the second"
        );
        assert!(locks.acquire(Holder::Modify(4), range(30, 1)));
        assert_eq!(locks.release(range(0, 10)), [Holder::Modify(2)]);
        assert_eq!(locks.release(range(5, 10)), [Holder::Modify(3)]);
    }

    #[test]
    fn who_leaves_the_queue_lets_others_pass() {
        let mut locks = RangeLocks::default();
        assert!(locks.acquire(Holder::Modify(1), range(0, 10)));
        assert!(!locks.acquire(Holder::Modify(2), range(5, 10)));
        assert!(!locks.acquire(Holder::Step, range(12, 10)));
        assert_eq!(locks.withdraw(Holder::Modify(2)), [Holder::Step]);
        assert_eq!(locks.release(range(0, 10)), []);
    }

    proptest! {
        /// Against an oracle that keeps everyone in one list: one may go when nobody before them overlaps.
        #[test]
        fn as_one_list_would(steps in proptest::collection::vec((any::<bool>(), 0u64..20, 1u64..6), 1..80)) {
            let mut locks = RangeLocks::default();
            let mut list: Vec<(u64, BlockRange)> = Vec::new();
            let may_go = |list: &[(u64, BlockRange)], at: usize|
                !list[..at].iter().any(|(_, other)| other.overlaps(list[at].1));
            for (number, (release, start, length)) in steps.into_iter().enumerate() {
                if release && !list.is_empty() {
                    let free: Vec<usize> = (0..list.len()).filter(|at| may_go(&list, *at)).collect();
                    let victim = free[start as usize % free.len()];
                    let before: Vec<u64> = free.iter().map(|at| list[*at].0).collect();
                    let (_, gone) = list.remove(victim);
                    let granted = locks.release(gone);
                    let after = (0..list.len()).filter(|at| may_go(&list, *at)).map(|at| list[at].0);
                    let newly: Vec<Holder> = after.filter(|n| !before.contains(n)).map(Holder::Modify).collect();
                    prop_assert_eq!(granted, newly);
                } else {
                    list.push((number as u64, range(start, length)));
                    let granted = locks.acquire(Holder::Modify(number as u64), range(start, length));
                    prop_assert_eq!(granted, may_go(&list, list.len() - 1));
                }
            }
        }
    }
}
