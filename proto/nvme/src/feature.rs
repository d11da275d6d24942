//! Features (Base, 5.1.25; NVM, 4.1.3): their identifiers, and the dwords of those that our controllers and hosts
//! speak of. Each type here is dword 11 of Set Features and dword 0 of the completion of Get Features.

use crate::{
    InvalidField, U64, ZeroBased,
    bits::{bit, field, flag, place},
    command::dword_offset,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

codes! {
    /// Feature identifiers (FID).
    pub enum FeatureIdentifier: u8 {
        Arbitration = 0x01 "Arbitration",
        PowerManagement = 0x02 "Power Management",
        LbaRangeType = 0x03 "LBA Range Type",
        TemperatureThreshold = 0x04 "Temperature Threshold",
        ErrorRecovery = 0x05 "Error Recovery",
        VolatileWriteCache = 0x06 "Volatile Write Cache",
        NumberOfQueues = 0x07 "Number of Queues",
        InterruptCoalescing = 0x08 "Interrupt Coalescing",
        InterruptVectorConfiguration = 0x09 "Interrupt Vector Configuration",
        WriteAtomicityNormal = 0x0A "Write Atomicity Normal",
        AsynchronousEventConfiguration = 0x0B "Asynchronous Event Configuration",
        AutonomousPowerStateTransition = 0x0C "Autonomous Power State Transition",
        HostMemoryBuffer = 0x0D "Host Memory Buffer",
        Timestamp = 0x0E "Timestamp",
        KeepAliveTimer = 0x0F "Keep Alive Timer",
        HostControlledThermalManagement = 0x10 "Host Controlled Thermal Management",
        NonOperationalPowerStateConfig = 0x11 "Non-Operational Power State Config",
        HostBehaviorSupport = 0x16 "Host Behavior Support",
        SanitizeConfig = 0x17 "Sanitize Config",
        IoCommandSetProfile = 0x19 "I/O Command Set Profile",
        SoftwareProgressMarker = 0x80 "Software Progress Marker",
        HostIdentifier = 0x81 "Host Identifier",
        ReservationNotificationMask = 0x82 "Reservation Notification Mask",
        ReservationPersistence = 0x83 "Reservation Persistence",
        NamespaceWriteProtectionConfig = 0x84 "Namespace Write Protection Config",
    }
}

/// What Get Features with *supported capabilities* returns in dword 0 (Base, 5.1.11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SupportedCapabilities {
    /// The value can be saved.
    pub saveable: bool,
    /// Each namespace has its own value.
    pub namespace_specific: bool,
    /// The value can be changed.
    pub changeable: bool,
}

impl SupportedCapabilities {
    /// As dword 0.
    pub const fn encode(self) -> u32 {
        (flag(self.saveable, 0) | flag(self.namespace_specific, 1) | flag(self.changeable, 2)) as u32
    }

    /// From dword 0.
    pub const fn parse(dword: u32) -> SupportedCapabilities {
        SupportedCapabilities {
            saveable: bit(dword as u64, 0),
            namespace_specific: bit(dword as u64, 1),
            changeable: bit(dword as u64, 2),
        }
    }
}

/// Arbitration (01h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arbitration {
    /// Arbitration burst (AB), 3 bits: 2^this commands, 7 for no limit.
    pub burst: u8,
    /// Low priority weight (LPW), 0's based.
    pub low_priority_weight: u8,
    /// Medium priority weight (MPW), 0's based.
    pub medium_priority_weight: u8,
    /// High priority weight (HPW), 0's based.
    pub high_priority_weight: u8,
}

impl Arbitration {
    /// As a dword.
    pub const fn encode(self) -> u32 {
        (place(self.burst as u64, 0, 3)
            | place(self.low_priority_weight as u64, 8, 8)
            | place(self.medium_priority_weight as u64, 16, 8)
            | place(self.high_priority_weight as u64, 24, 8)) as u32
    }

    /// From a dword.
    pub const fn parse(dword: u32) -> Arbitration {
        let dword = dword as u64;
        Arbitration {
            burst: field(dword, 0, 3) as u8,
            low_priority_weight: field(dword, 8, 8) as u8,
            medium_priority_weight: field(dword, 16, 8) as u8,
            high_priority_weight: field(dword, 24, 8) as u8,
        }
    }
}

