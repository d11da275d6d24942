//! The extent table: which extents belong to which leg, how far each is zeroed, and its reservations.
//!
//! Invariants of a table that was decoded: identities and namespace identifiers are unique, every leg has extents, no
//! extent belongs to two legs, all lie on the disk.

use super::SLOT_BYTES;
use block::BLOCK_SIZE;
use cluster::{DiskId, LegId};
use fabric::target::{Held, HostId, REGISTRANTS_MAX, ReservationState, ReservationType};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: [u8; 8] = *b"TRSTLTAB";
const VERSION: u32 = 1;
const FLAG_PERSIST: u32 = 1;

/// Extents in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The first.
    pub start: u64,
    /// How many.
    pub count: u64,
}

impl Run {
    /// The first extent behind it.
    pub fn end(self) -> u64 {
        self.start + self.count
    }
}

/// A leg as the disk knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegRecord {
    /// Its namespace identifier.
    pub nsid: u32,
    /// Its extents, in its own order.
    pub runs: Vec<Run>,
    /// So many of its extents, from its start, have been zeroed (R10).
    pub zeroed: u64,
    /// Its reservations (R2).
    pub reservation: ReservationState,
}

impl LegRecord {
    /// How many extents it has.
    pub fn extents(&self) -> u64 {
        self.runs.iter().map(|run| run.count).sum()
    }
}

/// The table of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentTable {
    /// Which disk.
    pub disk: DiskId,
    /// Its legs.
    pub legs: BTreeMap<LegId, LegRecord>,
}

/// Why a slot cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTable {
    /// Never written.
    #[error("it was never written")]
    Empty,
    /// Torn, or rotten.
    #[error("its checksum is wrong")]
    Checksum,
    /// Written by a later release.
    #[error("it was written by a later release")]
    Version,
    /// Of another disk.
    #[error("it belongs to another disk")]
    OtherDisk,
    /// Its contents contradict each other though the checksum is right.
    #[error("its contents contradict each other")]
    Contents,
}

