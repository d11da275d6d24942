//! What an association sends, and on which queue: commands to sessions, sessions' segments to the driver.
//!
//! Segments stay with their session until the driver takes them: what is asked for in one turn leaves together, and nothing is
//! carried through a queue more than it must.
//!
//! Invariants: a queue whose session has something to send is in `unsent`, once; what is in `unsent` is there. Closing a
//! connection in order is preceded by [`Association::flush`].

use super::{ADMIN, Association};
use crate::driver::{ConnectionId, Segment};
use crate::host::command::Command;
use crate::host::entries;
use crate::host::event::{AssociationEvent, AssociationOutput};
use crate::host::queue::{Owner, Queue};
use crate::host::requests::{Limits, RequestKey};
use block::{Memory, Time};

impl Association {
    /// What is to be done next, until nothing is.
    pub fn poll_output(&mut self) -> Option<AssociationOutput> {
        if let Some(news) = self.poll_news() {
            return Some(news);
        }
        let (connection, segment) = self.poll_segment()?;
        Some(AssociationOutput::Send { connection, segment })
    }

    /// What is to be done next but for what sessions have to send: [`Association::poll_segment`] has that.
    #[inline]
    pub(crate) fn poll_news(&mut self) -> Option<AssociationOutput> {
        if let Some((tag, result)) = self.ended.pop_front() {
            return Some(AssociationOutput::Event(AssociationEvent::Completed {
                tag,
                result,
            }));
        }
        self.outputs.pop_front()
    }

    /// What a session has to send; after all news.
    #[inline]
    pub(crate) fn poll_segment(&mut self) -> Option<(ConnectionId, Segment)> {
        while let Some(index) = self.unsent.last().copied() {
            let queue = self.queue_at(index).expect("listed queues are there");
            let connection = queue.connection;
            if let Some(segment) = queue.poll_segment() {
                return Some((connection, segment));
            }
            queue.listed = false;
            self.unsent.pop();
        }
        None
    }

    pub(super) fn send_admin(
        &mut self,
        now: Time,
        owner: Owner,
        command: entries::Prepared,
        memory: &mut dyn Memory,
    ) {
        let queue = self
            .admin
            .as_mut()
            .expect("there is an admin queue in every phase that sends");
        assert!(queue.has_room(), "the admin queue has room for one of each kind");
        queue.send(now, owner, command, memory);
        self.list(ADMIN);
    }

    pub(super) fn send_waiting(&mut self, now: Time, memory: &mut dyn Memory) {
        let limits = self.limits();
        while self.requests.is_waiting() {
            let Some(index) = self.io_queue_with_room() else {
                return;
            };
            let part = self.requests.next_part(limits).expect("one is waiting");
            self.send_part(now, index, part.key, part.nsid, &part.command, memory);
        }
    }

    /// Sends on the I/O queue of this number, which has room.
    #[inline]
    pub(super) fn send_part(
        &mut self,
        now: Time,
        index: usize,
        key: RequestKey,
        nsid: u32,
        command: &Command,
        memory: &mut dyn Memory,
    ) {
        self.next_io = index + 1;
        let queue = &mut self.io[index];
        queue.send_part(now, key, nsid, command, memory);
        if !core::mem::replace(&mut queue.listed, true) {
            self.unsent.push(index + 1);
        }
    }

    /// The next queue with room, round robin.
    #[inline]
    pub(super) fn io_queue_with_room(&self) -> Option<usize> {
        let count = self.io.len();
        let first = if self.next_io < count { self.next_io } else { 0 };
        (first..count)
            .chain(0..first)
            .find(|index| self.io[*index].has_room())
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            transfer_blocks: u64::from(self.facts.max_transfer_blocks).max(1),
            ..Limits::FIELDS
        }
    }

    /// A queue may have something to send.
    pub(super) fn list(&mut self, index: usize) {
        let Some(queue) = self.queue_at(index) else {
            return;
        };
        if !core::mem::replace(&mut queue.listed, true) {
            self.unsent.push(index);
        }
    }

    /// Everything that sessions have to send goes before what is asked for from now on.
    pub(super) fn flush(&mut self) {
        while let Some((connection, segment)) = self.poll_segment() {
            self.outputs
                .push_back(AssociationOutput::Send { connection, segment });
        }
    }

    // Queues by index: the admin queue's is zero, an I/O queue's is its identifier.

    /// The index of a connection's queue: their names count up from the admin queue's.
    pub(super) fn index_of(&self, connection: ConnectionId) -> Option<usize> {
        let first = self.admin.as_ref()?.connection;
        let index = usize::try_from(connection.0.checked_sub(first.0)?).ok()?;
        (index <= self.io.len()).then_some(index)
    }

    pub(super) fn queue_at(&mut self, index: usize) -> Option<&mut Queue> {
        match index {
            ADMIN => self.admin.as_mut(),
            _ => self.io.get_mut(index - 1),
        }
    }
}
