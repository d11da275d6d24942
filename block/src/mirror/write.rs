//! Writes, zeroes, deallocations and flushes: to every leg that takes writes, acknowledged when every leg that counts has
//! them (R3, R12).
//!
//! ```text
//! Queued ──lock──► Marking ──bits durable──► Sent ──► acknowledged
//!   (R11)            (R6)                   │  ▲
//!                                            ▼  │ a leg is back
//!                                           Stalled
//! ```
//!
//! A write that missed a leg stays `Sent` until the store has recorded the set without that leg. A write that the only leg
//! in sync has missed goes back to `Stalled` and is sent again. Both still hold their range: writes that overlap them
//! wait, others go on.
//!
//! While only one leg is in sync, every write there is durable before it is acknowledged, and what was acknowledged before is
//! flushed: were the leg to lose what is in its cache, no other leg would have it, and a later flush would be a lie.
//!
//! A deallocation would let legs read differently (before or zeroes): it is passed on as write zeroes.

use super::locks::Holder;
use super::{LegSet, Mirror, Purpose};
use crate::leg_format::BITS_PER_BITMAP_BLOCK;
use crate::{BlockRange, Operation, RequestId, Slab, Slot, Status, Time};
use core::ops::Range;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Modifies {
    all: Slab<Modify>,
    /// The number of the next one.
    next: u64,
    /// Something changed on which it depends how they end.
    unsettled: bool,
}

#[derive(Debug)]
struct Modify {
    /// Grows from one to the next.
    number: u64,
    id: RequestId,
    operation: Operation,
    range: BlockRange,
    regions: Range<usize>,
    state: State,
    /// Legs that have to be asked for by it if they are needed when it ends. Others joined later, by copying what it wrote.
    accountable: LegSet,
    pending: LegSet,
    succeeded: LegSet,
    /// What the only leg in sync said.
    error: Option<Status>,
    locked: bool,
}

/// Whether one leg alone is in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lone {
    No,
    /// It is; writes from before (numbers below the given one) may still be in flight to it.
    Draining(u64),
    /// It is, and what was written before has been flushed.
    Flushed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    Marking,
    Sent,
    Stalled,
}

impl Modifies {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// Whether any waits for a leg (or for one that does).
    fn any_waiting(&self) -> bool {
        self.all.iter().any(|(_, modify)| modify.state != State::Sent)
    }
    /// Whether any waits for its bits or for a leg.
    pub(super) fn any_stuck(&self) -> bool {
        let stuck = |modify: &Modify| matches!(modify.state, State::Marking | State::Stalled);
        self.all.iter().any(|(_, modify)| stuck(modify))
    }
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }
    /// Whether one from before is still in flight to the leg.
    pub(super) fn any_pending_before(&self, number: u64, leg: usize) -> bool {
        self.all
            .iter()
            .any(|(_, modify)| modify.number < number && modify.pending.has(leg))
    }
    /// Every one, in the order in which they came.
    fn in_order(&self) -> Vec<Slot> {
        let all = self.all.iter();
        let mut all: Vec<(u64, Slot)> = all.map(|(slot, modify)| (modify.number, slot)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, slot)| slot).collect()
    }
    pub(super) fn unsettle(&mut self) {
        self.unsettled = true;
    }
    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled
    }
    pub(super) fn drop_leg(&mut self, leg: usize) {
        for modify in self.all.values_mut() {
            modify.pending.remove(leg);
            // Should it come back as it was, it may have lost what it had not on its media.
            modify.succeeded.remove(leg);
        }
        self.unsettled = true;
    }
    pub(super) fn note_error(&mut self, slot: Slot, leg: usize, error: Status) {
        if let Some(modify) = self.all.find_mut(slot).filter(|modify| modify.pending.has(leg)) {
            modify.error = Some(error);
        }
    }
    /// No leg can write this bitmap block: those that wait for it will not get on.
    pub(super) fn fail_marking(&mut self, block: usize, error: Status) {
        let touches = |modify: &Modify| {
            let blocks = modify.regions.start / BITS_PER_BITMAP_BLOCK
                ..modify.regions.end.div_ceil(BITS_PER_BITMAP_BLOCK);
            modify.state == State::Marking && blocks.contains(&block)
        };
        for modify in self.all.values_mut().filter(|modify| touches(modify)) {
            modify.error = Some(error);
        }
        self.unsettled = true;
    }
    /// Forgets everything.
    pub(super) fn take_all(&mut self) -> Vec<RequestId> {
        let mut all = self.all.take_all();
        all.sort_by_key(|modify| modify.number);
        all.into_iter().map(|modify| modify.id).collect()
    }
}

