//! Every capacity of the crate: its unit, its reason, and what happens beyond it.

/// Levels of nesting in a JSON document. Real templates stay below 20; each level costs the check one byte of its stack, so there is a bound. Beyond it: [`crate::json::Cause::TooDeep`].
pub const JSON_DEPTH: usize = 128;

/// Bytes of a path, its terminating NUL included: Linux's `PATH_MAX` (limits.h). Beyond it: [`crate::buf::Full`].
pub const PATH_BYTES: usize = 4096;

/// Bytes of a container name: a DNS label (RFC 1123), as Kubernetes has it. Beyond it: [`crate::layout::NameError`].
pub const CONTAINER_NAME_BYTES: usize = 63;

/// Bytes of an exit-code file that are read: three digits, white space, and one byte that shows there is more.
pub const EXIT_CODE_FILE_BYTES: usize = 16;

/// Bytes of a signal file that are read: the longest name (`SIGRTMAX-14`) with white space around it.
/// A longer file is no signal.
pub const SIGNAL_FILE_BYTES: usize = 32;

/// Bytes of one log line. A longer one is cut and ends with `…`.
pub const LOG_LINE_BYTES: usize = 8192;

/// Actions that the supervisor can hold before they are polled: one for each signal that can be pending, and a few for its own steps. Its caller
/// takes in no more signals while there are actions to poll.
pub const ACTIONS: usize = 72;

/// Largest signal number on Linux (signal(7)).
pub const SIGNAL_MAX: u8 = 64;
