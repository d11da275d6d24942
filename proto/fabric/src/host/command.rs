//! What an owner may ask of a namespace, in the block layers' words and the specification's.

use block::{BLOCK_SIZE, BlockRange, BufferSlice, Operation, Request};
use nvme::reservation::{AcquireAction, PersistThroughPowerLoss, RegisterAction, ReservationType};

/// Names a request in its owner's books; unique among those in flight on one association.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// A request to one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read, write, flush, write zeroes or deallocate. Cut into as many NVMe commands as the controller's limits ask
    /// for; the request ends when the last of them has.
    Block(Request),
    /// Succeeds if the blocks hold what the buffer holds (NVM Command Set 1.1, section 3.3.1); as long as the range.
    Compare {
        /// The blocks.
        range: BlockRange,
        /// What they should hold.
        buffer: BufferSlice,
    },
    /// A reservation command.
    Reservation(Reservation),
}

/// The reservation commands (Base 2.1, sections 7.5 to 7.8), with the fields as the specification prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Reservation Register.
    Register {
        /// RREGA.
        action: RegisterAction,
        /// CRKEY: this host's current key.
        current_key: u64,
        /// NRKEY: the new one.
        new_key: u64,
        /// IEKEY: do not check `current_key`.
        ignore_existing: bool,
        /// CPTPL.
        persist: PersistThroughPowerLoss,
    },
    /// Reservation Acquire.
    Acquire {
        /// RACQA.
        action: AcquireAction,
        /// RTYPE.
        kind: ReservationType,
        /// CRKEY: this host's key.
        current_key: u64,
        /// PRKEY: the key to preempt.
        preempt_key: u64,
    },
    /// Reservation Release.
    Release {
        /// RTYPE of the reservation to release; `None` clears it and every registration.
        release: Option<ReservationType>,
        /// CRKEY.
        current_key: u64,
    },
    /// Reservation Report, in the extended form (EDS), answered by
    /// [`super::AssociationEvent::ReservationStatus`].
    Report,
}

/// Why a request was not taken; nothing of it is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no usable association at the moment: a path condition.
    Unavailable,
}

impl Command {
    /// The buffer of the request, if it has one.
    pub fn buffer(&self) -> Option<BufferSlice> {
        match *self {
            Command::Block(Request { operation, .. }) => match operation {
                Operation::Read { buffer } | Operation::Write { buffer, .. } => Some(buffer),
                Operation::Flush | Operation::WriteZeroes { .. } | Operation::Deallocate => None,
            },
            Command::Compare { buffer, .. } => Some(buffer),
            Command::Reservation(_) => None,
        }
    }

    /// The blocks of the request; empty for those that have none.
    pub fn range(&self) -> BlockRange {
        match *self {
            Command::Block(Request { range, .. }) | Command::Compare { range, .. } => range,
            Command::Reservation(_) => BlockRange::default(),
        }
    }

    /// Whether data flows from the target into the buffer.
    pub fn reads(&self) -> bool {
        matches!(
            self,
            Command::Block(Request {
                operation: Operation::Read { .. },
                ..
            })
        )
    }

    /// Whether the request moves blocks, so that an empty range makes no sense.
    pub(crate) fn has_range(&self) -> bool {
        match self {
            Command::Block(request) => request.operation != Operation::Flush,
            Command::Compare { .. } => true,
            Command::Reservation(_) => false,
        }
    }

    /// Asserts what owners owe: a range where one is needed, a buffer as long as it.
    pub(crate) fn assert_sound(&self) {
        if self.has_range() {
            assert!(self.range().length.0 > 0, "a request of no blocks: {self:?}");
            self.range().end();
        }
        if let Some(buffer) = self.buffer() {
            let bytes = self.range().length.0.checked_mul(u64::from(BLOCK_SIZE));
            assert_eq!(
                bytes,
                Some(u64::from(buffer.length)),
                "buffer and range differ: {self:?}"
            );
        }
    }
}
