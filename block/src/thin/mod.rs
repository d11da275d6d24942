//! The thin pool: gives space to volumes by the extent, on first write.
//!
//! Unwritten space reads as zeroes and costs nothing. The map from volumes to extents is held in memory and, durably, as
//! two checkpoint slots and a journal in the pool's metadata area (docs/formats.md). A pool is a machine: requests to
//! volumes come from above, requests to two [`Area`]s go below, and after every verb the owner drains
//! [`Pool::poll_output`].
//!
//! What it deliberately is not: it does not touch payload bytes (the owner fills with zeroes what
//! [`PoolOutput::Zero`] names), it does not know legs, mirrors or epochs of legs, it has no snapshots yet (records name
//! nodes, so that a tree of them can follow), and it never formats because something could not be read (R9).
//!
//! Invariants:
//! * An extent is clean (zeroes, durably), or dirty, or mapped by exactly one place of one volume.
//! * The map in memory changes only when the record that says so is durable: what memory knows, the next owner will.
//! * A write reaches an extent only once its mapping is durable; extents that are given out are zero
//!   (docs/decisions/0002).
//! * One journal block is in flight at a time: only the newest one can be torn, and that one was never acknowledged.
//! * Extents given back are zeroed, flushed, recorded as clean, and only then given out again (R10).

mod checkpoint;
mod checkpoint_writer;
mod cleaner;
mod config;
mod extent_set;
mod journal;
mod journal_block;
mod ledger;
mod map;
mod nodes;
mod outbox;
mod places;
mod record;
mod replay;
mod requests;
mod serving;
mod start;
mod verbs;

use crate::{Blocks, BufferSlice, Duration, Memory, Request, RequestId, Status, SubRequestId, Time};
use config::Geometry;
pub use config::{Area, Failure, PoolConfig, VolumeId};
use ledger::Ledger;
use outbox::{Outbox, Turn};
use serving::Serving;
use start::{Buffers, Formatter, OpenedMap, Opener, Progress};
use verbs::Verb;

/// Until a request below that ended `Unavailable` is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Until a buffer is asked for again.
const MEMORY_RETRY: Duration = Duration::from_millis(10);
/// Of checkpoints, in one request: 128 KiB.
const METADATA_CHUNK_BLOCKS: u64 = 32;
/// Zeroed by one request: 8 MiB.
const ZERO_STEP_BLOCKS: u64 = 2048;
/// Zeroed before one flush: 64 MiB, or an extent.
const CLEAN_BATCH_BLOCKS: u64 = 16384;

/// What a pool wants of its owner; take these in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolOutput {
    /// A request to the layer below; answer with [`Pool::below_completed`].
    Below {
        /// The pool's name for it: a [`crate::Slot`].
        id: SubRequestId,
        /// Where.
        area: Area,
        /// What. The range is in blocks of the area.
        request: Request,
    },
    /// Fill this part of a read's payload with zeroes, before taking the next output: the space was never written.
    Zero {
        /// The bytes to clear.
        buffer: BufferSlice,
    },
    /// A request from above has ended.
    Complete {
        /// Its name.
        id: RequestId,
        /// How.
        status: Status,
    },
    /// An empty map is durable. The machine has ended; its owner records the fact (R9), then opens.
    Formatted,
    /// The pool could not be formatted. The machine has ended.
    FormatFailed {
        /// Why.
        reason: Failure,
    },
    /// The map is in memory and under this owner: requests and verbs are accepted from here on.
    Opened,
    /// The pool could not be opened. The machine has ended.
    OpenFailed {
        /// Why.
        reason: Failure,
    },
    /// [`Pool::create_volume`] has ended.
    VolumeCreated {
        /// Which.
        volume: VolumeId,
        /// How.
        status: Status,
    },
    /// [`Pool::delete_volume`] has ended.
    VolumeDeleted {
        /// Which.
        volume: VolumeId,
        /// How.
        status: Status,
    },
    /// [`Pool::resize_volume`] has ended.
    VolumeResized {
        /// Which.
        volume: VolumeId,
        /// How.
        status: Status,
    },
    /// Nothing is in flight and no buffer is held any more. The machine has ended.
    Closed,
}

