//! The stories. Each is told on a [`Stage`]: once, recorded; and then it is cut off, everywhere.
//!
//! To add one: a function that asks for what shall happen and waits for it, and a line in [`ALL`].

use super::image::Fate;
use super::shelf::Shelf;
use super::stage::{POOL_EXTENT, Stage};
use crate::world::Random;

/// How a story begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// With disks that were just formatted, and a pool that nobody has formatted.
    Blank,
    /// With a pool that is formatted and has no volume.
    Formatted,
}

/// A story.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// Its name.
    pub name: &'static str,
    /// How it begins.
    pub begins: Begins,
    /// How many legs mirror each other.
    pub legs: usize,
    /// How many controller nodes run.
    pub controllers: usize,
    /// How many cuts are tried when there is not the time for all.
    pub sampled: usize,
    /// After a cut so many extents of the pool are looked at for what they held before (R10).
    pub reuse: u64,
    /// What happens.
    pub tell: Tell,
}

/// What happens, and where.
#[derive(Clone, Copy, Debug)]
pub enum Tell {
    /// With a pool, and all that belongs to it.
    Pool(fn(&mut Stage) -> Result<(), String>),
    /// With a disk node alone; nothing else of the story counts then.
    Shelf(fn(&mut Shelf) -> Result<(), String>),
}

const SHORT: Story = Story {
    name: "",
    begins: Begins::Formatted,
    legs: 2,
    controllers: 1,
    sampled: 100,
    reuse: 2,
    tell: Tell::Pool(|_| Ok(())),
};

/// All of them.
pub const ALL: &[Story] = &[
    Story {
        name: "format",
        begins: Begins::Blank,
        tell: Tell::Pool(format),
        ..SHORT
    },
    Story {
        name: "one-leg",
        legs: 1,
        tell: Tell::Pool(mirror_writes),
        ..SHORT
    },
    Story {
        name: "mirror-writes",
        tell: Tell::Pool(mirror_writes),
        ..SHORT
    },
    Story {
        name: "map-growth",
        tell: Tell::Pool(map_growth),
        ..SHORT
    },
    Story {
        name: "crowd",
        sampled: 160,
        tell: Tell::Pool(crowd),
        ..SHORT
    },
    Story {
        name: "journal-wrap",
        tell: Tell::Pool(journal_wrap),
        ..SHORT
    },
    Story {
        name: "owner-switch",
        controllers: 2,
        tell: Tell::Pool(owner_switch),
        ..SHORT
    },
    Story {
        name: "owner-dies",
        controllers: 2,
        tell: Tell::Pool(owner_dies),
        ..SHORT
    },
    Story {
        name: "leg-away",
        tell: Tell::Pool(leg_away),
        ..SHORT
    },
    Story {
        name: "power-of-one",
        sampled: 40,
        tell: Tell::Pool(power_of_one),
        ..SHORT
    },
    Story {
        name: "adoption",
        legs: 1,
        tell: Tell::Shelf(adoption),
        ..SHORT
    },
    Story {
        name: "delete-and-reuse",
        reuse: 56,
        tell: Tell::Pool(delete_and_reuse),
        ..SHORT
    },
    Story {
        name: "legs-come-and-go",
        legs: 1,
        sampled: 40,
        tell: Tell::Shelf(legs_come_and_go),
        ..SHORT
    },
];

fn format(stage: &mut Stage) -> Result<(), String> {
    stage.served()?;
    stage.host.say("a volume is wished for");
    let volume = stage.add_volume(2 * POOL_EXTENT)?;
    stage.host.write(volume, 3, 2, true);
    stage.wait()
}

/// Writes of all kinds to the same few blocks, and pauses in which regions become clean.
fn mirror_writes(stage: &mut Stage) -> Result<(), String> {
    let volume = stage.add_volume(4 * POOL_EXTENT)?;
    stage.host.write(volume, 10, 1, false);
    stage.wait()?;
    stage.host.write(volume, 10, 1, true);
    stage.host.write(volume, 20, 3, false);
    stage.wait()?;
    stage.host.flush(volume);
    stage.host.write(volume, 10, 1, false);
    stage.wait()?;
    stage.host.say("regions become clean");
    stage.pass_ms(100)?;
    stage.host.write(volume, 20, 3, false);
    stage.wait()?;
    stage.host.flush(volume);
    stage.wait()?;
    stage.host.zero(volume, 21, 1, false);
    stage.host.write(volume, 10, 2, false);
    stage.host.write(volume, 11, 1, false);
    stage.wait()?;
    stage.pass_ms(70)?;
    stage.host.write(volume, 10, 1, true);
    stage.wait()?;
    stage.pass_ms(100)
}

