//! Runs the binary from outside and looks at what it leaves behind: the same ground as the protocol, one file a chapter.
//!
//! `cargo xtask test` names the static binary in `EMISSARY_BIN`; plain `cargo test` takes the one that cargo has built. Tests with `#[ignore]` are slow:
//! `cargo xtask test --all` runs them too.

mod pod;

mod argoexec;
mod artifacts;
mod bad_input;
mod exit_codes;
mod flat;
mod hostile;
mod init_and_kill;
mod limits;
mod logs;
mod outputs;
mod races;
mod ready;
mod sets;
mod signals;
mod terminal;
mod trees;
mod volume;
mod wait;
