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

mod admin;
mod admission;
mod ana;
mod async_event;
mod command;
mod config;
mod configure;
mod connections;
mod controller;
mod executions;
mod fabrics;
mod features;
mod hand_over;
mod identify;
mod io;
mod landing;
mod lending;
mod log_page;
mod namespace;
mod queue;
mod receive;
mod reservation;
mod reservation_command;
mod respond;
mod routes;
mod status_map;
mod subsystem;
mod table;
mod transfer;
mod waiting;

#[cfg(test)]
mod tests;

pub use config::{
    ANY_HOST, Elsewhere, NamespaceConfig, Portal, ReservationConfig, SubsystemConfig, SubsystemKey,
    TargetConfig,
};
pub use nvme::HostId;
pub use nvme::log::AnaState;
pub use nvme::reservation::ReservationType;
pub use reservation::{Held, REGISTRANTS_MAX, ReservationState};

use crate::driver::{ConnectionId, ReactorIndex, Segment};
use crate::tcp::framing::Digests;
use crate::tcp::target::{Session, SessionConfig};
use admission::Lanes;
use block::{Memory, Time};
use connections::Connections;
use controller::Controller;
use executions::Executions;
use nvme::Cntlid;
use queue::{Commands, Connection, Phase, Queue, Transit};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use subsystem::{Subsystem, SubsystemRef};
use table::Table;
use waiting::{Line, Waiting};

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
    /// Give the connection to another machine of the process, which has the subsystem that it is for; the target has forgotten
    /// it already.
    HandOver {
        /// Which.
        connection: ConnectionId,
        /// To whom.
        reactor: ReactorIndex,
        /// What has been received on it, but for what was refused.
        received: Vec<u8>,
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
    /// The node has its configuration.
    open: bool,
    subsystems: Table<SubsystemKey, Subsystem>,
    discovery: Subsystem,
    discovery_generation: u64,
    /// By name.
    elsewhere: BTreeMap<String, Elsewhere>,
    connections: Connections,
    lanes: Lanes,
    executions: Executions,
    next_serial: u64,
    /// How much memory commands hold.
    lent_bytes: u64,
    waiting: Waiting,
    /// Some controller is evicted and not closed yet.
    evicting: bool,
    /// Nothing is due before.
    timer: Option<Time>,
    /// For the driver, in order.
    outputs: VecDeque<TargetOutput>,
    /// For the node, in order.
    asked: VecDeque<TargetOutput>,
}

