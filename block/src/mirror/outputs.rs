//! What a group says: requests to legs, ends of requests from above, and everything else, each in its own order.
//!
//! The first two are nearly all there is, and small; apart from each other and the rest they cost little on their way.

use super::MirrorOutput;
use crate::{Request, RequestId, Status, SubRequestId};
use std::collections::VecDeque;

/// A request to a leg, in blocks of the leg.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LegRequest {
    pub(crate) leg: usize,
    pub(crate) id: SubRequestId,
    pub(crate) request: Request,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    to_legs: VecDeque<LegRequest>,
    ended: VecDeque<(RequestId, Status)>,
    rest: VecDeque<MirrorOutput>,
}

impl Outputs {
    /// A request goes to a leg.
    #[inline]
    pub(super) fn send(&mut self, request: LegRequest) {
        self.to_legs.push_back(request);
    }
    /// A request from above has ended.
    #[inline]
    pub(super) fn end(&mut self, id: RequestId, status: Status) {
        self.ended.push_back((id, status));
    }
    /// Anything else.
    pub(super) fn say(&mut self, output: MirrorOutput) {
        self.rest.push_back(output);
    }
    /// Nothing may go out any more but how requests have ended.
    pub(super) fn keep_ends(&mut self) {
        self.to_legs.clear();
        self.rest.clear();
    }

    /// What was not taken yet will not reach the leg.
    pub(super) fn forget_leg(&mut self, leg: usize) {
        self.to_legs.retain(|request| request.leg != leg);
    }

    /// The next request to a leg.
    #[inline]
    pub(crate) fn poll_leg(&mut self) -> Option<LegRequest> {
        self.to_legs.pop_front()
    }
    /// Whether there is a request to a leg.
    #[inline]
    pub(crate) fn has_leg(&self) -> bool {
        !self.to_legs.is_empty()
    }
    /// The next request from above that has ended.
    #[inline]
    pub(crate) fn poll_end(&mut self) -> Option<(RequestId, Status)> {
        self.ended.pop_front()
    }
    /// The next of everything else; what was said of ends of requests must be taken first.
    #[inline]
    pub(crate) fn poll_rest(&mut self) -> Option<MirrorOutput> {
        match self.rest.is_empty() {
            true => None,
            false => self.rest.pop_front(),
        }
    }
    /// The next of all.
    pub(super) fn poll(&mut self) -> Option<MirrorOutput> {
        if let Some(LegRequest { leg, id, request }) = self.poll_leg() {
            return Some(MirrorOutput::Leg { leg, id, request });
        }
        match self.poll_end() {
            Some((id, status)) => Some(MirrorOutput::Complete { id, status }),
            None => self.poll_rest(),
        }
    }
}
