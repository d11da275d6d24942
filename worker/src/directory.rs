//! What there is, by name only: which pools, nodes, workers and running operations, and which bears on which. Kept from
//! a snapshot and the store's changes; it says whom to wake, and nothing is decided from it.

use cluster::layout::Membership;
use cluster::node_config::{ControllerNodeConfig, DiskNodeConfig};
use cluster::operation::Operation;
use cluster::{ControllerNodeId, DiskNodeId, OperationId, PoolId, VolumeId, WorkerId, key};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use store::Change;

/// The keys a directory is filled from; the watch sees all.
pub(crate) const FILLED_FROM: [&str; 9] = [
    key::POOLS,
    key::LAYOUTS,
    key::POOL_VOLUMES,
    key::DISK_NODES,
    key::CONTROLLER_NODES,
    key::DISK_NODE_CONFIGS,
    key::CONTROLLER_NODE_CONFIGS,
    key::OPERATIONS,
    key::WORKERS,
];

/// What there is.
#[derive(Default)]
pub(crate) struct Directory {
    pub(crate) pools: BTreeSet<PoolId>,
    pub(crate) disk_nodes: BTreeSet<DiskNodeId>,
    pub(crate) controller_nodes: BTreeSet<ControllerNodeId>,
    pub(crate) workers: BTreeSet<WorkerId>,
    /// Those that run, and their pools.
    pub(crate) operations: BTreeMap<OperationId, PoolId>,
    placed: BTreeSet<PoolId>,
    volumes: BTreeMap<VolumeId, PoolId>,
    pools_of_disk_node: BTreeMap<DiskNodeId, BTreeSet<PoolId>>,
    pools_of_controller_node: BTreeMap<ControllerNodeId, BTreeSet<PoolId>>,
}

/// Whom a change concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wakes {
    pub(crate) pools: BTreeSet<PoolId>,
    pub(crate) disk_nodes: BTreeSet<DiskNodeId>,
    pub(crate) controller_nodes: BTreeSet<ControllerNodeId>,
}

/// A changed key with its new value, if it still has one.
struct Changed<'a> {
    key: &'a str,
    value: Option<&'a [u8]>,
}

impl<'a> Changed<'a> {
    fn rest(&self, prefix: &str) -> Option<&'a str> {
        self.key.strip_prefix(prefix)
    }
    fn id<T: FromStr>(&self, prefix: &str) -> Option<T> {
        self.rest(prefix)?.parse().ok()
    }
    /// A record that cannot be read concerns nobody here; whoever needs it will say so.
    fn record<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.value?).ok()
    }
    fn is_there(&self) -> bool {
        self.value.is_some()
    }
}

impl Directory {
    /// Take in a change; whom it concerns.
    pub(crate) fn apply(&mut self, change: &Change) -> Wakes {
        let Ok(key) = std::str::from_utf8(change.key()) else {
            return Wakes::default();
        };
        let value = if let Change::Put(entry) = change {
            Some(entry.value.as_slice())
        } else {
            None
        };
        let changed = Changed { key, value };
        let mut wakes = Wakes::default();
        self.pool_changed(&changed, &mut wakes);
        self.volume_changed(&changed, &mut wakes);
        self.node_changed(&changed, &mut wakes);
        self.status_changed(&changed, &mut wakes);
        self.operation_changed(&changed, &mut wakes);
        if let Some(id) = changed.id(key::WORKERS) {
            put(&mut self.workers, id, changed.is_there());
        }
        wakes
    }

    fn pool_changed(&mut self, changed: &Changed<'_>, wakes: &mut Wakes) {
        if let Some(pool) = changed.id(key::POOLS) {
            put(&mut self.pools, pool, changed.is_there());
            wakes.pools.insert(pool);
        }
        if let Some(pool) = changed.id(key::LAYOUTS) {
            put(&mut self.placed, pool, changed.is_there());
            wakes.pools.insert(pool);
        }
        if changed.rest(key::MEMBERSHIPS).is_some() {
            wakes
                .pools
                .extend(changed.record::<Membership>().map(|membership| membership.pool));
        }
    }

