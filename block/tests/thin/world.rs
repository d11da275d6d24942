//! A disk with a volatile cache, buffers, and a pool driven over both: everything that a real owner would do, in one
//! thread and by hand.

use block::thin::{Area, Failure, Pool, PoolConfig, PoolOutput, VolumeId};
use block::{
    BLOCK_SIZE, BlockRange, Blocks, BufferId, BufferSlice, Memory, Operation, Request, Status, SubRequestId,
    Time,
};
use std::collections::BTreeMap;

pub(crate) const SECTOR: usize = 512;
pub(crate) const SECTORS_PER_BLOCK: usize = BLOCK_SIZE as usize / SECTOR;

/// A small generator (splitmix64), so that a seed is a story.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Buffers that count their holders.
#[derive(Debug, Default)]
pub(crate) struct SimMemory {
    buffers: BTreeMap<u32, (Vec<u8>, u32)>,
    next: u32,
    /// Allocations to refuse.
    pub(crate) refuse: u32,
}

impl SimMemory {
    pub(crate) fn held(&self) -> usize {
        self.buffers.len()
    }
}

impl Memory for SimMemory {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        if self.refuse > 0 {
            self.refuse -= 1;
            return None;
        }
        self.next += 1;
        self.buffers.insert(self.next, (vec![0xa5; length as usize], 1));
        Some(BufferSlice {
            buffer: BufferId(self.next),
            offset: 0,
            length,
        })
    }
    fn retain(&mut self, buffer: BufferId) {
        self.buffers.get_mut(&buffer.0).expect("held").1 += 1;
    }
    fn release(&mut self, buffer: BufferId) {
        let held = self.buffers.get_mut(&buffer.0).expect("held");
        held.1 -= 1;
        if held.1 == 0 {
            self.buffers.remove(&buffer.0);
        }
    }
    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        &self.buffers[&slice.buffer.0].0[slice.offset as usize..][..slice.length as usize]
    }
    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        let held = &mut self.buffers.get_mut(&slice.buffer.0).expect("held").0;
        &mut held[slice.offset as usize..][..slice.length as usize]
    }
}

/// One area of the disk: what a read returns, what a power cut leaves, and what is between the two.
#[derive(Clone, Debug)]
pub(crate) struct Platter {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written and not flushed, in order.
    pending: Vec<(usize, Vec<u8>)>,
}

impl Platter {
    fn new(blocks: u64) -> Platter {
        let zeroes = vec![0; blocks as usize * BLOCK_SIZE as usize];
        Platter {
            current: zeroes.clone(),
            durable: zeroes,
            pending: Vec::new(),
        }
    }

    fn write_sector(&mut self, sector: usize, bytes: &[u8], durable: bool) {
        self.current[sector * SECTOR..][..SECTOR].copy_from_slice(bytes);
        if durable {
            self.durable[sector * SECTOR..][..SECTOR].copy_from_slice(bytes);
            self.pending.retain(|(pending, _)| *pending != sector);
        } else {
            self.pending.push((sector, bytes.to_vec()));
        }
    }

    fn flush(&mut self) {
        for (sector, bytes) in std::mem::take(&mut self.pending) {
            self.durable[sector * SECTOR..][..SECTOR].copy_from_slice(&bytes);
        }
    }

    pub(crate) fn durable(&self) -> &[u8] {
        &self.durable
    }

    /// Damages what is stored.
    pub(crate) fn damage(&mut self, byte: usize) {
        self.current[byte] ^= 0x40;
        self.durable[byte] ^= 0x40;
    }
}

/// The disk under both areas.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) metadata: Platter,
    pub(crate) data: Platter,
}

impl Disk {
    pub(crate) fn new(config: &PoolConfig) -> Disk {
        Disk {
            metadata: Platter::new(config.metadata.0),
            data: Platter::new(config.data.0),
        }
    }

    pub(crate) fn area(&mut self, area: Area) -> &mut Platter {
        match area {
            Area::Metadata => &mut self.metadata,
            Area::Data => &mut self.data,
        }
    }

    /// How many sectors a power cut may lose.
    pub(crate) fn pending(&self) -> usize {
        self.metadata.pending.len() + self.data.pending.len()
    }

    /// Loses the pending sectors that `keep` does not name, in order; metadata first.
    pub(crate) fn cut(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut index = 0;
        for platter in [&mut self.metadata, &mut self.data] {
            for (sector, bytes) in std::mem::take(&mut platter.pending) {
                if keep(index) {
                    platter.durable[sector * SECTOR..][..SECTOR].copy_from_slice(&bytes);
                }
                index += 1;
            }
            platter.current.clone_from(&platter.durable);
        }
    }
}

