//! The command as a process: its arguments, its start, its output, its terminal, and the poll that waits for all of them.

pub(crate) mod argv;
pub(crate) mod child;
pub(crate) mod events;
pub(crate) mod tee;
pub(crate) mod terminal;
