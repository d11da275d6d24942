//! A machine without a will of its own: it does what its control plane says and reports what it is told.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use block::{BufferSlice, Memory, Time};
use engine::{Handle, Opened, ReactorConfig, Seat, StartReactor};
use fabric::driver::{
    CloseReason, ConnectionId, DiskError, DiskId, DiskOperation, DiskRequestId, Event, ListenerId, Machine,
    Output, ReactorIndex, Segment, SessionBytes,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longer than anything here takes; reached only by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a disk shall do, with the bytes.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Read {
        offset: u64,
        length: u32,
    },
    Write {
        offset: u64,
        bytes: Vec<u8>,
        durable: bool,
    },
    Flush,
    WriteZeroes {
        offset: u64,
        length: u64,
        deallocate: bool,
    },
    Discard {
        offset: u64,
        length: u64,
    },
}

#[derive(Debug)]
pub(crate) enum Command {
    Connect(u64, SocketAddr),
    /// Bytes of the session's own.
    Send(ConnectionId, Vec<u8>),
    /// The same from a pool buffer.
    SendPayload(ConnectionId, Vec<u8>),
    Close(ConnectionId, bool),
    Disk(u32, u64, Ask),
    /// From now on everything received goes back, by payload.
    Echo,
    /// From now on bytes are wanted in buffers of so many, and told when one is full.
    Land(u32),
    /// Whether bytes are wanted from now on.
    Listen(bool),
    /// From now on it is told when buffers come back.
    WaitForMemory,
    /// With these bytes as all that was received.
    HandOver(ConnectionId, u32, Vec<u8>),
    TimeoutAt(Time),
    Panic,
    Ping,
    /// All in answer to one event.
    Many(Vec<Command>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Accepted(ConnectionId, ListenerId),
    Connected(ConnectionId),
    Received(ConnectionId, Vec<u8>),
    HandedOver(ConnectionId, ListenerId, Vec<u8>),
    Landed(ConnectionId, Vec<u8>),
    Closed(ConnectionId, CloseReason),
    Disk(u64, Result<Vec<u8>, DiskError>),
    Timeout(Time),
    Pong,
}

#[derive(Default)]
pub(crate) struct Puppet {
    outputs: VecDeque<Output<Told>>,
    echo: bool,
    deaf: bool,
    waits_for_memory: bool,
    land: Option<u32>,
    landing: BTreeMap<ConnectionId, (BufferSlice, u32)>,
    timeout: Option<Time>,
    asked: BTreeMap<u64, Option<BufferSlice>>,
    reads: BTreeMap<u64, bool>,
}

fn filled(memory: &mut dyn Memory, bytes: &[u8]) -> BufferSlice {
    let slice = memory
        .allocate(bytes.len() as u32)
        .expect("the tests' pool suffices");
    memory.bytes_mut(slice).copy_from_slice(bytes);
    slice
}

impl Puppet {
    fn tell(&mut self, told: Told) {
        self.outputs.push_back(Output::Report(Box::new(told)));
    }

    fn send(&mut self, connection: ConnectionId, segment: Segment) {
        self.outputs.push_back(Output::Send { connection, segment });
    }

    /// What belongs into the landing buffer goes there; the rest is told as it came.
    fn received_behind(&mut self, connection: ConnectionId, bytes: &[u8], memory: &mut dyn Memory) {
        let Some((slice, filled)) = self.landing.get(&connection).copied() else {
            return self.received(connection, bytes, memory);
        };
        let taken = bytes.len().min((slice.length - filled) as usize);
        memory
            .bytes_mut(slice.part(filled, taken as u32))
            .copy_from_slice(&bytes[..taken]);
        self.landed(connection, taken as u32, memory);
        if taken < bytes.len() {
            self.received_behind(connection, &bytes[taken..], memory);
        }
    }

    fn landed(&mut self, connection: ConnectionId, length: u32, memory: &mut dyn Memory) {
        let (slice, filled) = self.landing.get_mut(&connection).expect("a landing was offered");
        *filled += length;
        assert!(*filled <= slice.length, "no more lands than there is room for");
        if *filled == slice.length {
            let slice = *slice;
            let bytes = memory.bytes(slice).to_vec();
            memory.release(slice.buffer);
            self.tell(Told::Landed(connection, bytes));
            self.offer_landing(connection, memory);
        }
    }

    fn offer_landing(&mut self, connection: ConnectionId, memory: &mut dyn Memory) {
        if let Some(length) = self.land {
            let slice = memory.allocate(length).expect("the tests' pool suffices");
            self.landing.insert(connection, (slice, 0));
        }
    }

