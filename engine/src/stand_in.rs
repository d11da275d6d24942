//! Bytes of a memory disk that stand for a buffer's own: what is read from such a disk is sent from where it lies.
//!
//! To whoever holds the buffer it looks as if the bytes had been copied when they were read: before the disk changes them,
//! and before anybody changes the buffer, they are. Whoever reads without waiting for the socket thus saves the copy.
//!
//! Few at a time: they are searched one by one.

use block::BufferId;

/// Shorter reads are copied: the copy costs no more than keeping books.
pub(crate) const LENGTH_MIN: usize = 16 << 10;
/// With so many standing in, further reads are copied.
pub(crate) const COUNT_MAX: usize = 64;

/// Bytes elsewhere, for a buffer's first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandIn {
    pub(crate) buffer: BufferId,
    /// Where they lie.
    pub(crate) start: *const u8,
    pub(crate) length: usize,
}

// SAFETY: a stand-in is a note of an address; what it may be used for is said where it is used.
unsafe impl Send for StandIn {}

/// All of a pool.
#[derive(Debug, Default)]
pub(crate) struct StandIns {
    all: Vec<StandIn>,
}

impl StandIns {
    pub(crate) fn has_room(&self) -> bool {
        self.all.len() < COUNT_MAX
    }

    pub(crate) fn add(&mut self, stand_in: StandIn) {
        assert!(self.of(stand_in.buffer).is_none(), "one for a buffer");
        self.all.push(stand_in);
    }

    /// What stands for a buffer, if something does.
    pub(crate) fn of(&self, buffer: BufferId) -> Option<StandIn> {
        self.all
            .iter()
            .find(|stand_in| stand_in.buffer == buffer)
            .copied()
    }

    /// What stands for a buffer, which has its own bytes from now on or is given back.
    pub(crate) fn take(&mut self, buffer: BufferId) -> Option<StandIn> {
        let at = self.all.iter().position(|stand_in| stand_in.buffer == buffer)?;
        Some(self.all.swap_remove(at))
    }

    /// A buffer that bytes of a range stand for.
    pub(crate) fn over(&self, start: *const u8, length: usize) -> Option<BufferId> {
        let (start, end) = (start.addr(), start.addr() + length);
        let touches = |stand_in: &&StandIn| {
            stand_in.start.addr() < end && start < stand_in.start.addr() + stand_in.length
        };
        self.all.iter().find(touches).map(|stand_in| stand_in.buffer)
    }
}
