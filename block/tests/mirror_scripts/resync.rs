//! Legs are made equal: after a crash, after an absence, anew (R4, R6).

use super::*;

#[test]
fn a_leg_that_comes_back_in_time_gets_what_it_missed() {
    let mut bench = Bench::serving(1);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.lose(0);
    bench.read(8, 1);
    bench.said();
    bench.attach(0);
    assert_eq!(bench.said(), ["A: read 0+18"], "is it the same leg?");
    bench.settle();
    let said = bench.said();
    assert!(
        said.contains(&"done 2 Success".to_owned()) && said.contains(&"done 3 Success".to_owned()),
        "{said:?}"
    );
}

/// R6: the source of a region that may differ cannot be read there. The other leg has every acknowledged write, too: it is the source from
/// then on, and what the first one still answers counts no more.
#[test]
fn where_the_source_cannot_be_read_another_leg_is_the_source() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.answer(1, Status::Success);
    let mut bench = bench.reopened(&[true, true]);
    bench.attach_all();
    for leg in [0, 1, 0, 1] {
        bench.answer(leg, Status::Success);
    }
    assert_eq!(bench.mirror.regions_dirty(), 1);
    let reads = |said: Vec<String>| {
        let is_read = |line: &String| line.ends_with(": read 2304+1");
        said.into_iter().filter(is_read).collect::<Vec<_>>()
    };
    bench.said();
    // What resync reads stays under way.
    bench.waiting.clear();
    bench.read(0, 1);
    bench.read(0, 1);
    assert_eq!(reads(bench.said()), ["A: read 2304+1", "A: read 2304+1"]);
    bench.answer(0, Status::MediaError);
    assert_eq!(reads(bench.said()), ["B: read 2304+1"]);
    bench.answer(0, Status::Success);
    assert_eq!(reads(bench.said()), ["B: read 2304+1"], "read again");
    bench.answer(1, Status::Success);
    bench.answer(1, Status::Success);
    let said = bench.said();
    assert_eq!(said, ["done 1 Success", "done 2 Success"]);
}

/// R6.
#[test]
fn after_a_crash_marked_regions_are_read_from_one_leg_until_they_are_equal() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.answer(1, Status::Success);
    let mut bench = bench.reopened(&[true, true]);
    bench.attach_all();
    bench.settle_at(&[0, 1].map(|leg| leg + 10));
    for leg in [0, 1, 0, 1] {
        bench.answer(leg, Status::Success);
    }
    bench.said();
    assert_eq!(bench.mirror.regions_dirty(), 1);
    for _ in 0..4 {
        bench.read(0, 1);
    }
    bench.read(600, 1);
    bench.read(601, 1);
    let said = bench.said();
    assert_eq!(said[..4], ["A: read 2304+1"; 4]);
    assert!(
        said[4..].contains(&"B: read 2904+1".to_owned()),
        "other regions are read from both: {said:?}"
    );
    bench.settle();
    bench.pass(secs(1));
    bench.settle();
    for _ in 0..8 {
        bench.pass(secs(1));
        bench.settle();
    }
    assert_eq!(bench.mirror.regions_dirty(), 0);
    assert_eq!(bench.disks[0].difference(&bench.disks[1]), None);
}

/// What hangs at a leg must not arrive behind what is copied to it.
#[test]
fn a_leg_that_did_not_answer_rejoins_only_when_nothing_is_in_flight_to_it() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    for _ in 0..101 {
        bench.pass(Duration::from_millis(100));
        bench.settle_at(&[0]);
    }
    bench.committed();
    bench.said();
    for _ in 0..50 {
        bench.pass(Duration::from_millis(100));
        bench.settle_at(&[0]);
    }
    assert!(
        bench.said().iter().all(|line| line == "A: read 0+1"),
        "B still has the write"
    );
    while bench.waiting.iter().any(|(leg, _, _)| *leg == 1) {
        bench.answer(1, Status::Success);
    }
    assert_eq!(bench.said()[0], "B: read 0+18");
}

