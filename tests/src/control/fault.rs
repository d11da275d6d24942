//! What can go wrong around a control plane, each by name; drawn from the seed, inside what is promised: no disk loses data, whoever is away
//! comes back, and in the end all faults stop.

use crate::world::Random;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// A fault. Those with a span last for a while; the others happen at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Calls of the store take seconds.
    StoreStalls,
    /// The store answers nobody: reads and commits are told that it is away, and nothing happens.
    StoreAway,
    /// Commits are not answered: some happened, some did not, some happen later.
    StoreOutcomesUnknown,
    /// Transactions conflict though nobody wrote: the store was asked while it elected, say. Allowed by compares that may fail.
    StoreConflicts,
    /// What watches tell arrives late, by seconds.
    WatchesLate,
    /// All watches break: what they had not told yet is lost with them.
    WatchesLost,
    /// The store forgets all but the present.
    Compaction,
    /// A worker stands still for longer than its lease: it is taken over, and then goes on with what it knew.
    WorkerPauses,
    /// A worker dies, between any two of its calls; another one starts.
    WorkerCrashes,
    /// An api-server dies, between any two calls of its requests; another one starts.
    ApiServerCrashes,
    /// Calls are lost, before or after they took effect.
    CallsLost,
    /// Calls take up to seconds: they overtake each other.
    CallsLate,
    /// Calls arrive twice, the second time late.
    CallsTwice,
    /// A node's agent is reached by nobody, and reaches nobody; the node goes on.
    NodeCut,
    /// A node's process dies and starts again as another incarnation, perhaps at another address, from its ledger.
    NodeRestarts,
    /// The same, in the middle of a write of its ledger.
    NodeRestartsWriting,
    /// A node is away for a while.
    NodeAway,
}

/// All of them, and how long they last at most; some come oftener.
const ATLAS: &[(Fault, u64)] = &[
    (Fault::StoreStalls, 8_000),
    (Fault::StoreAway, 8_000),
    (Fault::StoreOutcomesUnknown, 10_000),
    (Fault::StoreConflicts, 6_000),
    (Fault::WatchesLate, 10_000),
    (Fault::WatchesLost, 0),
    (Fault::Compaction, 0),
    (Fault::WorkerPauses, 14_000),
    (Fault::WorkerCrashes, 0),
    (Fault::ApiServerCrashes, 0),
    (Fault::CallsLost, 10_000),
    (Fault::CallsLate, 10_000),
    (Fault::CallsTwice, 25_000),
    (Fault::CallsTwice, 25_000),
    (Fault::NodeCut, 12_000),
    (Fault::NodeRestarts, 0),
    (Fault::NodeRestarts, 0),
    (Fault::NodeRestartsWriting, 3_000),
    (Fault::NodeAway, 15_000),
    (Fault::NodeAway, 3_000),
];

/// Draw one, and how long it lasts (zero: a moment).
pub fn draw(random: &mut Random) -> (Fault, Duration) {
    let (fault, most_ms) = ATLAS[random.below(ATLAS.len() as u64) as usize];
    let span_ms = if most_ms == 0 {
        0
    } else {
        500 + random.below(most_ms)
    };
    (fault, Duration::from_millis(span_ms))
}

/// The faults that last, and until when.
#[derive(Debug, Default)]
pub struct Weather {
    until: BTreeMap<Fault, Instant>,
}

impl Weather {
    /// From now on, for so long.
    pub fn begin(&mut self, fault: Fault, span: Duration) {
        self.until.insert(fault, Instant::now() + span);
    }
    /// Whether it lasts now.
    pub fn is(&self, fault: Fault) -> bool {
        self.until
            .get(&fault)
            .is_some_and(|until| *until > Instant::now())
    }
    /// The sky is clear.
    pub fn end_all(&mut self) {
        self.until.clear();
    }
}
