//! Pools.

use crate::answer::{Answer, commit, found};
use crate::error::ApiError;
use crate::facts::Facts;
use crate::fresh::Fresh;
use crate::idempotency;
use crate::lookup::{find, take_name};
use crate::page::Page;
use crate::placement_check::check_placement;
use crate::request::{Body, IdempotencyKey, IfMatch, Params, Target};
use crate::routes::App;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cluster::event::SubjectKind;
use cluster::key::{self, NameKind};
use cluster::operation::Wish;
use cluster::size::size_text;
use cluster::spec::{NodeSpec, PoolSpec, VolumeSpec};
use cluster::{ControllerNodeId, PoolId, VolumeId};
use control::problem::{Problem, ProblemKind};
use control::rest::{
    Accepted, Failover, List, OperationBody, PathState, Pool, PoolCreate, PoolFacts, PoolPatch,
};
use serde::Deserialize;
use store::{KeyRange, Txn, Versioned, transaction};

/// Which pools.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PoolQuery {
    /// Only the pool of this name.
    name: Option<String>,
    /// At most so many, 1 to 1000; 100 if nothing is said.
    limit: Option<u64>,
    /// Where an earlier page ended.
    #[serde(rename = "continue")]
    #[param(rename = "continue")]
    continuation: Option<String>,
}

