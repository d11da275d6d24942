//! The agent: a node's side of the control plane.
//!
//! It joins the cluster, keeps the node's last configuration in a [`ledger`], hands newer ones to the node, answers
//! workers with what is, and carries the node's membership requests to any api-server.
//!
//! What this crate deliberately is not: it has no access to the store, decides nothing about layouts, remembers no
//! retries, and is not on any I/O path: a running slice needs it only to record a smaller in-sync set (R3).
//!
//! Invariants:
//! - a configuration is in the ledger, durably, before the node hears of it;
//! - the node never hears of a lower revision than one it has heard of, over any number of restarts;
//! - a membership request ends with an answer from the store, or stays open.

pub mod api_client;
pub mod folder;
pub mod ledger;
mod membership;
mod server;

use api_client::{ApiClient, CallApi};
use cluster::Incarnation;
use control::agent::{Hello, JoinRequest, MembershipRequest, Node, NodeConfig, NodeKind, StatusAnswer};
use ledger::{Identity, Ledger, OpenLedger, WriteLedger};
use reqwest::StatusCode;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What an agent needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which kind of node it runs in.
    pub kind: NodeKind,
    /// The node's name for people.
    pub name: String,
    /// Failure domain.
    pub location: String,
    /// Where to listen for workers.
    pub listen: SocketAddr,
    /// Where the node accepts NVMe/TCP connections, as others reach it.
    pub fabric_address: SocketAddr,
    /// Base addresses of api-servers, such as `http://127.0.0.1:7070`; any of them will do.
    pub api_servers: Vec<String>,
    /// Shown when joining for the first time.
    pub join_token: Option<String>,
    /// This start of the process.
    pub incarnation: Incarnation,
}

/// Why an agent ended.
#[derive(Debug, Error)]
pub enum RunAgent {
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] OpenLedger),
    /// The ledger could not be written.
    #[error(transparent)]
    Write(#[from] WriteLedger),
    /// The address for workers is not to be had.
    #[error("cannot listen for workers on {address}: choose another address with --agent-listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The cluster does not take the node.
    #[error("the cluster refused this node")]
    Refused(#[source] CallApi),
    /// First start without a join token.
    #[error(
        "this node has not joined yet: start it once with --join-token (see `trestle api-server --help`)"
    )]
    TokenMissing,
}

/// How often a node says that it is there.
const HELLO_EVERY: Duration = Duration::from_secs(10);

/// What the parts of a running agent share.
struct Shared {
    node: Arc<dyn Node>,
    client: ApiClient,
    ledger: Mutex<Ledger>,
    token: watch::Sender<Option<String>>,
}

/// An agent's rules, without sockets and threads: what [`run`] drives, and a simulation in its place.
#[derive(Clone)]
pub struct Rules {
    shared: Arc<Shared>,
}

impl Rules {
    /// The rules of one start of the agent. The node is given the ledger's configuration at once.
    pub fn new(ledger: Ledger, node: Arc<dyn Node>, client: ApiClient) -> Rules {
        if let Some(config) = ledger.config() {
            node.apply(config.clone());
        }
        let (token, _) = watch::channel(ledger.identity().agent_token.clone());
        let ledger = Mutex::new(ledger);
        let shared = Shared {
            node,
            client,
            ledger,
            token,
        };
        Rules {
            shared: Arc::new(shared),
        }
    }

    /// Joins, or says hello, until some api-server has taken it; and says it again every now and then for ever: a hello of an earlier
    /// start may come late and take the record back to where nobody listens any more. `address` is where the agent listens.
    ///
    /// It ends only when the first announcement is refused.
    pub async fn keep_announced(&self, options: &Options, address: SocketAddr) -> RunAgent {
        if let Err(error) = announce(options, address, &self.shared).await {
            return error;
        }
        loop {
            tokio::time::sleep(HELLO_EVERY).await;
            if let Err(error) = announce(options, address, &self.shared).await {
                tracing::warn!(%error, "the cluster does not know this node any more");
            }
        }
    }

