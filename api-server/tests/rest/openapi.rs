//! The description of the interface is what the code says, and what is checked in.
//!
//! To renew `docs/openapi.json`: `RENEW_OPENAPI=1 cargo test -p api-server --test rest openapi`.

use crate::world::{World, call};
use serde_json::Value;

#[test]
fn the_checked_in_document_is_the_codes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let text = api_server::openapi_document()
        .to_pretty_json()
        .expect("a document is plain")
        + "\n";
    if std::env::var_os("RENEW_OPENAPI").is_some() {
        std::fs::write(path, &text).expect("docs can be written");
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    let hint = "RENEW_OPENAPI=1 cargo test -p api-server --test rest openapi";
    assert!(
        checked_in == text,
        "docs/openapi.json is not what the code says; renew it: {hint}"
    );
}

#[tokio::test]
async fn every_operation_of_the_document_is_served() {
    let world = World::new();
    let document = world.get("/v1/openapi.json").await.ok(200).body;
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );
    let mut operations = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("a name").to_string();
            assert!(operations.insert(id.clone()), "{id} twice");
            let concrete: String = path.replace(['{', '}'], "");
            let reply = call(&world.api, &method.to_uppercase(), &concrete, &[], "{}").await;
            let unrouted = reply.body["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("there is no path"));
            assert!(!unrouted && reply.status != 405, "{method} {path}: {reply:?}");
        }
    }
    assert_eq!(operations.len(), 30, "{operations:?}");
}

#[test]
fn every_reference_of_the_document_is_there() {
    let document = serde_json::to_value(api_server::openapi_document()).expect("plain");
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("all are in the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(String::from));
            fields.values().for_each(|field| collect(field, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}
