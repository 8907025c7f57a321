//! Any bytes as the body of a peer's error answer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_federation::fuzzing::error_body(data));
