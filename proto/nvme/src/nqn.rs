//! NVMe qualified names (Base, 4.7): the names of hosts and subsystems.
//!
//! Deliberately not checked: that the date is a date and the domain a domain. Hosts in the field bring names that
//! are neither, and a name is only ever compared.

use core::{fmt, str::FromStr};

/// A validated NVMe qualified name: `nqn.`, then at least one more byte, at most 223 bytes of UTF-8 in all, no control
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nqn(Box<str>);

/// The well-known name of every discovery subsystem (Base, 3.1.3.3).
pub const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// Why bytes are not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidNqn {
    /// No `nqn.` at the start, or nothing behind it.
    Prefix,
    /// More than 223 bytes, or no NUL in the 256 bytes of the field.
    TooLong,
    /// Not UTF-8, or a control character.
    Character,
}

impl Nqn {
    /// The longest name, in bytes, without a NUL.
    pub const MAX_LENGTH: usize = 223;
    /// The field which carries a name on the wire, in bytes, padded with NUL.
    pub const FIELD_SIZE: usize = 256;
    const PREFIX: &str = "nqn.";

    /// The name in `text`.
    pub fn parse(text: &str) -> Result<Nqn, InvalidNqn> {
        if text.len() > Nqn::MAX_LENGTH {
            return Err(InvalidNqn::TooLong);
        }
        if !text.starts_with(Nqn::PREFIX) || text.len() == Nqn::PREFIX.len() {
            return Err(InvalidNqn::Prefix);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidNqn::Character);
        }
        Ok(Nqn(text.into()))
    }

    /// The name in a field of 256 bytes, which ends at the first NUL.
    pub fn parse_field(field: &[u8; Nqn::FIELD_SIZE]) -> Result<Nqn, InvalidNqn> {
        let length = field
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(InvalidNqn::TooLong)?;
        let text = core::str::from_utf8(&field[..length]).map_err(|_| InvalidNqn::Character)?;
        Nqn::parse(text)
    }

    /// The name as a field of 256 bytes, padded with NUL.
    pub fn to_field(&self) -> [u8; Nqn::FIELD_SIZE] {
        let mut field = [0; Nqn::FIELD_SIZE];
        field[..self.0.len()].copy_from_slice(self.0.as_bytes());
        field
    }

    /// The well-known name of every discovery subsystem.
    pub fn discovery() -> Nqn {
        Nqn(DISCOVERY.into())
    }

    /// Whether this is the well-known name of a discovery subsystem.
    pub fn is_discovery(&self) -> bool {
        &*self.0 == DISCOVERY
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Nqn {
    type Err = InvalidNqn;

    fn from_str(text: &str) -> Result<Nqn, InvalidNqn> {
        Nqn::parse(text)
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for InvalidNqn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            InvalidNqn::Prefix => "a qualified name starts with \"nqn.\" and goes on",
            InvalidNqn::TooLong => "a qualified name has at most 223 bytes",
            InvalidNqn::Character => "a qualified name is UTF-8 without control characters",
        })
    }
}

impl core::error::Error for InvalidNqn {}
