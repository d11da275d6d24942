//! Every field of every log page.
//!
//! Deliberate bugs that these must catch (tried by hand): namespace identifiers written although groups
//! only were asked for, a count believed that passes the bytes, a list of 1024 taken for too many, an
//! address that keeps its padding.

use crate::{
    Nqn, Nsid, Status, TooShort, U32,
    command::{AdminOpcode, IoOpcode},
    log::{
        AddressFamily, AnaGroup, AnaGroupDescriptor, AnaLog, AnaLogHeader, AnaState, ChangedNamespaceList,
        CommandEffects, CommandsSupportedAndEffects, DiscoveryEntry, DiscoveryLog, DiscoveryLogEntry,
        DiscoveryLogHeader, ErrorInformation, FirmwareSlotInformation, LogPageIdentifier,
        ReservationNotification, ReservationNotificationType, SmartHealthInformation, SubsystemType,
        SupportedLogPages, TransportType,
        ana::InvalidAnaLog,
        discovery::{entry_flags, transport_requirements},
        health::critical_warning,
    },
};
use proptest::prelude::*;

code_table!(identifiers: LogPageIdentifier, u8 {
    0x00 SupportedLogPages,
    0x01 ErrorInformation,
    0x02 SmartHealthInformation,
    0x03 FirmwareSlotInformation,
    0x04 ChangedAttachedNamespaceList,
    0x05 CommandsSupportedAndEffects,
    0x06 DeviceSelfTest,
    0x07 TelemetryHostInitiated,
    0x08 TelemetryControllerInitiated,
    0x09 EnduranceGroupInformation,
    0x0A PredictableLatencyPerNvmSet,
    0x0B PredictableLatencyEventAggregate,
    0x0C AsymmetricNamespaceAccess,
    0x0D PersistentEventLog,
    0x0E LbaStatusInformation,
    0x0F EnduranceGroupEventAggregate,
    0x10 MediaUnitStatus,
    0x11 SupportedCapacityConfigurationList,
    0x12 FeatureIdentifiersSupportedAndEffects,
    0x13 NvmeMiCommandsSupportedAndEffects,
    0x14 CommandAndFeatureLockdown,
    0x15 BootPartition,
    0x16 RotationalMediaInformation,
    0x70 Discovery,
    0x71 HostDiscovery,
    0x72 AveDiscovery,
    0x73 PullModelDdcRequest,
    0x80 ReservationNotification,
    0x81 SanitizeStatus,
});

fields!(error_information: ErrorInformation, 64 {
    0..8 error_count number,
    8..10 sqid number,
    10..12 cid number,
    12..14 status number,
    14..16 parameter_error_location number,
    16..24 lba number,
    24..28 nsid number,
    28..29 vendor_specific_information_available number,
    29..30 transport_type number,
    30..31 csi number,
    31..32 opcode number,
    32..40 command_specific_information number,
    40..42 transport_type_specific_information number,
    42..63 reserved_42 bytes,
    63..64 log_page_version number,
});

fields!(smart_health_information: SmartHealthInformation, 512 {
    0..1 critical_warning number,
    1..3 composite_temperature number,
    3..4 available_spare number,
    4..5 available_spare_threshold number,
    5..6 percentage_used number,
    6..7 endurance_group_critical_warning number,
    7..32 reserved_7 bytes,
    32..48 data_units_read number,
    48..64 data_units_written number,
    64..80 host_read_commands number,
    80..96 host_write_commands number,
    96..112 controller_busy_time number,
    112..128 power_cycles number,
    128..144 power_on_hours number,
    144..160 unsafe_shutdowns number,
    160..176 media_errors number,
    176..192 error_log_entries number,
    192..196 warning_temperature_time number,
    196..200 critical_temperature_time number,
    200..216 temperature_sensors bytes,
    216..220 thermal_management_1_transitions number,
    220..224 thermal_management_2_transitions number,
    224..228 thermal_management_1_time number,
    228..232 thermal_management_2_time number,
    232..512 reserved_232 bytes,
});

