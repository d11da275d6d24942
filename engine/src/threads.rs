//! Disk calls made by threads: where io_uring is refused, and for calls that it does not have.
//!
//! Slower by two switches of context per call. Every disk has threads of its own, so that one which does not answer holds up
//! nobody else's calls. They are started with the first call and sleep when there is none.

use crate::control::AbortOnPanic;
use crate::epoll::Waker;
use crate::passthrough::PassthroughCommand;
use crate::task::Call;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Threads that make the calls of one disk.
const THREADS_MAX: usize = 8;

#[derive(Default)]
struct Queue {
    calls: VecDeque<(u64, RawFd, Call)>,
    idle: usize,
    closing: bool,
}

/// Results that have come, of all disks.
struct Results {
    done: Mutex<Vec<(u64, i32)>>,
    waker: Arc<Waker>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// The calls of one disk.
#[derive(Default)]
struct Lane {
    shared: Arc<Shared>,
    running: Vec<JoinHandle<()>>,
}

/// Threads that make calls.
pub(crate) struct Threads {
    name: String,
    lanes: Vec<Lane>,
    results: Arc<Results>,
    /// Calls whose results have not been taken.
    outstanding: usize,
}

impl Threads {
    pub(crate) fn new(name: &str, waker: Arc<Waker>, disks: usize) -> Threads {
        Threads {
            name: name.to_owned(),
            lanes: (0..disks).map(|_| Lane::default()).collect(),
            results: Arc::new(Results {
                done: Mutex::default(),
                waker,
            }),
            outstanding: 0,
        }
    }

    /// Queues a call of a disk; its result comes back under `token`.
    pub(crate) fn push(&mut self, disk: usize, token: u64, descriptor: RawFd, call: Call) {
        self.outstanding += 1;
        let lane = &mut self.lanes[disk];
        let mut queue = lane.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.calls.push_back((token, descriptor, call));
        let short = queue.calls.len() > queue.idle;
        drop(queue);
        lane.shared.arrived.notify_one();
        if short && lane.running.len() < THREADS_MAX {
            let name = format!("{}-disk{disk}.{}", self.name, lane.running.len());
            lane.start_one(name, &self.results);
        }
    }

    /// Results that have come since the last time.
    pub(crate) fn take_done(&mut self, into: &mut Vec<(u64, i32)>) {
        if self.outstanding == 0 {
            return;
        }
        let before = into.len();
        into.append(&mut self.results.done.lock().unwrap_or_else(PoisonError::into_inner));
        self.outstanding -= into.len() - before;
    }
}

impl Lane {
    fn start_one(&mut self, name: String, results: &Arc<Results>) {
        let (shared, results) = (Arc::clone(&self.shared), Arc::clone(results));
        match std::thread::Builder::new()
            .name(name)
            .spawn(move || work(&shared, &results))
        {
            Ok(thread) => self.running.push(thread),
            // Fewer threads are slower, none is a reactor that cannot work at all.
            Err(error) if !self.running.is_empty() => tracing::warn!(%error, "no further disk thread"),
            Err(error) => panic!("not one thread for a disk can be started: {error}"),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closing = true;
        self.shared.arrived.notify_all();
        self.running.drain(..).for_each(|thread| {
            thread
                .join()
                .expect("a disk thread that panics takes the process with it");
        });
    }
}

fn work(shared: &Shared, results: &Results) {
    let _guard = AbortOnPanic;
    while let Some((token, descriptor, call)) = next(shared) {
        let result = make(descriptor, call);
        results
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((token, result));
        results.waker.wake();
    }
}

fn next(shared: &Shared) -> Option<(u64, RawFd, Call)> {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(call) = queue.calls.pop_front() {
            return Some(call);
        }
        if queue.closing {
            return None;
        }
        queue.idle += 1;
        queue = shared.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        queue.idle -= 1;
    }
}

/// Makes the call. Answers as io_uring does: bytes or zero, or the negative error number.
fn make(descriptor: RawFd, call: Call) -> i32 {
    let vector = |address: *mut u8, length: u32| libc::iovec {
        iov_base: address.cast(),
        iov_len: length as usize,
    };
    let answer = match call {
        Call::Read { offset, into, length } => {
            let vector = vector(into.0, length);
            // SAFETY: the bytes are lent to this call alone until it is done (see `Lent`).
            unsafe { libc::preadv(descriptor, &vector, 1, offset as libc::off_t) as i64 }
        }
        Call::Write {
            offset,
            from,
            length,
            durable,
        } => {
            let vector = vector(from.0, length);
            let flags = if durable { libc::RWF_DSYNC } else { 0 };
            // SAFETY: as above.
            unsafe { libc::pwritev2(descriptor, &vector, 1, offset as libc::off_t, flags) as i64 }
        }
        // SAFETY: no memory is involved.
        Call::Sync => i64::from(unsafe { libc::fdatasync(descriptor) }),
        Call::Allocate { mode, offset, length } => {
            // SAFETY: no memory is involved.
            i64::from(unsafe {
                libc::fallocate(descriptor, mode, offset as libc::off_t, length as libc::off_t)
            })
        }
        Call::Command(command) => return PassthroughCommand::new(&command).wait(descriptor),
        Call::BlockDiscard { offset, length, .. } => {
            const BLKDISCARD: libc::Ioctl = 0x1277;
            let range = [offset, length];
            // SAFETY: the call reads two 64-bit numbers at the address.
            i64::from(unsafe { libc::ioctl(descriptor, BLKDISCARD, range.as_ptr()) })
        }
    };
    if answer < 0 {
        -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
    } else {
        i32::try_from(answer).expect("no call transfers more than 2 GiB")
    }
}
