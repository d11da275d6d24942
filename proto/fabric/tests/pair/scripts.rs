//! What must be so in particular: every size on every kind of transfer, a switch of the owner, coming back, namespaces that
//! come and go.

use super::world::{BLOCKS, NSID, SUBSYSTEM, Setting, VOLUME, World, namespace, stamped};
use block::{BlockRange, Memory, Operation};
use fabric::host::{Command, MultipathEvent, PathState, VolumeId};
use fabric::target::AnaState;
use nvme::Status;

fn told(world: &mut World) -> Vec<String> {
    let addresses = world.addresses.clone();
    let path = |address| {
        addresses
            .iter()
            .position(|known| *known == address)
            .expect("known")
    };
    let events = world.events.drain(..);
    events
        .map(|event| match event {
            MultipathEvent::PathReady { address, cntlid } => format!("ready {} {cntlid}", path(address)),
            MultipathEvent::PathLost { address, reason } => format!("lost {}: {reason}", path(address)),
            MultipathEvent::NamespacesRead { address } => format!("read {}", path(address)),
            MultipathEvent::Completed { .. } => unreachable!("taken out before"),
        })
        .collect()
}

/// Writes, reads and compares every length around every limit, for every combination of digests and limits.
#[test]
fn every_length_crosses_intact() {
    for digests in 0..4 {
        for (in_capsule_bytes, h2c_data_bytes_max, mdts) in [
            (4096, 4096, 1),
            (8192, 4096, 8),
            (8192, 128 << 10, 3),
            (32768, 12288, 5),
        ] {
            let setting = Setting {
                header_digest: digests & 1 != 0,
                data_digest: digests & 2 != 0,
                in_capsule_bytes,
                h2c_data_bytes_max,
                mdts,
                ..Setting::plain()
            };
            let mut world = World::new(setting, u64::from(in_capsule_bytes) + digests);
            world.connect_all();
            world.run_for(100);
            for (value, length) in (1..).zip([1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 64, BLOCKS]) {
                let range = BlockRange::new(BLOCKS - length, length);
                world.write(range, value, false);
                assert!(world.finish_within(1_000));
                world.read(range);
                let buffer = world.memory.filled(&stamped(length, value));
                world.submit_command(Command::Compare { range, buffer }, value);
                assert!(world.finish_within(1_000));
                let buffer = world.memory.filled(&stamped(length, value + 1));
                world.submit_command(Command::Compare { range, buffer }, value + 1);
                assert!(world.finish_within(1_000));
                assert_eq!(
                    world
                        .failed
                        .pop()
                        .map(|status| status.is(Status::COMPARE_FAILURE)),
                    Some(true)
                );
            }
            assert_eq!(world.failed, []);
            assert!(world.disk.iter().all(|value| *value == 12));
            // Where enough comes at once, some of it landed.
            assert!(world.landed_bytes > 0 || h2c_data_bytes_max <= 12288);
            assert!(world.landed_bytes_at_host > 0 || mdts == 1);
        }
    }
}

#[test]
fn a_switch_of_the_owner_is_not_noticed_by_whoever_writes() {
    let setting = Setting {
        targets: 2,
        ..Setting::plain()
    };
    let mut world = World::new(setting, 1);
    world.connect_all();
    world.run_for(100);
    assert_eq!(
        world
            .host
            .paths()
            .iter()
            .map(|path| path.namespaces[0].1)
            .collect::<Vec<_>>(),
        [AnaState::Optimized, AnaState::Inaccessible]
    );
    for round in 1..=10 {
        for index in 0..20 {
            world.write(BlockRange::new(index * 4, 4), round * 100 + index, false);
        }
        world.run_for(1);
        let to = 1 - world.owner;
        world.set_ana(1 - to, AnaState::Change);
        world.run_for(2);
        let before = world.nodes[1 - to].executed;
        world.switch_owner(to);
        assert!(world.finish_within(2_000), "round {round}");
        assert_eq!(
            world.nodes[1 - to].executed,
            before,
            "nothing more at the old owner"
        );
        assert!(world.nodes[to].executed > 0);
    }
    assert_eq!(world.failed, []);
    let paths = world.host.paths();
    assert!(
        paths.iter().all(|path| path.state == PathState::Live),
        "no connection was lost: {paths:?}"
    );
    assert_eq!((paths[0].cntlid, paths[1].cntlid / 1000), (1, 1));
    assert!(!told(&mut world).iter().any(|told| told.starts_with("lost")));
}

#[test]
fn requests_wait_while_no_path_is_usable() {
    let mut world = World::new(Setting::plain(), 2);
    world.connect_all();
    world.run_for(100);
    world.set_ana(0, AnaState::Inaccessible);
    world.run_for(50);
    world.write(BlockRange::new(0, 8), 7, true);
    world.read(BlockRange::new(8, 8));
    for _ in 0..500 {
        world.run_for(1);
        assert_eq!(
            world.host.waiting(),
            2,
            "nothing is sent where it would be refused"
        );
    }
    assert!(!world.finish_within(5_000));
    world.crash(0);
    world.run_for(2_000);
    assert_eq!(world.running.len(), 2, "nor does a lost connection end them");
    world.restart(0);
    assert!(world.finish_within(2_000));
    assert_eq!(world.failed, []);
    assert_eq!(world.disk[..9], [7, 7, 7, 7, 7, 7, 7, 7, 0]);
}

#[test]
fn a_stalled_connection_is_found_out_and_replaced() {
    let mut world = World::new(Setting::plain(), 3);
    world.connect_all();
    world.run_for(100);
    told(&mut world);
    for connection in world.connection_ids() {
        world.stall(connection);
    }
    world.write(BlockRange::new(3, 2), 9, false);
    assert!(world.finish_within(4_000));
    let told = told(&mut world);
    assert_eq!(told, ["lost 0: a command was not answered in time", "ready 0 2"]);
}

