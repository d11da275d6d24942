//! The control plane of a simulated fabric, as small as can be: who owns the slice under which epoch, which legs are in sync, and what
//! every node is told. It is also the oracle of what is asked of the store: R3 and R9 in part.
//!
//! Requests are taken as an api-server takes them (decision 0007): an older epoch's is stale, one that was overtaken by a later one of
//! its epoch is refused, one that was recorded is recorded again.
//!
//! What the planner, the worker and the store add to this has its tests in `cluster`, `worker` and `store`.

use crate::fabric::{Broken, Rule};
use cluster::node_config::{
    ControllerNodeConfig, DiskNodeConfig, GroupConfig, LegConfig, LegPath, PoolConfig, Portal, Role,
    SliceConfig, VolumeConfig,
};
use cluster::status::{ControllerNodeStatus, SliceState, SliceStatus};
use cluster::{
    ControllerNodeId, DiskId, DiskNodeId, Epoch, GroupId, Incarnation, LegId, Nqn, PoolId, Revision, SliceId,
    VolumeId,
};
use control::agent::{MembershipAnswer, MembershipChange, MembershipOutcome, MembershipRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use uuid::Uuid;

/// A leg of the one group.
#[derive(Clone, Debug)]
pub struct KeptLeg {
    /// Which.
    pub leg: LegId,
    /// On which disk node.
    pub node: DiskNodeId,
    /// Its NVMe/TCP address.
    pub address: SocketAddr,
    /// On which disk.
    pub disk: DiskId,
    /// In how many of its extents.
    pub extents: u64,
    /// How long.
    pub length_blocks: u64,
}

/// A controller node.
#[derive(Clone, Debug)]
pub struct KeptController {
    /// Which.
    pub node: ControllerNodeId,
    /// Its NVMe/TCP address.
    pub address: SocketAddr,
    /// Its present start.
    pub incarnation: Incarnation,
}

/// The records.
#[derive(Debug)]
pub struct Keeper {
    /// The legs.
    pub legs: Vec<KeptLeg>,
    /// The controller nodes.
    pub controllers: Vec<KeptController>,
    /// Which of them owns the slice.
    pub owner: usize,
    /// Under which epoch.
    pub epoch: Epoch,
    /// The legs that have every acknowledged write.
    pub in_sync: BTreeSet<LegId>,
    /// The hosts that see the volumes.
    pub hosts: BTreeSet<Nqn>,
    /// The volumes.
    pub volumes: Vec<VolumeConfig>,
    /// Configurations from this one on say that a volume is being deleted.
    deleted_in: BTreeMap<VolumeId, Revision>,
    /// Unit of space.
    pub extent_bytes: u64,
    formatted: bool,
    group_formatted: bool,
    /// What the owner was told of the set when its epoch was granted.
    granted: BTreeSet<LegId>,
    granted_formatted: (bool, bool),
    revision: u64,
    /// The last request of the group that was recorded, of the present epoch.
    last_request: Option<u64>,
    next_nsid: u32,
}

const POOL: PoolId = PoolId(Uuid::from_u128(0x100));
const SLICE: SliceId = SliceId(Uuid::from_u128(0x200));
const GROUP: GroupId = GroupId(Uuid::from_u128(0x300));

impl Keeper {
    /// Records of a pool that nobody owns yet: [`Keeper::grant`] comes first.
    pub fn new(
        legs: Vec<KeptLeg>,
        controllers: Vec<KeptController>,
        hosts: BTreeSet<Nqn>,
        extent_bytes: u64,
    ) -> Keeper {
        let in_sync: BTreeSet<LegId> = legs.iter().map(|leg| leg.leg).collect();
        Keeper {
            granted: in_sync.clone(),
            legs,
            controllers,
            owner: 0,
            epoch: Epoch(0),
            in_sync,
            hosts,
            volumes: Vec::new(),
            deleted_in: BTreeMap::new(),
            extent_bytes,
            formatted: false,
            group_formatted: false,
            granted_formatted: (false, false),
            revision: 0,
            last_request: None,
            next_nsid: 1,
        }
    }

    /// The pool's subsystem.
    pub fn subsystem_nqn(&self) -> Nqn {
        POOL.subsystem_nqn()
    }

    /// A new epoch, to the present start of a controller node (R1: owner and epoch change together).
    pub fn grant(&mut self, owner: usize) {
        self.owner = owner;
        self.epoch = Epoch(self.epoch.0 + 1);
        self.granted = self.in_sync.clone();
        self.granted_formatted = (self.formatted, self.group_formatted);
        self.last_request = None;
    }

    /// What an api-server would do with a membership request.
    ///
    /// # Errors
    /// It asks for what must never be asked for.
    pub fn record(&mut self, request: &MembershipRequest) -> Result<MembershipAnswer, Broken> {
        let of_group = !matches!(request.change, MembershipChange::SliceFormatted);
        let is_late = of_group && self.last_request.is_some_and(|last| request.request < last);
        let outcome = if request.epoch < self.epoch {
            MembershipOutcome::StaleEpoch
        } else if is_late {
            MembershipOutcome::Refused
        } else {
            self.change(request)?;
            if of_group {
                self.last_request = Some(request.request);
            }
            MembershipOutcome::Committed
        };
        Ok(MembershipAnswer {
            request: request.request,
            slice: request.slice,
            outcome,
        })
    }

    fn change(&mut self, request: &MembershipRequest) -> Result<(), Broken> {
        let broken = |rule, why: &str| Err(Broken::new(rule, format!("{why}: {request:?}")));
        if request.epoch > self.epoch || request.slice != SLICE {
            return broken(
                Rule::R1,
                "an epoch that was never granted, or a slice that is none",
            );
        }
        match &request.change {
            MembershipChange::InSync { group, in_sync } => {
                let known = in_sync
                    .iter()
                    .all(|leg| self.legs.iter().any(|kept| kept.leg == *leg));
                if *group != GROUP || !known || in_sync.is_empty() {
                    return broken(Rule::R3, "a set of our own legs, never empty");
                }
                if !self.group_formatted {
                    return broken(
                        Rule::R9,
                        "the set of a group that is not formatted does not change",
                    );
                }
                if in_sync.is_disjoint(&self.in_sync) {
                    return broken(Rule::R3, "some leg that had every write stays");
                }
                self.in_sync.clone_from(in_sync);
            }
            MembershipChange::GroupFormatted { .. } => {
                if self.granted_formatted.1 {
                    return broken(Rule::R9, "a group is formatted once");
                }
                self.group_formatted = true;
            }
            MembershipChange::SliceFormatted => {
                if self.granted_formatted.0 {
                    return broken(Rule::R9, "a pool is formatted once");
                }
                self.formatted = true;
            }
        }
        Ok(())
    }

    /// What a disk node is to export.
    pub fn disk_node_config(&mut self, node: DiskNodeId) -> DiskNodeConfig {
        let hosts: BTreeSet<Nqn> = self
            .controllers
            .iter()
            .map(|controller| controller.node.host_nqn())
            .collect();
        let legs = self
            .legs
            .iter()
            .filter(|leg| leg.node == node)
            .map(|leg| LegConfig {
                leg: leg.leg,
                disk: leg.disk,
                nsid: 1,
                extents: leg.extents,
                hosts: hosts.clone(),
            });
        let legs = BTreeMap::from([(POOL, legs.collect())]);
        self.revision += 1;
        DiskNodeConfig {
            node,
            revision: Revision(self.revision),
            legs,
        }
    }

    /// What a controller node is to serve.
    pub fn controller_node_config(&mut self, index: usize) -> ControllerNodeConfig {
        let controller = self.controllers[index].clone();
        let owner = &self.controllers[self.owner];
        let role = if index == self.owner && self.epoch > Epoch(0) {
            Role::Owner {
                epoch: self.epoch,
                incarnation: owner.incarnation,
            }
        } else {
            Role::Standby
        };
        let first = 1 + 4096 * index as u16;
        let portals = self.controllers.iter().map(|other| Portal {
            node: other.node,
            address: other.address,
        });
        let pool = PoolConfig {
            subsystem_nqn: self.subsystem_nqn(),
            serial: "TRESTLE0001".to_owned(),
            cntlid: (first, first + 4094),
            portals: portals.collect(),
            extent_bytes: self.extent_bytes,
            slices: vec![self.slice_config(role)],
            volumes: self.volumes.clone(),
        };
        self.revision += 1;
        ControllerNodeConfig {
            node: controller.node,
            revision: Revision(self.revision),
            host_nqn: controller.node.host_nqn(),
            pools: BTreeMap::from([(POOL, pool)]),
        }
    }

    fn slice_config(&self, role: Role) -> SliceConfig {
        let legs = self.legs.iter().map(|leg| LegPath {
            leg: leg.leg,
            disk: leg.disk,
            address: leg.address,
            subsystem_nqn: leg.disk.subsystem_nqn(),
            nsid: 1,
            length_blocks: leg.length_blocks,
            in_sync: self.granted.contains(&leg.leg),
        });
        let (formatted, group_formatted) = self.granted_formatted;
        let groups = vec![GroupConfig {
            group: GROUP,
            formatted: group_formatted,
            legs: legs.collect(),
        }];
        SliceConfig {
            slice: SLICE,
            ana_group: 1,
            role,
            formatted,
            groups,
        }
    }

    /// What a worker makes of a status: volumes that the owner serves are created (R9), those that are being deleted and that it does
    /// not know any more are gone. Whether that is news.
    pub fn note_volumes(&mut self, status: &ControllerNodeStatus) -> bool {
        let ours = |slice: &&SliceStatus| slice.epoch == self.epoch && slice.state == SliceState::Serving;
        let Some(slice) = status.slices.iter().find(ours) else {
            return false;
        };
        let served: BTreeSet<VolumeId> = slice.volumes.iter().map(|volume| volume.volume).collect();
        let before = self.volumes.len();
        // What was told after the wish to delete is known to be newer than the wish.
        let (revision, deleted_in) = (status.revision, &self.deleted_in);
        self.volumes.retain(|volume| {
            let told = deleted_in
                .get(&volume.volume)
                .is_some_and(|wish| revision >= *wish);
            !volume.deleting || !told || served.contains(&volume.volume)
        });
        let news = self
            .volumes
            .iter_mut()
            .filter(|volume| !volume.created && served.contains(&volume.volume));
        news.map(|volume| volume.created = true).count() > 0 || self.volumes.len() < before
    }

    /// A volume for the hosts; the map need not know it yet.
    pub fn add_volume(&mut self, volume: VolumeId, size_blocks: u64) {
        let nsid = self.next_nsid;
        self.next_nsid += 1;
        self.volumes.push(VolumeConfig {
            volume,
            nsid,
            size_blocks,
            hosts: self.hosts.clone(),
            created: false,
            deleting: false,
        });
    }

    /// A volume is not wanted any more.
    pub fn delete_volume(&mut self, volume: VolumeId) {
        let found = self.volumes.iter_mut().find(|kept| kept.volume == volume);
        found.expect("a volume that there is").deleting = true;
        self.deleted_in.insert(volume, Revision(self.revision + 1));
    }
}
