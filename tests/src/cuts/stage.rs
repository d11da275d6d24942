//! Where stories are told: production nodes in a simulated world (a disk node for each leg, one or two controller nodes, a host), with a
//! [`Keeper`] for a control plane, started over the disks and records of a [`Scene`]; and everything they do is noted.
//!
//! Stories speak to it in verbs: what they ask for begins at once, and [`Stage::wait`] waits for its end.

use super::image::{Fate, Image, SECTOR};
use super::promise::{HostNote, Promises, Since};
use super::scene::{Change, Note, Record, Scene};
use crate::keeper::{Keeper, KeptController, KeptLeg};
use crate::world::{NodeName, World, WorldOptions};
use block::{BlockRange, Time, Tuning};
use cluster::node_config::VolumeConfig;
use cluster::status::{ControllerNodeStatus, SliceState, SliceStatus};
use cluster::{ControllerNodeId, DiskId, DiskNodeId, Incarnation, LegId, Nqn};
use controller_node::node::{Control as ControllerControl, ControllerNode, Report as ControllerReport};
use disk_node::node::{GivenDisk, Node as DiskNode, NodeControl, NodeOptions, NodeReport};
use fabric::host::{
    AssociationConfig, HostControl, HostNode, HostOperation, HostReport, MultipathConfig, VolumeId,
};
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
pub const POOL_EXTENT: u64 = 64;
const BLOCK: usize = 4096;
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

/// Disks are slow and the network is fast: what is answered too early is seen.
fn options() -> WorldOptions {
    WorldOptions {
        latency_us_max: 60,
        disk_us_max: 1_200,
        piece_bytes_max: 4 << 20,
    }
}

#[derive(Clone, Debug)]
enum Asked {
    Read { volume: u128, start: u64, since: u64 },
    Write { durable: bool },
    Flush,
}

/// Everything that runs.
pub struct Stage {
    world: World,
    keeper: Keeper,
    legs: usize,
    controllers: Vec<NodeName>,
    host: NodeName,
    record: Record,
    promises: Promises,
    asked: BTreeMap<u64, Asked>,
    next_id: u64,
    next_incarnation: u128,
    next_volume: u128,
    /// What each controller node said last.
    told: BTreeMap<NodeName, ControllerNodeStatus>,
    /// What reads found, by block.
    found: BTreeMap<(u128, u64), Vec<u8>>,
    /// Volumes that the host sees.
    seen: BTreeSet<u128>,
    /// Blocks may be mixed of what is allowed, sector by sector.
    pub torn_data: bool,
}

impl Stage {
    /// Starts every disk node of the scene and so many controller nodes, grants the pool to one of them, and connects the host.
    pub fn begin(scene: Scene, seed: u64, controllers: usize, owner: usize) -> Stage {
        let mut world = World::new(seed, options());
        world.disk_notes = Some(Vec::new());
        let legs = scene.disks.len();
        for (index, image) in scene.disks.iter().enumerate() {
            let address = SocketAddr::from(([10, 0, 0, index as u8 + 1], 4420));
            world.add_node(address, vec![image.media().disk()]);
        }
        let names = (0..2u8).map(|index| SocketAddr::from(([10, 0, 1, index + 1], 4420)));
        let controllers_at: Vec<NodeName> =
            names.map(|address| world.add_node(address, Vec::new())).collect();
        let host = world.add_node(SocketAddr::from(([10, 0, 2, 1], 1)), Vec::new());
        let mut keeper = keeper_of(legs);
        scene.changes.iter().for_each(|change| change.apply(&mut keeper));
        let life = u128::from(scene.lives) + 1;
        let volumes = scene
            .changes
            .iter()
            .filter(|change| matches!(change, Change::Added(..)));
        let mut stage = Stage {
            world,
            keeper,
            legs,
            controllers: controllers_at,
            host,
            next_volume: 0x501 + volumes.count() as u128,
            promises: scene.promises.clone(),
            record: Record {
                start: scene,
                notes: Vec::new(),
            },
            asked: BTreeMap::new(),
            next_id: u64::try_from(life << 32).expect("few lives"),
            next_incarnation: life << 32,
            told: BTreeMap::new(),
            found: BTreeMap::new(),
            seen: BTreeSet::new(),
            torn_data: false,
        };
        (0..legs).for_each(|index| stage.start_disk_node(index));
        let others = (0..2).filter(|index| *index != owner).take(controllers - 1);
        others.for_each(|index| stage.start_controller(index, false));
        stage.start_controller(owner, true);
        stage.start_host();
        stage
    }

