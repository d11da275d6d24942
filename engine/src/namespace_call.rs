//! What is asked of an NVMe namespace as commands of the NVM command set, each within the limits of its controller; and
//! what their statuses mean.
//!
//! Not here: how a command reaches the namespace (`ring`, `threads`), how its limits are found out (`namespace`).

use crate::task::{Command, Data, Lent};
use fabric::driver::DiskError;
use nvme::command::{DatasetManagement, LogicalBlocks, Read, Write, WriteZeroes};
use nvme::{IoCommand, Nsid, Status, StatusCodeType, ZeroBased};

/// What a namespace and its controller are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) nsid: Nsid,
    /// A logical block has 2^this bytes: 9 to 12.
    pub(crate) block_shift: u8,
    /// The most one command transfers: whole blocks of 4096 bytes.
    pub(crate) transfer_bytes_max: u32,
    /// The most one Write Zeroes covers; 0 if the controller does not have it.
    pub(crate) zeroes_bytes_max: u64,
    /// A Write Zeroes may say *deallocate*.
    pub(crate) zeroes_deallocate: bool,
    /// The most one range of Dataset Management covers; 0 if the controller does not have it.
    pub(crate) deallocate_blocks_max: u32,
    /// The controller has a write cache that a loss of power empties. Without one a write is on the media when it completes,
    /// and Flush has nothing to do (NVM, 3.3.2; Base, 5.1.13.2.1, VWC).
    pub(crate) volatile_cache: bool,
}

impl Shape {
    pub(crate) fn block_of(&self, offset_bytes: u64) -> u64 {
        offset_bytes >> self.block_shift
    }

    fn blocks(&self, slba: u64, bytes: u64) -> LogicalBlocks {
        let count = u32::try_from(bytes >> self.block_shift).expect("within the limits of one command");
        let nlb = ZeroBased::<u16>::from_count(count).expect("within the limits of one command");
        LogicalBlocks::new(slba, nlb)
    }

    fn command(&self, command: IoCommand, data: Data, covers_bytes: u64) -> Command {
        Command {
            nsid: self.nsid,
            command,
            data,
            covers_bytes,
        }
    }

    fn transfer(&self, left: u64) -> u32 {
        left.min(self.transfer_bytes_max.into()) as u32
    }
}

pub(crate) fn flush(shape: &Shape) -> Command {
    shape.command(IoCommand::Flush, Data::None, 0)
}

/// The first part of `left` bytes.
pub(crate) fn read(shape: &Shape, slba: u64, address: Lent, left: u64) -> Command {
    let length = shape.transfer(left);
    let read = Read {
        blocks: shape.blocks(slba, length.into()),
        dataset_management: 0,
    };
    shape.command(IoCommand::Read(read), Data::At { address, length }, length.into())
}

/// The first part of `left` bytes.
pub(crate) fn write(shape: &Shape, slba: u64, address: Lent, left: u64, durable: bool) -> Command {
    let length = shape.transfer(left);
    let blocks = LogicalBlocks {
        force_unit_access: durable,
        ..shape.blocks(slba, length.into())
    };
    shape.command(
        IoCommand::Write(Write::new(blocks)),
        Data::At { address, length },
        length.into(),
    )
}

/// The first part of `left` bytes.
pub(crate) fn write_zeroes(shape: &Shape, slba: u64, left: u64, deallocate: bool) -> Command {
    let bytes = left.min(shape.zeroes_bytes_max);
    let write_zeroes = WriteZeroes {
        blocks: shape.blocks(slba, bytes),
        deallocate: deallocate && shape.zeroes_deallocate,
        namespace_zeroes: false,
    };
    shape.command(IoCommand::WriteZeroes(write_zeroes), Data::None, bytes)
}

/// The first part of `left` bytes.
pub(crate) fn deallocate(shape: &Shape, slba: u64, left: u64) -> Command {
    let blocks = (left >> shape.block_shift).min(shape.deallocate_blocks_max.into()) as u32;
    let dataset_management = DatasetManagement {
        ranges: ZeroBased::<u8>::from_count(1).expect("one is allowed"),
        integral_for_read: false,
        integral_for_write: false,
        deallocate: true,
    };
    shape.command(
        IoCommand::DatasetManagement(dataset_management),
        Data::Range { slba, blocks },
        u64::from(blocks) << shape.block_shift,
    )
}

/// The controller asks for another try, and media has nothing to do with it.
pub(crate) fn later(status: Status) -> bool {
    !status.do_not_retry
        && matches!(
            status.code_type,
            StatusCodeType::Generic | StatusCodeType::PathRelated
        )
        && [
            Status::COMMAND_INTERRUPTED,
            Status::NAMESPACE_NOT_READY,
            Status::TRANSIENT_TRANSPORT_ERROR,
            Status::ABORT_REQUESTED,
            Status::ABORTED_SQ_DELETION,
            Status::HOST_PATHING_ERROR,
            Status::COMMAND_ABORTED_BY_HOST,
        ]
        .iter()
        .any(|named| status.is(*named))
}

/// The seam's word for a status.
pub(crate) fn error_of(status: Status) -> DiskError {
    if status.is(Status::CAPACITY_EXCEEDED) {
        DiskError::NoSpace
    } else if status.is(Status::INVALID_NAMESPACE_OR_FORMAT)
        || status.is(Status::LBA_OUT_OF_RANGE)
        || status.is_path_related()
    {
        DiskError::Gone
    } else {
        DiskError::Media
    }
}

#[cfg(test)]
#[path = "namespace_call_tests.rs"]
mod tests;
