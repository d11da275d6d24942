//! Controller properties (Base, 3.1.4), reached in fabrics by Property Get and Property Set.

use crate::{
    bits::{bit, field, flag, place},
    command::PropertySize,
};
use core::fmt;

codes! {
    /// The properties of a controller in a fabric, by their offsets.
    pub enum Property: u32 {
        ControllerCapabilities = 0x00 "Controller Capabilities (CAP)",
        Version = 0x08 "Version (VS)",
        ControllerConfiguration = 0x14 "Controller Configuration (CC)",
        ControllerStatus = 0x1C "Controller Status (CSTS)",
        NvmSubsystemReset = 0x20 "NVM Subsystem Reset (NSSR)",
        NvmSubsystemShutdown = 0x64 "NVM Subsystem Shutdown (NSSD)",
        ControllerReadyTimeouts = 0x68 "Controller Ready Timeouts (CRTO)",
    }
}

impl Property {
    /// The size of the property.
    pub const fn size(self) -> PropertySize {
        match self {
            Property::ControllerCapabilities => PropertySize::Eight,
            _ => PropertySize::Four,
        }
    }
}

/// Controller Capabilities (CAP; Base, 3.1.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Maximum queue entries supported (MQES), 0's based: 1 means queues of two.
    pub max_queue_entries: u16,
    /// Contiguous queues required (CQR); always set in fabrics.
    pub contiguous_queues_required: bool,
    /// Arbitration mechanisms besides round robin (AMS), 2 bits: weighted round robin, vendor specific.
    pub arbitration_mechanisms: u8,
    /// Timeout (TO): the longest wait for CSTS.RDY after CC.EN changes, in 500 ms.
    pub timeout_500ms: u8,
    /// Doorbell stride (DSTRD), 4 bits; 0 in fabrics.
    pub doorbell_stride: u8,
    /// NVM subsystem reset supported (NSSRS).
    pub subsystem_reset: bool,
    /// Command sets supported (CSS), 8 bits: see the constants.
    pub command_sets: u8,
    /// Boot partition support (BPS).
    pub boot_partition: bool,
    /// Controller power scope (CPS), 2 bits.
    pub power_scope: u8,
    /// Memory page size minimum (MPSMIN), 4 bits: 2^(12 + this) bytes.
    pub memory_page_size_min: u8,
    /// Memory page size maximum (MPSMAX), 4 bits: 2^(12 + this) bytes.
    pub memory_page_size_max: u8,
    /// Persistent memory region supported (PMRS).
    pub persistent_memory_region: bool,
    /// Controller memory buffer supported (CMBS).
    pub controller_memory_buffer: bool,
    /// NVM subsystem shutdown supported (NSSS).
    pub subsystem_shutdown: bool,
    /// Controller ready with media (CRMS bit 0, CRWMS).
    pub ready_with_media: bool,
    /// Controller ready independent of media (CRMS bit 1, CRIMS).
    pub ready_independent_of_media: bool,
    /// NVM subsystem shutdown enhancements supported (NSSES).
    pub subsystem_shutdown_enhancements: bool,
}

impl Capabilities {
    /// CSS: the NVM command set.
    pub const CSS_NVM: u8 = 1 << 0;
    /// CSS: one or more I/O command sets, told by Identify with CNS 1Ch.
    pub const CSS_IO_COMMAND_SETS: u8 = 1 << 6;
    /// CSS: no I/O command set (discovery and administrative controllers).
    pub const CSS_NONE: u8 = 1 << 7;

    /// As the property.
    pub const fn encode(self) -> u64 {
        place(self.max_queue_entries as u64, 0, 16)
            | flag(self.contiguous_queues_required, 16)
            | place(self.arbitration_mechanisms as u64, 17, 2)
            | place(self.timeout_500ms as u64, 24, 8)
            | place(self.doorbell_stride as u64, 32, 4)
            | flag(self.subsystem_reset, 36)
            | place(self.command_sets as u64, 37, 8)
            | flag(self.boot_partition, 45)
            | place(self.power_scope as u64, 46, 2)
            | place(self.memory_page_size_min as u64, 48, 4)
            | place(self.memory_page_size_max as u64, 52, 4)
            | flag(self.persistent_memory_region, 56)
            | flag(self.controller_memory_buffer, 57)
            | flag(self.subsystem_shutdown, 58)
            | flag(self.ready_with_media, 59)
            | flag(self.ready_independent_of_media, 60)
            | flag(self.subsystem_shutdown_enhancements, 61)
    }

