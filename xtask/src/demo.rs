//! `demo`: plays a pod from a real template, as three processes or as three containers. As root, the processes belong to three users.
//!
//! The command of act one runs to its end. The command of act two is too slow, so the deadline of the wait side ends it with SIGTERM.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::tools::{is_root, output, root};
use crate::{build, docker};

/// Users of the three containers; none of them root.
const INIT_UID: u32 = 10_001;
const MAIN_UID: u32 = 10_002;
const WAIT_UID: u32 = 10_003;

const SCRIPT: &str = r#"
trap 'echo "asked to stop; keeping what is there"; exit 3' TERM
echo "working as uid $(id -u)"
echo "a word on stderr" >&2
mkdir -p "$WORK/results/empty"
echo 42 >"$WORK/answer"
printf 'n,square\n6,36\n7,49\n' >"$WORK/results/table.csv"
ln -sf table.csv "$WORK/results/latest"
for _ in $(seq "$ROUNDS"); do sleep 0.1; done
echo done
"#;

/// The template of the pod.
fn template(work: &str) -> Value {
    json!({
        "name": "demo",
        "archiveLocation": {"archiveLogs": true},
        "script": {"image": "demo", "command": ["sh"], "source": SCRIPT},
        "outputs": {
            "parameters": [{"name": "answer", "valueFrom": {"path": format!("{work}/answer")}}],
            "artifacts": [{"name": "results", "path": format!("{work}/results")}],
        },
    })
}

/// Builds the binary and plays both acts.
pub(crate) fn demo(docker: bool) -> Result<()> {
    let binary = build::build(None)?;
    println!("built {} ({} bytes)\n", binary.display(), binary.metadata()?.len());
    let scratch = tempfile::Builder::new().prefix("emissary-demo-").tempdir()?;
    std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o755))?;
    if docker { in_containers(&binary, scratch.path()) } else { as_processes(&binary, scratch.path()) }
}

/// A folder that every user may write to, as Kubernetes makes an emptyDir volume.
fn volume(path: &Path) -> Result<()> {
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o777))?;
    Ok(())
}

fn as_processes(binary: &Path, scratch: &Path) -> Result<()> {
    let image = scratch.join("emissary");
    std::fs::copy(binary, &image)?;
    let as_root = is_root();
    if !as_root {
        println!("(not root: the three processes run as the same user)\n");
    }
    for (act, rounds, deadline) in [("Act one: it runs to its end", "3", "60s"), ("Act two: it is too slow", "600", "1s")] {
        println!("== {act} ==");
        let (shared, work) = (scratch.join(format!("volume-{rounds}")), scratch.join(format!("work-{rounds}")));
        volume(&shared)?;
        volume(&work)?;
        let template = template(&work.to_string_lossy()).to_string();
        let container = |program: &Path, name: &str, uid: u32| {
            let mut process = Command::new(program);
            process.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("ARGO_CONTAINER_NAME", name).env("EMISSARY_DIR", &shared);
            process.current_dir("/");
            if as_root {
                process.uid(uid).gid(uid);
            }
            process
        };
        let init = container(&image, "init", INIT_UID).arg("init").env("ARGO_TEMPLATE", &template).output()?;
        tell("init", "emissary init", &init)?;
        // The other two processes run the copy on the volume.
        let copy = shared.join("emissary");
        let wait = spawn(container(&copy, "wait", WAIT_UID).args(["wait", "--follow", "--timeout", deadline, "--grace", "10s"]))?;
        let main = container(&copy, "main", MAIN_UID).args(["--", "sh", "-c", SCRIPT]).env("WORK", &work).env("ROUNDS", rounds).output()?;
        tell("main", "emissary -- sh -c SCRIPT", &main)?;
        tell("wait", &format!("emissary wait --follow --timeout {deadline}"), &wait.wait_with_output()?)?;
        show(&shared)?;
        let want = if rounds == "3" { "0" } else { "3" };
        check(&shared, want)?;
    }
    println!("Both acts ended as they must.");
    Ok(())
}

