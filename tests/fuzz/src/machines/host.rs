//! The host's side against a controller that lies: a real target answers, and what it says is changed, dropped, said twice, out of
//! order, or made up; connections break and time passes at any moment.
//!
//! Oracle: nothing makes the machine panic; what it sends is well formed; every request that was taken ends once, unless it was
//! abandoned; when the association is over nobody holds a buffer.

use super::target_world::{BLOCKS, HOSTS, SUBNQN, TargetWorld};
use crate::input::Input;
use crate::memory::Buffers;
use block::{BLOCK_SIZE, BlockRange, BufferSlice, Memory, Operation, Request};
use fabric::driver::{CloseReason, ConnectionId, Segment};
use fabric::host::{
    Association, AssociationConfig, AssociationEvent, AssociationOutput, Command, ConnectionIdRanges,
    Reservation, Tag,
};
use fabric::target::AnaState;
use fabric::tcp::framing::{Digests, End, FrameLimits, FrameReader, FrameWriter, Part, PduType};
use nvme::reservation::{AcquireAction, PersistThroughPowerLoss, RegisterAction, ReservationType};
use std::collections::{BTreeMap, VecDeque};

const OPERATIONS_MAX: u32 = 160;
const KINDS: [PduType; 6] = [
    PduType::IcResp,
    PduType::C2hTermReq,
    PduType::CapsuleResp,
    PduType::C2hData,
    PduType::R2t,
    PduType::CapsuleCmd,
];

#[derive(Debug)]
struct Link {
    at_target: ConnectionId,
    /// Whole PDUs on their way to the host.
    to_host: VecDeque<Vec<u8>>,
    /// Nobody listens to a host that was lied to about digests.
    heard: Option<FrameReader>,
    agreed: bool,
}

#[derive(Debug)]
struct Story {
    world: TargetWorld,
    association: Association,
    memory: Buffers,
    links: BTreeMap<ConnectionId, Link>,
    /// Connections that are not open yet.
    opening: Vec<ConnectionId>,
    taken: BTreeMap<Tag, Option<BufferSlice>>,
    last_tag: u64,
    lands: bool,
}

/// One input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let address = "192.0.2.1:4420".parse().expect("an address");
    let mut config = AssociationConfig::new(HOSTS[0], [7; 16], SUBNQN, address);
    config.io_queues = 1 + u16::from(mode & 1);
    config.queue_depth = 8;
    (config.header_digest, config.data_digest) = (mode & 2 != 0, mode & 4 != 0);
    config.sq_flow_control = mode & 8 != 0;
    let mut story = Story {
        world: TargetWorld::new(),
        association: Association::new(config, ConnectionIdRanges::new().take()),
        memory: Buffers::default(),
        links: BTreeMap::new(),
        opening: Vec::new(),
        taken: BTreeMap::new(),
        last_tag: 0,
        lands: mode & 16 != 0,
    };
    story.association.connect(story.world.now);
    story.drain();
    if mode & 32 == 0 {
        story.settle();
    }
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        story.step(&mut input);
        story.drain();
    }
    story.end();
}

