//! Instructions that a processor may have beyond its target's baseline (Intel's manual, volume 2, CPUID; getauxval(3) `AT_HWCAP`).
//!
//! Enters: bytes. Leaves: their CRC-32 (RFC 1952, section 8). Refuses: nothing; without the instructions, tables do the work.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use emissary_core::gzip::crc::Crc;

/// Computes the CRC-32 of bytes, with the processor's own instructions if the processor has them.
pub(crate) fn crc(tables: &Crc, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        // Leaf 1, bit 1 of ECX: PCLMULQDQ.
        if core::arch::x86_64::__cpuid(1).ecx & 1 << 1 != 0 {
            // SAFETY: the processor has just said that it has the instruction.
            return unsafe { tables.update_clmul(0, bytes) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: getauxval reads the process's own vector.
        let features = unsafe { libc::getauxval(libc::AT_HWCAP) };
        if features & libc::HWCAP_CRC32 != 0 {
            // SAFETY: the kernel has just said that the processor has the instruction.
            return unsafe { tables.update_crc(0, bytes) };
        }
    }
    tables.update(0, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_crc_is_that_of_the_tables() {
        let tables = Crc::new();
        let bytes: Vec<u8> = (0..900_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        for length in 0..=bytes.len() {
            assert_eq!(crc(&tables, &bytes[..length]), tables.update(0, &bytes[..length]), "{length}");
        }
    }
}
