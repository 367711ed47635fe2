//! Header blocks of a tar archive: ustar, and before it a PAX extended header if a value does not fit into ustar (POSIX.1-2017, pax, "pax Interchange
//! Format").
//!
//! Enters: facts about a file: name, type, mode, owner, size, time, link target. Leaves: one or more blocks of 512 bytes. After the blocks, the caller writes
//! the contents and [`padding`] zero bytes; after the last member, the [`TRAILER`]. Refuses: a buffer that is too small. Every value has a form.
//!
//! A name that is not UTF-8 is written unchanged. If it needs a PAX record, the record `hdrcharset=BINARY` comes before it.

use core::ops::Range;

use crate::buf::{Full, Writer};

/// Bytes of a block, the unit of a tar archive.
pub const BLOCK_BYTES: usize = 512;

/// The end of an archive: two blocks of zeros.
pub const TRAILER: [u8; 1024] = [0; 1024];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPEFLAG: Range<usize> = 156..157;
const LINKNAME: Range<usize> = 157..257;
const MAGIC_AND_VERSION: Range<usize> = 257..265;
const DEVMAJOR: Range<usize> = 329..337;
const DEVMINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;

/// Largest value of a field with seven octal digits.
const SEVEN_DIGITS: u64 = 0o777_7777;
/// Largest value of a field with eleven octal digits: 8 GiB less one byte.
const ELEVEN_DIGITS: u64 = 0o777_7777_7777;

