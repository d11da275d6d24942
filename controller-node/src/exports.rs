//! What hosts see: one subsystem per pool, one namespace per volume, one ANA group per slice.
//!
//! Remembers what was shown, so that only differences are told to the target. What is shown comes from the pool (sizes and
//! states as they are), who may see it from the configuration.

use crate::pool::{Pool, PoolKey};
use block::{Memory, Time};
use cluster::node_config::{PoolConfig, VolumeConfig};
use cluster::{PoolId, VolumeId};
use fabric::target::{AnaState, NamespaceConfig, Portal, SubsystemConfig, SubsystemKey, Target};
use std::collections::{BTreeMap, BTreeSet};

/// A pool's subsystem, as shown.
#[derive(Debug)]
struct Export {
    key: SubsystemKey,
    pool: PoolKey,
    subsystem: SubsystemConfig,
    ana_group: u32,
    ana: AnaState,
    namespaces: BTreeMap<u32, (VolumeId, NamespaceConfig)>,
    wanted: bool,
}

/// Everything shown.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    exports: BTreeMap<PoolId, Export>,
    /// What hosts ask for, by subsystem key: its pool, and its volumes.
    served: Vec<Option<Served>>,
}

/// Where requests to a subsystem go.
#[derive(Debug)]
struct Served {
    pool: PoolKey,
    /// By namespace identifier, the first [`NSIDS_DIRECT`] of them.
    direct: Vec<Option<VolumeId>>,
    others: BTreeMap<u32, VolumeId>,
}

/// Namespace identifiers count up, and are few; a subsystem that has used up more of them finds the rest by a search.
const NSIDS_DIRECT: usize = 1 << 16;

impl Served {
    fn volume(&self, nsid: u32) -> Option<VolumeId> {
        match self.direct.get(nsid as usize) {
            Some(volume) => *volume,
            None => self.others.get(&nsid).copied(),
        }
    }

    fn show(&mut self, namespaces: &BTreeMap<u32, (VolumeId, NamespaceConfig)>) {
        self.direct.clear();
        self.others.clear();
        for (nsid, (volume, _)) in namespaces {
            let at = *nsid as usize;
            if at >= NSIDS_DIRECT {
                self.others.insert(*nsid, *volume);
                continue;
            }
            if self.direct.len() <= at {
                self.direct.resize(at + 1, None);
            }
            self.direct[at] = Some(*volume);
        }
    }
}

impl Exports {
    /// Shows a pool's subsystem; its group is inaccessible until the pool says otherwise.
    pub(crate) fn upsert(
        &mut self,
        now: Time,
        (id, pool): (PoolId, PoolKey),
        config: &PoolConfig,
        target: &mut Target,
        memory: &mut dyn Memory,
    ) {
        let subsystem = subsystem(config);
        let ana_group = config.slices.first().map_or(1, |slice| slice.ana_group);
        let key = match self.exports.get_mut(&id) {
            Some(export) => {
                export.subsystem = subsystem.clone();
                export.key
            }
            None => {
                let key = SubsystemKey(u32::try_from(self.served.len()).expect("fewer than 2^32"));
                let ana = AnaState::Inaccessible;
                let (subsystem, namespaces) = (subsystem.clone(), BTreeMap::new());
                let export = Export {
                    key,
                    pool,
                    subsystem,
                    ana_group,
                    ana,
                    namespaces,
                    wanted: true,
                };
                self.exports.insert(id, export);
                let (direct, others) = (Vec::new(), BTreeMap::new());
                self.served.push(Some(Served { pool, direct, others }));
                key
            }
        };
        target.upsert_subsystem(now, key, subsystem, memory);
        let ana = self.exports[&id].ana;
        target.set_ana_state(now, key, ana_group, ana, memory);
        target.set_portals(now, key, portals(config), memory);
    }

    /// The pool is in the configuration that is being applied.
    pub(crate) fn keep(&mut self, id: PoolId) {
        self.exports.get_mut(&id).expect("shown just now").wanted = true;
    }

