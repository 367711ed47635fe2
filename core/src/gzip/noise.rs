//! Finds noise: bytes that no compressor makes smaller, such as an image, an archive or a key (RFC 1951, section 3.2.4, has stored blocks for these).
//!
//! Enters: the stretches of a chunk in order, with the bytes before each. Leaves: whether a stretch should be stored without compression. Refuses: nothing.
//!
//! A stretch is noise if two conditions hold. First, samples of its bytes are spread evenly over all values. Second, it repeats nothing of the window before
//! it: a second copy of the same noise is worth a search.

/// Bytes that the probe judges together.
pub const STRETCH_BYTES: usize = 16_384;

/// How far back a match of deflate may lie (RFC 1951, section 3.2.5).
const WINDOW_BYTES: usize = 32_768;

/// A shorter stretch never counts as noise, because it has too few bytes to judge.
const LEAST_BYTES: usize = 2_048;

/// The probe takes one sample from this many bytes.
const SAMPLE_EVERY: usize = 1_024;
/// Bytes of a sample that the probe counts by value.
const COUNTED: usize = 128;
/// Bytes of a sample whose strings the probe looks up. If the window holds them all, two of their strings begin at a place that the probe keeps.
const LOOKED_UP: usize = 16;

/// The probe keeps one place in this many.
const PLACE_EVERY: usize = 8;
const HASH_BITS: u32 = 12;

/// The places where strings of a chunk begin. A probe serves one chunk at a time.
pub struct Probe {
    /// Offsets of strings, by the string's hash.
    places: [u32; 1 << HASH_BITS],
    /// The probe has handled all places below this one: it keeps them, or they are out of reach.
    kept: usize,
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

/// The four bytes at an offset.
fn string(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|string| u32::from_le_bytes(*string))
}

