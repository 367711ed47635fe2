//! `build`: one static binary for a target, in `dist/<target>/emissary`.
//!
//! The toolchain is chosen in this order: the target's standard library if rustup has it; building it if rust-src is there; Debian's
//! `rustc-web`, which brings its source. What is built from source links musl's own start file and library from Debian's `musl-dev`.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use anyhow::{Context as _, Result, bail};
use object::read::elf::{Dyn as _, ProgramHeader as _};
use object::{Endianness, elf};

use crate::smoke;
use crate::targets::{TARGETS, Target};
use crate::tools::{command, install, output, root, run};

/// Where the standard library comes from.
enum Toolchain {
    /// rustup has it built for the target.
    Installed,
    /// This cargo and rustc build it from the source beside them.
    Source { cargo: PathBuf, rustc: PathBuf },
}

/// Debian's toolchain: `rustc-web`, `cargo-web`, `rust-web-src`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// The host's musl target.
pub(crate) fn host_target() -> Result<String> {
    let host = output(command("rustc").args(["--print", "host-tuple"]))?;
    let arch = host.split('-').next().unwrap_or_default().to_string();
    Ok(format!("{arch}-unknown-linux-musl"))
}

/// Builds the binary and checks that it is static; gives its path.
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

/// Builds every target, and tries each: under an emulator where it is not the host's.
pub(crate) fn build_all() -> Result<()> {
    let host = host_target()?;
    let (sender, prepared) = mpsc::channel();
    std::thread::scope(|scope| {
        // While one is built, what the next ones take is fetched.
        scope.spawn(move || TARGETS.iter().for_each(|target| drop(sender.send(prepare(target)))));
        for target in &TARGETS {
            prepared.recv()??;
            let binary = build(Some(target.name.to_string()))?;
            smoke::smoke(target, &host, &binary).with_context(|| format!("{} fails its smoke scenarios", target.name))?;
            println!("{} bytes, tried: {}", binary.metadata()?.len(), binary.display());
        }
        Ok(())
    })
}

/// Gets what a target takes and the machine lacks.
fn prepare(target: &Target) -> Result<()> {
    if let Toolchain::Source { .. } = toolchain(target.name)? {
        target.musl()?;
    }
    Ok(())
}

/// Builds one of the example programs for the host, as static as the binary; gives its path.
pub(crate) fn example(name: &str) -> Result<PathBuf> {
    let built = compile(&host_target()?, &["--example", name], &Variant::SHIPPED)?.join("examples").join(name);
    check_static(&built)?;
    Ok(built)
}

/// The binary once more with its symbols, for `size`; gives its path.
pub(crate) fn with_symbols(target: Option<String>) -> Result<PathBuf> {
    let target = target.map_or_else(host_target, Ok)?;
    Ok(compile(&target, &["--bin", "emissary"], &Variant::SYMBOLS)?.join("emissary"))
}

/// The host's binary that ends at once where memory is allocated while a command runs; gives its path.
pub(crate) fn strict() -> Result<PathBuf> {
    Ok(compile(&host_target()?, &["--bin", "emissary", "--features", "strict-allocation"], &Variant::STRICT)?.join("emissary"))
}

/// How a binary is built beside what its target asks for.
struct Variant {
    /// Below `target/`: a folder of its own, so that other builds, which use other flags, do not throw it away.
    folder: &'static str,
    flags: &'static [&'static str],
    /// The profile's `strip`.
    strip: &'static str,
}

impl Variant {
    const SHIPPED: Self = Self { folder: "static", flags: &[], strip: "symbols" };
    const STRICT: Self = Self { folder: "strict", flags: &[], strip: "symbols" };
    const SYMBOLS: Self = Self { folder: "size", flags: &["-Csymbol-mangling-version=v0"], strip: "none" };
}

/// Runs cargo; gives the folder of the profile.
fn compile(target: &str, what: &[&str], variant: &Variant) -> Result<PathBuf> {
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_string(),
        // Paths of this machine are no part of the binary.
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
        .env("CARGO_PROFILE_RELEASE_STRIP", variant.strip)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")))?;
    Ok(folder.join(target).join("release"))
}

/// Chooses the toolchain.
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

/// A cargo and a rustc that have the standard library's source beside them; installs Debian's where none is there and we may.
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

/// A cargo that builds what it is told from the standard library's source.
pub(crate) fn cargo_with_source(cargo: &Path, rustc: &Path) -> std::process::Command {
    let mut command = command(cargo);
    command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
    if cargo.is_absolute() {
        command.env_remove("RUSTUP_TOOLCHAIN");
    }
    command
}

/// Flags for a standard library that is built from source, linked with musl from Debian's package.
fn source_flags(target: &str, rustc: &Path) -> Result<Vec<String>> {
    let target = Target::named(target)?;
    let musl = target.musl()?;
    // The start file of a static executable: one that relocates itself where it is position-independent.
    let start = musl.join(if target.is_position_independent(rustc)? { "rcrt1.o" } else { "crt1.o" });
    // With panic=immediate-abort nothing unwinds, but the `unwind` crate still names the library.
    let empty = root().join("target/static/empty");
    std::fs::create_dir_all(&empty)?;
    std::fs::write(empty.join("libunwind.a"), b"!<arch>\n")?;
    let host = output(command("rustc").args(["--print", "host-tuple"]))?;
    let sysroot = output(command("rustc").args(["--print", "sysroot"]))?;
    let linker = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
    if !linker.is_file() {
        bail!("{} is missing: a toolchain of rustup's brings it", linker.display());
    }
    let mut flags = vec![
        // A panic has nobody to read its message and nothing to unwind: no text, no unwinder.
        "-Zunstable-options".into(),
        "-Cpanic=immediate-abort".into(),
        // Nor is anybody there to walk the stack, or to read where a panic was or what a type looks like.
        "-Cforce-unwind-tables=no".into(),
        "-Zlocation-detail=none".into(),
        "-Zfmt-debug=none".into(),
        // musl's files come from the package, not from the toolchain.
        "-Clink-self-contained=no".into(),
        format!("-Clinker={}", linker.display()),
        "-Clinker-flavor=ld.lld".into(),
        // A thread's stack, where musl's default is 128 KiB: a compiler may build the compressor's 64 KiB there before it moves them. It is not there
        // until it is touched.
        "-Clink-arg=-zstack-size=524288".into(),
        format!("-Clink-arg={}", start.display()),
        format!("-Lnative={}", musl.display()),
        format!("-Lnative={}", empty.display()),
    ];
    flags.extend(target.unreached.iter().map(|symbol| format!("-Clink-arg=--defsym={symbol}=0")));
    Ok(flags)
}

/// Bytes that a binary may have, by target, each with its reason.
#[derive(serde::Deserialize)]
struct Budget {
    bytes: u64,
    reason: String,
}

/// Fails for a binary that is over its budget.
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

/// Fails for a binary that names an interpreter or needs a library.
fn check_static(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let faults = match object::FileKind::parse(&*bytes)? {
        object::FileKind::Elf64 => dynamic_parts::<elf::FileHeader64<Endianness>>(&bytes)?,
        object::FileKind::Elf32 => dynamic_parts::<elf::FileHeader32<Endianness>>(&bytes)?,
        other => bail!("{} is no ELF file but {other:?}", path.display()),
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
        // This test itself is linked with the C library of the host.
        let own = std::env::current_exe().unwrap();
        let error = check_static(&own).unwrap_err().to_string();
        assert!(error.contains("an interpreter") && error.contains("a needed library"), "{error}");
    }
}
