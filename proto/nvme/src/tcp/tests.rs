//! Units: every field, every refusal, framing with every combination of digests and alignments.
//!
//! Deliberate bugs that these must catch (tried by hand): the header digest over the padding or over
//! earlier units too, either digest big-endian, padding counted from the start of the buffer, PLEN without
//! a digest, a unit of the other direction let in, the header digest not checked, LAST and SUCCESS swapped,
//! a terminate request of 153 bytes let in, a capsule's limit used for data units.

use crate::{
    Cid, CompletionQueueEntry, Qid, Status, SubmissionQueueEntry, ZeroBased,
    tcp::{
        C2hData, DIGEST_LENGTH, DataAlignment, DataDigest, Digests, FatalError, FatalErrorStatus, Framing,
        H2cData, Header, IcReq, IcResp, Pdu, PduType, R2t, ReceiveRules, Receiver, TermReq,
        digest::header_digest,
        wire::{
            C2hDataPdu, CapsuleCmdPdu, CapsuleRespPdu, CommonHeader, H2cDataPdu, IcReqPdu, IcRespPdu, R2tPdu,
            TermReqPdu,
        },
    },
};
use proptest::prelude::*;

code_table!(pdu_types: PduType, u8 {
    0x00 IcReq,
    0x01 IcResp,
    0x02 H2cTermReq,
    0x03 C2hTermReq,
    0x04 CapsuleCmd,
    0x05 CapsuleResp,
    0x06 H2cData,
    0x07 C2hData,
    0x09 R2t,
});

code_table!(fatal_error_statuses: FatalErrorStatus, u16 {
    1 InvalidPduHeaderField,
    2 PduSequenceError,
    3 HeaderDigestError,
    4 DataTransferOutOfRange,
    5 LimitExceeded,
    6 UnsupportedParameter,
});

fields!(common_header: CommonHeader, 8 {
    0..1 pdu_type number,
    1..2 flags number,
    2..3 hlen number,
    3..4 pdo number,
    4..8 plen number,
});

fields!(ic_req_fields: IcReqPdu, 128 {
    0..8 header bytes,
    8..10 pfv number,
    10..11 hpda number,
    11..12 dgst number,
    12..16 maxr2t number,
    16..128 reserved_16 bytes,
});

fields!(ic_resp_fields: IcRespPdu, 128 {
    0..8 header bytes,
    8..10 pfv number,
    10..11 cpda number,
    11..12 dgst number,
    12..16 maxh2cdata number,
    16..128 reserved_16 bytes,
});

fields!(term_req_fields: TermReqPdu, 24 {
    0..8 header bytes,
    8..10 fes number,
    10..14 fei number,
    14..24 reserved_14 bytes,
});

fields!(capsule_cmd_fields: CapsuleCmdPdu, 72 {
    0..8 header bytes,
    8..72 entry bytes,
});

fields!(capsule_resp_fields: CapsuleRespPdu, 24 {
    0..8 header bytes,
    8..24 entry bytes,
});

fields!(r2t_fields: R2tPdu, 24 {
    0..8 header bytes,
    8..10 cccid number,
    10..12 ttag number,
    12..16 r2to number,
    16..20 r2tl number,
    20..24 reserved_20 bytes,
});

fields!(h2c_data_fields: H2cDataPdu, 24 {
    0..8 header bytes,
    8..10 cccid number,
    10..12 ttag number,
    12..16 datao number,
    16..20 datal number,
    20..24 reserved_20 bytes,
});

fields!(c2h_data_fields: C2hDataPdu, 24 {
    0..8 header bytes,
    8..10 cccid number,
    10..12 reserved_10 bytes,
    12..16 datao number,
    16..20 datal number,
    20..24 reserved_20 bytes,
});

const BOTH_DIGESTS: Digests = Digests {
    header: true,
    data: true,
};
const MAX_CAPSULE_DATA: u32 = 8192;
const MAX_DATA: u32 = 65536;

