//! `fuzz`: builds the cargo-fuzz targets and runs each from its committed seeds.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail, ensure};

use crate::tools::{command, install, is_on_path, output, root, run};

/// Runs one target, or all, each for this many seconds.
pub(crate) fn fuzz(seconds: u64, only: Option<&str>) -> Result<()> {
    let targets = targets()?;
    if let Some(only) = only
        && !targets.iter().any(|target| target == only)
    {
        bail!("no fuzz target '{only}'; there are: {}", targets.join(", "));
    }
    if !is_on_path("c++") {
        install(&["g++"], "libFuzzer is written in C++, and there is no compiler for it")?;
    }
    if output(command("cargo").args(["fuzz", "--version"])).is_err() {
        println!("cargo-fuzz is missing; installing it with cargo");
        run(command("cargo").args(["install", "--locked", "cargo-fuzz"]))?;
    }
    let has_nightly = output(command("cargo").args(["+nightly", "--version"]).env_remove("RUSTUP_TOOLCHAIN")).is_ok();
    let cargo = || {
        let mut cargo = command("cargo");
        if has_nightly {
            cargo.arg("+nightly").env_remove("RUSTUP_TOOLCHAIN");
        } else {
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        cargo
    };
    // One build for all: the runs find their targets built.
    let mut build = cargo();
    run(build.args(["fuzz", "build", "--features", "libfuzzer"]).args(only))?;
    let chosen: Vec<&String> = targets.iter().filter(|target| only.is_none_or(|only| only == *target)).collect();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    // Each target uses one CPU.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(target) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match fuzz_one(cargo(), target, seconds) {
                        Ok(executions) => println!("{target}: {executions} executions in {seconds} s"),
                        Err(error) => {
                            println!("{target} fails: {error:#}");
                            failed.lock().expect("no panic").push((*target).clone());
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner()?;
    ensure!(failed.is_empty(), "fuzz targets fail: {}", failed.join(", "));
    Ok(())
}

/// Runs one target from its seeds and returns the number of executions.
fn fuzz_one(mut cargo: Command, target: &str, seconds: u64) -> Result<u64> {
    let corpus = root().join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&corpus)?;
    let seeds = root().join("fuzz/seeds").join(target);
    ensure!(seeds.is_dir(), "{} is missing; each target needs seeds", seeds.display());
    cargo.args(["fuzz", "run", "--features", "libfuzzer", target]).arg(&corpus).arg(&seeds);
    cargo.args(["--", &format!("-max_total_time={seconds}"), "-max_len=4096", "-print_final_stats=1", "-verbosity=0"]);
    let dictionary = root().join("fuzz/dictionaries").join(format!("{target}.dict"));
    if dictionary.is_file() {
        cargo.arg(format!("-dict={}", dictionary.display()));
    }
    let output = cargo.stdin(Stdio::null()).output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{}{said}", output.status, String::from_utf8_lossy(&output.stdout));
    let executions = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok());
    let executions = executions.with_context(|| format!("libFuzzer does not print the number of executions:\n{said}"))?;
    ensure!(executions > 0, "libFuzzer has executed nothing");
    Ok(executions)
}

/// The names of the targets: those of the files in `fuzz/fuzz_targets`.
pub(crate) fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_string));
        }
    }
    names.sort();
    if names.is_empty() {
        bail!("{} holds no targets", folder.display());
    }
    Ok(names)
}
