//! A host as a node: what `trestle demo`, tests and benches drive, over real sockets or simulated ones.
//!
//! Its control plane speaks in bytes and blocks: an operation is cut into pieces, each with a buffer of its own, so that any
//! length can be asked for; the pieces go out through [`Multipath`] and the answer is put together again.
//!
//! Not here: verification of what was read, and files or devices of this machine.
//!
//! Invariants: an operation is reported once; a piece holds a buffer exactly while it is in flight.

use super::association::Association;
use super::command::{Command, Tag};
use super::config::AssociationConfig;
use super::connection_ids::{ConnectionIdRanges, ConnectionIds};
use super::event::{AssociationEvent, AssociationOutput};
use super::multipath::{
    Multipath, MultipathConfig, MultipathEvent, MultipathOutput, PathStatus, VolumeId, VolumeStatus,
};
use crate::driver::{ConnectionId, Event, Machine, Output};
use block::{BLOCK_SIZE, BlockRange, BufferSlice, Duration, Memory, Operation, Request, Time};
use nvme::Status;
use nvme::log::DiscoveryEntry;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Blocks of one piece: one buffer, one request to the paths.
const PIECE_BLOCKS: u64 = 64;
/// How long to wait for buffers when there were none.
const MEMORY_RETRY: Duration = Duration::from_millis(5);

/// What a host does with a volume. Ranges are in blocks of 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostOperation {
    /// Read.
    Read {
        /// Which blocks.
        range: BlockRange,
    },
    /// Write.
    Write {
        /// The first block.
        start: u64,
        /// What: whole blocks.
        bytes: Vec<u8>,
        /// On the media before it completes (FUA).
        durable: bool,
    },
    /// Succeeds if the blocks hold these bytes.
    Compare {
        /// The first block.
        start: u64,
        /// What they should hold: whole blocks.
        bytes: Vec<u8>,
    },
    /// Everything that completed before is on the media afterwards.
    Flush,
    /// The blocks read as zeroes afterwards.
    WriteZeroes {
        /// Which blocks.
        range: BlockRange,
        /// Whether space may be given back.
        deallocate: bool,
    },
    /// The blocks are no longer needed.
    Deallocate {
        /// Which blocks.
        range: BlockRange,
    },
}

/// What a host's control plane may say to it.
#[derive(Debug)]
pub enum HostControl {
    /// Connect to the subsystem over these addresses too, and stay connected.
    Connect {
        /// Where its controllers listen.
        addresses: Vec<SocketAddr>,
    },
    /// Disconnect from these addresses.
    Disconnect {
        /// Which.
        addresses: Vec<SocketAddr>,
    },
    /// An operation on a volume; its end is reported by [`HostReport::Completed`].
    Submit {
        /// Its name in the report.
        id: u64,
        /// The volume.
        volume: VolumeId,
        /// What to do.
        operation: HostOperation,
    },
    /// Report the paths.
    Paths,
    /// Report the volumes.
    Volumes,
    /// Ask the discovery subsystem at an address what there is.
    Discover {
        /// Where.
        address: SocketAddr,
    },
}

/// What a host says to its control plane.
#[derive(Debug)]
pub enum HostReport {
    /// A path can be used.
    PathReady {
        /// Where.
        address: SocketAddr,
        /// The controller there.
        cntlid: u16,
    },
    /// A path cannot be used, or an attempt to make it failed.
    PathLost {
        /// Where.
        address: SocketAddr,
        /// Why, for people.
        reason: String,
    },
    /// Namespaces or their states were read again on a path: the paths as they are now.
    PathsChanged(Vec<PathStatus>),
    /// The paths, as asked for.
    Paths(Vec<PathStatus>),
    /// The volumes, as asked for.
    Volumes(Vec<VolumeStatus>),
    /// An operation has ended.
    Completed {
        /// Which.
        id: u64,
        /// The bytes of a read (nothing for others), or what it failed with.
        result: Result<Vec<u8>, Status>,
    },
    /// What a discovery subsystem said.
    Discovered {
        /// Which.
        address: SocketAddr,
        /// Its entries, or why there are none, for people.
        result: Result<Vec<DiscoveryEntry>, String>,
    },
}

/// An operation that has not ended.
#[derive(Debug)]
struct Running {
    id: u64,
    volume: VolumeId,
    operation: HostOperation,
    range: BlockRange,
    /// Blocks of which pieces were made.
    cut: u64,
    /// Whether all pieces were made.
    is_cut: bool,
    pieces: u32,
    result: Result<Vec<u8>, Status>,
}

/// A piece in flight.
#[derive(Clone, Copy, Debug)]
struct Piece {
    running: u64,
    /// Where it is in the operation, in blocks.
    offset: u64,
    buffer: Option<BufferSlice>,
}

