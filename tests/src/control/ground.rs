//! A small honest data plane: disk nodes with one disk, on which legs are zeroed, fenced, written and swept; controller nodes that open slices
//! (fence, shrink, format, read), serve them, lose legs and take them back. Configurations are applied after a while.
//!
//! What is durable here survives every crash: legs with their keys, contents and superblocks, and the maps of slices. It sees for itself that
//! the control plane's records keep what was acknowledged (R3), what was formatted (R9), and the space of disks.

mod disk_node;
mod slice;

use super::plane::DataPlane;
use crate::world::Random;
use cluster::status::{ControllerNodeStatus, SliceState, SliceStatus};
use cluster::{ControllerNodeId, DiskNodeId, Incarnation, LegId, Revision, SliceId, VolumeId};
use control::agent::{MembershipAnswer, MembershipRequest, NodeConfig, NodeKind, NodeStatus};
use disk_node::{DiskNode, Leg};
use slice::Owned;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use uuid::Uuid;

/// See the module.
pub struct Ground {
    now: Duration,
    random: Random,
    disk_nodes: BTreeMap<Uuid, DiskNode>,
    controller_nodes: BTreeMap<Uuid, ControllerNode>,
    /// What the legs of a slice hold together.
    truths: BTreeMap<SliceId, Truth>,
    violation: Option<String>,
}

/// What is true of a slice whoever owns it.
#[derive(Debug, Default)]
struct Truth {
    /// The last write that was acknowledged.
    acknowledged: u64,
    /// The map, once the slice has been formatted.
    map: Option<BTreeMap<VolumeId, u64>>,
}

/// A process, and the configuration it is about to take over.
struct Process<C> {
    incarnation: Incarnation,
    revision: Revision,
    config: Option<C>,
    coming: Option<(Duration, C)>,
    version: u64,
}

impl<C> Process<C> {
    fn new(incarnation: Incarnation) -> Process<C> {
        Process {
            incarnation,
            revision: Revision(0),
            config: None,
            coming: None,
            version: 1,
        }
    }
    /// The configuration whose time has come.
    fn due(&mut self, now: Duration) -> Option<C> {
        self.coming
            .take_if(|(at, _)| *at <= now)
            .map(|(_, config)| config)
    }
}

struct ControllerNode {
    process: Option<Process<cluster::node_config::ControllerNodeConfig>>,
    owned: BTreeMap<SliceId, Owned>,
    requests: VecDeque<MembershipRequest>,
    next_request: u64,
    told: Option<ControllerNodeStatus>,
}

impl Ground {
    /// Nothing but chance.
    pub fn new(seed: u64) -> Ground {
        Ground {
            now: Duration::ZERO,
            random: Random::new(seed ^ 0x6772_6f75_6e64),
            disk_nodes: BTreeMap::new(),
            controller_nodes: BTreeMap::new(),
            truths: BTreeMap::new(),
            violation: None,
        }
    }

    fn accuse(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A leg that answers now.
    fn leg(&mut self, id: LegId) -> Option<&mut Leg> {
        let now = self.now;
        let mut nodes = self.disk_nodes.values_mut().filter(|node| node.process.is_some());
        let leg = nodes.find_map(|node| node.legs.get_mut(&id));
        leg.filter(|leg| leg.zeroed_at <= now)
    }

    fn advance_disk_node(&mut self, id: Uuid) {
        let sweep_at = self.now + Duration::from_millis(self.random.below(1_500));
        let zeroed_at = self.now + Duration::from_millis(self.random.below(2_000));
        let node = self.disk_nodes.get_mut(&id).expect("asked for one of them");
        if let Err(what) = node.advance(self.now, sweep_at, zeroed_at) {
            self.accuse(what);
        }
    }

    fn advance_controller_node(&mut self, id: Uuid) {
        let node = self.controller_nodes.get_mut(&id).expect("asked for one of them");
        let Some(process) = &mut node.process else { return };
        if let Some(config) = process.due(self.now) {
            process.revision = config.revision;
            process.config = Some(config);
        }
        let Some(config) = process.config.clone() else {
            return;
        };
        let incarnation = process.incarnation;
        let mut wanted = BTreeSet::new();
        for pool in config.pools.values() {
            for slice in &pool.slices {
                wanted.insert(slice.slice);
                self.advance_slice((id, incarnation), pool, slice);
            }
        }
        let node = self.controller_nodes.get_mut(&id).expect("as above");
        node.owned.retain(|slice, _| wanted.contains(slice));
        self.note_status(id);
    }

    fn note_status(&mut self, id: Uuid) {
        let status = self.controller_status(id);
        let node = self.controller_nodes.get_mut(&id).expect("asked for one of them");
        if node.told != status {
            node.told = status;
            node.process.iter_mut().for_each(|process| process.version += 1);
        }
    }

    fn controller_status(&self, id: Uuid) -> Option<ControllerNodeStatus> {
        let node = self.controller_nodes.get(&id)?;
        let process = node.process.as_ref()?;
        let pools = process.config.iter().flat_map(|config| config.pools.values());
        let slices = pools.flat_map(|pool| &pool.slices).map(|slice| {
            let owned = node.owned.get(&slice.slice);
            owned.map_or_else(
                || standby(slice.slice),
                |owned| self.slice_status(slice.slice, owned),
            )
        });
        Some(ControllerNodeStatus {
            node: ControllerNodeId(id),
            incarnation: process.incarnation,
            revision: process.revision,
            slices: slices.collect(),
        })
    }
}

fn standby(slice: SliceId) -> SliceStatus {
    SliceStatus {
        slice,
        state: SliceState::Standby,
        epoch: cluster::Epoch(0),
        extents: 0,
        extents_used: 0,
        groups: Vec::new(),
        volumes: Vec::new(),
    }
}

impl DataPlane for Ground {
    fn start(&mut self, kind: NodeKind, node: Uuid, incarnation: Incarnation) {
        match kind {
            NodeKind::DiskNode => {
                let found = self.disk_nodes.entry(node);
                found.or_insert_with(|| DiskNode::new(DiskNodeId(node))).process =
                    Some(Process::new(incarnation));
            }
            NodeKind::ControllerNode => {
                let fresh = ControllerNode {
                    process: Some(Process::new(incarnation)),
                    owned: BTreeMap::new(),
                    requests: VecDeque::new(),
                    next_request: 1,
                    told: None,
                };
                self.controller_nodes.insert(node, fresh);
                self.note_status(node);
            }
        }
    }

