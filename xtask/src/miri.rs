//! `miri`: runs core's unit tests in an interpreter that reports undefined behaviour. Core has no unsafe code, but the code that it calls has.
//!
//! Miri is a part of nightly toolchains. If rustup cannot get it, this command prints so and succeeds.

use anyhow::Result;

use crate::tools::{command, output, run};

/// Runs the tests.
pub(crate) fn miri() -> Result<()> {
    let has_miri = || output(command("cargo").args(["+nightly", "miri", "--version"]).env_remove("RUSTUP_TOOLCHAIN")).is_ok();
    if !has_miri() {
        println!("miri is missing; rustup tries to install it");
        let mut rustup = command("timeout");
        rustup.args(["300", "rustup", "component", "add", "--toolchain", "nightly", "miri", "rust-src"]).env_remove("RUSTUP_TOOLCHAIN");
        if let Err(error) = output(&mut rustup) {
            println!("{error:#}");
        }
    }
    if !has_miri() {
        println!("skip  miri is missing (`rustup component add --toolchain nightly miri rust-src`)");
        return Ok(());
    }
    let mut tests = command("cargo");
    tests.args(["+nightly", "miri", "test", "--quiet", "--locked", "--package", "emissary-core", "--lib"]).env_remove("RUSTUP_TOOLCHAIN");
    run(tests.args(["--target-dir", "target/miri"]).env("MIRIFLAGS", "-Zmiri-disable-isolation"))
}
