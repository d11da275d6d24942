//! Records of the map: what the journal says and what a checkpoint's body repeats. 32 bytes, little-endian, each with its
//! kind and version, so that kinds can be added (a tree of nodes: snapshots, clones, deltas) without a new format.

use super::config::VolumeId;
use crate::Blocks;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a record.
pub(super) const RECORD_BYTES: usize = 32;
/// Whole records in a block of a checkpoint's body.
pub(super) const RECORDS_PER_BODY_BLOCK: u64 = 128;
const RECORD_VERSION: u8 = 1;

/// Owns extents. Every volume is one node today; numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(pub(super) u32);

/// The part of a node, one extent long, that starts this many extents into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(pub(super) u32);

/// An extent of the data area, counted from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent(pub(super) u32);

/// One change of the map; runs go up by one in place and extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A volume exists, with a node of its own.
    VolumeCreated {
        node: NodeId,
        volume: VolumeId,
        size: Blocks,
    },
    /// A volume has another size.
    VolumeResized {
        node: NodeId,
        volume: VolumeId,
        size: Blocks,
    },
    /// A volume and its node are gone; every extent of the node is dirty.
    VolumeDeleted { node: NodeId, volume: VolumeId },
    /// Clean extents belong to the node.
    Mapped {
        node: NodeId,
        place: Place,
        extent: Extent,
        count: u32,
    },
    /// Extents of the node are dirty.
    Unmapped {
        node: NodeId,
        place: Place,
        extent: Extent,
        count: u32,
    },
    /// Dirty extents are clean.
    Cleaned { extent: Extent, count: u32 },
    /// Extents are dirty: only in checkpoints.
    Dirty { extent: Extent, count: u32 },
}

const VOLUME_CREATED: u8 = 1;
const VOLUME_RESIZED: u8 = 2;
const VOLUME_DELETED: u8 = 3;
const MAPPED: u8 = 4;
const UNMAPPED: u8 = 5;
const CLEANED: u8 = 6;
const DIRTY: u8 = 7;

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct VolumeRecord {
    kind: u8,
    version: u8,
    reserved: U16,
    node: U32,
    volume: [u8; 16],
    size_blocks: U64,
}

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct ExtentRecord {
    kind: u8,
    version: u8,
    reserved: U16,
    node: U32,
    place: U64,
    extent: U64,
    count: U64,
}

const _: () = assert!(size_of::<VolumeRecord>() == RECORD_BYTES && size_of::<ExtentRecord>() == RECORD_BYTES);

impl Record {
    pub(super) fn encode(&self) -> [u8; RECORD_BYTES] {
        match *self {
            Record::VolumeCreated { node, volume, size } => volume_bytes(VOLUME_CREATED, node, volume, size),
            Record::VolumeResized { node, volume, size } => volume_bytes(VOLUME_RESIZED, node, volume, size),
            Record::VolumeDeleted { node, volume } => volume_bytes(VOLUME_DELETED, node, volume, Blocks(0)),
            Record::Mapped {
                node,
                place,
                extent,
                count,
            } => extent_bytes(MAPPED, (node, place), extent, count),
            Record::Unmapped {
                node,
                place,
                extent,
                count,
            } => extent_bytes(UNMAPPED, (node, place), extent, count),
            Record::Cleaned { extent, count } => extent_bytes(CLEANED, (NodeId(0), Place(0)), extent, count),
            Record::Dirty { extent, count } => extent_bytes(DIRTY, (NodeId(0), Place(0)), extent, count),
        }
    }

    /// `Err` says what is wrong with the bytes.
    pub(super) fn parse(bytes: &[u8; RECORD_BYTES]) -> Result<Record, &'static str> {
        if bytes[1] != RECORD_VERSION {
            return Err("a record of an unknown version");
        }
        match bytes[0] {
            VOLUME_CREATED..=VOLUME_DELETED => Ok(parse_volume(bytes)),
            MAPPED..=DIRTY => parse_extent(bytes),
            _ => Err("a record of an unknown kind"),
        }
    }
}

fn volume_bytes(kind: u8, node: NodeId, volume: VolumeId, size: Blocks) -> [u8; RECORD_BYTES] {
    let raw = VolumeRecord {
        kind,
        version: RECORD_VERSION,
        reserved: U16::ZERO,
        node: U32::new(node.0),
        volume: volume.0,
        size_blocks: U64::new(size.0),
    };
    zerocopy::transmute!(raw)
}

