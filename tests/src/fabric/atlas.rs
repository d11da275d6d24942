//! The fault atlas: everything that is done to a data plane, and why each lies inside what is promised.
//!
//! What is promised ([design], decisions 0010 and 0012): while one leg of the recorded in-sync set can be reached, or comes back as it
//! was, no acknowledged byte is lost and everything in flight ends once the trouble is over. What a flush covered, or a write with
//! forced unit access, survives the loss of power on every leg at once.
//!
//! What is not promised, and so never drawn (each guard below names the part that it keeps out):
//! * that a leg whose disk lost a volatile cache is told from one that lost nothing, if the owner dies or is replaced, or the
//!   other legs die, before the store has recorded that it is out ([`Guard::Alone`]);
//! * that a medium's error is hidden where no other leg has the block ([`Guard::Spare`]);
//! * that a disk comes back empty and is taken for the same one (memory disks are new disks at every start: a matter of planning).
//!
//! A [`Story`] is drawn from the seed before anything happens, so that it can be told again with parts left out.

use crate::world::Random;
use std::time::Duration;

/// What can be done to a data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The slice is granted to the other controller node, under the next epoch: R1 and R2 make it safe at any moment.
    OwnerSwitched,
    /// The owner's process dies and its kernel closes its connections: owners keep nothing that the legs do not have.
    OwnerKilled,
    /// As before, of the standby: it has nothing to lose.
    StandbyKilled,
    /// The owner's machine dies without a word: its silence is noticed by keep-alives and leases.
    OwnerVanished,
    /// As before, of the standby.
    StandbyVanished,
    /// A disk node's process dies; its disks keep what they were given, flushed or not: the leg comes back as it was.
    DiskNodeKilled,
    /// A disk node's machine is unreachable and then started again, its disks never without power.
    DiskNodeVanished,
    /// A process stands still and does not notice: its leases run out in the meantime (R5).
    Paused,
    /// Two nodes cannot reach each other for a while: bytes wait, as TCP has it.
    Cut,
    /// As before, one way only.
    CutOneWay,
    /// A node cannot reach anybody.
    Isolated,
    /// The owner keeps one leg alone, its successor gets all the others: the fence misses a leg, leases and the set must do (R3, R5).
    Split,
    /// Bytes between two nodes take fifty times as long.
    SlowLink,
    /// A connection breaks in the middle of whatever it carries, and both ends are told: what was not answered is asked again (R8).
    ConnectionBroken,
    /// A connection carries nothing any more, and nobody is told: keep-alives and timeouts end it.
    ConnectionSwallowed,
    /// The store is away: nothing is recorded, so smaller sets are not acknowledged with (R3).
    StoreAway,
    /// Messages of the control plane are lost, late, doubled and out of order: revisions and numbers put them in order.
    NewsGarbled,
    /// One disk node loses power and what its disks had not on the media: the others have it.
    PowerCut,
    /// Every disk node loses power at once: what was flushed is on the media of every leg in sync (R12).
    Blackout,
    /// As before, and every controller node too.
    SiteBlackout,
    /// A disk takes thirty times as long.
    DiskSlow,
    /// A disk's queue is full: requests end one after the other.
    DiskQueueFull,
    /// A disk answers nothing for a while, and then everything.
    DiskStuck,
    /// Some reads end in a medium's error: another leg has the blocks.
    ReadErrors,
    /// Some writes end in a medium's error, written or not: the leg leaves, the others have it.
    WriteErrors,
}

/// What must be so for a fault to lie inside what is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    Always,
    /// Everything is in order: all legs are in sync, alive and reached, the newest epoch serves, the store is there, nothing else is
    /// under way. And nothing else happens until the store has recorded what became of it.
    Alone,
    /// As [`Guard::Alone`], and the group has more than one leg.
    Spare,
}

/// Every fault with its weight: how often it is drawn.
pub const ATLAS: [(Fault, u32); 25] = [
    (Fault::OwnerSwitched, 8),
    (Fault::OwnerKilled, 4),
    (Fault::StandbyKilled, 2),
    (Fault::OwnerVanished, 2),
    (Fault::StandbyVanished, 2),
    (Fault::DiskNodeKilled, 6),
    (Fault::DiskNodeVanished, 3),
    (Fault::Paused, 5),
    (Fault::Cut, 6),
    (Fault::CutOneWay, 5),
    (Fault::Isolated, 4),
    (Fault::Split, 6),
    (Fault::SlowLink, 4),
    (Fault::ConnectionBroken, 8),
    (Fault::ConnectionSwallowed, 3),
    (Fault::StoreAway, 6),
    (Fault::NewsGarbled, 4),
    (Fault::PowerCut, 8),
    (Fault::Blackout, 4),
    (Fault::SiteBlackout, 3),
    (Fault::DiskSlow, 3),
    (Fault::DiskQueueFull, 3),
    (Fault::DiskStuck, 3),
    (Fault::ReadErrors, 5),
    (Fault::WriteErrors, 5),
];

