//! The clocks (clock_gettime(2)).
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
    // The C library has its own way to the kernel's page; rustix would bring another. Where a word has 32 bits the libc crate still has the time in one.
    #[cfg(target_pointer_width = "64")]
    {
        let id = match clock {
            Clock::Realtime => libc::CLOCK_REALTIME,
            Clock::Monotonic => libc::CLOCK_MONOTONIC,
        };
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec of ours; both clocks are always there.
        unsafe { libc::clock_gettime(id, &raw mut now) };
        (now.tv_sec, now.tv_nsec)
    }
    #[cfg(not(target_pointer_width = "64"))]
    {
        let now = rustix::time::clock_gettime(match clock {
            Clock::Realtime => rustix::time::ClockId::Realtime,
            Clock::Monotonic => rustix::time::ClockId::Monotonic,
        });
        (now.tv_sec, now.tv_nsec.into())
    }
}

/// The same in milliseconds.
pub(crate) fn clock_ms(which: Clock) -> i64 {
    let (seconds, nanoseconds) = clock(which);
    seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> i64 {
    clock_ms(Clock::Realtime)
}

/// Now, on a clock that does not go back.
pub(crate) fn now() -> Instant {
    Instant::from_ms(clock_ms(Clock::Monotonic).unsigned_abs())
}
