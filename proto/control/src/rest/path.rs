//! Paths: how a controller node of a pool shows it to hosts, as it says itself.

use crate::rest::Reference;
use cluster::SliceId;
use cluster::status::{SliceState, SliceStatus};
use cluster::view::ControllerNodeView;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use utoipa::ToSchema;

/// A way from a host to a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Path {
    /// Over which controller node.
    pub controller_node: Reference,
    /// Its NVMe/TCP address, for `nvme connect`; none if the node has no record any more.
    #[schema(value_type = Option<String>, example = "192.0.2.1:4420")]
    pub address: Option<SocketAddr>,
    /// What hosts are shown (the ANA state), or that nobody answers.
    pub state: PathState,
    /// What it waits for, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a path shows to hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// It serves (ANA optimized).
    Optimized,
    /// It stands by, opens or closes (ANA inaccessible).
    Inaccessible,
    /// It cannot serve, and says why.
    Failed,
    /// The controller node does not answer, or knows nothing of the pool yet.
    Away,
}

/// How far a slice is on a controller node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SlicePhase {
    /// Ready to take over.
    Standby,
    /// On the way to serving.
    Opening,
    /// Hosts see it optimized.
    Serving,
    /// Handing over.
    Closing,
    /// Cannot serve.
    Failed,
}

impl SlicePhase {
    /// The phase, and what a person should know of it.
    pub(crate) fn of(state: &SliceState) -> (SlicePhase, Option<String>) {
        match state {
            SliceState::Standby => (SlicePhase::Standby, None),
            SliceState::Opening { waits_for } => (SlicePhase::Opening, Some(waits_for.clone())),
            SliceState::Serving => (SlicePhase::Serving, None),
            SliceState::Closing => (SlicePhase::Closing, None),
            SliceState::Failed { reason } => (SlicePhase::Failed, Some(reason.clone())),
        }
    }
}

impl Path {
    /// The path over a node to a slice.
    pub(crate) fn over(node: &ControllerNodeView, slice: SliceId) -> Path {
        let (state, detail) = match slice_on(node, slice) {
            None => (PathState::Away, None),
            Some(status) => match SlicePhase::of(&status.state) {
                (SlicePhase::Serving, detail) => (PathState::Optimized, detail),
                (SlicePhase::Failed, detail) => (PathState::Failed, detail),
                (_, detail) => (PathState::Inaccessible, detail),
            },
        };
        let controller_node = Reference {
            id: node.spec.id.0,
            name: node.spec.name.clone(),
        };
        Path {
            controller_node,
            address: Some(node.spec.fabric_address),
            state,
            detail,
        }
    }
}

/// What a node that answers says of a slice.
pub(crate) fn slice_on(node: &ControllerNodeView, slice: SliceId) -> Option<&SliceStatus> {
    node.status()
        .filter(|_| node.is_up())?
        .slices
        .iter()
        .find(|status| status.slice == slice)
}
