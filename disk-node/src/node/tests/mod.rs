//! The node against simulated disks and real NVMe hosts, scripted; [`random`] does the same from seeds.
//!
//! Mutants these tests catch: zeroes recorded before they are flushed; a leg exported before its zeroing is durable; extents
//! given away before the leg that had them is durably gone, or while requests on it are in flight; a reservation answered
//! before the table is durable; a table written over the newest; requests cut at the wrong place; a disk touched whose
//! table could not be read; one bad disk that stops the others; a leg served from, or a table kept for, another disk's subsystem; a
//! subsystem said not to exist while its disk is being read; a disk served before it is known whose it is.

mod disk;
mod random;
mod world;

use crate::format::{DATA_OFFSET, SLOT_OFFSETS, SUPERBLOCK_OFFSETS, Superblock};
use block::Duration;
use cluster::DiskNodeId;
use cluster::status::LegState;
use disk::SimDisk;
use fabric::driver::{DiskError, DiskOperation, ReactorIndex};
use uuid::Uuid;
use world::*;

const BLOCKS_PER_EXTENT: u64 = EXTENT / 4096;

/// A world of one disk with one leg of so many extents that host 1 sees.
fn one_leg(extents: u64) -> (World, usize) {
    let mut world = World::booted(vec![formatted(1, 8, None)]);
    world.apply(vec![leg(1, 1, extents, &[1])]);
    world.settle();
    assert!(world.ready(1));
    let host = world.connected(1);
    (world, host)
}

#[test]
fn a_leg_is_carved_zeroed_and_exported() {
    let (mut world, host) = one_leg(3);
    let seen: Vec<_> = world.hosts[host]
        .association
        .namespaces()
        .iter()
        .cloned()
        .collect();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].nsid, seen[0].uuid, seen[0].nguid),
        (1, *leg_id(1).0.as_bytes(), *leg_id(1).0.as_bytes())
    );
    assert_eq!(seen[0].size.bytes(), 3 * EXTENT);
    let status = world.disk_status(0).clone();
    assert_eq!(
        (status.disk, status.extents, status.extents_free),
        (disk_id(1), 8, 5)
    );
    assert_eq!(
        (status.extent_bytes, status.volatile, status.fault),
        (EXTENT, false, None)
    );
    for block in [0, 1, BLOCKS_PER_EXTENT, 3 * BLOCKS_PER_EXTENT - 1] {
        assert_eq!(world.read(host, 1, block, 1), Ok(vec![0; 4096]), "no old data");
    }
    let behind = world.disks[0].get(DATA_OFFSET + 3 * EXTENT, 4096);
    assert!(
        behind.iter().all(|byte| *byte == 0xDD),
        "what is no leg's is left alone"
    );
    assert_eq!(world.memory.held(), 0);
}

#[test]
fn what_hosts_ask_reaches_the_disk() {
    let (mut world, host) = one_leg(3);
    let across = BLOCKS_PER_EXTENT - 2;
    world.write(host, 1, across, 4, 7).unwrap();
    assert_eq!(
        world.read(host, 1, across - 1, 6).unwrap(),
        [vec![0; 4096], vec![7; 16384], vec![0; 4096]].concat()
    );
    world.ask(host, 1, |_| flush()).unwrap();
    world.ask(host, 1, |_| write_zeroes(across, 1, true)).unwrap();
    world.ask(host, 1, |_| deallocate(across + 1, 1)).unwrap();
    let kept = world.read(host, 1, across, 4).unwrap();
    assert!(kept[..4096].iter().all(|byte| *byte == 0) && kept[8192..].iter().all(|byte| *byte == 7));
    let beyond = world.read(host, 1, 3 * BLOCKS_PER_EXTENT - 1, 2);
    assert!(beyond.is_err());
    world.crash();
    world.apply(vec![leg(1, 1, 3, &[1])]);
    world.pass(Duration::from_secs(5));
    assert_eq!(
        world.read(host, 1, across, 1),
        Ok(vec![0; 4096]),
        "durable zeroes survive"
    );
    assert_eq!(
        world.read(host, 1, across + 2, 1),
        Ok(vec![7; 4096]),
        "durable writes survive"
    );
    assert_eq!(world.memory.held(), 0);
}

