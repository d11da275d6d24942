//! What a host may get wrong: each refusal exactly, and the neighbour's I/O going on.

use super::harness::*;
use super::read_write::{blocks, pattern, read, write};
use crate::driver::ConnectionId;
use crate::tcp::framing::Digests;
use nvme::command::{Compare, Write, WriteZeroes};
use nvme::{AdminCommand, IoCommand, Sgl, Status, SubmissionQueueEntry};

const BOTH: Digests = Digests {
    header: true,
    data: true,
};

/// The neighbour reads and writes as if nothing had happened.
fn assert_unharmed(world: &mut World, neighbour: Host) {
    let data = pattern(1, 9);
    assert!(world.io(neighbour, 1, write(9, 1), &data, 0).status.is_success());
    let ended = world.io(neighbour, 1, read(9, 1), &[], BLOCK as u32);
    assert_eq!(ended.data, data);
    assert!(
        world
            .admin(neighbour, AdminCommand::KeepAlive, 0)
            .status
            .is_success()
    );
}

/// The connection was terminated for that reason, its other half is gone, and it is cut off in the end.
fn assert_terminated(world: &mut World, connection: ConnectionId, status: u16, information: u32) {
    let replies = world.replies(connection);
    assert_eq!(
        replies.last(),
        Some(&Reply::Terminated { status, information }),
        "{replies:?}"
    );
    assert!(!world.closed.contains_key(&connection), "the host may read why");
    world.receive(connection, &[0xff; 64]);
    assert!(world.replies(connection).is_empty(), "nothing more is answered");
    world.advance(2_000);
    assert_eq!(world.closed.get(&connection), Some(&true));
}

#[test]
fn malformed_initialisation_is_terminated() {
    // Byte of the ICReq, value -> FES, FEI
    let rows = [
        (8, 1, 6, 8),
        (10, 32, 1, 10),
        (0, 4, 1, 2),
        (2, 64, 1, 2),
        (4, 129, 1, 4),
    ];
    for (at, value, status, information) in rows {
        let mut world = World::new();
        let neighbour = world.host(HOST_B, ID_B);
        let connection = world.accept();
        let mut request = vec![0, 0, 128, 0, 128, 0, 0, 0];
        request.resize(128, 0);
        request[at] = value;
        world.receive(connection, &request);
        assert_terminated(&mut world, connection, status, information);
        assert_unharmed(&mut world, neighbour);
    }
}

#[test]
fn pdus_out_of_sequence_are_terminated() {
    let mut world = World::new();
    let neighbour = world.host(HOST_B, ID_B);
    let early = world.accept();
    let entry = AdminCommand::KeepAlive.encode(nvme::Cid(1), Sgl::NONE);
    let capsule = world.capsule(early, &entry, &[]);
    world.receive(early, &capsule);
    assert_terminated(&mut world, early, 2, 0);
    let twice = world.initialize(Digests::default());
    let mut request = vec![0, 0, 128, 0, 128, 0, 0, 0];
    request.resize(128, 0);
    world.receive(twice, &request);
    assert_terminated(&mut world, twice, 2, 0);
    assert_unharmed(&mut world, neighbour);
}

#[test]
fn an_oversized_capsule_is_terminated() {
    let mut world = World::new();
    let neighbour = world.host(HOST_B, ID_B);
    let host = world.host(HOST_A, ID_A);
    let data = pattern(3, 0);
    let entry = world.io_entry(host, 1, write(0, 3), &data, 0);
    world.submit(host.io, entry, &data);
    assert_terminated(&mut world, host.io, 5, 4);
    assert!(world.handed.is_empty(), "and not executed");
    assert_unharmed(&mut world, neighbour);
    assert!(
        world.admin(host, AdminCommand::KeepAlive, 0).status.is_success(),
        "the admin queue lives on"
    );
}

#[test]
fn a_header_digest_that_is_wrong_is_terminated() {
    let mut world = World::new();
    let neighbour = world.host(HOST_B, ID_B);
    let host = world.host_with(HOST_A, ID_A, BOTH, true);
    let entry = world.io_entry(host, 1, read(0, 1), &[], BLOCK as u32);
    let mut capsule = world.capsule(host.io, &entry, &[]);
    capsule[40] ^= 1;
    let received = u32::from_le_bytes(capsule[72..76].try_into().expect("four bytes"));
    world.receive(host.io, &capsule);
    assert_terminated(&mut world, host.io, 3, received);
    assert!(world.handed.is_empty());
    assert_unharmed(&mut world, neighbour);
}

