//! See `emissary_fuzz::cpus`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::cpus(data));
