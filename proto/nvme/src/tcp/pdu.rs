//! What each unit says, parsed (TCP, 3.6.2).

use crate::{
    Cid, CompletionQueueEntry, SubmissionQueueEntry, U16, U32, ZeroBased,
    tcp::{
        DIGEST_LENGTH, DataAlignment, Digests, FatalError, FatalErrorStatus, Framing, Header, PduType,
        digest::header_digest,
        wire::{
            C2hDataPdu, CapsuleCmdPdu, CapsuleRespPdu, CommonHeader, H2cDataPdu, IcReqPdu, IcRespPdu, R2tPdu,
            TermReqPdu, dgst, flags,
        },
    },
};

/// A unit without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pdu {
    /// The host begins.
    IcReq(IcReq),
    /// The controller agrees.
    IcResp(IcResp),
    /// The host ends the connection because of an error.
    H2cTermReq(TermReq),
    /// The controller ends the connection because of an error.
    C2hTermReq(TermReq),
    /// A command, with or without data.
    CapsuleCmd(SubmissionQueueEntry),
    /// A completion.
    CapsuleResp(CompletionQueueEntry),
    /// Data from the host.
    H2cData(H2cData),
    /// Data from the controller.
    C2hData(C2hData),
    /// The controller asks for data.
    R2t(R2t),
}

/// Initialize Connection Request: what a host wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IcReq {
    /// Alignment of data sent to the host (HPDA).
    pub alignment: DataAlignment,
    /// Digests asked for (DGST).
    pub digests: Digests,
    /// R2Ts that may be outstanding for one command (MAXR2T).
    pub max_r2t: ZeroBased<u32>,
}

/// Initialize Connection Response: what was agreed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IcResp {
    /// Alignment of data sent to the controller (CPDA).
    pub alignment: DataAlignment,
    /// Digests in use (DGST).
    pub digests: Digests,
    /// The most data in one H2CData unit, in bytes (MAXH2CDATA).
    pub max_h2c_data: u32,
}

/// Terminate Connection Request, either way: why, and which header it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TermReq {
    /// Fatal error status (FES); see [`TermReq::status`].
    pub fes: u16,
    /// Fatal error information (FEI).
    pub fei: u32,
    /// The header of the offending unit, as far as it was read; at most [`TermReq::MAX_HEADER`] bytes.
    pub header: Vec<u8>,
}

/// Data from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct H2cData {
    /// The command (CCCID).
    pub cid: Cid,
    /// Tag of the R2T that this answers (TTAG).
    pub transfer_tag: u16,
    /// Where in the command's data, in bytes (DATAO).
    pub offset: u32,
    /// How much, in bytes (DATAL).
    pub length: u32,
    /// Whether nothing more comes for that R2T (LAST_PDU).
    pub last: bool,
}

/// Data from the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct C2hData {
    /// The command (CCCID).
    pub cid: Cid,
    /// Where in the command's data, in bytes (DATAO).
    pub offset: u32,
    /// How much, in bytes (DATAL).
    pub length: u32,
    /// Whether nothing more comes for the command (LAST_PDU).
    pub last: bool,
    /// Whether the command is completed herewith, successfully (SUCCESS); only with `last`.
    pub success: bool,
}

/// The controller asks for data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct R2t {
    /// The command (CCCID).
    pub cid: Cid,
    /// Tag to answer with (TTAG).
    pub transfer_tag: u16,
    /// Where in the command's data, in bytes (R2TO).
    pub offset: u32,
    /// How much, in bytes (R2TL).
    pub length: u32,
}

/// Offsets of fields, for fatal error information.
mod offset {
    pub(super) const FLAGS: u32 = 1;
    pub(super) const PFV: u32 = 8;
    pub(super) const PDA: u32 = 10;
    pub(super) const MAXH2CDATA: u32 = 12;
    pub(super) const DATAL: u32 = 16;
    pub(super) const R2TL: u32 = 16;
}

