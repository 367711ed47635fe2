//! Order between steps by files, as in Tekton's and Prow's entrypoints (docs/protocol.md, "Order between steps").

use crate::pod::{Outcome, Pod, Running, until};

fn put(pod: &Pod, name: &str, text: &str) {
    std::fs::write(pod.work.join(name), text).unwrap();
}

fn exists(pod: &Pod, name: &str) -> bool {
    pod.work.join(name).exists()
}

/// Starts a step that prints `ran`, and waits until it listens.
fn step(pod: &Pod, flags: &[&str]) -> Running {
    let running = pod.start(&[flags, &["--post-file", "$W/post", "--", "echo", "ran"]].concat());
    running.until_it_listens();
    running
}

fn ended(pod: &Pod, outcome: &Outcome) -> (i32, bool, bool, bool) {
    (outcome.status, outcome.stdout == "ran\n", exists(pod, "post"), exists(pod, "post.err"))
}

#[test]
fn a_step_waits_for_a_file() {
    let pod = Pod::bare();
    let running = step(&pod, &["--wait-file", "$W/a"]);
    put(&pod, "other", "");
    put(&pod, "a", "");
    assert_eq!(ended(&pod, &running.finish()), (0, true, true, false));
    // The folder may come later, and several files count together.
    let pod = Pod::bare();
    let running = step(&pod, &["--wait-file", "$W/x/a,$W/b", "--wait-file=$W/c"]);
    put(&pod, "b", "");
    std::fs::create_dir(pod.work.join("x")).unwrap();
    put(&pod, "c", "");
    put(&pod, "x/a", "");
    assert_eq!(ended(&pod, &running.finish()), (0, true, true, false));
}

#[test]
fn a_step_waits_for_contents() {
    let pod = Pod::flat();
    put(&pod, "a", "");
    let mut running = step(&pod, &["--wait-file", "$W/a", "--wait-content"]);
    pod.until_it_has_looked();
    assert!(running.child.try_wait().unwrap().is_none());
    put(&pod, "a", "x");
    assert_eq!(ended(&pod, &running.finish()), (0, true, true, false));
    // The writer keeps the file open.
    let pod = Pod::bare();
    put(&pod, "a", "");
    let running = step(&pod, &["--wait-file", "$W/a", "--wait-content"]);
    let mut file = std::fs::OpenOptions::new().append(true).open(pod.work.join("a")).unwrap();
    std::io::Write::write_all(&mut file, b"x").unwrap();
    let outcome = running.finish();
    assert_eq!(ended(&pod, &outcome), (0, true, true, false));
}

#[test]
fn a_failed_step_ends_the_next_one() {
    let pod = Pod::flat();
    let running = step(&pod, &["--wait-file", "$W/a"]);
    put(&pod, "a.err", "");
    let outcome = running.finish();
    assert_eq!(ended(&pod, &outcome), (64, false, false, true));
    assert!(outcome.stderr.contains("an earlier step failed") && outcome.stderr.contains("a.err"), "{outcome:?}");
    assert_eq!(pod.exit_code().as_deref(), Some("64"));
    // A file of success outweighs one of an earlier failure; with contents asked for, an empty one does not.
    let pod = Pod::bare();
    put(&pod, "a", "");
    put(&pod, "a.err", "");
    assert_eq!(ended(&pod, &step(&pod, &["--wait-file", "$W/a"]).finish()), (0, true, true, false));
    let running = pod.start(&["--wait-file", "$W/a", "--wait-content", "--", "echo", "ran"]);
    assert_eq!(running.finish().status, 64);
}

