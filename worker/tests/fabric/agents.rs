//! Agents over HTTP, in front of model nodes that build at once what they are told.

use super::fresh_incarnation;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use cluster::layout::Membership;
use cluster::node_config::{ControllerNodeConfig, PoolConfig, Role, SliceConfig};
use cluster::status::{
    ControllerNodeStatus, DiskNodeStatus, DiskStatus, GroupLegStatus, GroupStatus, LegState, LegStatus,
    SliceState, SliceStatus, VolumeStatus,
};
use cluster::{
    ControllerNodeId, DiskId, DiskNodeId, Epoch, Incarnation, LegId, Revision, SliceId, VolumeId, key,
};
use control::agent::{NodeConfig, NodeStatus, StatusAnswer};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Store, TransactionError};
use tokio::sync::watch;
use uuid::Uuid;

pub const TOKEN: &str = "a node's token";

/// What nodes share beside the control plane: the legs that are exported, and what is on them.
pub struct Ground {
    store: Arc<dyn Store>,
    legs: watch::Sender<BTreeSet<LegId>>,
    maps: Mutex<BTreeMap<SliceId, BTreeMap<VolumeId, u64>>>,
}

impl Ground {
    pub fn new(store: Arc<dyn Store>) -> Arc<Ground> {
        Arc::new(Ground {
            store,
            legs: watch::Sender::default(),
            maps: Mutex::default(),
        })
    }
}

pub struct FakeAgent {
    pub address: SocketAddr,
    node: Arc<Node>,
}

struct Node {
    ground: Arc<Ground>,
    state: watch::Sender<NodeState>,
    deaf: watch::Sender<bool>,
}

struct NodeState {
    version: u64,
    ledger: Option<NodeConfig>,
    status: NodeStatus,
    configs_taken: u64,
    /// Legs the owner has lost.
    out: BTreeSet<LegId>,
    loses_next_config: bool,
}

impl FakeAgent {
    pub async fn disk_node(node: DiskNodeId, ground: Arc<Ground>) -> FakeAgent {
        let disk = DiskStatus {
            disk: DiskId(Uuid::from_u128(node.0.as_u128() << 8)),
            path: "/dev/fake".into(),
            volatile: true,
            extent_bytes: 1 << 30,
            extents: 100,
            extents_free: 100,
            fault: None,
        };
        let status = DiskNodeStatus {
            node,
            incarnation: fresh_incarnation(),
            revision: Revision(0),
            disks: vec![disk],
            legs: Vec::new(),
        };
        FakeAgent::start(NodeStatus::DiskNode(status), ground).await
    }

    pub async fn controller_node(node: ControllerNodeId, ground: Arc<Ground>) -> FakeAgent {
        let status = ControllerNodeStatus {
            node,
            incarnation: fresh_incarnation(),
            revision: Revision(0),
            slices: Vec::new(),
        };
        FakeAgent::start(NodeStatus::ControllerNode(status), ground).await
    }

