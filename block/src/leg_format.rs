//! What a leg looks like on its disk: two superblocks, the write-intent bitmap, the metadata area, the data.
//!
//! ```text
//! block   0        8        16 .. 80                 128 .. leg_metadata_blocks(length)   .. length
//!         ┌────────┬────────┬────────────────────────┬───────────────────────────────────┬──────────┐
//!         │ super- │ super- │ bitmap: block i of it  │ metadata area: checkpoints and    │ data     │
//!         │ block  │ block, │ in places 16 + 2i and  │ journal of the thin pool (used in │          │
//!         │        │ again  │ 17 + 2i                │ a slice's first group only)       │          │
//!         └────────┴────────┴────────────────────────┴───────────────────────────────────┴──────────┘
//! ```
//!
//! Everything is little-endian and of fixed size, and every block that is read back carries a CRC32C of itself. A
//! superblock is written when the leg is formatted (or has been filled as a new member), and never again. A bitmap block has
//! two places, written in turn: a write that is torn or lost leaves the other place, which holds what was durable
//! before; of two readable places the one with the higher sequence counts.
//!
//! Deliberately not here: when any of this is read or written (`mirror` knows), and membership (only the store knows
//! which legs have every acknowledged write).
//!
//! Invariants: the parts do not overlap; regions cover the metadata area and the data in one run, the last one may be shorter.

use crate::{BLOCK_SIZE, BlockRange, Blocks, Lba, leg_metadata_blocks};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An identity: the sixteen bytes of a UUID, as the control plane gave it out.
pub type Uuid = [u8; 16];

/// Where the two copies of the superblock are.
pub const SUPERBLOCK_PLACES: [Lba; 2] = [Lba(0), Lba(8)];
/// Where the first bitmap block has its first place.
const BITMAP_START: u64 = 16;
/// The most bitmap blocks a leg has (each in two places).
pub const BITMAP_BLOCKS_MAX: usize = 32;
/// Where the metadata area begins, and with it the first region.
const METADATA_START: u64 = 128;
/// The smallest region: 1 MiB.
const REGION_BLOCKS_MIN: u64 = 256;
/// Up to this size of a region (16 MiB) a leg makes do with one bitmap block; beyond, it takes more of them.
const REGION_BLOCKS_ONE_BITMAP_BLOCK: u64 = 4096;
/// Bits in a bitmap block behind its header.
pub const BITS_PER_BITMAP_BLOCK: usize = (BLOCK_SIZE as usize - BITMAP_HEADER_BYTES) * 8;
const BITMAP_HEADER_BYTES: usize = 64;

const SUPERBLOCK_MAGIC: [u8; 8] = *b"TRSTLEG\0";
const BITMAP_MAGIC: [u8; 8] = *b"TRSTBMP\0";
const VERSION: u32 = 1;
const _: () = assert!(BITMAP_START + 2 * BITMAP_BLOCKS_MAX as u64 <= METADATA_START);

/// Where the parts of a leg are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegGeometry {
    /// The whole leg.
    pub length: Blocks,
    /// The unit of the write-intent bitmap.
    pub region: Blocks,
    /// Space for the thin pool's checkpoints and journal.
    pub metadata: BlockRange,
    /// What is left for data.
    pub data: BlockRange,
}

impl LegGeometry {
    /// The parts of a leg of this length; `None` if it is too short to hold any data.
    pub fn for_length(length: Blocks) -> Option<LegGeometry> {
        if length.0 > u64::MAX / 2 {
            return None;
        }
        let data_start = leg_metadata_blocks(length).0;
        if length.0 <= data_start {
            return None;
        }
        Some(LegGeometry {
            length,
            region: Blocks(region_blocks(length.0 - METADATA_START)),
            metadata: BlockRange::new(METADATA_START, data_start - METADATA_START),
            data: BlockRange::new(data_start, length.0 - data_start),
        })
    }

