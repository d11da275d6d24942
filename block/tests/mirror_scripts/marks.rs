//! The write-intent bitmap: set before, cleared long after (R6, R12).

use super::*;

#[test]
fn a_write_marks_its_region_first_and_once() {
    let mut bench = Bench::serving(2);
    bench.write(0, 2);
    assert_eq!(bench.said(), ["A: write durably 17+1", "B: write durably 17+1"]);
    bench.answer(0, Status::Success);
    assert_eq!(bench.said(), [""; 0], "the region is not marked on B");
    bench.answer(1, Status::Success);
    assert_eq!(bench.said(), ["A: write 2304+2", "B: write 2304+2"]);
    bench.answer(1, Status::Success);
    assert_eq!(bench.said(), [""; 0]);
    bench.answer(0, Status::Success);
    assert_eq!(bench.said(), ["done 1 Success"]);
    bench.write(4, 1);
    assert_eq!(bench.said(), ["A: write 2308+1", "B: write 2308+1"]);
}

/// R12: a torn write of the bitmap leaves what was durable before.
#[test]
fn a_torn_bitmap_leaves_the_old_one() {
    let mut bench = Bench::serving(1);
    bench.write(0, 1);
    bench.settle();
    bench.write(600, 1);
    assert_eq!(
        bench.said().last().expect("marks the other region"),
        "A: write durably 16+1"
    );
    bench.disks[0].corrupt(16);
    bench.lose(0);
    let mut bench = bench.reopened(&[true]);
    bench.attach(0);
    bench.settle();
    // Where the newest block lies now tells that the torn one was not taken, what is written that a mark was found.
    assert_eq!(bench.said(), ["A: read 0+18", "A: write durably 16+1", "opened"]);
    bench.disks[0].corrupt(16);
    let mut bench = bench.reopened(&[true]);
    bench.attach(0);
    bench.settle();
    assert_eq!(bench.said(), ["A: read 0+18", "A: write durably 16+1", "opened"]);
}

/// R12: a mark goes only when what it stands for is on the media of every leg.
#[test]
fn quiet_regions_are_cleared_after_a_flush() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.write(600, 1);
    bench.settle();
    for _ in 0..9 {
        bench.pass(secs(1));
        bench.settle();
    }
    bench.said();
    bench.pass(secs(1));
    let probes = |said: Vec<String>| {
        said.into_iter()
            .filter(|line| !line.contains("read 0+1"))
            .collect::<Vec<_>>()
    };
    assert_eq!(probes(bench.said()), ["A: flush", "B: flush"]);
    bench.write(600, 1);
    bench.settle();
    let said = probes(bench.said());
    let marks = ["A: write durably 17+1", "B: write durably 17+1"];
    assert_eq!(
        said,
        [
            "A: write 2904+1",
            "B: write 2904+1",
            marks[0],
            marks[1],
            "done 3 Success"
        ]
    );
    bench.write(600, 1);
    assert_eq!(
        bench.said(),
        ["A: write 2904+1", "B: write 2904+1"],
        "this one was written to, and is still marked"
    );
    bench.write(0, 1);
    assert_eq!(
        bench.said(),
        ["A: write durably 16+1", "B: write durably 16+1"],
        "that one is not"
    );
}

#[test]
fn marks_stay_while_a_leg_is_out() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.lose(1);
    bench.committed();
    bench.said();
    for _ in 0..30 {
        bench.pass(secs(1));
        bench.settle();
    }
    assert!(bench.said().iter().all(|line| line == "A: read 0+1"));
    assert_eq!(bench.mirror.regions_dirty(), 1);
}

#[test]
fn closing_drains_flushes_and_clears() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.said();
    bench.mirror.close(bench.now, &mut bench.memory);
    bench.read(0, 1);
    assert_eq!(bench.said(), ["done 3 Unavailable"]);
    bench.settle();
    let end = [
        "A: flush",
        "B: flush",
        "done 2 Success",
        "A: write durably 16+1",
        "B: write durably 16+1",
        "closed",
    ];
    assert_eq!(bench.said(), end);
    bench.read(0, 1);
    assert_eq!(bench.said(), ["done 4 Unavailable"]);
    let mut bench = bench.reopened(&[true, true]);
    bench.attach_all();
    bench.settle();
    assert_eq!(bench.said(), ["A: read 0+18", "B: read 0+18", "opened"]);
}

#[test]
fn closing_with_a_leg_out_keeps_the_marks() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.lose(1);
    bench.committed();
    bench.said();
    bench.mirror.close(bench.now, &mut bench.memory);
    bench.drain();
    assert_eq!(bench.said(), ["closed"]);
    let mut bench = bench.reopened(&[true, false]);
    bench.attach(0);
    bench.settle();
    assert_eq!(bench.mirror.regions_dirty(), 1);
}
