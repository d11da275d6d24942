//! A simulated disk: what is not flushed can be lost or torn, sector by sector, and what was never written is garbage.

use block::Memory;
use fabric::driver::{DiskError, DiskOperation};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

const BLOCK: usize = 4096;
const SECTOR: usize = 512;

/// What lies where nobody has written: somebody's old data.
const OLD: u8 = 0xDD;

#[derive(Clone, Debug)]
enum Block {
    Zeroes,
    Bytes(Box<[u8; BLOCK]>),
}

impl Block {
    fn bytes(&self) -> [u8; BLOCK] {
        match self {
            Block::Zeroes => [0; BLOCK],
            Block::Bytes(bytes) => **bytes,
        }
    }
}

type Blocks = BTreeMap<u64, Block>;

#[derive(Clone, Debug, Default)]
pub(super) struct SimDisk {
    pub(super) size_bytes: u64,
    /// What survives.
    media: Blocks,
    /// What reads see above it, until a flush.
    cache: Blocks,
    /// Requests that fail from now on, by what they do.
    pub(super) fail_reads: Option<DiskError>,
    pub(super) fail_writes: Option<DiskError>,
    pub(super) fail_zeroes: Option<DiskError>,
    /// Writes of any kind carried out.
    pub(super) writes: u64,
}

fn blocks(offset_bytes: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, Block)> {
    let block = |chunk: &[u8]| Block::Bytes(Box::new(chunk.try_into().expect("whole blocks")));
    (offset_bytes / BLOCK as u64..).zip(bytes.chunks(BLOCK).map(block))
}

fn zeroes(offset_bytes: u64, length_bytes: u64) -> impl Iterator<Item = (u64, Block)> {
    let all = offset_bytes / BLOCK as u64..(offset_bytes + length_bytes) / BLOCK as u64;
    all.map(|at| (at, Block::Zeroes))
}

impl SimDisk {
    pub(super) fn new(size_bytes: u64) -> SimDisk {
        SimDisk {
            size_bytes,
            ..SimDisk::default()
        }
    }

    fn block(&self, at: u64) -> [u8; BLOCK] {
        self.cache
            .get(&at)
            .or_else(|| self.media.get(&at))
            .map_or([OLD; BLOCK], Block::bytes)
    }

    /// Changes the media under everybody's feet.
    pub(super) fn put(&mut self, offset_bytes: u64, bytes: &[u8]) {
        let (mut at, mut skip) = (
            offset_bytes / BLOCK as u64,
            (offset_bytes % BLOCK as u64) as usize,
        );
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - skip));
            let mut block = self.block(at);
            block[skip..skip + now.len()].copy_from_slice(now);
            self.media.insert(at, Block::Bytes(Box::new(block)));
            (at, skip, rest) = (at + 1, 0, later);
        }
    }

    pub(super) fn get(&self, offset_bytes: u64, length_bytes: u64) -> Vec<u8> {
        let first = offset_bytes / BLOCK as u64;
        let each: Vec<_> = (first..first + length_bytes / BLOCK as u64)
            .map(|at| self.block(at))
            .collect();
        each.concat()
    }

    fn check(&self, offset_bytes: u64, length_bytes: u64) {
        assert!(
            offset_bytes.is_multiple_of(4096) && length_bytes.is_multiple_of(4096) && length_bytes > 0,
            "whole blocks"
        );
        assert!(offset_bytes + length_bytes <= self.size_bytes, "inside the disk");
    }

    pub(super) fn execute(
        &mut self,
        operation: &DiskOperation,
        memory: &mut dyn Memory,
    ) -> Result<(), DiskError> {
        match *operation {
            DiskOperation::Read { offset_bytes, buffer } => {
                self.check(offset_bytes, u64::from(buffer.length));
                self.fail_reads.map_or(Ok(()), Err)?;
                let bytes = self.get(offset_bytes, u64::from(buffer.length));
                memory.bytes_mut(buffer).copy_from_slice(&bytes);
            }
            DiskOperation::Write {
                offset_bytes,
                buffer,
                durable,
            } => {
                self.check(offset_bytes, u64::from(buffer.length));
                self.fail_writes.map_or(Ok(()), Err)?;
                self.writes += 1;
                let written: Blocks = blocks(offset_bytes, memory.bytes(buffer)).collect();
                if durable {
                    self.cache.retain(|at, _| !written.contains_key(at));
                    self.media.extend(written);
                } else {
                    self.cache.extend(written);
                }
            }
            DiskOperation::Flush => {
                self.fail_writes.map_or(Ok(()), Err)?;
                self.media.append(&mut self.cache);
            }
            DiskOperation::WriteZeroes {
                offset_bytes,
                length_bytes,
                ..
            } => {
                self.check(offset_bytes, length_bytes);
                self.fail_zeroes.map_or(Ok(()), Err)?;
                self.writes += 1;
                self.cache.extend(zeroes(offset_bytes, length_bytes));
            }
            // Advice, not followed.
            DiskOperation::Discard {
                offset_bytes,
                length_bytes,
            } => self.check(offset_bytes, length_bytes),
        }
        Ok(())
    }

    /// A request that was under way when the power failed: part of it may have reached the media.
    pub(super) fn tear(&mut self, operation: &DiskOperation, memory: &dyn Memory) {
        match *operation {
            DiskOperation::Write {
                offset_bytes, buffer, ..
            } => self.cache.extend(blocks(offset_bytes, memory.bytes(buffer))),
            DiskOperation::WriteZeroes {
                offset_bytes,
                length_bytes,
                ..
            } => self.cache.extend(zeroes(offset_bytes, length_bytes)),
            DiskOperation::Read { .. } | DiskOperation::Flush | DiskOperation::Discard { .. } => {}
        }
    }

    /// The power fails: of what was not flushed, some sectors are there and some are not.
    pub(super) fn lose_power(&mut self, rng: &mut StdRng) {
        let share: f64 = [0.0, 0.5, 1.0][rng.random_range(0..3)];
        for (at, block) in std::mem::take(&mut self.cache) {
            let landed: Vec<usize> = (0..BLOCK / SECTOR).filter(|_| rng.random_bool(share)).collect();
            if landed.len() == BLOCK / SECTOR {
                self.media.insert(at, block);
            } else if !landed.is_empty() {
                let (mut torn, new) = (self.block(at), block.bytes());
                for sector in landed
                    .into_iter()
                    .map(|sector| sector * SECTOR..(sector + 1) * SECTOR)
                {
                    torn[sector.clone()].copy_from_slice(&new[sector]);
                }
                self.media.insert(at, Block::Bytes(Box::new(torn)));
            }
        }
    }
}
