//! Disks that must not be touched, and disks that cannot be used.

use super::fabric::{Fabric, MIB, Shape, file_of, wait_until};
use super::session::{Session, session};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

fn format(path: &Path, more: &[&str]) -> Session {
    let path = path.display().to_string();
    session(&[&["disk", "format", &path, "--extent-size", "4MiB"], more].concat())
}

fn put(path: &Path, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).expect("a file");
    file.write_all_at(bytes, at).expect("it is written");
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is read");
    file.write_all_at(&[byte[0] ^ 0xff], at).expect("it is written");
}

#[test]
fn formatting_refuses_what_holds_anything() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, at, bytes, found) in [
        ("ext4", 1080, &b"\x53\xef"[..], "it holds an ext file system"),
        ("lvm", 512, b"LABELONE", "it holds an LVM physical volume"),
        ("xfs", 0, b"XFSB", "it holds an XFS file system"),
        ("gpt", 512, b"EFI PART", "it holds a GPT partition table"),
        ("luks", 0, b"LUKS\xba\xbe", "it holds a LUKS volume"),
        (
            "md",
            4096,
            &0xa92b_4efc_u32.to_le_bytes(),
            "it holds a member of an md array",
        ),
        ("something", 70_000, b"!", "its first MiB is not empty"),
    ] {
        let path = folder.path().join(name);
        file_of(&path, 16 * MIB);
        put(&path, at, bytes);
        let before = fs::read(&path).expect("it is read");
        let shown = path.display();
        let words = format!(
            "{shown} is not formatted: {found}. If nobody needs what is on it, use --force; it is lost then"
        );
        format(&path, &[]).refused(1, &words);
        assert!(
            fs::read(&path).expect("it is read") == before,
            "{name} was touched"
        );
        format(&path, &["--force"]).succeeded();
    }
    let path = folder.path().join("ours");
    file_of(&path, 64 * MIB);
    let said = format(&path, &[]).succeeded().out;
    let disk = said
        .trim_end()
        .strip_suffix(" now")
        .and_then(|said| said.rsplit(' ').next())
        .expect("its id");
    format(&path, &[]).refused(
        1,
        &format!(
            "{} is not formatted: it is formatted already: disk {disk}, not yet of any disk node. If nobody needs what is \
             on it, use --force; it is lost then",
            path.display()
        ),
    );
    format(&path, &["--force"]).succeeded();
}

#[test]
fn formatting_refuses_what_is_no_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = folder.path().join("small");
    file_of(&small, 7 * MIB);
    format(&small, &[]).refused(
        1,
        &format!(
            "{} has 7340032 bytes: too few for one extent of 4194304 bytes and 4 MiB of its own",
            small.display()
        ),
    );
    file_of(&small, 64 * MIB);
    format(&small, &["--extent-size", "5000000"]).refused_with(2, "cannot be used multiple times");
    let path = small.display().to_string();
    session(&["disk", "format", &path, "--extent-size", "5000000"]).refused(
        1,
        "5000000 bytes are no extent size: choose whole MiB from 4 MiB to 100 GiB",
    );
    let folder_itself = folder.path().display();
    format(folder.path(), &[]).refused(
        1,
        &format!("{folder_itself} is not a disk: give a file, a block device or an NVMe namespace's character device"),
    );
    format(&folder.path().join("none"), &[]).refused_with(1, "No such file or directory");
}

/// Three disk nodes of two disks each.
fn fabric_of_pairs() -> Fabric {
    let mut fabric = Fabric::prepare(Shape {
        disk_nodes: 0,
        controller_nodes: 2,
        etcd: false,
    });
    for number in 1..=3 {
        let disks = ["a", "b"].map(|letter| {
            fabric
                .new_disk(&format!("disk-{number}{letter}"))
                .display()
                .to_string()
        });
        fabric.add_disk_node(number, &disks);
    }
    fabric.start_all();
    fabric.wait_joined();
    fabric
}

/// Names of the disk nodes with legs of the pool, with the path of the leg's disk; and one node that has none.
fn legs_of(fabric: &Fabric, pool: &str) -> (Vec<(String, PathBuf)>, String) {
    let pool = fabric.json(&["pool", "show", pool]);
    let legs = pool["status"]["groups"][0]["legs"]
        .as_array()
        .expect("legs")
        .clone();
    let nodes = fabric.json(&["disk-nodes", "list"]);
    let nodes = nodes.as_array().expect("nodes");
    let name = |node: &Value| node["name"].as_str().expect("a name").to_owned();
    let place = |leg: &Value| {
        let node = nodes
            .iter()
            .find(|node| node["id"] == leg["disk_node"])
            .expect("its node");
        let disk = node["disks"]
            .as_array()
            .and_then(|disks| disks.iter().find(|disk| disk["id"] == leg["disk"]));
        (
            name(node),
            PathBuf::from(disk.and_then(|disk| disk["path"].as_str()).expect("its disk")),
        )
    };
    let idle = nodes
        .iter()
        .find(|node| legs.iter().all(|leg| leg["disk_node"] != node["id"]));
    (
        legs.iter().map(place).collect(),
        name(idle.expect("three nodes, two legs")),
    )
}

