//! A store that is away: told as that, with when to ask again; and whether it may have happened.

use crate::world::{Reply, call, options};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use store::{
    BoxFuture, KeyRange, Lease, LeaseId, Limits, Outcome, Read, Snapshot, Store, StoreError, StoreRevision,
    Transaction, Watch,
};

/// Answers nothing; or reads, and does not answer commits.
struct Broken {
    reads: bool,
}

fn away<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    let error = StoreError::Away {
        waited: Duration::from_secs(5),
        reason: "nobody listens".into(),
    };
    Box::pin(async { Err(error) })
}

impl Store for Broken {
    fn read(&self, _: Read) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        if !self.reads {
            return away();
        }
        Box::pin(async {
            Ok(Snapshot {
                revision: StoreRevision(1),
                entries: Vec::new(),
                more: false,
            })
        })
    }
    fn commit(&self, _: Transaction) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        let error = StoreError::OutcomeUnknown {
            waited: Duration::from_secs(5),
            reason: "no answer".into(),
        };
        if self.reads {
            Box::pin(async { Err(error) })
        } else {
            away()
        }
    }
    fn watch(&self, _: KeyRange, _: StoreRevision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        away()
    }
    fn grant_lease(&self, _: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        away()
    }
    fn keep_lease_alive(&self, _: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        away()
    }
    fn revoke_lease(&self, _: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        away()
    }
    fn compact(&self, _: StoreRevision) -> BoxFuture<'_, Result<(), StoreError>> {
        away()
    }
    fn limits(&self) -> Limits {
        Limits::DEFAULT
    }
}

async fn ask(reads: bool, method: &str, path: &str, body: serde_json::Value) -> Reply {
    let api = api_server::router(Arc::new(Broken { reads }), options());
    call(
        &api,
        method,
        path,
        &[("authorization", "Bearer join-us")],
        body.to_string(),
    )
    .await
}

#[tokio::test]
async fn everything_is_told_and_nothing_hangs() {
    let host = json!({"name": "h", "nqn": crate::world::NQN});
    let join = json!({
        "kind": "disk-node", "id": uuid::Uuid::new_v4(), "name": "d", "location": "",
        "incarnation": uuid::Uuid::new_v4(), "agent_address": "127.0.0.1:1", "fabric_address": "127.0.0.1:2",
    });
    for (method, path, body) in [
        ("GET", "/v1/pools", json!({})),
        ("GET", "/v1/volumes/v", json!({})),
        ("POST", "/v1/hosts", host),
        ("DELETE", "/v1/hosts/h", json!({})),
        ("PATCH", "/v1/volumes/v", json!({"size": 4096})),
        (
            "GET",
            "/v1/operations/6ba7b810-9dad-11d1-80b4-00c04fd430c8?wait_seconds=5",
            json!({}),
        ),
        ("GET", "/v1/events", json!({})),
        ("GET", "/healthz", json!({})),
        ("POST", "/internal/v1/join", join),
    ] {
        let reply = ask(false, method, path, body).await;
        assert!(
            reply.refused(503, "store-away")["detail"]
                .as_str()
                .expect("text")
                .contains("nobody listens")
        );
        assert_eq!(reply.header("retry-after"), "2", "{path}");
    }
    ask(false, "GET", "/v1/openapi.json", json!({})).await.ok(200);
}

#[tokio::test]
async fn what_may_have_happened_is_told_as_that() {
    let reply = ask(
        true,
        "POST",
        "/v1/hosts",
        json!({"name": "h", "nqn": crate::world::NQN}),
    )
    .await;
    let hint = reply.refused(503, "store-away")["hint"].as_str().expect("text");
    assert!(
        hint.contains("may have happened") && hint.contains("Idempotency-Key"),
        "{hint}"
    );
}
