//! The network of a control plane: workers to agents, agents and people to api-servers. A call may be lost before or after it took effect, be
//! late, arrive twice, overtake another; whoever called waits with patience, and may die meanwhile.

use super::client::Life;
use super::fault::Fault;
use super::seat::Seat;
use super::sim::Sim;
use agent::api_client::{Post, Posted};
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, Request, StatusCode, header};
use control::agent::{NodeConfig, StatusAnswer};
use futures::future::BoxFuture;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower::ServiceExt;
use worker::{Agents, CallAgent, Callee};

/// How long an agent waits for an api-server.
const API_PATIENCE: Duration = Duration::from_secs(3);

/// What happens to one call.
struct Journey {
    there: Duration,
    back: Duration,
    lost_there: bool,
    lost_back: bool,
    /// The caller is told of a loss at once, rather than left to its patience.
    resets: bool,
    again: Option<Duration>,
}

impl Sim {
    fn journey(&self) -> Journey {
        let lost = |sim: &Sim| sim.is(Fault::CallsLost) && sim.below(4) == 0;
        let twice = self.is(Fault::CallsTwice) && self.below(2) == 0;
        Journey {
            there: self.delay(3, Fault::CallsLate, 4_000),
            back: self.delay(3, Fault::CallsLate, 2_000),
            lost_there: lost(self),
            lost_back: lost(self),
            resets: self.below(2) == 0,
            again: twice.then(|| Duration::from_millis(self.below(20_000))),
        }
    }

    /// Call somebody. `serve` is what it does there, each time the call arrives; `None` from it: nobody is there.
    pub async fn call<T, F>(&self, serve: impl Fn() -> F + Send + 'static, patience: Duration) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let journey = self.journey();
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            if let Some(again) = journey.again {
                let second = serve();
                tokio::spawn(async move {
                    sleep(again).await;
                    second.await;
                });
            }
            sleep(journey.there).await;
            let served = if journey.lost_there { None } else { serve().await };
            sleep(journey.back).await;
            match served.filter(|_| !journey.lost_back) {
                Some(served) => _ = answer.send(served),
                None if journey.resets => drop(answer),
                None => sleep(patience).await,
            }
        });
        timeout(patience, answered).await.ok()?.ok()
    }
}

/// A worker's way to agents.
pub struct ToAgents {
    /// In which world.
    pub sim: Arc<Sim>,
    /// Whose.
    pub life: Arc<Life>,
    /// Beyond the wait for news.
    pub patience: Duration,
}

type Told = Result<StatusAnswer, (u16, String)>;

impl ToAgents {
    async fn ask<F>(
        &self,
        serve: impl Fn() -> F + Send + 'static,
        patience: Duration,
    ) -> Result<StatusAnswer, CallAgent>
    where
        F: Future<Output = Option<Told>> + Send + 'static,
    {
        self.life.goes_on().await;
        let answer = self.sim.call(serve, patience).await;
        self.life.goes_on().await;
        match answer {
            None => Err(CallAgent::Silent("no answer".into())),
            Some(Ok(answer)) => Ok(answer),
            Some(Err((409, text))) => Err(CallAgent::Conflict { text }),
            Some(Err((status, text))) => Err(CallAgent::Refused { status, text }),
        }
    }
}

impl Agents for ToAgents {
    fn status(
        &self,
        callee: Callee,
        after: u64,
        wait: Duration,
    ) -> BoxFuture<'_, Result<StatusAnswer, CallAgent>> {
        let sim = self.sim.clone();
        let serve = move || tell_status(sim.clone(), callee.clone(), after, wait);
        Box::pin(self.ask(serve, self.patience + wait))
    }

    fn put_config(
        &self,
        callee: Callee,
        config: NodeConfig,
    ) -> BoxFuture<'_, Result<StatusAnswer, CallAgent>> {
        let (sim, by) = (self.sim.clone(), self.life.name.clone());
        let text = serde_json::to_vec(&config).expect("it is plain JSON");
        let serve = move || take_config(sim.clone(), by.clone(), callee.clone(), text.clone());
        Box::pin(self.ask(serve, self.patience))
    }
}

