//! `test`: everything that can pass or fail, with its set-up. Ends with `N passed, N failed`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::build;
use crate::containers;
use crate::tools::{command, root, run};

/// A target without an operating system, on which core has to compile.
const BARE_METAL: &str = "thumbv7em-none-eabi";

/// Runs all tests against the static binary.
pub(crate) fn test() -> Result<()> {
    let binary = build::build(None)?;
    let mut tally = Tally::default();
    tally.step("core compiles for bare metal without alloc", core_on_bare_metal());
    tally.step("the README names every command", readme_names_commands());
    if containers::is_available() {
        tally.step("a pod of containers, PID namespaces shared and not", containers::test(&binary));
        tally.step("the image with users, /tmp and certificates", containers::test_base());
        tally.step("the executor image over a stand-in for Argo's", containers::test_executor(&binary));
    } else {
        println!("skip  pods of containers and images: Docker does not answer");
    }
    let mut tests = command("cargo");
    tests.args(["test", "--locked", "--workspace", "--no-fail-fast"]).env("EMISSARY_BIN", &binary);
    let succeeded = tally.cargo_test(&mut tests)?;
    let mut seeds = command("cargo");
    seeds.args(["test", "--locked", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]);
    let succeeded = tally.cargo_test(&mut seeds)? && succeeded;
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 || !succeeded {
        bail!("tests failed");
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn step(&mut self, what: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok    {what}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILS {what}: {error:#}");
            }
        }
    }

    /// Runs `cargo test`, shows what it prints, and adds up its closing lines.
    fn cargo_test(&mut self, command: &mut Command) -> Result<bool> {
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
        for line in BufReader::new(child.stdout.take().context("no pipe")?).lines() {
            let line = line?;
            println!("{line}");
            let words: Vec<&str> = line.split_whitespace().collect();
            // `test result: ok. 60 passed; 0 failed; …`
            if let ["test", "result:", _, passed, "passed;", failed, "failed;", ..] = words[..] {
                self.passed += passed.parse::<u64>()?;
                self.failed += failed.parse::<u64>()?;
            }
        }
        Ok(child.wait()?.success())
    }
}

/// Compiles core alone, with nothing but the `core` library built for a target that has no operating system: a use of `alloc` or `std` fails, which
/// it would not where rustup brings the target's libraries with `alloc` among them.
fn core_on_bare_metal() -> Result<()> {
    let (cargo, rustc) =
        build::with_source(&format!("the source of the core library for {BARE_METAL} is missing (`rustup component add rust-src`)"))?;
    let mut cargo = build::cargo_with_source(&cargo, &rustc);
    cargo.args(["-Zbuild-std=core", "build", "--quiet", "--locked", "--release", "--package", "emissary-core", "--target", BARE_METAL]);
    run(cargo.arg("--target-dir").arg(root().join("target/bare-metal")))
}

/// A newcomer finds each command of `cargo xtask` in the README.
fn readme_names_commands() -> Result<()> {
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    let missing: Vec<&str> = crate::HELP
        .lines()
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split_whitespace().next())
        .filter(|name| !readme.contains(&format!("cargo xtask {name}")))
        .collect();
    if !missing.is_empty() {
        bail!("README.md does not name {missing:?}");
    }
    Ok(())
}
