//! Failures: operation, path and cause, each said exactly once, and our exit statuses.

use emissary_core::buf::Writer;
use emissary_core::exit;
use rustix::io::Errno;

use crate::sys;

/// A failure with its one line of text and the exit status that it means.
#[derive(Debug)]
pub(crate) struct Error {
    /// One line for a person, without a full stop.
    pub(crate) text: Vec<u8>,
    /// 64, or 65 where a pod without an init container is not ready.
    pub(crate) status: u8,
    /// The system's error number, where there is one.
    pub(crate) errno: Option<Errno>,
}

impl Error {
    /// `cannot OPERATION PATH: CAUSE`.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(operation: &str, path: &[u8], errno: Errno) -> Self {
        let mut cause = sys::error_text(errno).to_vec();
        if let Some(first) = cause.first_mut() {
            first.make_ascii_lowercase();
        }
        Self { errno: Some(errno), ..Self::text(&[b"cannot ", operation.as_bytes(), b" ", path, b": ", &cause]) }
    }

    /// A failure in the given words.
    #[cold]
    #[inline(never)]
    pub(crate) fn text(parts: &[&[u8]]) -> Self {
        Self { text: parts.concat(), status: exit::FAILURE, errno: None }
    }

    /// `SUBJECT: CAUSE`, the cause in core's words.
    #[cold]
    #[inline(never)]
    pub(crate) fn because(subject: &[&[u8]], describe: &dyn Fn(&mut Writer<'_>)) -> Self {
        let mut text = subject.concat();
        text.extend_from_slice(b": ");
        described(&mut text, describe);
        Self { text, status: exit::FAILURE, errno: None }
    }

    /// The same with another exit status.
    pub(crate) fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }
}

/// Appends what core says of something.
pub(crate) fn described(text: &mut Vec<u8>, describe: &dyn Fn(&mut Writer<'_>)) {
    let mut room = [0; 256];
    let mut out = Writer::new(&mut room);
    describe(&mut out);
    text.extend_from_slice(out.written());
}
