//! A node's buffers in the simulated world: counted, and poisoned when fresh, so that reading what nobody wrote shows.

use block::{BufferId, BufferSlice, Memory};

#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    holders: u32,
}

/// Buffers of one node's life; gone with it.
#[derive(Debug, Default)]
pub struct WorldMemory {
    buffers: Vec<Option<Buffer>>,
    free: Vec<u32>,
    in_use: u64,
}

/// What fresh buffers hold.
const POISON: u8 = 0xA5;
/// The most that one node may hold at a time: enough for any well-behaved load of the world, so that a leak shows.
const LIMIT_BYTES: u64 = 64 << 20;

impl WorldMemory {
    /// Bytes in buffers that somebody holds.
    pub fn in_use_bytes(&self) -> u64 {
        self.in_use
    }

    fn buffer(&mut self, id: BufferId) -> &mut Buffer {
        self.buffers[id.0 as usize]
            .as_mut()
            .expect("a buffer that somebody holds")
    }
}

impl Memory for WorldMemory {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        if self.in_use + u64::from(length) > LIMIT_BYTES {
            return None;
        }
        self.in_use += u64::from(length);
        let buffer = Some(Buffer {
            bytes: vec![POISON; length as usize],
            holders: 1,
        });
        let id = match self.free.pop() {
            Some(id) => {
                self.buffers[id as usize] = buffer;
                id
            }
            None => {
                self.buffers.push(buffer);
                u32::try_from(self.buffers.len() - 1).expect("fewer than 2^32 buffers")
            }
        };
        Some(BufferSlice {
            buffer: BufferId(id),
            offset: 0,
            length,
        })
    }

    fn retain(&mut self, buffer: BufferId) {
        self.buffer(buffer).holders += 1;
    }

    fn release(&mut self, buffer: BufferId) {
        let holders = &mut self.buffer(buffer).holders;
        *holders -= 1;
        if *holders == 0 {
            let gone = self.buffers[buffer.0 as usize]
                .take()
                .expect("it was there just now");
            self.in_use -= gone.bytes.len() as u64;
            self.free.push(buffer.0);
        }
    }

    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        let buffer = self.buffers[slice.buffer.0 as usize]
            .as_ref()
            .expect("a buffer that somebody holds");
        &buffer.bytes[slice.offset as usize..(slice.offset + slice.length) as usize]
    }

    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        let range = slice.offset as usize..(slice.offset + slice.length) as usize;
        &mut self.buffer(slice.buffer).bytes[range]
    }
}
