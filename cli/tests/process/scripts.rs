//! What scripts build on: exit codes, JSON, completions, waiting.

use super::session::session;
use super::shared::shared;

#[test]
fn json_is_json_and_tables_are_for_people() {
    let shared = shared();
    let fabric = &shared.fabric;
    for verb in [
        &["status"][..],
        &["pool", "list"],
        &["pool", "show", "p"],
        &["volume", "list"],
        &["volume", "list", "--pool", "p"],
        &["volume", "show", "neighbour"],
        &["host", "list"],
        &["disk-nodes", "list"],
        &["disk-nodes", "show", "d1"],
        &["controller-nodes", "list"],
        &["controller-nodes", "show", "c1"],
        &["operation", "list"],
        &["events"],
    ] {
        let json = fabric.json(verb);
        assert!(
            json.is_object() || json.as_array().is_some_and(|rows| !rows.is_empty()),
            "{verb:?}: {json}"
        );
        let table = fabric.cli(verb).succeeded();
        assert!(
            !table.out.starts_with(['{', '[']) && table.out.lines().count() > 1,
            "{verb:?}: {}",
            table.out
        );
        assert_eq!(table.err, "", "{verb:?}");
    }
    let status = fabric.cli(&["status"]).succeeded().out;
    for word in [
        "Disk nodes",
        "Controller nodes",
        "Pools",
        "Volumes",
        "neighbour",
        "c1 ",
        "serving",
    ] {
        assert!(status.contains(word), "no {word:?} in\n{status}");
    }
    shared.neighbour_goes_on();
}

#[test]
fn completions_are_printed_without_a_cluster() {
    for (shell, sign) in [
        ("bash", "_trestle()"),
        ("zsh", "#compdef trestle"),
        ("fish", "complete -c trestle"),
    ] {
        let script = session(&["completions", shell]).succeeded().out;
        assert!(script.contains(sign), "{shell}");
        for verb in ["disk-nodes", "completions", "failover"] {
            assert!(script.contains(verb), "{shell} knows {verb}");
        }
    }
    session(&["completions", "tcsh"]).refused_with(2, "invalid value 'tcsh'");
}

#[test]
fn wrong_usage_is_told_from_everything_else() {
    session(&["volume", "create"]).refused_with(2, "required arguments were not provided");
    session(&["frobnicate"]).refused_with(2, "unrecognized subcommand 'frobnicate'");
    let start = [
        "controller-node",
        "--name",
        "c",
        "--data-dir",
        "/nonexistent",
        "--api-servers",
        "http://127.0.0.1:1",
    ];
    let anywhere = ["--fabric-listen", "0.0.0.0:4420", "--agent-listen", "127.0.0.1:1"];
    session(&[&start[..], &anywhere].concat()).refused_with(
        1,
        "--fabric-listen 0.0.0.0:4420: name the address and port by which others reach this node",
    );
}

#[test]
fn waiting_ends_in_time_and_says_how_it_went() {
    let shared = shared();
    let fabric = &shared.fabric;
    let grow = ["volume", "create", "waited", "--pool", "p", "--size", "1MiB"];
    let said = fabric.cli(&[&grow[..], &["--wait", "--wait-seconds", "0"]].concat());
    let said = said.refused_with(
        7,
        "trestle: not done after 0 s, and still going on; watch it with `trestle operation wait ",
    );
    let operation = said
        .err
        .split("operation wait ")
        .nth(1)
        .and_then(|rest| rest.split('`').next());
    let operation = operation.expect("its name").to_owned();
    let ended = fabric.json(&["operation", "wait", &operation]);
    assert_eq!(ended["state"], "done");
    fabric.cli(&["volume", "delete", "waited", "--wait"]).succeeded();
    fabric
        .cli(&["volume", "show", "waited"])
        .refused_with(3, "there is no volume \"waited\"");
    shared.neighbour_goes_on();
}
