//! The map and what makes it durable: the journal, and the checkpoints that let it start over.
//!
//! A record goes in by [`Ledger::record`]; it comes out, applied, in [`Settled::durable`], or in one of the lists of
//! failures. A checkpoint is due when the journal is more than half full; the journal goes on meanwhile, and waits only if it
//! is full before the checkpoint is durable (at most the time of writing one slot).

use super::checkpoint::{Position, Snapshot};
use super::checkpoint_writer::CheckpointWriter;
use super::config::{Geometry, PoolConfig};
use super::journal::{Entry, Journal, Waiter};
use super::map::Map;
use super::outbox::Turn;
use super::record::Record;
use super::start::{Buffers, OpenedMap};
use crate::{Status, Time};

/// What has become of records.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Durable, and applied.
    pub(super) durable: Vec<Entry>,
    /// In a block whose write failed; they come out as durable later, or never.
    pub(super) in_doubt: Vec<Entry>,
    /// Will never be durable.
    pub(super) dropped: Vec<Entry>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) map: Map,
    pub(super) geometry: Geometry,
    config: PoolConfig,
    buffers: Buffers,
    journal: Journal,
    opening: u32,
    /// Newest durable checkpoint.
    checkpoint: u64,
    writer: Option<CheckpointWriter>,
    fenced: bool,
}

impl Ledger {
    pub(super) fn new(config: PoolConfig, geometry: Geometry, buffers: Buffers, opened: OpenedMap) -> Ledger {
        let OpenedMap { map, header } = opened;
        let position = (header.sequence, header.journal_start);
        let journal = Journal::new(&config, geometry, header.opening, position, buffers.journal);
        let (opening, checkpoint) = (header.opening, header.sequence);
        Ledger {
            map,
            geometry,
            config,
            buffers,
            journal,
            opening,
            checkpoint,
            writer: None,
            fenced: false,
        }
    }

    pub(super) fn buffers(&self) -> Buffers {
        self.buffers
    }

    /// Why the map cannot be changed now.
    pub(super) fn trouble(&self) -> Option<Status> {
        if self.fenced {
            return Some(Status::StaleEpoch);
        }
        let stuck = self
            .writer
            .as_ref()
            .filter(|_| self.journal.is_full())
            .and_then(CheckpointWriter::trouble);
        self.journal.trouble().or(stuck)
    }

    /// Puts a record in the next block. Only without trouble.
    pub(super) fn record(&mut self, record: Record, waiter: Waiter) {
        assert_eq!(
            self.trouble(),
            None,
            "nothing is recorded while the journal is in trouble"
        );
        self.journal.push(record, waiter);
    }

    /// Begins what is due.
    pub(super) fn pump(&mut self, turn: &mut Turn) {
        if self.fenced {
            return;
        }
        self.journal.pump(turn);
        if self.writer.is_none() && self.journal.wants_checkpoint() {
            self.begin_checkpoint(turn);
        }
    }

    /// Writes the map as it is to the slot that is not the newest.
    pub(super) fn begin_checkpoint(&mut self, turn: &mut Turn) {
        let position = Position {
            sequence: self.checkpoint + 1,
            opening: self.opening,
            journal_start: self.journal.next(),
        };
        let snapshot = Snapshot::take(&self.config, &self.geometry, &self.map, position);
        self.writer = Some(CheckpointWriter::start(
            snapshot,
            &self.geometry,
            self.buffers.chunk,
            turn,
        ));
    }

    /// The write of the journal block has ended.
    pub(super) fn journal_completed(&mut self, status: Status, turn: &Turn) -> Settled {
        if status != Status::Success {
            self.journal.doubted(turn.now, status);
            let in_doubt = self.journal.in_doubt().to_vec();
            return Settled {
                in_doubt,
                dropped: self.drop_queue(),
                ..Settled::default()
            };
        }
        let durable = self.journal.written();
        for entry in &durable {
            self.map
                .apply(&entry.record)
                .expect("only records that fit the map are written");
        }
        Settled {
            durable,
            ..Settled::default()
        }
    }

    /// A write of the checkpoint has ended.
    pub(super) fn checkpoint_completed(&mut self, status: Status, turn: &mut Turn) -> Settled {
        let writer = self.writer.as_mut().expect("a checkpoint is being written");
        if let Some(header) = writer.completed(status, turn) {
            self.writer = None;
            self.checkpoint = header.sequence;
            self.journal.checkpointed(header.sequence, header.journal_start);
        }
        let dropped = if self.trouble().is_some() {
            self.drop_queue()
        } else {
            Vec::new()
        };
        Settled {
            dropped,
            ..Settled::default()
        }
    }

    /// A newer owner is there: nothing is written any more.
    pub(super) fn fence(&mut self) -> Settled {
        self.fenced = true;
        let in_doubt = self.journal.in_doubt().to_vec();
        Settled {
            in_doubt,
            dropped: self.drop_queue(),
            ..Settled::default()
        }
    }

    fn drop_queue(&mut self) -> Vec<Entry> {
        let dropped = self.journal.drop_queue();
        for entry in &dropped {
            if let Record::Mapped { extent, .. } = entry.record {
                self.map.release(extent);
            }
        }
        dropped
    }

    /// Whether no record waits for being durable.
    pub(super) fn is_idle(&self) -> bool {
        self.journal.is_idle()
    }

    /// Whether an opening would find blocks to replay.
    pub(super) fn has_journal(&self) -> bool {
        self.journal.live_blocks() > 0
    }

    pub(super) fn is_checkpointing(&self) -> bool {
        self.writer.is_some()
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let writer = self.writer.as_ref().and_then(CheckpointWriter::next_timeout);
        let both = [self.journal.next_timeout(), writer];
        both.into_iter().flatten().min().filter(|_| !self.fenced)
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn) {
        if self.fenced {
            return;
        }
        self.journal.handle_timeout(turn);
        if let Some(writer) = &mut self.writer {
            writer.handle_timeout(turn);
        }
    }
}