    fn volume_changed(&mut self, changed: &Changed<'_>, wakes: &mut Wakes) {
        if let Some((pool, volume)) = changed
            .rest(key::POOL_VOLUMES)
            .and_then(two_ids::<PoolId, VolumeId>)
        {
            if changed.is_there() {
                self.volumes.insert(volume, pool);
            } else {
                self.volumes.remove(&volume);
            }
            wakes.pools.insert(pool);
        }
        let of_volume = changed.id(key::VOLUMES);
        let of_attachment = changed
            .rest(key::ATTACHMENTS)
            .and_then(two_ids::<VolumeId, cluster::HostId>);
        let volume = of_volume.or(of_attachment.map(|(volume, _)| volume));
        wakes
            .pools
            .extend(volume.and_then(|volume| self.volumes.get(&volume)).copied());
    }

    /// A node that joins, returns with another address or may be used again concerns every pool; its configuration
    /// only itself.
    fn node_changed(&mut self, changed: &Changed<'_>, wakes: &mut Wakes) {
        if let Some(node) = changed.id(key::DISK_NODES) {
            put(&mut self.disk_nodes, node, changed.is_there());
            wakes.disk_nodes.insert(node);
            wakes.pools.extend(&self.pools);
        }
        if let Some(node) = changed.id(key::CONTROLLER_NODES) {
            put(&mut self.controller_nodes, node, changed.is_there());
            wakes.controller_nodes.insert(node);
            wakes.pools.extend(&self.pools);
        }
        if let Some(node) = changed.id(key::DISK_NODE_CONFIGS) {
            let config = changed.record::<DiskNodeConfig>();
            let pools = config
                .into_iter()
                .flat_map(|config| config.legs.into_keys())
                .collect();
            self.pools_of_disk_node.insert(node, pools);
            wakes.disk_nodes.insert(node);
        }
        if let Some(node) = changed.id(key::CONTROLLER_NODE_CONFIGS) {
            let config = changed.record::<ControllerNodeConfig>();
            let pools = config
                .into_iter()
                .flat_map(|config| config.pools.into_keys())
                .collect();
            self.pools_of_controller_node.insert(node, pools);
            wakes.controller_nodes.insert(node);
        }
    }

    /// What a node says concerns its pools, those that wait for a place, and those that go: their legs are in no
    /// configuration any more.
    fn status_changed(&mut self, changed: &Changed<'_>, wakes: &mut Wakes) {
        let of_disk_node = changed.id(key::DISK_NODE_STATUS);
        let of_controller_node = changed.id(key::CONTROLLER_NODE_STATUS);
        if of_disk_node.is_none() && of_controller_node.is_none() {
            return;
        }
        let by_disk_node = of_disk_node.and_then(|node| self.pools_of_disk_node.get(&node));
        let by_controller_node = of_controller_node.and_then(|node| self.pools_of_controller_node.get(&node));
        let known = self
            .pools_of_disk_node
            .values()
            .chain(self.pools_of_controller_node.values());
        let in_configs: BTreeSet<&PoolId> = known.flatten().collect();
        wakes
            .pools
            .extend(by_disk_node.into_iter().chain(by_controller_node).flatten());
        wakes.pools.extend(
            self.pools
                .iter()
                .filter(|pool| !self.placed.contains(pool) || !in_configs.contains(pool)),
        );
    }

    fn operation_changed(&mut self, changed: &Changed<'_>, wakes: &mut Wakes) {
        let Some(id) = changed.id(key::OPERATIONS) else {
            return;
        };
        let running = changed
            .record::<Operation>()
            .filter(|operation| operation.state.is_running());
        match running {
            Some(operation) => {
                // Its own notes on what it waits for wake nobody.
                if self.operations.insert(id, operation.wish.pool()).is_none() {
                    wakes.pools.insert(operation.wish.pool());
                }
            }
            None => _ = self.operations.remove(&id),
        }
    }

