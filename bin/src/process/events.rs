//! One poll(2) waits for everything: signals, watched folders, and the command's pipes or terminal.
//!
//! Enters: descriptors and a deadline. Leaves: the end of the wait; each owner then looks at its own descriptor. Refuses nothing. There is no timer
//! tick: while nothing happens, emissary sleeps.

use std::os::fd::BorrowedFd;

use emissary_core::timers::Instant;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::os::signals::Signals;
use crate::os::{clock, poll};

/// Most descriptors in one poll: signals, folders, three outputs, and for a terminal its input, room for that input, and typed keys in the
/// background.
const POLL_FDS: usize = 8;

/// How often we look for signals if the system has no descriptor that tells of them.
const SIGNALS_EVERY_MS: u64 = 20;

/// The descriptors of one poll.
pub(crate) struct PollSet<'f> {
    fds: [PollFd<'f>; POLL_FDS],
    count: usize,
    /// A signal is one of the events.
    tells_signals: bool,
}

impl<'f> PollSet<'f> {
    /// Starts a set that holds the signal descriptor.
    pub(crate) fn new(signals: &'f Signals) -> Self {
        // Unused entries hold stdin. `wait` polls the first `count` entries only.
        let stdin = rustix::stdio::stdin();
        let mut set =
            Self { fds: core::array::from_fn(|_| PollFd::from_borrowed_fd(stdin, PollFlags::IN)), count: 0, tells_signals: false };
        if let Some(fd) = signals.as_fd() {
            set.push(fd, PollFlags::IN);
            set.tells_signals = true;
        }
        set
    }

    pub(crate) fn push(&mut self, fd: BorrowedFd<'f>, flags: PollFlags) {
        if let Some(slot) = self.fds.get_mut(self.count) {
            *slot = PollFd::from_borrowed_fd(fd, flags);
            self.count += 1;
        }
    }

    /// Waits until a descriptor is ready or the deadline has come.
    pub(crate) fn wait(mut self, now: Instant, until: Option<Instant>) {
        let mut left_ms = until.map(|until| until.since(now).as_ms());
        if !self.tells_signals {
            left_ms = Some(left_ms.map_or(SIGNALS_EVERY_MS, |left_ms| left_ms.min(SIGNALS_EVERY_MS)));
        }
        let timeout = left_ms.map(|left_ms| Timespec {
            tv_sec: i64::try_from(left_ms / 1_000).unwrap_or(i64::MAX),
            tv_nsec: ((left_ms % 1_000) * 1_000_000) as _,
        });
        // EINTR cannot happen, because every signal is blocked. Any other error may last, so we pause 10 ms before the next round looks at every
        // descriptor.
        if poll::poll(&mut self.fds[..self.count], timeout.as_ref()).is_err() {
            clock::pause();
        }
    }
}
