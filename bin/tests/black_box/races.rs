//! Races. Each test provokes one on purpose.

use core::time::Duration;

use crate::pod::{Pod, may_unshare, until};

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
    for args in [&["run"][..], &["run", "--frob", "--", "x"], &["--frob", "--", "x"], &["--"], &["frob"], &["echo", "hi"], &["--frob"], &[]]
    {
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
