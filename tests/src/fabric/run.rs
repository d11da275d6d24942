//! A seed's run: its story drawn, told, and, if a rule did not hold, made as short as it can be and still break one.

use super::{Broken, Fabric, LEGEND, Rule, Story};
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

/// What became of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Operations of hosts that ended.
    pub operations: u64,
    /// Faults done.
    pub faults: u64,
    /// Epochs granted.
    pub epochs: u64,
    /// Changes of the in-sync set.
    pub memberships: u64,
    /// Blocks that were looked at on legs.
    pub looked_at: u64,
    /// Volumes that came and went.
    pub volumes: u64,
    /// Virtual seconds.
    pub seconds: u64,
    /// Happenings of the world.
    pub happenings: u64,
}

impl Outcome {
    /// Adds another run's.
    pub fn add(&mut self, other: &Outcome) {
        self.operations += other.operations;
        self.faults += other.faults;
        self.epochs += other.epochs;
        self.memberships += other.memberships;
        self.looked_at += other.looked_at;
        self.volumes += other.volumes;
        self.seconds += other.seconds;
        self.happenings += other.happenings;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} I/Os, {} faults, {} epochs, {} changes of membership, {} volumes gone, {} blocks looked at on legs, {} virtual seconds",
            self.operations,
            self.faults,
            self.epochs,
            self.memberships,
            self.volumes,
            self.looked_at,
            self.seconds
        )
    }
}

/// A run that broke a rule.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Of the story.
    pub seed: u64,
    /// The rule, and what was seen.
    pub broken: Broken,
    /// The shortest story found that breaks a rule.
    pub story: Story,
    /// What that one breaks.
    pub then: Broken,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure {
            seed,
            broken,
            story,
            then,
        } = self;
        writeln!(f, "seed {seed} at {}: {broken}", commit())?;
        writeln!(
            f,
            "the shortest story that was found has {} legs, clocks apart by {} ppm, and {} faults: {then}",
            story.legs,
            story.drift_ppm,
            story.faults.len()
        )?;
        for planned in &story.faults {
            writeln!(
                f,
                "  {:>3} at {:>9.3} s: {:?} for {:?}",
                planned.number,
                planned.at.as_secs_f64(),
                planned.fault,
                planned.span
            )?;
        }
        let numbers: Vec<String> = story.numbers().iter().map(usize::to_string).collect();
        write!(
            f,
            "replay: just sim {seed}, or that story alone: TRESTLE_FAULTS={} just sim {seed}",
            numbers.join(",")
        )
    }
}

/// The sources' commit, if it can be told.
fn commit() -> String {
    let told = Command::new("git")
        .args([
            "-C",
            env!("CARGO_MANIFEST_DIR"),
            "describe",
            "--always",
            "--dirty",
        ])
        .output();
    let told = told.ok().filter(|told| told.status.success());
    told.map_or_else(
        || "a commit that is not known".to_owned(),
        |told| String::from_utf8_lossy(&told.stdout).trim().to_owned(),
    )
}

/// How often a story is told again, at most, to make it shorter.
const RETOLD_MAX: usize = 40;

/// One run; if a rule does not hold, many more of the same seed with less and less trouble.
///
/// # Errors
/// The rule that did not hold, and the shortest story that was found.
pub fn run_seed(seed: u64) -> Result<Outcome, Box<Failure>> {
    let story = Story::draw(seed);
    tell(&story, false).map_err(|broken| {
        let (story, then) = shorten(story, broken.clone());
        Box::new(Failure {
            seed,
            broken,
            story,
            then,
        })
    })
}

/// One run with a line for everything that happens to it.
///
/// # Errors
/// The rule that did not hold.
pub fn replay(story: &Story) -> Result<Outcome, Broken> {
    println!("{LEGEND}\n");
    tell(story, true)
}

/// Tells a story; what the machines assert is a rule, too.
///
/// # Errors
/// The rule that did not hold.
pub fn tell(story: &Story, verbose: bool) -> Result<Outcome, Broken> {
    let told = catch_unwind(AssertUnwindSafe(|| Fabric::new(story, verbose).run(story)));
    told.unwrap_or_else(|panic| Err(Broken::new(Rule::Assertion, words(&*panic))))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_owned()
}

/// Leaves out faults, halves first, as long as some rule is still broken.
fn shorten(mut story: Story, mut broken: Broken) -> (Story, Broken) {
    let mut left = RETOLD_MAX;
    let mut part = story.faults.len().div_ceil(2);
    while part > 0 && left > 0 {
        let mut shorter = false;
        let mut from = 0;
        while from < story.faults.len() && left > 0 {
            let numbers = story.numbers();
            let until = (from + part).min(numbers.len());
            let rest: Vec<usize> = numbers[..from].iter().chain(&numbers[until..]).copied().collect();
            left -= 1;
            match tell(&story.only(&rest), false) {
                Err(then) => {
                    story = story.only(&rest);
                    broken = then;
                    shorter = true;
                }
                Ok(_) => from = until,
            }
        }
        if !shorter || part > 1 {
            part /= 2;
        }
    }
    (story, broken)
}

impl Fabric {
    /// Tells a story, lets everything come to rest, and looks at what is left.
    ///
    /// # Errors
    /// The first rule that did not hold.
    pub fn run(&mut self, story: &Story) -> Result<Outcome, Broken> {
        let begun = self.world.now();
        let mut faults = story.faults.iter().peekable();
        while self.world.now() < begun + story.span {
            self.keep_busy();
            let next = faults.peek().map_or(story.span, |planned| planned.at);
            self.step(begun + next.min(story.span))?;
            while let Some(planned) = faults.next_if(|planned| begun + planned.at <= self.world.now()) {
                self.inflict(planned);
            }
        }
        self.come_to_rest()?;
        self.outcome.looked_at = self.legs.looked_at;
        self.outcome.volumes = self.load.volumes_gone();
        self.outcome.seconds = Duration::from_nanos(self.world.now().0).as_secs();
        self.outcome.happenings = self.world.happenings();
        Ok(self.outcome.clone())
    }
}
