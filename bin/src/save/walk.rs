//! One walk through a folder and all below it, without recursion, for archiving and for removing.
//!
//! Enters: an open folder. Leaves: its entries, each folder before what is in it and once more after that, in the order of their names. Refuses: a folder
//! that cannot be listed, and one that another process moves while the walk is below it.
//!
//! The walk goes by descriptor and follows no link, so that a process which moves things meanwhile cannot lead it elsewhere. Few folders are open at once,
//! however deep the walk is: a container may have few descriptors. The way back to a folder that was closed goes through `..`, checked by device and inode.

use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat};
use rustix::io::Errno;

use crate::os::fs;

/// Folders that are open at once. Fewer are kept open where descriptors run out.
const OPEN_FOLDERS: usize = 4;

/// Bytes of directory entries that are read at once.
const LISTING_BYTES: usize = 32 * 1024;

/// What the walk has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A folder; its entries follow.
    Folder,
    /// The end of a folder's entries.
    FolderEnd,
    /// A regular file, opened.
    File,
    /// Anything else, or, in a walk that opens no files, anything that is no folder.
    Other,
    /// An entry that vanished or became something else after it was listed.
    Vanished,
}

/// Why a walk ended early.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// What could not be done, and the system's cause.
    System(&'static str, Errno),
    /// Another process moved the folder.
    Moved,
}

#[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// A folder on the way down: the names in it, sorted, and how far they are done.
struct Frame {
    /// `None` while the walk is deep below it.
    fd: Option<OwnedFd>,
    /// Device and inode, so that what `..` leads to is known to be the same.
    identity: (u64, u64),
    /// NUL-terminated names, one behind the other.
    names: Vec<u8>,
    /// Where each begins, in order of the names.
    order: Vec<u32>,
    next: usize,
    /// Length of the folder's own path.
    path_len: usize,
}

impl Frame {
    /// The name that was taken last.
    fn name(&self) -> &CStr {
        let start = self.next.checked_sub(1).and_then(|at| self.order.get(at)).map_or(0, |&start| start as usize);
        self.names.get(start..).and_then(|rest| CStr::from_bytes_until_nul(rest).ok()).unwrap_or_default()
    }
}

/// A walk under way.
pub(crate) struct Walk {
    frames: Vec<Frame>,
    /// The present entry's path; it begins with what the walk was given.
    path: Vec<u8>,
    opens_files: bool,
    /// The present entry, where it is a regular file that was opened.
    file: Option<OwnedFd>,
    stat: Stat,
    /// The root that is still to be entered.
    root: Option<OwnedFd>,
    listing: Vec<u8>,
}

impl Walk {
    /// A walk through `root`, whose entries have paths that begin with `path`. With `opens_files`, regular files are opened for reading.
    pub(crate) fn new(root: OwnedFd, stat: Stat, path: &[u8], opens_files: bool) -> Self {
        let listing = Vec::with_capacity(LISTING_BYTES);
        Self { frames: Vec::new(), path: path.to_vec(), opens_files, file: None, stat, root: Some(root), listing }
    }

    /// The present entry's path.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// What is known of the present entry.
    pub(crate) fn stat(&self) -> &Stat {
        &self.stat
    }

    /// The present entry, where it is a regular file that was opened.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The folder that holds the present entry, and the entry's name in it. `None` for the root, and for [`Event::Folder`].
    pub(crate) fn place(&self) -> Option<(BorrowedFd<'_>, &CStr)> {
        let frame = self.frames.last()?;
        Some((frame.fd.as_ref()?.as_fd(), frame.name()))
    }

