//! What the command writes, into the captured copies first and then on to our own stdout and stderr.
//!
//! A reader of our stdout that is slow holds the command back, as it would without us, but never our event loop (see `outlet`). The copies never
//! wait for a reader.

use core::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use emissary_core::layout::{self, File};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::events::PollSet;
use crate::os::fs;
use crate::pod::folder::Folder;
use crate::report::console::Console;
use crate::report::error::Error;
use crate::report::output::Outlet;

/// Bytes that are read at once: what a pipe holds unless told otherwise (pipe(7)).
const BUFFER_BYTES: usize = 65_536;

/// More than the kernel holds between the two ends of a terminal: a background process that writes on and on is read no further.
const TERMINAL_BYTES: usize = 1 << 20;

/// A captured copy.
struct Copy {
    name: &'static CStr,
    file: Option<OwnedFd>,
    /// It was closed after an attempt, and is opened again for the next one.
    is_between_attempts: bool,
}

/// One of the command's outputs on its way.
struct Stream {
    source: Option<OwnedFd>,
    /// It is our end of the command's terminal.
    is_terminal: bool,
    /// How much is still to be read cannot be asked.
    is_unsized: bool,
    /// Bytes still to be read once the command is gone; `None` while it runs.
    left: Option<usize>,
    target: Outlet,
    target_name: &'static str,
    target_open: bool,
    /// Which copies it goes to.
    copies: [Option<usize>; 2],
    buffer: Vec<u8>,
    /// Filled part of the buffer that our own stdout or stderr has not taken yet.
    pending: core::ops::Range<usize>,
}

/// Which copies are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// None: output only passes through, from the command's terminal.
    Nothing,
    /// The flat layout's: stdout and stderr.
    Flat,
    /// The pod layout's: stdout and both combined.
    Pod,
}

/// What one of the command's outputs is read from.
pub(crate) enum Source {
    /// Its own pipe.
    Pipe(OwnedFd),
    /// The command's terminal, which carries both where both are on it.
    Terminal(OwnedFd),
}

/// Both outputs and their copies.
pub(crate) struct Tee<'a> {
    console: Console,
    folder: &'a Folder,
    copies: [Copy; 3],
    streams: [Option<Stream>; 3],
    /// Buffers for streams to come: none is made once a command runs.
    buffers: [Vec<u8>; 3],
    copy_failed: bool,
}

const STDOUT: usize = 0;
const STDERR: usize = 1;
const COMBINED: usize = 2;

impl<'a> Tee<'a> {
    /// Opens the copies. One that cannot be opened is said and counts as failed; the command runs all the same.
    pub(crate) fn new(console: Console, folder: &'a Folder, kept: Kept) -> Self {
        let copy = |file| Copy { name: layout::base_name(file), file: None, is_between_attempts: false };
        let copies = [copy(File::Stdout), copy(File::Stderr), copy(File::Combined)];
        let mut tee = Self { console, folder, copies, streams: [None, None, None], buffers: [const { Vec::new() }; 3], copy_failed: false };
        let opened: &[usize] = match kept {
            Kept::Nothing => &[],
            Kept::Flat => &[STDOUT, STDERR],
            Kept::Pod => &[STDOUT, COMBINED],
        };
        if kept != Kept::Nothing {
            tee.buffers[STDOUT] = vec![0; BUFFER_BYTES];
            tee.buffers[STDERR] = vec![0; BUFFER_BYTES];
        }
        for &at in opened {
            match folder.append(tee.copies[at].name) {
                Ok(file) => tee.copies[at].file = Some(file),
                Err(error) => tee.fail(&error),
            }
        }
        tee
    }

    fn fail(&mut self, error: &Error) {
        self.copy_failed = true;
        self.console.error(error);
    }

    /// Whether a copy has failed since the last call.
    pub(crate) const fn takes_failure(&mut self) -> bool {
        core::mem::replace(&mut self.copy_failed, false)
    }

