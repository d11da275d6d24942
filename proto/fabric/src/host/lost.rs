//! Why an association came to an end.

use crate::driver::CloseReason;
use crate::tcp::host::Fault;
use core::fmt;
use nvme::Status;

/// Why an association came to an end, or an attempt to make one failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// A connection closed, or could not be opened.
    Closed(CloseReason),
    /// It was not usable before the connect timeout.
    ConnectTimeout,
    /// A command was not answered before the command timeout.
    CommandTimeout,
    /// The controller broke NVMe/TCP, sent damaged data, or asked to terminate.
    Fault(Fault),
    /// The controller refused a command without which there is no association.
    Refused {
        /// Which.
        what: &'static str,
        /// With which status.
        status: Status,
    },
    /// The controller says that it has failed (CSTS.CFS).
    ControllerFatal,
    /// What the controller says of itself makes no sense, or asks for what this host has not.
    Unusable(&'static str),
    /// The owner asked for it.
    Disconnected,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Closed(CloseReason::Peer) => write!(f, "the controller closed the connection"),
            Lost::Closed(CloseReason::Broken) => write!(f, "the connection broke or could not be opened"),
            Lost::ConnectTimeout => write!(f, "connecting took too long"),
            Lost::CommandTimeout => write!(f, "a command was not answered in time"),
            Lost::Fault(fault) => write!(f, "{fault}"),
            Lost::Refused { what, status } => write!(f, "{what} was refused: {status}"),
            Lost::ControllerFatal => write!(f, "the controller reports a fatal error"),
            Lost::Unusable(what) => write!(f, "the controller is of no use: {what}"),
            Lost::Disconnected => write!(f, "disconnected"),
        }
    }
}
