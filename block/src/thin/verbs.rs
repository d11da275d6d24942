//! Verbs on volumes that wait for their record: created, resized, deleted. One at a time per volume.

use super::PoolOutput;
use super::config::VolumeId;
use super::journal::Waiter;
use super::ledger::Ledger;
use super::outbox::{Outbox, Turn};
use super::record::{NodeId, Record};
use super::requests::Requests;
use crate::{Blocks, Status};
use std::collections::BTreeMap;

/// What is being done to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Resize,
    Delete,
}

#[derive(Debug)]
struct UnderWay {
    verb: Verb,
    /// Its record is queued or in flight; a deletion first waits for requests to end.
    recorded: bool,
    /// Its record is in doubt, and the caller has been told.
    answered: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Verbs {
    under_way: BTreeMap<VolumeId, UnderWay>,
}

/// Tells the caller how a verb has ended.
pub(super) fn answer(verb: Verb, volume: VolumeId, status: Status, outbox: &mut Outbox) {
    outbox.push(match verb {
        Verb::Create => PoolOutput::VolumeCreated { volume, status },
        Verb::Resize => PoolOutput::VolumeResized { volume, status },
        Verb::Delete => PoolOutput::VolumeDeleted { volume, status },
    });
}

impl Verbs {
    /// Begins a verb; `size` is of no meaning to a deletion.
    pub(super) fn begin(
        &mut self,
        verb: Verb,
        volume: VolumeId,
        size: Blocks,
        ledger: &mut Ledger,
        turn: &mut Turn,
    ) {
        if let Err(status) = self.check(verb, volume, size, ledger) {
            return answer(verb, volume, status, turn.outbox);
        }
        let record = match verb {
            Verb::Create => {
                let node = ledger.map.assign_node();
                Some(Record::VolumeCreated { node, volume, size })
            }
            Verb::Resize => ledger
                .map
                .node(volume)
                .map(|node| Record::VolumeResized { node, volume, size }),
            Verb::Delete => None,
        };
        self.under_way.insert(
            volume,
            UnderWay {
                verb,
                recorded: record.is_some(),
                answered: false,
            },
        );
        if let Some(record) = record {
            ledger.record(record, Waiter::Volume(volume));
        }
    }

    /// `Err`: how the verb ends at once, which may be well.
    fn check(&self, verb: Verb, volume: VolumeId, size: Blocks, ledger: &Ledger) -> Result<(), Status> {
        if let Some(status) = ledger.trouble() {
            return Err(status);
        }
        if self.under_way.contains_key(&volume) {
            return Err(Status::Unavailable);
        }
        let known = ledger.map.volume(volume).map(|known| known.size);
        match (verb, known) {
            (Verb::Create, Some(known)) => Err(if known == size {
                Status::Success
            } else {
                Status::Invalid
            }),
            (Verb::Create, None) => self.check_room(size, ledger),
            (Verb::Resize, None) => Err(Status::Invalid),
            (Verb::Resize, Some(known)) if size < known => Err(Status::Invalid),
            (Verb::Resize, Some(known)) if size == known => Err(Status::Success),
            (Verb::Resize, Some(_)) => check_size(size, ledger),
            (Verb::Delete, None) => Err(Status::Success),
            (Verb::Delete, Some(_)) => Ok(()),
        }
    }

    fn check_room(&self, size: Blocks, ledger: &Ledger) -> Result<(), Status> {
        check_size(size, ledger)?;
        let coming = self
            .under_way
            .values()
            .filter(|under_way| under_way.verb == Verb::Create)
            .count() as u64;
        let room = ledger.map.volume_count() + coming < ledger.geometry.volumes_max;
        if room { Ok(()) } else { Err(Status::OutOfSpace) }
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether requests to the volume are refused already.
    #[inline]
    pub(super) fn is_deleting(&self, volume: VolumeId) -> bool {
        !self.is_empty()
            && self
                .under_way
                .get(&volume)
                .is_some_and(|under_way| under_way.verb == Verb::Delete)
    }

    /// Records deletions of volumes to which nothing is in flight any more.
    pub(super) fn pump(&mut self, requests: &Requests, ledger: &mut Ledger, turn: &mut Turn) {
        let mut refused = Vec::new();
        for (&volume, under_way) in self
            .under_way
            .iter_mut()
            .filter(|(_, under_way)| !under_way.recorded)
        {
            let node: NodeId = ledger
                .map
                .node(volume)
                .expect("a volume is there until its deletion is recorded");
            if requests.is_quiet(node) {
                match ledger.trouble() {
                    Some(status) => refused.push((volume, status)),
                    None => {
                        under_way.recorded = true;
                        ledger.record(Record::VolumeDeleted { node, volume }, Waiter::Volume(volume));
                    }
                }
            }
        }
        for (volume, status) in refused {
            self.failed(volume, status, false, turn);
        }
    }

    /// The record is durable.
    pub(super) fn recorded(&mut self, volume: VolumeId, turn: &mut Turn) {
        let under_way = self.under_way.remove(&volume).expect("its record was waited for");
        if !under_way.answered {
            answer(under_way.verb, volume, Status::Success, turn.outbox);
        }
    }

    /// The record will not be durable, or (`in_doubt`) nobody knows whether it will: then further verbs are refused, by
    /// the ledger's trouble, until somebody does.
    pub(super) fn failed(&mut self, volume: VolumeId, status: Status, in_doubt: bool, turn: &mut Turn) {
        let under_way = self
            .under_way
            .get_mut(&volume)
            .expect("its record was waited for");
        if !under_way.answered {
            under_way.answered = true;
            answer(under_way.verb, volume, status, turn.outbox);
        }
        if !in_doubt {
            self.under_way.remove(&volume);
        }
    }

    /// Ends everything whose record is not in flight.
    pub(super) fn refuse_waiting(&mut self, status: Status, turn: &mut Turn) {
        let waiting = self.under_way.iter().filter(|(_, under_way)| !under_way.recorded);
        for volume in waiting.map(|(&volume, _)| volume).collect::<Vec<_>>() {
            self.failed(volume, status, false, turn);
        }
    }

    /// Whether every caller has been answered.
    pub(super) fn is_answered(&self) -> bool {
        self.under_way.values().all(|under_way| under_way.answered)
    }
}

/// Whether a volume may have this size.
fn check_size(size: Blocks, ledger: &Ledger) -> Result<(), Status> {
    match ledger.geometry.allows(size) {
        true => Ok(()),
        false => Err(Status::Invalid),
    }
}
