//! A controller by hand, for tests: it answers what setting up and reading namespaces take, as a test arranges it, and keeps
//! everything else for the test to answer.

use super::memory::TestMemory;
use crate::driver::{CloseReason, ConnectionId, Segment};
use crate::host::{Association, AssociationConfig, AssociationEvent, AssociationOutput, ConnectionIdRanges};
use crate::tcp::framing::{Digests, End, FLAG_LAST, FrameLimits, FrameReader, FrameWriter, Part, PduType};
use block::{Duration, Time};
use nvme::command::{AdminCommand, Cns, FabricsCommand};
use nvme::identify::{
    IdentifyController, IdentifyNamespace, LbaFormat, NamespaceIdentification,
    NamespaceIdentificationDescriptors, NamespaceList, controller::cmic,
};
use nvme::log::{AnaGroup, AnaLog, AnaState, ChangedNamespaceList, LogPageIdentifier};
use nvme::property::{Capabilities, Property};
use nvme::{CompletionQueueEntry, Nsid, Status, SubmissionQueueEntry, U16, U32, U64, Uuid};
use std::collections::{BTreeMap, VecDeque};

/// A command that came in.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) connection: ConnectionId,
    pub(super) entry: SubmissionQueueEntry,
    pub(super) data: Vec<u8>,
    pub(super) at: Time,
}

impl Received {
    /// Opcode, or FCTYPE with bit 8 set.
    pub(super) fn kind(&self) -> u16 {
        match self.entry.is_fabrics() {
            true => 0x100 | u16::from(self.entry.fabrics_command_type()),
            false => u16::from(self.entry.opcode),
        }
    }
}

/// What a test arranges.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) capabilities: Capabilities,
    pub(super) identify: IdentifyController,
    pub(super) connect_dword: u32,
    pub(super) csts: VecDeque<u32>,
    pub(super) queues_dword: u32,
    /// NSID to (identity byte, blocks, ANA group).
    pub(super) namespaces: BTreeMap<u32, (u8, u64, u32)>,
    pub(super) ana: BTreeMap<u32, AnaState>,
    pub(super) changed: ChangedNamespaceList,
    /// Refuse commands of a kind with a status.
    pub(super) refuse: BTreeMap<u16, Status>,
    /// Never answer commands of a kind.
    pub(super) silent: Vec<u16>,
    pub(super) logs: BTreeMap<u8, Vec<u8>>,
    /// Answer nothing on I/O connections.
    pub(super) silent_io: bool,
}

impl Default for Script {
    fn default() -> Script {
        let mut identify = IdentifyController::default();
        identify.cntlid = U16::new(7);
        identify.mdts = 2; // 16 KiB
        identify.ioccsz = U32::new((64 + 4096) / 16);
        identify.cmic = cmic::ANA_REPORTING;
        identify.nanagrpid = U32::new(4);
        identify.oaes = U32::new(1 << 8 | 1 << 11);
        Script {
            capabilities: Capabilities {
                max_queue_entries: 8,
                command_sets: Capabilities::CSS_NVM,
                ..Capabilities::default()
            },
            identify,
            connect_dword: 7,
            csts: VecDeque::from([0, 0, 1]),
            queues_dword: 0,
            namespaces: BTreeMap::from([(1, (0x11, 1000, 1)), (3, (0x33, 3000, 2))]),
            ana: BTreeMap::from([(1, AnaState::Optimized), (2, AnaState::Inaccessible)]),
            changed: ChangedNamespaceList::default(),
            refuse: BTreeMap::new(),
            silent: Vec::new(),
            logs: BTreeMap::new(),
            silent_io: false,
        }
    }
}

struct Peer {
    reader: FrameReader,
    pending: Option<Received>,
    r2t_data: Vec<u8>,
}

