//! `reproduce`: checks that the same sources give the same bytes in another folder, for another user, at another time.
//!
//! It copies the files that git knows to a folder of another depth, which gives them other times. There it builds with another umask, another home and
//! another time zone, and as another user if this machine allows user namespaces.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::build;
use crate::tools::{command, output, root, run};

/// Builds twice and compares.
pub(crate) fn reproduce() -> Result<()> {
    let first = build::build(None)?;
    let scratch = tempfile::Builder::new().prefix("emissary-reproduce-").tempdir()?;
    let elsewhere = scratch.path().join("another/and/deeper/folder");
    for path in output(command("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?.lines() {
        let (from, to) = (root().join(path), elsewhere.join(path));
        // git also lists a file that was deleted.
        if from.is_file() {
            std::fs::create_dir_all(to.parent().context("no folder")?)?;
            std::fs::copy(&from, &to)?;
        }
    }
    // The copy need not fetch musl again.
    let musl = root().join("target/musl");
    if musl.is_dir() {
        std::fs::create_dir(elsewhere.join("target"))?;
        run(command("cp").arg("-r").arg(musl).arg(elsewhere.join("target")))?;
    }
    let second = build_in(&elsewhere)?;
    anyhow::ensure!(second.starts_with(&elsewhere), "the build has made {}, which is not in the other folder", second.display());
    let (one, other) = (std::fs::read(&first)?, std::fs::read(&second)?);
    if one != other {
        let at = one.iter().zip(&other).position(|(a, b)| a != b).unwrap_or(one.len().min(other.len()));
        bail!("{} and {} differ from byte {at} on ({} and {} bytes)", first.display(), second.display(), one.len(), other.len());
    }
    println!("both builds give the same {} bytes", one.len());
    Ok(())
}

/// Builds a copy of the workspace with its own xtask, as another user; returns the path of the binary.
fn build_in(folder: &Path) -> Result<PathBuf> {
    let home = |name: &str, default: &str| {
        std::env::var_os(name).map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(default))).context("no home")
    };
    let as_other = ["unshare", "--user", "--map-user=12345", "--map-group=12345"];
    let may = output(command(as_other[0]).args(&as_other[1..]).arg("true")).is_ok();
    if !may {
        println!("skip  another user: this machine allows no user namespace");
    }
    let mut words: Vec<&str> = if may { as_other.to_vec() } else { Vec::new() };
    words.extend(["sh", "-c", "umask 077; exec cargo xtask build"]);
    let mut build = command(words[0]);
    build.args(&words[1..]).current_dir(folder);
    build.env("CARGO_HOME", home("CARGO_HOME", ".cargo")?).env("RUSTUP_HOME", home("RUSTUP_HOME", ".rustup")?);
    build.env("HOME", folder).env("USER", "somebody").env("TZ", "Asia/Kathmandu").env("LC_ALL", "C");
    // Its xtask would replace ours in `target/debug`, so it is built elsewhere. What that xtask builds is below its own folder.
    build.env("CARGO_TARGET_DIR", root().join("target/reproduce"));
    let path = output(&mut build)?;
    Ok(PathBuf::from(path.lines().last().context("the build prints no path")?))
}
