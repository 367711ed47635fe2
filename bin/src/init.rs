//! The init role: this binary and the template into the shared folder.

use core::ffi::CStr;
use std::os::fd::AsFd;

use emissary_core::layout::{self, File};
use rustix::fs::{CWD, Mode, OFlags};

use crate::args::{Common, Personality};
use crate::error::Error;
use crate::files::{self, CopyError, Folder, Shared};
use crate::run;
use crate::sys;

/// Prepares the shared folder; gives the status to exit with.
pub(crate) fn init(common: &Common<'_>, template: Option<&CStr>) -> u8 {
    rustix::process::umask(Mode::empty());
    match prepare(common, template) {
        Ok(()) => 0,
        Err(error) => common.console.fatal(&error),
    }
}

#[inline(never)]
fn prepare(common: &Common<'_>, template: Option<&CStr>) -> Result<(), Error> {
    // First what can be refused, so that nothing is left behind.
    let document = match template {
        Some(path) if path == c"-" => {
            files::read_to_end(rustix::stdio::stdin(), files::DOCUMENT_BYTES).map_err(|errno| Error::new("read", b"stdin", errno))?
        }
        Some(path) => files::read_file(path)?,
        None => files::template_from_env()?.ok_or_else(|| Error::text(&[b"no template: neither --template nor ARGO_TEMPLATE is given"]))?,
    };
    run::parse_template(&document)?;
    let shared = Shared::open(common)?;
    let folder = shared.top()?;
    copy_self(&folder, layout::base_name(File::Binary { argoexec: common.personality == Personality::Argoexec }))?;
    folder.write(layout::base_name(File::Template), &document, 0o444)
}

/// Copies this executable.
#[inline(never)]
fn copy_self(folder: &Folder, name: &CStr) -> Result<(), Error> {
    let own = files::open_at(CWD, c"/proc/self/exe", OFlags::RDONLY, 0)
        // Without /proc, the path that the kernel was given.
        .or_else(|errno| sys::executable_path().ok_or(errno).and_then(|path| files::open_at(CWD, path, OFlags::RDONLY, 0)))
        .map_err(|errno| Error::new("read", b"this executable", errno))?;
    let draft = folder.draft(name, 0o555)?;
    let size_bytes = rustix::fs::fstat(&own).map_or(u64::MAX, |stat| stat.st_size.unsigned_abs());
    files::copy(own.as_fd(), draft.file.as_fd(), size_bytes).map_err(|failed| match failed {
        CopyError::Read(errno) => Error::new("read", b"this executable", errno),
        CopyError::Write(errno) => Error::new("write", &folder.path_of(name), errno),
    })?;
    draft.commit(name)
}
