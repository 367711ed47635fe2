//! The volume before, during and after a run (docs/protocol.md, "Files"): files of an earlier run, a lock without a holder, the ways in which a file appears,
//! and folders that are removed.

use core::time::Duration;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use crate::pod::{Pod, has_program, may_unshare, until};

const SET: &str = r#"{"containerSet":{"containers":[{"name":"a"},{"name":"b","dependencies":["a"]}]}}"#;

#[test]
fn the_code_of_an_earlier_run_does_not_count_for_the_next() {
    for pod in [Pod::new(), Pod::flat()] {
        assert_eq!(pod.sh("exit 5").status, 5);
        assert_eq!(pod.exit_code().as_deref(), Some("5"));
        let names = std::fs::read_dir(pod.shared.join(pod.own("x")).parent().unwrap()).unwrap();
        let left: Vec<_> = names.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(".emissary")).collect();
        assert!(left.is_empty(), "{left:?}");
        let running = pod.start_ready("touch $W/ready; until [ -e $W/end ]; do sleep 0.01; done");
        assert_eq!(pod.exit_code(), None);
        let wait = pod.start(&["wait"]);
        wait.until_it_listens();
        std::fs::write(pod.work.join("end"), "").unwrap();
        assert_eq!((running.finish().status, wait.finish().status, pod.exit_code().as_deref()), (0, 0, Some("0")));
    }
}

#[test]
fn a_signal_for_an_earlier_run_is_not_for_the_next_one() {
    let pod = Pod::new();
    assert_eq!(pod.sh("true").status, 0);
    // This signal came after the end of the earlier run, but it is no newer than that run's exit code.
    pod.put("ctr/main/signal", "15");
    let code = std::fs::File::options().write(true).open(pod.shared.join("ctr/main/exitcode")).unwrap();
    code.set_modified(std::time::SystemTime::now() + Duration::from_secs(1)).unwrap();
    assert_eq!(pod.sh("sleep 0.3; exit 4").status, 4);
    // A signal that was left before the first start is for the first run.
    let pod = Pod::new();
    pod.put("ctr/main/signal", "15");
    assert_eq!(pod.sh("sleep 60").status, 143);
}

/// Starts a command that does not end, and kills its emissary.
fn killed(pod: &Pod) {
    let running = pod.start_ready("touch $W/ready; exec sleep 60");
    running.kill(9);
    assert_eq!(running.finish().status, 1_009);
}

#[test]
fn wait_does_not_wait_for_a_killed_emissary() {
    for pod in [Pod::new(), Pod::flat()] {
        killed(&pod);
        let outcome = pod.run(&["wait"]);
        assert_eq!(outcome.status, 137, "{outcome:?}");
        assert!(outcome.stderr.contains("container 'main' was killed and left no exit code"), "{outcome:?}");
        // An emissary that is killed while `wait` runs gives the same result.
        std::fs::remove_file(pod.work.join("ready")).unwrap();
        let running = pod.start_ready("touch $W/ready; exec sleep 60");
        let wait = pod.start(&["wait"]);
        wait.until_it_listens();
        running.kill(9);
        let outcome = wait.finish();
        assert!(outcome.status == 137 && outcome.took < Duration::from_secs(10), "{outcome:?}");
        running.finish();
        // The next run's exit code counts.
        assert_eq!((pod.sh("exit 3").status, pod.run(&["wait"]).status), (3, 3));
    }
}

#[test]
fn a_killed_dependency_ends_the_containers_that_wait_for_it() {
    let mut names = [Pod::named("a").template(SET), Pod::named("b").template(SET)];
    names[1].shared = names[0].shared.clone();
    let [a, b] = names;
    killed(&a);
    let outcome = b.sh("echo ran");
    assert_eq!((outcome.status, outcome.stdout.as_str(), b.exit_code().as_deref()), (64, "", Some("64")));
    assert!(outcome.stderr.contains("dependency 'a' was killed"), "{outcome:?}");
}

#[test]
fn a_sidecar_ends_although_main_was_killed() {
    let template = r#"{"sidecars":[{"name":"side"}]}"#;
    let main = Pod::new().template(template);
    let mut side = Pod::named("side").template(template);
    side.shared = main.shared.clone();
    let running = side.start_ready("touch $W/ready; exec sleep 60");
    killed(&main);
    assert_eq!(running.finish().status, 143);
}

