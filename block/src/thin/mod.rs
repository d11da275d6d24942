//! The thin pool: gives space to volumes by the extent, on first write.
//!
//! Unwritten space reads as zeroes and costs nothing. The map from volumes to extents is held in memory and, durably, as
//! two checkpoint slots and a journal in the pool's metadata area (docs/formats.md). A pool is a machine: requests to
//! volumes come from above, requests to two [`Area`]s go below, and after every verb the owner drains
//! [`Pool::poll_output`].
//!
//! What it deliberately is not: it does not touch payload bytes (the owner fills with zeroes what
//! [`PoolOutput::Zero`] names), it does not know legs, mirrors or epochs of legs, it has no snapshots yet (records name
//! nodes, so that a tree of them can follow), and it never formats because something could not be read (R9).
//!
//! Invariants:
//! * An extent is clean (zeroes, durably), or dirty, or mapped by exactly one place of one volume.
//! * The map in memory changes only when the record that says so is durable: what memory knows, the next owner will.
//! * A write reaches an extent only once its mapping is durable; extents that are given out are zero
//!   (docs/decisions/0002).
//! * One journal block is in flight at a time: only the newest one can be torn, and that one was never acknowledged.
//! * Extents given back are zeroed, flushed, recorded as clean, and only then given out again (R10).

mod config;
mod record;

use crate::{Blocks, BufferSlice, Memory, Request, RequestId, Status, SubRequestId, Time};
pub use config::{Area, Failure, PoolConfig, VolumeId};

/// What a pool wants of its owner; take these in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolOutput {
    /// A request to the layer below; answer with [`Pool::below_completed`].
    Below {
        /// The pool's name for it.
        id: SubRequestId,
        /// Where.
        area: Area,
        /// What. The range is in blocks of the area.
        request: Request,
    },
    /// Fill this part of a read's payload with zeroes, before taking the next output: the space was never written.
    Zero {
        /// The bytes to clear.
        buffer: BufferSlice,
    },
    /// A request from above has ended.
    Complete {
        /// Its name.
        id: RequestId,
        /// How.
        status: Status,
    },
    /// An empty map is durable. The machine has ended; its owner records the fact (R9), then opens.
    Formatted,
    /// The pool could not be formatted. The machine has ended.
    FormatFailed {
        /// Why.
        reason: Failure,
    },
    /// The map is in memory and under this owner: requests and verbs are accepted from here on.
    Opened,
    /// The pool could not be opened. The machine has ended.
    OpenFailed {
        /// Why.
        reason: Failure,
    },
    /// [`Pool::create_volume`] has ended.
    VolumeCreated {
        /// Which.
        volume: VolumeId,
        /// How.
        status: Status,
    },
    /// [`Pool::delete_volume`] has ended.
    VolumeDeleted {
        /// Which.
        volume: VolumeId,
        /// How.
        status: Status,
    },
    /// [`Pool::resize_volume`] has ended.
    VolumeResized {
        /// Which.
        volume: VolumeId,
        /// How.
        status: Status,
    },
    /// Nothing is in flight and no buffer is held any more. The machine has ended.
    Closed,
}

/// Extents of a pool by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the data area.
    pub total: u64,
    /// Mapped by volumes.
    pub used: u64,
    /// Given back and not yet zeroed.
    pub dirty: u64,
    /// Ready to be given out.
    pub clean: u64,
}

/// A volume as the pool knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Which.
    pub volume: VolumeId,
    /// What its host sees.
    pub size: Blocks,
    /// Extents it has been given.
    pub mapped: u64,
}

/// A thin pool that is being formatted, opened, served or closed.
#[derive(Debug)]
pub struct Pool {
    config: PoolConfig,
}

impl Pool {
    /// Starts to write an empty map over the metadata area. Ends with [`PoolOutput::Formatted`] or
    /// [`PoolOutput::FormatFailed`]; only for an area that the store does not say has been formatted (R9).
    pub fn format(config: PoolConfig, now: Time, memory: &mut dyn Memory) -> Pool {
        let _ = (now, memory);
        Pool { config }
    }

    /// Starts to read the map. Ends with [`PoolOutput::Opened`] or [`PoolOutput::OpenFailed`].
    pub fn open(config: PoolConfig, now: Time, memory: &mut dyn Memory) -> Pool {
        let _ = (now, memory);
        Pool { config }
    }

    /// Makes a volume. Answers [`PoolOutput::VolumeCreated`]: `Success` also if it exists with this size, `Invalid` if
    /// with another, `OutOfSpace` if the map has no room, `Unavailable` while another verb on it is under way.
    pub fn create_volume(&mut self, now: Time, volume: VolumeId, size: Blocks, memory: &mut dyn Memory) {
        let _ = (now, volume, size, memory);
    }

    /// Removes a volume; what is in flight to it ends first, new requests end `Invalid`. Answers
    /// [`PoolOutput::VolumeDeleted`]: `Success` also if there is none.
    pub fn delete_volume(&mut self, now: Time, volume: VolumeId, memory: &mut dyn Memory) {
        let _ = (now, volume, memory);
    }

    /// Makes a volume larger. Answers [`PoolOutput::VolumeResized`]: `Invalid` for a smaller size or an unknown volume.
    pub fn resize_volume(&mut self, now: Time, volume: VolumeId, size: Blocks, memory: &mut dyn Memory) {
        let _ = (now, volume, size, memory);
    }

    /// A request to a volume, in blocks of the volume. Answers [`PoolOutput::Complete`]: `Invalid` for an unknown
    /// volume, `OutOfRange` behind its end, `OutOfSpace` for a first write when nothing is left to give.
    pub fn submit(
        &mut self,
        now: Time,
        id: RequestId,
        volume: VolumeId,
        request: Request,
        memory: &mut dyn Memory,
    ) {
        let _ = (now, id, volume, request, memory);
    }

    /// A [`PoolOutput::Below`] has ended.
    pub fn below_completed(&mut self, now: Time, id: SubRequestId, status: Status, memory: &mut dyn Memory) {
        let _ = (now, id, status, memory);
    }

    /// Time has come to what [`Pool::next_timeout`] said.
    pub fn handle_timeout(&mut self, now: Time, memory: &mut dyn Memory) {
        let _ = (now, memory);
    }

    /// Ends the machine: new requests end `Unavailable`, what is in flight ends, a checkpoint is written if it can be.
    /// Answers [`PoolOutput::Closed`].
    pub fn close(&mut self, now: Time, memory: &mut dyn Memory) {
        let _ = (now, memory);
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<PoolOutput> {
        None
    }

    /// When [`Pool::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Time> {
        None
    }

    /// Whether requests are accepted: opened, not fenced, not closing.
    pub fn is_serving(&self) -> bool {
        false
    }

    /// Extents by what they are; all zero before the pool is open.
    pub fn usage(&self) -> Usage {
        Usage {
            total: self.config.data.0 / self.config.extent.0.max(1),
            ..Usage::default()
        }
    }

    /// Every volume, by identifier.
    pub fn volumes(&self) -> Vec<VolumeUsage> {
        Vec::new()
    }

    /// One volume.
    pub fn volume(&self, volume: VolumeId) -> Option<VolumeUsage> {
        self.volumes().into_iter().find(|known| known.volume == volume)
    }
}
