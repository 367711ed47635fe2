//! Time as the state machines see it: instants, durations, every fixed duration, and a table of timers.
//!
//! Enters: milliseconds of a clock that never goes back. Leaves: the next deadline. Refuses: nothing; a sum stops at the largest value.

/// A point in time, in milliseconds of a clock that never goes back, such as `CLOCK_MONOTONIC` (clock_gettime(2)). The clock's zero has no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant(u64);

impl Instant {
    /// The instant `milliseconds` after the clock's zero.
    #[must_use]
    pub const fn from_ms(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds after the clock's zero.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The instant that is `length` later; the last instant if the sum overflows.
    #[must_use]
    pub const fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// The time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Duration(u64);

impl Duration {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// A duration of `milliseconds`.
    #[must_use]
    pub const fn from_ms(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// A duration of `seconds`; the largest duration if the product overflows.
    #[must_use]
    pub const fn from_s(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// The duration in milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The time that is left after `passed`; `None` if no time is left.
    #[must_use]
    pub const fn left_after(self, passed: Self) -> Option<Self> {
        match self.0.checked_sub(passed.0) {
            None | Some(0) => None,
            Some(left) => Some(Self(left)),
        }
    }
}

/// Time between the command's start and the watch of the container's own folder. The kernel takes up to ten milliseconds to close an inotify descriptor
/// that watches a folder, because it waits for a grace period of its own. A command that ends within this time does not pay for that.
pub const WATCH_DELAY: Duration = Duration::from_ms(20);

/// Time between two looks at a folder that inotify does not watch.
pub const LOOK_EVERY: Duration = Duration::from_ms(100);

/// Time until the next attempt to read a file that could not be read.
pub const RETRY_DELAY: Duration = Duration::from_ms(100);

/// How long an exit-code file may be unreadable for a reason that may pass. After this time the reason counts as permanent.
pub const UNREADABLE_LIMIT: Duration = Duration::from_ms(5_000);

/// A file whose writer was not watched counts as complete after this time without a write.
pub const SETTLE_TIME: Duration = Duration::from_ms(100);

/// A file whose writer was watched, and was not seen to close it, counts as complete after this time without a write. A close can go unseen.
pub const ABANDONED_WRITE_AFTER: Duration = Duration::from_ms(3_000);

/// How far a volume's clock may be ahead of ours. A file with a time stamp up to this far in the future counts as just written.
pub const CLOCK_AHEAD: Duration = Duration::from_ms(1_000);

/// Time that the readers of our stdout and stderr get after the end of a command that was asked to end. Kubernetes kills every process 30 s after it has
/// asked, and the exit code must be written before that.
pub const ABANDON_READERS_AFTER: Duration = Duration::from_ms(5_000);

/// Minimum time that a container has after SIGKILL to save its outputs and write its exit code.
pub const MIN_WAIT_AFTER_KILL: Duration = Duration::from_ms(10_000);

/// Minimum wait after SIGKILL if no main container's emissary runs. Exit-code files that exist then get time to settle ([`SETTLE_TIME`]).
pub const MIN_WAIT_WITHOUT_EMISSARY: Duration = Duration::from_ms(200);

/// Age from which a readiness marker means that the supervisor is dead. A live supervisor rewrites the marker every 5 s.
pub const STALE_AFTER: Duration = Duration::from_ms(30_000);

/// Default time between SIGTERM and SIGKILL, as in Kubernetes.
pub const DEFAULT_GRACE: Duration = Duration::from_s(30);

/// `N` timers, each set or not. The caller gives each number from 0 to `N - 1` a purpose; a larger number has no timer and sets nothing.
#[derive(Debug, Clone, Copy)]
pub struct Timers<const N: usize>([Option<Instant>; N]);

impl<const N: usize> Timers<N> {
    /// No timer is set.
    pub const NONE: Self = Self([None; N]);

    /// Sets a timer. Replaces its former time.
    pub fn set(&mut self, timer: usize, at: Instant) {
        if let Some(slot) = self.0.get_mut(timer) {
            *slot = Some(at);
        }
    }

    /// Sets a timer, unless it is already set to the same time or an earlier time.
    pub fn set_at_latest(&mut self, timer: usize, at: Instant) {
        if self.0.get(timer).copied().flatten().is_none_or(|now| at < now) {
            self.set(timer, at);
        }
    }

    /// Clears a timer.
    pub fn clear(&mut self, timer: usize) {
        if let Some(slot) = self.0.get_mut(timer) {
            *slot = None;
        }
    }

    /// Returns whether a timer is due at `now`. Clears a timer that is due.
    pub fn take_due(&mut self, timer: usize, now: Instant) -> bool {
        let is_due = self.0.get(timer).copied().flatten().is_some_and(|at| at <= now);
        if is_due {
            self.clear(timer);
        }
        is_due
    }

    /// The earliest time of all set timers; `None` if no timer is set.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Instant {
        Instant::from_ms(milliseconds)
    }

    #[test]
    fn sums_stop_at_the_largest_value_and_differences_at_zero() {
        assert_eq!(at(5).after(Duration::from_ms(7)), at(12));
        assert_eq!(at(u64::MAX).after(Duration::from_s(1)), at(u64::MAX));
        assert_eq!(Duration::from_s(u64::MAX).as_ms(), u64::MAX);
        assert_eq!((at(9).since(at(4)), at(4).since(at(9))), (Duration::from_ms(5), Duration::ZERO));
        let second = Duration::from_s(1);
        assert_eq!(second.left_after(Duration::from_ms(999)), Some(Duration::from_ms(1)));
        assert_eq!((second.left_after(second), second.left_after(Duration::from_s(2))), (None, None));
    }

    #[test]
    fn timers_are_due_once() {
        let mut timers = Timers::<2>::NONE;
        assert_eq!(timers.next_deadline(), None);
        timers.set(0, at(50));
        timers.set_at_latest(1, at(30));
        timers.set_at_latest(1, at(40));
        assert_eq!(timers.next_deadline(), Some(at(30)));
        assert_eq!((timers.take_due(1, at(29)), timers.take_due(1, at(30)), timers.take_due(1, at(30))), (false, true, false));
        timers.set_at_latest(0, at(45));
        assert_eq!(timers.next_deadline(), Some(at(45)));
        timers.clear(0);
        // A number without a timer sets nothing.
        timers.set(2, at(1));
        assert_eq!((timers.next_deadline(), timers.take_due(2, at(9))), (None, false));
    }
}
