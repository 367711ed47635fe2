//! The roles for people: `check`, `completions`, `help` and the manual page.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::pod::{Pod, has_program, may_unshare};

#[test]
fn check_says_ok_where_nothing_lacks() {
    let pod = Pod::flat();
    let outcome = pod.run(&["check"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    for start in [
        "ok      volume: ",
        "ok      locks",
        "ok      room: ",
        "ok      inotify",
        "ok      signal descriptor",
        "ok      pseudo-terminal",
        "ok      clock",
    ] {
        assert!(outcome.stdout.lines().any(|line| line.starts_with(start)), "{start}: {outcome:?}");
    }
    assert!(
        outcome.stdout.contains("ok      termination log") && outcome.stdout.contains("seccomp: ") && outcome.stdout.contains(" user ")
    );
    // It leaves nothing on the volume.
    assert_eq!(std::fs::read_dir(&pod.shared).unwrap().count(), 1);
    // It makes a container's folder as a run does, so that other users can write to it.
    let pod = Pod::named("x").via(&["sh", "-c", "umask 022; exec \"$0\" \"$@\""]);
    assert_eq!((pod.run(&["check"]).status, pod.mode("ctr"), pod.mode("ctr/x")), (0, 0o777, 0o777));
    let outcome = Pod::bare().run(&["check"]);
    assert!(outcome.status == 0 && outcome.stdout.contains("volume: none is asked for: a plain init"), "{outcome:?}");
}

#[test]
fn check_says_what_lacks() {
    let pod = Pod::flat().via(&["setpriv", "--reuid", "65533", "--regid", "65533", "--clear-groups"]);
    std::fs::set_permissions(&pod.shared, std::fs::Permissions::from_mode(0o755)).unwrap();
    if crate::pod::is_root("another user") {
        let outcome = pod.run(&["check"]);
        assert!(outcome.status == 1 && outcome.stdout.contains("lacks   volume: cannot write to the folder"), "{outcome:?}");
        assert!(outcome.stdout.contains("without user 65533: it has no name"), "{outcome:?}");
    }
    let outcome = Pod::bare().run(&["--dir", "/no/such/folder", "check"]);
    assert!(outcome.status == 1 && outcome.stdout.contains("lacks   volume: cannot open the shared folder /no/such/folder"), "{outcome:?}");
    let outcome = Pod::flat().env("EMISSARY_TERMINATION_LOG", "/no/such/log").run(&["check"]);
    assert!(outcome.status == 0 && outcome.stdout.contains("without termination log: no such file or directory"), "{outcome:?}");
    if may_unshare("--mount") {
        let full = r#"mount -t tmpfs -o size=64k tmpfs "$EMISSARY_DIR" && head -c 60000 /dev/zero >"$EMISSARY_DIR/filler"; exec "$0" "$@""#;
        let outcome = Pod::flat().via(&["unshare", "--mount", "sh", "-c", full]).run(&["check"]);
        assert!(outcome.status == 1 && outcome.stdout.contains("lacks   room: 0 MiB free"), "{outcome:?}");
    }
}

#[test]
fn completions_of_bash_work() {
    let script = Pod::bare().run(&["completions", "bash"]);
    assert_eq!((script.status, script.stderr.as_str()), (0, ""));
    if !has_program("bash") {
        return;
    }
    let complete = |words: &[&str]| {
        let line = format!(
            "{}\nCOMP_WORDS=(emissary {}); COMP_CWORD={}; _emissary; echo ${{COMPREPLY[*]}}",
            script.stdout,
            words.join(" "),
            words.len()
        );
        let output = Command::new("bash").args(["--norc", "-c", &line]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    assert_eq!(complete(&["com"]), "completions");
    assert_eq!(complete(&["run", "--wait-c"]), "--wait-content");
    assert_eq!(complete(&["wait", "--fol"]), "--follow");
    assert_eq!(complete(&["init", "--fol"]), "");
    assert_eq!(complete(&["version", "--"]), "--json");
}

#[test]
fn completions_of_other_shells() {
    let zsh = Pod::bare().run(&["completions", "zsh"]).stdout;
    assert!(zsh.starts_with("#compdef emissary\n") && zsh.contains("    wait) compadd -- --name ") && zsh.contains(" --follow"));
    let fish = Pod::bare().run(&["completions", "fish"]).stdout;
    assert!(fish.contains("complete -c emissary -n '__fish_seen_subcommand_from run' -l timeout -r -d \""));
    assert!(fish.contains("complete -c emissary -n __fish_use_subcommand -a completions\n") && fish.contains(" -s v -d \""));
    for (program, script, args) in [("zsh", &zsh, ["-n"]), ("fish", &fish, ["-n"])] {
        if has_program(program) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), script).unwrap();
            assert!(Command::new(program).args(args).arg(file.path()).status().unwrap().success(), "{program}");
        }
    }
    let outcome = Pod::bare().run(&["completions", "csh"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("no completions for 'csh'"), "{outcome:?}");
    assert!(Pod::bare().run(&["completions"]).stderr.contains("usage: emissary completions bash|zsh|fish"));
}

#[test]
fn help_names_every_flag_of_a_role() {
    let page = Pod::bare().run(&["help", "run"]).stdout;
    for flag in ["--wait-file PATH", "--timeout DURATION", "--rewrite FROM:TO", "--dir DIR", "-v "] {
        assert!(page.contains(flag), "{flag}\n{page}");
    }
    assert!(!page.contains("--follow") && Pod::bare().run(&["help", "wait"]).stdout.contains("--follow"));
}
