//! Formatting and opening: what happens before a pool serves.
//!
//! Formatting writes zeroes over the whole metadata area, then the first checkpoint. Opening flushes (what it is going to read must
//! not be lost afterwards), reads both checkpoint headers, the body of the newest (of the older if that is damaged), the
//! whole journal, replays it, and writes a checkpoint of its own: from then on no block of an earlier opening counts.

use super::checkpoint::{self, CheckpointHeader, Position, Snapshot};
use super::checkpoint_writer::CheckpointWriter;
use super::config::{Area, Failure, Geometry, PoolConfig};
use super::map::Map;
use super::outbox::{Purpose, Turn};
use super::record::NodeId;
use super::replay::replay;
use super::{METADATA_CHUNK_BLOCKS, RETRY, ZERO_STEP_BLOCKS};
use crate::{BLOCK_SIZE, BlockRange, BufferSlice, Memory, Operation, Status, Time};

/// The buffers that a pool holds from its start to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers {
    /// One block, for the journal.
    pub(super) journal: BufferSlice,
    /// [`METADATA_CHUNK_BLOCKS`], for checkpoints and for reading.
    pub(super) chunk: BufferSlice,
}

impl Buffers {
    pub(super) fn allocate(memory: &mut dyn Memory) -> Option<Buffers> {
        let journal = memory.allocate(BLOCK_SIZE)?;
        let Some(chunk) = memory.allocate(METADATA_CHUNK_BLOCKS as u32 * BLOCK_SIZE) else {
            memory.release(journal.buffer);
            return None;
        };
        Some(Buffers { journal, chunk })
    }

    pub(super) fn release(self, memory: &mut dyn Memory) {
        memory.release(self.journal.buffer);
        memory.release(self.chunk.buffer);
    }
}

/// What has come of a step.
#[derive(Debug)]
pub(super) enum Progress<T> {
    /// More to do.
    Underway,
    /// The end.
    Done(T),
    /// Another end.
    Failed(Failure),
}

/// Whether a status lets one try again, and if not, what it means for a start.
fn fatal(status: Status) -> Option<Failure> {
    match status {
        Status::Success | Status::Unavailable => None,
        Status::StaleEpoch => Some(Failure::Fenced),
        Status::MediaError | Status::OutOfSpace | Status::OutOfRange | Status::Invalid => {
            Some(Failure::Media)
        }
    }
}

/// Writes an empty map.
#[derive(Debug)]
pub(super) struct Formatter {
    config: PoolConfig,
    geometry: Geometry,
    buffers: Buffers,
    zeroed: u64,
    writer: Option<CheckpointWriter>,
    retry: Option<Time>,
}

impl Formatter {
    pub(super) fn start(
        config: PoolConfig,
        geometry: Geometry,
        buffers: Buffers,
        turn: &mut Turn,
    ) -> Formatter {
        let mut formatter = Formatter {
            config,
            geometry,
            buffers,
            zeroed: 0,
            writer: None,
            retry: None,
        };
        formatter.send(turn);
        formatter
    }

    pub(super) fn buffers(&self) -> Buffers {
        self.buffers
    }

    fn step_blocks(&self) -> u64 {
        (self.config.metadata.0 - self.zeroed).min(ZERO_STEP_BLOCKS)
    }

    fn send(&mut self, turn: &mut Turn) {
        let steps = self.step_blocks();
        if steps == 0 {
            let map = Map::new(self.geometry.extents, NodeId(1));
            let first = Position {
                sequence: 1,
                opening: 0,
                journal_start: 0,
            };
            let snapshot = Snapshot::take(&self.config, &self.geometry, &map, first);
            self.writer = Some(CheckpointWriter::start(
                snapshot,
                &self.geometry,
                self.buffers.chunk,
                turn,
            ));
        } else {
            let operation = Operation::WriteZeroes {
                deallocate: false,
                durable: true,
            };
            let range = BlockRange::new(self.zeroed, steps);
            turn.outbox.send(Purpose::Start, Area::Metadata, operation, range);
        }
    }

    pub(super) fn completed(&mut self, status: Status, turn: &mut Turn) -> Progress<()> {
        if let Some(failure) = fatal(status) {
            return Progress::Failed(failure);
        }
        if let Some(writer) = &mut self.writer {
            return writer
                .completed(status, turn)
                .map_or(Progress::Underway, |_| Progress::Done(()));
        }
        if status == Status::Success {
            self.zeroed += self.step_blocks();
            self.send(turn);
        } else {
            self.retry = Some(turn.now + RETRY);
        }
        Progress::Underway
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.writer
            .as_ref()
            .map_or(self.retry, CheckpointWriter::next_timeout)
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn) {
        if let Some(writer) = &mut self.writer {
            writer.handle_timeout(turn);
        } else if self.retry.take_if(|retry| *retry <= turn.now).is_some() {
            self.send(turn);
        }
    }
}

