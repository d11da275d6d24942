//! What an owner may know of its association. Nothing here changes anything.

use super::{Association, Phase};
use crate::host::{AssociationConfig, ControllerFacts, NamespaceTable};
use block::{Blocks, Time};

impl Association {
    /// Whether requests are taken.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// Whether the association is wanted: connecting, waiting to connect again, or ready.
    pub fn is_wanted(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::ShuttingDown { .. })
    }

    /// What it was made with; the host identifier is the present one.
    pub fn config(&self) -> &AssociationConfig {
        &self.config
    }

    /// The range that its connections' names are of ([`crate::host::ConnectionIds::range_of`]).
    pub fn range(&self) -> u32 {
        self.ids.range()
    }

    /// What is known of the controller; of the last one while there is none.
    pub fn controller(&self) -> &ControllerFacts {
        &self.facts
    }

    /// The namespaces as they were last read, also while the association is down.
    pub fn namespaces(&self) -> &NamespaceTable {
        &self.table
    }

    /// The longest read or write that is sent as one command.
    pub fn max_transfer_blocks(&self) -> Blocks {
        Blocks(self.limits().transfer_blocks)
    }

    /// Requests that have not ended.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// The controller is known to have been alive at this time: when the latest of the answered commands was sent.
    /// Leases are counted from here (R5).
    pub fn alive_at(&self) -> Option<Time> {
        self.alive_at
    }
}
