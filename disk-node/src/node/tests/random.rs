//! Histories from seeds: legs come and go, hosts write, read and fence, requests end in any order, the power fails at any
//! moment. What was acknowledged stays; what was fenced stays out; nobody reads old data.

use super::world::*;
use block::Duration;
use cluster::status::LegState;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};

const BLOCKS: [u64; 4] = [0, 1, 1023, 1024];

/// What a leg may hold: by block, the acknowledged byte, and those that were not answered.
#[derive(Default)]
struct Leg {
    extents: u64,
    disk: u128,
    acknowledged: BTreeMap<u64, u8>,
    unanswered: BTreeMap<u64, BTreeSet<u8>>,
    /// The highest key whose fence was acknowledged, and by which host.
    fenced: Option<(u64, usize)>,
    tried_key: u64,
}

struct Story {
    world: World,
    legs: BTreeMap<u128, Leg>,
    last_leg: u128,
    fill: u8,
}

impl Story {
    fn begin(seed: u64) -> Story {
        let disks = vec![formatted(1, 6, None), formatted(2, 6, None)];
        let mut story = Story {
            world: World::seeded(disks, seed),
            legs: BTreeMap::new(),
            last_leg: 0,
            fill: 0,
        };
        story.world.settle();
        for disk in [1, 2] {
            for host in [1, 2] {
                story.world.host(host, disk);
            }
        }
        story
    }

    fn configure(&mut self) {
        let legs = self
            .legs
            .iter()
            .map(|(number, entry)| leg(*number, entry.disk, entry.extents, &[1, 2]));
        let legs = legs.collect();
        self.world.apply(legs);
    }

    fn pick(&mut self) -> Option<u128> {
        let numbers: Vec<u128> = self.legs.keys().copied().collect();
        let ready: Vec<u128> = numbers.into_iter().filter(|number| self.ready(*number)).collect();
        (!ready.is_empty()).then(|| ready[self.world.rng.random_range(0..ready.len())])
    }

    fn ready(&self, number: u128) -> bool {
        let state = self
            .world
            .status()
            .legs
            .iter()
            .find(|leg| leg.leg == leg_id(number));
        state.is_some_and(|leg| leg.state == LegState::Ready)
    }

    fn add(&mut self) {
        self.last_leg += 1;
        let entry = Leg {
            extents: self.world.rng.random_range(1..4),
            disk: self.world.rng.random_range(1..3),
            ..Leg::default()
        };
        self.legs.insert(self.last_leg, entry);
        self.configure();
    }

    fn remove(&mut self) {
        if let Some(number) = self.pick() {
            self.legs.remove(&number);
            self.configure();
        }
    }

    fn run(&mut self, most: u32) {
        let steps = self.world.rng.random_range(0..most);
        (0..steps).any(|_| !self.world.step());
    }

    /// A host's association with a leg's disk.
    fn way(&self, number: u128, host: usize) -> usize {
        (self.legs[&number].disk as usize - 1) * 2 + host
    }

    fn may(&self, number: u128, host: usize) -> bool {
        self.legs[&number].fenced.is_none_or(|(_, owner)| owner == host)
    }

    fn write(&mut self) {
        let Some(number) = self.pick() else { return };
        let (host, block) = (
            self.world.rng.random_range(0..2),
            BLOCKS[self.world.rng.random_range(0..4)],
        );
        if block >= self.legs[&number].extents * 1024 {
            return;
        }
        self.fill = self.fill % 250 + 1;
        let fill = self.fill;
        let allowed = self.may(number, host);
        let way = self.way(number, host);
        let Some(tag) = self
            .world
            .submit(way, number as u32, |memory| write(memory, block, 1, fill))
        else {
            return;
        };
        self.run(200);
        let answer = self.world.hosts[way].answers.remove(&tag);
        let leg = self.legs.get_mut(&number).expect("picked");
        match answer {
            Some(Ok(_)) => {
                assert!(allowed, "leg {number}: host {host} is fenced, and wrote");
                leg.acknowledged.insert(block, fill);
                leg.unanswered.remove(&block);
            }
            Some(Err(_)) if !allowed => {}
            Some(Err(_)) | None => drop(leg.unanswered.entry(block).or_default().insert(fill)),
        }
        if answer_is_open(&self.world, way) {
            // What is still on its way may land whenever: end it here, so that the oracle knows what came before what.
            self.crash();
        }
    }

