//! Random stories: operations on a few volumes, several in flight, completing in any order.

use super::model::{Existence, FlushMark, Model};
use super::world::{Disk, Rng, SECTOR, SECTORS_PER_BLOCK, World, small_config, volume};
use block::thin::{Area, PoolConfig, PoolOutput, VolumeId};
use block::{BLOCK_SIZE, BlockRange, Blocks, BufferSlice, Memory, Operation, Request, RequestId, Status};
use std::collections::{BTreeMap, BTreeSet};

/// An operation in flight.
#[derive(Clone, Debug)]
enum InFlight {
    Read {
        number: u8,
        start: u64,
        buffer: BufferSlice,
    },
    Write {
        number: u8,
        start: u64,
        blocks: u64,
        durable: bool,
        buffer: Option<BufferSlice>,
    },
    Flush {
        mark: FlushMark,
    },
}

/// How a story runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plot {
    pub(crate) operations: u32,
    pub(crate) together: usize,
    pub(crate) volumes: u8,
    /// One request below in so many fails; 0 for none.
    pub(crate) faults: u64,
}

/// A story under way.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) world: World,
    pub(crate) model: Model,
    pub(crate) rng: Rng,
    plot: Plot,
    left: u32,
    in_flight: BTreeMap<RequestId, InFlight>,
    /// When each of them began, in events.
    began: BTreeMap<RequestId, u64>,
    events: u64,
    /// The last event after which there was no space to give.
    full: u64,
    verbs: BTreeMap<u8, &'static str>,
    /// Volumes whose deletion has failed.
    deleting: BTreeSet<u8>,
    next: u64,
    /// Writes that were not given space.
    pub(crate) out_of_space: u32,
}

impl Story {
    pub(crate) fn new(seed: u64, plot: Plot, config: PoolConfig) -> Story {
        Story {
            world: World::opened(config),
            model: Model::default(),
            rng: Rng(seed),
            plot,
            left: plot.operations,
            in_flight: BTreeMap::new(),
            began: BTreeMap::new(),
            events: 0,
            full: 0,
            verbs: BTreeMap::new(),
            deleting: BTreeSet::new(),
            next: 1,
            out_of_space: 0,
        }
    }

    /// More operations, after those of the plot.
    pub(crate) fn go_on(&mut self, operations: u32) {
        self.left += operations;
    }

    /// One event; false when the story is over.
    pub(crate) fn step(&mut self) -> bool {
        let may_begin = self.left > 0 && self.in_flight.len() + self.verbs.len() < self.plot.together;
        let queued = self.world.queue.len() as u64;
        if may_begin && (queued == 0 || self.rng.one_in(2)) {
            self.left -= 1;
            self.begin();
        } else if queued > 0 {
            let index = self.rng.below(queued) as usize;
            self.execute(index);
        } else if !self.world.tick() {
            assert!(
                self.in_flight.is_empty() && self.verbs.is_empty(),
                "something is forgotten"
            );
            return self.left > 0;
        }
        self.collect();
        true
    }

    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    fn execute(&mut self, index: usize) {
        if self.plot.faults == 0 || !self.rng.one_in(self.plot.faults) {
            return self.world.execute(index);
        }
        let data = self.world.queue[index].area == Area::Data;
        let media = data && self.rng.one_in(3);
        let status = if media {
            Status::MediaError
        } else {
            Status::Unavailable
        };
        let (whole, mut rng) = (self.rng.below(3), self.rng.clone());
        self.world.fail(index, status, || match whole {
            0 => false,
            1 => true,
            _ => rng.one_in(2),
        });
    }

    fn begin(&mut self) {
        let number = self.rng.below(self.plot.volumes.into()) as u8;
        if self.deleting.contains(&number) && !self.verbs.contains_key(&number) {
            return self.begin_delete(number);
        }
        let certain = self
            .model
            .volumes
            .get(&number)
            .is_some_and(|known| known.existence == Existence::Certain);
        if self.verbs.contains_key(&number) {
            return;
        }
        if !certain {
            return self.begin_create(number);
        }
        match self.rng.below(40) {
            0 => self.begin_delete(number),
            1 => self.begin_resize(number),
            2..=4 => self.begin_flush(number),
            choice => self.begin_io(number, choice),
        }
    }

    fn begin_create(&mut self, number: u8) {
        let known = self.model.volumes.get(&number).map(|known| known.sizes[0]);
        let size = known.unwrap_or_else(|| 1 + self.rng.below(22));
        if known.is_none() {
            self.model.create(number, size);
        }
        self.verbs.insert(number, "create");
        self.world.pool.create_volume(
            self.world.now,
            volume(number),
            Blocks(size),
            &mut self.world.memory,
        );
        self.world.drain();
    }

