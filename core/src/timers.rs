//! Time as the state machines of core see it: instants, durations, every fixed duration, and a table of timers. The durations follow docs/protocol.md, "Main"
//! and "Wait".
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

/// Time between the command's start and the watch of the container's own folder. The kernel takes up to ten milliseconds to close an inotify descriptor that
/// watches a folder, because the kernel waits for a grace period of its own. A command that ends within this time does not pay for that.
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

/// After a request to end, emissary gives up a reader of our stdout or stderr that takes nothing for this time.
pub const READER_IDLE: Duration = Duration::from_ms(5_000);

/// Minimum time that a container has after SIGKILL to save its outputs and write its exit code.
pub const MIN_WAIT_AFTER_KILL: Duration = Duration::from_ms(10_000);

/// Minimum wait after SIGKILL if no main container's emissary runs. Exit-code files that exist then get time to settle ([`SETTLE_TIME`]).
pub const MIN_WAIT_WITHOUT_EMISSARY: Duration = Duration::from_ms(200);

/// Age from which a readiness marker means that the supervisor is dead. A live supervisor rewrites the marker every 5 s.
pub const STALE_AFTER: Duration = Duration::from_ms(30_000);

/// Default time between SIGTERM and SIGKILL, as in Kubernetes.
pub const DEFAULT_GRACE: Duration = Duration::from_s(30);

/// How long emissary waits for the readers of our stdout and stderr after a request to end. Emissary waits as long as a reader takes something within
/// [`READER_IDLE`], and at most for three quarters of the grace period. The system kills every process at the end of the grace period, and emissary must write
/// the exit code before that. Without a request to end, emissary waits without a limit, as a blocking write does.
#[derive(Debug, Clone, Copy)]
pub struct ReaderTime {
    took_at: Instant,
    asked_at: Option<Instant>,
    until: Instant,
}

impl ReaderTime {
    /// No request to end has arrived.
    pub const NONE: Self = Self { took_at: Instant(0), asked_at: None, until: Instant(0) };

    /// Records that a reader took something, or that output for the readers begins to arrive.
    pub const fn took(&mut self, now: Instant) {
        self.took_at = now;
    }

    /// Records a request to end. Another request within the grace period changes nothing. If the earlier request is older than the grace period, it did not end
    /// the command (a command may reload at SIGHUP), and the new request counts.
    pub fn ask(&mut self, now: Instant, grace: Duration) {
        if self.asked_at.is_none_or(|asked_at| asked_at.after(grace) <= now) {
            self.asked_at = Some(now);
            self.until = now.after(Duration(grace.0.saturating_sub(grace.0 / 4)));
        }
    }

    /// Records that the last output begins. The readers have at least an eighth of the grace period for it, even if most of the grace period is over.
    pub fn last_began(&mut self, now: Instant, grace: Duration) {
        if self.asked_at.is_some() {
            self.ask(now, grace);
            self.until = self.until.max(now.after(Duration(grace.0 / 8)));
        }
    }

    /// The time at which the readers have taken nothing for too long.
    #[must_use]
    pub const fn idle_at(&self) -> Instant {
        self.took_at.after(READER_IDLE)
    }

    /// The time at which emissary gives up the readers; `None` before a request to end.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.asked_at.map(|_| self.until.min(self.idle_at()))
    }
}

/// A table of `N` timers, each set or not. The caller gives each number its purpose.
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
    fn readers_have_time_while_they_read_up_to_a_bound() {
        let grace = Duration::from_s(40);
        // The columns: the time of the last output, the times of the requests, the times at which a reader took something, the deadline.
        for (began, asked, took, want) in [
            (0, &[][..], &[9_000][..], None),
            (1_000, &[0], &[], Some(6_000)),
            (1_000, &[0], &[4_000], Some(9_000)),
            (1_000, &[0], &[4_000, 29_000], Some(30_000)),
            (1_000, &[0, 20_000], &[29_000], Some(30_000)),
            // The request is late, and the reader has taken nothing for long.
            (1_000, &[60_000], &[], Some(6_000)),
            (1_000, &[60_000], &[59_000], Some(64_000)),
            (1_000, &[60_000], &[89_000], Some(90_000)),
            // The command took its time to end.
            (28_000, &[0], &[29_000], Some(33_000)),
            (38_000, &[0], &[42_000], Some(43_000)),
            // The first request did not end the command.
            (50_000, &[0], &[79_000], Some(80_000)),
            (50_000, &[0, 45_000], &[74_000], Some(75_000)),
        ] {
            let mut reader = ReaderTime::NONE;
            for &at_ms in asked.iter().filter(|&&at_ms| at_ms < began) {
                reader.ask(at(at_ms), grace);
            }
            reader.took(at(began));
            reader.last_began(at(began), grace);
            took.iter().for_each(|&at_ms| reader.took(at(at_ms)));
            for &at_ms in asked.iter().filter(|&&at_ms| at_ms >= began) {
                reader.ask(at(at_ms), grace);
            }
            assert_eq!(reader.deadline(), want.map(at), "{began} {asked:?} {took:?}");
        }
        let mut reader = ReaderTime::NONE;
        reader.ask(at(u64::MAX), Duration::from_s(u64::MAX));
        reader.took(at(7));
        reader.last_began(at(7), Duration::ZERO);
        assert_eq!((reader.deadline(), reader.idle_at()), (Some(at(5_007)), at(5_007)));
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
        // The table has no timer of this number, so the call sets nothing.
        timers.set(2, at(1));
        assert_eq!((timers.next_deadline(), timers.take_due(2, at(9))), (None, false));
    }
}
