//! gzip framing (RFC 1952): the header before a deflate stream, and the trailer after it.
//!
//! Enters: checksum and length of what was compressed. Leaves: the ten bytes before a deflate stream and the eight after it. Stream and checksum
//! are the work of the crate `emissary-deflate`.

/// The header of a member (RFC 1952, section 2.3): no name, no time, Unix. Without a time, the same contents give the same bytes.
pub const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// The trailer of a member (RFC 1952, section 2.3.1): the CRC-32 of the contents, then their length modulo 2^32, both little-endian.
#[must_use]
pub const fn trailer(crc: u32, length_bytes: u64) -> [u8; 8] {
    let [a, b, c, d] = crc.to_le_bytes();
    let [e, f, g, h, ..] = length_bytes.to_le_bytes();
    [a, b, c, d, e, f, g, h]
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
}
