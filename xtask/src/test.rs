//! `test`: everything that can pass or fail, with its set-up. Ends with `N passed, N failed`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::build;
use crate::containers;
use crate::tools::{command, output, root, run};

/// A target without an operating system, on which core has to compile.
const BARE_METAL: &str = "thumbv7em-none-eabi";

/// Runs all tests against the static binary.
pub(crate) fn test() -> Result<()> {
    let binary = build::build(None)?;
    let mut tally = Tally::default();
    tally.step("core compiles for bare metal without alloc", core_on_bare_metal());
    tally.step("no function of core can panic", core_never_panics());
    tally.step("nothing is allocated while a command runs", nothing_is_allocated_while_a_command_runs());
    tally.step("one file alone leaves safe Rust", unsafe_is_in_one_file());
    tally.step("the README names every command", readme_names_commands());
    if containers::is_available() {
        tally.step("a pod of containers, PID namespaces shared and not", containers::test(&binary));
        tally.step("the image with users, /tmp and certificates", containers::test_base());
        tally.step("the executor image over a stand-in for Argo's", containers::test_executor(&binary));
    } else {
        println!("skip  pods of containers and images: Docker does not answer");
    }
    let mut tests = cargo_with_default_signals();
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

/// Cargo without the signals that whoever started us ignores, as nohup and a shell's background job do: every command of a test would ignore them too.
fn cargo_with_default_signals() -> Command {
    // GNU coreutils 8.31 and later.
    if output(command("env").args(["--default-signal", "true"])).is_ok() {
        let mut env = command("env");
        env.args(["--default-signal", "cargo"]);
        return env;
    }
    command("cargo")
}

/// The one file that may have unsafe code: `unsafe` stands in no other, comments aside.
const UNSAFE_FILE: &str = "bin/src/sys.rs";

fn unsafe_is_in_one_file() -> Result<()> {
    let mut found = Vec::new();
    for package in ["core", "bin", "xtask", "fuzz"] {
        for file in rust_files(&root().join(package))? {
            let name = file.strip_prefix(root())?.display().to_string();
            let text = std::fs::read_to_string(&file)?;
            let has_it = |line: &str| {
                let code = line.split("//").next().unwrap_or_default();
                code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == concat!("un", "safe"))
            };
            found.extend(text.lines().position(has_it).map(|line| (name, line + 1)));
        }
    }
    if let [(name, _)] = &found[..]
        && name == UNSAFE_FILE
    {
        return Ok(());
    }
    bail!("{UNSAFE_FILE} alone may have it: {found:?}")
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
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

/// No function of core can panic: built without link-time optimization, its objects would name what they call. It is built for speed there, so that the
/// compiler proves what it can.
fn core_never_panics() -> Result<()> {
    let (cargo, rustc) = build::with_source("the source of the core library is missing (`rustup component add rust-src`)")?;
    let folder = root().join("target/panics");
    let mut cargo = build::cargo_with_source(&cargo, &rustc);
    cargo.args(["-Zbuild-std=core", "build", "--quiet", "--locked", "--release", "--package", "emissary-core", "--target", BARE_METAL]);
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3").env("CARGO_PROFILE_RELEASE_STRIP", "none");
    run(cargo.arg("--target-dir").arg(&folder))?;
    let library = std::fs::read(folder.join(BARE_METAL).join("release/libemissary_core.rlib"))?;
    let archive = object::read::archive::ArchiveFile::parse(&*library)?;
    let (mut own, mut panics) = (0, Vec::new());
    for member in archive.members() {
        let Ok(file) = object::File::parse(member?.data(&*library)?) else { continue };
        for symbol in object::Object::symbols(&file) {
            let name = format!("{:#}", rustc_demangle::demangle(object::ObjectSymbol::name(&symbol)?));
            own += usize::from(name.contains("emissary_core") && object::ObjectSymbol::is_definition(&symbol));
            if name.contains("panic") || name.ends_with("_fail") {
                panics.push(name);
            }
        }
    }
    if own < 50 {
        bail!("the objects of core define {own} functions: nothing was looked at");
    }
    if !panics.is_empty() {
        bail!("core can panic: {}", panics.join(", "));
    }
    Ok(())
}

/// While a command runs nothing is allocated: a binary that ends at once where it would be runs one with much output and a signal.
fn nothing_is_allocated_while_a_command_runs() -> Result<()> {
    let binary = build::strict()?;
    let scratch = tempfile::tempdir()?;
    std::fs::write(scratch.path().join("template"), "{}")?;
    let run = |script: &str| {
        let mut emissary = Command::new(&binary);
        emissary.args(["--", "sh", "-c", script]).env("EMISSARY_DIR", scratch.path()).env("EMISSARY_LAYOUT", "flat").stdin(Stdio::null());
        emissary.output()
    };
    // A file for a signal, orphans, more output than any buffer holds, and time to be idle in between.
    let script = "trap 'echo caught' USR1; for i in $(seq 3000); do echo line $i of the output; done; echo USR1 >$EMISSARY_DIR/signal.new; \
                  mv $EMISSARY_DIR/signal.new $EMISSARY_DIR/signal; (sleep 0.05 &) ; sleep 0.1; sleep 0.1; echo err >&2; exit 7";
    let output = run(script)?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.code() != Some(7) || text.lines().count() != 3_001 || !text.contains("caught") {
        bail!("ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    // The check can fail: a warning is text, and text is allocated.
    let output = run("echo NONSENSE >$EMISSARY_DIR/signal; sleep 1")?;
    if output.status.success() {
        bail!("the strict binary does not notice an allocation");
    }
    Ok(())
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
