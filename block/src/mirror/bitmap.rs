//! The write-intent bitmap: which regions may differ between legs. A region's bit is durable on every leg that takes writes
//! before a write to the region is sent to any of them (R6), and goes only after the region has been quiet for a while
//! and everything in it has been flushed, with every leg of the group in the set.
//!
//! A bitmap block is written in *rounds*: the bits as they are in memory, to all legs at once, one round per block at a
//! time. Who sends, and to which legs, is the group's affair.

use super::bits::Bits;
use super::leg_set::LegSet;
use crate::leg_format::{BITS_PER_BITMAP_BLOCK, BitmapIdentity, LegGeometry, Uuid};
use crate::{BLOCK_SIZE, Blocks};
use core::ops::Range;

/// The bitmap of a group.
#[derive(Debug)]
pub(super) struct Bitmap {
    group: Uuid,
    region: Blocks,
    /// As it should be on the legs.
    set: Bits,
    /// Set, and on all of them.
    durable: Bits,
    /// Written to since the last [`Bitmap::begin_clear`].
    recent: Bits,
    /// Became clean, and were not marked again since.
    cleared: Bits,
    /// Since [`Bitmap::take_wear`] was last asked.
    wear: Wear,
    /// Writes in progress, by region.
    busy: Vec<u32>,
    blocks: Vec<Block>,
    /// The highest sequence in use anywhere.
    sequence: u64,
}

/// What clearing bits has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wear {
    /// Writes that have begun.
    pub(super) writes: u64,
    /// Regions that had to be marked once more.
    pub(super) marked_again: u64,
}

#[derive(Debug, Default)]
struct Block {
    wanted: bool,
    round: Option<Round>,
}

/// A bitmap block on its way to the legs.
#[derive(Debug)]
struct Round {
    sequence: u64,
    bits: Vec<u8>,
    pending: LegSet,
    written: LegSet,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoundEnd {
    pub(super) block: usize,
    pub(super) written: LegSet,
}

impl Bitmap {
    pub(super) fn new(group: Uuid, geometry: &LegGeometry) -> Bitmap {
        let regions = geometry.regions();
        let blocks = core::iter::repeat_with(Block::default);
        Bitmap {
            group,
            region: geometry.region,
            set: Bits::new(regions),
            durable: Bits::new(regions),
            recent: Bits::new(regions),
            cleared: Bits::new(regions),
            wear: Wear::default(),
            busy: vec![0; regions],
            blocks: blocks.take(geometry.bitmap_blocks()).collect(),
            sequence: 1,
        }
    }

    pub(super) fn identity(&self, index: usize) -> BitmapIdentity {
        BitmapIdentity {
            group: self.group,
            index,
            region: self.region,
        }
    }
    /// The regions of a bitmap block; the last block may have fewer.
    pub(super) fn regions_of(&self, block: usize) -> Range<usize> {
        let start = block * BITS_PER_BITMAP_BLOCK;
        start..self.set.len().min(start + BITS_PER_BITMAP_BLOCK)
    }
    pub(super) fn dirty(&self) -> &Bits {
        &self.set
    }

    /// What was found on a leg. Its bits join those in memory and have to be written everywhere.
    pub(super) fn merge(&mut self, found: &Bits, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
        self.set.union_with(found);
        self.want_missing();
    }
    /// Wants a round for each block that has bits which are not durable.
    pub(super) fn want_missing(&mut self) {
        let mut missing = self.set.clone();
        missing.remove(&self.durable);
        let mut next = 0;
        while let Some(region) = missing.next_from(next) {
            let block = region / BITS_PER_BITMAP_BLOCK;
            self.blocks[block].wanted = true;
            next = (block + 1) * BITS_PER_BITMAP_BLOCK;
        }
    }
    /// Wants a round for every block: a leg shall have all of it.
    pub(super) fn want_all(&mut self) {
        for block in &mut self.blocks {
            block.wanted = true;
        }
    }

    /// A write to these regions begins. Returns whether their bits are durable; if not, a round will make them so.
    pub(super) fn begin(&mut self, regions: Range<usize>) -> bool {
        for region in regions.clone() {
            self.busy[region] += 1;
            self.recent.set(region);
            if !self.set.has(region) {
                self.set.set(region);
                self.wear.marked_again += u64::from(self.cleared.has(region));
                self.cleared.clear(region);
            }
        }
        self.wear.writes += 1;
        self.is_durable(regions)
    }
    /// Whether the bits are durable. A round for those that are not is wanted, unless one is under way that has them.
    pub(super) fn is_durable(&mut self, regions: Range<usize>) -> bool {
        let mut durable = true;
        for region in regions {
            if self.durable.has(region) {
                continue;
            }
            durable = false;
            let block = &mut self.blocks[region / BITS_PER_BITMAP_BLOCK];
            let bit = region % BITS_PER_BITMAP_BLOCK;
            let under_way = block
                .round
                .as_ref()
                .is_some_and(|round| round.bits[bit / 8] >> (bit % 8) & 1 != 0);
            block.wanted |= !under_way;
        }
        durable
    }
    /// The write has ended.
    pub(super) fn end(&mut self, regions: Range<usize>) {
        for region in regions {
            self.busy[region] = self.busy[region].checked_sub(1).expect("began");
        }
    }