    fn begin_delete(&mut self, number: u8) {
        self.model.volumes.get_mut(&number).expect("known").existence = Existence::Doubtful;
        self.verbs.insert(number, "delete");
        self.deleting.remove(&number);
        self.world
            .pool
            .delete_volume(self.world.now, volume(number), &mut self.world.memory);
        self.world.drain();
    }

    fn begin_resize(&mut self, number: u8) {
        let size = self.size(number) + self.rng.below(4);
        self.model.resize(number, size);
        self.verbs.insert(number, "resize");
        self.world.pool.resize_volume(
            self.world.now,
            volume(number),
            Blocks(size),
            &mut self.world.memory,
        );
        self.world.drain();
    }

    fn size(&self, number: u8) -> u64 {
        self.world
            .pool
            .volume(volume(number))
            .expect("a certain volume is there")
            .size
            .0
    }

    fn begin_flush(&mut self, number: u8) {
        let mark = self.model.flush_begins();
        let request = Request {
            operation: Operation::Flush,
            range: BlockRange::default(),
        };
        self.submit(number, request, InFlight::Flush { mark });
    }

    fn submit(&mut self, number: u8, request: Request, entry: InFlight) {
        let id = RequestId(self.next);
        self.next += 1;
        self.in_flight.insert(id, entry);
        self.began.insert(id, self.events);
        self.world.pool.submit(
            self.world.now,
            id,
            volume(number),
            request,
            &mut self.world.memory,
        );
        self.world.drain();
    }

    fn begin_io(&mut self, number: u8, choice: u64) {
        let size = self.size(number);
        let start = self.rng.below(size);
        let blocks = 1 + self.rng.below((size - start).min(9));
        // Whole extents, often enough, to be given back.
        let aligned = choice >= 32 && size >= 4;
        let (start, blocks) = if aligned {
            (
                start / 4 * 4,
                (blocks.next_multiple_of(4)).min(size - start / 4 * 4),
            )
        } else {
            (start, blocks)
        };
        if self.overlaps(number, start, blocks) {
            return;
        }
        let (range, durable) = (BlockRange::new(start, blocks), self.rng.one_in(3));
        match choice {
            5..=13 => self.begin_read(number, range),
            14..=27 => self.begin_write(number, range, durable),
            28..=29 | 32..=34 => {
                let deallocate = choice != 28;
                self.begin_zero(
                    number,
                    range,
                    Operation::WriteZeroes { deallocate, durable },
                    durable,
                );
            }
            _ => self.begin_zero(number, range, Operation::Deallocate, false),
        }
    }

    fn overlaps(&self, number: u8, start: u64, blocks: u64) -> bool {
        let range = BlockRange::new(start, blocks);
        self.in_flight.values().any(|entry| match *entry {
            InFlight::Read {
                number: other,
                start,
                buffer,
            } => {
                let blocks = u64::from(buffer.length / BLOCK_SIZE);
                other == number && range.overlaps(BlockRange::new(start, blocks))
            }
            InFlight::Write {
                number: other,
                start,
                blocks,
                ..
            } => other == number && range.overlaps(BlockRange::new(start, blocks)),
            InFlight::Flush { .. } => false,
        })
    }

    fn begin_read(&mut self, number: u8, range: BlockRange) {
        let buffer = self
            .world
            .memory
            .allocate(range.length.bytes() as u32)
            .expect("memory");
        let entry = InFlight::Read {
            number,
            start: range.start.0,
            buffer,
        };
        self.submit(
            number,
            Request {
                operation: Operation::Read { buffer },
                range,
            },
            entry,
        );
    }

    fn begin_write(&mut self, number: u8, range: BlockRange, durable: bool) {
        let buffer = self
            .world
            .memory
            .allocate(range.length.bytes() as u32)
            .expect("memory");
        let (start, blocks, tag) = (range.start.0, range.length.0, self.next << 16);
        let sectors = self.world.memory.bytes_mut(buffer).chunks_exact_mut(SECTOR);
        for (index, sector) in sectors.enumerate() {
            for word in sector.chunks_exact_mut(8) {
                word.copy_from_slice(&(tag + index as u64).to_le_bytes());
            }
        }
        self.model
            .begin(number, start, blocks, |index| tag + index as u64);
        let entry = InFlight::Write {
            number,
            start,
            blocks,
            durable,
            buffer: Some(buffer),
        };
        self.submit(
            number,
            Request {
                operation: Operation::Write { buffer, durable },
                range,
            },
            entry,
        );
    }

    fn begin_zero(&mut self, number: u8, range: BlockRange, operation: Operation, durable: bool) {
        let (start, blocks) = (range.start.0, range.length.0);
        self.model.begin(number, start, blocks, |_| 0);
        let entry = InFlight::Write {
            number,
            start,
            blocks,
            durable,
            buffer: None,
        };
        self.submit(number, Request { operation, range }, entry);
    }

