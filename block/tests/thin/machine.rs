//! Scripts: one behaviour each, seen from above and below.

use super::script::*;
use super::world::{World, small_config, volume};
use block::thin::{PoolConfig, PoolOutput, Usage};
use block::{BlockRange, Blocks, Memory, Operation, Status};

#[test]
fn a_first_write_is_mapped_durably_then_written_then_acknowledged() {
    let mut world = with_volume();
    write(&mut world, 7, 5, 2);
    assert_eq!(below(&world), ["Metadata write! 17+1"]);
    world.execute(0);
    assert_eq!(
        below(&world),
        ["Data write 1+2"],
        "block 5 is the second of its extent; the extent is the first"
    );
    assert_eq!(world.said, []);
    world.execute(0);
    assert_eq!(world.take_said(), [done(7)]);
    assert_eq!(world.pool.mapping(volume(1)), [(1, 0)]);
    write(&mut world, 8, 4, 1);
    assert_eq!(below(&world), ["Data write 0+1"], "mapped: straight down");
}

#[test]
fn writes_to_one_new_extent_share_it() {
    let mut world = with_volume();
    for id in 0..4 {
        write(&mut world, id, id, 1);
    }
    assert_eq!(below(&world), ["Metadata write! 17+1"]);
    world.execute(0);
    assert_eq!(
        below(&world),
        [
            "Data write 0+1",
            "Data write 1+1",
            "Data write 2+1",
            "Data write 3+1"
        ]
    );
    assert_eq!(world.pool.usage().used, 1);
}

#[test]
fn while_a_journal_block_is_in_flight_the_next_one_collects() {
    let mut world = with_volume();
    write(&mut world, 1, 0, 1);
    write(&mut world, 2, 4, 1);
    create(&mut world, 2, 10);
    write(&mut world, 3, 8, 8);
    assert_eq!(below(&world), ["Metadata write! 17+1"]);
    world.execute(0);
    assert_eq!(
        below(&world),
        ["Data write 0+1", "Metadata write! 18+1"],
        "everything else in one block"
    );
    world.execute(1);
    assert_eq!(below(&world).len(), 4);
    assert_eq!(world.pool.volumes().len(), 2);
}

#[test]
fn what_was_never_written_reads_as_zeroes_and_costs_nothing() {
    let mut world = with_volume();
    let buffer = read(&mut world, 1, 0, 20);
    assert_eq!(below(&world), [""; 0]);
    assert_eq!(world.take_said(), [done(1)]);
    assert!(world.memory.bytes(buffer).iter().all(|&byte| byte == 0));
    for (id, operation) in [
        (2, Operation::Deallocate),
        (
            3,
            Operation::WriteZeroes {
                deallocate: false,
                durable: true,
            },
        ),
        (
            4,
            Operation::WriteZeroes {
                deallocate: true,
                durable: false,
            },
        ),
    ] {
        submit(&mut world, id, operation, 0, 20);
        assert_eq!((below(&world).len(), world.take_said()), (0, vec![done(id)]));
    }
    assert_eq!(
        world.pool.usage(),
        Usage {
            total: 8,
            used: 0,
            dirty: 0,
            clean: 8
        }
    );
}

#[test]
fn a_read_over_written_and_unwritten_space_is_both() {
    let mut world = written(9, 4, 1);
    assert_eq!(read_now(&mut world, 0, 20)[..6], [0, 0, 0, 0, 9, 0]);
}

