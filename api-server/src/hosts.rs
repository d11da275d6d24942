//! Hosts.

use crate::answer::{Answer, found, gone};
use crate::error::ApiError;
use crate::fresh::Fresh;
use crate::idempotency;
use crate::lookup::{find, find_host, take_name};
use crate::page::Page;
use crate::request::{Body, IdempotencyKey, IfMatch, Params, Target};
use crate::routes::App;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cluster::event::SubjectKind;
use cluster::key::{self, NameKind};
use cluster::spec::{HostSpec, VolumeSpec};
use cluster::{HostId, VolumeId};
use control::problem::{Problem, ProblemKind};
use control::rest::{Host, HostCreate, List, Reference};
use serde::Deserialize;
use store::{KeyRange, Txn, Versioned, transaction};

/// Which hosts.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HostQuery {
    /// Only the host of this name.
    name: Option<String>,
    /// Only the host of this NQN.
    nqn: Option<String>,
    /// At most so many, 1 to 1000; 100 if nothing is said.
    limit: Option<u64>,
    /// Where an earlier page ended.
    #[serde(rename = "continue")]
    #[param(rename = "continue")]
    continuation: Option<String>,
}

/// List hosts.
#[utoipa::path(get, path = "/v1/hosts", tag = "hosts", params(HostQuery),
    responses((status = 200, description = "A page of hosts", body = List<Host>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    Params(query): Params<HostQuery>,
) -> Result<Json<List<Host>>, ApiError> {
    let page = &Page {
        limit: query.limit,
        continuation: query.continuation,
    };
    let (name, nqn) = (&query.name, &query.nqn);
    let list = transaction(&app.store, |txn| async move {
        let wanted = |host: &HostSpec| {
            name.as_ref().is_none_or(|name| *name == host.name)
                && nqn.as_ref().is_none_or(|nqn| *nqn == host.nqn.0)
        };
        let (records, continuation) = page.records::<HostSpec>(&txn, key::HOSTS, wanted).await?;
        let mut items = Vec::new();
        for record in records {
            items.push(view(&txn, &record).await?);
        }
        Ok::<_, ApiError>(List { items, continuation })
    });
    Ok(Json(list.await?))
}

async fn view(txn: &Txn, host: &Versioned<HostSpec>) -> Result<Host, ApiError> {
    let volumes = volumes_of(txn, host.record.id).await?;
    Ok(Host::new(&host.record, host.mod_revision.0, volumes))
}

/// The volumes a host is given; compared, for those who delete the host.
async fn volumes_of(txn: &Txn, host: HostId) -> Result<Vec<Reference>, ApiError> {
    let prefix = key::attachments_of_host(host);
    let mut volumes = Vec::new();
    for entry in txn
        .peek_range::<serde_json::Value>(KeyRange::prefix(prefix.clone()))
        .await?
    {
        let Ok(id) = entry.key[prefix.len()..].parse::<VolumeId>() else {
            continue;
        };
        let volume = txn.peek::<VolumeSpec>(key::volume(id)).await?;
        volumes.push(Reference {
            id: id.0,
            name: volume.map_or_else(|| id.to_string(), |volume| volume.name),
        });
    }
    Ok(volumes)
}

/// Make a host known.
#[utoipa::path(post, path = "/v1/hosts", tag = "hosts", request_body = HostCreate,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body: done once")),
    responses((status = 201, description = "It is; Location is the host's", body = Host),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(app): State<App>,
    key: IdempotencyKey,
    Body(wish): Body<HostCreate>,
) -> Result<Response, ApiError> {
    let fresh = &Fresh::draw(&app);
    let spec = &wish.parse(HostId(fresh.id))?;
    let body = |txn: Txn| async move {
        take_name(&txn, NameKind::Host, &spec.name, fresh.id).await?;
        take_name(&txn, NameKind::HostNqn, &spec.nqn.0, fresh.id).await?;
        txn.put(key::host(spec.id), spec)?;
        fresh.tell(
            &txn,
            SubjectKind::Host,
            fresh.id,
            format!("host {} was made known", spec.name),
        )?;
        Ok(Answer::created(
            &Host::new(spec, 0, Vec::new()),
            format!("/v1/hosts/{}", spec.id),
        ))
    };
    idempotency::create(&app, key, "/v1/hosts", &wish, body).await
}

/// Show a host.
#[utoipa::path(get, path = "/v1/hosts/{host}", tag = "hosts",
    params(("host" = String, Path, description = "Name, id or NQN")),
    responses((status = 200, description = "The host", body = Host, headers(("ETag" = String))),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(State(app): State<App>, Target(host): Target) -> Result<Response, ApiError> {
    let host = &host;
    let shown = transaction(&app.store, |txn| async move {
        let spec = find_host(&txn, host).await?;
        Ok::<_, ApiError>(found(&view(&txn, &spec).await?, spec.mod_revision))
    });
    shown.await
}

/// Forget a host that is given no volume.
#[utoipa::path(delete, path = "/v1/hosts/{host}", tag = "hosts",
    params(("host" = String, Path, description = "Name, id or NQN"), ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 204, description = "It is forgotten"),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Target(host): Target,
    if_match: IfMatch,
) -> Result<Response, ApiError> {
    let (fresh, host, if_match) = (&Fresh::draw(&app), &host, &if_match);
    let deleted = transaction(&app.store, |txn| async move {
        let id = find_host(&txn, host).await?.record.id;
        let spec = find::<HostSpec>(&txn, &id.to_string()).await?;
        if_match.check(spec.mod_revision)?;
        check_unattached(&txn, &spec.record).await?;
        txn.delete(key::host(id));
        txn.delete(key::name(NameKind::Host, &spec.record.name));
        txn.delete(key::name(NameKind::HostNqn, &spec.record.nqn.0));
        fresh.tell(
            &txn,
            SubjectKind::Host,
            id.0,
            format!("host {} was forgotten", spec.record.name),
        )?;
        Ok::<_, ApiError>(gone())
    });
    deleted.await
}

/// An attachment is made by a transaction that compares the host's record, which this one deletes.
async fn check_unattached(txn: &Txn, host: &HostSpec) -> Result<(), ApiError> {
    txn.range::<serde_json::Value>(KeyRange::prefix(key::attachments_of_host(host.id)))
        .await?;
    let volumes = volumes_of(txn, host.id).await?;
    if volumes.is_empty() {
        return Ok(());
    }
    let used_by: Vec<_> = volumes
        .iter()
        .map(|volume| format!("volume/{}", volume.name))
        .collect();
    let detail = format!("host {} is given {}", host.name, used_by.join(", "));
    let hint = format!("detach them first: DELETE /v1/attachments/VOLUME.{}", host.name);
    Err(Problem::new(ProblemKind::InUse, detail, hint)
        .used_by(used_by)
        .into())
}
