//! Connections that are for another machine of the process: every byte goes along, and the host notices nothing.

use super::harness::*;
use super::read_write::read;
use crate::driver::{ConnectionId, ReactorIndex};
use crate::target::{Elsewhere, Portal};
use crate::tcp::framing::Digests;
use nvme::command::{PropertyGet, PropertySize};
use nvme::connect::ConnectParameters;
use nvme::{Cid, Cntlid, FabricsCommand, Nqn, Sgl, Status};
use std::collections::{BTreeMap, BTreeSet};

const THERE: ReactorIndex = ReactorIndex(3);

/// A machine without the subsystem, which knows who has it.
fn front() -> World {
    let mut world = World::new();
    world
        .target
        .remove_subsystem(world.now, SUBSYSTEM, &mut world.memory);
    point(&mut world);
    world
}

/// Tells a machine that another one has the subsystem.
fn point(world: &mut World) {
    let elsewhere = Elsewhere {
        reactor: THERE,
        hosts: hosts(&[HOST_A]),
        portals: BTreeSet::from([portal()]),
    };
    let directory = BTreeMap::from([(SUBNQN.to_owned(), elsewhere)]);
    world
        .target
        .set_elsewhere(world.now, directory, &mut world.memory);
    world.drain();
}

fn portal() -> Portal {
    Portal {
        port: 1,
        address: "192.0.2.1:4420".parse().expect("an address"),
    }
}

/// A Connect of an admin queue to the subsystem of that name.
fn connect_capsule(world: &mut World, connection: ConnectionId, name: &str, data: bool) -> Vec<u8> {
    let parameters = ConnectParameters {
        host_id: ID_A,
        cntlid: Cntlid::DYNAMIC,
        subsystem: Nqn::parse(name).expect("a name"),
        host: Some(Nqn::parse(HOST_A).expect("a name")),
    };
    let cid = world.cid(connection);
    let length = 1024;
    let sgl = match data {
        true => Sgl::InCapsule { offset: 0, length },
        false => Sgl::Transport { length },
    };
    let entry = FabricsCommand::Connect(connect(0, true)).encode(cid, sgl);
    let bytes = parameters.encode();
    let bytes = if data { bytes.as_bytes() } else { &[] };
    world.capsule(connection, &entry, bytes)
}

/// Reads CAP: a command that makes sense behind a Connect.
fn behind(world: &World, connection: ConnectionId) -> Vec<u8> {
    let get = PropertyGet {
        size: PropertySize::Eight,
        offset: 0,
    };
    let entry = FabricsCommand::PropertyGet(get).encode(Cid(77), Sgl::NONE);
    world.capsule(connection, &entry, &[])
}

/// What the one connection that left took along.
fn taken_along(world: &mut World, connection: ConnectionId) -> Vec<u8> {
    assert_eq!(world.handed_over.len(), 1);
    let (left, reactor, received) = world.handed_over.remove(0);
    assert_eq!((left, reactor), (connection, THERE));
    assert!(world.closed.is_empty(), "it is not closed");
    // The machine knows nothing of it any more.
    world.receive(connection, &[0xff; 64]);
    world.reset(connection);
    assert!(world.replies(connection).is_empty());
    received
}

const DIGESTS: [Digests; 2] = [
    Digests {
        header: false,
        data: false,
    },
    Digests {
        header: true,
        data: true,
    },
];

#[test]
fn a_connection_goes_to_whoever_has_its_subsystem() {
    for digests in DIGESTS {
        for (piece, trailing) in [(usize::MAX, false), (usize::MAX, true), (1, false), (100, false)] {
            let mut front = front();
            let connection = front.initialize(digests);
            let mut said = connect_capsule(&mut front, connection, SUBNQN, true);
            if trailing {
                // One and a half capsules more.
                let behind = behind(&front, connection);
                said.extend([&behind[..], &behind[..30]].concat());
            }
            for part in said.chunks(piece.min(said.len())) {
                front.receive(connection, part);
            }
            let received = taken_along(&mut front, connection);
            assert_eq!(received, [initialization(digests), said].concat());
            let mut there = World::new();
            let connection = there.take_over(digests, &received);
            let replies = there.replies(connection);
            assert_eq!(replies.len(), if trailing { 2 } else { 1 }, "{replies:?}");
            for reply in replies {
                assert!(
                    matches!(reply, Reply::Completion(entry) if entry.status().is_success()),
                    "{reply:?}"
                );
            }
            if trailing {
                let rest = behind(&there, connection);
                there.receive(connection, &rest[30..]);
                assert!(matches!(there.reply(connection), Reply::Completion(_)));
            }
            there.enable(connection);
        }
    }
}

