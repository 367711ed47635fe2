//! Everything that emissary itself prints: errors, log lines, and the writes to its own stdout and stderr.

pub(crate) mod console;
pub(crate) mod error;
pub(crate) mod output;
