//! The audit finds what it is there for: good plans, each broken in one place.

mod world;

use cluster::audit::{Violation, audit};
use cluster::layout::{LegLayout, PoolLayout, VolumeLayout};
use cluster::node_config::Role;
use cluster::plan::{Plan, VolumeChange, plan};
use cluster::view::PoolInput;
use cluster::{Epoch, Incarnation, LegId, PoolId, Revision};
use uuid::Uuid;
use world::World;

/// A pool with a volume that is shown to a host, being served, and one more volume wished.
fn running() -> (World, PoolId) {
    let mut world = World::default();
    for name in ["d1", "d2", "d3"] {
        world.join_disk_node(name, "", &[(20, 1 << 30)]);
    }
    for name in ["c1", "c2"] {
        world.join_controller_node(name, "");
    }
    let pool = world.create_pool("p", 10 << 30, 1 << 30, 2, 2);
    let volume = world.create_volume(pool, "v", 1 << 30);
    let host = world.create_host("h");
    world.attachments.insert((volume, host));
    world.settle();
    world.create_volume(pool, "w", 1 << 30);
    (world, pool)
}

fn made(input: &PoolInput) -> Plan {
    plan(input, &mut (9000..).map(Uuid::from_u128))
}

/// What the audit says of the plan after `break_it`.
fn after(input: &PoolInput, break_it: impl FnOnce(&mut Plan)) -> Vec<Violation> {
    let mut plan = made(input);
    assert_eq!(audit(input, &plan), [], "good before it is broken");
    break_it(&mut plan);
    audit(input, &plan)
}

/// Break the plan of a running pool; the texts of what is found.
fn running_after(break_it: impl FnOnce(&mut Plan)) -> String {
    let (world, pool) = running();
    texts(after(&world.input(pool), break_it))
}

/// Break the plan of a pool that is being placed.
fn new_after(break_it: impl FnOnce(&mut Plan)) -> String {
    let mut world = running().0;
    let pool = world.create_pool("q", 2 << 30, 1 << 30, 2, 2);
    texts(after(&world.input(pool), break_it))
}

fn texts(found: Vec<Violation>) -> String {
    found.iter().map(|violation| format!("{violation}\n")).collect()
}

fn layout(plan: &mut Plan) -> &mut PoolLayout {
    plan.layout.as_mut().unwrap()
}

fn leg(plan: &mut Plan, n: usize) -> &mut LegLayout {
    &mut layout(plan).slices[0].groups[0].legs[n]
}

fn volume(plan: &mut Plan) -> &mut VolumeLayout {
    &mut layout(plan).volumes[0]
}

#[track_caller]
fn finds(found: String, text: &str) {
    assert!(found.contains(text), "wanted {text:?} among:\n{found}");
}

#[test]
fn legs() {
    finds(
        new_after(|plan| leg(plan, 1).disk_node = leg(plan, 0).disk_node),
        "two legs on disk node",
    );
    finds(
        new_after(|plan| leg(plan, 1).length_blocks += 1),
        "its legs differ in length",
    );
    finds(
        new_after(|plan| leg(plan, 1).length_blocks += 1),
        "its length is not its extents'",
    );
    finds(
        new_after(|plan| leg(plan, 1).extents += 1),
        "not what is taken from the disk",
    );
    finds(
        new_after(|plan| leg(plan, 1).nsid += 1),
        "could be given to another",
    );
    finds(new_after(|plan| leg(plan, 1).nsid = 0), "identifier is zero");
    finds(
        new_after(|plan| leg(plan, 1).leg = leg(plan, 0).leg),
        "in two places",
    );
    finds(
        new_after(|plan| _ = layout(plan).slices[0].groups[0].legs.pop()),
        "it has 1 legs, not 2",
    );
    finds(
        running_after(|plan| leg(plan, 1).nsid = 0),
        "it was moved or resized",
    );
    finds(
        running_after(|plan| {
            let first = leg(plan, 0).clone();
            layout(plan).retired.push(first);
        }),
        "in two places",
    );
    let too_short = new_after(|plan| {
        for n in 0..2 {
            (leg(plan, n).extents, leg(plan, n).length_blocks) = (2, 2 << 18);
        }
    });
    finds(too_short, "hold less than the pool's capacity");
}

#[test]
fn a_retired_leg_does_not_come_back() {
    let (mut world, pool) = running();
    let volumes: Vec<_> = world.volumes.keys().copied().collect();
    volumes
        .iter()
        .for_each(|id| world.volumes.get_mut(id).unwrap().deleting = true);
    world.pools.get_mut(&pool).unwrap().deleting = true;
    let slices = world.layouts[&pool].slices.clone();
    world.plan(pool);
    let found = after(&world.input(pool), |plan| layout(plan).slices = slices);
    finds(texts(found), "it was retired and came back");
    let found = after(&world.input(pool), |plan| layout(plan).retired.clear());
    finds(texts(found), "is forgotten but still takes space");
    let found = after(&world.input(pool), |plan| {
        let gone = layout(plan).retired.remove(0);
        let mut allocation = world.disk_nodes[&gone.disk_node].allocation.clone();
        allocation.disks.clear();
        plan.allocations.insert(gone.disk_node, allocation);
    });
    finds(texts(found), "is given back before it is swept");
}

