//! The store in an etcd cluster (v3), shared by control planes on many machines.
//!
//! What it deliberately is not: it caches nothing and repeats only reads. Every request has a time-out; a commit that
//! was sent and not answered is [`StoreError::OutcomeUnknown`]. With a key prefix, several fabrics share one etcd and
//! none sees the other's keys (revisions are etcd's and so common to all).

use crate::key::after_prefix;
use crate::{
    BoxFuture, Change, Compare, KeyRange, KeyValue, Lease, LeaseId, Limits, Outcome, Read, Snapshot, Store,
    StoreError, StoreRevision, Transaction, Watch, WatchSignal, Write,
};
use etcd_client::{
    Client, CompareOp, ConnectOptions, Error, EventType, GetOptions, PutOptions, TxnOp, WatchOptions,
    WatchStream,
};
use futures::stream::StreamExt;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Where the etcd is and how it is used.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Its members, as `http://host:port` or `host:port`; at least one.
    pub endpoints: Vec<String>,
    /// Before all our keys; may be empty.
    pub key_prefix: String,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a request may take, with all its repetitions.
    pub request_timeout: Duration,
    /// What its `--max-txn-ops` and `--max-request-bytes` allow.
    pub limits: Limits,
}

impl EtcdOptions {
    /// With defaults: no prefix, three seconds to connect, five for a request, an etcd as it comes.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> EtcdOptions {
        EtcdOptions {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            key_prefix: String::new(),
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(5),
            limits: Limits::DEFAULT,
        }
    }
}

/// An etcd as a store.
pub struct Etcd {
    /// One per member: which one was asked, and so what can have happened, is always known.
    members: Vec<Client>,
    /// The member that answered last.
    current: AtomicUsize,
    prefix: Vec<u8>,
    timeout: Duration,
    limits: Limits,
}

/// Between two tries of a read.
const PAUSE: Duration = Duration::from_millis(50);

impl Etcd {
    /// Does not wait for the etcd to be there: requests do, each for its own time.
    ///
    /// Errors: [`StoreError::Unusable`] if the endpoints are not addresses.
    pub async fn connect(options: EtcdOptions) -> Result<Etcd, StoreError> {
        if options.endpoints.is_empty() {
            return Err(StoreError::Unusable {
                reason: "no etcd endpoint was given".into(),
            });
        }
        let connect = ConnectOptions::new()
            .with_connect_timeout(options.connect_timeout)
            .with_keep_alive(Duration::from_secs(5), options.request_timeout)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        let mut members = Vec::new();
        for endpoint in &options.endpoints {
            let member = Client::connect([endpoint], Some(connect.clone())).await;
            members.push(member.map_err(|error| StoreError::Unusable {
                reason: format!("{endpoint}: {error}"),
            })?);
        }
        let (prefix, timeout) = (options.key_prefix.into_bytes(), options.request_timeout);
        Ok(Etcd {
            members,
            current: AtomicUsize::new(0),
            prefix,
            timeout,
            limits: options.limits,
        })
    }

    fn member(&self) -> Client {
        self.members[self.current.load(Ordering::Relaxed) % self.members.len()].clone()
    }

    fn full(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    /// Start and end of a range as etcd wants them: an end of one zero byte means "no end".
    fn bounds(&self, range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
        let start = self.full(range.start());
        let start = if start.is_empty() { vec![0] } else { start };
        let end = match range.end() {
            Some(end) => self.full(end),
            None => after_prefix(&self.prefix).unwrap_or_else(|| vec![0]),
        };
        (start, end)
    }

    fn entry(&self, entry: &etcd_client::KeyValue) -> KeyValue {
        entry_without(&self.prefix, entry)
    }

    /// Ask until there is an answer, within the time, each member its share of it. Only for what may be asked twice.
    async fn ask<T, R>(&self, request: impl Fn(Client) -> R) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, Error>>,
    {
        let mut reason = String::from("no answer");
        let share = self.timeout / self.members.len() as u32;
        let asking = async {
            loop {
                match tokio::time::timeout(share, request(self.member())).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => match refusal(&error) {
                        Some(refusal) => return Err(refusal),
                        None => reason = error.to_string(),
                    },
                    Err(_) => reason = "no answer".into(),
                }
                self.current.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        };
        let answer = tokio::time::timeout(self.timeout, asking).await;
        answer.unwrap_or(Err(StoreError::Away {
            waited: self.timeout,
            reason,
        }))
    }

    /// Ask once, and do not know what happened if there is no answer.
    async fn ask_once<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        let unknown = |reason: String| StoreError::OutcomeUnknown {
            waited: self.timeout,
            reason,
        };
        match tokio::time::timeout(self.timeout, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(refusal(&error).unwrap_or_else(|| unknown(error.to_string()))),
            Err(_) => Err(unknown("no answer".into())),
        }
    }

