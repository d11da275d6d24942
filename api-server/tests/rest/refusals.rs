//! Every refusal, exactly; and that a refusal changes nothing.

use crate::world::{NQN, Reply, World, call};
use cluster::DiskNodeId;
use serde_json::{Value, json};

/// Ask, and see that nothing was written.
async fn unchanged(world: &World, method: &str, path: &str, body: Value) -> Reply {
    let before = world.revision().await;
    let reply = call(&world.api, method, path, &[], body.to_string()).await;
    assert_eq!(
        world.revision().await,
        before,
        "{method} {path} {body} changed something: {reply:?}"
    );
    reply
}

#[tokio::test]
async fn paths_and_methods_that_are_not() {
    let world = World::new();
    for path in [
        "/",
        "/v1",
        "/v1/pools/",
        "/v1/nothing",
        "/v2/pools",
        "/v1/pools/p/nothing",
        "/v1//pools",
    ] {
        unchanged(&world, "GET", path, json!({}))
            .await
            .refused(404, "not-found");
    }
    for (method, path) in [
        ("PUT", "/v1/pools"),
        ("DELETE", "/v1/pools"),
        ("POST", "/v1/disk-nodes"),
        ("POST", "/v1/events"),
    ] {
        unchanged(&world, method, path, json!({}))
            .await
            .refused(405, "method-not-allowed");
    }
}

#[tokio::test]
async fn bodies_that_do_not_read() {
    let world = World::with_pool().await;
    let before = world.revision().await;
    for body in [
        "",
        "{",
        "null",
        "[]",
        "\"text\"",
        "{\"name\":\"v\",\"pool\":\"p\"}",
        "{\"name\":\"v\",\"pool\":\"p\",\"size\":4096,\"sise\":1}",
        "{\"name\":1,\"pool\":\"p\",\"size\":4096}",
        "{\"name\":\"v\",\"pool\":\"p\",\"size\":null}",
        "{\"name\":\"v\",\"pool\":\"p\",\"size\":{}}",
        "{\"name\":\"v\",\"name\":\"w\",\"pool\":\"p\",\"size\":4096}",
        "{\"name\":\"v\",\"pool\":\"p\",\"size\":4096} x",
        "\u{feff}{}",
    ] {
        call(&world.api, "POST", "/v1/volumes", &[], body)
            .await
            .refused(400, "malformed");
    }
    call(&world.api, "POST", "/v1/volumes", &[], vec![0xff, 0xfe])
        .await
        .refused(400, "malformed");
    let deep = "[".repeat(60_000);
    call(&world.api, "POST", "/v1/volumes", &[], deep)
        .await
        .refused(400, "malformed");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    call(&world.api, "POST", "/v1/volumes", &form, "name=v")
        .await
        .refused(415, "not-json");
    let large = json!({"name": "v".repeat(70_000), "pool": "p", "size": 4096}).to_string();
    call(&world.api, "POST", "/v1/volumes", &[], large.clone())
        .await
        .refused(413, "body-too-large");
    let told = [("content-length", "99999999")];
    call(&world.api, "POST", "/v1/volumes", &told, large)
        .await
        .refused(413, "body-too-large");
    assert_eq!(world.revision().await, before);
    let charset = [("content-type", "Application/JSON; charset=utf-8")];
    let good = json!({"name": "v", "pool": "p", "size": 4096}).to_string();
    call(&world.api, "POST", "/v1/volumes", &charset, good)
        .await
        .ok(202);
}

