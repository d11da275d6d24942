//! Framing, both ways. Deliberate bugs these tests must catch: a digest not checked, a digest over the wrong bytes,
//! padding taken for data, a length limit off by one, a chunk border that loses or repeats a byte.

use super::*;
use proptest::prelude::*;

const LIMITS: FrameLimits = FrameLimits {
    capsule_data_bytes: 8192,
    transfer_data_bytes: 65536,
};

/// What a reader made of a stream, chunk borders forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    kind: PduType,
    header: Vec<u8>,
    data: Vec<u8>,
    intact: bool,
}

fn read_all(reader: &mut FrameReader, chunks: &[&[u8]]) -> Result<Vec<Seen>, Fatal> {
    let mut seen: Vec<Seen> = Vec::new();
    for chunk in chunks {
        let mut bytes = *chunk;
        while let Some(part) = reader.read(&mut bytes)? {
            match part {
                Part::Header(header) => seen.push(Seen {
                    kind: header.kind,
                    header: header.bytes().to_vec(),
                    data: Vec::new(),
                    intact: header.data_length == 0,
                }),
                Part::Data(data) => seen.last_mut().expect("a header came").data.extend(data),
                Part::End { intact } => seen.last_mut().expect("a header came").intact = intact,
            }
        }
        assert!(bytes.is_empty(), "a reader that wants more has taken everything");
    }
    Ok(seen)
}

fn pdu(writer: &FrameWriter, kind: PduType, specific: u8, data: &[u8]) -> Vec<u8> {
    let specific = vec![specific; kind.header_bytes() - COMMON_HEADER_BYTES];
    let mut bytes = writer.before_data(kind, 0, &specific, data.len() as u32).to_vec();
    bytes.extend(data);
    if !data.is_empty() && kind.has_digests() {
        bytes.extend(writer.data_digest(data).into_iter().flatten());
    }
    bytes
}

fn reader(end: End, digests: Digests) -> FrameReader {
    let mut reader = FrameReader::new(end, LIMITS);
    reader.agree_digests(digests);
    reader
}

#[test]
fn common_headers_are_laid_out_as_printed() {
    let plain = FrameWriter::default();
    let both = FrameWriter {
        digests: Digests {
            header: true,
            data: true,
        },
        data_alignment_bytes: 128,
    };
    // writer, type, data length -> type, FLAGS, HLEN, PDO, PLEN
    let rows = [
        (plain, PduType::IcReq, 0, [0x00, 0, 128, 0, 128]),
        (plain, PduType::CapsuleCmd, 0, [0x04, 0, 72, 0, 72]),
        (plain, PduType::CapsuleCmd, 100, [0x04, 0, 72, 72, 172]),
        (plain, PduType::R2t, 0, [0x09, 0, 24, 0, 24]),
        (plain, PduType::C2hData, 8, [0x07, 0, 24, 24, 32]),
        (both, PduType::IcResp, 0, [0x01, 0, 128, 0, 128]),
        (both, PduType::CapsuleResp, 0, [0x05, 1, 24, 0, 28]),
        (both, PduType::CapsuleCmd, 64, [0x04, 3, 72, 128, 196]),
        (both, PduType::C2hTermReq, 24, [0x03, 0, 24, 0, 48]),
    ];
    for (writer, kind, data, [code, flags, hlen, pdo, plen]) in rows {
        let bytes = writer
            .before_data(kind, 0, &vec![0; kind.header_bytes() - 8], data)
            .to_vec();
        let expected = [code, flags, hlen, pdo, plen, 0, 0, 0];
        assert_eq!(bytes[..8], expected, "{kind:?} with {data} bytes");
    }
}

#[test]
fn every_code_has_its_type_and_no_other_has() {
    for code in 0..=u8::MAX {
        match PduType::from_code(code) {
            Some(kind) => assert_eq!(kind as u8, code),
            None => assert!(code == 8 || code > 9),
        }
    }
}

