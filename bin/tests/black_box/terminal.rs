//! Runs with a terminal (docs/protocol.md, "Main"). If stdin is a terminal, the command gets a pseudo-terminal of the same size. However the run ends, our own
//! terminal has its settings back.

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OutputModes, Winsize};

use crate::outputs::{slow_artifact, two_letters};
use crate::pod::{Pod, Running, has_program, is_root, may_unshare, until};

/// A terminal as a person sees it: the end into which the test types, and everything that the terminal has shown.
struct Screen {
    master: std::fs::File,
    slave: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    /// A terminal whose output no thread reads.
    fn unread() -> Self {
        Self::made(24, 80, false)
    }

    fn new(rows: u16, columns: u16) -> Self {
        Self::made(rows, columns, true)
    }

    fn made(rows: u16, columns: u16, read: bool) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let master = std::fs::File::from(master);
        let (mut reader, all) = (master.try_clone().unwrap(), shown.clone());
        std::thread::spawn(move || {
            if !read {
                return;
            }
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut piece) {
                all.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        Self { master, slave, shown }
    }

    fn start(&self, pod: &Pod, args: &[&str]) -> Running {
        let end = || Stdio::from(self.slave.try_clone().unwrap());
        pod.start_on(args, [end(), end(), end()])
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn until_shown(&self, text: &str) {
        until(&format!("{text:?} on the screen"), || self.text().contains(text));
    }

    /// Takes the terminal away, as a window does that a person closes. Only an `unread` terminal allows this: a reader would keep this end open.
    fn hang_up(self) {
        drop(self.master);
    }

    /// Starts a shell with job control on the terminal, as a login does. `$E` is emissary's path. The shell prints no prompt.
    fn shell(&mut self, pod: Pod, shell: &str) -> (Pod, Running) {
        let pod = pod.via(&["setsid", "--wait", "--ctty", "sh", "-c", &format!("export E=\"$1\"; exec {shell}"), "sh"]);
        let running = self.start(&pod, &[]);
        self.type_in("PS1=; set -m; echo rea''dy\n");
        self.until_shown("ready\r\n");
        (pod, running)
    }

    fn is_raw(&self) -> bool {
        !rustix::termios::tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ICANON)
    }
}

#[test]
fn size_settings_and_restoration() {
    let pod = Pod::new();
    let screen = Screen::new(31, 97);
    let before = rustix::termios::tcgetattr(&screen.slave).unwrap();
    let running = screen.start(
        &pod,
        &[
            "--",
            "sh",
            "-c",
            "stty size; test -t 0 && test -t 1 && test -t 2 && echo all; touch $W/ready; until [ -e $W/go ]; do sleep 0.02; done; exit 4",
        ],
    );
    screen.until_shown("31 97\r\nall\r\n");
    until("the command", || pod.work.join("ready").exists());
    assert!(screen.is_raw());
    std::fs::write(pod.work.join("go"), "").unwrap();
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (4, Some("4")));
    let after = rustix::termios::tcgetattr(&screen.slave).unwrap();
    assert_eq!((after.local_modes, after.input_modes, after.output_modes), (before.local_modes, before.input_modes, before.output_modes));
}

#[test]
fn keys_reach_the_command_and_the_end_of_input_too() {
    let pod = Pod::new();
    let mut screen = Screen::new(24, 80);
    let running = screen.start(&pod, &["--", "sh", "-c", "stty -echo; echo on; while read line; do echo \"<$line>\"; done; echo end"]);
    screen.until_shown("on\r\n");
    screen.type_in("hello\n");
    screen.until_shown("<hello>\r\n");
    screen.type_in("\u{4}");
    screen.until_shown("end\r\n");
    assert_eq!(running.finish().status, 0);
}

#[test]
fn control_c_goes_to_the_command() {
    let pod = Pod::new();
    let mut screen = Screen::new(24, 80);
    let running = screen.start(&pod, &["--", "sh", "-c", "trap 'echo caught; exit 5' INT; echo on; while :; do sleep 0.02; done"]);
    screen.until_shown("on\r\n");
    screen.type_in("\u{3}");
    screen.until_shown("caught\r\n");
    assert_eq!(running.finish().status, 5);
}

