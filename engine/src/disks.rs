//! All disks of a reactor: which request waits, which is under way.
//!
//! Requests to one disk start in the order asked for, at most `queue_depth` at a time; nothing else is said about their
//! order. Zeroing and discards stand in a line of their own, few at a time: each may keep a disk, and a thread of the kernel's,
//! busy for long, and reads shall not wait behind them. No disk takes what another needs: each has its share of the
//! ring, and threads of its own.
//!
//! Not here: what calls a request is made of (`task`), who shares a sync (`commit`), what is slow (`disk_pace`).

use crate::buffer::{Pool, Region};
use crate::clock;
use crate::disk::{DiskBackend, DiskConfig, DiskPace, DiskStatus, OpenedDisk, name};
use crate::disk_pace::Kind;
use crate::epoll::Waker;
use crate::error::OpenDisk;
use crate::memory_disk::{FETCH_STEPS, settle_blocks};
use crate::opening::{Place, open_patiently};
use crate::queue::Queue;
use crate::reactor::WantedBackend;
use crate::ring::{Descriptor, Ring};
use crate::task::{self, Call, Command, Data, Lent, Medium, Next, Task, ZEROES_BYTES};
use crate::threads::Threads;
use block::{BLOCK_SIZE, Duration, Time};
use fabric::driver::{DiskError, DiskId, DiskOperation, DiskRequestId};
use nvme::command::DatasetManagementRange;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

/// Requests under way at all disks of a reactor: what a ring has room for.
const IN_FLIGHT_MAX: u32 = crate::ring::COMPLETIONS;
/// Between two looks at how long requests have been under way.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// In a token: the sync of the disk whose index the low bits are. Otherwise they are a slot.
const TOKEN_SYNC: u64 = 1 << 32;

/// How a request ended.
pub(crate) type Ended = (DiskRequestId, Result<(), DiskError>);

/// A disk, open.
struct Disk {
    name: String,
    place: Place,
    size_bytes: u64,
    queue: Queue,
    syncs: u64,
    /// What was last said of its pace.
    said: DiskPace,
    /// Its status has changed since it was last published.
    changed: bool,
}

/// A request that waits or is under way.
struct Slot {
    disk: usize,
    task: Task,
    kind: Kind,
    /// Its place among the few long ones of its disk, once it is under way.
    long: Option<u8>,
    begun: Option<Time>,
}

/// All disks of a reactor, and the ways to make calls.
pub(crate) struct Disks {
    disks: Vec<Disk>,
    ring: Option<Ring>,
    threads: Threads,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    zeroes: Region,
    /// What Dataset Management commands under way point to: a range for every long request of every disk.
    ranges: Region,
    requests: u64,
    /// Requests to memory, in the order in which they came.
    at_memory: VecDeque<(DiskRequestId, usize, DiskOperation)>,
    /// The time of this turn, once it has been asked for.
    now: Option<Time>,
    look_at: Time,
    sync_wanted: bool,
    finishing: bool,
    // Reused from turn to turn.
    done: Vec<(u64, i32)>,
    told: Vec<usize>,
}

/// What [`Disks::open`] answers: the disks, what is said of each, and of the way calls are made.
pub(crate) struct OpenedDisks {
    pub(crate) disks: Disks,
    pub(crate) opened: Vec<Result<OpenedDisk, Arc<OpenDisk>>>,
    pub(crate) backend: DiskBackend,
}

fn open_ring(wanted: WantedBackend, disks: &[Disk]) -> (Option<Ring>, DiskBackend) {
    let descriptors: Vec<RawFd> = disks.iter().map(Disk::raw_descriptor).collect();
    if descriptors.iter().all(|descriptor| *descriptor < 0) {
        return (None, DiskBackend::None);
    }
    let reason = match wanted {
        WantedBackend::Threads => "asked for".to_owned(),
        WantedBackend::Auto => match Ring::open(&descriptors, disks.iter().any(Disk::is_namespace)) {
            Ok(ring) => {
                ring.allow_workers((descriptors.len() as u32) * (crate::queue::LONG_MAX + 1));
                return (Some(ring), DiskBackend::IoUring);
            }
            Err(error) => {
                tracing::warn!(%error, "io_uring is refused here: disks are served by threads, which is slower");
                format!("io_uring is refused: {error}")
            }
        },
    };
    (None, DiskBackend::Threads { reason })
}

impl Disk {
    fn raw_descriptor(&self) -> RawFd {
        match &self.place {
            Place::Device(device) => device.file.as_raw_fd(),
            Place::Memory(_) | Place::Null | Place::Missing => -1,
        }
    }

