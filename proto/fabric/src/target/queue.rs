//! A connection and the queue it carries: slots for the commands taken from it, flow control, and what its incoming data
//! belongs to.
//!
//! Invariants: at most as many commands as the queue has entries; a slot's index is also the transfer tag of its R2T; two
//! commands of one queue never have the same identifier.

use super::command::Command;
use super::subsystem::SubsystemRef;
use super::table::RowIndex;
use super::waiting::Line;
use crate::driver::{ConnectionId, ReactorIndex};
use crate::tcp::target::Session;
use block::Time;
use nvme::{Cid, Cntlid, Qid};

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) name: ConnectionId,
    pub(crate) session: Session,
    pub(crate) phase: Phase,
    pub(crate) incoming: Option<Incoming>,
    /// The connection's way between the machines of the process.
    pub(crate) transit: Transit,
    /// While it has no queue: the bytes that whoever it is handed over to must read.
    pub(crate) kept: Vec<u8>,
    pub(crate) commands: Commands,
    /// How many of them are handed out.
    pub(crate) executing: u32,
    /// How many of them were asked for data that has not all come.
    pub(crate) solicited: u32,
    /// How much data is held for commands that have no buffer.
    pub(crate) held_bytes: u32,
    /// Those that wait for memory.
    pub(crate) line: Line,
}

impl Connection {
    /// The queue that the connection carries, if it has one already and still.
    #[inline]
    pub(crate) fn queue(&self) -> Option<Queue> {
        match self.phase {
            Phase::Queue(queue) => Some(queue),
            _ => None,
        }
    }
}

/// A connection's way between the machines of a process: at most one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transit {
    /// Accepted here.
    Accepted,
    /// Handed over, and its first Connect not carried out yet: what is answered until then, the other machine has answered.
    Replaying,
    /// Handed over, and here to stay.
    Arrived,
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Has no queue yet; cut off at the deadline.
    Fresh { deadline: Time },
    /// Carries a queue.
    Queue(Queue),
    /// Its Connect names a subsystem of another machine: handed over before its next byte is read.
    Leaving { to: ReactorIndex },
    /// Told why it ends; cut off at the deadline if the host does not close.
    Terminating { deadline: Time },
}

impl Phase {
    /// When the connection is cut off, if it does not go on.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match self {
            Phase::Fresh { deadline } | Phase::Terminating { deadline } => Some(*deadline),
            Phase::Queue(_) | Phase::Leaving { .. } => None,
        }
    }
}

/// Where a controller is: its rows in the tables of subsystems and of its subsystem's controllers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ControllerRows {
    /// `None` for the discovery subsystem.
    pub(crate) subsystem: Option<RowIndex>,
    pub(crate) controller: RowIndex,
}

/// A queue pair of a controller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) subsystem: SubsystemRef,
    pub(crate) cntlid: Cntlid,
    pub(crate) qid: Qid,
    pub(crate) rows: ControllerRows,
    entries: u16,
    flow_control: bool,
    head: u16,
    /// Completions in a row that did not tell the head.
    untold: u16,
}

impl Queue {
    pub(crate) fn new(
        subsystem: SubsystemRef,
        cntlid: Cntlid,
        rows: ControllerRows,
        connect: &nvme::command::Connect,
    ) -> Queue {
        Queue {
            subsystem,
            cntlid,
            qid: connect.qid,
            rows,
            entries: u16::try_from(connect.sqsize.count()).expect("checked against the limit"),
            flow_control: !connect.attributes.disable_sq_flow_control,
            head: 0,
            untold: 0,
        }
    }

    /// How many commands may be under way.
    pub(crate) fn entries(&self) -> u16 {
        self.entries
    }

    /// A command completes with a response capsule: its SQHD. The head moves when a command completes, so that a host never has more
    /// under way than there are slots.
    pub(crate) fn complete(&mut self) -> u16 {
        if !self.flow_control {
            return nvme::command::Connect::SQHD_FLOW_CONTROL_DISABLED;
        }
        self.untold = 0;
        self.advance_head();
        self.head
    }

    /// A command completes with data and nothing else to say: whether it does so without a response capsule, and thus without
    /// SQHD. Under flow control at least one completion of so many as are a tenth of the queue tells the head, and each where
    /// nine tenths of it are `under_way` (Base 2.1, section 3.3.2.7).
    pub(crate) fn complete_silently(&mut self, under_way: u16) -> bool {
        if !self.flow_control {
            return true;
        }
        let full = u32::from(under_way) * 10 >= u32::from(self.entries) * 9;
        if self.qid == Qid::ADMIN || full || self.untold + 1 >= self.entries / 10 {
            return false;
        }
        self.untold += 1;
        self.advance_head();
        true
    }