/// A host.
#[derive(Debug)]
pub struct HostNode {
    multipath: Multipath,
    template: AssociationConfig,
    /// Of the associations with discovery subsystems; its names are apart from those of the paths.
    discovery_ranges: ConnectionIdRanges,
    discoveries: BTreeMap<u32, Association>,
    running: BTreeMap<u64, Running>,
    /// Those with pieces to be made, oldest first.
    uncut: VecDeque<u64>,
    next_running: u64,
    pieces: BTreeMap<u64, Piece>,
    next_piece: u64,
    /// There were no buffers: try again then.
    retry_at: Option<Time>,
    outputs: VecDeque<Output<HostReport>>,
}

impl HostNode {
    /// A host of one subsystem, without paths.
    pub fn new(config: MultipathConfig) -> HostNode {
        HostNode {
            template: config.association.clone(),
            multipath: Multipath::new(config, ConnectionIdRanges::new()),
            discovery_ranges: ConnectionIdRanges::upper_half(),
            discoveries: BTreeMap::new(),
            running: BTreeMap::new(),
            uncut: VecDeque::new(),
            next_running: 0,
            pieces: BTreeMap::new(),
            next_piece: 0,
            retry_at: None,
            outputs: VecDeque::new(),
        }
    }

    fn handle_control(&mut self, now: Time, control: HostControl, memory: &mut dyn Memory) {
        match control {
            HostControl::Connect { addresses } => addresses
                .into_iter()
                .for_each(|address| self.multipath.connect(now, address, memory)),
            HostControl::Disconnect { addresses } => addresses
                .into_iter()
                .for_each(|address| self.multipath.disconnect(now, address, memory)),
            HostControl::Submit {
                id,
                volume,
                operation,
            } => self.begin(id, volume, operation),
            HostControl::Paths => self.report(HostReport::Paths(self.multipath.paths())),
            HostControl::Volumes => self.report(HostReport::Volumes(self.multipath.volumes())),
            HostControl::Discover { address } => self.discover(now, address),
        }
    }

    // Operations and their pieces.

    fn begin(&mut self, id: u64, volume: VolumeId, operation: HostOperation) {
        let Some(range) = operation.range() else {
            let result = Err(Status::INVALID_FIELD.do_not_retry());
            return self.report(HostReport::Completed { id, result });
        };
        let read_bytes = match operation {
            HostOperation::Read { range } => usize::try_from(range.length.bytes()).unwrap_or(usize::MAX),
            _ => 0,
        };
        let running = Running {
            id,
            volume,
            operation,
            range,
            cut: 0,
            is_cut: false,
            pieces: 0,
            result: Ok(vec![0; read_bytes]),
        };
        let key = self.next_running;
        self.next_running += 1;
        self.running.insert(key, running);
        self.uncut.push_back(key);
    }

    /// Makes pieces, as far as there are buffers for them.
    fn make_pieces(&mut self, now: Time, memory: &mut dyn Memory) {
        self.retry_at = None;
        while let Some(&key) = self.uncut.front() {
            let running = self.running.get_mut(&key).expect("what is to be cut is running");
            if running.result.is_err() {
                running.is_cut = true;
            }
            if running.is_cut {
                self.uncut.pop_front();
                self.end_if_over(key);
                continue;
            }
            let offset = running.cut;
            let Some((command, buffer)) = running.next_piece(memory) else {
                self.retry_at = Some(now + MEMORY_RETRY);
                return;
            };
            let volume = running.volume;
            let tag = Tag(self.next_piece);
            self.next_piece += 1;
            let piece = Piece {
                running: key,
                offset,
                buffer,
            };
            self.pieces.insert(tag.0, piece);
            self.multipath.submit(now, volume, tag, command, memory);
        }
    }

    fn end_piece(&mut self, tag: Tag, result: Result<u64, Status>, memory: &mut dyn Memory) {
        let piece = self.pieces.remove(&tag.0).expect("a piece ends once");
        let running = self.running.get_mut(&piece.running).expect("it has a piece");
        running.pieces -= 1;
        match (&mut running.result, result) {
            (Ok(bytes), Ok(_)) => {
                if let Some(slice) = piece.buffer.filter(|_| !bytes.is_empty()) {
                    let start =
                        usize::try_from(piece.offset * u64::from(BLOCK_SIZE)).expect("inside a vector");
                    let read = memory.bytes(slice);
                    bytes[start..start + read.len()].copy_from_slice(read);
                }
            }
            (Ok(_), Err(status)) => running.result = Err(status),
            (Err(_), _) => {}
        }
        if let Some(slice) = piece.buffer {
            memory.release(slice.buffer);
        }
        self.end_if_over(piece.running);
    }

