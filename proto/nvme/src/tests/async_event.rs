//! Asynchronous events: every one as dword 0 of its completion.

use crate::async_event::{
    AsyncEvent, AsyncEventSet, ErrorEvent, IoCommandSpecificEvent, NoticeEvent, SmartHealthEvent,
};
use proptest::prelude::*;

code_table!(errors: ErrorEvent, u8 {
    0x00 WriteToInvalidDoorbell,
    0x01 InvalidDoorbellWriteValue,
    0x02 DiagnosticFailure,
    0x03 PersistentInternalError,
    0x04 TransientInternalError,
    0x05 FirmwareImageLoadError,
});

code_table!(smart_health: SmartHealthEvent, u8 {
    0x00 SubsystemReliability,
    0x01 TemperatureThreshold,
    0x02 SpareBelowThreshold,
});

code_table!(notices: NoticeEvent, u8 {
    0x00 NamespaceAttributeChanged,
    0x01 FirmwareActivationStarting,
    0x02 TelemetryLogChanged,
    0x03 AsymmetricNamespaceAccessChange,
    0x04 PredictableLatencyEventAggregate,
    0x05 LbaStatusInformationAlert,
    0x06 EnduranceGroupEventAggregate,
    0xF0 DiscoveryLogPageChange,
});

code_table!(io_command_specific: IoCommandSpecificEvent, u8 {
    0x00 ReservationLogPageAvailable,
    0x01 SanitizeOperationCompleted,
    0x02 SanitizeOperationCompletedUnexpectedDeallocation,
    0x03 SanitizeOperationEnteredMediaVerification,
});

#[test]
fn dword_0_of_every_event() {
    let notice = AsyncEvent::Notice;
    let io = AsyncEvent::IoCommandSpecific;
    // Bits 23:16 log page, 15:8 information, 2:0 type.
    let rows = [
        (0x01_00_00, AsyncEvent::Error(ErrorEvent::WriteToInvalidDoorbell)),
        (0x01_03_00, AsyncEvent::Error(ErrorEvent::PersistentInternalError)),
        (0x01_05_00, AsyncEvent::Error(ErrorEvent::FirmwareImageLoadError)),
        (
            0x02_00_01,
            AsyncEvent::SmartHealth(SmartHealthEvent::SubsystemReliability),
        ),
        (
            0x02_02_01,
            AsyncEvent::SmartHealth(SmartHealthEvent::SpareBelowThreshold),
        ),
        (0x04_00_02, AsyncEvent::NAMESPACE_CHANGED),
        (0x03_01_02, notice(NoticeEvent::FirmwareActivationStarting)),
        (0x08_02_02, notice(NoticeEvent::TelemetryLogChanged)),
        (0x0C_03_02, AsyncEvent::ANA_CHANGE),
        (0x0B_04_02, notice(NoticeEvent::PredictableLatencyEventAggregate)),
        (0x0E_05_02, notice(NoticeEvent::LbaStatusInformationAlert)),
        (0x0F_06_02, notice(NoticeEvent::EnduranceGroupEventAggregate)),
        (0x70_F0_02, AsyncEvent::DISCOVERY_CHANGE),
        (0x00_00_03, AsyncEvent::NormalSubsystemShutdown),
        (
            0x80_00_06,
            io(IoCommandSpecificEvent::ReservationLogPageAvailable),
        ),
        (0x81_01_06, io(IoCommandSpecificEvent::SanitizeOperationCompleted)),
        (
            0x81_02_06,
            io(IoCommandSpecificEvent::SanitizeOperationCompletedUnexpectedDeallocation),
        ),
    ];
    for (dword, event) in rows {
        assert_eq!(event.encode(), dword, "{event:?}");
        assert_eq!(AsyncEvent::parse(dword), Some(event));
        assert_eq!(AsyncEvent::parse_log_page(dword), (dword >> 16) as u8);
    }
}

#[test]
fn events_that_are_not_known() {
    for dword in [
        0x01_06_00, 0x02_03_01, 0x04_07_02, 0x00_01_03, 0x00_00_04, 0x80_04_06, 0x00_00_07,
    ] {
        assert_eq!(AsyncEvent::parse(dword), None, "{dword:06x}");
    }
}

#[test]
fn sets() {
    let rows = [
        (0x0000_001F, AsyncEventSet::SMART_HEALTH),
        (0x0000_0100, AsyncEventSet::NAMESPACE_ATTRIBUTE),
        (0x0000_0200, AsyncEventSet::FIRMWARE_ACTIVATION),
        (0x0000_0400, AsyncEventSet::TELEMETRY_LOG),
        (0x0000_0800, AsyncEventSet::ANA_CHANGE),
        (0x0000_1000, AsyncEventSet::PREDICTABLE_LATENCY),
        (0x0000_2000, AsyncEventSet::LBA_STATUS),
        (0x0000_4000, AsyncEventSet::ENDURANCE_GROUP),
        (0x0000_8000, AsyncEventSet::SUBSYSTEM_SHUTDOWN),
        (0x8000_0000, AsyncEventSet::DISCOVERY_CHANGE),
    ];
    let all = rows.iter().fold(AsyncEventSet::default(), |all, (bits, set)| {
        assert_eq!(set.0, *bits);
        assert!(!all.contains(*set));
        all.union(*set)
    });
    assert!(rows.iter().all(|(_, set)| all.contains(*set)));
    assert!(
        !AsyncEventSet(0x01).contains(AsyncEventSet::SMART_HEALTH),
        "all of a set, not some"
    );
    assert_eq!(all.intersection(AsyncEventSet(0x801)), AsyncEventSet(0x801));
    assert_eq!(
        AsyncEventSet::ANA_CHANGE.intersection(AsyncEventSet::LBA_STATUS),
        AsyncEventSet(0)
    );
}

proptest! {
    #[test]
    fn any_dword_is_an_event_or_none(dword: u32) {
        if let Some(event) = AsyncEvent::parse(dword) {
            prop_assert_eq!(AsyncEvent::parse(event.encode()), Some(event));
        }
    }
}
