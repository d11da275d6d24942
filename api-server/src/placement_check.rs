//! Whether a new pool could be placed now: told at once, with numbers, rather than found out by waiting. The planner
//! decides; a node that said hello and has not been asked yet is given the benefit of the doubt.

use crate::error::ApiError;
use crate::facts::{controller_node_view, disk_node_view};
use cluster::key;
use cluster::placement::{PlacementError, choose_controllers, choose_legs};
use cluster::spec::{NodeSpec, PoolSpec};
use cluster::view::{ControllerNodeView, DiskNodeView};
use cluster::{ControllerNodeId, DiskNodeId};
use control::problem::ProblemKind;
use std::collections::{BTreeMap, BTreeSet};
use store::{KeyRange, Txn};

/// Refuse a pool that nothing could be found for.
///
/// Errors: too few nodes, no space.
pub(crate) async fn check_placement(txn: &Txn, spec: &PoolSpec) -> Result<(), ApiError> {
    let disk_nodes = disk_nodes(txn).await?;
    let unknown = disk_nodes
        .values()
        .filter(|node| is_unknown(node.spec.cordoned, node.is_up(), reachable(node)));
    let legs = spec.protection.legs();
    if let Err(error) = choose_legs(legs, spec.capacity_bytes, &disk_nodes)
        && found(&error) + unknown.count() < legs
    {
        return Err(refusal(spec, &error, &disk_nodes));
    }
    let controllers = controller_nodes(txn).await?;
    let unknown = controllers.values().filter(|node| {
        let reachable = node.observed.as_ref().map(|observed| observed.health.reachable);
        is_unknown(node.spec.cordoned, node.is_up(), reachable)
    });
    let count = usize::from(spec.controller_count);
    match choose_controllers(count, &BTreeSet::new(), spec.owner, &controllers) {
        Err(error) if found(&error) + unknown.count() < count => Err(refusal(spec, &error, &disk_nodes)),
        _ => Ok(()),
    }
}

/// It may yet turn out to be up.
fn is_unknown(cordoned: bool, up: bool, reachable: Option<bool>) -> bool {
    !cordoned && !up && reachable != Some(false)
}

fn reachable(node: &DiskNodeView) -> Option<bool> {
    node.observed.as_ref().map(|observed| observed.health.reachable)
}

fn found(error: &PlacementError) -> usize {
    match error {
        PlacementError::TooFewDiskNodes { found, .. }
        | PlacementError::TooFewControllerNodes { found, .. } => *found,
        _ => 0,
    }
}

fn refusal(
    spec: &PoolSpec,
    error: &PlacementError,
    disk_nodes: &BTreeMap<DiskNodeId, DiskNodeView>,
) -> ApiError {
    let up = disk_nodes
        .values()
        .filter(|node| node.is_up() && !node.spec.cordoned)
        .count();
    let (kind, hint) = match error {
        PlacementError::TooFewDiskNodes { .. } | PlacementError::LegLength { .. }
            if up >= spec.protection.legs() =>
        {
            (
                ProblemKind::NoSpace,
                "choose a smaller capacity, or add disks or disk nodes",
            )
        }
        PlacementError::TooFewControllerNodes { .. } => (
            ProblemKind::TooFewNodes,
            "start more controller nodes, or choose a smaller controller_count",
        ),
        _ => (
            ProblemKind::TooFewNodes,
            "start more disk nodes, or choose another protection",
        ),
    };
    ApiError::refused(kind, format!("pool {}: {error}", spec.name), hint)
}

async fn disk_nodes(txn: &Txn) -> Result<BTreeMap<DiskNodeId, DiskNodeView>, ApiError> {
    let mut views = BTreeMap::new();
    for spec in txn
        .peek_range::<NodeSpec<DiskNodeId>>(KeyRange::prefix(key::DISK_NODES))
        .await?
    {
        views.insert(spec.record.id, disk_node_view(txn, spec.record).await?);
    }
    Ok(views)
}

async fn controller_nodes(txn: &Txn) -> Result<BTreeMap<ControllerNodeId, ControllerNodeView>, ApiError> {
    let mut views = BTreeMap::new();
    for spec in txn
        .peek_range::<NodeSpec<ControllerNodeId>>(KeyRange::prefix(key::CONTROLLER_NODES))
        .await?
    {
        views.insert(spec.record.id, controller_node_view(txn, spec.record).await?);
    }
    Ok(views)
}
