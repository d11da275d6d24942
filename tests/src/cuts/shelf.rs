//! Where stories about one disk node alone are told: its disk, the legs that are wished for (an extent each), and a host that uses them
//! without anything between. Nobody fences here: the keys of fences are the pools' stories' matter.

use super::host::{Host, host_nqn};
use super::image::Media;
use super::promise::HostNote;
use super::recovery::Demand;
use super::scene::{Change, Note, Record, Scene};
use super::stage::{DISK_EXTENT_BYTES, disk_name};
use crate::world::{NodeName, Random};
use block::Time;
use cluster::node_config::{DiskNodeConfig, LegConfig};
use cluster::status::LegState;
use cluster::{DiskNodeId, Incarnation, LegId, PoolId, Revision};
use disk_node::format::{self, DATA_OFFSET, Superblock};
use disk_node::node::{GivenDisk, Node as DiskNode, NodeControl, NodeOptions, NodeReport};
use fabric::host::HostReport;
use fabric::target::TargetConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

/// How many legs fit.
pub const EXTENTS: u64 = 8;
/// Of each leg these blocks are looked at, written or not: where stories write, and the ends.
const LOOKED_AT: [(u64, u64); 3] = [(0, 16), (500, 16), (1008, 16)];
const PATIENCE: Duration = Duration::from_secs(20);
const POOL: PoolId = PoolId(Uuid::from_u128(0x100));
const NODE: DiskNodeId = DiskNodeId(Uuid::from_u128(0x800));

/// Everything that runs.
pub struct Shelf {
    /// The host, and the world.
    pub host: Host,
    wished: Vec<u128>,
    next_leg: u128,
    revision: u64,
    /// Legs the node has, and whether they are ready.
    told: BTreeMap<u128, bool>,
}

/// A disk that has just been formatted, with a node that has not started yet.
pub fn blank() -> Scene {
    let size_bytes = DATA_OFFSET + EXTENTS * DISK_EXTENT_BYTES;
    let superblock = Superblock::fresh(disk_name(0), None, size_bytes, DISK_EXTENT_BYTES)
        .expect("the disk is large enough");
    let mut media = Media::blank(size_bytes);
    for (offset, bytes) in format::formatting(&superblock) {
        media.write(offset, &bytes);
    }
    let mut scene = Scene::new(vec![media]);
    scene.is_shelf = true;
    scene
}

impl Shelf {
    /// Starts the node over its disk, and connects the host.
    pub fn begin(scene: Scene, seed: u64) -> Shelf {
        let wishes = || scene.changes.iter().filter_map(Change::legs);
        let wished = wishes().next_back().cloned().unwrap_or_default();
        let newest = wishes().flatten().max().copied().unwrap_or(0x500);
        let lives = u128::from(scene.lives) + 1;
        let mut shelf = Shelf {
            host: Host::new(scene, seed),
            wished,
            next_leg: newest + 1,
            revision: 0,
            told: BTreeMap::new(),
        };
        let disk = GivenDisk {
            path: "disk".to_owned(),
            volatile: false,
            size_bytes: DATA_OFFSET + EXTENTS * DISK_EXTENT_BYTES,
            born: None,
            fault: None,
        };
        let machine = DiskNode::new(NodeOptions {
            node: NODE,
            incarnation: Incarnation(Uuid::from_u128(lives << 96)),
            reactor: None,
            disks: vec![disk],
            target: TargetConfig::default(),
        });
        shelf.host.world.start(NodeName(0), Box::new(machine));
        shelf.push();
        let address = SocketAddr::from(([10, 0, 0, 1], 4420));
        shelf.host.connect(&disk_name(0).subsystem_nqn(), vec![address]);
        shelf
    }

    fn push(&mut self) {
        let leg = |leg: &u128| LegConfig {
            leg: LegId(Uuid::from_u128(*leg)),
            disk: disk_name(0),
            nsid: u32::try_from(leg & 0xff).expect("few legs"),
            extents: 1,
            hosts: BTreeSet::from([host_nqn()]),
        };
        self.revision += 1;
        let config = DiskNodeConfig {
            node: NODE,
            revision: Revision(self.revision),
            legs: BTreeMap::from([(POOL, self.wished.iter().map(leg).collect())]),
        };
        let control = Box::new(NodeControl::Apply(config));
        self.host
            .world
            .control_after(NodeName(0), Duration::from_micros(500), control);
    }

