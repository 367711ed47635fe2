//! The targets of the binary: Debian's name for the architecture, the folder of Debian's musl, the emulator.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::tools::{command, install, is_on_path, output, root, run};

/// One target.
pub(crate) struct Target {
    /// rustc's name for the target.
    pub(crate) name: &'static str,
    /// Debian's name for the architecture.
    debian: &'static str,
    /// The folder of Debian's musl below `/usr/lib`.
    musl: &'static str,
    /// Architecture and variant in the platform of an image (image-spec; Go's GOARCH and GOARM).
    pub(crate) platform: (&'static str, Option<&'static str>),
    /// The emulator.
    qemu: &'static str,
    /// Symbols of an unwinder that std names for this target and no code reaches.
    pub(crate) unreached: &'static [&'static str],
}

/// All targets; the first is x86_64.
pub(crate) const TARGETS: [Target; 6] = [
    Target {
        name: "x86_64-unknown-linux-musl",
        debian: "amd64",
        platform: ("amd64", None),
        musl: "x86_64-linux-musl",
        qemu: "qemu-x86_64-static",
        unreached: &[],
    },
    Target {
        name: "aarch64-unknown-linux-musl",
        debian: "arm64",
        platform: ("arm64", Some("v8")),
        musl: "aarch64-linux-musl",
        qemu: "qemu-aarch64-static",
        unreached: &[],
    },
    Target {
        name: "armv7-unknown-linux-musleabihf",
        debian: "armhf",
        platform: ("arm", Some("v7")),
        musl: "arm-linux-musleabihf",
        qemu: "qemu-arm-static",
        unreached: &[],
    },
    Target {
        name: "riscv64gc-unknown-linux-musl",
        debian: "riscv64",
        platform: ("riscv64", None),
        musl: "riscv64-linux-musl",
        qemu: "qemu-riscv64-static",
        unreached: &[],
    },
    Target {
        name: "powerpc64le-unknown-linux-musl",
        debian: "ppc64el",
        platform: ("ppc64le", None),
        musl: "powerpc64le-linux-musl",
        qemu: "qemu-ppc64le-static",
        unreached: &["_Unwind_GetTextRelBase", "_Unwind_GetDataRelBase"],
    },
    Target {
        name: "s390x-unknown-linux-musl",
        debian: "s390x",
        platform: ("s390x", None),
        musl: "s390x-linux-musl",
        qemu: "qemu-s390x-static",
        unreached: &[],
    },
];

