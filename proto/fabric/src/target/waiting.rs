//! Commands that wait for memory: whose turn it is when there is some.
//!
//! Connections take turns, one command at a turn; a connection's namespaces take turns too, and the commands of one namespace
//! keep their order. A turn earns [`QUANTUM_BYTES`]: who wants more saves for some turns. So whoever waits, waits behind at
//! most one command of each other connection, and those who want much do not get more than others do.
//!
//! Nobody overtakes: if there is no memory for the one whose turn it is, there is none for anybody. Only who waits for its
//! namespace's share to come free is passed over, and keeps its turn.
//!
//! Those who wait are looked at whenever anything happens to the target; memory may also come free elsewhere (a read's buffer
//! was sent): then the driver says so ([`Target::waits_for_memory`]), or a timer looks again.
//!
//! A command whose data is in its capsule and has come before a buffer was there holds it on the heap meanwhile. That is bounded
//! by not reading on ([`Target::wants_bytes`]), except where what is unread may be what others' buffers wait for.
//!
//! Invariant: a command that waits stands in its connection's line exactly once, and a connection with a line in the ring.

use super::Target;
use super::command::{Command, CommandRef, Payload, Stage};
use super::lending::Room;
use super::queue::Phase;
use super::transfer::{self, Buffers};
use crate::driver::ConnectionId;
use block::{Duration, Memory, Time};
use std::collections::VecDeque;

/// How long to wait before asking again for memory that somebody else holds.
const MEMORY_RETRY: Duration = Duration::from_millis(1);

/// What a connection may take at a turn, on the average.
const QUANTUM_BYTES: u64 = 128 * 1024;

/// A reading that is stopped holds data of at most so many capsules, and what was brought with them.
const HELD_CAPSULES: u32 = 8;

/// The connections with commands that wait, in turn.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    ring: VecDeque<ConnectionId>,
    /// The first in the ring got nothing: there is no memory for anybody.
    short: bool,
    /// Something came free, or somebody came: it is worth looking whose turn it is.
    look: bool,
    /// The command at the head of a line is being tried.
    serving: bool,
}

impl Waiting {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}

/// The commands of one connection that wait.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// By namespace, in turn.
    namespaces: VecDeque<(u32, VecDeque<CommandRef>)>,
    /// What earlier turns earned and did not take.
    saved_bytes: u64,
    in_ring: bool,
}

impl Line {
    fn push(&mut self, nsid: u32, name: CommandRef) {
        match self.namespaces.iter_mut().find(|(known, _)| *known == nsid) {
            Some((_, line)) => line.push_back(name),
            None => self.namespaces.push_back((nsid, VecDeque::from([name]))),
        }
    }

    /// The namespace that was first is last now.
    fn rotate(&mut self) {
        if let Some(first) = self.namespaces.pop_front() {
            self.namespaces.push_back(first);
        }
    }

    /// The first command of the first namespace.
    fn first(&self) -> Option<CommandRef> {
        let (_, line) = self.namespaces.front()?;
        line.front().copied()
    }

    /// Takes it out; its namespace goes behind the others.
    fn take_first(&mut self) {
        let Some((nsid, mut line)) = self.namespaces.pop_front() else {
            return;
        };
        line.pop_front();
        if !line.is_empty() {
            self.namespaces.push_back((nsid, line));
        }
    }
}

/// What a turn came to.
enum Turn {
    /// One command waits no more.
    Served,
    /// The connection saves for what it wants.
    Saving,
    /// Its namespaces have their shares.
    PassedOver,
    /// There is no memory.
    Short,
    /// Nobody waits there.
    Nobody,
}

