//! The thin pool against a map of blocks: writes, reads, volumes, failures below and power cuts in any order.
//!
//! Oracle: a read returns what was acknowledged last, or what was being written meanwhile or ended in doubt since; what was
//! flushed survives a power cut, what was not is what it was at some time since the flush; a pool that was cut off opens; volumes
//! whose creation was acknowledged are there, and those whose deletion was are not; when all is quiet the map is sound and nobody
//! holds a buffer.

use super::pool_world::{PoolWorld, chances};
use crate::input::Input;
use block::thin::{PoolOutput, VolumeId};
use block::{BlockRange, Blocks, BufferSlice, Memory, Operation, Request, RequestId, Status};
use std::collections::BTreeMap;

const BLOCK: usize = 4096;
const SECTOR: usize = 512;
const VOLUMES: usize = 3;
const BLOCKS_MAX: u64 = 24;
const OPERATIONS_MAX: u32 = 120;

/// What a block may hold: the fills it was given, in order.
#[derive(Clone, Debug)]
struct Cell {
    values: Vec<u8>,
    /// Reads return this one or a later one.
    acknowledged: usize,
    /// After a power cut, this one or a later one.
    durable: usize,
}

impl Cell {
    fn blank() -> Cell {
        Cell {
            values: vec![0],
            acknowledged: 0,
            durable: 0,
        }
    }
}

#[derive(Debug)]
enum Pending {
    Write {
        volume: VolumeId,
        range: BlockRange,
        durable: bool,
        buffer: Option<BufferSlice>,
    },
    /// Where each block's history was when the read began.
    Read {
        volume: VolumeId,
        range: BlockRange,
        buffer: BufferSlice,
        floors: Vec<usize>,
    },
    /// The same of every block.
    Flush { volume: VolumeId, floors: Vec<usize> },
}

#[derive(Debug)]
struct Story {
    world: PoolWorld,
    volumes: BTreeMap<VolumeId, Vec<Cell>>,
    /// Whether they are there is not known: a verb of theirs is under way, or ended in doubt.
    doubtful: Vec<VolumeId>,
    pending: BTreeMap<u64, Pending>,
    last_id: u64,
    fill: u8,
}

/// One input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut story = Story {
        world: PoolWorld::formatted(),
        volumes: BTreeMap::new(),
        doubtful: Vec::new(),
        pending: BTreeMap::new(),
        last_id: 0,
        fill: 0,
    };
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        story.step(&mut input);
        story.listen();
    }
    story.end();
}

fn volume(number: usize) -> VolumeId {
    VolumeId([number as u8 + 1; 16])
}

impl Story {
    fn step(&mut self, input: &mut Input<'_>) {
        let waiting = self.world.queue.len();
        match input.below(16) {
            0..=2 => self.write(input),
            3..=4 => self.read(input),
            5 => self.flush(input),
            6 => self.create(input),
            7 => self.delete(input),
            8..=11 if waiting > 0 => self.world.answer(input.below(waiting)),
            12 if waiting > 0 => {
                const HOW: [Status; 3] = [Status::Unavailable, Status::MediaError, Status::StaleEpoch];
                let (index, status) = (input.below(waiting), HOW[input.below(3)]);
                let keep = chances(input);
                self.world.fail(index, status, keep);
            }
            13 => _ = self.world.tick(),
            14 => self.world.memory.refuse = input.below(3) as u32,
            15 => self.cut(input),
            _ => self.world.settle(),
        }
    }

    fn id(&mut self) -> (u64, RequestId) {
        self.last_id += 1;
        (self.last_id, RequestId(self.last_id))
    }

    /// Blocks of a volume that is surely there.
    fn range(&self, input: &mut Input<'_>) -> Option<(VolumeId, BlockRange)> {
        let volume = volume(input.below(VOLUMES));
        let (start, length) = (input.below(BLOCKS_MAX as usize) as u64, 1 + input.below(8) as u64);
        let size = self
            .volumes
            .get(&volume)
            .filter(|_| !self.doubtful.contains(&volume))?
            .len() as u64;
        (start + length <= size).then(|| (volume, BlockRange::new(start, length)))
    }

    /// Whether a write of these blocks is under way: which of two is the last nobody knows, so there is one at a time.
    fn is_written(&self, volume: VolumeId, range: BlockRange) -> bool {
        self.pending.values().any(|pending| match pending {
            Pending::Write {
                volume: other,
                range: busy,
                ..
            } => *other == volume && busy.start.0 < range.end().0 && range.start.0 < busy.end().0,
            _ => false,
        })
    }

