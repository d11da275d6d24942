//! Identify structures around I/O command sets: the NVM command set's own (CNS 05h and 06h; NVM, 4.1.5.3 and 4.1.5.4), the
//! independent one of a namespace (CNS 08h; Base, 5.1.13.2.8), and which sets there are (CNS 1Ch; Base, 5.1.13.2.19).

use crate::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Command set identifier (CSI) of the NVM command set.
pub const CSI_NVM: u8 = 0x00;

/// NVM command set specific Identify Namespace data structure (CNS 05h, CSI 00h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NvmIdentifyNamespace {
    /// Logical block storage tag mask (LBSTM).
    pub lbstm: U64,
    /// Protection information capabilities (PIC).
    pub pic: u8,
    /// Protection information format attribute (PIFA).
    pub pifa: u8,
    pub(crate) reserved_10: [u8; 2],
    /// Extended LBA formats 0 to 63 (ELBAF0 to ELBAF63).
    pub elbaf: [U32; 64],
    /// Namespace preferred deallocate granularity large (NPDGL).
    pub npdgl: U32,
    /// Namespace preferred read granularity (NPRG), 0's based.
    pub nprg: U32,
    /// Namespace preferred read alignment (NPRA), 0's based.
    pub npra: U32,
    /// Namespace optimal read size (NORS), 0's based.
    pub nors: U32,
    /// Namespace preferred deallocate alignment large (NPDAL).
    pub npdal: U32,
    /// LBA format placement shard size (LBAPSS), in logical blocks.
    pub lbapss: U32,
    /// Tracked LBA allocation granularity (TLBAAG).
    pub tlbaag: U32,
    pub(crate) reserved_296: [u8; 3800],
}
wire!(NvmIdentifyNamespace, 4096);

/// NVM command set specific Identify Controller data structure (CNS 06h, CSI 00h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NvmIdentifyController {
    /// Verify size limit (VSL): 2^this memory pages of the minimum size; 0 for no limit.
    pub vsl: u8,
    /// Write zeroes size limit (WZSL): 2^this memory pages of the minimum size; 0 for no limit told.
    pub wzsl: u8,
    /// Write uncorrectable size limit (WUSL): 2^this memory pages of the minimum size.
    pub wusl: u8,
    /// Dataset management ranges limit (DMRL); 0 for no limit told.
    pub dmrl: u8,
    /// Dataset management range size limit (DMRSL), in logical blocks; 0 for no limit told.
    pub dmrsl: U32,
    /// Dataset management size limit (DMSL), in logical blocks; 0 for no limit told.
    pub dmsl: U64,
    /// Key per I/O capability (KPIOCAP).
    pub kpiocap: u8,
    /// Write zeroes with deallocate size limit (WZDSL).
    pub wzdsl: u8,
    /// Admin optional command support (AOCS).
    pub aocs: U16,
    /// Version (VER) of the NVM command set specification.
    pub ver: U32,
    /// LBA migration queue format (LBAMQF).
    pub lbamqf: u8,
    pub(crate) reserved_25: [u8; 4071],
}
wire!(NvmIdentifyController, 4096);

/// I/O Command Set Independent Identify Namespace data structure (CNS 08h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IndependentNamespace {
    /// Common namespace features (NSFEAT): bit 3 identifiers are not reused, bit 4 rotational media, bit 5 VWCNP.
    pub nsfeat: u8,
    /// Multi-path I/O and namespace sharing capabilities (NMIC): see [`crate::identify::namespace::nmic`].
    pub nmic: u8,
    /// Reservation capabilities (RESCAP): see [`crate::reservation::capabilities`].
    pub rescap: u8,
    /// Format progress indicator (FPI).
    pub fpi: u8,
    /// ANA group identifier (ANAGRPID).
    pub anagrpid: U32,
    /// Namespace attributes (NSATTR): see [`crate::identify::namespace::nsattr`].
    pub nsattr: u8,
    pub(crate) reserved_9: u8,
    /// NVM set identifier (NVMSETID).
    pub nvmsetid: U16,
    /// Endurance group identifier (ENDGID).
    pub endgid: U16,
    /// Namespace status (NSTAT): see [`nstat`].
    pub nstat: u8,
    /// Key per I/O status (KPIOS).
    pub kpios: u8,
    /// Maximum key tag (MAXKT).
    pub maxkt: U16,
    pub(crate) reserved_18: [u8; 2],
    /// Reachability group identifier (RGRPID).
    pub rgrpid: U32,
    pub(crate) reserved_24: [u8; 4072],
}
wire!(IndependentNamespace, 4096);

/// Bits of NSTAT.
pub mod nstat {
    /// The namespace is ready.
    pub const READY: u8 = 1 << 0;
}

/// Identify I/O Command Set data structure (CNS 1Ch): the combinations of command sets that a host can select.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IoCommandSets {
    /// I/O command set combinations 0 to 511; the first zero ends the list.
    pub combinations: [CommandSetVector; 512],
}
wire!(IoCommandSets, 4096);

impl IoCommandSets {
    /// One combination: the NVM command set alone.
    pub fn nvm_only() -> IoCommandSets {
        let mut sets = IoCommandSets::default();
        sets.combinations[0] = CommandSetVector::NVM;
        sets
    }
}

/// I/O command set vector: one bit for each set, by its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CommandSetVector {
    /// Bit 0 NVM, bit 1 key value, bit 2 zoned namespaces, bit 3 subsystem local memory, bit 4 computational programs.
    pub sets: U64,
}
wire!(CommandSetVector, 8);

impl CommandSetVector {
    /// The NVM command set alone.
    pub const NVM: CommandSetVector = CommandSetVector {
        sets: U64::from_bytes(1u64.to_le_bytes()),
    };
}
