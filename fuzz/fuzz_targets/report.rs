//! See `emissary_fuzz::report`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::report(data));
