//! Tests of pods and images in Docker. The pod has an init, two main containers of a set, a sidecar and a wait container; each runs as another user, and all
//! share one volume. The images are the base image with users, /tmp and certificates, and the executor image that replaces Argo's own.
//!
//! Enters: the binary and the images' files. The tests follow docs/protocol.md and docs/images.md. `cargo xtask test --all` builds what these tests need and
//! passes the paths in the environment. `cargo xtask test docker_` runs these tests alone.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
#[ignore = "needs Docker: 8 s"]
fn docker_pod_with_a_pid_namespace_for_each_container() {
    play(false);
}

#[test]
#[ignore = "needs Docker: 8 s"]
fn docker_pod_with_a_shared_pid_namespace() {
    play(true);
}

/// The base image holds what a program needs in a container without a distribution. A container of this image can write to the volume and to /tmp alone.
#[test]
#[ignore = "needs Docker: 5 s"]
fn docker_base_image_has_users_tmp_and_certificates() {
    let image = std::env::var("EMISSARY_BASE_IMAGE").expect("EMISSARY_BASE_IMAGE names the image; `cargo xtask test docker_` sets it");
    let volume = volume_after_init();
    let mut docker = hardened(volume.path(), 65_532);
    docker.args(["--tmpfs", "/tmp", "--env", "EMISSARY_DIR=/var/run/argo", &image, "--", "/emissary", "version"]);
    ends_with("base", &docker.output().unwrap(), 0);
    let stdout = fs::read_to_string(volume.path().join("stdout")).unwrap();
    assert_eq!(stdout, format!("emissary {}\n", env!("CARGO_PKG_VERSION")));
    // The test reads the files from a tar of the image.
    let container = output(Command::new("docker").args(["create", &image]));
    let tar = Command::new("docker").args(["export", &container]).output().unwrap();
    output(Command::new("docker").args(["rm", &container]));
    let mut archive = tar::Archive::new(&tar.stdout[..]);
    let found: BTreeMap<String, u32> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap() & 0o7777)
        })
        .collect();
    for (path, mode) in
        [("etc/passwd", 0o644), ("etc/group", 0o644), ("etc/ssl/certs/ca-certificates.crt", 0o644), ("tmp/", 0o1777), ("emissary", 0o755)]
    {
        assert_eq!(found.get(path), Some(&mode), "{path}");
    }
}

/// In the executor image, our binary has the name `argoexec`. It handles the subcommand `emissary`, and passes every other subcommand to the full executor.
#[test]
#[ignore = "needs Docker: 5 s"]
fn docker_executor_image_over_a_stand_in_for_argos() {
    let context = tempfile::tempdir().unwrap();
    fs::create_dir(context.path().join("bin")).unwrap();
    fs::copy(file("EMISSARY_STAND_IN"), context.path().join("bin/argoexec")).unwrap();
    let upstream = Image::build("upstream", "FROM scratch\nCOPY bin /bin\nENTRYPOINT [\"argoexec\"]\n", context.path(), &[]);
    let context = tempfile::tempdir().unwrap();
    fs::copy(file("EMISSARY_BIN"), context.path().join("emissary")).unwrap();
    let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scratch-image/executor.Dockerfile");
    let dockerfile = fs::read_to_string(dockerfile).unwrap();
    let executor = Image::build("executor", &dockerfile, context.path(), &["--build-arg", &format!("UPSTREAM={}", upstream.0)]);
    let volume = volume_after_init();
    let argoexec = |args: &[&str]| {
        let mut docker = hardened(volume.path(), 8_737);
        docker.args(["--env", "ARGO_CONTAINER_NAME=main", "--env", "ARGO_TEMPLATE={}", "--entrypoint", "/bin/argoexec", &executor.0]);
        docker.args(args).output().unwrap()
    };
    // A subcommand of the full executor reaches it with all arguments.
    let delegated = argoexec(&["wait", "--loglevel", "info"]);
    ends_with("wait", &delegated, 0);
    assert_eq!(String::from_utf8_lossy(&delegated.stdout), "full executor: /bin/argoexec wait --loglevel info\n");
    // The pod's specification starts our own subcommand like this.
    ends_with("emissary", &argoexec(&["emissary", "--loglevel", "info", "--", "/bin/argoexec-full", "hello"]), 0);
    assert_eq!(fs::read_to_string(volume.path().join("ctr/main/exitcode")).unwrap(), "0");
}

