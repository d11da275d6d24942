//! What every unit says of itself, checked: type, lengths, digests, where the data is (TCP, 3.6.1).

use crate::tcp::{
    DIGEST_LENGTH, FatalError, FatalErrorStatus,
    wire::{CommonHeader, flags},
};

codes! {
    /// PDU type.
    pub enum PduType: u8 {
        IcReq = 0x00 "Initialize Connection Request (ICReq)",
        IcResp = 0x01 "Initialize Connection Response (ICResp)",
        H2cTermReq = 0x02 "Host to Controller Terminate Connection Request (H2CTermReq)",
        C2hTermReq = 0x03 "Controller to Host Terminate Connection Request (C2HTermReq)",
        CapsuleCmd = 0x04 "Command Capsule (CapsuleCmd)",
        CapsuleResp = 0x05 "Response Capsule (CapsuleResp)",
        H2cData = 0x06 "Host to Controller Data (H2CData)",
        C2hData = 0x07 "Controller to Host Data (C2HData)",
        R2t = 0x09 "Ready to Transfer (R2T)",
    }
}

impl PduType {
    /// Length of the header without digest (HLEN), in bytes.
    pub const fn header_length(self) -> usize {
        match self {
            PduType::IcReq | PduType::IcResp => 128,
            PduType::CapsuleCmd => 72,
            PduType::H2cTermReq
            | PduType::C2hTermReq
            | PduType::CapsuleResp
            | PduType::H2cData
            | PduType::C2hData
            | PduType::R2t => 24,
        }
    }

    /// Who receives such units.
    pub const fn receiver(self) -> Receiver {
        match self {
            PduType::IcReq | PduType::H2cTermReq | PduType::CapsuleCmd | PduType::H2cData => {
                Receiver::Controller
            }
            PduType::IcResp
            | PduType::C2hTermReq
            | PduType::CapsuleResp
            | PduType::C2hData
            | PduType::R2t => Receiver::Host,
        }
    }

    /// Which digests such a unit can have: none while connections are made and ended, of data only where data is.
    const fn digests(self) -> Digests {
        match self {
            PduType::IcReq | PduType::IcResp | PduType::H2cTermReq | PduType::C2hTermReq => Digests::NONE,
            PduType::CapsuleResp | PduType::R2t => Digests {
                header: true,
                data: false,
            },
            PduType::CapsuleCmd | PduType::H2cData | PduType::C2hData => Digests {
                header: true,
                data: true,
            },
        }
    }

    const fn is_terminate_request(self) -> bool {
        matches!(self, PduType::H2cTermReq | PduType::C2hTermReq)
    }
}

/// Which end of a connection takes a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// The controller's.
    Controller,
    /// The host's.
    Host,
}

/// Digests in use on a connection, or in a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// Of headers.
    pub header: bool,
    /// Of data.
    pub data: bool,
}

impl Digests {
    /// Neither.
    pub const NONE: Digests = Digests {
        header: false,
        data: false,
    };

    /// What both have.
    pub const fn and(self, other: Digests) -> Digests {
        Digests {
            header: self.header && other.header,
            data: self.data && other.data,
        }
    }
}

/// Alignment of data in units (HPDA, CPDA): a multiple of 4 bytes up to 128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataAlignment {
    raw: u8,
}

impl DataAlignment {
    /// Every dword.
    pub const DWORD: DataAlignment = DataAlignment { raw: 0 };

    /// From the wire: 0's based dwords, at most 31.
    pub const fn from_raw(raw: u8) -> Option<DataAlignment> {
        if raw > 31 {
            return None;
        }
        Some(DataAlignment { raw })
    }

    /// As on the wire.
    pub const fn raw(self) -> u8 {
        self.raw
    }

    /// In bytes.
    pub const fn bytes(self) -> usize {
        (self.raw as usize + 1) * 4
    }
}

/// What was agreed for the units that one end sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Framing {
    /// Digests in use.
    pub digests: Digests,
    /// Alignment of data that the receiver asked for.
    pub alignment: DataAlignment,
}

/// What an end accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveRules {
    /// Which end this is.
    pub receiver: Receiver,
    /// What was agreed; before that, the default. The alignment is the one that this end asked for.
    pub framing: Framing,
    /// The most data in a command capsule, in bytes.
    pub max_capsule_data: u32,
    /// The most data in a data unit, in bytes (MAXH2CDATA at a controller).
    pub max_data: u32,
}

/// A common header that makes sense, and what follows from it. All lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pdu_type: PduType,
    flags: u8,
    pdo: u8,
    plen: u32,
    data_length: u32,
}

/// Offsets of the common header's fields, for fatal error information.
mod offset {
    pub(super) const PDU_TYPE: u32 = 0;
    pub(super) const FLAGS: u32 = 1;
    pub(super) const HLEN: u32 = 2;
    pub(super) const PDO: u32 = 3;
    pub(super) const PLEN: u32 = 4;
}

/// The longest terminate request: its header and 128 bytes of the offending one.
const MAX_TERMINATE_REQUEST: u32 = 152;

