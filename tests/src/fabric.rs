//! A whole data plane in the simulated world: disk nodes, controller nodes and a host, production machines all, with a [`Keeper`] for
//! a control plane, a host that writes and reads without pause, and trouble drawn from one seed.
//!
//! The *fault atlas* (what the present redundancy promises to survive, and so what is drawn): any process may be killed and started
//! again, or paused; any two nodes may be cut from each other for a while; the owner may be switched; the store may be away; the
//! power of a disk node may fail, if another leg in sync is left and is not itself about to lose power. A process that dies is
//! mostly missed at once; a machine that dies is missed only by its silence. Nothing of it may cost an acknowledged byte, and
//! once it stops everything in flight ends.
//!
//! What is not promised, and not drawn: that a leg whose disk lost a volatile cache is told from one that lost nothing, if the owner
//! dies or is replaced, or the other legs die, before the store has recorded that it is out.

use crate::history::{History, Moment, WriteId};
use crate::keeper::{Keeper, KeptController, KeptLeg};
use crate::world::{NodeName, Random, World, WorldDisk, WorldOptions};
use block::{BlockRange, Time, Tuning};
use cluster::{ControllerNodeId, DiskId, DiskNodeId, Incarnation, LegId, Nqn};
use control::agent::MembershipRequest;
use controller_node::node::{Control as ControllerControl, ControllerNode, Report as ControllerReport};
use disk_node::format::{self, Superblock};
use disk_node::node::{GivenDisk, Node as DiskNode, NodeControl, NodeOptions};
use fabric::host::{
    AssociationConfig, HostControl, HostNode, HostOperation, HostReport, MultipathConfig, VolumeId,
};
use fabric::target::TargetConfig;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

const EXTENT_BYTES: u64 = 4 << 20;
const DISK_BYTES: u64 = 128 << 20;
const LEG_EXTENTS: u64 = 16;
const BLOCK: usize = 4096;
const VOLUME: cluster::VolumeId = cluster::VolumeId(Uuid::from_u128(0x500));
/// Blocks that the host uses, spread over the volume's extents.
const HOT_BLOCKS: u64 = 80;
const HOT_STRIDE: u64 = 97;
const DEPTH: usize = 12;
/// How long the host waits, half of the time, before it asks for the next thing.
const THINK_US_MAX: u64 = 30_000;
/// Once trouble has stopped, everything in flight ends within this.
const SETTLED: Duration = Duration::from_secs(90);

/// How late a node may learn its configuration.
const PUSH_LATE_MS_MAX: u64 = 6_000;

/// As by default, but in a hurry: what takes longer than the trouble lasts never happens.
fn tuning() -> Tuning {
    Tuning {
        lease: Some(Duration::from_millis(800)),
        clock_margin: Duration::from_millis(100),
        give_up_after: Duration::from_secs(1),
        leg_timeout: Duration::from_secs(3),
        bitmap_quiet: Duration::from_millis(300),
        bitmap_quiet_max: Duration::from_millis(600),
        rejoin_after: Duration::from_millis(300),
        read_run: 1,
        ..Tuning::default()
    }
}

/// How much trouble.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// For how long trouble is made.
    pub span: Duration,
    /// On average, between two troubles.
    pub pause: Duration,
    /// How many legs mirror each other: 1 to 3.
    pub legs: usize,
}

/// An operation of the host's.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Read { block: u64, length: u64, begun: Moment },
    Write { block: u64, length: u64, id: WriteId },
    Other,
}

/// What became of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Operations that ended.
    pub operations: u64,
    /// Troubles made.
    pub troubles: u64,
    /// Epochs granted.
    pub epochs: u64,
    /// Changes of the in-sync set.
    pub memberships: u64,
    /// Virtual seconds.
    pub seconds: u64,
}

/// The data plane under trouble.
pub struct Fabric {
    world: World,
    keeper: Keeper,
    tuning: Tuning,
    disk_nodes: Vec<(NodeName, DiskNodeId)>,
    controllers: Vec<NodeName>,
    host: NodeName,
    history: History,
    operations: BTreeMap<u64, Operation>,
    next_operation: u64,
    next_incarnation: u128,
    /// While the store is away membership requests wait.
    store_back: Time,
    /// When each controller node has been told everything.
    told_by: [Time; 2],
    /// Who asked in which life: an answer to a process that has ended reaches nobody.
    waiting: Vec<(NodeName, u64, MembershipRequest)>,
    /// What is to be undone, and when.
    undo: Vec<(Time, Undo)>,
    /// The newest epoch that was seen to be served.
    serving: cluster::Epoch,
    /// The leg whose disk lost its power last, until it is out of the set.
    powerless: Option<LegId>,
    outcome: Outcome,
    verbose: bool,
}