#[test]
fn allocations() {
    let over = |plan: &mut Plan| {
        let allocation = plan.allocations.values_mut().next().unwrap();
        allocation
            .disks
            .values_mut()
            .next()
            .unwrap()
            .insert(LegId(Uuid::from_u128(7)), 10);
    };
    finds(new_after(over), "takes space but is not in the layout");
    finds(new_after(over), "extents are taken from disk");
    finds(
        new_after(|plan| plan.allocations.values_mut().for_each(|a| a.next_nsid = 0)),
        "would be reused",
    );
    finds(
        new_after(|plan| plan.allocations.values_mut().for_each(|a| a.disks.clear())),
        "given back before it is swept",
    );
    let twice = new_after(|plan| {
        let config = plan
            .disk_node_configs
            .values_mut()
            .find(|config| config.legs.len() == 2)
            .unwrap();
        config.legs.values_mut().for_each(|legs| legs[0].nsid = 1);
    });
    finds(twice, "one of another pool's leg");
}

#[test]
fn controllers() {
    let overlap = |plan: &mut Plan| layout(plan).controllers[1].cntlid_first = 4095;
    finds(new_after(overlap), "overlap another's or are reserved");
    finds(running_after(overlap), "overlap another's or are reserved");
    finds(
        new_after(|plan| layout(plan).controllers[1].cntlid_last = 0xFFF0),
        "reserved",
    );
    finds(
        new_after(|plan| layout(plan).controllers[0].cntlid_first = 0),
        "reserved",
    );
    finds(
        running_after(|plan| layout(plan).controllers[1].cntlid_last -= 1),
        "reserved",
    );
}

#[test]
fn grants() {
    fn membership(plan: &mut Plan) -> &mut cluster::layout::Membership {
        plan.memberships.values_mut().next().unwrap()
    }
    finds(
        running_after(|plan| membership(plan).epoch = Epoch(0)),
        "its epoch goes back",
    );
    finds(
        running_after(|plan| membership(plan).epoch = Epoch(0)),
        "an owner without an epoch",
    );
    finds(
        running_after(|plan| membership(plan).epoch.0 += 1),
        "do not change together",
    );
    let other = |plan: &mut Plan| membership(plan).owner_incarnation = Incarnation(Uuid::nil());
    finds(running_after(other), "do not change together");
    finds(
        running_after(|plan| membership(plan).formatted = false),
        "is for its owner to say",
    );
    finds(
        running_after(|plan| membership(plan).owner.0 = Uuid::nil()),
        "its owner does not serve the pool",
    );
    finds(
        running_after(|plan| plan.memberships.clear()),
        "it has no membership record",
    );
    finds(
        running_after(|plan| membership(plan).pool.0 = Uuid::nil()),
        "not of a slice of the pool",
    );
    finds(
        running_after(|plan| membership(plan).groups.values_mut().next().unwrap().formatted = false),
        "are for its owner to say",
    );
    finds(
        new_after(|plan| membership(plan).groups.clear()),
        "not in the membership record",
    );
    let empty = |plan: &mut Plan| {
        membership(plan)
            .groups
            .values_mut()
            .next()
            .unwrap()
            .in_sync
            .clear()
    };
    finds(new_after(empty), "empty or has legs of others");
    finds(
        running_after(|plan| plan.layout = None),
        "a membership record but no layout",
    );
    let two_owners = running_after(|plan| {
        for config in plan.controller_node_configs.values_mut() {
            let slice = &mut config.pools.values_mut().next().unwrap().slices[0];
            slice.role = Role::Owner {
                epoch: Epoch(1),
                incarnation: Incarnation(Uuid::nil()),
            };
        }
    });
    finds(two_owners, "told that it owns the slice without the grant");
}

#[test]
fn volumes() {
    finds(running_after(|plan| volume(plan).size_blocks -= 1), "it shrinks");
    finds(running_after(|plan| volume(plan).size_blocks = 0), "it is empty");
    finds(
        running_after(|plan| volume(plan).created = false),
        "is to be created again",
    );
    finds(
        running_after(|plan| volume(plan).nsid = 77),
        "its namespace identifier changes",
    );
    finds(running_after(|plan| volume(plan).nsid = 2), "zero or another's");
    finds(
        running_after(|plan| volume(plan).deleting = true),
        "shown to hosts while it is being removed",
    );
    finds(
        running_after(|plan| _ = layout(plan).volumes.remove(0)),
        "forgotten before it was removed",
    );
    let gone = |plan: &mut Plan| {
        let id = volume(plan).volume;
        plan.volumes.insert(id, VolumeChange::Gone);
    };
    finds(running_after(gone), "would go though nobody asked");
    finds(
        running_after(|plan| plan.pool_gone = true),
        "the pool goes before its volumes",
    );
}

#[test]
fn revisions_and_identity() {
    finds(
        running_after(|plan| layout(plan).revision.0 -= 1),
        "revision of the layout",
    );
    finds(
        new_after(|plan| layout(plan).revision = Revision(0)),
        "the first one is not 1 or more",
    );
    finds(
        running_after(|plan| plan.layout = None),
        "it is gone before it was taken apart",
    );
    let back = |plan: &mut Plan| {
        plan.controller_node_configs
            .values_mut()
            .for_each(|config| config.revision.0 -= 1)
    };
    finds(
        running_after(back),
        "revision of a controller node's configuration",
    );
    let back = |plan: &mut Plan| {
        plan.disk_node_configs
            .values_mut()
            .for_each(|config| config.revision.0 -= 1)
    };
    finds(new_after(back), "revision of a disk node's configuration");
    finds(
        running_after(|plan| layout(plan).serial.push('x')),
        "the pool's serial number changed",
    );
    finds(
        running_after(|plan| layout(plan).subsystem_nqn.0.push('x')),
        "the pool's subsystem NQN changed",
    );
    finds(
        running_after(|plan| layout(plan).extent_bytes += 1),
        "the pool's extent changed",
    );
}
