//! Opening disks, each for this process alone.
//!
//! A disk is a file (made by somebody else, its length is the disk's), a block device, an NVMe namespace, or memory.

use crate::disk::{DiskConfig, DiskKind, DiskSource, OpenedDisk, name};
use crate::error::OpenDisk;
use crate::memory_disk::MemoryDisk;
use crate::namespace;
use crate::task::{Abilities, Medium};
use block::BLOCK_SIZE;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks at a disk that somebody else has.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Where a disk's requests go.
pub(crate) enum Place {
    Memory(MemoryDisk),
    Null,
    Device(Device),
    Missing,
}

/// A disk with a descriptor.
pub(crate) struct Device {
    pub(crate) file: File,
    pub(crate) abilities: Abilities,
    /// The exclusive claim on the block device of an NVMe namespace.
    _claim: Option<File>,
}

/// Opens one; while somebody else has it, tries for as long as its configuration says, from `begun` on.
pub(crate) fn open_patiently(config: &DiskConfig, begun: Instant) -> Result<(Place, OpenedDisk), OpenDisk> {
    loop {
        match open_one(config) {
            Err(OpenDisk::InUse { .. }) if begun.elapsed() < config.patience => {
                std::thread::sleep(BUSY_PAUSE);
            }
            answer => return answer,
        }
    }
}

fn open_one(config: &DiskConfig) -> Result<(Place, OpenedDisk), OpenDisk> {
    let path = name(&config.source);
    match &config.source {
        DiskSource::Memory { size_bytes } => open_memory(path, *size_bytes),
        DiskSource::Null { size_bytes } => open_null(path, *size_bytes),
        DiskSource::Path(source) => open_path(source, path, config.direct),
    }
}

fn open_memory(path: String, size_bytes: u64) -> Result<(Place, OpenedDisk), OpenDisk> {
    let size_bytes = whole_blocks(&path, size_bytes)?;
    let memory = MemoryDisk::new(size_bytes).map_err(|source| OpenDisk::Open {
        path: path.clone(),
        source,
    })?;
    let opened = OpenedDisk {
        path,
        size_bytes,
        kind: DiskKind::Memory,
        direct: false,
        volatile: true,
    };
    Ok((Place::Memory(memory), opened))
}

fn open_null(path: String, size_bytes: u64) -> Result<(Place, OpenedDisk), OpenDisk> {
    let opened = OpenedDisk {
        size_bytes: whole_blocks(&path, size_bytes)?,
        path,
        kind: DiskKind::Null,
        direct: false,
        volatile: true,
    };
    Ok((Place::Null, opened))
}

fn whole_blocks(path: &str, size_bytes: u64) -> Result<u64, OpenDisk> {
    let whole = size_bytes - size_bytes % u64::from(BLOCK_SIZE);
    if whole == 0 {
        return Err(OpenDisk::TooSmall {
            path: path.to_owned(),
            size_bytes,
        });
    }
    Ok(whole)
}

/// What a path leads to.
enum Node {
    File,
    BlockDevice,
    Namespace { block_device: PathBuf },
}

fn node_at(source: &Path, path: &str) -> Result<Node, OpenDisk> {
    let metadata = std::fs::metadata(source).map_err(|source| OpenDisk::Open {
        path: path.to_owned(),
        source,
    })?;
    if metadata.file_type().is_block_device() {
        return Ok(Node::BlockDevice);
    }
    if metadata.is_file() {
        return Ok(Node::File);
    }
    let block_device = match metadata.file_type().is_char_device() {
        true => namespace::block_device_of(&metadata),
        false => None,
    };
    block_device
        .map(|block_device| Node::Namespace { block_device })
        .ok_or_else(|| OpenDisk::NotADisk {
            path: path.to_owned(),
        })
}

fn open_path(source: &Path, path: String, direct: bool) -> Result<(Place, OpenedDisk), OpenDisk> {
    match node_at(source, &path)? {
        Node::File => {
            let (file, direct) = open_exclusively(source, &path, 0, direct)?;
            let metadata = file.metadata().map_err(|source| OpenDisk::Open {
                path: path.clone(),
                source,
            })?;
            let kind = (DiskKind::File, Medium::File);
            device(file, metadata.size(), kind, direct, path)
        }
        Node::BlockDevice => {
            let (file, direct) = open_exclusively(source, &path, libc::O_EXCL, direct)?;
            let size_bytes = block_device_size(&file, &path)?;
            let kind = (DiskKind::BlockDevice, Medium::BlockDevice);
            device(file, size_bytes, kind, direct, path)
        }
        Node::Namespace { block_device } => open_namespace(source, path, &block_device),
    }
}

