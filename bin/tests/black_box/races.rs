//! Races. Each test provokes one on purpose.

use core::time::Duration;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use crate::pod::{Pod, has_program, is_root, may_unshare, until};

#[test]
#[ignore = "slow, 5 s: sweeps over 40 moments"]
fn a_signal_file_at_any_moment_of_the_start() {
    // The moments reach from before emissary looks for the file to after the command's start. Emissary delivers the signal at every moment.
    for delay_us in (0..8_000).step_by(200) {
        let pod = Pod::new();
        std::fs::create_dir_all(pod.shared.join("ctr/main")).unwrap();
        let running = pod.start(&["--", "sleep", "600"]);
        std::thread::sleep(Duration::from_micros(delay_us));
        pod.put("ctr/main/signal", "15");
        assert_eq!((running.finish().status, pod.exit_code().as_deref()), (143, Some("143")), "after {delay_us} us");
    }
}

#[test]
fn sigterm_at_any_moment_of_the_start() {
    let mut taken = 0;
    for delay_us in (0..8_000).step_by(200) {
        let pod = Pod::new();
        let running = pod.start(&["--", "sleep", "600"]);
        std::thread::sleep(Duration::from_micros(delay_us));
        running.kill(15);
        let outcome = running.finish();
        // Before emissary's first instruction the kernel's default action ends it, and it leaves nothing. 1015 is a death by SIGTERM.
        let early = outcome.status == 1015 && pod.exit_code().is_none();
        assert!(early || (outcome.status, pod.exit_code().as_deref()) == (143, Some("143")), "after {delay_us} us: {outcome:?}");
        taken += usize::from(!early);
    }
    assert!(taken > 0, "no signal came late enough");
}

#[test]
fn a_signal_at_the_exit() {
    for round in 0..40 {
        let pod = Pod::new();
        let running = pod.start_ready("touch $W/ready; exit 5");
        pod.put("ctr/main/signal", "15");
        running.kill(10);
        let outcome = running.finish();
        // Whether the signal came before the command's end or after it, the file and the status agree.
        assert!([5, 138, 143].contains(&outcome.status), "round {round}: {outcome:?}");
        assert_eq!(pod.exit_code(), Some(outcome.status.to_string()));
    }
}

#[test]
fn sigterm_while_outputs_are_saved() {
    let template = r#"{"outputs":{"artifacts":[{"name":"a","path":"$W/o"}],"parameters":[{"name":"p","valueFrom":{"path":"$W/p"}}]}}"#;
    for code in [0, 7] {
        let pod = Pod::new().template(template);
        let running = pod.start(&["--", "sh", "-c", &format!("head -c 40000000 /dev/urandom >$W/o; echo v >$W/p; exit {code}")]);
        // A draft of the archive is there, so emissary has begun to save.
        let folder = pod.shared.join(pod.output("artifacts", ""));
        let begun = || std::fs::read_dir(&folder).is_ok_and(|entries| entries.count() > 0);
        until("the archive to begin", begun);
        running.kill(15);
        assert_eq!((running.finish().status, pod.exit_code()), (code, Some(code.to_string())));
        assert_eq!(pod.entries(&pod.output("artifacts", "o.tgz"))[0].1.len(), 40_000_000);
        assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("v\n"));
    }
}

#[test]
fn a_marker_that_is_renamed_while_it_is_read() {
    let pod = Pod::new().env("ARGO_WAIT_FOR_READY", "true");
    pod.put("status", "RUNNING\n");
    let running = pod.start(&["--", "echo", "ran"]);
    for _ in 0..2_000 {
        pod.put("status", "RUNNING\n");
    }
    pod.put("status", "READY\n");
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.as_str(), outcome.stderr.as_str()), (0, "ran\n", ""));
}

#[test]
fn a_thousand_signal_files_in_a_row() {
    let pod = Pod::new();
    let script = "trap 'echo x >>$W/got' USR1; trap 'exit 3' TERM; touch $W/got $W/ready; while :; do sleep 0.02; done";
    let running = pod.start_ready(script);
    for _ in 0..1_000 {
        pod.put("ctr/main/signal", "10");
    }
    // The last signal is never lost, however many files it replaced.
    until("the last to be taken", || !pod.shared.join("ctr/main/signal").exists());
    until("one at least", || std::fs::read_to_string(pod.work.join("got")).unwrap().contains('x'));
    pod.put("ctr/main/signal", "15");
    assert_eq!(running.finish().status, 3);
}

#[test]
fn each_of_a_hundred_signals_is_taken_and_delivered() {
    let pod = Pod::new();
    let script =
        "trap 'n=$((n+1)); echo $n >$W/n' USR1; trap 'exit 3' TERM; n=0; echo 0 >$W/n; touch $W/ready; while :; do sleep 0.005; done";
    let running = pod.start_ready(script);
    for number in 1..=100 {
        pod.put("ctr/main/signal", "10");
        until("the count", || std::fs::read_to_string(pod.work.join("n")).is_ok_and(|text| text == format!("{number}\n")));
    }
    pod.put("ctr/main/signal", "15");
    assert_eq!(running.finish().status, 3);
}

