//! From errors to problems.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use control::problem::{MEDIA_TYPE, Problem, ProblemKind};
use control::rest::InvalidValue;
use store::{StoreError, TransactionError};

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It is refused.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] TransactionError),
}

impl ApiError {
    /// A refusal.
    pub(crate) fn refused(kind: ProblemKind, detail: impl Into<String>, hint: impl Into<String>) -> ApiError {
        Problem::new(kind, detail, hint).into()
    }
    /// There is no such thing.
    pub(crate) fn not_found(noun: &str, name: &str) -> ApiError {
        let name: String = name.chars().take(80).collect();
        let hint = format!("see what there is: GET /v1/{noun}s");
        ApiError::refused(
            ProblemKind::NotFound,
            format!("there is no {noun} {name:?}"),
            hint,
        )
    }
    /// As it is told.
    pub(crate) fn into_problem(self) -> Problem {
        match self {
            ApiError::Refused(problem) => *problem,
            ApiError::Store(error) => problem_of_store(&error),
        }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> ApiError {
        ApiError::Refused(Box::new(problem))
    }
}

impl From<InvalidValue> for ApiError {
    fn from(value: InvalidValue) -> ApiError {
        ApiError::refused(ProblemKind::InvalidValue, value.to_string(), value.hint())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        ApiError::Store(error.into())
    }
}

fn problem_of_store(error: &TransactionError) -> Problem {
    let (kind, hint) = match error {
        TransactionError::Store(StoreError::Away { .. }) => (
            ProblemKind::StoreAway,
            "nothing was changed; running volumes serve on; ask again when the store answers",
        ),
        TransactionError::Store(StoreError::OutcomeUnknown { .. }) => (
            ProblemKind::StoreAway,
            "it may have happened: look before asking again, or ask again with the same Idempotency-Key",
        ),
        TransactionError::Contended { .. } => (
            ProblemKind::StoreAway,
            "nothing was changed; ask again in a moment",
        ),
        TransactionError::Store(StoreError::Unusable { .. } | StoreError::Damaged { .. }) => (
            ProblemKind::StoreAway,
            "the store needs its administrator: see the api-server's log",
        ),
        _ => (
            ProblemKind::Internal,
            "nothing was changed; see the api-server's log, and report it",
        ),
    };
    match kind {
        ProblemKind::Internal => {
            let source = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, source, "a request failed");
        }
        _ => tracing::warn!(%error, "a request failed"),
    }
    Problem::new(kind, error.to_string(), hint)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        problem_response(&self.into_problem())
    }
}

/// A problem as an HTTP answer.
pub(crate) fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).expect("kinds have HTTP statuses");
    let body = serde_json::to_vec(problem).expect("a problem is plain");
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            _ = headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"))
        }
        StatusCode::UNAUTHORIZED => {
            _ = headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
        }
        _ => {}
    }
    response
}
