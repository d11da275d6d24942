//! Which request comes next: where, and whether it reads.
//!
//! Not here: when, and what became of it.

use super::arguments::{Mix, Pattern};

/// Requests of one length over one part of a namespace.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pattern: Pattern,
    mix: Mix,
    /// The first block of the part.
    first: u64,
    /// Blocks of a request.
    blocks: u64,
    /// How many requests lie side by side in the part.
    places: u64,
    next: u64,
    state: u64,
}

impl Plan {
    /// For the `count` blocks from `first` on, in requests of `blocks` blocks.
    pub(super) fn new(pattern: Pattern, mix: Mix, first: u64, count: u64, blocks: u64, seed: u64) -> Plan {
        Plan {
            pattern,
            mix,
            first,
            blocks,
            places: count / blocks,
            next: 0,
            state: seed,
        }
    }

    /// How many requests lie side by side.
    pub(super) fn places(&self) -> u64 {
        self.places
    }

    /// The first block of a next request.
    pub(super) fn place(&mut self) -> u64 {
        let place = match self.pattern {
            Pattern::Random => self.below(self.places),
            Pattern::Sequential => {
                let place = self.next;
                self.next = if place + 1 == self.places { 0 } else { place + 1 };
                place
            }
        };
        self.first + place * self.blocks
    }

    /// Whether a next request reads.
    pub(super) fn reads(&mut self) -> bool {
        match self.mix.reads {
            100 => true,
            0 => false,
            reads => self.below(100) < u64::from(reads),
        }
    }

    /// Any number below `limit`: splitmix64, cut by multiplication.
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * u128::from(limit)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(pattern: Pattern, reads: u8) -> Plan {
        Plan::new(pattern, Mix { reads }, 1000, 99, 8, 3)
    }

    #[test]
    fn sequential_goes_around() {
        let mut plan = plan(Pattern::Sequential, 0);
        assert_eq!(plan.places(), 12);
        let places: Vec<u64> = (0..13).map(|_| plan.place()).collect();
        assert_eq!(places[..3], [1000, 1008, 1016]);
        assert_eq!(places[11..], [1088, 1000]);
        assert!(!plan.reads());
    }

    #[test]
    fn random_reaches_every_place_and_no_other() {
        let mut plan = plan(Pattern::Random, 30);
        let mut seen = [0; 12];
        let mut reads = 0;
        for _ in 0..12_000 {
            let place = plan.place();
            assert!((1000..=1088).contains(&place) && (place - 1000).is_multiple_of(8));
            seen[((place - 1000) / 8) as usize] += 1;
            reads += u32::from(plan.reads());
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert!((3300..3900).contains(&reads), "{reads}");
    }
}
