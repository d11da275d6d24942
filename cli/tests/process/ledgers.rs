//! Damaged ledgers.

use super::fabric::{Fabric, Shape};
use super::session::session;
use std::fs;

#[test]
fn a_damaged_ledger_is_refused_and_can_be_reset() {
    let mut fabric = Fabric::start(Shape {
        disk_nodes: 2,
        controller_nodes: 2,
        etcd: false,
    });
    fabric.create_pool("p", "64MiB");
    let mut neighbour = fabric.neighbour("neighbour", "p");
    let owner = fabric.json(&["pool", "show", "p"])["status"]["owner"]["name"]
        .as_str()
        .map(str::to_owned);
    let standby = if owner.as_deref() == Some("c1") {
        "c2"
    } else {
        "c1"
    };
    for node in ["d1", standby] {
        let path = fabric.path(node).join("config");
        fabric.kill(node);
        let mut ledger = fs::read(&path).expect("a ledger");
        *ledger.last_mut().expect("it is not empty") ^= 1;
        fs::write(&path, &ledger).expect("it is written");
        fabric.start_daemon(node);
        assert_eq!(fabric.ends_by_itself(node), Some(1));
        let words = format!(
            "trestle: the ledger file {} is damaged (the checksum does not match); nothing was changed. Put back a copy of it, \
             or, if there is none, make sure that the api-servers are up and start once with --reset-ledger",
            path.display()
        );
        assert!(
            fabric.log(node).lines().any(|line| line == words),
            "{}",
            fabric.log(node)
        );
        neighbour.goes_on();
        fabric.start_daemon_with(node, &["--reset-ledger"]);
        fabric.wait_joined();
        fabric.wait_pool("p", "serving");
        neighbour.goes_on();
        assert!(path.with_extension("damaged").exists(), "the damaged one is kept");
        assert!(path.exists(), "there is a new one");
    }
    who_it_is(&mut fabric);
    neighbour.goes_on();
    neighbour.verified();
}

/// The other file of a ledger: nobody can make it up.
fn who_it_is(fabric: &mut Fabric) {
    let path = fabric.path("d2").join("identity");
    fabric.kill("d2");
    let good = fs::read(&path).expect("an identity");
    fs::write(&path, &good[..good.len() / 2]).expect("it is written");
    fabric.start_daemon_with("d2", &["--reset-ledger"]);
    assert_eq!(fabric.ends_by_itself("d2"), Some(1));
    let words = format!(
        "trestle: the ledger file {} is damaged (the checksum does not match); nothing was changed. It says who this node \
         is: put back a copy of it. If there is none, the node must join as a new one: from an empty folder, under another name",
        path.display()
    );
    assert!(
        fabric.log("d2").lines().any(|line| line == words),
        "{}",
        fabric.log("d2")
    );
    fs::write(&path, &good).expect("a copy is put back");

    let folder = fabric.path("d2").display().to_string();
    let mut arguments = vec![
        "controller-node",
        "--name",
        "c",
        "--data-dir",
        &folder,
        "--join-token",
        "x",
    ];
    arguments.extend(["--fabric-listen", "127.0.0.1:1", "--agent-listen", "127.0.0.1:1"]);
    arguments.extend(["--api-servers", "http://127.0.0.1:1"]);
    session(&arguments).refused(
        1,
        &format!("{folder} is the ledger of a disk node: give this node a folder of its own"),
    );
    fabric.start_daemon("d2");
    fabric.wait_joined();
    fabric.wait_pool("p", "serving");
}
