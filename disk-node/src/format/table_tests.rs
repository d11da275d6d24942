//! The extent table: its bytes, its refusals, and what a crash at any sector leaves.
//!
//! Mutants these tests catch: a field at another place or left out; a checksum over less than everything; a commit over
//! the newest durable slot; a recovery that prefers the older table, or takes a torn one.

use super::*;
use crate::format::SLOT_OFFSETS;
use proptest::prelude::*;

const DISK: DiskId = DiskId(Uuid::from_u128(0xd15c));
const EXTENTS: u64 = 1000;

fn host(number: u8) -> HostId {
    HostId([number; 16])
}

fn leg(number: u128) -> LegId {
    LegId(Uuid::from_u128(number))
}

fn record(nsid: u32, runs: &[(u64, u64)]) -> LegRecord {
    LegRecord {
        nsid,
        runs: runs
            .iter()
            .map(|(start, count)| Run {
                start: *start,
                count: *count,
            })
            .collect(),
        zeroed: 1,
        reservation: ReservationState::default(),
    }
}

fn full_record() -> LegRecord {
    LegRecord {
        nsid: 0x0a0b,
        runs: vec![Run { start: 5, count: 2 }, Run { start: 1, count: 3 }],
        zeroed: 4,
        reservation: ReservationState {
            generation: 0x0c0d,
            persist_through_power_loss: true,
            highest_key: 0x0102_0304_0506_0708,
            registrants: [(host(1), 9), (host(2), 10)].into(),
            held: Some(Held {
                kind: ReservationType::ExclusiveAccessRegistrantsOnly,
                holder: host(2),
            }),
        },
    }
}

fn table(legs: Vec<(LegId, LegRecord)>) -> ExtentTable {
    ExtentTable {
        disk: DISK,
        legs: legs.into_iter().collect(),
    }
}

fn decode(bytes: &[u8]) -> Result<(ExtentTable, u64), BadTable> {
    ExtentTable::decode(bytes, DISK, EXTENTS)
}

#[test]
fn every_field_has_its_place() {
    let wanted = table(vec![(leg(0x1234), full_record())]);
    let bytes = wanted.encode(77).unwrap();
    let mut expected = Vec::new();
    expected.extend_from_slice(b"TRSTLTAB");
    expected.extend_from_slice(&1u32.to_le_bytes());
    expected.extend_from_slice(&[0; 4]);
    expected.extend_from_slice(&0xd15cu128.to_be_bytes());
    expected.extend_from_slice(&77u64.to_le_bytes());
    expected.extend_from_slice(&(64u32 + 72 + 2 * 16 + 2 * 24).to_le_bytes());
    expected.extend_from_slice(&1u32.to_le_bytes());
    expected.extend_from_slice(&[0; 16]);
    expected.extend_from_slice(&0x1234u128.to_be_bytes());
    expected.extend_from_slice(&4u64.to_le_bytes());
    expected.extend_from_slice(&0x0102_0304_0506_0708u64.to_le_bytes());
    expected.extend_from_slice(&[2; 16]);
    for value in [0x0a0bu32, 2, 2, 0x0c0d, 1, 4] {
        expected.extend_from_slice(&value.to_le_bytes());
    }
    for value in [5u64, 2, 1, 3] {
        expected.extend_from_slice(&value.to_le_bytes());
    }
    for (number, key) in [(1u8, 9u64), (2, 10)] {
        expected.extend_from_slice(&[number; 16]);
        expected.extend_from_slice(&key.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&expected);
    expected[12..16].copy_from_slice(&checksum.to_le_bytes());
    expected.resize(4096, 0);
    assert_eq!(bytes, expected);
    assert_eq!(decode(&bytes), Ok((wanted, 77)));
}

#[test]
fn every_flipped_bit_is_seen() {
    let bytes = table(vec![(leg(1), full_record())]).encode(3).unwrap();
    for bit in 0..(64 + 72 + 32 + 48) * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode(&flipped), Err(BadTable::Checksum), "bit {bit}");
    }
}

