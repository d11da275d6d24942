//! What a worker committed for a pool, judged by `cluster`'s audit as if it had been planned at that very moment.

use super::{Oracle, Step, parsed};
use cluster::audit::audit;
use cluster::layout::{Membership, PoolLayout};
use cluster::node_config::{ControllerNodeConfig, DiskNodeConfig};
use cluster::plan::{Plan, VolumeChange};
use cluster::spec::{AttachmentSpec, HostSpec, NodeSpec, PoolSpec, VolumeSpec};
use cluster::status::{NodeHealth, Observed};
use cluster::view::{ControllerNodeView, DiskNodeView, PoolInput};
use cluster::{ControllerNodeId, DiskNodeId, PoolId, VolumeId, key};
use control::agent::NodeStatus;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// The records as they were before a step.
struct Before<'a> {
    oracle: &'a Oracle,
    step: &'a Step<'a>,
}

impl Before<'_> {
    fn bytes(&self, name: &str) -> Option<&Vec<u8>> {
        match self.step.before.get(name) {
            Some(before) => before.as_ref(),
            None => self.oracle.records.get(name),
        }
    }
    fn record<T: DeserializeOwned>(&self, name: impl AsRef<str>) -> Option<T> {
        self.bytes(name.as_ref()).map(|bytes| parsed(bytes))
    }
    fn all<T: DeserializeOwned>(&self, prefix: &str) -> Vec<T> {
        let now = self.oracle.records.keys().chain(self.step.before.keys());
        let names: BTreeSet<&String> = now.filter(|name| name.starts_with(prefix)).collect();
        names.into_iter().filter_map(|name| self.record(name)).collect()
    }
}

impl Oracle {
    /// Only what workers write of pools.
    pub(super) fn audit(&mut self, step: &Step<'_>) {
        let planned = [key::LAYOUTS, key::MEMBERSHIPS, key::ALLOCATIONS, "configs/"];
        let touches = |prefix: &str| step.before.keys().any(|name| name.starts_with(prefix));
        if !step.by.starts_with('w') || !planned.into_iter().any(touches) {
            return;
        }
        let before = Before { oracle: self, step };
        let pools = pools_of(&before);
        let found = match pools.iter().collect::<Vec<_>>()[..] {
            [pool] => judged(&before, *pool),
            _ => vec![format!("one plan is of the pools {pools:?}")],
        };
        if !found.is_empty() {
            self.accuse("audit", found.join("; "));
        }
    }
}

/// Whose records the step wrote.
fn pools_of(before: &Before<'_>) -> BTreeSet<PoolId> {
    let mut pools = BTreeSet::new();
    for name in before.step.before.keys() {
        let now = before.oracle.records.get(name);
        if let Some(pool) = name.strip_prefix(key::LAYOUTS) {
            pools.extend(pool.parse::<PoolId>());
        }
        if name.starts_with(key::MEMBERSHIPS) {
            let either = now.or(before.bytes(name));
            pools.extend(either.map(|bytes| parsed::<Membership>(bytes).pool));
        }
        if name.starts_with(key::DISK_NODE_CONFIGS) {
            let legs = |bytes: Option<&Vec<u8>>| bytes.map(|bytes| parsed::<DiskNodeConfig>(bytes).legs);
            pools.extend(differing(legs(before.bytes(name)), legs(now)));
        }
        if name.starts_with(key::CONTROLLER_NODE_CONFIGS) {
            let parts =
                |bytes: Option<&Vec<u8>>| bytes.map(|bytes| parsed::<ControllerNodeConfig>(bytes).pools);
            pools.extend(differing(parts(before.bytes(name)), parts(now)));
        }
    }
    pools
}

fn differing<T: PartialEq>(
    before: Option<BTreeMap<PoolId, T>>,
    after: Option<BTreeMap<PoolId, T>>,
) -> Vec<PoolId> {
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let all: BTreeSet<PoolId> = before.keys().chain(after.keys()).copied().collect();
    all.into_iter()
        .filter(|pool| before.get(pool) != after.get(pool))
        .collect()
}

fn judged(before: &Before<'_>, pool: PoolId) -> Vec<String> {
    let Some(spec) = before.record::<PoolSpec>(key::pool(pool)) else {
        return vec![format!("pool {pool} was planned without being wished")];
    };
    let violations = audit(&input_of(before, spec), &plan_of(before, pool));
    violations.iter().map(ToString::to_string).collect()
}

