//! Header and data digests (TCP, 3.3.1): CRC32C, little-endian on the wire.

/// Length of either digest, in bytes.
pub const DIGEST_LENGTH: usize = 4;

/// The digest of a header: everything from the common header's first byte to before the digest.
pub fn header_digest(header: &[u8]) -> [u8; DIGEST_LENGTH] {
    crc32c::crc32c(header).to_le_bytes()
}

/// The digest of one unit's data, taken piece by piece, padding left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataDigest {
    crc: u32,
}

impl DataDigest {
    /// Of no data yet.
    pub const fn new() -> DataDigest {
        DataDigest { crc: 0 }
    }

    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, piece);
    }

    /// As on the wire.
    pub const fn to_bytes(self) -> [u8; DIGEST_LENGTH] {
        self.crc.to_le_bytes()
    }

    /// The digest of data that is in one piece.
    pub fn of(data: &[u8]) -> [u8; DIGEST_LENGTH] {
        crc32c::crc32c(data).to_le_bytes()
    }
}
