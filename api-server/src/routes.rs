//! The table of paths.

use crate::error::ApiError;
use crate::{
    Options, attachments, events, health, hosts, membership, nodes, openapi, operations, pools, registration,
    volumes,
};
use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::{get, post};
use control::problem::ProblemKind;
use std::sync::Arc;
use store::Store;

/// What every request has at hand.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: Arc<Options>,
}

/// All of it, as a service: [`crate::run`] listens with it, tests call it.
pub fn router(store: Arc<dyn Store>, options: Options) -> Router {
    let app = App {
        store,
        options: Arc::new(options),
    };
    Router::new()
        .merge(people())
        .route("/internal/v1/join", post(registration::join))
        .route("/internal/v1/hello", post(registration::hello))
        .route("/internal/v1/membership", post(membership::change))
        .route("/healthz", get(health::healthz))
        .route("/v1/openapi.json", get(openapi::serve))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(app)
}

/// What people use: each of these is in the OpenAPI document.
fn people() -> Router<App> {
    Router::new()
        .route("/v1/disk-nodes", get(nodes::list_disk_nodes))
        .route(
            "/v1/disk-nodes/{node}",
            get(nodes::show_disk_node)
                .patch(nodes::patch_disk_node)
                .delete(nodes::delete_disk_node),
        )
        .route("/v1/controller-nodes", get(nodes::list_controller_nodes))
        .route(
            "/v1/controller-nodes/{node}",
            get(nodes::show_controller_node)
                .patch(nodes::patch_controller_node)
                .delete(nodes::delete_controller_node),
        )
        .route("/v1/pools", get(pools::list).post(pools::create))
        .route(
            "/v1/pools/{pool}",
            get(pools::show).patch(pools::patch).delete(pools::delete),
        )
        .route("/v1/pools/{pool}/failover", post(pools::failover))
        .route("/v1/volumes", get(volumes::list).post(volumes::create))
        .route(
            "/v1/volumes/{volume}",
            get(volumes::show).patch(volumes::patch).delete(volumes::delete),
        )
        .route("/v1/hosts", get(hosts::list).post(hosts::create))
        .route("/v1/hosts/{host}", get(hosts::show).delete(hosts::delete))
        .route(
            "/v1/attachments",
            get(attachments::list).post(attachments::create),
        )
        .route(
            "/v1/attachments/{attachment}",
            get(attachments::show).delete(attachments::delete),
        )
        .route("/v1/operations", get(operations::list))
        .route("/v1/operations/{operation}", get(operations::show))
        .route("/v1/events", get(events::list))
}

async fn no_such_path(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("there is no path {path:?}");
    ApiError::refused(
        ProblemKind::NotFound,
        detail,
        "see what there is: GET /v1/openapi.json",
    )
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("{path:?} does not know the method {method}");
    ApiError::refused(
        ProblemKind::MethodNotAllowed,
        detail,
        "see what there is: GET /v1/openapi.json",
    )
}
