//! A namespace as the target knows it: what its node said of it, its reservations, and the reservation command that is
//! being carried out.

use super::command::CommandRef;
use super::config::{ANY_HOST, NamespaceConfig, ReservationConfig};
use super::reservation::{Outcome, ReservationTable};
use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) config: NamespaceConfig,
    pub(crate) reservations: Option<Reservations>,
}

impl Namespace {
    pub(crate) fn new(config: NamespaceConfig, reservations: Option<ReservationConfig>) -> Namespace {
        Namespace {
            config,
            reservations: reservations.map(Reservations::new),
        }
    }

    pub(crate) fn visible_to(&self, host: &str) -> bool {
        self.config.hosts.contains(host) || self.config.hosts.contains(ANY_HOST)
    }
}

/// The reservations of a namespace, and the one command on them that is under way.
#[derive(Debug)]
pub(crate) struct Reservations {
    pub(crate) table: ReservationTable,
    /// The table is not durable as it stands: the next command persists it even if it changes nothing.
    pub(crate) unsaved: bool,
    pub(crate) current: Option<ReservationWork>,
    /// Commands that wait for the current one.
    pub(crate) waiting: VecDeque<CommandRef>,
}

/// A reservation command that was accepted and is not answered yet.
#[derive(Debug)]
pub(crate) struct ReservationWork {
    /// Whom to answer, unless it went away.
    pub(crate) command: CommandRef,
    pub(crate) outcome: Outcome,
    /// `None`: being made durable.
    pub(crate) durable: Option<bool>,
}

impl Reservations {
    fn new(config: ReservationConfig) -> Reservations {
        Reservations {
            table: ReservationTable::new(config.epoch_keys, config.state),
            unsaved: false,
            current: None,
            waiting: VecDeque::new(),
        }
    }
}
