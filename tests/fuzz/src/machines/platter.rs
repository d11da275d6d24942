//! A disk with a volatile cache, by sectors of 512 bytes: what is not flushed a power cut may keep or lose, sector by sector.

use block::{BLOCK_SIZE, Memory, Operation, Request};
use std::collections::BTreeMap;

const SECTOR: usize = 512;
const SECTORS: u64 = BLOCK_SIZE as u64 / SECTOR as u64;

type Sector = [u8; SECTOR];
const BLANK: Sector = [0; SECTOR];

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Platter {
    media: BTreeMap<u64, Sector>,
    /// Written and not flushed, in order.
    cache: Vec<(u64, Sector)>,
}

impl Platter {
    fn put(&mut self, sector: u64, bytes: Sector, durable: bool) {
        if durable {
            self.cache.retain(|(cached, _)| *cached != sector);
            self.media.insert(sector, bytes);
        } else {
            self.cache.push((sector, bytes));
        }
    }

    fn sector(&self, sector: u64) -> Sector {
        let cached = self.cache.iter().rev().find(|(cached, _)| *cached == sector);
        let there = cached.map(|(_, bytes)| bytes).or_else(|| self.media.get(&sector));
        there.copied().unwrap_or(BLANK)
    }

    /// A block as a read returns it.
    pub fn block(&self, block: u64) -> Vec<u8> {
        let sectors = (0..SECTORS).flat_map(|sector| self.sector(block * SECTORS + sector));
        sectors.collect()
    }

    /// Puts bytes into a block, durably.
    pub fn patch(&mut self, block: u64, offset: usize, bytes: &[u8]) {
        let mut whole = self.block(block);
        let length = bytes.len().min(whole.len() - offset);
        whole[offset..offset + length].copy_from_slice(&bytes[..length]);
        self.put_block(block, &whole, true);
    }

    /// Replaces a block.
    pub fn put_block(&mut self, block: u64, bytes: &[u8], durable: bool) {
        for (sector, bytes) in (block * SECTORS..).zip(bytes.as_chunks::<SECTOR>().0) {
            self.put(sector, *bytes, durable);
        }
    }

    /// Carries out a request; `keep` says of each of its sectors whether it gets there.
    pub fn execute(&mut self, request: &Request, memory: &mut dyn Memory, mut keep: impl FnMut() -> bool) {
        let first = request.range.start.0 * SECTORS;
        let sectors = first..first + request.range.length.0 * SECTORS;
        match request.operation {
            Operation::Read { buffer } => {
                let bytes: Vec<u8> = sectors.flat_map(|sector| self.sector(sector)).collect();
                memory.bytes_mut(buffer).copy_from_slice(&bytes);
            }
            Operation::Write { buffer, durable } => {
                for (sector, bytes) in sectors.zip(memory.bytes(buffer).as_chunks::<SECTOR>().0) {
                    if keep() {
                        self.put(sector, *bytes, durable);
                    }
                }
            }
            Operation::WriteZeroes { durable, .. } => {
                for sector in sectors {
                    if keep() {
                        self.put(sector, BLANK, durable);
                    }
                }
            }
            Operation::Flush => {
                for (sector, bytes) in std::mem::take(&mut self.cache) {
                    self.media.insert(sector, bytes);
                }
            }
            Operation::Deallocate => {}
        }
    }

    /// The power fails: `keep` says of each sector in the cache whether it got to the media.
    pub fn cut(&mut self, mut keep: impl FnMut() -> bool) {
        for (sector, bytes) in std::mem::take(&mut self.cache) {
            if keep() {
                self.media.insert(sector, bytes);
            }
        }
    }
}
