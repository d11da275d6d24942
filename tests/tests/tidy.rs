//! The house's rules, as tests: who may know whom, what pure crates may not name, how long things may be, which documents
//! must be true. Each refusal names the place and says what to do instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use syn::spanned::Spanned;
use syn::visit::Visit;

/// Who may know whom. Dependencies point from running to knowing; processes never know each other.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("nvme", &[]),
    ("block", &[]),
    ("cluster", &[]),
    ("fabric", &["nvme", "block"]),
    ("control", &["cluster"]),
    ("store", &["cluster"]),
    ("engine", &["fabric", "block", "nvme"]),
    ("api-server", &["control", "cluster", "store"]),
    ("worker", &["control", "cluster", "store"]),
    ("agent", &["control", "cluster"]),
    (
        "disk-node",
        &["control", "cluster", "block", "fabric", "nvme", "engine"],
    ),
    (
        "controller-node",
        &["control", "cluster", "block", "fabric", "nvme", "engine"],
    ),
];

/// These may know everybody: they put the processes together, or prove them.
const KNOW_EVERYBODY: &[&str] = &["cli", "tests", "fuzz"];

/// Pure: no clock, no I/O, no threads, no randomness, no async, no unsafe.
const PURE: &[&str] = &["proto/nvme", "proto/fabric", "proto/control", "block", "cluster"];

/// What a pure crate may depend on from outside.
const PURE_DEPENDENCIES: &[&str] = &[
    "zerocopy",
    "crc32c",
    "serde",
    "serde_json",
    "thiserror",
    "uuid",
    "utoipa",
    "proptest",
];

/// Names with one meaning elsewhere, or none: what to write instead.
const BANNED_IN_PURE: &[(&str, &str)] = &[
    ("Instant::now", "take the time as an argument (block::Time)"),
    ("SystemTime", "take the time as an argument"),
    ("std::fs", "ask the driver (fabric::driver::Output::Disk)"),
    ("std::thread", "a machine is driven, it drives nothing"),
    (
        "HashMap",
        "use BTreeMap or an indexed table: its order is the same in every run",
    ),
    ("HashSet", "use BTreeSet: its order is the same in every run"),
    ("println!", "return what you have to say"),
    ("async fn", "be a machine: handle, poll_output, next_timeout"),
    ("TcpStream", "ask the driver (fabric::driver::Output::Connect)"),
];

/// Never, anywhere in our sources.
const BANNED_EVERYWHERE: &[(&str, &str)] = &[
    (
        "#[ignore",
        "a test that cannot run here belongs into another binary",
    ),
    ("todo!(", "land what works"),
    ("unimplemented!(", "land what works"),
    ("dbg!(", "use tracing"),
    ("FIXME", "mend it, or describe it on the issue"),
];

const FILE_LINES_MAX: usize = 1000;
const FUNCTION_LINES_MAX: usize = 70;

/// Longer on purpose: may only shrink.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];
const LONG_FILES: &[&str] = &[];

