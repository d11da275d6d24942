//! Initialisation, Connect, properties, keep-alive.

use super::harness::*;
use crate::driver::ConnectionId;
use crate::target::{Target, TargetOutput};
use crate::tcp::framing::Digests;
use nvme::command::{Connect, PropertyGet, PropertySize};
use nvme::property::{Capabilities, Configuration, ControllerStatus, ShutdownNotification, ShutdownStatus};
use nvme::{AdminCommand, Cntlid, FabricsCommand, HostId, Sgl, Status, ZeroBased};

fn property(world: &mut World, admin: ConnectionId, offset: u32, size: PropertySize) -> Ended {
    let cid = world.cid(admin);
    let get = FabricsCommand::PropertyGet(PropertyGet { size, offset });
    world.call(admin, get.encode(cid, Sgl::NONE), &[])
}

#[test]
fn initialisation_agrees_on_digests_and_limits() {
    let mut world = World::new();
    for digest in 0..4u8 {
        let connection = world.accept();
        let mut request = vec![0, 0, 128, 0, 128, 0, 0, 0];
        request.resize(128, 0);
        request[11] = digest;
        world.receive(connection, &request);
        let max_data = 16 * 1024;
        assert_eq!(world.reply(connection), Reply::Initialized { digest, max_data });
    }
}

#[test]
fn an_association_is_made_enabled_used_and_shut_down() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    assert_eq!(world.connected, hosts(&[HOST_A]));
    let status = property(&mut world, host.admin, 0x1c, PropertySize::Four).result as u32;
    assert!(ControllerStatus::parse(status).ready);
    let capabilities = property(&mut world, host.admin, 0x00, PropertySize::Eight).result;
    let capabilities = Capabilities::parse(capabilities);
    assert_eq!(capabilities.max_queue_entries, 31);
    assert!(capabilities.command_sets & Capabilities::CSS_NVM != 0);
    assert_eq!(
        property(&mut world, host.admin, 0x08, PropertySize::Four).result,
        0x2_01_00
    );
    let shutdown = Configuration {
        shutdown_notification: ShutdownNotification::Normal,
        ..Configuration::ENABLE
    };
    world.set_configuration(host.admin, shutdown);
    let status = property(&mut world, host.admin, 0x1c, PropertySize::Four).result as u32;
    assert_eq!(
        ControllerStatus::parse(status).shutdown_status,
        ShutdownStatus::Complete
    );
    world.reset(host.admin);
    assert_eq!(
        world.closed.get(&host.io),
        Some(&true),
        "queues go with their controller"
    );
    assert!(world.connected.is_empty());
}

#[test]
fn properties_that_are_not_there_are_invalid_fields() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let rows = [
        (0x00, PropertySize::Four),
        (0x14, PropertySize::Eight),
        (0x20, PropertySize::Four),
        (0x1000, PropertySize::Four),
    ];
    for (offset, size) in rows {
        let ended = property(&mut world, host.admin, offset, size);
        assert_eq!(ended.status, Status::INVALID_FIELD.do_not_retry(), "{offset:x}");
    }
}

#[test]
fn a_configuration_that_is_not_ours_is_fatal_to_the_controller() {
    let mut world = World::new();
    let admin = world.initialize(Digests::default());
    let ended = world.connect(admin, (SUBNQN, HOST_A), ID_A, Cntlid::DYNAMIC, connect(0, true));
    assert!(ended.status.is_success());
    let odd = Configuration {
        memory_page_size: 1,
        ..Configuration::ENABLE
    };
    world.set_configuration(admin, odd);
    let status = property(&mut world, admin, 0x1c, PropertySize::Four).result as u32;
    let status = ControllerStatus::parse(status);
    assert!(status.fatal && !status.ready);
}

