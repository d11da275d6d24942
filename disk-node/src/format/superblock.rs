//! The superblock: which disk this is, whose, and how it is divided.

use super::{DATA_OFFSET, SUPERBLOCK_BYTES};
use cluster::spec::{EXTENT_BYTES_MAX, EXTENT_BYTES_MIN};
use cluster::{DiskId, DiskNodeId};
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const MAGIC: [u8; 8] = *b"TRSTLDSK";
const VERSION: u32 = 1;
const MIB: u64 = 1 << 20;

/// What is known of a disk from its superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Given when it was formatted.
    pub disk: DiskId,
    /// Whose it is; none until a node has started with it.
    pub node: Option<DiskNodeId>,
    /// Unit of space.
    pub extent_bytes: u64,
    /// How many there are.
    pub extents: u64,
}

/// Why a superblock cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSuperblock {
    /// Something else, or nothing.
    #[error("no superblock of a disk node")]
    NotOurs,
    /// Ours once.
    #[error("the superblock's checksum is wrong")]
    Checksum,
    /// Written by a later release.
    #[error("the superblock has version {version}, this release knows up to {VERSION}")]
    Version {
        /// What it says.
        version: u32,
    },
    /// Its numbers contradict each other.
    #[error("the superblock's numbers contradict each other")]
    Geometry,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    reserved0: U32,
    disk: [u8; 16],
    node: [u8; 16],
    extent_bytes: U64,
    extents: U64,
    data_offset: U64,
    reserved1: [u8; 4020],
    checksum: U32,
}

const _: () = assert!(size_of::<Raw>() == SUPERBLOCK_BYTES as usize);

impl Superblock {
    /// The superblock of a disk of so many bytes that is to be formatted. `None` if not one extent fits.
    ///
    /// # Panics
    /// If the extent size is none that `cluster::spec` allows: the caller checks what people ask for.
    pub fn fresh(
        disk: DiskId,
        node: Option<DiskNodeId>,
        disk_bytes: u64,
        extent_bytes: u64,
    ) -> Option<Superblock> {
        assert!(
            extent_bytes_allowed(extent_bytes),
            "an extent of {extent_bytes} bytes"
        );
        let extents = disk_bytes.saturating_sub(DATA_OFFSET) / extent_bytes;
        (extents > 0).then_some(Superblock {
            disk,
            node,
            extent_bytes,
            extents,
        })
    }

    /// As it lies on the disk.
    pub fn encode(&self) -> Vec<u8> {
        let mut raw = Raw {
            magic: MAGIC,
            version: U32::new(VERSION),
            reserved0: U32::ZERO,
            disk: *self.disk.0.as_bytes(),
            node: *self.node.map_or(Uuid::nil(), |node| node.0).as_bytes(),
            extent_bytes: U64::new(self.extent_bytes),
            extents: U64::new(self.extents),
            data_offset: U64::new(DATA_OFFSET),
            reserved1: [0; 4020],
            checksum: U32::ZERO,
        };
        raw.checksum = U32::new(crc32c::crc32c(raw.as_bytes()));
        raw.as_bytes().to_vec()
    }

    /// Reads one copy.
    pub fn parse(bytes: &[u8]) -> Result<Superblock, BadSuperblock> {
        let (raw, _) = Raw::read_from_prefix(bytes).map_err(|_| BadSuperblock::NotOurs)?;
        if raw.magic != MAGIC {
            return Err(BadSuperblock::NotOurs);
        }
        raw.check()?;
        let node = Uuid::from_bytes(raw.node);
        let superblock = Superblock {
            disk: DiskId(Uuid::from_bytes(raw.disk)),
            node: (!node.is_nil()).then_some(DiskNodeId(node)),
            extent_bytes: raw.extent_bytes.get(),
            extents: raw.extents.get(),
        };
        match superblock.needed_bytes() {
            Some(_) if superblock.extents > 0 && raw.data_offset.get() == DATA_OFFSET => Ok(superblock),
            _ => Err(BadSuperblock::Geometry),
        }
    }

