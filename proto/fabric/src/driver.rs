//! The seam between a node and the world: what a node is told, what it asks for.
//!
//! A node (disk node, controller node, or the host of `trestle demo`) is one [`Machine`]. The engine drives it
//! over real sockets and disks, the simulator over simulated ones: the same code. The driver's law: *after any
//! call to [`Machine::handle`] it polls outputs until there are none; between two drains there is one event.*
//!
//! Not here: which bytes travel ([`crate::tcp`]'s sessions know) and how they travel (the driver knows).
//!
//! Several machines may share a process, each driven by a reactor of its own and sharing nothing with the others. The
//! one thing that goes from one to another is a connection, before its first command has been carried out: the
//! machine that accepted it reads whom it is for, and hands it over ([`Output::HandOver`]).

use block::{BufferSlice, Memory, Time};
use std::net::SocketAddr;
use std::ops::Deref;

/// Names a connection. The driver names accepted ones (bit 63 set), the machine those it asks for (bit 63
/// clear); neither reuses a name while the process lives.
///
/// The low [`ConnectionId::INDEX_BITS`] of an accepted one's name are an index: no two that are open at the same time
/// share it, and small ones are used again, so that a machine may keep its accepted connections in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// Set in the names of connections which a peer opened.
    pub const ACCEPTED: u64 = 1 << 63;
    /// How many low bits of an accepted connection's name are its index.
    pub const INDEX_BITS: u32 = 20;

    /// The index of an accepted connection.
    pub fn index(self) -> usize {
        (self.0 & ((1 << Self::INDEX_BITS) - 1)) as usize
    }
}

/// Names one of the machines of a process, by the index of its reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReactorIndex(pub u32);

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
    /// A connection that another machine of the process had accepted and hands over: it is this one's now, as if it had
    /// been accepted here.
    HandedOver {
        /// Its name from now on.
        connection: ConnectionId,
        /// Where it came in.
        listener: ListenerId,
        /// Every byte that has been received on it so far. The other machine has answered the initialisation among them,
        /// and nothing else.
        received: &'a [u8],
    },
    /// Bytes arrived, in order. They are the machine's only during this call.
    Received {
        /// From where.
        connection: ConnectionId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Bytes arrived, and lie where [`Machine::landing`] said: at the beginning of what it answered last for this
    /// connection. They come before any later [`Event::Received`].
    Landed {
        /// From where.
        connection: ConnectionId,
        /// How many: at most as many as the slice has.
        length: u32,
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

/// Bytes that a session makes: a header costs no allocation.
#[derive(Clone, Debug)]
pub enum SessionBytes {
    /// In place.
    Short {
        /// How many of `bytes` count.
        length: u8,
        /// The bytes, from the first on.
        bytes: [u8; SessionBytes::SHORT_MAX],
    },
    /// On the heap.
    Long(Vec<u8>),
}

impl SessionBytes {
    /// The most that is kept in place: the longest header of steady state (a command capsule's, 72 bytes), and its digest.
    pub const SHORT_MAX: usize = 79;

    /// None yet; with room in place for `length`, if that is few.
    pub fn with_capacity(length: usize) -> SessionBytes {
        match length <= SessionBytes::SHORT_MAX {
            true => SessionBytes::Short {
                length: 0,
                bytes: [0; SessionBytes::SHORT_MAX],
            },
            false => SessionBytes::Long(Vec::with_capacity(length)),
        }
    }

    /// Puts bytes behind those that are there; moves to the heap if they do not fit.
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        match self {
            SessionBytes::Short { length, bytes } => {
                let from = usize::from(*length);
                let end = from + more.len();
                if end <= SessionBytes::SHORT_MAX {
                    bytes[from..end].copy_from_slice(more);
                    *length = end as u8;
                    return;
                }
                let mut long = bytes[..from].to_vec();
                long.extend_from_slice(more);
                *self = SessionBytes::Long(long);
            }
            SessionBytes::Long(long) => long.extend_from_slice(more),
        }
    }

    /// Puts zeroes behind, up to `length` bytes in all.
    pub fn pad_to(&mut self, length: usize) {
        while self.len() < length {
            let zeroes = [0; 64];
            let missing = (length - self.len()).min(zeroes.len());
            self.extend_from_slice(&zeroes[..missing]);
        }
    }
}

impl Deref for SessionBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            SessionBytes::Short { length, bytes } => &bytes[..usize::from(*length)],
            SessionBytes::Long(long) => long,
        }
    }
}

impl From<&[u8]> for SessionBytes {
    fn from(bytes: &[u8]) -> SessionBytes {
        let mut own = SessionBytes::with_capacity(bytes.len());
        own.extend_from_slice(bytes);
        own
    }
}

impl From<Vec<u8>> for SessionBytes {
    fn from(bytes: Vec<u8>) -> SessionBytes {
        SessionBytes::Long(bytes)
    }
}

/// A piece of a connection's outgoing bytes.
#[derive(Debug)]
pub enum Segment {
    /// Bytes made by the session (headers, small answers).
    Bytes(SessionBytes),
    /// A payload by reference, behind what the session says before it: its header. The machine hands one reference over; the driver
    /// releases it when the bytes are sent or the connection is gone.
    Payload {
        /// What goes before.
        before: SessionBytes,
        /// Which.
        payload: BufferSlice,
    },
}

impl Segment {
    /// All its bytes, for drivers without sockets: the payload's reference is given back.
    pub fn into_bytes(self, memory: &mut dyn Memory) -> Vec<u8> {
        match self {
            Segment::Bytes(bytes) => bytes.to_vec(),
            Segment::Payload { before, payload } => {
                let bytes = [&before[..], memory.bytes(payload)].concat();
                memory.release(payload.buffer);
                bytes
            }
        }
    }
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
    /// Give a connection that was accepted here to another machine of the process, and forget it: nothing may be asked of
    /// it any more. What was asked to be sent before is sent first.
    HandOver {
        /// Which.
        connection: ConnectionId,
        /// To whom.
        reactor: ReactorIndex,
        /// Every byte received on it so far.
        received: Vec<u8>,
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
    Report(Box<R>),
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
    /// Where the next bytes of a connection belong, if they are a payload's and whoever calls may put them there himself
    /// instead of bringing them as [`Event::Received`]: then he says [`Event::Landed`]. The slice is retained by the machine
    /// until then, and stays the answer until something happens on this connection. `None` says that bytes must be
    /// brought; a driver may always bring them.
    fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        let _ = connection;
        None
    }
    /// Whether what comes on a connection is to be received now. While it is not, the driver leaves it where it is (so that
    /// the peer's sending stops in the end), and asks again after the next event, whatever it was.
    fn wants_bytes(&self, connection: ConnectionId) -> bool {
        let _ = connection;
        true
    }
    /// Whether something waits for a buffer. While it does, a driver that has given buffers back to the pool since the last
    /// event says [`Event::Timeout`], due or not.
    fn waits_for_memory(&self) -> bool {
        false
    }
}
