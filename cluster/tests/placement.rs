//! Placement against an oracle that tries everything.

mod world;

use cluster::layout::leg_metadata_blocks;
use cluster::placement::{PlacementError, choose_legs, leg_extents};
use cluster::view::DiskNodeView;
use cluster::{DiskNodeId, LegId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use world::World;

const GIB: u64 = 1 << 30;

#[test]
fn lengths_of_legs() {
    for (data, extent, extents) in [
        (1, 4 << 20, Some(3)), // one block and 9 MiB of metadata
        (10 * GIB, GIB, Some(11)),
        (512 * GIB, GIB, Some(514)), // 1 GiB of bitmap and map, and a little
        (GIB - 10 * (1 << 20), GIB, Some(1)), // exactly one extent
        (GIB - 10 * (1 << 20) + 1, GIB, Some(2)),
        (0, GIB, None),
        (GIB, 0, None),
        (GIB, 4097, None),
        (u64::MAX, GIB, None),
    ] {
        assert_eq!(
            leg_extents(data, extent),
            extents,
            "{data} bytes in extents of {extent}"
        );
    }
}

fn nodes(locations: &[u8], disks: &[Vec<u64>]) -> BTreeMap<DiskNodeId, DiskNodeView> {
    let mut world = World::default();
    for (location, disks) in locations.iter().zip(disks) {
        let location = if *location == 0 {
            String::new()
        } else {
            location.to_string()
        };
        let disks: Vec<_> = disks.iter().map(|extents| (*extents, GIB)).collect();
        world.join_disk_node("d", &location, &disks);
    }
    world.turn_nodes();
    world
        .disk_nodes
        .iter()
        .map(|(id, node)| (*id, node.view()))
        .collect()
}

/// The most free space one disk of the node has.
fn room(node: &DiskNodeView) -> u64 {
    let disks = node.status().unwrap().disks.iter();
    disks
        .map(|disk| node.extents_free(disk.disk, disk.extents))
        .max()
        .unwrap_or(0)
}

fn locations(nodes: &[&DiskNodeView]) -> usize {
    let own = |node: &DiskNodeView| node.spec.id.to_string();
    let of = |node: &DiskNodeView| {
        Some(node.spec.location.clone())
            .filter(|l| !l.is_empty())
            .unwrap_or(own(node))
    };
    nodes.iter().map(|node| of(node)).collect::<BTreeSet<_>>().len()
}

/// The most locations any choice of `wanted` nodes with room spans; `None`: there is no choice.
fn oracle(wanted: usize, extents: u64, nodes: &BTreeMap<DiskNodeId, DiskNodeView>) -> Option<usize> {
    let able: Vec<_> = nodes.values().filter(|node| room(node) >= extents).collect();
    let choices = (0_u32..1 << able.len()).filter(|choice| choice.count_ones() as usize == wanted);
    let chosen = |choice: u32| {
        able.iter()
            .enumerate()
            .filter(move |(n, _)| choice & (1 << n) != 0)
            .map(|(_, n)| *n)
    };
    choices
        .map(|choice| locations(&chosen(choice).collect::<Vec<_>>()))
        .max()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_smallest_leg_that_holds_the_data(data in 1_u64..1 << 45, extent_mib in 4_u64..102_400) {
        let extent = extent_mib << 20;
        let held = |extents: u64| {
            let leg = extents * (extent / 4096);
            leg.saturating_sub(leg_metadata_blocks(leg)) * 4096
        };
        let extents = leg_extents(data, extent).unwrap();
        prop_assert!(held(extents) >= data);
        prop_assert!(extents == 1 || held(extents - 1) < data);
    }

    #[test]
    fn a_place_is_found_if_there_is_one(
        locations_given in prop::collection::vec(0_u8..4, 6),
        disks in prop::collection::vec(prop::collection::vec(0_u64..8, 0..3), 6),
        wanted in 1_usize..5,
        gib in 1_u64..6,
    ) {
        let mut nodes = nodes(&locations_given, &disks);
        // One extent is taken already, where there is one.
        for node in nodes.values_mut() {
            if let Some(disk) = node.status().and_then(|status| status.disks.first()).map(|disk| disk.disk) {
                let leg = LegId(uuid::Uuid::nil());
                node.allocation.disks.insert(disk, BTreeMap::from([(leg, 1)]));
            }
        }
        let extents = gib + 1;
        match (choose_legs(wanted, gib * GIB, &nodes), oracle(wanted, extents, &nodes)) {
            (Ok(places), Some(best)) => {
                let chosen: Vec<_> = places.iter().map(|place| &nodes[&place.node]).collect();
                let distinct: BTreeSet<_> = places.iter().map(|place| place.node).collect();
                prop_assert_eq!(distinct.len(), wanted);
                prop_assert_eq!(locations(&chosen), best);
                for place in &places {
                    let disk = nodes[&place.node].status().unwrap().disks.iter().find(|d| d.disk == place.disk);
                    let disk = disk.expect("a disk of the node");
                    prop_assert_eq!(place.extents, extents);
                    prop_assert!(nodes[&place.node].extents_free(disk.disk, disk.extents) >= extents);
                }
            }
            (Err(PlacementError::TooFewDiskNodes { found, .. }), None) => {
                prop_assert_eq!(found, nodes.values().filter(|node| room(node) >= extents).count());
            }
            (Err(PlacementError::NoDisks { .. }), None) => {
                prop_assert!(disks.iter().flatten().all(|extents| *extents == 0));
            }
            (choice, best) => prop_assert!(false, "{choice:?} where the best is {best:?}"),
        }
    }
}