    /// Before something that must not be sent twice: find out whether anybody listens, so that a store that is plainly
    /// away is told as that, and not as an unknown outcome.
    async fn check_there(&self) -> Result<(), StoreError> {
        let options = GetOptions::new().with_keys_only().with_limit(1);
        self.ask(|mut client| {
            let options = options.clone();
            async move { client.get("\0", Some(options)).await }
        })
        .await
        .map(|_| ())
    }

    async fn read_range(&self, read: Read) -> Result<Snapshot, StoreError> {
        let (start, end) = self.bounds(&read.range);
        // Of an empty range etcd would be told nothing it understands: only its revision is asked for.
        let nothing = read.range.is_empty();
        let mut options =
            GetOptions::new().with_range(if nothing { [&start[..], &[0]].concat() } else { end });
        if let Some(at) = read.at {
            if at.0 == 0 {
                return Err(StoreError::Compacted);
            }
            options = options.with_revision(at.0 as i64);
        }
        let limit = read.limit.unwrap_or(usize::MAX);
        if let Some(limit) = read.limit {
            // Zero would mean "no limit".
            options = options.with_limit(limit.max(1) as i64);
        }
        let asked = read.at;
        let answer = self
            .ask(|mut client| {
                let (start, options) = (start.clone(), options.clone());
                async move { client.get(start, Some(options)).await }
            })
            .await
            .map_err(|error| with_revision(error, asked))?;
        let newest = StoreRevision(answer.header().map_or(0, |header| header.revision() as u64));
        let limit = if nothing { 0 } else { limit };
        let entries: Vec<_> = answer
            .kvs()
            .iter()
            .take(limit)
            .map(|entry| self.entry(entry))
            .collect();
        let more = !nothing && (answer.more() || answer.kvs().len() > limit);
        Ok(Snapshot {
            revision: asked.unwrap_or(newest),
            entries,
            more,
        })
    }

    fn compare(&self, compare: Compare) -> etcd_client::Compare {
        match compare {
            Compare::Key { key, mod_revision } => {
                etcd_client::Compare::mod_revision(self.full(&key), CompareOp::Equal, mod_revision.0 as i64)
            }
            Compare::RangeUnwritten { range, since } => {
                let (start, end) = self.bounds(&range);
                etcd_client::Compare::mod_revision(start, CompareOp::Less, since.0 as i64 + 1).with_range(end)
            }
        }
    }

    async fn commit_transaction(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        transaction.check(self.limits)?;
        self.check_there().await?;
        let not_empty =
            |compare: &Compare| !matches!(compare, Compare::RangeUnwritten { range, .. } if range.is_empty());
        let compares = transaction
            .compares
            .into_iter()
            .filter(not_empty)
            .map(|compare| self.compare(compare));
        let writes = transaction.writes.into_iter().map(|(key, write)| match write {
            Write::Put { value, lease } => {
                let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
                TxnOp::put(self.full(&key), value, options)
            }
            Write::Delete => TxnOp::delete(self.full(&key), None),
        });
        let txn = etcd_client::Txn::new()
            .when(compares.collect::<Vec<_>>())
            .and_then(writes.collect::<Vec<_>>());
        let mut client = self.member();
        let answer = self.ask_once(client.txn(txn)).await?;
        let revision = StoreRevision(answer.header().map_or(0, |header| header.revision() as u64));
        Ok(if answer.succeeded() {
            Outcome::Committed { revision }
        } else {
            Outcome::Conflict
        })
    }

