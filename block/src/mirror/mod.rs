//! A group of mirrored legs (with one leg: no protection): every write goes to all legs in sync, a read to one of them.
//!
//! The group is a machine: requests come from above, in blocks of its two areas (what lies below is the same on every leg, see
//! [`crate::leg_format`]); requests to legs go below; what has to be recorded before the group may go on (R3, R4, R9) goes to
//! the store. It is made of sub-machines, each in its file:
//!
//! | file | knows |
//! |---|---|
//! | `open` | from the grant of an epoch to serving: format once (R9), or find the legs and what may differ (R6), wait out an old owner (R5) |
//! | `write` | writes and flushes: order (R11), who must have it before it is acknowledged (R3, R12) |
//! | `read` | which leg to read from |
//! | `membership` | the set as recorded, and as it should be |
//! | `bitmap`, `clear` | regions that may differ: marked before the write (R6), cleared when quiet and flushed |
//! | `rejoin` | a leg's way back into the set (R4) |
//! | `resync` | copies regions, step by step |
//! | `lease` | whether this owner may still answer (R5), probes, legs that do not answer |
//! | `close` | the end in order |
//!
//! What it deliberately is not: it fences no leg and opens no connection (a leg is attached to it with the reservation
//! held); it does not decide which legs a group has; it never touches a payload.
//!
//! Invariants, while it serves:
//! * A leg of role `InSync` has every acknowledged write; there is at least one, and if it is away there is exactly one.
//! * A write is acknowledged only when every leg that is in the recorded set, or may be in it soon, has it (R3).
//! * Nothing is answered while a leg of the recorded set has a lease that ran out (R5): answers are held back.
//! * A write is sent only when its regions' bits are durable on all legs it is sent to (R6).
//! * A leg that failed in any way comes back through `rejoin` only, and only once nothing is in flight to it.
//!
//! When no leg is left to serve from (the last one in sync is never taken out of the set), requests wait until
//! [`Tuning::unavailable_after`](crate::Tuning::unavailable_after) has passed since it was lost, then end `Unavailable`;
//! later ones end so at once, until the leg is back.

mod bitmap;
mod bits;
mod clear;
mod close;
mod config;
mod lease;
mod leg_set;
mod legs;
mod locks;
mod membership;
mod open;
mod outputs;
mod read;
mod rejoin;
mod resync;
mod write;

use crate::leg_format::{LegGeometry, Superblock, Uuid};
use crate::thin::Area;
use crate::{
    BlockRange, Blocks, Duration, Lba, Memory, Operation, Request, RequestId, Status, SubRequestId, Time,
};
use bitmap::Bitmap;
use clear::Clearing;
pub use config::{GroupChange, GroupConfig, LegConfig, MembershipOutcome, MirrorConfig, MirrorOutput};
use lease::Held;
use leg_set::LegSet;
use legs::{Call, Legs, Link, Purpose, Role};
use locks::RangeLocks;
use membership::Membership;
use open::Opening;
pub(crate) use outputs::LegRequest;
use outputs::Outputs;
use read::Reads;
use resync::Resync;
use write::{Lone, Modifies};

/// The most legs a group can have.
pub const LEGS_MAX: usize = 8;

/// When the engine's buffers are exhausted, metadata work is tried again after this.
const MEMORY_RETRY: Duration = Duration::from_millis(5);

/// How far a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Superblocks and bitmaps are being written for the first time (R9).
    Formatting,
    /// Legs are being waited for and looked at.
    Opening,
    /// The set is decided; it is being recorded, the bitmap written, an old owner's lease waited for.
    Settling,
    Serving,
    Closing,
    Closed,
    Fenced,
    Failed,
}

/// A group that is being formatted, opened, served or closed.
#[derive(Debug)]
pub struct Mirror {
    config: MirrorConfig,
    geometry: LegGeometry,
    now: Time,
    phase: Phase,
    opening: Opening,
    legs: Legs,
    membership: Membership,
    bitmap: Bitmap,
    clearing: Clearing,
    locks: RangeLocks,
    modifies: Modifies,
    reads: Reads,
    resync: Resync,
    held: Held,
    lone: Lone,
    /// Since when no leg can be served from.
    away_since: Option<Time>,
    /// Something changed that another part of the machine may have waited for.
    again: bool,
    /// Nothing goes on but requests from above: no part waits for any of them, or for anything but time.
    calm: bool,
    /// Not after any time at which a part has something to do.
    due: Option<Time>,
    /// No lease that counts runs out before.
    lease_until: Time,
    /// The engine had no buffer; try again then.
    starved_until: Option<Time>,
    /// The only leg in sync could not write the bitmap; try again then.
    rounds_after: Option<Time>,
    outputs: Outputs,
}

