//! A leg's blocks on its disk, against an oracle that looks each block up; and parts joined again.
//!
//! Mutants these tests catch: a cut one block off; a run skipped; parts of a buffer mixed up; an error of an early part lost;
//! durable zeroes answered without a flush.

use super::*;
use crate::format::Run;
use block::{BlockRange, BufferId};
use fabric::target::ReservationState;
use proptest::prelude::*;
use uuid::Uuid;

const EXTENT_BLOCKS: u64 = 4;
const EXTENT_BYTES: u64 = EXTENT_BLOCKS * 4096;

fn record(runs: &[(u64, u64)]) -> LegRecord {
    LegRecord {
        nsid: 1,
        runs: runs
            .iter()
            .map(|(start, count)| Run {
                start: *start,
                count: *count,
            })
            .collect(),
        zeroed: 0,
        reservation: ReservationState::default(),
    }
}

/// Where one block lies, looked up extent by extent.
fn place(runs: &[(u64, u64)], block: u64) -> Option<u64> {
    let extents: Vec<u64> = runs
        .iter()
        .flat_map(|(start, count)| *start..start + count)
        .collect();
    let extent = extents.get((block / EXTENT_BLOCKS) as usize)?;
    Some(DATA_OFFSET + extent * EXTENT_BYTES + block % EXTENT_BLOCKS * 4096)
}

fn read(start: u64, length: u64) -> Request {
    let buffer = BufferSlice {
        buffer: BufferId(3),
        offset: 8192,
        length: (length * 4096) as u32,
    };
    Request {
        operation: Operation::Read { buffer },
        range: BlockRange::new(start, length),
    }
}

proptest! {
    #[test]
    fn every_block_is_where_the_oracle_says(
        runs in proptest::collection::vec((0u64..50, 1u64..4), 1..5),
        start in 0u64..60,
        length in 1u64..40,
    ) {
        let answer = operations(&record(&runs), EXTENT_BYTES, &read(start, length));
        if place(&runs, start + length - 1).is_none() {
            prop_assert_eq!(answer, Err(Status::OutOfRange));
            return Ok(());
        }
        let mut at = 0;
        for operation in answer.unwrap() {
            let DiskOperation::Read { offset_bytes, buffer } = operation else { panic!("reads") };
            prop_assert_eq!((buffer.buffer, buffer.offset), (BufferId(3), 8192 + at as u32 * 4096));
            for block in 0..u64::from(buffer.length) / 4096 {
                prop_assert_eq!(place(&runs, start + at), Some(offset_bytes + block * 4096));
                at += 1;
            }
        }
        prop_assert_eq!(at, length);
    }
}

#[test]
fn adjacent_runs_are_one_piece() {
    let operations = operations(&record(&[(1, 2), (3, 1), (9, 1)]), EXTENT_BYTES, &read(0, 16)).unwrap();
    assert_eq!(operations.len(), 2);
}

#[test]
fn each_operation_becomes_its_own() {
    let wanted = |operation| Request {
        operation,
        range: BlockRange::new(1, 2),
    };
    let zeroes = Operation::WriteZeroes {
        deallocate: true,
        durable: false,
    };
    let (offset_bytes, length_bytes) = (DATA_OFFSET + 4096, 8192);
    let table = [
        (
            zeroes,
            DiskOperation::WriteZeroes {
                offset_bytes,
                length_bytes,
                deallocate: true,
            },
        ),
        (
            Operation::Deallocate,
            DiskOperation::Discard {
                offset_bytes,
                length_bytes,
            },
        ),
        (Operation::Flush, DiskOperation::Flush),
    ];
    for (operation, expected) in table {
        let answer = operations(&record(&[(0, 1)]), EXTENT_BYTES, &wanted(operation));
        assert_eq!(answer, Ok(vec![expected]));
    }
    let nothing = Request {
        operation: zeroes,
        range: BlockRange::new(1, 0),
    };
    assert_eq!(
        operations(&record(&[(0, 1)]), EXTENT_BYTES, &nothing),
        Err(Status::Invalid)
    );
}

#[test]
fn parts_are_joined_and_the_first_error_counts() {
    let leg = LegId(Uuid::nil());
    let io = IoId(1);
    let answer = |status| Then::Answer { disk: 2, leg, status };
    let mut transfers = Transfers::default();
    transfers.begin(io, 2, leg, 3, &read(0, 1));
    assert_eq!(transfers.part_ended(io, Ok(())), Then::Wait);
    assert_eq!(transfers.part_ended(io, Err(DiskError::NoSpace)), Then::Wait);
    assert_eq!(
        transfers.part_ended(io, Err(DiskError::Media)),
        answer(Status::OutOfSpace)
    );
    let zeroes = Request {
        operation: Operation::WriteZeroes {
            deallocate: false,
            durable: true,
        },
        range: BlockRange::new(0, 1),
    };
    transfers.begin(io, 2, leg, 1, &zeroes);
    assert_eq!(transfers.part_ended(io, Ok(())), Then::Flush(2));
    assert_eq!(
        transfers.part_ended(io, Err(DiskError::Gone)),
        answer(Status::MediaError)
    );
    transfers.begin(io, 2, leg, 1, &zeroes);
    assert_eq!(
        transfers.part_ended(io, Err(DiskError::Media)),
        answer(Status::MediaError),
        "no flush for a failure"
    );
}
