//! The reactor over real files and memory, by io_uring and by threads.
//!
//! Mutants these tests catch: bytes at a wrong offset; a read that answers before its bytes are there; a request lost in
//! the queue behind the depth, or answered twice; zeroing that leaves bytes; a disk opened twice; a buffer kept; a stop
//! that leaves the kernel writing.

mod puppet;

use engine::{DiskBackend, DiskConfig, DiskKind, OpenDisk, ReactorConfig, StartReactor, WantedBackend};
use fabric::driver::DiskError;
use puppet::{Ask, Command, Stage, Told, pattern};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tempfile::NamedTempFile;

const MIB: u64 = 1 << 20;
const BACKENDS: [WantedBackend; 2] = [WantedBackend::Auto, WantedBackend::Threads];

fn file(size_bytes: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(size_bytes).unwrap();
    file
}

fn config(disks: Vec<DiskConfig>, disk_backend: WantedBackend) -> ReactorConfig {
    ReactorConfig {
        disks,
        disk_backend,
        memory_bytes: 128 << 20,
        ..ReactorConfig::default()
    }
}

/// Runs a scene on every backend over a file, past and through the page cache, and over memory.
fn everywhere(size_bytes: u64, scene: impl Fn(&Stage)) {
    for backend in BACKENDS {
        for direct in [true, false] {
            let file = file(size_bytes);
            let disk = DiskConfig {
                direct,
                ..DiskConfig::path(file.path())
            };
            let stage = Stage::start(config(vec![disk], backend));
            scene(&stage);
            stage.nothing_is_held();
        }
    }
    let stage = Stage::start(config(vec![DiskConfig::memory(size_bytes)], WantedBackend::Auto));
    scene(&stage);
    stage.nothing_is_held();
}

fn write(offset: u64, bytes: Vec<u8>) -> Ask {
    Ask::Write {
        offset,
        bytes,
        durable: false,
    }
}

#[test]
fn what_is_written_is_read() {
    everywhere(8 * MIB, |stage| {
        let durable = Ask::Write {
            offset: 4096,
            bytes: pattern(1, 8192),
            durable: true,
        };
        stage.disk(0, 1, durable).unwrap();
        stage.disk(0, 2, write(7 * MIB, pattern(2, 1 << 20))).unwrap();
        stage.disk(0, 3, Ask::Flush).unwrap();
        let read = Ask::Read {
            offset: 0,
            length: 16384,
        };
        let got = stage.disk(0, 4, read).unwrap();
        assert!(got[..4096].iter().all(|byte| *byte == 0));
        assert!(got[4096..12288] == pattern(1, 8192));
        assert!(got[12288..].iter().all(|byte| *byte == 0));
        let read = Ask::Read {
            offset: 7 * MIB,
            length: 1 << 20,
        };
        assert!(stage.disk(0, 5, read).unwrap() == pattern(2, 1 << 20));
    });
}

#[test]
fn zeroed_reads_zero_and_its_neighbours_stay() {
    everywhere(4 * MIB, |stage| {
        for (round, deallocate) in [(0, false), (10, true)] {
            stage.disk(0, round, write(0, pattern(3, 4 << 20))).unwrap();
            let zero = Ask::WriteZeroes {
                offset: MIB,
                length: 2 * MIB,
                deallocate,
            };
            stage.disk(0, round + 1, zero).unwrap();
            stage.disk(0, round + 2, Ask::Flush).unwrap();
            let all = Ask::Read {
                offset: 0,
                length: 4 << 20,
            };
            let got = stage.disk(0, round + 3, all).unwrap();
            let written = pattern(3, 4 << 20);
            let (first, last) = (MIB as usize, 3 * MIB as usize);
            assert!(got[..first] == written[..first] && got[last..] == written[last..]);
            assert!(got[first..last].iter().all(|byte| *byte == 0));
        }
    });
}