impl BadTable {
    /// Whether the slot was written whole.
    fn sealed(self) -> bool {
        matches!(self, BadTable::Version | BadTable::OtherDisk | BadTable::Contents)
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    checksum: U32,
    disk: [u8; 16],
    sequence: U64,
    length: U32,
    legs: U32,
    reserved: [u8; 16],
}

const _: () = assert!(size_of::<RawHeader>() == 64);
const CHECKSUM_AT: usize = 12;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawLeg {
    leg: [u8; 16],
    zeroed: U64,
    highest_key: U64,
    holder: [u8; 16],
    nsid: U32,
    runs: U32,
    registrants: U32,
    generation: U32,
    flags: U32,
    /// Zero: none held.
    held_type: U32,
}

const _: () = assert!(size_of::<RawLeg>() == 72);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawRun {
    start: U64,
    count: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawRegistrant {
    host: [u8; 16],
    key: U64,
}

impl ExtentTable {
    /// Without legs.
    pub fn new(disk: DiskId) -> ExtentTable {
        ExtentTable {
            disk,
            legs: BTreeMap::new(),
        }
    }

    /// Whether the table fits into its slot whatever its legs' reservations become.
    pub fn always_fits(&self) -> bool {
        let leg = |record: &LegRecord| {
            size_of::<RawLeg>()
                + record.runs.len() * size_of::<RawRun>()
                + REGISTRANTS_MAX * size_of::<RawRegistrant>()
        };
        let legs: usize = self.legs.values().map(leg).sum();
        size_of::<RawHeader>() + legs <= SLOT_BYTES as usize
    }

    /// As it is written to a slot: whole blocks. `None` if it does not fit.
    pub fn encode(&self, sequence: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; size_of::<RawHeader>()];
        self.legs
            .iter()
            .for_each(|(leg, record)| encode_leg(*leg, record, &mut bytes));
        if bytes.len() > SLOT_BYTES as usize {
            return None;
        }
        let header = RawHeader {
            magic: MAGIC,
            version: U32::new(VERSION),
            checksum: U32::ZERO,
            disk: *self.disk.0.as_bytes(),
            sequence: U64::new(sequence),
            length: U32::new(bytes.len() as u32),
            legs: U32::new(self.legs.len() as u32),
            reserved: [0; 16],
        };
        bytes[..size_of::<RawHeader>()].copy_from_slice(header.as_bytes());
        let checksum = crc32c::crc32c(&bytes);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK_SIZE as usize), 0);
        Some(bytes)
    }

    /// Reads a slot of this disk, which has so many extents; answers the table and its sequence number.
    pub fn decode(slot: &[u8], disk: DiskId, extents: u64) -> Result<(ExtentTable, u64), BadTable> {
        let (header, _) = RawHeader::ref_from_prefix(slot).map_err(|_| BadTable::Empty)?;
        if header.magic != MAGIC {
            let never = slot.iter().all(|byte| *byte == 0);
            return Err(if never {
                BadTable::Empty
            } else {
                BadTable::Checksum
            });
        }
        let length = header.length.get() as usize;
        let bytes = slot.get(..length).ok_or(BadTable::Checksum)?;
        let mut rest = bytes.get(size_of::<RawHeader>()..).ok_or(BadTable::Checksum)?;
        if checksum_of(bytes) != header.checksum.get() {
            return Err(BadTable::Checksum);
        }
        if header.version.get() != VERSION {
            return Err(BadTable::Version);
        }
        if header.disk != *disk.0.as_bytes() {
            return Err(BadTable::OtherDisk);
        }
        let mut table = ExtentTable::new(disk);
        for _ in 0..header.legs.get() {
            let (leg, record) = decode_leg(&mut rest).ok_or(BadTable::Contents)?;
            if table.legs.insert(leg, record).is_some() {
                return Err(BadTable::Contents);
            }
        }
        let sound = rest.is_empty() && table.sound(extents);
        sound
            .then(|| (table, header.sequence.get()))
            .ok_or(BadTable::Contents)
    }

    fn sound(&self, extents: u64) -> bool {
        let nsids: BTreeSet<u32> = self.legs.values().map(|record| record.nsid).collect();
        let mut runs: Vec<Run> = self
            .legs
            .values()
            .flat_map(|record| record.runs.clone())
            .collect();
        runs.sort();
        let ends = |run: &Run| run.start.checked_add(run.count).is_some_and(|end| end <= extents);
        nsids.len() == self.legs.len()
            && !nsids.contains(&0)
            && runs.iter().all(|run| run.count > 0 && ends(run))
            && runs.windows(2).all(|pair| pair[0].end() <= pair[1].start)
            && self
                .legs
                .values()
                .all(|record| !record.runs.is_empty() && record.zeroed <= record.extents())
    }
}

fn checksum_of(bytes: &[u8]) -> u32 {
    let before = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
    let blank = crc32c::crc32c_append(before, &[0; 4]);
    crc32c::crc32c_append(blank, &bytes[CHECKSUM_AT + 4..])
}

fn encode_leg(leg: LegId, record: &LegRecord, bytes: &mut Vec<u8>) {
    let state = &record.reservation;
    let raw = RawLeg {
        leg: *leg.0.as_bytes(),
        zeroed: U64::new(record.zeroed),
        highest_key: U64::new(state.highest_key),
        holder: state.held.map_or([0; 16], |held| held.holder.0),
        nsid: U32::new(record.nsid),
        runs: U32::new(record.runs.len() as u32),
        registrants: U32::new(state.registrants.len() as u32),
        generation: U32::new(state.generation),
        flags: U32::new(if state.persist_through_power_loss {
            FLAG_PERSIST
        } else {
            0
        }),
        held_type: U32::new(state.held.map_or(0, |held| held.kind as u32)),
    };
    bytes.extend_from_slice(raw.as_bytes());
    for run in &record.runs {
        let raw = RawRun {
            start: U64::new(run.start),
            count: U64::new(run.count),
        };
        bytes.extend_from_slice(raw.as_bytes());
    }
    for (host, key) in &state.registrants {
        let raw = RawRegistrant {
            host: host.0,
            key: U64::new(*key),
        };
        bytes.extend_from_slice(raw.as_bytes());
    }
}

