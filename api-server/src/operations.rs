//! Operations: to watch.

use crate::error::ApiError;
use crate::page::Page;
use crate::request::{Params, Target};
use crate::routes::App;
use axum::Json;
use axum::extract::State;
use cluster::operation::Operation;
use cluster::{OperationId, key};
use control::problem::{Problem, ProblemKind};
use control::rest::{List, OperationBody, OperationPhase};
use serde::Deserialize;
use std::time::Duration;
use store::{KeyRange, Versioned, WatchSignal, read_record, transaction};
use uuid::Uuid;

/// The longest wait.
const WAIT_SECONDS_MAX: u64 = 60;

/// Which operations.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OperationQuery {
    /// Only those in this state.
    #[param(inline)]
    state: Option<OperationPhase>,
    /// Only those about this id: of a pool, volume or host.
    about: Option<Uuid>,
    /// At most so many, 1 to 1000; 100 if nothing is said.
    limit: Option<u64>,
    /// Where an earlier page ended.
    #[serde(rename = "continue")]
    #[param(rename = "continue")]
    continuation: Option<String>,
}

/// List operations.
#[utoipa::path(get, path = "/v1/operations", tag = "operations", params(OperationQuery),
    responses((status = 200, description = "A page of operations", body = List<OperationBody>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    Params(query): Params<OperationQuery>,
) -> Result<Json<List<OperationBody>>, ApiError> {
    let page = &Page {
        limit: query.limit,
        continuation: query.continuation,
    };
    let (state, about) = (query.state, query.about);
    let list = transaction(&app.store, |txn| async move {
        let wanted = |operation: &Operation| {
            let body = OperationBody::from(operation);
            let of = [Some(body.pool), body.volume, body.host];
            state.is_none_or(|state| state == body.state) && about.is_none_or(|id| of.contains(&Some(id)))
        };
        let (records, continuation) = page.records::<Operation>(&txn, key::OPERATIONS, wanted).await?;
        let items = records
            .iter()
            .map(|record| OperationBody::from(&record.record))
            .collect();
        Ok::<_, ApiError>(List { items, continuation })
    });
    Ok(Json(list.await?))
}

/// How long to wait.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// Answer when it has ended, or after so many seconds (at most 60) as it is then. At once if nothing is said.
    wait_seconds: Option<u64>,
}

/// Show an operation; with `wait_seconds`, when it has ended.
#[utoipa::path(get, path = "/v1/operations/{operation}", tag = "operations",
    params(("operation" = Uuid, Path, description = "Id"), WaitQuery),
    responses((status = 200, description = "The operation", body = OperationBody),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(app): State<App>,
    Target(operation): Target,
    Params(query): Params<WaitQuery>,
) -> Result<Json<OperationBody>, ApiError> {
    let wait = query.wait_seconds.unwrap_or(0);
    if wait > WAIT_SECONDS_MAX {
        let detail = format!("wait_seconds {wait} is too long");
        let hint = format!("wait at most {WAIT_SECONDS_MAX}, and ask again");
        return Err(ApiError::refused(ProblemKind::InvalidValue, detail, hint));
    }
    let none = || ApiError::not_found("operation", &operation);
    let id: OperationId = operation.parse().map_err(|_| none())?;
    let record = read_record::<Operation>(&app.store, key::operation(id))
        .await?
        .ok_or_else(none)?;
    if !record.record.state.is_running() || wait == 0 {
        return Ok(Json(OperationBody::from(&record.record)));
    }
    // When the time is over, the answer is what is known then.
    let _ = tokio::time::timeout(Duration::from_secs(wait), ended(&app, &record)).await;
    let record = read_record::<Operation>(&app.store, key::operation(id))
        .await?
        .ok_or_else(none)?;
    Ok(Json(OperationBody::from(&record.record)))
}

/// Waits until it has ended, is gone, or can no longer be watched.
async fn ended(app: &App, record: &Versioned<Operation>) -> Result<(), ApiError> {
    let range = KeyRange::key(record.key.as_str());
    let mut watch = app.store.watch(range, record.mod_revision.next()).await?;
    loop {
        let WatchSignal::Changes { changes, .. } = watch.next().await else {
            return Ok(());
        };
        for change in changes {
            let store::Change::Put(entry) = change else {
                return Ok(());
            };
            if !Versioned::<Operation>::parse(&entry)?.record.state.is_running() {
                return Ok(());
            }
        }
    }
}
