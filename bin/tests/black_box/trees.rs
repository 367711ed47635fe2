//! Emissary archives random trees. GNU tar, bsdtar and Python unpack them: names, types, modes, owners, times and contents must be the same.
//!
//! If a reader is not installed, the test prints that and leaves the reader out.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use crate::pod::{Pod, has_program, is_root};

#[derive(Debug, Clone)]
enum Node {
    File { size: usize, seed: u8, hole: bool },
    Link(Vec<u8>),
    Fifo,
    Folder(Vec<(Vec<u8>, Facts, Self)>),
}

#[derive(Debug, Clone, Copy)]
struct Facts {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime_s: i64,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => "[a-z0-9._-]{1,20}".prop_map(String::into_bytes),
        2 => "[а-яé ]{1,40}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(proptest::sample::select(&b"\xff\xfe\n =a\\*"[..]), 1..30),
        1 => (100..=255_usize).prop_map(|count| vec![b'n'; count]),
    ];
    part.prop_filter("a name of its own", |name| name != b"." && name != b"..")
}

fn facts() -> impl Strategy<Value = Facts> {
    let id = prop_oneof![3 => Just(0), 1 => Just(65_534), 1 => Just(2_097_151), 1 => Just(2_097_152), 1 => Just(4_000_000_000)];
    let mtime = prop_oneof![Just(0), Just(-1), -1_000_000_000_i64..4_000_000_000];
    (0..0o10_000_u32, id.clone(), id, mtime).prop_map(|(mode, uid, gid, mtime_s)| Facts { mode: mode | 0o600, uid, gid, mtime_s })
}

fn node() -> impl Strategy<Value = Node> {
    let size = prop_oneof![Just(0), Just(511), Just(512), Just(513), 1..3_000_usize, 100_000..400_000_usize];
    let leaf = prop_oneof![
        4 => (size, any::<u8>(), any::<bool>()).prop_map(|(size, seed, hole)| Node::File { size, seed, hole }),
        1 => proptest::collection::vec(name(), 1..3).prop_map(|parts| Node::Link(parts.join(&b'/'))),
        1 => Just(Node::Link(b"..".to_vec())),
        1 => Just(Node::Fifo),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| proptest::collection::vec((name(), facts(), inner), 0..6).prop_map(Node::Folder))
}

/// Makes a node. Sets owners only as root. Sets a folder's time last, since a new entry in the folder changes it.
fn make(path: &Path, facts: Facts, node: &Node, is_root: bool) {
    match node {
        Node::File { size, seed, hole } => {
            let mut contents: Vec<u8> = (0..*size).map(|at| (at as u8).wrapping_mul(*seed) ^ (at >> 9) as u8).collect();
            if *hole && *size > 20_000 {
                contents[..16_384].fill(0);
            }
            let file = std::fs::File::create(path).unwrap();
            let from = if *hole && *size > 20_000 { 16_384 } else { 0 };
            std::os::unix::fs::FileExt::write_all_at(&file, &contents[from..], from as u64).unwrap();
        }
        Node::Link(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), path).unwrap(),
        Node::Fifo => rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
        Node::Folder(entries) => {
            std::fs::create_dir(path).unwrap();
            for (name, facts, node) in entries {
                let path = path.join(OsStr::from_bytes(name));
                // A name may come twice. The first one counts.
                if path.symlink_metadata().is_err() {
                    make(&path, *facts, node, is_root);
                }
            }
        }
    }
    if is_root {
        std::os::unix::fs::lchown(path, Some(facts.uid), Some(facts.gid)).unwrap();
    }
    if !matches!(node, Node::Link(_)) {
        let mode = if matches!(node, Node::Folder(_)) { facts.mode | 0o700 } else { facts.mode };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let time = Timespec { tv_sec: facts.mtime_s, tv_nsec: 0 };
    rustix::fs::utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// The facts of an entry that a reader must give back.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    name: OsString,
    kind: u32,
    mode: u32,
    owner: (u32, u32),
    mtime_s: i64,
    contents: Vec<u8>,
}

fn rows(top: &Path, is_root: bool) -> Vec<Row> {
    fn walk(top: &Path, path: PathBuf, is_root: bool, rows: &mut Vec<Row>) {
        let stat = path.symlink_metadata().unwrap();
        let kind = stat.mode() & 0o170_000;
        let contents = match kind {
            0o100_000 => std::fs::read(&path).unwrap(),
            0o120_000 => std::fs::read_link(&path).unwrap().into_os_string().into_vec(),
            _ => Vec::new(),
        };
        rows.push(Row {
            name: path.strip_prefix(top).unwrap().as_os_str().to_owned(),
            kind,
            // No reader sets a link's mode.
            mode: if kind == 0o120_000 { 0 } else { stat.mode() & 0o7777 },
            owner: if is_root { (stat.uid(), stat.gid()) } else { (0, 0) },
            mtime_s: stat.mtime(),
            contents,
        });
        if kind == 0o040_000 {
            for entry in std::fs::read_dir(&path).unwrap() {
                walk(top, entry.unwrap().path(), is_root, rows);
            }
        }
    }
    let mut all = Vec::new();
    walk(top, top.join("o"), is_root, &mut all);
    all.sort();
    all
}

