//! What is on the legs, read from their disks behind everybody's back: that an acknowledged write is on every leg of the recorded set
//! (R3), that a leg which enters the set has everything (R4), that legs are equal at rest (R11).
//!
//! Where a volume's extent lies is not asked of the pool, but found: the first time a write is acknowledged, its number is looked for
//! in every extent of a leg. It is the same place on all legs.

use super::load::EXTENT_BLOCKS;
use super::nodes::DISK_BYTES;
use super::words::value_of;
use super::{BLOCK, Broken, Fabric, Rule};
use crate::history::{Moment, Place};
use crate::keeper::KeptLeg;
use crate::world::NodeName;
use block::leg_format::LegGeometry;
use block::{Blocks, leg_metadata_blocks};
use cluster::LegId;
use disk_node::format::{self, Run};
use std::collections::BTreeMap;

/// Where things lie.
#[derive(Debug, Default)]
pub(super) struct Legs {
    /// Of each leg: its disk node, and where its extents begin on the disk, in bytes.
    places: BTreeMap<LegId, (NodeName, Vec<u64>)>,
    /// Of a volume's extents: which extent of the pool.
    mapped: BTreeMap<(u64, u64), u64>,
    /// Extents of volumes that were given back: only writes that began after this moment lie where the extent lies now.
    given_back: BTreeMap<(u64, u64), Moment>,
    /// Blocks that were looked at.
    pub(super) looked_at: u64,
}

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) volume: u64,
    pub(super) id: u64,
    pub(super) block: u64,
    pub(super) length: u64,
    pub(super) asked: Moment,
}

impl Legs {
    pub(super) fn forget_volume(&mut self, volume: u64) {
        self.mapped.retain(|(of, _), _| *of != volume);
        self.given_back.retain(|(of, _), _| *of != volume);
    }

    /// An extent is being given back, or was: where it lies is not known any more, before this moment.
    pub(super) fn unmap(&mut self, volume: u64, extent: u64, until: Moment) {
        self.mapped.remove(&(volume, extent));
        self.given_back.insert((volume, extent), until);
    }
}

/// How many extents of data a leg has.
fn data_extents(leg: &KeptLeg) -> u64 {
    let geometry = LegGeometry::for_length(Blocks(leg.length_blocks)).expect("it has data");
    geometry.data.length.0 / EXTENT_BLOCKS
}

impl Fabric {
    fn leg(&self, leg: LegId) -> (usize, KeptLeg) {
        let index = self.keeper.legs.iter().position(|kept| kept.leg == leg);
        let index = index.expect("one of ours");
        (index, self.keeper.legs[index].clone())
    }

    /// Reads blocks of a leg's data area.
    fn on_leg(&mut self, leg: LegId, data_block: u64, bytes: &mut [u8]) {
        let (index, kept) = self.leg(leg);
        let name = self.disk_nodes[index].0;
        if !self.legs.places.contains_key(&leg) {
            let starts = self.find_leg(name, &kept);
            self.legs.places.insert(leg, (name, starts));
        }
        let starts = &self.legs.places[&leg].1;
        let at = leg_metadata_blocks(Blocks(kept.length_blocks)).0 + data_block;
        let offset = starts[(at / EXTENT_BLOCKS) as usize] + at % EXTENT_BLOCKS * BLOCK as u64;
        self.world.disk(name, 0).read(offset, bytes);
    }

    /// Where a leg's extents begin on its disk, from the disk's own table.
    fn find_leg(&mut self, name: NodeName, kept: &KeptLeg) -> Vec<u64> {
        let extent = EXTENT_BLOCKS * BLOCK as u64;
        let extents = (DISK_BYTES - format::DATA_OFFSET) / extent;
        let slots = format::SLOT_OFFSETS.map(|offset| {
            let mut slot = vec![0; format::SLOT_BYTES as usize];
            self.world.disk(name, 0).read(offset, &mut slot);
            slot
        });
        let found = format::recover([&slots[0], &slots[1]], kept.disk, extents).expect("a disk of ours");
        let runs = &found.table.legs[&kept.leg].runs;
        let starts = |run: &Run| {
            (run.start..run.end())
                .map(|at| format::DATA_OFFSET + at * extent)
                .collect::<Vec<_>>()
        };
        runs.iter().flat_map(starts).collect()
    }

