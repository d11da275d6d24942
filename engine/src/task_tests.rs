//! Requests to disks as transcripts: the results of calls in, the calls out.
//!
//! Mutants these tests catch: a short transfer taken for a whole one, or repeated from its start; zero bytes taken
//! for success; a fallback that is tried again for every request; zeroing that stops after the first stride; a
//! durable write without a sync where the kernel refuses `RWF_DSYNC`; space given back that was to be kept.

use super::*;
use block::BufferId;

const BUFFER: BufferSlice = BufferSlice {
    buffer: BufferId(0),
    offset: 0,
    length: 12288,
};
const PAYLOAD: usize = 0x10000;
const ZEROES: usize = 0x90000;

fn lent(address: usize) -> Lent {
    Lent(std::ptr::without_provenance_mut(address))
}

/// What whoever drives a task does with a result: those of a sync end it.
fn advance(task: &mut Task, call: Call, abilities: &mut Abilities, result: i32) -> Next {
    match call {
        Call::Sync => match abilities.synced(result) {
            Some(result) => Next::Done(result),
            None => Next::Call(Call::Sync),
        },
        _ => task.advance(abilities, result),
    }
}

/// Runs a request against results; answers the calls made and how it ended (`None`: it wants more results).
fn run(
    abilities: &mut Abilities,
    operation: DiskOperation,
    results: &[i32],
) -> (Vec<Call>, Option<Result<(), DiskError>>) {
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
            Next::Call(call) => calls.push(call),
        }
        match results.next() {
            Some(result) => {
                let call = *calls.last().expect("a call was made");
                next = advance(&mut task, call, abilities, *result);
            }
            None => return (calls, None),
        }
    }
}

fn read(offset: u64, at: usize, length: u32) -> Call {
    Call::Read {
        offset,
        into: lent(PAYLOAD + at),
        length,
    }
}

fn write(offset: u64, at: usize, length: u32, durable: bool) -> Call {
    Call::Write {
        offset,
        from: lent(PAYLOAD + at),
        length,
        durable,
    }
}

fn zeroes(offset: u64, length: u32) -> Call {
    Call::Write {
        offset,
        from: lent(ZEROES),
        length,
        durable: false,
    }
}

fn allocate(mode: i32, offset: u64, length: u64) -> Call {
    Call::Allocate { mode, offset, length }
}

const READ: DiskOperation = DiskOperation::Read {
    offset_bytes: 4096,
    buffer: BUFFER,
};
const WRITE_DURABLE: DiskOperation = DiskOperation::Write {
    offset_bytes: 4096,
    buffer: BUFFER,
    durable: true,
};

fn write_zeroes(length_bytes: u64, deallocate: bool) -> DiskOperation {
    DiskOperation::WriteZeroes {
        offset_bytes: 8192,
        length_bytes,
        deallocate,
    }
}

#[test]
fn a_short_transfer_goes_on_where_it_stopped() {
    let (calls, end) = run(
        &mut Abilities::assumed(Medium::File),
        READ,
        &[4096, -libc::EINTR, 100, 8092],
    );
    let again = read(8192, 4096, 8192);
    assert_eq!(
        calls,
        [read(4096, 0, 12288), again, again, read(8292, 4196, 8092)]
    );
    assert_eq!(end, Some(Ok(())));
}

#[test]
fn the_end_of_the_disk_is_an_error() {
    for operation in [READ, WRITE_DURABLE] {
        let (_, end) = run(&mut Abilities::assumed(Medium::File), operation, &[4096, 0]);
        assert_eq!(end, Some(Err(DiskError::Gone)));
    }
}

#[test]
fn errors_have_the_seams_words() {
    let table = [
        (libc::EIO, DiskError::Media),
        (libc::ENODATA, DiskError::Media),
        (libc::EREMOTEIO, DiskError::Media),
        (libc::EINVAL, DiskError::Media),
        (libc::ENOSPC, DiskError::NoSpace),
        (libc::EDQUOT, DiskError::NoSpace),
        (libc::EFBIG, DiskError::NoSpace),
        (libc::ENODEV, DiskError::Gone),
        (libc::ENXIO, DiskError::Gone),
    ];
    for (number, error) in table {
        let (_, end) = run(&mut Abilities::assumed(Medium::File), READ, &[-number]);
        assert_eq!(end, Some(Err(error)), "error number {number}");
    }
    for number in [libc::EIO, libc::ENOSPC] {
        let zero = run(
            &mut Abilities::assumed(Medium::File),
            write_zeroes(4096, false),
            &[-number],
        );
        assert_eq!(
            zero.1,
            Some(Err(error_of(number))),
            "no fallback for a real error"
        );
    }
}

