//! What we say: errors, log lines, and our own stdout and stderr.

pub(crate) mod console;
pub(crate) mod error;
pub(crate) mod output;
