//! Identify Controller data structure (CNS 01h; Base, 5.1.13.2.1).

use crate::{
    Nqn, U16, U32, U128,
    identify::text::{fill_text, read_text},
    nqn::InvalidNqn,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

codes! {
    /// Controller type (CNTRLTYPE).
    pub enum ControllerType: u8 {
        NotReported = 0x0 "not reported",
        Io = 0x1 "I/O controller",
        Discovery = 0x2 "discovery controller",
        Administrative = 0x3 "administrative controller",
    }
}

/// Identify Controller data structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IdentifyController {
    /// PCI vendor ID (VID); 0 in fabrics.
    pub vid: U16,
    /// PCI subsystem vendor ID (SSVID); 0 in fabrics.
    pub ssvid: U16,
    /// Serial number (SN), ASCII: see [`IdentifyController::set_serial_number`].
    pub sn: [u8; 20],
    /// Model number (MN), ASCII.
    pub mn: [u8; 40],
    /// Firmware revision (FR), ASCII.
    pub fr: [u8; 8],
    /// Recommended arbitration burst (RAB), 2^this commands.
    pub rab: u8,
    /// IEEE OUI identifier (IEEE).
    pub ieee: [u8; 3],
    /// Controller multi-path I/O and namespace sharing capabilities (CMIC): see [`cmic`].
    pub cmic: u8,
    /// Maximum data transfer size (MDTS): 2^this memory pages of the minimum size; 0 for no limit.
    pub mdts: u8,
    /// Controller ID (CNTLID).
    pub cntlid: U16,
    /// Version (VER): see [`crate::property::Version`].
    pub ver: U32,
    /// RTD3 resume latency (RTD3R), in microseconds.
    pub rtd3r: U32,
    /// RTD3 entry latency (RTD3E), in microseconds.
    pub rtd3e: U32,
    /// Optional asynchronous events supported (OAES): see [`crate::async_event::AsyncEventSet`].
    pub oaes: U32,
    /// Controller attributes (CTRATT): see [`ctratt`].
    pub ctratt: U32,
    /// Read recovery levels supported (RRLS).
    pub rrls: U16,
    /// Boot partition capabilities (BPCAP).
    pub bpcap: u8,
    pub(crate) reserved_103: u8,
    /// NVM subsystem shutdown latency (NSSL), in microseconds.
    pub nssl: U32,
    pub(crate) reserved_108: [u8; 2],
    /// Power loss signaling information (PLSI).
    pub plsi: u8,
    /// Controller type (CNTRLTYPE): see [`ControllerType`].
    pub cntrltype: u8,
    /// FRU globally unique identifier (FGUID).
    pub fguid: [u8; 16],
    /// Command retry delay time 1 (CRDT1), in 100 ms.
    pub crdt1: U16,
    /// Command retry delay time 2 (CRDT2), in 100 ms.
    pub crdt2: U16,
    /// Command retry delay time 3 (CRDT3), in 100 ms.
    pub crdt3: U16,
    /// Controller reachability capabilities (CRCAP).
    pub crcap: u8,
    pub(crate) reserved_135: [u8; 105],
    pub(crate) reserved_240: [u8; 13],
    /// NVM subsystem report (NVMSR).
    pub nvmsr: u8,
    /// VPD write cycle information (VWCI).
    pub vwci: u8,
    /// Management endpoint capabilities (MEC).
    pub mec: u8,
    /// Optional admin command support (OACS): see [`oacs`].
    pub oacs: U16,
    /// Abort command limit (ACL), 0's based.
    pub acl: u8,
    /// Asynchronous event request limit (AERL), 0's based.
    pub aerl: u8,
    /// Firmware updates (FRMW): bit 0 slot 1 is read only, bits 3:1 slots, bit 4 activation without reset.
    pub frmw: u8,
    /// Log page attributes (LPA): see [`lpa`].
    pub lpa: u8,
    /// Error log page entries (ELPE), 0's based.
    pub elpe: u8,
    /// Number of power states support (NPSS), 0's based.
    pub npss: u8,
    /// Admin vendor specific command configuration (AVSCC).
    pub avscc: u8,
    /// Autonomous power state transition attributes (APSTA).
    pub apsta: u8,
    /// Warning composite temperature threshold (WCTEMP), in kelvins.
    pub wctemp: U16,
    /// Critical composite temperature threshold (CCTEMP), in kelvins.
    pub cctemp: U16,
    /// Maximum time for firmware activation (MTFA), in 100 ms.
    pub mtfa: U16,
    /// Host memory buffer preferred size (HMPRE), in 4 KiB.
    pub hmpre: U32,
    /// Host memory buffer minimum size (HMMIN), in 4 KiB.
    pub hmmin: U32,
    /// Total NVM capacity (TNVMCAP), in bytes.
    pub tnvmcap: U128,
    /// Unallocated NVM capacity (UNVMCAP), in bytes.
    pub unvmcap: U128,
    /// Replay protected memory block support (RPMBS).
    pub rpmbs: U32,
    /// Extended device self-test time (EDSTT), in minutes.
    pub edstt: U16,
    /// Device self-test options (DSTO).
    pub dsto: u8,
    /// Firmware update granularity (FWUG), in 4 KiB.
    pub fwug: u8,
    /// Keep alive support (KAS): granularity of the keep alive timer, in 100 ms; 0 for none.
    pub kas: U16,
    /// Host controlled thermal management attributes (HCTMA).
    pub hctma: U16,
    /// Minimum thermal management temperature (MNTMT), in kelvins.
    pub mntmt: U16,
    /// Maximum thermal management temperature (MXTMT), in kelvins.
    pub mxtmt: U16,
    /// Sanitize capabilities (SANICAP).
    pub sanicap: U32,
    /// Host memory buffer minimum descriptor entry size (HMMINDS), in 4 KiB.
    pub hmminds: U32,
    /// Host memory maximum descriptors entries (HMMAXD).
    pub hmmaxd: U16,
    /// NVM set identifier maximum (NSETIDMAX).
    pub nsetidmax: U16,
    /// Endurance group identifier maximum (ENDGIDMAX).
    pub endgidmax: U16,
    /// ANA transition time (ANATT), in seconds: the longest that a group is in state *change*.
    pub anatt: u8,
    /// Asymmetric namespace access capabilities (ANACAP): see [`anacap`].
    pub anacap: u8,
    /// ANA group identifier maximum (ANAGRPMAX).
    pub anagrpmax: U32,
    /// Number of ANA group identifiers (NANAGRPID).
    pub nanagrpid: U32,
    /// Persistent event log size (PELS), in 64 KiB.
    pub pels: U32,
    /// Domain identifier (DID).
    pub did: U16,
    /// Key per I/O capabilities (KPIOC).
    pub kpioc: u8,
    pub(crate) reserved_359: u8,
    /// Maximum processing time for firmware activation without reset (MPTFAWR), in 100 ms.
    pub mptfawr: U16,
    pub(crate) reserved_362: [u8; 6],
    /// Max endurance group capacity (MEGCAP), in bytes.
    pub megcap: U128,
    /// Temperature threshold hysteresis attributes (TMPTHHA).
    pub tmpthha: u8,
    pub(crate) reserved_385: u8,
    /// Command quiesce time (CQT), in milliseconds.
    pub cqt: U16,
    pub(crate) reserved_388: [u8; 124],
    /// Submission queue entry size (SQES): required (bits 3:0) and maximum (bits 7:4), 2^this bytes.
    pub sqes: u8,
    /// Completion queue entry size (CQES): required (bits 3:0) and maximum (bits 7:4), 2^this bytes.
    pub cqes: u8,
    /// Maximum outstanding commands (MAXCMD) on one queue; not 0 in fabrics.
    pub maxcmd: U16,
    /// Number of namespaces (NN): the highest namespace identifier.
    pub nn: U32,
    /// Optional NVM command support (ONCS): see [`oncs`].
    pub oncs: U16,
    /// Fused operation support (FUSES): bit 0 compare and write.
    pub fuses: U16,
    /// Format NVM attributes (FNA).
    pub fna: u8,
    /// Volatile write cache (VWC): see [`vwc`].
    pub vwc: u8,
    /// Atomic write unit normal (AWUN), 0's based logical blocks.
    pub awun: U16,
    /// Atomic write unit power fail (AWUPF), 0's based logical blocks.
    pub awupf: U16,
    /// I/O command set vendor specific command configuration (ICSVSCC).
    pub icsvscc: u8,
    /// Namespace write protection capabilities (NWPC).
    pub nwpc: u8,
    /// Atomic compare and write unit (ACWU), 0's based logical blocks.
    pub acwu: U16,
    /// Copy descriptor formats supported (CDFS).
    pub cdfs: U16,
    /// SGL support (SGLS): see [`sgls`].
    pub sgls: U32,
    /// Maximum number of allowed namespaces (MNAN).
    pub mnan: U32,
    /// Maximum domain namespace attachments (MAXDNA).
    pub maxdna: U128,
    /// Maximum I/O controller namespace attachments (MAXCNA).
    pub maxcna: U32,
    /// Optimal aggregated queue depth (OAQD).
    pub oaqd: U32,
    /// Recommended host-initiated refresh interval (RHIRI), in days.
    pub rhiri: u8,
    /// Host-initiated refresh time (HIRT), in minutes.
    pub hirt: u8,
    /// Controller maximum memory range tracking descriptors (CMMRTD).
    pub cmmrtd: U16,
    /// NVM subsystem maximum memory range tracking descriptors (NMMRTD).
    pub nmmrtd: U16,
    /// Minimum memory range tracking granularity (MINMRTG).
    pub minmrtg: u8,
    /// Maximum memory range tracking granularity (MAXMRTG).
    pub maxmrtg: u8,
    /// Tracking attributes (TRATTR).
    pub trattr: u8,
    pub(crate) reserved_577: u8,
    /// Maximum controller user data migration queues (MCUDMQ).
    pub mcudmq: U16,
    /// Maximum NVM subsystem user data migration queues (MNSUDMQ).
    pub mnsudmq: U16,
    /// Maximum CDQ memory ranges (MCMR).
    pub mcmr: U16,
    /// NVM subsystem maximum CDQ memory ranges (NMCMR).
    pub nmcmr: U16,
    /// Maximum controller data queue PRP count (MCDQPC).
    pub mcdqpc: U16,
    pub(crate) reserved_588: [u8; 180],
    /// NVM subsystem's name (SUBNQN), padded with NUL.
    pub subnqn: [u8; 256],
    pub(crate) reserved_1024: [u8; 768],
    /// I/O queue command capsule supported size (IOCCSZ), in 16 bytes; at least 4.
    pub ioccsz: U32,
    /// I/O queue response capsule supported size (IORCSZ), in 16 bytes; at least 1.
    pub iorcsz: U32,
    /// In capsule data offset (ICDOFF), in 16 bytes behind the entry.
    pub icdoff: U16,
    /// Fabrics controller attributes (FCATT): bit 0 clear for the dynamic controller model.
    pub fcatt: u8,
    /// Maximum SGL data block descriptors (MSDBD); 0 for no limit.
    pub msdbd: u8,
    /// Optional fabrics commands support (OFCS): bit 0 Disconnect.
    pub ofcs: U16,
    /// Discovery controller type (DCTYPE): 1 direct, 2 central.
    pub dctype: u8,
    pub(crate) reserved_1807: [u8; 241],
    /// Power state 0 to 31 descriptors (PSD0 to PSD31).
    pub psd: [PowerStateDescriptor; 32],
    /// Vendor specific (VS).
    pub vendor_specific: [u8; 1024],
}
wire!(IdentifyController, 4096);