/// Runs the pod in a user namespace in which one of inotify's limits is 0.
fn without_inotify(pod: Pod, limit: &str) -> Pod {
    pod.via(&["unshare", "--user", "--map-root-user", "sh", "-c", &format!("echo 0 >/proc/sys/user/{limit} && exec \"$@\""), "sh"])
}

#[test]
fn inotify_exhausted() {
    if !may_unshare("--user") {
        return;
    }
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        let pod = without_inotify(Pod::new(), limit);
        let running = pod.start_ready("trap 'exit 3' TERM; touch $W/ready; while :; do sleep 0.02; done");
        pod.put("ctr/main/signal", "15");
        let outcome = running.finish();
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")), "{outcome:?}");
        assert_eq!(outcome.stderr.matches("looking every 100 ms instead").count(), 1, "{outcome:?}");
        // The same for dependencies and for the wait side.
        let set = r#"{"containerSet":{"containers":[{"name":"a"},{"name":"b","dependencies":["a"]}]}}"#;
        let pod = without_inotify(Pod::named("b").template(set), limit);
        let running = pod.start(&["--", "echo", "ran"]);
        let wait = pod.start(&["wait"]);
        until("it to wait", || pod.shared.join("ctr/a").is_dir());
        pod.put("ctr/a/exitcode", "0");
        let outcome = running.finish();
        assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "ran\n"), "{outcome:?}");
        assert_eq!(wait.finish().status, 0);
    }
}

#[test]
fn more_changes_than_the_kernel_keeps() {
    let kept: usize = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    if kept > 100_000 {
        eprintln!("the kernel keeps {kept} events: not tested");
        return;
    }
    let pod = Pod::new().env("ARGO_TERMINATION_GRACE_PERIOD_SECONDS", "1");
    let running = pod.start(&["wait", "--timeout", "20s"]);
    let folder = pod.shared.join("ctr/main");
    running.until_it_listens();
    until("the folder", || folder.is_dir());
    running.kill(19);
    // The files have two names in turn, since the kernel merges equal events. The event of the exit code is lost.
    for at in 0..=kept {
        std::fs::write(folder.join(["x", "y"][at % 2]), "").unwrap();
    }
    pod.put("ctr/main/exitcode", "0");
    running.kill(18);
    let outcome = running.finish();
    assert!(outcome.status == 0 && outcome.took < Duration::from_secs(20), "{outcome:?}");
}

#[test]
fn an_error_in_the_arguments_leaves_its_code() {
    for args in [&["run"][..], &["run", "--frob", "--", "x"], &["--frob", "--", "x"], &["--"], &["frob"], &["--frob"], &[]] {
        let pod = Pod::new();
        let outcome = pod.run(args);
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (64, Some("64")), "{args:?} {outcome:?}");
        assert!(!pod.termination_log().is_empty());
    }
    // The other roles leave no exit code, since no container waits for it.
    for args in
        [&["wait", "--frob"][..], &["init", "--frob"], &["signal", "--", "x"], &["kill"], &["help", "frob"], &["--dir", "x", "wait", "y"]]
    {
        let pod = Pod::flat();
        assert_eq!((pod.run(args).status, pod.exit_code()), (64, None), "{args:?}");
    }
}

#[test]
fn a_burst_of_queued_signals_loses_none_behind_it() {
    let pod = Pod::new();
    let running = pod.start_ready("trap '' 34; touch $W/ready; while :; do sleep 0.02; done");
    let pid = running.child.id();
    // Real-time signals queue up. Two hundred of them arrive at one wake-up, and a signal file after them.
    let burst = format!("kill -STOP {pid}; for i in $(seq 200); do kill -34 {pid}; done; printf 9 >$S.x; mv $S.x $S; kill -CONT {pid}");
    let signal = pod.shared.join("ctr/main/signal");
    assert!(std::process::Command::new("bash").args(["-c", &burst]).env("S", &signal).status().unwrap().success());
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (137, Some("137")));
}

