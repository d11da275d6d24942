//! Power cuts at every moment of a story; see `tests::cuts`.
//!
//! Without anything else: so many cuts of each story as it says, by fixed seeds. `TRESTLE_CUTS=every` tries every cut of every story,
//! `TRESTLE_CUTS=every:NAME` of one; `TRESTLE_CUT=NAME:MOMENT:WAY` one cut, which is how a failure says it can be seen again.

use std::time::Instant;
use tests::cuts::explore::{Effort, explore};
use tests::cuts::stories::{ALL, Story};

const SEED: u64 = 1;

/// Which stories, how much of each.
fn chosen() -> (Vec<&'static Story>, Effort) {
    let named = |name: &str| ALL.iter().filter(|story| story.name == name).collect::<Vec<_>>();
    if let Ok(cut) = std::env::var("TRESTLE_CUT") {
        let parts: Vec<&str> = cut.split(':').collect();
        let [name, moment, way] = parts[..] else {
            panic!("TRESTLE_CUT=NAME:MOMENT:WAY")
        };
        let number = |text: &str| text.parse().expect("a number");
        let (moment, way) = (number(moment), number(way));
        return (named(name), Effort::Only { moment, way });
    }
    match std::env::var("TRESTLE_CUTS").as_deref() {
        Ok("every") => (ALL.iter().collect(), Effort::Every),
        Ok(one) if one.starts_with("every:") => (named(&one["every:".len()..]), Effort::Every),
        Ok(one) => (named(one), Effort::Sampled),
        Err(_) => (ALL.iter().collect(), Effort::Sampled),
    }
}

#[test]
fn no_power_cut_costs_what_was_promised() {
    let (stories, effort) = chosen();
    assert!(!stories.is_empty(), "there is no such story");
    println!(
        "{:<18} {:>7} {:>8} {:>8} {:>7} {:>8}",
        "story", "writes", "flushes", "moments", "cuts", "seconds"
    );
    for story in stories {
        let begun = Instant::now();
        let tally = explore(story, SEED, effort).unwrap_or_else(|what| panic!("{what}"));
        println!(
            "{:<18} {:>7} {:>8} {:>8} {:>7} {:>8.1}",
            story.name,
            tally.writes,
            tally.flushes,
            tally.moments,
            tally.cuts,
            begun.elapsed().as_secs_f64()
        );
        assert!(tally.cuts > 0, "a story that is not cut proves nothing");
    }
}
