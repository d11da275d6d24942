//! A leg's way into service: it is looked at whenever it has been attached; and if it is not in the set, it comes back (R4).
//!
//! ```text
//! Out ─check─► Marking ─bitmap on it─► Filling ─regions copied─► Draining ─► Flushing ─► (Sealing) ─► Joining ─recorded─► InSync
//! ```
//!
//! What has to be copied: the regions that are dirty in the group's bitmap (never cleared while a leg is out), and those that are dirty
//! in the leg's own: there it may have a write that the others missed. A leg without a superblock is new, and gets
//! everything, and its superblocks last: until then it counts as new again. A leg with anything else on it is refused (R9).
//!
//! From `Filling` on the leg gets every write, and every write waits until the leg has ended it. A leg that fails on the way
//! starts again, once nothing is in flight to it: nothing old can then arrive behind something new.

use super::bits::Bits;
use super::{Link, Mirror, MirrorOutput, Phase, Purpose, Role};
use crate::leg_format::{FormatProblem, SUPERBLOCK_PLACES, Superblock};
use crate::{BLOCK_SIZE, BlockRange, BufferSlice, Memory, Operation, Time};

/// What was found at the start of a leg.
struct Findings {
    superblock: Result<Superblock, FormatProblem>,
    bits: Bits,
    sequence: u64,
    newest_place: Vec<usize>,
}

impl Mirror {
    /// Superblocks and bitmap.
    pub(super) fn head_range(&self) -> BlockRange {
        let last = self.geometry.bitmap_place(self.geometry.bitmap_blocks() - 1, 1);
        BlockRange::new(0, last.end().0)
    }

    /// Whether it matters what is on a leg of this role.
    fn wants_check(&self, role: Role) -> bool {
        match role {
            Role::Expected | Role::InSync => true,
            Role::Out => self.phase == Phase::Serving,
            _ => false,
        }
    }

    fn may_check(&self, leg: usize) -> bool {
        let state = &self.legs[leg];
        self.wants_check(state.role) && state.link == Link::Attached && self.legs.in_flight(leg) == 0
    }

    /// Looks at what is on legs that were attached.
    pub(super) fn start_checks(&mut self, memory: &mut dyn Memory) {
        for leg in 0..self.legs.count() {
            let due = self.may_check(leg) && self.legs[leg].retry_at <= self.now;
            if !due || self.starved_until.is_some() {
                continue;
            }
            let range = self.head_range();
            if let Some(buffer) = self.allocate(range.length.0, memory) {
                self.legs[leg].link = Link::Checking;
                self.send(leg, Purpose::Check { buffer }, Operation::Read { buffer }, range);
            }
        }
    }

    pub(super) fn rejoin_timeout(&self) -> Option<Time> {
        let waiting = (0..self.legs.count()).filter(|leg| self.may_check(*leg));
        waiting
            .map(|leg| self.legs[leg].retry_at)
            .min()
            .filter(|_| self.starved_until.is_none())
    }

    pub(super) fn check_answered(
        &mut self,
        leg: usize,
        succeeded: bool,
        buffer: BufferSlice,
        memory: &dyn Memory,
    ) {
        self.again = true;
        if self.legs[leg].link != Link::Checking {
            return;
        }
        let role = self.legs[leg].role;
        if !succeeded || !self.wants_check(role) {
            self.legs[leg].link = Link::Attached;
            self.legs[leg].retry_at = self.now + self.config.tuning.rejoin_after;
            return;
        }
        let findings = self.parse_head(leg, memory.bytes(buffer));
        let may_be_blank = role == Role::Out || self.phase == Phase::Formatting;
        match findings.superblock {
            Ok(_) => {}
            Err(FormatProblem::Blank) if may_be_blank => {}
            Err(problem) => return self.refuse(leg, problem),
        }
        self.legs[leg].link = Link::Up;
        self.legs[leg].blank = findings.superblock.is_err();
        match role {
            Role::Expected => self.found_expected(leg, findings),
            Role::Out => self.begin_rejoin(leg, findings),
            // It was away, and it is the same.
            _ => self.legs[leg].newest_place = findings.newest_place,
        }
    }

