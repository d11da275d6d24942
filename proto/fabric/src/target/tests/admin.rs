//! Identify, features, log pages, Abort; discovery.

use super::harness::*;
use super::read_write::{pattern, read, write};
use crate::driver::ConnectionId;
use crate::target::{AnaState, Portal};
use crate::tcp::framing::Digests;
use nvme::command::{Abort, Cns, GetFeatures, GetLogPage, Identify, Select, SetFeatures};
use nvme::feature::FeatureIdentifier;
use nvme::identify::command_set::IoCommandSets;
use nvme::identify::controller::IdentifyController;
use nvme::identify::descriptor::NamespaceIdentificationDescriptors;
use nvme::identify::namespace::IdentifyNamespace;
use nvme::log::{
    AnaLog, CommandEffects, CommandsSupportedAndEffects, DiscoveryEntry, DiscoveryLog, ErrorInformation,
    LogPageIdentifier, SmartHealthInformation, SupportedLogPages,
};
use nvme::{AdminCommand, Cid, Cntlid, Nguid, Nsid, Qid, Sgl, Status, Uuid};

pub(super) fn log(lid: LogPageIdentifier, length: u32) -> GetLogPage {
    GetLogPage::new(lid, Nsid::ALL, 0, length)
}

pub(super) fn read_log(world: &mut World, host: Host, page: GetLogPage) -> Ended {
    world.admin(host, AdminCommand::GetLogPage(page), page.length_bytes() as u32)
}

fn identify(world: &mut World, host: Host, cns: Cns, nsid: u32) -> Ended {
    let command = AdminCommand::Identify(Identify::new(cns, Nsid(nsid)));
    world.admin(host, command, 4096)
}

#[test]
fn identify_controller_says_what_the_target_is() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let data = identify(&mut world, host, Cns::Controller, 0).data;
    let data = IdentifyController::parse(&data).expect("4096 bytes");
    assert_eq!(data.serial_number(), Some("T0001"));
    assert_eq!(data.subsystem().expect("a name").as_str(), SUBNQN);
    assert_eq!(data.cntlid.get(), host.cntlid.0);
    assert_eq!(data.in_capsule_data_size(), 8192);
    assert_eq!(data.max_data_transfer_size(4096), Some(1 << 20));
    assert_eq!(data.cmic & 0b1010, 0b1010, "several controllers, ANA");
    assert_eq!(data.oaes.get(), 1 << 8 | 1 << 11);
    assert_eq!(data.oncs.get(), 0b10_1101);
    assert_eq!(data.anacap & 0b1_1111, 0b1_1111);
    assert!(
        data.mnan.get() > 0 && data.mnan.get() <= data.nn.get(),
        "Linux refuses anything else"
    );
    let ana_log = AnaLog::max_length(data.nanagrpid.get() as usize, data.mnan.get() as usize);
    assert!(ana_log < 1 << 20, "hosts read the ANA log page in one go");
}

#[test]
fn identify_namespace_says_size_and_names() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let data = identify(&mut world, host, Cns::Namespace, 1).data;
    let data = IdentifyNamespace::parse(&data).expect("4096 bytes");
    assert_eq!((data.nsze.get(), data.anagrpid.get()), (SIZE, 1));
    assert_eq!(data.lba_format().block_size(), Some(4096));
    assert_eq!(data.rescap, 0, "this one has no reservations");
    let data = identify(&mut world, host, Cns::NamespaceIdentificationDescriptors, 1).data;
    let names = NamespaceIdentificationDescriptors::parse(&data);
    assert_eq!(names.nguid(), Some(Nguid([1; 16])));
    assert_eq!(names.uuid(), Some(Uuid([1; 16])));
    let data = identify(&mut world, host, Cns::IoCommandSets, 0).data;
    assert_eq!(data, IoCommandSets::nvm_only().to_bytes());
}