    fn cells(&mut self, volume: VolumeId, range: BlockRange) -> &mut [Cell] {
        let cells = self.volumes.get_mut(&volume).expect("known");
        &mut cells[range.start.0 as usize..range.end().0 as usize]
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let kind = input.below(4);
        let Some((volume, range)) = self.range(input) else {
            return;
        };
        if self.is_written(volume, range) {
            return;
        }
        let durable = kind == 1;
        let bytes = (range.length.0 as usize * BLOCK) as u32;
        self.fill = self.fill % 250 + 1;
        let (operation, value, buffer) = match kind {
            2 => (
                Operation::WriteZeroes {
                    deallocate: true,
                    durable,
                },
                0,
                None,
            ),
            3 => (Operation::Deallocate, 0, None),
            _ => {
                let buffer = self.world.memory.filled(bytes, self.fill);
                (Operation::Write { buffer, durable }, self.fill, Some(buffer))
            }
        };
        self.cells(volume, range)
            .iter_mut()
            .for_each(|cell| cell.values.push(value));
        let pending = Pending::Write {
            volume,
            range,
            durable,
            buffer,
        };
        self.submit(volume, Request { operation, range }, pending);
    }

    fn read(&mut self, input: &mut Input<'_>) {
        let Some((volume, range)) = self.range(input) else {
            return;
        };
        self.read_range(volume, range);
    }

    fn read_range(&mut self, volume: VolumeId, range: BlockRange) {
        let floors = self
            .cells(volume, range)
            .iter()
            .map(|cell| cell.acknowledged)
            .collect();
        let buffer = self
            .world
            .memory
            .filled((range.length.0 as usize * BLOCK) as u32, 0xEE);
        let operation = Operation::Read { buffer };
        let pending = Pending::Read {
            volume,
            range,
            buffer,
            floors,
        };
        self.submit(volume, Request { operation, range }, pending);
    }

    fn flush(&mut self, input: &mut Input<'_>) {
        let volume = volume(input.below(VOLUMES));
        let Some(cells) = self
            .volumes
            .get(&volume)
            .filter(|_| !self.doubtful.contains(&volume))
        else {
            return;
        };
        let floors = cells.iter().map(|cell| cell.acknowledged).collect();
        let request = Request {
            operation: Operation::Flush,
            range: BlockRange::new(0, 0),
        };
        self.submit(volume, request, Pending::Flush { volume, floors });
    }

    fn submit(&mut self, volume: VolumeId, request: Request, pending: Pending) {
        let (number, id) = self.id();
        self.pending.insert(number, pending);
        let world = &mut self.world;
        world
            .pool
            .submit(world.now, id, volume, request, &mut world.memory);
        world.drain();
    }

    fn create(&mut self, input: &mut Input<'_>) {
        let (volume, size) = (volume(input.below(VOLUMES)), 1 + input.below(BLOCKS_MAX as usize));
        if self.volumes.contains_key(&volume) {
            return;
        }
        self.volumes.insert(volume, vec![Cell::blank(); size]);
        self.doubtful.push(volume);
        let world = &mut self.world;
        world
            .pool
            .create_volume(world.now, volume, Blocks(size as u64), &mut world.memory);
        world.drain();
    }

    fn delete(&mut self, input: &mut Input<'_>) {
        let volume = volume(input.below(VOLUMES));
        let busy = self.pending.values().any(|pending| match pending {
            Pending::Write { volume: other, .. }
            | Pending::Read { volume: other, .. }
            | Pending::Flush { volume: other, .. } => *other == volume,
        });
        if busy || !self.volumes.contains_key(&volume) || self.doubtful.contains(&volume) {
            return;
        }
        self.doubtful.push(volume);
        let world = &mut self.world;
        world.pool.delete_volume(world.now, volume, &mut world.memory);
        world.drain();
    }

    fn listen(&mut self) {
        for said in std::mem::take(&mut self.world.said) {
            match said {
                PoolOutput::Complete { id, status } => self.completed(id.0, status),
                PoolOutput::VolumeCreated {
                    volume,
                    status: Status::Success,
                } => self.certain(volume),
                PoolOutput::VolumeDeleted {
                    volume,
                    status: Status::Success,
                } => {
                    self.certain(volume);
                    self.volumes.remove(&volume);
                }
                PoolOutput::VolumeCreated { .. } | PoolOutput::VolumeDeleted { .. } => {}
                other => panic!("{other:?} was not asked for"),
            }
        }
    }

    fn certain(&mut self, volume: VolumeId) {
        let before = self.doubtful.len();
        self.doubtful.retain(|doubtful| *doubtful != volume);
        assert_eq!(self.doubtful.len() + 1, before, "{volume:?}: answered once");
    }

