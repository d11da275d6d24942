//! Reservations of one namespace: the table of registrants and the reservation held (Base 2.1, section 8.1.24),
//! as a pure machine. One command in, the new table out; who answers, persists and drains is not its concern.
//!
//! With `epoch_keys` the keys are epochs (rule R2), and the table is stricter than the specification:
//! * the highest key ever accepted is part of the state, and Register and Acquire with a lower one conflict;
//! * an accepted Acquire (of any action) takes the reservation from whoever holds it, and every other registration is gone,
//!   one with the same key too: an epoch has one owner, and another host of that epoch is an association that the owner
//!   has lost; a preempt's PRKEY may be zero;
//! * a registrant may register a higher key: an owner that has regained the slice, on a leg that nobody reached between;
//! * once a key was accepted, only registrants have access, whether a reservation is held or not;
//! * the state always persists.
//!
//! Invariants: a holder is a registrant; `highest_key` never falls; at most [`REGISTRANTS_MAX`] registrants.

use nvme::HostId;
use nvme::log::ReservationNotificationType as Notice;
use nvme::reservation::ReservationType;
use std::collections::{BTreeMap, BTreeSet};

/// Most registrants of one namespace: the state must fit into a small record.
pub const REGISTRANTS_MAX: usize = 64;

/// Whether every registrant is a holder.
fn all_registrants(kind: ReservationType) -> bool {
    matches!(
        kind,
        ReservationType::WriteExclusiveAllRegistrants | ReservationType::ExclusiveAccessAllRegistrants
    )
}

fn any_registrant_has_access(kind: ReservationType) -> bool {
    !matches!(
        kind,
        ReservationType::WriteExclusive | ReservationType::ExclusiveAccess
    )
}

fn everyone_reads(kind: ReservationType) -> bool {
    matches!(
        kind,
        ReservationType::WriteExclusive
            | ReservationType::WriteExclusiveRegistrantsOnly
            | ReservationType::WriteExclusiveAllRegistrants
    )
}

/// A reservation that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its type.
    pub kind: ReservationType,
    /// Its holder; for the all-registrants types one of the holders.
    pub holder: HostId,
}

/// Everything there is to know about a namespace's reservations: what is persisted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservationState {
    /// GEN: counts successful registers, clears and preempts.
    pub generation: u32,
    /// PTPL: registrations and reservation outlive a restart.
    pub persist_through_power_loss: bool,
    /// With epoch keys: the highest key ever accepted.
    pub highest_key: u64,
    /// Hosts and their keys.
    pub registrants: BTreeMap<HostId, u64>,
    /// The reservation.
    pub held: Option<Held>,
}

impl ReservationState {
    /// What is left after a restart of the node: everything if it persists through power loss, else only the highest key
    /// and the generation.
    pub fn after_restart(self) -> ReservationState {
        if self.persist_through_power_loss {
            return self;
        }
        ReservationState {
            generation: self.generation,
            highest_key: self.highest_key,
            ..ReservationState::default()
        }
    }

    /// Whether the host is a holder of the reservation.
    pub fn is_holder(&self, host: HostId) -> bool {
        self.held.is_some_and(|held| match all_registrants(held.kind) {
            true => self.registrants.contains_key(&host),
            false => held.holder == host,
        })
    }
}

/// A reservation command, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReservationCommand {
    /// RREGA 0.
    Register { new_key: u64, persist: Option<bool> },
    /// RREGA 1. `current_key` is `None` if it is not to be checked (IEKEY).
    Unregister {
        current_key: Option<u64>,
        persist: Option<bool>,
    },
    /// RREGA 2.
    Replace {
        current_key: Option<u64>,
        new_key: u64,
        persist: Option<bool>,
    },
    /// RACQA 0.
    Acquire { kind: ReservationType, current_key: u64 },
    /// RACQA 1 and 2.
    Preempt {
        kind: ReservationType,
        current_key: u64,
        preempt_key: u64,
        abort: bool,
    },
    /// RRELA 0.
    Release {
        kind: Option<ReservationType>,
        current_key: u64,
    },
    /// RRELA 1.
    Clear { current_key: u64 },
}

