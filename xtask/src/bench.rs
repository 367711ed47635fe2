//! `bench`: what it costs to be there, and how fast artifacts are saved, each beside its peers in the same run.
//!
//! Only ratios within a run mean anything: machines differ, and are noisy. Rounds of all peers are interleaved. Of starts the median counts; of archives
//! the best round, for whatever else runs only takes time away.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::build;
use crate::tools::{Random, command, install, is_on_path, output, root};

/// Memory that may be resident while a command is wrapped, in kB.
const MEMORY_LIMIT_KB: u64 = 200;

/// Rounds of starting each peer.
const START_ROUNDS: usize = 400;
/// Rounds of each archive.
const ARCHIVE_ROUNDS: usize = 3;
/// A peer that takes longer for a corpus is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an archive may not fall short of, beside its peers in the same run.
const BARS: [Bar; 8] = [
    Bar { corpus: "source text", cpus: 1, peer: GZIP, is: Is::Faster(1.9) },
    Bar { corpus: "source text", cpus: 2, peer: PIGZ, is: Is::Faster(1.6) },
    Bar { corpus: "source text", cpus: 1, peer: GZIP, is: Is::NoLarger(1.035) },
    Bar { corpus: "machine code", cpus: 1, peer: GZIP, is: Is::Faster(2.0) },
    Bar { corpus: "machine code", cpus: 2, peer: PIGZ, is: Is::Faster(1.6) },
    Bar { corpus: "machine code", cpus: 1, peer: GZIP, is: Is::NoLarger(1.035) },
    Bar { corpus: "noise", cpus: 1, peer: GZIP, is: Is::Faster(15.0) },
    Bar { corpus: "zeros", cpus: 1, peer: GZIP, is: Is::Faster(4.0) },
];

const GZIP: &str = "tar | gzip -6";
const PIGZ: &str = "tar | pigz -6";

struct Bar {
    corpus: &'static str,
    cpus: usize,
    peer: &'static str,
    is: Is,
}

enum Is {
    /// So many times as fast, at least.
    Faster(f64),
    /// An output of so many times the peer's bytes, at most.
    NoLarger(f64),
}

/// Bytes of a corpus.
const CORPUS_BYTES: usize = 64_000_000;

/// Gets programs that a comparison wants; those that cannot be had are left out and said.
fn peers(packages: &[(&str, &str)]) {
    let missing: Vec<&str> = packages.iter().filter(|(program, _)| !is_on_path(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty()
        && let Err(error) = install(&missing, "peers to compare with are missing")
    {
        println!("{error:#}\nGoing on without them.\n");
    }
}

/// Memory and start cost.
pub(crate) fn bench() -> Result<()> {
    let binary = build::build(None)?;
    peers(&[("tini", "tini"), ("dumb-init", "dumb-init"), ("catatonit", "catatonit")]);
    let scratch = tempfile::tempdir()?;
    let (pod, flat) = (scratch.path().join("pod"), scratch.path().join("flat"));
    fs::create_dir(&pod)?;
    fs::create_dir(&flat)?;
    fs::write(flat.join("template"), "{}")?;
    // The layout of a pod leaves the command's output alone unless it is asked for; the flat one keeps it.
    let emissary = |layout: &str, args: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(args).env("EMISSARY_DIR", if layout == "pod" { &pod } else { &flat }).env("EMISSARY_LAYOUT", layout);
        if layout == "pod" {
            command.env("ARGO_CONTAINER_NAME", "main");
        }
        command
    };
    output(emissary("pod", &["init", "--template"]).arg(flat.join("template")))?;
    type Wrap<'a> = Box<dyn Fn(&[&str]) -> Command + 'a>;
    let mut wraps: Vec<(String, u64, Wrap<'_>)> = vec![
        ("emissary".into(), fs::metadata(&binary)?.len(), Box::new(|args| emissary("pod", &[&["--"], args].concat()))),
        ("emissary, capturing".into(), 0, Box::new(|args| emissary("flat", &[&["--"], args].concat()))),
    ];
    for name in ["tini", "dumb-init", "catatonit"] {
        if let Some(path) = std::env::var_os("PATH")
            .and_then(|path| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file()))
        {
            let bytes = fs::metadata(&path)?.len();
            wraps.push((
                format!("{name} ({})", if is_static(&path)? { "static" } else { "dynamic" }),
                bytes,
                Box::new(move |args| {
                    let mut command = Command::new(&path);
                    // As the reaper that a container's first process is.
                    command.args((name == "tini").then_some("-s")).arg("--").args(args);
                    command
                }),
            ));
        }
    }

    println!("Start to end of `true`, {START_ROUNDS} rounds, interleaved; resident memory while `sleep` runs.\n");
    let mut times = vec![Vec::new(); wraps.len() + 1];
    for _ in 0..START_ROUNDS {
        times[0].push(timed(Command::new("/bin/true"))?);
        for (at, (.., wrap)) in wraps.iter().enumerate() {
            // A container runs once: a file system may sync what replaces an older file, which never happens there.
            for left in ["pod/ctr/main/exitcode", "flat/exitcode"] {
                let _ = fs::remove_file(scratch.path().join(left));
            }
            times[at + 1].push(timed(wrap(&["/bin/true"]))?);
        }
    }
    let bare = median(&mut times[0]);
    println!("| | bytes | `true`, µs | more than bare, µs | VmHWM, kB | Pss, kB |\n|---|---|---|---|---|---|");
    println!("| bare | | {} | | | |", bare.as_micros());
    let mut too_much = Vec::new();
    for ((name, bytes, wrap), times) in wraps.iter().zip(&mut times[1..]) {
        let time = median(times);
        let (high, proportional) = memory(wrap(&["/bin/sleep", "30"]))?;
        let bytes = if *bytes == 0 { String::new() } else { bytes.to_string() };
        println!("| {name} | {bytes} | {} | {} | {high} | {proportional} |", time.as_micros(), time.saturating_sub(bare).as_micros());
        if name.starts_with("emissary") && proportional > MEMORY_LIMIT_KB {
            too_much.push(format!("{name} has {proportional} kB"));
        }
    }
    ensure!(too_much.is_empty(), "more memory than {MEMORY_LIMIT_KB} kB: {}", too_much.join(", "));
    Ok(())
}