    /// Carries a membership request to the store, and the answer to the node, however long that takes.
    pub async fn carry(&self, request: MembershipRequest) {
        membership::carry(&self.shared, request).await;
    }

    /// Whether a worker that shows this is heard.
    pub fn is_token(&self, shown: &str) -> bool {
        server::is_token(&self.shared, shown)
    }

    /// A worker hands over a configuration.
    ///
    /// Errors: the HTTP status to refuse it with, and why.
    pub fn take_config(&self, config: &NodeConfig) -> Result<StatusAnswer, (StatusCode, String)> {
        server::record(&self.shared, config).map(|()| self.tell_status(0))
    }

    /// What is, now.
    pub fn tell_status(&self, after: u64) -> StatusAnswer {
        server::answer(&self.shared, after)
    }
}

/// Runs the agent of `node` until `shutdown` turns true.
///
/// The configuration in the ledger is applied at once, before any api-server answers: a restarted disk node exports its
/// legs without the control plane.
pub async fn run(
    options: Options,
    ledger: Ledger,
    node: Arc<dyn Node>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), RunAgent> {
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|source| RunAgent::Listen {
            address: options.listen,
            source,
        })?;
    let address = listener.local_addr().unwrap_or(options.listen);
    let rules = Rules::new(ledger, node, ApiClient::new(options.api_servers.clone()));
    let membership = membership::spawn(rules.shared.clone(), shutdown.clone());
    let server = tokio::spawn(server::serve(listener, rules.shared.clone(), shutdown.clone()));
    let mut stop = shutdown.clone();
    let ended = tokio::select! {
        refused = rules.keep_announced(&options, address) => Err(refused),
        _ = stop.wait_for(|stop| *stop) => Ok(()),
    };
    server.abort();
    membership.abort();
    ended
}

/// Joins, or says hello, until some api-server has taken it.
async fn announce(options: &Options, address: SocketAddr, shared: &Shared) -> Result<(), RunAgent> {
    let identity = shared
        .ledger
        .lock()
        .expect("no panic while the ledger is held")
        .identity()
        .clone();
    let mut wait = Duration::from_millis(50);
    loop {
        let outcome = match &identity.agent_token {
            Some(token) => say_hello(options, address, &identity, token, &shared.client).await,
            None => join(options, address, &identity, shared).await,
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(RunAgent::Refused(error)) if error.is_transient() => {
                tracing::warn!(%error, "no api-server took the announcement yet; asking again");
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
}

async fn join(
    options: &Options,
    address: SocketAddr,
    identity: &Identity,
    shared: &Shared,
) -> Result<(), RunAgent> {
    let join_token = options.join_token.as_deref().ok_or(RunAgent::TokenMissing)?;
    let request = JoinRequest {
        kind: options.kind,
        id: identity.id,
        name: options.name.clone(),
        agent_address: address,
        fabric_address: options.fabric_address,
        location: options.location.clone(),
        incarnation: options.incarnation,
    };
    let answer = shared
        .client
        .join(join_token, &request)
        .await
        .map_err(RunAgent::Refused)?;
    shared
        .ledger
        .lock()
        .expect("no panic while the ledger is held")
        .record_token(&answer.agent_token)?;
    shared.token.send_replace(Some(answer.agent_token));
    tracing::info!(id = %identity.id, "joined the cluster");
    Ok(())
}

async fn say_hello(
    options: &Options,
    address: SocketAddr,
    identity: &Identity,
    token: &str,
    client: &ApiClient,
) -> Result<(), RunAgent> {
    let hello = Hello {
        kind: options.kind,
        id: identity.id,
        incarnation: options.incarnation,
        agent_address: address,
        fabric_address: options.fabric_address,
    };
    client.hello(token, &hello).await.map_err(RunAgent::Refused)
}
