//! Owners that come and go, links that break, power that fails.

use crate::mirror_world::Buffers;
use crate::world::*;
use block::mirror::{GroupChange, GroupConfig, LegConfig, Mirror, MirrorConfig};
use block::{Blocks, Operation};
use std::collections::BTreeMap;

impl World {
    /// A new owner takes over; the old one is dead, or lives on without knowing.
    pub(crate) fn grant(&mut self) {
        let zombie = self.faults && self.chance.once_in(2);
        if let Some(last) = self
            .owners
            .len()
            .checked_sub(1)
            .filter(|last| self.owners[*last].alive)
        {
            if zombie {
                self.counts.zombies += 1;
                let after = 20_000 + self.chance.below(300_000);
                self.at(after, Event::Kill(last));
            } else {
                self.kill(last);
            }
        }
        let split = self.split();
        self.counts.takeovers += 1;
        // A leg of the set that lost power may be the one that the new owner believes.
        for leg in self.record.in_sync.clone() {
            self.lose(leg);
        }
        self.record.epoch += 1;
        self.history.unsettle();
        let in_sync = self.record.in_sync.clone();
        let legs = (0..self.disks.len()).map(|leg| LegConfig {
            leg: leg_id(leg),
            length: Blocks(LEG_BLOCKS),
            in_sync: in_sync.contains(&leg),
        });
        let config = MirrorConfig {
            pool: [1; 16],
            slice: [2; 16],
            epoch: self.record.epoch,
            group: GroupConfig {
                group: GROUP,
                formatted: self.record.formatted,
                legs: legs.collect(),
            },
            tuning: tuning(),
        };
        let owner = self.owners.len();
        let link = |cut| Link {
            attached: false,
            generation: 0,
            doubted: false,
            cut,
        };
        let links: Vec<Link> = split.into_iter().map(link).collect();
        self.log(|| {
            format!(
                "GRANT {owner} epoch {} {:?} cut {:?}",
                self.record.epoch,
                self.record,
                links.iter().map(|l| l.cut).collect::<Vec<_>>()
            )
        });
        for leg in 0..links.len() {
            let after = 100 + self.chance.below(5_000);
            self.at(after, Event::Attach(owner, leg));
        }
        self.owners.push(Owner {
            mirror: Mirror::new(config, self.now).expect("a sound configuration"),
            memory: Buffers::starving_every([0, 0, 7][self.chance.below(3) as usize]),
            epoch: self.record.epoch,
            alive: true,
            cut_off: false,
            links,
            at_legs: BTreeMap::new(),
            asked: BTreeMap::new(),
            change: None,
            opened: false,
            fenced: false,
            closed: false,
        });
        self.drain(owner);
    }

    /// Perhaps the old owner lives on with some legs, cut off from the store and from the legs that the new one has. Returns which
    /// legs the new one does not have.
    pub(crate) fn split(&mut self) -> Vec<bool> {
        let legs = self.disks.len();
        let zombie = self
            .owners
            .len()
            .checked_sub(1)
            .filter(|last| self.owners[*last].alive);
        let Some(zombie) = zombie.filter(|_| self.chance.once_in(2)) else {
            return (0..legs).map(|_| self.faults && self.chance.once_in(4)).collect();
        };
        self.owners[zombie].cut_off = true;
        let kept: Vec<bool> = (0..legs).map(|_| self.chance.once_in(2)).collect();
        for leg in (0..legs).filter(|leg| !kept[*leg]) {
            self.owners[zombie].links[leg].cut = true;
            self.break_link(zombie, leg);
        }
        kept
    }

    /// An owner's process ends.
    pub(crate) fn kill(&mut self, owner: usize) {
        if !self.owners[owner].alive {
            return;
        }
        self.log(|| format!("KILL {owner}"));
        for leg in 0..self.disks.len() {
            self.orphans(owner, leg);
        }
        let owner_state = &mut self.owners[owner];
        owner_state.alive = false;
        for asked in std::mem::take(&mut owner_state.asked).into_values() {
            if let Asked::Write { handle, .. } = asked {
                self.history.end_write(&handle, false, false);
            }
        }
    }

    pub(crate) fn lose(&mut self, leg: usize) {
        if let Some((_, risk)) = self.at_risk.remove(&leg) {
            self.history.lose(&risk);
        }
    }

