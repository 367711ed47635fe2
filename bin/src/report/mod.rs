//! The messages of emissary itself: errors, log lines, and the writes to our own stdout and stderr.

pub(crate) mod console;
pub(crate) mod error;
pub(crate) mod output;