#[test]
fn connect_refusals_say_what_is_wrong() {
    let in_data = |offset: u64| 1 << 16 | offset;
    let odd_size = Connect {
        sqsize: ZeroBased::<u16>::from_raw(32),
        ..connect(0, true)
    };
    let invalid = Status::CONNECT_INVALID_PARAMETERS;
    let stranger = "nqn.2025-01.test:stranger";
    let rows = [
        (
            ("nqn.2025-01.test:nowhere", HOST_A),
            ID_A,
            0xffff,
            connect(0, true),
            invalid,
            in_data(256),
        ),
        (
            (SUBNQN, ""),
            ID_A,
            0xffff,
            connect(0, true),
            invalid,
            in_data(512),
        ),
        (
            (nvme::nqn::DISCOVERY, ""),
            ID_A,
            0xffff,
            connect(0, true),
            invalid,
            in_data(512),
        ),
        (
            (SUBNQN, stranger),
            ID_A,
            0xffff,
            connect(0, true),
            Status::CONNECT_INVALID_HOST,
            0,
        ),
        (
            (SUBNQN, HOST_A),
            ID_A,
            0x0001,
            connect(0, true),
            invalid,
            in_data(16),
        ),
        (
            (SUBNQN, HOST_A),
            HostId([0; 16]),
            0xffff,
            connect(0, true),
            invalid,
            in_data(0),
        ),
        ((SUBNQN, HOST_A), ID_A, 0xffff, odd_size, invalid, 44),
        // Host B's identifier is taken.
        (
            (SUBNQN, HOST_A),
            ID_B,
            0xffff,
            connect(0, true),
            Status::CONNECT_INVALID_HOST,
            0,
        ),
    ];
    let mut world = World::new();
    let neighbour = world.host(HOST_B, ID_B);
    for (names, host_id, cntlid, connect, status, result) in rows {
        let connection = world.initialize(Digests::default());
        let ended = world.connect(connection, names, host_id, Cntlid(cntlid), connect);
        assert_eq!(ended.status, status.do_not_retry(), "{names:?}");
        assert_eq!(ended.result, result, "{names:?}");
    }
    assert!(
        world
            .admin(neighbour, AdminCommand::KeepAlive, 0)
            .status
            .is_success()
    );
}

#[test]
fn io_connect_refusals_say_what_is_wrong() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let invalid = Status::CONNECT_INVALID_PARAMETERS;
    let sequence = Status::COMMAND_SEQUENCE_ERROR;
    let cntlid = host.cntlid;
    let rows = [
        (HOST_A, ID_A, Cntlid(77), connect(2, true), invalid, 1 << 16 | 16),
        (HOST_B, ID_B, cntlid, connect(2, true), invalid, 1 << 16 | 512),
        (HOST_A, ID_C, cntlid, connect(2, true), invalid, 1 << 16),
        (HOST_A, ID_A, cntlid, connect(3, true), invalid, 42),
        (HOST_A, ID_A, cntlid, connect(1, true), sequence, 0),
    ];
    for (name, host_id, cntlid, connect, status, result) in rows {
        let connection = world.initialize(Digests::default());
        let ended = world.connect(connection, (SUBNQN, name), host_id, cntlid, connect);
        assert_eq!(
            (ended.status, ended.result),
            (status.do_not_retry(), result),
            "{connect:?}"
        );
    }
    let again = world.connect(host.io, (SUBNQN, HOST_A), ID_A, cntlid, connect(2, true));
    assert_eq!(
        again.status,
        sequence.do_not_retry(),
        "a connection carries one queue"
    );
}

#[test]
fn controllers_are_not_used_before_they_are_enabled() {
    let mut world = World::new();
    let admin = world.initialize(Digests::default());
    let cid = world.cid(admin);
    let sequence = Status::COMMAND_SEQUENCE_ERROR.do_not_retry();
    let early = world.call(admin, AdminCommand::KeepAlive.encode(cid, Sgl::NONE), &[]);
    assert_eq!(early.status, sequence, "before Connect");
    let names = (SUBNQN, HOST_A);
    let ended = world.connect(admin, names, ID_A, Cntlid::DYNAMIC, connect(0, true));
    let cntlid = Cntlid(ended.result as u16);
    let cid = world.cid(admin);
    let early = world.call(admin, AdminCommand::KeepAlive.encode(cid, Sgl::NONE), &[]);
    assert_eq!(early.status, sequence, "before enabling");
    let io = world.initialize(Digests::default());
    let early = world.connect(io, names, ID_A, cntlid, connect(1, true));
    assert_eq!(early.status, sequence, "an I/O queue before enabling");
}

