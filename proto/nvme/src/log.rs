//! Log pages (Base, 5.1.12): identifiers and contents.

pub mod ana;
pub mod discovery;
pub mod effects;
pub mod error;
pub mod firmware;
pub mod health;
pub mod namespace;
pub mod reservation;
#[cfg(test)]
mod tests;

pub use ana::{AnaGroup, AnaGroupDescriptor, AnaLog, AnaLogHeader, AnaState};
pub use discovery::{
    AddressFamily, DiscoveryEntry, DiscoveryLog, DiscoveryLogEntry, DiscoveryLogHeader, SubsystemType,
    TransportType,
};
pub use effects::{CommandEffects, CommandsSupportedAndEffects, SupportedLogPages};
pub use error::ErrorInformation;
pub use firmware::FirmwareSlotInformation;
pub use health::SmartHealthInformation;
pub use namespace::ChangedNamespaceList;
pub use reservation::{ReservationNotification, ReservationNotificationType};

codes! {
    /// Log page identifiers (LID).
    pub enum LogPageIdentifier: u8 {
        SupportedLogPages = 0x00 "Supported Log Pages",
        ErrorInformation = 0x01 "Error Information",
        SmartHealthInformation = 0x02 "SMART / Health Information",
        FirmwareSlotInformation = 0x03 "Firmware Slot Information",
        ChangedAttachedNamespaceList = 0x04 "Changed Attached Namespace List",
        CommandsSupportedAndEffects = 0x05 "Commands Supported and Effects",
        DeviceSelfTest = 0x06 "Device Self-test",
        TelemetryHostInitiated = 0x07 "Telemetry Host-Initiated",
        TelemetryControllerInitiated = 0x08 "Telemetry Controller-Initiated",
        EnduranceGroupInformation = 0x09 "Endurance Group Information",
        PredictableLatencyPerNvmSet = 0x0A "Predictable Latency Per NVM Set",
        PredictableLatencyEventAggregate = 0x0B "Predictable Latency Event Aggregate",
        AsymmetricNamespaceAccess = 0x0C "Asymmetric Namespace Access",
        PersistentEventLog = 0x0D "Persistent Event Log",
        LbaStatusInformation = 0x0E "LBA Status Information",
        EnduranceGroupEventAggregate = 0x0F "Endurance Group Event Aggregate",
        MediaUnitStatus = 0x10 "Media Unit Status",
        SupportedCapacityConfigurationList = 0x11 "Supported Capacity Configuration List",
        FeatureIdentifiersSupportedAndEffects = 0x12 "Feature Identifiers Supported and Effects",
        NvmeMiCommandsSupportedAndEffects = 0x13 "NVMe-MI Commands Supported and Effects",
        CommandAndFeatureLockdown = 0x14 "Command and Feature Lockdown",
        BootPartition = 0x15 "Boot Partition",
        RotationalMediaInformation = 0x16 "Rotational Media Information",
        Discovery = 0x70 "Discovery",
        HostDiscovery = 0x71 "Host Discovery",
        AveDiscovery = 0x72 "AVE Discovery",
        PullModelDdcRequest = 0x73 "Pull Model DDC Request",
        ReservationNotification = 0x80 "Reservation Notification",
        SanitizeStatus = 0x81 "Sanitize Status",
    }
}
