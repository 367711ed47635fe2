//! `faults`: every system call of a run fails once, and the run is killed at every system call.
//!
//! The binary itself is run under strace, which makes the Nth call of a kind fail, give up early, or be the last. After each: the exit status and the file
//! agree, or the status is not 0 and something was said; nothing that is wrong stands under a final name; the command is gone; and after a SIGKILL a second
//! run over what is left does its work. Calls are counted for each kind, as strace counts them, in a run without a fault.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::build;
use crate::tools::{install, is_on_path};

/// A run must be over by then, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Contents of the artifact's file: more than a pipe's buffer, less than a chunk.
const BYTES: usize = 90_000;

/// A command and what it is asked for.
struct Scenario {
    name: &'static str,
    script: &'static str,
    /// What the template has under `outputs`.
    outputs: fn(&Path) -> serde_json::Value,
    code: i32,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "capture",
        script: "echo $$ >$WORK/pid; for i in 1 2 3 4 5; do echo line $i; done; echo err >&2; exit 7",
        outputs: |_| serde_json::json!({}),
        code: 7,
    },
    Scenario {
        name: "parameter",
        script: "echo $$ >$WORK/pid; echo value >$WORK/p",
        outputs: |work| serde_json::json!({"parameters": [{"name": "p", "valueFrom": {"path": work.join("p")}}]}),
        code: 0,
    },
    Scenario {
        name: "artifact",
        script: "echo $$ >$WORK/pid; mkdir -p $WORK/o/sub; seq 1 20000 | head -c 90000 >$WORK/o/sub/f; ln -sf f $WORK/o/sub/l",
        outputs: |work| serde_json::json!({"artifacts": [{"name": "o", "path": work.join("o")}]}),
        code: 0,
    },
    Scenario {
        name: "signal",
        // It waits for a signal that comes by file.
        script: "trap 'exit 5' TERM; echo $$ >$WORK/pid; sleep 0.03; echo TERM >$EMISSARY_DIR/new; mv $EMISSARY_DIR/new $EMISSARY_DIR/signal; \
                 for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 0.02; done; exit 6",
        outputs: |_| serde_json::json!({}),
        code: 5,
    },
];

/// What each kind of call can fail with that a healthy machine never shows.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "read" | "pread64" => &["EINTR", "EIO", "EAGAIN"],
        "write" => &["EINTR", "EIO", "ENOSPC", "EAGAIN"],
        "openat" | "open" => &["EINTR", "EIO", "EMFILE", "ENFILE", "ENOMEM", "EACCES"],
        "mkdirat" => &["EIO", "ENOSPC", "EACCES"],
        "renameat" | "renameat2" | "unlinkat" => &["EIO", "EACCES", "ENOSPC"],
        "ppoll" | "poll" => &["EINTR", "ENOMEM"],
        "wait4" => &["EINTR"],
        "clone" => &["EAGAIN", "ENOMEM"],
        "pipe2" | "signalfd4" | "inotify_init1" | "inotify_add_watch" => &["EMFILE", "ENOMEM"],
        "mmap" | "mremap" => &["ENOMEM"],
        "fstat" | "newfstatat" | "stat" | "lstat" | "getdents64" | "readlinkat" | "lseek" | "getcwd" | "faccessat2" | "fchmod" => {
            &["EIO", "EACCES", "ENOMEM"]
        }
        "prctl" | "ioctl" | "umask" | "fcntl" | "copy_file_range" => &["EPERM", "EIO", "EINTR"],
        // Linux's close frees the descriptor whatever it says; strace would leave the call out.
        _ => &[],
    }
}

