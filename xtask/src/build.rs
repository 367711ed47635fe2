//! `build`: one static binary for a target, in `dist/<target>/emissary`.
//!
//! The standard library of the target comes from the first of these that is there: rustup's; rust-src, which is built; the source in Debian's
//! `rustc-web`, which is built. A library that is built here is linked with musl's start file and `libc.a` from Debian's `musl-dev`.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use anyhow::{Context as _, Result, bail};
use object::read::elf::{Dyn as _, ProgramHeader as _};
use object::{Endianness, elf};

use crate::smoke;
use crate::targets::{TARGETS, Target};
use crate::tools::{command, install, output, root, run};

/// How to get the standard library of a target.
enum Toolchain {
    /// rustup has installed it.
    Installed,
    /// This cargo and this rustc build it from the source beside them.
    Source { cargo: PathBuf, rustc: PathBuf },
}

/// Debian's toolchain: `rustc-web`, `cargo-web`, `rust-web-src`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// The musl target of this machine.
pub(crate) fn host_target() -> Result<String> {
    let host = output(command("rustc").args(["--print", "host-tuple"]))?;
    let arch = host.split('-').next().unwrap_or_default().to_string();
    Ok(format!("{arch}-unknown-linux-musl"))
}

/// Builds the binary, checks that it is static and within its budget, and returns its path.
pub(crate) fn build(target: Option<String>) -> Result<PathBuf> {
    let target = target.map_or_else(host_target, Ok)?;
    let built = compile(&target, &["--bin", "emissary"], &Variant::SHIPPED)?.join("emissary");
    check_static(&built)?;
    check_size(&built, &target)?;
    let dist = root().join("dist").join(&target);
    std::fs::create_dir_all(&dist)?;
    let binary = dist.join("emissary");
    std::fs::copy(&built, &binary).with_context(|| format!("cannot copy {} to {}", built.display(), binary.display()))?;
    Ok(binary)
}

/// Builds the binary for every target and tries it, under an emulator where this machine cannot run it.
pub(crate) fn build_all() -> Result<()> {
    let host = host_target()?;
    let (sender, prepared) = mpsc::channel();
    std::thread::scope(|scope| {
        // While one target is built, another thread fetches what the next targets need.
        scope.spawn(move || TARGETS.iter().for_each(|target| drop(sender.send(prepare(target)))));
        for target in &TARGETS {
            prepared.recv()??;
            let binary = build(Some(target.name.to_string()))?;
            smoke::smoke(target, &host, &binary).with_context(|| format!("{} fails its smoke scenarios", target.name))?;
            println!("{} bytes, passes its smoke scenarios: {}", binary.metadata()?.len(), binary.display());
        }
        Ok(())
    })
}

/// Fetches what a target needs and the machine lacks.
fn prepare(target: &Target) -> Result<()> {
    if let Toolchain::Source { .. } = toolchain(target.name)? {
        target.musl()?;
    }
    Ok(())
}

/// Builds one of the example programs for this machine, static as the binary is, and returns its path.
pub(crate) fn example(name: &str) -> Result<PathBuf> {
    let built = compile(&host_target()?, &["--example", name], &Variant::SHIPPED)?.join("examples").join(name);
    check_static(&built)?;
    Ok(built)
}

/// Builds the binary with its symbols, for `size`, and returns its path.
pub(crate) fn with_symbols(target: Option<String>) -> Result<PathBuf> {
    let target = target.map_or_else(host_target, Ok)?;
    Ok(compile(&target, &["--bin", "emissary"], &Variant::SYMBOLS)?.join("emissary"))
}

/// Builds a binary for this machine that ends at an allocation while a command runs, and returns its path.
pub(crate) fn strict() -> Result<PathBuf> {
    Ok(compile(&host_target()?, &["--bin", "emissary", "--features", "strict-allocation"], &Variant::STRICT)?.join("emissary"))
}

