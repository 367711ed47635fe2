//! A volume on which another container has planted what it should not: links, pipes, folders, sparse giants in the place of protocol files. Nothing outside
//! is written, no mode is changed there, nothing is removed; a run ends all the same.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};

use crate::pod::Pod;

const OUTPUTS: &str = r#"{"outputs":{"parameters":[{"name":"p","valueFrom":{"path":"$W/p"}}],"artifacts":[{"name":"a","path":"$W/p"}]}}"#;

/// What somebody plants at a path.
#[derive(Debug, Clone, Copy)]
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

/// Something outside the volume that must stay as it is.
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
        assert_eq!(std::fs::read_dir(&self.folder).unwrap().count(), 1, "{what}: something was made outside");
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

/// Plants at a protocol file, runs, and looks that the run has ended with a status that is told.
fn run_over(place: &str) {
    for planted in ALL {
        let pod = Pod::new().capturing().template(OUTPUTS);
        let outside = Outside::new(&pod);
        let at = pod.shared.join(place.replace("$W", pod.work.to_str().unwrap().trim_start_matches('/')));
        outside.plant(planted, &at);
        let what = format!("{planted:?} at {place}");
        let outcome = pod.sh("echo v >$W/p; echo said; exit 0");
        outside.is_as_it_was(&what);
        // The command's own code, or 64 with a reason.
        assert!(outcome.status == 0 || outcome.status == 64 && !outcome.stderr.is_empty(), "{what}: {outcome:?}");
        if let Ok(code) = std::fs::symlink_metadata(pod.shared.join("ctr/main/exitcode"))
            && code.is_file()
            && code.len() < 4
        {
            assert_eq!(pod.exit_code(), Some(outcome.status.to_string()), "{what}: {outcome:?}");
        }
        // Where all is said to be well, all is there.
        if outcome.status == 0 {
            assert_eq!(pod.text(&pod.output("parameters", "p")).as_deref(), Some("v\n"), "{what}");
            assert_eq!(pod.names(&pod.output("artifacts", "p.tgz")), ["p"], "{what}");
        }
    }
}

#[test]
fn at_the_signal_file() {
    run_over("ctr/main/signal");
}

#[test]
fn at_the_exit_code() {
    run_over("ctr/main/exitcode");
}

#[test]
fn at_the_template() {
    run_over("template");
}

#[test]
fn at_the_outputs() {
    run_over("outputs");
    run_over("outputs/parameters");
    run_over("outputs/artifacts/$W/p.tgz");
    run_over("outputs/parameters/$W/p");
}

#[test]
fn at_the_logs_and_the_folders() {
    run_over("ctr/main/stdout");
    run_over("ctr/main/combined");
    run_over("ctr/main");
    run_over("ctr");
}

#[test]
fn the_wait_side_reads_none_of_it() {
    let places = ["ctr/main/exitcode", "ctr/main/stdout", "ctr/main/combined", "outputs/parameters", "ctr/main"];
    // Each waits for an end that does not come: all at once.
    std::thread::scope(|scope| {
        for (place, planted) in places.into_iter().flat_map(|place| ALL.map(|planted| (place, planted))) {
            scope.spawn(move || {
                let pod = Pod::new().template(OUTPUTS);
                let outside = Outside::new(&pod);
                std::fs::write(&outside.file, "0").unwrap();
                outside.plant(planted, &pod.shared.join(place));
                let outcome = pod.run(&["wait", "--json", "--timeout", "300ms", "--grace", "300ms"]);
                std::fs::write(&outside.file, "precious").unwrap();
                let what = format!("{planted:?} at {place}");
                outside.is_as_it_was(&what);
                // The 0 that stands outside is nobody's exit code.
                assert_ne!(outcome.status, 0, "{what}: {outcome:?}");
            });
        }
    });
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
