//! Starting processes, and what their agents do: configurations in the order of their revisions, over any number of restarts;
//! membership requests again and again until the store has answered.

use super::{BLOCK, Broken, Fabric, History, Legs, Load, Outcome, Story, tuning};
use crate::keeper::{Keeper, KeptController, KeptLeg};
use crate::world::{Clock, NodeName, Random, World, WorldDisk, WorldOptions};
use block::Time;
use cluster::node_config::{ControllerNodeConfig, Role, VolumeConfig};
use cluster::{ControllerNodeId, DiskId, DiskNodeId, Incarnation, LegId, Nqn};
use control::agent::{MembershipAnswer, MembershipRequest};
use controller_node::node::{Control as ControllerControl, ControllerNode};
use disk_node::format::{self, Superblock};
use disk_node::node::{GivenDisk, Node as DiskNode, NodeControl, NodeOptions};
use fabric::host::{AssociationConfig, HostControl, HostNode, MultipathConfig};
use fabric::target::TargetConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

/// The disks' and the pool's unit of space.
pub(super) const EXTENT_BYTES: u64 = 4 << 20;
pub(super) const DISK_BYTES: u64 = 128 << 20;
const LEG_EXTENTS: u64 = 20;
/// What disks are full of before they are ours: nobody must ever read it (R10).
const OLD_DATA: u8 = 0xEE;
/// How late a node may learn its configuration.
const NEWS_LATE_MS_MAX: u64 = 6_000;
/// After this an agent asks again, and a worker tells again.
const AGAIN_MS: u64 = 500;

/// How a data plane is made, and what is done to it.
pub type Plan = Story;

/// Something under way between the store and a node.
#[derive(Debug)]
enum Letter {
    /// A worker tells a controller node, by index.
    Push(usize),
    /// A configuration arrives at a controller node's agent.
    Config(usize, Box<ControllerNodeConfig>),
    /// A request arrives at an api-server, from a node in one of its lives.
    Ask(NodeName, u64, MembershipRequest),
    /// The answer arrives at its agent.
    Answer(NodeName, u64, MembershipAnswer),
}

/// What is under way, and what agents remember.
#[derive(Debug, Default)]
pub(super) struct Mail {
    letters: BTreeMap<(Time, u64), Letter>,
    next: u64,
    /// Of each controller node: what its agent has on its disk.
    ledgers: BTreeMap<usize, ControllerNodeConfig>,
    /// Requests that wait for their first answer: node, life, number.
    open: BTreeSet<(NodeName, u64, u64)>,
}

impl Mail {
    /// When the next thing arrives.
    pub(super) fn next(&self) -> Option<Time> {
        self.letters.first_key_value().map(|((at, _), _)| *at)
    }

    fn post(&mut self, at: Time, letter: Letter) {
        self.next += 1;
        self.letters.insert((at, self.next), letter);
    }
}

