//! What one layer asks of the next, and how it ended.

use crate::BufferSlice;

/// Every namespace of the product has blocks of this many bytes.
pub const BLOCK_SIZE: u32 = 4096;

/// A logical block address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

/// A count of blocks of [`BLOCK_SIZE`] bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocks(pub u64);

impl Blocks {
    /// The same length in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 * BLOCK_SIZE as u64
    }
}

/// A run of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockRange {
    /// First block.
    pub start: Lba,
    /// How many.
    pub length: Blocks,
}

impl BlockRange {
    /// `length` blocks from `start`.
    pub const fn new(start: u64, length: u64) -> BlockRange {
        BlockRange {
            start: Lba(start),
            length: Blocks(length),
        }
    }
    /// The first block behind the range.
    pub fn end(self) -> Lba {
        Lba(self
            .start
            .0
            .checked_add(self.length.0)
            .expect("a range's end fits in 64 bits"))
    }
    /// Whether the two ranges share a block.
    pub fn overlaps(self, other: BlockRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

/// What is to be done with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fill the buffer from the blocks.
    Read {
        /// As long as the range.
        buffer: BufferSlice,
    },
    /// Write the buffer to the blocks; if `durable` (FUA), on the media before it completes.
    Write {
        /// As long as the range.
        buffer: BufferSlice,
        /// Force unit access.
        durable: bool,
    },
    /// Everything that completed before is on the media when this completes. The range is empty.
    Flush,
    /// The blocks read as zeroes afterwards; `deallocate` lets the space be given back.
    WriteZeroes {
        /// Whether space may be given back.
        deallocate: bool,
        /// Force unit access.
        durable: bool,
    },
    /// The blocks' contents are no longer needed: they read as before or as zeroes. Advice.
    Deallocate,
}

impl Operation {
    /// Whether the operation can change what a later read returns.
    pub fn modifies(self) -> bool {
        matches!(
            self,
            Operation::Write { .. } | Operation::WriteZeroes { .. } | Operation::Deallocate
        )
    }
}

/// One request between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// With which blocks.
    pub range: BlockRange,
}

/// How a request ended. The fabric's target maps it, exhaustively, to an NVMe status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Done.
    Success,
    /// Not to be had here now: not the owner, legs away, suspended, stack not built. A path condition (R7):
    /// the host keeps the request and tries again, here or on another path.
    Unavailable,
    /// A newer owner has fenced this one (reservation conflict on a leg). A path condition (R7).
    StaleEpoch,
    /// The media failed: the data cannot be read, or could not be written, on any leg.
    MediaError,
    /// The pool has no space for a first write.
    OutOfSpace,
    /// The range lies outside of the device.
    OutOfRange,
    /// The request makes no sense for this device.
    Invalid,
}
