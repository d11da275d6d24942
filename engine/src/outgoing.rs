//! What a connection still has to send: sessions' bytes in one arena, payloads by reference, both in order.
//!
//! Bytes that follow each other become one piece, so that a batch of answers without payloads is one piece altogether.
//! Invariants: a payload is released exactly once, when its last byte was handed to the kernel or the queue is dropped by
//! [`Outgoing::release`]; `unsent_bytes` is the sum of what the pieces have left.

use crate::address;
use crate::buffer::Pool;
use block::{BufferSlice, Memory};
use fabric::driver::Segment;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

/// Pieces in one gathered send.
pub(crate) const PIECES_MAX: usize = 256;
/// Sent bytes at the arena's beginning are cut off when there are so many.
const COMPACT_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
enum Piece {
    /// So many bytes of the arena, behind those of the piece before.
    Arena(usize),
    Payload(BufferSlice),
}

impl Piece {
    fn length(self) -> usize {
        match self {
            Piece::Arena(length) => length,
            Piece::Payload(slice) => slice.length as usize,
        }
    }
}

/// A queue of bytes to send.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pieces: VecDeque<Piece>,
    arena: Vec<u8>,
    /// Where in the arena the first piece that lies there begins.
    arena_at: usize,
    /// Of the first piece.
    sent_bytes: usize,
    unsent_bytes: usize,
}

impl Outgoing {
    /// How much there is to send.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Puts a segment behind the others.
    pub(crate) fn push(&mut self, segment: Segment) {
        match segment {
            Segment::Bytes(bytes) => self.push_bytes(&bytes),
            Segment::Payload { before, payload } => {
                self.push_bytes(&before);
                self.unsent_bytes += payload.length as usize;
                self.pieces.push_back(Piece::Payload(payload));
            }
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.arena.extend_from_slice(bytes);
        self.unsent_bytes += bytes.len();
        match self.pieces.back_mut() {
            Some(Piece::Arena(length)) => *length += bytes.len(),
            _ => self.pieces.push_back(Piece::Arena(bytes.len())),
        }
    }

    /// Hands to the kernel as much as it takes of the first pieces, in one call. `pieces` is room to list them in.
    pub(crate) fn send(
        &mut self,
        socket: RawFd,
        pool: &mut Pool,
        pieces: &mut Vec<libc::iovec>,
    ) -> io::Result<()> {
        self.list(pool, pieces);
        // SAFETY: every piece was just listed from the arena or from payloads that are retained until they are sent, and both
        // stay as they are during the call.
        let bytes = unsafe { address::send_gathered(socket, pieces) }?;
        self.sent(bytes, pool);
        Ok(())
    }

    fn list(&self, pool: &Pool, pieces: &mut Vec<libc::iovec>) {
        pieces.clear();
        let mut skip = self.sent_bytes;
        let mut arena = &self.arena[self.arena_at..];
        for piece in self.pieces.iter().take(PIECES_MAX) {
            let bytes = match *piece {
                Piece::Arena(length) => {
                    let (own, rest) = arena.split_at(length);
                    arena = rest;
                    own
                }
                Piece::Payload(slice) => pool.bytes(slice),
            };
            let bytes = &bytes[std::mem::take(&mut skip)..];
            pieces.push(libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
        }
    }

    fn sent(&mut self, mut bytes: usize, pool: &mut Pool) {
        self.unsent_bytes -= bytes;
        while let Some(piece) = self.pieces.front() {
            let left = piece.length() - self.sent_bytes;
            if bytes < left {
                self.sent_bytes += bytes;
                return;
            }
            bytes -= left;
            self.sent_bytes = 0;
            match self.pieces.pop_front().expect("looked at above") {
                Piece::Arena(length) => self.arena_at += length,
                Piece::Payload(slice) => pool.release(slice.buffer),
            }
        }
        assert_eq!(bytes, 0, "no more is sent than was queued");
        self.compact();
    }

    fn compact(&mut self) {
        if self.pieces.is_empty() {
            self.arena.clear();
            self.arena_at = 0;
        } else if self.arena_at >= COMPACT_BYTES {
            self.arena.drain(..self.arena_at);
            self.arena_at = 0;
        }
    }

    /// Drops everything.
    pub(crate) fn release(self, pool: &mut Pool) {
        for piece in self.pieces {
            if let Piece::Payload(slice) = piece {
                pool.release(slice.buffer);
            }
        }
    }
}
