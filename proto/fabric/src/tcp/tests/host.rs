//! The host's session against hand-made bytes of a controller.
//!
//! Deliberate bugs that these tests catch: an R2T answered past MAXH2CDATA; LAST on every piece; data put at offset 0;
//! success accepted with data missing, in or out; a digest offered but not sent; a data digest not looked at; the SUCCESS
//! flag ignored; a second answer to a command accepted; a given-up read still filling its buffer; data before a header at
//! a wrong alignment; a digest accepted that was not offered; landed bytes not counted, not digested, offered for what was given
//! up; a command given up in the middle of its data counted wrong.

use super::*;
use crate::host::tests::memory::TestMemory;
use crate::tcp::framing::{FLAG_DATA_DIGEST, FLAG_HEADER_DIGEST, Part};
use nvme::SubmissionQueueEntry;
use proptest::prelude::*;

const NONE: Digests = Digests {
    header: false,
    data: false,
};
const BOTH: Digests = Digests {
    header: true,
    data: true,
};

impl Session {
    /// Sends any 64 bytes as a command.
    fn send_entry(
        &mut self,
        cid: u16,
        entry: &[u8; 64],
        data: Data,
        in_capsule: bool,
        memory: &mut TestMemory,
    ) {
        let entry = SubmissionQueueEntry::parse(entry).unwrap();
        let command = Addressed {
            entry,
            data,
            in_capsule,
        };
        self.send(cid, command, memory);
    }
}

/// A controller's ICResp.
fn icresp(pfv: u16, cpda: u8, dgst: u8, max_h2c_data: u32) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes[..8].copy_from_slice(&[1, 0, 128, 0, 128, 0, 0, 0]);
    bytes[8..10].copy_from_slice(&pfv.to_le_bytes());
    bytes[10] = cpda;
    bytes[11] = dgst;
    bytes[12..16].copy_from_slice(&max_h2c_data.to_le_bytes());
    bytes
}

/// A controller that writes PDUs.
struct Controller {
    writer: FrameWriter,
}

impl Controller {
    fn new(digests: Digests) -> Controller {
        let writer = FrameWriter {
            digests,
            data_alignment_bytes: 4,
        };
        Controller { writer }
    }

    fn response(&self, cid: u16, status: u16) -> Vec<u8> {
        let mut entry = [0; 16];
        entry[0] = 0x5A;
        entry[12..14].copy_from_slice(&cid.to_le_bytes());
        entry[14..16].copy_from_slice(&(status << 1).to_le_bytes());
        self.writer
            .before_data(PduType::CapsuleResp, 0, &entry, 0)
            .to_vec()
    }

    fn specific(fields: [u16; 2], words: [u32; 2]) -> [u8; 16] {
        let mut specific = [0; 16];
        specific[..2].copy_from_slice(&fields[0].to_le_bytes());
        specific[2..4].copy_from_slice(&fields[1].to_le_bytes());
        specific[4..8].copy_from_slice(&words[0].to_le_bytes());
        specific[8..12].copy_from_slice(&words[1].to_le_bytes());
        specific
    }

    fn data(&self, cid: u16, offset: u32, data: &[u8], flags: u8) -> Vec<u8> {
        let length = data.len() as u32;
        let specific = Controller::specific([cid, 0], [offset, length]);
        let mut bytes = self
            .writer
            .before_data(PduType::C2hData, flags, &specific, length)
            .to_vec();
        bytes.extend_from_slice(data);
        bytes.extend(self.writer.data_digest(data).into_iter().flatten());
        bytes
    }

    fn r2t(&self, cid: u16, tag: u16, offset: u32, length: u32) -> Vec<u8> {
        let specific = Controller::specific([cid, tag], [offset, length]);
        self.writer.before_data(PduType::R2t, 0, &specific, 0).to_vec()
    }
}

/// What the session sends, payloads put in, their references given back.
fn sent(session: &mut Session, memory: &mut TestMemory) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(segment) = session.poll_segment() {
        bytes.extend(segment.into_bytes(memory));
    }
    bytes
}