    /// Takes what the pool has said and tells the model.
    fn collect(&mut self) {
        self.note_usage();
        for output in self.world.take_said() {
            match output {
                PoolOutput::Complete { id, status } => self.completed(id, status),
                PoolOutput::VolumeCreated { volume, status } => self.verb_ended(volume, status, "create"),
                PoolOutput::VolumeDeleted { volume, status } => self.verb_ended(volume, status, "delete"),
                PoolOutput::VolumeResized { volume, status } => self.verb_ended(volume, status, "resize"),
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    fn note_usage(&mut self) {
        self.events += 1;
        let usage = self.world.pool.usage();
        let mapped: u64 = self.world.pool.volumes().iter().map(|known| known.mapped).sum();
        assert!(
            usage.used >= mapped && usage.used + usage.dirty + usage.clean == usage.total,
            "{usage:?}"
        );
        if usage.clean == 0 && (usage.dirty == 0 || self.plot.faults > 0) {
            self.full = self.events;
        }
    }

    fn completed(&mut self, id: RequestId, status: Status) {
        let entry = self.in_flight.remove(&id).expect("a request ends once");
        let began = self.began.remove(&id).expect("noted");
        self.check_status(status, began);
        match entry {
            InFlight::Read {
                number,
                start,
                buffer,
            } => {
                let values = values(self.world.memory.bytes(buffer));
                if status == Status::Success {
                    self.model
                        .check(number, start, &values, false)
                        .expect("reads are explained");
                }
                self.world.memory.release(buffer.buffer);
            }
            InFlight::Write {
                number,
                start,
                blocks,
                durable,
                buffer,
            } => {
                if status == Status::Success {
                    self.model.acknowledge(number, start, blocks, durable);
                }
                if let Some(buffer) = buffer {
                    self.world.memory.release(buffer.buffer);
                }
            }
            InFlight::Flush { mark } if status == Status::Success => self.model.flushed(&mark),
            InFlight::Flush { .. } => {}
        }
    }

    fn check_status(&mut self, status: Status, began: u64) {
        match status {
            Status::Success => {}
            Status::OutOfSpace => {
                self.out_of_space += 1;
                assert!(
                    self.full > began,
                    "space refused though there was some: {:?}",
                    self.world.pool.usage()
                );
            }
            Status::Unavailable | Status::MediaError => {
                assert!(self.plot.faults > 0, "{status:?} without faults")
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn verb_ended(&mut self, volume: VolumeId, status: Status, verb: &str) {
        let number = volume.0[0];
        assert_eq!(self.verbs.remove(&number), Some(verb));
        assert!(
            status == Status::Success || self.plot.faults > 0,
            "{verb} ends {status:?}"
        );
        match (verb, status) {
            ("delete", Status::Success) => {
                self.model.volumes.remove(&number);
            }
            // It may come true later; it is asked for again until it is known, as its caller would.
            ("delete", _) => {
                self.deleting.insert(number);
            }
            (_, Status::Success) => {
                let known = self.model.volumes.get_mut(&number).expect("known");
                known.existence = Existence::Certain;
                known.sizes = vec![*known.sizes.last().expect("a size")];
            }
            _ => {}
        }
    }

    /// The process dies, and with it what was in flight; then the pool is opened again.
    pub(crate) fn crash(&mut self, lossy: bool) {
        self.in_flight.clear();
        self.began.clear();
        self.verbs.clear();
        self.deleting.clear();
        if let Err(reason) = self.world.reopen() {
            panic!("the pool does not open: {reason}");
        }
        self.audit(lossy);
    }

    /// The same past, over another disk; the pool has not been opened yet.
    pub(crate) fn fork(&self, disk: Disk) -> Story {
        Story {
            world: World::opening(self.world.config, disk),
            model: self.model.clone(),
            rng: self.rng.clone(),
            in_flight: BTreeMap::new(),
            began: BTreeMap::new(),
            verbs: BTreeMap::new(),
            deleting: BTreeSet::new(),
            ..*self
        }
    }

    /// The process dies, and the next one has begun to open the pool.
    pub(crate) fn begin_crash(&mut self) {
        self.in_flight.clear();
        self.began.clear();
        self.verbs.clear();
        self.deleting.clear();
        self.world = World::opening(self.world.config, self.world.disk.clone());
    }

    /// Reads everything there is and holds it against the model. `lossy`: a power cut lies between.
    pub(crate) fn audit(&mut self, lossy: bool) {
        assert_eq!(self.world.pool.audit(), Ok(()));
        self.audit_volumes();
        for number in self.model.volumes.keys().copied().collect::<Vec<_>>() {
            let values = self.read_all(number);
            self.model
                .check(number, 0, &values, lossy)
                .expect("what is read after a crash is explained");
            if lossy {
                self.model.observed(number, &values);
            }
        }
    }

    /// What is there must be known, what is certain must be there; whatever is doubtful is settled by what is there.
    fn audit_volumes(&mut self) {
        let there: BTreeMap<u8, u64> = self
            .world
            .pool
            .volumes()
            .iter()
            .map(|known| (known.volume.0[0], known.size.0))
            .collect();
        for (number, known) in &self.model.volumes {
            let size = there.get(number);
            assert!(
                size.is_some() || known.existence == Existence::Doubtful,
                "volume {number} is lost"
            );
            assert!(
                size.is_none_or(|size| known.sizes.contains(size)),
                "volume {number} has {size:?}"
            );
        }
        for number in there.keys() {
            assert!(self.model.volumes.contains_key(number), "volume {number} is back");
        }
        self.model.volumes.retain(|number, _| there.contains_key(number));
        for (number, known) in &mut self.model.volumes {
            known.existence = Existence::Certain;
            known.sizes = vec![there[number]];
        }
    }

    fn read_all(&mut self, number: u8) -> Vec<u64> {
        let size = self.size(number);
        let buffer = self
            .world
            .memory
            .allocate(size as u32 * BLOCK_SIZE)
            .expect("memory");
        let request = Request {
            operation: Operation::Read { buffer },
            range: BlockRange::new(0, size),
        };
        let id = RequestId(self.next);
        self.next += 1;
        self.world.pool.submit(
            self.world.now,
            id,
            volume(number),
            request,
            &mut self.world.memory,
        );
        self.world.drain();
        let ended = PoolOutput::Complete {
            id,
            status: Status::Success,
        };
        self.world.settle_until(|output| *output == ended);
        assert_eq!(self.world.take_said(), [ended]);
        let values = values(self.world.memory.bytes(buffer));
        self.world.memory.release(buffer.buffer);
        values
    }

    /// Lets the pool come to rest: then nothing is dirty, nothing is lost, and what is not mapped is zero.
    pub(crate) fn rest(&mut self) {
        self.world.settle();
        self.collect();
        let usage = self.world.pool.usage();
        assert_eq!(
            (usage.dirty, usage.used + usage.clean),
            (0, usage.total),
            "space leaks: {usage:?}"
        );
        assert!(self.world.unmapped_is_zero(), "old data lies in clean extents");
    }
}

/// The tag of each sector; its words must agree, for a sector does not tear.
fn values(bytes: &[u8]) -> Vec<u64> {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let sectors = bytes.chunks_exact(SECTOR);
    let values: Vec<u64> = sectors
        .map(|sector| {
            assert!(
                sector
                    .chunks_exact(8)
                    .all(|other| word(other) == word(&sector[..8])),
                "a mixed sector"
            );
            word(&sector[..8])
        })
        .collect();
    assert_eq!(values.len() % SECTORS_PER_BLOCK, 0);
    values
}

fn close_and_reopen(story: &mut Story) {
    story.world.pool.close(story.world.now, &mut story.world.memory);
    story.world.drain();
    story.world.settle();
    assert_eq!(story.world.take_said(), [PoolOutput::Closed]);
    assert_eq!(story.world.memory.held(), 0, "buffers are given back");
    story.crash(false);
}

#[test]
fn random_stories_agree_with_the_oracle() {
    let mut out_of_space = 0;
    for seed in 0..300 {
        let plot = Plot {
            operations: 150,
            together: 1 + seed as usize % 8,
            volumes: 3,
            faults: 0,
        };
        let mut story = Story::new(seed, plot, small_config());
        story.run();
        story.audit(false);
        story.rest();
        out_of_space += story.out_of_space;
        close_and_reopen(&mut story);
        story.rest();
    }
    assert!(out_of_space > 20, "the stories do fill the pool: {out_of_space}");
}

#[test]
fn random_stories_with_faults_agree_with_the_oracle() {
    for seed in 1000..1300 {
        let plot = Plot {
            operations: 150,
            together: 1 + seed as usize % 8,
            volumes: 3,
            faults: 4 + seed % 20,
        };
        let mut story = Story::new(seed, plot, small_config());
        story.run();
        story.plot.faults = 0;
        story.world.settle();
        story.collect();
        let mapped: u64 = story.world.pool.volumes().iter().map(|known| known.mapped).sum();
        assert_eq!(
            story.world.pool.usage().used,
            mapped,
            "an extent stays set aside for nobody"
        );
        story.crash(false);
        story.rest();
    }
}
