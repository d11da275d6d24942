//! Stories that are cut off.

use super::stories::{Plot, Story};
use super::world::{Rng, small_config};
use block::thin::Area;

/// A story up to its `cut`th event; `None` if it is over before.
fn story_until(seed: u64, plot: Plot, cut: u32) -> Option<Story> {
    let mut story = Story::new(seed, plot, small_config());
    for _ in 0..cut {
        if !story.step() {
            return None;
        }
    }
    Some(story)
}

/// Cuts the power; the pool must open and everything be as promised, then live on and come to rest.
fn cut_and_check(mut story: Story, keep: impl FnMut(usize) -> bool) {
    story.world.spill();
    story.world.disk.cut(keep);
    story.crash(true);
    story.rest();
    story.audit(true);
}

/// Every combination of lost sectors if they are few, else none, all, and some.
fn combinations(pending: usize, rng: &mut Rng, samples: u64) -> Vec<Vec<bool>> {
    if pending <= 8 {
        return (0..1u32 << pending)
            .map(|mask| (0..pending).map(|bit| mask >> bit & 1 == 1).collect())
            .collect();
    }
    let mut all = vec![vec![false; pending], vec![true; pending]];
    all.extend((0..samples).map(|_| (0..pending).map(|_| rng.one_in(2)).collect()));
    all
}

#[test]
fn short_stories_survive_every_cut() {
    let mut cuts = 0;
    for seed in 0..2 {
        let plot = Plot {
            operations: 14,
            together: 3,
            volumes: 2,
            faults: 0,
        };
        for cut in 0.. {
            let Some(mut story) = story_until(seed, plot, cut) else {
                break;
            };
            story.world.spill();
            let mut rng = Rng(seed << 32 | u64::from(cut));
            for keep in combinations(story.world.disk.pending(), &mut rng, 8) {
                cut_and_check(story.fork(story.world.disk.clone()), |index| keep[index]);
                cuts += 1;
            }
        }
    }
    assert!(cuts > 3_000, "{cuts} cuts");
}

#[test]
fn long_stories_survive_sampled_cuts_again_and_again() {
    for seed in 0..150 {
        let plot = Plot {
            operations: 0,
            together: 1 + seed as usize % 6,
            volumes: 3,
            faults: 0,
        };
        let mut story = Story::new(seed, plot, small_config());
        let mut rng = Rng(!seed);
        for _ in 0..8 {
            story.go_on(60);
            for _ in 0..20 + rng.below(150) {
                story.step();
            }
            let lossy = rng.one_in(2);
            if lossy {
                story.world.spill();
                let keep_one_in = 1 + rng.below(4);
                story.world.disk.cut(|_| rng.one_in(keep_one_in));
            } else {
                story.world.kill(|| rng.one_in(2));
            }
            story.crash(lossy);
        }
        story.run();
        story.audit(false);
        story.rest();
    }
}

/// The process dies while the disk's cache holds what nobody has flushed; the next one opens, and at every event of its
/// opening, and for a while after, the power is cut.
#[test]
fn a_cut_after_a_kill_loses_nothing() {
    let plot = Plot {
        operations: 60,
        together: 4,
        volumes: 3,
        faults: 0,
    };
    for seed in 0..24 {
        for later in 0..20 {
            let mut rng = Rng(seed);
            let cut = 20 + rng.below(100) as u32;
            if let Some(story) = story_until(seed, plot, cut) {
                kill_then_cut(story, later, &mut rng);
            }
        }
    }
}

/// The same, when what was in flight is the header of a checkpoint: the next opening sees the checkpoint, which may not
/// last, and must not overwrite the other one before it does.
#[test]
fn a_cut_after_a_kill_at_a_checkpoint_loses_nothing() {
    let plot = Plot {
        operations: 80,
        together: 4,
        volumes: 3,
        faults: 0,
    };
    let mut kills = 0;
    for seed in 0..16 {
        for later in 0..16 {
            let mut story = Story::new(seed, plot, small_config());
            // Not the first ones: an empty checkpoint would still be there to go back to.
            for _ in 0..2 + seed % 3 {
                while checkpoint_header_in_flight(&story) && story.step() {}
                while !checkpoint_header_in_flight(&story) && story.step() {}
            }
            if checkpoint_header_in_flight(&story) {
                kill_then_cut(story, later, &mut Rng(seed << 16 | later));
                kills += 1;
            }
        }
    }
    assert!(kills > 100, "{kills} kills");
}

fn checkpoint_header_in_flight(story: &Story) -> bool {
    let slots = [0, 8];
    story
        .world
        .queue
        .iter()
        .any(|below| below.area == Area::Metadata && slots.contains(&below.request.range.start.0))
}

fn kill_then_cut(mut story: Story, later: u64, rng: &mut Rng) {
    story.world.kill(|| !rng.one_in(4));
    story.begin_crash();
    for _ in 0..later {
        if !story.world.queue.is_empty() {
            story.world.execute(0);
        }
    }
    let keep_one_in = 1 + rng.below(3);
    cut_and_check(story, |_| rng.one_in(keep_one_in));
}

/// Before the first journal block of one opening is whole, the next cut comes: leftovers of several attempts at the same
/// block lie over each other.
#[test]
fn cuts_in_quick_succession_leave_the_old_or_the_new() {
    for seed in 0..60 {
        let plot = Plot {
            operations: 0,
            together: 5,
            volumes: 3,
            faults: 0,
        };
        let mut story = Story::new(seed, plot, small_config());
        let mut rng = Rng(seed << 8);
        for _ in 0..30 {
            story.go_on(6);
            for _ in 0..rng.below(16) {
                story.step();
            }
            story.world.spill();
            story.world.disk.cut(|_| rng.one_in(2));
            story.crash(true);
        }
        story.run();
        story.rest();
    }
}
