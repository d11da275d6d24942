//! Names for the connections that a node opens: unique for as long as the process lives, and telling whose they are.
//!
//! A node keeps one [`ConnectionIdRanges`] and gives each association a range of its own. So machines need not share
//! a counter, and an owner finds the association of a connection by [`ConnectionIds::range_of`].

use crate::driver::ConnectionId;

/// Hands out ranges of connection names; one for each node.
#[derive(Debug, Default)]
pub struct ConnectionIdRanges {
    next: u32,
}

impl ConnectionIdRanges {
    /// A node that has not named a connection yet.
    pub fn new() -> ConnectionIdRanges {
        ConnectionIdRanges::default()
    }

    /// Ranges apart from those of [`ConnectionIdRanges::new`], for a node with two users of them; each has 2^30.
    pub fn upper_half() -> ConnectionIdRanges {
        ConnectionIdRanges { next: 1 << 30 }
    }

    /// The next range, never handed out before.
    ///
    /// # Panics
    /// When 2^31 ranges are used up.
    pub fn take(&mut self) -> ConnectionIds {
        assert!(self.next < 1 << 31, "connection names must keep bit 63 clear");
        let range = self.next;
        self.next += 1;
        ConnectionIds { range, next: 0 }
    }
}

/// The connection names of one association: bits 62..32 are the range, the rest counts up.
#[derive(Debug)]
pub struct ConnectionIds {
    range: u32,
    next: u32,
}

impl ConnectionIds {
    /// A name never used before.
    ///
    /// # Panics
    /// After 2^32 connections of one association.
    pub fn allocate(&mut self) -> ConnectionId {
        let id = ConnectionId(u64::from(self.range) << 32 | u64::from(self.next));
        self.next = self
            .next
            .checked_add(1)
            .expect("four thousand million reconnects");
        id
    }

    /// Which range this is, counting from zero in the order they were taken.
    pub fn range(&self) -> u32 {
        self.range
    }

    /// The range that a connection's name is of; `None` for connections that a peer opened.
    pub fn range_of(connection: ConnectionId) -> Option<u32> {
        (connection.0 & ConnectionId::ACCEPTED == 0).then_some((connection.0 >> 32) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_tell_their_range() {
        let mut ranges = ConnectionIdRanges::new();
        let (mut first, mut second) = (ranges.take(), ranges.take());
        let names = [first.allocate(), first.allocate(), second.allocate()];
        assert_eq!(names, [ConnectionId(0), ConnectionId(1), ConnectionId(1 << 32)]);
        assert_eq!(ConnectionIds::range_of(names[1]), Some(0));
        assert_eq!(ConnectionIds::range_of(names[2]), Some(second.range()));
        assert_eq!(
            ConnectionIds::range_of(ConnectionId(ConnectionId::ACCEPTED | 1)),
            None
        );
    }
}
