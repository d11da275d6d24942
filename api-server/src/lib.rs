//! The api-server: people's wishes into records, records into answers; and, for nodes, joining and membership (R3).
//!
//! Every request is one transaction of the store. What a request wishes is written down and answered; making it true is
//! the workers' part, and an operation lets people watch. Long waits watch the store.
//!
//! What it deliberately is not: it plans nothing, speaks to no node, and keeps nothing between requests, so that any
//! number may run and each may be killed at any moment.
//!
//! Invariants:
//! - A refusal has changed nothing.
//! - Every refusal is a problem (RFC 9457) that says what to do.
//! - A request that was answered with success is durable.
#![forbid(unsafe_code)]

mod answer;
mod attachments;
mod cluster_record;
mod error;
mod events;
mod facts;
mod fresh;
mod health;
mod hosts;
mod idempotency;
mod lookup;
mod membership;
mod nodes;
mod openapi;
mod operations;
mod page;
mod placement_check;
mod pools;
mod registration;
mod request;
mod routes;
mod secret;
mod volumes;

pub use cluster_record::ensure_cluster;
pub use openapi::document as openapi_document;
pub use routes::router;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::net::TcpListener;

/// How an api-server is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What nodes must show to join, beside what the cluster's record says; the first api-server of a cluster writes it
    /// there, or, if nothing is given, draws one.
    pub join_token: Option<String>,
    /// The longest body of a request.
    pub body_bytes_max: usize,
}

impl Options {
    /// With defaults: no token of its own, bodies up to 64 KiB.
    pub fn new(listen: SocketAddr) -> Options {
        Options {
            listen,
            join_token: None,
            body_bytes_max: 64 << 10,
        }
    }
}

/// Why it could not run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunApiServer {
    /// Somebody else listens there, or it is no address of this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The listener failed.
    #[error("the listener failed")]
    Serve {
        /// Why.
        #[from]
        source: std::io::Error,
    },
}

/// How long requests under way may take when it is shut down.
const GRACE: Duration = Duration::from_secs(2);

/// Listen and serve until `shutdown`.
///
/// Errors: [`RunApiServer`].
pub async fn run(
    store: Arc<dyn Store>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunApiServer> {
    let address = options.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| RunApiServer::Listen { address, source })?;
    serve(listener, store, options, shutdown).await
}

/// Serve on a listener that is bound already, until `shutdown`.
///
/// Errors: [`RunApiServer::Serve`].
pub async fn serve(
    listener: TcpListener,
    store: Arc<dyn Store>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunApiServer> {
    match ensure_cluster(&store, options.join_token.as_deref()).await {
        Ok(cluster) => {
            tracing::info!(cluster = %cluster.id, address = ?listener.local_addr().ok(), "api-server serves")
        }
        // It is made when the first node joins, and everything is answered 503 until then.
        Err(error) => tracing::warn!(%error, "the store does not answer yet"),
    }
    let (ending, ended) = tokio::sync::oneshot::channel();
    let signal = async move {
        shutdown.await;
        let _ = ending.send(());
    };
    let served = axum::serve(listener, router(store, options)).with_graceful_shutdown(signal);
    tokio::select! {
        result = async { served.await } => result?,
        // Long waits are not waited for.
        () = async { _ = ended.await; tokio::time::sleep(GRACE).await } => {}
    }
    Ok(())
}
