//! From layout and membership to what each node is told. A function of its arguments and nothing else: whoever
//! computes it from the same records gets the same.

use crate::layout::{GroupLayout, LegLayout, Membership, PoolLayout, SliceLayout, VolumeLayout};
use crate::node_config::{
    ControllerNodeConfig, DiskNodeConfig, GroupConfig, LegConfig, LegPath, PoolConfig, Portal, Role,
    SliceConfig, VolumeConfig,
};
use crate::view::{ControllerNodeView, DiskNodeView};
use crate::{ControllerNodeId, DiskNodeId, PoolId, Revision, SliceId};
use std::collections::BTreeMap;

/// A pool cannot be described to its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A leg lies on a disk node that has no record: its address is not known.
    #[error("disk node {0} has legs of the pool but no record; let it join again")]
    DiskNodeMissing(DiskNodeId),
    /// A slice has no membership record.
    #[error("slice {0} has no membership record")]
    MembershipMissing(SliceId),
}

/// What the records say about a pool: the argument of everything here.
#[derive(Clone, Copy)]
pub struct PoolFacts<'a> {
    /// Its layout.
    pub layout: &'a PoolLayout,
    /// The membership of each slice.
    pub memberships: &'a BTreeMap<SliceId, Membership>,
    /// For their addresses.
    pub disk_nodes: &'a BTreeMap<DiskNodeId, DiskNodeView>,
    /// For their addresses.
    pub controller_nodes: &'a BTreeMap<ControllerNodeId, ControllerNodeView>,
}

impl PoolFacts<'_> {
    /// What each of the pool's controller nodes is told.
    ///
    /// Errors: as of [`ConfigError`].
    pub fn pool_configs(&self) -> Result<BTreeMap<ControllerNodeId, PoolConfig>, ConfigError> {
        let controllers = self.layout.controllers.iter();
        controllers
            .map(|placement| Ok((placement.node, self.pool_config(placement.node)?)))
            .collect()
    }

    fn pool_config(&self, node: ControllerNodeId) -> Result<PoolConfig, ConfigError> {
        let layout = self.layout;
        let mut controllers = layout.controllers.iter();
        let own = controllers
            .find(|placement| placement.node == node)
            .expect("asked for a node of the layout");
        let slices = layout
            .slices
            .iter()
            .map(|slice| self.slice_config(slice, node))
            .collect::<Result<_, _>>()?;
        Ok(PoolConfig {
            subsystem_nqn: layout.subsystem_nqn.clone(),
            serial: layout.serial.clone(),
            cntlid: (own.cntlid_first, own.cntlid_last),
            portals: self.portals(),
            extent_bytes: layout.extent_bytes,
            slices,
            volumes: layout.volumes.iter().map(volume_config).collect(),
        })
    }

    /// A controller node without a record has no address to be reached at, and is told to nobody.
    fn portals(&self) -> Vec<Portal> {
        let nodes = self
            .layout
            .controllers
            .iter()
            .filter_map(|placement| self.controller_nodes.get(&placement.node));
        nodes
            .map(|node| Portal {
                node: node.spec.id,
                address: node.spec.fabric_address,
            })
            .collect()
    }

    fn slice_config(&self, slice: &SliceLayout, node: ControllerNodeId) -> Result<SliceConfig, ConfigError> {
        let missing = ConfigError::MembershipMissing(slice.slice);
        let membership = self.memberships.get(&slice.slice).ok_or(missing)?;
        let owner = Role::Owner {
            epoch: membership.epoch,
            incarnation: membership.owner_incarnation,
        };
        let groups = slice
            .groups
            .iter()
            .map(|group| self.group_config(group, membership));
        Ok(SliceConfig {
            slice: slice.slice,
            ana_group: slice.ana_group,
            role: if membership.owner == node {
                owner
            } else {
                Role::Standby
            },
            formatted: membership.formatted,
            groups: groups.collect::<Result<_, _>>()?,
        })
    }

    fn group_config(&self, group: &GroupLayout, membership: &Membership) -> Result<GroupConfig, ConfigError> {
        let known = membership
            .groups
            .get(&group.group)
            .ok_or(ConfigError::MembershipMissing(membership.slice))?;
        let path = |leg: &LegLayout| self.leg_path(leg, known.in_sync.contains(&leg.leg));
        Ok(GroupConfig {
            group: group.group,
            formatted: known.formatted,
            legs: group.legs.iter().map(path).collect::<Result<_, _>>()?,
        })
    }

    fn leg_path(&self, leg: &LegLayout, in_sync: bool) -> Result<LegPath, ConfigError> {
        let missing = ConfigError::DiskNodeMissing(leg.disk_node);
        let node = self.disk_nodes.get(&leg.disk_node).ok_or(missing)?;
        Ok(LegPath {
            leg: leg.leg,
            disk: leg.disk,
            address: node.spec.fabric_address,
            subsystem_nqn: leg.disk.subsystem_nqn(),
            nsid: leg.nsid,
            length_blocks: leg.length_blocks,
            in_sync,
        })
    }

    /// What each disk node is told: the legs in groups. Retired ones are not named, and so swept.
    pub fn leg_configs(&self) -> BTreeMap<DiskNodeId, Vec<LegConfig>> {
        let hosts: std::collections::BTreeSet<_> = self
            .layout
            .controllers
            .iter()
            .map(|placement| placement.node.host_nqn())
            .collect();
        let mut configs: BTreeMap<DiskNodeId, Vec<LegConfig>> = BTreeMap::new();
        for leg in self.layout.legs() {
            configs.entry(leg.disk_node).or_default().push(LegConfig {
                leg: leg.leg,
                disk: leg.disk,
                nsid: leg.nsid,
                extents: leg.extents,
                hosts: hosts.clone(),
            });
        }
        configs
    }
}

