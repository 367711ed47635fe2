//! Bits into bytes, the lowest first (RFC 1951, section 3.1.1).

use crate::stored_header;

pub(crate) struct Bits<'a> {
    out: &'a mut [u8],
    /// Whole bytes that are written.
    at: usize,
    held: u64,
    held_bits: u32,
    overflowed: bool,
}

impl<'a> Bits<'a> {
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, held: 0, held_bits: 0, overflowed: false }
    }

    /// Adds up to 32 bits.
    #[inline(always)]
    pub(crate) fn put(&mut self, value: u32, count: u32) {
        self.held |= u64::from(value) << (self.held_bits & 63);
        self.held_bits += count;
        if self.held_bits >= 32 {
            if let Some(room) = self.out.get_mut(self.at..self.at + 4) {
                room.copy_from_slice(&self.held.to_le_bytes()[..4]);
                self.at += 4;
            } else {
                self.overflowed = true;
            }
            self.held >>= 32;
            self.held_bits -= 32;
        }
    }

    /// Zero bits up to the next byte.
    pub(crate) fn align(&mut self) {
        let count = self.held_bits.wrapping_neg() & 7;
        self.put(0, count);
    }

    /// A stored block of at most 65,535 bytes. `None` where there is no room for it.
    pub(crate) fn stored(&mut self, bytes: &[u8]) -> Option<()> {
        self.put(0, 3);
        self.align();
        let [_, header @ ..] = stored_header(bytes.len() as u16);
        self.put(u32::from_le_bytes(header), 32);
        self.flush()?;
        let room = self.out.get_mut(self.at..self.at + bytes.len())?;
        room.copy_from_slice(bytes);
        self.at += bytes.len();
        Some(())
    }

    /// Writes the whole bytes that are held; only at a byte's end.
    fn flush(&mut self) -> Option<()> {
        while self.held_bits >= 8 {
            *self.out.get_mut(self.at)? = self.held as u8;
            self.at += 1;
            self.held >>= 8;
            self.held_bits -= 8;
        }
        Some(())
    }

    /// Bits that still find room.
    pub(crate) const fn room_bits(&self) -> u64 {
        (8 * (self.out.len() - self.at) as u64).saturating_sub(self.held_bits as u64)
    }

    /// Bytes that were written; `None` where not all found room.
    pub(crate) fn finish(mut self) -> Option<usize> {
        self.flush()?;
        (!self.overflowed).then_some(self.at)
    }
}
