//! Healing, coming to rest, and what must be true then.

use crate::world::*;
use block::leg_format::BitmapIdentity;
use block::{BlockRange, Duration};

impl World {
    pub(crate) fn run_until(&mut self, limit: Duration, what: &str, done: impl Fn(&World) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(
                self.now < end,
                "{what}: it did not come to that; {:?}",
                self.owners.last().map(|owner| owner.mirror.waits_for())
            );
            self.step();
        }
    }

    pub(crate) fn newest(&self) -> &Owner {
        self.owners.last().expect("granted")
    }

    pub(crate) fn heal(&mut self) {
        self.log(|| "HEAL".to_owned());
        self.faults = false;
        for owner in 0..self.owners.len() - 1 {
            self.kill(owner);
        }
        for link in self.owners.iter_mut().flat_map(|owner| &mut owner.links) {
            link.cut = false;
        }
        if self.newest().fenced || !self.newest().alive {
            self.grant();
        }
    }

    /// Everything heals, and comes to rest: all legs in sync and equal.
    pub(crate) fn come_to_rest(&mut self) {
        self.heal();
        let all = self.disks.len();
        self.run_until(Duration::from_secs(20), "rest", |world| {
            let owner = world.newest();
            let in_sync = world.record.in_sync.len() == all && owner.change.is_none();
            // What hung before the healing may still be on its way.
            let idle = owner.asked.is_empty() && owner.at_legs.is_empty();
            owner.opened && idle && in_sync && owner.mirror.regions_dirty() == 0
        });
        self.compare_legs();
    }

    pub(crate) fn compare_legs(&self) {
        for leg in 1..self.disks.len() {
            let difference = self.disks[0].difference(&self.disks[leg]);
            assert_eq!(
                difference, None,
                "legs 0 and {leg} differ in this block at rest (R11)"
            );
        }
    }

    pub(crate) fn close(&mut self) {
        let owner = self.owners.len() - 1;
        let state = &mut self.owners[owner];
        state.mirror.close(self.now, &mut state.memory);
        self.drain(owner);
        self.run_until(Duration::from_secs(2), "closed", |world| world.newest().closed);
        let limit = self.now + Duration::from_secs(2);
        while !self.newest().at_legs.is_empty() && self.now < limit {
            self.step();
        }
        assert_eq!(self.newest().memory.in_use(), 0, "buffers are left over");
        for leg in 0..self.disks.len() {
            self.check_bitmap_clean(leg);
        }
    }

    pub(crate) fn check_bitmap_clean(&self, leg: usize) {
        let identity = BitmapIdentity {
            group: GROUP,
            index: 0,
            region: self.geometry.region,
        };
        let place = |place| {
            identity
                .parse(self.disks[leg].block(self.geometry.bitmap_place(0, place).start.0))
                .ok()
        };
        let newest = [place(0), place(1)]
            .into_iter()
            .flatten()
            .max_by_key(|block| block.sequence);
        let newest = newest.expect("one place is readable");
        assert!(
            newest.bits.iter().all(|byte| *byte == 0),
            "closed in order, and leg {leg} is not clean"
        );
    }

    /// A later owner finds everything.
    pub(crate) fn reopen_and_read(&mut self) {
        let owner = self.owners.len() - 1;
        self.kill(owner);
        self.grant();
        self.run_until(Duration::from_secs(2), "opened again", |world| {
            world.newest().opened
        });
        assert_eq!(
            self.newest().mirror.regions_dirty(),
            0,
            "closed in order: nothing differs"
        );
        let owner = self.owners.len() - 1;
        for block in self.history.blocks() {
            self.ask_read(owner, BlockRange::new(block, 1));
        }
        self.run_until(Duration::from_secs(2), "read", |world| {
            world.newest().asked.is_empty()
        });
    }
}
