//! What hosts do: reads, writes, flushes, zeroes and compares on a few blocks that all of them use, so that much of it overlaps; and
//! volumes that come and go, so that space changes hands.
//!
//! A block of a write is the write's number over and over; zeroes are zeroes.

use super::legs::Acknowledged;
use super::words::{bytes_of, paths_in_short, value_of};
use super::{BLOCK, Broken, Fabric, Rule};
use crate::history::{Moment, Place, WriteId};
use crate::world::NodeName;
use block::{BlockRange, Time};
use fabric::host::{HostControl, HostOperation, HostReport, PathStatus, VolumeId};
use nvme::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// Blocks of the pool's extents.
pub(super) const EXTENT_BLOCKS: u64 = super::nodes::EXTENT_BYTES / BLOCK as u64;
/// Where hosts begin their operations: so many places, so far from each other.
const HOT: u64 = 80;
const HOT_STRIDE: u64 = 97;
/// The longest operation begins this far behind a hot place, and has so many blocks.
const HOT_JITTER: u64 = 3;
const LENGTH_MAX: u64 = 5;
/// The volume that stays.
const LASTING: u64 = 1;
const LASTING_BLOCKS: u64 = HOT * HOT_STRIDE + EXTENT_BLOCKS;
/// The volumes that come and go, one at a time.
const PASSING_BLOCKS: u64 = 3 * EXTENT_BLOCKS;
/// For how long one of them is there, at most.
const PASSING_MS_MAX: u64 = 6_000;
/// Operations in flight of each host.
const DEPTH: usize = 7;
/// How long a host waits, half of the time, before it asks for the next thing.
const THINK_US_MAX: u64 = 30_000;
/// For so long an answer may be under way to a host whose owner has died.
const ANSWERS_LAST: Duration = Duration::from_millis(100);
/// A sector: what a disk writes whole.
const SECTOR: usize = 512;

/// An operation of a host's.
#[derive(Clone, Debug)]
struct Running {
    host: NodeName,
    volume: u64,
    asked: Moment,
    since: Time,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Read { block: u64, length: u64 },
    Write { block: u64, length: u64, durable: bool },
    Compare { block: u64, value: u64 },
    Flush,
}

/// How far a volume that comes and goes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    /// Wanted; hosts do not all see it yet.
    Coming,
    /// Used until then.
    Used(Time),
    /// Not used any more; its operations are ending.
    Ending,
    /// Wanted no longer.
    Going,
}

/// What hosts do.
#[derive(Debug)]
pub(super) struct Load {
    operations: BTreeMap<u64, Running>,
    next: u64,
    /// What each host sees, and where.
    seen: BTreeMap<NodeName, BTreeSet<VolumeId>>,
    /// The volume that comes and goes: its number.
    passing: u64,
    state: Passing,
    /// No more volumes come and go.
    resting: bool,
    /// Every write is durable: there is only ever one leg.
    lone: bool,
    /// When every leg lost its cache last.
    lost_power: Option<(Time, Moment)>,
}