impl Fault {
    /// What must be so.
    pub fn guard(self) -> Guard {
        match self {
            Fault::PowerCut | Fault::ReadErrors | Fault::WriteErrors => Guard::Spare,
            Fault::Blackout | Fault::SiteBlackout => Guard::Alone,
            _ => Guard::Always,
        }
    }

    fn draw(random: &mut Random) -> Fault {
        let all: u32 = ATLAS.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(u64::from(all)) as u32;
        for (fault, weight) in ATLAS {
            if at < weight {
                return fault;
            }
            at -= weight;
        }
        unreachable!("below the sum of all weights")
    }
}

/// A fault of a story.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Its place in the story as it was drawn: names it when parts are left out.
    pub number: usize,
    /// When, since the beginning.
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// For how long, where that means something.
    pub span: Duration,
    /// To whom or what: counted round among those that there are.
    pub pick: u64,
}

/// Everything that is drawn before a run begins.
#[derive(Clone, Debug)]
pub struct Story {
    /// The seed.
    pub seed: u64,
    /// How many legs mirror each other: 1 to 3.
    pub legs: usize,
    /// How far clocks may go apart, in millionths either way.
    pub drift_ppm: u64,
    /// For how long trouble is made.
    pub span: Duration,
    /// The faults, by time.
    pub faults: Vec<Planned>,
}

/// By how much clocks go apart in most stories: what cheap oscillators do.
const DRIFT_PPM: u64 = 200;
/// By how much they do in some: with the simulated tuning, a lease of 800 ms on a clock that is so slow ends 100 ms of a clock that is so
/// fast before a successor believes it has (`Tuning::clock_margin`): 800 / (1 - r) < 900 / (1 + r).
const DRIFT_PPM_MAX: u64 = 50_000;
/// On average, between two faults.
const PAUSE_MS: u64 = 700;
/// A fault lasts at most this.
const SPAN_MS_MAX: u64 = 4_000;

impl Story {
    /// The story of a seed.
    pub fn draw(seed: u64) -> Story {
        let mut random = Random::new(seed ^ 0xFAB);
        let legs = 1 + random.below(3) as usize;
        let drift_ppm = if random.one_in(4) {
            DRIFT_PPM_MAX
        } else {
            DRIFT_PPM
        };
        let span = Duration::from_secs(20);
        let mut faults = Vec::new();
        let mut at = Duration::from_millis(PAUSE_MS);
        while at < span {
            faults.push(Planned {
                number: faults.len(),
                at,
                fault: Fault::draw(&mut random),
                span: Duration::from_millis(1 + random.below(SPAN_MS_MAX)),
                pick: random.draw(),
            });
            at += Duration::from_millis(1 + random.below(2 * PAUSE_MS));
        }
        Story {
            seed,
            legs,
            drift_ppm,
            span,
            faults,
        }
    }

    /// The same with these faults only, by number.
    pub fn only(&self, numbers: &[usize]) -> Story {
        let faults = self.faults.iter().copied();
        Story {
            faults: faults
                .filter(|planned| numbers.contains(&planned.number))
                .collect(),
            ..self.clone()
        }
    }

    /// The numbers of its faults.
    pub fn numbers(&self) -> Vec<usize> {
        self.faults.iter().map(|planned| planned.number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_fault_is_drawn_as_often_as_it_weighs() {
        let mut counts: BTreeMap<Fault, u32> = BTreeMap::new();
        for seed in 0..2_000 {
            for planned in Story::draw(seed).faults {
                *counts.entry(planned.fault).or_default() += 1;
            }
        }
        let drawn: u32 = counts.values().sum();
        let weights: u32 = ATLAS.iter().map(|(_, weight)| weight).sum();
        for (fault, weight) in ATLAS {
            let expected = f64::from(drawn) * f64::from(weight) / f64::from(weights);
            let seen = f64::from(counts[&fault]);
            assert!(
                (0.8..1.2).contains(&(seen / expected)),
                "{fault:?}: {seen} of {expected}"
            );
        }
    }

    #[test]
    fn a_story_is_its_seed_and_its_parts_keep_their_names() {
        let story = Story::draw(7);
        assert_eq!(format!("{story:?}"), format!("{:?}", Story::draw(7)));
        let part = story.only(&[1, 3]);
        assert_eq!(part.numbers(), [1, 3]);
        assert_eq!(part.faults[1].fault, story.faults[3].fault);
    }

    #[test]
    fn the_farthest_drift_stays_within_the_margin() {
        let tuning = super::super::tuning();
        let lease = tuning.lease.expect("the world has leases").as_secs_f64();
        let rate = DRIFT_PPM_MAX as f64 / 1e6;
        let longest_lease = lease / (1.0 - rate);
        let shortest_wait = (lease + tuning.clock_margin.as_secs_f64()) / (1.0 + rate);
        assert!(longest_lease < shortest_wait);
    }
}
