//! Failures: operation, path and cause, each said exactly once, and our exit statuses.

use emissary_core::buf::Writer;
use emissary_core::exit;
use rustix::io::Errno;

use crate::os::{errno, fs};

/// A failure. One pointer, so that what may fail costs a register to say so and not a copy at each `?`.
#[derive(Debug)]
pub(crate) struct Error(Box<Facts>);

/// Its one line of text and the exit status that it means.
#[derive(Debug)]
pub(crate) struct Facts {
    /// One line for a person, without a full stop.
    pub(crate) text: Vec<u8>,
    /// 64, or 65 where a pod without an init container is not ready.
    pub(crate) status: u8,
    /// The system's error number, where there is one.
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
    /// `cannot OPERATION PATH: CAUSE`.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(operation: &str, path: &[u8], errno: Errno) -> Self {
        let mut cause =
            if errno == fs::LINK { &b"it is a link, or lies behind one, and that is not followed"[..] } else { errno::error_text(errno) }
                .to_vec();
        if let Some(first) = cause.first_mut() {
            first.make_ascii_lowercase();
        }
        Self::text(&[b"cannot ", operation.as_bytes(), b" ", path, b": ", &cause]).with_errno(errno)
    }

    /// A failure in the given words.
    #[cold]
    #[inline(never)]
    pub(crate) fn text(parts: &[&[u8]]) -> Self {
        Self(Box::new(Facts { text: parts.concat(), status: exit::FAILURE, errno: None }))
    }

    /// `SUBJECT: CAUSE`, the cause in core's words.
    #[cold]
    #[inline(never)]
    pub(crate) fn because(subject: &[&[u8]], describe: &dyn Fn(&mut Writer<'_>)) -> Self {
        let mut error = Self::text(subject);
        error.text.extend_from_slice(b": ");
        described(&mut error.text, describe);
        error
    }

    /// The same with another exit status.
    pub(crate) fn with_status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }

    /// The same with the system's error number.
    pub(crate) fn with_errno(mut self, errno: Errno) -> Self {
        self.errno = Some(errno);
        self
    }
}

/// Appends what core says of something.
pub(crate) fn described(text: &mut Vec<u8>, describe: &dyn Fn(&mut Writer<'_>)) {
    let mut room = [0; 256];
    let mut out = Writer::new(&mut room);
    describe(&mut out);
    text.extend_from_slice(out.written());
}