    fn stop(&mut self, node: Uuid) {
        if let Some(node) = self.disk_nodes.get_mut(&node) {
            node.process = None;
        }
        if let Some(node) = self.controller_nodes.get_mut(&node) {
            (node.process, node.told) = (None, None);
            node.owned.clear();
            node.requests.clear();
        }
    }

    fn apply(&mut self, node: Uuid, config: NodeConfig) {
        let at = self.now + Duration::from_millis(self.random.below(700));
        match config {
            NodeConfig::DiskNode(config) => {
                let found = self
                    .disk_nodes
                    .get_mut(&node)
                    .and_then(|node| node.process.as_mut());
                found
                    .into_iter()
                    .for_each(|process| process.coming = Some((at, config.clone())));
            }
            NodeConfig::ControllerNode(config) => {
                let found = self.controller_nodes.get_mut(&node);
                let found = found.and_then(|node| node.process.as_mut());
                found
                    .into_iter()
                    .for_each(|process| process.coming = Some((at, config.clone())));
            }
        }
    }

    fn status(&self, node: Uuid) -> NodeStatus {
        if let Some(node) = self.disk_nodes.get(&node) {
            return NodeStatus::DiskNode(node.status(self.now));
        }
        let status = self
            .controller_status(node)
            .unwrap_or_else(|| ControllerNodeStatus {
                node: ControllerNodeId(node),
                incarnation: Incarnation(Uuid::nil()),
                revision: Revision(0),
                slices: Vec::new(),
            });
        NodeStatus::ControllerNode(status)
    }

    fn status_version(&self, node: Uuid) -> u64 {
        let disk_node = self
            .disk_nodes
            .get(&node)
            .and_then(|node| Some(node.process.as_ref()?.version));
        let controller = self.controller_nodes.get(&node);
        let controller = controller.and_then(|node| Some(node.process.as_ref()?.version));
        disk_node.or(controller).unwrap_or(0)
    }

    fn next_membership_request(&mut self, node: Uuid) -> Option<MembershipRequest> {
        self.controller_nodes.get_mut(&node)?.requests.pop_front()
    }

    fn membership_answer(&mut self, node: Uuid, answer: MembershipAnswer) {
        let owned = self
            .controller_nodes
            .get_mut(&node)
            .and_then(|node| node.owned.get_mut(&answer.slice));
        if let Some(owned) = owned {
            owned.answered(&answer);
        }
    }

    fn advance_to(&mut self, now: Duration) {
        self.now = now;
        for id in self.disk_nodes.keys().copied().collect::<Vec<_>>() {
            self.advance_disk_node(id);
        }
        for id in self.controller_nodes.keys().copied().collect::<Vec<_>>() {
            self.advance_controller_node(id);
        }
    }

    fn violation(&mut self) -> Option<String> {
        self.violation.take()
    }
}

impl Ground {
    /// How many every disk has.
    pub(super) const EXTENTS: u64 = 24;
    /// In bytes.
    pub(super) const EXTENT_BYTES: u64 = 1 << 30;
}