    /// Goes on to the next entry; `None` at the end.
    ///
    /// # Errors
    /// [`Fault`]; the path is then that of the entry at fault.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, Fault> {
        self.file = None;
        if let Some(root) = self.root.take() {
            self.enter(root)?;
            return Ok(Some(Event::Folder));
        }
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        self.path.truncate(frame.path_len);
        if frame.next == frame.order.len() {
            let done = self.frames.pop().and_then(|done| done.fd);
            self.reopen(done)?;
            return Ok(Some(Event::FolderEnd));
        }
        frame.next += 1;
        self.path.push(b'/');
        self.path.extend_from_slice(frame.name().to_bytes());
        let Some((folder, name)) = self.place() else { return Err(Fault::System("return to", Errno::BADF)) };
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Some(Event::Vanished)),
            other => other.map_err(|errno| Fault::System("read", errno))?,
        };
        self.stat = stat;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_dir() {
            let Some(folder) = self.open(OFlags::DIRECTORY)? else { return Ok(Some(Event::Vanished)) };
            self.enter(folder)?;
            return Ok(Some(Event::Folder));
        }
        if kind.is_file() && self.opens_files {
            self.file = self.open(OFlags::empty())?;
            let is_file = FileType::from_raw_mode(self.stat.st_mode).is_file();
            return Ok(Some(if self.file.is_some() && is_file { Event::File } else { Event::Vanished }));
        }
        Ok(Some(Event::Other))
    }

    /// Opens the present entry; `None` where it is gone or has become something else. What was opened is what `stat` tells of then.
    fn open(&mut self, more: OFlags) -> Result<Option<OwnedFd>, Fault> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | more;
        loop {
            let Some((folder, name)) = self.place() else { return Err(Fault::System("return to", Errno::BADF)) };
            match fs::open_at(folder, name, flags, 0) {
                Err(Errno::NOENT | fs::LINK | Errno::NOTDIR) => return Ok(None),
                Err(Errno::MFILE | Errno::NFILE) if self.close_one() => {}
                Err(errno) => return Err(Fault::System("read", errno)),
                Ok(fd) => {
                    self.stat = rustix::fs::fstat(&fd).map_err(|errno| Fault::System("read", errno))?;
                    return Ok(Some(fd));
                }
            }
        }
    }

    /// Closes the folder that is needed last; says whether there was one.
    fn close_one(&mut self) -> bool {
        let above = self.frames.len().saturating_sub(1);
        let open = self.frames.iter_mut().take(above).find_map(|frame| frame.fd.take());
        open.is_some()
    }

    /// Reads a folder's names and goes below it.
    fn enter(&mut self, fd: OwnedFd) -> Result<(), Fault> {
        let (mut names, mut order) = (Vec::new(), Vec::new());
        let mut entries = RawDir::new(&fd, self.listing.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| Fault::System("list", errno))?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                order.push(u32::try_from(names.len()).map_err(|_| Fault::System("list", Errno::NOMEM))?);
                names.extend_from_slice(name.to_bytes_with_nul());
            }
        }
        let name_at = |at: &u32| CStr::from_bytes_until_nul(&names[*at as usize..]).unwrap_or_default().to_bytes();
        order.sort_unstable_by(|a, b| name_at(a).cmp(name_at(b)));
        let frame = Frame { fd: Some(fd), identity: identity(&self.stat), names, order, next: 0, path_len: self.path.len() };
        self.frames.push(frame);
        if let Some(far) = self.frames.len().checked_sub(OPEN_FOLDERS + 1) {
            self.frames[far].fd = None;
        }
        Ok(())
    }

    /// Opens the folder that the walk is back in, where it was closed, from one that lies in it.
    fn reopen(&mut self, below: Option<OwnedFd>) -> Result<(), Fault> {
        let Some(frame) = self.frames.last_mut().filter(|frame| frame.fd.is_none()) else { return Ok(()) };
        let failed = |errno| Fault::System("return from", errno);
        let below = below.ok_or(failed(Errno::BADF))?;
        let fd = fs::open_at(below.as_fd(), c"..", OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        if identity(&stat) != frame.identity {
            return Err(Fault::Moved);
        }
        frame.fd = Some(fd);
        Ok(())
    }
}
