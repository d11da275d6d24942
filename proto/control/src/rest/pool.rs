//! Pools.

use crate::rest::path::slice_on;
use crate::rest::value::{InvalidValue, SizeInput, parse_count, parse_name, parse_size};
use crate::rest::{Path, PathState, Reference};
use cluster::layout::{GroupLayout, Membership, PoolLayout, SliceLayout};
use cluster::size::size_text;
use cluster::spec::{EXTENT_BYTES_DEFAULT, EXTENT_BYTES_MAX, EXTENT_BYTES_MIN, PoolSpec};
use cluster::status::{PoolProgress, SliceState, SliceStatus};
use cluster::view::ControllerNodeView;
use cluster::{ControllerNodeId, PoolId, SliceId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// The largest pool: 1 EiB.
const POOL_BYTES_MAX: u64 = 1 << 60;
/// Extents are whole MiB.
const EXTENT_UNIT: u64 = 1 << 20;
/// Their controller-identifier ranges must be disjoint (Base 2.1, CNTLID).
const CONTROLLERS_MAX: u8 = 15;

/// A pool to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolCreate {
    /// Unique among pools.
    pub name: String,
    /// Usable space; rounded up to whole extents.
    pub capacity: SizeInput,
    /// The unit in which volumes are given space: whole MiB, 4 MiB to 100 GiB. 1 GiB if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent: Option<SizeInput>,
    /// How its data is protected. A mirror of two if nothing is said.
    #[serde(default)]
    pub protection: Protection,
    /// How many controller nodes serve it: one owner, the rest standbys. Two if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_count: Option<i64>,
    /// Name or id of the controller node that should own it. The planner's choice if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// How data is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Protection {
    /// Not at all.
    None {},
    /// The same data on several disk nodes.
    Mirror {
        /// On how many: 2 to 4.
        legs: i64,
    },
}

impl Default for Protection {
    fn default() -> Protection {
        Protection::Mirror { legs: 2 }
    }
}

impl Protection {
    fn parse(self) -> Result<cluster::spec::Protection, InvalidValue> {
        Ok(match self {
            Protection::None {} => cluster::spec::Protection::None,
            Protection::Mirror { legs } => cluster::spec::Protection::Mirror {
                legs: parse_count("protection.legs", legs, 2..=4)?,
            },
        })
    }
}

impl From<cluster::spec::Protection> for Protection {
    fn from(protection: cluster::spec::Protection) -> Protection {
        match protection {
            cluster::spec::Protection::None => Protection::None {},
            cluster::spec::Protection::Mirror { legs } => Protection::Mirror { legs: legs.into() },
        }
    }
}

impl PoolCreate {
    /// The record of a new pool; the wanted owner is looked up by the caller.
    ///
    /// Errors: [`InvalidValue`].
    pub fn parse(&self, id: PoolId, owner: Option<ControllerNodeId>) -> Result<PoolSpec, InvalidValue> {
        let extent = match &self.extent {
            None => EXTENT_BYTES_DEFAULT,
            Some(extent) => parse_size("extent", extent, EXTENT_BYTES_MIN..=EXTENT_BYTES_MAX, EXTENT_UNIT)?,
        };
        let capacity = parse_size("capacity", &self.capacity, 1..=POOL_BYTES_MAX, 1)?;
        Ok(PoolSpec {
            id,
            name: parse_name("name", &self.name)?,
            capacity_bytes: capacity.next_multiple_of(extent),
            extent_bytes: extent,
            protection: self.protection.parse()?,
            controller_count: parse_count(
                "controller_count",
                self.controller_count.unwrap_or(2),
                1..=CONTROLLERS_MAX,
            )?,
            owner,
            deleting: false,
            next_nsid: 1,
        })
    }
}

/// What may be changed of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolPatch {
    /// Name or id of the controller node that shall own it: the same as a failover.
    pub owner: String,
}

/// A planned switch of the owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Failover {
    /// Name or id of the controller node that shall own the pool; if nothing is said, a standby that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Never reused.
    pub id: Uuid,
    /// Chosen by people.
    pub name: String,
    /// Its ETag.
    pub revision: u64,
    /// Usable space, as wished.
    pub capacity_bytes: u64,
    /// The unit in which volumes are given space.
    pub extent_bytes: u64,
    /// How its data is protected.
    pub protection: Protection,
    /// How many controller nodes serve it.
    pub controller_count: u8,
    /// The controller node that should own it, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_owner: Option<Uuid>,
    /// For `nvme connect`.
    pub subsystem_nqn: String,
    /// What is.
    pub status: PoolStatus,
}

