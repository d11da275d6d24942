//! A set of extents: one bit each, counted, with a quick way to the first.

use super::record::Extent;

/// Extents below a fixed limit.
#[derive(Debug)]
pub(super) struct ExtentSet {
    words: Vec<u64>,
    count: u32,
    /// No word before this one has a bit set.
    hint: usize,
}

impl ExtentSet {
    pub(super) fn empty(limit: u32) -> ExtentSet {
        ExtentSet {
            words: vec![0; limit.div_ceil(64) as usize],
            count: 0,
            hint: 0,
        }
    }

    pub(super) fn full(limit: u32) -> ExtentSet {
        let mut set = ExtentSet::empty(limit);
        set.words.fill(u64::MAX);
        if !limit.is_multiple_of(64) {
            *set.words
                .last_mut()
                .expect("a limit that is no multiple of 64 is not 0") = (1 << (limit % 64)) - 1;
        }
        set.count = limit;
        set
    }

    pub(super) fn len(&self) -> u32 {
        self.count
    }

    pub(super) fn contains(&self, extent: Extent) -> bool {
        self.words
            .get(word(extent))
            .is_some_and(|word| word & bit(extent) != 0)
    }

    /// False if it was there already.
    pub(super) fn insert(&mut self, extent: Extent) -> bool {
        let added = !self.contains(extent);
        self.words[word(extent)] |= bit(extent);
        self.count += u32::from(added);
        self.hint = self.hint.min(word(extent));
        added
    }

    /// False if it was not there.
    pub(super) fn remove(&mut self, extent: Extent) -> bool {
        let removed = self.contains(extent);
        if removed {
            self.words[word(extent)] &= !bit(extent);
            self.count -= 1;
        }
        removed
    }

    /// Takes the first one out.
    pub(super) fn take_first(&mut self) -> Option<Extent> {
        while self.hint < self.words.len() {
            let found = self.words[self.hint];
            if found != 0 {
                let extent = Extent(self.hint as u32 * 64 + found.trailing_zeros());
                self.remove(extent);
                return Some(extent);
            }
            self.hint += 1;
        }
        None
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Extent> + '_ {
        let words = self.words.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(index, &word)| {
            let bits = (0..64u32).filter(move |shift| word >> shift & 1 == 1);
            bits.map(move |shift| Extent(index as u32 * 64 + shift))
        })
    }
}

fn word(extent: Extent) -> usize {
    extent.0 as usize / 64
}

fn bit(extent: Extent) -> u64 {
    1 << (extent.0 % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_tree_set(limit in 1u32..200, steps in prop::collection::vec((0u8..3, 0u32..200), 0..200)) {
            let mut set = ExtentSet::full(limit);
            let mut oracle: BTreeSet<u32> = (0..limit).collect();
            for (step, number) in steps {
                let number = number % limit;
                match step {
                    0 => prop_assert_eq!(set.insert(Extent(number)), oracle.insert(number)),
                    1 => prop_assert_eq!(set.remove(Extent(number)), oracle.remove(&number)),
                    _ => prop_assert_eq!(set.take_first().map(|extent| extent.0), oracle.pop_first()),
                }
                prop_assert_eq!(set.len() as usize, oracle.len());
                prop_assert!(set.iter().map(|extent| extent.0).eq(oracle.iter().copied()));
                prop_assert_eq!(set.contains(Extent(number)), oracle.contains(&number));
            }
        }
    }
}
