//! A container's folder on the shared volume (docs/protocol.md, "Files").
//!
//! Enters: names and contents of files. Leaves: small files that appear complete or not at all, logs, the contents of small files. Refuses: a
//! symbolic link, and any file to read that is no regular file, because other containers write to the same folder.

use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::layout::{self, File};
use emissary_core::signal_file::Version;
use rustix::fs::{AtFlags, Mode, OFlags, RawMode};
use rustix::io::Errno;

use crate::os::fs::{self, Name};
use crate::report::error::Error;

/// State of a container's lock file, which shows whether its emissary runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockState {
    /// There is no lock file: the emissary has not started, or its file system has no locks.
    Absent,
    /// The emissary runs.
    Held,
    /// The emissary has ended, for whatever reason.
    Free,
}

/// Result of taking a small file away.
pub(crate) enum Taken<'b> {
    /// There was no such file.
    Absent,
    /// The file is gone. Holds the start of its contents.
    Away(&'b [u8]),
    /// The file could not be taken away, and stays. Holds the start of its contents if it can be read, its version, and the error.
    Stays(Option<&'b [u8]>, Version, Error),
}

/// An open folder, and its path for messages.
pub(crate) struct Folder {
    pub(super) fd: OwnedFd,
    pub(super) path: Vec<u8>,
}

impl Folder {
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Returns the folder's own path, for a message.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns whether both are the same folder.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let identity = |folder: &Self| fs::fstat(&folder.fd).map(|stat| (stat.st_dev, stat.st_ino));
        identity(self) == identity(other)
    }

    /// Replaces this folder's descriptor by that of another folder with the same path, which was made after this one was removed. Returns whether
    /// that worked.
    pub(crate) fn replace_with(&self, other: Self) -> bool {
        fs::replace(self.fd.as_fd(), other.fd).is_ok()
    }

    /// Returns the path of a file in this folder, for a message.
    pub(crate) fn path_of(&self, name: &CStr) -> Vec<u8> {
        [&self.path, &b"/"[..], name.to_bytes()].concat()
    }

    fn error(&self, operation: &str, name: &CStr, errno: Errno) -> Error {
        Error::new(operation, &self.path_of(name), errno)
    }

    /// Returns whether an entry has this name.
    pub(crate) fn has(&self, name: &CStr) -> bool {
        fs::stat_at(self.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Reads the start of a small file. Returns it with the milliseconds since the last write (negative for a time in the future); `None` if there is
    /// no such file.
    ///
    /// # Errors
    /// The file cannot be read, or it is no regular file.
    pub(crate) fn read<'b>(&self, name: &CStr, room: &'b mut [u8]) -> Result<Option<(&'b [u8], i64)>, Error> {
        match fs::open_regular(self.fd.as_fd(), name, OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("read", name, errno)),
            Ok((file, stat)) => {
                let bytes = fs::read_some(&file, room).map_err(|errno| self.error("read", name, errno))?;
                Ok(Some((bytes, fs::age_ms(&stat))))
            }
        }
    }

    /// Returns the milliseconds since a file was last written (negative for a time in the future), whether it is an empty regular file, and its
    /// version, which tells one write of one file from another; `None` if there is no such file.
    ///
    /// # Errors
    /// Any other error of stat(2).
    pub(crate) fn age_ms(&self, name: &CStr) -> Result<Option<(i64, bool, Version)>, Error> {
        match fs::stat_at(self.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("read", name, errno)),
            Ok(stat) => Ok(Some((fs::age_ms(&stat), fs::is_regular(&stat) && stat.st_size == 0, fs::version(&stat)))),
        }
    }

    /// Returns the size of a file in bytes; `None` if there is no such file.
    pub(crate) fn size(&self, name: &CStr) -> Option<u64> {
        fs::stat_at(self.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| stat.st_size.unsigned_abs())
    }

    /// Takes a small file away, and returns the start of its contents.
    ///
    /// The file is renamed before it is read, so that a file which replaces it meanwhile is not lost. If the rename is refused, as in a sticky folder
    /// of another user, the file is read where it is.
    ///
    /// # Errors
    /// The file cannot be read, or it is no regular file. It is removed even so, unless the error may pass ([`fs::is_passing`]).
    pub(crate) fn take<'b>(&self, name: &CStr, room: &'b mut [u8]) -> Result<Taken<'b>, Error> {
        let mut taken = fs::unique_name(0);
        let taken = loop {
            match fs::rename(self.as_fd(), name, taken.as_c_str()) {
                Err(Errno::NOENT) => return Ok(Taken::Absent),
                // A folder has the name that we chose.
                Err(Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => taken = fs::unique_name(1),
                Err(errno) if fs::is_passing(errno) => return Err(self.error("take away", name, errno)),
                Err(errno) => return self.read_in_place(name, room, self.error("take away", name, errno)),
                Ok(()) => break taken,
            }
        };
        let taken = taken.as_c_str();
        let result = fs::open_regular(self.fd.as_fd(), taken, OFlags::NOFOLLOW).and_then(|(file, _)| fs::read_some(&file, room));
        if let Err(errno) = result
            && fs::is_passing(errno)
        {
            // Put the file back, unless a newer file has that name already. The newer file counts.
            if fs::rename_if_free(self.fd.as_fd(), taken, name).is_err() {
                let _ = rustix::fs::unlinkat(&self.fd, taken, AtFlags::empty());
            }
            return Err(self.error("read", name, errno));
        }
        if rustix::fs::unlinkat(&self.fd, taken, AtFlags::empty()) == Err(Errno::ISDIR) {
            let _ = rustix::fs::unlinkat(&self.fd, taken, AtFlags::REMOVEDIR);
        }
        result.map(Taken::Away).map_err(|errno| self.error("read", name, errno))
    }

    #[cold]
    #[inline(never)]
    fn read_in_place<'b>(&self, name: &CStr, room: &'b mut [u8], error: Error) -> Result<Taken<'b>, Error> {
        let opened = fs::open_regular(self.fd.as_fd(), name, OFlags::NOFOLLOW);
        match opened.and_then(|(file, stat)| Ok((fs::read_some(&file, room)?, fs::version(&stat)))) {
            Ok((bytes, version)) => Ok(Taken::Stays(Some(bytes), version, error)),
            Err(_) => Ok(self.age_ms(name)?.map_or(Taken::Absent, |(_, _, version)| Taken::Stays(None, version, error))),
        }
    }

    /// Returns the state of the container's lock. Do not call it for our own container: closing the file would give up our own lock (fcntl(2)).
    pub(crate) fn lock_state(&self) -> LockState {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        match fs::open_at(self.as_fd(), layout::base_name(File::Lock), flags, 0) {
            Ok(file) if fs::is_locked(file.as_fd()) => LockState::Held,
            Ok(_) => LockState::Free,
            // A lock file that cannot be opened tells nothing.
            Err(_) => LockState::Absent,
        }
    }

    /// Removes a file, if it exists and that is allowed.
    pub(crate) fn remove(&self, name: &CStr) {
        let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Writes a small file under a temporary name, and renames it.
    ///
    /// # Errors
    /// The system's error. The old file, if any, is then unchanged.
    pub(crate) fn write(&self, name: &CStr, bytes: &[u8], mode: RawMode) -> Result<(), Error> {
        let draft = self.draft(name, mode)?;
        fs::write_all(draft.file.as_fd(), bytes).map_err(|errno| self.error("write", name, errno))?;
        draft.commit(name)
    }

    /// Makes a file that appears under `name` only when it is complete.
    ///
    /// # Errors
    /// The file cannot be made in this folder.
    pub(crate) fn draft(&self, name: &CStr, mode: RawMode) -> Result<Draft<'_>, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mut next = 0;
        loop {
            let own = fs::unique_name(next);
            match fs::open_at(self.as_fd(), own.as_c_str(), flags, mode) {
                Err(Errno::EXIST) => next += 1,
                Err(errno) => return Err(self.error("write", name, errno)),
                Ok(file) => {
                    // The umask may not be zero, for example in an init container of another program.
                    let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode(mode));
                    return Ok(Draft { name: DraftName { folder: self, name: own, is_gone: false }, file });
                }
            }
        }
    }

    /// Opens a log for appending, and makes it if it is missing.
    ///
    /// # Errors
    /// The system's error, or the file is no regular file.
    pub(crate) fn append(&self, name: &CStr) -> Result<OwnedFd, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        fs::open_at(self.as_fd(), name, flags, 0o666)
            .and_then(|file| if fs::is_regular(&fs::fstat(&file)?) { Ok(file) } else { Err(Errno::INVAL) })
            .map_err(|errno| self.error("open", name, errno))
    }

    /// Opens a log for reading; `None` if there is none yet.
    ///
    /// # Errors
    /// Any other error of the system, or the file is no regular file.
    pub(crate) fn open_log(&self, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
        match fs::open_regular(self.fd.as_fd(), name, OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(|(file, _)| Some(file)),
        }
    }
}

/// A file under a temporary name. It is removed unless [`Draft::commit`] gives it its own name.
pub(crate) struct Draft<'a> {
    name: DraftName<'a>,
    pub(crate) file: OwnedFd,
}

impl Draft<'_> {
    /// Closes the file with a check, and renames it. It replaces a file of that name.
    ///
    /// # Errors
    /// The error of close(2) or rename(2). A file of that name then stays as it was.
    pub(crate) fn commit(self, name: &CStr) -> Result<(), Error> {
        let Self { name: mut draft, file } = self;
        let folder = draft.folder;
        fs::close(file)
            .and_then(|()| fs::rename(folder.as_fd(), draft.name.as_c_str(), name))
            .map_err(|errno| folder.error("write", name, errno))?;
        draft.is_gone = true;
        Ok(())
    }
}

/// The temporary name. Dropping it removes the file, unless the file was renamed.
struct DraftName<'a> {
    folder: &'a Folder,
    name: Name,
    is_gone: bool,
}

impl Drop for DraftName<'_> {
    fn drop(&mut self) {
        if !self.is_gone {
            self.folder.remove(self.name.as_c_str());
        }
    }
}