#[derive(Clone, Debug)]
enum Undo {
    StartDiskNode(usize),
    StartController(usize),
    Heal(NodeName, NodeName),
    /// A pause ends by itself.
    Nothing,
}

impl Fabric {
    /// Everything started, the pool granted to the first controller node, the volume being created.
    pub fn new(seed: u64, legs: usize, verbose: bool) -> Fabric {
        let mut world = World::new(seed, WorldOptions::default());
        let mut kept = Vec::new();
        let mut disk_nodes = Vec::new();
        for index in 0..legs {
            let (name, leg) = add_disk_node(&mut world, index);
            disk_nodes.push((name, leg.node));
            kept.push(leg);
        }
        let mut controllers = Vec::new();
        let mut kept_controllers = Vec::new();
        for index in 0..2u8 {
            let address = SocketAddr::from(([10, 0, 1, index + 1], 4420));
            controllers.push(world.add_node(address, Vec::new()));
            let node = ControllerNodeId(Uuid::from_u128(0x600 + u128::from(index)));
            kept_controllers.push(KeptController {
                node,
                address,
                incarnation: Incarnation(Uuid::nil()),
            });
        }
        let host = world.add_node(SocketAddr::from(([10, 0, 2, 1], 1)), Vec::new());
        let host_nqn = Nqn::of_uuid(Uuid::from_u128(0x700));
        let mut keeper = Keeper::new(kept, kept_controllers, host_nqn, EXTENT_BYTES);
        keeper.add_volume(VOLUME, HOT_BLOCKS * HOT_STRIDE + 1024);
        let mut fabric = Fabric {
            world,
            keeper,
            tuning: tuning(),
            disk_nodes,
            controllers,
            host,
            history: History::new(),
            operations: BTreeMap::new(),
            next_operation: 1,
            next_incarnation: 1,
            store_back: Time::ZERO,
            told_by: [Time::ZERO; 2],
            waiting: Vec::new(),
            undo: Vec::new(),
            serving: cluster::Epoch(0),
            powerless: None,
            outcome: Outcome::default(),
            verbose,
        };
        (0..legs).for_each(|index| fabric.start_disk_node(index));
        (0..2).for_each(|index| fabric.start_controller(index));
        fabric.start_host();
        fabric
    }

    fn start_disk_node(&mut self, index: usize) {
        let (name, node) = self.disk_nodes[index];
        let disk = GivenDisk {
            path: "disk".to_owned(),
            volatile: false,
            size_bytes: DISK_BYTES,
            born: None,
            fault: None,
        };
        let (incarnation, target) = (self.incarnation(), TargetConfig::default());
        let machine = DiskNode::new(NodeOptions {
            node,
            incarnation,
            reactor: None,
            disks: vec![disk],
            target,
        });
        self.world.start(name, Box::new(machine));
        let config = self.keeper.disk_node_config(node);
        self.world.control_after(
            name,
            Duration::from_millis(2),
            Box::new(NodeControl::Apply(config)),
        );
    }

    fn start_controller(&mut self, index: usize) {
        let incarnation = self.incarnation();
        let node = self.keeper.controllers[index].node;
        self.keeper.controllers[index].incarnation = incarnation;
        let nqn = node.host_nqn().0;
        let machine = ControllerNode::new(node, nqn, incarnation, self.tuning, TargetConfig::default());
        self.world.start(self.controllers[index], Box::new(machine));
        if self.keeper.owner == index {
            self.grant(index);
        } else {
            self.push(index);
        }
    }

    /// R2: a new epoch for every grant, and a grant for every start.
    fn grant(&mut self, owner: usize) {
        self.keeper.grant(owner);
        self.outcome.epochs += 1;
        (0..self.controllers.len()).for_each(|index| self.push(index));
    }

