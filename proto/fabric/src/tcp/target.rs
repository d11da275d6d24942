//! The controller's end of an NVMe/TCP connection (NVMe/TCP Transport 1.1): initialisation, what may come when,
//! and the PDUs that go back.
//!
//! Not here: what capsules mean, where data goes, which transfer tags are outstanding. A [`Session`] is told bytes and tells
//! [`Step`]s; whoever owns it answers with bytes made by the same session.

use super::framing::{
    Digests, End, FLAG_LAST, FLAG_SUCCESS, Fatal, FatalErrorStatus, Frame, FrameLimits, FrameReader,
    FrameWriter, PduType, Piece,
};
use crate::driver::SessionBytes;
use nvme::{CompletionQueueEntry, SubmissionQueueEntry};

/// What a target offers on its connections.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// Most data inside of a command capsule, before Connect and after.
    pub in_capsule_bytes: u32,
    /// MAXH2CDATA.
    pub h2c_data_bytes_max: u32,
    /// Which digests the target agrees to.
    pub digests: Digests,
}

/// What the host's bytes mean.
#[derive(Debug)]
pub enum Step<'a> {
    /// The host asked to initialise, and these bytes answer it.
    Initialized(Box<SessionBytes>),
    /// A command: its entry is [`Session::entry`]'s to tell. If it carries data, [`Step::Data`] and one [`Step::DataEnd`]
    /// follow.
    Command(Frame<'a>),
    /// Data for an R2T; [`Step::Data`] and one [`Step::DataEnd`] follow.
    Transfer(Transfer),
    /// Bytes of the data announced last.
    Data(&'a [u8]),
    /// The data announced last is complete.
    DataEnd {
        /// Its digest was right, or there is none.
        intact: bool,
    },
    /// The host terminates the connection (H2CTermReq).
    Terminated,
}

/// The header of an H2CData PDU (3.6.2.7).
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// CCCID: the command that the data belongs to.
    pub cid: u16,
    /// TTAG: the R2T that asked for it.
    pub tag: u16,
    /// DATAO: offset in the command's data.
    pub offset: u32,
    /// DATAL: how much.
    pub length: u32,
    /// LAST_PDU: nothing follows for this R2T.
    pub last: bool,
    header: [u8; PduType::H2cData.header_bytes()],
}

impl Transfer {
    /// The connection must be terminated: `field` (an offset in the header) is wrong.
    pub fn fatal(&self, status: FatalErrorStatus, field: u32) -> Fatal {
        fatal(&self.header, status, field)
    }
    /// Offset of CCCID in the header.
    pub const CCCID: u32 = 8;
    /// Offset of TTAG.
    pub const TTAG: u32 = 10;
    /// Offset of DATAO.
    pub const DATAO: u32 = 12;
    /// Offset of FLAGS.
    pub const FLAGS: u32 = 1;
}

/// The controller's end of one connection.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    reader: FrameReader,
    writer: FrameWriter,
    initialized: bool,
}

impl Session {
    /// A fresh connection.
    pub fn new(config: SessionConfig) -> Session {
        let limits = FrameLimits {
            capsule_data_bytes: config.in_capsule_bytes,
            transfer_data_bytes: config.h2c_data_bytes_max,
        };
        Session {
            config,
            reader: FrameReader::new(End::Controller, limits),
            writer: FrameWriter::default(),
            initialized: false,
        }
    }

