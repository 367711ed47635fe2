//! Emissary in the place of tini, dumb-init and catatonit: under their names it does what their manuals say (docs/init.md). Each behaviour was observed with
//! tini 0.19.0, dumb-init 1.2.5 and catatonit 0.1.7.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::pod::{Outcome, Pod, Running, is_gone, until};

fn tini() -> Pod {
    Pod::bare().called("tini")
}

fn dumb_init() -> Pod {
    Pod::bare().called("dumb-init")
}

fn catatonit() -> Pod {
    Pod::bare().called("catatonit")
}

/// A command that prints each of these signals, until SIGTERM ends it with status 3.
const PRINT: &str = "for s in HUP INT QUIT USR1 USR2 ALRM CONT WINCH; do trap \"echo $s >>$W/said\" $s; done; trap 'exit 3' TERM; touch $W/ready; \
    while :; do sleep 0.02; done";

fn start(pod: &Pod, flags: &[&str], script: &str) -> Running {
    let running = pod.start(&[flags, &["--", "sh", "-c", script]].concat());
    until("the command", || pod.work.join("ready").exists());
    running
}

/// Sends signals, then SIGTERM. Waits after each signal until the command has said its name; an empty name is none.
fn after_signals(pod: &Pod, running: Running, signals: &[(i32, &str)]) -> Outcome {
    for (signal, said) in signals {
        running.kill(*signal);
        if !said.is_empty() {
            until(said, || std::fs::read_to_string(pod.work.join("said")).is_ok_and(|text| text.lines().next_back() == Some(said)));
        }
    }
    running.kill(15);
    let outcome = running.finish();
    let said = std::fs::read_to_string(pod.work.join("said")).unwrap_or_default();
    let want: Vec<&str> = signals.iter().map(|(_, said)| *said).filter(|said| !said.is_empty()).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), want, "{outcome:?}");
    outcome
}

#[test]
fn each_runs_the_command_and_exits_with_its_code() {
    for pod in [tini(), dumb_init(), catatonit(), Pod::bare().called("docker-init")] {
        for (script, status) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
            let outcome = pod.run(&["--", "sh", "-c", script]);
            assert_eq!((outcome.status, outcome.stdout.as_str()), (status, ""));
        }
        // Without `--`, the options end at the first word that is none.
        assert_eq!(pod.run(&["echo", "-v", "-h", "--", "x"]).stdout, "-v -h -- x\n");
    }
    for name in ["tini", "dumb-init", "catatonit", "docker-init"] {
        assert_eq!(Pod::bare().run(&["--as", name, "--", "sh", "-c", "exit 9"]).status, 9);
    }
    assert_eq!(Pod::bare().run(&["--as=dumb-init", "sh", "-c", "exit 9"]).status, 9);
    // An emissary around it has obeyed Argo's variables.
    let pod = tini().env("ARGO_WAIT_FOR_READY", "true").env("ARGO_DEBUG_PAUSE_BEFORE", "true").env("ARGO_CONTAINER_ARGS_FILE", "$W/args");
    std::fs::write(pod.work.join("args"), "[\"extra\"]").unwrap();
    assert_eq!(pod.run(&["-s", "--", "echo", "a"]).stdout, "a\n");
    let outcome = Pod::bare().run(&["--as", "init", "--", "true"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("flag --as: 'init' is not tini"), "{outcome:?}");
}

#[test]
fn none_of_them_writes_a_file() {
    for name in ["tini", "dumb-init", "catatonit"] {
        let pod = Pod::flat().called(name);
        assert_eq!(pod.run(&["--", "sh", "-c", "exit 4"]).status, 4);
        assert_eq!((pod.exit_code(), pod.text("stdout")), (None, None));
    }
}

