//! What the node tells the target: subsystems, namespaces, ANA states, portals; and how hosts learn of it.

use super::ana::ANA_GROUPS_MAX;
use super::async_event::EventKind;
use super::config::{NamespaceConfig, Portal, ReservationConfig, SubsystemConfig, SubsystemKey};
use super::subsystem::{Subsystem, SubsystemRef};
use super::{AnaState, Target};
use block::{Memory, Time};
use nvme::{Cntlid, Nqn, Nsid, Status};
use std::collections::BTreeSet;

impl Target {
    /// Adds a subsystem or changes it. Its name and its range of controller identifiers never change.
    ///
    /// # Panics
    /// If the name is none, or another subsystem's, or changes; if the controller identifiers are no range up to FFEFh.
    pub fn upsert_subsystem(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        config: SubsystemConfig,
        memory: &mut dyn Memory,
    ) {
        let name = Nqn::parse(&config.nqn).expect("a subsystem has a qualified name");
        assert!(!name.is_discovery(), "the discovery subsystem is there already");
        let same_name =
            |(key, other): (SubsystemKey, &Subsystem)| key != subsystem && other.config.nqn == config.nqn;
        assert!(
            !self.subsystems.iter().any(same_name),
            "two subsystems of one name"
        );
        match self.subsystems.get_mut(&subsystem) {
            Some(known) if known.config == config => return,
            Some(known) => {
                assert_eq!(known.config.nqn, config.nqn, "a subsystem keeps its name");
                known.config = config;
            }
            None => {
                self.subsystems.insert(subsystem, Subsystem::new(config));
            }
        }
        self.rights_changed(subsystem);
        self.discovery_changed(memory);
        self.settle(now, memory);
    }

    /// Removes a subsystem with all its namespaces: associations are closed, what is in flight finishes as orphans.
    pub fn remove_subsystem(&mut self, now: Time, subsystem: SubsystemKey, memory: &mut dyn Memory) {
        let Some(known) = self.subsystems.get(&subsystem) else {
            return;
        };
        let cntlids: Vec<Cntlid> = known.controllers.keys().collect();
        for cntlid in cntlids {
            self.end_association(now, SubsystemRef::Key(subsystem), cntlid, false, memory);
        }
        self.subsystems.remove(&subsystem);
        let lanes: Vec<(SubsystemKey, u32)> =
            self.lanes.keys().filter(|(key, _)| *key == subsystem).collect();
        for lane in lanes {
            self.lanes.retire(lane);
        }
        self.discovery_changed(memory);
        self.settle(now, memory);
    }

    /// Adds a namespace, with its reservations if it is to have any, or changes it (size, ANA group, hosts; then
    /// `reservations` counts for nothing). Hosts are told by events. A host that sees nothing of the subsystem
    /// any more is cut off once what it has in flight has ended.
    ///
    /// # Panics
    /// If the subsystem is not known, `nsid` is no namespace's, or the ANA group is not 1 to 128.
    pub fn upsert_namespace(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        nsid: u32,
        config: NamespaceConfig,
        reservations: Option<ReservationConfig>,
        memory: &mut dyn Memory,
    ) {
        assert!(Nsid(nsid).is_valid(), "namespace {nsid}");
        assert!(
            (1..=ANA_GROUPS_MAX).contains(&config.ana_group),
            "ANA group {}",
            config.ana_group
        );
        let known = self
            .subsystems
            .get_mut(&subsystem)
            .expect("the node told of the subsystem");
        let after = config.clone();
        let before = known.put_namespace(nsid, config, reservations);
        self.lanes.revive((subsystem, nsid));
        if before.as_ref() == Some(&after) {
            return;
        }
        self.tell_namespace(subsystem, nsid, before.as_ref(), Some(&after), memory);
        let same_hosts = before.is_some_and(|before| before.hosts == after.hosts);
        self.namespace_changed(now, subsystem, nsid, same_hosts, memory);
    }

    /// Removes a namespace. What is in flight finishes; everything else is answered "invalid namespace". A persistence under
    /// way needs no answer.
    pub fn remove_namespace(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        nsid: u32,
        memory: &mut dyn Memory,
    ) {
        let Some(known) = self.subsystems.get_mut(&subsystem) else {
            return;
        };
        let Some(namespace) = known.take_namespace(nsid) else {
            return;
        };
        for controller in known.controllers.values_mut() {
            controller.notifications.forget(nsid);
        }
        if let Some(reservations) = namespace.reservations {
            let current = reservations.current.map(|work| work.command);
            let status = Status::INVALID_NAMESPACE_OR_FORMAT.do_not_retry();
            for name in current.into_iter().chain(reservations.waiting) {
                if self.command(name).is_some() {
                    self.respond(name.connection, name.slot, status.into(), memory);
                }
            }
        }
        self.tell_namespace(subsystem, nsid, Some(&namespace.config), None, memory);
        self.namespace_changed(now, subsystem, nsid, false, memory);
        self.lanes.retire((subsystem, nsid));
    }