    /// The next thing that the host says; `bytes` is advanced past what was taken. `None`: more bytes are needed.
    ///
    /// # Errors
    /// The host broke the protocol: send [`Session::terminate`] and close.
    #[inline]
    pub fn read<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Step<'a>>, Fatal> {
        match self.reader.advance(bytes)? {
            None => Ok(None),
            Some(Piece::Header(frame)) if frame.kind == PduType::CapsuleCmd && self.initialized => {
                Ok(Some(Step::Command(frame)))
            }
            Some(Piece::Header(frame)) => self.step(&frame).map(Some),
            Some(Piece::Data(data)) => Ok(Some(Step::Data(data))),
            Some(Piece::End { intact }) => Ok(Some(Step::DataEnd { intact })),
        }
    }

    /// How many bytes of data come next, before anything else.
    pub fn data_left(&self) -> u32 {
        self.reader.data_left()
    }

    /// The next bytes of data have come, where they belong: at most [`Session::data_left`]. What follows from it comes with
    /// the next [`Session::read`].
    pub fn landed(&mut self, data: &[u8]) {
        self.reader.landed(data);
    }

    /// The submission queue entry of the command that [`Session::read`] told last.
    #[inline]
    pub fn entry(&self, capsule: &Frame<'_>) -> SubmissionQueueEntry {
        let header = self.reader.bytes_of(capsule);
        let entry = header.last_chunk().expect("a capsule ends with its entry");
        SubmissionQueueEntry::from_bytes(*entry)
    }

    fn step<'a>(&mut self, frame: &Frame<'a>) -> Result<Step<'a>, Fatal> {
        let initializes = frame.kind == PduType::IcReq;
        if frame.kind == PduType::H2cTermReq {
            return Ok(Step::Terminated);
        }
        let header = self.reader.bytes_of(frame);
        if initializes == self.initialized {
            return Err(fatal(header, FatalErrorStatus::PduSequenceError, 0));
        }
        match frame.kind {
            PduType::IcReq => self.initialize(frame).map(Box::new).map(Step::Initialized),
            PduType::CapsuleCmd => Ok(Step::Command(*frame)),
            PduType::H2cData => transfer(frame, header).map(Step::Transfer),
            _ => unreachable!("the reader lets pass only what hosts send"),
        }
    }

    /// Initialize Connection Request (3.6.2.1), answered by an Initialize Connection Response (3.6.2.2).
    fn initialize(&mut self, frame: &Frame<'_>) -> Result<SessionBytes, Fatal> {
        const PFV: u32 = 8;
        const HPDA: u32 = 10;
        let bytes = self.reader.bytes_of(frame);
        if bytes[8..10] != [0, 0] {
            return Err(fatal(bytes, FatalErrorStatus::UnsupportedParameter, PFV));
        }
        if bytes[10] > 31 {
            return Err(fatal(bytes, FatalErrorStatus::InvalidPduHeaderField, HPDA));
        }
        let digests = Digests {
            header: bytes[11] & 1 != 0 && self.config.digests.header,
            data: bytes[11] & 2 != 0 && self.config.digests.data,
        };
        let data_alignment_bytes = (bytes[10] + 1) * 4;
        let mut specific = [0; 120];
        specific[3] = u8::from(digests.header) | u8::from(digests.data) << 1;
        specific[4..8].copy_from_slice(&self.config.h2c_data_bytes_max.to_le_bytes());
        let response = self.writer.before_data(PduType::IcResp, 0, &specific, 0);
        self.reader.agree_digests(digests);
        self.writer = FrameWriter {
            digests,
            data_alignment_bytes,
        };
        self.initialized = true;
        Ok(response)
    }

    /// A response capsule (3.6.2.6).
    pub fn response(&self, entry: &CompletionQueueEntry) -> SessionBytes {
        self.writer
            .before_data(PduType::CapsuleResp, 0, entry.as_bytes(), 0)
    }

    /// An R2T (3.6.2.9): the host may send `length` bytes of the command's data from `offset`.
    pub fn ready_to_transfer(&self, cid: u16, tag: u16, offset: u32, length: u32) -> SessionBytes {
        let specific = data_fields(cid, tag, offset, length);
        self.writer.before_data(PduType::R2t, 0, &specific, 0)
    }

    /// What goes before `length` bytes that are all of a command's data (C2HData, 3.6.2.8). With `success` no response
    /// capsule follows.
    pub fn before_data(&self, cid: u16, length: u32, success: bool) -> SessionBytes {
        let flags = FLAG_LAST | if success { FLAG_SUCCESS } else { 0 };
        let specific = data_fields(cid, 0, 0, length);
        self.writer
            .before_data(PduType::C2hData, flags, &specific, length)
    }

    /// Whether data is followed by its digest.
    pub fn has_data_digest(&self) -> bool {
        self.writer.digests.data
    }

    /// What goes behind data: its digest, if one was agreed on.
    pub fn data_digest(&self, data: &[u8]) -> Option<[u8; 4]> {
        self.writer.data_digest(data)
    }

    /// The last PDU: why the connection is terminated (C2HTermReq, 3.6.2.4).
    pub fn terminate(&self, fatal: &Fatal) -> SessionBytes {
        self.writer.terminate(PduType::C2hTermReq, fatal)
    }
}

fn data_fields(cid: u16, tag: u16, offset: u32, length: u32) -> [u8; 16] {
    let mut specific = [0; 16];
    specific[0..2].copy_from_slice(&cid.to_le_bytes());
    specific[2..4].copy_from_slice(&tag.to_le_bytes());
    specific[4..8].copy_from_slice(&offset.to_le_bytes());
    specific[8..12].copy_from_slice(&length.to_le_bytes());
    specific
}

/// The connection must be terminated because of this header.
fn fatal(header: &[u8], status: FatalErrorStatus, information: u32) -> Fatal {
    Fatal {
        status,
        information,
        header: header.to_vec(),
    }
}

fn transfer(frame: &Frame<'_>, header: &[u8]) -> Result<Transfer, Fatal> {
    const DATAL: u32 = 16;
    let header: [u8; PduType::H2cData.header_bytes()] = header.try_into().expect("its length was checked");
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let transfer = Transfer {
        cid: half(8),
        tag: half(10),
        offset: word(12),
        length: word(16),
        last: frame.flags & FLAG_LAST != 0,
        header,
    };
    if transfer.length == 0 || transfer.length != frame.data_length {
        return Err(transfer.fatal(FatalErrorStatus::InvalidPduHeaderField, DATAL));
    }
    Ok(transfer)
}