/// A session that is initialised, 4096-byte MAXH2CDATA.
fn initialized(digests: Digests, cpda: u8, memory: &mut TestMemory) -> (Session, Controller) {
    let mut session = Session::new(digests, 8);
    let dgst = u8::from(digests.header) | u8::from(digests.data) << 1;
    session.received(&icresp(0, cpda, dgst, 4096), memory).unwrap();
    assert_eq!(session.poll_arrival(), Some(Arrival::Initialized));
    sent(&mut session, memory);
    (session, Controller::new(digests))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 256) as u8).collect()
}

#[test]
fn icreq_is_as_the_specification_draws_it() {
    let mut memory = TestMemory::default();
    let mut session = Session::new(BOTH, 1);
    let bytes = sent(&mut session, &mut memory);
    let mut expected = vec![0; 128];
    expected[2] = 128; // HLEN
    expected[4] = 128; // PLEN
    expected[11] = 0b11; // DGST
    assert_eq!(bytes, expected);
}

#[test]
fn icresp_is_refused_field_by_field() {
    let rows = [
        (icresp(0, 0, 0, 4096), None),
        (icresp(0, 31, 0, 1 << 20), None),
        (icresp(1, 0, 0, 4096), Some(8)),
        (icresp(0, 32, 0, 4096), Some(10)),
        (icresp(0, 0, 0b01, 4096), Some(11)),
        (icresp(0, 0, 0b10, 4096), Some(11)),
        (icresp(0, 0, 0, 4095), Some(12)),
    ];
    for (bytes, refused_at) in rows {
        let mut memory = TestMemory::default();
        let result = Session::new(NONE, 1).received(&bytes, &mut memory);
        let offset = match result {
            Ok(()) => None,
            Err(Fault::Protocol { fatal, .. }) => {
                assert_eq!(fatal.status, FatalErrorStatus::UnsupportedParameter);
                Some(fatal.information)
            }
            Err(other) => panic!("{other}"),
        };
        assert_eq!(offset, refused_at);
    }
}

#[test]
fn a_write_goes_in_the_capsule_or_as_asked_for() {
    for (digests, cpda) in [(NONE, 0), (BOTH, 0), (NONE, 31), (BOTH, 7)] {
        let mut memory = TestMemory::default();
        let (mut session, controller) = initialized(digests, cpda, &mut memory);
        let data = pattern(12288);
        let slice = memory.filled(&data);
        session.send_entry(3, &[9; 64], Data::Send(slice.part(0, 4096)), true, &mut memory);
        let capsule = sent(&mut session, &mut memory);
        let alignment = (usize::from(cpda) + 1) * 4;
        let digest_bytes: usize = if digests.header { 4 } else { 0 };
        let offset = (72 + digest_bytes).next_multiple_of(alignment);
        assert_eq!(
            capsule[..4],
            [4, if digests == BOTH { 3 } else { 0 }, 72, offset as u8]
        );
        assert_eq!(capsule[8..72], [9; 64]);
        assert_eq!(capsule[offset..offset + 4096], data[..4096]);
        assert_eq!(capsule.len(), offset + 4096 + if digests.data { 4 } else { 0 });

        session.send_entry(4, &[9; 64], Data::Send(slice), false, &mut memory);
        let bare = sent(&mut session, &mut memory);
        assert_eq!(bare.len(), 72 + if digests.header { 4 } else { 0 });
        session
            .received(&controller.r2t(4, 77, 0, 9000), &mut memory)
            .unwrap();
        session
            .received(&controller.r2t(4, 78, 9000, 3288), &mut memory)
            .unwrap();
        let pieces = h2c_pieces(&sent(&mut session, &mut memory), digests, alignment);
        let expected = [
            (77, 0, 4096, false),
            (77, 4096, 4096, false),
            (77, 8192, 808, true),
            (78, 9000, 3288, true),
        ];
        let shapes: Vec<_> = pieces
            .iter()
            .map(|(tag, at, bytes, last)| (*tag, *at, bytes.len(), *last))
            .collect();
        assert_eq!(shapes, expected);
        assert_eq!(
            pieces
                .into_iter()
                .flat_map(|(_, _, bytes, _)| bytes)
                .collect::<Vec<_>>(),
            data
        );
        session.received(&controller.response(4, 0), &mut memory).unwrap();
        assert!(matches!(session.poll_arrival(), Some(Arrival::Response { entry, .. }) if entry[12] == 4));
        assert_eq!(memory.holders(slice.buffer), 1);
    }
}

