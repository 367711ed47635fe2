//! This container's own exit-code file and lock file (docs/protocol.md, "Main").
//!
//! Enters: an exit code. Leaves: the file `exitcode`, and the status to exit with. Refuses nothing: if the code cannot be written, an error is
//! printed.
//!
//! Before the command runs, `prepare` removes what an earlier run wrote, reserves disk space for the code, and takes a lock. The lock shows other
//! containers that this emissary runs.

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

/// The means to write the exit code at the end.
pub(crate) struct OwnExitCode<'a> {
    folder: &'a Folder,
    /// A file of three bytes exists. It keeps space for the code on a volume that may be full at the end.
    is_reserved: bool,
    /// Stays locked until the process ends, for whatever reason.
    lock: Option<OwnedFd>,
}

impl<'a> OwnExitCode<'a> {
    /// Takes the lock, removes files of an earlier run, and reserves space.
    ///
    /// On a file system without locks there is no lock. If no space is left, a warning is printed, and the code is written at the end if there is
    /// space by then.
    pub(crate) fn prepare(console: Console, folder: &'a Folder) -> Self {
        let lock = take_lock(folder).ok();
        remove_earlier(folder);
        let reserved = reserve(folder);
        if let Err(errno) = reserved {
            console.warn(&[&Error::new("reserve room for", &folder.path_of(layout::base_name(File::ExitCode)), errno).text]);
        }
        memory::set_exit_code_folder(folder.as_fd());
        Self { folder, is_reserved: reserved.is_ok(), lock }
    }

    /// Writes the exit code. Returns the status to exit with: the same code, or a failure if code 0 cannot be written.
    pub(crate) fn write(&mut self, console: Console, shared: &Shared<'_>, code: u8) -> u8 {
        let mut room = [0; 3];
        let digits = exit::digits(code, &mut room);
        let name = layout::base_name(File::ExitCode);
        if core::mem::take(&mut self.is_reserved) {
            if fill(self.folder, digits).is_ok() {
                self.remove_lock();
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
            Ok(()) => {
                self.remove_lock();
                code
            }
            Err(error) => {
                // No exit code is better than that of an earlier run.
                self.folder.remove(name);
                let status = console.fatal(&error);
                if code == 0 { status } else { code }
            }
        }
    }
}

impl OwnExitCode<'_> {
    /// Removes the lock file. The exit code shows now that this run ended by itself. If a person removes the exit code later, the volume looks unused again.
    fn remove_lock(&self) {
        if self.lock.is_some() {
            self.folder.remove(layout::base_name(File::Lock));
        }
    }
}

/// Makes the lock file. It gets its name only once it is locked, because other containers take a lock file without a lock for that of a killed
/// emissary.
fn take_lock(folder: &Folder) -> Result<OwnedFd, Errno> {
    let draft = fs::unique_name(0);
    let draft = draft.as_c_str();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = fs::open_at(folder.as_fd(), draft, flags, 0o666)?;
    let named = fs::lock(file.as_fd()).and_then(|()| fs::rename(folder.as_fd(), draft, layout::base_name(File::Lock)));
    if let Err(errno) = named {
        folder.remove(draft);
        // The lock file of an earlier run would say that we were killed.
        folder.remove(layout::base_name(File::Lock));
        return Err(errno);
    }
    Ok(file)
}

/// Removes files that belong to an earlier run: its exit code, its report, and a signal that was meant for it.
fn remove_earlier(folder: &Folder) {
    let stat = |file| fs::stat_at(folder.as_fd(), layout::base_name(file), AtFlags::SYMLINK_NOFOLLOW);
    if let Ok(code) = stat(File::ExitCode) {
        // A signal file newer than the exit code is meant for this run.
        if stat(File::Signal).is_ok_and(|signal| (signal.st_mtime, signal.st_mtime_nsec) <= (code.st_mtime, code.st_mtime_nsec)) {
            folder.remove(layout::base_name(File::Signal));
        }
        folder.remove(layout::base_name(File::ExitCode));
    }
    // A person may have removed the exit code alone. To replace the old record by a rename would also take longer: ext4 then writes the new one to the disk.
    folder.remove(layout::base_name(File::Report));
}

/// Writes three bytes and closes the file. A container may have few descriptors, and some file systems allocate the space only at the close.
fn reserve(folder: &Folder) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let open = || fs::open_at(folder.as_fd(), fs::RESERVED_EXIT_CODE, flags, 0o644);
    let file = match open() {
        // An emissary that was killed has left its file here.
        Err(Errno::EXIST) => {
            folder.remove(fs::RESERVED_EXIT_CODE);
            open()
        }
        other => other,
    }?;
    fs::write_all(file.as_fd(), b"   ").and(fs::close(file)).inspect_err(|_| folder.remove(fs::RESERVED_EXIT_CODE))
}

/// Writes the code over the three bytes, and renames the file.
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
