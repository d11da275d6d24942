//! A block of the journal as bytes, written so that a torn write can be told from a damaged one.
//!
//! Each of the eight 512-byte sectors carries its own stamp (opening and sequence number) and CRC32C. A disk writes a sector
//! wholly or not at all; so sectors that are whole but of different stamps are a write that was cut off, which
//! was never acknowledged, and a sector whose CRC is wrong is damage, which must not be taken for one.

use super::record::{RECORD_BYTES, Record};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a journal block.
pub(super) const JOURNAL_BLOCK_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;
const SECTORS: usize = JOURNAL_BLOCK_BYTES / SECTOR_BYTES;
const SECTOR_PAYLOAD: usize = SECTOR_BYTES - size_of::<SectorTrailer>();
const PAYLOAD_BYTES: usize = SECTORS * SECTOR_PAYLOAD;
/// Records that one block takes.
pub(super) const RECORDS_PER_JOURNAL_BLOCK: usize = (PAYLOAD_BYTES - size_of::<RawHeader>()) / RECORD_BYTES;
const MAGIC: [u8; 8] = *b"TrstJrnl";
const VERSION: u16 = 1;

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct RawHeader {
    magic: [u8; 8],
    version: U16,
    record_count: U16,
    /// Over the header, with this field zero, and the records.
    crc: U32,
    pool: [u8; 16],
    epoch: U64,
    sequence: U64,
    checkpoint: U64,
    opening: U32,
    reserved: U32,
}

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct SectorTrailer {
    sequence: U64,
    opening: U32,
    /// Over the pool's identifier and the sector without this field.
    crc: U32,
}

const _: () = assert!(size_of::<RawHeader>() == 64 && size_of::<SectorTrailer>() == 16);
const _: () = assert!(RECORDS_PER_JOURNAL_BLOCK == 122);

/// What a block says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JournalHeader {
    pub(super) pool: [u8; 16],
    /// Of the owner that wrote it.
    pub(super) epoch: u64,
    /// Counts blocks from the pool's first; decides the block's place in the ring.
    pub(super) sequence: u64,
    /// Newest durable checkpoint when it was written.
    pub(super) checkpoint: u64,
    /// Which opening of the pool wrote it.
    pub(super) opening: u32,
}

/// What is found where a block should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole block.
    Whole(JournalHeader, Vec<Record>),
    /// Whole sectors, not all of one block: the newest stamp among them; `None` if all are blank.
    Unfinished(Option<Stamp>),
    /// Damage; the newest stamp that a whole sector still shows.
    Damaged(Option<Stamp>, &'static str),
}

impl Found {
    /// The newest stamp in the block.
    pub(super) fn newest(&self) -> Option<Stamp> {
        match self {
            Found::Whole(header, _) => Some(header.stamp()),
            Found::Unfinished(newest) | Found::Damaged(newest, _) => *newest,
        }
    }
}

/// Which block a sector was written as part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp {
    pub(super) sequence: u64,
    pub(super) opening: u32,
}

impl JournalHeader {
    fn stamp(&self) -> Stamp {
        Stamp {
            sequence: self.sequence,
            opening: self.opening,
        }
    }
}

/// Fills a block.
pub(super) fn encode(header: &JournalHeader, records: &[Record], block: &mut [u8]) {
    assert!(records.len() <= RECORDS_PER_JOURNAL_BLOCK && block.len() == JOURNAL_BLOCK_BYTES);
    let mut payload = [0; PAYLOAD_BYTES];
    let (head, body) = payload.split_at_mut(size_of::<RawHeader>());
    for (slot, record) in body.chunks_exact_mut(RECORD_BYTES).zip(records) {
        slot.copy_from_slice(&record.encode());
    }
    let mut raw = RawHeader {
        magic: MAGIC,
        version: U16::new(VERSION),
        record_count: U16::new(records.len() as u16),
        crc: U32::ZERO,
        pool: header.pool,
        epoch: U64::new(header.epoch),
        sequence: U64::new(header.sequence),
        checkpoint: U64::new(header.checkpoint),
        opening: U32::new(header.opening),
        reserved: U32::ZERO,
    };
    raw.crc = U32::new(payload_crc(raw, body));
    head.copy_from_slice(raw.as_bytes());
    for (sector, part) in block
        .chunks_exact_mut(SECTOR_BYTES)
        .zip(payload.chunks_exact(SECTOR_PAYLOAD))
    {
        seal(sector, part, header);
    }
}

fn seal(sector: &mut [u8], payload: &[u8], header: &JournalHeader) {
    sector[..SECTOR_PAYLOAD].copy_from_slice(payload);
    let trailer = SectorTrailer {
        sequence: U64::new(header.sequence),
        opening: U32::new(header.opening),
        crc: U32::ZERO,
    };
    sector[SECTOR_PAYLOAD..].copy_from_slice(trailer.as_bytes());
    let crc = sector_crc(&header.pool, sector);
    sector[SECTOR_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
}

fn sector_crc(pool: &[u8; 16], sector: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(pool), &sector[..SECTOR_BYTES - 4])
}

fn payload_crc(mut header: RawHeader, body: &[u8]) -> u32 {
    header.crc = U32::ZERO;
    crc32c::crc32c_append(crc32c::crc32c(header.as_bytes()), body)
}

