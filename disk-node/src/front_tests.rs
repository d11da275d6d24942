//! Reactors' words in, orders and one status out.
//!
//! Mutants these tests catch: a reactor that is told before all have read their disks, or told a configuration before the places; a
//! part of a configuration instead of all of it; the status of one reactor lost, or its disks out of order; a leg's state from a
//! reactor that has not its disk; the newest revision instead of the oldest; two copies of a disk that both have a place; memory
//! given out twice.

use super::*;
use cluster::node_config::LegConfig;
use cluster::status::{DiskStatus, LegState};
use cluster::{DiskNodeId, Incarnation, Nqn, PoolId};
use uuid::Uuid;

fn disk(number: u128) -> DiskId {
    DiskId(Uuid::from_u128(0xd000 + number))
}

fn leg(number: u128) -> LegId {
    LegId(Uuid::from_u128(0x1e60 + number))
}

fn config(revision: u64, legs: &[(u128, u128)]) -> DiskNodeConfig {
    let legs = legs.iter().map(|(number, on)| LegConfig {
        leg: leg(*number),
        disk: disk(*on),
        nsid: *number as u32,
        extents: 1,
        hosts: [Nqn(format!("host {number}"))].into(),
    });
    DiskNodeConfig {
        node: DiskNodeId(Uuid::nil()),
        revision: Revision(revision),
        legs: [(PoolId(Uuid::nil()), legs.collect())].into(),
    }
}

/// What a reactor with those disks says; `legs` are the configured ones and the disks they are on.
fn report(booted: bool, revision: u64, disks: &[u128], legs: &[(u128, u128)]) -> NodeReport {
    let disk_status = |number: &u128| DiskStatus {
        disk: disk(*number),
        path: format!("/dev/{number}"),
        volatile: false,
        extent_bytes: 4 << 20,
        extents: 8,
        extents_free: 8,
        fault: None,
    };
    let elsewhere = legs.iter().filter(|(_, on)| !disks.contains(on));
    let failed = LegState::Failed {
        reason: format!("not at {disks:?}"),
    };
    let status = |(number, on): &(u128, u128)| LegStatus {
        leg: leg(*number),
        state: match disks.contains(on) {
            true => LegState::Ready,
            false => failed.clone(),
        },
    };
    NodeReport {
        status: DiskNodeStatus {
            node: DiskNodeId(Uuid::nil()),
            incarnation: Incarnation(Uuid::nil()),
            revision: Revision(revision),
            disks: disks.iter().map(disk_status).collect(),
            legs: legs.iter().map(status).collect(),
        },
        booted,
        identities: disks.iter().map(|number| Some(disk(*number))).collect(),
        elsewhere: elsewhere.map(|(number, _)| leg(*number)).collect(),
    }
}

fn orders(front: &mut Front) -> Vec<(usize, NodeControl)> {
    std::iter::from_fn(|| front.poll_order()).collect()
}

fn homes(places: &Places) -> Vec<(DiskId, u32)> {
    let disks = places.disks.iter();
    disks.map(|(disk, place)| (*disk, place.reactor.0)).collect()
}

/// Three disks on two reactors that have been read.
fn booted() -> Front {
    let mut front = Front::new(deal(3, 2));
    front.reported(0, report(true, 0, &[1, 3], &[]));
    front.reported(1, report(true, 0, &[2], &[]));
    front
}

#[test]
fn disks_are_dealt_one_by_one_and_memory_with_them() {
    assert_eq!(deal(5, 2), [vec![0, 2, 4], vec![1, 3]]);
    assert_eq!(deal(1, 8), [vec![0]], "one disk is one reactor's");
    assert_eq!(deal(0, 8), [Vec::<usize>::new()]);
    assert_eq!(deal(3, 0), [vec![0, 1, 2]]);
    for (disks, reactors) in [(5, 2), (1, 1), (7, 7), (0, 1)] {
        let dealt = deal(disks, reactors);
        let shares = dealt.iter().map(|own| share_bytes(64 << 20, own.len(), disks));
        let all: u64 = shares.clone().sum();
        assert!(all <= 64 << 20 && all > 63 << 20 && shares.min() > Some(0));
    }
}