fn framing(digests: Digests, alignment: u8) -> Framing {
    Framing {
        digests,
        alignment: DataAlignment::from_raw(alignment).unwrap(),
    }
}

fn rules(receiver: Receiver, framing: Framing) -> ReceiveRules {
    ReceiveRules {
        receiver,
        framing,
        max_capsule_data: MAX_CAPSULE_DATA,
        max_data: MAX_DATA,
    }
}

/// What a receiver makes of bytes: the header and the unit. Takes no more bytes than it was told to.
fn receive(bytes: &[u8], rules: &ReceiveRules) -> Result<(Header, Pdu), FatalError> {
    let header = Header::parse(bytes.first_chunk().unwrap(), rules)?;
    let pdu = Pdu::parse(&header, &bytes[..header.leading_length()])?;
    Ok((header, pdu))
}

fn ic_resp_pdu() -> Pdu {
    Pdu::IcResp(IcResp {
        alignment: DataAlignment::from_raw(1).unwrap(),
        digests: BOTH_DIGESTS,
        max_h2c_data: 0x0002_0000,
    })
}

fn h2c_data_pdu() -> Pdu {
    Pdu::H2cData(H2cData {
        cid: Cid(0x0102),
        transfer_tag: 0x0304,
        offset: 0x0506_0708,
        length: 4096,
        last: true,
    })
}

fn c2h_data_pdu() -> Pdu {
    Pdu::C2hData(C2hData {
        cid: Cid(0x0102),
        offset: 0x0506_0708,
        length: 4096,
        last: true,
        success: true,
    })
}

fn r2t_pdu() -> Pdu {
    Pdu::R2t(R2t {
        cid: Cid(0x0102),
        transfer_tag: 0x0304,
        offset: 0x0506_0708,
        length: 4096,
    })
}

fn capsule_resp_pdu() -> Pdu {
    Pdu::CapsuleResp(CompletionQueueEntry::new(Cid(0x0102), Status::SUCCESS, 5).with_queue(Qid(0), 6))
}

fn term_req() -> TermReq {
    TermReq::new(FatalError::field(3), &[9, 8, 7])
}

/// Every unit, with the length of its capsule's data.
fn units() -> Vec<(Pdu, u32)> {
    let ic_req = IcReq {
        alignment: DataAlignment::DWORD,
        digests: Digests {
            header: true,
            data: false,
        },
        max_r2t: ZeroBased::<u32>::from_raw(0x0102_0304),
    };
    let entry = SubmissionQueueEntry::from_bytes(core::array::from_fn(|index| index as u8));
    vec![
        (Pdu::IcReq(ic_req), 0),
        (ic_resp_pdu(), 0),
        (Pdu::H2cTermReq(term_req()), 0),
        (Pdu::C2hTermReq(term_req()), 0),
        (Pdu::CapsuleCmd(entry), 0),
        (Pdu::CapsuleCmd(entry), 1024),
        (capsule_resp_pdu(), 0),
        (h2c_data_pdu(), 0),
        (c2h_data_pdu(), 0),
        (r2t_pdu(), 0),
    ]
}