fn device(
    file: File,
    size_bytes: u64,
    (kind, medium): (DiskKind, Medium),
    direct: bool,
    path: String,
) -> Result<(Place, OpenedDisk), OpenDisk> {
    let opened = OpenedDisk {
        size_bytes: whole_blocks(&path, size_bytes)?,
        path,
        kind,
        direct,
        volatile: false,
    };
    let abilities = Abilities {
        // A durable write through the page cache may be told of the failure of somebody else's, who then never hears of
        // it; a sync's failure is told to everybody.
        durable_write: direct,
        ..Abilities::assumed(medium)
    };
    let device = Device {
        file,
        abilities,
        _claim: None,
    };
    Ok((Place::Device(device), opened))
}

fn open_namespace(source: &Path, path: String, block_device: &Path) -> Result<(Place, OpenedDisk), OpenDisk> {
    let claim = match open_exclusively(block_device, &path, libc::O_EXCL, false) {
        Ok((claim, _)) => Some(claim),
        Err(OpenDisk::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            tracing::warn!(
                disk = path,
                ?block_device,
                "has no block device to claim: others could mount it"
            );
            None
        }
        Err(error) => return Err(error),
    };
    let (file, _) = open_exclusively(source, &path, 0, false)?;
    let (shape, size_bytes) = namespace::look(&file, block_device, &path)?;
    let opened = OpenedDisk {
        size_bytes: whole_blocks(&path, size_bytes)?,
        path,
        kind: DiskKind::NvmeNamespace,
        direct: true,
        volatile: false,
    };
    let device = Device {
        file,
        abilities: Abilities::assumed(Medium::Namespace(shape)),
        _claim: claim,
    };
    Ok((Place::Device(device), opened))
}

/// Opens a disk for this process alone, through the page cache, without a reactor: for formatting it. Answers the file and
/// the whole blocks it has, in bytes. It is free again when the file is dropped. Of an NVMe namespace this is the block device.
pub fn open_alone(path: &Path) -> Result<(File, u64), OpenDisk> {
    let name = path.display().to_string();
    let opened = match node_at(path, &name)? {
        Node::Namespace { block_device } => open_path(&block_device, name, false)?,
        Node::File | Node::BlockDevice => open_path(path, name, false)?,
    };
    match opened {
        (Place::Device(device), opened) => Ok((device.file, opened.size_bytes)),
        (Place::Memory(_) | Place::Null | Place::Missing, _) => unreachable!("a path leads to a file"),
    }
}

/// For this process alone: a lock on the open file (which also keeps this process from opening it twice), and with `claim`
/// (`O_EXCL`) the kernel's own claim on a block device, which a mount or a volume manager holds too. Answers whether it is past
/// the page cache.
fn open_exclusively(source: &Path, path: &str, claim: i32, direct: bool) -> Result<(File, bool), OpenDisk> {
    try_open_exclusively(source, claim, direct).map_err(|source| match source.raw_os_error() {
        Some(libc::EBUSY | libc::EWOULDBLOCK) => OpenDisk::InUse {
            path: path.to_owned(),
        },
        _ => OpenDisk::Open {
            path: path.to_owned(),
            source,
        },
    })
}

fn try_open_exclusively(source: &Path, claim: i32, direct: bool) -> io::Result<(File, bool)> {
    let open = |flags: i32| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags | claim)
            .open(source)
    };
    let (file, direct) = match direct.then(|| open(libc::O_DIRECT)) {
        Some(Ok(file)) => (file, true),
        Some(Err(error)) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
        _ => (open(0)?, false),
    };
    // SAFETY: no memory is involved; the descriptor is ours.
    let answer = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((file, direct))
}

fn block_device_size(file: &File, path: &str) -> Result<u64, OpenDisk> {
    const BLKGETSIZE64: libc::Ioctl = 0x8008_1272_u32 as libc::Ioctl;
    let failed = || OpenDisk::Open {
        path: path.to_owned(),
        source: io::Error::last_os_error(),
    };
    let mut size_bytes = 0u64;
    let mut block_bytes: libc::c_int = 0;
    // SAFETY: the call writes one 64-bit number at the address.
    if unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut size_bytes) } < 0 {
        return Err(failed());
    }
    // SAFETY: the call writes one int at the address.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKSSZGET, &raw mut block_bytes) } < 0 {
        return Err(failed());
    }
    if block_bytes as u64 > u64::from(BLOCK_SIZE) {
        return Err(OpenDisk::BlockTooLarge {
            path: path.to_owned(),
            block_bytes: block_bytes as u64,
        });
    }
    Ok(size_bytes)
}
