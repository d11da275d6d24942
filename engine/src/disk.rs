//! Opening disks, and which request waits or is under way at which.
//!
//! A disk is a file (made by somebody else, its length is the disk's), a block device, or memory. It is opened for this
//! process alone. Requests to one disk start in the order asked for, at most `queue_depth` at a time; nothing else is
//! said about their order.

use crate::buffer::{Pool, Region};
use crate::epoll::Waker;
use crate::error::OpenDisk;
use crate::memory_disk::MemoryDisk;
use crate::reactor::WantedBackend;
use crate::ring::Ring;
use crate::task::{self, Abilities, Call, Lent, Next, Task, ZEROES_BYTES};
use block::BLOCK_SIZE;
use fabric::driver::{DiskError, DiskId, DiskOperation, DiskRequestId};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests under way at one disk, where the configuration does not say.
pub const QUEUE_DEPTH_DEFAULT: u32 = 128;
/// Requests under way at all disks of a reactor: what a ring has room for.
const IN_FLIGHT_MAX: u32 = crate::ring::COMPLETIONS;
/// Threads that make the calls of all disks of a reactor where io_uring is refused.
const THREADS_MAX: usize = 8;

/// Between two looks at a disk that somebody else has.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// What a disk is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskSource {
    /// A file or a block device.
    Path(PathBuf),
    /// Memory of this process: so many bytes, volatile.
    Memory {
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
    /// A file or a block device, required, past the page cache.
    pub fn path(path: impl Into<PathBuf>) -> DiskConfig {
        DiskConfig {
            source: DiskSource::Path(path.into()),
            queue_depth: QUEUE_DEPTH_DEFAULT,
            direct: true,
            required: true,
            patience: Duration::ZERO,
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
    /// Memory of this process.
    Memory,
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
    }
}

/// A disk, open.
struct Disk {
    place: Place,
    size_bytes: u64,
    depth: u32,
    in_flight: u32,
    waiting: VecDeque<Task>,
}

enum Place {
    Memory(MemoryDisk),
    File { file: File, abilities: Abilities },
    Missing,
}

/// All disks of a reactor, and the way to make calls.
pub(crate) struct Disks {
    disks: Vec<Disk>,
    ring: Option<Ring>,
    threads: crate::threads::Threads,
    tasks: Vec<Option<(usize, Task)>>,
    free: Vec<usize>,
    zeroes: Region,
    done: Vec<(u64, i32)>,
    requests: u64,
}

/// What [`Disks::open`] answers: the disks, what is said of each, and of the way calls are made.
pub(crate) struct OpenedDisks {
    pub(crate) disks: Disks,
    pub(crate) opened: Vec<Result<OpenedDisk, Arc<OpenDisk>>>,
    pub(crate) backend: DiskBackend,
}

fn open_ring(wanted: WantedBackend, any: bool) -> (Option<Ring>, DiskBackend) {
    if !any {
        return (None, DiskBackend::None);
    }
    let reason = match wanted {
        WantedBackend::Threads => "asked for".to_owned(),
        WantedBackend::Auto => match Ring::open() {
            Ok(ring) => return (Some(ring), DiskBackend::IoUring),
            Err(error) => {
                tracing::warn!(%error, "io_uring is refused here: disks are served by threads, which is slower");
                format!("io_uring is refused: {error}")
            }
        },
    };
    (None, DiskBackend::Threads { reason })
}

impl Disks {
    pub(crate) fn open(
        reactor: &str,
        configs: &[DiskConfig],
        wanted: WantedBackend,
        waker: Arc<Waker>,
    ) -> Result<OpenedDisks, OpenDisk> {
        let depth_max = IN_FLIGHT_MAX / (configs.len().max(1) as u32);
        let mut disks = Vec::new();
        let mut opened = Vec::new();
        let begun = Instant::now();
        for config in configs {
            let (place, said) = match open_patiently(config, begun) {
                Ok((place, said)) => (place, Ok(said)),
                Err(error) if config.required => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a disk is left out");
                    (Place::Missing, Err(Arc::new(error)))
                }
            };
            disks.push(Disk {
                place,
                size_bytes: said.as_ref().map_or(0, |said| said.size_bytes),
                depth: config.queue_depth.clamp(1, depth_max.max(1)),
                in_flight: 0,
                waiting: VecDeque::new(),
            });
            opened.push(said);
        }
        let files = disks.iter().any(|disk| matches!(disk.place, Place::File { .. }));
        let (ring, backend) = open_ring(wanted, files);
        let disks = Disks {
            disks,
            ring,
            threads: crate::threads::Threads::new(reactor, waker, THREADS_MAX),
            tasks: Vec::new(),
            free: Vec::new(),
            zeroes: Region::reserve(ZEROES_BYTES as usize).map_err(|source| OpenDisk::Open {
                path: "(zeroes)".to_owned(),
                source,
            })?,
            done: Vec::new(),
            requests: 0,
        };
        Ok(OpenedDisks {
            disks,
            opened,
            backend,
        })
    }

    /// What the loop must watch for completions, besides its waker.
    pub(crate) fn ring_signal(&self) -> Option<RawFd> {
        self.ring.as_ref().map(Ring::signal)
    }

    /// Requests that wait or are under way (those answered at once by memory are not).
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Takes a request; if it is over at once, answers how it ended.
    ///
    /// # Panics
    /// If the request names a disk that is not there, or bytes outside of it: the machine was told the sizes.
    pub(crate) fn submit(
        &mut self,
        request: DiskRequestId,
        disk: DiskId,
        operation: DiskOperation,
        pool: &mut Pool,
    ) -> Option<Result<(), DiskError>> {
        let index = disk.0 as usize;
        let entry = self.disks.get_mut(index).expect("a disk of this reactor");
        if matches!(entry.place, Place::Missing) {
            return Some(Err(DiskError::Gone));
        }
        check_range(&operation, entry.size_bytes);
        if let Place::Memory(memory) = &mut entry.place {
            memory.execute(&operation, pool);
            return Some(Ok(()));
        }
        let payload = task::buffer_of(&operation).map_or(std::ptr::null_mut(), |buffer| pool.address(buffer));
        let task = Task::new(request, operation, Lent(payload), Lent(self.zeroes.at(0)));
        self.requests += 1;
        entry.waiting.push_back(task);
        self.start_waiting(index).map(|(_, result)| result)
    }

    /// Starts what its disk has room for. Answers a request that turns out to need no call.
    fn start_waiting(&mut self, index: usize) -> Option<(DiskRequestId, Result<(), DiskError>)> {
        let disk = &mut self.disks[index];
        if disk.in_flight >= disk.depth {
            return None;
        }
        let mut task = disk.waiting.pop_front()?;
        let Place::File { abilities, .. } = &disk.place else {
            unreachable!("only files have tasks");
        };
        match task.begin(abilities) {
            Next::Done(result) => {
                self.requests -= 1;
                Some((task.request, result))
            }
            Next::Call(call) => {
                disk.in_flight += 1;
                self.begin_call(index, task, call);
                None
            }
        }
    }

    fn begin_call(&mut self, disk: usize, task: Task, call: Call) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        self.tasks[slot] = Some((disk, task));
        self.make(slot, disk, call);
    }

    fn make(&mut self, slot: usize, disk: usize, call: Call) {
        let Place::File { file, .. } = &self.disks[disk].place else {
            unreachable!("only files have tasks");
        };
        let (descriptor, token) = (file.as_raw_fd(), slot as u64);
        let taken = self
            .ring
            .as_mut()
            .is_some_and(|ring| ring.push(token, descriptor, call));
        if !taken {
            self.threads.push(token, descriptor, call);
        }
    }

    /// Hands queued calls to the kernel.
    pub(crate) fn flush(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.submit();
        }
    }

    /// Takes results, goes on with what is unfinished, and answers what has completed.
    pub(crate) fn completed(&mut self, into: &mut VecDeque<(DiskRequestId, Result<(), DiskError>)>) {
        let mut done = std::mem::take(&mut self.done);
        if let Some(ring) = &mut self.ring {
            ring.submit();
            ring.take_done(&mut done);
        }
        self.threads.take_done(&mut done);
        for (token, result) in done.drain(..) {
            self.advance(token as usize, result, into);
        }
        self.done = done;
    }

    fn advance(
        &mut self,
        slot: usize,
        result: i32,
        into: &mut VecDeque<(DiskRequestId, Result<(), DiskError>)>,
    ) {
        let (index, task) = self.tasks[slot].as_mut().expect("a result for a call under way");
        let index = *index;
        let disk = &mut self.disks[index];
        let Place::File { abilities, .. } = &mut disk.place else {
            unreachable!("only files have tasks");
        };
        match task.advance(abilities, result) {
            Next::Call(call) => self.make(slot, index, call),
            Next::Done(result) => {
                into.push_back((task.request, result));
                self.tasks[slot] = None;
                self.free.push(slot);
                disk.in_flight -= 1;
                self.requests -= 1;
                while let Some(ended) = self.start_waiting(index) {
                    into.push_back(ended);
                }
            }
        }
    }

    /// Forgets what waits; what is under way at the kernel must still be waited for ([`Disks::requests`]).
    pub(crate) fn forget_waiting(&mut self) {
        for disk in &mut self.disks {
            self.requests -= disk.waiting.len() as u64;
            disk.waiting.clear();
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        assert_eq!(self.requests, 0, "the kernel has no address of ours any more");
    }
}

