//! A leg's disk, with a volatile cache, and the epoch it was fenced with.

use super::{Buffers, Chance};
use block::{BufferSlice, Memory, Operation, Request};
use std::collections::BTreeMap;
use std::rc::Rc;

const BLOCK: usize = 4096;
static ZEROES: [u8; BLOCK] = [0; BLOCK];

/// Blocks that may be torn: superblocks and bitmap. Data blocks are whole: a disk writes 4096 bytes or nothing.
const HEAD_BLOCKS: u64 = 128;

#[derive(Debug, Default)]
pub(crate) struct Disk {
    media: BTreeMap<u64, Rc<[u8]>>,
    cache: BTreeMap<u64, Rc<[u8]>>,
    /// The highest epoch it was fenced with: lower ones are refused (R2).
    pub(crate) epoch: u64,
    pub(crate) up: bool,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        Disk {
            up: true,
            ..Disk::default()
        }
    }

    pub(crate) fn block(&self, lba: u64) -> &[u8] {
        let block = self.cache.get(&lba).or_else(|| self.media.get(&lba));
        block.map_or(&ZEROES, |block| block)
    }

    /// The token at the start of a block.
    pub(crate) fn token(&self, lba: u64) -> u64 {
        token_of(self.block(lba))
    }

    fn put(&mut self, lba: u64, bytes: &[u8], durable: bool) {
        if bytes == ZEROES && !self.cache.contains_key(&lba) && !self.media.contains_key(&lba) {
            return;
        }
        let block: Rc<[u8]> = Rc::from(bytes);
        if durable {
            self.cache.remove(&lba);
            self.media.insert(lba, block);
        } else {
            self.cache.insert(lba, block);
        }
    }

    /// Does what is asked, wholly.
    pub(crate) fn execute(&mut self, request: Request, memory: &mut Buffers) {
        let range = request.range;
        match request.operation {
            Operation::Read { buffer } => {
                for at in 0..range.length.0 {
                    let block = self.block(range.start.0 + at);
                    memory.bytes_mut(slice_of(buffer, at)).copy_from_slice(block);
                }
            }
            Operation::Write { buffer, durable } => {
                for at in 0..range.length.0 {
                    self.put(range.start.0 + at, memory.bytes(slice_of(buffer, at)), durable);
                }
            }
            Operation::WriteZeroes { durable, .. } => {
                for at in 0..range.length.0 {
                    self.put(range.start.0 + at, &ZEROES, durable);
                }
            }
            Operation::Flush => {
                let cache = std::mem::take(&mut self.cache);
                self.media.extend(cache);
            }
            Operation::Deallocate => panic!("a mirror makes deallocations the same everywhere"),
        }
    }

    /// Power goes while this is being written: any part of it may have arrived.
    pub(crate) fn execute_partly(&mut self, request: Request, memory: &Buffers, chance: &mut Chance) {
        let Operation::Write { buffer, .. } = request.operation else {
            return;
        };
        for at in 0..request.range.length.0 {
            let lba = request.range.start.0 + at;
            let new = memory.bytes(slice_of(buffer, at)).to_vec();
            self.keep_or_lose(lba, &new, chance);
        }
    }

    /// What was not on the media is there, or lost, or (the head) torn.
    pub(crate) fn lose_power(&mut self, chance: &mut Chance) {
        for (lba, new) in std::mem::take(&mut self.cache) {
            self.keep_or_lose(lba, &new, chance);
        }
        self.up = false;
    }

    fn keep_or_lose(&mut self, lba: u64, new: &[u8], chance: &mut Chance) {
        let mut block = self
            .media
            .get(&lba)
            .map_or(ZEROES.to_vec(), |block| block.to_vec());
        let kept = match chance.below(3) {
            0 => 0..0,
            1 if lba < HEAD_BLOCKS => {
                let middle = 512 * chance.below(8) as usize;
                if chance.once_in(2) {
                    0..middle
                } else {
                    middle..BLOCK
                }
            }
            _ => 0..BLOCK,
        };
        block[kept.clone()].copy_from_slice(&new[kept]);
        self.media.insert(lba, Rc::from(block));
    }

    /// Another disk in the same place.
    pub(crate) fn replace(&mut self) {
        self.media.clear();
        self.cache.clear();
    }

    /// One block of garbage.
    pub(crate) fn corrupt(&mut self, lba: u64) {
        let mut block = self.block(lba).to_vec();
        block[100] ^= 0xff;
        self.put(lba, &block, true);
    }

    /// Where two disks differ behind the head.
    pub(crate) fn difference(&self, other: &Disk) -> Option<u64> {
        let keys = |disk: &Disk| {
            disk.media
                .keys()
                .chain(disk.cache.keys())
                .copied()
                .collect::<Vec<_>>()
        };
        let mut keys: Vec<u64> = keys(self).into_iter().chain(keys(other)).collect();
        keys.sort_unstable();
        keys.into_iter()
            .find(|lba| *lba >= HEAD_BLOCKS && self.block(*lba) != other.block(*lba))
    }
}

fn slice_of(buffer: BufferSlice, block: u64) -> BufferSlice {
    buffer.part(u32::try_from(block).expect("short") * BLOCK as u32, BLOCK as u32)
}

pub(crate) fn token_of(block: &[u8]) -> u64 {
    u64::from_le_bytes(block[..8].try_into().expect("eight bytes"))
}

/// A payload that says everywhere what it is.
pub(crate) fn fill(bytes: &mut [u8], token: u64) {
    for block in bytes.chunks_exact_mut(BLOCK) {
        block.fill((token % 251) as u8);
        block[..8].copy_from_slice(&token.to_le_bytes());
    }
}

/// Whether every byte of a block is the one its token asks for: no two writes are mixed in it.
pub(crate) fn is_whole(block: &[u8]) -> bool {
    let filler = (token_of(block) % 251) as u8;
    block[8..].iter().step_by(97).all(|byte| *byte == filler)
}
