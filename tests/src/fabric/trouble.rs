//! Doing what a story says, if it lies inside what is promised just then, and undoing it.

use super::atlas::{Fault, Guard, Planned};
use super::{Fabric, NodeName};
use crate::world::DiskTrouble;
use block::Time;
use cluster::LegId;
use std::time::Duration;

/// What ends a fault.
#[derive(Clone, Debug)]
pub(super) enum Undo {
    StartDiskNode(usize),
    StartController(usize),
    Heal(NodeName, NodeName),
    Hasten(NodeName, NodeName),
    /// It ends by itself.
    Nothing(&'static str),
}

/// How much slower slow things are.
const SLOW_LINK: u32 = 50;
const SLOW_DISK: u32 = 30;
/// A full queue lets one request go in this time.
const QUEUE_STEP: Duration = Duration::from_millis(3);
/// For how long a disk's errors last.
const ERRORS_LAST: Duration = Duration::from_millis(300);
/// What a group must have noticed within, of a leg that is not what it was.
const NOTICED: Duration = Duration::from_secs(15);

impl Fabric {
    /// Does it, unless its guard keeps it out.
    pub(super) fn inflict(&mut self, planned: &Planned) {
        let done = self.may(planned.fault.guard()) && self.carry_out(planned);
        let note = if done { "" } else { "  not now" };
        self.tell("fault", || {
            format!(
                "{:>3} {:?}, {:?}{note}",
                planned.number, planned.fault, planned.span
            )
        });
        self.outcome.faults += u64::from(done);
    }

    fn may(&mut self, guard: Guard) -> bool {
        let now = self.world.now();
        let waits = now < self.careful_until && (!self.excused.is_empty() || self.is_striking());
        if waits {
            return false;
        }
        self.excused.clear();
        guard == Guard::Always || self.is_in_order() && (guard == Guard::Alone || self.keeper.legs.len() > 1)
    }

    /// A disk's errors are on.
    fn is_striking(&mut self) -> bool {
        let now = self.world.now();
        let names: Vec<NodeName> = self.all_nodes().collect();
        names.into_iter().any(|name| {
            let trouble = self.world.disk_trouble(name);
            let until = trouble.failing_reads.or(trouble.failing_writes);
            until.is_some_and(|(_, until)| until > now)
        })
    }

    /// Everything is as it should be.
    fn is_in_order(&self) -> bool {
        let owner = self.controllers[self.keeper.owner];
        let told = self.told.get(&owner);
        let reached = told.is_some_and(|slice| {
            let mut legs = slice.groups.iter().flat_map(|group| &group.legs);
            slice.epoch == self.keeper.epoch && legs.all(|leg| leg.in_sync && leg.reachable)
        });
        let alive = self.all_nodes().all(|name| self.world.is_alive(name));
        reached
            && alive
            && self.keeper.in_sync.len() == self.keeper.legs.len()
            && self.serving() == self.keeper.epoch
            && self.world.now() >= self.store_back
            && self.undo.is_empty()
    }

    fn carry_out(&mut self, planned: &Planned) -> bool {
        let (span, pick) = (planned.span, planned.pick);
        let until = self.world.now() + span;
        let (owner, standby) = (self.keeper.owner, 1 - self.keeper.owner);
        match planned.fault {
            Fault::OwnerSwitched => self.switch_owner(),
            Fault::OwnerKilled => self.end_controller(owner, until, false),
            Fault::StandbyKilled => self.end_controller(standby, until, false),
            Fault::OwnerVanished => self.end_controller(owner, until, true),
            Fault::StandbyVanished => self.end_controller(standby, until, true),
            Fault::DiskNodeKilled => self.end_disk_node(pick, until, false),
            Fault::DiskNodeVanished => self.end_disk_node(pick, until, true),
            Fault::Paused => self.pause_one(pick, span),
            Fault::Cut | Fault::CutOneWay => self.cut_pair(pick, until, planned.fault == Fault::CutOneWay),
            Fault::Isolated => self.isolate(pick, until),
            Fault::Split => self.split(pick, until),
            Fault::SlowLink => self.slow_link(pick, until),
            Fault::ConnectionBroken => {
                let (one, other) = self.pair(pick);
                self.world.break_connection(one, other, pick >> 16)
            }
            Fault::ConnectionSwallowed => {
                let (one, other) = self.pair(pick);
                self.world.swallow_connection(one, other, pick >> 16)
            }
            Fault::StoreAway => {
                self.store_back = until;
                true
            }
            Fault::NewsGarbled => {
                self.garbled_until = until;
                true
            }
            Fault::PowerCut => self.cut_power(pick, until),
            Fault::Blackout => self.black_out(until, false),
            Fault::SiteBlackout => self.black_out(until, true),
            Fault::DiskSlow => self.disk(pick, |trouble| trouble.slow = Some((SLOW_DISK, until))),
            Fault::DiskQueueFull => self.disk(pick, |trouble| trouble.queue = Some((QUEUE_STEP, until))),
            Fault::DiskStuck => self.disk(pick, |trouble| trouble.stuck_until = Some(until)),
            Fault::ReadErrors => self.errors(pick, true),
            Fault::WriteErrors => self.errors(pick, false),
        }
    }

