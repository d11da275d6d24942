//! The times and sizes by which groups of legs work; one place, one default each.

use crate::{Blocks, Duration};

/// Times and sizes. The same for all groups of a slice; may differ from owner to owner except for `lease`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// R5: for how long an answer of a leg lets its owner serve. `None` only where no other owner can ever be (tests, a
    /// single node): then a new owner does not wait either. All owners of a slice must have the same.
    pub lease: Option<Duration>,
    /// Added to `lease` where a new owner waits for an old one's to run out: how far clocks may drift apart in that time.
    pub clock_margin: Duration,
    /// While opening: how long to wait for legs of the in-sync set before the slice is opened without them.
    pub give_up_after: Duration,
    /// A leg that has a request unanswered for so long is treated as failed.
    pub leg_timeout: Duration,
    /// When a group has no leg left to serve from: how long requests wait for one before they end `Unavailable`.
    pub unavailable_after: Duration,
    /// How long to wait before a leg that failed, but is still attached, is tried again.
    pub rejoin_after: Duration,
    /// Regions without a write for this long (and at most twice as long) become clean in the bitmap.
    pub bitmap_quiet: Duration,
    /// How long the same may become while many writes find that their region was cleared.
    pub bitmap_quiet_max: Duration,
    /// How much resync copies at once. At most a region.
    pub resync_step: Blocks,
    /// How long resync waits between two steps while there are other requests.
    pub resync_pause: Duration,
    /// How many reads in a row may go to one leg of a mirror. With one, reads go round.
    pub read_run: u32,
}

impl Default for Tuning {
    /// Lease 3 s (margin 500 ms), 10 s for legs at opening, 10 s for an answer, 20 s without any leg, 1 s to try again,
    /// 5 to 320 s for the bitmap, resync by 256 KiB with pauses of 2 ms, runs of 64 reads.
    fn default() -> Tuning {
        Tuning {
            lease: Some(Duration::from_secs(3)),
            clock_margin: Duration::from_millis(500),
            give_up_after: Duration::from_secs(10),
            leg_timeout: Duration::from_secs(10),
            unavailable_after: Duration::from_secs(20),
            rejoin_after: Duration::from_secs(1),
            bitmap_quiet: Duration::from_secs(5),
            bitmap_quiet_max: Duration::from_secs(320),
            resync_step: Blocks(64),
            resync_pause: Duration::from_millis(2),
            read_run: 64,
        }
    }
}
