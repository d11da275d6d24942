//! What simulations of groups and slices share: chance from a seed, buffers, disks that lose power, and a history of every
//! block that says what a read may return.
//!
//! A disk keeps what was written in a volatile cache until a flush, or a write that asks for it, puts it on the media; a power
//! cut keeps or loses each cached block at will, and tears blocks of the leg's head (superblocks, bitmap) in the middle.
#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod disk;
pub(crate) mod history;

use block::{BufferId, BufferSlice, Memory};

/// Chance, from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed ^ 0x5851_f42d_4c95_7f2d)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    /// One of `0..below`.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }
    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Buffers that are counted, so that what is left over shows.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    buffers: Vec<Option<(Vec<u8>, u32)>>,
    free: Vec<u32>,
    /// Every so many allocations fail, if not zero.
    starve_every: u64,
    allocations: u64,
}

impl Buffers {
    /// Buffers of which every so many allocations fail; none if zero.
    pub(crate) fn starving_every(starve_every: u64) -> Buffers {
        Buffers {
            starve_every,
            ..Buffers::default()
        }
    }
    /// A buffer for a payload: these never fail.
    pub(crate) fn payload(&mut self, length: u32) -> BufferSlice {
        let index = self.free.pop().unwrap_or_else(|| {
            self.buffers.push(None);
            u32::try_from(self.buffers.len() - 1).expect("few")
        });
        self.buffers[index as usize] = Some((vec![0xee; length as usize], 1));
        BufferSlice {
            buffer: BufferId(index),
            offset: 0,
            length,
        }
    }
    /// How many are in use.
    pub(crate) fn in_use(&self) -> usize {
        self.buffers.iter().flatten().count()
    }
    fn entry(&mut self, buffer: BufferId) -> &mut Option<(Vec<u8>, u32)> {
        &mut self.buffers[buffer.0 as usize]
    }
}

impl Memory for Buffers {
    fn allocate(&mut self, length: u32) -> Option<BufferSlice> {
        self.allocations += 1;
        if self.starve_every != 0 && self.allocations.is_multiple_of(self.starve_every) {
            return None;
        }
        Some(self.payload(length))
    }
    fn retain(&mut self, buffer: BufferId) {
        self.entry(buffer).as_mut().expect("in use").1 += 1;
    }
    fn release(&mut self, buffer: BufferId) {
        let entry = self.entry(buffer).as_mut().expect("in use");
        entry.1 -= 1;
        if entry.1 == 0 {
            *self.entry(buffer) = None;
            self.free.push(buffer.0);
        }
    }
    fn bytes(&self, slice: BufferSlice) -> &[u8] {
        let (bytes, _) = self.buffers[slice.buffer.0 as usize].as_ref().expect("in use");
        &bytes[slice.offset as usize..(slice.offset + slice.length) as usize]
    }
    fn bytes_mut(&mut self, slice: BufferSlice) -> &mut [u8] {
        let (bytes, _) = self.entry(slice.buffer).as_mut().expect("in use");
        &mut bytes[slice.offset as usize..(slice.offset + slice.length) as usize]
    }
}
