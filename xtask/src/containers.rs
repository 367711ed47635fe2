//! The container tests: a pod of init, two main containers of a set, a sidecar and wait, each its own user, on one volume; with PID namespaces of
//! their own and with a shared one.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::tools::{command, is_on_path, output, run};
use crate::{build, image};

/// Image with the emissary and the worker. Runs may overlap; each has its own.
static IMAGE: LazyLock<String> = LazyLock::new(|| format!("emissary-test:{}", std::process::id()));

/// Whether Docker is there and answers.
pub(crate) fn is_available() -> bool {
    is_on_path("docker") && output(command("docker").args(["info", "--format", "{{.ServerVersion}}"])).is_ok()
}

/// Runs the tests; the image is removed again.
pub(crate) fn test(binary: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("emissary-containers-").tempdir()?;
    std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o755))?;
    let context = scratch.path().join("context");
    std::fs::create_dir(&context)?;
    std::fs::copy(binary, context.join("emissary"))?;
    std::fs::copy(build::example("worker")?, context.join("worker"))?;
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY emissary worker /\nENTRYPOINT [\"/emissary\"]\n")?;
    output(command("docker").env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", &IMAGE]).arg(&context))?;
    let result = [false, true].into_iter().try_for_each(|shares_pids| {
        let volume = scratch.path().join(if shares_pids { "shared" } else { "own" });
        std::fs::create_dir(&volume)?;
        std::fs::set_permissions(&volume, Permissions::from_mode(0o777))?;
        play(&volume, shares_pids)
            .with_context(|| if shares_pids { "with a shared PID namespace" } else { "with PID namespaces of their own" })
    });
    run(command("docker").args(["rmi", "--force", &IMAGE]).stdout(Stdio::null()))?;
    result
}

/// The image with users, /tmp and certificates: what a program without a distribution asks for is there, and nothing but it can be written.
pub(crate) fn test_base() -> Result<()> {
    let image = image::base()?;
    let result = (|| {
        let volume = volume_folder()?;
        let mut docker = command("docker");
        docker.args(["run", "--rm"]).args(hardened(volume.path(), 65_532, None)).args(["--tmpfs", "/tmp"]);
        docker.args(["--env", "EMISSARY_DIR=/var/run/argo", &image, "--", "/emissary", "version"]);
        succeed("base", &docker.output()?, 0)?;
        let left = std::fs::read_to_string(volume.path().join("stdout"))?;
        ensure!(left == format!("emissary {}\n", env!("CARGO_PKG_VERSION")), "the command's output is {left:?}");
        // The files themselves, as a tar of the image has them.
        let made = output(command("docker").args(["create", &image]))?;
        let tar = command("docker").args(["export", &made]).output()?;
        output(command("docker").args(["rm", &made]))?;
        let mut archive = tar::Archive::new(&tar.stdout[..]);
        let mut found = std::collections::BTreeMap::new();
        for entry in archive.entries()? {
            let entry = entry?;
            found.insert(entry.path()?.display().to_string(), entry.header().mode()? & 0o7777);
        }
        for (path, mode) in [
            ("etc/passwd", 0o644),
            ("etc/group", 0o644),
            ("etc/ssl/certs/ca-certificates.crt", 0o644),
            ("tmp/", 0o1777),
            ("emissary", 0o755),
        ] {
            ensure!(found.get(path) == Some(&mode), "{path} has mode {:?}, not {mode}", found.get(path));
        }
        Ok(())
    })();
    run(command("docker").args(["rmi", "--force", &image]).stdout(Stdio::null()))?;
    result
}

