//! Where stories are told: production nodes in a simulated world (a disk node for each leg, one or two controller nodes, a host), with a
//! [`Keeper`] for a control plane, started over the disks and records of a [`Scene`]; and everything they do is noted.
//!
//! Stories speak to it in verbs: what they ask for begins at once, and [`Stage::wait`] waits for its end.

use super::host::{Host, host_nqn};
use super::image::{Fate, Image};
use super::promise::HostNote;
use super::scene::{Change, Note, Record, Scene};
use crate::keeper::{Keeper, KeptController, KeptLeg};
use crate::world::NodeName;
use block::{Time, Tuning};
use cluster::node_config::VolumeConfig;
use cluster::status::{ControllerNodeStatus, SliceState, SliceStatus};
use cluster::{ControllerNodeId, DiskId, DiskNodeId, Incarnation, LegId};
use control::agent::MembershipRequest;
use controller_node::node::{Control as ControllerControl, ControllerNode, Report as ControllerReport};
use disk_node::node::{GivenDisk, Node as DiskNode, NodeControl, NodeOptions, NodeReport};
use fabric::host::HostReport;
use fabric::target::TargetConfig;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

/// Unit of space of disks.
pub const DISK_EXTENT_BYTES: u64 = 4 << 20;
/// How large each disk is.
pub const DISK_BYTES: u64 = 24 << 20;
/// How many of its extents are the leg's.
pub const LEG_EXTENTS: u64 = 4;
/// Unit of space of the pool, in blocks: as small as may be, so that a story has many.
pub const POOL_EXTENT: u64 = 32;
const BLOCK: u64 = 4096;
/// Whatever a story waits for comes within this.
const PATIENCE: Duration = Duration::from_secs(40);

/// As by default, but in a hurry; resync takes a region at a time.
fn tuning() -> Tuning {
    Tuning {
        lease: Some(Duration::from_millis(800)),
        clock_margin: Duration::from_millis(100),
        give_up_after: Duration::from_secs(1),
        leg_timeout: Duration::from_secs(3),
        bitmap_quiet: Duration::from_millis(30),
        bitmap_quiet_max: Duration::from_millis(60),
        rejoin_after: Duration::from_millis(50),
        resync_step: block::Blocks(256),
        resync_pause: Duration::from_micros(100),
        read_run: 1,
        ..Tuning::default()
    }
}

/// Everything that runs.
pub struct Stage {
    /// The host, and the world.
    pub host: Host,
    keeper: Keeper,
    legs: usize,
    controllers: Vec<NodeName>,
    next_incarnation: u128,
    next_volume: u128,
    /// The store does not answer: what it was asked waits.
    store_away: bool,
    waiting: Vec<(NodeName, MembershipRequest)>,
    /// What each controller node said last.
    told: BTreeMap<NodeName, ControllerNodeStatus>,
}

impl Stage {
    /// Starts every disk node of the scene and so many controller nodes, grants the pool to one of them, and connects the host.
    pub fn begin(scene: Scene, seed: u64, controllers: usize, owner: usize) -> Stage {
        let (legs, life) = (scene.disks.len(), u128::from(scene.lives) + 1);
        let mut keeper = keeper_of(legs);
        scene.changes.iter().for_each(|change| change.apply(&mut keeper));
        let added = |change: &&Change| matches!(change, Change::Added(..));
        let next_volume = 0x501 + scene.changes.iter().filter(added).count() as u128;
        let mut host = Host::new(scene, seed);
        let kept = keeper.controllers.iter();
        let names = kept.map(|controller| host.world.add_node(controller.address, Vec::new()));
        let mut stage = Stage {
            controllers: names.collect(),
            host,
            keeper,
            legs,
            next_volume,
            store_away: false,
            waiting: Vec::new(),
            next_incarnation: life << 32,
            told: BTreeMap::new(),
        };
        (0..legs).for_each(|index| stage.start_disk_node(index));
        let others = (0..2).filter(|index| *index != owner).take(controllers - 1);
        others.for_each(|index| stage.start_controller(index, false));
        stage.start_controller(owner, true);
        let kept = stage.keeper.controllers.iter().zip(&stage.controllers);
        let alive = kept.filter(|(_, name)| stage.host.world.is_alive(**name));
        let addresses = alive.map(|(kept, _)| kept.address).collect();
        stage.host.connect(&stage.keeper.subsystem_nqn(), addresses);
        stage
    }

