//! What workers ask of an agent: take a configuration, say what is.

use crate::Shared;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use control::agent::{NodeConfig, NodeKind, StatusAnswer};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The largest configuration: a node with thousands of volumes is a few MiB.
const CONFIG_BYTES_MAX: usize = 64 << 20;
/// The longest a worker may wait for news.
const WAIT_MS_MAX: u64 = 30_000;

/// Answers workers on `listener` until `shutdown`.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let router = router(shared);
    let stopped = async move {
        let _ = shutdown.wait_for(|stop| *stop).await;
    };
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await
    {
        tracing::error!(%error, "the agent's server ended");
    }
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/agent/v1/config", put(take_config))
        .route("/agent/v1/status", get(tell_status))
        .layer(DefaultBodyLimit::max(CONFIG_BYTES_MAX))
        .layer(middleware::from_fn_with_state(shared.clone(), authorize))
        .with_state(shared)
}

/// Only who shows the node's token is heard; before the node has joined, nobody is.
async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let shown = shown
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::to_owned);
    match shown {
        Some(shown) if is_token(&shared, &shown) => next.run(request).await,
        _ => (StatusCode::UNAUTHORIZED, "show this node's agent token").into_response(),
    }
}

/// Whether this is the node's token.
pub(crate) fn is_token(shared: &Shared, shown: &str) -> bool {
    let expected = shared.token.borrow();
    expected
        .as_ref()
        .is_some_and(|expected| same(shown.as_bytes(), expected.as_bytes()))
}

/// Compares without telling by its duration where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

async fn take_config(State(shared): State<Arc<Shared>>, Json(config): Json<NodeConfig>) -> Response {
    let taken = tokio::task::spawn_blocking(move || {
        let outcome = record(&shared, &config);
        outcome.map(|()| answer(&shared, 0))
    });
    match taken.await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err((status, text))) => (status, text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Ledger first, node second, under one lock: two workers at once are put in order by their revisions.
pub(crate) fn record(shared: &Shared, config: &NodeConfig) -> Result<(), (StatusCode, String)> {
    let mut ledger = shared.ledger.lock().expect("no panic while the ledger is held");
    let identity = ledger.identity();
    let (kind, id) = addressee(config);
    if kind != identity.kind || id != identity.id {
        let text = format!(
            "this is {:?} {}, the configuration is for {kind:?} {id}",
            identity.kind, identity.id
        );
        return Err((StatusCode::MISDIRECTED_REQUEST, text));
    }
    if let Some(present) = ledger.config() {
        if present.revision() > config.revision() {
            let text = format!(
                "revision {} is older than {}",
                config.revision().0,
                present.revision().0
            );
            return Err((StatusCode::CONFLICT, text));
        }
        if present.revision() == config.revision() && present != config {
            let text = format!("revision {} is known with other contents", config.revision().0);
            return Err((StatusCode::CONFLICT, text));
        }
    }
    if ledger.config() != Some(config) {
        ledger
            .record_config(config)
            .map_err(|error| (StatusCode::INSUFFICIENT_STORAGE, error.to_string()))?;
    }
    shared.node.apply(config.clone());
    Ok(())
}

fn addressee(config: &NodeConfig) -> (NodeKind, uuid::Uuid) {
    match config {
        NodeConfig::DiskNode(config) => (NodeKind::DiskNode, config.node.0),
        NodeConfig::ControllerNode(config) => (NodeKind::ControllerNode, config.node.0),
    }
}

/// Whether, and how long, to wait for news.
#[derive(Debug, Deserialize)]
struct Wait {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_ms: u64,
}

async fn tell_status(State(shared): State<Arc<Shared>>, Query(wait): Query<Wait>) -> Response {
    let told = tokio::task::spawn_blocking(move || {
        let timeout = Duration::from_millis(wait.wait_ms.min(WAIT_MS_MAX));
        if !timeout.is_zero() {
            shared.node.wait_status(wait.after, timeout);
        }
        answer(&shared, wait.after)
    });
    match told.await {
        Ok(answer) => Json(answer).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The version is read before the status: news in between is told again rather than lost.
pub(crate) fn answer(shared: &Shared, after: u64) -> StatusAnswer {
    let version = shared.node.wait_status(after, Duration::ZERO);
    StatusAnswer {
        version,
        status: shared.node.status(),
    }
}
