//! The edge to the kernel and the C library, one file a concern.
//!
//! Every wrapper is safe, takes and returns plain data or descriptors, and holds no policy. `unsafe` is below this folder alone. Where a kernel or a
//! sandbox lacks a call, the older call that stands for it is made here and not at the call site.

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
