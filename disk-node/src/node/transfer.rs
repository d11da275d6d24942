//! Hosts' requests on their way: a leg's blocks as bytes of its disk, cut where the leg's extents are not in a row, and
//! joined again when all parts have ended.
//!
//! Nothing here is allocated for a request, once there have been as many at a time.

use super::exports::ExportIndex;
use crate::format::{DATA_OFFSET, LegRecord};
use block::{BLOCK_SIZE, BlockRange, BufferSlice, Operation, Request, Status};
use fabric::driver::{DiskError, DiskOperation, DiskRequestId};
use fabric::target::IoId;

/// Bytes of a leg that lie in a row on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    /// The first byte of the leg in it.
    from: u64,
    /// The first behind it.
    end: u64,
    /// Where it begins on the disk.
    offset_bytes: u64,
}

/// Where a leg lies on its disk: rows in the leg's order, as few as can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    rows: Vec<Row>,
}

impl Rows {
    /// As its record says.
    pub(crate) fn new(record: &LegRecord, extent_bytes: u64) -> Rows {
        let mut rows: Vec<Row> = Vec::new();
        let mut from = 0;
        for run in &record.runs {
            let offset_bytes = DATA_OFFSET + run.start * extent_bytes;
            let end = from + run.count * extent_bytes;
            match rows.last_mut() {
                Some(last) if last.offset_bytes + (last.end - last.from) == offset_bytes => last.end = end,
                _ => rows.push(Row {
                    from,
                    end,
                    offset_bytes,
                }),
            }
            from = end;
        }
        Rows { rows }
    }

    /// Where blocks of the leg lie, in order. `None` if they are not all its own.
    fn pieces(&self, range: BlockRange) -> Option<Pieces<'_>> {
        let block = u64::from(BLOCK_SIZE);
        let from = range.start.0.checked_mul(block)?;
        let left = range.length.0.checked_mul(block)?;
        if from.checked_add(left)? > self.rows.last()?.end {
            return None;
        }
        let first = self.rows.partition_point(|row| row.end <= from);
        let rows = &self.rows[first..];
        Some(Pieces { rows, from, left })
    }
}

/// Bytes of a disk in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    offset_bytes: u64,
    length_bytes: u64,
}

/// What is left of a range of a leg.
#[derive(Clone, Debug)]
struct Pieces<'a> {
    /// The row that holds `from`, and those behind it.
    rows: &'a [Row],
    from: u64,
    left: u64,
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.left == 0 {
            return None;
        }
        let (row, behind) = self.rows.split_first().expect("the leg's end was looked at");
        let piece = Piece {
            offset_bytes: row.offset_bytes + (self.from - row.from),
            length_bytes: self.left.min(row.end - self.from),
        };
        self.from += piece.length_bytes;
        self.left -= piece.length_bytes;
        self.rows = behind;
        Some(piece)
    }
}

/// What a request asks of the disk, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Operations<'a> {
    wanted: Operation,
    /// Asked for as a whole.
    flush: bool,
    pieces: Pieces<'a>,
    /// Of the request's buffer.
    done_bytes: u64,
}

/// What a request asks of the disk: at least one operation.
pub(crate) fn operations<'a>(rows: &'a Rows, request: &Request) -> Result<Operations<'a>, Status> {
    let flush = request.operation == Operation::Flush;
    if request.range.length.0 == 0 && !flush {
        return Err(Status::Invalid);
    }
    let range = if flush {
        BlockRange::default()
    } else {
        request.range
    };
    Ok(Operations {
        wanted: request.operation,
        flush,
        pieces: rows.pieces(range).ok_or(Status::OutOfRange)?,
        done_bytes: 0,
    })
}

