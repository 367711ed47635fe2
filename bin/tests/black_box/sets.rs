//! Container sets, sidecars, debug pauses.

use core::time::Duration;
use std::io::Write as _;
use std::process::Command;

use crate::pod::{Pod, has_program, until};

const SET: &str =
    r#"{"containerSet":{"containers":[{"name":"a"},{"name":"b","dependencies":["a"]},{"name":"c","dependencies":["a","b"]}]}}"#;

fn retrying(strategy: &str) -> Pod {
    let template = format!("{{\"containerSet\":{{\"containers\":[{{\"name\":\"main\"}}],\"retryStrategy\":{strategy}}}}}");
    Pod::new().template(&template).capturing()
}

fn sidecar() -> Pod {
    Pod::named("side").template(r#"{"sidecars":[{"name":"side"}]}"#)
}

/// A sidecar of a set of two.
fn sidecar_of_two() -> Pod {
    Pod::named("side").template(r#"{"sidecars":[{"name":"side"}],"containerSet":{"containers":[{"name":"a"},{"name":"b"}]}}"#)
}

/// Starts `echo ran` and waits until emissary waits: the folder of the dependency exists.
fn waiting(pod: &Pod) -> crate::pod::Running {
    let running = pod.start(&["--", "echo", "ran"]);
    until("it to wait", || pod.shared.join("ctr/a").is_dir());
    running
}

#[test]
fn dependencies_are_waited_for() {
    let pod = Pod::named("c").template(SET);
    let running = waiting(&pod);
    pod.put("ctr/a/exitcode", "0");
    pod.until_it_has_looked();
    assert!(running.children().is_empty() && pod.exit_code().is_none());
    pod.put("ctr/b/exitcode", "0");
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.as_str(), pod.exit_code().as_deref()), (0, "ran\n", Some("0")));
}

#[test]
fn a_failed_dependency_gives_64_and_a_message_with_its_code() {
    for code in ["3", "137"] {
        let pod = Pod::named("c").template(SET);
        pod.put("ctr/a/exitcode", code);
        let outcome = pod.run(&["--", "echo", "ran"]);
        // The code of another container is never this container's code.
        assert_eq!((outcome.status, outcome.stdout.as_str(), pod.exit_code().as_deref()), (64, "", Some("64")));
        assert!(outcome.stderr.contains(&format!("dependency 'a' failed, exit code {code}")), "{outcome:?}");
    }
}

#[test]
fn an_exit_code_in_two_writes_counts_when_it_is_whole() {
    let pod = Pod::named("b").template(SET);
    let running = waiting(&pod);
    let mut file = std::fs::File::create(pod.shared.join("ctr/a/exitcode")).unwrap();
    file.write_all(b"1").unwrap();
    // The folder changes while the file holds `1`.
    pod.put("ctr/a/stdout", "x");
    pod.put("ctr/a/stdout", "y");
    file.write_all(b"37").unwrap();
    drop(file);
    let outcome = running.finish();
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (64, Some("64")));
    assert!(outcome.stderr.contains("dependency 'a' failed, exit code 137"), "{outcome:?}");
}

#[test]
fn a_dependency_with_rubbish_is_an_error() {
    let pod = Pod::named("b").template(SET);
    pod.put("ctr/a/exitcode", "lots");
    let outcome = pod.run(&["--", "echo", "ran"]);
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (64, Some("64")));
    assert!(outcome.stderr.contains("/ctr/a/exitcode: is not a number from 0 to 255"), "{outcome:?}");
}

#[test]
fn signals_while_waiting_for_a_dependency() {
    let pod = Pod::named("b").template(SET);
    let running = waiting(&pod);
    running.kill(15);
    let outcome = running.finish();
    assert_eq!((outcome.status, pod.exit_code().as_deref(), outcome.stdout.as_str()), (143, Some("143"), ""));
    let pod = Pod::named("b").template(SET);
    let running = waiting(&pod);
    pod.put("ctr/b/signal", "9");
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (137, Some("137")));
}

#[test]
fn dependency_succeeds_and_own_command_is_missing() {
    let pod = Pod::named("b").template(SET);
    pod.put("ctr/a/exitcode", "0");
    assert_eq!((pod.run(&["--", "no-such-command"]).status, pod.exit_code().as_deref()), (64, Some("64")));
}