    /// How many regions there are.
    pub fn regions(&self) -> usize {
        usize::try_from((self.length.0 - METADATA_START).div_ceil(self.region.0))
            .expect("regions fit in memory")
    }

    /// How many bitmap blocks there are.
    pub fn bitmap_blocks(&self) -> usize {
        self.regions().div_ceil(BITS_PER_BITMAP_BLOCK)
    }

    /// The place `place` (0 or 1) of bitmap block `block`.
    pub fn bitmap_place(&self, block: usize, place: usize) -> BlockRange {
        assert!(
            block < self.bitmap_blocks() && place < 2,
            "bitmap block {block}, place {place}"
        );
        BlockRange::new(BITMAP_START + 2 * block as u64 + place as u64, 1)
    }

    /// The regions that a range of leg blocks (behind the bitmap) touches; none if it is empty.
    pub fn regions_of(&self, range: BlockRange) -> core::ops::Range<usize> {
        if range.length.0 == 0 {
            return 0..0;
        }
        assert!(
            range.start.0 >= METADATA_START && range.end().0 <= self.length.0,
            "{range:?} lies in the regions"
        );
        let first = (range.start.0 - METADATA_START) / self.region.0;
        let last = (range.end().0 - 1 - METADATA_START) / self.region.0;
        first as usize..last as usize + 1
    }

    /// The leg blocks of a region.
    pub fn region_range(&self, region: usize) -> BlockRange {
        assert!(region < self.regions(), "region {region}");
        let start = METADATA_START + region as u64 * self.region.0;
        BlockRange::new(start, self.region.0.min(self.length.0 - start))
    }
}

/// The smallest region with which the bitmap stays small.
fn region_blocks(covered: u64) -> u64 {
    let one_block = BITS_PER_BITMAP_BLOCK as u64;
    let mut region = REGION_BLOCKS_MIN;
    while covered.div_ceil(region) > one_block && region < REGION_BLOCKS_ONE_BITMAP_BLOCK {
        region *= 2;
    }
    while covered.div_ceil(region) > one_block * BITMAP_BLOCKS_MAX as u64 {
        region *= 2;
    }
    region
}

/// Why a block of a leg's metadata cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatProblem {
    /// All zeroes: never written.
    Blank,
    /// Something else is there.
    Foreign,
    /// It is ours, but its checksum does not match.
    Corrupt,
    /// Written by a version we do not know.
    UnknownVersion(u32),
    /// It belongs to another leg, group, slice or pool, or the leg has another length.
    OtherIdentity,
}

impl core::fmt::Display for FormatProblem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            FormatProblem::Blank => f.write_str("it was never written"),
            FormatProblem::Foreign => f.write_str("something else is there"),
            FormatProblem::Corrupt => f.write_str("its checksum does not match"),
            FormatProblem::UnknownVersion(version) => {
                write!(f, "it has version {version}, which is not known here")
            }
            FormatProblem::OtherIdentity => f.write_str("it belongs to another leg or has another length"),
        }
    }
}

/// What identifies a leg; the contents of its superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The leg.
    pub leg: Uuid,
    /// Its group.
    pub group: Uuid,
    /// Its slice.
    pub slice: Uuid,
    /// Its pool.
    pub pool: Uuid,
    /// Its place among the legs of the group when it was formatted.
    pub index: u32,
    /// How many legs the group had then.
    pub group_size: u32,
    /// Where everything is.
    pub geometry: LegGeometry,
    /// The epoch of the owner that formatted it.
    pub formatted_epoch: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SuperblockFormat {
    magic: [u8; 8],
    version: U32,
    /// CRC32C of the whole block, taken with zero here.
    crc: U32,
    leg: Uuid,
    group: Uuid,
    slice: Uuid,
    pool: Uuid,
    index: U32,
    group_size: U32,
    length_blocks: U64,
    region_blocks: U64,
    bitmap_start: U64,
    bitmap_blocks: U64,
    metadata_start: U64,
    data_start: U64,
    formatted_epoch: U64,
    reserved: [u8; 3952],
}
const _: () = assert!(core::mem::size_of::<SuperblockFormat>() == BLOCK_SIZE as usize);

