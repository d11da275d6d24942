//! I/O commands end to end: in the capsule, by R2T, with digests, with and without flow control, short of memory.

use super::harness::*;
use crate::tcp::framing::Digests;
use block::{BlockRange, Operation};
use nvme::command::{
    Compare, DatasetManagement, DatasetManagementRange, LogicalBlocks, Read, SetFeatures, Write, WriteZeroes,
};
use nvme::feature::FeatureIdentifier;
use nvme::{AdminCommand, IoCommand, Status, ZeroBased};

pub(super) fn blocks(slba: u64, count: u32) -> LogicalBlocks {
    LogicalBlocks::new(slba, ZeroBased::<u16>::from_count(count).expect("a count"))
}

pub(super) fn read(slba: u64, count: u32) -> IoCommand {
    IoCommand::Read(Read {
        blocks: blocks(slba, count),
        dataset_management: 0,
    })
}

pub(super) fn write(slba: u64, count: u32) -> IoCommand {
    IoCommand::Write(Write::new(blocks(slba, count)))
}

pub(super) fn pattern(count: usize, seed: u8) -> Vec<u8> {
    (0..count * BLOCK).map(|at| (at / 7) as u8 ^ seed).collect()
}

/// Writes by R2T, in H2CData PDUs of at most `chunk` bytes.
fn write_solicited(world: &mut World, host: Host, slba: u64, data: &[u8], chunk: usize) -> Ended {
    let count = (data.len() / BLOCK) as u32;
    let length = data.len() as u32;
    let entry = world.io_entry(host, 1, write(slba, count), &[], length);
    world.submit(host.io, entry, &[]);
    let Reply::R2t {
        cid,
        tag,
        offset: 0,
        length: asked,
    } = world.reply(host.io)
    else {
        panic!("no R2T");
    };
    assert_eq!(
        (cid, asked),
        (entry.cid().0, length),
        "MAXR2T is one: all is asked for at once"
    );
    for (nth, part) in data.chunks(chunk).enumerate() {
        let offset = (nth * chunk) as u32;
        let last = nth * chunk + part.len() == data.len();
        let fields = [cid.into(), tag.into(), offset, part.len() as u32];
        let pdu = world.data_pdu(host.io, fields, last, part);
        world.receive(host.io, &pdu);
    }
    world.run_backend();
    world.ended(host.io)
}

#[test]
fn what_is_written_is_read_in_every_way_of_moving_it() {
    for digests in [(false, false), (true, false), (false, true), (true, true)] {
        let (header, data) = digests;
        for disable_sq_flow_control in [true, false] {
            let mut world = World::new();
            let digests = Digests { header, data };
            let host = world.host_with(HOST_A, ID_A, digests, disable_sq_flow_control);
            let small = pattern(2, 1);
            let ended = world.io(host, 1, write(3, 2), &small, 0);
            assert!(ended.status.is_success(), "in the capsule");
            let large = pattern(9, 2);
            let ended = write_solicited(&mut world, host, 5, &large, 16 * 1024);
            assert!(ended.status.is_success(), "by R2T");
            let ended = world.io(host, 1, read(3, 11), &[], 11 * BLOCK as u32);
            assert_eq!(ended.data, [small, large].concat());
            assert_eq!(world.memory.in_use(), 0, "buffers are given back");
        }
    }
}

#[test]
fn a_read_without_flow_control_needs_no_response_capsule() {
    let mut world = World::new();
    let host = world.host_with(HOST_A, ID_A, Digests::default(), true);
    for _ in 0..8 {
        assert_eq!(read_one(&mut world, host), None);
    }
}