#[tokio::test]
async fn names_with_odd_characters() {
    let world = World::with_pool().await;
    let longest = "n".repeat(63);
    let too_long = "n".repeat(64);
    for name in [
        "", "A", "a b", "a/b", "../a", "a.b", "ä", "-a", "a-", "a\u{0}", "a\n", "'; --", &too_long,
    ] {
        for (path, body) in [
            ("/v1/volumes", json!({"name": name, "pool": "p", "size": 4096})),
            ("/v1/pools", json!({"name": name, "capacity": "1GiB"})),
            ("/v1/hosts", json!({"name": name, "nqn": NQN})),
        ] {
            unchanged(&world, "POST", path, body)
                .await
                .refused(422, "invalid-value");
        }
    }
    let id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let named_as_id = json!({"name": id, "pool": "p", "size": 4096});
    unchanged(&world, "POST", "/v1/volumes", named_as_id)
        .await
        .refused(422, "invalid-value");
    world
        .post("/v1/volumes", json!({"name": longest, "pool": "p", "size": 4096}))
        .await
        .ok(202);
    world.get(&format!("/v1/volumes/{longest}")).await.ok(200);
}

#[tokio::test]
async fn targets_with_odd_characters_are_not_there() {
    let world = World::with_pool().await;
    let long = "x".repeat(5000);
    for noun in [
        "pools",
        "volumes",
        "hosts",
        "disk-nodes",
        "controller-nodes",
        "operations",
        "attachments",
    ] {
        for target in [
            "none",
            "a%2Fb",
            "%00",
            "%2e%2e",
            "..%2f..",
            "a%20b",
            "%E4%BD%A0",
            "v.h",
            ".",
            "%7B%7D",
            &long,
        ] {
            unchanged(&world, "GET", &format!("/v1/{noun}/{target}"), json!({}))
                .await
                .refused(404, "not-found");
        }
        let unknown = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        unchanged(&world, "GET", &format!("/v1/{noun}/{unknown}"), json!({}))
            .await
            .refused(404, "not-found");
        unchanged(&world, "GET", &format!("/v1/{noun}/%ff"), json!({}))
            .await
            .refused(400, "malformed");
    }
    for target in ["none", "a%2Fb", "%00"] {
        for (method, path, body) in [
            ("DELETE", format!("/v1/volumes/{target}"), json!({})),
            ("PATCH", format!("/v1/volumes/{target}"), json!({"size": 4096})),
            ("DELETE", format!("/v1/pools/{target}"), json!({})),
            ("POST", format!("/v1/pools/{target}/failover"), json!({})),
            ("DELETE", format!("/v1/hosts/{target}"), json!({})),
            ("DELETE", format!("/v1/attachments/{target}"), json!({})),
            ("DELETE", format!("/v1/disk-nodes/{target}"), json!({})),
            ("PATCH", format!("/v1/controller-nodes/{target}"), json!({})),
        ] {
            unchanged(&world, method, &path, body)
                .await
                .refused(404, "not-found");
        }
    }
}

#[tokio::test]
async fn sizes_that_are_none() {
    let world = World::with_pool().await;
    let odd = json!([
        0,
        -1,
        -4096,
        1.5,
        4095,
        4097,
        1125899906846977_u64,
        u64::MAX,
        1e300,
        "0",
        "",
        "-4096",
        "1GB",
        "huge",
        "1e9",
        "99999999999999999999999",
        "2PiB",
        "1 G i B",
        "4097B"
    ]);
    for size in odd.as_array().expect("a list") {
        let body = json!({"name": "v", "pool": "p", "size": size});
        unchanged(&world, "POST", "/v1/volumes", body)
            .await
            .refused(422, "invalid-value");
    }
    let largest = world
        .post(
            "/v1/volumes",
            json!({"name": "huge", "pool": "p", "size": "1PiB"}),
        )
        .await
        .ok(202);
    assert_eq!(largest.body["resource"]["size_bytes"], 1_u64 << 50);
    let warning = largest.text("/resource/warnings/0");
    assert!(
        warning.contains("4 GiB") && warning.contains("1024 TiB"),
        "{warning}"
    );
    for (field, value) in [
        ("capacity", json!(0)),
        ("capacity", json!("2EiB")),
        ("capacity", json!("2000000TiB")),
        ("extent", json!("1MiB")),
        ("extent", json!("101GiB")),
        ("extent", json!(4194305)),
        ("protection", json!({"kind": "mirror", "legs": 1})),
        ("protection", json!({"kind": "mirror", "legs": 5})),
        ("protection", json!({"kind": "mirror", "legs": -1})),
        ("controller_count", json!(0)),
        ("controller_count", json!(16)),
        ("controller_count", json!(-3)),
    ] {
        let mut body = json!({"name": "q", "capacity": "1GiB"});
        body[field] = value;
        unchanged(&world, "POST", "/v1/pools", body)
            .await
            .refused(422, "invalid-value");
    }
    let body = json!({"name": "q", "capacity": "1GiB", "protection": {"kind": "parity"}});
    unchanged(&world, "POST", "/v1/pools", body)
        .await
        .refused(400, "malformed");
}