/// A request that the pool has made and the disk has not answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Below {
    pub(crate) id: SubRequestId,
    pub(crate) area: Area,
    pub(crate) request: Request,
}

/// A pool over a disk.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: PoolConfig,
    pub(crate) memory: SimMemory,
    pub(crate) disk: Disk,
    pub(crate) pool: Pool,
    pub(crate) queue: Vec<Below>,
    pub(crate) now: Time,
    /// Outputs that are not requests below, since they were last taken.
    pub(crate) said: Vec<PoolOutput>,
}

/// Eight extents of four blocks, and a journal of eight blocks.
pub(crate) fn small_config() -> PoolConfig {
    PoolConfig {
        pool: [0x77; 16],
        epoch: 1,
        extent: Blocks(4),
        metadata: Blocks(24),
        data: Blocks(34),
    }
}

pub(crate) fn volume(number: u8) -> VolumeId {
    VolumeId([number; 16])
}

impl World {
    /// A formatted and opened pool.
    pub(crate) fn opened(config: PoolConfig) -> World {
        let mut world = World::formatting(config);
        world.settle();
        assert_eq!(world.take_said(), [PoolOutput::Formatted]);
        world.reopen().expect("a formatted pool opens");
        world
    }

    /// The same, with a disk that keeps no data: only the metadata may be executed.
    pub(crate) fn opened_without_data(config: PoolConfig) -> World {
        let disk = Disk::new(&PoolConfig {
            data: Blocks(0),
            ..config
        });
        let mut world = World::start(config, disk, Pool::format);
        world.settle();
        world = World::opening(config, world.disk);
        world.settle();
        assert_eq!(world.take_said(), [PoolOutput::Opened]);
        world
    }

    /// Executes what goes to the metadata, says of everything else that it is done, and returns how many requests it was.
    pub(crate) fn settle_metadata(&mut self) -> u64 {
        let mut requests = 0;
        while let Some(below) = self.queue.first().copied() {
            requests += 1;
            match below.area {
                Area::Metadata => self.execute(0),
                Area::Data => {
                    self.queue.remove(0);
                    self.answer(below, Status::Success);
                }
            }
        }
        requests
    }

    /// A pool that has begun to format.
    pub(crate) fn formatting(config: PoolConfig) -> World {
        World::start(config, Disk::new(&config), Pool::format)
    }

    /// A pool that has begun to open what is on the disk.
    pub(crate) fn opening(config: PoolConfig, disk: Disk) -> World {
        World::start(config, disk, Pool::open)
    }

    fn start(config: PoolConfig, disk: Disk, verb: fn(PoolConfig, Time, &mut dyn Memory) -> Pool) -> World {
        let mut memory = SimMemory::default();
        let now = Time::from_millis(1);
        let pool = verb(config, now, &mut memory);
        let mut world = World {
            config,
            memory,
            disk,
            pool,
            queue: Vec::new(),
            now,
            said: Vec::new(),
        };
        world.drain();
        world
    }

    /// Forgets the pool, its buffers and requests, as a killed process does, and opens what is on the disk.
    pub(crate) fn reopen(&mut self) -> Result<(), Failure> {
        *self = World::opening(self.config, self.disk.clone());
        self.settle_until(|output| matches!(output, PoolOutput::Opened | PoolOutput::OpenFailed { .. }));
        match self.said.pop() {
            Some(PoolOutput::Opened) => Ok(()),
            Some(PoolOutput::OpenFailed { reason }) => Err(reason),
            other => panic!("an opening ends one way or the other, not {other:?}"),
        }
    }

