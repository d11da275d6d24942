//! Why a reactor did not start, or a disk could not be opened.

use std::io;
use std::net::SocketAddr;

/// A reactor did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartReactor {
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why: in use by another process, not an address of this machine, not permitted.
        source: io::Error,
    },
    /// A required disk could not be opened.
    #[error(transparent)]
    Disk(#[from] OpenDisk),
    /// The buffers could not be had.
    #[error("cannot reserve {bytes} bytes for buffers: {source}")]
    ReserveMemory {
        /// How much was asked for.
        bytes: u64,
        /// Why.
        source: io::Error,
    },
    /// A thread, or what it sleeps in, could not be had.
    #[error("cannot start reactor {name}: {source}")]
    Spawn {
        /// The reactor's name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// A disk could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenDisk {
    /// Another process, or another reactor, has it.
    #[error("disk {path} is in use: another process owns it, or it is mounted")]
    InUse {
        /// As given.
        path: String,
    },
    /// Neither a file nor a block device nor an NVMe namespace.
    #[error("{path} is not a disk: give a file, a block device or an NVMe namespace's character device")]
    NotADisk {
        /// As given.
        path: String,
    },
    /// Not even one block.
    #[error("disk {path} is too small: it has {size_bytes} bytes")]
    TooSmall {
        /// As given.
        path: String,
        /// What it has.
        size_bytes: u64,
    },
    /// Its logical blocks are larger than ours.
    #[error("disk {path} has blocks of {block_bytes} bytes: at most 4096 are supported")]
    BlockTooLarge {
        /// As given.
        path: String,
        /// What it has.
        block_bytes: u64,
    },
    /// An NVMe namespace that is of no use as it is.
    #[error("NVMe namespace {path} cannot be used: {reason}")]
    Namespace {
        /// As given.
        path: String,
        /// Why, and what would help.
        reason: String,
    },
    /// The kernel says no.
    #[error("cannot open disk {path}: {source}")]
    Open {
        /// As given.
        path: String,
        /// Why.
        source: io::Error,
    },
}
