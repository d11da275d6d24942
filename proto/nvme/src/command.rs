//! Commands: the queue entries as bytes, and what they say as types.
//!
//! [`entry`] has the two fixed structures, [`sgl`] where data is, [`opcode`] the numbers; [`admin`], [`fabrics`] and
//! [`io`] the parsed commands, each with `parse` and `encode`.

pub mod admin;
pub mod entry;
pub mod fabrics;
pub mod io;
pub mod opcode;
pub mod sgl;
#[cfg(test)]
mod tests;

pub use admin::{Abort, AdminCommand, Cns, GetFeatures, GetLogPage, Identify, Select, SetFeatures};
pub use entry::{CompletionQueueEntry, SubmissionQueueEntry};
pub use fabrics::{
    Authentication, Connect, ConnectAttributes, Disconnect, FabricsCommand, PropertyGet, PropertySet,
    PropertySize,
};
pub use io::{
    Compare, DatasetManagement, DatasetManagementRange, IoCommand, LogicalBlocks, Read, ReservationAcquire,
    ReservationRegister, ReservationRelease, ReservationReport, Write, WriteZeroes,
};
pub use opcode::{AdminOpcode, FABRICS_OPCODE, FabricsCommandType, IoOpcode};
pub use sgl::{Sgl, SglDescriptor};

use crate::{Status, connect::InvalidParameter};
use core::fmt;

/// Where in a submission queue entry an error is (Base, 5.1.12.1.2 Error Information, Parameter Error Location).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ParameterErrorLocation {
    /// The byte, 0 to 63.
    pub byte: u8,
    /// The bit in that byte, 0 to 7.
    pub bit: u8,
}

impl ParameterErrorLocation {
    /// In the error information log: the error is not in one particular field.
    pub const NONE: u16 = 0xFFFF;

    /// Bit 0 of a byte of the entry.
    pub const fn byte(byte: u8) -> ParameterErrorLocation {
        ParameterErrorLocation { byte, bit: 0 }
    }

    /// As in the error information log.
    pub const fn encode(self) -> u16 {
        (self.bit as u16 & 7) << 8 | self.byte as u16
    }

    /// From the error information log.
    pub const fn parse(bits: u16) -> Option<ParameterErrorLocation> {
        if bits == ParameterErrorLocation::NONE {
            return None;
        }
        Some(ParameterErrorLocation {
            byte: bits as u8,
            bit: (bits >> 8) as u8 & 7,
        })
    }
}

/// A command that no controller could make sense of: the status to answer with and where the offence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// The status to answer with; always with *do not retry*.
    pub status: Status,
    /// Where in the entry.
    pub location: ParameterErrorLocation,
}

impl InvalidField {
    /// *Invalid field in command* at bit 0 of a byte of the entry.
    pub const fn at(byte: u8) -> InvalidField {
        InvalidField::with(Status::INVALID_FIELD, byte, 0)
    }

    /// Another status at a byte and bit of the entry.
    pub const fn with(status: Status, byte: u8, bit: u8) -> InvalidField {
        InvalidField {
            status: status.do_not_retry(),
            location: ParameterErrorLocation { byte, bit },
        }
    }

    /// Dword 0 of the completion: *connect invalid parameters* says there which parameter, nothing else does.
    pub fn result(&self) -> u32 {
        if self.status.is(Status::CONNECT_INVALID_PARAMETERS) {
            return InvalidParameter::in_entry(self.location.byte.into()).encode();
        }
        0
    }
}

impl fmt::Display for InvalidField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ParameterErrorLocation { byte, bit } = self.location;
        write!(formatter, "{} at byte {byte}, bit {bit}", self.status)
    }
}

impl core::error::Error for InvalidField {}

/// Offset of command dword `number` in the entry.
pub(crate) const fn dword_offset(number: u8) -> u8 {
    number * 4
}
