//! Bytes of a memory disk that stand for a buffer's own: what is read from such a disk is sent from where it lies.
//!
//! To whoever holds the buffer it looks as if the bytes had been copied when they were read: before the disk changes them,
//! and before anybody changes the buffer, they are. Whoever reads without waiting for the socket thus saves the copy.
//!
//! Few at a time: whoever changes bytes of a disk searches them one by one.

use block::BufferId;

/// With so many standing in, further reads are copied.
pub(crate) const COUNT_MAX: usize = 256;

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

/// For a buffer without one.
const NONE: u32 = u32::MAX;

/// All of a pool.
#[derive(Debug, Default)]
pub(crate) struct StandIns {
    /// In no order.
    all: Vec<StandIn>,
    /// By buffer: where it is in `all`.
    places: Vec<u32>,
}

impl StandIns {
    pub(crate) fn has_room(&self) -> bool {
        self.all.len() < COUNT_MAX
    }

    fn place(&self, buffer: BufferId) -> Option<usize> {
        let place = *self.places.get(buffer.0 as usize)?;
        (place != NONE).then_some(place as usize)
    }

    pub(crate) fn add(&mut self, stand_in: StandIn) {
        let name = stand_in.buffer.0 as usize;
        if self.places.len() <= name {
            self.places.resize(name + 1, NONE);
        }
        assert_eq!(self.places[name], NONE, "one for a buffer");
        self.places[name] = self.all.len() as u32;
        self.all.push(stand_in);
    }

    /// What stands for a buffer, if something does.
    #[inline]
    pub(crate) fn of(&self, buffer: BufferId) -> Option<StandIn> {
        self.place(buffer).map(|place| self.all[place])
    }

    /// What stands for a buffer, which has its own bytes from now on or is given back.
    #[inline]
    pub(crate) fn take(&mut self, buffer: BufferId) -> Option<StandIn> {
        let place = self.place(buffer)?;
        let taken = self.all.swap_remove(place);
        self.places[buffer.0 as usize] = NONE;
        if let Some(moved) = self.all.get(place) {
            self.places[moved.buffer.0 as usize] = place as u32;
        }
        Some(taken)
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
