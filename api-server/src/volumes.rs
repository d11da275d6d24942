//! Volumes.

use crate::answer::{Answer, commit, found};
use crate::error::ApiError;
use crate::facts::Facts;
use crate::fresh::Fresh;
use crate::idempotency;
use crate::lookup::{find, take_name};
use crate::page::Page;
use crate::request::{Body, IdempotencyKey, IfMatch, Params, Target};
use crate::routes::App;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cluster::event::SubjectKind;
use cluster::key::{self, NameKind};
use cluster::operation::Wish;
use cluster::size::size_text;
use cluster::spec::{PoolSpec, VolumeSpec};
use cluster::{PoolId, VolumeId};
use control::problem::{Problem, ProblemKind};
use control::rest::{Accepted, List, OperationBody, Volume, VolumeCreate, VolumePatch};
use serde::Deserialize;
use store::{Txn, Versioned, transaction};

/// Which volumes.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VolumeQuery {
    /// Only the volume of this name.
    name: Option<String>,
    /// Only those of this pool: name or id.
    pool: Option<String>,
    /// At most so many, 1 to 1000; 100 if nothing is said.
    limit: Option<u64>,
    /// Where an earlier page ended.
    #[serde(rename = "continue")]
    #[param(rename = "continue")]
    continuation: Option<String>,
}

