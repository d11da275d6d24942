//! Every field of every command, in the entry, both ways.
//!
//! Deliberate bugs that these must catch (tried by hand): FUA and LR swapped, NUMDL and NUMDU swapped, Abort's CID and SQID
//! swapped, Connect's SQSIZE taken as a count, a range past the last address let in, fused commands let in, the phase tag
//! forgotten, the data pointer not an SGL let in, a keyed descriptor's length of 32 bits.

use crate::{
    AdminCommand, Cid, Cntlid, CompletionQueueEntry, FabricsCommand, InvalidField, IoCommand, Nsid,
    ParameterErrorLocation, Qid, Sgl, SglDescriptor, Status, SubmissionQueueEntry, TooShort, U16, U32,
    ZeroBased,
    command::{
        Abort, AdminOpcode, Authentication, Cns, Compare, Connect, ConnectAttributes, DatasetManagement,
        DatasetManagementRange, Disconnect, FABRICS_OPCODE, FabricsCommandType, GetFeatures, GetLogPage,
        Identify, IoOpcode, LogicalBlocks, PropertyGet, PropertySet, PropertySize, Read, ReservationAcquire,
        ReservationRegister, ReservationRelease, ReservationReport, Select, SetFeatures, Write, WriteZeroes,
    },
    feature::FeatureIdentifier,
    log::LogPageIdentifier,
    reservation::{AcquireAction, PersistThroughPowerLoss, RegisterAction, ReleaseAction, ReservationType},
};
use proptest::prelude::*;

fields!(submission_queue_entry: SubmissionQueueEntry, 64 {
    0..1 opcode number,
    1..2 flags number,
    2..4 cid number,
    4..8 nsid number,
    8..12 cdw2 number,
    12..16 cdw3 number,
    16..24 mptr number,
    24..40 sgl bytes,
    40..44 cdw10 number,
    44..48 cdw11 number,
    48..52 cdw12 number,
    52..56 cdw13 number,
    56..60 cdw14 number,
    60..64 cdw15 number,
});

fields!(completion_queue_entry: CompletionQueueEntry, 16 {
    0..8 result number,
    8..10 sqhd number,
    10..12 sqid number,
    12..14 cid number,
    14..16 status number,
});

fields!(sgl_descriptor: SglDescriptor, 16 {
    0..8 address number,
    8..12 length number,
    12..15 reserved_12 bytes,
    15..16 identifier number,
});

fields!(dataset_management_range: DatasetManagementRange, 16 {
    0..4 context_attributes number,
    4..8 length number,
    8..16 slba number,
});

code_table!(admin_opcodes: AdminOpcode, u8 {
    0x00 DeleteIoSubmissionQueue,
    0x01 CreateIoSubmissionQueue,
    0x02 GetLogPage,
    0x04 DeleteIoCompletionQueue,
    0x05 CreateIoCompletionQueue,
    0x06 Identify,
    0x08 Abort,
    0x09 SetFeatures,
    0x0A GetFeatures,
    0x0C AsynchronousEventRequest,
    0x0D NamespaceManagement,
    0x10 FirmwareCommit,
    0x11 FirmwareImageDownload,
    0x14 DeviceSelfTest,
    0x15 NamespaceAttachment,
    0x18 KeepAlive,
    0x19 DirectiveSend,
    0x1A DirectiveReceive,
    0x80 FormatNvm,
    0x81 SecuritySend,
    0x82 SecurityReceive,
    0x84 Sanitize,
});

code_table!(io_opcodes: IoOpcode, u8 {
    0x00 Flush,
    0x01 Write,
    0x02 Read,
    0x04 WriteUncorrectable,
    0x05 Compare,
    0x08 WriteZeroes,
    0x09 DatasetManagement,
    0x0C Verify,
    0x0D ReservationRegister,
    0x0E ReservationReport,
    0x11 ReservationAcquire,
    0x15 ReservationRelease,
    0x19 Copy,
});

code_table!(fabrics_command_types: FabricsCommandType, u8 {
    0x00 PropertySet,
    0x01 Connect,
    0x04 PropertyGet,
    0x05 AuthenticationSend,
    0x06 AuthenticationReceive,
    0x08 Disconnect,
});

code_table!(cns: Cns, u8 {
    0x00 Namespace,
    0x01 Controller,
    0x02 ActiveNamespaceList,
    0x03 NamespaceIdentificationDescriptors,
    0x04 NvmSetList,
    0x05 CommandSetNamespace,
    0x06 CommandSetController,
    0x07 CommandSetActiveNamespaceList,
    0x08 IndependentNamespace,
    0x09 NamespaceUserDataFormat,
    0x0A CommandSetNamespaceUserDataFormat,
    0x10 AllocatedNamespaceList,
    0x11 AllocatedNamespace,
    0x12 NamespaceControllerList,
    0x13 ControllerList,
    0x14 PrimaryControllerCapabilities,
    0x15 SecondaryControllerList,
    0x16 NamespaceGranularityList,
    0x17 UuidList,
    0x18 DomainList,
    0x19 EnduranceGroupList,
    0x1A CommandSetAllocatedNamespaceList,
    0x1B CommandSetAllocatedNamespace,
    0x1C IoCommandSets,
});

