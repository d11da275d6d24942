//! When which pool wants to be woken, without asking all of them.
//!
//! An entry is never later than what the pool said last, but may be earlier: a time that moves away with every request is
//! not moved here until it has come.

use crate::pool::PoolKey;
use block::Time;
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    in_order: BTreeSet<(Time, PoolKey)>,
    /// By the place of a pool among pools.
    noted: Vec<Option<Time>>,
}

impl Timers {
    /// It wants to be woken then, if at all.
    #[inline]
    pub(crate) fn note(&mut self, key: PoolKey, due: Option<Time>) {
        let Some(due) = due else { return };
        let noted = self.noted.get(key.0.index()).copied().flatten();
        if noted.is_none_or(|noted| due < noted) {
            self.move_to(key, due);
        }
    }

    fn move_to(&mut self, key: PoolKey, due: Time) {
        self.forget(key);
        let place = key.0.index();
        if self.noted.len() <= place {
            self.noted.resize(place + 1, None);
        }
        self.noted[place] = Some(due);
        self.in_order.insert((due, key));
    }

    /// It is gone.
    pub(crate) fn forget(&mut self, key: PoolKey) {
        if let Some(due) = self.noted.get_mut(key.0.index()).and_then(Option::take) {
            self.in_order.remove(&(due, key));
        }
    }

    /// When somebody is to be woken.
    pub(crate) fn next(&self) -> Option<Time> {
        self.in_order.first().map(|(due, _)| *due)
    }

    /// Somebody who is to be woken now; to be noted again when it has been.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<PoolKey> {
        let (_, key) = *self.in_order.first().filter(|(due, _)| *due <= now)?;
        self.forget(key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: a later time that replaces an earlier one, an earlier one that is not taken, somebody who is
    //! woken twice, somebody gone who is woken.
    use super::*;
    use block::Slot;

    #[test]
    fn wakes_everybody_once_and_never_late() {
        let (at, pool) = (Time::from_millis, |place| PoolKey(Slot(place)));
        let mut timers = Timers::default();
        timers.note(pool(1), Some(at(30)));
        timers.note(pool(2), Some(at(20)));
        timers.note(pool(2), Some(at(25)));
        timers.note(pool(3), Some(at(40)));
        timers.note(pool(3), Some(at(10)));
        timers.note(pool(4), Some(at(5)));
        timers.note(pool(5), None);
        timers.forget(pool(4));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.take_due(at(9)), None);
        assert_eq!(timers.take_due(at(20)), Some(pool(3)));
        assert_eq!(timers.take_due(at(20)), Some(pool(2)));
        assert_eq!(timers.take_due(at(20)), None);
        assert_eq!(timers.take_due(at(99)), Some(pool(1)));
        assert_eq!(timers.next(), None);
    }
}