#[test]
fn versions_and_help() {
    // dockerd reads `tini version V - git.COMMIT`; podman the same from catatonit.
    for (pod, args, out) in [
        (tini(), "--version", "tini version "),
        (Pod::bare().called("docker-init"), "--version", "tini version "),
        (catatonit(), "--version", "tini version "),
        (catatonit(), "-V", "tini version "),
        (tini(), "-h", "supervision of a valid init process"),
        (tini(), "-l", "MIT"),
        (catatonit(), "-L", "MIT"),
    ] {
        let outcome = pod.run(&[args]);
        assert!(outcome.status == 0 && outcome.stdout.contains(out) && outcome.stderr.is_empty(), "{outcome:?}");
    }
    for (pod, args, err) in [
        (dumb_init(), "-V", "dumb-init v"),
        (dumb_init(), "--version", "dumb-init v"),
        (dumb_init(), "--help", "Usage: dumb-init"),
        (catatonit(), "-h", "usage: catatonit"),
    ] {
        let outcome = pod.run(&[args]);
        assert!(outcome.status == 0 && outcome.stderr.contains(err) && outcome.stdout.is_empty(), "{outcome:?}");
    }
    let version = tini().run(&["--version"]).stdout;
    assert!(version.trim().split(" - ").nth(1).is_some_and(|git| git.split('.').count() == 2 && git.starts_with("git.")), "{version}");
}

#[test]
fn mistakes_have_their_exit_status() {
    for (pod, args, err) in [
        (tini(), &[][..], "more verbose"),
        (tini(), &["-s", "--"], "Usage: tini"),
        (tini(), &["-z"], "invalid option -- 'z'"),
        (tini(), &["--help"], "unrecognized option '--help'"),
        (tini(), &["-e"], "requires an argument -- 'e'"),
        (tini(), &["-e", "256", "true"], "Not a valid option for -e: 256"),
        (tini(), &["-e", "x", "true"], "Not a valid option for -e: x"),
        (tini(), &["-p", "TERM", "true"], "Not a valid option for -p: TERM"),
        (tini(), &["-p", "15", "true"], "Not a valid option for -p: 15"),
        (dumb_init(), &[], "Usage: dumb-init"),
        (dumb_init(), &["-c"], "Usage: dumb-init"),
        (dumb_init(), &["--yolo", "true"], "unrecognized option '--yolo'"),
        (dumb_init(), &["-r", "15", "true"], "-r takes <signum>:<signum>"),
        (dumb_init(), &["-r", "1:32", "true"], "-r takes <signum>:<signum>"),
        (dumb_init(), &["-r", "0:1", "true"], "-r takes <signum>:<signum>"),
        (dumb_init(), &["--version=1"], "doesn't allow an argument"),
        (dumb_init(), &["-r"], "requires an argument -- 'r'"),
        (catatonit(), &[], "missing program name"),
        (catatonit(), &["-g"], "missing program name"),
        (catatonit(), &["--help"], "unrecognized option '--help'"),
        (catatonit(), &["-q"], "invalid option -- 'q'"),
        (catatonit().env("CATATONIT_LOG", ""), &["-V"], "CATATONIT_LOG is reserved"),
    ] {
        let outcome = pod.run(args);
        assert!(outcome.status == 1 && outcome.stderr.contains(err) && outcome.stdout.is_empty(), "{args:?} {outcome:?}");
    }
}

#[test]
fn a_command_that_cannot_start() {
    for (name, missing, denied) in [("tini", 127, 126), ("dumb-init", 2, 2), ("catatonit", 1, 1)] {
        for (command, status, cause) in [
            ("/no/such", missing, "No such file or directory"),
            ("no-such-command", missing, "No such file or directory"),
            ("/etc/passwd", denied, "Permission denied"),
            ("/etc", denied, "Permission denied"),
        ] {
            let outcome = Pod::bare().called(name).run(&["--", command]);
            assert!(outcome.status == status && outcome.stderr.contains(cause), "{name} {command} {outcome:?}");
        }
        // A file without `#!` is a script for /bin/sh, as execvp(3) has it.
        let pod = Pod::bare().called(name);
        pod.script("plain", "echo \"$1\"; exit 5\n", 0o755);
        let outcome = pod.run(&["--", "./plain", "x"]);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (5, "x\n"), "{name} {outcome:?}");
    }
    assert_eq!(dumb_init().run(&["/doesnotexist"]).stderr, "[dumb-init] /doesnotexist: No such file or directory\n");
    assert_eq!(tini().run(&["-e", "127", "zzzz"]).status, 0);
}

