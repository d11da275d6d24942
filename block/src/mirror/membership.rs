//! The in-sync set: as recorded in the store, as asked to be recorded, and as it should be.
//!
//! One request is under way at a time. While it is, either of the two sets may be the recorded one, and whatever is
//! acknowledged must hold under both.

use super::{GroupChange, LegSet, Link, MembershipOutcome, Mirror, MirrorOutput, Phase, Role};

/// The set of one group.
#[derive(Debug)]
pub(super) struct Membership {
    recorded: LegSet,
    asked: Option<Asked>,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Set(LegSet),
    Formatted(LegSet),
}

impl Membership {
    pub(super) fn new(recorded: LegSet) -> Membership {
        Membership {
            recorded,
            asked: None,
        }
    }
    /// As the store last said.
    pub(super) fn recorded(&self) -> LegSet {
        self.recorded
    }
    /// All legs that are recorded, or may be by now.
    pub(super) fn may_be(&self) -> LegSet {
        match self.asked {
            None => self.recorded,
            Some(Asked::Set(set) | Asked::Formatted(set)) => self.recorded.union(set),
        }
    }
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }
}

impl Mirror {
    /// Takes legs out that are away while others are there; has the set recorded that should be (R3, R4).
    pub(super) fn advance_membership(&mut self) {
        if !self.legs.serving().is_empty() {
            let away = self
                .legs
                .select(|leg| leg.role == Role::InSync && leg.link != Link::Up);
            for leg in away.iter() {
                self.legs[leg].role = Role::Leaving;
                self.again = true;
            }
        }
        let wanted = self.wanted_set();
        assert!(!wanted.is_empty(), "the last leg in sync is never given up");
        if self.membership.is_asking() || wanted == self.membership.recorded {
            return;
        }
        self.membership.asked = Some(Asked::Set(wanted));
        self.forget_lease();
        let set = self.legs.ids(wanted);
        self.outputs
            .say(MirrorOutput::Membership(GroupChange::InSync(set)));
    }

    /// The set as it should be.
    fn wanted_set(&self) -> LegSet {
        let joining = self.legs.select(|leg| leg.role == Role::Joining);
        self.legs.in_sync().union(joining)
    }

    /// Whether the set is recorded as it should be.
    pub(super) fn is_membership_settled(&self) -> bool {
        !self.membership.is_asking() && self.wanted_set() == self.membership.recorded
    }

    /// Every leg is formatted: has it recorded (R9).
    pub(super) fn ask_formatted(&mut self) {
        self.membership.asked = Some(Asked::Formatted(self.legs.all()));
        self.forget_lease();
        self.outputs.say(MirrorOutput::Membership(GroupChange::Formatted));
    }

    pub(super) fn membership_answered(&mut self, outcome: MembershipOutcome) {
        let asked = self.membership.asked.take().expect("a request was under way");
        if outcome != MembershipOutcome::Committed {
            self.fence();
            return;
        }
        match asked {
            Asked::Set(set) => self.set_recorded(set),
            Asked::Formatted(all) => {
                for leg in all.iter() {
                    self.legs[leg].role = Role::Joining;
                    self.legs[leg].newest_place.fill(0);
                }
                self.phase = Phase::Settling;
                self.set_recorded(all);
            }
        }
    }

    fn set_recorded(&mut self, set: LegSet) {
        self.membership.recorded = set;
        self.forget_lease();
        for leg in 0..self.legs.count() {
            let state = &mut self.legs[leg];
            match state.role {
                Role::Joining if set.has(leg) => state.role = Role::InSync,
                Role::Leaving if !set.has(leg) => state.role = Role::Out,
                _ => {}
            }
        }
        self.modifies.unsettle();
        self.reads.unsettle();
        self.again = true;
    }
}