#[test]
fn identify_refuses_what_it_does_not_have() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let invalid_field = Status::INVALID_FIELD.do_not_retry();
    for cns in [Cns::NvmSetList, Cns::PrimaryControllerCapabilities, Cns::UuidList] {
        assert_eq!(identify(&mut world, host, cns, 0).status, invalid_field, "{cns}");
    }
    let zoned = Identify {
        csi: 2,
        ..Identify::new(Cns::CommandSetController, Nsid(0))
    };
    assert_eq!(
        world.admin(host, AdminCommand::Identify(zoned), 4096).status,
        invalid_field
    );
    assert!(
        identify(&mut world, host, Cns::CommandSetController, 0)
            .status
            .is_success()
    );
    let all = identify(&mut world, host, Cns::Namespace, u32::MAX);
    assert_eq!(all.status, Status::INVALID_NAMESPACE_OR_FORMAT.do_not_retry());
}

fn get(world: &mut World, host: Host, fid: FeatureIdentifier) -> Ended {
    world.admin(host, AdminCommand::GetFeatures(GetFeatures::new(fid)), 0)
}

#[test]
fn features_are_what_was_set() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let rows = [
        (FeatureIdentifier::Arbitration, 0x0101_0107),
        (FeatureIdentifier::TemperatureThreshold, 350),
        (FeatureIdentifier::ErrorRecovery, 7),
        (FeatureIdentifier::VolatileWriteCache, 0),
        (FeatureIdentifier::WriteAtomicityNormal, 1),
        (FeatureIdentifier::AsynchronousEventConfiguration, 1 << 8),
        (FeatureIdentifier::KeepAliveTimer, 15_000),
        (FeatureIdentifier::PowerManagement, 0),
    ];
    for (fid, value) in rows {
        let set = AdminCommand::SetFeatures(SetFeatures::new(fid, value));
        assert_eq!(world.admin(host, set, 0).status, Status::SUCCESS, "{fid}");
        assert_eq!(get(&mut world, host, fid).result, value.into(), "{fid}");
    }
    assert_eq!(
        get(&mut world, host, FeatureIdentifier::NumberOfQueues).result,
        0x0001_0001
    );
    let host_id = GetFeatures {
        cdw11: 1,
        ..GetFeatures::new(FeatureIdentifier::HostIdentifier)
    };
    assert_eq!(
        world.admin(host, AdminCommand::GetFeatures(host_id), 16).data,
        ID_A.0
    );
}

#[test]
fn features_that_cannot_be_set_say_why() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let set = SetFeatures::new;
    let saved = SetFeatures {
        save: true,
        ..set(FeatureIdentifier::VolatileWriteCache, 1)
    };
    let rows = [
        (saved, Status::FEATURE_NOT_SAVEABLE),
        (set(FeatureIdentifier::PowerManagement, 1), Status::INVALID_FIELD),
        (
            set(FeatureIdentifier::ErrorRecovery, 1 << 16),
            Status::INVALID_FIELD,
        ),
        (
            set(FeatureIdentifier::AsynchronousEventConfiguration, 1 << 9),
            Status::INVALID_FIELD,
        ),
        (set(FeatureIdentifier::HostMemoryBuffer, 0), Status::INVALID_FIELD),
        (
            set(FeatureIdentifier::NumberOfQueues, 0x0001_0001),
            Status::COMMAND_SEQUENCE_ERROR,
        ),
        (
            set(FeatureIdentifier::ReservationPersistence, 1),
            Status::FEATURE_NOT_CHANGEABLE,
        ),
    ];
    for (set, status) in rows {
        let ended = world.admin(host, AdminCommand::SetFeatures(set), 0);
        assert_eq!(ended.status, status.do_not_retry(), "{set:?}");
    }
    let saved = GetFeatures {
        select: Select::Saved,
        ..GetFeatures::new(FeatureIdentifier::Arbitration)
    };
    let ended = world.admin(host, AdminCommand::GetFeatures(saved), 0);
    assert_eq!(ended.status, Status::INVALID_FIELD.do_not_retry());
}

