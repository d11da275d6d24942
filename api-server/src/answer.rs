//! Answers, as the transaction makes them: kept beside an idempotency key, they can be given again.

use crate::error::ApiError;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use control::rest::{Accepted, OperationBody};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{StoreRevision, TransactionError, Txn};

/// An answer whose revision is not known yet: it is that of the transaction that makes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    status: u16,
    location: Option<String>,
    body: Value,
    /// Where in the body the revision stands, if the transaction wrote what the body shows.
    revision_at: Option<String>,
}

impl Answer {
    /// `200 OK`: something was changed.
    pub(crate) fn changed<T: Serialize>(resource: &T) -> Answer {
        Answer {
            status: 200,
            location: None,
            body: json(resource),
            revision_at: Some("/revision".into()),
        }
    }
    /// `200 OK`: it is so already. The body has its revision.
    pub(crate) fn unchanged<T: Serialize>(resource: &T) -> Answer {
        Answer {
            revision_at: None,
            ..Answer::changed(resource)
        }
    }
    /// `201 Created`, there.
    pub(crate) fn created<T: Serialize>(resource: &T, location: String) -> Answer {
        Answer {
            status: 201,
            location: Some(location),
            ..Answer::changed(resource)
        }
    }
    /// `202 Accepted`: written down, and an operation to watch.
    pub(crate) fn accepted<T: Serialize>(operation: OperationBody, resource: &T) -> Answer {
        let location = Some(format!("/v1/operations/{}", operation.id));
        let body = json(&Accepted {
            operation,
            resource: json(resource),
        });
        Answer {
            status: 202,
            location,
            body,
            revision_at: Some("/resource/revision".into()),
        }
    }
    /// `202 Accepted` where nothing of the resource is left to show.
    pub(crate) fn leaving(operation: &OperationBody) -> Answer {
        let location = Some(format!("/v1/operations/{}", operation.id));
        Answer {
            status: 202,
            location,
            body: json(operation),
            revision_at: None,
        }
    }
    /// As it goes out, with the revision of its transaction.
    pub(crate) fn at(mut self, revision: StoreRevision) -> Response {
        let mut headers = HeaderMap::new();
        let place = self
            .revision_at
            .as_deref()
            .and_then(|pointer| self.body.pointer_mut(pointer));
        if let Some(place) = place {
            *place = revision.0.into();
            headers.insert(header::ETAG, etag(revision));
        }
        if let Some(location) = self
            .location
            .and_then(|location| HeaderValue::from_str(&location).ok())
        {
            headers.insert(header::LOCATION, location);
        }
        let status = StatusCode::from_u16(self.status).expect("written by the functions above");
        (status, headers, axum::Json(self.body)).into_response()
    }
}

/// `200 OK`: what is there.
pub(crate) fn found<T: Serialize>(resource: &T, revision: StoreRevision) -> Response {
    ([(header::ETAG, etag(revision))], axum::Json(json(resource))).into_response()
}

/// `204 No Content`: gone.
pub(crate) fn gone() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn etag(revision: StoreRevision) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).expect("digits and quotes")
}

fn json<T: Serialize>(body: &T) -> Value {
    serde_json::to_value(body).expect("bodies are plain")
}

/// Run a transaction whose answer shows what it wrote.
pub(crate) async fn commit<F, R>(app: &crate::routes::App, body: F) -> Result<Response, ApiError>
where
    F: FnMut(Txn) -> R,
    R: Future<Output = Result<Answer, ApiError>>,
    ApiError: From<TransactionError>,
{
    let (answer, revision) = store::transaction_at(&app.store, body).await?;
    Ok(answer.at(revision))
}