/// List pools.
#[utoipa::path(get, path = "/v1/pools", tag = "pools", params(PoolQuery),
    responses((status = 200, description = "A page of pools", body = List<Pool>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    Params(query): Params<PoolQuery>,
) -> Result<Json<List<Pool>>, ApiError> {
    let page = &Page {
        limit: query.limit,
        continuation: query.continuation,
    };
    let name = &query.name;
    let list = transaction(&app.store, |txn| async move {
        let wanted = |pool: &PoolSpec| name.as_ref().is_none_or(|name| *name == pool.name);
        let (records, continuation) = page.records::<PoolSpec>(&txn, key::POOLS, wanted).await?;
        let (mut facts, mut items) = (Facts::default(), Vec::new());
        for record in records {
            items.push(Pool::new(&facts.gather(&txn, record).await?));
        }
        Ok::<_, ApiError>(List { items, continuation })
    });
    Ok(Json(list.await?))
}

/// Make a pool.
#[utoipa::path(post, path = "/v1/pools", tag = "pools", request_body = PoolCreate,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body: done once")),
    responses((status = 202, description = "Written down; Location is the operation's", body = Accepted<Pool>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(app): State<App>,
    key: IdempotencyKey,
    Body(wish): Body<PoolCreate>,
) -> Result<Response, ApiError> {
    let (fresh, wish) = (&Fresh::draw(&app), &wish);
    wish.parse(PoolId(fresh.id), None)?;
    idempotency::create(&app, key, "/v1/pools", wish, |txn| create_in(txn, wish, fresh)).await
}

async fn create_in(txn: Txn, wish: &PoolCreate, fresh: &Fresh) -> Result<Answer, ApiError> {
    let owner = match &wish.owner {
        None => None,
        Some(owner) => Some(find::<NodeSpec<ControllerNodeId>>(&txn, owner).await?.record.id),
    };
    let spec = wish.parse(PoolId(fresh.id), owner)?;
    take_name(&txn, NameKind::Pool, &spec.name, fresh.id).await?;
    check_placement(&txn, &spec).await?;
    txn.put(key::pool(spec.id), &spec)?;
    let operation = fresh.begin(&txn, Wish::CreatePool { pool: spec.id })?;
    let text = format!(
        "pool {} of {} was wished",
        spec.name,
        size_text(spec.capacity_bytes)
    );
    fresh.tell(&txn, SubjectKind::Pool, fresh.id, text)?;
    let facts = Facts::default().gather(&txn, unrevised(spec)).await?;
    Ok(Answer::accepted(operation, &Pool::new(&facts)))
}

/// As just written: the answer is given the revision when it is known.
fn unrevised(spec: PoolSpec) -> Versioned<PoolSpec> {
    Versioned {
        key: key::pool(spec.id),
        mod_revision: Default::default(),
        record: spec,
    }
}

/// Show a pool.
#[utoipa::path(get, path = "/v1/pools/{pool}", tag = "pools", params(("pool" = String, Path, description = "Name or id")),
    responses((status = 200, description = "The pool", body = Pool, headers(("ETag" = String))),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(State(app): State<App>, Target(pool): Target) -> Result<Response, ApiError> {
    let pool = &pool;
    let shown = transaction(&app.store, |txn| async move {
        let spec = find::<PoolSpec>(&txn, pool).await?;
        let revision = spec.mod_revision;
        let facts = Facts::default().gather(&txn, spec).await?;
        Ok::<_, ApiError>(found(&Pool::new(&facts), revision))
    });
    shown.await
}

/// Change a pool's owner: the same as a failover.
#[utoipa::path(patch, path = "/v1/pools/{pool}", tag = "pools", request_body = PoolPatch,
    params(("pool" = String, Path, description = "Name or id"), ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 202, description = "Written down; Location is the operation's", body = Accepted<Pool>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn patch(
    State(app): State<App>,
    Target(pool): Target,
    if_match: IfMatch,
    Body(patch): Body<PoolPatch>,
) -> Result<Response, ApiError> {
    switch(&app, &pool, &if_match, Some(&patch.owner)).await
}

/// Switch a pool's owner, as planned work: hosts see the other path become optimized, and no errors.
#[utoipa::path(post, path = "/v1/pools/{pool}/failover", tag = "pools", request_body = Failover,
    params(("pool" = String, Path, description = "Name or id"), ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 202, description = "Written down; Location is the operation's", body = Accepted<Pool>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn failover(
    State(app): State<App>,
    Target(pool): Target,
    if_match: IfMatch,
    Body(wish): Body<Failover>,
) -> Result<Response, ApiError> {
    switch(&app, &pool, &if_match, wish.to.as_deref()).await
}

async fn switch(app: &App, pool: &str, if_match: &IfMatch, to: Option<&str>) -> Result<Response, ApiError> {
    let fresh = &Fresh::draw(app);
    let body = |txn: Txn| async move {
        let found = find::<PoolSpec>(&txn, pool).await?;
        if_match.check(found.mod_revision)?;
        let facts = Facts::default().gather(&txn, found).await?;
        let to = new_owner(&txn, &facts, to).await?;
        let spec = PoolSpec {
            owner: Some(to),
            ..facts.spec.clone()
        };
        txn.put(key::pool(spec.id), &spec)?;
        let operation = fresh.begin(&txn, Wish::SwitchOwner { pool: spec.id, to })?;
        let text = format!("pool {} shall be owned by controller node {to}", spec.name);
        fresh.tell(&txn, SubjectKind::Pool, spec.id.0, text)?;
        Ok(Answer::accepted(
            operation,
            &Pool::new(&PoolFacts { spec, ..facts }),
        ))
    };
    commit(app, body).await
}

/// The controller node that shall own the pool: the one that was named, or a standby that answers.
async fn new_owner(txn: &Txn, facts: &PoolFacts, to: Option<&str>) -> Result<ControllerNodeId, ApiError> {
    let name = &facts.spec.name;
    let refused = |kind, detail: String, hint: &str| Err(ApiError::refused(kind, detail, hint));
    let Some(layout) = facts.layout.as_ref().filter(|_| !facts.spec.deleting) else {
        let detail = format!("pool {name} is not placed, or is being deleted");
        return refused(ProblemKind::WrongState, detail, "wait until it is served");
    };
    let paths = facts.paths();
    let answers = |id: ControllerNodeId| {
        paths
            .iter()
            .any(|path| path.controller_node.id == id.0 && path.state != PathState::Away)
    };
    let serves: Vec<_> = layout
        .controllers
        .iter()
        .map(|placement| placement.node)
        .collect();
    let owner = facts.membership().map(|membership| membership.owner);
    let Some(to) = to else {
        let cordoned = |id: &ControllerNodeId| {
            facts
                .controller_nodes
                .get(id)
                .is_some_and(|view| view.spec.cordoned)
        };
        let mut standbys: Vec<_> = serves
            .into_iter()
            .filter(|id| Some(*id) != owner && answers(*id))
            .collect();
        standbys.sort_by_key(cordoned);
        let detail = format!("no standby of pool {name} answers");
        let hint = "start its other controller nodes: GET /v1/controller-nodes";
        let none = ApiError::refused(ProblemKind::TooFewNodes, detail, hint);
        return standbys.first().copied().ok_or(none);
    };
    let node = find::<NodeSpec<ControllerNodeId>>(txn, to).await?.record;
    if !serves.contains(&node.id) {
        let names: Vec<_> = paths
            .iter()
            .map(|path| path.controller_node.name.as_str())
            .collect();
        let detail = format!("controller node {} does not serve pool {name}", node.name);
        return refused(
            ProblemKind::WrongState,
            detail,
            &format!("choose one of {}", names.join(", ")),
        );
    }
    if owner != Some(node.id) && !answers(node.id) {
        let detail = format!("controller node {} does not answer", node.name);
        return refused(ProblemKind::WrongState, detail, "start it, or choose another");
    }
    Ok(node.id)
}

/// Delete a pool that has no volumes.
#[utoipa::path(delete, path = "/v1/pools/{pool}", tag = "pools",
    params(("pool" = String, Path, description = "Name or id"), ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 202, description = "Written down; Location is the operation's", body = OperationBody),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Target(pool): Target,
    if_match: IfMatch,
) -> Result<Response, ApiError> {
    let (fresh, pool, if_match) = (&Fresh::draw(&app), &pool, &if_match);
    let body = |txn: Txn| async move {
        let found = find::<PoolSpec>(&txn, pool).await?;
        if_match.check(found.mod_revision)?;
        check_empty(&txn, &found.record).await?;
        let spec = PoolSpec {
            deleting: true,
            ..found.record
        };
        txn.put(key::pool(spec.id), &spec)?;
        let operation = fresh.begin(&txn, Wish::DeletePool { pool: spec.id })?;
        fresh.tell(
            &txn,
            SubjectKind::Pool,
            spec.id.0,
            format!("pool {} shall be deleted", spec.name),
        )?;
        Ok(Answer::leaving(&operation))
    };
    commit(&app, body).await
}

/// A volume is made by a transaction that writes its pool's record, which this one compares: what is empty stays so.
async fn check_empty(txn: &Txn, pool: &PoolSpec) -> Result<(), ApiError> {
    const SHOWN: usize = 10;
    let prefix = key::volumes_of_pool(pool.id);
    let (index, more) = txn
        .peek_page::<serde_json::Value>(KeyRange::prefix(prefix.clone()), SHOWN)
        .await?;
    if index.is_empty() {
        return Ok(());
    }
    let mut used_by = Vec::new();
    for entry in &index {
        let id = entry.key[prefix.len()..].parse::<VolumeId>();
        let volume = match id {
            Ok(id) => txn.peek::<VolumeSpec>(key::volume(id)).await?,
            Err(_) => None,
        };
        used_by.push(volume.map_or_else(|| entry.key.clone(), |volume| format!("volume/{}", volume.name)));
    }
    let (name, and_more) = (&pool.name, if more { " and more" } else { "" });
    let detail = format!("pool {name} has volumes: {}{and_more}", used_by.join(", "));
    let hint = "delete its volumes first, and wait until they are gone";
    Err(Problem::new(ProblemKind::InUse, detail, hint)
        .used_by(used_by)
        .into())
}