    fn received(&mut self, connection: ConnectionId, bytes: &[u8], memory: &mut dyn Memory) {
        if !self.echo {
            return self.tell(Told::Received(connection, bytes.to_vec()));
        }
        for piece in bytes.chunks(100_000) {
            let segment = match memory.allocate(piece.len() as u32) {
                Some(slice) => {
                    memory.bytes_mut(slice).copy_from_slice(piece);
                    payload(slice)
                }
                None => Segment::Bytes(piece.into()),
            };
            self.send(connection, segment);
        }
    }

    fn ask(&mut self, disk: u32, request: u64, ask: Ask, memory: &mut dyn Memory) {
        let mut buffer = None;
        let operation = match ask {
            Ask::Read { offset, length } => {
                let slice = *buffer.insert(memory.allocate(length).expect("the tests' pool suffices"));
                self.reads.insert(request, true);
                DiskOperation::Read {
                    offset_bytes: offset,
                    buffer: slice,
                }
            }
            Ask::Write {
                offset,
                bytes,
                durable,
            } => DiskOperation::Write {
                offset_bytes: offset,
                buffer: *buffer.insert(filled(memory, &bytes)),
                durable,
            },
            Ask::Flush => DiskOperation::Flush,
            Ask::WriteZeroes {
                offset,
                length,
                deallocate,
            } => DiskOperation::WriteZeroes {
                offset_bytes: offset,
                length_bytes: length,
                deallocate,
            },
            Ask::Discard { offset, length } => DiskOperation::Discard {
                offset_bytes: offset,
                length_bytes: length,
            },
        };
        assert!(
            self.asked.insert(request, buffer).is_none(),
            "tests name requests once"
        );
        self.outputs.push_back(Output::Disk {
            request: DiskRequestId(request),
            disk: DiskId(disk),
            operation,
        });
    }

    fn completed(&mut self, request: u64, result: Result<(), DiskError>, memory: &mut dyn Memory) {
        let buffer = self
            .asked
            .remove(&request)
            .expect("completed once, having been asked");
        let is_read = self.reads.remove(&request).unwrap_or(false);
        let bytes = buffer.map(|slice| {
            let bytes = if is_read {
                memory.bytes(slice).to_vec()
            } else {
                Vec::new()
            };
            memory.release(slice.buffer);
            bytes
        });
        self.tell(Told::Disk(request, result.map(|()| bytes.unwrap_or_default())));
    }

    fn command(&mut self, command: Command, memory: &mut dyn Memory) {
        match command {
            Command::Connect(name, address) => self.outputs.push_back(Output::Connect {
                connection: ConnectionId(name),
                address,
            }),
            Command::Send(connection, bytes) => self.send(connection, Segment::Bytes(bytes.into())),
            Command::SendPayload(connection, bytes) => {
                let slice = filled(memory, &bytes);
                self.send(connection, payload(slice));
            }
            Command::Close(connection, abort) => self.outputs.push_back(Output::Close { connection, abort }),
            Command::Disk(disk, request, ask) => self.ask(disk, request, ask, memory),
            Command::Echo => self.echo = true,
            Command::Listen(listens) => self.deaf = !listens,
            Command::WaitForMemory => self.waits_for_memory = true,
            Command::Land(length) => self.land = Some(length),
            Command::HandOver(connection, reactor, received) => {
                self.outputs.push_back(Output::HandOver {
                    connection,
                    reactor: ReactorIndex(reactor),
                    received,
                });
            }
            Command::TimeoutAt(time) => self.timeout = Some(time),
            Command::Panic => panic!("asked to"),
            Command::Ping => self.tell(Told::Pong),
            Command::Many(commands) => commands
                .into_iter()
                .for_each(|command| self.command(command, memory)),
        }
    }
}

impl Machine for Puppet {
    type Control = Command;
    type Report = Told;