#[test]
fn a_signal_file_whose_writer_takes_its_time() {
    // The writer creates the file, leaves it empty for a while, writes, and leaves it open for a while. Other files come and go beside it, or do not.
    for pause_ms in [5, 50, 150] {
        for when in ["before the start", "early", "later"] {
            let pod = Pod::new();
            let open = || std::fs::File::create(pod.shared.join(pod.own("signal"))).unwrap();
            let mut file = None;
            if when == "before the start" {
                std::fs::create_dir_all(pod.shared.join(pod.own(""))).unwrap();
                file = Some(open());
            }
            let running = pod.start_ready("trap 'exit 5' TERM; touch $W/ready; while :; do sleep 0.02; done");
            if when == "later" {
                // After this time emissary watches the folder.
                running.until_it_listens();
                std::thread::sleep(Duration::from_millis(40));
            }
            let mut file = file.unwrap_or_else(open);
            std::thread::sleep(Duration::from_millis(pause_ms));
            std::fs::write(pod.shared.join(pod.own("another")), "closed").unwrap();
            std::thread::sleep(Duration::from_millis(pause_ms));
            std::io::Write::write_all(&mut file, b"TERM").unwrap();
            drop(file);
            let outcome = running.finish();
            assert!(outcome.status == 5 && !outcome.stderr.contains("emissary:"), "{pause_ms} ms, {when}: {outcome:?}");
        }
    }
}

/// A process that writes on and on, and does not outlive a test that fails.
struct Process(rustix::process::Pid);

impl Process {
    fn kill(&self, signal: i32) {
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::from_named_raw(signal).unwrap());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill(9);
        }
    }
}

/// Two that write to one file whose reader takes a little and stops, again and again: both see room, and there is room for one. Neither hangs in its write.
fn two_on_one(via: &[&str], rounds: usize, make: impl Fn() -> (OwnedFd, OwnedFd)) {
    let (reader, writer) = make();
    let script = r#"trap "" USR1; yes & yes >&2 & trap 'echo x >>$W/n' USR1; : >$W/ready; while :; do wait; done"#;
    let pair = [(); 2].map(|()| {
        let pod = Pod::new().capturing().env("ARGO_TERMINATION_GRACE_PERIOD_SECONDS", "1").via(via);
        let stdio = [Stdio::null(), writer.try_clone().unwrap().into(), writer.try_clone().unwrap().into()];
        let running = pod.start_on(&["--", "sh", "-c", script], stdio);
        until("the command", || pod.work.join("ready").exists());
        // Under strace the emissary is the child.
        let pid = if via.is_empty() { running.child.id().to_string() } else { running.children()[0].clone() };
        (pod, Process(rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap()), running)
    });
    let (mut reader, mut piece) = (std::fs::File::from(reader), [0; 4_096]);
    for round in 0..rounds {
        reader.read_exact(&mut piece).unwrap();
        for (_, emissary, _) in &pair {
            emissary.kill(10);
        }
        for (pod, ..) in &pair {
            let heard = || std::fs::read(pod.work.join("n")).is_ok_and(|heard| heard.len() > 2 * round);
            until("the signal to be heard", heard);
        }
    }
    for (pod, emissary, running) in pair {
        emissary.kill(15);
        until("the end", || pod.exit_code().as_deref() == Some("143"));
        running.finish();
    }
}

#[test]
fn two_on_one_pipe_whose_reader_stops() {
    two_on_one(&[], 400, || {
        let (reader, writer) = std::io::pipe().unwrap();
        (reader.into(), writer.into())
    });
}

#[test]
fn two_on_one_socket_whose_reader_stops() {
    two_on_one(&[], 400, || {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        // One write takes all the room there is.
        rustix::net::sockopt::set_socket_send_buffer_size(&writer, 1).unwrap();
        (reader.into(), writer.into())
    });
}

/// The words by which every pwritev2 of the emissary fails like this.
fn without_pwritev2(error: &str) -> Vec<String> {
    let inject = format!("inject=pwritev2:error={error}");
    ["strace", "-qq", "-o", "/dev/null", "-e", "trace=pwritev2", "-e", &inject, "--"].map(str::to_string).into()
}

#[test]
fn two_on_one_pipe_of_an_old_kernel() {
    if !has_program("strace") {
        return;
    }
    for error in ["EOPNOTSUPP", "ENOSYS", "EPERM"] {
        let words = without_pwritev2(error);
        two_on_one(&words.iter().map(String::as_str).collect::<Vec<_>>(), 50, || {
            let (reader, writer) = std::io::pipe().unwrap();
            (reader.into(), writer.into())
        });
    }
}

#[test]
fn a_pipe_that_cannot_be_opened_again() {
    if !has_program("strace") || !is_root("another user") || !has_program("setpriv") {
        return;
    }
    // It belongs to us, and is nobody else's to open.
    let words = without_pwritev2("EPERM");
    let words: Vec<&str> = ["setpriv", "--reuid=54321", "--clear-groups"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let pod = Pod::new().capturing().via(&words);
    let outcome = pod.run(&["--", "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo end >&2"]);
    if outcome.stderr.contains("Permission denied") && !outcome.stderr.contains("emissary: ") {
        eprintln!("user 54321 cannot run the binary: not tested");
        return;
    }
    assert_eq!((outcome.status, outcome.stdout.len(), outcome.stderr.as_str()), (0, 300_000, "end\n"));
}