impl Mirror {
    pub(super) fn submit_modify(&mut self, id: RequestId, operation: Operation, range: BlockRange) {
        let operation = match operation {
            Operation::Deallocate => Operation::WriteZeroes {
                deallocate: true,
                durable: false,
            },
            other => other,
        };
        let number = self.modifies.next;
        self.modifies.next += 1;
        let slot = self.modifies.all.insert(Modify {
            number,
            id,
            operation,
            range,
            regions: self.geometry.regions_of(range),
            state: State::Queued,
            accountable: LegSet::EMPTY,
            pending: LegSet::EMPTY,
            succeeded: LegSet::EMPTY,
            error: None,
            locked: false,
        });
        if operation == Operation::Flush {
            self.send_modify(slot);
        } else if self.locks.acquire(Holder::Modify(slot), range) {
            self.begin_modify(slot);
        }
    }

    /// The range is ours (R11).
    pub(super) fn begin_modify(&mut self, slot: Slot) {
        let modify = self.modifies.all.find_mut(slot).expect("it waited");
        modify.locked = true;
        if self.bitmap.begin(modify.regions.clone()) {
            self.send_modify(slot);
        } else {
            modify.state = State::Marking;
            self.again = true;
            self.calm = false;
        }
    }

    fn send_modify(&mut self, slot: Slot) {
        let modify = self.modifies.all.find_mut(slot).expect("it is ours");
        modify.state = State::Stalled;
        if self.legs.serving().is_empty() {
            self.calm = false;
            return;
        }
        let targets = match modify.operation {
            Operation::Flush => self
                .legs
                .serving()
                .union(self.legs.select(|leg| leg.role.is_final())),
            _ => self.legs.write_targets(),
        };
        modify.state = State::Sent;
        modify.accountable = self.membership.may_be().union(targets);
        modify.pending = targets;
        modify.succeeded = LegSet::EMPTY;
        modify.error = None;
        let (mut operation, range) = (modify.operation, modify.range);
        if self.legs.in_sync().len() == 1 {
            operation = durably(operation);
        }
        for leg in targets.iter() {
            self.send(leg, Purpose::Modify(slot), operation, range);
        }
    }

    pub(super) fn modify_answered(&mut self, slot: Slot, leg: usize, succeeded: bool) {
        let Some(modify) = self.modifies.all.find_mut(slot) else {
            return;
        };
        if !modify.pending.has(leg) {
            return;
        }
        modify.pending.remove(leg);
        if succeeded {
            modify.succeeded.insert(leg);
        }
        self.settle_modify(slot);
    }

    /// Lets all of them see what has changed.
    pub(super) fn advance_modifies(&mut self) {
        if core::mem::take(&mut self.modifies.unsettled) {
            for slot in self.modifies.in_order() {
                self.settle_modify(slot);
            }
        }
        if self.is_away_too_long() {
            self.expire_modifies();
        }
    }

    fn settle_modify(&mut self, slot: Slot) {
        let Some(modify) = self.modifies.all.find(slot) else {
            return;
        };
        match (modify.state, modify.error) {
            (State::Marking, Some(error)) => self.abandon_modify(slot, error),
            (State::Marking, None) => {
                if self.bitmap.is_durable(modify.regions.clone()) {
                    self.send_modify(slot);
                }
            }
            (State::Stalled, _) if !self.legs.serving().is_empty() => self.send_modify(slot),
            (State::Sent, _) => self.settle_sent(slot),
            (State::Queued | State::Stalled, _) => {}
        }
    }

    fn settle_sent(&mut self, slot: Slot) {
        let must_have = self.membership.may_be();
        let modify = self.modifies.all.find_mut(slot).expect("it is ours");
        let missing = must_have
            .intersection(modify.accountable)
            .without(modify.succeeded);
        // Not before every leg that it was sent to has ended it, also one that does not count: what is in the buffer may
        // change from then on.
        if !modify.pending.is_empty() {
            return;
        }
        let (id, error, succeeded) = (modify.id, modify.error, !modify.succeeded.is_empty());
        self.again = true;
        if missing.is_empty() && succeeded {
            self.finish_modify(slot);
            return self.complete(id, Status::Success);
        }
        self.calm = false;
        if missing.intersection(self.legs.in_sync()).is_empty() {
            // Those that miss it are leaving: the store decides.
        } else if let Some(error) = error {
            self.abandon_modify(slot, error);
        } else {
            self.send_modify(slot);
        }
    }

    fn unlock_modify(&mut self, slot: Slot) {
        let modify = self.modifies.all.find_mut(slot).expect("it is ours");
        if core::mem::take(&mut modify.locked) {
            let range = modify.range;
            let granted = self.locks.release(range);
            self.grant(granted);
        }
    }

    fn finish_modify(&mut self, slot: Slot) {
        self.unlock_modify(slot);
        let modify = self.modifies.all.remove(slot).expect("it is ours");
        if modify.state != State::Queued {
            self.bitmap.end(modify.regions);
        }
    }

    /// It ends without success: nobody knows where it arrived, and legs may differ there.
    fn abandon_modify(&mut self, slot: Slot, status: Status) {
        let modify = self.modifies.all.find_mut(slot).expect("it is ours");
        let (id, state, regions) = (modify.id, modify.state, modify.regions.clone());
        if state == State::Queued {
            let granted = self.locks.withdraw(Holder::Modify(slot));
            self.grant(granted);
        } else {
            self.resync.mark_unequal(regions);
        }
        self.finish_modify(slot);
        self.complete(id, status);
        self.again = true;
        self.calm = false;
    }