code_table!(selects: Select, u8 {
    0 Current,
    1 Default,
    2 Saved,
    3 SupportedCapabilities,
});

code_table!(property_sizes: PropertySize, u8 {
    0 Four,
    1 Eight,
});

const CID: Cid = Cid(0x1234);

fn admin(command: AdminCommand) -> SubmissionQueueEntry {
    let entry = command.encode(CID, Sgl::NONE);
    assert_eq!(AdminCommand::parse(&entry), Ok(command));
    entry
}

fn fabrics(command: FabricsCommand) -> SubmissionQueueEntry {
    let entry = command.encode(CID, Sgl::NONE);
    assert_eq!(FabricsCommand::parse(&entry), Ok(command));
    entry
}

fn io(command: IoCommand) -> SubmissionQueueEntry {
    let entry = command.encode(CID, Nsid(1), Sgl::NONE);
    assert_eq!(IoCommand::parse(&entry), Ok(command));
    entry
}

/// A command: rows `field = value => dword low..high raw`. Each row changes one field of `base`; the entry changes in those
/// bits only, and is read back from them.
macro_rules! command_fields {
    ($test:ident: $through:expr, $base:expr, {
        $($($field:ident).+ = $value:expr => $dword:literal $low:literal..$high:literal $raw:expr,)+
    }) => {
        #[test]
        fn $test() {
            let encode = $through;
            let base = little_endian_bits(&encode($base));
            $({
                let mut command = $base;
                assert_ne!(command.$($field).+, $value, "a row says something else than the base");
                command.$($field).+ = $value;
                let place = $dword * 32 + $low;
                let mut expected = base.clone();
                for bit in 0..$high - $low {
                    expected[place + bit] = ($raw as u128) >> bit & 1 == 1;
                }
                assert_eq!(little_endian_bits(&encode(command)), expected, "{}", stringify!($($field).+));
            })+
        }
    };
}

/// The entry's 512 bits, as the specification numbers them.
fn little_endian_bits(entry: &SubmissionQueueEntry) -> Vec<bool> {
    let bytes = entry.as_bytes().iter();
    bytes
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1))
        .collect()
}

command_fields!(identify_fields: |command| admin(AdminCommand::Identify(command)), Identify::new(Cns::Namespace, Nsid(1)), {
    cns = Cns::IoCommandSets => 10 0..8 0x1C,
    nsid = Nsid(0x0102_0304) => 1 0..32 0x0102_0304,
    cntid = Cntlid(0x0506) => 10 16..32 0x0506,
    cns_specific_identifier = 0x0708 => 11 0..16 0x0708,
    csi = 0x09 => 11 24..32 0x09,
    uuid_index = 0x7F => 14 0..7 0x7F,
});

command_fields!(get_log_page_fields: |command| admin(AdminCommand::GetLogPage(command)),
    GetLogPage::new(LogPageIdentifier::SupportedLogPages, Nsid(1), 0, 4), {
    lid = LogPageIdentifier::Discovery => 10 0..8 0x70,
    nsid = Nsid::ALL => 1 0..32 0xFFFF_FFFFu32,
    lsp = 0x7F => 10 8..15 0x7F,
    retain_asynchronous_event = true => 10 15..16 1,
    numd = ZeroBased::<u32>::from_raw(0x0000_FFFF) => 10 16..32 0xFFFF,
    numd = ZeroBased::<u32>::from_raw(0xABCD_0000) => 11 0..16 0xABCD,
    lsi = 0x0102 => 11 16..32 0x0102,
    offset = 0x0102_0304_0506_0708 => 12 0..64 0x0102_0304_0506_0708u64,
    uuid_index = 0x7F => 14 0..7 0x7F,
    offset_is_index = true => 14 23..24 1,
    csi = 0x02 => 14 24..32 0x02,
});

command_fields!(get_features_fields: |command| admin(AdminCommand::GetFeatures(command)),
    GetFeatures::new(FeatureIdentifier::Arbitration), {
    fid = FeatureIdentifier::HostIdentifier => 10 0..8 0x81,
    nsid = Nsid(2) => 1 0..32 2,
    select = Select::SupportedCapabilities => 10 8..11 3,
    cdw11 = 0x0102_0304 => 11 0..32 0x0102_0304,
    uuid_index = 0x7F => 14 0..7 0x7F,
});

