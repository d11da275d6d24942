//! The pool against a slow oracle (a list of what is lent), and its refusals.
//!
//! Mutants these tests catch: a released chunk lent twice; a chunk of a wrong size or place; a count that loses a
//! holder; a slab that does not come back to other classes; a row of slabs given back in part; a limit overrun; bytes that stand
//! in and are changed, or outlive the buffer.

use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn range(pool: &mut Pool, slice: BufferSlice) -> (usize, usize) {
    let start = pool.address(slice) as usize;
    (start, start + slice.length as usize)
}

#[test]
fn buffers_are_aligned_and_apart() {
    let mut pool = Pool::new(8 * MIB).unwrap();
    let lengths = [
        0,
        1,
        4096,
        4097,
        16384,
        65536,
        65537,
        262144,
        1 << 20,
        (1 << 20) + 1,
    ];
    let slices: Vec<_> = lengths
        .iter()
        .map(|length| pool.allocate(*length).unwrap())
        .collect();
    let mut ranges: Vec<_> = slices.iter().map(|slice| range(&mut pool, *slice)).collect();
    ranges.sort();
    assert!(ranges.iter().all(|(start, _)| start % 4096 == 0));
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    for (slice, length) in slices.iter().zip(lengths) {
        assert_eq!(pool.bytes(*slice).len(), length as usize);
        pool.release(slice.buffer);
    }
    assert_eq!((pool.in_use_bytes(), pool.buffers()), (0, 0));
}

#[test]
fn the_last_holder_gives_it_back() {
    let mut pool = Pool::new(MIB).unwrap();
    let slice = pool.allocate(4096).unwrap();
    pool.retain(slice.buffer);
    pool.release(slice.buffer);
    assert_eq!(pool.buffers(), 1);
    pool.bytes_mut(slice).fill(7);
    pool.release(slice.buffer);
    assert_eq!(pool.buffers(), 0);
}

#[test]
#[should_panic(expected = "is not lent")]
fn releasing_twice_is_our_own_broken_invariant() {
    let mut pool = Pool::new(MIB).unwrap();
    let keep = pool.allocate(4096).unwrap();
    let slice = pool.allocate(4096).unwrap();
    assert_ne!(keep.buffer, slice.buffer);
    pool.release(slice.buffer);
    pool.release(slice.buffer);
}

#[test]
#[should_panic(expected = "slice")]
fn a_slice_beyond_its_buffer_is_our_own_broken_invariant() {
    let mut pool = Pool::new(MIB).unwrap();
    let mut slice = pool.allocate(4096).unwrap();
    slice.length = 8192;
    pool.bytes(slice);
}

#[test]
fn an_exhausted_pool_says_none_and_recovers() {
    let mut pool = Pool::new(2 * MIB).unwrap();
    let lent: Vec<_> = std::iter::from_fn(|| pool.allocate(4096)).collect();
    assert_eq!(lent.len(), 512);
    assert_eq!(pool.in_use_bytes(), pool.limit_bytes());
    pool.release(lent[7].buffer);
    assert_eq!(
        pool.allocate(4096),
        Some(lent[7]),
        "one that came back is lent again"
    );
    lent.iter().for_each(|slice| pool.release(slice.buffer));
    let row = pool.allocate(2 << 20).expect("all slabs are free for a row");
    assert!(pool.allocate(1).is_none());
    pool.release(row.buffer);
    assert!(pool.allocate(1).is_some());
}

#[test]
fn what_stands_in_reads_as_if_it_had_been_copied() {
    const LENGTH: usize = 16 << 10;
    let mut pool = Pool::new(4 * MIB).unwrap();
    let mut elsewhere: Vec<u8> = (0..4 * LENGTH).map(|at| (at / 7) as u8).collect();
    let expected = elsewhere.clone();
    let at = |part: usize| part * LENGTH..(part + 1) * LENGTH;
    let slices: Vec<_> = (0..4)
        .map(|part| {
            let slice = pool.allocate(LENGTH as u32).unwrap();
            pool.bytes_mut(slice).fill(0xee);
            // SAFETY: the pool is told before the bytes are changed.
            assert!(unsafe { pool.stand_in(slice, elsewhere[at(part)].as_ptr()) });
            slice
        })
        .collect();
    // The second is changed elsewhere, the last bytes of the third too; the fourth in the buffer.
    pool.own_bytes_of(elsewhere[LENGTH..].as_ptr(), LENGTH);
    elsewhere[at(1)].fill(1);
    pool.own_bytes_of(elsewhere[3 * LENGTH - 1..].as_ptr(), 1);
    elsewhere[3 * LENGTH - 1] = 2;
    pool.bytes_mut(slices[3])[0] = 3;
    for part in 0..3 {
        assert!(pool.bytes(slices[part]) == &expected[at(part)], "part {part}");
    }
    let middle = slices[0].part(100, 200);
    assert_eq!(pool.bytes(middle), &expected[100..300]);
    assert_eq!(pool.bytes(slices[3])[0], 3);
    assert!(pool.bytes(slices[3])[1..] == expected[3 * LENGTH + 1..]);
    slices.iter().for_each(|slice| pool.release(slice.buffer));
    let again = pool.allocate(LENGTH as u32).unwrap();
    assert_eq!(again, slices[0], "the same chunk");
    assert_eq!(pool.bytes(again)[0], 0xee, "nothing stands for it any more");
}

