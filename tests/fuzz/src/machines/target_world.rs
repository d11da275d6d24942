//! A target with what its node gives it: a subsystem with reservations, two namespaces, a backend that answers when told to.

use crate::memory::Buffers;
use block::{BLOCK_SIZE, Blocks, Duration, Memory, Operation, Request, Status, Time};
use fabric::driver::{ConnectionId, Segment};
use fabric::target::{
    AnaState, IoId, NamespaceConfig, Portal, ReservationConfig, ReservationState, SubsystemConfig,
    SubsystemKey, Target, TargetConfig, TargetOutput,
};
use std::collections::{BTreeMap, BTreeSet};

/// The subsystem's.
pub const SUBSYSTEM: SubsystemKey = SubsystemKey(7);
/// Its name.
pub const SUBNQN: &str = "nqn.2025-01.test:pool";
/// Who may use it.
pub const HOSTS: [&str; 2] = ["nqn.2025-01.test:host-a", "nqn.2025-01.test:host-b"];
/// Blocks of a namespace.
pub const BLOCKS: u64 = 64;

/// What the target handed out and nobody answered yet.
#[derive(Clone, Copy, Debug)]
pub struct Handed {
    io: IoId,
    nsid: u32,
    request: Request,
}

/// See the module.
#[derive(Debug)]
pub struct TargetWorld {
    /// The target.
    pub target: Target,
    /// Its buffers.
    pub memory: Buffers,
    /// Now.
    pub now: Time,
    /// Requests to the backend.
    pub handed: Vec<Handed>,
    /// Namespaces whose reservations are to be made durable.
    pub persists: Vec<u32>,
    /// What was sent and not taken, by connection.
    pub sent: BTreeMap<ConnectionId, Vec<u8>>,
    /// Connections that the target has closed since they were last taken.
    pub closed: Vec<ConnectionId>,
    sizes: BTreeMap<u32, u64>,
    disks: BTreeMap<u32, BTreeMap<u64, u8>>,
    accepted: u64,
}

fn namespace(nsid: u32, blocks: u64, hosts: usize) -> NamespaceConfig {
    NamespaceConfig {
        uuid: [nsid as u8; 16],
        size_blocks: Blocks(blocks),
        ana_group: 1,
        hosts: HOSTS[..hosts].iter().map(|host| (*host).to_owned()).collect(),
    }
}

impl Default for TargetWorld {
    fn default() -> TargetWorld {
        TargetWorld::new()
    }
}

impl TargetWorld {
    /// Limits small enough to be reached.
    pub fn new() -> TargetWorld {
        let config = TargetConfig {
            connections_max: 8,
            queue_entries_max: 16,
            io_queues_max: 2,
            h2c_data_bytes_max: 16 << 10,
            mdts: 4,
            payload_bytes_max: 256 << 10,
            ..TargetConfig::default()
        };
        let mut world = TargetWorld {
            target: Target::new(config),
            memory: Buffers::default(),
            now: Time::from_millis(1),
            handed: Vec::new(),
            persists: Vec::new(),
            sent: BTreeMap::new(),
            closed: Vec::new(),
            sizes: BTreeMap::new(),
            disks: BTreeMap::new(),
            accepted: 0,
        };
        let subsystem = SubsystemConfig {
            nqn: SUBNQN.to_owned(),
            serial: "T0001".to_owned(),
            cntlid_first: 1,
            cntlid_last: 6,
            hosts: BTreeSet::new(),
            reservations: true,
        };
        world
            .target
            .upsert_subsystem(world.now, SUBSYSTEM, subsystem, &mut world.memory);
        for nsid in [1, 2] {
            world.put_namespace(nsid, BLOCKS, 2);
        }
        world.set_ana(AnaState::Optimized);
        let portal = Portal {
            port: 1,
            address: "192.0.2.1:4420".parse().expect("an address"),
        };
        world
            .target
            .set_portals(world.now, SUBSYSTEM, BTreeSet::from([portal]), &mut world.memory);
        world.target.open();
        world.drain();
        world
    }

    /// Makes or changes a namespace.
    pub fn put_namespace(&mut self, nsid: u32, blocks: u64, hosts: usize) {
        let config = namespace(nsid, blocks, hosts);
        let reservations = ReservationConfig {
            epoch_keys: nsid == 1,
            state: ReservationState::default(),
        };
        let largest = self.sizes.entry(nsid).or_default();
        *largest = blocks.max(*largest);
        self.target.upsert_namespace(
            self.now,
            SUBSYSTEM,
            nsid,
            config,
            Some(reservations),
            &mut self.memory,
        );
        self.drain();
    }

