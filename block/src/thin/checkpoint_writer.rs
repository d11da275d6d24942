//! Writes one checkpoint: the body in chunks, then the header, each durable before the next begins.
//!
//! A chunk that fails is written again later, until it succeeds or the writer is dropped: the slot is not the
//! newest one, so it may hold anything meanwhile.

use super::checkpoint::{CheckpointHeader, Snapshot};
use super::config::{Area, Geometry};
use super::outbox::{Purpose, Turn};
use super::{METADATA_CHUNK_BLOCKS, RETRY};
use crate::{BLOCK_SIZE, BlockRange, BufferSlice, Operation, Status, Time};

/// See the module.
#[derive(Debug)]
pub(super) struct CheckpointWriter {
    snapshot: Snapshot,
    slot_start: u64,
    buffer: BufferSlice,
    /// Blocks of the body that are durable.
    written: u64,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    InFlight,
    Failed { status: Status, retry: Time },
}

impl CheckpointWriter {
    /// Sends the first chunk. The buffer is [`METADATA_CHUNK_BLOCKS`] long.
    pub(super) fn start(
        snapshot: Snapshot,
        geometry: &Geometry,
        buffer: BufferSlice,
        turn: &mut Turn,
    ) -> CheckpointWriter {
        let slot_start = geometry.slot_start(snapshot.header.slot());
        let mut writer = CheckpointWriter {
            snapshot,
            slot_start,
            buffer,
            written: 0,
            step: Step::InFlight,
        };
        writer.send(turn);
        writer
    }

    fn body_blocks(&self) -> u64 {
        self.snapshot.header.body_blocks()
    }

    fn chunk_blocks(&self) -> u64 {
        (self.body_blocks() - self.written).min(METADATA_CHUNK_BLOCKS)
    }

    fn send(&mut self, turn: &mut Turn) {
        self.step = Step::InFlight;
        let blocks = self.chunk_blocks();
        let (first, length) = if blocks == 0 {
            (0, 1)
        } else {
            (1 + self.written, blocks)
        };
        let buffer = self.buffer.part(0, length as u32 * BLOCK_SIZE);
        let bytes = turn.memory.bytes_mut(buffer);
        if blocks == 0 {
            self.snapshot.header.encode(bytes);
        } else {
            let start = self.written as usize * BLOCK_SIZE as usize;
            bytes.copy_from_slice(&self.snapshot.body[start..][..bytes.len()]);
        }
        let range = BlockRange::new(self.slot_start + first, length);
        turn.outbox.send(
            Purpose::Checkpoint,
            Area::Metadata,
            Operation::Write {
                buffer,
                durable: true,
            },
            range,
        );
    }

    /// The header, once it is durable.
    pub(super) fn completed(&mut self, status: Status, turn: &mut Turn) -> Option<CheckpointHeader> {
        if status != Status::Success {
            self.step = Step::Failed {
                status,
                retry: turn.now + RETRY,
            };
            return None;
        }
        let blocks = self.chunk_blocks();
        if blocks == 0 {
            return Some(self.snapshot.header);
        }
        self.written += blocks;
        self.send(turn);
        None
    }

    /// How the last write ended, if not well.
    pub(super) fn trouble(&self) -> Option<Status> {
        match self.step {
            Step::InFlight => None,
            Step::Failed { status, .. } => Some(status),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        match self.step {
            Step::InFlight => None,
            Step::Failed { retry, .. } => Some(retry),
        }
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn) {
        if self.next_timeout().is_some_and(|retry| retry <= turn.now) {
            self.send(turn);
        }
    }
}