fn is_static(path: &Path) -> Result<bool> {
    let bytes = fs::read(path)?;
    let file = object::File::parse(&*bytes)?;
    Ok(object::Object::section_by_name(&file, ".interp").is_none())
}

fn timed(mut command: Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status()?;
    let took = began.elapsed();
    ensure!(status.success(), "{command:?}: {status}");
    Ok(took)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// VmHWM and Pss of a process that wraps `sleep`, in kB, once the sleep runs.
fn memory(mut command: Command) -> Result<(u64, u64)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let began = Instant::now();
    let sleeper = loop {
        let pids = fs::read_to_string(&children)?;
        if let Some(pid) = pids.split_whitespace().next()
            && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
        {
            break pid.to_string();
        }
        ensure!(began.elapsed() < Duration::from_secs(10), "{command:?} has started no sleep");
        std::thread::sleep(Duration::from_millis(5));
    };
    // It has gone back to waiting by then.
    std::thread::sleep(Duration::from_millis(50));
    let of = |file: &str, name: &str| -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", child.id()))?;
        let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("{file} has no {name}"))?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
    };
    let figures = (of("status", "VmHWM:")?, of("smaps_rollup", "Pss:")?);
    output(Command::new("kill").arg(&sleeper))?;
    child.wait()?;
    Ok(figures)
}

/// Archives of several kinds of data.
pub(crate) fn archive() -> Result<()> {
    let binary = build::build(None)?;
    peers(&[("pigz", "pigz"), ("gzip", "gzip"), ("tar", "tar"), ("taskset", "util-linux")]);
    let corpora = corpora()?;
    let cpus = std::thread::available_parallelism()?.get().min(2);
    println!("MB/s, best of {ARCHIVE_ROUNDS} rounds, interleaved; output by input; peak resident memory. CPUs by affinity.\n");
    // By corpus, CPUs and peer: the speed, and output by input.
    let mut figures: BTreeMap<(&str, usize, &str), (f64, f64)> = BTreeMap::new();
    println!("| corpus | CPUs | | MB/s | × `tar \\| gzip -6` | ratio | memory, kB |\n|---|---|---|---|---|---|---|");
    for (name, path) in &corpora {
        for cpus in 1..=cpus {
            let mut runs: Vec<(&str, Vec<Option<Saved>>)> = vec![("emissary", vec![]), (GZIP, vec![]), (PIGZ, vec![])];
            runs.retain(|(name, _)| !name.contains("pigz") || is_on_path("pigz"));
            for _ in 0..ARCHIVE_ROUNDS {
                for (peer, saved) in &mut runs {
                    // One that was given up is not asked again.
                    if saved.last().is_none_or(Option::is_some) {
                        saved.push(if *peer == "emissary" { Some(save(&binary, path, cpus)?) } else { piped(peer, path, cpus)? });
                    }
                }
            }
            let bytes = apparent_bytes(path)?;
            let speed = |saved: &mut Vec<Option<Saved>>| -> Option<(f64, Saved)> {
                let all: Vec<Saved> = saved.iter().copied().collect::<Option<_>>()?;
                let best = all.into_iter().min_by_key(|saved| saved.took)?;
                Some((bytes as f64 / best.took.as_secs_f64() / 1e6, best))
            };
            let gzip = speed(&mut runs[1].1).map(|(speed, _)| speed);
            for (name_of_peer, saved) in &mut runs {
                let peer = name_of_peer.replace('|', "\\|");
                match speed(saved) {
                    None => println!("| {name} | {cpus} | {peer} | given up after {} s | | | |", PATIENCE.as_secs()),
                    Some((speed, saved)) => {
                        let times = gzip.map_or(String::new(), |gzip| format!("{:.1}", speed / gzip));
                        let ratio = saved.bytes as f64 / bytes as f64;
                        figures.insert((*name, cpus, *name_of_peer), (speed, ratio));
                        println!("| {name} | {cpus} | {peer} | {speed:.0} | {times} | {ratio:.4} | {} |", saved.memory_kb);
                    }
                }
            }
        }
    }
    bars(&figures)
}

