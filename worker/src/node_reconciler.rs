//! One node: hand it its configuration when it is behind, and note what it says and whether it answers.
//!
//! The node's agent is asked with long polls, so news arrives when it happens. What is remembered between two rounds is
//! what the agent said last; forgetting it costs one more call.

use crate::agents::{CallAgent, Callee};
use crate::events::{self, Told};
use crate::node_kind::{News, NodeKind, SliceNews, about};
use crate::{Shared, told};
use cluster::event::{Severity, SubjectKind};
use cluster::layout::{Membership, PoolLayout};
use cluster::spec::{NodeSpec, PoolSpec};
use cluster::status::{NodeHealth, Observed};
use cluster::{DiskNodeId, Incarnation, LegId, Revision, SliceId, key};
use control::agent::StatusAnswer;
use std::sync::Arc;
use std::time::Duration;
use store::{TransactionError, Txn};
use tokio::sync::Notify;

/// Look after one node for ever.
pub(crate) async fn run<K: NodeKind>(shared: Arc<Shared>, id: K::Id, wake: Arc<Notify>) {
    let mut conversation: Conversation<K> = Conversation {
        shared,
        id,
        wake,
        heard: None,
        delivered: None,
        failures: 0,
    };
    loop {
        let pause = match conversation.round().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(node = %K::uuid(id), error = told(&error), "the node was not looked after");
                conversation.shared.options.failure_pause
            }
        };
        _ = tokio::time::timeout(pause, conversation.wake.notified()).await;
    }
}

/// How many calls in a row may fail before a node counts as not answering: one, when a connection or an agent was just
/// replaced, says nothing.
const FAILURES_MAX: u32 = 2;

struct Conversation<K: NodeKind> {
    shared: Arc<Shared>,
    id: K::Id,
    wake: Arc<Notify>,
    /// Version, process and revision of the status heard last.
    heard: Option<(u64, Incarnation, Revision)>,
    /// What was handed over to which process since it last had news: agents take a configuration before they say so.
    delivered: Option<(Incarnation, Revision)>,
    failures: u32,
}

impl<K: NodeKind> Conversation<K> {
    /// One call to the agent, and what comes of it; answers how long to pause.
    async fn round(&mut self) -> Result<Duration, TransactionError> {
        let options = &self.shared.options;
        let spec = store::read_record::<NodeSpec<K::Id>>(&self.shared.store, K::spec_key(self.id)).await?;
        let Some(spec) = spec.map(|versioned| versioned.record) else {
            return Ok(options.round_every);
        };
        let config = store::read_record::<K::Config>(&self.shared.store, K::config_key(self.id)).await?;
        let config = config.map(|versioned| versioned.record);
        let behind = config.filter(|config| self.is_behind(K::revision(config)));
        let waited = behind.is_none();
        let answer = match behind {
            Some(config) => self.deliver(&spec, config).await,
            None => match self.listen(&spec).await {
                Some(answer) => answer,
                None => return Ok(Duration::ZERO),
            },
        };
        match answer {
            Ok(answer) => self.answered(answer, waited).await,
            Err(error) => self.failed(&spec, error).await,
        }
    }

    /// The node runs an older configuration, and was not handed this one already.
    fn is_behind(&self, wanted: Revision) -> bool {
        self.heard.is_some_and(|(_, incarnation, revision)| {
            revision < wanted && self.delivered != Some((incarnation, wanted))
        })
    }

    async fn deliver(
        &mut self,
        spec: &NodeSpec<K::Id>,
        config: K::Config,
    ) -> Result<StatusAnswer, CallAgent> {
        let revision = K::revision(&config);
        let answer = self
            .shared
            .agents
            .put_config(Callee::of(spec), K::message(config))
            .await;
        let refused = matches!(answer, Err(CallAgent::Conflict { .. }));
        if answer.is_ok() || refused {
            self.delivered = self.heard.map(|(_, incarnation, _)| (incarnation, revision));
        }
        answer
    }

    /// Wait for news; `None`: the node has a new configuration or address, look again.
    async fn listen(&mut self, spec: &NodeSpec<K::Id>) -> Option<Result<StatusAnswer, CallAgent>> {
        let (after, wait) = match self.heard {
            Some((version, _, _)) => (version, self.shared.options.agent_wait),
            None => (0, Duration::ZERO),
        };
        tokio::select! {
            biased; // What is there is taken first.
            answer = self.shared.agents.status(Callee::of(spec), after, wait) => Some(answer),
            () = self.wake.notified() => None,
        }
    }

    /// `waited`: the agent was asked for news, and had its time to have some.
    async fn answered(&mut self, answer: StatusAnswer, waited: bool) -> Result<Duration, TransactionError> {
        let Some(status) = K::of_node(self.id, answer.status) else {
            tracing::warn!(node = %K::uuid(self.id), "another node answers at its address");
            return self.is_silent().await;
        };
        let heard = Some((answer.version, K::incarnation(&status), K::applied(&status)));
        if waited && heard == self.heard {
            self.delivered = None; // No news for a while: hand it over again if it is still behind.
        }
        (self.heard, self.failures) = (heard, 0);
        self.note(true, Some(status)).await?;
        Ok(self.shared.options.agent_pause)
    }

    async fn failed(
        &mut self,
        spec: &NodeSpec<K::Id>,
        error: CallAgent,
    ) -> Result<Duration, TransactionError> {
        if let CallAgent::Conflict { text } = &error {
            tracing::error!(
                node = spec.name,
                text,
                "the node refuses its configuration: was the store set back?"
            );
            return Ok(self.shared.options.failure_pause);
        }
        tracing::debug!(node = spec.name, %error, "a call failed");
        self.is_silent().await
    }

