//! The complete wanted configuration of one node. Agents write it to their ledger before they apply it, refuse a
//! lower revision, build what is missing and sweep what is not wanted.

use crate::{
    ControllerNodeId, DiskId, DiskNodeId, Epoch, GroupId, Incarnation, LegId, Nqn, PoolId, Revision, SliceId,
    VolumeId,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Everything a disk node has to export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskNodeConfig {
    /// For whom.
    pub node: DiskNodeId,
    /// Orders configurations of this node.
    pub revision: Revision,
    /// Legs by pool (a pool's planner replaces its own part). A leg on the disk's table that is not named here is
    /// swept: unexported, and its extents given back.
    pub legs: BTreeMap<PoolId, Vec<LegConfig>>,
}

/// A leg to export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegConfig {
    /// Which; the namespace's UUID and NGUID.
    pub leg: LegId,
    /// On which disk, whose subsystem exports it.
    pub disk: DiskId,
    /// In the disk's subsystem.
    pub nsid: u32,
    /// Its length in the disk's extents.
    pub extents: u64,
    /// The controller nodes (by host NQN) that may see it.
    pub hosts: BTreeSet<Nqn>,
}

/// Everything a controller node has to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerNodeConfig {
    /// For whom.
    pub node: ControllerNodeId,
    /// Orders configurations of this node.
    pub revision: Revision,
    /// How it names itself to disk nodes.
    pub host_nqn: Nqn,
    /// The pools it owns or stands by for.
    pub pools: BTreeMap<PoolId, PoolConfig>,
}

/// A pool, as one of its controller nodes must serve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolConfig {
    /// The pool's one subsystem.
    pub subsystem_nqn: Nqn,
    /// Its serial number.
    pub serial: String,
    /// The controller identifiers this node may give out, inclusive.
    pub cntlid: (u16, u16),
    /// Where the pool's subsystem can be reached, this node included: for the discovery log page.
    pub portals: Vec<Portal>,
    /// Unit of space of volumes.
    pub extent_bytes: u64,
    /// Today exactly one.
    pub slices: Vec<SliceConfig>,
    /// Every volume of the pool.
    pub volumes: Vec<VolumeConfig>,
}

/// A way to reach the pool's subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portal {
    /// Whose.
    pub node: ControllerNodeId,
    /// The NVMe/TCP address.
    pub address: SocketAddr,
}

/// A slice, as owner or standby sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceConfig {
    /// Which.
    pub slice: SliceId,
    /// The ANA group of its volumes.
    pub ana_group: u32,
    /// The node's part.
    pub role: Role,
    /// The thin pool has been formatted when the epoch was granted (R9).
    pub formatted: bool,
    /// In order of concatenation.
    pub groups: Vec<GroupConfig>,
}

/// What a controller node is to a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Role {
    /// It serves the slice, if it is still the process the grant was made to.
    Owner {
        /// The grant.
        epoch: Epoch,
        /// To whom. Another incarnation of the node stays a standby until it has a grant of its own.
        incarnation: Incarnation,
    },
    /// It is ready to.
    Standby,
}

/// A group, with the way to its legs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupConfig {
    /// Which.
    pub group: GroupId,
    /// Superblocks had been written when the epoch was granted (R9).
    pub formatted: bool,
    /// Its legs.
    pub legs: Vec<LegPath>,
}

/// A leg, and where to find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegPath {
    /// Which; must be the namespace's UUID.
    pub leg: LegId,
    /// On which disk: legs of one disk share a connection, those of different disks never do.
    pub disk: DiskId,
    /// The NVMe/TCP address of the disk's node.
    pub address: SocketAddr,
    /// The disk's subsystem.
    pub subsystem_nqn: Nqn,
    /// The leg's namespace there.
    pub nsid: u32,
    /// In blocks of 4096 bytes.
    pub length_blocks: u64,
    /// Whether it had every acknowledged write when the epoch was granted. Afterwards the owner, who alone changes the
    /// set under its epoch, knows better, and later configurations of the same epoch do not count.
    pub in_sync: bool,
}

/// A volume to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeConfig {
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
