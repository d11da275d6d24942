//! PDU framing: cuts a connection's byte stream into PDUs, and puts PDUs together.
//!
//! What this deliberately is not: it knows nothing of a PDU's specific header fields (the sessions do), and it
//! never keeps payload bytes. Invariants: whatever the peer sends, at most one header (128 bytes) is held; a
//! header is handed out only when its lengths fit together and its digest is right; after an error the reader is
//! of no more use.
//!
//! A PDU comes out of [`FrameReader::advance`] as one [`Piece::Header`], and, only if it has data, any number of
//! [`Piece::Data`] and then one [`Piece::End`]. A header that lies in the received bytes in one piece stays there; only one that
//! comes in pieces is collected. Data may also be received elsewhere ([`FrameReader::data_left`], [`FrameReader::landed`]).

use crate::driver::SessionBytes;

/// Length of the header that all PDUs share (NVMe/TCP Transport 1.1, 3.6.1).
pub const COMMON_HEADER_BYTES: usize = 8;
/// Length of a header or data digest (3.1.2).
pub const DIGEST_BYTES: usize = 4;
/// The longest header of any PDU: ICReq and ICResp.
pub const HEADER_BYTES_MAX: usize = 128;

/// FLAGS bit 0 of the PDUs that can carry a header digest (HDGSTF).
pub const FLAG_HEADER_DIGEST: u8 = 1 << 0;
/// FLAGS bit 1 of the PDUs that can carry data (DDGSTF).
pub const FLAG_DATA_DIGEST: u8 = 1 << 1;
/// FLAGS bit 2 of H2CData and C2HData: the last PDU of the transfer (LAST_PDU).
pub const FLAG_LAST: u8 = 1 << 2;
/// FLAGS bit 3 of C2HData: the command succeeded, no response capsule follows (SUCCESS).
pub const FLAG_SUCCESS: u8 = 1 << 3;

/// PDU types (3.6.1, PDU-Type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PduType {
    /// Initialize Connection Request.
    IcReq = 0x00,
    /// Initialize Connection Response.
    IcResp = 0x01,
    /// Host to Controller Terminate Connection Request.
    H2cTermReq = 0x02,
    /// Controller to Host Terminate Connection Request.
    C2hTermReq = 0x03,
    /// Command Capsule.
    CapsuleCmd = 0x04,
    /// Response Capsule.
    CapsuleResp = 0x05,
    /// Host to Controller Data Transfer.
    H2cData = 0x06,
    /// Controller to Host Data Transfer.
    C2hData = 0x07,
    /// Ready to Transfer.
    R2t = 0x09,
}

impl PduType {
    /// The type with this code, if there is one.
    pub fn from_code(code: u8) -> Option<PduType> {
        Some(match code {
            0x00 => PduType::IcReq,
            0x01 => PduType::IcResp,
            0x02 => PduType::H2cTermReq,
            0x03 => PduType::C2hTermReq,
            0x04 => PduType::CapsuleCmd,
            0x05 => PduType::CapsuleResp,
            0x06 => PduType::H2cData,
            0x07 => PduType::C2hData,
            0x09 => PduType::R2t,
            _ => return None,
        })
    }

    /// HLEN: the length of the header without its digest, in bytes.
    pub const fn header_bytes(self) -> usize {
        match self {
            PduType::IcReq | PduType::IcResp => 128,
            PduType::CapsuleCmd => 72,
            _ => 24,
        }
    }

    /// Whether the PDU can carry data behind its header.
    const fn carries_data(self) -> bool {
        matches!(
            self,
            PduType::H2cTermReq
                | PduType::C2hTermReq
                | PduType::CapsuleCmd
                | PduType::H2cData
                | PduType::C2hData
        )
    }

    /// Whether the PDU has digests where they were negotiated (initialisation and termination never do).
    const fn has_digests(self) -> bool {
        !matches!(
            self,
            PduType::IcReq | PduType::IcResp | PduType::H2cTermReq | PduType::C2hTermReq
        )
    }

    const fn sent_by_host(self) -> bool {
        matches!(
            self,
            PduType::IcReq | PduType::H2cTermReq | PduType::CapsuleCmd | PduType::H2cData
        )
    }
}

