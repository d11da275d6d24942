//! Who sees what, what a path serves, and how hosts are cut off.

use super::harness::*;
use super::read_write::{pattern, read, write};
use crate::target::AnaState;
use crate::tcp::framing::Digests;
use block::Blocks;
use nvme::command::{Cns, Identify};
use nvme::identify::list::NamespaceList;
use nvme::identify::namespace::IdentifyNamespace;
use nvme::{AdminCommand, Cntlid, Nsid, Status};

fn identify(world: &mut World, host: Host, cns: Cns, nsid: u32) -> Ended {
    let command = AdminCommand::Identify(Identify::new(cns, Nsid(nsid)));
    world.admin(host, command, 4096)
}

fn active(world: &mut World, host: Host) -> Vec<u32> {
    let ended = identify(world, host, Cns::ActiveNamespaceList, 0);
    let list = NamespaceList::parse(&ended.data).expect("4096 bytes");
    list.namespaces().map(|nsid| nsid.0).collect()
}

const INVALID: Status = Status::INVALID_NAMESPACE_OR_FORMAT.do_not_retry();

#[test]
fn hosts_see_their_own_namespaces_only() {
    let mut world = World::new();
    world.put_namespace(2, namespace(2, &[HOST_B]), None);
    let (a, b) = (world.host(HOST_A, ID_A), world.host(HOST_B, ID_B));
    assert_eq!(active(&mut world, a), [1]);
    assert_eq!(active(&mut world, b), [1, 2]);
    let described = [
        Cns::Namespace,
        Cns::NamespaceIdentificationDescriptors,
        Cns::CommandSetNamespace,
        Cns::IndependentNamespace,
    ];
    for cns in described {
        assert_eq!(identify(&mut world, a, cns, 2).status, INVALID, "{cns}");
        assert!(identify(&mut world, b, cns, 2).status.is_success(), "{cns}");
    }
    assert_eq!(world.io(a, 2, read(0, 1), &[], BLOCK as u32).status, INVALID);
    assert_eq!(world.io(a, 2, write(0, 1), &pattern(1, 0), 0).status, INVALID);
    assert!(world.io(b, 2, read(0, 1), &[], BLOCK as u32).status.is_success());
}

#[test]
fn what_any_host_sees_the_nameless_see_too() {
    let mut world = World::new();
    world.put_namespace(2, namespace(2, &[crate::target::ANY_HOST]), None);
    let (nameless, a) = (world.host("", ID_B), world.host(HOST_A, ID_A));
    assert_eq!(active(&mut world, nameless), [2]);
    assert_eq!(active(&mut world, a), [1, 2]);
    assert!(
        world
            .io(nameless, 2, read(0, 1), &[], BLOCK as u32)
            .status
            .is_success()
    );
    assert_eq!(
        world.io(nameless, 1, read(0, 1), &[], BLOCK as u32).status,
        INVALID
    );
}

#[test]
fn a_namespace_that_shrank_refuses_what_is_beyond() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let mut config = namespace(1, &[HOST_A]);
    config.size_blocks = Blocks(16);
    world.put_namespace(1, config, None);
    let data = identify(&mut world, host, Cns::Namespace, 1).data;
    assert_eq!(
        IdentifyNamespace::parse(&data).expect("4096 bytes").nsze.get(),
        16
    );
    let ended = world.io(host, 1, read(16, 1), &[], BLOCK as u32);
    assert_eq!(ended.status, Status::LBA_OUT_OF_RANGE.do_not_retry());
}

#[test]
fn rights_taken_while_a_command_waits_for_its_data_count() {
    let mut world = World::new();
    world.put_namespace(2, namespace(2, &[HOST_A]), None);
    let host = world.host(HOST_A, ID_A);
    let data = pattern(4, 1);
    let entry = world.io_entry(host, 1, write(0, 4), &[], data.len() as u32);
    world.submit(host.io, entry, &[]);
    let Reply::R2t { cid, tag, .. } = world.reply(host.io) else {
        panic!("no R2T")
    };
    world.put_namespace(1, namespace(1, &[HOST_B]), None);
    let pdu = world.data_pdu(
        host.io,
        [cid.into(), tag.into(), 0, data.len() as u32],
        true,
        &data,
    );
    world.receive(host.io, &pdu);
    assert!(world.handed.is_empty());
    assert_eq!(world.ended(host.io).status, INVALID);
    assert_eq!(world.memory.in_use(), 0);
}

