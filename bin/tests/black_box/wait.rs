//! The wait container, `emissary wait` (docs/protocol.md, "Wait"): the report, deadlines and requests to end, the logs that it copies, and its own readers.

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use crate::pod::{Pod, at, until};

const OUTPUTS: &str = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"/tmp/p"}},{"name":"d","valueFrom":{"path":"/tmp/d","default":"dflt"}},
    {"name":"m","valueFrom":{"path":"/tmp/m"}}],"artifacts":[{"name":"a","path":"/tmp/a"},{"name":"b","path":"/tmp/b"}]}}"#;

#[test]
fn the_report() {
    let pod = Pod::flat().template(OUTPUTS);
    let running = pod.start(&["wait", "--json"]);
    pod.put("stdout", "12345");
    pod.put("stderr", "1");
    pod.put("outputs/parameters/tmp/p", "v\n");
    pod.put("outputs/artifacts/tmp/a.tgz", "tgz");
    pod.put("exitcode", "5");
    let outcome = running.finish();
    assert_eq!(outcome.status, 5);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let file = pod.shared.join("outputs/artifacts/tmp/a.tgz");
    let want = serde_json::json!({
        "exitCode": 5,
        "containers": [{"name": "main", "exitCode": 5, "stdoutBytes": 5, "stderrBytes": 1}],
        "parameters": [{"name": "p", "path": "/tmp/p", "value": "v"}, {"name": "d", "path": "/tmp/d", "value": "dflt"},
            {"name": "m", "path": "/tmp/m", "value": null}],
        "artifacts": [{"name": "a", "path": "/tmp/a", "file": file, "bytes": 3}, {"name": "b", "path": "/tmp/b", "file": null, "bytes": null}],
    });
    assert_eq!(report, want);
    assert!(
        pod.run(&["wait"])
            .stdout
            .starts_with("exit code 5\ncontainer main: exit code 5, stdout 5 bytes, stderr 1 bytes\nparameter p (/tmp/p): v\n")
    );
}

#[test]
fn a_report_much_longer_than_its_values_is_whole() {
    let pod = Pod::flat().template(OUTPUTS);
    // In JSON, each byte of this value takes six bytes.
    let value = "\u{1}".repeat(1_000_000);
    pod.put("outputs/parameters/tmp/p", &value);
    pod.put("outputs/parameters/tmp/m", "after it");
    pod.put("exitcode", "0");
    let outcome = pod.run(&["wait", "--json"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout.len() > 6_000_000 && outcome.stdout.ends_with("]}\n"));
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert!(report["parameters"][0]["value"].as_str() == Some(&value), "the report has another value");
    assert_eq!(report["parameters"][2]["value"], "after it");
}

#[test]
fn outputs_on_a_mount_are_read_there() {
    let template = r#"{"container":{"volumeMounts":[{"mountPath":"$W"}]},"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/p"}}],
        "artifacts":[{"name":"a","path":"$W/p"}]}}"#;
    let pod = Pod::new().template(template);
    assert_eq!(pod.sh("echo on the mount >$W/p").status, 0);
    let report: serde_json::Value = serde_json::from_str(&pod.run(&["wait", "--json"]).stdout).unwrap();
    assert_eq!((&report["parameters"][0]["value"], &report["artifacts"][0]["bytes"]), (&"on the mount".into(), &13.into()));
}