fn input_of(before: &Before<'_>, spec: PoolSpec) -> PoolInput {
    let volumes = before.all::<VolumeSpec>(key::VOLUMES).into_iter();
    let volumes = volumes.filter(|volume| volume.pool == spec.id);
    let memberships = before.all::<Membership>(key::MEMBERSHIPS).into_iter();
    let memberships = memberships.filter(|membership| membership.pool == spec.id);
    let hosts = before.all::<HostSpec>(key::HOSTS).into_iter();
    PoolInput {
        volumes: volumes.map(|volume| (volume.id, volume)).collect(),
        attachments: before.all::<AttachmentSpec>(key::ATTACHMENTS),
        hosts: hosts.map(|host| (host.id, host)).collect(),
        layout: before.record(key::layout(spec.id)),
        memberships: memberships.map(|found| (found.slice, found)).collect(),
        disk_nodes: disk_nodes(before),
        controller_nodes: controller_nodes(before),
        spec,
    }
}

/// With what is true of their disks, not what was reported.
fn disk_nodes(before: &Before<'_>) -> BTreeMap<DiskNodeId, DiskNodeView> {
    let view = |spec: NodeSpec<DiskNodeId>| {
        let id = spec.id;
        let NodeStatus::DiskNode(status) = before.oracle.plane.lock().expect("one thread").status(id.0)
        else {
            unreachable!("it is a disk node");
        };
        let health = NodeHealth {
            reachable: true,
            since_ms: 0,
        };
        let view = DiskNodeView {
            spec,
            allocation: before.record(key::allocation(id)).unwrap_or_default(),
            observed: Some(Observed {
                health,
                status: Some(status),
            }),
            config: before.record(key::disk_node_config(id)),
        };
        (id, view)
    };
    before.all(key::DISK_NODES).into_iter().map(view).collect()
}

fn controller_nodes(before: &Before<'_>) -> BTreeMap<ControllerNodeId, ControllerNodeView> {
    let view = |spec: NodeSpec<ControllerNodeId>| {
        let id = spec.id;
        let view = ControllerNodeView {
            spec,
            observed: None,
            config: before.record(key::controller_node_config(id)),
        };
        (id, view)
    };
    before.all(key::CONTROLLER_NODES).into_iter().map(view).collect()
}

/// What the step made of the pool.
fn plan_of(before: &Before<'_>, pool: PoolId) -> Plan {
    let now = before.oracle;
    let written = |prefix: &'static str| {
        let names = before
            .step
            .before
            .keys()
            .filter(move |name| name.starts_with(prefix));
        names.filter(|name| now.records.contains_key(*name))
    };
    let id = |name: &str, prefix: &str| name[prefix.len()..].parse::<uuid::Uuid>().expect("an id");
    let memberships = now.all::<Membership>(key::MEMBERSHIPS).into_iter();
    let memberships = memberships.filter(|membership| membership.pool == pool);
    let disk_node_configs =
        written(key::DISK_NODE_CONFIGS).filter_map(|name| now.record::<DiskNodeConfig>(name));
    let controllers = written(key::CONTROLLER_NODE_CONFIGS);
    let controllers = controllers.filter_map(|name| now.record::<ControllerNodeConfig>(name));
    Plan {
        layout: now.record::<PoolLayout>(key::layout(pool)),
        memberships: memberships.map(|found| (found.slice, found)).collect(),
        allocations: written(key::ALLOCATIONS)
            .filter_map(|name| Some((DiskNodeId(id(name, key::ALLOCATIONS)), now.record(name)?)))
            .collect(),
        disk_node_configs: disk_node_configs.map(|config| (config.node, config)).collect(),
        controller_node_configs: controllers.map(|config| (config.node, config)).collect(),
        volumes: volume_changes(before),
        pool_gone: now.record::<PoolSpec>(key::pool(pool)).is_none(),
        waits: Vec::new(),
        steps: Vec::new(),
    }
}

fn volume_changes(before: &Before<'_>) -> BTreeMap<VolumeId, VolumeChange> {
    let names = before
        .step
        .before
        .keys()
        .filter(|name| name.starts_with(key::VOLUMES));
    let change = |name: &String| {
        let was: VolumeSpec = before.record(name)?;
        let change = match before.oracle.record::<VolumeSpec>(name) {
            None => VolumeChange::Gone,
            Some(_) => VolumeChange::Created,
        };
        Some((was.id, change))
    };
    names.filter_map(change).collect()
}
