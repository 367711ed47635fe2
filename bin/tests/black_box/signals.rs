//! Signals that emissary receives or finds in the signal file, and the signal mask, descriptors and variables that it gives to the command (docs/protocol.md,
//! "Main"; signal(7)).

use crate::pod::{Pod, has_program, is_gone, is_root, may_unshare, until};

const TRAP: &str = "trap 'echo got term; exit 3' TERM; touch $W/ready; while :; do sleep 0.02; done";
const SLEEP: &str = "touch $W/ready; exec sleep 600";

#[test]
fn sigterm_is_forwarded() {
    let pod = Pod::new();
    let running = pod.start_ready(TRAP);
    running.kill(15);
    let outcome = running.finish();
    assert_eq!((outcome.status, pod.exit_code().as_deref(), outcome.stdout.as_str()), (3, Some("3"), "got term\n"));
    let pod = Pod::new();
    let running = pod.start_ready(SLEEP);
    running.kill(15);
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (143, Some("143")));
}

#[test]
fn the_signal_file() {
    for (text, script, code) in [("15", TRAP, 3), ("15\n", TRAP, 3), ("SIGTERM", TRAP, 3), ("term", TRAP, 3), ("9", SLEEP, 137)] {
        let pod = Pod::new();
        let running = pod.start_ready(script);
        pod.put("ctr/main/signal", text);
        assert_eq!(running.finish().status, code, "{text:?}");
        assert_eq!((pod.exit_code(), pod.text("ctr/main/signal")), (Some(code.to_string()), None));
    }
}

#[test]
fn a_signal_file_that_is_written_in_place() {
    let pod = Pod::new();
    let running = pod.start_ready(TRAP);
    std::fs::write(pod.shared.join("ctr/main/signal"), "15").unwrap();
    assert_eq!(running.finish().status, 3);
}

#[test]
fn a_signal_file_before_the_start() {
    let pod = Pod::new();
    pod.put("ctr/main/signal", "15");
    assert_eq!((pod.sh("exec sleep 600").status, pod.text("ctr/main/signal")), (143, None));
}

#[test]
fn the_whole_process_group() {
    let pod = Pod::new();
    let running = pod.start_ready("sh -c 'echo $$ >$W/inner; touch $W/ready; exec sleep 60' & wait; echo after");
    pod.put("ctr/main/signal", "9");
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (137, ""));
    let inner = std::fs::read_to_string(pod.work.join("inner")).unwrap();
    until("the inner process to be gone", || is_gone(&inner));
}

#[test]
fn rubbish_is_ignored_with_a_warning() {
    let pod = Pod::new();
    let running = pod.start_ready(TRAP);
    for text in ["term!\n", "0", "-9", "99999999999999999999", "\n", "\u{0}9"] {
        pod.put("ctr/main/signal", text);
        until("the file to be taken", || !pod.shared.join("ctr/main/signal").exists());
    }
    pod.put("ctr/main/signal", "15\n");
    let outcome = running.finish();
    assert_eq!(outcome.status, 3);
    assert_eq!(outcome.stderr.matches("signal file ignored").count(), 6, "{outcome:?}");
}

