//! An artifact: walk, tar, deflate, gzip, file.
//!
//! Enters: a path and a folder to put the archive in. Leaves: a gzip-compressed tar that appears complete or not at all. Refuses: what is
//! neither file nor folder, and what cannot be read, by its path.
//!
//! The walk goes from folder to folder by descriptor and never follows a link below the artifact's own path, so that what moves meanwhile
//! cannot lead it elsewhere. Entries are sorted: the same tree gives the same bytes.

use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::gzip::{self, Member};
use emissary_core::layout;
use emissary_core::tar::{self, Entry, Kind};
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use crate::console::{self, Console};
use crate::error::Error;
use crate::files::{self, CopyError, Folder};

/// zlib's level where the artifact asks for none.
pub(crate) const DEFAULT_LEVEL: u8 = 4;

/// Bytes that are read, compressed and written at once.
const CHUNK_BYTES: usize = 65_536;

/// Why an archive was not made.
pub(crate) enum Failure {
    /// There is nothing at the path.
    Missing,
    /// Anything else.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Archives `path` as `name` in `folder`.
///
/// # Errors
/// [`Failure::Missing`] where nothing is there; otherwise what the system said, by its path. No partial archive is left.
pub(crate) fn save(console: Console, path: &CStr, folder: &Folder, name: &CStr, level: u8) -> Result<(), Failure> {
    let bytes = path.to_bytes();
    let stat = match rustix::fs::stat(path) {
        // A link to nothing is as good as nothing.
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Failure::Missing),
        other => other.map_err(|errno| Error::new("read", bytes, errno))?,
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !kind.is_file() && !kind.is_dir() {
        return Err(Failure::Error(Error::text(&[b"cannot archive ", bytes, b": it is neither a file nor a folder"])));
    }
    let base = layout::last_component(bytes);
    let draft = folder.draft(name, 0o666)?;
    let target = folder.path_of(name);
    let mut walk = Walk {
        console,
        sink: Sink::new(&draft.file, &target, level),
        name: base.to_vec(),
        source: bytes.to_vec(),
        source_base: base.len(),
        header: vec![0; 4 * tar::BLOCK_BYTES],
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| Error::new("read", bytes, errno))?;
    // What was opened counts, should the name have changed hands in between.
    let stat = rustix::fs::fstat(&file).map_err(|errno| Error::new("read", bytes, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => walk.folder(file, &stat)?,
        FileType::RegularFile => walk.file(file.as_fd(), &stat)?,
        _ => return Err(Failure::Error(Error::text(&[b"cannot archive ", bytes, b": it is neither a file nor a folder"]))),
    }
    walk.sink.finish()?;
    draft.commit(name)?;
    Ok(())
}

/// Tar bytes in, gzip bytes to a file.
struct Sink<'a> {
    file: &'a OwnedFd,
    /// For messages.
    path: &'a [u8],
    member: Member,
    deflate: Box<CompressorOxide>,
    out: Vec<u8>,
    filled: usize,
    input: Vec<u8>,
}

impl<'a> Sink<'a> {
    fn new(file: &'a OwnedFd, path: &'a [u8], level: u8) -> Self {
        // Negative window bits: a bare deflate stream, framed by core.
        let flags = create_comp_flags_from_zip_params(i32::from(level), -15, 0);
        let mut out = vec![0; CHUNK_BYTES];
        out[..gzip::HEADER.len()].copy_from_slice(&gzip::HEADER);
        Self {
            file,
            path,
            member: Member::new(),
            deflate: Box::new(CompressorOxide::new(flags)),
            out,
            filled: gzip::HEADER.len(),
            input: vec![0; CHUNK_BYTES],
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        console::write_all(self.file.as_fd(), &self.out[..self.filled]).map_err(|errno| Error::new("write", self.path, errno))?;
        self.filled = 0;
        Ok(())
    }

    fn deflate(&mut self, mut bytes: &[u8], flush: TDEFLFlush) -> Result<(), Error> {
        loop {
            let (status, taken, made) = compress(&mut self.deflate, bytes, &mut self.out[self.filled..], flush);
            self.filled += made;
            bytes = &bytes[taken..];
            match status {
                TDEFLStatus::Done => return Ok(()),
                // It holds back nothing only when it has not filled the room it was given.
                TDEFLStatus::Okay if flush == TDEFLFlush::None && bytes.is_empty() && self.filled < self.out.len() => return Ok(()),
                TDEFLStatus::Okay => {}
                TDEFLStatus::BadParam | TDEFLStatus::PutBufFailed => {
                    return Err(Error::text(&[b"cannot write ", self.path, b": deflate failed"]));
                }
            }
            if self.filled == self.out.len() {
                self.flush()?;
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.member.update(bytes);
        self.deflate(bytes, TDEFLFlush::None)
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), Error> {
        while count > 0 {
            let now = usize::try_from(count).unwrap_or(usize::MAX).min(tar::TRAILER.len());
            self.write(&tar::TRAILER[..now])?;
            count -= now as u64;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.write(&tar::TRAILER)?;
        self.deflate(&[], TDEFLFlush::Finish)?;
        let trailer = self.member.trailer();
        if self.out.len() - self.filled < trailer.len() {
            self.flush()?;
        }
        self.out[self.filled..self.filled + trailer.len()].copy_from_slice(&trailer);
        self.filled += trailer.len();
        self.flush()
    }
}

/// Folders that are open at once, however deep the walk is.
const OPEN_FOLDERS: usize = 16;

#[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// A folder on the way down: the names in it, sorted, and how far they are done.
struct Frame {
    /// `None` while the walk is deep below it; opened again through `..` on the way back.
    fd: Option<OwnedFd>,
    /// Device and inode, so that what `..` leads to is known to be the same.
    identity: (u64, u64),
    /// NUL-terminated names, one behind the other.
    names: Vec<u8>,
    /// Where each begins, in order of the names.
    order: Vec<u32>,
    next: usize,
    /// Length of the entry name of the folder itself.
    name_len: usize,
}

struct Walk<'a> {
    console: Console,
    sink: Sink<'a>,
    /// Name of the present entry in the archive; it begins with the artifact's base name.
    name: Vec<u8>,
    /// The artifact's own path, for messages.
    source: Vec<u8>,
    /// How much of `name` stands for `source`.
    source_base: usize,
    /// Room for header blocks.
    header: Vec<u8>,
}

impl Walk<'_> {
    /// The path of the present entry, for a message.
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

    /// A folder and all below it.
    fn folder(&mut self, fd: OwnedFd, stat: &Stat) -> Result<(), Error> {
        let mut frames = vec![self.enter(fd, stat)?];
        while let Some(frame) = frames.last_mut() {
            self.name.truncate(frame.name_len);
            let Some(start) = frame.order.get(frame.next) else {
                let done = frames.pop();
                if let Some(parent) = frames.last_mut() {
                    self.reopen(parent, done.and_then(|done| done.fd))?;
                }
                continue;
            };
            let Some(folder) = frame.fd.as_ref() else { return Err(self.error("return to", Errno::BADF)) };
            frame.next += 1;
            let name = CStr::from_bytes_until_nul(&frame.names[*start as usize..]).unwrap_or_default();
            self.name.push(b'/');
            self.name.extend_from_slice(name.to_bytes());
            let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {
                    self.warn(b" vanished while it was archived");
                    continue;
                }
                other => other.map_err(|errno| self.error("read", errno))?,
            };
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                if let Some((fd, stat)) = self.open(folder, name, OFlags::DIRECTORY)? {
                    let frame = self.enter(fd, &stat)?;
                    frames.push(frame);
                    if let Some(far) = frames.len().checked_sub(OPEN_FOLDERS + 1) {
                        frames[far].fd = None;
                    }
                }
            } else {
                self.leaf(folder, name, &stat)?;
            }
        }
        Ok(())
    }