#[test]
fn durable_zeroes_are_answered_after_a_flush() {
    let (mut world, host) = one_leg(1);
    world.stuck = vec![0];
    let tag = world.submit(host, 1, |_| write_zeroes(0, 1, true)).unwrap();
    world.settle();
    assert!(matches!(
        world.pending[..],
        [(0, _, DiskOperation::WriteZeroes { .. })]
    ));
    world.complete(0);
    world.settle();
    assert!(
        matches!(world.pending[..], [(0, _, DiskOperation::Flush)]) && world.hosts[host].answers.is_empty()
    );
    world.complete(0);
    world.settle();
    assert!(world.hosts[host].answers[&tag].is_ok());
}

#[test]
fn a_leg_in_pieces_is_one_to_its_host() {
    let mut world = World::booted(vec![formatted(1, 6, None)]);
    let legs = |numbers: &[u128]| {
        numbers
            .iter()
            .map(|number| leg(*number, 1, 1, &[1]))
            .collect::<Vec<_>>()
    };
    world.apply(legs(&[1, 2, 3, 4, 5]));
    world.settle();
    world.apply(legs(&[2, 4]));
    world.settle();
    let mut wanted = legs(&[2, 4]);
    wanted.push(leg(9, 1, 4, &[1]));
    world.apply(wanted);
    world.settle();
    let host = world.connected(1);
    for extent in 0..3u64 {
        let across = (extent + 1) * BLOCKS_PER_EXTENT - 1;
        world.write(host, 9, across, 2, extent as u8 + 1).unwrap();
    }
    for extent in 0..3u64 {
        let across = (extent + 1) * BLOCKS_PER_EXTENT - 1;
        assert_eq!(world.read(host, 9, across, 2), Ok(vec![extent as u8 + 1; 8192]));
    }
    for neighbour in [2, 4] {
        assert_eq!(
            world.read(host, neighbour, BLOCKS_PER_EXTENT - 1, 1),
            Ok(vec![0; 4096])
        );
        assert_eq!(world.read(host, neighbour, 0, 1), Ok(vec![0; 4096]));
    }
    assert_eq!(world.disk_status(0).extents_free, 0);
}

#[test]
fn nothing_is_exported_before_its_zeroing_is_durable() {
    let mut world = World::booted(vec![formatted(1, 8, None)]);
    world.stuck = vec![0];
    world.apply(vec![leg(1, 1, 2, &[1])]);
    let mut done = Vec::new();
    loop {
        world.settle();
        if world.ready(1) {
            break;
        }
        done.push(match world.pending[0].2 {
            DiskOperation::Write {
                durable,
                offset_bytes,
                ..
            } => {
                assert!(durable && SLOT_OFFSETS.contains(&offset_bytes));
                "table"
            }
            DiskOperation::WriteZeroes {
                offset_bytes,
                length_bytes,
                ..
            } => {
                assert_eq!((offset_bytes, length_bytes), (DATA_OFFSET, 2 * EXTENT));
                "zeroes"
            }
            DiskOperation::Flush => "flush",
            ref other => panic!("{other:?}"),
        });
        world.complete(0);
    }
    let last = |step: &str| done.iter().rposition(|done| *done == step).expect("done");
    let first_table = done.iter().position(|done| *done == "table").expect("done");
    assert!(
        first_table < last("zeroes"),
        "carved durably, then zeroed: {done:?}"
    );
    assert!(
        last("zeroes") < last("flush") && last("flush") < last("table"),
        "{done:?}"
    );
}

#[test]
fn zeroing_goes_on_after_a_restart() {
    let mut world = World::booted(vec![formatted(1, 8, None)]);
    world.stuck = vec![0];
    world.apply(vec![leg(1, 1, 2, &[1])]);
    while !world
        .pending
        .iter()
        .any(|(_, _, operation)| matches!(operation, DiskOperation::WriteZeroes { .. }))
    {
        world.complete(0);
    }
    world.crash();
    world.stuck.clear();
    world.settle();
    assert_eq!(world.disk_status(0).extents_free, 6, "the carving was durable");
    world.apply(vec![leg(1, 1, 2, &[1])]);
    world.settle();
    assert!(world.ready(1));
    let host = world.connected(1);
    assert_eq!(
        world.read(host, 1, 2 * BLOCKS_PER_EXTENT - 1, 1),
        Ok(vec![0; 4096])
    );
}

