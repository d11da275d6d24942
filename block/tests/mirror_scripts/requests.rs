//! What becomes of requests: in order, on every leg that counts, or with the right end.

use super::*;

/// R11.
#[test]
fn overlapping_writes_wait_for_each_other() {
    let mut bench = Bench::serving(2);
    bench.write(0, 4);
    bench.settle();
    bench.said();
    bench.write(0, 4);
    bench.write(3, 4);
    bench.write(8, 1);
    let first = [
        "A: write 2304+4",
        "B: write 2304+4",
        "A: write 2312+1",
        "B: write 2312+1",
    ];
    assert_eq!(bench.said(), first);
    bench.answer(0, Status::Success);
    assert_eq!(bench.said(), [""; 0], "B has not ended the first");
    bench.answer(1, Status::Success);
    assert_eq!(
        bench.said(),
        ["A: write 2307+4", "B: write 2307+4", "done 2 Success"]
    );
}

/// R3.
#[test]
fn a_write_that_missed_a_leg_waits_for_the_store() {
    for lost in [true, false] {
        let mut bench = Bench::serving(2);
        bench.write(0, 1);
        bench.settle();
        bench.said();
        bench.write(0, 1);
        bench.answer(0, Status::Success);
        bench.said();
        if lost {
            bench.lose(1);
        } else {
            bench.answer(1, Status::MediaError);
        }
        assert_eq!(
            bench.said(),
            ["A: flush", "ask A"],
            "what only A has now shall not be lost"
        );
        bench.answer(0, Status::Success);
        bench.write(8, 1);
        assert_eq!(
            bench.said(),
            ["A: write durably 2312+1"],
            "later writes go to the rest"
        );
        bench.answer(0, Status::Success);
        assert_eq!(bench.said(), [""; 0], "and wait as well");
        bench.committed();
        assert_eq!(bench.said()[..2], ["done 2 Success", "done 3 Success"]);
    }
}

#[test]
fn without_any_leg_requests_wait_and_then_end_unavailable() {
    let mut bench = Bench::serving(1);
    bench.lose(0);
    bench.write(0, 1);
    bench.read(0, 1);
    bench.submit(Operation::Flush, 0, 0);
    bench.pass(secs(19));
    assert_eq!(bench.said(), [""; 0]);
    bench.pass(secs(2));
    assert_eq!(
        bench.said(),
        ["done 1 Unavailable", "done 3 Unavailable", "done 2 Unavailable"]
    );
    bench.read(0, 1);
    assert_eq!(bench.said(), ["done 4 Unavailable"], "it has been away for long");
    bench.attach(0);
    bench.settle();
    bench.said();
    bench.read(0, 1);
    assert_eq!(bench.said(), ["A: read 2304+1"]);
}

/// R2: whoever says so, everything ends.
#[test]
fn a_newer_owner_ends_everything() {
    for from_store in [true, false] {
        let mut bench = Bench::serving(2);
        bench.write(0, 1);
        bench.settle();
        bench.write(0, 1);
        bench.write(0, 1);
        bench.read(8, 1);
        if from_store {
            bench.lose(1);
            bench.said();
            bench.store(MembershipOutcome::StaleEpoch);
        } else {
            bench.said();
            bench.answer(1, Status::StaleEpoch);
        }
        let ends = [
            "done 2 StaleEpoch",
            "done 3 StaleEpoch",
            "done 4 StaleEpoch",
            "fenced",
        ];
        assert_eq!(bench.said(), ends);
        bench.read(0, 1);
        bench.pass(secs(60));
        bench.attach(1);
        assert_eq!(bench.said(), ["done 5 StaleEpoch"]);
        assert_eq!(bench.mirror.next_timeout(), None);
    }
}

#[test]
fn a_leg_that_does_not_answer_is_reported_and_taken_out() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle_at(&[0]);
    bench.said();
    for _ in 0..100 {
        bench.pass(Duration::from_millis(100));
        bench.settle_at(&[0]);
    }
    let said = bench.said();
    let important = said
        .iter()
        .filter(|line| !line.contains("read 0+1"))
        .collect::<Vec<_>>();
    assert_eq!(
        important,
        ["A: write durably 2304+1", "suspect B", "ask A", "A: flush"]
    );
    bench.committed();
    assert_eq!(bench.said(), ["done 1 Success"]);
}

#[test]
fn a_read_that_fails_goes_to_another_leg() {
    let mut bench = Bench::serving(2);
    bench.read(0, 1);
    assert_eq!(bench.said(), ["A: read 2304+1"]);
    bench.answer(0, Status::MediaError);
    assert_eq!(bench.said(), ["B: read 2304+1"]);
    bench.answer(1, Status::MediaError);
    assert_eq!(bench.said(), ["done 1 MediaError"]);
    assert!(
        bench
            .mirror
            .progress()
            .iter()
            .all(|leg| leg.in_sync && leg.reachable),
        "reads change nothing"
    );
}

#[test]
fn a_write_that_the_last_leg_fails_ends_with_its_error() {
    let mut bench = Bench::serving(1);
    bench.write(0, 1);
    bench.answer(0, Status::MediaError);
    assert_eq!(
        bench.said().last().expect("an end"),
        "done 1 MediaError",
        "the bitmap could not be written"
    );
    bench.pass(secs(2));
    bench.settle();
    bench.said();
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.answer(0, Status::MediaError);
    bench.read(0, 1);
    bench.settle();
    assert_eq!(
        bench.said()[2..],
        [
            "A: write durably 2304+1",
            "done 3 MediaError",
            "A: read 2304+1",
            "done 4 Success"
        ]
    );
}

#[test]
fn deallocation_is_the_same_on_every_leg() {
    let mut bench = Bench::serving(2);
    bench.submit(Operation::Deallocate, 5, 2);
    bench.settle();
    assert_eq!(
        bench.said()[2..],
        ["A: zero 2309+2 freed", "B: zero 2309+2 freed", "done 1 Success"]
    );
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut bench = Bench::serving(1);
    let length = LEG_BLOCKS - DATA;
    for (start, blocks, status) in [
        (0, 0, "Invalid"),
        (length, 1, "OutOfRange"),
        (length - 1, 2, "OutOfRange"),
    ] {
        let deallocate = Operation::WriteZeroes {
            deallocate: false,
            durable: false,
        };
        bench.submit(deallocate, start, blocks);
        assert_eq!(bench.said(), [format!("done {} {status}", bench.next_request)]);
    }
    bench.submit(Operation::Deallocate, u64::MAX, 2);
    assert_eq!(bench.said(), ["done 4 OutOfRange"]);
    assert_eq!(bench.mirror.area_length(Area::Data), Blocks(length));
}
