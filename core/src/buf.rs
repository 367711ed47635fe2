//! A writer that fills a `&mut [u8]` of the caller.
//!
//! Enters: pieces of text, numbers and bytes. Leaves: the filled part of the buffer. Refuses: text that is longer than the buffer, with [`Full`].
//!
//! The writer reports an overflow once, at the end, with the size that would be enough. So a chain of pushes needs no check at each link, and the
//! caller can try again with a larger buffer. Nothing is cut silently.

use core::fmt;

/// The buffer is too small for the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Bytes that the whole text needs.
    pub needed: usize,
    /// Bytes that the buffer has.
    pub capacity: usize,
}

impl Full {
    /// Writes the cause as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        out.text("needs ").decimal(self.needed as u64).text(" bytes, but the buffer has ").decimal(self.capacity as u64);
    }
}

/// Implements `Display` and `Error` with the type's own `describe(&self, &mut Writer)`. A caller for whom size matters calls `describe`, which
/// links nothing of `core::fmt`.
macro_rules! display_by_describe {
    ($($type:ty),+) => {$(
        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let mut room = [0; 512];
                let mut out = $crate::buf::Writer::new(&mut room);
                self.describe(&mut out);
                f.write_str(core::str::from_utf8(out.written()).unwrap_or("(not UTF-8)"))
            }
        }
        impl core::error::Error for $type {}
    )+};
}
pub(crate) use display_by_describe;

display_by_describe!(Full);

/// Appends to a buffer that the caller owns. Every method that appends returns the writer, so calls chain.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut [u8],
    /// Bytes of all pieces so far, including pieces that did not fit.
    needed: usize,
    /// Bytes of the pieces before the first that did not fit.
    complete: usize,
}

impl<'a> Writer<'a> {
    /// An empty writer at the start of `buf`.
    #[must_use]
    pub const fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, needed: 0, complete: 0 }
    }

    /// Appends `bytes`. If the piece does not fit, the writer leaves out all of it, and [`Writer::finish`] fails.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        if let Some(room) = self.reserve(bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self
    }

    /// Appends a piece of `length` bytes and returns it for the caller to fill. If the piece does not fit, returns `None`, and [`Writer::finish`] fails.
    pub(crate) fn reserve(&mut self, length: usize) -> Option<&mut [u8]> {
        let start = self.needed;
        self.needed = self.needed.saturating_add(length);
        let room = self.buf.get_mut(start..)?.get_mut(..length)?;
        self.complete = self.needed;
        Some(room)
    }

    /// Appends text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Appends one byte.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        self.bytes(&[byte])
    }

    /// Appends `value` in decimal digits.
    pub fn decimal(&mut self, value: u64) -> &mut Self {
        self.padded(value, 1)
    }

    /// Appends `value` in at least `width` decimal digits, at most 20, with zeros in front.
    pub fn padded(&mut self, value: u64, width: usize) -> &mut Self {
        let mut digits = [b'0'; 20];
        let mut left = value;
        let mut first = digits.len();
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0'.wrapping_add(low_byte(left.wrapping_rem(10)));
            left = left.wrapping_div(10);
            first = at;
            if left == 0 {
                break;
            }
        }
        first = first.min(digits.len().saturating_sub(width));
        self.bytes(digits.get(first..).unwrap_or_default())
    }

    /// Appends a signed decimal number.
    pub fn signed(&mut self, value: i64) -> &mut Self {
        if value < 0 {
            self.byte(b'-');
        }
        self.decimal(value.unsigned_abs())
    }

    /// Appends a byte as two lowercase hexadecimal digits.
    pub fn hex(&mut self, byte: u8) -> &mut Self {
        self.bytes(&[hex_digit(byte >> 4), hex_digit(byte & 0x0f)])
    }

    /// Appends a name in a form that a person can read on one line. Control characters and bytes that are not UTF-8 become `\xNN`. Terminals obey
    /// U+0080 to U+009F, so these count as control characters, too.
    pub fn shown(&mut self, name: &[u8]) -> &mut Self {
        for chunk in name.utf8_chunks() {
            for character in chunk.valid().chars() {
                let mut room = [0; 4];
                let text = character.encode_utf8(&mut room);
                if character.is_control() {
                    self.escaped(text.as_bytes())
                } else {
                    self.text(text)
                };
            }
            self.escaped(chunk.invalid());
        }
        self
    }

    /// Appends each byte as `\xNN`.
    pub(crate) fn escaped(&mut self, bytes: &[u8]) -> &mut Self {
        for &byte in bytes {
            self.text("\\x").hex(byte);
        }
        self
    }

    /// Bytes that the text needs so far, including pieces that did not fit.
    #[must_use]
    pub const fn needed(&self) -> usize {
        self.needed
    }

    /// The text so far. After an overflow: the pieces before the first that did not fit.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        self.buf.get(..self.complete).unwrap_or_default()
    }

    /// Returns the filled part of the buffer.
    ///
    /// # Errors
    /// [`Full`] if a piece did not fit.
    pub fn finish(self) -> Result<&'a mut [u8], Full> {
        let capacity = self.buf.len();
        self.buf.get_mut(..self.needed).ok_or(Full { needed: self.needed, capacity })
    }
}

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.text(s);
        Ok(())
    }
}

/// The low eight bits of a number.
#[must_use]
pub(crate) const fn low_byte(value: u64) -> u8 {
    let [byte, ..] = value.to_le_bytes();
    byte
}

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0'.wrapping_add(nibble) } else { b'a'.wrapping_add(nibble.wrapping_sub(10)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_exactly_and_reports_one_over() {
        let mut room = [0xa5; 4];
        let mut out = Writer::new(&mut room);
        out.text("ab").byte(b'c').byte(b'd');
        assert_eq!(out.finish().unwrap(), b"abcd");
        let mut out = Writer::new(&mut room);
        out.text("abcd").byte(b'e');
        assert_eq!(out.written(), b"abcd");
        assert_eq!(out.finish(), Err(Full { needed: 5, capacity: 4 }));
    }

    #[test]
    fn a_piece_after_an_overflow_is_not_written() {
        let mut room = [0xa5; 4];
        let mut out = Writer::new(&mut room);
        out.text("abc").text("de").text("f");
        assert_eq!(out.written(), b"abc");
        assert_eq!(out.finish(), Err(Full { needed: 6, capacity: 4 }));
        assert_eq!(room, [b'a', b'b', b'c', 0xa5]);
    }

    #[test]
    fn numbers() {
        let mut room = [0xa5; 64];
        let mut out = Writer::new(&mut room);
        out.decimal(0).byte(b' ').decimal(u64::MAX).byte(b' ').signed(i64::MIN).byte(b' ').padded(7, 3).byte(b' ').hex(0xaf);
        assert_eq!(out.finish().unwrap(), b"0 18446744073709551615 -9223372036854775808 007 af");
    }

    #[test]
    fn control_characters_become_escapes() {
        let mut room = [0xa5; 32];
        let mut out = Writer::new(&mut room);
        out.shown("a\nb\u{e9}\x7f\u{9b}2J".as_bytes());
        assert_eq!(out.finish().unwrap(), "a\\x0ab\u{e9}\\x7f\\xc2\\x9b2J".as_bytes());
    }

    #[test]
    fn full_names_both_sizes() {
        assert_eq!(std::format!("{}", Full { needed: 5, capacity: 4 }), "needs 5 bytes, but the buffer has 4");
    }
}
