//! This compressor beside miniz_oxide and zlib-rs, on one core, over files: `cargo run --release -p emissary-deflate --example compare -- FILE…`.
//!
//! `cargo xtask bench archive` leaves files for it in `target/bench/corpora`.

use emissary_deflate::{CHUNK_BYTES, Deflater, INPUT_BYTES, Input, OUT_BYTES, WINDOW_BYTES};
use std::time::Instant;

fn main() {
    println!("| file | | level | MB/s | ratio |\n|---|---|---|---|---|");
    for path in std::env::args().skip(1) {
        let contents = std::fs::read(&path).expect("a file to read");
        let name = path.rsplit('/').next().unwrap_or_default();
        let row = |what: &str, level: u8, compress: &mut dyn FnMut() -> usize| {
            let mut rounds: Vec<(f64, usize)> = (0..3)
                .map(|_| {
                    let began = Instant::now();
                    let made = compress();
                    (began.elapsed().as_secs_f64(), made)
                })
                .collect();
            rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (seconds, made) = rounds[1];
            let ratio = made as f64 / contents.len() as f64;
            println!("| {name} | {what} | {level} | {:.0} | {ratio:.4} |", contents.len() as f64 / seconds / 1e6);
        };
        let mut deflater = Box::new(Deflater::new());
        let mut input: Box<Input> = vec![0; INPUT_BYTES].into_boxed_slice().try_into().expect("that many bytes");
        let mut out = vec![0; OUT_BYTES];
        for level in 1..=7 {
            row("emissary-deflate", level, &mut || {
                let mut made = 0;
                for at in (0..contents.len()).step_by(CHUNK_BYTES) {
                    let (from, to) = (at.saturating_sub(WINDOW_BYTES), (at + CHUNK_BYTES).min(contents.len()));
                    input[..to - from].copy_from_slice(&contents[from..to]);
                    made += deflater.compress(level, &input, at - from, to - from, &mut out).unwrap_or(to - at);
                }
                made
            });
        }
        for level in [3, 4, 5, 6] {
            row("miniz_oxide", level, &mut || miniz_oxide::deflate::compress_to_vec(&contents, level).len());
        }
        let mut room = vec![0; contents.len() + contents.len() / 8 + 1_024];
        for level in [2, 3, 4, 5, 6] {
            row("zlib-rs", level, &mut || zlib_rs::compress_slice(&mut room, &contents, zlib_rs::DeflateConfig::new(level.into())).0.len());
        }
    }
}
