//! Buffers that count their holders: what is held at the end was leaked, what is used after it was given back is seen at once.

use block::{BufferId, BufferSlice, Memory};
use std::collections::BTreeMap;

/// Buffers, by name; a name is never used again.
#[derive(Debug, Default)]
pub struct Buffers {
    held: BTreeMap<u32, (Vec<u8>, u32)>,
    last: u32,
    /// So many of the next allocations find nothing.
    pub refuse: u32,
}

impl Buffers {
    /// How many somebody holds.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// A buffer full of one byte, whatever [`Buffers::refuse`] says.
    pub fn filled(&mut self, length: u32, fill: u8) -> BufferSlice {
        self.last += 1;
        self.held.insert(self.last, (vec![fill; length as usize], 1));
        BufferSlice {
            buffer: BufferId(self.last),
            offset: 0,
            length,
        }
    }

    fn entry(&mut self, buffer: BufferId) -> &mut (Vec<u8>, u32) {
        self.held
            .get_mut(&buffer.0)
            .expect("a buffer that somebody holds")
    }
}

fn range(slice: BufferSlice) -> std::ops::Range<usize> {
    slice.offset as usize..(slice.offset + slice.length) as usize
}

impl Memory for Buffers {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        if self.refuse > 0 {
            self.refuse -= 1;
            return None;
        }
        Some(self.filled(length, 0xA5))
    }
    fn retain(&mut self, buffer: BufferId) {
        self.entry(buffer).1 += 1;
    }
    fn release(&mut self, buffer: BufferId) {
        let entry = self.entry(buffer);
        entry.1 -= 1;
        if entry.1 == 0 {
            self.held.remove(&buffer.0);
        }
    }
    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        &self.held[&slice.buffer.0].0[range(slice)]
    }
    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        &mut self.entry(slice.buffer).0[range(slice)]
    }
}