/// Plays the pod: `main` depends on `a`, and the sidecar runs until both have ended.
fn play(shares_pids: bool) {
    let context = tempfile::tempdir().unwrap();
    fs::copy(file("EMISSARY_BIN"), context.path().join("emissary")).unwrap();
    fs::copy(file("EMISSARY_WORKER"), context.path().join("worker")).unwrap();
    let dockerfile = "FROM scratch\nCOPY emissary worker /\nENTRYPOINT [\"/emissary\"]\n";
    let image = Image::build(if shares_pids { "pod-shared" } else { "pod-own" }, dockerfile, context.path(), &[]);
    let volume = volume();
    // A kubelet's pause container holds the namespace that the others share. This container ends by itself after a minute.
    let pause = shares_pids.then(|| {
        let mut docker = hardened(volume.path(), 20_000);
        docker.args(["--detach", "--entrypoint", "/worker", &image.0, "/var/run/argo/pause", "60"]);
        Container(output(&mut docker))
    });
    let container = |name: &str, uid: u32, args: &[&str]| {
        let mut docker = hardened(volume.path(), uid);
        if let Some(pause) = &pause {
            docker.arg("--pid").arg(format!("container:{}", pause.0));
        }
        docker.args(["--env", &format!("ARGO_CONTAINER_NAME={name}"), "--env", &format!("ARGO_TEMPLATE={}", template())]);
        docker.arg(&image.0).args(args);
        docker
    };
    let worker = |name: &str, uid: u32, seconds: &str| {
        let work = format!("/var/run/argo/work-{name}");
        container(name, uid, &["--", "/worker", &work, seconds])
    };
    ends_with("init", &container("init", 20_001, &["init"]).output().unwrap(), 0);
    // All containers start at once; the dependent container and the sidecar are first.
    let wait = start(&mut container("wait", 20_002, &["wait", "--json", "--timeout", "60s"]));
    let main = start(&mut worker("main", 20_003, "0"));
    let side = start(&mut worker("side", 20_004, "60"));
    let first = start(&mut worker("a", 20_005, "2"));
    ends_with("a", &first.wait_with_output().unwrap(), 0);
    ends_with("main", &main.wait_with_output().unwrap(), 0);
    ends_with("side", &side.wait_with_output().unwrap(), 143);
    let report = wait.wait_with_output().unwrap();
    ends_with("wait", &report, 0);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["parameters"][0]["value"], "42", "{report}");
    assert!(report["artifacts"][0]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{report}");
    for (name, code) in [("main", "0"), ("a", "0"), ("side", "143")] {
        let found = fs::read_to_string(volume.path().join("ctr").join(name).join("exitcode")).unwrap();
        assert_eq!(found, code, "the exit code of {name}");
    }
    // `a` had ended before `main` began.
    let written = |name: &str| fs::metadata(volume.path().join(name)).unwrap().modified().unwrap();
    assert!(written("ctr/a/exitcode") <= written("work-main/answer"), "main did not wait for its dependency");
}

fn template() -> Value {
    json!({
        "name": "set",
        "archiveLocation": {"archiveLogs": true},
        "containerSet": {"containers": [{"name": "main", "dependencies": ["a"]}, {"name": "a"}]},
        "sidecars": [{"name": "side"}],
        "outputs": {
            "parameters": [{"name": "answer", "valueFrom": {"path": "/var/run/argo/work-main/answer"}}],
            "artifacts": [{"name": "results", "path": "/var/run/argo/work-main/results"}],
        },
    })
}

/// The file that `cargo xtask test` has built and whose path is in this variable.
fn file(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names no file; `cargo xtask test docker_` sets it")).into()
}

/// A volume that every user may write to.
fn volume() -> TempDir {
    let volume = tempfile::Builder::new().prefix("emissary-volume-").tempdir().unwrap();
    fs::set_permissions(volume.path(), Permissions::from_mode(0o777)).unwrap();
    volume
}

/// A volume with an empty template, as init leaves it.
fn volume_after_init() -> TempDir {
    let volume = volume();
    fs::write(volume.path().join("template"), "{}").unwrap();
    volume
}

/// A `docker run` with everything that the "restricted" Pod Security Standard asks for, with a read-only root, without network, and with the volume.
fn hardened(volume: &Path, uid: u32) -> Command {
    let mut docker = Command::new("docker");
    docker.args(["run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none"]);
    docker.args(["--user", &format!("{uid}:{uid}"), "--volume", &format!("{}:/var/run/argo", volume.display())]);
    docker
}

/// An image. It is removed when this value is dropped, on every path.
struct Image(String);

impl Image {
    /// Builds the image. Its name has our process id, because several test runs may overlap.
    fn build(name: &str, dockerfile: &str, context: &Path, args: &[&str]) -> Self {
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let image = Self(format!("emissary-test-{name}:{}", std::process::id()));
        // The classic builder needs no plugin and finds local images.
        let mut docker = Command::new("docker");
        output(docker.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", &image.0]).args(args).arg(context));
        image
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "--force", &self.0]).output();
    }
}

/// A container. It is killed when this value is dropped, on every path.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["kill", &self.0]).output();
    }
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs a command that must succeed. Returns its stdout without white space at both ends.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn ends_with(name: &str, output: &Output, code: i32) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    assert_eq!(output.status.code(), Some(code), "{name}: {}", String::from_utf8_lossy(&text));
}
