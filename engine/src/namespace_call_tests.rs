//! Requests to NVMe namespaces as transcripts: statuses in, commands out.
//!
//! Mutants these tests catch: a request larger than the controller takes sent whole, or its parts from its start; a durable write
//! without FUA; a flush that is left out although there is a cache; a status taken for bytes, or for success; a
//! fallback for a real error; an error that is tried again for ever, or a "later" that is not; 4096-byte numbers sent to a
//! namespace of 512-byte blocks.

use super::*;
use crate::task::{Abilities, Call, Medium, Next, Task, ZEROES_BYTES};
use block::{BufferId, BufferSlice};
use fabric::driver::{DiskOperation, DiskRequestId};

const PAYLOAD: usize = 0x10000;
const ZEROES: usize = 0x90000;

const SHAPE: Shape = Shape {
    nsid: Nsid(5),
    block_shift: 9,
    transfer_bytes_max: 8192,
    zeroes_bytes_max: 1 << 20,
    zeroes_deallocate: true,
    deallocate_blocks_max: 64,
    volatile_cache: true,
};

fn lent(address: usize) -> Lent {
    Lent(std::ptr::without_provenance_mut(address))
}

fn buffer(length: u32) -> BufferSlice {
    BufferSlice {
        buffer: BufferId(0),
        offset: 0,
        length,
    }
}

