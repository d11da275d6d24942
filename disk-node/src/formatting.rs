//! Making a disk one of ours: once, and never over somebody's data without being told to.

use crate::format::{self, HEAD_BYTES, Occupied, Superblock, TAIL_BYTES};
use cluster::spec::EXTENT_BYTES_DEFAULT;
use cluster::{DiskId, DiskNodeId};
use engine::OpenDisk;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use uuid::Uuid;

/// How to format a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatOptions {
    /// Unit of space.
    pub extent_bytes: u64,
    /// Whose it shall be; none: of the node that starts with it first.
    pub node: Option<DiskNodeId>,
    /// Over whatever lies there.
    pub force: bool,
}

impl Default for FormatOptions {
    fn default() -> FormatOptions {
        FormatOptions {
            extent_bytes: EXTENT_BYTES_DEFAULT,
            node: None,
            force: false,
        }
    }
}

/// A disk was not formatted.
#[derive(Debug, thiserror::Error)]
pub enum FormatDisk {
    /// It cannot be had.
    #[error(transparent)]
    Open(#[from] OpenDisk),
    /// It is not empty.
    #[error("{path} is not formatted: {found}. If nobody needs what is on it, use --force; it is lost then")]
    Occupied {
        /// As given.
        path: String,
        /// What lies there.
        found: Occupied,
    },
    /// Extents are not that large.
    #[error("{bytes} bytes are no extent size: choose whole MiB from 4 MiB to 100 GiB")]
    ExtentSize {
        /// What was asked for.
        bytes: u64,
    },
    /// Not one extent fits.
    #[error(
        "{path} has {size_bytes} bytes: too few for one extent of {extent_bytes} bytes and 4 MiB of its own"
    )]
    TooSmall {
        /// As given.
        path: String,
        /// What it has.
        size_bytes: u64,
        /// What was asked for.
        extent_bytes: u64,
    },
    /// It cannot be read or written.
    #[error("cannot format {path}: {source}")]
    Io {
        /// As given.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Formats a file or a block device; answers the identity it was given.
pub fn format_disk(path: &Path, options: FormatOptions) -> Result<DiskId, FormatDisk> {
    if !format::extent_bytes_allowed(options.extent_bytes) {
        return Err(FormatDisk::ExtentSize {
            bytes: options.extent_bytes,
        });
    }
    let name = path.display().to_string();
    let (file, size_bytes) = engine::disk::open_alone(path)?;
    let failed = |source| FormatDisk::Io {
        path: name.clone(),
        source,
    };
    if !options.force
        && let Some(found) = look(&file, size_bytes).map_err(failed)?
    {
        return Err(FormatDisk::Occupied { path: name, found });
    }
    let disk = DiskId(Uuid::new_v4());
    let superblock = Superblock::fresh(disk, options.node, size_bytes, options.extent_bytes).ok_or(
        FormatDisk::TooSmall {
            path: name.clone(),
            size_bytes,
            extent_bytes: options.extent_bytes,
        },
    )?;
    write(&file, &superblock).map_err(failed)?;
    Ok(disk)
}

fn look(file: &File, size_bytes: u64) -> io::Result<Option<Occupied>> {
    let mut head = vec![0; HEAD_BYTES.min(size_bytes as usize)];
    let mut tail = vec![0; TAIL_BYTES.min(size_bytes as usize)];
    file.read_exact_at(&mut head, 0)?;
    let tail_at = size_bytes - tail.len() as u64;
    file.read_exact_at(&mut tail, tail_at)?;
    Ok(format::look(&head, &tail))
}

fn write(file: &File, superblock: &Superblock) -> io::Result<()> {
    for (offset, bytes) in format::formatting(superblock) {
        file.write_all_at(&bytes, offset)?;
        file.sync_data()?;
    }
    Ok(())
}