#[test]
fn a_swept_leg_waits_for_what_is_in_flight_and_its_space_for_the_table() {
    let (mut world, host) = one_leg(8);
    world.write(host, 1, 5, 1, 0x55).unwrap();
    world.stuck = vec![0];
    world.submit(host, 1, |memory| write(memory, 6, 1, 0x66)).unwrap();
    world.settle();
    world.apply(vec![leg(2, 1, 8, &[1])]);
    world.settle();
    assert_eq!(
        world.leg_state(2),
        LegState::Zeroing { done: 0, total: 8 },
        "it waits"
    );
    assert!(
        matches!(world.pending[..], [(0, _, DiskOperation::Write { offset_bytes, .. })] if offset_bytes > DATA_OFFSET)
    );
    world.complete(0);
    world.settle();
    assert!(
        matches!(world.pending[..], [(0, _, DiskOperation::Write { offset_bytes, .. })] if offset_bytes < DATA_OFFSET)
    );
    assert_eq!(
        world.disk_status(0).extents_free,
        0,
        "not free before the table is durable"
    );
    world.stuck.clear();
    world.settle();
    assert!(world.ready(2));
    world.pass(Duration::from_secs(5));
    assert_eq!(world.read(host, 2, 5, 2), Ok(vec![0; 8192]), "no old data");
    assert!(world.read(host, 1, 0, 1).is_err(), "the old one is gone");
    assert_eq!(world.memory.held(), 0);
}

#[test]
fn a_leg_swept_while_it_is_zeroed_gives_nothing_back_before_that_has_ended() {
    let mut world = World::booted(vec![formatted(1, 8, None)]);
    world.stuck = vec![0];
    world.apply(vec![leg(1, 1, 8, &[1])]);
    let table = |operation: &DiskOperation| matches!(operation, DiskOperation::Write { .. });
    let tables_only = |world: &mut World| {
        while let Some(index) = world
            .pending
            .iter()
            .position(|(_, _, operation)| table(operation))
        {
            world.complete(index);
            world.settle();
        }
    };
    tables_only(&mut world);
    world.apply(vec![leg(2, 1, 8, &[1])]);
    tables_only(&mut world);
    assert!(matches!(
        world.pending[..],
        [(0, _, DiskOperation::WriteZeroes { .. })]
    ));
    assert_eq!(world.disk_status(0).extents_free, 0);
    world.stuck.clear();
    world.settle();
    assert!(world.ready(2));
}

#[test]
fn hosts_see_what_is_theirs() {
    let mut world = World::booted(vec![formatted(1, 8, None)]);
    world.apply(vec![leg(1, 1, 1, &[1]), leg(2, 1, 1, &[1, 2])]);
    world.settle();
    let (one, two) = (world.connected(1), world.connected(2));
    let seen = |world: &World, host: usize| -> Vec<u32> {
        world.hosts[host]
            .association
            .namespaces()
            .iter()
            .map(|namespace| namespace.nsid)
            .collect()
    };
    assert_eq!((seen(&world, one), seen(&world, two)), (vec![1, 2], vec![2]));
    assert!(world.read(two, 1, 0, 1).is_err());
    world.apply(vec![leg(1, 1, 1, &[2]), leg(2, 1, 1, &[1, 2])]);
    world.pass(Duration::from_secs(5));
    assert_eq!((seen(&world, one), seen(&world, two)), (vec![2], vec![1, 2]));
    assert!(world.read(one, 1, 0, 1).is_err() && world.read(two, 1, 0, 1).is_ok());
}