command_fields!(set_features_fields: |command| admin(AdminCommand::SetFeatures(command)),
    SetFeatures::new(FeatureIdentifier::Arbitration, 0), {
    fid = FeatureIdentifier::NumberOfQueues => 10 0..8 0x07,
    nsid = Nsid(2) => 1 0..32 2,
    save = true => 10 31..32 1,
    cdw11 = 0x0102_0304 => 11 0..32 0x0102_0304,
    cdw12 = 0x0102_0304 => 12 0..32 0x0102_0304,
    cdw13 = 0x0102_0304 => 13 0..32 0x0102_0304,
    cdw14 = 0x0102_0304 => 14 0..32 0x0102_0304,
    cdw15 = 0x0102_0304 => 15 0..32 0x0102_0304,
});

command_fields!(abort_fields: |command| admin(AdminCommand::Abort(command)), Abort { sqid: Qid(0), cid: Cid(0) }, {
    sqid = Qid(0x0102) => 10 0..16 0x0102,
    cid = Cid(0x0304) => 10 16..32 0x0304,
});

const CONNECT: Connect = Connect {
    qid: Qid(0),
    sqsize: ZeroBased::<u16>::from_raw(1),
    attributes: ConnectAttributes {
        priority: 0,
        disable_sq_flow_control: false,
        individual_queue_deletion: false,
    },
    kato_ms: 0,
};

command_fields!(connect_fields: |command| fabrics(FabricsCommand::Connect(command)), CONNECT, {
    qid = Qid(0x0102) => 10 16..32 0x0102,
    sqsize = ZeroBased::<u16>::from_raw(0x7F) => 11 0..16 0x7F,
    attributes.priority = 3 => 11 16..18 3,
    attributes.disable_sq_flow_control = true => 11 18..19 1,
    attributes.individual_queue_deletion = true => 11 19..20 1,
    kato_ms = 0x0102_0304 => 12 0..32 0x0102_0304,
});

command_fields!(property_get_fields: |command| fabrics(FabricsCommand::PropertyGet(command)),
    PropertyGet { size: PropertySize::Four, offset: 0 }, {
    size = PropertySize::Eight => 10 0..3 1,
    offset = 0x0102_0304 => 11 0..32 0x0102_0304,
});

command_fields!(property_set_fields: |command| fabrics(FabricsCommand::PropertySet(command)),
    PropertySet { size: PropertySize::Four, offset: 0, value: 0 }, {
    size = PropertySize::Eight => 10 0..3 1,
    offset = 0x0102_0304 => 11 0..32 0x0102_0304,
    value = 0x0102_0304_0506_0708 => 12 0..64 0x0102_0304_0506_0708u64,
});

command_fields!(authentication_send_fields: |command| fabrics(FabricsCommand::AuthenticationSend(command)),
    Authentication { specific: 0, protocol: 0, length: 0 }, {
    specific = 0x0102 => 10 8..24 0x0102,
    protocol = 0xE9 => 10 24..32 0xE9,
    length = 0x0102_0304 => 11 0..32 0x0102_0304,
});

command_fields!(authentication_receive_fields: |command| fabrics(FabricsCommand::AuthenticationReceive(command)),
    Authentication { specific: 0, protocol: 0, length: 0 }, {
    specific = 0x0102 => 10 8..24 0x0102,
    protocol = 0xE9 => 10 24..32 0xE9,
    length = 0x0102_0304 => 11 0..32 0x0102_0304,
});

const BLOCKS: LogicalBlocks = LogicalBlocks::new(0, ZeroBased::<u16>::from_raw(0));

command_fields!(read_fields: |command| io(IoCommand::Read(command)), Read { blocks: BLOCKS, dataset_management: 0 }, {
    blocks.slba = 0x0102_0304_0506_0708 => 10 0..64 0x0102_0304_0506_0708u64,
    blocks.nlb = ZeroBased::<u16>::from_raw(0xFFFF) => 12 0..16 0xFFFF,
    blocks.storage_tag_check = true => 12 24..25 1,
    blocks.protection_information = 0xF => 12 26..30 0xF,
    blocks.force_unit_access = true => 12 30..31 1,
    blocks.limited_retry = true => 12 31..32 1,
    dataset_management = 0xFF => 13 0..8 0xFF,
});

command_fields!(write_fields: |command| io(IoCommand::Write(command)), Write::new(BLOCKS), {
    blocks.slba = 0x0102_0304_0506_0708 => 10 0..64 0x0102_0304_0506_0708u64,
    blocks.nlb = ZeroBased::<u16>::from_raw(0xFFFF) => 12 0..16 0xFFFF,
    directive_type = 0xF => 12 20..24 0xF,
    blocks.storage_tag_check = true => 12 24..25 1,
    blocks.protection_information = 0xF => 12 26..30 0xF,
    blocks.force_unit_access = true => 12 30..31 1,
    blocks.limited_retry = true => 12 31..32 1,
    dataset_management = 0xFF => 13 0..8 0xFF,
    directive_specific = 0x0102 => 13 16..32 0x0102,
});

