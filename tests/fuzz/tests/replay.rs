//! Everything in `corpus/`, and every seed, through its target: what the fuzzer once found stays tested where it is not built.

use std::fs;
use std::path::{Path, PathBuf};

/// The corpus is read by people who look for what changed, and cloned by everybody.
const CORPUS_BYTES_MAX: u64 = 1 << 20;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder's entry").path())
        .collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let target = fuzz::target(name).expect("a target");
    let files = files(&corpus().join(name));
    assert!(!files.is_empty(), "{name} has no corpus");
    for path in files {
        // Said first, so that a failure tells which input it was.
        println!("{}", path.display());
        target.check(&fs::read(&path).expect("a file"));
    }
    for (index, seed) in fuzz::seeds::seeds(name).iter().enumerate() {
        println!("seed {index} of {name}");
        target.check(seed);
    }
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let folders: Vec<String> = files(&corpus())
        .iter()
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    let mut names: Vec<String> = fuzz::TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    names.sort();
    assert_eq!(folders, names);
    let bytes: u64 = folders
        .iter()
        .flat_map(|folder| files(&corpus().join(folder)))
        .map(|path| fs::metadata(path).expect("a file").len())
        .sum();
    assert!(
        bytes <= CORPUS_BYTES_MAX,
        "{bytes} bytes: minimize it (tests/fuzz/run --merge)"
    );
}

macro_rules! replays {
    ($($test:ident: $name:literal,)+) => {
        $(#[test]
        fn $test() {
            replay($name);
        })+

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$($name),+];
            assert_eq!(replayed.len(), fuzz::TARGETS.len());
            assert!(fuzz::TARGETS.iter().all(|target| replayed.contains(&target.name)));
        }
    };
}

replays! {
    pdu: "pdu",
    session: "session",
    command: "command",
    pages: "pages",
    leg_format: "leg-format",
    disk_format: "disk-format",
    records: "records",
    texts: "texts",
    rest: "rest",
    thin_image: "thin-image",
    thin: "thin",
    target: "target",
    host: "host",
    mirror: "mirror",
    disk_node: "disk-node",
}

#[test]
#[should_panic(expected = "found")]
fn the_planted_bug_is_one() {
    fuzz::PLANTED.check(&0x1234_5678_9abc_def0u64.to_le_bytes());
}