#[tokio::test]
async fn nqns_that_are_none() {
    let world = World::new();
    for nqn in [
        "",
        "nqn",
        "iqn.1998-01.com.x:y",
        "nqn.2014-08.org.nvmexpress.discovery",
        &"n".repeat(224),
    ] {
        let body = json!({"name": "h", "nqn": nqn});
        unchanged(&world, "POST", "/v1/hosts", body)
            .await
            .refused(422, "invalid-value");
    }
}

#[tokio::test]
async fn what_is_there_already() {
    let world = World::with_pool().await;
    let volume = world
        .post("/v1/volumes", json!({"name": "v", "pool": "p", "size": 4096}))
        .await
        .ok(202);
    let host = world
        .post("/v1/hosts", json!({"name": "h", "nqn": NQN}))
        .await
        .ok(201);
    world
        .post("/v1/attachments", json!({"volume": "v", "host": "h"}))
        .await
        .ok(202);
    for (path, body) in [
        ("/v1/volumes", json!({"name": "v", "pool": "p", "size": 8192})),
        ("/v1/pools", json!({"name": "p", "capacity": "1GiB"})),
        ("/v1/hosts", json!({"name": "h", "nqn": format!("{NQN}x")})),
        ("/v1/hosts", json!({"name": "h2", "nqn": NQN})),
        ("/v1/attachments", json!({"volume": "v", "host": "h"})),
        (
            "/v1/attachments",
            json!({"volume": volume.text("/resource/id"), "host": NQN}),
        ),
    ] {
        unchanged(&world, "POST", path, body)
            .await
            .refused(409, "name-taken");
    }
    let taken = world
        .post("/v1/hosts", json!({"name": "h", "nqn": format!("{NQN}x")}))
        .await;
    assert_eq!(
        taken.body["used_by"],
        json!([format!("host/{}", host.text("/id"))])
    );
}

#[tokio::test]
async fn what_is_unknown() {
    let world = World::with_pool().await;
    for (path, body) in [
        ("/v1/volumes", json!({"name": "v", "pool": "none", "size": 4096})),
        (
            "/v1/pools",
            json!({"name": "q", "capacity": "1GiB", "owner": "none"}),
        ),
        ("/v1/pools/p/failover", json!({"to": "none"})),
        ("/v1/attachments", json!({"volume": "none", "host": "h"})),
        ("/v1/attachments", json!({"volume": "v", "host": NQN})),
    ] {
        unchanged(&world, "POST", path, body)
            .await
            .refused(404, "not-found");
    }
    unchanged(&world, "PATCH", "/v1/pools/p", json!({"owner": "none"}))
        .await
        .refused(404, "not-found");
}