/// The executor image over a stand-in for Argo's own: our `argoexec` is what runs, init puts it on the volume, and what is the full one's goes there.
pub(crate) fn test_executor(binary: &Path) -> Result<()> {
    let (upstream, executor) = (format!("emissary-upstream:{}", std::process::id()), format!("emissary-executor:{}", std::process::id()));
    let context = tempfile::tempdir()?;
    std::fs::create_dir(context.path().join("bin"))?;
    std::fs::copy(build::example("stand_in")?, context.path().join("bin/argoexec"))?;
    std::fs::write(context.path().join("Dockerfile"), "FROM scratch\nCOPY bin /bin\nENTRYPOINT [\"argoexec\"]\n")?;
    output(command("docker").env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", &upstream]).arg(context.path()))?;
    let context = tempfile::tempdir()?;
    std::fs::copy(binary, context.path().join("emissary"))?;
    let result = image::docker_build(&executor, "executor.Dockerfile", context.path(), &[&format!("UPSTREAM={upstream}")]).and_then(|()| {
        let volume = volume_folder()?;
        let argoexec = |uid: u32, args: &[&str]| {
            let mut docker = command("docker");
            docker.args(["run", "--rm"]).args(hardened(volume.path(), uid, None));
            docker
                .args(["--env", "ARGO_CONTAINER_NAME=main", "--env", "ARGO_TEMPLATE={}", "--entrypoint", "/bin/argoexec", &executor])
                .args(args);
            docker
        };
        // The full one's own subcommands, with all their arguments.
        let delegated = argoexec(8_737, &["wait", "--loglevel", "info"]).output()?;
        succeed("wait", &delegated, 0)?;
        let said = String::from_utf8_lossy(&delegated.stdout).into_owned();
        ensure!(said == "full executor: /bin/argoexec wait --loglevel info\n", "the full executor says {said:?}");
        // Ours, as the pod's specification starts it.
        succeed("version", &argoexec(8_737, &["emissary", "--loglevel", "info", "--", "/bin/argoexec-full", "hello"]).output()?, 0)?;
        let code = std::fs::read_to_string(volume.path().join("ctr/main/exitcode"))?;
        ensure!(code == "0", "the exit code is {code:?}");
        Ok(())
    });
    for image in [&executor, &upstream] {
        run(command("docker").args(["rmi", "--force", image]).stdout(Stdio::null()))?;
    }
    result
}

/// A volume that every user may write to.
fn volume_folder() -> Result<tempfile::TempDir> {
    let volume = tempfile::Builder::new().prefix("emissary-volume-").tempdir()?;
    std::fs::set_permissions(volume.path(), Permissions::from_mode(0o777))?;
    // As init leaves it.
    std::fs::write(volume.path().join("template"), "{}")?;
    Ok(volume)
}

/// `b` waits for `a`; the sidecar runs until both have ended.
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

fn play(volume: &Path, shares_pids: bool) -> Result<()> {
    // As a kubelet's pause container does: something to share the namespace of. It ends by itself.
    let pause = if shares_pids {
        let hardened = hardened(volume, 20_000, None);
        let mut docker = command("docker");
        docker.args(["run", "--rm", "--detach"]).args(hardened).args(["--entrypoint", "/worker", &IMAGE, "/var/run/argo/pause", "60"]);
        Some(output(&mut docker)?)
    } else {
        None
    };
    let result = play_in(volume, pause.as_deref());
    if let Some(pause) = &pause {
        let _ = output(command("docker").args(["kill", pause]));
    }
    result
}

/// Everything that the "restricted" Pod Security Standard asks for, and a read-only root without a network.
fn hardened(volume: &Path, uid: u32, pause: Option<&str>) -> Vec<String> {
    let mut args: Vec<String> =
        ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none"].map(String::from).to_vec();
    args.extend(["--user".into(), format!("{uid}:{uid}"), "--volume".into(), format!("{}:/var/run/argo", volume.display())]);
    if let Some(pause) = pause {
        args.extend(["--pid".into(), format!("container:{pause}")]);
    }
    args
}

fn play_in(volume: &Path, pause: Option<&str>) -> Result<()> {
    let container = |name: &str, uid: u32, args: &[&str]| {
        let mut docker = command("docker");
        docker.args(["run", "--rm"]).args(hardened(volume, uid, pause));
        docker.args(["--env", &format!("ARGO_CONTAINER_NAME={name}"), "--env", &format!("ARGO_TEMPLATE={}", template())]);
        docker.arg(&*IMAGE).args(args);
        docker
    };
    let worker = |name: &str, uid: u32, seconds: &str| {
        let work = format!("/var/run/argo/work-{name}");
        container(name, uid, &["--", "/worker", &work, seconds])
    };
    succeed("init", &container("init", 20_001, &["init"]).output()?, 0)?;
    // All at once, the dependent and the sidecar first.
    let wait = spawn(&mut container("wait", 20_002, &["wait", "--json", "--timeout", "60s"]))?;
    let main = spawn(&mut worker("main", 20_003, "0"))?;
    let side = spawn(&mut worker("side", 20_004, "60"))?;
    let first = spawn(&mut worker("a", 20_005, "2"))?;
    succeed("a", &first.wait_with_output()?, 0)?;
    succeed("main", &main.wait_with_output()?, 0)?;
    succeed("side", &side.wait_with_output()?, 143)?;
    let report = wait.wait_with_output()?;
    succeed("wait", &report, 0)?;
    let report: Value = serde_json::from_slice(&report.stdout)?;
    ensure!(report["parameters"][0]["value"] == "42", "the parameter is {}", report["parameters"]);
    ensure!(report["artifacts"][0]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "the artifact is {}", report["artifacts"]);
    for (name, code) in [("main", "0"), ("a", "0"), ("side", "143")] {
        let found = std::fs::read_to_string(volume.join("ctr").join(name).join("exitcode"))?;
        ensure!(found == code, "{name} left exit code {found:?}, not {code}");
    }
    // The dependency had ended before the dependent began.
    let written = |name: &str| std::fs::metadata(volume.join(name)).and_then(|file| file.modified());
    ensure!(written("ctr/a/exitcode")? <= written("work-main/answer")?, "main did not wait for its dependency");
    Ok(())
}

fn spawn(command: &mut Command) -> Result<Child> {
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

fn succeed(name: &str, output: &Output, code: i32) -> Result<()> {
    if output.status.code() != Some(code) {
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        bail!("{name} ended with {}, not {code}: {}", output.status, String::from_utf8_lossy(&text).trim_end());
    }
    Ok(())
}