impl Pdu {
    /// What the unit says whose common header is `header`. `bytes` are the first [`Header::leading_length`] of it, that
    /// header included; a header digest among them is checked.
    ///
    /// Panics if there are not as many: the caller counts.
    pub fn parse(header: &Header, bytes: &[u8]) -> Result<Pdu, FatalError> {
        assert_eq!(
            bytes.len(),
            header.leading_length(),
            "a unit's leading bytes are parsed at once"
        );
        let pdu_type = header.pdu_type();
        if header.has_header_digest() {
            check_header_digest(bytes)?;
        }
        match pdu_type {
            PduType::IcReq => IcReq::parse(&whole(IcReqPdu::parse(bytes))).map(Pdu::IcReq),
            PduType::IcResp => IcResp::parse(&whole(IcRespPdu::parse(bytes))).map(Pdu::IcResp),
            PduType::H2cTermReq => Ok(Pdu::H2cTermReq(TermReq::parse(bytes))),
            PduType::C2hTermReq => Ok(Pdu::C2hTermReq(TermReq::parse(bytes))),
            PduType::CapsuleCmd => Ok(Pdu::CapsuleCmd(whole(CapsuleCmdPdu::parse(bytes)).entry)),
            PduType::CapsuleResp => Ok(Pdu::CapsuleResp(whole(CapsuleRespPdu::parse(bytes)).entry)),
            PduType::H2cData => H2cData::parse(header, &whole(H2cDataPdu::parse(bytes))).map(Pdu::H2cData),
            PduType::C2hData => C2hData::parse(header, &whole(C2hDataPdu::parse(bytes))).map(Pdu::C2hData),
            PduType::R2t => R2t::parse(&whole(R2tPdu::parse(bytes))).map(Pdu::R2t),
        }
    }

    /// Appends the unit up to its data to `out`: header, header digest, padding. `capsule_data_length` is how much data a
    /// command capsule has (0 for all others: data units tell it themselves). The data is the caller's to send, and behind
    /// it, if agreed and if there is data, its digest.
    pub fn encode(&self, framing: &Framing, capsule_data_length: u32, out: &mut Vec<u8>) {
        let (data_length, trailing): (u32, &[u8]) = match self {
            Pdu::CapsuleCmd(_) => (capsule_data_length, &[]),
            Pdu::H2cData(data) => (data.length, &[]),
            Pdu::C2hData(data) => (data.length, &[]),
            Pdu::H2cTermReq(request) | Pdu::C2hTermReq(request) => (0, request.offending_header()),
            _ => (0, &[]),
        };
        let common = Header::encode(self.pdu_type(), framing, data_length, trailing.len() as u32);
        let start = out.len();
        self.encode_header(common, out);
        out.extend_from_slice(trailing);
        if common.flags & flags::HEADER_DIGEST != 0 {
            let digest = header_digest(&out[start..]);
            out.extend_from_slice(&digest);
        }
        if data_length > 0 {
            out.resize(start + usize::from(common.pdo), 0);
        }
    }

    /// The unit up to its data; see [`Pdu::encode`].
    pub fn to_vec(&self, framing: &Framing, capsule_data_length: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.pdu_type().header_length() + DIGEST_LENGTH);
        self.encode(framing, capsule_data_length, &mut out);
        out
    }

    /// The unit's type.
    pub const fn pdu_type(&self) -> PduType {
        match self {
            Pdu::IcReq(_) => PduType::IcReq,
            Pdu::IcResp(_) => PduType::IcResp,
            Pdu::H2cTermReq(_) => PduType::H2cTermReq,
            Pdu::C2hTermReq(_) => PduType::C2hTermReq,
            Pdu::CapsuleCmd(_) => PduType::CapsuleCmd,
            Pdu::CapsuleResp(_) => PduType::CapsuleResp,
            Pdu::H2cData(_) => PduType::H2cData,
            Pdu::C2hData(_) => PduType::C2hData,
            Pdu::R2t(_) => PduType::R2t,
        }
    }

    fn encode_header(&self, header: CommonHeader, out: &mut Vec<u8>) {
        match self {
            Pdu::IcReq(request) => out.extend_from_slice(request.encode(header).as_bytes()),
            Pdu::IcResp(response) => out.extend_from_slice(response.encode(header).as_bytes()),
            Pdu::H2cTermReq(request) | Pdu::C2hTermReq(request) => {
                out.extend_from_slice(request.encode(header).as_bytes());
            }
            Pdu::CapsuleCmd(entry) => out.extend_from_slice(
                CapsuleCmdPdu {
                    header,
                    entry: *entry,
                }
                .as_bytes(),
            ),
            Pdu::CapsuleResp(entry) => out.extend_from_slice(
                CapsuleRespPdu {
                    header,
                    entry: *entry,
                }
                .as_bytes(),
            ),
            Pdu::H2cData(data) => out.extend_from_slice(data.encode(header).as_bytes()),
            Pdu::C2hData(data) => out.extend_from_slice(data.encode(header).as_bytes()),
            Pdu::R2t(r2t) => out.extend_from_slice(r2t.encode(header).as_bytes()),
        }
    }
}

