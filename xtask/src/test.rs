//! `test`: builds the static binary and runs the tests against it: the fast set, all of them, or those of some names. The last line is
//! `N passed, N failed`.
//!
//! A test is slow if its attribute is `#[ignore = "…"]`, which gives the reason and the time.

use core::time::Duration;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::CommandFactory as _;

use crate::size;
use crate::tools::{command, output, root, run};
use crate::{build, docker, image};

/// A target without an operating system, on which core has to compile.
const BARE_METAL: &str = "thumbv7em-none-eabi";

/// The names of the tests that need Docker begin so.
const DOCKER_TESTS: &str = "docker_";

/// Runs the tests whose names contain one of `names`; without names, the fast set or all.
pub(crate) fn test(all: bool, names: &[String]) -> Result<()> {
    let mut tally = Tally::new();
    let binary = build::build(None)?;
    tally.end_part("static binary");
    if names.is_empty() {
        tally.step("core compiles for bare metal without alloc", core_on_bare_metal());
        tally.step("no function of core can panic", core_never_panics());
        tally.step("nothing is allocated while a command runs", nothing_is_allocated_while_a_command_runs());
        tally.step("one folder alone leaves safe Rust", unsafe_is_in_one_folder());
        tally.step("the README names every command", readme_names_commands());
        tally.end_part("proofs");
        tally.cargo_test(&mut tests_against(&binary))?;
        tally.end_part("fast tests");
        let mut seeds = command("cargo");
        seeds.args(["test", "--locked", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]);
        tally.cargo_test(seeds.env_remove("FUZZ_SEED"))?;
        tally.end_part("fuzz seeds");
    }
    if all || !names.is_empty() {
        chosen_tests(&mut tally, &binary, names)?;
    }
    println!("\n{}", tally.times());
    if let Some(skipped) = tally.skipped {
        println!("skip  {skipped}");
    }
    if !all && tally.ignored > 0 {
        println!(
            "This was the fast set. It left out {} slow and container tests; `cargo xtask test --all` runs every test.",
            tally.ignored
        );
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 || tally.has_error {
        bail!("tests failed");
    }
    if tally.passed == 0 {
        bail!("no test has such a name");
    }
    Ok(())
}

/// `cargo test` for the workspace; the black-box tests run this binary.
fn tests_against(binary: &Path) -> Command {
    let mut tests = cargo_with_default_signals();
    tests.args(["test", "--locked", "--workspace", "--no-fail-fast"]).env("EMISSARY_BIN", binary);
    tests
}

/// Runs the tests of these names; without names, the slow tests.
fn chosen_tests(tally: &mut Tally, binary: &Path, names: &[String]) -> Result<()> {
    let mut tests = tests_against(binary);
    let mut containers = None;
    if names.is_empty() || names.iter().any(|name| name.starts_with(DOCKER_TESTS)) {
        if docker::is_available() {
            match Containers::new(&mut tests) {
                Ok(built) => containers = Some(built),
                Err(error) => tally.step("what the container tests need can be built", Err(error)),
            }
            tally.end_part("images");
        } else {
            tally.skipped = Some("the container tests: Docker does not answer");
        }
    }
    tests.args(["--tests", "--"]).args(names);
    if names.is_empty() {
        // The slow tests mostly wait, so more of them run at once than there are CPUs.
        let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        tests.args(["--ignored", &format!("--test-threads={threads}")]);
    } else {
        tests.arg("--include-ignored");
    }
    if containers.is_none() {
        tests.args(["--skip", DOCKER_TESTS]);
    }
    tally.cargo_test(&mut tests)?;
    drop(containers);
    tally.end_part(if names.is_empty() { "slow tests" } else { "tests" });
    Ok(())
}

/// What the container tests need beside the binary. The image is removed at the end.
struct Containers(String);

impl Containers {
    /// Builds two programs and an image, and names them in the environment of the tests.
    fn new(tests: &mut Command) -> Result<Self> {
        tests.env("EMISSARY_WORKER", build::example("worker")?).env("EMISSARY_STAND_IN", build::example("stand_in")?);
        let base = format!("emissary-base-test:{}", std::process::id());
        image::base(&base)?;
        tests.env("EMISSARY_BASE_IMAGE", &base);
        Ok(Self(base))
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let _ = docker::remove(&self.0);
    }
}

/// What passed and what failed, and how long each part took.
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Whether a run of cargo has failed, which happens without a failed test too.
    has_error: bool,
    /// What this machine cannot run.
    skipped: Option<&'static str>,
    parts: Vec<(&'static str, Duration)>,
    began: Instant,
}

impl Tally {
    fn new() -> Self {
        Self { passed: 0, failed: 0, ignored: 0, has_error: false, skipped: None, parts: Vec::new(), began: Instant::now() }
    }

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

    /// Ends a part, which began where the last one ended.
    fn end_part(&mut self, name: &'static str) {
        self.parts.push((name, self.began.elapsed()));
        self.began = Instant::now();
    }

    /// The time of each part, in one line.
    fn times(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(|(name, time)| format!("{name} {} s", time.as_secs())).collect();
        format!("{}: {} s", parts.join(", "), self.parts.iter().map(|(_, time)| *time).sum::<Duration>().as_secs())
    }

    /// Runs `cargo test`, prints its output, and adds up its closing lines.
    fn cargo_test(&mut self, command: &mut Command) -> Result<()> {
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
        for line in BufReader::new(child.stdout.take().context("no pipe")?).lines() {
            let line = line?;
            println!("{line}");
            let words: Vec<&str> = line.split_whitespace().collect();
            // `test result: ok. 60 passed; 0 failed; 1 ignored; …`
            if let ["test", "result:", _, passed, "passed;", failed, "failed;", ignored, "ignored;", ..] = words[..] {
                self.passed += passed.parse::<u64>()?;
                self.failed += failed.parse::<u64>()?;
                self.ignored += ignored.parse::<u64>()?;
            }
        }
        self.has_error |= !child.wait()?.success();
        Ok(())
    }
}

/// A cargo that ignores no signal. Where nohup or a shell's background job has started us, we ignore some, and every command of a test would inherit that.
fn cargo_with_default_signals() -> Command {
    // GNU coreutils 8.31 and later.
    if output(command("env").args(["--default-signal", "true"])).is_ok() {
        let mut env = command("env");
        env.args(["--default-signal", "cargo"]);
        return env;
    }
    command("cargo")
}

/// The one folder whose files may have unsafe code: `unsafe` stands in no other, comments aside.
const UNSAFE_FOLDER: &str = "bin/src/os/";

fn unsafe_is_in_one_folder() -> Result<()> {
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
    let (below, elsewhere): (Vec<_>, Vec<_>) = found.into_iter().partition(|(name, _)| name.starts_with(UNSAFE_FOLDER));
    if below.is_empty() || !elsewhere.is_empty() {
        bail!("files below {UNSAFE_FOLDER} alone may have it, and some do: {below:?}, {elsewhere:?}");
    }
    Ok(())
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

/// Compiles core for a target without an operating system, for which nothing but the `core` library is built. A use of `alloc` or `std` fails. (It would
/// succeed with the target's libraries of rustup, which include `alloc`.)
fn core_on_bare_metal() -> Result<()> {
    let (cargo, rustc) =
        build::with_source(&format!("the source of the core library for {BARE_METAL} is missing (`rustup component add rust-src`)"))?;
    let mut cargo = build::cargo_with_source(&cargo, &rustc);
    cargo.args(["-Zbuild-std=core", "build", "--quiet", "--locked", "--release", "--package", "emissary-core", "--target", BARE_METAL]);
    run(cargo.arg("--target-dir").arg(root().join("target/bare-metal")))
}

/// What core's objects may call: themselves, the `core` library, and what has no Rust name, such as memcpy.
const OWN_AND_CORE: [&str; 3] = ["emissary_core", "core", size::NO_CRATE];

/// No function of core can panic: built without link-time optimization, its objects would name what they call. It is built for speed there, so that the
/// compiler proves what it can. A function of another crate would be called by its name and not be looked at, so core's objects may call none: what they use of a
/// dependency has to be compiled into them. The feature `documents` is off: serde-json-core, which writes our own documents, can panic.
fn core_never_panics() -> Result<()> {
    let (cargo, rustc) = build::with_source("the source of the core library is missing (`rustup component add rust-src`)")?;
    let folder = root().join("target/panics");
    let mut cargo = build::cargo_with_source(&cargo, &rustc);
    cargo.args(["-Zbuild-std=core", "build", "--quiet", "--locked", "--release", "--package", "emissary-core", "--target", BARE_METAL]);
    cargo.arg("--no-default-features");
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3").env("CARGO_PROFILE_RELEASE_STRIP", "none");
    run(cargo.arg("--target-dir").arg(&folder))?;
    let library = std::fs::read(folder.join(BARE_METAL).join("release/libemissary_core.rlib"))?;
    let archive = object::read::archive::ArchiveFile::parse(&*library)?;
    let (mut own, mut panics, mut foreign) = (0, Vec::new(), Vec::new());
    for member in archive.members() {
        let member = member?;
        // The others are metadata. A copy, because an object is read where it is aligned, and in an archive it need not be.
        if !member.name().ends_with(b".o") {
            continue;
        }
        let copy = member.data(&*library)?.to_vec();
        let file = object::File::parse(&*copy)?;
        for symbol in object::Object::symbols(&file) {
            let name = format!("{:#}", rustc_demangle::demangle(object::ObjectSymbol::name(&symbol)?));
            if object::ObjectSymbol::is_undefined(&symbol)
                && !OWN_AND_CORE.contains(&&*size::crate_of(object::ObjectSymbol::name(&symbol)?))
            {
                foreign.push(name.clone());
            }
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
    if !foreign.is_empty() {
        bail!("core calls what was not looked at: {}", foreign.join(", "));
    }
    Ok(())
}

/// Nothing is allocated while a command runs. A variant of the binary ends at an allocation; it runs a command with much output and a signal.
fn nothing_is_allocated_while_a_command_runs() -> Result<()> {
    let binary = build::strict()?;
    let scratch = tempfile::tempdir()?;
    std::fs::write(scratch.path().join("template"), "{}")?;
    let run = |script: &str| {
        let mut emissary = Command::new(&binary);
        emissary.args(["--", "sh", "-c", script]).env("EMISSARY_DIR", scratch.path()).env("EMISSARY_LAYOUT", "flat").stdin(Stdio::null());
        emissary.output()
    };
    // A signal by file, orphans, more output than any buffer holds, and time to be idle in between.
    let script = "trap 'echo caught' USR1; for i in $(seq 3000); do echo line $i of the output; done; echo USR1 >$EMISSARY_DIR/signal.new; \
                  mv $EMISSARY_DIR/signal.new $EMISSARY_DIR/signal; (sleep 0.05 &) ; sleep 0.1; sleep 0.1; echo err >&2; exit 7";
    let output = run(script)?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.code() != Some(7) || text.lines().count() != 3_001 || !text.contains("caught") {
        bail!("ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    // This shows that the check can fail: a warning is text, and text is allocated.
    let output = run("echo NONSENSE >$EMISSARY_DIR/signal; sleep 1")?;
    if output.status.success() {
        bail!("the strict binary does not notice an allocation");
    }
    Ok(())
}

/// A newcomer finds every command of `cargo xtask` in the README.
fn readme_names_commands() -> Result<()> {
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    let cli = crate::Cli::command();
    let names: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    let missing: Vec<&&str> = names.iter().filter(|name| !readme.contains(&format!("cargo xtask {name}"))).collect();
    if names.is_empty() {
        bail!("cargo xtask has no commands");
    }
    if !missing.is_empty() {
        bail!("README.md does not name {missing:?}");
    }
    Ok(())
}
