//! Rules about what is said over connections, checked while it is said, by somebody who only looks on.
//!
//! * R2: once a disk node has answered a preempt-and-abort under key *e*, it answers no command of an older key with success, asks its
//!   disk for nothing that only such a command can have asked for, and has nothing of that kind at its disk.
//! * R4: the owner reads nothing but the head of a leg that is not in the recorded set.
//! * R5: a controller node answers nothing with success that it heard after another was seen to serve a newer epoch.
//! * R7: a controller node says optimized only when it serves.

use super::wire::{Reader, Unit, number};
use super::{Broken, Rule};
use crate::world::{Line, NodeName, Witness};
use block::Time;
use disk_node::format::DATA_OFFSET;
use fabric::driver::{DiskOperation, DiskRequestId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const WRITE_ZEROES: u8 = 0x08;
const REGISTER: u8 = 0x0D;
const ACQUIRE: u8 = 0x11;
const PREEMPT_AND_ABORT: u64 = 2;
const GET_LOG_PAGE: u8 = 0x02;
const ANA_LOG: u8 = 0x0C;
const ANA_OPTIMIZED: u8 = 1;
const FABRICS: u8 = 0x7F;
const CONNECT: u8 = 0x01;
/// Requests of the disk node's own have this bit.
const OWN_REQUEST: u64 = 1 << 63;
/// Before it are superblocks and the bitmap: the head of a leg.
const HEAD_BLOCKS: u64 = 128;
const BLOCK: u64 = super::BLOCK as u64;

/// What the world outside of the machines knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) disk_nodes: BTreeSet<NodeName>,
    pub(super) controllers: BTreeSet<NodeName>,
    /// The epoch that was granted last.
    pub(super) epoch: u64,
    /// The disk nodes whose legs are recorded as in sync.
    pub(super) in_sync: BTreeSet<NodeName>,
    /// Who serves the newest epoch that is served, and since when.
    pub(super) server: Option<(NodeName, Time)>,
}

#[derive(Clone, Copy, Debug)]
struct Command {
    opcode: u8,
    cdw10: u64,
    /// Blocks of a read or write.
    start: u64,
    length: u64,
    /// When the other end heard it.
    heard: Option<Time>,
    /// The key that a Register brings.
    key: u64,
}

#[derive(Debug)]
struct Connection {
    to: NodeName,
    said: Reader,
    heard: Reader,
    answered: Reader,
    host: [u8; 16],
    is_admin: bool,
    commands: BTreeMap<u16, Command>,
    /// Since when one of its ends is no more.
    closed: Option<Time>,
}

/// What was under way on a connection may be executed for so long after it is gone: orphans end (R8).
const ORPHANS_LAST: Duration = Duration::from_secs(30);

/// Looks on.
#[derive(Debug, Default)]
pub(super) struct Tap {
    pub(super) facts: Facts,
    /// The first rule that did not hold.
    pub(super) broken: Option<Broken>,
    /// What happened to fences, for people.
    pub(super) news: Vec<(NodeName, String)>,
    /// Controller nodes that have just said optimized.
    pub(super) claims: Vec<NodeName>,
    connections: BTreeMap<u64, Connection>,
    /// At a disk node, of a host: the key that it registered.
    keys: BTreeMap<(NodeName, [u8; 16]), u64>,
    /// The highest key whose preempt-and-abort was answered, by disk node.
    fenced: BTreeMap<NodeName, u64>,
    /// What hosts' commands have asked of disks: the leg's block, and whether it is written.
    at_disk: BTreeMap<(NodeName, DiskRequestId), (u64, bool)>,
}

impl Tap {
    fn break_rule(&mut self, rule: Rule, what: String) {
        self.broken.get_or_insert(Broken::new(rule, what));
    }

    fn key(&self, connection: &Connection) -> u64 {
        self.keys
            .get(&(connection.to, connection.host))
            .copied()
            .unwrap_or(0)
    }

