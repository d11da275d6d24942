//! A leg's superblock and bitmap blocks: damage is seen, what is read can be written, the parts of a leg never overlap.

use super::{is_sealed, seal};
use crate::input::Input;
use block::Blocks;
use block::leg_format::{BitmapIdentity, FormatProblem, LegGeometry, Superblock};

const BLOCK: usize = 4096;
const CHECKSUM_AT: usize = 12;

/// One input: how, then the beginning of a block.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, damage) = (input.byte(), input.half());
    let head = input.rest();
    let mut block = [0; BLOCK];
    let length = head.len().min(BLOCK);
    block[..length].copy_from_slice(&head[..length]);
    if mode & 1 != 0 {
        seal(&mut block, CHECKSUM_AT, BLOCK);
    }
    superblock(&block, damage);
    bitmap(&block, damage);
    geometry(Input::new(head).long());
}

fn damaged(block: &[u8; BLOCK], damage: u16) -> [u8; BLOCK] {
    let mut damaged = *block;
    damaged[usize::from(damage >> 3) % BLOCK] ^= 1 << (damage & 7);
    damaged
}

fn superblock(block: &[u8; BLOCK], damage: u16) {
    let parsed = Superblock::parse(block);
    let blank = [0; BLOCK];
    assert_eq!(parsed == Err(FormatProblem::Blank), *block == blank);
    let damaged = damaged(block, damage);
    let Ok(superblock) = parsed else {
        // What is wrong does not become right beside a blank.
        assert_eq!(
            Superblock::parse_copies([block, &blank]),
            Superblock::parse_copies([&blank, block])
        );
        return;
    };
    assert!(is_sealed(block, CHECKSUM_AT, BLOCK), "its checksum is wrong");
    assert!(Superblock::parse(&damaged).is_err(), "bit {damage} is damaged");
    assert_eq!(Superblock::parse_copies([block, &damaged]), Ok(superblock));
    assert_eq!(Superblock::parse_copies([&damaged, block]), Ok(superblock));
    let mut written = blank;
    superblock.write_to(&mut written);
    assert_eq!(Superblock::parse(&written), Ok(superblock));
    assert_eq!(superblock.matches(&superblock), Ok(()));
}

fn bitmap(block: &[u8; BLOCK], damage: u16) {
    // Whose it is stands in the block: with its own identity it may be read, with another it must not.
    let mut input = Input::new(&block[16..]);
    let group = std::array::from_fn(|_| input.byte());
    let (_sequence, index) = (input.long(), input.long() as u32);
    let identity = BitmapIdentity {
        group,
        index: index as usize,
        region: Blocks(input.long()),
    };
    let Ok(parsed) = identity.parse(block) else { return };
    assert!(is_sealed(block, CHECKSUM_AT, BLOCK), "its checksum is wrong");
    assert!(
        identity.parse(&damaged(block, damage)).is_err(),
        "bit {damage} is damaged"
    );
    let other = BitmapIdentity {
        index: identity.index ^ 1,
        ..identity
    };
    assert_eq!(other.parse(block), Err(FormatProblem::OtherIdentity));
    let mut written = [0; BLOCK];
    identity.write_to(parsed.sequence, &parsed.bits, &mut written);
    assert_eq!(identity.parse(&written), Ok(parsed));
}

fn geometry(length: u64) {
    let Some(geometry) = LegGeometry::for_length(Blocks(length)) else {
        return;
    };
    let (metadata, data) = (geometry.metadata, geometry.data);
    assert!(metadata.end() <= data.start && data.end().0 <= length && data.length.0 > 0);
    let regions = geometry.regions();
    let last = geometry.bitmap_place(geometry.bitmap_blocks() - 1, 1);
    assert!(
        last.end() <= metadata.start,
        "the bitmap lies before the metadata"
    );
    assert_eq!(geometry.region_range(0).start, metadata.start);
    assert_eq!(geometry.region_range(regions - 1).end().0, length);
    assert_eq!(geometry.regions_of(data).end, regions);
}
