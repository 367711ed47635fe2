//! Output parameters and artifacts (docs/protocol.md, "Main" and "Artifacts"): which files emissary saves, under which paths, and what it does if one is
//! missing or cannot be saved.

use core::time::Duration;

use crate::pod::{Pod, has_program, is_root, may_unshare};

fn parameter(name: &str) -> String {
    format!("{{\"outputs\":{{\"parameters\":[{{\"name\":\"p\",\"valueFrom\":{{\"path\":\"$W/{name}\"}}}}]}}}}")
}

fn artifact(name: &str) -> String {
    format!("{{\"outputs\":{{\"artifacts\":[{{\"name\":\"a\",\"path\":\"$W/{name}\"}}]}}}}")
}

/// Runs a script and returns the entries of the archive of `$W/o`.
fn archived(script: &str) -> Vec<(String, Vec<u8>)> {
    let pod = Pod::new().template(&artifact("o"));
    let outcome = pod.sh(script);
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (0, Some("0")), "{outcome:?}");
    pod.entries(&pod.output("artifacts", "o.tgz"))
}

#[test]
fn a_parameter_byte_for_byte() {
    let pod = Pod::new().template(&parameter("p"));
    assert_eq!(pod.sh("printf 'a\\n\\nb\\n\\n' >$W/p").status, 0);
    let at = pod.output("parameters", "p");
    assert_eq!(pod.text(&at).as_deref(), Some("a\n\nb\n\n"));
    assert_eq!((pod.mode(&at), pod.mode("outputs"), pod.mode("outputs/parameters")), (0o666, 0o755, 0o755));
}

#[test]
fn missing_ones_are_warnings() {
    let template = "{\"outputs\":{\"parameters\":[{\"name\":\"p\",\"valueFrom\":{\"path\":\"$W/no\"}}],\"artifacts\":[{\"name\":\"a\",\"path\":\"$W/no\"}]}}";
    let pod = Pod::new().template(template);
    let outcome = pod.sh("exit 0");
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (0, Some("0")));
    let path = pod.work.join("no");
    let want = ["parameter 'p'", "artifact 'a'"].map(|what| format!("emissary: warning: {what}: {} is missing\n", path.display())).concat();
    assert_eq!(outcome.stderr, want);
    assert!(!pod.shared.join("outputs").exists());
}

#[test]
fn an_optional_output_that_is_missing_gives_no_warning() {
    let template = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/no","default":""}},{"name":"q","valueFrom":{"path":"$W/no","default":null}}],
        "artifacts":[{"name":"a","path":"$W/no","optional":true},{"name":"b","path":"$W/no","optional":false},{"name":"c","path":"$W/no","optional":"yes"}]}}"#;
    let outcome = Pod::new().template(template).sh("exit 0");
    let warned: Vec<_> = outcome.stderr.lines().filter_map(|line| line.split('\'').nth(1)).collect();
    assert_eq!((outcome.status, warned), (0, vec!["q", "b", "c"]), "{outcome:?}");
}

#[test]
fn outputs_are_saved_when_the_command_fails() {
    let template = "{\"outputs\":{\"parameters\":[{\"name\":\"p\",\"valueFrom\":{\"path\":\"$W/o\"}}],\"artifacts\":[{\"name\":\"a\",\"path\":\"$W/o\"}]}}";
    let pod = Pod::new().template(template);
    assert_eq!((pod.sh("echo v >$W/o; exit 7").status, pod.exit_code().as_deref()), (7, Some("7")));
    assert_eq!(pod.text(&pod.output("parameters", "o")).as_deref(), Some("v\n"));
    assert_eq!(pod.entries(&pod.output("artifacts", "o.tgz")), [("o".into(), b"v\n".to_vec())]);
}

