//! The targets that are built: what Debian calls their architecture, where its musl lies, who runs them elsewhere.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::tools::{command, is_on_path, output, root, run};

/// One target.
pub(crate) struct Target {
    /// Its name for rustc.
    pub(crate) name: &'static str,
    /// Its architecture for Debian.
    debian: &'static str,
    /// Folder of Debian's musl below `/usr/lib`.
    musl: &'static str,
    /// Its emulator.
    qemu: &'static str,
    /// Symbols of an unwinder that std names for it and nothing reaches.
    pub(crate) unreached: &'static [&'static str],
}

/// All of them; the first is x86_64.
pub(crate) const TARGETS: [Target; 5] = [
    Target { name: "x86_64-unknown-linux-musl", debian: "amd64", musl: "x86_64-linux-musl", qemu: "qemu-x86_64-static", unreached: &[] },
    Target { name: "aarch64-unknown-linux-musl", debian: "arm64", musl: "aarch64-linux-musl", qemu: "qemu-aarch64-static", unreached: &[] },
    Target {
        name: "armv7-unknown-linux-musleabihf",
        debian: "armhf",
        musl: "arm-linux-musleabihf",
        qemu: "qemu-arm-static",
        unreached: &[],
    },
    Target {
        name: "powerpc64le-unknown-linux-musl",
        debian: "ppc64el",
        musl: "powerpc64le-linux-musl",
        qemu: "qemu-ppc64le-static",
        unreached: &["_Unwind_GetTextRelBase", "_Unwind_GetDataRelBase"],
    },
    Target { name: "s390x-unknown-linux-musl", debian: "s390x", musl: "s390x-linux-musl", qemu: "qemu-s390x-static", unreached: &[] },
];

impl Target {
    /// The target of that name.
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        let known = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
        TARGETS.iter().find(|target| target.name == name).with_context(|| format!("no target '{name}'; there are: {}", known()))
    }

    /// The folder of its musl: the installed one, else one that is unpacked below `target/`.
    pub(crate) fn musl(&self) -> Result<PathBuf> {
        let installed = Path::new("/usr/lib").join(self.musl);
        let unpacked = root().join("target/musl").join(self.debian);
        let folder = unpacked.join("usr/lib").join(self.musl);
        for folder in [&installed, &folder] {
            if folder.join("libc.a").is_file() {
                return Ok(folder.clone());
            }
        }
        self.unpack(&unpacked)?;
        if !folder.join("libc.a").is_file() {
            bail!("Debian's musl-dev for {} has no {}", self.debian, folder.join("libc.a").display());
        }
        Ok(folder)
    }

    /// Fetches Debian's `musl-dev` of this architecture and unpacks it. Nothing is installed, and the package lists are our own, so that the machine
    /// stays as it is; it takes no root.
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
        let apt = || {
            let mut apt = command("apt-get");
            apt.current_dir(into).arg("-qq");
            for option in [
                format!("Dir::State::Lists={}", state.join("lists").display()),
                format!("Dir::Cache={}", state.join("cache").display()),
                format!("APT::Architecture={}", self.debian),
                format!("APT::Architectures={}", self.debian),
                "APT::Sandbox::User=".to_string(),
                "Debug::NoLocking=true".to_string(),
            ] {
                apt.args(["-o", &option]);
            }
            apt
        };
        // One list of several may be out of order on its mirror; the download tells whether the one that matters is.
        if let Err(error) = run(apt().arg("update")) {
            println!("{error:#}; going on with what there is");
        }
        run(apt().args(["download", "musl-dev"]))?;
        let package = std::fs::read_dir(into)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get downloaded no package")?;
        run(command("dpkg-deb").arg("-x").arg(package).arg(into))
    }

    /// The program that runs a binary of this target here: nothing for our own, else an emulator.
    pub(crate) fn runner(&self, host: &str) -> Option<&'static str> {
        (self.name != host).then_some(self.qemu)
    }

    /// Whether rustc makes position-independent executables of static ones.
    pub(crate) fn is_position_independent(&self, rustc: &Path) -> Result<bool> {
        let mut rustc = command(rustc);
        rustc.env("RUSTC_BOOTSTRAP", "1").args(["-Zunstable-options", "--print", "target-spec-json", "--target", self.name]);
        let specification: serde_json::Value = serde_json::from_str(&output(&mut rustc)?)?;
        Ok(specification["static-position-independent-executables"] == true)
    }
}
