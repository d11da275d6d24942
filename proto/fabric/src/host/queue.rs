//! One queue of an association: a TCP connection, its session, and the commands in flight on it.
//!
//! Not here: what commands mean and who waits for them; a command's [`Owner`] says that to the association.
//!
//! Invariants: a command identifier is in use from `send` until its answer was polled; commands with a deadline stand
//! in `sent` in the order they were sent, and the first of them is in flight.

use super::command::Command;
use super::entries::{self, Prepared};
use super::requests::RequestKey;
use crate::driver::{ConnectionId, Segment};
use crate::tcp::framing::Digests;
use crate::tcp::host::{Arrival, Fault, Session};
use block::{BufferSlice, Memory, Time};
use nvme::CompletionQueueEntry;
use std::collections::VecDeque;

/// Who waits for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The queue's own Connect.
    Connect,
    /// The next step of setting the association up.
    Setup,
    /// Keep Alive.
    KeepAlive,
    /// An Asynchronous Event Request: answered when something happens, so never late.
    AsyncEvent,
    /// Reading the namespaces.
    Scan,
    /// Shutting the controller down.
    Shutdown,
    /// Reading the discovery log.
    Discovery,
    /// A part of a request.
    Part(RequestKey),
}

/// A command in flight.
#[derive(Clone, Copy, Debug)]
struct Slot {
    owner: Owner,
    sent_at: Time,
    serial: u64,
}

/// A command's end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) owner: Owner,
    pub(crate) entry: CompletionQueueEntry,
    pub(crate) bytes: Vec<u8>,
    pub(crate) sent_at: Time,
}

/// What a queue tells the association.
#[derive(Debug)]
pub(crate) enum QueueEvent {
    /// The connection is initialised: Connect may be sent.
    Initialized,
    /// A command has ended.
    Answered(Answer),
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) connection: ConnectionId,
    /// Connect was answered: commands may be sent.
    pub(crate) live: bool,
    /// The association's list of queues with something to send has it.
    pub(crate) listed: bool,
    digests: Digests,
    /// Commands with at most so many bytes to send carry them in the capsule.
    pub(crate) in_capsule_bytes: u32,
    session: Option<Session>,
    slots: Vec<Option<Slot>>,
    free: Vec<u16>,
    sent: VecDeque<(u16, u64, Time)>,
    next_serial: u64,
}

impl Queue {
    /// A queue for `commands` commands on a connection that has been asked for.
    pub(crate) fn new(
        connection: ConnectionId,
        digests: Digests,
        commands: u16,
        in_capsule_bytes: u32,
    ) -> Queue {
        Queue {
            connection,
            live: false,
            listed: false,
            digests,
            in_capsule_bytes,
            session: None,
            slots: vec![None; usize::from(commands)],
            free: (0..commands).rev().collect(),
            sent: VecDeque::new(),
            next_serial: 0,
        }
    }

    /// The connection is open: initialisation begins. Whether that was awaited.
    pub(crate) fn open(&mut self) -> bool {
        if self.session.is_some() {
            return false;
        }
        let commands = u16::try_from(self.slots.len()).expect("made from a 16-bit count");
        self.session = Some(Session::new(self.digests, commands));
        true
    }

    /// How many commands it can have in flight.
    pub(crate) fn commands(&self) -> u16 {
        u16::try_from(self.slots.len()).expect("made from a 16-bit count")
    }

    /// Whether a command can be sent now.
    pub(crate) fn has_room(&self) -> bool {
        self.live && !self.free.is_empty()
    }

    /// Sends a command.
    ///
    /// # Panics
    /// If the connection is not initialised or the queue is full.
    pub(crate) fn send(&mut self, now: Time, owner: Owner, command: Prepared, memory: &mut dyn Memory) {
        let cid = self.occupy(now, owner);
        let command = command.address(cid, self.in_capsule_bytes);
        let session = self.session.as_mut().expect("the connection is open");
        session.send(cid, command, memory);
    }