    /// The blocks for which a round should start now.
    pub(super) fn ready(&self) -> Vec<usize> {
        let ready = |block: &Block| block.wanted && block.round.is_none();
        (0..self.blocks.len())
            .filter(|index| ready(&self.blocks[*index]))
            .collect()
    }
    /// Whether nothing is wanted or under way.
    pub(super) fn is_settled(&self) -> bool {
        self.blocks
            .iter()
            .all(|block| !block.wanted && block.round.is_none())
    }
    /// Starts a round to these legs; `bytes` is filled with the block. Returns its sequence.
    pub(super) fn start_round(&mut self, index: usize, legs: LegSet, bytes: &mut [u8]) -> u64 {
        assert!(!legs.is_empty() && bytes.len() == BLOCK_SIZE as usize);
        let regions = self.regions_of(index);
        let bits = self.set.to_bytes(regions);
        self.sequence += 1;
        self.identity(index).write_to(self.sequence, &bits, bytes);
        let block = &mut self.blocks[index];
        assert!(block.round.is_none(), "one round of a block at a time");
        block.wanted = false;
        block.round = Some(Round {
            sequence: self.sequence,
            bits,
            pending: legs,
            written: LegSet::EMPTY,
        });
        self.sequence
    }
    /// A leg has written, or failed to write, its part of the round. Rounds that are over are returned by
    /// [`Bitmap::take_ended`].
    pub(super) fn round_answered(&mut self, index: usize, sequence: u64, leg: usize, written: bool) -> bool {
        let Some(round) = self.blocks[index]
            .round
            .as_mut()
            .filter(|round| round.sequence == sequence)
        else {
            return false;
        };
        if !round.pending.has(leg) {
            return false;
        }
        round.pending.remove(leg);
        if written {
            round.written.insert(leg);
        }
        written
    }
    /// The leg takes part in no round any more.
    pub(super) fn drop_leg(&mut self, leg: usize) {
        for round in self.blocks.iter_mut().filter_map(|block| block.round.as_mut()) {
            round.pending.remove(leg);
        }
    }
    /// A round with nothing pending, if there is one. `needed`: its bits are durable if they are on all of these.
    pub(super) fn take_ended(&mut self, needed: LegSet) -> Option<RoundEnd> {
        let ended = |block: &Block| block.round.as_ref().is_some_and(|round| round.pending.is_empty());
        let index = self.blocks.iter().position(ended)?;
        let round = self.blocks[index].round.take().expect("just found");
        if round.written.contains(needed) && !round.written.is_empty() {
            let mut now_durable = Bits::new(self.set.len());
            now_durable.union_with_bytes(self.regions_of(index), &round.bits);
            now_durable.intersect_with(&self.set);
            self.durable.union_with(&now_durable);
        } else {
            self.blocks[index].wanted = true;
        }
        Some(RoundEnd {
            block: index,
            written: round.written,
        })
    }
    /// What clearing has cost since this was last asked.
    pub(super) fn take_wear(&mut self) -> Wear {
        core::mem::take(&mut self.wear)
    }
    /// The regions that may become clean once everything is flushed: those that are set, not being written to, and not
    /// to be kept; if `quiet`, also not written to since this was last asked.
    pub(super) fn begin_clear(&mut self, keep: &Bits, quiet: bool) -> Bits {
        let mut candidates = self.idle(keep);
        if quiet {
            candidates.remove(&self.recent);
        }
        self.recent.clear_all();
        candidates
    }
    /// The flush that began with [`Bitmap::begin_clear`] is done: those of its regions become clean that have not been
    /// written to since.
    pub(super) fn clear(&mut self, candidates: &Bits, keep: &Bits) {
        let mut clean = self.idle(keep);
        clean.intersect_with(candidates);
        clean.remove(&self.recent);
        self.set.remove(&clean);
        self.cleared.union_with(&clean);
        self.durable.remove(&clean);
        for region in clean.iter() {
            self.blocks[region / BITS_PER_BITMAP_BLOCK].wanted = true;
        }
    }
    fn idle(&self, keep: &Bits) -> Bits {
        let mut idle = self.set.clone();
        idle.remove(keep);
        for region in self.set.iter().filter(|region| self.busy[*region] > 0) {
            idle.clear(region);
        }
        idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap() -> Bitmap {
        let geometry = LegGeometry::for_length(Blocks(4096)).expect("long enough");
        Bitmap::new([7; 16], &geometry)
    }

    fn round(bitmap: &mut Bitmap, legs: LegSet) -> u64 {
        assert_eq!(bitmap.ready(), [0]);
        bitmap.start_round(0, legs, &mut vec![0; 4096])
    }

    #[test]
    fn a_bit_is_durable_once_every_needed_leg_has_it() {
        let (mut bitmap, both) = (bitmap(), LegSet::from_iter([0, 1]));
        assert!(!bitmap.begin(2..3));
        let sequence = round(&mut bitmap, both);
        assert!(!bitmap.begin(3..4), "came too late for the round");
        assert!(bitmap.round_answered(0, sequence, 0, true));
        assert_eq!(bitmap.take_ended(both), None);
        assert!(!bitmap.is_durable(2..3));
        assert!(bitmap.round_answered(0, sequence, 1, true));
        assert!(!bitmap.round_answered(0, sequence, 1, true), "only once");
        assert_eq!(
            bitmap.take_ended(both),
            Some(RoundEnd {
                block: 0,
                written: both
            })
        );
        assert!(bitmap.is_durable(2..3));
        assert!(!bitmap.is_durable(2..4));
        assert_eq!(bitmap.ready(), [0], "the later bit needs a round of its own");
    }

    #[test]
    fn a_round_that_a_needed_leg_missed_is_wanted_again() {
        let (mut bitmap, both) = (bitmap(), LegSet::from_iter([0, 1]));
        bitmap.begin(2..3);
        let sequence = round(&mut bitmap, both);
        bitmap.round_answered(0, sequence, 0, true);
        bitmap.drop_leg(1);
        bitmap.take_ended(LegSet::one(1)).expect("nothing is pending");
        assert!(!bitmap.is_durable(2..3));
        let sequence = round(&mut bitmap, LegSet::one(1));
        bitmap.round_answered(0, sequence, 1, true);
        bitmap.take_ended(LegSet::one(1)).expect("nothing is pending");
        assert!(bitmap.is_durable(2..3));
    }

    #[test]
    fn only_quiet_idle_flushed_regions_become_clean() {
        let (mut bitmap, one, mut keep) = (bitmap(), LegSet::one(0), Bits::new(16));
        keep.set(4);
        bitmap.begin(0..5);
        let sequence = round(&mut bitmap, one);
        bitmap.round_answered(0, sequence, 0, true);
        bitmap.take_ended(one);
        bitmap.end(1..5);
        assert!(
            bitmap.begin_clear(&keep, true).is_empty(),
            "all were just written to"
        );
        bitmap.begin(2..3);
        bitmap.end(2..3);
        let candidates = bitmap.begin_clear(&keep, true);
        assert_eq!(
            candidates.iter().collect::<Vec<_>>(),
            [1, 3],
            "0 is busy, 2 is recent, 4 is kept"
        );
        bitmap.begin(3..4);
        bitmap.end(3..4);
        bitmap.clear(&candidates, &keep);
        assert_eq!(
            bitmap.dirty().iter().collect::<Vec<_>>(),
            [0, 2, 3, 4],
            "3 was written during the flush"
        );
        assert!(!bitmap.begin(1..2), "its bit must be written again");
    }

    #[test]
    fn only_what_was_cleared_before_is_marked_again() {
        let (mut bitmap, one, keep) = (bitmap(), LegSet::one(0), Bits::new(16));
        let mark = |bitmap: &mut Bitmap, regions: Range<usize>| {
            bitmap.begin(regions.clone());
            let sequence = round(bitmap, one);
            bitmap.round_answered(0, sequence, 0, true);
            bitmap.take_ended(one);
            bitmap.end(regions);
            bitmap.take_wear()
        };
        let wear = |writes, marked_again| Wear { writes, marked_again };
        assert_eq!(mark(&mut bitmap, 0..3), wear(1, 0));
        let all = bitmap.begin_clear(&keep, false);
        bitmap.clear(&all, &keep);
        assert_eq!(mark(&mut bitmap, 2..5), wear(1, 1));
        bitmap.begin(3..4);
        bitmap.end(3..4);
        assert_eq!(bitmap.take_wear(), wear(1, 0));
    }
}