    /// Takes outputs until there are none.
    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.pool.poll_output() {
            match output {
                PoolOutput::Below { id, area, request } => {
                    self.check_below(area, &request);
                    self.queue.push(Below { id, area, request });
                }
                PoolOutput::Zero { buffer } => self.memory.bytes_mut(buffer).fill(0),
                other => self.said.push(other),
            }
        }
    }

    fn check_below(&self, area: Area, request: &Request) {
        let limit = if area == Area::Metadata {
            self.config.metadata
        } else {
            self.config.data
        };
        assert!(
            request.range.end().0 <= limit.0,
            "{request:?} behind the end of {area:?}"
        );
        if let Operation::Read { buffer } | Operation::Write { buffer, .. } = request.operation {
            assert_eq!(u64::from(buffer.length), request.range.length.bytes());
        }
    }

    pub(crate) fn take_said(&mut self) -> Vec<PoolOutput> {
        std::mem::take(&mut self.said)
    }

    /// The sectors a request would write.
    pub(crate) fn sectors(&self, request: &Request) -> Vec<(usize, Vec<u8>)> {
        let BlockRange { start, length } = request.range;
        let first = start.0 as usize * SECTORS_PER_BLOCK;
        let count = length.0 as usize * SECTORS_PER_BLOCK;
        match request.operation {
            Operation::Write { buffer, .. } => {
                let bytes = self.memory.bytes(buffer);
                (0..count)
                    .map(|index| (first + index, bytes[index * SECTOR..][..SECTOR].to_vec()))
                    .collect()
            }
            Operation::WriteZeroes { .. } => {
                (0..count).map(|index| (first + index, vec![0; SECTOR])).collect()
            }
            Operation::Read { .. } | Operation::Flush | Operation::Deallocate => Vec::new(),
        }
    }

    fn perform(&mut self, below: &Below, heeds_durable: bool) {
        let durable = match below.request.operation {
            Operation::Write { durable, .. } | Operation::WriteZeroes { durable, .. } => {
                durable && heeds_durable
            }
            Operation::Read { .. } | Operation::Flush | Operation::Deallocate => false,
        };
        let sectors = self.sectors(&below.request);
        let platter = self.disk.area(below.area);
        for (sector, bytes) in sectors {
            platter.write_sector(sector, &bytes, durable);
        }
        match below.request.operation {
            Operation::Flush if heeds_durable => platter.flush(),
            Operation::Read { buffer } => {
                let start = below.request.range.start.0 as usize * BLOCK_SIZE as usize;
                let bytes = &platter.current[start..][..buffer.length as usize];
                self.memory.bytes_mut(buffer).copy_from_slice(bytes);
            }
            _ => {}
        }
    }

    /// The disk answers one request, having done it.
    pub(crate) fn execute(&mut self, index: usize) {
        let below = self.queue.remove(index);
        self.perform(&below, true);
        self.answer(below, Status::Success);
    }

    /// The disk answers one request badly, having done as many of its sectors as `keep` says.
    pub(crate) fn fail(&mut self, index: usize, status: Status, mut keep: impl FnMut() -> bool) {
        let below = self.queue.remove(index);
        for (sector, bytes) in self.sectors(&below.request) {
            if keep() {
                self.disk.area(below.area).write_sector(sector, &bytes, false);
            }
        }
        self.answer(below, status);
    }

    pub(crate) fn answer(&mut self, below: Below, status: Status) {
        self.pool
            .below_completed(self.now, below.id, status, &mut self.memory);
        self.drain();
    }

    /// Goes on to the next timeout, if there is one.
    pub(crate) fn tick(&mut self) -> bool {
        let Some(due) = self.pool.next_timeout() else {
            return false;
        };
        self.now = self.now.max(due);
        self.pool.handle_timeout(self.now, &mut self.memory);
        self.drain();
        true
    }

    /// Answers everything, in order, until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        self.settle_until(|_| false);
    }

    /// Until an output that is as wanted, or until nothing happens any more.
    pub(crate) fn settle_until(&mut self, wanted: impl Fn(&PoolOutput) -> bool) {
        for _ in 0..100_000 {
            if self.said.last().is_some_and(&wanted) {
                return;
            }
            if self.queue.is_empty() {
                if !self.tick() {
                    return;
                }
            } else {
                self.execute(0);
            }
        }
        panic!("the pool never comes to rest");
    }

    /// Moves what is in flight into the disk's cache: as much of it may survive a power cut as the cut likes.
    pub(crate) fn spill(&mut self) {
        for below in std::mem::take(&mut self.queue) {
            for (sector, bytes) in self.sectors(&below.request) {
                self.disk.area(below.area).write_sector(sector, &bytes, false);
            }
        }
    }

    /// Kills the process: each request in flight is done wholly or not at all, and the cache stays. What was to be durable
    /// was not answered, so it may still be in the cache.
    pub(crate) fn kill(&mut self, mut done: impl FnMut() -> bool) {
        for below in std::mem::take(&mut self.queue) {
            if done() {
                self.perform(&below, false);
            }
        }
    }

    /// Whether every block of the data area that no volume maps is durably zero; to be asked when nothing is dirty.
    pub(crate) fn unmapped_is_zero(&self) -> bool {
        let extent_bytes = self.config.extent.bytes() as usize;
        let volumes = self.pool.volumes();
        let mapped: Vec<u32> = volumes
            .iter()
            .flat_map(|known| self.pool.mapping(known.volume))
            .map(|at| at.1)
            .collect();
        let extents = self.disk.data.durable().chunks_exact(extent_bytes).enumerate();
        let mut unmapped = extents.filter(|(index, _)| !mapped.contains(&(*index as u32)));
        unmapped.all(|(_, bytes)| bytes.iter().all(|&byte| byte == 0))
    }
}
