//! The record of a run, `report.json` (docs/protocol.md, "report.json").

use serde_json::Value;

use crate::pod::{Pod, until};

fn record(pod: &Pod) -> Value {
    let text = pod.text(&pod.own("report.json")).unwrap_or_else(|| panic!("no record in {}", pod.shared.display()));
    assert!(text.ends_with("}\n"));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn what_ran_and_how_it_ended() {
    let pod = Pod::new().capturing();
    assert_eq!(pod.sh("echo out; echo err >&2; exit 3").status, 3);
    let value = record(&pod);
    assert_eq!(pod.mode("ctr/main/report.json"), 0o644);
    for (member, want) in [
        ("schema", serde_json::json!(1)),
        ("name", serde_json::json!("main")),
        ("command", serde_json::json!(["sh", "-c", "echo out; echo err >&2; exit 3"])),
        ("exitCode", serde_json::json!(3)),
        ("signal", Value::Null),
        ("coreDumped", serde_json::json!(false)),
        ("timedOut", serde_json::json!(false)),
        ("attempts", serde_json::json!(1)),
        ("reason", serde_json::json!("exited")),
        ("message", Value::Null),
        ("stdoutBytes", serde_json::json!(4)),
        ("stderrBytes", Value::Null),
        ("combinedBytes", serde_json::json!(8)),
        ("outputs", serde_json::json!([])),
    ] {
        assert_eq!(value[member], want, "{member}");
    }
    let (started, finished) = (value["started"].as_str().unwrap(), value["finished"].as_str().unwrap());
    // RFC 3339 with nanoseconds: such times sort as text.
    assert!(started.len() == 30 && started.ends_with('Z') && started < finished, "{value}");
    assert!((1..60_000_000_000).contains(&value["durationNs"].as_u64().unwrap()), "{value}");
    assert!(value["usage"]["maxRssBytes"].as_u64().unwrap() > 100_000 && value["usage"]["minorFaults"].as_u64().unwrap() > 0, "{value}");
}

#[test]
fn what_the_command_used() {
    let pod = Pod::flat();
    // 50 MB that are touched, and CPU time that can be seen.
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec head -c 50000000 /dev/zero | tail -c 50000000 >/dev/null";
    assert_eq!(pod.sh(script).status, 0);
    let usage = &record(&pod)["usage"];
    assert!(usage["maxRssBytes"].as_u64().unwrap() > 40_000_000, "{usage}");
    assert!(usage["userUs"].as_u64().unwrap() + usage["systemUs"].as_u64().unwrap() > 1_000, "{usage}");
    assert!(usage["voluntarySwitches"].as_u64().unwrap() > 0, "{usage}");
}

#[test]
fn each_kind_of_end() {
    for (flags, command, reason, signal, code) in [
        (&[][..], "exit 0", "exited", None, 0),
        (&[], "kill -9 $$", "signal", Some(9), 137),
        (&["--timeout", "50ms"], "exec sleep 600", "timeout", Some(15), 124),
        (&["--cancel-file", "/"], "exec sleep 600", "cancelled", None, 143),
        (&["--remap-exit", "7"], "exit 7", "exited", None, 7),
    ] {
        let pod = Pod::flat();
        pod.run(&[flags, &["--", "sh", "-c", command]].concat());
        let value = record(&pod);
        assert_eq!(
            (value["reason"].as_str(), value["signal"].as_u64(), value["exitCode"].as_u64()),
            (Some(reason), signal, Some(code)),
            "{value}"
        );
        assert_eq!(value["timedOut"], reason == "timeout");
    }
    for (args, message) in
        [(&["--", "no-such-command"][..], "exec: \"no-such-command\""), (&["--frob", "--", "true"], "unknown flag '--frob'")]
    {
        let pod = Pod::flat();
        assert_eq!(pod.run(args).status, 64);
        let value = record(&pod);
        assert_eq!((value["reason"].as_str(), value["attempts"].as_u64(), &value["started"]), (Some("not started"), Some(0), &Value::Null));
        assert!(value["message"].as_str().unwrap().contains(message), "{value}");
    }
    let pod = Pod::flat();
    let running = pod.start(&["--wait-file", "$W/never", "--", "true"]);
    until("the lock", || pod.shared.join(".emissary-lock").exists());
    running.kill(15);
    assert_eq!((running.finish().status, record(&pod)["reason"].as_str()), (143, Some("asked to end")));
    let pod = Pod::flat();
    let running = pod.start(&["--pause-on-failure", "--", "sh", "-c", "touch $W/ready; exit 5"]);
    until("the command", || pod.work.join("ready").exists());
    pod.put("after", "0");
    assert_eq!(running.finish().status, 0);
    assert_eq!((record(&pod)["reason"].as_str(), record(&pod)["exitCode"].as_u64()), (Some("released"), Some(0)));
}

#[test]
fn attempts_and_outputs() {
    let set = r#"{"containerSet":{"containers":[{"name":"main"}],"retryStrategy":{"retries":"3"}},
        "outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/p"}}],"artifacts":[{"name":"a","path":"$W/p"},{"path":"$W/none","optional":true}]}}"#;
    let pod = Pod::new().template(set);
    assert_eq!(pod.sh("echo x >>$W/p; [ $(wc -l <$W/p) -eq 3 ]").status, 0);
    let value = record(&pod);
    assert_eq!(value["attempts"], 3);
    let outputs = value["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 2, "{value}");
    let archive = std::fs::metadata(pod.shared.join(pod.output("artifacts", "p.tgz"))).unwrap().len();
    for (output, kind, name, bytes) in [(&outputs[0], "parameter", "p", 6), (&outputs[1], "artifact", "a", archive)] {
        assert_eq!((&output["kind"], &output["name"], output["bytes"].as_u64()), (&kind.into(), &name.into(), Some(bytes)), "{value}");
        assert!(output["path"].as_str().unwrap().ends_with("/p") && output["durationMs"].is_u64());
    }
    let pod = Pod::flat().template(r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W"}}]}}"#);
    assert_eq!(pod.sh("exit 0").status, 64);
    assert_eq!(record(&pod)["reason"], "output lost");
}

#[test]
fn it_is_there_before_the_exit_code_and_only_of_this_run() {
    let pod = Pod::flat();
    let running = pod.start_ready("touch $W/ready; until [ -e $W/go ]; do sleep 0.02; done");
    assert_eq!(pod.text("report.json"), None);
    std::fs::write(pod.work.join("go"), "").unwrap();
    until("the exit code", || pod.exit_code().is_some());
    assert_eq!(record(&pod)["exitCode"], 0);
    running.finish();
    let running = pod.start_ready("rm -f $W/go; touch $W/ready2; exec sleep 600");
    until("the second run", || pod.work.join("ready2").exists());
    assert_eq!((pod.text("report.json"), pod.exit_code()), (None, None));
    running.kill(15);
    running.finish();
    // A record without an exit code is removed, too.
    let pod = Pod::flat();
    pod.put("report.json", "old");
    let running = pod.start_ready("touch $W/ready; exec sleep 600");
    assert_eq!(pod.text("report.json"), None);
    running.kill(15);
    running.finish();
    // A command line of any length and any bytes.
    let pod = Pod::flat();
    let long = "x\"\\\n\u{7f}".repeat(20_000);
    assert_eq!(pod.run(&["--", "true", &long]).status, 0);
    assert_eq!(record(&pod)["command"][1].as_str(), Some(&long[..]));
}

#[test]
fn wait_includes_it() {
    let pod = Pod::new();
    assert_eq!(pod.sh("exit 4").status, 4);
    let value: Value = serde_json::from_str(&pod.run(&["wait", "--json"]).stdout).unwrap();
    assert_eq!((value["exitCode"].as_u64(), &value["reports"]["main"]), (Some(4), &record(&pod)));
    // Another container may leave rubbish in its place.
    for rubbish in ["", "{", "[1]", "{}{}", "\u{0}"] {
        pod.put("ctr/main/report.json", rubbish);
        let value: Value = serde_json::from_str(&pod.run(&["wait", "--json"]).stdout).unwrap();
        assert_eq!((value["exitCode"].as_u64(), value.get("reports")), (Some(4), None), "{rubbish:?}");
    }
}
