//! Compresses one chunk to deflate blocks (RFC 1951), with miniz_oxide.
//!
//! Enters: a chunk, the window before it, a level. Leaves: blocks that end at a byte boundary, so that chunks compressed apart join to one stream; or
//! `None` if the chunk is better stored. Refuses nothing. It makes no system call, so the fuzz target `gzip` includes this file.
//!
//! A chunk is cut into pieces where noise begins and ends. Noise is stored. miniz_oxide compresses every other piece from a reset state, so the
//! blocks depend on chunk, window and level alone. The library has no call for a dictionary: this file compresses the window first and discards that
//! output.

use emissary_core::gzip::noise::{Probe, STRETCH_BYTES};
use emissary_core::gzip::{STORED_BYTES, stored_header};
use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{
    CompressionStrategy, CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};

/// Most bytes of a chunk. Larger chunks take more memory. Smaller ones take more time, because each compresses its window again.
pub(crate) const CHUNK_BYTES: usize = 262_144;
/// Bytes of the window before a chunk. Deflate allows a match twice as far back, but the farther half costs 5 % of the time and saves 0.2 % of the
/// output.
pub(crate) const WINDOW_BYTES: usize = STRETCH_BYTES;
/// Space for the blocks of a chunk. A chunk whose blocks would take more is stored.
pub(crate) const OUT_BYTES: usize = CHUNK_BYTES;

/// The default level: twice as fast as `gzip -6`, with an output that is 2 to 3 % larger.
pub(crate) const DEFAULT_LEVEL: u8 = 4;

/// The level that stands for Huffman codes alone, without a search for repeated strings: Go's `HuffmanOnly` (compress/flate), -2 in a template.
pub(crate) const HUFFMAN_ONLY: u8 = 10;

/// State of one thread. It compresses one chunk after another; no chunk affects the output of a later one.
pub(crate) struct Deflater {
    compressor: Box<CompressorOxide>,
    probe: Box<Probe>,
    run: Run,
}

/// The latest chunk that consisted of one byte value, with a window of the same value, and its blocks.
struct Run {
    level: u8,
    byte: u8,
    start: usize,
    end: usize,
    blocks: Vec<u8>,
}

/// The output so far.
struct Out<'a> {
    room: &'a mut [u8],
    made: usize,
}

impl Out<'_> {
    /// Appends bytes. Returns whether they fit.
    fn put(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.room[self.made..].get_mut(..bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.made += bytes.len();
        true
    }
}

impl Deflater {
    pub(crate) fn new() -> Self {
        let run = Run { level: 0, byte: 0, start: 0, end: 0, blocks: Vec::new() };
        // The compressor takes 310 kB, including the library's window and tables.
        let compressor = Box::new(CompressorOxide::new(create_comp_flags_from_zip_params(DEFAULT_LEVEL.into(), 0, 0)));
        Self { compressor, probe: Box::new(Probe::new()), run }
    }

    /// Compresses `input[start..]`. The bytes before `start` are the window. `None` if the stored form is no larger, or if `out` is too small.
    ///
    /// The blocks end at a byte boundary. None of them is marked as the last one of the stream.
    pub(crate) fn deflate(&mut self, level: u8, input: &[u8], start: usize, out: &mut [u8]) -> Option<usize> {
        if level == 0 {
            return None;
        }
        let Some(byte) = only_byte(input) else { return self.pieces(level, input, start, out) };
        let run = &self.run;
        if (run.level, run.byte, run.start, run.end) == (level, byte, start, input.len()) {
            out.get_mut(..run.blocks.len())?.copy_from_slice(&run.blocks);
            return Some(run.blocks.len());
        }
        let made = self.pieces(level, input, start, out)?;
        let run = &mut self.run;
        (run.level, run.byte, run.start, run.end) = (level, byte, start, input.len());
        run.blocks.clear();
        run.blocks.extend_from_slice(&out[..made]);
        Some(made)
    }

    /// Stores noise, and compresses everything else.
    fn pieces(&mut self, level: u8, input: &[u8], start: usize, out: &mut [u8]) -> Option<usize> {
        let mut out = Out { room: out, made: 0 };
        let next = |at: usize| input.len().min(at + STRETCH_BYTES);
        self.probe.begin();
        // Noise has no repetitions to find, so it is no use as a window.
        let mut window = if self.probe.is_noise(input, 0, start) { &[] } else { &input[..start] };
        let mut at = start;
        let mut is_noise = self.probe.is_noise(input, at, next(at));
        while at < input.len() {
            let mut end = next(at);
            let mut then = is_noise;
            while end < input.len() {
                then = self.probe.is_noise(input, end, next(end));
                if then != is_noise {
                    break;
                }
                end = next(end);
            }
            let piece = &input[at..end];
            if is_noise {
                if piece.len() == input.len() - start {
                    // The whole chunk is noise. The caller stores it, which saves a copy.
                    return None;
                }
                for part in piece.chunks(STORED_BYTES) {
                    (out.put(&stored_header(part.len() as u16)) && out.put(part)).then_some(())?;
                }
            } else {
                self.compress(level, window, piece, &mut out)?;
            }
            // The next compressed piece follows noise.
            window = &[];
            (at, is_noise) = (end, then);
        }
        (out.made < input.len() - start).then_some(out.made)
    }