/// The H2CData PDUs in a stream: tag, offset, data, whether the last.
fn h2c_pieces(mut bytes: &[u8], digests: Digests, alignment: usize) -> Vec<(u16, u32, Vec<u8>, bool)> {
    let limits = FrameLimits {
        capsule_data_bytes: 0,
        transfer_data_bytes: 4096,
    };
    let mut reader = FrameReader::new(End::Controller, limits);
    reader.agree_digests(digests);
    let mut pieces: Vec<(u16, u32, Vec<u8>, bool)> = Vec::new();
    while let Some(part) = reader.read(&mut bytes).expect("our own PDUs hold together") {
        match part {
            Part::Header(header) => {
                assert_eq!(header.kind, PduType::H2cData);
                assert_eq!(usize::from(header.bytes()[3]) % alignment, 0, "PDO");
                let specific = Specific(*header.bytes()[8..].first_chunk().unwrap());
                assert_eq!(specific.half(0), 4, "CCCID");
                assert_eq!(specific.word(8), header.data_length, "DATAL");
                let last = header.flags & FLAG_LAST != 0;
                pieces.push((specific.half(2), specific.word(4), Vec::new(), last));
            }
            Part::Data(data) => pieces.last_mut().unwrap().2.extend_from_slice(data),
            Part::End { intact } => assert!(intact),
        }
    }
    pieces
}

#[test]
fn a_read_lands_in_its_buffer_however_it_is_chopped() {
    for digests in [NONE, BOTH] {
        for chunk in [1, 5, 23, 24, 25, 500, 1 << 20] {
            for by_flag in [false, true] {
                let mut memory = TestMemory::default();
                let (mut session, controller) = initialized(digests, 0, &mut memory);
                let slice = memory.allocate(8192).unwrap();
                session.send_entry(
                    1,
                    &[0; 64],
                    Data::Receive(slice.part(1024, 4096)),
                    false,
                    &mut memory,
                );
                let data = pattern(4096);
                let flags = if by_flag {
                    FLAG_LAST | FLAG_SUCCESS
                } else {
                    FLAG_LAST
                };
                let mut bytes = controller.data(1, 0, &data[..1000], 0);
                bytes.extend(controller.data(1, 1000, &data[1000..], flags));
                if !by_flag {
                    bytes.extend(controller.response(1, 0));
                }
                for piece in bytes.chunks(chunk) {
                    session.received(piece, &mut memory).unwrap();
                }
                assert!(
                    matches!(session.poll_arrival(), Some(Arrival::Response { entry, .. })
                    if entry[12] == 1 && entry[14..] == [0, 0])
                );
                assert_eq!(session.poll_arrival(), None);
                assert_eq!(memory.bytes(slice.part(1024, 4096)), data);
                assert_eq!(memory.bytes(slice.part(0, 1024)), [0xEE; 1024]);
                assert_eq!(memory.bytes(slice.part(5120, 3072)), [0xEE; 3072]);
            }
        }
    }
}

/// Puts bytes where the session says they belong, as long as it does, and brings the others.
fn land(session: &mut Session, mut bytes: &[u8], most: usize, memory: &mut TestMemory) -> Result<u32, Fault> {
    let mut landed = 0;
    while !bytes.is_empty() {
        let place = session.landing();
        let room = place.map_or(bytes.len(), |place| place.length as usize);
        let (piece, rest) = bytes.split_at(room.min(most).min(bytes.len()));
        match place {
            Some(place) => {
                let length = piece.len() as u32;
                memory.bytes_mut(place.part(0, length)).copy_from_slice(piece);
                session.landed(length, memory)?;
                landed += length;
            }
            None => session.received(piece, memory)?,
        }
        bytes = rest;
    }
    Ok(landed)
}