    /// A command is said, by the end that asked for the connection.
    fn command_said(&mut self, id: u64, entry: &[u8], data: &[u8]) {
        let connection = self.connections.get_mut(&id).expect("it is being read");
        let (opcode, cid) = (entry[0], number(&entry[2..4]) as u16);
        let cdw10 = number(&entry[40..44]);
        if opcode == FABRICS && entry[4] == CONNECT && data.len() >= 16 {
            connection.host.copy_from_slice(&data[..16]);
            connection.is_admin = cdw10 >> 16 == 0;
        }
        let key = if opcode == REGISTER && data.len() >= 16 {
            number(&data[8..16])
        } else {
            0
        };
        let command = Command {
            opcode,
            cdw10,
            start: number(&entry[40..48]),
            length: (number(&entry[48..52]) & 0xFFFF) + 1,
            heard: None,
            key,
        };
        connection.commands.insert(cid, command);
        let connection = &self.connections[&id];
        let (disk, head) = (connection.to, command.start < HEAD_BLOCKS);
        let reads_leg =
            opcode == READ && !connection.is_admin && self.facts.disk_nodes.contains(&disk) && !head;
        if reads_leg && self.key(connection) == self.facts.epoch && !self.facts.in_sync.contains(&disk) {
            let what = format!(
                "the owner reads block {} of a leg on {disk:?} that is not in the set",
                command.start
            );
            self.break_rule(Rule::R4, what);
        }
    }

    fn command_heard(&mut self, now: Time, id: u64, entry: &[u8]) {
        let cid = number(&entry[2..4]) as u16;
        let connection = self.connections.get_mut(&id).expect("it is being read");
        if let Some(command) = connection.commands.get_mut(&cid) {
            command.heard = Some(now);
        }
    }

    /// The other end has answered.
    fn answered(&mut self, id: u64, cid: u16, success: bool) {
        let connection = self.connections.get_mut(&id).expect("it is being read");
        let Some(command) = connection.commands.remove(&cid) else {
            return;
        };
        let (to, host, is_admin) = (connection.to, connection.host, connection.is_admin);
        if !success || is_admin || command.opcode == FABRICS {
            return;
        }
        if self.facts.disk_nodes.contains(&to) {
            self.disk_node_answered(id, to, host, command);
        } else if let Some((server, since)) = self.facts.server
            && server != to
            && command.heard.is_some_and(|heard| heard > since)
        {
            let what = format!("{to:?} answers {command:?}, though {server:?} serves since {since:?}");
            self.break_rule(Rule::R5, what);
        }
    }

    fn disk_node_answered(&mut self, id: u64, disk: NodeName, host: [u8; 16], command: Command) {
        let key = self.key(&self.connections[&id]);
        match command.opcode {
            REGISTER => {
                self.news
                    .push((disk, format!("key {} is registered", command.key)));
                self.keys.insert((disk, host), command.key);
            }
            ACQUIRE if command.cdw10 & 0x7 == PREEMPT_AND_ABORT => {
                self.news
                    .push((disk, format!("older keys than {key} are shut out")));
                let fenced = self.fenced.entry(disk).or_default();
                *fenced = key.max(*fenced);
                self.check_disk(disk);
            }
            FLUSH | WRITE | READ | WRITE_ZEROES
                if self.fenced.get(&disk).is_some_and(|fenced| key < *fenced) =>
            {
                let what = format!("{disk:?} answers {command:?} of key {key} after a newer one shut it out");
                self.break_rule(Rule::R2, what);
            }
            _ => {}
        }
    }

    /// Nothing is at the disk that only an older key can have asked for.
    fn check_disk(&mut self, disk: NodeName) {
        let asked: Vec<(u64, bool)> = self
            .at_disk
            .iter()
            .filter(|((at, _), _)| *at == disk)
            .map(|(_, what)| *what)
            .collect();
        asked.into_iter().for_each(|what| self.check_asked(disk, what));
    }

    fn check_asked(&mut self, disk: NodeName, (block, writes): (u64, bool)) {
        let Some(fenced) = self.fenced.get(&disk).copied() else {
            return;
        };
        let fits = |command: &Command| {
            let kind = match writes {
                true => matches!(command.opcode, WRITE | WRITE_ZEROES),
                false => command.opcode == READ,
            };
            kind && (command.start..command.start + command.length).contains(&block)
        };
        let asks = |connection: &&Connection| {
            connection.to == disk && !connection.is_admin && self.key(connection) >= fenced
        };
        let known = self
            .connections
            .values()
            .filter(asks)
            .any(|connection| connection.commands.values().any(fits));
        if !known {
            let kind = if writes { "write" } else { "read" };
            let what = format!(
                "{disk:?} has its disk {kind} block {block} of a leg, for no command of key {fenced} or newer"
            );
            self.break_rule(Rule::R2, what);
        }
    }

