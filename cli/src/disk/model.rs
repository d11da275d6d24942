//! What a disk must hold, block by block, for `trestle disk check`.

use block::BLOCK_SIZE;

const BLOCK: usize = BLOCK_SIZE as usize;

/// What one block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Zeroes.
    Zero,
    /// What the write of this number put there.
    Written(u64),
    /// It was discarded: zeroes, or what it held before.
    Discarded(Option<u64>),
}

/// The whole range.
pub(super) struct Model {
    seed: u64,
    blocks: Vec<Content>,
    writes: u64,
}

/// Every word of a block tells which block it belongs to, and which write it comes from.
fn word(seed: u64, block: u64, write: u64, index: u64) -> u64 {
    let mut x = seed
        ^ block.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ write.wrapping_mul(0xD1B5_4A32_D192_ED03)
        ^ index << 48;
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

fn fill(seed: u64, block: u64, write: u64, bytes: &mut [u8]) {
    for (index, word_bytes) in bytes.chunks_exact_mut(8).enumerate() {
        word_bytes.copy_from_slice(&word(seed, block, write, index as u64).to_le_bytes());
    }
}

impl Model {
    /// A range of zeroes.
    pub(super) fn zeroes(seed: u64, blocks: u64) -> Model {
        Model {
            seed,
            blocks: vec![Content::Zero; blocks as usize],
            writes: 0,
        }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// A write: the bytes to write.
    pub(super) fn write(&mut self, first: u64, count: u64) -> Vec<u8> {
        self.writes += 1;
        let mut bytes = vec![0; count as usize * BLOCK];
        for (block, bytes) in (first..).zip(bytes.chunks_exact_mut(BLOCK)) {
            fill(self.seed, block, self.writes, bytes);
            self.blocks[block as usize] = Content::Written(self.writes);
        }
        bytes
    }

    pub(super) fn zero(&mut self, first: u64, count: u64) {
        self.blocks[first as usize..(first + count) as usize].fill(Content::Zero);
    }

    pub(super) fn discard(&mut self, first: u64, count: u64) {
        for content in &mut self.blocks[first as usize..(first + count) as usize] {
            *content = match *content {
                Content::Zero => Content::Discarded(None),
                Content::Written(write) => Content::Discarded(Some(write)),
                discarded @ Content::Discarded(_) => discarded,
            };
        }
    }

    /// Whether the disk may hold these bytes; if not, what is wrong with which block.
    pub(super) fn compare(&self, first: u64, bytes: &[u8]) -> Result<(), String> {
        let mut expected = vec![0; BLOCK];
        for (block, bytes) in (first..).zip(bytes.chunks_exact(BLOCK)) {
            let content = self.blocks[block as usize];
            let zero = bytes.iter().all(|byte| *byte == 0);
            let mut holds = |write: u64| {
                fill(self.seed, block, write, &mut expected);
                expected == bytes
            };
            let right = match content {
                Content::Zero | Content::Discarded(None) => zero,
                Content::Written(write) => holds(write),
                Content::Discarded(Some(write)) => zero || holds(write),
            };
            if !right {
                let zero = if zero { ", and is zero" } else { "" };
                return Err(format!("block {block} should be {content:?}{zero}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_right_from_wrong() {
        let mut model = Model::zeroes(7, 8);
        let old = model.write(2, 2);
        let new = model.write(2, 1);
        let zero = vec![0; BLOCK];
        assert_eq!(
            model.compare(1, &[&zero[..], &new, &old[BLOCK..]].concat()),
            Ok(())
        );
        assert!(model.compare(2, &old[..BLOCK]).is_err(), "a lost write");
        assert!(model.compare(3, &new).is_err(), "at the wrong place");
        assert!(model.compare(2, &zero).is_err());
        model.discard(2, 1);
        assert_eq!(
            (model.compare(2, &zero), model.compare(2, &new)),
            (Ok(()), Ok(()))
        );
        assert!(
            model.compare(2, &old[..BLOCK]).is_err(),
            "older than what was discarded"
        );
        model.zero(2, 2);
        assert!(model.compare(3, &old[BLOCK..]).is_err(), "not zeroed");
        assert_eq!(model.compare(2, &[&zero[..], &zero].concat()), Ok(()));
    }
}