#[test]
fn what_lands_is_as_if_it_had_been_brought() {
    for digests in [NONE, BOTH] {
        for most in [500, 10_000, 1 << 20] {
            for by_flag in [false, true] {
                let mut memory = TestMemory::default();
                let (mut session, controller) = initialized(digests, 0, &mut memory);
                let slice = memory.allocate(40_000).unwrap();
                let into = slice.part(1000, 38_000);
                session.send_entry(1, &[0; 64], Data::Receive(into), false, &mut memory);
                let data = pattern(38_000);
                let flags = if by_flag {
                    FLAG_LAST | FLAG_SUCCESS
                } else {
                    FLAG_LAST
                };
                // One that is too short to land, one that ends too short, one that need not.
                let mut bytes = controller.data(1, 0, &data[..8191], 0);
                bytes.extend(controller.data(1, 8191, &data[8191..20_000], 0));
                bytes.extend(controller.data(1, 20_000, &data[20_000..], flags));
                if !by_flag {
                    bytes.extend(controller.response(1, 0));
                }
                let landed = land(&mut session, &bytes, most, &mut memory).unwrap();
                // Headers and shorter data come in the same piece here, unless pieces are short.
                assert!(landed > 0 || most > 8191, "{most}: {landed}");
                assert!(
                    matches!(session.poll_arrival(), Some(Arrival::Response { entry, .. }) if entry[12] == 1)
                );
                assert_eq!(memory.bytes(into), data);
                assert_eq!(memory.bytes(slice.part(0, 1000)), [0xEE; 1000]);
                assert_eq!(memory.bytes(slice.part(39_000, 1000)), [0xEE; 1000]);
                assert_eq!(session.landing(), None);
            }
        }
    }
}

#[test]
fn a_landing_that_fits_exactly_ends_the_data() {
    let mut memory = TestMemory::default();
    let (mut session, controller) = initialized(NONE, 0, &mut memory);
    let slice = memory.allocate(8192).unwrap();
    session.send_entry(1, &[0; 64], Data::Receive(slice), false, &mut memory);
    let bytes = controller.data(1, 0, &pattern(8192), FLAG_LAST | FLAG_SUCCESS);
    assert_eq!(session.landing(), None, "no data is on its way");
    session.received(&bytes[..24], &mut memory).unwrap();
    assert_eq!(session.landing(), Some(slice));
    memory.bytes_mut(slice).copy_from_slice(&pattern(8192));
    session.landed(8192, &mut memory).unwrap();
    assert!(matches!(session.poll_arrival(), Some(Arrival::Response { .. })));
}

#[test]
fn landed_data_is_held_against_its_digest() {
    for damaged in [false, true] {
        let mut memory = TestMemory::default();
        let (mut session, controller) = initialized(BOTH, 0, &mut memory);
        let slice = memory.allocate(16_384).unwrap();
        session.send_entry(1, &[0; 64], Data::Receive(slice), false, &mut memory);
        let mut bytes = controller.data(1, 0, &pattern(16_384), FLAG_LAST | FLAG_SUCCESS);
        bytes[5000] ^= u8::from(damaged);
        session.received(&bytes[..28], &mut memory).unwrap();
        let landed = land(&mut session, &bytes[28..], 1 << 20, &mut memory);
        match damaged {
            false => assert_eq!(landed, Ok(16_384)),
            true => assert_eq!(landed, Err(Fault::DataDigest)),
        }
        assert_eq!(session.poll_arrival().is_some(), !damaged);
    }
}

#[test]
fn what_was_given_up_does_not_land() {
    let mut memory = TestMemory::default();
    let (mut session, controller) = initialized(BOTH, 0, &mut memory);
    let slice = memory.allocate(16_384).unwrap();
    session.send_entry(2, &[0; 64], Data::Receive(slice), false, &mut memory);
    session.send_entry(3, &[0; 64], Data::ReceiveBytes(16_384), false, &mut memory);
    let bytes = controller.data(2, 0, &pattern(16_384), FLAG_LAST | FLAG_SUCCESS);
    session.received(&bytes[..28], &mut memory).unwrap();
    assert_eq!(session.landing(), Some(slice));
    session.discard(2);
    assert_eq!(session.landing(), None);
    session.received(&bytes[28..], &mut memory).unwrap();
    assert!(matches!(session.poll_arrival(), Some(Arrival::Response { .. })));
    assert_eq!(memory.bytes(slice), [0xEE; 16_384]);
    // What is handed up as bytes has no buffer to land in.
    session
        .received(&controller.data(3, 0, &[1; 16_384], 0)[..28], &mut memory)
        .unwrap();
    assert_eq!(session.landing(), None);
}