#[test]
fn a_folder_with_everything_in_it() {
    let script = "mkdir -p $W/o/sub $W/o/empty; echo a >$W/o/a; : >$W/o/none; echo b >$W/o/sub/b; ln -s a $W/o/l; ln -s nowhere $W/o/dang; \
                  ln -s ../o $W/o/loop; mkfifo $W/o/p; chmod 4640 $W/o/a";
    let pod = Pod::new().template(&artifact("o"));
    assert_eq!(pod.sh(script).status, 0);
    let at = pod.output("artifacts", "o.tgz");
    assert_eq!(pod.names(&at), ["o", "o/a", "o/dang", "o/empty", "o/l", "o/loop", "o/none", "o/p", "o/sub", "o/sub/b"]);
    if has_program("tar") {
        let listing = std::process::Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(pod.shared.join(&at)).output().unwrap();
        assert!(listing.status.success(), "{listing:?}");
        let listing = String::from_utf8(listing.stdout).unwrap();
        for want in ["-rwSr----- ", " o/dang -> nowhere", " o/loop -> ../o", " o/l -> a"] {
            assert!(listing.contains(want), "{want:?} not in {listing}");
        }
        assert!(listing.lines().any(|line| line.starts_with("prw") && line.ends_with(" o/p")), "{listing}");
    }
}

#[test]
fn trailing_slashes_are_the_same_name() {
    for path in ["o/", "o//", "o"] {
        let pod = Pod::new().template(&artifact(path));
        assert_eq!(pod.sh("mkdir $W/o; echo x >$W/o/x").status, 0);
        assert_eq!(pod.names(&pod.output("artifacts", "o.tgz")), ["o", "o/x"]);
    }
}

#[test]
fn a_path_that_is_a_link_is_followed() {
    assert_eq!(archived("mkdir $W/d; echo x >$W/d/x; ln -s d $W/o"), [("o".into(), vec![]), ("o/x".into(), b"x\n".to_vec())]);
    assert_eq!(archived("echo x >$W/d; ln -s d $W/o"), [("o".into(), b"x\n".to_vec())]);
}

#[test]
fn a_socket_is_skipped() {
    let pod = Pod::new().template(&artifact("o"));
    std::fs::create_dir(pod.work.join("o")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(pod.work.join("o/s")).unwrap();
    let outcome = pod.sh("echo a >$W/o/a");
    assert_eq!((outcome.status, pod.names(&pod.output("artifacts", "o.tgz"))), (0, vec!["o".into(), "o/a".into()]));
    assert!(outcome.stderr.contains("/o/s is a socket, which an archive cannot hold: skipped"), "{outcome:?}");
}

#[test]
fn long_and_strange_names() {
    let deep = vec!["n".repeat(90); 4].join("/");
    let script = format!(
        "mkdir -p $W/o/{deep}; printf deep >$W/o/{deep}/{}; printf u >$W/o/naïve-ключ; printf b >\"$W/o/$(printf '\\377')\"",
        "f".repeat(200)
    );
    let entries = archived(&script);
    assert!(entries.contains(&(format!("o/{deep}/{}", "f".repeat(200)), b"deep".to_vec())), "{entries:?}");
    assert!(entries.contains(&("o/naïve-ключ".into(), b"u".to_vec())), "{entries:?}");
    assert!(entries.contains(&("o/\u{fffd}".into(), b"b".to_vec())), "{entries:?}");
}

#[test]
fn a_path_on_a_mount_is_left_alone() {
    let template = r#"{"container":{"volumeMounts":[{"name":"v","mountPath":"$W/vol"}]},"outputs":{
        "parameters":[{"name":"p","valueFrom":{"path":"$W/vol/p"}}],
        "artifacts":[{"name":"a","path":"$W/vol/a"},{"name":"b","path":"$W/vol2"}]}}"#;
    let pod = Pod::new().template(template);
    assert_eq!(pod.sh("mkdir $W/vol; echo p >$W/vol/p; echo a >$W/vol/a; echo b >$W/vol2").status, 0);
    assert!(!pod.shared.join(pod.output("parameters", "vol")).exists());
    assert!(!pod.shared.join(pod.output("artifacts", "vol/a.tgz")).exists());
    assert_eq!(pod.entries(&pod.output("artifacts", "vol2.tgz")), [("vol2".into(), b"b\n".to_vec())]);
}