#[test]
fn queues_are_granted_up_to_the_limit() {
    let mut world = World::new();
    let admin = world.initialize(Digests::default());
    world.connect(admin, (SUBNQN, HOST_A), ID_A, Cntlid::DYNAMIC, connect(0, true));
    world.enable(admin);
    for (wanted, granted) in [
        (0x0000_0000, 0),
        (0x0002_0001, 0x0001_0001),
        (0x00ff_00ff, 0x0003_0003),
    ] {
        let cid = world.cid(admin);
        let set = AdminCommand::SetFeatures(SetFeatures::new(FeatureIdentifier::NumberOfQueues, wanted));
        let ended = world.call(admin, set.encode(cid, Sgl::NONE), &[]);
        assert_eq!(
            (ended.status, ended.result),
            (Status::SUCCESS, granted),
            "{wanted:x}"
        );
    }
}

#[test]
fn log_pages_count_and_list() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    world.io(host, 1, write(0, 2), &pattern(2, 0), 0);
    world.io(host, 1, read(0, 1), &[], BLOCK as u32);
    world.io(host, 1, read(SIZE, 1), &[], BLOCK as u32);
    let data = read_log(
        &mut world,
        host,
        log(LogPageIdentifier::SmartHealthInformation, 512),
    )
    .data;
    let smart = SmartHealthInformation::parse(&data).expect("512 bytes");
    assert_eq!(
        (smart.host_write_commands.get(), smart.host_read_commands.get()),
        (1, 1)
    );
    assert_eq!(smart.error_log_entries.get(), 1);
    let data = read_log(&mut world, host, log(LogPageIdentifier::ErrorInformation, 64)).data;
    let error = ErrorInformation::parse(&data).expect("64 bytes");
    assert_eq!(
        (error.error_count.get(), error.sqid.get(), error.opcode),
        (1, 1, 2)
    );
    assert_eq!(
        Status::parse(error.status.get() >> 1),
        Status::LBA_OUT_OF_RANGE.do_not_retry()
    );
    let data = read_log(
        &mut world,
        host,
        log(LogPageIdentifier::CommandsSupportedAndEffects, 4096),
    )
    .data;
    let effects = CommandsSupportedAndEffects::parse(&data).expect("4096 bytes");
    assert_eq!(
        effects.io_effects(nvme::command::IoOpcode::Write),
        CommandEffects::CHANGES_CONTENT
    );
    let data = read_log(&mut world, host, log(LogPageIdentifier::SupportedLogPages, 1024)).data;
    let pages = SupportedLogPages::parse(&data).expect("1024 bytes");
    for lid in LogPageIdentifier::ALL {
        let length = if pages.is_supported(*lid) { 64 } else { 4 };
        let ended = read_log(&mut world, host, GetLogPage { ..log(*lid, length) });
        assert_eq!(ended.status.is_success(), pages.is_supported(*lid), "{lid}");
        if !pages.is_supported(*lid) {
            assert_eq!(ended.status, Status::INVALID_LOG_PAGE.do_not_retry(), "{lid}");
        }
    }
}

#[test]
fn log_pages_are_read_in_parts() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let lid = LogPageIdentifier::FirmwareSlotInformation;
    let whole = read_log(&mut world, host, log(lid, 512)).data;
    let part = read_log(&mut world, host, GetLogPage::new(lid, Nsid::ALL, 4, 8)).data;
    assert_eq!(part, whole[4..12]);
    let beyond = read_log(&mut world, host, GetLogPage::new(lid, Nsid::ALL, 508, 8)).data;
    assert_eq!(beyond, [&whole[508..], &[0; 4]].concat(), "zeroes behind the end");
    let outside = read_log(&mut world, host, GetLogPage::new(lid, Nsid::ALL, 516, 4));
    assert_eq!(outside.status, Status::INVALID_FIELD.do_not_retry());
    let indexed = GetLogPage {
        offset_is_index: true,
        ..log(lid, 4)
    };
    assert_eq!(
        read_log(&mut world, host, indexed).status,
        Status::INVALID_FIELD.do_not_retry()
    );
}

