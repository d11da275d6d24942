//! A checkpoint as bytes: a header block and a body of records, in one of two slots.

use super::config::{Failure, Geometry, PoolConfig};
use super::map::Map;
use super::record::{NodeId, RECORD_BYTES, RECORDS_PER_BODY_BLOCK, Record};
use crate::{BLOCK_SIZE, Blocks};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const MAGIC: [u8; 8] = *b"TrstChkp";
const VERSION: u16 = 1;

/// Shorter than a sector, so that it cannot tear.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct RawHeader {
    magic: [u8; 8],
    version: U16,
    reserved: U16,
    /// Over the header with this field zero.
    crc: U32,
    pool: [u8; 16],
    epoch: U64,
    sequence: U64,
    opening: U32,
    next_node: U32,
    journal_start: U64,
    extent_blocks: U64,
    extents: U64,
    metadata_blocks: U64,
    record_count: U64,
    /// Over the whole blocks of the body.
    body_crc: U32,
    padding: [u8; 28],
}

const _: () = assert!(size_of::<RawHeader>() == 128);

/// What a checkpoint says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CheckpointHeader {
    pub(super) pool: [u8; 16],
    /// Of the owner that wrote it.
    pub(super) epoch: u64,
    /// Grows by one with every checkpoint; its parity is the slot.
    pub(super) sequence: u64,
    /// How many times the pool had been opened.
    pub(super) opening: u32,
    /// The next number for a node.
    pub(super) next_node: NodeId,
    /// The first journal block that is not in here.
    pub(super) journal_start: u64,
    pub(super) extent: Blocks,
    pub(super) extents: u64,
    pub(super) metadata: Blocks,
    pub(super) record_count: u64,
    pub(super) body_crc: u32,
}

impl CheckpointHeader {
    pub(super) fn slot(&self) -> u8 {
        (self.sequence % 2) as u8
    }

    /// Length of the body on the disk.
    pub(super) fn body_blocks(&self) -> u64 {
        self.record_count.div_ceil(RECORDS_PER_BODY_BLOCK)
    }

    /// Fills a header block.
    pub(super) fn encode(&self, block: &mut [u8]) {
        let mut raw = RawHeader {
            magic: MAGIC,
            version: U16::new(VERSION),
            reserved: U16::ZERO,
            crc: U32::ZERO,
            pool: self.pool,
            epoch: U64::new(self.epoch),
            sequence: U64::new(self.sequence),
            opening: U32::new(self.opening),
            next_node: U32::new(self.next_node.0),
            journal_start: U64::new(self.journal_start),
            extent_blocks: U64::new(self.extent.0),
            extents: U64::new(self.extents),
            metadata_blocks: U64::new(self.metadata.0),
            record_count: U64::new(self.record_count),
            body_crc: U32::new(self.body_crc),
            padding: [0; 28],
        };
        raw.crc = U32::new(crc32c::crc32c(raw.as_bytes()));
        block.fill(0);
        block[..size_of::<RawHeader>()].copy_from_slice(raw.as_bytes());
    }

    /// `None` if there is no whole header; `Err` if there is one that must not be passed over.
    pub(super) fn parse(block: &[u8]) -> Result<Option<CheckpointHeader>, Failure> {
        let (raw, _) = RawHeader::read_from_prefix(block).expect("a block is longer than a header");
        let unsigned = RawHeader {
            crc: U32::ZERO,
            ..raw
        };
        if raw.magic != MAGIC || raw.crc.get() != crc32c::crc32c(unsigned.as_bytes()) {
            return Ok(None);
        }
        if raw.version.get() != VERSION {
            return Err(Failure::UnknownVersion {
                found: raw.version.get(),
            });
        }
        Ok(Some(CheckpointHeader {
            pool: raw.pool,
            epoch: raw.epoch.get(),
            sequence: raw.sequence.get(),
            opening: raw.opening.get(),
            next_node: NodeId(raw.next_node.get()),
            journal_start: raw.journal_start.get(),
            extent: Blocks(raw.extent_blocks.get()),
            extents: raw.extents.get(),
            metadata: Blocks(raw.metadata_blocks.get()),
            record_count: raw.record_count.get(),
            body_crc: raw.body_crc.get(),
        }))
    }

    /// Whether this is the map of the pool that is being opened, by an owner that may.
    pub(super) fn check(&self, config: &PoolConfig, geometry: &Geometry) -> Result<(), Failure> {
        if self.pool != config.pool {
            return Err(Failure::ForeignPool { found: self.pool });
        }
        if self.epoch > config.epoch {
            return Err(Failure::LaterEpoch { found: self.epoch });
        }
        let numbers = [
            (
                "the extent length",
                self.extent.0,
                config.extent.0,
                self.extent == config.extent,
            ),
            (
                "the metadata area",
                self.metadata.0,
                config.metadata.0,
                self.metadata == config.metadata,
            ),
            (
                "the number of extents",
                self.extents,
                geometry.extents.into(),
                self.extents <= geometry.extents.into(),
            ),
        ];
        match numbers.into_iter().find(|number| !number.3) {
            Some((what, stored, configured, _)) => Err(Failure::GeometryChanged {
                what,
                stored,
                configured,
            }),
            None => Ok(()),
        }
    }
}