    fn completed(&mut self, id: u64, status: Status) {
        let pending = self.pending.remove(&id).expect("every request ends once");
        assert!(
            !matches!(status, Status::Invalid | Status::OutOfRange),
            "{status:?}: {pending:?}"
        );
        let succeeded = status == Status::Success;
        if let Pending::Write {
            buffer: Some(buffer), ..
        } = &pending
        {
            self.world.memory.release(buffer.buffer);
        }
        match pending {
            Pending::Write {
                volume,
                range,
                durable,
                ..
            } if succeeded => {
                for cell in self.cells(volume, range) {
                    cell.acknowledged = cell.values.len() - 1;
                    if durable {
                        cell.durable = cell.acknowledged;
                    }
                }
            }
            Pending::Read {
                volume,
                range,
                buffer,
                floors,
            } => {
                if succeeded {
                    let bytes = self.world.memory.bytes(buffer).to_vec();
                    self.check(volume, range, &bytes, &floors);
                }
                self.world.memory.release(buffer.buffer);
            }
            Pending::Flush { volume, floors } if succeeded => {
                for (cell, floor) in self.volumes.get_mut(&volume).into_iter().flatten().zip(floors) {
                    cell.durable = cell.durable.max(floor);
                }
            }
            Pending::Write { .. } | Pending::Flush { .. } => {}
        }
    }

    fn check(&mut self, volume: VolumeId, range: BlockRange, bytes: &[u8], floors: &[usize]) {
        let cells = self.cells(volume, range).iter();
        for ((cell, floor), (index, block)) in cells.zip(floors).zip(bytes.chunks(BLOCK).enumerate()) {
            for sector in block.chunks(SECTOR) {
                let may = &cell.values[*floor..];
                let whole = sector == [sector[0]; SECTOR];
                let block = range.start.0 + index as u64;
                assert!(
                    whole && may.contains(&sector[0]),
                    "{volume:?} block {block} reads {}, may be {may:?}",
                    sector[0]
                );
            }
        }
    }

    /// The power fails, and the next owner opens the pool.
    fn cut(&mut self, input: &mut Input<'_>) {
        self.world.cut(input);
        self.pending.clear();
        assert_eq!(self.world.open(), Ok(()), "a pool that was cut off opens");
        let there: Vec<VolumeId> = self
            .world
            .pool
            .volumes()
            .iter()
            .map(|usage| usage.volume)
            .collect();
        for volume in std::mem::take(&mut self.doubtful) {
            if !there.contains(&volume) {
                self.volumes.remove(&volume);
            }
        }
        let known: Vec<VolumeId> = self.volumes.keys().copied().collect();
        assert_eq!(there, known, "which volumes there are");
        for volume in known {
            self.look_back(volume);
        }
        assert_eq!(self.world.pool.audit(), Ok(()));
    }

    /// After a power cut what is read is what is there from now on.
    fn look_back(&mut self, volume: VolumeId) {
        let size = self.volumes[&volume].len();
        for cell in self.volumes.get_mut(&volume).expect("known") {
            cell.acknowledged = cell.durable;
        }
        let range = BlockRange::new(0, size as u64);
        let buffer = self.world.memory.filled((size * BLOCK) as u32, 0xEE);
        let request = Request {
            operation: Operation::Read { buffer },
            range,
        };
        let (number, id) = self.id();
        let world = &mut self.world;
        world
            .pool
            .submit(world.now, id, volume, request, &mut world.memory);
        world.drain();
        world.settle();
        let said = std::mem::take(&mut world.said);
        let done = PoolOutput::Complete {
            id: RequestId(number),
            status: Status::Success,
        };
        assert_eq!(said, [done]);
        let bytes = world.memory.bytes(buffer).to_vec();
        world.memory.release(buffer.buffer);
        let floors: Vec<usize> = self.volumes[&volume].iter().map(|cell| cell.durable).collect();
        self.check(volume, range, &bytes, &floors);
        for (cell, block) in self
            .volumes
            .get_mut(&volume)
            .expect("known")
            .iter_mut()
            .zip(bytes.chunks(BLOCK))
        {
            *cell = Cell {
                values: block.chunks(SECTOR).map(|sector| sector[0]).collect(),
                ..Cell::blank()
            };
        }
    }

    /// Everything comes to rest; the pool is closed, and the next owner finds the same.
    fn end(mut self) {
        self.world.memory.refuse = 0;
        self.world.settle();
        self.listen();
        assert!(self.pending.is_empty(), "never answered: {:?}", self.pending);
        if self.world.pool.is_serving() {
            assert_eq!(self.world.pool.audit(), Ok(()));
            for (volume, size) in self.certain_volumes() {
                self.read_range(volume, BlockRange::new(0, size));
            }
            self.world.settle();
            self.listen();
        }
        self.world.pool.close(self.world.now, &mut self.world.memory);
        self.world.drain();
        self.world.settle();
        assert_eq!(self.world.memory.held(), 0, "buffers are held by nobody");
        self.cut(&mut Input::new(&[0xff, 0xff]));
    }

    fn certain_volumes(&self) -> Vec<(VolumeId, u64)> {
        let certain = self
            .volumes
            .iter()
            .filter(|(volume, _)| !self.doubtful.contains(volume));
        certain
            .map(|(volume, cells)| (*volume, cells.len() as u64))
            .collect()
    }
}
