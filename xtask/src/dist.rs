//! `dist`: the files that are published: for each target an archive with binary, man page, licences and bill of materials; the image; the sums of all.
//!
//! The same sources give the same bytes: the files have no time, no owner and no path of this machine.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::build;
use crate::image::{self, gzip, hex, tar_of};
use crate::targets::TARGETS;
use crate::tools::{command, output, root};

/// Makes all of it in `dist/`.
pub(crate) fn dist(all: bool) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let folder = root().join("dist");
    let host = build::host_target()?;
    let mut sums = BTreeMap::new();
    for target in TARGETS.iter().filter(|target| all || target.name == host) {
        let binary = std::fs::read(build::build(Some(target.name.to_string()))?)?;
        let bill = serde_json::to_vec_pretty(&bill_of_materials(target.name, &binary)?)?;
        let top = format!("emissary-{version}-{}", target.name);
        let read = |path: &str| std::fs::read(root().join(path)).with_context(|| format!("cannot read {path}"));
        let (manual, mit, apache) = (read("docs/emissary.1")?, read("LICENSE-MIT")?, read("LICENSE-APACHE")?);
        let files: [(String, &[u8], u32); 5] = [
            (format!("{top}/emissary"), &binary, 0o755),
            (format!("{top}/emissary.1"), &manual, 0o644),
            (format!("{top}/LICENSE-APACHE"), &apache, 0o644),
            (format!("{top}/LICENSE-MIT"), &mit, 0o644),
            (format!("{top}/emissary.cdx.json"), &bill, 0o644),
        ];
        let archive = gzip(&tar_of(&files)?)?;
        let name = format!("{top}.tar.gz");
        std::fs::write(folder.join(&name), &archive)?;
        println!("{name}: {} bytes", archive.len());
        sums.insert(name, hex(&archive));
    }
    let path = image::image(all)?;
    let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
    sums.insert(name, hex(&std::fs::read(&path)?));
    let text: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    std::fs::write(folder.join("SHA256SUMS"), text)?;
    let checked = output(command("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&folder))?;
    ensure!(checked.is_empty(), "{checked}");
    println!("SHA256SUMS: {} files", sums.len());
    Ok(())
}

/// The bill of materials (CycloneDX 1.5): the crates that `cargo tree` resolves for this target. (Tools that use `cargo metadata` also name the crates
/// that only the features of the tests need.)
fn bill_of_materials(target: &str, binary: &[u8]) -> Result<Value> {
    let lock: toml::Table = toml::from_str(&std::fs::read_to_string(root().join("Cargo.lock"))?)?;
    let packages = lock["package"].as_array().context("Cargo.lock has no packages")?;
    let checksum = |name: &str, version: &str| {
        let found = packages.iter().find(|package| package["name"].as_str() == Some(name) && package["version"].as_str() == Some(version));
        found.and_then(|package| package.get("checksum")?.as_str().map(String::from))
    };
    let mut tree = command("cargo");
    tree.args(["tree", "--locked", "--package", "emissary", "--edges", "normal,no-proc-macro", "--target", target]);
    let tree = output(tree.args(["--prefix", "depth", "--no-dedupe", "--format", "|{p}|{l}|{r}"]))?;
    let (mut components, mut depends, mut stack) = (BTreeMap::new(), BTreeMap::<String, BTreeSet<String>>::new(), Vec::<String>::new());
    for line in tree.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let [depth, package, licence, repository] = fields[..] else { anyhow::bail!("cargo tree prints {line:?}") };
        let depth: usize = depth.parse()?;
        let (name, rest) = package.split_once(' ').context("no version")?;
        let version = rest.split(' ').next().unwrap_or_default().trim_start_matches('v');
        let reference = format!("pkg:cargo/{name}@{version}");
        let mut component = json!({
            "type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference,
            "licenses": [{"expression": licence.replace('/', " OR ")}],
        });
        if let Some(sum) = checksum(name, version) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
        }
        if !repository.is_empty() {
            component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
        }
        stack.truncate(depth);
        if let Some(parent) = stack.last() {
            depends.entry(parent.clone()).or_default().insert(reference.clone());
        }
        stack.push(reference.clone());
        depends.entry(reference.clone()).or_default();
        components.insert(reference, component);
    }
    let own = format!("pkg:cargo/emissary@{}", env!("CARGO_PKG_VERSION"));
    let mut main = components.remove(&own).context("cargo tree names no emissary")?;
    main["type"] = "application".into();
    main["hashes"] = json!([{"alg": "SHA-256", "content": hex(binary)}]);
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": main, "properties": [{"name": "cdx:rustc:sbom:target:triple", "value": target}]},
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": depends.into_iter().map(|(reference, on)| json!({"ref": reference, "dependsOn": on})).collect::<Vec<_>>(),
    }))
}
