//! A controller node's machines on their reactors, and the node as its agent sees it.

use crate::front::Front;
use crate::node::{Control, ControllerNode, Report};
use block::Tuning;
use cluster::status::ControllerNodeStatus;
use cluster::{ControllerNodeId, Incarnation, Revision};
use control::agent::{MembershipAnswer, MembershipRequest, Node, NodeConfig, NodeStatus};
use engine::{Handle, Polling, ReactorConfig, ReactorStatus, Seat, StartReactor};
use fabric::driver::ReactorIndex;
use fabric::target::TargetConfig;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

/// What a controller node needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which.
    pub node: ControllerNodeId,
    /// This start of its process: also where its NVMe host identifiers begin.
    pub incarnation: Incarnation,
    /// Where hosts connect.
    pub listen: Vec<SocketAddr>,
    /// The most that payload buffers take, in bytes; each reactor has an equal share.
    pub memory_bytes: u64,
    /// Times and sizes of slices.
    pub tuning: Tuning,
    /// How many reactors there are: each has pools of its own.
    pub reactors: NonZeroUsize,
    /// How they wait.
    pub polling: Polling,
}

/// The most reactors that are started where nobody says how many: pools are few, and each reactor connects to every leg of its
/// pools by itself.
const REACTORS_MAX: usize = 8;
/// What a reactor's share of memory is at least, where nobody says how many reactors there are to be.
const SHARE_BYTES_MIN: u64 = 16 << 20;

/// How many reactors to start on this machine with so much memory for payload buffers.
pub fn reactors_by_default(memory_bytes: u64) -> NonZeroUsize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let shares = usize::try_from(memory_bytes / SHARE_BYTES_MIN).unwrap_or(REACTORS_MAX);
    NonZeroUsize::new(cores.min(REACTORS_MAX).min(shares)).unwrap_or(NonZeroUsize::MIN)
}

/// A running controller node.
pub struct Serving {
    reactors: Arc<Vec<Handle<Control>>>,
    news: Arc<News>,
}

/// What the reactors said, for the agent's threads.
struct News {
    told: Mutex<Told>,
    changed: Condvar,
    /// Set once all run. Theirs to keep: reports that come later find the reactors gone.
    reactors: OnceLock<Weak<Vec<Handle<Control>>>>,
}

struct Told {
    front: Front,
    version: u64,
}

impl News {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("nobody panics while holding the news")
    }

    /// Tells the front something, and the reactors what it says then: in one go, so that orders keep their order.
    fn tell(&self, what: impl FnOnce(&mut Told)) {
        let mut told = self.told();
        what(&mut told);
        let reactors = self.reactors.get().and_then(Weak::upgrade);
        while let Some((reactor, order)) = told.front.poll_order() {
            if let Some(reactors) = &reactors {
                // A reactor that has stopped is a process that is ending.
                let _ = reactors[reactor].control(order);
            }
        }
        self.changed.notify_all();
        // First, for the reactors may be stopped here, and they have things to say until they are.
        drop(told);
    }

    fn hear(&self, reactor: usize, report: Report) {
        self.tell(|told| {
            told.version += u64::from(matches!(report, Report::Status(_)));
            told.front.reported(reactor, report);
        });
    }
}

/// Starts a controller node; it serves nothing until its agent brings a configuration.
///
/// # Errors
/// If an address, memory or a thread cannot be had.
pub fn start(options: Options) -> Result<Serving, StartReactor> {
    let nothing = ControllerNodeStatus {
        node: options.node,
        incarnation: options.incarnation,
        revision: Revision(0),
        slices: Vec::new(),
    };
    let told = Told {
        front: Front::new(options.reactors.get(), nothing),
        version: 1,
    };
    let news = Arc::new(News {
        told: Mutex::new(told),
        changed: Condvar::new(),
        reactors: OnceLock::new(),
    });
    let seats = (0..options.reactors.get()).map(|reactor| seat(&options, reactor, &news));
    let reactors = Arc::new(engine::start_group(seats.collect())?);
    let set = news.reactors.set(Arc::downgrade(&reactors));
    assert!(set.is_ok(), "reactors are started once");
    Ok(Serving { reactors, news })
}

/// A reactor to be. The first one listens: whom a connection is for is known when it has said so, and by then any may have it.
fn seat(options: &Options, reactor: usize, news: &Arc<News>) -> Seat<ControllerNode> {
    let share = options.memory_bytes / options.reactors.get() as u64;
    let config = ReactorConfig {
        name: match options.reactors.get() {
            1 => "controller-node".to_owned(),
            _ => format!("controller-node-{reactor}"),
        },
        listeners: match reactor {
            0 => options.listen.clone(),
            _ => Vec::new(),
        },
        memory_bytes: share,
        polling: options.polling,
        ..ReactorConfig::default()
    };
    let (node, incarnation, tuning) = (options.node, options.incarnation, options.tuning);
    let index = ReactorIndex(u32::try_from(reactor).expect("few reactors"));
    let build = move |_: &engine::Opened| {
        let nqn = node.host_nqn().0;
        let limits = TargetConfig::default().within_pool(share);
        ControllerNode::on_reactor(index, node, nqn, incarnation, tuning, limits)
    };
    let hearing = news.clone();
    Seat {
        config,
        build: Box::new(build),
        report: Box::new(move |report| hearing.hear(reactor, report)),
    }
}

impl Serving {
    /// Stops it: connections are closed, what is under way at legs is left to them.
    pub fn stop(&self) {
        self.reactors.iter().for_each(Handle::stop);
    }

    /// What each reactor counts just now.
    pub fn reactors(&self) -> Vec<ReactorStatus> {
        self.reactors.iter().map(Handle::status).collect()
    }

    /// The addresses hosts connect to, as bound.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.reactors[0].opened().listeners
    }
}

impl Node for Serving {
    fn apply(&self, config: NodeConfig) {
        let NodeConfig::ControllerNode(config) = config else {
            panic!("the agent hands a node configurations of its own kind only");
        };
        self.news.tell(|told| told.front.apply(&config));
    }

    fn status(&self) -> NodeStatus {
        NodeStatus::ControllerNode(self.news.told().front.status())
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
            .wait_timeout_while(told, timeout, |told| !told.front.has_request());
        waited
            .expect("nobody panics while holding the news")
            .0
            .front
            .poll_request()
    }

    fn membership_answer(&self, answer: MembershipAnswer) {
        self.news.tell(|told| told.front.membership_answer(answer));
    }
}
