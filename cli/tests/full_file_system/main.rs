//! A disk that has less beneath it than it says: a sparse file on a file system that gets full. Needs a mount of its own,
//! so user namespaces or root.

#![allow(dead_code, reason = "the other process tests use more of it")]

#[path = "../process/etcd.rs"]
mod etcd;
#[path = "../process/fabric.rs"]
mod fabric;
#[path = "../../src/demo/host.rs"]
mod host;
#[path = "../process/neighbour.rs"]
mod neighbour;
#[path = "../process/session.rs"]
mod session;
#[path = "../../src/demo/workload.rs"]
mod workload;

use ::fabric::host::HostOperation;
use fabric::{Fabric, MIB, Shape};
use neighbour::asked;

/// Mounts a file system of so much in the first argument's folder, for itself alone; formats a disk there that says it is
/// larger; becomes the rest of the arguments.
const ON_A_SMALL_FILE_SYSTEM: &str = r#"
    folder=$1; trestle=$2; shift
    mount -t tmpfs -o size=64m none "$folder" || exit
    truncate -s 256M "$folder/disk" && "$trestle" disk format "$folder/disk" --extent-size 4MiB && exec "$@""#;

#[test]
fn a_full_file_system_beneath_a_disk_costs_its_legs_only() {
    let mut fabric = Fabric::prepare(Shape {
        disk_nodes: 1,
        controller_nodes: 2,
        etcd: false,
    });
    let folder = fabric.path("small");
    std::fs::create_dir(&folder).expect("a folder");
    let folder = folder.display().to_string();
    fabric.add_disk_node(2, &[format!("{folder}/disk")]);
    fabric.wrap(
        "d2",
        &[
            "unshare",
            "-rm",
            "sh",
            "-c",
            ON_A_SMALL_FILE_SYSTEM,
            "sh",
            &folder,
        ],
    );
    fabric.start_all();
    fabric.wait_joined();
    fabric.create_pool("p", "160MiB");
    let mut neighbour = fabric.neighbour("neighbour", "p");
    neighbour.goes_on();
    let mut host = fabric.create_volume("large", "p", "96MiB");
    for mib in 0..96_u64 {
        let write = HostOperation::Write {
            start: mib * MIB / 4096,
            bytes: vec![1 + mib as u8; MIB as usize],
            durable: mib % 8 == 7,
        };
        asked(&mut host, write).expect("writes go on, on the other leg");
    }
    fabric.wait_pool("p", "degraded");
    neighbour.goes_on();
    for mib in 0..96_u64 {
        let range = block::BlockRange::new(mib * MIB / 4096, MIB / 4096);
        let found = asked(&mut host, HostOperation::Read { range }).expect("reads go on");
        assert!(found.iter().all(|byte| *byte == 1 + mib as u8), "MiB {mib}");
    }
    neighbour.verified();
}
