//! Golden tests: our bytes against bytes that GNU tar and gzip wrote. `vectors/README.md` has the command for each file.

use emissary_core::gzip;
use emissary_core::tar::{BLOCK_BYTES, Entry, Kind, TRAILER, padding};

#[test]
fn archive_equals_gnu_tars_byte_for_byte() {
    let want = include_bytes!("vectors/gnu-ustar.tar");
    let long = [&b"d/"[..], &[b'p'; 99]].concat();
    let longer = [&long[..], b"/", &[b'n'; 90]].concat();
    let rows: [(&[u8], Kind<'_>, u32, &[u8]); 7] = [
        (b"d", Kind::Directory, 0o755, b""),
        (b"d/file", Kind::Regular { size_bytes: 5 }, 0o640, b"hello"),
        (b"d/link", Kind::Symlink { target: b"file" }, 0o777, b""),
        (b"d/pipe", Kind::Fifo, 0o600, b""),
        (&long, Kind::Directory, 0o755, b""),
        (&longer, Kind::Regular { size_bytes: 0 }, 0o644, b""),
        (b"d/sub", Kind::Directory, 0o2755, b""),
    ];
    let mut archive = Vec::new();
    for (name, kind, mode, contents) in rows {
        let entry = Entry { name, kind, mode, uid: 1001, gid: 2002, mtime_s: 1_795_498_648 };
        let mut room = [0xa5; 4096];
        archive.extend_from_slice(entry.write_header(&mut room).unwrap());
        archive.extend_from_slice(contents);
        archive.resize(archive.len() + padding(contents.len() as u64), 0);
    }
    archive.extend_from_slice(&TRAILER);
    for (at, (ours, theirs)) in archive.chunks(BLOCK_BYTES).zip(want.chunks(BLOCK_BYTES)).enumerate() {
        assert_eq!(String::from_utf8_lossy(ours), String::from_utf8_lossy(theirs), "block {at}");
    }
    assert_eq!(archive.len(), want.len());
}

#[test]
fn framing_equals_gzips() {
    let want = include_bytes!("vectors/gzip-n.gz");
    let contents = b"an emissary\n";
    let crc = gzip::crc::Crc::new().update(0, contents);
    assert_eq!(gzip::HEADER, want[..10]);
    assert_eq!(gzip::trailer(crc, contents.len() as u64), want[want.len() - 8..]);
}
