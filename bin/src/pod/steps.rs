//! The files by which steps of one pod follow each other: one step makes a file at its end, the next one waits for it (docs/protocol.md, "Order between
//! steps"). Tekton's and Prow's entrypoints do the same.
//!
//! Enters: paths that the command line names. Leaves: whether the step may start, must go on waiting, or must not run; at the end, the step's own file.
//! Refuses: a marker that holds no exit code.

use core::ffi::CStr;
use std::ffi::CString;

use emissary_core::exit::{self, ExitCodeError};
use emissary_core::limits::EXIT_CODE_FILE_BYTES;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::watch::Watch;
use crate::os::fs;
use crate::report::error::Error;

/// Whether the files of other steps let this one start.
pub(crate) enum Standing {
    /// A file is still missing.
    Waiting,
    /// Every file exists.
    Ready,
    /// An earlier step failed, or a file cannot be read.
    Failed(Error),
}

/// Looks at the files of other steps. `with_content` asks for files that are not empty. `marker` is a file with the exit code of an earlier step.
pub(crate) fn look(files: &[&CStr], with_content: bool, marker: Option<&CStr>) -> Standing {
    let mut standing = Standing::Ready;
    for path in files {
        match fs::stat(path) {
            Ok(stat) if !with_content || stat.st_size > 0 => {}
            Ok(_) | Err(Errno::NOENT) => {
                if fs::stat(&failure_of(path)).is_ok() {
                    return Standing::Failed(Error::text(&[b"an earlier step failed: ", failure_of(path).to_bytes(), b" exists"]));
                }
                standing = Standing::Waiting;
            }
            Err(errno) => return Standing::Failed(Error::new("look at", path.to_bytes(), errno)),
        }
    }
    match marker.map(|path| (path, read_marker(path))) {
        None | Some((_, Ok(Some(0)))) => standing,
        Some((_, Ok(None))) => Standing::Waiting,
        Some((path, Ok(Some(code)))) => {
            let mut digits = [0; 3];
            Standing::Failed(Error::text(&[b"an earlier step failed: ", path.to_bytes(), b" holds ", exit::digits(code, &mut digits)]))
        }
        Some((_, Err(error))) => Standing::Failed(error),
    }
}

/// Reads the exit code in a marker; `None` if the marker is missing or still empty.
fn read_marker(path: &CStr) -> Result<Option<u8>, Error> {
    let mut room = [0; EXIT_CODE_FILE_BYTES];
    let bytes = match fs::open_regular(CWD, path, OFlags::empty()).and_then(|(file, _)| fs::read_some(&file, &mut room)) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(|errno| Error::new("read", path.to_bytes(), errno))?,
    };
    match exit::parse(bytes) {
        Ok(code) => Ok(Some(code)),
        Err(ExitCodeError::Empty) => Ok(None),
        Err(cause) => Err(Error::because(&[path.to_bytes()], &|out| cause.describe(out))),
    }
}

/// Watches the folder of a file. Returns the number of the watch; `None` if the folder does not exist yet or cannot be watched. The caller then looks from time to
/// time. With `growth`, a write to the file is a change, too.
pub(crate) fn watch(path: &CStr, growth: bool, watch: &mut Watch) -> Option<i32> {
    let bytes = path.to_bytes();
    let folder = match bytes.iter().rposition(|&byte| byte == b'/') {
        None => b".",
        Some(0) => &b"/"[..],
        Some(slash) => &bytes[..slash],
    };
    let folder = CString::new(folder).ok()?;
    fs::stat(&folder).ok()?;
    watch.add(&folder, growth)
}

/// Makes the file that lets the next step start, or the file that ends it: PATH or PATH.err. Both are empty, and any user may read them. An earlier file of the
/// other kind is removed, because it tells of an earlier run.
///
/// # Errors
/// The file cannot be made.
pub(crate) fn post(path: &CStr, has_succeeded: bool) -> Result<(), Error> {
    let failure = failure_of(path);
    let (made, removed) = if has_succeeded { (path, failure.as_c_str()) } else { (failure.as_c_str(), path) };
    let _ = rustix::fs::unlinkat(CWD, removed, AtFlags::empty());
    make_parents(made);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY;
    fs::open_at(CWD, made, flags, 0o666).and_then(fs::close).map_err(|errno| Error::new("make", made.to_bytes(), errno))
}

/// Removes both files of an earlier run.
pub(crate) fn clear(path: &CStr) {
    for file in [path, failure_of(path).as_c_str()] {
        let _ = rustix::fs::unlinkat(CWD, file, AtFlags::empty());
    }
}

/// Makes the folders above a path. What fails here fails again when the file is opened, and is reported there.
fn make_parents(path: &CStr) {
    let bytes = path.to_bytes();
    for (at, _) in bytes.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/') {
        if let Ok(folder) = CString::new(&bytes[..at]) {
            let _ = rustix::fs::mkdir(&folder, Mode::from_raw_mode(0o777));
        }
    }
}

/// Returns PATH.err.
fn failure_of(path: &CStr) -> CString {
    CString::new([path.to_bytes(), b".err"].concat()).unwrap_or_default()
}