    /// Compresses a piece that follows its window.
    fn compress(&mut self, level: u8, window: &[u8], piece: &[u8], out: &mut Out<'_>) -> Option<()> {
        if level == HUFFMAN_ONLY {
            // The library sets a strategy only in a new compressor.
            *self.compressor = CompressorOxide::new(create_comp_flags_from_zip_params(1, 0, CompressionStrategy::HuffmanOnly.into()));
        } else {
            self.compressor.reset();
            // The level may change only here, before the first byte, because the levels keep different tables.
            self.compressor.set_format_and_level(DataFormat::Raw, level);
        }
        if !window.is_empty() {
            self.feed(window, &mut |_| true)?;
        }
        self.feed(piece, &mut |blocks| out.put(blocks))
    }

    /// Compresses bytes up to a flush, which ends at a byte boundary. `None` if `take` refuses the output.
    fn feed(&mut self, bytes: &[u8], take: &mut dyn FnMut(&[u8]) -> bool) -> Option<()> {
        let (status, read) = compress_to_output(&mut self.compressor, bytes, TDEFLFlush::Sync, take);
        (status == TDEFLStatus::Okay && read == bytes.len() && self.compressor.unwritten_bit_count() == 0).then_some(())
    }
}

/// Returns the one value that all bytes have; `None` if they differ or there are none.
pub(crate) fn only_byte(bytes: &[u8]) -> Option<u8> {
    let &first = bytes.first()?;
    let (words, rest) = bytes.as_chunks::<8>();
    let is_only =
        words.iter().all(|&word| u64::from_ne_bytes(word) == u64::from_ne_bytes([first; 8])) && rest.iter().all(|&byte| byte == first);
    is_only.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use emissary_core::gzip::END;
    use std::io::Read as _;

    /// Returns the stream of the contents in chunks, and the number of stored chunks.
    fn deflate(deflater: &mut Deflater, level: u8, contents: &[u8], chunk_bytes: usize) -> (Vec<u8>, usize) {
        let (mut stream, mut stored) = (Vec::new(), 0);
        let mut out = vec![0xa5; OUT_BYTES];
        let mut at = 0;
        while at < contents.len() {
            let (from, to) = (at.saturating_sub(WINDOW_BYTES), (at + chunk_bytes).min(contents.len()));
            match deflater.deflate(level, &contents[from..to], at - from, &mut out) {
                Some(made) => {
                    assert!(made < to - at, "larger than stored");
                    stream.extend_from_slice(&out[..made]);
                }
                None => {
                    stored += 1;
                    for piece in contents[at..to].chunks(STORED_BYTES) {
                        stream.extend_from_slice(&stored_header(piece.len() as u16));
                        stream.extend_from_slice(piece);
                    }
                }
            }
            at = to;
        }
        stream.extend_from_slice(&END);
        (stream, stored)
    }

    fn inflate(stream: &[u8]) -> Vec<u8> {
        let mut back = Vec::new();
        flate2::bufread::DeflateDecoder::new(stream).read_to_end(&mut back).expect("a deflate stream");
        back
    }

    fn noise(count: usize, mut state: u64) -> Vec<u8> {
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    }

    fn text(count: usize) -> Vec<u8> {
        let words: [&[u8]; 8] = [b"the ", b"emissary ", b"is sent ", b"out on ", b"a mission ", b"and ", b"comes back.\n", b"fn main() {"];
        noise(count, 7).iter().flat_map(|&byte| words[usize::from(byte) % 8].iter().copied()).take(count).collect()
    }

    #[test]
    fn huffman_codes_alone() {
        let mut deflater = Deflater::new();
        let contents = text(600_000);
        let (searched, _) = deflate(&mut deflater, DEFAULT_LEVEL, &contents, CHUNK_BYTES);
        let (coded, _) = deflate(&mut deflater, HUFFMAN_ONLY, &contents, CHUNK_BYTES);
        assert!(inflate(&coded) == contents && coded.len() > 2 * searched.len() && coded.len() < contents.len() * 3 / 4, "{}", coded.len());
        // The strategy ends with its stream.
        assert!(deflate(&mut deflater, DEFAULT_LEVEL, &contents, CHUNK_BYTES).0 == searched);
    }

    #[test]
    fn every_level_of_every_kind() {
        let mut deflater = Deflater::new();
        let kinds = [
            ("text", text(800_000), 4),
            ("zeros", vec![0; 800_000], 200),
            ("ones", vec![0xff; 800_000], 200),
            ("two letters", noise(600_000, 3).iter().map(|byte| b'a' + byte % 2).collect(), 5),
            ("a period of 3", (0..600_000).map(|at| [1, 2, 3][at % 3]).collect(), 200),
            ("all bytes in turn", (0..600_000_u32).map(|at| at as u8).collect(), 50),
            ("a period past the window", noise(40_000, 5).repeat(12), 0),
            ("a period within the window", noise(30_000, 5).repeat(20), 2),
            ("noise with text in it", [noise(300_000, 1), text(60_000), noise(300_000, 2)].concat(), 0),
        ];
        for (name, contents, least_ratio) in &kinds {
            for level in 0..=9 {
                let (stream, stored) = deflate(&mut deflater, level, contents, CHUNK_BYTES);
                assert!(inflate(&stream) == *contents, "{name} at level {level}");
                assert!(stream.len() <= contents.len() + contents.len() / 1_000 + 64, "{name} at level {level} grew to {}", stream.len());
                if level == 0 {
                    assert_eq!(stored, contents.len().div_ceil(CHUNK_BYTES), "{name}");
                } else {
                    // The library's fastest levels take a third more.
                    let least_ratio = if level < DEFAULT_LEVEL { least_ratio * 2 / 3 } else { *least_ratio };
                    assert!(stream.len() * least_ratio <= contents.len(), "{name} at level {level} takes {}", stream.len());
                }
            }
        }
    }

    #[test]
    fn the_levels_are_ordered_by_size() {
        let mut deflater = Deflater::new();
        let contents = text(600_000);
        let sizes: Vec<usize> = [1, 2, 4, 6, 9].map(|level| deflate(&mut deflater, level, &contents, CHUNK_BYTES).0.len()).to_vec();
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    }

    #[test]
    fn noise_is_stored() {
        let mut deflater = Deflater::new();
        let contents = noise(5 * CHUNK_BYTES, 1);
        assert_eq!(deflate(&mut deflater, DEFAULT_LEVEL, &contents, CHUNK_BYTES).1, 5);
        // Noise within a chunk: only the noise is stored, and the text after it is compressed.
        let mixed = [text(60_000), noise(40_000, 2), text(31_072)].concat();
        let (stream, stored) = deflate(&mut deflater, DEFAULT_LEVEL, &mixed, CHUNK_BYTES);
        assert_eq!(stored, 0);
        assert!((40_000..65_000).contains(&stream.len()), "{}", stream.len());
        // A whole stretch of noise is in the stream unchanged.
        let stretch = &mixed[4 * STRETCH_BYTES..5 * STRETCH_BYTES];
        assert!(
            stream.windows(64).any(|bytes| bytes == &stretch[..64])
                && stream.windows(64).any(|bytes| bytes == &stretch[STRETCH_BYTES - 64..])
        );
    }

    #[test]
    fn a_window_is_used() {
        let mut deflater = Deflater::new();
        let (first, mut out) = (noise(WINDOW_BYTES, 4), vec![0; OUT_BYTES]);
        let both = [&first[..], &first].concat();
        // A window of noise helps only if the same noise comes again.
        let made = deflater.deflate(DEFAULT_LEVEL, &both, WINDOW_BYTES, &mut out);
        assert_eq!(made, None, "a window of noise is not searched");
        let letters: Vec<u8> = noise(WINDOW_BYTES, 4).iter().map(|byte| byte % 100).collect();
        let both = [&letters[..], &letters].concat();
        let made = deflater.deflate(DEFAULT_LEVEL, &both, WINDOW_BYTES, &mut out).unwrap();
        assert!(made < WINDOW_BYTES / 50, "{made}");
    }

    #[test]
    fn what_came_before_does_not_show() {
        let contents = [text(500_000), vec![b'x'; 900_000], noise(100_000, 8), text(100_000)].concat();
        let want = deflate(&mut Deflater::new(), DEFAULT_LEVEL, &contents, CHUNK_BYTES).0;
        let mut used = Deflater::new();
        deflate(&mut used, 9, &noise(300_000, 9), CHUNK_BYTES);
        deflate(&mut used, 1, &text(300_000), CHUNK_BYTES);
        deflate(&mut used, 9, &vec![b'x'; 900_000], CHUNK_BYTES);
        deflate(&mut used, DEFAULT_LEVEL, &vec![b'y'; 900_000], CHUNK_BYTES);
        deflate(&mut used, 3, &contents, 1_000);
        assert!(deflate(&mut used, DEFAULT_LEVEL, &contents, CHUNK_BYTES).0 == want);
        // Old bytes in the output buffer do not show either, nor does an earlier buffer that was too small.
        let mut out = vec![0; OUT_BYTES];
        let made = used.deflate(DEFAULT_LEVEL, &contents[..CHUNK_BYTES], 0, &mut out).unwrap();
        for room in [0, 1, 7, made / 2, made - 1] {
            assert_eq!(used.deflate(DEFAULT_LEVEL, &contents[..CHUNK_BYTES], 0, &mut out[..room]), None, "{room} of {made}");
        }
        assert!(deflate(&mut used, DEFAULT_LEVEL, &contents, CHUNK_BYTES).0 == want);
    }

    #[test]
    fn chunks_of_one_byte_come_from_memory_and_are_the_same() {
        let mut deflater = Deflater::new();
        let (mut first, mut second) = (vec![0; OUT_BYTES], vec![0xa5; OUT_BYTES]);
        for (level, byte) in [(4, 0), (4, 7), (9, 7), (1, 0)] {
            let input = vec![byte; WINDOW_BYTES + CHUNK_BYTES];
            let made = deflater.deflate(level, &input, WINDOW_BYTES, &mut first).unwrap();
            assert_eq!(deflater.run.blocks, first[..made]);
            assert_eq!(deflater.deflate(level, &input, WINDOW_BYTES, &mut second), Some(made));
            assert!(first[..made] == second[..made]);
            assert_eq!(deflater.deflate(level, &input, WINDOW_BYTES, &mut second[..made - 1]), None, "a small room");
            // A shorter chunk, or a shorter window, gives other blocks.
            let shorter = deflater.deflate(level, &input[..WINDOW_BYTES + 70_000], WINDOW_BYTES, &mut second).unwrap();
            assert!(shorter < made);
            let alone = deflater.deflate(level, &input[..70_000], 0, &mut second).unwrap();
            assert_eq!(inflate(&[&second[..alone], &END].concat()), input[..70_000]);
        }
    }

    #[test]
    fn odd_ends() {
        let mut deflater = Deflater::new();
        let contents = text(4_000);
        for level in [1, DEFAULT_LEVEL] {
            for length in 0..40 {
                for chunk_bytes in [1, 2, 3, 7, 40] {
                    let stream = deflate(&mut deflater, level, &contents[..length], chunk_bytes).0;
                    assert_eq!(inflate(&stream), contents[..length], "{length} bytes in chunks of {chunk_bytes}");
                }
            }
        }
        let contents = text(2 * CHUNK_BYTES + 2);
        for length in [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1] {
            let stream = deflate(&mut deflater, DEFAULT_LEVEL, &contents[..length], CHUNK_BYTES).0;
            assert!(inflate(&stream) == contents[..length], "{length}");
        }
    }

    #[test]
    fn one_byte_or_several() {
        assert_eq!(only_byte(&[]), None);
        for length in 1..40 {
            let mut bytes = vec![9; length];
            assert_eq!(only_byte(&bytes), Some(9));
            if length > 1 {
                for at in 0..length {
                    bytes[at] = 8;
                    assert_eq!(only_byte(&bytes), None, "{at} of {length}");
                    bytes[at] = 9;
                }
            }
        }
    }

    /// Makes pieces of different kinds, one after another, from a seed.
    fn contents(seed: u64) -> Vec<u8> {
        let dice = noise(64, seed);
        let mut contents = Vec::new();
        for [kind, a, b, c] in dice[1..].as_chunks::<4>().0.iter().take(usize::from(dice[0] % 8)) {
            let count = usize::from(*a) << 8 | usize::from(*b);
            contents.extend(match kind % 5 {
                0 => noise(count, u64::from(*c)),
                1 => text(2 * count),
                2 => vec![*c; 6 * count],
                3 => noise(1 + count % 300, u64::from(*c)).repeat(1 + usize::from(*c)),
                _ => noise(count / 3, u64::from(*c)).iter().map(|byte| byte % (1 + c % 15)).collect(),
            });
        }
        contents
    }

    #[test]
    fn anything() {
        let mut deflater = Deflater::new();
        for seed in 0..100 {
            let contents = contents(seed);
            let chunk_bytes = CHUNK_BYTES - seed as usize * 2_600;
            let (stream, _) = deflate(&mut deflater, (seed % 10) as u8, &contents, chunk_bytes);
            assert!(inflate(&stream) == contents, "seed {seed}");
        }
    }
}
