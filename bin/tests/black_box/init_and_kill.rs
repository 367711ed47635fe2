//! The roles init, kill and signal.

use std::io::Write as _;
use std::process::Stdio;

use crate::pod::{Pod, binary, is_root, may_unshare};

#[test]
fn init_leaves_binary_and_template() {
    for pod in [Pod::flat(), Pod::new()] {
        let pod = pod.no_template().env("ARGO_TEMPLATE", "{\"name\":\"t\"}");
        let outcome = pod.run(&["init"]);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        assert_eq!((pod.mode("emissary"), pod.mode("template")), (0o555, 0o444));
        assert_eq!(pod.text("template").as_deref(), Some("{\"name\":\"t\"}"));
        assert_eq!(std::fs::read(pod.shared.join("emissary")).unwrap(), std::fs::read(binary()).unwrap());
        // A second init over the same files.
        assert_eq!(pod.run(&["init"]).status, 0);
        assert_eq!(std::fs::read_dir(&pod.shared).unwrap().count(), 2);
    }
}

#[test]
fn init_again_as_another_user() {
    if !is_root("init as another user") {
        return;
    }
    let pod = Pod::flat().no_template().env("ARGO_TEMPLATE", "{}");
    assert_eq!(pod.run(&["init"]).status, 0);
    let pod = pod.via(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    let outcome = pod.run(&["init"]);
    assert_eq!((outcome.status, pod.mode("template"), pod.mode("emissary")), (0, 0o444, 0o555), "{outcome:?}");
}

#[test]
fn the_template_from_a_file_and_from_stdin() {
    let pod = Pod::flat().no_template();
    pod.script("t", "{\"a\":1}", 0o644);
    assert_eq!(pod.run(&["init", "--template", "$W/t"]).status, 0);
    assert_eq!(pod.text("template").as_deref(), Some("{\"a\":1}"));
    let mut child = pod.process(&["init", "--template", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(300_000));
    child.stdin.take().unwrap().write_all(large.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(pod.text("template"), Some(large));
}

#[test]
fn init_refuses_what_main_would_refuse_and_leaves_nothing() {
    for (template, want) in [("{\"outputs\":{\"parameters\":{}}}", "outputs.parameters is not an array"), ("{", "ends too early")] {
        let pod = Pod::flat().no_template().env("ARGO_TEMPLATE", template);
        let outcome = pod.run(&["init"]);
        assert!(outcome.status == 64 && outcome.stderr.contains(want), "{outcome:?}");
        assert_eq!(std::fs::read_dir(&pod.shared).unwrap().count(), 0);
    }
    let outcome = Pod::flat().no_template().run(&["init"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("neither --template nor ARGO_TEMPLATE"), "{outcome:?}");
    let outcome = Pod::flat().no_template().run(&["init", "--template", "/no/such/file"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("/no/such/file: no such file or directory"), "{outcome:?}");
}

#[test]
fn init_names_misspelt_fields() {
    let template = "{\"outputs\":{\"paramters\":[],\n\"artifacts\":[{\"name\":\"a\",\"paht\":\"/a\",\"s3\":{\"key\":\"x\"}}]},\"container\":{\"image\":\"x\"}}";
    let pod = Pod::flat().no_template().env("ARGO_TEMPLATE", template);
    let outcome = pod.run(&["init"]);
    let want = "emissary: warning: ARGO_TEMPLATE: outputs: unknown field 'paramters' at byte 24; is 'parameters' meant? (line 1, column 25)\n\
                emissary: warning: ARGO_TEMPLATE: outputs.artifacts[0]: unknown field 'paht' at byte 60; is 'path' meant? (line 2, column 33)\n";
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, want));
    assert_eq!(pod.text("template").as_deref(), Some(template));
}

#[test]
fn init_refuses_containers_that_wait_for_ever() {
    for (set, want) in [
        (r#"{"name":"a","dependencies":["a"]}"#, "containers wait for each other: 'a' is a dependency of 'a'"),
        (
            r#"{"name":"x","dependencies":["a"]},{"name":"a","dependencies":["b"]},{"name":"b","dependencies":["c"]},{"name":"c","dependencies":["a"]}"#,
            "containers wait for each other: 'a' is a dependency of 'c', that of 'b', that of 'a'",
        ),
        (r#"{"name":"a"},{"name":"b","dependencies":["a","z"]}"#, "'b' depends on 'z', which is no container of the set"),
    ] {
        let pod = Pod::new().no_template().env("ARGO_TEMPLATE", &format!("{{\"containerSet\":{{\"containers\":[{set}]}}}}"));
        let outcome = pod.run(&["init"]);
        assert!(outcome.status == 64 && outcome.stderr.contains(&format!("ARGO_TEMPLATE: containerSet: {want}\n")), "{outcome:?}");
        assert_eq!(std::fs::read_dir(&pod.shared).unwrap().count(), 0);
    }
    // A large one, each for all that come before, is checked in no time.
    let rows: Vec<String> = (0..1_000)
        .map(|at| {
            let dependencies: Vec<String> = (0..at).map(|at| format!("\"c{at}\"")).collect();
            format!("{{\"name\":\"c{at}\",\"dependencies\":[{}]}}", dependencies.join(","))
        })
        .collect();
    let pod = Pod::new().no_template();
    pod.script("t", &format!("{{\"containerSet\":{{\"containers\":[{}]}}}}", rows.join(",")), 0o644);
    let outcome = pod.run(&["init", "--template", "$W/t"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.took < core::time::Duration::from_secs(20), "{:?}", outcome.took);
}

#[test]
fn kill_by_number_and_name() {
    for signal in ["15", "TERM", "SIGTERM"] {
        let pod = Pod::new().env("SIGNAL", signal);
        let program = crate::pod::at(pod.shared.parent().unwrap(), "emissary");
        let pod = pod.env("BIN", &program);
        assert_eq!(pod.sh("sleep 600 & \"$BIN\" kill $SIGNAL $!; wait $!; echo $?").stdout, "143\n");
    }
    let outcome = Pod::new().run(&["kill", "15", "999999999"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("cannot signal process 999999999: no such process"), "{outcome:?}");
}

#[test]
fn kill_9_1_reaches_the_workload() {
    if !may_unshare("--pid") {
        return;
    }
    let pod = Pod::new().via(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let program = crate::pod::at(pod.shared.parent().unwrap(), "emissary");
    let pod = pod.env("BIN", &program);
    let outcome = pod.sh("touch $W/ready; \"$BIN\" kill 9 1; sleep 60; exit 9");
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (137, Some("137")));
}

#[test]
fn signal_leaves_a_file() {
    let pod = Pod::new();
    assert_eq!(pod.run(&["signal", "SIGTERM"]).status, 0);
    assert_eq!((pod.text("ctr/main/signal").as_deref(), pod.mode("ctr/main/signal")), (Some("15"), 0o666));
    // A misspelt name must not make a folder for a container that never comes.
    let outcome = pod.run(&["signal", "9", "other"]);
    assert!(
        outcome.status == 64 && outcome.stderr.contains("no container 'other' in ") && outcome.stderr.contains("--create"),
        "{outcome:?}"
    );
    assert!(!pod.shared.join("ctr/other").exists());
    assert_eq!(pod.run(&["signal", "9", "other", "--create"]).status, 0);
    assert_eq!(pod.text("ctr/other/signal").as_deref(), Some("9"));
    assert_eq!(pod.run(&["signal", "TERM", "other"]).status, 0);
    assert_eq!(pod.text("ctr/other/signal").as_deref(), Some("15"));
    let pod = Pod::flat();
    assert_eq!(pod.run(&["signal", "HUP"]).status, 0);
    assert_eq!(pod.text("signal").as_deref(), Some("1"));
    assert_eq!(pod.run(&["signal", "HUP", "main"]).status, 0);
    let outcome = pod.run(&["signal", "9", "other"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("no container 'other': the flat layout"), "{outcome:?}");
    let outcome = pod.run(&["signal", "9", "../x"]);
    assert!(outcome.status == 64 && outcome.stderr.contains("container name '../x'"), "{outcome:?}");
}

#[test]
fn signal_makes_folders_for_everybody() {
    let pod = Pod::new().via(&["sh", "-c", "umask 077; exec \"$@\"", "sh"]);
    assert_eq!(pod.run(&["signal", "15", "other", "--create"]).status, 0);
    assert_eq!((pod.mode("ctr"), pod.mode("ctr/other"), pod.mode("ctr/other/signal")), (0o777, 0o777, 0o666));
}