#[test]
fn a_data_digest_that_is_wrong_fails_the_command_and_no_more() {
    let mut world = World::new();
    let host = world.host_with(HOST_A, ID_A, BOTH, true);
    let data = pattern(1, 5);
    let entry = world.io_entry(host, 1, write(0, 1), &data, 0);
    let mut capsule = world.capsule(host.io, &entry, &data);
    let at = capsule.len() - 100;
    capsule[at] ^= 1;
    world.receive(host.io, &capsule);
    assert_eq!(world.ended(host.io).status, Status::TRANSIENT_TRANSPORT_ERROR);
    // The same by R2T, the first of two PDUs damaged: told once both have come.
    let data = pattern(4, 6);
    let entry = world.io_entry(host, 1, write(0, 4), &[], data.len() as u32);
    world.submit(host.io, entry, &[]);
    let Reply::R2t { cid, tag, .. } = world.reply(host.io) else {
        panic!("no R2T")
    };
    let (first, second) = data.split_at(2 * BLOCK);
    let fields = [cid.into(), tag.into(), 0, first.len() as u32];
    let mut pdu = world.data_pdu(host.io, fields, false, first);
    let at = pdu.len() - 1;
    pdu[at] ^= 1;
    world.receive(host.io, &pdu);
    assert!(world.replies(host.io).is_empty());
    let fields = [cid.into(), tag.into(), first.len() as u32, second.len() as u32];
    let pdu = world.data_pdu(host.io, fields, true, second);
    world.receive(host.io, &pdu);
    assert_eq!(world.ended(host.io).status, Status::TRANSIENT_TRANSPORT_ERROR);
    assert!(world.handed.is_empty(), "damaged data is not written");
    assert_eq!(world.memory.in_use(), 0);
    assert_unharmed(&mut world, host);
}

#[test]
fn solicited_data_that_was_not_asked_for_is_terminated() {
    let length = 4 * BLOCK as u32;
    let half = length / 2;
    // Changes to (cid, tag, offset, length, last) of the first of two PDUs -> FES, FEI
    let rows = [
        ((1, 0, 0, half, false), 1, 8),
        ((0, 1, 0, half, false), 1, 10),
        ((0, 0, half, half, true), 4, 12),
        ((0, 0, 4, half, false), 4, 12),
        ((0, 0, 0, half, true), 1, 1),
        ((0, 0, 0, length, false), 1, 1),
        ((0, 0, 0, half - 4, false), 1, 16),
        ((0, 0, 0, length + 4096, false), 5, 4),
    ];
    for ((cid_off, tag_off, offset, told, last), status, information) in rows {
        let mut world = World::new();
        let neighbour = world.host(HOST_B, ID_B);
        let host = world.host(HOST_A, ID_A);
        let entry = world.io_entry(host, 1, write(0, 4), &[], length);
        world.submit(host.io, entry, &[]);
        let Reply::R2t { cid, tag, .. } = world.reply(host.io) else {
            panic!("no R2T")
        };
        let sent = if told == half - 4 { half } else { told };
        let fields = [u32::from(cid) + cid_off, u32::from(tag) + tag_off, offset, told];
        let pdu = world.data_pdu(host.io, fields, last, &vec![1; sent as usize]);
        world.receive(host.io, &pdu);
        assert_terminated(&mut world, host.io, status, information);
        assert_eq!(world.memory.in_use(), 0);
        assert_unharmed(&mut world, neighbour);
    }
}

#[test]
fn more_commands_than_the_queue_has_entries_are_terminated() {
    let mut world = World::new();
    let neighbour = world.host(HOST_B, ID_B);
    let host = world.host(HOST_A, ID_A);
    for nth in 0..=32 {
        assert!(world.replies(host.io).is_empty(), "after {nth}");
        let entry = world.io_entry(host, 1, read(0, 1), &[], BLOCK as u32);
        world.submit(host.io, entry, &[]);
    }
    assert_terminated(&mut world, host.io, 2, 0);
    world.run_backend();
    assert_eq!(world.memory.in_use(), 0, "orphans give their buffers back");
    assert_unharmed(&mut world, neighbour);
}

#[test]
fn a_host_that_terminates_is_let_go() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let mut request = vec![2, 0, 24, 0, 24, 0, 0, 0];
    request.resize(24, 0);
    world.receive(host.io, &request);
    assert_eq!(world.closed.get(&host.io), Some(&true));
    assert!(world.replies(host.io).is_empty());
}

