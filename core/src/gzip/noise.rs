//! Noise: bytes that no compressor makes smaller, such as an image, an archive or a key.
//!
//! Enters: the stretches of a chunk in order, with the bytes that lie before them. Leaves: whether a stretch is better stored. Refuses nothing.
//!
//! A stretch is noise if two things hold. Samples of its bytes are spread evenly over all values. And it repeats nothing of the window before it:
//! a second copy of the same noise is worth a search.

/// Bytes that are judged together.
pub const STRETCH_BYTES: usize = 16_384;

/// How far back a match of deflate may lie (RFC 1951, section 3.2.5).
const WINDOW_BYTES: usize = 32_768;

/// A stretch that is shorter is never said to be noise: there is too little to judge by.
const LEAST_BYTES: usize = 2_048;

/// One sample is taken from so many bytes.
const SAMPLE_EVERY: usize = 1_024;
/// Bytes of a sample that are counted.
const COUNTED: usize = 128;
/// Bytes of a sample whose strings are looked up. Among so many that were seen before, two have a place that is kept.
const LOOKED_UP: usize = 16;

/// One place in so many is kept.
const PLACE_EVERY: usize = 8;
const HASH_BITS: u32 = 12;

/// Where strings of a chunk were seen. It is for one chunk at a time.
pub struct Probe {
    /// Offsets of strings, by their hash.
    places: [u32; 1 << HASH_BITS],
    /// Places below this one are kept, or out of reach.
    kept: usize,
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

/// The string of four bytes at an offset.
fn string(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|string| u32::from_le_bytes(*string))
}

const fn hash(string: u32) -> usize {
    (string.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

impl Probe {
    /// One that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { places: [0; 1 << HASH_BITS], kept: 0 }
    }

    /// Begins a chunk: what was seen of another does not count.
    pub fn begin(&mut self) {
        self.places.fill(0);
        self.kept = 0;
    }

    /// Whether `bytes[from..to]` is noise; what lies before it is the window. Stretches of a chunk come in order.
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

    /// Whether the string at an offset stands at the place that is kept for its hash.
    fn is_repeated(&self, bytes: &[u8], at: usize) -> bool {
        let Some(wanted) = string(bytes, at) else { return false };
        let place = self.places.get(hash(wanted)).map_or(0, |&place| place as usize);
        place < at && at.saturating_sub(place) <= WINDOW_BYTES && string(bytes, place) == Some(wanted)
    }

    /// Keeps places of a part that are not kept yet.
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

/// Whether the bytes of samples are spread as evenly as those of noise.
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
    // For noise the sum of squares is about n + n²/256. With an eighth more a search is already worth its time.
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

    /// What each stretch of a chunk is.
    fn judge(probe: &mut Probe, bytes: &[u8]) -> Vec<bool> {
        probe.begin();
        let ends = (0..bytes.len()).step_by(STRETCH_BYTES);
        ends.map(|from| probe.is_noise(bytes, from, (from + STRETCH_BYTES).min(bytes.len()))).collect()
    }

    #[test]
    fn noise_is_and_what_has_an_order_is_not() {
        let mut probe = Probe::new();
        assert_eq!(judge(&mut probe, &noise(4 * STRETCH_BYTES, 1)), [true; 4]);
        let text: Vec<u8> = b"an emissary is sent out on a mission. ".iter().copied().cycle().take(2 * STRETCH_BYTES).collect();
        assert_eq!(judge(&mut probe, &text), [false; 2]);
        assert_eq!(judge(&mut probe, &std::vec![0; STRETCH_BYTES]), [false]);
        // Half of all values: seven bits for eight.
        let half: Vec<u8> = noise(STRETCH_BYTES, 2).iter().map(|byte| byte & 0x7f).collect();
        assert_eq!(judge(&mut probe, &half), [false]);
        // Spread evenly, and the same again and again.
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
        // What begins at no place that is kept is found, too.
        for offset in 1..9 {
            let bytes = [&once[offset..], &noise(offset, 5), &once].concat();
            assert_eq!(judge(&mut probe, &bytes), [true, false], "{offset}");
        }
        // A window that was not judged counts as well.
        let bytes = [&once[..], &once].concat();
        probe.begin();
        assert!(!probe.is_noise(&bytes, STRETCH_BYTES, 2 * STRETCH_BYTES));
    }

    #[test]
    fn what_another_chunk_had_does_not_count() {
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
