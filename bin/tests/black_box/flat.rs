//! The flat layout: files directly under the shared folder.

use crate::pod::Pod;

#[test]
fn exit_code_and_both_copies() {
    let pod = Pod::flat();
    let outcome = pod.run(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((outcome.status, outcome.stdout.as_str(), outcome.stderr.as_str()), (3, "out\n", "err\n"));
    for (file, text) in [("exitcode", "3"), ("stdout", "out\n"), ("stderr", "err\n")] {
        assert_eq!(pod.text(file).as_deref(), Some(text));
    }
    assert!(!pod.shared.join("ctr").exists() && !pod.shared.join("combined").exists());
}

#[test]
fn outputs() {
    let template = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/m"}}],"artifacts":[{"name":"a","path":"$W/m"}]}}"#;
    let pod = Pod::flat().template(template);
    assert_eq!(pod.sh("echo hi >$W/m").status, 0);
    assert_eq!(pod.text(&pod.output("parameters", "m")).as_deref(), Some("hi\n"));
    assert_eq!(pod.entries(&pod.output("artifacts", "m.tgz")), [("m".into(), b"hi\n".to_vec())]);
}

#[test]
fn the_signal_file() {
    let pod = Pod::flat();
    let running = pod.start_ready("trap 'exit 3' TERM; touch $W/ready; while :; do sleep 0.02; done");
    pod.put("signal", "15");
    assert_eq!((running.finish().status, pod.text("signal"), pod.exit_code().as_deref()), (3, None, Some("3")));
}

#[test]
fn a_name_selects_the_pod_layout_and_a_flag_overrides_it() {
    let pod = Pod::flat();
    assert_eq!(pod.run(&["--name", "x", "--", "true"]).status, 0);
    assert_eq!(pod.text("ctr/x/exitcode").as_deref(), Some("0"));
    let pod = Pod::new();
    assert_eq!(pod.run(&["--layout", "flat", "--", "true"]).status, 0);
    assert_eq!(pod.text("exitcode").as_deref(), Some("0"));
}
