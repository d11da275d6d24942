//! What people want: the records that api-servers write.

use crate::{ControllerNodeId, HostId, Incarnation, Nqn, PoolId, VolumeId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use uuid::Uuid;

/// Extents are between these sizes (design: 4 MiB .. 100 GiB), a power of two times 4 MiB or not, but whole MiB.
pub const EXTENT_BYTES_MIN: u64 = 4 << 20;
/// See [`EXTENT_BYTES_MIN`].
pub const EXTENT_BYTES_MAX: u64 = 100 << 30;
/// The extent where nobody chose one.
pub const EXTENT_BYTES_DEFAULT: u64 = 1 << 30;

/// The cluster itself: one record, written once by the first api-server that finds none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Never changes.
    pub id: Uuid,
    /// What a node must show to join.
    pub join_token: String,
}

/// A node of either kind, as it registered itself when it joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec<Id> {
    /// Never reused.
    pub id: Id,
    /// Chosen by people, unique per kind.
    pub name: String,
    /// Where its agent listens (HTTP).
    pub agent_address: SocketAddr,
    /// Where it accepts NVMe/TCP connections.
    pub fabric_address: SocketAddr,
    /// What workers must show its agent (bearer token).
    pub agent_token: String,
    /// The process that last said hello; another one than before means that it was started again.
    pub incarnation: Incarnation,
    /// Failure domain, free text, for placement; empty: its own.
    #[serde(default)]
    pub location: String,
    /// No new legs or slices are placed here.
    #[serde(default)]
    pub cordoned: bool,
}

/// How the legs of a group protect each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Protection {
    /// One leg, no protection.
    None,
    /// The same data on `legs` legs, on different disk nodes.
    Mirror {
        /// 2 to 4.
        legs: u8,
    },
}

impl Protection {
    /// How many legs a group has.
    pub fn legs(self) -> usize {
        match self {
            Protection::None => 1,
            Protection::Mirror { legs } => usize::from(legs),
        }
    }
}

/// A pool as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Never reused.
    pub id: PoolId,
    /// Chosen by people, unique.
    pub name: String,
    /// Usable space, rounded up to whole extents.
    pub capacity_bytes: u64,
    /// The unit in which volumes are given space.
    pub extent_bytes: u64,
    /// Of every group.
    pub protection: Protection,
    /// How many controller nodes serve it: one owner, the rest standbys.
    pub controller_count: u8,
    /// Who should own it: the planned switch writes here. `None`: the planner chooses once and keeps.
    #[serde(default)]
    pub owner: Option<ControllerNodeId>,
    /// People asked for its deletion.
    #[serde(default)]
    pub deleting: bool,
    /// The next namespace identifier to give to a volume; identifiers are not reused in a pool.
    pub next_nsid: u32,
}

/// A volume as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Never reused; the namespace's UUID and NGUID.
    pub id: VolumeId,
    /// Chosen by people, unique.
    pub name: String,
    /// Where it lives.
    pub pool: PoolId,
    /// Its namespace identifier in the pool's subsystem.
    pub nsid: u32,
    /// What the host sees; a multiple of 4096.
    pub size_bytes: u64,
    /// People asked for its deletion.
    #[serde(default)]
    pub deleting: bool,
    /// The pool's map knows it (R9): from then on a map without it is an error, never a reason to create it anew.
    #[serde(default)]
    pub created: bool,
}

/// A host that may be given volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Never reused.
    pub id: HostId,
    /// Chosen by people, unique.
    pub name: String,
    /// How it names itself on the fabric; unique.
    pub nqn: Nqn,
}

/// A volume shown to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentSpec {
    /// Which volume.
    pub volume: VolumeId,
    /// To whom.
    pub host: HostId,
}