#[test]
fn a_mount_may_be_one_file() {
    // Kubernetes mounts one file if the mount has a `subPath`.
    let template = r#"{"container":{"volumeMounts":[{"mountPath":"$W/f"},{"mountPath":"$W/none"}]},"outputs":{
        "parameters":[{"name":"p","valueFrom":{"path":"$W/f","default":"dflt"}},{"name":"q","valueFrom":{"path":"$W/none","default":"dflt"}},
        {"name":"r","valueFrom":{"path":"$W/f/below","default":"dflt"}}],"artifacts":[{"name":"a","path":"$W/f"},{"name":"b","path":"$W/none"}]}}"#;
    for pod in [Pod::new(), Pod::flat()] {
        let pod = pod.template(template);
        assert_eq!(pod.sh("echo on the mount >$W/f").status, 0);
        let outcome = pod.run(&["wait", "--json"]);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!([0, 1, 2].map(|at| report["parameters"][at]["value"].clone()), ["on the mount", "dflt", "dflt"]);
        assert_eq!((&report["artifacts"][0]["bytes"], &report["artifacts"][0]["file"]), (&13.into(), &at(&pod.work, "f").into()));
        assert!(report["artifacts"][1]["file"].is_null(), "{report}");
    }
    // A file on the mount that cannot be read is an error. The default does not replace it.
    let pod = Pod::new().template(template);
    assert_eq!(pod.sh("mkfifo $W/f").status, 0);
    let outcome = pod.run(&["wait", "--json"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("parameter 'p': cannot read "), "{outcome:?}");
}

#[test]
fn a_line_in_one_log_causes_no_look_at_all_other_logs() {
    const CONTAINERS: usize = 200;
    const LINES: usize = 300;
    let rows: Vec<String> = (0..CONTAINERS).map(|at| format!("{{\"name\":\"c{at}\"}}")).collect();
    let pod = Pod::new().template(&format!("{{\"containerSet\":{{\"containers\":[{}]}}}}", rows.join(",")));
    (0..CONTAINERS).for_each(|at| pod.put(&format!("ctr/c{at}/combined"), "begun\n"));
    let running = pod.start(&["wait", "--follow"]);
    running.until_it_listens();
    let mut log = std::fs::File::options().append(true).open(pod.shared.join("ctr/c0/combined")).unwrap();
    for _ in 0..LINES {
        log.write_all(b"line\n").unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let reads = std::fs::read_to_string(format!("/proc/{}/io", running.child.id())).unwrap();
    let reads: usize = reads.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap();
    (0..CONTAINERS).for_each(|at| pod.put(&format!("ctr/c{at}/exitcode"), "0"));
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.lines().filter(|line| *line == "c0: line").count()), (0, LINES));
    assert_eq!(outcome.stdout.lines().filter(|line| line.ends_with(": begun")).count(), CONTAINERS);
    // The run needs two or three reads for each container and each line. It took 60,000 when each line made emissary look at every log.
    assert!(reads < 6 * (CONTAINERS + LINES), "{reads} reads");
}

#[test]
fn the_report_says_why() {
    let reason = |pod: &Pod, args: &[&str]| {
        let outcome = pod.run(&[&["wait", "--json"][..], args].concat());
        let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        (outcome, report)
    };
    for pod in [Pod::new(), Pod::flat()] {
        let (outcome, report) = reason(&pod, &["--timeout", "200ms", "--grace", "200ms"]);
        assert_eq!((&report["reason"], &report["containers"][0]["reason"]), (&"timeout".into(), &"timeout".into()), "{report}");
        assert!(outcome.status == 64 && outcome.took < Duration::from_secs(5), "{outcome:?}");
        assert!(outcome.stderr.contains("container 'main': no exit code; gave up after 0."), "{outcome:?}");
        assert!(outcome.stderr.ends_with(" s: timeout\n"), "{outcome:?}");
    }
    let pod = Pod::flat();
    let running = pod.start(&["wait", "--json", "--grace", "200ms"]);
    running.until_it_listens();
    running.kill(15);
    let outcome = running.finish();
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&report["reason"], &report["containers"][0]["reason"]), (&"asked to end".into(), &"asked to end".into()));
    // The first container's file holds no code. The emissary of the second one was killed.
    let pod = Pod::flat();
    pod.put("exitcode", "rubbish");
    let (_, report) = reason(&pod, &[]);
    assert_eq!((&report["containers"][0]["reason"], report.get("reason")), (&"no exit code".into(), None));
    let pod = Pod::flat();
    pod.put(".emissary-lock", "");
    let (outcome, report) = reason(&pod, &[]);
    assert_eq!((outcome.status, &report["containers"][0]["reason"], report.get("reason")), (137, &"killed".into(), None));
    // A report without a failure has no reason.
    let pod = Pod::flat();
    pod.put("exitcode", "0");
    assert!(!reason(&pod, &[]).0.stdout.contains("reason"));
}

