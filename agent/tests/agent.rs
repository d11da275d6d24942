//! An agent between a fake node and a fake api-server, over real sockets.
//!
//! Deliberate bugs these tests were seen to catch: node told before the ledger; lower revision applied; token not
//! checked; membership request given up when the api-server is away.

use agent::ledger::Ledger;
use agent::{Options, run};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use cluster::node_config::DiskNodeConfig;
use cluster::status::DiskNodeStatus;
use cluster::{DiskNodeId, Epoch, Incarnation, PoolId, Revision, SliceId};
use control::agent::*;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// Remembers what it was told.
#[derive(Default)]
struct FakeNode {
    state: Mutex<FakeState>,
    changed: Condvar,
}

#[derive(Default)]
struct FakeState {
    applied: Vec<NodeConfig>,
    version: u64,
    requests: Vec<MembershipRequest>,
    answers: Vec<MembershipAnswer>,
}

impl FakeNode {
    fn change<T>(&self, change: impl FnOnce(&mut FakeState) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
        result
    }
    fn wait_until(&self, what: &str, until: impl Fn(&FakeState) -> bool) {
        let state = self.state.lock().unwrap();
        let (_state, timeout) = self
            .changed
            .wait_timeout_while(state, Duration::from_secs(10), |state| !until(state))
            .unwrap();
        assert!(!timeout.timed_out(), "waited 10 s for {what}");
    }
}

impl Node for FakeNode {
    fn apply(&self, config: NodeConfig) {
        self.change(|state| {
            state.applied.push(config);
            state.version += 1;
        });
    }
    fn status(&self) -> NodeStatus {
        let state = self.state.lock().unwrap();
        NodeStatus::DiskNode(DiskNodeStatus {
            node: DiskNodeId(Uuid::from_u128(1)),
            incarnation: Incarnation(Uuid::from_u128(2)),
            revision: state.applied.last().map(NodeConfig::revision).unwrap_or_default(),
            disks: Vec::new(),
            legs: Vec::new(),
        })
    }
    fn wait_status(&self, after: u64, timeout: Duration) -> u64 {
        let state = self.state.lock().unwrap();
        self.changed
            .wait_timeout_while(state, timeout, |state| state.version == after)
            .unwrap()
            .0
            .version
    }
    fn next_membership_request(&self, timeout: Duration) -> Option<MembershipRequest> {
        let state = self.state.lock().unwrap();
        let (mut state, _timeout) = self
            .changed
            .wait_timeout_while(state, timeout, |state| state.requests.is_empty())
            .unwrap();
        state.requests.pop()
    }
    fn membership_answer(&self, answer: MembershipAnswer) {
        self.change(|state| state.answers.push(answer));
    }
}

/// Says no to the first `refusals` membership calls with 503, then commits.
struct FakeApi {
    refusals: AtomicU32,
    joins: AtomicU32,
    hellos: AtomicU32,
}

