//! Events: what happened, for people.

use crate::error::ApiError;
use crate::page::Page;
use crate::request::Params;
use crate::routes::App;
use axum::Json;
use axum::extract::State;
use cluster::event::Event;
use cluster::key;
use control::problem::{Problem, ProblemKind};
use control::rest::{EventBody, EventSeverity, List};
use serde::Deserialize;
use store::transaction;
use uuid::Uuid;

/// Which events.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// Only those about this id.
    about: Option<Uuid>,
    /// Only those at least so bad.
    #[param(inline)]
    severity: Option<EventSeverity>,
    /// Only the newest so many of all that are kept, 1 to 1000. Not together with `continue`.
    last: Option<usize>,
    /// At most so many, 1 to 1000; 100 if nothing is said.
    limit: Option<u64>,
    /// Where an earlier page ended.
    #[serde(rename = "continue")]
    #[param(rename = "continue")]
    continuation: Option<String>,
}

/// List events, oldest first.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, description = "A page of events", body = List<EventBody>),
        (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    Params(query): Params<EventQuery>,
) -> Result<Json<List<EventBody>>, ApiError> {
    if query.last.is_some_and(|last| !(1..=1000).contains(&last))
        || (query.last.is_some() && query.continuation.is_some())
    {
        let hint = "choose from 1 to 1000, and not together with continue";
        return Err(ApiError::refused(
            ProblemKind::InvalidValue,
            "last is not allowed so",
            hint,
        ));
    }
    let query = &query;
    let list = transaction(&app.store, |txn| async move {
        let wanted = |event: &Event| {
            let body = EventBody::from(event);
            query.about.is_none_or(|id| id == body.subject.id)
                && query.severity.is_none_or(|severity| severity <= body.severity)
        };
        let mut page = Page {
            limit: query.limit,
            continuation: query.continuation.clone(),
        };
        let Some(last) = query.last else {
            let (records, continuation) = page.records::<Event>(&txn, key::EVENTS, wanted).await?;
            let items = records
                .iter()
                .map(|record| EventBody::from(&record.record))
                .collect();
            return Ok::<_, ApiError>(List { items, continuation });
        };
        let mut items = std::collections::VecDeque::new();
        page.limit = Some(1000);
        loop {
            let (records, continuation) = page.records::<Event>(&txn, key::EVENTS, wanted).await?;
            items.extend(records.iter().map(|record| EventBody::from(&record.record)));
            items.drain(..items.len().saturating_sub(last));
            match continuation {
                Some(_) => page.continuation = continuation,
                None => {
                    return Ok(List {
                        items: items.into(),
                        continuation: None,
                    });
                }
            }
        }
    });
    Ok(Json(list.await?))
}
