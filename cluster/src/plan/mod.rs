//! The planner: from what is wanted, what is and what was decided before, to what shall be.
//!
//! [`plan`] is a function of its arguments. It decides one step at a time and waits where a node has to do something
//! first; run again on what has become of its own plan it goes on, and where nothing is left to do it answers the
//! present state again ([`Plan::is_quiet`]). Every wait is a sentence for people.
//!
//! What it deliberately does not: it never fails a slice over on its own (a dead owner is a wait), never moves a leg,
//! never changes an in-sync set (R3, R4: the owner's), never shrinks anything. A cordoned node keeps what it has and is
//! given nothing new.
//!
//! Invariants: owner, incarnation and epoch change together (R1); what disk nodes have not swept is still taken;
//! everything [`audit`](crate::audit) says.

mod create;
mod owner;
mod retire;
mod volumes;

use crate::config::{ConfigError, PoolFacts, with_legs, with_pool};
use crate::layout::{DiskNodeAllocation, Membership, PoolLayout};
use crate::node_config::{ControllerNodeConfig, DiskNodeConfig};
use crate::spec::PoolSpec;
use crate::view::PoolInput;
use crate::{ControllerNodeId, DiskNodeId, Revision, SliceId, VolumeId, diff};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The records as they shall be, and why they are not further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `None`: the pool is not placed yet, or gone.
    pub layout: Option<PoolLayout>,
    /// Of every slice of the layout; others are to be removed.
    pub memberships: BTreeMap<SliceId, Membership>,
    /// Only those that change.
    pub allocations: BTreeMap<DiskNodeId, DiskNodeAllocation>,
    /// Only those that change.
    pub disk_node_configs: BTreeMap<DiskNodeId, DiskNodeConfig>,
    /// Only those that change.
    pub controller_node_configs: BTreeMap<ControllerNodeId, ControllerNodeConfig>,
    /// Only those that change.
    pub volumes: BTreeMap<VolumeId, VolumeChange>,
    /// Nothing of the pool is left but its spec, which is to be removed.
    pub pool_gone: bool,
    /// What it waits for, in words; empty: all is as wished.
    pub waits: Vec<String>,
    /// What it changes, in words.
    pub steps: Vec<String>,
}

/// What becomes of a volume's spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeChange {
    /// The owner has reported it: the map knows it (R9).
    Created,
    /// The map does not know it any more: its records are to be removed.
    Gone,
}

impl Plan {
    /// Nothing changes.
    pub fn is_quiet(&self, input: &PoolInput) -> bool {
        self.layout == input.layout
            && self.memberships == input.memberships
            && self.allocations.is_empty()
            && self.disk_node_configs.is_empty()
            && self.controller_node_configs.is_empty()
            && self.volumes.is_empty()
            && !self.pool_gone
    }
}

/// Plan one pool. `fresh` gives ids nobody has used; it is asked for at most a few per group, and must not end.
pub fn plan(input: &PoolInput, fresh: &mut dyn Iterator<Item = Uuid>) -> Plan {
    let mut draft = Draft::of(input);
    let retiring = input.spec.deleting && draft.kept_volumes().is_empty();
    if input.layout.is_none() && !input.spec.deleting {
        draft.create(fresh);
    }
    draft.change_volumes();
    if retiring {
        draft.retire_everything();
    } else if input.layout.is_some() {
        draft.add_controllers();
        draft.grant_slices();
    }
    draft.release_swept_legs(retiring);
    draft.finish()
}

/// A plan in the making.
struct Draft<'a> {
    input: &'a PoolInput,
    layout: Option<PoolLayout>,
    memberships: BTreeMap<SliceId, Membership>,
    allocations: BTreeMap<DiskNodeId, DiskNodeAllocation>,
    volumes: BTreeMap<VolumeId, VolumeChange>,
    pool_gone: bool,
    waits: Vec<String>,
}

impl<'a> Draft<'a> {
    fn of(input: &'a PoolInput) -> Self {
        Draft {
            input,
            layout: input.layout.clone(),
            memberships: input.memberships.clone(),
            allocations: BTreeMap::new(),
            volumes: BTreeMap::new(),
            pool_gone: false,
            waits: Vec::new(),
        }
    }