command_fields!(compare_fields: |command| io(IoCommand::Compare(command)), Compare { blocks: BLOCKS }, {
    blocks.slba = 0x0102_0304_0506_0708 => 10 0..64 0x0102_0304_0506_0708u64,
    blocks.nlb = ZeroBased::<u16>::from_raw(0xFFFF) => 12 0..16 0xFFFF,
    blocks.storage_tag_check = true => 12 24..25 1,
    blocks.protection_information = 0xF => 12 26..30 0xF,
    blocks.force_unit_access = true => 12 30..31 1,
    blocks.limited_retry = true => 12 31..32 1,
});

command_fields!(write_zeroes_fields: |command| io(IoCommand::WriteZeroes(command)),
    WriteZeroes { blocks: BLOCKS, deallocate: false, namespace_zeroes: false }, {
    blocks.slba = 0x0102_0304_0506_0708 => 10 0..64 0x0102_0304_0506_0708u64,
    blocks.nlb = ZeroBased::<u16>::from_raw(0xFFFF) => 12 0..16 0xFFFF,
    namespace_zeroes = true => 12 23..24 1,
    blocks.storage_tag_check = true => 12 24..25 1,
    deallocate = true => 12 25..26 1,
    blocks.protection_information = 0xF => 12 26..30 0xF,
    blocks.force_unit_access = true => 12 30..31 1,
    blocks.limited_retry = true => 12 31..32 1,
});

const DATASET_MANAGEMENT: DatasetManagement = DatasetManagement {
    ranges: ZeroBased::<u8>::from_raw(0),
    integral_for_read: false,
    integral_for_write: false,
    deallocate: false,
};

command_fields!(dataset_management_fields: |command| io(IoCommand::DatasetManagement(command)), DATASET_MANAGEMENT, {
    ranges = ZeroBased::<u8>::from_raw(0xFF) => 10 0..8 0xFF,
    integral_for_read = true => 11 0..1 1,
    integral_for_write = true => 11 1..2 1,
    deallocate = true => 11 2..3 1,
});

const REGISTER: ReservationRegister = ReservationRegister {
    action: RegisterAction::Register,
    ignore_existing_key: false,
    persist_through_power_loss: PersistThroughPowerLoss::NoChange,
};

command_fields!(reservation_register_fields: |command| io(IoCommand::ReservationRegister(command)), REGISTER, {
    action = RegisterAction::Replace => 10 0..3 2,
    ignore_existing_key = true => 10 3..4 1,
    persist_through_power_loss = PersistThroughPowerLoss::Persist => 10 30..32 3,
});

const ACQUIRE: ReservationAcquire = ReservationAcquire {
    action: AcquireAction::Acquire,
    ignore_existing_key: false,
    reservation_type: ReservationType::WriteExclusive,
};

command_fields!(reservation_acquire_fields: |command| io(IoCommand::ReservationAcquire(command)), ACQUIRE, {
    action = AcquireAction::PreemptAndAbort => 10 0..3 2,
    ignore_existing_key = true => 10 3..4 1,
    reservation_type = ReservationType::ExclusiveAccessRegistrantsOnly => 10 8..16 4,
});

const RELEASE: ReservationRelease = ReservationRelease {
    action: ReleaseAction::Release,
    ignore_existing_key: false,
    reservation_type: None,
};

command_fields!(reservation_release_fields: |command| io(IoCommand::ReservationRelease(command)), RELEASE, {
    action = ReleaseAction::Clear => 10 0..3 1,
    ignore_existing_key = true => 10 3..4 1,
    reservation_type = Some(ReservationType::ExclusiveAccessAllRegistrants) => 10 8..16 6,
});

command_fields!(reservation_report_fields: |command| io(IoCommand::ReservationReport(command)),
    ReservationReport { numd: ZeroBased::<u32>::from_raw(0), extended: false }, {
    numd = ZeroBased::<u32>::from_raw(0x0102_0304) => 10 0..32 0x0102_0304,
    extended = true => 11 0..1 1,
});

#[test]
fn what_all_entries_say() {
    let transport = Sgl::Transport { length: 0x0708_090A };
    let entries = [
        (AdminCommand::KeepAlive.encode(CID, transport), 0x18, 0),
        (
            AdminCommand::AsynchronousEventRequest.encode(CID, transport),
            0x0C,
            0,
        ),
        (
            FabricsCommand::Disconnect(Disconnect).encode(CID, transport),
            0x7F,
            8,
        ),
        (FabricsCommand::Connect(CONNECT).encode(CID, transport), 0x7F, 1),
        (IoCommand::Flush.encode(CID, Nsid(5), transport), 0x00, 5),
    ];
    for (entry, opcode, fifth) in entries {
        let bytes = entry.to_bytes();
        assert_eq!(bytes[..8], [opcode, 0x40, 0x34, 0x12, fifth, 0, 0, 0]);
        assert_eq!(bytes[8..24], [0; 16]);
        assert_eq!(
            bytes[24..40],
            [0, 0, 0, 0, 0, 0, 0, 0, 0x0A, 9, 8, 7, 0, 0, 0, 0x5A]
        );
        assert_eq!(entry.cid(), CID);
    }
    admin(AdminCommand::KeepAlive);
    admin(AdminCommand::AsynchronousEventRequest);
    fabrics(FabricsCommand::Disconnect(Disconnect));
    io(IoCommand::Flush);
}