    fn later(&mut self, until: Time, undo: Undo) {
        self.undo.push((until, undo));
    }

    fn switch_owner(&mut self) -> bool {
        let to = 1 - self.keeper.owner;
        let alive = self.world.is_alive(self.controllers[to]);
        if alive {
            self.grant(to);
        }
        alive
    }

    fn end_controller(&mut self, index: usize, until: Time, silently: bool) -> bool {
        let name = self.controllers[index];
        if !self.world.is_alive(name) {
            return false;
        }
        self.end_process(name, silently);
        self.later(until, Undo::StartController(index));
        true
    }

    /// A process dies, and its kernel says so; or a machine does, and nobody says so.
    fn end_process(&mut self, name: NodeName, silently: bool) {
        self.tell("fault", || format!("    {}", self.name(name)));
        if silently {
            self.world.vanish(name);
        } else {
            self.world.kill(name);
        }
    }

    fn end_disk_node(&mut self, pick: u64, until: Time, silently: bool) -> bool {
        let index = (pick % self.disk_nodes.len() as u64) as usize;
        let name = self.disk_nodes[index].0;
        if !self.world.is_alive(name) {
            return false;
        }
        self.end_process(name, silently);
        self.later(until, Undo::StartDiskNode(index));
        true
    }

    /// A disk node, and what it has not on its media.
    fn lose_power(&mut self, index: usize, until: Time) {
        let name = self.disk_nodes[index].0;
        self.tell("fault", || format!("    {}", self.name(name)));
        self.world.cut_power(name);
        self.excused.insert(self.keeper.legs[index].leg);
        self.careful_until = self.world.now() + NOTICED;
        self.later(until, Undo::StartDiskNode(index));
    }

    fn cut_power(&mut self, pick: u64, until: Time) -> bool {
        let index = (pick % self.disk_nodes.len() as u64) as usize;
        self.lose_power(index, until);
        true
    }

    fn black_out(&mut self, until: Time, site: bool) -> bool {
        self.lose_caches();
        (0..self.disk_nodes.len()).for_each(|index| self.lose_power(index, until));
        if site {
            for index in 0..self.controllers.len() {
                self.end_controller(index, until, false);
            }
        }
        true
    }

    fn pause_one(&mut self, pick: u64, span: Duration) -> bool {
        let all: Vec<NodeName> = self.all_nodes().collect();
        let name = all[(pick % all.len() as u64) as usize];
        self.tell("fault", || format!("    {}", self.name(name)));
        self.world.pause(name, span);
        self.later(self.world.now() + span, Undo::Nothing("the pause"));
        true
    }

    /// Two nodes that speak to each other: a controller node, and a disk node or a host.
    fn pair(&self, pick: u64) -> (NodeName, NodeName) {
        let controller = self.controllers[(pick % 2) as usize];
        let disks = self.disk_nodes.iter().map(|(name, _)| *name);
        let others: Vec<NodeName> = disks.chain(self.hosts.iter().copied()).collect();
        let other = others[(pick / 2 % others.len() as u64) as usize];
        self.tell("fault", || {
            format!("    {} and {}", self.name(controller), self.name(other))
        });
        if pick >> 63 == 0 {
            (controller, other)
        } else {
            (other, controller)
        }
    }

