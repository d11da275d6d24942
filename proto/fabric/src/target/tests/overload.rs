//! Far more commands than memory, for long: everything ends, nobody waits much longer than his turn, nothing grows, and nobody
//! is cut off.

use super::harness::*;
use super::read_write::{read, write};
use crate::target::{ANY_HOST, HostId, SubsystemConfig, TargetConfig};
use nvme::command::SetFeatures;
use nvme::feature::FeatureIdentifier;
use nvme::{AdminCommand, Cid, IoCommand, Status};
use std::collections::{BTreeMap, VecDeque};

/// Buffers of the world.
const BUFFERS: usize = 20;

/// A host with one connection, which keeps `depth` commands under way.
struct Client {
    host: Host,
    nsid: u32,
    depth: usize,
    /// Commands still to be begun.
    quota: usize,
    begun: usize,
    /// What the socket still has for the target.
    unsent: VecDeque<Vec<u8>>,
    /// Under way: how many answers there had been in all when the target got it.
    under_way: BTreeMap<Cid, u64>,
    longest_wait: u64,
}

struct Crowd {
    world: World,
    clients: Vec<Client>,
    answers: u64,
    /// The namespace whose backend answers nothing.
    hung: Option<u32>,
}

impl Crowd {
    fn new(config: TargetConfig) -> Crowd {
        let subsystem = SubsystemConfig {
            cntlid_last: 200,
            ..subsystem()
        };
        let mut world = World::of(config, subsystem, None);
        for nsid in 1..4 {
            world.put_namespace(nsid, namespace(nsid, &[ANY_HOST]), None);
        }
        Crowd {
            world,
            clients: Vec::new(),
            answers: 0,
            hung: None,
        }
    }

    fn add(&mut self, nsid: u32, depth: usize, quota: usize) {
        let id = HostId([self.clients.len() as u8 + 1; 16]);
        let host = self.world.host(HOST_A, id);
        self.clients.push(Client {
            host,
            nsid,
            depth,
            quota,
            begun: 0,
            unsent: VecDeque::new(),
            under_way: BTreeMap::new(),
            longest_wait: 0,
        });
    }

    /// Begins commands: reads, writes in the capsule, writes by R2T.
    fn begin(&mut self, at: usize) {
        let client = &mut self.clients[at];
        while client.under_way.len() < client.depth && client.quota > 0 {
            client.quota -= 1;
            client.begun += 1;
            let block = (at * 7 + client.begun) as u64 % (SIZE - 4);
            let (command, data, length): (IoCommand, usize, u32) = match (client.begun + at) % 3 {
                0 => (read(block, 1), 0, BLOCK as u32),
                1 => (write(block, 2), 2 * BLOCK, 0),
                _ => (write(block, 4), 0, 4 * BLOCK as u32),
            };
            let data = vec![at as u8; data];
            let entry = self
                .world
                .io_entry(client.host, client.nsid, command, &data, length);
            let capsule = self.world.capsule(client.host.io, &entry, &data);
            client.unsent.push_back(capsule);
            client.under_way.insert(entry.cid(), self.answers);
        }
    }

    /// A socket brings something, if the target wants it.
    fn bring(&mut self, at: usize) {
        for _ in 0..3 {
            let client = &mut self.clients[at];
            let io = client.host.io;
            if !self.world.target.wants_bytes(io) {
                return;
            }
            let Some(bytes) = client.unsent.pop_front() else {
                return;
            };
            self.world.receive(io, &bytes);
            let live = &self.world.target.connections[io];
            assert!(live.held_bytes <= 31 * 8192, "more than the queue's entries hold");
            if live.held_bytes > 9 * 8192 {
                // Read on for what buffers wait for, and no further.
                let wants = self.world.target.wants_bytes(io);
                assert_eq!(wants, live.solicited > 0, "{live:?}");
            }
        }
    }

    fn listen(&mut self, at: usize) {
        let io = self.clients[at].host.io;
        for reply in self.world.replies(io) {
            let client = &mut self.clients[at];
            let cid = match reply {
                Reply::R2t { cid, tag, length, .. } => {
                    let data = vec![at as u8; length as usize];
                    let fields = [cid.into(), tag.into(), 0, length];
                    let pdu = self.world.data_pdu(io, fields, true, &data);
                    client.unsent.push_back(pdu);
                    continue;
                }
                Reply::Data { success: false, .. } => continue,
                Reply::Data { cid, .. } => Cid(cid),
                Reply::Completion(entry) => {
                    assert!(entry.status().is_success(), "{:?}", entry.status());
                    entry.cid()
                }
                other => panic!("{other:?}"),
            };
            let began = client.under_way.remove(&cid).expect("each command ends once");
            self.answers += 1;
            client.longest_wait = client.longest_wait.max(self.answers - began);
        }
    }

