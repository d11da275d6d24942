//! What waits for the owner, and what the pool has asked of the areas below.

use super::config::Area;
use super::record::{Extent, NodeId, Place};
use super::{PoolOutput, Request};
use crate::{BlockRange, Memory, Operation, Slab, Slot, SubRequestId, Time};
use std::collections::VecDeque;

/// What every verb brings along: the time, where outputs go, and the bytes of metadata.
pub(super) struct Turn<'a> {
    pub(super) now: Time,
    pub(super) outbox: &'a mut Outbox,
    pub(super) memory: &'a mut dyn Memory,
}

/// Why something was sent below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A part of a request, in an extent.
    Part {
        request: Slot,
        node: NodeId,
        place: Place,
        extent: Extent,
    },
    /// The flush of a request.
    HostFlush { request: Slot },
    /// A journal block.
    Journal,
    /// A chunk or the header of a checkpoint.
    Checkpoint,
    /// The zeroing of dirty extents.
    Cleaning,
    /// What a formatting or an opening waits for.
    Start,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    outputs: VecDeque<PoolOutput>,
    below: Slab<Purpose>,
}

impl Outbox {
    pub(super) fn send(&mut self, purpose: Purpose, area: Area, operation: Operation, range: BlockRange) {
        let id = SubRequestId(self.below.insert(purpose).0);
        self.outputs.push_back(PoolOutput::Below {
            id,
            area,
            request: Request { operation, range },
        });
    }

    pub(super) fn push(&mut self, output: PoolOutput) {
        self.outputs.push_back(output);
    }

    pub(super) fn poll(&mut self) -> Option<PoolOutput> {
        self.outputs.pop_front()
    }

    pub(super) fn completed(&mut self, id: SubRequestId) -> Purpose {
        self.below
            .remove(Slot(id.0))
            .expect("what is completed was sent, and once")
    }

    /// Whether the pool waits for nothing from below.
    pub(super) fn is_quiet(&self) -> bool {
        self.below.is_empty()
    }
}
