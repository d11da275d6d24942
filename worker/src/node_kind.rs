//! The two kinds of nodes, for code that treats them alike.

use crate::events::Told;
use cluster::event::{Severity, SubjectKind};
use cluster::node_config::{ControllerNodeConfig, DiskNodeConfig};
use cluster::status::{
    ControllerNodeStatus, DiskNodeStatus, DiskStatus, LegState, LegStatus, SliceState, SliceStatus,
};
use cluster::{ControllerNodeId, DiskNodeId, Epoch, Incarnation, LegId, Revision, SliceId, key};
use control::agent::{NodeConfig, NodeStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// A kind of nodes.
pub(crate) trait NodeKind: Send + Sync + 'static {
    type Id: Copy + Send + Sync + DeserializeOwned + Serialize + 'static;
    type Config: Clone + Send + Sync + DeserializeOwned + 'static;
    type Status: Clone + PartialEq + Send + Sync + Serialize + DeserializeOwned + 'static;
    /// As people call it.
    const WORD: &'static str;
    const SUBJECT: SubjectKind;

    fn uuid(id: Self::Id) -> Uuid;
    fn spec_key(id: Self::Id) -> String;
    fn config_key(id: Self::Id) -> String;
    fn status_key(id: Self::Id) -> String;
    fn revision(config: &Self::Config) -> Revision;
    fn message(config: Self::Config) -> NodeConfig;
    /// The status, if it is of this node.
    fn of_node(id: Self::Id, status: NodeStatus) -> Option<Self::Status>;
    fn incarnation(status: &Self::Status) -> Incarnation;
    fn applied(status: &Self::Status) -> Revision;
    /// What changed that people should hear of.
    fn news(before: &Self::Status, after: &Self::Status) -> Vec<News>;
}

/// Something a node's status tells people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Of the node itself, as a sentence about it.
    Node(Severity, String),
    /// Of a slice it owns.
    Slice(SliceId, SliceNews),
}

/// Something about a slice; its pool's name is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SliceNews {
    Serving(Epoch),
    Failed(String),
    LegOut(LegId),
    LegInSync(LegId),
}

pub(crate) enum DiskNodes {}

impl NodeKind for DiskNodes {
    type Id = DiskNodeId;
    type Config = DiskNodeConfig;
    type Status = DiskNodeStatus;
    const WORD: &'static str = "disk node";
    const SUBJECT: SubjectKind = SubjectKind::DiskNode;

    fn uuid(id: DiskNodeId) -> Uuid {
        id.0
    }
    fn spec_key(id: DiskNodeId) -> String {
        key::disk_node(id)
    }
    fn config_key(id: DiskNodeId) -> String {
        key::disk_node_config(id)
    }
    fn status_key(id: DiskNodeId) -> String {
        key::disk_node_status(id)
    }
    fn revision(config: &DiskNodeConfig) -> Revision {
        config.revision
    }
    fn message(config: DiskNodeConfig) -> NodeConfig {
        NodeConfig::DiskNode(config)
    }
    fn of_node(id: DiskNodeId, status: NodeStatus) -> Option<DiskNodeStatus> {
        if let NodeStatus::DiskNode(status) = status {
            Some(status).filter(|status| status.node == id)
        } else {
            None
        }
    }
    fn incarnation(status: &DiskNodeStatus) -> Incarnation {
        status.incarnation
    }
    fn applied(status: &DiskNodeStatus) -> Revision {
        status.revision
    }
    fn news(before: &DiskNodeStatus, after: &DiskNodeStatus) -> Vec<News> {
        let fault = |disks: &[DiskStatus], of: &DiskStatus| {
            disks
                .iter()
                .find(|disk| disk.disk == of.disk)
                .and_then(|disk| disk.fault.clone())
        };
        let faults = after
            .disks
            .iter()
            .filter(|disk| disk.fault != fault(&before.disks, disk));
        let faults = faults.map(|disk| match &disk.fault {
            Some(fault) => News::Node(
                Severity::Error,
                format!("disk {} cannot be used: {fault}", disk.path),
            ),
            None => News::Node(Severity::Info, format!("disk {} can be used again", disk.path)),
        });
        let failed = |legs: &[LegStatus], leg: &LegStatus| {
            legs.iter()
                .any(|known| known.leg == leg.leg && matches!(known.state, LegState::Failed { .. }))
        };
        let legs = after.legs.iter().filter(|leg| !failed(&before.legs, leg));
        let legs = legs.filter_map(|leg| match &leg.state {
            LegState::Failed { reason } => Some(News::Node(
                Severity::Error,
                format!("leg {} failed: {reason}", leg.leg),
            )),
            _ => None,
        });
        faults.chain(legs).collect()
    }
}

