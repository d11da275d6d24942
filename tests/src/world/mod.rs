//! The simulated world: production machines under virtual time, joined by a network and given disks that fail as real ones do.
//!
//! One seed decides everything: the same seed is the same run. The world drives [`Actor`]s as the engine does (one event, then all
//! outputs), but over pipes and disks of its own.
//!
//! | file | what it does to them |
//! |---|---|
//! | `network` | bytes arrive in pieces and late; links are cut (one way or both: bytes wait, as TCP makes them) or slow; connections break in the middle of anything, or are forgotten by one end or by whatever lies between |
//! | `storage` | disk requests end in any order, late, very late, or in error; a power cut loses and tears what was not flushed |
//! | `clock` | each node's clock has an origin and a rate of its own |
//! | here | processes are killed (their peers learn it, or do not) and started anew over the same disks; processes pause |
//!
//! What it deliberately is not: it knows no protocol and checks nothing; oracles do, by way of a [`Witness`].

mod actor;
mod clock;
mod disk;
mod memory;
mod network;
mod note;
mod random;
mod storage;
mod witness;

pub use actor::Actor;
pub use clock::Clock;
pub use disk::WorldDisk;
pub use memory::WorldMemory;
pub use note::{DiskChange, DiskNote};
pub use random::Random;
pub use storage::DiskTrouble;
pub use witness::{Line, Witness};

use block::Time;
use fabric::driver::{CloseReason, ConnectionId, DiskRequestId, Event, Output};
use network::{End, Network, Packet};
use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use storage::AtDisk;

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

struct Slot {
    address: SocketAddr,
    life: u64,
    actor: Option<Box<dyn Actor>>,
    memory: WorldMemory,
    disks: Vec<WorldDisk>,
    ends: BTreeMap<ConnectionId, End>,
    next_accepted: u64,
    clock: Clock,
    /// The whole machine is gone: whoever calls hears nothing.
    vanished: bool,
    /// Disk requests that have not ended, in this life.
    at_disk: BTreeMap<DiskRequestId, AtDisk>,
    trouble: DiskTrouble,
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
    network: Network,
    witness: Option<Rc<RefCell<dyn Witness>>>,
    happenings: u64,
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
            network: Network::default(),
            witness: None,
            happenings: 0,
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
            clock: Clock::default(),
            vanished: false,
            at_disk: BTreeMap::new(),
            trouble: DiskTrouble::default(),
            paused_until: None,
            woken_for: None,
        });
        NodeName(self.nodes.len() - 1)
    }

    /// From now on somebody looks on.
    pub fn watch(&mut self, witness: Rc<RefCell<dyn Witness>>) {
        self.witness = Some(witness);
    }

    fn witnessed(&self, what: impl FnOnce(&mut dyn Witness)) {
        if let Some(witness) = &self.witness {
            what(&mut *witness.borrow_mut());
        }
    }

    /// How many things have happened: what a run costs.
    pub fn happenings(&self) -> u64 {
        self.happenings
    }

    /// Which clock a node has from its next start on.
    pub fn set_clock(&mut self, node: NodeName, clock: Clock) {
        assert!(!self.is_alive(node), "a running process's clock does not jump");
        self.nodes[node.0].clock = clock;
    }

    /// Starts a process at a node; one that ran there must have been killed.
    pub fn start(&mut self, node: NodeName, actor: Box<dyn Actor>) {
        let slot = &mut self.nodes[node.0];
        assert!(slot.actor.is_none(), "a process runs there already");
        slot.life += 1;
        slot.memory = WorldMemory::default();
        slot.actor = Some(actor);
        slot.woken_for = None;
        slot.vanished = false;
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
        for end in ends {
            self.send(end.out, Packet::Close(CloseReason::Broken));
        }
    }

    fn end_life(&mut self, node: NodeName) -> Vec<End> {
        let slot = &mut self.nodes[node.0];
        slot.actor = None;
        slot.paused_until = None;
        let left = std::mem::take(&mut slot.at_disk);
        for (request, asked) in left {
            let done = self.random.one_in(2);
            if let Some(notes) = &mut self.disk_notes {
                notes.push(DiskNote::Left { node, request, done });
            }
            if done {
                self.carry_out(node, &asked);
            }
        }
        self.witnessed(|witness| witness.died(node));
        let open: Vec<ConnectionId> = self.nodes[node.0].ends.keys().copied().collect();
        open.into_iter()
            .filter_map(|connection| self.forget_end(node, connection))
            .collect()
    }

    /// As [`World::kill`], of the whole machine: nobody tells the peers. They find out by what is not answered, or when they say
    /// something to the next life. Disks keep what they were given.
    pub fn vanish(&mut self, node: NodeName) {
        self.end_life(node);
        self.nodes[node.0].vanished = true;
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
        self.happenings += 1;
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
        if due.is_some_and(|due| slot.clock.world(due) <= self.now) {
            self.tell(node, Event::Timeout);
        } else {
            self.set_alarm(node);
        }
    }

    /// One event, then all outputs: the driver's law.
    fn tell(&mut self, node: NodeName, event: Event<'_, Box<dyn Any>>) {
        let slot = &mut self.nodes[node.0];
        let actor = slot.actor.as_mut().expect("only a living process is told");
        actor.handle(slot.clock.local(self.now), event, &mut slot.memory);
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
                    if let Some(end) = self.forget_end(node, connection) {
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
        let due = slot.clock.world(due).max(now + Duration::from_micros(1));
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
}
