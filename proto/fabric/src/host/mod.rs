//! The host (initiator) side of NVMe over Fabrics, as machines.
//!
//! From the bottom up: [`Association`] is one host on one controller of one subsystem (an admin queue, I/O queues, each
//! a TCP connection), with its table of namespaces; [`Multipath`] holds many associations to one subsystem and keeps
//! requests until some path takes them (rule R7); [`HostNode`] wraps that as a [`crate::driver::Machine`] for the
//! demo's own host, for tests and benches. Controller nodes use `Association` directly, one for each disk node.
//!
//! Not here: sockets, clocks, policy about which leg or volume is wanted, copies of payloads (data lands in the
//! caller's buffers).
//!
//! Invariants:
//! * every request that was taken ends exactly once: completed, or failed with a path-related status when the
//!   association is lost, unless its owner abandoned it;
//! * nothing a target sends makes a machine panic: it ends the association with a reason people can read;
//! * a machine holds its own reference on every buffer of a request it has taken, until the request ends.

pub mod association;
pub mod command;
pub mod config;
pub mod connection_ids;
pub mod event;
pub mod lost;
pub mod multipath;
pub mod namespaces;
pub mod node;

mod discovery;
pub(crate) mod entries;
mod queue;
mod requests;
mod scan;
mod setup;
#[cfg(test)]
pub(crate) mod tests;

pub use association::Association;
pub use command::{Command, Refused, Reservation, Tag};
pub use config::AssociationConfig;
pub use connection_ids::{ConnectionIdRanges, ConnectionIds};
pub use event::{AssociationEvent, AssociationOutput};
pub use lost::Lost;
pub use multipath::{
    Multipath, MultipathConfig, MultipathEvent, MultipathOutput, PathState, PathStatus, VolumeId,
    VolumeStatus,
};
pub use namespaces::{Namespace, NamespaceTable};
pub use node::{HostControl, HostNode, HostOperation, HostReport};
pub use setup::ControllerFacts;
