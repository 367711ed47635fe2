//! Passes the bytes of cargo-fuzz to `emissary_fuzz::record`, which states and asserts the invariant.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::record(data));
