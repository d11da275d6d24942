//! NVMe/TCP framing, in both directions, with and without digests.
//!
//! However the stream is cut, the same is told; what is told has the digests it should; written again it reads the same; and where
//! the specification's own types (`nvme::tcp`) read the same header, they see the same lengths.

use crate::input::{Cuts, Input};
use fabric::tcp::framing::{
    DIGEST_BYTES, Digests, End, FLAG_DATA_DIGEST, FLAG_HEADER_DIGEST, FrameLimits, FrameReader, FrameWriter,
    Header, Part, PduType,
};
use nvme::tcp::{Framing, Pdu, ReceiveRules, Receiver};

const LIMITS: FrameLimits = FrameLimits {
    capsule_data_bytes: 8192,
    transfer_data_bytes: 1 << 20,
};

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Header(PduType, u8, u32, Vec<u8>),
    Data(Vec<u8>),
    End(bool),
    Refused(u16, u32),
}

/// How both ends of a stream are set.
#[derive(Clone, Copy, Debug)]
struct Setting {
    end: End,
    digests: Digests,
    alignment: u8,
}

/// One input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, cuts) = (input.byte(), input.byte());
    let setting = Setting {
        end: if mode & 1 == 0 { End::Controller } else { End::Host },
        digests: Digests {
            header: mode & 2 != 0,
            data: mode & 4 != 0,
        },
        alignment: (mode >> 4) % 4 * 4 + 4,
    };
    let mut stream = input.rest().to_vec();
    if mode & 8 != 0 {
        seal(&mut stream, setting.digests);
    }
    let whole = read_whole(&stream, setting);
    let mut cuts = Cuts::new(cuts);
    assert_eq!(
        read(&stream, setting, |rest| cuts.cut(rest)),
        whole,
        "cut, it reads otherwise"
    );
    let written = write(&whole, setting);
    let again = read(&written, setting, |rest| (rest, &[]));
    assert_eq!(
        normal(&again),
        normal(&complete(whole)),
        "written, it reads otherwise"
    );
}

fn has_digests(kind: PduType) -> bool {
    use PduType::{C2hData, CapsuleCmd, CapsuleResp, H2cData, R2t};
    matches!(kind, CapsuleCmd | CapsuleResp | H2cData | C2hData | R2t)
}

/// Walks the stream by the lengths it tells, and makes its digests right.
fn seal(stream: &mut [u8], digests: Digests) {
    let mut at = 0;
    while let Some(common) = stream.get(at..at + 8) {
        let (kind, hlen, pdo) = (PduType::from_code(common[0]), common[2].into(), common[3].into());
        let plen = u32::from_le_bytes([common[4], common[5], common[6], common[7]]) as usize;
        if plen < 8 || !kind.is_some_and(has_digests) {
            at += plen.max(8);
            continue;
        }
        let pdu = &mut stream[at..];
        if digests.header && pdu.len() >= hlen + DIGEST_BYTES {
            let sum = crc32c::crc32c(&pdu[..hlen]);
            pdu[hlen..hlen + DIGEST_BYTES].copy_from_slice(&sum.to_le_bytes());
        }
        if digests.data && pdu.len() >= plen && plen >= pdo + DIGEST_BYTES && pdo > hlen {
            let sum = crc32c::crc32c(&pdu[pdo..plen - DIGEST_BYTES]);
            pdu[plen - DIGEST_BYTES..plen].copy_from_slice(&sum.to_le_bytes());
        }
        at += plen;
    }
}

fn reader(setting: Setting) -> FrameReader {
    let mut reader = FrameReader::new(setting.end, LIMITS);
    reader.agree_digests(setting.digests);
    reader
}

fn tell(told: &mut Vec<Told>, part: Part<'_>) {
    match part {
        Part::Header(header) => told.push(Told::Header(
            header.kind,
            header.flags,
            header.data_length,
            header.bytes().to_vec(),
        )),
        Part::Data(data) => match told.last_mut() {
            Some(Told::Data(before)) => before.extend(data),
            _ => told.push(Told::Data(data.to_vec())),
        },
        Part::End { intact } => told.push(Told::End(intact)),
    }
}

fn read(stream: &[u8], setting: Setting, mut cut: impl FnMut(&[u8]) -> (&[u8], &[u8])) -> Vec<Told> {
    let (mut reader, mut told, mut rest) = (reader(setting), Vec::new(), stream);
    while !rest.is_empty() {
        let (mut piece, behind) = cut(rest);
        rest = behind;
        loop {
            match reader.read(&mut piece) {
                Ok(Some(part)) => tell(&mut told, part),
                Ok(None) => break,
                Err(fatal) => {
                    told.push(Told::Refused(fatal.status as u16, fatal.information));
                    return told;
                }
            }
        }
        assert!(piece.is_empty(), "all of it was taken");
    }
    told
}

