//! The node over the engine, and its seam to the agent.

use crate::config::{DiskNodeOptions, DiskOption};
use crate::format::{DATA_OFFSET, Superblock};
use crate::node::{GivenDisk, Node, NodeControl, NodeOptions, NodeReport};
use cluster::DiskId;
use cluster::spec::EXTENT_BYTES_MIN;
use cluster::status::DiskNodeStatus;
use control::agent::{MembershipAnswer, MembershipRequest, NodeConfig, NodeStatus};
use engine::{
    DiskConfig, DiskSource, Handle, Opened, OpenedDisk, ReactorConfig, ReactorStatus, StartReactor,
};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

/// The last that the node has reported.
#[derive(Default)]
struct Board {
    report: Mutex<Posted>,
    news: Condvar,
}

#[derive(Default)]
struct Posted {
    report: Option<NodeReport>,
    version: u64,
    stopped: bool,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Posted> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, report: NodeReport) {
        let mut posted = self.lock();
        posted.report = Some(report);
        posted.version += 1;
        self.news.notify_all();
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
    handle: Handle<NodeControl>,
    board: Arc<Board>,
    empty: DiskNodeStatus,
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
    let config = ReactorConfig {
        name: "disk-node".to_owned(),
        listeners: options.listen.clone(),
        disks: options.disks.iter().map(disk_config).collect(),
        memory_bytes: options.buffer_bytes,
        disk_backend: options.backend,
        ..ReactorConfig::default()
    };
    let empty = DiskNodeStatus {
        node: options.node,
        incarnation: options.incarnation,
        revision: cluster::Revision(0),
        disks: Vec::new(),
        legs: Vec::new(),
    };
    let board = Arc::new(Board::default());
    let posting = Arc::clone(&board);
    let build = move |opened: &Opened| Node::new(node_options(&options, opened));
    let handle = engine::start(config, build, move |report| posting.post(report))?;
    board.wait(BOOT_PATIENCE, |posted| {
        posted.report.as_ref().is_some_and(|report| report.booted)
    });
    Ok(DiskNode { handle, board, empty })
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

fn node_options(options: &DiskNodeOptions, opened: &Opened) -> NodeOptions {
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
        &self.handle.opened().listeners
    }

    /// What its reactor counts.
    pub fn reactor_status(&self) -> ReactorStatus {
        self.handle.status()
    }

    /// Stops it: what is under way at the disks is waited for, connections are closed.
    pub fn stop(&self) {
        self.handle.stop();
        self.board.lock().stopped = true;
        self.board.news.notify_all();
    }

    /// What is.
    pub fn disk_node_status(&self) -> DiskNodeStatus {
        let posted = self.board.lock();
        posted
            .report
            .as_ref()
            .map_or_else(|| self.empty.clone(), |report| report.status.clone())
    }
}

impl control::agent::Node for DiskNode {
    fn apply(&self, config: NodeConfig) {
        match config {
            // A node that was stopped converges to nothing.
            NodeConfig::DiskNode(config) => drop(self.handle.control(NodeControl::Apply(config))),
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
