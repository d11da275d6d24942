//! At rest: the faults have stopped, and some time has passed. Every operation has ended, every node holds what its configuration record says,
//! every pool is served, and the store has what the specs imply: no more, no less.

use super::Oracle;
use crate::control::seat::Seat;
use cluster::key::{self, NameKind};
use cluster::layout::{DiskNodeAllocation, Membership, PoolLayout};
use cluster::node_config::{ControllerNodeConfig, DiskNodeConfig, Role};
use cluster::operation::{Operation, OperationState};
use cluster::spec::{AttachmentSpec, HostSpec, NodeSpec, PoolSpec, VolumeSpec};
use cluster::status::{PoolProgress, SliceState, WorkerRecord};
use cluster::{ControllerNodeId, DiskNodeId, LegId};
use control::agent::{NodeKind, NodeStatus};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

impl Oracle {
    /// Why the world is not at rest; nothing: it is. `workers` is how many live.
    pub fn unrest(&self, seats: &[Arc<Seat>], workers: usize) -> Vec<String> {
        let mut found = self.operations_running();
        found.extend(self.nodes_behind(seats));
        found.extend(self.pools_unserved());
        found.extend(self.keys_unexpected());
        found.extend(self.space_leaked());
        let registered = self.all::<WorkerRecord>(key::WORKERS).len();
        if registered != workers {
            found.push(format!("{registered} workers are registered, {workers} live"));
        }
        found
    }

    /// The ids of nodes that have records.
    pub fn known_nodes(&self) -> BTreeSet<Uuid> {
        let disk_nodes = self.all::<NodeSpec<DiskNodeId>>(key::DISK_NODES).into_iter();
        let controllers = self
            .all::<NodeSpec<ControllerNodeId>>(key::CONTROLLER_NODES)
            .into_iter();
        let controllers = controllers.map(|spec| spec.id.0);
        disk_nodes.map(|spec| spec.id.0).chain(controllers).collect()
    }

    fn operations_running(&self) -> Vec<String> {
        let running = self.all::<Operation>(key::OPERATIONS).into_iter();
        // What is wished of a pool that there is no place for waits with it, and says so.
        let placed = |operation: &Operation| self.records.contains_key(&key::layout(operation.wish.pool()));
        let waits = |operation: &Operation| match &operation.state {
            OperationState::Running { waits_for } => !waits_for.is_empty(),
            _ => false,
        };
        let running = running.filter(|operation| operation.state.is_running());
        let running = running.filter(|operation| placed(operation) || !waits(operation));
        running
            .map(|operation| format!("{:?} has not ended: {:?}", operation.wish, operation.state))
            .collect()
    }

    fn nodes_behind(&self, seats: &[Arc<Seat>]) -> Vec<String> {
        let running = seats.iter().filter(|seat| seat.is_running());
        running.filter_map(|seat| self.node_behind(seat)).collect()
    }

    fn node_behind(&self, seat: &Seat) -> Option<String> {
        let status = self.plane.lock().expect("one thread").status(seat.id);
        let (wanted, holds) = match (&status, seat.kind) {
            (NodeStatus::DiskNode(status), _) => {
                let config: Option<DiskNodeConfig> = self.record(key::disk_node_config(DiskNodeId(seat.id)));
                let legs = config.iter().flat_map(|config| config.legs.values().flatten());
                let wanted: BTreeSet<LegId> = legs.map(|leg| leg.leg).collect();
                let holds: BTreeSet<LegId> = status.legs.iter().map(|leg| leg.leg).collect();
                (config.map(|config| config.revision), wanted == holds)
            }
            (NodeStatus::ControllerNode(_), NodeKind::ControllerNode) => {
                let key = key::controller_node_config(ControllerNodeId(seat.id));
                let config: Option<ControllerNodeConfig> = self.record(key);
                (config.map(|config| config.revision), true)
            }
            _ => (None, false),
        };
        let is = status.revision();
        let current = is == wanted.unwrap_or_default() && holds;
        (!current).then(|| format!("{} holds revision {is:?}, not what {wanted:?} says", seat.name))
    }

    fn pools_unserved(&self) -> Vec<String> {
        let pools = self.all::<PoolSpec>(key::POOLS).into_iter();
        pools.filter_map(|pool| self.pool_unserved(&pool)).collect()
    }

    fn pool_unserved(&self, pool: &PoolSpec) -> Option<String> {
        let progress: PoolProgress = self.record(key::progress(pool.id)).unwrap_or_default();
        let Some(layout) = self.record::<PoolLayout>(key::layout(pool.id)) else {
            // One that there is no space for waits, and says so.
            let waits = !progress.waits.is_empty();
            return (!waits).then(|| format!("pool {} is not placed and waits for nothing", pool.name));
        };
        let served = layout.slices.iter().all(|slice| {
            let membership: Option<Membership> = self.record(key::membership(slice.slice));
            membership.is_some_and(|membership| self.is_served(&membership))
        });
        if pool.deleting || !served || !progress.waits.is_empty() {
            return Some(format!(
                "pool {}: served {served}, waits {:?}",
                pool.name, progress.waits
            ));
        }
        None
    }

