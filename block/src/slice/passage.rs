//! What goes from layer to layer inside a slice, until none has anything more to say.

use super::{MembershipChange, Slice, SliceOutput, SliceState};
use crate::concat::ConcatOutput;
use crate::mirror::{GroupChange, Mirror, MirrorOutput};
use crate::thin::{Area, Failure, PoolOutput, VolumeId};
use crate::{Memory, Request, RequestId, Slot, Status, SubRequestId};

/// Set in the names that groups know pieces of requests by which the concatenation has cut; clear in those of requests that go to
/// one group as they are.
const PIECE: u64 = 1 << 63;

impl Slice {
    pub(super) fn pass_on(&mut self, memory: &mut dyn Memory) {
        loop {
            self.pass_up(memory);
            self.pass_down(memory);
            let quiet = self.told.is_empty() && self.concat.is_quiet();
            if quiet && !self.confirm(memory) && !self.end_pool(memory) {
                return;
            }
        }
    }

    /// A fenced pool has nothing more to do but to give its buffers back. Returns whether that is new to it.
    fn end_pool(&mut self, memory: &mut dyn Memory) -> bool {
        let ends = self.state == SliceState::Fenced && !self.pool_ends;
        if let Some(pool) = self.pool.as_mut().filter(|_| ends) {
            self.pool_ends = true;
            pool.close(self.now, memory);
        }
        ends && self.pool_ends
    }

    /// From the groups upwards.
    fn pass_up(&mut self, memory: &mut dyn Memory) {
        while let Some(group) = self.told.pop() {
            while let Some((id, status)) = self.groups[group].outputs().poll_end() {
                self.group_ended(id, status, memory);
            }
            while let Some(output) = self.groups[group].outputs().poll_rest() {
                self.group_says(group, output, memory);
            }
            if self.groups[group].outputs().has_leg() && self.speaking.last() != Some(&group) {
                self.speaking.push(group);
            }
        }
        if !self.concat.is_quiet() {
            self.pass_pieces(memory);
        }
    }

    /// Pieces of requests down, and cut requests that have ended up.
    fn pass_pieces(&mut self, memory: &mut dyn Memory) {
        while let Some(output) = self.concat.poll_output() {
            match output {
                ConcatOutput::Group {
                    group,
                    id,
                    area,
                    request,
                } => {
                    let now = self.now;
                    self.tell(group)
                        .submit(now, RequestId(PIECE | id.0), area, request, memory);
                }
                ConcatOutput::Complete { id, status } => self.below_ended(id, status, memory),
            }
        }
    }

    /// A request of the pool, or our own, to the groups.
    #[inline]
    pub(super) fn send_below(
        &mut self,
        id: RequestId,
        area: Area,
        request: Request,
        memory: &mut dyn Memory,
    ) {
        match self.concat.whole(area, request) {
            Some((group, request)) => {
                let now = self.now;
                self.tell(group).submit(now, id, area, request, memory);
            }
            None => self.concat.submit(id, area, request),
        }
    }

    /// What was sent to a group has ended.
    #[inline]
    fn group_ended(&mut self, id: RequestId, status: Status, memory: &mut dyn Memory) {
        if id.0 & PIECE == 0 {
            self.below_ended(id, status, memory);
        } else {
            self.concat.completed(SubRequestId(id.0 & !PIECE), status);
        }
    }

    /// From the pool, up and down.
    fn pass_down(&mut self, memory: &mut dyn Memory) {
        while let Some(output) = self.pool.as_mut().and_then(|pool| pool.poll_output()) {
            self.pool_says(output, memory);
        }
    }

    fn group_says(&mut self, group: usize, output: MirrorOutput, memory: &mut dyn Memory) {
        let id_of = |leg: usize| self.config.groups[group].legs[leg].leg;
        match output {
            MirrorOutput::Leg { .. } | MirrorOutput::Complete { .. } => unreachable!("taken by themselves"),
            MirrorOutput::LegSuspect { leg } => self
                .outputs
                .push_back(SliceOutput::LegSuspect { leg: id_of(leg) }),
            MirrorOutput::LegRefused { leg, reason } => {
                let leg = id_of(leg);
                self.outputs.push_back(SliceOutput::LegRefused { leg, reason });
            }
            MirrorOutput::Membership(change) => self.group_asks(group, change),
            MirrorOutput::Opened => {
                let opening = self.state == SliceState::Opening && self.pool.is_none();
                if opening && self.groups.iter().all(Mirror::is_serving) {
                    self.start_pool(memory);
                }
            }
            MirrorOutput::OpenFailed { reason } => self.fail(format!("group {group}: {reason}")),
            MirrorOutput::Closed => self.group_closed(),
            MirrorOutput::Fenced => self.end_fenced(),
        }
    }