#[test]
fn one_newline_is_trimmed_and_nothing_else() {
    let pod = Pod::flat().template(r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"/p"}}]}}"#);
    pod.put("exitcode", "0");
    for (value, want) in [("v\r\n", "v\r"), ("v\n\n", "v\n"), ("v\r", "v\r"), ("\n", "")] {
        pod.put("outputs/parameters/p", value);
        let report: serde_json::Value = serde_json::from_str(&pod.run(&["wait", "--json"]).stdout).unwrap();
        assert_eq!(report["parameters"][0]["value"], want);
    }
}

#[test]
fn a_folder_on_a_mount_is_reported_as_a_folder() {
    let template = r#"{"container":{"volumeMounts":[{"mountPath":"$W"}]},"outputs":{"artifacts":[{"name":"a","path":"$W/f"},{"name":"w","path":"$W"}]}}"#;
    let pod = Pod::new().template(template);
    assert_eq!(pod.sh("mkdir $W/f").status, 0);
    let outcome = pod.run(&["wait", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let path = pod.work.to_str().unwrap();
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        report["artifacts"][0],
        serde_json::json!({"name": "a", "path": at(&pod.work, "f"), "file": at(&pod.work, "f"), "bytes": null})
    );
    assert_eq!(report["artifacts"][1], serde_json::json!({"name": "w", "path": path, "file": path, "bytes": null}));
    assert!(pod.run(&["wait"]).stdout.contains("/f, a folder\n"));
}

#[test]
fn an_output_that_cannot_be_read_is_an_error() {
    for (kind, at) in [("parameter 'p'", "outputs/parameters/tmp/p"), ("artifact 'a'", "outputs/artifacts/tmp/a.tgz")] {
        for plant in ["ln -s exitcode $0", "mkdir $0", "mkfifo $0"] {
            for code in ["0", "3"] {
                let pod = Pod::flat().template(OUTPUTS);
                pod.put("outputs/parameters/tmp/other", "");
                pod.put("outputs/artifacts/tmp/other", "");
                pod.put("exitcode", code);
                let place = pod.shared.join(at);
                assert!(std::process::Command::new("sh").args(["-c", plant]).arg(&place).status().unwrap().success());
                let outcome = pod.run(&["wait", "--json"]);
                assert_eq!(outcome.status, if code == "0" { 64 } else { 3 }, "{plant} {outcome:?}");
                assert!(outcome.stderr.contains(&format!("error: {kind}: cannot read {}", place.display())), "{plant} {outcome:?}");
                let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
                assert!(report["parameters"][0]["value"].is_null() && report["artifacts"][0]["file"].is_null(), "{plant} {report}");
            }
        }
    }
}

#[test]
fn a_log_that_cannot_be_followed_gives_one_warning() {
    let pod = Pod::flat();
    std::os::unix::fs::symlink("template", pod.shared.join("stdout")).unwrap();
    let running = pod.start(&["wait", "--follow"]);
    for _ in 0..5 {
        pod.put("stderr", "more");
    }
    pod.put("exitcode", "0");
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stderr.matches("/stdout: ").count()), (0, 1), "{outcome:?}");
}

