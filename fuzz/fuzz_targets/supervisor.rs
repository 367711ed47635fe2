//! See `emissary_fuzz::supervisor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::supervisor(data));
