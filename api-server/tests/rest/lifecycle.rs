//! What people do all day.

use crate::world::{NQN, World, call};
use cluster::key;
use cluster::operation::{Operation, OperationState, Wish};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn from_a_pool_to_an_attachment_and_back() {
    let world = World::with_nodes().await;
    let pool = json!({"name": "p", "capacity": "4GiB", "extent": "64MiB"});
    let pool = world.post("/v1/pools", pool).await.ok(202);
    assert_eq!(pool.text("/operation/kind"), "create-pool");
    assert_eq!(
        pool.header("location"),
        format!("/v1/operations/{}", pool.text("/operation/id"))
    );
    assert_eq!(pool.body["resource"]["status"]["state"], "waiting");
    assert_eq!(
        pool.body["resource"]["protection"],
        json!({"kind": "mirror", "legs": 2})
    );
    let shown = world.get("/v1/pools/p").await.ok(200);
    assert_eq!(
        (shown.header("etag"), &shown.body),
        (pool.header("etag"), &pool.body["resource"])
    );
    let volume = world
        .post("/v1/volumes", json!({"name": "v", "pool": "p", "size": "1GiB"}))
        .await
        .ok(202);
    assert_eq!(volume.body["resource"]["nsid"], 1);
    assert_eq!(
        world
            .get(&format!("/v1/volumes/{}", volume.text("/resource/id")))
            .await
            .body,
        volume.body["resource"]
    );
    let host = world
        .post("/v1/hosts", json!({"name": "h", "nqn": NQN}))
        .await
        .ok(201);
    assert_eq!(host.header("location"), format!("/v1/hosts/{}", host.text("/id")));
    assert_eq!(world.get(host.header("location")).await.body, host.body);
    let attached = world
        .post("/v1/attachments", json!({"volume": "v", "host": NQN}))
        .await
        .ok(202);
    for path in [
        "/v1/attachments/v.h",
        &format!("/v1/attachments/{}", attached.text("/resource/id")),
    ] {
        assert_eq!(world.get(path).await.ok(200).body, attached.body["resource"]);
    }
    assert_eq!(attached.text("/resource/host_nqn"), NQN);
    assert_eq!(world.get("/v1/hosts/h").await.body["volumes"][0]["name"], "v");
    assert_eq!(world.get("/v1/volumes/v").await.body["hosts"][0]["name"], "h");
    assert_eq!(
        world
            .get(&format!("/v1/hosts/{}", NQN.replace(':', "%3A")))
            .await
            .ok(200)
            .body["name"],
        "h"
    );
    let detached = world.delete("/v1/attachments/v.h").await.ok(202);
    assert_eq!(detached.text("/kind"), "detach");
    world.get("/v1/attachments/v.h").await.refused(404, "not-found");
    assert_eq!(world.get("/v1/hosts/h").await.body["volumes"], json!([]));
    world.delete("/v1/hosts/h").await.ok(204);
    world
        .post("/v1/hosts", json!({"name": "h", "nqn": NQN}))
        .await
        .ok(201);
    assert_eq!(
        world.delete("/v1/volumes/v").await.ok(202).text("/kind"),
        "delete-volume"
    );
    assert_eq!(
        world.get("/v1/volumes/v").await.body["status"]["state"],
        "deleting"
    );
}

#[tokio::test]
async fn namespace_identifiers_are_not_reused() {
    let world = World::with_pool().await;
    for (name, nsid) in [("a", 1), ("b", 2)] {
        let made = world
            .post("/v1/volumes", json!({"name": name, "pool": "p", "size": 4096}))
            .await;
        assert_eq!(made.ok(202).body["resource"]["nsid"], nsid);
    }
    // As a worker removes a volume that is gone.
    let id: uuid::Uuid = world
        .get("/v1/volumes/b")
        .await
        .text("/id")
        .parse()
        .expect("an id");
    let (volume, pool) = (cluster::VolumeId(id), world.pool_id("p").await);
    let gone = [
        key::volume(volume),
        key::pool_volume(pool, volume),
        key::name(key::NameKind::Volume, "b"),
    ];
    let gone = gone
        .into_iter()
        .fold(store::Transaction::default(), |gone, key| gone.delete(key));
    world.store.commit(gone).await.expect("there");
    let again = world
        .post("/v1/volumes", json!({"name": "b", "pool": "p", "size": 4096}))
        .await
        .ok(202);
    assert_eq!(again.body["resource"]["nsid"], 3);
}

#[tokio::test]
async fn a_planned_switch_writes_the_wish() {
    let world = World::with_pool().await;
    let c2 = world.controller("c2").await.id;
    let reply = world.post("/v1/pools/p/failover", json!({})).await.ok(202);
    assert_eq!(
        (reply.text("/operation/kind"), reply.text("/operation/to")),
        ("switch-owner", &*c2.to_string())
    );
    assert_eq!(world.pool("p").await.owner, Some(c2));
    world.patch("/v1/pools/p", json!({"owner": "c1"})).await.ok(202);
    assert_eq!(world.pool("p").await.owner, Some(world.controller("c1").await.id));
    let operations: Vec<Operation> = world.records(key::OPERATIONS).await;
    let switches = operations
        .iter()
        .filter(|operation| matches!(operation.wish, Wish::SwitchOwner { .. }));
    assert_eq!(switches.count(), 2);
}

