//! From a command to the backend: what is checked at the moment a command is handed out, what it waits for, and what
//! becomes of it when its connection ends first.
//!
//! Invariants: a command is handed out only while its host may do that; never while an orphan overlaps it (R8).

use super::command::{CommandRef, LaneAt, Payload, Stage};
use super::config::SubsystemKey;
use super::table::{RowIndex, Table};
use super::{IoId, Target, TargetOutput};
use crate::driver::ConnectionId;
use block::{BlockRange, Memory, Request, Time};
use nvme::HostId;
use std::collections::VecDeque;

/// So many hosts of a namespace are remembered though they have nothing in flight.
const HOSTS_KEPT: usize = 16;

/// What is under way to one namespace. It outlives the namespace's configuration.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// How much is handed out.
    in_flight: u32,
    /// How much of it on behalf of whom. Entries without any are used again.
    hosts: Vec<(HostId, u32)>,
    /// Handed out, and the connection is gone.
    orphans: Vec<(IoId, Footprint)>,
    /// Commands that an orphan overlaps.
    pub(crate) waiting: VecDeque<CommandRef>,
    /// A reservation command waits or is being carried out.
    pub(crate) reserving: bool,
    /// How much memory its commands hold.
    pub(crate) lent_bytes: u64,
    /// The namespace is gone: the lane goes when nothing is under way any more.
    gone: bool,
}

/// The lanes of all namespaces.
pub(crate) type Lanes = Table<(SubsystemKey, u32), Lane>;

impl Lanes {
    /// Where a namespace's lane is; made if there is none.
    pub(crate) fn row_of(&mut self, key: (SubsystemKey, u32)) -> RowIndex {
        match self.row(&key) {
            Some(row) => row,
            None => self.insert(key, Lane::default()),
        }
    }

    /// A namespace came.
    pub(crate) fn revive(&mut self, key: (SubsystemKey, u32)) {
        if let Some(lane) = self.get_mut(&key) {
            lane.gone = false;
        }
    }

    /// A namespace is gone.
    pub(crate) fn retire(&mut self, key: (SubsystemKey, u32)) {
        if let Some(lane) = self.get_mut(&key) {
            lane.gone = true;
        }
        self.sweep(key);
    }

    /// Forgets a lane that nobody needs.
    pub(crate) fn sweep(&mut self, key: (SubsystemKey, u32)) {
        if self.get(&key).is_some_and(Lane::is_done) {
            self.remove(&key);
        }
    }
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
        if self.orphans.is_empty() {
            return false;
        }
        let wanted = Footprint::of(request);
        self.orphans.iter().any(|(_, orphan)| orphan.conflicts(wanted))
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty() && self.lent_bytes == 0
    }

    /// Whether nobody needs it any more.
    pub(crate) fn is_done(&self) -> bool {
        self.gone && self.is_idle()
    }

    /// One more is handed out on behalf of a host: where it is counted. `hint` is where the host's last one was.
    fn begin(&mut self, host: HostId, hint: u32) -> u32 {
        self.in_flight += 1;
        let at = match self.hosts.get(hint as usize) {
            Some((known, _)) if *known == host => hint as usize,
            _ => self.entry_of(host),
        };
        self.hosts[at].1 += 1;
        at as u32
    }

    /// Where a host is counted: its own entry, or a fresh one, or one that nobody needs.
    fn entry_of(&mut self, host: HostId) -> usize {
        if let Some(known) = self.hosts.iter().position(|(known, _)| *known == host) {
            return known;
        }
        let unused = self.hosts.iter().position(|(_, count)| *count == 0);
        match unused.filter(|_| self.hosts.len() >= HOSTS_KEPT) {
            Some(at) => {
                self.hosts[at] = (host, 0);
                at
            }
            None => {
                self.hosts.push((host, 0));
                self.hosts.len() - 1
            }
        }
    }

    /// One has ended.
    fn end(&mut self, counted_at: u32) {
        self.in_flight -= 1;
        self.hosts[counted_at as usize].1 -= 1;
    }

    /// The hosts on whose behalf something is handed out.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = HostId> {
        let busy = self.hosts.iter().filter(|(_, count)| *count > 0);
        busy.map(|(host, _)| *host)
    }
}

