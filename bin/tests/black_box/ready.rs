//! Pods without an init container: the readiness marker, input artifacts, the argument file, the template's other sources.

use core::time::Duration;
use std::time::SystemTime;

use crate::pod::{Pod, may_unshare, until};

fn waiting() -> Pod {
    Pod::new().env("ARGO_WAIT_FOR_READY", "true")
}

/// Starts `echo ran` and waits until the container's folder exists.
fn started(pod: &Pod) -> crate::pod::Running {
    let running = pod.start(&["--", "echo", "ran"]);
    until("the folder", || pod.shared.join("ctr/main").is_dir());
    running
}

#[test]
fn ready_at_once_later_and_after_a_heartbeat() {
    let pod = waiting();
    pod.put("status", "READY\n");
    assert_eq!(pod.run(&["--", "echo", "ran"]).stdout, "ran\n");
    let pod = waiting();
    let running = started(&pod);
    pod.put("status", "RUNNING\n");
    pod.put("status", "RUNNING\n");
    pod.until_it_has_looked();
    assert!(running.children().is_empty() && pod.exit_code().is_none());
    pod.put("status", "READY\n");
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "ran\n"));
}

#[test]
fn failed_is_65_and_the_reason() {
    let pod = waiting();
    pod.put("status", "FAILED\nno such bucket");
    let outcome = pod.run(&["--", "echo", "ran"]);
    assert_eq!((outcome.status, pod.exit_code().as_deref(), outcome.stdout.as_str()), (65, Some("65"), ""));
    assert!(pod.termination_log().contains("the supervisor failed: no such bucket"));
}

#[test]
fn a_marker_that_cannot_be_read_is_said_once() {
    let pod = waiting();
    std::os::unix::fs::symlink("template", pod.shared.join("status")).unwrap();
    let running = started(&pod);
    for _ in 0..3 {
        pod.until_it_has_looked();
    }
    pod.put("status", "READY\n");
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stderr.matches("argo/status: ").count()), (0, 1), "{outcome:?}");
}

#[test]
fn a_stale_heartbeat_is_65() {
    let pod = waiting();
    pod.put("status", "RUNNING\n");
    let file = std::fs::File::options().write(true).open(pod.shared.join("status")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(31)).unwrap();
    let outcome = pod.run(&["--", "echo", "ran"]);
    assert_eq!((outcome.status, pod.exit_code().as_deref(), outcome.stdout.as_str()), (65, Some("65"), ""));
    // A heartbeat that is almost too old: emissary waits until it is too old, and not longer.
    let pod = waiting();
    pod.put("status", "RUNNING\n");
    let file = std::fs::File::options().write(true).open(pod.shared.join("status")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(27)).unwrap();
    let outcome = pod.run(&["--", "echo", "ran"]);
    assert!(outcome.status == 65 && (Duration::from_secs(1)..Duration::from_secs(15)).contains(&outcome.took), "{outcome:?}");
}

#[test]
fn sigterm_while_waiting() {
    let pod = waiting();
    let running = started(&pod);
    running.kill(15);
    assert_eq!((running.finish().status, pod.exit_code().as_deref()), (143, Some("143")));
}

/// Runs the pod in a mount namespace of its own, in which `/argo/inputs/artifacts/in` holds `payload`.
fn with_input(pod: Pod) -> Pod {
    with_input_and(pod, "true")
}

/// The same, after a shell command.
fn with_input_and(pod: Pod, command: &str) -> Pod {
    let mount = "mkdir -p /argo/inputs/artifacts && mount -t tmpfs tmpfs /argo/inputs/artifacts && echo payload >/argo/inputs/artifacts/in";
    pod.put("status", "READY\n");
    pod.via(&["unshare", "--mount", "sh", "-c", &format!("{mount} && {command} && exec \"$@\""), "sh"])
}

#[test]
fn an_input_artifact_is_linked() {
    if !may_unshare("--mount") {
        return;
    }
    let template = r#"{"inputs":{"artifacts":[{"name":"in","path":"$W/deep/in"},{"name":"absent","path":"$W/absent"}]}}"#;
    let pod = with_input(waiting().template(template));
    assert_eq!(pod.sh("cat $W/deep/in; readlink $W/deep/in").stdout, "payload\n/argo/inputs/artifacts/in\n");
    assert!(!pod.work.join("absent").exists());
    // A second run finds the link of the first.
    assert_eq!(pod.sh("cat $W/deep/in").stdout, "payload\n");
    // The link replaces a folder, and even the working directory.
    let pod = with_input(waiting().template(r#"{"inputs":{"artifacts":[{"name":"in","path":"$W/old"}]}}"#));
    std::fs::create_dir_all(pod.work.join("old/a/b")).unwrap();
    std::fs::write(pod.work.join("old/a/f"), "x").unwrap();
    assert_eq!(pod.sh("cat $W/old").stdout, "payload\n");
}

#[test]
fn an_input_artifact_replaces_a_tree_deeper_than_any_stack() {
    if !may_unshare("--mount") {
        return;
    }
    let template = r#"{"inputs":{"artifacts":[{"name":"in","path":"$W/old"}]}}"#;
    let pod = with_input_and(waiting().template(template), "ulimit -s 256");
    let mut folder = std::fs::File::open(&pod.work).unwrap();
    for depth in 0..6_000 {
        let name = if depth == 0 { "old" } else { "d" };
        rustix::fs::mkdirat(&folder, name, 0o755.into()).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        folder = rustix::fs::openat(&folder, name, flags, rustix::fs::Mode::empty()).unwrap().into();
        rustix::fs::openat(&folder, "f", rustix::fs::OFlags::CREATE, 0o644.into()).unwrap();
    }
    let outcome = pod.sh("cat $W/old");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "payload\n"), "{outcome:?}");
}

