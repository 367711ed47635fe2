//! A hostile volume: another container has put links, pipes, folders or giant sparse files in the place of protocol files (docs/protocol.md, "Files"). Emissary
//! writes nothing, removes nothing and changes no mode outside the volume, and the run still ends.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use core::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, RenameFlags};

use crate::pod::{Pod, has_program, is_root, until};

const OUTPUTS: &str = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/p"}}],"artifacts":[{"name":"a","path":"$W/p"}]}}"#;

/// The traps that another container puts at a path.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Planted {
    LinkToFile,
    LinkToFolder,
    LinkToNothing,
    LinkToItself,
    Fifo,
    Folder,
    FullFolder,
    Giant,
    ReadOnly,
}

const ALL: [Planted; 9] = [
    Planted::LinkToFile,
    Planted::LinkToFolder,
    Planted::LinkToNothing,
    Planted::LinkToItself,
    Planted::Fifo,
    Planted::Folder,
    Planted::FullFolder,
    Planted::Giant,
    Planted::ReadOnly,
];

/// A file and a folder outside the volume that must stay as they are.
struct Outside {
    folder: PathBuf,
    file: PathBuf,
}

impl Outside {
    fn new(pod: &Pod) -> Self {
        let folder = pod.shared.with_file_name("outside");
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("precious");
        std::fs::write(&file, "precious").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o750)).unwrap();
        Self { folder, file }
    }

    fn is_as_it_was(&self, what: &str) {
        assert_eq!(std::fs::read_to_string(&self.file).unwrap(), "precious", "{what}");
        let modes = [&self.file, &self.folder].map(|path| std::fs::metadata(path).unwrap().mode() & 0o7777);
        assert_eq!(modes, [0o640, 0o750], "{what}");
        assert_eq!(std::fs::read_dir(&self.folder).unwrap().count(), 1, "{what}: a run made a file outside");
    }

    fn plant(&self, planted: Planted, at: &Path) {
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        if at.is_dir() {
            let _ = std::fs::remove_dir_all(at);
        }
        let _ = std::fs::remove_file(at);
        match planted {
            Planted::LinkToFile => symlink(&self.file, at).unwrap(),
            Planted::LinkToFolder => symlink(&self.folder, at).unwrap(),
            Planted::LinkToNothing => symlink(self.folder.join("new"), at).unwrap(),
            Planted::LinkToItself => symlink(at, at).unwrap(),
            Planted::Fifo => rustix::fs::mknodat(CWD, at, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap(),
            Planted::Folder => std::fs::create_dir(at).unwrap(),
            Planted::FullFolder => {
                std::fs::create_dir(at).unwrap();
                std::fs::write(at.join("in the way"), "").unwrap();
            }
            Planted::Giant => std::fs::File::create(at).unwrap().set_len(1 << 40).unwrap(),
            Planted::ReadOnly => {
                std::fs::write(at, "nothing of the protocol").unwrap();
                std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o000)).unwrap();
            }
        }
    }
}

/// Puts each kind of trap in the place of one protocol file, and runs the command. The run must end with status 0, or with 64 and a reason.
fn run_over(place: &str) {
    for planted in ALL {
        let pod = Pod::new().capturing().template(OUTPUTS);
        let outside = Outside::new(&pod);
        let at = pod.shared.join(place.replace("$W", pod.work.to_str().unwrap().trim_start_matches('/')));
        outside.plant(planted, &at);
        let what = format!("{planted:?} at {place}");
        // Emissary waits a moment before it reads a signal file that was just written.
        let is_signal = place == "ctr/main/signal";
        let outcome = pod.sh(if is_signal { "echo v >$W/p; sleep 0.4; exit 0" } else { "echo v >$W/p; echo said; exit 0" });
        outside.is_as_it_was(&what);
        if is_signal {
            assert!(outcome.status == 0 && outcome.stderr.contains("signal"), "{what}: {outcome:?}");
            assert!(std::fs::symlink_metadata(&at).is_err(), "{what}: the signal file is still there");
        }
        // The status is the command's own, or 64 with a reason.
        assert!(outcome.status == 0 || outcome.status == 64 && !outcome.stderr.is_empty(), "{what}: {outcome:?}");
        if let Ok(code) = std::fs::symlink_metadata(pod.shared.join("ctr/main/exitcode"))
            && code.is_file()
            && code.len() < 4
        {
            assert_eq!(pod.exit_code(), Some(outcome.status.to_string()), "{what}: {outcome:?}");
        }
        // If the status is 0, every output is there.
        if outcome.status == 0 {
            assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("v\n"), "{what}");
            assert_eq!(pod.names(&pod.output("artifacts", "p.tgz")), ["p"], "{what}");
        }
    }
}