    fn expire_modifies(&mut self) {
        for slot in self.modifies.in_order() {
            let modify = self.modifies.all.find(slot);
            if modify.is_some_and(|modify| modify.state != State::Sent) {
                self.abandon_modify(slot, Status::Unavailable);
            }
        }
    }

    /// Locks have been granted.
    pub(super) fn grant(&mut self, holders: Vec<Holder>) {
        for holder in holders {
            match holder {
                Holder::Modify(slot) => self.begin_modify(slot),
                Holder::Step => self.step_granted(),
            }
        }
    }

    /// What other legs had as well is now on one alone: puts it on the media there.
    pub(super) fn advance_lone(&mut self) {
        let in_sync = self.legs.in_sync();
        if in_sync.len() > 1 {
            self.lone = Lone::No;
            return;
        }
        let leg = in_sync.first().expect("the last leg in sync is never given up");
        match self.lone {
            Lone::No => self.lone = Lone::Draining(self.modifies.next),
            Lone::Draining(before) => {
                let drained = !self.modifies.any_pending_before(before, leg);
                if drained && self.legs.serving().has(leg) {
                    self.lone = Lone::Flushed;
                    self.send(leg, Purpose::LoneFlush, Operation::Flush, BlockRange::default());
                }
                return;
            }
            Lone::Flushed => return,
        }
        self.again = true;
    }

    /// Notes when there was a leg to serve from last.
    pub(super) fn note_absence(&mut self) {
        if self.legs.serving().is_empty() {
            self.away_since.get_or_insert(self.now);
        } else if self.away_since.take().is_some() {
            self.modifies.unsettle();
            self.reads.unsettle();
        }
    }

    pub(super) fn is_away_too_long(&self) -> bool {
        self.away_timeout().is_some_and(|at| at <= self.now)
    }

    /// When requests stop waiting for a leg to serve from.
    pub(super) fn away_timeout(&self) -> Option<Time> {
        let since = self.away_since?;
        if !self.modifies.any_waiting() && !self.reads.any_waiting() {
            return None;
        }
        Some(since + self.config.tuning.unavailable_after)
    }

    /// Starts and ends rounds of the bitmap.
    pub(super) fn advance_rounds(&mut self, memory: &mut dyn crate::Memory) {
        while let Some(end) = self.bitmap.take_ended(self.legs.in_sync()) {
            for leg in end.written.iter() {
                self.legs[leg].marked[end.block] = true;
            }
            self.modifies.unsettle();
            self.again = true;
        }
        let paused = self.starved_until.or(self.rounds_after).is_some();
        if self.legs.serving().is_empty() || paused {
            return;
        }
        for block in self.bitmap.ready() {
            if !self.start_round(block, memory) {
                return;
            }
        }
    }

    fn start_round(&mut self, block: usize, memory: &mut dyn crate::Memory) -> bool {
        let Some(buffer) = self.allocate(1, memory) else {
            return false;
        };
        let targets = self.legs.bitmap_targets();
        let sequence = self.bitmap.start_round(block, targets, memory.bytes_mut(buffer));
        for leg in targets.iter() {
            memory.retain(buffer.buffer);
            // The place that does not hold the newest bits: should this write be torn, those are still there (R12).
            let place = 1 - self.legs[leg].newest_place[block];
            let operation = Operation::Write {
                buffer,
                durable: true,
            };
            let range = self.geometry.bitmap_place(block, place);
            self.send(
                leg,
                Purpose::Bitmap {
                    block,
                    sequence,
                    buffer,
                },
                operation,
                range,
            );
        }
        memory.release(buffer.buffer);
        true
    }

    pub(super) fn round_answered(&mut self, block: usize, sequence: u64, leg: usize, succeeded: bool) {
        if self.bitmap.round_answered(block, sequence, leg, succeeded) {
            let place = &mut self.legs[leg].newest_place[block];
            *place = 1 - *place;
        }
        self.again = true;
    }

    /// Answers a request, if this owner may.
    pub(super) fn complete(&mut self, id: RequestId, status: Status) {
        // That it cannot be had here may always be said; what was read or written only under all leases (R5).
        if status == Status::Unavailable || (self.lease_holds() && self.held.is_empty()) {
            self.outputs.end(id, status);
        } else {
            self.calm = false;
            self.held.push(id, status);
        }
    }
}

/// The same, on the media before it ends.
fn durably(operation: Operation) -> Operation {
    match operation {
        Operation::Write { buffer, .. } => Operation::Write {
            buffer,
            durable: true,
        },
        Operation::WriteZeroes { deallocate, .. } => Operation::WriteZeroes {
            deallocate,
            durable: true,
        },
        other => other,
    }
}