#[test]
fn an_output_behind_a_link_is_not_missing() {
    let template = r#"{"container":{"volumeMounts":[{"mountPath":"$W"}]},"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/cur/p","default":"d"}}],
        "artifacts":[{"name":"a","path":"$W/cur/p"}]}}"#;
    let pod = Pod::new().template(template);
    assert_eq!(pod.sh("mkdir $W/v1; ln -s v1 $W/cur; echo secret >$W/v1/p").status, 0);
    let outcome = pod.run(&["wait", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert!(outcome.status == 64 && outcome.stderr.matches("emissary: error: ").count() == 2, "{outcome:?}");
    assert!(report["parameters"][0]["value"].is_null() && report["artifacts"][0]["file"].is_null(), "{report}");
}

#[test]
fn a_relative_path_is_saved_wherever_it_leads() {
    let template = r#"{"container":{"volumeMounts":[{"mountPath":"$W"}]},"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"p","default":"d"}}],
        "artifacts":[{"name":"a","path":"./p"}]}}"#;
    let pod = Pod::new().template(template);
    // The working directory lies on a mount. The wait side does not know the working directory.
    assert_eq!(pod.sh("echo v >p").status, 0);
    let outcome = pod.run(&["wait", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert!(outcome.status == 0 && report["parameters"][0]["value"] == "v" && report["artifacts"][0]["bytes"].is_u64(), "{outcome:?}");
}

#[test]
#[ignore = "slow, 10 s: wait copies logs for so long"]
fn a_log_without_an_end_is_copied_up_to_its_size_at_the_end() {
    let pod = Pod::flat();
    let log = std::fs::File::create(pod.shared.join("stdout")).unwrap();
    log.set_len(8 << 40).unwrap();
    pod.put("exitcode", "0");
    // The copies go to /dev/null.
    let stdio = [Stdio::null(), Stdio::null(), Stdio::piped()];
    let outcome = pod.start_on(&["wait", "--follow", "--timeout", "100ms", "--grace", "100ms"], stdio).finish();
    // `wait` copies logs for ten more seconds after the end.
    assert!(outcome.stderr.contains("the logs are cut") && outcome.took > Duration::from_secs(9), "{outcome:?}");
}

#[test]
fn a_reader_of_stdout_gets_everything_without_a_reader_of_stderr() {
    let pod = Pod::flat();
    let text = "out\n".repeat(20_000);
    pod.put("stdout", &text);
    pod.put("stderr", &"err\n".repeat(20_000));
    pod.put("exitcode", "0");
    let (reader, broken) = std::io::pipe().unwrap();
    drop(reader);
    let mut process = pod.process(&["wait", "--follow"]);
    let output = process.stderr(broken).output().unwrap();
    assert!(output.stdout.starts_with(text.as_bytes()), "{} bytes", output.stdout.len());
}

#[test]
fn the_first_code_that_is_not_0() {
    let pod = Pod::named("wait").template(r#"{"containerSet":{"containers":[{"name":"a"},{"name":"b"},{"name":"c"}]}}"#);
    for (name, code) in [("a", "0"), ("b", "7"), ("c", "9")] {
        pod.put(&format!("ctr/{name}/exitcode"), code);
    }
    assert_eq!(pod.run(&["wait"]).status, 7);
}

#[test]
fn sigterm_at_the_deadline_then_sigkill() {
    let pod = Pod::new();
    let running = pod.start(&["wait", "--timeout", "100ms", "--grace", "2s"]);
    until("the first signal", || pod.text("ctr/main/signal").as_deref() == Some("15"));
    until("the second", || pod.text("ctr/main/signal").as_deref() == Some("9"));
    pod.put("ctr/main/exitcode", "137");
    let outcome = running.finish();
    assert!(outcome.status == 137 && outcome.took >= Duration::from_millis(2_100), "{outcome:?}");
}

#[test]
fn the_deadline_from_the_environment() {
    let pod = Pod::new().env("ARGO_DEADLINE", "2001-01-01T00:00:00Z");
    let running = pod.start(&["wait"]);
    until("the signal", || pod.text("ctr/main/signal").as_deref() == Some("15"));
    pod.put("ctr/main/exitcode", "0");
    assert_eq!(running.finish().status, 0);
    // Go's zero time means that there is no deadline.
    let pod = Pod::new().env("ARGO_DEADLINE", "0001-01-01T00:00:00Z");
    pod.put("ctr/main/exitcode", "0");
    assert_eq!(pod.run(&["wait"]).status, 0);
    let outcome = Pod::new().env("ARGO_DEADLINE", "tomorrow").run(&["wait"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("ARGO_DEADLINE 'tomorrow': is malformed at byte 0"), "{outcome:?}");
}

#[test]
fn sigterm_acts_like_the_deadline() {
    let pod = Pod::new();
    let running = pod.start(&["wait"]);
    until("it to wait", || pod.shared.join("ctr/main").is_dir());
    running.kill(15);
    until("the signal", || pod.text("ctr/main/signal").as_deref() == Some("15"));
    pod.put("ctr/main/exitcode", "143");
    assert_eq!(running.finish().status, 143);
}

#[test]
fn follow_copies_to_the_last_byte() {
    let pod = Pod::flat();
    let mut running = pod.start(&["wait", "--follow"]);
    let mut stdout = running.child.stdout.take().unwrap();
    let big = "x".repeat(300_000);
    let mut file = std::fs::File::create(pod.shared.join("stdout")).unwrap();
    file.write_all(b"first\n").unwrap();
    // `wait` copies the log while it grows, not only at the end.
    let mut first = [0; 6];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"first\n");
    std::fs::write(pod.shared.join("stderr"), "on stderr").unwrap();
    file.write_all(big.as_bytes()).unwrap();
    pod.put("exitcode", "0");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, "on stderr"));
    assert!(rest.starts_with(&format!("{big}exit code 0\n")), "{}", rest.len());
}

