//! Calls to an api-server, and its refusals.

use control::problem::{Problem, ProblemKind};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use thiserror::Error;

/// Why a call did not succeed.
#[derive(Debug, Error)]
pub(crate) enum CallApi {
    /// Nobody answered.
    #[error("no api-server answers at {base} ({cause}); name one with --api or TRESTLE_API")]
    Away { base: String, cause: String },
    /// The api-server said no.
    #[error("{}. {}", .0.detail.trim_end_matches('.'), .0.hint)]
    Refused(Box<Problem>),
    /// Something that is no api-server answered.
    #[error("{base} answers {status}, but not as an api-server does: is --api right?")]
    Foreign { base: String, status: StatusCode },
    /// An operation ended without success.
    #[error("the operation failed: {0}")]
    OperationFailed(String),
    /// An operation has not ended in time.
    #[error(
        "not done after {seconds} s, and still going on; watch it with `trestle operation wait {operation}`{waits}"
    )]
    WaitedTooLong {
        seconds: u64,
        operation: String,
        waits: String,
    },
}

impl CallApi {
    /// The exit code that tells scripts what happened.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            CallApi::Refused(problem) if problem.status == 404 => 3,
            // Not enough space is a refusal like others, whatever its number says.
            CallApi::Refused(problem) if problem.is(ProblemKind::NoSpace) => 4,
            CallApi::Refused(problem) if problem.status >= 500 => 5,
            CallApi::Refused(_) => 4,
            CallApi::Away { .. } | CallApi::Foreign { .. } => 5,
            CallApi::OperationFailed(_) => 6,
            CallApi::WaitedTooLong { .. } => 7,
        }
    }
}

/// A client of one api-server.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
}

impl Api {
    /// A client of the api-server at this base address.
    pub(crate) fn new(base: &str) -> Api {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(3))
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .build()
            .expect("a client without TLS can always be built");
        Api {
            http,
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// GET.
    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallApi> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Every item of a list, page by page, at most `limit`.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: usize,
    ) -> Result<Vec<T>, CallApi> {
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut request = self.request(Method::GET, path);
            if let Some(token) = &next {
                request = request.query(&[("continue", token)]);
            }
            let page: control::rest::List<T> = self.send(request).await?;
            items.extend(page.items);
            next = page.continuation.filter(|_| items.len() < limit);
            if next.is_none() {
                items.truncate(limit);
                return Ok(items);
            }
        }
    }

    /// POST, with a key that makes it safe to send twice.
    pub(crate) async fn create<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CallApi> {
        let key = uuid::Uuid::new_v4().to_string();
        self.send(
            self.request(Method::POST, path)
                .header("Idempotency-Key", key)
                .json(body),
        )
        .await
    }

    /// PATCH.
    pub(crate) async fn change<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CallApi> {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    /// DELETE; what it answers, if anything.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CallApi> {
        let answer = self.answer(self.request(Method::DELETE, path)).await?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        self.decode(answer).await.map(Some)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/v1/{path}", self.base))
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CallApi> {
        let answer = self.answer(request).await?;
        self.decode(answer).await
    }

    async fn answer(&self, request: RequestBuilder) -> Result<reqwest::Response, CallApi> {
        let away = |error: reqwest::Error| CallApi::Away {
            base: self.base.clone(),
            cause: innermost(&error),
        };
        let answer = request.send().await.map_err(away)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        match answer.json::<Problem>().await {
            Ok(problem) => Err(CallApi::Refused(Box::new(problem))),
            Err(_) => Err(CallApi::Foreign {
                base: self.base.clone(),
                status,
            }),
        }
    }

    async fn decode<T: DeserializeOwned>(&self, answer: reqwest::Response) -> Result<T, CallApi> {
        let status = answer.status();
        answer.json().await.map_err(|_| CallApi::Foreign {
            base: self.base.clone(),
            status,
        })
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A name or id as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn odd_names_stay_one_segment() {
        assert_eq!(segment("vol-1"), "vol-1");
        assert_eq!(segment("../pools?x#y"), "..%2Fpools%3Fx%23y");
        assert_eq!(segment("nqn.2014-08.org:ü"), "nqn.2014-08.org%3A%C3%BC");
    }
}
