//! Connections: two pipes each, with bytes that arrive in order, in pieces, late, or not at all.
//!
//! As TCP and kernels have it: what waits behind a cut arrives when the cut is healed; a killed process's sockets are closed by its
//! kernel, a vanished machine says nothing at all; who says something to a machine that knows no such connection is told so.

use super::{Happening, witness::Line};
use super::{NodeName, World};
use block::{Memory, Time};
use fabric::driver::{CloseReason, ConnectionId, Event, ListenerId, Segment};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How long what waits behind a cut waits before it tries again.
const CUT_RETRY: Duration = Duration::from_millis(20);

/// What travels along a pipe.
#[derive(Debug)]
pub(super) enum Packet {
    Open,
    Bytes(Vec<u8>),
    Close(CloseReason),
    /// Nobody listens there.
    Refused,
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    line: Line,
    from: NodeName,
    to: NodeName,
    to_connection: ConnectionId,
    /// The life of the receiver that the pipe belongs to.
    to_life: u64,
    packets: VecDeque<(Time, Packet)>,
    /// What goes in never comes out: something between the two has forgotten the connection.
    swallows: bool,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The pipe that this end sends into.
    pub(super) out: u64,
    /// The whole.
    connection: u64,
    /// The other end.
    peer: NodeName,
    peer_connection: ConnectionId,
}

/// Every pipe, and how links are.
#[derive(Debug, Default)]
pub(super) struct Network {
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    next_connection: u64,
    /// From, to: bytes that way wait.
    cut: BTreeSet<(NodeName, NodeName)>,
    /// From, to: how many times as long bytes travel.
    slow: BTreeMap<(NodeName, NodeName), u32>,
}

impl World {
    /// Whether bytes between the two wait (both ways) or travel.
    pub fn set_cut(&mut self, one: NodeName, other: NodeName, cut: bool) {
        self.set_cut_one_way(one, other, cut);
        self.set_cut_one_way(other, one, cut);
    }

    /// Whether bytes from one to the other wait or travel; the other way they go as they went.
    pub fn set_cut_one_way(&mut self, from: NodeName, to: NodeName, cut: bool) {
        if cut {
            self.network.cut.insert((from, to));
        } else {
            self.network.cut.remove(&(from, to));
        }
    }

    /// Bytes between the two take so many times as long, both ways; with 1 as long as elsewhere.
    pub fn set_slow(&mut self, one: NodeName, other: NodeName, factor: u32) {
        for pair in [(one, other), (other, one)] {
            self.network.slow.insert(pair, factor.max(1));
        }
    }

    /// The connections between the two, by the pipe and the end at `one`.
    fn between(&self, one: NodeName, other: NodeName) -> Vec<(ConnectionId, End)> {
        let ends = self.nodes[one.0].ends.iter();
        ends.filter(|(_, end)| end.peer == other)
            .map(|(id, end)| (*id, *end))
            .collect()
    }

    /// Breaks one connection between the two (the `pick`th, counted round) wherever its bytes are: both ends are told, after a part of
    /// what was under way to them. False if there is none.
    pub fn break_connection(&mut self, one: NodeName, other: NodeName, pick: u64) -> bool {
        let Some((near, far)) = self.pick_connection(one, other, pick) else {
            return false;
        };
        for pipe in [near, far] {
            let Some(kept) = self.network.pipes.get_mut(&pipe) else {
                continue;
            };
            let left = self.random.below(kept.packets.len() as u64 + 1) as usize;
            kept.packets.truncate(left);
            if let Some((_, Packet::Bytes(bytes))) = kept.packets.back_mut() {
                bytes.truncate(self.random.below(bytes.len() as u64 + 1) as usize);
            }
            self.send(pipe, Packet::Close(CloseReason::Broken));
        }
        true
    }

    /// From now on one connection between the two carries nothing any more, and nobody is told. False if there is none.
    pub fn swallow_connection(&mut self, one: NodeName, other: NodeName, pick: u64) -> bool {
        let Some((near, far)) = self.pick_connection(one, other, pick) else {
            return false;
        };
        // One that is not open yet is nothing that could be forgotten.
        let opens = |pipe: &Pipe| {
            pipe.packets
                .iter()
                .any(|(_, packet)| matches!(packet, Packet::Open))
        };
        if [near, far]
            .iter()
            .any(|pipe| self.network.pipes.get(pipe).is_some_and(opens))
        {
            return false;
        }
        for pipe in [near, far] {
            if let Some(kept) = self.network.pipes.get_mut(&pipe) {
                kept.swallows = true;
                kept.packets.clear();
            }
        }
        true
    }

