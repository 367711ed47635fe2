//! The scenarios of `faults`: what the binary must do, and what must hold afterwards, whatever system call failed.
//!
//! Enters: a scenario and the words of a tracing program. Leaves: how the run ended, and an error for each broken promise of docs/protocol.md. Refuses: a run
//! that hangs.

use core::time::Duration;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The longest time that a run may take, even on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The output of each command whose output emissary captures.
const LOG: &str = "line 1\nline 2\nline 3\nline 4\nline 5\n";

/// The role of the binary.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Run,
    Init,
    Wait { follows: bool },
    Signal,
}

/// A command, and the outputs that the template asks for.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    role: Role,
    /// The script that [`Role::Run`] runs.
    script: &'static str,
    /// The value of `outputs` in the template.
    outputs: fn(&Path) -> serde_json::Value,
    /// The container's name in the pod layout; `None` means the flat layout.
    container: Option<&'static str>,
    /// The size of the artifact's file.
    bytes: usize,
    /// The exit code of a run without a fault.
    pub(crate) code: i32,
}

const PLAIN: Scenario =
    Scenario { name: "", role: Role::Run, script: "", outputs: |_| serde_json::json!({}), container: None, bytes: 0, code: 0 };

pub(crate) const SCENARIOS: [Scenario; 11] = [
    Scenario {
        name: "capture",
        script: "echo $$ >$WORK/pid; for i in 1 2 3 4 5; do echo line $i; done; echo err >&2; : >$WORK/done; exit 7",
        code: 7,
        ..PLAIN
    },
    Scenario { name: "log", script: "echo $$ >$WORK/pid; for i in 1 2 3 4 5; do echo line $i; done; : >$WORK/done", ..PLAIN },
    Scenario {
        // One container of a set in the pod layout. It depends on another container.
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
        // The output is larger than a pipe's buffer and smaller than a chunk.
        bytes: 90_000,
        ..PLAIN
    },
    Scenario {
        // The file has several chunks, so several threads compress it if the machine has CPUs for that. It also has a hole between two stretches of data.
        name: "threads",
        script: "echo $$ >$WORK/pid; mkdir -p $WORK/o/sub; cd $WORK/o/sub; seq 1 200000 | head -c 300000 >f; \
                 seq 1 200000 | tail -c 300000 | dd of=f conv=notrunc oflag=seek_bytes seek=700000 status=none; ln -sf f l; : >$WORK/done",
        outputs: |work| serde_json::json!({"artifacts": [{"name": "o", "path": work.join("o")}]}),
        bytes: 1_000_000,
        ..PLAIN
    },
    Scenario {
        // The command waits for a signal that a signal file brings.
        name: "signal",
        script: "trap ': >$WORK/done; exit 5' TERM; echo $$ >$WORK/pid; sleep 0.03; echo TERM >$EMISSARY_DIR/new; mv $EMISSARY_DIR/new $EMISSARY_DIR/signal; \
                 for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 0.02; done; : >$WORK/done; exit 6",
        code: 5,
        ..PLAIN
    },
    // This role leaves a signal for another container.
    Scenario { name: "leave", role: Role::Signal, ..PLAIN },
    Scenario { name: "init", role: Role::Init, ..PLAIN },
    Scenario {
        name: "wait",
        role: Role::Wait { follows: false },
        outputs: |work| serde_json::json!({"parameters": [{"name": "p", "valueFrom": {"path": work.join("p")}}]}),
        ..PLAIN
    },
    Scenario { name: "follow", role: Role::Wait { follows: true }, ..PLAIN },
];

/// One volume, on which one scenario is played.
pub(crate) struct Pod<'a> {
    folder: tempfile::TempDir,
    binary: &'a Path,
    scenario: &'a Scenario,
}

/// How a run ended.
pub(crate) struct Ended {
    /// The exit status; `None` when a signal ended the run.
    pub(crate) status: Option<i32>,
    pub(crate) stderr: String,
}

