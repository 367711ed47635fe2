//! Saves an output parameter: a small file of a step, copied byte for byte (docs/protocol.md, "Main").
//!
//! Enters: the file's path, and a folder of the shared volume. Leaves: a copy, which appears complete or not at all. Refuses: anything but a regular file. A
//! file that grows without an end is cut, with a warning.

use core::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{CWD, FileType, OFlags};
use rustix::io::Errno;

use super::Failure;
use crate::os::fs::{self, CopyError};
use crate::pod::folder::Folder;
use crate::report::console::Console;
use crate::report::error::Error;

/// Copies an output parameter's file to `name` in `folder`.
///
/// # Errors
/// [`Failure::Missing`] if nothing exists at the path; otherwise the kernel's error, with the path. No partial copy is left.
#[inline(never)]
pub(crate) fn save(console: Console, path: &CStr, folder: &Folder, name: &CStr) -> Result<(), Failure> {
    let bytes = path.to_bytes();
    let error = |errno| Failure::Error(Error::new("read", bytes, errno));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match fs::open_at(CWD, path, flags, 0) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Failure::Missing),
        other => other.map_err(error)?,
    };
    let stat = fs::fstat(&file).map_err(error)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(error(Errno::ISDIR)),
        _ => return Err(Failure::Error(Error::text(&[b"cannot read ", bytes, b": it is no regular file"]))),
    }
    let draft = folder.draft(name, 0o666)?;
    let is_cut = fs::copy(file.as_fd(), draft.file.as_fd(), stat.st_size.unsigned_abs()).map_err(|failed| match failed {
        CopyError::Read(errno) => error(errno),
        CopyError::Write(errno) => Failure::Error(Error::new("write", &folder.path_of(name), errno)),
    })?;
    if is_cut {
        console.warn(&[bytes, b" became longer while it was copied: cut"]);
    }
    draft.commit(name)?;
    Ok(())
}