#[test]
fn an_input_artifact_never_removes_the_working_directory() {
    if !may_unshare("--mount") {
        return;
    }
    for (path, status) in [
        ("", 0),
        (".", 65),
        ("./", 65),
        ("sub/..", 65),
        ("./sub/./../", 65),
        ("..", 65),
        ("../work", 65),
        ("$W/.", 65),
        ("$W/sub/..", 65),
        ("$W/sub/../..", 65),
        ("sub/../in", 0),
    ] {
        let pod = with_input(waiting().template(&format!("{{\"inputs\":{{\"artifacts\":[{{\"name\":\"in\",\"path\":\"{path}\"}}]}}}}")));
        std::fs::create_dir_all(pod.work.join("sub")).unwrap();
        std::fs::write(pod.work.join("sub/precious"), "keep").unwrap();
        let outcome = pod.sh("pwd");
        assert_eq!((outcome.status, pod.exit_code()), (status, Some(status.to_string())), "{path} {outcome:?}");
        assert_eq!(outcome.stderr.contains("that would remove the working directory"), status != 0, "{path} {outcome:?}");
        assert_eq!(std::fs::read_to_string(pod.work.join("sub/precious")).unwrap(), "keep", "{path}");
        assert!(pod.work.is_dir() && !pod.work.is_symlink(), "{path}");
    }
    // Written out it is what an image has there, and what the artifact is to take the place of.
    let pod = with_input_and(
        waiting().template(r#"{"inputs":{"artifacts":[{"name":"in","path":"$W"}]}}"#),
        "rm /argo/inputs/artifacts/in && mkdir /argo/inputs/artifacts/in",
    );
    std::fs::write(pod.work.join("old"), "").unwrap();
    let outcome = pod.sh("pwd -P; ls");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "/argo/inputs/artifacts/in\n"), "{outcome:?}");
    // An artifact without a name cannot be found.
    let pod = with_input(waiting().template(r#"{"inputs":{"artifacts":[{"path":"$W/in"}]}}"#));
    assert_eq!(pod.sh("ls").stdout, "");
}

#[test]
fn an_input_artifact_lands_on_a_volume_where_nothing_stands() {
    if !may_unshare("--mount") {
        return;
    }
    for path in ["vol/in", "vol/deep/in", "link/in", "vol/../vol/in"] {
        let template = format!(
            "{{\"container\":{{\"volumeMounts\":[{{\"mountPath\":\"\"}},{{\"mountPath\":\".\"}},{{\"mountPath\":\"$W/vol\"}}]}},\"inputs\":{{\"artifacts\":[{{\"name\":\"in\",\"path\":\"$W/{path}\"}}]}}}}"
        );
        let pod = with_input(waiting().template(&template));
        std::fs::create_dir_all(pod.work.join("vol")).unwrap();
        std::os::unix::fs::symlink("vol", pod.work.join("link")).unwrap();
        // Again: it is there already.
        for _ in 0..2 {
            let outcome = pod.sh(&format!("cat $W/{path}"));
            assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "payload\n"), "{path} {outcome:?}");
        }
    }
    // A mount that is declared and not there, below: nothing is removed.
    let template = r#"{"container":{"volumeMounts":[{"mountPath":"$W/top/vol"}]},"inputs":{"artifacts":[{"name":"in","path":"$W/top"}]}}"#;
    assert_eq!(with_input(waiting().template(template)).sh("cat $W/top").stdout, "payload\n");
}

