//! A host's end of one connection, without a will of its own: it knows what it has sent and what it was answered.

use fabric::tcp::framing::{
    Digests, End, FLAG_SUCCESS, FrameLimits, FrameReader, FrameWriter, Header, Part, PduType,
};
use nvme::SubmissionQueueEntry;
use nvme::command::AdminOpcode;
use std::collections::BTreeMap;

/// A target that asks for data.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// CCCID.
    pub cid: u16,
    /// TTAG.
    pub tag: u16,
    /// R2TO.
    pub offset: u32,
    /// R2TL.
    pub length: u32,
}

/// Commands under way with one identifier.
#[derive(Clone, Copy, Debug, Default)]
struct Underway {
    count: u32,
    /// One of them is an Asynchronous Event Request, which may wait for ever.
    waits: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Peer {
    reader: FrameReader,
    writer: FrameWriter,
    underway: BTreeMap<u16, Underway>,
    /// What it was asked for and has not sent.
    pub asked: Vec<Asked>,
    /// What was sent and is not received.
    pub unread: Vec<u8>,
    /// Dword 0 of the last completion: of Connect, the controller's identifier.
    pub result: u32,
    /// It has sent what nobody should: what it is answered means nothing.
    pub wild: bool,
    next_cid: u16,
}

impl Default for Peer {
    fn default() -> Peer {
        Peer::new()
    }
}

impl Peer {
    /// Nothing said yet.
    pub fn new() -> Peer {
        let limits = FrameLimits {
            capsule_data_bytes: 0,
            transfer_data_bytes: 1 << 20,
        };
        Peer {
            reader: FrameReader::new(End::Host, limits),
            writer: FrameWriter::default(),
            underway: BTreeMap::new(),
            asked: Vec::new(),
            unread: Vec::new(),
            result: 0,
            wild: false,
            next_cid: 0,
        }
    }

    /// Asks to initialise.
    pub fn initialize(&mut self, digests: u8) {
        let mut specific = [0; 120];
        specific[3] = digests & 3;
        let request = FrameWriter::default().before_data(PduType::IcReq, 0, &specific, 0);
        self.unread.extend_from_slice(&request);
    }

    /// A command identifier that is not in use.
    pub fn cid(&mut self) -> u16 {
        self.next_cid = self.next_cid.wrapping_add(1);
        self.next_cid
    }

    /// Some identifier that is in use, if any.
    pub fn used_cid(&self) -> Option<u16> {
        self.underway.keys().next().copied()
    }

    /// Sends a command.
    pub fn send(&mut self, entry: &SubmissionQueueEntry, data: &[u8]) {
        let underway = self.underway.entry(entry.cid.get()).or_default();
        underway.count += 1;
        underway.waits |= entry.opcode == AdminOpcode::AsynchronousEventRequest.code();
        self.put(PduType::CapsuleCmd, 0, entry.as_bytes(), data);
    }

    /// Sends data that was asked for, or not.
    pub fn send_data(&mut self, asked: Asked, last: bool, data: &[u8]) {
        let mut specific = [0; 16];
        specific[0..2].copy_from_slice(&asked.cid.to_le_bytes());
        specific[2..4].copy_from_slice(&asked.tag.to_le_bytes());
        specific[4..8].copy_from_slice(&asked.offset.to_le_bytes());
        specific[8..12].copy_from_slice(&asked.length.to_le_bytes());
        self.put(PduType::H2cData, if last { 4 } else { 0 }, &specific, data);
    }

    /// Sends all that it was asked for with the oldest R2T, in pieces that the target takes.
    pub fn pay(&mut self, fill: u8) {
        if self.asked.is_empty() {
            return;
        }
        let asked = self.asked.remove(0);
        let mut sent = 0;
        while sent < asked.length {
            let length = (asked.length - sent).min(16 << 10);
            let offset = asked.offset + sent;
            sent += length;
            let data = vec![fill; length as usize];
            self.send_data(
                Asked {
                    offset,
                    length,
                    ..asked
                },
                sent == asked.length,
                &data,
            );
        }
    }

    fn put(&mut self, kind: PduType, flags: u8, specific: &[u8], data: &[u8]) {
        let before = self.writer.before_data(kind, flags, specific, data.len() as u32);
        self.unread.extend_from_slice(&before);
        self.unread.extend(data);
        if !data.is_empty() {
            self.unread
                .extend(self.writer.data_digest(data).into_iter().flatten());
        }
    }

    /// What the target says.
    ///
    /// # Panics
    /// If it does not speak well, or answers what was not asked.
    pub fn hear(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(part) = self.reader.read(&mut rest).expect("the target speaks well") {
            match part {
                Part::Header(header) => self.hear_header(&header),
                Part::Data(_) => {}
                Part::End { intact } => assert!(intact, "the target's data digest"),
            }
        }
    }

    fn hear_header(&mut self, header: &Header) {
        let bytes = header.bytes();
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        match header.kind {
            PduType::IcResp => {
                let digests = Digests {
                    header: bytes[11] & 1 != 0,
                    data: bytes[11] & 2 != 0,
                };
                self.reader.agree_digests(digests);
                self.writer.digests = digests;
            }
            PduType::CapsuleResp => {
                self.result = word(8);
                self.answered(half(20));
            }
            PduType::C2hData => {
                let (cid, length) = (half(8), word(16));
                assert_eq!(length, header.data_length);
                assert!(
                    self.wild || self.underway.contains_key(&cid),
                    "data for no command"
                );
                if header.flags & FLAG_SUCCESS != 0 {
                    self.answered(cid);
                }
            }
            PduType::R2t => {
                let asked = Asked {
                    cid: half(8),
                    tag: half(10),
                    offset: word(12),
                    length: word(16),
                };
                assert!(
                    self.wild || self.underway.contains_key(&asked.cid),
                    "an R2T for no command"
                );
                self.asked.push(asked);
            }
            PduType::C2hTermReq => self.wild = true,
            other => panic!("a target does not send {other:?}"),
        }
    }

    fn answered(&mut self, cid: u16) {
        let Some(underway) = self.underway.get_mut(&cid) else {
            assert!(self.wild, "command {cid} is not under way, and is answered");
            return;
        };
        underway.count -= 1;
        if underway.count == 0 {
            self.underway.remove(&cid);
        }
    }

    /// Whether every command that must be answered by now is.
    pub fn is_answered(&self) -> bool {
        self.wild || self.underway.values().all(|underway| underway.waits)
    }
}
