//! What lies where on a disk of these stories, in words (docs/formats.md).

use super::image::{BLOCK, Unsettled};
use super::stage::{DISK_EXTENT_BYTES, LEG_EXTENTS};
use block::Blocks;
use block::leg_format::{LegGeometry, SUPERBLOCK_PLACES};
use disk_node::format::{DATA_OFFSET, SLOT_BYTES, SLOT_OFFSETS, SUPERBLOCK_OFFSETS};

/// What a place of a disk is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In words.
    pub words: String,
    /// Ours, not a host's.
    pub metadata: bool,
}

fn metadata(words: String) -> Place {
    Place {
        words,
        metadata: true,
    }
}

/// What lies there, in a disk whose first extents are the leg's, or (`is_shelf`) whose legs have an extent each.
pub fn place(offset: u64, is_shelf: bool) -> Place {
    if let Some(copy) = SUPERBLOCK_OFFSETS.iter().position(|at| *at == offset) {
        return metadata(format!("disk superblock copy {copy}"));
    }
    if offset < DATA_OFFSET {
        let within = |at: &u64| (*at..*at + u64::from(SLOT_BYTES)).contains(&offset);
        return match SLOT_OFFSETS.iter().position(within) {
            Some(slot) => metadata(format!("extent table slot {slot}")),
            None => metadata(format!("disk head, byte {offset}")),
        };
    }
    let block = (offset - DATA_OFFSET) / BLOCK;
    if is_shelf {
        let per_extent = DISK_EXTENT_BYTES / BLOCK;
        return Place {
            words: format!("extent {} block {}", block / per_extent, block % per_extent),
            metadata: false,
        };
    }
    let length = Blocks(LEG_EXTENTS * DISK_EXTENT_BYTES / BLOCK);
    let geometry = LegGeometry::for_length(length).expect("legs are long enough");
    if block >= length.0 {
        return Place {
            words: format!("behind the leg, byte {offset}"),
            metadata: false,
        };
    }
    if block >= geometry.data.start.0 {
        return Place {
            words: format!("data block {}", block - geometry.data.start.0),
            metadata: false,
        };
    }
    metadata(leg_metadata(block, &geometry))
}

fn leg_metadata(block: u64, geometry: &LegGeometry) -> String {
    if let Some(copy) = SUPERBLOCK_PLACES.iter().position(|at| at.0 == block) {
        return format!("leg superblock copy {copy}");
    }
    if block < geometry.metadata.start.0 {
        let index = block.saturating_sub(16);
        return format!("bitmap block {} place {}", index / 2, index % 2);
    }
    let block = block - geometry.metadata.start.0;
    let journal = (geometry.metadata.length.0 / 8).clamp(8, 1024);
    let slot = (geometry.metadata.length.0 - journal) / 2;
    match (block / slot, block % slot) {
        (which @ 0..=1, 0) => format!("map checkpoint slot {which} header"),
        (which @ 0..=1, body) => format!("map checkpoint slot {which} body block {body}"),
        _ => format!("map journal block {}", block - 2 * slot),
    }
}

/// A write, in words.
pub fn write(write: &Unsettled, is_shelf: bool) -> String {
    let place = place(write.offset, is_shelf);
    let durable = if write.is_durable() { ", durable" } else { "" };
    let state = if write.is_ended() {
        "not flushed"
    } else {
        "in flight"
    };
    format!(
        "{} ({} blocks{durable}, {state})",
        place.words,
        write.length / BLOCK
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_their_names() {
        let leg = |block: u64| place(DATA_OFFSET + block * BLOCK, false).words;
        assert_eq!(place(64 << 10, true).words, "disk superblock copy 1");
        assert_eq!(place(2 << 20, false).words, "extent table slot 1");
        assert_eq!(leg(8), "leg superblock copy 1");
        assert_eq!(leg(17), "bitmap block 0 place 1");
        assert_eq!(leg(128), "map checkpoint slot 0 header");
        assert_eq!(leg(128 + 952), "map checkpoint slot 1 header");
        assert_eq!(leg(128 + 2 * 952 + 3), "map journal block 3");
        assert_eq!(leg(2304), "data block 0");
    }
}
