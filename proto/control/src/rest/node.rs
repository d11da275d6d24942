//! Disk nodes and controller nodes. Nodes are not created by people: they join.

use crate::rest::value::{InvalidValue, parse_text};
use crate::rest::{Reference, SlicePhase};
use cluster::layout::DiskNodeAllocation;
use cluster::spec::NodeSpec;
use cluster::status::{DiskStatus, LegState, LegStatus, NodeHealth, SliceStatus};
use cluster::view::{ControllerNodeView, DiskNodeView};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use utoipa::ToSchema;
use uuid::Uuid;

/// Whether a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It does.
    Up,
    /// It said hello, and has not been asked since.
    Starting,
    /// It does not.
    Down,
}

impl NodeState {
    fn of(health: Option<NodeHealth>, up: bool) -> NodeState {
        match health {
            _ if up => NodeState::Up,
            Some(health) if !health.reachable => NodeState::Down,
            _ => NodeState::Starting,
        }
    }
}

/// A disk node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskNode {
    /// Never reused.
    pub id: Uuid,
    /// Chosen by people.
    pub name: String,
    /// Its ETag.
    pub revision: u64,
    /// Where its agent listens.
    #[schema(value_type = String)]
    pub agent_address: SocketAddr,
    /// Where it accepts NVMe/TCP connections.
    #[schema(value_type = String)]
    pub fabric_address: SocketAddr,
    /// Failure domain.
    pub location: String,
    /// Nothing new is placed here.
    pub cordoned: bool,
    /// Whether it answers.
    pub state: NodeState,
    /// Since when it does, or does not, in milliseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Space for legs.
    pub capacity_bytes: u64,
    /// Of this, not taken.
    pub free_bytes: u64,
    /// Its disks, as it said last.
    pub disks: Vec<Disk>,
    /// Its legs, as it said last.
    pub legs: Vec<Leg>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// From its superblock.
    pub id: Uuid,
    /// As given to the disk node.
    pub path: String,
    /// Contents do not survive the process.
    pub volatile: bool,
    /// Unit of space.
    pub extent_bytes: u64,
    /// Space for legs.
    pub capacity_bytes: u64,
    /// Of this, not taken.
    pub free_bytes: u64,
    /// Why it cannot be used, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A leg on a disk node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Leg {
    /// Its id.
    pub id: Uuid,
    /// How far.
    pub state: LegPhase,
    /// While zeroing: percent done; failed: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How far a leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LegPhase {
    /// Zeroes are being written.
    Zeroing,
    /// Exported.
    Ready,
    /// Not to be had.
    Failed,
}

/// A controller node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ControllerNode {
    /// Never reused.
    pub id: Uuid,
    /// Chosen by people.
    pub name: String,
    /// Its ETag.
    pub revision: u64,
    /// Where its agent listens.
    #[schema(value_type = String)]
    pub agent_address: SocketAddr,
    /// Where it accepts NVMe/TCP connections.
    #[schema(value_type = String)]
    pub fabric_address: SocketAddr,
    /// Failure domain.
    pub location: String,
    /// Nothing new is placed here.
    pub cordoned: bool,
    /// Whether it answers.
    pub state: NodeState,
    /// Since when it does, or does not, in milliseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// The pools it owns or stands by for.
    pub pools: Vec<Uuid>,
    /// Its slices, as it said last.
    pub slices: Vec<ControllerSlice>,
}

/// A slice on a controller node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ControllerSlice {
    /// Its id.
    pub id: Uuid,
    /// How far.
    pub state: SlicePhase,
    /// Under which epoch; zero for a standby.
    pub epoch: u64,
    /// What it waits for, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What may be changed of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodePatch {
    /// Whether anything new may be placed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordoned: Option<bool>,
    /// Failure domain; empty: its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

