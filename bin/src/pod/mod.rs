//! The shared folder of a pod: the folders of its containers, and the small files by which containers tell each other things (docs/protocol.md).

pub(crate) mod container;
pub(crate) mod environment;
pub(crate) mod folder;
pub(crate) mod own_exit_code;
pub(crate) mod record;
pub(crate) mod shared;
pub(crate) mod signal_file;
pub(crate) mod steps;
pub(crate) mod template;
pub(crate) mod watch;