#[test]
fn follow_names_several_containers_and_tears_no_line() {
    let pod = Pod::named("wait").template(r#"{"containerSet":{"containers":[{"name":"a"},{"name":"b"}]}}"#);
    let long = "y".repeat(10_000);
    pod.put("ctr/a/combined", &format!("one\n{long}\nlast"));
    pod.put("ctr/b/combined", "eins\nzwei\n");
    pod.put("ctr/a/exitcode", "0");
    pod.put("ctr/b/exitcode", "0");
    let outcome = pod.run(&["wait", "--follow"]);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let of = |name: &str| lines.iter().filter_map(|line| line.strip_prefix(name)).map(str::to_string).collect::<Vec<_>>();
    assert_eq!(of("a: "), ["one".to_string(), long, "last".to_string()]);
    assert_eq!(of("b: "), ["eins", "zwei"]);
}

#[test]
fn main_and_wait_together() {
    let template = r#"{"archiveLocation":{"archiveLogs":true},"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/p"}}]}}"#;
    let pod = Pod::new().template(template);
    let wait = pod.start(&["wait", "--follow", "--json"]);
    let main = pod.sh("echo hello; echo 42 >$W/p; exit 6");
    let outcome = wait.finish();
    assert_eq!((main.status, outcome.status), (6, 6));
    let (log, report) = outcome.stdout.split_once('\n').unwrap();
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    assert_eq!((log, &report["parameters"][0]["value"]), ("hello", &"42".into()));
}

/// Two containers that leave no code, and a log that is larger than any pipe.
fn two_that_never_end() -> Pod {
    let pod = Pod::named("wait").template(r#"{"containerSet":{"containers":[{"name":"a"},{"name":"b"}]}}"#);
    pod.put("ctr/a/combined", &"a line\n".repeat(50_000));
    pod
}

#[test]
#[ignore = "slow, 10 s: wait tries to write for so long"]
fn wait_gives_up_without_a_reader() {
    let pod = two_that_never_end();
    pod.put("ctr/a/exitcode", "7");
    let mut running = pod.start(&["wait", "--follow", "--timeout", "1ms", "--grace", "0s"]);
    let _held = running.child.stdout.take();
    running.until_it_listens();
    until("it to be asked to end", || {
        running.kill_if_there(15);
        running.child.try_wait().unwrap().is_some()
    });
    assert_eq!(running.finish().status, 7);
}

#[test]
fn after_the_last_end_a_request_to_end_drops_the_reader() {
    let pod = Pod::new().template(OUTPUTS);
    pod.put("outputs/parameters/tmp/p", &"v".repeat(300_000));
    pod.put("ctr/main/combined", &"a line\n".repeat(50_000));
    pod.put("ctr/main/exitcode", "3");
    for args in [&["wait", "--follow"][..], &["wait", "--json"]] {
        let mut running = pod.start(args);
        let _held = running.child.stdout.take();
        running.until_it_listens();
        until("it to end", || {
            running.kill_if_there(15);
            running.child.try_wait().unwrap().is_some()
        });
        assert_eq!(running.finish().status, 3);
    }
}

#[test]
fn a_fast_writer_does_not_delay_the_deadline() {
    let pod = two_that_never_end();
    let log = pod.shared.join("ctr/a/combined");
    let flood = format!("while [ -e {}/go ]; do head -c 1000000 /dev/zero | tr '\\0' '\\n'; done >>{}", pod.work.display(), log.display());
    // The writer also ends when the test removes this folder.
    std::fs::write(pod.work.join("go"), "").unwrap();
    let mut writer = std::process::Command::new("sh").args(["-c", &flood]).spawn().unwrap();
    let stdio = [Stdio::null(), Stdio::null(), Stdio::piped()];
    let running = pod.start_on(&["wait", "--follow", "--timeout", "200ms", "--grace", "1h"], stdio);
    until("the signal", || pod.text("ctr/b/signal").as_deref() == Some("15"));
    std::fs::remove_file(pod.work.join("go")).unwrap();
    writer.wait().unwrap();
    for name in ["a", "b"] {
        pod.put(&format!("ctr/{name}/exitcode"), "0");
    }
    assert_eq!(running.finish().status, 0);
}

#[test]
fn a_report_that_cannot_be_written_keeps_the_containers_code() {
    let pod = Pod::new();
    for (code, want) in [("3", 3), ("0", 64)] {
        pod.put("ctr/main/exitcode", code);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let status = pod.process(&["wait"]).stdout(Stdio::from(full)).status().unwrap();
        assert_eq!(status.code(), Some(want));
    }
}

#[test]
fn links_and_giants_on_the_volume() {
    let pod = Pod::new().template(
        r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"/o/p"}},{"name":"g","valueFrom":{"path":"/g","default":"d"}},
        {"name":"q","valueFrom":{"path":"/l/secret"}}],"artifacts":[{"name":"a","path":"/o/a"}]}}"#,
    );
    let secret = pod.work.join("secret");
    std::fs::write(&secret, "TOPSECRET").unwrap();
    pod.put("outputs/parameters/g", "");
    std::fs::File::options().write(true).open(pod.shared.join("outputs/parameters/g")).unwrap().set_len(8 << 40).unwrap();
    for (link, target) in [("parameters/o/p", &secret), ("artifacts/o/a.tgz", &secret), ("parameters/l", &pod.work)] {
        let link = pod.shared.join("outputs").join(link);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, link).unwrap();
    }
    pod.put("ctr/main/exitcode", "0");
    let outcome = pod.run(&["wait", "--json"]);
    assert_eq!(outcome.status, 64, "{outcome:?}");
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    for at in 0..3 {
        assert!(report["parameters"][at]["value"].is_null(), "{report}");
    }
    assert!(report["artifacts"][0]["file"].is_null(), "{report}");
    assert!(outcome.stderr.contains("argo/outputs/parameters/g: file too large"), "{outcome:?}");
}

