//! Where a node's disks are, if several machines share them: told by whoever runs the machines.

use super::{Boot, DiskState, Node};
use block::{Memory, Time};
use cluster::DiskId;
use fabric::driver::ReactorIndex;
use fabric::target::{Elsewhere, Portal};
use std::collections::{BTreeMap, BTreeSet};

/// A disk's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose the disk is.
    pub reactor: ReactorIndex,
    /// The hosts (by NQN) that may see something of it.
    pub hosts: BTreeSet<String>,
}

/// Where all disks of a node are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Those that are somebody's.
    pub disks: BTreeMap<DiskId, Place>,
    /// Disks that there are two of: neither is used.
    pub copies: BTreeSet<DiskId>,
    /// Where the node accepts connections.
    pub portals: BTreeSet<Portal>,
}

impl Node {
    /// All disks' places, whatever was said before.
    pub(super) fn take_places(&mut self, now: Time, places: Places, memory: &mut dyn Memory) {
        for disk in 0..self.disks.len() {
            if let Some(identity) = self.identity(disk).filter(|disk| places.copies.contains(disk)) {
                self.fault_copy(disk, identity);
            }
        }
        let others = places
            .disks
            .iter()
            .filter(|(_, place)| Some(place.reactor) != self.options.reactor);
        let elsewhere = others.map(|(disk, place)| {
            let known = Elsewhere {
                reactor: place.reactor,
                hosts: place.hosts.clone(),
                portals: places.portals.clone(),
            };
            (disk.subsystem_nqn().0, known)
        });
        self.target.set_elsewhere(now, elsewhere.collect(), memory);
        self.places = Some(places);
        self.unsettled = true;
    }

    /// Whether disks may be served at all: those that are still being read may turn out to be copies of those that are ready, here
    /// or at another machine.
    pub(super) fn may_serve(&self) -> bool {
        self.boot == Boot::Done && (self.options.reactor.is_none() || self.places.is_some())
    }

    /// Whether a disk is this machine's.
    pub(super) fn is_ours(&self, identity: DiskId) -> bool {
        let Some(reactor) = self.options.reactor else {
            return true;
        };
        let place = self
            .places
            .as_ref()
            .and_then(|places| places.disks.get(&identity));
        place.is_some_and(|place| place.reactor == reactor)
    }

    /// Of two disks with one identity at least one is a copy, and old: neither is used.
    pub(super) fn fault_copy(&mut self, disk: usize, identity: DiskId) {
        let fault =
            format!("two disks say that they are disk {identity}: remove the copy and restart the disk node");
        match &mut self.disks[disk].state {
            DiskState::Ready(books) => books.fault = Some(fault),
            state => {
                *state = DiskState::Faulty {
                    disk: Some(identity),
                    fault,
                }
            }
        }
    }
}
