//! The simulated world: production machines under virtual time, joined by a network and given disks that fail as real ones do.
//!
//! One seed decides everything: the same seed is the same run. The world drives [`Actor`]s as the engine does (one event, then all
//! outputs), but over pipes and disks of its own.
//!
//! What it does to them: bytes arrive in pieces and late; pairs of nodes are cut from each other (bytes wait, as TCP makes them);
//! processes are killed (their peers learn it, or do not) and started anew over the same disks; processes pause; disk requests
//! end in any order; a power cut loses and tears what was not flushed.
//!
//! What it deliberately is not: it knows no protocol and checks nothing; oracles do.

mod actor;
mod disk;
mod memory;
mod note;
mod random;

pub use actor::Actor;
pub use disk::WorldDisk;
pub use memory::WorldMemory;
pub use note::{DiskChange, DiskNote};
pub use random::Random;

use block::{Memory, Time};
use fabric::driver::{
    CloseReason, ConnectionId, DiskId, DiskOperation, DiskRequestId, Event, ListenerId, Output, Segment,
};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Names a node of the world; stays the same over its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName(pub usize);

/// How the world treats its nodes.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// The longest that bytes travel between nodes that are not cut from each other.
    pub latency_us_max: u64,
    /// The longest that a disk takes for a request.
    pub disk_us_max: u64,
    /// The largest piece in which bytes arrive.
    pub piece_bytes_max: u64,
}

impl Default for WorldOptions {
    fn default() -> WorldOptions {
        WorldOptions {
            latency_us_max: 300,
            disk_us_max: 400,
            piece_bytes_max: 64 << 10,
        }
    }
}

/// What travels along a pipe.
#[derive(Debug)]
enum Packet {
    Open,
    Bytes(Vec<u8>),
    Close(CloseReason),
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    from: NodeName,
    to: NodeName,
    to_connection: ConnectionId,
    /// The life of the receiver that the pipe belongs to.
    to_life: u64,
    packets: VecDeque<(Time, Packet)>,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
struct End {
    /// The pipe that this end sends into.
    out: u64,
    /// The other end.
    peer: NodeName,
    peer_connection: ConnectionId,
}

struct Slot {
    address: SocketAddr,
    life: u64,
    actor: Option<Box<dyn Actor>>,
    memory: WorldMemory,
    disks: Vec<WorldDisk>,
    ends: BTreeMap<ConnectionId, End>,
    next_accepted: u64,
    /// Disk requests that have not ended, in this life.
    at_disk: BTreeMap<DiskRequestId, (DiskId, DiskOperation)>,
    paused_until: Option<Time>,
    woken_for: Option<Time>,
}

#[derive(Debug)]
enum Happening {
    Arrive {
        pipe: u64,
    },
    DiskEnds {
        node: NodeName,
        life: u64,
        request: DiskRequestId,
    },
    Wake {
        node: NodeName,
        life: u64,
    },
    Control {
        node: NodeName,
        life: u64,
        index: u64,
    },
}

/// The world.
pub struct World {
    /// Chance; scenarios may draw from it too.
    pub random: Random,
    /// What nodes said to their control planes, oldest first.
    pub reports: VecDeque<(NodeName, Box<dyn Any>)>,
    /// What disks were asked to change, in order, if somebody wants to know.
    pub disk_notes: Option<Vec<DiskNote>>,
    options: WorldOptions,
    now: Time,
    order: u64,
    agenda: BTreeMap<(Time, u64), Happening>,
    nodes: Vec<Slot>,
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    cut: BTreeSet<(NodeName, NodeName)>,
    controls: BTreeMap<u64, Box<dyn Any>>,
    next_control: u64,
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, options: WorldOptions) -> World {
        World {
            random: Random::new(seed),
            reports: VecDeque::new(),
            disk_notes: None,
            options,
            now: Time::from_millis(1),
            order: 0,
            agenda: BTreeMap::new(),
            nodes: Vec::new(),
            pipes: BTreeMap::new(),
            next_pipe: 0,
            cut: BTreeSet::new(),
            controls: BTreeMap::new(),
            next_control: 0,
        }
    }

