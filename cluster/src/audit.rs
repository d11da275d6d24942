//! Whether a plan may be committed: legal by itself and as a step from what was before, however it came about.
//!
//! It knows nothing of how the planner decides, and repeats none of its code: what it finds is a bug of the planner (or
//! of a record), and then nothing is committed.

mod before_after;
mod legs;

use crate::layout::{DiskNodeAllocation, PoolLayout};
use crate::node_config::Role;
use crate::plan::Plan;
use crate::view::PoolInput;
use crate::{ControllerNodeId, DiskNodeId, GroupId, LegId, SliceId, VolumeId};
use std::collections::BTreeSet;

/// Controller identifiers from here on are reserved.
const CNTLID_END: u16 = 0xFFF0;

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two legs of a group could be lost together.
    #[error("group {group} has two legs on disk node {node}")]
    LegsTogether {
        /// Which group.
        group: GroupId,
        /// Where.
        node: DiskNodeId,
    },
    /// A group has not the legs its protection asks for, or they differ in length, or hold too little.
    #[error("group {group}: {problem}")]
    GroupShape {
        /// Which group.
        group: GroupId,
        /// What is wrong with it.
        problem: String,
    },
    /// A leg is in two places, has no namespace identifier of its own, or is not what the allocation says.
    #[error("leg {leg}: {problem}")]
    Leg {
        /// Which leg.
        leg: LegId,
        /// What is wrong with it.
        problem: String,
    },
    /// More is taken from a disk than it has, or what is not the pool's to take or to give back.
    #[error("allocation of disk node {node}: {problem}")]
    Allocation {
        /// Whose.
        node: DiskNodeId,
        /// What is wrong with it.
        problem: String,
    },
    /// Two controllers of a subsystem could have the same identifier, or one a reserved one.
    #[error("controller node {node}: its controller identifiers overlap another's or are reserved")]
    ControllerIdentifiers {
        /// Whose.
        node: ControllerNodeId,
    },
    /// Ownership is not one owner per epoch (R1).
    #[error("slice {slice}: {problem}")]
    Ownership {
        /// Which slice.
        slice: SliceId,
        /// What is wrong with it.
        problem: String,
    },
    /// What only owners may change was changed, or a group's set is not possible (R3, R9).
    #[error("group {group}: {problem}")]
    InSync {
        /// Which group.
        group: GroupId,
        /// What is wrong with it.
        problem: String,
    },
    /// A volume lost something.
    #[error("volume {volume}: {problem}")]
    Volume {
        /// Which volume.
        volume: VolumeId,
        /// What is wrong with it.
        problem: String,
    },
    /// A revision did not grow with a change, or grew without one.
    #[error("revision of {what}: {problem}")]
    Revision {
        /// Of what.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The pool's records would go while volumes of it have theirs.
    #[error("the pool goes before its volumes")]
    VolumesOutlive,
    /// What identifies a pool to its hosts changed.
    #[error("the pool's {what} changed")]
    Identity {
        /// Its NQN, serial number, extent or protection.
        what: String,
    },
}

/// Everything that is wrong with the plan; nothing: it may be committed.
pub fn audit(input: &PoolInput, plan: &Plan) -> Vec<Violation> {
    let mut audit = Audit {
        input,
        plan,
        found: Vec::new(),
    };
    if let Some(layout) = &plan.layout {
        audit.groups(layout);
        audit.legs(layout);
        audit.controllers(layout);
        audit.memberships(layout);
        audit.volume_identities(layout);
    } else {
        audit.nothing_is_left();
    }
    audit.allocations();
    audit.configs();
    audit.step();
    audit.found
}

struct Audit<'a> {
    input: &'a PoolInput,
    plan: &'a Plan,
    found: Vec<Violation>,
}

impl<'a> Audit<'a> {
    fn found(&mut self, violation: Violation) {
        self.found.push(violation);
    }