/// Fatal Error Status of a terminate request (3.6.2.3, FES).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FatalErrorStatus {
    /// A field of the PDU header is wrong; the information is its offset in the header.
    InvalidPduHeaderField = 1,
    /// A PDU came when it must not.
    PduSequenceError = 2,
    /// The header digest does not fit the header; the information is the digest received.
    HeaderDigestError = 3,
    /// Data lies outside of what was asked for.
    DataTransferOutOfRange = 4,
    /// More data than the receiver takes, or more R2Ts.
    DataTransferLimitExceeded = 5,
    /// A parameter of the initialisation is not supported; the information is its offset in the header.
    UnsupportedParameter = 6,
}

/// Why a connection must be terminated: what a terminate request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// What is wrong.
    pub status: FatalErrorStatus,
    /// FEI: where or what, by `status`.
    pub information: u32,
    /// The header of the PDU that is wrong, as far as it was received.
    pub header: Vec<u8>,
}

/// Which digests both ends agreed on (3.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// Behind every header.
    pub header: bool,
    /// Behind all data.
    pub data: bool,
}

/// Which end of the connection reads: it decides which PDU types may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host reads what a controller sends.
    Host,
    /// The controller reads what a host sends.
    Controller,
}

/// What a [`FrameReader`] accepts.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// Most data in a command capsule.
    pub capsule_data_bytes: u32,
    /// Most data in an H2CData or C2HData PDU.
    pub transfer_data_bytes: u32,
}

/// Most data in a terminate request: the header it complains about (3.6.2.3: 152 bytes in all).
const TERMINATE_DATA_BYTES_MAX: u32 = 128;

/// A PDU's header, complete and with its digest checked.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Which PDU.
    pub kind: PduType,
    /// FLAGS, digest bits included.
    pub flags: u8,
    /// How many bytes of data follow as [`Part::Data`].
    pub data_length: u32,
    bytes: [u8; HEADER_BYTES_MAX],
}

impl Header {
    /// The whole header, common part included, digest not.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.kind.header_bytes()]
    }

    /// A fatal error about this header.
    pub fn fatal(&self, status: FatalErrorStatus, information: u32) -> Fatal {
        Fatal {
            status,
            information,
            header: self.bytes().to_vec(),
        }
    }
}

/// A piece of a PDU.
#[derive(Debug)]
pub enum Part<'a> {
    /// A PDU begins.
    Header(Header),
    /// The next bytes of its data, in order.
    Data(&'a [u8]),
    /// Its data is complete. Not told for PDUs without data.
    End {
        /// The data digest was right, or there is none.
        intact: bool,
    },
}

/// A PDU's header, complete and with its digest checked, where it lies: in the received bytes, or, if it came in pieces, in
/// the reader ([`FrameReader::bytes_of`]) until the reader reads on.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Which PDU.
    pub kind: PduType,
    /// FLAGS, digest bits included.
    pub flags: u8,
    /// How many bytes of data follow as [`Piece::Data`].
    pub data_length: u32,
    /// `None`: held by the reader.
    whole: Option<&'a [u8]>,
}