/// Prints what the bars ask for and what was measured; fails where one is not met. One whose peer was given up, or not there, is said and passed over.
fn bars(figures: &BTreeMap<(&str, usize, &str), (f64, f64)>) -> Result<()> {
    println!("\n| corpus | CPUs | beside | bar | measured |\n|---|---|---|---|---|");
    let mut missed = Vec::new();
    for bar in &BARS {
        let of = |peer| figures.get(&(bar.corpus, bar.cpus, peer)).copied();
        let asked = match bar.is {
            Is::Faster(least) => format!("speed ≥ {least:.1} ×"),
            Is::NoLarger(most) => format!("output ≤ {most:.3} ×"),
        };
        let (measured, is_met) = match (of("emissary"), of(bar.peer), &bar.is) {
            (Some(ours), Some(theirs), Is::Faster(least)) => (format!("{:.2}", ours.0 / theirs.0), ours.0 >= least * theirs.0),
            (Some(ours), Some(theirs), Is::NoLarger(most)) => (format!("{:.4}", ours.1 / theirs.1), ours.1 <= most * theirs.1),
            _ => ("not measured".into(), true),
        };
        println!("| {} | {} | {} | {asked} | {measured} |", bar.corpus, bar.cpus, bar.peer.replace('|', "\\|"));
        if !is_met {
            missed.push(format!("{} on {} CPUs: {measured}, {asked}", bar.corpus, bar.cpus));
        }
    }
    ensure!(missed.is_empty(), "bars that are not met (the machine has to be idle): {}", missed.join("; "));
    Ok(())
}

/// One archive.
#[derive(Clone, Copy)]
struct Saved {
    took: Duration,
    bytes: u64,
    memory_kb: u64,
}

