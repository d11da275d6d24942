//! NVMe/TCP, as far as somebody who looks on has to read it: where units begin and end, and the first bytes of each.
//!
//! Written apart from `nvme` and `fabric` on purpose: what they get wrong together must show here (NVMe/TCP Transport 1.1, 3.6).

/// So much of each unit is kept: a command capsule and the start of what it carries.
const KEPT: usize = 136;
/// Type, flags, header length, data offset, and the length of all.
const HEAD: usize = 8;
const CAPSULE_COMMAND: u8 = 0x04;
const CAPSULE_RESPONSE: u8 = 0x05;
const C2H_DATA: u8 = 0x07;
/// Of a C2HData unit: it is the last one, and stands for a successful response.
const LAST_AND_SUCCESS: u8 = 0b1100;

/// Cuts what is said in one direction into units.
#[derive(Debug, Default)]
pub(super) struct Reader {
    kept: Vec<u8>,
    /// What is missing of the present unit, behind what is kept.
    left: usize,
}

/// What a unit says, of those that matter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit<'a> {
    /// A command, and what it carries.
    Command { entry: &'a [u8], data: &'a [u8] },
    /// The end of a command: its identifier, and whether it succeeded.
    Response { cid: u16, success: bool },
    /// Data for a command; the last of it may be its end as well.
    Data { cid: u16, data: &'a [u8], ends: bool },
}

impl Reader {
    /// More has been said; `each` is given every unit that is now complete.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut each: impl FnMut(Unit<'_>)) {
        while !bytes.is_empty() {
            if self.kept.len() < HEAD {
                let take = (HEAD - self.kept.len()).min(bytes.len());
                self.kept.extend_from_slice(&bytes[..take]);
                bytes = &bytes[take..];
                if self.kept.len() == HEAD {
                    self.left = number(&self.kept[4..8]) as usize - HEAD;
                }
                continue;
            }
            let take = self.left.min(bytes.len());
            let keep = (KEPT - self.kept.len()).min(take);
            self.kept.extend_from_slice(&bytes[..keep]);
            bytes = &bytes[take..];
            self.left -= take;
            if self.left == 0 {
                if let Some(unit) = unit(&self.kept) {
                    each(unit);
                }
                self.kept.clear();
            }
        }
    }
}

fn unit(kept: &[u8]) -> Option<Unit<'_>> {
    let data = || {
        kept.get(usize::from(kept[3])..)
            .filter(|_| kept[3] > 0)
            .unwrap_or_default()
    };
    match kept[0] {
        CAPSULE_COMMAND => Some(Unit::Command {
            entry: &kept[8..72],
            data: data(),
        }),
        CAPSULE_RESPONSE => Some(Unit::Response {
            cid: number(&kept[20..22]) as u16,
            success: number(&kept[22..24]) >> 1 == 0,
        }),
        C2H_DATA => Some(Unit::Data {
            cid: number(&kept[8..10]) as u16,
            data: data(),
            ends: kept[1] & LAST_AND_SUCCESS == LAST_AND_SUCCESS,
        }),
        _ => None,
    }
}

/// A little-endian number of at most eight bytes.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(cid: u16, status: u16) -> Vec<u8> {
        let mut bytes = vec![CAPSULE_RESPONSE, 0, 24, 0, 24, 0, 0, 0];
        bytes.resize(24, 0);
        bytes[20..22].copy_from_slice(&cid.to_le_bytes());
        bytes[22..24].copy_from_slice(&(status << 1).to_le_bytes());
        bytes
    }

    #[test]
    fn units_are_found_however_they_are_cut() {
        let mut said = response(7, 0);
        // Data of 300 bytes behind a header of 24, then another response.
        said.extend([C2H_DATA, LAST_AND_SUCCESS, 24, 24, 0x44, 1, 0, 0, 9, 0]);
        said.resize(24 + 324, 0xAB);
        said.extend(response(8, 0x2));
        for step in [1, 7, 24, 100, said.len()] {
            let (mut reader, mut found) = (Reader::default(), Vec::new());
            for part in said.chunks(step) {
                reader.read(part, |unit| match unit {
                    Unit::Response { cid, success } => found.push((cid, success, 0)),
                    Unit::Data { cid, data, ends } => found.push((cid, ends, data.len())),
                    Unit::Command { .. } => panic!("there is none"),
                });
            }
            assert_eq!(
                found,
                [(7, true, 0), (9, true, KEPT - 24), (8, false, 0)],
                "by {step}"
            );
        }
    }
}
