//! The monotonic clock: the one place where time is read.

use block::Time;

/// Nanoseconds of `CLOCK_MONOTONIC`. All reactors of a machine share the origin; it never goes back.
pub fn now() -> Time {
    let mut spec = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `spec` is a valid place for the answer.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut spec) };
    assert_eq!(answer, 0, "every Linux has a monotonic clock");
    Time(spec.tv_sec as u64 * 1_000_000_000 + spec.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn does_not_go_back() {
        let mut last = super::now();
        assert!(last.0 > 0);
        for _ in 0..1000 {
            let next = super::now();
            assert!(next >= last);
            last = next;
        }
    }
}