#[test]
fn commands_that_make_no_sense_get_their_exact_status() {
    let mut world = World::new();
    let neighbour = world.host(HOST_B, ID_B);
    let host = world.host(HOST_A, ID_A);
    let block = BLOCK as u32;
    let transport = |length| Sgl::Transport { length };
    let flush = IoCommand::Flush;
    let compare = |slba, count| {
        IoCommand::Compare(Compare {
            blocks: blocks(slba, count),
        })
    };
    let zeroes = |slba, count, namespace_zeroes| {
        IoCommand::WriteZeroes(WriteZeroes {
            blocks: blocks(slba, count),
            deallocate: false,
            namespace_zeroes,
        })
    };
    let keyed = Sgl::Keyed {
        address: 0,
        length: block,
        key: 0,
        invalidate: false,
    };
    let in_capsule = Sgl::InCapsule {
        offset: 0,
        length: block,
    };
    // command, namespace, data pointer -> status
    let rows = [
        (read(SIZE, 1), 1, transport(block), Status::LBA_OUT_OF_RANGE),
        (
            read(SIZE - 1, 2),
            1,
            transport(2 * block),
            Status::LBA_OUT_OF_RANGE,
        ),
        (read(u64::MAX, 1), 1, transport(block), Status::LBA_OUT_OF_RANGE),
        (write(SIZE, 4), 1, transport(4 * block), Status::LBA_OUT_OF_RANGE),
        (
            compare(SIZE, 4),
            1,
            transport(4 * block),
            Status::LBA_OUT_OF_RANGE,
        ),
        (
            zeroes(1, SIZE as u32, false),
            1,
            transport(0),
            Status::LBA_OUT_OF_RANGE,
        ),
        (zeroes(0, 1, true), 1, transport(0), Status::INVALID_FIELD),
        (read(0, 257), 1, transport(257 * block), Status::INVALID_FIELD), // MDTS is 1 MiB
        (read(0, 2), 1, transport(block), Status::DATA_SGL_LENGTH_INVALID),
        (
            read(0, 1),
            1,
            transport(2 * block),
            Status::DATA_SGL_LENGTH_INVALID,
        ),
        (read(0, 1), 1, in_capsule, Status::SGL_DESCRIPTOR_TYPE_INVALID),
        (read(0, 1), 1, keyed, Status::SGL_DESCRIPTOR_TYPE_INVALID),
        (write(0, 1), 1, in_capsule, Status::DATA_SGL_LENGTH_INVALID), // the capsule has no data
        (flush, 1, transport(block), Status::DATA_SGL_LENGTH_INVALID),
        (flush, 2, transport(0), Status::INVALID_NAMESPACE_OR_FORMAT),
        (flush, 0, transport(0), Status::INVALID_NAMESPACE_OR_FORMAT),
        (
            flush,
            0xffff_ffff,
            transport(0),
            Status::INVALID_NAMESPACE_OR_FORMAT,
        ),
        (
            read(0, 1),
            9,
            transport(block),
            Status::INVALID_NAMESPACE_OR_FORMAT,
        ),
    ];
    for (command, nsid, sgl, status) in rows {
        let cid = world.cid(host.io);
        let entry = command.encode(cid, nvme::Nsid(nsid), sgl);
        let ended = world.call(host.io, entry, &[]);
        assert_eq!(ended.status, status.do_not_retry(), "{command:?} {sgl:?}");
        assert!(ended.data.is_empty());
    }
    assert_eq!(world.memory.in_use(), 0);
    assert_unharmed(&mut world, host);
    assert_unharmed(&mut world, neighbour);
}

#[test]
fn data_pointers_that_belie_the_capsule_are_refused_and_its_data_passes_by() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let block = BLOCK as u32;
    let rows = [
        (
            Sgl::InCapsule {
                offset: 8,
                length: block,
            },
            Status::SGL_OFFSET_INVALID,
        ),
        (
            Sgl::InCapsule {
                offset: 0,
                length: block + 4,
            },
            Status::DATA_SGL_LENGTH_INVALID,
        ),
        (Sgl::Transport { length: block }, Status::INVALID_FIELD),
    ];
    for (sgl, status) in rows {
        let cid = world.cid(host.io);
        let entry = IoCommand::Write(Write::new(blocks(0, 1))).encode(cid, nvme::Nsid(1), sgl);
        let ended = world.call(host.io, entry, &vec![1; BLOCK]);
        assert_eq!(ended.status, status.do_not_retry(), "{sgl:?}");
    }
    assert_unharmed(&mut world, host);
}

#[test]
fn unknown_opcodes_and_fused_commands_are_refused_on_both_queues() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    for connection in [host.admin, host.io] {
        for opcode in [0x80, 0xc1, 0x7d, 0x19] {
            let cid = world.cid(connection);
            let entry = SubmissionQueueEntry::new(opcode, cid, nvme::Nsid(1), Sgl::NONE.encode());
            let ended = world.call(connection, entry, &[]);
            assert_eq!(ended.status, Status::INVALID_OPCODE.do_not_retry(), "{opcode:x}");
        }
        for flags in [0x41, 0x42, 0x00, 0x80] {
            let cid = world.cid(connection);
            let mut entry = IoCommand::Flush.encode(cid, nvme::Nsid(1), Sgl::NONE);
            entry.opcode = if connection == host.io { 0x00 } else { 0x18 };
            entry.flags = flags;
            let ended = world.call(connection, entry, &[]);
            assert_eq!(
                ended.status,
                Status::INVALID_FIELD.do_not_retry(),
                "flags {flags:x}"
            );
        }
    }
    assert_unharmed(&mut world, host);
}

#[test]
fn a_command_identifier_in_use_is_refused() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let entry = world.io_entry(host, 1, read(0, 1), &[], BLOCK as u32);
    world.submit(host.io, entry, &[]);
    let mut twin = write(5, 1).encode(
        entry.cid(),
        nvme::Nsid(1),
        Sgl::InCapsule {
            offset: 0,
            length: 4096,
        },
    );
    twin.cid = entry.cid;
    world.submit(host.io, twin, &pattern(1, 1));
    assert_eq!(
        world.ended(host.io).status,
        Status::COMMAND_ID_CONFLICT.do_not_retry()
    );
    world.run_backend();
    assert!(
        world.ended(host.io).status.is_success(),
        "the first one is not disturbed"
    );
    assert_unharmed(&mut world, host);
}
