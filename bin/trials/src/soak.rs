//! The trial `soak`: plays random pods, several at once, and compares each with a model. Nothing may leak.
//!
//! Enters: the binary, a time in minutes, and a seed. Leaves: a summary. Refuses: a pod that ends otherwise than the model says, and a leak. It follows
//! docs/protocol.md.
//!
//! A pod is an init, one to three main containers, and a wait container, all on one volume. The containers have dependencies, retries, outputs, and signals
//! that arrive by file or directly at the process. Some pods have a fault: an emissary that is killed and started again, a signal file with rubbish, an output
//! that is missing or cannot be saved. The model derives from the random draw how each container must end. Afterwards no process and no draft file may be left.
//! One steady pod runs beside them the whole time, and its memory and its number of descriptors must not grow.
//!
//! The program prints the seed. Pod N of seed S is the first pod of seed S + N, so `--seed` plays a failed pod again.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// The longest time that a pod may take. No pod has more than a second or two of work.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most memory that a waiting emissary may have, in kB: the templates and buffers of a pod, and some room.
const MEMORY_LIMIT_KB: u64 = 600;

/// Starts new pods for this many minutes. The seed is `seed`, or the time of day.
pub(crate) fn soak(binary: &Path, minutes: f64, seed: Option<u64>) -> Result<()> {
    let seed = seed.unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_secs()));
    println!("seed {seed}");
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(minutes * 60.0);
    let next = AtomicU64::new(0);
    let failed: Mutex<Option<(u64, anyhow::Error)>> = Mutex::new(None);
    let workers = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    let signals = std::thread::scope(|scope| {
        let steady = scope.spawn(|| steady(binary, until));
        for _ in 0..workers {
            scope.spawn(|| {
                while Instant::now() < until && failed.lock().is_ok_and(|failed| failed.is_none()) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = play(binary, &mut Rng::with_seed(seed.wrapping_add(number))) {
                        let _ = failed.lock().map(|mut failed| failed.get_or_insert((number, error)).0);
                    }
                }
            });
        }
        steady.join().map_err(|_| anyhow!("the steady pod panicked"))?
    });
    if let Some((number, error)) = failed.into_inner()? {
        bail!("pod {number} of seed {seed}: {error:#}\n`cargo xtask soak --seed {}` plays this pod first", seed.wrapping_add(number));
    }
    let signals = signals.context("the steady pod")?;
    // The processes that the command of a killed emissary has started end a moment later.
    let ended = Instant::now();
    loop {
        let left = processes()?;
        if left.is_empty() {
            break;
        }
        ensure!(ended.elapsed() < Duration::from_secs(5), "processes are left: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{} pods in {} s, {workers} at once; {signals} signals to the steady pod", next.into_inner(), began.elapsed().as_secs());
    Ok(())
}

/// The first part of the folder names of all pods of this process.
fn prefix() -> String {
    format!("emissary-soak-{}-", std::process::id())
}

/// The command lines of the processes that our pods have started. Each process has the folder of its pod in its environment.
fn processes() -> Result<Vec<String>> {
    let prefix = prefix();
    let is_ours = |text: Vec<u8>| text.windows(prefix.len()).any(|window| window == prefix.as_bytes());
    Ok(fs::read_dir("/proc")?
        .flatten()
        .filter(|entry| fs::read(entry.path().join("environ")).is_ok_and(is_ours))
        .map(|entry| fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " "))
        .collect())
}

