//! The interface's description (OpenAPI 3.1), made from the code: `docs/openapi.json` is this, and a test compares.

use crate::{attachments, events, hosts, nodes, operations, pools, volumes};
use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Trestle",
        description = "Block storage from disks spread over many servers. Wishes are written down and answered at once; \
            operations let you watch them come true. Every refusal is a problem (RFC 9457) with a hint."
    ),
    paths(
        nodes::list_disk_nodes,
        nodes::show_disk_node,
        nodes::patch_disk_node,
        nodes::delete_disk_node,
        nodes::list_controller_nodes,
        nodes::show_controller_node,
        nodes::patch_controller_node,
        nodes::delete_controller_node,
        pools::list,
        pools::create,
        pools::show,
        pools::patch,
        pools::delete,
        pools::failover,
        volumes::list,
        volumes::create,
        volumes::show,
        volumes::patch,
        volumes::delete,
        hosts::list,
        hosts::create,
        hosts::show,
        hosts::delete,
        attachments::list,
        attachments::create,
        attachments::show,
        attachments::delete,
        operations::list,
        operations::show,
        events::list,
    )
)]
struct Description;

/// The document.
pub fn document() -> Document {
    let mut document = Description::openapi();
    name_operations(&mut document);
    document
}

/// Functions are called `list` and `show` in every module; operations need names of their own: `list_pools`.
fn name_operations(document: &mut Document) {
    for (path, item) in &mut document.paths.paths {
        let noun = path
            .trim_start_matches("/v1/")
            .split('/')
            .next()
            .unwrap_or_default()
            .replace('-', "_");
        let last = path.rsplit('/').next().unwrap_or_default();
        let verbs = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
        for (verb, operation) in ["show", "create", "patch", "delete"].into_iter().zip(verbs) {
            let verb = match verb {
                "show" if !last.starts_with('{') => "list",
                "create" if last == "failover" => "failover",
                verb => verb,
            };
            if let Some(operation) = operation {
                operation.operation_id = Some(format!("{verb}_{noun}"));
            }
        }
    }
}

/// `GET /v1/openapi.json`.
pub(crate) async fn serve() -> Json<Document> {
    Json(document())
}