/// An association and its controller, in virtual time, with nothing between them.
pub(super) struct World {
    pub(super) association: Association,
    pub(super) memory: TestMemory,
    pub(super) now: Time,
    pub(super) script: Script,
    /// Every command, in order.
    pub(super) log: Vec<Received>,
    /// Those that the test has to answer.
    pub(super) held: VecDeque<Received>,
    pub(super) events: Vec<AssociationEvent>,
    /// Connects asked for: when.
    pub(super) connects: Vec<Time>,
    pub(super) closes: Vec<(ConnectionId, bool)>,
    /// Whether connects succeed.
    pub(super) reachable: bool,
    peers: BTreeMap<ConnectionId, Peer>,
}

impl World {
    pub(super) fn new(config: AssociationConfig, script: Script) -> World {
        World {
            association: Association::new(config, ConnectionIdRanges::new().take()),
            memory: TestMemory::default(),
            now: Time::from_millis(1000),
            script,
            log: Vec::new(),
            held: VecDeque::new(),
            events: Vec::new(),
            connects: Vec::new(),
            closes: Vec::new(),
            reachable: true,
            peers: BTreeMap::new(),
        }
    }

    /// A world whose association is ready.
    pub(super) fn ready() -> World {
        World::ready_with(config(), Script::default())
    }

    pub(super) fn ready_with(config: AssociationConfig, script: Script) -> World {
        let mut world = World::new(config, script);
        world.association.connect(world.now);
        world.settle();
        world.run_for(200);
        assert!(world.association.is_ready(), "{:?}", world.events);
        world.events.clear();
        world.held.clear();
        world
    }

    /// Carries everything to and fro until nothing moves.
    pub(super) fn settle(&mut self) {
        while let Some(output) = self.association.poll_output() {
            match output {
                AssociationOutput::Connect { connection, .. } => self.open(connection),
                AssociationOutput::Send { connection, segment } => self.carry(connection, segment),
                AssociationOutput::Close { connection, abort } => {
                    self.peers.remove(&connection);
                    self.closes.push((connection, abort));
                }
                AssociationOutput::Event(event) => self.events.push(event),
            }
        }
    }

