//! Listeners and connections: non-blocking TCP in the loop's epoll set.
//!
//! A connection's outgoing segments queue here and leave in gathered sends, one per turn (sooner if much is queued). A
//! payload is released exactly once: when its last byte has been handed to the kernel, or when the connection is gone.
//! A connection whose peer does not take what we send is not read either, beyond a limit.
//!
//! A connection that the machine closes in order is gone for the machine at once. Here it lives on until what was asked
//! for is sent, our end is shut, and the peer has shut its own (or its time is up): closing with unread bytes would
//! reset the connection and could take the last words from the peer.

use crate::buffer::Pool;
use crate::epoll::{Epoll, Interest, Ready};
use crate::error::StartReactor;
use block::{Duration, Memory, Time};
use fabric::driver::{CloseReason, ConnectionId, ListenerId, Segment};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Tokens of what is not a connection: never the name of one.
pub(crate) const TOKEN_WAKER: u64 = u64::MAX;
/// See [`TOKEN_WAKER`].
pub(crate) const TOKEN_RING: u64 = u64::MAX - 1;
const TOKEN_LISTENERS: u64 = 0b11 << 62;

/// How long a connection closed in order may take to be gone.
const LINGER: Duration = Duration::from_secs(5);
/// A listener that ran out of descriptors tries again after this.
const LISTENER_REST: Duration = Duration::from_millis(100);
/// Connections taken from one listener per turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Pieces in one gathered send.
const PIECES_MAX: usize = 128;
/// With this much queued a connection is sent from at once, not at the end of the turn.
const SEND_EARLY_BYTES: usize = 256 << 10;
/// Connections that wait to be accepted.
const BACKLOG: libc::c_int = 1024;

/// What reading found.
pub(crate) enum Arrived {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// Nothing (more) now.
    Nothing,
    /// The connection is no more.
    Closed(CloseReason),
}

/// A connection being closed in order: nothing of the machine's any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// Sends what is left.
    Emptying {
        until: Time,
    },
    /// Has sent everything and waits for the peer's end.
    Lingering {
        until: Time,
    },
}

struct Connection {
    stream: TcpStream,
    phase: Phase,
    queue: VecDeque<Segment>,
    /// Of the first segment.
    sent_bytes: usize,
    unsent_bytes: usize,
    /// The kernel takes no more just now.
    blocked: bool,
    /// In the list of those to be sent from.
    dirty: bool,
    interest: Interest,
}

struct Listener {
    listener: TcpListener,
    /// Out of descriptors until then.
    rests_until: Option<Time>,
}

/// Every socket of a reactor.
pub(crate) struct Sockets {
    listeners: Vec<Listener>,
    connections: BTreeMap<ConnectionId, Connection>,
    dirty: Vec<ConnectionId>,
    closing: usize,
    next_accepted: u64,
    unsent_limit: usize,
}

/// What the machine is to be told without having asked just now.
pub(crate) type Closings = VecDeque<(ConnectionId, CloseReason)>;

impl Connection {
    fn new(stream: TcpStream, phase: Phase) -> Connection {
        Connection {
            stream,
            phase,
            queue: VecDeque::new(),
            sent_bytes: 0,
            unsent_bytes: 0,
            blocked: phase == Phase::Connecting,
            dirty: false,
            interest: Interest::READ,
        }
    }

    fn closing(&self) -> bool {
        matches!(self.phase, Phase::Emptying { .. } | Phase::Lingering { .. })
    }

    fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Emptying { until } | Phase::Lingering { until } => Some(until),
            Phase::Connecting | Phase::Open => None,
        }
    }

    /// What it should be watched for just now.
    fn wanted(&self, unsent_limit: usize) -> Interest {
        let held_back = self.interest.read && self.unsent_bytes > unsent_limit
            || !self.interest.read && self.unsent_bytes > unsent_limit / 2;
        Interest {
            read: self.phase != Phase::Connecting && !(held_back && self.phase == Phase::Open),
            write: self.blocked,
        }
    }

    /// Sends until all is sent or the kernel takes no more.
    fn send(&mut self, pool: &mut Pool) -> io::Result<()> {
        while !self.queue.is_empty() {
            match self.send_once(pool) {
                Ok(bytes) => self.sent(bytes, pool),
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

    fn send_once(&self, pool: &Pool) -> io::Result<usize> {
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0;
        for (segment, piece) in self.queue.iter().zip(&mut pieces) {
            let bytes = segment_bytes(segment, pool);
            let skip = if count == 0 { self.sent_bytes } else { 0 };
            *piece = IoSlice::new(&bytes[skip..]);
            count += 1;
        }
        send_gathered(self.stream.as_raw_fd(), &pieces[..count])
    }

    fn sent(&mut self, mut bytes: usize, pool: &mut Pool) {
        self.unsent_bytes -= bytes;
        while let Some(segment) = self.queue.front() {
            let left = segment_length(segment) - self.sent_bytes;
            if bytes < left {
                self.sent_bytes += bytes;
                return;
            }
            bytes -= left;
            self.sent_bytes = 0;
            if let Some(segment) = self.queue.pop_front() {
                release(segment, pool);
            }
        }
        assert_eq!(bytes, 0, "no more is sent than was queued");
    }
}

fn segment_length(segment: &Segment) -> usize {
    match segment {
        Segment::Bytes(bytes) => bytes.len(),
        Segment::Payload(slice) => slice.length as usize,
    }
}

fn segment_bytes<'a>(segment: &'a Segment, pool: &'a Pool) -> &'a [u8] {
    match segment {
        Segment::Bytes(bytes) => bytes,
        Segment::Payload(slice) => pool.bytes(*slice),
    }
}

fn release(segment: Segment, pool: &mut Pool) {
    if let Segment::Payload(slice) = segment {
        pool.release(slice.buffer);
    }
}

fn send_gathered(socket: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zeroes is a valid message header (no name, no control, no pieces).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: `IoSlice` has the layout of `iovec`; the pieces are borrowed for the call, which only reads them.
    let answer = unsafe { libc::sendmsg(socket, &message, libc::MSG_NOSIGNAL) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

impl Sockets {
    pub(crate) fn new(unsent_limit: usize) -> Sockets {
        Sockets {
            listeners: Vec::new(),
            connections: BTreeMap::new(),
            dirty: Vec::new(),
            closing: 0,
            next_accepted: 1,
            unsent_limit,
        }
    }

    /// Listens; answers the bound address.
    pub(crate) fn listen(
        &mut self,
        address: SocketAddr,
        reuse_port: bool,
        epoll: &Epoll,
    ) -> Result<SocketAddr, StartReactor> {
        let failed = |source| StartReactor::Listen { address, source };
        let listener = bind(address, reuse_port).map_err(failed)?;
        let token = TOKEN_LISTENERS + self.listeners.len() as u64;
        epoll
            .add(listener.as_raw_fd(), token, Interest::READ)
            .map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.listeners.push(Listener {
            listener,
            rests_until: None,
        });
        Ok(bound)
    }

    /// How many there are, also those being closed in order.
    pub(crate) fn count(&self) -> usize {
        self.connections.len()
    }

    /// The listener a token names.
    pub(crate) fn listener_of(token: u64) -> Option<ListenerId> {
        (token >= TOKEN_LISTENERS).then(|| ListenerId((token - TOKEN_LISTENERS) as u32))
    }

    /// Takes connections that wait at a listener, as many as one turn may.
    pub(crate) fn accept(
        &mut self,
        listener: ListenerId,
        now: Time,
        epoll: &Epoll,
        into: &mut Vec<ConnectionId>,
    ) {
        for _ in 0..ACCEPTS_PER_TURN {
            let entry = &mut self.listeners[listener.0 as usize];
            match entry.listener.accept() {
                Ok((stream, _)) => into.extend(self.adopt(stream, epoll)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if out_of_resources(&error) => {
                    tracing::warn!(%error, "connections wait: out of descriptors or memory");
                    entry.rests_until = Some(now + LISTENER_REST);
                    // Fails only if it is not watched, and then it rests already.
                    let _ = epoll.remove(entry.listener.as_raw_fd());
                    return;
                }
                // That one peer has given up already.
                Err(_) => {}
            }
        }
    }

    fn adopt(&mut self, stream: TcpStream, epoll: &Epoll) -> Option<ConnectionId> {
        let connection = ConnectionId(ConnectionId::ACCEPTED | self.next_accepted);
        let prepared = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| epoll.add(stream.as_raw_fd(), connection.0, Interest::READ));
        if let Err(error) = prepared {
            tracing::warn!(%error, "a connection was refused");
            return None;
        }
        self.next_accepted += 1;
        self.connections
            .insert(connection, Connection::new(stream, Phase::Open));
        Some(connection)
    }

    /// Begins to open a connection.
    ///
    /// # Panics
    /// If the name is the machine's to give no more.
    pub(crate) fn connect(
        &mut self,
        connection: ConnectionId,
        address: SocketAddr,
        epoll: &Epoll,
    ) -> io::Result<()> {
        assert_eq!(
            connection.0 & ConnectionId::ACCEPTED,
            0,
            "the machine names with bit 63 clear"
        );
        assert!(
            !self.connections.contains_key(&connection),
            "{connection:?} is a new name"
        );
        let stream = begin_connect(address)?;
        let mut entry = Connection::new(stream, Phase::Connecting);
        entry.interest = entry.wanted(self.unsent_limit);
        epoll.add(entry.stream.as_raw_fd(), connection.0, entry.interest)?;
        self.connections.insert(connection, entry);
        Ok(())
    }

    /// Whether a connection that was opening is open now (`Some(Ok)`), has failed (`Some(Err)`), or neither.
    pub(crate) fn finish_connect(
        &mut self,
        connection: ConnectionId,
        ready: Ready,
    ) -> Option<Result<(), CloseReason>> {
        let entry = self.connections.get_mut(&connection)?;
        if entry.phase != Phase::Connecting || !(ready.write || ready.broken) {
            return None;
        }
        match entry.stream.take_error() {
            Ok(None) if !ready.broken => {
                entry.phase = Phase::Open;
                entry.blocked = false;
                self.mark_dirty(connection);
                Some(Ok(()))
            }
            _ => Some(Err(CloseReason::Broken)),
        }
    }

    /// Queues a segment; released at once if the connection is gone.
    pub(crate) fn enqueue(
        &mut self,
        connection: ConnectionId,
        segment: Segment,
        pool: &mut Pool,
        gone: &mut Closings,
    ) {
        let length = segment_length(&segment);
        let open = self
            .connections
            .get_mut(&connection)
            .filter(|entry| !entry.closing());
        let Some(entry) = open.filter(|_| length > 0) else {
            release(segment, pool);
            return;
        };
        entry.queue.push_back(segment);
        entry.unsent_bytes += length;
        let early = entry.unsent_bytes >= SEND_EARLY_BYTES && !entry.blocked;
        self.mark_dirty(connection);
        if early {
            self.send(connection, pool, gone);
        }
    }

    fn mark_dirty(&mut self, connection: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&connection).filter(|entry| !entry.dirty) {
            entry.dirty = true;
            self.dirty.push(connection);
        }
    }

    /// Sends what is queued; a connection that turns out to be broken is dropped, and the machine is to be told.
    fn send(&mut self, connection: ConnectionId, pool: &mut Pool, gone: &mut Closings) {
        let Some(entry) = self.connections.get_mut(&connection) else {
            return;
        };
        if entry.blocked || entry.send(pool).is_ok() {
            return;
        }
        if !entry.closing() {
            gone.push_back((connection, CloseReason::Broken));
        }
        self.discard(connection, pool);
    }

    /// The end of a turn: sends from every connection that has something new, and watches each for what it needs.
    pub(crate) fn flush(&mut self, epoll: &Epoll, pool: &mut Pool, gone: &mut Closings) {
        while let Some(connection) = self.dirty.pop() {
            if let Some(entry) = self.connections.get_mut(&connection) {
                entry.dirty = false;
                self.send(connection, pool, gone);
                self.shut_if_empty(connection);
                self.watch(connection, epoll);
            }
        }
    }

    fn shut_if_empty(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connections.get_mut(&connection) else {
            return;
        };
        if let (Phase::Emptying { until }, true) = (entry.phase, entry.queue.is_empty()) {
            entry.phase = Phase::Lingering { until };
            // Fails only if the peer is gone already, which reading will find.
            let _ = entry.stream.shutdown(Shutdown::Write);
        }
    }

    fn watch(&mut self, connection: ConnectionId, epoll: &Epoll) {
        let Some(entry) = self.connections.get_mut(&connection) else {
            return;
        };
        let wanted = entry.wanted(self.unsent_limit);
        if wanted != entry.interest {
            entry.interest = wanted;
            epoll
                .modify(entry.stream.as_raw_fd(), connection.0, wanted)
                .expect("a connection's descriptor is in the set");
        }
    }

    /// The kernel takes more again.
    pub(crate) fn writable(&mut self, connection: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&connection) {
            entry.blocked = false;
            self.mark_dirty(connection);
        }
    }

    /// Reads once. A connection being closed in order is read too, and what it says is dropped.
    pub(crate) fn read(&mut self, connection: ConnectionId, ready: Ready, buffer: &mut [u8]) -> Arrived {
        let Some(entry) = self.connections.get_mut(&connection) else {
            return Arrived::Nothing;
        };
        if !entry.interest.read {
            return if ready.broken {
                Arrived::Closed(CloseReason::Broken)
            } else {
                Arrived::Nothing
            };
        }
        match (&entry.stream).read(buffer) {
            Ok(0) => Arrived::Closed(CloseReason::Peer),
            Ok(_) if entry.closing() => Arrived::Nothing,
            Ok(bytes) => Arrived::Bytes(bytes),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Arrived::Nothing
            }
            Err(_) => Arrived::Closed(CloseReason::Broken),
        }
    }

    /// Drops a connection at once; answers whether the machine still knew it.
    pub(crate) fn discard(&mut self, connection: ConnectionId, pool: &mut Pool) -> bool {
        let Some(entry) = self.connections.remove(&connection) else {
            return false;
        };
        let known = !entry.closing();
        self.closing -= usize::from(!known);
        entry.queue.into_iter().for_each(|segment| release(segment, pool));
        known
    }

    /// The machine closes a connection: in order, or (`abort`) by a reset that drops what is unsent.
    pub(crate) fn close(&mut self, connection: ConnectionId, abort: bool, now: Time, pool: &mut Pool) {
        let Some(entry) = self.connections.get_mut(&connection) else {
            return;
        };
        if entry.closing() {
            return;
        }
        if abort || entry.phase == Phase::Connecting {
            reset_on_close(&entry.stream);
            self.discard(connection, pool);
            return;
        }
        entry.phase = Phase::Emptying { until: now + LINGER };
        self.closing += 1;
        self.mark_dirty(connection);
    }

    /// When [`Sockets::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let resting = self.listeners.iter().filter_map(|listener| listener.rests_until);
        let closing = (self.closing > 0).then(|| self.connections.values().filter_map(Connection::deadline));
        resting.chain(closing.into_iter().flatten()).min()
    }

    /// Drops connections whose time to be closed in order is up; wakes listeners that rested.
    pub(crate) fn expire(&mut self, now: Time, epoll: &Epoll, pool: &mut Pool) {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        for (index, entry) in self.listeners.iter_mut().enumerate() {
            if entry.rests_until.is_some_and(|until| until <= now) {
                let token = TOKEN_LISTENERS + index as u64;
                let watched = epoll.add(entry.listener.as_raw_fd(), token, Interest::READ);
                entry.rests_until = watched.is_err().then(|| now + LISTENER_REST);
            }
        }
        let over = |entry: &Connection| entry.deadline().is_some_and(|until| until <= now);
        let late: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, entry)| over(entry))
            .map(|(name, _)| *name)
            .collect();
        for connection in late {
            reset_on_close(&self.connections[&connection].stream);
            self.discard(connection, pool);
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        self.listeners.clear();
        let names: Vec<_> = self.connections.keys().copied().collect();
        names.into_iter().for_each(|connection| {
            self.discard(connection, pool);
        });
    }
}

