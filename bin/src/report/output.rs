//! Writes to emissary's own stdout and stderr without blocking, wherever the kernel allows that.
//!
//! Enters: bytes. Leaves: the same bytes on the descriptor, as many as fit now. Refuses nothing; bytes that do not fit stay with the caller.
//!
//! Other processes share the open file description of stdout, so emissary must not set `O_NONBLOCK` on it. For a socket and a pipe, a flag makes one
//! write non-blocking (send(2), pwritev2(2)). A terminal, and a pipe whose kernel does not know that flag, is opened once more through
//! `/proc/self/fd`, which gives a description that no other process shares. If that is refused too, poll(2) tells whether there is room. If another
//! writer takes that room first, the write blocks.
//!
//! Text longer than `PIPE_BUF` is written in pieces that end with a line. So other writers to the same file do not tear a line (pipe(7)).

use core::ffi::CStr;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::timers::{Duration, Instant};
use emissary_core::{exit, lines};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::SendFlags;

use crate::os::{clock, fs, poll};

/// How long one of our own short texts waits for a reader.
const SOON: Duration = Duration::from_ms(100);

/// How we avoid a blocking write.
enum Method {
    /// A regular file. A write to it waits for no reader.
    File,
    /// A pipe whose kernel supports a non-blocking write (`RWF_NOWAIT`).
    Pipe,
    Socket,
    /// The same pipe or terminal, opened again as a description of our own.
    Own(OwnedFd),
    /// Any other file. We write after poll(2) has reported room.
    Polled,
}

/// One of our own outputs.
pub(crate) struct OwnOutput {
    shared: BorrowedFd<'static>,
    method: Method,
    /// Device and inode number of the file.
    file: (u64, u64),
    /// Bytes still to be written of a piece that was written in part.
    piece_left: usize,
}

impl OwnOutput {
    /// Prepares stdout, stderr, or stdin if that is our terminal.
    pub(crate) fn new(shared: BorrowedFd<'static>) -> Self {
        let stat = fs::fstat(shared).ok();
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

    /// Writes one piece at most, without blocking. Returns the number of bytes written; 0 if nothing fits now.
    ///
    /// # Errors
    /// The error of write(2).
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
            // Offset u64::MAX means the current position, as for write(2).
            Method::Pipe => match rustix::io::pwritev2(self.shared, &[IoSlice::new(piece)], u64::MAX, ReadWriteFlags::NOWAIT) {
                // Kernels before 6.4, and seccomp filters that do not know the call.
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

    /// Returns whether a piece was written in part. Our other stream to the same file must wait for its rest.
    pub(crate) const fn is_mid_piece(&self) -> bool {
        self.piece_left > 0
    }

    /// Drops the rest of a piece that was written in part.
    pub(crate) const fn abandon_piece(&mut self) {
        self.piece_left = 0;
    }

    /// Returns whether both outputs are the same file.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.file == other.file
    }

    /// Waits up to this time for room. Returns whether there is room.
    fn is_ready(&self, timeout: Duration) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::OUT)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: (timeout.as_ms() * 1_000_000) as _ };
        poll::poll(&mut fds, Some(&timeout)) != Ok(0)
    }

    /// Writes a whole short text. Gives up if a piece does not fit within [`SOON`]; returns whether everything was written.
    pub(crate) fn write_soon(&mut self, mut bytes: &[u8]) -> bool {
        let mut until = None;
        while !bytes.is_empty() {
            match self.write(bytes) {
                // Another writer may take the room before us again and again. One deadline covers all tries for a piece.
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

/// Prints a role's text on stdout. Returns the status to exit with: this one, or a failure if stdout does not take the text.
pub(crate) fn print(text: &[u8], status: u8) -> u8 {
    fs::write_all(rustix::stdio::stdout(), text).map_or(exit::FAILURE, |()| status)
}

/// Opens the file of a descriptor again, which gives a description of our own.
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
    /// The descriptor to poll for room.
    fn as_fd(&self) -> BorrowedFd<'_> {
        if let Method::Own(own) = &self.method { own.as_fd() } else { self.shared }
    }
}