impl Superblock {
    /// Fill one block with the superblock.
    ///
    /// # Panics
    /// If `bytes` is not one block long.
    pub fn write_to(&self, bytes: &mut [u8]) {
        let geometry = &self.geometry;
        let mut format = SuperblockFormat {
            magic: SUPERBLOCK_MAGIC,
            version: U32::new(VERSION),
            crc: U32::ZERO,
            leg: self.leg,
            group: self.group,
            slice: self.slice,
            pool: self.pool,
            index: U32::new(self.index),
            group_size: U32::new(self.group_size),
            length_blocks: U64::new(geometry.length.0),
            region_blocks: U64::new(geometry.region.0),
            bitmap_start: U64::new(BITMAP_START),
            bitmap_blocks: U64::new(geometry.bitmap_blocks() as u64),
            metadata_start: U64::new(geometry.metadata.start.0),
            data_start: U64::new(geometry.data.start.0),
            formatted_epoch: U64::new(self.formatted_epoch),
            reserved: [0; 3952],
        };
        format.crc = U32::new(crc32c::crc32c(format.as_bytes()));
        bytes.copy_from_slice(format.as_bytes());
    }

    /// Read one copy.
    ///
    /// # Errors
    /// What is wrong with the block. Whether it is the expected leg's is for [`Superblock::matches`].
    pub fn parse(bytes: &[u8]) -> Result<Superblock, FormatProblem> {
        let format = SuperblockFormat::ref_from_bytes(bytes).map_err(|_| FormatProblem::Foreign)?;
        check_head(bytes, &format.magic, &SUPERBLOCK_MAGIC)?;
        check_crc(bytes, format.crc.get())?;
        check_version(format.version.get())?;
        let geometry =
            LegGeometry::for_length(Blocks(format.length_blocks.get())).ok_or(FormatProblem::Corrupt)?;
        let superblock = Superblock {
            leg: format.leg,
            group: format.group,
            slice: format.slice,
            pool: format.pool,
            index: format.index.get(),
            group_size: format.group_size.get(),
            geometry,
            formatted_epoch: format.formatted_epoch.get(),
        };
        let as_we_compute = format.region_blocks.get() == geometry.region.0
            && format.bitmap_start.get() == BITMAP_START
            && format.bitmap_blocks.get() == geometry.bitmap_blocks() as u64
            && format.metadata_start.get() == geometry.metadata.start.0
            && format.data_start.get() == geometry.data.start.0;
        if as_we_compute {
            Ok(superblock)
        } else {
            Err(FormatProblem::Corrupt)
        }
    }

    /// Of the two copies, the readable one; they are written alike, so either will do.
    ///
    /// # Errors
    /// What is wrong, if neither can be used: `Blank` only if both are.
    pub fn parse_copies(copies: [&[u8]; 2]) -> Result<Superblock, FormatProblem> {
        match copies.map(Superblock::parse) {
            [Ok(superblock), _] | [_, Ok(superblock)] => Ok(superblock),
            [Err(FormatProblem::Blank), Err(problem)] | [Err(problem), Err(_)] => Err(problem),
        }
    }

    /// Whether this is the superblock of the same leg in the same place of the world.
    ///
    /// # Errors
    /// `OtherIdentity` if not.
    pub fn matches(&self, expected: &Superblock) -> Result<(), FormatProblem> {
        let same = self.leg == expected.leg
            && self.group == expected.group
            && self.slice == expected.slice
            && self.pool == expected.pool
            && self.geometry == expected.geometry;
        if same {
            Ok(())
        } else {
            Err(FormatProblem::OtherIdentity)
        }
    }
}

