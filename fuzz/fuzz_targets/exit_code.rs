//! See `emissary_fuzz::exit_code`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::exit_code(data));
