//! Every socket of a reactor: listeners and connections, non-blocking TCP in the loop's epoll set.
//!
//! A connection's outgoing segments queue and leave in gathered sends, one per turn (sooner if much is queued, so that
//! both ends keep working). A connection whose peer does not take what we send is not read either, beyond a limit.
//!
//! A connection that the machine closes in order is gone for the machine at once. Here it lives on until what was asked
//! for is sent, our end is shut, and the peer has shut its own (or its time is up): closing with unread bytes would
//! reset the connection and could take the last words from the peer.
//!
//! Connections lie in a table. A [`Key`] is a place in it and a serial number, so that what the kernel said of a connection
//! that is gone finds nobody; the name of an accepted connection is its key.

use crate::address;
use crate::buffer::Pool;
use crate::connection::{Connection, Phase};
use crate::epoll::{Epoll, Interest, Ready};
use crate::error::StartReactor;
use block::{Duration, Memory, Time};
use fabric::driver::{CloseReason, ConnectionId, ListenerId, Segment};
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// Tokens of what is not a connection: never the key of one.
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
/// With this much queued a connection is sent from at once, not at the end of the turn: both ends keep working, and with one
/// more short payload it would be more than the kernel sends in one piece (64 KiB less headers), and so a piece of a few bytes more.
pub(crate) const SEND_EARLY_BYTES: usize = 60 << 10;
/// Behind a payload that is received where it belongs so much is received elsewhere: the headers of what follows.
const BEHIND_LANDING_BYTES: usize = 16 << 10;

/// What reading found.
pub(crate) enum Arrived {
    /// So many bytes are where they belong, and so many in the buffer behind them.
    Bytes { landed: usize, received: usize },
    /// Nothing (more) now.
    Nothing,
    /// The connection is no more.
    Closed(CloseReason),
}

/// Names a connection here: its place in the table (the low bits), a serial number, and bit 63 if a peer opened it, else
/// bit 62.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) u64);

const ASKED_FOR: u64 = 1 << 62;

impl Key {
    fn place(self) -> usize {
        ConnectionId(self.0).index()
    }
}

#[derive(Default)]
struct Place {
    serial: u64,
    connection: Option<Connection>,
}

struct Listener {
    listener: TcpListener,
    /// Out of descriptors until then.
    rests_until: Option<Time>,
}

/// Every socket of a reactor.
pub(crate) struct Sockets {
    listeners: Vec<Listener>,
    places: Vec<Place>,
    free: Vec<usize>,
    /// The names of connections that the machine asked for, in order, and where they lie.
    asked_for: Vec<(ConnectionId, Key)>,
    dirty: Vec<Key>,
    open: usize,
    queued_bytes: u64,
    /// With so much unsent a connection does not wait for the end of the turn.
    early_bytes: usize,
    /// No connection being closed in order, and no resting listener, is due before.
    due: Option<Time>,
    unsent_limit: usize,
    pieces: Vec<libc::iovec>,
}

/// What the machine is to be told without having asked just now.
pub(crate) type Closings = VecDeque<(ConnectionId, CloseReason)>;

/// A connection on its way to another reactor.
pub(crate) struct Departed {
    pub(crate) stream: TcpStream,
    pub(crate) listener: ListenerId,
}

