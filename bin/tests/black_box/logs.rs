//! The copies of the command's output that emissary captures (docs/protocol.md, "Files" and "Main"). They are whole and in order, whatever the reader of
//! emissary's stdout does.

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
        // The test waits for emissary's end alone. The background process holds the pipes open for longer.
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
    let lost = |text: &str| outcome.stderr.lines().filter(|line| line.contains(text) && line.ends_with("no space left on device")).count();
    assert_eq!((lost("error: "), lost("report.json: ")), (2, 1), "both copies, and the record: {}", outcome.stderr);
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

/// Reads to the end, `piece_bytes` at a time, with a pause of `every_ms` after each piece.
fn read_slowly(mut from: impl std::io::Read, piece_bytes: usize, every_ms: u64) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), vec![0; piece_bytes]);
    loop {
        match from.read(&mut piece).unwrap() {
            0 => return all,
            read => all.extend_from_slice(&piece[..read]),
        }
        std::thread::sleep(Duration::from_millis(every_ms));
    }
}

/// A command that writes `bytes` bytes when it gets a request to end, and then ends.
fn says_at_its_end(bytes: usize) -> String {
    format!("trap 'trap \"\" TERM; head -c {bytes} /dev/zero | tr \"\\0\" x; exit 3' TERM; touch $W/ready; while :; do sleep 0.02; done")
}

#[test]
fn a_second_request_does_not_give_up_a_slow_reader() {
    let pod = Pod::new().capturing();
    let mut running = pod.start_ready(&says_at_its_end(100_000));
    let stdout = running.child.stdout.take().unwrap();
    // The reader takes 400 kB a second.
    let reader = std::thread::spawn(move || read_slowly(stdout, 4_000, 10));
    running.kill(15);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(30));
        running.kill_if_there(15);
    }
    let outcome = running.finish();
    assert_eq!((reader.join().unwrap().len(), outcome.status), (100_000, 3), "{outcome:?}");
    assert!(!outcome.stderr.contains("emissary: "), "{outcome:?}");
}

#[test]
fn a_slow_reader_has_more_than_a_few_seconds() {
    let pod = Pod::new().capturing();
    let mut running = pod.start_ready(&says_at_its_end(240_000));
    let stdout = running.child.stdout.take().unwrap();
    // The reader takes 20 kB a second. The last 64 kB stay in the pipe.
    let reader = std::thread::spawn(move || read_slowly(stdout, 20_000, 1_000));
    running.kill(15);
    let outcome = running.finish();
    assert!(outcome.status == 3 && !outcome.stderr.contains("emissary: "), "{outcome:?}");
    assert!(outcome.took > Duration::from_secs(6), "{outcome:?}");
    assert_eq!(reader.join().unwrap().len(), 240_000);
}

/// The number of bytes that a reader did not get, from emissary's warning.
fn not_got(stderr: &str) -> usize {
    let (_, rest) = stderr.split_once("did not get ").unwrap_or_else(|| panic!("{stderr}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_reader_that_is_too_slow_costs_no_exit_code() {
    let pod = Pod::new().capturing().env("ARGO_TERMINATION_GRACE_PERIOD_SECONDS", "4");
    let mut running = pod.start_ready(&says_at_its_end(190_000));
    let stdout = running.child.stdout.take().unwrap();
    // The reader would take five seconds for the bytes that do not fit the pipe.
    let reader = std::thread::spawn(move || read_slowly(stdout, 500, 20));
    let asked = std::time::Instant::now();
    running.kill(15);
    until("the exit code", || pod.exit_code().is_some());
    let took = asked.elapsed();
    let outcome = running.finish();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(4), "{took:?} {outcome:?}");
    assert_eq!((outcome.status, pod.text("ctr/main/stdout").map(|text| text.len())), (3, Some(190_000)));
    assert_eq!(outcome.stderr.matches("gave up on the reader").count(), 1, "{outcome:?}");
    // The reader still gets the bytes in the pipe.
    assert_eq!(reader.join().unwrap().len() + not_got(&outcome.stderr), 190_000, "{outcome:?}");
}

#[test]
fn bytes_that_a_reader_did_not_get_are_counted() {
    let pod = Pod::new().capturing().env("ARGO_TERMINATION_GRACE_PERIOD_SECONDS", "1");
    let mut running = pod.start(&["--", "sh", "-c", "head -c 131072 /dev/zero | tr '\\0' x; touch $W/written"]);
    let mut held = running.child.stdout.take().unwrap();
    until("the command to end", || pod.work.join("written").exists() && running.children().is_empty());
    running.kill(15);
    until("the exit code", || pod.exit_code().is_some());
    let mut rest = Vec::new();
    held.read_to_end(&mut rest).unwrap();
    let outcome = running.finish();
    assert_eq!((outcome.status, rest.len() + not_got(&outcome.stderr)), (0, 131_072), "{outcome:?}");
}

/// Two writers of lines of many lengths, one on stdout and one on stderr. Both streams go to the same file, which a slow reader reads.
const TWO_WRITERS: &str = r#"w() { awk -v c=$1 -v n=3000 'BEGIN { s = c; while (length(s) < 4000) s = s s;
    for (i = 0; i < n; i++) { printf "%s\n", substr(s, 1, 1 + (i * 37) % 1500); fflush() } }'; }
    w a & w b >&2; wait; wait"#;

