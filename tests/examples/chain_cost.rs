//! What one host request costs a controller node: the production machines of a host, a controller node and two disk nodes, joined by
//! pipes without delay in one thread, kept busy with 4 KiB requests to a thin volume over a mirror of two legs.
//!
//! ```text
//! CARGO_PROFILE_RELEASE_LTO=off cargo build --release -p tests --example chain_cost
//! valgrind --tool=callgrind --toggle-collect='chain_cost::counted*' target/release/examples/chain_cost read 2000
//! ```
//!
//! Every connection brings what was said on it in one piece, once a round: as a reactor that finds its sockets full does. Counted is
//! the time of all of them; whose it is, the functions' names tell (`controller_node::`, `block::`, `fabric::target::`, …).
//!
//! Arguments: `read` or `write`, or `idle` with seconds; how many requests, or seconds; how many in flight (32); volumes (1).

use block::{BlockRange, Duration, Memory, Time, Tuning};
use cluster::{ControllerNodeId, DiskId, DiskNodeId, Incarnation, LegId, Nqn};
use controller_node::node::{Control, ControllerNode, Report};
use disk_node::format::{self, Superblock};
use disk_node::node::{GivenDisk, Node as DiskNode, NodeControl, NodeOptions};
use fabric::driver::{
    CloseReason, ConnectionId, DiskOperation, DiskRequestId, Event, ListenerId, Output, Segment,
};
use fabric::host::{
    AssociationConfig, HostControl, HostNode, HostOperation, HostReport, MultipathConfig, VolumeId,
};
use fabric::target::TargetConfig;
use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tests::keeper::{Keeper, KeptController, KeptLeg};
use tests::world::{Actor, WorldMemory};
use uuid::Uuid;

const EXTENT_BYTES: u64 = 4 << 20;
const DISK_BYTES: u64 = 384 << 20;
const LEG_EXTENTS: u64 = 80;
const VOLUME_BLOCKS: u64 = 256 << 8;

/// A node: its machine, its buffers, its disk.
struct Seat {
    address: SocketAddr,
    machine: Box<dyn Actor>,
    memory: WorldMemory,
    disk: Vec<u8>,
    ends: BTreeMap<ConnectionId, End>,
    disk_ends: Vec<DiskRequestId>,
    next_accepted: u64,
}

struct End {
    peer: usize,
    there: ConnectionId,
    /// Said, and not yet brought to the peer.
    said: Vec<u8>,
}

struct Chain {
    seats: Vec<Seat>,
    keeper: Keeper,
    now: Time,
    reports: Vec<(usize, Box<dyn Any>)>,
    ready: bool,
    completed: u64,
    events: u64,
}

const HOST: usize = 0;
const CONTROLLER: usize = 1;

impl Chain {
    fn new(volumes: u32) -> Chain {
        let (mut seats, mut legs) = (Vec::new(), Vec::new());
        let controller_address = SocketAddr::from(([10, 0, 1, 1], 4420));
        let node = ControllerNodeId(Uuid::from_u128(0x600));
        let incarnation = Incarnation(Uuid::from_u128(9 << 64));
        let disks: Vec<(Seat, KeptLeg)> = (0..2).map(disk_node).collect();
        let host_nqn = Nqn::of_uuid(Uuid::from_u128(0x700));
        legs.extend(disks.iter().map(|(_, leg)| leg.clone()));
        let kept = KeptController {
            node,
            address: controller_address,
            incarnation,
        };
        let mut keeper = Keeper::new(legs, vec![kept], host_nqn, EXTENT_BYTES);
        for volume in 0..volumes {
            let blocks = if volume == 0 { VOLUME_BLOCKS } else { 1024 };
            keeper.add_volume(volume_id(volume), blocks);
        }
        let nqn = keeper.subsystem_nqn().0;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let association = AssociationConfig::new(&keeper.host_nqn.0, [7; 16], &nqn, nowhere);
        let host = HostNode::new(MultipathConfig::new(association));
        seats.push(seat(SocketAddr::from(([10, 0, 2, 1], 1)), Box::new(host)));
        let target = TargetConfig::default();
        let machine = ControllerNode::new(node, node.host_nqn().0, incarnation, Tuning::default(), target);
        seats.push(seat(controller_address, Box::new(machine)));
        seats.extend(disks.into_iter().map(|(seat, _)| seat));
        let (now, reports) = (Time::from_millis(1), Vec::new());
        let mut chain = Chain {
            seats,
            keeper,
            now,
            reports,
            ready: false,
            completed: 0,
            events: 0,
        };
        chain.configure();
        chain
    }

    fn configure(&mut self) {
        for index in 0..2 {
            let node = self.keeper.legs[index].node;
            let config = self.keeper.disk_node_config(node);
            self.tell(2 + index, Event::Control(Box::new(NodeControl::Apply(config))));
        }
        self.keeper.grant(0);
        self.push();
        let addresses = vec![self.seats[CONTROLLER].address];
        let connect = HostControl::Connect { addresses };
        self.tell(HOST, Event::Control(Box::new(connect)));
    }

