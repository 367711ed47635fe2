//! Walks through a folder and everything below it, without recursion. Archiving and removing use it.
//!
//! Enters: an open folder. Leaves: its entries in the order of their names; each folder comes before its entries and once more after them. Refuses: a
//! folder that cannot be listed, and a folder that another process moves while the walk is below it.
//!
//! The walk uses descriptors and follows no link, so a process that moves entries meanwhile cannot lead it elsewhere. It keeps few folders open,
//! however deep it goes, because a container may have few descriptors. It returns to a closed folder through `..`, and checks its device and inode.

use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat};
use rustix::io::Errno;

use crate::os::fs;

/// Most folders open at once. The walk keeps fewer open if descriptors run out.
const OPEN_FOLDERS: usize = 4;

/// Bytes of directory entries per read.
const LISTING_BYTES: usize = 32 * 1024;

/// One step of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A folder. Its entries follow.
    Folder,
    /// The end of a folder's entries.
    FolderEnd,
    /// A regular file, which is open.
    File,
    /// Any other entry. If the walk opens no files, a regular file is one of these.
    Other,
    /// An entry that vanished or changed its type after it was listed.
    Vanished,
}

/// The reason why a walk ended early.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The operation that failed, and the system's error.
    System(&'static str, Errno),
    /// Another process moved the folder.
    Moved,
}

#[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// A folder on the path to the current entry: its sorted names, and the next one.
struct Frame {
    /// `None` while the walk is deep below the folder.
    fd: Option<OwnedFd>,
    /// Device and inode, to check the folder that `..` leads to.
    identity: (u64, u64),
    /// NUL-terminated names, one after another.
    names: Vec<u8>,
    /// Start of each name in `names`, in the order of the names.
    order: Vec<u32>,
    next: usize,
    /// Length of the folder's own path.
    path_len: usize,
}

impl Frame {
    /// Returns the name that was taken last.
    fn name(&self) -> &CStr {
        let start = self.next.checked_sub(1).and_then(|at| self.order.get(at)).map_or(0, |&start| start as usize);
        self.names.get(start..).and_then(|rest| CStr::from_bytes_until_nul(rest).ok()).unwrap_or_default()
    }
}

/// The state of a walk.
pub(crate) struct Walk {
    frames: Vec<Frame>,
    /// Path of the current entry. It begins with the path that the walk was given.
    path: Vec<u8>,
    opens_files: bool,
    /// The current entry, if it is a regular file that the walk has opened.
    file: Option<OwnedFd>,
    stat: Stat,
    /// The root, until the walk has entered it.
    root: Option<OwnedFd>,
    listing: Vec<u8>,
}

impl Walk {
    /// Begins a walk through `root`. Each entry's path begins with `path`. With `opens_files`, the walk opens regular files for reading.
    pub(crate) fn new(root: OwnedFd, stat: Stat, path: &[u8], opens_files: bool) -> Self {
        let listing = Vec::with_capacity(LISTING_BYTES);
        Self { frames: Vec::new(), path: path.to_vec(), opens_files, file: None, stat, root: Some(root), listing }
    }

    /// Returns the path of the current entry.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns the metadata of the current entry.
    pub(crate) fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Returns the current entry, if it is a regular file that the walk has opened.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Returns the folder that holds the current entry, and the entry's name in it. `None` for the root, and for [`Event::Folder`].
    pub(crate) fn place(&self) -> Option<(BorrowedFd<'_>, &CStr)> {
        let frame = self.frames.last()?;
        Some((frame.fd.as_ref()?.as_fd(), frame.name()))
    }

    /// Goes on to the next entry; `None` at the end.
    ///
    /// # Errors
    /// [`Fault`]. The current path is then that of the failed entry.
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
        let stat = match fs::stat_at(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
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

    /// Opens the current entry; `None` if it is gone or has changed its type. `stat` then describes the opened file.
    fn open(&mut self, more: OFlags) -> Result<Option<OwnedFd>, Fault> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | more;
        loop {
            let Some((folder, name)) = self.place() else { return Err(Fault::System("return to", Errno::BADF)) };
            match fs::open_at(folder, name, flags, 0) {
                Err(Errno::NOENT | fs::LINK | Errno::NOTDIR) => return Ok(None),
                Err(Errno::MFILE | Errno::NFILE) if self.close_one() => {}
                Err(errno) => return Err(Fault::System("read", errno)),
                Ok(fd) => {
                    self.stat = fs::fstat(&fd).map_err(|errno| Fault::System("read", errno))?;
                    return Ok(Some(fd));
                }
            }
        }
    }

    /// Closes the open folder that the walk needs last. Returns whether there was one.
    fn close_one(&mut self) -> bool {
        let above = self.frames.len().saturating_sub(1);
        let open = self.frames.iter_mut().take(above).find_map(|frame| frame.fd.take());
        open.is_some()
    }

    /// Reads the names in a folder, and enters it.
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

    /// Reopens the folder to which the walk returns, if it was closed. `below` is the folder that the walk leaves.
    fn reopen(&mut self, below: Option<OwnedFd>) -> Result<(), Fault> {
        let Some(frame) = self.frames.last_mut().filter(|frame| frame.fd.is_none()) else { return Ok(()) };
        let failed = |errno| Fault::System("return from", errno);
        let below = below.ok_or(failed(Errno::BADF))?;
        let fd = fs::open_at(below.as_fd(), c"..", OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(failed)?;
        let stat = fs::fstat(&fd).map_err(failed)?;
        if identity(&stat) != frame.identity {
            return Err(Fault::Moved);
        }
        frame.fd = Some(fd);
        Ok(())
    }
}
