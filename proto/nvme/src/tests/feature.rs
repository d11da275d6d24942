//! Features: identifiers, and every bit field, both ways.

use crate::{
    InvalidField, ZeroBased,
    feature::{
        Arbitration, ErrorRecovery, FeatureIdentifier, HostBehaviorSupportData, HostIdentifier,
        KeepAliveTimer, NumberOfQueues, PowerManagement, ReservationNotificationMask, SupportedCapabilities,
        Switch, TemperatureThreshold, TimestampData,
    },
};

code_table!(identifiers: FeatureIdentifier, u8 {
    0x01 Arbitration,
    0x02 PowerManagement,
    0x03 LbaRangeType,
    0x04 TemperatureThreshold,
    0x05 ErrorRecovery,
    0x06 VolatileWriteCache,
    0x07 NumberOfQueues,
    0x08 InterruptCoalescing,
    0x09 InterruptVectorConfiguration,
    0x0A WriteAtomicityNormal,
    0x0B AsynchronousEventConfiguration,
    0x0C AutonomousPowerStateTransition,
    0x0D HostMemoryBuffer,
    0x0E Timestamp,
    0x0F KeepAliveTimer,
    0x10 HostControlledThermalManagement,
    0x11 NonOperationalPowerStateConfig,
    0x16 HostBehaviorSupport,
    0x17 SanitizeConfig,
    0x19 IoCommandSetProfile,
    0x80 SoftwareProgressMarker,
    0x81 HostIdentifier,
    0x82 ReservationNotificationMask,
    0x83 ReservationPersistence,
    0x84 NamespaceWriteProtectionConfig,
});

bit_fields!(supported_capabilities: SupportedCapabilities, u32 {
    saveable = true => 0..1 1,
    namespace_specific = true => 1..2 1,
    changeable = true => 2..3 1,
});

bit_fields!(arbitration: Arbitration, u32 {
    burst = 7 => 0..3 7,
    low_priority_weight = 0xFF => 8..16 0xFF,
    medium_priority_weight = 0xFF => 16..24 0xFF,
    high_priority_weight = 0xFF => 24..32 0xFF,
});

bit_fields!(power_management: PowerManagement, u32 {
    power_state = 0x1F => 0..5 0x1F,
    workload_hint = 7 => 5..8 7,
});

bit_fields!(temperature_threshold: TemperatureThreshold, u32 {
    threshold_kelvin = 0xFFFF => 0..16 0xFFFF,
    sensor = 0xF => 16..20 0xF,
    threshold_type = 3 => 20..22 3,
    hysteresis_kelvin = 7 => 22..25 7,
});

bit_fields!(error_recovery: ErrorRecovery, u32 {
    time_limit_100ms = 0xFFFF => 0..16 0xFFFF,
    deallocated_block_error = true => 16..17 1,
});

bit_fields!(switch: Switch, u32 {
    enabled = true => 0..1 1,
});

bit_fields!(keep_alive_timer: KeepAliveTimer, u32 {
    kato_ms = 0xFFFF_FFFF => 0..32 0xFFFF_FFFFu32,
});

bit_fields!(host_identifier: HostIdentifier, u32 {
    extended = true => 0..1 1,
});

bit_fields!(reservation_notification_mask: ReservationNotificationMask, u32 {
    registration_preempted = true => 1..2 1,
    reservation_released = true => 2..3 1,
    reservation_preempted = true => 3..4 1,
});

#[test]
fn number_of_queues() {
    let [four, six] = [3, 5].map(ZeroBased::<u16>::from_raw);
    let queues = NumberOfQueues {
        submission: four,
        completion: six,
    };
    assert_eq!(queues.encode(), 0x0005_0003);
    assert_eq!(NumberOfQueues::parse(0x0005_0003), Ok(queues));
    assert_eq!(NumberOfQueues::parse(0x0000_FFFF), Err(InvalidField::at(44)));
    assert_eq!(NumberOfQueues::parse(0xFFFF_0000), Err(InvalidField::at(46)));
    assert_eq!(
        NumberOfQueues::pairs(4).map(NumberOfQueues::encode),
        Some(0x0003_0003)
    );
    assert_eq!(
        NumberOfQueues::pairs(65535).map(NumberOfQueues::encode),
        Some(0xFFFE_FFFE)
    );
    assert_eq!(
        (NumberOfQueues::pairs(0), NumberOfQueues::pairs(65536)),
        (None, None)
    );
}

fields!(timestamp_data: TimestampData, 8 {
    0..8 timestamp number,
});

#[test]
fn timestamp_parts() {
    let data = TimestampData::new(0x0605_0403_0201, true, 1);
    assert_eq!(data.to_bytes(), [1, 2, 3, 4, 5, 6, 0b0011, 0]);
    assert_eq!(
        (data.milliseconds(), data.may_have_stopped(), data.origin()),
        (0x0605_0403_0201, true, 1)
    );
    let longest = TimestampData::new(u64::MAX, false, 0);
    assert_eq!(
        longest.to_bytes(),
        [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0],
        "what does not fit is cut off"
    );
}

fields!(host_behavior_support_data: HostBehaviorSupportData, 512 {
    0..1 advanced_command_retry number,
    1..2 extended_telemetry number,
    2..3 lba_format_extension number,
    3..4 dispersed_namespaces number,
    4..6 copy_descriptor_formats number,
    6..512 reserved_6 bytes,
});