impl Header {
    /// Checks the first 8 bytes of a unit.
    pub fn parse(bytes: &[u8; CommonHeader::SIZE], rules: &ReceiveRules) -> Result<Header, FatalError> {
        let common = CommonHeader::from_bytes(*bytes);
        let pdu_type = PduType::from_code(common.pdu_type)
            .filter(|pdu_type| pdu_type.receiver() == rules.receiver)
            .ok_or(FatalError::field(offset::PDU_TYPE))?;
        if usize::from(common.hlen) != pdu_type.header_length() {
            return Err(FatalError::field(offset::HLEN));
        }
        let header = Header {
            pdu_type,
            flags: common.flags,
            pdo: common.pdo,
            plen: common.plen.get(),
            data_length: 0,
        };
        let agreed = rules.framing.digests.and(pdu_type.digests());
        if header.has_flag(flags::HEADER_DIGEST) != agreed.header && pdu_type.digests().header {
            return Err(FatalError::field(offset::FLAGS));
        }
        let header = header.without_flags_it_cannot_have();
        match pdu_type {
            PduType::CapsuleCmd if header.plen as usize == header.own_length() => header.check_no_data(),
            PduType::CapsuleCmd => header.check_data(rules, agreed.data),
            PduType::H2cData | PduType::C2hData => header.check_data(rules, agreed.data),
            _ => header.check_no_data(),
        }
    }

    /// Flags that are reserved in a type are ignored.
    fn without_flags_it_cannot_have(mut self) -> Header {
        let digests = self.pdu_type.digests();
        if !digests.header {
            self.flags &= !flags::HEADER_DIGEST;
        }
        if !digests.data {
            self.flags &= !flags::DATA_DIGEST;
        }
        self
    }

    fn check_no_data(self) -> Result<Header, FatalError> {
        let fits = if self.pdu_type.is_terminate_request() {
            (self.own_length() as u32..=MAX_TERMINATE_REQUEST).contains(&self.plen)
        } else {
            self.plen as usize == self.own_length()
        };
        if !fits {
            return Err(FatalError::field(offset::PLEN));
        }
        if self.has_flag(flags::DATA_DIGEST) {
            return Err(FatalError::field(offset::FLAGS));
        }
        Ok(self)
    }

    fn check_data(mut self, rules: &ReceiveRules, digest: bool) -> Result<Header, FatalError> {
        if self.has_flag(flags::DATA_DIGEST) != digest {
            return Err(FatalError::field(offset::FLAGS));
        }
        if (self.plen as usize) < self.own_length() {
            return Err(FatalError::field(offset::PLEN));
        }
        let pdo = usize::from(self.pdo);
        if pdo < self.own_length() || !pdo.is_multiple_of(rules.framing.alignment.bytes()) {
            return Err(FatalError::field(offset::PDO));
        }
        let around = u32::from(self.pdo) + if digest { DIGEST_LENGTH as u32 } else { 0 };
        self.data_length = match self.plen.checked_sub(around) {
            None | Some(0) => return Err(FatalError::field(offset::PLEN)),
            Some(length) => length,
        };
        let is_capsule = self.pdu_type == PduType::CapsuleCmd;
        if is_capsule && self.data_length > rules.max_capsule_data {
            return Err(FatalError::field(offset::PLEN));
        }
        if !is_capsule && self.data_length > rules.max_data {
            return Err(FatalError::with(FatalErrorStatus::LimitExceeded, offset::PLEN));
        }
        Ok(self)
    }

    /// Length of header and header digest.
    fn own_length(&self) -> usize {
        self.pdu_type.header_length()
            + if self.has_header_digest() {
                DIGEST_LENGTH
            } else {
                0
            }
    }

    /// The unit's type.
    pub const fn pdu_type(&self) -> PduType {
        self.pdu_type
    }

    /// Length of the unit, everything in it.
    pub const fn length(&self) -> u32 {
        self.plen
    }

    /// How many bytes from the start of the unit [`super::Pdu::parse`] takes: header and header digest; all of a terminate
    /// request.
    pub fn leading_length(&self) -> usize {
        if self.pdu_type.is_terminate_request() {
            return self.plen as usize;
        }
        self.own_length()
    }

    /// How many bytes are between those and the data.
    pub fn padding_length(&self) -> usize {
        if self.data_length == 0 {
            return 0;
        }
        usize::from(self.pdo) - self.own_length()
    }

    /// How much data there is.
    pub const fn data_length(&self) -> u32 {
        self.data_length
    }

    /// Whether a header digest is behind the header.
    pub const fn has_header_digest(&self) -> bool {
        self.has_flag(flags::HEADER_DIGEST)
    }

    /// Whether a data digest is behind the data.
    pub const fn has_data_digest(&self) -> bool {
        self.has_flag(flags::DATA_DIGEST)
    }

    pub(super) const fn has_flag(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The common header of a unit to send: with `data_length` bytes of data, or `trailing_length` bytes that are neither
    /// data nor header (in terminate requests).
    pub(super) fn encode(
        pdu_type: PduType,
        framing: &Framing,
        data_length: u32,
        trailing_length: u32,
    ) -> CommonHeader {
        let digests = framing.digests.and(pdu_type.digests());
        let header_length = pdu_type.header_length();
        let own_length = header_length + if digests.header { DIGEST_LENGTH } else { 0 };
        let mut common = CommonHeader {
            pdu_type: pdu_type.code(),
            hlen: header_length as u8,
            ..CommonHeader::default()
        };
        if digests.header {
            common.flags |= flags::HEADER_DIGEST;
        }
        let mut length = own_length as u32 + trailing_length;
        if data_length > 0 {
            let pdo = own_length.next_multiple_of(framing.alignment.bytes());
            common.pdo = u8::try_from(pdo).expect("headers of at most 76 bytes aligned to at most 128");
            length = pdo as u32 + data_length;
            if digests.data {
                common.flags |= flags::DATA_DIGEST;
                length += DIGEST_LENGTH as u32;
            }
        }
        common.plen.set(length);
        common
    }
}
