//! One request to a disk as a row of calls: system calls on a file or a block device, commands to an NVMe namespace.
//!
//! A [`Task`] says which call to make next and is told its result: it goes on where a transfer stopped short, does
//! in another way what a disk does not support, and names the error in the seam's words. It makes no call itself:
//! `ring` and `threads` do. So everything here is tested without a disk.
//!
//! [`Call::Sync`] is the one call that is not made for one task alone: whoever drives tasks lets those that wait share it
//! (`commit`), and ends them himself.
//!
//! Invariants: a task completes once; bytes are transferred exactly once, in order; a write counts as durable only if
//! the disk said so.

use crate::namespace_call::{self, Shape};
use block::BufferSlice;
use fabric::driver::{DiskError, DiskOperation, DiskRequestId};
use nvme::{IoCommand, Nsid, Status};

/// A place in memory that is lent to the kernel or to a thread for the time of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lent(pub(crate) *mut u8);

// SAFETY: the address lies in a region that outlives the call (the pool's, or the zeroes'), and by the seam's law
// nobody else touches the bytes until the request has completed.
unsafe impl Send for Lent {}

impl Lent {
    pub(crate) fn part(self, offset: u64) -> Lent {
        Lent(self.0.wrapping_add(offset as usize))
    }
}

/// One call on a disk's descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read {
        offset: u64,
        into: Lent,
        length: u32,
    },
    Write {
        offset: u64,
        from: Lent,
        length: u32,
        /// `RWF_DSYNC`.
        durable: bool,
    },
    /// `fdatasync`; for a namespace, Flush.
    Sync,
    Allocate {
        mode: i32,
        offset: u64,
        length: u64,
    },
    BlockDiscard {
        offset: u64,
        length: u64,
        /// As a command through the ring (Linux 6.12); else `ioctl(BLKDISCARD)`, which is for threads.
        by_ring: bool,
    },
    /// A command to an NVMe namespace.
    Command(Command),
}

/// A command to an NVMe namespace, and the memory that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) nsid: Nsid,
    pub(crate) command: IoCommand,
    pub(crate) data: Data,
    /// What it does of the request's bytes.
    pub(crate) covers_bytes: u64,
}

/// What a command transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    None,
    At {
        address: Lent,
        length: u32,
    },
    /// One range of logical blocks, for Dataset Management; whoever makes the call keeps it until it is done.
    Range {
        slba: u64,
        blocks: u32,
    },
}

/// `fallocate`: the range reads as zeroes and keeps its space.
pub(crate) const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
/// `fallocate`: the range reads as zeroes and loses its space.
pub(crate) const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;

/// Zeroes are written this many bytes at a time where nothing better works.
pub(crate) const ZEROES_BYTES: u64 = 1 << 20;
/// `fallocate` and `BLKDISCARD` are asked for this much at a time, so that one request does not hold a disk for long.
pub(crate) const STRIDE_BYTES: u64 = 1 << 30;

/// What is behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    File,
    BlockDevice,
    Namespace(Shape),
}

/// What a disk can do, learnt by trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    pub(crate) medium: Medium,
    pub(crate) zero: bool,
    pub(crate) punch: bool,
    pub(crate) discard: bool,
    pub(crate) discard_by_ring: bool,
    pub(crate) durable_write: bool,
}

impl Abilities {
    /// Everything, until tried.
    pub(crate) fn assumed(medium: Medium) -> Abilities {
        Abilities {
            medium,
            zero: true,
            punch: true,
            discard: true,
            discard_by_ring: true,
            durable_write: true,
        }
    }

    /// The call behind [`Call::Sync`].
    pub(crate) fn sync_call(&self) -> Call {
        match &self.medium {
            Medium::File | Medium::BlockDevice => Call::Sync,
            Medium::Namespace(shape) => Call::Command(namespace_call::flush(shape)),
        }
    }

    /// What the result of [`Abilities::sync_call`] says; `None`: it was interrupted, and is to be made again.
    pub(crate) fn synced(&self, result: i32) -> Option<Result<(), DiskError>> {
        match (result, &self.medium) {
            (0, _) => Some(Ok(())),
            (status @ 1.., Medium::Namespace(_)) => {
                Some(Err(namespace_call::error_of(Status::parse(status as u16))))
            }
            (1.., _) => unreachable!("a sync transfers nothing"),
            (error, _) if matches!(-error, libc::EINTR | libc::EAGAIN) => None,
            (error, _) => Some(Err(error_of(-error))),
        }
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Call(Call),
    Done(Result<(), DiskError>),
}

/// A request and how far it is.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) request: DiskRequestId,
    pub(crate) operation: DiskOperation,
    /// The operation's buffer; dangling if it has none.
    payload: Lent,
    /// Where [`ZEROES_BYTES`] zeroes lie.
    zeroes: Lent,
    done_bytes: u64,
    last: Option<Call>,
    /// How often the last call has been made again because the disk said so.
    tries: u8,
}

