//! Properties: every bit field, both ways.

use crate::{
    command::PropertySize,
    property::{
        Capabilities, Configuration, ControllerStatus, Property, ReadyTimeouts, SUBSYSTEM_RESET,
        ShutdownNotification, ShutdownStatus, Version,
    },
};
use proptest::prelude::*;

code_table!(offsets: Property, u32 {
    0x00 ControllerCapabilities,
    0x08 Version,
    0x14 ControllerConfiguration,
    0x1C ControllerStatus,
    0x20 NvmSubsystemReset,
    0x64 NvmSubsystemShutdown,
    0x68 ControllerReadyTimeouts,
});

#[test]
fn only_the_capabilities_are_eight_bytes() {
    for property in Property::ALL {
        let eight = *property == Property::ControllerCapabilities;
        assert_eq!(property.size() == PropertySize::Eight, eight, "{property}");
    }
}

bit_fields!(capabilities: Capabilities, u64 {
    max_queue_entries = 0xFFFF => 0..16 0xFFFF,
    contiguous_queues_required = true => 16..17 1,
    arbitration_mechanisms = 3 => 17..19 3,
    timeout_500ms = 0xFF => 24..32 0xFF,
    doorbell_stride = 0xF => 32..36 0xF,
    subsystem_reset = true => 36..37 1,
    command_sets = 0xFF => 37..45 0xFF,
    boot_partition = true => 45..46 1,
    power_scope = 3 => 46..48 3,
    memory_page_size_min = 0xF => 48..52 0xF,
    memory_page_size_max = 0xF => 52..56 0xF,
    persistent_memory_region = true => 56..57 1,
    controller_memory_buffer = true => 57..58 1,
    subsystem_shutdown = true => 58..59 1,
    ready_with_media = true => 59..60 1,
    ready_independent_of_media = true => 60..61 1,
    subsystem_shutdown_enhancements = true => 61..62 1,
});

bit_fields!(version: Version, u32 {
    tertiary = 0xFF => 0..8 0xFF,
    minor = 0xFF => 8..16 0xFF,
    major = 0xFFFF => 16..32 0xFFFF,
});

code_table!(shutdown_notifications: ShutdownNotification, u8 {
    0 None,
    1 Normal,
    2 Abrupt,
    3 Reserved,
});

bit_fields!(configuration: Configuration, u32 {
    enable = true => 0..1 1,
    command_set = 7 => 4..7 7,
    memory_page_size = 0xF => 7..11 0xF,
    arbitration_mechanism = 7 => 11..14 7,
    shutdown_notification = ShutdownNotification::Abrupt => 14..16 2,
    io_submission_queue_entry_size = 0xF => 16..20 0xF,
    io_completion_queue_entry_size = 0xF => 20..24 0xF,
    ready_independent_of_media = true => 24..25 1,
});

code_table!(shutdown_statuses: ShutdownStatus, u8 {
    0 Normal,
    1 Occurring,
    2 Complete,
    3 Reserved,
});

bit_fields!(controller_status: ControllerStatus, u32 {
    ready = true => 0..1 1,
    fatal = true => 1..2 1,
    shutdown_status = ShutdownStatus::Complete => 2..4 2,
    subsystem_reset_occurred = true => 4..5 1,
    processing_paused = true => 5..6 1,
    subsystem_shutdown = true => 6..7 1,
});

bit_fields!(ready_timeouts: ReadyTimeouts, u32 {
    with_media_500ms = 0xFFFF => 0..16 0xFFFF,
    independent_of_media_500ms = 0xFFFF => 16..32 0xFFFF,
});

#[test]
fn values_that_hosts_and_controllers_use() {
    assert_eq!(Version::V2_1.encode(), 0x0002_0100);
    assert_eq!(Version::V2_1.to_string(), "2.1.0");
    assert_eq!(
        Configuration::ENABLE.encode(),
        0x0046_0001,
        "what a Linux host writes"
    );
    assert_eq!(
        (
            Capabilities::CSS_NVM,
            Capabilities::CSS_IO_COMMAND_SETS,
            Capabilities::CSS_NONE
        ),
        (0x01, 0x40, 0x80)
    );
    assert_eq!((Configuration::CSS_ALL, Configuration::CSS_ADMIN_ONLY), (6, 7));
    assert_eq!(SUBSYSTEM_RESET.to_be_bytes(), *b"NVMe");
    assert!(!Configuration::default().enable && !ControllerStatus::default().ready);
}

proptest! {
    #[test]
    fn any_number_is_a_property(number: u64) {
        let capabilities = Capabilities::parse(number);
        prop_assert_eq!(Capabilities::parse(capabilities.encode()), capabilities);
        let configuration = Configuration::parse(number as u32);
        prop_assert_eq!(Configuration::parse(configuration.encode()), configuration);
        let status = ControllerStatus::parse(number as u32);
        prop_assert_eq!(ControllerStatus::parse(status.encode()), status);
    }
}
