//! The clocks (clock_gettime(2)), and letting time pass (nanosleep(2)).
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use emissary_core::timers::Instant;

/// A clock of clock_gettime(2).
#[derive(Clone, Copy)]
pub(crate) enum Clock {
    Realtime,
    Monotonic,
}

/// A clock's time: seconds, and nanoseconds behind them.
pub(crate) fn clock(clock: Clock) -> (i64, i64) {
    let id = match clock {
        Clock::Realtime => libc::CLOCK_REALTIME,
        Clock::Monotonic => libc::CLOCK_MONOTONIC,
    };
    // The C library has its own way to the kernel's page; rustix would bring another.
    #[cfg(target_pointer_width = "64")]
    {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec of ours; both clocks are always there.
        unsafe { libc::clock_gettime(id, &raw mut now) };
        (now.tv_sec, now.tv_nsec)
    }
    // Where a word has 32 bits the libc crate still has the time in one. musl's call has 64 under this name, and does without the newer system call only
    // where that gives ENOSYS: an old libseccomp gives EPERM.
    #[cfg(not(target_pointer_width = "64"))]
    {
        /// `struct timespec` of 64 bits: the nanoseconds are a word, which is the first of two on a machine that has the low bytes first.
        #[repr(C)]
        struct Time {
            seconds: i64,
            nanoseconds: core::ffi::c_long,
            rest: core::ffi::c_long,
        }
        unsafe extern "C" {
            fn __clock_gettime64(id: libc::clockid_t, time: *mut Time) -> core::ffi::c_int;
        }
        const { assert!(cfg!(target_endian = "little")) };
        let mut now = Time { seconds: 0, nanoseconds: 0, rest: 0 };
        // SAFETY: the pointer is to such a time.
        if unsafe { __clock_gettime64(id, &raw mut now) } == 0 {
            return (now.seconds, now.nanoseconds.into());
        }
        let mut old: [core::ffi::c_long; 2] = [0; 2];
        // SAFETY: the pointer is to seconds and nanoseconds, each a word, as the call of this number has them.
        unsafe { libc::syscall(libc::SYS_clock_gettime, id, old.as_mut_ptr()) };
        (old[0].into(), old[1].into())
    }
}

/// The same in milliseconds.
pub(crate) fn clock_ms(which: Clock) -> i64 {
    let (seconds, nanoseconds) = clock(which);
    seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
}

/// Does nothing for a hundredth of a second.
#[cold]
pub(crate) fn pause() {
    // Seconds and nanoseconds, each a word, as the call of this number has them.
    let length: [core::ffi::c_long; 2] = [0, 10_000_000];
    // SAFETY: the pointer is to such a time; what is left of it is not asked for.
    unsafe { libc::syscall(libc::SYS_nanosleep, length.as_ptr(), 0_usize) };
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> i64 {
    clock_ms(Clock::Realtime)
}

/// Now, on a clock that does not go back.
pub(crate) fn now() -> Instant {
    Instant::from_ms(clock_ms(Clock::Monotonic).unsigned_abs())
}
