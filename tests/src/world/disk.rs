//! A disk of the simulated world: what is on the media, and what was written since and is not there yet.
//!
//! Reads see the newest write. A flush, or a durable write, puts on the media what completed before. A power cut keeps the
//! media, and of everything later any subset, cut at any sector of 512 bytes.

use super::random::Random;
use std::collections::BTreeMap;

const SECTOR: usize = 512;
const BLOCK: usize = 4096;
static ZEROES: [u8; BLOCK] = [0; BLOCK];

#[derive(Clone, Debug)]
struct Unflushed {
    /// Which of all that the disk was given.
    number: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl Unflushed {
    /// What of it lies before and behind a range.
    fn outside(self, offset: u64, length: u64) -> Vec<Unflushed> {
        let end = self.offset + self.bytes.len() as u64;
        if end <= offset || offset + length <= self.offset {
            return vec![self];
        }
        let before = offset.saturating_sub(self.offset) as usize;
        let behind = (offset + length).clamp(self.offset, end);
        let parts = [
            (self.offset, self.bytes[..before].to_vec()),
            (behind, self.bytes[(behind - self.offset) as usize..].to_vec()),
        ];
        let parts = parts.into_iter().filter(|(_, bytes)| !bytes.is_empty());
        let number = self.number;
        let part = |(offset, bytes)| Unflushed {
            number,
            offset,
            bytes,
        };
        parts.map(part).collect()
    }
}

/// A disk.
#[derive(Clone, Debug)]
pub struct WorldDisk {
    size_bytes: u64,
    /// Blocks that were written; `None` is zeroes.
    media: BTreeMap<u64, Option<Box<[u8; BLOCK]>>>,
    /// What blocks that were never written are full of.
    old: u8,
    /// In the order in which it was given.
    unflushed: Vec<Unflushed>,
    given: u64,
}

impl WorldDisk {
    /// A disk full of zeroes.
    pub fn new(size_bytes: u64) -> WorldDisk {
        WorldDisk::used(size_bytes, 0)
    }

    /// A disk full of this byte: of what somebody has left there.
    pub fn used(size_bytes: u64, old: u8) -> WorldDisk {
        WorldDisk {
            size_bytes,
            media: BTreeMap::new(),
            old,
            unflushed: Vec::new(),
            given: 0,
        }
    }

    /// How large it is.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What a read sees now.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        self.check(offset, into.len() as u64);
        self.read_media(offset, into);
        for write in &self.unflushed {
            overlay(offset, into, write.offset, &write.bytes);
        }
    }

    /// A write that completed; on the media at once if `durable`.
    pub fn write(&mut self, offset: u64, bytes: &[u8], durable: bool) {
        self.check(offset, bytes.len() as u64);
        self.given += 1;
        if durable {
            // Force unit access promises this write and no other: the rest of what it overlaps may still be lost.
            self.unflushed = std::mem::take(&mut self.unflushed)
                .into_iter()
                .flat_map(|write| write.outside(offset, bytes.len() as u64))
                .collect();
            self.settle(offset, bytes);
        } else {
            self.unflushed.push(Unflushed {
                number: self.given,
                offset,
                bytes: bytes.to_vec(),
            });
        }
    }

    /// Everything that completed before is on the media.
    pub fn flush(&mut self) {
        self.flush_before(self.given);
    }

    /// How many writes have completed.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// A flush that was asked for when so many writes had completed: later ones may still be lost.
    pub fn flush_before(&mut self, given: u64) {
        let covered = self
            .unflushed
            .iter()
            .take_while(|write| write.number <= given)
            .count();
        for write in self.unflushed.drain(..covered).collect::<Vec<_>>() {
            self.settle(write.offset, &write.bytes);
        }
    }

    /// What is on the media between two places, block by block, by place in bytes; blocks of zeroes are left out.
    pub fn media(&self, range: std::ops::Range<u64>) -> impl Iterator<Item = (u64, &[u8; BLOCK])> {
        let blocks = range.start / BLOCK as u64..range.end / BLOCK as u64;
        let kept = self.media.range(blocks);
        kept.filter_map(|(at, bytes)| Some((at * BLOCK as u64, &**bytes.as_ref()?)))
    }

    /// The power goes: of what is not on the media any part may be.
    pub fn cut_power(&mut self, random: &mut Random) {
        for mut write in std::mem::take(&mut self.unflushed) {
            match random.below(3) {
                0 => {}
                1 => self.settle(write.offset, &write.bytes),
                _ => {
                    let sectors = write.bytes.len() / SECTOR;
                    let keep = random.below(sectors as u64 + 1) as usize * SECTOR;
                    let mut present = vec![0; write.bytes.len()];
                    self.read_media(write.offset, &mut present);
                    write.bytes[keep..].copy_from_slice(&present[keep..]);
                    self.settle(write.offset, &write.bytes);
                }
            }
        }
    }