#[test]
fn under_flow_control_a_tenth_of_the_queue_is_the_most_that_is_not_told() {
    let mut world = World::new();
    let host = world.host_with(HOST_A, ID_A, Digests::default(), false);
    // The queue has 32 entries; its Connect was the first.
    let told: Vec<Option<u16>> = (0..7).map(|_| read_one(&mut world, host)).collect();
    assert_eq!(told, [None, None, Some(4), None, None, Some(7), None]);
    // A capsule that comes in between tells what the others have not, and they are counted anew.
    let entry = world.io_entry(host, 1, write(0, 1), &pattern(1, 1), 0);
    world.submit(host.io, entry, &pattern(1, 1));
    world.run_backend();
    assert!(matches!(world.replies(host.io)[..], [Reply::Completion(entry)] if entry.sqhd.get() == 9));
    let told: Vec<Option<u16>> = (0..3).map(|_| read_one(&mut world, host)).collect();
    assert_eq!(told, [None, None, Some(12)]);
}

#[test]
fn a_queue_that_is_nearly_full_is_told_its_head_each_time() {
    let mut world = World::new();
    let host = world.host_with(HOST_A, ID_A, Digests::default(), false);
    for _ in 0..31 {
        let entry = world.io_entry(host, 1, read(0, 1), &[], BLOCK as u32);
        world.submit(host.io, entry, &[]);
    }
    world.run_backend();
    let replies = world.replies(host.io);
    let silent = replies
        .iter()
        .map(|reply| matches!(reply, Reply::Data { success: true, .. }));
    let silent: Vec<bool> = silent.collect();
    // 30 and 29 under way behind the first two: nine tenths of 32 are 28.8.
    assert!(!silent[..4].contains(&true), "{silent:?}");
    assert!(silent[4..].contains(&true), "{silent:?}");
}

/// Reads a block; the queue head that was told with it, if one was.
fn read_one(world: &mut World, host: Host) -> Option<u16> {
    let entry = world.io_entry(host, 1, read(0, 1), &[], BLOCK as u32);
    world.submit(host.io, entry, &[]);
    world.run_backend();
    match world.replies(host.io).as_slice() {
        [Reply::Data { success: true, .. }] => None,
        [Reply::Data { success: false, .. }, Reply::Completion(entry)] => Some(entry.sqhd.get()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_say_what_the_host_asked_for() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let mut durable = Write::new(blocks(1, 1));
    durable.blocks.force_unit_access = true;
    let zeroes = |deallocate| {
        IoCommand::WriteZeroes(WriteZeroes {
            blocks: blocks(8, 16),
            deallocate,
            namespace_zeroes: false,
        })
    };
    let rows = [
        (IoCommand::Flush, vec![], Operation::Flush, BlockRange::default()),
        (
            zeroes(false),
            vec![],
            Operation::WriteZeroes {
                deallocate: false,
                durable: false,
            },
            BlockRange::new(8, 16),
        ),
        (
            zeroes(true),
            vec![],
            Operation::WriteZeroes {
                deallocate: true,
                durable: false,
            },
            BlockRange::new(8, 16),
        ),
    ];
    for (command, data, operation, range) in rows {
        let entry = world.io_entry(host, 1, command, &data, 0);
        world.submit(host.io, entry, &data);
        let handed = world.handed.front().expect("handed out").request;
        assert_eq!((handed.operation, handed.range), (operation, range));
        world.run_backend();
        assert!(world.ended(host.io).status.is_success());
    }
    for (cache, fua, expected) in [(true, false, false), (true, true, true), (false, false, true)] {
        let feature = SetFeatures::new(FeatureIdentifier::VolatileWriteCache, cache.into());
        assert!(
            world
                .admin(host, AdminCommand::SetFeatures(feature), 0)
                .status
                .is_success()
        );
        durable.blocks.force_unit_access = fua;
        let data = pattern(1, 0);
        let entry = world.io_entry(host, 1, IoCommand::Write(durable), &data, 0);
        world.submit(host.io, entry, &data);
        let handed = world.handed.front().expect("handed out").request;
        assert!(matches!(handed.operation, Operation::Write { durable, .. } if durable == expected));
        world.run_backend();
        world.ended(host.io);
    }
}

#[test]
fn compare_tells_equal_from_different() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let data = pattern(2, 3);
    world.io(host, 1, write(0, 2), &data, 0);
    let compare = IoCommand::Compare(Compare { blocks: blocks(0, 2) });
    assert_eq!(world.io(host, 1, compare, &data, 0).status, Status::SUCCESS);
    let mut other = data.clone();
    other[2 * BLOCK - 1] ^= 1;
    let ended = world.io(host, 1, compare, &other, 0);
    assert_eq!(ended.status, Status::COMPARE_FAILURE.do_not_retry());
    assert!(ended.data.is_empty());
    assert_eq!(world.memory.in_use(), 0);
}

pub(super) fn manage(count: u32, deallocate: bool) -> IoCommand {
    IoCommand::DatasetManagement(DatasetManagement {
        ranges: ZeroBased::<u8>::from_count(count).expect("a count"),
        integral_for_read: false,
        integral_for_write: false,
        deallocate,
    })
}

pub(super) fn ranges(ranges: &[(u64, u32)], padded_to: usize) -> Vec<u8> {
    let bytes = ranges
        .iter()
        .flat_map(|(slba, count)| DatasetManagementRange::new(*slba, *count).to_bytes());
    let mut bytes: Vec<u8> = bytes.collect();
    bytes.resize(padded_to.max(bytes.len()), 0);
    bytes
}

#[test]
fn dataset_management_deallocates_range_by_range() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    world.disks.get_mut(&1).expect("it exists").fill(0xff);
    // A host may send the whole list of 256 and mean three; empty ranges are skipped.
    let data = ranges(&[(10, 2), (500, 0), (20, 1)], 4096);
    let ended = world.io(host, 1, manage(3, true), &data, 0);
    assert!(ended.status.is_success());
    let disk = &world.disks[&1];
    let cleared =
        (0..SIZE as usize).filter(|at| disk[at * BLOCK..(at + 1) * BLOCK].iter().all(|byte| *byte == 0));
    assert_eq!(cleared.collect::<Vec<_>>(), [10, 11, 20]);
    let ended = world.io(host, 1, manage(1, false), &ranges(&[(0, 8)], 0), 0);
    assert!(ended.status.is_success(), "advice that is not taken");
    assert_eq!(world.disks[&1][0], 0xff);
}