/// A map that has been read, under a durable checkpoint of this opening.
#[derive(Debug)]
pub(super) struct OpenedMap {
    pub(super) map: Map,
    pub(super) header: CheckpointHeader,
}

/// Reads the map.
#[derive(Debug)]
pub(super) struct Opener {
    config: PoolConfig,
    geometry: Geometry,
    buffers: Buffers,
    step: Step,
    /// Whole headers, the newest last.
    headers: Vec<CheckpointHeader>,
    /// The newest that any header names.
    opening: u32,
    retry: Option<Time>,
}

#[derive(Debug)]
enum Step {
    Flush,
    Header {
        slot: u8,
        run: Run,
    },
    Body {
        header: CheckpointHeader,
        run: Run,
    },
    Journal {
        header: CheckpointHeader,
        map: Box<Map>,
        run: Run,
    },
    Checkpoint {
        map: Box<Map>,
        writer: CheckpointWriter,
    },
    Ended,
}

/// Blocks that are being read, a chunk at a time.
#[derive(Debug)]
struct Run {
    start: u64,
    blocks: u64,
    bytes: Vec<u8>,
}

impl Run {
    fn new(start: u64, blocks: u64) -> Run {
        Run {
            start,
            blocks,
            bytes: Vec::with_capacity(blocks as usize * BLOCK_SIZE as usize),
        }
    }

    fn chunk(&self) -> BlockRange {
        let read = self.bytes.len() as u64 / u64::from(BLOCK_SIZE);
        BlockRange::new(self.start + read, (self.blocks - read).min(METADATA_CHUNK_BLOCKS))
    }

    fn is_complete(&self) -> bool {
        self.chunk().length.0 == 0
    }
}