#[test]
fn a_mount_at_an_empty_or_dot_path_holds_nothing() {
    for mount in ["", ".", "./", "sub/..", ".."] {
        let pod =
            Pod::new().template(&format!("{{\"container\":{{\"volumeMounts\":[{{\"mountPath\":\"{mount}\"}}]}},{}", &parameter("p")[1..]));
        assert_eq!(pod.sh("echo v >$W/p").status, 0);
        assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("v\n"), "{mount}");
        let report: serde_json::Value = serde_json::from_str(&pod.run(&["wait", "--json"]).stdout).unwrap();
        assert_eq!(report["parameters"][0]["value"], "v", "{mount}");
    }
}

#[test]
fn escapes_in_a_path() {
    let pod = Pod::new().template(&parameter("a \\u0026 \\u00e9"));
    assert_eq!(pod.sh("echo v >\"$W/a & é\"").status, 0);
    assert_eq!(pod.text(&pod.output("parameters", "a & é")).as_deref(), Some("v\n"));
}

#[test]
fn two_thousand_parameters() {
    let rows: Vec<String> =
        (0..2000).map(|i| format!("{{\"name\":\"p{i}\",\"valueFrom\":{{\"path\":\"$W/o/{i}\",\"default\":null}},\"x\":[1]}}")).collect();
    let pod = Pod::new().template(&format!("{{\"outputs\":{{\"exitCode\":\"0\",\"parameters\":[{}]}}}}", rows.join(",")));
    assert_eq!(pod.sh("mkdir $W/o; for i in $(seq 0 1999); do echo $i >$W/o/$i; done").status, 0);
    for i in [0, 1, 999, 1999] {
        assert_eq!(pod.text(&pod.output("parameters", &format!("o/{i}"))), Some(format!("{i}\n")));
    }
}

#[test]
fn sixteen_thousand_outputs_a_hundred_mounts_and_a_long_script() {
    const COUNT: usize = 16_000;
    // The run takes a second or two if emissary walks each object once. It took more than two minutes when each output searched the whole template.
    const DEADLINE: Duration = Duration::from_secs(30);
    // Every second output lies on a mount. Of the others, only the last one exists.
    let path = |at: usize| if at.is_multiple_of(2) { format!("$W/mount-{}/p{at}", at / 2 % 100) } else { format!("$W/p{at}") };
    let rows: Vec<String> =
        (0..COUNT).map(|at| format!("{{\"name\":\"p{at}\",\"valueFrom\":{{\"path\":\"{}\",\"default\":\"d{at}\"}}}}", path(at))).collect();
    let mounts: Vec<String> = (0..100).map(|at| format!("{{\"name\":\"v{at}\",\"mountPath\":\"$W/mount-{at}\"}}")).collect();
    let template = format!(
        "{{\"script\":{{\"source\":\"{}\",\"volumeMounts\":[{}]}},\"outputs\":{{\"parameters\":[{}]}}}}",
        "echo line\\n".repeat(4_000_000 / 11),
        mounts.join(","),
        rows.join(",")
    );
    let pod = Pod::new().template(&template);
    let outcome = pod.sh("mkdir $W/mount-0 $W/mount-99; echo mount >$W/mount-0/p0; echo other >$W/mount-99/p198; echo last >$W/p15999");
    assert_eq!(outcome.status, 0);
    // Each parameter has a default, so emissary prints no warning.
    assert_eq!(outcome.stderr, "");
    assert!(outcome.took < DEADLINE, "run took {:?}", outcome.took);
    assert_eq!(pod.text(&pod.output("parameters", "p15999")).as_deref(), Some("last\n"));
    assert!(!pod.shared.join(pod.output("parameters", "mount-0")).exists());
    let outcome = pod.run(&["wait", "--json"]);
    assert!(outcome.took < DEADLINE, "wait took {:?}", outcome.took);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let parameters = report["parameters"].as_array().unwrap();
    assert_eq!(parameters.len(), COUNT);
    for (at, want) in [(0, "mount"), (198, "other"), (1, "d1"), (2, "d2"), (15_998, "d15998"), (15_999, "last")] {
        assert_eq!(parameters[at]["value"], want, "{at}");
    }
}