    /// By the owner of the record, in truth.
    fn is_served(&self, membership: &Membership) -> bool {
        let status = self.plane.lock().expect("one thread").status(membership.owner.0);
        let NodeStatus::ControllerNode(status) = status else {
            return false;
        };
        let key = key::controller_node_config(membership.owner);
        let config: Option<ControllerNodeConfig> = self.record(key);
        let role = Role::Owner {
            epoch: membership.epoch,
            incarnation: membership.owner_incarnation,
        };
        let slices = config
            .iter()
            .flat_map(|config| config.pools.values())
            .flat_map(|pool| &pool.slices);
        let told = slices
            .filter(|slice| slice.slice == membership.slice)
            .any(|slice| slice.role == role);
        let found = status.slices.iter().find(|found| found.slice == membership.slice);
        told && found
            .is_some_and(|found| found.state == SliceState::Serving && found.epoch == membership.epoch)
    }

    /// Space is taken by the legs of layouts, by all of them, and by nothing else.
    fn space_leaked(&self) -> Vec<String> {
        let layouts = self.all::<PoolLayout>(key::LAYOUTS);
        let legs = layouts
            .iter()
            .flat_map(|layout| layout.legs().chain(&layout.retired));
        let wanted: BTreeSet<(LegId, u64)> = legs.map(|leg| (leg.leg, leg.extents)).collect();
        let allocations = self.all::<DiskNodeAllocation>(key::ALLOCATIONS);
        let taken = allocations
            .iter()
            .flat_map(|allocation| allocation.disks.values().flatten());
        let taken: BTreeSet<(LegId, u64)> = taken.map(|(leg, extents)| (*leg, *extents)).collect();
        let odd = taken.symmetric_difference(&wanted);
        odd.map(|(leg, extents)| format!("{extents} extents of leg {leg} are leaked, or not taken"))
            .collect()
    }

    /// Keys that the specs do not imply, and keys that they imply and are not there.
    fn keys_unexpected(&self) -> Vec<String> {
        let (must, may) = (self.keys_implied(), self.keys_allowed());
        let is_free = |name: &str| {
            let ends = [key::OPERATIONS, key::EVENTS, key::WORKERS];
            ends.into_iter().any(|prefix| name.starts_with(prefix))
                || (name.starts_with(key::IDEMPOTENCY) && self.leased.contains(name))
        };
        let present = self.records.keys().filter(|name| !is_free(name));
        let leaked = present.filter(|name| !must.contains(*name) && !may.contains(*name));
        let leaked = leaked.map(|name| format!("{name} is leaked"));
        let missing = must.iter().filter(|name| !self.records.contains_key(*name));
        leaked
            .chain(missing.map(|name| format!("{name} is missing")))
            .collect()
    }

    fn keys_implied(&self) -> BTreeSet<String> {
        let mut keys = BTreeSet::from([key::CLUSTER.to_owned()]);
        for node in self.all::<NodeSpec<DiskNodeId>>(key::DISK_NODES) {
            keys.extend([key::disk_node(node.id), key::name(NameKind::DiskNode, &node.name)]);
            keys.insert(key::disk_node_status(node.id));
        }
        for node in self.all::<NodeSpec<ControllerNodeId>>(key::CONTROLLER_NODES) {
            keys.extend([
                key::controller_node(node.id),
                key::name(NameKind::ControllerNode, &node.name),
            ]);
            keys.insert(key::controller_node_status(node.id));
        }
        for pool in self.all::<PoolSpec>(key::POOLS) {
            keys.extend([
                key::pool(pool.id),
                key::name(NameKind::Pool, &pool.name),
                key::progress(pool.id),
            ]);
        }
        for layout in self.all::<PoolLayout>(key::LAYOUTS) {
            keys.extend(layout.slices.iter().map(|slice| key::membership(slice.slice)));
        }
        for volume in self.all::<VolumeSpec>(key::VOLUMES) {
            keys.extend([key::volume(volume.id), key::name(NameKind::Volume, &volume.name)]);
            keys.extend([key::pool_volume(volume.pool, volume.id), key::pool(volume.pool)]);
        }
        for host in self.all::<HostSpec>(key::HOSTS) {
            keys.extend([key::host(host.id), key::name(NameKind::Host, &host.name)]);
            keys.insert(key::name(NameKind::HostNqn, &host.nqn.0));
        }
        for given in self.all::<AttachmentSpec>(key::ATTACHMENTS) {
            keys.extend([
                key::attachment(given.volume, given.host),
                key::host_attachment(given.host, given.volume),
            ]);
            keys.extend([key::volume(given.volume), key::host(given.host)]);
        }
        keys
    }

    /// What may be there or not, as the past was.
    fn keys_allowed(&self) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        for node in self.all::<NodeSpec<DiskNodeId>>(key::DISK_NODES) {
            keys.extend([key::allocation(node.id), key::disk_node_config(node.id)]);
        }
        for node in self.all::<NodeSpec<ControllerNodeId>>(key::CONTROLLER_NODES) {
            keys.insert(key::controller_node_config(node.id));
        }
        for pool in self.all::<PoolSpec>(key::POOLS) {
            let layout = key::layout(pool.id);
            let slices = self
                .record::<PoolLayout>(&layout)
                .into_iter()
                .flat_map(|layout| layout.slices);
            keys.extend(slices.map(|slice| key::membership_requests(slice.slice)));
            keys.insert(layout);
        }
        keys
    }
}