/// What is wrong with the disk of this path on a node; none: nothing.
fn fault(fabric: &Fabric, node: &str, path: &Path) -> Option<String> {
    let node = fabric.json(&["disk-nodes", "show", node]);
    let mut disks = node["disks"].as_array().expect("disks").iter();
    let disk = disks.find(|disk| Path::new(disk["path"].as_str().expect("a path")) == path)?;
    disk["fault"].as_str().map(str::to_owned)
}

fn wait_fault(fabric: &Fabric, node: &str, path: &Path, words: &str) {
    let mut told = None;
    wait_until(&format!("{node} to report {words:?}"), || {
        told = fault(fabric, node, path);
        told.as_deref() == Some(words)
    });
}

/// Waits until what a killed node had under way there has ended: it keeps the disk locked so long.
fn wait_let_go(disk: &Path) {
    wait_until("a disk to be let go of", || {
        engine::disk::open_alone(disk).is_ok()
    });
}

#[test]
fn a_disk_that_cannot_be_used_is_reported_and_left_alone() {
    let mut fabric = fabric_of_pairs();
    fabric.create_pool("p", "64MiB");
    let mut neighbour = fabric.neighbour("neighbour", "p");
    let (legs, idle) = legs_of(&fabric, "p");
    let (victim, disk) = legs[0].clone();
    format(&disk, &["--force"]).refused(
        1,
        &format!(
            "disk {} is in use: another process owns it, or it is mounted",
            disk.display()
        ),
    );

    // Both copies of the superblock of a disk under the neighbour's volume.
    fabric.kill(&victim);
    wait_let_go(&disk);
    flip(&disk, 100);
    flip(&disk, 64 * 1024 + 100);
    let damaged = fs::read(&disk).expect("it is read");
    fabric.start_daemon(&victim);
    wait_fault(
        &fabric,
        &victim,
        &disk,
        "both copies of its superblock are unusable (first: the superblock's checksum is wrong; second: the superblock's \
         checksum is wrong); nothing on it is touched: restore it, or format the disk anew with --force, which gives up its legs",
    );
    let letter = if disk.to_string_lossy().ends_with('a') {
        "b"
    } else {
        "a"
    };
    let other = fabric.path(&format!("disk-{}{letter}", &victim[1..]));
    assert_eq!(
        fault(&fabric, &victim, &other),
        None,
        "the node's other disk is well"
    );
    assert!(
        fabric
            .cli(&["disk-nodes", "show", &victim])
            .succeeded()
            .out
            .contains("(1 faulty)")
    );
    fabric.wait_pool("p", "degraded");
    neighbour.goes_on();
    // The other disk can be used.
    fabric.create_pool("q", "16MiB");
    fabric.kill(&victim);
    let found = fs::read(&disk).expect("it is read");
    let touched = damaged
        .iter()
        .zip(&found)
        .position(|(before, after)| before != after);
    assert_eq!(touched, None, "nothing on it is touched");

    // Restored, it is as good as ever.
    flip(&disk, 100);
    fabric.start_daemon(&victim);
    fabric.wait_pool("p", "serving");
    neighbour.goes_on();

    // A disk of another node, and one that is none.
    fabric.kill(&idle);
    let stolen = fabric.path(&format!("disk-{}a", &idle[1..]));
    let blank = fabric.path("blank");
    file_of(&blank, 64 * MIB);
    let disks = [&stolen, &blank].map(|disk| disk.display().to_string());
    let owner = fabric.json(&["disk-nodes", "show", &idle])["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    fabric.add_disk_node(4, &disks);
    fabric.start_daemon("d4");
    wait_until("d4 to join", || {
        fabric.cli(&["disk-nodes", "show", "d4"]).code == 0
    });
    wait_fault(
        &fabric,
        "d4",
        &stolen,
        &format!(
            "it belongs to disk node {owner}: give it back to that node, or format it anew with --force"
        ),
    );
    wait_fault(
        &fabric,
        "d4",
        &blank,
        "it is not formatted as a disk of a disk node: format it with `trestle disk format`",
    );
    fabric.kill("d4");
    fabric.start_daemon(&idle);
    wait_until("the disk to be well at home", || {
        fault(&fabric, &idle, &stolen).is_none()
    });
    neighbour.goes_on();
    neighbour.verified();
}