/// A map at one instant, ready to be written.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) header: CheckpointHeader,
    /// Whole blocks.
    pub(super) body: Vec<u8>,
}

/// What a snapshot must be told beside the map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) sequence: u64,
    pub(super) opening: u32,
    pub(super) journal_start: u64,
}

impl Snapshot {
    /// Takes the map as it is; costs time and memory in proportion to it, a few milliseconds for 10^5 runs of extents.
    pub(super) fn take(config: &PoolConfig, geometry: &Geometry, map: &Map, position: Position) -> Snapshot {
        let records = map.records();
        let mut body =
            Vec::with_capacity((records.len() * RECORD_BYTES).next_multiple_of(BLOCK_SIZE as usize));
        for record in &records {
            body.extend_from_slice(&record.encode());
        }
        body.resize(body.len().next_multiple_of(BLOCK_SIZE as usize), 0);
        let header = CheckpointHeader {
            pool: config.pool,
            epoch: config.epoch,
            sequence: position.sequence,
            opening: position.opening,
            next_node: map.next_node(),
            journal_start: position.journal_start,
            extent: config.extent,
            extents: geometry.extents.into(),
            metadata: config.metadata,
            record_count: records.len() as u64,
            body_crc: crc32c::crc32c(&body),
        };
        assert!(
            header.body_blocks() < geometry.slot_blocks,
            "the geometry leaves room for every extent and volume"
        );
        Snapshot { header, body }
    }
}

/// The map of a whole body. `Ok(None)` if the body is not what the header says.
pub(super) fn build(header: &CheckpointHeader, body: &[u8], extents: u32) -> Result<Option<Map>, Failure> {
    if crc32c::crc32c(body) != header.body_crc {
        return Ok(None);
    }
    let mut map = Map::new(extents, header.next_node);
    let (slots, _) = body.as_chunks::<RECORD_BYTES>();
    for bytes in slots.iter().take(header.record_count as usize) {
        let applied = Record::parse(bytes).and_then(|record| map.apply(&record));
        applied.map_err(|what| Failure::MapInconsistent { what })?;
    }
    Ok(Some(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> CheckpointHeader {
        CheckpointHeader {
            pool: [9; 16],
            epoch: 2,
            sequence: 3,
            opening: 4,
            next_node: NodeId(5),
            journal_start: 6,
            extent: Blocks(7),
            extents: 8,
            metadata: Blocks(9),
            record_count: 129,
            body_crc: 11,
        }
    }

    #[test]
    fn the_header_has_its_bytes_both_ways() {
        let mut block = vec![0xee; 4096];
        header().encode(&mut block);
        assert_eq!(&block[..8], b"TrstChkp");
        assert_eq!(&block[8..12], &[1, 0, 0, 0]);
        assert_eq!(&block[16..32], &[9; 16]);
        for (offset, value) in [(32, 2), (40, 3), (56, 6), (64, 7), (72, 8), (80, 9), (88, 129)] {
            assert_eq!(block[offset..offset + 8], u64::to_le_bytes(value), "at {offset}");
        }
        for (offset, value) in [(48, 4), (52, 5), (96, 11)] {
            assert_eq!(block[offset..offset + 4], u32::to_le_bytes(value), "at {offset}");
        }
        assert!(block[100..].iter().all(|&byte| byte == 0));
        assert_eq!(CheckpointHeader::parse(&block), Ok(Some(header())));
        assert_eq!((header().slot(), header().body_blocks()), (1, 2));
    }

    #[test]
    fn no_damaged_header_is_taken() {
        let mut block = vec![0; 4096];
        assert_eq!(CheckpointHeader::parse(&block), Ok(None));
        header().encode(&mut block);
        for index in 0..128 {
            block[index] ^= 1;
            assert_eq!(CheckpointHeader::parse(&block), Ok(None), "byte {index}");
            block[index] ^= 1;
        }
    }

    #[test]
    fn a_header_is_held_against_the_configuration() {
        let config = PoolConfig {
            pool: [9; 16],
            epoch: 2,
            extent: Blocks(7),
            metadata: Blocks(24),
            data: Blocks(56),
        };
        let geometry = Geometry::plan(&config).expect("it fits");
        let good = CheckpointHeader {
            metadata: Blocks(24),
            ..header()
        };
        assert_eq!(good.check(&config, &geometry), Ok(()));
        let changed = |what, stored, configured| {
            Err(Failure::GeometryChanged {
                what,
                stored,
                configured,
            })
        };
        for (wrong, answer) in [
            (
                CheckpointHeader {
                    pool: [1; 16],
                    ..good
                },
                Err(Failure::ForeignPool { found: [1; 16] }),
            ),
            (
                CheckpointHeader { epoch: 3, ..good },
                Err(Failure::LaterEpoch { found: 3 }),
            ),
            (
                CheckpointHeader {
                    extent: Blocks(8),
                    ..good
                },
                changed("the extent length", 8, 7),
            ),
            (
                CheckpointHeader {
                    metadata: Blocks(25),
                    ..good
                },
                changed("the metadata area", 25, 24),
            ),
            (
                CheckpointHeader { extents: 9, ..good },
                changed("the number of extents", 9, 8),
            ),
            (CheckpointHeader { extents: 7, ..good }, Ok(())),
        ] {
            assert_eq!(wrong.check(&config, &geometry), answer);
        }
    }
}