/// A request that was handed out.
#[derive(Debug)]
pub(crate) struct Execution {
    key: (SubsystemKey, u32),
    lane: RowIndex,
    /// Where the lane counts it.
    counted_at: u32,
    footprint: Footprint,
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
    /// What is under way there.
    pub(crate) lane: RowIndex,
    /// Where it counts what is in flight for this host.
    pub(crate) counted_at: u32,
}

impl Target {
    /// Hands a command's request out, unless an orphan overlaps it.
    pub(crate) fn hand_out(&mut self, id: ConnectionId, slot: u16, place: &Place, request: Request) {
        let key = (place.subsystem, place.nsid);
        let live = self.connections.get_mut(id).expect("the command is alive");
        let command = live.commands.get_mut(slot).expect("the command is alive");
        let name = CommandRef {
            connection: id,
            slot,
            serial: command.serial,
        };
        let lane = self.lanes.at_mut(place.lane, key).expect("it has a route");
        if lane.blocks(&request) {
            lane.waiting.push_back(name);
            command.stage = Stage::WaitingForOrphans;
            return;
        }
        let counted_at = lane.begin(place.host, place.counted_at);
        let io = self.executions.insert(Execution {
            key,
            lane: place.lane,
            counted_at,
            footprint: Footprint::of(&request),
            owner: Owner::Command(name),
        });
        command.stage = Stage::Executing(io);
        live.executing += 1;
        if counted_at != place.counted_at
            && let Some(queue) = live.queue()
            && let Some(controller) = self.controller_of(&queue)
        {
            controller.routes.count_at(place.nsid, counted_at);
        }
        self.asked.push_back(TargetOutput::Execute {
            io,
            subsystem: place.subsystem,
            nsid: place.nsid,
            host: place.host,
            request,
        });
    }

    /// The connection of a request that was handed out is gone.
    pub(crate) fn orphan(&mut self, io: IoId, payload: Payload) {
        let execution = self.executions.get_mut(io).expect("handed out");
        execution.owner = Owner::Orphan(payload);
        let lane = self.lanes.at_mut(execution.lane, execution.key);
        let lane = lane.expect("something is in flight there");
        lane.orphans.push((io, execution.footprint));
    }

    /// The answer to a [`TargetOutput::Execute`].
    ///
    /// # Panics
    /// If `io` is not in flight: the node answered twice.
    pub fn complete(&mut self, now: Time, io: IoId, status: block::Status, memory: &mut dyn Memory) {
        let execution = self
            .executions
            .remove(io)
            .expect("the node answers what was handed out, once");
        let (row, key) = (execution.lane, execution.key);
        let lane = self.lanes.at_mut(row, key).expect("something is in flight there");
        lane.end(execution.counted_at);
        match execution.owner {
            Owner::Command(name) => self.executed(now, name, status, memory),
            Owner::Orphan(payload) => {
                lane.orphans.retain(|(orphan, _)| *orphan != io);
                let lane = LaneAt { row, key };
                self.give_back(Some(lane), payload, memory);
                self.wake_lane(now, key, memory);
            }
        }
        if self.lanes.at(row, key).is_some_and(|lane| lane.reserving) {
            self.advance_reservations(now, key, memory);
        }
        if self.lanes.at(row, key).is_some_and(Lane::is_done) {
            self.lanes.remove(&key);
        }
        self.settle(now, memory);
    }

    /// Whether one of these connections has something handed out.
    pub(crate) fn has_in_flight(&self, connections: &[ConnectionId]) -> bool {
        let known = connections.iter().filter_map(|id| self.connections.get(*id));
        known.into_iter().any(|live| live.executing > 0)
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
}
