//! `deny`: cargo-deny checks the licences, the sources and the duplicates of every crate, and the security advisories if it can get their database.

use anyhow::Result;

use crate::tools::{command, output, root, run};

/// Runs cargo-deny over both workspaces. Installs it below `target/` if it is missing.
pub(crate) fn deny() -> Result<()> {
    let own = root().join("target/tools/bin/cargo-deny");
    let program = if output(command("cargo-deny").arg("--version")).is_ok() {
        "cargo-deny".into()
    } else {
        if !own.is_file() {
            println!("cargo-deny is missing; installing it below target/tools");
            // It runs for a second, so its build must be fast, not its code.
            run(command("cargo")
                .args(["install", "--quiet", "--locked", "cargo-deny", "--root", "target/tools"])
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"))?;
        }
        own
    };
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        run(command("cargo").args(["fetch", "--quiet", "--locked", "--manifest-path", manifest]))?;
        let deny = || {
            let mut deny = command(&program);
            deny.args(["--log-level", "error", "--manifest-path", manifest, "--config", "deny.toml"]);
            deny
        };
        run(deny().args(["--offline", "check", "licenses", "bans", "sources"]))?;
        // The database is a repository on the network.
        let fetched = deny().args(["fetch", "db"]).output().is_ok_and(|output| output.status.success());
        if fetched {
            run(deny().args(["check", "advisories"]))?;
        } else {
            println!("skip  the advisories: cargo-deny cannot get their database");
        }
    }
    Ok(())
}
