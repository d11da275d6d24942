//! A store that does not answer: running volumes need it only to lose a leg.

use super::fabric::{Fabric, Shape, within};
use super::kills::a_leg_of_p;
use super::neighbour::{answered, asked};
use super::rest::call;
use ::fabric::host::HostOperation;
use block::BlockRange;
use std::time::{Duration, Instant};

/// How soon one must be told that the store is away.
const TOLD_WITHIN: Duration = Duration::from_secs(12);

#[test]
fn a_frozen_control_plane_is_not_missed() {
    let mut fabric = Fabric::start(Shape {
        disk_nodes: 2,
        controller_nodes: 2,
        etcd: false,
    });
    fabric.create_pool("p", "64MiB");
    let mut neighbour = fabric.neighbour("neighbour", "p");
    fabric.freeze("control-plane");
    // Far longer than any lease between nodes.
    let frozen = Instant::now();
    within(Duration::from_secs(60), "I/O without a control plane", || {
        neighbour.goes_on();
        frozen.elapsed() > Duration::from_secs(5)
    });
    fabric.thaw("control-plane");
    fabric
        .cli(&[
            "volume", "create", "after", "--pool", "p", "--size", "1MiB", "--wait",
        ])
        .succeeded();
    neighbour.goes_on();
    neighbour.verified();
}

#[test]
fn without_its_store_a_write_that_lost_a_leg_waits() {
    let mut fabric = Fabric::start(Shape {
        disk_nodes: 3,
        controller_nodes: 2,
        etcd: true,
    });
    fabric.create_pool("p", "64MiB");
    let mut neighbour = fabric.neighbour("neighbour", "p");
    let mut host = fabric.create_volume("mine", "p", "4MiB");
    let write = |byte: u8| HostOperation::Write {
        start: 0,
        bytes: vec![byte; 4096],
        durable: false,
    };
    asked(&mut host, write(1)).expect("a write");
    let disk_node = a_leg_of_p(&fabric);

    fabric.etcd.as_ref().expect("an etcd").freeze();
    fabric.freeze("api-server-1");
    neighbour.goes_on();
    asked(&mut host, write(2)).expect("a write without the store");
    let begun = Instant::now();
    let (said, reply) = std::thread::scope(|scope| {
        let said = scope.spawn(|| fabric.cli_over(1, &["pool", "list"]));
        let reply = call(&fabric.apis[1], "GET", "/v1/pools", &[], "");
        (said.join().expect("the client ends"), reply)
    });
    said.refused_with(
        5,
        "nothing was changed; running volumes serve on; ask again when the store answers",
    );
    let kind = reply.body["type"].as_str();
    assert_eq!(
        (reply.status, kind),
        (503, Some("/problems/store-away")),
        "{reply:?}"
    );
    let taken = begun.elapsed();
    assert!(taken < TOLD_WITHIN, "told in {taken:?}");
    neighbour.goes_on();

    // R3: without the store nobody can say that the leg is out, so nothing may be acknowledged that it does not have.
    fabric.kill(&disk_node);
    let waiting = host.submit(write(3)).expect("the host runs");
    let early = host.ended(Duration::from_secs(2)).expect("the host runs");
    assert!(
        early.is_none(),
        "acknowledged by one leg of two, and nobody knows"
    );
    fabric.etcd.as_ref().expect("an etcd").thaw();
    fabric.thaw("api-server-1");
    answered(&mut host, waiting).expect("the write goes on");
    neighbour.goes_on();
    fabric.wait_pool("p", "degraded");
    let read = asked(
        &mut host,
        HostOperation::Read {
            range: BlockRange::new(0, 1),
        },
    );
    assert_eq!(read, Ok(vec![3; 4096]));
    fabric.start_daemon(&disk_node);
    fabric.wait_pool("p", "serving");
    neighbour.verified();
}
