//! Tests of the tracers `short` and `late`: each changes the chosen call and no other (ptrace(2)).

use std::process::{Command, Stdio};

/// One `syswrite` of Perl is one write(2) and returns the result of write(2).
const TWO_WRITES: &str = "$a = syswrite(STDOUT, '0123456789'); $b = syswrite(STDOUT, '0123456789'); exit(16 * $a + $b)";

#[test]
fn the_nth_call_is_short_and_no_other() {
    if Command::new("perl").arg("-e1").status().is_err() {
        eprintln!("perl is not installed: not tested");
        return;
    }
    for (nth, share, first, second) in
        [("1", "half", 5, 10), ("1", "one", 1, 10), ("2", "half", 10, 5), ("2", "one", 10, 1), ("3", "one", 10, 10)]
    {
        let mut short = Command::new(env!("CARGO_BIN_EXE_emissary-trials"));
        let output =
            short.args(["short", "write", nth, share, "/dev/null", "perl", "-e", TWO_WRITES]).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(16 * first + second), "{nth} {share}: {output:?}");
        let want = ["0123456789"; 2].iter().zip([first, second]).map(|(text, length)| &text[..usize::try_from(length).unwrap()]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), want.collect::<String>(), "{nth} {share}");
    }
}

#[test]
fn a_death_by_signal_is_no_success() {
    let mut short = Command::new(env!("CARGO_BIN_EXE_emissary-trials"));
    let output = short.args(["short", "write", "1", "one", "/dev/null", "sh", "-c", "kill -KILL $$"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

/// Closes a file twice and prints the results. The first close returns the error, and the second finds the descriptor closed (`EBADF`).
const TWO_CLOSES: &str = "use POSIX; open($f, '>', $ARGV[0]); $fd = fileno($f); syscall(3, $fd) == -1 and $a = $! + 0; \
     syscall(3, $fd) == -1 and $b = $! + 0; POSIX::_exit(16 * ($a == EDQUOT) + ($b == EBADF))";

#[test]
#[cfg(target_arch = "x86_64")]
fn a_late_close_fails_and_the_descriptor_is_closed() {
    if Command::new("perl").arg("-e1").status().is_err() {
        eprintln!("perl is not installed: not tested");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [mark, file] = ["mark", "file"].map(|name| folder.path().join(name).display().to_string());
    // The number of that close differs between versions of Perl. The test tries each number until the close is the file's.
    for nth in 1..200 {
        let _ = std::fs::remove_file(&mark);
        let mut late = Command::new(env!("CARGO_BIN_EXE_emissary-trials"));
        let output = late.args(["late", "close", &nth.to_string(), "EDQUOT", &mark, "perl", "-e", TWO_CLOSES, &file]).output().unwrap();
        let marks = std::fs::read_to_string(&mark).unwrap();
        if marks == format!("{file}\n") {
            assert_eq!(output.status.code(), Some(17), "{output:?}");
            return;
        }
        assert!(matches!(marks.as_str(), "\n"), "{marks:?}: {output:?}");
    }
    panic!("no close is the file's");
}
