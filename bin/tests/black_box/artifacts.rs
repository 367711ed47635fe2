//! Large artifacts (docs/protocol.md, "Artifacts"): chunks, threads, holes, and progress lines.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::process::Command;

use crate::outputs::{slow_artifact, two_letters};
use crate::pod::{Pod, has_program, may_unshare};

const ARTIFACT: &str = r#"{"outputs":{"artifacts":[{"name":"a","path":"$W/o"}]}}"#;

/// Makes a folder with more than thirty chunks of text, noise, zeros and runs of one byte. The ends of the files fall anywhere in a chunk.
fn fill(pod: &Pod) -> Vec<(String, Vec<u8>)> {
    let folder = pod.work.join("o");
    std::fs::create_dir(&folder).unwrap();
    let mut state = 1_u64;
    let mut rows = vec![("o".to_string(), Vec::new())];
    for at in 0..24_usize {
        let contents: Vec<u8> = (0..at * 35_321)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let byte = (state >> 56) as u8;
                match at % 4 {
                    0 => byte,
                    1 => b"emissary, out\n"[usize::from(byte) % 14],
                    2 => byte / 250,
                    _ => at as u8,
                }
            })
            .collect();
        let name = format!("{at:02}");
        std::fs::write(folder.join(&name), &contents).unwrap();
        rows.push((format!("o/{name}"), contents));
    }
    rows
}

#[test]
fn the_same_bytes_whatever_the_number_of_cpus() {
    if !has_program("taskset") {
        return;
    }
    let read = |via: &[&str]| {
        let pod = Pod::new().template(ARTIFACT);
        let rows = fill(&pod);
        // The clock and the umask must not change the archive, so every run gets the same times, owners and modes.
        for path in rows.iter().map(|(name, _)| pod.work.join(name)) {
            let file = std::fs::File::open(path).unwrap();
            file.set_times(std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
        }
        let pod = pod.via(via);
        let outcome = pod.run(&["--", "true"]);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        assert!(pod.entries(&pod.output("artifacts", "o.tgz")) == rows);
        std::fs::read(pod.shared.join(pod.output("artifacts", "o.tgz"))).unwrap()
    };
    let alone = read(&["taskset", "-c", "0"]);
    assert!(alone == read(&[]));
    assert!(alone == read(&[]));
}

/// The archive's contents as GNU gzip and as Python's zlib unpack them.
fn unpacked(archive: &std::path::Path) -> [Vec<u8>; 2] {
    let python = "import sys, gzip; sys.stdout.buffer.write(gzip.open(sys.argv[1]).read())";
    let by = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).arg(archive).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    [by("gzip", &["-dc"]), by("python3", &["-c", python])]
}

