//! The complete wanted configuration of a pool: immutable, has a revision; and, apart from it, who owns its slices
//! and which legs have every acknowledged write (the membership record).

use crate::spec::Protection;
use crate::{
    ControllerNodeId, DiskId, DiskNodeId, Epoch, GroupId, Incarnation, LegId, Nqn, PoolId, Revision, SliceId,
    VolumeId,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A pool as it shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolLayout {
    /// Which pool.
    pub pool: PoolId,
    /// Grows with every change.
    pub revision: Revision,
    /// The pool's one subsystem.
    pub subsystem_nqn: Nqn,
    /// Serial number of the subsystem (Identify Controller SN, at most 20 ASCII characters).
    pub serial: String,
    /// Unit of space of volumes.
    pub extent_bytes: u64,
    /// Of every group.
    pub protection: Protection,
    /// Who exports it. Controller-identifier ranges are disjoint.
    pub controllers: Vec<ControllerPlacement>,
    /// Today exactly one: striping over several comes with the dispatcher.
    pub slices: Vec<SliceLayout>,
    /// Every volume, also those being created or deleted.
    pub volumes: Vec<VolumeLayout>,
    /// Legs no longer wanted, in no group, whose disk nodes have not swept them yet: their space is still taken.
    #[serde(default)]
    pub retired: Vec<LegLayout>,
}

/// A controller node that serves a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerPlacement {
    /// Which.
    pub node: ControllerNodeId,
    /// First controller identifier it may give out for this pool (Base 2.1, CNTLID).
    pub cntlid_first: u16,
    /// The last, inclusive.
    pub cntlid_last: u16,
}

/// A slice: groups and a thin pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceLayout {
    /// Which.
    pub slice: SliceId,
    /// The ANA group of its volumes (from 1).
    pub ana_group: u32,
    /// In order of concatenation; the first one carries the map.
    pub groups: Vec<GroupLayout>,
}

/// Legs that protect each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLayout {
    /// Which.
    pub group: GroupId,
    /// All of the same length, on different disk nodes.
    pub legs: Vec<LegLayout>,
}

/// A leg and where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegLayout {
    /// Which.
    pub leg: LegId,
    /// On which disk node.
    pub disk_node: DiskNodeId,
    /// On which of its disks.
    pub disk: DiskId,
    /// Its namespace identifier in the disk's subsystem; unique on its disk node, not reused there.
    pub nsid: u32,
    /// How many of the disk's extents.
    pub extents: u64,
    /// Its length in 4096-byte blocks (extents times the disk's extent size).
    pub length_blocks: u64,
}

/// A volume as its pool must serve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeLayout {
    /// Which; the namespace's UUID and NGUID.
    pub volume: VolumeId,
    /// In the pool's subsystem.
    pub nsid: u32,
    /// What the host sees.
    pub size_blocks: u64,
    /// Who may see it.
    pub hosts: BTreeSet<Nqn>,
    /// The map must know it already (R9).
    pub created: bool,
    /// To be removed from the map.
    pub deleting: bool,
}

/// Who owns a slice, and which of its legs are in sync: changed by workers (grants) and, on behalf of owners, by
/// api-servers (R3, R4, R9), always with a compare on the epoch. Status never goes here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Which slice.
    pub slice: SliceId,
    /// Its pool.
    pub pool: PoolId,
    /// The one owner (R1).
    pub owner: ControllerNodeId,
    /// The start of the owner's process the grant was made to; a restarted owner needs a new epoch (R2).
    pub owner_incarnation: Incarnation,
    /// Changes together with the owner.
    pub epoch: Epoch,
    /// The thin pool has been formatted (R9).
    pub formatted: bool,
    /// Per group.
    pub groups: BTreeMap<GroupId, GroupMembership>,
}

/// The durable facts about a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMembership {
    /// Superblocks have been written to all legs (R9).
    pub formatted: bool,
    /// The legs that have every acknowledged write. Never empty once formatted.
    pub in_sync: BTreeSet<LegId>,
}

/// What is taken from a disk node: changed in the same transaction as the layouts that take it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskNodeAllocation {
    /// Extents taken, by leg, by disk.
    pub disks: BTreeMap<DiskId, BTreeMap<LegId, u64>>,
    /// The next namespace identifier for a leg; from 1, not reused.
    pub next_nsid: u32,
}

/// The blocks at the start of a leg that are not data: 8 MiB plus one 512th of the leg, in whole MiB. The same rule as
/// `block::leg_metadata_blocks`; a test in `controller-node` holds the two together.
pub const fn leg_metadata_blocks(leg_blocks: u64) -> u64 {
    2048 + leg_blocks.div_ceil(512).next_multiple_of(256)
}
