//! What a disk node writes to a disk for itself: where it lies, what it means, when it can be believed. Bytes only.
//!
//! | at | length | what |
//! |---|---|---|
//! | 0 | 4 KiB | superblock |
//! | 64 KiB | 4 KiB | superblock, the same |
//! | 256 KiB | 1792 KiB | extent table, slot 0 |
//! | 2 MiB | 1792 KiB | extent table, slot 1 |
//! | 4 MiB | extents × extent size | extents |
//!
//! Superblocks are written when the disk is formatted (and once more when a node adopts it). The table is written whole
//! with every change, to the two slots in turn, so that a write that is torn or lost leaves the table before it. Once a
//! table is durable it is written to the other slot too: then either slot may rot.
//!
//! Everything is little-endian, checksummed with CRC32C, and has a version.

mod foreign;
mod superblock;
mod table;

pub use foreign::{HEAD_BYTES, Occupied, TAIL_BYTES, look};
pub(crate) use superblock::extent_bytes_allowed;
pub use superblock::{BadSuperblock, Superblock};
pub use table::{BadTable, ExtentTable, LegRecord, Recovered, Run, Slots, recover};

use block::BLOCK_SIZE;

/// Where the two superblocks lie, in bytes.
pub const SUPERBLOCK_OFFSETS: [u64; 2] = [0, 64 << 10];
/// How long each is.
pub const SUPERBLOCK_BYTES: u32 = BLOCK_SIZE;
/// Where the two slots of the extent table lie, in bytes.
pub const SLOT_OFFSETS: [u64; 2] = [256 << 10, 2 << 20];
/// How long each is.
pub const SLOT_BYTES: u32 = 1792 << 10;
/// Where the first extent lies, in bytes.
pub const DATA_OFFSET: u64 = 4 << 20;

/// The writes that format a disk, in order. A flush belongs between two of them and behind the last: the superblocks,
/// which make it one of ours, come when everything else is there.
pub fn formatting(superblock: &Superblock) -> Vec<(u64, Vec<u8>)> {
    let metadata = vec![0; DATA_OFFSET as usize];
    let empty = ExtentTable::new(superblock.disk)
        .encode(1)
        .expect("an empty table fits");
    let mut writes = vec![(0, metadata), (SLOT_OFFSETS[1], empty)];
    let copies = SUPERBLOCK_OFFSETS.iter().rev();
    writes.extend(copies.map(|offset| (*offset, superblock.encode())));
    writes
}