impl Iterator for Operations<'_> {
    type Item = DiskOperation;

    fn next(&mut self) -> Option<DiskOperation> {
        if std::mem::take(&mut self.flush) {
            return Some(DiskOperation::Flush);
        }
        let piece = self.pieces.next()?;
        let done = self.done_bytes;
        self.done_bytes += piece.length_bytes;
        let part = |buffer: BufferSlice| buffer.part(done as u32, piece.length_bytes as u32);
        Some(operation(&self.wanted, piece, part))
    }
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
#[derive(Clone, Copy, Debug)]
struct Transfer {
    io: IoId,
    disk: usize,
    export: ExportIndex,
    /// Parts asked for so far.
    asked: u32,
    /// Parts under way.
    left: u32,
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
    Flush { disk: usize, transfer: TransferIndex },
    /// Answer.
    Answer {
        io: IoId,
        disk: usize,
        export: ExportIndex,
        status: Status,
    },
}

/// Names a request on its way, by its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransferIndex(u32);

/// All requests on their way, in places that are used again.
///
/// A part is named, to the driver, by the place of its request, its number, and how often the place has been used: so the
/// name is never one of a part that is still under way. Bit 63 is never set.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    used: u64,
    transfer: Option<Transfer>,
}

/// Bits of a part's name, from the lowest: its request's place, its number, how often the place was used.
const PLACE_BITS: u32 = 20;
const NUMBER_BITS: u32 = 24;
const USED_BITS: u32 = 63 - PLACE_BITS - NUMBER_BITS;

impl Transfers {
    /// A request begins.
    pub(crate) fn begin(
        &mut self,
        io: IoId,
        disk: usize,
        export: ExportIndex,
        request: &Request,
    ) -> TransferIndex {
        let transfer = Some(Transfer {
            io,
            disk,
            export,
            asked: 0,
            left: 0,
            status: Status::Success,
            flush_behind: matches!(request.operation, Operation::WriteZeroes { durable: true, .. }),
        });
        if let Some(index) = self.free.pop() {
            self.places[index as usize].transfer = transfer;
            return TransferIndex(index);
        }
        let index = self.places.len();
        assert!(index < 1 << PLACE_BITS, "the target bounds what is in flight");
        self.places.push(Place { used: 0, transfer });
        TransferIndex(index as u32)
    }

    /// One more part is asked of the disk; its name.
    pub(crate) fn next_part(&mut self, index: TransferIndex) -> DiskRequestId {
        let place = &mut self.places[index.0 as usize];
        let transfer = place.transfer.as_mut().expect("its request is on its way");
        let number = u64::from(transfer.asked);
        assert!(
            number < 1 << NUMBER_BITS,
            "a request has no more parts than extents"
        );
        transfer.asked += 1;
        transfer.left += 1;
        let used = place.used << (PLACE_BITS + NUMBER_BITS);
        DiskRequestId(used | number << PLACE_BITS | u64::from(index.0))
    }

    /// A part has ended.
    pub(crate) fn part_ended(&mut self, request: DiskRequestId, result: Result<(), DiskError>) -> Then {
        let index = (request.0 & ((1 << PLACE_BITS) - 1)) as u32;
        let place = &mut self.places[index as usize];
        assert_eq!(
            place.used,
            request.0 >> (PLACE_BITS + NUMBER_BITS),
            "a part ends once"
        );
        let transfer = place.transfer.as_mut().expect("its request is on its way");
        transfer.left -= 1;
        if let (Err(error), Status::Success) = (result, transfer.status) {
            transfer.status = status_of(error);
        }
        if transfer.left > 0 {
            return Then::Wait;
        }
        let disk = transfer.disk;
        if std::mem::take(&mut transfer.flush_behind) && transfer.status == Status::Success {
            let transfer = TransferIndex(index);
            return Then::Flush { disk, transfer };
        }
        let then = Then::Answer {
            io: transfer.io,
            disk,
            export: transfer.export,
            status: transfer.status,
        };
        place.transfer = None;
        place.used = (place.used + 1) & ((1 << USED_BITS) - 1);
        self.free.push(index);
        then
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
