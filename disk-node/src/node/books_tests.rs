//! A disk's books: who gets which extents, and what is durable when.
//!
//! Mutants these tests catch: an extent given twice; a gap missed; a change taken for durable that was made while the table
//! was being written; a dropped leg's space given away early; only one slot written.

use super::*;
use cluster::DiskId;
use proptest::prelude::*;
use uuid::Uuid;

const EXTENTS: u64 = 20;

fn books() -> Books {
    Books::fresh(Superblock {
        disk: DiskId(Uuid::from_u128(1)),
        node: None,
        extent_bytes: 4 << 20,
        extents: EXTENTS,
    })
}

fn name(number: u32) -> LegId {
    LegId(Uuid::from_u128(u128::from(number)))
}

fn commit(books: &mut Books) -> Option<u64> {
    let commit = books.begin_commit()?;
    books.commit_ended(Ok(()));
    Some(commit.offset_bytes)
}

fn drop_leg(books: &mut Books, number: u32) {
    let change = books.change();
    books.legs.get_mut(&name(number)).unwrap().phase = Phase::Dropped(change);
}

#[test]
fn a_row_is_preferred_and_gaps_are_used() {
    let mut books = books();
    (1..=5).for_each(|number| books.carve(name(number), number, 4).unwrap());
    for number in [2, 4] {
        drop_leg(&mut books, number);
    }
    assert_eq!(
        books.carve(name(6), 6, 1),
        Err(CarveRefusal::NoSpace(0)),
        "not free before it is durable"
    );
    commit(&mut books);
    assert!(books.forget_dropped());
    assert_eq!(books.free_extents(), 8);
    books.carve(name(7), 7, 3).unwrap();
    assert_eq!(books.legs[&name(7)].record.runs, [Run { start: 4, count: 3 }]);
    books.carve(name(8), 8, 5).unwrap();
    let pieces = [Run { start: 7, count: 1 }, Run { start: 12, count: 4 }];
    assert_eq!(books.legs[&name(8)].record.runs, pieces);
    assert_eq!(books.carve(name(9), 9, 1), Err(CarveRefusal::NoSpace(0)));
}

#[test]
fn every_table_is_written_to_both_slots_and_then_there_is_rest() {
    let mut books = books();
    assert_eq!(commit(&mut books), None, "nothing to write");
    books.carve(name(1), 1, 1).unwrap();
    let first = commit(&mut books).unwrap();
    let second = commit(&mut books).unwrap();
    assert_ne!(first, second);
    assert_eq!(commit(&mut books), None);
}

#[test]
fn what_changes_during_a_write_goes_with_the_next() {
    let mut books = books();
    books.carve(name(1), 1, 1).unwrap();
    let first = books.begin_commit().unwrap();
    assert!(books.begin_commit().is_none(), "one at a time");
    books.persist(1, ReservationState::default());
    assert!(books.commit_ended(Ok(())).is_empty(), "it was not in that table");
    let second = books.begin_commit().unwrap();
    assert_ne!(first.offset_bytes, second.offset_bytes);
    assert_eq!(books.commit_ended(Ok(())), [1]);
}

#[test]
fn a_leg_dropped_during_a_write_keeps_its_space_until_the_next() {
    let mut books = books();
    books.carve(name(1), 1, 1).unwrap();
    books.begin_commit().unwrap();
    drop_leg(&mut books, 1);
    books.commit_ended(Ok(()));
    assert!(
        !books.forget_dropped() && books.free_extents() == EXTENTS - 1,
        "that table still has it"
    );
    commit(&mut books);
    assert!(books.forget_dropped() && books.free_extents() == EXTENTS);
}

#[test]
fn a_write_that_fails_closes_the_books() {
    let mut books = books();
    books.carve(name(1), 1, 1).unwrap();
    books.begin_commit().unwrap();
    books.persist(1, ReservationState::default());
    assert_eq!(
        books.commit_ended(Err("media error".to_owned())),
        [1],
        "never durable"
    );
    assert!(books.begin_commit().is_none() && books.fault.is_some());
    let Phase::Carved(change) = books.legs[&name(1)].phase else {
        panic!("carved")
    };
    assert!(!books.is_durable(change));
}

proptest! {
    /// Whatever comes and goes, no extent has two legs and none is lost.
    #[test]
    fn extents_are_given_once(steps in proptest::collection::vec((0u32..12, 1u64..8, any::<bool>()), 1..60)) {
        let mut books = books();
        for (number, extents, write) in steps {
            let number = number + 1;
            match books.legs.contains_key(&name(number)) {
                true if !matches!(books.legs[&name(number)].phase, Phase::Dropped(_)) => drop_leg(&mut books, number),
                true => {}
                false => {
                    let free = books.free_extents();
                    let carved = books.carve(name(number), number, extents);
                    prop_assert_eq!(carved, if free < extents { Err(CarveRefusal::NoSpace(free)) } else { Ok(()) });
                }
            }
            if write && commit(&mut books).is_some() {
                books.forget_dropped();
            }
            let mut taken: Vec<u64> =
                books.legs.values().flat_map(|leg| leg.record.runs.clone()).flat_map(|run| run.start..run.end()).collect();
            taken.sort_unstable();
            prop_assert!(taken.windows(2).all(|pair| pair[0] < pair[1]), "given twice");
            prop_assert!(taken.iter().all(|extent| *extent < EXTENTS));
            prop_assert_eq!(taken.len() as u64 + books.free_extents(), EXTENTS);
        }
    }
}