    /// Lets time pass, millisecond by millisecond where something is due.
    pub(super) fn run_for(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while let Some(at) = self.association.next_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.association.handle_timeout(self.now, &mut self.memory);
            self.settle();
        }
        self.now = end;
    }

    fn open(&mut self, connection: ConnectionId) {
        self.connects.push(self.now);
        if !self.reachable {
            return;
        }
        let limits = FrameLimits {
            capsule_data_bytes: 8192,
            transfer_data_bytes: 1 << 20,
        };
        let reader = FrameReader::new(End::Controller, limits);
        let peer = Peer {
            reader,
            pending: None,
            r2t_data: Vec::new(),
        };
        self.peers.insert(connection, peer);
        self.association
            .handle_connected(self.now, connection, &mut self.memory);
    }

    fn carry(&mut self, connection: ConnectionId, segment: Segment) {
        let bytes = segment.into_bytes(&mut self.memory);
        for command in self.read(connection, &bytes) {
            self.log.push(command.clone());
            self.answer(command);
        }
    }

    /// The commands that are complete with these bytes; ICReq is answered on the way.
    fn read(&mut self, connection: ConnectionId, mut bytes: &[u8]) -> Vec<Received> {
        let mut commands = Vec::new();
        let mut is_new = false;
        let Some(peer) = self.peers.get_mut(&connection) else {
            return commands;
        };
        while let Some(part) = peer.reader.read(&mut bytes).expect("our own PDUs hold together") {
            match part {
                Part::Header(header) if header.kind == PduType::CapsuleCmd => {
                    let entry = SubmissionQueueEntry::parse(&header.bytes()[8..]).unwrap();
                    let received = Received {
                        connection,
                        entry,
                        data: Vec::new(),
                        at: self.now,
                    };
                    match header.data_length {
                        0 => commands.push(received),
                        _ => peer.pending = Some(received),
                    }
                }
                Part::Header(header) if header.kind == PduType::IcReq => is_new = true,
                Part::Header(_) => {}
                Part::Data(data) => match peer.pending.as_mut() {
                    Some(received) => received.data.extend_from_slice(data),
                    None => peer.r2t_data.extend_from_slice(data),
                },
                Part::End { .. } => commands.extend(peer.pending.take()),
            }
        }
        if is_new {
            let mut icresp = vec![0; 128];
            icresp[..8].copy_from_slice(&[1, 0, 128, 0, 128, 0, 0, 0]);
            icresp[12..16].copy_from_slice(&4096u32.to_le_bytes());
            self.give(connection, &icresp);
        }
        commands
    }

    /// Bytes from the controller.
    pub(super) fn give(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.association
            .handle_received(self.now, connection, bytes, &mut self.memory);
    }

    fn answer(&mut self, command: Received) {
        let kind = command.kind();
        let is_admin = self.admin() == Some(command.connection);
        if self.script.silent.contains(&kind) || self.script.silent_io && !is_admin {
            return self.held.push_back(command);
        }
        if let Some(status) = self.script.refuse.get(&kind).copied() {
            return self.complete(&command, status, 0);
        }
        if let Ok(fabrics) = FabricsCommand::parse(&command.entry) {
            return self.answer_fabrics(&command, fabrics);
        }
        match AdminCommand::parse(&command.entry) {
            Ok(admin) if is_admin => self.answer_admin(command, admin),
            _ => self.held.push_back(command),
        }
    }

    fn answer_fabrics(&mut self, command: &Received, fabrics: FabricsCommand) {
        let value = match fabrics {
            FabricsCommand::Connect(_) => u64::from(self.script.connect_dword),
            FabricsCommand::PropertyGet(get) if get.offset == Property::ControllerCapabilities.code() => {
                self.script.capabilities.encode()
            }
            FabricsCommand::PropertyGet(_) => {
                let csts = &mut self.script.csts;
                let value = if csts.len() > 1 {
                    csts.pop_front()
                } else {
                    csts.front().copied()
                };
                u64::from(value.unwrap())
            }
            _ => 0,
        };
        self.complete(command, Status::SUCCESS, value);
    }

    fn answer_admin(&mut self, command: Received, admin: AdminCommand) {
        let script = &self.script;
        let data = match admin {
            AdminCommand::Identify(identify) => match identify.cns {
                Cns::Controller => script.identify.as_bytes().to_vec(),
                Cns::ActiveNamespaceList => {
                    let nsids = script.namespaces.keys().copied().map(Nsid);
                    NamespaceList::new(nsids, identify.nsid).as_bytes().to_vec()
                }
                Cns::Namespace => match script.namespaces.get(&identify.nsid.0) {
                    Some(namespace) => identify_namespace(*namespace),
                    None => return self.complete(&command, Status::INVALID_NAMESPACE_OR_FORMAT, 0),
                },
                _ => {
                    let identity = script
                        .namespaces
                        .get(&identify.nsid.0)
                        .map_or(0, |namespace| namespace.0);
                    let uuid = NamespaceIdentification::Uuid(Uuid([identity; 16]));
                    NamespaceIdentificationDescriptors(vec![uuid]).encode().to_vec()
                }
            },
            AdminCommand::GetLogPage(page) => {
                let log = match page.lid {
                    LogPageIdentifier::AsymmetricNamespaceAccess => ana_log(&script.ana),
                    LogPageIdentifier::ChangedAttachedNamespaceList => script.changed.as_bytes().to_vec(),
                    other => script.logs[&other.code()].clone(),
                };
                let start = (page.offset as usize).min(log.len());
                let end = (start + page.length_bytes() as usize).min(log.len());
                log[start..end].to_vec()
            }
            AdminCommand::SetFeatures(features) if features.fid.code() == 7 => {
                let value = u64::from(script.queues_dword);
                return self.complete(&command, Status::SUCCESS, value);
            }
            AdminCommand::AsynchronousEventRequest => return self.held.push_back(command),
            _ => return self.complete(&command, Status::SUCCESS, 0),
        };
        self.send_data(&command, &data);
        self.complete(&command, Status::SUCCESS, 0);
    }

    /// Data for a command, without its end.
    pub(super) fn send_data(&mut self, command: &Received, data: &[u8]) {
        let mut specific = [0; 16];
        specific[..2].copy_from_slice(&command.entry.cid.get().to_le_bytes());
        specific[8..12].copy_from_slice(&(data.len() as u32).to_le_bytes());
        let writer = FrameWriter::default();
        let mut bytes = writer
            .before_data(PduType::C2hData, FLAG_LAST, &specific, data.len() as u32)
            .to_vec();
        bytes.extend_from_slice(data);
        self.give(command.connection, &bytes);
    }

    /// Asks for all the data of a command.
    pub(super) fn send_r2t(&mut self, command: &Received, length: u32) -> Vec<u8> {
        let mut specific = [0; 16];
        specific[..2].copy_from_slice(&command.entry.cid.get().to_le_bytes());
        specific[8..12].copy_from_slice(&length.to_le_bytes());
        let bytes = FrameWriter::default()
            .before_data(PduType::R2t, 0, &specific, 0)
            .to_vec();
        self.give(command.connection, &bytes);
        self.settle();
        core::mem::take(&mut self.peers.get_mut(&command.connection).unwrap().r2t_data)
    }

    /// Ends a command.
    pub(super) fn complete(&mut self, command: &Received, status: Status, result: u64) {
        let entry = CompletionQueueEntry::new(command.entry.cid(), status, result);
        let writer = FrameWriter {
            digests: Digests::default(),
            data_alignment_bytes: 4,
        };
        let bytes = writer
            .before_data(PduType::CapsuleResp, 0, entry.as_bytes(), 0)
            .to_vec();
        self.give(command.connection, &bytes);
    }

    /// A connection breaks.
    pub(super) fn cut(&mut self, connection: ConnectionId, reason: CloseReason) {
        self.peers.remove(&connection);
        self.association
            .handle_closed(self.now, connection, reason, &mut self.memory);
    }

    /// The admin connection, if it is open.
    pub(super) fn admin(&self) -> Option<ConnectionId> {
        self.peers.keys().next().copied()
    }

    /// The I/O connections.
    pub(super) fn io(&self) -> Vec<ConnectionId> {
        self.peers.keys().skip(1).copied().collect()
    }

    /// The next command that the test has to answer, other than event requests.
    pub(super) fn take_held(&mut self) -> Option<Received> {
        let at = self.held.iter().position(|command| command.kind() != 0x0C)?;
        self.held.remove(at)
    }

    /// Answers the standing event request.
    pub(super) fn raise(&mut self, event: nvme::async_event::AsyncEvent) {
        let at = self.held.iter().position(|command| command.kind() == 0x0C);
        let request = self.held.remove(at.expect("an event request stands")).unwrap();
        self.complete(&request, Status::SUCCESS, u64::from(event.encode()));
        self.settle();
    }
}

/// A configuration with a keep-alive timeout of 1 s, command timeout of 700 ms.
pub(super) fn config() -> AssociationConfig {
    AssociationConfig {
        kato_ms: 1000,
        queue_depth: 16,
        command_timeout: Duration::from_millis(700),
        connect_timeout: Duration::from_millis(900),
        ..AssociationConfig::new(
            "nqn.2024-01.example:host",
            [0xA5; 16],
            "nqn.2024-01.example:subsystem",
            "127.0.0.1:4420".parse().unwrap(),
        )
    }
}

fn identify_namespace((_, blocks, group): (u8, u64, u32)) -> Vec<u8> {
    let mut identify = IdentifyNamespace::default();
    identify.nsze = U64::new(blocks);
    identify.anagrpid = U32::new(group);
    identify.lbaf[0] = LbaFormat::new(12);
    identify.as_bytes().to_vec()
}

fn ana_log(states: &BTreeMap<u32, AnaState>) -> Vec<u8> {
    let groups = states.iter().map(|(group, state)| AnaGroup {
        group: *group,
        change_count: 0,
        state: *state,
        namespaces: Vec::new(),
    });
    let log = AnaLog {
        change_count: 1,
        groups: groups.collect(),
    };
    log.encode(true)
}
