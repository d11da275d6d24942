//! What a slice is told about itself, and what it says.

use crate::leg_format::Uuid;
use crate::mirror::{GroupConfig, LegProgress};
use crate::{Blocks, Request, RequestId, Status, SubRequestId, Tuning};

/// A slice, as the grant of its epoch made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceConfig {
    /// Which.
    pub slice: Uuid,
    /// Its pool.
    pub pool: Uuid,
    /// The owner's epoch (R1).
    pub epoch: u64,
    /// The thin pool has been formatted (R9): as recorded when the epoch was granted.
    pub formatted: bool,
    /// Unit of space of volumes.
    pub extent: Blocks,
    /// In order of concatenation; the first one carries the map.
    pub groups: Vec<GroupConfig>,
    /// Times and sizes.
    pub tuning: Tuning,
}

/// What the store must record before the slice goes on; the answer is [`super::Slice::membership_answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// The group's in-sync set is now this one: smaller (R3) or larger (R4), never empty.
    InSync {
        /// Which group.
        group: Uuid,
        /// The legs of the set, in the order of the configuration.
        in_sync: Vec<Uuid>,
    },
    /// The superblocks of the group are on all its legs; the in-sync set is all of them (R9).
    GroupFormatted {
        /// Which group.
        group: Uuid,
    },
    /// The first map of the thin pool is durable (R9).
    SliceFormatted,
}

/// What a slice wants of its owner; take these in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceOutput {
    /// A request to a leg, in blocks of the leg; answer with [`super::Slice::leg_completed`].
    Leg {
        /// Which leg.
        leg: Uuid,
        /// Its place among all legs of the slice, in the order of the configuration.
        place: usize,
        /// The slice's name for the request; not reused while the slice lives.
        id: SubRequestId,
        /// What.
        request: Request,
    },
    /// The leg has left a request unanswered for too long: break the connection to it and say
    /// [`super::Slice::leg_lost`]. Reads that are stuck there go on elsewhere only then.
    LegSuspect {
        /// Which leg.
        leg: Uuid,
    },
    /// A leg is attached, but what is on it is not what should be there. It is left alone (R9) until it is attached anew.
    LegRefused {
        /// Which leg.
        leg: Uuid,
        /// Why, and what to do.
        reason: String,
    },
    /// A request or a verb from above has ended.
    Complete {
        /// Its name.
        id: RequestId,
        /// How.
        status: Status,
    },
    /// Have this recorded; answer with [`super::Slice::membership_answer`].
    Membership {
        /// The slice's name for it.
        request: u64,
        /// What.
        change: MembershipChange,
    },
    /// The slice serves.
    Opened,
    /// The slice cannot serve, and will not under this epoch. Nothing was formatted because of it (R9).
    OpenFailed {
        /// Why, and what to do.
        reason: String,
    },
    /// Everything is drained and the legs are clean as far as they can be; nothing more is sent to them. A probe may still be
    /// in flight: its end must be said.
    Closed,
    /// A newer owner is known (R2): every request ends `StaleEpoch`, nothing more is sent to any leg. How the requests end
    /// that are in flight there must still be said (or that the legs are lost), for their buffers.
    Fenced,
}

/// How far a slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceState {
    /// Groups are being formatted or opened, or the map is.
    Opening,
    /// Requests are served.
    Serving,
    /// What is in flight is being finished.
    Closing,
    /// Ended in order.
    Closed,
    /// Ended by a newer owner.
    Fenced,
    /// Ended by what was found on the legs.
    Failed,
}

/// A group as people should see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProgress {
    /// Which.
    pub group: Uuid,
    /// Its legs, in the order of the configuration.
    pub legs: Vec<LegProgress>,
    /// Regions that differ between legs, or may, and are being made equal.
    pub regions_dirty: u64,
}