/// A command that a namespace answers with "later" is sent so often again: as often as the kernel's block layer does.
const TRIES_MAX: u8 = 5;

fn length_of(operation: &DiskOperation) -> u64 {
    match operation {
        DiskOperation::Read { buffer, .. } | DiskOperation::Write { buffer, .. } => u64::from(buffer.length),
        DiskOperation::WriteZeroes { length_bytes, .. } | DiskOperation::Discard { length_bytes, .. } => {
            *length_bytes
        }
        DiskOperation::Flush => 0,
    }
}

/// First byte, and how many: what a request touches. `None` for a flush.
pub(crate) fn extent_of(operation: &DiskOperation) -> Option<(u64, u64)> {
    match operation {
        DiskOperation::Read { offset_bytes, .. }
        | DiskOperation::Write { offset_bytes, .. }
        | DiskOperation::WriteZeroes { offset_bytes, .. }
        | DiskOperation::Discard { offset_bytes, .. } => Some((*offset_bytes, length_of(operation))),
        DiskOperation::Flush => None,
    }
}

/// The buffer of a request, if it has one.
pub(crate) fn buffer_of(operation: &DiskOperation) -> Option<BufferSlice> {
    match operation {
        DiskOperation::Read { buffer, .. } | DiskOperation::Write { buffer, .. } => Some(*buffer),
        DiskOperation::Flush | DiskOperation::WriteZeroes { .. } | DiskOperation::Discard { .. } => None,
    }
}

impl Task {
    pub(crate) fn new(request: DiskRequestId, operation: DiskOperation, payload: Lent, zeroes: Lent) -> Task {
        Task {
            request,
            operation,
            payload,
            zeroes,
            done_bytes: 0,
            last: None,
            tries: 0,
        }
    }

    /// The first call.
    pub(crate) fn begin(&mut self, abilities: &Abilities) -> Next {
        self.go_on(abilities)
    }

    /// After a call: bytes transferred (or zero), or the negative error number; after a command to a namespace its status
    /// (zero is success), or the negative error number.
    pub(crate) fn advance(&mut self, abilities: &mut Abilities, result: i32) -> Next {
        let call = self.last.expect("a call was made before its result comes");
        match (-result, call) {
            (libc::EINTR | libc::EAGAIN, _) => Next::Call(call),
            (..0, Call::Command(_)) => self.refused(abilities, call, Status::parse(result as u16)),
            (..=0, _) => self.succeeded(abilities, call, result as u64),
            (libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ENOTTY | libc::EPERM, _)
                if give_up_ability(abilities, &call) =>
            {
                self.go_on(abilities)
            }
            (number, _) => Next::Done(Err(error_of(number))),
        }
    }

    fn refused(&mut self, abilities: &mut Abilities, call: Call, status: Status) -> Next {
        let unsupported = status.is(Status::INVALID_OPCODE) || status.is(Status::INVALID_FIELD);
        if unsupported && give_up_ability(abilities, &call) {
            return self.go_on(abilities);
        }
        if namespace_call::later(status) && self.tries < TRIES_MAX {
            self.tries += 1;
            return Next::Call(call);
        }
        Next::Done(Err(namespace_call::error_of(status)))
    }

    fn succeeded(&mut self, abilities: &Abilities, call: Call, bytes: u64) -> Next {
        match call {
            // The disk ends before the request does: it has shrunk under us.
            Call::Read { .. } | Call::Write { .. } if bytes == 0 => return Next::Done(Err(DiskError::Gone)),
            Call::Read { length, .. } | Call::Write { length, .. } => {
                assert!(
                    bytes <= u64::from(length),
                    "the kernel transfers no more than asked"
                );
                self.done_bytes += bytes;
            }
            Call::Allocate { length, .. } | Call::BlockDiscard { length, .. } => self.done_bytes += length,
            Call::Command(command) => self.done_bytes += command.covers_bytes,
            Call::Sync => unreachable!("who waits for a sync is ended by whoever made it"),
        }
        self.go_on(abilities)
    }

    fn go_on(&mut self, abilities: &Abilities) -> Next {
        let next = self.next(abilities);
        if let Next::Call(call) = next {
            self.last = Some(call);
            self.tries = 0;
        }
        next
    }

