//! One bit for each region of a group.

/// A fixed number of bits, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    length: usize,
    /// How many are set.
    count: usize,
}

impl Bits {
    pub(super) fn new(length: usize) -> Bits {
        Bits {
            words: vec![0; length.div_ceil(64)],
            length,
            count: 0,
        }
    }
    pub(super) fn len(&self) -> usize {
        self.length
    }
    pub(super) fn has(&self, bit: usize) -> bool {
        self.words[bit / 64] >> (bit % 64) & 1 != 0
    }
    #[inline]
    pub(super) fn set(&mut self, bit: usize) {
        assert!(bit < self.length, "bit {bit} of {}", self.length);
        let (word, bit) = (&mut self.words[bit / 64], 1 << (bit % 64));
        self.count += usize::from(*word & bit == 0);
        *word |= bit;
    }
    pub(super) fn clear(&mut self, bit: usize) {
        let (word, bit) = (&mut self.words[bit / 64], 1 << (bit % 64));
        self.count -= usize::from(*word & bit != 0);
        *word &= !bit;
    }
    pub(super) fn clear_all(&mut self) {
        self.words.fill(0);
        self.count = 0;
    }
    pub(super) fn set_range(&mut self, range: core::ops::Range<usize>) {
        for bit in range {
            self.set(bit);
        }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
    pub(super) fn count(&self) -> u64 {
        self.count as u64
    }
    fn recount(&mut self) {
        self.count = self.words.iter().map(|word| word.count_ones() as usize).sum();
    }
    pub(super) fn union_with(&mut self, other: &Bits) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        self.recount();
    }
    pub(super) fn remove(&mut self, other: &Bits) {
        for (word, less) in self.words.iter_mut().zip(&other.words) {
            *word &= !less;
        }
        self.recount();
    }
    pub(super) fn intersect_with(&mut self, other: &Bits) {
        for (word, keep) in self.words.iter_mut().zip(&other.words) {
            *word &= keep;
        }
        self.recount();
    }
    /// The first set bit at or behind `from`.
    pub(super) fn next_from(&self, from: usize) -> Option<usize> {
        if from >= self.length || self.is_empty() {
            return None;
        }
        let mut index = from / 64;
        let mut word = self.words[index] & (u64::MAX << (from % 64));
        loop {
            if word != 0 {
                return Some(index * 64 + word.trailing_zeros() as usize);
            }
            index += 1;
            word = *self.words.get(index)?;
        }
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let mut next = 0;
        core::iter::from_fn(move || {
            let bit = self.next_from(next)?;
            next = bit + 1;
            Some(bit)
        })
    }
    /// Bits `range`, packed into bytes, the first bit of the range being the lowest of the first byte.
    pub(super) fn to_bytes(&self, range: core::ops::Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len().div_ceil(8)];
        let mut next = range.start;
        while let Some(bit) = self.next_from(next).filter(|bit| *bit < range.end) {
            let offset = bit - range.start;
            bytes[offset / 8] |= 1 << (offset % 8);
            next = bit + 1;
        }
        bytes
    }
    /// Sets those of the bits `range` that are set in `bytes` (as [`Bits::to_bytes`] makes them).
    pub(super) fn union_with_bytes(&mut self, range: core::ops::Range<usize>, bytes: &[u8]) {
        for (offset, bit) in range.enumerate() {
            if bytes[offset / 8] >> (offset % 8) & 1 != 0 {
                self.set(bit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn bits_are_a_set(length in 1usize..300, picks in proptest::collection::vec((any::<bool>(), 0usize..300), 0..60)) {
            let (mut bits, mut oracle) = (Bits::new(length), BTreeSet::new());
            for (set, bit) in picks {
                let bit = bit % length;
                if set { bits.set(bit); oracle.insert(bit); } else { bits.clear(bit); oracle.remove(&bit); }
                prop_assert_eq!(bits.has(bit), set);
            }
            prop_assert_eq!(bits.iter().collect::<BTreeSet<_>>(), oracle.clone());
            prop_assert_eq!(bits.count(), oracle.len() as u64);
            prop_assert_eq!(bits.is_empty(), oracle.is_empty());
            let middle = length / 3..length;
            let mut copy = Bits::new(length);
            copy.union_with_bytes(middle.clone(), &bits.to_bytes(middle.clone()));
            prop_assert_eq!(copy.iter().collect::<Vec<_>>(), oracle.range(middle).copied().collect::<Vec<_>>());
        }
    }
}
