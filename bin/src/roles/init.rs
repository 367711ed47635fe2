//! The init role puts this binary and the template into the shared folder (docs/protocol.md, "Init").
//!
//! Enters: a template document from a file, stdin or `ARGO_TEMPLATE`. Leaves: the files `emissary` (or `argoexec`) and `template` in the shared
//! folder. Refuses: a document that is no template, and a shared folder that is missing or read-only.

use core::ffi::CStr;
use std::os::fd::AsFd;

use emissary_core::layout::{self, File};
use rustix::fs::{CWD, Mode, OFlags};

use super::request::{Common, Personality};
use crate::os::fs::{self, CopyError};
use crate::os::{env, signals};
use crate::pod::folder::Folder;
use crate::pod::shared::Shared;
use crate::pod::template::{self, Document};
use crate::report::error::Error;

/// Prepares the shared folder. Returns the status to exit with.
pub(crate) fn init(common: &Common<'_>, document: Option<&CStr>) -> u8 {
    signals::end_at_requests_as_first_process();
    rustix::process::umask(Mode::empty());
    match prepare(common, document) {
        Ok(()) => 0,
        Err(error) => common.console.fatal(&error),
    }
}

#[inline(never)]
fn prepare(common: &Common<'_>, document: Option<&CStr>) -> Result<(), Error> {
    // The checks come first, so that a refused document leaves no file behind.
    let document = match document {
        Some(path) if path == c"-" => {
            let bytes =
                fs::read_to_end(rustix::stdio::stdin(), template::DOCUMENT_BYTES).map_err(|errno| Error::new("read", b"stdin", errno))?;
            Document { bytes, source: b"stdin".to_vec() }
        }
        Some(path) => Document::from_file(path)?,
        None => template::from_env()?.ok_or_else(|| Error::text(&[b"no template: neither --template nor ARGO_TEMPLATE is given"]))?,
    };
    template::check(common.console, &document, &template::parse(&document)?)?;
    let shared = Shared::open(&common.place)?;
    let folder = shared.top()?;
    copy_self(&folder, layout::base_name(File::Binary { argoexec: common.personality == Personality::Argoexec }))?;
    folder.write(layout::base_name(File::Template), &document.bytes, 0o444)
}

#[inline(never)]
fn copy_self(folder: &Folder, name: &CStr) -> Result<(), Error> {
    let own = fs::open_at(CWD, c"/proc/self/exe", OFlags::RDONLY, 0)
        // Without /proc we use the path that the kernel passed to execve.
        .or_else(|errno| env::executable_path().ok_or(errno).and_then(|path| fs::open_at(CWD, path, OFlags::RDONLY, 0)))
        .map_err(|errno| Error::new("read", b"this executable", errno))?;
    let draft = folder.draft(name, 0o555)?;
    let size_bytes = fs::fstat(&own).map_or(u64::MAX, |stat| stat.st_size.unsigned_abs());
    let _is_cut = fs::copy(own.as_fd(), draft.file.as_fd(), size_bytes).map_err(|failed| match failed {
        CopyError::Read(errno) => Error::new("read", b"this executable", errno),
        CopyError::Write(errno) => Error::new("write", &folder.path_of(name), errno),
    })?;
    draft.commit(name)
}