/// Extents of a pool by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the data area.
    pub total: u64,
    /// Mapped by volumes, or about to be.
    pub used: u64,
    /// Given back and not yet zeroed.
    pub dirty: u64,
    /// Ready to be given out.
    pub clean: u64,
}

/// A volume as the pool knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Which.
    pub volume: VolumeId,
    /// What its host sees.
    pub size: Blocks,
    /// Extents it has been given.
    pub mapped: u64,
}

/// A thin pool that is being formatted, opened, served or closed.
#[derive(Debug)]
pub struct Pool {
    config: PoolConfig,
    outbox: Outbox,
    stage: Stage,
    closing: bool,
}

#[derive(Debug)]
enum Stage {
    /// Waits for buffers.
    Hungry {
        start: Start,
        geometry: Geometry,
        retry: Time,
    },
    Formatting(Formatter),
    Opening(Opener),
    Serving(Box<Serving>),
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Format,
    Open,
}

impl Pool {
    /// Starts to write an empty map over the metadata area. Ends with [`PoolOutput::Formatted`] or
    /// [`PoolOutput::FormatFailed`]; only for an area that the store does not say has been formatted (R9).
    pub fn format(config: PoolConfig, now: Time, memory: &mut dyn Memory) -> Pool {
        Pool::start(Start::Format, config, now, memory)
    }

    /// Starts to read the map. Ends with [`PoolOutput::Opened`] or [`PoolOutput::OpenFailed`].
    pub fn open(config: PoolConfig, now: Time, memory: &mut dyn Memory) -> Pool {
        Pool::start(Start::Open, config, now, memory)
    }

    fn start(start: Start, config: PoolConfig, now: Time, memory: &mut dyn Memory) -> Pool {
        let mut pool = Pool {
            config,
            outbox: Outbox::default(),
            stage: Stage::Ended,
            closing: false,
        };
        match Geometry::plan(&config) {
            Ok(geometry) => {
                pool.stage = Stage::Hungry {
                    start,
                    geometry,
                    retry: now,
                };
                pool.handle_timeout(now, memory);
            }
            Err(reason) => pool.outbox.push(start.failure(reason)),
        }
        pool
    }

    /// Makes a volume. Answers [`PoolOutput::VolumeCreated`]: `Success` also if it exists with this size, `Invalid` if
    /// with another or if the size is not possible, `OutOfSpace` if the map has no room, `Unavailable` while another verb
    /// on it is under way.
    pub fn create_volume(&mut self, now: Time, volume: VolumeId, size: Blocks, memory: &mut dyn Memory) {
        self.begin_verb(Verb::Create, volume, size, now, memory);
    }

    /// Removes a volume; what is in flight to it ends first, new requests end `Invalid`. Answers
    /// [`PoolOutput::VolumeDeleted`]: `Success` also if there is none.
    pub fn delete_volume(&mut self, now: Time, volume: VolumeId, memory: &mut dyn Memory) {
        self.begin_verb(Verb::Delete, volume, Blocks(0), now, memory);
    }

    /// Makes a volume larger. Answers [`PoolOutput::VolumeResized`]: `Invalid` for a smaller size or an unknown volume.
    pub fn resize_volume(&mut self, now: Time, volume: VolumeId, size: Blocks, memory: &mut dyn Memory) {
        self.begin_verb(Verb::Resize, volume, size, now, memory);
    }

    fn begin_verb(&mut self, verb: Verb, volume: VolumeId, size: Blocks, now: Time, memory: &mut dyn Memory) {
        let outbox = &mut self.outbox;
        match &mut self.stage {
            Stage::Serving(serving) => {
                serving.begin_verb(verb, volume, size, &mut Turn { now, outbox, memory })
            }
            _ => verbs::answer(verb, volume, Status::Unavailable, outbox),
        }
    }

