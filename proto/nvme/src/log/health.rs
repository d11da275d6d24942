//! SMART / Health Information log page (Base, 5.1.12.1.3).

use crate::{U16, U32, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// SMART / Health Information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SmartHealthInformation {
    /// Critical warning (CW): see [`critical_warning`].
    pub critical_warning: u8,
    /// Composite temperature (CTEMP), in kelvins.
    pub composite_temperature: U16,
    /// Available spare (AVSP), in percent.
    pub available_spare: u8,
    /// Available spare threshold (AVSPT), in percent.
    pub available_spare_threshold: u8,
    /// Percentage used (PUSED); may pass 100.
    pub percentage_used: u8,
    /// Endurance group critical warning summary (EGCWS).
    pub endurance_group_critical_warning: u8,
    pub(crate) reserved_7: [u8; 25],
    /// Data units read (DUR): thousands of 512 bytes.
    pub data_units_read: U128,
    /// Data units written (DUW): thousands of 512 bytes.
    pub data_units_written: U128,
    /// Host read commands (HRC).
    pub host_read_commands: U128,
    /// Host write commands (HWC).
    pub host_write_commands: U128,
    /// Controller busy time (CBT), in minutes.
    pub controller_busy_time: U128,
    /// Power cycles (PWRC).
    pub power_cycles: U128,
    /// Power on hours (POH).
    pub power_on_hours: U128,
    /// Unsafe shutdowns (UPL).
    pub unsafe_shutdowns: U128,
    /// Media and data integrity errors (MDIE).
    pub media_errors: U128,
    /// Number of error information log entries (NEILE).
    pub error_log_entries: U128,
    /// Warning composite temperature time (WCTT), in minutes.
    pub warning_temperature_time: U32,
    /// Critical composite temperature time (CCTT), in minutes.
    pub critical_temperature_time: U32,
    /// Temperature sensors 1 to 8 (TS1 to TS8), in kelvins; 0 for none.
    pub temperature_sensors: [U16; 8],
    /// Thermal management temperature 1 transition count (TMT1TC).
    pub thermal_management_1_transitions: U32,
    /// Thermal management temperature 2 transition count (TMT2TC).
    pub thermal_management_2_transitions: U32,
    /// Total time for thermal management temperature 1 (TTTMT1), in seconds.
    pub thermal_management_1_time: U32,
    /// Total time for thermal management temperature 2 (TTTMT2), in seconds.
    pub thermal_management_2_time: U32,
    pub(crate) reserved_232: [u8; 280],
}
wire!(SmartHealthInformation, 512);

/// Bits of [`SmartHealthInformation::critical_warning`].
pub mod critical_warning {
    /// Available spare is below its threshold.
    pub const AVAILABLE_SPARE: u8 = 1 << 0;
    /// A temperature is beyond a threshold.
    pub const TEMPERATURE: u8 = 1 << 1;
    /// The subsystem's reliability is degraded.
    pub const RELIABILITY: u8 = 1 << 2;
    /// The media is read only.
    pub const READ_ONLY: u8 = 1 << 3;
    /// The backup of volatile memory has failed.
    pub const VOLATILE_MEMORY_BACKUP: u8 = 1 << 4;
    /// The persistent memory region is unreliable or read only.
    pub const PERSISTENT_MEMORY_REGION: u8 = 1 << 5;
}
