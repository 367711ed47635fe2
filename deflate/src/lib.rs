//! Deflate (RFC 1951) for artifacts.
//!
//! Enters: a chunk of at most [`CHUNK_BYTES`], with the window of up to [`WINDOW_BYTES`] that lies before it. Leaves: deflate blocks that end at a
//! byte, so that chunks which were compressed apart, by several threads, join to one stream; or the word that the chunk is better stored. Refuses
//! nothing.
//!
//! A crate of its own because it is optimized otherwise than the rest (`s`, not `z`). Everything lives in fixed arrays, [`Deflater`] in one place of 320 kB.
//!
//! The search is the usual one: chains of positions whose first four bytes hash alike, one slot for three bytes, and a look at the next position
//! before a match is taken. Positions count on from chunk to chunk, so that what the tables hold of an earlier chunk is out of reach and need not
//! be cleared.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod bits;
mod huffman;

use bits::Bits;
use huffman::Code;

/// Bytes of a chunk, at most.
pub const CHUNK_BYTES: usize = 131_072;
/// How far back a match may lie (RFC 1951, section 3.2.5).
pub const WINDOW_BYTES: usize = 32_768;
/// Room that the blocks of a chunk take at most: a chunk that would take more is stored.
pub const OUT_BYTES: usize = CHUNK_BYTES;

/// Places in the array that a chunk is compressed in: a power of two.
const PLACES: usize = 1 << 18;
/// Bytes of that array; the last ones are never filled and only there so that eight bytes can be read at any place.
pub const INPUT_BYTES: usize = PLACES + 8;
/// The array: the window, the chunk, and room behind them whose contents do not matter.
pub type Input = [u8; INPUT_BYTES];

/// Bytes that end a stream of chunks: an empty last block with fixed codes.
pub const END: [u8; 2] = [0x03, 0x00];
/// Bytes of one stored block, at most (RFC 1951, section 3.2.4).
pub const STORED_BYTES: usize = 65_535;

/// Header of a stored block that begins at a byte: not the last one, its length and the complement.
#[must_use]
pub const fn stored_header(bytes: u16) -> [u8; 5] {
    let [low, high] = bytes.to_le_bytes();
    [0, low, high, !low, !high]
}

const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
const HASH_BITS: u32 = 15;
const HASH3_BITS: u32 = 13;
/// Tokens of a block, at most.
const TOKENS: usize = 20_480;
/// Bytes that are looked at together when it is decided whether to compress.
const PROBE_BYTES: usize = 8_192;

/// Of noise, one position in so many is entered: enough for a copy of it to be noticed.
const NOISE_STEP: usize = 8;

/// How hard matches are searched for.
#[derive(Clone, Copy)]
struct Effort {
    /// Candidates that are tried for a position.
    depth: u32,
    /// A match of this length is taken without a look further.
    nice: usize,
    /// A match shorter than this is compared with one at the next position; 0: the first match is taken.
    lazy: usize,
}

/// By zlib's levels; 0, which stores, is not searched.
const EFFORTS: [Effort; 10] = [
    Effort { depth: 0, nice: 0, lazy: 0 },
    Effort { depth: 2, nice: 16, lazy: 0 },
    Effort { depth: 5, nice: 24, lazy: 0 },
    Effort { depth: 8, nice: 32, lazy: 16 },
    Effort { depth: 13, nice: 56, lazy: 32 },
    Effort { depth: 20, nice: 80, lazy: 64 },
    Effort { depth: 36, nice: 128, lazy: 100 },
    Effort { depth: 90, nice: 160, lazy: 160 },
    Effort { depth: 250, nice: 258, lazy: 258 },
    Effort { depth: 1000, nice: 258, lazy: 258 },
];

/// The level of a good bargain: about the size of zlib's level 6.
pub const DEFAULT_LEVEL: u8 = 4;