/// Opcode, SLBA or range, blocks, FUA, DEAC, address and length of the data.
type Seen = (&'static str, u64, u64, bool, bool, usize, u32);

fn seen(call: Call) -> Seen {
    let Call::Command(command) = call else {
        return ("sync", 0, 0, false, false, 0, 0);
    };
    assert_eq!(command.nsid, Nsid(5));
    let (address, length) = match command.data {
        Data::At { address, length } => (address.0.addr(), length),
        Data::None | Data::Range { .. } => (0, 0),
    };
    match command.command {
        IoCommand::Read(read) => seen_blocks("read", read.blocks, false, address, length),
        IoCommand::Write(write) => seen_blocks("write", write.blocks, false, address, length),
        IoCommand::WriteZeroes(zeroes) => {
            seen_blocks("zeroes", zeroes.blocks, zeroes.deallocate, address, length)
        }
        IoCommand::DatasetManagement(management) => {
            assert!(management.deallocate && management.ranges.count() == 1);
            let Data::Range { slba, blocks } = command.data else {
                panic!("it has a range")
            };
            ("deallocate", slba, blocks.into(), false, true, 0, 0)
        }
        IoCommand::Flush => ("flush", 0, 0, false, false, 0, 0),
        other => panic!("not a command of ours: {other:?}"),
    }
}

fn seen_blocks(
    name: &'static str,
    blocks: LogicalBlocks,
    deallocate: bool,
    address: usize,
    length: u32,
) -> Seen {
    let fua = blocks.force_unit_access;
    (
        name,
        blocks.slba,
        blocks.count().into(),
        fua,
        deallocate,
        address,
        length,
    )
}

fn run(
    shape: Shape,
    operation: DiskOperation,
    results: &[i32],
) -> (Vec<Seen>, Option<Result<(), DiskError>>) {
    run_with(
        &mut Abilities::assumed(Medium::Namespace(shape)),
        operation,
        results,
    )
}

fn run_with(
    abilities: &mut Abilities,
    operation: DiskOperation,
    results: &[i32],
) -> (Vec<Seen>, Option<Result<(), DiskError>>) {
    let mut task = Task::new(DiskRequestId(1), operation, lent(PAYLOAD), lent(ZEROES));
    let mut calls = Vec::new();
    let mut next = task.begin(abilities);
    let mut results = results.iter();
    loop {
        match next {
            Next::Done(result) => {
                assert_eq!(results.next(), None, "completed before its last result");
                return (calls, Some(result));
            }
            Next::Call(call) => calls.push(seen(call)),
        }
        match results.next() {
            Some(result) => next = task.advance(abilities, *result),
            None => return (calls, None),
        }
    }
}

const READ: DiskOperation = DiskOperation::Read {
    offset_bytes: 40960,
    buffer: BufferSlice {
        buffer: BufferId(0),
        offset: 0,
        length: 20480,
    },
};

fn write(length: u32, durable: bool) -> DiskOperation {
    DiskOperation::Write {
        offset_bytes: 4096,
        buffer: buffer(length),
        durable,
    }
}

fn status(status: Status) -> i32 {
    status.encode().into()
}

#[test]
fn a_request_goes_in_parts_that_the_controller_takes() {
    let (calls, end) = run(SHAPE, READ, &[0, 0, 0]);
    let expected = [
        ("read", 80, 16, false, false, PAYLOAD, 8192),
        ("read", 96, 16, false, false, PAYLOAD + 8192, 8192),
        ("read", 112, 8, false, false, PAYLOAD + 16384, 4096),
    ];
    assert_eq!((calls.as_slice(), end), (&expected[..], Some(Ok(()))));
    let large_blocks = Shape {
        block_shift: 12,
        ..SHAPE
    };
    let (calls, _) = run(large_blocks, READ, &[0, 0, 0]);
    assert_eq!(calls[1], ("read", 12, 2, false, false, PAYLOAD + 8192, 8192));
}

#[test]
fn every_part_of_a_durable_write_is_durable() {
    for durable in [true, false] {
        let (calls, end) = run(SHAPE, write(12288, durable), &[0, 0]);
        let expected = [
            ("write", 8, 16, durable, false, PAYLOAD, 8192),
            ("write", 24, 8, durable, false, PAYLOAD + 8192, 4096),
        ];
        assert_eq!((calls.as_slice(), end), (&expected[..], Some(Ok(()))));
    }
}

#[test]
fn a_flush_is_left_out_only_where_there_is_no_cache() {
    assert_eq!(
        run(SHAPE, DiskOperation::Flush, &[]).0,
        [("sync", 0, 0, false, false, 0, 0)]
    );
    let Call::Command(flush) = Abilities::assumed(Medium::Namespace(SHAPE)).sync_call() else {
        panic!("a command")
    };
    assert_eq!((flush.command, flush.data), (IoCommand::Flush, Data::None));
    let cacheless = Shape {
        volatile_cache: false,
        ..SHAPE
    };
    assert_eq!(run(cacheless, DiskOperation::Flush, &[]), (vec![], Some(Ok(()))));
}

#[test]
fn the_status_of_a_flush_is_told() {
    let abilities = Abilities::assumed(Medium::Namespace(SHAPE));
    assert_eq!(abilities.synced(0), Some(Ok(())));
    assert_eq!(
        abilities.synced(status(Status::INTERNAL_ERROR)),
        Some(Err(DiskError::Media))
    );
    assert_eq!(abilities.synced(-libc::ENODEV), Some(Err(DiskError::Gone)));
    assert_eq!(abilities.synced(-libc::EINTR), None);
}

#[test]
fn zeroes_are_one_command_a_stretch_or_written() {
    let zero = |deallocate| DiskOperation::WriteZeroes {
        offset_bytes: 8192,
        length_bytes: (1 << 20) + 4096,
        deallocate,
    };
    for deallocate in [true, false] {
        let (calls, end) = run(SHAPE, zero(deallocate), &[0, 0]);
        let expected = [
            ("zeroes", 16, 2048, false, deallocate, 0, 0),
            ("zeroes", 16 + 2048, 8, false, deallocate, 0, 0),
        ];
        assert_eq!((calls.as_slice(), end), (&expected[..], Some(Ok(()))));
    }
    let keeps = Shape {
        zeroes_deallocate: false,
        ..SHAPE
    };
    assert!(
        !run(keeps, zero(true), &[]).0[0].4,
        "no DEAC where deallocated need not read zeroes"
    );
    let without = Shape {
        zeroes_bytes_max: 0,
        transfer_bytes_max: 4 << 20,
        ..SHAPE
    };
    let (calls, end) = run(without, zero(true), &[0, 0]);
    let expected = [
        (
            "write",
            16,
            ZEROES_BYTES / 512,
            false,
            false,
            ZEROES,
            ZEROES_BYTES as u32,
        ),
        ("write", 16 + ZEROES_BYTES / 512, 8, false, false, ZEROES, 4096),
    ];
    assert_eq!((calls.as_slice(), end), (&expected[..], Some(Ok(()))));
}

#[test]
fn what_the_controller_does_not_know_is_done_otherwise_from_then_on() {
    let mut abilities = Abilities::assumed(Medium::Namespace(SHAPE));
    let zero = DiskOperation::WriteZeroes {
        offset_bytes: 0,
        length_bytes: 4096,
        deallocate: true,
    };
    let (calls, end) = run_with(&mut abilities, zero, &[status(Status::INVALID_OPCODE), 0]);
    assert_eq!((calls[0].0, calls[1].0, end), ("zeroes", "write", Some(Ok(()))));
    assert_eq!(run_with(&mut abilities, zero, &[0]).0[0].0, "write", "learnt");
    let discard = DiskOperation::Discard {
        offset_bytes: 0,
        length_bytes: 4096,
    };
    let refused = status(Status::INVALID_FIELD.do_not_retry());
    assert_eq!(run_with(&mut abilities, discard, &[refused]).1, Some(Ok(())));
    assert_eq!(
        run_with(&mut abilities, discard, &[]),
        (vec![], Some(Ok(()))),
        "learnt"
    );
    let (_, end) = run_with(&mut abilities, READ, &[status(Status::INVALID_FIELD)]);
    assert_eq!(
        end,
        Some(Err(DiskError::Media)),
        "a read cannot be done otherwise"
    );
}

#[test]
fn a_discard_goes_in_ranges() {
    let discard = DiskOperation::Discard {
        offset_bytes: 8192,
        length_bytes: 36864,
    };
    let (calls, end) = run(SHAPE, discard, &[0, 0]);
    let expected = [
        ("deallocate", 16, 64, false, true, 0, 0),
        ("deallocate", 80, 8, false, true, 0, 0),
    ];
    assert_eq!((calls.as_slice(), end), (&expected[..], Some(Ok(()))));
    let without = Shape {
        deallocate_blocks_max: 0,
        ..SHAPE
    };
    assert_eq!(run(without, discard, &[]), (vec![], Some(Ok(()))));
}

#[test]
fn statuses_have_the_seams_words() {
    let media = |code| Status::new(StatusCodeType::MediaAndDataIntegrity, code);
    let table = [
        (Status::UNRECOVERED_READ_ERROR, DiskError::Media),
        (Status::WRITE_FAULT, DiskError::Media),
        (media(0xC1), DiskError::Media),
        (Status::INTERNAL_ERROR, DiskError::Media),
        (Status::DATA_TRANSFER_ERROR, DiskError::Media),
        (Status::NAMESPACE_WRITE_PROTECTED, DiskError::Media),
        (Status::CAPACITY_EXCEEDED, DiskError::NoSpace),
        (Status::INVALID_NAMESPACE_OR_FORMAT, DiskError::Gone),
        (Status::LBA_OUT_OF_RANGE, DiskError::Gone),
        (Status::HOST_PATHING_ERROR.do_not_retry(), DiskError::Gone),
        (Status::ANA_PERSISTENT_LOSS, DiskError::Gone),
    ];
    for (refusal, error) in table {
        let (_, end) = run(SHAPE, READ, &[0, status(refusal)]);
        assert_eq!(end, Some(Err(error)), "{refusal:?}");
    }
    assert_eq!(run(SHAPE, READ, &[-libc::ENODEV]).1, Some(Err(DiskError::Gone)));
    assert_eq!(run(SHAPE, READ, &[-libc::EIO]).1, Some(Err(DiskError::Media)));
}

#[test]
fn later_is_tried_again_but_not_for_ever() {
    let later = status(Status::COMMAND_INTERRUPTED);
    let (calls, end) = run(SHAPE, write(4096, true), &[later, later, 0]);
    assert_eq!((calls.len(), end), (3, Some(Ok(()))));
    assert_eq!(calls[0], calls[2]);
    let (calls, end) = run(SHAPE, write(4096, true), &[later; 6]);
    assert_eq!((calls.len(), end), (6, Some(Err(DiskError::Media))));
    let final_ = status(Status::COMMAND_INTERRUPTED.do_not_retry());
    assert_eq!(
        run(SHAPE, write(4096, true), &[final_]).1,
        Some(Err(DiskError::Media))
    );
    let (calls, _) = run(SHAPE, READ, &[later, later, later, later, later, 0, later, later]);
    assert_eq!(calls.len(), 9, "every part has its own tries");
}
