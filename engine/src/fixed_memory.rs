//! Memory that a ring has registered, so that the kernel need not look up and pin its pages for every call.
//!
//! A region is registered by pieces of 1 MiB, each when a call first uses it: what is registered is pinned whole, and a node
//! that does little shall not hold all it might ever need. Pieces stay registered. A call that reaches over the edge of
//! a piece, or lies elsewhere, or comes after the kernel has refused (the limit on locked memory), goes without.

use std::io;

/// The buffer pool's slabs are of this size and aligned to it, so buffers up to this size lie within a piece.
const PIECE_BYTES: usize = 1 << 20;
/// No more is registered, as registered memory stays pinned: enough for what is under way at a busy moment.
const PIECES_MAX: usize = 64;

/// Which pieces are registered.
pub(crate) struct FixedMemory {
    start: usize,
    length: usize,
    registered: u64,
    refused: bool,
}

impl FixedMemory {
    pub(crate) fn none() -> FixedMemory {
        FixedMemory {
            start: 0,
            length: 0,
            registered: 0,
            refused: false,
        }
    }

    /// A region of which nothing is registered yet. `make_table` makes room for so many pieces.
    pub(crate) fn new(
        start: *mut u8,
        length: usize,
        make_table: impl FnOnce(u32) -> io::Result<()>,
    ) -> FixedMemory {
        let pieces = (length / PIECE_BYTES).min(PIECES_MAX);
        FixedMemory {
            start: start.addr(),
            length: pieces * PIECE_BYTES,
            registered: 0,
            refused: pieces == 0 || make_table(pieces as u32).is_err(),
        }
    }

    /// The piece that these bytes lie in; `register` is called if this is the first time.
    pub(crate) fn piece_of(
        &mut self,
        address: *mut u8,
        length: u32,
        register: impl FnOnce(u32, libc::iovec) -> io::Result<()>,
    ) -> Option<u16> {
        let first = address.addr().wrapping_sub(self.start);
        let end = first.checked_add(length as usize)?;
        let piece = first / PIECE_BYTES;
        if end > self.length || length == 0 || (end - 1) / PIECE_BYTES != piece {
            return None;
        }
        if self.registered & 1 << piece == 0 {
            self.register(piece, address.wrapping_sub(first % PIECE_BYTES), register)?;
        }
        Some(piece as u16)
    }

    fn register(
        &mut self,
        piece: usize,
        start: *mut u8,
        register: impl FnOnce(u32, libc::iovec) -> io::Result<()>,
    ) -> Option<()> {
        if self.refused {
            return None;
        }
        let vector = libc::iovec {
            iov_base: start.cast(),
            iov_len: PIECE_BYTES,
        };
        match register(piece as u32, vector) {
            Ok(()) => {
                self.registered |= 1 << piece;
                Some(())
            }
            Err(error) => {
                tracing::info!(%error, "no further memory is registered with io_uring");
                self.refused = true;
                None
            }
        }
    }

    pub(crate) fn registered_bytes(&self) -> u64 {
        u64::from(self.registered.count_ones()) * PIECE_BYTES as u64
    }

    /// Nothing more will be registered.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: usize = 7 << 20;

    fn at(offset: usize) -> *mut u8 {
        std::ptr::without_provenance_mut(START + offset)
    }

    fn memory(pieces: usize) -> FixedMemory {
        FixedMemory::new(at(0), pieces * PIECE_BYTES, |_| Ok(()))
    }

    #[test]
    fn a_piece_is_registered_once_and_whole() {
        let mut memory = memory(3);
        let mut calls = Vec::new();
        for offset in [PIECE_BYTES + 4096, PIECE_BYTES, 2 * PIECE_BYTES - 4096] {
            let piece = memory.piece_of(at(offset), 4096, |index, vector| {
                calls.push((index, vector.iov_base.addr() - START, vector.iov_len));
                Ok(())
            });
            assert_eq!(piece, Some(1));
        }
        assert_eq!(calls, [(1, PIECE_BYTES, PIECE_BYTES)]);
        assert_eq!(memory.registered_bytes(), PIECE_BYTES as u64);
    }

    #[test]
    fn what_does_not_lie_in_one_piece_goes_without() {
        let mut memory = memory(2);
        let outside = START.wrapping_neg();
        for (offset, length) in [
            (PIECE_BYTES - 4096, 8192),
            (2 * PIECE_BYTES - 4096, 8192),
            (2 * PIECE_BYTES, 4096),
            (outside, 4096),
            (usize::MAX - START - 100, 4096),
            (0, 0),
        ] {
            let address = std::ptr::without_provenance_mut(START.wrapping_add(offset));
            let piece = memory.piece_of(address, length, |_, _| panic!("not registered"));
            assert_eq!(piece, None, "{length} bytes at {offset}");
        }
    }

    #[test]
    fn a_refusal_is_final_and_leaves_what_there_is() {
        let mut memory = memory(3);
        assert_eq!(memory.piece_of(at(0), 4096, |_, _| Ok(())), Some(0));
        let refuse = |_, _| Err(io::Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!(memory.piece_of(at(PIECE_BYTES), 4096, refuse), None);
        assert!(memory.refused());
        let unasked = |_: u32, _: libc::iovec| -> io::Result<()> { panic!("not asked again") };
        assert_eq!(memory.piece_of(at(2 * PIECE_BYTES), 4096, unasked), None);
        assert_eq!(memory.piece_of(at(8192), 4096, unasked), Some(0));
    }

    #[test]
    fn no_more_than_so_much() {
        let memory = FixedMemory::new(at(0), 1 << 40, |pieces| {
            assert_eq!(pieces as usize, PIECES_MAX);
            Ok(())
        });
        assert_eq!(memory.length, PIECES_MAX * PIECE_BYTES);
    }
}