#[test]
fn units_by_their_bytes() {
    let plain = Framing::default();
    // Type, flags, HLEN, PDO, PLEN, and what follows.
    let rows: [&[u8]; 10] = [
        &[0, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 1, 4, 3, 2, 1, 0],
        &[1, 0, 128, 0, 128, 0, 0, 0, 0, 0, 1, 3, 0, 0, 2, 0, 0],
        &[
            2, 0, 24, 0, 27, 0, 0, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 8, 7,
        ],
        &[
            3, 0, 24, 0, 27, 0, 0, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 8, 7,
        ],
        &[4, 0, 72, 0, 72, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        &[4, 0, 72, 72, 0x48, 4, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        &[
            5, 0, 24, 0, 24, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 2, 1, 0, 0,
        ],
        &[
            6, 4, 24, 24, 0x18, 16, 0, 0, 2, 1, 4, 3, 8, 7, 6, 5, 0, 16, 0, 0, 0, 0, 0, 0,
        ],
        &[
            7, 12, 24, 24, 0x18, 16, 0, 0, 2, 1, 0, 0, 8, 7, 6, 5, 0, 16, 0, 0, 0, 0, 0, 0,
        ],
        &[
            9, 0, 24, 0, 24, 0, 0, 0, 2, 1, 4, 3, 8, 7, 6, 5, 0, 16, 0, 0, 0, 0, 0, 0,
        ],
    ];
    for ((pdu, capsule_data_length), expected) in units().into_iter().zip(rows) {
        let bytes = pdu.to_vec(&plain, capsule_data_length);
        assert_eq!(bytes[..expected.len()], *expected, "{pdu:?}");
        let (header, parsed) = receive(&bytes, &rules(pdu.pdu_type().receiver(), plain)).unwrap();
        assert_eq!((parsed, header.leading_length()), (pdu, bytes.len()));
    }
}

#[test]
fn digests_stand_behind_header_and_data() {
    let framing = framing(BOTH_DIGESTS, 0);
    // Flags, PDO, PLEN.
    let rows = [
        (0, 0, 128),
        (0, 0, 128),
        (0, 0, 27),
        (0, 0, 27),
        (0b01, 0, 76),
        (0b11, 76, 76 + 1024 + 4),
        (0b01, 0, 28),
        (0b0111, 28, 28 + 4096 + 4),
        (0b1111, 28, 28 + 4096 + 4),
        (0b01, 0, 28),
    ];
    for ((pdu, capsule_data_length), (flags, pdo, plen)) in units().into_iter().zip(rows) {
        let bytes = pdu.to_vec(&framing, capsule_data_length);
        let common = CommonHeader::parse(&bytes).unwrap();
        assert_eq!(
            (common.flags, common.pdo, common.plen.get()),
            (flags, pdo, plen),
            "{pdu:?}"
        );
        let (header, parsed) = receive(&bytes, &rules(pdu.pdu_type().receiver(), framing)).unwrap();
        assert_eq!(parsed, pdu);
        assert_eq!(
            (header.has_header_digest(), header.has_data_digest()),
            (flags & 1 != 0, flags & 2 != 0)
        );
    }
}

#[test]
fn data_is_aligned_as_the_receiver_asked() {
    // Alignment, header digest, PDO, padding.
    let rows = [
        (0, false, 24, 0),
        (0, true, 28, 0),
        (3, false, 32, 8),
        (3, true, 32, 4),
        (6, false, 28, 4),
        (6, true, 28, 0),
        (31, false, 128, 104),
        (31, true, 128, 100),
    ];
    for (alignment, header_digest, pdo, padding) in rows {
        let framing = framing(
            Digests {
                header: header_digest,
                data: false,
            },
            alignment,
        );
        let bytes = c2h_data_pdu().to_vec(&framing, 0);
        assert_eq!(
            (bytes.len(), bytes[3]),
            (pdo, pdo as u8),
            "{alignment} {header_digest}"
        );
        assert_eq!(bytes[pdo - padding..], vec![0; padding]);
        let (header, _) = receive(&bytes, &rules(Receiver::Host, framing)).unwrap();
        assert_eq!(
            (header.leading_length(), header.padding_length()),
            (pdo - padding, padding)
        );
        assert_eq!((header.data_length(), header.length()), (4096, pdo as u32 + 4096));
    }
}

#[test]
fn alignments() {
    let rows = [
        (0, Some(4)),
        (1, Some(8)),
        (31, Some(128)),
        (32, None),
        (255, None),
    ];
    for (raw, bytes) in rows {
        let alignment = DataAlignment::from_raw(raw);
        assert_eq!(alignment.map(DataAlignment::bytes), bytes);
        assert!(alignment.is_none_or(|alignment| alignment.raw() == raw));
    }
}

/// A row: bytes of a good unit to overwrite (offset, value), and the refusal.
type Spoilt = (&'static [(usize, u8)], FatalError);

fn check_refusals(pdu: &Pdu, capsule_data_length: u32, framing: Framing, rows: &[Spoilt]) {
    let rules = rules(pdu.pdu_type().receiver(), framing);
    let good = pdu.to_vec(&framing, capsule_data_length);
    assert!(receive(&good, &rules).is_ok());
    for (changes, refusal) in rows {
        let mut bytes = good.clone();
        bytes.resize(160, 0);
        changes.iter().for_each(|(offset, value)| bytes[*offset] = *value);
        assert_eq!(
            receive(&bytes, &rules).map(|_| ()),
            Err(*refusal),
            "{pdu:?} {changes:?}"
        );
    }
}

const fn field(offset: u32) -> FatalError {
    FatalError::field(offset)
}

#[test]
fn headers_that_are_refused() {
    let plain = Framing::default();
    let limit = FatalError::with(FatalErrorStatus::LimitExceeded, 4);
    check_refusals(
        &h2c_data_pdu(),
        0,
        plain,
        &[
            (&[(0, 8)], field(0)),
            (&[(0, 10)], field(0)),
            (&[(0, 0xFF)], field(0)),
            (&[(0, 7)], field(0)),
            (&[(0, 5)], field(0)),
            (&[(1, 0b01)], field(1)),
            (&[(1, 0b10)], field(1)),
            (&[(2, 23)], field(2)),
            (&[(2, 28)], field(2)),
            (&[(3, 0)], field(3)),
            (&[(3, 20)], field(3)),
            (&[(3, 26)], field(3)),
            (&[(4, 24), (5, 0)], field(4)),
            (&[(4, 23), (5, 0)], field(4)),
            (&[(4, 0), (5, 0)], field(4)),
            (&[(4, 0x19), (6, 1), (5, 0)], limit),
            (&[(7, 0xFF)], limit),
            (&[(16, 1)], field(16)),
        ],
    );
    check_refusals(
        &c2h_data_pdu(),
        0,
        plain,
        &[
            (&[(0, 6)], field(0)),
            (&[(1, 0b1000)], field(1)),
            (&[(16, 1)], field(16)),
            (&[(7, 0xFF)], limit),
        ],
    );
    check_refusals(
        &capsule_resp_pdu(),
        0,
        plain,
        &[
            (&[(1, 1)], field(1)),
            (&[(2, 72)], field(2)),
            (&[(4, 25)], field(4)),
            (&[(4, 23)], field(4)),
        ],
    );
    check_refusals(
        &r2t_pdu(),
        0,
        plain,
        &[(&[(4, 28)], field(4)), (&[(17, 0)], field(16))],
    );
    check_refusals(
        &Pdu::H2cTermReq(term_req()),
        0,
        plain,
        &[
            (&[(4, 23)], field(4)),
            (&[(4, 153)], field(4)),
            (&[(5, 1)], field(4)),
        ],
    );
}

#[test]
fn capsules_that_are_refused() {
    let capsule = Pdu::CapsuleCmd(SubmissionQueueEntry::default());
    check_refusals(
        &capsule,
        0,
        Framing::default(),
        &[
            (&[(1, 1)], field(1)),
            (&[(1, 2)], field(1)),
            (&[(4, 71)], field(4)),
            (&[(4, 73)], field(3)),
            (&[(3, 72), (4, 71)], field(4)),
        ],
    );
    // 8192 bytes of data are the most: PLEN 2048h.
    check_refusals(
        &capsule,
        MAX_CAPSULE_DATA,
        Framing::default(),
        &[
            (&[(4, 0x49)], field(4)),
            (&[(3, 71)], field(3)),
            (&[(1, 2)], field(1)),
        ],
    );
    check_refusals(
        &capsule,
        512,
        framing(BOTH_DIGESTS, 1),
        &[
            (&[(1, 0)], field(1)),
            (&[(1, 1)], field(1)),
            (&[(1, 2)], field(1)),
            (&[(3, 76)], field(3)),
            (&[(3, 84)], field(3)),
        ],
    );
    check_refusals(
        &capsule,
        0,
        framing(BOTH_DIGESTS, 0),
        &[(&[(1, 3)], field(1)), (&[(4, 80)], field(1))],
    );
}

#[test]
fn initialisations_that_are_refused() {
    let unsupported = FatalError::with(FatalErrorStatus::UnsupportedParameter, 8);
    let request = Pdu::IcReq(IcReq::default());
    check_refusals(
        &request,
        0,
        Framing::default(),
        &[
            (&[(2, 24)], field(2)),
            (&[(4, 127)], field(4)),
            (&[(8, 1)], unsupported),
            (&[(9, 1)], unsupported),
            (&[(10, 32)], field(10)),
        ],
    );
    check_refusals(
        &ic_resp_pdu(),
        0,
        Framing::default(),
        &[
            (&[(8, 1)], unsupported),
            (&[(10, 32)], field(10)),
            (&[(12, 2)], field(12)),
            (&[(13, 0x0F), (14, 0)], field(12)),
            (&[(14, 0)], field(12)),
        ],
    );
}

#[test]
fn flags_that_are_reserved_in_a_unit_are_ignored() {
    let plain = Framing::default();
    let rows = [
        (Pdu::IcReq(IcReq::default()), 0xFF),
        (Pdu::H2cTermReq(term_req()), 0xFF),
        (Pdu::CapsuleCmd(SubmissionQueueEntry::default()), 0xFC),
        (capsule_resp_pdu(), 0xFE),
        (r2t_pdu(), 0xFE),
    ];
    for (pdu, flags) in rows {
        let mut bytes = pdu.to_vec(&plain, 0);
        bytes[1] = flags;
        let (header, parsed) = receive(&bytes, &rules(pdu.pdu_type().receiver(), plain)).unwrap();
        assert_eq!(
            (parsed, header.has_header_digest(), header.has_data_digest()),
            (pdu, false, false)
        );
    }
}

#[test]
fn header_digests_are_checked() {
    let framing = framing(BOTH_DIGESTS, 3);
    for (pdu, capsule_data_length) in units() {
        let rules = rules(pdu.pdu_type().receiver(), framing);
        let good = pdu.to_vec(&framing, capsule_data_length);
        let (header, _) = receive(&good, &rules).unwrap();
        if !header.has_header_digest() {
            continue;
        }
        for byte in 8..header.leading_length() {
            let mut bytes = good.clone();
            bytes[byte] ^= 0x10;
            let leading = &bytes[..header.leading_length()];
            let received = u32::from_le_bytes(*leading.last_chunk::<DIGEST_LENGTH>().unwrap());
            let refusal = FatalError {
                status: FatalErrorStatus::HeaderDigestError,
                information: received,
            };
            assert_eq!(Pdu::parse(&header, leading), Err(refusal), "{pdu:?} byte {byte}");
        }
    }
}

#[test]
fn digests_are_crc32c_little_endian() {
    // RFC 3720, B.4: zeroes, ones, ascending.
    let rows: [([u8; 32], [u8; 4]); 3] = [
        ([0; 32], [0xAA, 0x36, 0x91, 0x8A]),
        ([0xFF; 32], [0x43, 0xAB, 0xA8, 0x62]),
        (
            core::array::from_fn(|index| index as u8),
            [0x4E, 0x79, 0xDD, 0x46],
        ),
    ];
    for (data, digest) in rows {
        assert_eq!((DataDigest::of(&data), header_digest(&data)), (digest, digest));
        let mut pieces = DataDigest::new();
        data.chunks(5).for_each(|piece| pieces.update(piece));
        assert_eq!(pieces.to_bytes(), digest);
    }
    assert_eq!(DataDigest::new().to_bytes(), DataDigest::of(&[]));
}

#[test]
fn terminate_requests() {
    let long = [7; 200];
    let request = TermReq::new(FatalError::new(FatalErrorStatus::PduSequenceError), &long);
    assert_eq!(
        (request.fes, request.fei, request.header.len()),
        (2, 0, TermReq::MAX_HEADER)
    );
    assert_eq!(request.status(), Some(FatalErrorStatus::PduSequenceError));
    let unknown = TermReq {
        fes: 9,
        ..request.clone()
    };
    assert_eq!(unknown.status(), None);
    let bytes = Pdu::C2hTermReq(request.clone()).to_vec(&Framing::default(), 0);
    assert_eq!(bytes.len(), 152);
    let (_, parsed) = receive(&bytes, &rules(Receiver::Host, Framing::default())).unwrap();
    assert_eq!(parsed, Pdu::C2hTermReq(request));
    let overlong = Pdu::C2hTermReq(TermReq {
        header: long.to_vec(),
        ..TermReq::default()
    });
    assert_eq!(overlong.to_vec(&Framing::default(), 0).len(), 152);
}

#[test]
fn fatal_errors_say_what_is_wrong() {
    assert_eq!(field(3).to_string(), "invalid PDU header field (byte 3)");
    let digest = FatalError::with(FatalErrorStatus::HeaderDigestError, 0xABCD);
    assert_eq!(digest.to_string(), "header digest error (received 0000abcdh)");
}

#[test]
fn units_are_appended() {
    let framing = framing(BOTH_DIGESTS, 31);
    for (pdu, capsule_data_length) in units() {
        let mut out = vec![1, 2, 3];
        pdu.encode(&framing, capsule_data_length, &mut out);
        assert_eq!(out[..3], [1, 2, 3]);
        assert_eq!(out[3..], pdu.to_vec(&framing, capsule_data_length), "{pdu:?}");
    }
}

fn any_framing() -> impl Strategy<Value = Framing> {
    (any::<bool>(), any::<bool>(), 0..32u8)
        .prop_map(|(header, data, alignment)| framing(Digests { header, data }, alignment))
}

proptest! {
    #[test]
    fn any_bytes_are_a_unit_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 200),
        tame in any::<[bool; 4]>(),
        pdu_type in 0..11u8,
        controller: bool,
        framing in any_framing(),
    ) {
        if tame[0] {
            bytes[0] = pdu_type;
            bytes[2] = PduType::from_code(pdu_type).map_or(24, |pdu_type| pdu_type.header_length() as u8);
        }
        if tame[1] {
            bytes[1] &= 0b1111;
        }
        if tame[2] {
            bytes[3] &= 0b0111_1100;
        }
        if tame[3] {
            bytes[5..8].fill(0);
        }
        let receiver = if controller { Receiver::Controller } else { Receiver::Host };
        if let Ok((header, pdu)) = receive(&bytes, &rules(receiver, framing)) {
            prop_assert_eq!(pdu.pdu_type(), header.pdu_type());
            let around = header.leading_length() + header.padding_length();
            let digest = if header.has_data_digest() { DIGEST_LENGTH } else { 0 };
            prop_assert_eq!(around as u32 + header.data_length() + digest as u32, header.length());
        }
    }

    #[test]
    fn units_survive_the_wire(
        unit in proptest::sample::select(units()),
        capsule_data_length in 1..=MAX_CAPSULE_DATA,
        framing in any_framing(),
    ) {
        let (pdu, has_capsule_data) = unit;
        let length = if has_capsule_data > 0 { capsule_data_length } else { 0 };
        let bytes = pdu.to_vec(&framing, length);
        let (header, parsed) = receive(&bytes, &rules(pdu.pdu_type().receiver(), framing)).unwrap();
        prop_assert_eq!(parsed, pdu);
        prop_assert_eq!(bytes.len(), header.leading_length() + header.padding_length());
        if has_capsule_data > 0 {
            prop_assert_eq!(header.data_length(), length);
        }
    }
}