#[test]
fn only_from_main() {
    let template = format!("{{\"containerSet\":{{\"containers\":[{{\"name\":\"a\"}},{{\"name\":\"main\"}}]}},{}", &parameter("p")[1..]);
    let pod = Pod::named("a").template(&template);
    assert_eq!(pod.sh("echo v >$W/p").status, 0);
    assert!(!pod.shared.join("outputs").exists());
}

#[test]
fn an_output_without_a_name_is_saved_by_its_path() {
    let template = r#"{"outputs":{"parameters":[{"valueFrom":{"path":"$W/p"}},{"name":"d","valueFrom":{"path":"$W/d","default":1.50}},
        {"name":"b","valueFrom":{"path":"$W/b","default":true}},{"name":"none","valueFrom":{"path":""}},null],"artifacts":[{"path":"$W/a"},{"path":""}]}}"#;
    for pod in [Pod::new(), Pod::flat()] {
        let pod = pod.template(template);
        assert_eq!(pod.sh("echo v >$W/p; echo a >$W/a").status, 0);
        assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("v\n"));
        assert_eq!(pod.names(&pod.output("artifacts", "a.tgz")), ["a"]);
        let outcome = pod.run(&["wait", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        let values: Vec<_> = report["parameters"].as_array().unwrap().iter().map(|row| (&row["name"], &row["value"])).collect();
        assert_eq!(values, [(&"".into(), &"v".into()), (&"d".into(), &"1.50".into()), (&"b".into(), &"true".into())]);
        assert_eq!(report["artifacts"].as_array().unwrap().len(), 1);
        assert!(report["artifacts"][0]["bytes"].is_u64(), "{report}");
    }
    let pod = Pod::new().template(r#"{"outputs":{"parameters":[{"valueFrom":{"path":"$W/no"}}]}}"#);
    let outcome = pod.sh("exit 0");
    let path = pod.work.join("no");
    assert_eq!(outcome.stderr, format!("emissary: warning: parameter '{0}': {0} is missing\n", path.display()));
}

#[test]
fn a_compression_level_is_a_hint() {
    let artifact =
        |name: &str, level: &str| format!(r#"{{"name":"{name}","path":"$W/{name}","archive":{{"tar":{{"compressionLevel":{level}}}}}}}"#);
    let rows =
        [("a", "12"), ("b", "-7"), ("c", "-2"), ("d", "-1"), ("e", "2.5"), ("f", "\"9\"")].map(|(name, level)| artifact(name, level));
    let template = format!(r#"{{"inputs":{{"artifacts":[{}]}},"outputs":{{"artifacts":[{}]}}}}"#, artifact("in", "99"), rows.join(","));
    let pod = Pod::new().template(&template);
    let outcome = pod.sh("for i in a b c d e f; do head -c 200000 /dev/zero >$W/$i; done");
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (0, Some("0")), "{outcome:?}");
    for name in ["a", "b", "c", "d", "e", "f"] {
        assert_eq!(pod.entries(&pod.output("artifacts", &format!("{name}.tgz")))[0].1.len(), 200_000);
    }
    let warned: Vec<_> = outcome.stderr.lines().map(|line| line.trim_start_matches("emissary: warning: ")).collect();
    assert_eq!(
        warned,
        [
            "artifact 'a': compressionLevel: 12 is not a whole number from -2 to 9: 9 is taken",
            "artifact 'b': compressionLevel: -7 is not a whole number from -2 to 9: the default is taken",
            "artifact 'e': compressionLevel: 2.5 is not a whole number from -2 to 9: the default is taken",
            "artifact 'f': compressionLevel: what is given is not a whole number from -2 to 9: the default is taken",
        ]
    );
}

#[test]
fn the_working_directory_is_an_artifact() {
    for path in [".", "./", "sub/..", "./sub/../."] {
        for pod in [Pod::new(), Pod::flat()] {
            let pod = pod.template(&format!("{{\"outputs\":{{\"artifacts\":[{{\"name\":\"a\",\"path\":\"{path}\"}}]}}}}"));
            let outcome = pod.sh("mkdir sub; echo x >x");
            assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{path}");
            // Argo's wait container looks for the archive under this name.
            assert_eq!(pod.names("outputs/artifacts/..tgz"), ["work", "work/sub", "work/x"], "{path}");
            let report: serde_json::Value = serde_json::from_str(&pod.run(&["wait", "--json"]).stdout).unwrap();
            assert_eq!(report["artifacts"][0]["file"], pod.shared.join("outputs/artifacts/..tgz").to_str().unwrap());
        }
    }
    // The root of the file system cannot be an output.
    let pod = Pod::new().template("{\"outputs\":{\"artifacts\":[{\"name\":\"a\",\"path\":\".\"}]}}");
    let outcome = pod.via(&["sh", "-c", "cd /; exec \"$@\"", "sh"]).sh("true");
    assert!(outcome.status == 64 && outcome.stderr.contains("cannot archive .: it has no name"), "{outcome:?}");
    // A folder cannot be a parameter.
    let pod = Pod::new().template("{\"outputs\":{\"parameters\":[{\"name\":\"p\",\"valueFrom\":{\"path\":\".\"}}]}}");
    assert_eq!(pod.sh("true").status, 64);
}

#[test]
fn a_source_path_is_cleaned_like_the_path_it_is_saved_under() {
    let template = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/link/../f"}}],
        "artifacts":[{"name":"a","path":"$W/f/."},{"name":"b","path":"link/../f/x/.."},{"name":"c","path":"../work/./f"}]}}"#;
    let pod = Pod::new().template(template);
    let outcome = pod.sh("mkdir -p other/sub; echo other >other/f; ln -s other/sub link; echo mine >f");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    assert_eq!(pod.text(&pod.output("parameters", "f")).as_deref(), Some("mine\n"));
    for at in [pod.output("artifacts", "f.tgz"), "outputs/artifacts/f.tgz".into(), "outputs/artifacts/work/f.tgz".into()] {
        assert_eq!(pod.entries(&at), [("f".into(), b"mine\n".to_vec())], "{at}");
    }
}

