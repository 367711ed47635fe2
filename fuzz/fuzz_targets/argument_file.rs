//! See `emissary_fuzz::argument_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::argument_file(data));
