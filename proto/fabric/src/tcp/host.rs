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
    Digests, End, FLAG_LAST, FLAG_SUCCESS, Fatal, FatalErrorStatus, FrameLimits, FrameReader, FrameWriter,
    Header, Part, PduType,
};
use crate::driver::Segment;
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
            Data::SendBytes(bytes) => u32::try_from(bytes.len()).expect("we make short data"),
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
    Out {
        from: Outgoing,
        sent: u32,
    },
    In {
        into: Incoming,
        received: u32,
    },
}

#[derive(Debug)]
enum Outgoing {
    Buffer(BufferSlice),
    Bytes(Vec<u8>),
}

#[derive(Debug)]
enum Incoming {
    Buffer(BufferSlice),
    Bytes {
        bytes: Vec<u8>,
        expected: u32,
    },
    /// The owner has given up the command: count, do not keep.
    Nowhere {
        expected: u32,
    },
}

impl Incoming {
    fn expected(&self) -> u32 {
        match self {
            Incoming::Buffer(slice) => slice.length,
            Incoming::Bytes { expected, .. } | Incoming::Nowhere { expected } => *expected,
        }
    }
}

/// The PDU whose data is coming in.
#[derive(Clone, Copy, Debug)]
enum Receiving {
    Nothing,
    C2hData { cid: u16, at: u32, ends: bool },
    Terminate { status: u16, information: u32 },
}

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
    pub(crate) fn send(
        &mut self,
        cid: u16,
        entry: &[u8; 64],
        data: Data,
        in_capsule: bool,
        memory: &mut dyn Memory,
    ) {
        assert_eq!(self.phase, Phase::Initialized, "a command before initialisation");
        let transfer = &mut self.transfers[usize::from(cid)];
        assert!(
            matches!(transfer, Transfer::Vacant),
            "command identifier {cid} is in use"
        );
        let length = if in_capsule { data.length() } else { 0 };
        *transfer = match data {
            Data::None => Transfer::None,
            Data::Send(_) | Data::SendBytes(_) if in_capsule => Transfer::None,
            Data::Send(slice) => Transfer::out(Outgoing::Buffer(slice)),
            Data::SendBytes(ref bytes) => Transfer::out(Outgoing::Bytes(bytes.clone())),
            Data::Receive(slice) => Transfer::into(Incoming::Buffer(slice)),
            Data::ReceiveBytes(expected) => Transfer::into(Incoming::Bytes {
                bytes: Vec::new(),
                expected,
            }),
        };
        let before = self.writer.before_data(PduType::CapsuleCmd, 0, entry, length);
        self.segments.push_back(Segment::Bytes(before));
        match data {
            Data::Send(slice) if in_capsule => self.send_payload(slice, memory),
            Data::SendBytes(bytes) if in_capsule => self.send_bytes(bytes),
            _ => {}
        }
    }

    /// The owner has given up a command: what comes for it is dropped, and its buffer is left alone if data was to come
    /// into it. (Data to the controller is still taken from the buffer.)
    pub(crate) fn discard(&mut self, cid: u16) {
        if let Transfer::In { into, .. } = &mut self.transfers[usize::from(cid)] {
            let expected = into.expected();
            *into = Incoming::Nowhere { expected };
        }
    }

    /// Bytes came in.
    ///
    /// # Errors
    /// The connection must end. What has arrived before stays to be polled.
    pub(crate) fn received(&mut self, mut bytes: &[u8], memory: &mut dyn Memory) -> Result<(), Fault> {
        loop {
            let part = self.reader.read(&mut bytes).map_err(|fatal| Fault::Protocol {
                what: "a PDU that does not hold together",
                fatal,
            })?;
            match part {
                None => return Ok(()),
                Some(Part::Header(header)) => self.handle_header(&header, memory)?,
                Some(Part::Data(data)) => self.handle_data(data, memory),
                Some(Part::End { intact }) => self.handle_end(intact)?,
            }
        }
    }

    /// What came in, in order.
    pub(crate) fn poll_arrival(&mut self) -> Option<Arrival> {
        self.arrivals.pop_front()
    }

    /// What is to be sent, in order.
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
            if let Segment::Payload(slice) = segment {
                memory.release(slice.buffer);
            }
        }
    }

    fn send_payload(&mut self, slice: BufferSlice, memory: &mut dyn Memory) {
        memory.retain(slice.buffer);
        self.segments.push_back(Segment::Payload(slice));
        if let Some(digest) = self.writer.data_digest(memory.bytes(slice)) {
            self.segments.push_back(Segment::Bytes(digest[..].into()));
        }
    }

    fn send_bytes(&mut self, mut bytes: Vec<u8>) {
        if let Some(digest) = self.writer.data_digest(&bytes) {
            bytes.extend_from_slice(&digest);
        }
        self.segments.push_back(Segment::Bytes(bytes.into()));
    }

    fn handle_header(&mut self, header: &Header, memory: &mut dyn Memory) -> Result<(), Fault> {
        match (self.phase, header.kind) {
            (_, PduType::C2hTermReq) => self.handle_terminate(header),
            (Phase::AwaitingIcResp, PduType::IcResp) => self.handle_icresp(header),
            (Phase::Initialized, PduType::CapsuleResp) => self.handle_response(header),
            (Phase::Initialized, PduType::C2hData) => self.handle_c2h_data(header),
            (Phase::Initialized, PduType::R2t) => self.handle_r2t(header, memory),
            _ => Err(sequence(header, "a PDU that may not come now")),
        }
    }

    fn handle_terminate(&mut self, header: &Header) -> Result<(), Fault> {
        let (status, information) = (u16_at(header, 8), u32_at(header, 10));
        self.receiving = Receiving::Terminate { status, information };
        match header.data_length {
            0 => Err(Fault::Terminated { status, information }),
            _ => Ok(()),
        }
    }

    fn handle_icresp(&mut self, header: &Header) -> Result<(), Fault> {
        let bytes = header.bytes();
        let (pfv, cpda, dgst) = (u16_at(header, 8), bytes[10], bytes[11]);
        let max_h2c_data = u32_at(header, 12);
        let agreed = Digests {
            header: dgst & 1 != 0,
            data: dgst & 2 != 0,
        };
        let unsupported = |what, offset| {
            Err(Fault::Protocol {
                what,
                fatal: header.fatal(FatalErrorStatus::UnsupportedParameter, offset),
            })
        };
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

    fn handle_response(&mut self, header: &Header) -> Result<(), Fault> {
        let entry: [u8; 16] = header.bytes()[8..24].try_into().expect("sixteen bytes");
        let cid = u16::from_le_bytes([entry[12], entry[13]]);
        let succeeded = u16::from_le_bytes([entry[14], entry[15]]) >> 1 == 0;
        self.end(cid, entry, succeeded, header)
    }

    /// A command has ended: hands it up.
    fn end(&mut self, cid: u16, entry: [u8; 16], succeeded: bool, header: &Header) -> Result<(), Fault> {
        let transfer = self
            .transfers
            .get_mut(usize::from(cid))
            .ok_or_else(|| field(header, "a response to no command", 20))?;
        let bytes = match core::mem::replace(transfer, Transfer::Vacant) {
            Transfer::Vacant => return Err(field(header, "a response to no command", 20)),
            Transfer::None => Vec::new(),
            Transfer::Out { from, sent } if succeeded && sent < from.length() => {
                return Err(sequence(header, "success before all data was asked for"));
            }
            Transfer::In {
                into: Incoming::Buffer(slice),
                received,
            } if succeeded && received < slice.length => {
                return Err(sequence(header, "success before all data came"));
            }
            Transfer::In {
                into: Incoming::Bytes { bytes, .. },
                ..
            } => bytes,
            Transfer::Out { .. } | Transfer::In { .. } => Vec::new(),
        };
        self.arrivals.push_back(Arrival::Response { entry, bytes });
        Ok(())
    }

    fn handle_c2h_data(&mut self, header: &Header) -> Result<(), Fault> {
        let (cid, offset, length) = (u16_at(header, 8), u32_at(header, 12), u32_at(header, 16));
        if length != header.data_length || length == 0 {
            return Err(field(header, "a data length that is not the PDU's", DATAL_OFFSET));
        }
        let Some(Transfer::In { into, received }) = self.transfers.get_mut(usize::from(cid)) else {
            return Err(field(header, "data for no command", CCCID_OFFSET));
        };
        if offset != *received {
            return Err(range(header, "data out of order", DATAO_OFFSET));
        }
        let end = offset.checked_add(length).filter(|end| *end <= into.expected());
        *received = end.ok_or_else(|| range(header, "more data than was asked for", DATAL_OFFSET))?;
        let ends = header.flags & FLAG_SUCCESS != 0;
        if ends && header.flags & FLAG_LAST == 0 {
            return Err(field(header, "success in a data PDU that is not the last", 1));
        }
        if ends && *received < into.expected() && matches!(into, Incoming::Buffer(_)) {
            return Err(sequence(header, "success before all data came"));
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
        let length = u32::try_from(data.len()).expect("inside a PDU of 32 bits");
        let offset = core::mem::replace(at, *at + length);
        match &mut self.transfers[usize::from(*cid)] {
            Transfer::In { into, .. } => match into {
                Incoming::Buffer(slice) => memory.bytes_mut(slice.part(offset, length)).copy_from_slice(data),
                Incoming::Bytes { bytes, .. } => bytes.extend_from_slice(data),
                Incoming::Nowhere { .. } => {}
            },
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
        let transfer = core::mem::replace(&mut self.transfers[usize::from(cid)], Transfer::Vacant);
        let bytes = match transfer {
            Transfer::In {
                into: Incoming::Bytes { bytes, .. },
                ..
            } => bytes,
            _ => Vec::new(),
        };
        self.arrivals.push_back(Arrival::Response { entry, bytes });
    }

    fn handle_r2t(&mut self, header: &Header, memory: &mut dyn Memory) -> Result<(), Fault> {
        let (cid, tag) = (u16_at(header, 8), u16_at(header, 10));
        let (offset, length) = (u32_at(header, 12), u32_at(header, 16));
        let transfer = self.transfers.get_mut(usize::from(cid));
        let Some(Transfer::Out { from, sent }) = transfer else {
            return Err(field(
                header,
                "R2T for no command with data to send",
                CCCID_OFFSET,
            ));
        };
        let total = from.length();
        if offset != *sent || length == 0 {
            return Err(range(header, "R2T out of order", DATAO_OFFSET));
        }
        let end = offset.checked_add(length).filter(|end| *end <= total);
        *sent = end.ok_or_else(|| range(header, "R2T for more data than there is", DATAL_OFFSET))?;
        let pieces = match from {
            Outgoing::Buffer(slice) => Outgoing::Buffer(slice.part(offset, length)),
            Outgoing::Bytes(bytes) => {
                Outgoing::Bytes(bytes[to_usize(offset)..to_usize(offset + length)].to_vec())
            }
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
            self.segments.push_back(Segment::Bytes(before));
            match data {
                Outgoing::Buffer(slice) => self.send_payload(slice.part(at, piece), memory),
                Outgoing::Bytes(bytes) => self.send_bytes(bytes[to_usize(at)..to_usize(at + piece)].to_vec()),
            }
            at += piece;
        }
    }
}

impl Outgoing {
    fn length(&self) -> u32 {
        match self {
            Outgoing::Buffer(slice) => slice.length,
            Outgoing::Bytes(bytes) => u32::try_from(bytes.len()).expect("we make short data"),
        }
    }
}

impl Transfer {
    fn out(from: Outgoing) -> Transfer {
        Transfer::Out { from, sent: 0 }
    }

    fn into(into: Incoming) -> Transfer {
        Transfer::In { into, received: 0 }
    }
}

fn to_usize(bytes: u32) -> usize {
    usize::try_from(bytes).expect("a 32-bit length is addressable")
}

fn u16_at(header: &Header, offset: usize) -> u16 {
    let bytes = header.bytes()[offset..offset + 2].try_into();
    u16::from_le_bytes(bytes.expect("two bytes"))
}

fn u32_at(header: &Header, offset: usize) -> u32 {
    let bytes = header.bytes()[offset..offset + 4].try_into();
    u32::from_le_bytes(bytes.expect("four bytes"))
}

fn fault(header: &Header, what: &'static str, status: FatalErrorStatus, information: u32) -> Fault {
    Fault::Protocol {
        what,
        fatal: header.fatal(status, information),
    }
}

fn field(header: &Header, what: &'static str, offset: u32) -> Fault {
    fault(header, what, FatalErrorStatus::InvalidPduHeaderField, offset)
}

fn range(header: &Header, what: &'static str, offset: u32) -> Fault {
    fault(header, what, FatalErrorStatus::DataTransferOutOfRange, offset)
}

fn sequence(header: &Header, what: &'static str) -> Fault {
    fault(header, what, FatalErrorStatus::PduSequenceError, 0)
}

#[cfg(test)]
#[path = "tests/host.rs"]
mod tests;
