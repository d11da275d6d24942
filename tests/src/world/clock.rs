//! A node's own clock: the world's time from another origin, at another rate.

use block::Time;

/// How a node's monotonic clock stands to the world's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// What it shows at the beginning of the world, in nanoseconds.
    pub origin_ns: u64,
    /// How much faster it goes than the world, in millionths; slower, if negative.
    pub ppm: i64,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    /// What the clock shows.
    pub fn local(self, world: Time) -> Time {
        let passed = i128::from(world.0) * (MILLION + i128::from(self.ppm)) / MILLION;
        Time(self.origin_ns + u64::try_from(passed).expect("clocks go forward"))
    }

    /// The first moment at which the clock shows this much or more.
    pub fn world(self, local: Time) -> Time {
        let passed = i128::from(local.0.saturating_sub(self.origin_ns));
        let rate = MILLION + i128::from(self.ppm);
        let mut world = Time(u64::try_from((passed * MILLION) / rate).unwrap_or(u64::MAX));
        while world.0 < u64::MAX && self.local(world) < local {
            world.0 += 1;
        }
        world
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_comes_neither_early_nor_late() {
        for ppm in [-50_000, -200, -1, 0, 1, 200, 50_000] {
            let clock = Clock {
                origin_ns: 77_000_000_123,
                ppm,
            };
            for due in (77_000_000_123..).step_by(987_654_321).take(500).map(Time) {
                let world = clock.world(due);
                assert!(clock.local(world) >= due);
                assert!(world == Time::ZERO || clock.local(Time(world.0 - 1)) < due);
            }
            assert_eq!(clock.world(Time::ZERO), Time::ZERO, "what is long due is due now");
        }
    }

    #[test]
    fn a_clock_never_goes_back_and_has_its_rate() {
        let clock = Clock {
            origin_ns: 5,
            ppm: -50_000,
        };
        let shown: Vec<Time> = (0..10_000).map(|at| clock.local(Time(at))).collect();
        assert!(shown.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(clock.local(Time(1_000_000)), Time(950_005));
    }
}