fn check_range(operation: &DiskOperation, size_bytes: u64) {
    let Some((offset, length)) = task::extent_of(operation) else {
        return;
    };
    let block = u64::from(BLOCK_SIZE);
    assert!(
        offset.is_multiple_of(block) && length.is_multiple_of(block) && length > 0,
        "{operation:?} is made of whole blocks"
    );
    assert!(
        offset.checked_add(length).is_some_and(|end| end <= size_bytes),
        "{operation:?} lies inside its disk of {size_bytes} bytes"
    );
}

fn open_patiently(config: &DiskConfig, begun: Instant) -> Result<(Place, OpenedDisk), OpenDisk> {
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

fn open_path(source: &Path, path: String, direct: bool) -> Result<(Place, OpenedDisk), OpenDisk> {
    let failed = |source| OpenDisk::Open {
        path: path.clone(),
        source,
    };
    let kind = kind_of(source, &path)?;
    let (file, direct) =
        open_exclusively(source, kind, direct).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY | libc::EWOULDBLOCK) => OpenDisk::InUse { path: path.clone() },
            _ => failed(error),
        })?;
    let size_bytes = match kind {
        DiskKind::BlockDevice => block_device_size(&file, &path)?,
        DiskKind::File | DiskKind::Memory => file.metadata().map_err(failed)?.size(),
    };
    let opened = OpenedDisk {
        size_bytes: whole_blocks(&path, size_bytes)?,
        path,
        kind,
        direct,
        volatile: false,
    };
    let abilities = Abilities::assumed(kind == DiskKind::BlockDevice);
    Ok((Place::File { file, abilities }, opened))
}