#[test]
fn dataset_management_looks_at_all_ranges_before_the_first() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    world.disks.get_mut(&1).expect("it exists").fill(0xff);
    let ended = world.io(host, 1, manage(2, true), &ranges(&[(0, 1), (SIZE, 1)], 0), 0);
    assert_eq!(ended.status, Status::LBA_OUT_OF_RANGE.do_not_retry());
    assert_eq!(world.disks[&1][0], 0xff);
}

#[test]
fn backend_errors_reach_the_host_as_what_they_are() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let rows = [
        (block::Status::Unavailable, Status::INTERNAL_PATH_ERROR),
        (block::Status::StaleEpoch, Status::ANA_INACCESSIBLE),
        (block::Status::MediaError, Status::UNRECOVERED_READ_ERROR),
        (
            block::Status::OutOfSpace,
            Status::CAPACITY_EXCEEDED.do_not_retry(),
        ),
    ];
    for (from, to) in rows {
        let entry = world.io_entry(host, 1, read(0, 1), &[], BLOCK as u32);
        world.submit(host.io, entry, &[]);
        let handed = world.handed.pop_front().expect("handed out");
        world.complete(handed.io, from);
        assert_eq!(world.ended(host.io).status, to);
        assert_eq!(world.memory.in_use(), 0);
    }
}