#[test]
fn tini_remaps_and_bundles() {
    for (flags, code, want) in [
        (&["-e", "3"][..], 3, 0),
        (&["-e3"], 3, 0),
        (&["-e", "143", "-e", "3"], 3, 0),
        (&["-e", "4"], 3, 3),
        (&["-vvge3"], 3, 0),
        (&["-sgwve", "+03"], 3, 0),
        (&["-e", ""], 0, 0),
    ] {
        assert_eq!(tini().run(&[flags, &["--", "sh", "-c", &format!("exit {code}")]].concat()).status, want, "{flags:?}");
    }
    assert_eq!(tini().run(&["-e", "143", "--", "sh", "-c", "kill $$"]).status, 0);
    let outcome = tini().run(&["-s", "sh", "-c", ":", "--version"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""));
}

#[test]
fn tini_warns_where_it_cannot_reap() {
    for (flags, variable, warns) in [
        (&[][..], None, true),
        (&["-s"], None, false),
        (&[], Some(("TINI_SUBREAPER", "")), false),
        (&[], Some(("TINI_VERBOSITY", "0")), false),
    ] {
        let pod = variable.map_or_else(tini, |(name, value)| tini().env(name, value));
        let outcome = pod.run(&[flags, &["--", "true"]].concat());
        assert_eq!((outcome.status, outcome.stderr.contains("zombie reaping won't work")), (0, warns), "{flags:?} {outcome:?}");
    }
    let outcome = tini().run(&["-s", "-w", "--", "sh", "-c", "(sleep 0.05 &); sleep 0.3"]);
    assert!(outcome.stderr.contains("Reaped zombie process with pid="), "{outcome:?}");
    let outcome = tini().env("TINI_VERBOSITY", "3").run(&["-s", "true"]);
    assert!(outcome.stderr.contains("Received SIGCHLD"), "{outcome:?}");
}

#[test]
fn signals_go_to_the_command_or_its_group() {
    // The command takes SIGUSR1 after its child.
    let script = "(trap 'touch $W/got; exit' USR1; touch $W/inner; while :; do sleep 0.02; done) & \
        trap 'sleep 0.3; echo main >>$W/said' USR1; trap 'kill -9 $!; exit 3' TERM; until [ -e $W/inner ]; do sleep 0.02; done; \
        touch $W/ready; while :; do sleep 0.02; done";
    for (pod, flags, group) in [
        (tini(), &[][..], false),
        (tini(), &["-g"], true),
        (tini().env("TINI_KILL_PROCESS_GROUP", ""), &[], true),
        (catatonit(), &[], false),
        (catatonit(), &["-g"], true),
        (dumb_init(), &[], true),
        (dumb_init(), &["-c"], false),
        (dumb_init(), &["--single-child"], false),
        (dumb_init().env("DUMB_INIT_SETSID", "0"), &[], false),
        (dumb_init().env("DUMB_INIT_SETSID", "1"), &[], true),
    ] {
        let outcome = after_signals(&pod, start(&pod, flags, script), &[(10, "main")]);
        assert_eq!((outcome.status, pod.work.join("got").exists()), (3, group), "{flags:?} {outcome:?}");
    }
}

#[test]
fn signals_that_each_passes_on() {
    for pod in [tini(), dumb_init(), catatonit()] {
        let signals = [(1, "HUP"), (2, "INT"), (3, "QUIT"), (10, "USR1"), (12, "USR2"), (14, "ALRM"), (18, "CONT"), (28, "WINCH")];
        assert_eq!(after_signals(&pod, start(&pod, &[], PRINT), &signals).status, 3);
    }
    // tini drops SIGTTIN and SIGTTOU, catatonit SIGTSTP, too.
    let script = "trap 'echo stop >>$W/said' TSTP TTIN TTOU; trap 'exit 3' TERM; touch $W/ready; while :; do sleep 0.02; done";
    for (pod, signals) in [(tini(), &[(21, ""), (22, "")][..]), (catatonit(), &[(20, ""), (21, ""), (22, "")])] {
        assert_eq!(after_signals(&pod, start(&pod, &[], script), signals).status, 3);
    }
}

