//! From the grant of an epoch to serving.
//!
//! A group that was never formatted waits for all its legs, writes superblocks and empty bitmaps, flushes, has it recorded
//! (R9). One that was waits for the legs of its recorded set; after a while it goes on without those that did not come,
//! has the smaller set recorded (R3), and if one of them was never attached under this epoch (it may still be serving an
//! old owner) waits until that owner's lease must have run out (R5): it began to run out at the latest when the first leg
//! of the set was fenced, for from then on that leg has not answered to the old owner.
//!
//! What may differ is what any leg's bitmap says (R6); the union is written to all legs before anything else is.

use super::{LegSet, Link, Mirror, MirrorOutput, Phase, Purpose, Role};
use crate::leg_format::SUPERBLOCK_PLACES;
use crate::{BLOCK_SIZE, BlockRange, Memory, Operation, Status, Time};

/// Times of the opening.
#[derive(Debug)]
pub(super) struct Opening {
    started: Time,
    first_fenced: Option<Time>,
    serve_at: Time,
}

impl Opening {
    pub(super) fn new(now: Time) -> Opening {
        Opening {
            started: now,
            first_fenced: None,
            serve_at: now,
        }
    }
    pub(super) fn fenced(&mut self, now: Time) {
        self.first_fenced.get_or_insert(now);
    }
}

impl Mirror {
    /// While opening: the legs that were looked at and are fine.
    pub(super) fn ready_legs(&self) -> LegSet {
        self.legs.select(|leg| leg.role == Role::Ready)
    }

    pub(super) fn open_timeout(&self) -> Option<Time> {
        let given_up = self.opening.started + self.config.tuning.give_up_after;
        match self.phase {
            Phase::Opening if given_up > self.now => Some(given_up),
            Phase::Settling if self.opening.serve_at > self.now => Some(self.opening.serve_at),
            _ => None,
        }
    }

    pub(super) fn advance_open(&mut self, memory: &mut dyn Memory) {
        self.start_checks(memory);
        self.advance_lease(memory);
        let (ready, set) = (self.ready_legs(), self.membership.recorded());
        let refused = self.legs.select(|leg| leg.link == Link::Refused);
        let awaited = set.without(ready).without(refused);
        let given_up = self.opening.started + self.config.tuning.give_up_after <= self.now;
        if !ready.is_empty() && (awaited.is_empty() || given_up) {
            self.decide(ready, set);
        }
    }

    /// These legs take part; the others of the set are taken out of it.
    fn decide(&mut self, ready: LegSet, set: LegSet) {
        let mut all_fenced = true;
        for leg in set.without(ready).iter() {
            self.legs[leg].role = Role::Leaving;
            all_fenced &= self.legs[leg].fenced;
        }
        for leg in ready.iter() {
            let state = &mut self.legs[leg];
            state.role = Role::InSync;
            self.bitmap.merge(&state.todo, state.sequence);
            state.todo.clear_all();
        }
        self.resync.mark_all_unequal(self.bitmap.dirty());
        if let (Some(lease), false) = (self.config.tuning.lease, all_fenced) {
            let fenced = self.opening.first_fenced.expect("a leg is ready");
            self.opening.serve_at = fenced + lease + self.config.tuning.clock_margin;
        }
        self.phase = Phase::Settling;
        self.again = true;
    }

    pub(super) fn advance_settle(&mut self) {
        let leaving = self.legs.select(|leg| leg.role == Role::Leaving);
        let settled = leaving.is_empty()
            && !self.membership.is_asking()
            && self.bitmap.is_settled()
            && !self.legs.serving().is_empty();
        if settled && self.now >= self.opening.serve_at {
            self.phase = Phase::Serving;
            self.outputs.say(MirrorOutput::Opened);
            self.again = true;
        }
    }

    /// Nothing on the legs can be served.
    pub(super) fn fail(&mut self, reason: String) {
        self.phase = Phase::Failed;
        self.end_all(Status::Unavailable);
        self.outputs.say(MirrorOutput::OpenFailed { reason });
    }

    pub(super) fn advance_format(&mut self, memory: &mut dyn Memory) {
        self.start_checks(memory);
        self.advance_lease(memory);
        for leg in self.ready_legs().iter() {
            self.format_leg(leg, memory);
        }
        let formatted = self.legs.select(|leg| leg.role == Role::Joining);
        if self.phase == Phase::Formatting && formatted == self.legs.all() && !self.membership.is_asking() {
            self.ask_formatted();
        }
    }

    fn format_leg(&mut self, leg: usize, memory: &mut dyn Memory) {
        let range = self.head_range();
        let buffer = self
            .allocate(range.length.0, memory)
            .filter(|_| self.phase == Phase::Formatting);
        let Some(buffer) = buffer else {
            return;
        };
        let bytes = memory.bytes_mut(buffer);
        bytes.fill(0);
        for place in SUPERBLOCK_PLACES {
            self.superblock(leg).write_to(block_mut(bytes, place.0));
        }
        for index in 0..self.geometry.bitmap_blocks() {
            let place = self.geometry.bitmap_place(index, 0).start.0;
            self.bitmap
                .identity(index)
                .write_to(1, &[], block_mut(bytes, place));
        }
        self.legs[leg].role = Role::Formatting;
        let operation = Operation::Write {
            buffer,
            durable: true,
        };
        self.send(leg, Purpose::Format { buffer }, operation, range);
    }

    pub(super) fn format_written(&mut self, leg: usize, succeeded: bool) {
        if succeeded && self.legs[leg].role == Role::Formatting {
            self.send(leg, Purpose::FormatFlush, Operation::Flush, BlockRange::default());
        }
    }

    pub(super) fn format_flushed(&mut self, leg: usize, succeeded: bool) {
        if succeeded && self.legs[leg].role == Role::Formatting {
            self.legs[leg].role = Role::Joining;
            self.again = true;
        }
    }

    /// While it opens: what it waits for, for people.
    pub fn waits_for(&self) -> String {
        let absent = self.legs.select(|leg| leg.role == Role::Expected);
        match self.phase {
            Phase::Formatting if self.membership.is_asking() => {
                "the store to record that the group is formatted".to_owned()
            }
            Phase::Formatting | Phase::Opening => {
                format!(
                    "{} of {} legs to be reached and read",
                    absent.len(),
                    self.legs.count()
                )
            }
            Phase::Settling if self.membership.is_asking() => {
                "the store to record the set of legs in sync".to_owned()
            }
            Phase::Settling if self.now < self.opening.serve_at => {
                "the lease of an earlier owner to run out".to_owned()
            }
            Phase::Settling => "the write-intent bitmap to be written".to_owned(),
            _ => String::new(),
        }
    }
}

fn block_mut(bytes: &mut [u8], lba: u64) -> &mut [u8] {
    let start = lba as usize * BLOCK_SIZE as usize;
    &mut bytes[start..start + BLOCK_SIZE as usize]
}
