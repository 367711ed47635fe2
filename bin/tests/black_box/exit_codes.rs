//! Exit codes; finding the command; its arguments, descriptors and umask.

use std::io::Write as _;
use std::process::Stdio;

use crate::pod::{Pod, may_unshare};

#[test]
fn the_commands_own_code() {
    for code in [0, 1, 7, 64, 255] {
        let pod = Pod::new();
        let outcome = pod.sh(&format!("exit {code}"));
        assert_eq!((outcome.status, pod.exit_code()), (code, Some(code.to_string())));
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    for (signal, code) in [(1, 129), (6, 134), (9, 137), (11, 139), (15, 143)] {
        let pod = Pod::new();
        let outcome = pod.sh(&format!("kill -{signal} $$"));
        assert_eq!((outcome.status, pod.exit_code()), (code, Some(code.to_string())));
    }
}

#[test]
fn command_not_found() {
    let pod = Pod::new();
    let outcome = pod.run(&["--", "no-such-command"]);
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (64, Some("64")));
    let line = "emissary: error: exec: \"no-such-command\": executable file not found in $PATH\n";
    assert_eq!((outcome.stderr.as_str(), pod.termination_log().as_str()), (line, line));
}

#[test]
fn command_not_executable() {
    let pod = Pod::new();
    pod.script("plain", "x", 0o644);
    for (path, want) in [("$W/plain", "permission denied"), ("$W/missing", "no such file or directory"), ("$W", "permission denied")] {
        let outcome = pod.run(&["--", path]);
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (64, Some("64")));
        let path = path.replace("$W", pod.work.to_str().unwrap());
        assert_eq!(outcome.stderr, format!("emissary: error: exec: \"{path}\": {want}\n"));
    }
    // A file in a folder of PATH that is not executable.
    let outcome = pod.process(&["--", "plain"]).env("PATH", &pod.work).output().unwrap();
    assert_eq!(outcome.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&outcome.stderr).contains("exec: \"plain\": permission denied"), "{outcome:?}");
}

#[test]
fn a_script_that_the_kernel_refuses() {
    let pod = Pod::new();
    pod.script("bad", "#!/no/such/interpreter\n", 0o755);
    pod.script("none", "echo x\n", 0o755);
    let outcome = pod.run(&["--", "$W/bad"]);
    assert_eq!(outcome.status, 64);
    assert!(outcome.stderr.contains("no such file or directory (the file is there: its interpreter"), "{outcome:?}");
    let outcome = pod.run(&["--", "$W/none"]);
    assert_eq!(outcome.status, 64);
    assert!(outcome.stderr.contains("exec format error (neither a program for this machine nor a script"), "{outcome:?}");
}

#[test]
fn a_relative_path_and_an_empty_part_of_path() {
    let pod = Pod::new();
    pod.script("here", "#!/bin/sh\necho here\n", 0o755);
    assert_eq!(pod.run(&["--", "./here"]).stdout, "here\n");
    let outcome = pod.process(&["--", "here"]).env("PATH", "/nowhere::/bin").output().unwrap();
    assert_eq!(outcome.stdout, b"here\n");
}

#[test]
fn arguments_environment_and_directory_pass_untouched() {
    let pod = Pod::new().env("EVIL", "a=b\nc");
    let outcome = pod.run(&["--", "printf", "%s|", "a b", "", "--", "-x", "é", "*", "$HOME"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "a b||--|-x|é|*|$HOME|"));
    assert_eq!(pod.sh("printf %s \"$EVIL\"").stdout, "a=b\nc");
    assert_eq!(pod.sh("[ \"$PWD\" = \"$W\" ] && pwd -P >/dev/null").status, 0);
}

#[test]
fn stdin_reaches_the_command() {
    let pod = Pod::new();
    let mut child = pod.process(&["--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from outside\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"from outside\n");
}

#[test]
fn the_command_has_no_descriptor_of_ours() {
    let pod = Pod::new().capturing();
    // The test itself may have inherited descriptors. They stay open, with emissary and without.
    let bare = std::process::Command::new("sh").args(["-c", "ls /proc/self/fd"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(pod.sh("ls /proc/self/fd").stdout, String::from_utf8(bare.stdout).unwrap());
}

#[test]
fn the_command_keeps_the_umask_but_not_under_argos_name() {
    let umask = |pod: &Pod, program: &str| {
        let script = format!("umask 027; exec \"{program}\" -- sh -c umask");
        let mut command = pod.process(&[]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        command.stdin(Stdio::null());
        String::from_utf8(shell.output().unwrap().stdout).unwrap().trim().to_string()
    };
    let pod = Pod::new();
    let program = crate::pod::at(pod.shared.parent().unwrap(), "emissary");
    assert_eq!(umask(&pod, &program), "0027");
    let pod = Pod::new().called("argoexec");
    let program = crate::pod::at(pod.shared.parent().unwrap(), "argoexec");
    assert_eq!(umask(&pod, &program), "0000");
}

#[test]
fn closed_standard_descriptors_stay_closed_for_the_command() {
    for (redirection, want) in [(">&-", "0 2"), ("<&-", "1 2"), ("2>&-", "0 1"), ("<&- 2>&-", "1")] {
        let pod = Pod::new();
        let program = crate::pod::at(pod.shared.parent().unwrap(), "emissary");
        // The script writes the list to a file, since stdout may be closed.
        let inner = "open=; for n in 0 1 2; do [ -e /proc/$$/fd/$n ] && open=\"$open$n \"; done; echo $open >\"$W/open\"";
        let mut shell = std::process::Command::new("sh");
        shell
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("W", &pod.work)
            .env("EMISSARY_DIR", &pod.shared)
            .env("ARGO_CONTAINER_NAME", "main");
        shell.env("INNER", inner).args(["-c", &format!("exec \"{program}\" -- sh -c \"$INNER\" {redirection}")]);
        shell.status().unwrap();
        assert_eq!(pod.exit_code().as_deref(), Some("0"), "{redirection}");
        let open = std::fs::read_to_string(pod.work.join("open")).unwrap();
        assert_eq!(open.trim(), want, "{redirection}");
    }
}

#[test]
fn a_command_that_is_the_first_of_a_pid_namespace() {
    if !may_unshare("--pid") {
        return;
    }
    // `unshare` does not fork here, so emissary stays outside. The command is the first process of the new namespace and sees no parent.
    let pod = Pod::new().via(&["unshare", "--pid"]);
    let outcome = pod.sh("echo ran as $$; exit 3");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (3, "ran as 1\n"), "{outcome:?}");
}
