//! Where things go: legs of a new group on disks, a pool on controller nodes.
//!
//! Not here: moving what is placed. Nothing is random: the same input gives the same places, so that two workers that
//! plan the same pool want the same.

use crate::layout::leg_metadata_blocks;
use crate::size::size_text;
use crate::view::{ControllerNodeView, DiskNodeView};
use crate::{ControllerNodeId, DiskId, DiskNodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a block, everywhere.
pub const BLOCK_BYTES: u64 = 4096;
/// The longest leg that is ever planned, in blocks (8 EiB): keeps all arithmetic far from its limits.
const LEG_BLOCKS_MAX: u64 = 1 << 51;

/// Why there is no place, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Not enough disk nodes with enough free space.
    #[error("needs {wanted} disk node(s) with {extents} free extents of {extent} on one disk, found {found}{others}",
        extent = size_text(*extent_bytes), others = listed(others))]
    TooFewDiskNodes {
        /// One per leg.
        wanted: usize,
        /// On one disk of each.
        extents: u64,
        /// The disks' extent.
        extent_bytes: u64,
        /// How many would do.
        found: usize,
        /// Why the others would not.
        others: Vec<String>,
    },
    /// No disk node has a disk at all.
    #[error("needs {wanted} disk node(s) with a usable disk, found 0{others}", others = listed(others))]
    NoDisks {
        /// One per leg.
        wanted: usize,
        /// Why those there are would not do.
        others: Vec<String>,
    },
    /// Not enough controller nodes.
    #[error("needs {wanted} controller node(s) that answer and are not cordoned, found {found}{others}",
        others = listed(others))]
    TooFewControllerNodes {
        /// As many as the pool shall have more.
        wanted: usize,
        /// How many would do.
        found: usize,
        /// Why the others would not.
        others: Vec<String>,
    },
    /// No leg could be that long, or it would be empty.
    #[error("needs a leg that holds {data} of data, which cannot be", data = size_text(*data_bytes))]
    LegLength {
        /// What it would have to hold.
        data_bytes: u64,
    },
}

fn listed(others: &[String]) -> String {
    if others.is_empty() {
        String::new()
    } else {
        format!(" (not {})", others.join(", not "))
    }
}

/// Where a leg goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegPlace {
    /// On which disk node.
    pub node: DiskNodeId,
    /// On which of its disks.
    pub disk: DiskId,
    /// How many of the disk's extents.
    pub extents: u64,
    /// Its length in blocks.
    pub length_blocks: u64,
}

/// The smallest whole number of extents that hold so much data beside a leg's metadata.
///
/// `None` if there is no data, the extent is not whole blocks, or the leg would be absurdly long.
pub fn leg_extents(data_bytes: u64, extent_bytes: u64) -> Option<u64> {
    let (data, extent) = (data_bytes.div_ceil(BLOCK_BYTES), extent_bytes / BLOCK_BYTES);
    if data == 0 || extent == 0 || !extent_bytes.is_multiple_of(BLOCK_BYTES) || data > LEG_BLOCKS_MAX / 2 {
        return None;
    }
    // From below: a further extent adds at most its own length, so no step can overshoot the smallest number.
    let mut extents = data.div_ceil(extent);
    loop {
        let leg = extents.checked_mul(extent).filter(|leg| *leg <= LEG_BLOCKS_MAX)?;
        let held = leg.saturating_sub(leg_metadata_blocks(leg));
        if held >= data {
            return Some(extents);
        }
        extents += (data - held).div_ceil(extent);
    }
}