/// The type of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A file with contents.
    Regular {
        /// Size of the contents in bytes.
        size_bytes: u64,
    },
    /// A symbolic link.
    Symlink {
        /// The link's target, as readlink(2) returns it.
        target: &'a [u8],
    },
    /// A folder.
    Directory,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl Kind<'_> {
    const fn typeflag(self) -> u8 {
        match self {
            Self::Regular { .. } => b'0',
            Self::Symlink { .. } => b'2',
            Self::CharacterDevice { .. } => b'3',
            Self::BlockDevice { .. } => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// The facts of a member, as lstat(2) returns them.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The path in the archive, without a slash at the end and without a NUL byte. The writer adds the slash of a folder.
    pub name: &'a [u8],
    /// The type.
    pub kind: Kind<'a>,
    /// Permission bits, set-user-ID, set-group-ID and sticky bit: the low 12 bits. The writer drops higher bits.
    pub mode: u32,
    /// User id of the owner.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Time of the last modification, in seconds since 1970.
    pub mtime_s: i64,
}

/// Number of zero bytes that fill up the last block after contents of `size_bytes`.
#[must_use]
pub const fn padding(size_bytes: u64) -> usize {
    // The remainder is below 512, so it fits into `u16`.
    BLOCK_BYTES.wrapping_sub((size_bytes % 512) as u16 as usize) % BLOCK_BYTES
}

impl Entry<'_> {
    /// Writes the member's header blocks to `buf`. Their length is a multiple of [`BLOCK_BYTES`], 512 for most members.
    ///
    /// # Errors
    /// [`Full`] with the number of bytes needed, if `buf` is too small.
    pub fn write_header<'b>(&self, buf: &'b mut [u8]) -> Result<&'b [u8], Full> {
        let mut out = Writer::new(buf);
        let records_bytes = self.records_bytes();
        if records_bytes > 0 {
            let mut block = [0; BLOCK_BYTES];
            put_bytes(&mut block, NAME, b"PaxHeaders/");
            put_bytes(&mut block, 11..NAME.end, self.name.rsplit(|&byte| byte == b'/').next().unwrap_or_default());
            put_common_fields(&mut block, b'x', 0o644, 0, 0, records_bytes as u64, self.mtime_s);
            put_checksum(&mut block);
            out.bytes(&block);
            self.write_records(&mut out);
            out.bytes(TRAILER.get(..padding(records_bytes as u64)).unwrap_or_default());
        }
        out.bytes(&self.ustar());
        out.finish().map(|blocks| &*blocks)
    }

    fn ustar(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let (prefix, name) = self.split_name().unwrap_or((&[], self.name));
        put_bytes(&mut block, PREFIX, prefix);
        put_bytes(&mut block, NAME, name);
        if self.kind == Kind::Directory {
            put_bytes(&mut block, name.len().min(NAME.end)..NAME.end, b"/");
        }
        let size_bytes = if let Kind::Regular { size_bytes } = self.kind { size_bytes } else { 0 };
        put_common_fields(&mut block, self.kind.typeflag(), self.mode & 0o7777, self.uid, self.gid, size_bytes, self.mtime_s);
        if let Kind::Symlink { target } = self.kind {
            put_bytes(&mut block, LINKNAME, target);
        }
        let (major, minor) = match self.kind {
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
            Kind::Regular { .. } | Kind::Symlink { .. } | Kind::Directory | Kind::Fifo => (0, 0),
        };
        put_octal(&mut block, DEVMAJOR, u64::from(major), SEVEN_DIGITS);
        put_octal(&mut block, DEVMINOR, u64::from(minor), SEVEN_DIGITS);
        put_checksum(&mut block);
        block
    }

    /// Bytes of the name, with the slash of a folder.
    const fn name_bytes(&self) -> usize {
        self.name.len().saturating_add(matches!(self.kind, Kind::Directory) as usize)
    }

    /// The name in ustar's two fields, prefix and name, which a reader joins with a slash. `None` if the name does not fit.
    fn split_name(&self) -> Option<(&[u8], &[u8])> {
        if self.name_bytes() <= NAME.len() {
            return Some((&[], self.name));
        }
        // Split at the last slash whose prefix fits. The name after it must fit, too.
        let within = self.name.get(..self.name.len().min(PREFIX.len().saturating_add(1)))?;
        let slash = within.iter().rposition(|&byte| byte == b'/').filter(|slash| *slash > 0)?;
        let (prefix, name) = self.name.split_at_checked(slash)?;
        let name = name.get(1..).filter(|name| !name.is_empty())?;
        let name_bytes = self.name_bytes().saturating_sub(slash).saturating_sub(1);
        (name_bytes <= NAME.len()).then_some((prefix, name))
    }

    /// Calls `each` for every PAX record that the member needs, with the keyword and the value in two pieces.
    fn records(&self, mut each: impl FnMut(&str, &[u8], &[u8])) {
        let path = (self.split_name().is_none() || !self.name.is_ascii()).then_some(self.name);
        let target = match self.kind {
            Kind::Symlink { target } if target.len() > LINKNAME.len() || !target.is_ascii() => Some(target),
            _ => None,
        };
        let is_binary = |name: Option<&[u8]>| name.is_some_and(|name| core::str::from_utf8(name).is_err());
        if is_binary(path) || is_binary(target) {
            each("hdrcharset", b"BINARY", b"");
        }
        if let Some(path) = path {
            each("path", path, if self.kind == Kind::Directory { b"/" } else { b"" });
        }
        if let Some(target) = target {
            each("linkpath", target, b"");
        }
        let mut number = |keyword: &str, value: i64| {
            let mut room = [0; 20];
            let mut out = Writer::new(&mut room);
            out.signed(value);
            each(keyword, out.written(), b"");
        };
        if let Kind::Regular { size_bytes } = self.kind
            && size_bytes > ELEVEN_DIGITS
        {
            number("size", i64::try_from(size_bytes).unwrap_or(i64::MAX));
        }
        if u64::from(self.uid) > SEVEN_DIGITS {
            number("uid", i64::from(self.uid));
        }
        if u64::from(self.gid) > SEVEN_DIGITS {
            number("gid", i64::from(self.gid));
        }
        if u64::try_from(self.mtime_s).map_or(true, |mtime| mtime > ELEVEN_DIGITS) {
            number("mtime", self.mtime_s);
        }
    }

    fn records_bytes(&self) -> usize {
        let mut total: usize = 0;
        self.records(|keyword, value, more| total = total.saturating_add(record_bytes(keyword, value, more)));
        total
    }

    fn write_records(&self, out: &mut Writer<'_>) {
        self.records(|keyword, value, more| {
            out.decimal(record_bytes(keyword, value, more) as u64).byte(b' ').text(keyword).byte(b'=');
            out.bytes(value).bytes(more).byte(b'\n');
        });
    }
}

/// Bytes of a PAX record `LENGTH KEYWORD=VALUE\n`. LENGTH counts its own digits.
fn record_bytes(keyword: &str, value: &[u8], more: &[u8]) -> usize {
    let rest = keyword.len().saturating_add(value.len()).saturating_add(more.len()).saturating_add(3);
    let with = |digits: usize| rest.saturating_add(digits);
    let mut digits = 1;
    while decimal_digits(with(digits)) > digits {
        digits = digits.saturating_add(1);
    }
    with(digits)
}