#[test]
fn dumb_init_rewrites() {
    let pod = dumb_init();
    let running = start(&pod, &["-r", "1:10", "--rewrite=10:1", "-r2:0"], PRINT);
    assert_eq!(after_signals(&pod, running, &[(1, "USR1"), (10, "HUP"), (2, ""), (12, "USR2")]).status, 3);
    let pod = dumb_init();
    assert_eq!(after_signals(&pod, start(&pod, &["-cvr", "12:1"], PRINT), &[(12, "HUP")]).status, 3);
}

/// Whether a process runs this program.
fn is_running(pid: &str, program: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program)
}

/// The state in /proc/PID/stat: `S`, `T`, `Z`.
fn state(pid: &str) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?')
}

#[test]
fn dumb_init_stops_with_its_command() {
    for (flags, signal, is_command_stopped) in
        [(&[][..], 20, true), (&[], 21, true), (&[], 22, true), (&["-r", "20:0"], 20, false), (&["-c"], 20, true)]
    {
        let pod = dumb_init();
        let running = start(&pod, flags, "echo $$ >$W/pid; touch $W/ready; exec sleep 600");
        until("sleep", || std::fs::read_to_string(pod.work.join("pid")).is_ok_and(|pid| is_running(pid.trim(), "sleep")));
        let command = std::fs::read_to_string(pod.work.join("pid")).unwrap().trim().to_string();
        running.kill(signal);
        let own = running.child.id().to_string();
        until("dumb-init to stop", || state(&own) == 'T');
        if is_command_stopped {
            until(&format!("the command to stop: {flags:?} {signal} {}", state(&command)), || state(&command) == 'T');
        } else {
            assert_ne!(state(&command), 'T');
        }
        running.kill(18);
        until("both to go on", || state(&own) != 'T' && state(&command) != 'T');
        running.kill(15);
        assert_eq!(running.finish().status, 143, "{flags:?} {signal}");
    }
}

#[test]
fn dumb_init_ends_the_session() {
    let script = "(trap 'touch $W/termed; exit' TERM; touch $W/inner; while :; do sleep 0.02; done) >/dev/null 2>&1 & \
        until [ -e $W/inner ]; do sleep 0.02; done; echo $! >$W/pid; exit 6";
    for (flags, ends) in [(&[][..], true), (&["-c"], false)] {
        let pod = dumb_init();
        assert_eq!(pod.run(&[flags, &["--", "sh", "-c", script]].concat()).status, 6);
        let inner = std::fs::read_to_string(pod.work.join("pid")).unwrap();
        if ends {
            until("the rest to end", || pod.work.join("termed").exists());
        } else {
            assert!(!is_gone(&inner) && !pod.work.join("termed").exists());
            let _ = Command::new("kill").args(["-9", inner.trim()]).status();
        }
    }
    // The session and the group are the command's own, or those of dumb-init.
    let ids = |flags: &[&str]| {
        let outcome = dumb_init().run(&[flags, &["--", "sh", "-c", "ps -o pid=,pgid=,sid= -p $$; ps -o pgid=,sid= -p $PPID"]].concat());
        outcome.stdout.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>()
    };
    let own = ids(&[]);
    assert!(own[0] == own[1] && own[0] == own[2] && own[2] != own[4], "{own:?}");
    let shared = ids(&["-c"]);
    assert!(shared[1] == shared[3] && shared[2] == shared[4], "{shared:?}");
}