#[test]
fn a_fence_is_answered_when_it_is_durable_and_outlives_a_crash() {
    let (mut world, _) = one_leg(1);
    world.apply(vec![leg(1, 1, 1, &[1, 2, 3])]);
    world.settle();
    let (old, new) = (world.connected(1), world.connected(2));
    world.fence(old, 1, 4).unwrap();
    world.write(old, 1, 0, 1, 4).unwrap();
    world.ask(new, 1, |_| register(6)).unwrap();
    world.stuck = vec![0];
    let tag = world.submit(new, 1, |_| acquire(6)).unwrap();
    world.settle();
    assert!(!world.hosts[new].answers.contains_key(&tag), "not durable yet");
    world.stuck.clear();
    world.settle();
    assert_eq!(world.hosts[new].answers[&tag], Ok(vec![]));
    assert!(
        world.write(old, 1, 0, 1, 4).is_err() && world.read(old, 1, 0, 1).is_err(),
        "fenced, reads included"
    );
    world.crash();
    world.apply(vec![leg(1, 1, 1, &[1, 2, 3])]);
    world.pass(Duration::from_secs(5));
    assert!(world.read(old, 1, 0, 1).is_err(), "still fenced");
    assert!(world.fence(old, 1, 5).is_err(), "a lower key is refused for ever");
    assert_eq!(
        world.read(new, 1, 0, 1),
        Ok(vec![4; 4096]),
        "the registration persists"
    );
    let third = world.connected(3);
    world.fence(third, 1, 7).unwrap();
    assert!(world.read(new, 1, 0, 1).is_err());
}

#[test]
fn a_fence_that_cannot_be_made_durable_fails() {
    let (mut world, host) = one_leg(1);
    world.apply(vec![leg(1, 1, 1, &[1]), leg(2, 1, 1, &[1])]);
    world.settle();
    world.disks[0].fail_writes = Some(DiskError::Media);
    assert!(world.fence(host, 1, 4).is_err());
    assert!(
        world.fault(0).contains("extent table cannot be written"),
        "{}",
        world.fault(0)
    );
    assert!(world.failure(1).contains("replace the disk"));
    world.disks[0].fail_writes = None;
    assert!(world.fence(host, 2, 4).is_err(), "its books are closed");
    assert!(world.read(host, 1, 0, 1).is_err() || world.memory.held() == 0);
}

#[test]
fn bad_disks_do_not_stop_the_others() {
    let good = formatted(1, 4, None);
    let damaged = |offsets: &[u64]| {
        let mut disk = formatted(2, 4, Some(NODE));
        offsets
            .iter()
            .for_each(|offset| disk.put(*offset + 512, &[0xBB; 512]));
        disk
    };
    let torn_slots = || {
        let mut disk = formatted(2, 4, Some(NODE));
        SLOT_OFFSETS
            .iter()
            .for_each(|offset| disk.put(*offset, &[0xBB; 512]));
        disk
    };
    let shrunk = || {
        let mut disk = formatted(2, 4, None);
        disk.size_bytes -= EXTENT;
        disk
    };
    let unreadable = || {
        let mut disk = formatted(2, 4, None);
        disk.fail_reads = Some(DiskError::Media);
        disk
    };
    let other = DiskNodeId(Uuid::from_u128(99));
    let table = [
        (
            damaged(&SUPERBLOCK_OFFSETS),
            "both copies of its superblock are unusable",
            "checksum is wrong",
        ),
        (
            torn_slots(),
            "its extent table is damaged",
            "--force, which gives up its legs",
        ),
        (SimDisk::new(64 * MIB), "not formatted", "trestle disk format"),
        (
            formatted(2, 4, Some(other)),
            "belongs to disk node 00000000-0000-0000-0000-000000000063",
            "give it back",
        ),
        (shrunk(), "has shrunk to", "as large as it was"),
        (unreadable(), "both copies", "media error"),
    ];
    for (bad, what, remedy) in table {
        let mut world = World::new(vec![good.clone(), bad]);
        world.apply(vec![leg(1, 1, 1, &[1]), leg(2, 2, 1, &[1])]);
        world.settle();
        let fault = world.fault(1);
        assert!(fault.contains(what) && fault.contains(remedy), "{fault}");
        assert_eq!(world.disks[1].writes, 0, "nothing on it is touched: {fault}");
        assert!(world.ready(1), "the neighbour serves");
        assert!(!world.failure(2).is_empty());
        let host = world.connected(1);
        world.write(host, 1, 0, 1, 1).unwrap();
    }
}

