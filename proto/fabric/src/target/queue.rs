//! A connection and the queue it carries: slots for the commands taken from it, flow control, and what its incoming data
//! belongs to.
//!
//! Invariants: at most as many commands as the queue has entries; a slot's index is also the transfer tag of its R2T; two
//! commands of one queue never have the same identifier.

use super::command::Command;
use super::subsystem::SubsystemRef;
use crate::tcp::target::Session;
use block::Time;
use nvme::{Cid, Cntlid, Qid};
use std::collections::BTreeSet;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) session: Session,
    pub(crate) phase: Phase,
    pub(crate) incoming: Option<Incoming>,
    /// Another target of the process has answered the initialisation.
    pub(crate) initialized_elsewhere: bool,
    pub(crate) commands: Commands,
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Has no queue yet; cut off at the deadline.
    Fresh { deadline: Time },
    /// Carries a queue.
    Queue(Queue),
    /// Told why it ends; cut off at the deadline if the host does not close.
    Terminating { deadline: Time },
}

impl Phase {
    /// When the connection is cut off, if it does not go on.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match self {
            Phase::Fresh { deadline } | Phase::Terminating { deadline } => Some(*deadline),
            Phase::Queue(_) => None,
        }
    }
}

/// A queue pair of a controller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) subsystem: SubsystemRef,
    pub(crate) cntlid: Cntlid,
    pub(crate) qid: Qid,
    entries: u16,
    flow_control: bool,
    head: u16,
}

impl Queue {
    pub(crate) fn new(
        subsystem: SubsystemRef,
        cntlid: Cntlid,
        qid: Qid,
        entries: u16,
        flow_control: bool,
    ) -> Queue {
        Queue {
            subsystem,
            cntlid,
            qid,
            entries,
            flow_control,
            head: 0,
        }
    }

    /// SQHD of the next completion. The head moves when a command completes, so that a host never has more under way than
    /// there are slots.
    pub(crate) fn advance_head(&mut self) -> u16 {
        if !self.flow_control {
            return nvme::command::Connect::SQHD_FLOW_CONTROL_DISABLED;
        }
        self.head = (self.head + 1) % self.entries;
        self.head
    }

    /// Whether a successful command needs no response capsule behind its data: nobody waits for a queue head.
    pub(crate) fn may_omit_response(&self) -> bool {
        !self.flow_control
    }
}

/// Whose the data that comes in now is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    /// `None`: of a command that was answered already.
    pub(crate) slot: Option<u16>,
    /// Where the next byte goes.
    pub(crate) offset: u32,
    /// Nothing comes behind it.
    pub(crate) last: bool,
}

/// The commands taken from a queue and not answered yet.
#[derive(Debug)]
pub(crate) struct Commands {
    slots: Vec<Option<Command>>,
    free: Vec<u16>,
    cids: BTreeSet<Cid>,
    limit: u16,
}

impl Commands {
    pub(crate) fn new(limit: u16) -> Commands {
        Commands {
            slots: Vec::new(),
            free: Vec::new(),
            cids: BTreeSet::new(),
            limit,
        }
    }

    /// From now on so many commands may be under way.
    pub(crate) fn set_limit(&mut self, limit: u16) {
        self.limit = limit;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.cids.len() >= usize::from(self.limit)
    }

    pub(crate) fn has_cid(&self, cid: Cid) -> bool {
        self.cids.contains(&cid)
    }

    /// Takes a command in; there must be room, and its identifier free.
    pub(crate) fn insert(&mut self, command: Command) -> u16 {
        assert!(!self.is_full(), "a command beyond the queue's entries");
        assert!(self.cids.insert(command.cid()), "a command identifier twice");
        match self.free.pop() {
            Some(slot) => {
                self.slots[usize::from(slot)] = Some(command);
                slot
            }
            None => {
                self.slots.push(Some(command));
                u16::try_from(self.slots.len() - 1).expect("no more slots than entries")
            }
        }
    }

    pub(crate) fn get(&self, slot: u16) -> Option<&Command> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u16) -> Option<&mut Command> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    pub(crate) fn remove(&mut self, slot: u16) -> Option<Command> {
        let command = self.slots.get_mut(usize::from(slot))?.take()?;
        self.free.push(slot);
        self.cids.remove(&command.cid());
        Some(command)
    }

    /// Every command with its slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Command)> {
        let numbered = (0u16..).zip(&self.slots);
        numbered.filter_map(|(slot, command)| Some((slot, command.as_ref()?)))
    }

    /// Takes every command out.
    pub(crate) fn drain(&mut self) -> Vec<Command> {
        self.free.clear();
        self.cids.clear();
        std::mem::take(&mut self.slots).into_iter().flatten().collect()
    }
}
