//! A descriptor of somebody else's that we write to without ever being held up: our own stdout and stderr.
//!
//! `O_NONBLOCK` belongs to the open file description, which others share, so it is not set. A socket and a pipe are asked not to wait for one write
//! (send(2), pwritev2(2)). A pipe whose kernel does not know that, and a terminal, are opened once more, for a description of our own. Where that is refused
//! too, poll(2) says whether there is room, which another writer may take meanwhile.
//!
//! What is longer than `PIPE_BUF` is written in pieces that end with a line, so that others who write to the same file tear none.

use core::ffi::CStr;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::lines;
use emissary_core::timers::{Duration, Instant};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::SendFlags;

use crate::os::{clock, fs};

/// How long a short text of our own waits for a reader.
const SOON: Duration = Duration::from_ms(100);

/// How a write is kept from waiting.
enum Method {
    /// A regular file: a write to it does not wait for a reader.
    File,
    /// A pipe, as long as its kernel takes a write that does not wait.
    Pipe,
    Socket,
    /// A description of our own of the same pipe or terminal.
    Own(OwnedFd),
    /// It is written to when it has room.
    Polled,
}

/// Where output goes.
pub(crate) struct OwnOutput {
    shared: BorrowedFd<'static>,
    method: Method,
    /// Device and number of the file.
    file: (u64, u64),
    /// Bytes that are left of a piece whose first bytes are written.
    piece_left: usize,
}

impl OwnOutput {
    /// Our own stdin's terminal, stdout or stderr.
    pub(crate) fn new(shared: BorrowedFd<'static>) -> Self {
        let stat = rustix::fs::fstat(shared).ok();
        let method = match stat.as_ref().map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)) {
            FileType::RegularFile => Method::File,
            FileType::Fifo => Method::Pipe,
            FileType::Socket => Method::Socket,
            FileType::CharacterDevice => reopen(shared),
            _ => Method::Polled,
        };
        #[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
        let file = stat.map_or((0, 0), |stat| (stat.st_dev as u64, stat.st_ino as u64));
        Self { shared, method, file, piece_left: 0 }
    }

    /// Writes what fits now, without waiting; 0 where nothing does. One piece at most.
    ///
    /// # Errors
    /// What write(2) says.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let piece = match (&self.method, self.piece_left) {
            (Method::File, _) => bytes.len(),
            (_, 0) => lines::piece(bytes),
            (_, left) => left.min(bytes.len()),
        };
        match self.write_piece(&bytes[..piece]) {
            Ok(written) => {
                if written > 0 {
                    self.piece_left = piece - written;
                }
                Ok(written)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => {
                self.piece_left = 0;
                Err(errno)
            }
        }
    }

    fn write_piece(&mut self, piece: &[u8]) -> Result<usize, Errno> {
        match &self.method {
            Method::File => rustix::io::write(self.shared, piece),
            Method::Own(own) => rustix::io::write(own, piece),
            Method::Socket => rustix::net::send(self.shared, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            // u64::MAX: at the present position, as write(2).
            Method::Pipe => match rustix::io::pwritev2(self.shared, &[IoSlice::new(piece)], u64::MAX, ReadWriteFlags::NOWAIT) {
                // Kernels before 6.4, and filters that do not know the call.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::SPIPE) => {
                    self.method = reopen(self.shared);
                    Ok(0)
                }
                other => other,
            },
            Method::Polled if self.is_ready(Duration::ZERO) => rustix::io::write(self.shared, piece),
            Method::Polled => Ok(0),
        }
    }

    /// Whether a piece was begun that is not whole yet: whoever else of us writes to the same file waits for its end.
    pub(crate) const fn is_mid_piece(&self) -> bool {
        self.piece_left > 0
    }

    /// Nothing more is written of a piece that was begun.
    pub(crate) const fn abandon_piece(&mut self) {
        self.piece_left = 0;
    }

    /// Whether both are the same file.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.file == other.file
    }

    /// Whether something fits within this time.
    fn is_ready(&self, timeout: Duration) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::OUT)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: (timeout.as_ms() * 1_000_000) as _ };
        rustix::event::poll(&mut fds, Some(&timeout)) != Ok(0)
    }

    /// Writes all of a short text if each piece of it fits soon; says whether it did.
    pub(crate) fn write_soon(&mut self, mut bytes: &[u8]) -> bool {
        let mut until = None;
        while !bytes.is_empty() {
            match self.write(bytes) {
                // Another writer may be quicker again and again.
                Ok(0) => {
                    let now = clock::now();
                    let until: &mut Instant = until.get_or_insert(now.after(SOON));
                    if !until.since(now).left_after(Duration::ZERO).is_some_and(|left| self.is_ready(left)) {
                        return false;
                    }
                }
                Err(_) => return false,
                Ok(written) => {
                    bytes = &bytes[written..];
                    until = None;
                }
            }
        }
        true
    }
}

/// A description of our own of what a descriptor stands for.
#[inline(never)]
fn reopen(shared: BorrowedFd<'static>) -> Method {
    let path: &CStr = match std::os::fd::AsRawFd::as_raw_fd(&shared) {
        0 => c"/proc/self/fd/0",
        1 => c"/proc/self/fd/1",
        _ => c"/proc/self/fd/2",
    };
    fs::open_at(CWD, path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0).map_or(Method::Polled, Method::Own)
}

impl AsFd for OwnOutput {
    /// What to poll for room.
    fn as_fd(&self) -> BorrowedFd<'_> {
        if let Method::Own(own) = &self.method { own.as_fd() } else { self.shared }
    }
}
