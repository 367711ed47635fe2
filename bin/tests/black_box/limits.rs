//! Runs with few resources or with refused system calls (docs/protocol.md, "Main" and "Wait"). The limits are on descriptors, processes, memory, disk, CPUs,
//! /proc, /dev, /tmp and the standard streams. Each run must still leave its exit code and outputs, or name the cause.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::pod::{Pod, has_program, is_root, may_unshare};

const OUTPUTS: &str = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/p"}}],"artifacts":[{"name":"a","path":"$W/o"}]}}"#;
const SCRIPT: &str = "mkdir -p $W/o/a/b/c; echo x >$W/o/a/b/c/f; echo v >$W/p; exit 3";

/// A limit of sixteen descriptors. bash first closes descriptors that this test has inherited, for example from a shell, because they would count.
const SIXTEEN_DESCRIPTORS: [&str; 4] =
    ["bash", "-c", "for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd < 3)) || exec {fd}>&-; done; ulimit -n 16; exec \"$@\"", "bash"];

/// Runs the command and asserts that its exit code and outputs are there.
fn all_is_well(pod: &Pod) {
    let outcome = pod.sh(SCRIPT);
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")), "{outcome:?}");
    assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("v\n"));
    assert_eq!(pod.names(&pod.output("artifacts", "o.tgz")), ["o", "o/a", "o/a/b", "o/a/b/c", "o/a/b/c/f"]);
}

/// Whether the binary under test is static. A C library that is linked at run time makes other system calls and fails if the kernel refuses them.
fn is_static() -> bool {
    let is_static = std::env::var_os("EMISSARY_BIN").is_some();
    if !is_static {
        eprintln!("the binary under test is not the static one: not tested");
    }
    is_static
}

#[test]
fn sixteen_descriptors() {
    all_is_well(&Pod::new().capturing().template(OUTPUTS).via(&SIXTEEN_DESCRIPTORS));
}

#[test]
fn sixteen_descriptors_and_a_deep_tree() {
    let pod = Pod::new().capturing().template(OUTPUTS).via(&SIXTEEN_DESCRIPTORS);
    // The command runs longer than 20 ms, so that emissary also has a descriptor for the watch.
    let outcome = pod
        .sh("mkdir -p $W/o/1/2/3/4/5/6/7/8/9; for d in $(find $W/o -type d); do echo x >$d/f; echo y >$d/z; done; echo v >$W/p; sleep 0.1");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    // The tree has ten folders with two files each. `z` sorts after the folder below, so the walk meets `z` on the way back.
    let names = pod.names(&pod.output("artifacts", "o.tgz"));
    assert!(names.len() == 30 && names.last().is_some_and(|name| name == "o/z"), "{names:?}");
}

#[test]
fn no_process_can_be_started() {
    if !is_root("another user") || !has_program("setpriv") || !has_program("prlimit") {
        return;
    }
    let pod = Pod::new();
    for folder in [&pod.shared, &pod.work] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let pod = pod.via(&["setpriv", "--reuid=54321", "--clear-groups", "prlimit", "--nproc=0"]);
    // The binary of a developer's build may lie in a folder that this user cannot enter.
    let outcome = pod.run(&["--", "true"]);
    if outcome.stderr.contains("Permission denied") && !outcome.stderr.contains("emissary: ") {
        eprintln!("user 54321 cannot run the binary: not tested");
        return;
    }
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (64, Some("64")), "{outcome:?}");
    assert!(outcome.stderr.contains("resource temporarily unavailable"), "{outcome:?}");
}

/// Makes a control group of version 1 or 2 with these limits. `None` if that fails.
fn group(controller: &str, limits: &[(&str, &str)]) -> Option<std::path::PathBuf> {
    let v1 = Path::new("/sys/fs/cgroup").join(controller);
    let base = if v1.is_dir() { v1 } else { "/sys/fs/cgroup".into() };
    let group = base.join(format!("emissary-test-{}-{}", std::process::id(), limits[0].1.len()));
    std::fs::create_dir(&group).ok()?;
    // Each version has its own file names. At least one of the files must exist.
    let set = limits.iter().filter(|(file, value)| group.join(file).exists() && std::fs::write(group.join(file), value).is_ok()).count();
    if set == 0 {
        let _ = std::fs::remove_dir(&group);
        return None;
    }
    Some(group)
}

