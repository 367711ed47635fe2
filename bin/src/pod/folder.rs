//! A folder of the protocol: small files that appear complete or not at all, logs, and what is taken away.
//!
//! Other containers write to the same folder: no link is followed, and whatever is no regular file is not read.

use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::layout::{self, File};
use rustix::fs::{AtFlags, Mode, OFlags, RawMode};
use rustix::io::Errno;

use crate::os::fs::{self, Name};
use crate::report::error::Error;

/// What the lock of a container says of its emissary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockState {
    /// There is none: the emissary has not begun, or takes no lock.
    Absent,
    /// The emissary runs.
    Held,
    /// The emissary has ended, at whatever hands.
    Free,
}

/// A folder of the protocol, and its path for messages.
pub(crate) struct Folder {
    pub(super) fd: OwnedFd,
    pub(super) path: Vec<u8>,
}

impl Folder {
    /// Its descriptor.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether both are one folder.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let identity = |folder: &Self| fs::fstat(&folder.fd).map(|stat| (stat.st_dev, stat.st_ino));
        identity(self) == identity(other)
    }

    /// Becomes another folder of the same path, made after this one was removed; says whether it could.
    pub(crate) fn become_this(&self, other: Self) -> bool {
        fs::replace(self.fd.as_fd(), other.fd).is_ok()
    }

    /// The path of a file in it, for a message.
    pub(crate) fn path_of(&self, name: &CStr) -> Vec<u8> {
        [&self.path, &b"/"[..], name.to_bytes()].concat()
    }

    fn error(&self, operation: &str, name: &CStr, errno: Errno) -> Error {
        Error::new(operation, &self.path_of(name), errno)
    }

    /// Whether something has this name.
    pub(crate) fn has(&self, name: &CStr) -> bool {
        fs::stat_at(self.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The start of a small file, and milliseconds since it was written (negative for a time in the future); `None` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or that is no regular file.
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

    /// Milliseconds since a file was written (negative for a time in the future), and whether it is a regular one without contents; `None` where there is
    /// none.
    ///
    /// # Errors
    /// What the system says otherwise.
    pub(crate) fn age_ms(&self, name: &CStr) -> Result<Option<(i64, bool)>, Error> {
        match fs::stat_at(self.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("read", name, errno)),
            Ok(stat) => Ok(Some((fs::age_ms(&stat), fs::is_regular(&stat) && stat.st_size == 0))),
        }
    }

    /// Bytes of a file; `None` where there is none.
    pub(crate) fn size(&self, name: &CStr) -> Option<u64> {
        fs::stat_at(self.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| stat.st_size.unsigned_abs())
    }

    /// Takes a small file away and gives its start; `None` where there is none. It is renamed first, so that a file which replaces it
    /// meanwhile is not lost.
    ///
    /// # Errors
    /// A file that cannot be read or taken away, or that is no regular file. It is gone all the same, unless the cause may pass ([`fs::is_passing`]).
    pub(crate) fn take<'b>(&self, name: &CStr, room: &'b mut [u8]) -> Result<Option<&'b [u8]>, Error> {
        let mut taken = fs::unique_name(0);
        let taken = loop {
            match fs::rename(self.as_fd(), name, taken.as_c_str()) {
                Err(Errno::NOENT) => return Ok(None),
                // Somebody keeps a folder there.
                Err(Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => taken = fs::unique_name(1),
                Err(errno) => return Err(self.error("take away", name, errno)),
                Ok(()) => break taken,
            }
        };
        let taken = taken.as_c_str();
        let result = fs::open_regular(self.fd.as_fd(), taken, OFlags::NOFOLLOW).and_then(|(file, _)| fs::read_some(&file, room));
        if let Err(errno) = result
            && fs::is_passing(errno)
        {
            // Back to where it was, unless another is there by now, which is the one that counts.
            if fs::rename_if_free(self.fd.as_fd(), taken, name).is_err() {
                let _ = rustix::fs::unlinkat(&self.fd, taken, AtFlags::empty());
            }
            return Err(self.error("read", name, errno));
        }
        if rustix::fs::unlinkat(&self.fd, taken, AtFlags::empty()) == Err(Errno::ISDIR) {
            let _ = rustix::fs::unlinkat(&self.fd, taken, AtFlags::REMOVEDIR);
        }
        result.map(Some).map_err(|errno| self.error("read", name, errno))
    }

    /// The state of its container's lock. Not for one's own container: to close the file gives up a lock that this process has on it (fcntl(2)).
    pub(crate) fn lock_state(&self) -> LockState {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        match fs::open_at(self.as_fd(), layout::base_name(File::Lock), flags, 0) {
            Ok(file) if fs::is_locked(file.as_fd()) => LockState::Held,
            Ok(_) => LockState::Free,
            // One that cannot be opened says nothing.
            Err(_) => LockState::Absent,
        }
    }

    /// Removes a file, if it is there and that is allowed.
    pub(crate) fn remove(&self, name: &CStr) {
        let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Writes a small file beside its name and renames it there.
    ///
    /// # Errors
    /// What the system says; the file is then as it was.
    pub(crate) fn write(&self, name: &CStr, bytes: &[u8], mode: RawMode) -> Result<(), Error> {
        let draft = self.draft(name, mode)?;
        fs::write_all(draft.file.as_fd(), bytes).map_err(|errno| self.error("write", name, errno))?;
        draft.commit(name)
    }

    /// A file that appears under `name` when it is complete.
    ///
    /// # Errors
    /// What the system says of the folder.
    pub(crate) fn draft(&self, name: &CStr, mode: RawMode) -> Result<Draft<'_>, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mut next = 0;
        loop {
            let own = fs::unique_name(next);
            match fs::open_at(self.as_fd(), own.as_c_str(), flags, mode) {
                Err(Errno::EXIST) => next += 1,
                Err(errno) => return Err(self.error("write", name, errno)),
                Ok(file) => {
                    // An init container that is not ours may run under another umask.
                    let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode(mode));
                    return Ok(Draft { name: DraftName { folder: self, name: own, is_gone: false }, file });
                }
            }
        }
    }

    /// Opens a log for appending.
    ///
    /// # Errors
    /// What the system says, or that it is no regular file.
    pub(crate) fn append(&self, name: &CStr) -> Result<OwnedFd, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        fs::open_at(self.as_fd(), name, flags, 0o666)
            .and_then(|file| if fs::is_regular(&fs::fstat(&file)?) { Ok(file) } else { Err(Errno::INVAL) })
            .map_err(|errno| self.error("open", name, errno))
    }

    /// Opens a log for reading; `None` where there is none yet.
    ///
    /// # Errors
    /// What the system says otherwise, or that it is no regular file.
    pub(crate) fn open_log(&self, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
        match fs::open_regular(self.fd.as_fd(), name, OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(|(file, _)| Some(file)),
        }
    }
}

/// A file under a name of its own until it is complete; removed if it never is.
pub(crate) struct Draft<'a> {
    name: DraftName<'a>,
    /// To write to.
    pub(crate) file: OwnedFd,
}

impl Draft<'_> {
    /// Closes it with a check, and gives it its name, in place of what stood there.
    ///
    /// # Errors
    /// What close(2) or rename(2) says; what stood there stays.
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

/// A draft's name in its folder; removed from there unless the draft was given another.
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
