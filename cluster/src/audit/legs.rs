//! Legs: apart from each other, within their disks, and exactly what is allocated.

use super::{Audit, Violation};
use crate::layout::{GroupLayout, LegLayout, PoolLayout, leg_metadata_blocks};
use crate::placement::BLOCK_BYTES;
use crate::{DiskId, DiskNodeId, LegId};
use std::collections::{BTreeMap, BTreeSet};

impl Audit<'_> {
    pub(super) fn groups(&mut self, layout: &PoolLayout) {
        for group in layout.slices.iter().flat_map(|slice| &slice.groups) {
            let mut nodes = BTreeSet::new();
            for leg in &group.legs {
                if !nodes.insert(leg.disk_node) {
                    self.found(Violation::LegsTogether {
                        group: group.group,
                        node: leg.disk_node,
                    });
                }
            }
            if let Some(problem) = shape_problem(group, layout) {
                self.found(Violation::GroupShape {
                    group: group.group,
                    problem,
                });
            }
        }
        if self.input.layout.is_none() {
            self.capacity(layout);
        }
    }

    /// A new pool holds what was asked for.
    fn capacity(&mut self, layout: &PoolLayout) {
        for slice in &layout.slices {
            let data = |group: &GroupLayout| {
                let leg = group.legs.first().map_or(0, |leg| leg.length_blocks);
                leg.saturating_sub(leg_metadata_blocks(leg))
            };
            let held: u64 = slice.groups.iter().map(data).sum();
            if held.saturating_mul(BLOCK_BYTES) < self.input.spec.capacity_bytes {
                let problem = "its legs hold less than the pool's capacity".into();
                let group = slice
                    .groups
                    .first()
                    .map_or(crate::GroupId(uuid::Uuid::nil()), |group| group.group);
                self.found(Violation::GroupShape { group, problem });
            }
        }
    }

    pub(super) fn legs(&mut self, layout: &PoolLayout) {
        let mut ids = BTreeSet::new();
        let mut nsids = BTreeSet::new();
        for leg in layout.legs().chain(&layout.retired) {
            if !ids.insert(leg.leg) {
                self.leg(leg.leg, "it is in two places");
            }
            if leg.nsid == 0 || !nsids.insert((leg.disk_node, leg.nsid)) {
                self.leg(leg.leg, "its namespace identifier is zero or another's");
            }
            self.leg_is_allocated(leg);
        }
        self.namespaces_of_other_pools();
    }

    fn leg(&mut self, leg: LegId, problem: &str) {
        self.found(Violation::Leg {
            leg,
            problem: problem.into(),
        });
    }

    fn leg_is_allocated(&mut self, leg: &LegLayout) {
        let Some(allocation) = self.allocation(leg.disk_node) else {
            return;
        };
        let taken = allocation
            .disks
            .get(&leg.disk)
            .and_then(|legs| legs.get(&leg.leg))
            .copied();
        if taken != Some(leg.extents) {
            self.leg(leg.leg, "its extents are not what is taken from the disk");
        }
        if leg.nsid >= allocation.next_nsid {
            self.leg(leg.leg, "its namespace identifier could be given to another");
        }
        let extent = self
            .disk(leg.disk_node, leg.disk)
            .map(|(extent_bytes, _)| extent_bytes);
        if extent.is_some_and(|extent| leg.extents.saturating_mul(extent / BLOCK_BYTES) != leg.length_blocks)
        {
            self.leg(leg.leg, "its length is not its extents'");
        }
    }

    /// Extent size and number of extents of a disk, if it is known.
    fn disk(&self, node: DiskNodeId, disk: DiskId) -> Option<(u64, u64)> {
        let status = self.input.disk_nodes.get(&node)?.status()?;
        let disk = status.disks.iter().find(|found| found.disk == disk)?;
        Some((disk.extent_bytes, disk.extents))
    }

    /// Namespace identifiers are given out by disk node, for all pools: what it is told must not have one twice.
    fn namespaces_of_other_pools(&mut self) {
        let plan = self.plan;
        for config in plan.disk_node_configs.values() {
            let mut nsids = BTreeSet::new();
            for leg in config.legs.values().flatten() {
                if !nsids.insert(leg.nsid) {
                    self.leg(leg.leg, "its namespace identifier is one of another pool's leg");
                }
            }
        }
    }

    /// What is taken fits; only the pool's own legs come and go; identifiers are not reused.
    pub(super) fn allocations(&mut self) {
        let plan = self.plan;
        for (node, after) in &plan.allocations {
            let Some(view) = self.input.disk_nodes.get(node) else {
                self.allocated(*node, "it is of a node without a record".into());
                continue;
            };
            if after.next_nsid < view.allocation.next_nsid {
                self.allocated(*node, "namespace identifiers would be reused".into());
            }
            let (before, after) = (flat(&view.allocation.disks), flat(&after.disks));
            for (leg, disk, _) in before.difference(&after) {
                self.may_be_given_back(*node, *leg, *disk);
            }
            for (leg, disk, _) in after.difference(&before) {
                self.may_be_taken(*node, *leg, *disk);
            }
        }
        self.legs_keep_their_space();
    }

    fn allocated(&mut self, node: DiskNodeId, problem: String) {
        self.found(Violation::Allocation { node, problem });
    }

    fn may_be_given_back(&mut self, node: DiskNodeId, leg: LegId, disk: DiskId) {
        let retired = self.input.layout.iter().flat_map(|layout| &layout.retired);
        let was_retired = retired
            .into_iter()
            .any(|found| found.leg == leg && found.disk == disk);
        let reported = self.input.disk_nodes[&node]
            .status()
            .is_none_or(|status| status.legs.iter().any(|found| found.leg == leg));
        if !was_retired || reported {
            self.allocated(node, format!("leg {leg} is given back before it is swept"));
        }
    }

    fn may_be_taken(&mut self, node: DiskNodeId, leg: LegId, disk: DiskId) {
        let legs = self.plan.layout.iter().flat_map(PoolLayout::legs);
        if !legs
            .into_iter()
            .any(|found| found.leg == leg && found.disk == disk && found.disk_node == node)
        {
            self.allocated(node, format!("leg {leg} takes space but is not in the layout"));
        }
        let taken = self.plan.allocations[&node].disks[&disk]
            .values()
            .fold(0, |sum: u64, n| sum.saturating_add(*n));
        match self.disk(node, disk) {
            Some((_, extents)) if taken <= extents => {}
            Some((_, extents)) => {
                self.allocated(
                    node,
                    format!("{taken} extents are taken from disk {disk}, which has {extents}"),
                );
            }
            None => self.allocated(
                node,
                format!("space is taken from disk {disk}, which it does not have"),
            ),
        }
    }

    /// Space of a leg that leaves the layout must go with it, or nobody would ever give it back.
    fn legs_keep_their_space(&mut self) {
        let after: BTreeSet<LegId> = self
            .plan
            .layout
            .iter()
            .flat_map(all_legs)
            .map(|leg| leg.leg)
            .collect();
        let input = self.input;
        for leg in input
            .layout
            .iter()
            .flat_map(all_legs)
            .filter(|leg| !after.contains(&leg.leg))
        {
            let disks = self.allocation(leg.disk_node).map(|allocation| &allocation.disks);
            let taken = disks
                .and_then(|disks| disks.get(&leg.disk))
                .is_some_and(|legs| legs.contains_key(&leg.leg));
            if taken {
                self.allocated(
                    leg.disk_node,
                    format!("leg {} is forgotten but still takes space", leg.leg),
                );
            }
        }
    }
}

fn all_legs(layout: &PoolLayout) -> impl Iterator<Item = &LegLayout> {
    layout.legs().chain(&layout.retired)
}

fn flat(disks: &BTreeMap<DiskId, BTreeMap<LegId, u64>>) -> BTreeSet<(LegId, DiskId, u64)> {
    let legs = disks
        .iter()
        .flat_map(|(disk, legs)| legs.iter().map(move |(leg, extents)| (*leg, *disk, *extents)));
    legs.collect()
}

fn shape_problem(group: &GroupLayout, layout: &PoolLayout) -> Option<String> {
    if group.legs.len() != layout.protection.legs() {
        return Some(format!(
            "it has {} legs, not {}",
            group.legs.len(),
            layout.protection.legs()
        ));
    }
    let lengths: BTreeSet<u64> = group.legs.iter().map(|leg| leg.length_blocks).collect();
    (lengths.len() > 1).then(|| "its legs differ in length".into())
}
