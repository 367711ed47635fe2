//! A pod on this machine: a shared folder, a scratch folder, and the emissary that runs in it.

use core::time::Duration;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

/// The longest time that a test waits for a condition or an end, on a machine under load.
const DEADLINE: Duration = Duration::from_secs(60);

/// The binary under test, in a folder that every user can enter.
///
/// The first call copies it, before any test forks. A fork that still held the file open for writing would make it busy (`ETXTBSY`).
pub(crate) fn binary() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let built = std::env::var_os("EMISSARY_BIN").map_or_else(|| env!("CARGO_BIN_EXE_emissary").into(), PathBuf::from);
        // The copy lies beside the temporary folders, since each pod links it. Its name has our process id, since runs may overlap. Rust calls nothing at
        // the end of a test process, so the next run removes the copy.
        let prefix = "emissary-under-test-";
        for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
            let stale = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_prefix(prefix))
                .is_some_and(|pid| !Path::new("/proc").join(pid).exists());
            if stale {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let copy = std::env::temp_dir().join(format!("{prefix}{}", std::process::id()));
        std::fs::copy(&built, &copy).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
        copy
    })
}

/// Waits until a condition is true. Fails after the deadline.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A pod, and the one of its containers that a test runs.
pub(crate) struct Pod {
    root: tempfile::TempDir,
    /// The volume.
    pub(crate) shared: PathBuf,
    /// `$W`: a folder for the command, and its working directory.
    pub(crate) work: PathBuf,
    name: Option<&'static str>,
    env: Vec<(String, String)>,
    program: PathBuf,
    /// Words before the emissary on the command line, such as `setpriv …`.
    via: Vec<String>,
    is_bare: bool,
}