    fn wait(&mut self, reason: impl Into<String>) {
        self.waits.push(reason.into());
    }

    /// A node's allocation, to be changed.
    fn allocation(&mut self, node: DiskNodeId) -> Option<&mut DiskNodeAllocation> {
        let present = &self.input.disk_nodes.get(&node)?.allocation;
        Some(self.allocations.entry(node).or_insert_with(|| present.clone()))
    }

    fn finish(mut self) -> Plan {
        if let Some(layout) = &mut self.layout {
            let before = self.input.layout.as_ref();
            if before != Some(layout) {
                layout.revision = Revision(before.map_or(0, |before| before.revision.0) + 1);
            }
        }
        match self.node_configs() {
            Ok(configs) => {
                let mut plan = Plan {
                    layout: self.layout,
                    memberships: self.memberships,
                    allocations: self.allocations,
                    disk_node_configs: configs.disk_nodes,
                    controller_node_configs: configs.controller_nodes,
                    volumes: self.volumes,
                    pool_gone: self.pool_gone,
                    waits: self.waits,
                    steps: Vec::new(),
                };
                plan.steps = diff::steps(self.input, &plan);
                plan
            }
            Err(error) => unchanged(self.input, error.to_string()),
        }
    }

    /// The configurations that change.
    fn node_configs(&self) -> Result<NodeConfigs, ConfigError> {
        let (mut legs, mut pools) = (BTreeMap::new(), BTreeMap::new());
        if let Some(layout) = &self.layout {
            let facts = PoolFacts {
                layout,
                memberships: &self.memberships,
                disk_nodes: &self.input.disk_nodes,
                controller_nodes: &self.input.controller_nodes,
            };
            (legs, pools) = (facts.leg_configs(), facts.pool_configs()?);
        }
        let pool = self.input.spec.id;
        let mut configs = NodeConfigs::default();
        for (id, node) in &self.input.disk_nodes {
            let config = with_legs(*id, node.config.as_ref(), pool, legs.remove(id));
            configs.disk_nodes.extend(config.map(|config| (*id, config)));
        }
        for (id, node) in &self.input.controller_nodes {
            let config = with_pool(*id, node.config.as_ref(), pool, pools.remove(id));
            configs
                .controller_nodes
                .extend(config.map(|config| (*id, config)));
        }
        Ok(configs)
    }
}

/// What nodes are told anew.
#[derive(Default)]
struct NodeConfigs {
    disk_nodes: BTreeMap<DiskNodeId, DiskNodeConfig>,
    controller_nodes: BTreeMap<ControllerNodeId, ControllerNodeConfig>,
}

/// What is, with a reason why nothing can be planned.
fn unchanged(input: &PoolInput, reason: String) -> Plan {
    Plan {
        layout: input.layout.clone(),
        memberships: input.memberships.clone(),
        allocations: BTreeMap::new(),
        disk_node_configs: BTreeMap::new(),
        controller_node_configs: BTreeMap::new(),
        volumes: BTreeMap::new(),
        pool_gone: false,
        waits: vec![reason],
        steps: Vec::new(),
    }
}

/// The disk and controller nodes that the pool's records name: what a caller must put into a [`PoolInput`] at least.
pub fn nodes_of(
    spec: &PoolSpec,
    layout: Option<&PoolLayout>,
) -> (BTreeSet<DiskNodeId>, BTreeSet<ControllerNodeId>) {
    let legs = layout
        .into_iter()
        .flat_map(|layout| layout.legs().chain(&layout.retired));
    let controllers = layout.into_iter().flat_map(|layout| &layout.controllers);
    let controllers = controllers.map(|placement| placement.node).chain(spec.owner);
    (legs.map(|leg| leg.disk_node).collect(), controllers.collect())
}

/// Whether the planner will look for nodes to place something on: then it must be shown all there are.
pub fn needs_all_nodes(spec: &PoolSpec, layout: Option<&PoolLayout>) -> bool {
    let short = |layout: &PoolLayout| layout.controllers.len() < usize::from(spec.controller_count);
    !spec.deleting && layout.is_none_or(short)
}
