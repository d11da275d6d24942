//! NVMe over Fabrics as machines: target, host and TCP session, without sockets, clocks or threads.
//!
//! [`driver`] is the seam between a node's machine and whatever drives it: the engine in production, the
//! simulated world in tests.
#![forbid(unsafe_code)]

pub mod driver;
pub mod host;
pub mod target;
pub mod tcp;