/// Why a reservation command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Reservation Conflict.
    Conflict,
    /// Invalid Field in Command.
    InvalidField,
    /// No room for another registrant.
    Full,
}

/// What an accepted command changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The state is another one: it must be persisted.
    pub(crate) changed: bool,
    /// Hosts whose registration was taken from them.
    pub(crate) lost: BTreeSet<HostId>,
    /// Whom to tell what.
    pub(crate) notices: Vec<(HostId, Notice)>,
    /// The answer must wait for what `lost` has in flight.
    pub(crate) drain: bool,
}

/// What a command does to blocks, as far as reservations care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The reservation machine of a namespace.
#[derive(Clone, Debug)]
pub(crate) struct ReservationTable {
    pub(crate) state: ReservationState,
    epoch_keys: bool,
}

impl ReservationTable {
    pub(crate) fn new(epoch_keys: bool, state: ReservationState) -> ReservationTable {
        ReservationTable { state, epoch_keys }
    }

    /// Whether the host may do that now (Base 2.1, figure "Command Behavior in the Presence of a Reservation").
    pub(crate) fn allows(&self, host: HostId, access: Access) -> bool {
        if self.state.held.is_some_and(|held| held.holder == host) {
            return true; // and registered, as every holder is
        }
        let registered = self.state.registrants.contains_key(&host);
        if self.epoch_keys && self.state.highest_key > 0 && !registered {
            return false;
        }
        let Some(held) = self.state.held else { return true };
        (registered && any_registrant_has_access(held.kind))
            || (access == Access::Read && everyone_reads(held.kind))
    }

    /// Whether an answer that drains must wait for what this host has in flight. With epoch keys that is every host
    /// without a registration, however it lost it: a fence that was accepted twice still waits for the first one's
    /// losers.
    pub(crate) fn must_drain(&self, outcome: &Outcome, host: HostId) -> bool {
        outcome.drain
            && (outcome.lost.contains(&host)
                || (self.epoch_keys && !self.state.registrants.contains_key(&host)))
    }

    /// Carries a command out. A refused one changes nothing.
    pub(crate) fn execute(&mut self, host: HostId, command: ReservationCommand) -> Result<Outcome, Refusal> {
        let before = self.state.clone();
        let result = self.apply(host, command);
        match result {
            Ok(mut outcome) => {
                outcome.changed = self.state != before;
                self.assert_sound(&before);
                Ok(outcome)
            }
            Err(refusal) => {
                self.state = before;
                Err(refusal)
            }
        }
    }

    fn assert_sound(&self, before: &ReservationState) {
        assert!(
            self.state.highest_key >= before.highest_key,
            "the highest key fell"
        );
        assert!(
            self.state.registrants.len() <= REGISTRANTS_MAX,
            "too many registrants"
        );
        if let Some(held) = self.state.held {
            assert!(
                self.state.registrants.contains_key(&held.holder),
                "a holder is registered"
            );
        }
    }

    fn apply(&mut self, host: HostId, command: ReservationCommand) -> Result<Outcome, Refusal> {
        use ReservationCommand::*;
        match command {
            Register { new_key, persist } => {
                self.register(host, new_key)?;
                self.registered(persist, Outcome::default())
            }
            Unregister { current_key, persist } => {
                self.check_registrant(host, current_key)?;
                let mut outcome = Outcome::default();
                self.remove(host, &mut outcome);
                self.registered(persist, outcome)
            }
            Replace {
                current_key,
                new_key,
                persist,
            } => {
                self.check_registrant(host, current_key)?;
                self.accept_key(new_key)?;
                self.state.registrants.insert(host, new_key);
                self.registered(persist, Outcome::default())
            }
            Acquire { kind, current_key } => {
                self.check_acquirer(host, current_key)?;
                match self.epoch_keys {
                    true => Ok(self.take_over(host, kind)),
                    false => self.acquire(host, kind),
                }
            }
            Preempt {
                kind,
                current_key,
                preempt_key,
                abort,
            } => {
                self.check_acquirer(host, current_key)?;
                let mut outcome = match self.epoch_keys {
                    true => self.take_over(host, kind),
                    false => self.preempt(host, kind, preempt_key)?,
                };
                self.state.generation = self.state.generation.wrapping_add(1);
                outcome.drain |= abort;
                Ok(outcome)
            }
            Release { kind, current_key } => {
                self.check_registrant(host, Some(current_key))?;
                self.release(host, kind)
            }
            Clear { current_key } => {
                self.check_registrant(host, Some(current_key))?;
                Ok(self.clear(host))
            }
        }
    }