#[test]
fn a_time_in_the_future_and_a_half_written_code() {
    let pod = Pod::named("wait").template(r#"{"containerSet":{"containers":[{"name":"a"},{"name":"b"}]}}"#);
    pod.put("ctr/a/exitcode", "0");
    let file = std::fs::File::options().write(true).open(pod.shared.join("ctr/a/exitcode")).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(3600)).unwrap();
    let running = pod.start(&["wait"]);
    until("it to wait", || pod.shared.join("ctr/b").is_dir());
    // Container b writes its code in place. Meanwhile the folder of a changes.
    let mut code = std::fs::File::create(pod.shared.join("ctr/b/exitcode")).unwrap();
    code.write_all(b"1").unwrap();
    pod.put("ctr/a/exitcode", "0");
    code.write_all(b"37").unwrap();
    drop(code);
    assert_eq!(running.finish().status, 137);
}

#[test]
fn a_long_half_line_delays_no_other_container() {
    let pod = Pod::named("wait").template(r#"{"containerSet":{"containers":[{"name":"a"},{"name":"b"}]}}"#);
    pod.put("ctr/a/combined", &"x".repeat(5_000));
    pod.put("ctr/b/combined", "hello from b\n");
    pod.put("ctr/b/exitcode", "0");
    let running = pod.start(&["wait", "--follow"]);
    until("it to wait", || pod.shared.join("ctr/a").is_dir());
    pod.put("ctr/a/exitcode", "0");
    let outcome = running.finish();
    assert!(outcome.stdout.contains("\nb: hello from b\n") || outcome.stdout.starts_with("b: hello from b\n"), "{outcome:?}");
    assert_eq!(outcome.stdout.matches('x').count(), 5_000 + "exit code".matches('x').count() * 3);
}

/// Reads to the end, `piece_bytes` at a time, with a pause of `every_ms` after each piece.
fn read_slowly(mut from: impl std::io::Read, piece_bytes: usize, every_ms: u64) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), vec![0; piece_bytes]);
    while let read @ 1.. = from.read(&mut piece).unwrap() {
        all.extend_from_slice(&piece[..read]);
        std::thread::sleep(Duration::from_millis(every_ms));
    }
    all
}