    /// A request to a volume, in blocks of the volume. Answers [`PoolOutput::Complete`]: `Invalid` for an unknown
    /// volume or a payload of another length than the range, `OutOfRange` behind the volume's end, `OutOfSpace` for a
    /// first write when nothing is left to give (if space is about to be clean, the write waits for it).
    ///
    /// `WriteZeroes` with `deallocate`, and `Deallocate`, give back every extent they cover wholly, and clear the rest.
    ///
    /// No other request of this name may be in flight.
    pub fn submit(
        &mut self,
        now: Time,
        id: RequestId,
        volume: VolumeId,
        request: Request,
        memory: &mut dyn Memory,
    ) {
        let outbox = &mut self.outbox;
        match &mut self.stage {
            Stage::Serving(serving) => serving.submit(id, volume, request, &mut Turn { now, outbox, memory }),
            _ => outbox.push(PoolOutput::Complete {
                id,
                status: Status::Unavailable,
            }),
        }
    }

    /// A [`PoolOutput::Below`] has ended.
    ///
    /// # Panics
    /// If there was none of this name, or it has ended before.
    pub fn below_completed(&mut self, now: Time, id: SubRequestId, status: Status, memory: &mut dyn Memory) {
        let purpose = self.outbox.completed(id);
        let mut turn = Turn {
            now,
            outbox: &mut self.outbox,
            memory,
        };
        match &mut self.stage {
            Stage::Formatting(formatter) if !self.closing => {
                let progress = formatter.completed(status, &mut turn);
                self.formatted(progress, memory);
            }
            Stage::Opening(opener) if !self.closing => {
                let progress = opener.completed(status, &mut turn);
                self.opened(progress, now, memory);
            }
            Stage::Serving(serving) => serving.completed(purpose, status, &mut turn),
            Stage::Formatting(_) | Stage::Opening(_) | Stage::Hungry { .. } | Stage::Ended => {}
        }
        self.end_if_closed(now, memory);
    }

    fn formatted(&mut self, progress: Progress<()>, memory: &mut dyn Memory) {
        match progress {
            Progress::Underway => {}
            Progress::Done(()) => self.end(PoolOutput::Formatted, memory),
            Progress::Failed(reason) => self.end(PoolOutput::FormatFailed { reason }, memory),
        }
    }

    fn opened(&mut self, progress: Progress<OpenedMap>, now: Time, memory: &mut dyn Memory) {
        match (progress, &self.stage) {
            (Progress::Done(opened), Stage::Opening(opener)) => {
                let ledger = Ledger::new(self.config, opener.geometry(), opener.buffers(), opened);
                self.outbox.push(PoolOutput::Opened);
                let turn = &mut Turn {
                    now,
                    outbox: &mut self.outbox,
                    memory,
                };
                self.stage = Stage::Serving(Box::new(Serving::start(ledger, turn)));
            }
            (Progress::Failed(reason), _) => self.end(PoolOutput::OpenFailed { reason }, memory),
            _ => {}
        }
    }