/// What a build sets beside what its target needs.
struct Variant {
    /// The target folder below `target/`. Each variant has its own, since cargo would discard what other flags have built.
    folder: &'static str,
    flags: &'static [&'static str],
    /// The value of `strip` in the profile.
    strip: &'static str,
}

impl Variant {
    const SHIPPED: Self = Self { folder: "static", flags: &[], strip: "symbols" };
    const STRICT: Self = Self { folder: "strict", flags: &[], strip: "symbols" };
    const SYMBOLS: Self = Self { folder: "size", flags: &["-Csymbol-mangling-version=v0"], strip: "none" };
}

/// Runs cargo and returns the folder of the profile.
fn compile(target: &str, what: &[&str], variant: &Variant) -> Result<PathBuf> {
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_string(),
        // The binary must not have paths of this machine.
        format!("--remap-path-prefix={}=.", root().display()),
    ];
    let mut cargo = match toolchain(target)? {
        Toolchain::Installed => command("cargo"),
        Toolchain::Source { cargo, rustc } => {
            flags.extend(source_flags(target, &rustc)?);
            let mut command = cargo_with_source(&cargo, &rustc);
            command.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"]);
            command
        }
    };
    flags.extend(variant.flags.iter().map(ToString::to_string));
    let folder = root().join("target").join(variant.folder);
    run(cargo
        .args(["build", "--quiet", "--locked", "--release", "--package", "emissary", "--target", target])
        .args(what)
        .arg("--target-dir")
        .arg(&folder)
        .env("EMISSARY_TARGET", target)
        .env("CARGO_PROFILE_RELEASE_STRIP", variant.strip)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")))?;
    Ok(folder.join(target).join("release"))
}

/// Chooses how to get the standard library.
fn toolchain(target: &str) -> Result<Toolchain> {
    let libraries = output(command("rustc").args(["--print", "target-libdir", "--target", target]))
        .with_context(|| format!("rustc does not know the target {target}"))?;
    let has_std = std::fs::read_dir(&libraries)
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")));
    if has_std {
        return Ok(Toolchain::Installed);
    }
    let why = format!("the standard library for {target} is missing (`rustup target add {target}`, or `rustup component add rust-src`)");
    let (cargo, rustc) = with_source(&why)?;
    Ok(Toolchain::Source { cargo, rustc })
}

