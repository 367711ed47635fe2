//! The roles: what the binary can be asked to do. Each file tells one role from top to bottom. No role uses another.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod delegate;
pub(crate) mod help;
pub(crate) mod init;
pub(crate) mod kill;
pub(crate) mod pause;
pub(crate) mod request;
pub(crate) mod run;
pub(crate) mod signal;
pub(crate) mod wait;
