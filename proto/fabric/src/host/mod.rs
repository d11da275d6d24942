//! The host (initiator) side of NVMe over Fabrics, as machines.
//!
//! From the bottom up: `Association` is one host on one controller of one subsystem (an admin queue, I/O queues, each
//! a TCP connection), with its table of namespaces; `Multipath` holds many associations to one subsystem and keeps
//! requests until some path takes them (rule R7); `HostNode` wraps that as a [`crate::driver::Machine`] for the
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

pub mod command;
pub mod config;
pub mod connection_ids;

pub use command::{AcquireAction, Command, Refused, RegisterAction, Reservation, Tag};
pub use config::AssociationConfig;
pub use connection_ids::{ConnectionIdRanges, ConnectionIds};