/// Power Management (02h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerManagement {
    /// Power state (PS), 5 bits.
    pub power_state: u8,
    /// Workload hint (WH), 3 bits.
    pub workload_hint: u8,
}

impl PowerManagement {
    /// As a dword.
    pub const fn encode(self) -> u32 {
        (place(self.power_state as u64, 0, 5) | place(self.workload_hint as u64, 5, 3)) as u32
    }

    /// From a dword.
    pub const fn parse(dword: u32) -> PowerManagement {
        PowerManagement {
            power_state: field(dword as u64, 0, 5) as u8,
            workload_hint: field(dword as u64, 5, 3) as u8,
        }
    }
}

/// Temperature Threshold (04h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemperatureThreshold {
    /// Temperature threshold (TMPTH), in kelvins.
    pub threshold_kelvin: u16,
    /// Threshold temperature select (TMPSEL), 4 bits: 0 composite, 1 to 8 a sensor, 15 all.
    pub sensor: u8,
    /// Threshold type select (THSEL), 2 bits: 0 over, 1 under.
    pub threshold_type: u8,
    /// Temperature threshold hysteresis (TMPTHH), 3 bits, in kelvins.
    pub hysteresis_kelvin: u8,
}

impl TemperatureThreshold {
    /// As a dword.
    pub const fn encode(self) -> u32 {
        (place(self.threshold_kelvin as u64, 0, 16)
            | place(self.sensor as u64, 16, 4)
            | place(self.threshold_type as u64, 20, 2)
            | place(self.hysteresis_kelvin as u64, 22, 3)) as u32
    }

    /// From a dword.
    pub const fn parse(dword: u32) -> TemperatureThreshold {
        let dword = dword as u64;
        TemperatureThreshold {
            threshold_kelvin: field(dword, 0, 16) as u16,
            sensor: field(dword, 16, 4) as u8,
            threshold_type: field(dword, 20, 2) as u8,
            hysteresis_kelvin: field(dword, 22, 3) as u8,
        }
    }
}

/// Error Recovery (05h; NVM, 4.1.3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorRecovery {
    /// Time limited error recovery (TLER), in 100 ms; 0 for no limit.
    pub time_limit_100ms: u16,
    /// Deallocated or unwritten logical block error enable (DULBE).
    pub deallocated_block_error: bool,
}

impl ErrorRecovery {
    /// As a dword.
    pub const fn encode(self) -> u32 {
        (place(self.time_limit_100ms as u64, 0, 16) | flag(self.deallocated_block_error, 16)) as u32
    }

    /// From a dword.
    pub const fn parse(dword: u32) -> ErrorRecovery {
        ErrorRecovery {
            time_limit_100ms: field(dword as u64, 0, 16) as u16,
            deallocated_block_error: bit(dword as u64, 16),
        }
    }
}

/// A feature of one flag in bit 0: Volatile Write Cache (06h, WCE), Write Atomicity Normal (0Ah, DN), Reservation
/// Persistence (83h, PTPL).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch {
    /// Whether it is on.
    pub enabled: bool,
}

impl Switch {
    /// As a dword.
    pub const fn encode(self) -> u32 {
        self.enabled as u32
    }

    /// From a dword.
    pub const fn parse(dword: u32) -> Switch {
        Switch {
            enabled: dword & 1 == 1,
        }
    }
}

/// Number of Queues (07h): I/O queues, asked for in Set Features, given in dword 0 of its completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumberOfQueues {
    /// Submission queues (NSQR, NSQA).
    pub submission: ZeroBased<u16>,
    /// Completion queues (NCQR, NCQA).
    pub completion: ZeroBased<u16>,
}

impl NumberOfQueues {
    /// As many of both; `None` for zero and for more than 65535.
    pub const fn pairs(count: u32) -> Option<NumberOfQueues> {
        if count > 0xFFFF {
            return None;
        }
        match ZeroBased::<u16>::from_count(count) {
            Some(count) => Some(NumberOfQueues {
                submission: count,
                completion: count,
            }),
            None => None,
        }
    }

    /// As a dword.
    pub const fn encode(self) -> u32 {
        (self.completion.raw as u32) << 16 | self.submission.raw as u32
    }

