//! Life after a power cut: everything is started anew over what the disks kept, and must be as promised.

use super::image::Media;
use super::scene::{Record, Scene};
use super::stage::{DISK_BYTES, DISK_EXTENT_BYTES, POOL_EXTENT, Stage, disk_name, leg_name};
use crate::world::{NodeName, Random};
use disk_node::format::{self, DATA_OFFSET, SLOT_BYTES, SLOT_OFFSETS};
use std::collections::BTreeMap;

/// The first block of a leg that all legs of a group have in common.
const COMMON_FROM: u64 = 128;
const BLOCK: u64 = 4096;

/// What life after the cut is asked to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Decides how it goes.
    pub seed: u64,
    /// Blocks of data may be torn at sectors.
    pub torn_data: bool,
    /// So many extents are given to a volume that comes now, and must be zero.
    pub reuse: u64,
}

/// Starts everything and checks it.
///
/// # Errors
/// The first rule that does not hold.
pub fn recover(scene: Scene, demand: Demand) -> Result<Record, String> {
    check_keys(&scene)?;
    let mut random = Random::new(demand.seed);
    let owner = random.below(2) as usize;
    let mut stage = Stage::begin(scene, demand.seed, 1, owner);
    stage.host.torn_data = demand.torn_data;
    stage.served()?;
    stage.settled_volumes()?;
    let ranges = ranges(&stage);
    read(&mut stage, &ranges)?;
    live_on(&mut stage, &ranges, &mut random)?;
    check_clean(&mut stage, demand.reuse)?;
    flush(&mut stage)?;
    stage.whole()?;
    // Reads go round the legs.
    read(&mut stage, &ranges)?;
    let found = stage.host.found().clone();
    read(&mut stage, &ranges)?;
    if *stage.host.found() != found {
        return Err("R6: two reads of the same blocks differ though all legs are equal".to_owned());
    }
    check_equal(&mut stage)?;
    stage.host.rest();
    Ok(stage.host.end())
}

/// What to read: every block that was written, and its neighbours.
fn ranges(stage: &Stage) -> Vec<(u128, u64, u64)> {
    let sizes: BTreeMap<u128, u64> = stage.volumes().into_iter().collect();
    let mut ranges: Vec<(u128, u64, u64)> = Vec::new();
    for (volume, block) in stage.host.promises().blocks() {
        let Some(size) = sizes.get(&volume) else { continue };
        let (start, end) = (block.saturating_sub(1), (block + 2).min(*size));
        match ranges.last_mut() {
            Some((of, _, last)) if *of == volume && *last >= start => *last = end.max(*last),
            _ => ranges.push((volume, start, end)),
        }
    }
    ranges
}

fn read(stage: &mut Stage, ranges: &[(u128, u64, u64)]) -> Result<(), String> {
    for (volume, start, end) in ranges {
        stage.host.read(*volume, *start, end - start);
    }
    stage.wait()
}

/// A few writes and reads more.
fn live_on(stage: &mut Stage, ranges: &[(u128, u64, u64)], random: &mut Random) -> Result<(), String> {
    for (volume, size) in stage.volumes() {
        let of_volume: Vec<&(u128, u64, u64)> = ranges.iter().filter(|range| range.0 == volume).collect();
        let start = match of_volume.get(random.below(of_volume.len().max(1) as u64) as usize) {
            Some((_, start, _)) => *start,
            None => 0,
        };
        stage.host.write(volume, start, 1, random.one_in(2));
        stage.host.write(volume, random.below(size), 1, false);
        stage.wait()?;
        stage.host.read(volume, start, 1);
    }
    stage.wait()
}

/// R10: whatever space a new volume is given, nothing of an older one is in it.
fn check_clean(stage: &mut Stage, extents: u64) -> Result<(), String> {
    // What was written a moment ago may not have been told yet.
    let extents = extents.min(stage.extents_free().saturating_sub(4));
    if extents == 0 {
        return Ok(());
    }
    let volume = stage.add_volume(extents * POOL_EXTENT)?;
    for extent in 0..extents {
        stage.host.write(volume, extent * POOL_EXTENT + 7, 1, false);
    }
    stage.wait()?;
    stage.host.read(volume, 0, extents * POOL_EXTENT);
    stage.wait()
}

fn flush(stage: &mut Stage) -> Result<(), String> {
    for (volume, _) in stage.volumes() {
        stage.host.flush(volume);
    }
    stage.wait()
}

/// At rest, all legs are equal behind what is each one's own.
fn check_equal(stage: &mut Stage) -> Result<(), String> {
    let mut differs = None;
    for _ in 0..20 {
        differs = first_difference(stage);
        if differs.is_none() {
            return Ok(());
        }
        // The pool may be cleaning.
        stage.pass_ms(10)?;
    }
    let at = differs.expect("looked at just now");
    let place = super::names::place(at, false).words;
    Err(format!("R6/R11: all legs are in sync and they differ at {place}"))
}

fn first_difference(stage: &mut Stage) -> Option<u64> {
    let range = DATA_OFFSET + COMMON_FROM * BLOCK..DATA_OFFSET + stage.leg_bytes();
    let legs = stage.legs();
    let world = &mut stage.host.world;
    // What is only in its cache now is compared, too; nothing is lost any more in this life.
    let mut settled = |leg: usize| {
        let mut disk = world.disk(NodeName(leg), 0).clone();
        disk.flush();
        disk
    };
    let first = settled(0);
    for other in (1..legs).map(&mut settled) {
        let (one, two): (BTreeMap<_, _>, BTreeMap<_, _>) = (
            first.media(range.clone()).collect(),
            other.media(range.clone()).collect(),
        );
        let mut all = one.keys().chain(two.keys());
        let differs = all.find(|at| one.get(at) != two.get(at));
        if differs.is_some() {
            return differs.copied();
        }
    }
    None
}

/// R2: no leg knows a lower key than one it has answered for.
fn check_keys(scene: &Scene) -> Result<(), String> {
    for (leg, key) in &scene.keys {
        let known = durable_key(scene.disks[*leg].media(), *leg)?;
        if known < *key {
            return Err(format!(
                "R2: leg {leg} answered under key {key} and knows only {known}"
            ));
        }
    }
    Ok(())
}

fn durable_key(media: &Media, leg: usize) -> Result<u64, String> {
    let slots = SLOT_OFFSETS.map(|offset| media.read(offset, u64::from(SLOT_BYTES)));
    let extents = (DISK_BYTES - DATA_OFFSET) / DISK_EXTENT_BYTES;
    let recovered = format::recover([&slots[0], &slots[1]], disk_name(leg), extents)
        .map_err(|bad| format!("R12: no slot of the extent table of disk {leg} can be believed: {bad:?}"))?;
    let record = recovered.table.legs.get(&leg_name(leg));
    Ok(record.map_or(0, |record| record.reservation.highest_key))
}