/// What production's server does around the rules: the token, and the wait for news.
async fn tell_status(sim: Arc<Sim>, callee: Callee, after: u64, wait: Duration) -> Option<Told> {
    let until = Instant::now() + wait;
    loop {
        let changed = sim.plane_changed.notified();
        let rules = sim.seat(callee.address)?.reached()?;
        if !rules.is_token(&callee.token) {
            return Some(Err((401, "not the token".into())));
        }
        let answer = rules.tell_status(after);
        if answer.version != after || Instant::now() >= until {
            return Some(Ok(answer));
        }
        _ = timeout_at(until, changed).await;
    }
}

async fn take_config(sim: Arc<Sim>, by: String, callee: Callee, text: Vec<u8>) -> Option<Told> {
    let seat = sim.seat(callee.address)?;
    let rules = seat.reached()?;
    if !rules.is_token(&callee.token) {
        return Some(Err((401, "not the token".into())));
    }
    let config: NodeConfig = serde_json::from_slice(&text).expect("it was written so");
    let told = rules.take_config(&config);
    if told.is_ok() {
        let mut oracle = sim.oracle.lock().expect("one thread");
        oracle.handed(&by, &seat.name, config.revision(), sim.now());
    }
    let outcome = told
        .as_ref()
        .map_or_else(|(status, _)| status.as_str().to_owned(), |_| "taken".into());
    sim.say(|| {
        let revision = config.revision().0;
        format!("{by:<10} hands {} its revision {revision}: {outcome}", seat.name)
    });
    Some(told.map_err(|(status, text)| (status.as_u16(), text)))
}

/// An agent's way to api-servers: `http://N` is the one of that number.
pub struct ToApiServers {
    /// In which world.
    pub sim: Arc<Sim>,
    /// Whose.
    pub seat: Arc<Seat>,
}

impl Post for ToApiServers {
    fn post(
        &self,
        url: String,
        token: String,
        body: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Posted> + Send + '_>> {
        let (server, path) = url
            .trim_start_matches("http://")
            .split_once('/')
            .expect("a server and a path");
        let request = ApiRequest {
            method: "POST",
            path: format!("/{path}"),
            headers: vec![("authorization", format!("Bearer {token}"))],
            body,
        };
        let server = server.parse().expect("a number");
        self.seat.sent(&request);
        Box::pin(async move {
            if self.seat.is_cut() {
                sleep(API_PATIENCE).await;
                return Err("cut off".into());
            }
            let sim = self.sim.clone();
            let serve = move || serve_api(sim.clone(), server, request.clone());
            let answer = self.sim.call(serve, API_PATIENCE).await;
            let answer = answer.ok_or_else(|| "no answer".to_owned())?;
            Ok((answer.status, answer.body))
        })
    }
}

/// A request to an api-server.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// HTTP's.
    pub method: &'static str,
    /// With the query.
    pub path: String,
    /// Beside the content type.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// What it answered.
#[derive(Clone, Debug)]
pub struct ApiAnswer {
    /// HTTP's.
    pub status: StatusCode,
    /// Without its quotes.
    pub etag: Option<u64>,
    /// Where to look.
    pub location: Option<String>,
    /// JSON, or nothing.
    pub body: Vec<u8>,
}

/// Production's router, without a socket.
pub async fn serve_api(sim: Arc<Sim>, server: usize, request: ApiRequest) -> Option<ApiAnswer> {
    let router = sim.api_server(server)?;
    let mut built = Request::builder()
        .method(request.method)
        .uri(&request.path)
        .header(header::CONTENT_TYPE, "application/json");
    for (name, value) in &request.headers {
        built = built.header(*name, value);
    }
    let built = built.body(Body::from(request.body)).expect("a request");
    let response = router.oneshot(built).await.expect("it never fails");
    let headers = response.headers();
    let (etag, location) = (text_of(headers, header::ETAG), text_of(headers, header::LOCATION));
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 24).await.ok()?.to_vec();
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        let what = format!(
            "{} {}: {}",
            request.method,
            request.path,
            String::from_utf8_lossy(&body)
        );
        sim.accuse("an api-server is never at a loss", what);
    }
    Some(ApiAnswer {
        status,
        etag: etag.and_then(|etag| etag.trim_matches('"').parse().ok()),
        location,
        body,
    })
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
