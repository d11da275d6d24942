//! Nodes: joining, hello, membership.

use crate::world::{JOIN_TOKEN, Reply, World, call};
use cluster::layout::{Membership, PoolLayout};
use cluster::spec::NodeSpec;
use cluster::{ControllerNodeId, DiskNodeId, Epoch, GroupId, LegId, key};
use serde_json::{Value, json};
use uuid::Uuid;

async fn post(world: &World, path: &str, token: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer {token}");
    call(
        &world.api,
        "POST",
        path,
        &[("authorization", &bearer)],
        body.to_string(),
    )
    .await
}

fn join_request(name: &str) -> Value {
    json!({
        "kind": "disk-node", "id": Uuid::new_v4(), "name": name, "location": "rack 1", "incarnation": Uuid::new_v4(),
        "agent_address": "127.0.0.1:7001", "fabric_address": "127.0.0.1:4420",
    })
}

#[tokio::test]
async fn joining_is_idempotent_and_needs_the_token() {
    let world = World::new();
    let mut request = join_request("d1");
    for token in ["", "join-u", "join-us2", "x"] {
        post(&world, "/internal/v1/join", token, &request)
            .await
            .refused(401, "unauthorized");
    }
    let none = call(&world.api, "POST", "/internal/v1/join", &[], request.to_string()).await;
    assert_eq!(none.refused(401, "unauthorized")["status"], 401);
    assert_eq!(none.header("www-authenticate"), "Bearer");
    let first = post(&world, "/internal/v1/join", JOIN_TOKEN, &request)
        .await
        .ok(200);
    request["agent_address"] = json!("127.0.0.1:9999");
    let again = post(&world, "/internal/v1/join", JOIN_TOKEN, &request)
        .await
        .ok(200);
    assert_eq!(first.body, again.body, "the same token");
    let nodes: Vec<NodeSpec<DiskNodeId>> = world.records(key::DISK_NODES).await;
    assert_eq!(
        (
            nodes.len(),
            nodes[0].agent_address.port(),
            nodes[0].location.as_str()
        ),
        (1, 9999, "rack 1")
    );
    post(&world, "/internal/v1/join", JOIN_TOKEN, &join_request("d1"))
        .await
        .refused(409, "name-taken");
    for (field, value) in [
        ("name", json!("D 1")),
        ("fabric_address", json!("0.0.0.0:4420")),
        ("agent_address", json!("127.0.0.1:0")),
        ("location", json!("a\u{0}b")),
    ] {
        let mut odd = join_request("d2");
        odd[field] = value;
        post(&world, "/internal/v1/join", JOIN_TOKEN, &odd)
            .await
            .refused(422, "invalid-value");
    }
    // The two kinds have names of their own.
    let mut controller = join_request("d1");
    controller["kind"] = json!("controller-node");
    post(&world, "/internal/v1/join", JOIN_TOKEN, &controller)
        .await
        .ok(200);
}

#[tokio::test]
async fn hello_needs_the_nodes_own_token() {
    let world = World::with_nodes().await;
    let c1 = world.controller("c1").await;
    let c2 = world.controller("c2").await;
    let hello = json!({
        "kind": "controller-node", "id": c1.id, "incarnation": Uuid::new_v4(),
        "agent_address": "127.0.0.1:7777", "fabric_address": "127.0.0.1:7778",
    });
    let guessed = format!("c.{}.{}", c1.id, "0".repeat(64));
    for token in [
        JOIN_TOKEN,
        c2.agent_token.as_str(),
        &guessed,
        &c1.agent_token[..60],
        "",
    ] {
        post(&world, "/internal/v1/hello", token, &hello)
            .await
            .refused(401, "unauthorized");
    }
    assert_eq!(world.controller("c1").await, c1);
    post(&world, "/internal/v1/hello", &c1.agent_token, &hello)
        .await
        .ok(204);
    let renewed = world.controller("c1").await;
    assert_eq!(
        (renewed.agent_address.port(), renewed.fabric_address.port()),
        (7777, 7778)
    );
    assert_ne!(renewed.incarnation, c1.incarnation);
    let before = world.revision().await;
    post(&world, "/internal/v1/hello", &c1.agent_token, &hello)
        .await
        .ok(204);
    assert_eq!(world.revision().await, before, "nothing new, nothing written");
    world.delete("/v1/controller-nodes/c1").await.ok(204);
    post(&world, "/internal/v1/hello", &c1.agent_token, &hello)
        .await
        .refused(401, "unauthorized");
}

/// A served pool, and how its owner speaks.
struct Owned {
    world: World,
    layout: PoolLayout,
    membership: Membership,
    group: GroupId,
    legs: Vec<LegId>,
    owner: NodeSpec<ControllerNodeId>,
}

impl Owned {
    async fn new() -> Owned {
        let world = World::with_nodes().await;
        let pool = json!({"name": "p", "capacity": "4GiB", "extent": "64MiB", "owner": "c1"});
        world.post("/v1/pools", pool).await.ok(202);
        let (layout, membership) = world.place("p").await;
        let group = &layout.slices[0].groups[0];
        let (group, legs) = (group.group, group.legs.iter().map(|leg| leg.leg).collect());
        let owner = world.controller("c1").await;
        Owned {
            world,
            layout,
            membership,
            group,
            legs,
            owner,
        }
    }
    async fn ask(&self, request: u64, epoch: u64, change: Value) -> String {
        let token = &self.owner.agent_token;
        self.ask_as(token, request, epoch, change)
            .await
            .ok(200)
            .text("/outcome")
            .to_string()
    }
    async fn ask_as(&self, token: &str, request: u64, epoch: u64, change: Value) -> Reply {
        let slice = self.membership.slice;
        let body = json!({"request": request, "slice": slice, "epoch": epoch, "change": change});
        post(&self.world, "/internal/v1/membership", token, &body).await
    }
    fn in_sync(&self, legs: &[LegId]) -> Value {
        json!({"kind": "in-sync", "group": self.group, "in_sync": legs})
    }
    async fn record(&self) -> Membership {
        self.world
            .record(key::membership(self.membership.slice))
            .await
            .expect("it is there")
    }
    async fn recorded_legs(&self) -> Vec<LegId> {
        self.record().await.groups[&self.group]
            .in_sync
            .iter()
            .copied()
            .collect()
    }
}