/// List volumes.
#[utoipa::path(get, path = "/v1/volumes", tag = "volumes", params(VolumeQuery),
    responses((status = 200, description = "A page of volumes", body = List<Volume>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    Params(query): Params<VolumeQuery>,
) -> Result<Json<List<Volume>>, ApiError> {
    let page = &Page {
        limit: query.limit,
        continuation: query.continuation,
    };
    let (name, pool) = (&query.name, &query.pool);
    let list = transaction(&app.store, |txn| async move {
        let pool = match pool {
            Some(pool) => Some(find::<PoolSpec>(&txn, pool).await?.record.id),
            None => None,
        };
        let wanted = |volume: &VolumeSpec| {
            name.as_ref().is_none_or(|name| *name == volume.name)
                && pool.is_none_or(|pool| pool == volume.pool)
        };
        let (records, continuation) = page.records::<VolumeSpec>(&txn, key::VOLUMES, wanted).await?;
        let (mut facts, mut items) = (Facts::default(), Vec::new());
        for record in records {
            items.push(view(&txn, &mut facts, &record).await?);
        }
        Ok::<_, ApiError>(List { items, continuation })
    });
    Ok(Json(list.await?))
}

/// A volume, as people are told of it.
async fn view(txn: &Txn, facts: &mut Facts, volume: &Versioned<VolumeSpec>) -> Result<Volume, ApiError> {
    let hosts = facts.hosts_of(txn, volume.record.id).await?;
    let pool = facts.pool(txn, volume.record.pool).await?;
    Ok(Volume::new(&volume.record, volume.mod_revision.0, pool, hosts))
}

/// Make a volume. It may be larger than what its pool has: space is given on first write.
#[utoipa::path(post, path = "/v1/volumes", tag = "volumes", request_body = VolumeCreate,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body: done once")),
    responses((status = 202, description = "Written down; Location is the operation's", body = Accepted<Volume>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(app): State<App>,
    key: IdempotencyKey,
    Body(wish): Body<VolumeCreate>,
) -> Result<Response, ApiError> {
    let (fresh, wish) = (&Fresh::draw(&app), &wish);
    wish.parse(VolumeId(fresh.id), PoolId(fresh.id))?;
    idempotency::create(&app, key, "/v1/volumes", wish, |txn| create_in(txn, wish, fresh)).await
}

async fn create_in(txn: Txn, wish: &VolumeCreate, fresh: &Fresh) -> Result<Answer, ApiError> {
    let pool = find::<PoolSpec>(&txn, &wish.pool).await?;
    let mut spec = wish.parse(VolumeId(fresh.id), pool.record.id)?;
    take_name(&txn, NameKind::Volume, &spec.name, fresh.id).await?;
    if pool.record.deleting {
        let detail = format!("pool {} is being deleted", pool.record.name);
        return Err(ApiError::refused(
            ProblemKind::WrongState,
            detail,
            "choose another pool",
        ));
    }
    spec.nsid = pool.record.next_nsid;
    let none_left = || {
        let detail = format!(
            "pool {} has given out all its namespace identifiers",
            pool.record.name
        );
        ApiError::refused(ProblemKind::WrongState, detail, "make the volume in another pool")
    };
    // The highest identifier addresses all namespaces (Base 2.1, 3.2.1.1).
    let next_nsid = spec
        .nsid
        .checked_add(1)
        .filter(|next| *next < u32::MAX)
        .ok_or_else(none_left)?;
    txn.put(
        key::pool(pool.record.id),
        &PoolSpec {
            next_nsid,
            ..pool.record.clone()
        },
    )?;
    txn.put(key::volume(spec.id), &spec)?;
    txn.put(key::pool_volume(spec.pool, spec.id), &())?;
    let operation = fresh.begin(
        &txn,
        Wish::CreateVolume {
            volume: spec.id,
            pool: spec.pool,
        },
    )?;
    let (name, size) = (&spec.name, size_text(spec.size_bytes));
    let text = format!("volume {name} of {size} was wished in pool {}", pool.record.name);
    fresh.tell(&txn, SubjectKind::Volume, fresh.id, text)?;
    let facts = Facts::default().gather(&txn, pool).await?;
    let mut volume = Volume::new(&spec, 0, &facts, Vec::new());
    volume.warnings = facts
        .over_provisioning_with(spec.size_bytes)
        .into_iter()
        .collect();
    Ok(Answer::accepted(operation, &volume))
}

/// Show a volume.
#[utoipa::path(get, path = "/v1/volumes/{volume}", tag = "volumes",
    params(("volume" = String, Path, description = "Name or id")),
    responses((status = 200, description = "The volume", body = Volume, headers(("ETag" = String))),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(State(app): State<App>, Target(volume): Target) -> Result<Response, ApiError> {
    let volume = &volume;
    let shown = transaction(&app.store, |txn| async move {
        let spec = find::<VolumeSpec>(&txn, volume).await?;
        let volume = view(&txn, &mut Facts::default(), &spec).await?;
        Ok::<_, ApiError>(found(&volume, spec.mod_revision))
    });
    shown.await
}

/// Make a volume larger, while it is used.
#[utoipa::path(patch, path = "/v1/volumes/{volume}", tag = "volumes", request_body = VolumePatch,
    params(("volume" = String, Path, description = "Name or id"), ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 200, description = "It has that size already", body = Volume),
        (status = 202, description = "Written down; Location is the operation's", body = Accepted<Volume>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn patch(
    State(app): State<App>,
    Target(volume): Target,
    if_match: IfMatch,
    Body(patch): Body<VolumePatch>,
) -> Result<Response, ApiError> {
    let size_bytes = patch.parse()?;
    let (fresh, volume, if_match) = (&Fresh::draw(&app), &volume, &if_match);
    let body = |txn: Txn| async move {
        let mut spec = find::<VolumeSpec>(&txn, volume).await?;
        if_match.check(spec.mod_revision)?;
        check_growth(&spec.record, size_bytes)?;
        if spec.record.size_bytes == size_bytes {
            let volume = view(&txn, &mut Facts::default(), &spec).await?;
            return Ok(Answer::unchanged(&volume));
        }
        spec.record.size_bytes = size_bytes;
        txn.put(key::volume(spec.record.id), &spec.record)?;
        let VolumeSpec { id, pool, .. } = spec.record;
        let operation = fresh.begin(
            &txn,
            Wish::ExtendVolume {
                volume: id,
                pool,
                size_bytes,
            },
        )?;
        let text = format!("volume {} shall have {}", spec.record.name, size_text(size_bytes));
        fresh.tell(&txn, SubjectKind::Volume, id.0, text)?;
        let volume = view(&txn, &mut Facts::default(), &spec).await?;
        Ok(Answer::accepted(operation, &volume))
    };
    commit(&app, body).await
}

fn check_growth(spec: &VolumeSpec, size_bytes: u64) -> Result<(), ApiError> {
    let (name, has) = (&spec.name, size_text(spec.size_bytes));
    if spec.deleting {
        let detail = format!("volume {name} is being deleted");
        return Err(ApiError::refused(
            ProblemKind::WrongState,
            detail,
            "make a new volume",
        ));
    }
    if size_bytes < spec.size_bytes {
        let detail = format!(
            "volume {name} has {has}, and would lose what lies behind {}",
            size_text(size_bytes)
        );
        let hint = "volumes only grow; make a smaller one and copy";
        return Err(ApiError::refused(ProblemKind::InvalidValue, detail, hint));
    }
    Ok(())
}

/// Delete a volume that no host is given, with all that is in it.
#[utoipa::path(delete, path = "/v1/volumes/{volume}", tag = "volumes",
    params(("volume" = String, Path, description = "Name or id"), ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 202, description = "Written down; Location is the operation's", body = OperationBody),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Target(volume): Target,
    if_match: IfMatch,
) -> Result<Response, ApiError> {
    let (fresh, volume, if_match) = (&Fresh::draw(&app), &volume, &if_match);
    let body = |txn: Txn| async move {
        let found = find::<VolumeSpec>(&txn, volume).await?;
        if_match.check(found.mod_revision)?;
        check_unattached(&txn, &found.record).await?;
        let spec = VolumeSpec {
            deleting: true,
            ..found.record
        };
        txn.put(key::volume(spec.id), &spec)?;
        let operation = fresh.begin(
            &txn,
            Wish::DeleteVolume {
                volume: spec.id,
                pool: spec.pool,
            },
        )?;
        let text = format!("volume {} shall be deleted", spec.name);
        fresh.tell(&txn, SubjectKind::Volume, spec.id.0, text)?;
        Ok(Answer::leaving(&operation))
    };
    commit(&app, body).await
}

/// An attachment is made by a transaction that compares the volume's record, which this one writes: whichever comes
/// second sees the first.
async fn check_unattached(txn: &Txn, volume: &VolumeSpec) -> Result<(), ApiError> {
    let range = store::KeyRange::prefix(key::attachments_of_volume(volume.id));
    let attachments = txn.range::<cluster::spec::AttachmentSpec>(range).await?;
    if attachments.is_empty() {
        return Ok(());
    }
    let hosts = Facts::default().hosts_of(txn, volume.id).await?;
    let used_by: Vec<_> = hosts.iter().map(|host| format!("host/{}", host.name)).collect();
    let detail = format!("volume {} is given to {}", volume.name, used_by.join(", "));
    let hint = format!("detach it first: DELETE /v1/attachments/{}.HOST", volume.name);
    Err(Problem::new(ProblemKind::InUse, detail, hint)
        .used_by(used_by)
        .into())
}