#[tokio::test]
async fn waiting_for_an_operation() {
    let world = World::with_pool().await;
    let made = world
        .post("/v1/volumes", json!({"name": "v", "pool": "p", "size": 4096}))
        .await
        .ok(202);
    let path = made.header("location").to_string();
    assert_eq!(world.get(&path).await.ok(200).body["state"], "running");
    let begun = Instant::now();
    assert_eq!(
        world.get(&format!("{path}?wait_seconds=1")).await.ok(200).body["state"],
        "running"
    );
    assert!(
        begun.elapsed() >= Duration::from_millis(900),
        "it waits for the end"
    );
    world
        .get(&format!("{path}?wait_seconds=61"))
        .await
        .refused(422, "invalid-value");
    let mut operation: Operation = world
        .record(path.replace("/v1/", ""))
        .await
        .expect("it was begun");
    let id = operation.id;
    let waiting = tokio::spawn({
        let (api, path) = (world.api.clone(), format!("{path}?wait_seconds=50"));
        async move { call(&api, "GET", &path, &[], String::new()).await }
    });
    operation.state = OperationState::Running {
        waits_for: vec!["the owner".into()],
    };
    world.put(key::operation(id), &operation).await;
    assert_eq!(world.get(&path).await.body["waits_for"], json!(["the owner"]));
    operation.state = OperationState::Done { at_ms: 5 };
    world.put(key::operation(id), &operation).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("at once")
        .expect("an answer");
    assert_eq!(
        (&answer.body["state"], &answer.body["ended_ms"]),
        (&json!("done"), &json!(5))
    );
    assert_eq!(
        world.get(&format!("{path}?wait_seconds=50")).await.body["state"],
        "done"
    );
    let listed = world.get("/v1/operations?state=running").await.ok(200);
    let kinds: Vec<_> = listed.body["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|o| &o["kind"])
        .collect();
    assert_eq!(kinds, ["create-pool"]);
    let about = format!("/v1/operations?about={}", made.text("/resource/id"));
    assert_eq!(
        world.get(&about).await.body["items"]
            .as_array()
            .expect("a list")
            .len(),
        1
    );
}

async fn pages(world: &World, path: &str) -> Vec<Value> {
    let (mut items, mut next, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = world.get(&format!("{path}{next}")).await.ok(200);
        items.extend(page.body["items"].as_array().expect("a list").clone());
        pages += 1;
        match page.body.get("continuation") {
            Some(token) => next = format!("&continue={}", token.as_str().expect("text")),
            None => break,
        }
        assert!(pages < 100, "pages without an end");
    }
    items
}

#[tokio::test]
async fn lists_come_in_pages_and_filtered() {
    let world = World::with_pool().await;
    world
        .post("/v1/pools", json!({"name": "q", "capacity": "1GiB"}))
        .await
        .ok(202);
    for index in 0..25 {
        let pool = if index % 5 == 0 { "q" } else { "p" };
        world
            .post(
                "/v1/volumes",
                json!({"name": format!("v{index}"), "pool": pool, "size": 4096}),
            )
            .await
            .ok(202);
    }
    for limit in [1, 7, 25, 26, 1000] {
        let items = pages(&world, &format!("/v1/volumes?limit={limit}")).await;
        let ids: std::collections::BTreeSet<_> = items.iter().map(|item| item["id"].to_string()).collect();
        assert_eq!((items.len(), ids.len()), (25, 25), "limit {limit}");
        assert_eq!(
            pages(&world, &format!("/v1/volumes?pool=q&limit={limit}"))
                .await
                .len(),
            5,
            "limit {limit}"
        );
    }
    assert_eq!(pages(&world, "/v1/volumes?name=v7&limit=1").await.len(), 1);
    assert_eq!(pages(&world, "/v1/pools?name=q").await.len(), 1);
    assert_eq!(pages(&world, "/v1/disk-nodes?limit=2").await.len(), 3);
    assert_eq!(
        pages(&world, "/v1/controller-nodes?name=c2").await[0]["name"],
        "c2"
    );
    let events = pages(&world, "/v1/events?limit=10").await;
    assert_eq!(events.len(), 5 + 2 + 25);
    assert!(events.is_sorted_by_key(|event| event["id"].to_string()));
    let last = world.get("/v1/events?last=3").await.ok(200);
    assert_eq!(
        last.body["items"].as_array().expect("a list"),
        &events[events.len() - 3..]
    );
    assert_eq!(
        world.get("/v1/events?severity=warning").await.body["items"],
        json!([])
    );
}

#[tokio::test]
async fn nodes_are_cordoned_and_moved() {
    let world = World::with_nodes().await;
    for (noun, name) in [("disk-nodes", "d1"), ("controller-nodes", "c1")] {
        let path = format!("/v1/{noun}/{name}");
        let before = world.get(&path).await.ok(200);
        assert_eq!(
            (&before.body["state"], &before.body["cordoned"]),
            (&json!("up"), &json!(false))
        );
        let after = world
            .patch(&path, json!({"cordoned": true, "location": "rack 7"}))
            .await
            .ok(200);
        assert_eq!(after.body, world.get(&path).await.body);
        assert_eq!(
            (&after.body["cordoned"], &after.body["location"]),
            (&json!(true), &json!("rack 7"))
        );
        assert_ne!(after.header("etag"), before.header("etag"));
        assert!(after.body.get("agent_token").is_none(), "secrets are not shown");
        world
            .patch(&path, json!({"cordon": false}))
            .await
            .refused(400, "malformed");
        world
            .patch(&path, json!({"location": "a\nb"}))
            .await
            .refused(422, "invalid-value");
        world.delete(&path).await.ok(204);
        world.get(&path).await.refused(404, "not-found");
    }
    assert_eq!(world.get("/healthz").await.ok(200).body, "ok\n");
}
