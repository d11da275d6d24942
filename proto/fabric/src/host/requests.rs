//! The requests an association has taken, and how they are cut into commands that fit the controller.
//!
//! A request waits in order of arrival until a queue has room, is cut into parts as room appears, and ends when its last
//! part has ended. The first failure is its outcome, and stops the cutting.
//!
//! Not here: which queue a part goes to, entries, bytes.
//!
//! Invariants: a request is in `waiting` exactly while it has blocks that were not cut and no part failed; it holds one
//! reference on its buffer from `take` to its end.

use super::command::{Command, Reservation, Tag};
use block::{BLOCK_SIZE, BlockRange, Memory, Operation, Request, Slab, Slot};
use nvme::Status;
use std::collections::VecDeque;

/// Names a request inside an association.
pub(crate) type RequestKey = Slot;

/// The longest range one command may name, by kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Read, Write, Compare: MDTS.
    pub(crate) transfer_blocks: u64,
    /// Write Zeroes: the 16-bit NLB.
    pub(crate) zeroes_blocks: u64,
    /// Dataset Management: the 32-bit length of one range.
    pub(crate) deallocate_blocks: u64,
}

impl Limits {
    /// Nothing but the widths of the fields, which is what stands when MDTS is zero.
    pub(crate) const FIELDS: Limits = Limits {
        transfer_blocks: 1 << 16,
        zeroes_blocks: 1 << 16,
        deallocate_blocks: u32::MAX as u64,
    };

    fn of(self, command: &Command) -> u64 {
        match command {
            Command::Block(request) => match request.operation {
                Operation::Read { .. } | Operation::Write { .. } => self.transfer_blocks,
                Operation::WriteZeroes { .. } => self.zeroes_blocks,
                Operation::Deallocate => self.deallocate_blocks,
                Operation::Flush => u64::MAX,
            },
            Command::Compare { .. } => self.transfer_blocks,
            Command::Reservation(_) => u64::MAX,
        }
    }
}

/// One request in flight.
#[derive(Debug)]
struct Inflight {
    tag: Tag,
    nsid: u32,
    command: Command,
    /// Orders requests by arrival.
    serial: u64,
    /// Blocks cut off so far.
    cut: u64,
    /// Whether something is left to cut.
    uncut: bool,
    /// Parts sent and not answered.
    parts: u32,
    outcome: Result<u64, Status>,
    abandoned: bool,
}

/// A piece of a request: one NVMe command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) key: RequestKey,
    pub(crate) nsid: u32,
    pub(crate) command: Command,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) tag: Tag,
    /// It was a Reservation Report: the answer's data is its outcome.
    pub(crate) is_report: bool,
    pub(crate) outcome: Result<u64, Status>,
    /// Nobody wants to hear of it.
    pub(crate) abandoned: bool,
}

/// All requests of an association.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    table: Slab<Inflight>,
    waiting: VecDeque<RequestKey>,
    next_serial: u64,
}

impl Requests {
    /// Takes a request.
    ///
    /// # Panics
    /// If range and buffer do not fit each other: the owner's mistake.
    pub(crate) fn take(&mut self, tag: Tag, nsid: u32, command: &Command, memory: &mut dyn Memory) {
        let key = self.insert(tag, nsid, command, memory);
        self.waiting.push_back(key);
    }

    /// Takes a request that is sent at once as one part; `None` if it has to be cut, or others wait. Nothing has happened then.
    ///
    /// # Panics
    /// As [`Requests::take`].
    #[inline]
    pub(crate) fn take_whole(
        &mut self,
        tag: Tag,
        nsid: u32,
        command: &Command,
        limits: Limits,
        memory: &mut dyn Memory,
    ) -> Option<RequestKey> {
        let length = command.range().length.0;
        if self.is_waiting() || length > limits.of(command) {
            return None;
        }
        let key = self.insert(tag, nsid, command, memory);
        let request = self.table.find_mut(key).expect("just put there");
        (request.cut, request.uncut, request.parts) = (length, false, 1);
        Some(key)
    }

