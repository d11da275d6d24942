//! A story as it was recorded, and the moment at which it can be cut off.

use super::image::{Fate, Image, Media};
use super::promise::{HostNote, Promises};
use crate::keeper::Keeper;
use crate::world::DiskNote;
use cluster::node_config::VolumeConfig;
use cluster::{Incarnation, VolumeId};
use control::agent::MembershipRequest;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A change of the keeper's records.
#[derive(Clone, Debug)]
pub enum Change {
    /// An epoch was granted to a start of a controller node.
    Granted {
        /// Which controller node.
        owner: usize,
        /// Which start.
        incarnation: Incarnation,
    },
    /// The owner asked for it.
    Recorded(MembershipRequest),
    /// People want a volume of so many blocks.
    Added(u128, u64),
    /// The map knows it.
    Created(u128),
    /// People do not want it any more.
    Deleting(u128),
    /// The map does not know it any more.
    Deleted(u128),
    /// These legs are wished for, where a disk node is alone.
    Legs(Vec<u128>),
}

impl Change {
    /// The legs that are wished for from then on.
    pub fn legs(&self) -> Option<&Vec<u128>> {
        match self {
            Change::Legs(legs) => Some(legs),
            _ => None,
        }
    }

    /// Makes it.
    pub fn apply(&self, keeper: &mut Keeper) {
        let same = |volume: &u128, config: &VolumeConfig| config.volume == VolumeId(Uuid::from_u128(*volume));
        match self {
            Change::Granted { owner, incarnation } => {
                keeper.controllers[*owner].incarnation = *incarnation;
                keeper.grant(*owner);
            }
            Change::Recorded(request) => {
                keeper.record(request).unwrap_or_else(|broken| panic!("{broken}"));
            }
            Change::Added(volume, size_blocks) => keeper.volumes.push(VolumeConfig {
                volume: VolumeId(Uuid::from_u128(*volume)),
                nsid: u32::try_from(*volume & 0xff).expect("few volumes"),
                size_blocks: *size_blocks,
                hosts: keeper.hosts.clone(),
                created: false,
                deleting: false,
            }),
            Change::Created(volume) => {
                let of_volume = keeper.volumes.iter_mut().find(|config| same(volume, config));
                of_volume.expect("it was added").created = true;
            }
            Change::Deleting(volume) => {
                let of_volume = keeper.volumes.iter_mut().find(|config| same(volume, config));
                of_volume.expect("it was added").deleting = true;
            }
            Change::Legs(_) => unreachable!("a keeper has no part in stories of a disk node alone"),
            Change::Deleted(volume) => keeper.volumes.retain(|config| !same(volume, config)),
        }
    }
}

/// What is told of a story, in order.
#[derive(Clone, Debug)]
pub enum Note {
    /// By a disk.
    Disk(DiskNote),
    /// By the keeper.
    Keeper(Change),
    /// By the host.
    Host(HostNote),
    /// By a controller node: it holds this leg under this key (R2), so the leg has answered.
    Fenced {
        /// Which disk node's leg.
        leg: usize,
        /// The key: the owner's epoch.
        key: u64,
    },
    /// By whoever wrote the story.
    Said(&'static str),
}

/// Everything that outlives a power cut, and what was promised of it.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Disk by disk.
    pub disks: Vec<Image>,
    /// What the keeper was told since the pool was wished for.
    pub changes: Vec<Change>,
    /// What the host was promised.
    pub promises: Promises,
    /// The highest key that each leg has answered for.
    pub keys: BTreeMap<usize, u64>,
    /// How often the power has failed: names of processes are never used again.
    pub lives: u64,
    /// A disk node alone, with legs of an extent each: all behind its own part is hosts' data.
    pub is_shelf: bool,
}

impl Scene {
    /// Disks that nobody has used.
    pub fn new(disks: Vec<Media>) -> Scene {
        Scene {
            disks: disks.into_iter().map(Image::new).collect(),
            changes: Vec::new(),
            promises: Promises::default(),
            keys: BTreeMap::new(),
            lives: 0,
            is_shelf: false,
        }
    }

    /// One thing later.
    pub fn note(&mut self, note: &Note) {
        match note {
            Note::Disk(note) => {
                let (DiskNote::Asked { node, .. }
                | DiskNote::Ended { node, .. }
                | DiskNote::Left { node, .. }) = note;
                if let Some(disk) = self.disks.get_mut(node.0) {
                    disk.note(note);
                }
            }
            Note::Keeper(change) => self.changes.push(change.clone()),
            Note::Host(note) => self.promises.note(note),
            Note::Fenced { leg, key } => {
                let known = self.keys.entry(*leg).or_default();
                *known = (*known).max(*key);
            }
            Note::Said(_) => {}
        }
    }

    /// The power fails everywhere; disk by disk, what becomes of what was unsettled.
    pub fn cut(&self, fates: &[Vec<Fate>]) -> Scene {
        let disks = self.disks.iter().zip(fates);
        let mut promises = self.promises.clone();
        promises.cut();
        Scene {
            disks: disks.map(|(disk, fates)| Image::new(disk.cut(fates))).collect(),
            changes: self.changes.clone(),
            promises,
            keys: self.keys.clone(),
            lives: self.lives + 1,
            is_shelf: self.is_shelf,
        }
    }
}

/// A story that was told.
#[derive(Clone, Debug)]
pub struct Record {
    /// How it began.
    pub start: Scene,
    /// What happened, in order.
    pub notes: Vec<Note>,
}

impl Record {
    /// Moments at which a cut may find something else than at the one before: as numbers of notes that came before it.
    ///
    /// What a host or an owner was told changes nothing on a disk: so the cut comes behind it, where more was promised.
    pub fn moments(&self) -> Vec<usize> {
        let tells = |note: &Note| matches!(note, Note::Disk(_) | Note::Keeper(_));
        let before = self.notes.iter().enumerate().filter(|(_, note)| tells(note));
        before.map(|(at, _)| at).chain([self.notes.len()]).collect()
    }

    /// What was there after so many notes.
    pub fn scene(&self, notes: usize) -> Scene {
        let mut scene = self.start.clone();
        self.notes[..notes].iter().for_each(|note| scene.note(note));
        scene
    }
}