impl Opener {
    pub(super) fn start(config: PoolConfig, geometry: Geometry, buffers: Buffers, turn: &mut Turn) -> Opener {
        let (step, headers) = (Step::Flush, Vec::new());
        let mut opener = Opener {
            config,
            geometry,
            buffers,
            step,
            headers,
            opening: 0,
            retry: None,
        };
        opener.send(turn);
        opener
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(super) fn buffers(&self) -> Buffers {
        self.buffers
    }

    fn send(&mut self, turn: &mut Turn) {
        let (operation, range) = match &self.step {
            Step::Flush => (Operation::Flush, BlockRange::default()),
            Step::Header { run, .. } | Step::Body { run, .. } | Step::Journal { run, .. } => {
                let range = run.chunk();
                let buffer = self.buffers.chunk.part(0, range.length.0 as u32 * BLOCK_SIZE);
                (Operation::Read { buffer }, range)
            }
            Step::Checkpoint { .. } | Step::Ended => return,
        };
        turn.outbox.send(Purpose::Start, Area::Metadata, operation, range);
    }

    pub(super) fn completed(&mut self, status: Status, turn: &mut Turn) -> Progress<OpenedMap> {
        let damaged_slot =
            status == Status::MediaError && matches!(self.step, Step::Header { .. } | Step::Body { .. });
        if let Some(failure) = fatal(status).filter(|_| !damaged_slot) {
            return Progress::Failed(failure);
        }
        if let Step::Checkpoint { writer, .. } = &mut self.step {
            let written = writer.completed(status, turn);
            return written.map_or(Progress::Underway, |header| self.finish(header));
        }
        if status == Status::Unavailable {
            self.retry = Some(turn.now + RETRY);
            return Progress::Underway;
        }
        match self.advance(damaged_slot, turn) {
            Ok(()) => Progress::Underway,
            Err(failure) => Progress::Failed(failure),
        }
    }

    fn finish(&mut self, header: CheckpointHeader) -> Progress<OpenedMap> {
        match core::mem::replace(&mut self.step, Step::Ended) {
            Step::Checkpoint { map, .. } => Progress::Done(OpenedMap { map: *map, header }),
            _ => unreachable!("only a checkpoint finishes an opening"),
        }
    }

    /// A read or the flush has ended; `damaged`: a slot could not be read.
    fn advance(&mut self, damaged: bool, turn: &mut Turn) -> Result<(), Failure> {
        if !damaged && let Some(run) = self.step.run() {
            let length = run.chunk().length.0 as u32 * BLOCK_SIZE;
            run.bytes
                .extend_from_slice(turn.memory.bytes(self.buffers.chunk.part(0, length)));
            if !run.is_complete() {
                self.send(turn);
                return Ok(());
            }
        }
        self.step = match core::mem::replace(&mut self.step, Step::Ended) {
            Step::Flush => self.header_step(0),
            Step::Header { slot, run } => {
                if !damaged {
                    self.note_header(slot, &run.bytes)?;
                }
                if slot == 0 {
                    self.header_step(1)
                } else {
                    self.body_step()?
                }
            }
            Step::Body { header, run } => self.body_read(header, &run.bytes, damaged)?,
            Step::Journal { header, map, run } => self.journal_read(&header, map, &run.bytes, turn)?,
            Step::Checkpoint { .. } | Step::Ended => unreachable!("nothing of these is a read"),
        };
        self.skip_empty_body()?;
        self.send(turn);
        Ok(())
    }

    /// An empty map has no body to read.
    fn skip_empty_body(&mut self) -> Result<(), Failure> {
        if let Step::Body { header, run } = &self.step
            && run.is_complete()
        {
            self.step = self.body_read(*header, &[], false)?;
        }
        Ok(())
    }

    fn header_step(&self, slot: u8) -> Step {
        Step::Header {
            slot,
            run: Run::new(self.geometry.slot_start(slot), 1),
        }
    }

    fn note_header(&mut self, slot: u8, bytes: &[u8]) -> Result<(), Failure> {
        let Some(header) = CheckpointHeader::parse(bytes)? else {
            return Ok(());
        };
        header.check(&self.config, &self.geometry)?;
        self.opening = self.opening.max(header.opening);
        if header.slot() == slot && header.body_blocks() < self.geometry.slot_blocks {
            self.headers.push(header);
            self.headers.sort_by_key(|header| header.sequence);
        }
        Ok(())
    }

    fn body_step(&mut self) -> Result<Step, Failure> {
        let header = self.headers.pop().ok_or(Failure::NoCheckpoint)?;
        let start = self.geometry.slot_start(header.slot()) + 1;
        Ok(Step::Body {
            header,
            run: Run::new(start, header.body_blocks()),
        })
    }

    /// If the newer checkpoint is damaged the older one will do, as long as the journal behind it is all there: the
    /// replay sees to that.
    fn body_read(&mut self, header: CheckpointHeader, body: &[u8], damaged: bool) -> Result<Step, Failure> {
        let map = if damaged {
            None
        } else {
            checkpoint::build(&header, body, self.geometry.extents)?
        };
        let Some(map) = map else {
            return self.body_step();
        };
        let start = self.geometry.journal_block(0);
        Ok(Step::Journal {
            header,
            map: Box::new(map),
            run: Run::new(start, self.geometry.journal_blocks),
        })
    }

    fn journal_read(
        &mut self,
        header: &CheckpointHeader,
        mut map: Box<Map>,
        journal: &[u8],
        turn: &mut Turn,
    ) -> Result<Step, Failure> {
        let replayed = replay(header, self.config.epoch, journal, &mut map)?;
        map.audit().map_err(|what| Failure::MapInconsistent { what })?;
        if map
            .volumes()
            .iter()
            .any(|volume| !self.geometry.allows(volume.size))
        {
            let what = "a volume has a size that none can have";
            return Err(Failure::MapInconsistent { what });
        }
        let position = Position {
            sequence: header.sequence + 1,
            opening: replayed.opening.max(self.opening) + 1,
            journal_start: replayed.next,
        };
        let snapshot = Snapshot::take(&self.config, &self.geometry, &map, position);
        let writer = CheckpointWriter::start(snapshot, &self.geometry, self.buffers.chunk, turn);
        Ok(Step::Checkpoint { map, writer })
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        match &self.step {
            Step::Checkpoint { writer, .. } => writer.next_timeout(),
            _ => self.retry,
        }
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn) {
        if let Step::Checkpoint { writer, .. } = &mut self.step {
            writer.handle_timeout(turn);
        } else if self.retry.take_if(|retry| *retry <= turn.now).is_some() {
            self.send(turn);
        }
    }
}

impl Step {
    fn run(&mut self) -> Option<&mut Run> {
        match self {
            Step::Header { run, .. } | Step::Body { run, .. } | Step::Journal { run, .. } => Some(run),
            Step::Flush | Step::Checkpoint { .. } | Step::Ended => None,
        }
    }
}
