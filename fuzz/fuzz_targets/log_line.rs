//! See `emissary_fuzz::log_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::log_line(data));