#[test]
fn discarded_reads_as_before_or_zero() {
    everywhere(2 * MIB, |stage| {
        let before = pattern(4, 2 << 20);
        stage.disk(0, 1, write(0, before.clone())).unwrap();
        let discard = Ask::Discard {
            offset: 4096,
            length: MIB,
        };
        stage.disk(0, 2, discard).unwrap();
        let all = Ask::Read {
            offset: 0,
            length: 2 << 20,
        };
        let got = stage.disk(0, 3, all).unwrap();
        let touched = 4096..4096 + MIB as usize;
        for (index, (got, before)) in got.iter().zip(&before).enumerate() {
            assert!(
                got == before || *got == 0 && touched.contains(&index),
                "byte {index}"
            );
        }
    });
}

#[test]
fn more_requests_than_the_disk_takes_at_once_all_complete_once() {
    for backend in BACKENDS {
        let file = file(16 * MIB);
        let disk = DiskConfig {
            queue_depth: 3,
            ..DiskConfig::path(file.path())
        };
        let stage = Stage::start(config(vec![disk, DiskConfig::memory(MIB)], backend));
        const COUNT: u64 = 2000;
        for request in 0..COUNT {
            stage.command(Command::Disk(
                0,
                request,
                write(request * 8192, pattern(request, 8192)),
            ));
        }
        answers(&stage, COUNT);
        for request in 0..COUNT {
            let ask = Ask::Read {
                offset: request * 8192,
                length: 8192,
            };
            stage.command(Command::Disk(0, request, ask));
        }
        for (request, bytes) in answers(&stage, COUNT) {
            assert!(bytes == pattern(request, 8192), "request {request}");
        }
        stage.nothing_told();
        stage.eventually("none is left", |status| status.disk_requests == 0);
        stage.nothing_is_held();
    }
}

fn answers(stage: &Stage, count: u64) -> BTreeMap<u64, Vec<u8>> {
    let mut all = BTreeMap::new();
    for _ in 0..count {
        let Told::Disk(request, Ok(bytes)) = stage.next() else {
            panic!("answered")
        };
        assert!(all.insert(request, bytes).is_none(), "answered once");
    }
    all
}

/// Mutants: a sync per flush; a flush that is told before, or never.
#[test]
fn flushes_that_wait_together_share_a_sync() {
    for backend in BACKENDS {
        let file = file(MIB);
        let stage = Stage::start(config(vec![DiskConfig::path(file.path())], backend));
        let flushes = |first: u64| (first..first + 50).map(|request| Command::Disk(0, request, Ask::Flush));
        stage.command(Command::Many(flushes(0).collect()));
        answers(&stage, 50);
        stage.eventually("one for fifty", |status| status.disks[0].syncs == 1);
        flushes(100).for_each(|flush| stage.command(flush));
        let last = answers(&stage, 50);
        assert!(last.keys().copied().eq(100..150));
        stage.eventually("one more at least", |status| {
            (2..=51).contains(&status.disks[0].syncs)
        });
        stage.nothing_told();
    }
}

/// Through the page cache a durable write is a write and a sync that it shares.
#[test]
fn durable_writes_through_the_page_cache_share_a_sync() {
    for backend in BACKENDS {
        let file = file(MIB);
        let disk = DiskConfig {
            direct: false,
            ..DiskConfig::path(file.path())
        };
        let stage = Stage::start(config(vec![disk], backend));
        let durable = |request: u64| Ask::Write {
            offset: request * 8192,
            bytes: pattern(request, 8192),
            durable: true,
        };
        let writes = (0..50).map(|request| Command::Disk(0, request, durable(request)));
        stage.command(Command::Many(writes.collect()));
        answers(&stage, 50);
        stage.eventually("at least one, at most one each", |status| {
            (1..=50).contains(&status.disks[0].syncs) && status.disks[0].under_way == 0
        });
        let read = Ask::Read {
            offset: 49 * 8192,
            length: 8192,
        };
        assert!(stage.disk(0, 100, read).unwrap() == pattern(49, 8192));
    }
}