    /// R7: the ANA log page begins with 16 bytes, and has the state of its first group 16 bytes further on.
    fn data_said(&mut self, id: u64, cid: u16, data: &[u8]) {
        let connection = &self.connections[&id];
        let is_ana =
            |command: &Command| command.opcode == GET_LOG_PAGE && command.cdw10 & 0xFF == u64::from(ANA_LOG);
        let asked = connection.is_admin && connection.commands.get(&cid).is_some_and(is_ana);
        if asked
            && self.facts.controllers.contains(&connection.to)
            && data.get(32).is_some_and(|state| state & 0xF == ANA_OPTIMIZED)
        {
            self.claims.push(connection.to);
        }
    }

    fn take_apart(
        &mut self,
        id: u64,
        reader: fn(&mut Connection) -> &mut Reader,
        bytes: &[u8],
        mut each: impl FnMut(&mut Tap, Unit<'_>),
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut taken = std::mem::take(reader(connection));
        taken.read(bytes, |unit| each(self, unit));
        *reader(self.connections.get_mut(&id).expect("it is still there")) = taken;
    }
}

impl Witness for Tap {
    fn connects(&mut self, connection: u64, _from: NodeName, to: NodeName) {
        let fresh = Connection {
            to,
            said: Reader::default(),
            heard: Reader::default(),
            answered: Reader::default(),
            host: [0; 16],
            is_admin: true,
            commands: BTreeMap::new(),
            closed: None,
        };
        self.connections.insert(connection, fresh);
    }

    fn closes(&mut self, now: Time, connection: u64) {
        if let Some(closing) = self.connections.get_mut(&connection) {
            closing.closed.get_or_insert(now);
        }
        let lasts = |connection: &Connection| {
            connection
                .closed
                .is_none_or(|closed| now.since(closed) < ORPHANS_LAST)
        };
        self.connections.retain(|_, connection| lasts(connection));
    }

    fn says(&mut self, _now: Time, line: Line, bytes: &[u8]) {
        let id = line.connection;
        if line.outward {
            self.take_apart(
                id,
                |connection| &mut connection.said,
                bytes,
                |tap, unit| {
                    if let Unit::Command { entry, data } = unit {
                        tap.command_said(id, entry, data);
                    }
                },
            );
        } else {
            self.take_apart(
                id,
                |connection| &mut connection.answered,
                bytes,
                |tap, unit| match unit {
                    Unit::Response { cid, success } => tap.answered(id, cid, success),
                    Unit::Data { cid, data, ends } => {
                        tap.data_said(id, cid, data);
                        if ends {
                            tap.answered(id, cid, true);
                        }
                    }
                    Unit::Command { .. } => {}
                },
            );
        }
    }

    fn hears(&mut self, now: Time, line: Line, bytes: &[u8]) {
        let id = line.connection;
        if line.outward {
            self.take_apart(
                id,
                |connection| &mut connection.heard,
                bytes,
                |tap, unit| {
                    if let Unit::Command { entry, .. } = unit {
                        tap.command_heard(now, id, entry);
                    }
                },
            );
        }
    }

    fn asks_disk(&mut self, _now: Time, node: NodeName, request: DiskRequestId, operation: &DiskOperation) {
        let (offset, writes) = match operation {
            DiskOperation::Read { offset_bytes, .. } => (*offset_bytes, false),
            DiskOperation::Write { offset_bytes, .. } | DiskOperation::WriteZeroes { offset_bytes, .. } => {
                (*offset_bytes, true)
            }
            DiskOperation::Flush | DiskOperation::Discard { .. } => return,
        };
        if request.0 & OWN_REQUEST == 0 && offset >= DATA_OFFSET {
            // The only leg of a disk that was empty lies from its first extent on.
            let what = ((offset - DATA_OFFSET) / BLOCK, writes);
            self.at_disk.insert((node, request), what);
            self.check_asked(node, what);
        }
    }

    fn disk_answers(&mut self, node: NodeName, request: DiskRequestId) {
        self.at_disk.remove(&(node, request));
    }

    fn died(&mut self, node: NodeName) {
        self.at_disk.retain(|(at, _), _| *at != node);
        // What is still under way to a process that has died is heard by nobody.
        self.connections.retain(|_, connection| connection.to != node);
    }
}
