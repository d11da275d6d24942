//! A disk node: owns physical disks, carves legs from them, and exports each disk as one subsystem whose namespaces
//! are its legs.
//!
//! | module | holds |
//! |---|---|
//! | [`format`] | what it writes to a disk for itself, as bytes |
//! | [`node`] | the node as a machine: boot, converge, serve; pure |
//! | [`config`] | what it is started with |
//! | `front` | the reactors of a node, seen together |
//! | [`formatting`] | making a disk one of ours, once |
//! | [`serve`] | the node over the engine, and its seam to the agent |
//!
//! What this crate deliberately is not: it knows no volume and no group; it does not choose which legs exist or where
//! (its configuration says so), and it never formats a disk by itself.
#![forbid(unsafe_code)]

pub mod config;
pub mod format;
pub mod formatting;
pub mod node;
pub mod serve;

mod front;

pub use config::{DiskNodeOptions, DiskOption, ParseDiskOption, WantedBackend};
pub use formatting::{FormatDisk, FormatOptions, format_disk};
pub use serve::{DiskNode, StartDiskNode, start};
