//! The journal: collects records and writes them in blocks, one at a time; while one is in flight the next collects.
//!
//! Invariants: a record is applied only when its block is durable; a block whose write failed is in doubt and is written
//! again, the same bytes, until it succeeds; no block overwrites one that the newest durable checkpoint lacks.

use super::config::{Area, Geometry, PoolConfig};
use super::journal_block::{self, JournalHeader, RECORDS_PER_JOURNAL_BLOCK};
use super::outbox::{Purpose, Turn};
use super::record::{NodeId, Place, Record};
use super::{RETRY, VolumeId};
use crate::{BlockRange, BufferSlice, Operation, Status, Time};
use std::collections::VecDeque;

/// Who waits for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A place that is being mapped or unmapped.
    Place(NodeId, Place),
    /// A verb on a volume.
    Volume(VolumeId),
    /// The cleaner.
    Cleaner,
}

/// A record and who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) waiter: Waiter,
}

#[derive(Debug)]
enum Write {
    InFlight,
    /// The block may or may not be on the disk.
    InDoubt {
        status: Status,
        retry: Time,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Journal {
    pool: [u8; 16],
    epoch: u64,
    opening: u32,
    geometry: Geometry,
    buffer: BufferSlice,
    queue: VecDeque<Entry>,
    block: Vec<Entry>,
    write: Option<Write>,
    /// Of the block that `block` is, or the next one will be.
    next: u64,
    /// The newest durable checkpoint, and the first block it lacks.
    checkpoint: u64,
    start: u64,
}

impl Journal {
    /// Behind a checkpoint of this opening that is durable and lacks nothing.
    pub(super) fn new(
        config: &PoolConfig,
        geometry: Geometry,
        opening: u32,
        (checkpoint, start): (u64, u64),
        buffer: BufferSlice,
    ) -> Journal {
        Journal {
            pool: config.pool,
            epoch: config.epoch,
            opening,
            geometry,
            buffer,
            queue: VecDeque::new(),
            block: Vec::new(),
            write: None,
            next: start,
            checkpoint,
            start,
        }
    }

    pub(super) fn push(&mut self, record: Record, waiter: Waiter) {
        self.queue.push_back(Entry { record, waiter });
    }

    /// Begins the next block if there is something to write, nothing in flight, and room.
    #[inline]
    pub(super) fn pump(&mut self, turn: &mut Turn) {
        if !self.queue.is_empty() && self.write.is_none() && !self.is_full() {
            self.begin_block(turn);
        }
    }

    fn begin_block(&mut self, turn: &mut Turn) {
        let count = self.queue.len().min(RECORDS_PER_JOURNAL_BLOCK);
        self.block.extend(self.queue.drain(..count));
        self.fill(turn);
        self.send(turn);
    }

    fn fill(&self, turn: &mut Turn) {
        let header = JournalHeader {
            pool: self.pool,
            epoch: self.epoch,
            sequence: self.next,
            checkpoint: self.checkpoint,
            opening: self.opening,
        };
        let records: Vec<Record> = self.block.iter().map(|entry| entry.record).collect();
        journal_block::encode(&header, &records, turn.memory.bytes_mut(self.buffer));
    }

    fn send(&mut self, turn: &mut Turn) {
        self.write = Some(Write::InFlight);
        let operation = Operation::Write {
            buffer: self.buffer,
            durable: true,
        };
        let range = BlockRange::new(self.geometry.journal_block(self.next), 1);
        turn.outbox
            .send(Purpose::Journal, Area::Metadata, operation, range);
    }

    /// The block is durable: its entries, to be applied in order.
    pub(super) fn written(&mut self) -> Vec<Entry> {
        assert!(
            matches!(self.write, Some(Write::InFlight)),
            "a block was in flight"
        );
        self.write = None;
        self.next += 1;
        core::mem::take(&mut self.block)
    }

    /// The write of the block failed: it stays, in doubt.
    pub(super) fn doubted(&mut self, now: Time, status: Status) {
        self.write = Some(Write::InDoubt {
            status,
            retry: now + RETRY,
        });
    }

    /// The entries whose fate is open.
    pub(super) fn in_doubt(&self) -> &[Entry] {
        &self.block
    }

    /// Gives up what was never written.
    pub(super) fn drop_queue(&mut self) -> Vec<Entry> {
        self.queue.drain(..).collect()
    }

    pub(super) fn trouble(&self) -> Option<Status> {
        match self.write {
            Some(Write::InDoubt { status, .. }) => Some(status),
            Some(Write::InFlight) | None => None,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        match self.write {
            Some(Write::InDoubt { retry, .. }) => Some(retry),
            Some(Write::InFlight) | None => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn) {
        if self.next_timeout().is_some_and(|retry| retry <= turn.now) {
            self.send(turn);
        }
    }

    /// The first block whose records are not in the map.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn checkpointed(&mut self, checkpoint: u64, start: u64) {
        self.checkpoint = checkpoint;
        self.start = start;
    }

    /// Blocks that an opening would have to read.
    pub(super) fn live_blocks(&self) -> u64 {
        self.next - self.start
    }

    pub(super) fn is_full(&self) -> bool {
        self.live_blocks() >= self.geometry.journal_blocks
    }

    pub(super) fn wants_checkpoint(&self) -> bool {
        self.live_blocks() > self.geometry.journal_blocks / 2
    }

    pub(super) fn is_idle(&self) -> bool {
        self.write.is_none() && self.queue.is_empty()
    }
}