#[test]
fn a_report_that_is_given_up_in_the_middle_of_its_data_ends() {
    let mut memory = TestMemory::default();
    let (mut session, controller) = initialized(NONE, 0, &mut memory);
    session.send_entry(1, &[0; 64], Data::ReceiveBytes(4096), false, &mut memory);
    let first = controller.data(1, 0, &[7; 100], 0);
    session.received(&first[..50], &mut memory).unwrap();
    session.discard(1);
    session.received(&first[50..], &mut memory).unwrap();
    session
        .received(&controller.data(1, 100, &[7; 100], FLAG_LAST), &mut memory)
        .unwrap();
    session.received(&controller.response(1, 0), &mut memory).unwrap();
    let Some(Arrival::Response { bytes, .. }) = session.poll_arrival() else {
        panic!("no response");
    };
    assert!(bytes.is_empty());
}

#[test]
fn short_data_of_an_admin_command_is_handed_up_as_it_came() {
    let mut memory = TestMemory::default();
    let (mut session, controller) = initialized(NONE, 0, &mut memory);
    session.send_entry(0, &[0; 64], Data::ReceiveBytes(4096), false, &mut memory);
    session
        .received(&controller.data(0, 0, &[7; 100], FLAG_LAST), &mut memory)
        .unwrap();
    session.received(&controller.response(0, 0), &mut memory).unwrap();
    let Some(Arrival::Response { bytes, .. }) = session.poll_arrival() else {
        panic!("no response");
    };
    assert_eq!(bytes, [7; 100]);
}

#[test]
fn a_read_that_was_given_up_leaves_its_buffer_alone() {
    let mut memory = TestMemory::default();
    let (mut session, controller) = initialized(NONE, 0, &mut memory);
    let slice = memory.allocate(4096).unwrap();
    session.send_entry(2, &[0; 64], Data::Receive(slice), false, &mut memory);
    let bytes = controller.data(2, 0, &[7; 4096], FLAG_LAST);
    session.received(&bytes[..124], &mut memory).unwrap();
    session.discard(2);
    session.received(&bytes[124..], &mut memory).unwrap();
    session.received(&controller.response(2, 0), &mut memory).unwrap();
    assert!(matches!(session.poll_arrival(), Some(Arrival::Response { .. })));
    assert_eq!(memory.bytes(slice.part(0, 100)), [7; 100]);
    assert_eq!(memory.bytes(slice.part(100, 3996)), [0xEE; 3996]);
}

