//! Calls to agents: JSON over HTTP, a bearer token, a time limit on each.

use cluster::spec::NodeSpec;
use control::agent::{NodeConfig, StatusAnswer};
use reqwest::{Client, RequestBuilder, StatusCode};
use std::time::Duration;

/// Calls agents.
pub(crate) struct AgentClient {
    client: Client,
    timeout: Duration,
}

/// An agent did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallAgent {
    /// No answer, or none that can be understood.
    #[error("the agent does not answer")]
    Silent(#[from] reqwest::Error),
    /// It holds a configuration that this one must not follow.
    #[error("the agent refuses the configuration: {text}")]
    Conflict {
        /// What it said.
        text: String,
    },
    /// It answers, but not with what was asked.
    #[error("the agent answers {status}: {text}")]
    Refused {
        /// With which status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
}

impl AgentClient {
    pub(crate) fn new(timeout: Duration) -> Result<Self, reqwest::Error> {
        // No proxies: nodes are called where they say they are.
        let client = Client::builder().no_proxy().connect_timeout(timeout).build()?;
        Ok(AgentClient { client, timeout })
    }

    /// What is: at once, or when the version is another than `after`, or when `wait` is over.
    pub(crate) async fn status<Id>(
        &self,
        node: &NodeSpec<Id>,
        after: u64,
        wait: Duration,
    ) -> Result<StatusAnswer, CallAgent> {
        let url = format!("http://{}/agent/v1/status", node.agent_address);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = self
            .client
            .get(url)
            .query(&[("after", after), ("wait_ms", wait_ms)]);
        self.answer(
            request
                .bearer_auth(&node.agent_token)
                .timeout(self.timeout + wait),
        )
        .await
    }

    /// Hand over a configuration.
    pub(crate) async fn put_config<Id>(
        &self,
        node: &NodeSpec<Id>,
        config: &NodeConfig,
    ) -> Result<StatusAnswer, CallAgent> {
        let url = format!("http://{}/agent/v1/config", node.agent_address);
        let request = self.client.put(url).json(config);
        self.answer(request.bearer_auth(&node.agent_token).timeout(self.timeout))
            .await
    }

    async fn answer(&self, request: RequestBuilder) -> Result<StatusAnswer, CallAgent> {
        let response = request.send().await?;
        match response.status() {
            status if status.is_success() => Ok(response.json().await?),
            StatusCode::CONFLICT => Err(CallAgent::Conflict {
                text: response.text().await?,
            }),
            status => Err(CallAgent::Refused {
                status,
                text: response.text().await?,
            }),
        }
    }
}
