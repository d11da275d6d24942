//! The core a thread runs on.

use std::io;

/// From now on this thread runs on that core alone.
pub(crate) fn stay_on(core: usize) -> io::Result<()> {
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the core's number lies inside of the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the call reads the set, of the size it is told.
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