/// A piece of a PDU, without a copy of its header.
#[derive(Debug)]
pub enum Piece<'a> {
    /// A PDU begins.
    Header(Frame<'a>),
    /// The next bytes of its data, in order.
    Data(&'a [u8]),
    /// Its data is complete. Not told for PDUs without data.
    End {
        /// The data digest was right, or there is none.
        intact: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Current {
    data_left: u32,
    digest: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Collecting a header and its digest into `held`.
    Header,
    /// Skipping padding between header and data.
    Padding {
        left: usize,
        then: Current,
    },
    Data(Current),
    /// Collecting the data digest into `held`.
    DataDigest {
        computed: u32,
    },
}

/// Cuts a byte stream into PDUs.
#[derive(Debug)]
pub struct FrameReader {
    end: End,
    limits: FrameLimits,
    digests: Digests,
    state: State,
    held: [u8; HEADER_BYTES_MAX + DIGEST_BYTES],
    held_length: usize,
}

impl FrameReader {
    /// A reader for one end of a fresh connection, without digests.
    pub fn new(end: End, limits: FrameLimits) -> FrameReader {
        FrameReader {
            end,
            limits,
            digests: Digests::default(),
            state: State::Header,
            held: [0; HEADER_BYTES_MAX + DIGEST_BYTES],
            held_length: 0,
        }
    }

    /// What initialisation agreed on: from the next PDU on.
    pub fn agree_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// The next part of a PDU; `bytes` is advanced past what was taken. `None`: all of `bytes` was taken and more is
    /// needed.
    ///
    /// # Errors
    /// The peer broke the framing: the connection must be terminated.
    pub fn read<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Part<'a>>, Fatal> {
        Ok(match self.advance(bytes)? {
            None => None,
            Some(Piece::Header(frame)) => Some(Part::Header(self.header(&frame))),
            Some(Piece::Data(data)) => Some(Part::Data(data)),
            Some(Piece::End { intact }) => Some(Part::End { intact }),
        })
    }

    /// The same as [`FrameReader::read`], without a copy of the header.
    ///
    /// # Errors
    /// The peer broke the framing: the connection must be terminated.
    #[inline]
    pub fn advance<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Fatal> {
        loop {
            match self.state {
                State::Header => {
                    if let Some(frame) = self.read_plain_header(bytes) {
                        return Ok(Some(Piece::Header(frame)));
                    }
                    return Ok(self.read_header(bytes)?.map(Piece::Header));
                }
                State::Padding { left, then } => {
                    let skipped = left.min(bytes.len());
                    *bytes = &bytes[skipped..];
                    if skipped < left {
                        let left = left - skipped;
                        self.state = State::Padding { left, then };
                        return Ok(None);
                    }
                    self.state = State::Data(then);
                }
                State::Data(current) => {
                    if current.data_left > 0 {
                        return Ok(self.read_data(current, bytes).map(Piece::Data));
                    }
                    match current.digest {
                        Some(computed) => self.state = State::DataDigest { computed },
                        None => {
                            self.state = State::Header;
                            return Ok(Some(Piece::End { intact: true }));
                        }
                    }
                }
                State::DataDigest { computed } => {
                    if !self.hold(bytes, DIGEST_BYTES) {
                        return Ok(None);
                    }
                    let intact = self.held[..DIGEST_BYTES] == computed.to_le_bytes();
                    self.held_length = 0;
                    self.state = State::Header;
                    return Ok(Some(Piece::End { intact }));
                }
            }
        }
    }

    /// The header that [`FrameReader::advance`] came upon last, common part included, digest not.
    pub fn bytes_of<'a>(&'a self, frame: &Frame<'a>) -> &'a [u8] {
        match frame.whole {
            Some(bytes) => bytes,
            None => &self.held[..frame.kind.header_bytes()],
        }
    }

    /// A copy of the header that [`FrameReader::advance`] came upon last.
    pub fn header(&self, frame: &Frame<'_>) -> Header {
        let whole = self.bytes_of(frame);
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[..whole.len()].copy_from_slice(whole);
        Header {
            kind: frame.kind,
            flags: frame.flags,
            data_length: frame.data_length,
            bytes,
        }
    }

    /// How many bytes of data the reader expects next, before anything else: they may also be received elsewhere, and told by
    /// [`FrameReader::landed`].
    pub fn data_left(&self) -> u32 {
        match self.state {
            State::Data(current) => current.data_left,
            _ => 0,
        }
    }

    /// The next bytes of data have come, not through [`FrameReader::advance`]: at most [`FrameReader::data_left`].
    pub fn landed(&mut self, data: &[u8]) {
        let State::Data(current) = &mut self.state else {
            unreachable!("no data is expected");
        };
        let length = u32::try_from(data.len()).expect("at most what is left");
        current.data_left = current
            .data_left
            .checked_sub(length)
            .expect("at most what is left");
        current.digest = current.digest.map(|digest| crc32c::crc32c_append(digest, data));
    }

    /// Moves bytes into `held` until there are `length`; whether there are.
    fn hold(&mut self, bytes: &mut &[u8], length: usize) -> bool {
        let taken = (length - self.held_length).min(bytes.len());
        self.held[self.held_length..self.held_length + taken].copy_from_slice(&bytes[..taken]);
        self.held_length += taken;
        *bytes = &bytes[taken..];
        self.held_length == length
    }

    #[inline]
    fn read_data<'a>(&mut self, mut current: Current, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        if bytes.is_empty() {
            return None;
        }
        let taken = bytes
            .len()
            .min(usize::try_from(current.data_left).unwrap_or(usize::MAX));
        let (data, rest) = bytes.split_at(taken);
        *bytes = rest;
        current.data_left -= u32::try_from(taken).expect("at most what is left");
        current.digest = current.digest.map(|digest| crc32c::crc32c_append(digest, data));
        self.state = State::Data(current);
        Some(data)
    }

    /// A header as nearly all are: in one piece, without digests or padding, of a command or its data. `None`: it must be looked
    /// at closely, as [`FrameReader::read_header`] does.
    #[inline]
    fn read_plain_header<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Frame<'a>> {
        if self.held_length > 0 || self.digests.header || self.digests.data {
            return None;
        }
        let [code, flags, hlen, pdo, plen @ ..] = *bytes.first_chunk::<COMMON_HEADER_BYTES>()?;
        let (kind, limit) = match (self.end, code) {
            (End::Controller, 0x04) => (PduType::CapsuleCmd, self.limits.capsule_data_bytes),
            (End::Controller, 0x06) => (PduType::H2cData, self.limits.transfer_data_bytes),
            (End::Host, 0x05) => (PduType::CapsuleResp, 0),
            (End::Host, 0x07) => (PduType::C2hData, self.limits.transfer_data_bytes),
            _ => return None,
        };
        let data_length = u32::from_le_bytes(plen).checked_sub(hlen.into())?;
        let digests = flags & (FLAG_HEADER_DIGEST | FLAG_DATA_DIGEST);
        if usize::from(hlen) != kind.header_bytes() || digests != 0 || data_length > limit {
            return None;
        }
        if data_length > 0 && pdo != hlen {
            return None;
        }
        let (whole, rest) = bytes.split_at_checked(hlen.into())?;
        *bytes = rest;
        if data_length > 0 {
            self.state = State::Data(Current {
                data_left: data_length,
                digest: None,
            });
        }
        Some(Frame {
            kind,
            flags,
            data_length,
            whole: Some(whole),
        })
    }

    fn read_header<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Fatal> {
        if self.held_length == 0
            && let Some((common, _)) = bytes.split_first_chunk::<COMMON_HEADER_BYTES>()
        {
            let shape = self.shape(common)?;
            let length = shape.header_bytes + shape.header_digest_bytes;
            if let Some((whole, rest)) = bytes.split_at_checked(length) {
                *bytes = rest;
                let frame = self.begin(&shape, whole)?;
                return Ok(Some(Frame {
                    whole: Some(&whole[..shape.header_bytes]),
                    ..frame
                }));
            }
        }
        self.collect_header(bytes)
    }

    /// A header that comes in pieces.
    fn collect_header(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame<'static>>, Fatal> {
        if self.held_length < COMMON_HEADER_BYTES && !self.hold(bytes, COMMON_HEADER_BYTES) {
            return Ok(None);
        }
        let held = self.held;
        let shape = self.shape(held.first_chunk().expect("longer"))?;
        let length = shape.header_bytes + shape.header_digest_bytes;
        if !self.hold(bytes, length) {
            return Ok(None);
        }
        self.held_length = 0;
        let held = self.held;
        self.begin(&shape, &held[..length]).map(Some)
    }

    /// A header is complete, its digest behind it if there is one.
    fn begin(&mut self, shape: &Shape, whole: &[u8]) -> Result<Frame<'static>, Fatal> {
        if shape.header_digest_bytes > 0 {
            check_header_digest(whole)?;
        }
        if shape.data_length > 0 {
            let then = Current {
                data_left: shape.data_length,
                digest: (shape.data_digest_bytes > 0).then_some(0),
            };
            self.state = match shape.padding_bytes {
                0 => State::Data(then),
                left => State::Padding { left, then },
            };
        }
        Ok(Frame {
            kind: shape.kind,
            flags: whole[1],
            data_length: shape.data_length,
            whole: None,
        })
    }

    /// What a common header says of the PDU, if all of it fits together.
    fn shape(&self, common: &[u8; COMMON_HEADER_BYTES]) -> Result<Shape, Fatal> {
        let [code, flags, hlen, pdo, plen @ ..] = *common;
        let fields = CommonHeader {
            flags,
            hlen,
            pdo,
            plen: u32::from_le_bytes(plen),
        };
        PduType::from_code(code)
            .filter(|kind| kind.sent_by_host() == (self.end == End::Controller))
            .ok_or((FatalErrorStatus::InvalidPduHeaderField, 0))
            .and_then(|kind| fields.shape(kind, self.digests, self.data_limit(kind)))
            .map_err(|(status, information)| Fatal {
                status,
                information,
                header: common.to_vec(),
            })
    }

    fn data_limit(&self, kind: PduType) -> u32 {
        match kind {
            PduType::CapsuleCmd => self.limits.capsule_data_bytes,
            PduType::H2cData | PduType::C2hData => self.limits.transfer_data_bytes,
            _ => TERMINATE_DATA_BYTES_MAX,
        }
    }
}

