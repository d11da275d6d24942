//! The disk node as a process would run it: real files, real sockets, a real NVMe host, started again and again.
//!
//! Mutants these tests catch: an option that is not handed on; a status that is not reported; a disk taken that another
//! process owns; data or reservations lost over a restart; formatting over somebody's data; a connection that stays where it was
//! accepted; a reactor that is not told of a configuration, or not stopped; a copy of a disk that is served because the original is
//! on another core.

use block::BlockRange;
use cluster::node_config::{DiskNodeConfig, LegConfig};
use cluster::status::{DiskNodeStatus, LegState};
use cluster::{DiskId, DiskNodeId, Incarnation, LegId, Nqn, PoolId, Revision};
use control::agent::{Node, NodeConfig, NodeStatus};
use disk_node::config::WantedBackend;
use disk_node::{DiskNode, DiskNodeOptions, DiskOption, FormatDisk, FormatOptions, format_disk};
use engine::{Handle, ReactorConfig};
use fabric::host::{
    AssociationConfig, HostControl, HostNode, HostOperation, HostReport, MultipathConfig, VolumeId,
};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const EXTENT: u64 = 4 * MIB;
const NODE: DiskNodeId = DiskNodeId(Uuid::from_u128(0x0d15_c0de));
const HOST: &str = "nqn.2026-11.io.trestle:controller-node:test";
/// Longer than anything here takes; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(30);
const SMALL: FormatOptions = FormatOptions {
    extent_bytes: EXTENT,
    node: None,
    force: false,
};

fn file(folder: &Path, name: &str, size_bytes: u64) -> PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path).unwrap().set_len(size_bytes).unwrap();
    path
}

fn leg_id(number: u32) -> LegId {
    LegId(Uuid::from_u128(0x1e60 + u128::from(number)))
}

fn options(disks: Vec<DiskOption>, backend: WantedBackend) -> DiskNodeOptions {
    DiskNodeOptions {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        disks,
        backend,
        memory_extent_bytes: EXTENT,
        ..DiskNodeOptions::new(NODE, Incarnation(Uuid::from_u128(1)))
    }
}

fn config(revision: u64, legs: &[(u32, DiskId, u64)]) -> NodeConfig {
    let legs = legs.iter().map(|(number, disk, extents)| LegConfig {
        leg: leg_id(*number),
        disk: *disk,
        nsid: *number,
        extents: *extents,
        hosts: [Nqn(HOST.to_owned())].into(),
    });
    NodeConfig::DiskNode(DiskNodeConfig {
        node: NODE,
        revision: Revision(revision),
        legs: [(PoolId(Uuid::nil()), legs.collect())].into(),
    })
}

fn wait_for(node: &DiskNode, what: &str, holds: impl Fn(&DiskNodeStatus) -> bool) -> DiskNodeStatus {
    let begun = Instant::now();
    let mut version = node.wait_status(u64::MAX, Duration::ZERO);
    loop {
        let NodeStatus::DiskNode(status) = node.status() else {
            panic!("a disk node")
        };
        if holds(&status) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {status:?}");
        version = node.wait_status(version, Duration::from_secs(1));
    }
}

fn ready(node: &DiskNode, legs: usize) -> DiskNodeStatus {
    wait_for(node, "legs are ready", |status| {
        status.legs.len() == legs && status.legs.iter().all(|leg| leg.state == LegState::Ready)
    })
}

/// A host with a path to a disk.
struct Host {
    handle: Handle<HostControl>,
    heard: mpsc::Receiver<HostReport>,
    last: u64,
}

impl Host {
    fn connect(node: &DiskNode, disk: DiskId) -> Host {
        let address = node.fabric_addresses()[0];
        let association = AssociationConfig::new(HOST, [7; 16], &disk.subsystem_nqn().0, address);
        let (tell, heard) = mpsc::channel();
        let multipath = MultipathConfig::new(association);
        let report = move |report| drop(tell.send(report));
        let handle = engine::start(ReactorConfig::default(), |_| HostNode::new(multipath), report).unwrap();
        let addresses = vec![address];
        handle.control(HostControl::Connect { addresses }).unwrap();
        Host {
            handle,
            heard,
            last: 0,
        }
    }

    fn ask(&mut self, leg: u32, operation: HostOperation) -> Result<Vec<u8>, nvme::Status> {
        self.last += 1;
        let submit = HostControl::Submit {
            id: self.last,
            volume: VolumeId(*leg_id(leg).0.as_bytes()),
            operation,
        };
        self.handle.control(submit).unwrap();
        loop {
            match self.heard.recv_timeout(PATIENCE).expect("answered") {
                HostReport::Completed { id, result } if id == self.last => return result,
                _ => {}
            }
        }
    }