impl Sockets {
    pub(crate) fn new(unsent_limit: usize) -> Sockets {
        Sockets {
            listeners: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            asked_for: Vec::new(),
            dirty: Vec::new(),
            open: 0,
            queued_bytes: 0,
            early_bytes: SEND_EARLY_BYTES,
            due: None,
            unsent_limit,
            pieces: Vec::with_capacity(crate::outgoing::PIECES_MAX),
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
        let listener = address::bind(address, reuse_port).map_err(failed)?;
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

    /// How many connections there are, also those being closed in order.
    pub(crate) fn count(&self) -> usize {
        self.open
    }

    /// The listener a token names.
    pub(crate) fn listener_of(token: u64) -> Option<ListenerId> {
        (token >= TOKEN_LISTENERS).then(|| ListenerId((token - TOKEN_LISTENERS) as u32))
    }

    fn live(&self, key: Key) -> Option<&Connection> {
        let place = self.places.get(key.place())?;
        (place.serial == key.0).then_some(())?;
        place.connection.as_ref()
    }

    fn live_mut(&mut self, key: Key) -> Option<&mut Connection> {
        let place = self.places.get_mut(key.place())?;
        (place.serial == key.0).then_some(())?;
        place.connection.as_mut()
    }

    /// The machine's name of a connection that it still knows.
    pub(crate) fn name(&self, key: Key) -> Option<ConnectionId> {
        let connection = self.live(key)?;
        (!connection.closing()).then_some(connection.name)
    }

    fn key(&self, name: ConnectionId) -> Option<Key> {
        if name.0 & ConnectionId::ACCEPTED != 0 {
            return Some(Key(name.0));
        }
        let found = self.asked_for.binary_search_by_key(&name, |(name, _)| *name);
        found.ok().map(|at| self.asked_for[at].1)
    }

    /// A place for a connection, under a key never used before.
    fn reserve(&mut self, kind: u64) -> Option<Key> {
        let at = self.free.pop().unwrap_or(self.places.len());
        if at == self.places.len() {
            if at >> ConnectionId::INDEX_BITS != 0 {
                return None;
            }
            self.places.push(Place::default());
        }
        let place = &mut self.places[at];
        let index_bits = ConnectionId::INDEX_BITS;
        let serial = (place.serial & (ASKED_FOR - 1)) >> index_bits;
        place.serial = kind | (serial + 1) << index_bits | at as u64;
        Some(Key(place.serial))
    }

    fn insert(&mut self, key: Key, connection: Connection) {
        if connection.name.0 & ConnectionId::ACCEPTED == 0 {
            let at = self
                .asked_for
                .partition_point(|(name, _)| *name < connection.name);
            self.asked_for.insert(at, (connection.name, key));
        }
        self.places[key.place()].connection = Some(connection);
        self.open += 1;
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
                Ok((stream, _)) => into.extend(self.adopt(stream, listener, epoll)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if out_of_resources(&error) => {
                    tracing::warn!(%error, "connections wait: out of descriptors or memory");
                    entry.rests_until = Some(now + LISTENER_REST);
                    // Fails only if it is not watched, and then it rests already.
                    let _ = epoll.remove(entry.listener.as_raw_fd());
                    return self.look_again(now + LISTENER_REST);
                }
                // That one peer has given up already.
                Err(_) => {}
            }
        }
    }

    /// Takes a connection in that a peer opened: here, or at another reactor that handed it over.
    pub(crate) fn adopt(
        &mut self,
        stream: TcpStream,
        listener: ListenerId,
        epoll: &Epoll,
    ) -> Option<ConnectionId> {
        let Some(key) = self.reserve(ConnectionId::ACCEPTED) else {
            tracing::warn!("a connection was refused: there are a million already");
            return None;
        };
        let prepared = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| epoll.add(stream.as_raw_fd(), key.0, Interest::READ));
        if let Err(error) = prepared {
            tracing::warn!(%error, "a connection was refused");
            self.free.push(key.place());
            return None;
        }
        let name = ConnectionId(key.0);
        self.insert(key, Connection::new(name, Some(listener), stream, Phase::Open));
        Some(name)
    }

    /// Begins to open a connection.
    ///
    /// # Panics
    /// If the name is the machine's to give no more.
    pub(crate) fn connect(
        &mut self,
        name: ConnectionId,
        address: SocketAddr,
        epoll: &Epoll,
    ) -> io::Result<()> {
        assert_eq!(
            name.0 & ConnectionId::ACCEPTED,
            0,
            "the machine names with bit 63 clear"
        );
        assert!(self.key(name).is_none(), "{name:?} is a new name");
        let stream = address::begin_connect(address)?;
        let full = || io::Error::from_raw_os_error(libc::ENFILE);
        let key = self.reserve(ASKED_FOR).ok_or_else(full)?;
        let mut connection = Connection::new(name, None, stream, Phase::Connecting);
        connection.interest = connection.wanted(self.unsent_limit);
        let watched = epoll.add(connection.stream.as_raw_fd(), key.0, connection.interest);
        if watched.is_err() {
            self.free.push(key.place());
            return watched;
        }
        self.insert(key, connection);
        Ok(())
    }

    /// Whether a connection that was opening is open now (`Some(Ok)`), has failed (`Some(Err)`), or neither.
    pub(crate) fn finish_connect(&mut self, key: Key, ready: Ready) -> Option<Result<(), CloseReason>> {
        let connection = self.live_mut(key)?;
        if connection.phase != Phase::Connecting || !(ready.write || ready.broken) {
            return None;
        }
        match connection.stream.take_error() {
            Ok(None) if !ready.broken => {
                connection.phase = Phase::Open;
                connection.blocked = false;
                self.mark_dirty(key);
                Some(Ok(()))
            }
            _ => Some(Err(CloseReason::Broken)),
        }
    }