#[test]
fn a_command_that_is_killed_for_its_memory() {
    let Some(group) = group("memory", &[("memory.limit_in_bytes", "4194304"), ("memory.max", "4194304"), ("memory.swap.max", "0")]) else {
        eprintln!("no memory cgroup can be made: not tested");
        return;
    };
    let pod = Pod::new().capturing();
    // The command takes all memory that it can get, so it runs only inside the group.
    let enter = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", group.display());
    let pod = pod.via(&["sh", "-c", &enter, "sh"]);
    // The command grows until the kernel kills it. Emissary goes on with the memory that is left.
    let outcome = pod.sh("x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done");
    let _ = std::fs::remove_dir(&group);
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (137, Some("137")), "{outcome:?}");
}

#[test]
fn one_cpu_by_quota_is_one_cpu() {
    if !has_program("strace") {
        return;
    }
    let Some(group) = group("cpu", &[("cpu.cfs_quota_us", "100000"), ("cpu.max", "100000 100000")]) else {
        eprintln!("no cpu cgroup can be made: not tested");
        return;
    };
    let pod = Pod::new().template(r#"{"outputs":{"artifacts":[{"name":"a","path":"$W/o"}]}}"#);
    std::fs::write(pod.work.join("o"), vec![b'a'; 1_000_000]).unwrap();
    let trace = pod.work.with_file_name("trace");
    let enter = format!("echo $$ >{}/cgroup.procs && exec strace -f -qq -o {} -e trace=clone \"$@\"", group.display(), trace.display());
    let pod = pod.via(&["sh", "-c", &enter, "sh"]);
    let outcome = pod.run(&["--", "true"]);
    let _ = std::fs::remove_dir(&group);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(!std::fs::read_to_string(trace).unwrap().contains("CLONE_THREAD"));
}

#[test]
fn a_volume_that_is_full() {
    if !may_unshare("--mount") {
        return;
    }
    let pod = Pod::new();
    // The volume has its folders and the template, but no room for another byte.
    let fill = format!(
        "mount -t tmpfs -o size=64k tmpfs {0} && mkdir -p {0}/ctr/main && echo '{{}}' >{0}/template && : >{0}/.ready; \
         head -c 1000000 /dev/zero >{0}/filler 2>/dev/null; \"$@\"; echo status $?; cat {0}/ctr/main/exitcode",
        pod.shared.display()
    );
    let pod = pod.via(&["unshare", "--mount", "sh", "-c", &fill, "sh"]);
    let outcome = pod.sh("exit 0");
    // Emissary cannot write the exit code, prints that, and does not end with 0.
    assert!(outcome.stdout.starts_with("status 64\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("exitcode: no space left on device"), "{outcome:?}");
    let kept = pod.sh("exit 7");
    assert!(kept.stdout.starts_with("status 7\n"), "{kept:?}");
}

#[test]
fn the_exit_code_of_an_earlier_run_does_not_outlive_a_full_volume() {
    if !may_unshare("--mount") {
        return;
    }
    let pod = Pod::new();
    // A first run leaves exit code 0. Then the volume is filled.
    let enter = format!(
        "mount -t tmpfs -o size=64k tmpfs {0} && mkdir -p {0}/ctr/main && echo '{{}}' >{0}/template && : >{0}/.ready; \"$1\" -- true || exit 99; \
         head -c 1000000 /dev/zero >{0}/filler 2>/dev/null; \"$@\"; echo status $?; cat {0}/ctr/main/exitcode",
        pod.shared.display()
    );
    let outcome = pod.via(&["unshare", "--mount", "sh", "-c", &enter, "sh"]).sh("exit 7");
    assert!(outcome.stdout == "status 7\n" || outcome.stdout == "status 7\n7", "{outcome:?}");
    assert!(outcome.stdout.ends_with('7') || outcome.stderr.contains("exitcode: no space left on device"), "{outcome:?}");
}

#[test]
fn a_system_with_nothing_in_it() {
    if !may_unshare("--mount") {
        return;
    }
    for (what, prepare) in [
        ("no /proc", "umount -l /proc"),
        ("an empty /dev", "mount -t tmpfs tmpfs /dev"),
        ("an empty /sys", "mount -t tmpfs tmpfs /sys"),
        ("everything read-only but the volume", "mount -o remount,bind,ro / /"),
    ] {
        let pod = Pod::new().capturing().template(OUTPUTS);
        let root = pod.shared.parent().unwrap().display().to_string();
        let enter = format!("mount --bind {root} {root} && mount --bind / / 2>/dev/null; {prepare} || exit 99; exec \"$@\"");
        let pod = pod.via(&["unshare", "--mount", "sh", "-c", &enter, "sh"]);
        let outcome = pod.sh(SCRIPT);
        if outcome.status == 99 {
            eprintln!("{what} is refused: not tested ({})", outcome.stderr);
            continue;
        }
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")), "{what}: {outcome:?}");
        assert_eq!(pod.names(&pod.output("artifacts", "o.tgz")).len(), 5, "{what}");
    }
}

#[test]
fn a_tmp_that_takes_no_file() {
    if !may_unshare("--mount") {
        return;
    }
    let pod = Pod::new().capturing().template(OUTPUTS).env("ARGO_CONTAINER_ARGS_FILE", "$W/args");
    // The pod lies in /tmp itself. So the shell mounts the pod there again, over an empty /tmp that takes no other file.
    let root = pod.shared.parent().unwrap().display().to_string();
    let enter = format!(
        "mount --bind {root} /mnt && mount -t tmpfs tmpfs /tmp && mkdir -p {root} && mount --move /mnt {root} && cd {root}/work \
         && mount -o remount,ro /tmp && ! touch /tmp/x 2>/dev/null || exit 99; exec \"$@\""
    );
    let pod = pod.via(&["unshare", "--mount", "sh", "-c", &enter, "sh"]);
    // The file for a long argument goes to the volume.
    pod.script("args", &format!("[\"{}\"]", "y".repeat(200_000)), 0o644);
    let outcome = pod.sh(&format!("f=${{0#@}}; case $f in {root}/argo/*) wc -c <$f >$W/p;; esac; mkdir -p $W/o/a; exit 3"));
    if outcome.status == 99 {
        eprintln!("a mount is refused: not tested ({})", outcome.stderr);
        return;
    }
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")), "{outcome:?}");
    assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("200000\n"));
    assert_eq!(pod.names(&pod.output("artifacts", "o.tgz")), ["o", "o/a"]);
}

#[test]
fn standard_streams_closed_in_all_eight_ways() {
    for closed in 0..8_u8 {
        let close = [(1, "<&-"), (2, ">&-"), (4, "2>&-")].iter().filter(|(bit, _)| closed & bit != 0).map(|(_, word)| *word);
        let enter = format!("exec \"$@\" {}", close.collect::<Vec<_>>().join(" "));
        let pod = Pod::new().capturing().template(OUTPUTS).via(&["sh", "-c", &enter, "sh"]);
        let outcome = pod.sh(SCRIPT);
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")), "{closed:03b}: {outcome:?}");
        assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("v\n"), "{closed:03b}");
        assert_eq!(pod.names(&pod.output("artifacts", "o.tgz")).len(), 5, "{closed:03b}");
    }
}

/// Makes every call of these names fail, as a sandbox does whose filter does not know them. With `-f` in `follow`, the command's own calls fail, too.
fn refusing(calls: &str, error: &str, follow: &[&str]) -> Vec<String> {
    let names = calls.split(',').map(|call| format!("?{call}")).collect::<Vec<_>>().join(",");
    let inject = format!("inject={names}:error={error}");
    let words = [&["strace", "-qqq", "-o", "/dev/null"], follow, &["-e", &inject]].concat();
    words.into_iter().map(str::to_string).collect()
}

/// Plays each call with both errors that a filter may return. An old libseccomp returns EPERM for a call that it does not know.
fn each_refusal(calls: &[&str], play: impl Fn(&str, &str) + Sync) {
    let rows: Vec<_> = calls.iter().flat_map(|call| ["EPERM", "ENOSYS"].map(|error| (*call, error))).collect();
    let next = core::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some((call, error)) = rows.get(next.fetch_add(1, core::sync::atomic::Ordering::Relaxed)) {
                    play(call, error);
                }
            });
        }
    });
}