    /// The present.
    pub fn now(&self) -> Time {
        self.now
    }

    /// A place for a node; nothing runs there yet.
    pub fn add_node(&mut self, address: SocketAddr, disks: Vec<WorldDisk>) -> NodeName {
        self.nodes.push(Slot {
            address,
            life: 0,
            actor: None,
            memory: WorldMemory::default(),
            disks,
            ends: BTreeMap::new(),
            next_accepted: 0,
            at_disk: BTreeMap::new(),
            paused_until: None,
            woken_for: None,
        });
        NodeName(self.nodes.len() - 1)
    }

    /// Starts a process at a node; one that ran there must have been killed.
    pub fn start(&mut self, node: NodeName, actor: Box<dyn Actor>) {
        let slot = &mut self.nodes[node.0];
        assert!(slot.actor.is_none(), "a process runs there already");
        slot.life += 1;
        slot.memory = WorldMemory::default();
        slot.actor = Some(actor);
        slot.woken_for = None;
        self.drain(node);
    }

    /// Which process runs there: counts starts.
    pub fn life(&self, node: NodeName) -> u64 {
        self.nodes[node.0].life
    }

    /// Whether a process runs there.
    pub fn is_alive(&self, node: NodeName) -> bool {
        self.nodes[node.0].actor.is_some()
    }

    /// Ends a process at once. Requests that its disks had not answered may or may not have happened; what was written stays as it
    /// is (the disk's own memory survives a process). Peers learn of it, as from a kernel that closes a dead process's sockets.
    pub fn kill(&mut self, node: NodeName) {
        let ends = self.end_life(node);
        for end in ends.into_values() {
            self.send(end.out, Packet::Close(CloseReason::Broken));
        }
    }

    fn end_life(&mut self, node: NodeName) -> BTreeMap<ConnectionId, End> {
        let slot = &mut self.nodes[node.0];
        slot.actor = None;
        slot.paused_until = None;
        let left = std::mem::take(&mut slot.at_disk);
        for (request, (disk, operation)) in left {
            let done = self.random.one_in(2);
            if let Some(notes) = &mut self.disk_notes {
                notes.push(DiskNote::Left { node, request, done });
            }
            if done {
                self.carry_out(node, disk, operation);
            }
        }
        std::mem::take(&mut self.nodes[node.0].ends)
    }

    /// As [`World::kill`], of the whole machine: nobody tells the peers. They find out by what is not answered, or when they say
    /// something to the next life. Disks keep what they were given.
    pub fn vanish(&mut self, node: NodeName) {
        self.end_life(node);
    }

    /// As [`World::kill`], and the disks lose their power too.
    pub fn cut_power(&mut self, node: NodeName) {
        self.kill(node);
        let slot = &mut self.nodes[node.0];
        for disk in &mut slot.disks {
            disk.cut_power(&mut self.random);
        }
    }

    /// Nothing reaches the process, and it does nothing, until then. It does not notice.
    pub fn pause(&mut self, node: NodeName, span: Duration) {
        // Never shorter than it was: what was put off keeps its order.
        let slot = &mut self.nodes[node.0];
        slot.paused_until = slot.paused_until.max(Some(self.now + span));
    }

    /// Whether bytes between the two wait (both ways) or travel.
    pub fn set_cut(&mut self, one: NodeName, other: NodeName, cut: bool) {
        let pair = (one.min(other), one.max(other));
        if cut {
            self.cut.insert(pair);
        } else {
            self.cut.remove(&pair);
        }
    }

    /// A node's disk, as it is.
    pub fn disk(&mut self, node: NodeName, disk: usize) -> &mut WorldDisk {
        &mut self.nodes[node.0].disks[disk]
    }

    /// Bytes that a node's process holds in buffers.
    pub fn memory_in_use(&self, node: NodeName) -> u64 {
        self.nodes[node.0].memory.in_use_bytes()
    }

