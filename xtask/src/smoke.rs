//! Smoke scenarios for the binary of any target: exit code, signal, log, parameter, and a folder artifact that GNU tar reads. An emulator runs the binary
//! if this machine cannot.

use core::time::Duration;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::targets::Target;
use crate::tools::{install, is_on_path, output};

/// Runs the scenarios. The error names the first check that fails.
pub(crate) fn smoke(target: &Target, host: &str, binary: &Path) -> Result<()> {
    let runner = target.runner(host);
    if let Some(runner) = runner
        && !is_on_path(runner)
    {
        install(&["qemu-user-static"], &format!("{runner} is missing"))?;
    }
    let scratch = tempfile::Builder::new().prefix("emissary-smoke-").tempdir()?;
    let (shared, work) = (scratch.path().join("argo"), scratch.path().join("work"));
    std::fs::create_dir_all(&shared)?;
    std::fs::create_dir_all(work.join("o/sub"))?;
    std::fs::write(work.join("o/sub/f"), "deep\n")?;
    std::os::unix::fs::symlink("f", work.join("o/sub/l"))?;
    let template = serde_json::json!({"outputs": {
        "parameters": [{"name": "p", "valueFrom": {"path": work.join("p")}}],
        "artifacts": [{"name": "o", "path": work.join("o")}],
    }});
    std::fs::write(shared.join("template"), template.to_string())?;
    let emissary = |args: &[&str]| {
        let mut command = match runner {
            Some(runner) => {
                let mut command = Command::new(runner);
                command.arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.args(args).env("EMISSARY_DIR", &shared).env("EMISSARY_LAYOUT", "flat").env("W", &work).stdin(Stdio::null());
        command
    };
    let read = |path: &str| std::fs::read_to_string(shared.join(path)).with_context(|| format!("the shared folder lacks {path}"));

    let done = emissary(&["--", "sh", "-c", "echo out; echo v >$W/p; exit 3"]).output()?;
    ensure!(done.status.code() == Some(3) && read("exitcode")? == "3", "the exit code is not 3 but {}: {done:?}", done.status);
    ensure!(read("stdout")? == "out\n", "the log is {:?}", read("stdout")?);
    ensure!(read(&format!("outputs/parameters{}/p", work.display()))? == "v\n", "the parameter is wrong");
    let archive = shared.join(format!("outputs/artifacts{}/o.tgz", work.display()));
    let names = output(Command::new("tar").arg("-tzf").arg(&archive))?;
    ensure!(names == "o/\no/sub/\no/sub/f\no/sub/l", "GNU tar lists {names:?}");
    let contents = output(Command::new("tar").arg("-xOzf").arg(&archive).arg("o/sub/f"))?;
    ensure!(contents == "deep", "GNU tar reads {contents:?}");

    let report = emissary(&["wait", "--json"]).output()?;
    let report: serde_json::Value = serde_json::from_slice(&report.stdout)?;
    ensure!(report["exitCode"] == 3 && report["parameters"][0]["value"] == "v", "the report is {report}");

    let missing = emissary(&["--", "no-such-command"]).output()?;
    ensure!(missing.status.code() == Some(64) && read("exitcode")? == "64", "the status of a missing command is {}", missing.status);

    let mut running = emissary(&["--", "sh", "-c", "trap 'exit 5' TERM; touch $W/ready; while :; do sleep 0.02; done"]).spawn()?;
    let began = Instant::now();
    while !work.join("ready").exists() {
        ensure!(began.elapsed() < Duration::from_secs(60), "the command did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = emissary(&["signal", "SIGTERM"]).status()?;
    ensure!(sent.success(), "`emissary signal` ended with {sent}");
    let ended = running.wait()?;
    ensure!(ended.code() == Some(5) && read("exitcode")? == "5", "the signalled run ended with {ended}");
    Ok(())
}
