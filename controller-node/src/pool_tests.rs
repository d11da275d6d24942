//! The pool alone, against scripted legs.
//!
//! Deliberate bugs these tests were seen to catch: a connection broken because one leg behind it refuses to be fenced; a
//! leg that refused once and is never asked again; optimized said as soon as the slice is being opened.

use super::*;
use block::{BufferId, BufferSlice};
use cluster::node_config::{GroupConfig as Group, LegPath, SliceConfig as SliceWish};
use cluster::{Nqn, SliceId};

const POOL: PoolId = PoolId(Uuid::from_u128(1));
const START: Incarnation = Incarnation(Uuid::from_u128(2));
const EPOCH: Epoch = Epoch(7);
const DISK: DiskId = DiskId(Uuid::from_u128(3));
const PATH: PathKey = PathKey(Slot(0));
const LEG: LegId = LegId(Uuid::from_u128(4));

/// Nobody asks it for anything here.
struct NoMemory;

impl Memory for NoMemory {
    fn allocate(&mut self, _: u32) -> Option<BufferSlice> {
        None
    }
    fn retain(&mut self, _: BufferId) {}
    fn release(&mut self, _: BufferId) {}
    fn bytes(&self, _: BufferSlice) -> &[u8] {
        unreachable!("no buffer was given")
    }
    fn bytes_mut(&mut self, _: BufferSlice) -> &mut [u8] {
        unreachable!("no buffer was given")
    }
}

fn owned_pool() -> Pool {
    let leg = LegPath {
        leg: LEG,
        disk: DISK,
        address: "127.0.0.1:4420".parse().expect("an address"),
        subsystem_nqn: Nqn("nqn.2026-11.io.trestle:disk:test".to_owned()),
        nsid: 1,
        length_blocks: 65_536,
        in_sync: true,
    };
    let group = Group {
        group: GroupId(Uuid::from_u128(5)),
        formatted: true,
        legs: vec![leg],
    };
    let slice = SliceWish {
        slice: SliceId(Uuid::from_u128(6)),
        ana_group: 1,
        role: Role::Owner {
            epoch: EPOCH,
            incarnation: START,
        },
        formatted: true,
        groups: vec![group],
    };
    let config = PoolConfig {
        subsystem_nqn: Nqn("nqn.2026-11.io.trestle:pool:test".to_owned()),
        serial: "1".to_owned(),
        cntlid: (1, 4095),
        portals: Vec::new(),
        extent_bytes: 4 << 20,
        slices: vec![slice],
        volumes: Vec::new(),
    };
    let mut pool = Pool::new(POOL, START, config.clone(), Tuning::default());
    pool.apply(Time::ZERO, config, &|_| Some(PATH), &mut NoMemory);
    pool
}

fn outputs(pool: &mut Pool) -> Vec<PoolOutput> {
    std::iter::from_fn(|| pool.poll_output(Time::ZERO, &mut NoMemory)).collect()
}

fn is_fence(output: &PoolOutput) -> bool {
    matches!(
        output,
        PoolOutput::Leg {
            purpose: Purpose::Fence(EPOCH, LEG),
            ..
        }
    )
}

#[test]
fn a_leg_that_refuses_to_be_fenced_is_asked_again_and_its_connection_left_alone() {
    let mut pool = owned_pool();
    assert!(outputs(&mut pool).iter().any(is_fence));
    let mut now = Time::ZERO;
    for _ in 0..3 {
        pool.fence_ended(now, EPOCH, LEG, Ended::Failure, &mut NoMemory);
        assert!(
            outputs(&mut pool).is_empty(),
            "neither a broken connection nor a hasty second try"
        );
        let due = pool.next_timeout().expect("it is asked again");
        assert!(due > now && due <= now + FENCE_AGAIN_AFTER);
        now = now + FENCE_AGAIN_AFTER;
        pool.handle_timeout(now, &mut NoMemory);
        assert_eq!(
            outputs(&mut pool)
                .iter()
                .filter(|output| is_fence(output))
                .count(),
            1
        );
    }
    pool.fence_ended(now, EPOCH, LEG, Ended::Failure, &mut NoMemory);
    pool.path_down(now, DISK, PATH, &mut NoMemory);
    pool.handle_timeout(now + FENCE_AGAIN_AFTER, &mut NoMemory);
    assert!(
        !outputs(&mut pool).iter().any(is_fence),
        "nobody is there to be asked"
    );
    pool.path_up(DISK, PATH);
    assert!(outputs(&mut pool).iter().any(is_fence));
}

#[test]
fn optimized_is_not_said_because_a_configuration_says_owner() {
    let mut pool = owned_pool();
    let optimized = |output: &PoolOutput| matches!(output, PoolOutput::Ana(AnaState::Optimized));
    assert!(
        !outputs(&mut pool).iter().any(optimized),
        "the slice is only opening (R7)"
    );
    // Registered, reported as ours and acquired: the leg is fenced and attached, and still nothing was read from it.
    pool.fence_ended(Time::ZERO, EPOCH, LEG, Ended::Success, &mut NoMemory);
    let own = Registrant {
        key: EPOCH.0,
        own: true,
        holds: true,
    };
    pool.fence_reported(Time::ZERO, EPOCH, LEG, &[own], &mut NoMemory);
    assert!(!outputs(&mut pool).iter().any(optimized));
    assert!(matches!(
        pool.status().map(|status| status.state),
        Some(cluster::status::SliceState::Opening { .. })
    ));
}