/// The highest VmHWM of processes that is seen until they have ended, and whether they ended in time.
fn watch(children: &mut [&mut Child]) -> Result<Option<u64>> {
    let began = Instant::now();
    let mut high = vec![0; children.len()];
    loop {
        let mut running = false;
        for (child, high) in children.iter_mut().zip(&mut high) {
            if let Ok(text) = fs::read_to_string(format!("/proc/{}/status", child.id()))
                // Before it has become what it is to run, it is another program.
                && !text.starts_with("Name:\ttaskset\n")
                && let Some(line) = text.lines().find(|line| line.starts_with("VmHWM:"))
            {
                *high = line.split_whitespace().nth(1).context("no number")?.parse::<u64>()?.max(*high);
            }
            running |= child.try_wait()?.is_none();
        }
        if !running {
            return Ok(Some(high.iter().sum()));
        }
        if began.elapsed() > PATIENCE {
            for child in children {
                let _ = child.kill();
                child.wait()?;
            }
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn save(binary: &Path, path: &Path, cpus: usize) -> Result<Saved> {
    let scratch = tempfile::tempdir_in(root().join("target/bench"))?;
    let template = serde_json::json!({"outputs": {"artifacts": [{"name": "a", "path": path}]}});
    fs::write(scratch.path().join("template"), template.to_string())?;
    let began = Instant::now();
    let mut child = Command::new("taskset")
        .args(["-c", &affinity(cpus)])
        .arg(binary)
        .args(["--", "true"])
        .env("EMISSARY_DIR", scratch.path())
        .env("EMISSARY_LAYOUT", "flat")
        .spawn()?;
    let memory_kb = watch(&mut [&mut child])?.context("emissary took too long")?;
    let took = began.elapsed();
    ensure!(child.wait()?.success(), "emissary failed on {}", path.display());
    let archive = scratch.path().join("outputs/artifacts").join(path.strip_prefix("/")?);
    Ok(Saved { took, bytes: fs::metadata(format!("{}.tgz", archive.display()))?.len(), memory_kb })
}

fn affinity(cpus: usize) -> String {
    if cpus == 1 { "0".into() } else { format!("0-{}", cpus - 1) }
}

/// `tar | gzip -6` or the like; `None` where it was given up.
fn piped(words: &str, path: &Path, cpus: usize) -> Result<Option<Saved>> {
    let scratch = tempfile::tempdir_in(root().join("target/bench"))?;
    let to = scratch.path().join("archive");
    let (parent, name) = (path.parent().context("no parent")?, path.file_name().context("no name")?);
    let packer: Vec<&str> = words.split(" | ").nth(1).context("no packer")?.split(' ').collect();
    let began = Instant::now();
    let mut tar = Command::new("taskset")
        .args(["-c", &affinity(cpus), "tar", "-cf", "-", "-C"])
        .arg(parent)
        .arg(name)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut pack = Command::new("taskset")
        .args(["-c", &affinity(cpus)])
        .args(packer)
        .stdin(tar.stdout.take().context("no pipe")?)
        .stdout(fs::File::create(&to)?)
        .spawn()?;
    let Some(memory_kb) = watch(&mut [&mut tar, &mut pack])? else { return Ok(None) };
    let took = began.elapsed();
    ensure!(tar.wait()?.success() && pack.wait()?.success(), "{words} failed on {}", path.display());
    Ok(Some(Saved { took, bytes: fs::metadata(&to)?.len(), memory_kb }))
}

/// Bytes of all files below a path.
fn apparent_bytes(path: &Path) -> Result<u64> {
    let metadata = path.symlink_metadata()?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| apparent_bytes(&entry?.path())).sum()
}

/// The corpora, made where they are missing, below `target/bench`: source text and machine code of the toolchain and of the crates we use, noise,
/// zeros that are written, many small files, a sparse file.
fn corpora() -> Result<Vec<(&'static str, PathBuf)>> {
    let folder = root().join("target/bench/corpora");
    fs::create_dir_all(&folder)?;
    let made = |name: &'static str, make: &dyn Fn(&Path) -> Result<()>| -> Result<(&'static str, PathBuf)> {
        let path = folder.join(name.replace(' ', "-"));
        if !path.exists() {
            println!("making {}", path.display());
            let draft = path.with_extension("draft");
            let _ = fs::remove_dir_all(&draft);
            make(&draft)?;
            fs::rename(&draft, &path)?;
        }
        Ok((name, path))
    };
    Ok(vec![
        made("source text", &|path| Ok(fs::write(path, sources()?)?))?,
        made("machine code", &|path| {
            let sysroot = output(command("rustc").args(["--print", "sysroot"]))?;
            let library = fs::read_dir(Path::new(&sysroot).join("lib"))?
                .flatten()
                .map(|entry| entry.path())
                .find(|path| path.to_string_lossy().contains("librustc_driver"))
                .context("the toolchain has no librustc_driver")?;
            let mut bytes = fs::read(library)?;
            bytes.truncate(CORPUS_BYTES);
            Ok(fs::write(path, bytes)?)
        })?,
        made("noise", &|path| Ok(fs::write(path, noise(5 * CORPUS_BYTES))?))?,
        made("zeros", &|path| Ok(fs::write(path, vec![0; 5 * CORPUS_BYTES])?))?,
        made("100000 small files", &|path| {
            let text = sources()?;
            let mut rest = &text[..];
            for at in 0..100_000_usize {
                let sub = path.join(format!("{:03}", at / 100));
                fs::create_dir_all(&sub)?;
                let (now, later) = rest.split_at((200 + at * 7_919 % 900).min(rest.len()));
                rest = later;
                fs::write(sub.join(format!("{at:06}")), now)?;
            }
            Ok(())
        })?,
        made("10 GiB sparse", &|path| Ok(fs::File::create(path)?.set_len(10 << 30)?))?,
    ])
}

/// Sources of the crates that the workspace uses, one behind the other.
fn sources() -> Result<Vec<u8>> {
    let metadata = output(command("cargo").args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let mut text = Vec::new();
    let mut folders: Vec<PathBuf> = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?
        .iter()
        .filter_map(|package| Some(Path::new(package["manifest_path"].as_str()?).parent()?.join("src")))
        .collect();
    folders.sort();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            // Bindings are tables, and no text as people write it.
            let is_table = path.to_string_lossy().contains("bindings") || path.to_string_lossy().contains("windows");
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_table && text.len() < CORPUS_BYTES {
                text.extend_from_slice(&fs::read(&path)?);
            }
        }
    }
    text.truncate(CORPUS_BYTES);
    Ok(text)
}

/// Bytes without any order, the same each time.
fn noise(count: usize) -> Vec<u8> {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}