impl Target {
    /// A target without subsystems. Until [`Target::open`] it answers every Connect "controller busy", but for
    /// discovery.
    ///
    /// # Panics
    /// If a limit is outside of its bounds.
    pub fn new(config: TargetConfig) -> Target {
        assert!((2..=1024).contains(&config.queue_entries_max), "queue entries");
        assert!((1..=65534).contains(&config.io_queues_max), "I/O queues");
        assert!(
            config.in_capsule_bytes.is_multiple_of(16) && config.in_capsule_bytes >= 4096,
            "in-capsule data"
        );
        assert!(
            config.h2c_data_bytes_max.is_multiple_of(4) && config.h2c_data_bytes_max >= 4096,
            "MAXH2CDATA"
        );
        assert!((1..=12).contains(&config.mdts), "MDTS");
        assert!(
            config.payload_bytes_max >= 2 * u64::from(config.transfer_bytes_max()),
            "payloads: less than one Compare"
        );
        let discovery = SubsystemConfig {
            nqn: nvme::nqn::DISCOVERY.to_owned(),
            serial: "discovery".to_owned(),
            cntlid_first: 1,
            cntlid_last: Cntlid::MAX.0,
            hosts: BTreeSet::new(),
            reservations: false,
        };
        Target {
            config,
            open: false,
            subsystems: Table::default(),
            discovery: Subsystem::new(discovery),
            discovery_generation: 0,
            elsewhere: BTreeMap::new(),
            connections: Connections::default(),
            lanes: Lanes::default(),
            executions: Executions::default(),
            next_serial: 0,
            lent_bytes: 0,
            waiting: Waiting::default(),
            evicting: false,
            timer: None,
            outputs: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    /// The node has its configuration: from now on a subsystem that is not known does not exist. Before, hosts
    /// that reconnect to a restarted node are asked to try again, and would give up if told that the name is wrong.
    pub fn open(&mut self) {
        self.open = true;
    }

    /// A peer opened a connection.
    pub fn accepted(&mut self, now: Time, connection: ConnectionId) {
        if self.connections.count() >= self.config.connections_max {
            self.outputs.push_back(TargetOutput::Close {
                connection,
                abort: true,
            });
            return;
        }
        let deadline = now + self.config.initialization_timeout;
        let session = Session::new(SessionConfig {
            in_capsule_bytes: self.config.in_capsule_bytes,
            h2c_data_bytes_max: self.config.h2c_data_bytes_max,
            digests: Digests {
                header: self.config.header_digest,
                data: self.config.data_digest,
            },
        });
        let fresh = Connection {
            name: connection,
            session,
            phase: Phase::Fresh { deadline },
            incoming: None,
            transit: Transit::Accepted,
            kept: Vec::new(),
            commands: Commands::new(1),
            executing: 0,
            solicited: 0,
            held_bytes: 0,
            line: Line::default(),
        };
        self.connections.insert(fresh);
        self.wake_at(deadline);
    }

    /// The peer closed, or the connection broke. What it had in flight are orphans now (rule R8). Connections that
    /// the target closed itself are not known any more.
    pub fn closed(&mut self, now: Time, connection: ConnectionId, memory: &mut dyn Memory) {
        self.forget(now, connection, memory);
        self.settle(now, memory);
    }

    /// The next thing to do, until none is left.
    pub fn poll_output(&mut self) -> Option<TargetOutput> {
        self.asked.pop_front().or_else(|| self.outputs.pop_front())
    }

    /// The next thing to do that is for the node itself. What is for its driver ([`TargetOutput::Send`], `Close`, `HandOver`)
    /// stays until the driver asks: so it goes by the node without stopping.
    pub fn poll_asked(&mut self) -> Option<TargetOutput> {
        self.asked.pop_front()
    }

    /// When [`Target::handle_timeout`] should be called.
    pub fn next_timeout(&self) -> Option<Time> {
        self.timer
    }

    /// The time of [`Target::next_timeout`] has come (calling earlier does no harm): cuts off who said nothing for too long.
    pub fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        self.timer = None;
        self.excuse_unread(now);
        self.look_whose_turn();
        for connection in self.overdue_connections(now) {
            self.cut_off(now, connection, memory);
        }
        for (subsystem, cntlid) in self.silent_controllers(now) {
            self.end_association(now, subsystem, cntlid, true, memory);
        }
        let connections = self.connections.iter().filter_map(|live| live.phase.deadline());
        let controllers = self
            .all_controllers()
            .filter_map(|(_, controller)| controller.deadline());
        if let Some(next) = connections.chain(controllers).min() {
            self.wake_at(next);
        }
        self.settle(now, memory);
    }

    fn overdue_connections(&self, now: Time) -> Vec<ConnectionId> {
        let connections = self.connections.iter();
        let overdue =
            connections.filter(|live| live.phase.deadline().is_some_and(|deadline| deadline <= now));
        overdue.map(|live| live.name).collect()
    }

    fn silent_controllers(&self, now: Time) -> Vec<(SubsystemRef, Cntlid)> {
        let silent = self
            .all_controllers()
            .filter(|(_, controller)| controller.deadline().is_some_and(|deadline| deadline <= now));
        silent
            .map(|(subsystem, controller)| (subsystem, controller.cntlid))
            .collect()
    }

    fn all_controllers(&self) -> impl Iterator<Item = (SubsystemRef, &Controller)> {
        let named = self
            .subsystems
            .iter()
            .map(|(key, subsystem)| (SubsystemRef::Key(key), subsystem));
        named
            .chain([(SubsystemRef::Discovery, &self.discovery)])
            .flat_map(|(name, subsystem)| {
                subsystem
                    .controllers
                    .values()
                    .map(move |controller| (name, controller))
            })
    }

    /// The end of every event: what it made possible elsewhere.
    fn settle(&mut self, now: Time, memory: &mut dyn Memory) {
        if !self.waiting.is_empty() {
            self.serve_waiting(now, memory);
        }
        if self.evicting {
            self.sweep_evicted(now, memory);
        }
    }

    /// Something may be due then.
    fn wake_at(&mut self, time: Time) {
        self.timer = Some(self.timer.map_or(time, |timer| timer.min(time)));
    }

    fn subsystem(&self, name: SubsystemRef) -> Option<&Subsystem> {
        match name {
            SubsystemRef::Discovery => Some(&self.discovery),
            SubsystemRef::Key(key) => self.subsystems.get(&key),
        }
    }

    fn subsystem_mut(&mut self, name: SubsystemRef) -> Option<&mut Subsystem> {
        match name {
            SubsystemRef::Discovery => Some(&mut self.discovery),
            SubsystemRef::Key(key) => self.subsystems.get_mut(&key),
        }
    }

    fn controller(&self, subsystem: SubsystemRef, cntlid: Cntlid) -> Option<&Controller> {
        self.subsystem(subsystem)?.controllers.get(&cntlid)
    }

    fn controller_mut(&mut self, subsystem: SubsystemRef, cntlid: Cntlid) -> Option<&mut Controller> {
        self.subsystem_mut(subsystem)?.controllers.get_mut(&cntlid)
    }

    /// The controller of a queue.
    #[inline]
    fn controller_of(&mut self, queue: &Queue) -> Option<&mut Controller> {
        let subsystem = match (queue.subsystem, queue.rows.subsystem) {
            (SubsystemRef::Key(key), Some(row)) => self.subsystems.at_mut(row, key)?,
            _ => &mut self.discovery,
        };
        subsystem.controllers.at_mut(queue.rows.controller, queue.cntlid)
    }
}