#[test]
fn cntlids_stay_in_their_range_and_run_out() {
    let mut world = World::new();
    let mut used = Vec::new();
    for _ in 0..8 {
        used.push(world.host(HOST_A, ID_A).cntlid.0);
    }
    assert_eq!(used, (1..=8).collect::<Vec<_>>());
    let connection = world.initialize(Digests::default());
    let ended = world.connect(
        connection,
        (SUBNQN, HOST_A),
        ID_A,
        Cntlid::DYNAMIC,
        connect(0, true),
    );
    assert_eq!(ended.status, Status::CONNECT_CONTROLLER_BUSY, "to be tried again");
}

#[test]
fn a_target_without_its_configuration_asks_hosts_to_come_back() {
    let mut world = World::new();
    world.target = Target::new(limits());
    let connection = world.initialize(Digests::default());
    let ended = world.connect(
        connection,
        (SUBNQN, HOST_A),
        ID_A,
        Cntlid::DYNAMIC,
        connect(0, true),
    );
    assert_eq!(ended.status, Status::CONNECT_CONTROLLER_BUSY);
}

#[test]
fn flow_control_moves_the_queue_head_and_without_it_there_is_none() {
    for disabled in [false, true] {
        let mut world = World::new();
        let host = world.host_with(HOST_A, ID_A, Digests::default(), disabled);
        let mut heads = Vec::new();
        for _ in 0..33 {
            let cid = world.cid(host.admin);
            world.submit(host.admin, AdminCommand::KeepAlive.encode(cid, Sgl::NONE), &[]);
            match world.reply(host.admin) {
                Reply::Completion(entry) => heads.push(entry.sqhd.get()),
                other => panic!("{other:?}"),
            }
        }
        if disabled {
            assert!(heads.iter().all(|head| *head == 0xffff));
        } else {
            // Connect, Property Set and Set Features went before.
            let expected: Vec<u16> = (0..33).map(|nth| (4 + nth) % 32).collect();
            assert_eq!(heads, expected);
        }
    }
}

#[test]
fn a_silent_host_loses_its_association_and_a_talking_one_does_not() {
    let mut world = World::new();
    let quiet = Connect {
        kato_ms: 1000,
        ..connect(0, true)
    };
    let mut admins = Vec::new();
    for (name, host_id) in [(HOST_A, ID_A), (HOST_B, ID_B)] {
        let admin = world.initialize(Digests::default());
        assert!(
            world
                .connect(admin, (SUBNQN, name), host_id, Cntlid::DYNAMIC, quiet)
                .status
                .is_success()
        );
        world.enable(admin);
        admins.push(admin);
    }
    world.advance(600);
    let cid = world.cid(admins[1]);
    world.call(admins[1], AdminCommand::KeepAlive.encode(cid, Sgl::NONE), &[]);
    world.advance(399);
    assert!(world.closed.is_empty(), "not yet");
    world.advance(1);
    assert_eq!(world.closed.keys().collect::<Vec<_>>(), [&admins[0]]);
    assert_eq!(world.connected, hosts(&[HOST_B]));
    let due = world.target.next_timeout().expect("the other one is watched");
    assert!(due.0 <= world.now.0 + 600_000_000);
}

#[test]
fn a_connection_that_says_nothing_is_cut_off() {
    let mut world = World::new();
    let idle = world.accept();
    let initialized = world.initialize(Digests::default());
    let host = world.host(HOST_A, ID_A);
    world.advance(9_999);
    assert!(world.closed.is_empty());
    world.advance(1);
    assert_eq!(world.closed, [(idle, true), (initialized, true)].into());
    assert!(world.admin(host, AdminCommand::KeepAlive, 0).status.is_success());
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let mut config = limits();
    config.connections_max = 1;
    let mut target = Target::new(config);
    let now = block::Time::ZERO;
    target.accepted(now, ConnectionId(1));
    assert!(target.poll_output().is_none());
    target.accepted(now, ConnectionId(2));
    let output = target.poll_output();
    assert!(matches!(
        output,
        Some(TargetOutput::Close {
            connection: ConnectionId(2),
            abort: true
        })
    ));
}
