//! What is, as people see it: from what workers wrote of what nodes said.

use crate::world::{NQN, World};
use cluster::status::{NodeHealth, Observed, VolumeStatus};
use cluster::{VolumeId, key};
use serde_json::json;

#[tokio::test]
async fn a_served_pool_and_its_volume() {
    let world = World::with_nodes().await;
    world
        .post(
            "/v1/pools",
            json!({"name": "p", "capacity": "4GiB", "extent": "64MiB", "owner": "c1"}),
        )
        .await
        .ok(202);
    let (layout, membership) = world.place("p").await;
    let made = world
        .post("/v1/volumes", json!({"name": "v", "pool": "p", "size": "1GiB"}))
        .await
        .ok(202);
    assert_eq!(made.body["resource"]["status"]["state"], "creating");
    let volume = VolumeId(made.text("/resource/id").parse().expect("an id"));
    let status = VolumeStatus {
        volume,
        extents_mapped: 3,
        size_blocks: 1 << 18,
    };
    world.serve(&layout, &membership, vec![status]).await;
    let shown = world.get("/v1/volumes/v").await.ok(200);
    let status = &shown.body["status"];
    assert_eq!(
        (&status["state"], &status["mapped_bytes"]),
        (&json!("online"), &json!(3_u64 * (64 << 20)))
    );
    assert_eq!(status["served_bytes"], 1_u64 << 30);
    let paths = &status["paths"];
    assert_eq!(
        (&paths[0]["controller_node"]["name"], &paths[0]["state"]),
        (&json!("c1"), &json!("optimized"))
    );
    assert_eq!(
        (&paths[1]["controller_node"]["name"], &paths[1]["state"]),
        (&json!("c2"), &json!("inaccessible"))
    );
    assert_eq!(paths[0]["address"], "127.0.0.1:4420");
    let pool = world.get("/v1/pools/p").await.ok(200);
    let status = &pool.body["status"];
    assert_eq!(
        (&status["state"], &status["owner"]["name"]),
        (&json!("serving"), &json!("c1"))
    );
    assert_eq!(
        (&status["epoch"], &status["used_bytes"]),
        (&json!(1), &json!(3_u64 * (64 << 20)))
    );
    assert_eq!(status["groups"][0]["in_sync"], 2);
    assert_eq!(status["groups"][0]["legs"].as_array().expect("legs").len(), 2);
    world
        .post("/v1/hosts", json!({"name": "h", "nqn": NQN}))
        .await
        .ok(201);
    let attached = world
        .post("/v1/attachments", json!({"volume": "v", "host": "h"}))
        .await
        .ok(202);
    assert_eq!(&attached.body["resource"]["paths"], paths);
}

#[tokio::test]
async fn degraded_opening_unavailable() {
    let world = World::with_nodes().await;
    world
        .post(
            "/v1/pools",
            json!({"name": "p", "capacity": "4GiB", "extent": "64MiB", "owner": "c1"}),
        )
        .await
        .ok(202);
    let (layout, membership) = world.place("p").await;
    let state = async || world.get("/v1/pools/p").await.ok(200).body["status"]["state"].clone();
    assert_eq!(state().await, "serving");
    let mut degraded = membership.clone();
    _ = degraded
        .groups
        .values_mut()
        .next()
        .expect("one")
        .in_sync
        .pop_first();
    world.put(key::membership(membership.slice), &degraded).await;
    assert_eq!(state().await, "degraded");
    // A new grant: the owner serves under the old epoch still, which is not serving.
    degraded.epoch.0 += 1;
    world.put(key::membership(membership.slice), &degraded).await;
    assert_eq!(state().await, "opening");
    world.serve(&layout, &degraded, Vec::new()).await;
    assert_eq!(state().await, "degraded");
    let id = membership.owner;
    let mut observed: Observed<cluster::status::ControllerNodeStatus> = world
        .record(key::controller_node_status(id))
        .await
        .expect("it was asked");
    observed.health = NodeHealth {
        reachable: false,
        since_ms: 7,
    };
    world.put(key::controller_node_status(id), &observed).await;
    assert_eq!(state().await, "unavailable");
    let paths = world.get("/v1/pools/p").await.body["status"]["paths"].clone();
    let c1 = paths
        .as_array()
        .expect("paths")
        .iter()
        .find(|path| path["controller_node"]["name"] == "c1");
    assert_eq!(c1.expect("it is a controller node of the pool")["state"], "away");
    let node = world.get("/v1/controller-nodes/c1").await;
    assert_eq!(
        (&node.body["state"], &node.body["since_ms"]),
        (&json!("down"), &json!(7))
    );
    world.delete("/v1/pools/p").await.ok(202);
    assert_eq!(state().await, "deleting");
}
