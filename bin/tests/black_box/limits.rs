//! Runs with few resources: descriptors, processes, memory, disk, CPUs, /proc, /dev, /tmp, standard streams.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::pod::{Pod, has_program, is_root, may_unshare};

const OUTPUTS: &str = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/p"}}],"artifacts":[{"name":"a","path":"$W/o"}]}}"#;
const SCRIPT: &str = "mkdir -p $W/o/a/b/c; echo x >$W/o/a/b/c/f; echo v >$W/p; exit 3";

/// A limit of sixteen descriptors. bash first closes descriptors that this test has inherited, for example from a shell: they would count.
const SIXTEEN_DESCRIPTORS: [&str; 4] =
    ["bash", "-c", "for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd < 3)) || exec {fd}>&-; done; ulimit -n 16; exec \"$@\"", "bash"];

/// Runs the command and asserts that its exit code and outputs are there.
fn all_is_well(pod: &Pod) {
    let outcome = pod.sh(SCRIPT);
    assert_eq!((outcome.status, pod.exit_code().as_deref()), (3, Some("3")), "{outcome:?}");
    assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("v\n"));
    assert_eq!(pod.names(&pod.output("artifacts", "o.tgz")), ["o", "o/a", "o/a/b", "o/a/b/c", "o/a/b/c/f"]);
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
    // There are ten folders with two files each. `z` sorts after the folder below, so the walk meets it on the way back.
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

/// Makes a control group of version 1 or 2 with a limit. `None` if that fails.
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
    // The command runs only inside the group, since it takes all memory that there is.
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
