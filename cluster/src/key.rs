//! The names of the store's records: one place, so that whoever writes a record and whoever reads it agree.
//!
//! | key | record | written by |
//! |---|---|---|
//! | `cluster` | [`ClusterSpec`](crate::spec::ClusterSpec) | the first api-server |
//! | `disk-nodes/{id}` | [`NodeSpec<DiskNodeId>`](crate::spec::NodeSpec) | api-servers (join, hello, cordon) |
//! | `controller-nodes/{id}` | [`NodeSpec<ControllerNodeId>`](crate::spec::NodeSpec) | api-servers |
//! | `pools/{id}` | [`PoolSpec`](crate::spec::PoolSpec) | api-servers; removed by workers |
//! | `volumes/{id}` | [`VolumeSpec`](crate::spec::VolumeSpec) | api-servers; `created` and removal by workers |
//! | `pool-volumes/{pool}/{volume}` | `null`: an index | together with its volume, always |
//! | `hosts/{id}` | [`HostSpec`](crate::spec::HostSpec) | api-servers |
//! | `attachments/{volume}/{host}` | [`AttachmentSpec`](crate::spec::AttachmentSpec) | api-servers; removed with the volume |
//! | `host-attachments/{host}/{volume}` | `null`: an index | together with its attachment, always |
//! | `names/{kind}/{name}` | the id, as text | together with what bears the name |
//! | `layouts/{pool}` | [`PoolLayout`](crate::layout::PoolLayout) | workers |
//! | `memberships/{slice}` | [`Membership`](crate::layout::Membership) | workers (grants), api-servers (for owners) |
//! | `membership-requests/{slice}` | the last request per group that was recorded under an epoch | api-servers (for owners); removed with the membership |
//! | `allocations/{disk node}` | [`DiskNodeAllocation`](crate::layout::DiskNodeAllocation) | workers |
//! | `progress/{pool}` | [`PoolProgress`](crate::status::PoolProgress) | workers |
//! | `configs/disk-nodes/{id}` | [`DiskNodeConfig`](crate::node_config::DiskNodeConfig) | workers |
//! | `configs/controller-nodes/{id}` | [`ControllerNodeConfig`](crate::node_config::ControllerNodeConfig) | workers |
//! | `status/disk-nodes/{id}` | [`Observed<DiskNodeStatus>`](crate::status::Observed) | workers |
//! | `status/controller-nodes/{id}` | [`Observed<ControllerNodeStatus>`](crate::status::Observed) | workers |
//! | `operations/{id}` | [`Operation`](crate::operation::Operation) | api-servers begin, workers end |
//! | `events/{id}` | [`Event`](crate::event::Event) | whoever makes the transition, in the same transaction |
//! | `workers/{id}` | [`WorkerRecord`](crate::status::WorkerRecord), under a lease | the worker |
//! | `idempotency/{key}` | the api-server's own | api-servers |
//!
//! Every record is JSON. No key is a prefix of a key of another kind: every kind but `cluster` ends in a slash.

use crate::event::EventId;
use crate::{ControllerNodeId, DiskNodeId, HostId, OperationId, PoolId, SliceId, VolumeId, WorkerId};

/// The cluster's own record.
pub const CLUSTER: &str = "cluster";
/// All disk nodes.
pub const DISK_NODES: &str = "disk-nodes/";
/// All controller nodes.
pub const CONTROLLER_NODES: &str = "controller-nodes/";
/// All pools.
pub const POOLS: &str = "pools/";
/// All volumes.
pub const VOLUMES: &str = "volumes/";
/// Which volumes a pool has.
pub const POOL_VOLUMES: &str = "pool-volumes/";
/// All hosts.
pub const HOSTS: &str = "hosts/";
/// All attachments, by volume.
pub const ATTACHMENTS: &str = "attachments/";
/// Which volumes a host is given.
pub const HOST_ATTACHMENTS: &str = "host-attachments/";
/// All names.
pub const NAMES: &str = "names/";
/// All layouts.
pub const LAYOUTS: &str = "layouts/";
/// All memberships.
pub const MEMBERSHIPS: &str = "memberships/";
/// The last membership requests that were recorded.
pub const MEMBERSHIP_REQUESTS: &str = "membership-requests/";
/// All allocations.
pub const ALLOCATIONS: &str = "allocations/";
/// What every pool waits for.
pub const PROGRESS: &str = "progress/";
/// All configurations of disk nodes.
pub const DISK_NODE_CONFIGS: &str = "configs/disk-nodes/";
/// All configurations of controller nodes.
pub const CONTROLLER_NODE_CONFIGS: &str = "configs/controller-nodes/";
/// What is known of all disk nodes.
pub const DISK_NODE_STATUS: &str = "status/disk-nodes/";
/// What is known of all controller nodes.
pub const CONTROLLER_NODE_STATUS: &str = "status/controller-nodes/";
/// All operations.
pub const OPERATIONS: &str = "operations/";
/// All events, oldest first.
pub const EVENTS: &str = "events/";
/// All living workers.
pub const WORKERS: &str = "workers/";
/// All idempotency keys.
pub const IDEMPOTENCY: &str = "idempotency/";

/// What bears a name; names are unique per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameKind {
    /// A disk node.
    DiskNode,
    /// A controller node.
    ControllerNode,
    /// A pool.
    Pool,
    /// A volume.
    Volume,
    /// A host.
    Host,
    /// A host, by its NQN: unique as well.
    HostNqn,
}

