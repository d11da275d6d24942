//! The target: the controllers' side of NVMe over Fabrics, as one machine for a node (or one per reactor thread).
//!
//! It holds subsystems and their namespaces (told by its node), connections and controllers (made by hosts), and
//! turns command capsules into [`TargetOutput::Execute`] for whatever serves the namespaces.
//!
//! What it deliberately is not: it knows no disk, no pool and no socket, and does not touch payload bytes beyond
//! placing them into lent buffers (and comparing them, for Compare).
//!
//! Invariants:
//! * every command that was taken is answered exactly once, unless its connection ends first;
//! * every [`TargetOutput::Execute`] is completed exactly once by the node, whatever became of the connection; until then
//!   its buffer stays retained here, and after the connection's end new commands that overlap it wait (rule R8);
//! * access (visibility, ANA state, reservations) is checked at the moment a command is handed out, not before;
//! * whatever a peer sends, what is held for it is bounded by [`TargetConfig`].

mod config;
mod reservation;

pub use config::{
    AnaState, HostId, NamespaceConfig, Portal, ReservationConfig, SubsystemConfig, SubsystemKey, TargetConfig,
};
pub use reservation::{Held, REGISTRANTS_MAX, ReservationState, ReservationType};

use crate::driver::{ConnectionId, Segment};
use block::{Memory, Time};
use std::collections::{BTreeSet, VecDeque};

/// Names a request handed out by [`TargetOutput::Execute`]; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoId(pub u64);

/// What a target asks of its node.
#[derive(Debug)]
pub enum TargetOutput {
    /// Send, after everything asked for earlier on this connection.
    Send {
        /// Where.
        connection: ConnectionId,
        /// What.
        segment: Segment,
    },
    /// Close; the target has forgotten the connection already.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Drop what is unsent and reset.
        abort: bool,
    },
    /// Carry a request out, and answer with [`Target::complete`]. The buffer in it stays retained by the target.
    Execute {
        /// The target's name for it.
        io: IoId,
        /// Of which subsystem.
        subsystem: SubsystemKey,
        /// Of which namespace.
        nsid: u32,
        /// On behalf of whom.
        host: HostId,
        /// What.
        request: block::Request,
    },
    /// Make a namespace's reservations durable, and answer with [`Target::reservation_persisted`]. One at a time for each
    /// namespace.
    PersistReservation {
        /// Of which subsystem.
        subsystem: SubsystemKey,
        /// Of which namespace.
        nsid: u32,
        /// What to keep.
        state: ReservationState,
    },
    /// Other hosts than before have a controller of this subsystem.
    HostsChanged {
        /// Which subsystem.
        subsystem: SubsystemKey,
        /// The NQNs of those that have one now.
        hosts: BTreeSet<String>,
    },
}

/// The target of a node.
#[derive(Debug)]
pub struct Target {
    config: TargetConfig,
    outputs: VecDeque<TargetOutput>,
}

impl Target {
    /// A target without subsystems. Until [`Target::open`] it answers every Connect "controller busy".
    pub fn new(config: TargetConfig) -> Target {
        let outputs = VecDeque::new();
        Target { config, outputs }
    }

    /// The node has its configuration: from now on a subsystem that is not known does not exist. Before, hosts
    /// that reconnect to a restarted node are asked to try again, and would give up if told that the name is wrong.
    pub fn open(&mut self) {}

    /// A peer opened a connection.
    pub fn accepted(&mut self, now: Time, connection: ConnectionId) {
        let _ = (now, connection, &self.config);
    }

    /// Bytes arrived. Unknown connections are ignored.
    pub fn received(&mut self, now: Time, connection: ConnectionId, bytes: &[u8], memory: &mut dyn Memory) {
        let _ = (now, connection, bytes, memory);
    }

    /// The peer closed, or the connection broke. What it had in flight are orphans now (rule R8).
    pub fn closed(&mut self, now: Time, connection: ConnectionId, memory: &mut dyn Memory) {
        let _ = (now, connection, memory);
    }

    /// The answer to a [`TargetOutput::Execute`].
    ///
    /// # Panics
    /// If `io` is not in flight: the node answered twice.
    pub fn complete(&mut self, now: Time, io: IoId, status: block::Status, memory: &mut dyn Memory) {
        let _ = (now, io, status, memory);
    }

    /// The answer to a [`TargetOutput::PersistReservation`]; ignored if the namespace is gone.
    pub fn reservation_persisted(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        nsid: u32,
        durable: bool,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, subsystem, nsid, durable, memory);
    }

    /// The next thing to do, until none is left.
    pub fn poll_output(&mut self) -> Option<TargetOutput> {
        self.outputs.pop_front()
    }

    /// When [`Target::handle_timeout`] should be called.
    pub fn next_timeout(&self) -> Option<Time> {
        None
    }

    /// The time of [`Target::next_timeout`] has come (calling earlier does no harm).
    pub fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        let _ = (now, memory);
    }

    /// Adds a subsystem or changes it. Its name and its range of controller identifiers never change.
    pub fn upsert_subsystem(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        config: SubsystemConfig,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, subsystem, config, memory);
    }

    /// Removes a subsystem with all its namespaces: associations are closed, what is in flight finishes as orphans.
    pub fn remove_subsystem(&mut self, now: Time, subsystem: SubsystemKey, memory: &mut dyn Memory) {
        let _ = (now, subsystem, memory);
    }

    /// Adds a namespace, with its reservations if it is to have any, or changes it (size, ANA group, hosts; then
    /// `reservations` counts for nothing). Hosts are told by events. A host that sees nothing of the subsystem
    /// any more is cut off once what it has in flight has ended.
    pub fn upsert_namespace(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        nsid: u32,
        config: NamespaceConfig,
        reservations: Option<ReservationConfig>,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, subsystem, nsid, config, reservations, memory);
    }

    /// Removes a namespace. What is in flight finishes; everything else is answered "invalid namespace".
    pub fn remove_namespace(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        nsid: u32,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, subsystem, nsid, memory);
    }

    /// Sets the state of an ANA group. Groups without a state are inaccessible.
    pub fn set_ana_state(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        group: u32,
        state: AnaState,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, subsystem, group, state, memory);
    }

    /// Where a subsystem can be reached, for the discovery log page of those that may connect to it.
    pub fn set_portals(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        portals: BTreeSet<Portal>,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, subsystem, portals, memory);
    }
}
