//! Events: what happened, for people. Appended in the transaction that makes the transition, so each is told once
//! however many workers saw it; the oldest are removed beyond a bound. Nothing is planned from them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Orders events: by time, then by an arbitrary number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// Of a moment (milliseconds since 1970, UTC) and an arbitrary number that tells apart what happened in it.
    pub fn new(at_ms: u64, distinct: u64) -> Self {
        // Fixed width, so that the order of texts, which is the store's, is the order of times.
        EventId(format!("{at_ms:016x}-{distinct:016x}"))
    }
}

impl core::fmt::Display for EventId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the order.
    pub id: EventId,
    /// When, in milliseconds since 1970 (UTC), by the clock of whoever wrote it.
    pub at_ms: u64,
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// One sentence, for people.
    pub text: String,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As wished.
    Info,
    /// Something is missing; what is left serves.
    Warning,
    /// Something does not serve.
    Error,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// Of which kind.
    pub kind: SubjectKind,
    /// Its id.
    pub id: Uuid,
}

/// Of which kind an event's subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    /// A disk node.
    DiskNode,
    /// A controller node.
    ControllerNode,
    /// A pool.
    Pool,
    /// A volume.
    Volume,
    /// A host.
    Host,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_by_time_first() {
        assert!(EventId::new(9, u64::MAX) < EventId::new(10, 0));
        assert!(EventId::new(10, 1) < EventId::new(10, 2));
    }
}
