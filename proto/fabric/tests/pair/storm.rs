//! Random weather: operations that overlap, on two paths, while connections break, stall and damage, nodes die and ownership
//! moves. At the end all is healed, and everything must have ended and be true.

use super::world::{BLOCKS, Random, SUBSYSTEM, Setting, World, stamped};
use block::{BlockRange, Operation};
use fabric::host::Command;
use fabric::target::AnaState;

/// Which troubles there are.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    cuts: bool,
    stalls: bool,
    crashes: bool,
    switches: bool,
    damage: bool,
    no_memory: bool,
    /// Few blocks and slow executions, on a fast network: what a lost connection left behind meets what came after.
    orphans: bool,
}

const OPERATIONS: u64 = 120;
const AT_ONCE: usize = 12;

fn storm(seed: u64, trouble: Trouble) {
    let mut random = Random::new(seed ^ 0xABCD);
    let mut setting = Setting::random(&mut random);
    if trouble.damage {
        setting.header_digest = true;
        setting.data_digest = true;
    }
    if trouble.orphans {
        setting.delay_us = 10;
        setting.mdts = 8;
    }
    let mut world = World::new(setting, seed);
    let blocks = if trouble.orphans { 6 } else { BLOCKS };
    if trouble.orphans {
        world.slow_one_in = 3;
    }
    world.connect_all();
    let mut value = 1;
    let mut begun = 0;
    while begun < OPERATIONS {
        while world.running.len() < AT_ONCE && begun < OPERATIONS {
            begin(&mut world, &mut random, value, blocks);
            value += 1;
            begun += 1;
        }
        let steps = random.below(60);
        for _ in 0..steps {
            let deadline = world.now + block::Duration::from_millis(50);
            world.step(deadline);
        }
        if random.one_in(3) {
            make_trouble(&mut world, &mut random, trouble);
        }
        if random.one_in(20) {
            world.run_for(random.below(400));
        }
    }
    heal(&mut world);
    assert!(
        world.finish_within(60_000),
        "{} operations never ended: {:?}\n{:#?}",
        world.running.len(),
        world.running,
        world.host.paths()
    );
    world.read(BlockRange::new(0, BLOCKS));
    assert!(world.finish_within(60_000), "the last read never ended");
    assert!(world.checks >= BLOCKS);
    assert!(
        world
            .failed
            .iter()
            .all(|status| status.is(nvme::Status::COMPARE_FAILURE)),
        "{:?}",
        world.failed
    );
    put_away(&mut world);
}

fn begin(world: &mut World, random: &mut Random, value: u64, blocks: u64) {
    let start = random.below(blocks);
    let longest = random.pick(&[1, 4, 40]);
    let length = (1 + random.below(longest)).min(blocks - start);
    let range = BlockRange::new(start, length);
    match random.below(20) {
        0..=7 => {
            let durable = random.one_in(4);
            world.write(range, value, durable);
        }
        8..=15 => {
            world.read(range);
        }
        16 => {
            let (deallocate, durable) = (random.one_in(2), random.one_in(2));
            world.submit(Operation::WriteZeroes { deallocate, durable }, range, 0);
        }
        17 => {
            world.submit(Operation::Deallocate, range, 0);
        }
        18 => {
            world.submit(Operation::Flush, BlockRange::default(), 0);
        }
        _ => {
            let guess = random.below(value);
            let buffer = world.memory.filled(&stamped(length, guess));
            world.submit_command(Command::Compare { range, buffer }, guess);
        }
    }
}

fn make_trouble(world: &mut World, random: &mut Random, trouble: Trouble) {
    let connections = world.connection_ids();
    let recent = &connections[connections.len().saturating_sub(8)..];
    match random.below(8) {
        0 | 1 if trouble.cuts || trouble.orphans && !recent.is_empty() => world.cut(random.pick(recent)),
        2 if trouble.stalls && !recent.is_empty() => world.stall(random.pick(recent)),
        3 if trouble.crashes => {
            let index = random.below(world.nodes.len() as u64) as usize;
            match world.nodes[index].up {
                true => world.crash(index),
                false => world.restart(index),
            }
        }
        4 if trouble.switches => world.switch_owner(1 - world.owner),
        5 if trouble.switches => {
            let owner = world.owner;
            let state = random.pick(&[AnaState::Change, AnaState::NonOptimized, AnaState::Optimized]);
            world.set_ana(owner, state);
        }
        6 if trouble.damage => {
            world.damage();
        }
        7 if trouble.no_memory => {
            let exhausted = random.one_in(2);
            world
                .nodes
                .iter_mut()
                .for_each(|node| node.memory.exhausted = exhausted);
        }
        _ => {}
    }
}

fn heal(world: &mut World) {
    for index in 0..world.nodes.len() {
        world.nodes[index].memory.exhausted = false;
        if !world.nodes[index].up {
            world.restart(index);
        }
    }
    let owner = world.owner;
    world.set_ana(owner, AnaState::Optimized);
}

/// Disconnects and looks that nobody has kept a buffer.
fn put_away(world: &mut World) {
    world.host.disconnect_all(world.now, &mut world.memory);
    world.run_for(10_000);
    assert_eq!(world.memory.held(), 0, "buffers kept by the host");
    assert!(world.host.paths().is_empty(), "{:?}", world.host.paths());
    for index in 0..world.nodes.len() {
        let node = &mut world.nodes[index];
        node.target
            .remove_subsystem(world.now, SUBSYSTEM, &mut node.memory);
        assert_eq!(node.memory.held(), 0, "buffers kept by target {index}");
    }
}

/// Runs seeds: the one of `PAIR_SEED`, or `PAIR_SEEDS` times as many as usual.
fn storms(first: u64, count: u64, trouble: Trouble) {
    let from_environment = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().expect("a number"))
    };
    let seeds = match from_environment("PAIR_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + count * from_environment("PAIR_SEEDS").unwrap_or(1),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| storm(seed, trouble));
        assert!(outcome.is_ok(), "seed {seed} failed: {trouble:?}");
    }
}

#[test]
fn random_fair_weather() {
    storms(0, 6, Trouble::default());
}

#[test]
fn random_cuts() {
    let trouble = Trouble {
        cuts: true,
        ..Trouble::default()
    };
    storms(10_000, 12, trouble);
}

#[test]
fn random_stalls_and_lack_of_memory() {
    let trouble = Trouble {
        stalls: true,
        no_memory: true,
        ..Trouble::default()
    };
    storms(20_000, 8, trouble);
}

#[test]
fn random_switches() {
    let trouble = Trouble {
        switches: true,
        ..Trouble::default()
    };
    storms(30_000, 10, trouble);
}

#[test]
fn random_damage() {
    let trouble = Trouble {
        damage: true,
        ..Trouble::default()
    };
    storms(40_000, 10, trouble);
}

#[test]
fn random_orphans() {
    let trouble = Trouble {
        orphans: true,
        ..Trouble::default()
    };
    storms(60_000, 30, trouble);
}

#[test]
fn random_everything() {
    let trouble = Trouble {
        cuts: true,
        stalls: true,
        crashes: true,
        switches: true,
        damage: true,
        no_memory: true,
        orphans: false,
    };
    storms(50_000, 16, trouble);
}