#[test]
fn memory_that_io_uring_uses_is_registered_and_no_more() {
    let file = file(8 * MIB);
    let stage = Stage::start(config(vec![DiskConfig::path(file.path())], WantedBackend::Auto));
    if stage.handle.opened().backend != DiskBackend::IoUring {
        return;
    }
    for request in 0..20 {
        stage.disk(0, request, write(0, pattern(request, 4096))).unwrap();
    }
    // Small ones come out of one slab, one that takes several slabs goes without; or the kernel refuses to pin memory.
    stage.disk(0, 30, write(0, pattern(3, 3 << 20))).unwrap();
    stage.eventually("one piece", |status| {
        status.registered_bytes == MIB || status.registered_bytes == 0 && status.registering_refused
    });
    let all = Ask::Read {
        offset: 0,
        length: 3 << 20,
    };
    assert!(stage.disk(0, 40, all).unwrap() == pattern(3, 3 << 20));
}

#[test]
fn disks_are_described() {
    let regular = file(3 * MIB + 100);
    let disks = vec![DiskConfig::path(regular.path()), DiskConfig::memory(MIB)];
    let stage = Stage::start(config(disks, WantedBackend::Auto));
    let opened = stage.handle.opened();
    let said = opened.disks[0].as_ref().unwrap();
    assert_eq!(said.path, regular.path().display().to_string());
    assert_eq!(
        (said.size_bytes, said.kind, said.volatile),
        (3 * MIB, DiskKind::File, false)
    );
    let said = opened.disks[1].as_ref().unwrap();
    assert_eq!(said.path, "memory:1048576");
    assert_eq!(
        (said.kind, said.volatile, said.direct),
        (DiskKind::Memory, true, false)
    );
    match &opened.backend {
        DiskBackend::IoUring => {}
        DiskBackend::Threads { reason } => assert!(reason.contains("refused"), "{reason}"),
        DiskBackend::None => panic!("a file needs calls"),
    }
    drop(stage);
    let stage = Stage::start(config(
        vec![DiskConfig::path(regular.path())],
        WantedBackend::Threads,
    ));
    let reason = "asked for".to_owned();
    assert_eq!(stage.handle.status().backend, DiskBackend::Threads { reason });
}

#[test]
fn a_disk_belongs_to_one() {
    let file = file(MIB);
    let first = Stage::start(config(vec![DiskConfig::path(file.path())], WantedBackend::Auto));
    let again = || Stage::try_start(config(vec![DiskConfig::path(file.path())], WantedBackend::Auto));
    let refused = again().err().expect("refused");
    assert!(
        matches!(refused, StartReactor::Disk(OpenDisk::InUse { .. })),
        "{refused}"
    );
    first.handle.stop();
    assert!(again().is_ok(), "free when the first has stopped");
}

/// What was killed lets go of its disks a moment later.
#[test]
fn a_disk_that_somebody_is_about_to_let_go_of_is_waited_for() {
    let busy = file(MIB);
    let (kept, _) = engine::disk::open_alone(busy.path()).unwrap();
    let patient = || DiskConfig {
        patience: Duration::from_secs(30),
        ..DiskConfig::path(busy.path())
    };
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Stage::try_start(config(vec![patient()], WantedBackend::Auto)).is_ok());
        // Long enough that it has found the disk taken, on any machine that is not asleep; if not, it has nothing to wait for.
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished(), "it is taken");
        drop(kept);
        waiting.join().unwrap()
    });
    assert!(waiting);
    let short = DiskConfig {
        patience: Duration::from_millis(20),
        ..patient()
    };
    let (_kept, _) = engine::disk::open_alone(busy.path()).unwrap();
    let refused = Stage::try_start(config(vec![short], WantedBackend::Auto))
        .err()
        .unwrap();
    assert!(
        matches!(refused, StartReactor::Disk(OpenDisk::InUse { .. })),
        "{refused}"
    );
}