#[test]
fn a_durable_write_is_one_call_or_ends_with_a_sync() {
    let mut abilities = Abilities::assumed(Medium::File);
    let (calls, end) = run(&mut abilities, WRITE_DURABLE, &[12288]);
    assert_eq!((calls, end), (vec![write(4096, 0, 12288, true)], Some(Ok(()))));
    let (calls, end) = run(&mut abilities, WRITE_DURABLE, &[-libc::EOPNOTSUPP, 12288, 0]);
    assert_eq!(calls[1..], [write(4096, 0, 12288, false), Call::Sync]);
    assert_eq!(end, Some(Ok(())));
    let (calls, end) = run(&mut abilities, WRITE_DURABLE, &[12288, -libc::EIO]);
    assert_eq!(calls, [write(4096, 0, 12288, false), Call::Sync], "learnt");
    assert_eq!(end, Some(Err(DiskError::Media)));
}

#[test]
fn a_flush_is_a_sync() {
    let flush = |results: &[i32]| {
        run(
            &mut Abilities::assumed(Medium::File),
            DiskOperation::Flush,
            results,
        )
    };
    assert_eq!(flush(&[0]), (vec![Call::Sync], Some(Ok(()))));
    assert_eq!(flush(&[-libc::EINTR, 0]), (vec![Call::Sync; 2], Some(Ok(()))));
    assert_eq!(flush(&[-libc::ENOSPC]).1, Some(Err(DiskError::NoSpace)));
}

#[test]
fn zeroing_goes_by_strides() {
    let length = 2 * STRIDE_BYTES + 4096;
    let (calls, end) = run(
        &mut Abilities::assumed(Medium::File),
        write_zeroes(length, false),
        &[0, 0, 0],
    );
    let expected = [
        allocate(ZERO, 8192, STRIDE_BYTES),
        allocate(ZERO, 8192 + STRIDE_BYTES, STRIDE_BYTES),
        allocate(ZERO, 8192 + 2 * STRIDE_BYTES, 4096),
    ];
    assert_eq!((calls.as_slice(), end), (&expected[..], Some(Ok(()))));
}

#[test]
fn zeroing_falls_back_to_what_the_disk_can() {
    let mut abilities = Abilities::assumed(Medium::File);
    let refused = -libc::EOPNOTSUPP;
    let (calls, end) = run(
        &mut abilities,
        write_zeroes(ZEROES_BYTES + 4096, true),
        &[
            refused,
            refused,
            ZEROES_BYTES as i32 / 2,
            ZEROES_BYTES as i32 / 2 + 4096,
        ],
    );
    let length = ZEROES_BYTES + 4096;
    let expected = [
        allocate(PUNCH, 8192, length),
        allocate(ZERO, 8192, length),
        zeroes(8192, ZEROES_BYTES as u32),
        zeroes(8192 + ZEROES_BYTES / 2, ZEROES_BYTES as u32 / 2 + 4096),
    ];
    assert_eq!((calls.as_slice(), end), (&expected[..], Some(Ok(()))));
    let (calls, _) = run(&mut abilities, write_zeroes(4096, true), &[4096]);
    assert_eq!(calls, [zeroes(8192, 4096)], "learnt");
}

#[test]
fn space_that_is_to_be_kept_is_not_punched() {
    let mut abilities = Abilities::assumed(Medium::File);
    let (calls, _) = run(
        &mut abilities,
        write_zeroes(4096, false),
        &[-libc::EOPNOTSUPP, 4096],
    );
    assert_eq!(calls, [allocate(ZERO, 8192, 4096), zeroes(8192, 4096)]);
}

#[test]
fn a_discard_is_advice() {
    let discard = DiskOperation::Discard {
        offset_bytes: 0,
        length_bytes: 8192,
    };
    let mut file = Abilities::assumed(Medium::File);
    let (calls, end) = run(&mut file, discard, &[-libc::EOPNOTSUPP]);
    assert_eq!((calls, end), (vec![allocate(PUNCH, 0, 8192)], Some(Ok(()))));
    assert_eq!(run(&mut file, discard, &[]), (vec![], Some(Ok(()))), "learnt");
}

#[test]
fn a_block_device_discards_by_ring_or_by_thread_or_not_at_all() {
    let discard = DiskOperation::Discard {
        offset_bytes: 0,
        length_bytes: 8192,
    };
    let call = |by_ring| Call::BlockDiscard {
        offset: 0,
        length: 8192,
        by_ring,
    };
    let refused = -libc::EOPNOTSUPP;
    let mut device = Abilities::assumed(Medium::BlockDevice);
    assert_eq!(run(&mut device, discard, &[0]), (vec![call(true)], Some(Ok(()))));
    let (calls, end) = run(&mut device, discard, &[refused, 0]);
    assert_eq!((calls, end), (vec![call(true), call(false)], Some(Ok(()))));
    assert_eq!(run(&mut device, discard, &[0]).0, [call(false)], "learnt");
    assert_eq!(run(&mut device, discard, &[refused]).1, Some(Ok(())));
    assert_eq!(run(&mut device, discard, &[]), (vec![], Some(Ok(()))), "learnt");
    let mut device = Abilities::assumed(Medium::BlockDevice);
    assert_eq!(
        run(&mut device, discard, &[-libc::EIO]).1,
        Some(Err(DiskError::Media))
    );
}