    async fn watch_range(&self, range: KeyRange, from: StoreRevision) -> Result<Watch, StoreError> {
        if from.0 == 0 {
            let reason = "revision 0 is before all that is kept".to_string();
            let lost = WatchSignal::Lost {
                compacted: true,
                reason,
            };
            return Ok(Watch::new(futures::stream::iter([lost]).boxed()));
        }
        let (start, end) = self.bounds(&range);
        let options = WatchOptions::new()
            .with_range(end)
            .with_start_revision(from.0 as i64);
        let stream = self
            .ask(|mut client| {
                let (start, options) = (start.clone(), options.clone());
                async move { client.watch(start, Some(options)).await }
            })
            .await?;
        let state = (stream, self.prefix.clone());
        let signals = futures::stream::unfold(state, async |(mut stream, prefix)| {
            let signal = next_signal(&mut stream, &prefix).await;
            Some((signal, (stream, prefix)))
        });
        Ok(Watch::new(signals.boxed()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let kept = self
            .ask(|mut client| async move {
                match client.lease_keep_alive(lease.0).await {
                    Ok(_) => Ok(true),
                    Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await?;
        if kept { Ok(()) } else { Err(StoreError::LeaseGone) }
    }
}

impl Store for Etcd {
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        Box::pin(self.read_range(read))
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(self.commit_transaction(transaction))
    }

    fn watch(&self, range: KeyRange, from: StoreRevision) -> BoxFuture<'_, Result<Watch, StoreError>> {
        Box::pin(self.watch_range(range, from))
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        let seconds = ttl.as_secs_f64().ceil().max(1.0) as i64;
        Box::pin(async move {
            // A lease granted twice by a repetition ends by itself.
            let grant = |mut client: Client| async move { client.lease_grant(seconds, None).await };
            let granted = self.ask(grant).await?;
            Ok(Lease {
                id: LeaseId(granted.id()),
                ttl: Duration::from_secs(granted.ttl().max(0) as u64),
            })
        })
    }

    fn keep_lease_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.keep_alive(lease))
    }

    fn revoke_lease(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.check_there().await?;
            let mut client = self.member();
            self.ask_once(client.lease_revoke(lease.0)).await.map(|_| ())
        })
    }

    fn compact(&self, revision: StoreRevision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let compact = |mut client: Client| async move { client.compact(revision.0 as i64, None).await };
            self.ask(compact)
                .await
                .map(|_| ())
                .map_err(|error| with_revision(error, Some(revision)))
        })
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}

/// The next thing to tell; skips what carries nothing.
async fn next_signal(stream: &mut WatchStream, prefix: &[u8]) -> WatchSignal {
    let lost = |compacted: bool, reason: String| WatchSignal::Lost { compacted, reason };
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return lost(false, "etcd closed the watch".into()),
            Err(error) => return lost(false, error.to_string()),
        };
        if message.compact_revision() > 0 {
            let reason = format!(
                "etcd keeps nothing before revision {}",
                message.compact_revision()
            );
            return lost(true, reason);
        }
        if message.canceled() {
            return lost(false, message.cancel_reason().to_string());
        }
        let changes: Vec<_> = message
            .events()
            .iter()
            .filter_map(|event| change(event, prefix))
            .collect();
        if let Some(last) = changes.last() {
            return WatchSignal::Changes {
                revision: last.revision(),
                changes,
            };
        }
    }
}

fn change(event: &etcd_client::Event, prefix: &[u8]) -> Option<Change> {
    let entry = entry_without(prefix, event.kv()?);
    Some(match event.event_type() {
        EventType::Put => Change::Put(entry),
        EventType::Delete => Change::Delete {
            key: entry.key,
            revision: entry.mod_revision,
        },
    })
}

fn entry_without(prefix: &[u8], entry: &etcd_client::KeyValue) -> KeyValue {
    KeyValue {
        key: entry.key().strip_prefix(prefix).unwrap_or(entry.key()).to_vec(),
        value: entry.value().to_vec(),
        create_revision: StoreRevision(entry.create_revision() as u64),
        mod_revision: StoreRevision(entry.mod_revision() as u64),
        version: entry.version() as u64,
        lease: Some(LeaseId(entry.lease())).filter(|lease| lease.0 != 0),
    }
}

/// What etcd refused for good, by the words of its errors (etcd's rpctypes; gRPC codes alone do not tell them apart).
/// `None`: it is away, ask again.
fn refusal(error: &Error) -> Option<StoreError> {
    let Error::GRpcStatus(status) = error else {
        let ours = matches!(
            error,
            Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_)
        );
        return ours.then(|| StoreError::Unusable {
            reason: error.to_string(),
        });
    };
    let message = status.message();
    let says = |words: &str| message.contains(words);
    if says("required revision has been compacted") {
        Some(StoreError::Compacted)
    } else if says("required revision is a future revision") {
        Some(StoreError::FutureRevision {
            asked: StoreRevision(0),
        })
    } else if says("requested lease not found") {
        Some(StoreError::LeaseGone)
    } else if says("too many operations in txn request") || says("request is too large") {
        let reason = format!("etcd refuses a transaction that its configured limits allow: {message}");
        Some(StoreError::Unusable { reason })
    } else if says("database space exceeded") || says("permission denied") || says("user name is empty") {
        Some(StoreError::Unusable {
            reason: format!("etcd refuses: {message}"),
        })
    } else {
        None
    }
}

/// Which revision it was, which etcd's error does not say.
fn with_revision(error: StoreError, asked: Option<StoreRevision>) -> StoreError {
    match (error, asked) {
        (StoreError::FutureRevision { .. }, Some(asked)) => StoreError::FutureRevision { asked },
        (error, _) => error,
    }
}