#[test]
fn it_is_resized() {
    let pod = Pod::new();
    let screen = Screen::new(24, 80);
    let running = screen.start(&pod, &["--", "sh", "-c", "trap 'stty size; exit 0' WINCH; echo on; while :; do sleep 0.02; done"]);
    screen.until_shown("on\r\n");
    let size = Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&screen.master, size).unwrap();
    // The kernel sends SIGWINCH to a foreground group only. This terminal controls no process, so the test sends it.
    running.kill(28);
    screen.until_shown("50 132\r\n");
    assert_eq!(running.finish().status, 0);
}

#[test]
fn copies_hold_everything_in_order() {
    for pod in [Pod::new().capturing(), Pod::flat()] {
        let screen = Screen::new(24, 80);
        let running = screen
            .start(&pod, &["--", "sh", "-c", "for i in 1 2 3; do echo o$i; echo e$i >&2; done; head -c 200000 /dev/zero | tr '\\0' x"]);
        assert_eq!(running.finish().status, 0);
        let want = format!("o1\r\ne1\r\no2\r\ne2\r\no3\r\ne3\r\n{}", "x".repeat(200_000));
        until("all of it", || screen.text().len() >= want.len());
        assert_eq!(screen.text(), want);
        for copy in ["stdout", if pod.own("x") == "x" { "stdout" } else { "combined" }] {
            assert_eq!(pod.text(&pod.own(copy)).as_deref(), Some(want.as_str()), "{copy}");
        }
    }
}

#[test]
fn a_stdout_that_is_no_terminal_does_not_become_one() {
    let pod = Pod::new();
    let screen = Screen::new(24, 80);
    let end = || Stdio::from(screen.slave.try_clone().unwrap());
    let running =
        pod.start_on(&["--", "sh", "-c", "test -t 0 && ! test -t 1 && test -t 2 && echo a; echo b >&2"], [end(), Stdio::piped(), end()]);
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "a\n"));
    screen.until_shown("b\r\n");
}

#[test]
fn signals_end_the_run_and_the_settings_are_back() {
    let pod = Pod::new();
    let screen = Screen::new(24, 80);
    let running = screen.start(&pod, &["--", "sh", "-c", "echo on; exec sleep 600"]);
    screen.until_shown("on\r\n");
    assert!(screen.is_raw());
    running.kill(15);
    assert_eq!(running.finish().status, 143);
    assert!(!screen.is_raw());
    // The settings are also back if the command cannot start.
    assert_eq!(screen.start(&pod, &["--", "no-such-command"]).finish().status, 64);
    assert_eq!(screen.start(&pod, &["--", "$W"]).finish().status, 64);
    assert!(!screen.is_raw());
}

#[test]
fn a_background_process_does_not_hold_the_terminal() {
    let pod = Pod::new();
    let screen = Screen::new(24, 80);
    let running = screen.start(&pod, &["--", "sh", "-c", "trap '' HUP; sleep 600 & echo last; exit 6"]);
    assert_eq!(running.finish().status, 6);
    screen.until_shown("last\r\n");
}

#[test]
fn job_control_works_in_a_shell() {
    let pod = Pod::new();
    let mut screen = Screen::new(24, 80);
    // The terminal controls the emissary, as after a login.
    let pod = pod.via(&["setsid", "--ctty", "--wait"]);
    let running = screen.start(&pod, &["--", "sh", "-i"]);
    screen.type_in("PS1=; set -m; echo rea''dy\n");
    screen.until_shown("ready\r\n");
    // The command prints a line when it runs. If ^Z stopped the child before execve, the shell would hang.
    screen.type_in("sh -c 'echo run\"\"ning; exec sleep 600'\n");
    screen.until_shown("running\r\n");
    screen.type_in("\u{1a}");
    screen.until_shown("Stopped");
    // The shell may warn of stopped jobs at the first `exit`. The second `exit` ends it.
    screen.type_in("kill -9 %1; wait; echo go''ne; exit 3\n");
    screen.until_shown("gone\r\n");
    screen.type_in("exit 3\n");
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (3, Some("3")));
}