    fn read_media(&self, offset: u64, into: &mut [u8]) {
        for (index, block) in into.chunks_mut(BLOCK).enumerate() {
            match self.media.get(&(offset / BLOCK as u64 + index as u64)) {
                Some(Some(bytes)) => block.copy_from_slice(&bytes[..]),
                Some(None) => block.fill(0),
                None => block.fill(self.old),
            }
        }
    }

    fn settle(&mut self, offset: u64, bytes: &[u8]) {
        for (index, block) in bytes.chunks(BLOCK).enumerate() {
            let at = offset / BLOCK as u64 + index as u64;
            let zeroes = block == ZEROES;
            if zeroes && self.old == 0 {
                self.media.remove(&at);
            } else if zeroes {
                self.media.insert(at, None);
            } else {
                let mut kept = Box::new([0; BLOCK]);
                kept.copy_from_slice(block);
                self.media.insert(at, Some(kept));
            }
        }
    }

    fn check(&self, offset: u64, length: u64) {
        assert!(
            offset.is_multiple_of(BLOCK as u64) && length.is_multiple_of(BLOCK as u64),
            "disks have whole blocks"
        );
        assert!(
            offset + length <= self.size_bytes,
            "{offset}+{length} lies beyond the disk's end"
        );
    }
}

fn overlay(offset: u64, into: &mut [u8], from_offset: u64, from: &[u8]) {
    let start = offset.max(from_offset);
    let end = (offset + into.len() as u64).min(from_offset + from.len() as u64);
    if start < end {
        let target = (start - offset) as usize..(end - offset) as usize;
        let source = (start - from_offset) as usize..(end - from_offset) as usize;
        into[target].copy_from_slice(&from[source]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(value: u8) -> Vec<u8> {
        vec![value; BLOCK]
    }

    fn read(disk: &WorldDisk, at: u64) -> Vec<u8> {
        let mut bytes = block(0xEE);
        disk.read(at, &mut bytes);
        bytes
    }

    #[test]
    fn a_power_cut_loses_only_what_was_not_flushed() {
        let mut lost = 0;
        for seed in 0..100 {
            let mut disk = WorldDisk::new(1 << 20);
            disk.write(0, &block(1), false);
            disk.flush();
            disk.write(0, &block(2), false);
            disk.write(8192, &block(3), true);
            assert_eq!(read(&disk, 0), block(2), "reads see the newest write");
            disk.cut_power(&mut Random::new(seed));
            let first = read(&disk, 0);
            assert!(first.iter().all(|byte| *byte == 1 || *byte == 2));
            assert!(
                first
                    .chunks(SECTOR)
                    .all(|sector| sector.iter().all(|byte| *byte == sector[0]))
            );
            lost += u32::from(first != block(2));
            assert_eq!(read(&disk, 8192), block(3), "a durable write is kept");
        }
        assert!((20..80).contains(&lost), "{lost} of 100 cuts lost something");
    }

    #[test]
    fn what_somebody_left_is_there_until_it_is_written_over() {
        let mut disk = WorldDisk::used(1 << 20, 0xEE);
        assert_eq!(read(&disk, 8192), block(0xEE));
        disk.write(8192, &block(0), true);
        assert_eq!(read(&disk, 8192), block(0));
        disk.write(0, &block(0), false);
        disk.flush();
        assert_eq!(read(&disk, 0), block(0));
    }

    #[test]
    fn a_flush_covers_what_had_completed_when_it_was_asked_for() {
        let mut disk = WorldDisk::new(1 << 20);
        disk.write(0, &block(1), false);
        let given = disk.given();
        disk.write(4096, &block(2), false);
        disk.flush_before(given);
        disk.unflushed.clear();
        assert_eq!((read(&disk, 0), read(&disk, 4096)), (block(1), block(0)));
    }

    #[test]
    fn reads_see_the_newest_write_whatever_was_made_durable_between() {
        let mut disk = WorldDisk::new(1 << 20);
        disk.write(0, &vec![1; 4 * BLOCK], false);
        disk.write(0, &vec![2; 2 * BLOCK], false);
        disk.write(0, &block(3), true);
        assert_eq!(read(&disk, 0), block(3));
        assert_eq!(
            read(&disk, BLOCK as u64),
            block(2),
            "the older write does not come back"
        );
        assert_eq!(read(&disk, 2 * BLOCK as u64), block(1));
        disk.flush();
        assert_eq!(read(&disk, BLOCK as u64), block(2));
    }
}
