//! The target against hosts that send any command at any time, cut their bytes anywhere, send data that nobody asked for, break
//! the protocol, and go away.
//!
//! Oracle: every command is answered once, and none that was not sent; what the target sends is well formed; a request that is
//! handed out lies inside of its namespace; when every host is gone nobody holds a buffer.

use super::peer::{Asked, Peer};
use super::target_world::{BLOCKS, HOSTS, SUBNQN, TargetWorld};
use crate::input::{Cuts, Input};
use block::Status;
use fabric::driver::ConnectionId;
use fabric::target::AnaState;
use nvme::command::{Connect, ConnectAttributes, FABRICS_OPCODE, PropertySet, PropertySize};
use nvme::connect::ConnectParameters;
use nvme::{Cid, Cntlid, FabricsCommand, Nqn, Nsid, Qid, Sgl, SubmissionQueueEntry, ZeroBased};
use std::collections::BTreeMap;

const OPERATIONS_MAX: u32 = 160;
const ADMIN: [u8; 8] = [0x02, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18, 0x80];
const IO: [u8; 10] = [0x00, 0x01, 0x02, 0x05, 0x08, 0x09, 0x0d, 0x0e, 0x11, 0x15];
const FABRICS: [u32; 6] = [0x00, 0x01, 0x04, 0x05, 0x06, 0x08];
const LENGTHS: [u32; 8] = [0, 8, 16, 64, 1024, 4096, 8192, 65536];
const STATUSES: [Status; 7] = [
    Status::Success,
    Status::Unavailable,
    Status::StaleEpoch,
    Status::MediaError,
    Status::OutOfSpace,
    Status::OutOfRange,
    Status::Invalid,
];
const ANA: [AnaState; 4] = [
    AnaState::Optimized,
    AnaState::NonOptimized,
    AnaState::Inaccessible,
    AnaState::Change,
];

#[derive(Debug)]
struct Story {
    world: TargetWorld,
    peers: BTreeMap<ConnectionId, Peer>,
    cuts: Cuts,
}

/// One input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut story = Story {
        world: TargetWorld::new(),
        peers: BTreeMap::new(),
        cuts: Cuts::new(input.byte()),
    };
    story.associate(&mut input);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        story.step(&mut input);
        story.pump();
    }
    story.end();
}

/// A Connect of one host.
fn connect(
    cid: u16,
    host: usize,
    qid: u16,
    cntlid: u16,
    flow_control: bool,
) -> (SubmissionQueueEntry, Vec<u8>) {
    let parameters = ConnectParameters {
        host_id: nvme::HostId([0xa0 + host as u8; 16]),
        cntlid: Cntlid(cntlid),
        subsystem: Nqn::parse(SUBNQN).expect("a name"),
        host: Some(Nqn::parse(HOSTS[host]).expect("a name")),
    };
    let connect = Connect {
        qid: Qid(qid),
        sqsize: ZeroBased::<u16>::from_raw(15),
        attributes: ConnectAttributes {
            disable_sq_flow_control: !flow_control,
            ..ConnectAttributes::default()
        },
        kato_ms: 0,
    };
    let sgl = Sgl::InCapsule {
        offset: 0,
        length: 1024,
    };
    let entry = FabricsCommand::Connect(connect).encode(Cid(cid), sgl);
    (entry, parameters.encode().as_bytes().to_vec())
}

fn enable(cid: u16) -> SubmissionQueueEntry {
    let set = PropertySet {
        size: PropertySize::Four,
        offset: 0x14,
        value: 0x0046_0001,
    };
    FabricsCommand::PropertySet(set).encode(Cid(cid), Sgl::NONE)
}

