//! The edge to the kernel and the C library. Each file covers one concern and names the man pages that it follows.
//!
//! Enters: plain data and descriptors. Leaves: what a system call returned, as plain data, owned descriptors or an error number. Refuses: nothing itself; the
//! kernel does.
//!
//! Every wrapper is safe and holds no policy. `unsafe` occurs below this folder alone. If the kernel or a sandbox refuses a call, the wrapper makes the older
//! call that does the same, so no call site has to.

pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod descriptors;
pub(crate) mod entry;
pub(crate) mod env;
pub(crate) mod errno;
pub(crate) mod fs;
pub(crate) mod memory;
pub(crate) mod poll;
pub(crate) mod signals;
pub(crate) mod spawn;
pub(crate) mod terminal;
pub(crate) mod threads;
pub(crate) mod trace;