#[test]
fn wait_ends_soon_if_no_emissary_runs() {
    let outcome = Pod::new().run(&["wait", "--timeout", "300ms", "--grace", "300ms"]);
    assert!(outcome.status == 64 && outcome.took < Duration::from_secs(5), "{outcome:?}");
    // `wait` gives a container that still runs the full time.
    let pod = Pod::new();
    let running = pod.start_ready("trap '' TERM; touch $W/ready; while [ ! -e $W/end ]; do sleep 0.01; done");
    let wait = pod.start(&["wait", "--timeout", "1ms", "--grace", "100ms"]);
    assert_eq!((running.finish().status, wait.finish().status), (137, 137));
}

/// Starts `wait`, and waits until it watches. `wait` makes the container's folder before that.
fn waiting(pod: &Pod) -> crate::pod::Running {
    let wait = pod.start(&["wait"]);
    wait.until_it_listens();
    until("it to watch", || {
        let fds = std::fs::read_dir(format!("/proc/{}/fdinfo", wait.child.id())).unwrap();
        fds.flatten().any(|fd| std::fs::read_to_string(fd.path()).is_ok_and(|text| text.contains("inotify wd:")))
    });
    wait
}

/// Runs a shell command on the volume, outside of emissary.
fn outside(pod: &Pod, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(&pod.shared).env("W", &pod.work).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn a_file_counts_however_it_appears() {
    for appear in
        ["mkdir ctr/main/before", "mkfifo ctr/main/before", "echo >$W/b; ln $W/b ctr/main/before", "ln -s nowhere ctr/main/before"]
    {
        let pod = Pod::new().env("ARGO_DEBUG_PAUSE_BEFORE", "true");
        let running = pod.start(&["--", "echo", "ran"]);
        until("the folder", || pod.shared.join("ctr/main").is_dir());
        pod.until_it_has_looked();
        outside(&pod, appear);
        assert_eq!(running.finish().stdout, "ran\n", "{appear}");
    }
    for appear in ["printf 15 >tmp; ln tmp ctr/main/signal; rm tmp", "printf 15 >tmp; mv tmp ctr/main/signal", "printf 15 >ctr/main/signal"]
    {
        let pod = Pod::new();
        let running = pod.start_ready("touch $W/ready; exec sleep 60");
        outside(&pod, appear);
        assert_eq!(running.finish().status, 143, "{appear}");
    }
}

#[test]
fn an_exit_code_counts_however_it_appears() {
    for appear in
        ["printf 7 >tmp; ln tmp ctr/main/exitcode; rm tmp", "printf 7 >tmp; ln tmp ctr/main/exitcode", "printf 7 >ctr/main/exitcode"]
    {
        let pod = Pod::new();
        let wait = waiting(&pod);
        outside(&pod, appear);
        let outcome = wait.finish();
        assert_eq!(outcome.status, 7, "{appear}: {outcome:?}");
    }
}

#[test]
fn an_exit_code_that_is_empty_first_counts_when_it_is_whole() {
    let pod = Pod::new();
    let wait = waiting(&pod);
    outside(&pod, ": >ctr/main/exitcode; sleep 0.2; { printf 1; sleep 0.4; printf 37; } >>ctr/main/exitcode");
    assert_eq!(wait.finish().status, 137);
}

#[test]
fn a_folder_that_is_removed_and_made_again_is_watched_again() {
    let pod = Pod::new();
    let running = pod.start_ready("touch $W/ready; exec sleep 60");
    pod.until_it_has_looked();
    outside(&pod, "rm -r ctr/main; sleep 0.1; mkdir ctr/main; printf 15 >ctr/main/signal");
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (143, Some("143")));
    // The wait container also watches the new folder.
    let pod = Pod::new();
    let wait = waiting(&pod);
    outside(&pod, "rm -r ctr/main; sleep 0.1; mkdir ctr/main; printf 6 >ctr/main/exitcode");
    assert_eq!(wait.finish().status, 6);
}

