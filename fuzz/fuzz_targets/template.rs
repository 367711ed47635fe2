//! See `emissary_fuzz::template`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::template(data));
