//! A disk node's reactors as one node: who has which disk, what each is told, and what they say together.
//!
//! A reactor has disks that nobody else has, and is a whole node by itself. The front deals the disks out, waits until every
//! reactor has read its own, tells each where all disks are and the node's whole configuration (of which it carries out what is for
//! its own disks; a part would have to be right about disks that nobody has read yet, and what is missing in it would be
//! swept), and joins the reports.
//!
//! What it deliberately is not: it is on no request's way, it decides nothing about legs, and it knows no thread.
//!
//! Invariants: no reactor serves a disk before the front has said that the disk is that reactor's; of two disks with one identity
//! neither is anybody's, unless one was served before the other showed up.

use crate::node::{NodeControl, NodeReport, Place, Places};
use cluster::node_config::DiskNodeConfig;
use cluster::status::{DiskNodeStatus, LegStatus};
use cluster::{DiskId, LegId, Revision};
use fabric::driver::ReactorIndex;
use fabric::target::Portal;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The disks of each of so many reactors, by their numbers in the node: dealt one by one.
pub(crate) fn deal(disks: usize, reactors: usize) -> Vec<Vec<usize>> {
    let reactors = reactors.clamp(1, disks.max(1));
    let dealt = |reactor| (reactor..disks).step_by(reactors).collect();
    (0..reactors).map(dealt).collect()
}

/// What of the node's memory is a reactor's: as its disks are of the node's.
pub(crate) fn share_bytes(bytes: u64, own: usize, disks: usize) -> u64 {
    match disks {
        0 => bytes,
        disks => bytes / disks as u64 * own as u64,
    }
}

/// The reactors of a node, seen together.
#[derive(Debug)]
pub(crate) struct Front {
    /// The disks of each reactor, by their numbers in the node.
    dealt: Vec<Vec<usize>>,
    /// What each has said last.
    reports: Vec<Option<NodeReport>>,
    portals: BTreeSet<Portal>,
    /// The newest configuration.
    config: Option<DiskNodeConfig>,
    /// It has not been told to the reactors.
    untold: bool,
    /// Where disks are said to be; what was said once is not taken back.
    homes: BTreeMap<DiskId, ReactorIndex>,
    /// Disks that two reactors have.
    copies: BTreeSet<DiskId>,
    /// What the reactors were told last of it.
    told: Option<Places>,
    orders: VecDeque<(usize, NodeControl)>,
}

impl Front {
    /// Of reactors that have said nothing yet.
    pub(crate) fn new(dealt: Vec<Vec<usize>>) -> Front {
        Front {
            reports: vec![None; dealt.len()],
            dealt,
            portals: BTreeSet::new(),
            config: None,
            untold: false,
            homes: BTreeMap::new(),
            copies: BTreeSet::new(),
            told: None,
            orders: VecDeque::new(),
        }
    }

    /// Where the node accepts connections.
    pub(crate) fn listening(&mut self, portals: BTreeSet<Portal>) {
        self.portals = portals;
        self.tell();
    }

    /// A configuration came. An older one counts for nothing.
    pub(crate) fn apply(&mut self, config: DiskNodeConfig) {
        let known = self.config.as_ref();
        if known.is_none_or(|known| known.revision <= config.revision) {
            self.config = Some(config);
            self.untold = true;
        }
        self.tell();
    }

    /// A reactor said something.
    pub(crate) fn reported(&mut self, reactor: usize, report: NodeReport) {
        self.reports[reactor] = Some(report);
        self.tell();
    }

    /// What is to be told next, and to which reactor.
    pub(crate) fn poll_order(&mut self) -> Option<(usize, NodeControl)> {
        self.orders.pop_front()
    }

    /// Every reactor has read its disks, or given up waiting for them.
    fn booted(&self) -> bool {
        let mut reports = self.reports.iter();
        reports.all(|report| report.as_ref().is_some_and(|report| report.booted))
    }

    /// Places first: a disk that is a copy must be known as one before anything is done on it.
    fn tell(&mut self) {
        if !self.booted() {
            return;
        }
        self.find_homes();
        let places = self.places();
        if self.told.as_ref() != Some(&places) {
            self.tell_all(&NodeControl::Places(places.clone()));
            self.told = Some(places);
        }
        if std::mem::take(&mut self.untold)
            && let Some(config) = self.config.clone()
        {
            self.tell_all(&NodeControl::Apply(config));
        }
    }

    fn tell_all(&mut self, control: &NodeControl) {
        let orders = (0..self.reports.len()).map(|reactor| (reactor, control.clone()));
        self.orders.extend(orders);
    }

    fn find_homes(&mut self) {
        let mut found: BTreeMap<DiskId, BTreeSet<ReactorIndex>> = BTreeMap::new();
        for (reactor, report) in (0..).map(ReactorIndex).zip(self.reports.iter().flatten()) {
            for disk in report.identities.iter().flatten() {
                found.entry(*disk).or_default().insert(reactor);
            }
        }
        for (disk, reactors) in found {
            if reactors.len() > 1 {
                self.copies.insert(disk);
            } else if let Some(home) = reactors.first() {
                self.homes.entry(disk).or_insert(*home);
            }
        }
    }

    fn places(&self) -> Places {
        let mut hosts: BTreeMap<DiskId, BTreeSet<String>> = BTreeMap::new();
        for leg in self
            .config
            .iter()
            .flat_map(|config| config.legs.values())
            .flatten()
        {
            let names = leg.hosts.iter().map(|host| host.0.clone());
            hosts.entry(leg.disk).or_default().extend(names);
        }
        let place = |(disk, reactor): (&DiskId, &ReactorIndex)| {
            let hosts = hosts.remove(disk).unwrap_or_default();
            let reactor = *reactor;
            (*disk, Place { reactor, hosts })
        };
        Places {
            disks: self.homes.iter().map(place).collect(),
            copies: self.copies.clone(),
            portals: self.portals.clone(),
        }
    }

    /// What is, and whether every reactor has read its disks; nothing before each has said something.
    pub(crate) fn status(&self) -> Option<(DiskNodeStatus, bool)> {
        let reports: Vec<&NodeReport> = self.reports.iter().map(Option::as_ref).collect::<Option<_>>()?;
        let first = &reports.first()?.status;
        let mut disks: Vec<_> = self
            .dealt
            .iter()
            .flatten()
            .zip(reports.iter().flat_map(|report| &report.status.disks))
            .collect();
        disks.sort_by_key(|(number, _)| **number);
        let revisions = reports.iter().map(|report| report.status.revision);
        let status = DiskNodeStatus {
            node: first.node,
            incarnation: first.incarnation,
            // What not every reactor has heard of has not been applied.
            revision: revisions.min().unwrap_or(Revision(0)),
            disks: disks.into_iter().map(|(_, disk)| disk.clone()).collect(),
            legs: legs(&reports),
        };
        Some((status, self.booted()))
    }
}

/// Each leg as the reactor sees it that has its disk; as the first one does, if nobody has.
fn legs(reports: &[&NodeReport]) -> Vec<LegStatus> {
    let mut legs: BTreeMap<LegId, (bool, &LegStatus)> = BTreeMap::new();
    for report in reports {
        for leg in &report.status.legs {
            let here = !report.elsewhere.contains(&leg.leg);
            let known = legs.entry(leg.leg).or_insert((here, leg));
            if here && !known.0 {
                *known = (here, leg);
            }
        }
    }
    legs.into_values().map(|(_, leg)| leg.clone()).collect()
}

#[cfg(test)]
#[path = "front_tests.rs"]
mod tests;