    #[inline]
    fn insert(&mut self, tag: Tag, nsid: u32, command: &Command, memory: &mut dyn Memory) -> RequestKey {
        command.assert_sound();
        if let Some(slice) = command.buffer() {
            memory.retain(slice.buffer);
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        self.table.insert(Inflight {
            tag,
            nsid,
            command: *command,
            serial,
            cut: 0,
            uncut: true,
            parts: 0,
            outcome: Ok(0),
            abandoned: false,
        })
    }

    /// How many requests have not ended.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether something waits for room in a queue.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Cuts the next part off the request that waits longest.
    pub(crate) fn next_part(&mut self, limits: Limits) -> Option<Part> {
        let key = *self.waiting.front()?;
        let request = self.table.find_mut(key).expect("what waits has not ended");
        let total = request.command.range().length.0;
        let length = (total - request.cut).min(limits.of(&request.command));
        let command = match length == total {
            true => request.command,
            false => cut(&request.command, request.cut, length),
        };
        let nsid = request.nsid;
        request.cut += length;
        request.parts += 1;
        request.uncut = request.cut < total;
        if !request.uncut {
            self.waiting.pop_front();
        }
        Some(Part { key, nsid, command })
    }

    /// A part was answered; the request's end if it was the last.
    #[inline]
    pub(crate) fn part_ended(
        &mut self,
        key: RequestKey,
        outcome: Result<u64, Status>,
        memory: &mut dyn Memory,
    ) -> Option<Ended> {
        let request = self
            .table
            .find_mut(key)
            .expect("a request stays as long as its parts");
        request.parts -= 1;
        if request.outcome.is_ok() {
            request.outcome = outcome;
        }
        if request.uncut && request.outcome.is_err() {
            self.stop_cutting(key);
        }
        self.end_if_over(key, memory)
    }

    /// Its owner no longer wants the request: nothing more of it is sent, and its end is not told. Answers its key, for
    /// the parts that are under way; `None` if no request has the tag or nothing was under way.
    pub(crate) fn abandon(&mut self, tag: Tag, memory: &mut dyn Memory) -> Option<RequestKey> {
        let wanted = |request: &Inflight| request.tag == tag && !request.abandoned;
        let (key, _) = self.table.iter().find(|(_, request)| wanted(request))?;
        self.table.find_mut(key).expect("found above").abandoned = true;
        self.stop_cutting(key);
        match self.end_if_over(key, memory) {
            Some(_) => None,
            None => Some(key),
        }
    }

    /// Ends everything with `status`, oldest first.
    pub(crate) fn fail_all(&mut self, status: Status, memory: &mut dyn Memory) -> Vec<Ended> {
        self.waiting.clear();
        let mut keys: Vec<_> = self
            .table
            .iter()
            .map(|(key, request)| (request.serial, key))
            .collect();
        keys.sort_unstable_by_key(|(serial, _)| *serial);
        let removed = keys.into_iter().filter_map(|(_, key)| self.table.remove(key));
        removed
            .map(|request| ended(&request, Some(status), memory))
            .collect()
    }

    fn stop_cutting(&mut self, key: RequestKey) {
        let request = self.table.find_mut(key).expect("the caller looked it up");
        if core::mem::take(&mut request.uncut) {
            self.waiting.retain(|waiting| *waiting != key);
        }
    }

    #[inline]
    fn end_if_over(&mut self, key: RequestKey, memory: &mut dyn Memory) -> Option<Ended> {
        let request = self.table.find_mut(key).expect("the caller looked it up");
        if request.parts > 0 || request.uncut {
            return None;
        }
        let ended = ended(request, None, memory);
        self.table.remove(key);
        Some(ended)
    }
}

fn ended(request: &Inflight, status: Option<Status>, memory: &mut dyn Memory) -> Ended {
    if let Some(slice) = request.command.buffer() {
        memory.release(slice.buffer);
    }
    Ended {
        tag: request.tag,
        is_report: matches!(request.command, Command::Reservation(Reservation::Report)),
        outcome: status.map_or(request.outcome, Err),
        abandoned: request.abandoned,
    }
}

/// The `length` blocks of `command` that begin `offset` blocks into it.
fn cut(command: &Command, offset: u64, length: u64) -> Command {
    if !command.has_range() {
        return *command;
    }
    let range = BlockRange::new(command.range().start.0 + offset, length);
    let bytes =
        |blocks: u64| u32::try_from(blocks * u64::from(BLOCK_SIZE)).expect("inside a buffer of 32 bits");
    let piece = |buffer: block::BufferSlice| buffer.part(bytes(offset), bytes(length));
    match *command {
        Command::Block(Request { operation, .. }) => {
            let operation = match operation {
                Operation::Read { buffer } => Operation::Read {
                    buffer: piece(buffer),
                },
                Operation::Write { buffer, durable } => Operation::Write {
                    buffer: piece(buffer),
                    durable,
                },
                other => other,
            };
            Command::Block(Request { operation, range })
        }
        Command::Compare { buffer, .. } => Command::Compare {
            range,
            buffer: piece(buffer),
        },
        Command::Reservation(_) => unreachable!("has no range"),
    }
}