#[test]
fn a_waiting_emissary_uses_no_cpu() {
    let pod = Pod::new();
    let running = pod.start_ready("touch $W/ready; exec sleep 60");
    let wait = pod.start(&["wait"]);
    wait.until_it_listens();
    // `wait` opens files when it looks. These openings must not make it look again.
    let switches = || {
        let text = std::fs::read_to_string(format!("/proc/{}/status", wait.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    std::thread::sleep(Duration::from_millis(300));
    let before = switches();
    std::thread::sleep(Duration::from_millis(500));
    assert!(switches() - before <= 1, "{} wake-ups in half a second", switches() - before);
    running.kill(15);
    assert_eq!((running.finish().status, wait.finish().status), (143, 143));
}

#[test]
fn an_error_at_close_is_a_failed_write() {
    if !has_program("strace") {
        return;
    }
    // strace does not execute a call that it makes fail. So this test fails only the closes of files that a run can leave open. `cargo xtask faults` fails
    // every close.
    for (file, is_log) in [("stdout", true), ("combined", true), (".emissary-exitcode", false)] {
        let pod = Pod::new().capturing();
        let path = pod.shared.join("ctr/main").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let path = path.to_string_lossy().into_owned();
        let pod = pod.via(&["strace", "-o", "/dev/null", "-P", &path, "-e", "trace=close", "-e", "inject=close:error=EDQUOT"]);
        let outcome = pod.sh("echo out");
        assert_eq!((outcome.status, outcome.stdout.as_str()), (if is_log { 64 } else { 0 }, "out\n"), "{file}: {outcome:?}");
        assert_eq!(outcome.stderr.contains("quota exceeded") && outcome.stderr.contains(&path), is_log, "{file}: {outcome:?}");
        // If the reserved file fails, emissary writes the code to a new file.
        assert_eq!(pod.exit_code(), Some(outcome.status.to_string()), "{file}: {outcome:?}");
    }
}

#[test]
fn init_as_first_process_ends_at_a_request_to_end() {
    if !may_unshare("--pid") {
        return;
    }
    let pod = Pod::new().via(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let fifo = pod.work.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let stdin = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let running = pod.start_on(&["init", "--template", "-"], [stdin.into(), std::process::Stdio::null(), std::process::Stdio::piped()]);
    let mut init = String::new();
    until("it to run", || {
        init = running.children().first().cloned().unwrap_or_default();
        std::fs::read_link(format!("/proc/{init}/exe")).is_ok_and(|exe| exe.ends_with("emissary"))
    });
    until("it to read", || std::fs::read_to_string(format!("/proc/{init}/syscall")).is_ok_and(|call| call.starts_with("0 0x0 ")));
    let pid = rustix::process::Pid::from_raw(init.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.finish().status, 143);
}

#[test]
fn wait_as_first_process_reaps() {
    if !may_unshare("--pid") || !has_program("nsenter") {
        return;
    }
    let pod = Pod::new().via(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let running = pod.start(&["wait"]);
    let mut wait = String::new();
    until("it to run", || {
        wait = running.children().first().cloned().unwrap_or_default();
        std::fs::read_link(format!("/proc/{wait}/exe")).is_ok_and(|exe| exe.ends_with("emissary"))
    });
    // A process from outside enters the container and leaves an orphan there.
    let script = "(sleep 0.1; exit 3) & exit 0";
    let status = Command::new("nsenter").args(["--pid", "--target", &wait, "sh", "-c", script]).status().unwrap();
    assert!(status.success());
    let children = format!("/proc/{wait}/task/{wait}/children");
    until("the orphan to be reaped", || std::fs::read_to_string(&children).is_ok_and(|children| children.trim().is_empty()));
    pod.put("ctr/main/exitcode", "0");
    assert_eq!(running.finish().status, 0);
}

#[test]
fn a_container_without_a_name_belongs_to_the_pod() {
    // `podSpecPatch` may add a sidecar that has the volume and no name.
    let pod = Pod::flat().called("argoexec");
    let outcome = pod.run(&["emissary", "--", "sh", "-c", "echo ran; exit 3"]);
    assert_eq!((outcome.status, outcome.stdout.as_str(), pod.text("ctr/exitcode").as_deref()), (3, "ran\n", Some("3")), "{outcome:?}");
    assert_eq!(std::fs::metadata(pod.shared.join("ctr/exitcode")).unwrap().mode() & 0o777, 0o644);
    let running = pod.start(&["emissary", "--", "sh", "-c", "touch $W/ready; exec sleep 60"]);
    until("it to run", || pod.work.join("ready").exists());
    pod.put("ctr/signal", "15");
    assert_eq!(running.finish().status, 143);
}
