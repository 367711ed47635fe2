//! `image`: an OCI image layout (image-spec 1.1) of the binary alone, for one architecture or for all, as a tar archive that is loaded or pushed.
//!
//! The archive's index has one entry, an index of the architectures, which is how tools find one that fits. Docker's classic store does not read
//! indexes: for it there is a `manifest.json` that names the host's architecture. The same binaries give the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::build;
use crate::containers;
use crate::targets::{TARGETS, Target};
use crate::tools::{command, install, is_on_path, output, root, run};

/// Name and tag of the image.
pub(crate) fn reference() -> String {
    format!("emissary:{}", env!("CARGO_PKG_VERSION"))
}

/// Writes the archive and checks it; gives its path.
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

/// Content by its digest.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Adds it; gives its descriptor.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = hex(&bytes);
        let descriptor = json!({"mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": format!("sha256:{digest}"), "size": bytes.len()});
        self.0.insert(digest, bytes);
        descriptor
    }
}

/// SHA-256 in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar archive of root's files, in the given order, at the beginning of time.
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

/// Compressed by gzip, without a time.
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

/// Loads it as users do: Docker takes the host's architecture and runs it; skopeo copies all, which checks every digest, and picks each.
fn check(path: &Path, binaries: &[(&'static Target, PathBuf)]) -> Result<()> {
    if containers::is_available() {
        let loaded = output(command("docker").args(["load", "--quiet", "--input"]).arg(path))?;
        ensure!(loaded.contains(&reference()), "docker load says {loaded:?}");
        let ran = output(command("docker").args([
            "run",
            "--rm",
            "--read-only",
            "--network",
            "none",
            "--cap-drop",
            "ALL",
            &reference(),
            "version",
        ]))?;
        ensure!(ran == format!("emissary {}", env!("CARGO_PKG_VERSION")), "the loaded image says {ran:?}");
        println!("docker loads it and runs it");
        output(command("docker").args(["rmi", "--force", &reference()]))?;
    } else {
        println!("Docker does not answer: not loaded there");
    }
    if !is_on_path("skopeo")
        && let Err(error) = install(&["skopeo"], "skopeo is missing, which checks every architecture of the image")
    {
        println!("{error:#}\nGoing on without it.");
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
    println!("skopeo copies all of it, and finds each architecture's binary");
    Ok(())
}

/// Builds the image with users, /tmp and certificates; gives its name.
pub(crate) fn base() -> Result<String> {
    let name = format!("emissary-base:{}", env!("CARGO_PKG_VERSION"));
    let context = tempfile::tempdir()?;
    base_context(&build::build(None)?, context.path())?;
    docker_build(&name, "base.Dockerfile", context.path(), &[])?;
    println!("built {name}");
    Ok(name)
}

/// Puts together what `base.Dockerfile` copies.
pub(crate) fn base_context(binary: &Path, context: &Path) -> Result<()> {
    let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if !certificates.is_file() {
        install(&["ca-certificates"], "this system's certificates are missing")?;
    }
    std::fs::copy(certificates, context.join("ca-certificates.crt"))?;
    std::fs::copy(binary, context.join("emissary"))?;
    run(command("cp").args(["-r", "scratch-image/rootfs"]).arg(context))?;
    let tmp = context.join("rootfs/tmp");
    std::fs::create_dir(&tmp)?;
    std::fs::set_permissions(&tmp, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).context("cannot set the mode of tmp")
}

/// Builds an image of a Dockerfile in `scratch-image`.
pub(crate) fn docker_build(name: &str, dockerfile: &str, context: &Path, args: &[&str]) -> Result<()> {
    std::fs::copy(root().join("scratch-image").join(dockerfile), context.join("Dockerfile"))?;
    let mut build = command("docker");
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", name]);
    for arg in args {
        build.args(["--build-arg", arg]);
    }
    output(build.arg(context)).map(drop)
}
