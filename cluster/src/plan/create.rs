//! Placing: a pool that is wanted and not there yet, and standbys that a pool is short of.

use super::Draft;
use crate::layout::{
    ControllerPlacement, GroupLayout, GroupMembership, LegLayout, Membership, PoolLayout, SliceLayout,
};
use crate::placement::{LegPlace, choose_controllers, choose_legs};
use crate::{ControllerNodeId, Epoch, GroupId, LegId, Revision, SliceId};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// How many controller identifiers a controller node of a pool has: sixteen nodes fit below [`CNTLID_END`].
const CNTLIDS_PER_NODE: u16 = 4096;
/// Controller identifiers from here on are reserved (Base 2.1, 5.1.13.2.1: CNTLID; Fabrics Connect, CNTLID FFFEh, FFFFh).
pub(crate) const CNTLID_END: u16 = 0xFFF0;

impl Draft<'_> {
    /// Place the pool, all of it or nothing.
    pub(super) fn create(&mut self, fresh: &mut dyn Iterator<Item = Uuid>) {
        let spec = &self.input.spec;
        let legs = choose_legs(spec.protection.legs(), data_bytes(spec), &self.input.disk_nodes);
        let count = usize::from(spec.controller_count.max(1));
        let controllers =
            choose_controllers(count, &BTreeSet::new(), spec.owner, &self.input.controller_nodes);
        match (legs, controllers) {
            (Ok(legs), Ok(controllers)) => match spec.owner.filter(|owner| !controllers.contains(owner)) {
                None => self.lay_out(&legs, &controllers, fresh),
                Some(owner) => {
                    let name = self.input.controller_node_name(owner);
                    self.wait(format!("the wanted owner {name} does not answer or is cordoned"));
                }
            },
            (legs, controllers) => {
                for missing in [legs.err(), controllers.err()].into_iter().flatten() {
                    self.wait(format!("no place for the pool: it {missing}"));
                }
            }
        }
    }

    fn lay_out(
        &mut self,
        places: &[LegPlace],
        controllers: &[ControllerNodeId],
        fresh: &mut dyn Iterator<Item = Uuid>,
    ) {
        let mut id = || fresh.next().expect("fresh ids do not end");
        let (slice, group) = (SliceId(id()), GroupId(id()));
        let legs: Vec<LegLayout> = places.iter().map(|place| self.take(place, LegId(id()))).collect();
        let first_owner = self.input.spec.owner.unwrap_or(controllers[0]);
        let membership = self.first_grant(slice, first_owner, group, &legs);
        let spec = &self.input.spec;
        self.memberships.insert(slice, membership);
        self.layout = Some(PoolLayout {
            pool: spec.id,
            revision: Revision(0),
            subsystem_nqn: spec.id.subsystem_nqn(),
            serial: serial(spec.id.0),
            extent_bytes: spec.extent_bytes,
            protection: spec.protection,
            controllers: Vec::new(),
            slices: vec![SliceLayout {
                slice,
                ana_group: 1,
                groups: vec![GroupLayout { group, legs }],
            }],
            volumes: Vec::new(),
            retired: Vec::new(),
        });
        self.place_controllers(controllers);
    }

    /// Take a leg's extents and its namespace identifier from its disk node.
    fn take(&mut self, place: &LegPlace, leg: LegId) -> LegLayout {
        let allocation = self
            .allocation(place.node)
            .expect("placed on a node of the input");
        let nsid = allocation.next_nsid.max(1);
        allocation.next_nsid = nsid + 1;
        allocation
            .disks
            .entry(place.disk)
            .or_default()
            .insert(leg, place.extents);
        LegLayout {
            leg,
            disk_node: place.node,
            disk: place.disk,
            nsid,
            extents: place.extents,
            length_blocks: place.length_blocks,
        }
    }

    /// Nobody has written yet, so every leg has every acknowledged write.
    fn first_grant(
        &self,
        slice: SliceId,
        owner: ControllerNodeId,
        group: GroupId,
        legs: &[LegLayout],
    ) -> Membership {
        let in_sync = legs.iter().map(|leg| leg.leg).collect();
        Membership {
            slice,
            pool: self.input.spec.id,
            owner,
            owner_incarnation: self.input.controller_nodes[&owner].spec.incarnation,
            epoch: Epoch(1),
            formatted: false,
            groups: BTreeMap::from([(
                group,
                GroupMembership {
                    formatted: false,
                    in_sync,
                },
            )]),
        }
    }

    /// Find the standbys that the pool is short of; none of those it has is ever taken away.
    pub(super) fn add_controllers(&mut self) {
        let Some(layout) = &self.layout else { return };
        let short = usize::from(self.input.spec.controller_count).saturating_sub(layout.controllers.len());
        if short == 0 || self.input.spec.deleting {
            return;
        }
        let present = layout
            .controllers
            .iter()
            .map(|placement| placement.node)
            .collect();
        match choose_controllers(
            short,
            &present,
            self.input.spec.owner,
            &self.input.controller_nodes,
        ) {
            Ok(more) => self.place_controllers(&more),
            Err(missing) => self.wait(format!("too few standbys: the pool {missing}")),
        }
    }

    /// Give each node the lowest free range of controller identifiers; a range is never moved.
    fn place_controllers(&mut self, nodes: &[ControllerNodeId]) {
        let layout = self.layout.as_mut().expect("controllers are placed for a layout");
        for node in nodes {
            let taken: BTreeSet<u16> = layout
                .controllers
                .iter()
                .map(|placement| placement.cntlid_last)
                .collect();
            let Some((first, last)) = cntlid_ranges().find(|(_, last)| !taken.contains(last)) else {
                self.waits.push("a pool has at most 16 controller nodes".into());
                return;
            };
            layout.controllers.push(ControllerPlacement {
                node: *node,
                cntlid_first: first,
                cntlid_last: last,
            });
        }
    }
}

/// 1..=4095, 4096..=8191, …, each inclusive, all below [`CNTLID_END`].
fn cntlid_ranges() -> impl Iterator<Item = (u16, u16)> {
    let firsts = (0..CNTLID_END).step_by(usize::from(CNTLIDS_PER_NODE));
    firsts.map(|first| (first.max(1), (first | (CNTLIDS_PER_NODE - 1)).min(CNTLID_END - 1)))
}

/// The usable space in whole extents of the pool.
fn data_bytes(spec: &crate::spec::PoolSpec) -> u64 {
    let extent = spec.extent_bytes.max(1);
    spec.capacity_bytes.div_ceil(extent).saturating_mul(extent)
}

/// Twenty ASCII characters (Identify Controller, SN), from the pool's id.
fn serial(pool: Uuid) -> String {
    format!("TR{}", &pool.simple().to_string()[..18])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controller_identifiers_are_disjoint_and_below_the_reserved_ones() {
        let ranges: Vec<_> = cntlid_ranges().collect();
        assert_eq!(ranges.len(), 16);
        assert_eq!(
            (ranges[0], ranges[1], ranges[15]),
            ((1, 4095), (4096, 8191), (61440, 0xFFEF))
        );
        assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn a_serial_number_fits_its_field() {
        let serial = serial(Uuid::from_u128(u128::MAX));
        assert!(serial.len() == 20 && serial.is_ascii());
    }
}