/// The header was counted to be as long as its type's structure.
fn whole<T>(parsed: Result<T, crate::TooShort>) -> T {
    parsed.expect("the leading bytes of a unit hold its header")
}

fn check_header_digest(bytes: &[u8]) -> Result<(), FatalError> {
    let (header, digest) = bytes
        .split_last_chunk::<DIGEST_LENGTH>()
        .expect("a digest was counted");
    if header_digest(header) == *digest {
        return Ok(());
    }
    Err(FatalError {
        status: FatalErrorStatus::HeaderDigestError,
        information: u32::from_le_bytes(*digest),
    })
}

fn parse_digests(bits: u8) -> Digests {
    Digests {
        header: bits & dgst::HEADER != 0,
        data: bits & dgst::DATA != 0,
    }
}

fn encode_digests(digests: Digests) -> u8 {
    let header = if digests.header { dgst::HEADER } else { 0 };
    let data = if digests.data { dgst::DATA } else { 0 };
    header | data
}

/// What both initialisation units say first: format version and alignment.
fn parse_initialisation(pfv: u16, alignment: u8) -> Result<DataAlignment, FatalError> {
    if pfv != 0 {
        return Err(FatalError::with(
            FatalErrorStatus::UnsupportedParameter,
            offset::PFV,
        ));
    }
    DataAlignment::from_raw(alignment).ok_or(FatalError::field(offset::PDA))
}

impl IcReq {
    fn parse(pdu: &IcReqPdu) -> Result<IcReq, FatalError> {
        Ok(IcReq {
            alignment: parse_initialisation(pdu.pfv.get(), pdu.hpda)?,
            digests: parse_digests(pdu.dgst),
            max_r2t: ZeroBased::<u32>::from_raw(pdu.maxr2t.get()),
        })
    }

    fn encode(&self, header: CommonHeader) -> IcReqPdu {
        IcReqPdu {
            header,
            hpda: self.alignment.raw(),
            dgst: encode_digests(self.digests),
            maxr2t: U32::new(self.max_r2t.raw),
            ..IcReqPdu::default()
        }
    }
}

impl IcResp {
    fn parse(pdu: &IcRespPdu) -> Result<IcResp, FatalError> {
        let max_h2c_data = pdu.maxh2cdata.get();
        let alignment = parse_initialisation(pdu.pfv.get(), pdu.cpda)?;
        if max_h2c_data < super::MIN_MAX_H2C_DATA || !max_h2c_data.is_multiple_of(4) {
            return Err(FatalError::field(offset::MAXH2CDATA));
        }
        Ok(IcResp {
            alignment,
            digests: parse_digests(pdu.dgst),
            max_h2c_data,
        })
    }

    fn encode(&self, header: CommonHeader) -> IcRespPdu {
        IcRespPdu {
            header,
            cpda: self.alignment.raw(),
            dgst: encode_digests(self.digests),
            maxh2cdata: U32::new(self.max_h2c_data),
            ..IcRespPdu::default()
        }
    }
}