pub(crate) enum ControllerNodes {}

impl NodeKind for ControllerNodes {
    type Id = ControllerNodeId;
    type Config = ControllerNodeConfig;
    type Status = ControllerNodeStatus;
    const WORD: &'static str = "controller node";
    const SUBJECT: SubjectKind = SubjectKind::ControllerNode;

    fn uuid(id: ControllerNodeId) -> Uuid {
        id.0
    }
    fn spec_key(id: ControllerNodeId) -> String {
        key::controller_node(id)
    }
    fn config_key(id: ControllerNodeId) -> String {
        key::controller_node_config(id)
    }
    fn status_key(id: ControllerNodeId) -> String {
        key::controller_node_status(id)
    }
    fn revision(config: &ControllerNodeConfig) -> Revision {
        config.revision
    }
    fn message(config: ControllerNodeConfig) -> NodeConfig {
        NodeConfig::ControllerNode(config)
    }
    fn of_node(id: ControllerNodeId, status: NodeStatus) -> Option<ControllerNodeStatus> {
        let NodeStatus::ControllerNode(status) = status else {
            return None;
        };
        Some(status).filter(|status| status.node == id)
    }
    fn incarnation(status: &ControllerNodeStatus) -> Incarnation {
        status.incarnation
    }
    fn applied(status: &ControllerNodeStatus) -> Revision {
        status.revision
    }
    fn news(before: &ControllerNodeStatus, after: &ControllerNodeStatus) -> Vec<News> {
        let news = after.slices.iter().flat_map(|slice| {
            let known = before.slices.iter().find(|known| known.slice == slice.slice);
            slice_news(known, slice)
                .into_iter()
                .map(|news| News::Slice(slice.slice, news))
        });
        news.collect()
    }
}

fn slice_news(before: Option<&SliceStatus>, after: &SliceStatus) -> Vec<SliceNews> {
    let was = |state: &SliceState| {
        before.is_some_and(|before| before.state == *state && before.epoch == after.epoch)
    };
    match &after.state {
        SliceState::Serving if !was(&SliceState::Serving) => vec![SliceNews::Serving(after.epoch)],
        SliceState::Serving => legs_news(before.expect("it was serving"), after),
        failed @ SliceState::Failed { reason } if !was(failed) => vec![SliceNews::Failed(reason.clone())],
        _ => Vec::new(),
    }
}

fn legs_news(before: &SliceStatus, after: &SliceStatus) -> Vec<SliceNews> {
    let known: Vec<_> = before.groups.iter().flat_map(|group| &group.legs).collect();
    let legs = after.groups.iter().flat_map(|group| &group.legs);
    let changed = legs.filter_map(|leg| {
        let was = known.iter().find(|known| known.leg == leg.leg)?.in_sync;
        match (was, leg.in_sync) {
            (true, false) => Some(SliceNews::LegOut(leg.leg)),
            (false, true) => Some(SliceNews::LegInSync(leg.leg)),
            _ => None,
        }
    });
    changed.collect()
}

/// Of a node of this kind.
pub(crate) fn about<K: NodeKind>(severity: Severity, id: K::Id, text: String) -> Told {
    Told::new(severity, K::SUBJECT, K::uuid(id), text)
}
