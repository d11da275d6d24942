//! The seam between a worker and the agents it calls: HTTP in production ([`crate::run`]), a simulated network in tests.

use cluster::spec::NodeSpec;
use control::agent::{NodeConfig, StatusAnswer};
use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::time::Duration;

/// Calls agents. Every call ends: with an answer or, after some time, without one.
pub trait Agents: Send + Sync + 'static {
    /// What is: at once, or when the version is another than `after`, or when `wait` is over.
    fn status(
        &self,
        callee: Callee,
        after: u64,
        wait: Duration,
    ) -> BoxFuture<'_, Result<StatusAnswer, CallAgent>>;

    /// Hand over a configuration.
    fn put_config(
        &self,
        callee: Callee,
        config: NodeConfig,
    ) -> BoxFuture<'_, Result<StatusAnswer, CallAgent>>;
}

/// Who is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callee {
    /// Where its agent listens.
    pub address: SocketAddr,
    /// What it must be shown.
    pub token: String,
}

impl Callee {
    /// The agent of a node, as its record says.
    pub fn of<Id>(node: &NodeSpec<Id>) -> Callee {
        Callee {
            address: node.agent_address,
            token: node.agent_token.clone(),
        }
    }
}

/// An agent did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CallAgent {
    /// No answer, or none that can be understood.
    #[error("the agent does not answer")]
    Silent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It holds a configuration that this one must not follow.
    #[error("the agent refuses the configuration: {text}")]
    Conflict {
        /// What it said.
        text: String,
    },
    /// It answers, but not with what was asked.
    #[error("the agent answers {status}: {text}")]
    Refused {
        /// With which HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
}