    fn next(&self, abilities: &Abilities) -> Next {
        let left = length_of(&self.operation) - self.done_bytes;
        if let Medium::Namespace(shape) = &abilities.medium {
            return self.next_command(abilities, shape, left);
        }
        match self.operation {
            DiskOperation::Flush => Next::Call(Call::Sync),
            DiskOperation::Write { durable: true, .. } if left == 0 && !abilities.durable_write => {
                Next::Call(Call::Sync)
            }
            _ if left == 0 => Next::Done(Ok(())),
            DiskOperation::Read { offset_bytes, .. } => Next::Call(Call::Read {
                offset: offset_bytes + self.done_bytes,
                into: self.payload.part(self.done_bytes),
                length: left as u32,
            }),
            DiskOperation::Write {
                offset_bytes,
                durable,
                ..
            } => Next::Call(Call::Write {
                offset: offset_bytes + self.done_bytes,
                from: self.payload.part(self.done_bytes),
                length: left as u32,
                durable: durable && abilities.durable_write,
            }),
            DiskOperation::WriteZeroes {
                offset_bytes,
                deallocate,
                ..
            } => Next::Call(self.zero_call(abilities, offset_bytes + self.done_bytes, left, deallocate)),
            DiskOperation::Discard { offset_bytes, .. } => {
                discard_call(abilities, offset_bytes + self.done_bytes, left)
            }
        }
    }

    fn next_command(&self, abilities: &Abilities, shape: &Shape, left: u64) -> Next {
        let at = |offset_bytes: u64| shape.block_of(offset_bytes + self.done_bytes);
        let payload = self.payload.part(self.done_bytes);
        Next::Call(Call::Command(match self.operation {
            // What has completed is on the media already: the controller has no cache that forgets.
            DiskOperation::Flush if !shape.volatile_cache => return Next::Done(Ok(())),
            DiskOperation::Flush => return Next::Call(Call::Sync),
            _ if left == 0 => return Next::Done(Ok(())),
            DiskOperation::Read { offset_bytes, .. } => {
                namespace_call::read(shape, at(offset_bytes), payload, left)
            }
            DiskOperation::Write {
                offset_bytes,
                durable,
                ..
            } => namespace_call::write(shape, at(offset_bytes), payload, left, durable),
            DiskOperation::WriteZeroes {
                offset_bytes,
                deallocate,
                ..
            } if abilities.zero && shape.zeroes_bytes_max > 0 => {
                namespace_call::write_zeroes(shape, at(offset_bytes), left, deallocate)
            }
            DiskOperation::WriteZeroes { offset_bytes, .. } => {
                let left = left.min(ZEROES_BYTES);
                namespace_call::write(shape, at(offset_bytes), self.zeroes, left, false)
            }
            DiskOperation::Discard { offset_bytes, .. }
                if abilities.discard && shape.deallocate_blocks_max > 0 =>
            {
                namespace_call::deallocate(shape, at(offset_bytes), left)
            }
            DiskOperation::Discard { .. } => return Next::Done(Ok(())),
        }))
    }

    fn zero_call(&self, abilities: &Abilities, offset: u64, left: u64, deallocate: bool) -> Call {
        let mode = match (deallocate && abilities.punch, abilities.zero) {
            (true, _) => PUNCH,
            (false, true) => ZERO,
            (false, false) => {
                return Call::Write {
                    offset,
                    from: self.zeroes,
                    length: left.min(ZEROES_BYTES) as u32,
                    durable: false,
                };
            }
        };
        Call::Allocate {
            mode,
            offset,
            length: left.min(STRIDE_BYTES),
        }
    }
}

/// A discard is advice: a disk that cannot has followed it.
fn discard_call(abilities: &Abilities, offset: u64, left: u64) -> Next {
    let length = left.min(STRIDE_BYTES);
    match abilities.medium {
        Medium::BlockDevice if abilities.discard => Next::Call(Call::BlockDiscard {
            offset,
            length,
            by_ring: abilities.discard_by_ring,
        }),
        Medium::File if abilities.discard && abilities.punch => Next::Call(Call::Allocate {
            mode: PUNCH,
            offset,
            length,
        }),
        _ => Next::Done(Ok(())),
    }
}

/// Notes that the disk does not support the call; false if there is no other way.
fn give_up_ability(abilities: &mut Abilities, call: &Call) -> bool {
    let ability = match call {
        Call::Allocate { mode: PUNCH, .. } => &mut abilities.punch,
        Call::Allocate { .. } => &mut abilities.zero,
        Call::BlockDiscard { by_ring: true, .. } => &mut abilities.discard_by_ring,
        Call::BlockDiscard { .. } => &mut abilities.discard,
        Call::Write { durable: true, .. } => &mut abilities.durable_write,
        Call::Command(command) => match command.command {
            IoCommand::WriteZeroes(_) => &mut abilities.zero,
            IoCommand::DatasetManagement(_) => &mut abilities.discard,
            _ => return false,
        },
        Call::Read { .. } | Call::Write { .. } | Call::Sync => return false,
    };
    std::mem::replace(ability, false)
}

/// The seam's word for an error number.
pub(crate) fn error_of(number: i32) -> DiskError {
    match number {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => DiskError::NoSpace,
        libc::ENODEV | libc::ENXIO | libc::ENOENT | libc::EBADF | libc::ESHUTDOWN => DiskError::Gone,
        _ => DiskError::Media,
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
