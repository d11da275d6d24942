//! Scatter gather list descriptors (Base, 4.3.2): where the data of a command is.
//!
//! Only what fabrics use: data in the capsule, data moved by the transport, keyed (remote memory) data. Segments of
//! descriptors do not exist in NVMe/TCP.

use crate::{InvalidField, Status, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One SGL descriptor, generic layout. [`Sgl`] is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SglDescriptor {
    /// Address, or offset into the capsule's data, or reserved.
    pub address: U64,
    /// Length in bytes; in a keyed descriptor its lower 24 bits, and the lowest byte of the key.
    pub length: U32,
    /// Reserved; in a keyed descriptor the upper 24 bits of the key.
    pub reserved_12: [u8; 3],
    /// Type (bits 7:4) and subtype (bits 3:0).
    pub identifier: u8,
}
wire!(SglDescriptor, 16);

/// Where the data of a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sgl {
    /// In the command capsule, behind the entry (data block, offset).
    InCapsule {
        /// From the start of the capsule's data, in bytes.
        offset: u64,
        /// In bytes.
        length: u32,
    },
    /// Moved by the transport in data units of its own (transport data block).
    Transport {
        /// In bytes.
        length: u32,
    },
    /// In memory that the peer reaches by key (keyed data block).
    Keyed {
        /// Where.
        address: u64,
        /// In bytes; 24 bits.
        length: u32,
        /// The key.
        key: u32,
        /// Whether the key is invalidated when the command completes.
        invalidate: bool,
    },
}

impl Sgl {
    const DATA_BLOCK_OFFSET: u8 = 0x01;
    const KEYED_ADDRESS: u8 = 0x40;
    const KEYED_INVALIDATE: u8 = 0x4F;
    const TRANSPORT: u8 = 0x5A;

    /// No data: what hosts put into commands that move none.
    pub const NONE: Sgl = Sgl::Transport { length: 0 };

    /// Length of the data in bytes.
    pub const fn length(self) -> u32 {
        match self {
            Sgl::InCapsule { length, .. } | Sgl::Transport { length } | Sgl::Keyed { length, .. } => length,
        }
    }

    /// What a descriptor says; other types than the three are refused (*SGL descriptor type invalid*).
    pub fn parse(descriptor: &SglDescriptor) -> Result<Sgl, InvalidField> {
        let (address, length) = (descriptor.address.get(), descriptor.length.get());
        match descriptor.identifier {
            Sgl::DATA_BLOCK_OFFSET => Ok(Sgl::InCapsule {
                offset: address,
                length,
            }),
            Sgl::TRANSPORT => Ok(Sgl::Transport { length }),
            Sgl::KEYED_ADDRESS | Sgl::KEYED_INVALIDATE => Ok(Sgl::parse_keyed(descriptor)),
            // The descriptor stands at byte 24 of the entry, its identifier at byte 15 of that.
            _ => Err(InvalidField::with(Status::SGL_DESCRIPTOR_TYPE_INVALID, 39, 0)),
        }
    }

    fn parse_keyed(descriptor: &SglDescriptor) -> Sgl {
        let bytes = descriptor.to_bytes();
        Sgl::Keyed {
            address: descriptor.address.get(),
            length: u32::from_le_bytes([bytes[8], bytes[9], bytes[10], 0]),
            key: u32::from_le_bytes([bytes[11], bytes[12], bytes[13], bytes[14]]),
            invalidate: descriptor.identifier == Sgl::KEYED_INVALIDATE,
        }
    }

    /// As a descriptor.
    pub fn encode(self) -> SglDescriptor {
        match self {
            Sgl::InCapsule { offset, length } => SglDescriptor::plain(offset, length, Sgl::DATA_BLOCK_OFFSET),
            Sgl::Transport { length } => SglDescriptor::plain(0, length, Sgl::TRANSPORT),
            Sgl::Keyed {
                address,
                length,
                key,
                invalidate,
            } => {
                let identifier = if invalidate {
                    Sgl::KEYED_INVALIDATE
                } else {
                    Sgl::KEYED_ADDRESS
                };
                let [low, high @ ..] = key.to_le_bytes();
                let length = length & 0x00FF_FFFF | u32::from(low) << 24;
                SglDescriptor {
                    reserved_12: high,
                    ..SglDescriptor::plain(address, length, identifier)
                }
            }
        }
    }
}

impl SglDescriptor {
    fn plain(address: u64, length: u32, identifier: u8) -> SglDescriptor {
        SglDescriptor {
            address: U64::new(address),
            length: U32::new(length),
            identifier,
            ..SglDescriptor::default()
        }
    }
}

impl From<Sgl> for SglDescriptor {
    fn from(sgl: Sgl) -> SglDescriptor {
        sgl.encode()
    }
}