#[test]
fn which_way_the_data_goes() {
    let to_controller = |entry: SubmissionQueueEntry| entry.transfers_to_controller();
    assert!(to_controller(io(IoCommand::Write(Write::new(BLOCKS)))));
    assert!(to_controller(io(IoCommand::ReservationAcquire(ACQUIRE))));
    assert!(to_controller(fabrics(FabricsCommand::Connect(CONNECT))));
    assert!(to_controller(admin(AdminCommand::SetFeatures(SetFeatures::new(
        FeatureIdentifier::HostIdentifier,
        1
    )))));
    assert!(!to_controller(admin(AdminCommand::Identify(Identify::new(
        Cns::Controller,
        Nsid::NONE
    )))));
    assert!(!to_controller(io(IoCommand::Flush)));
}

/// A row: where a good entry is spoilt, and the refusal.
type Spoilt = (fn(&mut SubmissionQueueEntry), Status, u8, u8);

fn check_refusals<T: core::fmt::Debug + PartialEq>(
    good: SubmissionQueueEntry,
    parse: fn(&SubmissionQueueEntry) -> Result<T, InvalidField>,
    rows: &[Spoilt],
) {
    assert!(parse(&good).is_ok());
    for (index, (spoil, status, byte, bit)) in rows.iter().enumerate() {
        let mut entry = good;
        spoil(&mut entry);
        assert_eq!(
            parse(&entry),
            Err(InvalidField::with(*status, *byte, *bit)),
            "row {index}"
        );
    }
}

#[test]
fn admin_commands_that_are_refused() {
    let identify = admin(AdminCommand::Identify(Identify::new(Cns::Namespace, Nsid(1))));
    check_refusals(
        identify,
        AdminCommand::parse,
        &[
            (|entry| entry.flags |= 1, Status::INVALID_FIELD, 1, 0),
            (|entry| entry.flags |= 2, Status::INVALID_FIELD, 1, 0),
            (|entry| entry.flags = 0x00, Status::INVALID_FIELD, 1, 6),
            (|entry| entry.flags = 0x80, Status::INVALID_FIELD, 1, 6),
            (|entry| entry.flags = 0xC0, Status::INVALID_FIELD, 1, 6),
            (|entry| entry.opcode = 0x03, Status::INVALID_OPCODE, 0, 0),
            (|entry| entry.opcode = 0x01, Status::INVALID_OPCODE, 0, 0),
            (|entry| entry.opcode = 0x7F, Status::INVALID_OPCODE, 0, 0),
            (|entry| entry.cdw10 = U32::new(0xFF), Status::INVALID_FIELD, 40, 0),
        ],
    );
    let page = GetLogPage::new(LogPageIdentifier::ErrorInformation, Nsid::ALL, 0, 64);
    check_refusals(
        admin(AdminCommand::GetLogPage(page)),
        AdminCommand::parse,
        &[
            (
                |entry| entry.cdw10 = U32::new(0xC0),
                Status::INVALID_LOG_PAGE,
                40,
                0,
            ),
            (|entry| entry.cdw12 = U32::new(2), Status::INVALID_FIELD, 48, 0),
        ],
    );
    let feature = GetFeatures::new(FeatureIdentifier::NumberOfQueues);
    check_refusals(
        admin(AdminCommand::GetFeatures(feature)),
        AdminCommand::parse,
        &[
            (|entry| entry.cdw10 = U32::new(0x00), Status::INVALID_FIELD, 40, 0),
            (
                |entry| entry.cdw10 = U32::new(0x407),
                Status::INVALID_FIELD,
                41,
                0,
            ),
        ],
    );
    let feature = SetFeatures::new(FeatureIdentifier::NumberOfQueues, 0);
    check_refusals(
        admin(AdminCommand::SetFeatures(feature)),
        AdminCommand::parse,
        &[(|entry| entry.cdw10 = U32::new(0xC0), Status::INVALID_FIELD, 40, 0)],
    );
}