impl Load {
    pub(super) fn new(lone: bool) -> Load {
        Load {
            operations: BTreeMap::new(),
            next: 1,
            seen: BTreeMap::new(),
            passing: LASTING + 1,
            state: Passing::Coming,
            resting: false,
            lone,
            lost_power: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.operations.is_empty()
    }

    /// What has not ended, for people.
    pub(super) fn waiting(&self) -> String {
        let lines = self.operations.values();
        let line = |one: &Running| {
            format!(
                "{:?} of volume {} since {:.3} s",
                one.what,
                one.volume,
                one.since.0 as f64 / 1e9
            )
        };
        lines.map(line).collect::<Vec<_>>().join(", ")
    }

    /// When a volume is to go.
    pub(super) fn next_volume_change(&self) -> Option<Time> {
        match self.state {
            Passing::Used(until) if !self.resting => Some(until),
            _ => None,
        }
    }

    /// How many volumes came and went.
    pub(super) fn volumes_gone(&self) -> u64 {
        self.passing - LASTING - 1
    }

    /// Whether an extent of a volume is being given back.
    pub(super) fn gives_back(&self, volume: u64, extent: u64) -> bool {
        let whole = |what: What| matches!(what, What::Write { block, length: EXTENT_BLOCKS, .. } if block == extent * EXTENT_BLOCKS);
        self.operations
            .values()
            .any(|one| one.volume == volume && whole(one.what))
    }

    /// From now on no volumes come and go.
    pub(super) fn rest(&mut self) {
        self.resting = true;
    }

    fn is_usable(&self, volume: u64) -> bool {
        volume == LASTING || matches!(self.state, Passing::Used(_)) && volume == self.passing
    }
}

/// A volume of the load, as the pool knows it.
pub(super) fn volume_id(number: u64) -> cluster::VolumeId {
    cluster::VolumeId(Uuid::from_u128(0x500 + u128::from(number)))
}

fn at_host(number: u64) -> VolumeId {
    VolumeId(*volume_id(number).0.as_bytes())
}

impl Fabric {
    pub(super) fn begin_volumes(&mut self) {
        self.keeper.add_volume(volume_id(LASTING), LASTING_BLOCKS);
        self.keeper
            .add_volume(volume_id(self.load.passing), PASSING_BLOCKS);
    }

    /// One volume goes and the next one comes, in its space.
    pub(super) fn change_volumes(&mut self) {
        let now = self.world.now();
        let passing = self.load.passing;
        let in_use = self.load.operations.values().any(|one| one.volume == passing);
        let kept = self
            .keeper
            .volumes
            .iter()
            .any(|volume| volume.volume == volume_id(passing));
        match self.load.state {
            Passing::Coming if self.hosts.iter().all(|host| self.sees(*host, passing)) => {
                let span = Duration::from_millis(500 + self.world.random.below(PASSING_MS_MAX));
                self.load.state = Passing::Used(now + span);
                self.tell("volume", || format!("{passing} is there"));
            }
            Passing::Used(until) if until <= now && !self.load.resting => self.load.state = Passing::Ending,
            Passing::Ending if !in_use => {
                self.tell("volume", || format!("{passing} is not wanted any more"));
                self.keeper.delete_volume(volume_id(passing));
                // Its space may be another's from here on.
                self.legs.forget_volume(passing);
                self.load.state = Passing::Going;
                self.push_all();
            }
            Passing::Going if !kept => {
                self.tell("volume", || {
                    format!("{passing} is gone; {} is wanted", passing + 1)
                });
                self.history.forget_volume(passing);
                self.load.passing += 1;
                self.keeper
                    .add_volume(volume_id(self.load.passing), PASSING_BLOCKS);
                self.load.state = Passing::Coming;
                self.push_all();
            }
            _ => {}
        }
    }

    pub(super) fn sees(&self, host: NodeName, volume: u64) -> bool {
        let seen = self.load.seen.get(&host);
        seen.is_some_and(|seen| seen.contains(&at_host(volume)))
    }