#[test]
fn of_two_copies_neither_is_taken_for_the_true_one() {
    let original = one_leg(1).0.disks[0].clone();
    let mut world = World::booted(vec![original.clone(), formatted(2, 4, None), original]);
    world.apply(vec![leg(1, 1, 1, &[1]), leg(2, 2, 1, &[1])]);
    world.settle();
    for disk in [0, 2] {
        assert!(
            world.fault(disk).contains("two disks say that they are disk"),
            "{}",
            world.fault(disk)
        );
    }
    assert!(world.failure(1).contains("remove the copy") && world.ready(2));
}

#[test]
fn an_unreadable_slot_may_be_the_newest() {
    let mut disk = formatted(1, 4, Some(NODE));
    disk.fail_reads = None;
    let mut world = World::new(vec![disk]);
    world.stuck = vec![0];
    world.settle();
    (0..2).for_each(|_| world.complete(0));
    world.disks[0].fail_reads = Some(DiskError::Media);
    world.complete(0);
    world.disks[0].fail_reads = None;
    world.stuck.clear();
    world.settle();
    assert!(
        world.fault(0).contains("cannot be read (media error)"),
        "{}",
        world.fault(0)
    );
    assert_eq!(world.disks[0].writes, 0);
}

#[test]
fn one_good_copy_is_enough_and_mends_the_other() {
    for bad in SUPERBLOCK_OFFSETS {
        let mut disk = formatted(1, 4, Some(NODE));
        disk.put(bad, &[0xBB; 4096]);
        let world = World::booted(vec![disk]);
        assert_eq!(world.disk_status(0).fault, None);
        for offset in SUPERBLOCK_OFFSETS {
            let found = Superblock::parse(&world.disks[0].get(offset, 4096)).unwrap();
            assert_eq!((found.disk, found.node), (disk_id(1), Some(NODE)));
        }
    }
}

#[test]
fn a_node_adopts_a_disk_once_whenever_the_power_fails() {
    for completed in 0..6 {
        let mut world = World::new(vec![formatted(1, 4, None)]);
        world.stuck = vec![0];
        world.settle();
        for _ in 0..completed {
            world.complete(0);
            world.settle();
        }
        world.crash();
        world.stuck.clear();
        world.settle();
        assert_eq!(world.disk_status(0).fault, None, "after {completed} requests");
        let found = Superblock::parse(&world.disks[0].get(0, 4096)).unwrap();
        assert_eq!(found.node, Some(NODE));
    }
}

#[test]
fn a_rotten_slot_is_no_loss() {
    let (world, _) = one_leg(2);
    for slot in SLOT_OFFSETS {
        let mut disk = world.disks[0].clone();
        disk.put(slot, &[0xBB; 512]);
        let mut again = World::booted(vec![disk]);
        again.apply(vec![leg(1, 1, 2, &[1])]);
        again.settle();
        assert!(again.ready(1));
        assert_eq!(again.disk_status(0).extents_free, 6);
    }
}

#[test]
fn what_cannot_be_carved_says_why() {
    let mut world = World::booted(vec![formatted(1, 4, None), formatted(2, 4, None)]);
    let mut clash = leg(6, 1, 1, &[1]);
    clash.nsid = 1;
    let legs = vec![
        leg(1, 1, 2, &[1]),
        leg(3, 1, 3, &[1]),
        leg(4, 77, 1, &[1]),
        leg(5, 2, 0, &[1]),
        clash,
    ];
    world.apply(legs);
    world.settle();
    assert!(world.ready(1));
    assert!(
        world
            .failure(3)
            .contains("needs 3 extents, and 2 of the disk's 4 are free"),
        "{}",
        world.failure(3)
    );
    assert!(world.failure(4).contains("is not here"));
    assert!(world.failure(5).contains("makes no sense"));
    assert!(
        world.failure(6).contains("has its namespace identifier 1"),
        "{}",
        world.failure(6)
    );
    world.apply(vec![leg(1, 1, 3, &[1])]);
    world.settle();
    assert!(
        world.failure(1).contains("it has 2 extents"),
        "{}",
        world.failure(1)
    );
    world.apply(vec![leg(1, 2, 2, &[1])]);
    world.settle();
    assert!(
        world.failure(1).contains("it lies on another disk"),
        "{}",
        world.failure(1)
    );
}