impl IdentifyController {
    /// SQES in every NVM controller: 64 bytes, required and maximum.
    pub const SQES: u8 = 0x66;
    /// CQES in every NVM controller: 16 bytes, required and maximum.
    pub const CQES: u8 = 0x44;

    /// Writes the serial number, padded with spaces.
    pub fn set_serial_number(&mut self, text: &str) {
        fill_text(&mut self.sn, text);
    }

    /// Writes the model number, padded with spaces.
    pub fn set_model_number(&mut self, text: &str) {
        fill_text(&mut self.mn, text);
    }

    /// Writes the firmware revision, padded with spaces.
    pub fn set_firmware_revision(&mut self, text: &str) {
        fill_text(&mut self.fr, text);
    }

    /// The serial number without padding; `None` if it is not text.
    pub fn serial_number(&self) -> Option<&str> {
        read_text(&self.sn)
    }

    /// The model number without padding; `None` if it is not text.
    pub fn model_number(&self) -> Option<&str> {
        read_text(&self.mn)
    }

    /// The firmware revision without padding; `None` if it is not text.
    pub fn firmware_revision(&self) -> Option<&str> {
        read_text(&self.fr)
    }

    /// The subsystem's name.
    pub fn subsystem(&self) -> Result<Nqn, InvalidNqn> {
        Nqn::parse_field(&self.subnqn)
    }