    fn parse_head(&self, leg: usize, bytes: &[u8]) -> Findings {
        let block = |lba: u64| {
            let start = lba as usize * BLOCK_SIZE as usize;
            &bytes[start..start + BLOCK_SIZE as usize]
        };
        let copies = SUPERBLOCK_PLACES.map(|place| block(place.0));
        let expected = self.superblock(leg);
        let superblock =
            Superblock::parse_copies(copies).and_then(|found| found.matches(&expected).map(|()| found));
        let mut findings = Findings {
            superblock,
            bits: Bits::new(self.geometry.regions()),
            sequence: 0,
            newest_place: Vec::new(),
        };
        for index in 0..self.geometry.bitmap_blocks() {
            let identity = self.bitmap.identity(index);
            let places = [0, 1].map(|place| {
                identity
                    .parse(block(self.geometry.bitmap_place(index, place).start.0))
                    .ok()
            });
            let sequences = places
                .each_ref()
                .map(|place| place.as_ref().map(|block| block.sequence));
            let newest = usize::from(sequences[1] > sequences[0]);
            findings.newest_place.push(newest);
            let regions = self.bitmap.regions_of(index);
            match &places[newest] {
                Some(block) => {
                    findings.sequence = findings.sequence.max(block.sequence);
                    findings.bits.union_with_bytes(regions, &block.bits);
                }
                // Nobody knows: everything may differ.
                None => findings.bits.set_range(regions),
            }
        }
        findings
    }

    fn refuse(&mut self, leg: usize, problem: FormatProblem) {
        self.legs[leg].link = Link::Refused;
        let reason = format!("the superblock of leg {leg} of the group cannot be used: {problem}");
        self.outputs.say(MirrorOutput::LegRefused {
            leg,
            reason: reason.clone(),
        });
        let usable = self
            .legs
            .select(|leg| leg.role == Role::Expected && leg.link != Link::Refused);
        let opening = self.phase == Phase::Opening && usable.is_empty() && self.ready_legs().is_empty();
        if opening || self.phase == Phase::Formatting {
            self.fail(reason);
        }
    }

    /// While opening: what is on the leg is kept until it is decided which legs take part.
    fn found_expected(&mut self, leg: usize, findings: Findings) {
        let state = &mut self.legs[leg];
        state.role = Role::Ready;
        state.newest_place = findings.newest_place;
        if self.phase == Phase::Opening {
            state.todo = findings.bits;
            state.sequence = findings.sequence;
        }
    }

    fn begin_rejoin(&mut self, leg: usize, findings: Findings) {
        let state = &mut self.legs[leg];
        state.role = Role::Marking;
        state.newest_place = findings.newest_place;
        state.marked.fill(false);
        let mut bits = findings.bits;
        if state.blank {
            bits.set_range(0..bits.len());
        }
        self.bitmap.merge(&bits, findings.sequence);
        self.bitmap.want_all();
    }

    /// Takes each leg on the way back one step further.
    pub(super) fn advance_rejoin(&mut self, memory: &mut dyn Memory) {
        for leg in 0..self.legs.count() {
            let state = &mut self.legs[leg];
            match state.role {
                Role::Marking if state.marked.iter().all(|marked| *marked) => {
                    state.role = Role::Filling;
                    state.todo = self.bitmap.dirty().clone();
                    self.again = true;
                }
                Role::Filling if state.todo.is_empty() && self.resync.is_idle() => {
                    state.role = Role::Draining(self.modifies.next_number());
                    self.again = true;
                }
                Role::Draining(before) if !self.modifies.any_pending_before(before, leg) => {
                    state.role = Role::Flushing;
                    self.send(leg, Purpose::JoinFlush, Operation::Flush, BlockRange::default());
                }
                _ => {}
            }
        }
        self.start_checks(memory);
        self.start_seals(memory);
    }

    pub(super) fn join_flushed(&mut self, leg: usize, succeeded: bool) {
        let state = &mut self.legs[leg];
        if succeeded && state.role == Role::Flushing {
            state.role = if state.blank {
                Role::Sealing(0)
            } else {
                Role::Joining
            };
            self.again = true;
        }
    }

    /// Everything is on the new leg: it becomes one of ours.
    fn start_seals(&mut self, memory: &mut dyn Memory) {
        for leg in 0..self.legs.count() {
            if self.legs[leg].role != Role::Sealing(0) || self.starved_until.is_some() {
                continue;
            }
            let Some(buffer) = self.allocate(1, memory) else {
                return;
            };
            self.superblock(leg).write_to(memory.bytes_mut(buffer));
            for place in SUPERBLOCK_PLACES {
                memory.retain(buffer.buffer);
                let operation = Operation::Write {
                    buffer,
                    durable: true,
                };
                self.send(
                    leg,
                    Purpose::Seal { buffer },
                    operation,
                    BlockRange::new(place.0, 1),
                );
            }
            memory.release(buffer.buffer);
            self.legs[leg].role = Role::Sealing(2);
        }
    }

    pub(super) fn sealed(&mut self, leg: usize, succeeded: bool) {
        let state = &mut self.legs[leg];
        let Role::Sealing(left) = state.role else {
            return;
        };
        if succeeded {
            state.blank &= left > 1;
            state.role = if left > 1 {
                Role::Sealing(left - 1)
            } else {
                Role::Joining
            };
            self.again = true;
        }
    }
}
