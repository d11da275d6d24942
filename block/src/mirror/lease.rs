//! Leases on legs (R5), and legs that do not answer.
//!
//! A leg's lease runs from when the latest request that it has answered was *sent*: an owner that came later and fenced the leg did
//! so after the leg executed that request. While the lease of any leg that is recorded as in sync has run out,
//! answers are held back, reads too, though their data is in hand.

use super::{LegSet, Link, Mirror, MirrorOutput, Phase, Purpose};
use crate::{BlockRange, Memory, Operation, RequestId, Status, Time};
use std::collections::VecDeque;

/// Answers that must not be given yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    answers: VecDeque<(RequestId, Status)>,
}

impl Held {
    pub(super) fn push(&mut self, id: RequestId, status: Status) {
        self.answers.push_back((id, status));
    }
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
    pub(super) fn take_all(&mut self) -> Vec<RequestId> {
        self.answers.drain(..).map(|(id, _)| id).collect()
    }
}

impl Mirror {
    /// Whether no other owner can be serving.
    #[inline]
    pub(super) fn lease_holds(&mut self) -> bool {
        self.now < self.lease_until || self.renew_lease()
    }

    /// Looks when the first lease that counts runs out; until then nobody needs to look again, for leases only grow while the set
    /// stays the same.
    fn renew_lease(&mut self) -> bool {
        let Some(lease) = self.config.tuning.lease else {
            return true;
        };
        let legs = self.membership.may_be().iter();
        let ends = legs.map(|leg| self.legs[leg].answered + lease).min();
        self.lease_until = ends.unwrap_or(Time(u64::MAX));
        self.now < self.lease_until
    }

    /// The legs whose leases count may be others from here on.
    pub(super) fn forget_lease(&mut self) {
        self.lease_until = Time::ZERO;
    }

    pub(super) fn advance_lease(&mut self, memory: &mut dyn Memory) {
        self.probe(memory);
        self.suspect();
        if !self.held.is_empty() && self.lease_holds() {
            self.again = true;
            for (id, status) in self.held.answers.drain(..) {
                self.outputs.end(id, status);
            }
        }
    }

    /// What was held back is not true any more.
    pub(super) fn withdraw_held(&mut self) {
        for id in self.held.take_all() {
            let status = Status::Unavailable;
            self.outputs.end(id, status);
        }
    }

    /// When each leg whose lease counts should be asked something, lest the lease run out.
    fn probe_times(&self) -> impl Iterator<Item = (usize, Time)> {
        let lease = self.config.tuning.lease;
        let legs = if lease.is_some() {
            self.membership.may_be()
        } else {
            LegSet::EMPTY
        };
        let reachable = |leg: &usize| matches!(self.legs[*leg].link, Link::Up | Link::Attached);
        let idle = move |leg: &usize| reachable(leg) && !self.legs[*leg].probing;
        let third = lease.unwrap_or_default() / 3;
        legs.iter().filter(idle).map(move |leg| {
            let renewed = self.legs[leg].asked;
            (leg, renewed + third)
        })
    }

    fn probe(&mut self, memory: &mut dyn Memory) {
        if self.starved_until.is_some() {
            return;
        }
        let due: Vec<usize> = self
            .probe_times()
            .filter(|(_, at)| *at <= self.now)
            .map(|(leg, _)| leg)
            .collect();
        for leg in due {
            let Some(buffer) = self.allocate(1, memory) else {
                return;
            };
            self.legs[leg].probing = true;
            let place = BlockRange::new(0, 1);
            self.send(leg, Purpose::Probe { buffer }, Operation::Read { buffer }, place);
        }
    }

    /// Gives up legs that leave requests unanswered.
    fn suspect(&mut self) {
        let patience = self.config.tuning.leg_timeout;
        let suspects: Vec<usize> = self
            .legs
            .suspect_at(patience)
            .filter(|(_, at)| *at <= self.now)
            .map(|(leg, _)| leg)
            .collect();
        for leg in suspects {
            self.legs[leg].suspected = true;
            self.outputs.say(MirrorOutput::LegSuspect { leg });
            self.drop_leg(leg);
        }
    }

    pub(super) fn lease_timeout(&self) -> Option<Time> {
        let suspect = self
            .legs
            .suspect_at(self.config.tuning.leg_timeout)
            .map(|(_, at)| at)
            .min();
        let running = matches!(self.phase, Phase::Settling | Phase::Serving | Phase::Closing);
        let probe = self
            .probe_times()
            .map(|(_, at)| at)
            .min()
            .filter(|_| running && self.starved_until.is_none());
        suspect.into_iter().chain(probe).min()
    }
}