    /// A connection is gone: what was on its way has arrived, or never will.
    pub(crate) fn orphans(&mut self, owner: usize, leg: usize) {
        self.owners[owner].links[leg].generation += 1;
        self.owners[owner].links[leg].attached = false;
        let at_legs = std::mem::take(&mut self.owners[owner].at_legs);
        let (gone, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            at_legs.into_iter().partition(|(_, at)| at.leg == leg);
        self.owners[owner].at_legs = rest;
        for at in gone.into_values() {
            let pending = at.answer.is_none() && self.owners[owner].epoch >= self.disks[leg].epoch;
            let executed = pending && self.disks[leg].up && self.chance.once_in(2);
            let torn = pending && !self.disks[leg].up;
            let memory = &mut self.owners[owner].memory;
            if executed && !matches!(at.request.operation, Operation::Read { .. }) {
                self.disks[leg].execute(at.request, memory);
            } else if torn {
                self.disks[leg].execute_partly(at.request, memory, &mut self.chance);
            }
            release_payload(at.request, memory);
        }
    }

    pub(crate) fn break_link(&mut self, owner: usize, leg: usize) {
        if !self.owners[owner].links[leg].attached {
            return;
        }
        self.log(|| format!("LOST {owner}.{leg}"));
        self.history.unsettle();
        self.owners[owner].links[leg].doubted = true;
        self.orphans(owner, leg);
        if self.owners[owner].alive {
            let state = &mut self.owners[owner];
            state.mirror.leg_lost(self.now, leg, &mut state.memory);
            self.drain(owner);
            let after = 500 + self.chance.below(30_000);
            self.at(after, Event::Attach(owner, leg));
        }
    }

    /// Power goes at a disk.
    pub(crate) fn cut_power(&mut self, leg: usize) {
        if !self.disks[leg].up {
            return;
        }
        self.log(|| format!("POWER {leg}"));
        self.counts.power_cuts += 1;
        self.history.unsettle();
        let cut = self.history.tick();
        let mut risk = self.history.at_risk();
        if let Some((_, earlier)) = self.at_risk.remove(&leg) {
            risk.extend(earlier);
        }
        self.at_risk.insert(leg, (cut, risk));
        let newest = self.newest();
        let mut others = self.record.in_sync.iter().filter(|other| **other != leg);
        let alone = others.all(|other| newest.links[*other].doubted);
        if !newest.opened || alone {
            self.lose(leg);
        }
        self.disks[leg].lose_power(&mut self.chance);
        for owner in 0..self.owners.len() {
            self.break_link(owner, leg);
        }
        let after = 1_000 + self.chance.below(60_000);
        self.at(after, Event::PowerUp(leg));
    }

    pub(crate) fn fault(&mut self) {
        if !self.faults {
            return;
        }
        let after = 2_000 + self.chance.below(40_000);
        self.at(after, Event::Fault);
        let leg = self.chance.below(self.disks.len() as u64) as usize;
        let owner = self.chance.below(self.owners.len() as u64) as usize;
        match self.chance.below(12) {
            0..4 => self.break_link(owner, leg),
            4 | 5 => self.cut_power(leg),
            6 => {
                for leg in 0..self.disks.len() {
                    self.break_link(owner, leg);
                }
            }
            7 => {
                self.owners[owner].links[leg].cut ^= true;
                self.break_link(owner, leg);
            }
            8 if self.chance.once_in(4) => {
                for link in self.owners.iter_mut().flat_map(|owner| &mut owner.links) {
                    link.cut = false;
                }
            }
            9 => {
                let recorded = self.record.in_sync.contains(&leg) || self.may_be_recorded(leg);
                if self.record.formatted && !recorded && self.chance.once_in(2) {
                    self.log(|| format!("BLANK {leg}"));
                    self.counts.blanks += 1;
                    self.cut_power(leg);
                    self.disks[leg].replace();
                }
            }
            _ => {}
        }
    }

    pub(crate) fn may_be_recorded(&self, leg: usize) -> bool {
        let changes = self.owners.iter().filter_map(|owner| owner.change.as_ref());
        changes.into_iter().any(|(_, change)| match change {
            GroupChange::InSync(legs) => legs.contains(&leg_id(leg)),
            GroupChange::Formatted => true,
        })
    }
}
