//! Emissary as a plain init, and the flags of a run (docs/init.md; docs/protocol.md, "A plain init" and "Flags").

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use crate::pod::{Pod, is_gone, may_unshare, until};

const TRAP: &str = "trap 'echo got term; exit 3' TERM; touch $W/ready; while :; do sleep 0.02; done";
const SLEEP: &str = "touch $W/ready; exec sleep 600";

/// Whether no file is on the volume but the template that every pod of the tests has.
fn wrote_nothing(pod: &Pod) -> bool {
    std::fs::read_dir(&pod.shared).unwrap().flatten().all(|entry| entry.file_name() == "template")
}

#[test]
fn without_a_volume_it_is_a_plain_init() {
    for words in [&["--"][..], &[], &["run"], &["run", "--"], &["-q"]] {
        for (script, status) in [("echo out; echo err >&2; exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
            let pod = Pod::bare();
            let outcome = pod.run(&[words, &["sh", "-c", script]].concat());
            let said = if script.contains("echo") { ("out\n", "err\n") } else { ("", "") };
            assert_eq!((outcome.status, outcome.stdout.as_str(), outcome.stderr.as_str()), (status, said.0, said.1), "{words:?}");
            assert!(wrote_nothing(&pod) && pod.termination_log().is_empty());
        }
    }
    let pod = Pod::bare();
    let running = pod.start(&["sh", "-c", TRAP]);
    until("the command", || pod.work.join("ready").exists());
    running.kill(15);
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (3, "got term\n"));
}

#[test]
fn a_volume_that_is_asked_for_and_missing_is_an_error() {
    let missing = "/no/such/folder";
    for (name, value) in [("EMISSARY_DIR", missing), ("EMISSARY_LAYOUT", "pod"), ("ARGO_CONTAINER_NAME", "main"), ("ARGO_TEMPLATE", "{}")] {
        let outcome = Pod::bare().env(name, value).run(&["--", "echo", "ran"]);
        assert!(outcome.status == 64 && outcome.stdout.is_empty() && outcome.stderr.contains("shared folder"), "{name}: {outcome:?}");
    }
    for flags in [&["--dir", missing][..], &["--name", "x"], &["--layout", "flat"]] {
        assert_eq!(Pod::bare().run(&[flags, &["--", "echo", "ran"]].concat()).status, 64, "{flags:?}");
    }
    // Kubernetes sets such variables for a service that is named `argo-server`. Other variables of emissary ask for no volume.
    for (name, value) in
        [("ARGO_SERVER_SERVICE_HOST", "10.0.0.1"), ("ARGO_SERVER_PORT_2746_TCP", "tcp://10.0.0.1:2746"), ("EMISSARY_TIMEOUT", "1m")]
    {
        let outcome = Pod::bare().env(name, value).run(&["--", "echo", "ran"]);
        assert_eq!((outcome.status, outcome.stdout.as_str(), outcome.stderr.as_str()), (0, "ran\n", ""), "{name}");
    }
}

#[test]
fn a_volume_without_a_template() {
    let pod = Pod::flat().no_template();
    let outcome = pod.sh("echo out; echo err >&2; exit 5");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (5, "err\n"));
    for (file, text) in [("exitcode", "5"), ("stdout", "out\n"), ("stderr", "err\n")] {
        assert_eq!(pod.text(file).as_deref(), Some(text), "{file}");
    }
    let pod = Pod::flat().no_template();
    let running = pod.start_ready(TRAP);
    pod.put("signal", "15");
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (3, Some("3")));
    // A name on the command line is not Argo's.
    let pod = Pod::flat().no_template();
    assert_eq!(pod.run(&["--name", "x", "--logs", "files", "--", "echo", "hi"]).status, 0);
    assert_eq!((pod.text("ctr/x/exitcode").as_deref(), pod.text("ctr/x/combined").as_deref()), (Some("0"), Some("hi\n")));
}