    /// The record of all that happened.
    pub fn end(mut self) -> Record {
        self.collect();
        self.record
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
        self.world.start(NodeName(index), Box::new(machine));
        let config = NodeControl::Apply(self.keeper.disk_node_config(node));
        self.world
            .control_after(NodeName(index), Duration::from_millis(1), Box::new(config));
    }

    fn start_controller(&mut self, index: usize, grant: bool) {
        let incarnation = self.incarnation();
        let node = self.keeper.controllers[index].node;
        self.keeper.controllers[index].incarnation = incarnation;
        let nqn = node.host_nqn().0;
        let machine = ControllerNode::new(node, nqn, incarnation, tuning(), TargetConfig::default());
        self.world.start(self.controllers[index], Box::new(machine));
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
        self.note(Note::Keeper(change));
        (0..2).for_each(|index| self.push(index));
    }

    fn push(&mut self, index: usize) {
        let name = self.controllers[index];
        if self.world.is_alive(name) {
            let config = ControllerControl::Apply(Box::new(self.keeper.controller_node_config(index)));
            self.world
                .control_after(name, Duration::from_micros(500), Box::new(config));
        }
    }

    fn start_host(&mut self) {
        let kept = self.keeper.controllers.iter().zip(&self.controllers);
        let alive = kept.filter(|(_, name)| self.world.is_alive(**name));
        let addresses = alive.map(|(kept, _)| kept.address).collect();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let nqn = self.keeper.subsystem_nqn().0;
        let mut association = AssociationConfig::new(&self.keeper.host_nqn.0, [7; 16], &nqn, nowhere);
        association.reconnect_delay = Duration::from_millis(5);
        association.reconnect_delay_max = Duration::from_millis(5);
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

    fn note(&mut self, note: Note) {
        self.collect();
        if let Note::Host(note) = &note {
            self.promises.note(note);
        }
        self.record.notes.push(note);
    }

    /// What disks have said since.
    fn collect(&mut self) {
        let notes = self
            .world
            .disk_notes
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        self.record.notes.extend(notes.into_iter().map(Note::Disk));
    }

    // What stories ask for.

    /// For whoever reads the record.
    pub fn say(&mut self, words: &'static str) {
        self.note(Note::Said(words));
    }

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
        self.note(Note::Host(HostNote::Forgets { volume }));
        self.change(Change::Deleting(volume));
        self.settled_volumes()
    }

    /// Writes blocks of values of their own; durable, if wished.
    pub fn write(&mut self, volume: u128, start: u64, blocks: u64, durable: bool) {
        let id = self.next_id;
        let values: Vec<u64> = (0..blocks).map(|block| value(id, start + block)).collect();
        let bytes = values.iter().flat_map(|value| block_of(*value)).collect();
        let operation = HostOperation::Write {
            start,
            bytes,
            durable,
        };
        self.begin_write(volume, start, values, operation, durable);
    }

    /// Zeroes blocks; `deallocate`: their space may go.
    pub fn zero(&mut self, volume: u128, start: u64, blocks: u64, deallocate: bool) {
        let range = BlockRange::new(start, blocks);
        let operation = HostOperation::WriteZeroes { range, deallocate };
        self.begin_write(volume, start, vec![0; blocks as usize], operation, false);
    }

    fn begin_write(
        &mut self,
        volume: u128,
        start: u64,
        values: Vec<u64>,
        operation: HostOperation,
        durable: bool,
    ) {
        let id = self.submit(volume, operation, Asked::Write { durable });
        self.note(Note::Host(HostNote::Writes {
            id,
            volume,
            start,
            values,
        }));
    }