/// What is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolStatus {
    /// How far.
    pub state: PoolPhase,
    /// Its owner, once it is placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Reference>,
    /// The owner's epoch; zero before the first.
    pub epoch: u64,
    /// Space there is; none while it is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    /// Of this, given to volumes; none while it is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// What its volumes have been promised.
    pub provisioned_bytes: u64,
    /// The ways to it.
    pub paths: Vec<Path>,
    /// Its groups and their legs.
    pub groups: Vec<Group>,
    /// What it waits for.
    pub waits_for: Vec<String>,
    /// What people should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How far a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PoolPhase {
    /// Not placed yet: `waits_for` says why.
    Waiting,
    /// Placed, and on the way to being served.
    Opening,
    /// Served, every leg in sync.
    Serving,
    /// Served, with fewer legs than wished.
    Degraded,
    /// Its owner does not answer, or cannot serve.
    Unavailable,
    /// On the way out.
    Deleting,
}

/// Legs that protect each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its id.
    pub id: Uuid,
    /// Of which slice.
    pub slice: Uuid,
    /// How many legs have every acknowledged write.
    pub in_sync: usize,
    /// Regions that may differ between legs and are being made equal; none while it is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions_dirty: Option<u64>,
    /// Its legs.
    pub legs: Vec<GroupLeg>,
}

/// A leg of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupLeg {
    /// Its id.
    pub id: Uuid,
    /// On which disk node.
    pub disk_node: Uuid,
    /// On which of its disks.
    pub disk: Uuid,
    /// Its length.
    pub length_bytes: u64,
    /// It has every acknowledged write.
    pub in_sync: bool,
    /// The owner reaches it; none while the pool is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable: Option<bool>,
}

/// The records that bear on a pool, as far as people are told of them.
#[derive(Clone, Debug)]
pub struct PoolFacts {
    /// What is wanted.
    pub spec: PoolSpec,
    /// When that was written last.
    pub revision: u64,
    /// Where it is placed.
    pub layout: Option<PoolLayout>,
    /// Of its slices.
    pub memberships: BTreeMap<SliceId, Membership>,
    /// What its worker says.
    pub progress: Option<PoolProgress>,
    /// At least the controller nodes of its layout.
    pub controller_nodes: BTreeMap<ControllerNodeId, ControllerNodeView>,
}

impl PoolFacts {
    /// By id and name.
    pub fn reference(&self) -> Reference {
        Reference {
            id: self.spec.id.0,
            name: self.spec.name.clone(),
        }
    }

    /// Its one slice (today there is exactly one).
    fn slice(&self) -> Option<&SliceLayout> {
        self.layout.as_ref()?.slices.first()
    }

    /// Who owns it, under which epoch.
    pub fn membership(&self) -> Option<&Membership> {
        self.memberships.get(&self.slice()?.slice)
    }

    /// What the owner says of it, if it answers.
    fn owner_status(&self) -> Option<(&ControllerNodeView, &SliceStatus)> {
        let membership = self.membership()?;
        let node = self.controller_nodes.get(&membership.owner)?;
        Some((node, slice_on(node, membership.slice)?))
    }

    /// The owner and what it says, if it serves under the present epoch.
    pub(crate) fn serving(&self) -> Option<(&ControllerNodeView, &SliceStatus)> {
        let epoch = self.membership()?.epoch;
        self.owner_status()
            .filter(|(_, slice)| slice.state == SliceState::Serving && slice.epoch == epoch)
    }

    /// The ways to it, the serving one first.
    pub fn paths(&self) -> Vec<Path> {
        let (Some(layout), Some(slice)) = (&self.layout, self.slice()) else {
            return Vec::new();
        };
        let path = |node: ControllerNodeId| match self.controller_nodes.get(&node) {
            Some(view) => Path::over(view, slice.slice),
            None => Path {
                controller_node: self.node(node),
                address: None,
                state: PathState::Away,
                detail: None,
            },
        };
        let mut paths: Vec<Path> = layout
            .controllers
            .iter()
            .map(|placement| path(placement.node))
            .collect();
        paths.sort_by_key(|path| path.state != PathState::Optimized);
        paths
    }

    fn node(&self, id: ControllerNodeId) -> Reference {
        let name = self
            .controller_nodes
            .get(&id)
            .map_or_else(|| id.to_string(), |view| view.spec.name.clone());
        Reference { id: id.0, name }
    }

    fn provisioned_bytes(&self) -> u64 {
        let volumes = self.layout.iter().flat_map(|layout| &layout.volumes);
        let present = volumes.filter(|volume| !volume.deleting);
        present
            .map(|volume| volume.size_blocks.saturating_mul(cluster::placement::BLOCK_BYTES))
            .sum()
    }