#[test]
fn a_connect_whose_data_was_asked_for_goes_too() {
    let mut front = front();
    let connection = front.initialize(DIGESTS[1]);
    let capsule = connect_capsule(&mut front, connection, SUBNQN, false);
    front.receive(connection, &capsule);
    let Reply::R2t { cid, tag, .. } = front.reply(connection) else {
        panic!("no R2T")
    };
    let parameters = connect_capsule(&mut front, connection, SUBNQN, true);
    let data = &parameters[parameters.len() - 1028..parameters.len() - 4];
    let pdu = front.data_pdu(connection, [cid.into(), tag.into(), 0, 1024], true, data);
    front.receive(connection, &pdu);
    let received = taken_along(&mut front, connection);
    let mut there = World::new();
    let connection = there.take_over(DIGESTS[1], &received);
    assert!(matches!(there.reply(connection), Reply::Completion(entry) if entry.status().is_success()));
}

#[test]
fn only_the_connect_that_leaves_goes_along() {
    let mut front = front();
    let connection = front.initialize(DIGESTS[0]);
    for _ in 0..20 {
        let unknown = connect_capsule(&mut front, connection, "nqn.2025-01.test:nobody", true);
        front.receive(connection, &unknown);
        let Reply::Completion(entry) = front.reply(connection) else {
            panic!("no answer")
        };
        assert!(entry.status().is(Status::CONNECT_INVALID_PARAMETERS));
    }
    let known = connect_capsule(&mut front, connection, SUBNQN, true);
    front.receive(connection, &known);
    let received = taken_along(&mut front, connection);
    assert_eq!(received, [initialization(DIGESTS[0]), known].concat());
}

#[test]
fn what_is_broken_does_not_leave() {
    let mut front = front();
    let connection = front.initialize(DIGESTS[1]);
    let mut capsule = connect_capsule(&mut front, connection, SUBNQN, true);
    let at = capsule.len() - 500;
    capsule[at] ^= 1;
    front.receive(connection, &capsule);
    let Reply::Completion(entry) = front.reply(connection) else {
        panic!("no answer")
    };
    assert_eq!(entry.status(), Status::TRANSIENT_TRANSPORT_ERROR, "damaged data");
    let mut capsule = connect_capsule(&mut front, connection, SUBNQN, true);
    capsule[50] ^= 1;
    front.receive(connection, &capsule);
    assert!(matches!(
        front.reply(connection),
        Reply::Terminated { status: 3, .. }
    ));
    assert!(front.handed_over.is_empty());
}

#[test]
fn what_is_kept_is_bounded() {
    let mut front = front();
    let connection = front.initialize(DIGESTS[0]);
    let capsule = connect_capsule(&mut front, connection, SUBNQN, false);
    front.receive(connection, &capsule);
    assert!(matches!(front.reply(connection), Reply::R2t { .. }));
    // The same again and again, while the first one's data does not come: refused, until it is too much.
    let refused = (0..1000).take_while(|_| {
        front.receive(connection, &capsule);
        matches!(front.reply(connection), Reply::Completion(_))
    });
    assert!(refused.count() < 200);
    assert!(front.handed_over.is_empty());
}

#[test]
fn nobody_is_sent_to_and_fro() {
    let mut front = front();
    let connection = front.initialize(DIGESTS[0]);
    let capsule = connect_capsule(&mut front, connection, SUBNQN, true);
    front.receive(connection, &capsule);
    let received = taken_along(&mut front, connection);
    // The subsystem moves: who has it according to the first machine thinks that it is somebody else's.
    let mut there = self::front();
    let connection = there.take_over(DIGESTS[0], &received);
    let Reply::Completion(entry) = there.reply(connection) else {
        panic!("no answer")
    };
    assert_eq!(
        entry.status(),
        Status::CONNECT_CONTROLLER_BUSY,
        "the host tries again"
    );
    assert!(there.handed_over.is_empty() && there.closed.is_empty());
}

#[test]
fn a_target_s_own_subsystem_is_its_own() {
    let mut world = World::new();
    point(&mut world);
    let host = world.host(HOST_A, ID_A);
    assert!(
        world
            .io(host, 1, read(0, 1), &[], BLOCK as u32)
            .status
            .is_success()
    );
    assert!(world.handed_over.is_empty());
}

#[test]
fn a_directory_says_who_may_come_where() {
    let mut there = World::new();
    there.target.set_portals(
        there.now,
        SUBSYSTEM,
        BTreeSet::from([portal()]),
        &mut there.memory,
    );
    let directory = there.target.directory(THERE);
    let told = &directory[SUBNQN];
    assert_eq!((told.reactor, directory.len()), (THERE, 1));
    assert_eq!(told.hosts, hosts(&[HOST_A, HOST_B, HOST_C]));
    assert_eq!(told.portals, BTreeSet::from([portal()]));
}
