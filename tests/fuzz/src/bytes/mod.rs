//! Bytes into parsers.

pub mod command;
pub mod disk_format;
pub mod leg_format;
pub mod pages;
pub mod pdu;
pub mod records;
pub mod rest;
pub mod session;
pub mod texts;
pub mod thin_image;

/// See [`crate::PLANTED`].
pub fn planted(bytes: &[u8]) {
    if let Some((number, _)) = bytes.split_first_chunk() {
        assert_ne!(u64::from_le_bytes(*number), 0x1234_5678_9abc_def0, "found");
    }
}

/// Puts the checksum that a block should have at `at`, taken with zeroes there, over the first `length` bytes.
pub fn seal(block: &mut [u8], at: usize, length: usize) {
    block[at..at + 4].fill(0);
    let sum = crc32c::crc32c(&block[..length]);
    block[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

/// Whether the checksum at `at` is the one over the first `length` bytes.
pub fn is_sealed(block: &[u8], at: usize, length: usize) -> bool {
    let mut own = block.to_vec();
    seal(&mut own, at, length);
    own == block
}