#[test]
fn files_that_end_around_a_chunks_end_unpack_with_every_reader() {
    const CHUNK: usize = 262_144;
    // The chunks also hold the header's block and the two blocks at the end.
    const AROUND: usize = 3 * 512;
    for level in [0, 1, 4, 9] {
        let template =
            format!(r#"{{"outputs":{{"artifacts":[{{"name":"a","path":"$W/o","archive":{{"tar":{{"compressionLevel":{level}}}}}}}]}}}}"#);
        for length in [0, 1, CHUNK - AROUND - 1, CHUNK - AROUND, CHUNK - AROUND + 1, 3 * CHUNK - AROUND, 3 * CHUNK - AROUND + 1] {
            let pod = Pod::new().template(&template);
            // Lines that repeat come first. Then one byte fills more than a chunk and a window.
            let contents: Vec<u8> =
                (0..length).map(|at| if at < 400_000 { b"emissary, out\n"[at * at / 700 % 14] } else { b'=' }).collect();
            std::fs::write(pod.work.join("o"), &contents).unwrap();
            let outcome = pod.run(&["--", "true"]);
            assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
            let archive = pod.shared.join(pod.output("artifacts", "o.tgz"));
            assert!(pod.entries(&pod.output("artifacts", "o.tgz")) == [("o".to_string(), contents.clone())], "{length} at level {level}");
            if has_program("gzip") && has_program("python3") {
                let [by_gzip, by_python] = unpacked(&archive);
                assert!(by_gzip == by_python && by_gzip[512..][..length] == contents, "{length} at level {level}");
                assert_eq!(by_gzip.len(), length.div_ceil(512) * 512 + AROUND);
            }
        }
    }
}

/// Runs the pod under strace. Returns the number of threads that started.
fn threads(via: &[&str], inject: &[&str], pod: Pod) -> (usize, Pod) {
    let trace = pod.work.with_file_name("trace");
    let mut words = via.to_vec();
    words.extend(["strace", "-f", "-qq", "-o", trace.to_str().unwrap(), "-e", "trace=clone,clone3"]);
    words.extend(inject.iter().flat_map(|inject| ["-e", inject]));
    let pod = pod.via(&words);
    let outcome = pod.run(&["--", "true"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    let trace = std::fs::read_to_string(trace).unwrap();
    (trace.lines().filter(|line| line.contains("CLONE_THREAD") && !line.contains("INJECTED")).count(), pod)
}

#[test]
fn a_thread_for_each_cpu_and_none_for_one() {
    if !has_program("taskset") || !has_program("strace") {
        return;
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    let filled = || {
        let pod = Pod::new().template(ARTIFACT);
        let rows = fill(&pod);
        (pod, rows)
    };
    assert_eq!(threads(&["taskset", "-c", "0"], &[], filled().0).0, 0);
    if cpus > 1 {
        assert_eq!(threads(&[], &[], filled().0).0, cpus.min(16));
        // An artifact of one chunk starts no thread.
        let small = Pod::new().template(ARTIFACT);
        std::fs::write(small.work.join("o"), vec![b'a'; 100_000]).unwrap();
        assert_eq!(threads(&[], &[], small).0, 0);
        // If the kernel refuses every new thread, the calling thread does the work. The first clone starts the command; glibc starts threads with clone3.
        let (pod, rows) = filled();
        let (started, pod) = threads(&[], &["inject=clone:error=EAGAIN:when=2+", "inject=clone3:error=EAGAIN"], pod);
        assert_eq!(started, 0);
        assert!(pod.entries(&pod.output("artifacts", "o.tgz")) == rows);
    }
}

#[test]
fn holes_are_zeros_and_the_data_between_them_is_kept() {
    let pod = Pod::new().template(ARTIFACT);
    const SIZE: u64 = 40_000_000;
    let mut want = vec![0; SIZE as usize];
    let mut file = std::fs::File::create(pod.work.join("o")).unwrap();
    file.set_len(SIZE).unwrap();
    for (at, text) in [(0, "begin"), (5_000_000, "in between"), (5_300_000, "again"), (SIZE - 7, "the end")] {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        want[at as usize..][..text.len()].copy_from_slice(text.as_bytes());
    }
    drop(file);
    for level in ["0", "4"] {
        let template =
            format!(r#"{{"outputs":{{"artifacts":[{{"name":"a","path":"$W/o","archive":{{"tar":{{"compressionLevel":{level}}}}}}}]}}}}"#);
        let pod = Pod::new().template(&template.replace("$W", pod.work.to_str().unwrap()));
        assert_eq!(pod.run(&["--", "true"]).status, 0);
        let folder = pod.shared.join("outputs/artifacts");
        let archive = Command::new("find").arg(&folder).args(["-name", "o.tgz"]).output().unwrap();
        let archive = String::from_utf8(archive.stdout).unwrap();
        let archive = std::path::Path::new(archive.trim_end()).strip_prefix(&pod.shared).unwrap().to_str().unwrap().to_string();
        let rows = pod.entries(&archive);
        assert!(rows.len() == 1 && rows[0].1 == want, "level {level}");
    }
}

#[test]
fn a_sparse_terabyte_takes_no_time() {
    let pod = Pod::new().template(ARTIFACT);
    let file = std::fs::File::create(pod.work.join("o")).unwrap();
    if file.set_len(1 << 40).is_err() {
        eprintln!("the file system refuses a file of a terabyte: not tested");
        return;
    }
    // To read all of the file would take minutes, and this test would pass its deadline.
    assert_eq!(pod.run(&["--", "true"]).status, 0);
    let archive = std::fs::File::open(pod.shared.join(pod.output("artifacts", "o.tgz"))).unwrap();
    let mut head = vec![0; 512];
    std::io::Read::read_exact(&mut flate2::read::GzDecoder::new(archive), &mut head).unwrap();
    assert_eq!(tar::Header::from_byte_slice(&head).as_bytes()[..2], *b"Pa", "a size past 8 GiB has a PAX record before it");
}

#[test]
fn a_failed_artifact_does_not_change_the_next_one() {
    if !may_unshare("--mount") {
        return;
    }
    // The first artifact is far too large for the disk. It fails while threads compress its chunks.
    let template = r#"{"outputs":{"artifacts":[{"name":"a","path":"$W/large"},{"name":"b","path":"$W/o"}]}}"#;
    let pod = Pod::new().template(template);
    let rows = fill(&pod);
    let mount = format!(
        "mkdir {0}/outputs && mount -t tmpfs -o size=6m tmpfs {0}/outputs && \"$@\"; cp -r {0}/outputs {0}/kept",
        pod.shared.display()
    );
    let pod = pod.via(&["unshare", "--mount", "sh", "-c", &mount, "sh"]);
    let outcome = pod.sh("head -c 20000000 /dev/urandom >$W/large");
    assert_eq!(pod.exit_code().as_deref(), Some("64"));
    assert!(outcome.stderr.contains("large.tgz: no space left on device"), "{outcome:?}");
    assert!(pod.entries(&pod.output("artifacts", "o.tgz").replace("outputs/", "kept/")) == rows);
}

#[test]
#[ignore = "slow, 4 s: compresses at the highest level"]
fn a_long_save_prints_its_progress() {
    if !has_program("taskset") {
        return;
    }
    let pod = Pod::new().template(slow_artifact()).via(&["taskset", "-c", "0"]);
    let outcome = pod.sh(&two_letters(12_000_000));
    assert_eq!(outcome.status, 0);
    let line = outcome.stderr.lines().next().unwrap_or_default();
    assert!(line.starts_with("emissary: ") && line.contains("/o.tgz: read ") && line.contains(" MB of 12.0 MB ("), "{outcome:?}");
    assert!(line.contains(" %), wrote ") && line.ends_with("B/s"), "{outcome:?}");
}
