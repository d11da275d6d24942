//! A cluster in memory, for the planner's tests: the store's records, and nodes that do what they are told, when they
//! are told to do it, or die. Nodes are models, not the real ones; what they check is what a real one would suffer from:
//! a volume that was created and is not in the map, two owners, a leg that was swept and is wanted again.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

mod controllers;
mod disks;

pub use controllers::ControllerNode;
pub use disks::DiskNode;

use cluster::audit::audit;
use cluster::layout::{Membership, PoolLayout};
use cluster::plan::{Plan, VolumeChange, needs_all_nodes, nodes_of, plan};
use cluster::spec::{AttachmentSpec, HostSpec, NodeSpec, PoolSpec, Protection, VolumeSpec};
use cluster::view::{ControllerNodeView, DiskNodeView, PoolInput};
use cluster::{ControllerNodeId, DiskNodeId, Epoch, HostId, Incarnation, Nqn, PoolId, SliceId, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What the legs of a slice hold: durable, whoever serves it.
#[derive(Default)]
pub struct Map {
    /// The highest epoch the legs have accepted.
    pub fence: Epoch,
    /// Size in blocks.
    pub volumes: BTreeMap<VolumeId, u64>,
}

#[derive(Default)]
pub struct World {
    pub pools: BTreeMap<PoolId, PoolSpec>,
    pub volumes: BTreeMap<VolumeId, VolumeSpec>,
    pub hosts: BTreeMap<HostId, HostSpec>,
    pub attachments: BTreeSet<(VolumeId, HostId)>,
    pub layouts: BTreeMap<PoolId, PoolLayout>,
    pub memberships: BTreeMap<SliceId, Membership>,
    pub disk_nodes: BTreeMap<DiskNodeId, DiskNode>,
    pub controller_nodes: BTreeMap<ControllerNodeId, ControllerNode>,
    pub maps: BTreeMap<SliceId, Map>,
    pub ids: u128,
}

impl World {
    pub fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    pub fn join_disk_node(&mut self, name: &str, location: &str, disks: &[(u64, u64)]) -> DiskNodeId {
        let id = DiskNodeId(self.id());
        let spec = self.node_spec(id, name, location);
        let disks = disks
            .iter()
            .map(|(extents, extent_bytes)| disks::disk(self.id(), *extents, *extent_bytes));
        let disks = disks.collect();
        self.disk_nodes.insert(id, DiskNode::new(spec, disks));
        id
    }

    pub fn join_controller_node(&mut self, name: &str, location: &str) -> ControllerNodeId {
        let id = ControllerNodeId(self.id());
        let spec = self.node_spec(id, name, location);
        self.controller_nodes.insert(id, ControllerNode::new(spec));
        id
    }

    fn node_spec<Id>(&mut self, id: Id, name: &str, location: &str) -> NodeSpec<Id> {
        NodeSpec {
            id,
            name: name.into(),
            agent_address: "127.0.0.1:1".parse().unwrap(),
            fabric_address: "127.0.0.1:4420".parse().unwrap(),
            agent_token: "token".into(),
            incarnation: Incarnation(self.id()),
            location: location.into(),
            cordoned: false,
        }
    }

    pub fn create_pool(
        &mut self,
        name: &str,
        capacity_bytes: u64,
        extent_bytes: u64,
        legs: u8,
        count: u8,
    ) -> PoolId {
        let id = PoolId(self.id());
        let protection = if legs == 1 {
            Protection::None
        } else {
            Protection::Mirror { legs }
        };
        let spec = PoolSpec {
            id,
            name: name.into(),
            capacity_bytes,
            extent_bytes,
            protection,
            controller_count: count,
            owner: None,
            deleting: false,
            next_nsid: 1,
        };
        self.pools.insert(id, spec);
        id
    }

    pub fn create_volume(&mut self, pool: PoolId, name: &str, size_bytes: u64) -> VolumeId {
        let id = VolumeId(self.id());
        let spec = self.pools.get_mut(&pool).expect("the test knows its pools");
        let nsid = spec.next_nsid;
        spec.next_nsid += 1;
        let volume = VolumeSpec {
            id,
            name: name.into(),
            pool,
            nsid,
            size_bytes,
            deleting: false,
            created: false,
        };
        self.volumes.insert(id, volume);
        id
    }

    pub fn create_host(&mut self, name: &str) -> HostId {
        let id = HostId(self.id());
        self.hosts.insert(
            id,
            HostSpec {
                id,
                name: name.into(),
                nqn: Nqn(format!("nqn.{name}")),
            },
        );
        id
    }

    /// What a worker would read.
    pub fn input(&self, pool: PoolId) -> PoolInput {
        let (spec, layout) = (self.pools[&pool].clone(), self.layouts.get(&pool).cloned());
        let all = needs_all_nodes(&spec, layout.as_ref());
        let (disk_nodes, controller_nodes) = nodes_of(&spec, layout.as_ref());
        let of_pool = |volume: &VolumeSpec| volume.pool == pool;
        let slices = layout
            .iter()
            .flat_map(|layout| &layout.slices)
            .map(|slice| slice.slice);
        PoolInput {
            volumes: self
                .volumes
                .iter()
                .filter(|(_, v)| of_pool(v))
                .map(|(id, v)| (*id, v.clone()))
                .collect(),
            attachments: self
                .attachments
                .iter()
                .map(|(volume, host)| AttachmentSpec {
                    volume: *volume,
                    host: *host,
                })
                .collect(),
            hosts: self.hosts.clone(),
            memberships: slices
                .filter_map(|id| Some((id, self.memberships.get(&id)?.clone())))
                .collect(),
            disk_nodes: self
                .disk_nodes
                .iter()
                .filter(|(id, _)| all || disk_nodes.contains(id))
                .map(|(id, node)| (*id, node.view()))
                .collect::<BTreeMap<DiskNodeId, DiskNodeView>>(),
            controller_nodes: self
                .controller_nodes
                .iter()
                .filter(|(id, _)| all || controller_nodes.contains(id))
                .map(|(id, node)| (*id, node.view()))
                .collect::<BTreeMap<ControllerNodeId, ControllerNodeView>>(),
            spec,
            layout,
        }
    }

    /// Plan a pool, audit, commit; twice, because a plan is the same however often it is made.
    pub fn plan(&mut self, pool: PoolId) -> Plan {
        let input = self.input(pool);
        let mut fresh = (self.ids + 1..).map(Uuid::from_u128);
        let made = plan(&input, &mut fresh.by_ref());
        assert_eq!(
            made,
            plan(&input, &mut (self.ids + 1..).map(Uuid::from_u128)),
            "a plan is a function"
        );
        self.ids = fresh.next().expect("does not end").as_u128();
        let violations = audit(&input, &made);
        assert!(violations.is_empty(), "{violations:#?}\n{made:#?}");
        self.commit(pool, &input, &made);
        made
    }

    fn commit(&mut self, pool: PoolId, input: &PoolInput, plan: &Plan) {
        self.layouts.remove(&pool);
        self.layouts
            .extend(plan.layout.clone().map(|layout| (pool, layout)));
        for slice in input.memberships.keys() {
            self.memberships.remove(slice);
        }
        self.memberships.extend(plan.memberships.clone());
        for (id, allocation) in &plan.allocations {
            self.disk_nodes
                .get_mut(id)
                .expect("planned on a known node")
                .allocation = allocation.clone();
        }
        for (id, config) in &plan.disk_node_configs {
            self.disk_nodes
                .get_mut(id)
                .expect("planned on a known node")
                .config = Some(config.clone());
        }
        for (id, config) in &plan.controller_node_configs {
            self.controller_nodes
                .get_mut(id)
                .expect("planned on a known node")
                .config = Some(config.clone());
        }
        for (id, change) in &plan.volumes {
            match change {
                VolumeChange::Created => self.volumes.get_mut(id).expect("known").created = true,
                VolumeChange::Gone => {
                    self.volumes.remove(id);
                    self.attachments.retain(|(volume, _)| volume != id);
                }
            }
        }
        if plan.pool_gone {
            self.pools.remove(&pool);
        }
    }

    /// One round of everything that is up: deliver, work, report.
    pub fn turn_nodes(&mut self) {
        for node in self.disk_nodes.values_mut() {
            node.deliver();
            node.work();
            node.report();
        }
        for id in self.controller_nodes.keys().copied().collect::<Vec<_>>() {
            self.deliver_to_controller(id);
            self.work_of_controller(id);
            self.report_of_controller(id);
        }
    }

    /// Plan and let nodes work until nothing changes any more.
    pub fn settle(&mut self) {
        for _ in 0..60 {
            let before = self.picture();
            for pool in self.pools.keys().copied().collect::<Vec<_>>() {
                self.plan(pool);
            }
            self.turn_nodes();
            if self.picture() == before {
                return;
            }
        }
        panic!("no fixed point:\n{}", self.picture());
    }

    /// Everything that can change, as text.
    pub fn picture(&self) -> String {
        let nodes: Vec<_> = self.disk_nodes.values().map(DiskNode::view).collect();
        let controllers: Vec<_> = self.controller_nodes.values().map(ControllerNode::view).collect();
        format!(
            "{:?}{:?}{:?}{:?}{nodes:?}{controllers:?}",
            self.pools, self.volumes, self.layouts, self.memberships
        )
    }
}
