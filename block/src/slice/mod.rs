//! A slice: mirrored groups of legs, one behind the other, with a thin pool on top; what a controller node drives.
//!
//! Requests to volumes come from above, requests to legs go below. Between them the slice passes descriptors on from
//! layer to layer (thin pool → concatenation → group); it has no queue of its own.
//!
//! What it deliberately is not: it opens no connection and fences no leg. Its owner attaches a leg only when it holds the
//! reservation there under this slice's epoch (R2), and has the store record what [`SliceOutput::Membership`] asks for.
//!
//! Invariants:
//! * Nothing is served before [`SliceOutput::Opened`] and after [`SliceOutput::Closed`]: requests end `Unavailable`.
//! * Once a leg or the store has named a newer epoch, nothing is sent to any leg and all requests end `StaleEpoch`.
//! * Nothing is formatted that was formatted before (R9).

mod config;

use crate::leg_format::Uuid;
use crate::thin::{Usage, VolumeId, VolumeUsage};
use crate::{Blocks, Memory, Request, RequestId, Status, SubRequestId, Time};
pub use config::{
    GroupConfig, GroupProgress, LegConfig, LegProgress, MembershipChange, MembershipOutcome, SliceConfig,
    SliceOutput, SliceState,
};
use std::collections::VecDeque;

/// A slice that is being opened, served or closed by its owner.
#[derive(Debug)]
pub struct Slice {
    outputs: VecDeque<SliceOutput>,
}

impl Slice {
    /// A slice whose epoch has just been granted to this owner; no leg is attached yet.
    ///
    /// # Errors
    /// What is wrong with the configuration, for people.
    pub fn new(config: SliceConfig, now: Time) -> Result<Slice, String> {
        let _ = (config, now);
        Ok(Slice {
            outputs: VecDeque::new(),
        })
    }

    /// The leg can be reached, and holds this epoch's reservation (R2).
    pub fn leg_attached(&mut self, now: Time, leg: Uuid, memory: &mut dyn Memory) {
        let _ = (now, leg, memory);
    }

    /// The leg cannot be reached any more. What was in flight there is lost: it is not answered any more, and nothing of it
    /// will be executed behind what is sent after the next `leg_attached` (R8).
    pub fn leg_lost(&mut self, now: Time, leg: Uuid, memory: &mut dyn Memory) {
        let _ = (now, leg, memory);
    }

    /// A [`SliceOutput::Leg`] has ended. Names of requests that are no longer in flight (`leg_lost`) are ignored.
    pub fn leg_completed(&mut self, now: Time, id: SubRequestId, status: Status, memory: &mut dyn Memory) {
        let _ = (now, id, status, memory);
    }

    /// The store answered a [`SliceOutput::Membership`].
    pub fn membership_answer(
        &mut self,
        now: Time,
        request: u64,
        outcome: MembershipOutcome,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, request, outcome, memory);
    }

    /// A request to a volume, in blocks of the volume. Ends with [`SliceOutput::Complete`].
    pub fn submit(
        &mut self,
        now: Time,
        id: RequestId,
        volume: VolumeId,
        request: Request,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, volume, request, memory);
        self.outputs.push_back(SliceOutput::Complete {
            id,
            status: Status::Unavailable,
        });
    }

    /// Makes a volume. Ends with [`SliceOutput::Complete`]: `Success` also if it exists with this size, `Invalid` if with
    /// another, `OutOfSpace` if the map has no room, `Unavailable` while another verb on it is under way.
    pub fn create_volume(
        &mut self,
        now: Time,
        id: RequestId,
        volume: VolumeId,
        size: Blocks,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, volume, size, memory);
        self.outputs.push_back(SliceOutput::Complete {
            id,
            status: Status::Unavailable,
        });
    }

    /// Removes a volume. Ends with [`SliceOutput::Complete`]: `Success` also if there is none.
    pub fn delete_volume(&mut self, now: Time, id: RequestId, volume: VolumeId, memory: &mut dyn Memory) {
        let _ = (now, volume, memory);
        self.outputs.push_back(SliceOutput::Complete {
            id,
            status: Status::Unavailable,
        });
    }

    /// Makes a volume larger. Ends with [`SliceOutput::Complete`]: `Invalid` for a smaller size or an unknown volume.
    pub fn resize_volume(
        &mut self,
        now: Time,
        id: RequestId,
        volume: VolumeId,
        size: Blocks,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, volume, size, memory);
        self.outputs.push_back(SliceOutput::Complete {
            id,
            status: Status::Unavailable,
        });
    }

    /// Ends the slice in order: new requests end `Unavailable`, those in flight are finished, the bitmap is cleared.
    /// Answers [`SliceOutput::Closed`].
    pub fn close(&mut self, now: Time, memory: &mut dyn Memory) {
        let _ = (now, memory);
    }

    /// Time has come to what [`Slice::next_timeout`] said.
    pub fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        let _ = (now, memory);
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<SliceOutput> {
        self.outputs.pop_front()
    }

    /// When [`Slice::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Time> {
        None
    }

    /// How far it is.
    pub fn state(&self) -> SliceState {
        SliceState::Opening
    }

    /// While it opens: what it waits for, for people.
    pub fn waits_for(&self) -> String {
        String::new()
    }

    /// The groups, in order of concatenation.
    pub fn groups(&self) -> Vec<GroupProgress> {
        Vec::new()
    }

    /// Extents by what they are; all zero before the map is open.
    pub fn usage(&self) -> Usage {
        Usage::default()
    }

    /// Every volume the map knows; empty before it is open.
    pub fn volumes(&self) -> Vec<VolumeUsage> {
        Vec::new()
    }
}