    /// Gives the buffers back and says the last word.
    fn end(&mut self, last: PoolOutput, memory: &mut dyn Memory) {
        let buffers = match core::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Formatting(formatter) => Some(formatter.buffers()),
            Stage::Opening(opener) => Some(opener.buffers()),
            Stage::Serving(serving) => Some(serving.ledger.buffers()),
            Stage::Hungry { .. } | Stage::Ended => None,
        };
        if let Some(buffers) = buffers {
            buffers.release(memory);
        }
        self.outbox.push(last);
    }

    /// Time has come to what [`Pool::next_timeout`] said.
    pub fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        let mut turn = Turn {
            now,
            outbox: &mut self.outbox,
            memory,
        };
        match &mut self.stage {
            Stage::Hungry {
                start,
                geometry,
                retry,
            } if *retry <= now => {
                let (start, geometry) = (*start, *geometry);
                *retry = now + MEMORY_RETRY;
                if let Some(buffers) = Buffers::allocate(turn.memory) {
                    self.stage = start.stage(self.config, geometry, buffers, &mut turn);
                }
            }
            Stage::Formatting(formatter) => formatter.handle_timeout(&mut turn),
            Stage::Opening(opener) => opener.handle_timeout(&mut turn),
            Stage::Serving(serving) => serving.handle_timeout(&mut turn),
            Stage::Hungry { .. } | Stage::Ended => {}
        }
        self.end_if_closed(now, memory);
    }

    /// Ends the machine: new requests end `Unavailable`, what is in flight ends, a checkpoint is written if it can be.
    /// Answers [`PoolOutput::Closed`], at once if the machine has ended already.
    pub fn close(&mut self, now: Time, memory: &mut dyn Memory) {
        if let Stage::Ended = self.stage {
            return self.outbox.push(PoolOutput::Closed);
        }
        self.closing = true;
        if let Stage::Serving(serving) = &mut self.stage {
            serving.close(&mut Turn {
                now,
                outbox: &mut self.outbox,
                memory,
            });
        }
        self.end_if_closed(now, memory);
    }

    fn end_if_closed(&mut self, now: Time, memory: &mut dyn Memory) {
        let closed = match &mut self.stage {
            _ if !self.closing => false,
            Stage::Serving(serving) => serving.poll_closed(&mut Turn {
                now,
                outbox: &mut self.outbox,
                memory,
            }),
            Stage::Hungry { .. } | Stage::Formatting(_) | Stage::Opening(_) => self.outbox.is_quiet(),
            Stage::Ended => false,
        };
        if closed {
            self.end(PoolOutput::Closed, memory);
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<PoolOutput> {
        self.outbox.poll()
    }

    /// When [`Pool::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Time> {
        match &self.stage {
            Stage::Hungry { retry, .. } => Some(*retry),
            Stage::Formatting(formatter) => formatter.next_timeout(),
            Stage::Opening(opener) => opener.next_timeout(),
            Stage::Serving(serving) => serving.next_timeout(),
            Stage::Ended => None,
        }
    }

    /// Whether requests are accepted: opened, not fenced, not closing.
    pub fn is_serving(&self) -> bool {
        matches!(&self.stage, Stage::Serving(serving) if serving.refusal().is_none())
    }

    fn map(&self) -> Option<&map::Map> {
        match &self.stage {
            Stage::Serving(serving) => Some(&serving.ledger.map),
            _ => None,
        }
    }

    /// Extents by what they are; all zero before the pool is open.
    pub fn usage(&self) -> Usage {
        self.map().map(map::Map::usage).unwrap_or_default()
    }

    /// Every volume, by identifier; none before the pool is open.
    pub fn volumes(&self) -> Vec<VolumeUsage> {
        self.map().map(map::Map::volumes).unwrap_or_default()
    }

    /// One volume.
    pub fn volume(&self, volume: VolumeId) -> Option<VolumeUsage> {
        self.map()?.volume(volume)
    }

    /// Where a volume's extents lie, for audits: offset in the volume, and in the data area, both in extents.
    pub fn mapping(&self, volume: VolumeId) -> Vec<(u32, u32)> {
        self.map().map(|map| map.mapping(volume)).unwrap_or_default()
    }

    /// Walks the whole map and says whether any extent is two things, or lost; for tests and audits.
    pub fn audit(&self) -> Result<(), &'static str> {
        self.map().map_or(Ok(()), map::Map::audit)
    }
}

impl Start {
    fn stage(self, config: PoolConfig, geometry: Geometry, buffers: Buffers, turn: &mut Turn) -> Stage {
        match self {
            Start::Format => Stage::Formatting(Formatter::start(config, geometry, buffers, turn)),
            Start::Open => Stage::Opening(Opener::start(config, geometry, buffers, turn)),
        }
    }

    fn failure(self, reason: Failure) -> PoolOutput {
        match self {
            Start::Format => PoolOutput::FormatFailed { reason },
            Start::Open => PoolOutput::OpenFailed { reason },
        }
    }
}