fn out_of_resources(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

fn set_option<T>(socket: RawFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the call reads `value`, of the size it is told.
    let answer = unsafe {
        libc::setsockopt(
            socket,
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Closing the descriptor resets the connection and drops what is unsent.
fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // Without it the connection ends in order instead: less clear to the peer, but ended.
    let _ = set_option(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

fn open_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: no memory is involved; the answer is checked and then owned.
    unsafe {
        let socket = libc::socket(
            family,
            libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            0,
        );
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

/// Hands the kernel's form of an address to `call`.
fn with_address(
    address: SocketAddr,
    call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> i32,
) -> io::Result<()> {
    let answer = match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            call((&raw const raw).cast(), size_of_val(&raw) as libc::socklen_t)
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            call((&raw const raw).cast(), size_of_val(&raw) as libc::socklen_t)
        }
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = open_socket(address)?;
    let descriptor = socket.as_raw_fd();
    set_option(descriptor, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32)?;
    if reuse_port {
        set_option(descriptor, libc::SOL_SOCKET, libc::SO_REUSEPORT, &1i32)?;
    }
    // SAFETY: `with_address` gives a valid address and its length.
    with_address(address, |raw, length| unsafe {
        libc::bind(descriptor, raw, length)
    })?;
    // SAFETY: no memory is involved.
    if unsafe { libc::listen(descriptor, BACKLOG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpListener::from(socket))
}

fn begin_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = open_socket(address)?;
    let descriptor = socket.as_raw_fd();
    // SAFETY: `with_address` gives a valid address and its length.
    let begun = with_address(address, |raw, length| unsafe {
        libc::connect(descriptor, raw, length)
    });
    match begun {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            return Err(error);
        }
        _ => {}
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}
