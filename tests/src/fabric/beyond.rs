//! Told by hand: what lies beyond the atlas, where the promise is that nothing is answered rather than something wrong, and happenings
//! that need a hand to be exact.

use super::load::volume_id;
use super::nodes::DISK_BYTES;
use super::{Broken, Fabric, SliceState, Story};
use crate::world::WorldDisk;
use std::time::Duration;

impl Fabric {
    /// Lets so much time pass, with hosts that are busy.
    fn pass(&mut self, span: Duration) -> Result<(), Broken> {
        let until = self.world.now() + span;
        while self.world.now() < until {
            self.keep_busy();
            self.step(until)?;
        }
        Ok(())
    }

    /// How many operations end in so much time.
    fn ended_in(&mut self, span: Duration) -> u64 {
        let before = self.outcome.operations;
        self.pass(span).unwrap_or_else(|broken| panic!("{broken}"));
        self.outcome.operations - before
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A data plane that nobody troubles, after a while.
fn busy(legs: usize) -> Fabric {
    let story = Story {
        legs,
        ..Story::draw(1).only(&[])
    };
    let mut fabric = Fabric::new(&story, false);
    assert!(fabric.ended_in(secs(8)) > 100, "hosts are served");
    fabric
}

#[test]
fn with_every_leg_gone_requests_wait_and_end_once_the_legs_are_back() {
    let mut fabric = busy(2);
    for index in 0..2 {
        fabric.world.vanish(fabric.disk_nodes[index].0);
    }
    fabric.ended_in(secs(5));
    assert_eq!(fabric.ended_in(secs(30)), 0, "nothing is answered, nothing fails");
    assert!(!fabric.load.is_idle());
    fabric.grant(1);
    assert_eq!(fabric.ended_in(secs(20)), 0, "nor by another owner");
    (0..2).for_each(|index| fabric.start_disk_node(index));
    assert!(fabric.ended_in(secs(20)) > 100);
    fabric.come_to_rest().unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn a_leg_that_missed_writes_does_not_serve_though_it_is_the_only_one_left() {
    let mut fabric = busy(3);
    let stale = fabric.keeper.legs[0].leg;
    fabric.world.kill(fabric.disk_nodes[0].0);
    assert!(fabric.ended_in(secs(5)) > 100, "the others serve");
    assert!(!fabric.keeper.in_sync.contains(&stale));
    fabric.world.kill(fabric.disk_nodes[1].0);
    fabric.world.kill(fabric.disk_nodes[2].0);
    fabric.start_disk_node(0);
    fabric.ended_in(secs(5));
    assert_eq!(fabric.ended_in(secs(25)), 0, "by the owner");
    fabric.grant(1);
    assert_eq!(fabric.ended_in(secs(25)), 0, "by its successor");
    assert!(
        !fabric.keeper.in_sync.contains(&stale),
        "nor does it enter the set (R4)"
    );
    fabric.start_disk_node(1);
    fabric.start_disk_node(2);
    assert!(fabric.ended_in(secs(20)) > 100);
    fabric.come_to_rest().unwrap_or_else(|broken| panic!("{broken}"));
}

/// R9: what was formatted is never formatted again, whatever is found in its place.
#[test]
fn the_only_leg_emptied_is_an_error_and_no_fresh_pool() {
    let mut fabric = busy(1);
    let name = fabric.disk_nodes[0].0;
    fabric.world.kill(name);
    fabric.ended_in(secs(1));
    let disk = fabric.world.disk(name, 0);
    // All that is behind the disk's own tables: the leg, superblocks and all.
    let from = disk_node::format::DATA_OFFSET;
    disk.write(from, &vec![0; (DISK_BYTES - from) as usize], true);
    fabric.start_disk_node(0);
    fabric.grant(1);
    fabric.ended_in(secs(3));
    assert_eq!(fabric.ended_in(secs(30)), 0, "requests wait");
    let told = &fabric.told[&fabric.controllers[1]];
    assert!(
        matches!(&told.state, SliceState::Failed { reason } if reason.contains("never written")),
        "{told:?}"
    );
    let mut bytes = vec![0xEE; 4096];
    WorldDisk::read(fabric.world.disk(name, 0), from, &mut bytes);
    assert!(bytes.iter().all(|byte| *byte == 0), "nothing was written there");
}

/// Found by seeds 26 and 148: the owner had made a volume and shown it, and was fenced, or died, before that was recorded. Nobody after it
/// could know that the volume is there, and hosts that saw it nowhere any more failed requests for good (R7).
#[test]
fn a_volume_is_shown_once_it_is_recorded_and_not_before() {
    const NEW: u64 = 77;
    let mut fabric = busy(2);
    fabric.store_back = fabric.world.now() + secs(20);
    fabric.keeper.add_volume(volume_id(NEW), 2048);
    fabric.push_all();
    fabric.ended_in(secs(8));
    let owner = fabric.controllers[0];
    let made = fabric.told[&owner]
        .volumes
        .iter()
        .any(|volume| volume.volume == volume_id(NEW));
    assert!(made, "the owner has made it");
    assert!(!fabric.hosts.iter().any(|host| fabric.sees(*host, NEW)));
    // Its successor cannot reach one leg, and takes its time.
    let (successor, unreached) = (fabric.controllers[1], fabric.disk_nodes[1].0);
    fabric.world.set_cut(unreached, successor, true);
    fabric.grant(1);
    fabric.world.kill(owner);
    fabric.start_controller(0);
    fabric.load.rest();
    fabric.ended_in(secs(30));
    fabric.world.set_cut(unreached, successor, false);
    assert!(fabric.hosts.iter().all(|host| fabric.sees(*host, NEW)));
    for _ in 0..50 {
        fabric.read(fabric.hosts[0], NEW, (5, 1), Duration::ZERO);
        fabric.ended_in(Duration::from_millis(100));
    }
    fabric.grant(0);
    fabric.ended_in(secs(8));
    assert!(
        !fabric.load.waiting().contains("volume 77"),
        "{}",
        fabric.load.waiting()
    );
}