#[test]
fn fabrics_commands_that_are_refused() {
    check_refusals(
        fabrics(FabricsCommand::Connect(CONNECT)),
        FabricsCommand::parse,
        &[
            (|entry| entry.flags |= 1, Status::INVALID_FIELD, 1, 0),
            (|entry| entry.flags = 0, Status::INVALID_FIELD, 1, 6),
            (|entry| entry.opcode = 0x06, Status::INVALID_OPCODE, 0, 0),
            (|entry| entry.nsid = U32::new(2), Status::INVALID_OPCODE, 4, 0),
            (
                |entry| entry.cdw10 = U32::new(1),
                Status::CONNECT_INCOMPATIBLE_FORMAT,
                40,
                0,
            ),
            (
                |entry| entry.cdw11 = U32::new(0),
                Status::CONNECT_INVALID_PARAMETERS,
                44,
                0,
            ),
        ],
    );
    let property_get = PropertyGet {
        size: PropertySize::Four,
        offset: 0x1C,
    };
    check_refusals(
        fabrics(FabricsCommand::PropertyGet(property_get)),
        FabricsCommand::parse,
        &[(|entry| entry.cdw10 = U32::new(2), Status::INVALID_FIELD, 40, 0)],
    );
    let property_set = PropertySet {
        size: PropertySize::Four,
        offset: 0x14,
        value: 0,
    };
    check_refusals(
        fabrics(FabricsCommand::PropertySet(property_set)),
        FabricsCommand::parse,
        &[(|entry| entry.cdw10 = U32::new(7), Status::INVALID_FIELD, 40, 0)],
    );
    check_refusals(
        fabrics(FabricsCommand::Disconnect(Disconnect)),
        FabricsCommand::parse,
        &[(
            |entry| entry.cdw10 = U32::new(1),
            Status::CONNECT_INCOMPATIBLE_FORMAT,
            40,
            0,
        )],
    );
}

#[test]
fn io_commands_that_are_refused() {
    check_refusals(
        io(IoCommand::Write(Write::new(BLOCKS))),
        IoCommand::parse,
        &[
            (|entry| entry.flags |= 2, Status::INVALID_FIELD, 1, 0),
            (|entry| entry.flags = 0, Status::INVALID_FIELD, 1, 6),
            (|entry| entry.opcode = 0xFF, Status::INVALID_OPCODE, 0, 0),
            (|entry| entry.opcode = 0x04, Status::INVALID_OPCODE, 0, 0),
            (
                |entry| (entry.cdw10, entry.cdw11) = (U32::new(u32::MAX), U32::new(u32::MAX)),
                Status::LBA_OUT_OF_RANGE,
                40,
                0,
            ),
        ],
    );
    check_refusals(
        io(IoCommand::ReservationRegister(REGISTER)),
        IoCommand::parse,
        &[
            (|entry| entry.cdw10 = U32::new(3), Status::INVALID_FIELD, 40, 0),
            (
                |entry| entry.cdw10 = U32::new(1 << 30),
                Status::INVALID_FIELD,
                43,
                6,
            ),
        ],
    );
    check_refusals(
        io(IoCommand::ReservationAcquire(ACQUIRE)),
        IoCommand::parse,
        &[
            (
                |entry| entry.cdw10 = U32::new(0x103),
                Status::INVALID_FIELD,
                40,
                0,
            ),
            (
                |entry| entry.cdw10 = U32::new(0x000),
                Status::INVALID_FIELD,
                41,
                0,
            ),
            (
                |entry| entry.cdw10 = U32::new(0x700),
                Status::INVALID_FIELD,
                41,
                0,
            ),
        ],
    );
    check_refusals(
        io(IoCommand::ReservationRelease(RELEASE)),
        IoCommand::parse,
        &[
            (|entry| entry.cdw10 = U32::new(2), Status::INVALID_FIELD, 40, 0),
            (
                |entry| entry.cdw10 = U32::new(0x700),
                Status::INVALID_FIELD,
                41,
                0,
            ),
        ],
    );
}

#[test]
fn ranges_up_to_the_last_address() {
    let read = |slba, raw| {
        let blocks = LogicalBlocks::new(slba, ZeroBased::<u16>::from_raw(raw));
        let read = IoCommand::Read(Read {
            blocks,
            dataset_management: 0,
        });
        IoCommand::parse(&read.encode(CID, Nsid(1), Sgl::NONE)).map_err(|error| error.status)
    };
    assert!(read(u64::MAX - 1, 0).is_ok());
    assert_eq!(
        read(u64::MAX - 1, 1),
        Err(Status::LBA_OUT_OF_RANGE.do_not_retry())
    );
    assert_eq!(read(u64::MAX, 0), Err(Status::LBA_OUT_OF_RANGE.do_not_retry()));
    assert_eq!(BLOCKS.count(), 1);
}

