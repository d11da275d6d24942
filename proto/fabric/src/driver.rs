//! The seam between a node and the world: what a node is told, what it asks for.
//!
//! A node (disk node, controller node, or the host of `trestle demo`) is one [`Machine`]. The engine drives it
//! over real sockets and disks, the simulator over simulated ones: the same code. The driver's law: *after any
//! call to [`Machine::handle`] it polls outputs until there are none; between two drains there is one event.*
//!
//! Not here: which bytes travel (the sessions know) and how they travel (the driver knows).

use block::{BufferSlice, Memory, Time};
use std::net::SocketAddr;

/// Names a connection. The driver names accepted ones (bit 63 set), the machine those it asks for (bit 63
/// clear); neither reuses a name while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// Set in the names of connections which a peer opened.
    pub const ACCEPTED: u64 = 1 << 63;
}

/// Names one of the listening sockets the driver was started with, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u32);

/// Names one of the disks the driver was started with, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub u32);

/// Names a request to a disk; chosen by the machine, unique among those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskRequestId(pub u64);

/// Why a connection is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed in order.
    Peer,
    /// Reset, unreachable, timed out.
    Broken,
}

/// How a request to a disk failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The device reported an error.
    Media,
    /// No space left beneath (a file on a full file system).
    NoSpace,
    /// The disk is gone.
    Gone,
}

/// What a disk can be asked. Offsets and lengths are bytes, multiples of 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// Fill the buffer.
    Read {
        /// Where on the disk.
        offset_bytes: u64,
        /// How much, into what.
        buffer: BufferSlice,
    },
    /// Write the buffer.
    Write {
        /// Where on the disk.
        offset_bytes: u64,
        /// What.
        buffer: BufferSlice,
        /// On the media before it completes.
        durable: bool,
    },
    /// All completed writes are on the media when this completes.
    Flush,
    /// The bytes read as zeroes afterwards (durable after a flush).
    WriteZeroes {
        /// Where on the disk.
        offset_bytes: u64,
        /// How much.
        length_bytes: u64,
        /// Whether space may be given back.
        deallocate: bool,
    },
    /// The bytes are no longer needed.
    Discard {
        /// Where on the disk.
        offset_bytes: u64,
        /// How much.
        length_bytes: u64,
    },
}

/// What the driver tells the machine. `C` is the node's own control message.
#[derive(Debug)]
pub enum Event<'a, C> {
    /// A peer opened a connection.
    Accepted {
        /// Its name from now on.
        connection: ConnectionId,
        /// Where it came in.
        listener: ListenerId,
    },
    /// A connection asked for by [`Output::Connect`] is open.
    Connected {
        /// Its name.
        connection: ConnectionId,
    },
    /// Bytes arrived, in order. They are the machine's only during this call.
    Received {
        /// From where.
        connection: ConnectionId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The connection is no more, or could not be opened. Unsent segments were released by the driver. Not told
    /// for connections that the machine closed itself.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
    /// A disk answered.
    DiskCompleted {
        /// The request.
        request: DiskRequestId,
        /// How it ended.
        result: Result<(), DiskError>,
    },
    /// The node's own control plane says something.
    Control(C),
    /// The time asked for by [`Machine::next_timeout`] has come.
    Timeout,
}

/// A piece of a connection's outgoing bytes.
#[derive(Debug)]
pub enum Segment {
    /// Bytes made by the session (headers, small answers).
    Bytes(Vec<u8>),
    /// A payload by reference. The machine hands one reference over; the driver releases it when the bytes are
    /// sent or the connection is gone.
    Payload(BufferSlice),
}

/// What the machine asks of the driver. `R` is the node's own report to its control plane.
#[derive(Debug)]
pub enum Output<R> {
    /// Open a TCP connection.
    Connect {
        /// Its name: bit 63 clear, never used before.
        connection: ConnectionId,
        /// Where to.
        address: SocketAddr,
    },
    /// Send, after everything asked for earlier on this connection. Ignored (and released) if it is gone.
    Send {
        /// Where.
        connection: ConnectionId,
        /// What.
        segment: Segment,
    },
    /// Close once everything asked for is sent, or at once if `abort`.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Drop what is unsent and reset.
        abort: bool,
    },
    /// Ask a disk. Buffers in the operation stay retained by the machine until the answer.
    Disk {
        /// The machine's name for it.
        request: DiskRequestId,
        /// Which disk.
        disk: DiskId,
        /// What.
        operation: DiskOperation,
    },
    /// Tell the node's own control plane something.
    Report(R),
}

/// A node, as the driver sees it.
pub trait Machine {
    /// What the node's control plane may say to it.
    type Control;
    /// What it says back.
    type Report;
    /// Something happened. `now` never goes back.
    fn handle(&mut self, now: Time, event: Event<'_, Self::Control>, memory: &mut dyn Memory);
    /// The next thing to do, until none is left.
    fn poll_output(&mut self) -> Option<Output<Self::Report>>;
    /// When [`Event::Timeout`] should come, if nothing else does before.
    fn next_timeout(&self) -> Option<Time>;
}