#[test]
fn retries() {
    let again = "echo try; [ -e $W/again ] || { touch $W/again; exit 1; }";
    let pod = retrying(r#"{"retries":2,"duration":"10ms"}"#);
    assert_eq!((pod.sh(again).status, pod.text("ctr/main/stdout").as_deref()), (0, Some("try\ntry\n")));
    for (retries, want) in [("\"1\"", "try\n"), ("0", "try\n"), ("3", "try\ntry\ntry\n")] {
        let pod = retrying(&format!("{{\"retries\":{retries}}}"));
        let outcome = pod.sh("echo try; exit 6");
        assert_eq!((outcome.status, pod.exit_code().as_deref(), outcome.stdout.as_str()), (6, Some("6"), want));
        assert_eq!(pod.text("ctr/main/stdout").as_deref(), Some(want));
    }
}

#[test]
fn sigterm_between_attempts_ends_it() {
    let pod = retrying(r#"{"retries":5,"duration":"1h"}"#);
    let running = pod.start(&["--loglevel", "info", "--", "sh", "-c", "echo try; exit 1"]);
    until("the first attempt to end", || pod.text("ctr/main/stdout").as_deref() == Some("try\n"));
    until("it to pause", || running.children().is_empty());
    running.kill(15);
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (143, Some("143")));
}

#[test]
fn sigterm_to_an_attempt_is_the_last() {
    let pod = retrying(r#"{"retries":5}"#);
    let running = pod.start_ready("echo try; touch $W/ready; exec sleep 600");
    running.kill(15);
    assert_eq!((running.finish().status, pod.text("ctr/main/stdout").as_deref()), (143, Some("try\n")));
}

#[test]
fn a_sidecar_ends_with_main() {
    let pod = sidecar();
    let running = pod.start_ready("touch $W/ready; exec sleep 600");
    pod.put("ctr/main/exitcode", "0");
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (143, Some("143")));
    // Main has ended before the sidecar starts.
    let pod = sidecar();
    pod.put("ctr/main/exitcode", "5");
    assert_eq!(pod.sh("exec sleep 600").status, 143);
}

#[test]
fn a_sidecar_of_a_set_waits_for_all_mains() {
    let pod = sidecar_of_two();
    let running = pod.start_ready("trap 'echo term; exit 3' TERM; touch $W/ready; while :; do sleep 0.02; done");
    pod.put("ctr/a/exitcode", "0");
    pod.until_it_has_looked();
    assert_eq!(running.children().len(), 1);
    pod.put("ctr/b/exitcode", "0");
    assert_eq!(running.finish().status, 3);
}

#[test]
fn a_sidecar_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let pod = sidecar().env("ARGO_TERMINATION_GRACE_PERIOD_SECONDS", "1");
    let running = pod.start_ready("trap '' TERM; touch $W/ready; while :; do sleep 0.02; done");
    pod.put("ctr/main/exitcode", "0");
    let outcome = running.finish();
    assert!(outcome.status == 137 && outcome.took >= Duration::from_millis(1_000), "{outcome:?}");
}

#[test]
fn pauses() {
    let pod = Pod::new().env("ARGO_DEBUG_PAUSE_BEFORE", "true");
    let running = pod.start(&["--", "echo", "ran"]);
    until("the folder", || pod.shared.join("ctr/main").is_dir());
    pod.until_it_has_looked();
    assert!(running.children().is_empty() && pod.exit_code().is_none());
    pod.put("ctr/main/before", "");
    assert_eq!(running.finish().stdout, "ran\n");
    let pod = Pod::new().env("ARGO_DEBUG_PAUSE_AFTER", "true");
    let running = pod.start(&["--", "sh", "-c", "touch $W/ran; exit 3"]);
    until("the command to end", || pod.work.join("ran").exists() && running.children().is_empty());
    pod.until_it_has_looked();
    assert_eq!(pod.exit_code(), None);
    pod.put("ctr/main/after", "");
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (3, Some("3")));
    let pod = Pod::new().env("ARGO_DEBUG_PAUSE_BEFORE", "1").env("ARGO_DEBUG_PAUSE_AFTER", "yes");
    assert_eq!(pod.sh("exit 0").status, 0);
}

#[test]
fn sigterm_releases_the_pause_after() {
    let pod = Pod::new().env("ARGO_DEBUG_PAUSE_AFTER", "true");
    let running = pod.start(&["--", "sh", "-c", "touch $W/ran; exit 3"]);
    until("the command to end", || pod.work.join("ran").exists() && running.children().is_empty());
    running.kill(15);
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (3, Some("3")));
}

#[test]
fn sigterm_ends_the_pause_before() {
    let pod = Pod::new().env("ARGO_DEBUG_PAUSE_BEFORE", "true");
    let running = pod.start(&["--", "echo", "ran"]);
    until("the folder", || pod.shared.join("ctr/main").is_dir());
    running.kill(15);
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.as_str(), pod.exit_code().as_deref()), (143, "", Some("143")));
}

#[test]
fn a_sidecar_ends_although_main_left_rubbish() {
    let pod = sidecar();
    pod.put("ctr/main/exitcode", "oops");
    assert_eq!(pod.sh("exec sleep 600").status, 143);
}

#[test]
#[ignore = "slow, 10 s: a sidecar tries to read each of two codes for 5 s"]
fn a_sidecar_ends_although_no_code_of_main_can_be_read() {
    if !has_program("prlimit") {
        return;
    }
    let pod = sidecar_of_two().env("ARGO_TERMINATION_GRACE_PERIOD_SECONDS", "1");
    let running = pod.start_ready("touch $W/ready; exec sleep 600");
    // From here on emissary has no free descriptor to read with. This error may pass.
    let pid = running.child.id().to_string();
    assert!(Command::new("prlimit").args(["--nofile=3:64", "--pid", &pid]).status().unwrap().success());
    pod.put("ctr/a/exitcode", "0");
    pod.put("ctr/b/exitcode", "0");
    let outcome = running.finish();
    assert_eq!(outcome.status, 143, "{outcome:?}");
    for name in ["ctr/a", "ctr/b"] {
        assert_eq!(outcome.stderr.lines().filter(|line| line.contains(name)).count(), 1, "{outcome:?}");
    }
}

#[test]
fn an_invalid_code_gives_one_error_however_often_it_is_read() {
    let pod = sidecar_of_two();
    let running = pod.start_ready("trap 'exit 3' TERM; touch $W/ready; while :; do sleep 0.02; done");
    pod.put("ctr/a/exitcode", "rubbish");
    for _ in 0..10 {
        pod.until_it_has_looked();
    }
    pod.put("ctr/b/exitcode", "0");
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stderr.matches("ctr/a/exitcode").count()), (3, 1), "{outcome:?}");
}
