//! The node over the engine, and its seam to the agent.

use crate::config::{DiskNodeOptions, DiskOption};
use crate::format::{DATA_OFFSET, Superblock};
use crate::front::{self, Front};
use crate::node::{GivenDisk, Node, NodeControl, NodeOptions, NodeReport};
use cluster::DiskId;
use cluster::spec::EXTENT_BYTES_MIN;
use cluster::status::DiskNodeStatus;
use control::agent::{MembershipAnswer, MembershipRequest, NodeConfig, NodeStatus};
use engine::{
    DiskConfig, DiskSource, Handle, Opened, OpenedDisk, ReactorConfig, ReactorStatus, Seat, StartReactor,
    Stopped,
};
use fabric::driver::ReactorIndex;
use fabric::target::Portal;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a start tries to get disks that somebody else has: a node that was killed lets go of them only when what it had
/// under way there has ended.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
/// How long a start waits for disks to be read; the node goes on without those that take longer.
const BOOT_PATIENCE: Duration = Duration::from_secs(10);

/// A disk node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartDiskNode {
    /// The reactor did not.
    #[error(transparent)]
    Reactor(#[from] StartReactor),
    /// The extents of memory disks cannot have that size.
    #[error("{bytes} bytes are no extent size: choose whole MiB from 4 MiB to 100 GiB")]
    ExtentSize {
        /// What was asked for.
        bytes: u64,
    },
}

/// The node's reactors together, and who waits for what they say.
struct Board {
    posted: Mutex<Posted>,
    news: Condvar,
}

struct Posted {
    front: Front,
    status: DiskNodeStatus,
    booted: bool,
    version: u64,
    stopped: bool,
}

