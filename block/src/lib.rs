//! Block layers: machines that map requests to requests and never touch a payload byte.
//!
//! A layer receives a [`Request`] whose payload is a [`BufferSlice`] (a descriptor), and answers with
//! requests to the layer below that carry descriptors into the same buffer. Only metadata (superblocks,
//! bitmaps, map journals) is made of bytes here, through [`Memory`].
//!
//! What this crate deliberately is not: it has no clock (time is an argument), no I/O, no randomness, no
//! `async`, no knowledge of NVMe or of sockets.
#![forbid(unsafe_code)]

pub mod concat;
mod geometry;
mod layer;
pub mod leg_format;
mod memory;
pub mod mirror;
mod request;
mod slab;
pub mod slice;
pub mod thin;
mod time;
mod tuning;

pub use geometry::leg_metadata_blocks;
pub use layer::{RequestId, SubRequestId};
pub use memory::{BufferId, BufferSlice, Memory};
pub use request::{BLOCK_SIZE, BlockRange, Blocks, Lba, Operation, Request, Status};
pub use slab::{Slab, Slot};
pub use time::{Duration, Time};
pub use tuning::Tuning;