    fn write(&mut self, leg: u32, start: u64, bytes: Vec<u8>) {
        let operation = HostOperation::Write {
            start,
            bytes,
            durable: true,
        };
        self.ask(leg, operation).unwrap();
    }

    fn read(&mut self, leg: u32, start: u64, blocks: u64) -> Vec<u8> {
        let range = BlockRange::new(start, blocks);
        self.ask(leg, HostOperation::Read { range }).unwrap()
    }
}

#[test]
fn a_disk_is_formatted_served_and_found_again() {
    for backend in [WantedBackend::Auto, WantedBackend::Threads] {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "disk", 64 * MIB);
        let disk = format_disk(&path, SMALL).unwrap();
        let disks = vec![
            DiskOption::Path(path),
            DiskOption::Memory { size_bytes: 16 * MIB },
        ];
        let node = disk_node::start(options(disks.clone(), backend)).unwrap();
        let status = node.disk_node_status();
        assert_eq!(
            (
                status.disks[0].disk,
                status.disks[0].extents,
                status.disks[0].volatile
            ),
            (disk, 15, false)
        );
        assert_eq!((status.disks[1].extents, status.disks[1].volatile), (3, true));
        assert_eq!(status.disks[1].path, "memory:16777216");
        let memory = status.disks[1].disk;
        node.apply(config(1, &[(1, disk, 10), (2, memory, 2)]));
        ready(&node, 2);
        let bytes: Vec<u8> = (0..4 * MIB).map(|at| (at / 512 % 251) as u8 + 1).collect();
        for (leg, disk) in [(1, disk), (2, memory)] {
            let mut host = Host::connect(&node, disk);
            assert_eq!(host.read(leg, 1020, 8), vec![0; 32768]);
            host.write(leg, 700, bytes.clone());
            assert!(host.read(leg, 700, 1024) == bytes);
        }
        node.stop();

        let node = disk_node::start(options(disks, backend)).unwrap();
        assert_eq!(
            node.disk_node_status().disks[0].extents_free,
            5,
            "the leg is on the disk"
        );
        assert_ne!(
            node.disk_node_status().disks[1].disk,
            memory,
            "memory is another disk"
        );
        node.apply(config(1, &[(1, disk, 10), (2, memory, 2)]));
        let status = wait_for(&node, "both are judged", |status| status.legs.len() == 2);
        assert!(
            matches!(&status.legs[1].state, LegState::Failed { reason } if reason.contains("is not here"))
        );
        wait_for(&node, "the first is ready", |status| {
            status.legs[0].state == LegState::Ready
        });
        assert!(
            Host::connect(&node, disk).read(1, 700, 1024) == bytes,
            "every acknowledged write is there"
        );
    }
}

#[test]
fn legs_are_swept_and_their_space_comes_back_zeroed() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "disk", 32 * MIB);
    let disk = format_disk(&path, SMALL).unwrap();
    let node = disk_node::start(options(vec![DiskOption::Path(path)], WantedBackend::Auto)).unwrap();
    node.apply(config(1, &[(1, disk, 7)]));
    ready(&node, 1);
    let mut host = Host::connect(&node, disk);
    host.write(1, 5, vec![0xAA; 8192]);
    node.apply(config(2, &[]));
    wait_for(&node, "space comes back", |status| {
        status.disks[0].extents_free == 7
    });
    node.apply(config(3, &[(2, disk, 7)]));
    ready(&node, 1);
    assert_eq!(host.read(2, 5, 2), vec![0; 8192]);
}

#[test]
fn bad_disks_are_reported_and_the_good_one_serves() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good", 16 * MIB);
    let empty = file(folder.path(), "empty", 16 * MIB);
    let taken = file(folder.path(), "taken", 16 * MIB);
    let corrupt = file(folder.path(), "corrupt", 16 * MIB);
    let disk = format_disk(&good, SMALL).unwrap();
    format_disk(&taken, SMALL).unwrap();
    format_disk(&corrupt, SMALL).unwrap();
    let before = {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().write(true).open(&corrupt).unwrap();
        [100, 65_636]
            .iter()
            .for_each(|at| file.write_all_at(&[1], *at).unwrap());
        std::fs::read(&corrupt).unwrap()
    };
    let other = disk_node::start(options(
        vec![DiskOption::Path(taken.clone())],
        WantedBackend::Auto,
    ))
    .unwrap();
    let missing = folder.path().join("missing");
    let paths = [&good, &empty, &taken, &corrupt, &missing];
    let disks = paths
        .iter()
        .map(|path| DiskOption::Path(path.to_path_buf()))
        .collect();
    let node = disk_node::start(options(disks, WantedBackend::Auto)).unwrap();
    let status = node.disk_node_status();
    let faults: Vec<_> = status
        .disks
        .iter()
        .map(|disk| disk.fault.clone().unwrap_or_default())
        .collect();
    let expected = [
        "",
        "not formatted",
        "is in use",
        "both copies of its superblock",
        "cannot open disk",
    ];
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(
            fault.contains(expected) && fault.is_empty() == expected.is_empty(),
            "{fault:?}: {expected:?}"
        );
    }
    node.apply(config(1, &[(1, disk, 1)]));
    ready(&node, 1);
    Host::connect(&node, disk).write(1, 0, vec![1; 4096]);
    assert!(std::fs::read(&corrupt).unwrap() == before, "left alone");
    other.stop();
}

