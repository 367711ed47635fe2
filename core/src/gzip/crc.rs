//! The checksum of gzip: CRC-32 (RFC 1952, section 8), and the checksum of joined parts.
//!
//! Enters: bytes, or the checksums of parts and their lengths. Leaves: a checksum. Refuses: nothing.
//!
//! The tables serve eight bytes a step. The program computes the tables when it first needs them, so they take no room in the binary. If the processor has
//! suitable instructions, those do the work: carry-less multiplication on x86_64, 64 bytes a step; CRC-32 itself on aarch64.

/// The CRC's polynomial in reversed bit order.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// Tables for eight bytes a step.
pub struct Crc {
    tables: [[u32; 256]; 8],
}

/// The table's entry for the lowest byte of `value`.
#[inline(always)]
fn entry(table: &[u32; 256], value: u32) -> u32 {
    let [lowest, ..] = value.to_le_bytes();
    // A byte is always a valid index of the table, and the compiler sees that.
    table.get(usize::from(lowest)).copied().unwrap_or(0)
}

/// The remainder after one more bit.
const fn one_bit(value: u32) -> u32 {
    value >> 1 ^ (POLYNOMIAL & (value & 1).wrapping_neg())
}

impl Crc {
    /// Computes the tables.
    #[must_use]
    pub fn new() -> Self {
        let mut tables = [[0; 256]; 8];
        let [first, others @ ..] = &mut tables;
        for (byte, slot) in (0..).zip(first.iter_mut()) {
            *slot = (0..8).fold(byte, |value, _| one_bit(value));
        }
        let mut before = *first;
        for table in others {
            for (slot, value) in table.iter_mut().zip(before) {
                *slot = value >> 8 ^ entry(first, value);
            }
            before = *table;
        }
        Self { tables }
    }

    /// Continues a checksum: `crc` is that of the bytes before `bytes`, 0 if there are none.
    #[must_use]
    pub fn update(&self, crc: u32, bytes: &[u8]) -> u32 {
        !self.raw(!crc, bytes)
    }

    /// [`Crc::update`] with the instruction `pclmulqdq`.
    ///
    /// # Safety
    /// The processor must have this instruction.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "pclmulqdq")]
    #[must_use]
    pub fn update_clmul(&self, crc: u32, bytes: &[u8]) -> u32 {
        let (folded, rest) = fold(!crc, bytes);
        match folded {
            // The folded block stands in for all whole blocks: its checksum is the same.
            Some(block) => !self.raw(self.raw(0, &block), rest),
            None => self.update(crc, rest),
        }
    }

    /// [`Crc::update`] with the processor's CRC-32 instruction.
    ///
    /// # Safety
    /// The processor must have this instruction (FEAT_CRC32).
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "crc")]
    #[must_use]
    pub fn update_crc(&self, crc: u32, bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks::<8>();
        let raw = words.iter().fold(!crc, |crc, &word| core::arch::aarch64::__crc32d(crc, u64::from_le_bytes(word)));
        !self.raw(raw, rest)
    }

    fn raw(&self, mut crc: u32, bytes: &[u8]) -> u32 {
        let [t0, t1, t2, t3, t4, t5, t6, t7] = &self.tables;
        let (words, rest) = bytes.as_chunks::<8>();
        for &[a, b, c, d, e, f, g, h] in words {
            let low = crc ^ u32::from_le_bytes([a, b, c, d]);
            let high = u32::from_le_bytes([e, f, g, h]);
            crc = entry(t7, low) ^ entry(t6, low >> 8) ^ entry(t5, low >> 16) ^ entry(t4, low >> 24);
            crc ^= entry(t3, high) ^ entry(t2, high >> 8) ^ entry(t1, high >> 16) ^ entry(t0, high >> 24);
        }
        rest.iter().fold(crc, |crc, &byte| crc >> 8 ^ entry(t0, crc ^ u32::from(byte)))
    }
}