    /// Flushes a volume.
    pub fn flush(&mut self, volume: u128) {
        let id = self.submit(volume, HostOperation::Flush, Asked::Flush);
        self.note(Note::Host(HostNote::Flushes { id, volume }));
    }

    /// Reads blocks; they must be what the promises say.
    pub fn read(&mut self, volume: u128, start: u64, blocks: u64) {
        let range = BlockRange::new(start, blocks);
        let since = self.promises.moment();
        self.submit(
            volume,
            HostOperation::Read { range },
            Asked::Read { volume, start, since },
        );
    }

    fn submit(&mut self, volume: u128, operation: HostOperation, asked: Asked) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.asked.insert(id, asked);
        let control = HostControl::Submit {
            id,
            volume: VolumeId(*Uuid::from_u128(volume).as_bytes()),
            operation,
        };
        self.world
            .control_after(self.host, Duration::from_micros(1), Box::new(control));
        id
    }

    /// The other controller node becomes the owner.
    pub fn switch_owner(&mut self) {
        self.grant(1 - self.keeper.owner);
    }

    /// The owner's process ends; the other one is granted the pool.
    pub fn kill_owner(&mut self) {
        let owner = self.keeper.owner;
        self.world.kill(self.controllers[owner]);
        self.grant(1 - owner);
    }

    /// A disk node's process ends; its disk keeps its power.
    pub fn kill_disk_node(&mut self, index: usize) {
        self.world.kill(NodeName(index));
    }

    /// The power of one disk node fails, and this becomes of what its disk had not settled; it is started again.
    pub fn cut_disk_node(&mut self, index: usize, fates: impl FnOnce(&Scene) -> Vec<Fate>) {
        self.collect();
        let mut scene = self.record.scene(self.record.notes.len());
        let media = scene.disks[index].cut(&fates(&scene));
        self.world.kill(NodeName(index));
        self.world.disk_notes = Some(Vec::new());
        *self.world.disk(NodeName(index), 0) = media.disk();
        scene.disks[index] = Image::new(media);
        self.record = Record {
            start: scene,
            notes: Vec::new(),
        };
    }

    /// Whether a disk node's process runs.
    pub fn is_alive(&self, index: usize) -> bool {
        self.world.is_alive(NodeName(index))
    }

    // Waiting.

    /// Everything the host asked for has ended.
    ///
    /// # Errors
    /// It does not, or a rule does not hold.
    pub fn wait(&mut self) -> Result<(), String> {
        self.until("requests end", |stage| stage.asked.is_empty())
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
        let deadline = self.world.now() + PATIENCE;
        while !reached(self) {
            if self.world.now() >= deadline {
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
        let until = self.world.now() + Duration::from_millis(span_ms);
        while self.world.now() < until {
            self.step(until)?;
        }
        Ok(())
    }

    /// One happening, and what follows from it outside of the machines.
    fn step(&mut self, until: Time) -> Result<(), String> {
        self.world.step(until);
        self.collect();
        while let Some((node, report)) = self.world.reports.pop_front() {
            self.hear(node, report)?;
        }
        Ok(())
    }

    fn hear(&mut self, node: NodeName, report: Box<dyn Any>) -> Result<(), String> {
        let report = match report.downcast::<HostReport>() {
            Ok(report) => return self.hear_host(*report),
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
            Ok(ControllerReport::Membership(request)) => {
                self.note(Note::Keeper(Change::Recorded(request.clone())));
                let answer = ControllerControl::Membership(self.keeper.record(&request));
                self.world
                    .control_after(node, Duration::from_micros(700), Box::new(answer));
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
                self.note(Note::Fenced { leg, key });
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

    fn hear_host(&mut self, report: HostReport) -> Result<(), String> {
        let (id, result) = match report {
            HostReport::Completed { id, result } => (id, result),
            HostReport::PathsChanged(_) | HostReport::PathReady { .. } => {
                let ask = Box::new(HostControl::Volumes);
                self.world.control_after(self.host, Duration::ZERO, ask);
                return Ok(());
            }
            HostReport::Volumes(volumes) => {
                let names = volumes
                    .iter()
                    .map(|volume| Uuid::from_bytes(volume.volume.0).as_u128());
                self.seen = names.collect();
                return Ok(());
            }
            _ => return Ok(()),
        };
        let asked = self.asked.remove(&id).ok_or("an operation ended twice")?;
        let bytes = result.map_err(|status| format!("R7: the host was told {status} for {asked:?}"))?;
        match asked {
            Asked::Write { durable } => self.note(Note::Host(HostNote::Written { id, durable })),
            Asked::Flush => self.note(Note::Host(HostNote::Flushed { id })),
            Asked::Read { volume, start, since } => return self.judge(volume, start, since, &bytes),
        }
        Ok(())
    }

    fn judge(&mut self, volume: u128, start: u64, since: u64, bytes: &[u8]) -> Result<(), String> {
        for (index, part) in bytes.chunks(BLOCK).enumerate() {
            let at = (volume, start + index as u64);
            let allowed = self.promises.allowed(at, Since::Acknowledged(since));
            let whole = if self.torn_data { SECTOR as usize } else { BLOCK };
            for piece in part.chunks(whole) {
                judge_block(at, piece, &allowed)?;
            }
            self.found.insert(at, part.to_vec());
        }
        Ok(())
    }

    // What the explorer asks for.

    /// What was found when these blocks were read last.
    pub fn found(&self) -> &BTreeMap<(u128, u64), Vec<u8>> {
        &self.found
    }

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
            let seen = |config: &VolumeConfig| stage.seen.contains(&config.volume.0.as_u128());
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

    /// The promises made so far.
    pub fn promises(&self) -> &Promises {
        &self.promises
    }

    /// Notes that everything is at rest, and what it holds.
    pub fn rest(&mut self, values: Vec<((u128, u64), u64)>) {
        self.note(Note::Host(HostNote::Rests { values }));
    }

    /// The world, to look into.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }
}

/// Whether a block may hold these bytes.
///
/// # Errors
/// Why not.
pub fn judge_block(at: (u128, u64), bytes: &[u8], allowed: &[u64]) -> Result<(), String> {
    let found = value_of(bytes);
    if found.is_some_and(|found| allowed.contains(&found)) {
        return Ok(());
    }
    let found = found.map_or_else(|| "a mixture".to_owned(), |found| format!("{found:#x}"));
    let allowed: Vec<String> = allowed.iter().map(|value| format!("{value:#x}")).collect();
    Err(format!(
        "block {} of volume {:#x} reads as {found}; allowed: {allowed:?}",
        at.1, at.0
    ))
}

/// What block `block` of operation `id` holds: no two are alike, so that nothing can be mistaken.
fn value(id: u64, block: u64) -> u64 {
    id << 16 | block & 0xffff
}

fn block_of(value: u64) -> impl Iterator<Item = u8> {
    value.to_le_bytes().into_iter().cycle().take(BLOCK)
}

/// The value of a block, if it is whole.
pub fn value_of(block: &[u8]) -> Option<u64> {
    let (words, _) = block.as_chunks::<8>();
    let first = words[0];
    words
        .iter()
        .all(|word| *word == first)
        .then(|| u64::from_le_bytes(first))
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
        length_blocks: LEG_EXTENTS * DISK_EXTENT_BYTES / BLOCK as u64,
    };
    let controller = |index: u8| KeptController {
        node: ControllerNodeId(Uuid::from_u128(0x600 + u128::from(index))),
        address: SocketAddr::from(([10, 0, 1, index + 1], 4420)),
        incarnation: Incarnation(Uuid::nil()),
    };
    Keeper::new(
        (0..legs).map(leg).collect(),
        (0..2).map(controller).collect(),
        Nqn::of_uuid(Uuid::from_u128(0x700)),
        POOL_EXTENT * BLOCK as u64,
    )
}
