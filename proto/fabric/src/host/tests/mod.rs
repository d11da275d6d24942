//! Tests of the host's machines that need more than one of them.

mod association;
pub(crate) mod memory;
mod scripted;