    /// A warning, if its volumes have been promised more than it has: legal, and to be watched.
    pub fn over_provisioning(&self) -> Option<String> {
        self.over_provisioning_with(0)
    }

    /// The same, if so many bytes more are promised.
    pub fn over_provisioning_with(&self, more_bytes: u64) -> Option<String> {
        let (promised, has) = (
            self.provisioned_bytes().saturating_add(more_bytes),
            self.spec.capacity_bytes,
        );
        (promised > has).then(|| {
            let (name, promised, has) = (&self.spec.name, size_text(promised), size_text(has));
            format!("pool {name} has {has} and its volumes have been promised {promised}: watch what is used")
        })
    }

    fn phase(&self) -> PoolPhase {
        let in_sync = |group: &GroupLayout, membership: &Membership| {
            let members = membership.groups.get(&group.group);
            members.is_some_and(|members| members.in_sync.len() == group.legs.len())
        };
        let (slice, membership) = match (self.slice(), self.membership()) {
            _ if self.spec.deleting => return PoolPhase::Deleting,
            (Some(slice), Some(membership)) => (slice, membership),
            _ => return PoolPhase::Waiting,
        };
        match self.owner_status().map(|(_, status)| &status.state) {
            Some(SliceState::Failed { .. }) | None => PoolPhase::Unavailable,
            Some(_) if self.serving().is_none() => PoolPhase::Opening,
            Some(_) if slice.groups.iter().all(|group| in_sync(group, membership)) => PoolPhase::Serving,
            Some(_) => PoolPhase::Degraded,
        }
    }

    fn groups(&self) -> Vec<Group> {
        let slices = self.layout.iter().flat_map(|layout| &layout.slices);
        slices
            .flat_map(|slice| slice.groups.iter().map(|group| self.group(slice.slice, group)))
            .collect()
    }

    fn group(&self, slice: SliceId, group: &GroupLayout) -> Group {
        let members = self
            .memberships
            .get(&slice)
            .and_then(|membership| membership.groups.get(&group.group));
        let serving = self
            .serving()
            .filter(|(_, status)| status.slice == slice)
            .map(|(_, status)| status);
        let served = serving.and_then(|status| status.groups.iter().find(|found| found.group == group.group));
        let reachable = |leg| {
            served?
                .legs
                .iter()
                .find(|found| found.leg == leg)
                .map(|found| found.reachable)
        };
        let legs = group.legs.iter().map(|leg| GroupLeg {
            id: leg.leg.0,
            disk_node: leg.disk_node.0,
            disk: leg.disk.0,
            length_bytes: leg.length_blocks.saturating_mul(cluster::placement::BLOCK_BYTES),
            in_sync: members.is_some_and(|members| members.in_sync.contains(&leg.leg)),
            reachable: reachable(leg.leg),
        });
        Group {
            id: group.group.0,
            slice: slice.0,
            in_sync: members.map_or(0, |members| members.in_sync.len()),
            regions_dirty: served.map(|served| served.regions_dirty),
            legs: legs.collect(),
        }
    }
}

impl Pool {
    /// From its records.
    pub fn new(facts: &PoolFacts) -> Pool {
        let spec = &facts.spec;
        Pool {
            id: spec.id.0,
            name: spec.name.clone(),
            revision: facts.revision,
            capacity_bytes: spec.capacity_bytes,
            extent_bytes: spec.extent_bytes,
            protection: spec.protection.into(),
            controller_count: spec.controller_count,
            wanted_owner: spec.owner.map(|owner| owner.0),
            subsystem_nqn: spec.id.subsystem_nqn().0,
            status: PoolStatus::new(facts),
        }
    }
}

impl PoolStatus {
    fn new(facts: &PoolFacts) -> PoolStatus {
        let bytes = |extents: u64| extents.saturating_mul(facts.spec.extent_bytes);
        let serving = facts.serving().map(|(_, slice)| slice);
        PoolStatus {
            state: facts.phase(),
            owner: facts.membership().map(|membership| facts.node(membership.owner)),
            epoch: facts.membership().map_or(0, |membership| membership.epoch.0),
            capacity_bytes: serving.map(|slice| bytes(slice.extents)),
            used_bytes: serving.map(|slice| bytes(slice.extents_used)),
            provisioned_bytes: facts.provisioned_bytes(),
            paths: facts.paths(),
            groups: facts.groups(),
            waits_for: facts
                .progress
                .as_ref()
                .map_or_else(Vec::new, |progress| progress.waits.clone()),
            warnings: facts.over_provisioning().into_iter().collect(),
        }
    }
}
