//! Error Information log page (Base, 5.1.12.1.2).

use crate::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One entry, the newest first. All zeroes: no more entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ErrorInformation {
    /// Error count (ECNT): unique, growing; 0 for an invalid entry.
    pub error_count: U64,
    /// Submission queue identifier (SQID); FFFFh if not of one command.
    pub sqid: U16,
    /// Command identifier (CID); FFFFh if not of one command.
    pub cid: U16,
    /// Status information (STSI): status field in bits 15:1, phase tag in bit 0.
    pub status: U16,
    /// Parameter error location (PEL): see [`crate::ParameterErrorLocation`].
    pub parameter_error_location: U16,
    /// First logical block with the error (LBA).
    pub lba: U64,
    /// Namespace (NSID).
    pub nsid: U32,
    /// Vendor specific log page, if one tells more (VSIA).
    pub vendor_specific_information_available: u8,
    /// Transport type (TRTYPE).
    pub transport_type: u8,
    /// Command set indicator (CSI).
    pub csi: u8,
    /// Opcode (OPC).
    pub opcode: u8,
    /// Command specific information (CSINFO).
    pub command_specific_information: U64,
    /// Transport type specific information (TTSI).
    pub transport_type_specific_information: U16,
    pub(crate) reserved_42: [u8; 21],
    /// Log page version (LPVER): 1 if opcode and command set are told.
    pub log_page_version: u8,
}
wire!(ErrorInformation, 64);