#[test]
fn an_older_configuration_counts_for_nothing() {
    let (mut world, _) = one_leg(1);
    world.apply_revision(0, vec![]);
    world.settle();
    assert!(world.ready(1));
    assert_eq!(world.status().revision, cluster::Revision(1));
}

#[test]
fn zeroing_that_fails_fails_the_leg_alone() {
    let mut world = World::booted(vec![formatted(1, 4, None)]);
    world.apply(vec![leg(1, 1, 1, &[1])]);
    world.settle();
    world.disks[0].fail_zeroes = Some(DiskError::NoSpace);
    world.apply(vec![leg(1, 1, 1, &[1]), leg(2, 1, 1, &[1])]);
    world.settle();
    assert!(world.failure(2).contains("no space beneath the disk"));
    let host = world.connected(1);
    assert!(world.read(host, 1, 0, 1).is_ok() && world.read(host, 2, 0, 1).is_err());
    world.disks[0].fail_zeroes = None;
    world.apply(vec![leg(1, 1, 1, &[1])]);
    world.settle();
    assert_eq!(world.disk_status(0).extents_free, 3, "given back");
}

#[test]
fn errors_of_the_disk_reach_the_host() {
    let (mut world, host) = one_leg(1);
    world.disks[0].fail_reads = Some(DiskError::Media);
    assert!(world.read(host, 1, 0, 1).is_err());
    assert_eq!(world.disk_status(0).fault, None);
    world.disks[0].fail_reads = Some(DiskError::Gone);
    assert!(world.read(host, 1, 0, 1).is_err());
    assert!(world.fault(0).contains("the disk is gone"));
    assert_eq!(world.memory.held(), 0);
}

#[test]
fn a_disk_that_does_not_answer_holds_the_others_up_for_a_while_only() {
    let mut world = World::new(vec![formatted(1, 4, None), formatted(2, 4, None)]);
    world.stuck = vec![1];
    world.apply(vec![leg(1, 1, 1, &[1]), leg(2, 2, 1, &[1])]);
    world.settle();
    assert!(!world.ready(1), "it could be a copy of the other");
    world.pass(Duration::from_secs(6));
    assert!(world.ready(1));
    let neighbour = world.connected(1);
    assert_eq!(world.read(neighbour, 1, 0, 1), Ok(vec![0; 4096]));
    assert!(world.fault(1).contains("being read"));
    world.stuck.clear();
    world.settle();
    assert_eq!(world.disk_status(1).fault, None, "late is better than never");
    let late = world.connected_to(2, 1);
    assert_eq!(world.read(late, 2, 0, 1), Ok(vec![0; 4096]));
}

/// Why a host's last attempt to connect failed.
fn refusal(world: &mut World, host: usize) -> nvme::Status {
    let lost = world.hosts[host].lost.take();
    let Some(fabric::host::Lost::Refused { what, status }) = lost else {
        panic!("host {host} was not refused: {lost:?}")
    };
    assert!(what.contains("onnect"), "{what}");
    status
}

#[test]
fn who_connects_to_a_disk_is_told_to_wait_while_it_may_come_and_that_it_is_not_here_after() {
    let mut bad = formatted(3, 4, None);
    bad.fail_reads = Some(DiskError::Media);
    let mut world = World::new(vec![formatted(1, 4, None), formatted(2, 4, None), bad]);
    world.stuck = vec![1];
    world.apply(vec![leg(1, 1, 1, &[1])]);
    world.settle();
    let (slow, none, unreadable) = (world.host(1, 2), world.host(1, 77), world.host(1, 3));
    world.settle();
    for host in [slow, none, unreadable] {
        assert_eq!(refusal(&mut world, host), nvme::Status::CONNECT_CONTROLLER_BUSY);
    }
    world.pass(Duration::from_secs(9));
    let no_such = nvme::Status::CONNECT_INVALID_PARAMETERS.do_not_retry();
    for host in [slow, none, unreadable] {
        assert_eq!(refusal(&mut world, host), no_such);
    }
    world.stuck.clear();
    world.apply(vec![leg(1, 1, 1, &[1]), leg(2, 2, 1, &[1])]);
    world.pass(Duration::from_secs(9));
    assert!(
        world.hosts[slow].association.is_ready(),
        "it came late, and hosts that are ours try on"
    );
    assert_eq!(refusal(&mut world, none), no_such);
}