#[tokio::test]
async fn what_is_in_use() {
    let world = World::with_pool().await;
    world
        .post("/v1/volumes", json!({"name": "v", "pool": "p", "size": 4096}))
        .await
        .ok(202);
    world
        .post("/v1/hosts", json!({"name": "h", "nqn": NQN}))
        .await
        .ok(201);
    world
        .post("/v1/attachments", json!({"volume": "v", "host": "h"}))
        .await
        .ok(202);
    for (path, used_by) in [
        ("/v1/volumes/v", "host/h"),
        ("/v1/hosts/h", "volume/v"),
        ("/v1/pools/p", "volume/v"),
        ("/v1/controller-nodes/c1", "pool/p"),
        ("/v1/controller-nodes/c2", "pool/p"),
    ] {
        let reply = unchanged(&world, "DELETE", path, json!({})).await;
        assert_eq!(
            reply.refused(409, "in-use")["used_by"],
            json!([used_by]),
            "{path}"
        );
        assert!(reply.text("/detail").contains(used_by), "{path}");
    }
    let mut in_use = 0;
    for node in ["d1", "d2", "d3"] {
        let reply = unchanged(&world, "GET", &format!("/v1/disk-nodes/{node}"), json!({})).await;
        if reply.body["free_bytes"] != reply.body["capacity_bytes"] {
            in_use += 1;
            let reply = unchanged(&world, "DELETE", &format!("/v1/disk-nodes/{node}"), json!({})).await;
            assert!(
                reply.refused(409, "in-use")["used_by"][0]
                    .as_str()
                    .expect("a leg")
                    .starts_with("leg/")
            );
        } else {
            world.delete(&format!("/v1/disk-nodes/{node}")).await.ok(204);
            world
                .get(&format!("/v1/disk-nodes/{node}"))
                .await
                .refused(404, "not-found");
        }
    }
    assert_eq!(in_use, 2, "a mirror of two");
}

#[tokio::test]
async fn what_is_on_its_way_out() {
    let world = World::with_pool().await;
    world
        .post("/v1/volumes", json!({"name": "v", "pool": "p", "size": 4096}))
        .await
        .ok(202);
    world
        .post("/v1/hosts", json!({"name": "h", "nqn": NQN}))
        .await
        .ok(201);
    world.delete("/v1/volumes/v").await.ok(202);
    let attach = json!({"volume": "v", "host": "h"});
    unchanged(&world, "POST", "/v1/attachments", attach)
        .await
        .refused(409, "wrong-state");
    unchanged(&world, "PATCH", "/v1/volumes/v", json!({"size": 8192}))
        .await
        .refused(409, "wrong-state");
    world
        .post("/v1/pools", json!({"name": "q", "capacity": "1GiB"}))
        .await
        .ok(202);
    world.delete("/v1/pools/q").await.ok(202);
    let volume = json!({"name": "w", "pool": "q", "size": 4096});
    unchanged(&world, "POST", "/v1/volumes", volume)
        .await
        .refused(409, "wrong-state");
    unchanged(&world, "POST", "/v1/pools/q/failover", json!({}))
        .await
        .refused(409, "wrong-state");
}

#[tokio::test]
async fn volumes_do_not_shrink() {
    let world = World::with_pool().await;
    world
        .post("/v1/volumes", json!({"name": "v", "pool": "p", "size": "1GiB"}))
        .await
        .ok(202);
    unchanged(&world, "PATCH", "/v1/volumes/v", json!({"size": "512MiB"}))
        .await
        .refused(422, "invalid-value");
    unchanged(&world, "PATCH", "/v1/volumes/v", json!({"size": -1}))
        .await
        .refused(422, "invalid-value");
    unchanged(&world, "PATCH", "/v1/volumes/v", json!({}))
        .await
        .refused(400, "malformed");
    unchanged(&world, "PATCH", "/v1/volumes/v", json!({"size": "1GiB"}))
        .await
        .ok(200);
}

