//! The front against scripted reactors.
//!
//! Deliberate bugs these tests were seen to catch: a pool that comes back elsewhere, an answer to whoever asked last, two requests of
//! one number, a revision that not every reactor has applied, a reactor sent to itself.

use super::*;
use cluster::node_config::{Portal, VolumeConfig};
use cluster::{ControllerNodeId, Epoch, Incarnation, Nqn, SliceId, VolumeId};
use control::agent::{MembershipChange, MembershipOutcome};
use std::collections::BTreeSet;
use uuid::Uuid;

fn nothing() -> ControllerNodeStatus {
    ControllerNodeStatus {
        node: ControllerNodeId(Uuid::from_u128(1)),
        incarnation: Incarnation(Uuid::from_u128(2)),
        revision: Revision(0),
        slices: Vec::new(),
    }
}

fn pool_id(pool: u128) -> PoolId {
    PoolId(Uuid::from_u128(pool))
}

fn config(revision: u64, pools: &[u128]) -> ControllerNodeConfig {
    let node = ControllerNodeId(Uuid::from_u128(1));
    let volume = |pool| VolumeConfig {
        volume: VolumeId(Uuid::from_u128(pool)),
        nsid: 1,
        size_blocks: 8,
        hosts: BTreeSet::from([Nqn(format!("nqn.2026-11.io.trestle:host:{pool}"))]),
        created: true,
        deleting: false,
    };
    let pool = |pool: &u128| {
        let config = PoolConfig {
            subsystem_nqn: pool_id(*pool).subsystem_nqn(),
            serial: "1".to_owned(),
            cntlid: (1, 4095),
            portals: vec![Portal {
                node,
                address: "10.0.0.1:4420".parse().expect("an address"),
            }],
            extent_bytes: 4 << 20,
            slices: Vec::new(),
            volumes: vec![volume(*pool)],
        };
        (pool_id(*pool), config)
    };
    ControllerNodeConfig {
        node,
        revision: Revision(revision),
        host_nqn: node.host_nqn(),
        pools: pools.iter().map(pool).collect(),
    }
}

/// What a reactor is told: its pools, and where it sends hosts of others.
type Told = (Vec<u128>, Vec<(String, u32)>);

fn told(front: &mut Front) -> Vec<Told> {
    let mut told = vec![(Vec::new(), Vec::new()); front.statuses.len()];
    while let Some((reactor, order)) = front.poll_order() {
        match order {
            Control::Apply(config) => {
                told[reactor].0 = config.pools.keys().map(|pool| pool.0.as_u128()).collect();
            }
            Control::Elsewhere(elsewhere) => {
                let to = |(name, there): (String, Elsewhere)| (name, there.reactor.0);
                told[reactor].1 = elsewhere.into_iter().map(to).collect();
            }
            Control::Membership(answer) => panic!("{answer:?}"),
        }
    }
    told
}

fn pools(front: &mut Front) -> Vec<Vec<u128>> {
    told(front).into_iter().map(|(pools, _)| pools).collect()
}

#[test]
fn pools_are_dealt_out_and_stay() {
    let mut front = Front::new(2, nothing());
    front.apply(&config(1, &[1, 2, 3]));
    assert_eq!(pools(&mut front), [vec![1, 3], vec![2]]);
    front.apply(&config(2, &[1, 3]));
    assert_eq!(pools(&mut front), [vec![1, 3], vec![]]);
    front.apply(&config(3, &[1, 3, 4, 5]));
    assert_eq!(pools(&mut front), [vec![1, 3], vec![4, 5]]);
    front.apply(&config(4, &[1, 2, 3, 4, 5]));
    assert_eq!(
        pools(&mut front),
        [vec![1, 3], vec![2, 4, 5]],
        "where it was before"
    );
}

#[test]
fn hosts_are_sent_where_a_pool_is() {
    let mut front = Front::new(3, nothing());
    front.apply(&config(1, &[1, 2]));
    let name = |pool| pool_id(pool).subsystem_nqn().0;
    let elsewhere: Vec<_> = told(&mut front)
        .into_iter()
        .map(|(_, elsewhere)| elsewhere)
        .collect();
    let (one, other) = ((name(1), 0), (name(2), 1));
    assert_eq!(
        elsewhere,
        [vec![other.clone()], vec![one.clone()], vec![one, other]]
    );
    let (_, there) = front.elsewhere(pool_id(2), &config(1, &[2]).pools[&pool_id(2)]);
    assert_eq!(
        there.hosts,
        BTreeSet::from(["nqn.2026-11.io.trestle:host:2".to_owned()])
    );
    assert_eq!(there.portals.len(), 1);
}

fn ask(request: u64) -> Report {
    Report::Membership(MembershipRequest {
        request,
        slice: SliceId(Uuid::from_u128(7)),
        epoch: Epoch(1),
        change: MembershipChange::SliceFormatted,
    })
}

#[test]
fn an_answer_reaches_whoever_asked() {
    let mut front = Front::new(2, nothing());
    front.reported(1, ask(0));
    front.reported(0, ask(0));
    front.reported(1, ask(1));
    let numbers: Vec<u64> =
        std::iter::from_fn(|| front.poll_request().map(|request| request.request)).collect();
    assert_eq!(numbers, [0, 1, 2], "numbers of the whole node, in order");
    let answer = |request| MembershipAnswer {
        request,
        slice: SliceId(Uuid::from_u128(7)),
        outcome: MembershipOutcome::Committed,
    };
    for (number, expected) in [
        (1, Some((0, 0))),
        (2, Some((1, 1))),
        (0, Some((1, 0))),
        (1, None),
        (9, None),
    ] {
        front.membership_answer(answer(number));
        let told = front.poll_order().map(|(reactor, order)| match order {
            Control::Membership(answer) => (reactor, answer.request),
            other => panic!("{other:?}"),
        });
        assert_eq!(told, expected);
    }
}

#[test]
fn a_configuration_is_applied_when_every_reactor_has_applied_it() {
    let mut front = Front::new(2, nothing());
    let said = |revision| {
        let revision = Revision(revision);
        Report::Status(ControllerNodeStatus {
            revision,
            ..nothing()
        })
    };
    front.reported(0, said(5));
    assert_eq!(front.status().revision, Revision(0));
    front.reported(1, said(4));
    assert_eq!(front.status().revision, Revision(4));
    front.reported(1, said(5));
    assert_eq!(front.status().revision, Revision(5));
}
