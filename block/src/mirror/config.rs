//! What a group is told about itself, and what it says.

use super::LEGS_MAX;
use crate::leg_format::{LegGeometry, Uuid};
use crate::{Blocks, Request, RequestId, Status, SubRequestId, Tuning};

/// A group, as the grant of its slice's epoch made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Which.
    pub group: Uuid,
    /// Superblocks have been written to all legs (R9): as recorded when the epoch was granted.
    pub formatted: bool,
    /// One to [`LEGS_MAX`].
    pub legs: Vec<LegConfig>,
}

/// A leg of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegConfig {
    /// Which. No leg is in two groups.
    pub leg: Uuid,
    /// How long it is; the same for all legs of a group.
    pub length: Blocks,
    /// Whether it is recorded as having every acknowledged write. Of no meaning in a group that is not formatted.
    pub in_sync: bool,
}

impl GroupConfig {
    /// Where the parts of each leg are.
    ///
    /// # Errors
    /// What is wrong with the configuration, for people.
    pub fn geometry(&self) -> Result<LegGeometry, String> {
        let Some(first) = self.legs.first() else {
            return Err("a group has no legs".to_owned());
        };
        if self.legs.len() > LEGS_MAX {
            return Err(format!(
                "a group has {} legs, at most {LEGS_MAX} are possible",
                self.legs.len()
            ));
        }
        if self.legs.iter().any(|leg| leg.length != first.length) {
            return Err("the legs of a group have different lengths".to_owned());
        }
        if self.formatted && !self.legs.iter().any(|leg| leg.in_sync) {
            return Err("a group that is formatted has no leg in sync".to_owned());
        }
        LegGeometry::for_length(first.length)
            .ok_or_else(|| format!("a leg of {} blocks has no room for data", first.length.0))
    }
}

/// A group and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorConfig {
    /// The pool.
    pub pool: Uuid,
    /// The slice.
    pub slice: Uuid,
    /// The owner's epoch (R1).
    pub epoch: u64,
    /// The group itself.
    pub group: GroupConfig,
    /// Times and sizes.
    pub tuning: Tuning,
}

/// What the store must record about a group before it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// The in-sync set is now this one: smaller (R3) or larger (R4), never empty.
    InSync(Vec<Uuid>),
    /// The superblocks are on all legs, and all legs are in sync (R9).
    Formatted,
}

/// How the store answered. That the store is away is no answer: the owner asks again, and what depends on it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipOutcome {
    /// It is recorded.
    Committed,
    /// There is a newer epoch: the group is fenced.
    StaleEpoch,
    /// The request contradicts the record. The group cannot know any more which legs may serve, and stops as if fenced.
    Refused,
}

/// What a group wants of its owner; take these in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorOutput {
    /// A request to a leg, in blocks of the leg; answer with [`super::Mirror::leg_completed`].
    Leg {
        /// Its place in the configuration.
        leg: usize,
        /// The group's name for the request; not reused.
        id: SubRequestId,
        /// What.
        request: Request,
    },
    /// The leg has left a request unanswered for too long: break the connection and say [`super::Mirror::leg_lost`].
    LegSuspect {
        /// Its place in the configuration.
        leg: usize,
    },
    /// What is on an attached leg is not what should be there. It is left alone (R9) until it is attached anew.
    LegRefused {
        /// Its place in the configuration.
        leg: usize,
        /// Why, and what to do.
        reason: String,
    },
    /// A request from above has ended.
    Complete {
        /// Its name.
        id: RequestId,
        /// How.
        status: Status,
    },
    /// Have this recorded; answer with [`super::Mirror::membership_answer`]. One at a time.
    Membership(GroupChange),
    /// The group serves.
    Opened,
    /// No leg that is recorded as in sync holds what it should: the group cannot serve.
    OpenFailed {
        /// Why, and what to do.
        reason: String,
    },
    /// Everything is drained; nothing more is sent.
    Closed,
    /// A newer owner is known (R2): every request ends `StaleEpoch`, nothing more is sent.
    Fenced,
}
