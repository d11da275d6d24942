//! Disk nodes: a ledger, legs that are zeroed before they are ready, a status that is told when it is asked for.

use cluster::layout::DiskNodeAllocation;
use cluster::node_config::DiskNodeConfig;
use cluster::spec::NodeSpec;
use cluster::status::{DiskNodeStatus, DiskStatus, LegState, LegStatus, NodeHealth, Observed};
use cluster::view::DiskNodeView;
use cluster::{DiskId, DiskNodeId, Incarnation, LegId, Revision};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

pub struct DiskNode {
    pub spec: NodeSpec<DiskNodeId>,
    pub allocation: DiskNodeAllocation,
    pub config: Option<DiskNodeConfig>,
    pub observed: Option<Observed<DiskNodeStatus>>,
    pub up: bool,
    ledger: Option<DiskNodeConfig>,
    disks: Vec<DiskStatus>,
    legs: BTreeMap<LegId, (DiskId, u64, LegState)>,
    swept: BTreeSet<LegId>,
}

pub fn disk(id: Uuid, extents: u64, extent_bytes: u64) -> DiskStatus {
    DiskStatus {
        disk: DiskId(id),
        path: format!("/dev/{id}"),
        volatile: false,
        extent_bytes,
        extents,
        extents_free: extents,
        fault: None,
    }
}

impl DiskNode {
    pub fn new(spec: NodeSpec<DiskNodeId>, disks: Vec<DiskStatus>) -> Self {
        DiskNode {
            spec,
            allocation: DiskNodeAllocation::default(),
            config: None,
            observed: None,
            up: true,
            ledger: None,
            disks,
            legs: BTreeMap::new(),
            swept: BTreeSet::new(),
        }
    }

    pub fn view(&self) -> DiskNodeView {
        DiskNodeView {
            spec: self.spec.clone(),
            allocation: self.allocation.clone(),
            observed: self.observed.clone(),
            config: self.config.clone(),
        }
    }

    pub fn start(&mut self, incarnation: Incarnation) {
        (self.up, self.spec.incarnation) = (true, incarnation);
    }

    pub fn deliver(&mut self) {
        let Some(config) = self.config.clone().filter(|_| self.up) else {
            return;
        };
        assert!(
            self.ledger
                .as_ref()
                .is_none_or(|ledger| ledger.revision <= config.revision),
            "a lower revision"
        );
        self.ledger = Some(config);
    }

    /// Zero one extent of each new leg; sweep what is not wanted.
    pub fn work(&mut self) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| self.up) else {
            return;
        };
        let wanted: BTreeMap<LegId, _> = ledger.legs.values().flatten().map(|leg| (leg.leg, leg)).collect();
        for (id, leg) in &wanted {
            assert!(!self.swept.contains(id), "a swept leg is wanted again");
            let fresh = || {
                (
                    leg.disk,
                    leg.extents,
                    LegState::Zeroing {
                        done: 0,
                        total: leg.extents,
                    },
                )
            };
            let (_, _, state) = self.legs.entry(*id).or_insert_with(fresh);
            if let LegState::Zeroing { done, total } = *state {
                let zeroing = LegState::Zeroing {
                    done: (done + 4).min(total),
                    total,
                };
                *state = if done + 4 >= total {
                    LegState::Ready
                } else {
                    zeroing
                };
            }
        }
        self.swept
            .extend(self.legs.keys().filter(|id| !wanted.contains_key(id)));
        self.legs.retain(|id, _| wanted.contains_key(id));
        self.check_space();
    }

    fn check_space(&mut self) {
        for disk in &mut self.disks {
            let legs = self.legs.values().filter(|(of, _, _)| *of == disk.disk);
            let taken: u64 = legs.map(|(_, extents, _)| extents).sum();
            disk.extents_free = disk
                .extents
                .checked_sub(taken)
                .expect("more legs than the disk has room for");
        }
    }

    pub fn is_ready(&self, leg: LegId) -> bool {
        self.up
            && self
                .legs
                .get(&leg)
                .is_some_and(|(_, _, state)| *state == LegState::Ready)
    }

    pub fn report(&mut self) {
        let health = NodeHealth {
            reachable: self.up,
            since_ms: 0,
        };
        let known = self.observed.take().and_then(|observed| observed.status);
        let status = if self.up { Some(self.status()) } else { known };
        self.observed = Some(Observed { health, status });
    }

    fn status(&self) -> DiskNodeStatus {
        let legs = self.legs.iter();
        DiskNodeStatus {
            node: self.spec.id,
            incarnation: self.spec.incarnation,
            revision: self.ledger.as_ref().map_or(Revision(0), |ledger| ledger.revision),
            disks: self.disks.clone(),
            legs: legs
                .map(|(leg, (_, _, state))| LegStatus {
                    leg: *leg,
                    state: state.clone(),
                })
                .collect(),
        }
    }
}