#[test]
fn one_of_several_machines_serves_what_it_was_told_is_its_own() {
    let mut world = World::sharing(vec![formatted(1, 4, None), formatted(2, 4, None)]);
    world.apply(vec![leg(1, 1, 1, &[1]), leg(2, 2, 1, &[1])]);
    world.pass(Duration::from_secs(6));
    let hosts = [1, 2, 3].map(|disk| world.host(1, disk));
    world.settle();
    for host in hosts {
        assert_eq!(refusal(&mut world, host), nvme::Status::CONNECT_CONTROLLER_BUSY);
    }
    assert!(!world.ready(1) && !world.ready(2), "a copy may be elsewhere");
    world.place(&[(1, 0), (3, 5)], &[]);
    world.pass(Duration::from_secs(3));
    assert!(world.hosts[hosts[0]].association.is_ready() && !world.ready(2));
    let fifth = ReactorIndex(5);
    assert!(!world.handed_over.is_empty() && world.handed_over.iter().all(|to| *to == fifth));
    world.place(&[(1, 0), (2, 0), (3, 5)], &[]);
    world.pass(Duration::from_secs(3));
    assert!(world.hosts[hosts[1]].association.is_ready() && world.ready(2));
    world.place(&[(1, 0), (2, 0), (3, 5)], &[2]);
    world.settle();
    assert!(world.fault(1).contains("two disks say"), "{}", world.fault(1));
    assert_eq!(world.disk_status(0).fault, None);
}

#[test]
fn every_disk_is_a_subsystem_of_its_own() {
    let mut world = World::booted(vec![formatted(1, 4, None), formatted(2, 4, None)]);
    let mut namesake = leg(2, 2, 1, &[1]);
    namesake.nsid = 1;
    world.apply(vec![leg(1, 1, 1, &[1]), namesake]);
    world.settle();
    assert!(world.ready(1) && world.ready(2), "{:?}", world.status());
    let ways = [world.connected_to(1, 1), world.connected_to(2, 1)];
    for (disk, way) in ways.into_iter().enumerate() {
        let association = &world.hosts[way].association;
        let uuids: Vec<_> = association.namespaces().iter().map(|seen| seen.uuid).collect();
        assert_eq!(uuids, [*leg_id(disk as u128 + 1).0.as_bytes()]);
        world.write(way, 1, 0, 1, disk as u8 + 1).unwrap();
    }
    for (disk, way) in ways.into_iter().enumerate() {
        assert_eq!(world.read(way, 1, 0, 1), Ok(vec![disk as u8 + 1; 4096]));
        let there = world.disks[disk].get(DATA_OFFSET, 4096);
        assert_eq!(there, vec![disk as u8 + 1; 4096]);
    }
    // A fence on one is none on the other, and a disk that hangs keeps nobody from the other.
    world.fence(ways[1], 1, 9).unwrap();
    world.fence(ways[0], 1, 5).unwrap();
    world.stuck = vec![0];
    world.submit(ways[0], 1, |memory| read(memory, 0, 1)).unwrap();
    assert_eq!(world.read(ways[1], 1, 0, 1), Ok(vec![2; 4096]));
}

#[test]
fn a_table_that_finds_no_buffer_is_written_later() {
    let mut world = World::booted(vec![formatted(1, 4, None)]);
    world.memory.exhausted = true;
    world.apply(vec![leg(1, 1, 1, &[1])]);
    world.settle();
    assert!(world.pending.is_empty() && !world.ready(1));
    world.pass(Duration::from_millis(50));
    world.memory.exhausted = false;
    world.pass(Duration::from_millis(50));
    assert!(world.ready(1));
}

#[test]
fn nothing_to_do_means_no_timeout() {
    let mut world = World::booted(vec![formatted(1, 4, None)]);
    world.apply(vec![leg(1, 1, 1, &[1])]);
    world.settle();
    use fabric::driver::Machine;
    assert_eq!(world.node.next_timeout(), None);
    assert_eq!(world.pending.len(), 0);
}
