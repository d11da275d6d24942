//! The data of a Connect command and what its completion says (Base, 6.3).

use crate::{Cntlid, HostId, Nqn, TooShort, U16, identifier};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Connect data (Base, figure "Connect Command – Data"). The fixed structure; [`ConnectParameters`] is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ConnectData {
    /// Host identifier (HOSTID).
    pub hostid: [u8; 16],
    /// Controller identifier asked for (CNTLID).
    pub cntlid: U16,
    pub(crate) reserved_18: [u8; 238],
    /// Subsystem's name (SUBNQN), padded with NUL.
    pub subnqn: [u8; 256],
    /// Host's name (HOSTNQN), padded with NUL.
    pub hostnqn: [u8; 256],
    pub(crate) reserved_768: [u8; 256],
}
wire!(ConnectData, 1024);

/// What a host says of itself and of what it wants, names validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectParameters {
    /// The host's identifier.
    pub host_id: identifier::HostId,
    /// The controller asked for; [`Cntlid::DYNAMIC`] on the admin queue of a dynamic subsystem.
    pub cntlid: Cntlid,
    /// The subsystem asked for.
    pub subsystem: Nqn,
    /// The host's name. `None`: the field is empty. A host must have a name, but load generators exist that give none; a
    /// subsystem that asks nobody who he is may take them.
    pub host: Option<Nqn>,
}

impl ConnectParameters {
    /// From the data of a Connect command; refused with the offset of the field that is no name.
    pub fn parse(data: &ConnectData) -> Result<ConnectParameters, InvalidParameter> {
        let name = |field: &[u8; 256], offset| {
            Nqn::parse_field(field).map_err(|_| InvalidParameter::in_data(offset))
        };
        Ok(ConnectParameters {
            host_id: HostId(data.hostid),
            cntlid: Cntlid(data.cntlid.get()),
            subsystem: name(&data.subnqn, InvalidParameter::SUBNQN)?,
            host: match data.hostnqn[0] {
                0 => None,
                _ => Some(name(&data.hostnqn, InvalidParameter::HOSTNQN)?),
            },
        })
    }

    /// As the data of a Connect command.
    pub fn encode(&self) -> ConnectData {
        ConnectData {
            hostid: self.host_id.0,
            cntlid: U16::new(self.cntlid.0),
            subnqn: self.subsystem.to_field(),
            hostnqn: self.host.as_ref().map_or([0; Nqn::FIELD_SIZE], Nqn::to_field),
            ..ConnectData::default()
        }
    }

    /// The host's name as text; empty if it gave none.
    pub fn host_name(&self) -> &str {
        self.host.as_ref().map_or("", Nqn::as_str)
    }

    /// From bytes off the wire, which must be at least the 1024 of [`ConnectData`].
    pub fn parse_bytes(bytes: &[u8]) -> Result<Result<ConnectParameters, InvalidParameter>, TooShort> {
        Ok(ConnectParameters::parse(&ConnectData::parse(bytes)?))
    }
}

/// Which parameter made a Connect fail with *connect invalid parameters*: dword 0 of its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidParameter {
    /// Whether the parameter is in the data (bit 16, IATTR bit 0), else in the submission queue entry.
    pub in_data: bool,
    /// Offset of the parameter in bytes (IPO).
    pub offset: u16,
}

impl InvalidParameter {
    /// Offset of HOSTID in the data.
    pub const HOSTID: u16 = 0;
    /// Offset of CNTLID in the data.
    pub const CNTLID: u16 = 16;
    /// Offset of SUBNQN in the data.
    pub const SUBNQN: u16 = 256;
    /// Offset of HOSTNQN in the data.
    pub const HOSTNQN: u16 = 512;

    /// A parameter in the data.
    pub const fn in_data(offset: u16) -> InvalidParameter {
        InvalidParameter {
            in_data: true,
            offset,
        }
    }

    /// A parameter in the submission queue entry.
    pub const fn in_entry(offset: u16) -> InvalidParameter {
        InvalidParameter {
            in_data: false,
            offset,
        }
    }

    /// Dword 0 of the completion.
    pub const fn encode(self) -> u32 {
        (self.in_data as u32) << 16 | self.offset as u32
    }

    /// From dword 0 of the completion.
    pub const fn parse(dword: u32) -> InvalidParameter {
        InvalidParameter {
            in_data: dword >> 16 & 1 == 1,
            offset: dword as u16,
        }
    }
}

/// Dword 0 of the completion of a Connect that succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectResult {
    /// The controller (CNTLID).
    pub cntlid: Cntlid,
    /// Authentication and security requirements (AUTHREQ): the upper 16 bits, 0 for none.
    pub authentication_required: u16,
}

impl ConnectResult {
    /// AUTHREQ: the host shall authenticate in band (ATR).
    pub const AUTHREQ_TRANSACTION: u16 = 1 << 1;
    /// AUTHREQ: the host shall authenticate and set up a secure channel (ASCR).
    pub const AUTHREQ_SECURE_CHANNEL: u16 = 1 << 2;

    /// Dword 0 of the completion.
    pub const fn encode(self) -> u32 {
        (self.authentication_required as u32) << 16 | self.cntlid.0 as u32
    }

    /// From dword 0 of the completion.
    pub const fn parse(dword: u32) -> ConnectResult {
        ConnectResult {
            cntlid: Cntlid(dword as u16),
            authentication_required: (dword >> 16) as u16,
        }
    }
}
