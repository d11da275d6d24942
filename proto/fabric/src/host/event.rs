//! What an association asks of the driver, and what it tells its owner.

use super::command::Tag;
use super::lost::Lost;
use crate::driver::{ConnectionId, Segment};
use nvme::Status;
use nvme::log::DiscoveryEntry;
use nvme::reservation::Report;
use std::net::SocketAddr;

/// What an association asks of the driver, and tells its owner.
#[derive(Debug)]
pub enum AssociationOutput {
    /// As [`crate::driver::Output::Connect`].
    Connect {
        /// Its name.
        connection: ConnectionId,
        /// Where to.
        address: SocketAddr,
    },
    /// As [`crate::driver::Output::Send`].
    Send {
        /// Where.
        connection: ConnectionId,
        /// What.
        segment: Segment,
    },
    /// As [`crate::driver::Output::Close`].
    Close {
        /// Which.
        connection: ConnectionId,
        /// Drop what is unsent.
        abort: bool,
    },
    /// For the owner.
    Event(AssociationEvent),
}

/// What an association tells its owner.
#[derive(Debug)]
pub enum AssociationEvent {
    /// Requests are taken from now on, and the namespaces are known.
    Ready {
        /// The controller.
        cntlid: u16,
    },
    /// There is no association any more, or an attempt failed. It connects again by itself after a while, unless the
    /// owner has disconnected it.
    Lost {
        /// Why.
        reason: Lost,
    },
    /// A request has ended. The buffer is the owner's alone again.
    Completed {
        /// Which.
        tag: Tag,
        /// Dwords 0 and 1 of the completion (of the last, if it was cut), or what it failed with.
        result: Result<u64, Status>,
    },
    /// A Reservation Report has ended.
    ReservationStatus {
        /// Which.
        tag: Tag,
        /// Who is registered, and what is held.
        result: Result<Report, Status>,
    },
    /// The namespaces or their ANA states were read again: see [`super::Association::namespaces`].
    NamespacesRead,
    /// The discovery log was read.
    DiscoveryLog {
        /// Its entries.
        entries: Vec<DiscoveryEntry>,
    },
}