#[test]
fn what_is_no_disk_is_refused() {
    let empty = file(0);
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let refusal = |path: &Path| {
        let config = config(vec![DiskConfig::path(path)], WantedBackend::Auto);
        match Stage::try_start(config) {
            Err(StartReactor::Disk(refusal)) => refusal,
            _ => panic!("{path:?} is refused"),
        }
    };
    assert!(matches!(
        refusal(empty.path()),
        OpenDisk::TooSmall { size_bytes: 0, .. }
    ));
    assert!(matches!(refusal(folder.path()), OpenDisk::NotADisk { .. }));
    assert!(matches!(
        refusal(Path::new("/dev/null")),
        OpenDisk::NotADisk { .. }
    ));
    assert!(matches!(refusal(&missing), OpenDisk::Open { .. }));
}

#[test]
fn a_missing_disk_that_is_not_required_answers_gone() {
    let file = file(MIB);
    let missing = DiskConfig {
        required: false,
        ..DiskConfig::path("/nonexistent/disk")
    };
    let stage = Stage::start(config(
        vec![missing, DiskConfig::path(file.path())],
        WantedBackend::Auto,
    ));
    assert!(
        matches!(&stage.handle.opened().disks[0], Err(refused) if refused.to_string().contains("/nonexistent"))
    );
    assert_eq!(stage.disk(0, 1, Ask::Flush), Err(DiskError::Gone));
    assert_eq!(stage.disk(1, 2, Ask::Flush), Ok(vec![]));
}

#[test]
fn a_disk_that_shrinks_is_gone_and_its_neighbour_goes_on() {
    for backend in BACKENDS {
        let (shrinking, neighbour) = (file(MIB), file(MIB));
        let disks = [&shrinking, &neighbour].map(|file| DiskConfig::path(file.path()));
        let stage = Stage::start(config(disks.to_vec(), backend));
        shrinking.as_file().set_len(8192).unwrap();
        let read = Ask::Read {
            offset: 4096,
            length: 8192,
        };
        assert_eq!(stage.disk(0, 1, read.clone()), Err(DiskError::Gone));
        assert_eq!(stage.disk(1, 2, read), Ok(vec![0; 8192]));
        stage.nothing_is_held();
    }
}

#[test]
fn a_file_that_may_not_grow_has_no_space() {
    const CHILD: &str = "ENGINE_TEST_NO_SPACE";
    if let Some(path) = std::env::var_os(CHILD) {
        for (backend, request) in BACKENDS.into_iter().zip([1, 2]) {
            let stage = Stage::start(config(vec![DiskConfig::path(&path)], backend));
            let beyond = stage.disk(0, request, write(8 * MIB, pattern(1, 4096)));
            assert_eq!(beyond, Err(DiskError::NoSpace));
            assert_eq!(
                stage.disk(0, request + 10, write(0, pattern(1, 4096))),
                Ok(vec![])
            );
        }
        return;
    }
    let file = file(16 * MIB);
    let name = "a_file_that_may_not_grow_has_no_space";
    // The limit on the size of files stands in for a full file system: 4 MiB, and no signal about it.
    let child = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(CHILD, file.path())
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
}

#[test]
fn stop_waits_for_what_the_kernel_has() {
    for backend in BACKENDS {
        let file = file(20 * MIB);
        let stage = Stage::start(config(vec![DiskConfig::path(file.path())], backend));
        for request in 0..20 {
            stage.command(Command::Disk(
                0,
                request,
                write(request * MIB, pattern(request, 1 << 20)),
            ));
        }
        stage.handle.stop();
        let bytes = std::fs::read(file.path()).unwrap();
        for (request, written) in bytes.chunks(1 << 20).enumerate() {
            let whole = written == pattern(request as u64, 1 << 20);
            assert!(
                whole || written.iter().all(|byte| *byte == 0),
                "write {request} is whole or was not begun"
            );
        }
    }
}
