//! A store, an api-server, and what workers and nodes would write.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use cluster::layout::{Membership, PoolLayout};
use cluster::spec::{NodeSpec, PoolSpec};
use cluster::status::{
    ControllerNodeStatus, DiskNodeStatus, DiskStatus, NodeHealth, Observed, SliceState, SliceStatus,
    VolumeStatus,
};
use cluster::view::{ControllerNodeView, DiskNodeView, PoolInput};
use cluster::{ControllerNodeId, DiskId, DiskNodeId, Incarnation, PoolId, Revision, key};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Embedded, KeyRange, Store, TransactionError, Txn, read_range, read_record, transaction};
use tower::ServiceExt;
use uuid::Uuid;

pub(crate) const JOIN_TOKEN: &str = "join-us";
pub(crate) const NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8";

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) api: Router,
    _folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("plain text"))
    }
    /// A refusal of this status and kind, well told.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, word: &str) -> &Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["type"], format!("/problems/{word}"), "{self:?}");
        assert_eq!(self.body["status"], status);
        for field in ["title", "detail", "hint"] {
            assert!(
                self.body[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field}: {self:?}"
            );
        }
        &self.body
    }
    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Reply {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.body
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{pointer} of {self:?}"))
    }
}

pub(crate) async fn call(
    api: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.into()).expect("a request");
    let response = api.clone().oneshot(request).await.expect("routers do not fail");
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 64 << 20).await.expect("a whole body");
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    Reply {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

pub(crate) fn options() -> api_server::Options {
    let mut options = api_server::Options::new(([127, 0, 0, 1], 0).into());
    options.join_token = Some(JOIN_TOKEN.into());
    options
}

impl World {
    pub(crate) fn new() -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path()).expect("it is new"));
        World {
            api: api_server::router(store.clone(), options()),
            store,
            _folder: folder,
        }
    }

    /// With three disk nodes of ten GiB, in extents of 64 MiB, and two controller nodes, all up.
    pub(crate) async fn with_nodes() -> World {
        let world = World::new();
        for name in ["d1", "d2", "d3"] {
            let spec = world.join::<DiskNodeId>("disk-node", name).await;
            world.report_disk_node(&spec, 160).await;
        }
        for name in ["c1", "c2"] {
            let spec = world.join::<ControllerNodeId>("controller-node", name).await;
            world.report_controller(&spec, Vec::new()).await;
        }
        world
    }

    /// With a placed and serving pool `p`, owned by `c1`.
    pub(crate) async fn with_pool() -> World {
        let world = World::with_nodes().await;
        world
            .post(
                "/v1/pools",
                json!({"name": "p", "capacity": "4GiB", "extent": "64MiB", "owner": "c1"}),
            )
            .await
            .ok(202);
        world.place("p").await;
        world
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        call(&self.api, "GET", path, &[], Body::empty()).await
    }
    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        call(&self.api, "POST", path, &[], body.to_string()).await
    }
    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        call(&self.api, "PATCH", path, &[], body.to_string()).await
    }
    pub(crate) async fn delete(&self, path: &str) -> Reply {
        call(&self.api, "DELETE", path, &[], Body::empty()).await
    }
    /// How much there is of everything: a refusal must not change it.
    pub(crate) async fn revision(&self) -> u64 {
        self.store
            .read(store::Read::of(KeyRange::key("x")))
            .await
            .expect("there")
            .revision
            .0
    }

    pub(crate) async fn put(&self, key: String, record: &impl Serialize) {
        let key = &key;
        let put = transaction(&self.store, |txn: Txn| async move {
            txn.put(key, record)?;
            Ok::<_, TransactionError>(())
        });
        put.await.expect("there");
    }

    pub(crate) async fn record<T: serde::de::DeserializeOwned>(&self, key: String) -> Option<T> {
        read_record(&self.store, key)
            .await
            .expect("there")
            .map(|found| found.record)
    }

    pub(crate) async fn records<T: serde::de::DeserializeOwned>(&self, prefix: &str) -> Vec<T> {
        let (_, found) = read_range(&self.store, KeyRange::prefix(prefix))
            .await
            .expect("there");
        found.into_iter().map(|found| found.record).collect()
    }

    pub(crate) async fn join<Id: serde::de::DeserializeOwned>(&self, kind: &str, name: &str) -> NodeSpec<Id> {
        let id = Uuid::new_v4();
        let request = json!({
            "kind": kind, "id": id, "name": name, "location": "", "incarnation": Uuid::new_v4(),
            "agent_address": "127.0.0.1:7001", "fabric_address": "127.0.0.1:4420",
        });
        let bearer = format!("Bearer {JOIN_TOKEN}");
        let headers = [("authorization", bearer.as_str())];
        call(
            &self.api,
            "POST",
            "/internal/v1/join",
            &headers,
            request.to_string(),
        )
        .await
        .ok(200);
        self.record(format!("{kind}s/{id}")).await.expect("it joined")
    }

    /// As a worker writes what a disk node said: one disk of so many extents of 64 MiB.
    pub(crate) async fn report_disk_node(&self, spec: &NodeSpec<DiskNodeId>, extents: u64) {
        let disk = DiskStatus {
            disk: DiskId(spec.id.0),
            path: "/a/disk".into(),
            volatile: false,
            extent_bytes: 64 << 20,
            extents,
            extents_free: extents,
            fault: None,
        };
        let (node, incarnation) = (spec.id, spec.incarnation);
        let status = DiskNodeStatus {
            node,
            incarnation,
            revision: Revision(0),
            disks: vec![disk],
            legs: Vec::new(),
        };
        self.put(key::disk_node_status(node), &observed(status)).await;
    }

    pub(crate) async fn report_controller(
        &self,
        spec: &NodeSpec<ControllerNodeId>,
        slices: Vec<SliceStatus>,
    ) {
        let (node, incarnation) = (spec.id, spec.incarnation);
        let status = ControllerNodeStatus {
            node,
            incarnation,
            revision: Revision(0),
            slices,
        };
        self.put(key::controller_node_status(node), &observed(status))
            .await;
    }

    pub(crate) async fn controller(&self, name: &str) -> NodeSpec<ControllerNodeId> {
        let nodes: Vec<NodeSpec<ControllerNodeId>> = self.records(key::CONTROLLER_NODES).await;
        nodes
            .into_iter()
            .find(|node| node.name == name)
            .expect("it joined")
    }

    pub(crate) async fn pool(&self, name: &str) -> PoolSpec {
        let pools: Vec<PoolSpec> = self.records(key::POOLS).await;
        pools
            .into_iter()
            .find(|pool| pool.name == name)
            .expect("it was made")
    }

    async fn input(&self, spec: PoolSpec) -> PoolInput {
        let mut disk_nodes = BTreeMap::new();
        for spec in self.records::<NodeSpec<DiskNodeId>>(key::DISK_NODES).await {
            let allocation = self.record(key::allocation(spec.id)).await.unwrap_or_default();
            let observed = self.record(key::disk_node_status(spec.id)).await;
            disk_nodes.insert(
                spec.id,
                DiskNodeView {
                    spec,
                    allocation,
                    observed,
                    config: None,
                },
            );
        }
        let mut controller_nodes = BTreeMap::new();
        for spec in self
            .records::<NodeSpec<ControllerNodeId>>(key::CONTROLLER_NODES)
            .await
        {
            let observed = self.record(key::controller_node_status(spec.id)).await;
            controller_nodes.insert(
                spec.id,
                ControllerNodeView {
                    spec,
                    observed,
                    config: None,
                },
            );
        }
        PoolInput {
            volumes: BTreeMap::new(),
            attachments: Vec::new(),
            hosts: BTreeMap::new(),
            layout: None,
            memberships: BTreeMap::new(),
            disk_nodes,
            controller_nodes,
            spec,
        }
    }

    /// As a worker places a pool, and its owner serves it.
    pub(crate) async fn place(&self, name: &str) -> (PoolLayout, Membership) {
        let input = self.input(self.pool(name).await).await;
        let mut fresh = std::iter::repeat_with(Uuid::new_v4);
        let plan = cluster::plan::plan(&input, &mut fresh);
        let layout = plan
            .layout
            .unwrap_or_else(|| panic!("no place: {:?}", plan.waits));
        let membership = plan.memberships.into_values().next().expect("one slice");
        self.put(key::layout(layout.pool), &layout).await;
        self.put(key::membership(membership.slice), &membership).await;
        for (node, allocation) in &plan.allocations {
            self.put(key::allocation(*node), allocation).await;
        }
        for (node, config) in &plan.controller_node_configs {
            self.put(key::controller_node_config(*node), config).await;
        }
        self.serve(&layout, &membership, Vec::new()).await;
        (layout, membership)
    }

    /// The owner serves, with these volumes; the others stand by.
    pub(crate) async fn serve(
        &self,
        layout: &PoolLayout,
        membership: &Membership,
        volumes: Vec<VolumeStatus>,
    ) {
        for spec in self
            .records::<NodeSpec<ControllerNodeId>>(key::CONTROLLER_NODES)
            .await
        {
            if !layout
                .controllers
                .iter()
                .any(|placement| placement.node == spec.id)
            {
                continue;
            }
            let owner = spec.id == membership.owner;
            let slice = SliceStatus {
                slice: membership.slice,
                state: if owner {
                    SliceState::Serving
                } else {
                    SliceState::Standby
                },
                epoch: if owner {
                    membership.epoch
                } else {
                    Default::default()
                },
                extents: if owner { 64 } else { 0 },
                extents_used: if owner {
                    volumes.iter().map(|volume| volume.extents_mapped).sum()
                } else {
                    0
                },
                groups: Vec::new(),
                volumes: if owner { volumes.clone() } else { Vec::new() },
            };
            self.report_controller(&spec, vec![slice]).await;
        }
    }

    pub(crate) async fn pool_id(&self, name: &str) -> PoolId {
        self.pool(name).await.id
    }
}

pub(crate) fn observed<S>(status: S) -> Observed<S> {
    Observed {
        health: NodeHealth {
            reachable: true,
            since_ms: 1,
        },
        status: Some(status),
    }
}

pub(crate) fn new_incarnation() -> Incarnation {
    Incarnation(Uuid::new_v4())
}