/// How a process ended, and its output.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit status, or 1000 + the number of the signal that ended the process.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Pod {
    /// The container `main` of a pod, with an empty template.
    pub(crate) fn new() -> Self {
        Self::of(Some("main"))
    }

    /// A pod in the flat layout.
    pub(crate) fn flat() -> Self {
        Self::of(None)
    }

    /// The container with this name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::of(Some(name))
    }

    fn of(name: Option<&'static str>) -> Self {
        let root = tempfile::Builder::new().prefix("emissary-").tempdir().unwrap();
        std::fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        let (shared, work) = (root.path().join("argo"), root.path().join("work"));
        for folder in [&shared, &work] {
            std::fs::create_dir(folder).unwrap();
            std::fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
        }
        let program = root.path().join("emissary");
        std::fs::hard_link(binary(), &program).unwrap();
        std::fs::write(root.path().join("termination-log"), "").unwrap();
        std::fs::set_permissions(root.path().join("termination-log"), Permissions::from_mode(0o666)).unwrap();
        let pod = Self { root, shared, work, name, env: Vec::new(), program, via: Vec::new(), is_bare: false };
        pod.put("template", "{}");
        pod
    }

    /// A container without a volume and without any variable of emissary's. The default shared folders are not there.
    pub(crate) fn bare() -> Self {
        let mut pod = Self::of(None);
        pod.is_bare = true;
        pod
    }

    /// Sets the template. `$W` in it stands for the scratch folder.
    pub(crate) fn template(self, template: &str) -> Self {
        self.put("template", &template.replace("$W", self.work.to_str().unwrap()));
        self
    }

    /// Removes the template.
    pub(crate) fn no_template(self) -> Self {
        std::fs::remove_file(self.shared.join("template")).unwrap();
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.replace("$W", self.work.to_str().unwrap())));
        self
    }

    /// Captures stdout.
    pub(crate) fn capturing(self) -> Self {
        self.env("ARGO_INCLUDE_SCRIPT_OUTPUT", "true")
    }

    /// Calls the binary by this name.
    pub(crate) fn called(mut self, name: &str) -> Self {
        let program = self.root.path().join(name);
        std::fs::hard_link(binary(), &program).unwrap();
        self.program = program;
        self
    }

    /// Starts the binary through these words, such as `setpriv …`.
    pub(crate) fn via(mut self, words: &[&str]) -> Self {
        self.via = words.iter().map(ToString::to_string).collect();
        self
    }

    /// Writes a file on the volume. It appears complete, and all users can write to it.
    pub(crate) fn put(&self, path: &str, text: &str) {
        let target = self.shared.join(path);
        let folder = target.parent().unwrap();
        if !folder.exists() {
            std::fs::create_dir_all(folder).unwrap();
            for made in folder.ancestors().take_while(|made| *made != self.shared) {
                std::fs::set_permissions(made, Permissions::from_mode(0o777)).unwrap();
            }
        }
        let draft = folder.join(".put");
        std::fs::write(&draft, text).unwrap();
        std::fs::set_permissions(&draft, Permissions::from_mode(0o666)).unwrap();
        std::fs::rename(draft, target).unwrap();
    }

    /// The text of a file on the volume. `None` if there is no such file.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        std::fs::read(self.shared.join(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until the emissary has seen everything that has happened so far. It looks at all its files together, and takes rubbish from its signal file then.
    pub(crate) fn until_it_has_looked(&self) {
        for _ in 0..2 {
            self.put(&self.own("signal"), "rubbish");
            until("it to look", || self.text(&self.own("signal")).is_none());
        }
    }

    /// Permission bits of a file on the volume.
    pub(crate) fn mode(&self, path: &str) -> u32 {
        std::fs::symlink_metadata(self.shared.join(path)).unwrap_or_else(|error| panic!("{path}: {error}")).permissions().mode() & 0o7777
    }

    /// The path of a file in the container's folder.
    pub(crate) fn own(&self, file: &str) -> String {
        self.name.map_or_else(|| file.to_string(), |name| format!("ctr/{name}/{file}"))
    }

    /// The contents of the exit-code file.
    pub(crate) fn exit_code(&self) -> Option<String> {
        self.text(&self.own("exitcode"))
    }

    /// The path to which emissary saves the output `$W/name`.
    pub(crate) fn output(&self, kind: &str, name: &str) -> String {
        format!("outputs/{kind}{}/{name}", self.work.display())
    }

    /// The contents of the termination log.
    pub(crate) fn termination_log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("termination-log")).unwrap()
    }

    /// The names in an artifact's archive, in order, as the tar crate reads them.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        self.entries(path).into_iter().map(|(name, _)| name).collect()
    }

    /// The names and contents in an artifact's archive.
    pub(crate) fn entries(&self, path: &str) -> Vec<(String, Vec<u8>)> {
        let file = std::fs::File::open(self.shared.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(file));
        let mut rows = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_end_matches('/').to_string();
            let mut contents = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut contents).unwrap();
            rows.push((name, contents));
        }
        rows
    }

    /// The command that runs the emissary with these arguments.
    pub(crate) fn process(&self, args: &[&str]) -> Command {
        let mut words: Vec<String> = Vec::new();
        // Another program may have made the default shared folders on this machine. `sh` and `unshare` become the emissary, so its process id stays.
        let looks_for_folders = self.is_bare && self.program.ends_with("emissary");
        if looks_for_folders && ["/var/argo", "/var/run/argo"].into_iter().any(|folder| Path::new(folder).exists()) {
            let hide = r#"mount -t tmpfs tmpfs /var && exec "$0" "$@""#;
            words.extend(["unshare", "--map-root-user", "--mount", "sh", "-c", hide].map(String::from));
        }
        words.extend(self.via.iter().cloned());
        words.push(self.program.to_str().unwrap().into());
        words.extend(args.iter().map(|arg| arg.replace("$W", self.work.to_str().unwrap())));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir(&self.work);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("W", &self.work);
        command.env("EMISSARY_TERMINATION_LOG", self.root.path().join("termination-log"));
        if !self.is_bare {
            command.env("EMISSARY_DIR", &self.shared);
        }
        if let Some(name) = self.name {
            command.env("ARGO_CONTAINER_NAME", name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts `emissary ARGS…`.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running { child: self.process(args).process_group(0).spawn().unwrap(), began: Instant::now() }
    }

    /// Starts it with the given stdin, stdout and stderr.
    pub(crate) fn start_on(&self, args: &[&str], [stdin, stdout, stderr]: [Stdio; 3]) -> Running {
        let mut process = self.process(args);
        process.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
        Running { child: process.spawn().unwrap(), began: Instant::now() }
    }

    /// Starts `emissary -- sh -c SCRIPT` and waits until the script has made `$W/ready`.
    pub(crate) fn start_ready(&self, script: &str) -> Running {
        let running = self.start(&["--", "sh", "-c", script]);
        until("the command to be ready", || self.work.join("ready").exists());
        running
    }

    /// Runs `emissary ARGS…` to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        self.start(args).finish()
    }

    /// Runs `emissary -- sh -c SCRIPT` to its end.
    pub(crate) fn sh(&self, script: &str) -> Outcome {
        self.run(&["--", "sh", "-c", script])
    }

    /// Writes a file in the scratch folder, in a process of its own. Another test may fork this process at any time, and a file that the fork has open for
    /// writing cannot be executed.
    pub(crate) fn script(&self, name: &str, text: &str, mode: u32) {
        let write = r#"printf %s "$1" >"$2" && chmod "$3" "$2""#;
        let mut shell = Command::new("sh");
        shell.args(["-c", write, "sh", text]).arg(self.work.join(name)).arg(format!("{mode:o}"));
        // A text may be too long for an argument. No test executes such a file.
        if text.len() > 100_000 {
            std::fs::write(self.work.join(name), text).unwrap();
        } else {
            assert!(shell.status().unwrap().success());
        }
    }
}