impl Story {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(20) {
            0 => self.associate(input),
            1 => _ = self.accept(input),
            2..=7 => self.command(input),
            8 => self.connect(input),
            9..=10 => self.pay(input),
            11 => self.pay_wrongly(input),
            12 => self.go_wild(input),
            13..=14 if !self.world.handed.is_empty() => {
                let index = input.below(self.world.handed.len());
                self.world.complete(index, STATUSES[input.below(STATUSES.len())]);
            }
            15 if !self.world.persists.is_empty() => {
                let index = input.below(self.world.persists.len());
                self.world.persist(index, input.flag());
            }
            16 => self.close(input),
            17 => self.configure(input),
            18 => self.world.memory.refuse = input.below(4) as u32,
            19 => self.world.pass(u64::from(input.byte()) * 50),
            _ => self.world.serve(),
        }
    }

    fn pick(&self, input: &mut Input<'_>) -> Option<ConnectionId> {
        let index = input.byte() as usize;
        (!self.peers.is_empty()).then(|| *self.peers.keys().nth(index % self.peers.len()).expect("fewer"))
    }

    /// Bytes go both ways until none are left that may go.
    fn pump(&mut self) {
        loop {
            for (connection, sent) in &mut self.world.sent {
                let sent = std::mem::take(sent);
                if let Some(peer) = self.peers.get_mut(connection) {
                    peer.hear(&sent);
                }
            }
            for connection in std::mem::take(&mut self.world.closed) {
                self.peers.remove(&connection);
                self.world.sent.remove(&connection);
            }
            let wants = |connection: &ConnectionId| self.world.target.wants_bytes(*connection);
            let next = self
                .peers
                .iter_mut()
                .find(|(id, peer)| !peer.unread.is_empty() && wants(id));
            let Some((connection, peer)) = next else { return };
            // In pieces, until what it says has to be heard first.
            let (connection, unread) = (*connection, std::mem::take(&mut peer.unread));
            let mut rest = unread.as_slice();
            while !rest.is_empty()
                && self.world.closed.is_empty()
                && self.world.target.wants_bytes(connection)
            {
                let (piece, behind) = self.cuts.cut(rest);
                rest = behind;
                self.world.receive(connection, piece);
            }
            if let Some(peer) = self.peers.get_mut(&connection) {
                peer.unread.splice(..0, rest.iter().copied());
            }
        }
    }

    fn accept(&mut self, input: &mut Input<'_>) -> ConnectionId {
        let connection = self.world.accept();
        let mut peer = Peer::new();
        peer.initialize(input.byte());
        self.peers.insert(connection, peer);
        self.pump();
        connection
    }

    /// An association as it should be: an admin queue, enabled, and an I/O queue.
    fn associate(&mut self, input: &mut Input<'_>) {
        let how = input.byte();
        let (host, flow_control) = (usize::from(how & 1), how & 2 != 0);
        let admin = self.accept(input);
        let Some(cntlid) = self.call(admin, |cid| connect(cid, host, 0, 0xffff, flow_control)) else {
            return;
        };
        self.call(admin, |cid| (enable(cid), Vec::new()));
        let io = self.accept(input);
        self.call(io, |cid| connect(cid, host, 1, cntlid as u16, flow_control));
    }

    fn call(
        &mut self,
        connection: ConnectionId,
        command: impl FnOnce(u16) -> (SubmissionQueueEntry, Vec<u8>),
    ) -> Option<u32> {
        let peer = self.peers.get_mut(&connection)?;
        let (entry, data) = command(peer.cid());
        peer.send(&entry, &data);
        self.pump();
        self.peers.get(&connection).map(|peer| peer.result)
    }

    fn connect(&mut self, input: &mut Input<'_>) {
        let Some(connection) = self.pick(input) else {
            return;
        };
        let (host, qid, cntlid) = (input.below(2), input.below(4) as u16, input.below(8) as u16);
        let cntlid = if qid == 0 && cntlid < 7 { 0xffff } else { cntlid };
        let flow_control = input.flag();
        self.call(connection, |cid| connect(cid, host, qid, cntlid, flow_control));
    }

    /// Any command, with data as it should be or not.
    fn command(&mut self, input: &mut Input<'_>) {
        let Some(connection) = self.pick(input) else {
            return;
        };
        let (kind, shape) = (input.byte(), input.byte());
        let length = LENGTHS[usize::from(shape & 7)];
        let nsid = Nsid(u32::from(input.byte() % 4));
        let peer = self.peers.get_mut(&connection).expect("picked");
        let cid = match peer.used_cid() {
            Some(used) if shape & 0x10 != 0 => used,
            _ => peer.cid(),
        };
        let within = shape & 8 != 0 && length <= 8192;
        let sgl = match within {
            true => Sgl::InCapsule { offset: 0, length },
            false => Sgl::Transport { length },
        };
        let (opcode, nsid) = match kind % 32 {
            0..=5 => (FABRICS_OPCODE, Nsid(FABRICS[usize::from(kind % 32)])),
            6..=13 => (ADMIN[usize::from(kind % 32) - 6], nsid),
            index => (IO[usize::from(index - 14) % IO.len()], nsid),
        };
        let mut dwords = [0; 6];
        dwords[0] = u32::from(input.half());
        dwords[1] = u32::from(input.byte() & 3);
        dwords[2] = u32::from(input.half());
        if kind & 0x20 != 0 {
            // A run of blocks as long as its data.
            dwords = [dwords[0] % 80, 0, (length / 4096).saturating_sub(1), 0, 0, 0];
        }
        let mut entry = SubmissionQueueEntry::new(opcode, Cid(cid), nsid, sgl.encode()).with_dwords(dwords);
        if shape & 0x20 != 0 {
            let mut bytes = entry.to_bytes();
            bytes[4 + input.below(60)] ^= input.byte();
            entry = SubmissionQueueEntry::from_bytes(bytes);
        }
        let mut data = vec![0; if within { length as usize } else { 0 }];
        for (byte, given) in data.iter_mut().zip(input.bytes(if within { 24 } else { 0 })) {
            *byte = *given;
        }
        peer.send(&entry, &data);
    }

    fn pay(&mut self, input: &mut Input<'_>) {
        let (connection, fill) = (self.pick(input), input.byte());
        if let Some(peer) = connection.and_then(|connection| self.peers.get_mut(&connection)) {
            peer.pay(fill);
        }
    }

    fn pay_wrongly(&mut self, input: &mut Input<'_>) {
        let Some(peer) = self
            .pick(input)
            .and_then(|connection| self.peers.get_mut(&connection))
        else {
            return;
        };
        let right = peer.asked.first().copied().unwrap_or(Asked {
            cid: 1,
            tag: 0,
            offset: 0,
            length: 512,
        });
        let mut asked = right;
        match input.below(6) {
            0 => asked.cid ^= 1 + u16::from(input.byte()),
            1 => asked.tag ^= 1 + u16::from(input.byte()),
            2 => asked.offset = asked.offset.wrapping_add(u32::from(input.byte()) * 512),
            3 => asked.length = 1 + u32::from(input.half()) % (20 << 10),
            // Less than was asked for, and yet the last.
            4 => asked.length = 4,
            _ => {}
        }
        peer.wild = true;
        let data = vec![7; asked.length.min(20 << 10) as usize];
        peer.send_data(asked, input.flag(), &data);
    }

    fn go_wild(&mut self, input: &mut Input<'_>) {
        let length = 1 + input.below(160);
        let Some(peer) = self
            .pick(input)
            .and_then(|connection| self.peers.get_mut(&connection))
        else {
            return;
        };
        peer.wild = true;
        peer.unread.extend(input.bytes(length));
    }

    fn close(&mut self, input: &mut Input<'_>) {
        if let Some(connection) = self.pick(input) {
            self.peers.remove(&connection);
            self.world.close(connection);
        }
    }

    fn configure(&mut self, input: &mut Input<'_>) {
        let nsid = 1 + input.below(3) as u32;
        match input.below(4) {
            0 => self.world.set_ana(ANA[input.below(ANA.len())]),
            1 => self.world.put_namespace(nsid, BLOCKS, input.below(3)),
            2 => self
                .world
                .put_namespace(nsid, BLOCKS + u64::from(input.byte()), 2),
            _ => self.world.remove_namespace(nsid),
        }
    }

    /// Everybody gets what is owed; then everything must have been answered; then everybody goes.
    fn end(mut self) {
        self.world.memory.refuse = 0;
        for _ in 0..1000 {
            self.world.serve();
            self.peers.values_mut().for_each(|peer| peer.pay(1));
            self.pump();
            // Buffers were given back, and it may have waited for some.
            self.world.pass(0);
            self.pump();
            let owing = self.peers.values().any(|peer| !peer.asked.is_empty());
            if !owing && self.world.handed.is_empty() && self.world.persists.is_empty() {
                break;
            }
        }
        for (connection, peer) in &self.peers {
            assert!(peer.is_answered(), "{connection:?}: never answered: {peer:?}");
        }
        for connection in std::mem::take(&mut self.peers).into_keys() {
            self.world.close(connection);
        }
        self.world.serve();
        self.world.pass(60_000);
        self.world.serve();
        assert_eq!(self.world.memory.held(), 0, "buffers are held by nobody");
    }
}