fn volume_config(volume: &VolumeLayout) -> VolumeConfig {
    VolumeConfig {
        volume: volume.volume,
        nsid: volume.nsid,
        size_blocks: volume.size_blocks,
        hosts: volume.hosts.clone(),
        created: volume.created,
        deleting: volume.deleting,
    }
}

impl PoolLayout {
    /// The legs in groups.
    pub fn legs(&self) -> impl Iterator<Item = &LegLayout> {
        self.slices
            .iter()
            .flat_map(|slice| &slice.groups)
            .flat_map(|group| &group.legs)
    }
}

/// The node's configuration with the pool's part replaced, one revision on; `None` if that is what it says already.
pub fn with_legs(
    node: DiskNodeId,
    present: Option<&DiskNodeConfig>,
    pool: PoolId,
    part: Option<Vec<LegConfig>>,
) -> Option<DiskNodeConfig> {
    if present.and_then(|config| config.legs.get(&pool)) == part.as_ref() {
        return None;
    }
    let nothing = || DiskNodeConfig {
        node,
        revision: Revision(0),
        legs: BTreeMap::new(),
    };
    let mut config = present.cloned().unwrap_or_else(nothing);
    config.revision = Revision(config.revision.0 + 1);
    replace(&mut config.legs, pool, part);
    Some(config)
}

/// The node's configuration with the pool's part replaced, one revision on; `None` if that is what it says already.
pub fn with_pool(
    node: ControllerNodeId,
    present: Option<&ControllerNodeConfig>,
    pool: PoolId,
    part: Option<PoolConfig>,
) -> Option<ControllerNodeConfig> {
    if present.and_then(|config| config.pools.get(&pool)) == part.as_ref() {
        return None;
    }
    let nothing = || ControllerNodeConfig {
        node,
        revision: Revision(0),
        host_nqn: node.host_nqn(),
        pools: BTreeMap::new(),
    };
    let mut config = present.cloned().unwrap_or_else(nothing);
    config.revision = Revision(config.revision.0 + 1);
    replace(&mut config.pools, pool, part);
    Some(config)
}

fn replace<T>(parts: &mut BTreeMap<PoolId, T>, pool: PoolId, part: Option<T>) {
    match part {
        Some(part) => parts.insert(pool, part),
        None => parts.remove(&pool),
    };
}
