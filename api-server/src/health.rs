//! Whether this api-server can do anything: it can if the store answers.

use crate::error::ApiError;
use crate::routes::App;
use axum::extract::State;
use cluster::key;
use store::{KeyRange, Read};

/// `GET /healthz`: `ok`, or 503.
pub(crate) async fn healthz(State(app): State<App>) -> Result<&'static str, ApiError> {
    app.store.read(Read::of(KeyRange::key(key::CLUSTER))).await?;
    Ok("ok\n")
}
