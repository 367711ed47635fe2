//! `faults` and `soak`: build the static binary and start `emissary-trials` (bin/trials) with it.

use anyhow::Result;

use crate::build;
use crate::tools::{command, install, is_on_path, run};

/// Plays the faults of these scenarios; of all, if there is no name.
pub(crate) fn faults(scenarios: &[String]) -> Result<()> {
    if !is_on_path("strace") {
        install(&["strace"], "strace is missing, which makes system calls fail")?;
    }
    trial("faults", scenarios)
}

/// Plays random pods.
pub(crate) fn soak(minutes: f64, seed: Option<u64>) -> Result<()> {
    let seed = seed.map(|seed| format!("--seed={seed}"));
    trial("soak", &[Some(format!("--minutes={minutes}")), seed].into_iter().flatten().collect::<Vec<_>>())
}

fn trial(name: &str, args: &[String]) -> Result<()> {
    let binary = build::build(None)?;
    let mut cargo = command("cargo");
    cargo.args(["run", "--quiet", "--locked", "--package", "emissary-trials", "--", name, "--binary"]);
    run(cargo.arg(binary).args(args))
}
