//! What the planner looks at: the records that bear on one pool, side by side. It reads nothing else.

use crate::layout::{DiskNodeAllocation, Membership, PoolLayout};
use crate::node_config::{ControllerNodeConfig, DiskNodeConfig};
use crate::spec::{AttachmentSpec, HostSpec, NodeSpec, PoolSpec, VolumeSpec};
use crate::status::{ControllerNodeStatus, DiskNodeStatus, Observed};
use crate::{ControllerNodeId, DiskId, DiskNodeId, HostId, LegId, PoolId, SliceId, VolumeId};
use std::collections::BTreeMap;

/// Everything that bears on one pool.
#[derive(Clone, Debug)]
pub struct PoolInput {
    /// What is wanted.
    pub spec: PoolSpec,
    /// Its volumes, as wanted.
    pub volumes: BTreeMap<VolumeId, VolumeSpec>,
    /// Who is given them.
    pub attachments: Vec<AttachmentSpec>,
    /// At least the hosts of the attachments.
    pub hosts: BTreeMap<HostId, HostSpec>,
    /// The present layout; `None`: not placed yet.
    pub layout: Option<PoolLayout>,
    /// The present membership of every slice of the layout.
    pub memberships: BTreeMap<SliceId, Membership>,
    /// At least those of the layout; where something is to be placed, all.
    pub disk_nodes: BTreeMap<DiskNodeId, DiskNodeView>,
    /// At least those of the layout and the wanted owner; where something is to be placed, all.
    pub controller_nodes: BTreeMap<ControllerNodeId, ControllerNodeView>,
}

/// A disk node, from all sides.
#[derive(Clone, Debug)]
pub struct DiskNodeView {
    /// As it registered itself.
    pub spec: NodeSpec<DiskNodeId>,
    /// What is taken from it.
    pub allocation: DiskNodeAllocation,
    /// What is known of it.
    pub observed: Option<Observed<DiskNodeStatus>>,
    /// What it was told last.
    pub config: Option<DiskNodeConfig>,
}

/// A controller node, from all sides.
#[derive(Clone, Debug)]
pub struct ControllerNodeView {
    /// As it registered itself.
    pub spec: NodeSpec<ControllerNodeId>,
    /// What is known of it.
    pub observed: Option<Observed<ControllerNodeStatus>>,
    /// What it was told last.
    pub config: Option<ControllerNodeConfig>,
}

impl DiskNodeView {
    /// What it said last.
    pub fn status(&self) -> Option<&DiskNodeStatus> {
        self.observed.as_ref()?.status.as_ref()
    }
    /// It answers, and as the process that last said hello.
    pub fn is_up(&self) -> bool {
        let reachable = self
            .observed
            .as_ref()
            .is_some_and(|observed| observed.health.reachable);
        reachable
            && self
                .status()
                .is_some_and(|status| status.incarnation == self.spec.incarnation)
    }
    /// Extents of a disk that no leg has taken.
    pub fn extents_free(&self, disk: DiskId, extents: u64) -> u64 {
        let taken: u64 = self
            .allocation
            .disks
            .get(&disk)
            .map_or(0, |legs| legs.values().sum());
        extents.saturating_sub(taken)
    }
    /// It has taken over the configuration of now, that configuration does not name the leg, and the leg is no more. A
    /// node that is ahead of the store's records (they were set back) has taken over another one.
    pub fn has_swept(&self, pool: PoolId, leg: LegId) -> bool {
        let (Some(status), Some(config)) = (self.status(), &self.config) else {
            return false;
        };
        let wanted = config
            .legs
            .get(&pool)
            .is_some_and(|legs| legs.iter().any(|wanted| wanted.leg == leg));
        !wanted && status.revision == config.revision && !status.legs.iter().any(|found| found.leg == leg)
    }
}

impl ControllerNodeView {
    /// What it said last.
    pub fn status(&self) -> Option<&ControllerNodeStatus> {
        self.observed.as_ref()?.status.as_ref()
    }
    /// It answers, and as the process that last said hello.
    pub fn is_up(&self) -> bool {
        let reachable = self
            .observed
            .as_ref()
            .is_some_and(|observed| observed.health.reachable);
        reachable
            && self
                .status()
                .is_some_and(|status| status.incarnation == self.spec.incarnation)
    }
    /// It has taken over the configuration of now.
    pub fn is_current(&self) -> bool {
        let wanted = self.config.as_ref().map(|config| config.revision);
        self.status()
            .is_some_and(|status| Some(status.revision) == wanted)
    }
    /// How many pools it serves or stands by for.
    pub fn pools(&self) -> usize {
        self.config.as_ref().map_or(0, |config| config.pools.len())
    }
}

impl PoolInput {
    /// A disk node's name; its id if it has no record.
    pub fn disk_node_name(&self, id: DiskNodeId) -> String {
        self.disk_nodes
            .get(&id)
            .map_or_else(|| id.to_string(), |node| node.spec.name.clone())
    }
    /// A controller node's name; its id if it has no record.
    pub fn controller_node_name(&self, id: ControllerNodeId) -> String {
        self.controller_nodes
            .get(&id)
            .map_or_else(|| id.to_string(), |node| node.spec.name.clone())
    }
    /// A volume's name; its id if it has no record.
    pub fn volume_name(&self, id: VolumeId) -> String {
        self.volumes
            .get(&id)
            .map_or_else(|| id.to_string(), |volume| volume.name.clone())
    }
}