const fn hash(string: u32) -> usize {
    (string.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

impl Probe {
    /// A probe that knows no string.
    #[must_use]
    pub const fn new() -> Self {
        Self { places: [0; 1 << HASH_BITS], kept: 0 }
    }

    /// Begins a new chunk and forgets the strings of the chunk before.
    pub fn begin(&mut self) {
        self.places.fill(0);
        self.kept = 0;
    }

    /// Whether `bytes[from..to]` is noise. The bytes before `from` are the window. The caller passes the stretches of a chunk in order.
    pub fn is_noise(&mut self, bytes: &[u8], from: usize, to: usize) -> bool {
        if !is_spread(bytes.get(from..to).unwrap_or_default()) {
            return false;
        }
        self.keep(bytes, from.saturating_sub(WINDOW_BYTES), from);
        let mut repeats = 0_u32;
        let mut at = from;
        while at < to {
            let end = at.saturating_add(SAMPLE_EVERY).min(to);
            let looked_up = (at..at.saturating_add(LOOKED_UP).min(end)).filter(|&at| self.is_repeated(bytes, at));
            repeats = repeats.saturating_add(u32::try_from(looked_up.count()).unwrap_or(u32::MAX));
            self.keep(bytes, at, end);
            at = end;
        }
        repeats < 2
    }

    /// Whether the string at `at` also stands at the place that the probe keeps for its hash.
    fn is_repeated(&self, bytes: &[u8], at: usize) -> bool {
        let Some(wanted) = string(bytes, at) else { return false };
        let place = self.places.get(hash(wanted)).map_or(0, |&place| place as usize);
        place < at && at.saturating_sub(place) <= WINDOW_BYTES && string(bytes, place) == Some(wanted)
    }

    /// Keeps the places of `bytes[from..to]` that the probe does not have yet.
    fn keep(&mut self, bytes: &[u8], from: usize, to: usize) {
        let from = from.max(self.kept);
        for at in (from..to).step_by(PLACE_EVERY) {
            let Some(string) = string(bytes, at) else { break };
            if let Some(place) = self.places.get_mut(hash(string)) {
                *place = u32::try_from(at).unwrap_or(u32::MAX);
            }
        }
        self.kept = self.kept.max(to);
    }
}

/// Whether the bytes of the samples are spread as evenly as those of noise.
fn is_spread(stretch: &[u8]) -> bool {
    if stretch.len() < LEAST_BYTES {
        return false;
    }
    let mut counts = [0_u16; 256];
    let mut counted = 0_u32;
    for piece in stretch.chunks(SAMPLE_EVERY) {
        for &byte in piece.iter().take(COUNTED) {
            if let Some(count) = counts.get_mut(usize::from(byte)) {
                *count = count.saturating_add(1);
            }
            counted = counted.saturating_add(1);
        }
    }
    // For n bytes of noise the sum of squares is about n + n²/256. If the second term is an eighth larger, a search is already worth its time.
    let squares = counts.iter().fold(0_u32, |sum, &count| sum.saturating_add(u32::from(count).saturating_mul(u32::from(count))));
    squares <= counted.saturating_add((counted.saturating_mul(counted) / 256 / 8).saturating_mul(9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn noise(count: usize, mut state: u64) -> Vec<u8> {
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    }

    /// Judges each stretch of a chunk.
    fn judge(probe: &mut Probe, bytes: &[u8]) -> Vec<bool> {
        probe.begin();
        let ends = (0..bytes.len()).step_by(STRETCH_BYTES);
        ends.map(|from| probe.is_noise(bytes, from, (from + STRETCH_BYTES).min(bytes.len()))).collect()
    }

    #[test]
    fn random_bytes_are_noise_and_ordered_bytes_are_not() {
        let mut probe = Probe::new();
        assert_eq!(judge(&mut probe, &noise(4 * STRETCH_BYTES, 1)), [true; 4]);
        let text: Vec<u8> = b"an emissary is sent out on a mission. ".iter().copied().cycle().take(2 * STRETCH_BYTES).collect();
        assert_eq!(judge(&mut probe, &text), [false; 2]);
        assert_eq!(judge(&mut probe, &std::vec![0; STRETCH_BYTES]), [false]);
        // These bytes have half of all values: seven bits of eight.
        let half: Vec<u8> = noise(STRETCH_BYTES, 2).iter().map(|byte| byte & 0x7f).collect();
        assert_eq!(judge(&mut probe, &half), [false]);
        // The values are spread evenly, but they repeat in the same order.
        let all_in_turn: Vec<u8> = (0..=255).cycle().take(STRETCH_BYTES).collect();
        assert_eq!(judge(&mut probe, &all_in_turn), [false]);
    }

    #[test]
    fn a_copy_within_the_window_is_worth_a_search() {
        let mut probe = Probe::new();
        let once = noise(STRETCH_BYTES, 3);
        for (between, want) in [(0, false), (STRETCH_BYTES, false), (3 * STRETCH_BYTES, true)] {
            let bytes = [&once[..], &noise(between, 4), &once].concat();
            assert_eq!(judge(&mut probe, &bytes).last(), Some(&want), "{between} bytes lie between them");
        }
        // A copy is found even if it begins at a place that the probe does not keep.
        for offset in 1..9 {
            let bytes = [&once[offset..], &noise(offset, 5), &once].concat();
            assert_eq!(judge(&mut probe, &bytes), [true, false], "{offset}");
        }
        // A window that the probe did not judge counts, too.
        let bytes = [&once[..], &once].concat();
        probe.begin();
        assert!(!probe.is_noise(&bytes, STRETCH_BYTES, 2 * STRETCH_BYTES));
    }

    #[test]
    fn strings_of_another_chunk_do_not_count() {
        let mut probe = Probe::new();
        let bytes = noise(2 * STRETCH_BYTES, 6);
        assert_eq!(judge(&mut probe, &bytes), [true; 2]);
        assert_eq!(judge(&mut probe, &bytes), [true; 2]);
    }

    #[test]
    fn short_empty_and_beyond_the_end() {
        let mut probe = Probe::new();
        let bytes = noise(STRETCH_BYTES, 7);
        assert!(probe.is_noise(&bytes, 0, LEAST_BYTES));
        probe.begin();
        assert!(!probe.is_noise(&bytes, 0, LEAST_BYTES - 1));
        assert!(!probe.is_noise(&bytes, 0, 0));
        assert!(!probe.is_noise(&bytes, 9, 8));
        assert!(!probe.is_noise(&bytes, 0, usize::MAX));
        assert!(!probe.is_noise(&[], 0, STRETCH_BYTES));
    }
}
