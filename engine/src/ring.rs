//! Disk calls made by io_uring. It signals completions by an eventfd that lies, edge-triggered, in the loop's epoll set:
//! nobody has to read it. (The ring's own descriptor does not wake epoll for completions that the kernel has deferred.)
//!
//! Descriptors are registered at the start. Memory is registered piece by piece, as calls first use it, where the
//! kernel lets us pin it: a read or a write inside a registered piece spares the kernel the look at every page.
//!
//! Commands to NVMe namespaces need entries of twice the size, so a ring has them if a namespace is among its disks.

use crate::fixed_memory::FixedMemory;
use crate::passthrough::PassthroughCommand;
use crate::task::{Call, Data};
use io_uring::squeue::{Entry128, EntryMarker};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Entries that can wait for one submission; more are submitted in several goes.
const ENTRIES: u32 = 256;
/// Completions there is room for; no more calls are under way at a time.
pub(crate) const COMPLETIONS: u32 = 4096;

/// Entries as they are, or twice as large.
enum Queues {
    Plain(IoUring),
    Large(IoUring<Entry128, cqueue::Entry32>),
}

macro_rules! with_ring {
    ($queues:expr, $ring:ident => $body:expr) => {
        match $queues {
            Queues::Plain($ring) => $body,
            Queues::Large($ring) => $body,
        }
    };
}

/// A disk's descriptor: its number, and where it lies in the ring's table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub(crate) raw: RawFd,
    pub(crate) index: u32,
}

/// A ring. Opened and used by the reactor's thread alone.
pub(crate) struct Ring {
    queues: Queues,
    signal: OwnedFd,
    files: bool,
    memory: FixedMemory,
}

fn build<S: EntryMarker, C: cqueue::EntryMarker>() -> io::Result<IoUring<S, C>> {
    IoUring::<S, C>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(COMPLETIONS)
        .build(ENTRIES)
        // Linux before 6.1 does not know these flags; it works without.
        .or_else(|_| {
            IoUring::<S, C>::builder()
                .setup_cqsize(COMPLETIONS)
                .build(ENTRIES)
        })
}

impl Ring {
    /// `descriptors` are those of all disks, by index; -1 for those without. `commands`: there is an NVMe namespace among them.
    ///
    /// Fails where the kernel has no io_uring, is too old for the calls we make, or refuses it to this process.
    pub(crate) fn open(descriptors: &[RawFd], commands: bool) -> io::Result<Ring> {
        let queues = match commands {
            false => Queues::Plain(build()?),
            true => Queues::Large(build()?),
        };
        let mut probe = Probe::new();
        let signal = crate::epoll::open_signal()?;
        let files = with_ring!(&queues, ring => {
            ring.submitter().register_probe(&mut probe)?;
            ring.submitter().register_eventfd(signal.as_raw_fd())?;
            ring.submitter().register_files(descriptors).is_ok()
        });
        let mut needed = vec![
            opcode::Read::CODE,
            opcode::Write::CODE,
            opcode::Fsync::CODE,
            opcode::Fallocate::CODE,
        ];
        if commands {
            needed.push(opcode::UringCmd80::CODE);
        }
        if needed.iter().any(|code| !probe.is_supported(*code)) {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        Ok(Ring {
            queues,
            signal,
            files,
            memory: FixedMemory::none(),
        })
    }

    /// Lets the kernel have so many threads at a time for calls that it cannot make without waiting, so that those of one
    /// disk do not keep those of another waiting. Where it refuses, it has as many as it likes.
    pub(crate) fn allow_workers(&self, count: u32) {
        let answer = with_ring!(&self.queues, ring => {
            let mut most = [0, 0];
            ring.submitter()
                .register_iowq_max_workers(&mut most)
                .and_then(|()| {
                    ring.submitter()
                        .register_iowq_max_workers(&mut [count.max(most[0]), 0])
                })
        });
        if let Err(error) = answer {
            tracing::debug!(%error, "the kernel keeps its own number of io_uring workers");
        }
    }

    /// From now on calls that use this memory may have it registered. It outlives the ring's use of it: whoever owns it keeps
    /// it where it is as long as there are calls.
    pub(crate) fn lend_memory(&mut self, start: *mut u8, length: usize) {
        let table =
            |pieces| with_ring!(&self.queues, ring => ring.submitter().register_buffers_sparse(pieces));
        self.memory = FixedMemory::new(start, length, table);
    }

    /// Bytes of memory that are registered, and whether the kernel refused more.
    pub(crate) fn registered_memory(&self) -> (u64, bool) {
        (self.memory.registered_bytes(), self.memory.refused())
    }

    /// Ready once, whenever there is a completion to take.
    pub(crate) fn signal(&self) -> RawFd {
        self.signal.as_raw_fd()
    }

    fn fixed(&mut self, address: *mut u8, length: u32) -> Option<u16> {
        let queues = &self.queues;
        self.memory.piece_of(address, length, |index, piece| {
            // SAFETY: the memory lies in the region lent by `lend_memory`, mapped as long as calls are made.
            with_ring!(queues, ring => unsafe {
                ring.submitter().register_buffers_update(index, &[piece], None)
            })
        })
    }

    /// Queues a call until the next [`Ring::submit`]; its result comes back under `token`. False if the ring does not
    /// have this call.
    pub(crate) fn push(&mut self, token: u64, descriptor: Descriptor, call: Call) -> bool {
        let fixed = match call {
            Call::Read { into, length, .. } => self.fixed(into.0, length),
            Call::Write { from, length, .. } => self.fixed(from.0, length),
            Call::Command(command) => match command.data {
                Data::At { address, length } => self.fixed(address.0, length),
                Data::None | Data::Range { .. } => None,
            },
            Call::Sync | Call::Allocate { .. } | Call::BlockDiscard { .. } => None,
        };
        if let Call::Command(command) = call {
            let entry = PassthroughCommand::new(&command).entry(self.number(descriptor), fixed);
            self.push_large(entry.flags(self.flags()).user_data(token));
            return true;
        }
        let Some(entry) = entry(self.number(descriptor), call, fixed) else {
            return false;
        };
        let entry = entry.flags(self.flags()).user_data(token);
        match &mut self.queues {
            Queues::Plain(ring) => push_entry(ring, &entry),
            Queues::Large(ring) => push_entry(ring, &entry.into()),
        }
        true
    }

    fn number(&self, descriptor: Descriptor) -> types::Fd {
        types::Fd(match self.files {
            true => descriptor.index as RawFd,
            false => descriptor.raw,
        })
    }

    /// Says what [`Ring::number`] is: a place in the table, or a descriptor of the process.
    fn flags(&self) -> squeue::Flags {
        match self.files {
            true => squeue::Flags::FIXED_FILE,
            false => squeue::Flags::empty(),
        }
    }

    fn push_large(&mut self, entry: Entry128) {
        match &mut self.queues {
            Queues::Large(ring) => push_entry(ring, &entry),
            Queues::Plain(_) => unreachable!("a ring with namespaces has large entries"),
        }
    }

    /// Hands queued calls to the kernel, and lets it finish completions it has deferred.
    pub(crate) fn submit(&mut self) {
        with_ring!(&mut self.queues, ring => {
            let queue = ring.submission();
            if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                return;
            }
            drop(queue);
            submit_now(ring);
        })
    }

