//! A pool that serves: joins the requests, the verbs, the cleaner and the ledger, and takes it all down again.

use super::cleaner::Cleaner;
use super::config::VolumeId;
use super::journal::{Entry, Waiter};
use super::ledger::{Ledger, Settled};
use super::outbox::{Purpose, Turn};
use super::requests::Requests;
use super::verbs::{Verb, Verbs, answer};
use super::{PoolOutput, RETRY};
use crate::{BLOCK_SIZE, Blocks, Operation, Request, RequestId, Status, Time};

/// See the module.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) ledger: Ledger,
    requests: Requests,
    verbs: Verbs,
    cleaner: Cleaner,
    life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Serving,
    /// A newer owner is there; waiting to be closed.
    Fenced,
    /// Waiting for what is in flight.
    Draining {
        fenced: bool,
    },
    /// The last checkpoint is being written, or could not be.
    Checkpointing,
}

impl Serving {
    /// Begins to serve, and to clean what earlier owners left dirty.
    pub(super) fn start(ledger: Ledger, turn: &mut Turn) -> Serving {
        let (requests, verbs, cleaner) = (
            Requests::new(ledger.geometry.extents),
            Verbs::default(),
            Cleaner::default(),
        );
        let mut serving = Serving {
            ledger,
            requests,
            verbs,
            cleaner,
            life: Life::Serving,
        };
        serving.pump(turn);
        serving
    }

    /// How requests are refused now.
    pub(super) fn refusal(&self) -> Option<Status> {
        match self.life {
            Life::Serving => None,
            Life::Fenced | Life::Draining { fenced: true } => Some(Status::StaleEpoch),
            Life::Draining { fenced: false } | Life::Checkpointing => Some(Status::Unavailable),
        }
    }

    pub(super) fn submit(&mut self, id: RequestId, volume: VolumeId, request: Request, turn: &mut Turn) {
        match self.admit(volume, &request) {
            Err(status) => turn.outbox.push(PoolOutput::Complete { id, status }),
            Ok(node) => self.requests.submit(id, node, request, &mut self.ledger, turn),
        }
        self.pump(turn);
    }

    fn admit(&self, volume: VolumeId, request: &Request) -> Result<super::record::NodeId, Status> {
        if let Some(status) = self.refusal() {
            return Err(status);
        }
        let (node, size) = self.ledger.map.node_and_size(volume).ok_or(Status::Invalid)?;
        if self.verbs.is_deleting(volume) {
            return Err(Status::Invalid);
        }
        let (start, length) = (request.range.start.0, request.range.length.0);
        let end = start.checked_add(length).ok_or(Status::OutOfRange)?;
        let payload = match request.operation {
            Operation::Read { buffer } | Operation::Write { buffer, .. } => Some(u64::from(buffer.length)),
            Operation::Flush => return Ok(node),
            Operation::WriteZeroes { .. } | Operation::Deallocate => None,
        };
        if end > size.0 {
            return Err(Status::OutOfRange);
        }
        let matches = payload.is_none_or(|bytes| length.checked_mul(BLOCK_SIZE.into()) == Some(bytes));
        if matches { Ok(node) } else { Err(Status::Invalid) }
    }

    pub(super) fn begin_verb(&mut self, verb: Verb, volume: VolumeId, size: Blocks, turn: &mut Turn) {
        match self.refusal() {
            Some(status) => answer(verb, volume, status, turn.outbox),
            None => self.verbs.begin(verb, volume, size, &mut self.ledger, turn),
        }
        self.pump(turn);
    }