/// `whole` is a header with its digest.
fn check_header_digest(whole: &[u8]) -> Result<(), Fatal> {
    let (header, received) = whole.split_last_chunk().expect("with its digest");
    let received = u32::from_le_bytes(*received);
    if received == crc32c::crc32c(header) {
        return Ok(());
    }
    Err(Fatal {
        status: FatalErrorStatus::HeaderDigestError,
        information: received,
        header: header.to_vec(),
    })
}

/// How a PDU is laid out.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: PduType,
    header_bytes: usize,
    header_digest_bytes: usize,
    padding_bytes: usize,
    data_length: u32,
    data_digest_bytes: usize,
}

struct CommonHeader {
    flags: u8,
    hlen: u8,
    pdo: u8,
    plen: u32,
}

/// Offsets of the common header's fields, for FEI.
const FLAGS_OFFSET: u32 = 1;
const HLEN_OFFSET: u32 = 2;
const PDO_OFFSET: u32 = 3;
const PLEN_OFFSET: u32 = 4;

impl CommonHeader {
    fn shape(
        &self,
        kind: PduType,
        digests: Digests,
        data_limit: u32,
    ) -> Result<Shape, (FatalErrorStatus, u32)> {
        let invalid = |offset| (FatalErrorStatus::InvalidPduHeaderField, offset);
        let header_bytes = kind.header_bytes();
        if usize::from(self.hlen) != header_bytes {
            return Err(invalid(HLEN_OFFSET));
        }
        let header_digest = digests.header && kind.has_digests();
        if kind.has_digests() && (self.flags & FLAG_HEADER_DIGEST != 0) != header_digest {
            return Err(invalid(FLAGS_OFFSET));
        }
        let header_digest_bytes = if header_digest { DIGEST_BYTES } else { 0 };
        let headers = u32::try_from(header_bytes + header_digest_bytes).expect("a header is short");
        let mut shape = Shape {
            kind,
            header_bytes,
            header_digest_bytes,
            padding_bytes: 0,
            data_length: 0,
            data_digest_bytes: 0,
        };
        if self.plen == headers {
            return Ok(shape);
        }
        if self.plen < headers || !kind.carries_data() {
            return Err(invalid(PLEN_OFFSET));
        }
        let data_digest = digests.data && kind.has_digests();
        if kind.has_digests() && (self.flags & FLAG_DATA_DIGEST != 0) != data_digest {
            return Err(invalid(FLAGS_OFFSET));
        }
        // A terminate request's data follows its header at once; its PDO is reserved.
        let data_offset = match kind.has_digests() {
            true => u32::from(self.pdo),
            false => headers,
        };
        if data_offset < headers || !data_offset.is_multiple_of(4) {
            return Err(invalid(PDO_OFFSET));
        }
        shape.padding_bytes = usize::try_from(data_offset - headers).expect("an 8-bit offset");
        shape.data_digest_bytes = if data_digest { DIGEST_BYTES } else { 0 };
        let behind = data_offset + if data_digest { 4 } else { 0 };
        shape.data_length = self.plen.checked_sub(behind).ok_or(invalid(PLEN_OFFSET))?;
        if shape.data_length == 0 {
            return Err(invalid(PLEN_OFFSET));
        }
        if shape.data_length > data_limit {
            return Err((FatalErrorStatus::DataTransferLimitExceeded, PLEN_OFFSET));
        }
        Ok(shape)
    }
}

