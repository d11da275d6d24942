//! What the control plane takes from outside beside records: chance, and the wall clock. Every process has a store, so this comes with it:
//! a simulation that stands in for the store stands in for these, too, and one seed is one run.

use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Chance and the wall clock. Nothing is decided by the clock: it is for what people read.
pub trait Outside: Send + Sync {
    /// Bits that nobody can guess: for ids, secrets, and pauses that shall differ.
    fn random(&self) -> u64;
    /// Milliseconds since 1970 (UTC).
    fn now_ms(&self) -> u64;
}

impl dyn Outside + '_ {
    /// An id that is never given again.
    pub fn fresh_id(&self) -> Uuid {
        let bits = u128::from(self.random()) << 64 | u128::from(self.random());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }
}

/// This machine's.
pub struct Machine;

impl Outside for Machine {
    fn random(&self) -> u64 {
        rand::random()
    }
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
