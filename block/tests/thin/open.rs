//! Formatting and opening: what is refused and why, and what damage does.

use super::stories::{Plot, Story};
use super::world::{Disk, SimMemory, World, small_config, volume};
use block::thin::{Failure, Pool, PoolConfig, PoolOutput};
use block::{BlockRange, Blocks, Memory, Operation, Request, RequestId, Status, Time};

fn format_refusal(config: PoolConfig) -> Failure {
    let mut pool = Pool::format(config, Time::ZERO, &mut SimMemory::default());
    match pool.poll_output() {
        Some(PoolOutput::FormatFailed { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn impossible_pools_are_not_formatted() {
    let config = small_config();
    let (metadata, data) = (Blocks(15), Blocks(34));
    assert_eq!(
        format_refusal(PoolConfig { metadata, ..config }),
        Failure::MetadataTooSmall {
            metadata,
            needed: Blocks(16)
        }
    );
    let extent = Blocks(0);
    assert_eq!(
        format_refusal(PoolConfig { extent, ..config }),
        Failure::ExtentLength { extent }
    );
    let extent = Blocks(1 << 32);
    assert_eq!(
        format_refusal(PoolConfig { extent, ..config }),
        Failure::ExtentLength { extent }
    );
    let extent = Blocks(35);
    assert_eq!(
        format_refusal(PoolConfig { extent, ..config }),
        Failure::NoData { data }
    );
    let (extent, data) = (Blocks(1), Blocks(u64::MAX));
    assert_eq!(
        format_refusal(PoolConfig {
            extent,
            data,
            ..config
        }),
        Failure::TooManyExtents { extents: u64::MAX }
    );
}

#[test]
fn formatting_ends_when_the_area_fails() {
    for (status, reason) in [
        (Status::MediaError, Failure::Media),
        (Status::StaleEpoch, Failure::Fenced),
    ] {
        for steps in 0..2 {
            let mut world = World::formatting(small_config());
            (0..steps).for_each(|_| world.execute(0));
            world.fail(0, status, || false);
            let failed = PoolOutput::FormatFailed {
                reason: reason.clone(),
            };
            assert_eq!((world.take_said(), world.memory.held()), (vec![failed], 0));
        }
    }
}

#[test]
fn starts_try_again_while_the_area_is_unavailable() {
    let mut world = World::formatting(small_config());
    while !world.queue.is_empty() {
        world.fail(0, Status::Unavailable, || true);
        world.tick();
        world.execute(0);
    }
    assert_eq!(world.take_said(), [PoolOutput::Formatted]);
    let mut world = World::opening(world.config, world.disk);
    while !world.queue.is_empty() {
        world.fail(0, Status::Unavailable, || true);
        world.tick();
        world.execute(0);
    }
    assert_eq!(world.take_said(), [PoolOutput::Opened]);
}

/// A pool with a story behind it, at rest, but not closed: its journal is not empty.
fn lived(seed: u64) -> Story {
    let plot = Plot {
        operations: 60,
        together: 4,
        volumes: 3,
        faults: 0,
    };
    let mut story = Story::new(seed, plot, small_config());
    story.run();
    story.rest();
    story
}

#[test]
fn another_configuration_is_refused() {
    let config = small_config();
    let disk = lived(1).world.disk;
    let refused = |config: PoolConfig| {
        let mut world = World::opening(config, disk.clone());
        world.settle();
        match world.take_said().pop() {
            Some(PoolOutput::OpenFailed { reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        refused(PoolConfig {
            pool: [1; 16],
            ..config
        }),
        Failure::ForeignPool { found: config.pool }
    );
    assert_eq!(
        refused(PoolConfig { epoch: 0, ..config }),
        Failure::LaterEpoch { found: 1 }
    );
    let changed = |what, stored, configured| Failure::GeometryChanged {
        what,
        stored,
        configured,
    };
    assert_eq!(
        refused(PoolConfig {
            extent: Blocks(2),
            ..config
        }),
        changed("the extent length", 4, 2)
    );
    assert_eq!(
        refused(PoolConfig {
            data: Blocks(31),
            ..config
        }),
        changed("the number of extents", 8, 7)
    );
}

#[test]
fn an_area_that_was_never_formatted_is_refused_and_not_formatted() {
    let config = small_config();
    let mut world = World::opening(config, Disk::new(&config));
    while let Some(below) = world.queue.first() {
        let harmless = matches!(below.request.operation, Operation::Read { .. } | Operation::Flush);
        assert!(harmless, "{below:?}");
        world.execute(0);
    }
    assert_eq!(
        world.take_said(),
        [PoolOutput::OpenFailed {
            reason: Failure::NoCheckpoint
        }]
    );
    assert_eq!(world.memory.held(), 0);
}

#[test]
fn a_pool_may_have_grown() {
    let mut story = lived(2);
    let config = PoolConfig {
        data: Blocks(61),
        ..small_config()
    };
    let mut larger = World::opened(config);
    larger.disk.metadata = story.world.disk.metadata.clone();
    larger.reopen().expect("a larger data area");
    assert_eq!(larger.pool.usage().total, 15);
    assert_eq!(larger.pool.volumes(), story.world.pool.volumes());
    story.audit(false);
    let smaller = World::opening(small_config(), larger.disk).reopen();
    let (what, stored, configured) = ("the number of extents", 15, 8);
    assert_eq!(
        smaller,
        Err(Failure::GeometryChanged {
            what,
            stored,
            configured
        })
    );
}

/// Whatever is damaged, one byte of any sector: the pool is as it was, or it does not open. Both happen.
#[test]
fn damage_is_survived_or_refused_and_never_believed() {
    let (mut survived, mut refused) = (0, 0);
    for seed in 0..6 {
        let story = lived(seed);
        for sector in 0..24 * 8 {
            let mut damaged = story.world.disk.clone();
            damaged.metadata.damage(sector * 512 + 77);
            let mut again = story.fork(damaged);
            match again.world.reopen() {
                Ok(()) => {
                    again.audit(false);
                    survived += 1;
                }
                Err(Failure::JournalCorrupt { .. } | Failure::NoCheckpoint) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    assert!(
        survived > 100 && refused > 30,
        "survived {survived}, refused {refused}"
    );
}

#[test]
fn an_unreadable_slot_is_survived_if_the_other_and_the_journal_are_whole() {
    let mut story = lived(3);
    story.world.pool.close(story.world.now, &mut story.world.memory);
    story.world.drain();
    story.world.settle();
    for slot in 0..2 {
        let mut world = World::opening(small_config(), story.world.disk.clone());
        while let Some(below) = world.queue.first().copied() {
            let reading = matches!(below.request.operation, Operation::Read { .. });
            let range = slot * 8..slot * 8 + 8;
            if reading && range.contains(&below.request.range.start.0) {
                world.fail(0, Status::MediaError, || false);
            } else {
                world.execute(0);
            }
        }
        let said = world.take_said();
        let corrupt = matches!(
            said[..],
            [PoolOutput::OpenFailed {
                reason: Failure::JournalCorrupt { .. }
            }]
        );
        assert!(said == [PoolOutput::Opened] || corrupt, "{said:?}");
        if world.pool.is_serving() {
            assert_eq!(world.pool.volumes(), lived(3).world.pool.volumes());
        }
    }
}

#[test]
fn opening_ends_when_the_area_fails() {
    let disk = lived(4).world.disk;
    let mut journal_reached = false;
    for (status, reason) in [
        (Status::MediaError, Failure::Media),
        (Status::StaleEpoch, Failure::Fenced),
    ] {
        let mut world = World::opening(small_config(), disk.clone());
        while let Some(below) = world.queue.first() {
            if below.request.range.start.0 >= 16 {
                journal_reached = true;
                world.fail(0, status, || false);
            } else {
                world.execute(0);
            }
        }
        assert_eq!(world.take_said(), [PoolOutput::OpenFailed { reason }]);
        assert_eq!(world.memory.held(), 0);
    }
    assert!(journal_reached);
}

/// In half of what a leg of 1 TiB sets aside.
#[test]
fn the_maps_of_large_pools_and_of_small_extents_fit() {
    let (terabyte, megabyte) = (1u64 << 28, 1u64 << 8);
    let metadata = Blocks(block::leg_metadata_blocks(Blocks(terabyte)).0 / 2);
    for (extent, data) in [(1024 * megabyte, 16 * terabyte), (4 * megabyte, terabyte)] {
        let config = PoolConfig {
            extent: Blocks(extent),
            data: Blocks(data),
            metadata,
            ..small_config()
        };
        let mut memory = SimMemory::default();
        let mut pool = Pool::format(config, Time::ZERO, &mut memory);
        assert!(
            matches!(pool.poll_output(), Some(PoolOutput::Below { .. })),
            "{config:?}"
        );
    }
}

/// A pool of 16 TiB in extents of 1 GiB, all of them mapped in no order.
#[test]
fn a_large_full_pool_opens_with_few_requests() {
    let (extent, extents) = (1 << 18, 16384);
    let config = PoolConfig {
        extent: Blocks(extent),
        data: Blocks(extent * extents),
        metadata: Blocks(4096),
        ..small_config()
    };
    // Of the data only the map is of interest here.
    let mut world = World::opened_without_data(config);
    world
        .pool
        .create_volume(world.now, volume(1), Blocks(extent * extents), &mut world.memory);
    world.drain();
    world.settle_metadata();
    let buffer = world.memory.allocate(4096).expect("memory");
    for id in 0..extents {
        let range = BlockRange::new(id * 4097 % extents * extent, 1);
        let request = Request {
            operation: Operation::Write {
                buffer,
                durable: false,
            },
            range,
        };
        world
            .pool
            .submit(world.now, RequestId(id), volume(1), request, &mut world.memory);
        world.drain();
    }
    world.settle_metadata();
    assert_eq!(world.pool.usage().used, extents);
    let mut world = World::opening(config, world.disk);
    let requests = world.settle_metadata();
    assert_eq!(world.take_said(), [PoolOutput::Opened]);
    assert_eq!(world.pool.mapping(volume(1)).len() as u64, extents);
    assert!(requests < 40, "{requests} requests");
}
