//! Every field of every command, in the entry, both ways.

use super::*;

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

command_fields!(dataset_management_fields: |command| io(IoCommand::DatasetManagement(command)), DATASET_MANAGEMENT, {
    ranges = ZeroBased::<u8>::from_raw(0xFF) => 10 0..8 0xFF,
    integral_for_read = true => 11 0..1 1,
    integral_for_write = true => 11 1..2 1,
    deallocate = true => 11 2..3 1,
});

command_fields!(reservation_register_fields: |command| io(IoCommand::ReservationRegister(command)), REGISTER, {
    action = RegisterAction::Replace => 10 0..3 2,
    ignore_existing_key = true => 10 3..4 1,
    persist_through_power_loss = PersistThroughPowerLoss::Persist => 10 30..32 3,
});

command_fields!(reservation_acquire_fields: |command| io(IoCommand::ReservationAcquire(command)), ACQUIRE, {
    action = AcquireAction::PreemptAndAbort => 10 0..3 2,
    ignore_existing_key = true => 10 3..4 1,
    reservation_type = ReservationType::ExclusiveAccessRegistrantsOnly => 10 8..16 4,
});

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
