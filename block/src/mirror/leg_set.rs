//! A set of the legs of one group, by their place in the configuration.

use super::LEGS_MAX;

/// A few legs of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LegSet(u8);

impl LegSet {
    pub(super) const EMPTY: LegSet = LegSet(0);

    pub(super) fn one(leg: usize) -> LegSet {
        assert!(leg < LEGS_MAX, "leg {leg} of a group");
        LegSet(1 << leg)
    }
    pub(super) fn has(self, leg: usize) -> bool {
        self.0 & LegSet::one(leg).0 != 0
    }
    pub(super) fn insert(&mut self, leg: usize) {
        self.0 |= LegSet::one(leg).0;
    }
    pub(super) fn remove(&mut self, leg: usize) {
        self.0 &= !LegSet::one(leg).0;
    }
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }
    pub(super) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }
    pub(super) fn union(self, other: LegSet) -> LegSet {
        LegSet(self.0 | other.0)
    }
    pub(super) fn intersection(self, other: LegSet) -> LegSet {
        LegSet(self.0 & other.0)
    }
    pub(super) fn without(self, other: LegSet) -> LegSet {
        LegSet(self.0 & !other.0)
    }
    pub(super) fn contains(self, other: LegSet) -> bool {
        other.without(self).is_empty()
    }
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self;
        core::iter::from_fn(move || {
            let leg = left.first()?;
            left.0 &= left.0 - 1;
            Some(leg)
        })
    }
}

impl FromIterator<usize> for LegSet {
    fn from_iter<I: IntoIterator<Item = usize>>(legs: I) -> LegSet {
        let mut set = LegSet::EMPTY;
        for leg in legs {
            set.insert(leg);
        }
        set
    }
}