    /// Sends a part of a request.
    ///
    /// # Panics
    /// As [`Queue::send`].
    #[inline]
    pub(crate) fn send_part(
        &mut self,
        now: Time,
        key: RequestKey,
        nsid: u32,
        command: &Command,
        memory: &mut dyn Memory,
    ) {
        let cid = self.occupy(now, Owner::Part(key));
        let command = entries::io(cid, nsid, command, self.in_capsule_bytes);
        let session = self.session.as_mut().expect("the connection is open");
        session.send(cid, command, memory);
    }

    /// A name for a command that is sent now.
    fn occupy(&mut self, now: Time, owner: Owner) -> u16 {
        let cid = self.free.pop().expect("the caller looked for room");
        let serial = self.next_serial;
        self.next_serial += 1;
        let sent_at = now;
        self.slots[usize::from(cid)] = Some(Slot {
            owner,
            sent_at,
            serial,
        });
        if owner != Owner::AsyncEvent {
            self.sent.push_back((cid, serial, now));
        }
        cid
    }

    /// Bytes came in; poll events even if that failed.
    ///
    /// # Errors
    /// The association must end.
    pub(crate) fn received(&mut self, bytes: &[u8], memory: &mut dyn Memory) -> Result<(), Fault> {
        match self.session.as_mut() {
            Some(session) => session.received(bytes, memory),
            None => Ok(()),
        }
    }

    /// Where the next bytes belong, if they are data for a buffer.
    pub(crate) fn landing(&self) -> Option<BufferSlice> {
        self.session.as_ref()?.landing()
    }

    /// So many bytes are where [`Queue::landing`] said.
    ///
    /// # Errors
    /// The association must end.
    ///
    /// # Panics
    /// If no landing was offered, or fewer bytes.
    pub(crate) fn landed(&mut self, length: u32, memory: &mut dyn Memory) -> Result<(), Fault> {
        let session = self
            .session
            .as_mut()
            .expect("what lands comes on an open connection");
        session.landed(length, memory)
    }

    /// What has come in, in order.
    pub(crate) fn poll_event(&mut self) -> Option<QueueEvent> {
        match self.session.as_mut()?.poll_arrival()? {
            Arrival::Initialized => Some(QueueEvent::Initialized),
            Arrival::Response { entry, bytes } => {
                let entry = CompletionQueueEntry::from_bytes(entry);
                let cid = entry.cid().0;
                let slot = self.slots[usize::from(cid)].take();
                let slot = slot.expect("the session refuses responses to no command");
                self.free.push(cid);
                self.forget_answered();
                Some(QueueEvent::Answered(Answer {
                    owner: slot.owner,
                    entry,
                    bytes,
                    sent_at: slot.sent_at,
                }))
            }
        }
    }

    /// What is to be sent, in order.
    #[inline]
    pub(crate) fn poll_segment(&mut self) -> Option<Segment> {
        self.session.as_mut()?.poll_segment()
    }

    /// When the oldest command in flight was sent, those without a deadline left out.
    pub(crate) fn oldest_sent_at(&self) -> Option<Time> {
        self.sent.front().map(|(_, _, sent_at)| *sent_at)
    }

    /// Restores that the first of `sent` is in flight.
    fn forget_answered(&mut self) {
        while let Some(&(cid, serial, _)) = self.sent.front() {
            let slot = self.slots[usize::from(cid)];
            if slot.is_some_and(|slot| slot.serial == serial) {
                return;
            }
            self.sent.pop_front();
        }
    }

    /// A request was given up: data that comes for its parts is dropped.
    pub(crate) fn discard(&mut self, key: RequestKey) {
        let session = self.session.as_mut();
        let Some(session) = session else { return };
        for (cid, slot) in (0..).zip(&self.slots) {
            if slot.is_some_and(|slot| slot.owner == Owner::Part(key)) {
                session.discard(cid);
            }
        }
    }

    /// The request that tells the controller why the connection ends, if one is owed.
    pub(crate) fn terminate(&self, fault: &Fault) -> Option<Segment> {
        self.session.as_ref()?.terminate(fault)
    }

    /// Gives back what the session holds; the connection is gone.
    pub(crate) fn release(&mut self, memory: &mut dyn Memory) {
        if let Some(session) = self.session.as_mut() {
            session.release(memory);
        }
    }
}