    /// Results that have come since the last time.
    pub(crate) fn take_done(&mut self, into: &mut Vec<(u64, i32)>) {
        match &mut self.queues {
            Queues::Plain(ring) => {
                into.extend(ring.completion().map(|entry| (entry.user_data(), entry.result())))
            }
            Queues::Large(ring) => {
                into.extend(ring.completion().map(|entry| (entry.user_data(), entry.result())))
            }
        }
    }
}

impl Drop for Ring {
    /// The kernel takes a ring apart some time after it is closed, and registered files stay open, and locked, until then. Whoever
    /// wants the disk next shall not have to wait for that.
    fn drop(&mut self) {
        if self.files {
            let answer = with_ring!(&self.queues, ring => ring.submitter().unregister_files());
            if let Err(error) = answer {
                tracing::debug!(%error, "disks stay open until the kernel has taken their ring apart");
            }
        }
    }
}

fn push_entry<S: EntryMarker, C: cqueue::EntryMarker>(ring: &mut IoUring<S, C>, entry: &S) {
    // SAFETY: what the entry points to is lent until its completion has been taken (see `Lent`), and the
    // descriptor is open as long as requests to its disk are under way.
    while unsafe { ring.submission().push(entry) }.is_err() {
        submit_now(ring);
    }
}

fn submit_now<S: EntryMarker, C: cqueue::EntryMarker>(ring: &IoUring<S, C>) {
    loop {
        match ring.submit() {
            Ok(_) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The kernel is short of memory, or wants completions taken first: the entries stay queued, and the
            // next turn, which the ready completions bring, tries again.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                std::thread::yield_now();
            }
            Err(error) => panic!("a ring of ours takes what is submitted: {error}"),
        }
    }
}

/// A call that is no command; `None` if rings do not have it.
fn entry(descriptor: types::Fd, call: Call, fixed: Option<u16>) -> Option<squeue::Entry> {
    Some(match call {
        Call::Read { offset, into, length } => match fixed {
            Some(piece) => opcode::ReadFixed::new(descriptor, into.0, length, piece)
                .offset(offset)
                .build(),
            None => opcode::Read::new(descriptor, into.0, length)
                .offset(offset)
                .build(),
        },
        Call::Write {
            offset,
            from,
            length,
            durable,
        } => {
            let flags = if durable { libc::RWF_DSYNC } else { 0 };
            match fixed {
                Some(piece) => opcode::WriteFixed::new(descriptor, from.0, length, piece)
                    .offset(offset)
                    .rw_flags(flags)
                    .build(),
                None => opcode::Write::new(descriptor, from.0, length)
                    .offset(offset)
                    .rw_flags(flags)
                    .build(),
            }
        }
        Call::Sync => opcode::Fsync::new(descriptor)
            .flags(types::FsyncFlags::DATASYNC)
            .build(),
        Call::Allocate { mode, offset, length } => opcode::Fallocate::new(descriptor, length)
            .offset(offset)
            .mode(mode)
            .build(),
        Call::BlockDiscard {
            offset,
            length,
            by_ring: true,
        } => block_discard(descriptor, offset, length),
        Call::BlockDiscard { .. } | Call::Command(_) => return None,
    })
}

/// `BLOCK_URING_CMD_DISCARD`: the entry's `addr` is the first byte, `addr3` (where a command's bytes begin) the length.
fn block_discard(descriptor: types::Fd, offset: u64, length: u64) -> squeue::Entry {
    const BLOCK_URING_CMD_DISCARD: u32 = 0x12 << 8;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&length.to_ne_bytes());
    opcode::UringCmd16::new(descriptor, BLOCK_URING_CMD_DISCARD)
        .addr(Some(offset))
        .cmd(bytes)
        .build()
}