#[test]
fn a_slow_reader_gets_logs_and_report_despite_requests_to_end() {
    let pod = Pod::new().template(OUTPUTS);
    pod.put("outputs/parameters/tmp/p", &"v".repeat(200_000));
    pod.put("ctr/main/combined", &"a line\n".repeat(40_000));
    pod.put("ctr/main/exitcode", "3");
    let mut running = pod.start(&["wait", "--follow", "--json"]);
    running.until_it_listens();
    let stdout = running.child.stdout.take().unwrap();
    // The reader takes 400 kB a second.
    let reader = std::thread::spawn(move || read_slowly(stdout, 4_000, 10));
    // The requests to end arrive while emissary copies logs, and while it writes the report.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(50));
        running.kill_if_there(15);
    }
    let outcome = running.finish();
    let text = String::from_utf8(reader.join().unwrap()).unwrap();
    assert_eq!((outcome.status, outcome.stderr.as_str()), (3, ""));
    let report = text.strip_prefix(&"a line\n".repeat(40_000)).unwrap_or_else(|| panic!("{} bytes", text.len()));
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    assert_eq!(report["parameters"][0]["value"].as_str().unwrap().len(), 200_000);
}

#[test]
fn bytes_that_a_reader_of_the_report_did_not_get_are_counted() {
    let pod = Pod::new().template(OUTPUTS);
    pod.put("outputs/parameters/tmp/p", &"v".repeat(200_000));
    pod.put("ctr/main/exitcode", "3");
    let ends = |args: &[&str]| {
        let mut running = pod.start(args);
        let mut held = running.child.stdout.take().unwrap();
        running.until_it_listens();
        until("it to end", || {
            running.kill_if_there(15);
            running.child.try_wait().unwrap().is_some()
        });
        let mut got = Vec::new();
        held.read_to_end(&mut got).unwrap();
        (got.len(), running.finish())
    };
    let (got, outcome) = ends(&["wait", "--json"]);
    let whole = pod.run(&["wait", "--json"]).stdout.len();
    assert_eq!(outcome.status, 3);
    assert!(outcome.stderr.contains(&format!("did not get {} bytes of the report\n", whole - got)), "{got} {outcome:?}");
    pod.put("ctr/main/combined", &"a line\n".repeat(50_000));
    let (got, outcome) = ends(&["wait", "--follow"]);
    assert!(outcome.stderr.contains(&format!("the logs are cut: {} bytes were not copied", 350_000 - got)), "{got} {outcome:?}");
}