/// Folds whole blocks of 64 bytes into one block of 16 bytes with the same checksum; `None` for fewer than 64 bytes. Also returns the bytes after the blocks.
/// Method: Gopal et al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ, 2009. The constants are x to the powers 512+64, 512, 128+64 and 128, in
/// that paper's bit-reflected form.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq")]
#[allow(clippy::cast_possible_truncation, reason = "a word is taken apart into its halves")]
fn fold(raw: u32, bytes: &[u8]) -> (Option<[u8; 16]>, &[u8]) {
    use core::arch::x86_64::{
        __m128i, _mm_clmulepi64_si128, _mm_cvtsi32_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_unpackhi_epi64, _mm_xor_si128,
    };

    #[target_feature(enable = "pclmulqdq")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        let value = u128::from_le_bytes(*bytes);
        _mm_set_epi64x((value >> 64) as i64, value as i64)
    }

    #[target_feature(enable = "pclmulqdq")]
    fn step(folded: __m128i, factor: __m128i, next: __m128i) -> __m128i {
        let low = _mm_clmulepi64_si128::<0x00>(folded, factor);
        let high = _mm_clmulepi64_si128::<0x11>(folded, factor);
        _mm_xor_si128(_mm_xor_si128(low, high), next)
    }

    let (blocks, rest) = bytes.as_chunks::<64>();
    let Some((first, blocks)) = blocks.split_first() else { return (None, rest) };
    let parts = |block: &[u8; 64]| -> [[u8; 16]; 4] {
        let mut parts = [[0; 16]; 4];
        for (part, bytes) in parts.iter_mut().zip(block.as_chunks::<16>().0) {
            *part = *bytes;
        }
        parts
    };
    let [a, b, c, d] = parts(first);
    let (mut a, mut b, mut c, mut d) = (load(&a), load(&b), load(&c), load(&d));
    a = _mm_xor_si128(a, _mm_cvtsi32_si128(raw as i32));
    let by_64_bytes = _mm_set_epi64x(0x1_c6e4_1596, 0x1_5444_2bd4);
    for block in blocks {
        let [next_a, next_b, next_c, next_d] = parts(block);
        a = step(a, by_64_bytes, load(&next_a));
        b = step(b, by_64_bytes, load(&next_b));
        c = step(c, by_64_bytes, load(&next_c));
        d = step(d, by_64_bytes, load(&next_d));
    }
    let by_16_bytes = _mm_set_epi64x(0x0_ccaa_009e, 0x1_7519_97d0);
    let folded = step(step(step(a, by_16_bytes, b), by_16_bytes, c), by_16_bytes, d);
    let low = _mm_cvtsi128_si64(folded) as u64;
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(folded, folded)) as u64;
    (Some((u128::from(high) << 64 | u128::from(low)).to_le_bytes()), rest)
}

impl Default for Crc {
    fn default() -> Self {
        Self::new()
    }
}

/// The product of two polynomials modulo the CRC's polynomial. Bit 31 is x⁰.
const fn multiply(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    while a != 0 {
        // The loop takes the bits of `a` from the highest down.
        product ^= b & (a >> 31).wrapping_neg();
        b = one_bit(b);
        a <<= 1;
    }
    product
}

/// x to the power of `8 * bytes`, modulo the CRC's polynomial. A checksum is multiplied by this if `bytes` bytes follow.
#[must_use]
pub const fn shift(mut bytes: u64) -> u32 {
    // Square x^8 again and again.
    let mut square = 1 << 23;
    let mut result = 1 << 31;
    while bytes > 0 {
        if bytes & 1 == 1 {
            result = multiply(result, square);
        }
        square = multiply(square, square);
        bytes >>= 1;
    }
    result
}

/// The checksum of two joined parts. `shift` is [`shift`] of the second part's length.
#[must_use]
pub const fn join(first: u32, second: u32, shift: u32) -> u32 {
    multiply(shift, first) ^ second
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// The checksum bit by bit, as RFC 1952 defines it.
    fn slow(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 })
        })
    }

    /// The number of zeros between two parts that are joined. Miri takes a minute for a million.
    const FAR: usize = if cfg!(miri) { 1 << 14 } else { 1 << 20 };

    fn bytes(count: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    }

    #[test]
    fn the_check_string() {
        assert_eq!(Crc::new().update(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(Crc::new().update(0, b""), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow, minutes: an interpreter takes each byte")]
    fn parts_and_bits_give_the_same_at_every_length() {
        let crc = Crc::new();
        let bytes = bytes(if cfg!(miri) { 70 } else { 700 });
        for length in 0..=bytes.len() {
            let part = &bytes[..length];
            let want = slow(part);
            assert_eq!(crc.update(0, part), want);
            let (first, second) = part.split_at(length / 3);
            assert_eq!(crc.update(crc.update(0, first), second), want);
            assert_eq!(join(crc.update(0, first), crc.update(0, second), shift(second.len() as u64)), want);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow, minutes: an interpreter takes each byte")]
    fn joining_far_apart() {
        let crc = Crc::new();
        let (first, zeros) = (bytes(1_000), std::vec![0; FAR]);
        let whole = crc.update(crc.update(0, &first), &zeros);
        assert_eq!(join(crc.update(0, &first), crc.update(0, &zeros), shift(FAR as u64)), whole);
        // A shift by no bytes changes nothing, and lengths add up.
        assert_eq!(shift(0), 1 << 31);
        assert_eq!(multiply(shift(5_000_000_000), shift(7)), shift(5_000_000_007));
    }
}