#[test]
fn no_more_stand_in_than_are_searched_fast() {
    let mut pool = Pool::new(64 * MIB).unwrap();
    let mut elsewhere = vec![7; 4096];
    let mut slices = Vec::new();
    let place = elsewhere.as_ptr();
    let mut stand_in = |pool: &mut Pool| {
        slices.push(pool.allocate(4096).unwrap());
        // SAFETY: the bytes do not change before they were copied.
        unsafe { pool.stand_in(slices[slices.len() - 1], place) }
    };
    let all = crate::stand_in::COUNT_MAX;
    assert_eq!((0..all + 10).filter(|_| stand_in(&mut pool)).count(), all);
    // Given back from the middle: the others are found all the same, and there is room for as many.
    let mut kept = Vec::new();
    for (index, slice) in slices.into_iter().enumerate() {
        match index % 3 {
            0 => pool.release(slice.buffer),
            _ => kept.push(slice),
        }
    }
    let hold = |pool: &Pool, value: u8| {
        let mut looked_at = kept.iter().take(all / 2);
        looked_at.all(|slice| pool.bytes(*slice).iter().all(|byte| *byte == value))
    };
    assert!(hold(&pool, 7));
    pool.own_bytes_of(elsewhere.as_ptr(), 1);
    elsewhere.fill(8);
    assert!(hold(&pool, 7), "copied before they changed");
}

#[test]
fn a_larger_chunk_is_lent_when_no_slab_is_free() {
    let mut pool = Pool::new(MIB).unwrap();
    let large = pool.allocate(65536).unwrap();
    let small = pool.allocate(4096).expect("a 64 KiB chunk serves");
    assert_eq!(pool.in_use_bytes(), 2 * 65536);
    pool.release(large.buffer);
    pool.release(small.buffer);
    assert_eq!(pool.in_use_bytes(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u32),
    Retain(usize),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![1u32..5000, 1u32..300_000, 900_000u32..3_000_000].prop_map(Step::Allocate),
        1 => any::<usize>().prop_map(Step::Retain),
        3 => any::<usize>().prop_map(Step::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Every buffer keeps the byte it was filled with until its last holder releases it.
    #[test]
    fn lent_bytes_are_left_alone(steps in proptest::collection::vec(step(), 1..200)) {
        let mut pool = Pool::new(6 * MIB).unwrap();
        let mut held: Vec<(BufferSlice, u32, u8)> = Vec::new();
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Allocate(length) => if let Some(slice) = pool.allocate(length) {
                    pool.bytes_mut(slice).iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = index as u8);
                    held.push((slice, 1, index as u8));
                },
                Step::Retain(which) if !held.is_empty() => {
                    let which = which % held.len();
                    pool.retain(held[which].0.buffer);
                    held[which].1 += 1;
                }
                Step::Release(which) if !held.is_empty() => {
                    let which = which % held.len();
                    let (slice, count, fill) = held[which];
                    prop_assert!(pool.bytes(slice).iter().step_by(PAGE_BYTES).all(|byte| *byte == fill));
                    pool.release(slice.buffer);
                    held[which].1 = count - 1;
                    held.retain(|(_, count, _)| *count > 0);
                }
                _ => {}
            }
            prop_assert_eq!(pool.buffers(), held.len() as u64);
            prop_assert!(pool.in_use_bytes() <= pool.limit_bytes());
        }
        for (slice, count, _) in held {
            (0..count).for_each(|_| pool.release(slice.buffer));
        }
        prop_assert_eq!(pool.in_use_bytes(), 0);
        prop_assert!(pool.allocate(6 << 20).is_some(), "every slab came back");
    }
}
