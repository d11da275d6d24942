//! Scripts: what fails below, a journal that is full, and how a pool ends.

use super::script::*;
use super::world::{World, small_config, volume};
use block::thin::{Area, Pool, PoolOutput, Usage};
use block::{Duration, Operation, Status};

#[test]
fn a_journal_block_in_doubt_is_written_again_and_nothing_is_acknowledged_meanwhile() {
    let mut world = written(5, 0, 1);
    write(&mut world, 6, 4, 1);
    write(&mut world, 7, 8, 1);
    create(&mut world, 2, 4);
    let first = world.sectors(&world.queue[0].request);
    world.fail(0, Status::Unavailable, || true);
    let refused = PoolOutput::VolumeCreated {
        volume: volume(2),
        status: Status::Unavailable,
    };
    let (six, seven) = (ended(6, Status::Unavailable), ended(7, Status::Unavailable));
    assert_eq!(world.take_said(), [six, seven, refused]);
    write(&mut world, 8, 4, 1);
    write(&mut world, 9, 12, 1);
    write(&mut world, 10, 0, 1);
    create(&mut world, 3, 4);
    let refused = PoolOutput::VolumeCreated {
        volume: volume(3),
        status: Status::Unavailable,
    };
    assert_eq!(
        world.take_said(),
        [
            ended(8, Status::Unavailable),
            ended(9, Status::Unavailable),
            refused
        ]
    );
    assert_eq!(below(&world), ["Data write 0+1"], "what is mapped goes on");
    world.execute(0);
    assert_eq!(world.take_said(), [done(10)]);
    let due = world.pool.next_timeout().expect("it is tried again");
    assert_eq!(due.since(world.now), Duration::from_millis(100));
    world.tick();
    assert_eq!(
        world.sectors(&world.queue[0].request),
        first,
        "the same bytes to the same place"
    );
    world.execute(0);
    assert_eq!(
        (world.take_said(), world.pool.mapping(volume(1))),
        (vec![], vec![(0, 0), (1, 1)])
    );
    assert_eq!(world.pool.volumes().len(), 1, "what was only queued is forgotten");
    write(&mut world, 11, 8, 1);
    world.settle();
    assert_eq!(world.take_said(), [done(11)]);
}

#[test]
fn a_fenced_pool_ends_everything_and_writes_nothing_more() {
    let mut world = written(5, 0, 1);
    write(&mut world, 6, 0, 1);
    write(&mut world, 7, 4, 1);
    write(&mut world, 8, 8, 1);
    delete(&mut world, 1);
    world.fail(1, Status::StaleEpoch, || false);
    let deleted = PoolOutput::VolumeDeleted {
        volume: volume(1),
        status: Status::StaleEpoch,
    };
    let ends = [
        ended(7, Status::StaleEpoch),
        ended(8, Status::StaleEpoch),
        deleted,
    ];
    assert_eq!(world.take_said(), ends);
    read(&mut world, 9, 0, 1);
    create(&mut world, 2, 4);
    let created = PoolOutput::VolumeCreated {
        volume: volume(2),
        status: Status::StaleEpoch,
    };
    assert_eq!(world.take_said(), [ended(9, Status::StaleEpoch), created]);
    assert_eq!(
        (world.pool.next_timeout(), world.pool.is_serving()),
        (None, false)
    );
    close(&mut world);
    assert_eq!(below(&world), ["Data write 0+1"]);
    world.execute(0);
    assert_eq!(world.take_said(), [done(6), PoolOutput::Closed]);
}

#[test]
fn a_fence_met_by_data_fences_the_map_too() {
    let mut world = written(5, 0, 1);
    write(&mut world, 6, 4, 1);
    write(&mut world, 7, 0, 1);
    world.fail(1, Status::StaleEpoch, || false);
    assert_eq!(
        world.take_said(),
        [ended(7, Status::StaleEpoch), ended(6, Status::StaleEpoch)]
    );
    world.execute(0);
    assert_eq!((below(&world).len(), world.take_said()), (0, vec![]));
}

#[test]
fn data_errors_end_the_request_and_only_it() {
    let mut world = written(5, 0, 8);
    write(&mut world, 6, 3, 2);
    world.fail(0, Status::MediaError, || false);
    assert_eq!(world.said, []);
    world.fail(0, Status::Unavailable, || false);
    assert_eq!(
        world.take_said(),
        [ended(6, Status::Unavailable)],
        "a path condition goes before"
    );
    assert_eq!(read_now(&mut world, 0, 8), [5; 8]);
}