    /// How much data fits into a command capsule of an I/O queue, in bytes.
    pub fn in_capsule_data_size(&self) -> u64 {
        (u64::from(self.ioccsz.get()) * 16).saturating_sub(64)
    }

    /// The longest transfer of one command, in bytes, where the smallest memory page has `page_size` bytes; `None` for no
    /// limit.
    pub fn max_data_transfer_size(&self, page_size: u64) -> Option<u64> {
        match self.mdts {
            0 => None,
            mdts => Some(page_size.checked_shl(mdts.into()).unwrap_or(u64::MAX)),
        }
    }
}

/// Power state descriptor (Base, figure "Power State Descriptor Data Structure").
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PowerStateDescriptor {
    /// Maximum power (MP), in centiwatts, or as `flags` says.
    pub maximum_power: U16,
    pub(crate) reserved_2: u8,
    /// Max power scale (MXPS, bit 0) and non-operational state (NOPS, bit 1).
    pub flags: u8,
    /// Entry latency (ENLAT), in microseconds.
    pub entry_latency: U32,
    /// Exit latency (EXLAT), in microseconds.
    pub exit_latency: U32,
    /// Relative read throughput (RRT).
    pub relative_read_throughput: u8,
    /// Relative read latency (RRL).
    pub relative_read_latency: u8,
    /// Relative write throughput (RWT).
    pub relative_write_throughput: u8,
    /// Relative write latency (RWL).
    pub relative_write_latency: u8,
    /// Idle power (IDLP).
    pub idle_power: U16,
    /// Idle power scale (IPS, bits 7:6).
    pub idle_power_scale: u8,
    pub(crate) reserved_19: u8,
    /// Active power (ACTP).
    pub active_power: U16,
    /// Active power workload (APW, bits 2:0) and scale (APS, bits 7:6).
    pub active_power_workload: u8,
    pub(crate) reserved_23: [u8; 9],
}
wire!(PowerStateDescriptor, 32);

