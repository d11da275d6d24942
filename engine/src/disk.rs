//! Disks in words: what one is made of, what was opened, how its requests are made.
//!
//! Not here: opening them (`opening`), carrying out requests (`disks`).

use std::path::PathBuf;
use std::time::Duration;

pub use crate::disk_pace::DiskPace;
pub use crate::opening::open_alone;

/// Requests under way at one disk, where the configuration does not say.
pub const QUEUE_DEPTH_DEFAULT: u32 = 128;

/// What a disk is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskSource {
    /// A file, a block device, or the character device of an NVMe namespace (`/dev/ng0n1`).
    Path(PathBuf),
    /// Memory of this process: so many bytes, volatile.
    Memory {
        /// A multiple of 4096.
        size_bytes: u64,
    },
    /// For measuring what everything but a disk costs: answers at once and keeps nothing. What is read from it is
    /// whatever the buffer held.
    Null {
        /// A multiple of 4096.
        size_bytes: u64,
    },
}

/// A disk to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// What it is made of.
    pub source: DiskSource,
    /// Requests under way at a time; those beyond wait their turn.
    pub queue_depth: u32,
    /// Past the page cache where the file system lets us.
    pub direct: bool,
    /// Without it the reactor does not start. Otherwise requests to it answer [`DiskError::Gone`], and
    /// [`Opened`](crate::Opened) says why.
    pub required: bool,
    /// How long to try while somebody else has it, from the start of the reactor on. What a process that was killed had under
    /// way in io_uring keeps its disks locked for a moment after it is gone; nothing of it happens once they are free.
    pub patience: Duration,
}

impl DiskConfig {
    /// A file, a block device, or an NVMe namespace; required, past the page cache.
    pub fn path(path: impl Into<PathBuf>) -> DiskConfig {
        DiskConfig {
            source: DiskSource::Path(path.into()),
            queue_depth: QUEUE_DEPTH_DEFAULT,
            direct: true,
            required: true,
            patience: Duration::ZERO,
        }
    }

    /// A disk that keeps nothing.
    pub fn null(size_bytes: u64) -> DiskConfig {
        DiskConfig {
            source: DiskSource::Null { size_bytes },
            ..DiskConfig::path("")
        }
    }

    /// A disk made of memory.
    pub fn memory(size_bytes: u64) -> DiskConfig {
        DiskConfig {
            source: DiskSource::Memory { size_bytes },
            ..DiskConfig::path("")
        }
    }
}

/// What kind of disk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// A regular file.
    File,
    /// A block device.
    BlockDevice,
    /// An NVMe namespace, by its character device: commands go to it past the kernel's block layer.
    NvmeNamespace,
    /// Memory of this process.
    Memory,
    /// Nothing at all ([`DiskSource::Null`]).
    Null,
}

/// A disk that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedDisk {
    /// Its path as given, or `memory:SIZE`.
    pub path: String,
    /// Whole blocks of 4096 bytes.
    pub size_bytes: u64,
    /// What it is.
    pub kind: DiskKind,
    /// Past the page cache; otherwise through it (asked for, or the file system refuses).
    pub direct: bool,
    /// Its contents end with the process.
    pub volatile: bool,
}

/// How requests to disks are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskBackend {
    /// There is no disk but memory.
    None,
    /// By io_uring.
    IoUring,
    /// By threads, which is slower.
    Threads {
        /// Asked for, or why io_uring is refused.
        reason: String,
    },
}

/// The name of a disk for people: its path as given, or `memory:SIZE`.
pub fn name(source: &DiskSource) -> String {
    match source {
        DiskSource::Path(path) => path.display().to_string(),
        DiskSource::Memory { size_bytes } => format!("memory:{size_bytes}"),
        DiskSource::Null { size_bytes } => format!("null:{size_bytes}"),
    }
}

/// A disk's own part of [`ReactorStatus`](crate::ReactorStatus).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// How it answers.
    pub pace: DiskPace,
    /// Requests under way at it.
    pub under_way: u64,
    /// Requests that wait for their turn.
    pub waiting: u64,
    /// What a read or a write usually takes; zero if there has been none.
    pub typical_nanos: u64,
    /// The longest that a request took in the last ten to twenty seconds in which any ended.
    pub longest_nanos: u64,
    /// Syncs made: flushes that wait at the same time share one.
    pub syncs: u64,
}