    /// Says something to a node's machine, after `span`; lost if the process ends before.
    pub fn control_after(&mut self, node: NodeName, span: Duration, message: Box<dyn Any>) {
        let index = self.next_control;
        self.next_control += 1;
        self.controls.insert(index, message);
        let life = self.nodes[node.0].life;
        self.schedule(self.now + span, Happening::Control { node, life, index });
    }

    /// Lets one thing happen; false if nothing is left to happen before `until` (then it is `until`).
    pub fn step(&mut self, until: Time) -> bool {
        let Some((&(at, order), _)) = self.agenda.first_key_value().filter(|((at, _), _)| *at <= until)
        else {
            self.now = self.now.max(until);
            return false;
        };
        let happening = self.agenda.remove(&(at, order)).expect("it was first just now");
        self.now = self.now.max(at);
        self.happen(happening);
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive { pipe } => self.arrive(pipe),
            Happening::DiskEnds { node, life, request } => {
                if let Some(later) = self.later(node, life) {
                    self.schedule(later, Happening::DiskEnds { node, life, request });
                } else if self.is_life(node, life) {
                    self.disk_ends(node, request);
                }
            }
            Happening::Wake { node, life } => {
                if let Some(later) = self.later(node, life) {
                    self.schedule(later, Happening::Wake { node, life });
                } else if self.is_life(node, life) {
                    self.wake(node);
                }
            }
            Happening::Control { node, life, index } => {
                if let Some(later) = self.later(node, life) {
                    self.schedule(later, Happening::Control { node, life, index });
                } else if let Some(message) =
                    self.controls.remove(&index).filter(|_| self.is_life(node, life))
                {
                    self.tell(node, Event::Control(message));
                }
            }
        }
    }

    fn is_life(&self, node: NodeName, life: u64) -> bool {
        let slot = &self.nodes[node.0];
        slot.actor.is_some() && slot.life == life
    }

    /// When a paused process can be told, if it is paused.
    fn later(&self, node: NodeName, life: u64) -> Option<Time> {
        let slot = &self.nodes[node.0];
        slot.paused_until
            .filter(|until| *until > self.now && slot.life == life)
    }

    fn wake(&mut self, node: NodeName) {
        let slot = &mut self.nodes[node.0];
        slot.woken_for = None;
        let due = slot.actor.as_ref().and_then(|actor| actor.next_timeout());
        if due.is_some_and(|due| due <= self.now) {
            self.tell(node, Event::Timeout);
        } else {
            self.set_alarm(node);
        }
    }

    /// One event, then all outputs: the driver's law.
    fn tell(&mut self, node: NodeName, event: Event<'_, Box<dyn Any>>) {
        let slot = &mut self.nodes[node.0];
        let actor = slot.actor.as_mut().expect("only a living process is told");
        actor.handle(self.now, event, &mut slot.memory);
        self.drain(node);
    }

    fn drain(&mut self, node: NodeName) {
        while let Some(output) = self.nodes[node.0]
            .actor
            .as_mut()
            .and_then(|actor| actor.poll_output())
        {
            match output {
                Output::Connect { connection, address } => self.connect(node, connection, address),
                Output::Send { connection, segment } => self.send_segment(node, connection, segment),
                Output::Close { connection, abort } => {
                    if let Some(end) = self.nodes[node.0].ends.remove(&connection) {
                        let reason = if abort {
                            CloseReason::Broken
                        } else {
                            CloseReason::Peer
                        };
                        self.send(end.out, Packet::Close(reason));
                    }
                }
                Output::Disk {
                    request,
                    disk,
                    operation,
                } => self.ask_disk(node, request, disk, operation),
                Output::HandOver { connection, .. } => {
                    unreachable!("{connection:?}: a node here has one machine")
                }
                Output::Report(report) => self.reports.push_back((node, *report)),
            }
        }
        self.set_alarm(node);
    }

    fn set_alarm(&mut self, node: NodeName) {
        let now = self.now;
        let slot = &mut self.nodes[node.0];
        let Some(due) = slot.actor.as_ref().and_then(|actor| actor.next_timeout()) else {
            return;
        };
        // A machine that asks for the past is told at once, but time passes: a machine that does so for ever is found.
        let due = due.max(now + Duration::from_micros(1));
        if slot.woken_for.is_none_or(|woken| due < woken) {
            slot.woken_for = Some(due);
            let life = slot.life;
            self.schedule(due, Happening::Wake { node, life });
        }
    }

    fn schedule(&mut self, at: Time, happening: Happening) {
        self.order += 1;
        self.agenda.insert((at, self.order), happening);
    }

    fn connect(&mut self, node: NodeName, connection: ConnectionId, address: SocketAddr) {
        let listener = self
            .nodes
            .iter()
            .position(|slot| slot.address == address && slot.actor.is_some());
        let Some(peer) = listener.map(NodeName) else {
            // Refused: told as a connection that closed.
            let life = self.nodes[node.0].life;
            let pipe = self.add_pipe(node, node, connection, life);
            self.send(pipe, Packet::Close(CloseReason::Broken));
            return;
        };
        let accepted = ConnectionId(ConnectionId::ACCEPTED | self.nodes[peer.0].next_accepted);
        self.nodes[peer.0].next_accepted += 1;
        let (life, peer_life) = (self.nodes[node.0].life, self.nodes[peer.0].life);
        let there = self.add_pipe(node, peer, accepted, peer_life);
        let back = self.add_pipe(peer, node, connection, life);
        let near = End {
            out: there,
            peer,
            peer_connection: accepted,
        };
        self.nodes[node.0].ends.insert(connection, near);
        let far = End {
            out: back,
            peer: node,
            peer_connection: connection,
        };
        self.nodes[peer.0].ends.insert(accepted, far);
        self.send(there, Packet::Open);
        self.send(back, Packet::Open);
    }

    fn add_pipe(&mut self, from: NodeName, to: NodeName, to_connection: ConnectionId, to_life: u64) -> u64 {
        let name = self.next_pipe;
        self.next_pipe += 1;
        self.pipes.insert(
            name,
            Pipe {
                from,
                to,
                to_connection,
                to_life,
                packets: VecDeque::new(),
            },
        );
        name
    }

    fn send_segment(&mut self, node: NodeName, connection: ConnectionId, segment: Segment) {
        let bytes = segment.into_bytes(&mut self.nodes[node.0].memory);
        let Some(end) = self.nodes[node.0].ends.get(&connection).copied() else {
            return;
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let piece = (self.random.below(self.options.piece_bytes_max) as usize + 1).min(rest.len());
            self.send(end.out, Packet::Bytes(rest[..piece].to_vec()));
            rest = &rest[piece..];
        }
    }

    fn send(&mut self, pipe: u64, packet: Packet) {
        let latency = Duration::from_micros(1 + self.random.below(self.options.latency_us_max));
        let mut at = self.now + latency;
        let Some(kept) = self.pipes.get_mut(&pipe) else {
            return;
        };
        if let Some((last, _)) = kept.packets.back() {
            at = at.max(*last);
        }
        kept.packets.push_back((at, packet));
        self.schedule(at, Happening::Arrive { pipe });
    }

    fn arrive(&mut self, name: u64) {
        let Some(pipe) = self.pipes.get(&name) else { return };
        let (from, node, life, connection) = (pipe.from, pipe.to, pipe.to_life, pipe.to_connection);
        let pair = (from.min(node), from.max(node));
        let wait = if self.cut.contains(&pair) {
            Some(self.now + Duration::from_millis(20))
        } else {
            self.later(node, life)
        };
        if let Some(later) = wait {
            self.schedule(later, Happening::Arrive { pipe: name });
            return;
        }
        let pipe = self.pipes.get_mut(&name).expect("looked at just now");
        if pipe.packets.front().is_none_or(|(at, _)| *at > self.now) {
            return;
        }
        let (_, packet) = pipe.packets.pop_front().expect("looked at just now");
        if matches!(packet, Packet::Close(_)) {
            self.pipes.remove(&name);
        }
        if self.is_life(node, life) {
            self.deliver(node, connection, packet);
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
            self.nodes[node.0].ends.remove(&connection);
            let reason = CloseReason::Broken;
            self.tell(node, Event::Closed { connection, reason });
        }
    }

    fn deliver(&mut self, node: NodeName, connection: ConnectionId, packet: Packet) {
        let known = self.nodes[node.0].ends.contains_key(&connection);
        match packet {
            Packet::Open if !known => {}
            Packet::Open if connection.0 & ConnectionId::ACCEPTED != 0 => {
                self.tell(
                    node,
                    Event::Accepted {
                        connection,
                        listener: ListenerId(0),
                    },
                );
            }
            Packet::Open => self.tell(node, Event::Connected { connection }),
            Packet::Bytes(bytes) if known => self.tell(
                node,
                Event::Received {
                    connection,
                    bytes: &bytes,
                },
            ),
            Packet::Bytes(_) => {}
            Packet::Close(reason) => {
                // A refused connection has no end here; its machine must be told all the same.
                let refused =
                    connection.0 & ConnectionId::ACCEPTED == 0 && !known && reason == CloseReason::Broken;
                if let Some(end) = self.nodes[node.0].ends.remove(&connection) {
                    self.pipes.remove(&end.out);
                    // A later life of the peer may use the same name again.
                    let gone = &mut self.nodes[end.peer.0].ends;
                    if gone
                        .get(&end.peer_connection)
                        .is_some_and(|far| far.peer_connection == connection)
                    {
                        gone.remove(&end.peer_connection);
                    }
                    self.tell(node, Event::Closed { connection, reason });
                } else if refused {
                    self.tell(node, Event::Closed { connection, reason });
                }
            }
        }
    }

    fn ask_disk(&mut self, node: NodeName, request: DiskRequestId, disk: DiskId, operation: DiskOperation) {
        let slot = &mut self.nodes[node.0];
        assert!(
            !slot.at_disk.contains_key(&request),
            "{request:?} is in flight already"
        );
        let life = slot.life;
        if let (Some(notes), Some(change)) = (&mut self.disk_notes, DiskChange::of(&operation, &slot.memory))
        {
            notes.push(DiskNote::Asked {
                node,
                disk,
                request,
                change,
            });
        }
        slot.at_disk.insert(request, (disk, operation));
        let span = Duration::from_micros(1 + self.random.below(self.options.disk_us_max));
        self.schedule(self.now + span, Happening::DiskEnds { node, life, request });
    }

    fn disk_ends(&mut self, node: NodeName, request: DiskRequestId) {
        let entry = self.nodes[node.0].at_disk.remove(&request);
        let (disk, operation) = entry.expect("a request ends once");
        if let Some(notes) = &mut self.disk_notes {
            notes.push(DiskNote::Ended { node, request });
        }
        self.carry_out(node, disk, operation);
        self.tell(
            node,
            Event::DiskCompleted {
                request,
                result: Ok(()),
            },
        );
    }

    fn carry_out(&mut self, node: NodeName, disk: DiskId, operation: DiskOperation) {
        let slot = &mut self.nodes[node.0];
        let disk = &mut slot.disks[disk.0 as usize];
        match operation {
            DiskOperation::Read { offset_bytes, buffer } => {
                disk.read(offset_bytes, slot.memory.bytes_mut(buffer))
            }
            DiskOperation::Write {
                offset_bytes,
                buffer,
                durable,
            } => {
                disk.write(offset_bytes, slot.memory.bytes(buffer), durable);
            }
            DiskOperation::Flush => disk.flush(),
            DiskOperation::WriteZeroes {
                offset_bytes,
                length_bytes,
                ..
            } => {
                disk.write(offset_bytes, &vec![0; length_bytes as usize], false);
            }
            DiskOperation::Discard { .. } => {}
        }
    }
}