#[test]
fn formatting_refuses_what_is_somebodys() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "disk", 16 * MIB);
    let refused = |options: FormatOptions| format_disk(&path, options).expect_err("refused").to_string();
    let put = |at: u64, bytes: &[u8]| {
        use std::os::unix::fs::FileExt;
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all_at(bytes, at)
            .unwrap();
    };
    put(1080, b"\x53\xef");
    assert!(
        refused(SMALL).contains("it holds an ext file system"),
        "{}",
        refused(SMALL)
    );
    put(1080, &[0; 2]);
    put(16 * MIB - 512, b"EFI PART");
    assert!(refused(SMALL).contains("its backup"));
    put(16 * MIB - 512, &[0; 8]);
    put(900_000, &[1]);
    assert!(refused(SMALL).contains("its first MiB is not empty"));
    let force = FormatOptions { force: true, ..SMALL };
    let owned = FormatOptions {
        node: Some(NODE),
        ..force
    };
    let first = format_disk(&path, owned).unwrap();
    let again = refused(SMALL);
    assert!(
        again.contains(&first.to_string()) && again.contains(&NODE.to_string()) && again.contains("--force")
    );
    assert_ne!(format_disk(&path, force).unwrap(), first, "a new identity");
    let size = |extent_bytes| FormatOptions {
        extent_bytes,
        ..force
    };
    for bad in [0, 4095, 3 * MIB, EXTENT + 1, 101 << 30] {
        assert!(refused(size(bad)).contains("are no extent size"), "{bad}");
    }
    assert!(refused(size(16 * MIB)).contains("too few for one extent"));
    let node = disk_node::start(options(vec![DiskOption::Path(path.clone())], WantedBackend::Auto)).unwrap();
    assert!(matches!(
        format_disk(&path, force),
        Err(FormatDisk::Open(engine::OpenDisk::InUse { .. }))
    ));
    node.stop();
    assert!(matches!(
        format_disk(&folder.path().join("none"), SMALL),
        Err(FormatDisk::Open(_))
    ));
}

#[test]
fn a_disk_of_another_node_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "disk", 16 * MIB);
    format_disk(&path, SMALL).unwrap();
    let disks = vec![DiskOption::Path(path)];
    let first = disk_node::start(options(disks.clone(), WantedBackend::Auto)).unwrap();
    assert_eq!(first.disk_node_status().disks[0].fault, None);
    first.stop();
    let stranger = DiskNodeOptions {
        node: DiskNodeId(Uuid::from_u128(2)),
        ..options(disks, WantedBackend::Auto)
    };
    let second = disk_node::start(stranger).unwrap();
    let fault = second.disk_node_status().disks[0].fault.clone().unwrap();
    assert!(fault.contains(&format!("belongs to disk node {NODE}")), "{fault}");
}

#[test]
fn an_idle_node_does_not_turn() {
    let node = disk_node::start(options(
        vec![DiskOption::Memory { size_bytes: 16 * MIB }],
        WantedBackend::Auto,
    ))
    .unwrap();
    let disk = node.disk_node_status().disks[0].disk;
    node.apply(config(1, &[(1, disk, 1)]));
    ready(&node, 1);
    let settled = || {
        let before = node.reactor_status()[0].turns;
        std::thread::sleep(Duration::from_millis(50));
        (node.reactor_status()[0].turns == before).then_some(before)
    };
    let turns = (0..100).find_map(|_| settled()).expect("it comes to rest");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(node.reactor_status()[0].turns, turns);
    assert_eq!(node.next_membership_request(Duration::ZERO), None);
}

#[test]
fn nonsense_is_refused_before_anything_starts() {
    let bad_extent = DiskNodeOptions {
        memory_extent_bytes: 5,
        ..options(vec![], WantedBackend::Auto)
    };
    assert!(
        disk_node::start(bad_extent)
            .err()
            .unwrap()
            .to_string()
            .contains("no extent size")
    );
    let node = disk_node::start(options(vec![], WantedBackend::Auto)).unwrap();
    let taken = DiskNodeOptions {
        listen: node.fabric_addresses().to_vec(),
        ..options(vec![], WantedBackend::Auto)
    };
    assert!(
        disk_node::start(taken)
            .err()
            .unwrap()
            .to_string()
            .contains("cannot listen on")
    );
}

