//! A controller node's machine on a reactor, and the node as its agent sees it.

use crate::node::{Control, ControllerNode, Report};
use block::Tuning;
use cluster::status::ControllerNodeStatus;
use cluster::{ControllerNodeId, Incarnation, Revision};
use control::agent::{MembershipAnswer, MembershipRequest, Node, NodeConfig, NodeStatus};
use engine::{Handle, ReactorConfig, StartReactor};
use fabric::target::TargetConfig;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What a controller node needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which.
    pub node: ControllerNodeId,
    /// This start of its process: also its NVMe host identifier.
    pub incarnation: Incarnation,
    /// Where hosts connect.
    pub listen: Vec<SocketAddr>,
    /// The most that payload buffers take, in bytes.
    pub memory_bytes: u64,
    /// Times and sizes of slices.
    pub tuning: Tuning,
}

/// A running controller node.
pub struct Serving {
    reactor: Handle<Control>,
    news: Arc<News>,
}

/// What the reactor said, for the agent's threads.
struct News {
    told: Mutex<Told>,
    changed: Condvar,
}

struct Told {
    status: ControllerNodeStatus,
    version: u64,
    requests: VecDeque<MembershipRequest>,
}

impl News {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("nobody panics while holding the news")
    }

    fn hear(&self, report: Report) {
        let mut told = self.told();
        match report {
            Report::Status(status) => {
                told.status = status;
                told.version += 1;
            }
            Report::Membership(request) => told.requests.push_back(request),
        }
        self.changed.notify_all();
    }
}

/// Starts a controller node; it serves nothing until its agent brings a configuration.
///
/// # Errors
/// If an address, memory or a thread cannot be had.
pub fn start(options: Options) -> Result<Serving, StartReactor> {
    let status = ControllerNodeStatus {
        node: options.node,
        incarnation: options.incarnation,
        revision: Revision(0),
        slices: Vec::new(),
    };
    let told = Told {
        status,
        version: 1,
        requests: VecDeque::new(),
    };
    let news = Arc::new(News {
        told: Mutex::new(told),
        changed: Condvar::new(),
    });
    let hearing = news.clone();
    let config = ReactorConfig {
        name: "controller-node".to_owned(),
        listeners: options.listen.clone(),
        memory_bytes: options.memory_bytes,
        ..ReactorConfig::default()
    };
    let build = move |_: &engine::Opened| {
        let (node, incarnation) = (options.node, options.incarnation);
        ControllerNode::new(
            node,
            node.host_nqn().0,
            incarnation,
            options.tuning,
            TargetConfig::default(),
        )
    };
    let reactor = engine::start(config, build, move |report| hearing.hear(report))?;
    Ok(Serving { reactor, news })
}

impl Serving {
    /// The addresses hosts connect to, as bound.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.reactor.opened().listeners
    }
}

impl Node for Serving {
    fn apply(&self, config: NodeConfig) {
        let NodeConfig::ControllerNode(config) = config else {
            panic!("the agent hands a node configurations of its own kind only");
        };
        // A reactor that has stopped is a process that is ending.
        let _ = self.reactor.control(Control::Apply(Box::new(config)));
    }

    fn status(&self) -> NodeStatus {
        NodeStatus::ControllerNode(self.news.told().status.clone())
    }

    fn wait_status(&self, after: u64, timeout: Duration) -> u64 {
        let told = self.news.told();
        let waited = self
            .news
            .changed
            .wait_timeout_while(told, timeout, |told| told.version == after);
        waited.expect("nobody panics while holding the news").0.version
    }

    fn next_membership_request(&self, timeout: Duration) -> Option<MembershipRequest> {
        let told = self.news.told();
        let waited = self
            .news
            .changed
            .wait_timeout_while(told, timeout, |told| told.requests.is_empty());
        waited
            .expect("nobody panics while holding the news")
            .0
            .requests
            .pop_front()
    }

    fn membership_answer(&self, answer: MembershipAnswer) {
        let _ = self.reactor.control(Control::Membership(answer));
    }
}
