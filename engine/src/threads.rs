//! Disk calls made by threads: where io_uring is refused, and for the one call it does not have (`BLKDISCARD`).
//!
//! Slower by two switches of context per call. Threads are started with the first call and sleep when there is none.

use crate::control::AbortOnPanic;
use crate::epoll::Waker;
use crate::task::Call;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

#[derive(Default)]
struct Queue {
    calls: VecDeque<(u64, RawFd, Call)>,
    idle: usize,
    closing: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    done: Mutex<Vec<(u64, i32)>>,
    waker: Arc<Waker>,
}

/// Threads that make calls; at most so many.
pub(crate) struct Threads {
    name: String,
    shared: Arc<Shared>,
    running: Vec<JoinHandle<()>>,
    most: usize,
}

impl Threads {
    pub(crate) fn new(name: &str, waker: Arc<Waker>, most: usize) -> Threads {
        Threads {
            name: name.to_owned(),
            shared: Arc::new(Shared {
                queue: Mutex::new(Queue::default()),
                arrived: Condvar::new(),
                done: Mutex::new(Vec::new()),
                waker,
            }),
            running: Vec::new(),
            most,
        }
    }

    /// Queues a call; its result comes back under `token`.
    pub(crate) fn push(&mut self, token: u64, descriptor: RawFd, call: Call) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.calls.push_back((token, descriptor, call));
        let short = queue.calls.len() > queue.idle;
        drop(queue);
        self.shared.arrived.notify_one();
        if short && self.running.len() < self.most {
            self.start_one();
        }
    }

    fn start_one(&mut self) {
        let shared = Arc::clone(&self.shared);
        let name = format!("{}-disk{}", self.name, self.running.len());
        match std::thread::Builder::new()
            .name(name)
            .spawn(move || work(&shared))
        {
            Ok(thread) => self.running.push(thread),
            // Fewer threads are slower, none is a reactor that cannot work at all.
            Err(error) if !self.running.is_empty() => tracing::warn!(%error, "no further disk thread"),
            Err(error) => panic!("not one thread for disks can be started: {error}"),
        }
    }

    /// Results that have come since the last time.
    pub(crate) fn take_done(&self, into: &mut Vec<(u64, i32)>) {
        into.append(&mut self.shared.done.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Threads {
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

fn work(shared: &Shared) {
    let _guard = AbortOnPanic;
    while let Some((token, descriptor, call)) = next(shared) {
        let result = make(descriptor, call);
        shared
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((token, result));
        shared.waker.wake();
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

/// Makes the call; bytes or zero, or the negative error number: as io_uring answers.
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
        Call::BlockDiscard { offset, length } => {
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