#[test]
#[ignore = "slow, 5 s: the last output waits for a reader so long"]
fn a_terminal_without_a_reader_delays_no_signal() {
    // Each pod waits five seconds for a reader, so both run at once.
    std::thread::scope(|scope| {
        for pod in [Pod::new().capturing(), Pod::new()] {
            scope.spawn(move || {
                let screen = Screen::unread();
                let running = screen.start(&pod, &["--", "sh", "-c", "touch $W/ready; exec cat /dev/zero"]);
                until("the command", || pod.work.join("ready").exists());
                // The terminal fills up in this time.
                std::thread::sleep(Duration::from_millis(200));
                running.kill(15);
                assert_eq!((running.finish().status, pod.exit_code().as_deref()), (143, Some("143")));
            });
        }
    });
}

#[test]
fn the_commands_terminal_is_shown_although_its_output_goes_elsewhere() {
    for pod in [Pod::new().capturing(), Pod::new()] {
        let mut screen = Screen::new(24, 80);
        let stdin = Stdio::from(screen.slave.try_clone().unwrap());
        let script = "echo prompt >/dev/tty; read x; echo \"<$x>\"; head -c 200000 /dev/zero | tr '\\0' y >/dev/tty";
        let running = pod.start_on(&["--", "sh", "-c", script], [stdin, Stdio::piped(), Stdio::piped()]);
        screen.until_shown("prompt\r\n");
        screen.type_in("hello\n");
        let outcome = running.finish();
        assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "<hello>\n"));
        until("all of it", || screen.text().matches('y').count() == 200_000);
    }
}

#[test]
#[ignore = "slow, 4 s: compresses at the highest level"]
fn a_long_save_shows_a_bar() {
    if !has_program("taskset") {
        return;
    }
    let pod = Pod::new().template(slow_artifact()).via(&["taskset", "-c", "0"]);
    let screen = Screen::new(24, 80);
    let running = screen.start(&pod, &["--", "sh", "-c", &two_letters(12_000_000)]);
    screen.until_shown("\r\u{1b}[Ko.tgz [#");
    assert_eq!(running.finish().status, 0);
    // Emissary removes the bar at the end of the save.
    until("the bar to go", || screen.text().ends_with("\r\u{1b}[K"));
}

#[test]
fn a_terminal_that_is_closed_and_opened_again() {
    // While no process has the terminal open, the kernel reports its end. But `/dev/tty` still leads to the terminal.
    let screen = Screen::new(24, 80);
    let pod = Pod::new();
    let script = "exec </dev/null >/dev/null 2>&1; sleep 0.3; seq 5000 >/dev/tty; exit 3";
    let outcome = screen.start(&pod, &["--", "sh", "-c", script]).finish();
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")));
    screen.until_shown("5000\r\n");
}

#[test]
fn without_a_pseudo_terminal_the_command_starts_with_ours() {
    if !may_unshare("--mount") || !has_program("setsid") {
        return;
    }
    for round in 0..8 {
        let mut screen = Screen::new(24, 80);
        // Emissary leads a session on this terminal. A mount covers /dev/ptmx, so emissary can make no pseudo-terminal.
        let enter = "mount --bind /dev/null /dev/ptmx && exec \"$@\"";
        let pod = Pod::new().via(&["setsid", "--wait", "--ctty", "unshare", "--mount", "sh", "-c", enter, "sh"]);
        screen.type_in("hello\n");
        // The command reads at once. The kernel would stop a command in the background for that.
        let outcome = screen.start(&pod, &["--", "sh", "-c", "read word; echo got $word; exit 3"]).finish();
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")), "round {round}: {}", screen.text());
        screen.until_shown("got hello");
        assert!(screen.text().contains("the command gets our own terminal"), "{}", screen.text());
    }
}

/// Shells with job control. dash sends SIGCONT to a running job that comes to the foreground; bash does not.
const SHELLS: [&str; 2] = ["dash -i", "bash --norc --noprofile -i"];

#[test]
fn sigwinch_from_a_person_is_forwarded() {
    for pod in [Pod::new(), Pod::flat()] {
        let screen = Screen::new(24, 80);
        let running = screen.start(&pod, &["--", "sh", "-c", "trap 'echo winch; exit 5' WINCH; echo on; while :; do sleep 0.02; done"]);
        screen.until_shown("on\r\n");
        running.kill(28);
        screen.until_shown("winch\r\n");
        assert_eq!(running.finish().status, 5);
    }
}

