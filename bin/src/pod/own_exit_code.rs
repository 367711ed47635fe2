//! This container's own exit code: what an earlier run left is removed, its room is kept from the start, a lock shows that we run.

use std::os::fd::{AsFd, OwnedFd};

use emissary_core::exit;
use emissary_core::layout::{self, File};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::folder::Folder;
use super::shared::Shared;
use crate::os::{fs, memory};
use crate::report::console::Console;
use crate::report::error::Error;

/// What is kept for the exit code while the command runs.
pub(crate) struct OwnExitCode<'a> {
    folder: &'a Folder,
    /// There is a file of three bytes, so that a volume which is full at the end has room for the code.
    is_reserved: bool,
    /// Held locked until the process ends, however it ends.
    _lock: Option<OwnedFd>,
}

impl<'a> OwnExitCode<'a> {
    /// Takes the lock, removes what an earlier run left, reserves the room. Where a file system has no locks, there is none; where there is no room, that is
    /// said, and the code is written at the end if there is room by then.
    pub(crate) fn prepare(console: Console, folder: &'a Folder) -> Self {
        let lock = take_lock(folder).ok();
        remove_earlier(folder);
        let reserved = reserve(folder);
        if let Err(errno) = reserved {
            console.warn(&[&Error::new("reserve room for", &folder.path_of(layout::base_name(File::ExitCode)), errno).text]);
        }
        memory::leave_in(folder.as_fd());
        Self { folder, is_reserved: reserved.is_ok(), _lock: lock }
    }

    /// Writes the exit code; gives the status to exit with, which is the same unless it cannot be written.
    pub(crate) fn leave(&mut self, console: Console, shared: &Shared<'_>, code: u8) -> u8 {
        let mut room = [0; 3];
        let digits = exit::digits(code, &mut room);
        let name = layout::base_name(File::ExitCode);
        if core::mem::take(&mut self.is_reserved) {
            if fill(self.folder, digits).is_ok() {
                return code;
            }
            self.folder.remove(fs::RESERVED_EXIT_CODE);
        }
        let written = match self.folder.write(name, digits, 0o644) {
            // The folder was removed meanwhile.
            Err(error) if error.errno == Some(Errno::NOENT) => shared.own().and_then(|folder| folder.write(name, digits, 0o644)),
            other => other,
        };
        match written {
            Ok(()) => code,
            Err(error) => {
                // Better none than that of an earlier run.
                self.folder.remove(name);
                let status = console.fatal(&error);
                if code == 0 { status } else { code }
            }
        }
    }
}

/// Makes the lock file, which has its name only once it is locked: others take one that is there and not locked for that of an emissary that was killed.
fn take_lock(folder: &Folder) -> Result<OwnedFd, Errno> {
    let draft = fs::unique_name(0);
    let draft = draft.as_c_str();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = fs::open_at(folder.as_fd(), draft, flags, 0o666)?;
    let named = fs::lock(file.as_fd()).and_then(|()| fs::rename(folder.as_fd(), draft, layout::base_name(File::Lock)));
    if let Err(errno) = named {
        folder.remove(draft);
        // One of an earlier run says that we were killed.
        folder.remove(layout::base_name(File::Lock));
        return Err(errno);
    }
    Ok(file)
}

/// Removes what is only true of a run that has ended: its code, its report, a signal that was left for it.
fn remove_earlier(folder: &Folder) {
    let stat = |file| fs::stat_at(folder.as_fd(), layout::base_name(file), AtFlags::SYMLINK_NOFOLLOW);
    if let Ok(code) = stat(File::ExitCode) {
        // A signal that is newer than the code is for us.
        if stat(File::Signal).is_ok_and(|signal| (signal.st_mtime, signal.st_mtime_nsec) <= (code.st_mtime, code.st_mtime_nsec)) {
            folder.remove(layout::base_name(File::Signal));
        }
        folder.remove(layout::base_name(File::Report));
        folder.remove(layout::base_name(File::ExitCode));
    }
}

/// Writes the three bytes. The file is closed, since a container may have few descriptors, and since some file systems take their room only then.
fn reserve(folder: &Folder) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let open = || fs::open_at(folder.as_fd(), fs::RESERVED_EXIT_CODE, flags, 0o644);
    let file = match open() {
        // Of an emissary that was killed.
        Err(Errno::EXIST) => {
            folder.remove(fs::RESERVED_EXIT_CODE);
            open()
        }
        other => other,
    }?;
    fs::write_all(file.as_fd(), b"   ").and(fs::close(file)).inspect_err(|_| folder.remove(fs::RESERVED_EXIT_CODE))
}

/// Writes the code over the three bytes, and gives the file its name.
fn fill(folder: &Folder, digits: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::open_at(folder.as_fd(), fs::RESERVED_EXIT_CODE, flags, 0)?;
    if !fs::is_regular(&fs::fstat(&file)?) {
        return Err(Errno::INVAL);
    }
    let written = rustix::io::pwrite(&file, digits, 0)?;
    if written != digits.len() {
        return Err(Errno::IO);
    }
    if digits.len() < 3 {
        rustix::fs::ftruncate(&file, digits.len() as u64)?;
    }
    fs::close(file)?;
    fs::rename(folder.as_fd(), fs::RESERVED_EXIT_CODE, layout::base_name(File::ExitCode))
}
