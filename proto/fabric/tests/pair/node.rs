//! The host as a node: its control plane's messages against a target, without delays.

use super::memory::TestMemory;
use super::world::{HOST_NQN, NSID, SUBSYSTEM, SUBSYSTEM_NQN, VOLUME, namespace, stamped};
use block::{BLOCK_SIZE, BlockRange, Memory, Operation, Request, Status, Time};
use fabric::driver::{CloseReason, ConnectionId, Event, Machine, Output};
use fabric::host::{
    AssociationConfig, HostControl, HostNode, HostOperation, HostReport, MultipathConfig, PathState, VolumeId,
};
use fabric::target::{AnaState, Portal, SubsystemConfig, Target, TargetConfig, TargetOutput};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const BLOCKS: u64 = 1000;

struct Bench {
    now: Time,
    node: HostNode,
    memory: TestMemory,
    target: Target,
    target_memory: TestMemory,
    address: SocketAddr,
    disk: Vec<u8>,
    reports: Vec<HostReport>,
    /// The target's name of each connection.
    connections: BTreeMap<ConnectionId, ConnectionId>,
    accepted: u64,
}

impl Bench {
    fn new() -> Bench {
        let address: SocketAddr = "192.0.2.10:4420".parse().unwrap();
        let config = AssociationConfig::new(HOST_NQN, [7; 16], SUBSYSTEM_NQN, address);
        let mut bench = Bench {
            now: Time::from_millis(1),
            node: HostNode::new(MultipathConfig::new(config)),
            memory: TestMemory::default(),
            target: Target::new(TargetConfig::default()),
            target_memory: TestMemory::default(),
            address,
            disk: vec![0; BLOCKS as usize * BLOCK_SIZE as usize],
            reports: Vec::new(),
            connections: BTreeMap::new(),
            accepted: 0,
        };
        let subsystem = SubsystemConfig {
            nqn: SUBSYSTEM_NQN.to_owned(),
            serial: "node".to_owned(),
            cntlid_first: 1,
            cntlid_last: 99,
            hosts: BTreeSet::new(),
            reservations: false,
        };
        let Bench {
            now,
            target,
            target_memory,
            ..
        } = &mut bench;
        target.upsert_subsystem(*now, SUBSYSTEM, subsystem, target_memory);
        target.upsert_namespace(
            *now,
            SUBSYSTEM,
            NSID,
            namespace(BLOCKS, VOLUME),
            None,
            target_memory,
        );
        target.set_ana_state(*now, SUBSYSTEM, 1, AnaState::Optimized, target_memory);
        let portal = Portal { port: 1, address };
        target.set_portals(*now, SUBSYSTEM, BTreeSet::from([portal]), target_memory);
        target.open();
        bench
    }

    fn say(&mut self, control: HostControl) {
        self.tell(Event::Control(control));
    }

    fn tell(&mut self, event: Event<'_, HostControl>) {
        self.node.handle(self.now, event, &mut self.memory);
        self.settle();
    }

    fn submit(&mut self, id: u64, operation: HostOperation) {
        let volume = VOLUME;
        self.say(HostControl::Submit {
            id,
            volume,
            operation,
        });
    }