#[test]
fn damage_is_noticed_with_digests_and_data_stays_right() {
    for seed in 0..30 {
        let setting = Setting {
            header_digest: true,
            data_digest: true,
            ..Setting::plain()
        };
        let mut world = World::new(setting, seed);
        world.connect_all();
        world.run_for(100);
        for value in 1..8 {
            world.write(BlockRange::new(0, 24), value, false);
            world.read(BlockRange::new(8, 24));
            let deadline = world.now + block::Duration::from_micros(200);
            while world.step(deadline) {}
            world.damage();
            assert!(world.finish_within(20_000), "seed {seed}");
        }
        assert_eq!(world.failed, [], "seed {seed}");
    }
}

#[test]
fn volumes_come_go_and_grow_without_reconnecting() {
    let mut world = World::new(Setting::plain(), 4);
    world.connect_all();
    world.run_for(100);
    assert_eq!(told(&mut world), ["ready 0 1"]);
    let other = VolumeId([0x77; 16]);
    let node = &mut world.nodes[0];
    node.target.upsert_namespace(
        world.now,
        SUBSYSTEM,
        9,
        namespace(5000, other),
        None,
        &mut node.memory,
    );
    node.target.upsert_namespace(
        world.now,
        SUBSYSTEM,
        NSID,
        namespace(BLOCKS + 4, VOLUME),
        None,
        &mut node.memory,
    );
    world.drain();
    world.run_for(100);
    let volumes = |world: &World| -> Vec<(VolumeId, u64, usize)> {
        let volumes = world.host.volumes().into_iter();
        volumes
            .map(|status| (status.volume, status.size.0, status.usable_paths))
            .collect()
    };
    assert_eq!(volumes(&world), [(VOLUME, BLOCKS + 4, 1), (other, 5000, 1)]);
    let node = &mut world.nodes[0];
    node.target
        .remove_namespace(world.now, SUBSYSTEM, NSID, &mut node.memory);
    world.drain();
    world.run_for(100);
    assert_eq!(volumes(&world), [(other, 5000, 1)]);
    assert!(told(&mut world).iter().all(|told| told == "read 0"));
    // What nobody has will not come: that is told, and is no path condition.
    world.read(BlockRange::new(0, 1));
    assert!(world.finish_within(100));
    assert!(
        world.failed[0].is(Status::INVALID_NAMESPACE_OR_FORMAT),
        "{:?}",
        world.failed
    );
}

#[test]
fn what_lies_outside_is_refused_once_and_for_all() {
    let mut world = World::new(Setting::plain(), 5);
    world.connect_all();
    world.run_for(100);
    world.read(BlockRange::new(BLOCKS - 1, 2));
    world.write(BlockRange::new(BLOCKS, 1), 3, false);
    world.submit(Operation::Deallocate, BlockRange::new(u64::MAX - 1, 1), 0);
    world.write(BlockRange::new(0, 1), 4, false);
    assert!(world.finish_within(1_000));
    assert_eq!(world.failed.len(), 3);
    assert!(
        world
            .failed
            .iter()
            .all(|status| status.is(Status::LBA_OUT_OF_RANGE)),
        "{:?}",
        world.failed
    );
    assert_eq!(world.disk[0], 4);
}

#[test]
fn an_abandoned_request_is_not_told_and_keeps_no_buffer() {
    let mut world = World::new(Setting::plain(), 6);
    world.connect_all();
    world.run_for(100);
    let first = world.read(BlockRange::new(0, 8));
    let running = world.running.remove(&first).expect("just begun");
    world.host.abandon(fabric::host::Tag(first), &mut world.memory);
    let buffer = running.command.buffer().expect("a read has one");
    world.memory.release(buffer.buffer);
    assert!(world.host.in_flight() == 0);
    world.run_for(100);
    assert_eq!((world.completed, world.memory.held()), (0, 0));
}

#[test]
fn a_path_taken_away_leaves_its_requests_to_the_others() {
    let setting = Setting {
        targets: 2,
        ..Setting::plain()
    };
    let mut world = World::new(setting, 7);
    world.connect_all();
    world.run_for(100);
    world.set_ana(1, AnaState::NonOptimized);
    world.run_for(10);
    for value in 1..20 {
        world.write(BlockRange::new(value, 1), value, false);
    }
    let gone = world.addresses[0];
    world.host.disconnect(world.now, gone, &mut world.memory);
    // The owner's place is with the path that is left.
    world.owner = 1;
    assert!(world.finish_within(2_000));
    world.run_for(2_000);
    assert_eq!(world.host.paths().len(), 1);
    assert_eq!(world.failed, []);
}

#[test]
fn a_refusal_is_believed_though_no_event_came() {
    let mut world = World::new(Setting::plain(), 8);
    world.connect_all();
    world.run_for(100);
    world.swallow_ana_events = true;
    world.set_ana(0, AnaState::Inaccessible);
    world.run_for(50);
    let state = |world: &World| world.host.paths()[0].namespaces[0].1;
    assert_eq!(state(&world), AnaState::Optimized, "the host has not heard of it");
    world.write(BlockRange::new(0, 1), 5, false);
    world.run_for(50);
    assert_eq!(state(&world), AnaState::Inaccessible);
    assert_eq!((world.running.len(), world.host.waiting()), (1, 1));
    world.swallow_ana_events = false;
    // The event that was swallowed has used the request up: the host learns of it when it connects again.
    world.crash(0);
    world.run_for(100);
    world.restart(0);
    assert!(world.finish_within(1_000));
}