/// A leg as people should see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegProgress {
    /// Which.
    pub leg: Uuid,
    /// It is recorded as having every acknowledged write.
    pub in_sync: bool,
    /// It is attached and has not failed since.
    pub reachable: bool,
}

impl Mirror {
    /// A group whose epoch has just been granted to this owner; no leg is attached yet.
    ///
    /// # Errors
    /// What is wrong with the configuration, for people.
    pub fn new(config: MirrorConfig, now: Time) -> Result<Mirror, String> {
        let geometry = config.group.geometry()?;
        let ids = config.group.legs.iter().map(|leg| leg.leg).collect();
        let mut legs = Legs::new(ids, geometry.regions(), geometry.bitmap_blocks());
        let in_sync = |leg: &usize| config.group.legs[*leg].in_sync || !config.group.formatted;
        let expected: LegSet = (0..legs.count()).filter(in_sync).collect();
        for leg in expected.iter() {
            legs[leg].role = Role::Expected;
        }
        let formatted = config.group.formatted;
        let mut mirror = Mirror {
            geometry,
            now,
            phase: if formatted {
                Phase::Opening
            } else {
                Phase::Formatting
            },
            opening: Opening::new(now),
            membership: Membership::new(if formatted { expected } else { LegSet::EMPTY }),
            bitmap: Bitmap::new(config.group.group, &geometry),
            clearing: Clearing::default(),
            locks: RangeLocks::default(),
            modifies: Modifies::default(),
            reads: Reads::default(),
            resync: Resync::new(geometry.regions()),
            held: Held::default(),
            lone: if expected.len() == 1 {
                Lone::Flushed
            } else {
                Lone::No
            },
            away_since: None,
            again: false,
            calm: false,
            due: None,
            lease_until: Time::ZERO,
            starved_until: None,
            rounds_after: None,
            outputs: Outputs::default(),
            legs,
            config,
        };
        mirror.due = mirror.earliest_timeout();
        Ok(mirror)
    }

    /// The leg can be reached, and holds this epoch's reservation (R2).
    pub fn leg_attached(&mut self, now: Time, leg: usize, memory: &mut dyn Memory) {
        self.advance_clock(now);
        let state = &mut self.legs[leg];
        if self.phase.has_ended() || state.link != Link::Lost {
            return;
        }
        state.link = Link::Attached;
        state.fenced = true;
        state.suspected = false;
        state.retry_at = now;
        self.opening.fenced(now);
        self.advance(memory);
    }

    /// The leg cannot be reached any more. What was in flight there is lost: it is not answered any more, and nothing of it
    /// will be executed behind what is sent after the next `leg_attached` (R8).
    pub fn leg_lost(&mut self, now: Time, leg: usize, memory: &mut dyn Memory) {
        self.advance_clock(now);
        if self.legs[leg].link == Link::Lost {
            return;
        }
        let lost = self.legs.take_all(leg);
        self.outputs.forget_leg(leg);
        if !self.phase.has_ended() {
            self.legs[leg].link = Link::Lost;
            self.legs[leg].probing = false;
            self.drop_leg(leg);
        }
        for call in lost {
            self.call_ended(call, None, memory);
        }
        self.advance(memory);
    }

    /// A [`MirrorOutput::Leg`] has ended. Names of requests that are no longer in flight (`leg_lost`) are ignored.
    pub fn leg_completed(&mut self, now: Time, id: SubRequestId, status: Status, memory: &mut dyn Memory) {
        self.advance_clock(now);
        let Some(call) = self.legs.take(id) else {
            return;
        };
        if status == Status::StaleEpoch {
            self.fence();
        } else if status != Status::Unavailable {
            // Whatever else it says, the leg has executed the request: for this owner.
            self.legs.note_answer(call.leg, call.sent);
        }
        self.calm &= status == Status::Success && call.purpose.is_from_above();
        self.call_ended(call, Some(status), memory);
        self.advance_unless_calm(memory);
    }

    /// The store answered the [`MirrorOutput::Membership`] that is under way.
    pub fn membership_answer(&mut self, now: Time, outcome: MembershipOutcome, memory: &mut dyn Memory) {
        self.advance_clock(now);
        if !self.phase.has_ended() {
            self.membership_answered(outcome);
        }
        self.advance(memory);
    }

