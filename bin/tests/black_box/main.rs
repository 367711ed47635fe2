//! Black-box tests: they run the binary and look at the files that it leaves. Each file here is a chapter of the protocol.
//!
//! `cargo xtask test` names the static binary in `EMISSARY_BIN`. Plain `cargo test` uses the binary that cargo has built. Tests with `#[ignore]` are slow;
//! `cargo xtask test --all` runs them too.

mod pod;

mod argoexec;
mod artifacts;
mod bad_input;
mod exit_codes;
mod flat;
mod hostile;
mod init;
mod init_and_kill;
mod limits;
mod logs;
mod outputs;
mod peers;
mod races;
mod ready;
mod record;
mod sets;
mod signals;
mod steps;
mod terminal;
mod tools;
mod trees;
mod volume;
mod wait;
