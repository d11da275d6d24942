//! Buffers for tests: counted, never reused, and loud when a count is wrong.

use block::{BufferId, BufferSlice, Memory};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct TestMemory {
    buffers: Vec<(u32, Vec<u8>)>,
    /// Whether [`Memory::allocate`] finds nothing.
    pub(crate) exhausted: bool,
    /// How many buffers there are, if that is limited.
    pub(crate) limit: Option<usize>,
    lent: usize,
}

impl TestMemory {
    /// A buffer with these bytes, count one.
    #[allow(dead_code, reason = "not every user of this module needs it")]
    pub(crate) fn filled(&mut self, bytes: &[u8]) -> BufferSlice {
        let slice = self.allocate(u32::try_from(bytes.len()).unwrap()).unwrap();
        self.bytes_mut(slice).copy_from_slice(bytes);
        slice
    }

    /// How many hold the buffer.
    #[allow(dead_code, reason = "not every user of this module needs it")]
    pub(crate) fn holders(&self, buffer: BufferId) -> u32 {
        self.buffers[buffer.0 as usize].0
    }

    /// Buffers that somebody holds.
    #[allow(dead_code, reason = "not every user of this module needs it")]
    pub(crate) fn held(&self) -> usize {
        self.buffers.iter().filter(|(count, _)| *count > 0).count()
    }

    fn range(slice: BufferSlice) -> core::ops::Range<usize> {
        slice.offset as usize..(slice.offset + slice.length) as usize
    }
}

impl Memory for TestMemory {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        if self.exhausted || self.limit.is_some_and(|limit| self.lent >= limit) {
            return None;
        }
        self.lent += 1;
        let buffer = BufferId(u32::try_from(self.buffers.len()).unwrap());
        // Not zeroes: what is not filled must show.
        self.buffers.push((1, vec![0xEE; length as usize]));
        Some(BufferSlice {
            buffer,
            offset: 0,
            length,
        })
    }

    fn retain(&mut self, buffer: BufferId) {
        let count = &mut self.buffers[buffer.0 as usize].0;
        assert!(*count > 0, "{buffer:?} was given back");
        *count += 1;
    }

    fn release(&mut self, buffer: BufferId) {
        let (count, bytes) = &mut self.buffers[buffer.0 as usize];
        assert!(*count > 0, "{buffer:?} was given back already");
        *count -= 1;
        if *count == 0 {
            *bytes = Vec::new();
            self.lent -= 1;
        }
    }

    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        let (count, bytes) = &self.buffers[slice.buffer.0 as usize];
        assert!(*count > 0, "{slice:?} was given back");
        &bytes[TestMemory::range(slice)]
    }

    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        let (count, bytes) = &mut self.buffers[slice.buffer.0 as usize];
        assert!(*count > 0, "{slice:?} was given back");
        &mut bytes[TestMemory::range(slice)]
    }
}
