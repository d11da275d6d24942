//! From a command to the backend: what is checked at the moment a command is handed out, what it waits for, and what
//! becomes of it when its connection ends first.
//!
//! Invariants: a command is handed out only while its host may do that; never while an orphan overlaps it (R8); those
//! who wait for memory get it in order.

use super::command::{CommandRef, Payload, Stage};
use super::config::SubsystemKey;
use super::{IoId, Target, TargetOutput};
use crate::driver::ConnectionId;
use block::{BlockRange, Duration, Memory, Request, Time};
use nvme::HostId;
use std::collections::{BTreeMap, VecDeque};

/// How long to wait before asking again for memory that somebody else holds.
pub(crate) const MEMORY_RETRY: Duration = Duration::from_millis(1);

/// What is under way to one namespace. It outlives the namespace's configuration.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Handed out, and on whose behalf.
    pub(crate) in_flight: BTreeMap<IoId, HostId>,
    /// Handed out, and the connection is gone.
    orphans: BTreeMap<IoId, Footprint>,
    /// Commands that an orphan overlaps.
    pub(crate) waiting: VecDeque<CommandRef>,
}

/// Which blocks a request touches, and whether it changes them.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    range: BlockRange,
    modifies: bool,
}

impl Footprint {
    fn of(request: &Request) -> Footprint {
        Footprint {
            range: request.range,
            modifies: request.operation.modifies(),
        }
    }

    fn conflicts(self, other: Footprint) -> bool {
        (self.modifies || other.modifies) && self.range.overlaps(other.range)
    }
}

impl Lane {
    fn blocks(&self, request: &Request) -> bool {
        let wanted = Footprint::of(request);
        self.orphans.values().any(|orphan| orphan.conflicts(wanted))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty()
    }
}

/// A request that was handed out.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) subsystem: SubsystemKey,
    pub(crate) nsid: u32,
    request: Request,
    owner: Owner,
}

/// Who waits for a request's end.
#[derive(Debug)]
enum Owner {
    Command(CommandRef),
    /// Nobody; the buffers are kept until the end.
    Orphan(Payload),
}

/// To which namespace, on behalf of whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) subsystem: SubsystemKey,
    pub(crate) nsid: u32,
    pub(crate) host: HostId,
    /// The host switched the write cache off: writes are durable before they are answered.
    pub(crate) write_through: bool,
}

impl Target {
    /// Hands a command's request out, unless an orphan overlaps it.
    pub(crate) fn hand_out(&mut self, id: ConnectionId, slot: u16, place: Place, request: Request) {
        let name = self.name(id, slot);
        let lane = self.lanes.entry((place.subsystem, place.nsid)).or_default();
        if lane.blocks(&request) {
            lane.waiting.push_back(name);
            self.command_mut(name).expect("just named").stage = Stage::WaitingForOrphans;
            return;
        }
        self.next_io += 1;
        let io = IoId(self.next_io);
        lane.in_flight.insert(io, place.host);
        let execution = Execution {
            subsystem: place.subsystem,
            nsid: place.nsid,
            request,
            owner: Owner::Command(name),
        };
        self.executions.insert(io, execution);
        self.command_mut(name).expect("just named").stage = Stage::Executing(io);
        self.outputs.push_back(TargetOutput::Execute {
            io,
            subsystem: place.subsystem,
            nsid: place.nsid,
            host: place.host,
            request,
        });
    }

    /// The connection of a request that was handed out is gone.
    pub(crate) fn orphan(&mut self, io: IoId, payload: Payload) {
        let execution = self.executions.get_mut(&io).expect("handed out");
        execution.owner = Owner::Orphan(payload);
        let lane = self
            .lanes
            .get_mut(&(execution.subsystem, execution.nsid))
            .expect("something is in flight there");
        lane.orphans.insert(io, Footprint::of(&execution.request));
    }

    /// The answer to a [`TargetOutput::Execute`].
    ///
    /// # Panics
    /// If `io` is not in flight: the node answered twice.
    pub fn complete(&mut self, now: Time, io: IoId, status: block::Status, memory: &mut dyn Memory) {
        let execution = self
            .executions
            .remove(&io)
            .expect("the node answers what was handed out, once");
        let key = (execution.subsystem, execution.nsid);
        let lane = self.lanes.get_mut(&key).expect("something is in flight there");
        lane.in_flight.remove(&io);
        lane.orphans.remove(&io);
        match execution.owner {
            Owner::Command(name) => self.executed(now, name, status, memory),
            Owner::Orphan(payload) => {
                payload.release(memory);
                self.wake_lane(now, key, memory);
            }
        }
        self.advance_reservations(now, key, memory);
        self.sweep_lane(key);
        self.settle(now, memory);
    }

    /// Whether one of these connections has something handed out.
    pub(crate) fn has_in_flight(&self, connections: &[ConnectionId]) -> bool {
        self.executions.values().any(|execution| match &execution.owner {
            Owner::Command(name) => connections.contains(&name.connection),
            Owner::Orphan(_) => false,
        })
    }

    /// Commands that waited for orphans look again.
    pub(crate) fn wake_lane(&mut self, now: Time, key: (SubsystemKey, u32), memory: &mut dyn Memory) {
        let Some(lane) = self.lanes.get_mut(&key) else {
            return;
        };
        for name in std::mem::take(&mut lane.waiting) {
            if self
                .command(name)
                .is_some_and(|command| command.stage == Stage::WaitingForOrphans)
            {
                self.execute(now, name.connection, name.slot, memory);
            }
        }
    }

    /// Forgets a lane that nobody needs.
    pub(crate) fn sweep_lane(&mut self, key: (SubsystemKey, u32)) {
        let exists = self
            .subsystems
            .get(&key.0)
            .is_some_and(|subsystem| subsystem.namespaces.contains_key(&key.1));
        if !exists && self.lanes.get(&key).is_some_and(Lane::is_idle) {
            self.lanes.remove(&key);
        }
    }

    /// Whether a command may ask for memory now: those who wait go first.
    pub(crate) fn may_allocate(&self) -> bool {
        self.serving_waiter || self.memory_waiters.is_empty()
    }

    /// There is no buffer: the command waits its turn.
    pub(crate) fn wait_for_memory(&mut self, now: Time, id: ConnectionId, slot: u16, to_receive: bool) {
        let name = self.name(id, slot);
        self.command_mut(name).expect("just named").stage = Stage::WaitingForMemory { to_receive };
        match self.serving_waiter {
            true => self.memory_waiters.push_front(name),
            false => self.memory_waiters.push_back(name),
        }
        self.wake_at(now + MEMORY_RETRY);
    }

    /// Serves those who wait for memory, in order, as far as it goes.
    pub(crate) fn serve_memory_waiters(&mut self, now: Time, memory: &mut dyn Memory) {
        while let Some(name) = self.memory_waiters.pop_front() {
            let Some(command) = self.command(name) else {
                continue;
            };
            let Stage::WaitingForMemory { to_receive } = command.stage else {
                continue;
            };
            self.serving_waiter = true;
            match to_receive {
                true => self.solicit(now, name.connection, name.slot, memory),
                false => self.execute(now, name.connection, name.slot, memory),
            }
            self.serving_waiter = false;
            let still_waits =
                |command: &super::command::Command| matches!(command.stage, Stage::WaitingForMemory { .. });
            if self.command(name).is_some_and(still_waits) {
                return;
            }
        }
    }
}