impl Story {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(20) {
            0..=1 => self.settle(),
            2..=3 => self.deliver_next(input),
            4..=7 => self.submit(input),
            8..=9 => self.lie(input),
            10 => self.make_up(input),
            11 => self.open_next(input.flag()),
            12 => self.break_link(input),
            13 => self.tick(),
            14 => self.world.pass(u64::from(input.byte()) * 20),
            15 => self.configure(input),
            16 => {
                let tag = Tag(1 + u64::from(input.byte()));
                self.association.abandon(tag, &mut self.memory);
                // Its buffer may still be read; it is the association's own reference that counts from here on.
                self.forget(tag);
            }
            17 => match input.below(4) {
                0 => self.association.disconnect(self.world.now, &mut self.memory),
                1 => self
                    .association
                    .identify_namespaces(self.world.now, &mut self.memory),
                _ => self.association.connect(self.world.now),
            },
            18 if !self.world.handed.is_empty() => {
                let index = input.below(self.world.handed.len());
                self.world.complete(index, block::Status::MediaError);
            }
            _ => self.world.serve(),
        }
    }

    fn forget(&mut self, tag: Tag) {
        if let Some(Some(buffer)) = self.taken.remove(&tag) {
            self.memory.release(buffer.buffer);
        }
    }

    /// Takes what the association wants, and what the target says.
    fn drain(&mut self) {
        while let Some(output) = self.association.poll_output() {
            match output {
                AssociationOutput::Connect { connection, .. } => self.opening.push(connection),
                AssociationOutput::Send { connection, segment } => self.send(connection, segment),
                AssociationOutput::Close { connection, .. } => {
                    self.opening.retain(|opening| *opening != connection);
                    if let Some(link) = self.links.remove(&connection) {
                        self.world.close(link.at_target);
                    }
                }
                AssociationOutput::Event(event) => self.told(event),
            }
        }
        self.hear_target();
    }

    fn told(&mut self, event: AssociationEvent) {
        match event {
            AssociationEvent::Completed { tag, .. } | AssociationEvent::ReservationStatus { tag, .. } => {
                let taken = self.taken.remove(&tag).expect("a request ends once");
                if let Some(buffer) = taken {
                    self.memory.release(buffer.buffer);
                }
            }
            AssociationEvent::Ready { .. }
            | AssociationEvent::Lost { .. }
            | AssociationEvent::NamespacesRead
            | AssociationEvent::DiscoveryLog { .. } => {}
        }
    }

    fn send(&mut self, connection: ConnectionId, segment: Segment) {
        let bytes = segment.into_bytes(&mut self.memory);
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        link.listen(&bytes);
        let at_target = link.at_target;
        self.world.receive(at_target, &bytes);
    }

    /// Cuts what the target has sent into PDUs.
    fn hear_target(&mut self) {
        for link in self.links.values_mut() {
            let Some(sent) = self.world.sent.get_mut(&link.at_target) else {
                continue;
            };
            while let Some(plen) = sent.get(4..8) {
                let plen = u32::from_le_bytes([plen[0], plen[1], plen[2], plen[3]]) as usize;
                if sent.len() < plen {
                    break;
                }
                link.to_host.push_back(sent.drain(..plen).collect());
            }
        }
        for closed in std::mem::take(&mut self.world.closed) {
            self.world.sent.remove(&closed);
            let named = self.links.iter().find(|(_, link)| link.at_target == closed);
            if let Some(connection) = named.map(|(connection, _)| *connection) {
                self.closed(connection, CloseReason::Peer);
            }
        }
    }

    fn closed(&mut self, connection: ConnectionId, reason: CloseReason) {
        self.links.remove(&connection);
        self.association
            .handle_closed(self.world.now, connection, reason, &mut self.memory);
        self.drain();
    }

    fn open_next(&mut self, succeeds: bool) {
        if self.opening.is_empty() {
            return;
        }
        let connection = self.opening.remove(0);
        if !succeeds {
            return self.closed(connection, CloseReason::Broken);
        }
        let limits = FrameLimits {
            capsule_data_bytes: 1 << 20,
            transfer_data_bytes: 1 << 20,
        };
        let link = Link {
            at_target: self.world.accept(),
            to_host: VecDeque::new(),
            heard: Some(FrameReader::new(End::Controller, limits)),
            agreed: false,
        };
        self.links.insert(connection, link);
        self.association
            .handle_connected(self.world.now, connection, &mut self.memory);
        self.drain();
    }

    /// Everything that is under way gets there, as it is.
    fn settle(&mut self) {
        for _ in 0..2000 {
            self.open_next(true);
            self.world.serve();
            self.drain();
            let next = self.links.iter().find(|(_, link)| !link.to_host.is_empty());
            match next.map(|(connection, _)| *connection) {
                Some(connection) => self.deliver(connection),
                None if self.opening.is_empty() && self.world.handed.is_empty() => return,
                None => {}
            }
        }
    }

    fn pick(&self, input: &mut Input<'_>) -> Option<ConnectionId> {
        let index = input.byte() as usize;
        let busy = self.links.iter().filter(|(_, link)| !link.to_host.is_empty());
        let busy: Vec<ConnectionId> = busy.map(|(connection, _)| *connection).collect();
        (!busy.is_empty()).then(|| busy[index % busy.len()])
    }

    fn deliver_next(&mut self, input: &mut Input<'_>) {
        if let Some(connection) = self.pick(input) {
            self.deliver(connection);
        }
    }

    fn deliver(&mut self, connection: ConnectionId) {
        let link = self.links.get_mut(&connection).expect("known");
        let pdu = link.to_host.pop_front().expect("one is on its way");
        link.watch(&pdu);
        let (now, mut rest) = (self.world.now, pdu.as_slice());
        while !rest.is_empty() {
            let place = self.association.landing(connection).filter(|_| self.lands);
            let taken = match place {
                Some(place) => {
                    let length = rest.len().min(place.length as usize);
                    let place = place.part(0, length as u32);
                    self.memory.bytes_mut(place).copy_from_slice(&rest[..length]);
                    self.association
                        .handle_landed(now, connection, length as u32, &mut self.memory);
                    length
                }
                None => {
                    // A header first: behind it a landing may be offered.
                    let length = rest.len().min(if rest.len() == pdu.len() { 40 } else { 9000 });
                    self.association
                        .handle_received(now, connection, &rest[..length], &mut self.memory);
                    length
                }
            };
            rest = &rest[taken..];
            self.drain();
        }
    }

    fn lie(&mut self, input: &mut Input<'_>) {
        let Some(link) = self
            .pick(input)
            .and_then(|connection| self.links.get_mut(&connection))
        else {
            return;
        };
        link.doubt();
        let front = &mut link.to_host[0];
        match input.below(8) {
            0..=3 => {
                let at = input.below(64) % front.len();
                front[at] ^= input.byte();
            }
            4 => drop(link.to_host.pop_front()),
            5 => {
                let twice = front.clone();
                link.to_host.push_front(twice);
            }
            6 => link.to_host.rotate_left(1),
            _ => front.truncate(1 + input.below(100)),
        }
    }

    /// A PDU that no target has sent.
    fn make_up(&mut self, input: &mut Input<'_>) {
        let index = input.byte() as usize;
        let Some(link) = self.links.values_mut().nth(index % 4) else {
            return;
        };
        link.doubt();
        let kind = KINDS[input.below(KINDS.len())];
        let mut specific = vec![0; kind.header_bytes() - 8];
        for (byte, given) in specific.iter_mut().zip(input.bytes(16)) {
            *byte = *given;
        }
        let length = usize::from(input.byte()) / 4 * 4;
        let data = input.bytes(length).to_vec();
        let carries = matches!(kind, PduType::C2hData | PduType::C2hTermReq);
        let length = if carries { data.len() as u32 } else { 0 };
        let flags = input.byte() & 0xc;
        let mut pdu = FrameWriter::default()
            .before_data(kind, flags, &specific, length)
            .to_vec();
        pdu.extend(&data[..length as usize]);
        link.to_host.push_front(pdu);
    }

    fn break_link(&mut self, input: &mut Input<'_>) {
        let index = input.byte() as usize;
        if let Some(connection) = self.links.keys().nth(index % 4).copied() {
            let at_target = self.links[&connection].at_target;
            self.world.close(at_target);
            self.closed(connection, CloseReason::Broken);
        }
    }

    fn tick(&mut self) {
        let Some(due) = self.association.next_timeout() else {
            return;
        };
        self.world.now = self.world.now.max(due);
        self.association.handle_timeout(self.world.now, &mut self.memory);
        self.world.pass(0);
        self.drain();
    }

    fn configure(&mut self, input: &mut Input<'_>) {
        const STATES: [AnaState; 3] = [AnaState::Optimized, AnaState::Inaccessible, AnaState::Change];
        let nsid = 1 + input.below(3) as u32;
        match input.below(3) {
            0 => self.world.set_ana(STATES[input.below(STATES.len())]),
            1 => self
                .world
                .put_namespace(nsid, BLOCKS + u64::from(input.byte()), 2),
            _ => self.world.remove_namespace(nsid),
        }
        self.drain();
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        let (kind, nsid) = (input.below(10), 1 + input.below(3) as u32);
        let range = BlockRange::new(input.below(80) as u64, 1 + input.below(40) as u64);
        let bytes = range.length.0 as u32 * BLOCK_SIZE;
        let buffer = (kind < 6).then(|| self.memory.filled(bytes, input.byte()));
        let command = match (kind, buffer) {
            (0..=1, Some(buffer)) => Command::Block(Request {
                operation: Operation::Read { buffer },
                range,
            }),
            (2..=4, Some(buffer)) => Command::Block(Request {
                operation: Operation::Write {
                    buffer,
                    durable: kind == 2,
                },
                range,
            }),
            (_, Some(buffer)) => Command::Compare { range, buffer },
            (6, None) => Command::Block(Request {
                operation: Operation::Flush,
                range: BlockRange::new(0, 0),
            }),
            (7, None) => Command::Block(Request {
                operation: Operation::WriteZeroes {
                    deallocate: true,
                    durable: false,
                },
                range,
            }),
            _ => Command::Reservation(reservation(input)),
        };
        self.last_tag += 1;
        let tag = Tag(self.last_tag);
        self.taken.insert(tag, buffer);
        let now = self.world.now;
        if self
            .association
            .submit(now, nsid, tag, command, &mut self.memory)
            .is_err()
        {
            self.forget(tag);
        }
    }

    /// Told to disconnect; what was taken has ended then.
    fn end(mut self) {
        self.association.disconnect(self.world.now, &mut self.memory);
        self.drain();
        self.settle();
        for _ in 0..20 {
            self.tick();
        }
        assert!(self.taken.is_empty(), "never ended: {:?}", self.taken);
        assert_eq!(self.memory.held(), 0, "buffers are held by nobody");
    }
}