#[test]
fn an_output_that_cannot_be_saved_is_64_unless_the_command_failed() {
    for (template, script, want) in [
        (parameter("o"), "mkdir $W/o", "o: is a directory"),
        (parameter("o"), "mkfifo $W/o", "it is no regular file"),
        (
            "{\"outputs\":{\"artifacts\":[{\"name\":\"a\",\"path\":\"/dev/null\"}]}}".into(),
            "true",
            "/dev/null: it is neither a file nor a folder",
        ),
        (parameter("o\\u0000x"), "true", "has a NUL"),
        ("{\"outputs\":{\"artifacts\":[{\"name\":\"a\",\"path\":\"/\"}]}}".into(), "true", "names no file"),
    ] {
        let pod = Pod::new().template(&template);
        let outcome = pod.sh(script);
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (64, Some("64")), "{outcome:?}");
        assert!(outcome.stderr.contains(want), "{want:?} not in {outcome:?}");
        let pod = Pod::new().template(&template);
        assert_eq!(pod.sh(&format!("{script}; exit 7")).status, 7);
    }
}

#[test]
fn an_unreadable_file_is_named_and_the_other_outputs_are_saved() {
    if !is_root("reading as another user") {
        return;
    }
    let template = r#"{"outputs":{"artifacts":[{"name":"a","path":"$W/o"},{"name":"b","path":"$W/fine"}]}}"#;
    let pod = Pod::new().template(template).via(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    let outcome = pod.sh("mkdir $W/o; echo s >$W/o/s; chmod 0 $W/o/s; echo f >$W/fine");
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (64, Some("64")));
    assert!(outcome.stderr.contains("/work/o/s: permission denied"), "{outcome:?}");
    assert!(!pod.shared.join(pod.output("artifacts", "o.tgz")).exists());
    assert_eq!(pod.names(&pod.output("artifacts", "fine.tgz")), ["fine"]);
    let left: Vec<_> =
        std::fs::read_dir(pod.shared.join(pod.output("artifacts", ""))).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["fine.tgz"]);
}