    fn is_namespace(&self) -> bool {
        matches!(&self.place, Place::Device(device) if matches!(device.abilities.medium, Medium::Namespace(_)))
    }

    /// Says once that it has become slow, or well again.
    fn say_pace(&mut self) {
        let pace = &self.queue.pace;
        let from = std::mem::replace(&mut self.said, pace.pace());
        if from != self.said {
            let longest_ms = pace.longest_nanos() / 1_000_000;
            tracing::warn!(disk = self.name, ?from, to = ?self.said, longest_ms, "a disk's pace has changed");
        }
    }

    fn status(&self) -> DiskStatus {
        let pace = &self.queue.pace;
        DiskStatus {
            pace: pace.pace(),
            under_way: self.queue.under_way().into(),
            waiting: self.queue.waiting(),
            typical_nanos: pace.typical_nanos(),
            longest_nanos: pace.longest_nanos(),
            syncs: self.syncs,
        }
    }
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
                name: name(&config.source),
                place,
                size_bytes: said.as_ref().map_or(0, |said| said.size_bytes),
                queue: Queue::new(config.queue_depth.clamp(1, depth_max.max(1))),
                syncs: 0,
                said: DiskPace::Well,
                changed: false,
            });
            opened.push(said);
        }
        let (ring, backend) = open_ring(wanted, &disks);
        Ok(OpenedDisks {
            disks: Disks::with(disks, ring, Threads::new(reactor, waker, configs.len()))?,
            opened,
            backend,
        })
    }

    fn with(disks: Vec<Disk>, ring: Option<Ring>, threads: Threads) -> Result<Disks, OpenDisk> {
        let reserve = |length: usize| {
            Region::reserve(length).map_err(|source| OpenDisk::Open {
                path: "(memory for its requests)".to_owned(),
                source,
            })
        };
        let ranges = disks.len().max(1) * crate::queue::LONG_MAX as usize * DatasetManagementRange::SIZE;
        Ok(Disks {
            disks,
            ring,
            threads,
            slots: Vec::new(),
            free: Vec::new(),
            zeroes: reserve(ZEROES_BYTES as usize)?,
            ranges: reserve(ranges)?,
            requests: 0,
            at_memory: VecDeque::new(),
            now: None,
            look_at: Time::ZERO,
            sync_wanted: false,
            finishing: false,
            done: Vec::new(),
            told: Vec::new(),
        })
    }

    /// The pool's memory, where requests' payloads lie: it may be registered with the ring. The pool outlives all requests.
    pub(crate) fn lend_memory(&mut self, pool: &Pool) {
        if let Some(ring) = &mut self.ring {
            let (start, length) = pool.region();
            ring.lend_memory(start, length);
        }
    }

    /// What the loop must watch for completions, besides its waker.
    pub(crate) fn ring_signal(&self) -> Option<RawFd> {
        self.ring.as_ref().map(Ring::signal)
    }

    pub(crate) fn count(&self) -> usize {
        self.disks.len()
    }

    /// Requests that wait or are under way (those to memory are not).
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// When [`Disks::completed`] shall be called even if nothing has completed.
    pub(crate) fn next_look(&self) -> Option<Time> {
        let unwell = |disk: &Disk| disk.queue.pace.pace() != DiskPace::Well;
        (self.requests > 0 || self.disks.iter().any(unwell)).then_some(self.look_at)
    }

    /// Bytes of memory registered with the ring, and whether the kernel refused more.
    pub(crate) fn registered_memory(&self) -> (u64, bool) {
        self.ring.as_ref().map_or((0, false), Ring::registered_memory)
    }

    /// Hands over the status of every disk for which it has changed.
    pub(crate) fn publish(&mut self, mut into: impl FnMut(usize, DiskStatus)) {
        for (index, disk) in self.disks.iter_mut().enumerate() {
            if std::mem::take(&mut disk.changed) {
                into(index, disk.status());
            }
        }
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
        if let Place::Memory(memory) = &entry.place {
            memory.expect(&operation, FETCH_STEPS[0].clone());
            self.at_memory.push_back((request, index, operation));
            return None;
        }
        if matches!(entry.place, Place::Null) {
            return Some(Ok(()));
        }
        let payload = task::buffer_of(&operation).map_or(std::ptr::null_mut(), |buffer| pool.address(buffer));
        let task = Task::new(request, operation, Lent(payload), Lent(self.zeroes.at(0)));
        let slot = self.store(index, task);
        self.disks[index].queue.push(slot, is_long(&operation));
        self.start_waiting(index).map(|(_, result)| result)
    }

    /// Requests to memory that have not been carried out.
    pub(crate) fn at_memory(&self) -> usize {
        self.at_memory.len()
    }

    /// Carries out the next request to memory. One by one, so that each one's bytes are still in the caches when they are sent,
    /// and those of the next are on their way there.
    pub(crate) fn next_at_memory(&mut self, pool: &mut Pool) -> Option<Ended> {
        let (request, disk, operation) = self.at_memory.pop_front()?;
        if let Some((_, disk, next)) = self.at_memory.front()
            && let Place::Memory(memory) = &self.disks[*disk].place
        {
            memory.expect(next, FETCH_STEPS[1].clone());
        }
        let Place::Memory(memory) = &mut self.disks[disk].place else {
            unreachable!("only memory's requests are in this line");
        };
        memory.expect(&operation, FETCH_STEPS[2].clone());
        memory.execute(&operation, pool);
        if self.at_memory.is_empty() {
            settle_blocks();
        }
        Some((request, Ok(())))
    }

    fn store(&mut self, disk: usize, task: Task) -> usize {
        if self.requests == 0 {
            self.look_at = self.now() + LOOK_PAUSE;
        }
        self.requests += 1;
        let kind = match task.operation {
            DiskOperation::Read { .. } | DiskOperation::Write { .. } => Kind::Transfer,
            _ => Kind::Long,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Slot {
            disk,
            task,
            kind,
            long: None,
            begun: None,
        });
        slot
    }

    fn slot(&mut self, slot: usize) -> &mut Slot {
        self.slots[slot].as_mut().expect("a slot that is named is taken")
    }

    fn now(&mut self) -> Time {
        *self.now.get_or_insert_with(clock::now)
    }

    /// Starts what a disk has room for. Answers a request that turns out to need no call; there may be more to start then.
    fn start_waiting(&mut self, index: usize) -> Option<Ended> {
        while let Some((slot, long)) = self.disks[index].queue.start() {
            self.disks[index].changed = true;
            let now = self.now();
            let entry = self.slots[slot].as_mut().expect("a slot that waits is taken");
            (entry.begun, entry.long) = (Some(now), long);
            let Place::Device(device) = &self.disks[index].place else {
                unreachable!("only devices have requests that wait");
            };
            let next = entry.task.begin(&device.abilities);
            let ended = self.carry_out(slot, next);
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    /// Does what comes next for a request; answers if that was its end.
    fn carry_out(&mut self, slot: usize, next: Next) -> Option<Ended> {
        match next {
            Next::Done(result) => Some(self.end(slot, result)),
            Next::Call(Call::Sync) => {
                let disk = self.slot(slot).disk;
                match self.disks[disk].queue.commit.join(slot) {
                    Ok(()) => {
                        self.sync_wanted = true;
                        None
                    }
                    Err(error) => Some(self.end(slot, Err(error))),
                }
            }
            Next::Call(call) => {
                let Slot { disk, long, .. } = *self.slot(slot);
                let call = self.with_range(disk, long, call);
                self.make(slot as u64, disk, call);
                None
            }
        }
    }

    /// Puts the range of a Dataset Management command where the device can read it until the command is over.
    fn with_range(&mut self, disk: usize, long: Option<u8>, call: Call) -> Call {
        let Call::Command(Command {
            data: Data::Range { slba, blocks },
            ..
        }) = call
        else {
            return call;
        };
        let Call::Command(command) = call else {
            unreachable!("looked at above");
        };
        let place = usize::from(long.expect("a discard is a long request"));
        let offset = (disk * crate::queue::LONG_MAX as usize + place) * DatasetManagementRange::SIZE;
        let range = DatasetManagementRange::new(slba, blocks);
        self.ranges
            .slice_mut(offset, DatasetManagementRange::SIZE)
            .copy_from_slice(range.as_bytes());
        let data = Data::At {
            address: Lent(self.ranges.at(offset)),
            length: DatasetManagementRange::SIZE as u32,
        };
        Call::Command(Command { data, ..command })
    }

    fn make(&mut self, token: u64, disk: usize, call: Call) {
        let descriptor = Descriptor {
            raw: self.disks[disk].raw_descriptor(),
            index: disk as u32,
        };
        let ring = self.ring.as_mut();
        if !ring.is_some_and(|ring| ring.push(token, descriptor, call)) {
            self.threads.push(disk, token, descriptor.raw, call);
        }
    }

    /// Hands queued calls to the kernel; syncs too, each for all that have asked for it by now.
    pub(crate) fn flush(&mut self) {
        if std::mem::take(&mut self.sync_wanted) {
            (0..self.disks.len()).for_each(|disk| self.begin_sync(disk));
        }
        if let Some(ring) = &mut self.ring {
            ring.submit();
        }
        self.now = None;
    }

    fn begin_sync(&mut self, disk: usize) {
        if self.disks[disk].queue.commit.begin() {
            self.make_sync(disk);
        }
    }

    fn make_sync(&mut self, index: usize) {
        let disk = &mut self.disks[index];
        let Place::Device(device) = &disk.place else {
            unreachable!("only devices have syncs");
        };
        let call = device.abilities.sync_call();
        disk.syncs += 1;
        self.make(TOKEN_SYNC | index as u64, index, call);
    }

    /// Takes results, goes on with what is unfinished, and answers what has completed.
    pub(crate) fn completed(&mut self, into: &mut VecDeque<Ended>) {
        if self.requests == 0 && self.next_look().is_none() {
            return;
        }
        self.now = Some(clock::now());
        let mut done = std::mem::take(&mut self.done);
        if let Some(ring) = &mut self.ring {
            ring.submit();
            ring.take_done(&mut done);
        }
        self.threads.take_done(&mut done);
        for (token, result) in done.drain(..) {
            if token & TOKEN_SYNC != 0 {
                self.sync_ended((token & !TOKEN_SYNC) as usize, result, into);
            } else {
                self.advance(token as usize, result, into);
            }
        }
        self.done = done;
        if self.now() >= self.look_at {
            self.look();
        }
        if self.finishing {
            self.flush();
        }
    }

    fn advance(&mut self, slot: usize, result: i32, into: &mut VecDeque<Ended>) {
        let entry = self.slots[slot].as_mut().expect("a result for a call under way");
        let disk = entry.disk;
        let Place::Device(device) = &mut self.disks[disk].place else {
            unreachable!("only devices have calls");
        };
        let next = entry.task.advance(&mut device.abilities, result);
        if let Some(ended) = self.carry_out(slot, next) {
            into.push_back(ended);
            self.start_all(disk, into);
        }
    }

    fn sync_ended(&mut self, index: usize, result: i32, into: &mut VecDeque<Ended>) {
        let disk = &mut self.disks[index];
        let Place::Device(device) = &disk.place else {
            unreachable!("only devices have syncs");
        };
        let Some(result) = device.abilities.synced(result) else {
            return self.make_sync(index);
        };
        if let Err(error) = result {
            tracing::error!(
                disk = disk.name,
                ?error,
                "a sync failed: nothing that is said to be durable can be believed here \
                any more, until the disk is opened anew"
            );
        }
        let mut told = std::mem::take(&mut self.told);
        disk.queue.commit.ended(result, &mut told);
        for slot in told.drain(..) {
            let ended = self.end(slot, result);
            into.push_back(ended);
        }
        self.told = told;
        self.sync_wanted = true;
        self.start_all(index, into);
    }

    fn start_all(&mut self, disk: usize, into: &mut VecDeque<Ended>) {
        while let Some(ended) = self.start_waiting(disk) {
            into.push_back(ended);
        }
    }

    /// A request that was under way is over.
    fn end(&mut self, slot: usize, result: Result<(), DiskError>) -> Ended {
        let now = self.now();
        let entry = self.release(slot);
        let disk = &mut self.disks[entry.disk];
        let begun = entry.begun.expect("a request ends that was under way");
        disk.queue.ended(entry.long);
        disk.queue.pace.ended(now, begun, entry.kind);
        disk.changed = true;
        (entry.task.request, result)
    }

    fn release(&mut self, slot: usize) -> Slot {
        self.requests -= 1;
        self.free.push(slot);
        self.slots[slot].take().expect("a slot that is named is taken")
    }

    /// Looks at what is under way for too long.
    fn look(&mut self) {
        let now = self.now();
        self.look_at = now + LOOK_PAUSE;
        for slot in self.slots.iter().flatten() {
            if let Some(begun) = slot.begun {
                self.disks[slot.disk].queue.note_oldest(slot.kind, begun);
            }
        }
        for disk in &mut self.disks {
            disk.queue.look(now);
            disk.changed = true;
            disk.say_pace();
        }
    }

    /// Forgets what waits; what is under way at the kernel must still be waited for ([`Disks::requests`]).
    pub(crate) fn forget_waiting(&mut self) {
        self.finishing = true;
        self.at_memory.clear();
        let mut forgotten = std::mem::take(&mut self.told);
        for disk in &mut self.disks {
            disk.queue.forget_waiting(&mut forgotten);
        }
        for slot in forgotten.drain(..) {
            self.release(slot);
        }
        self.told = forgotten;
        self.flush();
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        assert_eq!(self.requests, 0, "the kernel has no address of ours any more");
    }
}

/// May keep a disk busy for long.
fn is_long(operation: &DiskOperation) -> bool {
    matches!(
        operation,
        DiskOperation::WriteZeroes { .. } | DiskOperation::Discard { .. }
    )
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
