//! Two api-servers, many clients, one store; and requests that come twice.

use crate::world::{NQN, Reply, World, call, options};
use axum::Router;
use cluster::key;
use serde_json::{Value, json};

/// The same request to two api-servers at once, several times each.
async fn race(
    world: &World,
    path: &str,
    body: impl Fn(usize) -> Value,
    headers: &[(&str, &str)],
) -> Vec<Reply> {
    let servers: [Router; 2] = std::array::from_fn(|_| api_server::router(world.store.clone(), options()));
    let calls = (0..8).map(|index| {
        call(
            &servers[index % 2],
            "POST",
            path,
            headers,
            body(index).to_string(),
        )
    });
    futures::future::join_all(calls).await
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies
        .iter()
        .filter(|reply| reply.status.as_u16() == status)
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_is_given_once() {
    let world = World::with_pool().await;
    for (path, body, made) in [
        (
            "/v1/volumes",
            json!({"name": "v", "pool": "p", "size": 4096}),
            202,
        ),
        ("/v1/pools", json!({"name": "q", "capacity": "1GiB"}), 202),
        ("/v1/hosts", json!({"name": "h", "nqn": NQN}), 201),
        ("/v1/attachments", json!({"volume": "v", "host": "h"}), 202),
    ] {
        let replies = race(&world, path, |_| body.clone(), &[]).await;
        assert_eq!(
            (count(&replies, made), count(&replies, 409)),
            (1, 7),
            "{replies:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespace_identifiers_differ() {
    let world = World::with_pool().await;
    let body = |index: usize| json!({"name": format!("v{index}"), "pool": "p", "size": 4096});
    let replies = race(&world, "/v1/volumes", body, &[]).await;
    let nsids: std::collections::BTreeSet<_> = replies
        .iter()
        .map(|reply| reply.body["resource"]["nsid"].as_u64().expect("made"))
        .collect();
    assert_eq!(nsids, (1..=8).collect());
    assert_eq!(world.pool("p").await.next_nsid, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_and_using_do_not_both_happen() {
    let world = World::with_pool().await;
    for round in 0..10 {
        let (volume, host) = (format!("v{round}"), format!("h{round}"));
        world
            .post("/v1/volumes", json!({"name": volume, "pool": "p", "size": 4096}))
            .await
            .ok(202);
        world
            .post("/v1/hosts", json!({"name": host, "nqn": format!("{NQN}{round}")}))
            .await
            .ok(201);
        let attach = json!({"volume": volume, "host": host});
        let target = format!("/v1/volumes/{volume}");
        let (attached, deleted) = tokio::join!(world.post("/v1/attachments", attach), world.delete(&target));
        let both = (attached.status.as_u16(), deleted.status.as_u16());
        assert!([(202, 409), (409, 202)].contains(&both), "{both:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_is_done_once() {
    let world = World::with_pool().await;
    let key = [("idempotency-key", "k-1")];
    let body = json!({"name": "v", "pool": "p", "size": 4096});
    let replies = race(&world, "/v1/volumes", |_| body.clone(), &key).await;
    assert_eq!(count(&replies, 202), 8, "{replies:?}");
    let later = call(&world.api, "POST", "/v1/volumes", &key, body.to_string())
        .await
        .ok(202);
    for reply in &replies {
        assert_eq!(
            (&reply.body, reply.header("etag")),
            (&later.body, later.header("etag"))
        );
        assert_eq!(reply.header("location"), later.header("location"));
    }
    assert_eq!(world.records::<Value>(key::VOLUMES).await.len(), 1);
    assert_eq!(
        later.header("etag"),
        format!("\"{}\"", later.body["resource"]["revision"])
    );
    assert_eq!(
        world.get("/v1/volumes/v").await.header("etag"),
        later.header("etag")
    );
    let spaced = "{ \"size\": 4096, \"pool\": \"p\", \"name\": \"v\" }";
    assert_eq!(
        call(&world.api, "POST", "/v1/volumes", &key, spaced)
            .await
            .ok(202)
            .body,
        later.body
    );
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let world = World::with_pool().await;
    let key = [("idempotency-key", "k-1")];
    let post = async |path: &str, body: Value| call(&world.api, "POST", path, &key, body.to_string()).await;
    // What was refused is not remembered.
    post("/v1/volumes", json!({"name": "v", "pool": "none", "size": 4096}))
        .await
        .refused(404, "not-found");
    post("/v1/volumes", json!({"name": "v", "pool": "p", "size": 4096}))
        .await
        .ok(202);
    let other = post("/v1/volumes", json!({"name": "v", "pool": "p", "size": 8192})).await;
    other.refused(422, "key-reused");
    post("/v1/hosts", json!({"name": "h", "nqn": NQN}))
        .await
        .refused(422, "key-reused");
    for odd in ["", "a b", "a/b", &"k".repeat(129)] {
        let odd = [("idempotency-key", odd)];
        let body = json!({"name": "w", "pool": "p", "size": 4096}).to_string();
        call(&world.api, "POST", "/v1/volumes", &odd, body)
            .await
            .refused(400, "malformed");
    }
    // Without a key, or with another, it is another request.
    world
        .post("/v1/volumes", json!({"name": "v", "pool": "p", "size": 4096}))
        .await
        .refused(409, "name-taken");
}