/// Bits of CMIC.
pub mod cmic {
    /// The subsystem may have more than one port.
    pub const MULTIPLE_PORTS: u8 = 1 << 0;
    /// The subsystem may have more than one controller.
    pub const MULTIPLE_CONTROLLERS: u8 = 1 << 1;
    /// The controller is a virtual function.
    pub const VIRTUAL_FUNCTION: u8 = 1 << 2;
    /// Asymmetric namespace access reporting.
    pub const ANA_REPORTING: u8 = 1 << 3;
}

/// Bits of CTRATT.
pub mod ctratt {
    /// 128-bit host identifiers.
    pub const HOST_ID_128_BIT: u32 = 1 << 0;
    /// Traffic based keep alive.
    pub const TRAFFIC_BASED_KEEP_ALIVE: u32 = 1 << 6;
    /// UUID list.
    pub const UUID_LIST: u32 = 1 << 9;
    /// Multiple domain subsystem.
    pub const MULTIPLE_DOMAINS: u32 = 1 << 10;
    /// Extended LBA formats.
    pub const EXTENDED_LBA_FORMATS: u32 = 1 << 15;
}

/// Bits of OACS.
pub mod oacs {
    /// Security Send and Receive.
    pub const SECURITY: u16 = 1 << 0;
    /// Format NVM.
    pub const FORMAT_NVM: u16 = 1 << 1;
    /// Firmware Commit and Image Download.
    pub const FIRMWARE: u16 = 1 << 2;
    /// Namespace Management and Attachment.
    pub const NAMESPACE_MANAGEMENT: u16 = 1 << 3;
    /// Device Self-test.
    pub const DEVICE_SELF_TEST: u16 = 1 << 4;
    /// Directives.
    pub const DIRECTIVES: u16 = 1 << 5;
}

