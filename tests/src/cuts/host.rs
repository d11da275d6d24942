//! The host of a story: asks for what the story wants, notes what it was promised, judges what it reads. With it the world it lives in and
//! the record of everything that happens there.

use super::image::SECTOR;
use super::promise::{HostNote, Promises, Since};
use super::scene::{Note, Record, Scene};
use crate::world::{NodeName, World, WorldOptions};
use block::BlockRange;
use cluster::Nqn;
use fabric::host::{
    AssociationConfig, HostControl, HostNode, HostOperation, HostReport, MultipathConfig, VolumeId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

const BLOCK: usize = 4096;

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

/// The name under which hosts of these stories are let in.
pub fn host_nqn() -> Nqn {
    Nqn::of_uuid(Uuid::from_u128(0x700))
}

/// The host.
pub struct Host {
    /// Everything that runs.
    pub world: World,
    /// Everything that happened.
    pub record: Record,
    name: NodeName,
    promises: Promises,
    asked: BTreeMap<u64, Asked>,
    next_id: u64,
    /// What reads found, by block.
    found: BTreeMap<(u128, u64), Vec<u8>>,
    /// Volumes that the host sees.
    seen: BTreeSet<u128>,
    /// Blocks may be mixed of what is allowed, sector by sector.
    pub torn_data: bool,
}

impl Host {
    /// A host that is not connected, in a world with a node for each disk of a scene, named by their numbers.
    pub fn new(scene: Scene, seed: u64) -> Host {
        let mut world = World::new(seed, options());
        world.disk_notes = Some(Vec::new());
        for (index, image) in scene.disks.iter().enumerate() {
            let address = SocketAddr::from(([10, 0, 0, index as u8 + 1], 4420));
            world.add_node(address, vec![image.media().disk()]);
        }
        let name = world.add_node(SocketAddr::from(([10, 0, 2, 1], 1)), Vec::new());
        Host {
            world,
            name,
            promises: scene.promises.clone(),
            asked: BTreeMap::new(),
            next_id: (scene.lives + 1) << 32,
            found: BTreeMap::new(),
            seen: BTreeSet::new(),
            torn_data: false,
            record: Record {
                start: scene,
                notes: Vec::new(),
            },
        }
    }

    /// Connects to a subsystem, over these addresses.
    pub fn connect(&mut self, nqn: &Nqn, addresses: Vec<SocketAddr>) {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut association = AssociationConfig::new(&host_nqn().0, [7; 16], &nqn.0, nowhere);
        association.reconnect_delay = Duration::from_millis(5);
        association.reconnect_delay_max = Duration::from_millis(5);
        let machine = HostNode::new(MultipathConfig::new(association));
        self.world.start(self.name, Box::new(machine));
        let control = HostControl::Connect { addresses };
        self.world
            .control_after(self.name, Duration::from_millis(1), Box::new(control));
    }

    /// Notes what happened.
    pub fn note(&mut self, note: Note) {
        self.collect();
        if let Note::Host(note) = &note {
            self.promises.note(note);
        }
        self.record.notes.push(note);
    }

    /// Notes what disks have said since.
    pub fn collect(&mut self) {
        let notes = self
            .world
            .disk_notes
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        self.record.notes.extend(notes.into_iter().map(Note::Disk));
    }

    /// For whoever reads the record.
    pub fn say(&mut self, words: &'static str) {
        self.note(Note::Said(words));
    }

    /// Everything that happened.
    pub fn end(mut self) -> Record {
        self.collect();
        self.record
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
            .control_after(self.name, Duration::from_micros(1), Box::new(control));
        id
    }

    /// Whether everything that was asked for has ended.
    pub fn is_quiet(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether it sees a volume.
    pub fn sees(&self, volume: u128) -> bool {
        self.seen.contains(&volume)
    }

    /// What was found when these blocks were read last.
    pub fn found(&self) -> &BTreeMap<(u128, u64), Vec<u8>> {
        &self.found
    }

    /// The promises made so far.
    pub fn promises(&self) -> &Promises {
        &self.promises
    }

    /// Notes that everything is at rest, and what it holds.
    pub fn rest(&mut self) {
        let values = self
            .found
            .iter()
            .filter_map(|(at, bytes)| Some((*at, value_of(bytes)?)));
        let values = values.collect();
        self.note(Note::Host(HostNote::Rests { values }));
    }

    /// It said something.
    ///
    /// # Errors
    /// What it said breaks a promise.
    pub fn hear(&mut self, report: HostReport) -> Result<(), String> {
        let (id, result) = match report {
            HostReport::Completed { id, result } => (id, result),
            HostReport::PathsChanged(_) | HostReport::PathReady { .. } => {
                let ask = Box::new(HostControl::Volumes);
                self.world.control_after(self.name, Duration::ZERO, ask);
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