impl Target {
    /// Whether commands wait for memory. A driver that has given buffers back to the pool since the last event should say so
    /// ([`Target::handle_timeout`]); who waits is looked at soon in any case.
    pub fn waits_for_memory(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a connection's bytes are to be read: not while it holds much data that there are no buffers for, unless what
    /// is unread belongs into buffers that are held for it. To be asked again after every event.
    pub fn wants_bytes(&self, connection: ConnectionId) -> bool {
        let Some(live) = self.connections.get(connection) else {
            return true;
        };
        if live.held_bytes <= HELD_CAPSULES * self.config.in_capsule_bytes || live.solicited > 0 {
            return true;
        }
        let incoming = live.incoming.and_then(|incoming| incoming.slot);
        let command = incoming.and_then(|slot| live.commands.get(slot));
        command.is_some_and(|command| matches!(command.payload, Payload::Lent { .. }))
    }

    /// Nobody is silent who is not listened to.
    pub(crate) fn excuse_unread(&mut self, now: Time) {
        if self.waiting.is_empty() {
            return;
        }
        let ring = self.waiting.ring.iter().copied();
        let unread: Vec<ConnectionId> = ring.filter(|connection| !self.wants_bytes(*connection)).collect();
        for connection in unread {
            self.hear(now, connection);
        }
    }

    /// Whether a connection's command may ask for memory now: those who wait go first.
    pub(crate) fn is_its_turn(&self, id: ConnectionId) -> bool {
        if self.waiting.serving || self.waiting.ring.is_empty() {
            return true;
        }
        let live = self.connections.get(id);
        !self.waiting.short && live.is_some_and(|live| live.line.namespaces.is_empty())
    }

    /// Memory came free.
    pub(crate) fn look_whose_turn(&mut self) {
        self.waiting.look = true;
    }

    /// The pool had nothing.
    pub(crate) fn run_short(&mut self) {
        self.waiting.short = true;
    }

    /// There is no buffer: the command waits its turn.
    pub(crate) fn wait_for_memory(&mut self, now: Time, id: ConnectionId, slot: u16, to_receive: bool) {
        let name = self.name(id, slot);
        let live = self.connections.get_mut(id).expect("just named");
        let command = live.commands.get_mut(slot).expect("just named");
        command.stage = Stage::WaitingForMemory { to_receive };
        if self.waiting.serving {
            return; // It is at the head of its line still.
        }
        live.line.push(command.origin.nsid.0, name);
        if !std::mem::replace(&mut live.line.in_ring, true) {
            self.waiting.ring.push_back(id);
        }
        self.waiting.look = true;
        self.wake_at(now + MEMORY_RETRY);
    }

    /// Serves those who wait, in turn, as far as it goes; if nothing came free since the last time, there is nothing to do.
    pub(crate) fn serve_waiting(&mut self, now: Time, memory: &mut dyn Memory) {
        while std::mem::take(&mut self.waiting.look) || self.waiting.short {
            self.serve_ring(now, memory);
            if self.waiting.short {
                break;
            }
        }
        match self.waiting.is_empty() {
            true => self.waiting.short = false,
            false => self.wake_at(now + MEMORY_RETRY),
        }
    }

    /// Once through the ring, and on with those who got something, until nobody gets anything.
    fn serve_ring(&mut self, now: Time, memory: &mut dyn Memory) {
        self.waiting.short = false;
        // Whoever stands before that place was passed over, and keeps it.
        let mut at = 0;
        while let Some(id) = self.waiting.ring.get(at).copied() {
            match self.take_turn(now, id, memory) {
                Turn::Served | Turn::Saving => {
                    self.waiting.ring.remove(at);
                    self.waiting.ring.push_back(id);
                }
                Turn::PassedOver => at += 1,
                Turn::Nobody => {
                    self.waiting.ring.remove(at);
                    if let Some(live) = self.connections.get_mut(id) {
                        live.line = Line::default();
                    }
                }
                Turn::Short => {
                    self.waiting.short = true;
                    return;
                }
            }
        }
    }

    /// It is a connection's turn.
    fn take_turn(&mut self, now: Time, id: ConnectionId, memory: &mut dyn Memory) -> Turn {
        let Some((name, bytes)) = self.next_in_line(id) else {
            return Turn::Nobody;
        };
        let Some(name) = name else {
            return Turn::PassedOver;
        };
        let live = self.connections.get_mut(id).expect("it has a line");
        live.line.saved_bytes += QUANTUM_BYTES;
        if live.line.saved_bytes < bytes {
            return Turn::Saving;
        }
        if !self.try_again(now, name, memory) {
            if let Some(live) = self.connections.get_mut(id) {
                live.line.saved_bytes -= QUANTUM_BYTES;
            }
            return Turn::Short;
        }
        if let Some(live) = self.connections.get_mut(id) {
            live.line.take_first();
            live.line.saved_bytes = (live.line.saved_bytes - bytes).min(QUANTUM_BYTES);
        }
        Turn::Served
    }

    /// Brings to the head of a connection's line who may have memory, and how much he wants; none of them if their namespaces
    /// have their shares. `None` if nobody waits.
    fn next_in_line(&mut self, id: ConnectionId) -> Option<(Option<CommandRef>, u64)> {
        let mut passed_over = 0;
        loop {
            let live = self.connections.get_mut(id)?;
            let name = live.line.first()?;
            let waits = |command: &&Command| matches!(command.stage, Stage::WaitingForMemory { .. });
            let Some(command) = self.command(name).filter(waits) else {
                // It was aborted meanwhile.
                let live = self.connections.get_mut(id)?;
                live.line.take_first();
                continue;
            };
            let (lane, bytes) = (command.lane, wanted_bytes(command));
            if self.room(lane, bytes) != Room::ShareTaken {
                return Some((Some(name), bytes));
            }
            let live = self.connections.get_mut(id)?;
            live.line.rotate();
            passed_over += 1;
            if passed_over >= live.line.namespaces.len() {
                return Some((None, 0));
            }
        }
    }

    /// A command asks for memory once more; whether it waits no longer.
    fn try_again(&mut self, now: Time, name: CommandRef, memory: &mut dyn Memory) -> bool {
        let command = self.command(name).expect("it waits");
        let to_receive = command.stage == Stage::WaitingForMemory { to_receive: true };
        self.waiting.serving = true;
        match to_receive {
            true => self.solicit(now, name.connection, name.slot, memory),
            false => self.execute(now, name.connection, name.slot, memory),
        }
        self.waiting.serving = false;
        // Who was not read was not heard.
        if self
            .connections
            .get(name.connection)
            .is_some_and(|live| matches!(live.phase, Phase::Queue(_)))
        {
            self.hear(now, name.connection);
        }
        let command = self.command(name);
        command.is_none_or(|command| !matches!(command.stage, Stage::WaitingForMemory { .. }))
    }
}

/// How much memory a command waits for.
fn wanted_bytes(command: &Command) -> u64 {
    let (buffers, length) = match transfer::wants_buffers(&command.work) {
        Some(buffers) => (buffers, command.length),
        None => (Buffers::One, transfer::read_bytes(&command.work)),
    };
    buffers.bytes(length)
}
