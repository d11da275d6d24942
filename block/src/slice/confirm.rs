//! No answer from memory alone (R5).
//!
//! The pool can answer some requests without asking a leg: space that was never written reads as zeroes. An owner that has been
//! fenced without knowing would go on doing that, for a new owner that has fenced every leg does not wait for leases. So an
//! answer goes up only when a request to a leg that was sent after the question has succeeded: then, at that moment, there
//! was no other owner yet. Nearly every request has sent one of its own; for the others a block is read.

use super::Slice;
use crate::thin::Area;
use crate::{
    BLOCK_SIZE, BlockRange, BufferSlice, Duration, Memory, Operation, Request, RequestId, Slot, Status,
    SubRequestId, Time,
};
use std::collections::VecDeque;

/// The name of our own read among the pool's, which are slots.
pub(super) const OWN: RequestId = RequestId(Slot::NONE.0 >> 1);
/// When the engine's buffers are exhausted, the read is tried again after this.
const MEMORY_RETRY: Duration = Duration::from_millis(5);

/// Which requests below were sent after which questions.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    /// Requests sent below so far.
    sent: u64,
    /// The highest number of one that has succeeded.
    confirmed: u64,
    /// The number of each of the pool's requests in flight below, by the place in its name.
    in_flight: Vec<u64>,
    /// The number of our own.
    own: u64,
    /// Answers that wait: which, and what had been sent when the question came.
    waiting: VecDeque<(Slot, u64)>,
    read: Option<BufferSlice>,
    retry_at: Option<Time>,
}

impl Confirmations {
    /// How many requests have gone below: a request that comes now may be answered when a later one has succeeded.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }
    /// A request of the pool goes below.
    #[inline]
    pub(super) fn send(&mut self, id: SubRequestId) {
        self.sent += 1;
        let place = Slot(id.0).index();
        if place >= self.in_flight.len() {
            self.in_flight.resize(place + 1, 0);
        }
        self.in_flight[place] = self.sent;
    }
    /// It has ended.
    #[inline]
    fn end(&mut self, id: RequestId, status: Status) {
        let number = if id == OWN {
            self.own
        } else {
            self.in_flight[Slot(id.0).index()]
        };
        if status == Status::Success {
            self.confirmed = self.confirmed.max(number);
        }
    }
    /// A request is to be answered with success that came when so many had been sent: whether it may be; if not, it waits here.
    #[inline]
    pub(super) fn may_answer(&mut self, request: Slot, asked: u64) -> bool {
        if self.confirmed <= asked {
            self.waiting.push_back((request, asked));
        }
        self.confirmed > asked
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
        if !self.confirmations.waiting.is_empty() {
            self.answer_confirmed(id, status);
        }
    }

    /// A request below has ended: answers those that waited for it.
    fn answer_confirmed(&mut self, id: RequestId, status: Status) {
        let confirmed = self.confirmations.confirmed;
        for _ in 0..self.confirmations.waiting.len() {
            let (request, asked) = self.confirmations.waiting.pop_front().expect("counted");
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
    #[inline]
    pub(super) fn confirm(&mut self, memory: &mut dyn Memory) -> bool {
        let wanted = !self.confirmations.waiting.is_empty() && self.confirmations.read.is_none();
        wanted && self.begin_confirmation(memory)
    }

    fn begin_confirmation(&mut self, memory: &mut dyn Memory) -> bool {
        let due = self.confirmations.retry_at.is_none_or(|at| at <= self.now);
        if !due {
            return false;
        }
        let Some(buffer) = memory.allocate(BLOCK_SIZE) else {
            self.confirmations.retry_at = Some(self.now + MEMORY_RETRY);
            return false;
        };
        self.confirmations.retry_at = None;
        self.confirmations.read = Some(buffer);
        self.confirmations.sent += 1;
        self.confirmations.own = self.confirmations.sent;
        let request = Request {
            operation: Operation::Read { buffer },
            range: BlockRange::new(0, 1),
        };
        self.send_below(OWN, Area::Metadata, request, memory);
        true
    }
}
