//! Asynchronous events (Base, 5.1.2): which there are, and how the completion of a request tells one.

use crate::log::LogPageIdentifier;

/// An event. What it tells is fetched from the log page of [`AsyncEvent::log_page`]; reading that with *retain* clear
/// lets the controller tell events of the type again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsyncEvent {
    /// Something is wrong with the controller.
    Error(ErrorEvent),
    /// SMART / health status.
    SmartHealth(SmartHealthEvent),
    /// A notice.
    Notice(NoticeEvent),
    /// Immediate: the subsystem shuts down (type 011b).
    NormalSubsystemShutdown,
    /// Of a reservation on a namespace (type 110b).
    IoCommandSpecific(IoCommandSpecificEvent),
}

codes! {
    /// Event information of error status events.
    pub enum ErrorEvent: u8 {
        WriteToInvalidDoorbell = 0x00 "write to invalid doorbell register",
        InvalidDoorbellWriteValue = 0x01 "invalid doorbell write value",
        DiagnosticFailure = 0x02 "diagnostic failure",
        PersistentInternalError = 0x03 "persistent internal error",
        TransientInternalError = 0x04 "transient internal error",
        FirmwareImageLoadError = 0x05 "firmware image load error",
    }
}

codes! {
    /// Event information of SMART / health status events.
    pub enum SmartHealthEvent: u8 {
        SubsystemReliability = 0x00 "nvm subsystem reliability",
        TemperatureThreshold = 0x01 "temperature threshold",
        SpareBelowThreshold = 0x02 "spare below threshold",
    }
}

codes! {
    /// Event information of notices.
    pub enum NoticeEvent: u8 {
        NamespaceAttributeChanged = 0x00 "attached namespace attribute changed",
        FirmwareActivationStarting = 0x01 "firmware activation starting",
        TelemetryLogChanged = 0x02 "telemetry log changed",
        AsymmetricNamespaceAccessChange = 0x03 "asymmetric namespace access change",
        PredictableLatencyEventAggregate = 0x04 "predictable latency event aggregate log change",
        LbaStatusInformationAlert = 0x05 "lba status information alert",
        EnduranceGroupEventAggregate = 0x06 "endurance group event aggregate log page change",
        DiscoveryLogPageChange = 0xF0 "discovery log page change",
    }
}

codes! {
    /// Event information of I/O command specific status events.
    pub enum IoCommandSpecificEvent: u8 {
        ReservationLogPageAvailable = 0x00 "reservation log page available",
        SanitizeOperationCompleted = 0x01 "sanitize operation completed",
        SanitizeOperationCompletedUnexpectedDeallocation = 0x02 "sanitize operation completed with unexpected deallocation",
        SanitizeOperationEnteredMediaVerification = 0x03 "sanitize operation entered media verification state",
    }
}

/// The asynchronous event type (AET), bits 2:0 of dword 0.
mod event_type {
    pub(super) const ERROR: u8 = 0b000;
    pub(super) const SMART_HEALTH: u8 = 0b001;
    pub(super) const NOTICE: u8 = 0b010;
    pub(super) const IMMEDIATE: u8 = 0b011;
    pub(super) const IO_COMMAND_SPECIFIC: u8 = 0b110;
}

impl AsyncEvent {
    /// The namespaces attached to the host, or their attributes, changed.
    pub const NAMESPACE_CHANGED: AsyncEvent = AsyncEvent::Notice(NoticeEvent::NamespaceAttributeChanged);
    /// The state of an ANA group changed.
    pub const ANA_CHANGE: AsyncEvent = AsyncEvent::Notice(NoticeEvent::AsymmetricNamespaceAccessChange);
    /// The discovery log page changed.
    pub const DISCOVERY_CHANGE: AsyncEvent = AsyncEvent::Notice(NoticeEvent::DiscoveryLogPageChange);

    /// The log page that tells more; reading it clears the event. `None` where there is none.
    pub const fn log_page(self) -> Option<LogPageIdentifier> {
        match self {
            AsyncEvent::Error(_) => Some(LogPageIdentifier::ErrorInformation),
            AsyncEvent::SmartHealth(_) => Some(LogPageIdentifier::SmartHealthInformation),
            AsyncEvent::Notice(notice) => notice.log_page(),
            AsyncEvent::NormalSubsystemShutdown => None,
            AsyncEvent::IoCommandSpecific(IoCommandSpecificEvent::ReservationLogPageAvailable) => {
                Some(LogPageIdentifier::ReservationNotification)
            }
            AsyncEvent::IoCommandSpecific(_) => Some(LogPageIdentifier::SanitizeStatus),
        }
    }

    /// Type (AET) and information (AEI).
    const fn codes(self) -> (u8, u8) {
        match self {
            AsyncEvent::Error(event) => (event_type::ERROR, event.code()),
            AsyncEvent::SmartHealth(event) => (event_type::SMART_HEALTH, event.code()),
            AsyncEvent::Notice(event) => (event_type::NOTICE, event.code()),
            AsyncEvent::NormalSubsystemShutdown => (event_type::IMMEDIATE, 0),
            AsyncEvent::IoCommandSpecific(event) => (event_type::IO_COMMAND_SPECIFIC, event.code()),
        }
    }