#[test]
fn an_input_artifact_never_reaches_into_a_mount() {
    if !may_unshare("--mount") {
        return;
    }
    for (path, mount, want) in [
        // The path leads through a link.
        ("data/sub", "vol", "that lies on the volume mount"),
        ("vol/sub", "vol", "that lies on the volume mount"),
        ("vol", "vol", "that lies on the volume mount"),
        ("data/../vol/sub", "vol", "that lies on the volume mount"),
        ("top", "top/vol", "that would remove the volume mount"),
    ] {
        let template = format!(
            "{{\"container\":{{\"volumeMounts\":[{{\"mountPath\":\"$W/{mount}\"}}]}},\"inputs\":{{\"artifacts\":[{{\"name\":\"in\",\"path\":\"$W/{path}\"}}]}}}}"
        );
        let pod = with_input(waiting().template(&template));
        let kept = pod.work.join(mount).join("sub");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("precious"), "keep").unwrap();
        std::os::unix::fs::symlink("vol", pod.work.join("data")).unwrap();
        let outcome = pod.sh("echo ran");
        assert_eq!((outcome.status, pod.exit_code().as_deref(), outcome.stdout.as_str()), (65, Some("65"), ""), "{path} {outcome:?}");
        assert!(outcome.stderr.contains(want), "{path} {outcome:?}");
        assert_eq!(std::fs::read_to_string(kept.join("precious")).unwrap(), "keep");
    }
}

#[test]
fn arguments_from_a_file() {
    let pod = Pod::new().env("ARGO_CONTAINER_ARGS_FILE", "$W/args");
    pod.script("args", r#"["a b", "é\n\"\\", "\ud83d\ude00", ""]"#, 0o644);
    assert_eq!(pod.run(&["--", "printf", "%s|", "x"]).stdout, "x|a b|é\n\"\\|😀||");
}

#[test]
fn a_long_argument_becomes_a_file() {
    let pod = Pod::new().env("ARGO_CONTAINER_ARGS_FILE", "$W/args");
    // The longest argument that execve accepts has 131,071 bytes.
    for (length, spilled) in [(131_071, false), (131_072, true), (200_000, true)] {
        pod.script("args", &format!("[\"{}\", \"z\"]", "y".repeat(length)), 0o644);
        let outcome = pod
            .sh("case $0 in @*) f=${0#@}; echo file $(wc -c <\"$f\") $1; case $f in /tmp/*) rm $f;; esac;; *) echo plain ${#0} $1;; esac");
        let want = format!("{} {length} z\n", if spilled { "file" } else { "plain" });
        assert_eq!(outcome.stdout, want, "{}", outcome.stderr);
    }
}

#[test]
fn a_broken_argument_file() {
    for (text, want) in
        [("[1]", "expected a string at byte 1"), ("{}", "expected an array of strings at byte 0"), ("[", "ends too early at byte 1")]
    {
        let pod = Pod::new().env("ARGO_CONTAINER_ARGS_FILE", "$W/args");
        pod.script("args", text, 0o644);
        let outcome = pod.sh("echo ran");
        assert_eq!((outcome.status, pod.exit_code().as_deref(), outcome.stdout.as_str()), (64, Some("64"), ""));
        assert!(outcome.stderr.contains(want) && outcome.stderr.contains("/work/args"), "{outcome:?}");
    }
    let pod = Pod::new().env("ARGO_CONTAINER_ARGS_FILE", "$W/none");
    assert!(pod.sh("echo ran").stderr.contains("/work/none: no such file or directory"));
}

#[test]
fn the_template_from_the_environment() {
    let pod = Pod::new().no_template();
    let template =
        format!("{{\"outputs\":{{\"parameters\":[{{\"name\":\"p\",\"valueFrom\":{{\"path\":\"{}/p\"}}}}]}}}}", pod.work.display());
    let pod = pod.env("ARGO_TEMPLATE", &template);
    assert_eq!(pod.sh("echo v >$W/p").status, 0);
    assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("v\n"));
    let outcome = Pod::new().no_template().env("ARGO_TEMPLATE", "offloaded").sh("echo ran");
    assert!(outcome.status == 64 && outcome.stderr.contains("/argo/config/ARGO_TEMPLATE: no such file or directory"), "{outcome:?}");
}

#[test]
fn a_mount_whose_path_is_a_link_is_a_mount_too() {
    if !may_unshare("--mount") {
        return;
    }
    for path in ["link/sub", "real/sub"] {
        let template = format!(
            "{{\"container\":{{\"volumeMounts\":[{{\"mountPath\":\"$W/link\"}}]}},\"inputs\":{{\"artifacts\":[{{\"name\":\"in\",\"path\":\"$W/{path}\"}}]}}}}"
        );
        let pod = with_input(waiting().template(&template));
        std::fs::create_dir_all(pod.work.join("real/sub")).unwrap();
        std::fs::write(pod.work.join("real/sub/precious"), "keep").unwrap();
        std::os::unix::fs::symlink("real", pod.work.join("link")).unwrap();
        assert_eq!(pod.sh("echo ran").status, 65, "{path}");
        assert_eq!(std::fs::read_to_string(pod.work.join("real/sub/precious")).unwrap(), "keep");
    }
}