    /// From the property.
    pub const fn parse(value: u64) -> Capabilities {
        Capabilities {
            max_queue_entries: field(value, 0, 16) as u16,
            contiguous_queues_required: bit(value, 16),
            arbitration_mechanisms: field(value, 17, 2) as u8,
            timeout_500ms: field(value, 24, 8) as u8,
            doorbell_stride: field(value, 32, 4) as u8,
            subsystem_reset: bit(value, 36),
            command_sets: field(value, 37, 8) as u8,
            boot_partition: bit(value, 45),
            power_scope: field(value, 46, 2) as u8,
            memory_page_size_min: field(value, 48, 4) as u8,
            memory_page_size_max: field(value, 52, 4) as u8,
            persistent_memory_region: bit(value, 56),
            controller_memory_buffer: bit(value, 57),
            subsystem_shutdown: bit(value, 58),
            ready_with_media: bit(value, 59),
            ready_independent_of_media: bit(value, 60),
            subsystem_shutdown_enhancements: bit(value, 61),
        }
    }
}

/// Version (VS; Base, 3.1.4.2), also in Identify Controller (VER).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major version (MJR).
    pub major: u16,
    /// Minor version (MNR).
    pub minor: u8,
    /// Tertiary version (TER).
    pub tertiary: u8,
}

impl Version {
    /// The revision of the Base specification that this crate cites.
    pub const V2_1: Version = Version {
        major: 2,
        minor: 1,
        tertiary: 0,
    };

    /// As the property.
    pub const fn encode(self) -> u32 {
        (self.major as u32) << 16 | (self.minor as u32) << 8 | self.tertiary as u32
    }

    /// From the property.
    pub const fn parse(value: u32) -> Version {
        Version {
            major: (value >> 16) as u16,
            minor: (value >> 8) as u8,
            tertiary: value as u8,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.tertiary)
    }
}

codes! {
    /// Shutdown notification (CC.SHN).
    pub enum ShutdownNotification: u8 {
        None = 0x0 "no notification",
        Normal = 0x1 "normal shutdown",
        Abrupt = 0x2 "abrupt shutdown",
        Reserved = 0x3 "reserved",
    }
}

/// Controller Configuration (CC; Base, 3.1.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Enable (EN).
    pub enable: bool,
    /// I/O command set selected (CSS), 3 bits: see the constants.
    pub command_set: u8,
    /// Memory page size (MPS), 4 bits: 2^(12 + this) bytes.
    pub memory_page_size: u8,
    /// Arbitration mechanism selected (AMS), 3 bits; 0 is round robin.
    pub arbitration_mechanism: u8,
    /// Shutdown notification (SHN).
    pub shutdown_notification: ShutdownNotification,
    /// I/O submission queue entry size (IOSQES), 4 bits: 2^this bytes.
    pub io_submission_queue_entry_size: u8,
    /// I/O completion queue entry size (IOCQES), 4 bits: 2^this bytes.
    pub io_completion_queue_entry_size: u8,
    /// Controller ready independent of media enable (CRIME).
    pub ready_independent_of_media: bool,
}

impl Configuration {
    /// CSS: the NVM command set.
    pub const CSS_NVM: u8 = 0b000;
    /// CSS: all supported I/O command sets.
    pub const CSS_ALL: u8 = 0b110;
    /// CSS: admin commands only.
    pub const CSS_ADMIN_ONLY: u8 = 0b111;
    /// Entries of submission queues have 2^6 bytes.
    pub const IOSQES: u8 = 6;
    /// Entries of completion queues have 2^4 bytes.
    pub const IOCQES: u8 = 4;

    /// What a host writes to enable a controller: NVM command set, pages of 4096 bytes, entries of 64 and 16 bytes.
    pub const ENABLE: Configuration = Configuration {
        enable: true,
        command_set: Configuration::CSS_NVM,
        memory_page_size: 0,
        arbitration_mechanism: 0,
        shutdown_notification: ShutdownNotification::None,
        io_submission_queue_entry_size: Configuration::IOSQES,
        io_completion_queue_entry_size: Configuration::IOCQES,
        ready_independent_of_media: false,
    };