    pub(super) fn hear_host(&mut self, host: NodeName, report: HostReport) -> Result<(), Broken> {
        match report {
            HostReport::Completed { id, result } => self.ended(id, result),
            HostReport::PathReady { address, .. } => {
                self.tell("path", || format!("{} has a path to {address}", self.name(host)));
                let control = Box::new(HostControl::Paths);
                self.world.control_after(host, Duration::ZERO, control);
                Ok(())
            }
            HostReport::PathLost { address, reason } => {
                self.tell("path", || {
                    format!("{} has none to {address}: {reason}", self.name(host))
                });
                Ok(())
            }
            HostReport::PathsChanged(paths) | HostReport::Paths(paths) => {
                let seen = |path: &PathStatus| {
                    path.namespaces
                        .iter()
                        .map(|(volume, _)| *volume)
                        .collect::<Vec<_>>()
                };
                let all = paths.iter().flat_map(seen).collect();
                self.tell("path", || {
                    format!("{} sees {}", self.name(host), paths_in_short(&paths))
                });
                self.load.seen.insert(host, all);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn ended(&mut self, id: u64, result: Result<Vec<u8>, Status>) -> Result<(), Broken> {
        let Some(one) = self.load.operations.remove(&id) else {
            return Err(Broken::new(Rule::Liveness, format!("operation {id} ends twice")));
        };
        self.outcome.operations += 1;
        let volume = one.volume;
        let bytes = match (result, one.what) {
            (Ok(bytes), _) => bytes,
            (Err(status), What::Compare { .. }) if status.is(Status::COMPARE_FAILURE) => return Ok(()),
            (Err(status), _) => {
                return Err(Broken::new(
                    Rule::R7,
                    format!("a host was told {status} for {one:?}"),
                ));
            }
        };
        match one.what {
            What::Read { block, length } => (0..length).try_for_each(|at| {
                let part = &bytes[at as usize * BLOCK..(at as usize + 1) * BLOCK];
                let place = Place {
                    volume,
                    block: block + at,
                };
                self.block_read(place, one.asked, part)
            }),
            What::Write {
                block,
                length,
                durable,
            } => {
                let durable = durable || self.load.lone;
                if !durable && self.may_be_lost(&one) {
                    return Ok(());
                }
                for at in 0..length {
                    let place = Place {
                        volume,
                        block: block + at,
                    };
                    self.history.write_ends(WriteId(id), place, durable);
                }
                self.check_acknowledged(&Acknowledged {
                    volume,
                    id,
                    block,
                    length,
                    asked: one.asked,
                })
            }
            What::Compare { block, value } => self.value_read(Place { volume, block }, one.asked, value),
            What::Flush => {
                self.history.flushed(volume, one.asked);
                Ok(())
            }
        }
    }

    /// An answer that may have been under way to the host when every leg lost its cache.
    fn may_be_lost(&self, one: &Running) -> bool {
        let lost = self.load.lost_power;
        lost.is_some_and(|(at, moment)| one.asked < moment && self.world.now() < at + ANSWERS_LAST)
    }

    /// Every leg is about to lose its cache.
    pub(super) fn lose_caches(&mut self) {
        if !self.load.lone {
            self.history.power_lost();
            self.load.lost_power = Some((self.world.now(), self.history.moment()));
        }
    }

    fn block_read(&mut self, place: Place, asked: Moment, bytes: &[u8]) -> Result<(), Broken> {
        if let Some(value) = value_of(bytes) {
            return self.value_read(place, asked, value);
        }
        let fits =
            |sector: &[u8]| value_of(sector).is_some_and(|value| self.history.sector_fits(place, value));
        if self.history.may_be_torn(place) && bytes.chunks(SECTOR).all(fits) {
            return Ok(());
        }
        let sectors: Vec<Option<u64>> = bytes.chunks(SECTOR).map(value_of).collect();
        let what = format!(
            "{place:?} is torn or foreign: {sectors:x?}, of {}",
            self.history.words(place)
        );
        Err(Broken::new(Rule::History, what))
    }

    fn value_read(&mut self, place: Place, asked: Moment, value: u64) -> Result<(), Broken> {
        let rule = match self.history.has_lost_power() {
            true => Rule::R12,
            false => Rule::History,
        };
        let known = value == 0 || value < self.load.next;
        let rule = if known { rule } else { Rule::R10 };
        let read = self.history.read_ends(place, asked, value);
        read.map_err(|what| Broken::new(rule, what))
    }

    /// Hosts ask for more.
    pub(super) fn keep_busy(&mut self) {
        for host in self.hosts.clone() {
            let running = self
                .load
                .operations
                .values()
                .filter(|one| one.host == host)
                .count();
            // Nobody uses a volume that was never there for him.
            let of = |number: &u64| self.load.is_usable(*number) && self.sees(host, *number);
            let volumes: Vec<u64> = [LASTING, self.load.passing].into_iter().filter(of).collect();
            for _ in running..DEPTH * volumes.len().min(1) {
                let volume = volumes[usize::from(self.world.random.one_in(4)) % volumes.len()];
                // Bursts and pauses: the end of one and the next.
                let think = self.world.random.below(THINK_US_MAX) * self.world.random.below(2);
                self.begin(host, volume, Duration::from_micros(think));
            }
        }
    }

    fn begin(&mut self, host: NodeName, volume: u64, think: Duration) {
        let random = &mut self.world.random;
        let hot = match volume == LASTING {
            true => random.below(HOT),
            false => random.below((PASSING_BLOCKS - HOT_JITTER - LENGTH_MAX) / HOT_STRIDE),
        };
        let block = hot * HOT_STRIDE + random.below(HOT_JITTER);
        let length = [1, 1, 1, 2, LENGTH_MAX][random.below(5) as usize];
        let id = self.load.next;
        match random.below(40) {
            0 | 1 => self.submit(host, volume, What::Flush, HostOperation::Flush, think),
            2 | 3 => {
                let deallocate = random.one_in(2);
                let range = BlockRange::new(block, length);
                let operation = HostOperation::WriteZeroes { range, deallocate };
                self.write(host, volume, (block, length, 0), operation, think);
            }
            4 => {
                let range = BlockRange::new(block, length);
                self.write(
                    host,
                    volume,
                    (block, length, 0),
                    HostOperation::Deallocate { range },
                    think,
                );
            }
            5 if random.one_in(8) => self.give_back(host, volume, hot * HOT_STRIDE / EXTENT_BLOCKS, think),
            6 => {
                let value = id.saturating_sub(random.below(200));
                let bytes = bytes_of(value, 1);
                let operation = HostOperation::Compare { start: block, bytes };
                self.submit(host, volume, What::Compare { block, value }, operation, think);
            }
            7..=22 => {
                let durable = random.one_in(8);
                let operation = HostOperation::Write {
                    start: block,
                    bytes: bytes_of(id, length),
                    durable,
                };
                self.write(host, volume, (block, length, id), operation, think);
            }
            _ => self.read(host, volume, (block, length), think),
        }
    }

    /// A whole extent, and what it held, goes back to the pool.
    fn give_back(&mut self, host: NodeName, volume: u64, extent: u64, think: Duration) {
        let (block, length) = (extent * EXTENT_BLOCKS, EXTENT_BLOCKS);
        let range = BlockRange::new(block, length);
        self.legs.unmap(volume, extent, Moment::MAX);
        self.write(
            host,
            volume,
            (block, length, 0),
            HostOperation::Deallocate { range },
            think,
        );
    }

    fn write(
        &mut self,
        host: NodeName,
        volume: u64,
        (block, length, value): (u64, u64, u64),
        operation: HostOperation,
        think: Duration,
    ) {
        for at in block..block + length {
            self.history
                .write_begins(WriteId(self.load.next), Place { volume, block: at }, value);
        }
        let durable = matches!(operation, HostOperation::Write { durable: true, .. });
        let what = What::Write {
            block,
            length,
            durable,
        };
        self.submit(host, volume, what, operation, think);
    }

    pub(super) fn read(&mut self, host: NodeName, volume: u64, (block, length): (u64, u64), think: Duration) {
        let range = BlockRange::new(block, length);
        self.submit(
            host,
            volume,
            What::Read { block, length },
            HostOperation::Read { range },
            think,
        );
    }

    fn submit(&mut self, host: NodeName, volume: u64, what: What, operation: HostOperation, think: Duration) {
        let id = self.load.next;
        self.load.next += 1;
        let one = Running {
            host,
            volume,
            asked: self.history.moment(),
            since: self.world.now(),
            what,
        };
        self.load.operations.insert(id, one);
        let control = HostControl::Submit {
            id,
            volume: at_host(volume),
            operation,
        };
        self.world.control_after(host, think, Box::new(control));
    }

    /// Everything that hosts use, once, by turns.
    pub(super) fn read_all(&mut self) {
        let length = HOT_JITTER + LENGTH_MAX - 1;
        for hot in 0..HOT {
            let host = self.hosts[hot as usize % self.hosts.len()];
            self.read(host, LASTING, (hot * HOT_STRIDE, length), Duration::ZERO);
        }
        let passing = self.load.passing;
        if self.load.is_usable(passing) {
            for hot in 0..(PASSING_BLOCKS - length) / HOT_STRIDE {
                let host = self.hosts[hot as usize % self.hosts.len()];
                self.read(host, passing, (hot * HOT_STRIDE, length), Duration::ZERO);
            }
        }
    }
}
