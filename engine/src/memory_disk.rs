//! A disk made of memory: for demonstrations and tests. Its contents end with the reactor, and wherever it shows it is
//! said to be volatile.

use crate::buffer::{Pool, Region};
use block::Memory;
use fabric::driver::DiskOperation;
use std::io;

/// Bytes that read as zeroes until written. Memory is taken from the machine page by page, as written.
pub(crate) struct MemoryDisk {
    region: Region,
}

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

    /// Does the whole request at once. The range has been checked.
    pub(crate) fn execute(&mut self, operation: &DiskOperation, pool: &mut Pool) {
        match *operation {
            DiskOperation::Read { offset_bytes, buffer } => {
                let from = self.region.slice(to_index(offset_bytes), buffer.length as usize);
                pool.bytes_mut(buffer).copy_from_slice(from);
            }
            DiskOperation::Write {
                offset_bytes, buffer, ..
            } => {
                let into = self
                    .region
                    .slice_mut(to_index(offset_bytes), buffer.length as usize);
                into.copy_from_slice(pool.bytes(buffer));
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
            } => self.region.forget(to_index(offset_bytes), to_index(length_bytes)),
        }
    }
}