#[test]
fn a_signal_file_that_is_no_file() {
    let pod = Pod::new();
    let running = pod.start_ready(TRAP);
    let signal = pod.shared.join("ctr/main/signal");
    let secret = pod.work.join("secret");
    std::fs::write(&secret, "9").unwrap();
    let plant = |make: &dyn Fn(&std::path::Path)| {
        let draft = pod.shared.join("ctr/main/.draft");
        make(&draft);
        std::fs::rename(draft, &signal).unwrap();
        until("it to be taken away", || !signal.exists() && signal.symlink_metadata().is_err());
    };
    plant(&|draft| std::fs::create_dir(draft).unwrap());
    plant(&|draft| std::os::unix::fs::symlink(&secret, draft).unwrap());
    plant(&|draft| rustix::fs::mknodat(rustix::fs::CWD, draft, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap());
    pod.put("ctr/main/signal", "15");
    assert_eq!(running.finish().status, 3);
    assert!(secret.exists());
}

#[test]
fn usr1_and_hup_once_each() {
    let pod = Pod::new();
    let script = "trap 'printf u >>$W/got' USR1; trap 'printf h >>$W/got' HUP; trap 'exit 0' TERM; touch $W/got $W/ready; while :; do sleep 0.02; done";
    let running = pod.start_ready(script);
    let got = || std::fs::read_to_string(pod.work.join("got")).unwrap();
    running.kill(10);
    until("USR1", || got() == "u");
    running.kill(1);
    until("HUP", || got() == "uh");
    running.kill(15);
    assert_eq!((running.finish().status, got().as_str()), (0, "uh"));
}

#[test]
fn after_an_ignored_sigterm_9_still_kills() {
    let pod = Pod::new();
    let running = pod.start_ready("trap '' TERM; touch $W/ready; while :; do sleep 0.02; done");
    running.kill(15);
    pod.put("ctr/main/signal", "9");
    assert_eq!(running.finish().status, 137);
}

#[test]
fn stopping_and_continuing_does_not_end_the_step() {
    let pod = Pod::new();
    // The shell becomes `sleep` and does not fork. A shell never stops if its child was stopped before execve.
    let running = pod.start_ready("echo $$ >$W/pid; touch $W/ready; exec sleep 600");
    let pid = std::fs::read_to_string(pod.work.join("pid")).unwrap();
    let is_stopped = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    pod.put("ctr/main/signal", "19");
    until("SIGSTOP", is_stopped);
    pod.put("ctr/main/signal", "18");
    until("SIGCONT", || !is_stopped());
    running.kill(20);
    until("SIGTSTP", is_stopped);
    running.kill(18);
    until("SIGCONT", || !is_stopped());
    pod.until_it_has_looked();
    assert_eq!(pod.exit_code(), None);
    running.kill(15);
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (143, Some("143")));
}

#[test]
fn a_burst_of_different_signals_all_arrive() {
    let pod = Pod::new();
    let numbers = [1, 2, 3, 10, 12, 13, 14, 16, 23, 24, 25, 26, 27, 28, 29];
    let traps: String = numbers.iter().map(|n| format!("trap 'echo {n} >>$W/got' {n}; ")).collect();
    let running = pod.start_ready(&format!("{traps} trap 'exit 0' TERM; touch $W/got $W/ready; while :; do sleep 0.02; done"));
    for number in numbers {
        running.kill(number);
    }
    until("all of them", || {
        let got = std::fs::read_to_string(pod.work.join("got")).unwrap();
        numbers.iter().all(|number| got.lines().any(|line| line == number.to_string()))
    });
    running.kill(15);
    assert_eq!(running.finish().status, 0);
}

/// The signal mask and the ignored signals in `/proc/self/status`, without signals 32 and 33. The C library owns those two. Whether the C library ignores them
/// depends on how it starts a process.
fn masks(status: &str) -> Vec<u64> {
    let bits = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    status.lines().filter_map(bits).map(|mask| mask & !(3 << 31)).collect()
}