    /// What a disk must have at least. `None` if the numbers are none a disk can have.
    pub fn needed_bytes(&self) -> Option<u64> {
        if !extent_bytes_allowed(self.extent_bytes) {
            return None;
        }
        self.extents
            .checked_mul(self.extent_bytes)?
            .checked_add(DATA_OFFSET)
    }
}

/// Whether extents may have that size.
pub(crate) fn extent_bytes_allowed(bytes: u64) -> bool {
    (EXTENT_BYTES_MIN..=EXTENT_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(MIB)
}

impl Raw {
    fn check(&self) -> Result<(), BadSuperblock> {
        let bytes = self.as_bytes();
        let body = &bytes[..bytes.len() - size_of::<U32>()];
        let checksum = crc32c::crc32c_append(crc32c::crc32c(body), &[0; 4]);
        if checksum != self.checksum.get() {
            return Err(BadSuperblock::Checksum);
        }
        match self.version.get() {
            VERSION => Ok(()),
            version => Err(BadSuperblock::Version { version }),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Mutants these tests catch: a field at another place; a checksum that misses a byte; a geometry that overflows.

    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            disk: DiskId(Uuid::from_u128(0x0102_0304)),
            node: Some(DiskNodeId(Uuid::from_u128(0x0506))),
            extent_bytes: 4 << 20,
            extents: 77,
        }
    }

    fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[4092..].fill(0);
        let checksum = crc32c::crc32c(&bytes);
        bytes[4092..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn every_field_has_its_place() {
        let bytes = superblock().encode();
        let mut expected = vec![0; 4096];
        expected[..8].copy_from_slice(b"TRSTLDSK");
        expected[8] = 1;
        expected[16..32].copy_from_slice(&0x0102_0304u128.to_be_bytes());
        expected[32..48].copy_from_slice(&0x0506u128.to_be_bytes());
        expected[48..56].copy_from_slice(&(4u64 << 20).to_le_bytes());
        expected[56..64].copy_from_slice(&77u64.to_le_bytes());
        expected[64..72].copy_from_slice(&(4u64 << 20).to_le_bytes());
        assert_eq!(bytes, resealed(expected));
        assert_eq!(Superblock::parse(&bytes), Ok(superblock()));
        let unowned = Superblock {
            node: None,
            ..superblock()
        };
        assert_eq!(Superblock::parse(&unowned.encode()), Ok(unowned));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = superblock().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 64 {
                BadSuperblock::NotOurs
            } else {
                BadSuperblock::Checksum
            };
            assert_eq!(Superblock::parse(&flipped), Err(expected), "bit {bit}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let with = |at: usize, value: u64| {
            let mut bytes = superblock().encode();
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            Superblock::parse(&resealed(bytes))
        };
        assert_eq!(with(8, 2), Err(BadSuperblock::Version { version: 2 }));
        for (at, value) in [
            (48, 0),
            (48, 4097),
            (48, 1 << 20),
            (48, 101 << 30),
            (56, 0),
            (56, u64::MAX),
            (64, 0),
        ] {
            assert_eq!(with(at, value), Err(BadSuperblock::Geometry), "{value} at {at}");
        }
        assert_eq!(Superblock::parse(&[]), Err(BadSuperblock::NotOurs));
        assert_eq!(Superblock::parse(&[0; 4096]), Err(BadSuperblock::NotOurs));
    }

    #[test]
    fn a_disk_too_small_for_one_extent_is_not_formatted() {
        let fresh = |bytes| Superblock::fresh(DiskId(Uuid::nil()), None, bytes, 4 << 20);
        assert_eq!(fresh(0), None);
        assert_eq!(fresh((8 << 20) - 1), None);
        assert_eq!(fresh(8 << 20).map(|fresh| fresh.extents), Some(1));
        assert_eq!(
            fresh(8 << 20).and_then(|fresh| fresh.needed_bytes()),
            Some(8 << 20)
        );
    }
}
