//! The joint between a control plane and a data plane. Here [`Ground`](super::ground::Ground), a small honest model, stands on the far side;
//! production's node machines in [`crate::world`] could.

use cluster::Incarnation;
use control::agent::{MembershipAnswer, MembershipRequest, NodeConfig, NodeKind, NodeStatus};
use std::time::Duration;
use uuid::Uuid;

/// A data plane: nodes that are given configurations, say what is, and ask for memberships to be recorded. Time is since the beginning.
pub trait DataPlane: Send {
    /// A node's process starts, for the first time or again.
    fn start(&mut self, kind: NodeKind, node: Uuid, incarnation: Incarnation);
    /// It ends, at once.
    fn stop(&mut self, node: Uuid);
    /// Its agent hands over a configuration.
    fn apply(&mut self, node: Uuid, config: NodeConfig);
    /// What it says is.
    fn status(&self, node: Uuid) -> NodeStatus;
    /// Changes with the status, within one start.
    fn status_version(&self, node: Uuid) -> u64;
    /// What it wants to have recorded next, each once.
    fn next_membership_request(&mut self, node: Uuid) -> Option<MembershipRequest>;
    /// How that ended.
    fn membership_answer(&mut self, node: Uuid, answer: MembershipAnswer);
    /// Time goes on.
    fn advance_to(&mut self, now: Duration);
    /// A rule that was seen broken, if one was.
    fn violation(&mut self) -> Option<String>;
}
