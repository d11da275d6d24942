//! A subsystem: namespaces, ANA groups, portals, controllers; and who may see what of it.

use super::ana::AnaGroups;
use super::config::{Portal, SubsystemConfig, SubsystemKey};
use super::controller::Controller;
use super::namespace::Namespace;
use nvme::Cntlid;
use std::collections::{BTreeMap, BTreeSet};

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
    pub(crate) namespaces: BTreeMap<u32, Namespace>,
    pub(crate) ana: AnaGroups,
    pub(crate) portals: BTreeSet<Portal>,
    pub(crate) controllers: BTreeMap<Cntlid, Controller>,
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
            namespaces: BTreeMap::new(),
            ana: AnaGroups::default(),
            portals: BTreeSet::new(),
            controllers: BTreeMap::new(),
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

    /// The namespaces that a host sees, ascending.
    pub(crate) fn visible<'a>(&'a self, host: &'a str) -> impl Iterator<Item = (u32, &'a Namespace)> + 'a {
        let all = self.namespaces.iter().map(|(nsid, namespace)| (*nsid, namespace));
        all.filter(move |(_, namespace)| namespace.visible_to(host))
    }

    /// A namespace, if the host sees it.
    pub(crate) fn visible_namespace(&self, host: &str, nsid: u32) -> Option<&Namespace> {
        self.namespaces
            .get(&nsid)
            .filter(|namespace| namespace.visible_to(host))
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
