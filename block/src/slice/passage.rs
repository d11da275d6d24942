//! What goes from layer to layer inside a slice, until none has anything more to say.

use super::{GROUP_SHIFT, MembershipChange, Slice, SliceOutput, SliceState};
use crate::concat::ConcatOutput;
use crate::mirror::{GroupChange, Mirror, MirrorOutput};
use crate::thin::{Failure, PoolOutput, VolumeId};
use crate::{Memory, RequestId, Status, SubRequestId};

impl Slice {
    pub(super) fn pass_on(&mut self, memory: &mut dyn Memory) {
        while self.pass_up(memory) || self.pass_down(memory) || self.confirm(memory) || self.end_pool(memory)
        {
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

    /// From the groups upwards. Returns whether there was anything.
    fn pass_up(&mut self, memory: &mut dyn Memory) -> bool {
        let mut any = false;
        for group in 0..self.groups.len() {
            while let Some(output) = self.groups[group].poll_output() {
                any = true;
                self.group_says(group, output, memory);
            }
        }
        while let Some(output) = self.concat.poll_output() {
            any = true;
            match output {
                ConcatOutput::Group {
                    group,
                    id,
                    area,
                    request,
                } => self.groups[group].submit(self.now, RequestId(id.0), area, request, memory),
                ConcatOutput::Complete { id, status } => self.below_ended(id, status, memory),
            }
        }
        any
    }

    /// From the pool, up and down. Returns whether there was anything.
    fn pass_down(&mut self, memory: &mut dyn Memory) -> bool {
        let mut any = false;
        while let Some(output) = self.pool.as_mut().and_then(|pool| pool.poll_output()) {
            any = true;
            self.pool_says(output, memory);
        }
        any
    }

    fn group_says(&mut self, group: usize, output: MirrorOutput, memory: &mut dyn Memory) {
        let id_of = |leg: usize| self.config.groups[group].legs[leg].leg;
        match output {
            MirrorOutput::Leg { leg, id, request } => self.outputs.push_back(SliceOutput::Leg {
                leg: id_of(leg),
                id: SubRequestId((group as u64) << GROUP_SHIFT | id.0),
                request,
            }),
            MirrorOutput::LegSuspect { leg } => self
                .outputs
                .push_back(SliceOutput::LegSuspect { leg: id_of(leg) }),
            MirrorOutput::LegRefused { leg, reason } => {
                let leg = id_of(leg);
                self.outputs.push_back(SliceOutput::LegRefused { leg, reason });
            }
            MirrorOutput::Complete { id, status } => self.concat.completed(SubRequestId(id.0), status),
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
                self.confirmations.send(RequestId(id.0));
                self.concat.submit(RequestId(id.0), area, request);
            }
            PoolOutput::Zero { buffer } => memory.bytes_mut(buffer).fill(0),
            PoolOutput::Complete { id, status } => {
                if status != Status::Success {
                    self.confirmations.forget(id);
                    self.answer(id, status);
                } else if self.confirmations.may_answer(id) {
                    self.answer(id, status);
                }
            }
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

    /// Answers a request from above, unless it has been already: a fence ends everything at once.
    pub(super) fn answer(&mut self, id: RequestId, status: Status) {
        if self.requests.remove(&id) {
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
            for id in core::mem::take(&mut self.requests) {
                let status = Status::Unavailable;
                self.outputs.push_back(SliceOutput::Complete { id, status });
            }
            self.outputs.push_back(SliceOutput::Closed);
        }
    }
}