impl TermReq {
    /// The most of an offending header that is returned, in bytes.
    pub const MAX_HEADER: usize = 128;

    /// The request for an error in a unit whose header is `header`, cut off at [`TermReq::MAX_HEADER`] bytes.
    pub fn new(error: FatalError, header: &[u8]) -> TermReq {
        TermReq {
            fes: error.status.code(),
            fei: error.information,
            header: header[..header.len().min(TermReq::MAX_HEADER)].to_vec(),
        }
    }

    /// The fatal error status, if it is known.
    pub const fn status(&self) -> Option<FatalErrorStatus> {
        FatalErrorStatus::from_code(self.fes)
    }

    fn offending_header(&self) -> &[u8] {
        &self.header[..self.header.len().min(TermReq::MAX_HEADER)]
    }

    fn parse(bytes: &[u8]) -> TermReq {
        let pdu = whole(TermReqPdu::parse(bytes));
        TermReq {
            fes: pdu.fes.get(),
            fei: pdu.fei.get(),
            header: bytes[TermReqPdu::SIZE..].to_vec(),
        }
    }

    fn encode(&self, header: CommonHeader) -> TermReqPdu {
        TermReqPdu {
            header,
            fes: U16::new(self.fes),
            fei: U32::new(self.fei),
            ..TermReqPdu::default()
        }
    }
}

impl H2cData {
    fn parse(header: &Header, pdu: &H2cDataPdu) -> Result<H2cData, FatalError> {
        if pdu.datal.get() != header.data_length() {
            return Err(FatalError::field(offset::DATAL));
        }
        Ok(H2cData {
            cid: Cid(pdu.cccid.get()),
            transfer_tag: pdu.ttag.get(),
            offset: pdu.datao.get(),
            length: pdu.datal.get(),
            last: header.has_flag(flags::LAST),
        })
    }

    fn encode(&self, mut header: CommonHeader) -> H2cDataPdu {
        if self.last {
            header.flags |= flags::LAST;
        }
        H2cDataPdu {
            header,
            cccid: U16::new(self.cid.0),
            ttag: U16::new(self.transfer_tag),
            datao: U32::new(self.offset),
            datal: U32::new(self.length),
            ..H2cDataPdu::default()
        }
    }
}

impl C2hData {
    fn parse(header: &Header, pdu: &C2hDataPdu) -> Result<C2hData, FatalError> {
        if pdu.datal.get() != header.data_length() {
            return Err(FatalError::field(offset::DATAL));
        }
        let (last, success) = (header.has_flag(flags::LAST), header.has_flag(flags::SUCCESS));
        if success && !last {
            return Err(FatalError::field(offset::FLAGS));
        }
        Ok(C2hData {
            cid: Cid(pdu.cccid.get()),
            offset: pdu.datao.get(),
            length: pdu.datal.get(),
            last,
            success,
        })
    }

    fn encode(&self, mut header: CommonHeader) -> C2hDataPdu {
        if self.last {
            header.flags |= flags::LAST;
        }
        if self.success {
            header.flags |= flags::SUCCESS;
        }
        C2hDataPdu {
            header,
            cccid: U16::new(self.cid.0),
            datao: U32::new(self.offset),
            datal: U32::new(self.length),
            ..C2hDataPdu::default()
        }
    }
}

impl R2t {
    fn parse(pdu: &R2tPdu) -> Result<R2t, FatalError> {
        if pdu.r2tl.get() == 0 {
            return Err(FatalError::field(offset::R2TL));
        }
        Ok(R2t {
            cid: Cid(pdu.cccid.get()),
            transfer_tag: pdu.ttag.get(),
            offset: pdu.r2to.get(),
            length: pdu.r2tl.get(),
        })
    }

    fn encode(&self, header: CommonHeader) -> R2tPdu {
        R2tPdu {
            header,
            cccid: U16::new(self.cid.0),
            ttag: U16::new(self.transfer_tag),
            r2to: U32::new(self.offset),
            r2tl: U32::new(self.length),
            ..R2tPdu::default()
        }
    }
}
