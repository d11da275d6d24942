//! Between a node's agent, workers and api-servers; and the seam between an agent and the node it runs in.
//!
//! | message | from → to | way |
//! |---|---|---|
//! | [`JoinRequest`] → [`JoinResponse`] | agent → api-server | `POST /internal/v1/join`, bearer: join token |
//! | [`Hello`] | agent → api-server | `POST /internal/v1/hello`, bearer: agent token; at every start |
//! | [`MembershipRequest`] → [`MembershipAnswer`] | agent → api-server | `POST /internal/v1/membership`, bearer: agent token |
//! | [`NodeConfig`] → [`StatusAnswer`] | worker → agent | `PUT /agent/v1/config`, bearer: agent token; 409 if the revision is lower |
//! | → [`StatusAnswer`] | worker → agent | `GET /agent/v1/status`, bearer: agent token; `?after=VERSION&wait_ms=M` waits for news |

use cluster::node_config::{ControllerNodeConfig, DiskNodeConfig};
use cluster::status::{ControllerNodeStatus, DiskNodeStatus, DiskStatus};
use cluster::{Epoch, GroupId, Incarnation, LegId, Revision, SliceId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use uuid::Uuid;

/// Which of the two kinds a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// Exports legs.
    DiskNode,
    /// Serves pools.
    ControllerNode,
}

/// A node asks to become part of the cluster. Asking again with the same id renews its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Which kind.
    pub kind: NodeKind,
    /// Chosen by the node at its first start, kept in its ledger: joining is idempotent.
    pub id: Uuid,
    /// Its name for people.
    pub name: String,
    /// Where its agent listens.
    pub agent_address: SocketAddr,
    /// Where it accepts NVMe/TCP connections.
    pub fabric_address: SocketAddr,
    /// Failure domain.
    pub location: String,
    /// This start of its process.
    pub incarnation: Incarnation,
}

/// It is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinResponse {
    /// What workers will show it, and what it shows api-servers.
    pub agent_token: String,
}

/// A node that has joined was started again, perhaps with other addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Which kind.
    pub kind: NodeKind,
    /// Which node.
    pub id: Uuid,
    /// This start of its process.
    pub incarnation: Incarnation,
    /// Where its agent listens now.
    pub agent_address: SocketAddr,
    /// Where it accepts NVMe/TCP connections now.
    pub fabric_address: SocketAddr,
}

/// What an owner must have recorded before it goes on (R3, R4, R9). Idempotent; refused if the epoch is not the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipRequest {
    /// Names the request in the node's own books.
    pub request: u64,
    /// Which slice.
    pub slice: SliceId,
    /// The owner's.
    pub epoch: Epoch,
    /// What to record.
    pub change: MembershipChange,
}

/// What to record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum MembershipChange {
    /// The group's in-sync set is now this one: smaller (R3) or larger after resync (R4). Never empty.
    InSync {
        /// Which group.
        group: GroupId,
        /// The legs that have every acknowledged write.
        in_sync: BTreeSet<LegId>,
    },
    /// The group's superblocks are on all its legs; the in-sync set is all of them (R9).
    GroupFormatted {
        /// Which group.
        group: GroupId,
    },
    /// The thin pool's first checkpoint is durable (R9).
    SliceFormatted,
}

/// How the request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipAnswer {
    /// Which request.
    pub request: u64,
    /// Which slice.
    pub slice: SliceId,
    /// How.
    pub outcome: MembershipOutcome,
}

/// How it ended. (A store that is away is no outcome: the agent asks again, and the write waits.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MembershipOutcome {
    /// It is recorded.
    Committed,
    /// There is a newer epoch: stop serving.
    StaleEpoch,
    /// The request contradicts the record (unknown slice, group or leg, empty set): a bug, reported as such.
    Refused,
}

/// A complete configuration, for either kind of node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum NodeConfig {
    /// For a disk node.
    DiskNode(DiskNodeConfig),
    /// For a controller node.
    ControllerNode(ControllerNodeConfig),
}

impl NodeConfig {
    /// Its revision.
    pub fn revision(&self) -> Revision {
        match self {
            NodeConfig::DiskNode(config) => config.revision,
            NodeConfig::ControllerNode(config) => config.revision,
        }
    }
}

/// What a node reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum NodeStatus {
    /// Of a disk node.
    DiskNode(DiskNodeStatus),
    /// Of a controller node.
    ControllerNode(ControllerNodeStatus),
}

impl NodeStatus {
    /// The configuration it took over last.
    pub fn revision(&self) -> Revision {
        match self {
            NodeStatus::DiskNode(status) => status.revision,
            NodeStatus::ControllerNode(status) => status.revision,
        }
    }
    /// The disks it has, if it is a disk node.
    pub fn disks(&self) -> &[DiskStatus] {
        match self {
            NodeStatus::DiskNode(status) => &status.disks,
            NodeStatus::ControllerNode(_) => &[],
        }
    }
}

/// What an agent answers a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// Changes when the status does; only comparable within one incarnation of the node.
    pub version: u64,
    /// What is.
    pub status: NodeStatus,
}

/// What the agent needs of the node it runs in. Implemented by `disk-node` and `controller-node`; the two sides know only
/// this trait, and the binary puts them together.
pub trait Node: Send + Sync + 'static {
    /// Begin to converge to a configuration. Does not wait; the agent has checked the revision and written the ledger.
    fn apply(&self, config: NodeConfig);
    /// What is, now.
    fn status(&self) -> NodeStatus;
    /// Waits (blocking, at most `timeout`) until the version of the status differs from `after`; the present version.
    /// It changes whenever `status` would answer something new.
    fn wait_status(&self, after: u64, timeout: std::time::Duration) -> u64;
    /// The next membership request of the node, if there is one within the time; called by one thread of the agent's.
    fn next_membership_request(&self, timeout: std::time::Duration) -> Option<MembershipRequest>;
    /// The answer to one of them.
    fn membership_answer(&self, answer: MembershipAnswer);
}