    /// Dword 0 of the completion: type, information, log page.
    pub const fn encode(self) -> u32 {
        let (event_type, information) = self.codes();
        let log_page = match self.log_page() {
            Some(identifier) => identifier.code(),
            None => 0,
        };
        (log_page as u32) << 16 | (information as u32) << 8 | event_type as u32
    }

    /// From dword 0 of the completion; `None` for events that are not known here. Which log page the controller names
    /// is in [`AsyncEvent::parse_log_page`]: it is to be read in any case.
    pub fn parse(dword: u32) -> Option<AsyncEvent> {
        let information = (dword >> 8) as u8;
        match dword as u8 & 7 {
            event_type::ERROR => ErrorEvent::from_code(information).map(AsyncEvent::Error),
            event_type::SMART_HEALTH => SmartHealthEvent::from_code(information).map(AsyncEvent::SmartHealth),
            event_type::NOTICE => NoticeEvent::from_code(information).map(AsyncEvent::Notice),
            event_type::IMMEDIATE if information == 0 => Some(AsyncEvent::NormalSubsystemShutdown),
            event_type::IO_COMMAND_SPECIFIC => {
                IoCommandSpecificEvent::from_code(information).map(AsyncEvent::IoCommandSpecific)
            }
            _ => None,
        }
    }

    /// The log page that dword 0 of a completion names, whatever the event.
    pub const fn parse_log_page(dword: u32) -> u8 {
        (dword >> 16) as u8
    }
}

impl NoticeEvent {
    /// The log page that tells more.
    const fn log_page(self) -> Option<LogPageIdentifier> {
        match self {
            NoticeEvent::NamespaceAttributeChanged => Some(LogPageIdentifier::ChangedAttachedNamespaceList),
            NoticeEvent::FirmwareActivationStarting => Some(LogPageIdentifier::FirmwareSlotInformation),
            NoticeEvent::TelemetryLogChanged => Some(LogPageIdentifier::TelemetryControllerInitiated),
            NoticeEvent::AsymmetricNamespaceAccessChange => {
                Some(LogPageIdentifier::AsymmetricNamespaceAccess)
            }
            NoticeEvent::PredictableLatencyEventAggregate => {
                Some(LogPageIdentifier::PredictableLatencyEventAggregate)
            }
            NoticeEvent::LbaStatusInformationAlert => Some(LogPageIdentifier::LbaStatusInformation),
            NoticeEvent::EnduranceGroupEventAggregate => {
                Some(LogPageIdentifier::EnduranceGroupEventAggregate)
            }
            NoticeEvent::DiscoveryLogPageChange => Some(LogPageIdentifier::Discovery),
        }
    }
}

/// A set of events: Asynchronous Event Configuration (feature 0Bh; Base, 5.1.25.1.5), and, without the SMART bits,
/// Optional Asynchronous Events Supported (OAES) of Identify Controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsyncEventSet(pub u32);

impl AsyncEventSet {
    /// SMART / health critical warnings, all five of bits 7:0.
    pub const SMART_HEALTH: AsyncEventSet = AsyncEventSet(0x1F);
    /// Attached namespace attribute notices (bit 8).
    pub const NAMESPACE_ATTRIBUTE: AsyncEventSet = AsyncEventSet(1 << 8);
    /// Firmware activation notices (bit 9).
    pub const FIRMWARE_ACTIVATION: AsyncEventSet = AsyncEventSet(1 << 9);
    /// Telemetry log notices (bit 10; configuration only).
    pub const TELEMETRY_LOG: AsyncEventSet = AsyncEventSet(1 << 10);
    /// Asymmetric namespace access change notices (bit 11).
    pub const ANA_CHANGE: AsyncEventSet = AsyncEventSet(1 << 11);
    /// Predictable latency event aggregate log change notices (bit 12).
    pub const PREDICTABLE_LATENCY: AsyncEventSet = AsyncEventSet(1 << 12);
    /// LBA status information alert notices (bit 13).
    pub const LBA_STATUS: AsyncEventSet = AsyncEventSet(1 << 13);
    /// Endurance group event aggregate log change notices (bit 14).
    pub const ENDURANCE_GROUP: AsyncEventSet = AsyncEventSet(1 << 14);
    /// Normal NVM subsystem shutdown (bit 15).
    pub const SUBSYSTEM_SHUTDOWN: AsyncEventSet = AsyncEventSet(1 << 15);
    /// Discovery log page change notices (bit 31).
    pub const DISCOVERY_CHANGE: AsyncEventSet = AsyncEventSet(1 << 31);

    /// Both sets.
    pub const fn union(self, other: AsyncEventSet) -> AsyncEventSet {
        AsyncEventSet(self.0 | other.0)
    }

    /// What is in both.
    pub const fn intersection(self, other: AsyncEventSet) -> AsyncEventSet {
        AsyncEventSet(self.0 & other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: AsyncEventSet) -> bool {
        self.0 & other.0 == other.0
    }
}