/// A shell command that fills `$W/o` with two random letters. The search of level 9 takes long on this text.
pub(crate) fn two_letters(bytes: usize) -> String {
    format!("head -c {bytes} /dev/urandom | LC_ALL=C tr '\\000-\\177' a | LC_ALL=C tr '\\200-\\377' b >$W/o")
}

/// A template with the artifact `$W/o` at level 9.
pub(crate) fn slow_artifact() -> &'static str {
    r#"{"outputs":{"artifacts":[{"name":"a","path":"$W/o","archive":{"tar":{"compressionLevel":9}}}]}}"#
}

/// Archives `$W/o`, a file of 6 MB that takes a while, and changes the file when the archive has begun. Returns the contents in the archive, and stderr.
fn changed_meanwhile(change: impl Fn(&std::fs::File)) -> (Vec<u8>, String) {
    let pod = Pod::new().template(slow_artifact());
    let running = pod.start(&["--", "sh", "-c", &two_letters(6_000_000)]);
    let folder = pod.shared.join(pod.output("artifacts", ""));
    // The draft has its first bytes, so emissary has written the entry's header.
    let begun = || {
        std::fs::read_dir(&folder).is_ok_and(|entries| entries.flatten().any(|entry| entry.metadata().is_ok_and(|draft| draft.len() > 0)))
    };
    crate::pod::until("the archive to begin", begun);
    change(&std::fs::File::options().write(true).open(pod.work.join("o")).unwrap());
    let outcome = running.finish();
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (0, Some("0")), "{outcome:?}");
    let mut entries = pod.entries(&pod.output("artifacts", "o.tgz"));
    assert_eq!(entries.len(), 1);
    (entries.remove(0).1, outcome.stderr)
}

#[test]
fn a_file_that_grows_is_cut() {
    let (contents, stderr) = changed_meanwhile(|file| file.set_len(7_000_000).unwrap());
    assert_eq!(contents.len(), 6_000_000);
    assert!(stderr.contains("/work/o became longer while it was archived: cut at its first size"), "{stderr}");
}

#[test]
fn a_file_with_size_zero_is_read_all_the_same() {
    let template = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"/proc/version"}}],
        "artifacts":[{"name":"a","path":"/proc/version"},{"name":"b","path":"/proc/sys/kernel/random"}]}}"#;
    let pod = Pod::new().template(template);
    let outcome = pod.sh("true");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let version = std::fs::read("/proc/version").unwrap();
    assert_eq!(pod.text("outputs/parameters/proc/version").unwrap().as_bytes(), version);
    assert_eq!(pod.entries("outputs/artifacts/proc/version.tgz"), [("version".into(), version)]);
    let entries = pod.entries("outputs/artifacts/proc/sys/kernel/random.tgz");
    let boot_id = entries.iter().find(|(name, _)| name == "random/boot_id").unwrap();
    assert_eq!(boot_id.1, std::fs::read("/proc/sys/kernel/random/boot_id").unwrap());
    // Emissary warns of a file that it cannot read, and keeps the other parts of the artifact.
    let pod = Pod::new().template(r#"{"outputs":{"artifacts":[{"name":"m","path":"/proc/self/mem"}]}}"#);
    let outcome = pod.sh("true");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("/proc/self/mem says that it is empty: cannot read /proc/self/mem: "), "{outcome:?}");
    assert_eq!(pod.entries("outputs/artifacts/proc/self/mem.tgz"), [("mem".into(), vec![])]);
}

#[test]
fn a_file_that_shrinks_is_filled_up() {
    let (contents, stderr) = changed_meanwhile(|file| file.set_len(1_000).unwrap());
    assert_eq!(contents.len(), 6_000_000);
    assert!(contents.ends_with(&[0; 1_000]) && contents[..1_000] != [0; 1_000]);
    assert!(stderr.contains("/work/o became shorter while it was archived: filled up with zeros"), "{stderr}");
}