    fn push(&mut self) {
        let config = self.keeper.controller_node_config(0);
        let control = Control::Apply(Box::new(config));
        self.tell(CONTROLLER, Event::Control(Box::new(control)));
    }

    fn tell(&mut self, seat: usize, event: Event<'_, Box<dyn Any>>) {
        self.events += 1;
        let now = self.now;
        let this = &mut self.seats[seat];
        this.machine.handle(now, event, &mut this.memory);
        self.drain(seat);
    }

    fn drain(&mut self, seat: usize) {
        while let Some(output) = self.seats[seat].machine.poll_output() {
            match output {
                Output::Connect { connection, address } => self.connect(seat, connection, address),
                Output::Send { connection, segment } => self.say(seat, connection, segment),
                Output::Close { connection, .. } => {
                    if let Some(end) = self.seats[seat].ends.remove(&connection)
                        && self.seats[end.peer].ends.remove(&end.there).is_some()
                    {
                        let (connection, reason) = (end.there, CloseReason::Peer);
                        self.tell(end.peer, Event::Closed { connection, reason });
                    }
                }
                Output::Disk {
                    request, operation, ..
                } => self.ask_disk(seat, request, operation),
                Output::HandOver { .. } => unreachable!("every node has one machine"),
                Output::Report(report) => self.reports.push((seat, report)),
            }
        }
    }

    fn connect(&mut self, seat: usize, connection: ConnectionId, address: SocketAddr) {
        let peer = self.seats.iter().position(|other| other.address == address);
        let peer = peer.expect("somebody listens there");
        let there = ConnectionId(ConnectionId::ACCEPTED | self.seats[peer].next_accepted);
        self.seats[peer].next_accepted += 1;
        let end = |peer, there| End {
            peer,
            there,
            said: Vec::new(),
        };
        self.seats[seat].ends.insert(connection, end(peer, there));
        self.seats[peer].ends.insert(there, end(seat, connection));
        let listener = ListenerId(0);
        self.tell(
            peer,
            Event::Accepted {
                connection: there,
                listener,
            },
        );
        self.tell(seat, Event::Connected { connection });
    }

    fn say(&mut self, seat: usize, connection: ConnectionId, segment: Segment) {
        let this = &mut self.seats[seat];
        let end = this.ends.get_mut(&connection);
        match segment {
            Segment::Bytes(bytes) => {
                if let Some(end) = end {
                    end.said.extend_from_slice(&bytes);
                }
            }
            Segment::Payload(slice) => {
                if let Some(end) = end {
                    end.said.extend_from_slice(this.memory.bytes(slice));
                }
                this.memory.release(slice.buffer);
            }
        }
    }

    fn ask_disk(&mut self, seat: usize, request: DiskRequestId, operation: DiskOperation) {
        let Seat { disk, memory, .. } = &mut self.seats[seat];
        match operation {
            DiskOperation::Read { offset_bytes, buffer } => {
                let start = offset_bytes as usize;
                memory
                    .bytes_mut(buffer)
                    .copy_from_slice(&disk[start..start + buffer.length as usize]);
            }
            DiskOperation::Write {
                offset_bytes, buffer, ..
            } => {
                let start = offset_bytes as usize;
                disk[start..start + buffer.length as usize].copy_from_slice(memory.bytes(buffer));
            }
            DiskOperation::WriteZeroes {
                offset_bytes,
                length_bytes,
                ..
            } => disk[offset_bytes as usize..(offset_bytes + length_bytes) as usize].fill(0),
            DiskOperation::Flush | DiskOperation::Discard { .. } => {}
        }
        self.seats[seat].disk_ends.push(request);
    }

    /// Brings everything that was said, once. Whether there was anything.
    fn round(&mut self) -> bool {
        let mut any = false;
        for seat in 0..self.seats.len() {
            for request in std::mem::take(&mut self.seats[seat].disk_ends) {
                any = true;
                let result = Ok(());
                self.tell(seat, Event::DiskCompleted { request, result });
            }
            let said: Vec<(usize, ConnectionId, Vec<u8>)> = self.seats[seat]
                .ends
                .values_mut()
                .filter(|end| !end.said.is_empty())
                .map(|end| (end.peer, end.there, std::mem::take(&mut end.said)))
                .collect();
            for (peer, connection, bytes) in said {
                any = true;
                let bytes = &bytes[..];
                self.tell(peer, Event::Received { connection, bytes });
            }
        }
        self.hear();
        any
    }

    fn hear(&mut self) {
        for (seat, report) in std::mem::take(&mut self.reports) {
            let report = match report.downcast::<HostReport>() {
                Ok(report) => {
                    self.hear_host(*report);
                    continue;
                }
                Err(report) => report,
            };
            match report.downcast::<Report>().map(|report| *report) {
                Ok(Report::Membership(request)) => {
                    let answer = Control::Membership(self.keeper.record(&request));
                    self.tell(seat, Event::Control(Box::new(answer)));
                }
                Ok(Report::Status(status)) if self.keeper.note_created(&status) => self.push(),
                _ => {}
            }
        }
    }