    fn pick_connection(&self, one: NodeName, other: NodeName, pick: u64) -> Option<(u64, u64)> {
        let open = self.between(one, other);
        if open.is_empty() {
            return None;
        }
        let (_, end) = open[(pick % open.len() as u64) as usize];
        let far = self.nodes[other.0].ends.get(&end.peer_connection)?;
        Some((end.out, far.out))
    }

    /// How many connections a node has open.
    pub fn connections(&self, node: NodeName) -> usize {
        self.nodes[node.0].ends.len()
    }

    pub(super) fn connect(&mut self, node: NodeName, connection: ConnectionId, address: SocketAddr) {
        let peer = self.nodes.iter().position(|slot| slot.address == address);
        let life = self.nodes[node.0].life;
        let line = Line {
            connection: self.network.next_connection,
            outward: true,
        };
        self.network.next_connection += 1;
        let inward = Line {
            outward: false,
            ..line
        };
        let Some(peer) = peer
            .filter(|peer| self.nodes[*peer].actor.is_some())
            .map(NodeName)
        else {
            // Refused by the kernel; or nobody is there to refuse.
            if peer.is_none_or(|peer| !self.nodes[peer].vanished) {
                let from = peer.map_or(node, NodeName);
                let pipe = self.add_pipe(inward, (from, node), connection, life);
                self.send(pipe, Packet::Refused);
            }
            return;
        };
        self.witnessed(|witness| witness.connects(line.connection, node, peer));
        let accepted = ConnectionId(ConnectionId::ACCEPTED | self.nodes[peer.0].next_accepted);
        self.nodes[peer.0].next_accepted += 1;
        let peer_life = self.nodes[peer.0].life;
        let there = self.add_pipe(line, (node, peer), accepted, peer_life);
        let back = self.add_pipe(inward, (peer, node), connection, life);
        let near = End {
            connection: line.connection,
            out: there,
            peer,
            peer_connection: accepted,
        };
        self.nodes[node.0].ends.insert(connection, near);
        let far = End {
            connection: line.connection,
            out: back,
            peer: node,
            peer_connection: connection,
        };
        self.nodes[peer.0].ends.insert(accepted, far);
        self.send(there, Packet::Open);
    }

    /// One end of a connection is no more: its process has closed it, or has ended, or its kernel knows better.
    pub(super) fn forget_end(&mut self, node: NodeName, connection: ConnectionId) -> Option<End> {
        let end = self.nodes[node.0].ends.remove(&connection)?;
        let now = self.now;
        self.witnessed(|witness| witness.closes(now, end.connection));
        Some(end)
    }

    fn add_pipe(
        &mut self,
        line: Line,
        (from, to): (NodeName, NodeName),
        to_connection: ConnectionId,
        to_life: u64,
    ) -> u64 {
        let name = self.network.next_pipe;
        self.network.next_pipe += 1;
        self.network.pipes.insert(
            name,
            Pipe {
                line,
                from,
                to,
                to_connection,
                to_life,
                packets: VecDeque::new(),
                swallows: false,
            },
        );
        name
    }

    pub(super) fn send_segment(&mut self, node: NodeName, connection: ConnectionId, segment: Segment) {
        let bytes = segment.into_bytes(&mut self.nodes[node.0].memory);
        let Some(end) = self.nodes[node.0].ends.get(&connection).copied() else {
            return;
        };
        if let Some(pipe) = self.network.pipes.get(&end.out) {
            let (now, line) = (self.now, pipe.line);
            self.witnessed(|witness| witness.says(now, line, &bytes));
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let piece = (self.random.below(self.options.piece_bytes_max) as usize + 1).min(rest.len());
            self.send(end.out, Packet::Bytes(rest[..piece].to_vec()));
            rest = &rest[piece..];
        }
    }

    pub(super) fn send(&mut self, pipe: u64, packet: Packet) {
        let mut latency = Duration::from_micros(1 + self.random.below(self.options.latency_us_max));
        let Some(kept) = self.network.pipes.get_mut(&pipe) else {
            return;
        };
        if kept.swallows {
            return;
        }
        latency *= self.network.slow.get(&(kept.from, kept.to)).copied().unwrap_or(1);
        let mut at = self.now + latency;
        if let Some((last, _)) = kept.packets.back() {
            at = at.max(*last);
        }
        kept.packets.push_back((at, packet));
        self.schedule(at, Happening::Arrive { pipe });
    }