    /// From a dword; the specification forbids 65536 of either.
    pub const fn parse(dword: u32) -> Result<NumberOfQueues, InvalidField> {
        let queues = NumberOfQueues {
            submission: ZeroBased::<u16>::from_raw(dword as u16),
            completion: ZeroBased::<u16>::from_raw((dword >> 16) as u16),
        };
        if queues.submission.raw == 0xFFFF {
            return Err(InvalidField::at(dword_offset(11)));
        }
        if queues.completion.raw == 0xFFFF {
            return Err(InvalidField::at(dword_offset(11) + 2));
        }
        Ok(queues)
    }
}

/// Keep Alive Timer (0Fh).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAliveTimer {
    /// Keep alive timeout (KATO), in milliseconds; 0 for none.
    pub kato_ms: u32,
}

impl KeepAliveTimer {
    /// As a dword.
    pub const fn encode(self) -> u32 {
        self.kato_ms
    }

    /// From a dword.
    pub const fn parse(dword: u32) -> KeepAliveTimer {
        KeepAliveTimer { kato_ms: dword }
    }
}

/// Host Identifier (81h). Data: 8 bytes, or 16 if extended, as always in fabrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostIdentifier {
    /// Enable extended host identifier (EXHID): 128 bits.
    pub extended: bool,
}

impl HostIdentifier {
    /// As a dword.
    pub const fn encode(self) -> u32 {
        self.extended as u32
    }

    /// From a dword.
    pub const fn parse(dword: u32) -> HostIdentifier {
        HostIdentifier {
            extended: dword & 1 == 1,
        }
    }
}

/// Reservation Notification Mask (82h): a set bit keeps the notification from being told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReservationNotificationMask {
    /// Mask registration preempted (REGPRE).
    pub registration_preempted: bool,
    /// Mask reservation released (RESREL).
    pub reservation_released: bool,
    /// Mask reservation preempted (RESPRE).
    pub reservation_preempted: bool,
}

impl ReservationNotificationMask {
    /// As a dword.
    pub const fn encode(self) -> u32 {
        (flag(self.registration_preempted, 1)
            | flag(self.reservation_released, 2)
            | flag(self.reservation_preempted, 3)) as u32
    }

    /// From a dword.
    pub const fn parse(dword: u32) -> ReservationNotificationMask {
        ReservationNotificationMask {
            registration_preempted: bit(dword as u64, 1),
            reservation_released: bit(dword as u64, 2),
            reservation_preempted: bit(dword as u64, 3),
        }
    }
}

/// Data of Timestamp (0Eh; Base, 5.1.25.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TimestampData {
    /// Timestamp, milliseconds since 1970 (48 bits), then attributes: bit 0 synch, bits 3:1 timestamp origin; then a
    /// reserved byte.
    pub timestamp: U64,
}
wire!(TimestampData, 8);

impl TimestampData {
    /// Milliseconds since 1970, or since the controller was reset (see the origin).
    pub fn milliseconds(&self) -> u64 {
        field(self.timestamp.get(), 0, 48)
    }

    /// Whether the timer may have stopped (SYNCH).
    pub fn may_have_stopped(&self) -> bool {
        bit(self.timestamp.get(), 48)
    }

    /// Timestamp origin, 3 bits: 0 cleared by a reset, 1 set by Set Features.
    pub fn origin(&self) -> u8 {
        field(self.timestamp.get(), 49, 3) as u8
    }

    /// A timestamp with its attributes.
    pub fn new(milliseconds: u64, may_have_stopped: bool, origin: u8) -> TimestampData {
        let value = place(milliseconds, 0, 48) | flag(may_have_stopped, 48) | place(origin.into(), 49, 3);
        TimestampData {
            timestamp: U64::new(value),
        }
    }
}

/// Data of Host Behavior Support (16h; Base, 5.1.25.1.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct HostBehaviorSupportData {
    /// Advanced command retry enable (ACRE).
    pub advanced_command_retry: u8,
    /// Extended telemetry data area 4 supported (ETDAS).
    pub extended_telemetry: u8,
    /// LBA format extension enable (LBAFEE).
    pub lba_format_extension: u8,
    /// Host dispersed namespace support (HDISNS).
    pub dispersed_namespaces: u8,
    /// Copy descriptor formats 2h to 4h enable (CDFE).
    pub copy_descriptor_formats: crate::U16,
    pub(crate) reserved_6: [u8; 506],
}
wire!(HostBehaviorSupportData, 512);
