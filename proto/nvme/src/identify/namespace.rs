//! Identify Namespace data structure of the NVM command set (CNS 00h; NVM, 4.1.5.1).

use crate::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Identify Namespace data structure. All zeroes: the namespace is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IdentifyNamespace {
    /// Namespace size (NSZE), in logical blocks.
    pub nsze: U64,
    /// Namespace capacity (NCAP), in logical blocks.
    pub ncap: U64,
    /// Namespace utilization (NUSE), in logical blocks.
    pub nuse: U64,
    /// Namespace features (NSFEAT): see [`nsfeat`].
    pub nsfeat: u8,
    /// Number of LBA formats (NLBAF), 0's based.
    pub nlbaf: u8,
    /// Formatted LBA size (FLBAS): index of the format in use (bits 3:0, upper part in bits 6:5), bit 4 metadata inline.
    pub flbas: u8,
    /// Metadata capabilities (MC).
    pub mc: u8,
    /// End-to-end data protection capabilities (DPC).
    pub dpc: u8,
    /// End-to-end data protection type settings (DPS).
    pub dps: u8,
    /// Multi-path I/O and namespace sharing capabilities (NMIC): see [`nmic`].
    pub nmic: u8,
    /// Reservation capabilities (RESCAP): see [`crate::reservation::capabilities`].
    pub rescap: u8,
    /// Format progress indicator (FPI).
    pub fpi: u8,
    /// Deallocate logical block features (DLFEAT): see [`dlfeat`].
    pub dlfeat: u8,
    /// Namespace atomic write unit normal (NAWUN), 0's based.
    pub nawun: U16,
    /// Namespace atomic write unit power fail (NAWUPF), 0's based.
    pub nawupf: U16,
    /// Namespace atomic compare and write unit (NACWU), 0's based.
    pub nacwu: U16,
    /// Namespace atomic boundary size normal (NABSN), 0's based.
    pub nabsn: U16,
    /// Namespace atomic boundary offset (NABO).
    pub nabo: U16,
    /// Namespace atomic boundary size power fail (NABSPF), 0's based.
    pub nabspf: U16,
    /// Namespace optimal I/O boundary (NOIOB), in logical blocks; 0 for none.
    pub noiob: U16,
    /// NVM capacity (NVMCAP), in bytes.
    pub nvmcap: U128,
    /// Namespace preferred write granularity (NPWG), 0's based.
    pub npwg: U16,
    /// Namespace preferred write alignment (NPWA), 0's based.
    pub npwa: U16,
    /// Namespace preferred deallocate granularity (NPDG), 0's based.
    pub npdg: U16,
    /// Namespace preferred deallocate alignment (NPDA), 0's based.
    pub npda: U16,
    /// Namespace optimal write size (NOWS), 0's based.
    pub nows: U16,
    /// Maximum single source range length (MSSRL).
    pub mssrl: U16,
    /// Maximum copy length (MCL).
    pub mcl: U32,
    /// Maximum source range count (MSRC), 0's based.
    pub msrc: u8,
    /// Key per I/O status (KPIOS).
    pub kpios: u8,
    /// Number of unique capability LBA formats (NULBAF).
    pub nulbaf: u8,
    pub(crate) reserved_83: u8,
    /// Key per I/O data access alignment and granularity (KPIODAAG), 0's based.
    pub kpiodaag: U32,
    pub(crate) reserved_88: [u8; 4],
    /// ANA group identifier (ANAGRPID); 0 for none.
    pub anagrpid: U32,
    pub(crate) reserved_96: [u8; 3],
    /// Namespace attributes (NSATTR): see [`nsattr`].
    pub nsattr: u8,
    /// NVM set identifier (NVMSETID).
    pub nvmsetid: U16,
    /// Endurance group identifier (ENDGID).
    pub endgid: U16,
    /// Namespace globally unique identifier (NGUID); zeroes for none.
    pub nguid: [u8; 16],
    /// IEEE extended unique identifier (EUI64); zeroes for none.
    pub eui64: [u8; 8],
    /// LBA formats 0 to 63 (LBAF0 to LBAF63).
    pub lbaf: [LbaFormat; 64],
    /// Vendor specific (VS).
    pub vendor_specific: [u8; 3712],
}
wire!(IdentifyNamespace, 4096);

impl IdentifyNamespace {
    /// Index of the LBA format in use, of both parts of FLBAS; the upper part counts only with more than 16 formats.
    pub fn lba_format_index(&self) -> usize {
        let low = usize::from(self.flbas & 0x0F);
        if self.nlbaf < 16 {
            return low;
        }
        low | usize::from(self.flbas >> 5 & 0b11) << 4
    }

    /// The LBA format in use.
    pub fn lba_format(&self) -> LbaFormat {
        self.lbaf[self.lba_format_index()]
    }
}

/// LBA format (NVM, figure "LBA Format Data Structure").
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LbaFormat {
    /// Metadata size (MS), in bytes per logical block.
    pub metadata_size: U16,
    /// LBA data size (LBADS): 2^this bytes; at least 9, 0 for a format that is not available.
    pub lba_data_size: u8,
    /// Relative performance (RP), bits 1:0: 0 best to 3 degraded.
    pub relative_performance: u8,
}
wire!(LbaFormat, 4);

impl LbaFormat {
    /// A format of blocks of 2^`lba_data_size` bytes without metadata.
    pub fn new(lba_data_size: u8) -> LbaFormat {
        LbaFormat {
            lba_data_size,
            ..LbaFormat::default()
        }
    }

    /// Bytes of a logical block; `None` for a format that is not available or that no machine can hold.
    pub fn block_size(&self) -> Option<u32> {
        match self.lba_data_size {
            shift @ 9..=31 => Some(1 << shift),
            _ => None,
        }
    }
}

/// Bits of NSFEAT.
pub mod nsfeat {
    /// Thin provisioning.
    pub const THIN_PROVISIONING: u8 = 1 << 0;
    /// NAWUN, NAWUPF and NACWU are the namespace's own.
    pub const NAMESPACE_ATOMIC_UNITS: u8 = 1 << 1;
    /// Errors for deallocated or unwritten logical blocks are supported.
    pub const DEALLOCATED_ERROR: u8 = 1 << 2;
    /// NGUID and EUI64 are never reused.
    pub const IDENTIFIERS_NOT_REUSED: u8 = 1 << 3;
    /// NPWG, NPWA, NPDG, NPDA and NOWS are defined (bits 5:4, 01b).
    pub const OPTIMAL_PERFORMANCE: u8 = 1 << 4;
}

/// Bits of NMIC.
pub mod nmic {
    /// The namespace may be attached to more than one controller.
    pub const SHARED: u8 = 1 << 0;
    /// The namespace is dispersed.
    pub const DISPERSED: u8 = 1 << 1;
}

/// Bits of DLFEAT.
pub mod dlfeat {
    /// What deallocated blocks read (bits 2:0): not told.
    pub const READ_NOT_REPORTED: u8 = 0;
    /// What deallocated blocks read (bits 2:0): zeroes.
    pub const READ_ZEROES: u8 = 1;
    /// What deallocated blocks read (bits 2:0): FFh.
    pub const READ_ONES: u8 = 2;
    /// Write Zeroes takes *deallocate*.
    pub const WRITE_ZEROES_DEALLOCATES: u8 = 1 << 3;
    /// Guard of deallocated blocks is that of their contents.
    pub const GUARD_IS_CRC: u8 = 1 << 4;
}

/// Bits of NSATTR.
pub mod nsattr {
    /// The namespace is write protected.
    pub const WRITE_PROTECTED: u8 = 1 << 0;
}
