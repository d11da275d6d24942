//! Rule R8: what a lost connection had in flight is waited for; what it had not handed out is never executed.

use super::harness::*;
use super::read_write::{manage, pattern, ranges, read, write};
use block::Operation;
use nvme::{AdminCommand, IoCommand};

/// A write of host A to blocks 4..6, handed out; then its connection is gone.
fn orphan(world: &mut World) -> Handed {
    let host = world.host(HOST_A, ID_A);
    let data = pattern(2, 1);
    let entry = world.io_entry(host, 1, write(4, 2), &data, 0);
    world.submit(host.io, entry, &data);
    let handed = world.handed.pop_front().expect("handed out");
    world.reset(host.io);
    handed
}

#[test]
fn overlapping_commands_of_any_host_wait_for_an_orphan() {
    let mut world = World::new();
    let handed = orphan(&mut world);
    let other = world.host(HOST_B, ID_B);
    let data = pattern(1, 2);
    let entry = world.io_entry(other, 1, write(5, 1), &data, 0);
    world.submit(other.io, entry, &data);
    let entry = world.io_entry(other, 1, read(4, 1), &[], BLOCK as u32);
    world.submit(other.io, entry, &[]);
    assert!(world.handed.is_empty(), "both overlap");
    for command in [read(3, 1), read(6, 1), IoCommand::Flush] {
        let length = if command == IoCommand::Flush {
            0
        } else {
            BLOCK as u32
        };
        assert!(
            world.io(other, 1, command, &[], length).status.is_success(),
            "beside it"
        );
    }
    world.complete(handed.io, block::Status::Success);
    assert_eq!(world.handed.len(), 2);
    world.run_backend();
    assert_eq!(world.replies(other.io).len(), 2);
    assert_eq!(world.memory.in_use(), 0);
}

#[test]
fn reads_do_not_wait_for_an_orphaned_read() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let entry = world.io_entry(host, 1, read(0, 8), &[], 8 * BLOCK as u32);
    world.submit(host.io, entry, &[]);
    let handed = world.handed.pop_front().expect("handed out");
    world.reset(host.admin);
    let other = world.host(HOST_B, ID_B);
    assert!(
        world
            .io(other, 1, read(0, 1), &[], BLOCK as u32)
            .status
            .is_success()
    );
    let data = pattern(1, 2);
    let entry = world.io_entry(other, 1, write(0, 1), &data, 0);
    world.submit(other.io, entry, &data);
    assert!(
        world.handed.is_empty(),
        "a write would change what the orphan reads"
    );
    world.complete(handed.io, block::Status::Success);
    world.run_backend();
    assert!(world.ended(other.io).status.is_success());
}

#[test]
fn the_buffer_of_an_orphan_stays_until_its_end() {
    let mut world = World::new();
    let handed = orphan(&mut world);
    let Operation::Write { buffer, .. } = handed.request.operation else {
        panic!("a write")
    };
    assert_eq!(block::Memory::bytes(&world.memory, buffer), &pattern(2, 1)[..]);
    world.complete(handed.io, block::Status::MediaError);
    assert_eq!(world.memory.in_use(), 0);
}

#[test]
fn commands_that_were_not_handed_out_are_dropped_with_their_connection() {
    let mut world = World::new();
    let handed = orphan(&mut world);
    let other = world.host(HOST_B, ID_B);
    let data = pattern(1, 2);
    let entry = world.io_entry(other, 1, write(5, 1), &data, 0);
    world.submit(other.io, entry, &data);
    // Half a capsule is in the stream when the connection breaks.
    let entry = world.io_entry(other, 1, write(7, 1), &data, 0);
    let capsule = world.capsule(other.io, &entry, &data);
    world.receive(other.io, &capsule[..capsule.len() - 1]);
    world.reset(other.io);
    world.complete(handed.io, block::Status::Success);
    assert!(world.handed.is_empty());
    assert_eq!(world.memory.in_use(), 0);
    assert!(world.admin(other, AdminCommand::KeepAlive, 0).status.is_success());
}

#[test]
fn an_orphan_outlives_its_namespace_and_its_subsystem() {
    let mut world = World::new();
    let handed = orphan(&mut world);
    world
        .target
        .remove_subsystem(world.now, SUBSYSTEM, &mut world.memory);
    world.drain();
    world
        .target
        .upsert_subsystem(world.now, SUBSYSTEM, subsystem(), &mut world.memory);
    world.put_namespace(1, namespace(1, &[HOST_B]), None);
    world.set_ana(crate::target::AnaState::Optimized);
    let other = world.host(HOST_B, ID_B);
    let entry = world.io_entry(other, 1, read(4, 1), &[], BLOCK as u32);
    world.submit(other.io, entry, &[]);
    assert!(world.handed.is_empty(), "still waited for");
    world.complete(handed.io, block::Status::Success);
    world.run_backend();
    assert!(world.ended(other.io).status.is_success());
}

#[test]
fn a_range_that_had_to_wait_is_deallocated_all_the_same() {
    let mut world = World::new();
    let handed = orphan(&mut world);
    let other = world.host(HOST_B, ID_B);
    let data = ranges(&[(4, 1), (20, 2)], 2);
    let entry = world.io_entry(other, 1, manage(2, true), &data, 0);
    world.submit(other.io, entry, &data);
    assert!(world.handed.is_empty(), "its first range overlaps the orphan");
    world.complete(handed.io, block::Status::Success);
    let mut seen = Vec::new();
    while let Some(handed) = world.handed.pop_front() {
        seen.push((handed.request.range.start.0, handed.request.range.length.0));
        world.complete(handed.io, block::Status::Success);
    }
    assert_eq!(seen, [(4, 1), (20, 2)]);
    assert!(world.ended(other.io).status.is_success());
}
