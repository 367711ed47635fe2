//! `faults`: every system call of a run fails once, reads and writes fewer bytes than asked for once, and is the last once.
//!
//! The binary itself is run under strace, which makes the Nth call of a kind fail or be the last, or under `short`, which shortens it. After each: the exit
//! status and the file agree, or the status is not 0 and something was said; nothing that is wrong stands under a final name; the command is gone; and after a
//! SIGKILL a second run over what is left does its work. What is interrupted or shortened has to end as if nothing had been. Calls are counted for each kind, as
//! strace counts them, in a run without a fault.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::build;
use crate::short::{self, Share};
use crate::tools::{install, is_on_path};

/// A run must be over by then, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a command says that is captured.
const LOG: &str = "line 1\nline 2\nline 3\nline 4\nline 5\n";

/// What the binary is.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Run,
    Init,
    Wait { follows: bool },
}

/// A command and what it is asked for.
struct Scenario {
    name: &'static str,
    role: Role,
    /// The command, of [`Role::Run`].
    script: &'static str,
    /// What the template has under `outputs`.
    outputs: fn(&Path) -> serde_json::Value,
    /// Its name in the pod layout; the flat layout otherwise.
    container: Option<&'static str>,
    /// Contents of the artifact's file.
    bytes: usize,
    code: i32,
}

const PLAIN: Scenario =
    Scenario { name: "", role: Role::Run, script: "", outputs: |_| serde_json::json!({}), container: None, bytes: 0, code: 0 };

const SCENARIOS: [Scenario; 10] = [
    Scenario {
        name: "capture",
        script: "echo $$ >$WORK/pid; for i in 1 2 3 4 5; do echo line $i; done; echo err >&2; : >$WORK/done; exit 7",
        code: 7,
        ..PLAIN
    },
    Scenario { name: "log", script: "echo $$ >$WORK/pid; for i in 1 2 3 4 5; do echo line $i; done; : >$WORK/done", ..PLAIN },
    Scenario {
        // One of a set, in the pod layout, that waits for another.
        name: "dependent",
        script: "echo $$ >$WORK/pid; for i in 1 2 3 4 5; do echo line $i; done; : >$WORK/done; exit 7",
        container: Some("b"),
        code: 7,
        ..PLAIN
    },
    Scenario {
        name: "parameter",
        script: "echo $$ >$WORK/pid; echo value >$WORK/p; : >$WORK/done",
        outputs: |work| serde_json::json!({"parameters": [{"name": "p", "valueFrom": {"path": work.join("p")}}]}),
        ..PLAIN
    },
    Scenario {
        name: "artifact",
        script: "echo $$ >$WORK/pid; mkdir -p $WORK/o/sub; seq 1 20000 | head -c 90000 >$WORK/o/sub/f; ln -sf f $WORK/o/sub/l; : >$WORK/done",
        outputs: |work| serde_json::json!({"artifacts": [{"name": "o", "path": work.join("o")}]}),
        // More than a pipe's buffer, less than a chunk.
        bytes: 90_000,
        ..PLAIN
    },
    Scenario {
        // Chunks for several threads, where there are CPUs for them, and a hole between two stretches of data.
        name: "threads",
        script: "echo $$ >$WORK/pid; mkdir -p $WORK/o/sub; cd $WORK/o/sub; seq 1 200000 | head -c 300000 >f; \
                 seq 1 200000 | tail -c 300000 | dd of=f conv=notrunc oflag=seek_bytes seek=700000 status=none; ln -sf f l; : >$WORK/done",
        outputs: |work| serde_json::json!({"artifacts": [{"name": "o", "path": work.join("o")}]}),
        bytes: 1_000_000,
        ..PLAIN
    },
    Scenario {
        name: "signal",
        // It waits for a signal that comes by file.
        script: "trap ': >$WORK/done; exit 5' TERM; echo $$ >$WORK/pid; sleep 0.03; echo TERM >$EMISSARY_DIR/new; mv $EMISSARY_DIR/new $EMISSARY_DIR/signal; \
                 for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 0.02; done; : >$WORK/done; exit 6",
        code: 5,
        ..PLAIN
    },
    Scenario { name: "init", role: Role::Init, ..PLAIN },
    Scenario {
        name: "wait",
        role: Role::Wait { follows: false },
        outputs: |work| serde_json::json!({"parameters": [{"name": "p", "valueFrom": {"path": work.join("p")}}]}),
        ..PLAIN
    },
    Scenario { name: "follow", role: Role::Wait { follows: true }, ..PLAIN },
];

