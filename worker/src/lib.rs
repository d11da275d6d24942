//! Workers make wishes come true: they plan pools, tell nodes what they shall be, note what nodes say, end operations.
//!
//! | part | wakes up when | reads | writes |
//! |---|---|---|---|
//! | [`roster`] | a timer | | its own registration, under a lease |
//! | [`supervisor`] | anything in the store changed | names of things | nothing: it starts and wakes the others |
//! | [`pool_reconciler`] | the supervisor or a timer says so | all that bears on the pool | the pool's plan, in one transaction |
//! | [`operations`] | with its pool | the same | operations whose wish is true |
//! | [`node_reconciler`] | the agent has news, or its configuration changed | spec, configuration | what the agent says |
//! | [`retention`] | a timer | events, operations | removes the oldest |
//!
//! What a worker deliberately is not: it decides nothing (`cluster`'s planner does), and it keeps nothing that cannot be
//! lost: whatever it holds in memory only says where to look. Any number of workers may run. They share pools and nodes
//! by rendezvous hashing over those that are registered; where two overlap for a while, compares and revisions make the
//! second a no-op.
//!
//! Invariants:
//! - Nothing remembers retries: a reconciler is given a wake-up and no other input, and looks at everything anew.
//! - Every call to an agent has a time limit, and every node its own task: a dead agent delays nobody.
//! - Nothing is committed that the audit refuses.
#![forbid(unsafe_code)]

mod agent_client;
mod agents;
mod directory;
mod events;
mod load;
mod node_kind;
mod node_reconciler;
mod operations;
mod pool_reconciler;
mod retention;
mod roster;
mod supervisor;
mod tasks;

pub use agents::{Agents, CallAgent, Callee};

use cluster::WorkerId;
use std::sync::Arc;
use std::time::Duration;
use store::{Store, TransactionError};
use tokio::sync::watch;

/// How a worker goes about its work. The defaults are for production.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a worker that died keeps its share of the work. Stores have a floor for it: etcd's is one and a half
    /// election time-outs, two seconds by default.
    pub lease_ttl: Duration,
    /// No other worker can be there, as over a store that one process has to itself: whoever is registered at the start is
    /// dead, and its share is taken over at once.
    pub alone: bool,
    /// Everything is looked at again after this long, woken or not.
    pub round_every: Duration,
    /// How long an agent may hold back an answer while it has no news.
    pub agent_wait: Duration,
    /// How long an agent may take beyond that.
    pub agent_timeout: Duration,
    /// The shortest time between two looks at one agent's status: bounds what a busy node writes to the store.
    pub agent_pause: Duration,
    /// The pause after something failed.
    pub failure_pause: Duration,
    /// How many events are kept.
    pub events_max: usize,
    /// How many ended operations are kept.
    pub operations_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            lease_ttl: Duration::from_secs(4),
            alone: false,
            round_every: Duration::from_secs(30),
            agent_wait: Duration::from_secs(10),
            agent_timeout: Duration::from_secs(3),
            agent_pause: Duration::from_millis(50),
            failure_pause: Duration::from_secs(1),
            events_max: 10_000,
            operations_max: 1_000,
        }
    }
}

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunWorker {
    /// No way to call agents.
    #[error("no HTTP client for calls to agents")]
    Client(#[source] reqwest::Error),
}

/// What the parts of a worker share.
struct Shared {
    id: WorkerId,
    store: Arc<dyn Store>,
    options: Options,
    agents: Arc<dyn Agents>,
}

/// Run a worker until `shutdown` is true. A store that is away is waited for; it never ends a worker.
///
/// Errors: [`RunWorker`], at once or never.
pub async fn run(
    store: Arc<dyn Store>,
    options: Options,
    shutdown: watch::Receiver<bool>,
) -> Result<(), RunWorker> {
    let agents = agent_client::AgentClient::new(options.agent_timeout).map_err(RunWorker::Client)?;
    run_with(store, Arc::new(agents), options, shutdown).await;
    Ok(())
}

/// The same, with agents that are called another way.
pub async fn run_with(
    store: Arc<dyn Store>,
    agents: Arc<dyn Agents>,
    options: Options,
    mut shutdown: watch::Receiver<bool>,
) {
    let id = WorkerId(store.outside().fresh_id());
    let shared = Arc::new(Shared {
        id,
        store,
        options,
        agents,
    });
    if shared.options.alone {
        roster::strike_off_others(&shared).await;
    }
    tokio::select! {
        biased;
        () = roster::keep_registered(&shared) => {}
        () = supervisor::run(shared.clone()) => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
    roster::sign_off(&shared).await;
}

/// For logs: an error with all that is behind it.
fn told(error: &TransactionError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