impl<'a> Pod<'a> {
    /// Makes the volume, and the files that a run needs.
    pub(crate) fn new(binary: &'a Path, scenario: &'a Scenario) -> Result<Self> {
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
            // A main container has left these files.
            fs::write(pod.shared().join("stdout"), LOG)?;
            fs::write(pod.shared().join("exitcode"), "0")?;
            let parameter = pod.output("parameters", "p");
            fs::create_dir_all(parameter.parent().context("a folder")?)?;
            fs::write(parameter, "value\n")?;
        }
        Ok(pod)
    }

    /// The file to which `short` and `late` write a line for each call that they have changed.
    pub(crate) fn mark(&self) -> PathBuf {
        self.folder.path().join("mark")
    }

    /// The lines that `short` or `late` has written.
    pub(crate) fn marks(&self) -> Result<String> {
        Ok(fs::read_to_string(self.mark())?)
    }

    /// The trace that strace has written.
    pub(crate) fn trace(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("trace"))?)
    }

    fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// A file in the container's own folder.
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

    /// The words that start strace with these options.
    pub(crate) fn strace(&self, options: &[&str]) -> Vec<String> {
        let trace = self.folder.path().join("trace").display().to_string();
        ["strace", "-qqq", "-o", &trace].iter().chain(options).map(ToString::to_string).collect()
    }

    /// Runs the binary to its end. `through` has the words of a program that starts the binary; it may be empty.
    pub(crate) fn run(&self, through: &[String]) -> Result<Ended> {
        let words: &[&str] = match self.scenario.role {
            Role::Run => &["--", "sh", "-c", self.scenario.script],
            Role::Init => &["init"],
            Role::Signal => &["signal", "TERM"],
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
                // Kill the whole process group: without strace, the processes that it traced would live on.
                killpg(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL)?;
                child.wait()?;
                bail!("the run hangs");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        // strace ends as its child does: with the same exit status, or by the same signal.
        Ok(Ended { status: status.code(), stderr: fs::read_to_string(stderr)? })
    }

    fn exit_code(&self) -> Option<String> {
        fs::read_to_string(self.own("exitcode")).ok()
    }

    /// Checks that every file under a final name is right. Returns whether all outputs are there.
    pub(crate) fn outputs_are_whole(&self) -> Result<bool> {
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
            "leave" => {
                let Some(signal) = fs::read_to_string(self.own("signal")).ok() else { return Ok(false) };
                ensure!(signal == "15", "the signal file holds {signal:?}");
                Ok(true)
            }
            "init" => {
                let [template, binary] = ["template", "emissary"].map(|name| fs::read(self.shared().join(name)).ok());
                ensure!(template.as_ref().is_none_or(|text| *text == self.template().into_bytes()), "the template is incomplete");
                ensure!(binary.is_none() || binary == fs::read(self.binary).ok(), "the binary is incomplete");
                if binary.is_some() {
                    let mode = fs::metadata(self.shared().join("emissary"))?.permissions().mode() & 0o7777;
                    ensure!(mode == 0o555, "the binary has mode {mode:o}");
                }
                Ok(template.is_some() && binary.is_some())
            }
            "wait" => {
                let report: Option<serde_json::Value> = serde_json::from_str(&fs::read_to_string(self.folder.path().join("stdout"))?).ok();
                let Some(report) = report else { return Ok(false) };
                Ok(report["exitCode"] == 0 && report["parameters"][0]["value"] == "value")
            }
            "follow" => {
                let printed = fs::read_to_string(self.folder.path().join("stdout"))?;
                let report = printed.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
                Ok(report.is_some_and(|report| report["exitCode"] == 0))
            }
            _ => Ok(true),
        }
    }

    fn archive_is_whole(&self, archive: fs::File) -> Result<()> {
        let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(archive));
        let mut names = Vec::new();
        for entry in archive.entries().context("cannot read the archive")? {
            let mut entry = entry.context("the archive is incomplete")?;
            let name = entry.path()?.display().to_string();
            if name == "o/sub/f" {
                let mut contents = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut contents).context("the archive is incomplete")?;
                ensure!(contents.len() == self.scenario.bytes, "the artifact's file has {} bytes", contents.len());
                ensure!(contents == fs::read(self.work().join("o/sub/f"))?, "the artifact has other contents");
            }
            names.push(name);
        }
        ensure!(names == ["o/", "o/sub/", "o/sub/f", "o/sub/l"], "the artifact has {names:?}");
        Ok(())
    }

    /// Checks that the command has ended. If emissary is gone, the machine's init reaps the command, so a zombie that stays is an error, too.
    pub(crate) fn command_is_gone(&self) -> Result<()> {
        let Ok(pid) = fs::read_to_string(self.work().join("pid")) else { return Ok(()) };
        let began = Instant::now();
        let status = PathBuf::from("/proc").join(pid.trim()).join("status");
        // The kernel does not use a process id again so soon. The command's name is `sh`.
        while fs::read_to_string(&status).is_ok_and(|text| text.starts_with("Name:\tsh\n")) {
            ensure!(began.elapsed() < Duration::from_secs(5), "the command {} is still there", pid.trim());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Checks that the exit-code file holds the exit status. Without that file, the status must not be 0.
    pub(crate) fn agrees(&self, ended: &Ended) -> Result<()> {
        let status = ended.status.context("a signal has ended the run")?;
        if self.scenario.role != Role::Run {
            return Ok(());
        }
        match self.exit_code() {
            Some(code) => ensure!(code == status.to_string(), "the file says {code:?}, the status is {status}"),
            None => ensure!(status != 0, "there is no exit code file, and the status is 0"),
        }
        Ok(())
    }

    /// Checks that a warning or the exit status tells of everything that is missing, and that the status is an expected one.
    pub(crate) fn is_told(&self, ended: &Ended, whole: bool) -> Result<()> {
        let status = ended.status.context("a signal has ended the run")?;
        // The command also writes to stderr. Emissary's own lines begin with its name.
        let has_warned = ended.stderr.contains("emissary: ");
        if matches!(self.scenario.name, "capture" | "log" | "dependent" | "follow") {
            // The reader of our stdout may be gone, and the command is not to blame. The copy on the volume is the output.
            let passed_on = fs::read_to_string(self.folder.path().join("stdout"))?;
            ensure!(passed_on.starts_with(LOG) || has_warned, "a part of the output was not passed on, and there is no warning");
        }
        if status == self.scenario.code {
            // A log with a gap needs a warning.
            ensure!(whole || has_warned, "an output is missing, and there is no warning");
            ensure!(status != 0 || whole, "an output is missing, and the status is 0: {}", ended.stderr);
        } else {
            ensure!(has_warned, "the status is {status}, and there is no warning");
            // After the command has ended, its own code is the status, unless that code is 0. Or emissary could never read the signal, and the command has
            // ended by itself.
            let has_ended = self.work().join("done").exists();
            let unread = status == 6 && ["shared/signal", "cannot signal the command"].iter().any(|what| ended.stderr.contains(what));
            let want = if has_ended && self.scenario.code != 0 { self.scenario.code } else { 64 };
            // If emissary stops reading the output, SIGPIPE ends the command.
            let closed = status == 128 + 13 && ended.stderr.contains("cannot read the command's");
            ensure!(status == want || unread || closed, "the status is {status}, not {want}: {}", ended.stderr);
        }
        Ok(())
    }

    /// Checks that a warning and the exit status tell of every written file whose close failed. `every` means that all closes failed, not one.
    pub(crate) fn is_told_of_closes(&self, ended: &Ended, every: bool) -> Result<()> {
        let status = ended.status.context("a signal has ended the run")?;
        for path in self.marks()?.lines().filter(|path| !path.is_empty()) {
            // The lock file is always empty. If the reserved file for the exit code fails, another file takes the code, and emissary checks the close of that
            // file.
            if path.ends_with("/.emissary-lock") || !every && path.ends_with("/.emissary-exitcode") {
                continue;
            }
            ensure!(ended.stderr.contains("emissary: "), "the close of {path} has failed, and there is no warning");
            // The record only tells of the run. A draft's name does not say for which file it is, but the warning does.
            let is_record = ended.stderr.contains("/report.json: ") && !self.own("report.json").exists();
            ensure!(status != 0 || is_record && !every, "the close of {path} has failed, and the status is 0: {}", ended.stderr);
        }
        Ok(())
    }

    /// Checks the volume after a SIGKILL: no file on it is wrong, and a second run over it does its work.
    pub(crate) fn runs_again(&self, ended: &Ended) -> Result<()> {
        let code = self.scenario.code;
        if let Some(found) = self.exit_code() {
            ensure!(found == code.to_string(), "the file says {found:?}");
        }
        // The processes that the command has started live on. Their signal would reach the second run, even if it comes later.
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