/// A process that runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    began: Instant,
}

impl Running {
    /// Sends the process a signal.
    pub(crate) fn kill(&self, signal: i32) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::from_named_raw(signal).unwrap()).unwrap();
    }

    /// Sends the process a signal if it still exists.
    pub(crate) fn kill_if_there(&self, signal: i32) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::from_named_raw(signal).unwrap());
    }

    /// Waits until the process has blocked its signals. From here on, no signal ends it by the kernel's default.
    pub(crate) fn until_it_listens(&self) {
        let status = format!("/proc/{}/status", self.child.id());
        until("it to block signals", || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            text.lines().any(|line| line.starts_with("SigBlk:") && line.ends_with("fffffffffffbfeff"))
        });
    }

    /// The process ids of its children.
    pub(crate) fn children(&self) -> Vec<String> {
        let pid = self.child.id();
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().map(str::to_string).collect()
    }

    /// Waits for the end of the process, and returns its output.
    pub(crate) fn finish(mut self) -> Outcome {
        let (mut out, mut err) = (self.child.stdout.take(), self.child.stderr.take());
        let read = |stream: Option<&mut dyn std::io::Read>| {
            let mut bytes = Vec::new();
            stream.map(|stream| stream.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        };
        std::thread::scope(|scope| {
            let stdout = scope.spawn(|| read(out.as_mut().map(|out| out as &mut dyn std::io::Read)));
            let stderr = scope.spawn(|| read(err.as_mut().map(|err| err as &mut dyn std::io::Read)));
            let mut status = None;
            let start = Instant::now();
            while status.is_none() && start.elapsed() < DEADLINE {
                status = self.child.try_wait().unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
            let took = self.began.elapsed();
            if status.is_none() {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
            }
            let outcome = Outcome {
                status: status.map_or(-1, |status| status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0))),
                stdout: stdout.join().unwrap(),
                stderr: stderr.join().unwrap(),
                took,
            };
            assert!(status.is_some(), "still running after {DEADLINE:?}: {outcome:?}");
            outcome
        })
    }
}

impl Drop for Running {
    /// Ends the process, so that a failed test leaves none behind.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Whether a process has ended, reaped by its parent or not.
pub(crate) fn is_gone(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

/// Whether this test runs as root. Otherwise prints which part is not tested.
pub(crate) fn is_root(what: &str) -> bool {
    let root = rustix::process::getuid().is_root();
    if !root {
        eprintln!("not root: {what} is not tested");
    }
    root
}

/// Whether this test may make a namespace of this kind (`--mount`, `--pid`, `--user`). Otherwise, as in an unprivileged container, prints that.
pub(crate) fn may_unshare(kind: &str) -> bool {
    let may = is_root("a namespace")
        && Command::new("unshare").args([kind, "--fork", "true"]).output().is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("the kernel refuses `unshare {kind}`: a part is not tested");
    }
    may
}

/// Whether a program is in a folder of PATH. Otherwise prints that.
pub(crate) fn has_program(name: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    if !found {
        eprintln!("{name} is not installed: a part is not tested");
    }
    found
}

/// The path of a file below a folder, as text.
pub(crate) fn at(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().into()
}