#[test]
fn the_file_for_the_next_step() {
    for (flags, script, want) in [
        (&[][..], "exit 0", (0, true, false)),
        (&[], "exit 3", (3, false, true)),
        (&[], "kill -9 $$", (137, false, true)),
        (&["--on-error", "continue"], "exit 3", (0, true, false)),
        (&["--on-error", "continue"], "kill -9 $$", (0, true, false)),
        (&["--on-error", "continue", "--timeout", "50ms"], "exec sleep 600", (124, false, true)),
        (&["--on-error", "stop"], "exit 3", (3, false, true)),
        (&["--remap-exit", "3"], "exit 3", (0, true, false)),
    ] {
        let pod = Pod::bare();
        let outcome = pod.run(&[flags, &["--post-file", "$W/new/folder/post", "--", "sh", "-c", script]].concat());
        let got = (outcome.status, exists(&pod, "new/folder/post"), exists(&pod, "new/folder/post.err"));
        assert_eq!(got, want, "{flags:?} {script} {outcome:?}");
    }
    // It tells of a command that cannot start, and of a mistake in the arguments behind it.
    let pod = Pod::bare();
    assert_eq!(pod.run(&["--post-file", "$W/post", "--on-error", "continue", "--", "no-such-command"]).status, 64);
    assert!(exists(&pod, "post.err"));
    let pod = Pod::bare();
    assert_eq!(pod.run(&["--post-file", "$W/post", "--frob", "--", "true"]).status, 64);
    assert!(exists(&pod, "post.err"));
    // So does a shared folder that cannot be used.
    let pod = Pod::bare();
    assert_eq!(pod.run(&["--post-file", "$W/post", "--dir", "/no/such/folder", "--", "true"]).status, 64);
    assert!(exists(&pod, "post.err"));
    // A step that runs again leaves one of the two.
    let pod = Pod::bare();
    assert_eq!(pod.run(&["--post-file", "$W/post", "--", "false"]).status, 1);
    assert_eq!(pod.run(&["--post-file", "$W/post", "--", "true"]).status, 0);
    assert!(exists(&pod, "post") && !exists(&pod, "post.err"));
    // A file that cannot be made is told by the status and by the exit code.
    let pod = Pod::flat();
    let outcome = pod.run(&["--post-file", "/proc/self/no/post", "--", "true"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("cannot make /proc/self/no/post"), "{outcome:?}");
    assert_eq!(pod.exit_code().as_deref(), Some("64"));
    assert_eq!(Pod::bare().run(&["--post-file", "", "--", "true"]).status, 64);
    // What an earlier run left is gone before the command runs.
    let pod = Pod::bare();
    put(&pod, "post", "x");
    put(&pod, "post.err", "x");
    assert_eq!(pod.run(&["--post-file", "$W/post", "--", "sh", "-c", "[ ! -e $W/post ] && [ ! -e $W/post.err ]"]).status, 0);
    assert_eq!(std::fs::read(pod.work.join("post")).unwrap(), b"");
}

#[test]
fn a_request_to_end_while_it_waits() {
    let pod = Pod::flat();
    let running = step(&pod, &["--wait-file", "$W/a"]);
    until("the lock", || pod.shared.join(".emissary-lock").exists());
    running.kill(15);
    assert_eq!(ended(&pod, &running.finish()), (143, false, false, true));
    assert_eq!(pod.exit_code().as_deref(), Some("143"));
}

#[test]
fn the_exit_code_of_an_earlier_step() {
    for (marker, want) in [
        ("0", (0, true, true, false)),
        ("0\n", (0, true, true, false)),
        ("3", (64, false, false, true)),
        ("130", (64, false, false, true)),
        ("rubbish", (64, false, false, true)),
        ("1130", (64, false, false, true)),
    ] {
        let pod = Pod::bare();
        let running = step(&pod, &["--previous-marker", "$W/marker"]);
        put(&pod, "draft", marker);
        std::fs::rename(pod.work.join("draft"), pod.work.join("marker")).unwrap();
        assert_eq!(ended(&pod, &running.finish()), want, "{marker}");
    }
}

#[test]
fn two_steps_follow_each_other() {
    let pod = Pod::bare();
    let second = pod.start(&["--wait-file", "$W/first", "--post-file", "$W/second", "--", "sh", "-c", "cat $W/data"]);
    let first = pod.start(&["--post-file", "$W/first", "--", "sh", "-c", "sleep 0.1; echo made >$W/data"]);
    assert_eq!((first.finish().status, second.finish().stdout.as_str()), (0, "made\n"));
    assert!(exists(&pod, "second"));
}
