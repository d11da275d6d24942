//! What must hold, by name.

use std::fmt;

/// A rule; R1 to R12 are the design's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// One owner: an epoch is served by one process, and epochs and revisions only grow.
    R1,
    /// Fence first: nothing of an older epoch is executed once the fence was answered.
    R2,
    /// No acknowledgement without membership: every leg of the recorded set has it.
    R3,
    /// The way back: a leg outside the set is not read from, and has everything when it enters.
    R4,
    /// Leases: who is no owner any more answers nothing that was asked since another serves.
    R5,
    /// Path conditions are path conditions: no other error, and optimized only from who serves.
    R7,
    /// Format once.
    R9,
    /// No old data: what was never written reads as zeroes.
    R10,
    /// Mirrors never diverge: at rest legs in sync are equal where volumes lie.
    R11,
    /// Durable means durable: what was flushed outlives the loss of every cache.
    R12,
    /// Every read returns the last acknowledged write or a concurrent one (R6 and R8 show here).
    History,
    /// Once trouble has ended, everything in flight ends and every leg comes back.
    Liveness,
    /// At rest nothing is held: buffers, connections, requests.
    Leak,
    /// An assertion of the machines themselves.
    Assertion,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Rule::R1 => "R1 one owner",
            Rule::R2 => "R2 fence first",
            Rule::R3 => "R3 no acknowledgement without membership",
            Rule::R4 => "R4 the way back",
            Rule::R5 => "R5 leases",
            Rule::R7 => "R7 path conditions",
            Rule::R9 => "R9 format once",
            Rule::R10 => "R10 no old data",
            Rule::R11 => "R11 mirrors never diverge",
            Rule::R12 => "R12 durable means durable",
            Rule::History => "history",
            Rule::Liveness => "liveness",
            Rule::Leak => "nothing leaked",
            Rule::Assertion => "assertion",
        };
        f.write_str(words)
    }
}

/// A rule that did not hold.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// What was seen.
    pub what: String,
}

impl Broken {
    /// Of this rule, in these words.
    pub fn new(rule: Rule, what: impl Into<String>) -> Broken {
        let what = what.into();
        Broken { rule, what }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.rule, self.what)
    }
}