#[test]
fn a_full_disk_leaves_no_partial_archive() {
    if !may_unshare("--mount") {
        return;
    }
    let pod = Pod::new().template(&artifact("o"));
    let mount = format!(
        "mkdir {0}/outputs && mount -t tmpfs -o size=1m tmpfs {0}/outputs && \"$@\"; echo status $?; find {0}/outputs -type f",
        pod.shared.display()
    );
    let pod = pod.via(&["unshare", "--mount", "sh", "-c", &mount, "sh"]);
    let outcome = pod.sh("head -c 5000000 /dev/urandom >$W/o; exit 0");
    assert_eq!((outcome.stdout.as_str(), pod.exit_code().as_deref()), ("status 64\n", Some("64")));
    assert!(outcome.stderr.contains("o.tgz: no space left on device"), "{outcome:?}");
}

#[test]
fn a_link_on_the_volume_leads_nowhere() {
    let pod = Pod::new().template(&parameter("p"));
    let outside = pod.shared.with_file_name("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, pod.shared.join("outputs")).unwrap();
    let outcome = pod.sh("echo v >$W/p");
    assert_eq!(outcome.status, 64);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn levels_and_unpacked_artifacts() {
    let template = r#"{"outputs":{"artifacts":[{"name":"n","path":"$W/n","archive":{"none":{}}},
        {"name":"0","path":"$W/0","archive":{"tar":{"compressionLevel":0}}},{"name":"9","path":"$W/9","archive":{"tar":{"compressionLevel":9}}}]}}"#;
    let pod = Pod::new().template(template);
    assert_eq!(pod.sh("for i in n 0 9; do head -c 200000 /dev/zero >$W/$i; done").status, 0);
    let size = |name: &str| std::fs::metadata(pod.shared.join(pod.output("artifacts", name))).unwrap().len();
    assert!(size("n.tgz") > 200_000 && size("0.tgz") > 200_000 && size("9.tgz") < 2_000);
    assert_eq!(pod.entries(&pod.output("artifacts", "n.tgz"))[0].1.len(), 200_000);
}

#[test]
fn a_file_with_a_trailing_slash_is_the_same_output() {
    let template = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/o/"}}],"artifacts":[{"name":"a","path":"$W/o//"}]}}"#;
    let pod = Pod::new().template(template);
    let outcome = pod.sh("echo v >$W/o");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    assert_eq!(pod.text(&pod.output("parameters", "o")).as_deref(), Some("v\n"));
    assert_eq!(pod.names(&pod.output("artifacts", "o.tgz")), ["o"]);
}

#[test]
fn a_relative_path_belongs_to_the_working_directory() {
    let template =
        r#"{"container":{"volumeMounts":[{"mountPath":"/data"}]},"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"data/x"}}]}}"#;
    let pod = Pod::new().template(template);
    assert_eq!(pod.sh("mkdir data; echo v >data/x").status, 0);
    assert_eq!(pod.text("outputs/parameters/data/x").as_deref(), Some("v\n"));
}

#[test]
fn a_thousand_levels_with_few_descriptors() {
    let pod = Pod::new().template(&artifact("o")).via(&["sh", "-c", "ulimit -n 40; exec \"$@\"", "sh"]);
    let script = "mkdir $W/o && cd $W/o && for i in $(seq 1000); do echo $i >f; mkdir d z; cd -P d; done";
    assert_eq!(pod.sh(script).status, 0);
    let names = pod.names(&pod.output("artifacts", "o.tgz"));
    assert_eq!(names.len(), 3_001);
    assert_eq!(names.iter().map(|name| name.matches('/').count()).max(), Some(1_000));
    // The entries are sorted. Those in a folder come before the next name beside the folder.
    assert_eq!(&names[..3], ["o", "o/d", "o/d/d"]);
    assert_eq!(&names[2_999..], ["o/f", "o/z"]);
}
