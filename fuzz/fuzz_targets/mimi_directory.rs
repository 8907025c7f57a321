//! Any bytes as the body of `/.well-known/mimi-protocol-directory`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_federation::fuzzing::mimi_directory(data));