#[tokio::test]
async fn formatting_is_recorded_once() {
    let owned = Owned::new().await;
    let (group, slice) = (
        json!({"kind": "group-formatted", "group": owned.group}),
        json!({"kind": "slice-formatted"}),
    );
    assert_eq!(
        owned.ask(1, 1, slice.clone()).await,
        "refused",
        "groups come first"
    );
    assert_eq!(
        owned.ask(2, 1, owned.in_sync(&owned.legs[..1])).await,
        "refused",
        "not formatted yet"
    );
    assert_eq!(owned.ask(3, 1, group.clone()).await, "committed");
    assert_eq!(owned.ask(4, 1, slice.clone()).await, "committed");
    assert!(owned.record().await.formatted && owned.record().await.groups[&owned.group].formatted);
    assert_eq!(
        owned.ask(5, 1, owned.in_sync(&owned.legs[..1])).await,
        "committed"
    );
    assert_eq!(owned.ask(6, 1, group).await, "committed");
    assert_eq!(
        owned.recorded_legs().await,
        owned.legs[..1],
        "said again, it brings no leg back"
    );
    assert_eq!(owned.ask(7, 1, slice).await, "committed");
    assert_eq!(owned.record().await.epoch, Epoch(1));
}

#[tokio::test]
async fn the_set_shrinks_and_grows_under_its_epoch_only() {
    let owned = Owned::new().await;
    let legs = {
        let mut legs = owned.legs.clone();
        legs.sort();
        legs
    };
    assert_eq!(
        owned
            .ask(1, 1, json!({"kind": "group-formatted", "group": owned.group}))
            .await,
        "committed"
    );
    assert_eq!(owned.recorded_legs().await, legs);
    let smaller = owned.in_sync(&legs[..1]);
    assert_eq!(owned.ask(2, 1, smaller.clone()).await, "committed");
    let before = owned.world.revision().await;
    assert_eq!(
        owned.ask(2, 1, smaller.clone()).await,
        "committed",
        "an answer that was lost is given again"
    );
    assert_eq!(
        owned.world.revision().await,
        before,
        "and nothing is written again"
    );
    assert_eq!(
        owned.ask(3, 1, owned.in_sync(&legs)).await,
        "committed",
        "after resync (R4)"
    );
    assert_eq!(owned.ask(4, 1, smaller.clone()).await, "committed");
    assert_eq!(
        owned.ask(3, 1, owned.in_sync(&legs)).await,
        "refused",
        "late: it would bring a leg back"
    );
    assert_eq!(owned.recorded_legs().await, legs[..1]);
    for odd in [
        owned.in_sync(&[]),
        owned.in_sync(&[LegId(Uuid::new_v4())]),
        json!({"kind": "in-sync", "group": Uuid::new_v4(), "in_sync": legs}),
        json!({"kind": "group-formatted", "group": Uuid::new_v4()}),
    ] {
        assert_eq!(owned.ask(9, 1, odd).await, "refused");
    }
    assert_eq!(
        owned.ask(9, 2, owned.in_sync(&legs)).await,
        "refused",
        "an epoch nobody granted"
    );
    let mut granted = owned.record().await;
    granted.epoch = Epoch(2);
    owned.world.put(key::membership(granted.slice), &granted).await;
    assert_eq!(owned.ask(9, 1, owned.in_sync(&legs)).await, "stale-epoch");
    assert_eq!(owned.recorded_legs().await, legs[..1]);
    assert_eq!(
        owned.ask(1, 2, owned.in_sync(&legs)).await,
        "committed",
        "each epoch numbers anew"
    );
    assert_eq!(owned.recorded_legs().await, legs);
    assert_eq!(owned.layout.slices[0].slice, granted.slice);
}

#[tokio::test]
async fn only_the_owner_changes_membership() {
    let owned = Owned::new().await;
    let change = json!({"kind": "group-formatted", "group": owned.group});
    let standby = owned.world.controller("c2").await;
    let reply = owned
        .ask_as(&standby.agent_token, 1, 1, change.clone())
        .await
        .ok(200);
    assert_eq!(reply.text("/outcome"), "refused");
    let disk_nodes: Vec<NodeSpec<DiskNodeId>> = owned.world.records(key::DISK_NODES).await;
    let guessed = format!("c.{}.{}", owned.owner.id, "0".repeat(64));
    for token in [disk_nodes[0].agent_token.as_str(), JOIN_TOKEN, &guessed, ""] {
        owned
            .ask_as(token, 1, 1, change.clone())
            .await
            .refused(401, "unauthorized");
    }
    assert_eq!(owned.record().await, owned.membership);
    let unknown = json!({"request": 1, "slice": Uuid::new_v4(), "epoch": 1, "change": change});
    let reply = post(
        &owned.world,
        "/internal/v1/membership",
        &owned.owner.agent_token,
        &unknown,
    )
    .await
    .ok(200);
    assert_eq!(reply.body["outcome"], "refused");
}
