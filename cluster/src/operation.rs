//! Operations: long-running wishes of people, begun by api-servers, ended by workers when what they wait for is true.
//!
//! An operation is for watching only. Nothing is planned from it and nothing is lost with it: the wish itself stands
//! in the specs.

use crate::{ControllerNodeId, HostId, OperationId, PoolId, VolumeId};
use serde::{Deserialize, Serialize};

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Never reused.
    pub id: OperationId,
    /// What is wished.
    pub wish: Wish,
    /// When it began, in milliseconds since 1970 (UTC).
    pub begun_ms: u64,
    /// How far.
    pub state: OperationState,
}

/// What is wished; each says when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Wish {
    /// Done when every slice of the pool is served by its owner.
    CreatePool {
        /// Which pool.
        pool: PoolId,
    },
    /// Done when its record is gone: legs swept, space given back.
    DeletePool {
        /// Which pool.
        pool: PoolId,
    },
    /// Done when `to` serves every slice of the pool.
    SwitchOwner {
        /// Which pool.
        pool: PoolId,
        /// The wanted owner.
        to: ControllerNodeId,
    },
    /// Done when the owner serves it.
    CreateVolume {
        /// Which volume.
        volume: VolumeId,
        /// Of which pool.
        pool: PoolId,
    },
    /// Done when its record is gone: the map does not know it any more.
    DeleteVolume {
        /// Which volume.
        volume: VolumeId,
        /// Of which pool.
        pool: PoolId,
    },
    /// Done when the owner serves it with at least this size.
    ExtendVolume {
        /// Which volume.
        volume: VolumeId,
        /// Of which pool.
        pool: PoolId,
        /// What the host shall see.
        size_bytes: u64,
    },
    /// Done when the owner, and every other controller node of the pool that answers, shows it to the host.
    Attach {
        /// Which volume.
        volume: VolumeId,
        /// Of which pool.
        pool: PoolId,
        /// To whom.
        host: HostId,
    },
    /// Done when the owner, and every other controller node of the pool that answers, no longer shows it to the host.
    Detach {
        /// Which volume.
        volume: VolumeId,
        /// Of which pool.
        pool: PoolId,
        /// From whom.
        host: HostId,
    },
}

impl Wish {
    /// The pool it is about.
    pub fn pool(self) -> PoolId {
        match self {
            Wish::CreatePool { pool }
            | Wish::DeletePool { pool }
            | Wish::SwitchOwner { pool, .. }
            | Wish::CreateVolume { pool, .. }
            | Wish::DeleteVolume { pool, .. }
            | Wish::ExtendVolume { pool, .. }
            | Wish::Attach { pool, .. }
            | Wish::Detach { pool, .. } => pool,
        }
    }
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum OperationState {
    /// Not done yet.
    Running {
        /// What it waits for, for people; empty until a worker has looked at it.
        waits_for: Vec<String>,
    },
    /// It is true.
    Done {
        /// Since when, in milliseconds since 1970 (UTC).
        at_ms: u64,
    },
    /// It will never be true: what it was about is gone or wished otherwise.
    Failed {
        /// Why.
        reason: String,
        /// Since when, in milliseconds since 1970 (UTC).
        at_ms: u64,
    },
}

impl OperationState {
    /// As an api-server begins it.
    pub fn begun() -> Self {
        OperationState::Running {
            waits_for: Vec::new(),
        }
    }
    /// Neither done nor failed.
    pub fn is_running(&self) -> bool {
        matches!(self, OperationState::Running { .. })
    }
}
