//! The shared folder: containers' folders, and the small files that containers leave for each other.

pub(crate) mod container;
pub(crate) mod environment;
pub(crate) mod folder;
pub(crate) mod own_exit_code;
pub(crate) mod shared;
pub(crate) mod signal_file;
pub(crate) mod template;
pub(crate) mod watch;
