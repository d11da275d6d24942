//! Random histories: the cuts of the byte stream make no difference, garbage never panics, nothing is lost or leaked, and
//! every read returns what was written last.

use super::harness::*;
use super::read_write::{read, write};
use crate::tcp::framing::Digests;
use nvme::{IoCommand, Status};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Blocks of the namespace that the histories use.
const SPAN: u64 = 24;

#[derive(Clone, Debug)]
enum Act {
    /// By host, from block, so many, seed of the data; in the capsule if it fits and `inline`.
    Write {
        host: usize,
        slba: u64,
        count: u32,
        seed: u8,
        inline: bool,
    },
    Read {
        host: usize,
        slba: u64,
        count: u32,
    },
    Flush {
        host: usize,
    },
    /// The backend answers one of those handed out.
    Complete {
        which: prop::sample::Index,
    },
    /// The hosts' connections break; they come back.
    Break {
        host: usize,
    },
    /// So many buffers from now on.
    Memory {
        limit: usize,
    },
}

fn any_act() -> impl Strategy<Value = Act> {
    let host = 0..2usize;
    prop_oneof![
        4 => (host.clone(), 0..SPAN, 1..4u32, any::<u8>(), any::<bool>())
            .prop_map(|(host, slba, count, seed, inline)| Act::Write { host, slba, count, seed, inline }),
        4 => (host.clone(), 0..SPAN, 1..4u32).prop_map(|(host, slba, count)| Act::Read { host, slba, count }),
        1 => host.clone().prop_map(|host| Act::Flush { host }),
        6 => any::<prop::sample::Index>().prop_map(|which| Act::Complete { which }),
        1 => host.prop_map(|host| Act::Break { host }),
        1 => (1..6usize).prop_map(|limit| Act::Memory { limit }),
    ]
}

/// What a read that begins now may find in a block. Rule R8 is what makes this narrow: a write that was acknowledged is
/// behind every write whose connection was gone before it began.
#[derive(Clone, Debug, Default)]
struct Oracle {
    possible: BTreeMap<u64, Vec<u8>>,
}

impl Oracle {
    fn may_be(&mut self, block: u64) -> &mut Vec<u8> {
        self.possible.entry(block).or_insert_with(|| vec![0])
    }
}

/// A history under way.
struct History {
    world: World,
    hosts: [Host; 2],
    oracle: Oracle,
    /// Reads and writes submitted and not ended: by host and command identifier.
    open: BTreeMap<(usize, u16), Open>,
    /// How long the pieces are, and whether their bytes are received where they belong.
    cuts: Vec<(usize, bool)>,
    cut: usize,
}

#[derive(Clone, Debug)]
enum Open {
    Write {
        seed: u8,
        /// Per block: what was written beside it.
        beside: BTreeMap<u64, Vec<u8>>,
    },
    Read {
        slba: u64,
        count: u32,
        allowed: BTreeMap<u64, Vec<u8>>,
    },
    Flush,
}

const NAMES: [(&str, crate::target::HostId); 2] = [(HOST_A, ID_A), (HOST_B, ID_B)];

impl History {
    fn new(digests: Digests, cuts: Vec<(usize, bool)>) -> History {
        let mut world = World::new();
        let hosts = NAMES.map(|(name, id)| world.host_with(name, id, digests, true));
        History {
            world,
            hosts,
            oracle: Oracle::default(),
            open: BTreeMap::new(),
            cuts,
            cut: 0,
        }
    }

