//! kill -9, under verified I/O: each kind of daemon alone, then everything at once.

use super::fabric::{Fabric, Shape, wait_until};
use super::neighbour::Neighbour;
use serde_json::Value;
use std::time::Instant;

/// A disk node that has a leg of pool `p`.
pub(crate) fn a_leg_of_p(fabric: &Fabric) -> String {
    let pool = fabric.json(&["pool", "show", "p"]);
    let node = pool["status"]["groups"][0]["legs"][0]["disk_node"]
        .as_str()
        .expect("an id")
        .to_owned();
    fabric.json(&["disk-nodes", "show", &node])["name"]
        .as_str()
        .expect("a name")
        .to_owned()
}

/// Owner of pool `p`, and its epoch.
fn owner_of_p(fabric: &Fabric) -> (String, u64) {
    let pool = fabric.json(&["pool", "show", "p"]);
    let status = &pool["status"];
    (
        status["owner"]["name"].as_str().expect("a name").to_owned(),
        status["epoch"].as_u64().expect("a number"),
    )
}

/// What must be the same after any number of kills: which disks there are, and where the pool's legs lie.
fn identities(fabric: &Fabric) -> Vec<Value> {
    let nodes = fabric.json(&["disk-nodes", "list"]);
    let disks = nodes
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| node["disks"][0]["id"].clone());
    let pool = fabric.json(&["pool", "show", "p"]);
    let legs = pool["status"]["groups"][0]["legs"]
        .as_array()
        .expect("legs")
        .clone();
    let legs = legs
        .into_iter()
        .flat_map(|leg| [leg["id"].clone(), leg["disk"].clone()]);
    disks.chain(legs).collect()
}

/// A change is made, by whichever worker is there.
fn a_change_is_made(fabric: &Fabric, api: usize) {
    let make = [
        "volume", "create", "change", "--pool", "p", "--size", "1MiB", "--wait",
    ];
    fabric.cli_over(api, &make).succeeded();
    fabric
        .cli_over(api, &["volume", "delete", "change", "--wait"])
        .succeeded();
}

#[test]
fn an_owner_that_is_started_again_gets_a_new_epoch_and_serves() {
    let mut fabric = Fabric::start(Shape {
        disk_nodes: 2,
        controller_nodes: 2,
        etcd: false,
    });
    fabric.create_pool("p", "64MiB");
    let mut neighbour = fabric.neighbour("neighbour", "p");
    let before = identities(&fabric);
    let (owner, epoch) = owner_of_p(&fabric);
    neighbour.goes_on();
    fabric.kill(&owner);
    fabric.start_daemon(&owner);
    neighbour.goes_on();
    fabric.wait_pool("p", "serving");
    assert_eq!(owner_of_p(&fabric), (owner.clone(), epoch + 1));
    assert_eq!(identities(&fabric), before, "nothing was formatted");

    // A wish that nobody can fulfil just now, and that is taken back.
    fabric.freeze(&owner);
    let wish = fabric.json(&["volume", "create", "regretted", "--pool", "p", "--size", "1MiB"]);
    let operation = wish["id"].as_str().expect("an operation").to_owned();
    let late = fabric.cli(&["operation", "wait", &operation, "--wait-seconds", "1"]);
    late.refused_with(7, "trestle: not done after 1 s, and still going on");
    fabric.cli(&["volume", "delete", "regretted"]).succeeded();
    let failed = fabric.cli(&["operation", "wait", &operation]);
    failed.refused(6, "the operation failed: the volume was deleted");
    fabric.thaw(&owner);
    neighbour.goes_on();
    neighbour.verified();
}

#[test]
fn workers_and_api_servers_stand_in_for_each_other() {
    let mut fabric = Fabric::start(Shape {
        disk_nodes: 2,
        controller_nodes: 2,
        etcd: true,
    });
    fabric.create_pool("p", "64MiB");
    let mut neighbour = fabric.neighbour("neighbour", "p");

    for worker in ["worker-1", "worker-2"] {
        fabric.kill(worker);
        a_change_is_made(&fabric, 0);
        neighbour.goes_on();
        fabric.start_daemon(worker);
    }
    for (api, other) in [(0, 1), (1, 0)] {
        let name = format!("api-server-{}", api + 1);
        fabric.kill(&name);
        fabric
            .cli_over(api, &["pool", "list"])
            .refused_with(5, "no api-server answers at");
        a_change_is_made(&fabric, other);
        neighbour.goes_on();
        fabric.start_daemon(&name);
    }
    wait_until("both api-servers to answer", || {
        (0..2).all(|api| fabric.cli_over(api, &["status"]).code == 0)
    });
    neighbour.verified();
}

#[test]
fn each_node_alone_then_everything_over_etcd() {
    let mut fabric = Fabric::start(Shape {
        disk_nodes: 3,
        controller_nodes: 2,
        etcd: true,
    });
    fabric.create_pool("p", "64MiB");
    let mut neighbour = fabric.neighbour("neighbour", "p");
    let before = identities(&fabric);
    let (owner, epoch) = owner_of_p(&fabric);
    let standby = if owner == "c1" { "c2" } else { "c1" };
    fabric.kill(standby);
    neighbour.goes_on();
    fabric.start_daemon(standby);
    let disk_node = a_leg_of_p(&fabric);
    fabric.kill(&disk_node);
    fabric.wait_pool("p", "degraded");
    neighbour.goes_on();
    fabric.start_daemon(&disk_node);
    fabric.wait_pool("p", "serving");
    fabric.kill(&owner);
    fabric.start_daemon(&owner);
    neighbour.goes_on();
    let etcd = fabric.etcd.as_mut().expect("an etcd");
    etcd.kill();
    neighbour.goes_on();
    etcd.start_again();

    everything_dies(&mut fabric, &mut neighbour);
    let (_, grown) = owner_of_p(&fabric);
    assert!(
        grown >= epoch + 2,
        "{grown} after {epoch}: an epoch for each life of the owner"
    );
    assert_eq!(identities(&fabric), before, "nothing was formatted");
    neighbour.verified();
}

#[test]
fn everything_at_once_over_the_embedded_store() {
    let mut fabric = Fabric::start(Shape {
        disk_nodes: 3,
        controller_nodes: 2,
        etcd: false,
    });
    fabric.create_pool("p", "64MiB");
    let mut neighbour = fabric.neighbour("neighbour", "p");
    let before = identities(&fabric);
    for _ in 0..2 {
        let (_, epoch) = owner_of_p(&fabric);
        everything_dies(&mut fabric, &mut neighbour);
        assert!(
            owner_of_p(&fabric).1 > epoch,
            "a new life of the owner has a new epoch"
        );
    }
    assert_eq!(identities(&fabric), before, "nothing was formatted");
    neighbour.verified();
}

/// kill -9 to everybody in the middle of writes; then everybody is started again, in no particular order.
fn everything_dies(fabric: &mut Fabric, neighbour: &mut Neighbour) {
    neighbour.goes_on();
    let ended = neighbour.ended();
    wait_until("writes to be in flight", || neighbour.ended() > ended);
    fabric.kill_together(&fabric.names());
    if let Some(etcd) = &mut fabric.etcd {
        etcd.kill();
        etcd.start_again();
    }
    let begun = Instant::now();
    fabric.start_all();
    neighbour.goes_on();
    println!(
        "I/O went on {:.1} s after everything was started again",
        begun.elapsed().as_secs_f64()
    );
    fabric.wait_pool("p", "serving");
    println!("in sync {:.1} s after", begun.elapsed().as_secs_f64());
}