/// Python's tarfile sets no owner by number and no time of a link. This script sets both.
const PYTHON: &str = r#"
import os, sys, tarfile
archive, root = tarfile.open(sys.argv[1], 'r:gz', errors='surrogateescape'), int(sys.argv[2])
later = []
for entry in archive:
    name = entry.name.encode('utf-8', 'surrogateescape')
    if entry.isdir(): os.mkdir(name)
    elif entry.issym(): os.symlink(entry.linkname.encode('utf-8', 'surrogateescape'), name)
    elif entry.isfifo(): os.mkfifo(name)
    elif entry.isreg(): open(name, 'wb').write(archive.extractfile(entry).read())
    else: sys.exit('unexpected type %r' % entry.type)
    later.append((name, entry))
for name, entry in reversed(later):
    if root: os.lchown(name, entry.uid, entry.gid)
    if not entry.issym(): os.chmod(name, entry.mode)
    os.utime(name, (entry.mtime, entry.mtime), follow_symlinks=False)
"#;

#[test]
#[ignore = "slow, 7 s: 24 random trees and three readers"]
fn three_readers_give_back_the_tree() {
    let is_root = is_root("the owners of a tree");
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let entries = proptest::collection::vec((name(), facts(), node()), 0..8);
    let readers: [(&str, Vec<&str>); 3] = [
        ("tar", vec!["tar", "--numeric-owner", "--same-owner", "--same-permissions", "--delay-directory-restore", "-xzf"]),
        ("bsdtar", vec!["bsdtar", "--numeric-owner", "-xpzf"]),
        ("python3", vec!["python3", "-c", PYTHON]),
    ];
    let readers: Vec<_> = readers.into_iter().filter(|(name, _)| has_program(name)).collect();
    let result = runner.run(&(facts(), entries), |(facts, entries)| {
        let pod = Pod::new().template(r#"{"outputs":{"artifacts":[{"name":"a","path":"$W/o"}]}}"#);
        make(&pod.work.join("o"), facts, &Node::Folder(entries), is_root);
        let outcome = pod.run(&["--", "true"]);
        prop_assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        let want = rows(&pod.work, is_root);
        let archive = pod.shared.join(pod.output("artifacts", "o.tgz"));
        for (name, words) in &readers {
            let folder = pod.shared.with_file_name(format!("unpacked-by-{name}"));
            std::fs::create_dir(&folder).unwrap();
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).arg(&archive).current_dir(&folder);
            // Without the rights of root, a reader sets no owners.
            if words[0] == "python3" {
                command.arg(if is_root { "1" } else { "0" });
            }
            let output = command.output().unwrap();
            prop_assert!(output.status.success(), "{}: {:?}", name, output);
            let found = rows(&folder, is_root);
            for (found, want) in found.iter().zip(&want) {
                prop_assert!(found == want, "{}: {:?}, not {:?}", name, Short(found), Short(want));
            }
            prop_assert_eq!(found.len(), want.len(), "{}", name);
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A row without its contents.
struct Short<'a>(&'a Row);

impl core::fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let row = self.0;
        write!(f, "{:?} {:o} {:o} {:?} {} ({} bytes)", row.name, row.kind, row.mode, row.owner, row.mtime_s, row.contents.len())
    }
}

#[test]
#[ignore = "slow, 5 s: creates a hundred thousand files"]
fn a_hundred_thousand_files_in_a_folder() {
    let pod = Pod::new().template(r#"{"outputs":{"artifacts":[{"name":"a","path":"$W/o"}]}}"#);
    std::fs::create_dir(pod.work.join("o")).unwrap();
    for at in 0..100_000 {
        std::fs::write(pod.work.join(format!("o/{at}")), format!("{at}")).unwrap();
    }
    assert_eq!(pod.run(&["--", "true"]).status, 0);
    let entries = pod.entries(&pod.output("artifacts", "o.tgz"));
    assert_eq!(entries.len(), 100_001);
    assert!(entries[1..].iter().all(|(name, contents)| name.as_bytes()[2..] == contents[..]));
    assert!(entries.is_sorted_by(|(a, _), (b, _)| a < b));
}

#[test]
fn a_device_and_a_path_past_every_limit() {
    let pod = Pod::new().template(r#"{"outputs":{"artifacts":[{"name":"a","path":"$W/o"}]}}"#);
    // The path is longer than PATH_MAX, so the test makes it folder by folder. A process that another test starts must not inherit a descriptor.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let mut folder = rustix::fs::open(&pod.work, flags, Mode::empty()).unwrap();
    let part = CString::new(vec![b'd'; 255]).unwrap();
    for at in 0..20 {
        let name = if at == 0 { c"o" } else { part.as_c_str() };
        rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)).unwrap();
        folder = rustix::fs::openat(&folder, name, flags, Mode::empty()).unwrap();
    }
    let has_device =
        rustix::fs::mknodat(CWD, pod.work.join("o/null"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), rustix::fs::makedev(1, 3))
            .is_ok();
    let outcome = pod.run(&["--", "true"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    let names = pod.names(&pod.output("artifacts", "o.tgz"));
    assert_eq!(names.len(), 20 + usize::from(has_device));
    assert!(names[19].len() > 4_096, "{}", names[19].len());
    if has_device {
        assert_eq!(names[20], "o/null");
    }
}
