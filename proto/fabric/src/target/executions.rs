//! What was handed out and not answered yet, by the slot in its name: one step to any of it.
//!
//! Invariant: a name is never used again; its slot is.

use super::IoId;
use super::admission::Execution;

#[derive(Debug, Default)]
pub(crate) struct Executions {
    slots: Vec<Option<(IoId, Execution)>>,
    free: Vec<u32>,
    serial: u64,
}

impl Executions {
    /// How many low bits of a name are its slot.
    const SLOT_BITS: u32 = 20;

    /// Something is handed out: its name.
    pub(crate) fn insert(&mut self, execution: Execution) -> IoId {
        let slot = self.free.pop().unwrap_or_else(|| {
            assert!(
                self.slots.len() < 1 << Executions::SLOT_BITS,
                "too much in flight"
            );
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.serial += 1;
        let io = IoId(self.serial << Executions::SLOT_BITS | u64::from(slot));
        self.slots[slot as usize] = Some((io, execution));
        io
    }

    fn slot(io: IoId) -> usize {
        (io.0 & ((1 << Executions::SLOT_BITS) - 1)) as usize
    }

    /// It was answered.
    pub(crate) fn remove(&mut self, io: IoId) -> Option<Execution> {
        let slot = self.slots.get_mut(Executions::slot(io))?;
        if slot.as_ref().is_none_or(|(name, _)| *name != io) {
            return None;
        }
        self.free.push(Executions::slot(io) as u32);
        slot.take().map(|(_, execution)| execution)
    }

    pub(crate) fn get_mut(&mut self, io: IoId) -> Option<&mut Execution> {
        match self.slots.get_mut(Executions::slot(io)) {
            Some(Some((name, execution))) if *name == io => Some(execution),
            _ => None,
        }
    }
}
