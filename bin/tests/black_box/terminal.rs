//! A terminal on stdin: the command gets one of its own, of the same size, and ours is as it was at every end.

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize};

use crate::outputs::{slow_artifact, two_letters};
use crate::pod::{Pod, Running, has_program, may_unshare, until};

/// A terminal as a person has it: the end to type into, and all that was shown.
struct Screen {
    master: std::fs::File,
    slave: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    /// One that nobody looks at.
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
fn control_c_is_the_commands() {
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
    // The kernel tells a foreground group; this terminal controls nobody.
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
fn stdout_that_is_no_terminal_stays_none() {
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
fn signals_end_it_and_the_settings_are_back() {
    let pod = Pod::new();
    let screen = Screen::new(24, 80);
    let running = screen.start(&pod, &["--", "sh", "-c", "echo on; exec sleep 600"]);
    screen.until_shown("on\r\n");
    assert!(screen.is_raw());
    running.kill(15);
    assert_eq!(running.finish().status, 143);
    assert!(!screen.is_raw());
    // A command that cannot be started, too.
    assert_eq!(screen.start(&pod, &["--", "no-such-command"]).finish().status, 64);
    assert_eq!(screen.start(&pod, &["--", "$W"]).finish().status, 64);
    assert!(!screen.is_raw());
}

#[test]
fn a_background_process_does_not_hold_it() {
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
    // As a login would start it: the terminal controls the emissary.
    let pod = pod.via(&["setsid", "--ctty", "--wait"]);
    let running = screen.start(&pod, &["--", "sh", "-i"]);
    screen.type_in("PS1=; set -m; echo rea''dy\n");
    screen.until_shown("ready\r\n");
    // It says that it runs: a shell that has only forked stands still with a child that is stopped before execve.
    screen.type_in("sh -c 'echo run\"\"ning; exec sleep 600'\n");
    screen.until_shown("running\r\n");
    screen.type_in("\u{1a}");
    screen.until_shown("Stopped");
    // A shell warns of stopped jobs once, when it is left while it still counts one.
    screen.type_in("kill -9 %1; wait; echo go''ne; exit 3\n");
    screen.until_shown("gone\r\n");
    screen.type_in("exit 3\n");
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (3, Some("3")));
}

#[test]
#[ignore = "slow, 5 s: the last output waits for a reader so long"]
fn a_terminal_that_nobody_reads_holds_up_no_signal() {
    // Each waits five seconds for a reader: both at once.
    std::thread::scope(|scope| {
        for pod in [Pod::new().capturing(), Pod::new()] {
            scope.spawn(move || {
                let screen = Screen::unread();
                let running = screen.start(&pod, &["--", "sh", "-c", "touch $W/ready; exec cat /dev/zero"]);
                until("the command", || pod.work.join("ready").exists());
                // The terminal is full soon.
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
    // It is taken away again.
    until("the bar to go", || screen.text().ends_with("\r\u{1b}[K"));
}

#[test]
fn a_terminal_that_is_closed_and_opened_again() {
    // While nobody has it open the kernel calls it over; `/dev/tty` leads there all the same.
    let screen = Screen::new(24, 80);
    let pod = Pod::new();
    let script = "exec </dev/null >/dev/null 2>&1; sleep 0.3; seq 5000 >/dev/tty; exit 3";
    let outcome = screen.start(&pod, &["--", "sh", "-c", script]).finish();
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")));
    screen.until_shown("5000\r\n");
}

#[test]
fn without_a_pseudo_terminal_ours_is_the_commands_before_it_begins() {
    if !may_unshare("--mount") || !has_program("setsid") {
        return;
    }
    for round in 0..8 {
        let mut screen = Screen::new(24, 80);
        // A session of its own, whose terminal this is; no other can be made.
        let enter = "mount --bind /dev/null /dev/ptmx && exec \"$@\"";
        let pod = Pod::new().via(&["setsid", "--wait", "--ctty", "unshare", "--mount", "sh", "-c", enter, "sh"]);
        screen.type_in("hello\n");
        // It reads at once: from the background it would be stopped for that.
        let outcome = screen.start(&pod, &["--", "sh", "-c", "read word; echo got $word; exit 3"]).finish();
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")), "round {round}: {}", screen.text());
        screen.until_shown("got hello");
        assert!(screen.text().contains("the command gets our own terminal"), "{}", screen.text());
    }
}