async fn start_api(refusals: u32) -> (Arc<FakeApi>, String) {
    let api = Arc::new(FakeApi {
        refusals: AtomicU32::new(refusals),
        joins: AtomicU32::new(0),
        hellos: AtomicU32::new(0),
    });
    let router = Router::new()
        .route("/internal/v1/join", post(join))
        .route("/internal/v1/hello", post(hello))
        .route("/internal/v1/membership", post(membership))
        .with_state(api.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (api, format!("http://{address}"))
}

async fn join(State(api): State<Arc<FakeApi>>, Json(_): Json<JoinRequest>) -> Json<JoinResponse> {
    api.joins.fetch_add(1, Ordering::SeqCst);
    Json(JoinResponse {
        agent_token: "agent-token".to_owned(),
    })
}

async fn hello(State(api): State<Arc<FakeApi>>, Json(_): Json<Hello>) -> StatusCode {
    api.hellos.fetch_add(1, Ordering::SeqCst);
    StatusCode::NO_CONTENT
}

async fn membership(
    State(api): State<Arc<FakeApi>>,
    Json(request): Json<MembershipRequest>,
) -> Result<Json<MembershipAnswer>, StatusCode> {
    let left = api.refusals.load(Ordering::SeqCst);
    if left > 0 {
        api.refusals.store(left - 1, Ordering::SeqCst);
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let (request, slice) = (request.request, request.slice);
    Ok(Json(MembershipAnswer {
        request,
        slice,
        outcome: MembershipOutcome::Committed,
    }))
}

struct Running {
    node: Arc<FakeNode>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<Result<(), agent::RunAgent>>,
}

async fn start(folder: &Path, servers: Vec<String>) -> Running {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let options = Options {
        kind: NodeKind::DiskNode,
        name: "disk-node-1".to_owned(),
        location: String::new(),
        listen: address,
        fabric_address: "127.0.0.1:4420".parse().unwrap(),
        api_servers: servers,
        join_token: Some("join-token".to_owned()),
        incarnation: Incarnation(Uuid::from_u128(2)),
    };
    let ledger = Ledger::open(folder, NodeKind::DiskNode, Uuid::from_u128(1)).unwrap();
    let node = Arc::new(FakeNode::default());
    let (stop, stopped) = watch::channel(false);
    let ended = tokio::spawn(run(options, ledger, node.clone(), stopped));
    Running {
        node,
        address,
        stop,
        ended,
    }
}

/// Each name is another content.
fn config(revision: u64, name: &str) -> NodeConfig {
    let number = name
        .bytes()
        .fold(0, |number, byte| number << 8 | u128::from(byte));
    NodeConfig::DiskNode(DiskNodeConfig {
        node: DiskNodeId(Uuid::from_u128(1)),
        revision: Revision(revision),
        legs: [(PoolId(Uuid::from_u128(number)), Vec::new())].into(),
    })
}

/// The status and text of an agent's answer to a configuration; asked again until the agent knows its token.
async fn deliver(address: SocketAddr, token: &str, config: &NodeConfig) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{address}/agent/v1/config");
    for _ in 0..500 {
        let sent = client.put(&url).bearer_auth(token).json(config).send().await;
        match sent {
            Ok(answer) if answer.status() == 401 && token == "agent-token" => {}
            Ok(answer) => return (answer.status().as_u16(), answer.text().await.unwrap()),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the agent did not come up");
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_are_taken_in_order_only_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (api, server) = start_api(0).await;
    let first = start(folder.path(), vec![server.clone()]).await;
    assert_eq!(
        deliver(first.address, "agent-token", &config(5, "five")).await.0,
        200
    );
    assert_eq!(
        deliver(first.address, "agent-token", &config(5, "five")).await.0,
        200,
        "again is harmless"
    );
    let (status, text) = deliver(first.address, "agent-token", &config(4, "four")).await;
    assert_eq!((status, text.as_str()), (409, "revision 4 is older than 5"));
    let (status, text) = deliver(first.address, "agent-token", &config(5, "other")).await;
    assert_eq!(
        (status, text.as_str()),
        (409, "revision 5 is known with other contents")
    );
    let (status, _) = deliver(first.address, "wrong-token", &config(6, "six")).await;
    assert_eq!(status, 401);
    let mut stranger = config(7, "seven");
    if let NodeConfig::DiskNode(config) = &mut stranger {
        config.node = DiskNodeId(Uuid::from_u128(99));
    }
    assert_eq!(deliver(first.address, "agent-token", &stranger).await.0, 421);
    assert!(
        first
            .node
            .state
            .lock()
            .unwrap()
            .applied
            .iter()
            .all(|applied| *applied == config(5, "five"))
    );
    first.stop.send(true).unwrap();
    first.ended.await.unwrap().unwrap();

    // Again, with no api-server in reach: the node gets its configuration from the ledger.
    let second = start(folder.path(), vec!["http://127.0.0.1:1".to_owned()]).await;
    second.node.wait_until("the ledger's configuration", |state| {
        state.applied == [config(5, "five")]
    });
    assert_eq!(
        deliver(second.address, "agent-token", &config(4, "four")).await.0,
        409
    );
    second.stop.send(true).unwrap();
    second.ended.await.unwrap().unwrap();
    assert_eq!(api.joins.load(Ordering::SeqCst), 1, "a node joins once");

    let third = start(folder.path(), vec![server]).await;
    third
        .node
        .wait_until("the ledger's configuration", |state| !state.applied.is_empty());
    for _ in 0..500 {
        if api.hellos.load(Ordering::SeqCst) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(api.hellos.load(Ordering::SeqCst), 1, "afterwards it says hello");
    third.stop.send(true).unwrap();
    third.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_membership_request_is_asked_until_the_store_has_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (api, server) = start_api(3).await;
    // The first api-server of the list does not exist: the next one is asked.
    let running = start(folder.path(), vec!["http://127.0.0.1:1".to_owned(), server]).await;
    let request = MembershipRequest {
        request: 17,
        slice: SliceId(Uuid::from_u128(3)),
        epoch: Epoch(2),
        change: MembershipChange::SliceFormatted,
    };
    running.node.change(|state| state.requests.push(request));
    running
        .node
        .wait_until("the answer", |state| !state.answers.is_empty());
    let answer = running.node.state.lock().unwrap().answers[0].clone();
    assert_eq!(
        (answer.request, answer.outcome),
        (17, MembershipOutcome::Committed)
    );
    assert_eq!(api.refusals.load(Ordering::SeqCst), 0);
    running.stop.send(true).unwrap();
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn news_of_the_status_wakes_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (_api, server) = start_api(0).await;
    let running = start(folder.path(), vec![server]).await;
    assert_eq!(
        deliver(running.address, "agent-token", &config(1, "one")).await.0,
        200
    );
    let url = format!("http://{}/agent/v1/status?after=1&wait_ms=20000", running.address);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let waiting = tokio::spawn(client.get(url).bearer_auth("agent-token").send());
    assert_eq!(
        deliver(running.address, "agent-token", &config(2, "two")).await.0,
        200
    );
    let answer: StatusAnswer = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!((answer.version, answer.status.revision()), (2, Revision(2)));
    running.stop.send(true).unwrap();
    running.ended.await.unwrap().unwrap();
}
