//! A subsystem: namespaces, ANA groups, portals, controllers; and who may see what of it.

use super::ana::AnaGroups;
use super::config::{NamespaceConfig, ReservationConfig};
use super::config::{Portal, SubsystemConfig, SubsystemKey};
use super::controller::Controller;
use super::namespace::Namespace;
use super::table::Table;
use nvme::Cntlid;
use std::collections::BTreeSet;

/// Which subsystem a controller is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SubsystemRef {
    /// The discovery subsystem, which every target has.
    Discovery,
    /// One of the node's.
    Key(SubsystemKey),
}

#[derive(Debug)]
pub(crate) struct Subsystem {
    pub(crate) config: SubsystemConfig,
    pub(crate) namespaces: Table<u32, Namespace>,
    /// Counts changes of namespaces and of who sees them: routes of another generation are void.
    pub(crate) generation: u64,
    pub(crate) ana: AnaGroups,
    pub(crate) portals: BTreeSet<Portal>,
    pub(crate) controllers: Table<Cntlid, Controller>,
    next_cntlid: u16,
}

impl Subsystem {
    pub(crate) fn new(config: SubsystemConfig) -> Subsystem {
        assert!(
            config.cntlid_first <= config.cntlid_last && config.cntlid_last <= Cntlid::MAX.0,
            "controller identifiers {}..={}",
            config.cntlid_first,
            config.cntlid_last
        );
        let next_cntlid = config.cntlid_first;
        Subsystem {
            config,
            namespaces: Table::default(),
            generation: 0,
            ana: AnaGroups::default(),
            portals: BTreeSet::new(),
            controllers: Table::default(),
            next_cntlid,
        }
    }

    /// Whether the host may have controllers here.
    pub(crate) fn admits(&self, host: &str) -> bool {
        self.config.hosts.contains(host)
            || self
                .namespaces
                .values()
                .any(|namespace| namespace.visible_to(host))
    }

    /// The hosts that may have controllers here.
    pub(crate) fn admitted(&self) -> BTreeSet<String> {
        let seers = self
            .namespaces
            .values()
            .flat_map(|namespace| &namespace.config.hosts);
        self.config.hosts.iter().chain(seers).cloned().collect()
    }

    /// The namespaces that a host sees, ascending.
    pub(crate) fn visible<'a>(&'a self, host: &'a str) -> impl Iterator<Item = (u32, &'a Namespace)> + 'a {
        self.namespaces
            .iter()
            .filter(move |(_, namespace)| namespace.visible_to(host))
    }

    /// A namespace, if the host sees it.
    pub(crate) fn visible_namespace(&self, host: &str, nsid: u32) -> Option<&Namespace> {
        self.namespaces
            .get(&nsid)
            .filter(|namespace| namespace.visible_to(host))
    }

    /// Adds a namespace or changes it; what was said of it before.
    pub(crate) fn put_namespace(
        &mut self,
        nsid: u32,
        config: NamespaceConfig,
        reservations: Option<ReservationConfig>,
    ) -> Option<NamespaceConfig> {
        self.generation += 1;
        match self.namespaces.get_mut(&nsid) {
            Some(namespace) => Some(std::mem::replace(&mut namespace.config, config)),
            None => {
                self.namespaces.insert(nsid, Namespace::new(config, reservations));
                None
            }
        }
    }

    pub(crate) fn take_namespace(&mut self, nsid: u32) -> Option<Namespace> {
        self.generation += 1;
        self.namespaces.remove(&nsid)
    }

    /// An identifier for a new controller, as long as possible after it was used last. `None`: all are in use.
    pub(crate) fn free_cntlid(&mut self) -> Option<Cntlid> {
        let (first, last) = (self.config.cntlid_first, self.config.cntlid_last);
        let from_next = self.next_cntlid..=last;
        let from_first = first..=last;
        let free = from_next
            .chain(from_first)
            .map(Cntlid)
            .find(|cntlid| !self.controllers.contains_key(cntlid))?;
        self.next_cntlid = if free.0 == last { first } else { free.0 + 1 };
        Some(free)
    }

    /// The NQNs of the hosts that have a controller.
    pub(crate) fn connected_hosts(&self) -> BTreeSet<String> {
        self.controllers
            .values()
            .map(|controller| controller.host.clone())
            .collect()
    }
}