#[test]
fn nothing_is_told_before_every_disk_was_read_and_then_places_come_first() {
    let mut front = Front::new(deal(2, 2));
    front.listening(BTreeSet::new());
    front.apply(config(1, &[(7, 2)]));
    front.reported(0, report(true, 0, &[1], &[]));
    assert_eq!(front.status(), None, "the second has said nothing");
    front.reported(1, report(false, 0, &[2], &[]));
    assert!(front.poll_order().is_none() && front.status().is_some_and(|(_, booted)| !booted));
    front.reported(1, report(true, 0, &[2], &[]));
    assert!(front.status().is_some_and(|(_, booted)| booted));
    let told = orders(&mut front);
    let [
        (0, NodeControl::Places(first)),
        (1, NodeControl::Places(second)),
        (0, NodeControl::Apply(one)),
        (1, NodeControl::Apply(other)),
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(first, second);
    assert_eq!(homes(first), [(disk(1), 0), (disk(2), 1)]);
    assert_eq!(first.disks[&disk(2)].hosts, ["host 7".to_owned()].into());
    assert!(
        *one == config(1, &[(7, 2)]) && one == other,
        "each is told everything"
    );
}

#[test]
fn what_has_not_changed_is_not_told_again() {
    let mut front = booted();
    orders(&mut front);
    front.apply(config(2, &[]));
    assert_eq!(orders(&mut front).len(), 2, "the configuration alone");
    front.apply(config(1, &[(7, 2)]));
    front.reported(1, report(true, 2, &[2], &[]));
    assert!(orders(&mut front).is_empty(), "an older one counts for nothing");
}

#[test]
fn the_status_is_of_all() {
    let mut front = booted();
    let legs = [(1, 1), (2, 2), (3, 3), (9, 99)];
    front.reported(0, report(true, 5, &[1, 3], &legs));
    front.reported(1, report(true, 4, &[2], &legs));
    let (status, _) = front.status().unwrap();
    assert_eq!(status.revision, Revision(4), "not all have heard of 5");
    let disks: Vec<_> = status.disks.iter().map(|disk| disk.disk).collect();
    assert_eq!(disks, [disk(1), disk(2), disk(3)], "as they were given");
    let states: Vec<_> = status.legs.iter().map(|leg| &leg.state).collect();
    assert_eq!(states[..3], [&LegState::Ready; 3]);
    assert_eq!(status.legs[1].leg, leg(2));
    assert!(
        matches!(states[3], LegState::Failed { .. }),
        "nobody has its disk"
    );
    assert_eq!(states.len(), 4);
}

#[test]
fn of_two_copies_neither_has_a_place_unless_it_had_one() {
    let mut front = Front::new(deal(2, 2));
    front.reported(0, report(true, 0, &[1], &[]));
    front.reported(1, report(true, 0, &[1], &[]));
    let told = orders(&mut front);
    let [(0, NodeControl::Places(places)), (1, NodeControl::Places(_))] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(places.disks.is_empty() && places.copies == [disk(1)].into());

    let mut late = booted();
    orders(&mut late);
    late.reported(1, report(true, 0, &[1], &[]));
    let told = orders(&mut late);
    let [(0, NodeControl::Places(places)), ..] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(places.disks[&disk(1)].reactor, ReactorIndex(0), "hosts are there");
    assert_eq!(places.copies, [disk(1)].into());
}

#[test]
fn a_disk_that_comes_late_gets_its_place() {
    let mut front = Front::new(deal(2, 2));
    front.reported(0, report(true, 0, &[1], &[]));
    let mut unknown = report(true, 0, &[2], &[]);
    unknown.identities = vec![None];
    front.reported(1, unknown);
    orders(&mut front);
    front.reported(1, report(true, 0, &[2], &[]));
    let told = orders(&mut front);
    let [(0, NodeControl::Places(places)), (1, _)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(homes(places), [(disk(1), 0), (disk(2), 1)]);
}