/// One block of the write-intent bitmap, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapBlock {
    /// Of the two places, the higher counts.
    pub sequence: u64,
    /// The bits, region by region, least significant bit of a byte first.
    pub bits: Vec<u8>,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct BitmapFormat {
    magic: [u8; 8],
    version: U32,
    /// CRC32C of the whole block, taken with zero here.
    crc: U32,
    group: Uuid,
    sequence: U64,
    index: U32,
    reserved: [u8; 4],
    region_blocks: U64,
    reserved2: [u8; 8],
    bits: [u8; BITS_PER_BITMAP_BLOCK / 8],
}
const _: () = assert!(core::mem::size_of::<BitmapFormat>() == BLOCK_SIZE as usize);
const _: () = assert!(core::mem::offset_of!(BitmapFormat, bits) == BITMAP_HEADER_BYTES);

/// What tells one bitmap block from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapIdentity {
    /// The group.
    pub group: Uuid,
    /// Which block of the bitmap.
    pub index: usize,
    /// The size of a region.
    pub region: Blocks,
}

impl BitmapIdentity {
    /// Fill one block with bits.
    ///
    /// # Panics
    /// If `bytes` is not one block long or `bits` is too long for it.
    pub fn write_to(&self, sequence: u64, bits: &[u8], bytes: &mut [u8]) {
        let mut format = BitmapFormat {
            magic: BITMAP_MAGIC,
            version: U32::new(VERSION),
            crc: U32::ZERO,
            group: self.group,
            sequence: U64::new(sequence),
            index: U32::new(u32::try_from(self.index).expect("few bitmap blocks")),
            reserved: [0; 4],
            region_blocks: U64::new(self.region.0),
            reserved2: [0; 8],
            bits: [0; BITS_PER_BITMAP_BLOCK / 8],
        };
        format.bits[..bits.len()].copy_from_slice(bits);
        format.crc = U32::new(crc32c::crc32c(format.as_bytes()));
        bytes.copy_from_slice(format.as_bytes());
    }

    /// Read one place.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub fn parse(&self, bytes: &[u8]) -> Result<BitmapBlock, FormatProblem> {
        let format = BitmapFormat::ref_from_bytes(bytes).map_err(|_| FormatProblem::Foreign)?;
        check_head(bytes, &format.magic, &BITMAP_MAGIC)?;
        check_crc(bytes, format.crc.get())?;
        check_version(format.version.get())?;
        let same = format.group == self.group
            && format.index.get() as usize == self.index
            && format.region_blocks.get() == self.region.0;
        if !same {
            return Err(FormatProblem::OtherIdentity);
        }
        Ok(BitmapBlock {
            sequence: format.sequence.get(),
            bits: format.bits.to_vec(),
        })
    }
}

fn check_head(bytes: &[u8], magic: &[u8; 8], expected: &[u8; 8]) -> Result<(), FormatProblem> {
    if magic == expected {
        return Ok(());
    }
    Err(if bytes.iter().all(|byte| *byte == 0) {
        FormatProblem::Blank
    } else {
        FormatProblem::Foreign
    })
}

