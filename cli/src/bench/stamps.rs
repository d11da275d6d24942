//! Stamps: what `--verify` writes into blocks and expects in them.
//!
//! Every 512 bytes of a block begin with which block it is, which write of it, and of which run. A block is used by one request
//! at a time if one of the two writes, so that every read has one right answer: the last acknowledged write's.
//!
//! Invariant: a block is `Unknown` until a write of this run to it has succeeded, and again after one has failed.

/// What may be checked of a block.
const BLOCK_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// Of the last write that was begun.
    version: u32,
    /// That write succeeded.
    known: bool,
    writing: bool,
    readers: u16,
}

/// The blocks of a range, from its first on.
#[derive(Debug)]
pub(super) struct Stamps {
    run: u32,
    first: u64,
    blocks: Vec<Block>,
}

/// A block that did not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub(super) block: u64,
    pub(super) expected_version: u32,
    /// What was found: block, version, run.
    pub(super) found: (u64, u32, u32),
}

impl Stamps {
    /// For the `count` blocks from `first` on, nothing known of them; `run` tells this run from others.
    pub(super) fn new(run: u32, first: u64, count: u64) -> Stamps {
        Stamps {
            run,
            first,
            blocks: vec![Block::default(); count as usize],
        }
    }

    fn slice(&mut self, start: u64, count: u64) -> &mut [Block] {
        let from = (start - self.first) as usize;
        &mut self.blocks[from..from + count as usize]
    }

    /// Takes blocks for a request; whether they were free for it.
    pub(super) fn begin(&mut self, start: u64, count: u64, writes: bool) -> bool {
        let blocks = self.slice(start, count);
        if blocks
            .iter()
            .any(|block| block.writing || writes && block.readers > 0)
        {
            return false;
        }
        for block in blocks {
            if writes {
                block.writing = true;
                block.known = false;
                block.version += 1;
            } else {
                block.readers += 1;
            }
        }
        true
    }

    /// Fills the payload of a write that was begun.
    pub(super) fn stamp(&mut self, start: u64, bytes: &mut [u8]) {
        let run = self.run;
        let count = (bytes.len() / BLOCK_BYTES) as u64;
        let versions = self.slice(start, count).iter().map(|block| block.version);
        for ((number, version), block) in (start..).zip(versions).zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
            for sector in block.chunks_exact_mut(SECTOR_BYTES) {
                sector[..8].copy_from_slice(&number.to_le_bytes());
                sector[8..12].copy_from_slice(&version.to_le_bytes());
                sector[12..16].copy_from_slice(&run.to_le_bytes());
            }
        }
    }

    /// A write has ended.
    pub(super) fn written(&mut self, start: u64, count: u64, succeeded: bool) {
        for block in self.slice(start, count) {
            block.writing = false;
            block.known = succeeded;
        }
    }

    /// A read has ended: gives its blocks back, and answers the first that is not as it should be.
    pub(super) fn read(&mut self, start: u64, count: u64, bytes: Option<&[u8]>) -> Option<Mismatch> {
        let run = self.run;
        let mut first = None;
        for (index, block) in self.slice(start, count).iter_mut().enumerate() {
            block.readers -= 1;
            let Some(bytes) = bytes.filter(|_| block.known && first.is_none()) else {
                continue;
            };
            let number = start + index as u64;
            let whole = &bytes[index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES];
            let expected = (number, block.version, run);
            let wrong = whole
                .chunks_exact(SECTOR_BYTES)
                .map(read_stamp)
                .find(|found| *found != expected);
            first = wrong.map(|found| Mismatch {
                block: number,
                expected_version: block.version,
                found,
            });
        }
        first
    }
}

fn read_stamp(sector: &[u8]) -> (u64, u32, u32) {
    let word = |from: usize| u32::from_le_bytes(sector[from..from + 4].try_into().expect("four bytes"));
    let block = u64::from_le_bytes(sector[..8].try_into().expect("eight bytes"));
    (block, word(8), word(12))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(stamps: &mut Stamps, start: u64, count: u64) -> Vec<u8> {
        let mut bytes = vec![0; count as usize * BLOCK_BYTES];
        assert!(stamps.begin(start, count, true));
        stamps.stamp(start, &mut bytes);
        stamps.written(start, count, true);
        bytes
    }

    #[test]
    fn what_was_written_last_is_expected() {
        let mut stamps = Stamps::new(9, 100, 8);
        let old = written(&mut stamps, 102, 2);
        let new = written(&mut stamps, 102, 2);
        assert!(stamps.begin(102, 2, false));
        assert_eq!(stamps.read(102, 2, Some(&new)), None);
        assert!(stamps.begin(102, 2, false));
        let mismatch = stamps.read(102, 2, Some(&old)).unwrap();
        assert_eq!((mismatch.block, mismatch.expected_version), (102, 2));
        assert_eq!(mismatch.found, (102, 1, 9));
    }

    #[test]
    fn a_single_torn_sector_shows() {
        let mut stamps = Stamps::new(9, 0, 2);
        let old = written(&mut stamps, 0, 2);
        let mut new = written(&mut stamps, 0, 2);
        new[BLOCK_BYTES + 7 * 512..].copy_from_slice(&old[BLOCK_BYTES + 7 * 512..]);
        assert!(stamps.begin(0, 2, false));
        assert_eq!(stamps.read(0, 2, Some(&new)).unwrap().block, 1);
    }

    #[test]
    fn blocks_in_use_are_refused() {
        let mut stamps = Stamps::new(1, 0, 8);
        assert!(stamps.begin(0, 4, false));
        assert!(stamps.begin(2, 4, false), "two may read");
        assert!(!stamps.begin(3, 2, true), "nobody writes what is being read");
        assert!(stamps.begin(6, 2, true));
        assert!(!stamps.begin(5, 2, false), "nobody reads what is being written");
        stamps.read(0, 4, None);
        stamps.read(2, 4, None);
        stamps.written(6, 2, false);
        assert!(stamps.begin(0, 8, true));
    }

    #[test]
    fn what_is_not_known_is_not_checked() {
        let mut stamps = Stamps::new(1, 0, 1);
        let garbage = vec![0xAB; BLOCK_BYTES];
        assert!(stamps.begin(0, 1, false));
        assert_eq!(stamps.read(0, 1, Some(&garbage)), None);
        written(&mut stamps, 0, 1);
        assert!(stamps.begin(0, 1, true));
        stamps.written(0, 1, false);
        assert!(stamps.begin(0, 1, false));
        assert_eq!(
            stamps.read(0, 1, Some(&garbage)),
            None,
            "a failed write may have happened or not"
        );
    }
}
