//! The host's end of one NVMe/TCP connection (NVMe/TCP Transport 1.1): initialisation, command capsules out, R2T
//! answered with H2CData, C2HData put where it belongs, responses handed up.
//!
//! What this deliberately is not: it does not know what a command means, when it is late, or who wants its answer;
//! [`crate::host`] does. It does not hold payload bytes: they go from and to the buffers of the commands.
//!
//! Invariants:
//! * nothing is handed up before initialisation has ended; a command is handed up once at most;
//! * received data is written only inside the buffer of the command it is for, in order, each byte once;
//! * after an error the session is of no more use.

use super::framing::{
    Digests, End, FLAG_LAST, FLAG_SUCCESS, Fatal, FatalErrorStatus, Frame, FrameLimits, FrameReader,
    FrameWriter, PduType, Piece,
};
use crate::driver::{Segment, SessionBytes};
use crate::host::entries::Addressed;
use block::{BufferSlice, Memory};
use std::collections::VecDeque;

/// The smallest MAXH2CDATA a controller may announce (3.6.2.2).
const MAXH2CDATA_MIN: u32 = 4096;
/// The largest CPDA (3.6.2.2): 31 means data at multiples of 128 bytes.
const CPDA_MAX: u8 = 31;
/// Offsets of fields in PDU headers, for the error information of a terminate request.
const PFV_OFFSET: u32 = 8;
const CPDA_OFFSET: u32 = 10;
const DGST_OFFSET: u32 = 11;
const MAXH2CDATA_OFFSET: u32 = 12;
const CCCID_OFFSET: u32 = 8;
const DATAO_OFFSET: u32 = 12;
const DATAL_OFFSET: u32 = 16;
/// Of the command identifier in a response capsule.
const CID_OFFSET: u32 = 20;
/// Fewer bytes than that are brought: a receive of their own costs more than a copy.
const LANDING_BYTES_MIN: u32 = 8 * 1024;

/// The data of a command.
#[derive(Debug)]
pub(crate) enum Data {
    /// None.
    None,
    /// To the controller, from a buffer.
    Send(BufferSlice),
    /// To the controller, made here.
    SendBytes(Vec<u8>),
    /// From the controller into a buffer; all of it must come for the command to succeed.
    Receive(BufferSlice),
    /// From the controller, at most so many bytes, handed up with the response.
    ReceiveBytes(u32),
}

impl Data {
    /// Its length in bytes.
    pub(crate) fn length(&self) -> u32 {
        match self {
            Data::None => 0,
            Data::Send(slice) | Data::Receive(slice) => slice.length,
            Data::SendBytes(bytes) => length_of(bytes),
            Data::ReceiveBytes(length) => *length,
        }
    }

    /// Whether it goes to the controller.
    pub(crate) fn is_outgoing(&self) -> bool {
        matches!(self, Data::Send(_) | Data::SendBytes(_))
    }
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Initialisation has ended: commands may be sent.
    Initialized,
    /// A command has ended.
    Response {
        /// The completion queue entry, as it stands in the capsule.
        entry: [u8; 16],
        /// The data of [`Data::ReceiveBytes`].
        bytes: Vec<u8>,
    },
}

/// Why the connection must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The controller broke the protocol.
    Protocol {
        /// For people.
        what: &'static str,
        /// For the controller.
        fatal: Fatal,
    },
    /// Data came that does not fit its digest.
    DataDigest,
    /// The controller asked to terminate.
    Terminated {
        /// FES.
        status: u16,
        /// FEI.
        information: u32,
    },
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fault::Protocol { what, .. } => write!(f, "the controller broke the protocol: {what}"),
            Fault::DataDigest => write!(f, "data from the controller does not fit its digest"),
            Fault::Terminated { status, information } => {
                write!(
                    f,
                    "the controller terminated the connection (status {status}, information {information:#x})"
                )
            }
        }
    }
}

