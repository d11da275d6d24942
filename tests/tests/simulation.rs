//! Whole data planes under trouble, by seed: `TRESTLE_SEED=N cargo test -p tests --test simulation -- --nocapture` replays one, with a
//! line for everything that was done to it; `TRESTLE_SEEDS=FROM..TO` runs a range.

use tests::fabric::run_seed;

#[test]
fn no_trouble_costs_an_acknowledged_byte() {
    if let Ok(seed) = std::env::var("TRESTLE_SEED") {
        let outcome = run_seed(seed.parse().expect("a number"), true).unwrap_or_else(|what| panic!("{what}"));
        println!("{outcome:?}");
        return;
    }
    let seeds = match std::env::var("TRESTLE_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("FROM..TO");
            from.parse().expect("a number")..to.parse().expect("a number")
        }
        Err(_) => 0..40u64,
    };
    let (mut operations, mut troubles, mut epochs, mut memberships) = (0, 0, 0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = run_seed(seed, false).unwrap_or_else(|what| panic!("{what}"));
        operations += outcome.operations;
        troubles += outcome.troubles;
        epochs += outcome.epochs;
        memberships += outcome.memberships;
    }
    println!(
        "{count} seeds: {operations} operations, {troubles} troubles, {epochs} epochs, {memberships} changes of membership"
    );
    assert!(
        operations > 100 * count && epochs > count && memberships > 0,
        "the host and the trouble must be real"
    );
}
