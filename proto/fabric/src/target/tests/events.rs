//! Asynchronous events: what raises them, and that they are told once.

use super::admin::{log, read_log};
use super::harness::*;
use crate::target::{AnaState, Portal};
use crate::tcp::framing::Digests;
use block::Blocks;
use nvme::async_event::{AsyncEvent, AsyncEventSet};
use nvme::command::{GetLogPage, SetFeatures};
use nvme::feature::FeatureIdentifier;
use nvme::log::{ChangedNamespaceList, LogPageIdentifier};
use nvme::{AdminCommand, Cntlid, Sgl, Status};

const CHANGED: LogPageIdentifier = LogPageIdentifier::ChangedAttachedNamespaceList;

/// Wants events, and asks for one.
fn listen(world: &mut World, host: Host) {
    let wanted = AsyncEventSet::NAMESPACE_ATTRIBUTE.union(AsyncEventSet::ANA_CHANGE);
    let set = SetFeatures::new(FeatureIdentifier::AsynchronousEventConfiguration, wanted.0);
    assert!(
        world
            .admin(host, AdminCommand::SetFeatures(set), 0)
            .status
            .is_success()
    );
    ask(world, host);
}

fn ask(world: &mut World, host: Host) {
    let cid = world.cid(host.admin);
    world.submit(
        host.admin,
        AdminCommand::AsynchronousEventRequest.encode(cid, Sgl::NONE),
        &[],
    );
}

/// The event told, if one was.
fn told(world: &mut World, host: Host) -> Option<AsyncEvent> {
    match world.replies(host.admin).as_slice() {
        [] => None,
        [Reply::Completion(entry)] => Some(AsyncEvent::parse(entry.dword0()).expect("a known event")),
        other => panic!("{other:?}"),
    }
}

fn changed(world: &mut World, host: Host, retain: bool) -> Vec<u32> {
    let page = GetLogPage {
        retain_asynchronous_event: retain,
        ..log(CHANGED, 4096)
    };
    let data = read_log(world, host, page).data;
    let list = ChangedNamespaceList::parse(&data).expect("4096 bytes");
    list.namespaces().map(|nsid| nsid.0).collect()
}

#[test]
fn namespaces_that_come_change_and_go_are_told_to_those_who_see_them() {
    let mut world = World::new();
    let (a, b) = (world.host(HOST_A, ID_A), world.host(HOST_B, ID_B));
    listen(&mut world, a);
    listen(&mut world, b);
    let changes: [(u32, Option<u64>, &[&str]); 5] = [
        (2, Some(SIZE), &[HOST_A]),
        (2, Some(SIZE), &[HOST_A, HOST_C]), // A is not concerned
        (2, Some(2 * SIZE), &[HOST_A, HOST_C]),
        (2, Some(2 * SIZE), &[HOST_C]),
        (2, None, &[]),
    ];
    for (nth, (nsid, size, seers)) in changes.into_iter().enumerate() {
        match size {
            Some(size) => {
                let mut config = namespace(nsid, seers);
                config.size_blocks = Blocks(size);
                world.put_namespace(nsid, config, None);
            }
            None => {
                world
                    .target
                    .remove_namespace(world.now, SUBSYSTEM, nsid, &mut world.memory);
                world.drain();
            }
        }
        let concerned = matches!(nth, 0 | 2 | 3);
        let event = concerned.then_some(AsyncEvent::NAMESPACE_CHANGED);
        assert_eq!(told(&mut world, a), event, "change {nth}");
        assert_eq!(told(&mut world, b), None, "change {nth}");
        if concerned {
            assert_eq!(changed(&mut world, a, false), [2], "change {nth}");
            ask(&mut world, a);
        }
    }
}

