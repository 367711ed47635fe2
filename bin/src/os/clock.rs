//! The clocks (clock_gettime(2)) and a short sleep (nanosleep(2)).
//!
//! Enters: the choice of a clock. Leaves: its time. Refuses: nothing; both clocks exist on every Linux.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use emissary_core::timers::Instant;

/// A clock of clock_gettime(2).
#[derive(Clone, Copy)]
pub(crate) enum Clock {
    Realtime,
    Monotonic,
}

/// Returns a clock's time: seconds and nanoseconds.
pub(crate) fn clock(clock: Clock) -> (i64, i64) {
    let id = match clock {
        Clock::Realtime => libc::CLOCK_REALTIME,
        Clock::Monotonic => libc::CLOCK_MONOTONIC,
    };
    // The C library reads the clock from a page that the kernel maps. rustix would add a second reader of that page.
    #[cfg(target_pointer_width = "64")]
    {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec of ours; Linux always has both clocks.
        unsafe { libc::clock_gettime(id, &raw mut now) };
        (now.tv_sec, now.tv_nsec)
    }
    // On 32-bit targets, the libc crate still declares a time of 32 bits. musl's call with 64 bits has the name below. musl's call falls back to the older
    // system call for ENOSYS alone, but an old libseccomp gives EPERM.
    #[cfg(not(target_pointer_width = "64"))]
    {
        /// `struct timespec` with 64-bit seconds. The nanoseconds are one word. On a little-endian machine, that word comes before the padding.
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
        // SAFETY: the pointer is to a `Time`, which has the layout that the call fills.
        if unsafe { __clock_gettime64(id, &raw mut now) } == 0 {
            return (now.seconds, now.nanoseconds.into());
        }
        let mut old: [core::ffi::c_long; 2] = [0; 2];
        // SAFETY: the pointer is to two words, seconds and nanoseconds. The system call with this number fills two words.
        unsafe { libc::syscall(libc::SYS_clock_gettime, id, old.as_mut_ptr()) };
        (old[0].into(), old[1].into())
    }
}

/// Returns a clock's time in milliseconds.
pub(crate) fn clock_ms(which: Clock) -> i64 {
    let (seconds, nanoseconds) = clock(which);
    seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
}

/// Sleeps for 10 ms.
#[cold]
pub(crate) fn pause() {
    // Seconds and nanoseconds. The system call with this number takes one word for each.
    let length: [core::ffi::c_long; 2] = [0, 10_000_000];
    // SAFETY: the pointer is to two words; the null pointer says that we do not want the remaining time.
    unsafe { libc::syscall(libc::SYS_nanosleep, length.as_ptr(), 0_usize) };
}

/// Returns the milliseconds since 1970-01-01T00:00:00Z.
pub(crate) fn unix_ms() -> i64 {
    clock_ms(Clock::Realtime)
}

/// Returns the time of the monotonic clock, which never goes back.
pub(crate) fn now() -> Instant {
    Instant::from_ms(clock_ms(Clock::Monotonic).unsigned_abs())
}
