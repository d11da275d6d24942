//! The lines before one disk: what waits, how many are under way, who may start next.
//!
//! Invariants: never more under way than the depth, and of those never more long ones than [`LONG_MAX`]; each line is first
//! come, first served; neither starves the other.

use crate::commit::Commit;
use crate::disk_pace::{Kind, Pace};
use block::Time;
use std::collections::VecDeque;

/// Zeroing and discards under way at a disk at a time.
pub(crate) const LONG_MAX: u32 = 4;

/// The lines of one disk. Requests are named by their slots.
pub(crate) struct Queue {
    depth: u32,
    under_way: u32,
    /// The places of long ones that are free, as bits.
    long_free: u8,
    long_last: bool,
    waiting: VecDeque<usize>,
    waiting_long: VecDeque<usize>,
    pub(crate) commit: Commit,
    pub(crate) pace: Pace,
    /// When the oldest transfer, and the oldest of everything else, began; only while looking.
    oldest: [Option<Time>; 2],
}

const LONG_FREE_ALL: u8 = (1 << LONG_MAX) - 1;

impl Queue {
    pub(crate) fn new(depth: u32) -> Queue {
        Queue {
            depth,
            under_way: 0,
            long_free: LONG_FREE_ALL,
            long_last: false,
            waiting: VecDeque::new(),
            waiting_long: VecDeque::new(),
            commit: Commit::default(),
            pace: Pace::default(),
            oldest: [None, None],
        }
    }

    pub(crate) fn under_way(&self) -> u32 {
        self.under_way
    }

    pub(crate) fn waiting(&self) -> u64 {
        (self.waiting.len() + self.waiting_long.len()) as u64
    }

    pub(crate) fn push(&mut self, slot: usize, long: bool) {
        match long {
            true => self.waiting_long.push_back(slot),
            false => self.waiting.push_back(slot),
        }
    }

    /// Who starts now, if there is room; a long one with its place. It is under way from here on.
    pub(crate) fn start(&mut self) -> Option<(usize, Option<u8>)> {
        if self.under_way >= self.depth {
            return None;
        }
        // One long request gets by, however many others there are; more only where nobody else wants to; and no two in a row.
        let long_first = self.long_free == LONG_FREE_ALL && !self.long_last;
        let started = match long_first.then(|| self.start_long()).flatten() {
            Some(started) => Some(started),
            None => match self.waiting.pop_front() {
                Some(slot) => Some((slot, None)),
                None => self.start_long(),
            },
        };
        if let Some((_, long)) = started {
            self.under_way += 1;
            self.long_last = long.is_some();
        }
        started
    }

    fn start_long(&mut self) -> Option<(usize, Option<u8>)> {
        if self.long_free == 0 {
            return None;
        }
        let slot = self.waiting_long.pop_front()?;
        let place = self.long_free.trailing_zeros() as u8;
        self.long_free &= !(1 << place);
        Some((slot, Some(place)))
    }

    /// One that was under way is over; `long` is its place, if it had one.
    pub(crate) fn ended(&mut self, long: Option<u8>) {
        assert!(self.under_way > 0, "what ends has started");
        self.under_way -= 1;
        if let Some(place) = long {
            assert!(self.long_free & 1 << place == 0, "its place was taken");
            self.long_free |= 1 << place;
        }
    }

    /// Forgets all that is not at the kernel, into `forgotten`: what waits, and who waits for a sync that has not begun.
    pub(crate) fn forget_waiting(&mut self, forgotten: &mut Vec<usize>) {
        forgotten.extend(self.waiting.drain(..));
        forgotten.extend(self.waiting_long.drain(..));
        let before = forgotten.len();
        self.commit.forget_gathering(forgotten);
        self.under_way -= (forgotten.len() - before) as u32;
    }

    pub(crate) fn note_oldest(&mut self, kind: Kind, begun: Time) {
        let oldest = &mut self.oldest[usize::from(kind == Kind::Long)];
        *oldest = Some(oldest.map_or(begun, |oldest| oldest.min(begun)));
    }

    /// Judges by what has been noted since the last look.
    pub(crate) fn look(&mut self, now: Time) {
        let [transfer, long] = std::mem::take(&mut self.oldest);
        self.pace.look(now, transfer, long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(queue: &mut Queue) -> Vec<(usize, Option<u8>)> {
        std::iter::from_fn(|| queue.start()).collect()
    }

    #[test]
    fn never_more_than_the_depth() {
        let mut queue = Queue::new(3);
        (0..5).for_each(|slot| queue.push(slot, false));
        assert_eq!(started(&mut queue), [(0, None), (1, None), (2, None)]);
        assert_eq!((queue.under_way(), queue.waiting()), (3, 2));
        queue.ended(None);
        assert_eq!(started(&mut queue), [(3, None)]);
    }

    #[test]
    fn few_long_ones_and_others_pass_them() {
        let mut queue = Queue::new(10);
        (0..6).for_each(|slot| queue.push(slot, true));
        queue.push(6, false);
        let places: Vec<_> = [(0, 0), (6, 9), (1, 1), (2, 2), (3, 3)]
            .map(|(slot, place)| (slot, (place < 9).then_some(place)))
            .to_vec();
        assert_eq!(started(&mut queue), places);
        queue.push(7, false);
        assert_eq!(started(&mut queue), [(7, None)], "not behind those that wait");
        queue.ended(Some(2));
        assert_eq!(started(&mut queue), [(4, Some(2))], "its place is free again");
    }

    #[test]
    fn neither_line_starves_the_other() {
        let mut queue = Queue::new(1);
        queue.push(0, false);
        assert_eq!(started(&mut queue), [(0, None)]);
        queue.push(1, true);
        queue.push(2, false);
        queue.push(3, true);
        queue.ended(None);
        assert_eq!(started(&mut queue), [(1, Some(0))], "one long one gets by");
        queue.ended(Some(0));
        assert_eq!(started(&mut queue), [(2, None)], "and then not another");
        queue.ended(None);
        assert_eq!(started(&mut queue), [(3, Some(0))]);
    }

    #[test]
    fn at_the_end_only_the_kernel_is_waited_for() {
        let mut queue = Queue::new(3);
        (0..5).for_each(|slot| queue.push(slot, slot == 4));
        started(&mut queue);
        queue.commit.join(1).unwrap();
        let mut forgotten = Vec::new();
        queue.forget_waiting(&mut forgotten);
        forgotten.sort_unstable();
        assert_eq!(
            forgotten.len(),
            3,
            "two that wait, one whose sync has not begun: {forgotten:?}"
        );
        assert_eq!((queue.under_way(), queue.waiting()), (2, 0));
    }
}
