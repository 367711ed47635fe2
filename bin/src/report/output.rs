//! A descriptor of somebody else's that we write to without ever being held up: our own stdout and stderr.
//!
//! `O_NONBLOCK` belongs to the open file description, which others share, so it is not set. A pipe takes `PIPE_BUF` bytes once poll(2) calls it
//! writable. A terminal may take fewer and block for the rest: it is opened once more, for a description of our own.

use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, OFlags};
use rustix::io::Errno;

use crate::os::{fs, poll};

/// Bytes that a pipe takes without blocking once poll(2) calls it writable (pipe(7)).
const PIPE_BUF_BYTES: usize = 4_096;

/// Where output goes.
pub(crate) struct Outlet {
    shared: BorrowedFd<'static>,
    /// Our own description of the same terminal.
    own: Option<OwnedFd>,
    /// A regular file: a write to it does not wait for a reader.
    is_file: bool,
}

impl Outlet {
    /// Our own stdin's terminal, stdout or stderr.
    pub(crate) fn new(shared: BorrowedFd<'static>) -> Self {
        let kind = fs::fstat(shared).map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
        let path: &CStr = match std::os::fd::AsRawFd::as_raw_fd(&shared) {
            0 => c"/proc/self/fd/0",
            1 => c"/proc/self/fd/1",
            _ => c"/proc/self/fd/2",
        };
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let own = (kind == FileType::CharacterDevice).then(|| fs::open_at(CWD, path, flags, 0).ok()).flatten();
        Self { shared, own, is_file: kind.is_file() }
    }

    /// Writes what fits now, without blocking; 0 where nothing does.
    ///
    /// # Errors
    /// What write(2) says.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let bytes = if self.is_file || bytes.len() <= PIPE_BUF_BYTES { bytes } else { &bytes[..PIPE_BUF_BYTES] };
        if !self.is_file && !self.is_ready(0) {
            return Ok(0);
        }
        match rustix::io::write(self.as_fd(), bytes) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            other => other,
        }
    }

    /// Whether something fits within so many milliseconds.
    fn is_ready(&self, timeout_ms: u32) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::OUT)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: (timeout_ms * 1_000_000) as _ };
        poll::poll(&mut fds, Some(&timeout)) != Ok(0)
    }

    /// Writes all of a short text if it fits within 100 ms for each piece; says whether it did.
    pub(crate) fn write_soon(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) if self.is_ready(100) => {}
                Ok(0) | Err(_) => return false,
                Ok(written) => bytes = &bytes[written..],
            }
        }
        true
    }
}

impl AsFd for Outlet {
    /// What to poll for room.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_ref().map_or(self.shared, AsFd::as_fd)
    }
}
