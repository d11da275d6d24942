//! Which core a thread runs on.
//!
//! Not here: any choice of cores; whoever starts threads knows what shares a machine with them.

use std::io;

/// Keeps the calling thread, and the threads that it starts from now on, on one core.
///
/// # Errors
/// There is no such core, or this process may not use it.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the number was checked to be one that the set has room for.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: zero names the calling thread; the set is valid for the call, which only reads it.
    let answer = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets other threads run that wait for this core.
pub(crate) fn let_others_run() {
    // SAFETY: no memory is involved. It cannot fail on Linux.
    unsafe { libc::sched_yield() };
}

/// How often another thread has had the core although this one wanted it.
pub(crate) fn times_displaced() -> u64 {
    // SAFETY: all zeroes is a valid value of this structure of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one such structure.
    let answer = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    assert_eq!(answer, 0, "a thread may ask about itself");
    usage.ru_nivcsw as u64
}

#[cfg(test)]
mod tests {
    use super::pin_to_core;

    #[test]
    fn refuses_cores_that_are_not_there() {
        assert!(pin_to_core(usize::MAX).is_err());
        assert!(pin_to_core(1023).is_err());
    }
}
