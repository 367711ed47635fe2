//! A pseudo-terminal between our own and the command's, where stdin is a terminal.
//!
//! The command leads a session of its own on a terminal of the same size and settings, so that job control works in a shell. Ours is raw meanwhile:
//! every key goes through, and what ^C and ^Z mean is decided on the command's side. It gets its settings back at every end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};

use super::events::PollSet;
use crate::report::error::Error;

/// Bytes of input that are on their way at once.
const INPUT_BYTES: usize = 1024;

/// Our end of the command's terminal.
pub(crate) struct Terminal {
    master: OwnedFd,
    /// The command's end, open here too until it has ended: whenever nobody has it, the master says that it is over, which a command that opens
    /// `/dev/tty` later would not agree with.
    slave: Option<OwnedFd>,
    /// The settings that our own terminal had; `None` where it belongs to another process group, which is then not disturbed.
    outer: Option<Termios>,
    input: [u8; INPUT_BYTES],
    pending: core::ops::Range<usize>,
    stdin_open: bool,
}

impl Terminal {
    /// Makes one with the settings and the size of our own, and makes ours raw; the other end is the command's.
    ///
    /// # Errors
    /// What the system says, for example where `/dev/pts` is not mounted.
    #[inline(never)]
    pub(crate) fn open() -> Result<Self, Error> {
        let error = |errno| Error::new("make a", b"pseudo-terminal", errno);
        let stdin = rustix::stdio::stdin();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).map_err(error)?;
        rustix::pty::grantpt(&master).and_then(|()| rustix::pty::unlockpt(&master)).map_err(error)?;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(error)?;
        let settings = rustix::termios::tcgetattr(stdin).map_err(error)?;
        rustix::termios::tcsetattr(&slave, OptionalActions::Now, &settings).map_err(error)?;
        rustix::io::ioctl_fionbio(&master, true).map_err(error)?;
        // A terminal that is not our controlling one has no foreground group to ask for.
        let is_ours = rustix::termios::tcgetpgrp(stdin).map_or(true, |group| group == rustix::process::getpgrp());
        let slave = Some(slave);
        let terminal =
            Self { master, slave, outer: is_ours.then_some(settings), input: [0; INPUT_BYTES], pending: 0..0, stdin_open: is_ours };
        terminal.resize();
        terminal.make_raw();
        Ok(terminal)
    }

    /// The command's end.
    pub(crate) fn slave(&self) -> Option<BorrowedFd<'_>> {
        self.slave.as_ref().map(AsFd::as_fd)
    }

    /// The command has ended: its end is no longer held open.
    pub(crate) fn let_go(&mut self) {
        self.slave = None;
    }

    /// A second descriptor of our end, to read the command's output from.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn output(&self) -> Result<OwnedFd, Error> {
        rustix::io::fcntl_dupfd_cloexec(&self.master, 3).map_err(|errno| Error::new("make a", b"pseudo-terminal", errno))
    }

    /// Makes our own terminal raw; again after a stop, in which a shell may have changed it.
    pub(crate) fn make_raw(&self) {
        if let Some(outer) = &self.outer {
            let mut raw = outer.clone();
            raw.make_raw();
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw);
        }
    }

    /// Gives the command's terminal the size of ours; the kernel tells the command.
    pub(crate) fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    /// Adds what is waited for: input, or room for it.
    pub(crate) fn poll_for<'f>(&'f self, set: &mut PollSet<'f>) {
        if !self.pending.is_empty() {
            set.push(self.master.as_fd(), PollFlags::OUT);
        } else if self.stdin_open {
            set.push(rustix::stdio::stdin(), PollFlags::IN);
        }
    }

    /// Passes on what was typed.
    pub(crate) fn pump(&mut self) {
        if self.pending.is_empty() && self.stdin_open && is_readable(rustix::stdio::stdin()) {
            match rustix::io::read(rustix::stdio::stdin(), &mut self.input) {
                Ok(0) => self.stdin_open = false,
                Ok(read) => self.pending = 0..read,
                Err(Errno::INTR | Errno::AGAIN) => {}
                // It was hung up.
                Err(_) => self.stdin_open = false,
            }
        }
        while !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.input[self.pending.clone()]) {
                Ok(written) => self.pending.start += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pending = 0..0,
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(outer) = &self.outer {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, outer);
        }
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}
