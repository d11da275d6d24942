//! Calls to agents: JSON over HTTP, a bearer token, a time limit on each.

use crate::agents::{Agents, CallAgent, Callee};
use control::agent::{NodeConfig, StatusAnswer};
use futures::future::BoxFuture;
use reqwest::{Client, RequestBuilder, StatusCode};
use std::time::Duration;

/// Calls agents.
pub(crate) struct AgentClient {
    client: Client,
    timeout: Duration,
}

impl AgentClient {
    pub(crate) fn new(timeout: Duration) -> Result<Self, reqwest::Error> {
        // No proxies: nodes are called where they say they are.
        let client = Client::builder().no_proxy().connect_timeout(timeout).build()?;
        Ok(AgentClient { client, timeout })
    }
}

impl Agents for AgentClient {
    fn status(
        &self,
        callee: Callee,
        after: u64,
        wait: Duration,
    ) -> BoxFuture<'_, Result<StatusAnswer, CallAgent>> {
        let url = format!("http://{}/agent/v1/status", callee.address);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = self
            .client
            .get(url)
            .query(&[("after", after), ("wait_ms", wait_ms)]);
        Box::pin(answer(
            request.bearer_auth(&callee.token).timeout(self.timeout + wait),
        ))
    }

    fn put_config(
        &self,
        callee: Callee,
        config: NodeConfig,
    ) -> BoxFuture<'_, Result<StatusAnswer, CallAgent>> {
        let url = format!("http://{}/agent/v1/config", callee.address);
        let request = self.client.put(url).json(&config);
        Box::pin(answer(request.bearer_auth(&callee.token).timeout(self.timeout)))
    }
}

impl From<reqwest::Error> for CallAgent {
    fn from(error: reqwest::Error) -> CallAgent {
        CallAgent::Silent(Box::new(error))
    }
}

async fn answer(request: RequestBuilder) -> Result<StatusAnswer, CallAgent> {
    let response = request.send().await?;
    match response.status() {
        status if status.is_success() => Ok(response.json().await?),
        StatusCode::CONFLICT => Err(CallAgent::Conflict {
            text: response.text().await?,
        }),
        status => Err(CallAgent::Refused {
            status: status.as_u16(),
            text: response.text().await?,
        }),
    }
}