    fn handle(&mut self, now: Time, event: Event<'_, Command>, memory: &mut dyn Memory) {
        assert!(self.outputs.is_empty(), "the driver drains between two events");
        match event {
            Event::Accepted { connection, listener } => {
                self.tell(Told::Accepted(connection, listener));
                self.offer_landing(connection, memory);
            }
            Event::Connected { connection } => self.tell(Told::Connected(connection)),
            Event::HandedOver {
                connection,
                listener,
                received,
            } => self.tell(Told::HandedOver(connection, listener, received.to_vec())),
            Event::Landed { connection, length } => self.landed(connection, length, memory),
            Event::Received { connection, bytes } => self.received_behind(connection, bytes, memory),
            Event::Closed { connection, reason } => {
                if let Some((slice, _)) = self.landing.remove(&connection) {
                    memory.release(slice.buffer);
                }
                self.tell(Told::Closed(connection, reason));
            }
            Event::DiskCompleted { request, result } => self.completed(request.0, result, memory),
            Event::Control(command) => self.command(command, memory),
            Event::Timeout => {
                assert!(
                    self.waits_for_memory || self.timeout.take().is_some_and(|at| at <= now),
                    "not early, and only if asked for"
                );
                self.waits_for_memory = false;
                self.tell(Told::Timeout(now));
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output<Told>> {
        self.outputs.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        self.timeout
    }

    fn wants_bytes(&self, _: ConnectionId) -> bool {
        !self.deaf
    }

    fn waits_for_memory(&self) -> bool {
        self.waits_for_memory
    }

    fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        let (slice, filled) = self.landing.get(&connection)?;
        Some(slice.part(*filled, slice.length - filled))
    }
}

/// A reactor with a puppet in it, and the test's ear.
pub(crate) struct Stage {
    pub(crate) handle: Handle<Command>,
    told: mpsc::Receiver<Told>,
}

impl Stage {
    pub(crate) fn try_start(config: ReactorConfig) -> Result<Stage, StartReactor> {
        let (tell, told) = mpsc::channel();
        let build = |_: &Opened| Puppet::default();
        let handle = engine::start(config, build, move |report| drop(tell.send(report)))?;
        Ok(Stage { handle, told })
    }

    /// Several that may hand connections to each other.
    pub(crate) fn start_group(configs: Vec<ReactorConfig>) -> Vec<Stage> {
        let (seats, ears): (Vec<Seat<Puppet>>, Vec<_>) = configs
            .into_iter()
            .map(|config| {
                let (tell, told) = mpsc::channel();
                let seat: Seat<Puppet> = Seat {
                    config,
                    build: Box::new(|_| Puppet::default()),
                    report: Box::new(move |report| drop(tell.send(report))),
                };
                (seat, told)
            })
            .unzip();
        let handles = engine::start_group(seats).expect("the group starts");
        let staged = handles.into_iter().zip(ears);
        staged.map(|(handle, told)| Stage { handle, told }).collect()
    }

    pub(crate) fn start(config: ReactorConfig) -> Stage {
        Stage::try_start(config).expect("the reactor starts")
    }

    /// One that listens on a free loopback port.
    pub(crate) fn listening(config: ReactorConfig) -> (Stage, SocketAddr) {
        let stage = Stage::start(ReactorConfig {
            listeners: vec!["127.0.0.1:0".parse().unwrap()],
            ..config
        });
        let address = stage.handle.opened().listeners[0];
        (stage, address)
    }

    pub(crate) fn command(&self, command: Command) {
        self.handle.control(command).expect("the reactor runs");
    }

    pub(crate) fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("something is reported")
    }

    pub(crate) fn accepted(&self) -> ConnectionId {
        match self.next() {
            Told::Accepted(connection, _) => connection,
            other => panic!("not accepted but {other:?}"),
        }
    }

    /// Everything told so far has been heard when this returns, and there was nothing.
    pub(crate) fn nothing_told(&self) {
        self.command(Command::Ping);
        assert_eq!(self.next(), Told::Pong);
    }

    /// So many bytes from one connection, however they were cut.
    pub(crate) fn receive(&self, connection: ConnectionId, length: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < length {
            match self.next() {
                Told::Received(from, bytes) if from == connection => all.extend(bytes),
                other => panic!("not received but {other:?}"),
            }
        }
        all
    }

    pub(crate) fn disk(&self, disk: u32, request: u64, ask: Ask) -> Result<Vec<u8>, DiskError> {
        self.command(Command::Disk(disk, request, ask));
        match self.next() {
            Told::Disk(answered, result) if answered == request => result,
            other => panic!("not answered but {other:?}"),
        }
    }

    /// Waits until the counters say so.
    pub(crate) fn eventually(&self, what: &str, holds: impl Fn(&engine::ReactorStatus) -> bool) {
        let begun = Instant::now();
        while !holds(&self.handle.status()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.handle.status());
            std::thread::yield_now();
        }
    }

    pub(crate) fn nothing_is_held(&self) {
        self.eventually("buffers come back", |status| status.buffer_bytes_in_use == 0);
    }
}

/// Bytes that tell where they belong.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let word = |index: u64| (seed ^ index).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..length.div_ceil(8) as u64)
        .flat_map(word)
        .take(length)
        .collect()
}

fn payload(payload: BufferSlice) -> Segment {
    let before = SessionBytes::with_capacity(0);
    Segment::Payload { before, payload }
}