#[test]
fn the_json_report_has_a_line_of_its_own() {
    for (stdout, stderr) in [("half a line", ""), ("a line\n", "half a line"), ("a line\n", "a line\n"), ("", "")] {
        let pod = Pod::flat();
        pod.put("stdout", stdout);
        pod.put("stderr", stderr);
        pod.put("exitcode", "0");
        let last = |text: String| {
            let line = text.trim_end_matches('\n').rsplit('\n').next().unwrap().to_string();
            assert!(!text.contains("\n\n"), "{text:?}");
            serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|error| panic!("{error}: {text:?}"))
        };
        assert_eq!(last(pod.run(&["wait", "--follow", "--json"]).stdout)["exitCode"], 0);
        // Here stdout and stderr are the same pipe.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let stdio = [Stdio::null(), writer.try_clone().unwrap().into(), writer.into()];
        let running = pod.start_on(&["wait", "--follow", "--json"], stdio);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(running.finish().status, 0);
        assert_eq!(last(text)["exitCode"], 0);
    }
}

#[test]
fn lines_of_both_logs_in_one_pipe_are_whole() {
    let lines =
        |letter: char, times: usize| (0..times).fold(String::new(), |all, at| all + &letter.to_string().repeat(1 + at * 37 % 1_500) + "\n");
    let pod = Pod::flat();
    // The logs have lines before `wait` looks, and more lines follow while it looks.
    pod.put("stdout", &lines('a', 1_000));
    pod.put("stderr", &lines('b', 1_000));
    let (reader, writer) = std::io::pipe().unwrap();
    let stdio = [Stdio::null(), writer.try_clone().unwrap().into(), writer.into()];
    let running = pod.start_on(&["wait", "--follow"], stdio);
    let text = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_slowly(reader, 10_000, 0));
        for (name, letter) in [("stdout", 'a'), ("stderr", 'b')] {
            let path = pod.shared.join(name);
            scope.spawn(move || {
                let mut log = std::fs::File::options().append(true).open(path).unwrap();
                for _ in 0..40 {
                    // `emissary run` writes a log like this: whole lines, many at once.
                    log.write_all(lines(letter, 80).as_bytes()).unwrap();
                }
            });
        }
        let text = scope.spawn(|| {
            let is_whole = |name, lines: usize| {
                let text = std::fs::read(pod.shared.join(name)).unwrap();
                text.iter().filter(|&&byte| byte == b'\n').count() == lines
            };
            until("the writers to end", || is_whole("stdout", 4_200) && is_whole("stderr", 4_200));
            pod.put("exitcode", "0");
            reader.join().unwrap()
        });
        text.join().unwrap()
    });
    assert_eq!(running.finish().status, 0);
    let text = String::from_utf8(text).unwrap();
    let log: Vec<&str> = text.lines().filter(|line| line.starts_with(['a', 'b'])).collect();
    let torn = log.iter().filter(|line| line.chars().any(|letter| !line.starts_with(letter))).count();
    assert_eq!((torn, log.len()), (0, 8_400));
}