#[test]
fn without_memory_commands_wait_in_order() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    world.memory.limit = Some(1);
    let first = pattern(1, 1);
    let entry = world.io_entry(host, 1, write(0, 1), &first, 0);
    world.submit(host.io, entry, &first);
    // A write in the capsule, one by R2T, a read: none of them can have a buffer now.
    let second = pattern(1, 2);
    let in_capsule = world.io_entry(host, 1, write(1, 1), &second, 0);
    world.submit(host.io, in_capsule, &second);
    let solicited = world.io_entry(host, 1, write(2, 4), &[], 4 * BLOCK as u32);
    world.submit(host.io, solicited, &[]);
    let last = world.io_entry(host, 1, read(1, 1), &[], BLOCK as u32);
    world.submit(host.io, last, &[]);
    assert_eq!(world.handed.len(), 1);
    assert!(world.replies(host.io).is_empty(), "not even an R2T");
    world.run_backend();
    // The second was carried out as soon as the first gave its buffer back; the third asks for its data then.
    let replies = world.replies(host.io);
    let Some(Reply::R2t { cid, tag, .. }) = replies.last() else {
        panic!("{replies:?}")
    };
    assert_eq!(replies.len(), 3);
    assert_eq!(&world.disks[&1][BLOCK..2 * BLOCK], &second[..]);
    let data = pattern(4, 3);
    let fields = [(*cid).into(), (*tag).into(), 0, data.len() as u32];
    let pdu = world.data_pdu(host.io, fields, true, &data);
    world.receive(host.io, &pdu);
    world.run_backend();
    let replies = world.replies(host.io);
    assert!(
        matches!(&replies[1], Reply::Data { bytes, .. } if *bytes == second),
        "{replies:?}"
    );
    assert_eq!(world.memory.in_use(), 0);
}

#[test]
fn nobody_overtakes_who_waits_for_memory() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    world.memory.limit = Some(1);
    let entry = world.io_entry(host, 1, read(0, 1), &[], BLOCK as u32);
    world.submit(host.io, entry, &[]);
    // Compare needs two buffers; the read behind it would be content with the one that comes free.
    let data = vec![0; BLOCK];
    let compare = IoCommand::Compare(Compare { blocks: blocks(1, 1) });
    let entry = world.io_entry(host, 1, compare, &data, 0);
    world.submit(host.io, entry, &data);
    let entry = world.io_entry(host, 1, read(2, 1), &[], BLOCK as u32);
    world.submit(host.io, entry, &[]);
    world.complete_one(0);
    world.advance(1);
    assert!(world.handed.is_empty(), "the first in line does not fit");
    // There is room now, and a fresh command comes before anybody has asked again.
    world.memory.limit = Some(4);
    let entry = world.io_entry(host, 1, read(3, 1), &[], BLOCK as u32);
    world.submit(host.io, entry, &[]);
    let order: Vec<u64> = world
        .handed
        .iter()
        .map(|handed| handed.request.range.start.0)
        .collect();
    assert_eq!(order, [1, 2, 3]);
    world.run_backend();
    assert_eq!(world.memory.in_use(), 0);
}

#[test]
fn memory_that_others_hold_is_asked_for_again() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    world.memory.limit = Some(0);
    let entry = world.io_entry(host, 1, read(0, 1), &[], BLOCK as u32);
    world.submit(host.io, entry, &[]);
    assert!(world.handed.is_empty());
    for _ in 0..3 {
        let due = world.target.next_timeout().expect("it asks again");
        assert!(due.0 <= world.now.0 + 1_000_000);
        world.advance(1);
    }
    world.memory.limit = None;
    world.advance(1);
    world.run_backend();
    assert!(world.ended(host.io).status.is_success());
}

#[test]
fn compare_takes_both_its_buffers_or_none() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    world.memory.limit = Some(1);
    let data = vec![0; BLOCK];
    let compare = IoCommand::Compare(Compare { blocks: blocks(0, 1) });
    let entry = world.io_entry(host, 1, compare, &data, 0);
    world.submit(host.io, entry, &data);
    assert_eq!(world.memory.in_use(), 0, "it holds nothing while it waits");
    world.memory.limit = Some(2);
    world.advance(1);
    world.run_backend();
    assert_eq!(world.ended(host.io).status, Status::SUCCESS);
    assert_eq!(world.memory.in_use(), 0);
}