    /// A request, in blocks of an area. Ends with [`MirrorOutput::Complete`].
    pub fn submit(
        &mut self,
        now: Time,
        id: RequestId,
        area: Area,
        request: Request,
        memory: &mut dyn Memory,
    ) {
        self.advance_clock(now);
        let refused = match self.phase {
            Phase::Serving => None,
            Phase::Fenced => Some(Status::StaleEpoch),
            _ => Some(Status::Unavailable),
        };
        match refused.map_or_else(|| self.leg_range(area, request), Err) {
            Err(status) => self.outputs.end(id, status),
            Ok(range) => match request.operation {
                Operation::Read { buffer } => self.submit_read(id, range, buffer),
                operation => self.submit_modify(id, operation, range),
            },
        }
        self.advance_unless_calm(memory);
    }

    /// Ends the group in order: new requests end `Unavailable`, those in flight are finished, the bitmap is cleared if all
    /// legs are there. Answers [`MirrorOutput::Closed`].
    pub fn close(&mut self, now: Time, memory: &mut dyn Memory) {
        self.advance_clock(now);
        self.begin_close();
        self.advance(memory);
    }

    /// A newer owner is known from elsewhere: as if a leg had said so.
    pub fn fence_now(&mut self) {
        if !self.phase.has_ended() {
            self.fence();
        }
    }