/// Puts the part of a PDU together that goes before its data: common header, specific header, header digest, padding.
#[derive(Clone, Copy, Debug)]
pub struct FrameWriter {
    /// What initialisation agreed on.
    pub digests: Digests,
    /// The receiver wants data at multiples of so many bytes: (HPDA or CPDA + 1) x 4.
    pub data_alignment_bytes: u8,
}

impl Default for FrameWriter {
    /// Before initialisation: no digests, four bytes.
    fn default() -> FrameWriter {
        FrameWriter {
            digests: Digests::default(),
            data_alignment_bytes: 4,
        }
    }
}

/// A header as nearly all are: without digests or padding.
#[inline]
fn plain_header<const SPECIFIC: usize>(
    kind: PduType,
    flags: u8,
    specific: &[u8; SPECIFIC],
    data_length: u32,
) -> SessionBytes {
    let header_bytes = COMMON_HEADER_BYTES + SPECIFIC;
    let length = header_bytes as u8;
    let mut bytes = [0; SessionBytes::SHORT_MAX];
    bytes[0] = kind as u8;
    bytes[1] = flags;
    bytes[2] = length;
    bytes[3] = if data_length > 0 { length } else { 0 };
    bytes[4..8].copy_from_slice(&(u32::from(length) + data_length).to_le_bytes());
    bytes[COMMON_HEADER_BYTES..header_bytes].copy_from_slice(specific);
    SessionBytes::Short { length, bytes }
}

