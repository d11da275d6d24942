//! The step from what was before: what may never go back, and what only owners may change.

use super::{Audit, Violation};
use crate::Revision;
use crate::layout::{Membership, PoolLayout, VolumeLayout};
use crate::plan::VolumeChange;
use std::collections::BTreeSet;

impl Audit<'_> {
    pub(super) fn step(&mut self) {
        self.config_revisions();
        for before in self.input.memberships.values() {
            if let Some(after) = self.plan.memberships.get(&before.slice) {
                self.membership_step(before, after);
            }
        }
        match (&self.input.layout, &self.plan.layout) {
            (Some(before), Some(after)) => self.layout_step(before, after),
            (Some(before), None) if !before.slices.is_empty() || !self.input.spec.deleting => {
                let problem = "it is gone before it was taken apart".into();
                self.found(Violation::Revision {
                    what: "the layout".into(),
                    problem,
                });
            }
            (None, Some(after)) if after.revision.0 == 0 => {
                let problem = "the first one is not 1 or more".into();
                self.found(Violation::Revision {
                    what: "the layout".into(),
                    problem,
                });
            }
            _ => {}
        }
        self.volumes_gone();
    }

    fn membership_step(&mut self, before: &Membership, after: &Membership) {
        let slice = before.slice;
        if after.epoch < before.epoch {
            self.ownership(slice, "its epoch goes back");
        }
        let same_grant = (after.owner, after.owner_incarnation) == (before.owner, before.owner_incarnation);
        if same_grant != (after.epoch == before.epoch) {
            self.ownership(slice, "owner and epoch do not change together");
        }
        if before.formatted != after.formatted {
            self.ownership(slice, "whether it is formatted is for its owner to say");
        }
        for (group, known) in &before.groups {
            if after.groups.get(group) != Some(known) {
                self.in_sync(
                    *group,
                    "its in-sync set and whether it is formatted are for its owner to say",
                );
            }
        }
    }

    fn layout_step(&mut self, before: &PoolLayout, after: &PoolLayout) {
        let revision_as_before = PoolLayout {
            revision: before.revision,
            ..after.clone()
        };
        self.revision(
            "the layout",
            (before.revision, after.revision),
            *before == revision_as_before,
        );
        let identities = [
            ("subsystem NQN", before.subsystem_nqn == after.subsystem_nqn),
            ("serial number", before.serial == after.serial),
            ("extent", before.extent_bytes == after.extent_bytes),
            ("protection", before.protection == after.protection),
        ];
        for (what, _) in identities.into_iter().filter(|(_, same)| !same) {
            self.found(Violation::Identity { what: what.into() });
        }
        for placement in &after.controllers {
            let known = before
                .controllers
                .iter()
                .find(|known| known.node == placement.node);
            if known.is_some_and(|known| known != placement) {
                self.found(Violation::ControllerIdentifiers { node: placement.node });
            }
        }
        self.legs_step(before, after);
        for volume in &before.volumes {
            match after.volumes.iter().find(|found| found.volume == volume.volume) {
                Some(found) => self.volume_step(volume, found),
                None if volume.deleting || self.input.spec.deleting => {}
                None => self.volume(volume.volume, "it is forgotten before it was removed"),
            }
        }
    }

    /// A leg stays where it is and as long as it is, and a retired one does not come back.
    fn legs_step(&mut self, before: &PoolLayout, after: &PoolLayout) {
        let retired: BTreeSet<_> = before.retired.iter().map(|leg| leg.leg).collect();
        for leg in after.legs() {
            if retired.contains(&leg.leg) {
                self.found(Violation::Leg {
                    leg: leg.leg,
                    problem: "it was retired and came back".into(),
                });
            }
        }
        for leg in after.legs().chain(&after.retired) {
            let known = before
                .legs()
                .chain(&before.retired)
                .find(|known| known.leg == leg.leg);
            if known.is_some_and(|known| known != leg) {
                self.found(Violation::Leg {
                    leg: leg.leg,
                    problem: "it was moved or resized".into(),
                });
            }
        }
    }

    fn volume_step(&mut self, before: &VolumeLayout, after: &VolumeLayout) {
        let rules = [
            (after.size_blocks >= before.size_blocks, "it shrinks"),
            (after.nsid == before.nsid, "its namespace identifier changes"),
            (
                after.created || !before.created,
                "it was created and is to be created again",
            ),
            (after.deleting || !before.deleting, "its removal is taken back"),
        ];
        for (_, problem) in rules.into_iter().filter(|(kept, _)| !kept) {
            self.volume(before.volume, problem);
        }
    }

    /// A volume's records go only when people wanted that.
    fn volumes_gone(&mut self) {
        let plan = self.plan;
        for (volume, change) in &plan.volumes {
            let spec = self.input.volumes.get(volume);
            if *change == VolumeChange::Gone && spec.is_none_or(|spec| !spec.deleting) {
                self.volume(*volume, "its records would go though nobody asked for that");
            }
        }
        let orphans = self
            .input
            .volumes
            .keys()
            .filter(|id| plan.volumes.get(id) != Some(&VolumeChange::Gone));
        if plan.pool_gone && orphans.count() > 0 {
            self.found(Violation::VolumesOutlive);
        }
    }

    fn config_revisions(&mut self) {
        let plan = self.plan;
        for config in plan.disk_node_configs.values() {
            let present = self
                .input
                .disk_nodes
                .get(&config.node)
                .and_then(|node| node.config.as_ref());
            let present = present.map_or(Revision(0), |present| present.revision);
            self.revision("a disk node's configuration", (present, config.revision), false);
        }
        for config in plan.controller_node_configs.values() {
            let present = self
                .input
                .controller_nodes
                .get(&config.node)
                .and_then(|node| node.config.as_ref());
            let present = present.map_or(Revision(0), |present| present.revision);
            self.revision(
                "a controller node's configuration",
                (present, config.revision),
                false,
            );
        }
    }

    fn revision(&mut self, what: &str, (before, after): (Revision, Revision), same: bool) {
        if same != (before == after) || after < before {
            let problem = format!("from {} to {}", before.0, after.0);
            self.found(Violation::Revision {
                what: what.into(),
                problem,
            });
        }
    }
}