impl NameKind {
    /// As it stands in the key.
    pub fn as_str(self) -> &'static str {
        match self {
            NameKind::DiskNode => "disk-node",
            NameKind::ControllerNode => "controller-node",
            NameKind::Pool => "pool",
            NameKind::Volume => "volume",
            NameKind::Host => "host",
            NameKind::HostNqn => "host-nqn",
        }
    }
}

/// A disk node's spec.
pub fn disk_node(id: DiskNodeId) -> String {
    format!("{DISK_NODES}{id}")
}
/// A controller node's spec.
pub fn controller_node(id: ControllerNodeId) -> String {
    format!("{CONTROLLER_NODES}{id}")
}
/// A pool's spec.
pub fn pool(id: PoolId) -> String {
    format!("{POOLS}{id}")
}
/// A volume's spec.
pub fn volume(id: VolumeId) -> String {
    format!("{VOLUMES}{id}")
}
/// The index entry that says that the pool has the volume.
pub fn pool_volume(pool: PoolId, volume: VolumeId) -> String {
    format!("{POOL_VOLUMES}{pool}/{volume}")
}
/// The prefix of a pool's index entries.
pub fn volumes_of_pool(pool: PoolId) -> String {
    format!("{POOL_VOLUMES}{pool}/")
}
/// A host's spec.
pub fn host(id: HostId) -> String {
    format!("{HOSTS}{id}")
}
/// The attachment of a volume to a host.
pub fn attachment(volume: VolumeId, host: HostId) -> String {
    format!("{ATTACHMENTS}{volume}/{host}")
}
/// The prefix of a volume's attachments.
pub fn attachments_of_volume(volume: VolumeId) -> String {
    format!("{ATTACHMENTS}{volume}/")
}
/// The index entry that says that the host is given the volume.
pub fn host_attachment(host: HostId, volume: VolumeId) -> String {
    format!("{HOST_ATTACHMENTS}{host}/{volume}")
}
/// The prefix of a host's index entries.
pub fn attachments_of_host(host: HostId) -> String {
    format!("{HOST_ATTACHMENTS}{host}/")
}
/// Who bears a name.
pub fn name(kind: NameKind, name: &str) -> String {
    format!("{NAMES}{}/{name}", kind.as_str())
}
/// A pool's layout.
pub fn layout(pool: PoolId) -> String {
    format!("{LAYOUTS}{pool}")
}
/// A slice's membership.
pub fn membership(slice: SliceId) -> String {
    format!("{MEMBERSHIPS}{slice}")
}
/// The last request per group that was recorded for a slice's owner: one that comes late must not undo a later one.
pub fn membership_requests(slice: SliceId) -> String {
    format!("{MEMBERSHIP_REQUESTS}{slice}")
}
/// What is taken from a disk node.
pub fn allocation(node: DiskNodeId) -> String {
    format!("{ALLOCATIONS}{node}")
}
/// What a pool waits for.
pub fn progress(pool: PoolId) -> String {
    format!("{PROGRESS}{pool}")
}
/// A disk node's configuration.
pub fn disk_node_config(node: DiskNodeId) -> String {
    format!("{DISK_NODE_CONFIGS}{node}")
}
/// A controller node's configuration.
pub fn controller_node_config(node: ControllerNodeId) -> String {
    format!("{CONTROLLER_NODE_CONFIGS}{node}")
}
/// What is known of a disk node.
pub fn disk_node_status(node: DiskNodeId) -> String {
    format!("{DISK_NODE_STATUS}{node}")
}
/// What is known of a controller node.
pub fn controller_node_status(node: ControllerNodeId) -> String {
    format!("{CONTROLLER_NODE_STATUS}{node}")
}
/// An operation.
pub fn operation(id: OperationId) -> String {
    format!("{OPERATIONS}{id}")
}
/// An event.
pub fn event(id: &EventId) -> String {
    format!("{EVENTS}{id}")
}
/// A worker's registration.
pub fn worker(id: WorkerId) -> String {
    format!("{WORKERS}{id}")
}
/// What an api-server answered to a create with this key.
pub fn idempotency(key: &str) -> String {
    format!("{IDEMPOTENCY}{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trailing slash is what keeps prefix reads apart: `pools/` must not see `pool-volumes/`.
    #[test]
    fn no_kind_is_a_prefix_of_another() {
        let prefixes = [
            CLUSTER,
            DISK_NODES,
            CONTROLLER_NODES,
            POOLS,
            VOLUMES,
            POOL_VOLUMES,
            HOSTS,
            ATTACHMENTS,
            HOST_ATTACHMENTS,
            NAMES,
            LAYOUTS,
            MEMBERSHIPS,
            MEMBERSHIP_REQUESTS,
            ALLOCATIONS,
            PROGRESS,
            DISK_NODE_CONFIGS,
            CONTROLLER_NODE_CONFIGS,
            DISK_NODE_STATUS,
            CONTROLLER_NODE_STATUS,
            OPERATIONS,
            EVENTS,
            WORKERS,
            IDEMPOTENCY,
        ];
        for (i, one) in prefixes.iter().enumerate() {
            for (j, other) in prefixes.iter().enumerate() {
                assert!(i == j || !other.starts_with(one), "{one} is a prefix of {other}");
            }
        }
    }

    #[test]
    fn names_of_different_kinds_do_not_meet() {
        assert_eq!(name(NameKind::Host, "nqn/x"), "names/host/nqn/x");
        assert_ne!(name(NameKind::Host, "a"), name(NameKind::HostNqn, "a"));
    }
}
