//! `fuzz`: builds and runs the cargo-fuzz targets, each from its committed seeds.

use anyhow::{Context as _, Result, bail};

use crate::tools::{command, install, is_on_path, output, root, run};

/// Runs one target or all of them for `seconds` each.
pub(crate) fn fuzz(seconds: u64, only: Option<&str>) -> Result<()> {
    let targets = targets()?;
    if let Some(only) = only
        && !targets.iter().any(|target| target == only)
    {
        bail!("no fuzz target '{only}'; there are: {}", targets.join(", "));
    }
    if !is_on_path("c++") {
        install(&["g++"], "libFuzzer is C++, and there is no compiler for it")?;
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
    for target in targets.iter().filter(|target| only.is_none_or(|only| only == *target)) {
        let corpus = root().join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&corpus)?;
        let seeds = root().join("fuzz/seeds").join(target);
        if !seeds.is_dir() {
            bail!("{} is missing: each target has its seeds", seeds.display());
        }
        println!("fuzzing {target} for {seconds} s");
        let mut fuzzer = cargo();
        fuzzer.args(["fuzz", "run", "--features", "libfuzzer", target]).arg(&corpus).arg(&seeds);
        fuzzer.args(["--", &format!("-max_total_time={seconds}"), "-max_len=4096", "-print_final_stats=1", "-verbosity=0"]);
        let dictionary = root().join("fuzz/dictionaries").join(format!("{target}.dict"));
        if dictionary.is_file() {
            fuzzer.arg(format!("-dict={}", dictionary.display()));
        }
        run(&mut fuzzer).with_context(|| format!("fuzz target {target}"))?;
    }
    Ok(())
}

/// The names of the targets: the files in `fuzz/fuzz_targets`.
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