    async fn is_silent(&mut self) -> Result<Duration, TransactionError> {
        self.heard = None;
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX {
            return Ok(self.shared.options.agent_pause);
        }
        self.note(false, None).await?;
        Ok(self.shared.options.failure_pause)
    }

    async fn note(&self, reachable: bool, status: Option<K::Status>) -> Result<(), TransactionError> {
        let id = self.id;
        let status = &status;
        let note = |txn: Txn| async move { note_status::<K>(&txn, id, reachable, status.clone()).await };
        store::transaction(&self.shared.store, note).await
    }
}

/// Write what is known of a node, if that changed, and tell people what it means.
async fn note_status<K: NodeKind>(
    txn: &Txn,
    id: K::Id,
    reachable: bool,
    status: Option<K::Status>,
) -> Result<(), TransactionError> {
    let Some(spec) = txn.peek::<NodeSpec<K::Id>>(K::spec_key(id)).await? else {
        return Ok(());
    };
    let before = txn.get::<Observed<K::Status>>(K::status_key(id)).await?;
    let same_health = before
        .as_ref()
        .filter(|before| before.health.reachable == reachable);
    let since_ms = same_health.map_or_else(|| txn.outside().now_ms(), |before| before.health.since_ms);
    let known = before.as_ref().and_then(|before| before.status.clone());
    let after = Observed {
        health: NodeHealth { reachable, since_ms },
        status: status.or(known),
    };
    if before.as_ref() == Some(&after) {
        return Ok(());
    }
    let mut told = health_news::<K>(&spec, before.as_ref(), &after);
    let statuses = (
        before.as_ref().and_then(|before| before.status.as_ref()),
        after.status.as_ref(),
    );
    if let (Some(before), Some(after)) = statuses {
        for news in K::news(before, after) {
            told.push(in_words::<K>(txn, &spec, news).await?);
        }
    }
    txn.put(K::status_key(id), &after)?;
    events::append(txn, told)
}

fn health_news<K: NodeKind>(
    spec: &NodeSpec<K::Id>,
    before: Option<&Observed<K::Status>>,
    after: &Observed<K::Status>,
) -> Vec<Told> {
    let name = format!("{} {}", K::WORD, spec.name);
    let was = before.map(|before| before.health.reachable);
    let ever = before.is_some_and(|before| before.status.is_some());
    let incarnation = |observed: &Observed<K::Status>| observed.status.as_ref().map(K::incarnation);
    let restarted = ever && before.map(incarnation) != Some(incarnation(after));
    let (severity, text) = match (was, after.health.reachable) {
        (Some(false), true) if ever => (Severity::Info, format!("{name} is back")),
        (None | Some(false), true) => (Severity::Info, format!("{name} has joined")),
        (None | Some(true), false) => (Severity::Warning, format!("{name} does not answer")),
        (Some(true), true) if restarted => (Severity::Info, format!("{name} was started again")),
        _ => return Vec::new(),
    };
    vec![about::<K>(severity, spec.id, text)]
}

async fn in_words<K: NodeKind>(
    txn: &Txn,
    spec: &NodeSpec<K::Id>,
    news: News,
) -> Result<Told, TransactionError> {
    match news {
        News::Node(severity, text) => Ok(about::<K>(
            severity,
            spec.id,
            format!("{} {}: {text}", K::WORD, spec.name),
        )),
        News::Slice(slice, news) => slice_in_words(txn, &spec.name, slice, news).await,
    }
}

async fn slice_in_words(
    txn: &Txn,
    node: &str,
    slice: SliceId,
    news: SliceNews,
) -> Result<Told, TransactionError> {
    let membership: Option<Membership> = txn.peek(key::membership(slice)).await?;
    let (mut id, mut name, mut layout) = (slice.0, slice.to_string(), None);
    if let Some(pool) = membership.map(|membership| membership.pool) {
        let spec: Option<PoolSpec> = txn.peek(key::pool(pool)).await?;
        (id, name) = (pool.0, spec.map_or(name, |spec| spec.name));
        layout = txn.peek::<PoolLayout>(key::layout(pool)).await?;
    }
    let (severity, text) = match news {
        SliceNews::Serving(epoch) => (
            Severity::Info,
            format!("is served by {node} under epoch {}", epoch.0),
        ),
        SliceNews::Failed(reason) => (Severity::Error, format!("cannot be served by {node}: {reason}")),
        SliceNews::LegOut(leg) => {
            let place = leg_place(txn, layout.as_ref(), leg).await?;
            (
                Severity::Warning,
                format!("the leg on {place} is out; the others serve"),
            )
        }
        SliceNews::LegInSync(leg) => {
            let place = leg_place(txn, layout.as_ref(), leg).await?;
            (Severity::Info, format!("the leg on {place} is in sync again"))
        }
    };
    Ok(Told::new(
        severity,
        SubjectKind::Pool,
        id,
        format!("pool {name}: {text}"),
    ))
}

async fn leg_place(txn: &Txn, layout: Option<&PoolLayout>, leg: LegId) -> Result<String, TransactionError> {
    let Some(found) = layout.and_then(|layout| layout.legs().find(|found| found.leg == leg)) else {
        return Ok(format!("an unknown disk node ({leg})"));
    };
    let node: Option<NodeSpec<DiskNodeId>> = txn.peek(key::disk_node(found.disk_node)).await?;
    Ok(node.map_or_else(|| found.disk_node.to_string(), |node| node.name))
}