    /// Queues a segment; released at once if the connection is gone.
    pub(crate) fn enqueue(
        &mut self,
        name: ConnectionId,
        segment: Segment,
        pool: &mut Pool,
        gone: &mut Closings,
    ) {
        let early_bytes = self.early_bytes;
        let key = self.key(name);
        let live = key.and_then(|key| Some((key, self.live_mut(key)?)));
        let Some((key, connection)) = live.filter(|(_, connection)| !connection.closing()) else {
            return release(segment, pool);
        };
        let before = connection.outgoing.unsent_bytes();
        connection.outgoing.push(segment);
        let added = connection.outgoing.unsent_bytes() - before;
        let early = connection.outgoing.unsent_bytes() >= early_bytes && !connection.blocked;
        if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(key);
        }
        self.queued_bytes += added as u64;
        if early {
            self.send(key, pool, gone);
        }
    }

    /// From now on a connection's bytes leave before the turn's end when there are so many.
    pub(crate) fn send_early_at(&mut self, bytes: usize) {
        self.early_bytes = bytes;
    }

    /// Bytes that were to be sent so far, over all connections.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    fn mark_dirty(&mut self, key: Key) {
        if let Some(connection) = self.live_mut(key)
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(key);
        }
    }

    /// Sends what is queued; a connection that turns out to be broken is dropped, and the machine is to be told.
    fn send(&mut self, key: Key, pool: &mut Pool, gone: &mut Closings) {
        let mut pieces = std::mem::take(&mut self.pieces);
        let sent = match self.live_mut(key) {
            Some(connection) if !connection.blocked => connection.send(pool, &mut pieces),
            _ => Ok(()),
        };
        self.pieces = pieces;
        if sent.is_err() {
            gone.extend(self.name(key).map(|name| (name, CloseReason::Broken)));
            self.discard(key, pool);
        }
    }

    /// The end of a turn: sends from every connection that has something new, and watches each for what it needs.
    pub(crate) fn flush(&mut self, epoll: &Epoll, pool: &mut Pool, gone: &mut Closings) {
        while let Some(key) = self.dirty.pop() {
            if let Some(connection) = self.live_mut(key) {
                connection.dirty = false;
                self.send(key, pool, gone);
                self.shut_if_empty(key);
                self.watch(key, epoll);
            }
        }
    }

    fn shut_if_empty(&mut self, key: Key) {
        let Some(connection) = self.live_mut(key) else {
            return;
        };
        if let (Phase::Emptying { until }, true) = (connection.phase, connection.outgoing.is_empty()) {
            connection.phase = Phase::Lingering { until };
            // Fails only if the peer is gone already, which reading will find.
            let _ = connection.stream.shutdown(Shutdown::Write);
        }
    }

    fn watch(&mut self, key: Key, epoll: &Epoll) {
        let unsent_limit = self.unsent_limit;
        let Some(connection) = self.live_mut(key) else {
            return;
        };
        let wanted = connection.wanted(unsent_limit);
        if wanted != connection.interest {
            connection.interest = wanted;
            epoll
                .modify(connection.stream.as_raw_fd(), key.0, wanted)
                .expect("a connection's descriptor is in the set");
        }
    }

    /// The kernel takes more again.
    pub(crate) fn writable(&mut self, key: Key) {
        if let Some(connection) = self.live_mut(key) {
            connection.blocked = false;
            self.mark_dirty(key);
        }
    }

    /// Stops or goes on watching what comes on a connection.
    pub(crate) fn hold(&mut self, key: Key, held: bool, epoll: &Epoll) {
        if let Some(connection) = self.live_mut(key) {
            connection.held = held;
            self.watch(key, epoll);
        }
    }

    /// Reads once: first into `landing`, if there is one, and what comes behind it into `buffer`. A connection being
    /// closed in order is read too, and what it says is dropped.
    pub(crate) fn read(
        &mut self,
        key: Key,
        broken: bool,
        landing: Option<libc::iovec>,
        buffer: &mut [u8],
    ) -> Arrived {
        let Some(connection) = self.live_mut(key) else {
            return Arrived::Nothing;
        };
        if !connection.interest.read {
            return match broken {
                true => Arrived::Closed(CloseReason::Broken),
                false => Arrived::Nothing,
            };
        }
        match connection.receive(landing, buffer) {
            Ok((0, 0)) => Arrived::Closed(CloseReason::Peer),
            Ok(_) if connection.closing() => Arrived::Nothing,
            Ok((landed, received)) => Arrived::Bytes { landed, received },
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

    /// Drops a connection at once; answers its name if the machine still knew it.
    pub(crate) fn discard(&mut self, key: Key, pool: &mut Pool) -> Option<ConnectionId> {
        let connection = self.remove(key)?;
        let known = (!connection.closing()).then_some(connection.name);
        connection.outgoing.release(pool);
        known
    }

    fn remove(&mut self, key: Key) -> Option<Connection> {
        self.live(key)?;
        let connection = self.places[key.place()].connection.take()?;
        let found = self
            .asked_for
            .binary_search_by_key(&connection.name, |(name, _)| *name);
        if let Ok(at) = found {
            self.asked_for.remove(at);
        }
        self.free.push(key.place());
        self.open -= 1;
        Some(connection)
    }

    /// The machine closes a connection: in order, or (`abort`) by a reset that drops what is unsent.
    pub(crate) fn close(&mut self, name: ConnectionId, abort: bool, now: Time, pool: &mut Pool) {
        let Some(key) = self.key(name) else { return };
        let Some(connection) = self.live_mut(key).filter(|connection| !connection.closing()) else {
            return;
        };
        if abort || connection.phase == Phase::Connecting {
            address::reset_on_close(&connection.stream);
            self.discard(key, pool);
            return;
        }
        connection.phase = Phase::Emptying { until: now + LINGER };
        self.look_again(now + LINGER);
        self.mark_dirty(key);
    }

    /// Takes a connection that a peer opened out, to be handed to another reactor, once all that was asked for is sent. `None`
    /// if it is gone, or the peer does not take what little it was sent (the machine has forgotten it; it is dropped).
    pub(crate) fn depart(&mut self, name: ConnectionId, epoll: &Epoll, pool: &mut Pool) -> Option<Departed> {
        let key = self.key(name)?;
        let mut pieces = std::mem::take(&mut self.pieces);
        let connection = self.live_mut(key).filter(|connection| !connection.closing());
        let sent = connection.map(|connection| connection.send(pool, &mut pieces));
        self.pieces = pieces;
        sent?.ok();
        let connection = self.remove(key)?;
        let whole = connection.outgoing.is_empty();
        connection.outgoing.release(pool);
        let watched = epoll.remove(connection.stream.as_raw_fd());
        let listener = connection
            .listener
            .expect("only accepted connections are handed over");
        (whole && watched.is_ok()).then_some(Departed {
            stream: connection.stream,
            listener,
        })
    }

    fn look_again(&mut self, at: Time) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// When [`Sockets::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.due
    }

    /// Drops connections whose time to be closed in order is up; wakes listeners that rested.
    pub(crate) fn expire(&mut self, now: Time, epoll: &Epoll, pool: &mut Pool) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        for (index, entry) in self.listeners.iter_mut().enumerate() {
            if entry.rests_until.is_some_and(|until| until <= now) {
                let token = TOKEN_LISTENERS + index as u64;
                let watched = epoll.add(entry.listener.as_raw_fd(), token, Interest::READ);
                entry.rests_until = watched.is_err().then(|| now + LISTENER_REST);
            }
        }
        for at in 0..self.places.len() {
            let place = &self.places[at];
            let deadline = place.connection.as_ref().and_then(Connection::deadline);
            if let (Some(connection), Some(until)) = (&place.connection, deadline)
                && until <= now
            {
                address::reset_on_close(&connection.stream);
                self.discard(Key(place.serial), pool);
            }
        }
        let live = self.places.iter().filter_map(|place| place.connection.as_ref());
        let resting = self.listeners.iter().filter_map(|listener| listener.rests_until);
        self.due = live.filter_map(Connection::deadline).chain(resting).min();
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        self.listeners.clear();
        for at in 0..self.places.len() {
            self.discard(Key(self.places[at].serial), pool);
        }
    }
}

fn release(segment: Segment, pool: &mut Pool) {
    if let Segment::Payload { payload, .. } = segment {
        pool.release(payload.buffer);
    }
}

fn out_of_resources(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

impl Connection {
    /// Receives once; how many bytes into `landing`, how many into `buffer`. None at all: the peer has ended.
    fn receive(&mut self, landing: Option<libc::iovec>, buffer: &mut [u8]) -> io::Result<(usize, usize)> {
        let socket = self.stream.as_raw_fd();
        let Some(landing) = landing else {
            let most = match std::mem::take(&mut self.landing) {
                true => buffer.len().min(BEHIND_LANDING_BYTES),
                false => buffer.len(),
            };
            return Ok((0, address::receive(socket, &mut buffer[..most])?));
        };
        self.landing = true;
        let behind = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len().min(BEHIND_LANDING_BYTES),
        };
        // SAFETY: `landing` lies in a buffer that the machine retains for this, `behind` in one borrowed exclusively.
        let bytes = unsafe { address::receive_scattered(socket, &[landing, behind]) }?;
        let landed = bytes.min(landing.iov_len);
        Ok((landed, bytes - landed))
    }
}
