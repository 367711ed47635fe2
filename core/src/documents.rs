//! Emissary's own documents as JSON: the report of `wait --json`, and log lines.
//!
//! Enters: a value that serde serializes; its text is a [`Text`]. Leaves: one JSON object and a newline in the caller's buffer. Refuses: a buffer that is too
//! small; the buffer then holds no document.
//!
//! serde-json-core writes these documents, under the feature `documents`. [`crate::json`] reads documents that others write.

use core::fmt;

/// Text that may contain bytes that are not UTF-8. Each invalid sequence becomes U+FFFD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(pub &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

#[cfg(feature = "documents")]
impl serde::Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Writes a document and a newline. Returns their length in bytes, or `None` if `buf` is too small; `buf` then holds no whole document.
#[cfg(feature = "documents")]
pub(crate) fn write<T: serde::Serialize>(document: &T, buf: &mut [u8]) -> Option<usize> {
    let length = serde_json_core::to_slice(document, buf).ok()?;
    *buf.get_mut(length)? = b'\n';
    length.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn written(text: &[u8]) -> String {
        let mut room = std::vec![0xa5; text.len() * 6 + 3];
        let length = write(&Text(text), &mut room).unwrap();
        assert!(room[length..].iter().all(|&byte| byte == 0xa5));
        String::from_utf8(room[..length].to_vec()).unwrap()
    }

    #[test]
    fn strings_become_json_strings() {
        assert_eq!(written(b"a\"\\\n\x01\xff\xfeb"), "\"a\\\"\\\\\\n\\u0001\u{fffd}\u{fffd}b\"\n");
        // The writer escapes only what JSON requires: not DEL, and not U+2028, Unicode's line separator.
        assert_eq!(written("\u{7f}\u{9b}\u{2028}\u{feff}\u{10ffff}/<".as_bytes()), "\"\u{7f}\u{9b}\u{2028}\u{feff}\u{10ffff}/<\"\n");
        assert_eq!(written(b""), "\"\"\n");
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow, minutes: an interpreter takes each byte")]
    fn every_byte_round_trips() {
        for first in 0..=0xff_u8 {
            let text = [b'a', first, b'z'];
            let back: String = serde_json::from_str(&written(&text)).unwrap();
            assert_eq!(back, String::from_utf8_lossy(&text));
        }
        let long: Vec<u8> = (0..if cfg!(miri) { 500 } else { 1 << 20 }).map(|at: u32| at.to_le_bytes()[0]).collect();
        let back: String = serde_json::from_str(&written(&long)).unwrap();
        assert_eq!(back, String::from_utf8_lossy(&long));
    }

    #[test]
    fn a_document_is_whole_or_absent() {
        let whole = written("é\n\u{1}\"".as_bytes());
        for capacity in 0..whole.len() + 3 {
            let mut room = std::vec![0xa5; capacity];
            let length = write(&Text("é\n\u{1}\"".as_bytes()), &mut room);
            assert_eq!(length, (capacity >= whole.len()).then_some(whole.len()), "{capacity}");
            assert!(length.is_none() || room.starts_with(whole.as_bytes()));
        }
    }
}
