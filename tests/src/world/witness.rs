//! Somebody who looks on: sees what is carried over every connection and asked of every disk, and changes nothing.

use super::NodeName;
use block::Time;
use fabric::driver::{DiskOperation, DiskRequestId};

/// One direction of a connection, for those who look on. The other direction is its twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Names the connection; never used again.
    pub connection: u64,
    /// From the end that asked for the connection to the one that accepted it.
    pub outward: bool,
}

/// Looks on.
pub trait Witness {
    /// A connection is asked for.
    fn connects(&mut self, connection: u64, from: NodeName, to: NodeName);
    /// One end of a connection is no more.
    fn closes(&mut self, now: Time, connection: u64);
    /// A node has said something.
    fn says(&mut self, now: Time, line: Line, bytes: &[u8]);
    /// A node is about to be told what was said.
    fn hears(&mut self, now: Time, line: Line, bytes: &[u8]);
    /// A disk is asked for something.
    fn asks_disk(&mut self, now: Time, node: NodeName, request: DiskRequestId, operation: &DiskOperation);
    /// The disk is about to answer.
    fn disk_answers(&mut self, node: NodeName, request: DiskRequestId);
    /// A process has ended.
    fn died(&mut self, node: NodeName);
}
