//! When answers may be given (R5).

use super::*;

/// R5: a read's lease is checked when its data is in hand.
#[test]
fn answers_are_held_while_a_lease_has_run_out() {
    let mut bench = Bench::serving(2);
    bench.read(0, 1);
    bench.read(0, 1);
    let said = bench.said();
    assert_eq!(said, ["A: read 2304+1", "B: read 2304+1"]);
    bench.pass(Duration::from_millis(3100));
    bench.answer(0, Status::Success);
    bench.answer(0, Status::Success);
    let quiet = bench.said().iter().all(|line| line.ends_with(": read 0+1"));
    assert!(quiet, "nothing but probes while B has not answered");
    bench.answer(1, Status::Success);
    assert_eq!(
        bench.said(),
        [""; 0],
        "the answer is to a request older than the lease"
    );
    bench.answer(1, Status::Success);
    bench.answer(1, Status::Success);
    let said = bench.said();
    let ends: Vec<&String> = said.iter().filter(|line| line.starts_with("done")).collect();
    assert_eq!(ends, ["done 1 Success", "done 2 Success"]);
}

#[test]
fn idle_legs_are_asked_every_third_of_a_lease() {
    let mut bench = Bench::serving(2);
    bench.pass(Duration::from_millis(999));
    assert_eq!(bench.said(), [""; 0]);
    bench.pass(Duration::from_millis(2));
    assert_eq!(bench.said(), ["A: read 0+1", "B: read 0+1"]);
}

/// R5: what the new owner could not fence may still serve the old one.
#[test]
fn a_new_owner_waits_for_the_lease_of_a_leg_it_could_not_fence() {
    let mut bench = Bench::serving(2).reopened(&[true, true]);
    bench.pass(secs(2));
    bench.attach(0);
    bench.settle();
    bench.pass(Duration::from_millis(7900));
    assert_eq!(bench.said(), ["A: read 0+18"], "B may still come");
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.said(), ["A: read 0+1", "A: flush", "ask A"]);
    bench.committed();
    // Fenced A at two seconds, lease three, margin half a second: that was over by then.
    assert_eq!(bench.said(), ["opened"]);

    let mut bench = Bench::serving(2).reopened(&[true, true]);
    bench.pass(secs(9));
    bench.attach(0);
    bench.settle();
    bench.pass(Duration::from_millis(1100));
    bench.committed();
    bench.settle();
    bench.pass(Duration::from_millis(2300));
    bench.settle();
    assert!(!bench.said().contains(&"opened".to_owned()));
    assert_eq!(
        bench.mirror.waits_for(),
        "the lease of an earlier owner to run out"
    );
    bench.pass(Duration::from_millis(200));
    assert!(bench.said().contains(&"opened".to_owned()));
}

#[test]
fn a_new_owner_that_fenced_all_serves_at_once() {
    let mut bench = Bench::serving(2).reopened(&[true, true]);
    bench.attach_all();
    bench.settle();
    assert_eq!(bench.said(), ["A: read 0+18", "B: read 0+18", "opened"]);
}

/// What the only leg may have lost with its power was never said to be there.
#[test]
fn held_answers_end_unavailable_when_the_last_leg_is_lost() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.answer(0, Status::Success);
    bench.pass(Duration::from_millis(3100));
    bench.answer(1, Status::Success);
    bench.said();
    bench.lose(1);
    assert_eq!(bench.said(), ["A: flush", "ask A"]);
    bench.lose(0);
    assert_eq!(bench.said(), ["done 2 Unavailable"]);
}