#[test]
fn logs_and_outputs_can_be_turned_off_and_on() {
    let pod = Pod::flat().template(r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/m"}}]}}"#);
    assert_eq!(pod.run(&["--logs", "none", "--outputs=none", "--", "sh", "-c", "echo hi >$W/m; echo hi"]).status, 0);
    assert_eq!((pod.text("stdout"), pod.exit_code().as_deref(), pod.shared.join("outputs").exists()), (None, Some("0"), false));
    let pod = Pod::new().env("EMISSARY_LOGS", "files");
    assert_eq!((pod.sh("echo hi").status, pod.text("ctr/main/stdout").as_deref()), (0, Some("hi\n")));
    for (flag, value) in [("--logs", "all"), ("--outputs", "some"), ("--exit-codes", "odd"), ("--on-error", "ignore")] {
        let outcome = Pod::new().run(&[flag, value, "--", "true"]);
        assert!(outcome.status == 64 && outcome.stderr.contains(&format!("flag {flag}: '{value}' is not")), "{outcome:?}");
    }
}

#[test]
fn the_command_alone_or_its_group() {
    for (flags, want) in [(&[][..], "child\nmain\n"), (&["--signal-child"], "main\n")] {
        let pod = Pod::bare();
        let script = "sh -c 'trap \"echo child; exit\" USR1; touch $W/inner; while :; do sleep 0.02; done' & \
            trap 'sleep 0.2; echo main; kill -9 $!; exit 4' USR1; until [ -e $W/inner ]; do sleep 0.02; done; touch $W/ready; while :; do sleep 0.02; done";
        let running = pod.start(&[flags, &["--", "sh", "-c", script]].concat());
        until("the command", || pod.work.join("ready").exists());
        running.kill(10);
        let outcome = running.finish();
        assert_eq!((outcome.status, outcome.stdout.as_str()), (4, want), "{flags:?} {outcome:?}");
    }
}

#[test]
fn signals_are_rewritten_or_dropped() {
    let pod = Pod::flat();
    let script =
        "trap 'echo quit; exit 3' QUIT; trap 'echo term' TERM; trap 'echo usr1' USR1; touch $W/ready; while :; do sleep 0.02; done";
    let running = pod.start(&["--rewrite", "TERM:QUIT", "--rewrite", "10:0", "--", "sh", "-c", script]);
    until("the command", || pod.work.join("ready").exists());
    running.kill(10);
    pod.until_it_has_looked();
    // The signal file is rewritten, too: an orchestrator knows no other signal than SIGTERM.
    pod.put("signal", "15");
    assert_eq!(running.finish().stdout, "quit\n");
    // A signal that is dropped asks nothing of a run that waits, either.
    let pod = Pod::flat();
    let running = pod.start(&["--rewrite", "TERM:0", "--wait-file", "$W/go", "--", "echo", "ran"]);
    until("the lock", || pod.shared.join(".emissary-lock").exists());
    pod.put("signal", "15");
    until("the signal to be taken", || pod.text("signal").is_none());
    std::fs::write(pod.work.join("go"), "").unwrap();
    assert_eq!(running.finish().stdout, "ran\n");
    let outcome = Pod::bare().run(&["--rewrite", "KILL:0", "--", "true"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("'KILL:0' is SIGKILL or SIGSTOP"), "{outcome:?}");
    let outcome = Pod::bare().run(&["--rewrite", "15", "--", "true"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("flag --rewrite: '15' is not FROM:TO"), "{outcome:?}");
}

#[test]
fn exit_codes_are_remapped_and_the_file_keeps_the_truth() {
    for (flags, code, status) in [
        (&["--remap-exit", "143"][..], 143, 0),
        (&["--remap-exit", "5:6"], 5, 6),
        (&["--remap-exit", "5:6"], 7, 7),
        (&["--remap-exit=1:2,0:9"], 0, 9),
        (&["--on-error", "continue"], 5, 0),
    ] {
        let pod = Pod::flat();
        let outcome = pod.run(&[flags, &["--", "sh", "-c", &format!("exit {code}")]].concat());
        assert_eq!((outcome.status, pod.exit_code()), (status, Some(code.to_string())), "{flags:?}");
    }
    // Only a command that ran may fail without harm.
    let outcome = Pod::flat().run(&["--on-error", "continue", "--", "no-such-command"]);
    assert_eq!(outcome.status, 64);
    for (flags, command, want) in [
        (&["--exit-codes", "posix"][..], "no-such-command", 127),
        (&["--exit-codes", "posix"], "/etc/passwd", 126),
        (&["--exit-codes", "posix"], "/no/such/command", 127),
        (&[], "no-such-command", 64),
        (&[], "/etc/passwd", 64),
    ] {
        let pod = Pod::flat();
        assert_eq!((pod.run(&[flags, &["--", command]].concat()).status, pod.exit_code()), (want, Some(want.to_string())), "{flags:?}");
    }
}

#[test]
fn the_rest_of_the_group_gets_sigterm() {
    let script = "sh -c 'trap \"touch $W/termed; exit\" TERM; touch $W/inner; while :; do sleep 0.02; done' >/dev/null 2>&1 & \
        until [ -e $W/inner ]; do sleep 0.02; done; exit 6";
    let pod = Pod::bare();
    assert_eq!(pod.run(&["--term-group-on-exit", "--", "sh", "-c", script]).status, 6);
    until("the rest to be asked to end", || pod.work.join("termed").exists());
}

#[test]
fn descendants_are_waited_for() {
    let script = "(trap '' HUP; sleep 0.5; touch $W/late; echo late) & exit 6";
    for (flags, want) in [(&["--wait-descendants"][..], true), (&[], false)] {
        let pod = Pod::flat();
        let outcome = pod.run(&[flags, &["--", "sh", "-c", script]].concat());
        assert_eq!((outcome.status, outcome.stdout.contains("late")), (6, want), "{flags:?} {outcome:?}");
        assert_eq!(pod.text("stdout").unwrap().contains("late"), want);
        until("the descendant", || pod.work.join("late").exists());
    }
    // A descendant in a session of its own counts, too. A request to end reaches what is left of the group.
    let pod = Pod::bare();
    let running = pod.start(&["--wait-descendants", "--", "sh", "-c", "sleep 600 & touch $W/ready; exit 2"]);
    let is_sleep = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    until("the descendant alone", || matches!(&running.children()[..], [only] if is_sleep(only)));
    running.kill(15);
    assert_eq!(running.finish().status, 2);
}

#[test]
fn the_parents_death_is_a_signal() {
    let pod = Pod::bare();
    let script = "trap 'touch $W/told; exit' USR1; echo $PPID >$W/emissary; touch $W/ready; while :; do sleep 0.02; done";
    let mut parent = pod.process(&["--parent-death", "USR1", "--", "sh", "-c", script]);
    let words = parent.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let mut shell = Command::new("sh");
    shell.args(["-c", r#""$0" "$@" & wait"#]).arg(parent.get_program()).args(words);
    shell.env("W", &pod.work);
    parent.env_clear();
    let mut shell = shell.spawn().unwrap();
    until("the command", || pod.work.join("ready").exists());
    shell.kill().unwrap();
    assert_eq!(shell.wait().unwrap().signal(), Some(9));
    until("the command to be told", || pod.work.join("told").exists());
    let emissary = std::fs::read_to_string(pod.work.join("emissary")).unwrap();
    until("emissary to end", || is_gone(&emissary));
}

#[test]
fn a_time_limit() {
    for (script, want) in [
        ("exec sleep 600", 124),
        ("trap 'exit 7' TERM; while :; do sleep 0.02; done", 7),
        // A command that was cut off has not succeeded.
        ("trap 'exit 0' TERM; while :; do sleep 0.02; done", 124),
        ("trap '' TERM; while :; do sleep 0.02; done", 124),
        ("exit 5", 5),
    ] {
        let pod = Pod::flat();
        let outcome = pod.run(&["--timeout", "150ms", "--grace", "150ms", "--", "sh", "-c", script]);
        assert_eq!((outcome.status, pod.exit_code()), (want, Some(want.to_string())), "{script}");
    }
    // The reason is on stderr and in the termination log.
    let pod = Pod::bare().env("EMISSARY_TIMEOUT", "50ms");
    let outcome = pod.run(&["sleep", "600"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (124, "emissary: error: the time limit ended the command\n"));
    assert_eq!(pod.termination_log(), outcome.stderr);
    assert_eq!(Pod::bare().run(&["--timeout", "-1s", "--", "true"]).status, 64);
}

#[test]
fn a_file_that_cancels() {
    let pod = Pod::flat();
    let running = pod.start(&[
        "--cancel-file",
        "$W/stop",
        "--grace",
        "100ms",
        "--",
        "sh",
        "-c",
        "trap '' TERM; touch $W/ready; while :; do sleep 0.02; done",
    ]);
    until("the command", || pod.work.join("ready").exists());
    std::fs::write(pod.work.join("stop"), "").unwrap();
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (137, Some("137")));
    // The folder of the file may come later.
    let pod = Pod::bare();
    let running = pod.start(&["--cancel-file", "$W/a/stop", "--", "sh", "-c", SLEEP]);
    until("the command", || pod.work.join("ready").exists());
    std::fs::create_dir(pod.work.join("a")).unwrap();
    std::fs::write(pod.work.join("a/stop"), "").unwrap();
    assert_eq!(running.finish().status, 143);
    // It stops a command that has not started.
    let pod = Pod::bare();
    std::fs::write(pod.work.join("stop"), "").unwrap();
    let running = pod.start(&["--cancel-file", "$W/stop", "--wait-file", "$W/never", "--", "echo", "ran"]);
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (143, ""));
}

#[test]
fn a_cancel_file_that_is_there_already_or_comes_too_late() {
    let pod = Pod::flat();
    std::fs::write(pod.work.join("stop"), "").unwrap();
    let outcome = pod.run(&["--cancel-file", "$W/stop", "--", "echo", "ran"]);
    assert_eq!((outcome.status, outcome.stdout.as_str(), pod.exit_code().as_deref()), (143, "", Some("143")));
    // The command has ended when the file appears.
    let pod = Pod::flat();
    let running = pod.start(&[
        "--cancel-file",
        "$W/stop",
        "--on-error",
        "continue",
        "--pause-on-failure",
        "--",
        "sh",
        "-c",
        "touch $W/ready; exit 7",
    ]);
    until("the command", || pod.work.join("ready").exists());
    pod.until_it_has_looked();
    std::fs::write(pod.work.join("stop"), "").unwrap();
    pod.put("after", "x");
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (0, Some("7")));
}

#[test]
fn a_signal_that_ends_the_wait_for_descendants() {
    let script = "setsid sleep 600 & echo $! >$W/pid; touch $W/ready; exit 0";
    for (flags, want) in [(&["--wait-descendants"][..], 0), (&["--wait-descendants", "--timeout", "200ms", "--grace", "100ms"], 124)] {
        let pod = Pod::flat();
        let running = pod.start(&[flags, &["--", "sh", "-c", script]].concat());
        until("the command", || pod.work.join("ready").exists());
        let is_sleep = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
        until("the descendant alone", || matches!(&running.children()[..], [only] if is_sleep(only)) || want == 124);
        if want == 0 {
            pod.put("signal", "9");
        }
        assert_eq!((running.finish().status, pod.exit_code()), (want, Some(want.to_string())), "{flags:?}");
        let _ = Command::new("kill").args(["-9", std::fs::read_to_string(pod.work.join("pid")).unwrap().trim()]).status();
    }
}

#[test]
fn help_and_version_are_no_run() {
    for args in [&["--version"][..], &["--help"], &["run", "--help"], &["version"], &["help", "run"]] {
        let pod = Pod::flat().env("EMISSARY_GRACE", "soon");
        assert_eq!((pod.run(args).status, pod.exit_code()), (0, None), "{args:?}");
    }
}

#[test]
fn a_pause_after_a_failure() {
    for (contents, want) in [("", 5), ("0", 0), ("9\n", 9)] {
        let pod = Pod::flat();
        let running = pod.start(&["-v", "--pause-on-failure", "--", "sh", "-c", "touch $W/ready; exit 5"]);
        until("the command", || pod.work.join("ready").exists());
        pod.until_it_has_looked();
        assert_eq!(pod.exit_code(), None);
        pod.put("after", contents);
        let outcome = running.finish();
        assert_eq!((outcome.status, pod.exit_code()), (want, Some(want.to_string())), "{contents:?}");
        assert!(outcome.stderr.contains("paused after the command"), "{outcome:?}");
    }
    assert_eq!(Pod::flat().run(&["--pause-on-failure", "--", "true"]).status, 0);
    let outcome = Pod::bare().run(&["--pause-on-failure", "--", "true"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("--pause-on-failure needs a shared folder"), "{outcome:?}");
    // A release of an earlier run is none of this one. A shell makes the file first and writes to it then.
    let pod = Pod::flat();
    pod.put("after", "0");
    let running = pod.start(&["--pause-on-failure", "--on-error", "continue", "--", "sh", "-c", "touch $W/ready; exit 5"]);
    until("the command", || pod.work.join("ready").exists());
    pod.until_it_has_looked();
    let shell = format!("(sleep 0.03; echo 9) >{}", pod.shared.join("after").display());
    assert!(Command::new("sh").args(["-c", &shell]).status().unwrap().success());
    // A person's code is not the command's own.
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (9, Some("9")));
}

#[test]
fn messages_are_more_or_less_or_elsewhere() {
    let lines = |flags: &[&str]| {
        let outcome = Pod::bare().run(&[flags, &["--rewrite", "10:0", "--", "sh", "-c", "exit 0"]].concat());
        (outcome.status, outcome.stderr.lines().count())
    };
    assert_eq!(lines(&[]), (0, 0));
    assert!(lines(&["-v"]).1 > 0 && lines(&["-vv"]).1 > 0 && lines(&["-v", "-v"]).1 > 0 && lines(&["-vvv"]).1 > 0);
    assert_eq!(lines(&["-q"]), (0, 0));
    // Descriptor 3 gets the messages, and the command does not get the descriptor.
    let pod = Pod::bare();
    let process = pod.process(&["-v", "--log-fd", "3", "--", "sh", "-c", "{ echo leaked >&3; } 2>/dev/null || echo closed"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"out=$1; shift; exec "$@" 3>"$out""#, "sh"]).arg(pod.work.join("messages"));
    shell.arg(process.get_program()).args(process.get_args());
    let output = shell.env_remove("EMISSARY_DIR").output().unwrap();
    let messages = std::fs::read_to_string(pod.work.join("messages")).unwrap();
    assert!(messages.contains("sub-process exited, exit code") && !messages.contains("leaked"), "{messages} {output:?}");
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"closed\n"[..], &b""[..]), "{output:?}");
    // An emissary inside another one inherits the variable, and not the descriptor.
    assert_eq!(Pod::bare().env("EMISSARY_LOG_FD", "77").run(&["--", "sh", "-c", "exit 3"]).status, 3);
    let outcome = Pod::bare().run(&["--log-fd", "77", "--frob", "--", "true"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("unknown flag '--frob'"), "{outcome:?}");
    // Whatever sets the level on the command line outweighs the variables.
    assert_eq!(Pod::bare().env("EMISSARY_LOGLEVEL", "debug").run(&["-q", "--", "true"]).stderr, "");
    assert_ne!(Pod::bare().env("EMISSARY_LOGLEVEL", "error").run(&["-vv", "--", "true"]).stderr, "");
    let outcome = pod.run(&["--log-fd", "77", "--", "true"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("descriptor 77 is not open"), "{outcome:?}");
}

#[test]
fn as_pid_1_it_reaps() {
    if !may_unshare("--pid") {
        return;
    }
    let pod = Pod::bare().via(&["unshare", "--pid", "--fork", "--mount-proc"]);
    let script = "for i in 1 2 3 4 5; do (sleep 0.05 &); done; sleep 0.4; grep -c zombie /proc/[0-9]*/status | grep -c :1";
    let outcome = pod.run(&["--", "sh", "-c", script]);
    assert_eq!((outcome.stdout.trim(), outcome.stderr.as_str()), ("0", ""), "{outcome:?}");
}

#[test]
fn version_as_json() {
    let outcome = Pod::bare().run(&["version", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    assert!(value["target"].as_str().is_some_and(|target| !target.is_empty()) && value["features"].is_array());
}