    fn cut_pair(&mut self, pick: u64, until: Time, one_way: bool) -> bool {
        let (one, other) = self.pair(pick);
        if one_way {
            self.world.set_cut_one_way(one, other, true);
        } else {
            self.world.set_cut(one, other, true);
        }
        self.later(until, Undo::Heal(one, other));
        true
    }

    fn isolate(&mut self, pick: u64, until: Time) -> bool {
        let all: Vec<NodeName> = self.all_nodes().chain(self.hosts.iter().copied()).collect();
        let lonely = all[(pick % all.len() as u64) as usize];
        self.tell("fault", || format!("    {}", self.name(lonely)));
        for other in all.into_iter().filter(|other| *other != lonely) {
            self.world.set_cut(lonely, other, true);
            self.later(until, Undo::Heal(lonely, other));
        }
        true
    }

    fn slow_link(&mut self, pick: u64, until: Time) -> bool {
        let (one, other) = self.pair(pick);
        self.world.set_slow(one, other, SLOW_LINK);
        self.later(until, Undo::Hasten(one, other));
        true
    }

    /// The worst for one owner: the next one reaches all legs but one, the present one that leg only.
    fn split(&mut self, pick: u64, until: Time) -> bool {
        let (old, new) = (self.keeper.owner, 1 - self.keeper.owner);
        if self.disk_nodes.len() < 2 || !self.world.is_alive(self.controllers[new]) {
            return false;
        }
        let kept = (pick % self.disk_nodes.len() as u64) as usize;
        self.tell("fault", || format!("    ctrl{old} is left with disk{kept}"));
        for index in 0..self.disk_nodes.len() {
            let away = if index == kept { new } else { old };
            let (disk, controller) = (self.disk_nodes[index].0, self.controllers[away]);
            self.world.set_cut(disk, controller, true);
            self.later(until, Undo::Heal(disk, controller));
        }
        self.switch_owner()
    }

    fn disk(&mut self, pick: u64, what: impl FnOnce(&mut DiskTrouble)) -> bool {
        let name = self.disk_nodes[(pick % self.disk_nodes.len() as u64) as usize].0;
        self.tell("fault", || format!("    {}", self.name(name)));
        what(self.world.disk_trouble(name));
        true
    }

    fn errors(&mut self, pick: u64, reads: bool) -> bool {
        let until = self.world.now() + ERRORS_LAST;
        self.careful_until = until;
        self.later(until, Undo::Nothing("errors"));
        self.disk(pick, |trouble| {
            trouble.errors_from = disk_node::format::DATA_OFFSET;
            let failing = Some((1 + pick % 5, until));
            if reads {
                trouble.failing_reads = failing;
            } else {
                trouble.failing_writes = failing;
            }
        })
    }

    pub(super) fn undo_due(&mut self) {
        let now = self.world.now();
        if self.undo.iter().all(|(at, _)| *at > now) {
            return;
        }
        let (due, rest): (Vec<_>, Vec<_>) = self.undo.drain(..).partition(|(at, _)| *at <= now);
        self.undo = rest;
        for (_, undo) in due {
            self.tell("over", || self.undo_words(&undo));
            match undo {
                Undo::StartDiskNode(index) => self.start_disk_node(index),
                Undo::StartController(index) => self.start_controller(index),
                Undo::Heal(one, other) => self.world.set_cut(one, other, false),
                Undo::Hasten(one, other) => self.world.set_slow(one, other, 1),
                Undo::Nothing(_) => {}
            }
        }
    }

    fn undo_words(&self, undo: &Undo) -> String {
        let pair =
            |one: &NodeName, other: &NodeName| format!("{} and {}", self.name(*one), self.name(*other));
        match undo {
            Undo::StartDiskNode(index) => format!("disk{index} is started"),
            Undo::StartController(index) => format!("ctrl{index} is started"),
            Undo::Heal(one, other) => format!("{} reach each other", pair(one, other)),
            Undo::Hasten(one, other) => format!("{} are as fast as before", pair(one, other)),
            Undo::Nothing(what) => (*what).to_owned(),
        }
    }

    /// Legs that may lack what was acknowledged.
    pub(super) fn is_excused(&self, leg: LegId) -> bool {
        self.excused.contains(&leg)
    }
}
