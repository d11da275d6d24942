//! Hosts' requests on their way: a leg's blocks as bytes of its disk, cut where the leg's extents are not in a row, and
//! joined again when all parts have ended.

use crate::format::{DATA_OFFSET, LegRecord};
use block::{BLOCK_SIZE, BufferSlice, Operation, Request, Status};
use cluster::LegId;
use fabric::driver::{DiskError, DiskOperation};
use fabric::target::IoId;
use std::collections::BTreeMap;

/// Bytes of a disk in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset_bytes: u64,
    pub(crate) length_bytes: u64,
}

/// Where blocks of a leg lie on its disk, in order. `None` if they are not all its own.
pub(crate) fn pieces(record: &LegRecord, extent_bytes: u64, start: u64, length: u64) -> Option<Vec<Piece>> {
    let block = u64::from(BLOCK_SIZE);
    let mut from = start.checked_mul(block)?;
    let mut left = length.checked_mul(block)?;
    let mut pieces: Vec<Piece> = Vec::new();
    for run in &record.runs {
        let run_bytes = run.count * extent_bytes;
        if from >= run_bytes {
            from -= run_bytes;
            continue;
        }
        let piece = Piece {
            offset_bytes: DATA_OFFSET + run.start * extent_bytes + from,
            length_bytes: left.min(run_bytes - from),
        };
        left -= piece.length_bytes;
        from = 0;
        match pieces.last_mut() {
            Some(last) if last.offset_bytes + last.length_bytes == piece.offset_bytes => {
                last.length_bytes += piece.length_bytes;
            }
            _ => pieces.push(piece),
        }
        if left == 0 {
            return Some(pieces);
        }
    }
    None
}

/// What a request asks of the disk.
pub(crate) fn operations(
    record: &LegRecord,
    extent_bytes: u64,
    request: &Request,
) -> Result<Vec<DiskOperation>, Status> {
    let range = request.range;
    if request.operation == Operation::Flush {
        return Ok(vec![DiskOperation::Flush]);
    }
    if range.length.0 == 0 {
        return Err(Status::Invalid);
    }
    let pieces = pieces(record, extent_bytes, range.start.0, range.length.0).ok_or(Status::OutOfRange)?;
    let mut done = 0;
    let each = pieces.into_iter().map(|piece| {
        let part = |buffer: BufferSlice| buffer.part(done as u32, piece.length_bytes as u32);
        let operation = operation(&request.operation, piece, part);
        done += piece.length_bytes;
        operation
    });
    Ok(each.collect())
}

fn operation(wanted: &Operation, piece: Piece, part: impl Fn(BufferSlice) -> BufferSlice) -> DiskOperation {
    let Piece {
        offset_bytes,
        length_bytes,
    } = piece;
    match *wanted {
        Operation::Read { buffer } => DiskOperation::Read {
            offset_bytes,
            buffer: part(buffer),
        },
        Operation::Write { buffer, durable } => DiskOperation::Write {
            offset_bytes,
            buffer: part(buffer),
            durable,
        },
        Operation::Flush => DiskOperation::Flush,
        Operation::WriteZeroes { deallocate, .. } => DiskOperation::WriteZeroes {
            offset_bytes,
            length_bytes,
            deallocate,
        },
        Operation::Deallocate => DiskOperation::Discard {
            offset_bytes,
            length_bytes,
        },
    }
}

/// The layers' word for a disk's error. A disk that is gone is as good as one that fails everything: the leg's owner
/// goes on without the leg.
pub(crate) fn status_of(error: DiskError) -> Status {
    match error {
        DiskError::Media | DiskError::Gone => Status::MediaError,
        DiskError::NoSpace => Status::OutOfSpace,
    }
}

/// A request on its way.
#[derive(Debug)]
struct Transfer {
    disk: usize,
    leg: LegId,
    left: usize,
    status: Status,
    /// Zeroes are durable only after a flush.
    flush_behind: bool,
}

/// What comes after a part has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Other parts are under way.
    Wait,
    /// Flush that disk, as one more part.
    Flush(usize),
    /// Answer.
    Answer { disk: usize, leg: LegId, status: Status },
}

/// All requests on their way.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    transfers: BTreeMap<IoId, Transfer>,
}

impl Transfers {
    /// A request begins, in so many parts.
    pub(crate) fn begin(&mut self, io: IoId, disk: usize, leg: LegId, parts: usize, request: &Request) {
        let transfer = Transfer {
            disk,
            leg,
            left: parts,
            status: Status::Success,
            flush_behind: matches!(request.operation, Operation::WriteZeroes { durable: true, .. }),
        };
        let before = self.transfers.insert(io, transfer);
        assert!(before.is_none(), "a request is handed out once");
    }

    /// A part has ended.
    pub(crate) fn part_ended(&mut self, io: IoId, result: Result<(), DiskError>) -> Then {
        let transfer = self.transfers.get_mut(&io).expect("its request is on its way");
        transfer.left -= 1;
        if let (Err(error), Status::Success) = (result, transfer.status) {
            transfer.status = status_of(error);
        }
        if transfer.left > 0 {
            return Then::Wait;
        }
        if std::mem::take(&mut transfer.flush_behind) && transfer.status == Status::Success {
            transfer.left = 1;
            return Then::Flush(transfer.disk);
        }
        let transfer = self.transfers.remove(&io).expect("found above");
        Then::Answer {
            disk: transfer.disk,
            leg: transfer.leg,
            status: transfer.status,
        }
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
