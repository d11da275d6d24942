//! An association against a controller by hand.
//!
//! Deliberate bugs that these tests catch: requests not failed when the association is lost, or failed twice; `Lost` told
//! before its requests have ended; a buffer kept or given back twice; a keep-alive every KATO instead of every half; no
//! command timeout; a back-off that does not grow; the event request not renewed; the ANA log not read after an event;
//! MQES read as a count of commands plus one; a request cut past MDTS; cutting going on after a failure; CC.EN without
//! waiting for CSTS.RDY; CNTLID of Connect not carried to the I/O queues; a namespace that went away kept in the table.

use super::scripted::{Received, Script, World, config};
use crate::driver::{CloseReason, ConnectionId};
use crate::host::*;
use block::{BlockRange, BufferSlice, Duration, Memory, Operation, Request};
use nvme::async_event::AsyncEvent;
use nvme::command::{AdminCommand, FabricsCommand, IoCommand, Sgl};
use nvme::log::{AnaState, DiscoveryEntry, DiscoveryLog, LogPageIdentifier, SubsystemType};
use nvme::property::Capabilities;
use nvme::reservation::{AcquireAction, PersistThroughPowerLoss, RegisterAction, ReservationType};
use nvme::{Nqn, Nsid, Status, U16, U32};

const CONNECT: u16 = 0x101;
const PROPERTY_GET: u16 = 0x104;
const IDENTIFY: u16 = 0x06;
const KEEP_ALIVE: u16 = 0x18;
const READ: u16 = 0x02;

fn read(start: u64, buffer: BufferSlice) -> Command {
    let length = u64::from(buffer.length / 4096);
    Command::Block(Request {
        operation: Operation::Read { buffer },
        range: BlockRange::new(start, length),
    })
}

fn write(start: u64, buffer: BufferSlice, durable: bool) -> Command {
    let length = u64::from(buffer.length / 4096);
    Command::Block(Request {
        operation: Operation::Write { buffer, durable },
        range: BlockRange::new(start, length),
    })
}

impl World {
    fn submit(&mut self, tag: u64, command: Command) {
        let World {
            association,
            memory,
            now,
            ..
        } = self;
        association.submit(*now, 1, Tag(tag), command, memory).unwrap();
        self.settle();
    }

    fn end(&mut self, command: &Received, status: Status) {
        self.complete(command, status, 0);
        self.settle();
    }

    /// What has happened since the last call: completions as (tag, whether well), and losses.
    fn told(&mut self) -> Vec<String> {
        let events = self.events.drain(..);
        events
            .map(|event| match event {
                AssociationEvent::Completed { tag, result: Ok(_) } => format!("{} done", tag.0),
                AssociationEvent::Completed {
                    tag,
                    result: Err(status),
                } => format!("{}: {status}", tag.0),
                AssociationEvent::Lost { reason } => format!("lost: {reason}"),
                AssociationEvent::Ready { cntlid } => format!("ready {cntlid}"),
                AssociationEvent::NamespacesRead => "read".to_owned(),
                other => format!("{other:?}"),
            })
            .collect()
    }
}

const ABORTED: &str = "command aborted by host (3h/71h)";

#[test]
fn setting_up_says_what_the_specification_wants_in_its_order() {
    let script = Script {
        queues_dword: 0x0001_0001,
        ..Script::default()
    };
    let mut two = config();
    two.io_queues = 2;
    two.sq_flow_control = false;
    let world = World::ready_with(two, script);
    let transcript: Vec<String> = world.log.iter().map(words).collect();
    let expected = [
        "connect qid 0 size 32 kato 1000 cntlid ffff",
        "get 0",
        "set 14 = 460001",
        "get 1c",
        "get 1c",
        "get 1c",
        "identify 1 of 0",
        "set feature 7 = 10001",
        "set feature b = 900",
        // Two I/O queues beside the reading of the namespaces.
        "connect qid 1 size 9 kato 0 cntlid 7, no flow control",
        "connect qid 2 size 9 kato 0 cntlid 7, no flow control",
        "identify 2 of 0",
        "identify 0 of 1",
        "identify 3 of 1",
        "identify 0 of 3",
        "identify 3 of 3",
        "log c",
        "event request",
    ];
    let mut sorted = transcript.clone();
    let mut expected_sorted: Vec<String> = expected.map(str::to_owned).to_vec();
    assert_eq!(transcript[..9], expected_sorted[..9]);
    assert_eq!(transcript.last().map(String::as_str), Some("event request"));
    sorted.sort();
    expected_sorted.sort();
    assert_eq!(sorted, expected_sorted);
}