/// The compressor's memory. All its fields are integers, and zeros are a valid state.
pub struct Deflater {
    /// Position of the latest string by the hash of its first four bytes.
    head: [u32; 1 << HASH_BITS],
    /// The same for three bytes.
    head3: [u32; 1 << HASH3_BITS],
    /// How far before a position the one before it with the same hash lies.
    chain: [u16; WINDOW_BYTES],
    /// Literals (below 256), or matches: [`MATCH`], length - 3 at bit 16, distance - 1.
    tokens: [u32; TOKENS],
    token_count: usize,
    literals: Code<288>,
    distances: Code<30>,
    /// What position the next call's window begins at.
    base: u32,
}

const MATCH: u32 = 1 << 31;

/// Code of a match's length, its extra bits and their value (RFC 1951, section 3.2.5).
#[inline]
const fn length_code(length_less_3: u32) -> (u32, u32, u32) {
    if length_less_3 < 8 {
        (257 + length_less_3, 0, 0)
    } else if length_less_3 == 255 {
        (285, 0, 0)
    } else {
        let extra = length_less_3.ilog2() - 2;
        (257 + (extra << 2) + (length_less_3 >> extra), extra, length_less_3 & ((1 << extra) - 1))
    }
}

/// Code of a distance, its extra bits and their value.
#[inline]
const fn distance_code(distance_less_1: u32) -> (u32, u32, u32) {
    if distance_less_1 < 4 {
        (distance_less_1, 0, 0)
    } else {
        let extra = distance_less_1.ilog2() - 1;
        ((extra << 1) + (distance_less_1 >> extra), extra, distance_less_1 & ((1 << extra) - 1))
    }
}