/// Says what a block's bytes are, to somebody who knows the pool.
pub(super) fn parse(pool: &[u8; 16], block: &[u8]) -> Found {
    let stamps: Vec<SectorState> = block
        .chunks_exact(SECTOR_BYTES)
        .map(|sector| stamp(pool, sector))
        .collect();
    let newest = stamps.iter().filter_map(|stamp| stamp.stamped()).max();
    if stamps.contains(&SectorState::Damaged) {
        return Found::Damaged(newest, "a sector's checksum is wrong");
    }
    let first = stamps[0];
    if first == SectorState::Blank || stamps.iter().any(|&stamp| stamp != first) {
        return Found::Unfinished(newest);
    }
    match parse_payload(pool, block) {
        Ok((header, records)) if SectorState::Stamped(header.stamp()) == first => {
            Found::Whole(header, records)
        }
        Ok(_) => Found::Damaged(newest, "its stamps are of another block"),
        Err(what) => Found::Damaged(newest, what),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SectorState {
    Blank,
    Stamped(Stamp),
    Damaged,
}

impl SectorState {
    fn stamped(self) -> Option<Stamp> {
        match self {
            SectorState::Stamped(stamp) => Some(stamp),
            SectorState::Blank | SectorState::Damaged => None,
        }
    }
}

fn stamp(pool: &[u8; 16], sector: &[u8]) -> SectorState {
    let (trailer, _) =
        SectorTrailer::read_from_prefix(&sector[SECTOR_PAYLOAD..]).expect("a sector has a trailer");
    if trailer.crc.get() == sector_crc(pool, sector) {
        SectorState::Stamped(Stamp {
            sequence: trailer.sequence.get(),
            opening: trailer.opening.get(),
        })
    } else if sector.iter().all(|&byte| byte == 0) {
        SectorState::Blank
    } else {
        SectorState::Damaged
    }
}

fn parse_payload(pool: &[u8; 16], block: &[u8]) -> Result<(JournalHeader, Vec<Record>), &'static str> {
    let payload: Vec<u8> = block
        .chunks_exact(SECTOR_BYTES)
        .flat_map(|sector| &sector[..SECTOR_PAYLOAD])
        .copied()
        .collect();
    let (raw, body) = RawHeader::read_from_prefix(&payload).expect("a payload has a header");
    let count = usize::from(raw.record_count.get());
    if raw.magic != MAGIC || raw.pool != *pool {
        return Err("it is not a journal block of this pool");
    }
    if raw.version.get() != VERSION {
        return Err("it has an unknown version");
    }
    if raw.crc.get() != payload_crc(raw, body) || count > RECORDS_PER_JOURNAL_BLOCK {
        return Err("its checksum is wrong");
    }
    let (slots, _) = body.as_chunks::<RECORD_BYTES>();
    let records = slots[..count]
        .iter()
        .map(Record::parse)
        .collect::<Result<_, _>>()?;
    let header = JournalHeader {
        pool: raw.pool,
        epoch: raw.epoch.get(),
        sequence: raw.sequence.get(),
        checkpoint: raw.checkpoint.get(),
        opening: raw.opening.get(),
    };
    Ok((header, records))
}

#[cfg(test)]
mod tests {
    use super::super::record::Extent;
    use super::*;

    const POOL: [u8; 16] = [9; 16];

    fn header(sequence: u64, opening: u32) -> JournalHeader {
        JournalHeader {
            pool: POOL,
            epoch: 5,
            sequence,
            checkpoint: 3,
            opening,
        }
    }

    fn records(count: u32) -> Vec<Record> {
        (0..count)
            .map(|number| Record::Cleaned {
                extent: Extent(number),
                count: 1,
            })
            .collect()
    }

    fn block(sequence: u64, opening: u32, count: u32) -> Vec<u8> {
        let mut bytes = vec![0xee; JOURNAL_BLOCK_BYTES];
        encode(&header(sequence, opening), &records(count), &mut bytes);
        bytes
    }

    #[test]
    fn the_header_has_its_bytes() {
        let bytes = block(0x0102, 0x0304, 2);
        assert_eq!(&bytes[..8], b"TrstJrnl");
        assert_eq!(&bytes[8..12], &[1, 0, 2, 0]);
        assert_eq!(&bytes[16..32], &POOL);
        assert_eq!(&bytes[32..40], &[5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[40..48], &[2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[48..56], &[3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[56..64], &[4, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[64..96], &records(1)[0].encode());
        for sector in bytes.chunks_exact(512) {
            assert_eq!(&sector[496..508], &[2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0]);
        }
    }

    #[test]
    fn every_length_comes_back() {
        for count in [0, 1, 13, 14, 121, 122] {
            assert_eq!(
                parse(&POOL, &block(7, 2, count)),
                Found::Whole(header(7, 2), records(count))
            );
        }
        assert_eq!(parse(&POOL, &[0; JOURNAL_BLOCK_BYTES]), Found::Unfinished(None));
    }

    /// Every subset of sectors of the new block over an old one, a blank one and an earlier attempt at the same number.
    #[test]
    fn every_tear_is_unfinished_and_never_whole() {
        let new = block(20, 4, 122);
        for old in [vec![0; JOURNAL_BLOCK_BYTES], block(12, 4, 50), block(20, 3, 122)] {
            for kept in 1..255u8 {
                let mut torn = old.clone();
                for sector in (0..8).filter(|sector| kept >> sector & 1 == 1) {
                    torn[sector * 512..][..512].copy_from_slice(&new[sector * 512..][..512]);
                }
                assert_eq!(
                    parse(&POOL, &torn),
                    Found::Unfinished(Some(header(20, 4).stamp())),
                    "{kept:08b}"
                );
            }
        }
    }

    #[test]
    fn every_damaged_byte_is_damage() {
        let whole = block(20, 4, 122);
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 0x10;
            assert_eq!(
                parse(&POOL, &bytes),
                Found::Damaged(Some(header(20, 4).stamp()), "a sector's checksum is wrong"),
                "byte {index}"
            );
        }
        assert!(
            matches!(parse(&[8; 16], &whole), Found::Damaged(None, _)),
            "another pool's block"
        );
    }
}
