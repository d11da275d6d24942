//! One connection: how far it is, what it has to send, what it should be watched for.

use crate::buffer::Pool;
use crate::epoll::Interest;
use crate::outgoing::Outgoing;
use block::Time;
use fabric::driver::{ConnectionId, ListenerId};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// How far a connection is. One that the machine has closed in order is nothing of the machine's any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Open,
    /// Closed in order: sends what is left.
    Emptying {
        until: Time,
    },
    /// Closed in order: has sent everything and waits for the peer's end.
    Lingering {
        until: Time,
    },
}

/// A connection.
pub(crate) struct Connection {
    /// What the machine calls it.
    pub(crate) name: ConnectionId,
    /// Where it came in, if a peer opened it.
    pub(crate) listener: Option<ListenerId>,
    pub(crate) stream: TcpStream,
    pub(crate) phase: Phase,
    pub(crate) outgoing: Outgoing,
    /// The kernel takes no more just now.
    pub(crate) blocked: bool,
    /// In the list of those to be sent from.
    pub(crate) dirty: bool,
    pub(crate) interest: Interest,
    /// The machine wants nothing of it just now.
    pub(crate) held: bool,
    /// Payloads were received where they belong lately: little is received elsewhere at a time, so that the next may be too.
    pub(crate) landing: bool,
}

impl Connection {
    pub(crate) fn new(
        name: ConnectionId,
        listener: Option<ListenerId>,
        stream: TcpStream,
        phase: Phase,
    ) -> Connection {
        Connection {
            name,
            listener,
            stream,
            phase,
            outgoing: Outgoing::default(),
            blocked: phase == Phase::Connecting,
            dirty: false,
            interest: Interest::READ,
            held: false,
            landing: false,
        }
    }

    pub(crate) fn closing(&self) -> bool {
        self.deadline().is_some()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Emptying { until } | Phase::Lingering { until } => Some(until),
            Phase::Connecting | Phase::Open => None,
        }
    }

    /// What it should be watched for just now. `unsent_limit`: one whose peer does not take what we send is not read either.
    pub(crate) fn wanted(&self, unsent_limit: usize) -> Interest {
        let unsent = self.outgoing.unsent_bytes();
        let held_back =
            self.interest.read && unsent > unsent_limit || !self.interest.read && unsent > unsent_limit / 2;
        Interest {
            read: self.phase != Phase::Connecting && !((held_back || self.held) && self.phase == Phase::Open),
            write: self.blocked,
        }
    }

    /// Sends until all is sent or the kernel takes no more.
    pub(crate) fn send(&mut self, pool: &mut Pool, pieces: &mut Vec<libc::iovec>) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.outgoing.send(self.stream.as_raw_fd(), pool, pieces) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.blocked = false;
        Ok(())
    }
}