    /// Starts a disk node over its disk; nothing may run there.
    pub fn start_disk_node(&mut self, index: usize) {
        let node = self.keeper.legs[index].node;
        let disk = GivenDisk {
            path: "disk".to_owned(),
            volatile: false,
            size_bytes: DISK_BYTES,
            born: None,
            fault: None,
        };
        let machine = DiskNode::new(NodeOptions {
            node,
            incarnation: self.incarnation(),
            reactor: None,
            disks: vec![disk],
            target: TargetConfig::default(),
        });
        self.host.world.start(NodeName(index), Box::new(machine));
        let config = NodeControl::Apply(self.keeper.disk_node_config(node));
        self.host
            .world
            .control_after(NodeName(index), Duration::from_millis(1), Box::new(config));
    }

    fn start_controller(&mut self, index: usize, grant: bool) {
        let incarnation = self.incarnation();
        let node = self.keeper.controllers[index].node;
        self.keeper.controllers[index].incarnation = incarnation;
        let nqn = node.host_nqn().0;
        let machine = ControllerNode::new(node, nqn, incarnation, tuning(), TargetConfig::default());
        self.host.world.start(self.controllers[index], Box::new(machine));
        match grant {
            true => self.grant(index),
            false => self.push(index),
        }
    }

    /// R2: a new epoch for every grant, and a grant for every start.
    fn grant(&mut self, owner: usize) {
        let incarnation = self.keeper.controllers[owner].incarnation;
        self.change(Change::Granted { owner, incarnation });
    }

    /// The keeper commits; every controller node is told.
    fn change(&mut self, change: Change) {
        change.apply(&mut self.keeper);
        self.host.note(Note::Keeper(change));
        (0..2).for_each(|index| self.push(index));
    }

    fn push(&mut self, index: usize) {
        let name = self.controllers[index];
        if self.host.world.is_alive(name) {
            let config = ControllerControl::Apply(Box::new(self.keeper.controller_node_config(index)));
            self.host
                .world
                .control_after(name, Duration::from_micros(500), Box::new(config));
        }
    }

    fn incarnation(&mut self) -> Incarnation {
        self.next_incarnation += 1;
        // Host identifiers are counted up from here.
        Incarnation(Uuid::from_u128(self.next_incarnation << 64))
    }

    // What stories ask for.

    /// A volume of so many blocks; there when this returns.
    ///
    /// # Errors
    /// It does not come.
    pub fn add_volume(&mut self, blocks: u64) -> Result<u128, String> {
        let volume = self.next_volume;
        self.next_volume += 1;
        self.change(Change::Added(volume, blocks));
        self.settled_volumes()?;
        Ok(volume)
    }

    /// A volume goes, and what was on it; it has gone when this returns.
    ///
    /// # Errors
    /// It does not go.
    pub fn delete_volume(&mut self, volume: u128) -> Result<(), String> {
        self.change(Change::Deleting(volume));
        self.host.note(Note::Host(HostNote::Forgets { volume }));
        self.settled_volumes()
    }

    /// The other controller node becomes the owner.
    pub fn switch_owner(&mut self) {
        self.grant(1 - self.keeper.owner);
    }

    /// The owner's process ends; the other one is granted the pool.
    pub fn kill_owner(&mut self) {
        let owner = self.keeper.owner;
        self.host.world.kill(self.controllers[owner]);
        self.grant(1 - owner);
    }

    /// A disk node's process ends; its disk keeps its power.
    pub fn kill_disk_node(&mut self, index: usize) {
        self.host.world.kill(NodeName(index));
    }

    /// The power of one disk node fails, and this becomes of what its disk had not settled; it is started again.
    pub fn cut_disk_node(&mut self, index: usize, fates: impl FnOnce(&Scene) -> Vec<Fate>) {
        self.host.collect();
        let mut scene = self.host.record.scene(self.host.record.notes.len());
        let media = scene.disks[index].cut(&fates(&scene));
        self.host.world.kill(NodeName(index));
        self.host.world.disk_notes = Some(Vec::new());
        *self.host.world.disk(NodeName(index), 0) = media.disk();
        scene.disks[index] = Image::new(media);
        self.host.record = Record {
            start: scene,
            notes: Vec::new(),
        };
    }