#[test]
fn the_ana_log_page_tells_groups_of_what_the_host_sees() {
    let mut world = World::new();
    let mut other = namespace(2, &[HOST_B]);
    other.ana_group = 2;
    world.put_namespace(2, other, None);
    let (a, b) = (world.host(HOST_A, ID_A), world.host(HOST_B, ID_B));
    world.set_ana(AnaState::NonOptimized);
    let page = log(LogPageIdentifier::AsymmetricNamespaceAccess, 1024);
    let seen = AnaLog::parse(&read_log(&mut world, a, page).data).expect("an ANA log page");
    assert_eq!(seen.groups.len(), 1);
    assert_eq!(
        (seen.groups[0].group, seen.groups[0].state),
        (1, AnaState::NonOptimized)
    );
    assert_eq!(seen.groups[0].namespaces, [Nsid(1)]);
    let seen = AnaLog::parse(&read_log(&mut world, b, page).data).expect("an ANA log page");
    assert_eq!(seen.groups.len(), 2);
    assert_eq!(seen.groups[1].state, AnaState::Inaccessible, "nobody set it");
    let groups_only = GetLogPage {
        lsp: AnaLog::RETURN_GROUPS_ONLY,
        ..page
    };
    let seen = AnaLog::parse(&read_log(&mut world, b, groups_only).data).expect("an ANA log page");
    assert!(seen.groups.iter().all(|group| group.namespaces.is_empty()));
}

#[test]
fn abort_ends_what_waits_and_leaves_what_was_handed_out() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let executing = world.io_entry(host, 1, read(0, 1), &[], BLOCK as u32);
    world.submit(host.io, executing, &[]);
    world.memory.limit = Some(1);
    let waiting = world.io_entry(host, 1, read(1, 1), &[], BLOCK as u32);
    world.submit(host.io, waiting, &[]);
    let rows = [
        (executing.cid(), Abort::NOT_ABORTED),
        (waiting.cid(), Abort::ABORTED),
        (Cid(999), Abort::NOT_ABORTED),
    ];
    for (cid, result) in rows {
        let abort = AdminCommand::Abort(Abort { sqid: Qid(1), cid });
        let name = world.cid(host.admin);
        world.submit(host.admin, abort.encode(name, Sgl::NONE), &[]);
        let ended = world.ended(host.admin);
        assert_eq!(
            (ended.status, ended.result),
            (Status::SUCCESS, result.into()),
            "{cid}"
        );
    }
    assert_eq!(
        world.ended(host.io).status,
        Status::ABORT_REQUESTED.do_not_retry()
    );
    world.run_backend();
    assert!(world.ended(host.io).status.is_success());
    assert_eq!(world.memory.in_use(), 0);
}

const DISCOVERY: &str = nvme::nqn::DISCOVERY;

fn discovery(world: &mut World, name: &str, host_id: nvme::HostId) -> ConnectionId {
    let admin = world.initialize(Digests::default());
    let ended = world.connect(
        admin,
        (DISCOVERY, name),
        host_id,
        Cntlid::DYNAMIC,
        connect(0, true),
    );
    assert!(ended.status.is_success(), "{ended:?}");
    world.enable(admin);
    admin
}

fn discover(world: &mut World, admin: ConnectionId) -> DiscoveryLog {
    let cid = world.cid(admin);
    let page = AdminCommand::GetLogPage(log(LogPageIdentifier::Discovery, 4096));
    let ended = world.call(admin, page.encode(cid, Sgl::Transport { length: 4096 }), &[]);
    DiscoveryLog::parse(&ended.data).expect("a discovery log page")
}