/// First writes to new extents, many at a time; extents given back, and mapped again.
fn map_growth(stage: &mut Stage) -> Result<(), String> {
    let volume = stage.add_volume(20 * POOL_EXTENT)?;
    for extent in 0..6 {
        stage.host.write(volume, extent * POOL_EXTENT + 5, 1, extent == 3);
    }
    stage.wait()?;
    stage.host.flush(volume);
    stage.host.write(volume, 6 * POOL_EXTENT - 1, 2, false);
    stage.wait()?;
    stage.host.zero(volume, 2 * POOL_EXTENT, 2 * POOL_EXTENT, true);
    stage.host.write(volume, 5, 1, false);
    stage.wait()?;
    stage.host.write(volume, 2 * POOL_EXTENT + 9, 1, true);
    stage.host.write(volume, 19 * POOL_EXTENT, 1, false);
    stage.wait()?;
    stage.host.flush(volume);
    stage.wait()
}

/// First writes to so many extents at once that a block of the journal fills half of its sectors.
fn crowd(stage: &mut Stage) -> Result<(), String> {
    let volume = stage.add_volume(48 * POOL_EXTENT)?;
    for extent in 0..48 {
        stage.host.write(volume, extent * POOL_EXTENT, 1, extent == 40);
    }
    stage.wait()
}

/// So many changes to the map, one at a time, that a checkpoint is due, and the ring of the journal begins anew.
fn journal_wrap(stage: &mut Stage) -> Result<(), String> {
    let volume = stage.add_volume(8 * POOL_EXTENT)?;
    stage.host.write(volume, 7 * POOL_EXTENT, 1, true);
    for round in 0..100 {
        let extent = round % 6;
        stage
            .host
            .write(volume, extent * POOL_EXTENT + round % 30, 1, round % 5 == 0);
        stage.wait()?;
        if round % 7 == 0 {
            stage.host.flush(volume);
        }
        stage.host.zero(volume, extent * POOL_EXTENT, POOL_EXTENT, true);
        stage.wait()?;
    }
    Ok(())
}

fn owner_switch(stage: &mut Stage) -> Result<(), String> {
    let volume = stage.add_volume(4 * POOL_EXTENT)?;
    stage.host.write(volume, 5, 2, false);
    stage.host.flush(volume);
    stage.wait()?;
    for round in 0..2 {
        stage.host.write(volume, 6 + round, 2, false);
        stage.host.write(volume, POOL_EXTENT + round, 1, false);
        stage.switch_owner();
        stage.host.write(volume, 8 + round, 1, true);
        stage.wait()?;
        stage.served()?;
        stage.host.flush(volume);
        stage.wait()?;
    }
    Ok(())
}

fn owner_dies(stage: &mut Stage) -> Result<(), String> {
    let volume = stage.add_volume(4 * POOL_EXTENT)?;
    stage.host.write(volume, 5, 2, true);
    stage.wait()?;
    stage.host.write(volume, 5, 1, false);
    stage.host.write(volume, 6, 3, false);
    stage.host.write(volume, 2 * POOL_EXTENT, 1, false);
    stage.pass_ms(1)?;
    stage.kill_owner();
    stage.served()?;
    stage.wait()?;
    stage.host.write(volume, 7, 1, false);
    stage.host.flush(volume);
    stage.wait()?;
    stage.whole()
}