#[test]
fn an_event_is_masked_until_its_log_page_is_read_without_retaining() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    listen(&mut world, host);
    world.put_namespace(2, namespace(2, &[HOST_A]), None);
    assert_eq!(told(&mut world, host), Some(AsyncEvent::NAMESPACE_CHANGED));
    ask(&mut world, host);
    world.put_namespace(3, namespace(3, &[HOST_A]), None);
    assert_eq!(told(&mut world, host), None, "masked");
    assert_eq!(changed(&mut world, host, true), [2, 3]);
    assert_eq!(told(&mut world, host), None, "retained");
    assert_eq!(changed(&mut world, host, false), [2, 3]);
    assert_eq!(changed(&mut world, host, false), [0; 0], "read is read");
    world.put_namespace(4, namespace(4, &[HOST_A]), None);
    assert_eq!(told(&mut world, host), Some(AsyncEvent::NAMESPACE_CHANGED));
}

#[test]
fn ana_changes_are_told_even_if_nobody_asked_yet() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    listen(&mut world, host);
    world.set_ana(AnaState::Change);
    assert_eq!(told(&mut world, host), Some(AsyncEvent::ANA_CHANGE));
    read_log(
        &mut world,
        host,
        log(LogPageIdentifier::AsymmetricNamespaceAccess, 256),
    );
    world.set_ana(AnaState::Optimized);
    assert_eq!(told(&mut world, host), None, "no request waits");
    ask(&mut world, host);
    assert_eq!(told(&mut world, host), Some(AsyncEvent::ANA_CHANGE));
    world.set_ana(AnaState::Optimized);
    ask(&mut world, host);
    assert_eq!(told(&mut world, host), None, "no change");
}

#[test]
fn a_fifth_request_is_one_too_many() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    for _ in 0..4 {
        ask(&mut world, host);
        assert!(world.replies(host.admin).is_empty());
    }
    ask(&mut world, host);
    assert_eq!(
        world.ended(host.admin).status,
        Status::ASYNC_EVENT_LIMIT_EXCEEDED.do_not_retry()
    );
}

#[test]
fn an_aborted_request_is_answered_and_gets_no_event() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let set = SetFeatures::new(FeatureIdentifier::AsynchronousEventConfiguration, 1 << 11);
    world.admin(host, AdminCommand::SetFeatures(set), 0);
    let cid = world.cid(host.admin);
    world.submit(
        host.admin,
        AdminCommand::AsynchronousEventRequest.encode(cid, Sgl::NONE),
        &[],
    );
    let abort = AdminCommand::Abort(nvme::command::Abort {
        sqid: nvme::Qid(0),
        cid,
    });
    let other = world.cid(host.admin);
    world.submit(host.admin, abort.encode(other, Sgl::NONE), &[]);
    assert_eq!(world.replies(host.admin).len(), 2);
    world.set_ana(AnaState::Change);
    assert!(world.replies(host.admin).is_empty());
}

#[test]
fn discovery_changes_are_told() {
    let mut world = World::new();
    let admin = world.initialize(Digests::default());
    let names = (nvme::nqn::DISCOVERY, HOST_A);
    assert!(
        world
            .connect(admin, names, ID_A, Cntlid::DYNAMIC, connect(0, true))
            .status
            .is_success()
    );
    world.enable(admin);
    let host = Host {
        cntlid: Cntlid(1),
        admin,
        io: admin,
    };
    let set = SetFeatures::new(FeatureIdentifier::AsynchronousEventConfiguration, 1 << 31);
    assert!(
        world
            .admin(host, AdminCommand::SetFeatures(set), 0)
            .status
            .is_success()
    );
    ask(&mut world, host);
    let portal = Portal {
        port: 1,
        address: "[::1]:4420".parse().expect("an address"),
    };
    for expected in [Some(AsyncEvent::DISCOVERY_CHANGE), None] {
        world
            .target
            .set_portals(world.now, SUBSYSTEM, [portal].into(), &mut world.memory);
        world.drain();
        assert_eq!(told(&mut world, host), expected);
    }
}