#[test]
fn planted_at_the_signal_file() {
    run_over("ctr/main/signal");
}

#[test]
fn planted_at_the_exit_code() {
    run_over("ctr/main/exitcode");
}

#[test]
fn planted_at_the_template() {
    run_over("template");
}

#[test]
fn planted_at_the_outputs() {
    run_over("outputs");
    run_over("outputs/parameters");
    run_over("outputs/artifacts/$W/p.tgz");
    run_over("outputs/parameters/$W/p");
}

#[test]
fn planted_at_the_logs_and_the_folders() {
    run_over("ctr/main/stdout");
    run_over("ctr/main/combined");
    run_over("ctr/main");
    run_over("ctr");
}

#[test]
#[ignore = "slow, 10 s: wait copies logs for so long"]
fn the_wait_side_reads_nothing_planted() {
    let places = ["ctr/main/exitcode", "ctr/main/stdout", "ctr/main/combined", "outputs/parameters", "outputs/parameters/$W/p", "ctr/main"];
    // Some of these runs wait until their deadline, so all run at once.
    std::thread::scope(|scope| {
        for (place, planted) in places.into_iter().flat_map(|place| ALL.map(|planted| (place, planted))) {
            scope.spawn(move || {
                let pod = Pod::new().template(OUTPUTS);
                let outside = Outside::new(&pod);
                std::fs::write(&outside.file, "0").unwrap();
                let gives_code = place == "ctr/main/exitcode" || place == "ctr/main";
                if !gives_code {
                    pod.put("ctr/main/exitcode", "0");
                    std::fs::write(&outside.file, "precious").unwrap();
                }
                outside.plant(planted, &pod.shared.join(place.replace("$W", pod.work.to_str().unwrap().trim_start_matches('/'))));
                // A giant plain file is a valid log, so this case does not follow it.
                let follow = if planted == Planted::Giant { "--json" } else { "--follow" };
                let outcome = pod.run(&["wait", "--json", follow, "--timeout", "300ms", "--grace", "300ms"]);
                std::fs::write(&outside.file, "precious").unwrap();
                let what = format!("{planted:?} at {place}");
                outside.is_as_it_was(&what);
                // A file outside is never an exit code, a log or an output.
                assert!(outcome.status != 0 || !gives_code, "{what}: {outcome:?}");
                assert!(!outcome.stdout.contains("precious"), "{what}: {outcome:?}");
                if place.ends_with("/p") && planted != Planted::ReadOnly {
                    // A file that cannot be read is an error. A file that is too large gives a warning.
                    let want = if planted == Planted::Giant { 0 } else { 64 };
                    assert!(outcome.status == want && outcome.stderr.contains("parameter 'p': cannot read"), "{what}: {outcome:?}");
                }
            });
        }
    });
}

/// Emissary runs as another user, and root owns the protocol's files. Emissary may replace them in some folders, but not in others (a sticky folder, such as
/// /tmp).
#[test]
fn files_of_another_user() {
    if !is_root("another user") || !has_program("setpriv") {
        return;
    }
    for (place, text) in
        [("template", "{}"), ("ctr/main/signal", "15"), ("ctr/main/exitcode", "0"), ("ctr/main/stdout", "old"), ("outputs/x", "")]
    {
        for folder_mode in [0o777, 0o1777, 0o755] {
            let pod = Pod::new().capturing().template(OUTPUTS).via(&["setpriv", "--reuid=54321", "--clear-groups"]);
            pod.put("ctr/main/other", "");
            pod.put(place, text);
            let at = pod.shared.join(place);
            std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::set_permissions(at.parent().unwrap(), std::fs::Permissions::from_mode(folder_mode)).unwrap();
            let what = format!("{place} in {folder_mode:o}");
            // Emissary waits a moment before it reads a signal file that was just written.
            let outcome = pod.sh(&format!("echo v >$W/p; echo said; case {place} in *signal) sleep 0.4;; esac; exit 0"));
            if outcome.stderr.contains("Permission denied") && !outcome.stderr.contains("emissary: ") {
                eprintln!("user 54321 cannot run the binary: not tested");
                return;
            }
            // In a folder that it cannot write to, emissary prints an error before the command runs, or when it saves the outputs.
            let may_write = folder_mode != 0o755;
            match place {
                "template" => {
                    assert!(outcome.status == 64 && outcome.stderr.contains("template: permission denied"), "{what}: {outcome:?}")
                }
                "ctr/main/signal" if may_write => {
                    let said = outcome.stderr.matches("ctr/main/signal: ").count();
                    assert!(outcome.status == 0 && said == 1, "{what}: {outcome:?}");
                }
                "outputs/x" if may_write => assert_eq!(outcome.status, 0, "{what}: {outcome:?}"),
                "ctr/main/exitcode" if folder_mode == 0o777 => assert_eq!(outcome.status, 0, "{what}: {outcome:?}"),
                _ => assert!(outcome.status == 64 && outcome.stderr.contains("emissary: error: "), "{what}: {outcome:?}"),
            }
            if place == "ctr/main/exitcode" && folder_mode == 0o1777 {
                assert_eq!(pod.exit_code().as_deref(), Some("0"), "{what}: the file of another user was replaced");
            }
        }
    }
}

