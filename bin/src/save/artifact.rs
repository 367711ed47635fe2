//! Saves an artifact: a file or folder that a step hands on, as one archive on the shared volume (docs/protocol.md, "Artifacts").
//!
//! Enters: a path, and a folder for the archive. Leaves: a gzip-compressed tar (POSIX pax, RFC 1951, RFC 1952), which appears complete or not at all.
//! Refuses: anything but a file or a folder, and anything that cannot be read; the message has its path.
//!
//! Entries are sorted, so the same tree gives the same bytes. If the artifact's own path is a link, the link is followed. No other link is followed.

use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::buf::Writer;
use emissary_core::layout;
use emissary_core::progress::{self, Progress};
use emissary_core::tar::{self, Entry, Kind};
use rustix::fs::{CWD, FileType, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::Failure;
use super::compressor::{Compressor, To};
use super::walk::{Event, Fault, Walk};
use crate::os::clock;
use crate::os::fs;
use crate::pod::folder::Folder;
use crate::report::console::Console;
use crate::report::error::Error;
use crate::report::output::OwnOutput;

/// Archives `path` as `name` in `folder`.
///
/// # Errors
/// [`Failure::Missing`] if nothing exists at the path; otherwise the kernel's error, with the path. No partial archive is left.
#[inline(never)]
pub(crate) fn save(
    console: Console,
    compressor: &mut Compressor,
    path: &CStr,
    folder: &Folder,
    name: &CStr,
    level: u8,
) -> Result<(), Failure> {
    let bytes = path.to_bytes();
    let stat = match fs::stat(path) {
        // A link to nothing counts as missing.
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Failure::Missing),
        other => other.map_err(|errno| Error::new("read", bytes, errno))?,
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !kind.is_file() && !kind.is_dir() {
        return Err(Failure::Error(Error::text(&[b"cannot archive ", bytes, b": it is neither a file nor a folder"])));
    }
    // A path such as `.` has no name to archive under. The working directory's own name takes its place.
    let cwd = if layout::is_working_directory(bytes) { rustix::process::getcwd(Vec::new()).ok() } else { None };
    let base = layout::last_component(cwd.as_ref().map_or(bytes, |cwd| cwd.to_bytes()));
    if base.is_empty() {
        return Err(Failure::Error(Error::text(&[b"cannot archive ", bytes, b": it has no name"])));
    }
    let draft = folder.draft(name, 0o666)?;
    let target = folder.path_of(name);
    compressor.begin(level);
    let is_terminal = rustix::termios::isatty(rustix::stdio::stderr());
    // A folder's size is not known without a further walk.
    let total = kind.is_file().then_some(stat.st_size.unsigned_abs());
    let mut archive = Archive {
        console,
        sink: Sink {
            console,
            compressor,
            to: To { file: &draft.file, path: &target },
            progress: Progress::new(clock::now(), total, is_terminal),
            is_terminal,
            has_bar: false,
        },
        name: base.to_vec(),
        source: bytes.to_vec(),
        source_base: base.len(),
        header: vec![0; 4 * tar::BLOCK_BYTES],
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::open_at(CWD, path, flags, 0).map_err(|errno| Error::new("read", bytes, errno))?;
    // The path may lead to another file by now. The open file counts.
    let stat = fs::fstat(&file).map_err(|errno| Error::new("read", bytes, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => archive.folder(file, stat)?,
        FileType::RegularFile => archive.file(file.as_fd(), &stat)?,
        _ => return Err(Failure::Error(Error::text(&[b"cannot archive ", bytes, b": it is neither a file nor a folder"]))),
    }
    archive.sink.finish()?;
    drop(archive);
    draft.commit(name)?;
    Ok(())
}

/// Maximum bytes that are read from a file whose size is given as 0.
const MOST_WITHOUT_SIZE: usize = 64 << 20;

/// Takes tar bytes, writes gzip bytes to a file, and reports the progress from time to time.
struct Sink<'a> {
    console: Console,
    compressor: &'a mut Compressor,
    to: To<'a>,
    progress: Progress,
    is_terminal: bool,
    /// The progress bar is on the terminal's line.
    has_bar: bool,
}

impl Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.compressor.write(&self.to, bytes)
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), Error> {
        /// Bytes between two reads of the clock.
        const SLICE: u64 = 1 << 36;
        while count > 0 {
            let now = count.min(SLICE);
            self.compressor.zeros(&self.to, now)?;
            count -= now;
            self.report();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.write(&tar::TRAILER)?;
        self.compressor.finish(&self.to)
    }

    /// Reports the progress, if a report is due.
    fn report(&mut self) {
        let now = clock::now();
        if !self.progress.take_due(now) {
            return;
        }
        let (read, written) = (self.compressor.read_bytes, self.compressor.written_bytes);
        let mut room = [0; 512];
        let mut out = Writer::new(&mut room);
        if self.is_terminal {
            self.progress.bar(layout::last_component(self.to.path), now, read, written, &mut out);
            // A terminal that is stopped (^S) must not stop the archive.
            let _ = OwnOutput::new(rustix::stdio::stderr()).write_soon(out.written());
            self.has_bar = true;
        } else {
            self.progress.describe(now, read, written, &mut out);
            self.console.progress(&[self.to.path, b": ", out.written()]);
        }
    }

    fn take_bar_away(&mut self) {
        if core::mem::take(&mut self.has_bar) {
            let _ = OwnOutput::new(rustix::stdio::stderr()).write_soon(progress::CLEAR_BAR);
        }
    }
}

impl Drop for Sink<'_> {
    fn drop(&mut self) {
        self.take_bar_away();
    }
}