    /// Sends bytes cut into pieces.
    fn send(&mut self, host: usize, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.cut = (self.cut + 1) % self.cuts.len();
            let (length, land) = self.cuts[self.cut];
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            let connection = self.hosts[host].io;
            self.world.arrive(connection, piece, land);
            rest = behind;
        }
    }

    fn act(&mut self, act: &Act, digests: Digests) {
        match act {
            Act::Write {
                host,
                slba,
                count,
                seed,
                inline,
            } => self.write(*host, (*slba, *count), *seed, *inline),
            Act::Read { host, slba, count } => {
                let blocks = *slba..slba + u64::from(*count);
                let allowed = blocks
                    .map(|block| (block, self.oracle.may_be(block).clone()))
                    .collect();
                let opened = Open::Read {
                    slba: *slba,
                    count: *count,
                    allowed,
                };
                self.submit(*host, read(*slba, *count), &[], *count, opened);
            }
            Act::Flush { host } => self.submit(*host, IoCommand::Flush, &[], 0, Open::Flush),
            Act::Complete { which } => {
                if !self.world.handed.is_empty() {
                    let at = which.index(self.world.handed.len());
                    self.world.complete_one(at);
                }
            }
            Act::Break { host } => {
                self.world.reset(self.hosts[*host].admin);
                self.open.retain(|(of, _), _| of != host);
                let (name, id) = NAMES[*host];
                self.hosts[*host] = self.world.host_with(name, id, digests, true);
            }
            Act::Memory { limit } => {
                self.world.memory.limit = Some(*limit);
                self.world.advance(1);
            }
        }
        self.listen();
    }

    fn write(&mut self, host: usize, (slba, count): (u64, u32), seed: u8, inline: bool) {
        if self.is_busy(host) {
            return;
        }
        let data = vec![seed; count as usize * BLOCK];
        let in_capsule = inline && count <= 2;
        let mut beside: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for block in slba..slba + u64::from(count) {
            self.oracle.may_be(block).push(seed);
            let own = beside.entry(block).or_default();
            for open in self.open.values_mut() {
                match open {
                    Open::Read { allowed, .. } => {
                        allowed.entry(block).and_modify(|values| values.push(seed));
                    }
                    Open::Write { seed: other, beside } => {
                        beside.entry(block).and_modify(|values| {
                            values.push(seed);
                            own.push(*other);
                        });
                    }
                    Open::Flush => {}
                }
            }
        }
        let inline_data = if in_capsule { &data[..] } else { &[] };
        self.submit(
            host,
            write(slba, count),
            inline_data,
            count,
            Open::Write { seed, beside },
        );
    }

    fn is_busy(&self, host: usize) -> bool {
        self.open.keys().filter(|(of, _)| *of == host).count() >= 31
    }

    fn submit(&mut self, host: usize, command: IoCommand, data: &[u8], count: u32, opened: Open) {
        if self.is_busy(host) {
            return;
        }
        let length = count * BLOCK as u32;
        let entry = self.world.io_entry(self.hosts[host], 1, command, data, length);
        self.open.insert((host, entry.cid().0), opened);
        let capsule = self.world.capsule(self.hosts[host].io, &entry, data);
        self.send(host, &capsule);
    }

    /// What the target said: R2Ts are answered, ends are checked.
    fn listen(&mut self) {
        for host in 0..2 {
            let mut heard: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
            for reply in self.world.replies(self.hosts[host].io) {
                match reply {
                    Reply::R2t { cid, tag, length, .. } => self.answer(host, cid, tag, length),
                    Reply::Data {
                        cid, bytes, success, ..
                    } => {
                        heard.insert(cid, bytes);
                        if success {
                            self.end(host, cid, Status::SUCCESS, heard.get(&cid).cloned());
                        }
                    }
                    Reply::Completion(entry) => {
                        let cid = entry.cid().0;
                        self.end(host, cid, entry.status(), heard.get(&cid).cloned());
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn answer(&mut self, host: usize, cid: u16, tag: u16, length: u32) {
        let Some(Open::Write { seed, .. }) = self.open.get(&(host, cid)) else {
            panic!("no such write")
        };
        let data = vec![*seed; length as usize];
        let fields = [cid.into(), tag.into(), 0, length];
        let pdu = self.world.data_pdu(self.hosts[host].io, fields, true, &data);
        self.send(host, &pdu);
        self.listen();
    }

    fn end(&mut self, host: usize, cid: u16, status: Status, data: Option<Vec<u8>>) {
        let opened = self.open.remove(&(host, cid)).expect("every command ends once");
        assert!(status.is_success(), "{opened:?}: {status}");
        let (slba, count, allowed) = match opened {
            Open::Read { slba, count, allowed } => (slba, count, allowed),
            Open::Write { seed, beside } => {
                for (block, mut values) in beside {
                    values.push(seed);
                    *self.oracle.may_be(block) = values;
                }
                return;
            }
            Open::Flush => return,
        };
        let data = data.expect("a read has data");
        assert_eq!(data.len(), count as usize * BLOCK);
        for (block, bytes) in (slba..).zip(data.chunks(BLOCK)) {
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a torn block");
            assert!(
                allowed[&block].contains(&bytes[0]),
                "block {block} reads {}",
                bytes[0]
            );
        }
    }

    /// Everything ends: nothing is left open, nothing leaked, and the disk holds only what was written.
    fn finish(mut self) {
        self.world.memory.limit = None;
        for _ in 0..200 {
            self.world.advance(1);
            self.world.run_backend();
            self.listen();
        }
        assert!(self.open.is_empty(), "never ended: {:?}", self.open);
        assert_eq!(self.world.memory.in_use(), 0, "buffers leaked");
        for block in 0..SPAN {
            let value = self.world.disks[&1][block as usize * BLOCK];
            assert!(self.oracle.may_be(block).contains(&value));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn histories_end_well_however_the_stream_is_cut(
        acts in prop::collection::vec(any_act(), 1..60),
        cuts in prop::collection::vec((prop_oneof![1..200usize, 1..20_000usize], any::<bool>()), 1..12),
        header in any::<bool>(),
        data in any::<bool>(),
    ) {
        let digests = Digests { header, data };
        let mut history = History::new(digests, cuts);
        for act in &acts {
            history.act(act, digests);
        }
        history.finish();
    }

    #[test]
    fn garbage_never_panics_and_harms_nobody(
        garbage in prop::collection::vec(any::<u8>(), 1..600),
        kind in prop::sample::select(vec![0u8, 2, 4, 6]),
        flip in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut world = World::new();
        let neighbour = world.host(HOST_B, ID_B);
        // Bytes out of nowhere, bytes behind a proper beginning, and a proper capsule with one bit wrong.
        let raw = world.accept();
        world.receive(raw, &garbage);
        let begun = world.initialize(Digests::default());
        let mut typed = garbage.clone();
        typed[0] = kind;
        world.receive(begun, &typed);
        let host = world.host(HOST_A, ID_A);
        let payload = vec![3; BLOCK];
        let entry = world.io_entry(host, 1, write(30, 1), &payload, 0);
        let mut capsule = world.capsule(host.io, &entry, &payload);
        let at = flip.index(80);
        capsule[at] ^= 1 << bit;
        world.receive(host.io, &capsule);
        world.run_backend();
        let ended = world.io(neighbour, 1, read(0, 1), &[], BLOCK as u32);
        prop_assert!(ended.status.is_success());
    }
}
