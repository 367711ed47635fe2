//! Signals: received, or found in the signal file; and what the command starts with.

use crate::pod::{Pod, is_gone, may_unshare, until};

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
fn rubbish_is_ignored_and_said() {
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
    // It does not fork: a shell that waits for a child which is stopped before execve never stops itself.
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

/// Mask and ignored signals in `/proc/self/status`, without 32 and 33: those are the C library's, which ignores them or not by its way of
/// starting a process.
fn masks(status: &str) -> Vec<u64> {
    let bits = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    status.lines().filter_map(bits).map(|mask| mask & !(3 << 31)).collect()
}

#[test]
fn mask_and_ignored_signals_are_kept() {
    let via = ["env", "--ignore-signal=HUP,CHLD,PIPE", "--block-signal=USR2"];
    // Not through a shell: some clear their mask.
    let seen = |pod: &Pod| masks(&pod.run(&["--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]).stdout);
    let want = [0x800, 0x1_1001];
    assert_eq!(seen(&Pod::new().via(&via)), want);
    assert_eq!(seen(&Pod::new().capturing().via(&via)), want);
    assert_eq!(seen(&Pod::new()), [0, 0]);
}

#[test]
fn the_command_dies_with_us() {
    let pod = Pod::new();
    let running = pod.start_ready("echo $$ >$W/pid; touch $W/ready; exec sleep 600");
    let pid = std::fs::read_to_string(pod.work.join("pid")).unwrap();
    running.kill(9);
    assert_eq!(running.finish().status, 1009);
    until("the command to be gone", || is_gone(&pid));
    // Nothing half-written is left, and a second run works.
    assert_eq!(pod.exit_code(), None);
    assert_eq!((pod.sh("exit 5").status, pod.exit_code().as_deref()), (5, Some("5")));
}

#[test]
fn orphans_are_reaped() {
    let pod = Pod::new();
    let script = "for i in $(seq 200); do (true &) ; done; touch $W/ready; until [ -e $W/go ]; do sleep 0.02; done";
    let running = pod.start_ready(script);
    // The subreaper has them all, and then only the command.
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
    // The last look counts: every orphan has been reaped before it is empty.
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
    // The first that came is the first delivered: SIGUSR2 ends it before SIGUSR1 could.
    assert_eq!(running.finish().status, 140);
}

#[test]
fn nothing_wakes_us_while_nothing_happens() {
    std::thread::scope(|scope| {
        for pod in [Pod::new(), Pod::new().capturing(), Pod::flat()] {
            scope.spawn(move || {
                let running = pod.start_ready("touch $W/ready; exec sleep 600");
                pod.until_it_has_looked();
                let switches = || {
                    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
                    status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_string).collect::<Vec<_>>()
                };
                // It has gone back to sleep once the numbers stay.
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