#[test]
fn mask_and_ignored_signals_are_kept() {
    let via = ["env", "--ignore-signal=HUP,CHLD,PIPE", "--block-signal=USR2"];
    // The test starts the command without a shell, because some shells clear the mask.
    let seen = |pod: &Pod| masks(&pod.run(&["--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]).stdout);
    let want = [0x800, 0x1_1001];
    assert_eq!(seen(&Pod::new().via(&via)), want);
    assert_eq!(seen(&Pod::new().capturing().via(&via)), want);
    assert_eq!(seen(&Pod::new()), [0, 0]);
}

#[test]
fn the_command_dies_with_emissary() {
    let pod = Pod::new();
    let running = pod.start_ready("echo $$ >$W/pid; touch $W/ready; exec sleep 600");
    let pid = std::fs::read_to_string(pod.work.join("pid")).unwrap();
    running.kill(9);
    assert_eq!(running.finish().status, 1009);
    until("the command to be gone", || is_gone(&pid));
    // The killed run left no exit code, and a second run works.
    assert_eq!(pod.exit_code(), None);
    assert_eq!((pod.sh("exit 5").status, pod.exit_code().as_deref()), (5, Some("5")));
}

#[test]
fn orphans_are_reaped() {
    let pod = Pod::new();
    let script = "for i in $(seq 200); do (true &) ; done; touch $W/ready; until [ -e $W/go ]; do sleep 0.02; done";
    let running = pod.start_ready(script);
    // All orphans become emissary's children. When it has reaped them, only the command is left.
    until("every orphan to be reaped", || running.children().len() == 1);
    std::fs::write(pod.work.join("go"), "").unwrap();
    assert_eq!(running.finish().status, 0);
}

#[test]
fn orphans_are_reaped_by_pid_1_too() {
    if !may_unshare("--pid") {
        return;
    }
    let pod = Pod::new().via(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    // The loop ends when no zombie of PID 1 is left.
    let script = "echo $$; for i in $(seq 100); do (true &) ; done; until ! grep -q ') Z 1 ' /proc/[0-9]*/stat 2>/dev/null; do sleep 0.02; done; echo reaped";
    let outcome = pod.sh(script);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "2\nreaped\n"));
}

#[test]
fn signals_before_the_start_come_in_order_of_arrival() {
    let pod = Pod::new().env("ARGO_DEBUG_PAUSE_BEFORE", "true");
    let running = pod.start(&["--", "sleep", "600"]);
    running.until_it_listens();
    for signal in ["12", "10"] {
        pod.put("ctr/main/signal", signal);
        until("it to be taken", || pod.text("ctr/main/signal").is_none());
    }
    pod.put("ctr/main/before", "");
    // Emissary delivers the first signal first: SIGUSR2 ends the command before SIGUSR1 can.
    assert_eq!(running.finish().status, 140);
}

#[test]
fn an_idle_run_never_wakes_up() {
    std::thread::scope(|scope| {
        for pod in [Pod::new(), Pod::new().capturing(), Pod::flat()] {
            scope.spawn(move || {
                let running = pod.start_ready("touch $W/ready; exec sleep 600");
                pod.until_it_has_looked();
                let switches = || {
                    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
                    status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_string).collect::<Vec<_>>()
                };
                // The process sleeps when the numbers no longer change.
                until("it to sleep", || {
                    let before = switches();
                    std::thread::sleep(core::time::Duration::from_millis(20));
                    before == switches()
                });
                let before = switches();
                std::thread::sleep(core::time::Duration::from_millis(1_500));
                assert_eq!(switches(), before);
                running.kill(15);
                assert_eq!(running.finish().status, 143);
            });
        }
    });
}

#[test]
fn a_signal_ignored_at_the_start_ends_no_waiting() {
    let ignoring = ["env", "--ignore-signal=HUP,INT,QUIT"];
    // Emissary waits for a person, or for another container.
    let set = r#"{"containerSet":{"containers":[{"name":"a"},{"name":"main","dependencies":["a"]}]}}"#;
    for pod in
        [Pod::new().env("ARGO_DEBUG_PAUSE_BEFORE", "true"), Pod::flat().env("ARGO_DEBUG_PAUSE_BEFORE", "true"), Pod::new().template(set)]
    {
        let pod = pod.via(&ignoring);
        let running = pod.start(&["--", "sh", "-c", "exit 7"]);
        running.until_it_listens();
        [1, 2, 3].iter().for_each(|&signal| running.kill(signal));
        pod.until_it_has_looked();
        assert_eq!(pod.exit_code(), None);
        // A signal that was not ignored still ends the run.
        running.kill(15);
        assert_eq!((running.finish().status, pod.exit_code().as_deref()), (143, Some("143")));
    }
    // A signal in the signal file counts although it was ignored at the start.
    let pod = Pod::new().env("ARGO_DEBUG_PAUSE_BEFORE", "true").via(&ignoring);
    let running = pod.start(&["--", "true"]);
    running.until_it_listens();
    pod.put("ctr/main/signal", "INT");
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (130, Some("130")));
}

