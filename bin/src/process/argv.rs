//! The command's arguments: our own, those of the argument file, and files in place of those that are too long for execve(2).
//!
//! Enters: the command line, `ARGO_CONTAINER_ARGS_FILE`. Leaves: an argument vector. Refuses: an argument file that is no JSON array of
//! strings, or has a NUL in one.

use core::ffi::CStr;
use std::os::fd::AsFd;

use emissary_core::buf::Writer;
use emissary_core::json;
use rustix::fs::{CWD, OFlags};

use crate::os::env;
use crate::os::fs::{self, Name};
use crate::os::spawn::Argv;
use crate::pod::folder::Folder;
use crate::pod::template;
use crate::report::error::Error;

/// Linux's `MAX_ARG_STRLEN` (execve(2)): bytes of one argument, its NUL included.
const ARGUMENT_BYTES: usize = 131_072;

/// What the argument file adds: NUL-terminated strings, one behind the other.
pub(crate) struct Added {
    strings: Vec<u8>,
}

/// Reads the argument file, where there is one, and moves long arguments to files.
///
/// # Errors
/// A file that cannot be read or is no JSON array of strings, by its path and place.
#[inline(never)]
pub(crate) fn read(folder: &Folder, given: usize) -> Result<Added, Error> {
    let Some(path) = env::var(c"ARGO_CONTAINER_ARGS_FILE").filter(|path| !path.is_empty()) else {
        return Ok(Added { strings: Vec::new() });
    };
    let document = template::read_file(path)?;
    let list = json::parse_strings(&document).map_err(|cause| {
        Error::because(&[b"argument file ", path.to_bytes()], &|out| {
            cause.describe(out);
            template::describe_place(&document, cause.offset, out);
        })
    })?;
    let mut strings = Vec::with_capacity(document.len());
    // The command's own name is not counted.
    for (index, string) in (given.saturating_sub(1)..).zip(list) {
        let start = strings.len();
        strings.resize(start + string.raw_len(), 0);
        let length = string.decode(&mut strings[start..]).map_or(0, <[u8]>::len);
        strings.truncate(start + length);
        if length >= ARGUMENT_BYTES {
            let spilled = spill(folder, index, &strings[start..])?;
            strings.truncate(start);
            strings.extend_from_slice(&spilled);
        }
        strings.push(0);
    }
    Ok(Added { strings })
}

impl Added {
    /// The whole vector.
    pub(crate) fn vector<'a>(&'a self, command: &[&'a CStr]) -> Argv<'a> {
        let mut argv = Argv::with_capacity(command.len());
        for arg in command {
            argv.push(arg);
        }
        let mut rest = &self.strings[..];
        while let Ok(arg) = CStr::from_bytes_until_nul(rest) {
            argv.push(arg);
            rest = &rest[arg.count_bytes() + 1..];
        }
        argv
    }
}

/// Writes a long argument to a file; gives the `@FILE` that stands for it.
#[inline(never)]
fn spill(folder: &Folder, index: usize, argument: &[u8]) -> Result<Vec<u8>, Error> {
    let mut room = [0; 40];
    let mut out = Writer::new(&mut room);
    out.text("argo_arg_").decimal(index as u64).text(".txt");
    let name = Name::new(out.written()).map_err(|errno| Error::new("name", b"an argument's file", errno))?;
    let name = name.as_c_str();
    let path = [b"/tmp/", name.to_bytes_with_nul()].concat();
    let in_tmp = CStr::from_bytes_with_nul(&path).unwrap_or_default();
    // A name in /tmp can be guessed: what stands there is removed, and no link is followed.
    let _ = rustix::fs::unlink(in_tmp);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let written = fs::open_at(CWD, in_tmp, flags, 0o644).and_then(|file| {
        fs::write_all(file.as_fd(), argument)?;
        fs::close(file)
    });
    if written.is_ok() {
        return Ok([b"@", in_tmp.to_bytes()].concat());
    }
    // A full disk may have left a part.
    let _ = rustix::fs::unlink(in_tmp);
    let draft = folder.draft(name, 0o644)?;
    let path = folder.path_of(name);
    fs::write_all(draft.file.as_fd(), argument).map_err(|errno| Error::new("write", &path, errno))?;
    draft.commit(name)?;
    Ok([b"@", &path[..]].concat())
}