#[test]
fn dumb_init_gives_a_clean_start() {
    // No signal is ignored or blocked in the command, and dumb-init itself leaves the working directory.
    let pod = dumb_init().via(&["sh", "-c", "trap '' HUP USR1; exec \"$0\" \"$@\""]);
    let outcome =
        pod.run(&["--", "sh", "-c", "readlink /proc/$PPID/cwd; readlink /proc/$$/cwd; exec grep -E 'Sig(Blk|Ign)' /proc/self/status"]);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[..3], ["/", pod.work.to_str().unwrap(), "SigBlk:\t0000000000000000"], "{outcome:?}");
    // The C library keeps signals 32 and 33 for itself.
    let ignored = u64::from_str_radix(lines[3].trim_start_matches("SigIgn:\t"), 16).unwrap();
    assert_eq!(ignored & 0x7fff_ffff, 0, "{outcome:?}");
    // The others leave signals as they found them.
    for name in ["tini", "catatonit"] {
        let pod = Pod::bare().called(name).via(&["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""]);
        let stdout = pod.run(&["--", "grep", "SigIgn", "/proc/self/status"]).stdout;
        assert!(stdout.ends_with("0000001\n"), "{stdout}");
    }
}

#[test]
fn dumb_init_tells_what_it_does() {
    let outcome = dumb_init().run(&["-v", "echo", "oh, hi"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "oh, hi\n"));
    for line in ["[dumb-init] Child spawned with PID ", "[dumb-init] Forwarded signal 15 to children.\n"] {
        assert!(outcome.stderr.contains(line), "{outcome:?}");
    }
    assert_eq!(dumb_init().env("DUMB_INIT_DEBUG", "true").run(&["true"]).stderr, "");
    assert!(dumb_init().env("DUMB_INIT_DEBUG", "1").run(&["true"]).stderr.contains("[dumb-init] "));
}

#[test]
fn the_command_outlives_an_init_that_is_killed() {
    for pod in [tini(), dumb_init(), catatonit()] {
        let running = start(&pod, &[], "echo $$ >$W/pid; touch $W/ready; exec sleep 600");
        let command = std::fs::read_to_string(pod.work.join("pid")).unwrap();
        running.kill(9);
        let mut running = running;
        running.child.wait().unwrap();
        assert!(!is_gone(&command));
        let _ = Command::new("kill").args(["-9", command.trim()]).status();
    }
}

#[test]
fn tini_tells_the_command_that_its_parent_ended() {
    let pod = tini();
    let mut shell = Command::new("sh");
    let script = "trap 'touch $W/told; exit' USR1; touch $W/ready; while :; do sleep 0.02; done";
    shell.args(["-c", r#""$0" -s -p SIGUSR1 -- sh -c "$1" & wait"#]).arg(pod.process(&[]).get_program()).arg(script).env("W", &pod.work);
    let mut shell = shell.spawn().unwrap();
    until("the command", || pod.work.join("ready").exists());
    shell.kill().unwrap();
    shell.wait().unwrap();
    until("the command to be told", || pod.work.join("told").exists());
}

#[test]
fn catatonit_pauses() {
    for (signal, ignored) in [(2, false), (15, false), (2, true)] {
        let via: &[&str] = if ignored { &["sh", "-c", "trap '' INT; exec \"$0\" \"$@\""] } else { &[] };
        let pod = catatonit().via(via);
        let running = pod.start(&["-P", "echo", "ran"]);
        running.until_it_listens();
        for other in [1, 10, 3, 20] {
            running.kill(other);
        }
        running.kill(signal);
        let outcome = running.finish();
        assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""), "{signal} {outcome:?}");
    }
}

#[test]
fn catatonit_passes_descriptors_on_and_closes_its_own() {
    let pod = catatonit();
    let mut shell = Command::new("sh");
    let script = "ls /proc/$PPID/fd | sort -n | tr '\\n' ' '; ls /proc/self/fd | tr '\\n' ' '; echo $LISTEN_PID $$";
    shell
        .args(["-c", r#"exec 5</dev/null; export LISTEN_PID=$$; exec "$0" -- sh -c "$1""#])
        .arg(pod.process(&[]).get_program())
        .arg(script);
    let output = shell.stdin(Stdio::null()).process_group(0).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.iter().skip(1).position(|word| *word == "0").unwrap() + 1;
    let (own, rest) = words.split_at(at);
    assert!(!own.contains(&"5") && own.len() <= 4, "{text}");
    assert!(rest.contains(&"5"), "{text}");
    assert_eq!(words[words.len() - 2], words[words.len() - 1], "{text}");
}

#[test]
fn a_signal_that_was_ignored_at_the_start_is_no_trap() {
    // The peers hang for ever where SIGCHLD was ignored when they started.
    for name in ["tini", "catatonit", "dumb-init"] {
        let pod = Pod::bare().called(name).via(&["perl", "-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV"]);
        assert_eq!(pod.run(&["--", "sh", "-c", "exit 7"]).status, 7, "{name}");
    }
}