    /// Opens an entry without following a link; `None`, with a warning, where it is gone or has become something else.
    fn open(&self, parent: &OwnedFd, name: &CStr, more: OFlags) -> Result<Option<(OwnedFd, Stat)>, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | more;
        match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                self.warn(b" vanished while it was archived");
                Ok(None)
            }
            Err(errno) => Err(self.error("read", errno)),
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).map_err(|errno| self.error("read", errno))?;
                Ok(Some((fd, stat)))
            }
        }
    }

    /// Writes a folder's entry and reads its names.
    fn enter(&mut self, fd: OwnedFd, stat: &Stat) -> Result<Frame, Error> {
        self.header(Kind::Directory, stat)?;
        let mut names = Vec::new();
        let mut order = Vec::new();
        let mut room: Vec<u8> = Vec::with_capacity(32 * 1024);
        let mut entries = RawDir::new(&fd, room.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| self.error("list", errno))?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                order.push(u32::try_from(names.len()).map_err(|_| self.error("list", Errno::NOMEM))?);
                names.extend_from_slice(name.to_bytes_with_nul());
            }
        }
        drop(room);
        let name_at = |at: &u32| CStr::from_bytes_until_nul(&names[*at as usize..]).unwrap_or_default().to_bytes();
        order.sort_unstable_by(|a, b| name_at(a).cmp(name_at(b)));
        Ok(Frame { fd: Some(fd), identity: identity(stat), names, order, next: 0, name_len: self.name.len() })
    }

    /// Opens a folder again from one that lies in it.
    fn reopen(&self, folder: &mut Frame, below: Option<OwnedFd>) -> Result<(), Error> {
        if folder.fd.is_some() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(below.ok_or_else(|| self.error("return from", Errno::BADF))?, c"..", flags, Mode::empty())
            .map_err(|errno| self.error("return from", errno))?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.error("return from", errno))?;
        if identity(&stat) != folder.identity {
            return Err(Error::text(&[b"cannot archive ", &self.path(), b": it was moved meanwhile"]));
        }
        folder.fd = Some(fd);
        Ok(())
    }

    /// Anything but a folder.
    fn leaf(&mut self, parent: &OwnedFd, name: &CStr, stat: &Stat) -> Result<(), Error> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => match self.open(parent, name, OFlags::empty())? {
                Some((file, stat)) if FileType::from_raw_mode(stat.st_mode).is_file() => self.file(file.as_fd(), &stat),
                Some(_) => {
                    self.warn(b" vanished while it was archived");
                    Ok(())
                }
                None => Ok(()),
            },
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

    /// A regular file: its header, exactly as many bytes as the header says, padding.
    fn file(&mut self, file: BorrowedFd<'_>, stat: &Stat) -> Result<(), Error> {
        let size_bytes = stat.st_size.unsigned_abs();
        self.header(Kind::Regular { size_bytes }, stat)?;
        let mut left = size_bytes;
        while left > 0 {
            let mut input = core::mem::take(&mut self.sink.input);
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
            let read = match rustix::io::read(file, &mut input[..now]) {
                Err(Errno::INTR) => {
                    self.sink.input = input;
                    continue;
                }
                other => other.map_err(|errno| self.error("read", errno))?,
            };
            let written = self.sink.write(&input[..read]);
            self.sink.input = input;
            written?;
            left -= read as u64;
            if read == 0 {
                self.warn(b" became shorter while it was archived: filled up with zeros");
                self.sink.zeros(left)?;
                break;
            }
        }
        if left == 0 && has_more(file, size_bytes) {
            self.warn(b" became longer while it was archived: cut at its first size");
        }
        self.sink.zeros(tar::padding(size_bytes) as u64)
    }
}

/// Whether a file has grown past `size_bytes`.
fn has_more(file: BorrowedFd<'_>, size_bytes: u64) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_size.unsigned_abs() > size_bytes)
}

/// Copies an output parameter's file, byte for byte.
///
/// # Errors
/// [`Failure::Missing`] where nothing is there; otherwise what the system said. No partial copy is left.
pub(crate) fn copy(path: &CStr, folder: &Folder, name: &CStr) -> Result<(), Failure> {
    let bytes = path.to_bytes();
    let error = |errno| Failure::Error(Error::new("read", bytes, errno));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Failure::Missing),
        other => other.map_err(error)?,
    };
    match FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(error)?.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(error(Errno::ISDIR)),
        _ => return Err(Failure::Error(Error::text(&[b"cannot read ", bytes, b": it is no regular file"]))),
    }
    let draft = folder.draft(name, 0o666)?;
    files::copy(file.as_fd(), draft.file.as_fd()).map_err(|failed| match failed {
        CopyError::Read(errno) => error(errno),
        CopyError::Write(errno) => Failure::Error(Error::new("write", &folder.path_of(name), errno)),
    })?;
    draft.commit(name)?;
    Ok(())
}