/// Every way a controller can break the protocol while a read (1), a write (2) and an admin command (3) are in flight.
#[test]
fn a_controller_that_breaks_the_protocol_is_told_how() {
    use FatalErrorStatus::*;
    let none = Controller::new(NONE);
    let mut wrong_length = none.data(1, 0, &[0; 64], 0);
    wrong_length[16] = 63;
    let mut huge = none.data(1, 0, &[0; 4096], 0);
    huge.truncate(100);
    let long_read = none.data(1, 0, &[0; 4100], 0);
    let rows: Vec<(&str, Vec<u8>, FatalErrorStatus)> = vec![
        ("a second ICResp", icresp(0, 0, 0, 4096), PduSequenceError),
        (
            "a response to no command",
            none.response(5, 0),
            InvalidPduHeaderField,
        ),
        (
            "a response beyond the queue",
            none.response(900, 0),
            InvalidPduHeaderField,
        ),
        ("success without the data", none.response(1, 0), PduSequenceError),
        (
            "success of a write unasked for",
            none.response(2, 0),
            PduSequenceError,
        ),
        (
            "data for no command",
            none.data(6, 0, &[0; 64], 0),
            InvalidPduHeaderField,
        ),
        (
            "data for a write",
            none.data(2, 0, &[0; 64], 0),
            InvalidPduHeaderField,
        ),
        (
            "data with a gap",
            none.data(1, 64, &[0; 64], 0),
            DataTransferOutOfRange,
        ),
        ("more data than asked for", long_read, DataTransferOutOfRange),
        (
            "a length that is not the PDU's",
            wrong_length,
            InvalidPduHeaderField,
        ),
        (
            "success before the end",
            none.data(1, 0, &[0; 64], FLAG_SUCCESS),
            InvalidPduHeaderField,
        ),
        (
            "success too early",
            none.data(1, 0, &[0; 64], FLAG_SUCCESS | FLAG_LAST),
            PduSequenceError,
        ),
        ("R2T for a read", none.r2t(1, 0, 0, 64), InvalidPduHeaderField),
        ("R2T with a gap", none.r2t(2, 0, 64, 64), DataTransferOutOfRange),
        ("R2T for nothing", none.r2t(2, 0, 0, 0), DataTransferOutOfRange),
        (
            "R2T past the end",
            none.r2t(2, 0, 0, 8196),
            DataTransferOutOfRange,
        ),
        (
            "R2T past 32 bits",
            none.r2t(2, 0, 0, u32::MAX),
            DataTransferOutOfRange,
        ),
        (
            "a host's PDU",
            vec![4, 0, 72, 0, 72, 0, 0, 0],
            InvalidPduHeaderField,
        ),
        (
            "a PDU of no type",
            vec![8, 0, 24, 0, 24, 0, 0, 0],
            InvalidPduHeaderField,
        ),
        (
            "a header too short",
            vec![5, 0, 23, 0, 24, 0, 0, 0],
            InvalidPduHeaderField,
        ),
    ];
    for (what, bytes, expected) in rows {
        let mut memory = TestMemory::default();
        let (mut session, _) = initialized(NONE, 0, &mut memory);
        let slice = memory.allocate(8192).unwrap();
        session.send_entry(
            1,
            &[0; 64],
            Data::Receive(slice.part(0, 4096)),
            false,
            &mut memory,
        );
        session.send_entry(2, &[0; 64], Data::Send(slice), false, &mut memory);
        session.send_entry(3, &[0; 64], Data::ReceiveBytes(4096), false, &mut memory);
        sent(&mut session, &mut memory);
        let fault = session.received(&bytes, &mut memory).expect_err(what);
        let Fault::Protocol { fatal, .. } = &fault else {
            panic!("{what}: {fault}");
        };
        assert_eq!(fatal.status, expected, "{what}");
        let Some(Segment::Bytes(request)) = session.terminate(&fault) else {
            panic!("{what}: no terminate request");
        };
        assert_eq!(request[0], 2, "H2CTermReq");
        assert_eq!(
            u16::from_le_bytes([request[8], request[9]]),
            expected as u16,
            "{what}"
        );
        assert_eq!(session.poll_arrival(), None, "{what}");
    }
    // The same data, cut off, is no fault yet.
    let mut memory = TestMemory::default();
    let (mut session, _) = initialized(NONE, 0, &mut memory);
    let slice = memory.allocate(4096).unwrap();
    session.send_entry(1, &[0; 64], Data::Receive(slice), false, &mut memory);
    session.received(&huge, &mut memory).unwrap();
}

#[test]
fn nothing_may_come_before_initialisation() {
    let none = Controller::new(NONE);
    for bytes in [
        none.response(0, 0),
        none.data(0, 0, &[0; 8], 0),
        none.r2t(0, 0, 0, 8),
    ] {
        let mut memory = TestMemory::default();
        let fault = Session::new(NONE, 4).received(&bytes, &mut memory).unwrap_err();
        assert!(
            matches!(fault, Fault::Protocol { fatal, .. } if fatal.status == FatalErrorStatus::PduSequenceError)
        );
    }
}

