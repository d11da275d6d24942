//! The memory that commands hold: who may have how much of it, and its way back.
//!
//! Buffers come from the driver's pool, which others may use too; what commands hold of it at a time is bounded, in all and
//! for each namespace: a namespace may hold [`SHARE`] times as much as is left. So one that answers nothing any more never
//! holds everything, however many such there are; the more of them, the less each.
//!
//! Not here: what becomes of those who get nothing ([`super::waiting`]), and buffers of reads that were answered: they
//! are the driver's.
//!
//! Invariant: what is counted is what commands and orphans hold.

use super::Target;
use super::command::{LaneAt, Payload};
use super::transfer::Buffers;
use crate::driver::ConnectionId;
use block::Memory;

/// A namespace may hold so many times what is left.
const SHARE: u64 = 4;

/// Whether there is memory for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Enough,
    /// The namespace has its share.
    ShareTaken,
    /// The target has all it may.
    None,
}

impl Target {
    /// Whether so many bytes more may be lent for commands of a namespace (none: of no namespace that the host sees).
    pub(crate) fn room(&self, lane: Option<LaneAt>, bytes: u64) -> Room {
        let left = self.config.payload_bytes_max.checked_sub(self.lent_bytes + bytes);
        let Some(left) = left else {
            return match self.lent_bytes {
                0 => Room::Enough,
                _ => Room::None,
            };
        };
        let lane = lane.and_then(|lane| self.lanes.at(lane.row, lane.key));
        let held = lane.map_or(0, |lane| lane.lent_bytes);
        match held > 0 && held + bytes > SHARE * left {
            true => Room::ShareTaken,
            false => Room::Enough,
        }
    }

    /// Borrows the buffers of a command, all or none: two commands that each hold one of two would wait for ever. `None`:
    /// it is not the command's turn, or there is no memory.
    pub(crate) fn lend(
        &mut self,
        id: ConnectionId,
        lane: Option<LaneAt>,
        buffers: Buffers,
        length: u32,
        memory: &mut dyn Memory,
    ) -> Option<Payload> {
        if !self.is_its_turn(id) || self.room(lane, buffers.bytes(length)) != Room::Enough {
            return None;
        }
        let payload = self.allocate(buffers, length, memory)?;
        let bytes = payload.lent_bytes();
        self.lent_bytes += bytes;
        if let Some(lane) = lane.and_then(|lane| self.lanes.at_mut(lane.row, lane.key)) {
            lane.lent_bytes += bytes;
        }
        Some(payload)
    }

    fn allocate(&mut self, buffers: Buffers, length: u32, memory: &mut dyn Memory) -> Option<Payload> {
        let data = memory.allocate(length);
        let Some(data) = data else {
            self.run_short();
            return None;
        };
        if buffers == Buffers::One {
            return Some(Payload::Lent { data, scratch: None });
        }
        match memory.allocate(length) {
            Some(scratch) => Some(Payload::Lent {
                data,
                scratch: Some(scratch),
            }),
            None => {
                memory.release(data.buffer);
                self.run_short();
                None
            }
        }
    }

    /// A payload is nobody's any more.
    pub(crate) fn give_back(&mut self, lane: Option<LaneAt>, payload: Payload, memory: &mut dyn Memory) {
        let Payload::Lent { data, scratch } = &payload else {
            return;
        };
        memory.release(data.buffer);
        if let Some(scratch) = scratch {
            memory.release(scratch.buffer);
        }
        self.discount(lane, &payload);
    }

    /// A payload is not a command's any more.
    pub(crate) fn discount(&mut self, lane: Option<LaneAt>, payload: &Payload) {
        let bytes = payload.lent_bytes();
        self.lent_bytes -= bytes;
        self.look_whose_turn();
        let Some(at) = lane else { return };
        let Some(lane) = self.lanes.at_mut(at.row, at.key) else {
            return;
        };
        lane.lent_bytes -= bytes;
        if lane.is_done() {
            self.lanes.remove(&at.key);
        }
    }
}

impl Buffers {
    /// How much memory these are, for data of that length.
    pub(crate) fn bytes(self, length: u32) -> u64 {
        match self {
            Buffers::One => length.into(),
            Buffers::Two => 2 * u64::from(length),
        }
    }
}
