//! What is, in the words of the control plane.

use super::books::{Books, Leg, Phase};
use super::converge::wanted_legs;
use super::{Boot, Disk, DiskState, Node, NodeReport};
use cluster::node_config::LegConfig;
use cluster::status::{DiskNodeStatus, DiskStatus, LegState, LegStatus};
use cluster::{DiskId, LegId, Revision};
use fabric::driver::Output;
use std::collections::BTreeSet;
use uuid::Uuid;

impl Node {
    /// Tells the control plane, if there is news.
    pub(super) fn report(&mut self) {
        let report = NodeReport {
            status: self.status(),
            booted: self.boot == Boot::Done,
            identities: (0..self.disks.len()).map(|disk| self.identity(disk)).collect(),
            elsewhere: self.legs_elsewhere(),
        };
        if self.reported.as_ref() != Some(&report) {
            self.reported = Some(report.clone());
            self.outputs.push_back(Output::Report(Box::new(report)));
        }
    }

    fn status(&self) -> DiskNodeStatus {
        let wanted = self.wanted.as_ref();
        let legs = wanted.map(wanted_legs).unwrap_or_default();
        DiskNodeStatus {
            node: self.options.node,
            incarnation: self.options.incarnation,
            revision: wanted.map_or(Revision(0), |config| config.revision),
            disks: self.disks.iter().map(disk_status).collect(),
            legs: legs
                .into_iter()
                .map(|(leg, wanted)| LegStatus {
                    leg,
                    state: self.leg_state(wanted),
                })
                .collect(),
        }
    }

    fn legs_elsewhere(&self) -> BTreeSet<LegId> {
        let wanted = self.wanted.iter().flat_map(wanted_legs);
        let elsewhere = wanted.filter(|(_, wanted)| self.disk_of(wanted).is_none());
        elsewhere.map(|(leg, _)| leg).collect()
    }

    fn leg_state(&self, wanted: &LegConfig) -> LegState {
        let failed = |reason: String| LegState::Failed { reason };
        let Some(disk) = self.disk_of(wanted) else {
            return match self.boot {
                Boot::Done => failed(format!(
                    "disk {} is not here: attach it and restart the disk node",
                    wanted.disk
                )),
                Boot::Unbegun | Boot::Reading { .. } => waiting(wanted),
            };
        };
        match &self.disks[disk].state {
            DiskState::Faulty { fault, .. } => failed(format!("its disk cannot be used: {fault}")),
            DiskState::Reading(_) => waiting(wanted),
            DiskState::Ready(Books {
                fault: Some(fault), ..
            }) => failed(format!("its disk cannot be used: {fault}")),
            DiskState::Ready(books) => match books.legs.get(&wanted.leg) {
                Some(leg) => present(leg, wanted),
                None => self.absent(books, wanted),
            },
        }
    }

    /// Why a wanted leg is not on its disk.
    fn absent(&self, books: &Books, wanted: &LegConfig) -> LegState {
        let (free, extents) = (books.free_extents(), books.superblock.extents);
        let leaving = books
            .legs
            .values()
            .any(|leg| matches!(leg.phase, Phase::Leaving | Phase::Dropped(_)));
        let namesake = books.legs.iter().find(|(_, leg)| leg.record.nsid == wanted.nsid);
        let reason = match namesake {
            _ if wanted.extents == 0 || wanted.nsid == 0 => "its configuration makes no sense".to_owned(),
            _ if self.legs_all().any(|(name, _)| *name == wanted.leg) => "it lies on another disk".to_owned(),
            Some((_, leg)) if matches!(leg.phase, Phase::Leaving | Phase::Dropped(_)) => {
                return waiting(wanted);
            }
            Some((other, _)) => format!("leg {other} has its namespace identifier {}", wanted.nsid),
            None if leaving => return waiting(wanted),
            None if free < wanted.extents => format!(
                "no space: it needs {} extents, and {free} of the disk's {extents} are free; delete legs, or choose another disk",
                wanted.extents
            ),
            None => "the disk's extent table is full; choose another disk".to_owned(),
        };
        LegState::Failed { reason }
    }
}

fn waiting(wanted: &LegConfig) -> LegState {
    LegState::Zeroing {
        done: 0,
        total: wanted.extents,
    }
}

fn present(leg: &Leg, wanted: &LegConfig) -> LegState {
    let total = leg.record.extents();
    if total != wanted.extents || leg.record.nsid != wanted.nsid {
        let reason = format!(
            "it has {total} extents and namespace identifier {}, which does not change; wanted are {} and {}",
            leg.record.nsid, wanted.extents, wanted.nsid
        );
        return LegState::Failed { reason };
    }
    match &leg.phase {
        Phase::Ready if leg.exported.is_some() => LegState::Ready,
        Phase::Ready => LegState::Zeroing { done: total, total },
        Phase::Zeroing { done } | Phase::Flushing { done } => LegState::Zeroing { done: *done, total },
        Phase::Carved(_) | Phase::Recorded(_) => LegState::Zeroing {
            done: leg.record.zeroed,
            total,
        },
        Phase::Leaving | Phase::Dropped(_) => waiting(wanted),
        Phase::Failed(reason) => LegState::Failed {
            reason: reason.clone(),
        },
    }
}

/// A disk whose superblock nobody could read has no identity of its own: it is told by its path.
fn stand_in(path: &str) -> DiskId {
    DiskId(Uuid::new_v5(&Uuid::NAMESPACE_URL, path.as_bytes()))
}

fn disk_status(disk: &Disk) -> DiskStatus {
    let unusable = |known: Option<DiskId>, fault: &str| DiskStatus {
        disk: known.unwrap_or_else(|| stand_in(&disk.given.path)),
        path: disk.given.path.clone(),
        volatile: disk.given.volatile,
        extent_bytes: 0,
        extents: 0,
        extents_free: 0,
        fault: Some(fault.to_owned()),
    };
    match &disk.state {
        DiskState::Reading(_) => unusable(None, "it is being read"),
        DiskState::Faulty { disk: known, fault } => unusable(*known, fault),
        DiskState::Ready(books) => DiskStatus {
            disk: books.superblock.disk,
            path: disk.given.path.clone(),
            volatile: disk.given.volatile,
            extent_bytes: books.superblock.extent_bytes,
            extents: books.superblock.extents,
            extents_free: books.free_extents(),
            fault: books.fault.clone(),
        },
    }
}
