//! Buffers for the scripts: counted like the engine's, and scarce when a script wants them to be.

use block::{BufferId, BufferSlice, Memory};
use std::collections::BTreeMap;

/// Counts references, like the engine's; gives out no more than `limit` buffers.
#[derive(Debug, Default)]
pub(super) struct TestMemory {
    buffers: BTreeMap<BufferId, (Vec<u8>, u32)>,
    next: u32,
    pub(super) limit: Option<usize>,
}

impl TestMemory {
    pub(super) fn in_use(&self) -> usize {
        self.buffers.len()
    }
}

impl Memory for TestMemory {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        if self.limit.is_some_and(|limit| self.buffers.len() >= limit) {
            return None;
        }
        self.next += 1;
        let buffer = BufferId(self.next);
        self.buffers.insert(buffer, (vec![0xee; length as usize], 1));
        Some(BufferSlice {
            buffer,
            offset: 0,
            length,
        })
    }
    fn retain(&mut self, buffer: BufferId) {
        self.buffers.get_mut(&buffer).expect("a lent buffer").1 += 1;
    }
    fn release(&mut self, buffer: BufferId) {
        let held = self.buffers.get_mut(&buffer).expect("a lent buffer");
        held.1 -= 1;
        if held.1 == 0 {
            self.buffers.remove(&buffer);
        }
    }
    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        let from = slice.offset as usize;
        &self.buffers[&slice.buffer].0[from..from + slice.length as usize]
    }
    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        let from = slice.offset as usize;
        let held = self.buffers.get_mut(&slice.buffer).expect("a lent buffer");
        &mut held.0[from..from + slice.length as usize]
    }
}
