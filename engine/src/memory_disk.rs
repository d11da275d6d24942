//! A disk made of memory: for demonstrations and tests. Its contents end with the reactor, and wherever it shows it is
//! said to be volatile.

use crate::buffer::{Pool, Region};
use block::Memory;
use fabric::driver::DiskOperation;
use std::io;
use std::ops::Range;

/// Bytes that read as zeroes until written. What is read is not copied: the disk's own bytes stand for the buffer's (see
/// [`stand_in`](crate::stand_in)) until they change. Memory is taken from the machine as written.
pub(crate) struct MemoryDisk {
    region: Region,
}

/// What is fetched ahead of a read's first block, in steps: so much at a time is what a processor keeps under way.
pub(crate) const FETCH_STEPS: [Range<usize>; 3] = [0..512, 512..2304, 2304..4096];

#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

fn to_index(offset_bytes: u64) -> usize {
    usize::try_from(offset_bytes).expect("the disk is no larger than the address space")
}

impl MemoryDisk {
    pub(crate) fn new(size_bytes: u64) -> io::Result<MemoryDisk> {
        let length = usize::try_from(size_bytes).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(MemoryDisk {
            region: Region::reserve(length)?,
        })
    }

    /// A request will soon be carried out: part of what it reads is on its way into the caches from now on.
    pub(crate) fn expect(&self, operation: &DiskOperation, part: Range<usize>) {
        if let DiskOperation::Read { offset_bytes, buffer } = *operation {
            let end = part.end.min(buffer.length as usize);
            let from = to_index(offset_bytes) + part.start;
            fetch(self.region.slice(from, end - part.start));
        }
    }

    /// Does the whole request at once. The range has been checked.
    pub(crate) fn execute(&mut self, operation: &DiskOperation, pool: &mut Pool) {
        match *operation {
            DiskOperation::Read { offset_bytes, buffer } => {
                let from = self.region.slice(to_index(offset_bytes), buffer.length as usize);
                // SAFETY: the disk's memory stays where it is while the reactor lives, and `about_to_change` says of every change.
                let stands_in = unsafe { pool.stand_in(buffer, from.as_ptr()) };
                if !stands_in {
                    pool.bytes_mut(buffer).copy_from_slice(from);
                }
            }
            DiskOperation::Write {
                offset_bytes, buffer, ..
            } => {
                self.about_to_change(offset_bytes, buffer.length.into(), pool);
                let into = self
                    .region
                    .slice_mut(to_index(offset_bytes), buffer.length as usize);
                copy_past_caches(into, pool.bytes(buffer));
            }
            DiskOperation::Flush => {}
            DiskOperation::WriteZeroes {
                offset_bytes,
                length_bytes,
                ..
            }
            | DiskOperation::Discard {
                offset_bytes,
                length_bytes,
            } => {
                self.about_to_change(offset_bytes, length_bytes, pool);
                self.region.forget(to_index(offset_bytes), to_index(length_bytes));
            }
        }
    }

    fn about_to_change(&self, offset_bytes: u64, length_bytes: u64, pool: &mut Pool) {
        pool.own_bytes_of(self.region.at(to_index(offset_bytes)), to_index(length_bytes));
    }
}

/// Has bytes fetched into the caches while other work goes on. A request reads its block once, so it is never there already, and
/// waiting for it would be a third of the work for a short read.
#[cfg(target_arch = "x86_64")]
fn fetch(bytes: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    for line in bytes.chunks(CACHE_LINE) {
        // SAFETY: every x86-64 processor has this instruction, and it changes nothing that can be seen.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}

/// Has bytes fetched into the caches.
#[cfg(not(target_arch = "x86_64"))]
fn fetch(_bytes: &[u8]) {}

/// Copies whole blocks without reading what was there before, and without driving anything else out of the caches: a disk's
/// blocks are many, and none is looked at again soon. Half the cost of a plain copy where memory is cold. Whoever is not this
/// thread may see them only behind [`settle_blocks`].
#[cfg(target_arch = "x86_64")]
fn copy_past_caches(into: &mut [u8], from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    const PIECE: usize = size_of::<__m128i>();
    assert_eq!(into.len(), from.len(), "as much as there is room for");
    assert!(
        into.as_ptr().addr().is_multiple_of(CACHE_LINE) && into.len().is_multiple_of(CACHE_LINE),
        "whole blocks of a disk"
    );
    for (into, from) in into
        .chunks_exact_mut(CACHE_LINE)
        .zip(from.chunks_exact(CACHE_LINE))
    {
        for at in (0..CACHE_LINE).step_by(PIECE) {
            // SAFETY: both lines have a whole piece at `at`, the target is aligned as checked above, and every x86-64 processor
            // has these instructions.
            unsafe {
                let piece = _mm_loadu_si128(from.as_ptr().add(at).cast());
                _mm_stream_si128(into.as_mut_ptr().add(at).cast(), piece);
            }
        }
    }
}

/// What was written to memory disks is seen by every thread that sees anything later of this one. Waits until memory has it, so: not
/// for each block, but once for a run of requests. (This thread, and the kernel on its behalf, see it anyway.)
#[cfg(target_arch = "x86_64")]
pub(crate) fn settle_blocks() {
    // SAFETY: every x86-64 processor has it.
    unsafe { std::arch::x86_64::_mm_sfence() };
}

/// See above; plain stores need nothing.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn settle_blocks() {}

/// Copies whole blocks.
#[cfg(not(target_arch = "x86_64"))]
fn copy_past_caches(into: &mut [u8], from: &[u8]) {
    into.copy_from_slice(from);
}
