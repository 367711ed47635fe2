//! Passes the bytes of cargo-fuzz to `emissary_fuzz::peer_command_line`, which states and asserts the invariant.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emissary_fuzz::peer_command_line(data));
