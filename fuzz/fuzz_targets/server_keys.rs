//! Any object as a server's published keys.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_signing::fuzzing::server_keys(data));
