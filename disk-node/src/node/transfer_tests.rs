//! A leg's blocks on its disk, against an oracle that looks each block up; and parts joined again.
//!
//! Mutants these tests catch: a cut one block off; a run skipped; parts of a buffer mixed up; an error of an early part lost;
//! durable zeroes answered without a flush; a part named as another one that is under way.

use super::*;
use crate::format::Run;
use crate::node::exports::Exports;
use block::{BlockRange, BufferId};
use fabric::target::ReservationState;
use proptest::prelude::*;
use std::collections::BTreeSet;

const EXTENT_BLOCKS: u64 = 4;
const EXTENT_BYTES: u64 = EXTENT_BLOCKS * 4096;

fn rows(runs: &[(u64, u64)]) -> Rows {
    let record = LegRecord {
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
    };
    Rows::new(&record, EXTENT_BYTES)
}

fn asked(rows: &Rows, request: &Request) -> Result<Vec<DiskOperation>, Status> {
    operations(rows, request).map(Iterator::collect)
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
        let rows = rows(&runs);
        let answer = asked(&rows, &read(start, length));
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
    let operations = asked(&rows(&[(1, 2), (3, 1), (9, 1)]), &read(0, 16)).unwrap();
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
        let answer = asked(&rows(&[(0, 1)]), &wanted(operation));
        assert_eq!(answer, Ok(vec![expected]));
    }
    let nothing = Request {
        operation: zeroes,
        range: BlockRange::new(1, 0),
    };
    assert_eq!(asked(&rows(&[(0, 1)]), &nothing), Err(Status::Invalid));
}

#[test]
fn parts_are_joined_and_the_first_error_counts() {
    let export = Exports::default().show(1, rows(&[(0, 1)]));
    let io = IoId(1);
    let answer = |status| Then::Answer {
        io,
        disk: 2,
        export,
        status,
    };
    let mut transfers = Transfers::default();
    let begun = transfers.begin(io, 2, export, &read(0, 1));
    let parts = [(); 3].map(|()| transfers.next_part(begun));
    assert_eq!(transfers.part_ended(parts[2], Ok(())), Then::Wait);
    assert_eq!(
        transfers.part_ended(parts[0], Err(DiskError::NoSpace)),
        Then::Wait
    );
    assert_eq!(
        transfers.part_ended(parts[1], Err(DiskError::Media)),
        answer(Status::OutOfSpace)
    );
    let zeroes = Request {
        operation: Operation::WriteZeroes {
            deallocate: false,
            durable: true,
        },
        range: BlockRange::new(0, 1),
    };
    let transfer = transfers.begin(io, 2, export, &zeroes);
    let part = transfers.next_part(transfer);
    assert_eq!(
        transfers.part_ended(part, Ok(())),
        Then::Flush { disk: 2, transfer }
    );
    let part = transfers.next_part(transfer);
    assert_eq!(
        transfers.part_ended(part, Err(DiskError::Gone)),
        answer(Status::MediaError)
    );
    let transfer = transfers.begin(io, 2, export, &zeroes);
    let part = transfers.next_part(transfer);
    assert_eq!(
        transfers.part_ended(part, Err(DiskError::Media)),
        answer(Status::MediaError),
        "no flush for a failure"
    );
}

#[test]
fn places_are_used_again_and_names_are_not() {
    let export = Exports::default().show(1, rows(&[(0, 1)]));
    let mut transfers = Transfers::default();
    let mut names = BTreeSet::new();
    for round in 0..100 {
        let begun: Vec<_> = (0..4)
            .map(|io| transfers.begin(IoId(io), 0, export, &read(0, 1)))
            .collect();
        let parts: Vec<_> = begun
            .iter()
            .flat_map(|transfer| [*transfer; 2])
            .map(|transfer| transfers.next_part(transfer))
            .collect();
        for part in parts.into_iter().rev() {
            assert!(names.insert(part), "round {round}: {part:?} again");
            transfers.part_ended(part, Ok(()));
        }
    }
    assert_eq!(transfers.places.len(), 4);
}

#[test]
#[should_panic(expected = "a part ends once")]
fn a_part_that_ends_twice_is_the_drivers_mistake() {
    let export = Exports::default().show(1, rows(&[(0, 1)]));
    let mut transfers = Transfers::default();
    let transfer = transfers.begin(IoId(1), 0, export, &read(0, 1));
    let part = transfers.next_part(transfer);
    transfers.part_ended(part, Ok(()));
    transfers.begin(IoId(2), 0, export, &read(0, 1));
    transfers.part_ended(part, Ok(()));
}
