//! Attachments: which host is given which volume.

use crate::answer::{Answer, commit, found};
use crate::error::ApiError;
use crate::facts::Facts;
use crate::fresh::Fresh;
use crate::idempotency;
use crate::lookup::{find, find_host};
use crate::page::Page;
use crate::request::{Body, IdempotencyKey, IfMatch, Params, Target};
use crate::routes::App;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cluster::event::SubjectKind;
use cluster::key;
use cluster::operation::Wish;
use cluster::spec::{AttachmentSpec, HostSpec, VolumeSpec};
use control::problem::{Problem, ProblemKind};
use control::rest::{Accepted, Attachment, AttachmentCreate, List, OperationBody, Reference};
use serde::Deserialize;
use store::{Txn, Versioned, transaction};

/// Which attachments.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AttachmentQuery {
    /// Only those of this volume: name or id.
    volume: Option<String>,
    /// Only those of this host: name, id or NQN.
    host: Option<String>,
    /// At most so many, 1 to 1000; 100 if nothing is said.
    limit: Option<u64>,
    /// Where an earlier page ended.
    #[serde(rename = "continue")]
    #[param(rename = "continue")]
    continuation: Option<String>,
}

/// List attachments.
#[utoipa::path(get, path = "/v1/attachments", tag = "attachments", params(AttachmentQuery),
    responses((status = 200, description = "A page of attachments", body = List<Attachment>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    Params(query): Params<AttachmentQuery>,
) -> Result<Json<List<Attachment>>, ApiError> {
    let page = &Page {
        limit: query.limit,
        continuation: query.continuation,
    };
    let (volume, host) = (&query.volume, &query.host);
    let list = transaction(&app.store, |txn| async move {
        let volume = match volume {
            Some(volume) => Some(find::<VolumeSpec>(&txn, volume).await?.record.id),
            None => None,
        };
        let host = match host {
            Some(host) => Some(find_host(&txn, host).await?.record.id),
            None => None,
        };
        let wanted = |attachment: &AttachmentSpec| {
            volume.is_none_or(|volume| volume == attachment.volume)
                && host.is_none_or(|host| host == attachment.host)
        };
        let (records, continuation) = page
            .records::<AttachmentSpec>(&txn, key::ATTACHMENTS, wanted)
            .await?;
        let (mut facts, mut items) = (Facts::default(), Vec::new());
        for record in records {
            items.extend(view(&txn, &mut facts, &record).await?);
        }
        Ok::<_, ApiError>(List { items, continuation })
    });
    Ok(Json(list.await?))
}

/// An attachment, as people are told of it; none if its volume or host has no record any more.
async fn view(
    txn: &Txn,
    facts: &mut Facts,
    attachment: &Versioned<AttachmentSpec>,
) -> Result<Option<Attachment>, ApiError> {
    let AttachmentSpec { volume, host } = attachment.record;
    let host = facts.host(txn, host).await?.cloned();
    let volume = txn.peek::<VolumeSpec>(key::volume(volume)).await?;
    let (Some(volume), Some(host)) = (volume, host) else {
        return Ok(None);
    };
    Ok(Some(
        body(txn, facts, &volume, &host, attachment.mod_revision.0).await?,
    ))
}

async fn body(
    txn: &Txn,
    facts: &mut Facts,
    volume: &VolumeSpec,
    host: &HostSpec,
    revision: u64,
) -> Result<Attachment, ApiError> {
    Ok(Attachment {
        id: format!("{}.{}", volume.id, host.id),
        revision,
        volume: Reference {
            id: volume.id.0,
            name: volume.name.clone(),
        },
        host: Reference {
            id: host.id.0,
            name: host.name.clone(),
        },
        host_nqn: host.nqn.0.clone(),
        subsystem_nqn: volume.pool.subsystem_nqn().0,
        nsid: volume.nsid,
        paths: facts.pool(txn, volume.pool).await?.paths(),
    })
}

/// Give a volume to a host.
#[utoipa::path(post, path = "/v1/attachments", tag = "attachments", request_body = AttachmentCreate,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body: done once")),
    responses((status = 202, description = "Written down; Location is the operation's", body = Accepted<Attachment>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(app): State<App>,
    key: IdempotencyKey,
    Body(wish): Body<AttachmentCreate>,
) -> Result<Response, ApiError> {
    let (fresh, wish) = (&Fresh::draw(&app), &wish);
    idempotency::create(&app, key, "/v1/attachments", wish, |txn| {
        create_in(txn, wish, fresh)
    })
    .await
}

async fn create_in(txn: Txn, wish: &AttachmentCreate, fresh: &Fresh) -> Result<Answer, ApiError> {
    let volume = find::<VolumeSpec>(&txn, &wish.volume).await?.record;
    let host = find_host(&txn, &wish.host).await?.record;
    if volume.deleting {
        let detail = format!("volume {} is being deleted", volume.name);
        return Err(ApiError::refused(
            ProblemKind::WrongState,
            detail,
            "choose another volume",
        ));
    }
    let record = key::attachment(volume.id, host.id);
    if txn.exists(&record).await? {
        let detail = format!("volume {} is given to host {} already", volume.name, host.name);
        let hint = format!("see it: GET /v1/attachments/{}.{}", volume.name, host.name);
        return Err(ApiError::refused(ProblemKind::NameTaken, detail, hint));
    }
    txn.put(
        record,
        &AttachmentSpec {
            volume: volume.id,
            host: host.id,
        },
    )?;
    txn.put(key::host_attachment(host.id, volume.id), &())?;
    let wish = Wish::Attach {
        volume: volume.id,
        pool: volume.pool,
        host: host.id,
    };
    let operation = fresh.begin(&txn, wish)?;
    let text = format!("volume {} shall be given to host {}", volume.name, host.name);
    fresh.tell(&txn, SubjectKind::Volume, volume.id.0, text)?;
    let attachment = body(&txn, &mut Facts::default(), &volume, &host, 0).await?;
    Ok(Answer::accepted(operation, &attachment))
}

/// From `VOLUME.HOST`, names or ids.
async fn find_attachment(
    txn: &Txn,
    target: &str,
) -> Result<(Versioned<AttachmentSpec>, VolumeSpec, HostSpec), ApiError> {
    let none = || ApiError::not_found("attachment", target);
    let (volume, host) = target.split_once('.').ok_or_else(none)?;
    let volume = find::<VolumeSpec>(txn, volume).await?.record;
    let host = find_host(txn, host).await?.record;
    let record = txn
        .versioned(key::attachment(volume.id, host.id))
        .await?
        .ok_or_else(none)?;
    Ok((record, volume, host))
}

/// Show an attachment.
#[utoipa::path(get, path = "/v1/attachments/{attachment}", tag = "attachments",
    params(("attachment" = String, Path, description = "VOLUME.HOST, names or ids")),
    responses((status = 200, description = "The attachment", body = Attachment, headers(("ETag" = String))),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(State(app): State<App>, Target(target): Target) -> Result<Response, ApiError> {
    let target = &target;
    let shown = transaction(&app.store, |txn| async move {
        let (record, volume, host) = find_attachment(&txn, target).await?;
        let revision = record.mod_revision;
        let attachment = body(&txn, &mut Facts::default(), &volume, &host, revision.0).await?;
        Ok::<_, ApiError>(found(&attachment, revision))
    });
    shown.await
}

/// Take a volume from a host: the host is cut off, whatever it does with it.
#[utoipa::path(delete, path = "/v1/attachments/{attachment}", tag = "attachments",
    params(("attachment" = String, Path, description = "VOLUME.HOST, names or ids"),
        ("If-Match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 202, description = "Written down; Location is the operation's", body = OperationBody),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Target(target): Target,
    if_match: IfMatch,
) -> Result<Response, ApiError> {
    let (fresh, target, if_match) = (&Fresh::draw(&app), &target, &if_match);
    let delete = |txn: Txn| async move {
        let (record, volume, host) = find_attachment(&txn, target).await?;
        if_match.check(record.mod_revision)?;
        txn.delete(key::attachment(volume.id, host.id));
        txn.delete(key::host_attachment(host.id, volume.id));
        let wish = Wish::Detach {
            volume: volume.id,
            pool: volume.pool,
            host: host.id,
        };
        let operation = fresh.begin(&txn, wish)?;
        let text = format!("volume {} shall be taken from host {}", volume.name, host.name);
        fresh.tell(&txn, SubjectKind::Volume, volume.id.0, text)?;
        Ok(Answer::leaving(&operation))
    };
    commit(&app, delete).await
}
