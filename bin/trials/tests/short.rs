//! `short` shortens the chosen call and no other.

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
