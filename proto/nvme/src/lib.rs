//! Everything the NVMe specifications print, as bytes and as types.
//!
//! Base 2.1, NVM Command Set 1.1 and NVMe/TCP Transport 1.1 are cited as *Base*, *NVM* and *TCP*. Two kinds of
//! representation stand side by side: **fixed structures**, laid out as on the wire (little-endian, no padding,
//! size asserted at compile time), and **parsed types** (`parse` from a fixed structure may refuse and then says
//! which status and which byte and bit; `encode` is its inverse and cannot fail).
//!
//! What this crate deliberately is not: it has no state, no queues, no policy. It knows which commands exist,
//! not which of them a controller of ours supports. It refuses what no controller could make sense of, and
//! ignores reserved fields, as receivers must.
//!
//! Invariants: bytes from outside never panic; `parse(encode(x)) == x` for every parsed type; every field of
//! every structure has its row (offset and length, both ways) in the tests, and the rows leave no gap.
#![forbid(unsafe_code)]

/// Declares the size of a fixed structure: asserted at compile time, all zeroes by default, to and from bytes.
macro_rules! wire {
    ($name:ident, $size:literal) => {
        const _: () = assert!(size_of::<$name>() == $size);

        impl Default for $name {
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }

        impl $name {
            /// Length on the wire, in bytes.
            pub const SIZE: usize = $size;

            /// The structure as it stands on the wire.
            pub fn as_bytes(&self) -> &[u8] {
                zerocopy::IntoBytes::as_bytes(self)
            }

            /// A copy of the structure as it stands on the wire.
            pub fn to_bytes(&self) -> [u8; $size] {
                zerocopy::transmute!(*self)
            }

            /// The structure from exactly its bytes.
            pub fn from_bytes(bytes: [u8; $size]) -> Self {
                zerocopy::transmute!(bytes)
            }

            /// The structure at the start of `bytes`; refused if there are too few.
            pub fn parse(bytes: &[u8]) -> Result<Self, $crate::TooShort> {
                match zerocopy::FromBytes::read_from_prefix(bytes) {
                    Ok((value, _rest)) => Ok(value),
                    Err(_) => Err($crate::TooShort {
                        needed_bytes: $size,
                        got_bytes: bytes.len(),
                    }),
                }
            }
        }
    };
}

/// An enumeration of codes of the specification, one row each: name, code, the specification's words.
macro_rules! codes {
    ($(#[$meta:meta])* pub enum $name:ident: $repr:ty {
        $($variant:ident = $code:literal $words:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr($repr)]
        pub enum $name {
            $(#[doc = concat!(stringify!($code), ": ", $words, ".")] $variant = $code,)+
        }

        impl $name {
            /// Every code known here, in the specification's order.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// As on the wire.
            pub const fn code(self) -> $repr {
                self as $repr
            }

            /// From the wire; `None` for codes that are reserved or not known here.
            pub const fn from_code(code: $repr) -> Option<$name> {
                match code {
                    $($code => Some($name::$variant),)+
                    _ => None,
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                formatter.write_str(match self {
                    $($name::$variant => $words,)+
                })
            }
        }
    };
}

#[cfg(test)]
#[macro_use]
mod table;

pub mod async_event;
mod bits;
pub mod command;
pub mod connect;
pub mod feature;
pub mod identifier;
pub mod identify;
pub mod log;
pub mod nqn;
pub mod property;
pub mod reservation;
pub mod status;
pub mod tcp;
#[cfg(test)]
mod tests;

pub use command::{
    AdminCommand, CompletionQueueEntry, FabricsCommand, InvalidField, IoCommand, ParameterErrorLocation, Sgl,
    SglDescriptor, SubmissionQueueEntry,
};
pub use identifier::{Cid, Cntlid, Eui64, HostId, Nguid, Nsid, Qid, Uuid, ZeroBased};
pub use nqn::Nqn;
pub use status::{Status, StatusCodeType};
pub use zerocopy::little_endian::{U16, U32, U64, U128};

/// A structure was asked for from fewer bytes than it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort {
    /// What the structure takes.
    pub needed_bytes: usize,
    /// What there was.
    pub got_bytes: usize,
}

impl core::fmt::Display for TooShort {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            formatter,
            "{} bytes where {} are needed",
            self.got_bytes, self.needed_bytes
        )
    }
}

impl core::error::Error for TooShort {}