#[test]
fn the_kernels_own_sigwinch_reaches_the_command_once() {
    let screen = Screen::new(24, 80);
    let pod = Pod::new().via(&["setsid", "--ctty", "--wait"]);
    let running =
        screen.start(&pod, &["--", "sh", "-c", "trap 'echo winch; stty size' WINCH; echo on; until [ -e $W/go ]; do sleep 0.02; done"]);
    screen.until_shown("on\r\n");
    let size = Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&screen.master, size).unwrap();
    screen.until_shown("50 132\r\n");
    pod.until_it_has_looked();
    std::fs::write(pod.work.join("go"), "").unwrap();
    assert_eq!(running.finish().status, 0);
    assert_eq!(screen.text().matches("winch").count(), 1, "{}", screen.text());
}

#[test]
fn a_hang_up_reaches_the_command() {
    let script = "trap '' HUP; touch $W/ready; cat; echo $? >$W/status";
    for via in [&["setsid", "--ctty", "--wait"][..], &[]] {
        for pod in [Pod::new(), Pod::new().capturing(), Pod::flat()] {
            let pod = pod.via(via);
            let screen = Screen::unread();
            let running = screen.start(&pod, &["--", "sh", "-c", script]);
            until("the command", || pod.work.join("ready").exists());
            // After this time the command has the terminal open and reads.
            std::thread::sleep(Duration::from_millis(50));
            screen.hang_up();
            running.finish();
            assert!(["0\n", "1\n"].contains(&&*std::fs::read_to_string(pod.work.join("status")).unwrap()));
            assert_eq!(pod.exit_code().as_deref(), Some("0"));
        }
    }
}

#[test]
fn a_hang_up_ends_the_command_and_keeps_its_last_words() {
    for pod in [Pod::new().capturing(), Pod::flat()] {
        let screen = Screen::unread();
        let running = screen.start(&pod, &["--", "sh", "-c", "trap 'exit 6' HUP; echo last; touch $W/ready; while :; do sleep 0.02; done"]);
        until("the command", || pod.work.join("ready").exists());
        screen.hang_up();
        assert_eq!((running.finish().status, pod.exit_code().as_deref()), (6, Some("6")));
        assert_eq!(pod.text(&pod.own("stdout")).as_deref(), Some("last\r\n"));
    }
    // A command that reads no input does not delay the end, either.
    let pod = Pod::new();
    let mut screen = Screen::unread();
    let running =
        screen.start(&pod, &["--", "sh", "-c", "stty raw -echo; touch $W/ready; trap 'exit 6' HUP; while :; do sleep 0.02; done"]);
    until("the command", || pod.work.join("ready").exists());
    screen.type_in(&"x".repeat(8_000));
    std::thread::sleep(Duration::from_millis(50));
    screen.hang_up();
    assert_eq!(running.finish().status, 6);
}

#[test]
fn input_typed_before_the_start_arrives() {
    for (typed, echo, want) in [
        ("hello\n\u{4}", "hello\r\n", "<hello\n>"),
        ("\u{4}", "", "<>"),
        ("abc\u{4}\u{4}", "abc", "<abc>"),
        ("one\ntwo\n\u{4}", "two\r\n", "<one\ntwo\n>"),
        ("x\u{7f}y\n\u{4}", "y\r\n", "<y\n>"),
    ] {
        let pod = Pod::new();
        let mut screen = Screen::new(24, 80);
        screen.type_in(typed);
        screen.until_shown(echo);
        std::thread::sleep(Duration::from_millis(20));
        let running = screen.start(&pod, &["--", "sh", "-c", "{ printf '<'; cat; printf '>'; } >$W/got"]);
        assert_eq!(running.finish().status, 0);
        assert_eq!(std::fs::read_to_string(pod.work.join("got")).unwrap(), want, "{typed:?}");
    }
    // Keys that the person types later end the half line that was typed before.
    let pod = Pod::new();
    let mut screen = Screen::new(24, 80);
    screen.type_in("be");
    screen.until_shown("be");
    let running = screen.start(&pod, &["--", "sh", "-c", "touch $W/ready; read word; echo \"<$word>\""]);
    until("the command", || pod.work.join("ready").exists());
    screen.type_in("gun\n");
    screen.until_shown("<begun>");
    assert_eq!(running.finish().status, 0);
}