    fn push(&mut self, index: usize) {
        let config = self.keeper.controller_node_config(index);
        let name = self.controllers[index];
        if self.world.is_alive(name) {
            // Some nodes are told late: an owner does not know that it is none any more. Two pushes do not overtake each other:
            // the agent would refuse the older one.
            let late = self.world.random.below(PUSH_LATE_MS_MAX) * u64::from(self.world.random.one_in(4));
            let now = self.world.now();
            let at = (now + Duration::from_millis(3 + late)).max(self.told_by[index]);
            self.told_by[index] = at;
            let control = ControllerControl::Apply(Box::new(config));
            self.world
                .control_after(name, Duration::from_nanos(at.0 - now.0), Box::new(control));
        }
    }

    fn start_host(&mut self) {
        let addresses = self
            .keeper
            .controllers
            .iter()
            .map(|controller| controller.address)
            .collect();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let nqn = self.keeper.subsystem_nqn().0;
        let association = AssociationConfig::new(&self.keeper.host_nqn.0, [7; 16], &nqn, nowhere);
        self.world.start(
            self.host,
            Box::new(HostNode::new(MultipathConfig::new(association))),
        );
        let control = HostControl::Connect { addresses };
        self.world
            .control_after(self.host, Duration::from_millis(1), Box::new(control));
    }

    fn incarnation(&mut self) -> Incarnation {
        self.next_incarnation += 1;
        // Host identifiers are counted up from here.
        Incarnation(Uuid::from_u128(self.next_incarnation << 64))
    }

    /// Makes trouble for a while, lets everything settle, reads everything back.
    ///
    /// # Errors
    /// The first rule that did not hold.
    pub fn run(&mut self, trouble: &Trouble) -> Result<Outcome, String> {
        let end = self.world.now() + trouble.span;
        let mut next = self.world.now() + trouble.pause;
        while self.world.now() < end {
            self.keep_busy();
            self.step(next.min(end))?;
            if self.world.now() >= next {
                self.make_trouble();
                let pause = trouble.pause.as_micros() as u64;
                next = self.world.now() + Duration::from_micros(1 + self.world.random.below(2 * pause));
            }
        }
        self.settle()?;
        self.read_back()?;
        self.check_rest()?;
        self.outcome.seconds = self.world.now().0 / 1_000_000_000;
        Ok(self.outcome.clone())
    }

    /// One happening, and what follows from it outside of the machines.
    fn step(&mut self, until: Time) -> Result<(), String> {
        let undo = self.undo.iter().map(|(at, _)| *at).min();
        let until = undo.map_or(until, |at| at.min(until)).max(self.world.now());
        self.world.step(until);
        self.undo_due();
        while let Some((node, report)) = self.world.reports.pop_front() {
            self.hear(node, report)?;
        }
        if self.world.now() >= self.store_back {
            for (node, life, request) in std::mem::take(&mut self.waiting) {
                self.answer(node, life, &request);
            }
        }
        Ok(())
    }

