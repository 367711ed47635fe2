//! See `emissary_fuzz::readiness`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::readiness(data));
