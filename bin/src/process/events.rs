//! One poll over signals, watched folders, and the command's pipes or terminal (poll(2)). Nothing else wakes us.

use std::os::fd::BorrowedFd;

use emissary_core::timers::Instant;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::os::signals::Signals;

/// Descriptors to wait for: signals, folders, three outputs, and a terminal's input, room for it, and keys in the background.
const POLL_FDS: usize = 8;

/// What is waited for in one round.
pub(crate) struct PollSet<'f> {
    fds: [PollFd<'f>; POLL_FDS],
    count: usize,
}

impl<'f> PollSet<'f> {
    /// Waits for signals, and for what is added.
    pub(crate) fn new(signals: &'f Signals) -> Self {
        // What fills the array is cut off before it is polled.
        Self { fds: core::array::from_fn(|_| PollFd::new(signals, PollFlags::IN)), count: 1 }
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
        let timeout = until.map(|until| {
            let left_ms = until.since(now).as_ms();
            Timespec { tv_sec: i64::try_from(left_ms / 1_000).unwrap_or(i64::MAX), tv_nsec: ((left_ms % 1_000) * 1_000_000) as _ }
        });
        // EINTR cannot be: every signal is blocked. After any other error the next round shows what is ready, a moment later: it may last.
        if rustix::event::poll(&mut self.fds[..self.count], timeout.as_ref()).is_err() {
            let _ = rustix::event::poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
        }
    }
}