#[test]
fn a_signal_ignored_at_the_start_ends_no_retries() {
    let template = |pause: &str| {
        format!(r#"{{"containerSet":{{"containers":[{{"name":"main"}}],"retryStrategy":{{"retries":2,"duration":"{pause}"}}}}}}"#)
    };
    for (pause, asleep) in [("0s", true), ("1s", false)] {
        let pod = Pod::new().template(&template(pause)).via(&["env", "--ignore-signal=HUP"]);
        let running = pod.start_ready("echo x >>$W/attempts; touch $W/ready; until [ -e $W/go ]; do sleep 0.02; done; exit 5");
        if asleep {
            // This signal goes to the command, which ignores it, too.
            running.kill(1);
            pod.until_it_has_looked();
        }
        std::fs::write(pod.work.join("go"), "").unwrap();
        if !asleep {
            until("the pause", || running.children().is_empty());
            running.kill(1);
        }
        assert_eq!(running.finish().status, 5);
        assert_eq!(std::fs::read_to_string(pod.work.join("attempts")).unwrap(), "x\nx\n", "{pause}");
    }
}

#[test]
fn a_signal_ignored_at_the_start_does_not_end_the_wait_side() {
    for pod in [Pod::new(), Pod::flat()] {
        let pod = pod.via(&["env", "--ignore-signal=HUP,INT,QUIT"]);
        let running = pod.start(&["wait"]);
        running.until_it_listens();
        [1, 2, 3].iter().for_each(|&signal| running.kill(signal));
        until("the folder", || pod.shared.join(pod.own("")).is_dir());
        std::thread::sleep(core::time::Duration::from_millis(100));
        assert_eq!(pod.text(&pod.own("signal")), None);
        pod.put(&pod.own("exitcode"), "0");
        assert_eq!(running.finish().status, 0);
    }
}

#[test]
fn a_command_that_leaves_its_group() {
    if !has_program("perl") {
        return;
    }
    // The command joins emissary's group. In the second round, another process stays in the command's first group.
    for stays in ["", "if (!fork) { exec 'sleep', '600' } "] {
        let script = format!(
            "$SIG{{USR1}} = sub {{ exit 9 }}; {stays}setpgrp(0, getppid) or die; open my $f, '>', \"$ENV{{W}}/ready\"; close $f; sleep 600"
        );
        for (signal, code) in [("10", 9), ("15", 143), ("9", 137)] {
            let pod = Pod::new();
            let running = pod.start(&["--", "perl", "-e", &script]);
            until("the command", || pod.work.join("ready").exists());
            pod.put("ctr/main/signal", signal);
            let outcome = running.finish();
            assert_eq!((outcome.status, outcome.stderr.as_str()), (code, ""), "{signal}");
        }
    }
}

/// Makes a set-uid program in the scratch folder. It becomes root for every caller and runs its arguments. `None` if set-uid has no effect on this file system.
fn set_uid(pod: &Pod) -> Option<String> {
    if !is_root("a set-uid command") || !has_program("setpriv") {
        return None;
    }
    let path = pod.work.join("root");
    let made = std::process::Command::new("sh")
        .args(["-c", "cp $(command -v setpriv) $0 && chmod 4755 $0", path.to_str().unwrap()])
        .status()
        .unwrap()
        .success();
    let check = ["--reuid=65534", "--clear-groups", path.to_str().unwrap(), "--reuid=0", "id", "-u"];
    let id = std::process::Command::new("setpriv").args(check).output().unwrap();
    if !made || id.stdout != b"0\n" {
        eprintln!("set-uid has no effect here: not tested");
        return None;
    }
    Some(path.to_str().unwrap().into())
}

#[test]
fn a_command_that_may_not_be_signalled_gives_one_error() {
    let pod = Pod::new();
    let Some(root) = set_uid(&pod) else { return };
    let pod = pod.via(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    let running = pod.start(&[
        "--",
        &root,
        "--reuid=0",
        "sh",
        "-c",
        "echo $$ >$W/pid; touch $W/ready; until [ -e $W/go ]; do sleep 0.02; done; exit 4",
    ]);
    until("the command", || pod.work.join("ready").exists());
    for signal in ["15", "10", "9"] {
        pod.put("ctr/main/signal", signal);
        until("it to be taken", || pod.text("ctr/main/signal").is_none());
    }
    pod.until_it_has_looked();
    // Emissary is not PID 1 here. Its end would leave the command behind, so it does not end.
    assert_eq!(pod.exit_code(), None);
    std::fs::write(pod.work.join("go"), "").unwrap();
    let outcome = running.finish();
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (4, Some("4")));
    assert_eq!(outcome.stderr.matches("operation not permitted").count(), 1, "{outcome:?}");
}

#[test]
fn pid_1_ends_if_it_may_not_kill() {
    if !may_unshare("--pid") {
        return;
    }
    for pod in [Pod::new().capturing(), Pod::flat()] {
        let Some(root) = set_uid(&pod) else { return };
        let pod = pod.via(&["unshare", "--pid", "--fork", "--kill-child", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        let running = pod.start(&["--", &root, "--reuid=0", "sh", "-c", "echo said; touch $W/ready; exec sleep 600"]);
        until("the command", || pod.work.join("ready").exists());
        pod.put(&pod.own("signal"), "15");
        pod.until_it_has_looked();
        assert_eq!(pod.exit_code(), None);
        pod.put(&pod.own("signal"), "9");
        let outcome = running.finish();
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (137, Some("137")), "{outcome:?}");
        assert_eq!((outcome.stdout.as_str(), pod.text(&pod.own("stdout")).as_deref()), ("said\n", Some("said\n")));
    }
}

/// A perl script that makes its parent its tracer, and then runs `script`.
fn traced(script: &str) -> String {
    format!("syscall({}, 0, 0, 0, 0) == 0 or die; {script}", libc::SYS_ptrace)
}

#[test]
fn a_command_that_asks_to_be_traced() {
    if !has_program("perl") {
        return;
    }
    for pod in [Pod::new(), Pod::flat()] {
        let running = pod.start(&[
            "--",
            "perl",
            "-e",
            &traced("$| = 1; $SIG{USR1} = sub { print \"usr1\\n\" }; open my $f, '>', \"$ENV{W}/ready\"; close $f; sleep 1 while 1"),
        ]);
        until("the command", || pod.work.join("ready").exists());
        running.kill(10);
        pod.until_it_has_looked();
        running.kill(15);
        let outcome = running.finish();
        assert_eq!((outcome.status, pod.exit_code().as_deref(), outcome.stdout.as_str()), (143, Some("143"), "usr1\n"));
    }
    // The kernel stops the command at execve with a SIGTRAP. Emissary does not deliver it.
    let pod = Pod::new();
    assert_eq!(pod.run(&["--", "perl", "-e", &traced("exec 'sh', '-c', 'exit 7'")]).status, 7);
    // Emissary delivers a signal that the command sends to itself.
    assert_eq!(pod.run(&["--", "perl", "-e", &traced("kill 'ABRT', $$; sleep 600")]).status, 134);
    // A signal stops the command, and another continues it.
    let running =
        pod.start(&["--", "perl", "-e", &traced("open my $f, '>', \"$ENV{W}/ready\"; close $f; sleep 1 until -e \"$ENV{W}/go\"; exit 3")]);
    until("the command", || pod.work.join("ready").exists());
    running.kill(20);
    pod.until_it_has_looked();
    running.kill(18);
    std::fs::write(pod.work.join("go"), "").unwrap();
    assert_eq!(running.finish().status, 3);
}

#[test]
fn an_orphan_that_asks_to_be_traced() {
    if !has_program("perl") {
        return;
    }
    let pod = Pod::new();
    // The orphan waits until its parent has ended. Emissary is then the parent, so emissary becomes the tracer.
    let asks = traced("$SIG{USR1} = sub { exit 0 }; open my $f, '>', \"$ENV{W}/ready\"; print $f $$; close $f; sleep 1 while 1");
    pod.script(
        "orphan",
        &format!(
            "my $parent = getppid; open my $f, '>', \"$ENV{{W}}/began\"; select undef, undef, undef, 0.01 while getppid == $parent; {asks}"
        ),
        0o644,
    );
    let running = pod.start(&[
        "--",
        "sh",
        "-c",
        "(perl $W/orphan & until [ -e $W/began ]; do sleep 0.02; done); until [ -e $W/go ]; do sleep 0.02; done",
    ]);
    let pid = || std::fs::read_to_string(pod.work.join("ready")).ok()?.parse().ok();
    until("the orphan", || pid().is_some());
    let pid: i32 = pid().unwrap();
    let signal = rustix::process::Signal::from_named_raw(10).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    until("it to be gone", || !std::path::Path::new("/proc").join(pid.to_string()).exists());
    std::fs::write(pod.work.join("go"), "").unwrap();
    assert_eq!(running.finish().status, 0);
}

/// Makes a named pipe and opens it for reading, without blocking.
fn fifo(pod: &Pod) -> std::fs::File {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = pod.work.join("fifo");
    let _ = std::fs::remove_file(&path);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap()
}

/// Reads a pipe until the last writer has closed it.
fn until_end(mut reader: &std::fs::File) -> String {
    let mut all = Vec::new();
    until("the end of the pipe", || {
        let mut piece = [0; 64];
        match std::io::Read::read(&mut reader, &mut piece) {
            // A read of a pipe without a writer returns 0 bytes, before the first writer as after the last one.
            Ok(0) => !all.is_empty(),
            Ok(read) => {
                all.extend_from_slice(&piece[..read]);
                false
            }
            Err(_) => false,
        }
    });
    String::from_utf8(all).unwrap()
}

#[test]
fn a_descriptor_that_the_command_closes_is_closed() {
    for (number, pod) in [(3, Pod::new()), (9, Pod::new().capturing()), (200, Pod::flat()), (300, Pod::new())] {
        let reader = fifo(&pod);
        let pod = pod.via(&["bash", "-c", &format!("exec {number}>$W/fifo; exec \"$@\""), "bash"]);
        let script = format!("echo x >&{number}; exec {number}>&-; touch $W/ready; exec sleep 600");
        let running = pod.start(&["--", "bash", "-c", &script]);
        assert_eq!(until_end(&reader), "x\n", "{number}");
        pod.until_it_has_looked();
        assert_eq!(pod.exit_code(), None);
        running.kill(15);
        assert_eq!(running.finish().status, 143);
    }
}

#[test]
fn a_stdin_that_the_command_closes_is_closed() {
    for (pod, script) in [
        (Pod::new(), "exec <&-; touch $W/ready; exec sleep 600"),
        (Pod::new().capturing(), "exec </dev/null; touch $W/ready; exec sleep 600"),
        (Pod::flat(), "read x; exec <&-; touch $W/ready; exec sleep 600"),
    ] {
        let mut running = pod.start_on(
            &["--", "sh", "-c", script],
            [std::process::Stdio::piped(), std::process::Stdio::piped(), std::process::Stdio::piped()],
        );
        let mut stdin = running.child.stdin.take().unwrap();
        // The command may have closed its stdin already.
        let _ = std::io::Write::write_all(&mut stdin, b"line\n");
        until("the command", || pod.work.join("ready").exists());
        until("nobody to read it", || std::io::Write::write_all(&mut stdin, b"x").is_err());
        running.kill(15);
        assert_eq!(running.finish().status, 143);
    }
}

#[test]
fn each_attempt_gets_the_descriptors() {
    let template = r#"{"containerSet":{"containers":[{"name":"main"}],"retryStrategy":{"retries":3,"duration":"10ms"}}}"#;
    let pod = Pod::new().template(template);
    let reader = fifo(&pod);
    let pod = pod.via(&["sh", "-c", "exec 7>$W/fifo; exec \"$@\"", "sh"]);
    let script = "read x; echo got $x >&7; [ $x = 3 ] || exit 5; exec 7>&- <&-; touch $W/ready; exec sleep 600";
    let mut running = pod
        .start_on(&["--", "sh", "-c", script], [std::process::Stdio::piped(), std::process::Stdio::piped(), std::process::Stdio::piped()]);
    let mut stdin = running.child.stdin.take().unwrap();
    for line in ["1\n", "2\n", "3\n"] {
        std::io::Write::write_all(&mut stdin, line.as_bytes()).unwrap();
    }
    assert_eq!(until_end(&reader), "got 1\ngot 2\ngot 3\n");
    until("nobody to read it", || std::io::Write::write_all(&mut stdin, b"x").is_err());
    running.kill(15);
    assert_eq!(running.finish().status, 143);
    // Emissary waits for a person after a first success. It keeps no descriptor, because no further attempt follows.
    let pod = Pod::new().template(template).env("ARGO_DEBUG_PAUSE_AFTER", "true");
    let reader = fifo(&pod);
    let pod = pod.via(&["sh", "-c", "exec 7>$W/fifo; exec \"$@\"", "sh"]);
    let running = pod.start(&["--", "sh", "-c", "echo once >&7"]);
    assert_eq!((until_end(&reader).as_str(), pod.exit_code()), ("once\n", None));
    pod.put("ctr/main/after", "");
    assert_eq!(running.finish().status, 0);
}

#[test]
fn variables_that_name_emissary_name_the_command() {
    let names = "echo $$ $LISTEN_PID ${WATCHDOG_PID} $OTHER";
    for pod in [Pod::new(), Pod::new().capturing(), Pod::flat()] {
        let pod = pod.via(&["sh", "-c", "export LISTEN_PID=$$ WATCHDOG_PID=$$ OTHER=$$; exec \"$@\"", "sh"]);
        let running = pod.start(&["--", "sh", "-c", names]);
        let own = running.child.id().to_string();
        let outcome = running.finish();
        let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
        assert!(words[0] != own && words == [words[0], words[0], words[0], &own], "{outcome:?}");
    }
    // The variable is right at each attempt.
    let template = r#"{"containerSet":{"containers":[{"name":"main"}],"retryStrategy":{"retries":2}}}"#;
    let pod = Pod::new().template(template).via(&["sh", "-c", "export LISTEN_PID=$$; exec \"$@\"", "sh"]);
    let outcome = pod.sh("echo $$ $LISTEN_PID; exit 1");
    for line in outcome.stdout.lines() {
        let (own, named) = line.split_once(' ').unwrap();
        assert_eq!(own, named, "{outcome:?}");
    }
    assert_eq!(outcome.stdout.lines().count(), 2);
    // A variable that names another process does not change.
    let pod = Pod::new().env("LISTEN_PID", "1").env("WATCHDOG_PID", "999999999999");
    assert!(pod.sh(names).stdout.ends_with(" 1 999999999999\n"));
    // A number that only begins with emissary's process id is another number.
    let pod = Pod::new().via(&["sh", "-c", "export LISTEN_PID=${$}0 WATCHDOG_PID=x$$; exec \"$@\"", "sh"]);
    let running = pod.start(&["--", "sh", "-c", names]);
    let own = running.child.id();
    assert!(running.finish().stdout.ends_with(&format!(" {own}0 x{own}\n")));
}

#[test]
fn the_id_of_a_process_descriptor_names_the_command() {
    if !has_program("perl") {
        return;
    }
    let id = format!("sub id {{ (stat '/proc/self/fd/' . syscall({}, 0 + $$, 0))[1] }}", libc::SYS_pidfd_open);
    let pod = Pod::new();
    let seen = |given: &str| {
        let enter = format!("{id} $ENV{{LISTEN_PID}} = $$; $ENV{{LISTEN_PIDFDID}} = {given}; exec @ARGV");
        let outcome =
            Pod::new().via(&["perl", "-e", &enter]).run(&["--", "perl", "-e", &format!("{id} print id, ' ', $ENV{{LISTEN_PIDFDID}}")]);
        let (own, named) = outcome.stdout.split_once(' ').unwrap_or_else(|| panic!("{outcome:?}"));
        (own.to_string(), named.to_string())
    };
    // Before Linux 6.9 all process descriptors have the same number.
    let two = pod.run(&["--", "perl", "-e", &format!("{id} print id, ' '; my $pid = fork; if (!$pid) {{ print id; exit }} wait")]).stdout;
    if two.split_whitespace().collect::<std::collections::BTreeSet<_>>().len() < 2 {
        eprintln!("process descriptors have no numbers of their own here: not tested");
        return;
    }
    let (own, named) = seen("id");
    assert_eq!(own, named);
    let (own, named) = seen("5");
    assert!(own != named && named == "5");
}

#[test]
fn dev_stdout_after_privileges_are_dropped() {
    if !is_root("another user") || !has_program("setpriv") {
        return;
    }
    for pod in [Pod::new().capturing(), Pod::flat()] {
        let mut ends = Vec::new();
        // conmon's pipes are open to everyone; other runtimes give their pipes to the container's user.
        let mut sink = |mode: u32, owner: u32| {
            let (source, sink) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
            rustix::fs::fchmod(&sink, mode.into()).unwrap();
            rustix::fs::fchown(&sink, Some(rustix::fs::Uid::from_raw(owner)), None).unwrap();
            ends.push(std::fs::File::from(source));
            std::process::Stdio::from(sink)
        };
        let stdio = [std::process::Stdio::null(), sink(0o777, 0), sink(0o600, 65534)];
        let script = "setpriv --reuid 65534 --clear-groups sh -c 'echo x >/dev/stdout; echo y >/dev/stderr'; stat -L -c '%a %u' /dev/stdout /dev/stderr";
        let running = pod.start_on(&["--", "sh", "-c", script], stdio);
        let outcome = running.finish();
        let said: Vec<String> = ends.iter().map(|end| std::io::read_to_string(end).unwrap()).collect();
        assert_eq!((outcome.status, said[0].as_str(), said[1].as_str()), (0, "x\n777 0\n600 65534\n", "y\n"));
    }
}