impl FrameWriter {
    /// Everything of a PDU that goes before `data_length` bytes of data. `specific` is the header behind its first eight
    /// bytes; `flags` are those of the PDU, digest bits not included.
    ///
    /// If the writer has data digests and there is data, [`FrameWriter::data_digest`] must follow the data.
    ///
    /// # Panics
    /// If `specific` has not the length that `kind` wants.
    #[inline]
    pub fn before_data(&self, kind: PduType, flags: u8, specific: &[u8], data_length: u32) -> SessionBytes {
        let plain = !self.digests.header && !self.digests.data && self.data_alignment_bytes == 4;
        let plain = plain && kind.has_digests();
        if plain
            && kind.header_bytes() == 24
            && let Ok(specific) = specific.try_into()
        {
            return plain_header::<16>(kind, flags, specific, data_length);
        }
        if plain
            && kind == PduType::CapsuleCmd
            && let Ok(specific) = specific.try_into()
        {
            return plain_header::<64>(kind, flags, specific, data_length);
        }
        self.any_before_data(kind, flags, specific, data_length)
    }

    fn any_before_data(&self, kind: PduType, flags: u8, specific: &[u8], data_length: u32) -> SessionBytes {
        assert_eq!(
            specific.len() + COMMON_HEADER_BYTES,
            kind.header_bytes(),
            "header of {kind:?}"
        );
        let header_digest = self.digests.header && kind.has_digests();
        let data_digest = self.digests.data && kind.has_digests() && data_length > 0;
        let headers = kind.header_bytes() + if header_digest { DIGEST_BYTES } else { 0 };
        let data_offset = match data_length > 0 && kind.has_digests() {
            true => headers.next_multiple_of(usize::from(self.data_alignment_bytes)),
            false => headers,
        };
        let length =
            u32::try_from(data_offset).expect("short") + data_length + if data_digest { 4 } else { 0 };
        let digests = if header_digest { FLAG_HEADER_DIGEST } else { 0 }
            | if data_digest { FLAG_DATA_DIGEST } else { 0 };
        let pdo = match data_length > 0 && kind.has_digests() {
            true => u8::try_from(data_offset).expect("alignment is at most 128"),
            false => 0,
        };
        let mut common = [kind as u8, flags | digests, 0, pdo, 0, 0, 0, 0];
        common[2] = u8::try_from(kind.header_bytes()).expect("short");
        common[4..].copy_from_slice(&length.to_le_bytes());
        let mut bytes = SessionBytes::with_capacity(data_offset);
        bytes.extend_from_slice(&common);
        bytes.extend_from_slice(specific);
        if header_digest {
            let digest = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&digest.to_le_bytes());
        }
        bytes.pad_to(data_offset);
        bytes
    }

    /// What goes behind `data`: its digest, or nothing.
    pub fn data_digest(&self, data: &[u8]) -> Option<[u8; DIGEST_BYTES]> {
        self.digests.data.then(|| crc32c::crc32c(data).to_le_bytes())
    }

    /// A terminate request of `kind` (H2CTermReq or C2HTermReq).
    pub fn terminate(&self, kind: PduType, fatal: &Fatal) -> SessionBytes {
        let mut specific = [0; 16];
        specific[..2].copy_from_slice(&(fatal.status as u16).to_le_bytes());
        specific[2..6].copy_from_slice(&fatal.information.to_le_bytes());
        let length = u32::try_from(fatal.header.len()).expect("a header is short");
        let mut bytes = self.before_data(kind, 0, &specific, length);
        bytes.extend_from_slice(&fatal.header);
        bytes
    }
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
