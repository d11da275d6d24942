//! Reading what bears on one pool, all of one revision.
//!
//! The records that only the plan itself changes are read to be compared at the commit: the pool's spec and layout, the
//! memberships, the specs of the layout's nodes. What others change at any time (volumes, attachments, status) is read
//! without: whatever changed meanwhile wakes the pool again, and a plan from older wishes or older status is one of
//! yesterday, not a wrong one. Records that the plan writes are read again, to be compared, when they are written.

use cluster::layout::{DiskNodeAllocation, Membership, PoolLayout};
use cluster::plan::{needs_all_nodes, nodes_of};
use cluster::spec::{AttachmentSpec, HostSpec, NodeSpec, PoolSpec, VolumeSpec};
use cluster::view::{ControllerNodeView, DiskNodeView, PoolInput};
use cluster::{ControllerNodeId, DiskNodeId, HostId, PoolId, SliceId, VolumeId, key};
use futures::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use store::{KeyRange, TransactionError, Txn, Versioned};

/// Everything that bears on the pool; `None` if there is no such pool.
pub(crate) async fn pool_input(txn: &Txn, pool: PoolId) -> Result<Option<PoolInput>, TransactionError> {
    let Some(spec) = txn.get::<PoolSpec>(key::pool(pool)).await? else {
        return Ok(None);
    };
    let layout = txn.get::<PoolLayout>(key::layout(pool)).await?;
    let memberships = memberships(txn, layout.as_ref()).await?;
    let volumes = volumes(txn, &spec).await?;
    let attachments = attachments(txn, volumes.keys().copied()).await?;
    let hosts = hosts(txn, attachments.iter().map(|attachment| attachment.host)).await?;
    let (disk_nodes, controller_nodes) = nodes(txn, &spec, layout.as_ref()).await?;
    Ok(Some(PoolInput {
        spec,
        volumes,
        attachments,
        hosts,
        layout,
        memberships,
        disk_nodes,
        controller_nodes,
    }))
}

async fn memberships(
    txn: &Txn,
    layout: Option<&PoolLayout>,
) -> Result<BTreeMap<SliceId, Membership>, TransactionError> {
    let mut found = BTreeMap::new();
    for slice in layout.into_iter().flat_map(|layout| &layout.slices) {
        let membership = txn.get::<Membership>(key::membership(slice.slice)).await?;
        found.extend(membership.map(|membership| (slice.slice, membership)));
    }
    Ok(found)
}

/// By the index. Where the pool goes, the index is compared: a volume made meanwhile keeps it.
async fn volumes(txn: &Txn, spec: &PoolSpec) -> Result<BTreeMap<VolumeId, VolumeSpec>, TransactionError> {
    let range = KeyRange::prefix(key::volumes_of_pool(spec.id));
    let index: Vec<Versioned<serde::de::IgnoredAny>> = txn.peek_range(range.clone()).await?;
    if spec.deleting && index.is_empty() {
        txn.range::<serde::de::IgnoredAny>(range).await?;
    }
    let ids = index
        .iter()
        .filter_map(|entry| entry.key.rsplit('/').next()?.parse::<VolumeId>().ok());
    let volumes = try_join_all(ids.map(|id| txn.peek::<VolumeSpec>(key::volume(id)))).await?;
    Ok(volumes
        .into_iter()
        .flatten()
        .map(|volume| (volume.id, volume))
        .collect())
}

async fn attachments(
    txn: &Txn,
    volumes: impl Iterator<Item = VolumeId>,
) -> Result<Vec<AttachmentSpec>, TransactionError> {
    let ranges = volumes.map(|volume| KeyRange::prefix(key::attachments_of_volume(volume)));
    let found = try_join_all(ranges.map(|range| txn.peek_range::<AttachmentSpec>(range))).await?;
    Ok(found
        .into_iter()
        .flatten()
        .map(|versioned| versioned.record)
        .collect())
}

async fn hosts(
    txn: &Txn,
    ids: impl Iterator<Item = HostId>,
) -> Result<BTreeMap<HostId, HostSpec>, TransactionError> {
    let ids: BTreeSet<HostId> = ids.collect();
    let found = try_join_all(ids.iter().map(|id| txn.peek::<HostSpec>(key::host(*id)))).await?;
    Ok(found.into_iter().flatten().map(|host| (host.id, host)).collect())
}

type Nodes = (
    BTreeMap<DiskNodeId, DiskNodeView>,
    BTreeMap<ControllerNodeId, ControllerNodeView>,
);

async fn nodes(txn: &Txn, spec: &PoolSpec, layout: Option<&PoolLayout>) -> Result<Nodes, TransactionError> {
    let (mut disk_nodes, mut controller_nodes) = nodes_of(spec, layout);
    for id in &disk_nodes {
        txn.exists(key::disk_node(*id)).await?;
    }
    for id in &controller_nodes {
        txn.exists(key::controller_node(*id)).await?;
    }
    if needs_all_nodes(spec, layout) {
        let all: Vec<Versioned<NodeSpec<DiskNodeId>>> =
            txn.peek_range(KeyRange::prefix(key::DISK_NODES)).await?;
        disk_nodes.extend(all.iter().map(|node| node.record.id));
        let all: Vec<Versioned<NodeSpec<ControllerNodeId>>> =
            txn.peek_range(KeyRange::prefix(key::CONTROLLER_NODES)).await?;
        controller_nodes.extend(all.iter().map(|node| node.record.id));
    }
    let disk_nodes = try_join_all(disk_nodes.into_iter().map(|id| disk_node(txn, id))).await?;
    let controller_nodes =
        try_join_all(controller_nodes.into_iter().map(|id| controller_node(txn, id))).await?;
    Ok((
        disk_nodes.into_iter().flatten().collect(),
        controller_nodes.into_iter().flatten().collect(),
    ))
}

async fn disk_node(
    txn: &Txn,
    id: DiskNodeId,
) -> Result<Option<(DiskNodeId, DiskNodeView)>, TransactionError> {
    let Some(spec) = txn.peek(key::disk_node(id)).await? else {
        return Ok(None);
    };
    let allocation: Option<DiskNodeAllocation> = txn.peek(key::allocation(id)).await?;
    let view = DiskNodeView {
        spec,
        allocation: allocation.unwrap_or_default(),
        observed: txn.peek(key::disk_node_status(id)).await?,
        config: txn.peek(key::disk_node_config(id)).await?,
    };
    Ok(Some((id, view)))
}

async fn controller_node(
    txn: &Txn,
    id: ControllerNodeId,
) -> Result<Option<(ControllerNodeId, ControllerNodeView)>, TransactionError> {
    let Some(spec) = txn.peek(key::controller_node(id)).await? else {
        return Ok(None);
    };
    let view = ControllerNodeView {
        spec,
        observed: txn.peek(key::controller_node_status(id)).await?,
        config: txn.peek(key::controller_node_config(id)).await?,
    };
    Ok(Some((id, view)))
}