#[test]
fn critical_warnings() {
    let bits = [
        critical_warning::AVAILABLE_SPARE,
        critical_warning::TEMPERATURE,
        critical_warning::RELIABILITY,
        critical_warning::READ_ONLY,
        critical_warning::VOLATILE_MEMORY_BACKUP,
        critical_warning::PERSISTENT_MEMORY_REGION,
    ];
    assert_eq!(bits, [0x01, 0x02, 0x04, 0x08, 0x10, 0x20]);
}

fields!(firmware_slot_information: FirmwareSlotInformation, 512 {
    0..1 active number,
    1..8 reserved_1 bytes,
    8..64 revisions bytes,
    64..512 reserved_64 bytes,
});

fields!(changed_namespace_list: ChangedNamespaceList, 4096 {
    0..4096 entries bytes,
});

#[test]
fn changed_namespaces_until_they_are_too_many() {
    let told = |count: u32| ChangedNamespaceList::new((1..=count).map(Nsid));
    assert_eq!(told(0), ChangedNamespaceList::default());
    assert_eq!(told(2).as_bytes()[..12], [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(told(1024).namespaces().count(), 1024);
    assert!(!told(1024).is_too_many());
    assert!(told(1025).is_too_many());
    assert_eq!(told(1025), ChangedNamespaceList::too_many());
    assert_eq!(told(1025).as_bytes()[..8], [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
    assert_eq!(told(1025).namespaces().count(), 0);
}

fields!(commands_supported_and_effects: CommandsSupportedAndEffects, 4096 {
    0..1024 admin bytes,
    1024..2048 io bytes,
    2048..4096 reserved_2048 bytes,
});

bit_fields!(command_effects: CommandEffects, u32 {
    supported = true => 0..1 1,
    logical_block_content_change = true => 1..2 1,
    namespace_capability_change = true => 2..3 1,
    namespace_inventory_change = true => 3..4 1,
    controller_capability_change = true => 4..5 1,
    relaxations = 3 => 14..16 3,
    restriction = 7 => 16..19 7,
    uuid_selection = true => 19..20 1,
    scope = 0xFFF => 20..32 0xFFF,
});

#[test]
fn effects_stand_at_their_opcodes() {
    let mut page = CommandsSupportedAndEffects::default();
    page.set_admin(AdminOpcode::Identify, CommandEffects::SUPPORTED);
    page.set_io(IoOpcode::Write, CommandEffects::CHANGES_CONTENT);
    assert_eq!(page.as_bytes()[0x06 * 4], 0b01);
    assert_eq!(page.as_bytes()[1024 + 4], 0b11);
    assert_eq!(page.as_bytes().iter().filter(|byte| **byte != 0).count(), 2);
    assert_eq!(
        page.admin_effects(AdminOpcode::Identify),
        CommandEffects::SUPPORTED
    );
    assert_eq!(page.io_effects(IoOpcode::Write), CommandEffects::CHANGES_CONTENT);
    assert!(!page.io_effects(IoOpcode::Read).supported);
    assert_eq!(
        (CommandEffects::SCOPE_NAMESPACE, CommandEffects::SCOPE_CONTROLLER),
        (1, 2)
    );
}

fields!(supported_log_pages: SupportedLogPages, 1024 {
    0..1024 pages bytes,
});

#[test]
fn support_stands_at_its_identifier() {
    let pages = SupportedLogPages::new([LogPageIdentifier::SupportedLogPages, LogPageIdentifier::Discovery]);
    assert_eq!((pages.as_bytes()[0], pages.as_bytes()[0x70 * 4]), (1, 1));
    assert_eq!(pages.as_bytes().iter().filter(|byte| **byte != 0).count(), 2);
    assert!(pages.is_supported(LogPageIdentifier::Discovery));
    assert!(!pages.is_supported(LogPageIdentifier::ErrorInformation));
}

code_table!(ana_states: AnaState, u8 {
    0x1 Optimized,
    0x2 NonOptimized,
    0x3 Inaccessible,
    0x4 PersistentLoss,
    0xF Change,
});

#[test]
fn what_a_state_refuses_with() {
    let refusals = AnaState::ALL
        .iter()
        .map(|state| state.refusal())
        .collect::<Vec<_>>();
    let path = [
        Status::ANA_INACCESSIBLE,
        Status::ANA_PERSISTENT_LOSS,
        Status::ANA_TRANSITION,
    ]
    .map(Some);
    assert_eq!(refusals, [None, None, path[0], path[1], path[2]]);
    assert!(
        path.iter().flatten().all(|status| !status.do_not_retry),
        "hosts must try again"
    );
}

fields!(ana_log_header: AnaLogHeader, 16 {
    0..8 change_count number,
    8..10 groups number,
    10..16 reserved_10 bytes,
});

fields!(ana_group_descriptor: AnaGroupDescriptor, 32 {
    0..4 group number,
    4..8 namespaces number,
    8..16 change_count number,
    16..17 state number,
    17..32 reserved_17 bytes,
});

fn ana_log() -> AnaLog {
    let group = |group, state, namespaces: &[u32]| AnaGroup {
        group,
        change_count: 7,
        state,
        namespaces: namespaces.iter().copied().map(Nsid).collect(),
    };
    AnaLog {
        change_count: 9,
        groups: vec![
            group(1, AnaState::Optimized, &[1, 2]),
            group(2, AnaState::NonOptimized, &[]),
            group(3, AnaState::Inaccessible, &[3]),
            group(4, AnaState::PersistentLoss, &[4]),
            group(5, AnaState::Change, &[5]),
        ],
    }
}

#[test]
fn an_ana_log_with_all_five_states() {
    let bytes = ana_log().encode(false);
    assert_eq!(bytes.len(), AnaLog::max_length(5, 5));
    assert_eq!(bytes[..16], [9, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[16..33], [1, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(bytes[33..48], [0; 15]);
    assert_eq!(bytes[48..56], [1, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(
        (bytes[56], bytes[56 + 16]),
        (2, 2),
        "the second group follows the first's namespaces"
    );
    assert_eq!(AnaLog::parse(&bytes), Ok(ana_log()));
}

#[test]
fn groups_only() {
    let bytes = ana_log().encode(true);
    assert_eq!(bytes.len(), AnaLog::max_length(5, 0));
    let parsed = AnaLog::parse(&bytes).unwrap();
    assert!(parsed.groups.iter().all(|group| group.namespaces.is_empty()));
    assert_eq!(parsed.groups.len(), 5);
    assert_eq!(AnaLog::RETURN_GROUPS_ONLY, 1);
}

#[test]
fn ana_logs_that_lie() {
    let mut bytes = ana_log().encode(false);
    let cut = AnaLog::parse(&bytes[..55]);
    let too_short = TooShort {
        needed_bytes: 40,
        got_bytes: 39,
    };
    assert_eq!(cut, Err(InvalidAnaLog::TooShort(too_short)));
    bytes[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(AnaLog::parse(&bytes), Err(InvalidAnaLog::TooShort(_))));
    let mut bytes = ana_log().encode(false);
    bytes[32] = 0xF5;
    assert_eq!(
        AnaLog::parse(&bytes),
        Err(InvalidAnaLog::State { group: 1, state: 5 })
    );
    for error in [AnaLog::parse(&bytes), AnaLog::parse(&[])] {
        assert!(error.unwrap_err().to_string().contains("ANA"));
    }
}

code_table!(transport_types: TransportType, u8 {
    0x01 Rdma,
    0x02 FibreChannel,
    0x03 Tcp,
    0xFE IntraHost,
});

code_table!(address_families: AddressFamily, u8 {
    0x01 Ipv4,
    0x02 Ipv6,
    0x03 InfiniBand,
    0x04 FibreChannel,
    0xFE IntraHost,
});

code_table!(subsystem_types: SubsystemType, u8 {
    0x01 Referral,
    0x02 Nvm,
    0x03 CurrentDiscovery,
});

#[test]
fn discovery_bits() {
    let secure_channel = [
        transport_requirements::SECURE_CHANNEL_NOT_SPECIFIED,
        transport_requirements::SECURE_CHANNEL_REQUIRED,
        transport_requirements::SECURE_CHANNEL_NOT_REQUIRED,
        transport_requirements::DISABLE_SQ_FLOW_CONTROL,
    ];
    assert_eq!(secure_channel, [0, 1, 2, 4]);
    let flags = [
        entry_flags::DUPLICATE_RETURNED_INFORMATION,
        entry_flags::EXPLICIT_PERSISTENT_CONNECTION,
        entry_flags::NO_CDC_CONNECTIVITY,
    ];
    assert_eq!(flags, [1, 2, 4]);
}

fields!(discovery_log_header: DiscoveryLogHeader, 1024 {
    0..8 generation number,
    8..16 records number,
    16..18 record_format number,
    18..1024 reserved_18 bytes,
});

fields!(discovery_log_entry: DiscoveryLogEntry, 1024 {
    0..1 transport_type number,
    1..2 address_family number,
    2..3 subsystem_type number,
    3..4 transport_requirements number,
    4..6 port_id number,
    6..8 cntlid number,
    8..10 admin_max_sq_size number,
    10..12 entry_flags number,
    12..32 reserved_12 bytes,
    32..64 transport_service_id bytes,
    64..256 reserved_64 bytes,
    256..512 subnqn bytes,
    512..768 transport_address bytes,
    768..1024 transport_specific bytes,
});

fn discovery_entry(address: &str) -> DiscoveryEntry {
    DiscoveryEntry {
        subsystem_type: SubsystemType::Nvm,
        subsystem: Nqn::parse("nqn.x").unwrap(),
        address: address.parse().unwrap(),
        port: 4420,
        port_id: 0x0102,
        transport_requirements: transport_requirements::DISABLE_SQ_FLOW_CONTROL,
        flags: entry_flags::DUPLICATE_RETURNED_INFORMATION,
    }
}

#[test]
fn where_a_subsystem_is() {
    let rows = [("10.77.0.1", 1, "10.77.0.1  "), ("fe80::1", 2, "fe80::1  ")];
    for (address, family, text) in rows {
        let entry = discovery_entry(address).encode();
        let bytes = entry.as_bytes();
        assert_eq!(bytes[..12], [3, family, 2, 4, 2, 1, 0xFF, 0xFF, 32, 0, 1, 0]);
        assert_eq!(bytes[32..64], *b"4420                            ");
        assert_eq!(bytes[256..262], *b"nqn.x\0");
        assert_eq!(bytes[512..512 + text.len()], *text.as_bytes());
        assert_eq!(bytes[768], 0, "no security");
        assert_eq!(DiscoveryEntry::parse(&entry), Some(discovery_entry(address)));
    }
}

#[test]
fn text_padded_with_nul_is_read_too() {
    let mut entry = discovery_entry("10.77.0.1").encode();
    for byte in entry
        .transport_address
        .iter_mut()
        .chain(&mut entry.transport_service_id)
    {
        *byte = if *byte == b' ' { 0 } else { *byte };
    }
    assert_eq!(DiscoveryEntry::parse(&entry), Some(discovery_entry("10.77.0.1")));
}

#[test]
fn entries_that_make_no_sense_are_skipped() {
    let spoil = |spoil: fn(&mut DiscoveryLogEntry)| {
        let mut entry = discovery_entry("10.77.0.1").encode();
        spoil(&mut entry);
        DiscoveryEntry::parse(&entry)
    };
    assert_eq!(spoil(|entry| entry.transport_type = 1), None);
    assert_eq!(spoil(|entry| entry.subsystem_type = 0), None);
    assert_eq!(spoil(|entry| entry.subnqn[0] = 0), None);
    assert_eq!(spoil(|entry| entry.transport_address[0] = b'x'), None);
    assert_eq!(spoil(|entry| entry.transport_address[0] = 0xFF), None);
    assert_eq!(
        spoil(|entry| entry.transport_service_id[..5].copy_from_slice(b"70000")),
        None
    );
}

#[test]
fn a_discovery_log() {
    let log = DiscoveryLog {
        generation: 3,
        entries: vec![
            discovery_entry("10.77.0.1").encode(),
            discovery_entry("10.77.0.2").encode(),
        ],
    };
    let bytes = log.encode();
    assert_eq!(bytes.len(), 3 * 1024);
    assert_eq!((bytes[0], bytes[8], bytes[1024], bytes[2048]), (3, 2, 3, 3));
    assert_eq!(DiscoveryLog::parse(&bytes), Ok(log));
    let too_short = |got_bytes| TooShort {
        needed_bytes: 3072,
        got_bytes,
    };
    assert_eq!(DiscoveryLog::parse(&bytes[..3071]), Err(too_short(3071)));
    let mut lying = bytes;
    lying[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(
        DiscoveryLog::parse(&lying).map_err(|error| error.needed_bytes),
        Err(usize::MAX)
    );
}

code_table!(reservation_notification_types: ReservationNotificationType, u8 {
    0 Empty,
    1 RegistrationPreempted,
    2 ReservationReleased,
    3 ReservationPreempted,
});

fields!(reservation_notification: ReservationNotification, 64 {
    0..8 log_page_count number,
    8..9 notification_type number,
    9..10 available_log_pages number,
    10..12 reserved_10 bytes,
    12..16 nsid number,
    16..64 reserved_16 bytes,
});

proptest! {
    #[test]
    fn any_bytes_are_an_ana_log_or_refused(
        change_count: u64,
        groups in 0..4u16,
        rest in proptest::collection::vec(0..6u8, 0..200),
    ) {
        let mut bytes = AnaLogHeader::default().to_bytes().to_vec();
        bytes[..8].copy_from_slice(&change_count.to_le_bytes());
        bytes[8..10].copy_from_slice(&groups.to_le_bytes());
        bytes.extend(rest);
        if let Ok(log) = AnaLog::parse(&bytes) {
            prop_assert_eq!(AnaLog::parse(&log.encode(false)), Ok(log));
        }
    }

    #[test]
    fn ana_logs_survive_the_wire(groups in proptest::collection::vec(any::<(u32, u64, u8, Vec<u32>)>(), 0..6)) {
        let group = |(group, change_count, state, namespaces): (u32, u64, u8, Vec<u32>)| AnaGroup {
            group,
            change_count,
            state: AnaState::ALL[usize::from(state) % AnaState::ALL.len()],
            namespaces: namespaces.into_iter().map(Nsid).collect(),
        };
        let log = AnaLog { change_count: 1, groups: groups.into_iter().map(group).collect() };
        prop_assert_eq!(AnaLog::parse(&log.encode(false)), Ok(log));
    }

    #[test]
    fn any_bytes_are_a_discovery_log_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        records in 0..4u8,
    ) {
        let mut bytes = bytes;
        if let Some(count) = bytes.get_mut(8..16) {
            count.copy_from_slice(&u64::from(records).to_le_bytes());
        }
        if let Ok(log) = DiscoveryLog::parse(&bytes) {
            prop_assert_eq!(log.entries.len(), usize::from(records));
            let _ = log.entries.iter().map(DiscoveryEntry::parse).count();
        }
    }

    #[test]
    fn changed_namespaces_survive_the_wire(mut changed in proptest::collection::btree_set(1..u32::MAX, 0..50)) {
        changed.remove(&0);
        let list = ChangedNamespaceList::new(changed.iter().copied().map(Nsid));
        let parsed = ChangedNamespaceList::from_bytes(list.to_bytes());
        prop_assert!(parsed.namespaces().map(|nsid| nsid.0).eq(changed));
        prop_assert!(parsed.entries.iter().map(|entry: &U32| entry.get()).all(|entry| entry != u32::MAX));
    }
}