    fn check_registrant(&self, host: HostId, current_key: Option<u64>) -> Result<(), Refusal> {
        match self.state.registrants.get(&host) {
            Some(key) if current_key.is_none_or(|current| current == *key) => Ok(()),
            _ => Err(Refusal::Conflict),
        }
    }

    fn check_acquirer(&self, host: HostId, current_key: u64) -> Result<(), Refusal> {
        self.check_registrant(host, Some(current_key))?;
        match self.epoch_keys && current_key < self.state.highest_key {
            true => Err(Refusal::Conflict),
            false => Ok(()),
        }
    }

    /// With epoch keys: refuses a lower key, and keeps the highest.
    fn accept_key(&mut self, key: u64) -> Result<(), Refusal> {
        if !self.epoch_keys {
            return Ok(());
        }
        if key == 0 {
            return Err(Refusal::InvalidField);
        }
        if key < self.state.highest_key {
            return Err(Refusal::Conflict);
        }
        self.state.highest_key = key;
        Ok(())
    }

    fn register(&mut self, host: HostId, new_key: u64) -> Result<(), Refusal> {
        let known = self.state.registrants.get(&host);
        if !self.epoch_keys && known.is_some_and(|key| *key != new_key) {
            return Err(Refusal::Conflict);
        }
        self.accept_key(new_key)?;
        self.state.registrants.insert(host, new_key);
        if self.state.registrants.len() <= REGISTRANTS_MAX {
            return Ok(());
        }
        match self.epoch_keys {
            true => self.evict_lowest(host),
            false => return Err(Refusal::Full),
        }
        Ok(())
    }

    /// With epoch keys a full table gives up its lowest epoch that holds nothing: old epochs never come back.
    fn evict_lowest(&mut self, host: HostId) {
        let spared = [Some(host), self.state.held.map(|held| held.holder)];
        let registrants = self.state.registrants.iter();
        let lowest = registrants
            .filter(|(other, _)| !spared.contains(&Some(**other)))
            .min_by_key(|(_, key)| **key)
            .map(|(other, _)| *other)
            .expect("a full table has more than two registrants");
        self.state.registrants.remove(&lowest);
    }

    /// The end of every successful Register command.
    fn registered(&mut self, persist: Option<bool>, outcome: Outcome) -> Result<Outcome, Refusal> {
        if self.epoch_keys {
            if persist == Some(false) {
                return Err(Refusal::InvalidField);
            }
            self.state.persist_through_power_loss = true;
        } else if let Some(persist) = persist {
            self.state.persist_through_power_loss = persist;
        }
        self.state.generation = self.state.generation.wrapping_add(1);
        Ok(outcome)
    }

    fn acquire(&mut self, host: HostId, kind: ReservationType) -> Result<Outcome, Refusal> {
        match self.state.held {
            Some(held) if held.kind != kind || !self.state.is_holder(host) => Err(Refusal::Conflict),
            Some(_) => Ok(Outcome::default()),
            None => {
                self.state.held = Some(Held { kind, holder: host });
                Ok(Outcome::default())
            }
        }
    }

    /// With epoch keys: the reservation is the caller's, and nobody else has a registration any more (none has a higher
    /// key: such a caller was refused).
    fn take_over(&mut self, host: HostId, kind: ReservationType) -> Outcome {
        let mut outcome = Outcome {
            drain: true,
            ..Outcome::default()
        };
        self.state.held = Some(Held { kind, holder: host });
        self.preempt_registrations(host, |_, _| true, &mut outcome);
        outcome
    }

