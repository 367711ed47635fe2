//! `image`: an OCI image layout (image-spec 1.1) that holds the binary alone, for one architecture or for all. The layout is a tar archive, which people
//! load or push.
//!
//! The index of the archive has one entry, an index of the architectures; tools pick the architecture that fits. Docker's classic store does not read
//! indexes, so a `manifest.json` names the image of the host's architecture. The same binaries give the same bytes.
//!
//! The documents are written with `json!`. The types of the crate oci-spec would add 18 CPU seconds to the 25 of xtask's first build, 25 crates and a
//! second version of syn; and their maps have no order, so two labels would give other bytes each time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::build;
use crate::docker;
use crate::targets::{TARGETS, Target};
use crate::tools::{command, install, is_on_path, output, root, run};

/// Name and tag of the image.
pub(crate) fn reference() -> String {
    format!("emissary:{}", env!("CARGO_PKG_VERSION"))
}

/// Writes the archive, checks it, returns its path.
pub(crate) fn image(all: bool) -> Result<PathBuf> {
    let host = build::host_target()?;
    let mut binaries = Vec::new();
    for target in TARGETS.iter().filter(|target| all || target.name == host) {
        binaries.push((target, build::build(Some(target.name.to_string()))?));
    }
    let name = if all { "emissary-image.tar".to_string() } else { format!("emissary-image-{host}.tar") };
    let path = root().join("dist").join(name);
    std::fs::write(&path, archive(&binaries, &host)?).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}: {} architectures", path.display(), binaries.len());
    check(&path, &binaries)?;
    Ok(path)
}

/// Contents, each under its digest.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Adds a content and returns its descriptor.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = hex(&bytes);
        let descriptor = json!({"mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": format!("sha256:{digest}"), "size": bytes.len()});
        self.0.insert(digest, bytes);
        descriptor
    }
}

/// The SHA-256 of the bytes, in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar archive of these files, in the given order. Their owner is root and their time is 0.
pub(crate) fn tar_of(files: &[(String, &[u8], u32)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, *bytes)?;
    }
    Ok(builder.into_inner()?)
}

/// The bytes compressed by gzip. The header has no time.
pub(crate) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, bytes)?;
    Ok(encoder.finish()?)
}

fn archive(binaries: &[(&'static Target, PathBuf)], host: &str) -> Result<Vec<u8>> {
    let mut blobs = Blobs::default();
    let (mut manifests, mut classic) = (Vec::new(), Value::Null);
    let path_of = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        format!("blobs/{}", digest.replace(':', "/"))
    };
    for (target, binary) in binaries {
        let bytes = std::fs::read(binary)?;
        let layer = tar_of(&[("emissary".into(), &bytes, 0o755)])?;
        let (architecture, variant) = target.platform;
        let mut config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"User": "65534:65534", "Entrypoint": ["/emissary"], "Labels": {"org.opencontainers.image.version": env!("CARGO_PKG_VERSION"), "org.opencontainers.image.licenses": "MIT OR Apache-2.0"}},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
        });
        let mut platform = json!({"architecture": architecture, "os": "linux"});
        if let Some(variant) = variant {
            config["variant"] = variant.into();
            platform["variant"] = variant.into();
        }
        let layer = blobs.add("layer.v1.tar+gzip", gzip(&layer)?);
        let config = blobs.add("config.v1+json", serde_json::to_vec(&config)?);
        if target.name == host {
            classic = json!([{"Config": path_of(&config), "RepoTags": [reference()], "Layers": [path_of(&layer)]}]);
        }
        let manifest =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer]});
        let mut manifest = blobs.add("manifest.v1+json", serde_json::to_vec(&manifest)?);
        manifest["platform"] = platform;
        manifests.push(manifest);
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    let mut index = blobs.add("index.v1+json", serde_json::to_vec(&index)?);
    index["annotations"] = json!({"org.opencontainers.image.ref.name": reference()});
    let top = serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [index]}))?;
    let classic = serde_json::to_vec(&classic)?;
    let mut files: Vec<(String, &[u8], u32)> =
        vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644), ("index.json".into(), &top, 0o644)];
    files.extend(blobs.0.iter().map(|(digest, bytes)| (format!("blobs/sha256/{digest}"), &bytes[..], 0o644)));
    files.push(("manifest.json".into(), &classic, 0o644));
    tar_of(&files)
}

