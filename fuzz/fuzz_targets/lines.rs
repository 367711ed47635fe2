//! See `emissary_fuzz::lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::lines(data));