/// R4: a new leg gets everything, its superblocks last, and serves only when the store knows.
#[test]
fn a_new_leg_is_filled_and_recorded_before_it_serves() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.disks[1].replace();
    let mut bench = bench.reopened(&[true, false]);
    bench.attach_all();
    for _ in 0..200 {
        bench.settle();
        bench.pass(Duration::from_millis(10));
    }
    let said = bench.said();
    let at_b: Vec<&String> = said
        .iter()
        .filter(|line| line.starts_with("B:") && !line.contains("read 0+1"))
        .collect();
    let (last, copies) = at_b
        .split_last_chunk::<3>()
        .map(|(copies, last)| (last, copies))
        .expect("many");
    assert_eq!(
        *last,
        ["B: flush", "B: write durably 0+1", "B: write durably 8+1"]
    );
    let copied = copies.iter().filter(|line| line.starts_with("B: write ")).count();
    assert!(copied as u64 >= (LEG_BLOCKS - 128) / 64, "{copied} steps");
    assert!(said.contains(&"ask A B".to_owned()));
    for _ in 0..4 {
        bench.read(0, 1);
    }
    assert_eq!(bench.said(), ["A: read 2304+1"; 4]);
    bench.committed();
    bench.settle();
    bench.said();
    bench.read(0, 1);
    bench.read(0, 1);
    assert!(bench.said().contains(&"B: read 2304+1".to_owned()));
    assert_eq!(bench.disks[0].difference(&bench.disks[1]), None);
}

/// R4: what a write that ended in an error left behind on one leg is copied over, also if the region was just being copied.
#[test]
fn a_region_that_was_disturbed_while_it_was_copied_is_copied_anew() {
    // B comes back to copy one region, step by step: `stop` answers everything up to B's copying of its last one.
    let stop = || {
        let mut bench = Bench::serving(2);
        bench.write(0, 1);
        bench.settle();
        bench.lose(1);
        bench.settle();
        bench.committed();
        bench.write(0, 1);
        bench.settle();
        bench.attach(1);
        bench
    };
    let is_copy = |(leg, _, request): &(usize, SubRequestId, Request)| {
        *leg == 1 && request.range.start.0 >= DATA && matches!(request.operation, Operation::Write { .. })
    };
    // Answers whatever waits, in order, until B has been given so many steps; how many there were.
    let run = |bench: &mut Bench, steps: usize| {
        let mut given = 0;
        for _ in 0..10_000 {
            if let Some(next) = bench.waiting.first() {
                let (copy, leg) = (is_copy(next), next.0);
                if copy && given == steps {
                    return given;
                }
                given += usize::from(copy);
                bench.answer(leg, Status::Success);
            } else if bench.lines.contains(&"ask A B".to_owned()) {
                return given;
            } else {
                bench.pass(Duration::from_millis(10));
            }
        }
        panic!("it never ends: {:?}", bench.said());
    };
    let all = run(&mut stop(), usize::MAX);
    assert!(all > 1, "a region is copied in {all} steps");

    let mut bench = stop();
    assert_eq!(run(&mut bench, all - 1), all - 1);
    assert!(
        bench.waiting.iter().any(is_copy),
        "the last step is on its way to B"
    );
    bench.said();
    // The last leg in sync fails a write elsewhere in the region, which B executes.
    let last = bench.waiting[0].2.range;
    bench.write(0, 1);
    let write = BlockRange::new(DATA, 1);
    assert!(!write.overlaps(last), "{last:?} is the step");
    let place = |bench: &Bench, at: usize| {
        let found = bench
            .waiting
            .iter()
            .position(|(leg, _, request)| *leg == at && request.range == write);
        found.expect("it is sent to both")
    };
    for (leg, status) in [(1, Status::Success), (0, Status::MediaError)] {
        let at = place(&bench, leg);
        let call = bench.waiting.remove(at);
        bench.waiting.insert(0, call);
        bench.answer(leg, status);
    }
    assert!(bench.said().contains(&"done 3 MediaError".to_owned()));
    let again = run(&mut bench, usize::MAX);
    assert!(
        again > all,
        "the step that was on its way, and all of the region once more: {again}"
    );
}