#[test]
fn lengths_that_commands_ask_for() {
    let page = GetLogPage::new(LogPageIdentifier::Discovery, Nsid::NONE, 1024, 4096);
    assert_eq!(
        (page.length_bytes(), page.numd.raw, page.offset),
        (4096, 1023, 1024)
    );
    let all = GetLogPage {
        numd: ZeroBased::<u32>::from_raw(u32::MAX),
        ..page
    };
    assert_eq!(all.length_bytes(), 1 << 34);
    let by_index = GetLogPage {
        offset: 3,
        offset_is_index: true,
        ..page
    };
    admin(AdminCommand::GetLogPage(by_index));
    let report = ReservationReport {
        numd: ZeroBased::<u32>::from_raw(5),
        extended: false,
    };
    assert_eq!(report.length_bytes(), 24);
    assert_eq!(DATASET_MANAGEMENT.data_length(), 16);
    let most = DatasetManagement {
        ranges: ZeroBased::<u8>::from_raw(255),
        ..DATASET_MANAGEMENT
    };
    assert_eq!(
        most.data_length() as usize,
        DatasetManagement::MAX_RANGES * DatasetManagementRange::SIZE
    );
    let range = DatasetManagementRange::new(0x0102, 3);
    assert_eq!(range.to_bytes(), [0, 0, 0, 0, 3, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_log_page_is_read_by_the_dword() {
    let odd = std::panic::catch_unwind(|| GetLogPage::new(LogPageIdentifier::Discovery, Nsid::NONE, 0, 6));
    let nothing =
        std::panic::catch_unwind(|| GetLogPage::new(LogPageIdentifier::Discovery, Nsid::NONE, 0, 0));
    assert!(odd.is_err() && nothing.is_err());
}

#[test]
fn where_an_error_is() {
    let rows = [(40, 0, 0x0028), (1, 6, 0x0601), (63, 7, 0x073F)];
    for (byte, bit, encoded) in rows {
        let location = ParameterErrorLocation { byte, bit };
        assert_eq!(location.encode(), encoded);
        assert_eq!(ParameterErrorLocation::parse(encoded), Some(location));
    }
    assert_eq!(ParameterErrorLocation::parse(ParameterErrorLocation::NONE), None);
    assert_eq!(
        ParameterErrorLocation::byte(9),
        ParameterErrorLocation { byte: 9, bit: 0 }
    );
    let refusal = InvalidField::with(Status::INVALID_FIELD, 43, 6);
    assert_eq!(
        refusal.to_string(),
        "invalid field in command (0h/02h, do not retry) at byte 43, bit 6"
    );
    assert_eq!(refusal.result(), 0);
    assert_eq!(
        InvalidField::with(Status::CONNECT_INVALID_PARAMETERS, 44, 0).result(),
        44
    );
}

#[test]
fn sgls_by_their_bytes() {
    let keyed = |invalidate| Sgl::Keyed {
        address: 0x0102_0304_0506_0708,
        length: 0x000A_0B0C,
        key: 0x1112_1314,
        invalidate,
    };
    let in_capsule = Sgl::InCapsule {
        offset: 0x0102,
        length: 4096,
    };
    let rows = [
        (in_capsule, [2, 1, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0x01]),
        (
            Sgl::Transport { length: 4096 },
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0x5A],
        ),
        (
            keyed(false),
            [
                8, 7, 6, 5, 4, 3, 2, 1, 0x0C, 0x0B, 0x0A, 0x14, 0x13, 0x12, 0x11, 0x40,
            ],
        ),
        (
            keyed(true),
            [
                8, 7, 6, 5, 4, 3, 2, 1, 0x0C, 0x0B, 0x0A, 0x14, 0x13, 0x12, 0x11, 0x4F,
            ],
        ),
    ];
    for (sgl, bytes) in rows {
        assert_eq!(SglDescriptor::from(sgl).to_bytes(), bytes);
        assert_eq!(Sgl::parse(&SglDescriptor::from_bytes(bytes)), Ok(sgl));
    }
    assert_eq!(
        [in_capsule, Sgl::NONE, keyed(true)].map(Sgl::length),
        [4096, 0, 0x000A_0B0C]
    );
    let refusal = InvalidField::with(Status::SGL_DESCRIPTOR_TYPE_INVALID, 39, 0);
    for identifier in [0x00, 0x0A, 0x10, 0x20, 0x30, 0x41, 0x50, 0x5B, 0xF0] {
        let descriptor = SglDescriptor {
            identifier,
            ..SglDescriptor::default()
        };
        assert_eq!(Sgl::parse(&descriptor), Err(refusal), "{identifier:02x}");
    }
}

#[test]
fn a_completion_by_its_bytes() {
    let status = Status::ANA_INACCESSIBLE.with_more();
    let entry = CompletionQueueEntry::new(CID, status, 0x0102_0304_0506_0708).with_queue(Qid(5), 0x0607);
    let bytes = [8, 7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 0, 0x34, 0x12, 0x04, 0x46];
    assert_eq!(entry.to_bytes(), bytes);
    assert_eq!((entry.cid(), entry.status()), (CID, status));
    assert_eq!((entry.dword0(), entry.dword1()), (0x0506_0708, 0x0102_0304));
    let with_phase = CompletionQueueEntry {
        status: U16::new(entry.status.get() | 1),
        ..entry
    };
    assert_eq!(
        with_phase.status(),
        status,
        "the phase tag is no part of the status"
    );
}

#[test]
fn entries_from_too_few_bytes() {
    let too_short = TooShort {
        needed_bytes: 64,
        got_bytes: 63,
    };
    assert_eq!(SubmissionQueueEntry::parse(&[0; 63]), Err(too_short));
    assert_eq!(too_short.to_string(), "63 bytes where 64 are needed");
    assert_eq!(
        SubmissionQueueEntry::parse(&[0; 65]),
        Ok(SubmissionQueueEntry::default())
    );
}

#[test]
fn the_connect_that_a_linux_host_sends() {
    let mut bytes = [0; 64];
    bytes[..5].copy_from_slice(&[0x7F, 0x40, 0, 0, 1]);
    bytes[24..40].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0x01]);
    bytes[42..52].copy_from_slice(&[0, 0, 31, 0, 0, 0, 0x98, 0x3A, 0, 0]);
    let entry = SubmissionQueueEntry::from_bytes(bytes);
    let connect = Connect {
        sqsize: ZeroBased::<u16>::from_count(32).unwrap(),
        kato_ms: 15_000,
        ..CONNECT
    };
    assert_eq!(
        FabricsCommand::parse(&entry),
        Ok(FabricsCommand::Connect(connect))
    );
    let in_capsule = Sgl::InCapsule {
        offset: 0,
        length: 1024,
    };
    assert_eq!(Sgl::parse(&entry.sgl), Ok(in_capsule));
    assert_eq!(FabricsCommand::Connect(connect).encode(Cid(0), in_capsule), entry);
}