fn extent_bytes(kind: u8, (node, place): (NodeId, Place), extent: Extent, count: u32) -> [u8; RECORD_BYTES] {
    let raw = ExtentRecord {
        kind,
        version: RECORD_VERSION,
        reserved: U16::ZERO,
        node: U32::new(node.0),
        place: U64::new(place.0.into()),
        extent: U64::new(extent.0.into()),
        count: U64::new(count.into()),
    };
    zerocopy::transmute!(raw)
}

fn parse_volume(bytes: &[u8; RECORD_BYTES]) -> Record {
    let raw: &VolumeRecord = zerocopy::transmute_ref!(bytes);
    let (node, volume, size) = (
        NodeId(raw.node.get()),
        VolumeId(raw.volume),
        Blocks(raw.size_blocks.get()),
    );
    match raw.kind {
        VOLUME_CREATED => Record::VolumeCreated { node, volume, size },
        VOLUME_RESIZED => Record::VolumeResized { node, volume, size },
        _ => Record::VolumeDeleted { node, volume },
    }
}

fn parse_extent(bytes: &[u8; RECORD_BYTES]) -> Result<Record, &'static str> {
    let raw: &ExtentRecord = zerocopy::transmute_ref!(bytes);
    let narrow = |wide: U64| u32::try_from(wide.get()).map_err(|_| "a record with a number too large");
    let node = NodeId(raw.node.get());
    let (place, extent) = (Place(narrow(raw.place)?), Extent(narrow(raw.extent)?));
    let count = narrow(raw.count)?;
    Ok(match raw.kind {
        MAPPED => Record::Mapped {
            node,
            place,
            extent,
            count,
        },
        UNMAPPED => Record::Unmapped {
            node,
            place,
            extent,
            count,
        },
        CLEANED => Record::Cleaned { extent, count },
        _ => Record::Dirty { extent, count },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind, its bytes by hand: kind, version, node at 4, then volume at 8 and size at 24, or place, extent, count.
    #[test]
    fn every_record_has_its_bytes_both_ways() {
        let (node, volume, size) = (NodeId(0x0403_0201), VolumeId([7; 16]), Blocks(0x1122));
        let (place, extent, count) = (Place(0x0a0b), Extent(0x0c0d), 3);
        let sized = |kind: u8, low: u8, high: u8| {
            let mut bytes = [0; RECORD_BYTES];
            bytes[..8].copy_from_slice(&[kind, 1, 0, 0, 1, 2, 3, 4]);
            bytes[8..24].fill(7);
            (bytes[24], bytes[25]) = (low, high);
            bytes
        };
        let run = |kind: u8, mapped: bool| {
            let mut bytes = [0; RECORD_BYTES];
            bytes[..2].copy_from_slice(&[kind, 1]);
            if mapped {
                bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
                bytes[8..10].copy_from_slice(&[0x0b, 0x0a]);
            }
            bytes[16..18].copy_from_slice(&[0x0d, 0x0c]);
            bytes[24] = 3;
            bytes
        };
        let table = [
            (Record::VolumeCreated { node, volume, size }, sized(1, 0x22, 0x11)),
            (Record::VolumeResized { node, volume, size }, sized(2, 0x22, 0x11)),
            (Record::VolumeDeleted { node, volume }, sized(3, 0, 0)),
            (
                Record::Mapped {
                    node,
                    place,
                    extent,
                    count,
                },
                run(4, true),
            ),
            (
                Record::Unmapped {
                    node,
                    place,
                    extent,
                    count,
                },
                run(5, true),
            ),
            (Record::Cleaned { extent, count }, run(6, false)),
            (Record::Dirty { extent, count }, run(7, false)),
        ];
        for (record, bytes) in table {
            assert_eq!(record.encode(), bytes, "{record:?}");
            assert_eq!(Record::parse(&bytes), Ok(record));
        }
    }

    #[test]
    fn unknown_records_are_refused() {
        let good = Record::Cleaned {
            extent: Extent(1),
            count: 1,
        }
        .encode();
        for (index, value, reason) in [
            (0, 0, "a record of an unknown kind"),
            (0, 8, "a record of an unknown kind"),
            (1, 2, "a record of an unknown version"),
            (20, 1, "a record with a number too large"),
            (28, 1, "a record with a number too large"),
        ] {
            let mut bytes = good;
            bytes[index] = value;
            assert_eq!(Record::parse(&bytes), Err(reason), "byte {index} = {value}");
        }
    }
}