    pub(super) fn completed(&mut self, purpose: Purpose, status: Status, turn: &mut Turn) {
        match purpose {
            Purpose::Part {
                request,
                node,
                place,
                extent,
            } => {
                let place = ((node, place), extent);
                self.requests.sent(request, place, status, &mut self.ledger, turn);
            }
            Purpose::HostFlush { request } => self.requests.flushed(request, status, turn),
            Purpose::Cleaning => self.cleaner.completed(status, &mut self.ledger, turn),
            Purpose::Journal => {
                let settled = self.ledger.journal_completed(status, turn);
                self.settle(settled, status, turn);
            }
            Purpose::Checkpoint => {
                let settled = self.ledger.checkpoint_completed(status, turn);
                self.settle(settled, status, turn);
            }
            Purpose::Start => unreachable!("a start ends before the pool serves"),
        }
        if status == Status::StaleEpoch {
            self.fence(turn);
        }
        self.pump(turn);
    }

    /// Tells those who wait for records what has become of them.
    fn settle(&mut self, settled: Settled, status: Status, turn: &mut Turn) {
        for entry in settled.durable {
            match entry.waiter {
                Waiter::Place(node, place) => self.requests.changed((node, place), &mut self.ledger, turn),
                Waiter::Volume(volume) => self.verbs.recorded(volume, turn),
                Waiter::Cleaner => self.cleaner.recorded(None),
            }
        }
        for entry in settled.in_doubt {
            self.settle_failed(entry, status, true, turn);
        }
        for entry in settled.dropped {
            self.settle_failed(entry, status, false, turn);
        }
    }

    fn settle_failed(&mut self, entry: Entry, status: Status, in_doubt: bool, turn: &mut Turn) {
        match entry.waiter {
            Waiter::Place(node, place) => self.requests.change_failed((node, place), status, in_doubt, turn),
            Waiter::Volume(volume) => self.verbs.failed(volume, status, in_doubt, turn),
            Waiter::Cleaner if in_doubt => {}
            Waiter::Cleaner => self.cleaner.recorded(Some(turn.now + RETRY)),
        }
    }

    fn fence(&mut self, turn: &mut Turn) {
        self.life = match self.life {
            Life::Serving | Life::Fenced => Life::Fenced,
            Life::Draining { .. } | Life::Checkpointing => Life::Draining { fenced: true },
        };
        self.cleaner.stop();
        let settled = self.ledger.fence();
        self.settle(settled, Status::StaleEpoch, turn);
        self.requests.refuse_waiting(Status::StaleEpoch, turn);
        self.verbs.refuse_waiting(Status::StaleEpoch, turn);
    }

    /// After every verb: begins what has become possible.
    fn pump(&mut self, turn: &mut Turn) {
        if self.requests.wants_space() {
            let hope = self.cleaner.hope(&self.ledger);
            self.requests.serve_space(hope, &mut self.ledger, turn);
        }
        if !self.verbs.is_empty() {
            self.verbs.pump(&self.requests, &mut self.ledger, turn);
        }
        if self.ledger.map.dirty_count() > 0 {
            self.cleaner.pump(&self.ledger, turn);
        }
        self.ledger.pump(turn);
    }

    pub(super) fn close(&mut self, turn: &mut Turn) {
        if matches!(self.life, Life::Serving | Life::Fenced) {
            self.life = Life::Draining {
                fenced: self.life == Life::Fenced,
            };
            self.cleaner.stop();
            self.pump(turn);
        }
    }

    /// Whether everything has come to rest after [`Serving::close`]; begins the last checkpoint on the way there.
    pub(super) fn poll_closed(&mut self, turn: &mut Turn) -> bool {
        let in_flight = !turn.outbox.is_quiet() || !self.requests.is_empty() || !self.verbs.is_answered();
        let Life::Draining { .. } = self.life else {
            return self.life == Life::Checkpointing && !in_flight;
        };
        let trouble = self.ledger.trouble().is_some();
        if in_flight || !(trouble || self.ledger.is_idle()) {
            return false;
        }
        if trouble || self.ledger.is_checkpointing() || !self.ledger.has_journal() {
            return true;
        }
        self.life = Life::Checkpointing;
        self.ledger.begin_checkpoint(turn);
        false
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        [self.ledger.next_timeout(), self.cleaner.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn) {
        self.ledger.handle_timeout(turn);
        self.cleaner.handle_timeout(&self.ledger, turn);
        self.pump(turn);
    }
}