#[test]
fn a_full_journal_waits_for_the_checkpoint() {
    let mut world = with_volume();
    let mut checkpoint = Vec::new();
    let mut held = None;
    for number in 2..40 {
        create(&mut world, number, 4);
        while let Some(next) = world.queue.first().copied() {
            if next.request.range.start.0 < 16 {
                held.get_or_insert(number);
                checkpoint.push(world.queue.remove(0));
            } else {
                world.execute(0);
            }
        }
    }
    assert_eq!(
        world.take_said().len(),
        7,
        "as many blocks as the journal has, less volume 1's"
    );
    assert_eq!(
        (held, checkpoint.len()),
        (Some(5), 1),
        "begun when more than half was full"
    );
    world.queue = checkpoint;
    world.settle();
    assert_eq!(world.take_said().len(), 31, "the rest in one block");
    world.reopen().expect("it opens");
    assert_eq!(world.pool.volumes().len(), 39);
}

#[test]
fn a_full_journal_whose_checkpoint_fails_refuses() {
    let mut world = with_volume();
    let mut refused = false;
    for number in 2..40 {
        create(&mut world, number, 4);
        while let Some(next) = world.queue.first().copied() {
            match next.request.range.start.0 {
                0..16 => world.fail(0, Status::MediaError, || false),
                _ => world.execute(0),
            }
        }
        let answer = world.take_said();
        refused |= answer
            == [PoolOutput::VolumeCreated {
                volume: volume(number),
                status: Status::MediaError,
            }];
    }
    assert!(refused);
    world.settle();
    create(&mut world, 60, 4);
    world.settle();
    assert_eq!(
        world.take_said(),
        [PoolOutput::VolumeCreated {
            volume: volume(60),
            status: Status::Success
        }],
        "and goes on when it has succeeded"
    );
}

#[test]
fn an_extent_that_cannot_be_zeroed_stays_dirty() {
    let mut world = written(5, 0, 8);
    submit(&mut world, 6, Operation::Deallocate, 0, 8);
    world.execute(0);
    assert_eq!(below(&world), ["Data unmap 4+4"]);
    world.fail(0, Status::MediaError, || false);
    assert_eq!(below(&world), ["Data unmap 0+4"]);
    world.settle();
    assert_eq!(
        world.pool.usage(),
        Usage {
            total: 8,
            used: 0,
            dirty: 1,
            clean: 7
        }
    );
    world.reopen().expect("it opens");
    world.settle();
    assert_eq!(world.pool.usage().clean, 8, "it is tried again by the next owner");
}

#[test]
fn closing_drains_and_leaves_no_journal() {
    let mut world = with_volume();
    write(&mut world, 6, 0, 1);
    close(&mut world);
    write(&mut world, 7, 0, 1);
    assert_eq!(world.take_said(), [ended(7, Status::Unavailable)]);
    world.execute(0);
    world.execute(0);
    assert_eq!(world.take_said(), [done(6)]);
    assert_eq!(below(&world), ["Metadata write! 9+1"], "the body of slot 1");
    world.execute(0);
    assert_eq!(below(&world), ["Metadata write! 8+1"], "its header");
    world.execute(0);
    assert_eq!(world.take_said(), [PoolOutput::Closed]);
    close(&mut world);
    assert_eq!(world.take_said(), [PoolOutput::Closed]);
    write(&mut world, 8, 0, 1);
    assert_eq!(world.take_said(), [ended(8, Status::Unavailable)]);
    world.reopen().expect("it opens");
    assert_eq!(read_now(&mut world, 0, 2), [6, 0]);
}

#[test]
fn closing_in_doubt_gives_up_the_block() {
    let mut world = with_volume();
    write(&mut world, 6, 0, 1);
    world.fail(0, Status::Unavailable, || false);
    close(&mut world);
    assert_eq!(
        world.take_said(),
        [ended(6, Status::Unavailable), PoolOutput::Closed]
    );
    assert_eq!(below(&world), [""; 0]);
}

#[test]
fn closing_before_the_start_is_over_ends_it() {
    for steps in 0..5 {
        let mut world = World::opening(small_config(), World::opened(small_config()).disk);
        (0..steps).for_each(|_| world.execute(0));
        close(&mut world);
        assert_eq!(world.take_said(), [], "a buffer is in flight");
        world.execute(0);
        assert_eq!(
            (world.take_said(), world.memory.held()),
            (vec![PoolOutput::Closed], 0)
        );
    }
}

#[test]
fn without_buffers_the_start_waits() {
    let mut world = World::opened(small_config());
    (world.memory.refuse, world.queue) = (3, vec![]);
    world.pool = Pool::open(world.config, world.now, &mut world.memory);
    world.drain();
    for _ in 0..2 {
        assert_eq!(below(&world), [""; 0]);
        let due = world.pool.next_timeout().expect("asked again");
        assert_eq!(due.since(world.now), Duration::from_millis(10));
        world.tick();
    }
    world.tick();
    assert_eq!(below(&world), ["Metadata flush 0+0"]);
    assert_eq!(world.queue[0].area, Area::Metadata);
}