#[test]
fn discovery_tells_each_host_its_own_subsystems() {
    let mut world = World::new();
    world.put_namespace(1, namespace(1, &[HOST_A]), None);
    let portal = Portal {
        port: 3,
        address: "127.0.0.1:4420".parse().expect("an address"),
    };
    world
        .target
        .set_portals(world.now, SUBSYSTEM, [portal].into(), &mut world.memory);
    let a = discovery(&mut world, HOST_A, ID_A);
    let b = discovery(&mut world, HOST_B, ID_B);
    let told = discover(&mut world, a);
    assert_eq!(told.entries.len(), 1);
    let entry = DiscoveryEntry::parse(&told.entries[0]).expect("TCP over IP");
    assert_eq!(entry.subsystem.as_str(), SUBNQN);
    assert_eq!(
        (entry.address, entry.port, entry.port_id),
        (portal.address.ip(), 4420, 3)
    );
    assert!(
        discover(&mut world, b).entries.is_empty(),
        "nothing of its business"
    );
    let before = discover(&mut world, b).generation;
    world.put_namespace(1, namespace(1, &[HOST_A, HOST_B]), None);
    let told = discover(&mut world, b);
    assert_eq!(told.entries.len(), 1);
    assert!(told.generation > before);
}

#[test]
fn discovery_tells_of_the_whole_process() {
    let mut world = World::new();
    let address: std::net::SocketAddr = "192.0.2.9:4420".parse().expect("an address");
    let portal = crate::target::Portal { port: 4, address };
    let elsewhere = |names: &[&str]| crate::target::Elsewhere {
        reactor: crate::driver::ReactorIndex(1),
        hosts: hosts(names),
        portals: std::collections::BTreeSet::from([portal]),
    };
    let a = discovery(&mut world, HOST_A, ID_A);
    let before = discover(&mut world, a).generation;
    let other = "nqn.2025-01.test:other";
    // The target's own subsystem is not told twice.
    let directory = [(other, elsewhere(&[HOST_A])), (SUBNQN, elsewhere(&[HOST_A]))];
    let directory = directory.map(|(name, elsewhere)| (name.to_owned(), elsewhere));
    world
        .target
        .set_elsewhere(world.now, directory.into(), &mut world.memory);
    world.drain();
    let told = discover(&mut world, a);
    assert!(told.generation > before);
    assert_eq!(told.entries.len(), 1);
    let entry = DiscoveryEntry::parse(&told.entries[0]).expect("TCP over IP");
    assert_eq!(
        (entry.subsystem.as_str(), entry.address, entry.port),
        (other, address.ip(), 4420)
    );
    let b = discovery(&mut world, HOST_B, ID_B);
    assert!(discover(&mut world, b).entries.is_empty());
}

#[test]
fn discovery_controllers_do_discovery_only() {
    let mut world = World::new();
    let admin = discovery(&mut world, HOST_A, ID_A);
    let host = Host {
        cntlid: Cntlid(1),
        admin,
        io: admin,
    };
    let data = identify(&mut world, host, Cns::Controller, 0).data;
    let data = IdentifyController::parse(&data).expect("4096 bytes");
    assert_eq!((data.cntrltype, data.oaes.get()), (2, 1 << 31));
    assert_eq!(data.subsystem().expect("a name").as_str(), DISCOVERY);
    let list = identify(&mut world, host, Cns::ActiveNamespaceList, 0);
    assert_eq!(list.status, Status::INVALID_FIELD.do_not_retry());
    let ana = read_log(
        &mut world,
        host,
        log(LogPageIdentifier::AsymmetricNamespaceAccess, 64),
    );
    assert_eq!(ana.status, Status::INVALID_LOG_PAGE.do_not_retry());
    let io = world.initialize(Digests::default());
    let ended = world.connect(io, (DISCOVERY, HOST_A), ID_A, Cntlid(1), connect(1, true));
    assert_eq!(
        (ended.status, ended.result),
        (Status::CONNECT_INVALID_PARAMETERS.do_not_retry(), 42)
    );
}
