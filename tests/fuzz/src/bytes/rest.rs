//! Requests to the api-server, a few after each other, over a store in memory: paths, queries, headers, bodies.
//!
//! Oracle: whatever is asked, the server does not fail (no status of 500); a refusal is a problem that says what to do, with the
//! status that its kind has; everything else is JSON.
//!
//! An input is text: requests with a zero byte between them, each a line of method and path, lines of headers, an empty line, and the
//! body.

use api_server::{Options, router};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use control::problem::{Problem, ProblemKind};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use store::{
    BoxFuture, Compare, KeyRange, KeyValue, Lease, LeaseId, Limits, Outcome, Read, Snapshot, Store,
    StoreError, StoreRevision, Transaction, Watch, Write,
};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// What nodes must show to join.
pub const JOIN_TOKEN: &str = "join-us";
const REQUESTS_MAX: usize = 6;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
}

/// One input.
pub fn run(bytes: &[u8]) {
    let mut options = Options::new(([127, 0, 0, 1], 0).into());
    options.join_token = Some(JOIN_TOKEN.into());
    let api = router(Arc::new(InMemory::default()), options);
    for request in bytes.split(|byte| *byte == 0).take(REQUESTS_MAX) {
        let Some(request) = parse(request) else { continue };
        let shown = format!("{} {}", request.method(), request.uri());
        let (status, body) = RUNTIME.with(|runtime| {
            runtime.block_on(async {
                let response = api.clone().oneshot(request).await.expect("routers do not fail");
                let (parts, body) = response.into_parts();
                (
                    parts.status,
                    to_bytes(body, 64 << 20).await.expect("a whole body"),
                )
            })
        });
        check(&shown, status.as_u16(), &body);
    }
}

fn parse(bytes: &[u8]) -> Option<Request<Body>> {
    let end = bytes
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let mut lines = std::str::from_utf8(head).ok()?.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    let body = body.get(2..).unwrap_or_default().to_vec();
    request.body(Body::from(body)).ok()
}

fn check(request: &str, status: u16, body: &[u8]) {
    assert_ne!(
        status,
        ProblemKind::Internal.status(),
        "{request}: {}",
        String::from_utf8_lossy(body)
    );
    if status < 400 {
        return;
    }
    let problem: Problem = serde_json::from_slice(body)
        .unwrap_or_else(|error| panic!("{request}: {status}: {error}: {}", String::from_utf8_lossy(body)));
    let kind = ProblemKind::ALL
        .iter()
        .find(|kind| problem.is(**kind))
        .expect("a kind of ours");
    assert_eq!(
        (problem.status, status),
        (kind.status(), kind.status()),
        "{request}"
    );
    assert!(
        !problem.detail.is_empty() && !problem.hint.is_empty(),
        "{request}: {problem:?}"
    );
}

/// A store that is a map.
#[derive(Default)]
struct InMemory(RwLock<(u64, BTreeMap<Vec<u8>, KeyValue>)>);

impl InMemory {
    fn snapshot(&self, read: &Read) -> Result<Snapshot, StoreError> {
        let (revision, map) = &*self.0.read().expect("nobody panics with it");
        let revision = StoreRevision(*revision);
        match read.at {
            Some(asked) if asked > revision => return Err(StoreError::FutureRevision { asked }),
            Some(asked) if asked < revision => return Err(StoreError::Compacted),
            _ => {}
        }
        let mut entries: Vec<KeyValue> = in_range(map, &read.range).cloned().collect();
        let more = read.limit.is_some_and(|limit| entries.len() > limit);
        entries.truncate(read.limit.unwrap_or(usize::MAX));
        Ok(Snapshot {
            revision,
            entries,
            more,
        })
    }

    fn apply(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        transaction.check(Limits::DEFAULT)?;
        let (revision, map) = &mut *self.0.write().expect("nobody panics with it");
        let holds = |compare: &Compare| match compare {
            Compare::Key { key, mod_revision } => {
                map.get(key).map_or(StoreRevision(0), |entry| entry.mod_revision) == *mod_revision
            }
            Compare::RangeUnwritten { range, since } => {
                in_range(map, range).all(|entry| entry.mod_revision <= *since)
            }
        };
        if !transaction.compares.iter().all(holds) {
            return Ok(Outcome::Conflict);
        }
        *revision += 1;
        let now = StoreRevision(*revision);
        for (key, write) in transaction.writes {
            let old = map.remove(&key);
            if let Write::Put { value, lease } = write {
                let (create_revision, version) =
                    old.map_or((now, 1), |old| (old.create_revision, old.version + 1));
                let mod_revision = now;
                map.insert(
                    key.clone(),
                    KeyValue {
                        key,
                        value,
                        create_revision,
                        mod_revision,
                        version,
                        lease,
                    },
                );
            }
        }
        Ok(Outcome::Committed { revision: now })
    }
}

fn in_range<'a>(
    map: &'a BTreeMap<Vec<u8>, KeyValue>,
    range: &'a KeyRange,
) -> impl Iterator<Item = &'a KeyValue> {
    let from = map.range(range.start().to_vec()..);
    from.map(|(_, entry)| entry)
        .take_while(|entry| range.contains(&entry.key))
}

fn away<T>() -> Result<T, StoreError> {
    Err(StoreError::Away {
        waited: Duration::ZERO,
        reason: "an api-server does not ask for this".into(),
    })
}

impl Store for InMemory {
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        Box::pin(async move { self.snapshot(&read) })
    }
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async move { self.apply(transaction) })
    }
    fn watch(&self, _: KeyRange, _: StoreRevision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        Box::pin(async { away() })
    }
    fn grant_lease(&self, _: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(async { away() })
    }
    fn keep_lease_alive(&self, _: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { away() })
    }
    fn revoke_lease(&self, _: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { away() })
    }
    fn compact(&self, _: StoreRevision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
    fn limits(&self) -> Limits {
        Limits::DEFAULT
    }
}
