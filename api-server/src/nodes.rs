//! Disk nodes and controller nodes: they join by themselves; people see, cordon and forget them.

use crate::answer::{Answer, commit, found, gone};
use crate::error::ApiError;
use crate::facts::{controller_node_view, disk_node_view};
use crate::fresh::Fresh;
use crate::lookup::find;
use crate::page::Page;
use crate::request::{Body, IfMatch, Params, Target};
use crate::routes::App;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cluster::event::SubjectKind;
use cluster::key::{self, NameKind};
use cluster::layout::DiskNodeAllocation;
use cluster::node_config::ControllerNodeConfig;
use cluster::spec::{NodeSpec, PoolSpec};
use cluster::{ControllerNodeId, DiskNodeId};
use control::problem::{Problem, ProblemKind};
use control::rest::{ControllerNode, DiskNode, List, NodePatch};
use serde::Deserialize;
use store::{Txn, transaction};

/// Which nodes.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct NodeQuery {
    /// Only the node of this name.
    name: Option<String>,
    /// Only those that are, or are not, cordoned.
    cordoned: Option<bool>,
    /// At most so many, 1 to 1000; 100 if nothing is said.
    limit: Option<u64>,
    /// Where an earlier page ended.
    #[serde(rename = "continue")]
    #[param(rename = "continue")]
    continuation: Option<String>,
}

impl NodeQuery {
    fn page(&self) -> Page {
        Page {
            limit: self.limit,
            continuation: self.continuation.clone(),
        }
    }
    fn wants<Id>(&self, spec: &NodeSpec<Id>) -> bool {
        self.name.as_ref().is_none_or(|name| *name == spec.name)
            && self.cordoned.is_none_or(|cordoned| cordoned == spec.cordoned)
    }
}