    fn hear(&mut self, node: NodeName, report: Box<dyn std::any::Any>) -> Result<(), String> {
        let report = match report.downcast::<HostReport>() {
            Ok(report) => return self.hear_host(*report),
            Err(report) => report,
        };
        match report.downcast::<ControllerReport>().map(|report| *report) {
            Ok(ControllerReport::Membership(request)) if self.world.now() < self.store_back => {
                self.waiting.push((node, self.world.life(node), request));
            }
            Ok(ControllerReport::Membership(request)) => {
                self.answer(node, self.world.life(node), &request);
            }
            Ok(ControllerReport::Status(status)) => {
                self.tell(|| format!("{node:?} says {:?}", status.slices.first().map(told)));
                let serves = |slice: &&cluster::status::SliceStatus| {
                    slice.state == cluster::status::SliceState::Serving
                };
                let epochs = status.slices.iter().filter(serves).map(|slice| slice.epoch);
                self.serving = epochs.fold(self.serving, Ord::max);
                if self.world.now() >= self.store_back && self.keeper.note_created(&status) {
                    (0..self.controllers.len()).for_each(|index| self.push(index));
                }
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn answer(&mut self, node: NodeName, life: u64, request: &MembershipRequest) {
        let before = self.keeper.in_sync.clone();
        let answer = self.keeper.record(request);
        self.tell(|| {
            format!(
                "membership {:?} under {:?}: {:?}",
                request.change, request.epoch, answer.outcome
            )
        });
        self.outcome.memberships += u64::from(before != self.keeper.in_sync);
        let span = Duration::from_micros(200 + self.world.random.below(5_000));
        if self.world.life(node) == life {
            let control = ControllerControl::Membership(answer);
            self.world.control_after(node, span, Box::new(control));
        }
    }

    fn hear_host(&mut self, report: HostReport) -> Result<(), String> {
        let HostReport::Completed { id, result } = report else {
            return Ok(());
        };
        let operation = self.operations.remove(&id).ok_or("an operation ended twice")?;
        let bytes = result.map_err(|status| format!("R7: the host was told {status} for {operation:?}"))?;
        self.outcome.operations += 1;
        match operation {
            Operation::Read { block, length, begun } => {
                for at in 0..length {
                    let part = &bytes[at as usize * BLOCK..(at as usize + 1) * BLOCK];
                    let value =
                        value_of(part).ok_or_else(|| format!("block {} is torn or foreign", block + at))?;
                    self.history.read_ends(block + at, begun, value)?;
                }
            }
            Operation::Write { block, length, id } => {
                (0..length).for_each(|at| self.history.write_ends(id, block + at));
            }
            Operation::Other => {}
        }
        Ok(())
    }

    fn keep_busy(&mut self) {
        while self.operations.len() < DEPTH {
            let id = self.next_operation;
            self.next_operation += 1;
            let operation = self.begin(id);
            let volume = VolumeId(*VOLUME.0.as_bytes());
            let control = HostControl::Submit {
                id,
                volume,
                operation,
            };
            // Bursts and pauses: the end of one and the next.
            let think = self.world.random.below(THINK_US_MAX) * self.world.random.below(2);
            self.world
                .control_after(self.host, Duration::from_micros(think), Box::new(control));
        }
    }

    fn begin(&mut self, id: u64) -> HostOperation {
        let block = self.world.random.below(HOT_BLOCKS) * HOT_STRIDE;
        let length = [1, 1, 1, 2, 5][self.world.random.below(5) as usize];
        match self.world.random.below(20) {
            0 => {
                self.operations.insert(id, Operation::Other);
                HostOperation::Flush
            }
            1 => {
                self.note_write(id, block, length, 0);
                let deallocate = self.world.random.one_in(2);
                HostOperation::WriteZeroes {
                    range: BlockRange::new(block, length),
                    deallocate,
                }
            }
            2..=11 => {
                self.note_write(id, block, length, id);
                let durable = self.world.random.one_in(8);
                HostOperation::Write {
                    start: block,
                    bytes: bytes_of(id, length),
                    durable,
                }
            }
            _ => {
                let begun = self.history.moment();
                self.operations
                    .insert(id, Operation::Read { block, length, begun });
                HostOperation::Read {
                    range: BlockRange::new(block, length),
                }
            }
        }
    }

    fn note_write(&mut self, operation: u64, block: u64, length: u64, value: u64) {
        let id = WriteId(operation);
        (0..length).for_each(|at| self.history.write_begins(id, block + at, value));
        self.operations
            .insert(operation, Operation::Write { block, length, id });
    }

    fn make_trouble(&mut self) {
        // A power failure is noticed before anything else goes wrong: see the head of the file.
        if self
            .powerless
            .is_some_and(|leg| self.keeper.in_sync.contains(&leg))
        {
            return;
        }
        self.powerless = None;
        self.outcome.troubles += 1;
        let span = Duration::from_millis(1 + self.world.random.below(4_000));
        match self.world.random.below(13) {
            0 | 1 => self.switch_owner(),
            2 => self.kill_controller(self.keeper.owner, span),
            3 => self.kill_controller(1 - self.keeper.owner, span),
            4 | 5 => self.fail_disk_node(span, false),
            6 => self.fail_disk_node(span, true),
            7 => self.pause_one(span),
            8 | 9 => self.cut_pair(span),
            10 => self.split(span),
            _ => {
                self.tell(|| format!("the store is away for {span:?}"));
                self.store_back = self.world.now() + span;
            }
        }
    }

    fn switch_owner(&mut self) {
        let to = 1 - self.keeper.owner;
        if self.world.is_alive(self.controllers[to]) {
            self.tell(|| format!("the owner is switched to controller node {to}"));
            self.grant(to);
        }
    }

    fn kill_controller(&mut self, index: usize, span: Duration) {
        if self.world.is_alive(self.controllers[index]) {
            self.tell(|| format!("controller node {index} is killed for {span:?}"));
            self.end_process(self.controllers[index]);
            self.undo
                .push((self.world.now() + span, Undo::StartController(index)));
        }
    }

    /// A process dies, and its kernel says so; or a machine does, and nobody says so.
    fn end_process(&mut self, name: NodeName) {
        if self.world.random.one_in(3) {
            self.tell(|| format!("nobody tells the peers of {name:?}"));
            self.world.vanish(name);
        } else {
            self.world.kill(name);
        }
    }

    fn fail_disk_node(&mut self, span: Duration, power: bool) {
        let index = self.world.random.below(self.disk_nodes.len() as u64) as usize;
        let (name, node) = self.disk_nodes[index];
        if !self.world.is_alive(name) {
            return;
        }
        // Power that fails costs what was not flushed: some other leg must have it.
        let others_have_all = self.keeper.in_sync.len() == self.keeper.legs.len()
            && self.keeper.legs.len() > 1
            && self
                .disk_nodes
                .iter()
                .all(|(other, _)| *other == name || self.world.is_alive(*other))
            && self.undo.is_empty();
        let noticed = self.serving == self.keeper.epoch && self.world.now() >= self.store_back;
        if power && others_have_all && noticed {
            self.powerless = Some(self.keeper.legs[index].leg);
            self.tell(|| format!("disk node {node} loses power for {span:?}"));
            self.world.cut_power(name);
        } else {
            self.tell(|| format!("disk node {node} is killed for {span:?}"));
            self.end_process(name);
        }
        self.undo
            .push((self.world.now() + span, Undo::StartDiskNode(index)));
    }

    fn pause_one(&mut self, span: Duration) {
        let all: Vec<NodeName> = self
            .disk_nodes
            .iter()
            .map(|(name, _)| *name)
            .chain(self.controllers.iter().copied())
            .collect();
        let name = all[self.world.random.below(all.len() as u64) as usize];
        self.tell(|| format!("{name:?} is paused for {span:?}"));
        self.world.pause(name, span);
        self.undo.push((self.world.now() + span, Undo::Nothing));
    }

    fn cut_pair(&mut self, span: Duration) {
        let disks: Vec<NodeName> = self
            .disk_nodes
            .iter()
            .map(|(name, _)| *name)
            .chain([self.host])
            .collect();
        let one = disks[self.world.random.below(disks.len() as u64) as usize];
        let other = self.controllers[self.world.random.below(2) as usize];
        self.tell(|| format!("{one:?} and {other:?} are cut from each other for {span:?}"));
        self.world.set_cut(one, other, true);
        self.undo.push((self.world.now() + span, Undo::Heal(one, other)));
    }

    /// The worst for one owner: the next one reaches all legs but one, the present one that leg only.
    fn split(&mut self, span: Duration) {
        let (old, new) = (self.keeper.owner, 1 - self.keeper.owner);
        if self.disk_nodes.len() < 2 || !self.world.is_alive(self.controllers[new]) {
            return;
        }
        let kept = self.world.random.below(self.disk_nodes.len() as u64) as usize;
        self.tell(|| {
            format!("controller node {old} is left with disk node {kept} alone, {new} gets all others")
        });
        for index in 0..self.disk_nodes.len() {
            let away = if index == kept { new } else { old };
            let (disk, controller) = (self.disk_nodes[index].0, self.controllers[away]);
            self.world.set_cut(disk, controller, true);
            self.undo
                .push((self.world.now() + span, Undo::Heal(disk, controller)));
        }
        self.switch_owner();
    }

    fn undo_due(&mut self) {
        let now = self.world.now();
        let (due, rest): (Vec<_>, Vec<_>) = self.undo.drain(..).partition(|(at, _)| *at <= now);
        self.undo = rest;
        for (_, undo) in due {
            self.tell(|| format!("{undo:?}"));
            match undo {
                Undo::StartDiskNode(index) => self.start_disk_node(index),
                Undo::StartController(index) => self.start_controller(index),
                Undo::Nothing => {}
                Undo::Heal(one, other) => self.world.set_cut(one, other, false),
            }
        }
    }

    /// No more trouble: everything in flight ends within a bound, and every leg comes back.
    fn settle(&mut self) -> Result<(), String> {
        let deadline = self.world.now() + SETTLED;
        while !self.operations.is_empty()
            || !self.undo.is_empty()
            || self.keeper.in_sync.len() < self.keeper.legs.len()
        {
            if self.world.now() >= deadline {
                let away = self.keeper.legs.len() - self.keeper.in_sync.len();
                return Err(format!(
                    "{SETTLED:?} after the last trouble {:?} wait and {away} legs are out",
                    self.operations
                ));
            }
            self.step(deadline)?;
        }
        Ok(())
    }

    fn read_back(&mut self) -> Result<(), String> {
        for hot in 0..HOT_BLOCKS {
            let id = self.next_operation;
            self.next_operation += 1;
            let block = hot * HOT_STRIDE;
            let begun = self.history.moment();
            self.operations.insert(
                id,
                Operation::Read {
                    block,
                    length: 5,
                    begun,
                },
            );
            let operation = HostOperation::Read {
                range: BlockRange::new(block, 5),
            };
            let volume = VolumeId(*VOLUME.0.as_bytes());
            let control = HostControl::Submit {
                id,
                volume,
                operation,
            };
            self.world
                .control_after(self.host, Duration::ZERO, Box::new(control));
        }
        let deadline = self.world.now() + SETTLED;
        while !self.operations.is_empty() {
            if self.world.now() >= deadline {
                return Err(format!("reading back does not end: {:?}", self.operations));
            }
            self.step(deadline)?;
        }
        Ok(())
    }

    /// At rest: legs in sync are equal where volumes lie, and no buffer is held that nobody uses.
    fn check_rest(&mut self) -> Result<(), String> {
        let quiet = self.world.now() + Duration::from_secs(30);
        while self.world.now() < quiet {
            self.step(quiet)?;
        }
        for name in self
            .disk_nodes
            .iter()
            .map(|(name, _)| *name)
            .chain(self.controllers.iter().copied())
        {
            let held = self.world.memory_in_use(name);
            if held > 4 << 20 {
                return Err(format!("{name:?} holds {held} bytes of buffers at rest"));
            }
        }
        Ok(())
    }

    fn tell(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>12.6} s  {}", self.world.now().0 as f64 / 1e9, text());
        }
    }
}

/// A slice's status, in short.
fn told(slice: &cluster::status::SliceStatus) -> String {
    let legs = slice.groups.iter().flat_map(|group| &group.legs);
    let legs: Vec<(bool, bool)> = legs.map(|leg| (leg.in_sync, leg.reachable)).collect();
    format!(
        "{:?} {:?}, legs (in sync, reachable) {legs:?}",
        slice.epoch, slice.state
    )
}

/// A disk node with one formatted disk and a leg on it.
fn add_disk_node(world: &mut World, index: usize) -> (NodeName, KeptLeg) {
    let number = index as u128;
    let node = DiskNodeId(Uuid::from_u128(0x800 + number));
    let disk = DiskId(Uuid::from_u128(0x900 + number));
    let mut bytes = WorldDisk::new(DISK_BYTES);
    let superblock =
        Superblock::fresh(disk, None, DISK_BYTES, EXTENT_BYTES).expect("the disk is large enough");
    for (offset, block) in format::formatting(&superblock) {
        bytes.write(offset, &block, true);
    }
    let address = SocketAddr::from(([10, 0, 0, index as u8 + 1], 4420));
    let name = world.add_node(address, vec![bytes]);
    let length_blocks = LEG_EXTENTS * EXTENT_BYTES / BLOCK as u64;
    let leg = LegId(Uuid::from_u128(0xA00 + number));
    (
        name,
        KeptLeg {
            leg,
            node,
            address,
            disk,
            extents: LEG_EXTENTS,
            length_blocks,
        },
    )
}

/// A block of this value: the value over and over; zero is zeroes.
fn bytes_of(value: u64, length: u64) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    bytes
        .iter()
        .copied()
        .cycle()
        .take(length as usize * BLOCK)
        .collect()
}

/// The value of a block, if it is whole.
fn value_of(block: &[u8]) -> Option<u64> {
    let (words, _) = block.as_chunks::<8>();
    let first = words[0];
    words
        .iter()
        .all(|word| *word == first)
        .then(|| u64::from_le_bytes(first))
}

/// One run.
///
/// # Errors
/// The first rule that did not hold, with the seed in front.
pub fn run_seed(seed: u64, verbose: bool) -> Result<Outcome, String> {
    let mut random = Random::new(seed ^ 0xFAB);
    let legs = 1 + random.below(3) as usize;
    let trouble = Trouble {
        span: Duration::from_secs(20),
        pause: Duration::from_millis(700),
        legs,
    };
    Fabric::new(seed, legs, verbose)
        .run(&trouble)
        .map_err(|what| format!("seed {seed}: {what}"))
}
