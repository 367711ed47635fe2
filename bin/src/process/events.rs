//! One poll over signals, watched folders, and the command's pipes or terminal (poll(2)). Nothing else wakes us.

use std::os::fd::BorrowedFd;

use emissary_core::timers::Instant;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::os::signals::Signals;
use crate::os::{clock, poll};

/// Descriptors to wait for: signals, folders, three outputs, and a terminal's input, room for it, and keys in the background.
const POLL_FDS: usize = 8;

/// How often signals are looked for where the system has no descriptor that tells of them.
const SIGNALS_EVERY_MS: u64 = 20;

/// What is waited for in one round.
pub(crate) struct PollSet<'f> {
    fds: [PollFd<'f>; POLL_FDS],
    count: usize,
    /// A signal is one of the events.
    tells_signals: bool,
}

impl<'f> PollSet<'f> {
    /// Waits for signals, and for what is added.
    pub(crate) fn new(signals: &'f Signals) -> Self {
        // What fills the array is cut off before it is polled.
        let stdin = rustix::stdio::stdin();
        let mut set =
            Self { fds: core::array::from_fn(|_| PollFd::from_borrowed_fd(stdin, PollFlags::IN)), count: 0, tells_signals: false };
        if let Some(fd) = signals.as_fd() {
            set.push(fd, PollFlags::IN);
            set.tells_signals = true;
        }
        set
    }

    /// Adds a descriptor.
    pub(crate) fn push(&mut self, fd: BorrowedFd<'f>, flags: PollFlags) {
        if let Some(slot) = self.fds.get_mut(self.count) {
            *slot = PollFd::from_borrowed_fd(fd, flags);
            self.count += 1;
        }
    }

    /// Waits until a descriptor is ready or a time has come.
    pub(crate) fn wait(mut self, now: Instant, until: Option<Instant>) {
        let mut left_ms = until.map(|until| until.since(now).as_ms());
        if !self.tells_signals {
            left_ms = Some(left_ms.map_or(SIGNALS_EVERY_MS, |left_ms| left_ms.min(SIGNALS_EVERY_MS)));
        }
        let timeout = left_ms.map(|left_ms| Timespec {
            tv_sec: i64::try_from(left_ms / 1_000).unwrap_or(i64::MAX),
            tv_nsec: ((left_ms % 1_000) * 1_000_000) as _,
        });
        // EINTR cannot be: every signal is blocked. After any other error the next round shows what is ready, a moment later: it may last.
        if poll::poll(&mut self.fds[..self.count], timeout.as_ref()).is_err() {
            clock::pause();
        }
    }
}
