//! Any bytes as what happens in a MIMI room under its policy.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_auth::fuzzing::policy(data));
