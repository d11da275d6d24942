//! What nodes ask of their disks, and how it ends: in any order, late, or in error.

use super::{DiskChange, DiskNote, Happening, NodeName, Random, World};
use block::{Memory, Time};
use fabric::driver::{DiskError, DiskId, DiskOperation, DiskRequestId, Event};
use std::time::Duration;

/// A request that has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtDisk {
    disk: DiskId,
    operation: DiskOperation,
    /// A flush: what the disk had been given before it was asked.
    given_before: u64,
}

/// What is wrong with a node's disks, for a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskTrouble {
    /// Requests take so many times as long, until then.
    pub slow: Option<(u32, Time)>,
    /// Requests end one after the other, each after this span of the one before, until then.
    pub queue: Option<(Duration, Time)>,
    /// No request ends before then.
    pub stuck_until: Option<Time>,
    /// One in so many reads fails, until then.
    pub failing_reads: Option<(u64, Time)>,
    /// One in so many writes fails, until then; it may have reached the media or not.
    pub failing_writes: Option<(u64, Time)>,
    /// Errors strike only from here on, in bytes.
    pub errors_from: u64,
    /// When the last request of the queue ends.
    queue_ends: Time,
}

impl DiskTrouble {
    fn ends_at(&mut self, now: Time, span: Duration) -> Time {
        let lasting = |until: &Time| *until > now;
        let factor = self
            .slow
            .filter(|(_, until)| lasting(until))
            .map_or(1, |(factor, _)| factor);
        let mut at = now + span * factor;
        if let Some((each, _)) = self.queue.filter(|(_, until)| lasting(until)) {
            at = at.max(self.queue_ends + each);
            self.queue_ends = at;
        }
        match self.stuck_until.filter(lasting) {
            Some(until) => until + span,
            None => at,
        }
    }

    fn strikes(&self, now: Time, operation: &DiskOperation, random: &mut Random) -> bool {
        let (offset, failing) = match operation {
            DiskOperation::Read { offset_bytes, .. } => (*offset_bytes, self.failing_reads),
            DiskOperation::Write { offset_bytes, .. } | DiskOperation::WriteZeroes { offset_bytes, .. } => {
                (*offset_bytes, self.failing_writes)
            }
            DiskOperation::Flush | DiskOperation::Discard { .. } => return false,
        };
        failing
            .is_some_and(|(one_in, until)| until > now && offset >= self.errors_from && random.one_in(one_in))
    }
}

impl World {
    /// What is wrong with a node's disks from now on.
    pub fn disk_trouble(&mut self, node: NodeName) -> &mut DiskTrouble {
        &mut self.nodes[node.0].trouble
    }

    pub(super) fn ask_disk(
        &mut self,
        node: NodeName,
        request: DiskRequestId,
        disk: DiskId,
        operation: DiskOperation,
    ) {
        let now = self.now;
        self.witnessed(|witness| witness.asks_disk(now, node, request, &operation));
        let span = Duration::from_micros(1 + self.random.below(self.options.disk_us_max));
        let slot = &mut self.nodes[node.0];
        let given_before = slot.disks[disk.0 as usize].given();
        let asked = AtDisk {
            disk,
            operation,
            given_before,
        };
        if let (Some(notes), Some(change)) = (&mut self.disk_notes, DiskChange::of(&operation, &slot.memory))
        {
            notes.push(DiskNote::Asked {
                node,
                disk,
                request,
                change,
            });
        }
        let before = slot.at_disk.insert(request, asked);
        assert!(before.is_none(), "{request:?} is in flight already");
        let life = slot.life;
        let at = slot.trouble.ends_at(now, span);
        self.schedule(at, Happening::DiskEnds { node, life, request });
    }

    pub(super) fn disk_ends(&mut self, node: NodeName, request: DiskRequestId) {
        let slot = &mut self.nodes[node.0];
        let asked = slot.at_disk.remove(&request).expect("a request ends once");
        if let Some(notes) = &mut self.disk_notes {
            notes.push(DiskNote::Ended { node, request });
        }
        let fails = slot.trouble.strikes(self.now, &asked.operation, &mut self.random);
        if !fails || self.random.one_in(2) {
            self.carry_out(node, &asked);
        }
        self.witnessed(|witness| witness.disk_answers(node, request));
        let result = if fails { Err(DiskError::Media) } else { Ok(()) };
        self.tell(node, Event::DiskCompleted { request, result });
    }

    pub(super) fn carry_out(&mut self, node: NodeName, asked: &AtDisk) {
        let slot = &mut self.nodes[node.0];
        let disk = &mut slot.disks[asked.disk.0 as usize];
        match asked.operation {
            DiskOperation::Read { offset_bytes, buffer } => {
                disk.read(offset_bytes, slot.memory.bytes_mut(buffer))
            }
            DiskOperation::Write {
                offset_bytes,
                buffer,
                durable,
            } => {
                disk.write(offset_bytes, slot.memory.bytes(buffer), durable);
            }
            DiskOperation::Flush => disk.flush_before(asked.given_before),
            DiskOperation::WriteZeroes {
                offset_bytes,
                length_bytes,
                ..
            } => {
                disk.write(offset_bytes, &vec![0; length_bytes as usize], false);
            }
            DiskOperation::Discard { .. } => {}
        }
    }
}