fn decimal_digits(value: usize) -> usize {
    usize::try_from(value.checked_ilog10().unwrap_or(0)).unwrap_or(0).saturating_add(1)
}

/// Copies as much of `value` as the field holds.
fn put_bytes(block: &mut [u8; BLOCK_BYTES], field: Range<usize>, value: &[u8]) {
    for (to, from) in block.get_mut(field).unwrap_or_default().iter_mut().zip(value) {
        *to = *from;
    }
}

/// Writes octal digits and a NUL. A value past `largest` has a PAX record; the field then shows `largest`.
fn put_octal(block: &mut [u8; BLOCK_BYTES], field: Range<usize>, value: u64, largest: u64) {
    let mut left = value.min(largest);
    let mut places = block.get_mut(field).unwrap_or_default().iter_mut().rev();
    if let Some(end) = places.next() {
        *end = 0;
    }
    for digit in places {
        *digit = b'0'.wrapping_add(crate::buf::low_byte(left & 7));
        left >>= 3;
    }
}

fn put_common_fields(block: &mut [u8; BLOCK_BYTES], typeflag: u8, mode: u32, uid: u32, gid: u32, size_bytes: u64, mtime_s: i64) {
    put_octal(block, MODE, u64::from(mode), SEVEN_DIGITS);
    put_octal(block, UID, u64::from(uid), SEVEN_DIGITS);
    put_octal(block, GID, u64::from(gid), SEVEN_DIGITS);
    put_octal(block, SIZE, size_bytes, ELEVEN_DIGITS);
    put_octal(block, MTIME, u64::try_from(mtime_s).unwrap_or(0), ELEVEN_DIGITS);
    put_bytes(block, TYPEFLAG, &[typeflag]);
    put_bytes(block, MAGIC_AND_VERSION, b"ustar\x0000");
}

