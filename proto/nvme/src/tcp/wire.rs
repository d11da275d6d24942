//! The units' headers as fixed structures (TCP, 3.6.2). [`super::Header`] and [`super::Pdu`] are parsed.

use crate::{CompletionQueueEntry, SubmissionQueueEntry, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// PDU common header (CH).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CommonHeader {
    /// PDU type (PDU-Type): see [`super::PduType`].
    pub pdu_type: u8,
    /// Flags (FLAGS): see [`flags`].
    pub flags: u8,
    /// Header length (HLEN), in bytes, without digest.
    pub hlen: u8,
    /// PDU data offset (PDO), in bytes from the start of the unit.
    pub pdo: u8,
    /// PDU length (PLEN), in bytes, with everything.
    pub plen: U32,
}
wire!(CommonHeader, 8);

/// Bits of [`CommonHeader::flags`].
pub mod flags {
    /// A header digest follows the header (HDGSTF).
    pub const HEADER_DIGEST: u8 = 1 << 0;
    /// A data digest follows the data (DDGSTF).
    pub const DATA_DIGEST: u8 = 1 << 1;
    /// The last data unit of a transfer (LAST_PDU).
    pub const LAST: u8 = 1 << 2;
    /// The command succeeded; no response capsule will come (SUCCESS).
    pub const SUCCESS: u8 = 1 << 3;
}

/// Initialize Connection Request (ICReq).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcReqPdu {
    /// Common header.
    pub header: CommonHeader,
    /// PDU format version (PFV): 0.
    pub pfv: U16,
    /// Host PDU data alignment (HPDA), 0's based dwords, at most 31.
    pub hpda: u8,
    /// Digests asked for (DGST): see [`dgst`].
    pub dgst: u8,
    /// Maximum outstanding R2Ts per command (MAXR2T), 0's based.
    pub maxr2t: U32,
    pub(crate) reserved_16: [u8; 112],
}
wire!(IcReqPdu, 128);

/// Initialize Connection Response (ICResp).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcRespPdu {
    /// Common header.
    pub header: CommonHeader,
    /// PDU format version (PFV): 0.
    pub pfv: U16,
    /// Controller PDU data alignment (CPDA), 0's based dwords, at most 31.
    pub cpda: u8,
    /// Digests in use (DGST): see [`dgst`].
    pub dgst: u8,
    /// Maximum host to controller data per unit (MAXH2CDATA), in bytes; a multiple of 4, at least 4096.
    pub maxh2cdata: U32,
    pub(crate) reserved_16: [u8; 112],
}
wire!(IcRespPdu, 128);

/// Bits of DGST.
pub mod dgst {
    /// Header digest enable (HDGST_ENABLE).
    pub const HEADER: u8 = 1 << 0;
    /// Data digest enable (DDGST_ENABLE).
    pub const DATA: u8 = 1 << 1;
}

/// Host or Controller Terminate Connection Request (H2CTermReq, C2HTermReq); the offending header follows as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TermReqPdu {
    /// Common header.
    pub header: CommonHeader,
    /// Fatal error status (FES).
    pub fes: U16,
    /// Fatal error information (FEI).
    pub fei: U32,
    pub(crate) reserved_14: [u8; 10],
}
wire!(TermReqPdu, 24);

/// Command Capsule (CapsuleCmd).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CapsuleCmdPdu {
    /// Common header.
    pub header: CommonHeader,
    /// Submission queue entry (CCSQE).
    pub entry: SubmissionQueueEntry,
}
wire!(CapsuleCmdPdu, 72);

/// Response Capsule (CapsuleResp).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CapsuleRespPdu {
    /// Common header.
    pub header: CommonHeader,
    /// Completion queue entry (RCCQE).
    pub entry: CompletionQueueEntry,
}
wire!(CapsuleRespPdu, 24);

/// Ready to Transfer (R2T).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct R2tPdu {
    /// Common header.
    pub header: CommonHeader,
    /// Command's identifier (CCCID).
    pub cccid: U16,
    /// Transfer tag (TTAG), the controller's.
    pub ttag: U16,
    /// Offset of the data asked for (R2TO), in bytes from the start of the command's data.
    pub r2to: U32,
    /// Length of the data asked for (R2TL), in bytes.
    pub r2tl: U32,
    pub(crate) reserved_20: [u8; 4],
}
wire!(R2tPdu, 24);

/// Host to Controller Data (H2CData).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct H2cDataPdu {
    /// Common header.
    pub header: CommonHeader,
    /// Command's identifier (CCCID).
    pub cccid: U16,
    /// Transfer tag (TTAG) of the R2T that this answers.
    pub ttag: U16,
    /// Offset of the data (DATAO), in bytes from the start of the command's data.
    pub datao: U32,
    /// Length of the data (DATAL), in bytes.
    pub datal: U32,
    pub(crate) reserved_20: [u8; 4],
}
wire!(H2cDataPdu, 24);

/// Controller to Host Data (C2HData).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct C2hDataPdu {
    /// Common header.
    pub header: CommonHeader,
    /// Command's identifier (CCCID).
    pub cccid: U16,
    pub(crate) reserved_10: [u8; 2],
    /// Offset of the data (DATAO), in bytes from the start of the command's data.
    pub datao: U32,
    /// Length of the data (DATAL), in bytes.
    pub datal: U32,
    pub(crate) reserved_20: [u8; 4],
}
wire!(C2hDataPdu, 24);
