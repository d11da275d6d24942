//! The control plane of a simulated fabric, as small as can be: who owns the slice under which epoch, which legs are in sync, and what
//! every node is told. It is also the oracle of R1, R3 (in part) and of epochs and revisions that only grow.
//!
//! What the planner, the worker and the store add to this has its tests in `cluster`, `worker` and `store`.

use cluster::node_config::{
    ControllerNodeConfig, DiskNodeConfig, GroupConfig, LegConfig, LegPath, PoolConfig, Portal, Role,
    SliceConfig, VolumeConfig,
};
use cluster::status::ControllerNodeStatus;
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
    /// The host that sees the volumes.
    pub host_nqn: Nqn,
    /// The volumes.
    pub volumes: Vec<VolumeConfig>,
    /// Unit of space.
    pub extent_bytes: u64,
    formatted: bool,
    group_formatted: bool,
    /// What the owner was told of the set when its epoch was granted.
    granted: BTreeSet<LegId>,
    granted_formatted: (bool, bool),
    revision: u64,
    answered: BTreeMap<(u64, u64), MembershipOutcome>,
}

const POOL: PoolId = PoolId(Uuid::from_u128(0x100));
const SLICE: SliceId = SliceId(Uuid::from_u128(0x200));
const GROUP: GroupId = GroupId(Uuid::from_u128(0x300));

impl Keeper {
    /// Records of a pool that nobody owns yet: [`Keeper::grant`] comes first.
    pub fn new(
        legs: Vec<KeptLeg>,
        controllers: Vec<KeptController>,
        host_nqn: Nqn,
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
            host_nqn,
            volumes: Vec::new(),
            extent_bytes,
            formatted: false,
            group_formatted: false,
            granted_formatted: (false, false),
            revision: 0,
            answered: BTreeMap::new(),
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
    }

    /// What an api-server would do with a membership request.
    pub fn record(&mut self, request: &MembershipRequest) -> MembershipAnswer {
        let outcome = if request.epoch == self.epoch {
            self.change(request)
        } else {
            MembershipOutcome::StaleEpoch
        };
        self.answered.insert((request.epoch.0, request.request), outcome);
        MembershipAnswer {
            request: request.request,
            slice: request.slice,
            outcome,
        }
    }

    fn change(&mut self, request: &MembershipRequest) -> MembershipOutcome {
        assert_eq!(request.slice, SLICE, "there is one slice");
        match &request.change {
            MembershipChange::InSync { group, in_sync } => {
                let known = in_sync
                    .iter()
                    .all(|leg| self.legs.iter().any(|kept| kept.leg == *leg));
                assert!(
                    *group == GROUP && known && !in_sync.is_empty(),
                    "a set of our own legs, never empty: {request:?}"
                );
                assert!(
                    self.group_formatted,
                    "the set of a group that is not formatted does not change"
                );
                assert!(
                    !in_sync.is_disjoint(&self.in_sync),
                    "some leg that had every write stays (R3): {request:?}"
                );
                self.in_sync.clone_from(in_sync);
            }
            MembershipChange::GroupFormatted { .. } => {
                assert!(!self.granted_formatted.1, "a group is formatted once (R9)");
                self.group_formatted = true;
            }
            MembershipChange::SliceFormatted => {
                assert!(!self.granted_formatted.0, "a pool is formatted once (R9)");
                self.formatted = true;
            }
        }
        MembershipOutcome::Committed
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

    /// What a worker makes of a status: volumes that the owner serves are created (R9). Whether that is news.
    pub fn note_created(&mut self, status: &ControllerNodeStatus) -> bool {
        let served = status
            .slices
            .iter()
            .filter(|slice| slice.epoch == self.epoch)
            .flat_map(|slice| &slice.volumes);
        let served: BTreeSet<VolumeId> = served.map(|volume| volume.volume).collect();
        let news = self
            .volumes
            .iter_mut()
            .filter(|volume| !volume.created && served.contains(&volume.volume));
        news.map(|volume| volume.created = true).count() > 0
    }

    /// A volume for the host; the map need not know it yet.
    pub fn add_volume(&mut self, volume: VolumeId, size_blocks: u64) {
        let nsid = self.volumes.len() as u32 + 1;
        let hosts = BTreeSet::from([self.host_nqn.clone()]);
        self.volumes.push(VolumeConfig {
            volume,
            nsid,
            size_blocks,
            hosts,
            created: false,
            deleting: false,
        });
    }
}