#[test]
fn contradictions_are_refused_though_the_checksum_is_right() {
    let sick = |change: fn(&mut LegRecord)| {
        let mut sick = record(2, &[(10, 5)]);
        change(&mut sick);
        let bytes = table(vec![(leg(1), record(1, &[(0, 10)])), (leg(2), sick)])
            .encode(1)
            .unwrap();
        decode(&bytes).map(|_| ())
    };
    assert_eq!(sick(|_| ()), Ok(()));
    let changes: [fn(&mut LegRecord); 8] = [
        |leg| leg.nsid = 1,
        |leg| leg.nsid = 0,
        |leg| leg.runs[0].start = 9,
        |leg| leg.runs[0].start = EXTENTS - 4,
        |leg| leg.runs[0].start = u64::MAX,
        |leg| leg.runs.clear(),
        |leg| leg.zeroed = 6,
        |leg| {
            leg.reservation.held = Some(Held {
                kind: ReservationType::WriteExclusive,
                holder: host(1),
            })
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert_eq!(sick(change), Err(BadTable::Contents), "change {index}");
    }
    let bytes = table(vec![]).encode(1).unwrap();
    assert_eq!(
        ExtentTable::decode(&bytes, DiskId(Uuid::nil()), EXTENTS),
        Err(BadTable::OtherDisk)
    );
    assert_eq!(decode(&[]), Err(BadTable::Empty));
    assert_eq!(decode(&vec![0; SLOT_BYTES as usize]), Err(BadTable::Empty));
}

#[test]
fn a_later_releases_table_is_not_taken_for_a_torn_one() {
    let mut later = table(vec![]).encode(9).unwrap();
    later[8] = 2;
    later[12..16].fill(0);
    let checksum = crc32c::crc32c(&later[..64]);
    later[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode(&later), Err(BadTable::Version));
    let ours = table(vec![]).encode(8).unwrap();
    assert!(recover([&later, &ours], DISK, EXTENTS).is_err());
    assert!(recover([&ours, &later], DISK, EXTENTS).is_err());
    let mut others = table(vec![]);
    others.disk = DiskId(Uuid::nil());
    assert!(recover([&ours, &others.encode(9).unwrap()], DISK, EXTENTS).is_err());
}

#[test]
fn what_always_fits_does() {
    let mut many = table(vec![]);
    let mut number = 0u32;
    while many.always_fits() {
        number += 1;
        let start = u64::from(number);
        let mut full = record(number, &[(start, 1)]);
        full.reservation.registrants = (0..64).map(|host_number| (host(host_number), 1)).collect();
        many.legs.insert(leg(u128::from(number)), full);
    }
    assert!(number > 1000, "a thousand legs fit on a disk: {number}");
    assert_eq!(many.encode(1), None);
    many.legs.remove(&leg(1));
    let bytes = many.encode(1).expect("fits");
    assert_eq!(ExtentTable::decode(&bytes, DISK, 1 << 20), Ok((many, 1)));
}

/// A row of tables as a node would write them: legs come, their zeroing advances, reservations change, legs go.
fn history() -> Vec<ExtentTable> {
    let mut tables = vec![table(vec![])];
    let mut now = table(vec![]);
    let mut step = |now: &ExtentTable| tables.push(now.clone());
    for number in 1..=40u32 {
        now.legs.insert(
            leg(u128::from(number)),
            record(number, &[(u64::from(number) * 3, 2)]),
        );
        step(&now);
    }
    for number in 1..=5u32 {
        let entry = now.legs.get_mut(&leg(u128::from(number))).unwrap();
        entry.zeroed = 2;
        entry.reservation = full_record().reservation;
        step(&now);
    }
    for number in (1..=40u32).step_by(2) {
        now.legs.remove(&leg(u128::from(number)));
        step(&now);
    }
    tables
}

/// Two slots under a writer that follows [`Slots`], as the node does: every table, then the same to the other slot.
struct Simulated {
    slots: [Vec<u8>; 2],
    books: Slots,
}

impl Simulated {
    fn formatted() -> Simulated {
        let mut slots = [vec![0; SLOT_BYTES as usize], vec![0; SLOT_BYTES as usize]];
        let superblock = crate::format::Superblock {
            disk: DISK,
            node: None,
            extent_bytes: 4 << 20,
            extents: EXTENTS,
        };
        for (offset, bytes) in crate::format::formatting(&superblock) {
            for (slot, at) in slots.iter_mut().zip(SLOT_OFFSETS) {
                if offset == at {
                    slot[..bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        Simulated {
            slots,
            books: Slots::fresh(),
        }
    }

    fn recovered(slots: &[Vec<u8>; 2]) -> Recovered {
        recover([&slots[0], &slots[1]], DISK, EXTENTS).expect("one slot can be believed")
    }
}

/// Every crash there is: each write of a history stops at each sector, in order and out of order, and what is found
/// afterwards is the table before or the one being written; and from there the next write goes on safely.
#[test]
fn a_crash_at_any_sector_leaves_the_old_table_or_the_new() {
    const SECTOR: usize = 512;
    let mut disk = Simulated::formatted();
    let mut old = table(vec![]);
    for new in history().into_iter().flat_map(|table| [table.clone(), table]) {
        let (slot, sequence) = disk.books.next();
        let bytes = new.encode(sequence).unwrap();
        let sectors = bytes.len() / SECTOR;
        for kept in 0..=sectors {
            // In order, or with gaps: a disk may write its cache in any order.
            for landed in [u64::MAX, 0x5555_5555_5555_5555, 0xf0f0_f0f0_f0f0_f0f0] {
                let mut torn = disk.slots.clone();
                for sector in (0..kept).filter(|sector| landed >> (sector % 64) & 1 == 1) {
                    let at = sector * SECTOR..(sector + 1) * SECTOR;
                    torn[slot][at.clone()].copy_from_slice(&bytes[at]);
                }
                let recovered = Simulated::recovered(&torn);
                let found = recovered.table;
                assert!(
                    found == old || found == new,
                    "{kept} of {sectors} sectors, of these {landed:x}"
                );
                let kept_safe = ExtentTable::decode(&torn[1 - recovered.slots.next().0], DISK, EXTENTS);
                assert_eq!(
                    kept_safe.map(|(table, _)| table),
                    Ok(found),
                    "the next write leaves it alone"
                );
            }
        }
        disk.slots[slot][..bytes.len()].copy_from_slice(&bytes);
        disk.books.written();
        let recovered = Simulated::recovered(&disk.slots);
        assert_eq!((&recovered.table, recovered.slots), (&new, disk.books));
        assert_eq!(recovered.settled, old == new);
        old = new;
    }
}

#[test]
fn either_slot_may_rot_once_both_hold_the_table() {
    let mut disk = Simulated::formatted();
    let wanted = table(vec![(leg(1), full_record())]);
    for _ in 0..2 {
        let (slot, sequence) = disk.books.next();
        let bytes = wanted.encode(sequence).unwrap();
        disk.slots[slot][..bytes.len()].copy_from_slice(&bytes);
        disk.books.written();
    }
    for slot in 0..2 {
        let mut rotten = disk.slots.clone();
        rotten[slot][100] ^= 1;
        assert_eq!(Simulated::recovered(&rotten).table, wanted);
    }
    let mut rotten = disk.slots.clone();
    (0..2).for_each(|slot| rotten[slot][100] ^= 1);
    let neither = recover([&rotten[0], &rotten[1]], DISK, EXTENTS);
    assert_eq!(neither, Err([BadTable::Checksum, BadTable::Checksum]));
}

fn any_record() -> impl Strategy<Value = LegRecord> {
    let registrants = proptest::collection::btree_map(any::<[u8; 16]>().prop_map(HostId), any::<u64>(), 0..5);
    (
        1u32..,
        1u64..9,
        any::<u32>(),
        any::<bool>(),
        any::<u64>(),
        registrants,
        0u8..7,
    )
        .prop_map(
            |(nsid, count, generation, persist, highest_key, registrants, kind)| {
                let holder = registrants.keys().next().copied();
                let kind = ReservationType::from_code(kind);
                LegRecord {
                    nsid,
                    runs: vec![Run { start: 0, count }],
                    zeroed: count / 2,
                    reservation: ReservationState {
                        generation,
                        persist_through_power_loss: persist,
                        highest_key,
                        held: holder.zip(kind).map(|(holder, kind)| Held { kind, holder }),
                        registrants,
                    },
                }
            },
        )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(records in proptest::collection::vec(any_record(), 0..12), sequence: u64) {
        let mut wanted = table(vec![]);
        for (index, mut record) in records.into_iter().enumerate() {
            record.nsid = record.nsid / 100 * 100 + index as u32 + 1;
            record.runs[0].start = index as u64 * 10;
            wanted.legs.insert(leg(index as u128), record);
        }
        prop_assume!(wanted.sound(EXTENTS));
        let bytes = wanted.encode(sequence).unwrap();
        prop_assert_eq!(decode(&bytes), Ok((wanted, sequence)));
    }

    /// Whatever lies in a slot, reading it answers; also behind a right checksum.
    #[test]
    fn no_bytes_break_it(mut bytes in proptest::collection::vec(any::<u8>(), 64..800), seal: bool) {
        bytes[..8].copy_from_slice(&MAGIC);
        if seal {
            let length = bytes.len() as u32;
            bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
            bytes[16..32].copy_from_slice(DISK.0.as_bytes());
            bytes[40..44].copy_from_slice(&length.to_le_bytes());
            bytes[44] %= 8;
            bytes[45..48].fill(0);
            bytes[12..16].fill(0);
            let checksum = crc32c::crc32c(&bytes);
            bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        }
        let answer = decode(&bytes);
        prop_assert!(answer.is_err() || seal);
    }
}