fn via(pod: Pod, words: &[String]) -> Pod {
    pod.via(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whether strace is installed and can make a call fail.
fn may_refuse() -> bool {
    has_program("strace")
        && std::process::Command::new("strace").args(["-qqq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
}

/// Calls that emissary can replace by an older call, or can do without.
const DISPENSABLE: [&str; 25] = [
    "faccessat2",
    "signalfd4",
    "pipe2",
    "clone",
    "ppoll",
    "poll",
    "ppoll,poll",
    "wait4",
    "inotify_init1",
    "inotify_add_watch",
    "copy_file_range",
    "renameat",
    "fstat",
    "newfstatat",
    "pread64",
    "pwrite64",
    "ftruncate",
    "lseek",
    "ioctl",
    "fcntl,flock",
    "fchmod,fchown",
    "mremap",
    "mprotect,sched_getaffinity",
    "umask,prctl,dup2,unlinkat,rt_sigaction,munmap",
    "faccessat2,faccessat",
];

#[test]
fn a_sandbox_that_refuses_a_call() {
    if !is_static() {
        return;
    }
    if !may_refuse() {
        return;
    }
    each_refusal(&DISPENSABLE, |call, error| {
        // EPERM comes from an old filter in a pod, ENOSYS from an old kernel without a pod.
        let pod = if error == "EPERM" { Pod::new().capturing() } else { Pod::flat() };
        let pod = via(pod.template(OUTPUTS), &refusing(call, error, &[]));
        // The script runs longer than 20 ms, so emissary also tries to watch its own folder. The artifact is larger than one chunk.
        let outcome = pod.sh("sleep 0.03; mkdir -p $W/o/a; seq 1 40000 >$W/o/a/f; echo v >$W/p; echo out; exit 3");
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")), "{call} {error}: {outcome:?}");
        assert_eq!(outcome.stdout, "out\n", "{call} {error}: {outcome:?}");
        assert_eq!(pod.text(&pod.own("stdout")).as_deref(), Some("out\n"), "{call} {error}");
        assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("v\n"), "{call} {error}: {outcome:?}");
        let entries = pod.entries(&pod.output("artifacts", "o.tgz"));
        assert_eq!(
            entries.iter().map(|(name, bytes)| (&name[..], bytes.len())).collect::<Vec<_>>(),
            [("o", 0), ("o/a", 0), ("o/a/f", 228_894)]
        );
    });
}

#[test]
fn a_sandbox_that_refuses_a_call_of_the_commands_start() {
    if !is_static() {
        return;
    }
    if !may_refuse() {
        return;
    }
    each_refusal(&["setpgid", "prctl", "dup2", "dup2,dup3", "umask", "getppid", "setsid", "clone,vfork"], |call, error| {
        let pod = via(Pod::new().capturing(), &refusing(call, error, &["-f"]));
        let outcome = pod.sh("echo out; exit 3");
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")), "{call} {error}: {outcome:?}");
        assert_eq!((&outcome.stdout[..], pod.text(&pod.own("stdout")).as_deref()), ("out\n", Some("out\n")), "{call} {error}: {outcome:?}");
    });
}

#[test]
fn a_sandbox_that_refuses_a_call_of_another_role() {
    if !is_static() {
        return;
    }
    if !may_refuse() {
        return;
    }
    each_refusal(
        &[
            "faccessat2",
            "signalfd4",
            "ppoll",
            "inotify_init1",
            "inotify_add_watch",
            "copy_file_range",
            "renameat",
            "fstat",
            "newfstatat",
            "pread64",
        ],
        |call, error| {
            let words = refusing(call, error, &[]);
            let pod = via(Pod::new().no_template().env("ARGO_TEMPLATE", "{}"), &words);
            let outcome = pod.run(&["init"]);
            assert_eq!((outcome.status, pod.text("template").as_deref()), (0, Some("{}")), "init, {call} {error}: {outcome:?}");
            assert_eq!(std::fs::read(pod.shared.join("emissary")).unwrap(), std::fs::read(crate::pod::binary()).unwrap(), "{call} {error}");
            let outcome = pod.run(&["signal", "TERM"]);
            assert_eq!((outcome.status, pod.text(&pod.own("signal")).as_deref()), (0, Some("15")), "signal, {call} {error}: {outcome:?}");
            for follow in [&["wait"][..], &["wait", "--follow"]] {
                let pod = via(Pod::new(), &words);
                let running = pod.start(follow);
                pod.put("ctr/main/combined", "line\n");
                pod.put("ctr/main/exitcode", "4");
                let outcome = running.finish();
                assert_eq!(outcome.status, 4, "{follow:?}, {call} {error}: {outcome:?}");
                assert_eq!(outcome.stdout.contains("line\n"), follow.len() == 2, "{follow:?}, {call} {error}: {outcome:?}");
            }
        },
    );
}

#[test]
fn a_sandbox_that_refuses_a_call_of_an_input_artifacts_link() {
    if !is_static() {
        return;
    }
    if !may_refuse() || !may_unshare("--mount") {
        return;
    }
    let template = r#"{"inputs":{"artifacts":[{"name":"in","path":"emissary-test-input/in"}]}}"#;
    let run = |call: &str, error: &str| {
        let pod = Pod::new().env("ARGO_WAIT_FOR_READY", "true").template(template);
        pod.put("status", "READY\n");
        let mount =
            "mkdir -p /argo/inputs/artifacts && mount -t tmpfs tmpfs /argo/inputs/artifacts && echo payload >/argo/inputs/artifacts/in";
        let enter = format!("{mount} && exec \"$@\"");
        let words = [&["unshare", "--mount", "sh", "-c", &enter, "sh"].map(str::to_string)[..], &refusing(call, error, &[])].concat();
        via(pod, &words).sh("cat $W/emissary-test-input/in")
    };
    each_refusal(&["getcwd", "chdir", "newfstatat", "fstat"], |call, error| {
        let outcome = run(call, error);
        assert_eq!((outcome.status, &outcome.stdout[..]), (0, "payload\n"), "{call} {error}: {outcome:?}");
    });
    for call in ["symlinkat", "readlinkat"] {
        let outcome = run(call, "ENOSYS");
        assert_eq!(outcome.status, 65, "{call}: {outcome:?}");
        assert!(outcome.stderr.contains(&format!("the kernel or a sandbox refuses the call {call}\n")), "{call}: {outcome:?}");
    }
    // If the working directory was removed, emissary must not treat a relative path as one that starts at the root.
    let pod = Pod::new().env("ARGO_WAIT_FOR_READY", "true").template(template);
    pod.put("status", "READY\n");
    let enter = "mkdir -p /argo/inputs/artifacts && mount -t tmpfs tmpfs /argo/inputs/artifacts && : >/argo/inputs/artifacts/in \
                 && mkdir gone && cd gone && rmdir ../gone && exec \"$@\"";
    let outcome = pod.via(&["unshare", "--mount", "sh", "-c", enter, "sh"]).sh("exit 0");
    assert_eq!(outcome.status, 65, "{outcome:?}");
    assert!(outcome.stderr.contains("the working directory is not known"), "{outcome:?}");
    assert!(!Path::new("/emissary-test-input").exists());
}

#[test]
fn signals_arrive_where_signalfd_is_refused() {
    if !may_refuse() {
        return;
    }
    each_refusal(&["signalfd4"], |call, error| {
        let pod = via(Pod::new(), &refusing(call, error, &[]));
        let outcome = pod.sh("trap 'exit 5' TERM; kill -TERM $PPID; for i in $(seq 500); do sleep 0.02; done; exit 6");
        assert_eq!((outcome.status, pod.exit_code().as_deref()), (5, Some("5")), "{error}: {outcome:?}");
    });
}

#[test]
fn a_refused_call_without_a_substitute_is_named() {
    if !is_static() {
        return;
    }
    if !may_refuse() {
        return;
    }
    for (calls, error, named) in [
        ("openat", "ENOSYS", "openat"),
        ("read", "ENOSYS", "read"),
        ("mkdirat", "ENOSYS", "mkdirat"),
        ("clone,fork", "EPERM", "clone"),
        ("clone,fork", "ENOSYS", "clone"),
        ("pipe,pipe2", "EPERM", "pipe2"),
        ("rt_sigprocmask", "EPERM", "rt_sigprocmask"),
        ("fstat,newfstatat", "ENOSYS", "fstat"),
    ] {
        let pod = via(Pod::new().capturing(), &refusing(calls, error, &[]));
        let outcome = pod.sh("echo ran; exit 3");
        assert_eq!((outcome.status, &outcome.stdout[..]), (64, ""), "{calls} {error}: {outcome:?}");
        assert!(outcome.stderr.contains(&format!("the kernel or a sandbox refuses the call {named}\n")), "{calls} {error}: {outcome:?}");
        assert!(!outcome.stderr.contains("exec: "), "{calls} {error}: {outcome:?}");
        // If emissary could make the container's folder, it has left the exit code there.
        let has_folder = !matches!(named, "openat" | "mkdirat");
        assert_eq!(pod.exit_code().as_deref(), has_folder.then_some("64"), "{calls} {error}: {outcome:?}");
    }
}
