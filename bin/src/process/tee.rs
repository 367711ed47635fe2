//! Copies the command's output to log files, and passes it on to emissary's own stdout and stderr.
//!
//! Enters: bytes from the command's pipes or terminal. Leaves: the same bytes, first in the log files, then on stdout and stderr. Refuses nothing: if
//! a log file or a reader fails, the command goes on.
//!
//! If the reader of emissary's stdout is slow, emissary stops reading the command's pipe, and the full pipe holds the command back (pipe(7)). The
//! event loop never waits for that reader (see `report::output`). Log files never wait for it either.
//!
//! A read ends where a write of the command ended, unless the pipe holds more than one read takes. In that case an incomplete last line stays in the
//! buffer until its rest is read. So a line that the command writes in one piece stays in one piece (see `lines` in core).

use core::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use emissary_core::layout::{self, File};
use emissary_core::lines;
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::events::PollSet;
use crate::os::fs;
use crate::pod::folder::Folder;
use crate::report::console::Console;
use crate::report::error::Error;
use crate::report::output::OwnOutput;

/// Size of one read: the default capacity of a pipe (pipe(7)).
const BUFFER_BYTES: usize = 65_536;

/// Most bytes to read from a terminal after the command's end. The kernel holds less, so only a background process that keeps writing reaches this
/// limit.
const TERMINAL_BYTES: usize = 1 << 20;

/// A log file that receives a copy of the output.
struct Copy {
    name: &'static CStr,
    file: Option<OwnedFd>,
    /// `file` was closed after an attempt. The next attempt opens it again.
    is_between_attempts: bool,
}

/// One output of the command: its source, its target, and the bytes between them.
struct Stream {
    source: Option<OwnedFd>,
    /// The source is our end of the command's terminal.
    is_terminal: bool,
    /// The kernel cannot tell how many bytes are still to be read.
    is_unsized: bool,
    /// Bytes still to be read after the command's end; `None` while the command runs.
    left: Option<usize>,
    target: OwnOutput,
    target_name: &'static str,
    target_open: bool,
    /// Indexes of the copies that this stream goes to.
    copies: [Option<usize>; 2],
    buffer: Vec<u8>,
    /// Part of the buffer that our own stdout or stderr has not taken yet.
    pending: core::ops::Range<usize>,
    /// Bytes after `pending`: the start of a line whose rest is still to be read.
    held_bytes: usize,
    /// Bytes that an abandoned reader did not get; `None` if no reader was abandoned.
    lost_bytes: Option<u64>,
}

/// The set of log files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// No log file. Output of the command's terminal only passes through.
    Nothing,
    /// Flat layout: stdout and stderr.
    Flat,
    /// Pod layout: stdout, and both streams combined.
    Pod,
}

/// The source of one output.
pub(crate) enum Source {
    /// A pipe for this output alone.
    Pipe(OwnedFd),
    /// The command's terminal. It carries both outputs if both are on it.
    Terminal(OwnedFd),
}

/// The command's outputs and their log files.
pub(crate) struct Tee<'a> {
    console: Console,
    /// The folder of the log files; `None` if there are none.
    folder: Option<&'a Folder>,
    copies: [Copy; 3],
    streams: [Option<Stream>; 3],
    /// Buffers for later streams. They are allocated before the command runs, because nothing is allocated while it runs.
    buffers: [Vec<u8>; 3],
    copy_failed: bool,
    passed_on: bool,
}

const STDOUT: usize = 0;
const STDERR: usize = 1;
const COMBINED: usize = 2;

impl<'a> Tee<'a> {
    /// Opens the log files. If one cannot be opened, that is printed and counts as a failed copy; the command still runs.
    pub(crate) fn new(console: Console, folder: Option<&'a Folder>, kept: Kept) -> Self {
        let copy = |file| Copy { name: layout::base_name(file), file: None, is_between_attempts: false };
        let copies = [copy(File::Stdout), copy(File::Stderr), copy(File::Combined)];
        let buffers = [const { Vec::new() }; 3];
        let mut tee = Self { console, folder, copies, streams: [None, None, None], buffers, copy_failed: false, passed_on: false };
        let opened: &[usize] = match kept {
            Kept::Nothing => &[],
            Kept::Flat => &[STDOUT, STDERR],
            Kept::Pod => &[STDOUT, COMBINED],
        };
        if kept != Kept::Nothing {
            tee.buffers[STDOUT] = vec![0; BUFFER_BYTES];
            tee.buffers[STDERR] = vec![0; BUFFER_BYTES];
        }
        opened.iter().for_each(|&at| tee.open(at));
        tee
    }