/// Runs all of it.
pub(crate) fn faults() -> Result<()> {
    if !is_on_path("strace") {
        install(&["strace"], "strace is missing, which makes system calls fail")?;
    }
    let binary = build::build(None)?;
    let mut tries = Vec::new();
    for scenario in &SCENARIOS {
        let calls = counted(&binary, scenario)?;
        ensure!(calls.values().sum::<usize>() > 30, "{}: strace has counted {calls:?}", scenario.name);
        for (call, &count) in &calls {
            for nth in 1..=count {
                let faults = errors(call).iter().map(|error| format!("error={error}"));
                // As if nothing had been written. (The end of a file or a pipe that goes on would be a lie.)
                let nothing = (call == "write").then(|| "retval=0".to_string());
                for fault in faults.chain(nothing).chain(["signal=KILL".to_string()]) {
                    tries.push((scenario, call.clone(), format!("{call}:{fault}:when={nth}")));
                }
            }
        }
    }
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    // They mostly wait for processes: more at once than there are CPUs.
    std::thread::scope(|scope| {
        for _ in 0..2 * std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((scenario, call, fault)) = tries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let kills = fault.contains("signal=KILL");
                    if let Err(error) =
                        if kills { is_killed(&binary, scenario, call, fault) } else { fails(&binary, scenario, call, fault) }
                    {
                        wrong.lock().expect("no panic").push(format!("{}, {fault}: {error:#}", scenario.name));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner()?;
    let killed = tries.iter().filter(|(.., fault)| fault.contains("signal=KILL")).count();
    let tried = tries.len() - killed;
    for line in &wrong {
        println!("{line}");
    }
    println!("{tried} faults and {killed} kills, {} wrong", wrong.len());
    ensure!(wrong.is_empty(), "not every fault is survived");
    Ok(())
}

/// One volume and its command.
struct Pod<'a> {
    folder: tempfile::TempDir,
    binary: &'a Path,
    scenario: &'a Scenario,
}

struct Ended {
    status: Option<i32>,
    stderr: String,
}

impl<'a> Pod<'a> {
    fn new(binary: &'a Path, scenario: &'a Scenario) -> Result<Self> {
        let pod = Self { folder: tempfile::Builder::new().prefix("emissary-faults-").tempdir()?, binary, scenario };
        fs::create_dir(pod.shared())?;
        fs::create_dir(pod.work())?;
        let template = serde_json::json!({"outputs": (scenario.outputs)(&pod.work())});
        fs::write(pod.shared().join("template"), template.to_string())?;
        Ok(pod)
    }

    fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// To its end, through strace with these words.
    fn run(&self, strace: &[&str]) -> Result<Ended> {
        let mut command = if strace.is_empty() {
            Command::new(self.binary)
        } else {
            let mut command = Command::new("strace");
            command.args(["-qqq", "-o"]).arg(self.folder.path().join("trace")).args(strace).arg(self.binary);
            command
        };
        let stderr = self.folder.path().join("stderr");
        command.args(["--", "sh", "-c", self.scenario.script]).env("EMISSARY_DIR", self.shared()).env("EMISSARY_LAYOUT", "flat");
        command.env("WORK", self.work()).env("EMISSARY_TERMINATION_LOG", "/nowhere");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&stderr)?).process_group(0);
        let mut child = command.spawn()?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > PATIENCE {
                // strace alone would leave what it traces.
                let group = format!("-{}", child.id());
                Command::new("kill").args(["-KILL", "--", &group]).status()?;
                child.wait()?;
                bail!("hangs");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        // strace ends as its child does, also by a signal.
        Ok(Ended { status: status.code(), stderr: fs::read_to_string(stderr)? })
    }

    fn exit_code(&self) -> Option<String> {
        fs::read_to_string(self.shared().join("exitcode")).ok()
    }

    /// What stands under final names is whole and right.
    fn outputs_are_whole(&self) -> Result<Vec<&'static str>> {
        let mut found = Vec::new();
        let work = self.work();
        let below = |kind: &str, name: &str| PathBuf::from(format!("{}/outputs/{kind}{}/{name}", self.shared().display(), work.display()));
        if let Ok(parameter) = fs::read_to_string(below("parameters", "p")) {
            ensure!(parameter == "value\n", "the parameter is {parameter:?}");
            found.push("parameter");
        }
        if let Ok(archive) = fs::File::open(below("artifacts", "o.tgz")) {
            let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(archive));
            let mut names = Vec::new();
            for entry in archive.entries().context("no archive")? {
                let mut entry = entry.context("no whole archive")?;
                let name = entry.path()?.display().to_string();
                if name == "o/sub/f" {
                    let mut contents = Vec::new();
                    std::io::Read::read_to_end(&mut entry, &mut contents).context("no whole archive")?;
                    ensure!(contents == fs::read(work.join("o/sub/f"))? && contents.len() == BYTES, "the artifact has other contents");
                }
                names.push(name);
            }
            ensure!(names == ["o/", "o/sub/", "o/sub/f", "o/sub/l"], "the artifact has {names:?}");
            found.push("artifact");
        }
        if self.scenario.name == "capture"
            && let Ok(log) = fs::read_to_string(self.shared().join("stdout"))
            && log == "line 1\nline 2\nline 3\nline 4\nline 5\n"
        {
            found.push("capture");
        }
        if self.scenario.name == "signal" {
            found.push("signal");
        }
        Ok(found)
    }

    /// The command has ended. (A zombie's parent is gone by then, so init reaps it: one that stays is found here, too.)
    fn command_is_gone(&self) -> Result<()> {
        let Ok(pid) = fs::read_to_string(self.work().join("pid")) else { return Ok(()) };
        let began = Instant::now();
        let status = PathBuf::from("/proc").join(pid.trim()).join("status");
        // Process ids are not used again so soon; `sh` is the command's name.
        while fs::read_to_string(&status).is_ok_and(|text| text.starts_with("Name:\tsh\n")) {
            ensure!(began.elapsed() < Duration::from_secs(5), "the command {} is still there", pid.trim());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Calls of each kind in a run without a fault.
fn counted(binary: &Path, scenario: &Scenario) -> Result<BTreeMap<String, usize>> {
    let pod = Pod::new(binary, scenario)?;
    let ended = pod.run(&["-e", "trace=all"])?;
    ensure!(ended.status == Some(scenario.code), "{} ends with {:?}: {}", scenario.name, ended.status, ended.stderr);
    ensure!(pod.outputs_are_whole()?.contains(&scenario.name), "{} leaves no output", scenario.name);
    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(pod.folder.path().join("trace"))?.lines() {
        if let Some((name, _)) = line.split_once('(')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            *calls.entry(name.to_string()).or_insert(0) += 1;
        }
    }
    // Its start is strace's own.
    calls.remove("execve");
    Ok(calls)
}

fn fails(binary: &Path, scenario: &Scenario, call: &str, fault: &str) -> Result<()> {
    let pod = Pod::new(binary, scenario)?;
    let ended = pod.run(&["-e", &format!("trace={call}"), "-e", &format!("inject={fault}")])?;
    let status = ended.status.context("ended by a signal")?;
    pod.command_is_gone()?;
    let whole = pod.outputs_are_whole()?;
    if let Some(code) = pod.exit_code() {
        ensure!(code == status.to_string(), "the file says {code:?}, the status is {status}");
    } else {
        ensure!(status != 0, "no exit code was left, and the status is 0");
    }
    // The command writes to stderr too.
    let is_said = ended.stderr.contains("emissary: ");
    if status == scenario.code {
        // A log that has a gap is said.
        ensure!(whole.contains(&scenario.name) || is_said, "an output is missing, and nothing is said");
        ensure!(status != 0 || whole.contains(&scenario.name), "an output is missing, and the status is 0: {}", ended.stderr);
    } else {
        ensure!(is_said, "the status is {status}, and nothing is said");
        // Neither the command's own code nor one that could be taken for success; or the signal file could not be read for good, and the command has ended
        // by itself.
        let unread = status == 6 && ended.stderr.contains("shared/signal");
        ensure!(status >= 64 || unread, "the status is {status}: {}", ended.stderr);
    }
    Ok(())
}

fn is_killed(binary: &Path, scenario: &Scenario, call: &str, fault: &str) -> Result<()> {
    let pod = Pod::new(binary, scenario)?;
    let ended = pod.run(&["-e", &format!("trace={call}"), "-e", &format!("inject={fault}")])?;
    pod.command_is_gone()?;
    pod.outputs_are_whole()?;
    if let Some(code) = pod.exit_code() {
        ensure!(code == scenario.code.to_string(), "the file says {code:?}");
    }
    // A signal that was left would reach the second run, and so would one that is still on its way: what the command has started lives on.
    if scenario.name == "signal" {
        std::thread::sleep(Duration::from_millis(60));
    }
    let _ = fs::remove_file(pod.shared().join("signal"));
    let _ = fs::remove_file(pod.work().join("pid"));
    let _ = fs::remove_file(pod.shared().join("stdout"));
    let again = pod.run(&[])?;
    ensure!(again.status == Some(scenario.code), "after {:?} a second run ends with {:?}: {}", ended.status, again.status, again.stderr);
    ensure!(pod.exit_code().as_deref() == Some(&*scenario.code.to_string()), "a second run leaves {:?}", pod.exit_code());
    ensure!(pod.outputs_are_whole()?.contains(&scenario.name), "a second run leaves no output");
    Ok(())
}
