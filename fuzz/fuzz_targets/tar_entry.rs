//! See `emissary_fuzz::tar_entry`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::tar_entry(data));