    /// Takes a namespace away. What waited for its reservations to be durable is over.
    pub fn remove_namespace(&mut self, nsid: u32) {
        self.target
            .remove_namespace(self.now, SUBSYSTEM, nsid, &mut self.memory);
        self.drain();
    }

    /// Says how well both namespaces are reached.
    pub fn set_ana(&mut self, state: AnaState) {
        self.target
            .set_ana_state(self.now, SUBSYSTEM, 1, state, &mut self.memory);
        self.drain();
    }

    /// A peer opens a connection.
    pub fn accept(&mut self) -> ConnectionId {
        let connection = ConnectionId(ConnectionId::ACCEPTED | self.accepted);
        self.accepted += 1;
        self.sent.insert(connection, Vec::new());
        self.target.accepted(self.now, connection);
        self.drain();
        connection
    }

    /// Bytes come from a peer.
    pub fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.target
            .received(self.now, connection, bytes, &mut self.memory);
        self.drain();
    }

    /// A peer closes.
    pub fn close(&mut self, connection: ConnectionId) {
        self.sent.remove(&connection);
        self.target.closed(self.now, connection, &mut self.memory);
        self.drain();
    }

    /// Time passes, and the target is told.
    pub fn pass(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
        self.target.handle_timeout(self.now, &mut self.memory);
        self.drain();
    }

    /// Takes the target's outputs.
    pub fn drain(&mut self) {
        while let Some(output) = self.target.poll_output() {
            match output {
                TargetOutput::Send { connection, segment } => self.deliver(connection, segment),
                TargetOutput::Close { connection, .. } => {
                    assert!(
                        !self.closed.contains(&connection),
                        "{connection:?} is closed twice"
                    );
                    self.closed.push(connection);
                }
                TargetOutput::Execute {
                    io, nsid, request, ..
                } => {
                    self.check(nsid, &request);
                    self.handed.push(Handed { io, nsid, request });
                }
                TargetOutput::PersistReservation { nsid, .. } => self.persists.push(nsid),
                TargetOutput::HostsChanged { .. } => {}
                TargetOutput::HandOver { .. } => panic!("there is nobody to hand over to"),
            }
        }
    }

    fn check(&self, nsid: u32, request: &Request) {
        let size = self.sizes.get(&nsid).expect("a namespace that there was");
        assert!(request.range.end().0 <= *size, "{request:?} is behind the end");
        if let Operation::Read { buffer } | Operation::Write { buffer, .. } = request.operation {
            let bytes = request.range.length.0 * u64::from(BLOCK_SIZE);
            assert_eq!(u64::from(buffer.length), bytes, "{request:?}");
        }
    }

    fn deliver(&mut self, connection: ConnectionId, segment: Segment) {
        assert!(
            !self.closed.contains(&connection),
            "sent to {connection:?}, which is closed"
        );
        let bytes = segment.into_bytes(&mut self.memory);
        // A peer that has closed hears nothing.
        if let Some(sent) = self.sent.get_mut(&connection) {
            sent.extend(bytes);
        }
    }

    /// The backend answers a request; it has carried it out if it says so.
    pub fn complete(&mut self, index: usize, status: Status) {
        let handed = self.handed.remove(index);
        if status == Status::Success {
            self.carry_out(&handed);
        }
        self.target
            .complete(self.now, handed.io, status, &mut self.memory);
        self.drain();
    }

    fn carry_out(&mut self, handed: &Handed) {
        let disk = self.disks.entry(handed.nsid).or_default();
        let range = handed.request.range;
        for (index, block) in (range.start.0..range.end().0).enumerate() {
            let part = |buffer: block::BufferSlice| buffer.part(index as u32 * BLOCK_SIZE, BLOCK_SIZE);
            match handed.request.operation {
                Operation::Read { buffer } => {
                    let fill = disk.get(&block).copied().unwrap_or(0);
                    self.memory.bytes_mut(part(buffer)).fill(fill);
                }
                Operation::Write { buffer, .. } => {
                    disk.insert(block, self.memory.bytes(part(buffer))[0]);
                }
                Operation::WriteZeroes { .. } | Operation::Deallocate => drop(disk.remove(&block)),
                Operation::Flush => {}
            }
        }
    }

    /// Reservations are durable, or cannot be made so.
    pub fn persist(&mut self, index: usize, durable: bool) {
        let nsid = self.persists.remove(index);
        self.target
            .reservation_persisted(self.now, SUBSYSTEM, nsid, durable, &mut self.memory);
        self.drain();
    }

    /// The backend answers everything well, until it is asked nothing any more.
    pub fn serve(&mut self) {
        for _ in 0..10_000 {
            if !self.handed.is_empty() {
                self.complete(0, Status::Success);
            } else if !self.persists.is_empty() {
                self.persist(0, true);
            } else {
                return;
            }
        }
        panic!("the target never stops asking");
    }
}
