//! What a disk node writes to a disk for itself, and what it makes of a disk of somebody else's.

use super::{is_sealed, seal};
use crate::input::Input;
use cluster::DiskId;
use disk_node::format::{ExtentTable, Occupied, Superblock, look, recover};
use uuid::Uuid;

const SUPERBLOCK_CHECKSUM_AT: usize = 4092;
const TABLE_CHECKSUM_AT: usize = 12;
const TABLE_DISK_AT: usize = 16;
const TABLE_LENGTH_AT: usize = 40;
const TABLE_HEADER_BYTES: usize = 64;

/// One input: which, how, then bytes.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (kind, sealed, damage) = (input.below(3), input.flag(), input.half());
    let extents = 1 + u64::from(input.byte());
    let bytes = input.rest();
    match kind {
        0 => superblock(bytes, sealed, damage),
        1 => table(bytes, sealed, damage, extents),
        _ => foreign(bytes),
    }
}

fn flip(bytes: &mut [u8], damage: u16) {
    let at = usize::from(damage >> 3) % bytes.len();
    bytes[at] ^= 1 << (damage & 7);
}

fn superblock(head: &[u8], sealed: bool, damage: u16) {
    let mut block = vec![0; 4096];
    let length = head.len().min(4096);
    block[..length].copy_from_slice(&head[..length]);
    if sealed {
        seal(&mut block, SUPERBLOCK_CHECKSUM_AT, 4096);
    }
    let Ok(superblock) = Superblock::parse(&block) else {
        return;
    };
    assert!(
        is_sealed(&block, SUPERBLOCK_CHECKSUM_AT, 4096),
        "its checksum is wrong"
    );
    let written = superblock.encode();
    assert_eq!(Superblock::parse(&written), Ok(superblock));
    assert!(superblock.needed_bytes().is_some_and(|bytes| bytes > 4 << 20));
    assert!(matches!(look(&block, &[]), Some(Occupied::Formatted { .. })));
    flip(&mut block, damage);
    assert!(Superblock::parse(&block).is_err(), "bit {damage} is damaged");
}

fn table_length(slot: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*slot.get(TABLE_LENGTH_AT..)?.first_chunk()?) as usize;
    (TABLE_HEADER_BYTES..=slot.len())
        .contains(&length)
        .then_some(length)
}

fn table(bytes: &[u8], sealed: bool, damage: u16, extents: u64) {
    let mut slot = bytes.to_vec();
    if sealed && let Some(length) = table_length(&slot) {
        seal(&mut slot, TABLE_CHECKSUM_AT, length);
    }
    let Some(disk) = slot.get(TABLE_DISK_AT..).and_then(|bytes| bytes.first_chunk()) else {
        assert!(ExtentTable::decode(&slot, DiskId(Uuid::nil()), extents).is_err());
        return;
    };
    let disk = DiskId(Uuid::from_bytes(*disk));
    let decoded = ExtentTable::decode(&slot, disk, extents);
    let blank = vec![0; slot.len()];
    assert_eq!(
        recover([&slot, &blank], disk, extents).is_ok(),
        decoded.is_ok(),
        "beside a slot that was never written"
    );
    let Ok((table, sequence)) = decoded else { return };
    let length = table_length(&slot).expect("it was read");
    assert!(
        is_sealed(&slot, TABLE_CHECKSUM_AT, length),
        "its checksum is wrong"
    );
    let runs = || table.legs.values().flat_map(|record| &record.runs);
    let mut used = vec![false; extents as usize];
    for extent in runs().flat_map(|run| run.start..run.end()) {
        assert!(
            !std::mem::replace(&mut used[extent as usize], true),
            "extent {extent} twice"
        );
    }
    let written = table.encode(sequence).expect("it fitted");
    assert_eq!(
        ExtentTable::decode(&written, disk, extents),
        Ok((table.clone(), sequence))
    );
    let older = table.encode(sequence.saturating_sub(1)).expect("it fitted");
    let newest = recover([&slot, &older], disk, extents).expect("both are whole");
    assert_eq!(newest.table, table);
    flip(&mut slot[..length], damage);
    assert!(
        ExtentTable::decode(&slot, disk, extents).is_err(),
        "bit {damage} is damaged"
    );
}

fn foreign(bytes: &[u8]) {
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    for (head, tail) in [(head, tail), (bytes, &[][..]), (&[][..], bytes)] {
        if look(head, tail).is_none() {
            assert!(
                head.iter().all(|byte| *byte == 0),
                "somebody's bytes are taken for nobody's"
            );
        }
    }
}