    async fn start(status: NodeStatus, ground: Arc<Ground>) -> FakeAgent {
        let state = NodeState {
            version: 1,
            ledger: None,
            status,
            configs_taken: 0,
            out: BTreeSet::new(),
            loses_next_config: false,
        };
        let node = Arc::new(Node {
            ground,
            state: watch::Sender::new(state),
            deaf: watch::Sender::new(false),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/agent/v1/config", put(take_config))
            .route("/agent/v1/status", get(tell_status))
            .layer(middleware::from_fn_with_state(node.clone(), hear))
            .with_state(node.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        tokio::spawn(work(node.clone()));
        FakeAgent { address, node }
    }

    /// Takes connections, and never answers.
    pub fn set_deaf(&self, deaf: bool) {
        self.node.deaf.send_replace(deaf);
    }

    pub fn incarnation(&self) -> Incarnation {
        match &self.node.state.borrow().status {
            NodeStatus::DiskNode(status) => status.incarnation,
            NodeStatus::ControllerNode(status) => status.incarnation,
        }
    }

    pub fn applied(&self) -> Revision {
        self.node.state.borrow().status.revision()
    }

    pub fn configs_taken(&self) -> u64 {
        self.node.state.borrow().configs_taken
    }

    /// Another process with the same ledger, whose versions begin anew.
    pub fn restart(&self) {
        self.node.state.send_modify(|state| {
            state.version = 1;
            match &mut state.status {
                NodeStatus::DiskNode(status) => status.incarnation = fresh_incarnation(),
                NodeStatus::ControllerNode(status) => {
                    status.incarnation = fresh_incarnation();
                    status.slices.clear();
                }
            }
        });
    }

    /// Another process with an empty ledger.
    pub fn restart_without_ledger(&self) {
        self.node.state.send_modify(|state| {
            state.ledger = None;
            match &mut state.status {
                NodeStatus::DiskNode(status) => status.revision = Revision(0),
                NodeStatus::ControllerNode(status) => status.revision = Revision(0),
            }
        });
        self.restart();
    }

    /// The next configuration is answered like any other, and forgotten.
    pub fn lose_next_config(&self) {
        self.node
            .state
            .send_modify(|state| state.loses_next_config = true);
    }

    /// As if the owner had lost a leg or found it again.
    pub fn set_in_sync(&self, leg: LegId, in_sync: bool) {
        self.node.state.send_modify(|state| {
            if in_sync {
                state.out.remove(&leg);
            } else {
                state.out.insert(leg);
            }
        });
    }
}

impl Node {
    fn change(&self, change: impl FnOnce(&mut NodeStatus)) {
        self.state.send_if_modified(|state| {
            let before = state.status.clone();
            change(&mut state.status);
            let changed = before != state.status;
            state.version += u64::from(changed);
            changed
        });
    }
}

/// A deaf node hears nothing until it is told to hear again.
async fn hear(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let deaf = || async { node.deaf.subscribe().wait_for(|deaf| !deaf).await.map(|_| ()) };
    if deaf().await.is_err() || request.headers()["authorization"] != format!("Bearer {TOKEN}") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let response = next.run(request).await;
    _ = deaf().await;
    response
}

async fn take_config(State(node): State<Arc<Node>>, Json(config): Json<NodeConfig>) -> Response {
    let mut refused = false;
    node.state.send_modify(|state| {
        let known = state.ledger.as_ref();
        refused = known.is_some_and(|known| {
            known.revision() > config.revision()
                || (known.revision() == config.revision() && *known != config)
        });
        if !refused && !std::mem::take(&mut state.loses_next_config) {
            state.ledger = Some(config);
            state.configs_taken += 1;
        }
    });
    if refused {
        return (StatusCode::CONFLICT, "an older or another configuration").into_response();
    }
    Json(answer(&node)).into_response()
}

#[derive(Deserialize)]
struct Wait {
    after: u64,
    wait_ms: u64,
}

async fn tell_status(State(node): State<Arc<Node>>, Query(wait): Query<Wait>) -> Response {
    let mut state = node.state.subscribe();
    let news = state.wait_for(|state| state.version != wait.after);
    _ = tokio::time::timeout(Duration::from_millis(wait.wait_ms), news).await;
    Json(answer(&node)).into_response()
}

fn answer(node: &Node) -> StatusAnswer {
    let state = node.state.borrow();
    StatusAnswer {
        version: state.version,
        status: state.status.clone(),
    }
}

/// Build what the ledger says, whenever it or the legs changed.
async fn work(node: Arc<Node>) {
    let (mut own, mut legs) = (node.state.subscribe(), node.ground.legs.subscribe());
    loop {
        let ledger = own.borrow_and_update().ledger.clone();
        legs.borrow_and_update();
        match ledger {
            Some(NodeConfig::DiskNode(config)) => {
                let wanted: BTreeSet<LegId> = config.legs.values().flatten().map(|leg| leg.leg).collect();
                export(&node, config.revision, wanted);
            }
            Some(NodeConfig::ControllerNode(config)) => serve(&node, &config).await,
            None => {}
        }
        tokio::select! {
            changed = own.changed() => changed.unwrap(),
            changed = legs.changed() => changed.unwrap(),
        }
    }
}

fn export(node: &Node, revision: Revision, wanted: BTreeSet<LegId>) {
    let before: BTreeSet<LegId> = match &node.state.borrow().status {
        NodeStatus::DiskNode(status) => status.legs.iter().map(|leg| leg.leg).collect(),
        NodeStatus::ControllerNode(_) => panic!("a disk node's configuration for a controller node"),
    };
    node.ground.legs.send_if_modified(|legs| {
        legs.retain(|leg| !before.contains(leg) || wanted.contains(leg));
        legs.extend(&wanted);
        before != wanted
    });
    node.change(|status| {
        let NodeStatus::DiskNode(status) = status else {
            return;
        };
        status.revision = revision;
        status.legs = wanted
            .iter()
            .map(|leg| LegStatus {
                leg: *leg,
                state: LegState::Ready,
            })
            .collect();
    });
}

async fn serve(node: &Node, config: &ControllerNodeConfig) {
    let incarnation = match &node.state.borrow().status {
        NodeStatus::ControllerNode(status) => status.incarnation,
        NodeStatus::DiskNode(_) => panic!("a controller node's configuration for a disk node"),
    };
    let mut slices = Vec::new();
    for pool in config.pools.values() {
        for slice in &pool.slices {
            slices.push(serve_slice(node, pool, slice, incarnation).await);
        }
    }
    node.change(|status| {
        let NodeStatus::ControllerNode(status) = status else {
            return;
        };
        if status.incarnation == incarnation {
            (status.revision, status.slices) = (config.revision, slices);
        }
    });
}

async fn serve_slice(node: &Node, pool: &PoolConfig, slice: &SliceConfig, own: Incarnation) -> SliceStatus {
    let owned = match slice.role {
        Role::Owner { epoch, incarnation } if incarnation == own => Some(epoch),
        _ => None,
    };
    let legs = || slice.groups.iter().flat_map(|group| &group.legs);
    let ready = legs().all(|leg| node.ground.legs.borrow().contains(&leg.leg));
    let serving = match owned {
        Some(epoch) if ready => record_formatted(&node.ground.store, slice.slice, epoch)
            .await
            .unwrap(),
        _ => false,
    };
    let state = match (owned, serving) {
        (None, _) => SliceState::Standby,
        (Some(_), false) => SliceState::Opening {
            waits_for: "its legs".into(),
        },
        (Some(_), true) => SliceState::Serving,
    };
    let out = node.state.borrow().out.clone();
    let groups = slice.groups.iter().map(|group| GroupStatus {
        group: group.group,
        legs: group
            .legs
            .iter()
            .map(|leg| GroupLegStatus {
                leg: leg.leg,
                in_sync: !out.contains(&leg.leg),
                reachable: true,
            })
            .collect(),
        regions_dirty: 0,
    });
    SliceStatus {
        slice: slice.slice,
        state,
        epoch: owned.unwrap_or_default(),
        extents: 4,
        extents_used: 0,
        groups: groups.collect(),
        volumes: if serving {
            keep_map(&node.ground, pool, slice.slice)
        } else {
            Vec::new()
        },
    }
}

/// As an api-server would for the owner of this epoch; whether it is the present one.
async fn record_formatted(
    store: &Arc<dyn Store>,
    slice: SliceId,
    epoch: Epoch,
) -> Result<bool, TransactionError> {
    store::transaction(store, |txn| async move {
        let Some(mut membership) = txn.get::<Membership>(key::membership(slice)).await? else {
            return Ok(false);
        };
        if membership.epoch != epoch {
            return Ok(false);
        }
        if !membership.formatted {
            membership.formatted = true;
            membership
                .groups
                .values_mut()
                .for_each(|group| group.formatted = true);
            txn.put(key::membership(slice), &membership)?;
        }
        Ok(true)
    })
    .await
}

fn keep_map(ground: &Ground, pool: &PoolConfig, slice: SliceId) -> Vec<VolumeStatus> {
    let mut maps = ground.maps.lock().unwrap();
    let map = maps.entry(slice).or_default();
    for volume in &pool.volumes {
        if volume.deleting {
            map.remove(&volume.volume);
        } else {
            assert!(
                map.contains_key(&volume.volume) || !volume.created,
                "a created volume is not in the map (R9)"
            );
            map.insert(volume.volume, volume.size_blocks);
        }
    }
    let status = |(volume, size): (&VolumeId, &u64)| VolumeStatus {
        volume: *volume,
        extents_mapped: 0,
        size_blocks: *size,
    };
    map.iter().map(status).collect()
}
