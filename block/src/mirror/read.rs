//! Reads: from one leg in sync; where legs may differ (R6), from resync's source only. A read that a leg cannot answer goes to
//! another one; where legs may differ that one is the source from then on, and what the old one still answers is read again.
//!
//! Reads stay with a leg for a while: its answers come in batches then, and neighbours are read where the last one was. The next
//! leg has its turn when this one has clearly more reads in flight than another, or after a run (`Tuning::read_run`).
//!
//! A read is never sent elsewhere while the leg it was sent to may still fill its buffer: a leg that does not answer is
//! reported, and the read goes on when the leg is lost.

use super::{LegSet, Mirror, Purpose};
use crate::{BlockRange, BufferSlice, Operation, RequestId, Slab, Slot, Status};

/// How many more reads in flight than the least loaded leg the present one may have.
const AHEAD_MAX: u32 = 8;

/// All reads.
#[derive(Debug, Default)]
pub(super) struct Reads {
    all: Slab<Read>,
    next: u64,
    unsettled: bool,
    /// Reads in flight, by leg.
    load: [u32; super::LEGS_MAX],
    /// The leg whose turn it is, and how many it has had.
    favourite: usize,
    run: u32,
}

#[derive(Debug)]
struct Read {
    /// Grows from read to read.
    number: u64,
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
        self.all.iter().any(|(_, read)| read.at.is_none())
    }
    pub(super) fn unsettle(&mut self) {
        self.unsettled = true;
    }
    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled
    }
    pub(super) fn take_all(&mut self) -> Vec<RequestId> {
        let mut all = self.all.take_all();
        all.sort_by_key(|read| read.number);
        all.into_iter().map(|read| read.id).collect()
    }

    /// The leg that the next read goes to, of those that may be read from.
    #[inline]
    fn choose(&mut self, legs: LegSet, run_max: u32) -> Option<usize> {
        let stays = legs.has(self.favourite) && self.run < run_max && {
            let load = self.load[self.favourite];
            load < AHEAD_MAX || legs.iter().all(|leg| load < self.load[leg] + AHEAD_MAX)
        };
        if !stays {
            // Of the least loaded ones, the next behind the one that has had its turn.
            let distance = |leg: usize| (leg + super::LEGS_MAX - self.favourite - 1) % super::LEGS_MAX;
            let next = legs.iter().min_by_key(|leg| (self.load[*leg], distance(*leg)));
            self.favourite = next?;
            self.run = 0;
        }
        self.run += 1;
        Some(self.favourite)
    }
}

impl Mirror {
    pub(super) fn submit_read(&mut self, id: RequestId, range: BlockRange, buffer: BufferSlice) {
        let number = self.reads.next;
        self.reads.next += 1;
        let slot = self.reads.all.insert(Read {
            number,
            id,
            range,
            buffer,
            at: None,
            failed: LegSet::EMPTY,
            error: Status::Unavailable,
        });
        self.steer(slot);
    }

    /// Sends a read that waits to a leg, or ends it if all have failed it.
    fn steer(&mut self, slot: Slot) {
        let read = self.reads.all.find(slot).expect("it has not ended");
        let (range, buffer, failed) = (read.range, read.buffer, read.failed);
        let candidates = self.candidates(range);
        if candidates.is_empty() {
            self.calm = false;
            return;
        }
        let Some(leg) = self
            .reads
            .choose(candidates.without(failed), self.config.tuning.read_run)
        else {
            let read = self.reads.all.remove(slot).expect("just seen");
            return self.complete(read.id, read.error);
        };
        self.reads.all.find_mut(slot).expect("just seen").at = Some(leg);
        self.reads.load[leg] += 1;
        self.send(leg, Purpose::Read(slot), Operation::Read { buffer }, range);
    }

    /// The legs that a range may be read from.
    fn candidates(&self, range: BlockRange) -> LegSet {
        let serving = self.legs.serving();
        if !self.may_differ(range) {
            return serving;
        }
        self.resync.source(serving).map_or(LegSet::EMPTY, LegSet::one)
    }

    fn may_differ(&self, range: BlockRange) -> bool {
        let unequal = self.resync.unequal();
        !unequal.is_empty() && self.geometry.regions_of(range).any(|region| unequal.has(region))
    }

    pub(super) fn read_answered(&mut self, slot: Slot, leg: usize, status: Option<Status>) {
        self.reads.load[leg] -= 1;
        let Some(range) = self.reads.all.find(slot).map(|read| read.range) else {
            return;
        };
        let may_differ = self.may_differ(range);
        let counts = !may_differ || self.candidates(range).has(leg);
        if status == Some(Status::Success) && counts {
            let read = self.reads.all.remove(slot).expect("just seen");
            self.complete(read.id, Status::Success);
            self.again = true;
            return;
        }
        let read = self.reads.all.find_mut(slot).expect("just seen");
        read.at = None;
        match status {
            // What it says may differ from what others say, and were told.
            Some(Status::Success) => self.steer(slot),
            Some(error) => {
                read.failed.insert(leg);
                if error != Status::Unavailable {
                    read.error = Status::MediaError;
                }
                if may_differ {
                    self.turn_from_source(leg);
                }
                self.steer(slot);
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
        let mut waiting: Vec<(u64, Slot)> = waiting.map(|(slot, read)| (read.number, slot)).collect();
        waiting.sort_unstable();
        for (_, slot) in waiting {
            if expired {
                let read = self.reads.all.remove(slot).expect("just seen");
                self.complete(read.id, Status::Unavailable);
                self.again = true;
            } else {
                self.steer(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: a leg that may not be read from and is kept because it was chosen before, a run without end,
    //! a loaded leg that is kept.
    use super::*;

    fn chosen(reads: &mut Reads, legs: LegSet, run_max: u32) -> usize {
        let leg = reads.choose(legs, run_max).expect("there is one");
        reads.load[leg] += 1;
        leg
    }

    #[test]
    fn reads_go_round_by_runs() {
        let (mut reads, legs) = (Reads::default(), LegSet::from_iter([0, 1, 2]));
        let one_in_flight = |reads: &mut Reads, run_max| {
            let leg = chosen(reads, legs, run_max);
            reads.load[leg] -= 1;
            leg
        };
        let by_two: Vec<usize> = (0..8).map(|_| one_in_flight(&mut reads, 2)).collect();
        assert_eq!(by_two, [0, 0, 1, 1, 2, 2, 0, 0]);
        let by_one: Vec<usize> = (0..4).map(|_| one_in_flight(&mut reads, 1)).collect();
        assert_eq!(by_one, [1, 2, 0, 1]);
    }

    #[test]
    fn a_leg_does_not_get_far_ahead_of_another() {
        let (mut reads, legs) = (Reads::default(), LegSet::from_iter([0, 1]));
        let all: Vec<usize> = (0..32).map(|_| chosen(&mut reads, legs, 1000)).collect();
        assert_eq!(all[..8], [0; 8]);
        assert!(reads.load[0].abs_diff(reads.load[1]) <= AHEAD_MAX);
        assert_eq!(chosen(&mut reads, LegSet::one(1), 1000), 1);
        assert_eq!(reads.choose(LegSet::EMPTY, 1000), None);
    }
}
