//! Reads: from one leg in sync, the one with the fewest reads in flight; where legs may differ (R6), from resync's source
//! only. A read that a leg cannot answer goes to another one.
//!
//! A read is never sent elsewhere while the leg it was sent to may still fill its buffer: a leg that does not answer is
//! reported, and the read goes on when the leg is lost.

use super::{LegSet, Mirror, Purpose};
use crate::{BlockRange, BufferSlice, Operation, RequestId, Status};
use std::collections::BTreeMap;

/// All reads, by number.
#[derive(Debug, Default)]
pub(super) struct Reads {
    all: BTreeMap<u64, Read>,
    next: u64,
    unsettled: bool,
    /// Reads in flight, by leg.
    load: [u32; super::LEGS_MAX],
}

#[derive(Debug)]
struct Read {
    id: RequestId,
    range: BlockRange,
    buffer: BufferSlice,
    /// Where it is; `None` while it waits for a leg.
    at: Option<usize>,
    /// Legs that could not answer it.
    failed: LegSet,
    error: Status,
}

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// Whether any waits for a leg.
    pub(super) fn any_waiting(&self) -> bool {
        self.all.values().any(|read| read.at.is_none())
    }
    pub(super) fn unsettle(&mut self) {
        self.unsettled = true;
    }
    pub(super) fn take_all(&mut self) -> Vec<RequestId> {
        let all = core::mem::take(&mut self.all);
        all.into_values().map(|read| read.id).collect()
    }
}

impl Mirror {
    pub(super) fn submit_read(&mut self, id: RequestId, range: BlockRange, buffer: BufferSlice) {
        let number = self.reads.next;
        self.reads.next += 1;
        let read = Read {
            id,
            range,
            buffer,
            at: None,
            failed: LegSet::EMPTY,
            error: Status::Unavailable,
        };
        self.reads.all.insert(number, read);
        self.steer(number);
    }

    /// Sends a read that waits to a leg, or ends it if all have failed it.
    fn steer(&mut self, number: u64) {
        let read = &self.reads.all[&number];
        let candidates = self.candidates(read.range);
        if candidates.is_empty() {
            return;
        }
        let (range, buffer) = (read.range, read.buffer);
        let untried = candidates.without(read.failed);
        let Some(leg) = self.least_loaded(untried, number) else {
            let read = self.reads.all.remove(&number).expect("just seen");
            return self.complete(read.id, read.error);
        };
        self.reads.all.get_mut(&number).expect("just seen").at = Some(leg);
        self.reads.load[leg] += 1;
        self.send(leg, Purpose::Read(number), Operation::Read { buffer }, range);
    }

    /// The legs that a range may be read from.
    fn candidates(&self, range: BlockRange) -> LegSet {
        let serving = self.legs.serving();
        let mut regions = self.geometry.regions_of(range);
        if !regions.any(|region| self.resync.unequal().has(region)) {
            return serving;
        }
        self.resync.source(serving).map_or(LegSet::EMPTY, LegSet::one)
    }

    /// Among equals, turn by turn.
    fn least_loaded(&self, legs: LegSet, turn: u64) -> Option<usize> {
        let count = self.legs.count() as u64;
        let distance = |leg: usize| (leg as u64 + turn) % count;
        legs.iter()
            .min_by_key(|leg| (self.reads.load[*leg], distance(*leg)))
    }

    pub(super) fn read_answered(&mut self, number: u64, leg: usize, status: Option<Status>) {
        self.reads.load[leg] -= 1;
        let Some(read) = self.reads.all.get_mut(&number) else {
            return;
        };
        read.at = None;
        match status {
            Some(Status::Success) => {
                let id = read.id;
                self.reads.all.remove(&number);
                self.complete(id, Status::Success);
                self.again = true;
            }
            Some(error) => {
                read.failed.insert(leg);
                if error != Status::Unavailable {
                    read.error = Status::MediaError;
                }
                self.steer(number);
            }
            // Its leg is gone; what becomes of the set is decided first.
            None => {
                self.reads.unsettled = true;
                self.again = true;
            }
        }
    }

    /// Sends those that wait for a leg; ends them if there was none for too long.
    pub(super) fn advance_reads(&mut self) {
        let expired = self.is_away_too_long();
        if !core::mem::take(&mut self.reads.unsettled) && !expired {
            return;
        }
        let waiting = self.reads.all.iter().filter(|(_, read)| read.at.is_none());
        let numbers: Vec<u64> = waiting.map(|(number, _)| *number).collect();
        for number in numbers {
            if expired {
                let read = self.reads.all.remove(&number).expect("just seen");
                self.complete(read.id, Status::Unavailable);
                self.again = true;
            } else {
                self.steer(number);
            }
        }
    }
}