/// The same in one piece; digests are computed once more, and the specification's types are asked too.
fn read_whole(stream: &[u8], setting: Setting) -> Vec<Told> {
    let (mut reader, mut told, mut rest) = (reader(setting), Vec::new(), stream);
    let mut data_digest = 0;
    loop {
        match reader.read(&mut rest) {
            Ok(None) => return told,
            Ok(Some(part)) => {
                let end = stream.len() - rest.len();
                match &part {
                    Part::Header(header) => {
                        data_digest = 0;
                        look_at(header, &stream[..end], setting);
                    }
                    Part::Data(data) => data_digest = crc32c::crc32c_append(data_digest, data),
                    Part::End { intact } => {
                        let checked = setting.digests.data
                            && matches!(told.iter().rev().find(|told| matches!(told, Told::Header(..))),
                                Some(Told::Header(kind, ..)) if has_digests(*kind));
                        let right = !checked || stream[..end].ends_with(&data_digest.to_le_bytes());
                        assert_eq!(*intact, right, "the data digest");
                    }
                }
                tell(&mut told, part);
            }
            Err(fatal) => {
                told.push(Told::Refused(fatal.status as u16, fatal.information));
                return told;
            }
        }
    }
}

/// A header that was accepted; `before` ends where it does, digest included.
fn look_at(header: &Header, before: &[u8], setting: Setting) {
    let digest = setting.digests.header && has_digests(header.kind);
    let length = header.bytes().len() + if digest { DIGEST_BYTES } else { 0 };
    let own = &before[before.len() - length..];
    assert_eq!(&own[..header.bytes().len()], header.bytes());
    if digest {
        assert!(
            own.ends_with(&crc32c::crc32c(header.bytes()).to_le_bytes()),
            "the header digest"
        );
    }
    let framing = Framing {
        digests: nvme::tcp::Digests {
            header: setting.digests.header,
            data: setting.digests.data,
        },
        ..Framing::default()
    };
    let rules = ReceiveRules {
        receiver: match setting.end {
            End::Controller => Receiver::Controller,
            End::Host => Receiver::Host,
        },
        framing,
        max_capsule_data: LIMITS.capsule_data_bytes,
        max_data: LIMITS.transfer_data_bytes,
    };
    let common = own.first_chunk().expect("a header is longer");
    let Ok(parsed) = nvme::tcp::Header::parse(common, &rules) else {
        return;
    };
    assert_eq!(parsed.pdu_type().code(), header.kind as u8);
    if parsed.leading_length() != own.len() {
        return;
    }
    assert_eq!(parsed.data_length(), header.data_length);
    let Ok(pdu) = Pdu::parse(&parsed, own) else { return };
    let written = pdu.to_vec(&framing, header.data_length);
    let common = written.first_chunk().expect("a header is longer");
    let again = nvme::tcp::Header::parse(common, &rules).expect("we wrote it");
    assert_eq!(Pdu::parse(&again, &written[..again.leading_length()]), Ok(pdu));
}

/// What was told and is whole.
fn complete(mut told: Vec<Told>) -> Vec<Told> {
    if matches!(told.last(), Some(Told::Refused(..))) {
        told.pop();
    }
    let unfinished = match told.as_slice() {
        [.., Told::Header(_, _, length, _)] => (*length > 0).then_some(1),
        [.., Told::Data(_)] => Some(2),
        _ => None,
    };
    told.truncate(told.len() - unfinished.unwrap_or(0));
    told
}

fn write(told: &[Told], setting: Setting) -> Vec<u8> {
    let writer = FrameWriter {
        digests: setting.digests,
        data_alignment_bytes: setting.alignment,
    };
    let (mut stream, mut pdu, mut digests) = (Vec::new(), Vec::new(), false);
    for told in told {
        match told {
            Told::Header(kind, flags, length, header) => {
                let flags = flags & !(FLAG_HEADER_DIGEST | FLAG_DATA_DIGEST);
                pdu = writer.before_data(*kind, flags, &header[8..], *length).to_vec();
                digests = has_digests(*kind);
                if *length == 0 {
                    stream.append(&mut pdu);
                }
            }
            Told::Data(data) => {
                pdu.extend(data);
                if digests {
                    pdu.extend(writer.data_digest(data).into_iter().flatten());
                }
            }
            Told::End(_) => stream.append(&mut pdu),
            Told::Refused(..) => {}
        }
    }
    stream
}

/// What does not depend on padding, reserved bits and damage.
fn normal(told: &[Told]) -> Vec<(Option<PduType>, u32, Vec<u8>)> {
    let normal = told.iter().map(|told| match told {
        Told::Header(kind, flags, length, bytes) => {
            let mut bytes = bytes[8..].to_vec();
            bytes.push(flags & !(FLAG_HEADER_DIGEST | FLAG_DATA_DIGEST));
            (Some(*kind), *length, bytes)
        }
        Told::Data(data) => (None, 0, data.clone()),
        Told::End(_) => (None, 1, Vec::new()),
        Told::Refused(status, information) => (None, *information, status.to_le_bytes().to_vec()),
    });
    normal.collect()
}
