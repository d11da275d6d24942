//! Data received where it belongs: every byte at its place, whatever part of it landed and whatever part was brought.

use super::harness::*;
use super::read_write::{pattern, read, write};
use crate::driver::ConnectionId;
use crate::tcp::framing::Digests;
use nvme::Status;

const ALL_DIGESTS: [Digests; 4] = [
    Digests {
        header: false,
        data: false,
    },
    Digests {
        header: true,
        data: false,
    },
    Digests {
        header: false,
        data: true,
    },
    Digests {
        header: true,
        data: true,
    },
];

/// A write by R2T of four blocks, asked for; the PDU that answers.
fn solicited(world: &mut World, host: Host, data: &[u8]) -> Vec<u8> {
    let entry = world.io_entry(host, 1, write(4, 4), &[], data.len() as u32);
    world.submit(host.io, entry, &[]);
    let Reply::R2t { cid, tag, .. } = world.reply(host.io) else {
        panic!("no R2T")
    };
    let fields = [cid.into(), tag.into(), 0, data.len() as u32];
    world.data_pdu(host.io, fields, true, data)
}

/// What is brought of `pdu` until a landing is offered; what is left.
fn until_landing<'a>(world: &mut World, connection: ConnectionId, pdu: &'a [u8]) -> &'a [u8] {
    let mut rest = pdu;
    while world.target.landing(connection).is_none() {
        let (first, behind) = rest.split_at(1);
        world.receive(connection, first);
        rest = behind;
    }
    rest
}

#[test]
fn bytes_are_where_they_belong_however_they_came() {
    for digests in ALL_DIGESTS {
        // Pieces of the payload, and whether they land.
        let rows: [&[(usize, bool)]; 6] = [
            &[(usize::MAX, true)],
            &[(1, true), (usize::MAX, true)],
            &[(4095, false), (2, true), (1000, false), (usize::MAX, true)],
            &[(8192, true), (usize::MAX, false)],
            &[(8193, true), (usize::MAX, false)],
            &[(5000, true), (3000, true), (usize::MAX, false)],
        ];
        for row in rows {
            let mut world = World::new();
            let host = world.host_with(HOST_A, ID_A, digests, true);
            let data = pattern(4, 7);
            let pdu = solicited(&mut world, host, &data);
            let mut rest = until_landing(&mut world, host.io, &pdu);
            for (length, land) in row {
                let digest = if digests.data { 4 } else { 0 };
                let (piece, behind) = rest.split_at((*length).min(rest.len() - digest));
                match land {
                    true => world.arrive(host.io, piece, true),
                    false => world.receive(host.io, piece),
                }
                rest = behind;
            }
            assert_eq!(
                world.handed.is_empty(),
                digests.data,
                "its digest is still to come"
            );
            world.receive(host.io, rest);
            world.run_backend();
            assert_eq!(world.ended(host.io).status, Status::SUCCESS, "{row:?}");
            assert_eq!(&world.disks[&1][4 * BLOCK..8 * BLOCK], &data[..], "{row:?}");
            assert!(world.landed_bytes > 0);
            let ended = world.io(host, 1, read(4, 4), &[], 4 * BLOCK as u32);
            assert_eq!(ended.data, data);
            assert_eq!(world.memory.in_use(), 0);
        }
    }
}

#[test]
fn data_in_the_capsule_lands_too() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let data = pattern(2, 3);
    let entry = world.io_entry(host, 1, write(0, 2), &data, 0);
    let capsule = world.capsule(host.io, &entry, &data);
    assert!(world.target.landing(host.io).is_none());
    world.receive(host.io, &capsule[..72]);
    assert_eq!(
        world.target.landing(host.io).expect("8 KiB come").length as usize,
        data.len()
    );
    world.arrive(host.io, &capsule[72..], true);
    assert_eq!(world.landed_bytes, data.len() as u64);
    world.run_backend();
    assert!(world.ended(host.io).status.is_success());
    assert_eq!(&world.disks[&1][..2 * BLOCK], &data[..]);
}

#[test]
fn what_has_no_place_is_brought() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    // Small, refused, without a buffer: nothing of it lands.
    let small = pattern(1, 3);
    let entry = world.io_entry(host, 1, write(0, 1), &small, 0);
    world.arrive(host.io, &world.capsule(host.io, &entry, &small), true);
    let data = pattern(2, 3);
    let entry = world.io_entry(host, 1, write(SIZE - 1, 1), &data, 0);
    world.arrive(host.io, &world.capsule(host.io, &entry, &data), true);
    world.memory.limit = Some(0);
    let entry = world.io_entry(host, 1, write(0, 2), &data, 0);
    world.arrive(host.io, &world.capsule(host.io, &entry, &data), true);
    assert_eq!(world.landed_bytes, 0);
    world.memory.limit = None;
    world.advance(1);
    world.run_backend();
    assert_eq!(&world.disks[&1][..2 * BLOCK], &data[..]);
    assert_eq!(world.replies(host.io).len(), 3);
}

#[test]
fn a_digest_covers_what_landed() {
    let mut world = World::new();
    let host = world.host_with(HOST_A, ID_A, ALL_DIGESTS[3], true);
    let pdu = solicited(&mut world, host, &pattern(4, 7));
    let mut damaged = pdu.clone();
    let at = damaged.len() - 5000;
    damaged[at] ^= 4;
    world.arrive(host.io, &damaged, true);
    assert!(world.landed_bytes > 8000);
    assert_eq!(world.ended(host.io).status, Status::TRANSIENT_TRANSPORT_ERROR);
    assert!(world.handed.is_empty());
    assert_eq!(world.memory.in_use(), 0);
}

#[test]
fn what_lands_on_a_connection_that_ended_is_nobodys() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let pdu = solicited(&mut world, host, &pattern(4, 7));
    until_landing(&mut world, host.io, &pdu);
    world.reset(host.admin);
    world.target.landed(world.now, host.io, 100, &mut world.memory);
    world.drain();
    assert_eq!(world.memory.in_use(), 0);
}