/// Writes the checksum: the sum of all bytes of the block, with the checksum field itself counted as spaces. Six octal digits, a NUL, a space.
fn put_checksum(block: &mut [u8; BLOCK_BYTES]) {
    put_bytes(block, CHECKSUM, b"        ");
    let sum = block.iter().fold(0_u64, |sum, &byte| sum.wrapping_add(u64::from(byte)));
    put_octal(block, CHECKSUM.start..CHECKSUM.end.saturating_sub(1), sum, SEVEN_DIGITS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    const PLAIN: Entry<'_> =
        Entry { name: b"a", kind: Kind::Regular { size_bytes: 3 }, mode: 0o640, uid: 1, gid: 2, mtime_s: 1_795_498_648 };

    fn header(entry: &Entry<'_>) -> Vec<u8> {
        let mut room = [0xa5; 8192];
        entry.write_header(&mut room).unwrap().to_vec()
    }

    /// The first member as the crate `tar` reads it: name, link target, size, uid, gid, mode, typeflag.
    fn read_back(entry: &Entry<'_>) -> (Vec<u8>, Option<Vec<u8>>, u64, u64, u64, u32, u8) {
        let mut bytes = header(entry);
        bytes.extend_from_slice(&TRAILER);
        let mut archive = tar::Archive::new(&bytes[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        let header = entry.header();
        (
            entry.path_bytes().to_vec(),
            entry.link_name_bytes().map(|name| name.to_vec()),
            entry.size(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mode().unwrap(),
            header.entry_type().as_byte(),
        )
    }

    #[test]
    fn a_plain_file_is_one_block() {
        let bytes = header(&PLAIN);
        assert_eq!(bytes.len(), 512);
        assert_eq!(&bytes[NAME][..2], b"a\0");
        assert_eq!(&bytes[MODE], b"0000640\0");
        assert_eq!(&bytes[SIZE], b"00000000003\0");
        assert_eq!(&bytes[MAGIC_AND_VERSION], b"ustar\x0000");
        assert_eq!(read_back(&PLAIN), (b"a".to_vec(), None, 3, 1, 2, 0o640, b'0'));
    }

    #[test]
    fn each_typeflag() {
        for (kind, flag) in [
            (Kind::Symlink { target: b"to" }, b'2'),
            (Kind::Directory, b'5'),
            (Kind::Fifo, b'6'),
            (Kind::CharacterDevice { major: 1, minor: 3 }, b'3'),
            (Kind::BlockDevice { major: 8, minor: 0 }, b'4'),
        ] {
            let entry = Entry { kind, ..PLAIN };
            let (name, link, size, _, _, _, typeflag) = read_back(&entry);
            assert_eq!((typeflag, size), (flag, 0));
            assert_eq!(name, if flag == b'5' { &b"a/"[..] } else { b"a" });
            assert_eq!(link.is_some(), flag == b'2');
        }
    }

    #[test]
    fn names_around_the_length_of_each_field() {
        // Miri interprets the code: all lengths would take it many minutes.
        let (lengths, slashes): (&[usize], &[Option<usize>]) = if cfg!(miri) {
            (&[100, 101, 256, 257], &[None, Some(155)])
        } else {
            (
                &[99, 100, 101, 155, 156, 157, 254, 255, 256, 257, 300, 4096],
                &[None, Some(1), Some(50), Some(99), Some(154), Some(155), Some(156), Some(250)],
            )
        };
        for &length in lengths {
            for &slash in slashes {
                let mut name = std::vec![b'n'; length];
                if let Some(slash) = slash
                    && slash + 1 < length
                {
                    name[slash] = b'/';
                }
                for kind in [Kind::Regular { size_bytes: 0 }, Kind::Directory] {
                    let (read, ..) = read_back(&Entry { name: &name, kind, ..PLAIN });
                    let mut want = name.clone();
                    if kind == Kind::Directory {
                        want.push(b'/');
                    }
                    assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&want), "{length} {slash:?}");
                }
            }
        }
    }

    #[test]
    fn a_name_that_splits_at_a_slash_needs_no_record() {
        let name = [&[b'p'; 155][..], b"/", &[b'n'; 100]].concat();
        assert_eq!(header(&Entry { name: &name, ..PLAIN }).len(), 512);
        let name = [&[b'p'; 155][..], b"/", &[b'n'; 101]].concat();
        assert!(header(&Entry { name: &name, ..PLAIN }).len() > 512);
    }

    #[test]
    fn values_past_the_ustar_fields_get_records() {
        let entry = Entry { kind: Kind::Regular { size_bytes: ELEVEN_DIGITS + 1 }, uid: 2_097_152, gid: u32::MAX, mtime_s: -1, ..PLAIN };
        let bytes = header(&entry);
        let text = String::from_utf8_lossy(&bytes[512..1024]).into_owned();
        assert_eq!(text.trim_end_matches('\0'), "19 size=8589934592\n15 uid=2097152\n18 gid=4294967295\n12 mtime=-1\n");
        assert_eq!(&bytes[1024..][MTIME], b"00000000000\0");
        let largest = Entry { kind: Kind::Regular { size_bytes: ELEVEN_DIGITS }, uid: 2_097_151, gid: 2_097_151, mtime_s: 0, ..PLAIN };
        assert_eq!(header(&largest).len(), 512);
    }

    #[test]
    fn names_that_are_not_ascii_get_records() {
        let bytes = header(&Entry { name: "naïve-ключ".as_bytes(), ..PLAIN });
        assert!(String::from_utf8_lossy(&bytes[512..]).starts_with("24 path=naïve-ключ\n"));
        let bytes = header(&Entry { name: b"\xff\xfe", kind: Kind::Symlink { target: b"\xfd" }, ..PLAIN });
        assert!(bytes[512..].starts_with(b"21 hdrcharset=BINARY\n11 path=\xff\xfe\n14 linkpath=\xfd\n"));
        assert_eq!(read_back(&Entry { name: b"\xff\xfe", ..PLAIN }).0, b"\xff\xfe");
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for length in [1, 2, 88, 89, 90, 91, 92, 93, 985, 986, 987, 988, 989, 990, 9985] {
            let value = std::vec![b'v'; length];
            let total = record_bytes("path", &value, b"");
            assert_eq!(total, std::format!("{total} path=").len() + length + 1);
        }
    }

    #[test]
    fn a_small_buffer_is_refused_with_the_size_needed() {
        let name = [b'n'; 300];
        let entry = Entry { name: &name, ..PLAIN };
        let mut room = [0xa5; 1535];
        assert_eq!(entry.write_header(&mut room).unwrap_err(), Full { needed: 1536, capacity: 1535 });
    }

    #[test]
    fn padding_fills_the_last_block() {
        for (size, want) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511), (u64::MAX, 1)] {
            assert_eq!(padding(size), want);
        }
    }
}