/// Both formats have their checksum at the same place.
fn check_crc(bytes: &[u8], expected: u32) -> Result<(), FormatProblem> {
    let crc = crc32c::crc32c(&bytes[..12]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    let crc = crc32c::crc32c_append(crc, &bytes[16..]);
    if crc == expected {
        Ok(())
    } else {
        Err(FormatProblem::Corrupt)
    }
}

fn check_version(version: u32) -> Result<(), FormatProblem> {
    if version == VERSION {
        Ok(())
    } else {
        Err(FormatProblem::UnknownVersion(version))
    }
}

#[cfg(test)]
mod tests {
    //! Every field both ways at its offset, every refusal. Deliberate bugs these catch: a field at another offset or
    //! of another order of bytes, a checksum that leaves a byte out, a blank place taken for a foreign one, regions
    //! that leave out the last, shorter one.
    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            leg: [1; 16],
            group: [2; 16],
            slice: [3; 16],
            pool: [4; 16],
            index: 5,
            group_size: 6,
            geometry: LegGeometry::for_length(Blocks(0x1_0000)).expect("long enough"),
            formatted_epoch: 0x0807_0605_0403_0201,
        }
    }

    fn written() -> Vec<u8> {
        let mut bytes = vec![0xff; 4096];
        superblock().write_to(&mut bytes);
        bytes
    }

    #[test]
    fn every_field_of_the_superblock_has_its_place() {
        let bytes = written();
        let rows: [(usize, &[u8]); 15] = [
            (0, b"TRSTLEG\0"),
            (8, &[1, 0, 0, 0]),
            (16, &[1; 16]),
            (32, &[2; 16]),
            (48, &[3; 16]),
            (64, &[4; 16]),
            (80, &[5, 0, 0, 0]),
            (84, &[6, 0, 0, 0]),
            (88, &[0, 0, 1, 0, 0, 0, 0, 0]),
            (96, &[0, 1, 0, 0, 0, 0, 0, 0]),
            (104, &[16, 0, 0, 0, 0, 0, 0, 0]),
            (112, &[1, 0, 0, 0, 0, 0, 0, 0]),
            (120, &[128, 0, 0, 0, 0, 0, 0, 0]),
            (128, &[0, 9, 0, 0, 0, 0, 0, 0]),
            (136, &[1, 2, 3, 4, 5, 6, 7, 8]),
        ];
        for (offset, expected) in rows {
            assert_eq!(&bytes[offset..offset + expected.len()], expected, "at {offset}");
        }
        assert!(bytes[144..].iter().all(|byte| *byte == 0));
        assert_eq!(Superblock::parse(&bytes), Ok(superblock()));
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        for offset in (0..4096).step_by(7).chain([8, 12, 15, 4095]) {
            let mut bytes = written();
            bytes[offset] ^= 0x10;
            let expected = if offset < 8 {
                FormatProblem::Foreign
            } else {
                FormatProblem::Corrupt
            };
            assert_eq!(Superblock::parse(&bytes), Err(expected), "at {offset}");
        }
        assert_eq!(Superblock::parse(&[0; 4096]), Err(FormatProblem::Blank));
        assert_eq!(Superblock::parse(&written()[..4095]), Err(FormatProblem::Foreign));
    }

    #[test]
    fn another_version_is_refused_by_number() {
        let mut bytes = written();
        bytes[8] = 9;
        bytes[12..16].fill(0);
        let crc = crc32c::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Superblock::parse(&bytes), Err(FormatProblem::UnknownVersion(9)));
    }

    #[test]
    fn either_copy_will_do() {
        let (good, blank, foreign) = (written(), vec![0; 4096], vec![7; 4096]);
        assert_eq!(Superblock::parse_copies([&good, &foreign]), Ok(superblock()));
        assert_eq!(Superblock::parse_copies([&foreign, &good]), Ok(superblock()));
        assert_eq!(
            Superblock::parse_copies([&blank, &blank]),
            Err(FormatProblem::Blank)
        );
        assert_eq!(
            Superblock::parse_copies([&blank, &foreign]),
            Err(FormatProblem::Foreign)
        );
        assert_eq!(
            Superblock::parse_copies([&foreign, &blank]),
            Err(FormatProblem::Foreign)
        );
    }

    #[test]
    fn identity_is_leg_group_slice_pool_and_length() {
        let ours = superblock();
        assert_eq!(
            ours.matches(&Superblock {
                index: 9,
                group_size: 9,
                formatted_epoch: 9,
                ..ours
            }),
            Ok(())
        );
        let longer = LegGeometry::for_length(Blocks(0x2_0000)).expect("long enough");
        for other in [
            Superblock { leg: [9; 16], ..ours },
            Superblock {
                group: [9; 16],
                ..ours
            },
            Superblock {
                slice: [9; 16],
                ..ours
            },
            Superblock {
                pool: [9; 16],
                ..ours
            },
            Superblock {
                geometry: longer,
                ..ours
            },
        ] {
            assert_eq!(other.matches(&ours), Err(FormatProblem::OtherIdentity));
        }
    }

    #[test]
    fn a_bitmap_block_reads_back_and_notices_changes() {
        let identity = BitmapIdentity {
            group: [2; 16],
            index: 3,
            region: Blocks(256),
        };
        let mut bytes = vec![0xff; 4096];
        identity.write_to(0x11, &[0xa5, 0x01], &mut bytes);
        let rows: [(usize, &[u8]); 6] = [
            (0, b"TRSTBMP\0"),
            (16, &[2; 16]),
            (32, &[0x11, 0, 0, 0, 0, 0, 0, 0]),
            (40, &[3, 0, 0, 0]),
            (48, &[0, 1, 0, 0, 0, 0, 0, 0]),
            (64, &[0xa5, 0x01, 0]),
        ];
        for (offset, expected) in rows {
            assert_eq!(&bytes[offset..offset + expected.len()], expected, "at {offset}");
        }
        let block = identity.parse(&bytes).expect("just written");
        assert_eq!((block.sequence, &block.bits[..3]), (0x11, &[0xa5, 0x01, 0][..]));
        for other in [
            BitmapIdentity {
                group: [9; 16],
                ..identity
            },
            BitmapIdentity { index: 4, ..identity },
            BitmapIdentity {
                region: Blocks(512),
                ..identity
            },
        ] {
            assert_eq!(other.parse(&bytes), Err(FormatProblem::OtherIdentity));
        }
        bytes[4095] ^= 1;
        assert_eq!(identity.parse(&bytes), Err(FormatProblem::Corrupt));
        assert_eq!(identity.parse(&[0; 4096]), Err(FormatProblem::Blank));
    }

    #[test]
    fn the_parts_of_a_leg_do_not_overlap_and_end_with_it() {
        for length in [2305, 3000, 65536, 1 << 18, 1 << 24, (1 << 30) + 77, 1 << 34] {
            let geometry = LegGeometry::for_length(Blocks(length)).expect("long enough");
            let last_place = geometry.bitmap_place(geometry.bitmap_blocks() - 1, 1);
            assert!(last_place.end() <= geometry.metadata.start);
            assert_eq!(geometry.metadata.end(), geometry.data.start);
            assert_eq!(geometry.data.start.0, leg_metadata_blocks(Blocks(length)).0);
            assert_eq!(geometry.data.end().0, length);
            assert!(geometry.bitmap_blocks() <= BITMAP_BLOCKS_MAX);
            let regions = geometry.regions();
            assert_eq!(geometry.region_range(0).start, geometry.metadata.start);
            assert_eq!(geometry.region_range(regions - 1).end().0, length);
            assert_eq!(
                geometry.regions_of(geometry.region_range(regions - 1)),
                regions - 1..regions
            );
            assert_eq!(geometry.regions_of(BlockRange::new(length - 1, 0)), 0..0);
        }
        for length in [0, 1, 2048, 2304, u64::MAX] {
            assert_eq!(LegGeometry::for_length(Blocks(length)), None, "{length}");
        }
    }

    #[test]
    fn a_range_over_a_border_touches_both_regions() {
        let geometry = LegGeometry::for_length(Blocks(65536)).expect("long enough");
        assert_eq!(geometry.regions_of(BlockRange::new(128, 256)), 0..1);
        assert_eq!(geometry.regions_of(BlockRange::new(128 + 255, 2)), 0..2);
        assert_eq!(geometry.regions_of(BlockRange::new(128 + 256, 1)), 1..2);
    }
}