    /// Whether the store answers nobody from now on; what it was asked meanwhile it answers when it is back.
    pub fn set_store_away(&mut self, away: bool) {
        self.store_away = away;
        if !away {
            for (node, request) in std::mem::take(&mut self.waiting) {
                self.commit(node, &request);
            }
        }
    }

    fn commit(&mut self, node: NodeName, request: &MembershipRequest) {
        self.host.note(Note::Keeper(Change::Recorded(request.clone())));
        let answer = self
            .keeper
            .record(request)
            .unwrap_or_else(|broken| panic!("{broken}"));
        let answer = ControllerControl::Membership(answer);
        self.host
            .world
            .control_after(node, Duration::from_micros(700), Box::new(answer));
    }

    // Waiting.

    /// Everything the host asked for has ended.
    ///
    /// # Errors
    /// It does not, or a rule does not hold.
    pub fn wait(&mut self) -> Result<(), String> {
        self.until("requests end", |stage| stage.host.is_quiet())
    }

    /// The pool is served by its owner.
    ///
    /// # Errors
    /// As [`Stage::wait`].
    pub fn served(&mut self) -> Result<(), String> {
        self.until("the pool is served", Stage::is_served)
    }

    /// Every leg is in sync, and all are equal.
    ///
    /// # Errors
    /// As [`Stage::wait`].
    pub fn whole(&mut self) -> Result<(), String> {
        self.until("all legs are in sync and equal", |stage| {
            let equal = |status: &ControllerNodeStatus| {
                let groups = status.slices.iter().flat_map(|slice| &slice.groups);
                groups.map(|group| group.regions_dirty).sum::<u64>() == 0
            };
            stage.is_served()
                && stage.keeper.in_sync.len() == stage.legs
                && stage
                    .told
                    .get(&stage.controllers[stage.keeper.owner])
                    .is_some_and(equal)
        })
    }

    fn is_served(&self) -> bool {
        let owner = self.told.get(&self.controllers[self.keeper.owner]);
        owner.is_some_and(|status| {
            let mut slices = status.slices.iter();
            slices.any(|slice| slice.state == SliceState::Serving && slice.epoch == self.keeper.epoch)
        })
    }

