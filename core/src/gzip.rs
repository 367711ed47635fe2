//! gzip framing (RFC 1952), and the deflate blocks that need no compressor (RFC 1951).
//!
//! Enters: checksum and length of what was compressed; bytes that may not be worth it. Leaves: the ten bytes before a deflate stream and the eight
//! after it, the headers of stored blocks, the block that ends a stream; CRC-32; whether a stretch is noise. Refuses nothing. The caller's library
//! does the compressing.

pub mod crc;
pub mod noise;

/// The header of a member (RFC 1952, section 2.3): no name, no time, Unix. Without a time, the same contents give the same bytes.
pub const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// The trailer of a member (RFC 1952, section 2.3.1): the CRC-32 of the contents, then their length modulo 2^32, both little-endian.
#[must_use]
pub const fn trailer(crc: u32, length_bytes: u64) -> [u8; 8] {
    let [a, b, c, d] = crc.to_le_bytes();
    let [e, f, g, h, ..] = length_bytes.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

/// The block that ends a stream whose other blocks all said that they are not the last: an empty one with fixed codes.
pub const END: [u8; 2] = [0x03, 0x00];

/// Bytes of one stored block, at most (RFC 1951, section 3.2.4).
pub const STORED_BYTES: usize = 65_535;

/// Header of a stored block that begins at a byte: that it is not the last, its length and the complement.
#[must_use]
pub const fn stored_header(bytes: u16) -> [u8; 5] {
    let [low, high] = bytes.to_le_bytes();
    [0, low, high, !low, !high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_of_empty_contents_and_of_the_check_string() {
        assert_eq!(trailer(0, 0), [0; 8]);
        assert_eq!(trailer(0xcbf4_3926, 9), [0x26, 0x39, 0xf4, 0xcb, 9, 0, 0, 0]);
        assert_eq!(trailer(1, (7 << 32) + 2), [1, 0, 0, 0, 2, 0, 0, 0], "a length past 4 GiB counts modulo 2^32");
    }

    #[test]
    fn stored_blocks() {
        assert_eq!(stored_header(0), [0, 0, 0, 0xff, 0xff]);
        assert_eq!(stored_header(0x1234), [0, 0x34, 0x12, 0xcb, 0xed]);
        assert_eq!(stored_header(u16::MAX), [0, 0xff, 0xff, 0, 0]);
        assert_eq!(usize::from(u16::MAX), STORED_BYTES);
    }
}