/// Memory (kB) and number of descriptors of an idle process. The function takes the smallest of ten measurements, because the process may be busy for a moment.
fn usage(pid: u32) -> Result<(u64, usize)> {
    let mut least = (u64::MAX, usize::MAX);
    for _ in 0..10 {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let memory: Option<u64> = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        least = (least.0.min(memory.context("no VmRSS")?), least.1.min(descriptors));
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(least)
}

/// Plays one pod the whole time. Its command gets signal files, some with rubbish, and makes orphans and output again and again. Its wait container follows the
/// logs. At the end, neither side may have more memory or descriptors than after 200 signals. Returns the number of signals.
fn steady(binary: &Path, until: Instant) -> Result<u64> {
    let folder = tempfile::Builder::new().prefix(&prefix()).tempdir()?;
    let shared = folder.path().join("shared");
    fs::create_dir(&shared)?;
    fs::write(shared.join("template"), r#"{"archiveLocation": {"archiveLogs": true}}"#)?;
    let emissary = || {
        let mut command = Command::new(binary);
        command.env("EMISSARY_DIR", &shared).env("EMISSARY_LAYOUT", "pod").env("ARGO_CONTAINER_NAME", "main");
        command.env("READY", folder.path().join("ready")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let script = "trap 'echo a line of output; (sleep 0.01 &)' USR1; trap 'exit 3' TERM; : >$READY; while :; do sleep 0.01; done";
    let mut running = Running(vec![emissary().args(["--", "sh", "-c", script]).spawn()?, emissary().args(["wait", "--follow"]).spawn()?]);
    let (signal, draft) = (shared.join("ctr/main/signal"), shared.join("ctr/main/draft"));
    let leave = |text: &str| -> Result<()> {
        fs::write(&draft, text)?;
        Ok(fs::rename(&draft, &signal)?)
    };
    while !folder.path().join("ready").exists() {
        ensure!(running.0[0].try_wait()?.is_none(), "the steady pod has ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut count, mut before) = (0, None);
    while Instant::now() < until {
        leave(if count % 7 == 3 { "rubbish" } else { "USR1" })?;
        count += 1;
        let left = Instant::now();
        while signal.exists() {
            ensure!(left.elapsed() < PATIENCE, "emissary does not take signal {count}");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(2));
        if count == 200 {
            before = Some([usage(running.0[0].id())?, usage(running.0[1].id())?]);
        }
    }
    let after = [usage(running.0[0].id())?, usage(running.0[1].id())?];
    for (before, after) in before.unwrap_or(after).iter().zip(after) {
        ensure!(after.1 <= before.1, "{} descriptors, and {} after {count} signals", before.1, after.1);
        ensure!(after.0 <= before.0 + 16, "{} kB of memory, and {} after {count} signals", before.0, after.0);
    }
    leave("TERM")?;
    for (child, what) in running.0.iter_mut().zip(["the steady pod", "its wait side"]) {
        let left = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            ensure!(left.elapsed() < PATIENCE, "{what} does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        ensure!(status.code() == Some(3), "{what} ended with {status}");
    }
    Ok(count)
}

/// How a container's command ends.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    /// The command exits with this code.
    Code(u8),
    /// The command catches a signal and exits. The signal arrives by file, or directly at emissary's process.
    Caught { by_file: bool },
    /// A signal ends the command, which does not catch it.
    Killed { by_file: bool },
}

struct Container {
    name: String,
    end: End,
    lines: u64,
    depends: Option<String>,
    /// The first `early` attempts fail with [`EARLY`]. The next one ends as `end` says.
    early: u64,
}

/// The exit code of an attempt that emissary must repeat.
const EARLY: u8 = 9;

impl Container {
    /// The exit code if the container runs at all, and the number of attempts.
    fn outcome(&self, attempts: u64) -> (i32, u64) {
        match self.end {
            _ if self.early >= attempts => (EARLY.into(), attempts),
            End::Code(0) => (0, self.early + 1),
            End::Code(code) => (code.into(), attempts),
            End::Caught { .. } => (42, self.early + 1),
            // Emissary does not repeat an attempt that was asked to end.
            End::Killed { .. } => (128 + 15, self.early + 1),
        }
    }
}

/// What goes wrong in the container `main` of a pod.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    /// The container's emissary gets SIGKILL. `soak` starts another one, as a kubelet would do.
    Killed,
    /// The signal file names no signal.
    Rubbish,
    /// The command does not create the file of the parameter.
    Missing,
    /// The command creates a named pipe instead of the parameter's file.
    Unsavable,
}

/// Returns `true` with a probability of `percent` in a hundred.
fn chance(random: &mut Rng, percent: u8) -> bool {
    random.u8(..100) < percent
}

/// Plays one random pod and compares it with the model.
fn play(binary: &Path, random: &mut Rng) -> Result<()> {
    let folder = tempfile::Builder::new().prefix(&prefix()).tempdir()?;
    let (shared, work) = (folder.path().join("shared"), folder.path().join("work"));
    fs::create_dir(&shared)?;
    fs::create_dir(&work)?;
    let count = random.usize(1..=3);
    let mut containers: Vec<Container> = Vec::new();
    for at in 0..count {
        let end = match random.u8(..6) {
            0 => End::Caught { by_file: chance(random, 50) },
            1 => End::Killed { by_file: chance(random, 50) },
            2 => End::Code(random.u8(1..=120)),
            _ => End::Code(0),
        };
        let depends = (at > 0 && chance(random, 40)).then(|| containers[0].name.clone());
        let name = if at + 1 == count { "main".to_string() } else { format!("c{at}") };
        containers.push(Container { name, end, lines: random.u64(..400), depends, early: 0 });
    }
    let fault = match random.u8(..12) {
        0 => Fault::Killed,
        1 => Fault::Rubbish,
        2 => Fault::Missing,
        3 => Fault::Unsavable,
        _ => Fault::None,
    };
    // A caught signal ends one attempt, and the command of the next attempt would wait for another signal. After a second start, emissary counts the attempts
    // from 0.
    let may_retry = fault != Fault::Killed && containers.iter().all(|container| !matches!(container.end, End::Caught { .. }));
    let attempts = if may_retry && chance(random, 40) { random.u64(1..=3) } else { 1 };
    if attempts > 1 {
        containers.iter_mut().for_each(|container| container.early = random.u64(..attempts + 2).saturating_sub(1));
    }
    let has_parameter = chance(random, 70) || matches!(fault, Fault::Missing | Fault::Unsavable);
    let artifact_bytes = chance(random, 70).then(|| random.u64(..600_000));
    let mut outputs = json!({});
    if has_parameter {
        outputs["parameters"] = json!([{"name": "p", "valueFrom": {"path": work.join("p")}}]);
    }
    if artifact_bytes.is_some() {
        outputs["artifacts"] = json!([{"name": "o", "path": work.join("o")}]);
    }
    let set: Vec<_> = containers
        .iter()
        .map(|container| json!({"name": container.name, "dependencies": container.depends.iter().collect::<Vec<_>>()}))
        .collect();
    let retries = json!({"retries": attempts, "duration": "10ms"});
    let set = json!({"containers": set, "retryStrategy": retries});
    let template = json!({"name": "soak", "archiveLocation": {"archiveLogs": true}, "containerSet": set, "outputs": outputs});

    let emissary = |name: &str| {
        let mut command = Command::new(binary);
        command.env("EMISSARY_DIR", &shared).env("EMISSARY_LAYOUT", "pod").env("ARGO_CONTAINER_NAME", name);
        command.env("ARGO_TEMPLATE", template.to_string()).env("WORK", &work).env("EMISSARY_TERMINATION_LOG", "/nowhere");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let init = emissary("init").arg("init").output()?;
    ensure!(init.status.success(), "init: {}", String::from_utf8_lossy(&init.stderr));
    // The containers of a pod start in any order, so the wait container starts first or last. If main is killed, the wait container starts last: otherwise it
    // would report the killed emissary.
    let wait_first = chance(random, 50) && fault != Fault::Killed;
    let start_wait =
        || -> Result<Child> { Ok(emissary("wait").args(["wait", "--json", "--timeout", "50s"]).stdout(Stdio::piped()).spawn()?) };
    let mut wait = Running(if wait_first { vec![start_wait()?] } else { Vec::new() });
    let mut running = Running(Vec::new());
    // A command that waits for its signal first creates the file NAME.`ready`.
    let start = |container: &Container, ready: &str| {
        let Container { name, lines, early, .. } = container;
        let parameter = match fault {
            Fault::Missing => "",
            Fault::Unsavable => "[ -p $WORK/p ] || mkfifo $WORK/p;",
            _ => "echo v >$WORK/p;",
        };
        let outputs = if name == "main" {
            format!("{parameter} head -c {} /dev/urandom >$WORK/o;", artifact_bytes.unwrap_or(0))
        } else {
            String::new()
        };
        let early = if *early > 0 {
            let count = format!("$WORK/{name}.n");
            format!("n=$(cat {count} 2>/dev/null || echo 0); echo $((n + 1)) >{count}; [ $n -ge {early} ] || exit {EARLY};")
        } else {
            String::new()
        };
        let end = match container.end {
            End::Code(code) => format!("exit {code}"),
            End::Caught { .. } => format!("trap 'exit 42' USR1; touch $WORK/{name}.{ready}; while :; do sleep 0.02; done"),
            End::Killed { .. } => format!("touch $WORK/{name}.{ready}; while :; do sleep 0.02; done"),
        };
        let script = format!("for i in $(seq {lines}); do echo line $i; done; {outputs} {early} {end}");
        emissary(name).args(["--", "sh", "-c", &script]).spawn()
    };
    for container in &containers {
        // The first command of a killed emissary may live on, so it creates a file of another name.
        let is_killed = fault == Fault::Killed && container.name == "main";
        running.0.push(start(container, if is_killed { "early" } else { "ready" })?);
    }
    let main = containers.last().context("a container")?;
    if fault == Fault::Rubbish {
        let own = shared.join("ctr/main");
        fs::create_dir_all(&own)?;
        fs::write(own.join("new"), "rubbish")?;
        fs::rename(own.join("new"), own.join("signal"))?;
    }
    if fault == Fault::Killed {
        std::thread::sleep(Duration::from_millis(random.u64(..60)));
        let killed = running.0.last_mut().context("a container")?;
        killed.kill()?;
        killed.wait()?;
        *killed = start(main, "ready")?;
        // When the second start holds its lock, the lock and the exit code of the first start are gone.
        until_it_has_begun(&shared.join("ctr/main"), killed)?;
    }
    if !wait_first {
        wait.0.push(start_wait()?);
    }
    let codes = follow(&containers, &mut running.0, &work, &emissary, &mut wait.0[0])?;
    // The exit code that each container must have.
    let main_ran = main.depends.is_none() || codes[0] == 0;
    for (container, &code) in containers.iter().zip(&codes) {
        let want = match container.outcome(attempts) {
            // A container whose dependency failed never ran, so its code is emissary's own.
            _ if container.depends.is_some() && codes[0] != 0 => 64,
            (0, _) if container.name == "main" && fault == Fault::Unsavable => 64,
            (code, _) => code,
        };
        ensure!(code == want, "{} ({:?}, {fault:?}) ended with {code}, not {want}", container.name, container.end);
    }

    let below = |kind: &str, name: &str| format!("{}/outputs/{kind}{}/{name}", shared.display(), work.display());
    let output = wait.0.remove(0).wait_with_output()?;
    let mut report: serde_json::Value = serde_json::from_slice(&output.stdout).context("wait's report")?;
    let code = codes.iter().copied().find(|&code| code != 0).unwrap_or(0);
    let size = |path: &Path| fs::metadata(path).map_or(json!(null), |file| file.len().into());
    let rows: Vec<_> = containers
        .iter()
        .zip(&codes)
        .map(|(container, code)| {
            let own = shared.join("ctr").join(&container.name);
            let (stdout, combined) = (size(&own.join("stdout")), size(&own.join("combined")));
            json!({"name": container.name, "exitCode": code, "stdoutBytes": stdout, "combinedBytes": combined})
        })
        .collect();
    // Times and memory have no model. But the record of each run has the code that the exit code has, unless a later start has removed it.
    let records = report.as_object_mut().and_then(|report| report.remove("reports")).unwrap_or_default();
    for row in rows.iter().filter(|row| fault != Fault::Killed && !row["exitCode"].is_null()) {
        if let Some(record) = records.get(row["name"].as_str().unwrap_or_default()) {
            ensure!(record["exitCode"] == row["exitCode"], "the record says {record}, the exit code is {}", row["exitCode"]);
        }
    }
    let mut want = json!({"exitCode": code, "containers": rows, "parameters": [], "artifacts": []});
    if has_parameter {
        let is_there = main_ran && !matches!(fault, Fault::Missing | Fault::Unsavable);
        want["parameters"] = json!([{"name": "p", "path": work.join("p"), "value": is_there.then_some("v")}]);
    }
    if artifact_bytes.is_some() {
        let file = below("artifacts", "o.tgz");
        want["artifacts"] =
            json!([{"name": "o", "path": work.join("o"), "file": main_ran.then_some(&file), "bytes": size(Path::new(&file))}]);
    }
    if fault == Fault::Killed {
        // The wait container may have made its report before the second start wrote more.
        for report in [&mut report, &mut want] {
            report["containers"].as_array_mut().context("containers")?.iter_mut().for_each(|row| {
                row["stdoutBytes"].take();
                row["combinedBytes"].take();
            });
            report["artifacts"].as_array_mut().context("artifacts")?.iter_mut().for_each(|row| drop(row["bytes"].take()));
        }
    }
    ensure!(report == want, "wait reports {report}, not {want}");
    ensure!(output.status.code() == Some(code), "wait ends with {}, and the exit codes are {codes:?}", output.status);
    for (container, &code) in containers.iter().zip(&codes) {
        let own = shared.join("ctr").join(&container.name);
        let found = fs::read_to_string(own.join("exitcode"))?;
        ensure!(found == code.to_string(), "{} left {found:?}, not {code}", container.name);
        let ran = container.depends.is_none() || codes[0] == 0;
        if ran {
            let log = fs::read_to_string(own.join("stdout"))?;
            let once: String = (1..=container.lines).map(|line| format!("line {line}\n")).collect();
            let want = once.repeat(usize::try_from(container.outcome(attempts).1)?);
            // The killed emissary had already copied a part.
            let is_whole = if container.name == "main" && fault == Fault::Killed { log.ends_with(&want) } else { log == want };
            ensure!(is_whole, "{}'s log has {} bytes, not {}", container.name, log.len(), want.len());
        }
    }
    // A killed emissary leaves its draft files. No program reads files of these names.
    if fault != Fault::Killed {
        no_drafts(&shared)?;
    }
    if main_ran {
        if has_parameter && matches!(fault, Fault::Missing | Fault::Unsavable) {
            ensure!(!Path::new(&below("parameters", "p")).exists(), "there is a parameter, which the command did not write");
        } else if has_parameter {
            ensure!(fs::read(below("parameters", "p"))? == b"v\n", "the parameter is wrong");
        }
        if let Some(bytes) = artifact_bytes {
            let archive = fs::File::open(below("artifacts", "o.tgz"))?;
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
            let mut entry = archive.entries()?.next().context("an empty archive")??;
            let mut contents = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut contents)?;
            // A process of the killed emissary's command may have written to the file later.
            let is_same = fault == Fault::Killed || contents == fs::read(work.join("o"))?;
            ensure!(contents.len() as u64 == bytes && is_same, "the artifact has other contents");
        }
    }
    Ok(())
}

/// Checks that the volume has no draft file.
fn no_drafts(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        ensure!(!name.starts_with(".emissary-"), "{} is left", entry.path().display());
        if entry.file_type()?.is_dir() {
            no_drafts(&entry.path())?;
        }
    }
    Ok(())
}

/// Processes that are killed when this value is dropped, on every path.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends each container its signal, waits until all containers have ended, and returns their exit codes.
fn follow(
    containers: &[Container],
    running: &mut [Child],
    work: &Path,
    emissary: &dyn Fn(&str) -> Command,
    wait: &mut Child,
) -> Result<Vec<i32>> {
    let began = Instant::now();
    let mut codes = vec![None; containers.len()];
    let mut sent = vec![false; containers.len()];
    while codes.iter().any(Option::is_none) {
        ensure!(began.elapsed() < PATIENCE, "the pod hangs: {codes:?}");
        for at in 0..containers.len() {
            let container = &containers[at];
            if codes[at].is_none()
                && let Some(status) = running[at].try_wait()?
            {
                codes[at] = Some(status.code().with_context(|| format!("{} ended with {status}", container.name))?);
                continue;
            }
            if sent[at] || !work.join(format!("{}.ready", container.name)).exists() {
                continue;
            }
            sent[at] = true;
            let (signal, by_file) = match container.end {
                End::Caught { by_file } => (Signal::SIGUSR1, by_file),
                End::Killed { by_file } => (Signal::SIGTERM, by_file),
                End::Code(_) => continue,
            };
            // An emissary that waits for its command must have little memory and few descriptors.
            let status = fs::read_to_string(format!("/proc/{}/status", running[at].id()))?;
            let memory: u64 = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .and_then(|text| text.split_whitespace().next()?.parse().ok())
                .context("no VmHWM")?;
            ensure!(memory < MEMORY_LIMIT_KB, "{} has {memory} kB", container.name);
            let descriptors = fs::read_dir(format!("/proc/{}/fd", running[at].id()))?.count();
            ensure!(descriptors < 20, "{} has {descriptors} descriptors", container.name);
            if by_file {
                let sent = emissary("other").args(["signal", signal.as_str(), &container.name]).output()?;
                ensure!(sent.status.success(), "`emissary signal` fails: {}", String::from_utf8_lossy(&sent.stderr));
            } else {
                kill(Pid::from_raw(i32::try_from(running[at].id())?), signal)?;
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    while wait.try_wait()?.is_none() {
        ensure!(began.elapsed() < PATIENCE, "the wait side hangs");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(codes.into_iter().flatten().collect())
}

/// Waits until an emissary holds the lock of its container, or until that emissary has ended.
fn until_it_has_begun(container: &Path, emissary: &mut Child) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        // /proc/locks names each locked file as `MAJOR:MINOR:INODE` (proc(5)).
        let inode = fs::metadata(container.join(".emissary-lock")).map_or(0, |lock| lock.ino());
        let is_locked = fs::read_to_string("/proc/locks")?.contains(&format!(":{inode} "));
        if is_locked || emissary.try_wait()?.is_some() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no lock in {}", container.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}