#[tokio::test]
async fn too_few_nodes_and_too_little_space() {
    let world = World::new();
    let pool = json!({"name": "q", "capacity": "1GiB"});
    let reply = unchanged(&world, "POST", "/v1/pools", pool.clone()).await;
    assert!(
        reply.refused(409, "too-few-nodes")["detail"]
            .as_str()
            .expect("text")
            .contains("needs 2 disk node(s)")
    );
    let world = World::with_nodes().await;
    let four = json!({"name": "q", "capacity": "1GiB", "protection": {"kind": "mirror", "legs": 4}});
    let reply = unchanged(&world, "POST", "/v1/pools", four).await;
    assert!(
        reply.refused(409, "too-few-nodes")["detail"]
            .as_str()
            .expect("text")
            .contains("needs 4"),
        "{reply:?}"
    );
    let reply = unchanged(
        &world,
        "POST",
        "/v1/pools",
        json!({"name": "q", "capacity": "11GiB"}),
    )
    .await;
    let detail = reply.refused(507, "no-space")["detail"].as_str().expect("text");
    assert!(
        detail.contains("177 free extents of 64 MiB") && detail.contains("at most 160 free"),
        "{detail}"
    );
    let three = json!({"name": "q", "capacity": "1GiB", "controller_count": 3});
    let reply = unchanged(&world, "POST", "/v1/pools", three).await;
    assert!(
        reply.refused(409, "too-few-nodes")["detail"]
            .as_str()
            .expect("text")
            .contains("needs 3 controller")
    );
    world
        .patch("/v1/disk-nodes/d1", json!({"cordoned": true}))
        .await
        .ok(200);
    world
        .patch("/v1/disk-nodes/d2", json!({"cordoned": true}))
        .await
        .ok(200);
    let reply = unchanged(&world, "POST", "/v1/pools", pool.clone()).await;
    assert!(
        reply.refused(409, "too-few-nodes")["detail"]
            .as_str()
            .expect("text")
            .contains("d1: cordoned")
    );
    // One that has joined and was not asked yet may do.
    world.join::<DiskNodeId>("disk-node", "d4").await;
    world.post("/v1/pools", pool).await.ok(202);
}

#[tokio::test]
async fn failovers_that_cannot_be() {
    let world = World::with_nodes().await;
    world
        .post(
            "/v1/pools",
            json!({"name": "p", "capacity": "1GiB", "extent": "64MiB", "owner": "c1"}),
        )
        .await
        .ok(202);
    let reply = unchanged(&world, "POST", "/v1/pools/p/failover", json!({})).await;
    reply.refused(409, "wrong-state");
    let (layout, membership) = world.place("p").await;
    let stranger = world
        .join::<cluster::ControllerNodeId>("controller-node", "c3")
        .await;
    world.report_controller(&stranger, Vec::new()).await;
    let reply = unchanged(&world, "POST", "/v1/pools/p/failover", json!({"to": "c3"})).await;
    assert_eq!(reply.refused(409, "wrong-state")["hint"], "choose one of c1, c2");
    // The standby was started again and has not been asked since: nobody knows whether it would do.
    let mut standby = world.controller("c2").await;
    standby.incarnation = crate::world::new_incarnation();
    world
        .put(cluster::key::controller_node(standby.id), &standby)
        .await;
    unchanged(&world, "POST", "/v1/pools/p/failover", json!({"to": "c2"}))
        .await
        .refused(409, "wrong-state");
    unchanged(&world, "POST", "/v1/pools/p/failover", json!({}))
        .await
        .refused(409, "too-few-nodes");
    world.serve(&layout, &membership, Vec::new()).await;
    world.post("/v1/pools/p/failover", json!({})).await.ok(202);
}

