//! Idempotency keys: the same request with the same key is done once, and answered the same for a day.
//!
//! The answer is kept in the transaction that makes it true, so there is no moment at which one is there without the
//! other. Refusals are not kept: they changed nothing.

use crate::answer::Answer;
use crate::error::ApiError;
use crate::request::IdempotencyKey;
use crate::routes::App;
use axum::response::Response;
use cluster::key;
use control::problem::ProblemKind;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use store::{LeaseId, Txn, Versioned, read_record, transaction_at};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What was asked, and answered, with a key.
#[derive(Serialize, Deserialize)]
struct Remembered {
    request: String,
    answer: Answer,
}

/// Create something: once per key, if one is given. `path` and `wish` are what tells one request from another.
pub(crate) async fn create<F, R>(
    app: &App,
    key: IdempotencyKey,
    path: &str,
    wish: &impl Serialize,
    body: F,
) -> Result<Response, ApiError>
where
    F: Fn(Txn) -> R,
    R: Future<Output = Result<Answer, ApiError>>,
{
    let Some(given) = key.0 else {
        return crate::answer::commit(app, body).await;
    };
    let record = &key::idempotency(&given);
    let request = &format!(
        "POST {path} {}",
        serde_json::to_string(wish).expect("bodies are plain")
    );
    if let Some(before) = read_record::<Remembered>(&app.store, record).await? {
        return again(before, request);
    }
    let lease = app.store.grant_lease(KEPT).await?.id;
    let (outcome, revision) =
        transaction_at(&app.store, |txn| once(txn, record, request, lease, &body)).await?;
    match outcome {
        Ok(answer) => Ok(answer.at(revision)),
        Err(before) => again(before, request),
    }
}

/// The answer of now, or what was remembered by somebody who was faster.
async fn once<R: Future<Output = Result<Answer, ApiError>>>(
    txn: Txn,
    record: &str,
    request: &str,
    lease: LeaseId,
    body: &impl Fn(Txn) -> R,
) -> Result<Result<Answer, Versioned<Remembered>>, ApiError> {
    if let Some(before) = txn.versioned::<Remembered>(record).await? {
        return Ok(Err(before));
    }
    let answer = body(txn.clone()).await?;
    let remembered = Remembered {
        request: request.into(),
        answer: answer.clone(),
    };
    txn.put_leased(record, &remembered, lease)?;
    Ok(Ok(answer))
}

fn again(before: Versioned<Remembered>, request: &str) -> Result<Response, ApiError> {
    if before.record.request != request {
        let detail = "this Idempotency-Key was used for another request";
        return Err(ApiError::refused(
            ProblemKind::KeyReused,
            detail,
            "use a new key for a new request",
        ));
    }
    // Both were written by one transaction, so this is the revision of what was created.
    Ok(before.record.answer.at(before.mod_revision))
}