    /// As the property.
    pub const fn encode(self) -> u32 {
        (flag(self.enable, 0)
            | place(self.command_set as u64, 4, 3)
            | place(self.memory_page_size as u64, 7, 4)
            | place(self.arbitration_mechanism as u64, 11, 3)
            | place(self.shutdown_notification.code() as u64, 14, 2)
            | place(self.io_submission_queue_entry_size as u64, 16, 4)
            | place(self.io_completion_queue_entry_size as u64, 20, 4)
            | flag(self.ready_independent_of_media, 24)) as u32
    }

    /// From the property.
    pub fn parse(value: u32) -> Configuration {
        let value = u64::from(value);
        let shutdown = field(value, 14, 2) as u8;
        Configuration {
            enable: bit(value, 0),
            command_set: field(value, 4, 3) as u8,
            memory_page_size: field(value, 7, 4) as u8,
            arbitration_mechanism: field(value, 11, 3) as u8,
            shutdown_notification: ShutdownNotification::from_code(shutdown).expect("two bits are all codes"),
            io_submission_queue_entry_size: field(value, 16, 4) as u8,
            io_completion_queue_entry_size: field(value, 20, 4) as u8,
            ready_independent_of_media: bit(value, 24),
        }
    }
}

impl Default for Configuration {
    /// All zeroes: disabled.
    fn default() -> Configuration {
        Configuration::parse(0)
    }
}

codes! {
    /// Shutdown status (CSTS.SHST).
    pub enum ShutdownStatus: u8 {
        Normal = 0x0 "no shutdown requested",
        Occurring = 0x1 "shutdown processing occurring",
        Complete = 0x2 "shutdown processing complete",
        Reserved = 0x3 "reserved",
    }
}

/// Controller Status (CSTS; Base, 3.1.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerStatus {
    /// Ready (RDY).
    pub ready: bool,
    /// Controller fatal status (CFS).
    pub fatal: bool,
    /// Shutdown status (SHST).
    pub shutdown_status: ShutdownStatus,
    /// NVM subsystem reset occurred (NSSRO).
    pub subsystem_reset_occurred: bool,
    /// Processing paused (PP).
    pub processing_paused: bool,
    /// Shutdown type (ST): of the subsystem, not of the controller alone.
    pub subsystem_shutdown: bool,
}

impl ControllerStatus {
    /// As the property.
    pub const fn encode(self) -> u32 {
        (flag(self.ready, 0)
            | flag(self.fatal, 1)
            | place(self.shutdown_status.code() as u64, 2, 2)
            | flag(self.subsystem_reset_occurred, 4)
            | flag(self.processing_paused, 5)
            | flag(self.subsystem_shutdown, 6)) as u32
    }

    /// From the property.
    pub fn parse(value: u32) -> ControllerStatus {
        let value = u64::from(value);
        let shutdown = field(value, 2, 2) as u8;
        ControllerStatus {
            ready: bit(value, 0),
            fatal: bit(value, 1),
            shutdown_status: ShutdownStatus::from_code(shutdown).expect("two bits are all codes"),
            subsystem_reset_occurred: bit(value, 4),
            processing_paused: bit(value, 5),
            subsystem_shutdown: bit(value, 6),
        }
    }
}

impl Default for ControllerStatus {
    /// All zeroes: not ready.
    fn default() -> ControllerStatus {
        ControllerStatus::parse(0)
    }
}

/// Controller Ready Timeouts (CRTO; Base, 3.1.4.21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadyTimeouts {
    /// Controller ready with media timeout (CRWMT), in 500 ms.
    pub with_media_500ms: u16,
    /// Controller ready independent of media timeout (CRIMT), in 500 ms.
    pub independent_of_media_500ms: u16,
}

impl ReadyTimeouts {
    /// As the property.
    pub const fn encode(self) -> u32 {
        (self.independent_of_media_500ms as u32) << 16 | self.with_media_500ms as u32
    }

    /// From the property.
    pub const fn parse(value: u32) -> ReadyTimeouts {
        ReadyTimeouts {
            with_media_500ms: value as u16,
            independent_of_media_500ms: (value >> 16) as u16,
        }
    }
}

/// What written to NVM Subsystem Reset (NSSR) resets the subsystem: "NVMe".
pub const SUBSYSTEM_RESET: u32 = 0x4E56_4D65;