    fn pool_says(&mut self, output: PoolOutput, memory: &mut dyn Memory) {
        match output {
            PoolOutput::Below { id, area, request } => {
                self.confirmations.send(id);
                self.send_below(RequestId(id.0), area, request, memory);
            }
            PoolOutput::Zero { buffer } => memory.bytes_mut(buffer).fill(0),
            PoolOutput::Complete { id, status } => self.pool_ended(Slot(id.0), status),
            PoolOutput::Formatted => {
                // Should the pool be asked for something meanwhile, it is the one that is opened afterwards.
                self.pool = None;
                self.ask(None, MembershipChange::SliceFormatted);
            }
            PoolOutput::Opened => {
                if self.state == SliceState::Opening {
                    self.state = SliceState::Serving;
                    self.outputs.push_back(SliceOutput::Opened);
                }
            }
            PoolOutput::FormatFailed {
                reason: Failure::Fenced,
            }
            | PoolOutput::OpenFailed {
                reason: Failure::Fenced,
            } => {
                self.end_fenced();
            }
            PoolOutput::FormatFailed { reason } | PoolOutput::OpenFailed { reason } => {
                if self.state == SliceState::Closing {
                    self.close_groups(memory);
                } else {
                    self.fail(reason.to_string());
                }
            }
            PoolOutput::VolumeCreated { volume, status }
            | PoolOutput::VolumeDeleted { volume, status }
            | PoolOutput::VolumeResized { volume, status } => self.verb_ended(volume, status),
            PoolOutput::Closed => {
                self.pool = None;
                if self.state == SliceState::Closing {
                    self.close_groups(memory);
                }
            }
        }
    }

    /// The pool is done with a request.
    #[inline]
    fn pool_ended(&mut self, request: Slot, status: Status) {
        let Some(asked) = self.requests.find(request) else {
            return;
        };
        let sent_before = asked.sent_before;
        if status != Status::Success || self.confirmations.may_answer(request, sent_before) {
            self.answer(request, status);
        }
    }

    /// Answers a request from above, unless it has been already: a fence ends everything at once.
    pub(super) fn answer(&mut self, request: Slot, status: Status) {
        if let Some(asked) = self.requests.remove(request) {
            let id = asked.id;
            self.outputs.push_back(SliceOutput::Complete { id, status });
        }
    }

    fn verb_ended(&mut self, volume: VolumeId, status: Status) {
        if let Some(id) = self.verbs.remove(&volume) {
            self.outputs.push_back(SliceOutput::Complete { id, status });
        }
    }

    fn group_asks(&mut self, group: usize, change: GroupChange) {
        let id = self.config.groups[group].group;
        let change = match change {
            GroupChange::InSync(in_sync) => MembershipChange::InSync { group: id, in_sync },
            GroupChange::Formatted => MembershipChange::GroupFormatted { group: id },
        };
        self.ask(Some(group), change);
    }

    fn ask(&mut self, group: Option<usize>, change: MembershipChange) {
        let request = self.next_membership;
        self.next_membership += 1;
        self.memberships.insert(request, group);
        self.outputs
            .push_back(SliceOutput::Membership { request, change });
    }

    fn fail(&mut self, reason: String) {
        if matches!(self.state, SliceState::Opening | SliceState::Serving) {
            self.state = SliceState::Failed;
            self.outputs.push_back(SliceOutput::OpenFailed { reason });
        }
    }

    fn group_closed(&mut self) {
        if self.state == SliceState::Closing && self.groups.iter().all(Mirror::is_closed) {
            self.state = SliceState::Closed;
            // Nobody answers these any more.
            for asked in self.requests.take_all() {
                let (id, status) = (asked.id, Status::Unavailable);
                self.outputs.push_back(SliceOutput::Complete { id, status });
            }
            self.outputs.push_back(SliceOutput::Closed);
        }
    }
}