#[test]
fn damaged_data_and_damaged_headers_are_noticed() {
    let mut memory = TestMemory::default();
    let (mut session, controller) = initialized(BOTH, 0, &mut memory);
    let slice = memory.allocate(64).unwrap();
    session.send_entry(1, &[0; 64], Data::Receive(slice), false, &mut memory);
    let mut bytes = controller.data(1, 0, &[7; 64], FLAG_LAST | FLAG_SUCCESS);
    assert_eq!(
        bytes[1],
        FLAG_LAST | FLAG_SUCCESS | FLAG_HEADER_DIGEST | FLAG_DATA_DIGEST
    );
    let end = bytes.len() - 10;
    bytes[end] ^= 1;
    assert_eq!(session.received(&bytes, &mut memory), Err(Fault::DataDigest));
    assert_eq!(session.poll_arrival(), None);

    let (mut session, controller) = initialized(BOTH, 0, &mut memory);
    session.send_entry(1, &[0; 64], Data::None, false, &mut memory);
    let mut bytes = controller.response(1, 0);
    bytes[9] ^= 1;
    let fault = session.received(&bytes, &mut memory).unwrap_err();
    assert!(
        matches!(fault, Fault::Protocol { fatal, .. } if fatal.status == FatalErrorStatus::HeaderDigestError)
    );
}

#[test]
fn a_terminate_request_is_taken_at_its_word() {
    let mut memory = TestMemory::default();
    for mut bytes in [Vec::new(), vec![0xAB; 24]] {
        let (mut session, controller) = initialized(BOTH, 0, &mut memory);
        let fatal = Fatal {
            status: FatalErrorStatus::DataTransferLimitExceeded,
            information: 0x01020304,
            header: core::mem::take(&mut bytes),
        };
        let request = controller.writer.terminate(PduType::C2hTermReq, &fatal);
        let fault = session.received(&request, &mut memory).unwrap_err();
        let expected = Fault::Terminated {
            status: 5,
            information: 0x01020304,
        };
        assert_eq!(fault, expected);
        assert!(session.terminate(&fault).is_none());
    }
}

#[test]
fn unsent_payloads_are_given_back() {
    let mut memory = TestMemory::default();
    let (mut session, _) = initialized(NONE, 0, &mut memory);
    let slice = memory.allocate(4096).unwrap();
    session.send_entry(1, &[0; 64], Data::Send(slice), true, &mut memory);
    assert_eq!(memory.holders(slice.buffer), 2);
    session.release(&mut memory);
    assert_eq!(memory.holders(slice.buffer), 1);
}

proptest! {
    /// Whatever comes, nothing panics, and each command is handed up once at most.
    #[test]
    fn any_bytes_end_in_a_fault_or_in_answers(
        noise in proptest::collection::vec((0u8..12, any::<u8>(), any::<u16>(), any::<[u32; 3]>(), 0usize..80), 1..12),
        digests in any::<(bool, bool)>(),
        chunk in 1usize..200,
    ) {
        let digests = Digests { header: digests.0, data: digests.1 };
        let mut memory = TestMemory::default();
        let (mut session, controller) = initialized(digests, 0, &mut memory);
        let slice = memory.allocate(4096).unwrap();
        session.send_entry(1, &[0; 64], Data::Receive(slice), false, &mut memory);
        session.send_entry(2, &[0; 64], Data::Send(slice), false, &mut memory);
        session.send_entry(3, &[0; 64], Data::ReceiveBytes(4096), false, &mut memory);
        let mut bytes = Vec::new();
        for (kind, flags, cid, words, length) in noise {
            let cid = cid % 5;
            match kind {
                0..=2 => bytes.extend(controller.data(cid, words[0] % 128, &pattern(length + 1), flags & 12)),
                3..=5 => bytes.extend(controller.r2t(cid, 0, words[0] % 128, words[1] % 5000)),
                6..=8 => bytes.extend(controller.response(cid, (words[2] % 3) as u16)),
                _ => bytes.extend(words.iter().flat_map(|word| word.to_le_bytes())),
            }
        }
        for piece in bytes.chunks(chunk) {
            if session.received(piece, &mut memory).is_err() {
                break;
            }
        }
        let mut answered = [0; 8];
        while let Some(Arrival::Response { entry, .. }) = session.poll_arrival() {
            answered[usize::from(entry[12])] += 1;
        }
        prop_assert!(answered.iter().all(|count| *count <= 1));
        session.release(&mut memory);
    }
}
