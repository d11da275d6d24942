//! Where steady state ends: what a group that looks at nothing but its requests must still notice at once.
//!
//! Deliberate bugs these scripts were seen to catch: a group that stays calm while answers are held back, or while resync waits for a
//! write to end; a lease that is remembered from before the set grew; requests to a leg that are handed out after it was lost.

use super::*;

/// The newest request for which this holds succeeds. Whether there was one.
fn succeed(bench: &mut Bench, which: impl Fn(usize, &Request) -> bool) -> bool {
    let place = bench
        .waiting
        .iter()
        .rposition(|(leg, _, request)| which(*leg, request));
    let Some(place) = place else { return false };
    let (leg, id, request) = bench.waiting.remove(place);
    bench.disks[leg].execute(request, &mut bench.memory);
    bench
        .mirror
        .leg_completed(bench.now, id, Status::Success, &mut bench.memory);
    bench.drain();
    true
}

/// R5. Neither a probe is needed, nor a timer, nor the end of another request.
#[test]
fn held_answers_go_out_as_soon_as_every_leg_has_answered_something_new() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.read(8, 1);
    bench.read(8, 1);
    bench.pass(Duration::from_millis(3100));
    bench.read(16, 1);
    bench.write(0, 1);
    bench.said();
    let is_read = |request: &Request| request.range.start.0 > DATA;
    while succeed(&mut bench, |_, request| is_read(request)) {}
    assert_eq!(
        bench.said(),
        [""; 0],
        "B has answered only what was sent before its lease ran out"
    );
    assert!(succeed(&mut bench, |leg, request| leg == 1
        && request.operation.modifies()));
    let mut said = bench.said();
    said.sort();
    assert_eq!(said, ["done 2 Success", "done 3 Success", "done 4 Success"]);
}

/// R11, and nobody waits longer than needed.
#[test]
fn resync_goes_on_when_the_write_that_it_waited_for_has_ended() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.write(0, 1);
    bench.answer(1, Status::Success);
    let mut bench = bench.reopened(&[true, true]);
    bench.attach_all();
    let is_step = |request: &Request| request.range.length.0 == 64;
    while succeed(&mut bench, |_, request| !is_step(request)) {}
    assert!(bench.mirror.is_serving());
    bench.write(0, 4);
    for _ in 0..10 {
        while succeed(&mut bench, |_, request| is_step(request)) {}
        bench.pass(Duration::from_millis(2));
    }
    let step = "A: read 2304+64".to_owned();
    let said = bench.said();
    assert!(
        said.contains(&"A: read 2240+64".to_owned()) && !said.contains(&step),
        "{said:?}"
    );
    for leg in [0, 1] {
        assert!(succeed(&mut bench, |at, request| at == leg && request.range.length.0 == 4));
    }
    assert!(bench.said().contains(&step));
}

/// R5: a leg that joins brings its own lease along, however long it took.
#[test]
fn a_leg_that_took_long_to_join_has_no_lease_to_begin_with() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.lose(1);
    bench.committed();
    bench.settle();
    bench.attach(1);
    let last = |leg: usize, request: &Request| leg == 1 && request.operation == Operation::Flush;
    while !bench.waiting.iter().any(|(leg, _, request)| last(*leg, request)) {
        while succeed(&mut bench, |leg, request| !last(leg, request)) {}
        bench.pass(Duration::from_millis(2));
    }
    // Everything is copied, and the leg does not answer for longer than a lease, while the other goes on.
    for _ in 0..8 {
        bench.pass(Duration::from_millis(450));
        bench.read(0, 1);
        bench.settle_at(&[0]);
    }
    assert!(bench.said().contains(&"done 9 Success".to_owned()));
    assert!(succeed(&mut bench, last));
    assert!(bench.said().contains(&"ask A B".to_owned()));
    bench.read(0, 1);
    bench.settle_at(&[0]);
    let done = bench.said().iter().any(|line| line.starts_with("done"));
    assert!(
        !done,
        "B may be in the set by now, and has answered nothing for seconds"
    );
}

#[test]
fn what_was_not_handed_out_to_a_leg_that_is_lost_never_is() {
    let mut bench = Bench::serving(2);
    bench.write(0, 1);
    bench.settle();
    bench.said();
    let buffer = bench.memory.payload(4096);
    let operation = Operation::Write {
        buffer,
        durable: false,
    };
    let range = BlockRange::new(0, 1);
    let request = Request { operation, range };
    bench
        .mirror
        .submit(bench.now, RequestId(9), Area::Data, request, &mut bench.memory);
    bench.mirror.leg_lost(bench.now, 1, &mut bench.memory);
    bench.drain();
    let said = bench.said();
    assert!(said.contains(&"A: write 2304+1".to_owned()));
    assert!(!said.iter().any(|line| line.starts_with("B:")), "{said:?}");
}
