//! `trestle bench`, against its own target.
//!
//! Deliberate bugs that these tests catch: stamps that are not checked; load that goes on after the end; a share that reaches into
//! another's; hosts of which nobody is told that they were lost.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_trestle");

/// A target, as long as it is held.
struct Target {
    child: Child,
    address: String,
    nqn: String,
}

impl Target {
    fn start(disk: &str) -> Target {
        let mut child = Command::new(BINARY)
            .args(["bench", "serve", "--listen", "127.0.0.1:0", "--disk", disk])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("it says where it is");
        let words: Vec<&str> = line.split_whitespace().collect();
        let behind = |word: &str| {
            let at = words.iter().position(|other| *other == word);
            words[at.unwrap_or_else(|| panic!("{word} in {line}")) + 1].to_owned()
        };
        Target {
            address: behind("on"),
            nqn: behind("nqn"),
            child,
        }
    }

    fn run(&self, options: &[&str]) -> Output {
        let pid = format!("{}:target", self.child.id());
        Command::new(BINARY)
            .args(["bench", "run", "--address", &self.address, "--nqn", &self.nqn])
            .args([
                "--seconds",
                "0.2",
                "--warm-up",
                "0.1",
                "--json",
                "--account",
                &pid,
            ])
            .args(options)
            .output()
            .expect("it runs")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn row(output: &Output) -> serde_json::Value {
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn loads_of_every_kind_are_verified_and_told() {
    let target = Target::start("memory:64MiB");
    let loads: [&[&str]; 6] = [
        &["--mix", "50%", "--verify", "--range", "1MiB"],
        &[
            "--mix",
            "70%",
            "--verify",
            "--block-size",
            "128KiB",
            "--queue-depth",
            "4",
        ],
        &[
            "--mix",
            "50%",
            "--verify",
            "--cores",
            "2",
            "--connections",
            "2",
            "--associations",
            "2",
        ],
        &["--mix", "50%", "--verify", "--digests", "--pattern", "sequential"],
        &["--mix", "50%", "--verify", "--block-size", "2MiB", "-q", "2"],
        &["--mix", "write", "--rate", "500"],
    ];
    for load in loads {
        let output = target.run(load);
        let row = row(&output);
        assert!(output.status.success(), "{load:?}: {row}");
        assert!(row["ios"].as_u64() > Some(0), "{load:?}: {row}");
        assert_eq!(
            (&row["errors"], &row["mismatches"], &row["lost"]),
            (&0.into(), &0.into(), &0.into()),
            "{load:?}"
        );
        for process in ["bench", "target"] {
            assert!(
                row["cpu_us_per_io"][process].as_f64() > Some(0.0),
                "{load:?}: {row}"
            );
        }
        let latency = |name: &str| row["latency"][name].as_f64().expect("a number");
        assert!(latency("p50_us") <= latency("p99_us") && latency("p99_us") <= latency("max_us"));
    }
}

#[test]
fn many_paths_are_one_way() {
    let target = Target::start("memory:64MiB");
    let again = target.address.replace("127.0.0.1", "127.0.0.2");
    // Nobody listens there: what cannot be connected is said.
    let output = target.run(&["--address", &again]);
    assert!(!output.status.success());
    let output = target.run(&["--address", &target.address, "--mix", "50%", "--verify"]);
    assert!(output.status.success(), "{output:?}");
    assert!(row(&output)["ios"].as_u64() > Some(0));
}

#[test]
fn a_disk_that_forgets_is_found_out() {
    let target = Target::start("null:64MiB");
    let output = target.run(&["--mix", "50%", "--verify", "--range", "1MiB"]);
    assert!(!output.status.success(), "{output:?}");
    assert!(row(&output)["mismatches"].as_u64() > Some(0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("reads were wrong"), "{said}");
    let output = target.run(&["--mix", "50%"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_floor_moves_bytes() {
    let output = Command::new(BINARY)
        .args([
            "bench",
            "floor",
            "--seconds",
            "0.1",
            "--warm-up",
            "0",
            "--waiting",
            "sleep",
            "--json",
        ])
        .output()
        .expect("it runs");
    assert!(row(&output)[0]["ios"].as_u64() > Some(0));
}

#[test]
fn disks_of_one_target_are_subsystems_of_their_own() {
    let mut child = Command::new(BINARY)
        .args(["bench", "serve", "--listen", "127.0.0.1:0"])
        .args(["--disk", "memory:64MiB", "--disk", "memory:32MiB"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let lines: Vec<String> = out.lines().take(2).map(|line| line.expect("text")).collect();
    let nqns: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').nth(4)).collect();
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(nqns.len(), 2, "{lines:?}");
    assert_ne!(nqns[0], nqns[1]);
}

#[test]
fn hosts_with_nothing_to_do_stay_connected() {
    let target = Target::start("memory:64MiB");
    let output = Command::new(BINARY)
        .args([
            "bench",
            "hosts",
            "--address",
            &target.address,
            "--nqn",
            &target.nqn,
        ])
        .args(["--count", "7", "--connections", "2", "--keep-alive-ms", "200"])
        .args(["--seconds", "0.5", "--json"])
        .output()
        .expect("it runs");
    let row = row(&output);
    assert!(output.status.success(), "{row}");
    for (field, expected) in [("associations", 7), ("namespaces", 7), ("lost", 0)] {
        assert_eq!(row[field], expected, "{field}: {row}");
    }
}

#[test]
fn hosts_that_are_lost_are_told() {
    let mut target = Target::start("memory:64MiB");
    let mut hosts = Command::new(BINARY)
        .args([
            "bench",
            "hosts",
            "--address",
            &target.address,
            "--nqn",
            &target.nqn,
        ])
        .args(["--count", "3", "--seconds", "2", "--json"])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(hosts.stderr.take().expect("piped"));
    let connected = said
        .by_ref()
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("3 associations"));
    assert!(connected.is_some(), "it says when all are connected");
    target.child.kill().expect("it runs");
    let output = hosts.wait_with_output().expect("it ends");
    assert!(!output.status.success());
    let row = row(&output);
    assert!(row["lost"].as_u64() >= Some(3), "{row}");
}