    /// Time has come to what [`Mirror::next_timeout`] said.
    pub fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        self.advance_clock(now);
        self.advance(memory);
    }

    /// The next thing to do: requests to legs, in order, then ends of requests, in order, then everything else, in order.
    pub fn poll_output(&mut self) -> Option<MirrorOutput> {
        self.outputs.poll()
    }

    /// The same for an owner that takes them apart from each other.
    #[inline]
    pub(crate) fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    /// When [`Mirror::handle_timeout`] is due. Nothing may turn out to be due then.
    pub fn next_timeout(&self) -> Option<Time> {
        self.due.filter(|_| !self.phase.has_ended())
    }

    fn earliest_timeout(&self) -> Option<Time> {
        let times = [
            self.starved_until,
            self.rounds_after,
            self.open_timeout(),
            self.rejoin_timeout(),
            self.lease_timeout(),
            self.clear_timeout(),
            self.resync_timeout(),
            self.away_timeout(),
        ];
        times.into_iter().flatten().min()
    }

    /// The lengths of the two areas.
    pub fn area_length(&self, area: Area) -> Blocks {
        self.area_range(area).length
    }

    /// Its legs, in the order of the configuration.
    pub fn progress(&self) -> Vec<LegProgress> {
        let leg = |leg: usize| LegProgress {
            leg: self.legs[leg].id,
            in_sync: self.membership.recorded().has(leg),
            reachable: self.legs[leg].link == Link::Up,
        };
        (0..self.legs.count()).map(leg).collect()
    }

    /// Regions that may differ between legs of the group: until they are made equal, or while a leg is away.
    pub fn regions_dirty(&self) -> u64 {
        let mut dirty = self.resync.unequal().clone();
        if self.membership.recorded() != self.legs.all() {
            dirty.union_with(self.bitmap.dirty());
        }
        for leg in 0..self.legs.count() {
            dirty.union_with(&self.legs[leg].todo);
        }
        dirty.count()
    }

    /// Whether requests are accepted.
    pub fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// Whether it has ended in order.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    fn advance_clock(&mut self, now: Time) {
        assert!(now >= self.now, "time does not go back");
        self.now = now;
    }

    fn area_range(&self, area: Area) -> BlockRange {
        match area {
            Area::Metadata => self.geometry.metadata,
            Area::Data => self.geometry.data,
        }
    }

    fn leg_range(&self, area: Area, request: Request) -> Result<BlockRange, Status> {
        let (area, range) = (self.area_range(area), request.range);
        if request.operation == Operation::Flush {
            return Ok(BlockRange::default());
        }
        if range.length.0 == 0 {
            return Err(Status::Invalid);
        }
        let end = range.start.0.checked_add(range.length.0);
        if end.is_none_or(|end| end > area.length.0) {
            return Err(Status::OutOfRange);
        }
        Ok(BlockRange {
            start: Lba(area.start.0 + range.start.0),
            length: range.length,
        })
    }

    /// After a request from above, or the end of one: in steady state no other part has to know.
    #[inline]
    fn advance_unless_calm(&mut self, memory: &mut dyn Memory) {
        if !self.calm {
            self.advance(memory);
        }
    }

    /// Whether no part of the machine has anything to do, or waits for anything but time, or for a leg that is gone to come back.
    fn is_calm(&self) -> bool {
        let at_rest = |leg: &legs::Leg| {
            matches!(
                (leg.role, leg.link),
                (Role::InSync, Link::Up) | (Role::Out, Link::Lost | Link::Refused)
            )
        };
        self.phase == Phase::Serving
            && self.legs.select(at_rest) == self.legs.all()
            && !self.legs.serving().is_empty()
            && self.away_since.is_none()
            && self.is_membership_settled()
            && self.bitmap.is_settled()
            && self.resync.is_idle()
            && self.held.is_empty()
            && self.starved_until.or(self.rounds_after).is_none()
            && !matches!(self.lone, Lone::Draining(_))
            && !self.modifies.is_unsettled()
            && !self.reads.is_unsettled()
            && !self.modifies.any_stuck()
            && !self.reads.any_waiting()
    }

    /// Lets every part do what it can, until none can do more.
    fn advance(&mut self, memory: &mut dyn Memory) {
        self.advance_parts(memory);
        self.calm = self.is_calm();
        self.due = self.earliest_timeout();
    }

    fn advance_parts(&mut self, memory: &mut dyn Memory) {
        if self.starved_until.is_some_and(|until| until <= self.now) {
            self.starved_until = None;
        }
        if self.rounds_after.is_some_and(|after| after <= self.now) {
            self.rounds_after = None;
        }
        loop {
            self.again = false;
            match self.phase {
                Phase::Formatting => self.advance_format(memory),
                Phase::Opening => self.advance_open(memory),
                Phase::Settling | Phase::Serving | Phase::Closing => self.advance_running(memory),
                Phase::Closed | Phase::Fenced | Phase::Failed => {}
            }
            if !self.again {
                return;
            }
        }
    }

    fn advance_running(&mut self, memory: &mut dyn Memory) {
        self.note_absence();
        self.advance_membership();
        self.advance_rounds(memory);
        self.advance_lone();
        self.advance_modifies();
        self.advance_reads();
        self.advance_rejoin(memory);
        self.advance_resync(memory);
        self.advance_lease(memory);
        self.advance_clear();
        match self.phase {
            Phase::Settling => self.advance_settle(),
            Phase::Closing => self.advance_close(),
            _ => {}
        }
    }

    /// A request to a leg has ended: with a status, or lost with the leg.
    fn call_ended(&mut self, call: Call, status: Option<Status>, memory: &mut dyn Memory) {
        if !self.phase.has_ended() {
            let succeeded = status == Some(Status::Success);
            let mut last = false;
            if let Some(error) = status.filter(|_| !succeeded && call.purpose.modifies()) {
                last = !self.drop_leg(call.leg);
                self.note_last_error(&call, last, error);
            }
            self.dispatch(&call, status, memory);
            self.again |= last;
        }
        if let Some(buffer) = call.purpose.buffer() {
            memory.release(buffer.buffer);
        }
    }

    /// To the part that asked. Parts that have given the leg up ignore it.
    fn dispatch(&mut self, call: &Call, status: Option<Status>, memory: &mut dyn Memory) {
        let (leg, succeeded) = (call.leg, status == Some(Status::Success));
        match call.purpose {
            Purpose::Modify(slot) => self.modify_answered(slot, leg, succeeded),
            Purpose::Read(slot) => self.read_answered(slot, leg, status),
            Purpose::Bitmap { block, sequence, .. } => self.round_answered(block, sequence, leg, succeeded),
            Purpose::StepRead { buffer } => self.step_read(succeeded, buffer, memory),
            Purpose::StepWrite { .. } => self.step_written(leg),
            Purpose::Probe { .. } => self.legs[leg].probing = false,
            Purpose::Check { buffer } => self.check_answered(leg, succeeded, buffer, memory),
            Purpose::JoinFlush => self.join_flushed(leg, succeeded),
            Purpose::Seal { .. } => self.sealed(leg, succeeded),
            Purpose::Format { .. } => self.format_written(leg, succeeded),
            Purpose::FormatFlush => self.format_flushed(leg, succeeded),
            Purpose::ClearFlush => self.clear_flushed(leg, succeeded),
            // A leg that failed it is out, or is tried again with the next flush from above.
            Purpose::LoneFlush => {}
        }
    }

    /// The leg is lost, or has failed something that changes it: it may have missed something. Returns `false` if it is the last
    /// one in sync: such a leg is never given up.
    fn drop_leg(&mut self, leg: usize) -> bool {
        let others = self.legs.serving().without(LegSet::one(leg));
        let role = self.legs[leg].role;
        let last = role == Role::InSync && others.is_empty();
        if last && self.legs[leg].link == Link::Up {
            return false;
        }
        let involved = self.membership.may_be().has(leg);
        let state = &mut self.legs[leg];
        state.role = match role {
            Role::InSync if !last => Role::Leaving,
            Role::Joining if self.phase == Phase::Formatting && involved => Role::Joining,
            Role::Ready | Role::Formatting => Role::Expected,
            Role::Joining if self.phase == Phase::Formatting => Role::Expected,
            role if role.is_rejoining() && involved => Role::Leaving,
            role if role.is_rejoining() => Role::Out,
            role => role,
        };
        if state.link == Link::Up {
            state.link = Link::Attached;
        }
        state.retry_at = self.now + self.config.tuning.rejoin_after;
        state.todo.clear_all();
        self.modifies.drop_leg(leg);
        self.bitmap.drop_leg(leg);
        self.resync.drop_leg(leg);
        self.clearing.drop_leg(leg);
        self.again = true;
        if last {
            self.last_leg_lost();
        }
        !last
    }

    /// The last leg in sync is lost, and with it perhaps what it had not on its media. What was not said yet is not true any
    /// more, and legs on the way back may have copied what is gone.
    fn last_leg_lost(&mut self) {
        self.withdraw_held();
        self.resync.mark_all_unequal(self.bitmap.dirty());
    }

    /// The last leg in sync has failed a request: whoever waits for it has to be told, for there is no other leg.
    fn note_last_error(&mut self, call: &Call, last: bool, error: Status) {
        if !last {
            return;
        }
        match call.purpose {
            Purpose::Modify(slot) => self.modifies.note_error(slot, call.leg, error),
            Purpose::Bitmap { block, .. } => {
                self.modifies.fail_marking(block, error);
                self.clearing.fail();
                self.rounds_after = Some(self.now + self.config.tuning.rejoin_after);
            }
            _ => {}
        }
    }

    /// Sends a request to a leg.
    fn send(&mut self, leg: usize, purpose: Purpose, operation: Operation, range: BlockRange) {
        if self.legs.in_flight(leg) == 0 {
            let suspect_at = self.now + self.config.tuning.leg_timeout;
            self.due = Some(self.due.map_or(suspect_at, |due| due.min(suspect_at)));
        }
        let id = self.legs.book(self.now, leg, purpose);
        let request = Request { operation, range };
        self.outputs.send(LegRequest { leg, id, request });
    }

    /// A metadata buffer of so many blocks; if the engine has none, the machine comes back to it.
    fn allocate(&mut self, blocks: u64, memory: &mut dyn Memory) -> Option<crate::BufferSlice> {
        let length = u32::try_from(Blocks(blocks).bytes()).expect("metadata is small");
        let buffer = memory.allocate(length);
        if buffer.is_none() {
            self.starved_until = Some(self.now + MEMORY_RETRY);
        }
        buffer
    }

    /// The superblock that a leg should have.
    fn superblock(&self, leg: usize) -> Superblock {
        Superblock {
            leg: self.legs[leg].id,
            group: self.config.group.group,
            slice: self.config.slice,
            pool: self.config.pool,
            index: u32::try_from(leg).expect("few legs"),
            group_size: u32::try_from(self.legs.count()).expect("few legs"),
            geometry: self.geometry,
            formatted_epoch: self.config.epoch,
        }
    }

    /// Ends everything: a newer owner is there.
    fn fence(&mut self) {
        if self.phase == Phase::Fenced {
            return;
        }
        self.phase = Phase::Fenced;
        // Nothing that is still to be said may go out any more, except how requests ended.
        self.outputs.keep_ends();
        self.outputs.say(MirrorOutput::Fenced);
        self.end_all(Status::StaleEpoch);
    }

    /// Answers everything that waits.
    fn end_all(&mut self, status: Status) {
        let waiting = self.modifies.take_all().into_iter().chain(self.reads.take_all());
        let held = self.held.take_all();
        for id in waiting.chain(held) {
            self.outputs.end(id, status);
        }
    }
}

impl Phase {
    fn has_ended(self) -> bool {
        matches!(self, Phase::Closed | Phase::Fenced | Phase::Failed)
    }
}
