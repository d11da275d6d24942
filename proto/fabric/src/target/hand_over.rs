//! Connections that are for another machine of the process. Any machine may accept a connection; whom it is for, its Connect
//! says. If that is another one's subsystem, the connection goes there with every byte that was received on it, as if it had
//! been accepted there: only what this machine has answered already (the initialisation) is not answered again.
//!
//! Not here: how a connection gets from one machine to another (the driver knows), and who has which subsystem (the node
//! tells). What a host sees of the process, the discovery log page, is the same at each of its machines.
//!
//! Invariants: a connection is handed over at most once, before its first command was carried out; what is kept of it until
//! then is bounded ([`TargetConfig::kept_bytes_max`]).

use super::config::{Elsewhere, Portal, TargetConfig};
use super::queue::{Phase, Transit};
use super::{Target, TargetOutput};
use crate::driver::{ConnectionId, ReactorIndex};
use block::{Memory, Time};
use nvme::Nqn;
use nvme::connect::ConnectParameters;
use std::collections::{BTreeMap, BTreeSet};

impl TargetConfig {
    /// The most that is kept of a connection that has no queue yet: its initialisation and one Connect, however they are
    /// padded, and one refused capsule.
    pub(crate) fn kept_bytes_max(&self) -> usize {
        2048 + self.in_capsule_bytes as usize
    }
}

impl Target {
    /// The subsystems that other machines of the process have, by name: all of them, whatever was said before. One that this
    /// target has itself is its own all the same.
    ///
    /// # Panics
    /// If a name is none.
    pub fn set_elsewhere(
        &mut self,
        now: Time,
        elsewhere: BTreeMap<String, Elsewhere>,
        memory: &mut dyn Memory,
    ) {
        for name in elsewhere.keys() {
            Nqn::parse(name).expect("a subsystem has a qualified name");
        }
        if self.elsewhere == elsewhere {
            return;
        }
        self.elsewhere = elsewhere;
        self.discovery_changed(memory);
        self.settle(now, memory);
    }

    /// The subsystems that this target has, as [`Target::set_elsewhere`] of the other machines wants them; `reactor` is this
    /// one's.
    pub fn directory(&self, reactor: ReactorIndex) -> BTreeMap<String, Elsewhere> {
        let own = self.subsystems.values().map(|subsystem| {
            let known = Elsewhere {
                reactor,
                hosts: subsystem.admitted(),
                portals: subsystem.portals.clone(),
            };
            (subsystem.config.nqn.clone(), known)
        });
        own.collect()
    }

    /// Another machine of the process had accepted this connection, answered its initialisation, and found that its Connect
    /// is for here. `received` is all that came so far.
    pub fn handed_over(
        &mut self,
        now: Time,
        connection: ConnectionId,
        received: &[u8],
        memory: &mut dyn Memory,
    ) {
        self.accepted(now, connection);
        if let Some(live) = self.connections.get_mut(connection) {
            live.transit = Transit::Replaying;
        }
        self.received(now, connection, received, memory);
    }

    /// Whether another machine has answered already what is answered now.
    pub(crate) fn is_replayed(&self, connection: ConnectionId) -> bool {
        self.connections[connection].transit == Transit::Replaying
    }

    /// Whether a subsystem is another machine's.
    pub(crate) fn is_elsewhere(&self, name: &str) -> bool {
        self.elsewhere.contains_key(name) && !self.has_subsystem(name)
    }

    fn has_subsystem(&self, name: &str) -> bool {
        self.subsystems
            .values()
            .any(|subsystem| subsystem.config.nqn == name)
    }

    /// A Connect is about to be carried out; whether it is for another machine, and the connection leaves.
    pub(crate) fn begin_hand_over(&mut self, id: ConnectionId, parameters: &ConnectParameters) -> bool {
        let name = parameters.subsystem.as_str();
        let to = self.elsewhere.get(name).map(|elsewhere| elsewhere.reactor);
        let to = to.filter(|_| !self.has_subsystem(name));
        let live = self.connections.get_mut(id).expect("the command is alive");
        if live.transit == Transit::Replaying {
            live.transit = Transit::Arrived;
        }
        match to {
            Some(to) if live.transit == Transit::Accepted => {
                live.phase = Phase::Leaving { to };
                true
            }
            _ => false,
        }
    }

    /// A connection leaves; `unread` came behind its Connect.
    pub(crate) fn hand_over(
        &mut self,
        now: Time,
        connection: ConnectionId,
        reactor: ReactorIndex,
        unread: &[u8],
        memory: &mut dyn Memory,
    ) {
        let live = self
            .connections
            .get_mut(connection)
            .expect("its bytes are being read");
        let mut received = std::mem::take(&mut live.kept);
        received.extend(unread);
        self.forget(now, connection, memory);
        self.outputs.push_back(TargetOutput::HandOver {
            connection,
            reactor,
            received,
        });
    }

    /// The subsystems that a host may learn of, and where they can be reached.
    pub(crate) fn discoverable<'a>(
        &'a self,
        host: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a BTreeSet<Portal>)> {
        let own = self.subsystems.values();
        let own = own.filter(move |subsystem| subsystem.admits(host));
        let own = own.map(|subsystem| (subsystem.config.nqn.as_str(), &subsystem.portals));
        let others = self.elsewhere.iter();
        let others = others.filter(move |(name, other)| other.admits(host) && !self.has_subsystem(name));
        own.chain(others.map(|(name, other)| (name.as_str(), &other.portals)))
    }
}
