//! A target with a memory and a backend of its own, and hosts that speak bytes.

pub(super) use super::memory::TestMemory;
use crate::driver::{ConnectionId, ReactorIndex, Segment};
use crate::target::{
    AnaState, HostId, IoId, NamespaceConfig, ReservationConfig, ReservationState, SubsystemConfig,
    SubsystemKey, Target, TargetConfig, TargetOutput,
};
use crate::tcp::framing::{Digests, End, FrameLimits, FrameReader, FrameWriter, Part, PduType};
use block::{BLOCK_SIZE, Blocks, Memory, Operation, Request, Time};
use nvme::command::{Connect, ConnectAttributes, PropertySet, PropertySize, SetFeatures};
use nvme::connect::ConnectParameters;
use nvme::feature::{FeatureIdentifier, NumberOfQueues};
use nvme::property::Configuration;
use nvme::{
    AdminCommand, Cid, Cntlid, CompletionQueueEntry, FabricsCommand, IoCommand, Nqn, Nsid, Qid, Sgl, Status,
    SubmissionQueueEntry, ZeroBased,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) const SUBSYSTEM: SubsystemKey = SubsystemKey(7);
pub(super) const SUBNQN: &str = "nqn.2025-01.test:pool";
pub(super) const HOST_A: &str = "nqn.2025-01.test:host-a";
pub(super) const HOST_B: &str = "nqn.2025-01.test:host-b";
pub(super) const HOST_C: &str = "nqn.2025-01.test:host-c";
pub(super) const ID_A: HostId = HostId([0xaa; 16]);
pub(super) const ID_B: HostId = HostId([0xbb; 16]);
pub(super) const ID_C: HostId = HostId([0xcc; 16]);
pub(super) const BLOCK: usize = BLOCK_SIZE as usize;
/// Blocks of every namespace here.
pub(super) const SIZE: u64 = 1024;

/// A PDU from the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Initialized {
        digest: u8,
        max_data: u32,
    },
    Terminated {
        status: u16,
        information: u32,
    },
    Completion(CompletionQueueEntry),
    Data {
        cid: u16,
        offset: u32,
        bytes: Vec<u8>,
        success: bool,
    },
    R2t {
        cid: u16,
        tag: u16,
        offset: u32,
        length: u32,
    },
}

/// How a command ended, as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) status: Status,
    pub(super) result: u64,
    pub(super) data: Vec<u8>,
}

#[derive(Debug)]
struct Peer {
    reader: FrameReader,
    writer: FrameWriter,
    replies: VecDeque<Reply>,
    next_cid: u16,
}

/// What the target handed out and nobody answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handed {
    pub(super) io: IoId,
    pub(super) nsid: u32,
    pub(super) host: HostId,
    pub(super) request: Request,
}

/// One association of a host: its admin queue and one I/O queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub(super) cntlid: Cntlid,
    pub(super) admin: ConnectionId,
    pub(super) io: ConnectionId,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) target: Target,
    pub(super) memory: TestMemory,
    pub(super) now: Time,
    pub(super) handed: VecDeque<Handed>,
    pub(super) persisted: VecDeque<(u32, ReservationState)>,
    pub(super) closed: BTreeMap<ConnectionId, bool>,
    pub(super) handed_over: Vec<(ConnectionId, ReactorIndex, Vec<u8>)>,
    pub(super) connected: BTreeSet<String>,
    pub(super) disks: BTreeMap<u32, Vec<u8>>,
    /// How many bytes were received where they belong.
    pub(super) landed_bytes: u64,
    peers: BTreeMap<ConnectionId, Peer>,
    next_connection: u64,
}