    /// Everybody does something once.
    fn round(&mut self) {
        for at in 0..self.clients.len() {
            self.begin(at);
            self.bring(at);
            self.listen(at);
        }
        for _ in 0..BUFFERS {
            let mut handed = self.world.handed.iter();
            let Some(at) = handed.position(|handed| Some(handed.nsid) != self.hung) else {
                break;
            };
            self.world.complete_one(at);
        }
        if self.world.target.waits_for_memory() {
            // Buffers of reads that were sent came free behind the target's back: the driver says so.
            self.world.advance(0);
        }
        assert!(self.world.closed.is_empty(), "somebody was cut off");
    }

    fn is_done(&self, at: usize) -> bool {
        let client = &self.clients[at];
        client.quota == 0 && client.under_way.is_empty()
    }

    /// Goes on until these are done.
    fn finish(&mut self, clients: impl Fn(usize) -> bool) {
        let mut idle = 0;
        while !(0..self.clients.len()).all(|at| !clients(at) || self.is_done(at)) {
            let before = self.answers;
            self.round();
            idle = if self.answers == before { idle + 1 } else { 0 };
            assert!(idle < 200, "nothing moves any more");
        }
    }

    /// Nothing is left of it.
    fn assert_clean(&mut self) {
        self.world.advance(0);
        assert_eq!(self.world.memory.in_use(), 0);
        let target = &self.world.target;
        assert_eq!(target.lent_bytes, 0);
        assert!(target.lanes.values().all(|lane| lane.lent_bytes == 0));
        assert!(!target.waits_for_memory());
        for client in &self.clients {
            assert_eq!(target.connections[client.host.io].held_bytes, 0);
        }
    }
}

#[test]
fn a_hundred_times_more_commands_than_buffers_end_in_turn() {
    let mut crowd = Crowd::new(limits());
    for at in 0..64 {
        crowd.add(1 + at % 3, 31, 100);
    }
    // One that never has more than one command under way.
    crowd.add(1, 1, 60);
    crowd.world.memory.limit = Some(BUFFERS);
    crowd.finish(|_| true);
    let waits: Vec<u64> = crowd.clients.iter().map(|client| client.longest_wait).collect();
    let (modest, busy) = (waits[64], waits[..64].iter().max().expect("64 of them"));
    // A command of each other connection, and what had buffers before; by R2T it takes a few rounds.
    assert!(modest <= 64 + 3 * BUFFERS as u64, "{modest}");
    assert!(*busy <= 65 * 31 + 3 * BUFFERS as u64, "{busy}");
    crowd.assert_clean();
}

#[test]
fn the_targets_own_limit_is_shared_as_well() {
    let mut config = limits();
    config.mdts = 2;
    config.payload_bytes_max = 128 * 1024;
    let mut crowd = Crowd::new(config);
    for at in 0..64 {
        crowd.add(1 + at % 3, 31, 60);
    }
    crowd.add(1, 1, 40);
    while !crowd.is_done(64) {
        crowd.round();
        assert!(crowd.world.target.lent_bytes <= 128 * 1024);
    }
    // Of at least eight buffers at a time each round answers some: few rounds a command.
    assert!(
        crowd.clients[64].longest_wait <= 64 + 5 * 32,
        "{}",
        crowd.clients[64].longest_wait
    );
    crowd.finish(|_| true);
    crowd.assert_clean();
}

#[test]
fn a_namespace_that_answers_nothing_leaves_memory_to_the_others() {
    let mut config = limits();
    config.mdts = 2;
    config.payload_bytes_max = 512 * 1024;
    let mut crowd = Crowd::new(config);
    for at in 0..32 {
        crowd.add(if at < 16 { 2 } else { 1 + at % 2 * 2 }, 31, 60);
    }
    crowd.hung = Some(2);
    // The hung one's hosts come first and take what they get.
    for _ in 0..50 {
        for at in 0..16 {
            crowd.begin(at);
            crowd.bring(at);
            crowd.listen(at);
        }
    }
    let taken = crowd.world.target.lent_bytes;
    assert!((350_000..430_000).contains(&taken), "four fifths: {taken}");
    crowd.finish(|at| at >= 16);
    assert!((0..16).all(|at| !crowd.is_done(at)));
    crowd.hung = None;
    crowd.finish(|_| true);
    crowd.assert_clean();
}