    /// The legs that must have every acknowledged write.
    fn obliged(&self) -> Vec<LegId> {
        let legs = self.keeper.in_sync.iter().copied();
        legs.filter(|leg| !self.is_excused(*leg)).collect()
    }

    /// R3: a write was acknowledged just now.
    pub(super) fn check_acknowledged(&mut self, write: &Acknowledged) -> Result<(), Broken> {
        let volume = write.volume;
        if write.length == EXTENT_BLOCKS {
            let extent = write.block / EXTENT_BLOCKS;
            let until = match self.load.gives_back(volume, extent) {
                true => Moment::MAX,
                false => self.history.moment(),
            };
            self.legs.unmap(volume, extent, until);
            return Ok(());
        }
        for leg in self.obliged() {
            for block in write.block..write.block + write.length {
                let place = Place { volume, block };
                self.find_extent(leg, place, write);
                self.check_place(leg, place, Rule::R3)?;
            }
        }
        Ok(())
    }

    /// R4: a leg enters the set.
    pub(super) fn check_entering(&mut self, leg: LegId) -> Result<(), Broken> {
        let known: Vec<Place> = self.history.places().collect();
        known
            .into_iter()
            .try_for_each(|place| self.check_place(leg, place, Rule::R4))
    }

    fn check_place(&mut self, leg: LegId, place: Place, rule: Rule) -> Result<(), Broken> {
        let extent = (place.volume, place.block / EXTENT_BLOCKS);
        let Some(at) = self.legs.mapped.get(&extent).copied() else {
            return Ok(());
        };
        if self.history.may_be_torn(place) {
            return Ok(());
        }
        self.legs.looked_at += 1;
        let mut bytes = [0; BLOCK];
        self.on_leg(leg, at * EXTENT_BLOCKS + place.block % EXTENT_BLOCKS, &mut bytes);
        let (index, _) = self.leg(leg);
        let fits = match value_of(&bytes) {
            Some(value) => self.history.on_leg(place, value),
            // A write that is under way may have got so far, where power was lost.
            None if self.history.has_lost_power() => Ok(()),
            None => Err(format!(
                "{place:?} is torn or foreign: it begins with {:x?}",
                &bytes[..8]
            )),
        };
        fits.map_err(|what| Broken::new(rule, format!("on the leg of disk{index}: {what}")))
    }

    /// Looks for a write's number where its block may lie.
    fn find_extent(&mut self, leg: LegId, place: Place, write: &Acknowledged) {
        let extent = (place.volume, place.block / EXTENT_BLOCKS);
        let given_back = self.legs.given_back.get(&extent);
        let moved = given_back.is_some_and(|until| *until >= write.asked);
        if moved || self.legs.mapped.contains_key(&extent) {
            return;
        }
        let (_, kept) = self.leg(leg);
        for at in 0..data_extents(&kept) {
            let mut bytes = [0; BLOCK];
            self.on_leg(leg, at * EXTENT_BLOCKS + place.block % EXTENT_BLOCKS, &mut bytes);
            if value_of(&bytes) == Some(write.id) {
                self.legs.mapped.insert(extent, at);
                return;
            }
        }
    }

    /// R11: legs in sync are equal where volumes lie.
    pub(super) fn check_equal(&mut self) -> Result<(), Broken> {
        let mapped: Vec<((u64, u64), u64)> = self.legs.mapped.iter().map(|(key, at)| (*key, *at)).collect();
        let legs: Vec<LegId> = self.keeper.in_sync.iter().copied().collect();
        let mut first = vec![0; EXTENT_BLOCKS as usize * BLOCK];
        let mut other = first.clone();
        for ((volume, extent), at) in mapped {
            self.on_leg(legs[0], at * EXTENT_BLOCKS, &mut first);
            for leg in &legs[1..] {
                self.on_leg(*leg, at * EXTENT_BLOCKS, &mut other);
                let differs = first
                    .chunks(BLOCK)
                    .zip(other.chunks(BLOCK))
                    .position(|(one, other)| one != other);
                if let Some(block) = differs {
                    let block = extent * EXTENT_BLOCKS + block as u64;
                    let what = format!(
                        "legs {:?} and {leg:?} differ at rest in block {block} of volume {volume}",
                        legs[0]
                    );
                    return Err(Broken::new(Rule::R11, what));
                }
            }
        }
        Ok(())
    }
}
