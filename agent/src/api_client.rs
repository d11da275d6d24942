//! Calls to api-servers: any of them will do, so the next one is tried where one does not answer.

use control::agent::{Hello, JoinRequest, JoinResponse, MembershipAnswer, MembershipRequest};
use reqwest::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use thiserror::Error;

const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Speaks to a set of equal api-servers.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: reqwest::Client,
    servers: Vec<String>,
}

/// Why a call did not succeed.
#[derive(Debug, Error)]
pub enum CallApi {
    /// No api-server answered, or none could reach the store.
    #[error("none of the api-servers {servers:?} could answer (last: {last})")]
    Away {
        /// Who was asked.
        servers: Vec<String>,
        /// What the last one's failure was.
        last: String,
    },
    /// An api-server answered with a refusal.
    #[error("{server} refused with {status}: {detail}")]
    Refused {
        /// Who.
        server: String,
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        detail: String,
    },
}

impl CallApi {
    /// Whether asking again can help without anybody doing something.
    pub fn is_transient(&self) -> bool {
        matches!(self, CallApi::Away { .. })
    }
}

impl ApiClient {
    /// A client of the api-servers at these base addresses.
    pub fn new(servers: Vec<String>) -> ApiClient {
        let http = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .connect_timeout(Duration::from_millis(500))
            .no_proxy()
            .build()
            .expect("a client without TLS can always be built");
        ApiClient { http, servers }
    }

    /// Asks to join.
    pub async fn join(&self, token: &str, request: &JoinRequest) -> Result<JoinResponse, CallApi> {
        decode(self.post("/internal/v1/join", token, request).await?).await
    }

    /// Says that the node was started again.
    pub async fn hello(&self, token: &str, hello: &Hello) -> Result<(), CallApi> {
        self.post("/internal/v1/hello", token, hello).await.map(drop)
    }

    /// Asks for a change of a slice's membership to be recorded.
    pub async fn membership(
        &self,
        token: &str,
        request: &MembershipRequest,
    ) -> Result<MembershipAnswer, CallApi> {
        decode(self.post("/internal/v1/membership", token, request).await?).await
    }

    async fn post<T: Serialize>(
        &self,
        path: &str,
        token: &str,
        body: &T,
    ) -> Result<reqwest::Response, CallApi> {
        let mut last = "no api-server is configured".to_owned();
        for server in &self.servers {
            let url = format!("{}{path}", server.trim_end_matches('/'));
            match self.http.post(url).bearer_auth(token).json(body).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) if is_refusal(answer.status()) => return Err(refusal(server, answer).await),
                Ok(answer) => last = format!("{server}: {}", answer.status()),
                Err(error) => last = format!("{server}: {}", innermost(&error)),
            }
        }
        Err(CallApi::Away {
            servers: self.servers.clone(),
            last,
        })
    }
}

/// A refusal is final; 408, 425, 429 and 5xx mean that another server, or this one later, may say otherwise.
fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429)
}

async fn refusal(server: &str, answer: reqwest::Response) -> CallApi {
    let status = answer.status();
    let detail = answer.text().await.unwrap_or_default();
    CallApi::Refused {
        server: server.to_owned(),
        status,
        detail,
    }
}

async fn decode<T: DeserializeOwned>(answer: reqwest::Response) -> Result<T, CallApi> {
    let server = answer.url().origin().ascii_serialization();
    answer.json().await.map_err(|error| CallApi::Away {
        servers: vec![server],
        last: format!("unreadable answer: {error}"),
    })
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