#[test]
fn broken_common_headers_are_refused() {
    use FatalErrorStatus::*;
    // type, FLAGS, HLEN, PDO, PLEN -> status, offset
    let rows = [
        ([0x08, 0, 24, 0, 24], InvalidPduHeaderField, 0),
        ([0x05, 0, 24, 0, 24], InvalidPduHeaderField, 0), // only controllers send responses
        ([0x04, 0, 71, 0, 72], InvalidPduHeaderField, 2),
        ([0x04, 0, 72, 0, 71], InvalidPduHeaderField, 4),
        ([0x04, 1, 72, 0, 72], InvalidPduHeaderField, 1), // a digest nobody agreed on
        ([0x04, 2, 72, 72, 80], InvalidPduHeaderField, 1),
        ([0x04, 0, 72, 0, 80], InvalidPduHeaderField, 3),
        ([0x04, 0, 72, 73, 80], InvalidPduHeaderField, 3),
        ([0x04, 0, 72, 80, 80], InvalidPduHeaderField, 4), // padding and no data
        ([0x04, 0, 72, 84, 80], InvalidPduHeaderField, 4),
        ([0x00, 0, 128, 0, 132], InvalidPduHeaderField, 4), // ICReq carries no data
    ];
    for ([code, flags, hlen, pdo, plen], status, offset) in rows {
        let mut bytes = vec![code, flags, hlen, pdo, plen, 0, 0, 0];
        bytes.resize(256, 0);
        let fatal = read_all(&mut reader(End::Controller, Digests::default()), &[&bytes]).unwrap_err();
        assert_eq!((fatal.status, fatal.information), (status, offset), "{bytes:?}");
    }
}

#[test]
fn data_beyond_the_limit_is_refused_and_at_the_limit_taken() {
    let plain = FrameWriter::default();
    for (kind, limit) in [
        (PduType::CapsuleCmd, 8192),
        (PduType::H2cData, 65536),
        (PduType::H2cTermReq, 128),
    ] {
        let fits = pdu(&plain, kind, 0, &vec![7; limit]);
        let seen = read_all(&mut reader(End::Controller, Digests::default()), &[&fits]).unwrap();
        assert_eq!(seen[0].data.len(), limit);
        let over = pdu(&plain, kind, 0, &vec![7; limit + 1]);
        let fatal = read_all(&mut reader(End::Controller, Digests::default()), &[&over]).unwrap_err();
        assert_eq!(fatal.status, FatalErrorStatus::DataTransferLimitExceeded);
    }
}

#[test]
fn a_wrong_header_digest_is_fatal_and_a_wrong_data_digest_is_told() {
    let digests = Digests {
        header: true,
        data: true,
    };
    let writer = FrameWriter {
        digests,
        data_alignment_bytes: 4,
    };
    let good = pdu(&writer, PduType::CapsuleCmd, 9, &[1, 2, 3, 4]);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let result = read_all(&mut reader(End::Controller, digests), &[&bad]);
        match at {
            8..76 => assert_eq!(result.unwrap_err().status, FatalErrorStatus::HeaderDigestError),
            76.. => assert!(!result.unwrap()[0].intact, "byte {at}"),
            // A broken common header is refused as such, or its digest does not fit, or its length waits for more.
            _ => assert!(result.is_err() || result.unwrap().is_empty(), "byte {at}"),
        }
    }
}

#[test]
fn a_terminate_request_carries_the_header_it_complains_about() {
    let fatal = Fatal {
        status: FatalErrorStatus::UnsupportedParameter,
        information: 0x0102_0304,
        header: vec![0xaa; 24],
    };
    let bytes = FrameWriter::default().terminate(PduType::C2hTermReq, &fatal);
    let seen = read_all(&mut reader(End::Host, Digests::default()), &[&bytes]).unwrap();
    assert_eq!(seen[0].header[8..14], [6, 0, 4, 3, 2, 1]);
    assert_eq!(seen[0].data, fatal.header);
}

fn any_pdu() -> impl Strategy<Value = (PduType, u8, Vec<u8>)> {
    let data = prop::collection::vec(any::<u8>(), 0..300);
    (prop::sample::select(vec![4u8, 6, 2]), any::<u8>(), data).prop_map(|(code, specific, mut data)| {
        let kind = PduType::from_code(code).expect("a known code");
        if kind == PduType::H2cTermReq {
            data.truncate(128);
        }
        (kind, specific, data)
    })
}

proptest! {
    #[test]
    fn chunk_borders_make_no_difference(
        pdus in prop::collection::vec(any_pdu(), 1..6),
        header in any::<bool>(),
        data in any::<bool>(),
        alignment in 1u8..=32,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let digests = Digests { header, data };
        let writer = FrameWriter { digests, data_alignment_bytes: alignment * 4 };
        let stream: Vec<u8> = pdus.iter().flat_map(|(kind, byte, data)| pdu(&writer, *kind, *byte, data)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let seen = read_all(&mut reader(End::Controller, digests), &chunks).unwrap();
        prop_assert_eq!(seen.len(), pdus.len());
        for (seen, (kind, byte, data)) in seen.iter().zip(&pdus) {
            prop_assert_eq!(seen.kind, *kind);
            prop_assert!(seen.header[8..].iter().all(|b| b == byte));
            prop_assert_eq!(&seen.data, data);
            prop_assert!(seen.intact);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), header in any::<bool>()) {
        let _ = read_all(&mut reader(End::Controller, Digests { header, data: header }), &[&bytes]);
    }
}
