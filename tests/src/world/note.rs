//! What disks of the world were asked to change, told in order: for whoever wants to know afterwards what a power cut could have left.

use super::{NodeName, WorldMemory};
use block::Memory;
use fabric::driver::{DiskId, DiskOperation, DiskRequestId};
use std::sync::Arc;

/// What a request changes.
#[derive(Clone, Debug)]
pub enum DiskChange {
    /// A write; `durable`: on the media when it has ended.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// What.
        bytes: Arc<[u8]>,
        /// Force unit access.
        durable: bool,
    },
    /// Zeroes, never durable by themselves.
    Zeroes {
        /// Where, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// What ended before this was asked is on the media when it has ended.
    Flush,
}

impl DiskChange {
    /// What an operation changes, if anything.
    pub(super) fn of(operation: &DiskOperation, memory: &WorldMemory) -> Option<DiskChange> {
        match *operation {
            DiskOperation::Write {
                offset_bytes: offset,
                buffer,
                durable,
            } => {
                let bytes = memory.bytes(buffer).into();
                Some(DiskChange::Write {
                    offset,
                    bytes,
                    durable,
                })
            }
            DiskOperation::WriteZeroes {
                offset_bytes: offset,
                length_bytes: length,
                ..
            } => Some(DiskChange::Zeroes { offset, length }),
            DiskOperation::Flush => Some(DiskChange::Flush),
            DiskOperation::Read { .. } | DiskOperation::Discard { .. } => None,
        }
    }
}

/// A change, or the end of one. Ends are told of every request, also of those that change nothing.
#[derive(Clone, Debug)]
pub enum DiskNote {
    /// A process asks.
    Asked {
        /// Whose.
        node: NodeName,
        /// Which of its disks.
        disk: DiskId,
        /// Its name for it.
        request: DiskRequestId,
        /// What.
        change: DiskChange,
    },
    /// The disk has done it.
    Ended {
        /// Whose.
        node: NodeName,
        /// Which.
        request: DiskRequestId,
    },
    /// The process ended before it heard of it.
    Left {
        /// Whose.
        node: NodeName,
        /// Which.
        request: DiskRequestId,
        /// The disk did it all the same.
        done: bool,
    },
}
