//! Captured copies: whole and in order, whatever the reader of emissary's stdout does.

use core::time::Duration;
use std::io::Read as _;
use std::process::Stdio;

use crate::pod::{Pod, at, until};

#[test]
fn stdout_and_combined_when_asked() {
    let pod = Pod::new().capturing();
    let outcome = pod.sh("echo out; echo err >&2");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(pod.text("ctr/main/stdout").as_deref(), Some("out\n"));
    assert_eq!(pod.text("ctr/main/combined").map(|text| text.len()), Some(8));
    let pod = Pod::new().template("{\"archiveLocation\":{\"archiveLogs\":true}}");
    pod.sh("echo out");
    assert_eq!(pod.text("ctr/main/combined").as_deref(), Some("out\n"));
}

#[test]
fn no_copies_when_not_asked() {
    let pod = Pod::new();
    assert_eq!(pod.sh("echo out").stdout, "out\n");
    assert_eq!((pod.text("ctr/main/stdout"), pod.text("ctr/main/combined")), (None, None));
}

#[test]
fn combined_is_in_order_of_arrival() {
    let pod = Pod::new().capturing();
    // The script writes each word only when the word before it is in the copy.
    let script = r#"for i in 1 2 3; do
        echo o$i; until grep -q o$i "$C" 2>/dev/null; do sleep 0.01; done
        echo e$i >&2; until grep -q e$i "$C" 2>/dev/null; do sleep 0.01; done
    done"#;
    let pod = pod.env("C", "").template("{}");
    let combined = at(&pod.shared, "ctr/main/combined");
    let pod = pod.env("C", &combined);
    pod.sh(script);
    assert_eq!(pod.text("ctr/main/combined").as_deref(), Some("o1\ne1\no2\ne2\no3\ne3\n"));
    assert_eq!(pod.text("ctr/main/stdout").as_deref(), Some("o1\no2\no3\n"));
}

#[test]
fn a_background_process_does_not_hold_the_step() {
    let pod = Pod::new().capturing();
    let outcome = {
        let mut running = pod.start(&["--", "sh", "-c", "(sleep 30; echo late)& printf hello"]);
        // The test waits for emissary's end only. The background process holds the pipes open longer.
        let status = running.child.wait().unwrap();
        status.code()
    };
    assert_eq!(outcome, Some(0));
    assert_eq!(pod.text("ctr/main/stdout").as_deref(), Some("hello"));
    assert_eq!(pod.exit_code().as_deref(), Some("0"));
}

#[test]
fn every_byte_of_a_large_output() {
    let pod = Pod::new().capturing();
    let outcome = pod.sh("head -c 8388608 /dev/zero | tr '\\0' x");
    assert_eq!((outcome.status, outcome.stdout.len()), (0, 8_388_608));
    for file in ["stdout", "combined"] {
        assert_eq!(std::fs::metadata(pod.shared.join("ctr/main").join(file)).unwrap().len(), 8_388_608);
    }
}

#[test]
fn modes_whatever_the_umask() {
    let pod = Pod::new().capturing().via(&["sh", "-c", "umask 077; exec \"$@\"", "sh"]);
    pod.sh("echo x");
    for (path, mode) in [("ctr/main", 0o777), ("ctr/main/stdout", 0o666), ("ctr/main/combined", 0o666), ("ctr/main/exitcode", 0o644)] {
        assert_eq!(pod.mode(path), mode, "{path}");
    }
}

#[test]
fn binary_bytes_pass_untouched() {
    let pod = Pod::new().capturing();
    pod.sh("printf '\\000\\377\\n\\001'");
    assert_eq!(std::fs::read(pod.shared.join("ctr/main/stdout")).unwrap(), [0, 0xff, b'\n', 1]);
}

#[test]
fn a_slow_reader_loses_nothing_and_delays_no_signal() {
    let pod = Pod::new().capturing();
    let script = "trap 'exit 3' TERM; head -c 300000 /dev/zero | tr '\\0' x; touch $W/ready; while :; do sleep 0.05; done";
    let mut running = pod.start(&["--", "sh", "-c", script]);
    let mut stdout = running.child.stdout.take().unwrap();
    // The test does not read yet. The pipes fill up, and the copy has all that emissary took from the command.
    let copy = pod.shared.join("ctr/main/stdout");
    until("the pipes to be full", || std::fs::metadata(&copy).is_ok_and(|copy| copy.len() >= 65_536));
    assert!(!pod.work.join("ready").exists());
    // Now the test reads slowly.
    let mut all = Vec::new();
    let mut piece = [0; 20_000];
    while all.len() < 300_000 && !pod.work.join("ready").exists() {
        std::thread::sleep(Duration::from_millis(1));
        let read = stdout.read(&mut piece).unwrap();
        all.extend_from_slice(&piece[..read]);
    }
    until("the command to have written all", || pod.work.join("ready").exists());
    running.kill(15);
    stdout.read_to_end(&mut all).unwrap();
    let outcome = running.finish();
    assert_eq!((outcome.status, all.len()), (3, 300_000));
    assert_eq!(std::fs::metadata(copy).unwrap().len(), 300_000);
}

