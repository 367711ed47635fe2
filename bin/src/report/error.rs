//! The error type of the binary.
//!
//! Enters: an operation, a path, and an error number of the kernel or an error of core. Leaves: one line of text, and the status to exit with. Each
//! fact appears in the text once.

use emissary_core::buf::Writer;
use emissary_core::exit;
use rustix::io::Errno;

use crate::os::{errno, fs};

/// An error. It is one pointer wide, so that a `Result` fits in a register and `?` copies little.
#[derive(Debug)]
pub(crate) struct Error(Box<Facts>);

/// The contents of an error.
#[derive(Debug)]
pub(crate) struct Facts {
    /// One line for a person, without a full stop.
    pub(crate) text: Vec<u8>,
    /// Exit status: 64, or 65 if a pod without an init container is not ready.
    pub(crate) status: u8,
    /// The system's error number, if there is one.
    pub(crate) errno: Option<Errno>,
}

impl core::ops::Deref for Error {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl core::ops::DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.0
    }
}

impl Error {
    /// Formats `cannot OPERATION PATH: CAUSE`.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(operation: &str, path: &[u8], errno: Errno) -> Self {
        let cause =
            if errno == fs::LINK { b"it is a link, or lies behind one, and that is not followed".to_vec() } else { errno::cause(errno) };
        Self::text(&[b"cannot ", operation.as_bytes(), b" ", path, b": ", &cause]).with_errno(errno)
    }

    /// Makes an error from the parts of its text.
    #[cold]
    #[inline(never)]
    pub(crate) fn text(parts: &[&[u8]]) -> Self {
        Self(Box::new(Facts { text: parts.concat(), status: exit::FAILURE, errno: None }))
    }

    /// Formats `SUBJECT: CAUSE`. Core describes the cause.
    #[cold]
    #[inline(never)]
    pub(crate) fn because(subject: &[&[u8]], describe: &dyn Fn(&mut Writer<'_>)) -> Self {
        let mut error = Self::text(subject);
        error.text.extend_from_slice(b": ");
        described(&mut error.text, describe);
        error
    }

    /// Makes an error whose text contains a number.
    #[cold]
    #[inline(never)]
    pub(crate) fn count(before: &[u8], number: u64, after: &[u8]) -> Self {
        let mut room = [0; 20];
        let mut digits = Writer::new(&mut room);
        digits.decimal(number);
        Self::text(&[before, digits.written(), after])
    }

    /// Sets the exit status.
    pub(crate) fn with_status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }

    /// Sets the system's error number.
    pub(crate) fn with_errno(mut self, errno: Errno) -> Self {
        self.errno = Some(errno);
        self
    }
}

/// Appends a description that core writes.
pub(crate) fn described(text: &mut Vec<u8>, describe: &dyn Fn(&mut Writer<'_>)) {
    let mut room = [0; 256];
    let mut out = Writer::new(&mut room);
    describe(&mut out);
    text.extend_from_slice(out.written());
}
