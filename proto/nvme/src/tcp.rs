//! NVMe/TCP (TCP, 3): the units on a connection.
//!
//! A unit (PDU) is a common header of 8 bytes, the rest of its header, a header digest if negotiated, padding, data, a data
//! digest if negotiated. Who receives takes 8 bytes, calls [`Header::parse`], collects [`Header::leading_length`] bytes in
//! all, calls [`Pdu::parse`] (which checks the header digest), skips [`Header::padding_length`], takes
//! [`Header::data_length`] bytes of data and, if [`Header::has_data_digest`], a digest of 4. Who sends calls
//! [`Pdu::encode`], which makes everything up to the data.
//!
//! [`wire`] has the fixed structures, [`header`] what every unit says, [`pdu`] what each says, [`digest`] the digests.
//! Deliberately not here: which unit may come when; that is the session's.

pub mod digest;
pub mod header;
pub mod pdu;
#[cfg(test)]
mod tests;
pub mod wire;

pub use digest::{DIGEST_LENGTH, DataDigest};
pub use header::{DataAlignment, Digests, Framing, Header, PduType, ReceiveRules, Receiver};
pub use pdu::{C2hData, H2cData, IcReq, IcResp, Pdu, R2t, TermReq};

/// TCP port of the discovery service, registered with IANA.
pub const DISCOVERY_PORT: u16 = 8009;
/// TCP port of I/O controllers, registered with IANA.
pub const IO_PORT: u16 = 4420;
/// In-capsule data that every controller takes on the admin queue, in bytes (TCP, 3.3.2).
pub const ADMIN_IN_CAPSULE_DATA: u32 = 8192;
/// The least MAXH2CDATA, in bytes (TCP, 3.6.2.3).
pub const MIN_MAX_H2C_DATA: u32 = 4096;

codes! {
    /// Fatal error status (FES): why a connection is terminated.
    pub enum FatalErrorStatus: u16 {
        InvalidPduHeaderField = 0x01 "invalid PDU header field",
        PduSequenceError = 0x02 "PDU sequence error",
        HeaderDigestError = 0x03 "header digest error",
        DataTransferOutOfRange = 0x04 "data transfer out of range",
        LimitExceeded = 0x05 "R2T limit or data transfer limit exceeded",
        UnsupportedParameter = 0x06 "unsupported parameter",
    }
}

/// Why a connection must be terminated, as the terminate request says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatalError {
    /// Fatal error status (FES).
    pub status: FatalErrorStatus,
    /// Fatal error information (FEI): the offset of the field in the header that is wrong, or the digest received; else 0.
    pub information: u32,
}

impl FatalError {
    /// A field of the header, at byte `offset`, is wrong.
    pub const fn field(offset: u32) -> FatalError {
        FatalError {
            status: FatalErrorStatus::InvalidPduHeaderField,
            information: offset,
        }
    }

    /// An error about which there is nothing more to say.
    pub const fn new(status: FatalErrorStatus) -> FatalError {
        FatalError {
            status,
            information: 0,
        }
    }

    /// An error of the field at byte `offset` of the header.
    pub const fn with(status: FatalErrorStatus, offset: u32) -> FatalError {
        FatalError {
            status,
            information: offset,
        }
    }
}

impl core::fmt::Display for FatalError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.status {
            FatalErrorStatus::HeaderDigestError => {
                write!(formatter, "{} (received {:08x}h)", self.status, self.information)
            }
            status => write!(formatter, "{status} (byte {})", self.information),
        }
    }
}

impl core::error::Error for FatalError {}
