//! A whole control plane under trouble, by seed: `TRESTLE_SEED=N cargo test -p tests --test control_plane -- --nocapture` replays one, with a
//! readable line per event; `TRESTLE_SEEDS=FROM..TO` runs a range.

use tests::control::run_seed;

#[test]
fn no_trouble_breaks_a_rule_and_all_comes_to_rest() {
    if let Ok(seed) = std::env::var("TRESTLE_SEED") {
        let outcome = run_seed(seed.parse().expect("a number"), true).unwrap_or_else(|what| panic!("{what}"));
        println!("{} revisions, {} lines", outcome.revisions, outcome.trace.len());
        return;
    }
    let seeds: Vec<u64> = match std::env::var("TRESTLE_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("FROM..TO");
            (from.parse().expect("a number")..to.parse().expect("a number")).collect()
        }
        Err(_) => (0..10).collect(),
    };
    let (count, mut revisions, mut failures) = (seeds.len() as u64, 0, Vec::new());
    for seed in seeds {
        match run_seed(seed, false) {
            Ok(outcome) => revisions += outcome.revisions,
            Err(what) => failures.push(what),
        }
    }
    println!("{count} seeds: {revisions} revisions");
    assert!(
        failures.is_empty(),
        "{} of {count} seeds:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(revisions > 100 * count, "people and trouble must be real");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = || run_seed(7, false).map(|outcome| outcome.trace);
    let (one, other) = (run(), run());
    assert_eq!(one, other);
}