/// Asserts that every line has one letter alone, and that no line is missing.
fn no_line_is_torn(what: &str, text: &[u8]) {
    let lines: Vec<&[u8]> = text.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n').collect();
    let torn = lines.iter().filter(|line| line.iter().any(|byte| *byte != line[0])).count();
    assert_eq!((torn, lines.len()), (0, 6_000), "{what}");
}

#[test]
fn lines_of_stdout_and_stderr_in_one_pipe_are_whole() {
    for round in 0..3 {
        let pod = Pod::new().capturing();
        let (reader, writer) = std::io::pipe().unwrap();
        let stdio = [Stdio::null(), writer.try_clone().unwrap().into(), writer.into()];
        let running = pod.start_on(&["--", "sh", "-c", TWO_WRITERS], stdio);
        let text = read_slowly(reader, 3_000, 0);
        assert_eq!(running.finish().status, 0);
        no_line_is_torn(&format!("the pipe, round {round}"), &text);
        no_line_is_torn("combined", &std::fs::read(pod.shared.join("ctr/main/combined")).unwrap());
    }
}

#[test]
fn lines_of_stdout_and_stderr_in_one_socket_are_whole() {
    let pod = Pod::new().capturing();
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let writer = std::os::fd::OwnedFd::from(writer);
    let stdio = [Stdio::null(), writer.try_clone().unwrap().into(), writer.into()];
    let running = pod.start_on(&["--", "sh", "-c", TWO_WRITERS], stdio);
    let text = read_slowly(reader, 1_000, 0);
    assert_eq!(running.finish().status, 0);
    no_line_is_torn("the socket", &text);
}

#[test]
fn lines_through_pipes_that_hold_more_than_is_read_at_once() {
    let pod = Pod::new().capturing();
    let (reader, writer) = std::io::pipe().unwrap();
    let stdio = [Stdio::null(), writer.try_clone().unwrap().into(), writer.into()];
    let script = format!("touch $W/ready; until [ -e $W/go ]; do sleep 0.01; done; {TWO_WRITERS}");
    let running = pod.start_on(&["--", "sh", "-c", &script], stdio);
    until("the command to be ready", || pod.work.join("ready").exists());
    let command = running.children()[0].clone();
    for at in 1..=2 {
        let pipe = std::fs::File::options().write(true).open(format!("/proc/{command}/fd/{at}")).unwrap();
        rustix::pipe::fcntl_setpipe_size(&pipe, 1 << 20).unwrap();
    }
    std::fs::write(pod.work.join("go"), "").unwrap();
    let text = read_slowly(reader, 10_000, 0);
    assert_eq!(running.finish().status, 0);
    no_line_is_torn("the pipe", &text);
    no_line_is_torn("combined", &std::fs::read(pod.shared.join("ctr/main/combined")).unwrap());
}

#[test]
fn lines_on_one_terminal_are_whole() {
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    let pod = Pod::new().capturing();
    let stdio = [Stdio::null(), slave.try_clone().unwrap().into(), slave.into()];
    let running = pod.start_on(&["--", "sh", "-c", TWO_WRITERS], stdio);
    // Reading past the end of a terminal is an error.
    let (mut master, mut text, mut piece) = (std::fs::File::from(master), Vec::new(), [0; 512]);
    while let Ok(read @ 1..) = master.read(&mut piece) {
        text.extend(piece[..read].iter().filter(|&&byte| byte != b'\r'));
    }
    assert_eq!(running.finish().status, 0);
    no_line_is_torn("the terminal", &text);
}

#[test]
fn half_a_line_is_passed_on_at_once() {
    let pod = Pod::new().capturing();
    let mut running = pod.start(&["--", "sh", "-c", "yes | head -c 70000; printf 'name? '; until [ -e $W/go ]; do sleep 0.01; done"]);
    let mut stdout = running.child.stdout.take().unwrap();
    let mut all = vec![0; 70_006];
    stdout.read_exact(&mut all).unwrap();
    assert!(all.ends_with(b"name? "));
    std::fs::write(pod.work.join("go"), "").unwrap();
    assert_eq!(running.finish().status, 0);
}