    /// So many legs more, and these no more; all that is begun.
    pub fn wish(&mut self, more: u64, gone: &[u128]) -> Vec<u128> {
        let new: Vec<u128> = (self.next_leg..).take(more as usize).collect();
        self.next_leg += u128::from(more);
        self.wished.retain(|leg| !gone.contains(leg));
        self.wished.extend(&new);
        self.host.note(Note::Keeper(Change::Legs(self.wished.clone())));
        for volume in gone {
            self.host.note(Note::Host(HostNote::Forgets { volume: *volume }));
        }
        self.push();
        new
    }

    /// The legs that are wished for are there, for the host too, and no others.
    ///
    /// # Errors
    /// They do not come, or a rule does not hold.
    pub fn settled(&mut self) -> Result<(), String> {
        self.until("legs are ready", |shelf| {
            let ready = |leg: &u128| shelf.told.get(leg) == Some(&true) && shelf.host.sees(*leg);
            shelf.told.len() == shelf.wished.len() && shelf.wished.iter().all(ready)
        })
    }

    /// Everything the host asked for has ended.
    ///
    /// # Errors
    /// As [`Shelf::settled`].
    pub fn wait(&mut self) -> Result<(), String> {
        self.until("requests end", |shelf| shelf.host.is_quiet())
    }

    fn until(&mut self, what: &str, reached: impl Fn(&Shelf) -> bool) -> Result<(), String> {
        let deadline = self.host.world.now() + PATIENCE;
        while !reached(self) {
            if self.host.world.now() >= deadline {
                return Err(format!(
                    "{PATIENCE:?} are not enough until {what}: {:?}",
                    self.told
                ));
            }
            self.step(deadline)?;
        }
        Ok(())
    }

    fn step(&mut self, until: Time) -> Result<(), String> {
        self.host.world.step(until);
        self.host.collect();
        while let Some((_, report)) = self.host.world.reports.pop_front() {
            let report = match report.downcast::<HostReport>() {
                Ok(report) => {
                    self.host.hear(*report)?;
                    continue;
                }
                Err(report) => report,
            };
            let report = report.downcast::<NodeReport>().expect("nobody else speaks here");
            // Before it has booted it may be said that a disk is still being read.
            let disks = report.status.disks.iter().filter(|_| report.booted);
            if let Some(fault) = disks.filter_map(|disk| disk.fault.clone()).next() {
                return Err(format!("R12: the disk node: {fault}"));
            }
            let legs = report.status.legs.iter();
            let told = legs.map(|leg| (leg.leg.0.as_u128(), leg.state == LegState::Ready));
            self.told = told.collect();
        }
        Ok(())
    }

    /// Looks at every leg.
    fn look(&mut self) -> Result<(), String> {
        for leg in self.wished.clone() {
            for (start, blocks) in LOOKED_AT {
                self.host.read(leg, start, blocks);
            }
        }
        self.wait()
    }
}

/// Starts the node after a power cut, and checks it.
///
/// # Errors
/// The first rule that does not hold.
pub fn recover(scene: Scene, demand: Demand) -> Result<Record, String> {
    let mut random = Random::new(demand.seed);
    let mut shelf = Shelf::begin(scene, demand.seed);
    shelf.host.torn_data = demand.torn_data;
    shelf.settled()?;
    shelf.look()?;
    for leg in shelf.wished.clone() {
        shelf.host.write(leg, 5, 1, random.one_in(2));
    }
    shelf.wait()?;
    // R10: all that is free is given away, and nothing of what it held before is in it.
    let free = EXTENTS - shelf.wished.len() as u64;
    shelf.wish(free, &[]);
    shelf.settled()?;
    shelf.look()?;
    for leg in shelf.wished.clone() {
        shelf.host.flush(leg);
    }
    shelf.wait()?;
    shelf.look()?;
    shelf.host.rest();
    Ok(shelf.host.end())
}
