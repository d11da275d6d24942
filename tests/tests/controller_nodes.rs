//! Controller nodes with several reactors each, as processes would run them: real sockets, real disk nodes over memory disks, a host on
//! two pools that lie on different reactors, a planned switch of one of them, and the end.
//!
//! Mutants this test catches: a pool that both reactors are told of; a host that stays where it was accepted; an answer of the
//! store that reaches the other reactor; reactors under the same host identifiers; a reactor that is not stopped.

use block::{BlockRange, Tuning};
use cluster::node_config::{
    ControllerNodeConfig, DiskNodeConfig, GroupConfig, LegConfig, LegPath, PoolConfig, Portal, Role,
    SliceConfig, VolumeConfig,
};
use cluster::status::{ControllerNodeStatus, LegState, SliceState};
use cluster::{
    ControllerNodeId, DiskId, DiskNodeId, Epoch, GroupId, Incarnation, LegId, Nqn, PoolId, Revision, SliceId,
    VolumeId,
};
use control::agent::{MembershipAnswer, MembershipChange, MembershipOutcome, Node, NodeConfig, NodeStatus};
use controller_node::serve::{Options, Serving};
use disk_node::{DiskNode, DiskNodeOptions, DiskOption};
use engine::{Handle, ReactorConfig};
use fabric::host::{AssociationConfig, HostControl, HostNode, HostOperation, HostReport, MultipathConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use uuid::Uuid;

const EXTENT: u64 = 4 << 20;
const LEG_EXTENTS: u64 = 16;
const VOLUME_BLOCKS: u64 = 2048;
const HOST: &str = "nqn.2026-11.io.trestle:host:test";
/// Longer than anything here takes; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const POOLS: u128 = 2;

fn id(kind: u128, number: u128) -> Uuid {
    Uuid::from_u128(kind << 8 | number)
}

fn pool_id(pool: u128) -> PoolId {
    PoolId(id(1, pool))
}

fn volume_id(pool: u128) -> VolumeId {
    VolumeId(id(2, pool))
}

/// A disk node with one memory disk, and a leg there for each pool.
struct Legs {
    node: DiskNode,
    disk: DiskId,
    address: SocketAddr,
}

impl Legs {
    fn start(number: u128, hosts: &BTreeSet<Nqn>) -> Legs {
        let size_bytes = 160 << 20;
        let node = DiskNodeId(id(3, number));
        let disk_node = disk_node::start(DiskNodeOptions {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            disks: vec![DiskOption::Memory { size_bytes }],
            memory_extent_bytes: EXTENT,
            ..DiskNodeOptions::new(node, Incarnation(id(4, number)))
        })
        .expect("a disk node");
        let disk = disk_node.disk_node_status().disks[0].disk;
        let leg = |pool| LegConfig {
            leg: leg_id(disk, pool),
            disk,
            nsid: 1 + pool as u32,
            extents: LEG_EXTENTS,
            hosts: hosts.clone(),
        };
        let legs = (0..POOLS).map(|pool| (pool_id(pool), vec![leg(pool)])).collect();
        let revision = Revision(1);
        disk_node.apply(NodeConfig::DiskNode(DiskNodeConfig { node, revision, legs }));
        let begun = Instant::now();
        let mut version = u64::MAX;
        loop {
            let legs = disk_node.disk_node_status().legs;
            if legs.len() as u128 == POOLS && legs.iter().all(|leg| leg.state == LegState::Ready) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{legs:?}");
            version = disk_node.wait_status(version, Duration::from_secs(1));
        }
        let address = disk_node.fabric_addresses()[0];
        Legs {
            node: disk_node,
            disk,
            address,
        }
    }
}

fn leg_id(disk: DiskId, pool: u128) -> LegId {
    LegId(Uuid::new_v5(&disk.0, &pool.to_le_bytes()))
}

/// A controller node with two reactors.
struct Controller {
    node: ControllerNodeId,
    incarnation: Incarnation,
    serving: Serving,
    address: SocketAddr,
    first_cntlid: u16,
}

impl Controller {
    fn start(number: u128) -> Controller {
        let (node, incarnation) = (controller_id(number), Incarnation(id(6, number << 64)));
        let serving = controller_node::serve::start(Options {
            node,
            incarnation,
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            memory_bytes: 64 << 20,
            tuning: Tuning::default(),
            reactors: NonZeroUsize::new(2).expect("two"),
            polling: engine::Polling::default(),
        })
        .expect("a controller node");
        let address = serving.listeners()[0];
        Controller {
            node,
            incarnation,
            serving,
            address,
            first_cntlid: 1 + 4096 * number as u16,
        }
    }

    fn status(&self) -> ControllerNodeStatus {
        match self.serving.status() {
            NodeStatus::ControllerNode(status) => status,
            NodeStatus::DiskNode(_) => panic!("a controller node"),
        }
    }
}

fn controller_id(number: u128) -> ControllerNodeId {
    ControllerNodeId(id(5, number))
}

/// What the store would know of a pool.
#[derive(Clone, Debug, Default)]
struct Record {
    epoch: u64,
    owner: usize,
    formatted: bool,
    group_formatted: bool,
    created: bool,
}

struct Plane {
    legs: Vec<Legs>,
    controllers: Vec<Controller>,
    records: Vec<Record>,
    revision: u64,
}

impl Plane {
    fn config(&self, index: usize) -> ControllerNodeConfig {
        let controller = &self.controllers[index];
        let pools = (0..POOLS).map(|pool| (pool_id(pool), self.pool_config(index, pool)));
        ControllerNodeConfig {
            node: controller.node,
            revision: Revision(self.revision),
            host_nqn: controller.node.host_nqn(),
            pools: pools.collect(),
        }
    }

    fn pool_config(&self, index: usize, pool: u128) -> PoolConfig {
        let (record, controller) = (&self.records[pool as usize], &self.controllers[index]);
        let owner = &self.controllers[record.owner];
        let role = match record.owner == index {
            true => Role::Owner {
                epoch: Epoch(record.epoch),
                incarnation: owner.incarnation,
            },
            false => Role::Standby,
        };
        let leg = |legs: &Legs| LegPath {
            leg: leg_id(legs.disk, pool),
            disk: legs.disk,
            address: legs.address,
            subsystem_nqn: legs.disk.subsystem_nqn(),
            nsid: 1 + pool as u32,
            length_blocks: LEG_EXTENTS * EXTENT / 4096,
            in_sync: true,
        };
        let group = GroupConfig {
            group: GroupId(id(7, pool)),
            formatted: record.group_formatted,
            legs: self.legs.iter().map(leg).collect(),
        };
        let slice = SliceConfig {
            slice: SliceId(id(8, pool)),
            ana_group: 1,
            role,
            formatted: record.formatted,
            groups: vec![group],
        };
        let volume = VolumeConfig {
            volume: volume_id(pool),
            nsid: 1,
            size_blocks: VOLUME_BLOCKS,
            hosts: BTreeSet::from([Nqn(HOST.to_owned())]),
            created: record.created,
            deleting: false,
        };
        let portals = self.controllers.iter().map(|other| Portal {
            node: other.node,
            address: other.address,
        });
        PoolConfig {
            subsystem_nqn: pool_id(pool).subsystem_nqn(),
            serial: format!("TRESTLE{pool}"),
            cntlid: (controller.first_cntlid, controller.first_cntlid + 4094),
            portals: portals.collect(),
            extent_bytes: EXTENT,
            slices: vec![slice],
            volumes: vec![volume],
        }
    }

    fn push(&mut self) {
        self.revision += 1;
        for (index, controller) in self.controllers.iter().enumerate() {
            let config = NodeConfig::ControllerNode(self.config(index));
            controller.serving.apply(config);
        }
    }

    /// Answers what owners want recorded, until every pool is served where it should be.
    fn settle(&mut self) {
        let begun = Instant::now();
        while !(0..POOLS).all(|pool| self.is_served(pool)) {
            let statuses: Vec<_> = self.controllers.iter().map(Controller::status).collect();
            assert!(begun.elapsed() < PATIENCE, "{statuses:#?}");
            for index in 0..self.controllers.len() {
                let serving = &self.controllers[index].serving;
                while let Some(request) = serving.next_membership_request(Duration::from_millis(20)) {
                    let pool = (0..POOLS).find(|pool| request.slice == SliceId(id(8, *pool)));
                    let record = &mut self.records[pool.expect("a slice of ours") as usize];
                    assert_eq!((request.epoch.0, index), (record.epoch, record.owner));
                    match request.change {
                        MembershipChange::GroupFormatted { .. } => record.group_formatted = true,
                        MembershipChange::SliceFormatted => record.formatted = true,
                        MembershipChange::InSync { .. } => panic!("no leg is ever lost: {request:?}"),
                    }
                    serving.membership_answer(MembershipAnswer {
                        request: request.request,
                        slice: request.slice,
                        outcome: MembershipOutcome::Committed,
                    });
                }
            }
        }
        // What is recorded is shown.
        if self.records.iter().any(|record| !record.created) {
            self.records.iter_mut().for_each(|record| record.created = true);
            self.push();
        }
    }

    fn is_served(&self, pool: u128) -> bool {
        let record = &self.records[pool as usize];
        let status = self.controllers[record.owner].status();
        let slice = status
            .slices
            .iter()
            .find(|slice| slice.slice == SliceId(id(8, pool)));
        slice.is_some_and(|slice| {
            slice.state == SliceState::Serving && slice.epoch.0 == record.epoch && slice.volumes.len() == 1
        })
    }
}

/// The host, on one pool.
struct Host {
    handle: Handle<HostControl>,
    heard: mpsc::Receiver<HostReport>,
    volume: fabric::host::VolumeId,
    last: u64,
}

impl Host {
    fn connect(pool: u128, addresses: Vec<SocketAddr>) -> Host {
        let association =
            AssociationConfig::new(HOST, [7; 16], &pool_id(pool).subsystem_nqn().0, addresses[0]);
        let (tell, heard) = mpsc::channel();
        let multipath = MultipathConfig::new(association);
        let report = move |report| drop(tell.send(report));
        let handle =
            engine::start(ReactorConfig::default(), |_| HostNode::new(multipath), report).expect("a host");
        handle
            .control(HostControl::Connect { addresses })
            .expect("it runs");
        Host {
            handle,
            heard,
            volume: fabric::host::VolumeId(*volume_id(pool).0.as_bytes()),
            last: 0,
        }
    }

    fn ask(&mut self, operation: HostOperation) -> Vec<u8> {
        self.last += 1;
        let submit = HostControl::Submit {
            id: self.last,
            volume: self.volume,
            operation,
        };
        self.handle.control(submit).expect("it runs");
        loop {
            if let HostReport::Completed { id, result } = self.heard.recv_timeout(PATIENCE).expect("answered")
                && id == self.last
            {
                return result.expect("it succeeds");
            }
        }
    }

    fn write(&mut self, start: u64, value: u8) {
        let (bytes, durable) = (vec![value; 16 << 10], false);
        self.ask(HostOperation::Write {
            start,
            bytes,
            durable,
        });
    }

    fn read(&mut self, start: u64) -> u8 {
        let range = BlockRange::new(start, 4);
        let bytes = self.ask(HostOperation::Read { range });
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        bytes[0]
    }
}

#[test]
fn pools_on_two_reactors_are_used_switched_and_stopped() {
    let hosts: BTreeSet<Nqn> = (0..2).map(|number| controller_id(number).host_nqn()).collect();
    let first = Record {
        epoch: 1,
        ..Record::default()
    };
    let mut plane = Plane {
        legs: (0..2).map(|number| Legs::start(number, &hosts)).collect(),
        controllers: (0..2).map(Controller::start).collect(),
        records: vec![first; POOLS as usize],
        revision: 0,
    };
    plane.push();
    plane.settle();
    let addresses: Vec<SocketAddr> = plane
        .controllers
        .iter()
        .map(|controller| controller.address)
        .collect();
    let mut host: BTreeMap<u128, Host> = (0..POOLS)
        .map(|pool| (pool, Host::connect(pool, addresses.clone())))
        .collect();
    for (pool, host) in &mut host {
        (0..8).for_each(|place| host.write(place * 64, 1 + *pool as u8));
    }
    // Two legs and the host's queues, at each of the two: nobody has everything.
    for reactor in plane.controllers[0].serving.reactors() {
        assert!(reactor.connections >= 4, "{reactor:?}");
    }
    assert_eq!(plane.controllers[0].status().revision, Revision(plane.revision));

    // One pool goes to the other node, by plan: its past on this one is closed first.
    plane.records[1] = Record {
        epoch: 2,
        owner: 1,
        ..plane.records[1].clone()
    };
    plane.push();
    plane.settle();
    for (pool, host) in &mut host {
        (0..8).for_each(|place| assert_eq!(host.read(place * 64), 1 + *pool as u8));
        host.write(0, 9);
        assert_eq!(host.read(0), 9);
    }
    for controller in &plane.controllers {
        controller.serving.stop();
    }
    plane.legs.iter().for_each(|legs| legs.node.stop());
}