    /// Ends an application: what was not kept is no longer shown; the next application begins.
    pub(crate) fn sweep(&mut self, now: Time, target: &mut Target, memory: &mut dyn Memory) -> Vec<PoolKey> {
        let gone: Vec<PoolId> = self
            .exports
            .iter()
            .filter(|(_, export)| !export.wanted)
            .map(|(id, _)| *id)
            .collect();
        let mut pools = Vec::new();
        for id in &gone {
            let export = self.exports.remove(id).expect("listed just now");
            self.served[export.key.0 as usize] = None;
            target.remove_subsystem(now, export.key, memory);
            pools.push(export.pool);
        }
        self.exports.values_mut().for_each(|export| export.wanted = false);
        pools
    }

    /// Whether the pool is shown.
    pub(crate) fn has(&self, id: PoolId) -> bool {
        self.exports.contains_key(&id)
    }

    /// What a namespace is.
    #[inline]
    pub(crate) fn volume(&self, key: SubsystemKey, nsid: u32) -> Option<(PoolKey, VolumeId)> {
        let served = self.served.get(key.0 as usize)?.as_ref()?;
        Some((served.pool, served.volume(nsid)?))
    }

    /// What hosts see of the pool's group from now on.
    pub(crate) fn set_ana(
        &mut self,
        now: Time,
        id: PoolId,
        state: AnaState,
        target: &mut Target,
        memory: &mut dyn Memory,
    ) {
        let Some(export) = self.exports.get_mut(&id) else {
            return;
        };
        if export.ana != state {
            export.ana = state;
            target.set_ana_state(now, export.key, export.ana_group, state, memory);
        }
    }

    /// Shows the pool's volumes as they are now.
    pub(crate) fn show(
        &mut self,
        now: Time,
        id: PoolId,
        pool: &Pool,
        target: &mut Target,
        memory: &mut dyn Memory,
    ) {
        let Some(export) = self.exports.get_mut(&id) else {
            return;
        };
        let group = export.ana_group;
        let shown: BTreeMap<u32, (VolumeId, NamespaceConfig)> = pool
            .config()
            .volumes
            .iter()
            .filter_map(|volume| Some((volume.nsid, (volume.volume, namespace(pool, volume, group)?))))
            .collect();
        for nsid in export.namespaces.keys().filter(|nsid| !shown.contains_key(nsid)) {
            target.remove_namespace(now, export.key, *nsid, memory);
        }
        for (nsid, entry) in &shown {
            if export.namespaces.get(nsid) != Some(entry) {
                target.upsert_namespace(now, export.key, *nsid, entry.1.clone(), None, memory);
            }
        }
        if let Some(served) = &mut self.served[export.key.0 as usize] {
            served.show(&shown);
        }
        export.namespaces = shown;
    }
}

fn namespace(pool: &Pool, volume: &VolumeConfig, ana_group: u32) -> Option<NamespaceConfig> {
    Some(NamespaceConfig {
        uuid: *volume.volume.0.as_bytes(),
        size_blocks: pool.shown_size(volume)?,
        ana_group,
        hosts: volume.hosts.iter().map(|host| host.0.clone()).collect(),
    })
}

fn subsystem(config: &PoolConfig) -> SubsystemConfig {
    SubsystemConfig {
        nqn: config.subsystem_nqn.0.clone(),
        serial: config.serial.clone(),
        cntlid_first: config.cntlid.0,
        cntlid_last: config.cntlid.1,
        hosts: BTreeSet::new(),
        reservations: false,
    }
}

/// Where a pool's subsystem can be reached.
pub(crate) fn portals(config: &PoolConfig) -> BTreeSet<Portal> {
    let ports = (1u16..).zip(&config.portals);
    ports
        .map(|(port, portal)| Portal {
            port,
            address: portal.address,
        })
        .collect()
}
