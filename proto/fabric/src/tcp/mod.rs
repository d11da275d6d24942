//! NVMe/TCP (NVMe/TCP Transport 1.1): how a connection's byte stream is cut into PDUs, and what the two ends of a
//! connection say to each other before and around the capsules.
//!
//! [`framing`] is shared by both ends; [`target`] is the controller's end. Not here: what capsules mean.

pub mod framing;
pub mod host;
pub mod target;