/// Emissary obeys a signal file that it cannot take away once for each write, and warns of it once.
#[test]
fn a_signal_file_that_cannot_be_taken_away() {
    if !is_root("another user") || !has_program("setpriv") {
        return;
    }
    let pod = Pod::new().via(&["setpriv", "--reuid=54321", "--clear-groups"]);
    pod.put("ctr/main/signal", "10");
    let (signal, folder) = (pod.shared.join("ctr/main/signal"), pod.shared.join("ctr/main"));
    std::fs::set_permissions(&signal, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let script = "trap 'echo 10 >>$W/got' USR1; trap 'echo 12 >>$W/got' USR2; trap 'exit 3' TERM; : >$W/got; : >$W/ready; while :; do sleep 0.02; done";
    let running = pod.start(&["--", "sh", "-c", script]);
    until("the command to be ready, or to be refused", || pod.work.join("ready").exists() || running.children().is_empty());
    let got = |want: &str| {
        until(want, || std::fs::read_to_string(pod.work.join("got")).is_ok_and(|got| got == want));
        // Each change beside the signal file makes emissary look at the file again.
        for _ in 0..20 {
            std::fs::write(folder.join("other"), "").unwrap();
            std::thread::sleep(core::time::Duration::from_millis(10));
        }
        assert_eq!(std::fs::read_to_string(pod.work.join("got")).unwrap(), want);
    };
    got("10\n");
    // The test replaces the file, then writes the same file again, then writes rubbish.
    pod.put("ctr/main/signal", "12");
    got("10\n12\n");
    std::fs::write(&signal, "10").unwrap();
    got("10\n12\n10\n");
    std::fs::write(&signal, "rubbish").unwrap();
    got("10\n12\n10\n");
    std::fs::write(&signal, "15").unwrap();
    let outcome = running.finish();
    if outcome.stderr.contains("Permission denied") && !outcome.stderr.contains("emissary: ") {
        eprintln!("user 54321 cannot run the binary: not tested");
        return;
    }
    assert_eq!((outcome.status, outcome.stderr.matches("cannot take away").count()), (3, 1), "{outcome:?}");
    assert_eq!(outcome.stderr.matches("signal file ignored: 'rubbish'").count(), 1, "{outcome:?}");
    assert_eq!(outcome.stderr.matches("emissary: ").count(), 2, "{outcome:?}");
}

/// Without inotify, nothing reports changes, and emissary looks at the signal file ten times a second. The file still counts once.
#[test]
fn a_signal_file_that_cannot_be_taken_away_and_no_inotify() {
    if !is_root("another user") || !has_program("setpriv") || !crate::pod::may_unshare("--user") {
        return;
    }
    let limit = "echo 0 >/proc/sys/user/max_inotify_instances && exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let pod =
        Pod::new().via(&["setpriv", "--reuid=54321", "--clear-groups", "unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh"]);
    pod.put("ctr/main/signal", "10");
    std::fs::set_permissions(pod.shared.join("ctr/main"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let outcome = pod.sh("trap 'echo got' USR1; : >$W/ready; for i in $(seq 60); do sleep 0.02; done; exit 4");
    if !pod.work.join("ready").exists() {
        eprintln!("user 54321 cannot run the binary in a namespace: not tested, {outcome:?}");
        return;
    }
    assert_eq!((outcome.status, outcome.stdout.as_str()), (4, "got\n"), "{outcome:?}");
    assert_eq!(outcome.stderr.matches("cannot take away").count(), 1, "{outcome:?}");
}

/// Another process swaps a file or folder for a link, again and again, while emissary runs. Emissary writes nothing outside, wherever it meets the link.
#[test]
fn files_swapped_while_emissary_runs() {
    const MANY: &str = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/p"}},{"name":"q","valueFrom":{"path":"$W/q"}},
        {"name":"r","valueFrom":{"path":"$W/r"}}],"artifacts":[{"name":"a","path":"$W/p"},{"name":"b","path":"$W/q"}]}}"#;
    std::thread::scope(|scope| {
        for place in
            ["outputs", "outputs/parameters", "outputs/artifacts", "ctr", "ctr/main", "ctr/main/signal", "template", "ctr/main/stdout"]
        {
            scope.spawn(move || {
                let mut swaps = 0;
                for round in 0..12 {
                    let pod = Pod::new().capturing().template(MANY);
                    let outside = Outside::new(&pod);
                    let at = pod.shared.join(place);
                    let is_file = place.ends_with("signal") || place.ends_with("template") || place.ends_with("stdout");
                    if is_file {
                        pod.put(place, if place == "template" { "{}" } else { "" });
                    } else {
                        std::fs::create_dir_all(&at).unwrap();
                    }
                    let link = pod.shared.join("link");
                    symlink(if is_file { &outside.file } else { &outside.folder }, &link).unwrap();
                    let (is_over, has_begun) = (AtomicBool::new(false), AtomicBool::new(false));
                    let outcome = std::thread::scope(|scope| {
                        let swapper = scope.spawn(|| {
                            let mut swaps = 0;
                            while !is_over.load(Ordering::Relaxed) {
                                swaps += u32::from(rustix::fs::renameat_with(CWD, &at, CWD, &link, RenameFlags::EXCHANGE).is_ok());
                                has_begun.store(true, Ordering::Relaxed);
                            }
                            swaps
                        });
                        until("the swapping to begin", || has_begun.load(Ordering::Relaxed));
                        let outcome = pod.sh("for i in p q r; do echo v >$W/$i; done; echo said; exit 0");
                        is_over.store(true, Ordering::Relaxed);
                        swaps += swapper.join().unwrap();
                        outcome
                    });
                    let what = format!("{place}, round {round}");
                    outside.is_as_it_was(&what);
                    assert!(outcome.status == 0 || outcome.status == 64 && outcome.stderr.contains("emissary: "), "{what}: {outcome:?}");
                }
                assert!(swaps > 100, "{place} was swapped {swaps} times");
            });
        }
    });
}