#[test]
fn dependencies_point_from_running_to_knowing() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(
        metadata.status.success(),
        "{}",
        String::from_utf8_lossy(&metadata.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let members: BTreeSet<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let may_know: BTreeMap<&str, &[&str]> = MAY_KNOW.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        if KNOW_EVERYBODY.contains(&name) {
            continue;
        }
        let Some(allowed) = may_know.get(name) else {
            wrong.push(format!(
                "{name} stands in no row of MAY_KNOW: say who it may know"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let other = dependency["name"].as_str().expect("a name");
            let test_only = dependency["kind"] == "dev";
            if members.contains(other) && !allowed.contains(&other) && !test_only {
                wrong.push(format!("{name} -> {other}: not an edge of the workspace"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_crates_depend_on_pure_crates_only() {
    let mut wrong = Vec::new();
    for folder in PURE {
        let manifest = read(&root().join(folder).join("Cargo.toml"));
        for line in manifest.lines().skip_while(|line| *line != "[dependencies]") {
            let Some((name, _)) = line.split_once('.').or_else(|| line.split_once(' ')) else {
                continue;
            };
            let ours = MAY_KNOW.iter().any(|(crate_name, _)| *crate_name == name);
            if !line.starts_with('[') && !ours && !PURE_DEPENDENCIES.contains(&name) {
                wrong.push(format!("{folder} depends on {name}: a pure crate may not"));
            }
        }
        let lib = read(&root().join(folder).join("src/lib.rs"));
        if !lib.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("{folder}/src/lib.rs does not forbid unsafe code"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_crates_touch_nothing_outside() {
    let mut wrong = Vec::new();
    for folder in PURE {
        for file in rust_files(&root().join(folder).join("src")) {
            let text = without_tests(&read(&file));
            for (word, instead) in BANNED_IN_PURE {
                for (number, line) in text.lines().enumerate() {
                    if line.contains(word) && !line.trim_start().starts_with("//") {
                        wrong.push(format!("{}:{}: {word}: {instead}", shown(&file), number + 1));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_half_done() {
    let own = shown(&PathBuf::from(file!()));
    let mut wrong = Vec::new();
    for file in rust_files(root()) {
        if own.ends_with("tidy.rs") && file.ends_with("tests/tests/tidy.rs") {
            continue;
        }
        let text = read(&file);
        for (word, instead) in BANNED_EVERYWHERE {
            for (number, line) in text.lines().enumerate() {
                if line.contains(word) {
                    wrong.push(format!("{}:{}: {word}: {instead}", shown(&file), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_only_in_the_engine() {
    let mut wrong = Vec::new();
    for file in rust_files(root()) {
        let text = read(&file);
        let names = text
            .lines()
            .any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        if names && !shown(&file).starts_with("engine/") && !file.ends_with("tests/tests/tidy.rs") {
            wrong.push(format!(
                "{}: unsafe belongs into engine/, with its reason",
                shown(&file)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn functions_and_files_stay_short() {
    let mut wrong = Vec::new();
    for file in rust_files(root()) {
        let text = read(&file);
        let name = shown(&file);
        let lines = without_tests(&text).lines().count();
        if lines > FILE_LINES_MAX && !LONG_FILES.contains(&name.as_str()) {
            wrong.push(format!("{name}: {lines} lines: split it by sub-machine"));
        }
        if name.contains("/tests/") || name.ends_with("_tests.rs") {
            // A test may be as long as the story it tells.
            continue;
        }
        let tree = syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut functions = Functions::default();
        functions.visit_file(&tree);
        for (function, lines) in functions.0 {
            let allowed = LONG_FUNCTIONS.contains(&(name.as_str(), function.as_str()));
            if lines > FUNCTION_LINES_MAX && !allowed {
                wrong.push(format!("{name}: fn {function}: {lines} lines: split it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_say_what_is_meant() {
    let mut wrong = Vec::new();
    for file in rust_files(root()) {
        let stem = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        if ["util", "utils", "common", "helper", "helpers", "misc"].contains(&stem) {
            wrong.push(format!("{}: name the file for the noun it holds", shown(&file)));
        }
        let tree = syn::parse_file(&read(&file)).unwrap_or_else(|error| panic!("{}: {error}", shown(&file)));
        let mut functions = Functions::default();
        functions.visit_file(&tree);
        for (function, _) in functions.0 {
            for prefix in ["get_", "do_", "process_", "manage_"] {
                // Get Log Page, Get Features and Do Not Retry are the specification's own names.
                let spec = ["get_log_page", "get_features", "do_not_retry"]
                    .iter()
                    .any(|name| function.starts_with(name));
                if function.starts_with(prefix) && !spec {
                    wrong.push(format!(
                        "{}: fn {function}: say what it does without {prefix}",
                        shown(&file)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn documents_exist_and_name_what_exists() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "LICENSE",
        "docs/glossary.md",
        "docs/testing.md",
        "docs/operations.md",
    ] {
        assert!(root().join(document).is_file(), "{document} is missing");
    }
    let readme = read(&root().join("README.md"));
    assert!(
        readme.lines().count() <= 150,
        "README.md: one screen, 150 lines at most"
    );
    for command in ["./demo", "./test"] {
        assert!(readme.contains(command), "README.md does not name {command}");
        assert!(root().join(command).is_file(), "{command} is missing");
    }
    let architecture = read(&root().join("ARCHITECTURE.md"));
    let manifest = read(&root().join("Cargo.toml"));
    let members = manifest
        .split("members = [")
        .nth(1)
        .and_then(|rest| rest.split(']').next())
        .expect("members");
    for member in members
        .split(',')
        .map(|member| member.trim().trim_matches('"'))
        .filter(|name| !name.is_empty())
    {
        assert!(
            architecture.contains(&format!("`{member}`")),
            "ARCHITECTURE.md's code map lacks `{member}`"
        );
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read(&root().join("Cargo.toml"));
    let reasons = read(&root().join("docs/decisions/dependencies.md"));
    let table = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .expect("a dependency table");
    let table = table.split("\n[").next().expect("its end");
    for line in table
        .lines()
        .filter(|line| line.contains('=') && !line.contains("path ="))
    {
        let name = line.split(['=', ' ']).next().expect("a name");
        assert!(
            reasons.contains(&format!("`{name}`")),
            "docs/decisions/dependencies.md has no line for `{name}`"
        );
    }
}

/// `<!-- describes FILE HASH -->` in a document: when the file changed, somebody must look whether the document is still true.
#[test]
fn documents_of_formats_were_read_again() {
    let document = root().join("docs/formats.md");
    let mut wrong = Vec::new();
    for line in read(&document)
        .lines()
        .filter(|line| line.starts_with("<!-- describes "))
    {
        let words: Vec<&str> = line.split(' ').collect();
        let (file, written) = (words[2], words[3]);
        let hash = format!("{:08x}", crc32c::crc32c(read(&root().join(file)).as_bytes()));
        if hash != written {
            wrong.push(format!(
                "{file} has changed: read its section in docs/formats.md again, then write {hash} there"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Collects every function with its length, from signature to closing brace.
#[derive(Default)]
struct Functions(Vec<(String, usize)>);

impl Functions {
    fn add(&mut self, name: &syn::Ident, signature: &syn::Signature, body: &syn::Block) {
        let lines = body.span().end().line - signature.span().start().line + 1;
        self.0.push((name.to_string(), lines));
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.add(&item.sig.ident, &item.sig, &item.block);
        syn::visit::visit_item_fn(self, item);
    }
    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.add(&item.sig.ident, &item.sig, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        // Tests may be as long as the story they tell.
        if item.ident != "tests" {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The file without its test module, which stands last.
fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Every source of ours, without what cargo built.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder's entry").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