fn take<'a, T: FromBytes + KnownLayout + Immutable + Unaligned>(rest: &mut &'a [u8]) -> Option<&'a T> {
    let (value, behind) = T::ref_from_prefix(rest).ok()?;
    *rest = behind;
    Some(value)
}

fn decode_leg(rest: &mut &[u8]) -> Option<(LegId, LegRecord)> {
    let raw: &RawLeg = take(rest)?;
    let runs = (0..raw.runs.get()).map(|_| {
        take(rest).map(|run: &RawRun| Run {
            start: run.start.get(),
            count: run.count.get(),
        })
    });
    let runs = runs.collect::<Option<Vec<Run>>>()?;
    let registrants = (0..raw.registrants.get()).map(|_| {
        take(rest).map(|registrant: &RawRegistrant| (HostId(registrant.host), registrant.key.get()))
    });
    let registrants = registrants.collect::<Option<BTreeMap<HostId, u64>>>()?;
    let record = LegRecord {
        nsid: raw.nsid.get(),
        runs,
        zeroed: raw.zeroed.get(),
        reservation: ReservationState {
            generation: raw.generation.get(),
            persist_through_power_loss: raw.flags.get() & FLAG_PERSIST != 0,
            highest_key: raw.highest_key.get(),
            held: decode_held(raw)?,
            registrants,
        },
    };
    let state = &record.reservation;
    let held_by_one = state
        .held
        .is_none_or(|held| state.registrants.contains_key(&held.holder));
    let whole = state.registrants.len() == raw.registrants.get() as usize;
    (held_by_one && whole && state.registrants.len() <= REGISTRANTS_MAX)
        .then(|| (LegId(Uuid::from_bytes(raw.leg)), record))
}

fn decode_held(raw: &RawLeg) -> Option<Option<Held>> {
    let code = raw.held_type.get();
    if code == 0 {
        return Some(None);
    }
    let kind = ReservationType::from_code(u8::try_from(code).ok()?)?;
    let holder = HostId(raw.holder);
    Some(Some(Held { kind, holder }))
}

/// Which slot holds the newest durable table, and which is written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    newest: usize,
    sequence: u64,
}

impl Slots {
    /// Of a disk that has just been formatted.
    pub fn fresh() -> Slots {
        Slots {
            newest: 1,
            sequence: 1,
        }
    }

    /// Where the next table goes, and under which sequence number: never over the newest durable one, however often a
    /// write has failed.
    pub fn next(&self) -> (usize, u64) {
        (1 - self.newest, self.sequence + 1)
    }

    /// The write that [`Slots::next`] told of is durable.
    pub fn written(&mut self) {
        (self.newest, self.sequence) = self.next();
    }
}

/// What the two slots say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The newest table that can be believed.
    pub table: ExtentTable,
    /// Where it lies.
    pub slots: Slots,
    /// The other slot holds the same: either may rot.
    pub settled: bool,
}

/// Reads both slots. If neither can be believed, answers why not, slot by slot.
pub fn recover(slots: [&[u8]; 2], disk: DiskId, extents: u64) -> Result<Recovered, [BadTable; 2]> {
    let found = |newest: usize, (table, sequence), settled| Recovered {
        table,
        slots: Slots { newest, sequence },
        settled,
    };
    match slots.map(|slot| ExtentTable::decode(slot, disk, extents)) {
        // Sealed by its checksum, and yet not to be used (a later release has been here): no torn write looks like that,
        // and the table before it is not the truth.
        [Err(first), second] if first.sealed() => Err([first, second.err().unwrap_or(first)]),
        [first, Err(second)] if second.sealed() => Err([first.err().unwrap_or(second), second]),
        [Ok(first), Ok(second)] => {
            let settled = first.0 == second.0;
            Ok(if first.1 > second.1 {
                found(0, first, settled)
            } else {
                found(1, second, settled)
            })
        }
        [Ok(first), Err(_)] => Ok(found(0, first, false)),
        [Err(_), Ok(second)] => Ok(found(1, second, false)),
        [Err(first), Err(second)] => Err([first, second]),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