impl Board {
    fn new(front: Front, nothing: DiskNodeStatus) -> Board {
        let posted = Posted {
            front,
            status: nothing,
            booted: false,
            version: 0,
            stopped: false,
        };
        Board {
            posted: Mutex::new(posted),
            news: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, reactor: usize, report: NodeReport) {
        let mut posted = self.lock();
        posted.front.reported(reactor, report);
        let Some((status, booted)) = posted.front.status() else {
            return;
        };
        if posted.version == 0 || posted.status != status || posted.booted != booted {
            (posted.status, posted.booted) = (status, booted);
            posted.version += 1;
            self.news.notify_all();
        }
    }

    /// Waits until it holds, at most so long.
    fn wait(&self, most: Duration, holds: impl Fn(&Posted) -> bool) {
        let until = Instant::now() + most;
        let mut posted = self.lock();
        while !holds(&posted) {
            let Some(left) = until
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            else {
                return;
            };
            posted = self
                .news
                .wait_timeout(posted, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// A running disk node. Clones name the same one.
#[derive(Clone)]
pub struct DiskNode {
    board: Arc<Board>,
    reactors: Arc<Reactors>,
}

struct Reactors {
    handles: Vec<Handle<NodeControl>>,
}

impl Reactors {
    /// Tells each what the front has for it, in order.
    fn carry_orders(&self, board: &Board) {
        let mut posted = board.lock();
        while let Some((reactor, control)) = posted.front.poll_order() {
            // A node that was stopped converges to nothing.
            let _: Result<(), Stopped> = self.handles[reactor].control(control);
        }
    }
}

/// Starts a disk node: opens its disks, reads them, accepts connections. A disk that cannot be opened or read is reported
/// faulty, with what to do, and the others go on. Hosts are served once a configuration was applied.
///
/// # Errors
/// If an address, memory or threads cannot be had.
pub fn start(options: DiskNodeOptions) -> Result<DiskNode, StartDiskNode> {
    if !crate::format::extent_bytes_allowed(options.memory_extent_bytes) {
        return Err(StartDiskNode::ExtentSize {
            bytes: options.memory_extent_bytes,
        });
    }
    let nothing = DiskNodeStatus {
        node: options.node,
        incarnation: options.incarnation,
        revision: cluster::Revision(0),
        disks: Vec::new(),
        legs: Vec::new(),
    };
    let dealt = front::deal(options.disks.len(), options.reactors);
    let board = Arc::new(Board::new(Front::new(dealt.clone()), nothing));
    let known = Arc::new(OnceLock::new());
    let seats = dealt
        .iter()
        .enumerate()
        .map(|(reactor, disks)| seat(&options, reactor, disks, (&board, &known)));
    let handles = engine::start_group(seats.collect())?;
    let listeners = handles[0].opened().listeners.clone();
    let reactors = Arc::new(Reactors { handles });
    known
        .set(Arc::downgrade(&reactors))
        .expect("the reactors are known once");
    board.lock().front.listening(portals(&listeners));
    reactors.carry_orders(&board);
    board.wait(BOOT_PATIENCE, |posted| posted.booted);
    Ok(DiskNode { board, reactors })
}

/// Where to look for the reactors, from their own threads: they must not keep themselves alive.
type Known = Arc<OnceLock<Weak<Reactors>>>;

/// The first reactor listens, for all: a connection goes to the reactor that has what it is for.
fn seat(
    options: &DiskNodeOptions,
    reactor: usize,
    disks: &[usize],
    (board, known): (&Arc<Board>, &Known),
) -> Seat<Node> {
    let all = options.disks.len();
    let own: Vec<DiskOption> = disks.iter().map(|disk| options.disks[*disk].clone()).collect();
    let share = front::share_bytes(options.buffer_bytes, own.len(), all);
    let config = ReactorConfig {
        name: match reactor {
            0 => "disk-node".to_owned(),
            other => format!("disk-node-{other}"),
        },
        listeners: match reactor {
            0 => options.listen.clone(),
            _ => Vec::new(),
        },
        disks: own.iter().map(disk_config).collect(),
        memory_bytes: share,
        disk_backend: options.backend,
        polling: options.polling,
        ..ReactorConfig::default()
    };
    let part = DiskNodeOptions {
        disks: own,
        target: options.target.clone().within_pool(share),
        ..options.clone()
    };
    let index = ReactorIndex(reactor as u32);
    let (board, known) = (Arc::clone(board), Arc::clone(known));
    Seat {
        config,
        build: Box::new(move |opened| Node::new(node_options(&part, index, opened))),
        report: Box::new(move |report| {
            board.post(reactor, report);
            if let Some(reactors) = known.get().and_then(Weak::upgrade) {
                reactors.carry_orders(&board);
            }
        }),
    }
}

/// For the discovery log page: the addresses that say where.
fn portals(listeners: &[SocketAddr]) -> BTreeSet<Portal> {
    let said = (1..).zip(listeners).filter(|(_, at)| !at.ip().is_unspecified());
    said.map(|(port, address)| Portal {
        port,
        address: *address,
    })
    .collect()
}

fn disk_config(disk: &DiskOption) -> DiskConfig {
    let config = match disk {
        DiskOption::Path(path) => DiskConfig::path(path),
        DiskOption::Memory { size_bytes } => DiskConfig::memory(*size_bytes),
        DiskOption::Null { size_bytes } => DiskConfig::null(*size_bytes),
    };
    DiskConfig {
        required: false,
        patience: BUSY_PATIENCE,
        ..config
    }
}

fn node_options(options: &DiskNodeOptions, reactor: ReactorIndex, opened: &Opened) -> NodeOptions {
    let disks = options
        .disks
        .iter()
        .zip(&opened.disks)
        .map(|(wanted, opened)| match opened {
            Ok(opened) => given(options, wanted, opened),
            Err(error) => GivenDisk {
                path: engine::disk::name(&disk_config(wanted).source),
                volatile: !matches!(disk_config(wanted).source, DiskSource::Path(_)),
                size_bytes: 0,
                born: None,
                fault: Some(error.to_string()),
            },
        });
    NodeOptions {
        node: options.node,
        incarnation: options.incarnation,
        reactor: Some(reactor),
        disks: disks.collect(),
        target: options.target.clone(),
    }
}

fn given(options: &DiskNodeOptions, wanted: &DiskOption, opened: &OpenedDisk) -> GivenDisk {
    let born = match wanted {
        DiskOption::Path(_) => None,
        DiskOption::Memory { .. } | DiskOption::Null { .. } => Some(newborn(options, opened.size_bytes)),
    };
    GivenDisk {
        path: opened.path.clone(),
        volatile: opened.volatile,
        size_bytes: opened.size_bytes,
        born,
        fault: None,
    }
}

/// Memory starts as a new disk every time: who had legs on the old one must not take it for the same.
fn newborn(options: &DiskNodeOptions, size_bytes: u64) -> Superblock {
    let room = size_bytes - DATA_OFFSET;
    let extent_bytes = if room < options.memory_extent_bytes {
        EXTENT_BYTES_MIN
    } else {
        options.memory_extent_bytes
    };
    let disk = DiskId(Uuid::new_v4());
    Superblock::fresh(disk, Some(options.node), size_bytes, extent_bytes)
        .expect("the option was parsed: an extent fits")
}

impl DiskNode {
    /// Where it accepts NVMe/TCP connections: the bound addresses, in the order of its options.
    pub fn fabric_addresses(&self) -> &[SocketAddr] {
        &self.reactors.handles[0].opened().listeners
    }

    /// What its reactors count.
    pub fn reactor_status(&self) -> Vec<ReactorStatus> {
        self.reactors.handles.iter().map(Handle::status).collect()
    }

    /// Stops it: what is under way at the disks is waited for, connections are closed.
    pub fn stop(&self) {
        self.reactors.handles.iter().for_each(Handle::stop);
        self.board.lock().stopped = true;
        self.board.news.notify_all();
    }

    /// What is.
    pub fn disk_node_status(&self) -> DiskNodeStatus {
        self.board.lock().status.clone()
    }
}

impl control::agent::Node for DiskNode {
    fn apply(&self, config: NodeConfig) {
        match config {
            NodeConfig::DiskNode(config) => {
                self.board.lock().front.apply(config);
                self.reactors.carry_orders(&self.board);
            }
            NodeConfig::ControllerNode(_) => {
                tracing::error!("a configuration for a controller node came to a disk node")
            }
        }
    }

    fn status(&self) -> NodeStatus {
        NodeStatus::DiskNode(self.disk_node_status())
    }

    fn wait_status(&self, after: u64, timeout: Duration) -> u64 {
        self.board
            .wait(timeout, |posted| posted.version != after || posted.stopped);
        self.board.lock().version
    }

    /// A disk node owns no slice: it never asks.
    fn next_membership_request(&self, timeout: Duration) -> Option<MembershipRequest> {
        self.board.wait(timeout, |posted| posted.stopped);
        None
    }

    fn membership_answer(&self, answer: MembershipAnswer) {
        tracing::error!(?answer, "an answer to a request that a disk node does not make");
    }
}