impl NodePatch {
    /// Change a node's spec.
    ///
    /// Errors: [`InvalidValue::Text`].
    pub fn apply<Id>(&self, spec: &mut NodeSpec<Id>) -> Result<(), InvalidValue> {
        if let Some(location) = &self.location {
            spec.location = parse_text("location", location)?;
        }
        spec.cordoned = self.cordoned.unwrap_or(spec.cordoned);
        Ok(())
    }
}

impl DiskNode {
    /// From its records.
    pub fn new(view: &DiskNodeView, revision: u64) -> DiskNode {
        let spec = &view.spec;
        let health = view.observed.as_ref().map(|observed| observed.health);
        let (disks, legs) = view
            .status()
            .map_or((&[][..], &[][..]), |status| (&status.disks, &status.legs));
        let disks: Vec<Disk> = disks
            .iter()
            .map(|disk| Disk::new(disk, &view.allocation))
            .collect();
        DiskNode {
            id: spec.id.0,
            name: spec.name.clone(),
            revision,
            agent_address: spec.agent_address,
            fabric_address: spec.fabric_address,
            location: spec.location.clone(),
            cordoned: spec.cordoned,
            state: NodeState::of(health, view.is_up()),
            since_ms: health.map(|health| health.since_ms),
            capacity_bytes: disks.iter().map(|disk| disk.capacity_bytes).sum(),
            free_bytes: disks.iter().map(|disk| disk.free_bytes).sum(),
            disks,
            legs: legs.iter().map(Leg::new).collect(),
        }
    }
}

impl Disk {
    fn new(disk: &DiskStatus, allocation: &DiskNodeAllocation) -> Disk {
        let taken: u64 = allocation
            .disks
            .get(&disk.disk)
            .map_or(0, |legs| legs.values().sum());
        let usable = if disk.fault.is_some() { 0 } else { disk.extents };
        Disk {
            id: disk.disk.0,
            path: disk.path.clone(),
            volatile: disk.volatile,
            extent_bytes: disk.extent_bytes,
            capacity_bytes: usable.saturating_mul(disk.extent_bytes),
            free_bytes: usable.saturating_sub(taken).saturating_mul(disk.extent_bytes),
            fault: disk.fault.clone(),
        }
    }
}

impl Leg {
    fn new(status: &LegStatus) -> Leg {
        let (state, detail) = match &status.state {
            LegState::Zeroing { done, total } => (
                LegPhase::Zeroing,
                Some(format!("{}%", done * 100 / (*total).max(1))),
            ),
            LegState::Ready => (LegPhase::Ready, None),
            LegState::Failed { reason } => (LegPhase::Failed, Some(reason.clone())),
        };
        Leg {
            id: status.leg.0,
            state,
            detail,
        }
    }
}

impl ControllerNode {
    /// From its records.
    pub fn new(view: &ControllerNodeView, revision: u64) -> ControllerNode {
        let spec = &view.spec;
        let health = view.observed.as_ref().map(|observed| observed.health);
        ControllerNode {
            id: spec.id.0,
            name: spec.name.clone(),
            revision,
            agent_address: spec.agent_address,
            fabric_address: spec.fabric_address,
            location: spec.location.clone(),
            cordoned: spec.cordoned,
            state: NodeState::of(health, view.is_up()),
            since_ms: health.map(|health| health.since_ms),
            pools: view
                .config
                .iter()
                .flat_map(|config| config.pools.keys())
                .map(|pool| pool.0)
                .collect(),
            slices: view
                .status()
                .iter()
                .flat_map(|status| &status.slices)
                .map(ControllerSlice::new)
                .collect(),
        }
    }

    /// By id and name.
    pub fn reference(&self) -> Reference {
        Reference {
            id: self.id,
            name: self.name.clone(),
        }
    }
}

impl ControllerSlice {
    fn new(status: &SliceStatus) -> ControllerSlice {
        let (state, detail) = SlicePhase::of(&status.state);
        ControllerSlice {
            id: status.slice.0,
            state,
            epoch: status.epoch.0,
            detail,
        }
    }
}