    fn advance_head(&mut self) {
        self.head += 1;
        if self.head == self.entries {
            self.head = 0;
        }
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

/// No slot.
const NONE: u16 = u16::MAX;

/// The commands taken from a queue and not answered yet. A command is found by its slot, and by its identifier: those with
/// the same low bits are chained.
#[derive(Debug)]
pub(crate) struct Commands {
    slots: Vec<Slot>,
    /// The first free slot.
    free: u16,
    /// By the low bits of identifiers: the first slot of each chain. A power of two of them.
    chains: Vec<u16>,
    count: u16,
    limit: u16,
}

#[derive(Debug)]
struct Slot {
    command: Option<Command>,
    /// The next slot of the same chain, or the next free one.
    next: u16,
}

impl Commands {
    /// For so many commands at the same time.
    pub(crate) fn new(limit: u16) -> Commands {
        Commands {
            slots: Vec::new(),
            free: NONE,
            chains: vec![NONE; usize::from(limit).next_power_of_two()],
            count: 0,
            limit,
        }
    }

    /// From now on so many commands may be under way.
    pub(crate) fn set_limit(&mut self, limit: u16) {
        self.limit = limit;
        self.chains = vec![NONE; usize::from(limit).next_power_of_two()];
        for slot in 0..self.slots.len() {
            if let Some(command) = &self.slots[slot].command {
                let chain = self.chain(command.cid());
                self.slots[slot].next = std::mem::replace(&mut self.chains[chain], slot as u16);
            }
        }
    }

    #[inline]
    fn chain(&self, cid: Cid) -> usize {
        usize::from(cid.0) & (self.chains.len() - 1)
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.count >= self.limit
    }

    /// How many are under way.
    #[inline]
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Whether a command of that identifier is under way.
    #[inline]
    pub(crate) fn has_cid(&self, cid: Cid) -> bool {
        let mut at = self.chains[self.chain(cid)];
        while let Some(slot) = self.slots.get(usize::from(at)) {
            if slot.command.as_ref().is_some_and(|command| command.cid() == cid) {
                return true;
            }
            at = slot.next;
        }
        false
    }

    /// Takes a command in; there must be room, and its identifier free.
    pub(crate) fn insert(&mut self, command: Command) -> u16 {
        assert!(!self.is_full(), "a command beyond the queue's entries");
        debug_assert!(!self.has_cid(command.cid()), "a command identifier twice");
        let chain = self.chain(command.cid());
        let next = self.chains[chain];
        let slot = match self.slots.get_mut(usize::from(self.free)) {
            Some(free) => {
                let slot = std::mem::replace(&mut self.free, free.next);
                free.command = Some(command);
                free.next = next;
                slot
            }
            None => {
                let slot = u16::try_from(self.slots.len()).expect("no more slots than entries");
                self.slots.push(Slot {
                    command: Some(command),
                    next,
                });
                slot
            }
        };
        self.chains[chain] = slot;
        self.count += 1;
        slot
    }

    #[inline]
    pub(crate) fn get(&self, slot: u16) -> Option<&Command> {
        self.slots.get(usize::from(slot))?.command.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u16) -> Option<&mut Command> {
        self.slots.get_mut(usize::from(slot))?.command.as_mut()
    }

    /// Forgets a command; whether it was there.
    pub(crate) fn remove(&mut self, slot: u16) -> bool {
        let Some(freed) = self.slots.get_mut(usize::from(slot)) else {
            return false;
        };
        let Some(command) = &freed.command else {
            return false;
        };
        let cid = command.cid();
        freed.command = None;
        let next = std::mem::replace(&mut freed.next, self.free);
        self.free = slot;
        self.count -= 1;
        let chain = self.chain(cid);
        let mut at = self.chains[chain];
        if at == slot {
            self.chains[chain] = next;
            return true;
        }
        while self.slots[usize::from(at)].next != slot {
            at = self.slots[usize::from(at)].next;
        }
        self.slots[usize::from(at)].next = next;
        true
    }

    /// Every command with its slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Command)> {
        let numbered = (0u16..).zip(&self.slots);
        numbered.filter_map(|(number, slot)| Some((number, slot.command.as_ref()?)))
    }

    /// Takes every command out.
    pub(crate) fn drain(&mut self) -> Vec<Command> {
        self.chains.fill(NONE);
        self.free = NONE;
        self.count = 0;
        let slots = std::mem::take(&mut self.slots).into_iter();
        slots.filter_map(|slot| slot.command).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Deliberate bugs these catch: a chain that loses its rest with its head or with one in its middle, a free slot
    //! that is still found.
    use super::super::command::{Origin, Work};
    use super::*;
    use nvme::{Nsid, Status};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn command(cid: u16) -> Command {
        let origin = Origin {
            cid: Cid(cid),
            opcode: 0,
            nsid: Nsid(1),
        };
        Command::new(0, origin, Work::Refused(Status::SUCCESS.into()), 0)
    }

    proptest! {
        #[test]
        fn commands_are_found_by_identifier_while_they_are_under_way(
            limit in 1u16..9, grown in 8u16..12, acts in proptest::collection::vec((any::<bool>(), 0u16..24, any::<prop::sample::Index>()), 1..200)
        ) {
            let mut commands = Commands::new(limit);
            let mut known: BTreeMap<u16, u16> = BTreeMap::new();
            for (at, (comes, cid, which)) in acts.iter().enumerate() {
                if at == 60 {
                    commands.set_limit(grown);
                }
                prop_assert_eq!(commands.is_full(), known.len() >= usize::from(if at >= 60 { grown } else { limit }));
                if *comes && !commands.is_full() && !known.contains_key(cid) {
                    let slot = commands.insert(command(*cid));
                    prop_assert!(!known.values().any(|other| *other == slot));
                    known.insert(*cid, slot);
                } else if !known.is_empty() {
                    let cid = *which.get(&known.keys().copied().collect::<Vec<_>>());
                    let slot = known.remove(&cid).expect("one of those");
                    prop_assert_eq!(commands.get(slot).map(Command::cid), Some(Cid(cid)));
                    prop_assert!(commands.remove(slot));
                    prop_assert!(!commands.remove(slot));
                }
                for cid in 0..24 {
                    prop_assert_eq!(commands.has_cid(Cid(cid)), known.contains_key(&cid));
                }
                prop_assert_eq!(commands.iter().count(), known.len());
            }
            prop_assert_eq!(commands.drain().len(), known.len());
        }
    }
}