/// Choose disk nodes and disks for the legs of one group: different disk nodes; different locations where enough exist;
/// then most free space; then the lowest id. All legs have the same length, so all disks the same extent.
///
/// Errors: [`PlacementError::NoDisks`], [`PlacementError::TooFewDiskNodes`], [`PlacementError::LegLength`].
pub fn choose_legs(
    wanted: usize,
    data_bytes: u64,
    nodes: &BTreeMap<DiskNodeId, DiskNodeView>,
) -> Result<Vec<LegPlace>, PlacementError> {
    let mut chosen: Option<(Spread, Vec<LegPlace>)> = None;
    let mut nearest: Option<PlacementError> = None;
    for extent_bytes in extent_sizes(nodes) {
        match choose_of_extent(wanted, data_bytes, extent_bytes, nodes) {
            Ok((spread, places)) => {
                if chosen.as_ref().is_none_or(|(best, _)| spread > *best) {
                    chosen = Some((spread, places));
                }
            }
            Err(error) => {
                if nearest
                    .as_ref()
                    .is_none_or(|nearest| found(&error) > found(nearest))
                {
                    nearest = Some(error);
                }
            }
        }
    }
    let none = || PlacementError::NoDisks {
        wanted,
        others: refusals(nodes, without_disk),
    };
    chosen
        .map(|(_, places)| places)
        .ok_or_else(|| nearest.unwrap_or_else(none))
}

fn found(error: &PlacementError) -> usize {
    if let PlacementError::TooFewDiskNodes { found, .. } = error {
        *found
    } else {
        0
    }
}

/// How good a choice is, best highest: locations, then as little waste as possible.
type Spread = (usize, core::cmp::Reverse<u64>);

fn extent_sizes(nodes: &BTreeMap<DiskNodeId, DiskNodeView>) -> BTreeSet<u64> {
    let usable = nodes.values().filter(|node| refusal(node).is_none());
    let disks = usable
        .filter_map(DiskNodeView::status)
        .flat_map(|status| &status.disks);
    disks
        .filter(|disk| disk.fault.is_none() && disk.extents > 0)
        .map(|disk| disk.extent_bytes)
        .collect()
}

/// A node that would do, with its best disk.
struct Candidate<'a> {
    node: &'a DiskNodeView,
    disk: DiskId,
    free: u64,
}

fn choose_of_extent(
    wanted: usize,
    data_bytes: u64,
    extent_bytes: u64,
    nodes: &BTreeMap<DiskNodeId, DiskNodeView>,
) -> Result<(Spread, Vec<LegPlace>), PlacementError> {
    let extents = leg_extents(data_bytes, extent_bytes).ok_or(PlacementError::LegLength { data_bytes })?;
    let mut candidates: Vec<Candidate<'_>> = nodes
        .values()
        .filter_map(|node| candidate(node, extents, extent_bytes))
        .collect();
    if candidates.len() < wanted {
        let others = refusals(nodes, |node| without_space(node, extents, extent_bytes));
        let found = candidates.len();
        return Err(PlacementError::TooFewDiskNodes {
            wanted,
            extents,
            extent_bytes,
            found,
            others,
        });
    }
    candidates.sort_by_key(|candidate| (core::cmp::Reverse(candidate.free), candidate.node.spec.id));
    let mut locations = BTreeSet::new();
    let mut places = Vec::new();
    for _ in 0..wanted {
        let fresh = candidates
            .iter()
            .position(|candidate| !locations.contains(&location(candidate.node)));
        let candidate = candidates.remove(fresh.unwrap_or(0));
        locations.insert(location(candidate.node));
        places.push(LegPlace {
            node: candidate.node.spec.id,
            disk: candidate.disk,
            extents,
            length_blocks: extents * (extent_bytes / BLOCK_BYTES),
        });
    }
    Ok((
        (locations.len(), core::cmp::Reverse(extents * extent_bytes)),
        places,
    ))
}

fn candidate(node: &DiskNodeView, extents: u64, extent_bytes: u64) -> Option<Candidate<'_>> {
    if refusal(node).is_some() {
        return None;
    }
    let best = best_disk(node, extent_bytes).filter(|(_, free)| *free >= extents);
    best.map(|(disk, free)| Candidate { node, disk, free })
}

