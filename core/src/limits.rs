//! Every capacity of the crate: its unit, its reason, and what happens beyond it.
//!
//! These are constants: nothing enters, leaves or is refused here. A value that Linux or Kubernetes sets names its source.

/// Levels of nesting in a JSON document. Real templates stay below 20. Each level costs the checker one byte of its stack, so it needs a bound.
/// Beyond it: [`crate::json::Cause::TooDeep`].
pub const JSON_DEPTH: usize = 128;

/// Bytes of a path with its terminating NUL: Linux's `PATH_MAX` (limits.h). Beyond it: [`crate::buf::Full`].
pub const PATH_BYTES: usize = 4096;

/// Bytes of a container name: a DNS label (RFC 1123), as Kubernetes requires. Beyond it: [`crate::layout::NameError`].
pub const CONTAINER_NAME_BYTES: usize = 63;

/// Bytes that the caller reads of an exit-code file: three digits, white space around them,
/// and one byte that shows that the file is longer.
pub const EXIT_CODE_FILE_BYTES: usize = 16;

/// Bytes that the caller reads of a signal file: the longest name (`SIGRTMAX-14`) and white space around it. A longer file is not a signal.
pub const SIGNAL_FILE_BYTES: usize = 32;

/// Bytes of one log line. [`crate::log::line`] cuts a longer line and ends it with `…`.
pub const LOG_LINE_BYTES: usize = 8192;

/// Actions that the supervisor holds until the caller polls them: one for each signal that can be pending, and a few for its own steps. The caller
/// reads no further signal while the supervisor holds actions.
pub const ACTIONS: usize = 72;

/// Largest signal number on Linux (signal(7)).
pub const SIGNAL_MAX: u8 = 64;