    /// A node's allocation after the plan.
    fn allocation(&self, node: DiskNodeId) -> Option<&'a DiskNodeAllocation> {
        let present = self.input.disk_nodes.get(&node).map(|node| &node.allocation);
        self.plan.allocations.get(&node).or(present)
    }

    fn controllers(&mut self, layout: &PoolLayout) {
        let mut taken: Vec<(u16, u16)> = Vec::new();
        let mut nodes = BTreeSet::new();
        for placement in &layout.controllers {
            let (first, last) = (placement.cntlid_first, placement.cntlid_last);
            let reserved = first == 0 || last < first || last >= CNTLID_END;
            let overlaps = taken
                .iter()
                .any(|(other_first, other_last)| first <= *other_last && *other_first <= last);
            if reserved || overlaps || !nodes.insert(placement.node) {
                self.found(Violation::ControllerIdentifiers { node: placement.node });
            }
            taken.push((first, last));
        }
    }

    fn memberships(&mut self, layout: &PoolLayout) {
        let slices: BTreeSet<SliceId> = layout.slices.iter().map(|slice| slice.slice).collect();
        for slice in slices
            .iter()
            .filter(|slice| !self.plan.memberships.contains_key(slice))
            .collect::<Vec<_>>()
        {
            self.ownership(*slice, "it has no membership record");
        }
        for (slice, membership) in &self.plan.memberships {
            if !slices.contains(slice) || membership.slice != *slice || membership.pool != layout.pool {
                self.ownership(*slice, "its membership record is not of a slice of the pool");
            }
            if !layout
                .controllers
                .iter()
                .any(|placement| placement.node == membership.owner)
            {
                self.ownership(*slice, "its owner does not serve the pool");
            }
            if membership.epoch.0 == 0 {
                self.ownership(*slice, "it has an owner without an epoch");
            }
        }
        self.in_sync_sets(layout);
    }

    fn ownership(&mut self, slice: SliceId, problem: &str) {
        self.found(Violation::Ownership {
            slice,
            problem: problem.into(),
        });
    }

    /// Every group of a slice, and no other, has a set, of legs of its own, not empty.
    fn in_sync_sets(&mut self, layout: &PoolLayout) {
        for slice in &layout.slices {
            let Some(membership) = self.plan.memberships.get(&slice.slice) else {
                continue;
            };
            let groups: BTreeSet<GroupId> = slice.groups.iter().map(|group| group.group).collect();
            for group in membership.groups.keys().filter(|group| !groups.contains(group)) {
                self.in_sync(*group, "it is in the membership record but not in the layout");
            }
            for group in &slice.groups {
                let Some(known) = membership.groups.get(&group.group) else {
                    self.in_sync(group.group, "it is not in the membership record");
                    continue;
                };
                let legs: BTreeSet<LegId> = group.legs.iter().map(|leg| leg.leg).collect();
                if known.in_sync.is_empty() || !known.in_sync.is_subset(&legs) {
                    self.in_sync(group.group, "its in-sync set is empty or has legs of others");
                }
            }
        }
    }

    fn in_sync(&mut self, group: GroupId, problem: &str) {
        self.found(Violation::InSync {
            group,
            problem: problem.into(),
        });
    }

    fn volume_identities(&mut self, layout: &PoolLayout) {
        let (mut ids, mut nsids) = (BTreeSet::new(), BTreeSet::new());
        for volume in &layout.volumes {
            if !ids.insert(volume.volume) || !nsids.insert(volume.nsid) || volume.nsid == 0 {
                self.volume(
                    volume.volume,
                    "its id or namespace identifier is zero or another's",
                );
            }
            if volume.size_blocks == 0 {
                self.volume(volume.volume, "it is empty");
            }
            if volume.deleting && !volume.hosts.is_empty() {
                self.volume(volume.volume, "it is shown to hosts while it is being removed");
            }
        }
    }

    fn volume(&mut self, volume: VolumeId, problem: &str) {
        self.found(Violation::Volume {
            volume,
            problem: problem.into(),
        });
    }

    fn nothing_is_left(&mut self) {
        for slice in self.plan.memberships.keys() {
            self.ownership(*slice, "it has a membership record but no layout");
        }
    }

    /// What nodes are told of a slice: at most one owner, the one of the record.
    fn configs(&mut self) {
        for config in self.plan.controller_node_configs.values() {
            let Some(pool) = config.pools.get(&self.input.spec.id) else {
                continue;
            };
            for slice in &pool.slices {
                let Role::Owner { epoch, incarnation } = slice.role else {
                    continue;
                };
                let granted = self.plan.memberships.get(&slice.slice).is_some_and(|membership| {
                    membership.owner == config.node
                        && membership.epoch == epoch
                        && membership.owner_incarnation == incarnation
                });
                if !granted {
                    self.ownership(
                        slice.slice,
                        "a node is told that it owns the slice without the grant",
                    );
                }
            }
        }
    }
}
