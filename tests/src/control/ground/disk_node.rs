//! A disk node: one disk, its legs.

use super::{Ground, Process};
use cluster::node_config::DiskNodeConfig;
use cluster::status::{DiskNodeStatus, DiskStatus, LegState, LegStatus};
use cluster::{DiskId, DiskNodeId, Epoch, Incarnation, LegId, Revision};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// See the module.
pub(super) struct DiskNode {
    id: DiskNodeId,
    pub(super) process: Option<Process<DiskNodeConfig>>,
    /// Durable.
    pub(super) legs: BTreeMap<LegId, Leg>,
    /// The highest revision it ever took over: durable only here, to see that none is lower.
    highest: Revision,
    told: Option<DiskNodeStatus>,
}

/// A leg, durable.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    extents: u64,
    pub(super) zeroed_at: Duration,
    /// Not wanted any more: gone from then on.
    swept_at: Option<Duration>,
    /// The highest epoch it accepted.
    pub(super) key: Epoch,
    /// It has a superblock.
    pub(super) formatted: bool,
    /// The last write it has, and all before.
    pub(super) written: u64,
}

impl DiskNode {
    pub(super) fn new(id: DiskNodeId) -> DiskNode {
        DiskNode {
            id,
            process: None,
            legs: BTreeMap::new(),
            highest: Revision(0),
            told: None,
        }
    }

    /// Take over what is due, sweep what is due. Legs that are new or unwanted from now on are ready or gone at the given times.
    ///
    /// Errors: a rule that the control plane broke.
    pub(super) fn advance(
        &mut self,
        now: Duration,
        sweep_at: Duration,
        zeroed_at: Duration,
    ) -> Result<(), String> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let due = process.due(now);
        if let Some(config) = due {
            process.revision = config.revision;
            self.take_over(&config, sweep_at, zeroed_at)?;
        }
        self.legs.retain(|_, leg| leg.swept_at.is_none_or(|at| at > now));
        let status = Some(self.status(now));
        if self.told != status {
            self.told = status;
            self.process.iter_mut().for_each(|process| process.version += 1);
        }
        Ok(())
    }

    fn take_over(
        &mut self,
        config: &DiskNodeConfig,
        sweep_at: Duration,
        zeroed_at: Duration,
    ) -> Result<(), String> {
        if config.revision < self.highest {
            let (highest, lower) = (self.highest.0, config.revision.0);
            return Err(format!(
                "disk node {} went back from revision {highest} to {lower}",
                self.id
            ));
        }
        self.highest = config.revision;
        let wanted: BTreeSet<LegId> = config.legs.values().flatten().map(|leg| leg.leg).collect();
        for (id, leg) in &mut self.legs {
            if !wanted.contains(id) {
                leg.swept_at.get_or_insert(sweep_at);
            } else if leg.swept_at.is_some() {
                return Err(format!("leg {id} is wanted again after it was given up"));
            }
        }
        for leg in config.legs.values().flatten() {
            let fresh = Leg {
                extents: leg.extents,
                zeroed_at,
                swept_at: None,
                key: Epoch(0),
                formatted: false,
                written: 0,
            };
            self.legs.entry(leg.leg).or_insert(fresh);
        }
        let taken: u64 = self.legs.values().map(|leg| leg.extents).sum();
        if taken > Ground::EXTENTS {
            return Err(format!("{taken} extents of disk node {} are in legs", self.id));
        }
        Ok(())
    }

    pub(super) fn status(&self, now: Duration) -> DiskNodeStatus {
        let state = |leg: &Leg| {
            if leg.zeroed_at <= now {
                LegState::Ready
            } else {
                let total = leg.extents;
                LegState::Zeroing { done: 0, total }
            }
        };
        let legs = self.legs.iter().map(|(id, leg)| LegStatus {
            leg: *id,
            state: state(leg),
        });
        let taken: u64 = self.legs.values().map(|leg| leg.extents).sum();
        let nobody = Incarnation(Uuid::nil());
        let process = self.process.as_ref();
        DiskNodeStatus {
            node: self.id,
            incarnation: process.map_or(nobody, |process| process.incarnation),
            revision: process.map_or(Revision(0), |process| process.revision),
            disks: vec![DiskStatus {
                disk: DiskId(Uuid::from_u128(self.id.0.as_u128() ^ 0xd15c)),
                path: "/dev/model".into(),
                volatile: false,
                extent_bytes: Ground::EXTENT_BYTES,
                extents: Ground::EXTENTS,
                extents_free: Ground::EXTENTS.saturating_sub(taken),
                fault: None,
            }],
            legs: legs.collect(),
        }
    }
}