fn words(command: &Received) -> String {
    if let Ok(fabrics) = FabricsCommand::parse(&command.entry) {
        return match fabrics {
            FabricsCommand::Connect(connect) => {
                let data = nvme::connect::ConnectData::parse(&command.data).unwrap();
                assert_eq!(data.hostid, [0xA5; 16]);
                assert!(data.subnqn.starts_with(b"nqn.2024-01.example:subsystem\0"));
                assert!(data.hostnqn.starts_with(b"nqn.2024-01.example:host\0"));
                let (qid, size) = (connect.qid, connect.sqsize.count());
                let (kato, cntlid) = (connect.kato_ms, data.cntlid.get());
                let without = match connect.attributes.disable_sq_flow_control {
                    true => ", no flow control",
                    false => "",
                };
                format!("connect qid {qid} size {size} kato {kato} cntlid {cntlid:x}{without}")
            }
            FabricsCommand::PropertyGet(get) => format!("get {:x}", get.offset),
            FabricsCommand::PropertySet(set) => format!("set {:x} = {:x}", set.offset, set.value),
            other => format!("{other:?}"),
        };
    }
    match AdminCommand::parse(&command.entry).unwrap() {
        AdminCommand::Identify(identify) => {
            format!("identify {:x} of {}", identify.cns.code(), identify.nsid)
        }
        AdminCommand::SetFeatures(set) => format!("set feature {:x} = {:x}", set.fid.code(), set.cdw11),
        AdminCommand::GetLogPage(page) => format!("log {:x}", page.lid.code()),
        AdminCommand::AsynchronousEventRequest => "event request".to_owned(),
        AdminCommand::KeepAlive => "keep alive".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn namespaces_are_known_when_the_association_is_ready() {
    let world = World::ready();
    let table = world.association.namespaces();
    let rows: Vec<_> = table
        .iter()
        .map(|ns| (ns.nsid, ns.identity()[0], ns.size.0, ns.ana))
        .collect();
    let expected = [
        (1, 0x11, 1000, AnaState::Optimized),
        (3, 0x33, 3000, AnaState::Inaccessible),
    ];
    assert_eq!(rows, expected);
    assert_eq!(table.by_identity([0x33; 16]).map(|ns| ns.nsid), Some(3));
    assert_eq!(world.association.controller().cntlid, 7);
    assert_eq!(world.association.max_transfer_blocks().0, 4);
}

#[test]
fn requests_become_commands_and_end_once() {
    let mut world = World::ready();
    let data: Vec<u8> = (0..8192).map(|at| (at % 251) as u8).collect();
    let (small, large) = (world.memory.filled(&data[..4096]), world.memory.filled(&data));
    let target = world.memory.allocate(4096).unwrap();
    world.submit(1, write(5, small, true));
    world.submit(2, write(6, large, false));
    world.submit(3, read(7, target));
    let [first, second, third] = [0; 3].map(|_| world.take_held().unwrap());

    assert_eq!(first.data, data[..4096]);
    assert_eq!(
        Sgl::parse(&first.entry.sgl),
        Ok(Sgl::InCapsule {
            offset: 0,
            length: 4096
        })
    );
    let Ok(IoCommand::Write(parsed)) = IoCommand::parse(&first.entry) else {
        panic!("{first:?}");
    };
    assert_eq!((parsed.blocks.slba, parsed.blocks.count()), (5, 1));
    assert!(parsed.blocks.force_unit_access);
    assert_eq!(Sgl::parse(&second.entry.sgl), Ok(Sgl::Transport { length: 8192 }));
    assert_eq!(world.send_r2t(&second, 8192), data);
    world.send_data(&third, &data[..4096]);
    for command in [&third, &first, &second] {
        world.end(command, Status::SUCCESS);
    }
    assert_eq!(world.told(), ["3 done", "1 done", "2 done"]);
    assert_eq!(world.memory.bytes(target), &data[..4096]);
    for slice in [small, large, target] {
        assert_eq!(world.memory.holders(slice.buffer), 1);
    }
    assert_eq!(world.association.in_flight(), 0);
}

#[test]
fn other_requests_say_what_they_mean() {
    let mut world = World::ready();
    let range = BlockRange::new(9, 3);
    let rows = [
        (Operation::Flush, BlockRange::default(), "Flush"),
        (
            Operation::WriteZeroes {
                deallocate: true,
                durable: true,
            },
            range,
            "WriteZeroes 9+3 deallocate durable",
        ),
        (Operation::Deallocate, range, "Deallocate 9+3"),
    ];
    for (operation, range, expected) in rows {
        world.submit(1, Command::Block(Request { operation, range }));
        let command = world.take_held().unwrap();
        assert_eq!(command.entry.nsid.get(), 1);
        let shown = match IoCommand::parse(&command.entry).unwrap() {
            IoCommand::Flush => "Flush".to_owned(),
            IoCommand::WriteZeroes(zeroes) => format!(
                "WriteZeroes {}+{}{}{}",
                zeroes.blocks.slba,
                zeroes.blocks.count(),
                if zeroes.deallocate { " deallocate" } else { "" },
                if zeroes.blocks.force_unit_access {
                    " durable"
                } else {
                    ""
                },
            ),
            IoCommand::DatasetManagement(dsm) => {
                assert!(dsm.deallocate && dsm.ranges.count() == 1);
                let range = nvme::command::DatasetManagementRange::parse(&command.data).unwrap();
                format!("Deallocate {}+{}", range.slba.get(), range.length.get())
            }
            other => format!("{other:?}"),
        };
        assert_eq!(shown, expected);
        world.end(&command, Status::SUCCESS);
        assert_eq!(world.told(), ["1 done"]);
    }
}

#[test]
fn reservations_are_as_the_specification_draws_them() {
    let mut world = World::ready();
    let register = Reservation::Register {
        action: RegisterAction::Replace,
        current_key: 4,
        new_key: 5,
        ignore_existing: true,
        persist: PersistThroughPowerLoss::Persist,
    };
    let acquire = Reservation::Acquire {
        action: AcquireAction::PreemptAndAbort,
        kind: ReservationType::ExclusiveAccessRegistrantsOnly,
        current_key: 5,
        preempt_key: 4,
    };
    let release = Reservation::Release {
        release: Some(ReservationType::ExclusiveAccessRegistrantsOnly),
        current_key: 5,
    };
    let keys = |keys: &[u64]| keys.iter().flat_map(|key| key.to_le_bytes()).collect::<Vec<u8>>();
    let rows = [
        (register, 0x0D, 0xC000_000A, keys(&[4, 5])),
        (acquire, 0x11, 0x0402, keys(&[5, 4])),
        (release, 0x15, 0x0400, keys(&[5])),
    ];
    for (reservation, opcode, dword10, data) in rows {
        world.submit(1, Command::Reservation(reservation));
        let command = world.take_held().unwrap();
        assert_eq!((command.kind(), command.entry.cdw10.get()), (opcode, dword10));
        assert_eq!(command.data, data);
        world.end(&command, Status::RESERVATION_CONFLICT);
        assert_eq!(world.told(), ["1: reservation conflict (0h/83h)"]);
    }
    world.submit(2, Command::Reservation(Reservation::Report));
    let command = world.take_held().unwrap();
    let report = nvme::reservation::Report {
        generation: 9,
        reservation_type: Some(ReservationType::ExclusiveAccessRegistrantsOnly),
        persist_through_power_loss: true,
        registrants: Vec::new(),
    };
    world.send_data(&command, &report.encode(true));
    world.end(&command, Status::SUCCESS);
    let [AssociationEvent::ReservationStatus { tag: Tag(2), result }] = &world.events[..] else {
        panic!("{:?}", world.events);
    };
    assert_eq!(result.as_ref(), Ok(&report));
}

#[test]
fn long_requests_are_cut_and_end_as_one() {
    let mut world = World::ready();
    let buffer = world.memory.allocate(10 * 4096).unwrap();
    world.submit(1, read(100, buffer));
    let parts: Vec<Received> = std::iter::from_fn(|| world.take_held()).collect();
    let shapes: Vec<_> = parts
        .iter()
        .map(|part| match IoCommand::parse(&part.entry) {
            Ok(IoCommand::Read(read)) => (read.blocks.slba, read.blocks.count()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shapes, [(100, 4), (104, 4), (108, 2)]);
    for (index, part) in parts.iter().enumerate() {
        let length = part.entry.sgl.length.get() as usize;
        world.send_data(part, &vec![index as u8; length]);
        assert_eq!(world.told(), [""; 0]);
        world.end(part, Status::SUCCESS);
    }
    assert_eq!(world.told(), ["1 done"]);
    let bytes = world.memory.bytes(buffer);
    assert_eq!([bytes[0], bytes[4 * 4096], bytes[8 * 4096]], [0, 1, 2]);

    let zeroes = Operation::WriteZeroes {
        deallocate: false,
        durable: false,
    };
    let range = BlockRange::new(0, 70_000);
    world.submit(
        2,
        Command::Block(Request {
            operation: zeroes,
            range,
        }),
    );
    let parts: Vec<Received> = std::iter::from_fn(|| world.take_held()).collect();
    assert_eq!(
        parts
            .iter()
            .map(|part| part.entry.cdw12.get())
            .collect::<Vec<_>>(),
        [65_535, 4_463]
    );
    world.end(&parts[1], Status::WRITE_FAULT);
    assert_eq!(world.told(), [""; 0]);
    world.end(&parts[0], Status::SUCCESS);
    assert_eq!(world.told(), ["2: write fault (2h/80h)"]);
}

#[test]
fn queues_are_never_overfilled_and_a_failure_stops_the_cutting() {
    let mut world = World::ready();
    // MQES 8: eight commands. Twelve parts are wanted.
    let buffer = world.memory.allocate(48 * 4096).unwrap();
    world.submit(1, read(0, buffer));
    assert_eq!(
        world.held.iter().filter(|command| command.kind() == READ).count(),
        8
    );
    world.submit(
        2,
        Command::Block(Request {
            operation: Operation::Flush,
            range: BlockRange::default(),
        }),
    );
    let first = world.take_held().unwrap();
    world.end(&first, Status::UNRECOVERED_READ_ERROR);
    let rest: Vec<Received> = std::iter::from_fn(|| world.take_held()).collect();
    assert_eq!(rest.len(), 8, "seven parts and the flush, no further part");
    for command in &rest {
        if command.kind() == READ {
            world.send_data(command, &[0; 16384]);
        }
        world.end(command, Status::SUCCESS);
    }
    assert_eq!(world.told(), ["1: unrecovered read error (2h/81h)", "2 done"]);
    assert_eq!(world.memory.holders(buffer.buffer), 1);
}

#[test]
fn several_queues_take_turns() {
    let script = Script {
        queues_dword: 0x0002_0002,
        ..Script::default()
    };
    let mut wanted = config();
    wanted.io_queues = 3;
    let mut world = World::ready_with(wanted, script);
    let io = world.io();
    assert_eq!(io.len(), 3);
    for tag in 0..6 {
        let buffer = world.memory.allocate(4096).unwrap();
        world.submit(tag, write(tag, buffer, false));
    }
    let used: Vec<ConnectionId> = std::iter::from_fn(|| world.take_held())
        .map(|command| command.connection)
        .collect();
    assert_eq!(used, [io[0], io[1], io[2], io[0], io[1], io[2]]);
}

#[test]
fn a_lost_connection_fails_everything_once_and_comes_back() {
    for which in [0, 1] {
        let mut world = World::ready();
        let buffer = world.memory.allocate(48 * 4096).unwrap();
        world.submit(1, read(0, buffer));
        world.submit(2, write(0, buffer, false));
        let connections = [world.admin().unwrap(), world.io()[0]];
        let gone = connections[which];
        world.cut(gone, CloseReason::Broken);
        assert!(!world.association.is_ready());
        let refused = world
            .association
            .submit(world.now, 1, Tag(3), read(0, buffer), &mut world.memory);
        assert_eq!(refused, Err(Refused::Unavailable));
        world.settle();
        let lost = "lost: the connection broke or could not be opened";
        assert_eq!(
            world.told(),
            [format!("1: {ABORTED}"), format!("2: {ABORTED}"), lost.to_owned()]
        );
        assert_eq!(
            world.closes,
            [(connections[1 - which], true)],
            "the other connection, not the closed one"
        );
        assert_eq!(world.memory.holders(buffer.buffer), 1);
        // The closed connection's late bytes are nobody's.
        world.give(gone, &[0xFF; 64]);
        assert_eq!(world.told(), [""; 0]);
        assert!(world.association.namespaces().is_read());
        world.run_for(500);
        assert_eq!(world.told(), ["ready 7"]);
    }
}

#[test]
fn attempts_back_off_until_one_succeeds() {
    let mut world = World::new(config(), Script::default());
    world.reachable = false;
    world.association.connect(world.now);
    world.settle();
    world.run_for(12_000);
    let ms: Vec<u64> = world
        .connects
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0) / 1_000_000)
        .collect();
    // 900 ms until the attempt fails, then 100, 200, 400, 800, 1600, 2000.
    assert_eq!(ms[..6], [1000, 1100, 1300, 1700, 2500, 2900]);
    assert!(
        world
            .told()
            .iter()
            .all(|told| told == "lost: connecting took too long")
    );
    world.reachable = true;
    world.run_for(4_000);
    assert_eq!(world.told().last().map(String::as_str), Some("ready 7"));
    let admin = world.admin().unwrap();
    let before = world.connects.len();
    world.cut(admin, CloseReason::Peer);
    world.settle();
    world.run_for(100);
    assert_eq!(world.connects.len(), before + 2, "100 ms again after a success");
}

#[test]
fn a_command_without_an_answer_ends_the_association() {
    for silent in [READ, KEEP_ALIVE] {
        let mut world = World::ready();
        world.script.silent = vec![silent];
        let buffer = world.memory.allocate(4096).unwrap();
        let start = world.now;
        if silent == READ {
            world.submit(1, read(0, buffer));
            world.run_for(699);
            assert!(world.association.is_ready());
        }
        world.run_for(if silent == READ { 1 } else { 1200 });
        let told = world.told();
        let lost = "lost: a command was not answered in time";
        assert!(told.iter().any(|told| told == lost), "{told:?}");
        assert!(world.now.since(start) < Duration::from_millis(1400));
        assert_eq!(world.memory.holders(buffer.buffer), 1);
    }
}

#[test]
fn it_is_not_ready_before_its_io_queues_are() {
    let script = Script {
        silent_io: true,
        ..Script::default()
    };
    let mut world = World::new(config(), script);
    world.association.connect(world.now);
    world.settle();
    world.run_for(500);
    assert!(world.association.namespaces().is_read() && !world.association.is_ready());
    let connect = world.held.pop_front().unwrap();
    assert_eq!(connect.kind(), CONNECT);
    world.end(&connect, Status::SUCCESS);
    assert_eq!(world.told(), ["ready 7"]);
}

#[test]
fn keep_alives_go_out_twice_in_a_timeout() {
    let mut world = World::ready();
    let before = world.log.len();
    let start = world.now;
    world.run_for(2_600);
    let sent: Vec<&Received> = world.log[before..]
        .iter()
        .filter(|command| command.kind() == KEEP_ALIVE)
        .collect();
    assert_eq!(sent.len(), 5);
    assert!(sent[0].at.since(start) <= Duration::from_millis(500));
    assert!(
        sent.windows(2)
            .all(|pair| pair[1].at.since(pair[0].at) == Duration::from_millis(500))
    );
    assert_eq!(world.association.alive_at(), Some(sent[4].at));
}

#[test]
fn being_alive_counts_from_when_the_question_was_sent() {
    let mut world = World::ready();
    let before = world.association.alive_at();
    let buffer = world.memory.allocate(4096).unwrap();
    let asked = world.now;
    world.submit(1, write(0, buffer, false));
    world.run_for(100);
    assert_eq!(world.association.alive_at(), before);
    let command = world.take_held().unwrap();
    world.end(&command, Status::SUCCESS);
    assert_eq!(world.association.alive_at(), Some(asked));
}

#[test]
fn events_make_the_table_true_again() {
    let mut world = World::ready();
    world.held.clear();
    // The standing event request is the last command of setting up.
    let request = world.log.last().unwrap().clone();
    world.held.push_back(request);
    world.script.ana.insert(1, AnaState::NonOptimized);
    world.raise(AsyncEvent::ANA_CHANGE);
    assert_eq!(world.told(), ["read"]);
    assert_eq!(
        world.association.namespaces().by_nsid(1).unwrap().ana,
        AnaState::NonOptimized
    );

    let before = world.log.len();
    world.script.namespaces.remove(&3);
    world.script.namespaces.insert(9, (0x99, 9000, 1));
    world.script.changed = nvme::log::ChangedNamespaceList::new([Nsid(3), Nsid(9)]);
    world.raise(AsyncEvent::NAMESPACE_CHANGED);
    assert_eq!(world.told(), ["read"]);
    let table = world.association.namespaces();
    assert_eq!(table.iter().map(|ns| ns.nsid).collect::<Vec<_>>(), [1, 9]);
    let transcript: Vec<String> = world.log[before..].iter().map(words).collect();
    let expected = [
        "event request",
        "log 4",
        "identify 2 of 0",
        "identify 0 of 9",
        "identify 3 of 9",
        "log c",
    ];
    assert_eq!(transcript, expected, "what did not change is not read again");

    world.script.namespaces.insert(1, (0x11, 5000, 1));
    world.script.changed = nvme::log::ChangedNamespaceList::too_many();
    world.raise(AsyncEvent::NAMESPACE_CHANGED);
    assert_eq!(world.association.namespaces().by_nsid(1).unwrap().size.0, 5000);
    assert_eq!(world.told(), ["read"]);
}

#[test]
fn a_namespace_without_a_state_is_inaccessible() {
    let mut script = Script::default();
    script.ana.remove(&2);
    let world = World::ready_with(config(), script);
    assert_eq!(
        world.association.namespaces().by_nsid(3).unwrap().ana,
        AnaState::Inaccessible
    );
    let mut script = Script::default();
    script.identify.cmic = 0;
    let world = World::ready_with(config(), script);
    assert_eq!(
        world.association.namespaces().by_nsid(3).unwrap().ana,
        AnaState::Optimized
    );
}

#[test]
fn what_was_abandoned_is_never_told() {
    let mut world = World::ready();
    let data = [7; 4096];
    let (kept, given_up) = (world.memory.filled(&data), world.memory.allocate(4096).unwrap());
    world.submit(1, read(0, given_up));
    world.submit(2, write(0, kept, false));
    world.association.abandon(Tag(1), &mut world.memory);
    world.association.abandon(Tag(2), &mut world.memory);
    world.association.abandon(Tag(77), &mut world.memory);
    assert_eq!(world.memory.holders(kept.buffer), 2, "a write may still be sent");
    let (read, write) = (world.take_held().unwrap(), world.take_held().unwrap());
    world.send_data(&read, &data);
    world.end(&read, Status::SUCCESS);
    world.end(&write, Status::SUCCESS);
    assert_eq!(world.told(), [""; 0]);
    assert_eq!(world.memory.bytes(given_up), [0xEE; 4096]);
    assert_eq!(world.memory.holders(kept.buffer), 1);
    assert_eq!(world.memory.holders(given_up.buffer), 1);

    // One that still waits for room is gone at once.
    let buffer = world.memory.allocate(36 * 4096).unwrap();
    world.submit(3, super::association::read(0, buffer));
    world.submit(4, super::association::read(0, given_up));
    world.association.abandon(Tag(4), &mut world.memory);
    assert_eq!(world.memory.holders(given_up.buffer), 1);
}

#[test]
fn disconnecting_shuts_the_controller_down_first() {
    let mut world = World::ready();
    let buffer = world.memory.allocate(4096).unwrap();
    let (admin, io) = (world.admin().unwrap(), world.io()[0]);
    world.submit(1, read(0, buffer));
    world.association.disconnect(world.now, &mut world.memory);
    world.settle();
    assert_eq!(words(world.log.last().unwrap()), "set 14 = 464001");
    assert_eq!(
        world.told(),
        [format!("1: {ABORTED}"), "lost: disconnected".to_owned()]
    );
    assert_eq!(world.closes, [(io, true), (admin, false)]);
    world.run_for(20_000);
    assert_eq!(world.told(), [""; 0]);
    assert_eq!(world.association.next_timeout(), None);
    assert_eq!(world.memory.held(), 1);
    world.association.connect(world.now);
    world.settle();
    world.run_for(200);
    assert_eq!(world.told(), ["ready 7"]);
}

#[test]
fn a_controller_that_does_not_shut_down_is_left() {
    let mut world = World::ready();
    world.script.silent = vec![0x100];
    world.association.disconnect(world.now, &mut world.memory);
    world.settle();
    world.run_for(1_000);
    assert_eq!(world.told(), ["lost: disconnected"]);
    assert_eq!(world.association.next_timeout(), None);
}

/// Every refusal and every nonsense of a controller while setting up, and what people are told.
#[test]
fn controllers_of_no_use_are_named_as_such() {
    type Arrange = fn(&mut Script);
    let rows: [(&str, Arrange); 14] = [
        ("Connect was refused: connect invalid host (1h/84h)", |script| {
            script.refuse.insert(CONNECT, Status::CONNECT_INVALID_HOST);
        }),
        ("reading CAP was refused", |script| {
            script.refuse.insert(PROPERTY_GET, Status::INVALID_FIELD);
        }),
        ("Identify Controller was refused", |script| {
            script.refuse.insert(IDENTIFY, Status::INTERNAL_ERROR);
        }),
        ("setting the number of queues was refused", |script| {
            script.refuse.insert(0x09, Status::INVALID_FIELD);
        }),
        ("reading the ANA log was refused", |script| {
            script.refuse.insert(0x02, Status::INVALID_LOG_PAGE);
        }),
        ("requires authentication", |script| {
            script.connect_dword = 0x0002_0007
        }),
        ("queues have one entry", |script| {
            script.capabilities.max_queue_entries = 0
        }),
        ("no command set of ours", |script| {
            script.capabilities.command_sets = Capabilities::CSS_NONE
        }),
        ("reports a fatal error", |script| script.csts = [2].into()),
        ("connecting took too long", |script| script.csts = [0].into()),
        ("a command was not answered in time", |script| {
            script.silent = vec![IDENTIFY]
        }),
        ("two controller identifiers", |script| {
            script.identify.cntlid = U16::new(8)
        }),
        ("grants 65536 queues", |script| script.queues_dword = 0xFFFF_FFFF),
        ("ANA log makes no sense", |script| {
            script.identify.nanagrpid = U32::new(1);
        }),
    ];
    for (expected, arrange) in rows {
        let mut script = Script::default();
        arrange(&mut script);
        let mut world = World::new(config(), script);
        world.association.connect(world.now);
        world.settle();
        world.run_for(1_000);
        let told = world.told();
        assert!(told[0].contains(expected), "{told:?}: {expected}");
        assert!(!told.iter().any(|told| told.starts_with("ready")));
        assert_eq!(world.memory.held(), 0);
    }
}

#[test]
fn a_controller_that_breaks_the_protocol_is_told_so_and_left() {
    let mut world = World::ready();
    let buffer = world.memory.allocate(4096).unwrap();
    world.submit(1, read(0, buffer));
    let io = world.io()[0];
    world.give(io, &[0x42; 8]);
    let mut sent = Vec::new();
    while let Some(output) = world.association.poll_output() {
        match output {
            AssociationOutput::Send {
                connection,
                segment: crate::driver::Segment::Bytes(bytes),
            } => {
                assert_eq!(connection, io);
                sent.push(bytes[0]);
            }
            AssociationOutput::Close { connection, abort } => assert_eq!(abort, connection != io),
            AssociationOutput::Event(event) => world.events.push(event),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, [2], "H2CTermReq");
    let lost = "lost: the controller broke the protocol: a PDU that does not hold together";
    assert_eq!(world.told(), [format!("1: {ABORTED}"), lost.to_owned()]);
}

#[test]
fn the_discovery_log_is_read_until_it_holds_still() {
    let entry = |port| DiscoveryEntry {
        subsystem_type: SubsystemType::Nvm,
        subsystem: Nqn::parse("nqn.2024-01.example:pool").unwrap(),
        address: "192.0.2.7".parse().unwrap(),
        port,
        port_id: 1,
        flags: 0,
        transport_requirements: 2,
    };
    let entries: Vec<DiscoveryEntry> = (4000..4040).map(entry).collect();
    let log = DiscoveryLog {
        generation: 5,
        entries: entries.iter().map(DiscoveryEntry::encode).collect(),
    };
    let mut script = Script::default();
    script
        .logs
        .insert(LogPageIdentifier::Discovery.code(), log.encode());
    let mut discovery = config();
    discovery.subsystem_nqn = AssociationConfig::DISCOVERY_NQN.to_owned();
    let mut world = World::ready_with(discovery, script);
    assert_eq!(world.io(), []);
    world.association.read_discovery_log(world.now, &mut world.memory);
    world.settle();
    let [AssociationEvent::DiscoveryLog { entries: read }] = &world.events[..] else {
        panic!("{:?}", world.events);
    };
    assert_eq!(*read, entries);
}
