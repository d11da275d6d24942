//! A leg's disk with a volatile cache, by whole blocks: most of them were never written and cost nothing.

use crate::memory::Buffers;
use block::{BLOCK_SIZE, BufferSlice, Memory, Operation, Request};
use std::collections::BTreeMap;
use std::rc::Rc;

type Block = Rc<[u8]>;

/// See the module.
#[derive(Debug, Default)]
pub struct Disk {
    media: BTreeMap<u64, Block>,
    cache: BTreeMap<u64, Block>,
}

/// One block of a payload.
pub fn part(buffer: BufferSlice, index: u64) -> BufferSlice {
    buffer.part(index as u32 * BLOCK_SIZE, BLOCK_SIZE)
}

impl Disk {
    fn block(&self, lba: u64) -> Option<&Block> {
        self.cache.get(&lba).or_else(|| self.media.get(&lba))
    }

    /// The first byte of a block; the writes of a story fill blocks with one.
    pub fn fill(&self, lba: u64) -> u8 {
        self.block(lba).map_or(0, |block| block[0])
    }

    fn put(&mut self, lba: u64, block: Block, durable: bool) {
        if durable {
            self.cache.remove(&lba);
            self.media.insert(lba, block);
        } else {
            self.cache.insert(lba, block);
        }
    }

    /// Carries out a request.
    pub fn execute(&mut self, request: Request, memory: &mut Buffers) {
        for index in 0..request.range.length.0 {
            let lba = request.range.start.0 + index;
            match request.operation {
                Operation::Read { buffer } => match self.block(lba) {
                    Some(block) => memory.bytes_mut(part(buffer, index)).copy_from_slice(block),
                    None => memory.bytes_mut(part(buffer, index)).fill(0),
                },
                Operation::Write { buffer, durable } => {
                    self.put(lba, Rc::from(memory.bytes(part(buffer, index))), durable);
                }
                Operation::WriteZeroes { durable, .. } => {
                    self.put(lba, Rc::from([0; BLOCK_SIZE as usize].as_slice()), durable);
                }
                Operation::Flush | Operation::Deallocate => {}
            }
        }
        if request.operation == Operation::Flush {
            self.media.append(&mut self.cache);
        }
    }

    /// The power fails: `keep` says of each cached block whether it got to the media.
    pub fn cut(&mut self, mut keep: impl FnMut() -> bool) {
        for (lba, block) in std::mem::take(&mut self.cache) {
            if keep() {
                self.media.insert(lba, block);
            }
        }
    }
}