fn reservation(input: &mut Input<'_>) -> Reservation {
    match input.below(4) {
        0 => Reservation::Register {
            action: RegisterAction::Register,
            current_key: 0,
            new_key: u64::from(input.byte()),
            ignore_existing: input.flag(),
            persist: PersistThroughPowerLoss::NoChange,
        },
        1 => Reservation::Acquire {
            action: AcquireAction::Acquire,
            kind: ReservationType::WriteExclusive,
            current_key: u64::from(input.byte()),
            preempt_key: u64::from(input.byte()),
        },
        2 => Reservation::Release {
            release: None,
            current_key: u64::from(input.byte()),
        },
        _ => Reservation::Report,
    }
}

impl Link {
    /// It was lied to.
    fn doubt(&mut self) {
        if !self.agreed {
            self.heard = None;
        }
    }

    /// What the host sends holds together.
    fn listen(&mut self, bytes: &[u8]) {
        let Some(heard) = &mut self.heard else { return };
        let mut rest = bytes;
        while let Some(part) = heard.read(&mut rest).expect("the host speaks well") {
            if let Part::End { intact } = part {
                assert!(intact, "the host's data digest");
            }
        }
    }

    /// The host may be told of digests; from then on they are on what it sends.
    fn watch(&mut self, pdu: &[u8]) {
        if !self.agreed && pdu.first() == Some(&(PduType::IcResp as u8)) && pdu.len() == 128 {
            self.agreed = true;
            let digests = Digests {
                header: pdu[11] & 1 != 0,
                data: pdu[11] & 2 != 0,
            };
            self.heard
                .iter_mut()
                .for_each(|heard| heard.agree_digests(digests));
        }
    }
}