    fn open(&mut self, at: usize) {
        let Some(folder) = self.folder else { return };
        match folder.append(self.copies[at].name) {
            Ok(file) => self.copies[at].file = Some(file),
            Err(error) => self.fail(&error),
        }
    }

    /// Returns the path of a log file, for a message.
    fn path(&self, at: usize) -> Vec<u8> {
        self.folder.map_or_else(Vec::new, |folder| folder.path_of(self.copies[at].name))
    }

    fn fail(&mut self, error: &Error) {
        self.copy_failed = true;
        self.console.error(error);
    }

    /// Returns and clears the flag that a log file failed.
    pub(crate) const fn take_copy_failed(&mut self) -> bool {
        core::mem::replace(&mut self.copy_failed, false)
    }

    /// Closes the log files after an attempt and checks each close(2). Some file systems (network, quota) report a failed write only there.
    #[inline(never)]
    pub(crate) fn close_copies(&mut self) {
        for at in 0..self.copies.len() {
            let Some(file) = self.copies[at].file.take() else { continue };
            self.copies[at].is_between_attempts = true;
            if let Err(errno) = fs::close(file) {
                let error = Error::new("write", &self.path(at), errno);
                self.fail(&error);
            }
        }
    }

    /// Returns and clears the flag that a reader of our stdout or stderr took bytes.
    pub(crate) const fn take_progress(&mut self) -> bool {
        core::mem::replace(&mut self.passed_on, false)
    }