#[tokio::test]
async fn questions_that_are_none() {
    let world = World::new();
    for path in [
        "pools",
        "volumes",
        "hosts",
        "disk-nodes",
        "controller-nodes",
        "attachments",
        "operations",
        "events",
    ] {
        for query in [
            "limit=0",
            "limit=1001",
            "continue=%00",
            "continue=a/../b",
            "continue=%C3%A4",
        ] {
            world
                .get(&format!("/v1/{path}?{query}"))
                .await
                .refused(422, "invalid-value");
        }
        for query in [
            "limit=x",
            "limit=-1",
            "limit=1&limit=2",
            "colour=blue",
            "limit=99999999999999999999999",
        ] {
            world
                .get(&format!("/v1/{path}?{query}"))
                .await
                .refused(400, "malformed");
        }
    }
    world.get("/v1/volumes?pool=none").await.refused(404, "not-found");
    world
        .get("/v1/attachments?host=none")
        .await
        .refused(404, "not-found");
    world
        .get("/v1/operations?state=odd")
        .await
        .refused(400, "malformed");
    for query in ["last=0", "last=1001", "last=1&continue=0"] {
        world
            .get(&format!("/v1/events?{query}"))
            .await
            .refused(422, "invalid-value");
    }
}

#[tokio::test]
async fn entity_tags() {
    let world = World::with_pool().await;
    world
        .post("/v1/volumes", json!({"name": "v", "pool": "p", "size": "1GiB"}))
        .await
        .ok(202);
    world
        .post("/v1/hosts", json!({"name": "h", "nqn": NQN}))
        .await
        .ok(201);
    world
        .post("/v1/attachments", json!({"volume": "v", "host": "h"}))
        .await
        .ok(202);
    let growth = json!({"size": "2GiB"}).to_string();
    let stale = world.get("/v1/volumes/v").await.header("etag").to_string();
    // Making a volume writes its pool's record, too: another one, so that the pool is at another revision.
    world
        .post("/v1/volumes", json!({"name": "w", "pool": "p", "size": "1GiB"}))
        .await
        .ok(202);
    world
        .patch("/v1/volumes/v", json!({"size": "1280MiB"}))
        .await
        .ok(202);
    let before = world.revision().await;
    for tag in [
        stale.as_str(),
        "\"0\"",
        "\"x\"",
        "W/\"1\"",
        "\"18446744073709551616\"",
    ] {
        for (method, path, body) in [
            ("PATCH", "/v1/volumes/v", growth.as_str()),
            ("DELETE", "/v1/attachments/v.h", ""),
            ("DELETE", "/v1/hosts/h", ""),
            ("DELETE", "/v1/volumes/v", ""),
            ("PATCH", "/v1/pools/p", "{\"owner\":\"c2\"}"),
            ("POST", "/v1/pools/p/failover", ""),
            ("DELETE", "/v1/pools/p", ""),
            ("PATCH", "/v1/disk-nodes/d1", "{\"cordoned\":true}"),
            ("DELETE", "/v1/disk-nodes/d1", ""),
            ("PATCH", "/v1/controller-nodes/c1", "{\"cordoned\":true}"),
            ("DELETE", "/v1/controller-nodes/c1", ""),
        ] {
            let reply = call(&world.api, method, path, &[("if-match", tag)], body.to_string()).await;
            reply.refused(412, "stale");
        }
    }
    for tag in ["", "5", "\"", "\"1\", \"2", "nonsense"] {
        let reply = call(
            &world.api,
            "PATCH",
            "/v1/volumes/v",
            &[("if-match", tag)],
            growth.clone(),
        )
        .await;
        reply.refused(400, "malformed");
    }
    assert_eq!(world.revision().await, before);
    let fresh = world.get("/v1/volumes/v").await;
    assert_eq!(fresh.header("etag"), format!("\"{}\"", fresh.body["revision"]));
    let tag = [("if-match", fresh.header("etag"))];
    let changed = call(&world.api, "PATCH", "/v1/volumes/v", &tag, growth.clone())
        .await
        .ok(202);
    let again = world.get("/v1/volumes/v").await;
    assert_eq!(
        changed.header("etag"),
        again.header("etag"),
        "an answer to a change has the tag of the change"
    );
    assert_eq!(changed.body["resource"], again.body);
    let any = [("if-match", "*")];
    call(&world.api, "PATCH", "/v1/volumes/v", &any, "{\"size\":\"3GiB\"}")
        .await
        .ok(202);
}