    fn settle(&mut self) {
        loop {
            if let Some(output) = self.node.poll_output() {
                self.carry_out(output);
            } else if let Some(output) = self.target.poll_output() {
                self.carry_out_target(output);
            } else {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output<HostReport>) {
        match output {
            Output::Connect { connection, address } => {
                let event = match address == self.address {
                    true => {
                        let accepted = ConnectionId(ConnectionId::ACCEPTED | self.accepted);
                        self.accepted += 1;
                        self.connections.insert(connection, accepted);
                        self.target.accepted(self.now, accepted);
                        Event::Connected { connection }
                    }
                    false => Event::Closed {
                        connection,
                        reason: CloseReason::Broken,
                    },
                };
                self.node.handle(self.now, event, &mut self.memory);
            }
            Output::Send { connection, segment } => {
                let bytes = segment.into_bytes(&mut self.memory);
                if let Some(accepted) = self.connections.get(&connection) {
                    self.target
                        .received(self.now, *accepted, &bytes, &mut self.target_memory);
                }
            }
            Output::Close { connection, .. } => {
                if let Some(accepted) = self.connections.remove(&connection) {
                    self.target.closed(self.now, accepted, &mut self.target_memory);
                }
            }
            Output::Disk { .. } => unreachable!("a host has no disks"),
            Output::HandOver { .. } => unreachable!("a host accepts nobody"),
            Output::Report(report) => self.reports.push(*report),
        }
    }

    fn carry_out_target(&mut self, output: TargetOutput) {
        match output {
            TargetOutput::Send { connection, segment } => {
                let bytes = segment.into_bytes(&mut self.target_memory);
                let Some(connection) = self.name_of(connection) else {
                    return;
                };
                let bytes = &bytes;
                self.node
                    .handle(self.now, Event::Received { connection, bytes }, &mut self.memory);
            }
            TargetOutput::Close { connection, .. } => {
                let Some(connection) = self.name_of(connection) else {
                    return;
                };
                self.connections.remove(&connection);
                let reason = CloseReason::Peer;
                self.node
                    .handle(self.now, Event::Closed { connection, reason }, &mut self.memory);
            }
            TargetOutput::Execute { io, request, .. } => {
                self.execute(request);
                self.target
                    .complete(self.now, io, Status::Success, &mut self.target_memory);
            }
            TargetOutput::PersistReservation { .. } | TargetOutput::HostsChanged { .. } => {}
            TargetOutput::HandOver { .. } => unreachable!("this target is alone"),
        }
    }

    /// The host's name of a connection that is still open.
    fn name_of(&self, accepted: ConnectionId) -> Option<ConnectionId> {
        let mut known = self.connections.iter();
        known.find(|(_, name)| **name == accepted).map(|(name, _)| *name)
    }

    fn execute(&mut self, request: Request) {
        let start = (request.range.start.0 * u64::from(BLOCK_SIZE)) as usize;
        let end = start + request.range.length.bytes() as usize;
        match request.operation {
            Operation::Read { buffer } => {
                self.target_memory
                    .bytes_mut(buffer)
                    .copy_from_slice(&self.disk[start..end]);
            }
            Operation::Write { buffer, .. } => {
                self.disk[start..end].copy_from_slice(self.target_memory.bytes(buffer))
            }
            Operation::WriteZeroes { .. } | Operation::Deallocate => self.disk[start..end].fill(0),
            Operation::Flush => {}
        }
    }

    fn completed(&mut self) -> Vec<(u64, Result<Vec<u8>, nvme::Status>)> {
        let mut completed = Vec::new();
        for report in self.reports.drain(..) {
            if let HostReport::Completed { id, result } = report {
                completed.push((id, result));
            }
        }
        completed
    }
}

#[test]
fn operations_of_any_length_come_back_whole() {
    let mut bench = Bench::new();
    let addresses = vec![bench.address];
    bench.say(HostControl::Connect { addresses });
    assert!(matches!(
        bench.reports[..],
        [HostReport::PathReady { cntlid: 1, .. }]
    ));
    let bytes: Vec<u8> = (0..900 * BLOCK_SIZE).map(|at| (at / 64 % 251) as u8).collect();
    bench.submit(
        1,
        HostOperation::Write {
            start: 50,
            bytes: bytes.clone(),
            durable: true,
        },
    );
    bench.submit(
        2,
        HostOperation::Read {
            range: BlockRange::new(49, 902),
        },
    );
    bench.submit(
        3,
        HostOperation::Compare {
            start: 50,
            bytes: bytes.clone(),
        },
    );
    bench.submit(
        4,
        HostOperation::WriteZeroes {
            range: BlockRange::new(60, 700),
            deallocate: true,
        },
    );
    bench.submit(5, HostOperation::Flush);
    bench.submit(
        6,
        HostOperation::Compare {
            start: 50,
            bytes: bytes.clone(),
        },
    );
    bench.submit(
        7,
        HostOperation::Deallocate {
            range: BlockRange::new(0, BLOCKS),
        },
    );
    let completed = bench.completed();
    assert_eq!(
        completed.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6, 7]
    );
    let read = completed[1].1.as_ref().unwrap();
    assert_eq!(read[..4096], [0; 4096]);
    assert_eq!(read[4096..901 * 4096], bytes);
    assert!(
        completed[5]
            .1
            .as_ref()
            .unwrap_err()
            .is(nvme::Status::COMPARE_FAILURE)
    );
    assert_eq!(completed.iter().filter(|(_, result)| result.is_ok()).count(), 6);
    assert_eq!((bench.memory.held(), bench.target_memory.held()), (0, 0));
}

#[test]
fn what_makes_no_sense_is_refused_without_the_wire() {
    let mut bench = Bench::new();
    let rows = [
        HostOperation::Read {
            range: BlockRange::new(0, 0),
        },
        HostOperation::Read {
            range: BlockRange::new(u64::MAX, 2),
        },
        HostOperation::Write {
            start: 0,
            bytes: vec![0; 4095],
            durable: false,
        },
        HostOperation::Write {
            start: 0,
            bytes: Vec::new(),
            durable: false,
        },
        HostOperation::Compare {
            start: u64::MAX,
            bytes: stamped(1, 1),
        },
        HostOperation::WriteZeroes {
            range: BlockRange::new(1, 0),
            deallocate: false,
        },
    ];
    for (id, operation) in (0..).zip(rows) {
        bench.submit(id, operation);
        let completed = bench.completed();
        assert!(matches!(&completed[..], [(_, Err(status))] if status.is(nvme::Status::INVALID_FIELD)));
    }
}

#[test]
fn without_buffers_it_waits_for_some() {
    let mut bench = Bench::new();
    let addresses = vec![bench.address];
    bench.say(HostControl::Connect { addresses });
    bench.memory.exhausted = true;
    bench.submit(
        1,
        HostOperation::Write {
            start: 0,
            bytes: stamped(100, 5),
            durable: false,
        },
    );
    bench.now = bench.node.next_timeout().expect("it tries again");
    bench.tell(Event::Timeout);
    assert_eq!(bench.completed(), []);
    bench.memory.exhausted = false;
    bench.now = bench.node.next_timeout().expect("it tries again");
    bench.tell(Event::Timeout);
    assert_eq!(bench.completed(), [(1, Ok(Vec::new()))]);
    assert_eq!(bench.disk[..100 * 4096], stamped(100, 5));
}

#[test]
fn paths_and_volumes_are_told_to_people() {
    let mut bench = Bench::new();
    let nobody: SocketAddr = "192.0.2.99:1".parse().unwrap();
    let addresses = vec![bench.address, nobody];
    bench.say(HostControl::Connect { addresses });
    bench.reports.clear();
    bench.say(HostControl::Paths);
    bench.say(HostControl::Volumes);
    let [HostReport::Paths(paths), HostReport::Volumes(volumes)] = &bench.reports[..] else {
        panic!("{:?}", bench.reports);
    };
    assert_eq!(paths[0].state, PathState::Live);
    assert_eq!(paths[0].namespaces, [(VOLUME, AnaState::Optimized)]);
    assert!(matches!(
        &paths[1].state,
        PathState::Connecting { reason: Some(_) }
    ));
    assert_eq!(
        (volumes[0].volume, volumes[0].size.0, volumes[0].usable_paths),
        (VOLUME, BLOCKS, 1)
    );
    let addresses = vec![bench.address, nobody];
    bench.say(HostControl::Disconnect { addresses });
    bench.reports.clear();
    bench.say(HostControl::Paths);
    assert!(matches!(&bench.reports[..], [HostReport::Paths(paths)] if paths.is_empty()));
    assert_eq!(bench.node.next_timeout(), None);
    assert!(bench.connections.is_empty());
}

#[test]
fn discovery_tells_where_the_subsystem_is() {
    let mut bench = Bench::new();
    let (address, nobody) = (bench.address, "192.0.2.99:1".parse().unwrap());
    bench.say(HostControl::Discover { address });
    bench.say(HostControl::Discover { address: nobody });
    let [
        HostReport::Discovered {
            result: Ok(entries), ..
        },
        HostReport::Discovered {
            result: Err(reason),
            address: where_,
        },
    ] = &bench.reports[..]
    else {
        panic!("{:?}", bench.reports);
    };
    let found: Vec<(String, u16)> = entries
        .iter()
        .map(|entry| (entry.subsystem.to_string(), entry.port))
        .collect();
    assert!(found.contains(&(SUBSYSTEM_NQN.to_owned(), 4420)), "{found:?}");
    assert_eq!(
        (*where_, reason.as_str()),
        (nobody, "the connection broke or could not be opened")
    );
    assert!(bench.connections.is_empty(), "{:?}", bench.connections);
    assert_eq!(bench.node.next_timeout(), None);
    let _ = VolumeId([0; 16]);
}