/// Where a command's data stands.
#[derive(Debug)]
enum Transfer {
    /// There is no such command.
    Vacant,
    /// No data, or all of it went in the capsule.
    None,
    /// To the controller, as it asks for it.
    Out { from: BufferSlice, sent: u32 },
    /// The same, of data made here.
    OutBytes { from: Box<[u8]>, sent: u32 },
    /// From the controller into a buffer.
    In { into: BufferSlice, received: u32 },
    /// From the controller, kept here.
    InBytes {
        bytes: Vec<u8>,
        expected: u32,
        received: u32,
    },
    /// The owner has given up the command: count, do not keep.
    InNowhere { expected: u32, received: u32 },
}

/// The PDU whose data is coming in.
#[derive(Clone, Copy, Debug)]
enum Receiving {
    Nothing,
    C2hData { cid: u16, at: u32, ends: bool },
    Terminate { status: u16, information: u32 },
}

/// A PDU that must not be: what the fault about it says, besides the PDU's header.
#[derive(Clone, Copy, Debug)]
struct Wrong {
    what: &'static str,
    status: FatalErrorStatus,
    information: u32,
}

/// The header of a PDU behind its first eight bytes: all that the PDUs of steady state have.
#[derive(Clone, Copy, Debug)]
struct Specific([u8; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitingIcResp,
    Initialized,
}

/// One connection, as the host sees it.
#[derive(Debug)]
pub(crate) struct Session {
    wanted: Digests,
    reader: FrameReader,
    writer: FrameWriter,
    phase: Phase,
    max_h2c_data: u32,
    /// By command identifier.
    transfers: Vec<Transfer>,
    receiving: Receiving,
    segments: VecDeque<Segment>,
    arrivals: VecDeque<Arrival>,
}

impl Session {
    /// A session on a fresh connection, its ICReq ready to be sent. Commands will have identifiers below `commands`.
    pub(crate) fn new(wanted: Digests, commands: u16) -> Session {
        let limits = FrameLimits {
            capsule_data_bytes: 0,
            transfer_data_bytes: u32::MAX,
        };
        let mut session = Session {
            wanted,
            reader: FrameReader::new(End::Host, limits),
            writer: FrameWriter::default(),
            phase: Phase::AwaitingIcResp,
            max_h2c_data: MAXH2CDATA_MIN,
            transfers: (0..commands).map(|_| Transfer::Vacant).collect(),
            receiving: Receiving::Nothing,
            segments: VecDeque::new(),
            arrivals: VecDeque::new(),
        };
        // PFV 0, HPDA 0, MAXR2T 0: one R2T at a time.
        let mut specific = [0; 120];
        specific[3] = u8::from(wanted.header) | u8::from(wanted.data) << 1;
        let icreq = session.writer.before_data(PduType::IcReq, 0, &specific, 0);
        session.segments.push_back(Segment::Bytes(icreq));
        session
    }

    /// Sends a command. Its data goes in the capsule if there is room for it there.
    ///
    /// # Panics
    /// Before initialisation has ended, or if the identifier is in use.
    #[inline]
    pub(crate) fn send(&mut self, cid: u16, command: Addressed, memory: &mut dyn Memory) {
        let Addressed {
            entry,
            data,
            in_capsule,
        } = command;
        assert_eq!(self.phase, Phase::Initialized, "a command before initialisation");
        let transfer = &self.transfers[usize::from(cid)];
        assert!(
            matches!(transfer, Transfer::Vacant),
            "command identifier {cid} is in use"
        );
        let length = if in_capsule { data.length() } else { 0 };
        let before = self
            .writer
            .before_data(PduType::CapsuleCmd, 0, entry.as_bytes(), length);
        self.transfers[usize::from(cid)] = match data {
            Data::Send(slice) if in_capsule => {
                self.send_payload(before, slice, memory);
                Transfer::None
            }
            Data::SendBytes(bytes) if in_capsule => {
                self.send_bytes(before, bytes);
                Transfer::None
            }
            data => {
                self.segments.push_back(Segment::Bytes(before));
                to_come(data)
            }
        };
    }

    /// The owner has given up a command: what comes for it is dropped, and its buffer is left alone if data was to come
    /// into it. (Data to the controller is still taken from the buffer.)
    pub(crate) fn discard(&mut self, cid: u16) {
        let transfer = &mut self.transfers[usize::from(cid)];
        let (expected, received) = match transfer {
            Transfer::In { into, received } => (into.length, *received),
            Transfer::InBytes {
                expected, received, ..
            } => (*expected, *received),
            _ => return,
        };
        *transfer = Transfer::InNowhere { expected, received };
    }

    /// Bytes came in.
    ///
    /// # Errors
    /// The connection must end. What has arrived before stays to be polled.
    pub(crate) fn received(&mut self, mut bytes: &[u8], memory: &mut dyn Memory) -> Result<(), Fault> {
        loop {
            match self.reader.advance(&mut bytes) {
                Ok(None) => return Ok(()),
                Ok(Some(Piece::Header(frame))) => self.handle_header(&frame, memory)?,
                Ok(Some(Piece::Data(data))) => self.handle_data(data, memory),
                Ok(Some(Piece::End { intact })) => self.handle_end(intact)?,
                Err(fatal) => {
                    return Err(Fault::Protocol {
                        what: "a PDU that does not hold together",
                        fatal,
                    });
                }
            }
        }
    }

    /// Where the next bytes belong, if they are data for a buffer and enough of them are still to come.
    pub(crate) fn landing(&self) -> Option<BufferSlice> {
        let left = self.reader.data_left();
        if left < LANDING_BYTES_MIN {
            return None;
        }
        let Receiving::C2hData { cid, at, .. } = self.receiving else {
            return None;
        };
        match self.transfers[usize::from(cid)] {
            Transfer::In { into, .. } => Some(into.part(at, left)),
            _ => None,
        }
    }

    /// So many bytes are where [`Session::landing`] said.
    ///
    /// # Errors
    /// As [`Session::received`].
    ///
    /// # Panics
    /// If no landing was offered, or fewer bytes.
    pub(crate) fn landed(&mut self, length: u32, memory: &mut dyn Memory) -> Result<(), Fault> {
        let place = self.landing().expect("a landing was offered");
        self.reader.landed(memory.bytes(place.part(0, length)));
        let Receiving::C2hData { at, .. } = &mut self.receiving else {
            unreachable!("only data lands");
        };
        *at += length;
        // Its end may have come with these.
        self.received(&[], memory)
    }

    /// What came in, in order.
    pub(crate) fn poll_arrival(&mut self) -> Option<Arrival> {
        self.arrivals.pop_front()
    }

    /// What is to be sent, in order.
    #[inline]
    pub(crate) fn poll_segment(&mut self) -> Option<Segment> {
        self.segments.pop_front()
    }

    /// The terminate request that tells the controller of a fault, if one is owed (3.5.2).
    pub(crate) fn terminate(&self, fault: &Fault) -> Option<Segment> {
        match fault {
            Fault::Protocol { fatal, .. } => {
                let request = self.writer.terminate(PduType::H2cTermReq, fatal);
                Some(Segment::Bytes(request))
            }
            Fault::DataDigest | Fault::Terminated { .. } => None,
        }
    }

    /// Gives back the payloads that were not sent; the connection is gone.
    pub(crate) fn release(&mut self, memory: &mut dyn Memory) {
        for segment in self.segments.drain(..) {
            if let Segment::Payload { payload, .. } = segment {
                memory.release(payload.buffer);
            }
        }
    }

    fn send_payload(&mut self, before: SessionBytes, payload: BufferSlice, memory: &mut dyn Memory) {
        memory.retain(payload.buffer);
        self.segments.push_back(Segment::Payload { before, payload });
        if let Some(digest) = self.writer.data_digest(memory.bytes(payload)) {
            self.segments.push_back(Segment::Bytes(digest[..].into()));
        }
    }

    fn send_bytes(&mut self, before: SessionBytes, mut bytes: Vec<u8>) {
        self.segments.push_back(Segment::Bytes(before));
        if let Some(digest) = self.writer.data_digest(&bytes) {
            bytes.extend_from_slice(&digest);
        }
        self.segments.push_back(Segment::Bytes(bytes.into()));
    }

    fn handle_header(&mut self, frame: &Frame<'_>, memory: &mut dyn Memory) -> Result<(), Fault> {
        let header = self.reader.bytes_of(frame);
        let (_, behind) = header.split_at(8);
        let specific = Specific(*behind.first_chunk().expect("every header has so many"));
        let handled = match (self.phase, frame.kind) {
            (_, PduType::C2hTermReq) => return self.handle_terminate(frame, specific),
            (Phase::AwaitingIcResp, PduType::IcResp) => self.handle_icresp(specific),
            (Phase::Initialized, PduType::C2hData) => self.handle_c2h_data(frame, specific),
            (Phase::Initialized, PduType::CapsuleResp) => self.handle_response(specific),
            (Phase::Initialized, PduType::R2t) => self.handle_r2t(specific, memory),
            _ => Err(sequence("a PDU that may not come now")),
        };
        handled.map_err(|wrong| Fault::Protocol {
            what: wrong.what,
            fatal: Fatal {
                status: wrong.status,
                information: wrong.information,
                header: self.reader.bytes_of(frame).to_vec(),
            },
        })
    }

    fn handle_terminate(&mut self, frame: &Frame<'_>, specific: Specific) -> Result<(), Fault> {
        let (status, information) = (specific.half(0), specific.word(2));
        self.receiving = Receiving::Terminate { status, information };
        match frame.data_length {
            0 => Err(Fault::Terminated { status, information }),
            _ => Ok(()),
        }
    }

    fn handle_icresp(&mut self, specific: Specific) -> Result<(), Wrong> {
        let (pfv, cpda, dgst) = (specific.half(0), specific.0[2], specific.0[3]);
        let max_h2c_data = specific.word(4);
        let agreed = Digests {
            header: dgst & 1 != 0,
            data: dgst & 2 != 0,
        };
        let unsupported = |what, offset| Err(wrong(what, FatalErrorStatus::UnsupportedParameter, offset));
        if pfv != 0 {
            return unsupported("a PDU format version we do not know", PFV_OFFSET);
        }
        if cpda > CPDA_MAX {
            return unsupported("a data alignment out of range", CPDA_OFFSET);
        }
        if agreed.header && !self.wanted.header || agreed.data && !self.wanted.data {
            return unsupported("a digest that was not offered", DGST_OFFSET);
        }
        if max_h2c_data < MAXH2CDATA_MIN {
            return unsupported("a MAXH2CDATA below 4096", MAXH2CDATA_OFFSET);
        }
        self.max_h2c_data = max_h2c_data - max_h2c_data % 4;
        self.writer = FrameWriter {
            digests: agreed,
            data_alignment_bytes: (cpda + 1) * 4,
        };
        self.reader.agree_digests(agreed);
        self.phase = Phase::Initialized;
        self.arrivals.push_back(Arrival::Initialized);
        Ok(())
    }

    /// A command has ended: hands it up.
    fn handle_response(&mut self, specific: Specific) -> Result<(), Wrong> {
        let entry = specific.0;
        let cid = specific.half(12);
        let succeeded = specific.half(14) >> 1 == 0;
        let no_command = || field("a response to no command", CID_OFFSET);
        let transfer = self.transfers.get_mut(usize::from(cid)).ok_or_else(no_command)?;
        let bytes = match core::mem::replace(transfer, Transfer::Vacant) {
            Transfer::Vacant => return Err(no_command()),
            Transfer::Out { from, sent } if succeeded && sent < from.length => {
                return Err(sequence("success before all data was asked for"));
            }
            Transfer::OutBytes { from, sent } if succeeded && sent < length_of(&from) => {
                return Err(sequence("success before all data was asked for"));
            }
            Transfer::In { into, received } if succeeded && received < into.length => {
                return Err(sequence("success before all data came"));
            }
            Transfer::InBytes { bytes, .. } => bytes,
            _ => Vec::new(),
        };
        self.arrivals.push_back(Arrival::Response { entry, bytes });
        Ok(())
    }

    fn handle_c2h_data(&mut self, frame: &Frame<'_>, specific: Specific) -> Result<(), Wrong> {
        let (cid, offset, length) = (specific.half(0), specific.word(4), specific.word(8));
        if length != frame.data_length || length == 0 {
            return Err(field("a data length that is not the PDU's", DATAL_OFFSET));
        }
        let no_command = || field("data for no command", CCCID_OFFSET);
        let transfer = self.transfers.get_mut(usize::from(cid)).ok_or_else(no_command)?;
        // All of it must have come for success only where a buffer waits for it.
        let (expected, received, all) = match transfer {
            Transfer::In { into, received } => (into.length, received, true),
            Transfer::InBytes {
                expected, received, ..
            } => (*expected, received, false),
            Transfer::InNowhere { expected, received } => (*expected, received, false),
            _ => return Err(no_command()),
        };
        if offset != *received {
            return Err(range("data out of order", DATAO_OFFSET));
        }
        let end = offset.checked_add(length).filter(|end| *end <= expected);
        let end = end.ok_or_else(|| range("more data than was asked for", DATAL_OFFSET))?;
        *received = end;
        let ends = frame.flags & FLAG_SUCCESS != 0;
        if ends && frame.flags & FLAG_LAST == 0 {
            return Err(field("success in a data PDU that is not the last", 1));
        }
        if ends && all && end < expected {
            return Err(sequence("success before all data came"));
        }
        self.receiving = Receiving::C2hData {
            cid,
            at: offset,
            ends,
        };
        Ok(())
    }

    fn handle_data(&mut self, data: &[u8], memory: &mut dyn Memory) {
        let Receiving::C2hData { cid, at, .. } = &mut self.receiving else {
            return;
        };
        let length = length_of(data);
        let offset = core::mem::replace(at, *at + length);
        match &mut self.transfers[usize::from(*cid)] {
            Transfer::In { into, .. } => memory.bytes_mut(into.part(offset, length)).copy_from_slice(data),
            Transfer::InBytes { bytes, .. } => bytes.extend_from_slice(data),
            Transfer::InNowhere { .. } => {}
            _ => unreachable!("no other PDU comes between a data PDU's header and its data"),
        }
    }

    fn handle_end(&mut self, intact: bool) -> Result<(), Fault> {
        match core::mem::replace(&mut self.receiving, Receiving::Nothing) {
            Receiving::Terminate { status, information } => Err(Fault::Terminated { status, information }),
            _ if !intact => Err(Fault::DataDigest),
            Receiving::C2hData { cid, ends: true, .. } => {
                self.end_by_success_flag(cid);
                Ok(())
            }
            Receiving::C2hData { .. } | Receiving::Nothing => Ok(()),
        }
    }

    /// The SUCCESS flag stands for a response capsule that says nothing but success.
    fn end_by_success_flag(&mut self, cid: u16) {
        let mut entry = [0; 16];
        entry[12..14].copy_from_slice(&cid.to_le_bytes());
        let transfer = &mut self.transfers[usize::from(cid)];
        let bytes = match core::mem::replace(transfer, Transfer::Vacant) {
            Transfer::InBytes { bytes, .. } => bytes,
            _ => Vec::new(),
        };
        self.arrivals.push_back(Arrival::Response { entry, bytes });
    }

    fn handle_r2t(&mut self, specific: Specific, memory: &mut dyn Memory) -> Result<(), Wrong> {
        let (cid, tag) = (specific.half(0), specific.half(2));
        let (offset, length) = (specific.word(4), specific.word(8));
        let no_command = || field("R2T for no command with data to send", CCCID_OFFSET);
        let transfer = self.transfers.get_mut(usize::from(cid)).ok_or_else(no_command)?;
        let (total, sent) = match transfer {
            Transfer::Out { from, sent } => (from.length, sent),
            Transfer::OutBytes { from, sent } => (length_of(from), sent),
            _ => return Err(no_command()),
        };
        if offset != *sent || length == 0 {
            return Err(range("R2T out of order", DATAO_OFFSET));
        }
        let end = offset.checked_add(length).filter(|end| *end <= total);
        *sent = end.ok_or_else(|| range("R2T for more data than there is", DATAL_OFFSET))?;
        let pieces = match transfer {
            Transfer::Out { from, .. } => Outgoing::Buffer(from.part(offset, length)),
            Transfer::OutBytes { from, .. } => {
                Outgoing::Bytes(from[to_usize(offset)..to_usize(offset + length)].to_vec())
            }
            _ => unreachable!("matched above"),
        };
        self.send_h2c_data(cid, tag, offset, &pieces, memory);
        Ok(())
    }

    /// Answers an R2T: `data`, which begins `offset` bytes into the command's, in PDUs that the controller takes.
    fn send_h2c_data(&mut self, cid: u16, tag: u16, offset: u32, data: &Outgoing, memory: &mut dyn Memory) {
        let length = data.length();
        let mut at = 0;
        while at < length {
            let piece = (length - at).min(self.max_h2c_data);
            let flags = if at + piece == length { FLAG_LAST } else { 0 };
            let mut specific = [0; 16];
            specific[..2].copy_from_slice(&cid.to_le_bytes());
            specific[2..4].copy_from_slice(&tag.to_le_bytes());
            specific[4..8].copy_from_slice(&(offset + at).to_le_bytes());
            specific[8..12].copy_from_slice(&piece.to_le_bytes());
            let before = self.writer.before_data(PduType::H2cData, flags, &specific, piece);
            match data {
                Outgoing::Buffer(slice) => self.send_payload(before, slice.part(at, piece), memory),
                Outgoing::Bytes(bytes) => {
                    self.send_bytes(before, bytes[to_usize(at)..to_usize(at + piece)].to_vec())
                }
            }
            at += piece;
        }
    }
}

/// Data that an R2T asks for.
#[derive(Debug)]
enum Outgoing {
    Buffer(BufferSlice),
    Bytes(Vec<u8>),
}

impl Outgoing {
    fn length(&self) -> u32 {
        match self {
            Outgoing::Buffer(slice) => slice.length,
            Outgoing::Bytes(bytes) => length_of(bytes),
        }
    }
}

impl Specific {
    fn half(self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn word(self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

/// What is left to do for a command's data after its capsule.
fn to_come(data: Data) -> Transfer {
    match data {
        Data::None => Transfer::None,
        Data::Receive(into) => Transfer::In { into, received: 0 },
        Data::Send(from) => Transfer::Out { from, sent: 0 },
        Data::SendBytes(bytes) => Transfer::OutBytes {
            from: bytes.into(),
            sent: 0,
        },
        Data::ReceiveBytes(expected) => Transfer::InBytes {
            bytes: Vec::new(),
            expected,
            received: 0,
        },
    }
}

fn to_usize(bytes: u32) -> usize {
    usize::try_from(bytes).expect("a 32-bit length is addressable")
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("inside a PDU of 32 bits")
}

fn wrong(what: &'static str, status: FatalErrorStatus, information: u32) -> Wrong {
    Wrong {
        what,
        status,
        information,
    }
}

fn field(what: &'static str, offset: u32) -> Wrong {
    wrong(what, FatalErrorStatus::InvalidPduHeaderField, offset)
}

fn range(what: &'static str, offset: u32) -> Wrong {
    wrong(what, FatalErrorStatus::DataTransferOutOfRange, offset)
}

fn sequence(what: &'static str) -> Wrong {
    wrong(what, FatalErrorStatus::PduSequenceError, 0)
}

#[cfg(test)]
#[path = "tests/host.rs"]
mod tests;
