//! Differential tests: GNU tar and Python read archives of random members. The unit tests and the fuzz target use the crate `tar` instead.
//!
//! If a reader is not installed, the test prints that and skips the reader.

use std::io::Write as _;
use std::process::{Command, Stdio};

use emissary_core::tar::{Entry, Kind, TRAILER, padding};
use proptest::prelude::{Just, Strategy, any, prop};
use proptest::test_runner::{Config, TestRunner};

/// A member and its contents.
#[derive(Debug, Clone)]
struct Row {
    name: Vec<u8>,
    kind: u8,
    target: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime_s: i64,
    contents: Vec<u8>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    // ASCII, UTF-8, bytes that are not UTF-8, newlines. Parts have up to 119 bytes, so that paths exceed every field.
    let plain = prop::collection::vec(b'a'..=b'z', 1..120);
    let utf8 = "[а-яé]{1,60}".prop_map(String::into_bytes);
    let odd = prop::collection::vec(prop::sample::select(&b"\xff\xfe\n =a"[..]), 1..40);
    let part = proptest::prop_oneof![4 => plain, 2 => utf8, 1 => odd];
    prop::collection::vec(part, 1..6).prop_map(|parts| parts.join(&b'/'))
}

fn row() -> impl Strategy<Value = Row> {
    let ids = proptest::prop_oneof![Just(0), Just(2_097_151), Just(2_097_152), any::<u32>()];
    let mtime = proptest::prop_oneof![Just(0), Just(-1), -2_000_000_000_i64..20_000_000_000];
    (name(), 0_u8..4, name(), any::<u32>(), ids.clone(), ids, mtime, prop::collection::vec(any::<u8>(), 0..1500)).prop_map(
        |(name, kind, target, mode, uid, gid, mtime_s, contents)| Row {
            name,
            kind,
            target,
            mode: mode & 0o7777,
            uid,
            gid,
            mtime_s,
            contents: if kind == 0 { contents } else { Vec::new() },
        },
    )
}

fn archive(rows: &[Row]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows {
        let kind = match row.kind {
            0 => Kind::Regular { size_bytes: row.contents.len() as u64 },
            1 => Kind::Symlink { target: &row.target },
            2 => Kind::Directory,
            _ => Kind::Fifo,
        };
        let entry = Entry { name: &row.name, kind, mode: row.mode, uid: row.uid, gid: row.gid, mtime_s: row.mtime_s };
        let mut room = [0; 16_384];
        bytes.extend_from_slice(entry.write_header(&mut room).unwrap());
        bytes.extend_from_slice(&row.contents);
        bytes.resize(bytes.len() + padding(row.contents.len() as u64), 0);
    }
    bytes.extend_from_slice(&TRAILER);
    bytes
}

/// Returns what a program prints for an archive on its stdin; `None` if the program is not installed.
fn read_by(words: &[&str], archive: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        eprintln!("{} is not installed: skipped", words[0]);
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(archive));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// Runs `check` on 40 random archives.
fn over_archives(check: impl Fn(&[Row], &[u8])) {
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    runner
        .run(&prop::collection::vec(row(), 1..20), |rows| {
            check(&rows, &archive(&rows));
            Ok(())
        })
        .unwrap();
}

/// A script that prints one line for each member: name, typeflag, mode, uid, gid, mtime, link target, contents. Names, targets and contents are hexadecimal.
const PYTHON: &str = r"
import sys, tarfile, io
h = lambda text: text.encode('utf-8', 'surrogateescape').hex() or '-'
source = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()), mode='r:', errors='surrogateescape')
for m in source:
    contents = source.extractfile(m).read() if m.isreg() else b''
    print(h(m.name), m.type.decode(), m.mode, m.uid, m.gid, int(m.mtime), h(m.linkname), contents.hex() or '-')
";

#[test]
#[ignore = "slow, 5 s: starts Python for each random archive"]
fn python_reads_what_was_written() {
    over_archives(|rows, archive| {
        let Some(listing) = read_by(&["python3", "-c", PYTHON], archive) else { return };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let or_dash = |text: String| if text.is_empty() { "-".to_string() } else { text };
        let want: String = rows
            .iter()
            .map(|row| {
                let kind = [0, 2, 5, 6][usize::from(row.kind)];
                let target = if row.kind == 1 { hex(&row.target) } else { String::new() };
                format!(
                    "{} {kind} {} {} {} {} {} {}\n",
                    hex(&row.name),
                    row.mode,
                    row.uid,
                    row.gid,
                    row.mtime_s,
                    or_dash(target),
                    or_dash(hex(&row.contents))
                )
            })
            .collect();
        assert_eq!(String::from_utf8(listing).unwrap(), want);
    });
}

#[test]
fn gnu_tar_reads_what_was_written() {
    over_archives(|rows, archive| {
        let Some(names) = read_by(&["tar", "--quoting-style=literal", "--null", "--show-transformed-names", "-tf", "-"], archive) else {
            return;
        };
        let want: Vec<u8> = rows.iter().flat_map(|row| [&row.name[..], if row.kind == 2 { b"/\n" } else { b"\n" }].concat()).collect();
        assert_eq!(String::from_utf8_lossy(&names), String::from_utf8_lossy(&want));
        // All contents, one after the other.
        let contents = read_by(&["tar", "-xOf", "-"], archive).unwrap();
        let want: Vec<u8> = rows.iter().flat_map(|row| row.contents.clone()).collect();
        assert_eq!(contents, want);
        let listing = read_by(&["tar", "--numeric-owner", "--full-time", "--utc", "-tvf", "-"], archive).unwrap();
        let lines = String::from_utf8_lossy(&listing).into_owned();
        for (line, row) in lines.lines().zip(rows) {
            assert!(line.contains(&format!(" {}/{} ", row.uid, row.gid)), "{line} {row:?}");
        }
    });
}