    fn preempt(&mut self, host: HostId, kind: ReservationType, key: u64) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::default();
        let Some(held) = self.state.held else {
            return self.preempt_by_key(host, key, outcome);
        };
        if all_registrants(held.kind) {
            if key != 0 {
                return self.preempt_by_key(host, key, outcome);
            }
            self.state.held = Some(Held { kind, holder: host });
            self.preempt_registrations(host, |_, _| true, &mut outcome);
            return Ok(outcome);
        }
        if key == 0 {
            return Err(Refusal::InvalidField);
        }
        if self.state.registrants[&held.holder] != key {
            return self.preempt_by_key(host, key, outcome);
        }
        self.state.held = Some(Held { kind, holder: host });
        self.preempt_registrations(host, |_, other| other == key, &mut outcome);
        if held.kind != kind {
            self.notify_released(host, &mut outcome);
        }
        Ok(outcome)
    }

    /// Takes the registrations with that key away, the caller's own too.
    fn preempt_by_key(&mut self, host: HostId, key: u64, mut outcome: Outcome) -> Result<Outcome, Refusal> {
        if !self.state.registrants.values().any(|other| *other == key) {
            return Err(Refusal::Conflict);
        }
        self.preempt_registrations(host, |_, other| other == key, &mut outcome);
        if self.state.registrants.get(&host) == Some(&key) {
            self.remove(host, &mut outcome);
        }
        Ok(outcome)
    }

    fn preempt_registrations(
        &mut self,
        host: HostId,
        matches: impl Fn(HostId, u64) -> bool,
        outcome: &mut Outcome,
    ) {
        let registrants = self.state.registrants.iter();
        let losers: Vec<HostId> = registrants
            .filter(|(other, key)| **other != host && matches(**other, **key))
            .map(|(other, _)| *other)
            .collect();
        for loser in losers {
            self.remove(loser, outcome);
            outcome.lost.insert(loser);
            outcome.notices.push((loser, Notice::RegistrationPreempted));
        }
    }

    /// Takes a registration away, and with it the reservation if nobody else holds it.
    fn remove(&mut self, host: HostId, outcome: &mut Outcome) {
        self.state.registrants.remove(&host);
        let Some(held) = self.state.held.filter(|held| held.holder == host) else {
            return;
        };
        self.state.held = match (all_registrants(held.kind), self.state.registrants.keys().next()) {
            (true, Some(heir)) => Some(Held {
                holder: *heir,
                ..held
            }),
            _ => None,
        };
        if self.state.held.is_none() && any_registrant_has_access(held.kind) {
            self.notify_released(host, outcome);
        }
    }

    fn notify_released(&self, host: HostId, outcome: &mut Outcome) {
        let others = self.state.registrants.keys().filter(|other| **other != host);
        outcome
            .notices
            .extend(others.map(|other| (*other, Notice::ReservationReleased)));
    }

    fn release(&mut self, host: HostId, kind: Option<ReservationType>) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::default();
        let Some(held) = self.state.held else {
            return Ok(outcome);
        };
        if !self.state.is_holder(host) {
            return Ok(outcome);
        }
        if kind != Some(held.kind) {
            return Err(Refusal::InvalidField);
        }
        self.state.held = None;
        if any_registrant_has_access(held.kind) {
            self.notify_released(host, &mut outcome);
        }
        Ok(outcome)
    }

    fn clear(&mut self, host: HostId) -> Outcome {
        let mut outcome = Outcome::default();
        let others = self.state.registrants.keys().filter(|other| **other != host);
        outcome.notices = others
            .map(|other| (*other, Notice::ReservationPreempted))
            .collect();
        self.state.registrants.clear();
        self.state.held = None;
        self.state.generation = self.state.generation.wrapping_add(1);
        outcome
    }
}

#[cfg(test)]
#[path = "reservation_tests.rs"]
mod tests;