    /// Closes the copies with a check after an attempt: network and quota file systems say only then that they could not keep what was written.
    #[inline(never)]
    pub(crate) fn close_copies(&mut self) {
        for at in 0..self.copies.len() {
            let Some(file) = self.copies[at].file.take() else { continue };
            self.copies[at].is_between_attempts = true;
            if let Err(errno) = fs::close(file) {
                let error = Error::new("write", &self.folder.path_of(self.copies[at].name), errno);
                self.fail(&error);
            }
        }
    }

    /// Takes what a new attempt's stdout and stderr are read from, where they are.
    #[inline(never)]
    pub(crate) fn attach(&mut self, sources: [Option<Source>; 3]) {
        for at in 0..self.copies.len() {
            if core::mem::take(&mut self.copies[at].is_between_attempts) {
                match self.folder.append(self.copies[at].name) {
                    Ok(file) => self.copies[at].file = Some(file),
                    Err(error) => self.fail(&error),
                }
            }
        }
        for (at, source) in sources.into_iter().enumerate() {
            let (source, is_terminal) = match source {
                Some(Source::Pipe(source)) => (source, false),
                Some(Source::Terminal(source)) => (source, true),
                None => continue,
            };
            let (target, target_name, copies) = match at {
                STDOUT => (rustix::stdio::stdout(), "stdout", [Some(STDOUT), Some(COMBINED)]),
                STDERR => (rustix::stdio::stderr(), "stderr", [Some(STDERR), Some(COMBINED)]),
                // What the command shows on its terminal although neither of the two is on it.
                _ => (rustix::stdio::stdin(), "terminal", [None, None]),
            };
            let was_open = self.streams[at].as_ref().is_none_or(|stream| stream.target_open);
            let mut buffer = self.streams[at].take().map_or_else(|| core::mem::take(&mut self.buffers[at]), |stream| stream.buffer);
            if buffer.is_empty() {
                buffer = vec![0; BUFFER_BYTES];
            }
            self.streams[at] = Some(Stream {
                source: Some(source),
                is_terminal,
                is_unsized: is_terminal,
                left: None,
                target: Outlet::new(target),
                target_name,
                target_open: was_open,
                copies,
                buffer,
                pending: 0..0,
            });
        }
    }

