//! Disk calls made by io_uring. It signals completions by an eventfd that lies, edge-triggered, in the loop's epoll set:
//! nobody has to read it. (The ring's own descriptor does not wake epoll for completions that the kernel has deferred.)

use crate::task::Call;
use io_uring::{IoUring, Probe, opcode, squeue, types};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Entries that can wait for one submission; more are submitted in several goes.
const ENTRIES: u32 = 256;
/// Completions there is room for; no more calls are under way at a time.
pub(crate) const COMPLETIONS: u32 = 4096;

/// A ring. Opened and used by the reactor's thread alone.
pub(crate) struct Ring {
    ring: IoUring,
    signal: OwnedFd,
}

impl Ring {
    /// Fails where the kernel has no io_uring, is too old for the calls we make, or refuses it to this process.
    pub(crate) fn open() -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)
            // Linux before 6.1 does not know these flags; it works without.
            .or_else(|_| IoUring::builder().setup_cqsize(COMPLETIONS).build(ENTRIES))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [
            opcode::Read::CODE,
            opcode::Write::CODE,
            opcode::Fsync::CODE,
            opcode::Fallocate::CODE,
        ];
        if needed.iter().any(|code| !probe.is_supported(*code)) {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let signal = crate::epoll::open_signal()?;
        ring.submitter().register_eventfd(signal.as_raw_fd())?;
        Ok(Ring { ring, signal })
    }

    /// Ready once, whenever there is a completion to take.
    pub(crate) fn signal(&self) -> RawFd {
        self.signal.as_raw_fd()
    }

    /// Queues a call until the next [`Ring::submit`]; its result comes back under `token`. False if the ring does not
    /// have this call.
    pub(crate) fn push(&mut self, token: u64, descriptor: RawFd, call: Call) -> bool {
        let Some(entry) = entry(types::Fd(descriptor), call) else {
            return false;
        };
        let entry = entry.user_data(token);
        // SAFETY: what the entry points to is lent until its completion has been taken (see `Lent`), and the
        // descriptor is open as long as requests to its disk are under way.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.submit_now();
        }
        true
    }

    /// Hands queued calls to the kernel, and lets it finish completions it has deferred.
    pub(crate) fn submit(&mut self) {
        let queue = self.ring.submission();
        if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            return;
        }
        drop(queue);
        self.submit_now();
    }

    fn submit_now(&self) {
        loop {
            match self.ring.submit() {
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

    /// Results that have come since the last time.
    pub(crate) fn take_done(&mut self, into: &mut Vec<(u64, i32)>) {
        into.extend(
            self.ring
                .completion()
                .map(|entry| (entry.user_data(), entry.result())),
        );
    }
}

fn entry(descriptor: types::Fd, call: Call) -> Option<squeue::Entry> {
    Some(match call {
        Call::Read { offset, into, length } => opcode::Read::new(descriptor, into.0, length)
            .offset(offset)
            .build(),
        Call::Write {
            offset,
            from,
            length,
            durable,
        } => opcode::Write::new(descriptor, from.0, length)
            .offset(offset)
            .rw_flags(if durable { libc::RWF_DSYNC } else { 0 })
            .build(),
        Call::Sync => opcode::Fsync::new(descriptor)
            .flags(types::FsyncFlags::DATASYNC)
            .build(),
        Call::Allocate { mode, offset, length } => opcode::Fallocate::new(descriptor, length)
            .offset(offset)
            .mode(mode)
            .build(),
        Call::BlockDiscard { .. } => return None,
    })
}
