//! Zeroes dirty extents in the background, so that they can be given out again (R10).
//!
//! A batch of extents is zeroed in bounded steps, one in flight; then the data area is flushed; then records say that they
//! are clean. A crash in between only means that they are zeroed again.

use super::config::Area;
use super::journal::Waiter;
use super::ledger::Ledger;
use super::map::push_run;
use super::outbox::{Purpose, Turn};
use super::record::{Extent, Record};
use super::{CLEAN_BATCH_BLOCKS, RETRY, ZERO_STEP_BLOCKS};
use crate::{BlockRange, Operation, Status, Time};
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    step: Step,
    /// Extents that could not be zeroed; they stay dirty until the next opening.
    bad: BTreeSet<Extent>,
    retry: Option<Time>,
    trouble: Option<Status>,
    stopped: bool,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// The last extent of the batch is being zeroed; so many of its blocks are.
    Zeroing {
        batch: Vec<Extent>,
        zeroed: Vec<Extent>,
        offset: u64,
    },
    Flushing {
        zeroed: Vec<Extent>,
    },
    /// So many records are not durable yet.
    Recording {
        records: u32,
    },
}

impl Cleaner {
    /// Nothing new is begun any more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.retry = None;
    }

    /// Whether space may become clean: `Err` says how a write that waits for some should end.
    pub(super) fn hope(&self, ledger: &Ledger) -> Result<(), Status> {
        if u64::from(ledger.map.dirty_count()) <= self.bad.len() as u64 {
            return Err(Status::OutOfSpace);
        }
        if self.stopped {
            Err(Status::Unavailable)
        } else {
            self.trouble.map_or(Ok(()), Err)
        }
    }

    /// Begins a batch if there is something to clean.
    pub(super) fn pump(&mut self, ledger: &Ledger, turn: &mut Turn) {
        let nothing = u64::from(ledger.map.dirty_count()) <= self.bad.len() as u64;
        if nothing || self.stopped || self.retry.is_some() || !matches!(self.step, Step::Idle) {
            return;
        }
        let extents = (CLEAN_BATCH_BLOCKS / ledger.geometry.extent.0).max(1) as usize;
        let batch: Vec<Extent> = ledger
            .map
            .dirty()
            .filter(|extent| !self.bad.contains(extent))
            .take(extents)
            .collect();
        if !batch.is_empty() {
            self.step = Step::Zeroing {
                batch,
                zeroed: Vec::new(),
                offset: 0,
            };
            self.send(ledger, turn);
        }
    }

    fn send(&self, ledger: &Ledger, turn: &mut Turn) {
        let extent_blocks = ledger.geometry.extent.0;
        let (operation, range) = match &self.step {
            Step::Zeroing { batch, offset, .. } => {
                let extent = batch.last().expect("a batch that is being zeroed is not empty");
                let start = u64::from(extent.0) * extent_blocks + offset;
                let length = (extent_blocks - offset).min(ZERO_STEP_BLOCKS);
                let operation = Operation::WriteZeroes {
                    deallocate: true,
                    durable: false,
                };
                (operation, BlockRange::new(start, length))
            }
            Step::Flushing { .. } => (Operation::Flush, BlockRange::default()),
            Step::Idle | Step::Recording { .. } => return,
        };
        turn.outbox.send(Purpose::Cleaning, Area::Data, operation, range);
    }

    /// What was sent has ended.
    pub(super) fn completed(&mut self, status: Status, ledger: &mut Ledger, turn: &mut Turn) {
        if self.stopped {
            self.step = Step::Idle;
            return;
        }
        self.trouble = (status != Status::Success).then_some(status);
        match core::mem::take(&mut self.step) {
            Step::Zeroing {
                batch,
                zeroed,
                offset,
            } => self.step = self.zeroed((batch, zeroed, offset), status, ledger, turn),
            Step::Flushing { zeroed } if status == Status::Success => {
                self.step = self.record(zeroed, ledger, turn)
            }
            // What a failed flush leaves is unknown: from the start.
            Step::Flushing { .. } => self.retry = Some(turn.now + RETRY),
            Step::Idle | Step::Recording { .. } => unreachable!("nothing is in flight then"),
        }
        if self.retry.is_none() {
            self.send(ledger, turn);
        }
    }

    fn zeroed(
        &mut self,
        (mut batch, mut zeroed, mut offset): (Vec<Extent>, Vec<Extent>, u64),
        status: Status,
        ledger: &Ledger,
        turn: &Turn,
    ) -> Step {
        match status {
            Status::Success => offset += ZERO_STEP_BLOCKS,
            Status::Unavailable | Status::StaleEpoch => self.retry = Some(turn.now + RETRY),
            Status::MediaError | Status::OutOfSpace | Status::OutOfRange | Status::Invalid => {
                self.bad.extend(batch.pop());
                (self.trouble, offset) = (None, 0);
            }
        }
        if offset >= ledger.geometry.extent.0 {
            zeroed.extend(batch.pop());
            offset = 0;
        }
        match (batch.is_empty(), zeroed.is_empty()) {
            (false, _) => Step::Zeroing {
                batch,
                zeroed,
                offset,
            },
            (true, false) => Step::Flushing { zeroed },
            (true, true) => Step::Idle,
        }
    }

    fn record(&mut self, mut zeroed: Vec<Extent>, ledger: &mut Ledger, turn: &Turn) -> Step {
        if ledger.trouble().is_some() {
            self.retry = Some(turn.now + RETRY);
            return Step::Idle;
        }
        zeroed.sort_unstable();
        let mut records = Vec::new();
        for extent in zeroed {
            push_run(&mut records, Record::Cleaned { extent, count: 1 });
        }
        for &record in &records {
            ledger.record(record, Waiter::Cleaner);
        }
        Step::Recording {
            records: records.len() as u32,
        }
    }

    /// One of its records is durable, or (`retry`) will never be.
    pub(super) fn recorded(&mut self, retry: Option<Time>) {
        self.retry = self.retry.max(retry).filter(|_| !self.stopped);
        if let Step::Recording { records } = &mut self.step {
            *records -= 1;
            if *records == 0 {
                self.step = Step::Idle;
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.retry
    }

    pub(super) fn handle_timeout(&mut self, ledger: &Ledger, turn: &mut Turn) {
        if self.retry.take_if(|retry| *retry <= turn.now).is_some() {
            self.send(ledger, turn);
        }
    }
}
