//! Calls to api-servers: any of them will do, so the next one is tried where one does not answer.

use control::agent::{Hello, JoinRequest, JoinResponse, MembershipAnswer, MembershipRequest};
use reqwest::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Speaks to a set of equal api-servers.
#[derive(Clone)]
pub struct ApiClient {
    way: Arc<dyn Post>,
    servers: Vec<String>,
}

/// What an api-server answered: its HTTP status and the body. Otherwise: that it did not, in words.
pub type Posted = Result<(StatusCode, Vec<u8>), String>;

/// How an api-server is reached: HTTP in production, a simulated network in tests. Every call ends, answered or not.
pub trait Post: Send + Sync {
    /// Send a JSON body, showing a token.
    fn post(
        &self,
        url: String,
        token: String,
        body: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Posted> + Send + '_>>;
}

impl Post for reqwest::Client {
    fn post(
        &self,
        url: String,
        token: String,
        body: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Posted> + Send + '_>> {
        let request = reqwest::Client::post(self, url)
            .bearer_auth(token)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        Box::pin(async move {
            let silent = |error: reqwest::Error| innermost(&error);
            let answer = request.send().await.map_err(silent)?;
            let status = answer.status();
            Ok((status, answer.bytes().await.map_err(silent)?.to_vec()))
        })
    }
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
        ApiClient::with(Arc::new(http), servers)
    }

    /// The same, reached another way.
    pub fn with(way: Arc<dyn Post>, servers: Vec<String>) -> ApiClient {
        ApiClient { way, servers }
    }

    /// Asks to join.
    pub async fn join(&self, token: &str, request: &JoinRequest) -> Result<JoinResponse, CallApi> {
        decode(self.post("/internal/v1/join", token, request).await?)
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
        decode(self.post("/internal/v1/membership", token, request).await?)
    }

    async fn post<T: Serialize>(&self, path: &str, token: &str, body: &T) -> Result<Answered, CallApi> {
        let body = serde_json::to_vec(body).expect("messages can be written as JSON");
        let mut last = "no api-server is configured".to_owned();
        for server in &self.servers {
            let url = format!("{}{path}", server.trim_end_matches('/'));
            match self.way.post(url, token.to_owned(), body.clone()).await {
                Ok((status, body)) if status.is_success() => {
                    let server = server.clone();
                    return Ok(Answered { server, body });
                }
                Ok((status, body)) if is_refusal(status) => {
                    return Err(CallApi::Refused {
                        server: server.clone(),
                        status,
                        detail: String::from_utf8_lossy(&body).into_owned(),
                    });
                }
                Ok((status, _)) => last = format!("{server}: {status}"),
                Err(error) => last = format!("{server}: {error}"),
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

/// An api-server did what it was asked to.
struct Answered {
    server: String,
    body: Vec<u8>,
}

fn decode<T: DeserializeOwned>(answer: Answered) -> Result<T, CallApi> {
    serde_json::from_slice(&answer.body).map_err(|error| CallApi::Away {
        servers: vec![answer.server],
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