/// A cargo and a rustc with the source of the standard library beside them. Installs Debian's if there is none and we are root.
pub(crate) fn with_source(why: &str) -> Result<(PathBuf, PathBuf)> {
    let source_of = |rustc: &str| {
        let sysroot = output(command(rustc).args(["--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN")).ok()?;
        Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock").is_file().then_some(())
    };
    if source_of("rustc").is_some() {
        return Ok(("cargo".into(), "rustc".into()));
    }
    if !(Path::new(DEBIAN_CARGO).is_file() && source_of(DEBIAN_RUSTC).is_some()) {
        install(&["rustc-web", "cargo-web", "rust-web-src"], &format!("{why}; Debian's toolchain can build it"))?;
    }
    Ok((DEBIAN_CARGO.into(), DEBIAN_RUSTC.into()))
}

/// A cargo that may build the standard library from its source.
pub(crate) fn cargo_with_source(cargo: &Path, rustc: &Path) -> std::process::Command {
    let mut command = command(cargo);
    command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
    if cargo.is_absolute() {
        command.env_remove("RUSTUP_TOOLCHAIN");
    }
    command
}

/// Flags for a standard library that is built from source and linked with musl from Debian's package.
fn source_flags(target: &str, rustc: &Path) -> Result<Vec<String>> {
    let target = Target::named(target)?;
    let musl = target.musl()?;
    // The start file of a static executable. That of a position-independent one relocates the executable.
    let start = musl.join(if target.is_position_independent(rustc)? { "rcrt1.o" } else { "crt1.o" });
    // With panic=immediate-abort nothing unwinds, but the crate `unwind` still names its library.
    let empty = root().join("target/static/empty");
    std::fs::create_dir_all(&empty)?;
    std::fs::write(empty.join("libunwind.a"), b"!<arch>\n")?;
    let host = output(command("rustc").args(["--print", "host-tuple"]))?;
    let sysroot = output(command("rustc").args(["--print", "sysroot"]))?;
    let linker = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
    if !linker.is_file() {
        bail!("{} is missing; a toolchain that rustup installs has it", linker.display());
    }
    let mut flags = vec![
        // Nobody would read the message of a panic, and nothing catches one: no text, no unwinder.
        "-Zunstable-options".into(),
        "-Cpanic=immediate-abort".into(),
        // Nobody walks the stack, reads where a panic was, or prints a value for debugging.
        "-Cforce-unwind-tables=no".into(),
        "-Zlocation-detail=none".into(),
        "-Zfmt-debug=none".into(),
        // The files of musl come from the package, not from the toolchain.
        "-Clink-self-contained=no".into(),
        format!("-Clinker={}", linker.display()),
        "-Clinker-flavor=ld.lld".into(),
        // A thread's stack, where musl's default is 128 KiB: a compiler may build the compressor's 64 KiB there before it moves them. It is not there
        // until it is touched.
        "-Clink-arg=-zstack-size=524288".into(),
        // Memory of a plain run: what it does not reach is behind the rest.
        format!("-Clink-arg=-T{}", root().join("xtask/cold.ld").display()),
        format!("-Clink-arg={}", start.display()),
        format!("-Lnative={}", musl.display()),
        format!("-Lnative={}", empty.display()),
    ];
    flags.extend(target.unreached.iter().map(|symbol| format!("-Clink-arg=--defsym={symbol}=0")));
    Ok(flags)
}

/// How many bytes the binary of a target may have, and why.
#[derive(serde::Deserialize)]
struct Budget {
    bytes: u64,
    reason: String,
}

/// Fails if the binary is larger than its budget.
fn check_size(path: &Path, target: &str) -> Result<()> {
    let file = root().join("xtask/size-budget.toml");
    let budgets: std::collections::BTreeMap<String, Budget> = toml::from_str(&std::fs::read_to_string(&file)?)?;
    let bytes = path.metadata()?.len();
    let Some(budget) = budgets.get(target) else { return Ok(()) };
    if bytes > budget.bytes {
        bail!("{target}: {bytes} bytes, over the budget of {} ({}); see {}", budget.bytes, budget.reason, file.display());
    }
    Ok(())
}

/// Fails if the binary names an interpreter or needs a library.
fn check_static(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let faults = match object::FileKind::parse(&*bytes)? {
        object::FileKind::Elf64 => dynamic_parts::<elf::FileHeader64<Endianness>>(&bytes)?,
        object::FileKind::Elf32 => dynamic_parts::<elf::FileHeader32<Endianness>>(&bytes)?,
        other => bail!("{} is not an ELF file but {other:?}", path.display()),
    };
    if !faults.is_empty() {
        bail!("{} is not static: it has {}", path.display(), faults.join(", "));
    }
    Ok(())
}

fn dynamic_parts<E: object::read::elf::FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Vec<String>> {
    let header = E::parse(bytes)?;
    let endian = header.endian()?;
    let mut faults = Vec::new();
    for segment in header.program_headers(endian, bytes)? {
        if segment.p_type(endian) == elf::PT_INTERP {
            faults.push("an interpreter".to_string());
        }
        for entry in segment.dynamic(endian, bytes)?.unwrap_or_default() {
            if entry.tag32(endian) == Some(elf::DT_NEEDED) {
                faults.push("a needed library".to_string());
            }
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_not_static() {
        // This test itself is linked with the C library of this machine.
        let own = std::env::current_exe().unwrap();
        let error = check_static(&own).unwrap_err().to_string();
        assert!(error.contains("an interpreter") && error.contains("a needed library"), "{error}");
    }
}