    /// The running operations of a pool.
    pub(crate) fn operations_of(&self, pool: PoolId) -> Vec<OperationId> {
        self.operations
            .iter()
            .filter(|(_, of)| **of == pool)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Pools there are, and pools that are gone but waited for by an operation.
    pub(crate) fn pools_to_look_at(&self) -> BTreeSet<PoolId> {
        self.pools
            .iter()
            .chain(self.operations.values())
            .copied()
            .collect()
    }
}

fn put<T: Ord>(set: &mut BTreeSet<T>, id: T, is_there: bool) {
    if is_there {
        set.insert(id);
    } else {
        set.remove(&id);
    }
}

fn two_ids<A: FromStr, B: FromStr>(rest: &str) -> Option<(A, B)> {
    let (first, second) = rest.split_once('/')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{KeyValue, StoreRevision};
    use uuid::Uuid;

    fn put(key: String, value: &str) -> Change {
        let revision = StoreRevision(1);
        let entry = KeyValue {
            key: key.into_bytes(),
            value: value.as_bytes().to_vec(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: None,
        };
        Change::Put(entry)
    }

    fn deleted(key: String) -> Change {
        Change::Delete {
            key: key.into_bytes(),
            revision: StoreRevision(2),
        }
    }

    fn pool(n: u128) -> PoolId {
        PoolId(Uuid::from_u128(n))
    }

    /// Pool 1 is placed on disk node 1, pool 2 is not placed yet.
    fn directory() -> Directory {
        let mut directory = Directory::default();
        let node = DiskNodeId(Uuid::from_u128(1));
        let config = DiskNodeConfig {
            node,
            revision: cluster::Revision(1),
            legs: BTreeMap::from([(pool(1), Vec::new())]),
        };
        for change in [
            put(key::pool(pool(1)), "{}"),
            put(key::pool(pool(2)), "{}"),
            put(key::layout(pool(1)), "{}"),
            put(key::pool_volume(pool(1), VolumeId(Uuid::from_u128(7))), "null"),
            put(
                key::disk_node_config(node),
                &serde_json::to_string(&config).unwrap(),
            ),
        ] {
            directory.apply(&change);
        }
        directory
    }

    #[test]
    fn every_change_wakes_whom_it_concerns() {
        let (none, one, both): (&[u128], &[u128], &[u128]) = (&[], &[1], &[1, 2]);
        let volume = VolumeId(Uuid::from_u128(7));
        let node = DiskNodeId(Uuid::from_u128(1));
        let host = cluster::HostId(Uuid::from_u128(8));
        for (key, pools, wakes_node) in [
            (key::pool(pool(1)), one, false),
            (key::layout(pool(1)), one, false),
            (key::volume(volume), one, false),
            (key::attachment(volume, host), one, false),
            (key::pool_volume(pool(1), volume), one, false),
            (key::disk_node(node), both, true),
            (key::disk_node_config(node), none, true),
            (key::disk_node_status(node), both, false),
            (key::progress(pool(1)), none, false),
        ] {
            for change in [put(key.clone(), "{}"), deleted(key.clone())] {
                // Each against a directory of its own: a change also changes it.
                let wakes = directory().apply(&change);
                let pools = pools.iter().map(|n| pool(*n)).collect();
                let disk_nodes = wakes_node.then_some(node).into_iter().collect();
                assert_eq!(
                    wakes,
                    Wakes {
                        pools,
                        disk_nodes,
                        ..Wakes::default()
                    },
                    "{change:?}"
                );
            }
        }
    }

    #[test]
    fn a_pool_that_goes_is_woken_by_every_status() {
        let mut directory = directory();
        let node = DiskNodeId(Uuid::from_u128(1));
        directory.apply(&deleted(key::disk_node_config(node)));
        let wakes = directory.apply(&put(key::disk_node_status(node), "{}"));
        assert!(wakes.pools.contains(&pool(1)), "its legs are being swept");
    }
}