    fn end_if_over(&mut self, key: u64) {
        let running = &self.running[&key];
        if running.is_cut && running.pieces == 0 {
            let Running { id, result, .. } = self.running.remove(&key).expect("looked up above");
            self.report(HostReport::Completed { id, result });
        }
    }

    // Discovery.

    fn discover(&mut self, now: Time, address: SocketAddr) {
        let ids = self.discovery_ranges.take();
        let range = ids.range();
        let config = AssociationConfig {
            subsystem_nqn: AssociationConfig::DISCOVERY_NQN.to_owned(),
            address,
            kato_ms: 0,
            ..self.template.clone()
        };
        let mut association = Association::new(config, ids);
        association.connect(now);
        self.discoveries.insert(range, association);
    }

    fn drain_discoveries(&mut self, now: Time, memory: &mut dyn Memory) {
        for range in self.discoveries.keys().copied().collect::<Vec<_>>() {
            while let Some(output) = self
                .discoveries
                .get_mut(&range)
                .and_then(Association::poll_output)
            {
                match output {
                    AssociationOutput::Connect { connection, address } => {
                        self.outputs.push_back(Output::Connect { connection, address });
                    }
                    AssociationOutput::Send { connection, segment } => {
                        self.outputs.push_back(Output::Send { connection, segment });
                    }
                    AssociationOutput::Close { connection, abort } => {
                        self.outputs.push_back(Output::Close { connection, abort });
                    }
                    AssociationOutput::Event(event) => self.handle_discovery(now, range, event, memory),
                }
            }
        }
        self.discoveries
            .retain(|_, association| association.is_wanted() || association.next_timeout().is_some());
    }

    /// One answer or one failure, and that was it.
    fn handle_discovery(&mut self, now: Time, range: u32, event: AssociationEvent, memory: &mut dyn Memory) {
        let association = self.discoveries.get_mut(&range).expect("it has just told");
        let address = association.config().address;
        let was_wanted = association.is_wanted();
        let result = match event {
            AssociationEvent::Ready { .. } => return association.read_discovery_log(now, memory),
            AssociationEvent::DiscoveryLog { entries } => Ok(entries),
            AssociationEvent::Lost { reason } if was_wanted => Err(reason.to_string()),
            _ => return,
        };
        association.disconnect(now, memory);
        self.report(HostReport::Discovered { address, result });
    }

    // Paths.

    fn drain_multipath(&mut self, memory: &mut dyn Memory) {
        while let Some(output) = self.multipath.poll_output() {
            match output {
                MultipathOutput::Connect { connection, address } => {
                    self.outputs.push_back(Output::Connect { connection, address });
                }
                MultipathOutput::Send { connection, segment } => {
                    self.outputs.push_back(Output::Send { connection, segment });
                }
                MultipathOutput::Close { connection, abort } => {
                    self.outputs.push_back(Output::Close { connection, abort });
                }
                MultipathOutput::Event(event) => self.handle_path_event(event, memory),
            }
        }
    }

    fn handle_path_event(&mut self, event: MultipathEvent, memory: &mut dyn Memory) {
        match event {
            MultipathEvent::PathReady { address, cntlid } => {
                self.report(HostReport::PathReady { address, cntlid })
            }
            MultipathEvent::PathLost { address, reason } => self.report(HostReport::PathLost {
                address,
                reason: reason.to_string(),
            }),
            MultipathEvent::NamespacesRead { .. } => {
                self.report(HostReport::PathsChanged(self.multipath.paths()))
            }
            MultipathEvent::Completed { tag, result } => self.end_piece(tag, result, memory),
        }
    }

    fn report(&mut self, report: HostReport) {
        self.outputs.push_back(Output::Report(Box::new(report)));
    }
}

impl Machine for HostNode {
    type Control = HostControl;
    type Report = HostReport;