#[test]
fn a_request_to_end_drops_a_reader_that_takes_nothing() {
    let pod = Pod::new().capturing();
    let mut running = pod.start(&["--", "sh", "-c", "head -c 131072 /dev/zero | tr '\\0' x; touch $W/written"]);
    let _held = running.child.stdout.take();
    // Emissary's pipe holds 64 KiB, and the command's pipe another 64 KiB. So the command can end before emissary has passed everything on.
    until("the command to end", || pod.work.join("written").exists() && running.children().is_empty());
    until("SIGTERM to be heard", || {
        running.kill(15);
        pod.exit_code().is_some()
    });
    let outcome = running.finish();
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (0, Some("0")));
    assert!(outcome.stderr.contains("gave up on the reader of our own stdout"), "{outcome:?}");
    assert_eq!(pod.text("ctr/main/stdout").map(|text| text.len()), Some(131_072));
}

#[test]
fn a_closed_stdout_gives_one_warning_and_a_whole_copy() {
    let pod = Pod::new().capturing();
    let mut running =
        pod.start(&["--", "sh", "-c", "until [ -e $W/go ]; do sleep 0.01; done; for i in 1 2 3; do echo $i; sleep 0.05; done"]);
    drop(running.child.stdout.take());
    std::fs::write(pod.work.join("go"), "").unwrap();
    let outcome = running.finish();
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (0, Some("0")));
    assert_eq!(pod.text("ctr/main/stdout").as_deref(), Some("1\n2\n3\n"));
    assert_eq!(outcome.stderr, "emissary: warning: cannot write to our own stdout: broken pipe\n");
}

#[test]
fn a_copy_that_cannot_be_written_gives_one_error_and_not_0() {
    let pod = Pod::new().capturing();
    std::fs::create_dir_all(pod.shared.join("ctr/main/stdout")).unwrap();
    let outcome = pod.sh("echo out");
    assert_eq!((outcome.status, pod.exit_code().as_deref(), outcome.stdout.as_str()), (64, Some("64"), "out\n"));
    assert_eq!(outcome.stderr.matches("/ctr/main/stdout: is a directory").count(), 1, "{outcome:?}");
    assert_eq!(pod.text("ctr/main/combined").as_deref(), Some("out\n"));
    // The command's own code stays if it is not 0.
    assert_eq!(pod.sh("exit 7").status, 7);
}

#[test]
fn a_full_disk_stops_a_copy_and_not_the_command() {
    if !crate::pod::may_unshare("--mount") {
        return;
    }
    let pod = Pod::new().capturing();
    let mount = format!("mount -t tmpfs -o size=256k tmpfs {0} && cp {0}.template {0}/template && exec \"$@\"", pod.shared.display());
    std::fs::write(pod.shared.with_extension("template"), "{}").unwrap();
    let script = pod.shared.with_extension("sh");
    std::fs::write(&script, "head -c 1000000 /dev/zero | tr '\\0' x; exit 0").unwrap();
    let look = format!("\"$@\"; status=$?; cp {}/ctr/main/exitcode {}; exit $status", pod.shared.display(), pod.work.display());
    let pod = pod.via(&["unshare", "--mount", "sh", "-c", &mount.replace("exec \"$@\"", &look), "sh"]);
    let outcome = pod.run(&["--", "sh", &script.to_string_lossy()]);
    assert_eq!((outcome.status, outcome.stdout.len()), (64, 1_000_000));
    assert_eq!(outcome.stderr.matches("no space left on device").count(), 2, "both copies: {}", outcome.stderr);
    // Emissary reserved the exit code's room before the logs filled the disk.
    assert_eq!(std::fs::read_to_string(pod.work.join("exitcode")).unwrap(), "64");
}

#[test]
fn stdout_may_be_a_file() {
    let pod = Pod::new().capturing();
    let file = std::fs::File::create(pod.work.join("log")).unwrap();
    let status = pod.process(&["--", "sh", "-c", "head -c 100000 /dev/zero; echo end"]).stdout(Stdio::from(file)).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(std::fs::metadata(pod.work.join("log")).unwrap().len(), 100_004);
}

#[test]
#[ignore = "slow, 5 s: the last output waits for a reader so long"]
fn one_request_to_end_is_enough_without_a_reader() {
    let pod = Pod::new().capturing();
    let mut running = pod.start(&["--", "cat", "/dev/zero"]);
    let _held = running.child.stdout.take();
    let copy = pod.shared.join("ctr/main/stdout");
    until("the pipes to be full", || std::fs::metadata(&copy).is_ok_and(|copy| copy.len() >= 65_536));
    running.kill(15);
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (143, Some("143")));
}

#[test]
fn a_run_ends_without_a_reader_of_stderr() {
    let pod = Pod::new().capturing();
    let mut running = pod.start(&["--", "sh", "-c", "head -c 200000 /dev/zero >&2; exit 3"]);
    let _held = running.child.stderr.take();
    let copy = pod.shared.join("ctr/main/combined");
    until("the pipe to be full", || std::fs::metadata(&copy).is_ok_and(|copy| copy.len() >= 65_536));
    until("SIGTERM to be heard", || {
        running.kill(15);
        pod.exit_code().is_some()
    });
    let outcome = running.finish();
    assert_eq!(pod.exit_code(), Some(outcome.status.to_string()));
}