/// The four bytes at a place, the first lowest. Any place is in the array, so that no bound is checked.
#[inline(always)]
fn load4(input: &Input, at: usize) -> u32 {
    let at = at % PLACES;
    match input[at..at + 4] {
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

#[inline(always)]
fn load8(input: &Input, at: usize) -> u64 {
    let at = at % PLACES;
    match input[at..at + 8] {
        [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}

#[inline(always)]
const fn hash4(value: u32) -> usize {
    (value.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize
}

#[inline(always)]
const fn hash3(value: u32) -> usize {
    ((value << 8).wrapping_mul(0x9E37_79B1) >> (32 - HASH3_BITS)) as usize
}

/// Bytes that two places have in common, at most `max`.
#[inline(always)]
fn common(input: &Input, a: usize, b: usize, max: usize) -> usize {
    let mut length = 0;
    while length < max {
        let differ = load8(input, a + length) ^ load8(input, b + length);
        if differ != 0 {
            return max.min(length + (differ.trailing_zeros() / 8) as usize);
        }
        length += 8;
    }
    max
}

/// Whether the bytes of samples from a stretch are spread as evenly as those of noise. Not said of a short stretch.
fn is_spread(input: &Input, from: usize, to: usize) -> bool {
    let stretch = input.get(from..to).unwrap_or_default();
    if stretch.len() < 2_048 {
        return false;
    }
    let mut counts = [0_u16; 256];
    let mut sampled = 0_u32;
    for piece in stretch.chunks(1_024) {
        for &byte in piece.iter().take(128) {
            counts[usize::from(byte)] += 1;
            sampled += 1;
        }
    }
    // The sum of squares is about n + n²/256 for noise; an eighth more is already worth a search.
    let squares: u32 = counts.iter().map(|&count| u32::from(count) * u32::from(count)).sum();
    squares <= sampled + (sampled * sampled / 256) / 8 * 9
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Deflater {
    /// All zeros. It is large: where that matters, take memory that is zero already.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            head: [0; 1 << HASH_BITS],
            head3: [0; 1 << HASH3_BITS],
            chain: [0; WINDOW_BYTES],
            tokens: [0; TOKENS],
            token_count: 0,
            literals: Code::new(),
            distances: Code::new(),
            base: 0,
        }
    }

    /// Compresses `input[start..end]`; what lies before is the window. `None` where storing takes no more, or `out` is too small.
    ///
    /// `end` is at most [`WINDOW_BYTES`] + [`CHUNK_BYTES`]. The blocks end at a byte; none is the last of the stream ([`END`] is).
    pub fn compress(&mut self, level: u8, input: &Input, start: usize, end: usize, out: &mut [u8]) -> Option<usize> {
        let end = end.min(WINDOW_BYTES + CHUNK_BYTES);
        let effort = *EFFORTS.get(usize::from(level))?;
        if effort.depth == 0 || start >= end {
            return None;
        }
        // Out of reach of everything that the tables hold; where the count would overflow, they are cleared.
        if self.base == 0 || self.base > u32::MAX - (4 * (WINDOW_BYTES + CHUNK_BYTES)) as u32 {
            self.head.fill(0);
            self.head3.fill(0);
            self.base = 2 * WINDOW_BYTES as u32;
        }
        // A chunk that was given up left its tokens.
        self.forget();
        let mut bits = Bits::new(out);
        let result = self.chunk(effort, input, start, end, &mut bits);
        self.base += (end + 2 * WINDOW_BYTES) as u32;
        result?;
        // An empty stored block: three bits, then at the next byte 0 and its complement.
        bits.put(0, 3);
        bits.align();
        bits.put(0xffff_0000, 32);
        let made = bits.finish()?;
        (made < end - start).then_some(made)
    }

    fn chunk(&mut self, effort: Effort, input: &Input, start: usize, end: usize, bits: &mut Bits<'_>) -> Option<()> {
        // The window: its farther half is entered thinly, noise more so.
        let mut from = start.saturating_sub(WINDOW_BYTES);
        while from < start {
            let to = (from + PROBE_BYTES).min(start);
            let step = match start - from {
                _ if is_spread(input, from, to) => NOISE_STEP,
                far if far > WINDOW_BYTES / 2 => 2,
                _ => 1,
            };
            self.enter(input, from, to, step);
            from = to;
        }
        let mut at = start;
        let mut done = start;
        // Data of one kind comes in long stretches: what follows on well compressed bytes is not looked at.
        let mut suspicious = true;
        while at < end {
            let probe = (at + PROBE_BYTES).min(end);
            if suspicious && self.is_noise(input, at, probe) {
                // What came before is a block of its own; the noise is stored.
                self.block(input, done, at, bits)?;
                done = at;
                at = probe;
                while at < end {
                    let next = (at + PROBE_BYTES).min(end);
                    if !self.is_noise(input, at, next) {
                        break;
                    }
                    at = next;
                }
                if at - done == end - start {
                    // Nothing else: the caller stores it, which saves a copy.
                    return None;
                }
                self.enter(input, done, at, NOISE_STEP);
                for piece in input.get(done..at)?.chunks(STORED_BYTES) {
                    bits.stored(piece)?;
                }
                done = at;
            } else {
                let (tokens, from) = (self.token_count, at);
                at = self.search(effort, input, at, probe, end);
                suspicious = 4 * (self.token_count - tokens) > 3 * (at - from);
                // Room for the tokens of another probe, each byte a literal.
                if self.token_count + PROBE_BYTES + MAX_MATCH > TOKENS {
                    self.block(input, done, at, bits)?;
                    done = at;
                }
            }
        }
        self.block(input, done, at, bits)
    }

    /// Enters positions without a search.
    #[inline(always)]
    fn enter(&mut self, input: &Input, from: usize, to: usize, step: usize) {
        let mut at = from;
        while at < to {
            let position = self.base.wrapping_add(at as u32);
            let before = core::mem::replace(&mut self.head[hash4(load4(input, at))], position);
            self.chain[position as usize % WINDOW_BYTES] = position.wrapping_sub(before).min(0xffff) as u16;
            at += step;
        }
    }

    #[inline(always)]
    fn insert(&mut self, input: &Input, at: usize) -> (u32, u32) {
        let value = load4(input, at);
        let position = self.base.wrapping_add(at as u32);
        let near = core::mem::replace(&mut self.head3[hash3(value)], position);
        let before = core::mem::replace(&mut self.head[hash4(value)], position);
        self.chain[position as usize % WINDOW_BYTES] = position.wrapping_sub(before).min(0xffff) as u16;
        (before, near)
    }

    /// Whether a stretch looks as if it could not be compressed: bytes evenly spread, and no string that was there before.
    fn is_noise(&self, input: &Input, from: usize, to: usize) -> bool {
        if !is_spread(input, from, to) {
            return false;
        }
        let mut at = from;
        let mut hits = 0;
        while at + 64 <= to {
            for probe in at..at + 16 {
                let value = load4(input, probe);
                let position = self.base.wrapping_add(probe as u32);
                let distance = position.wrapping_sub(self.head[hash4(value)]) as usize;
                if distance <= WINDOW_BYTES.min(probe) && load4(input, probe.wrapping_sub(distance)) == value {
                    hits += 1;
                }
            }
            at += 1_024;
        }
        hits < 2
    }

    /// Turns `input[from..to]` into tokens; a match may reach past `to`, not past `end`. Gives how far it came.
    fn search(&mut self, effort: Effort, input: &Input, from: usize, to: usize, end: usize) -> usize {
        let mut at = from;
        // What is looked up are four bytes, or eight; the last ones are literals.
        let last = to.min(end.saturating_sub(8));
        while at < last {
            let (mut length, mut distance) = self.longest(effort, effort.depth, input, at, end, MIN_MATCH - 1);
            if length < MIN_MATCH {
                self.literal(input, at);
                at += 1;
                continue;
            }
            let mut entered = at + 1;
            while length < effort.lazy && at + 1 < last {
                entered = at + 2;
                let (next_length, next_distance) = self.longest(effort, effort.depth / 2, input, at + 1, end, length);
                if next_length <= length {
                    break;
                }
                // A longer match is worth a literal, unless it lies much farther.
                let gain = 4 * (next_length - length) as u32 + distance.max(1).ilog2();
                if gain <= 2 + next_distance.max(1).ilog2() {
                    break;
                }
                self.literal(input, at);
                at += 1;
                (length, distance) = (next_length, next_distance);
            }
            self.matched(length, distance);
            at += length;
            // A run needs few of its places.
            let step = if length == MAX_MATCH { 4 } else { 1 };
            self.enter(input, entered, at.min(end.saturating_sub(8)), step);
        }
        while at < to {
            self.literal(input, at);
            at += 1;
        }
        at
    }

    /// The longest match at a position that is longer than `longer_than`, and its distance; zeros where there is none. Enters the position.
    #[inline(always)]
    fn longest(&mut self, effort: Effort, mut depth: u32, input: &Input, at: usize, end: usize, longer_than: usize) -> (usize, u32) {
        let (before, near) = self.insert(input, at);
        let max = MAX_MATCH.min(end - at);
        let position = self.base.wrapping_add(at as u32);
        let farthest = at.min(WINDOW_BYTES) as u32;
        let value = load4(input, at);
        let (mut length, mut distance) = (longer_than, 0);
        if longer_than < MIN_MATCH {
            let far = position.wrapping_sub(near);
            if far <= farthest.min(4_096) && (load4(input, at.wrapping_sub(far as usize)) ^ value) << 8 == 0 {
                (length, distance) = (MIN_MATCH, far);
            }
        }
        // A longer match has the four bytes that end one past the present one.
        let mut tail = length.max(MIN_MATCH) - MIN_MATCH;
        let mut wanted = load4(input, at + tail);
        let mut far = position.wrapping_sub(before);
        while far <= farthest {
            let there = at.wrapping_sub(far as usize);
            if load4(input, there + tail) == wanted {
                let found = common(input, at, there, max);
                if found > length {
                    (length, distance) = (found, far);
                    if length >= effort.nice || length >= max {
                        break;
                    }
                    tail = length - MIN_MATCH;
                    wanted = load4(input, at + tail);
                }
            }
            depth -= 1;
            if depth == 0 {
                break;
            }
            far += u32::from(self.chain[position.wrapping_sub(far) as usize % WINDOW_BYTES]);
        }
        if distance == 0 { (0, 0) } else { (length, distance) }
    }

    #[inline(always)]
    fn literal(&mut self, input: &Input, at: usize) {
        let byte = input[at % PLACES];
        self.literals.counts[usize::from(byte)] += 1;
        self.push(u32::from(byte));
    }

    #[inline(always)]
    fn matched(&mut self, length: usize, distance: u32) {
        let length = (length - MIN_MATCH) as u32 & 255;
        let distance = (distance - 1) & 0x7fff;
        self.literals.counts[length_code(length).0 as usize % 288] += 1;
        self.distances.counts[distance_code(distance).0 as usize % 30] += 1;
        self.push(MATCH | length << 16 | distance);
    }

    #[inline(always)]
    fn push(&mut self, token: u32) {
        if let Some(slot) = self.tokens.get_mut(self.token_count) {
            *slot = token;
            self.token_count += 1;
        }
    }

    /// Writes the tokens as one block, in whichever form is the smallest; `input[from..to]` is what they stand for.
    fn block(&mut self, input: &Input, from: usize, to: usize, bits: &mut Bits<'_>) -> Option<()> {
        if from == to {
            return Some(());
        }
        self.literals.counts[256] = 1;
        self.literals.build(15);
        self.distances.build(15);
        let header = huffman::Header::new(&self.literals, &self.distances);
        let mut extra: u32 = 0;
        for code in 265..285_usize {
            extra += self.literals.counts[code] * ((code as u32 - 261) / 4);
        }
        for code in 4..30_usize {
            extra += self.distances.counts[code] * ((code as u32 - 2) / 2);
        }
        let dynamic = header.bits() + self.literals.cost() + self.distances.cost() + extra;
        let fixed = self.literals.fixed_cost() + 5 * self.distances.counts.iter().sum::<u32>() + extra;
        // Headers of stored blocks, and up to seven bits before each.
        let stored = 8 * (to - from) as u32 + 40 * (1 + (to - from) as u32 / STORED_BYTES as u32);
        if stored <= dynamic.min(fixed) + 3 {
            for piece in input.get(from..to)?.chunks(STORED_BYTES) {
                bits.stored(piece)?;
            }
        } else if bits.room_bits() < u64::from(dynamic.min(fixed)) + 128 {
            // Not even this block fits in less than the chunk takes stored.
            return None;
        } else {
            if fixed <= dynamic {
                bits.put(0b01 << 1, 3);
                self.literals.set_fixed_literals();
                self.distances.set_fixed_distances();
            } else {
                bits.put(0b10 << 1, 3);
                header.write(bits);
            }
            self.tokens(bits);
        }
        self.forget();
        Some(())
    }

    fn forget(&mut self) {
        self.token_count = 0;
        self.literals.counts.fill(0);
        self.distances.counts.fill(0);
    }

    fn tokens(&self, bits: &mut Bits<'_>) {
        for &token in self.tokens.get(..self.token_count).unwrap_or_default() {
            if token & MATCH == 0 {
                let (code, length) = self.literals.code(token as usize & 255);
                bits.put(code, length);
            } else {
                let (symbol, extra, value) = length_code(token >> 16 & 255);
                let (code, length) = self.literals.code(symbol as usize % 288);
                bits.put(code | value << length, length + extra);
                let (symbol, extra, value) = distance_code(token & 0x7fff);
                let (code, length) = self.distances.code(symbol as usize % 30);
                bits.put(code | value << length, length + extra);
            }
        }
        let (code, length) = self.literals.code(256);
        bits.put(code, length);
    }
}
