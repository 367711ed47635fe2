//! Builds the argument vector of the command that emissary runs.
//!
//! Enters: the words after emissary's own flags, and the file that `ARGO_CONTAINER_ARGS_FILE` names. Leaves: an argument vector for execve(2). A long
//! argument from the file becomes a file of its own, and `@FILE` takes its place. Refuses: an argument file that is not a JSON array of strings, or
//! that has a NUL in a string.

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

/// `MAX_ARG_STRLEN` of Linux (execve(2)): size of one argument, its NUL included.
const ARGUMENT_BYTES: usize = 131_072;

/// The arguments from the argument file: NUL-terminated strings, one after another.
pub(crate) struct FileArguments {
    strings: Vec<u8>,
}

/// Reads the argument file, if the environment names one. Moves long arguments to files.
///
/// # Errors
/// The file cannot be read, or it is not a JSON array of strings. The message names the path and the place in the file.
#[inline(never)]
pub(crate) fn read(folder: Option<&Folder>, given: usize, is_peer: bool) -> Result<FileArguments, Error> {
    // In the place of another init, the emissary around us has read the file.
    let Some(path) = env::var(c"ARGO_CONTAINER_ARGS_FILE").filter(|path| !path.is_empty() && !is_peer) else {
        return Ok(FileArguments { strings: Vec::new() });
    };
    let document = template::read_file(path)?;
    let list = json::parse_strings(&document).map_err(|cause| {
        Error::because(&[b"argument file ", path.to_bytes()], &|out| {
            cause.describe(out);
            template::describe_place(&document, cause.offset, out);
        })
    })?;
    let mut strings = Vec::with_capacity(document.len());
    // The index of an argument does not count the command's own name.
    for (index, string) in (given.saturating_sub(1)..).zip(list) {
        let start = strings.len();
        strings.resize(start + string.raw_len(), 0);
        let length = string.decode(&mut strings[start..]).map_or(0, <[u8]>::len);
        strings.truncate(start + length);
        if length >= ARGUMENT_BYTES {
            let reference = move_to_file(folder, index, &strings[start..])?;
            strings.truncate(start);
            strings.extend_from_slice(&reference);
        }
        strings.push(0);
    }
    Ok(FileArguments { strings })
}

impl FileArguments {
    /// Joins the command line's arguments and those of the argument file.
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

/// Writes a long argument to a file. Returns the `@FILE` that stands for it.
#[inline(never)]
fn move_to_file(folder: Option<&Folder>, index: usize, argument: &[u8]) -> Result<Vec<u8>, Error> {
    let mut room = [0; 40];
    let mut out = Writer::new(&mut room);
    out.text("argo_arg_").decimal(index as u64).text(".txt");
    let name = Name::new(out.written()).map_err(|errno| Error::new("name", b"an argument's file", errno))?;
    let name = name.as_c_str();
    let path = [b"/tmp/", name.to_bytes_with_nul()].concat();
    let in_tmp = CStr::from_bytes_with_nul(&path).unwrap_or_default();
    // Another process can guess a name in /tmp. So we remove any file of that name and follow no link.
    let _ = rustix::fs::unlink(in_tmp);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let written = fs::open_at(CWD, in_tmp, flags, 0o644).and_then(|file| {
        fs::write_all(file.as_fd(), argument)?;
        fs::close(file)
    });
    if written.is_ok() {
        return Ok([b"@", in_tmp.to_bytes()].concat());
    }
    // A full disk may have kept part of the file.
    let _ = rustix::fs::unlink(in_tmp);
    let folder = folder.ok_or_else(|| Error::text(&[b"cannot write an argument's file: there is no /tmp and no shared folder"]))?;
    let draft = folder.draft(name, 0o644)?;
    let path = folder.path_of(name);
    fs::write_all(draft.file.as_fd(), argument).map_err(|errno| Error::new("write", &path, errno))?;
    draft.commit(name)?;
    Ok([b"@", &path[..]].concat())
}