    fn read(&mut self) {
        let Some(number) = self.pick() else { return };
        let (host, block) = (
            self.world.rng.random_range(0..2),
            BLOCKS[self.world.rng.random_range(0..4)],
        );
        let way = self.way(number, host);
        if block >= self.legs[&number].extents * 1024 || !self.world.hosts[way].association.is_ready() {
            return;
        }
        let allowed = self.may(number, host);
        let answer = self.world.read(way, number as u32, block, 1);
        let leg = self.legs.get_mut(&number).expect("picked");
        let Ok(bytes) = answer else { return };
        assert!(allowed, "leg {number}: host {host} is fenced, and read");
        assert!(
            bytes.iter().all(|byte| *byte == bytes[0]),
            "a block is of one piece"
        );
        let acknowledged = leg.acknowledged.get(&block).copied().unwrap_or(0);
        let maybe = leg.unanswered.remove(&block).unwrap_or_default();
        assert!(
            bytes[0] == acknowledged || maybe.contains(&bytes[0]),
            "leg {number} block {block}: {:#x}",
            bytes[0]
        );
        leg.acknowledged.insert(block, bytes[0]);
    }

    fn fence(&mut self) {
        let Some(number) = self.pick() else { return };
        let host = self.world.rng.random_range(0..2);
        let way = self.way(number, host);
        if !self.world.hosts[way].association.is_ready() {
            return;
        }
        let leg = self.legs.get_mut(&number).expect("picked");
        let lower = self.world.rng.random_bool(0.2) && leg.tried_key > 1;
        let key = if lower {
            leg.tried_key - 1
        } else {
            leg.tried_key + 1
        };
        leg.tried_key = leg.tried_key.max(key);
        let fenced = leg.fenced;
        let Some(tag) = self.world.submit(way, number as u32, |_| register(key)) else {
            return;
        };
        self.world.settle();
        let registered = matches!(self.world.hosts[way].answers.remove(&tag), Some(Ok(_)));
        let Some(tag) = self.world.submit(way, number as u32, |_| acquire(key)) else {
            return;
        };
        self.run(200);
        let answer = self.world.hosts[way].answers.remove(&tag);
        let leg = self.legs.get_mut(&number).expect("picked");
        if let Some(Ok(_)) = answer {
            assert!(
                registered && fenced.is_none_or(|(highest, _)| key >= highest),
                "leg {number}: key {key} after {fenced:?}"
            );
            leg.fenced = Some((key, host));
        } else {
            // Whether it counts is not known: from here on nobody is sure to be out, but the highest key does not fall.
            leg.fenced = None;
            self.world.settle();
        }
    }

    fn crash(&mut self) {
        self.world.crash();
        self.configure();
        if self.world.rng.random_bool(0.5) {
            self.run(60);
            self.world.crash();
            self.configure();
        }
        self.world.pass(Duration::from_secs(10));
        for host in &mut self.world.hosts {
            host.answers.clear();
        }
    }

    fn check(&self) {
        for number in self.legs.keys() {
            let state = self.world.leg_state(*number);
            let no_space = matches!(&state, LegState::Failed { reason } if reason.contains("no space"));
            assert!(state == LegState::Ready || no_space, "leg {number}: {state:?}");
        }
        let mut used: BTreeMap<u128, u64> = BTreeMap::new();
        for (number, leg) in self.legs.iter().filter(|(number, _)| self.ready(**number)) {
            assert!(*number > 0);
            *used.entry(leg.disk).or_default() += leg.extents;
        }
        for (index, disk) in self.world.status().disks.iter().enumerate() {
            assert_eq!(disk.fault, None);
            let expected = 6 - used.get(&(index as u128 + 1)).copied().unwrap_or(0);
            assert_eq!(
                disk.extents_free, expected,
                "disk {index}: neither lost nor given twice"
            );
        }
    }
}

fn answer_is_open(world: &World, way: usize) -> bool {
    world.hosts[way].association.in_flight() > 0
}

fn tell(seed: u64) {
    let mut story = Story::begin(seed);
    story.configure();
    story.world.pass(Duration::from_secs(10));
    for _ in 0..60 {
        match story.world.rng.random_range(0..20) {
            0..3 => story.add(),
            3 => story.remove(),
            4..10 => story.write(),
            10..15 => story.read(),
            15..17 => story.fence(),
            17 => story.crash(),
            _ => story.run(100),
        }
    }
    story.crash();
    story.world.settle();
    story.check();
    assert_eq!(story.world.memory.held(), 0, "seed {seed}");
}

#[test]
fn histories_from_seeds() {
    for seed in 0..40 {
        tell(seed);
    }
}