pub(super) fn hosts(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn namespace(nsid: u32, names: &[&str]) -> NamespaceConfig {
    NamespaceConfig {
        uuid: [nsid as u8; 16],
        size_blocks: Blocks(SIZE),
        ana_group: 1,
        hosts: hosts(names),
    }
}

pub(super) fn subsystem() -> SubsystemConfig {
    SubsystemConfig {
        nqn: SUBNQN.to_owned(),
        serial: "T0001".to_owned(),
        cntlid_first: 1,
        cntlid_last: 8,
        hosts: BTreeSet::new(),
        reservations: true,
    }
}

/// Limits small enough to be reached.
pub(super) fn limits() -> TargetConfig {
    TargetConfig {
        queue_entries_max: 32,
        io_queues_max: 4,
        h2c_data_bytes_max: 16 * 1024,
        ..TargetConfig::default()
    }
}

impl World {
    /// A subsystem with namespace 1, optimized, seen by hosts A and B.
    pub(super) fn new() -> World {
        World::with(limits(), None)
    }

    /// The same; namespace 1 has reservations.
    pub(super) fn with_reservations(epoch_keys: bool) -> World {
        let state = ReservationState::default();
        World::with(limits(), Some(ReservationConfig { epoch_keys, state }))
    }

    pub(super) fn with(config: TargetConfig, reservations: Option<ReservationConfig>) -> World {
        World::of(config, subsystem(), reservations)
    }

    pub(super) fn of(
        config: TargetConfig,
        subsystem: SubsystemConfig,
        reservations: Option<ReservationConfig>,
    ) -> World {
        let mut world = World {
            target: Target::new(config),
            memory: TestMemory::default(),
            now: Time::from_millis(1),
            handed: VecDeque::new(),
            persisted: VecDeque::new(),
            closed: BTreeMap::new(),
            handed_over: Vec::new(),
            connected: BTreeSet::new(),
            disks: BTreeMap::new(),
            landed_bytes: 0,
            peers: BTreeMap::new(),
            next_connection: ConnectionId::ACCEPTED,
        };
        world
            .target
            .upsert_subsystem(world.now, SUBSYSTEM, subsystem, &mut world.memory);
        world.put_namespace(1, namespace(1, &[HOST_A, HOST_B, HOST_C]), reservations);
        world.set_ana(AnaState::Optimized);
        world.target.open();
        world.drain();
        world
    }

    pub(super) fn put_namespace(
        &mut self,
        nsid: u32,
        config: NamespaceConfig,
        reservations: Option<ReservationConfig>,
    ) {
        let bytes = config.size_blocks.bytes() as usize;
        self.disks.entry(nsid).or_default().resize(bytes, 0);
        self.target
            .upsert_namespace(self.now, SUBSYSTEM, nsid, config, reservations, &mut self.memory);
        self.drain();
    }

    pub(super) fn set_ana(&mut self, state: AnaState) {
        self.target
            .set_ana_state(self.now, SUBSYSTEM, 1, state, &mut self.memory);
        self.drain();
    }

    pub(super) fn advance(&mut self, milliseconds: u64) {
        self.now = Time(self.now.0 + milliseconds * 1_000_000);
        self.target.handle_timeout(self.now, &mut self.memory);
        self.drain();
    }

    /// Takes the target's outputs; the driver's part of the law.
    pub(super) fn drain(&mut self) {
        while let Some(output) = self.target.poll_output() {
            match output {
                TargetOutput::Send { connection, segment } => self.deliver(connection, segment),
                TargetOutput::Close { connection, abort } => {
                    assert!(self.closed.insert(connection, abort).is_none(), "closed twice");
                }
                TargetOutput::Execute {
                    io,
                    nsid,
                    host,
                    request,
                    ..
                } => {
                    self.handed.push_back(Handed {
                        io,
                        nsid,
                        host,
                        request,
                    });
                }
                TargetOutput::PersistReservation { nsid, state, .. } => {
                    self.persisted.push_back((nsid, state))
                }
                TargetOutput::HostsChanged { hosts, .. } => self.connected = hosts,
                TargetOutput::HandOver {
                    connection,
                    reactor,
                    received,
                } => self.handed_over.push((connection, reactor, received)),
            }
        }
    }

    fn deliver(&mut self, connection: ConnectionId, segment: Segment) {
        assert!(
            !self.closed.contains_key(&connection),
            "sent to a closed connection"
        );
        let bytes = segment.into_bytes(&mut self.memory);
        self.peers
            .get_mut(&connection)
            .expect("a connection of ours")
            .hear(&bytes);
    }

    /// A TCP connection, nothing said yet.
    pub(super) fn accept(&mut self) -> ConnectionId {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.peers.insert(connection, Peer::new());
        self.target.accepted(self.now, connection);
        self.drain();
        connection
    }

    /// A connection that is initialised.
    pub(super) fn initialize(&mut self, digests: Digests) -> ConnectionId {
        let connection = self.accept();
        self.receive(connection, &initialization(digests));
        let reply = self.reply(connection);
        assert!(matches!(reply, Reply::Initialized { .. }), "{reply:?}");
        let peer = self.peers.get_mut(&connection).expect("just made");
        peer.reader.agree_digests(digests);
        peer.writer.digests = digests;
        connection
    }

    pub(super) fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.target
            .received(self.now, connection, bytes, &mut self.memory);
        self.drain();
    }

    /// A piece of a stream arrives: if `land`, as much of it as the target wants to have received where it belongs.
    pub(super) fn arrive(&mut self, connection: ConnectionId, bytes: &[u8], land: bool) {
        let mut rest = bytes;
        while land && !rest.is_empty() {
            let Some(place) = self.target.landing(connection) else {
                // What comes before the next landing is brought byte by byte: nobody else knows where it begins.
                self.receive(connection, &rest[..1]);
                rest = &rest[1..];
                continue;
            };
            let (landed, behind) = rest.split_at(rest.len().min(place.length as usize));
            let length = landed.len() as u32;
            self.memory
                .bytes_mut(place.part(0, length))
                .copy_from_slice(landed);
            self.target.landed(self.now, connection, length, &mut self.memory);
            self.landed_bytes += u64::from(length);
            self.drain();
            rest = behind;
        }
        if !rest.is_empty() {
            self.receive(connection, rest);
        }
    }

    /// Another machine of the process hands a connection over, with what was received on it.
    pub(super) fn take_over(&mut self, digests: Digests, received: &[u8]) -> ConnectionId {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let mut peer = Peer::new();
        peer.reader.agree_digests(digests);
        peer.writer.digests = digests;
        self.peers.insert(connection, peer);
        self.target
            .handed_over(self.now, connection, received, &mut self.memory);
        self.drain();
        connection
    }

    pub(super) fn reset(&mut self, connection: ConnectionId) {
        self.target.closed(self.now, connection, &mut self.memory);
        self.drain();
    }

    pub(super) fn replies(&mut self, connection: ConnectionId) -> Vec<Reply> {
        self.peers
            .get_mut(&connection)
            .expect("a connection of ours")
            .replies
            .drain(..)
            .collect()
    }

    /// The one reply there is.
    pub(super) fn reply(&mut self, connection: ConnectionId) -> Reply {
        let mut replies = self.replies(connection);
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    /// A command capsule, with its data in it.
    pub(super) fn capsule(
        &self,
        connection: ConnectionId,
        entry: &SubmissionQueueEntry,
        data: &[u8],
    ) -> Vec<u8> {
        let writer = self.peers[&connection].writer;
        let mut bytes = writer
            .before_data(PduType::CapsuleCmd, 0, entry.as_bytes(), data.len() as u32)
            .to_vec();
        bytes.extend(data);
        if !data.is_empty() {
            bytes.extend(writer.data_digest(data).into_iter().flatten());
        }
        bytes
    }

    /// An H2CData PDU.
    pub(super) fn data_pdu(
        &self,
        connection: ConnectionId,
        fields: [u32; 4],
        last: bool,
        data: &[u8],
    ) -> Vec<u8> {
        let writer = self.peers[&connection].writer;
        let [cid, tag, offset, length] = fields;
        let mut specific = [0; 16];
        specific[0..2].copy_from_slice(&(cid as u16).to_le_bytes());
        specific[2..4].copy_from_slice(&(tag as u16).to_le_bytes());
        specific[4..8].copy_from_slice(&offset.to_le_bytes());
        specific[8..12].copy_from_slice(&length.to_le_bytes());
        let flags = if last { 4 } else { 0 };
        let mut bytes = writer
            .before_data(PduType::H2cData, flags, &specific, data.len() as u32)
            .to_vec();
        bytes.extend(data);
        bytes.extend(writer.data_digest(data).into_iter().flatten());
        bytes
    }

    pub(super) fn cid(&mut self, connection: ConnectionId) -> Cid {
        let peer = self.peers.get_mut(&connection).expect("a connection of ours");
        peer.next_cid += 1;
        Cid(peer.next_cid)
    }

    /// Sends a command without waiting for its end.
    pub(super) fn submit(&mut self, connection: ConnectionId, entry: SubmissionQueueEntry, data: &[u8]) {
        let bytes = self.capsule(connection, &entry, data);
        self.receive(connection, &bytes);
    }

    /// How the one command under way on a connection ended.
    pub(super) fn ended(&mut self, connection: ConnectionId) -> Ended {
        let replies = self.replies(connection);
        end_of(&replies).unwrap_or_else(|| panic!("no end in {replies:?}"))
    }

    /// Sends a command and says how it ended; the backend answers.
    pub(super) fn call(
        &mut self,
        connection: ConnectionId,
        entry: SubmissionQueueEntry,
        data: &[u8],
    ) -> Ended {
        self.submit(connection, entry, data);
        self.run_backend();
        self.ended(connection)
    }

    pub(super) fn admin(&mut self, host: Host, command: AdminCommand, length: u32) -> Ended {
        let cid = self.cid(host.admin);
        self.call(host.admin, command.encode(cid, Sgl::Transport { length }), &[])
    }

    /// An I/O command whose data, if any, is in the capsule.
    pub(super) fn io(
        &mut self,
        host: Host,
        nsid: u32,
        command: IoCommand,
        data: &[u8],
        length: u32,
    ) -> Ended {
        let entry = self.io_entry(host, nsid, command, data, length);
        self.call(host.io, entry, data)
    }

    /// The status of a write that must not be handed out.
    pub(super) fn io_refused(&mut self, host: Host) -> Status {
        let before = self.handed.len();
        let command = IoCommand::Write(nvme::command::Write::new(nvme::command::LogicalBlocks::new(
            0,
            ZeroBased::<u16>::from_raw(0),
        )));
        let data = vec![0; BLOCK];
        let entry = self.io_entry(host, 1, command, &data, 0);
        self.submit(host.io, entry, &data);
        assert_eq!(self.handed.len(), before, "handed out");
        self.ended(host.io).status
    }

    pub(super) fn io_entry(
        &mut self,
        host: Host,
        nsid: u32,
        command: IoCommand,
        data: &[u8],
        length: u32,
    ) -> SubmissionQueueEntry {
        let cid = self.cid(host.io);
        let sgl = match data.is_empty() {
            true => Sgl::Transport { length },
            false => Sgl::InCapsule {
                offset: 0,
                length: data.len() as u32,
            },
        };
        command.encode(cid, Nsid(nsid), sgl)
    }

    /// Carries out what was handed out, until nothing is.
    pub(super) fn run_backend(&mut self) {
        loop {
            while let Some(handed) = self.handed.pop_front() {
                let status = self.carry_out(&handed);
                self.complete(handed.io, status);
            }
            let Some((nsid, _)) = self.persisted.pop_front() else {
                return;
            };
            self.persist(nsid, true);
        }
    }

    /// Carries out one of those handed out.
    pub(super) fn complete_one(&mut self, at: usize) {
        let handed = self.handed.remove(at).expect("handed out");
        let status = self.carry_out(&handed);
        self.complete(handed.io, status);
    }

    pub(super) fn complete(&mut self, io: IoId, status: block::Status) {
        self.target.complete(self.now, io, status, &mut self.memory);
        self.drain();
    }

    pub(super) fn persist(&mut self, nsid: u32, durable: bool) {
        self.target
            .reservation_persisted(self.now, SUBSYSTEM, nsid, durable, &mut self.memory);
        self.drain();
    }

    fn carry_out(&mut self, handed: &Handed) -> block::Status {
        let disk = self.disks.get_mut(&handed.nsid).expect("a namespace of ours");
        let from = handed.request.range.start.0 as usize * BLOCK;
        let blocks = &mut disk[from..from + handed.request.range.length.bytes() as usize];
        match handed.request.operation {
            Operation::Read { buffer } => self.memory.bytes_mut(buffer).copy_from_slice(blocks),
            Operation::Write { buffer, .. } => blocks.copy_from_slice(self.memory.bytes(buffer)),
            Operation::WriteZeroes { .. } | Operation::Deallocate => blocks.fill(0),
            Operation::Flush => {}
        }
        block::Status::Success
    }

    /// Sends Connect and says how it ended.
    pub(super) fn connect(
        &mut self,
        connection: ConnectionId,
        names: (&str, &str),
        host_id: HostId,
        cntlid: Cntlid,
        connect: Connect,
    ) -> Ended {
        let parameters = ConnectParameters {
            host_id,
            cntlid,
            subsystem: Nqn::parse(names.0).expect("a name"),
            host: (!names.1.is_empty()).then(|| Nqn::parse(names.1).expect("a name")),
        };
        let cid = self.cid(connection);
        let data = parameters.encode();
        let entry = FabricsCommand::Connect(connect).encode(
            cid,
            Sgl::InCapsule {
                offset: 0,
                length: 1024,
            },
        );
        self.call(connection, entry, data.as_bytes())
    }

    /// A host with an admin queue, enabled, and one I/O queue.
    pub(super) fn host(&mut self, name: &str, host_id: HostId) -> Host {
        self.host_with(name, host_id, Digests::default(), true)
    }

    pub(super) fn host_with(
        &mut self,
        name: &str,
        host_id: HostId,
        digests: Digests,
        disable_sq_flow_control: bool,
    ) -> Host {
        let names = (SUBNQN, name);
        let admin = self.initialize(digests);
        let ended = self.connect(
            admin,
            names,
            host_id,
            Cntlid::DYNAMIC,
            connect(0, disable_sq_flow_control),
        );
        assert!(ended.status.is_success(), "{ended:?}");
        let cntlid = Cntlid(ended.result as u16);
        self.enable(admin);
        let io = self.initialize(digests);
        let host = Host { cntlid, admin, io };
        let pairs = NumberOfQueues::pairs(2).expect("two").encode();
        let queues = SetFeatures::new(FeatureIdentifier::NumberOfQueues, pairs);
        assert_eq!(
            self.admin(host, AdminCommand::SetFeatures(queues), 0).result,
            pairs.into()
        );
        let ended = self.connect(io, names, host_id, cntlid, connect(1, disable_sq_flow_control));
        assert!(ended.status.is_success(), "{ended:?}");
        host
    }

    pub(super) fn enable(&mut self, admin: ConnectionId) {
        let ended = self.set_configuration(admin, Configuration::ENABLE);
        assert!(ended.status.is_success(), "{ended:?}");
    }

    pub(super) fn set_configuration(&mut self, admin: ConnectionId, value: Configuration) -> Ended {
        let set = PropertySet {
            size: PropertySize::Four,
            offset: 0x14,
            value: value.encode().into(),
        };
        let cid = self.cid(admin);
        self.call(
            admin,
            FabricsCommand::PropertySet(set).encode(cid, Sgl::NONE),
            &[],
        )
    }
}

/// The request that begins a connection.
pub(super) fn initialization(digests: Digests) -> Vec<u8> {
    let mut specific = [0; 120];
    specific[3] = u8::from(digests.header) | u8::from(digests.data) << 1;
    let request = FrameWriter::default().before_data(PduType::IcReq, 0, &specific, 0);
    request.to_vec()
}

/// A Connect for a queue of 32 entries, keep alive off.
pub(super) fn connect(qid: u16, disable_sq_flow_control: bool) -> Connect {
    Connect {
        qid: Qid(qid),
        sqsize: ZeroBased::<u16>::from_raw(31),
        attributes: ConnectAttributes {
            disable_sq_flow_control,
            ..ConnectAttributes::default()
        },
        kato_ms: 0,
    }
}

/// The end that replies tell: data, then a completion, or data that says it succeeded.
fn end_of(replies: &[Reply]) -> Option<Ended> {
    let mut data = Vec::new();
    for reply in replies {
        match reply {
            Reply::Data {
                bytes,
                offset,
                success,
                ..
            } => {
                assert_eq!(*offset as usize, data.len(), "data out of order");
                data.extend(bytes);
                if *success {
                    let status = Status::SUCCESS;
                    return Some(Ended {
                        status,
                        result: 0,
                        data,
                    });
                }
            }
            Reply::Completion(entry) => {
                return Some(Ended {
                    status: entry.status(),
                    result: entry.result.get(),
                    data,
                });
            }
            _ => {}
        }
    }
    None
}

impl Peer {
    fn new() -> Peer {
        let limits = FrameLimits {
            capsule_data_bytes: 0,
            transfer_data_bytes: 1 << 20,
        };
        Peer {
            reader: FrameReader::new(End::Host, limits),
            writer: FrameWriter::default(),
            replies: VecDeque::new(),
            next_cid: 0,
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(part) = self.reader.read(&mut rest).expect("the target speaks well") {
            match part {
                Part::Header(header) => {
                    self.replies
                        .push_back(reply(header.kind, header.flags, header.bytes()))
                }
                Part::Data(data) => {
                    if let Some(Reply::Data { bytes, .. }) = self.replies.back_mut() {
                        bytes.extend(data);
                    }
                }
                Part::End { intact } => assert!(intact, "the target's data digest"),
            }
        }
    }
}

fn reply(kind: PduType, flags: u8, header: &[u8]) -> Reply {
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    match kind {
        PduType::IcResp => Reply::Initialized {
            digest: header[11],
            max_data: word(12),
        },
        PduType::C2hTermReq => Reply::Terminated {
            status: half(8),
            information: word(10),
        },
        PduType::CapsuleResp => {
            Reply::Completion(CompletionQueueEntry::parse(&header[8..]).expect("long enough"))
        }
        PduType::C2hData => Reply::Data {
            cid: half(8),
            offset: word(12),
            bytes: Vec::new(),
            success: flags & 8 != 0,
        },
        PduType::R2t => Reply::R2t {
            cid: half(8),
            tag: half(10),
            offset: word(12),
            length: word(16),
        },
        _ => panic!("a target does not send {kind:?}"),
    }
}