fn kind_of(source: &Path, path: &str) -> Result<DiskKind, OpenDisk> {
    let metadata = std::fs::metadata(source).map_err(|source| OpenDisk::Open {
        path: path.to_owned(),
        source,
    })?;
    if metadata.file_type().is_block_device() {
        Ok(DiskKind::BlockDevice)
    } else if metadata.is_file() {
        Ok(DiskKind::File)
    } else {
        Err(OpenDisk::NotADisk {
            path: path.to_owned(),
        })
    }
}

/// Opens a disk for this process alone, through the page cache, without a reactor: for formatting it. Answers the file and
/// the whole blocks it has, in bytes. It is free again when the file is dropped.
pub fn open_alone(path: &Path) -> Result<(File, u64), OpenDisk> {
    match open_path(path, path.display().to_string(), false)? {
        (Place::File { file, .. }, opened) => Ok((file, opened.size_bytes)),
        (Place::Memory(_) | Place::Missing, _) => unreachable!("a path leads to a file"),
    }
}

/// For this process alone: a lock on the open file (which also keeps this process from opening it twice), and the
/// kernel's own claim on a block device, which a mount or a volume manager holds too.
fn open_exclusively(source: &Path, kind: DiskKind, direct: bool) -> io::Result<(File, bool)> {
    let claim = if kind == DiskKind::BlockDevice {
        libc::O_EXCL
    } else {
        0
    };
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