/// A tree that is being archived.
struct Archive<'a> {
    console: Console,
    sink: Sink<'a>,
    /// Name of the present entry in the archive. The name begins with the artifact's base name.
    name: Vec<u8>,
    /// The artifact's own path, for messages.
    source: Vec<u8>,
    /// Length of the part of `name` that stands for `source`.
    source_base: usize,
    /// Buffer for header blocks.
    header: Vec<u8>,
}

impl Archive<'_> {
    /// Returns the present entry's path, for a message.
    fn path(&self) -> Vec<u8> {
        [&self.source, &self.name[self.source_base..]].concat()
    }

    fn error(&self, operation: &str, errno: Errno) -> Error {
        Error::new(operation, &self.path(), errno)
    }

    fn warn(&self, what: &[u8]) {
        self.console.warn(&[&self.path(), what]);
    }

    fn header(&mut self, kind: Kind<'_>, stat: &Stat) -> Result<(), Error> {
        #[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
        let entry = Entry {
            name: &self.name,
            kind,
            mode: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid as u32,
            gid: stat.st_gid as u32,
            mtime_s: stat.st_mtime as i64,
        };
        loop {
            match entry.write_header(&mut self.header) {
                Ok(blocks) => return self.sink.write(blocks),
                Err(full) => self.header.resize(full.needed, 0),
            }
        }
    }

    /// Archives a folder and everything below it.
    fn folder(&mut self, root: OwnedFd, stat: Stat) -> Result<(), Error> {
        let mut walk = Walk::new(root, stat, &self.name, true);
        loop {
            let event = walk.next();
            self.name.clear();
            self.name.extend_from_slice(walk.path());
            match event {
                Err(Fault::System(operation, errno)) => return Err(self.error(operation, errno)),
                Err(Fault::Moved) => return Err(Error::text(&[b"cannot archive ", &self.path(), b": it was moved meanwhile"])),
                Ok(None) => return Ok(()),
                Ok(Some(Event::FolderEnd)) => {}
                Ok(Some(Event::Vanished)) => self.warn(b" vanished while it was archived"),
                Ok(Some(Event::Folder)) => self.header(Kind::Directory, walk.stat())?,
                Ok(Some(Event::File)) => {
                    if let Some(file) = walk.file() {
                        self.file(file, walk.stat())?;
                    }
                }
                Ok(Some(Event::Other)) => {
                    if let Some((parent, name)) = walk.place() {
                        self.other(parent, name, walk.stat())?;
                    }
                }
            }
        }
    }

    /// Archives an entry that is neither a folder nor a regular file.
    fn other(&mut self, parent: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Error> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => match rustix::fs::readlinkat(parent, name, Vec::new()) {
                Err(Errno::NOENT | Errno::INVAL) => {
                    self.warn(b" vanished while it was archived");
                    Ok(())
                }
                Err(errno) => Err(self.error("read", errno)),
                Ok(target) => self.header(Kind::Symlink { target: target.to_bytes() }, stat),
            },
            FileType::Fifo => self.header(Kind::Fifo, stat),
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                let device =
                    if kind == FileType::BlockDevice { Kind::BlockDevice { major, minor } } else { Kind::CharacterDevice { major, minor } };
                self.header(device, stat)
            }
            FileType::Socket => {
                self.warn(b" is a socket, which an archive cannot hold: skipped");
                Ok(())
            }
            _ => {
                self.warn(b" is of an unknown type: skipped");
                Ok(())
            }
        }
    }

    /// Archives a file whose size is given as 0. Some such files have contents (/proc, control groups, FUSE). The header comes first and holds the size, so
    /// the whole file is read before the header is written.
    #[inline(never)]
    fn file_of_no_size(&mut self, file: BorrowedFd<'_>, stat: &Stat) -> Result<(), Error> {
        let (mut bytes, mut room) = (Vec::new(), [0; 4_096]);
        loop {
            match rustix::io::read(file, &mut room) {
                Ok(0) => break,
                Ok(_) if bytes.len() >= MOST_WITHOUT_SIZE => {
                    self.warn(b" is longer than it says: cut at 64 MiB");
                    break;
                }
                Ok(read) => bytes.extend_from_slice(&room[..read]),
                Err(Errno::INTR) => {}
                // Some files of this kind can only be written to, so this is no failure.
                Err(errno) => {
                    let cause = self.error("read", errno);
                    self.warn(&[b" says that it is empty: ", &cause.text[..]].concat());
                    break;
                }
            }
        }
        self.header(Kind::Regular { size_bytes: bytes.len() as u64 }, stat)?;
        self.sink.write(&bytes)?;
        self.sink.zeros(tar::padding(bytes.len() as u64) as u64)
    }

    /// Archives a regular file: its header, exactly as many bytes as the header says, padding. Holes are not read.
    fn file(&mut self, file: BorrowedFd<'_>, stat: &Stat) -> Result<(), Error> {
        let size_bytes = stat.st_size.unsigned_abs();
        if size_bytes == 0 {
            return self.file_of_no_size(file, stat);
        }
        self.header(Kind::Regular { size_bytes }, stat)?;
        #[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
        let is_sparse = (stat.st_blocks as u64).saturating_mul(512) < size_bytes;
        let mut tells_holes = is_sparse;
        // The present offset, and the end of the present stretch of data.
        let (mut at, mut until) = (0, 0);
        while at < size_bytes {
            if at == until {
                let begin;
                let stretch = if tells_holes { data_behind(file, at, size_bytes).ok() } else { None };
                // Some file systems do not report holes.
                tells_holes = stretch.is_some();
                (begin, until) = stretch.unwrap_or((at, size_bytes));
                self.sink.zeros(begin - at)?;
                at = begin;
                continue;
            }
            self.sink.report();
            let room = self.sink.compressor.room(&self.sink.to)?;
            let now = usize::try_from(until - at).unwrap_or(usize::MAX).min(room.len());
            let read = match fs::read_at(file, &mut room[..now], at) {
                Err(Errno::INTR) => continue,
                other => other.map_err(|errno| self.error("read", errno))?,
            };
            if read == 0 {
                break;
            }
            self.sink.compressor.filled(read);
            at += read as u64;
        }
        let now_bytes = fs::fstat(file).map_or(size_bytes, |stat| stat.st_size.unsigned_abs());
        // If the file became shorter, the missing end looks like a hole.
        if at < size_bytes || is_sparse && now_bytes < size_bytes {
            self.warn(b" became shorter while it was archived: filled up with zeros");
            self.sink.zeros(size_bytes - at)?;
        } else if now_bytes > size_bytes {
            self.warn(b" became longer while it was archived: cut at its first size");
        }
        self.sink.zeros(tar::padding(size_bytes) as u64)
    }
}

/// Returns the next stretch of data in a file (SEEK_DATA and SEEK_HOLE of lseek(2)). If only a hole follows, both ends are `size_bytes`.
fn data_behind(file: BorrowedFd<'_>, at: u64, size_bytes: u64) -> Result<(u64, u64), Errno> {
    let begin = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        // Only a hole follows, or nothing.
        Err(Errno::NXIO) => return Ok((size_bytes, size_bytes)),
        other => other?.clamp(at, size_bytes),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(begin)).unwrap_or(size_bytes).clamp(begin, size_bytes);
    if end == begin && begin < size_bytes {
        // The file system reports data without a length, so its report cannot be used.
        return Err(Errno::INVAL);
    }
    Ok((begin, end))
}
