//! gzip framing (RFC 1952): header, CRC-32 and length of what was compressed, trailer.
//!
//! Enters: the uncompressed bytes, for the check. Leaves: the ten bytes before a deflate stream and the eight after it. The deflate
//! stream itself (RFC 1951) is the caller's: its state is large and its crate needs a heap.

use crc32fast::Hasher;

use crate::buf::Writer;

/// The header of a member: no name, no time (so the same contents give the same bytes), Unix.
pub const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// One member's check.
#[derive(Debug, Clone, Default)]
pub struct Member {
    crc: Hasher,
    length_bytes: u32,
}

impl Member {
    /// A member with no contents yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts uncompressed bytes in, in order, in pieces of any length.
    pub fn update(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        let [a, b, c, d, ..] = (bytes.len() as u64).to_le_bytes();
        self.length_bytes = self.length_bytes.wrapping_add(u32::from_le_bytes([a, b, c, d]));
    }

    /// The trailer: CRC-32, then the length modulo 2^32, both little-endian.
    #[must_use]
    pub fn trailer(&self) -> [u8; 8] {
        let mut trailer = [0; 8];
        Writer::new(&mut trailer).bytes(&self.crc.clone().finalize().to_le_bytes()).bytes(&self.length_bytes.to_le_bytes());
        trailer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::vec::Vec;

    /// A member whose contents are stored: one deflate block of type 0 (RFC 1951, 3.2.4).
    fn stored(contents: &[u8], split: usize) -> Vec<u8> {
        let mut member = Member::new();
        member.update(&contents[..split]);
        member.update(&contents[split..]);
        let length = u16::try_from(contents.len()).unwrap();
        let mut bytes = HEADER.to_vec();
        bytes.push(1);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(!length).to_le_bytes());
        bytes.extend_from_slice(contents);
        bytes.extend_from_slice(&member.trailer());
        bytes
    }

    #[test]
    fn flate2_reads_it_whatever_the_split() {
        let contents = b"an emissary is sent out on a mission";
        for split in 0..=contents.len() {
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(&stored(contents, split)[..]).read_to_end(&mut back).unwrap();
            assert_eq!(back, contents);
        }
    }

    #[test]
    fn the_trailer_of_nothing_and_of_the_check_string() {
        assert_eq!(Member::new().trailer(), [0; 8]);
        let mut member = Member::new();
        member.update(b"123456789");
        assert_eq!(member.trailer(), [0x26, 0x39, 0xf4, 0xcb, 9, 0, 0, 0]);
    }
}