/// The disk with most free extents; of several, the lowest id.
fn best_disk(node: &DiskNodeView, extent_bytes: u64) -> Option<(DiskId, u64)> {
    let disks = node.status()?.disks.iter();
    let usable = disks.filter(|disk| disk.fault.is_none() && disk.extent_bytes == extent_bytes);
    let free = usable.map(|disk| (disk.disk, node.extents_free(disk.disk, disk.extents)));
    free.max_by_key(|(disk, free)| (*free, core::cmp::Reverse(*disk)))
}

/// The failure domain: what the node says, or itself. The flag keeps a location apart that looks like an id.
fn location(node: &DiskNodeView) -> (bool, String) {
    if node.spec.location.is_empty() {
        (false, node.spec.id.to_string())
    } else {
        (true, node.spec.location.clone())
    }
}

/// Why a disk node is given nothing new.
fn refusal(node: &DiskNodeView) -> Option<String> {
    if node.spec.cordoned {
        return Some(format!("{}: cordoned", node.spec.name));
    }
    (!node.is_up()).then(|| format!("{}: does not answer", node.spec.name))
}

fn without_disk(node: &DiskNodeView) -> Option<String> {
    refusal(node).or_else(|| Some(format!("{}: no usable disk", node.spec.name)))
}

fn without_space(node: &DiskNodeView, extents: u64, extent_bytes: u64) -> Option<String> {
    let name = &node.spec.name;
    refusal(node).or_else(|| match best_disk(node, extent_bytes) {
        None => Some(format!("{name}: no usable disk with such extents")),
        Some((_, free)) if free < extents => Some(format!("{name}: at most {free} free on one disk")),
        Some(_) => None,
    })
}

fn refusals(
    nodes: &BTreeMap<DiskNodeId, DiskNodeView>,
    why: impl Fn(&DiskNodeView) -> Option<String>,
) -> Vec<String> {
    nodes.values().filter_map(why).collect()
}

/// Choose controller nodes beside those a pool has: the preferred one first if it will do, then other locations, then
/// those with fewest pools, then the lowest id.
///
/// Errors: [`PlacementError::TooFewControllerNodes`].
pub fn choose_controllers(
    wanted: usize,
    present: &BTreeSet<ControllerNodeId>,
    preferred: Option<ControllerNodeId>,
    nodes: &BTreeMap<ControllerNodeId, ControllerNodeView>,
) -> Result<Vec<ControllerNodeId>, PlacementError> {
    let absent = || nodes.values().filter(|node| !present.contains(&node.spec.id));
    let mut candidates: Vec<_> = absent()
        .filter(|node| controller_refusal(node).is_none())
        .collect();
    if candidates.len() < wanted {
        let others = absent().filter_map(controller_refusal).collect();
        return Err(PlacementError::TooFewControllerNodes {
            wanted,
            found: candidates.len(),
            others,
        });
    }
    candidates.sort_by_key(|node| (Some(node.spec.id) != preferred, node.pools(), node.spec.id));
    let of_present = nodes.values().filter(|node| present.contains(&node.spec.id));
    let mut locations: BTreeSet<_> = of_present.map(controller_location).collect();
    let mut chosen = Vec::new();
    for _ in 0..wanted {
        let first_is_preferred = candidates
            .first()
            .is_some_and(|node| Some(node.spec.id) == preferred);
        let fresh = candidates
            .iter()
            .position(|node| !locations.contains(&controller_location(node)));
        let node = candidates.remove(if first_is_preferred { 0 } else { fresh.unwrap_or(0) });
        locations.insert(controller_location(node));
        chosen.push(node.spec.id);
    }
    Ok(chosen)
}

fn controller_location(node: &ControllerNodeView) -> (bool, String) {
    if node.spec.location.is_empty() {
        (false, node.spec.id.to_string())
    } else {
        (true, node.spec.location.clone())
    }
}

/// Why a controller node is given nothing new.
pub(crate) fn controller_refusal(node: &ControllerNodeView) -> Option<String> {
    if node.spec.cordoned {
        return Some(format!("{}: cordoned", node.spec.name));
    }
    (!node.is_up()).then(|| format!("{}: does not answer", node.spec.name))
}