    fn until(&mut self, what: &str, reached: impl Fn(&Stage) -> bool) -> Result<(), String> {
        let deadline = self.host.world.now() + PATIENCE;
        while !reached(self) {
            if self.host.world.now() >= deadline {
                let told: Vec<_> = self.told.values().flat_map(|status| &status.slices).collect();
                return Err(format!("{PATIENCE:?} are not enough until {what}: {told:?}"));
            }
            self.step(deadline)?;
        }
        Ok(())
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// As [`Stage::wait`].
    pub fn pass_ms(&mut self, span_ms: u64) -> Result<(), String> {
        let until = self.host.world.now() + Duration::from_millis(span_ms);
        while self.host.world.now() < until {
            self.step(until)?;
        }
        Ok(())
    }

    /// One happening, and what follows from it outside of the machines.
    fn step(&mut self, until: Time) -> Result<(), String> {
        self.host.world.step(until);
        self.host.collect();
        while let Some((node, report)) = self.host.world.reports.pop_front() {
            self.hear(node, report)?;
        }
        Ok(())
    }

    fn hear(&mut self, node: NodeName, report: Box<dyn Any>) -> Result<(), String> {
        let report = match report.downcast::<HostReport>() {
            Ok(report) => return self.host.hear(*report),
            Err(report) => report,
        };
        let report = match report.downcast::<NodeReport>() {
            Ok(report) => {
                // Before that it may be said that a disk is still being read.
                let disks = report.status.disks.iter().filter(|_| report.booted);
                let fault = disks.filter_map(|disk| disk.fault.clone()).next();
                return fault.map_or(Ok(()), |fault| Err(format!("R12: disk node {}: {fault}", node.0)));
            }
            Err(report) => report,
        };
        match report.downcast::<ControllerReport>().map(|report| *report) {
            Ok(ControllerReport::Membership(request)) if self.store_away => {
                self.waiting.push((node, request));
                Ok(())
            }
            Ok(ControllerReport::Membership(request)) => {
                self.commit(node, &request);
                Ok(())
            }
            Ok(ControllerReport::Status(status)) => self.hear_status(node, status),
            Err(_) => Ok(()),
        }
    }

    fn hear_status(&mut self, node: NodeName, status: ControllerNodeStatus) -> Result<(), String> {
        for slice in &status.slices {
            if let SliceState::Failed { reason } = &slice.state
                && slice.epoch == self.keeper.epoch
            {
                return Err(format!("R9/R12: the pool does not open: {reason}"));
            }
            for (leg, _) in slice
                .groups
                .iter()
                .flat_map(|group| &group.legs)
                .enumerate()
                .filter(|(_, leg)| leg.reachable)
            {
                let key = slice.epoch.0;
                self.host.note(Note::Fenced { leg, key });
            }
        }
        if node == self.controllers[self.keeper.owner] {
            self.note_volumes(&status);
        }
        self.told.insert(node, status);
        Ok(())
    }

    /// What a worker makes of a status.
    fn note_volumes(&mut self, status: &ControllerNodeStatus) {
        let epoch = self.keeper.epoch;
        let serves = |slice: &&SliceStatus| slice.state == SliceState::Serving && slice.epoch == epoch;
        let serving = status.slices.iter().filter(serves);
        for slice in serving {
            let known: Vec<u128> = slice
                .volumes
                .iter()
                .map(|volume| volume.volume.0.as_u128())
                .collect();
            for config in self.keeper.volumes.clone() {
                let volume = config.volume.0.as_u128();
                let there = known.contains(&volume);
                if there && !config.created {
                    self.change(Change::Created(volume));
                } else if !there && config.deleting {
                    self.change(Change::Deleted(volume));
                }
            }
        }
    }

    // What the explorer asks for.

    /// Volumes that hosts may use.
    pub fn volumes(&self) -> Vec<(u128, u64)> {
        let usable = self
            .keeper
            .volumes
            .iter()
            .filter(|config| config.created && !config.deleting);
        usable
            .map(|config| (config.volume.0.as_u128(), config.size_blocks))
            .collect()
    }

    /// Every volume that people want is there for the host to see, and every other one is gone.
    ///
    /// # Errors
    /// As [`Stage::wait`].
    pub fn settled_volumes(&mut self) -> Result<(), String> {
        self.until("all volumes are created or deleted", |stage| {
            let seen = |config: &VolumeConfig| stage.host.sees(config.volume.0.as_u128());
            let mut volumes = stage.keeper.volumes.iter();
            volumes.all(|config| config.created && !config.deleting && seen(config))
        })
    }

    /// Extents of the pool that no volume has, as far as it has said.
    pub fn extents_free(&self) -> u64 {
        let told = self.told.get(&self.controllers[self.keeper.owner]);
        let slices = told.iter().flat_map(|status| &status.slices);
        slices.map(|slice| slice.extents - slice.extents_used).sum()
    }

    /// How many legs there are.
    pub fn legs(&self) -> usize {
        self.legs
    }

    /// How long each is.
    pub fn leg_bytes(&self) -> u64 {
        LEG_EXTENTS * DISK_EXTENT_BYTES
    }
}

/// The name of the disk of a disk node.
pub fn disk_name(index: usize) -> DiskId {
    DiskId(Uuid::from_u128(0x900 + index as u128))
}

/// The name of the leg on it.
pub fn leg_name(index: usize) -> LegId {
    LegId(Uuid::from_u128(0xA00 + index as u128))
}

fn keeper_of(legs: usize) -> Keeper {
    let leg = |index: usize| KeptLeg {
        leg: leg_name(index),
        node: DiskNodeId(Uuid::from_u128(0x800 + index as u128)),
        address: SocketAddr::from(([10, 0, 0, index as u8 + 1], 4420)),
        disk: disk_name(index),
        extents: LEG_EXTENTS,
        length_blocks: LEG_EXTENTS * DISK_EXTENT_BYTES / BLOCK,
    };
    let controller = |index: u8| KeptController {
        node: ControllerNodeId(Uuid::from_u128(0x600 + u128::from(index))),
        address: SocketAddr::from(([10, 0, 1, index + 1], 4420)),
        incarnation: Incarnation(Uuid::nil()),
    };
    Keeper::new(
        (0..legs).map(leg).collect(),
        (0..2).map(controller).collect(),
        BTreeSet::from([host_nqn()]),
        POOL_EXTENT * BLOCK,
    )
}