#[test]
fn a_background_job_reads_when_it_comes_to_the_foreground() {
    for shell in SHELLS {
        let mut screen = Screen::new(24, 80);
        let (pod, running) = screen.shell(Pod::new(), shell);
        screen.type_in("$E -- sh -c 'touch $W/ready; exec cat' & until [ -e $W/ready ]; do sleep 0.02; done; echo be''gun\n");
        screen.until_shown("begun\r\n");
        // In the background, emissary does not take the shell's input.
        screen.type_in("echo still-the-''shell\n");
        screen.until_shown("still-the-shell\r\n");
        screen.type_in("fg\n");
        until("the job in the foreground", || {
            rustix::termios::tcgetpgrp(&screen.master).is_ok_and(|group| Some(group) != rustix::process::Pid::from_raw(leader(&running)))
        });
        screen.type_in("fi''rst\n");
        until("the line twice", || screen.text().matches("fi''rst\r\n").count() >= 2);
        screen.type_in("second-''line\n");
        until("the second", || screen.text().matches("second-''line\r\n").count() >= 2);
        until("it to be raw", || screen.is_raw());
        screen.type_in("\u{4}");
        // bash's own prompt has settings that look raw, too. So the foreground tells that the job has ended.
        until("the shell in the foreground", || {
            rustix::termios::tcgetpgrp(&screen.master).is_ok_and(|group| Some(group) == rustix::process::Pid::from_raw(leader(&running)))
        });
        screen.type_in("echo code-$?\n");
        screen.until_shown("code-0\r\n");
        screen.type_in("exit 3\n");
        assert_eq!((running.finish().status, pod.exit_code().as_deref()), (3, Some("0")), "{shell}");
    }
}

/// The leader of the session: the child of `setsid --wait`.
fn leader(running: &Running) -> i32 {
    running.children().first().and_then(|pid| pid.parse().ok()).unwrap_or(0)
}

#[test]
fn control_z_with_stdin_redirected() {
    for shell in SHELLS {
        for command in ["sleep 600", "cat /dev/tty"] {
            let mut screen = Screen::new(24, 80);
            let (pod, running) = screen.shell(Pod::new(), shell);
            screen.type_in(&format!("$E -- sh -c 'echo run\"\"ning; exec {command}' </dev/null\n"));
            screen.until_shown("running\r\n");
            screen.type_in("\u{1a}");
            screen.until_shown("Stopped");
            screen.type_in("echo the-''shell; fg; echo code-''$?\n");
            screen.until_shown("the-shell\r\n");
            until("the job in the foreground", || {
                rustix::termios::tcgetpgrp(&screen.master)
                    .is_ok_and(|group| Some(group) != rustix::process::Pid::from_raw(leader(&running)))
            });
            std::thread::sleep(Duration::from_millis(100));
            screen.type_in("\u{3}");
            until("the command's end", || pod.exit_code().is_some());
            assert_eq!(pod.exit_code().as_deref(), Some("130"), "{shell} {command}");
            screen.type_in("exit 3\nexit 3\n");
            assert_eq!(running.finish().status, 3);
        }
    }
}

#[test]
fn control_z_before_the_command_starts_and_at_the_wait_side() {
    for words in ["wait", "-- true"] {
        let mut screen = Screen::new(24, 80);
        let (pod, running) = screen.shell(Pod::new().env("ARGO_DEBUG_PAUSE_BEFORE", "true"), SHELLS[0]);
        screen.type_in(&format!("$E {words}\n"));
        until("it to wait", || pod.shared.join("ctr/main").is_dir());
        std::thread::sleep(Duration::from_millis(50));
        screen.type_in("\u{1a}");
        screen.until_shown("Stopped");
        screen.type_in("echo the-''shell; fg\n");
        screen.until_shown("the-shell\r\n");
        pod.put("ctr/main/before", "");
        if words == "wait" {
            pod.put("ctr/main/exitcode", "0");
        }
        until("the end", || pod.exit_code().as_deref() == Some("0"));
        screen.type_in("exit 3\n");
        assert_eq!(running.finish().status, 3);
    }
}