/// Bits of LPA.
pub mod lpa {
    /// The SMART / Health log page is had of every namespace.
    pub const SMART_PER_NAMESPACE: u8 = 1 << 0;
    /// Commands Supported and Effects log page.
    pub const COMMANDS_SUPPORTED_AND_EFFECTS: u8 = 1 << 1;
    /// Get Log Page takes offsets and lengths of 32 bits.
    pub const EXTENDED_DATA: u8 = 1 << 2;
    /// Telemetry log pages and notices.
    pub const TELEMETRY: u8 = 1 << 3;
    /// Persistent Event log page.
    pub const PERSISTENT_EVENT: u8 = 1 << 4;
    /// Supported Log Pages and the other log pages of that kind.
    pub const SUPPORTED_LOG_PAGES: u8 = 1 << 5;
}

/// Bits of ONCS.
pub mod oncs {
    /// Compare.
    pub const COMPARE: u16 = 1 << 0;
    /// Write Uncorrectable.
    pub const WRITE_UNCORRECTABLE: u16 = 1 << 1;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u16 = 1 << 2;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u16 = 1 << 3;
    /// Save and select in features.
    pub const SAVE_AND_SELECT: u16 = 1 << 4;
    /// Reservations.
    pub const RESERVATIONS: u16 = 1 << 5;
    /// Timestamp.
    pub const TIMESTAMP: u16 = 1 << 6;
    /// Verify.
    pub const VERIFY: u16 = 1 << 7;
    /// Copy.
    pub const COPY: u16 = 1 << 8;
}

/// Bits of VWC.
pub mod vwc {
    /// There is a volatile write cache.
    pub const PRESENT: u8 = 1 << 0;
    /// Flush does not take the broadcast namespace (bits 2:1, 10b).
    pub const FLUSH_ALL_NOT_SUPPORTED: u8 = 0b10 << 1;
    /// Flush takes the broadcast namespace (bits 2:1, 11b).
    pub const FLUSH_ALL_SUPPORTED: u8 = 0b11 << 1;
}

/// Bits of ANACAP.
pub mod anacap {
    /// Reports state *optimized*.
    pub const OPTIMIZED: u8 = 1 << 0;
    /// Reports state *non-optimized*.
    pub const NON_OPTIMIZED: u8 = 1 << 1;
    /// Reports state *inaccessible*.
    pub const INACCESSIBLE: u8 = 1 << 2;
    /// Reports state *persistent loss*.
    pub const PERSISTENT_LOSS: u8 = 1 << 3;
    /// Reports state *change*.
    pub const CHANGE: u8 = 1 << 4;
    /// A namespace's group does not change while it is attached.
    pub const GROUP_IS_STABLE: u8 = 1 << 6;
    /// Namespace Management takes a group.
    pub const GROUP_IN_NAMESPACE_MANAGEMENT: u8 = 1 << 7;
}

/// Bits of SGLS.
pub mod sgls {
    /// SGLs (bits 1:0): supported, without alignment or granularity.
    pub const SUPPORTED: u32 = 0b01;
    /// SGLs (bits 1:0): supported, in dwords.
    pub const SUPPORTED_DWORD: u32 = 0b10;
    /// Keyed data block descriptors.
    pub const KEYED: u32 = 1 << 2;
    /// Offsets as address in data block descriptors.
    pub const OFFSET: u32 = 1 << 20;
    /// Transport data block descriptors.
    pub const TRANSPORT: u32 = 1 << 21;
}

/// Bits of OFCS.
pub mod ofcs {
    /// Disconnect, and with it deletion of single I/O queues.
    pub const DISCONNECT: u16 = 1 << 0;
}

/// Bits of FCATT.
pub mod fcatt {
    /// Static controller model; clear for the dynamic one.
    pub const STATIC_CONTROLLER_MODEL: u8 = 1 << 0;
}