impl Target {
    /// Finds the target with this name.
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        let known = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
        TARGETS.iter().find(|target| target.name == name).with_context(|| format!("no target '{name}'; there are: {}", known()))
    }

    /// The folder with the target's musl: the installed one, else one below `target/`, which this function fills.
    pub(crate) fn musl(&self) -> Result<PathBuf> {
        let installed = Path::new("/usr/lib").join(self.musl);
        let unpacked = root().join("target/musl").join(self.debian);
        let folder = unpacked.join("usr/lib").join(self.musl);
        for folder in [&installed, &folder] {
            if folder.join("libc.a").is_file() {
                return Ok(folder.clone());
            }
        }
        if let Err(error) = self.unpack(&unpacked) {
            // Debian 12 has no musl-dev for riscv64.
            println!("{error:#}; compiling musl from Debian's source instead");
            self.compile(&unpacked, &folder)?;
        }
        if !folder.join("libc.a").is_file() {
            bail!("Debian's musl-dev for {} has no {}", self.debian, folder.join("libc.a").display());
        }
        Ok(folder)
    }

    /// Fetches Debian's `musl-dev` for this architecture and unpacks it. It installs nothing and uses its own package lists, so the machine stays as it is,
    /// and it does not need root.
    fn unpack(&self, into: &Path) -> Result<()> {
        if !is_on_path("apt-get") || !is_on_path("dpkg-deb") {
            bail!(
                "musl for {} is missing, and there is no apt-get to fetch Debian's musl-dev:{} with. Unpack that package's files in {}",
                self.name,
                self.debian,
                into.display()
            );
        }
        println!("musl for {} is missing; unpacking Debian's musl-dev:{} in {}", self.name, self.debian, into.display());
        std::fs::create_dir_all(into)?;
        let state = root().join("target/musl/apt");
        std::fs::create_dir_all(state.join("lists/partial"))?;
        std::fs::create_dir_all(state.join("cache/archives/partial"))?;
        let apt = || apt(into, &state, &[format!("APT::Architecture={}", self.debian), format!("APT::Architectures={}", self.debian)]);
        // A mirror may lack one of several lists. The download fails if that list is needed.
        if let Err(error) = run(apt().arg("update")) {
            println!("{error:#}; going on with the lists that are there");
        }
        run(apt().args(["download", "musl-dev"]))?;
        let package = std::fs::read_dir(into)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get downloaded no package")?;
        run(command("dpkg-deb").arg("-x").arg(package).arg(into))
    }

    /// Fetches the source of Debian's musl and Debian's cross compiler, unpacks both without installing them, and compiles the files that are linked:
    /// `libc.a` and `crt1.o`. It does not need root.
    fn compile(&self, into: &Path, folder: &Path) -> Result<()> {
        let (arch, _) = self.musl.split_once('-').context("no architecture")?;
        let gnu = format!("{arch}-linux-gnu");
        for (program, package) in [("make", "make"), ("gcc", "gcc"), ("ar", "binutils")] {
            if !is_on_path(program) {
                install(&[package], &format!("{program} is missing, which compiles musl"))?;
            }
        }
        // The cross compilers of a Debian release have the version of its own compiler.
        let version = output(command("gcc").arg("-dumpversion"))?;
        let host = output(command("gcc").arg("-print-multiarch"))?;
        let (state, get, source) = (into.join("apt"), into.join("get"), into.join("source"));
        for folder in [&state.join("lists/partial"), &state.join("cache/archives/partial"), &get, &source] {
            std::fs::create_dir_all(folder)?;
        }
        // The list is our own, since that of the machine may have no sources.
        let release = std::fs::read_to_string("/etc/os-release")?;
        let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).context("this Debian has no code name")?;
        let known =
            output(command("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"]))?;
        let mirror = known
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find_map(|words| (words.get(1..) == Some(&[codename, "main"])).then(|| words[0].to_string()))
            .context("apt-get knows no mirror of this Debian (`apt-get update`)")?;
        let signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
        let list = state.join("sources.list");
        std::fs::write(&list, format!("deb {signed} {mirror} {codename} main\ndeb-src {signed} {mirror} {codename} main\n"))?;
        let apt =
            || apt(&get, &state, &[format!("Dir::Etc::SourceList={}", list.display()), "Dir::Etc::SourceParts=/dev/null".to_string()]);
        run(apt().arg("update"))?;
        run(apt().args(["source", "--download-only", "musl"]))?;
        let compiler = [format!("gcc-{version}-{gnu}"), format!("cpp-{version}-{gnu}"), format!("binutils-{gnu}")];
        run(apt().arg("download").args(&compiler))?;
        let cross = into.join("cross");
        for entry in std::fs::read_dir(&get)?.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".deb") {
                run(command("dpkg-deb").arg("-x").arg(path).arg(&cross))?;
            } else if name.contains(".orig.tar") && !name.ends_with(".asc") {
                run(command("tar").arg("-xf").arg(path).arg("-C").arg(&source).arg("--strip-components=1"))?;
            }
        }
        // The libraries of the unpacked assembler.
        let libraries = cross.join("usr/lib").join(host);
        let compiler = cross.join("usr/bin").join(format!("{gnu}-gcc-{version}"));
        let make = |program: &Path, args: &[&str]| {
            let mut command = command(program);
            command
                .current_dir(&source)
                .env("LD_LIBRARY_PATH", &libraries)
                .env("CC", &compiler)
                .env("AR", "ar")
                .env("RANLIB", "ranlib")
                .args(args);
            output(&mut command)
        };
        make(&source.join("configure"), &[&format!("--target={arch}"), "--disable-shared"])?;
        make(Path::new("make"), &["-s", "-j2", "lib/libc.a", "lib/crt1.o"])?;
        std::fs::create_dir_all(folder)?;
        // The library comes last: where it is, the other file is too.
        for file in ["crt1.o", "libc.a"] {
            std::fs::copy(source.join("lib").join(file), folder.join(file))?;
        }
        Ok(())
    }

    /// The emulator that runs a binary of this target; `None` if the target is that of this machine.
    pub(crate) fn runner(&self, host: &str) -> Option<&'static str> {
        (self.name != host).then_some(self.qemu)
    }

    /// Whether rustc makes static executables position-independent.
    pub(crate) fn is_position_independent(&self, rustc: &Path) -> Result<bool> {
        let mut rustc = command(rustc);
        rustc.env("RUSTC_BOOTSTRAP", "1").args(["-Zunstable-options", "--print", "target-spec-json", "--target", self.name]);
        let specification: serde_json::Value = serde_json::from_str(&output(&mut rustc)?)?;
        Ok(specification["static-position-independent-executables"] == true)
    }
}

/// An apt-get with its own lists and cache below `state`: the machine stays as it is, and it does not need root.
fn apt(folder: &Path, state: &Path, more: &[String]) -> Command {
    let mut apt = command("apt-get");
    apt.current_dir(folder).arg("-qq");
    let own = [
        format!("Dir::State::Lists={}", state.join("lists").display()),
        format!("Dir::Cache={}", state.join("cache").display()),
        "APT::Sandbox::User=".to_string(),
        "Debug::NoLocking=true".to_string(),
        "Acquire::Languages=none".to_string(),
    ];
    for option in own.iter().chain(more) {
        apt.args(["-o", option]);
    }
    apt
}