#[test]
fn a_command_reads_dev_tty_with_stdin_redirected() {
    for shell in SHELLS {
        for pod in [Pod::new(), Pod::new().capturing(), Pod::flat()] {
            let mut screen = Screen::new(24, 80);
            let (pod, running) = screen.shell(pod, shell);
            screen.type_in("$E -- sh -c 'echo on; read x </dev/tty; echo got-$x' </dev/null\n");
            screen.until_shown("on\r\n");
            screen.type_in("word\n");
            screen.until_shown("got-word\r\n");
            // All commands of a script share one process group. The script gets its terminal back.
            screen.type_in("sh -c '$E -- true </dev/null; read y </dev/tty; echo again-$y'\n");
            screen.type_in("more\n");
            screen.until_shown("again-more\r\n");
            screen.type_in("exit 3\n");
            assert_eq!((running.finish().status, pod.exit_code().as_deref()), (3, Some("0")));
        }
    }
}

#[test]
fn other_writers_keep_their_carriage_returns() {
    let pod = Pod::new();
    let screen = Screen::new(24, 80);
    let stdin = Stdio::from(screen.slave.try_clone().unwrap());
    let script = "echo inner >/dev/tty; touch $W/ready; until [ -e $W/go ]; do sleep 0.02; done";
    let running = pod.start_on(&["--", "sh", "-c", script], [stdin, Stdio::piped(), Stdio::piped()]);
    until("the command", || pod.work.join("ready").exists());
    assert!(screen.is_raw());
    assert!(rustix::termios::tcgetattr(&screen.slave).unwrap().output_modes.contains(OutputModes::OPOST));
    std::fs::File::from(screen.slave.try_clone().unwrap()).write_all(b"outer\n").unwrap();
    screen.until_shown("outer\r\n");
    screen.until_shown("inner\r\n");
    assert!(!screen.text().contains("\r\r"), "{:?}", screen.text());
    std::fs::write(pod.work.join("go"), "").unwrap();
    assert_eq!(running.finish().status, 0);
}

#[test]
fn without_memory_the_settings_are_back() {
    if !has_program("prlimit") {
        return;
    }
    let pod = Pod::new();
    let screen = Screen::new(24, 80);
    let running = screen.start(&pod, &["--", "sh", "-c", "echo on; exec sleep 600"]);
    screen.until_shown("on\r\n");
    assert!(screen.is_raw());
    pod.until_it_has_looked();
    let pid = format!("--pid={}", running.child.id());
    assert!(std::process::Command::new("prlimit").args([&pid, "--as=4096"]).status().unwrap().success());
    // Each bad signal file gives a warning, and each warning takes memory.
    let mut running = running;
    until("its end", || {
        pod.put("ctr/main/signal", &"?".repeat(31));
        running.child.try_wait().unwrap().is_some()
    });
    assert_eq!(pod.exit_code().as_deref(), Some("64"));
    assert!(!screen.is_raw());
}

#[test]
fn dev_stdout_on_a_terminal_after_privileges_are_dropped() {
    if !is_root("another user") || !has_program("setpriv") {
        return;
    }
    let pod = Pod::new();
    let screen = Screen::new(24, 80);
    rustix::fs::fchmod(&screen.slave, 0o622.into()).unwrap();
    rustix::fs::fchown(&screen.slave, Some(rustix::fs::Uid::from_raw(65_533)), None).unwrap();
    let script = "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'echo x >/dev/stdout'; stat -L -c '%a %u' /dev/stdin";
    assert_eq!(screen.start(&pod, &["--", "sh", "-c", script]).finish().status, 0);
    screen.until_shown("x\r\n622 65533\r\n");
}

#[test]
fn in_the_place_of_another_init_the_command_has_our_terminal() {
    for name in ["tini", "dumb-init", "catatonit"] {
        let mut screen = Screen::new(24, 80);
        let pod = Pod::bare().called(name).via(&["setsid", "--ctty", "--wait"]).env("TINI_SUBREAPER", "1");
        // The command's process group is in the foreground of the terminal, and ^C reaches it.
        let script =
            "ps -o tpgid=,pgid= -p $$ | { read a b; [ $a = $b ] && echo fore''ground; }; read line; echo got-''$line; exec sleep 600";
        let running = screen.start(&pod, &["--", "sh", "-c", script]);
        screen.until_shown("foreground\r\n");
        screen.type_in("some''thing\n");
        screen.until_shown("got-some''thing\r\n");
        screen.type_in("\u{3}");
        assert_eq!(running.finish().status, 130, "{name}");
    }
}