fn in_containers(binary: &Path, scratch: &Path) -> Result<()> {
    if !docker::is_available() {
        bail!("--docker needs Docker, and `docker info` fails");
    }
    let worker = build::example("worker")?;
    let context = scratch.join("context");
    std::fs::create_dir(&context)?;
    std::fs::copy(binary, context.join("emissary"))?;
    std::fs::copy(worker, context.join("worker"))?;
    // The names have our process id, since several runs may overlap.
    let tags = Images([format!("emissary-demo:{}", std::process::id()), format!("emissary-demo-app:{}", std::process::id())]);
    let [emissary, app] = &tags.0;
    for (file, tag) in [("Dockerfile", emissary), ("demo.Dockerfile", app)] {
        docker::build(tag, &root().join("scratch-image").join(file), &context, &[&format!("EMISSARY={emissary}")])?;
    }
    let work = "/var/run/argo/work";
    for (act, seconds, deadline) in [("Act one: it runs to its end", "1", "60s"), ("Act two: it is too slow", "600", "3s")] {
        println!("== {act} ==");
        let shared = scratch.join(format!("volume-{seconds}"));
        volume(&shared)?;
        let container = |image: &str, name: &str, uid: u32, env: &[String], args: &[&str]| {
            let mut docker = docker::hardened();
            docker.args(["--user", &format!("{uid}:{uid}"), "--volume", &format!("{}:/var/run/argo", shared.display())]);
            docker.args(["--env", &format!("ARGO_CONTAINER_NAME={name}")]);
            for value in env {
                docker.args(["--env", value]);
            }
            docker.arg(image).args(args);
            docker
        };
        let template = format!("ARGO_TEMPLATE={}", template(work));
        let init = container(emissary, "init", INIT_UID, &[template], &["init"]).output()?;
        tell("init", "docker run … emissary init", &init)?;
        let follow = ["wait", "--follow", "--timeout", deadline, "--grace", "10s"];
        let wait = spawn(&mut container(emissary, "wait", WAIT_UID, &[], &follow))?;
        // The user is nobody, and the image has no shell.
        let main = container(app, "main", 65_534, &[], &["/worker", work, seconds]).output()?;
        tell("main", &format!("docker run … app /worker {work} {seconds}"), &main)?;
        tell("wait", &format!("docker run … emissary wait --follow --timeout {deadline}"), &wait.wait_with_output()?)?;
        show(&shared)?;
        check(&shared, if seconds == "1" { "0" } else { "143" })?;
    }
    println!("Both acts ended as they must.");
    Ok(())
}

/// Images that are removed when the demo ends, on every path.
struct Images([String; 2]);

impl Drop for Images {
    fn drop(&mut self) {
        self.0.iter().for_each(|tag| drop(docker::remove(tag)));
    }
}

fn spawn(process: &mut Command) -> Result<Child> {
    process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| format!("cannot start {process:?}"))
}

/// Prints the output and the exit status of a container.
fn tell(name: &str, line: &str, output: &Output) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "[{name}] $ {line}")?;
    for (mark, stream) in [("|", &output.stdout), ("!", &output.stderr)] {
        for line in String::from_utf8_lossy(stream).lines() {
            writeln!(out, "       {mark} {line}")?;
        }
    }
    writeln!(out, "       = exit status {}", output.status.code().unwrap_or(-1))?;
    Ok(())
}

/// Prints the files on the volume: mode, owner, size, and the beginning of the text.
fn show(shared: &Path) -> Result<()> {
    println!("on the volume are:");
    let listing = output(Command::new("find").args([".", "-mindepth", "1", "-printf", "%P\t%M\t%U\t%s\t%y\n"]).current_dir(shared))?;
    let mut lines: Vec<&str> = listing.lines().collect();
    lines.sort_unstable();
    for line in lines {
        let [path, mode, uid, size, kind] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
        let mut note = String::new();
        if kind == "f" && path.ends_with(".tgz") {
            let names = output(Command::new("tar").arg("tzf").arg(shared.join(path)))?;
            note = format!("  holds {}", names.replace('\n', " "));
        } else if kind == "f" && path != "template" && path != "emissary" {
            let mut text = String::new();
            std::fs::File::open(shared.join(path))?.take(60).read_to_string(&mut text)?;
            note = format!("  {text:?}");
        }
        let size = if kind == "f" { size } else { "-" };
        println!("  {mode} {uid:>5} {size:>7} {path}{note}");
    }
    println!();
    Ok(())
}

/// Checks the files on the volume against the protocol: the demo is a test too.
fn check(shared: &Path, exit_code: &str) -> Result<()> {
    let read = |path: &str| std::fs::read(shared.join(path)).with_context(|| format!("the volume lacks {path}"));
    let found = read("ctr/main/exitcode")?;
    if found != exit_code.as_bytes() {
        bail!("exit code {:?}, not {exit_code}", String::from_utf8_lossy(&found));
    }
    let outputs = std::fs::read_dir(shared.join("outputs/parameters"))?.flatten().next().context("no parameter was saved")?.path();
    let value = output(Command::new("find").arg(outputs).args(["-name", "answer", "-exec", "cat", "{}", "+"]))?;
    if value != "42" {
        bail!("the parameter is {value:?}");
    }
    if read("ctr/main/combined")?.is_empty() {
        bail!("the combined log is empty");
    }
    Ok(())
}