/// A node on two cores, its two disks (files) and their identities.
fn two_cores(folder: &Path) -> (DiskNodeOptions, [DiskId; 2]) {
    let paths = ["one", "two"].map(|name| file(folder, name, 32 * MIB));
    let disks = paths.each_ref().map(|path| format_disk(path, SMALL).unwrap());
    let options = DiskNodeOptions {
        reactors: 2,
        ..options(paths.map(DiskOption::Path).to_vec(), WantedBackend::Auto)
    };
    (options, disks)
}

/// Waits until so many connections are open at each reactor.
fn connections(node: &DiskNode, expected: &[u64]) {
    let begun = Instant::now();
    loop {
        let open: Vec<u64> = node
            .reactor_status()
            .iter()
            .map(|reactor| reactor.connections)
            .collect();
        if open == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{open:?}");
        std::thread::yield_now();
    }
}

#[test]
fn each_core_serves_its_own_disks() {
    let folder = tempfile::tempdir().unwrap();
    let (options, [one, two]) = two_cores(folder.path());
    let node = disk_node::start(options.clone()).unwrap();
    let found: Vec<DiskId> = node
        .disk_node_status()
        .disks
        .iter()
        .map(|disk| disk.disk)
        .collect();
    assert_eq!(found, [one, two], "as they were given");
    assert_eq!(node.fabric_addresses().len(), 1);
    node.apply(config(1, &[(1, one, 3), (2, two, 3)]));
    ready(&node, 2);
    let mut hosts = [Host::connect(&node, one), Host::connect(&node, two)];
    for (leg, host) in (1..).zip(&mut hosts) {
        host.write(leg, 7, vec![leg as u8; 8192]);
    }
    for (leg, host) in (1..).zip(&mut hosts) {
        assert_eq!(host.read(leg, 7, 2), vec![leg as u8; 8192]);
    }
    // An administrative queue and one for I/O each, where the disk is.
    connections(&node, &[2, 2]);
    node.apply(config(2, &[(1, one, 3), (3, two, 2)]));
    wait_for(&node, "every core has heard", |status| {
        status.revision == Revision(2)
    });
    let status = ready(&node, 2);
    assert_eq!(
        hosts[0].read(1, 7, 2),
        vec![1; 8192],
        "the neighbour's change is none here"
    );
    assert_eq!(hosts[1].read(3, 7, 2), vec![0; 8192], "no old data");
    assert_eq!(
        status
            .disks
            .iter()
            .map(|disk| disk.extents_free)
            .collect::<Vec<_>>(),
        [4, 5]
    );
    node.stop();
    let again = disk_node::start(options).unwrap();
    again.apply(config(2, &[(1, one, 3), (3, two, 2)]));
    ready(&again, 2);
    assert_eq!(Host::connect(&again, one).read(1, 7, 2), vec![1; 8192]);
}

#[test]
fn a_disk_that_is_not_here_is_so_on_every_core() {
    let folder = tempfile::tempdir().unwrap();
    let (mut options, [one, two]) = two_cores(folder.path());
    options.disks[1] = DiskOption::Path(folder.path().join("missing"));
    let node = disk_node::start(options).unwrap();
    node.apply(config(1, &[(1, one, 3), (2, two, 3)]));
    let status = wait_for(&node, "one leg is ready", |status| {
        status.legs.iter().any(|leg| leg.state == LegState::Ready)
    });
    assert_eq!(status.legs[0].state, LegState::Ready);
    assert!(
        matches!(&status.legs[1].state, LegState::Failed { reason } if reason.contains("is not here")),
        "{status:?}"
    );
    assert!(status.disks[1].fault.is_some() && status.disks[0].fault.is_none());
}

#[test]
fn a_copy_on_another_core_is_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let (options, [one, _]) = two_cores(folder.path());
    std::fs::copy(folder.path().join("one"), folder.path().join("two")).unwrap();
    let node = disk_node::start(options).unwrap();
    node.apply(config(1, &[(1, one, 3)]));
    let status = wait_for(&node, "both are refused", |status| {
        status.disks.iter().all(|disk| disk.fault.is_some()) && !status.legs.is_empty()
    });
    for disk in status.disks {
        let fault = disk.fault.unwrap();
        assert!(fault.contains("two disks say that they are disk"), "{fault}");
    }
    assert!(matches!(status.legs[0].state, LegState::Failed { .. }));
}