/// Loads the archive as users do. Docker loads the host's architecture and runs it. skopeo copies all architectures, which checks every digest, and then
/// picks each of them.
fn check(path: &Path, binaries: &[(&'static Target, PathBuf)]) -> Result<()> {
    if docker::is_available() {
        let loaded = output(command("docker").args(["load", "--quiet", "--input"]).arg(path))?;
        ensure!(loaded.contains(&reference()), "docker load says {loaded:?}");
        let ran = output(docker::hardened().args([&reference(), "version"]))?;
        ensure!(ran == format!("emissary {}", env!("CARGO_PKG_VERSION")), "the loaded image says {ran:?}");
        println!("Docker loads the image and runs it");
        docker::remove(&reference())?;
    } else {
        println!("skip  Docker does not answer: the image was not loaded");
    }
    if !is_on_path("skopeo")
        && let Err(error) = install(&["skopeo"], "skopeo is missing, which checks every architecture of the image")
    {
        println!("{error:#}\nskip  the check by skopeo");
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let policy = scratch.path().join("policy.json");
    std::fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
    let from = format!("oci-archive:{}", path.display());
    let copy = || {
        let mut skopeo = command("skopeo");
        skopeo.arg("--policy").arg(&policy);
        skopeo
    };
    run(copy().args(["copy", "--quiet", "--all", &from]).arg(format!("dir:{}", scratch.path().join("all").display())))?;
    for (target, binary) in binaries {
        let (architecture, variant) = target.platform;
        let into = scratch.path().join(architecture);
        let mut skopeo = copy();
        skopeo.args(["--override-arch", architecture]);
        if let Some(variant) = variant {
            skopeo.args(["--override-variant", variant]);
        }
        run(skopeo.args(["copy", "--quiet", &from]).arg(format!("dir:{}", into.display())))?;
        let manifest: Value = serde_json::from_slice(&std::fs::read(into.join("manifest.json"))?)?;
        let digest = manifest["layers"][0]["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).context("no layer")?;
        let layer = std::fs::File::open(into.join(digest))?;
        let mut layer = tar::Archive::new(flate2::read::GzDecoder::new(layer));
        let mut entry = layer.entries()?.next().context("an empty layer")??;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes)?;
        ensure!(bytes == std::fs::read(binary)?, "the image for {architecture} has another binary");
    }
    println!("skopeo copies the image and finds the binary of each architecture");
    Ok(())
}

/// The default name and tag of the base image.
pub(crate) fn base_reference() -> String {
    format!("emissary-base:{}", env!("CARGO_PKG_VERSION"))
}

/// Builds the image with users, /tmp and certificates under this name.
pub(crate) fn base(name: &str) -> Result<()> {
    let context = tempfile::tempdir()?;
    base_context(&build::build(None)?, context.path())?;
    docker::build(name, &root().join("scratch-image/base.Dockerfile"), context.path(), &[])?;
    println!("built {name}");
    Ok(())
}

/// Copies what `base.Dockerfile` needs into its context.
fn base_context(binary: &Path, context: &Path) -> Result<()> {
    let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if !certificates.is_file() {
        install(&["ca-certificates"], "the certificates of this system are missing")?;
    }
    std::fs::copy(certificates, context.join("ca-certificates.crt"))?;
    std::fs::copy(binary, context.join("emissary"))?;
    run(command("cp").args(["-r", "scratch-image/rootfs"]).arg(context))?;
    let tmp = context.join("rootfs/tmp");
    std::fs::create_dir(&tmp)?;
    std::fs::set_permissions(&tmp, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).context("cannot set the mode of tmp")
}