#[test]
fn who_is_not_read_is_not_silent() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    let keep_alive = SetFeatures::new(FeatureIdentifier::KeepAliveTimer, 500);
    let ended = world.admin(host, AdminCommand::SetFeatures(keep_alive), 0);
    assert_eq!(ended.status, Status::SUCCESS);
    world.memory.limit = Some(0);
    for nth in 0..9 {
        assert!(world.target.wants_bytes(host.io), "after {nth}");
        let data = vec![nth; 2 * BLOCK];
        let entry = world.io_entry(host, 1, write(2 * u64::from(nth), 2), &data, 0);
        world.submit(host.io, entry, &data);
    }
    assert!(!world.target.wants_bytes(host.io), "nine capsules are held");
    assert!(world.target.wants_bytes(host.admin));
    for _ in 0..30 {
        world.advance(100);
        assert!(world.closed.is_empty());
    }
    world.memory.limit = None;
    world.advance(1);
    assert!(world.target.wants_bytes(host.io), "they have buffers now");
    world.run_backend();
    assert_eq!(world.replies(host.io).len(), 9);
    world.advance(499);
    assert!(world.closed.is_empty(), "heard when it was read again");
    world.advance(2);
    assert_eq!(world.closed.len(), 2, "and silent from then on");
}

#[test]
fn what_buffers_wait_for_is_read_on() {
    let mut world = World::new();
    let host = world.host(HOST_A, ID_A);
    world.memory.limit = Some(1);
    // A buffer is held for a write whose data is still to come, behind capsules that find none.
    let entry = world.io_entry(host, 1, write(0, 4), &[], 4 * BLOCK as u32);
    world.submit(host.io, entry, &[]);
    let Reply::R2t { cid, tag, .. } = world.reply(host.io) else {
        panic!("no R2T")
    };
    for nth in 0..12 {
        let data = vec![nth; 2 * BLOCK];
        let entry = world.io_entry(host, 1, write(8, 2), &data, 0);
        world.submit(host.io, entry, &data);
        assert!(
            world.target.wants_bytes(host.io),
            "or nobody ever got memory again"
        );
    }
    let data = vec![77; 4 * BLOCK];
    let fields = [cid.into(), tag.into(), 0, data.len() as u32];
    let pdu = world.data_pdu(host.io, fields, true, &data);
    world.arrive(host.io, &pdu[..pdu.len() - 1], true);
    assert!(
        world.target.wants_bytes(host.io),
        "its last byte is still to come"
    );
    world.receive(host.io, &pdu[pdu.len() - 1..]);
    assert!(!world.target.wants_bytes(host.io));
    world.run_backend();
    assert_eq!(world.replies(host.io).len(), 13);
    assert_eq!(world.memory.in_use(), 0);
}

#[test]
fn a_large_command_is_not_starved_by_small_ones() {
    let mut world = World::new();
    let (large, small) = (world.host(HOST_A, ID_A), world.host(HOST_B, ID_B));
    world.memory.limit = Some(1);
    let first = world.io_entry(small, 1, read(0, 1), &[], BLOCK as u32);
    world.submit(small.io, first, &[]);
    // Three reads of a MiB, and 30 of a block each behind the first.
    for (host, count) in [(large, 256); 3].into_iter().chain([(small, 1); 30]) {
        let entry = world.io_entry(host, 1, read(0, count), &[], count * BLOCK as u32);
        world.submit(host.io, entry, &[]);
    }
    let mut order = Vec::new();
    while let Some(handed) = world.handed.pop_front() {
        order.push(handed.request.range.length.0);
        world.complete(handed.io, block::Status::Success);
        world.advance(0);
    }
    assert_eq!(order.len(), 34);
    let large: Vec<usize> = (0..34).filter(|at| order[*at] == 256).collect();
    assert_eq!(large[0], 1, "the first in line");
    // A MiB is eight turns.
    assert!(
        large
            .windows(2)
            .all(|pair| (7..=9).contains(&(pair[1] - pair[0]))),
        "{large:?}"
    );
}
