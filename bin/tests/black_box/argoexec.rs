//! The binary as Argo's executor: log lines, accepted flags, the full executor, the artifact plugin's server.

use crate::pod::Pod;

fn argoexec() -> Pod {
    Pod::new().called("argoexec").env("EMISSARY_DELEGATE", "/no/such/executor")
}

#[test]
fn its_command_line() {
    let pod = argoexec();
    let outcome =
        pod.run(&["emissary", "--loglevel", "info", "--log-format", "text", "--gloglevel", "0", "--", "sh", "-c", "echo x; exit 3"]);
    assert_eq!((outcome.status, outcome.stdout.as_str(), pod.exit_code().as_deref()), (3, "x\n", Some("3")));
    assert!(!outcome.stderr.is_empty());
    for line in outcome.stderr.lines() {
        assert!(line.starts_with("time=2") && line.contains(" level=INFO msg=") && line.ends_with(" argo=true"), "{line}");
    }
}

#[test]
fn json_lines_and_levels() {
    let pod = argoexec();
    let outcome = pod.run(&["emissary", "--loglevel=error", "--log-format=json", "--", "no-such-command"]);
    let line: serde_json::Value = serde_json::from_str(&outcome.stderr).unwrap();
    assert_eq!((&line["level"], &line["argo"]), (&"ERROR".into(), &true.into()));
    assert_eq!(line["msg"], "exec: \"no-such-command\": executable file not found in $PATH");
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    assert_eq!(pod.termination_log(), "emissary: error: exec: \"no-such-command\": executable file not found in $PATH\n");
}

#[test]
fn other_subcommands_are_handed_over() {
    let pod = argoexec();
    pod.script("full", "#!/bin/sh\necho \"full: $*\"\nexit 9\n", 0o755);
    let pod = pod.env("EMISSARY_DELEGATE", "$W/full");
    for (args, want) in [
        (&["wait", "--loglevel", "info"][..], "full: wait --loglevel info\n"),
        (&["--loglevel", "info", "supervisor", "x"], "full: --loglevel info supervisor x\n"),
        (&["resource", "apply"], "full: resource apply\n"),
        (&["artifact-plugin-init"], "full: artifact-plugin-init\n"),
    ] {
        let outcome = pod.run(args);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (9, want));
    }
    // The binary runs the subcommands of main containers itself.
    assert!(pod.run(&["version"]).stdout.starts_with("emissary "));
    assert_eq!(pod.run(&["emissary", "--", "echo", "here"]).stdout, "here\n");
}

#[test]
fn without_the_full_executor_the_error_names_it() {
    let outcome = argoexec().run(&["resource", "apply"]);
    assert_eq!(outcome.status, 64);
    assert!(outcome.stderr.contains("subcommand 'resource' is the full executor's"), "{outcome:?}");
}

#[test]
fn a_delegate_that_cannot_be_run() {
    let pod = argoexec();
    pod.script("full", "x", 0o644);
    let outcome = pod.env("EMISSARY_DELEGATE", "$W/full").run(&["wait"]);
    assert_eq!(outcome.status, 64);
    assert!(
        outcome.stderr.contains("cannot hand over to the full executor") && outcome.stderr.contains("permission denied"),
        "{outcome:?}"
    );
}

#[test]
fn init_takes_its_name() {
    let pod = argoexec().no_template().env("ARGO_TEMPLATE", "{}");
    assert_eq!(pod.run(&["init"]).status, 0);
    assert_eq!(pod.mode("argoexec"), 0o555);
}

#[test]
fn an_artifact_plugins_server_ignores_sigterm_and_obeys_the_signal_file() {
    let pod = argoexec().no_template();
    let script = "trap 'touch $W/usr1' USR1; touch $W/ready; while :; do sleep 0.02; done";
    let running = pod.start(&["artifact-plugin-sidecar", "--loglevel", "warn", "--", "sh", "-c", script]);
    crate::pod::until("the server", || pod.work.join("ready").exists());
    running.kill(15);
    running.kill(10);
    // The second signal has arrived, so the first is not under way any more.
    crate::pod::until("USR1", || pod.work.join("usr1").exists());
    assert!(!running.children().is_empty());
    pod.put("ctr/main/signal", "9");
    let outcome = running.finish();
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (137, Some("137")));
}