/// List disk nodes.
#[utoipa::path(get, path = "/v1/disk-nodes", tag = "nodes", params(NodeQuery),
    responses((status = 200, description = "A page of disk nodes", body = List<DiskNode>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list_disk_nodes(
    State(app): State<App>,
    Params(query): Params<NodeQuery>,
) -> Result<Json<List<DiskNode>>, ApiError> {
    let query = &query;
    let list = transaction(&app.store, |txn| async move {
        let wanted = |node: &NodeSpec<DiskNodeId>| query.wants(node);
        let (records, continuation) = query.page().records(&txn, key::DISK_NODES, wanted).await?;
        let mut items = Vec::new();
        for record in records {
            items.push(DiskNode::new(
                &disk_node_view(&txn, record.record).await?,
                record.mod_revision.0,
            ));
        }
        Ok::<_, ApiError>(List { items, continuation })
    });
    Ok(Json(list.await?))
}

/// Show a disk node.
#[utoipa::path(get, path = "/v1/disk-nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "Name or id")),
    responses((status = 200, description = "The disk node", body = DiskNode, headers(("ETag" = String))),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show_disk_node(
    State(app): State<App>,
    Target(node): Target,
) -> Result<Response, ApiError> {
    let node = &node;
    let shown = transaction(&app.store, |txn| async move {
        let spec = find::<NodeSpec<DiskNodeId>>(&txn, node).await?;
        let view = disk_node_view(&txn, spec.record).await?;
        Ok::<_, ApiError>(found(
            &DiskNode::new(&view, spec.mod_revision.0),
            spec.mod_revision,
        ))
    });
    shown.await
}

/// Cordon a disk node, or change its location.
#[utoipa::path(patch, path = "/v1/disk-nodes/{node}", tag = "nodes", request_body = NodePatch,
    params(("node" = String, Path, description = "Name or id"), ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 200, description = "As it is now", body = DiskNode, headers(("ETag" = String))),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn patch_disk_node(
    State(app): State<App>,
    Target(node): Target,
    if_match: IfMatch,
    Body(patch): Body<NodePatch>,
) -> Result<Response, ApiError> {
    let (node, if_match, patch) = (&node, &if_match, &patch);
    let body = |txn: Txn| async move {
        let mut spec = find::<NodeSpec<DiskNodeId>>(&txn, node).await?;
        if_match.check(spec.mod_revision)?;
        patch.apply(&mut spec.record)?;
        txn.put(key::disk_node(spec.record.id), &spec.record)?;
        Ok(Answer::changed(&DiskNode::new(
            &disk_node_view(&txn, spec.record).await?,
            0,
        )))
    };
    commit(&app, body).await
}

/// Forget a disk node that has no legs. Its process is not told; it can join again under a new id.
#[utoipa::path(delete, path = "/v1/disk-nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "Name or id"), ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 204, description = "It is forgotten"),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_disk_node(
    State(app): State<App>,
    Target(node): Target,
    if_match: IfMatch,
) -> Result<Response, ApiError> {
    let (fresh, node, if_match) = (&Fresh::draw(&app), &node, &if_match);
    let deleted = transaction(&app.store, |txn| async move {
        let spec = find::<NodeSpec<DiskNodeId>>(&txn, node).await?;
        if_match.check(spec.mod_revision)?;
        let spec = spec.record;
        check_no_legs(&txn, &spec).await?;
        txn.delete(key::disk_node(spec.id));
        txn.delete(key::name(NameKind::DiskNode, &spec.name));
        txn.delete(key::allocation(spec.id));
        txn.delete(key::disk_node_status(spec.id));
        txn.delete(key::disk_node_config(spec.id));
        fresh.tell(
            &txn,
            SubjectKind::DiskNode,
            spec.id.0,
            format!("disk node {} was forgotten", spec.name),
        )?;
        Ok::<_, ApiError>(gone())
    });
    deleted.await
}

/// Legs are taken by transactions that write the allocation record, which is compared here.
async fn check_no_legs(txn: &Txn, spec: &NodeSpec<DiskNodeId>) -> Result<(), ApiError> {
    let allocation = txn
        .get::<DiskNodeAllocation>(key::allocation(spec.id))
        .await?
        .unwrap_or_default();
    let used_by: Vec<_> = allocation
        .disks
        .values()
        .flatten()
        .map(|(leg, _)| format!("leg/{leg}"))
        .collect();
    if used_by.is_empty() {
        return Ok(());
    }
    let detail = format!("disk node {} has {} legs of pools", spec.name, used_by.len());
    let hint = "delete the pools that lie on it first; cordon it so that nothing new comes";
    Err(Problem::new(ProblemKind::InUse, detail, hint)
        .used_by(used_by)
        .into())
}

/// List controller nodes.
#[utoipa::path(get, path = "/v1/controller-nodes", tag = "nodes", params(NodeQuery),
    responses((status = 200, description = "A page of controller nodes", body = List<ControllerNode>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list_controller_nodes(
    State(app): State<App>,
    Params(query): Params<NodeQuery>,
) -> Result<Json<List<ControllerNode>>, ApiError> {
    let query = &query;
    let list = transaction(&app.store, |txn| async move {
        let wanted = |node: &NodeSpec<ControllerNodeId>| query.wants(node);
        let (records, continuation) = query.page().records(&txn, key::CONTROLLER_NODES, wanted).await?;
        let mut items = Vec::new();
        for record in records {
            let view = controller_node_view(&txn, record.record).await?;
            items.push(ControllerNode::new(&view, record.mod_revision.0));
        }
        Ok::<_, ApiError>(List { items, continuation })
    });
    Ok(Json(list.await?))
}

/// Show a controller node.
#[utoipa::path(get, path = "/v1/controller-nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "Name or id")),
    responses((status = 200, description = "The controller node", body = ControllerNode, headers(("ETag" = String))),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show_controller_node(
    State(app): State<App>,
    Target(node): Target,
) -> Result<Response, ApiError> {
    let node = &node;
    let shown = transaction(&app.store, |txn| async move {
        let spec = find::<NodeSpec<ControllerNodeId>>(&txn, node).await?;
        let view = controller_node_view(&txn, spec.record).await?;
        Ok::<_, ApiError>(found(
            &ControllerNode::new(&view, spec.mod_revision.0),
            spec.mod_revision,
        ))
    });
    shown.await
}

/// Cordon a controller node, or change its location.
#[utoipa::path(patch, path = "/v1/controller-nodes/{node}", tag = "nodes", request_body = NodePatch,
    params(("node" = String, Path, description = "Name or id"), ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 200, description = "As it is now", body = ControllerNode, headers(("ETag" = String))),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn patch_controller_node(
    State(app): State<App>,
    Target(node): Target,
    if_match: IfMatch,
    Body(patch): Body<NodePatch>,
) -> Result<Response, ApiError> {
    let (node, if_match, patch) = (&node, &if_match, &patch);
    let body = |txn: Txn| async move {
        let mut spec = find::<NodeSpec<ControllerNodeId>>(&txn, node).await?;
        if_match.check(spec.mod_revision)?;
        patch.apply(&mut spec.record)?;
        txn.put(key::controller_node(spec.record.id), &spec.record)?;
        Ok(Answer::changed(&ControllerNode::new(
            &controller_node_view(&txn, spec.record).await?,
            0,
        )))
    };
    commit(&app, body).await
}

/// Forget a controller node that serves no pool. Its process is not told; it can join again under a new id.
#[utoipa::path(delete, path = "/v1/controller-nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "Name or id"), ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 204, description = "It is forgotten"),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_controller_node(
    State(app): State<App>,
    Target(node): Target,
    if_match: IfMatch,
) -> Result<Response, ApiError> {
    let (fresh, node, if_match) = (&Fresh::draw(&app), &node, &if_match);
    let deleted = transaction(&app.store, |txn| async move {
        let spec = find::<NodeSpec<ControllerNodeId>>(&txn, node).await?;
        if_match.check(spec.mod_revision)?;
        let spec = spec.record;
        check_no_pools(&txn, &spec).await?;
        txn.delete(key::controller_node(spec.id));
        txn.delete(key::name(NameKind::ControllerNode, &spec.name));
        txn.delete(key::controller_node_status(spec.id));
        txn.delete(key::controller_node_config(spec.id));
        let text = format!("controller node {} was forgotten", spec.name);
        fresh.tell(&txn, SubjectKind::ControllerNode, spec.id.0, text)?;
        Ok::<_, ApiError>(gone())
    });
    deleted.await
}

/// A pool comes to a controller node by a transaction that writes its configuration, which is compared here.
async fn check_no_pools(txn: &Txn, spec: &NodeSpec<ControllerNodeId>) -> Result<(), ApiError> {
    let config = txn
        .get::<ControllerNodeConfig>(key::controller_node_config(spec.id))
        .await?;
    let mut used_by = Vec::new();
    for id in config.iter().flat_map(|config| config.pools.keys()) {
        let pool = txn.peek::<PoolSpec>(key::pool(*id)).await?;
        used_by.push(format!(
            "pool/{}",
            pool.map_or_else(|| id.to_string(), |pool| pool.name)
        ));
    }
    if used_by.is_empty() {
        return Ok(());
    }
    let detail = format!("controller node {} serves {}", spec.name, used_by.join(", "));
    let hint = "delete those pools first; cordon it so that nothing new comes";
    Err(Problem::new(ProblemKind::InUse, detail, hint)
        .used_by(used_by)
        .into())
}
