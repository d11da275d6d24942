//! The metadata area of a thin pool as somebody left it: opening it ends in order, whatever it holds; a map that is accepted is
//! sound, and what the pool writes from it can be opened again.
//!
//! The input is a list of changes to a pool that has lived a little; checksums of blocks that were changed are made right if it says so.

use super::seal;
use crate::input::Input;
use crate::machines::pool_world::PoolWorld;
use block::thin::{Failure, PoolOutput, VolumeId};
use block::{BlockRange, Blocks, Memory, Operation, Request, RequestId, Status};

const BLOCK: usize = 4096;
const SECTOR: usize = 512;
const TRAILER: usize = 16;
const SLOT_BLOCKS: u64 = 8;
const HEADER_CHECKSUM_AT: usize = 12;
const CHECKPOINT_HEADER_BYTES: usize = 128;
const RECORD_COUNT_AT: usize = 88;
const BODY_CHECKSUM_AT: usize = 96;
const CHANGES_MAX: u32 = 16;

/// One input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = lived(input.below(3));
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        change(&mut world, &mut input);
    }
    if world.open().is_err() {
        assert_eq!(world.memory.held(), 0, "who could not open holds nothing");
        return;
    }
    assert_eq!(world.pool.audit(), Ok(()), "a map that was accepted is sound");
    world.settle();
    for usage in world.pool.volumes() {
        assert!(usage.mapped <= world.pool.usage().total, "{usage:?}");
        let mapped = world.pool.mapping(usage.volume).into_iter();
        for (_, extent) in mapped {
            assert!(
                u64::from(extent) < world.pool.usage().total,
                "extent {extent} is not of this pool"
            );
        }
        if usage.size.0 > 0 {
            write(&mut world, usage.volume, usage.size.0 - 1);
        }
    }
    world.said.clear();
    world.pool.close(world.now, &mut world.memory);
    world.drain();
    world.settle();
    assert_eq!(world.said, [PoolOutput::Closed]);
    assert_eq!(world.memory.held(), 0, "who has closed holds nothing");
    // Damage that lay where the first owner did not look may lie where the next one does: it cannot know that nothing of his was there.
    let again = world.open();
    assert!(
        matches!(again, Ok(()) | Err(Failure::JournalCorrupt { .. })),
        "what a pool has written it can open: {again:?}"
    );
}

/// A pool that has volumes and has been opened a few times.
fn lived(openings: usize) -> PoolWorld {
    let mut world = PoolWorld::formatted();
    for number in 1..4 {
        let volume = VolumeId([number; 16]);
        world
            .pool
            .create_volume(world.now, volume, Blocks(12), &mut world.memory);
        world.drain();
        world.settle();
        write(&mut world, volume, 4);
    }
    for _ in 0..openings {
        world.open().expect("it was not changed yet");
        write(&mut world, VolumeId([1; 16]), 9);
    }
    world
}

fn write(world: &mut PoolWorld, volume: VolumeId, block: u64) {
    let buffer = world.memory.filled(BLOCK as u32, 7);
    let request = Request {
        operation: Operation::Write {
            buffer,
            durable: false,
        },
        range: BlockRange::new(block, 1),
    };
    world
        .pool
        .submit(world.now, RequestId(1), volume, request, &mut world.memory);
    world.drain();
    world.settle();
    world.memory.release(buffer.buffer);
    let ended = |said: &PoolOutput| match said {
        PoolOutput::Complete { status, .. } => Some(*status),
        _ => None,
    };
    let status = world.said.iter().find_map(ended).expect("it ends");
    assert!(
        matches!(status, Status::Success | Status::OutOfSpace | Status::OutOfRange),
        "{status:?}"
    );
    world.said.clear();
}

fn change(world: &mut PoolWorld, input: &mut Input<'_>) {
    let blocks = world.config.metadata.0;
    let (block, how) = (input.byte() as u64 % blocks, input.byte());
    let (offset, length) = (input.half() as usize % BLOCK, 1 + input.below(48));
    match how % 4 {
        // Another block of this pool, as it was.
        0 => {
            let other = world.metadata.block(input.byte() as u64 % blocks);
            world.metadata.put_block(block, &other, true);
        }
        1 => world.metadata.put_block(block, &[0; BLOCK], true),
        _ => world.metadata.patch(block, offset, input.bytes(length)),
    }
    if how & 4 == 0 {
        return;
    }
    if block >= 2 * SLOT_BLOCKS {
        seal_journal(world, block);
    } else {
        seal_checkpoint(world, block / SLOT_BLOCKS * SLOT_BLOCKS);
    }
}

fn seal_checkpoint(world: &mut PoolWorld, slot: u64) {
    let mut header = world.metadata.block(slot);
    let count = u64::from_le_bytes(*header[RECORD_COUNT_AT..].first_chunk().expect("eight bytes"));
    let blocks = count.div_ceil(BLOCK as u64 / 32).min(SLOT_BLOCKS - 1);
    let body: Vec<u8> = (1..=blocks)
        .flat_map(|block| world.metadata.block(slot + block))
        .collect();
    header[BODY_CHECKSUM_AT..BODY_CHECKSUM_AT + 4].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    seal(&mut header, HEADER_CHECKSUM_AT, CHECKPOINT_HEADER_BYTES);
    world.metadata.put_block(slot, &header, true);
}

fn seal_journal(world: &mut PoolWorld, block: u64) {
    let mut bytes = world.metadata.block(block);
    let sectors = || (0..BLOCK).step_by(SECTOR);
    let mut payload: Vec<u8> = sectors()
        .flat_map(|at| bytes[at..at + SECTOR - TRAILER].to_vec())
        .collect();
    let length = payload.len();
    seal(&mut payload, HEADER_CHECKSUM_AT, length);
    for (at, part) in sectors().zip(payload.chunks(SECTOR - TRAILER)) {
        bytes[at..at + SECTOR - TRAILER].copy_from_slice(part);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&world.config.pool), &bytes[at..at + SECTOR - 4]);
        bytes[at + SECTOR - 4..at + SECTOR].copy_from_slice(&sum.to_le_bytes());
    }
    world.metadata.put_block(block, &bytes, true);
}
