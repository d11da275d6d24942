//! No answer from memory alone (R5).
//!
//! The pool can answer some requests without asking a leg: space that was never written reads as zeroes. An owner that has been
//! fenced without knowing would go on doing that, for a new owner that has fenced every leg does not wait for leases. So an
//! answer goes up only when a request to a leg that was sent after the question has succeeded: then, at that moment, there
//! was no other owner yet. Nearly every request has sent one of its own; for the others a block is read.

use super::Slice;
use crate::thin::Area;
use crate::{
    BLOCK_SIZE, BlockRange, BufferSlice, Duration, Memory, Operation, Request, RequestId, Status,
    SubRequestId, Time,
};
use std::collections::{BTreeMap, VecDeque};

/// The name of our own read among the pool's; the pool counts from zero.
const OWN: RequestId = RequestId(u64::MAX);
/// When the engine's buffers are exhausted, the read is tried again after this.
const MEMORY_RETRY: Duration = Duration::from_millis(5);

/// Which requests below were sent after which questions.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    /// Requests sent below so far.
    sent: u64,
    /// The highest number of one that has succeeded.
    confirmed: u64,
    /// The number of each request in flight below.
    in_flight: BTreeMap<RequestId, u64>,
    /// What had been sent when each request came.
    asked: BTreeMap<RequestId, u64>,
    /// Answers that wait.
    waiting: VecDeque<(RequestId, u64)>,
    read: Option<BufferSlice>,
    retry_at: Option<Time>,
}

impl Confirmations {
    /// A request has come from above.
    pub(super) fn ask(&mut self, id: RequestId) {
        self.asked.insert(id, self.sent);
    }
    /// A request goes below.
    pub(super) fn send(&mut self, id: RequestId) {
        self.sent += 1;
        self.in_flight.insert(id, self.sent);
    }
    /// It has ended.
    fn end(&mut self, id: RequestId, status: Status) {
        let number = self.in_flight.remove(&id).expect("sent");
        if status == Status::Success {
            self.confirmed = self.confirmed.max(number);
        }
    }
    /// A request is to be answered with success: whether it may be; if not, it waits here.
    pub(super) fn may_answer(&mut self, id: RequestId) -> bool {
        let asked = self.asked.remove(&id).expect("asked");
        if self.confirmed <= asked {
            self.waiting.push_back((id, asked));
        }
        self.confirmed > asked
    }
    /// A request has ended otherwise.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.asked.remove(&id);
    }
    pub(super) fn retry_at(&self) -> Option<Time> {
        self.retry_at.filter(|_| !self.waiting.is_empty())
    }
}

impl Slice {
    /// A request below has ended: ours, or the pool's.
    pub(super) fn below_ended(&mut self, id: RequestId, status: Status, memory: &mut dyn Memory) {
        self.confirmations.end(id, status);
        if id == OWN {
            let buffer = self.confirmations.read.take().expect("ours is in flight");
            memory.release(buffer.buffer);
        } else {
            let pool = self.pool.as_mut().expect("requests come from the pool");
            pool.below_completed(self.now, SubRequestId(id.0), status, memory);
        }
        let confirmed = self.confirmations.confirmed;
        let waiting = core::mem::take(&mut self.confirmations.waiting);
        for (request, asked) in waiting {
            if confirmed > asked {
                self.answer(request, Status::Success);
            } else if id == OWN && status != Status::Success {
                self.answer(request, status);
            } else {
                self.confirmations.waiting.push_back((request, asked));
            }
        }
    }

    /// Reads a block if answers wait for it. Returns whether a read was sent.
    pub(super) fn confirm(&mut self, memory: &mut dyn Memory) -> bool {
        let wanted = !self.confirmations.waiting.is_empty() && self.confirmations.read.is_none();
        let due = self.confirmations.retry_at.is_none_or(|at| at <= self.now);
        if !wanted || !due {
            return false;
        }
        let Some(buffer) = memory.allocate(BLOCK_SIZE) else {
            self.confirmations.retry_at = Some(self.now + MEMORY_RETRY);
            return false;
        };
        self.confirmations.retry_at = None;
        self.confirmations.read = Some(buffer);
        self.confirmations.send(OWN);
        let request = Request {
            operation: Operation::Read { buffer },
            range: BlockRange::new(0, 1),
        };
        self.concat.submit(OWN, Area::Metadata, request);
        true
    }
}
