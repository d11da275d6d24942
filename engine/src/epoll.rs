//! What the loop sleeps in, and what wakes it from other threads.

use block::Time;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a descriptor is watched for. Errors and hang-ups are always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const READ: Interest = Interest {
        read: true,
        write: false,
    };

    fn bits(self) -> u32 {
        let read = if self.read {
            libc::EPOLLIN | libc::EPOLLRDHUP
        } else {
            0
        };
        let write = if self.write { libc::EPOLLOUT } else { 0 };
        (read | write) as u32
    }
}

/// A descriptor has something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Reset, or closed in both directions.
    pub(crate) broken: bool,
}

const EVENTS_MAX: usize = 256;

/// An epoll instance; level-triggered unless said otherwise.
pub(crate) struct Epoll {
    descriptor: OwnedFd,
    /// Nanosecond waits are refused here (an old kernel, a strict container): wait whole milliseconds, rounded up.
    coarse: bool,
}

fn checked(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

impl Epoll {
    pub(crate) fn open() -> io::Result<Epoll> {
        // SAFETY: no memory is involved; the answer is checked and then owned.
        let descriptor = unsafe { OwnedFd::from_raw_fd(checked(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Epoll {
            descriptor,
            coarse: false,
        })
    }

    fn change(&self, operation: libc::c_int, descriptor: RawFd, token: u64, bits: u32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: bits,
            u64: token,
        };
        // SAFETY: `event` is valid for the call, which copies it.
        checked(unsafe { libc::epoll_ctl(self.descriptor.as_raw_fd(), operation, descriptor, &mut event) })?;
        Ok(())
    }

    pub(crate) fn add(&self, descriptor: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.change(libc::EPOLL_CTL_ADD, descriptor, token, interest.bits())
    }

    /// Watches for reading; ready once per change, not for as long as there is something to read.
    pub(crate) fn add_edge(&self, descriptor: RawFd, token: u64) -> io::Result<()> {
        self.change(
            libc::EPOLL_CTL_ADD,
            descriptor,
            token,
            (libc::EPOLLIN | libc::EPOLLET) as u32,
        )
    }

    pub(crate) fn modify(&self, descriptor: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.change(libc::EPOLL_CTL_MOD, descriptor, token, interest.bits())
    }

    pub(crate) fn remove(&self, descriptor: RawFd) -> io::Result<()> {
        self.change(libc::EPOLL_CTL_DEL, descriptor, 0, 0)
    }

    /// Asks the kernel to poll network cards' queues for so long before a wait sleeps (NAPI busy polling of an epoll set, Linux
    /// 6.9 and later). Where that is not to be had the waits are as they were.
    pub(crate) fn busy_poll(&self, span: block::Duration) {
        /// `EPIOCSPARAMS`: `_IOW(0x8a, 1, struct epoll_params)`.
        const EPIOCSPARAMS: libc::Ioctl = 0x4008_8a01;
        #[repr(C)]
        struct Parameters {
            busy_poll_us: u32,
            busy_poll_budget: u16,
            prefer_busy_poll: u8,
            padding: u8,
        }
        if span.is_zero() {
            return;
        }
        let parameters = Parameters {
            busy_poll_us: u32::try_from(span.as_micros()).unwrap_or(u32::MAX),
            busy_poll_budget: 64,
            prefer_busy_poll: 0,
            padding: 0,
        };
        // SAFETY: the call reads the eight bytes of the structure.
        let answer = unsafe { libc::ioctl(self.descriptor.as_raw_fd(), EPIOCSPARAMS, &raw const parameters) };
        if answer < 0 {
            let error = io::Error::last_os_error();
            tracing::warn!(%error, "this kernel does not poll network cards for us; going on without");
        }
    }

    /// Sleeps until something is ready or `until` has come (`None`: as long as it takes). A signal ends the sleep
    /// with nothing ready.
    pub(crate) fn wait(&mut self, now: Time, until: Option<Time>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let count = match self.wait_once(&mut events, until.map(|until| until.since(now))) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        ready.extend(events[..count].iter().map(|event| {
            let bits = event.events as i32;
            Ready {
                token: event.u64,
                read: bits & (libc::EPOLLIN | libc::EPOLLRDHUP) != 0,
                write: bits & libc::EPOLLOUT != 0,
                broken: bits & (libc::EPOLLERR | libc::EPOLLHUP) != 0,
            }
        }));
        Ok(())
    }

    fn wait_once(
        &mut self,
        events: &mut [libc::epoll_event],
        span: Option<block::Duration>,
    ) -> io::Result<usize> {
        if !self.coarse {
            match self.wait_fine(events, span) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.coarse = true
                }
                answer => return answer,
            }
        }
        let ms = span.map_or(-1, |span| {
            i32::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        // SAFETY: `events` is valid for as many entries as its length says.
        let answer = unsafe {
            libc::epoll_wait(
                self.descriptor.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                ms,
            )
        };
        checked(answer).map(|count| count as usize)
    }

    fn wait_fine(
        &self,
        events: &mut [libc::epoll_event],
        span: Option<block::Duration>,
    ) -> io::Result<usize> {
        let span = span.map(|span| libc::timespec {
            tv_sec: libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: span.subsec_nanos().into(),
        });
        let pointer = span.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `events` is valid for as many entries as its length says, `pointer` is null or `span`; no signal
        // mask is given.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.descriptor.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as libc::c_int,
                pointer,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        checked(answer as libc::c_int).map(|count| count as usize)
    }
}

/// An eventfd.
pub(crate) fn open_signal() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved; the answer is checked and then owned.
    unsafe {
        let descriptor = checked(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// Wakes a reactor from another thread: an eventfd, written only when nobody has since it last woke.
pub(crate) struct Waker {
    descriptor: OwnedFd,
    raised: AtomicBool,
}

impl Waker {
    pub(crate) fn open() -> io::Result<Waker> {
        Ok(Waker {
            descriptor: open_signal()?,
            raised: AtomicBool::new(false),
        })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// Call after what the reactor shall see is in place.
    pub(crate) fn wake(&self) {
        if self.raised.swap(true, Ordering::SeqCst) {
            return;
        }
        let one = 1u64;
        // SAFETY: eight valid bytes.
        let written = unsafe { libc::write(self.descriptor(), (&raw const one).cast(), 8) };
        assert_eq!(written, 8, "an eventfd that was just lowered takes one more");
    }

    /// Call before looking for what other threads have left.
    pub(crate) fn lower(&self) {
        let mut count = 0u64;
        // SAFETY: eight valid bytes. A failure (nothing was raised) leaves `count` as it is.
        unsafe { libc::read(self.descriptor(), (&raw mut count).cast(), 8) };
        self.raised.store(false, Ordering::SeqCst);
    }
}
