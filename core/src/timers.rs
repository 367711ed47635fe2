//! Time as the machines see it: points on a clock, lengths, every length that is fixed, and a table of timers.
//!
//! Enters: milliseconds of a clock that does not go back. Leaves: when to come back at the latest. Refuses nothing: sums stop at the largest value.

/// A point on a clock that does not go back, such as `CLOCK_MONOTONIC` (clock_gettime(2)). Its zero means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant(u64);

impl Instant {
    /// A point so many milliseconds after the clock's zero.
    #[must_use]
    pub const fn from_ms(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds after the clock's zero.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The point that is so much later.
    #[must_use]
    pub const fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// The time since `earlier`; none where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Duration(u64);

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// So many milliseconds.
    #[must_use]
    pub const fn from_ms(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// So many seconds.
    #[must_use]
    pub const fn from_s(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// Its milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// What is left of it after `passed`; `None` where that is nothing.
    #[must_use]
    pub const fn left_after(self, passed: Self) -> Option<Self> {
        match self.0.checked_sub(passed.0) {
            None | Some(0) => None,
            Some(left) => Some(Self(left)),
        }
    }
}

/// How long our own folder is not watched after the command's start. To close an inotify descriptor that watches something takes the kernel up to ten
/// milliseconds, because it waits for a grace period of its own. A command that ends within this time does not pay for that.
pub const WATCH_DELAY: Duration = Duration::from_ms(20);

/// Between two looks at folders that inotify does not watch.
pub const LOOK_EVERY: Duration = Duration::from_ms(100);

/// Until a file that could not be read is tried again.
pub const RETRY_DELAY: Duration = Duration::from_ms(100);

/// How long an exit code may be unreadable for a reason that may pass. After this time the reason is taken to stay.
pub const UNREADABLE_LIMIT: Duration = Duration::from_ms(5_000);

/// Without a write for this time, a file whose writer was not watched counts as complete.
pub const SETTLE_TIME: Duration = Duration::from_ms(100);

/// The same for a file whose writer has it open, as far as was seen: a writer's closing may go unseen, and nobody waits for it for ever.
pub const ABANDONED_WRITE_AFTER: Duration = Duration::from_ms(3_000);

/// How far a volume's clock may be ahead of ours: a file from that future has just been written.
pub const CLOCK_AHEAD: Duration = Duration::from_ms(1_000);

/// How long readers of our stdout and stderr have after the end of a command that was asked to end. Kubernetes kills everything 30 s after it has asked,
/// and the exit code has to be written before.
pub const ABANDON_READERS_AFTER: Duration = Duration::from_ms(5_000);

/// Minimum time that a container has after SIGKILL to save its outputs and write its exit code.
pub const MIN_WAIT_AFTER_KILL: Duration = Duration::from_ms(10_000);

/// The same where no emissary runs that could: what is there already has time to settle.
pub const MIN_WAIT_WITHOUT_EMISSARY: Duration = Duration::from_ms(200);

/// A readiness marker that is older comes from a supervisor that is dead. A living one rewrites it every 5 s.
pub const STALE_AFTER: Duration = Duration::from_ms(30_000);

/// Between a SIGTERM and the SIGKILL after it where nothing else is said: Kubernetes' default.
pub const DEFAULT_GRACE: Duration = Duration::from_s(30);

/// Timers that are set or not, one for each of `N` purposes, whose numbers are the caller's.
#[derive(Debug, Clone, Copy)]
pub struct Timers<const N: usize>([Option<Instant>; N]);

impl<const N: usize> Timers<N> {
    /// None is set.
    pub const NONE: Self = Self([None; N]);

    /// Sets a timer, whatever it was set to.
    pub fn set(&mut self, timer: usize, at: Instant) {
        if let Some(slot) = self.0.get_mut(timer) {
            *slot = Some(at);
        }
    }

    /// Sets a timer unless it is set to an earlier time.
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

    /// Whether a timer's time has come. Clears it then.
    pub fn take_due(&mut self, timer: usize, now: Instant) -> bool {
        let is_due = self.0.get(timer).copied().flatten().is_some_and(|at| at <= now);
        if is_due {
            self.clear(timer);
        }
        is_due
    }

    /// The earliest time that is set.
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
    fn sums_stop_at_the_ends() {
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
        // A number that is none sets nothing.
        timers.set(2, at(1));
        assert_eq!((timers.next_deadline(), timers.take_due(2, at(9))), (None, false));
    }
}