/// The leg from which regions would be made equal is away while the other is written to, and comes back.
fn leg_away(stage: &mut Stage) -> Result<(), String> {
    let volume = stage.add_volume(4 * POOL_EXTENT)?;
    stage.host.write(volume, 5, 4, false);
    stage.wait()?;
    stage.set_store_away(true);
    stage.kill_disk_node(0);
    stage.host.write(volume, 5, 1, true);
    stage.pass_ms(12)?;
    stage.set_store_away(false);
    stage.wait()?;
    stage.host.write(volume, 6, 1, false);
    stage.host.write(volume, POOL_EXTENT, 1, false);
    stage.host.flush(volume);
    stage.wait()?;
    stage.host.say("the leg comes back");
    stage.start_disk_node(0);
    stage.host.write(volume, 7, 1, false);
    stage.wait()?;
    stage.whole()?;
    stage.host.write(volume, 8, 1, false);
    stage.wait()
}

/// A volume goes, and another one is given its space.
fn delete_and_reuse(stage: &mut Stage) -> Result<(), String> {
    let first = stage.add_volume(44 * POOL_EXTENT)?;
    for extent in 0..44 {
        stage.host.write(first, extent * POOL_EXTENT + 7, 2, false);
    }
    stage.wait()?;
    stage.host.flush(first);
    stage.wait()?;
    stage.delete_volume(first)?;
    let second = stage.add_volume(40 * POOL_EXTENT)?;
    for extent in 0..24 {
        stage.host.write(second, extent * POOL_EXTENT + 9, 1, false);
    }
    stage.wait()?;
    stage.host.read(second, 0, 40 * POOL_EXTENT);
    stage.host.flush(second);
    stage.wait()
}

/// Legs are carved, used and dropped, and others are given their extents.
fn legs_come_and_go(shelf: &mut Shelf) -> Result<(), String> {
    let first = shelf.wish(3, &[]);
    shelf.settled()?;
    for leg in &first {
        shelf.host.write(*leg, 3, 3, false);
        shelf.host.write(*leg, 505, 1, true);
    }
    shelf.wait()?;
    shelf.host.flush(first[0]);
    shelf.host.write(first[1], 4, 1, false);
    let more = shelf.wish(4, &[]);
    shelf.wait()?;
    shelf.settled()?;
    shelf.host.write(more[0], 1010, 2, true);
    shelf.host.zero(first[0], 4, 1, false);
    shelf.wait()?;
    shelf.wish(0, &[first[0], first[2], more[0]]);
    shelf.host.write(first[1], 5, 2, true);
    shelf.wait()?;
    shelf.settled()?;
    let last = shelf.wish(4, &[more[1]]);
    shelf.settled()?;
    for leg in &last {
        shelf.host.write(*leg, 2, 1, false);
        shelf.host.flush(*leg);
    }
    shelf.wait()
}

/// The power of one disk node fails, again and again, while the other and the owner live on: nothing acknowledged is lost, flushed
/// or not (decision 0010). Cut off everywhere after the last time.
fn power_of_one(stage: &mut Stage) -> Result<(), String> {
    let volume = stage.add_volume(4 * POOL_EXTENT)?;
    let mut random = Random::new(7);
    for round in 0..12u64 {
        let start = random.below(8);
        stage.host.write(volume, start, 1 + random.below(4), false);
        stage
            .host
            .write(volume, POOL_EXTENT * random.below(4) + 20, 1, false);
        stage.wait()?;
        stage.host.write(volume, random.below(8), 2, random.one_in(2));
        stage.host.flush(volume);
        stage.pass_ms(random.below(4))?;
        let index = (round % 2) as usize;
        stage.cut_disk_node(index, |scene| {
            let unsettled = scene.disks[index].unsettled().iter();
            let fate = |random: &mut Random| if random.one_in(2) { Fate::Kept } else { Fate::Lost };
            unsettled.map(|_| fate(&mut random)).collect()
        });
        stage.host.write(volume, random.below(8), 1, false);
        stage.pass_ms(random.below(3))?;
        stage.start_disk_node(index);
        stage.wait()?;
        stage.host.read(volume, 0, 4 * POOL_EXTENT);
        stage.wait()?;
        stage.whole()?;
        stage.host.read(volume, 0, 4 * POOL_EXTENT);
        stage.wait()?;
    }
    Ok(())
}

/// A disk is adopted by its node.
fn adoption(shelf: &mut Shelf) -> Result<(), String> {
    shelf.wish(1, &[]);
    shelf.settled()
}
