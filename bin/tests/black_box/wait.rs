//! The wait role.

use core::time::Duration;
use std::io::Write as _;

use crate::pod::{Pod, until};

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
fn outputs_on_a_mount_are_read_there() {
    let template = r#"{"container":{"volumeMounts":[{"mountPath":"$W"}]},"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/p"}}],
        "artifacts":[{"name":"a","path":"$W/p"}]}}"#;
    let pod = Pod::new().template(template);
    assert_eq!(pod.sh("echo on the mount >$W/p").status, 0);
    let report: serde_json::Value = serde_json::from_str(&pod.run(&["wait", "--json"]).stdout).unwrap();
    assert_eq!((&report["parameters"][0]["value"], &report["artifacts"][0]["bytes"]), (&"on the mount".into(), &13.into()));
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
fn past_the_deadline_term_then_kill() {
    let pod = Pod::new();
    let running = pod.start(&["wait", "--timeout", "100ms", "--grace", "300ms"]);
    until("the first signal", || pod.text("ctr/main/signal").as_deref() == Some("15"));
    until("the second", || pod.text("ctr/main/signal").as_deref() == Some("9"));
    pod.put("ctr/main/exitcode", "137");
    let outcome = running.finish();
    assert!(outcome.status == 137 && outcome.took >= Duration::from_millis(400), "{outcome:?}");
}

#[test]
fn the_deadline_from_the_environment() {
    let pod = Pod::new().env("ARGO_DEADLINE", "2001-01-01T00:00:00Z");
    let running = pod.start(&["wait"]);
    until("the signal", || pod.text("ctr/main/signal").as_deref() == Some("15"));
    pod.put("ctr/main/exitcode", "0");
    assert_eq!(running.finish().status, 0);
    // Go's zero time is none.
    let pod = Pod::new().env("ARGO_DEADLINE", "0001-01-01T00:00:00Z");
    pod.put("ctr/main/exitcode", "0");
    assert_eq!(pod.run(&["wait"]).status, 0);
    let outcome = Pod::new().env("ARGO_DEADLINE", "tomorrow").run(&["wait"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("ARGO_DEADLINE 'tomorrow': is malformed at byte 0"), "{outcome:?}");
}

#[test]
fn sigterm_is_a_deadline() {
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
    let running = pod.start(&["wait", "--follow"]);
    let big = "x".repeat(300_000);
    let mut file = std::fs::File::create(pod.shared.join("stdout")).unwrap();
    file.write_all(b"first\n").unwrap();
    std::fs::write(pod.shared.join("stderr"), "on stderr").unwrap();
    file.write_all(big.as_bytes()).unwrap();
    pod.put("exitcode", "0");
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, "on stderr"));
    assert!(outcome.stdout.starts_with(&format!("first\n{big}exit code 0\n")), "{}", outcome.stdout.len());
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
