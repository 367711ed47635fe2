//! Whatever is compressed, in chunks of whatever length, flate2 gives back; and what must be small is.

use emissary_deflate::{
    CHUNK_BYTES, DEFAULT_LEVEL, Deflater, END, INPUT_BYTES, Input, OUT_BYTES, STORED_BYTES, WINDOW_BYTES, stored_header,
};
use proptest::prelude::*;
use std::io::Read as _;

fn input() -> Box<Input> {
    vec![0; INPUT_BYTES].into_boxed_slice().try_into().unwrap()
}

/// The stream of contents in chunks, and how many of them were stored.
fn deflate(deflater: &mut Deflater, level: u8, contents: &[u8], chunk_bytes: usize) -> (Vec<u8>, usize) {
    let (mut stream, mut stored) = (Vec::new(), 0);
    let (mut input, mut out) = (input(), vec![0xa5; OUT_BYTES]);
    let mut at = 0;
    while at < contents.len() {
        let (from, to) = (at.saturating_sub(WINDOW_BYTES), (at + chunk_bytes).min(contents.len()));
        input.fill(0xa5);
        input[..to - from].copy_from_slice(&contents[from..to]);
        match deflater.compress(level, &input, at - from, to - from, &mut out) {
            Some(made) => {
                assert!(made < to - at);
                stream.extend_from_slice(&out[..made]);
            }
            None => {
                stored += 1;
                for piece in contents[at..to].chunks(STORED_BYTES) {
                    stream.extend_from_slice(&stored_header(u16::try_from(piece.len()).unwrap()));
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
fn every_level_of_every_kind() {
    let mut deflater = Box::new(Deflater::new());
    let kinds = [
        ("text", text(400_000), 4),
        ("zeros", vec![0; 400_000], 200),
        ("two letters", noise(300_000, 3).iter().map(|byte| b'a' + byte % 2).collect(), 5),
        ("a period of 3", (0..300_000).map(|at| [1, 2, 3][at % 3]).collect(), 200),
        ("all bytes in turn", (0..300_000_u32).map(|at| at as u8).collect(), 50),
        ("a period past the window", noise(40_000, 5).repeat(6), 0),
        ("a period within the window", noise(30_000, 5).repeat(10), 2),
        ("noise with text in it", [noise(150_000, 1), text(60_000), noise(150_000, 2)].concat(), 0),
    ];
    for (name, contents, least_ratio) in &kinds {
        for level in 0..=9 {
            let (stream, _) = deflate(&mut deflater, level, contents, CHUNK_BYTES);
            assert!(inflate(&stream) == *contents, "{name} at level {level}");
            assert!(stream.len() <= contents.len() + contents.len() / 1_000 + 64, "{name} at level {level} grew to {}", stream.len());
            if level > 0 {
                assert!(stream.len() * least_ratio <= contents.len(), "{name} at level {level} takes {}", stream.len());
            }
        }
    }
}

#[test]
fn the_levels_are_ordered_by_size() {
    let mut deflater = Box::new(Deflater::new());
    let contents = text(300_000);
    let sizes: Vec<usize> = [1, 2, 4, 6, 9].map(|level| deflate(&mut deflater, level, &contents, CHUNK_BYTES).0.len()).to_vec();
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
}

#[test]
fn noise_is_stored() {
    let mut deflater = Box::new(Deflater::new());
    let contents = noise(5 * CHUNK_BYTES, 1);
    assert_eq!(deflate(&mut deflater, DEFAULT_LEVEL, &contents, CHUNK_BYTES).1, 5);
    // Within a chunk: only that part.
    let mixed = [text(60_000), noise(40_000, 2), text(31_072)].concat();
    let (stream, stored) = deflate(&mut deflater, DEFAULT_LEVEL, &mixed, CHUNK_BYTES);
    assert_eq!(stored, 0);
    assert!((40_000..65_000).contains(&stream.len()), "{}", stream.len());
}

#[test]
fn what_came_before_does_not_show() {
    let contents = text(500_000);
    let mut fresh = Box::new(Deflater::new());
    let want = deflate(&mut fresh, DEFAULT_LEVEL, &contents, CHUNK_BYTES).0;
    let mut used = Box::new(Deflater::new());
    deflate(&mut used, 9, &noise(300_000, 9), CHUNK_BYTES);
    deflate(&mut used, 3, &contents, 1_000);
    assert!(deflate(&mut used, DEFAULT_LEVEL, &contents, CHUNK_BYTES).0 == want);
}

#[test]
fn positions_may_wrap_around() {
    // Each call moves the positions on by 64 KiB at least; so many of them pass 2^32.
    let mut deflater = Box::new(Deflater::new());
    let contents = text(64);
    let (mut input, mut out) = (input(), vec![0; OUT_BYTES]);
    input[..64].copy_from_slice(&contents);
    let want = deflater.compress(DEFAULT_LEVEL, &input, 0, 64, &mut out).map(|made| out[..made].to_vec());
    for _ in 0..70_000 {
        let made = deflater.compress(DEFAULT_LEVEL, &input, 0, 64, &mut out);
        assert_eq!(made.map(|made| out[..made].to_vec()), want);
    }
}

#[test]
fn odd_ends() {
    let mut deflater = Box::new(Deflater::new());
    let contents = text(4_000);
    for length in 0..40 {
        for chunk_bytes in [1, 2, 3, 7, 40] {
            let stream = deflate(&mut deflater, DEFAULT_LEVEL, &contents[..length], chunk_bytes).0;
            assert_eq!(inflate(&stream), contents[..length], "{length} bytes in chunks of {chunk_bytes}");
        }
    }
}

#[test]
fn a_small_room_is_no_failure() {
    let mut deflater = Box::new(Deflater::new());
    let contents = text(20_000);
    let mut input = input();
    input[..contents.len()].copy_from_slice(&contents);
    let mut out = vec![0; OUT_BYTES];
    let made = deflater.compress(DEFAULT_LEVEL, &input, 0, contents.len(), &mut out).unwrap();
    for room in [0, 1, 7, made / 2, made - 1] {
        assert_eq!(deflater.compress(DEFAULT_LEVEL, &input, 0, contents.len(), &mut out[..room]), None, "{room} of {made}");
    }
    // Afterwards it works as before: a chunk that was given up once left its tokens to the next.
    assert_eq!(deflater.compress(DEFAULT_LEVEL, &input, 0, contents.len(), &mut out), Some(made));
}

/// Pieces of different kinds behind each other.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        (1..40_000_usize, any::<u64>()).prop_map(|(count, seed)| noise(count, seed)),
        (1..60_000_usize).prop_map(text),
        (1..70_000_usize, any::<u8>()).prop_map(|(count, byte)| vec![byte; count]),
        (proptest::collection::vec(any::<u8>(), 1..300), 1..200_usize).prop_map(|(unit, times)| unit.repeat(times)),
        (1..20_000_usize, any::<u64>(), 1..16_u8).prop_map(|(count, seed, few)| noise(count, seed).iter().map(|byte| byte % few).collect()),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything(contents in contents(), level in 0..=9_u8, chunk_bytes in 1_000..=CHUNK_BYTES) {
        let mut deflater = Box::new(Deflater::new());
        let (stream, _) = deflate(&mut deflater, level, &contents, chunk_bytes);
        prop_assert!(inflate(&stream) == contents);
    }
}
