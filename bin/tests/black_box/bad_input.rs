//! Bad input gives one line that names path and cause, and status 64. The command does not run.

use crate::pod::{Outcome, Pod, is_root};

/// Asserts that stderr is one line with this text and that the status is 64.
fn refused(outcome: &Outcome, want: &str) {
    assert_eq!(outcome.status, 64, "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains(want), "{want:?} not in {outcome:?}");
    assert_eq!(outcome.stdout, "");
}

#[test]
fn no_command() {
    for args in [&["run"][..], &["run", "--"], &["--"], &["--name", "x"], &[]] {
        refused(&Pod::new().run(args), "no command to run; it stands behind `--`");
    }
}

#[test]
fn unknown_flags_and_words() {
    refused(&Pod::new().run(&["--frob", "--", "true"]), "unknown flag '--frob'");
    refused(&Pod::new().run(&["wait", "--frob"]), "unknown flag '--frob'");
    refused(&Pod::new().run(&["frob"]), "exec: \"frob\": executable file not found in $PATH");
    refused(&Pod::new().called("argoexec").run(&["frob"]), "unknown subcommand 'frob'");
    refused(&Pod::new().run(&["wait", "--timeout"]), "flag --timeout needs a value");
    refused(&Pod::new().run(&["wait", "--grace", "soon"]), "'soon' is not a duration");
    refused(&Pod::new().run(&["kill", "9"]), "usage: emissary kill SIGNAL PID");
    refused(&Pod::new().run(&["signal", "frob"]), "signal 'frob': is neither");
}

#[test]
fn no_template() {
    let pod = Pod::new().no_template();
    let outcome = pod.sh("echo ran");
    refused(&outcome, "no template: ");
    assert!(outcome.stderr.contains("/argo/template is missing and ARGO_TEMPLATE is not set"), "{outcome:?}");
    assert_eq!(pod.exit_code().as_deref(), Some("64"));
}

#[test]
fn a_broken_template() {
    for (template, want) in [
        ("{\"outputs\": ", "template: the JSON text ends too early at byte 12"),
        ("", "template: the JSON text ends too early at byte 0"),
        ("[]", "template: the template is not an object at byte 0"),
        ("{\"outputs\":{\"parameters\":{}}}", "template: outputs.parameters is not an array at byte 25"),
        ("{\"a\":1} x", "template: something after the end of the JSON text at byte 8"),
    ] {
        let pod = Pod::new().template(template);
        refused(&pod.sh("echo ran"), want);
        assert_eq!(pod.exit_code().as_deref(), Some("64"));
        assert!(pod.termination_log().contains(want));
    }
}

#[test]
fn messages_name_the_source_and_the_place() {
    let broken = "{\"outputs\": {\n  \"artifacts\": [\n    {\"path\": \"/é\"},\n    {\"name\": \"é\", \"path\": 1}\n  ]\n}}";
    let want = "outputs.artifacts[1].path is not a string at byte 79 (line 4, column 27)";
    let pod = Pod::new().template(broken);
    let outcome = pod.sh("echo ran");
    refused(&outcome, &format!("{}/template: {want}", pod.shared.display()));
    refused(&Pod::new().no_template().env("ARGO_TEMPLATE", broken).sh("echo ran"), &format!("error: ARGO_TEMPLATE: {want}"));
    for (args, source) in [(&["init"][..], "ARGO_TEMPLATE"), (&["init", "--template", "$W/t"], "/work/t")] {
        let pod = Pod::new().no_template().env("ARGO_TEMPLATE", broken);
        pod.script("t", broken, 0o644);
        refused(&pod.run(args), &format!("{source}: {want}"));
    }
    refused(&Pod::new().template(broken).run(&["wait"]), want);
    let pod = Pod::new().env("ARGO_CONTAINER_ARGS_FILE", "$W/args");
    pod.script("args", "[\"a\",\n 1]", 0o644);
    refused(&pod.sh("echo ran"), "/work/args: expected a string at byte 7 (line 2, column 2)");
}

#[test]
fn out_of_range_is_no_other_form() {
    refused(&Pod::new().run(&["wait", "--timeout", "9999999h"]), "flag --timeout: '9999999h' is not within 292 years");
    refused(&Pod::new().run(&["wait", "--grace", "-1s"]), "flag --grace: '-1s' is not 0 or more");
    let pod = Pod::new().template(r#"{"containerSet":{"retryStrategy":{"duration":"9999999h"}}}"#);
    refused(&pod.sh("echo ran"), "containerSet.retryStrategy.duration is not within 292 years at byte 45");
}

#[test]
fn a_grace_period_that_is_none_is_said() {
    for value in ["soon", "-1", "1.5", "99999999999999999999999"] {
        for (args, code) in [(&["--", "true"][..], None), (&["wait"], Some("0"))] {
            let pod = Pod::new().env("ARGO_TERMINATION_GRACE_PERIOD_SECONDS", value);
            if let Some(code) = code {
                pod.put("ctr/main/exitcode", code);
            }
            let outcome = pod.run(args);
            let want = format!(
                "emissary: warning: ARGO_TERMINATION_GRACE_PERIOD_SECONDS: '{value}' is not a whole number of seconds: 30 are taken\n"
            );
            assert_eq!((outcome.status, outcome.stderr), (0, want), "{value}");
        }
    }
    for value in ["", "5", " 7\n"] {
        assert_eq!(Pod::new().env("ARGO_TERMINATION_GRACE_PERIOD_SECONDS", value).sh("true").stderr, "", "{value}");
    }
}

#[test]
fn a_link_that_is_not_followed_is_no_loop() {
    for (at, what) in [
        ("template", "cannot read {}/template: it is a link, or lies behind one, and that is not followed"),
        ("ctr", "cannot make the folder {}/ctr/main: it is a link, or lies behind one, and that is not followed"),
        ("ctr/main", "cannot make the folder {}/ctr/main: it is a link, or lies behind one, and that is not followed"),
    ] {
        let pod = Pod::new();
        let _ = std::fs::remove_file(pod.shared.join("template"));
        std::fs::create_dir_all(pod.shared.join(at).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&pod.work, pod.shared.join(at)).unwrap();
        refused(&pod.sh("echo ran"), &what.replace("{}", pod.shared.to_str().unwrap()));
    }
    // One that leads to itself is a loop.
    let pod = Pod::new().template(r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/loop"}}]}}"#);
    let outcome = pod.sh("ln -s loop $W/loop");
    assert!(outcome.status == 64 && !outcome.stderr.contains("not followed"), "{outcome:?}");
}

#[test]
fn ten_thousand_levels_of_nesting() {
    let pod = Pod::new().template(&format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000)));
    refused(&pod.sh("echo ran"), "template: nested deeper than 128 levels at byte 132");
}

#[test]
fn a_template_that_is_a_folder() {
    let pod = Pod::new().no_template();
    std::fs::create_dir(pod.shared.join("template")).unwrap();
    refused(&pod.sh("echo ran"), "/argo/template: is a directory");
}

#[test]
fn a_template_that_cannot_be_read() {
    if !is_root("a template without read permission") {
        return;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let pod = Pod::new().via(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    std::fs::set_permissions(pod.shared.join("template"), std::fs::Permissions::from_mode(0o000)).unwrap();
    refused(&pod.sh("echo ran"), "/argo/template: permission denied");
}

#[test]
fn the_shared_folder_is_missing() {
    let pod = Pod::new().env("EMISSARY_DIR", "/no/such/folder");
    refused(&pod.sh("echo ran"), "cannot open the shared folder /no/such/folder: no such file or directory");
    let pod = Pod::new().env("EMISSARY_DIR", "/proc/version");
    refused(&pod.sh("echo ran"), "cannot open the shared folder /proc/version: not a directory");
}

#[test]
fn the_shared_folder_is_not_writable() {
    use std::os::unix::fs::PermissionsExt as _;
    // No user can make a folder there, not even root.
    let pod = Pod::new().env("EMISSARY_DIR", "/proc");
    refused(&pod.sh("echo ran"), "cannot make the folder /proc/ctr/main: no such file or directory");
    if !is_root("a folder of another user") {
        return;
    }
    for (pod, folder) in [(Pod::flat(), ""), (Pod::new(), ""), (Pod::new(), "ctr/main")] {
        let pod = pod.via(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        let folder = pod.shared.join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
        let outcome = pod.sh("echo ran");
        refused(&outcome, "permission denied");
        assert!(outcome.stderr.contains(pod.shared.to_str().unwrap()), "{outcome:?}");
    }
}

#[test]
fn an_invalid_name_or_layout() {
    refused(&Pod::new().env("ARGO_CONTAINER_NAME", "../x").sh("echo ran"), "container name '../x': has the byte 0x2e at offset 0");
    refused(&Pod::new().run(&["run", "--dir", "", "--", "echo", "ran"]), "flag --dir: its path is empty");
    refused(&Pod::new().env("EMISSARY_LAYOUT", "round").sh("echo ran"), "EMISSARY_LAYOUT: 'round' is not `flat` or `pod`");
    // `podSpecPatch` may add a sidecar that has the volume and no name.
    let pod = Pod::flat().env("EMISSARY_LAYOUT", "pod");
    assert_eq!((pod.sh("exit 5").status, pod.text("ctr/exitcode").as_deref()), (5, Some("5")));
    refused(&pod.run(&["signal", "TERM"]), "the pod layout needs a container name");
    refused(&pod.run(&["help", "frob"]), "no help on 'frob': it is no subcommand");
}

#[test]
fn help_and_version() {
    for args in
        [&["help"][..], &["--help"], &["run", "--help"], &["help", "wait"], &["kill", "-h"], &["init", "--help"], &["signal", "--help"]]
    {
        let outcome = Pod::new().run(args);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        assert!(outcome.stdout.lines().count() <= 64 && outcome.stdout.contains("emissary"), "{outcome:?}");
    }
    let outcome = Pod::new().run(&["version"]);
    assert_eq!(outcome.stdout, concat!("emissary ", env!("CARGO_PKG_VERSION"), "\n"));
}