    /// Sets the state of an ANA group. Groups without a state are inaccessible.
    ///
    /// # Panics
    /// If the subsystem is not known, or the ANA group is not 1 to 128.
    pub fn set_ana_state(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        group: u32,
        state: AnaState,
        memory: &mut dyn Memory,
    ) {
        assert!((1..=ANA_GROUPS_MAX).contains(&group), "ANA group {group}");
        let known = self
            .subsystems
            .get_mut(&subsystem)
            .expect("the node told of the subsystem");
        if !known.ana.set(group, state) {
            return;
        }
        let members = known
            .namespaces
            .iter()
            .filter(|(_, namespace)| namespace.config.ana_group == group);
        let mut hosts = BTreeSet::new();
        let mut nsids = Vec::new();
        for (nsid, namespace) in members {
            hosts.extend(namespace.config.hosts.iter().cloned());
            nsids.push(nsid);
        }
        self.raise(subsystem, &hosts, EventKind::AnaChange, None, memory);
        for nsid in nsids {
            self.wake_lane(now, (subsystem, nsid), memory);
        }
        self.settle(now, memory);
    }

    /// Where a subsystem can be reached, for the discovery log page of those that may connect to it.
    ///
    /// # Panics
    /// If the subsystem is not known.
    pub fn set_portals(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        portals: BTreeSet<Portal>,
        memory: &mut dyn Memory,
    ) {
        let known = self
            .subsystems
            .get_mut(&subsystem)
            .expect("the node told of the subsystem");
        if known.portals == portals {
            return;
        }
        known.portals = portals;
        self.discovery_changed(memory);
        self.settle(now, memory);
    }

    /// Hosts learn that a namespace came, went or changed.
    fn tell_namespace(
        &mut self,
        subsystem: SubsystemKey,
        nsid: u32,
        before: Option<&NamespaceConfig>,
        after: Option<&NamespaceConfig>,
        memory: &mut dyn Memory,
    ) {
        let hosts =
            |config: Option<&NamespaceConfig>| config.map(|config| config.hosts.clone()).unwrap_or_default();
        let (old, new) = (hosts(before), hosts(after));
        let same = match (before, after) {
            (Some(before), Some(after)) => {
                before.size_blocks == after.size_blocks
                    && before.ana_group == after.ana_group
                    && before.uuid == after.uuid
            }
            _ => false,
        };
        let told: BTreeSet<String> = match same {
            true => old.symmetric_difference(&new).cloned().collect(),
            false => old.union(&new).cloned().collect(),
        };
        self.raise(
            subsystem,
            &told,
            EventKind::NamespaceAttributes,
            Some(nsid),
            memory,
        );
        let moved =
            matches!((before, after), (Some(before), Some(after)) if before.ana_group != after.ana_group);
        if moved {
            self.raise(subsystem, &new, EventKind::AnaChange, None, memory);
        }
    }

    /// After a namespace changed: who waits looks again, who lost everything goes.
    fn namespace_changed(
        &mut self,
        now: Time,
        subsystem: SubsystemKey,
        nsid: u32,
        same_hosts: bool,
        memory: &mut dyn Memory,
    ) {
        self.wake_lane(now, (subsystem, nsid), memory);
        if !same_hosts {
            self.rights_changed(subsystem);
            self.discovery_changed(memory);
        }
        self.settle(now, memory);
    }

    /// Raises an event on the controllers of some hosts.
    fn raise(
        &mut self,
        subsystem: SubsystemKey,
        hosts: &BTreeSet<String>,
        kind: EventKind,
        changed: Option<u32>,
        memory: &mut dyn Memory,
    ) {
        let Some(known) = self.subsystems.get_mut(&subsystem) else {
            return;
        };
        let mut cntlids = Vec::new();
        for controller in known.controllers.values_mut() {
            if hosts.contains(&controller.host) {
                controller.changed_namespaces.extend(changed);
                controller.events.raise(kind);
                cntlids.push(controller.cntlid);
            }
        }
        for cntlid in cntlids {
            self.pump_events(SubsystemRef::Key(subsystem), cntlid, memory);
        }
    }

    /// What hosts may do has changed: marks controllers whose host lost its last right.
    fn rights_changed(&mut self, subsystem: SubsystemKey) {
        let Some(known) = self.subsystems.get_mut(&subsystem) else {
            return;
        };
        let mut controllers = std::mem::take(&mut known.controllers);
        for controller in controllers.values_mut() {
            controller.evicted = !known.admits(&controller.host);
            self.evicting |= controller.evicted;
        }
        known.controllers = controllers;
    }

    /// Closes the associations of evicted hosts that have nothing in flight.
    pub(crate) fn sweep_evicted(&mut self, now: Time, memory: &mut dyn Memory) {
        let mut gone = Vec::new();
        let mut remaining = false;
        for (key, subsystem) in self.subsystems.iter() {
            for controller in subsystem
                .controllers
                .values()
                .filter(|controller| controller.evicted)
            {
                match self.has_in_flight(&controller.connections()) {
                    true => remaining = true,
                    false => gone.push((key, controller.cntlid)),
                }
            }
        }
        self.evicting = remaining;
        for (key, cntlid) in gone {
            self.end_association(now, SubsystemRef::Key(key), cntlid, false, memory);
        }
    }

    /// The discovery log page may read otherwise now.
    pub(crate) fn discovery_changed(&mut self, memory: &mut dyn Memory) {
        self.discovery_generation += 1;
        let mut cntlids = Vec::new();
        for controller in self.discovery.controllers.values_mut() {
            controller.events.raise(EventKind::DiscoveryChange);
            cntlids.push(controller.cntlid);
        }
        for cntlid in cntlids {
            self.pump_events(SubsystemRef::Discovery, cntlid, memory);
        }
    }
}