    pub(super) fn arrive(&mut self, name: u64) {
        let Some(pipe) = self.network.pipes.get(&name) else {
            return;
        };
        let (from, node, life, connection) = (pipe.from, pipe.to, pipe.to_life, pipe.to_connection);
        let wait = if self.network.cut.contains(&(from, node)) {
            Some(self.now + CUT_RETRY)
        } else {
            self.later(node, life)
        };
        if let Some(later) = wait {
            self.schedule(later, Happening::Arrive { pipe: name });
            return;
        }
        let pipe = self.network.pipes.get_mut(&name).expect("looked at just now");
        if pipe.packets.front().is_none_or(|(at, _)| *at > self.now) {
            return;
        }
        let (_, packet) = pipe.packets.pop_front().expect("looked at just now");
        let line = pipe.line;
        if matches!(packet, Packet::Close(_) | Packet::Refused) {
            self.network.pipes.remove(&name);
        }
        if self.is_life(node, life) {
            self.deliver(node, connection, line, packet);
        } else if self.is_alive(node) {
            self.reset(from, name);
        }
    }

    /// Something was said to a life that has ended, and the next one runs: its kernel knows no such connection.
    fn reset(&mut self, node: NodeName, out: u64) {
        let slot = &self.nodes[node.0];
        if slot.paused_until.is_some_and(|until| until > self.now) {
            return;
        }
        let end = slot.ends.iter().find(|(_, end)| end.out == out);
        if let Some(connection) = end.map(|(connection, _)| *connection) {
            self.forget_end(node, connection);
            let reason = CloseReason::Broken;
            self.tell(node, Event::Closed { connection, reason });
        }
    }

    fn deliver(&mut self, node: NodeName, connection: ConnectionId, line: Line, packet: Packet) {
        let end = self.nodes[node.0].ends.get(&connection).copied();
        match packet {
            Packet::Open => match end {
                None => {}
                Some(end) if line.outward => {
                    // The kernel has answered before the process hears of it.
                    self.send(end.out, Packet::Open);
                    let listener = ListenerId(0);
                    self.tell(node, Event::Accepted { connection, listener });
                }
                Some(_) => self.tell(node, Event::Connected { connection }),
            },
            Packet::Bytes(bytes) if end.is_some() => {
                let now = self.now;
                self.witnessed(|witness| witness.hears(now, line, &bytes));
                self.bring(node, connection, &bytes);
            }
            Packet::Bytes(_) => {}
            Packet::Close(reason) => self.closed(node, connection, end, reason),
            Packet::Refused => {
                let reason = CloseReason::Broken;
                self.tell(node, Event::Closed { connection, reason });
            }
        }
    }

    /// Bytes for a process: told, or put where it said they belong.
    fn bring(&mut self, node: NodeName, connection: ConnectionId, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.nodes[node.0].ends.contains_key(&connection) {
            let slot = &mut self.nodes[node.0];
            let landing = slot.actor.as_ref().and_then(|actor| actor.landing(connection));
            let Some(mut slice) = landing.filter(|_| self.random.one_in(2)) else {
                return self.tell(node, Event::Received { connection, bytes });
            };
            slice.length = slice.length.min(bytes.len() as u32);
            let (here, rest) = bytes.split_at(slice.length as usize);
            slot.memory.bytes_mut(slice).copy_from_slice(here);
            let length = slice.length;
            self.tell(node, Event::Landed { connection, length });
            bytes = rest;
        }
    }

    fn closed(&mut self, node: NodeName, connection: ConnectionId, end: Option<End>, reason: CloseReason) {
        // The process may have closed it meanwhile; then it is told nothing more.
        let Some(end) = end else { return };
        self.forget_end(node, connection);
        let peer = self.nodes[end.peer.0].ends.get(&end.peer_connection);
        // A connection that broke is told to both its ends; one that the peer closed has no other end any more.
        if peer.is_none_or(|far| far.peer_connection != connection || far.peer != node) {
            self.network.pipes.remove(&end.out);
        }
        self.tell(node, Event::Closed { connection, reason });
    }
}
