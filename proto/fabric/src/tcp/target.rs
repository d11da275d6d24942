//! The controller's end of an NVMe/TCP connection (NVMe/TCP Transport 1.1): initialisation, what may come when,
//! and the PDUs that go back.
//!
//! Not here: what capsules mean, where data goes, which transfer tags are outstanding. A [`Session`] is told bytes and tells
//! [`Step`]s; whoever owns it answers with bytes made by the same session.

use super::framing::{
    Digests, End, FLAG_LAST, FLAG_SUCCESS, Fatal, FatalErrorStatus, FrameLimits, FrameReader, FrameWriter,
    Header, Part, PduType,
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
    Initialized(SessionBytes),
    /// A command. If it carries data, [`Step::Data`] and one [`Step::DataEnd`] follow.
    Command {
        /// The submission queue entry.
        entry: SubmissionQueueEntry,
        /// How much data the capsule carries.
        data_length: u32,
    },
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
    header: Header,
}

impl Transfer {
    /// The connection must be terminated: `field` (an offset in the header) is wrong.
    pub fn fatal(&self, status: FatalErrorStatus, field: u32) -> Fatal {
        self.header.fatal(status, field)
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
    pub fn read<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Step<'a>>, Fatal> {
        match self.reader.read(bytes)? {
            None => Ok(None),
            Some(Part::Header(header)) => self.step(&header).map(Some),
            Some(Part::Data(data)) => Ok(Some(Step::Data(data))),
            Some(Part::End { intact }) => Ok(Some(Step::DataEnd { intact })),
        }
    }

    fn step(&mut self, header: &Header) -> Result<Step<'static>, Fatal> {
        let initializes = header.kind == PduType::IcReq;
        if header.kind == PduType::H2cTermReq {
            return Ok(Step::Terminated);
        }
        if initializes == self.initialized {
            return Err(header.fatal(FatalErrorStatus::PduSequenceError, 0));
        }
        match header.kind {
            PduType::IcReq => self.initialize(header).map(Step::Initialized),
            PduType::CapsuleCmd => Ok(Step::Command {
                entry: SubmissionQueueEntry::parse(&header.bytes()[8..]).expect("the header is long enough"),
                data_length: header.data_length,
            }),
            PduType::H2cData => transfer(header).map(Step::Transfer),
            _ => unreachable!("the reader lets pass only what hosts send"),
        }
    }

    /// Initialize Connection Request (3.6.2.1), answered by an Initialize Connection Response (3.6.2.2).
    fn initialize(&mut self, header: &Header) -> Result<SessionBytes, Fatal> {
        const PFV: u32 = 8;
        const HPDA: u32 = 10;
        let bytes = header.bytes();
        if bytes[8..10] != [0, 0] {
            return Err(header.fatal(FatalErrorStatus::UnsupportedParameter, PFV));
        }
        if bytes[10] > 31 {
            return Err(header.fatal(FatalErrorStatus::InvalidPduHeaderField, HPDA));
        }
        let digests = Digests {
            header: bytes[11] & 1 != 0 && self.config.digests.header,
            data: bytes[11] & 2 != 0 && self.config.digests.data,
        };
        let mut specific = [0; 120];
        specific[3] = u8::from(digests.header) | u8::from(digests.data) << 1;
        specific[4..8].copy_from_slice(&self.config.h2c_data_bytes_max.to_le_bytes());
        let response = self.writer.before_data(PduType::IcResp, 0, &specific, 0);
        self.reader.agree_digests(digests);
        self.writer = FrameWriter {
            digests,
            data_alignment_bytes: (bytes[10] + 1) * 4,
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

fn transfer(header: &Header) -> Result<Transfer, Fatal> {
    const DATAL: u32 = 16;
    let bytes = header.bytes();
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let transfer = Transfer {
        cid: half(8),
        tag: half(10),
        offset: word(12),
        length: word(16),
        last: header.flags & FLAG_LAST != 0,
        header: *header,
    };
    if transfer.length == 0 || transfer.length != header.data_length {
        return Err(header.fatal(FatalErrorStatus::InvalidPduHeaderField, DATAL));
    }
    Ok(transfer)
}
