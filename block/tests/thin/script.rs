//! Words for scripts.

use super::world::{World, small_config, volume};
use block::thin::{PoolConfig, PoolOutput};
use block::{BlockRange, Blocks, BufferSlice, Memory, Operation, Request, RequestId, Status};

/// A pool with volume 1 of 20 blocks (five extents of the eight), everything answered.
pub(crate) fn with_volume() -> World {
    with_volume_of(small_config(), 20)
}

pub(crate) fn with_volume_of(config: PoolConfig, size: u64) -> World {
    let mut world = World::opened(config);
    create(&mut world, 1, size);
    world.settle();
    assert_eq!(
        world.take_said(),
        [PoolOutput::VolumeCreated {
            volume: volume(1),
            status: Status::Success
        }]
    );
    world
}

pub(crate) fn create(world: &mut World, number: u8, size: u64) {
    world
        .pool
        .create_volume(world.now, volume(number), Blocks(size), &mut world.memory);
    world.drain();
}

pub(crate) fn delete(world: &mut World, number: u8) {
    world
        .pool
        .delete_volume(world.now, volume(number), &mut world.memory);
    world.drain();
}

pub(crate) fn close(world: &mut World) {
    world.pool.close(world.now, &mut world.memory);
    world.drain();
}

pub(crate) fn submit(world: &mut World, id: u64, operation: Operation, start: u64, blocks: u64) {
    submit_to(world, 1, id, operation, BlockRange::new(start, blocks));
}

pub(crate) fn submit_to(world: &mut World, number: u8, id: u64, operation: Operation, range: BlockRange) {
    let request = Request { operation, range };
    world.pool.submit(
        world.now,
        RequestId(id),
        volume(number),
        request,
        &mut world.memory,
    );
    world.drain();
}

pub(crate) fn buffer(world: &mut World, blocks: u64) -> BufferSlice {
    world
        .memory
        .allocate(Blocks(blocks).bytes() as u32)
        .expect("memory")
}

pub(crate) fn write(world: &mut World, id: u64, start: u64, blocks: u64) {
    let buffer = buffer(world, blocks);
    world.memory.bytes_mut(buffer).fill(id as u8);
    submit(
        world,
        id,
        Operation::Write {
            buffer,
            durable: false,
        },
        start,
        blocks,
    );
}

pub(crate) fn read(world: &mut World, id: u64, start: u64, blocks: u64) -> BufferSlice {
    let buffer = buffer(world, blocks);
    submit(world, id, Operation::Read { buffer }, start, blocks);
    buffer
}

/// The first byte of each block.
pub(crate) fn read_now(world: &mut World, start: u64, blocks: u64) -> Vec<u8> {
    let buffer = read(world, 999, start, blocks);
    world.settle_until(|output| *output == done(999));
    assert_eq!(world.said.pop(), Some(done(999)));
    world
        .memory
        .bytes(buffer)
        .chunks_exact(4096)
        .map(|block| block[0])
        .collect()
}

pub(crate) fn written(id: u64, start: u64, blocks: u64) -> World {
    let mut world = with_volume();
    write(&mut world, id, start, blocks);
    world.settle();
    assert_eq!(world.take_said(), [done(id)]);
    world
}

pub(crate) fn done(id: u64) -> PoolOutput {
    ended(id, Status::Success)
}

pub(crate) fn ended(id: u64, status: Status) -> PoolOutput {
    PoolOutput::Complete {
        id: RequestId(id),
        status,
    }
}

/// What is below: letter of the area, letter of the operation, start, blocks.
pub(crate) fn below(world: &World) -> Vec<String> {
    let text = |operation: Operation| match operation {
        Operation::Read { .. } => "read",
        Operation::Write { durable: true, .. } => "write!",
        Operation::Write { .. } => "write",
        Operation::Flush => "flush",
        Operation::WriteZeroes {
            deallocate: true,
            durable: true,
        } => "unmap!",
        Operation::WriteZeroes { deallocate: true, .. } => "unmap",
        Operation::WriteZeroes { durable: true, .. } => "zero!",
        Operation::WriteZeroes { .. } => "zero",
        Operation::Deallocate => "deallocate",
    };
    let line = |area, request: Request| {
        let (start, length) = (request.range.start.0, request.range.length.0);
        format!("{area:?} {} {start}+{length}", text(request.operation))
    };
    world
        .queue
        .iter()
        .map(|below| line(below.area, below.request))
        .collect()
}