    /// Adds what is waited for: the command's output, or room in our own.
    pub(crate) fn poll_for<'f>(&'f self, set: &mut PollSet<'f>) {
        for stream in self.streams.iter().flatten() {
            if !stream.pending.is_empty() {
                set.push(stream.target.as_fd(), PollFlags::OUT);
            } else if let Some(source) = &stream.source {
                set.push(source.as_fd(), PollFlags::IN);
            }
        }
    }

    /// Moves what is there. Says whether it moved anything.
    #[inline(never)]
    pub(crate) fn pump(&mut self) -> bool {
        let mut moved = false;
        for at in 0..self.streams.len() {
            let Some(mut stream) = self.streams[at].take() else { continue };
            moved |= self.pass_on(&mut stream);
            if stream.pending.is_empty() {
                moved |= self.read(&mut stream);
                moved |= self.pass_on(&mut stream);
            }
            self.streams[at] = Some(stream);
        }
        moved
    }

    /// Reads once from the command, and writes what was read to the copies.
    fn read(&mut self, stream: &mut Stream) -> bool {
        let Some(source) = &stream.source else { return false };
        let limit = stream.left.unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let read = match rustix::io::read(source, &mut stream.buffer[..limit]) {
            Ok(read) => read,
            // The kernel has made everything visible that was written to a terminal before it says so.
            Err(Errno::AGAIN) if stream.is_unsized && stream.left.is_some() => 0,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            // The end of a terminal.
            Err(Errno::IO) if stream.is_terminal => 0,
            Err(errno) => {
                let error = Error::new("read the command's", stream.target_name.as_bytes(), errno);
                // What is copied now ends here.
                if stream.copies.into_iter().flatten().any(|at| self.copies[at].file.is_some()) {
                    self.fail(&error);
                } else {
                    self.console.warn(&[&error.text]);
                }
                0
            }
        };
        if read == 0 {
            stream.source = None;
            stream.left = stream.left.map(|_| 0);
            return true;
        }
        if let Some(left) = &mut stream.left {
            *left -= read;
            if *left == 0 {
                stream.source = None;
            }
        }
        for at in stream.copies.into_iter().flatten() {
            let copy = &mut self.copies[at];
            if let Some(file) = &copy.file
                && let Err(errno) = fs::write_all(file.as_fd(), &stream.buffer[..read])
            {
                copy.file = None;
                let error = Error::new("write", &self.folder.path_of(copy.name), errno);
                self.fail(&error);
            }
        }
        if stream.target_open {
            stream.pending = 0..read;
        }
        true
    }

    /// Writes to our own stdout or stderr what it takes without blocking.
    fn pass_on(&self, stream: &mut Stream) -> bool {
        let mut moved = false;
        while !stream.pending.is_empty() {
            match stream.target.write(&stream.buffer[stream.pending.clone()]) {
                Ok(0) => return moved,
                Ok(written) => {
                    stream.pending.start += written;
                    moved = true;
                }
                Err(errno) => {
                    self.console.warn(&[&Error::new("write to our own", stream.target_name.as_bytes(), errno).text]);
                    stream.target_open = false;
                    stream.pending = 0..0;
                    return true;
                }
            }
        }
        moved
    }

    /// The command is gone: what is in the pipes now is the last that is waited for, whoever else holds them open.
    #[inline(never)]
    pub(crate) fn begin_drain(&mut self) {
        for stream in self.streams.iter_mut().flatten() {
            let left = match &stream.source {
                Some(source) if !stream.is_terminal => {
                    rustix::io::ioctl_fionread(source).ok().map(|left| usize::try_from(left).unwrap_or(usize::MAX))
                }
                Some(_) => None,
                None => Some(0),
            };
            // How much is under way to a terminal cannot be asked, nor of a pipe that does not tell; the end, or a moment without anything, is waited for.
            stream.is_unsized = left.is_none();
            let left = left.unwrap_or(TERMINAL_BYTES);
            stream.left = Some(left);
            if left == 0 {
                stream.source = None;
            }
        }
    }

    /// The command's terminal goes away: what it holds now is the last that is read from it.
    pub(crate) fn hang_up(&mut self) {
        let read = |stream: &&mut Stream| stream.is_terminal && stream.source.is_some();
        for stream in self.streams.iter_mut().flatten().filter(read) {
            (stream.is_unsized, stream.left) = (true, Some(TERMINAL_BYTES));
        }
        // More than the kernel holds; the other stream may go on and on.
        for _ in 0..32 {
            if !self.pump() {
                break;
            }
        }
        for stream in self.streams.iter_mut().flatten().filter(|stream| stream.is_terminal) {
            stream.source = None;
        }
    }

    /// Whether everything is read and passed on.
    pub(crate) fn is_drained(&self) -> bool {
        self.streams.iter().flatten().all(|stream| stream.source.is_none() && stream.pending.is_empty())
    }

    /// Gives up on readers of our stdout and stderr that take nothing; the copies are still completed.
    pub(crate) fn abandon(&mut self) {
        for stream in self.streams.iter_mut().flatten() {
            if stream.target_open && !(stream.source.is_none() && stream.pending.is_empty()) {
                stream.target_open = false;
                stream.pending = 0..0;
                self.console.warn(&[
                    b"gave up on the reader of our own ",
                    stream.target_name.as_bytes(),
                    b": it took nothing and the end was asked for",
                ]);
            }
        }
    }
}

/// A pipe for one of the command's outputs: our reading end, which does not block, and its writing end.
///
/// # Errors
/// What pipe(2) says.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let error = |errno| Error::new("make a", b"pipe", errno);
    let (source, sink) = fs::pipe().map_err(error)?;
    // Only our end: the command's end has to block.
    fs::do_not_block(source.as_fd()).map_err(error)?;
    Ok((source, sink))
}