impl Fabric {
    /// Everything started, the pool granted to the first controller node, the volumes being created.
    pub fn new(story: &Story, verbose: bool) -> Fabric {
        let mut world = World::new(story.seed, WorldOptions::default());
        let mut kept = Vec::new();
        let mut disk_nodes = Vec::new();
        for index in 0..story.legs {
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
        let host = |index: u8| SocketAddr::from(([10, 0, 2, index + 1], 1));
        let hosts: Vec<NodeName> = (0..2)
            .map(|index| world.add_node(host(index), Vec::new()))
            .collect();
        let nqns: BTreeSet<Nqn> = (0..hosts.len()).map(host_nqn).collect();
        let keeper = Keeper::new(kept, kept_controllers, nqns, EXTENT_BYTES);
        let mut fabric = Fabric {
            world,
            keeper,
            tuning: tuning(),
            disk_nodes,
            controllers,
            hosts,
            history: History::new(),
            load: Load::new(story.legs == 1),
            legs: Legs::default(),
            tap: Rc::default(),
            mail: Mail::default(),
            next_incarnation: 1,
            store_back: Time::ZERO,
            garbled_until: Time::ZERO,
            undo: Vec::new(),
            told: BTreeMap::new(),
            served: BTreeMap::new(),
            excused: BTreeSet::new(),
            careful_until: Time::ZERO,
            outcome: Outcome::default(),
            verbose,
        };
        fabric.world.watch(fabric.tap.clone());
        fabric.set_clocks(story);
        fabric.begin_volumes();
        (0..story.legs).for_each(|index| fabric.start_disk_node(index));
        (0..2).for_each(|index| fabric.start_controller(index));
        (0..fabric.hosts.len()).for_each(|index| fabric.start_host(index));
        fabric
    }

    fn set_clocks(&mut self, story: &Story) {
        let mut random = Random::new(story.seed ^ 0xC10C);
        let drift = story.drift_ppm;
        let names = self.all_nodes();
        for name in names.chain(self.hosts.clone()).collect::<Vec<_>>() {
            let clock = Clock {
                origin_ns: random.below(1 << 50),
                ppm: random.below(2 * drift + 1) as i64 - drift as i64,
            };
            self.world.set_clock(name, clock);
        }
    }

    /// Disk nodes and controller nodes.
    pub(super) fn all_nodes(&self) -> impl Iterator<Item = NodeName> + use<> {
        let disks = self.disk_nodes.iter().map(|(name, _)| *name);
        let all: Vec<NodeName> = disks.chain(self.controllers.iter().copied()).collect();
        all.into_iter()
    }

    pub(super) fn start_disk_node(&mut self, index: usize) {
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
        let control = NodeControl::Apply(config);
        self.world
            .control_after(name, Duration::from_millis(2), Box::new(control));
    }

    /// The agent comes up with what it has in its ledger; a worker tells it what is new.
    pub(super) fn start_controller(&mut self, index: usize) {
        let incarnation = self.incarnation();
        let name = self.controllers[index];
        let node = self.keeper.controllers[index].node;
        self.keeper.controllers[index].incarnation = incarnation;
        let nqn = node.host_nqn().0;
        let machine = ControllerNode::new(node, nqn, incarnation, self.tuning, TargetConfig::default());
        self.told.remove(&name);
        self.world.start(name, Box::new(machine));
        if let Some(config) = self.mail.ledgers.get(&index) {
            let control = ControllerControl::Apply(Box::new(config.clone()));
            self.world
                .control_after(name, Duration::from_millis(1), Box::new(control));
        }
        if self.keeper.owner == index {
            self.grant(index);
        } else {
            self.push(index);
        }
    }

    /// R2: a new epoch for every grant, and a grant for every start.
    pub(super) fn grant(&mut self, owner: usize) {
        self.keeper.grant(owner);
        self.tell("epoch", || {
            format!("{} is granted to ctrl{owner}", self.keeper.epoch.0)
        });
        self.outcome.epochs += 1;
        self.tell_tap();
        self.push_all();
    }

    pub(super) fn push_all(&mut self) {
        (0..self.controllers.len()).for_each(|index| self.push(index));
    }

    /// A worker tells a controller node what there is now. Some are told late: an owner does not know that it is none any more.
    pub(super) fn push(&mut self, index: usize) {
        let config = Box::new(self.keeper.controller_node_config(index));
        let now = self.world.now();
        let random = &mut self.world.random;
        let garbled = now < self.garbled_until;
        if garbled && random.one_in(2) {
            let again = now + Duration::from_millis(AGAIN_MS + random.below(AGAIN_MS));
            return self.mail.post(again, Letter::Push(index));
        }
        for _ in 0..1 + u64::from(garbled) * random.below(3) {
            let late = random.below(NEWS_LATE_MS_MAX) * u64::from(random.one_in(4));
            let at = now + Duration::from_millis(3 + late);
            self.mail.post(at, Letter::Config(index, config.clone()));
        }
    }

    /// The agent of an owner begins to ask.
    pub(super) fn ask_store(&mut self, node: NodeName, request: MembershipRequest) {
        let life = self.world.life(node);
        self.mail.open.insert((node, life, request.request));
        let at = self.world.now() + self.on_its_way();
        self.mail.post(at, Letter::Ask(node, life, request));
    }

    fn on_its_way(&mut self) -> Duration {
        let garbled = self.world.now() < self.garbled_until;
        let random = &mut self.world.random;
        let late = if garbled { random.below(2_000_000) } else { 0 };
        Duration::from_micros(100 + random.below(2_500) + late)
    }

    pub(super) fn carry_mail(&mut self) -> Result<(), Broken> {
        while self.mail.next().is_some_and(|at| at <= self.world.now()) {
            let (_, letter) = self.mail.letters.pop_first().expect("looked at just now");
            match letter {
                Letter::Push(index) => self.push(index),
                Letter::Config(index, config) => self.take_config(index, *config),
                Letter::Ask(node, life, request) => self.take_request(node, life, request)?,
                Letter::Answer(node, life, answer) => self.take_answer(node, life, answer),
            }
        }
        Ok(())
    }

    /// An agent refuses what is older than its ledger.
    fn take_config(&mut self, index: usize, config: ControllerNodeConfig) {
        let name = self.controllers[index];
        let newest = self.mail.ledgers.get(&index).map(|config| config.revision);
        if !self.world.is_alive(name) || newest.is_some_and(|newest| newest > config.revision) {
            return;
        }
        self.tell("news", || {
            let (wanted, role) = config_in_short(&config);
            format!(
                "ctrl{index} is told revision {}: {role}, volumes {wanted}",
                config.revision.0
            )
        });
        self.mail.ledgers.insert(index, config.clone());
        let control = ControllerControl::Apply(Box::new(config));
        self.world.control_after(name, Duration::ZERO, Box::new(control));
    }

    /// An api-server takes a request: now, or when the store is back. It may come twice, and the answer may be lost.
    fn take_request(&mut self, node: NodeName, life: u64, request: MembershipRequest) -> Result<(), Broken> {
        let now = self.world.now();
        if now < self.store_back {
            let at = self.store_back + self.on_its_way();
            self.mail.post(at, Letter::Ask(node, life, request));
            return Ok(());
        }
        let before = self.keeper.in_sync.clone();
        let answer = self.keeper.record(&request)?;
        self.tell("asked", || {
            format!(
                "{} asks under epoch {}: {:?}: {:?}",
                self.name(node),
                request.epoch.0,
                request.change,
                answer.outcome
            )
        });
        self.outcome.memberships += u64::from(before != self.keeper.in_sync);
        self.set_changed(&before)?;
        let garbled = now < self.garbled_until;
        if self.world.random.one_in(8) || garbled {
            let at = now + Duration::from_millis(1 + self.world.random.below(3_000));
            self.mail.post(at, Letter::Ask(node, life, request.clone()));
        }
        if garbled && self.world.random.one_in(2) {
            let at = now + Duration::from_millis(AGAIN_MS);
            self.mail.post(at, Letter::Ask(node, life, request));
        } else {
            let at = now + self.on_its_way();
            self.mail.post(at, Letter::Answer(node, life, answer));
        }
        Ok(())
    }

    /// R4: what enters the set has everything. Who has left it is excused no longer.
    fn set_changed(&mut self, before: &BTreeSet<LegId>) -> Result<(), Broken> {
        let entered: Vec<LegId> = self.keeper.in_sync.difference(before).copied().collect();
        self.excused.retain(|leg| self.keeper.in_sync.contains(leg));
        self.tell_tap();
        entered.into_iter().try_for_each(|leg| self.check_entering(leg))
    }

    /// The first answer counts, if the process that asked is still there.
    fn take_answer(&mut self, node: NodeName, life: u64, answer: MembershipAnswer) {
        let first = self.mail.open.remove(&(node, life, answer.request));
        if first && self.world.life(node) == life && self.world.is_alive(node) {
            let control = ControllerControl::Membership(answer);
            self.world.control_after(node, Duration::ZERO, Box::new(control));
        }
    }

    fn start_host(&mut self, index: usize) {
        let addresses = self
            .keeper
            .controllers
            .iter()
            .map(|controller| controller.address)
            .collect();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let nqn = self.keeper.subsystem_nqn().0;
        let id = [7 + index as u8; 16];
        let association = AssociationConfig::new(&host_nqn(index).0, id, &nqn, nowhere);
        let machine = HostNode::new(MultipathConfig::new(association));
        self.world.start(self.hosts[index], Box::new(machine));
        let control = HostControl::Connect { addresses };
        self.world
            .control_after(self.hosts[index], Duration::from_millis(1), Box::new(control));
    }

    fn incarnation(&mut self) -> Incarnation {
        self.next_incarnation += 1;
        // Host identifiers are counted up from here.
        Incarnation(Uuid::from_u128(self.next_incarnation << 64))
    }
}

/// A configuration's volumes and its role, in short.
fn config_in_short(config: &ControllerNodeConfig) -> (String, String) {
    let pool = config.pools.values().next().expect("there is one pool");
    let word = |volume: &VolumeConfig| match (volume.created, volume.deleting) {
        (_, true) => format!("nsid {} (to go)", volume.nsid),
        (true, _) => format!("nsid {}", volume.nsid),
        (false, _) => format!("nsid {} (new)", volume.nsid),
    };
    let wanted: Vec<String> = pool.volumes.iter().map(word).collect();
    let role = match pool.slices[0].role {
        Role::Owner { epoch, .. } => format!("owner under epoch {}", epoch.0),
        Role::Standby => "standby".to_owned(),
    };
    (wanted.join(", "), role)
}

fn host_nqn(index: usize) -> Nqn {
    Nqn::of_uuid(Uuid::from_u128(0x700 + index as u128))
}

/// A disk node with one formatted disk and a leg on it.
fn add_disk_node(world: &mut World, index: usize) -> (NodeName, KeptLeg) {
    let number = index as u128;
    let node = DiskNodeId(Uuid::from_u128(0x800 + number));
    let disk = DiskId(Uuid::from_u128(0x900 + number));
    let mut bytes = WorldDisk::used(DISK_BYTES, OLD_DATA);
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