/// Another process writes a template and a parameter in place, again and again, while emissary reads them. A run whose status is not 0 prints the reason.
#[test]
fn files_rewritten_while_emissary_runs() {
    for round in 0..20 {
        let pod = Pod::new().template(OUTPUTS);
        let (template, parameter) = (pod.shared.join("template"), pod.work.join("p"));
        let text = std::fs::read(&template).unwrap();
        std::fs::write(&parameter, "").unwrap();
        let is_over = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // `write` first cuts the file and then fills it, in place.
                    std::fs::write(&template, &text).unwrap();
                    std::fs::write(&parameter, vec![b'v'; 100_000]).unwrap();
                }
            });
            let outcome = pod.sh("exit 0");
            is_over.store(true, Ordering::Relaxed);
            outcome
        });
        let is_told = outcome.status == 64 && outcome.stderr.contains("emissary: error: ");
        assert!(outcome.status == 0 || is_told, "round {round}: {outcome:?}");
        assert_eq!(pod.exit_code(), Some(outcome.status.to_string()), "round {round}: {outcome:?}");
        if outcome.status == 0 {
            let saved = pod.text(&pod.output("parameters", "p")).unwrap();
            assert!(saved.len() <= 100_000 && saved.bytes().all(|byte| byte == b'v'), "round {round}");
            // The entry is cut or filled up to the size in its header.
            assert_eq!(pod.names(&pod.output("artifacts", "p.tgz")), ["p"], "round {round}");
        }
    }
}

#[test]
fn output_paths_stay_below_outputs() {
    let template = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/a/../../work/./p"}},{"name":"q","valueFrom":{"path":"../../../../../../../../../..$W/p"}}],
        "artifacts":[{"name":"a","path":"$W/a/..//p"}]}}"#;
    let pod = Pod::new().template(template);
    let before: Vec<_> = std::fs::read_dir(pod.shared.parent().unwrap()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let outcome = pod.sh("mkdir -p $W/a; echo v >$W/p");
    assert!(outcome.status == 0 || outcome.status == 64, "{outcome:?}");
    let after: Vec<_> = std::fs::read_dir(pod.shared.parent().unwrap()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(before.len(), after.len(), "{after:?}");
    let top: Vec<_> = std::fs::read_dir(&pod.shared).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(top.iter().all(|name| ["ctr", "outputs", "template", ".ready", "exitcode"].contains(&name.as_str())), "{top:?}");
}