#[test]
fn a_host_without_rights_finishes_what_is_in_flight_and_is_cut_off() {
    let mut world = World::new();
    let (a, b) = (world.host(HOST_A, ID_A), world.host(HOST_B, ID_B));
    let data = pattern(1, 1);
    let entry = world.io_entry(a, 1, write(0, 1), &data, 0);
    world.submit(a.io, entry, &data);
    world.put_namespace(1, namespace(1, &[HOST_B]), None);
    assert!(world.closed.is_empty(), "something is in flight");
    assert_eq!(world.io_refused(a), INVALID, "nothing new");
    world.run_backend();
    assert!(
        world.ended(a.io).status.is_success(),
        "what was in flight is answered"
    );
    assert_eq!(world.closed, [(a.io, false), (a.admin, false)].into());
    assert_eq!(world.connected, hosts(&[HOST_B]));
    let again = world.initialize(Digests::default());
    let ended = world.connect(again, (SUBNQN, HOST_A), ID_A, Cntlid::DYNAMIC, connect(0, true));
    assert_eq!(ended.status, Status::CONNECT_INVALID_HOST.do_not_retry());
    assert!(world.io(b, 1, read(0, 1), &[], BLOCK as u32).status.is_success());
}

#[test]
fn hosts_named_by_the_subsystem_may_come_without_namespaces() {
    let mut world = World::new();
    let mut config = subsystem();
    config.hosts = hosts(&[HOST_A]);
    world
        .target
        .upsert_subsystem(world.now, SUBSYSTEM, config, &mut world.memory);
    world.put_namespace(1, namespace(1, &[HOST_B]), None);
    let host = world.host(HOST_A, ID_A);
    assert!(active(&mut world, host).is_empty());
    world
        .target
        .upsert_subsystem(world.now, SUBSYSTEM, subsystem(), &mut world.memory);
    world.drain();
    assert_eq!(world.closed.get(&host.admin), Some(&false));
}

#[test]
fn a_removed_namespace_is_gone_for_commands_that_wait() {
    let mut world = World::new();
    let (a, b) = (world.host(HOST_A, ID_A), world.host(HOST_B, ID_B));
    let data = pattern(1, 1);
    let entry = world.io_entry(a, 1, write(0, 1), &data, 0);
    world.submit(a.io, entry, &data);
    world.reset(a.admin);
    let entry = world.io_entry(b, 1, write(0, 1), &data, 0);
    world.submit(b.io, entry, &data);
    world.put_namespace(2, namespace(2, &[HOST_B]), None);
    world
        .target
        .remove_namespace(world.now, SUBSYSTEM, 1, &mut world.memory);
    world.drain();
    assert_eq!(world.ended(b.io).status, INVALID);
    world.run_backend();
    assert_eq!(world.memory.in_use(), 0);
}

#[test]
fn ana_states_serve_or_refuse_as_path_conditions() {
    let rows = [
        (AnaState::Optimized, Status::SUCCESS),
        (AnaState::NonOptimized, Status::SUCCESS),
        (AnaState::Inaccessible, Status::ANA_INACCESSIBLE),
        (AnaState::PersistentLoss, Status::ANA_PERSISTENT_LOSS),
        (AnaState::Change, Status::ANA_TRANSITION),
    ];
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    for (state, status) in rows {
        world.set_ana(state);
        let ended = world.io(host, 1, read(0, 1), &[], BLOCK as u32);
        assert_eq!(ended.status, status, "{state}: never \"do not retry\"");
        assert!(
            identify(&mut world, host, Cns::Namespace, 1).status.is_success(),
            "{state}"
        );
    }
}

#[test]
fn a_path_that_stops_serving_refuses_what_was_not_handed_out() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let data = pattern(4, 1);
    let entry = world.io_entry(host, 1, write(0, 4), &[], data.len() as u32);
    world.submit(host.io, entry, &[]);
    let Reply::R2t { cid, tag, .. } = world.reply(host.io) else {
        panic!("no R2T")
    };
    let first = world.io_entry(host, 1, read(0, 1), &[], BLOCK as u32);
    world.submit(host.io, first, &[]);
    world.set_ana(AnaState::Inaccessible);
    let pdu = world.data_pdu(
        host.io,
        [cid.into(), tag.into(), 0, data.len() as u32],
        true,
        &data,
    );
    world.receive(host.io, &pdu);
    assert_eq!(world.ended(host.io).status, Status::ANA_INACCESSIBLE);
    world.run_backend();
    assert!(
        world.ended(host.io).status.is_success(),
        "what was handed out is finished"
    );
}