    /// Attaches the outputs of a new attempt.
    #[inline(never)]
    pub(crate) fn attach(&mut self, sources: [Option<Source>; 3]) {
        for at in 0..self.copies.len() {
            if core::mem::take(&mut self.copies[at].is_between_attempts) {
                self.open(at);
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
                // The command's terminal, if neither stdout nor stderr is on it. Its output goes to our own terminal.
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
                target: OwnOutput::new(target),
                target_name,
                target_open: was_open,
                copies,
                buffer,
                pending: 0..0,
                held_bytes: 0,
                lost_bytes: None,
            });
        }
    }

    /// Adds the descriptors to poll: our own output if bytes are pending, else the source.
    pub(crate) fn poll_for<'f>(&'f self, set: &mut PollSet<'f>) {
        for stream in self.streams.iter().flatten() {
            if !stream.pending.is_empty() {
                set.push(stream.target.as_fd(), PollFlags::OUT);
            } else if let Some(source) = &stream.source {
                set.push(source.as_fd(), PollFlags::IN);
            }
        }
    }

    /// Reads and passes on the bytes that are ready. Returns whether any bytes moved.
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

    /// Reads once from the command, and writes the bytes to the log files.
    fn read(&mut self, stream: &mut Stream) -> bool {
        let Some(source) = &stream.source else { return false };
        let held = core::mem::take(&mut stream.held_bytes);
        stream.buffer.copy_within(stream.pending.end..stream.pending.end + held, 0);
        stream.pending = 0..0;
        let limit = stream.left.unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES - held);
        let read = match rustix::io::read(source, &mut stream.buffer[held..held + limit]) {
            Ok(read) => read,
            // The kernel returns EAGAIN only after it has made visible everything that was written to the terminal.
            Err(Errno::AGAIN) if stream.is_unsized && stream.left.is_some() => 0,
            Err(Errno::AGAIN | Errno::INTR) => {
                stream.held_bytes = held;
                return false;
            }
            // A terminal whose other end is closed returns EIO.
            Err(Errno::IO) if stream.is_terminal => 0,
            Err(errno) => {
                let error = Error::new("read the command's", stream.target_name.as_bytes(), errno);
                // The log file ends early here, so the error counts as a failed copy.
                if stream.copies.into_iter().flatten().any(|at| self.copies[at].file.is_some()) {
                    self.fail(&error);
                } else {
                    self.console.warn(&[&error.text]);
                }
                0
            }
        };
        if let Some(left) = &mut stream.left {
            *left = if read == 0 { 0 } else { *left - read };
        }
        if read == 0 || stream.left == Some(0) {
            stream.source = None;
        }
        let filled = held + read;
        let is_full = filled == BUFFER_BYTES && !stream.is_terminal;
        let more =
            stream.source.as_ref().filter(|_| is_full).is_some_and(|source| rustix::io::ioctl_fionread(source).is_ok_and(|more| more > 0));
        let taken = if more { lines::before_more(&stream.buffer[..filled]) } else { filled };
        stream.held_bytes = filled - taken;
        for at in stream.copies.into_iter().flatten() {
            let copy = &mut self.copies[at];
            if let Some(file) = &copy.file
                && let Err(errno) = fs::write_all(file.as_fd(), &stream.buffer[..taken])
            {
                copy.file = None;
                let error = Error::new("write", &self.path(at), errno);
                self.fail(&error);
            }
        }
        if stream.target_open {
            stream.pending = 0..taken;
        } else {
            stream.pending = taken..taken;
            stream.count_lost(taken);
        }
        true
    }

    /// Writes pending bytes to our own stdout or stderr, as many as it takes without blocking.
    fn pass_on(&mut self, stream: &mut Stream) -> bool {
        let mut moved = false;
        let is_mid_piece = |other: &Stream| other.target.is_mid_piece() && other.target.is_same(&stream.target);
        if self.streams.iter().flatten().any(is_mid_piece) {
            return false;
        }
        while !stream.pending.is_empty() {
            match stream.target.write(&stream.buffer[stream.pending.clone()]) {
                Ok(0) => return moved,
                Ok(written) => {
                    stream.pending.start += written;
                    moved = true;
                    self.passed_on = true;
                }
                Err(errno) => {
                    self.console.warn(&[&Error::new("write to our own", stream.target_name.as_bytes(), errno).text]);
                    stream.target_open = false;
                    stream.pending.start = stream.pending.end;
                    return true;
                }
            }
        }
        moved
    }

    /// Begins the drain after the command's end. We read what the pipes hold now and no more, even if other processes keep them open.
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
            // The kernel does not tell the size of a terminal's queue, and some pipes do not either. We then read until the end, or until a read
            // finds nothing.
            stream.is_unsized = left.is_none();
            let left = left.unwrap_or(TERMINAL_BYTES);
            stream.left = Some(left);
            if left == 0 && stream.held_bytes == 0 {
                stream.source = None;
            }
        }
    }

    /// Ends the command's terminal. Reads what the terminal holds now, and nothing after that.
    pub(crate) fn hang_up(&mut self) {
        let read = |stream: &&mut Stream| stream.is_terminal && stream.source.is_some();
        for stream in self.streams.iter_mut().flatten().filter(read) {
            (stream.is_unsized, stream.left) = (true, Some(TERMINAL_BYTES));
        }
        // This reads more than the kernel holds. The bound is needed because the other stream may go on for ever.
        for _ in 0..32 {
            if !self.pump() {
                break;
            }
        }
        for stream in self.streams.iter_mut().flatten().filter(|stream| stream.is_terminal) {
            stream.source = None;
        }
    }

    /// Returns whether every byte is read and passed on.
    pub(crate) fn is_drained(&self) -> bool {
        self.streams.iter().flatten().all(|stream| stream.source.is_none() && stream.pending.is_empty())
    }

    /// Abandons each reader of our stdout and stderr that has not taken everything. The log files still get all bytes.
    pub(crate) fn abandon(&mut self) {
        for stream in self.streams.iter_mut().flatten() {
            if stream.target_open && !(stream.source.is_none() && stream.pending.is_empty()) {
                stream.target_open = false;
                stream.target.abandon_piece();
                stream.lost_bytes = Some(0);
                stream.count_lost(stream.pending.len());
                stream.pending.start = stream.pending.end;
            }
        }
    }

    /// Prints how many bytes each abandoned reader did not get. Call it after everything is read.
    #[inline(never)]
    pub(crate) fn report_lost_bytes(&mut self) {
        for stream in self.streams.iter_mut().flatten() {
            let Some(lost_bytes) = stream.lost_bytes.take() else { continue };
            let lost = Error::count(b", which did not get ", lost_bytes, b" bytes: the end was asked for, and it took too long");
            self.console.warn(&[b"gave up on the reader of our own ", stream.target_name.as_bytes(), &lost.text]);
        }
    }
}

impl Stream {
    /// Counts bytes that are not passed on, if the reader was abandoned.
    fn count_lost(&mut self, bytes: usize) {
        if let Some(lost) = &mut self.lost_bytes {
            *lost += bytes as u64;
        }
    }
}

/// Makes a pipe for one output of the command: our non-blocking read end, and the command's write end.
///
/// # Errors
/// The error of pipe(2).
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let error = |errno| Error::new("make a", b"pipe", errno);
    let (source, sink) = fs::pipe().map_err(error)?;
    // Only our end is non-blocking. The command's end must block.
    fs::do_not_block(source.as_fd()).map_err(error)?;
    Ok((source, sink))
}