/// What each kind of call can fail with that a healthy machine never shows.
fn errors(call: &str) -> Option<&'static [&'static str]> {
    let errors: &[&str] = match call {
        "read" | "pread64" => &["EINTR", "EIO", "EAGAIN"],
        "write" => &["EINTR", "EIO", "ENOSPC", "EAGAIN"],
        "pwritev2" | "sendto" => &["EINTR", "EIO", "EAGAIN", "EOPNOTSUPP", "ENOSYS", "EPERM"],
        "openat" | "open" => &["EINTR", "EIO", "EMFILE", "ENFILE", "ENOMEM", "EACCES", "EPERM"],
        "mkdirat" => &["EIO", "ENOSPC", "EACCES", "EPERM"],
        "renameat" | "renameat2" | "unlinkat" => &["EIO", "EACCES", "EPERM", "ENOSPC"],
        "ppoll" | "poll" => &["EINTR", "ENOMEM"],
        "wait4" => &["EINTR"],
        "kill" => &["EPERM"],
        "clone" => &["EAGAIN", "ENOMEM", "EPERM"],
        "pipe2" | "signalfd4" | "inotify_init1" | "inotify_add_watch" => &["EMFILE", "ENOMEM"],
        "mmap" | "mremap" => &["ENOMEM"],
        "fstat" | "newfstatat" | "stat" | "lstat" | "getdents64" | "readlinkat" | "lseek" | "getcwd" | "faccessat2" | "fchmod" => {
            &["EIO", "EACCES", "EPERM", "ENOMEM"]
        }
        // As kernels and filters that do not know it say.
        "copy_file_range" => &["ENOSYS", "EPERM", "EXDEV", "EIO", "EINTR", "ENOSPC"],
        "prctl" | "ioctl" | "umask" | "fcntl" => &["EPERM", "EIO"],
        // Linux's close frees the descriptor whatever it says; strace would leave the call out.
        "close" => &[],
        // What cannot fail, or only for a fault of ours. The processes' own ends.
        "arch_prctl" | "set_tid_address" | "rt_sigprocmask" | "rt_sigaction" | "getpid" | "gettid" | "exit_group" | "munmap"
        | "mprotect" | "futex" | "madvise" | "sched_getaffinity" | "clock_gettime" | "brk" => &[],
        _ => return None,
    };
    Some(errors)
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
        ensure!(calls.values().sum::<usize>() > 20, "{}: strace has counted {calls:?}", scenario.name);
        for (call, &count) in &calls {
            for nth in 1..=count {
                let mut add = |fault| tries.push(Try { scenario, call: call.clone(), nth, fault });
                let errors = errors(call).with_context(|| format!("{}: nobody says how {call} fails", scenario.name))?;
                errors.iter().for_each(|error| add(Fault::Fails(error)));
                if call == "write" {
                    add(Fault::WritesNothing);
                }
                if short::IS_POSSIBLE && short::call(call).is_some() {
                    add(Fault::Short(Share::One));
                    add(Fault::Short(Share::Half));
                }
                add(Fault::Kill);
            }
        }
    }
    let (next, unreached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    // They mostly wait for processes: more at once than there are CPUs.
    std::thread::scope(|scope| {
        for _ in 0..5 * std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(one) = tries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match one.play_until_reached(&binary) {
                        Ok(true) => {}
                        Ok(false) => drop(unreached.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => wrong.lock().expect("no panic").push(format!("{}, {}: {error:#}", one.scenario.name, one.words())),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner()?;
    for line in &wrong {
        println!("{line}");
    }
    let count = |is: &dyn Fn(Fault) -> bool| tries.iter().filter(|one| is(one.fault)).count();
    let (kills, shorts) = (count(&|fault| matches!(fault, Fault::Kill)), count(&|fault| matches!(fault, Fault::Short(_))));
    let unreached = unreached.into_inner();
    let failures = tries.len() - kills - shorts;
    println!("{failures} calls failed, {shorts} calls shortened, {kills} kills, of them {unreached} not reached: {} wrong", wrong.len());
    ensure!(wrong.is_empty(), "not every fault is survived");
    // How often it waits and reads is not the same in each run; reads of one byte, and of records, are not shortened.
    ensure!(10 * unreached < tries.len(), "too few calls are met: is strace's trace understood?");
    Ok(())
}

/// What happens to a call.
#[derive(Clone, Copy)]
enum Fault {
    Fails(&'static str),
    /// As if there had been no room just then. (The end of a file or a pipe that goes on would be a lie, so no read of nothing.)
    WritesNothing,
    /// Carried out for fewer bytes.
    Short(Share),
    Kill,
}

/// One fault at one call of one scenario.
struct Try<'a> {
    scenario: &'a Scenario,
    call: String,
    nth: usize,
    fault: Fault,
}

impl Try<'_> {
    /// The fault as strace takes it, or as a person reads it.
    fn words(&self) -> String {
        let what = match self.fault {
            Fault::Fails(error) => format!("error={error}"),
            Fault::WritesNothing => "retval=0".to_string(),
            Fault::Short(share) => format!("short={}", share.word()),
            Fault::Kill => "signal=KILL".to_string(),
        };
        format!("{}:{what}:when={}", self.call, self.nth)
    }

    /// Whether the call was met, in one of a few runs: not every run has as many.
    fn play_until_reached(&self, binary: &Path) -> Result<bool> {
        // Which calls are too short to be shortened is the same each time.
        let runs = if let Fault::Short(_) = self.fault { 1 } else { 3 };
        for _ in 0..runs {
            if self.play(binary)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One run; whether the call was met.
    fn play(&self, binary: &Path) -> Result<bool> {
        let pod = Pod::new(binary, self.scenario)?;
        let through: Vec<String> = match self.fault {
            Fault::Short(share) => {
                let xtask = std::env::current_exe()?.display().to_string();
                let mark = pod.folder.path().join("mark").display().to_string();
                vec![xtask, "short".into(), self.call.clone(), self.nth.to_string(), share.word().into(), mark]
            }
            _ => pod.strace(&["-e", &format!("trace={}", self.call), "-e", &format!("inject={}", self.words())]),
        };
        let ended = pod.run(&through)?;
        pod.command_is_gone()?;
        let whole = pod.outputs_are_whole()?;
        let is_reached = match self.fault {
            Fault::Kill => ended.status.is_none(),
            Fault::Short(_) => pod.folder.path().join("mark").exists(),
            _ => fs::read_to_string(pod.folder.path().join("trace"))?.contains("(INJECTED)"),
        };
        match self.fault {
            Fault::Kill => pod.runs_again(&ended)?,
            // A moment later it goes well.
            Fault::Short(_) | Fault::Fails("EINTR") => {
                ensure!(ended.status == Some(self.scenario.code), "ends with {:?}: {}", ended.status, ended.stderr);
                pod.agrees(&ended)?;
                ensure!(!ended.stderr.contains("emissary: "), "says {}", ended.stderr);
                ensure!(whole, "an output is missing");
                pod.is_told(&ended, whole)?;
            }
            Fault::Fails(_) | Fault::WritesNothing => {
                pod.agrees(&ended)?;
                pod.is_told(&ended, whole)?;
            }
        }
        Ok(is_reached)
    }
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
        if scenario.role != Role::Init {
            fs::write(pod.shared().join("template"), pod.template())?;
        }
        if scenario.container.is_some() {
            fs::create_dir_all(pod.shared().join("ctr/a"))?;
            fs::write(pod.shared().join("ctr/a/exitcode"), "0")?;
        }
        if let Role::Wait { .. } = scenario.role {
            // What a main container has left.
            fs::write(pod.shared().join("stdout"), LOG)?;
            fs::write(pod.shared().join("exitcode"), "0")?;
            let parameter = pod.output("parameters", "p");
            fs::create_dir_all(parameter.parent().context("a folder")?)?;
            fs::write(parameter, "value\n")?;
        }
        Ok(pod)
    }

    fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// One of the container's own files.
    fn own(&self, name: &str) -> PathBuf {
        match self.scenario.container {
            Some(container) => self.shared().join("ctr").join(container).join(name),
            None => self.shared().join(name),
        }
    }

    fn output(&self, kind: &str, name: &str) -> PathBuf {
        PathBuf::from(format!("{}/outputs/{kind}{}/{name}", self.shared().display(), self.work().display()))
    }

    fn template(&self) -> String {
        let mut template = serde_json::json!({"outputs": (self.scenario.outputs)(&self.work())});
        if let Some(name) = self.scenario.container {
            template["containerSet"] = serde_json::json!({"containers": [{"name": "a"}, {"name": name, "dependencies": ["a"]}]});
            template["archiveLocation"] = serde_json::json!({"archiveLogs": true});
        }
        template.to_string()
    }

    fn strace(&self, words: &[&str]) -> Vec<String> {
        let trace = self.folder.path().join("trace").display().to_string();
        ["strace", "-qqq", "-o", &trace].iter().chain(words).map(ToString::to_string).collect()
    }

    /// To its end, through a program with its words.
    fn run(&self, through: &[String]) -> Result<Ended> {
        let words: &[&str] = match self.scenario.role {
            Role::Run => &["--", "sh", "-c", self.scenario.script],
            Role::Init => &["init"],
            Role::Wait { follows: false } => &["wait", "--json"],
            Role::Wait { follows: true } => &["wait", "--follow", "--json"],
        };
        let mut command = if let [program, words @ ..] = through {
            let mut command = Command::new(program);
            command.args(words).arg(self.binary);
            command
        } else {
            Command::new(self.binary)
        };
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.folder.path().join(name));
        command.args(words).env("EMISSARY_DIR", self.shared()).env("EMISSARY_LAYOUT", "flat");
        if let Some(name) = self.scenario.container {
            command.env("EMISSARY_LAYOUT", "pod").env("ARGO_CONTAINER_NAME", name);
        }
        command.env("WORK", self.work()).env("EMISSARY_TERMINATION_LOG", "/nowhere").env("ARGO_TEMPLATE", self.template());
        command.stdin(Stdio::null()).stdout(fs::File::create(&stdout)?).stderr(fs::File::create(&stderr)?).process_group(0);
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
        fs::read_to_string(self.own("exitcode")).ok()
    }

    /// What stands under final names is right; whether it is all there.
    fn outputs_are_whole(&self) -> Result<bool> {
        match self.scenario.name {
            "parameter" => {
                let Ok(parameter) = fs::read_to_string(self.output("parameters", "p")) else { return Ok(false) };
                ensure!(parameter == "value\n", "the parameter is {parameter:?}");
                Ok(true)
            }
            "artifact" | "threads" => {
                let Ok(archive) = fs::File::open(self.output("artifacts", "o.tgz")) else { return Ok(false) };
                self.archive_is_whole(archive)?;
                Ok(true)
            }
            "capture" | "log" | "dependent" => {
                let copies: &[(&str, &str)] = match self.scenario.name {
                    "capture" => &[("stdout", LOG), ("stderr", "err\n")],
                    "log" => &[("stdout", LOG)],
                    _ => &[("stdout", LOG), ("combined", LOG)],
                };
                let mut whole = true;
                for (name, want) in copies {
                    let copy = fs::read_to_string(self.own(name)).unwrap_or_default();
                    ensure!(want.starts_with(&copy), "{name} holds {copy:?}");
                    whole &= copy == *want;
                }
                Ok(whole)
            }
            "init" => {
                let [template, binary] = ["template", "emissary"].map(|name| fs::read(self.shared().join(name)).ok());
                ensure!(template.as_ref().is_none_or(|text| *text == self.template().into_bytes()), "the template is not whole");
                ensure!(binary.is_none() || binary == fs::read(self.binary).ok(), "the binary is not whole");
                if binary.is_some() {
                    let mode = fs::metadata(self.shared().join("emissary"))?.permissions().mode() & 0o7777;
                    ensure!(mode == 0o555, "the binary has the mode {mode:o}");
                }
                Ok(template.is_some() && binary.is_some())
            }
            "wait" => {
                let report: Option<serde_json::Value> = serde_json::from_str(&fs::read_to_string(self.folder.path().join("stdout"))?).ok();
                let Some(report) = report else { return Ok(false) };
                Ok(report["exitCode"] == 0 && report["parameters"][0]["value"] == "value")
            }
            "follow" => {
                let said = fs::read_to_string(self.folder.path().join("stdout"))?;
                let report = said.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
                Ok(report.is_some_and(|report| report["exitCode"] == 0))
            }
            _ => Ok(true),
        }
    }

    fn archive_is_whole(&self, archive: fs::File) -> Result<()> {
        let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(archive));
        let mut names = Vec::new();
        for entry in archive.entries().context("no archive")? {
            let mut entry = entry.context("no whole archive")?;
            let name = entry.path()?.display().to_string();
            if name == "o/sub/f" {
                let mut contents = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut contents).context("no whole archive")?;
                ensure!(contents.len() == self.scenario.bytes, "the artifact's file has {} bytes", contents.len());
                ensure!(contents == fs::read(self.work().join("o/sub/f"))?, "the artifact has other contents");
            }
            names.push(name);
        }
        ensure!(names == ["o/", "o/sub/", "o/sub/f", "o/sub/l"], "the artifact has {names:?}");
        Ok(())
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

    /// The status and the file say the same, or the status is not 0.
    fn agrees(&self, ended: &Ended) -> Result<()> {
        let status = ended.status.context("ended by a signal")?;
        if self.scenario.role != Role::Run {
            return Ok(());
        }
        match self.exit_code() {
            Some(code) => ensure!(code == status.to_string(), "the file says {code:?}, the status is {status}"),
            None => ensure!(status != 0, "no exit code was left, and the status is 0"),
        }
        Ok(())
    }

    /// Whatever is missing is told, and whatever is not told is there.
    fn is_told(&self, ended: &Ended, whole: bool) -> Result<()> {
        let status = ended.status.context("ended by a signal")?;
        // The command writes to stderr too.
        let is_said = ended.stderr.contains("emissary: ");
        if matches!(self.scenario.name, "capture" | "log" | "dependent" | "follow") {
            // Our own stdout may be somebody's who is gone, which is no fault of the command; the copy on the volume is the output.
            let passed_on = fs::read_to_string(self.folder.path().join("stdout"))?;
            ensure!(passed_on.starts_with(LOG) || is_said, "not all was passed on, and nothing is said");
        }
        if status == self.scenario.code {
            // A log that has a gap is said.
            ensure!(whole || is_said, "an output is missing, and nothing is said");
            ensure!(status != 0 || whole, "an output is missing, and the status is 0: {}", ended.stderr);
        } else {
            ensure!(is_said, "the status is {status}, and nothing is said");
            // Once the command has ended its own code stands, unless that is 0; or the signal could not be had for good, and it has ended by itself.
            let has_ended = self.work().join("done").exists();
            let unread = status == 6 && ["shared/signal", "cannot signal the command"].iter().any(|what| ended.stderr.contains(what));
            let want = if has_ended && self.scenario.code != 0 { self.scenario.code } else { 64 };
            // Of what is no longer read the writer is told by SIGPIPE.
            let closed = status == 128 + 13 && ended.stderr.contains("cannot read the command's");
            ensure!(status == want || unread || closed, "the status is {status}, not {want}: {}", ended.stderr);
        }
        Ok(())
    }

    /// After a SIGKILL: nothing false is left, and a second run over it works.
    fn runs_again(&self, ended: &Ended) -> Result<()> {
        let code = self.scenario.code;
        if let Some(found) = self.exit_code() {
            ensure!(found == code.to_string(), "the file says {found:?}");
        }
        // A signal that was left would reach the second run, and so would one that is still on its way: what the command has started lives on.
        if self.scenario.name == "signal" {
            std::thread::sleep(Duration::from_millis(60));
        }
        let _ = fs::remove_file(self.own("signal"));
        let _ = fs::remove_file(self.work().join("pid"));
        if self.scenario.role == Role::Run {
            ["stdout", "stderr", "combined"].iter().for_each(|name| drop(fs::remove_file(self.own(name))));
        }
        let again = self.run(&[])?;
        ensure!(again.status == Some(code), "after {:?} a second run ends with {:?}: {}", ended.status, again.status, again.stderr);
        self.agrees(&again)?;
        ensure!(self.outputs_are_whole()?, "a second run leaves no output");
        Ok(())
    }
}

/// Calls of each kind in a run without a fault.
fn counted(binary: &Path, scenario: &Scenario) -> Result<BTreeMap<String, usize>> {
    let pod = Pod::new(binary, scenario)?;
    let ended = pod.run(&pod.strace(&["-e", "trace=all"]))?;
    ensure!(ended.status == Some(scenario.code), "{} ends with {:?}: {}", scenario.name, ended.status, ended.stderr);
    ensure!(pod.outputs_are_whole()?, "{} leaves no output", scenario.name);
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
