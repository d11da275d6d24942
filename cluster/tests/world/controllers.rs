//! Controller nodes: they fence, format, and keep the map as they are told; and refuse to lose anything.

use super::{Map, World};
use cluster::layout::Membership;
use cluster::node_config::{ControllerNodeConfig, PoolConfig, Role, SliceConfig};
use cluster::spec::NodeSpec;
use cluster::status::{ControllerNodeStatus, NodeHealth, Observed, SliceState, SliceStatus, VolumeStatus};
use cluster::view::ControllerNodeView;
use cluster::{ControllerNodeId, Epoch, Incarnation, LegId, Revision, SliceId};
use std::collections::BTreeMap;

pub struct ControllerNode {
    pub spec: NodeSpec<ControllerNodeId>,
    pub config: Option<ControllerNodeConfig>,
    pub observed: Option<Observed<ControllerNodeStatus>>,
    pub up: bool,
    ledger: Option<ControllerNodeConfig>,
    serving: BTreeMap<SliceId, Epoch>,
}

impl ControllerNode {
    pub fn new(spec: NodeSpec<ControllerNodeId>) -> Self {
        let serving = BTreeMap::new();
        ControllerNode {
            spec,
            config: None,
            observed: None,
            up: true,
            ledger: None,
            serving,
        }
    }

    pub fn view(&self) -> ControllerNodeView {
        ControllerNodeView {
            spec: self.spec.clone(),
            observed: self.observed.clone(),
            config: self.config.clone(),
        }
    }

    pub fn start(&mut self, incarnation: Incarnation) {
        (self.up, self.spec.incarnation) = (true, incarnation);
        self.serving.clear();
    }
}

impl World {
    pub fn deliver_to_controller(&mut self, id: ControllerNodeId) {
        let node = self.controller_nodes.get_mut(&id).expect("known");
        let Some(config) = node.config.clone().filter(|_| node.up) else {
            return;
        };
        assert!(
            node.ledger
                .as_ref()
                .is_none_or(|ledger| ledger.revision <= config.revision),
            "a lower revision"
        );
        node.ledger = Some(config);
    }

    pub fn work_of_controller(&mut self, id: ControllerNodeId) {
        let node = &self.controller_nodes[&id];
        let Some(ledger) = node.ledger.clone().filter(|_| node.up) else {
            return;
        };
        let own = node.spec.incarnation;
        let mut serving = BTreeMap::new();
        for pool in ledger.pools.values() {
            for slice in &pool.slices {
                let Role::Owner { epoch, incarnation } = slice.role else {
                    continue;
                };
                if incarnation == own && self.open(slice, epoch) {
                    self.keep_map(pool, slice.slice);
                    serving.insert(slice.slice, epoch);
                }
            }
        }
        self.controller_nodes.get_mut(&id).expect("known").serving = serving;
    }

    /// Fence, then format or make the set smaller, with the store's consent; `true`: it serves.
    fn open(&mut self, slice: &SliceConfig, epoch: Epoch) -> bool {
        let map = self.maps.entry(slice.slice).or_default();
        if epoch < map.fence {
            return false;
        }
        map.fence = epoch;
        let ready: Vec<LegId> = slice
            .groups
            .iter()
            .flat_map(|group| &group.legs)
            .filter(|leg| {
                self.disk_nodes
                    .values()
                    .any(|node| node.spec.fabric_address == leg.address && node.is_ready(leg.leg))
            })
            .map(|leg| leg.leg)
            .collect();
        let Some(membership) = self.memberships.get_mut(&slice.slice) else {
            return false;
        };
        membership.epoch == epoch && record_sets(membership, slice, &ready)
    }

    /// The volumes as told; a created one must be there, and nothing gets smaller.
    fn keep_map(&mut self, pool: &PoolConfig, slice: SliceId) {
        let Map { volumes, .. } = self.maps.entry(slice).or_default();
        for volume in &pool.volumes {
            let known = volumes.contains_key(&volume.volume);
            if volume.deleting {
                volumes.remove(&volume.volume);
                continue;
            }
            assert!(
                known || !volume.created,
                "a created volume is not in the map (R9)"
            );
            let size = volumes.entry(volume.volume).or_default();
            assert!(*size <= volume.size_blocks, "a volume shrinks");
            *size = volume.size_blocks;
        }
        let told = |id| pool.volumes.iter().any(|volume| volume.volume == id);
        assert!(
            volumes.keys().all(|id| told(*id)),
            "a volume in the map that nobody speaks of any more"
        );
    }

    pub fn report_of_controller(&mut self, id: ControllerNodeId) {
        let node = &self.controller_nodes[&id];
        let known = node
            .observed
            .as_ref()
            .and_then(|observed| observed.status.clone());
        let status = if node.up {
            Some(self.status_of_controller(node))
        } else {
            known
        };
        let health = NodeHealth {
            reachable: node.up,
            since_ms: 0,
        };
        self.controller_nodes.get_mut(&id).expect("known").observed = Some(Observed { health, status });
    }

    fn status_of_controller(&self, node: &ControllerNode) -> ControllerNodeStatus {
        let pools = node.ledger.iter().flat_map(|ledger| ledger.pools.values());
        ControllerNodeStatus {
            node: node.spec.id,
            incarnation: node.spec.incarnation,
            revision: node.ledger.as_ref().map_or(Revision(0), |ledger| ledger.revision),
            slices: pools
                .flat_map(|pool| &pool.slices)
                .map(|slice| self.slice_status(node, slice))
                .collect(),
        }
    }

    fn slice_status(&self, node: &ControllerNode, slice: &SliceConfig) -> SliceStatus {
        let served = node.serving.get(&slice.slice);
        let volumes = self.maps.get(&slice.slice).filter(|_| served.is_some());
        let volumes = volumes.iter().flat_map(|map| &map.volumes);
        let status = |(volume, size): (&_, &u64)| VolumeStatus {
            volume: *volume,
            extents_mapped: 0,
            size_blocks: *size,
        };
        let state = match (served, slice.role) {
            (Some(_), _) => SliceState::Serving,
            (None, Role::Owner { incarnation, .. }) if incarnation == node.spec.incarnation => {
                SliceState::Opening {
                    waits_for: "its legs".into(),
                }
            }
            _ => SliceState::Standby,
        };
        SliceStatus {
            slice: slice.slice,
            state,
            epoch: served.copied().unwrap_or_default(),
            extents: 0,
            extents_used: 0,
            groups: Vec::new(),
            volumes: volumes.map(status).collect(),
        }
    }

    pub fn new_incarnation(&mut self) -> Incarnation {
        Incarnation(self.id())
    }
}

/// As an api-server would record it for the owner of the present epoch.
fn record_sets(membership: &mut Membership, slice: &SliceConfig, ready: &[LegId]) -> bool {
    for group in &slice.groups {
        let known = membership
            .groups
            .get_mut(&group.group)
            .expect("the grant names every group");
        let all_ready = group.legs.iter().all(|leg| ready.contains(&leg.leg));
        if !known.formatted && !all_ready {
            return false;
        }
        known.formatted = true;
        let alive: std::collections::BTreeSet<LegId> = known
            .in_sync
            .iter()
            .copied()
            .filter(|leg| ready.contains(leg))
            .collect();
        if alive.is_empty() {
            return false;
        }
        // A leg that is back was resynchronised in no time.
        known.in_sync = group
            .legs
            .iter()
            .map(|leg| leg.leg)
            .filter(|leg| ready.contains(leg))
            .collect();
    }
    membership.formatted = true;
    true
}