    fn hear_host(&mut self, report: HostReport) {
        match report {
            HostReport::Completed { result, .. } => {
                result.expect("every request succeeds");
                self.completed += 1;
            }
            HostReport::Volumes(volumes) => {
                let all = self.keeper.volumes.len();
                self.ready = volumes.len() == all;
            }
            _ => {}
        }
    }

    /// Lets time pass until every volume is seen by the host.
    fn settle(&mut self) {
        while !self.ready {
            while self.round() {}
            self.pass(Duration::from_millis(20));
            self.tell(HOST, Event::Control(Box::new(HostControl::Volumes)));
            self.hear();
        }
    }

    /// Time passes, and whatever is due happens.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let due = |seat: &Seat| seat.machine.next_timeout();
            let Some(due) = self.seats.iter().filter_map(due).min().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            for seat in 0..self.seats.len() {
                let due = self.seats[seat].machine.next_timeout();
                if due.is_some_and(|due| due <= self.now) {
                    self.tell(seat, Event::Timeout);
                }
            }
            while self.round() {}
        }
        self.now = end;
    }

    fn submit(&mut self, id: u64, operation: HostOperation) {
        let volume = VolumeId(*volume_id(0).0.as_bytes());
        let submit = HostControl::Submit {
            id,
            volume,
            operation,
        };
        self.tell(HOST, Event::Control(Box::new(submit)));
    }
}

fn volume_id(index: u32) -> cluster::VolumeId {
    cluster::VolumeId(Uuid::new_v5(&Uuid::from_u128(0x500), &index.to_le_bytes()))
}

fn seat(address: SocketAddr, machine: Box<dyn Actor>) -> Seat {
    Seat {
        address,
        machine,
        memory: WorldMemory::default(),
        disk: Vec::new(),
        ends: BTreeMap::new(),
        disk_ends: Vec::new(),
        next_accepted: 0,
    }
}

/// A disk node with one formatted disk and a leg on it.
fn disk_node(index: u8) -> (Seat, KeptLeg) {
    let node = DiskNodeId(Uuid::from_u128(0x800 + u128::from(index)));
    let disk = DiskId(Uuid::from_u128(0x900 + u128::from(index)));
    let superblock =
        Superblock::fresh(disk, None, DISK_BYTES, EXTENT_BYTES).expect("the disk is large enough");
    let address = SocketAddr::from(([10, 0, 0, index + 1], 4420));
    let given = GivenDisk {
        path: "disk".to_owned(),
        volatile: false,
        size_bytes: DISK_BYTES,
        born: None,
        fault: None,
    };
    let machine = DiskNode::new(NodeOptions {
        node,
        incarnation: Incarnation(Uuid::from_u128((10 + u128::from(index)) << 64)),
        reactor: None,
        disks: vec![given],
        target: TargetConfig::default(),
    });
    let mut seat = seat(address, Box::new(machine));
    seat.disk = vec![0; DISK_BYTES as usize];
    for (offset, block) in format::formatting(&superblock) {
        seat.disk[offset as usize..offset as usize + block.len()].copy_from_slice(&block);
    }
    let leg = KeptLeg {
        leg: LegId(Uuid::from_u128(0xA00 + u128::from(index))),
        node,
        address,
        disk,
        extents: LEG_EXTENTS,
        length_blocks: LEG_EXTENTS * EXTENT_BYTES / 4096,
    };
    (seat, leg)
}

fn operation(write: bool, block: u64) -> HostOperation {
    if write {
        let (start, bytes) = (block, vec![1; 4096]);
        let durable = false;
        HostOperation::Write {
            start,
            bytes,
            durable,
        }
    } else {
        let range = BlockRange::new(block, 1);
        HostOperation::Read { range }
    }
}

fn keep_busy(chain: &mut Chain, write: bool, requests: u64, in_flight: u64) {
    let (mut begun, before) = (0, chain.completed);
    while chain.completed - before < requests {
        while begun < requests && begun - (chain.completed - before) < in_flight {
            chain.submit(begun, operation(write, begun * 7919 % VOLUME_BLOCKS));
            begun += 1;
        }
        chain.round();
    }
}

/// What instructions are counted of.
#[inline(never)]
fn counted(chain: &mut Chain, what: &str, amount: u64, in_flight: u64) {
    match what {
        "idle" => chain.pass(Duration::from_secs(amount)),
        _ => keep_busy(chain, what == "write", amount, in_flight),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let what = arguments.first().map_or("read", String::as_str);
    let number = |place: usize, otherwise: u64| {
        arguments
            .get(place)
            .map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let (amount, in_flight, volumes) = (number(1, 2000), number(2, 32), number(3, 1));
    let mut chain = Chain::new(volumes as u32);
    chain.settle();
    // Every extent is mapped, every region marked.
    for block in (0..VOLUME_BLOCKS).step_by(256) {
        chain.submit(block, operation(true, block));
        while chain.round() {}
    }
    keep_busy(&mut chain, what == "write", 500, in_flight);
    if what == "idle" {
        chain.pass(Duration::from_secs(700));
    }
    let events = chain.events;
    counted(&mut chain, what, amount, in_flight);
    println!("{amount} of {what}: {} events of machines", chain.events - events);
}