#[test]
fn partial_deallocation_writes_zeroes_and_whole_extents_are_given_back() {
    let mut world = written(5, 0, 12);
    submit(&mut world, 6, Operation::Deallocate, 2, 9);
    assert_eq!(
        below(&world),
        ["Data unmap 2+2", "Data unmap 8+3", "Metadata write! 18+1"]
    );
    world.settle();
    assert_eq!(world.take_said(), [done(6)]);
    assert_eq!(read_now(&mut world, 0, 12), [5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(world.pool.mapping(volume(1)), [(0, 0), (2, 2)]);
    submit(
        &mut world,
        7,
        Operation::WriteZeroes {
            deallocate: false,
            durable: true,
        },
        0,
        4,
    );
    assert_eq!(below(&world), ["Data zero! 0+4"], "not asked to give it back");
}

#[test]
fn the_last_extent_is_whole_when_all_that_the_volume_has_of_it_is() {
    let mut world = with_volume_of(small_config(), 6);
    write(&mut world, 1, 4, 2);
    world.settle();
    submit(&mut world, 2, Operation::Deallocate, 4, 2);
    assert_eq!(below(&world), ["Metadata write! 18+1"]);
}

#[test]
fn an_extent_is_given_back_when_what_is_in_flight_has_ended_and_new_requests_wait() {
    let mut world = written(5, 0, 4);
    write(&mut world, 6, 1, 1);
    submit(&mut world, 7, Operation::Deallocate, 0, 4);
    let waiting = read(&mut world, 8, 0, 4);
    write(&mut world, 9, 2, 1);
    assert_eq!(below(&world), ["Data write 1+1"]);
    world.execute(0);
    assert_eq!(world.take_said(), [done(6)]);
    assert_eq!(below(&world), ["Metadata write! 18+1"]);
    world.execute(0);
    assert_eq!(
        world.take_said(),
        [done(7), done(8)],
        "the read finds nothing mapped"
    );
    assert!(world.memory.bytes(waiting).iter().all(|&byte| byte == 0));
    assert_eq!(
        below(&world),
        ["Data unmap 0+4", "Metadata write! 19+1"],
        "the write wants a fresh extent"
    );
    world.execute(1);
    assert_eq!(
        below(&world),
        ["Data unmap 0+4", "Data write 6+1"],
        "another one: the old is not zero yet"
    );
}

#[test]
fn freed_extents_are_zeroed_in_steps_flushed_recorded_and_then_reused() {
    let config = PoolConfig {
        extent: Blocks(5000),
        data: Blocks(5000),
        ..small_config()
    };
    let mut world = with_volume_of(config, 5000);
    write(&mut world, 1, 4999, 1);
    world.settle();
    submit(&mut world, 2, Operation::Deallocate, 0, 5000);
    world.execute(0);
    assert_eq!(
        world.pool.usage(),
        Usage {
            total: 1,
            used: 0,
            dirty: 1,
            clean: 0
        }
    );
    write(&mut world, 3, 0, 1);
    for step in [
        "Data unmap 0+2048",
        "Data unmap 2048+2048",
        "Data unmap 4096+904",
        "Data flush 0+0",
    ] {
        assert_eq!(below(&world), [step]);
        world.execute(0);
    }
    assert_eq!(below(&world), ["Metadata write! 19+1"], "recorded as clean");
    world.execute(0);
    assert_eq!(
        below(&world),
        ["Metadata write! 20+1"],
        "and only then given to the write that waits"
    );
    world.execute(0);
    assert_eq!(below(&world)[0], "Data write 0+1");
}

#[test]
fn without_space_first_writes_end_and_everything_else_goes_on() {
    let mut world = with_volume_of(small_config(), 40);
    write(&mut world, 1, 0, 32);
    world.settle();
    assert_eq!(world.take_said()[1..], [] as [PoolOutput; 0]);
    write(&mut world, 2, 30, 4);
    world.settle();
    assert_eq!(world.take_said(), [ended(2, Status::OutOfSpace)]);
    assert_eq!(
        read_now(&mut world, 28, 6),
        [1, 1, 2, 2, 0, 0],
        "the mapped part was written"
    );
    submit(&mut world, 3, Operation::Deallocate, 0, 4);
    write(&mut world, 4, 36, 1);
    world.settle();
    assert_eq!(
        world.take_said(),
        [done(3), done(4)],
        "space that is about to be clean is waited for"
    );
}

#[test]
fn a_deletion_waits_for_requests_and_refuses_new_ones() {
    let mut world = written(5, 0, 4);
    write(&mut world, 6, 0, 1);
    delete(&mut world, 1);
    write(&mut world, 7, 1, 1);
    assert_eq!(world.take_said(), [ended(7, Status::Invalid)]);
    assert_eq!(below(&world), ["Data write 0+1"]);
    world.execute(0);
    assert_eq!(below(&world), ["Metadata write! 18+1"]);
    world.execute(0);
    let deleted = PoolOutput::VolumeDeleted {
        volume: volume(1),
        status: Status::Success,
    };
    assert_eq!(world.take_said(), [done(6), deleted]);
    assert_eq!(
        world.pool.usage(),
        Usage {
            total: 8,
            used: 0,
            dirty: 1,
            clean: 7
        }
    );
    world.settle();
    assert_eq!(world.pool.usage().clean, 8);
    assert!(world.unmapped_is_zero());
}

#[test]
fn verbs_answer_as_documented() {
    let mut world = with_volume();
    let largest = u64::from(u32::MAX) * 4;
    for (number, size, status) in [
        (1, 20, Status::Success),
        (1, 21, Status::Invalid),
        (2, 0, Status::Invalid),
        (2, largest + 1, Status::Invalid),
        (2, u64::MAX, Status::Invalid),
        (2, largest, Status::Success),
    ] {
        create(&mut world, number, size);
        world.settle();
        let answer = PoolOutput::VolumeCreated {
            volume: volume(number),
            status,
        };
        assert_eq!(world.take_said(), [answer], "create {number} {size}");
    }
    for (number, size, status) in [
        (3, 20, Status::Invalid),
        (1, 19, Status::Invalid),
        (1, 20, Status::Success),
        (1, 24, Status::Success),
        (1, largest + 1, Status::Invalid),
    ] {
        world
            .pool
            .resize_volume(world.now, volume(number), Blocks(size), &mut world.memory);
        world.settle();
        world.drain();
        world.settle();
        let answer = PoolOutput::VolumeResized {
            volume: volume(number),
            status,
        };
        assert_eq!(world.take_said(), [answer], "resize {number} {size}");
    }
    delete(&mut world, 3);
    assert_eq!(
        world.take_said(),
        [PoolOutput::VolumeDeleted {
            volume: volume(3),
            status: Status::Success
        }]
    );
    create(&mut world, 3, 5);
    create(&mut world, 3, 5);
    assert_eq!(
        world.take_said(),
        [PoolOutput::VolumeCreated {
            volume: volume(3),
            status: Status::Unavailable
        }]
    );
}

#[test]
fn the_map_refuses_more_volumes_than_a_checkpoint_holds() {
    let mut world = World::opened(small_config());
    let room = 7 * 128 - 8;
    for number in 0..room + 1 {
        let name = block::thin::VolumeId(u128::from(number as u32).to_le_bytes());
        world
            .pool
            .create_volume(world.now, name, Blocks(1), &mut world.memory);
        world.drain();
    }
    world.settle();
    let said = world.take_said();
    let refused = |output: &&PoolOutput| {
        matches!(
            output,
            PoolOutput::VolumeCreated {
                status: Status::OutOfSpace,
                ..
            }
        )
    };
    assert_eq!(said.iter().filter(refused).count(), 1);
    world.reopen().expect("the checkpoint holds them all");
    assert_eq!(world.pool.volumes().len(), room);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut world = with_volume();
    let payload = buffer(&mut world, 1);
    let (reading, writing) = (
        Operation::Read { buffer: payload },
        Operation::Write {
            buffer: payload,
            durable: true,
        },
    );
    for (number, operation, range, status) in [
        (2, reading, BlockRange::new(0, 1), Status::Invalid),
        (2, Operation::Flush, BlockRange::default(), Status::Invalid),
        (1, reading, BlockRange::new(20, 1), Status::OutOfRange),
        (1, writing, BlockRange::new(u64::MAX, 1), Status::OutOfRange),
        (
            1,
            Operation::Deallocate,
            BlockRange::new(19, 2),
            Status::OutOfRange,
        ),
        (
            1,
            Operation::Deallocate,
            BlockRange::new(1, u64::MAX),
            Status::OutOfRange,
        ),
        (1, writing, BlockRange::new(0, 2), Status::Invalid),
        (1, reading, BlockRange::new(0, 0), Status::Invalid),
        (1, Operation::Deallocate, BlockRange::new(20, 0), Status::Success),
    ] {
        submit_to(&mut world, number, 1, operation, range);
        assert_eq!(world.take_said(), [ended(1, status)], "{operation:?} {range:?}");
    }
    assert_eq!(below(&world), [""; 0]);
}

#[test]
fn a_flush_goes_to_the_data() {
    let mut world = with_volume();
    submit(&mut world, 1, Operation::Flush, 0, 0);
    assert_eq!(below(&world), ["Data flush 0+0"]);
    let flush = world.queue.remove(0);
    world.answer(flush, Status::MediaError);
    assert_eq!(world.take_said(), [ended(1, Status::MediaError)]);
}