    fn handle(&mut self, now: Time, event: Event<'_, HostControl>, memory: &mut dyn Memory) {
        match event {
            Event::Control(control) => self.handle_control(now, control, memory),
            Event::Connected { connection } => match self.discovery_of(connection) {
                Some(association) => association.handle_connected(now, connection, memory),
                None => self.multipath.handle_connected(now, connection, memory),
            },
            Event::Received { connection, bytes } => match self.discovery_of(connection) {
                Some(association) => association.handle_received(now, connection, bytes, memory),
                None => self.multipath.handle_received(now, connection, bytes, memory),
            },
            Event::Closed { connection, reason } => match self.discovery_of(connection) {
                Some(association) => association.handle_closed(now, connection, reason, memory),
                None => self.multipath.handle_closed(now, connection, reason, memory),
            },
            Event::Timeout => {
                self.discoveries
                    .values_mut()
                    .for_each(|association| association.handle_timeout(now, memory));
                self.multipath.handle_timeout(now, memory);
            }
            // A host listens to nobody and has no disks.
            Event::Accepted { connection, .. } | Event::HandedOver { connection, .. } => {
                self.outputs.push_back(Output::Close {
                    connection,
                    abort: true,
                });
            }
            Event::Landed { connection, length } => {
                self.multipath.handle_landed(now, connection, length, memory);
            }
            Event::DiskCompleted { .. } => {}
        }
        self.drain_multipath(memory);
        self.make_pieces(now, memory);
        self.drain_multipath(memory);
        self.drain_discoveries(now, memory);
    }

    fn poll_output(&mut self) -> Option<Output<HostReport>> {
        self.outputs.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        let discoveries = self.discoveries.values().filter_map(Association::next_timeout);
        discoveries
            .chain(self.multipath.next_timeout())
            .chain(self.retry_at)
            .min()
    }

    fn landing(&self, connection: ConnectionId) -> Option<BufferSlice> {
        self.multipath.landing(connection)
    }
}

impl HostNode {
    fn discovery_of(&mut self, connection: crate::driver::ConnectionId) -> Option<&mut Association> {
        self.discoveries.get_mut(&ConnectionIds::range_of(connection)?)
    }
}

impl HostOperation {
    /// The blocks it is about (none for a flush); `None` if it makes no sense.
    fn range(&self) -> Option<BlockRange> {
        let whole_blocks = |start: u64, bytes: &[u8]| {
            let is_whole = !bytes.is_empty() && bytes.len().is_multiple_of(BLOCK_SIZE as usize);
            is_whole.then(|| BlockRange::new(start, bytes.len() as u64 / u64::from(BLOCK_SIZE)))
        };
        let range = match self {
            HostOperation::Flush => return Some(BlockRange::default()),
            HostOperation::Read { range }
            | HostOperation::WriteZeroes { range, .. }
            | HostOperation::Deallocate { range } => *range,
            HostOperation::Write { start, bytes, .. } | HostOperation::Compare { start, bytes } => {
                whole_blocks(*start, bytes)?
            }
        };
        let is_sound = range.length.0 > 0 && range.start.0.checked_add(range.length.0).is_some();
        is_sound.then_some(range)
    }
}

impl Running {
    /// Makes the next piece; `None` if there is no buffer for it.
    fn next_piece(&mut self, memory: &mut dyn Memory) -> Option<(Command, Option<BufferSlice>)> {
        let left = self.range.length.0 - self.cut;
        let (length, buffer) = match &self.operation {
            HostOperation::Flush | HostOperation::WriteZeroes { .. } | HostOperation::Deallocate { .. } => {
                (left, None)
            }
            HostOperation::Read { .. } => {
                let length = left.min(PIECE_BLOCKS);
                (length, Some(memory.allocate(bytes_of(length))?))
            }
            HostOperation::Write { bytes, .. } | HostOperation::Compare { bytes, .. } => {
                let length = left.min(PIECE_BLOCKS);
                let slice = memory.allocate(bytes_of(length))?;
                let start = self.cut as usize * BLOCK_SIZE as usize;
                let piece = &bytes[start..start + bytes_of(length) as usize];
                memory.bytes_mut(slice).copy_from_slice(piece);
                (length, Some(slice))
            }
        };
        let range = BlockRange::new(self.range.start.0 + self.cut, length);
        self.cut += length;
        self.is_cut = self.cut == self.range.length.0;
        self.pieces += 1;
        Some((self.command(range, buffer), buffer))
    }

    fn command(&self, range: BlockRange, buffer: Option<BufferSlice>) -> Command {
        let filled = || buffer.expect("made with the piece");
        let operation = match self.operation {
            HostOperation::Read { .. } => Operation::Read { buffer: filled() },
            HostOperation::Write { durable, .. } => Operation::Write {
                buffer: filled(),
                durable,
            },
            HostOperation::Compare { .. } => {
                let buffer = filled();
                return Command::Compare { range, buffer };
            }
            HostOperation::Flush => Operation::Flush,
            HostOperation::WriteZeroes { deallocate, .. } => Operation::WriteZeroes {
                deallocate,
                durable: false,
            },
            HostOperation::Deallocate { .. } => Operation::Deallocate,
        };
        Command::Block(Request { operation, range })
    }
}

fn bytes_of(blocks: u64) -> u32 {
    u32::try_from(blocks * u64::from(BLOCK_SIZE)).expect("a piece is short")
}