/// Entries that are mostly good: a known opcode or type, good flags, small codes.
fn entries(opcodes: &'static [u8]) -> impl Strategy<Value = SubmissionQueueEntry> {
    let parts = (
        any::<[u8; 64]>(),
        proptest::sample::select(opcodes),
        any::<[bool; 3]>(),
        0..0x90u8,
        0..8u8,
    );
    parts.prop_map(|(bytes, opcode, tame, code, high)| {
        let mut entry = SubmissionQueueEntry::from_bytes(bytes);
        entry.opcode = opcode;
        if tame[0] {
            entry.flags = SubmissionQueueEntry::FLAGS_SGL;
        }
        if tame[1] {
            entry.cdw10 = U32::new(u32::from(high) << 8 | u32::from(code));
            entry.nsid = U32::new(u32::from(code & 0xF));
        }
        if tame[2] {
            entry.cdw12 = U32::new(entry.cdw12.get() & !3);
        }
        entry
    })
}

proptest! {
    #[test]
    fn any_admin_entry_is_a_command_or_refused(entry in entries(&[2, 6, 8, 9, 0x0A, 0x0C, 0x18, 0x7F])) {
        if let Ok(command) = AdminCommand::parse(&entry) {
            let encoded = command.encode(entry.cid(), Sgl::NONE);
            prop_assert_eq!(AdminCommand::parse(&encoded), Ok(command));
            prop_assert_eq!(AdminOpcode::from_code(entry.opcode), Some(command.opcode()));
        }
    }

    #[test]
    fn any_fabrics_entry_is_a_command_or_refused(entry in entries(&[0x7F])) {
        if let Ok(command) = FabricsCommand::parse(&entry) {
            let encoded = command.encode(entry.cid(), Sgl::NONE);
            prop_assert_eq!(FabricsCommand::parse(&encoded), Ok(command));
            prop_assert_eq!(encoded.opcode, FABRICS_OPCODE);
        }
    }

    #[test]
    fn any_io_entry_is_a_command_or_refused(entry in entries(&[0, 1, 2, 5, 8, 9, 0x0D, 0x0E, 0x11, 0x15])) {
        if let Ok(command) = IoCommand::parse(&entry) {
            let encoded = command.encode(entry.cid(), entry.nsid(), Sgl::NONE);
            prop_assert_eq!(IoCommand::parse(&encoded), Ok(command));
            prop_assert_eq!(IoOpcode::from_code(entry.opcode), Some(command.opcode()));
        }
    }

    #[test]
    fn any_bytes_are_an_entry(bytes in proptest::array::uniform32(any::<[u8; 2]>())) {
        let entry = SubmissionQueueEntry::from_bytes(bytes.as_flattened().try_into().unwrap());
        let _ = (AdminCommand::parse(&entry), FabricsCommand::parse(&entry), IoCommand::parse(&entry));
        prop_assert_eq!(entry.with_dwords(entry.dwords()), entry);
        if let Ok(sgl) = Sgl::parse(&entry.sgl) {
            prop_assert_eq!(Sgl::parse(&sgl.encode()), Ok(sgl));
        }
    }
}
