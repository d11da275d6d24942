//! Drives a node's [`Machine`](fabric::driver::Machine) over real sockets and disks.
//!
//! One reactor is one thread and one machine: it sleeps in epoll until a socket, a disk, the node's control plane or
//! the machine's own timeout has something for it, tells the machine one event at a time, and carries out what the
//! machine asks for. Nothing to do means no wake-up at all. A process may start as many reactors as it has cores.
//!
//! | module | holds |
//! |---|---|
//! | [`reactor`] | what starts reactors, alone or as a group |
//! | `turn` | the loop |
//! | `pace` | whether the loop looks again or sleeps |
//! | [`affinity`] | which core a thread runs on |
//! | [`control`] | the way in from other threads: messages, stop, status |
//! | [`buffer`] | the pool of payload buffers, lent by descriptor |
//! | [`clock`] | the monotonic clock |
//! | `socket`, `connection` | listeners, connections |
//! | `stand_in` | bytes of a memory disk that stand for a buffer's own |
//! | `outgoing` | what a connection has to send; gathered sends |
//! | `address` | the calls on sockets that the standard library does not have |
//! | [`disk`] | disks in words: what one is made of, what was opened |
//! | `opening`, `namespace` | opening them; what an NVMe namespace is like |
//! | `disks`, `queue` | which request waits, which is under way |
//! | `commit` | which flushes share a sync |
//! | `disk_pace` | how fast a disk answers, and whether it is slow |
//! | `task` | one request to a disk as a row of calls: short transfers, fallbacks, errors |
//! | `namespace_call`, `passthrough` | commands to an NVMe namespace: within its limits; in the kernel's form |
//! | `ring`, `threads` | two ways to make those calls: io_uring, or threads where it is refused |
//! | `fixed_memory` | which memory is registered with the ring |
//! | `epoll` | what the loop sleeps in |
//!
//! What this crate deliberately is not: it knows no fabric's protocol and no block layer, and reads no byte that it carries.
//! It is the one crate of the workspace that may say `unsafe`.

pub mod affinity;
pub mod buffer;
pub mod clock;
pub mod control;
pub mod disk;
pub mod error;
pub mod reactor;

mod address;
mod commit;
mod connection;
mod disk_pace;
mod disks;
mod epoll;
mod fixed_memory;
mod memory_disk;
mod namespace;
mod namespace_call;
mod opening;
mod outgoing;
mod pace;
mod passthrough;
mod queue;
mod ring;
mod socket;
mod stand_in;
mod task;
mod threads;
mod turn;

pub use buffer::Pool;
pub use control::{Handle, ReactorStatus, Stopped};
pub use disk::{DiskBackend, DiskConfig, DiskKind, DiskPace, DiskSource, DiskStatus, OpenedDisk};
pub use error::{OpenDisk, StartReactor};
pub use reactor::{Opened, Polling, ReactorConfig, Seat, WantedBackend, start, start_group};
