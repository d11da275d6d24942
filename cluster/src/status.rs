//! What is: reported by agents, written to the store by workers when it changed. Status never bumps a revision.

use crate::{
    ControllerNodeId, DiskId, DiskNodeId, Epoch, GroupId, Incarnation, LegId, Revision, SliceId, VolumeId,
    WorkerId,
};
use serde::{Deserialize, Serialize};

/// What is known of a node: what it said last, and whether it still answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed<S> {
    /// Whether it answers.
    pub health: NodeHealth,
    /// What it said last; `None`: it never answered.
    pub status: Option<S>,
}

/// Whether a node's agent answers its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// It does.
    pub reachable: bool,
    /// Since when that is so, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
}

/// What a pool waits for: written by its worker when it changed, for people only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolProgress {
    /// Reasons, in words; empty: the pool is planned as wished.
    pub waits: Vec<String>,
}

/// A living worker: its record is held by a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Which.
    pub id: WorkerId,
    /// When it started, in milliseconds since 1970 (UTC).
    pub started_ms: u64,
}

/// What a disk node reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskNodeStatus {
    /// Whose.
    pub node: DiskNodeId,
    /// Which start of its process.
    pub incarnation: Incarnation,
    /// The last configuration it took over.
    pub revision: Revision,
    /// Its disks.
    pub disks: Vec<DiskStatus>,
    /// Its legs.
    pub legs: Vec<LegStatus>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// From its superblock.
    pub disk: DiskId,
    /// As given to the disk node.
    pub path: String,
    /// Contents do not survive the process (memory disks).
    pub volatile: bool,
    /// Chosen when it was formatted.
    pub extent_bytes: u64,
    /// How many extents it has for legs.
    pub extents: u64,
    /// Of these, not in a leg.
    pub extents_free: u64,
    /// Why it cannot be used, if so.
    pub fault: Option<String>,
}

/// A leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegStatus {
    /// Which.
    pub leg: LegId,
    /// How far.
    pub state: LegState,
}

/// How far a leg is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum LegState {
    /// Zeroes are being written (R10); not exported yet.
    Zeroing {
        /// Extents done.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Exported.
    Ready,
    /// Not to be had.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

/// What a controller node reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerNodeStatus {
    /// Whose.
    pub node: ControllerNodeId,
    /// Which start of its process.
    pub incarnation: Incarnation,
    /// The last configuration it took over.
    pub revision: Revision,
    /// Its slices.
    pub slices: Vec<SliceStatus>,
}

/// A slice as one of its controller nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceStatus {
    /// Which.
    pub slice: SliceId,
    /// How far.
    pub state: SliceState,
    /// The epoch it serves or opens under; zero for a standby.
    pub epoch: Epoch,
    /// Space of the pool, in extents; zero unless serving.
    pub extents: u64,
    /// Of these, given to volumes.
    pub extents_used: u64,
    /// Its groups.
    pub groups: Vec<GroupStatus>,
    /// Its volumes; empty unless serving.
    pub volumes: Vec<VolumeStatus>,
}

/// How far a slice is on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum SliceState {
    /// Ready to take over: hosts see it inaccessible.
    Standby,
    /// Connecting, fencing, formatting or reading: hosts see it inaccessible.
    Opening {
        /// What it waits for, for people.
        waits_for: String,
    },
    /// Hosts see it optimized.
    Serving,
    /// Handing over: what is in flight is being finished.
    Closing,
    /// Cannot serve.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

/// A group as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Which.
    pub group: GroupId,
    /// Its legs.
    pub legs: Vec<GroupLegStatus>,
    /// Regions that may differ between legs and are being made equal.
    pub regions_dirty: u64,
}

/// A leg as its group's owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLegStatus {
    /// Which.
    pub leg: LegId,
    /// Has every acknowledged write.
    pub in_sync: bool,
    /// Answers.
    pub reachable: bool,
}

/// A volume as its pool's owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Which.
    pub volume: VolumeId,
    /// Extents it has been given.
    pub extents_mapped: u64,
    /// What the pool serves it with.
    pub size_blocks: u64,
}
